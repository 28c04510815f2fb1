//! Host keys: made from the persona, so that a decky has the same ones after each start.
//!
//! ECDSA and Ed25519 take no time. An RSA key takes a processor up to a second: one thread makes them, one after the other,
//! those first that somebody waits for, and nobody waits on a thread of the runtime. Until a machine has its own, a
//! stand-in has its place, which is offered in the key exchange as the own one is and can sign nothing.

use std::{
    collections::HashMap,
    sync::{Arc, Condvar, LazyLock, Mutex, MutexGuard, PoisonError},
};

use rand::{SeedableRng, rngs::ChaCha20Rng};
use rsa::traits::{PrivateKeyParts, PublicKeyParts};
use russh::keys::{
    EcdsaCurve, PrivateKey,
    ssh_key::{
        LineEnding, Mpint,
        private::{EcdsaKeypair, Ed25519Keypair, KeypairData, RsaKeypair, RsaPrivateKey},
        public::RsaPublicKey,
    },
};
use tokio::sync::oneshot;

use super::build::Build;
use crate::persona::Persona;

/// Machines whose keys are kept; a key that is not is made again.
const MAX_KEPT: usize = 2048;
/// Keys that are to be made and that nobody waits for.
const MAX_ORDERS: usize = 2048;

/// The host keys of one machine: RSA, ECDSA, Ed25519, in the order in which sshd reads them.
pub struct HostKeys(Vec<PrivateKey>);

/// What tells one machine's keys from another's.
type Id = [u8; 32];

/// What is known of one machine's keys.
struct Kept {
    /// With a stand-in for the RSA key.
    quick: Arc<HostKeys>,
    /// All of them, as soon as they are made.
    whole: Option<Arc<HostKeys>>,
}

/// An RSA key that is to be made.
struct Order {
    id: Id,
    seed: [u8; 32],
    bits: usize,
    comment: String,
    /// The other keys are taken from here.
    quick: Arc<HostKeys>,
    /// Who waits; those who have left are closed.
    waiting: Vec<oneshot::Sender<Arc<HostKeys>>>,
}

impl Order {
    fn is_waited_for(&self) -> bool {
        self.waiting.iter().any(|waiting| !waiting.is_closed())
    }
}

#[derive(Default)]
struct Works {
    kept: HashMap<Id, Kept>,
    /// The oldest first.
    orders: Vec<Order>,
    /// Whether there is a thread that makes them.
    working: bool,
}

/// Held only to look something up or to note it, never while a key is made.
static WORKS: LazyLock<Mutex<Works>> = LazyLock::new(Mutex::default);
static ORDERED: Condvar = Condvar::new();

fn works() -> MutexGuard<'static, Works> {
    WORKS.lock().unwrap_or_else(PoisonError::into_inner)
}

fn id(persona: &Persona) -> Id {
    let bits = Build::of(persona.os).rsa_bits;
    persona.secret(&format!("ssh host keys {bits} {}", persona.hostname))
}

impl HostKeys {
    /// Of this machine, if they are made.
    pub fn known(persona: &Persona) -> Option<Arc<HostKeys>> {
        works().kept.get(&id(persona))?.whole.clone()
    }

    /// Of this machine, at once, with an RSA key that stands for its own: it has its size, and what it would have to sign
    /// fails.
    pub fn quick(persona: &Persona) -> Arc<HostKeys> {
        let id = id(persona);
        if let Some(kept) = works().kept.get(&id) {
            return kept.quick.clone();
        }
        let ecdsa = EcdsaKeypair::random(
            &mut ChaCha20Rng::from_seed(persona.secret("ssh host key ecdsa")),
            EcdsaCurve::NistP256,
        );
        let ed25519 = Ed25519Keypair::from_seed(&persona.secret("ssh host key ed25519"));
        let rsa = stand_in(Build::of(persona.os).rsa_bits);
        let data = [rsa.map(KeypairData::from), ecdsa.ok().map(KeypairData::from), Some(KeypairData::from(ed25519))];
        let comment = comment(persona);
        let keys = data.into_iter().flatten().filter_map(|data| PrivateKey::new(data, comment.as_str()).ok());
        let quick = Arc::new(HostKeys(keys.collect()));
        let mut works = works();
        if works.kept.len() > MAX_KEPT {
            works.kept.clear();
        }
        works.kept.entry(id).or_insert_with(|| Kept { quick: quick.clone(), whole: None });
        quick
    }

