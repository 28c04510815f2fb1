//! Tokens that do not hold, and tokens that no longer do.

use aegis_auth::{AUDIENCE, Claims, ISSUER, MAX_TOKEN_BYTES};
use aegis_db::now;
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use chrono::TimeDelta;
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use serde_json::Value;

use crate::store;

use super::*;

struct Forge {
    kid: String,
    public: Vec<u8>,
    key: EncodingKey,
}

impl Forge {
    /// With the service's own key.
    async fn real(bench: &Bench) -> Forge {
        let row = store::keys::current(&bench.db).await.unwrap().unwrap();
        let jwks: Value = serde_json::from_str(&bench.app.jwks().await.unwrap()).unwrap();
        let public = URL_SAFE_NO_PAD.decode(jwks["keys"][0]["x"].as_str().unwrap()).unwrap();
        assert_eq!(jwks["keys"][0]["kid"], row.kid);
        Forge { key: EncodingKey::from_ed_der(&row.private_pkcs8), kid: row.kid, public }
    }

    fn sign(&self, claims: &Claims) -> String {
        encode(&self.header(Algorithm::EdDSA), claims, &self.key).unwrap()
    }

    fn header(&self, algorithm: Algorithm) -> Header {
        let mut header = Header::new(algorithm);
        header.kid = Some(self.kid.clone());
        header
    }
}

fn claims() -> Claims {
    let iat = now().timestamp();
    Claims {
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
    }
}

#[tokio::test]
async fn forged_tokens_do_not_hold() {
    each(async |bench| {
        let forge = Forge::real(&bench).await;
        assert!(bench.verifier.verify(&forge.sign(&claims())).await.is_ok(), "the forge works");

        let good = forge.sign(&claims());
        let (head, rest) = good.split_once('.').unwrap();
        let (body, signature) = rest.split_once('.').unwrap();
        let part = |value: Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let none = part(serde_json::json!({ "alg": "none", "typ": "JWT", "kid": forge.kid }));
        let hmac_header = forge.header(Algorithm::HS256);
        let hmac = |key: &[u8]| encode(&hmac_header, &claims(), &EncodingKey::from_secret(key)).unwrap();
        let mut other = Claims { name: "admin".into(), ..claims() };
        let swapped = format!("{head}.{}.{signature}", part(serde_json::to_value(&other).unwrap()));
        let mut no_kid = forge.header(Algorithm::EdDSA);
        no_kid.kid = None;
        let mut strange_kid = forge.header(Algorithm::EdDSA);
        strange_kid.kid = Some("../../keys".into());
        other.name = "x".repeat(MAX_TOKEN_BYTES);

        let expired = Claims { exp: now().timestamp() - 60, ..claims() };
        let stranger = ed25519_dalek::SigningKey::generate(&mut rand::rng());
        let stranger = ed25519_dalek::pkcs8::EncodePrivateKey::to_pkcs8_der(&stranger).unwrap();
        let stranger = EncodingKey::from_ed_der(stranger.as_bytes());
        for (what, token) in [
            ("empty", String::new()),
            ("no token", "a.b.c".into()),
            ("alg none", format!("{none}.{body}.")),
            ("alg none with a signature", format!("{none}.{body}.{signature}")),
            ("HS256 with the public key", hmac(&forge.public)),
            ("HS256 with the public key's text", hmac(URL_SAFE_NO_PAD.encode(&forge.public).as_bytes())),
            ("another body", swapped),
            ("no signature", format!("{head}.{body}.")),
            ("expired", forge.sign(&expired)),
            ("another audience", forge.sign(&Claims { aud: "other".into(), ..claims() })),
            ("another issuer", forge.sign(&Claims { iss: "other".into(), ..claims() })),
            ("no key id", encode(&no_kid, &claims(), &forge.key).unwrap()),
            ("an unknown key id", encode(&strange_kid, &claims(), &forge.key).unwrap()),
            ("a key of another", encode(&forge.header(Algorithm::EdDSA), &claims(), &stranger).unwrap()),
            ("too long", forge.sign(&other)),
        ] {
            let refused = failure(bench.verifier.verify(&token).await);
            assert_eq!(refused.code(), Code::Unauthenticated, "{what}");
        }
    })
    .await;
}

