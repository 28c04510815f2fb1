//! Host keys: made from the persona, so that a decky has the same ones after each start.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, OnceLock, PoisonError},
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

use super::build::Build;
use crate::persona::Persona;

/// Machines whose keys are kept; a key that is not is made again.
const MAX_KEPT: usize = 2048;

/// The host keys of one machine: RSA, ECDSA, Ed25519, in the order in which sshd reads them.
pub struct HostKeys(Vec<PrivateKey>);

type Kept = HashMap<[u8; 32], Arc<OnceLock<Arc<HostKeys>>>>;

static KEPT: OnceLock<Mutex<Kept>> = OnceLock::new();
/// One machine's keys at a time: to make an RSA key takes a processor a second.
static MAKING: Mutex<()> = Mutex::new(());

impl HostKeys {
    /// Of this machine. The first call takes its time: not to be made where others wait.
    pub fn of(persona: &Persona) -> Arc<HostKeys> {
        let cell = {
            let mut kept = KEPT.get_or_init(Mutex::default).lock().unwrap_or_else(PoisonError::into_inner);
            if kept.len() > MAX_KEPT {
                kept.clear();
            }
            kept.entry(persona.secret("ssh host keys")).or_default().clone()
        };
        cell.get_or_init(|| {
            let _one = MAKING.lock().unwrap_or_else(PoisonError::into_inner);
            Arc::new(HostKeys::make(persona))
        })
        .clone()
    }

    fn make(persona: &Persona) -> HostKeys {
        let bits = Build::of(persona.os).rsa_bits;
        let rsa = rsa_key(persona.secret("ssh host key rsa"), bits);
        let ecdsa = EcdsaKeypair::random(
            &mut ChaCha20Rng::from_seed(persona.secret("ssh host key ecdsa")),
            EcdsaCurve::NistP256,
        );
        let ed25519 = Ed25519Keypair::from_seed(&persona.secret("ssh host key ed25519"));
        let data = [rsa.map(KeypairData::from), ecdsa.ok().map(KeypairData::from), Some(KeypairData::from(ed25519))];
        let comment = format!("root@{}", persona.hostname);
        HostKeys(data.into_iter().flatten().filter_map(|data| PrivateKey::new(data, comment.as_str()).ok()).collect())
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

/// An RSA key from a seed. Made by the older of the two libraries in the tree, which is the faster one at that.
fn rsa_key(seed: [u8; 32], bits: usize) -> Option<RsaKeypair> {
    let mut random = <rand_chacha::ChaCha20Rng as rsa::rand_core::SeedableRng>::from_seed(seed);
    let key = rsa::RsaPrivateKey::new(&mut random, bits).ok()?;
    let number = |value: &rsa::BigUint| Mpint::from_positive_bytes(&value.to_bytes_be());
    let [p, q, ..] = key.primes() else { return None };
    let public = RsaPublicKey::new(number(key.e()), number(key.n())).ok()?;
    let private = RsaPrivateKey::new(number(key.d()), number(&key.crt_coefficient()?), number(p), number(q)).ok()?;
    RsaKeypair::new(public, private).ok()
}
