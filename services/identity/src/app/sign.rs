//! Signing documents for other services with the key that signs tokens.

use aegis_auth::{OpCtx, Role};
use aegis_error::Fields;
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use jsonwebtoken::Algorithm;
use serde_json::json;

use crate::error::Error;

use super::App;

/// Largest document.
const MAX_PAYLOAD: usize = 1024 * 1024;
/// Longest kind.
const MAX_KIND: usize = 64;

/// A signature over a document, as in a flattened JWS (RFC 7515, section 7.2.2).
pub(crate) struct SignedDocument {
    pub(crate) protected: String,
    pub(crate) signature: String,
    pub(crate) jwk_json: String,
}

impl App {
    /// Signs a document. Services.
    ///
    /// Its kind is the `typ` of the signature. A verifier of tokens takes no other `typ` than that of tokens, so a
    /// signed document is never one, whatever it says.
    pub(crate) async fn sign_document(&self, ctx: &OpCtx, payload: &[u8], kind: &str) -> Result<SignedDocument, Error> {
        ctx.require(&[Role::Service])?;
        let mut fields = Fields::default();
        let sound = (1..=MAX_PAYLOAD).contains(&payload.len());
        fields.check(sound, "payload", "must have 1 to 1,048,576 bytes");
        let letters = kind.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
        let sound = (1..=MAX_KIND).contains(&kind.len()) && letters;
        fields.check(sound, "kind", "must have 1 to 64 lower-case letters, digits and hyphens");
        fields.check(!names_a_token(kind), "kind", "must not be that of a token");
        fields.finish()?;

        let signer = self.tokens.signer().await?;
        let header = json!({ "alg": "EdDSA", "kid": signer.kid, "typ": kind });
        let protected = URL_SAFE_NO_PAD.encode(header.to_string());
        let message = format!("{protected}.{}", URL_SAFE_NO_PAD.encode(payload));
        let signature = jsonwebtoken::crypto::sign(message.as_bytes(), &signer.key, Algorithm::EdDSA)
            .map_err(aegis_error::Failure::internal)?;
        Ok(SignedDocument { protected, signature, jwk_json: signer.jwk.to_string() })
    }
}

/// `jwt`, and what looks like the `typ` of some kind of token (`at+jwt` and the like).
fn names_a_token(kind: &str) -> bool {
    kind == "jwt" || kind.ends_with("-jwt")
}
