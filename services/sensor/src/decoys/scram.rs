//! SCRAM, as PostgreSQL and MongoDB speak it.

use std::{
    collections::BTreeMap,
    io,
    num::NonZeroU32,
    sync::{Arc, Mutex, PoisonError},
};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use rand::Rng;
use ring::{digest, hmac, pbkdf2};

use crate::{
    decoys::{common_passwords::COMMON, wire::broken},
    persona::Persona,
};

/// How many of the common passwords are compared with.
const COMPARED: usize = 12;
/// For how many users what passwords give is kept.
const MOST_KEPT: usize = 16;

/// A password and what is kept of it.
#[derive(Clone)]
struct Verifier {
    password: String,
    stored: Vec<u8>,
    server: Vec<u8>,
}

type Kept = Arc<Vec<Verifier>>;

/// With which hash, how often, and what is hashed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Kind {
    /// Whether it is SHA-1.
    pub(super) sha1: bool,
    /// How often a password is hashed.
    pub(super) iterations: u32,
    /// What stands for the password.
    pub(super) secret: fn(user: &str, password: &str) -> String,
}

impl Kind {
    fn mac(self, key: &[u8], data: &[u8]) -> Vec<u8> {
        let algorithm = if self.sha1 { hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY } else { hmac::HMAC_SHA256 };
        hmac::sign(&hmac::Key::new(algorithm, key), data).as_ref().to_vec()
    }

    fn hash(self, data: &[u8]) -> Vec<u8> {
        let algorithm = if self.sha1 { &digest::SHA1_FOR_LEGACY_USE_ONLY } else { &digest::SHA256 };
        digest::digest(algorithm, data).as_ref().to_vec()
    }

    fn verifier(self, salt: &[u8], user: &str, password: String, iterations: NonZeroU32) -> Verifier {
        let algorithm = if self.sha1 { pbkdf2::PBKDF2_HMAC_SHA1 } else { pbkdf2::PBKDF2_HMAC_SHA256 };
        let mut salted = vec![0; if self.sha1 { 20 } else { 32 }];
        pbkdf2::derive(algorithm, iterations, salt, (self.secret)(user, &password).as_bytes(), &mut salted);
        let stored = self.hash(&self.mac(&salted, b"Client Key"));
        Verifier { password, stored, server: self.mac(&salted, b"Server Key") }
    }
}

/// What the server keeps of passwords.
#[derive(Default)]
pub(super) struct Verifiers(Mutex<BTreeMap<String, Kept>>);

impl Verifiers {
    async fn of(&self, kind: Kind, user: &str, salt: Vec<u8>, own: Vec<String>) -> io::Result<Kept> {
        let label = format!("{} {user}", kind.sha1);
        if let Some(kept) = self.0.lock().unwrap_or_else(PoisonError::into_inner).get(&label) {
            return Ok(kept.clone());
        }
        let iterations = NonZeroU32::new(kind.iterations).ok_or_else(|| broken("iterations"))?;
        let user = user.to_owned();
        let made = tokio::task::spawn_blocking(move || {
            let common =
                COMMON.iter().filter(|password| !password.is_empty()).take(COMPARED).map(|text| (*text).to_owned());
            let made = own.into_iter().chain(common);
            let made: Vec<Verifier> = made.map(|password| kind.verifier(&salt, &user, password, iterations)).collect();
            Arc::new(made)
        });
        let made = made.await.map_err(io::Error::other)?;
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() >= MOST_KEPT {
            kept.clear();
        }
        kept.insert(label, made.clone());
        Ok(made)
    }
}

/// A login by SCRAM-SHA-256, between its two steps.
pub(super) struct Scram {
    kind: Kind,
    user: String,
    salt: Vec<u8>,
    client_first: String,
    nonce: String,
    server_first: String,
}

/// How a login by SCRAM ended.
pub(super) struct Proven {
    /// The password, when it is known.
    pub(super) password: Option<String>,
    /// What proves to the client that the server knows it, too.
    pub(super) signature: Vec<u8>,
}

impl Scram {
    /// From the client's first message; `user` when the message may leave it out.
    pub(super) fn begin(
        kind: Kind,
        persona: &Persona,
        label: &str,
        message: &str,
        user: Option<&str>,
    ) -> Option<Scram> {
        let mut parts = message.splitn(3, ',');
        let binding = parts.next()?;
        if !(binding == "n" || binding == "y" || binding.starts_with("p=")) {
            return None;
        }
        parts.next()?;
        let client_first = parts.next()?.to_owned();
        let attribute = |letter: &str| client_first.split(',').find_map(|part| part.strip_prefix(letter));
        let user = match user {
            Some(user) => user.to_owned(),
            None => attribute("n=")?.replace("=2C", ",").replace("=3D", "="),
        };
        let client_nonce = attribute("r=").filter(|nonce| !nonce.is_empty() && nonce.len() <= 256)?;
        let mut random = [0_u8; 18];
        rand::rng().fill_bytes(&mut random);
        let nonce = format!("{client_nonce}{}", BASE64_STANDARD.encode(random));
        // PostgreSQL and the SHA-1 of MongoDB have salts of 16 bytes.
        let length = if kind.sha1 || kind.iterations == 4_096 { 16 } else { 28 };
        let secret = persona.secret(&format!("{label} salt {user}"));
        let salt = secret.get(..length).unwrap_or_default().to_vec();
        let server_first = format!("r={nonce},s={},i={}", BASE64_STANDARD.encode(&salt), kind.iterations);
        Some(Scram { kind, user, salt, client_first, nonce, server_first })
    }

    /// Who wants to come in.
    pub(super) fn user(&self) -> &str {
        &self.user
    }

    /// How it is called.
    pub(super) fn name(&self) -> &'static str {
        if self.kind.sha1 { "scram-sha-1" } else { "scram-sha-256" }
    }

    /// The server's first message.
    pub(super) fn challenge(&self) -> &str {
        &self.server_first
    }

    /// Whose password the client's last message proves, of those of the user and some common ones. None when the message
    /// is no such message.
    pub(super) async fn finish(&self, message: &str, own: Vec<String>, kept: &Verifiers) -> io::Result<Option<Proven>> {
        let Some((without_proof, proof)) = message.rsplit_once(",p=") else { return Ok(None) };
        let Ok(proof) = BASE64_STANDARD.decode(proof) else { return Ok(None) };
        let nonce = without_proof.split(',').find_map(|part| part.strip_prefix("r="));
        if nonce != Some(self.nonce.as_str()) || proof.len() != if self.kind.sha1 { 20 } else { 32 } {
            return Ok(None);
        }
        let signed = format!("{},{},{without_proof}", self.client_first, self.server_first);
        let verifiers = kept.of(self.kind, &self.user, self.salt.clone(), own).await?;
        for verifier in verifiers.iter() {
            let signature = self.kind.mac(&verifier.stored, signed.as_bytes());
            let client: Vec<u8> = proof.iter().zip(&signature).map(|(a, b)| a ^ b).collect();
            if self.kind.hash(&client) == verifier.stored {
                let signature = self.kind.mac(&verifier.server, signed.as_bytes());
                return Ok(Some(Proven { password: Some(verifier.password.clone()), signature }));
            }
        }
        Ok(Some(Proven { password: None, signature: Vec::new() }))
    }
}
