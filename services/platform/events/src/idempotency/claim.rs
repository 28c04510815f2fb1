//! The right of one request to make the change of its `Idempotency-Key`.

use std::sync::{
    Arc, OnceLock,
    atomic::{AtomicBool, Ordering},
};

use aegis_auth::OpCtx;
use aegis_db::{Tx, now};
use aegis_error::{Code, Failure};
use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256};
use uuid::Uuid;

use super::store::{self, Use};

/// Keeps fingerprints apart from whatever else a key may sign.
const DOMAIN: &[u8] = b"aegis idempotency, version 1\0";

/// Makes fingerprints of requests.
#[derive(Clone)]
pub(super) struct Fingerprints(Hmac<Sha256>);

impl Fingerprints {
    /// Keyed with `secret`.
    pub fn new(secret: &[u8]) -> Self {
        // HMAC takes a key of a block, filled up with zeros.
        let mut key = [0; 64];
        key[..32].copy_from_slice(&Sha256::digest(secret));
        Fingerprints(Hmac::new(&key.into()))
    }

    /// Different for every list of parts.
    pub fn of(&self, parts: &[&[u8]]) -> Vec<u8> {
        let start = self.0.clone().chain_update(DOMAIN);
        let with_parts = parts
            .iter()
            .fold(start, |mac, part| mac.chain_update((part.len() as u64).to_be_bytes()).chain_update(part));
        with_parts.finalize().into_bytes().to_vec()
    }
}

/// See the module. Cheap to clone; clones are one claim.
#[derive(Clone)]
pub struct Claim(Arc<Inner>);

struct Inner {
    id: Uuid,
    key_hash: Vec<u8>,
    fingerprints: Fingerprints,
    fingerprint: OnceLock<Vec<u8>>,
    repeat: bool,
    committed: AtomicBool,
}

impl Claim {
    pub(super) fn new(
        key_hash: Vec<u8>,
        fingerprints: Fingerprints,
        fingerprint: Option<Vec<u8>>,
        repeat: bool,
    ) -> Self {
        Claim(Arc::new(Inner {
            id: Uuid::new_v4(),
            key_hash,
            fingerprints,
            fingerprint: fingerprint.map(OnceLock::from).unwrap_or_default(),
            repeat,
            committed: AtomicBool::new(false),
        }))
    }

    /// The claim of a request that came with a key.
    pub fn of(ctx: &OpCtx) -> Option<&Claim> {
        ctx.extension()
    }

    /// Says what a streamed request is about: another one is the same to us when all parts are. To be said before the
    /// transaction of the change writes anything else with the outbox.
    pub fn is_about(&self, parts: &[&str]) {
        let parts: Vec<&[u8]> = parts.iter().map(|part| part.as_bytes()).collect();
        // What was said first stays.
        let _ = self.0.fingerprint.set(self.0.fingerprints.of(&parts));
    }

    /// Whether the key of a streamed request was used before. Then the request is to be read for [`Claim::is_about`],
    /// to change nothing and to fail with [`Claim::taken`]; what the caller is answered is the first answer.
    pub fn is_repeat(&self) -> bool {
        self.0.repeat
    }

    /// Another request with the key was faster.
    pub fn taken() -> Failure {
        Failure::new(Code::Conflict, "a request with this Idempotency-Key is already being carried out")
    }

    /// Uses the key up, in the transaction of the change. Fails when another request did.
    pub(crate) async fn take(&self, tx: &mut Tx, entity_id: &str) -> aegis_db::Result<()> {
        let inner = &self.0;
        // A use case may need more than one transaction; the first one counts.
        if inner.committed.load(Ordering::SeqCst) {
            return Ok(());
        }
        let Some(fingerprint) = inner.fingerprint.get() else {
            return Err(
                Failure::internal("a streamed request changes something and has not said what it is about").into()
            );
        };
        let row = Use { key_hash: &inner.key_hash, fingerprint, claim: inner.id, entity_id };
        if !store::insert(tx, &row, None, now()).await? {
            return Err(Claim::taken().into());
        }
        let claim = self.clone();
        tx.on_commit(move || claim.0.committed.store(true, Ordering::SeqCst));
        Ok(())
    }

    /// Whether something was changed under it.
    pub(super) fn committed(&self) -> bool {
        self.0.committed.load(Ordering::SeqCst)
    }

    pub(super) fn id(&self) -> Uuid {
        self.0.id
    }

    pub(super) fn key_hash(&self) -> &[u8] {
        &self.0.key_hash
    }

    /// Of the request; a streamed one may have none yet.
    pub(super) fn fingerprint(&self) -> Option<&[u8]> {
        self.0.fingerprint.get().map(Vec::as_slice)
    }
}

impl std::fmt::Debug for Claim {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Claim").field("id", &self.0.id).field("committed", &self.committed()).finish_non_exhaustive()
    }
}