#[tokio::test]
async fn a_token_says_who_and_for_how_long() {
    each(async |bench| {
        let user = bench.user("Ana", Role::BlueLead).await;
        let signed_in = bench.app.login(&from("::1"), "ana", &secret(PASSWORD)).await.unwrap();
        let principal = bench.verifier.verify(&signed_in.token.text).await.unwrap();
        assert_eq!(principal.user_id, user.id);
        assert_eq!((principal.username.as_str(), principal.role, principal.epoch), ("Ana", Role::BlueLead, 1));
        let left = principal.expires_at - now();
        assert!(left > TimeDelta::minutes(719) && left <= TimeDelta::hours(12), "{left}");
    })
    .await;
}

#[tokio::test]
async fn keys_are_published_until_they_retire() {
    each(async |bench| {
        let old = bench.admin().await;
        bench.run("UPDATE signing_key SET retire_at = '2999-01-01T00:00:00Z'").await;
        // A replica that starts now makes the next key; the old one still verifies.
        let next = Bench::new(&bench.db, config()).await;
        assert_eq!(next.number("SELECT COUNT(*) FROM signing_key").await, 2);
        // It signs when everybody has had time to read it.
        next.run("UPDATE signing_key SET created_at = '2024-01-01T00:00:00Z' WHERE retire_at IS NULL").await;
        let new = next.admin().await;
        assert!(next.holds(&old).await && next.holds(&new).await);
        next.run("UPDATE signing_key SET retire_at = '2001-01-01T00:00:00Z' WHERE retire_at IS NOT NULL").await;
        let later = Bench::new(&bench.db, config()).await;
        assert!(!later.holds(&old).await && later.holds(&new).await);
    })
    .await;
}

#[tokio::test]
async fn a_logout_ends_one_token() {
    each(async |bench| {
        bench.user("ana", Role::Viewer).await;
        let (one, two) = (bench.sign_in("ana", PASSWORD).await, bench.sign_in("ana", PASSWORD).await);
        bench.app.logout(&one).await.unwrap();
        assert!(!bench.holds(&one).await && bench.holds(&two).await);
        assert_eq!(failure(bench.app.logout(&from("::1")).await).code(), Code::Unauthenticated);
        // Another replica, which starts later, knows as much.
        let later = Bench::new(&bench.db, config()).await;
        assert!(!later.holds(&one).await && later.holds(&two).await);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn no_revocation_is_missed_by_one_who_follows() {
    each(async |bench| {
        let bench = Arc::new(bench);
        let writers: Vec<_> = (0..6)
            .map(|_| {
                let bench = Arc::clone(&bench);
                tokio::spawn(async move {
                    for _ in 0..15 {
                        let principal = aegis_testkit::principal(Role::Viewer, "ana");
                        bench.app.logout(&as_principal(principal, String::new())).await.unwrap();
                    }
                })
            })
            .collect();
        let (mut cursor, mut seen) = (0, 0);
        while !writers.iter().all(tokio::task::JoinHandle::is_finished) {
            let news = bench.app.news(cursor).await.unwrap();
            (cursor, seen) = (news.cursor, seen + news.revocations.len());
        }
        seen += bench.app.news(cursor).await.unwrap().revocations.len();
        assert_eq!(seen, 6 * 15);
        assert_eq!(failure(bench.app.news(-1).await).code(), Code::Validation);

        bench.run("UPDATE revocation SET expires_at = '2001-01-01T00:00:00Z' WHERE seq <= 50").await;
        assert_eq!(bench.app.news(0).await.unwrap().revocations.len(), 40);
        assert_eq!(bench.app.purge().await.unwrap(), 50);
        assert_eq!(bench.app.news(0).await.unwrap(), bench.app.news(50).await.unwrap());
    })
    .await;
}
