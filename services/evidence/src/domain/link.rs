//! Signed links: whoever has one may read one file until it expires.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use uuid::Uuid;

/// Keeps signatures of links apart from whatever else a key may sign.
const DOMAIN: &[u8] = b"aegis evidence link, version 1\0";

/// Why a link gives no right to read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LinkError {
    /// It was good once.
    #[error("the link has expired: ask for a new one")]
    Expired,
    /// It is not one that we gave, or not for this file.
    #[error("the link is not valid: ask for a new one")]
    Altered,
    /// It is one that we gave, to somebody who may read nothing any more.
    #[error("the user for whom the link was made is disabled or gone")]
    Holder,
}

/// Signs links and verifies them.
#[derive(Clone)]
pub(crate) struct LinkSigner(Hmac<Sha256>);

impl LinkSigner {
    /// `None` only for a key that the algorithm does not take; HMAC takes all.
    pub(crate) fn new(secret: &[u8]) -> Option<Self> {
        Hmac::new_from_slice(secret).ok().map(LinkSigner)
    }

    /// The signature of a link that reads `evidence` until `expires` (Unix seconds), made for `user`.
    pub(crate) fn sign(&self, evidence: Uuid, user: Uuid, expires: i64) -> String {
        URL_SAFE_NO_PAD.encode(self.mac(evidence, user, expires).finalize().into_bytes())
    }

    /// Whether `signature` is that of a link which still holds at `now` (Unix seconds).
    pub(crate) fn verify(
        &self,
        evidence: Uuid,
        user: Uuid,
        expires: i64,
        signature: &str,
        now: i64,
    ) -> Result<(), LinkError> {
        let signature = URL_SAFE_NO_PAD.decode(signature).map_err(|_| LinkError::Altered)?;
        // Compares in constant time.
        self.mac(evidence, user, expires).verify_slice(&signature).map_err(|_| LinkError::Altered)?;
        if now >= expires { Err(LinkError::Expired) } else { Ok(()) }
    }

    fn mac(&self, evidence: Uuid, user: Uuid, expires: i64) -> Hmac<Sha256> {
        // Fields of fixed length: no two links give the same bytes.
        self.0
            .clone()
            .chain_update(DOMAIN)
            .chain_update(evidence.as_bytes())
            .chain_update(user.as_bytes())
            .chain_update(expires.to_be_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_reads_one_file_for_one_user_until_it_expires() {
        let signer = LinkSigner::new(&[7; 32]).unwrap();
        let (file, user) = (Uuid::from_u128(1), Uuid::from_u128(2));
        let signature = signer.sign(file, user, 1000);
        assert_eq!(signer.verify(file, user, 1000, &signature, 999), Ok(()));
        assert_eq!(signer.verify(file, user, 1000, &signature, 1000), Err(LinkError::Expired));
        for (file, user, expires) in [(user, user, 1000), (file, file, 1000), (file, user, 1001), (user, file, 1000)] {
            assert_eq!(signer.verify(file, user, expires, &signature, 999), Err(LinkError::Altered));
        }
        let other = LinkSigner::new(&[8; 32]).unwrap();
        assert_eq!(other.verify(file, user, 1000, &signature, 999), Err(LinkError::Altered));
        for wrong in ["", "A", "!!", &signature[1..], &format!("{signature}="), &"A".repeat(43), &"A".repeat(10_000)] {
            assert_eq!(signer.verify(file, user, 1000, wrong, 999), Err(LinkError::Altered), "{wrong}");
        }
    }
}
