// What is fuzzed: shared by the fuzzer and by the test that runs each for a moment (services/aegis/tests/fuzz).

use std::sync::{Arc, LazyLock};

use aegis_auth::{KeySource, News, Principal, Verifier};
use aegis_error::Failure;
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use chrono::{DateTime, TimeDelta, Utc};
use ed25519_dalek::{Signer, SigningKey};

/// A parser: it must take whatever it is given.
pub type Target = fn(&[u8]);

const PLATFORM: &[(&str, Target)] = &[
    ("token", |data| verify(&String::from_utf8_lossy(data))),
    ("token_header", |data| verify(&signed(data, br#"{"sub":"00000000-0000-7000-8000-000000000001"}"#))),
    ("token_claims", |data| verify(&signed(br#"{"alg":"EdDSA","kid":"1"}"#, data))),
    ("page_token", page_token),
    ("schedule", schedule),
];

/// All of them, each by its name.
pub fn all() -> impl Iterator<Item = (&'static str, Target)> {
    [
        PLATFORM,
        aegis_gateway::fuzz::TARGETS,
        aegis_catalog::fuzz::TARGETS,
        aegis_evidence::fuzz::TARGETS,
        aegis_intel::fuzz::TARGETS,
        aegis_deception::fuzz::TARGETS,
        aegis_sensor::decoys::fuzz::TARGETS,
    ]
    .into_iter()
    .flatten()
    .copied()
}

/// Identity, with one key and nobody.
struct OneKey;

static KEY: LazyLock<SigningKey> = LazyLock::new(|| SigningKey::from_bytes(&[7; 32]));
static VERIFIER: LazyLock<Verifier> = LazyLock::new(|| Verifier::new(Arc::new(OneKey)));

#[async_trait::async_trait]
impl KeySource for OneKey {
    async fn jwks(&self) -> Result<String, Failure> {
        let x = URL_SAFE_NO_PAD.encode(KEY.verifying_key().as_bytes());
        Ok(format!(r#"{{"keys":[{{"kty":"OKP","crv":"Ed25519","use":"sig","alg":"EdDSA","kid":"1","x":"{x}"}}]}}"#))
    }

    async fn news(&self, _: i64) -> Result<News, Failure> {
        Ok(News::default())
    }

    async fn api_key(&self, _: &str) -> Result<Principal, Failure> {
        Err(Failure::not_found("API key", "1"))
    }
}

fn verify(bearer: &str) {
    let _ = futures::executor::block_on(VERIFIER.verify(bearer));
}

/// A token that is signed, whatever it says.
fn signed(header: &[u8], claims: &[u8]) -> String {
    let text = format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(claims));
    let signature = KEY.sign(text.as_bytes());
    format!("{text}.{}", URL_SAFE_NO_PAD.encode(signature.to_bytes()))
}

fn page_token(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let _ = (aegis_db::page::offset(&text, 0), aegis_db::page::key::<(DateTime<Utc>, uuid::Uuid)>(&text));
    // The same without its wrapping.
    let token = URL_SAFE_NO_PAD.encode(data);
    let _ = (aegis_db::page::offset(&token, i32::MAX), aegis_db::page::key::<(String, i64)>(&token));
}

/// An expression, and after a line break a time zone.
fn schedule(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let (expression, zone) = text.split_once('\n').unwrap_or((&text, "Europe/Berlin"));
    let Some(zone) = aegis_schedule::time_zone(zone) else { return };
    let at = DateTime::from_timestamp(1_800_000_000, 0).unwrap_or_default();
    if let Ok(expression) = aegis_schedule::parse(expression)
        && let Ok(next) = aegis_schedule::next_after(&expression, zone, at)
    {
        assert!(next > at, "{expression} is next at {next}");
    }
    if let Ok(recurrence) = aegis_schedule::Recurrence::parse(expression) {
        let anchor = at - TimeDelta::days(31);
        if let Ok(next) = recurrence.next_after(zone, anchor, at) {
            assert!(next > at, "{recurrence:?} is next at {next}");
        }
        let _ = recurrence.as_str();
    }
}