    /// Has them made some time.
    pub fn order(persona: &Persona) {
        HostKeys::ask(persona, None);
    }

    /// Of this machine, made before those that nobody waits for; none when they cannot be made.
    pub async fn of(persona: &Persona) -> Option<Arc<HostKeys>> {
        let (made, waits) = oneshot::channel();
        HostKeys::ask(persona, Some(made));
        waits.await.ok()
    }

    fn ask(persona: &Persona, made: Option<oneshot::Sender<Arc<HostKeys>>>) {
        let quick = HostKeys::quick(persona);
        let id = id(persona);
        let mut works = works();
        let kept = works.kept.entry(id).or_insert_with(|| Kept { quick: quick.clone(), whole: None });
        if let Some(whole) = &kept.whole {
            if let Some(made) = made {
                // Somebody who has left needs nothing.
                let _ = made.send(whole.clone());
            }
            return;
        }
        let is_full = works.orders.len() >= MAX_ORDERS;
        match works.orders.iter_mut().find(|order| order.id == id) {
            Some(order) => order.waiting.extend(made),
            None if made.is_none() && is_full => return,
            None => works.orders.push(Order {
                id,
                seed: persona.secret("ssh host key rsa"),
                bits: Build::of(persona.os).rsa_bits,
                comment: comment(persona),
                quick,
                waiting: made.into_iter().collect(),
            }),
        }
        if !works.working {
            works.working = std::thread::Builder::new().name("host-keys".to_owned()).spawn(work).is_ok();
            if !works.working {
                tracing::error!("there is no thread to make RSA host keys");
                // Who waits is told by that; with the next one it is tried again.
                works.orders.clear();
            }
        }
        ORDERED.notify_one();
    }

    /// All of them.
    pub fn all(&self) -> &[PrivateKey] {
        &self.0
    }

    /// One as a file has it.
    pub fn text(&self, at: usize, public: bool, comment: &str) -> String {
        let Some(key) = self.0.get(at) else { return String::new() };
        if public {
            key.public_key()
                .to_openssh()
                .map(|line| if line.contains(comment) { line + "\n" } else { format!("{line} {comment}\n") })
        } else {
            key.to_openssh(LineEnding::LF).map(|text| text.to_string())
        }
        .unwrap_or_default()
    }
}

fn comment(persona: &Persona) -> String {
    format!("root@{}", persona.hostname)
}

/// Makes what was ordered, for as long as the process runs.
fn work() {
    loop {
        let (id, seed, bits, comment, quick) = {
            let mut works = works();
            loop {
                let at = works.orders.iter().position(Order::is_waited_for).unwrap_or(0);
                // It stays in the list while it is made: whoever asks meanwhile waits for the same.
                match works.orders.get(at) {
                    Some(order) => {
                        break (order.id, order.seed, order.bits, order.comment.clone(), order.quick.clone());
                    }
                    None => works = ORDERED.wait(works).unwrap_or_else(PoisonError::into_inner),
                }
            }
        };
        let rsa = rsa_key(seed, bits).and_then(|rsa| PrivateKey::new(KeypairData::from(rsa), comment.as_str()).ok());
        let others = quick.0.iter().filter(|key| !key.algorithm().is_rsa()).cloned();
        let whole = Arc::new(HostKeys(rsa.into_iter().chain(others).collect()));
        let mut works = works();
        works.kept.insert(id, Kept { quick, whole: Some(whole.clone()) });
        let waiting = match works.orders.iter().position(|order| order.id == id) {
            Some(at) => works.orders.remove(at).waiting,
            None => Vec::new(),
        };
        drop(works);
        for waiting in waiting {
            // Somebody who has left needs nothing.
            let _ = waiting.send(whole.clone());
        }
    }
}

