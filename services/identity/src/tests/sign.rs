//! Signed documents: they verify with the key that comes with them, and are never tokens.

use aegis_auth::{AUDIENCE, Claims, ISSUER};
use aegis_db::now;
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use ed25519_dalek::{Signature, Verifier as _, VerifyingKey};
use serde_json::Value;

use super::*;

fn service() -> OpCtx {
    aegis_testkit::ctx(Role::Service, "system:evidence")
}

fn decoded(text: &str) -> Vec<u8> {
    URL_SAFE_NO_PAD.decode(text).unwrap()
}

#[tokio::test]
async fn a_document_verifies_with_its_key_and_no_other_does() {
    each(async |bench| {
        let document = b"{\"files\":[]}";
        let signed = bench.app.sign_document(&service(), document, "aegis-evidence-manifest").await.unwrap();
        let header: Value = serde_json::from_slice(&decoded(&signed.protected)).unwrap();
        let jwk: Value = serde_json::from_str(&signed.jwk_json).unwrap();
        assert_eq!((&header["alg"], &header["typ"]), (&"EdDSA".into(), &"aegis-evidence-manifest".into()));
        assert_eq!(header["kid"], jwk["kid"]);
        // It is the key that everybody knows.
        let jwks: Value = serde_json::from_str(&bench.app.jwks().await.unwrap()).unwrap();
        assert!(jwks["keys"].as_array().unwrap().contains(&jwk));

        let public: [u8; 32] = decoded(jwk["x"].as_str().unwrap()).try_into().unwrap();
        let key = VerifyingKey::from_bytes(&public).unwrap();
        let signature = Signature::from_slice(&decoded(&signed.signature)).unwrap();
        let verifies = |protected: &str, payload: &[u8], signature: &Signature| {
            let message = format!("{protected}.{}", URL_SAFE_NO_PAD.encode(payload));
            key.verify(message.as_bytes(), signature).is_ok()
        };
        assert!(verifies(&signed.protected, document, &signature));
        for at in 0..document.len() {
            let mut altered = *document;
            altered[at] ^= 1;
            assert!(!verifies(&signed.protected, &altered, &signature));
        }
        for at in 0..64 {
            let mut altered = signature.to_bytes();
            altered[at] ^= 1;
            assert!(!verifies(&signed.protected, document, &Signature::from_bytes(&altered)));
        }
        let other = bench.app.sign_document(&service(), document, "another-kind").await.unwrap();
        assert!(!verifies(&other.protected, document, &signature));
    })
    .await;
}

#[tokio::test]
async fn a_signed_document_is_no_token() {
    each(async |bench| {
        let iat = now().timestamp();
        // All that a token says, signed by the key that signs tokens.
        let claims = Claims {
            iss: ISSUER.into(),
            aud: AUDIENCE.into(),
            sub: Uuid::now_v7(),
            name: "mallory".into(),
            role: Role::Admin,
            jti: Uuid::now_v7(),
            iat,
            exp: iat + 3600,
            epoch: 1,
            pwd: false,
        };
        let payload = serde_json::to_vec(&claims).unwrap();
        let signed = bench.app.sign_document(&service(), &payload, "aegis-evidence-manifest").await.unwrap();
        let text = format!("{}.{}.{}", signed.protected, URL_SAFE_NO_PAD.encode(&payload), signed.signature);
        let refused = bench.verifier.verify(&text).await.unwrap_err();
        assert_eq!(refused.code(), Code::Unauthenticated);
        assert!(refused.message().contains("no token"), "{refused}");
    })
    .await;
}

#[tokio::test]
async fn services_alone_have_documents_signed_and_small_ones_of_a_sound_kind() {
    each(async |bench| {
        let kind = "aegis-evidence-manifest";
        let refused = failure(bench.app.sign_document(&bench.admin().await, b"x", kind).await.map(drop));
        assert_eq!(refused.code(), Code::Forbidden);
        let large = vec![b'x'; 1024 * 1024 + 1];
        assert!(bench.app.sign_document(&service(), &large[1..], kind).await.is_ok());
        for (payload, kind, field) in [
            (&b""[..], kind, "payload"),
            (&large, kind, "payload"),
            (b"x", "", "kind"),
            (b"x", "jwt", "kind"),
            (b"x", "JWT", "kind"),
            (b"x", "at-jwt", "kind"),
            (b"x", "at+jwt", "kind"),
            (b"x", "a\"b", "kind"),
            (b"x", &"k".repeat(65), "kind"),
        ] {
            let refused = failure(bench.app.sign_document(&service(), payload, kind).await.map(drop));
            assert_eq!((refused.code(), refused.fields()[0].field.as_str()), (Code::Validation, field), "{kind}");
        }
    })
    .await;
}