/// An RSA key from a seed. Made by the older of the two libraries in the tree, which is the faster one at that.
fn rsa_key(seed: [u8; 32], bits: usize) -> Option<RsaKeypair> {
    let mut random = <rand_chacha::ChaCha20Rng as rsa::rand_core::SeedableRng>::from_seed(seed);
    let key = rsa::RsaPrivateKey::new(&mut random, bits).ok()?;
    let [p, q, ..] = key.primes() else { return None };
    let one = rsa::BigUint::from(1_u8);
    // The same exponent as OpenSSL has it: it is the shorter one, so that files of keys are of one size.
    let d = key.d() % (((p - &one) * (q - &one)) >> 1_usize);
    // For the same reason the primes are in the order that gives the shorter coefficient.
    let orders = [[p, q], [q, p]].into_iter().filter_map(|[p, q]| {
        let primes = vec![p.clone(), q.clone()];
        let key = rsa::RsaPrivateKey::from_components(key.n().clone(), key.e().clone(), d.clone(), primes).ok()?;
        Some((key.crt_coefficient()?, p, q))
    });
    let (coefficient, p, q) = orders.min_by_key(|(coefficient, ..)| coefficient.bits())?;
    let number = |value: &rsa::BigUint| Mpint::from_positive_bytes(&value.to_bytes_be());
    let public = RsaPublicKey::new(number(key.e()), number(key.n())).ok()?;
    let private = RsaPrivateKey::new(number(&d), number(&coefficient), number(p), number(q)).ok()?;
    RsaKeypair::new(public, private).ok()
}

/// What stands for an RSA key: its numbers are as long as those of one, and its modulus is even, so that no signature can
/// be made with it.
fn stand_in(bits: usize) -> Option<RsaKeypair> {
    let number = |first: u8, bits: usize| {
        let mut bytes = vec![0; bits / 8];
        if let Some(place) = bytes.first_mut() {
            *place = first;
        }
        Mpint::from_positive_bytes(&bytes)
    };
    let (long, short) = (0x80, 0x40);
    let exponent = Mpint::from_positive_bytes(&[1, 0, 1]);
    let public = RsaPublicKey::new(exponent, number(long, bits)).ok()?;
    let prime = number(long, bits / 2);
    let private = RsaPrivateKey::new(number(short, bits), number(short, bits / 2), prime.clone(), prime).ok()?;
    RsaKeypair::new(public, private).ok()
}

#[cfg(test)]
mod tests {
    use russh::keys::HashAlg;

    use super::*;
    use crate::{persona::Os, testing};

    #[tokio::test]
    async fn the_keys_are_the_same_at_once_and_later_but_for_rsa() {
        let persona = testing::persona_of(Os::CentOs7, 211);
        assert!(HostKeys::known(&persona).is_none());
        let quick = HostKeys::quick(&persona);
        let (whole, again) = tokio::join!(HostKeys::of(&persona), HostKeys::of(&persona));
        let whole = whole.unwrap();
        assert!(Arc::ptr_eq(&whole, &again.unwrap()) && Arc::ptr_eq(&whole, &HostKeys::known(&persona).unwrap()));
        let algorithms = |keys: &HostKeys| keys.all().iter().map(|key| key.algorithm().to_string()).collect::<Vec<_>>();
        assert_eq!(algorithms(&quick), algorithms(&whole));
        let public = |keys: &HostKeys, at: usize| keys.text(at, true, "root@srv-211");
        assert_ne!(public(&quick, 0), public(&whole, 0));
        assert_eq!(public(&quick, 0).len(), public(&whole, 0).len());
        for at in [1, 2] {
            assert_eq!(public(&quick, at), public(&whole, at));
        }
        // A key of whose numbers one is short has a block less, which is 11 letters.
        let sizes = [&quick, &whole].map(|keys| keys.text(0, false, "").len());
        assert!(sizes[0].abs_diff(sizes[1]) <= 11, "{sizes:?}");
        // Another name of the machine is in the files of its keys.
        let renamed =
            Persona { hostname: "other".to_owned(), ..Arc::into_inner(testing::persona_of(Os::CentOs7, 211)).unwrap() };
        assert!(HostKeys::quick(&renamed).text(1, true, "root@other").ends_with(" root@other\n"));
    }

    #[tokio::test]
    async fn what_stands_for_an_rsa_key_signs_nothing() {
        for os in [Os::CentOs7, Os::Debian12] {
            let persona = testing::persona_of(os, 212);
            let signed = |keys: &HostKeys| keys.all()[0].sign("file", HashAlg::Sha512, b"x").is_ok();
            assert!(!signed(&HostKeys::quick(&persona)));
            assert!(signed(&HostKeys::of(&persona).await.unwrap()));
        }
    }
}
