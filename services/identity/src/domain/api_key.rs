//! API keys: how they look, what they may do, how long they hold.

use aegis_auth::{API_KEY_PREFIX, Role};
use aegis_error::Fields;
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use chrono::{DateTime, TimeDelta, Utc};
use secrecy::{ExposeSecret, SecretString};
use sha2::{Digest, Sha256};
use uuid::Uuid;

/// Random bytes of a key.
const SECRET_BYTES: usize = 32;
/// Characters that they become in base64url.
const SECRET_CHARS: usize = 43;
/// Characters of a key that lists show.
const SHOWN: usize = API_KEY_PREFIX.len() + 6;
/// How long a key holds that names no end.
const DEFAULT_LIFETIME: TimeDelta = TimeDelta::days(90);
/// How long a key may hold.
const MAX_LIFETIME: TimeDelta = TimeDelta::days(366);
/// Most characters of a key's name.
const MAX_NAME: usize = 100;
/// Keys of one user that hold at the same time.
pub(crate) const MAX_KEYS: i64 = 50;

/// A key as its owner sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ApiKey {
    pub(crate) id: Uuid,
    pub(crate) user_id: Uuid,
    pub(crate) name: String,
    pub(crate) role: Role,
    pub(crate) prefix: String,
    pub(crate) created_at: DateTime<Utc>,
    pub(crate) expires_at: DateTime<Utc>,
    pub(crate) revoked_at: Option<DateTime<Utc>>,
    pub(crate) last_used_at: Option<DateTime<Utc>>,
}

impl ApiKey {
    /// For `If-Match`: a key changes once, when it is revoked.
    pub(crate) fn version(&self) -> i64 {
        1 + i64::from(self.revoked_at.is_some())
    }
}

/// A new key: its text, to be shown once.
pub(crate) fn generate() -> SecretString {
    format!("{API_KEY_PREFIX}{}", URL_SAFE_NO_PAD.encode(rand::random::<[u8; SECRET_BYTES]>())).into()
}

/// What lists show of a key.
pub(crate) fn prefix(key: &SecretString) -> String {
    key.expose_secret().chars().take(SHOWN).collect()
}

/// What is stored of a key; nothing for a text that cannot be one. A hash without salt and stretching is enough for
/// 256 random bits.
pub(crate) fn hash(key: &str) -> Option<Vec<u8>> {
    let secret = key.strip_prefix(API_KEY_PREFIX)?;
    let plausible =
        secret.len() == SECRET_CHARS && secret.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_');
    plausible.then(|| Sha256::digest(key.as_bytes()).to_vec())
}

/// What a key may do now. One whose owner has lost the role since reads only; that of a sensor, which never could read,
/// is good for nothing then.
pub(crate) fn effective(key: Role, owner: Role) -> Option<Role> {
    match key {
        key if owner.covers(key) => Some(key),
        Role::Sensor => None,
        _ => Some(Role::Viewer),
    }
}

/// Notes what is wrong with a key that is to be made; answers its role and when it ends.
pub(crate) fn check(
    fields: &mut Fields,
    name: &str,
    role: Option<&str>,
    owner: Role,
    expires_at: Option<DateTime<Utc>>,
    now: DateTime<Utc>,
) -> (Role, DateTime<Utc>) {
    fields.text("name", name, 1, MAX_NAME);
    let parsed = role.map_or(Some(Role::Viewer), Role::of_key);
    fields.check(parsed.is_some(), "role", &format!("must be one of {}, sensor", Role::NAMES.join(", ")));
    let role = parsed.unwrap_or(Role::Viewer);
    fields.check(
        owner.covers(role),
        "role",
        &format!("must be {owner} or viewer: a key may do no more than its owner"),
    );
    let expires_at = expires_at.unwrap_or(now + DEFAULT_LIFETIME);
    fields.check(
        expires_at > now && expires_at <= now + MAX_LIFETIME + TimeDelta::minutes(1),
        "expires_at",
        "must be in the future, at most 366 days from now",
    );
    (role, expires_at)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_long_random_and_recognised() {
        let (a, b) = (generate(), generate());
        assert_ne!(a.expose_secret(), b.expose_secret());
        assert_eq!(hash(a.expose_secret()).map(|h| h.len()), Some(32));
        assert!(a.expose_secret().starts_with(&prefix(&a)) && prefix(&a).len() < 20);
        for no_key in ["", "aegis_key_", "aegis_key_short", &format!("{}x", a.expose_secret()), "eyJhbGciOiJFZERTQSJ9"]
        {
            assert_eq!(hash(no_key), None, "{no_key}");
        }
        assert_eq!(hash(&a.expose_secret().replace("aegis_key_", "aegis_kex_")), None);
    }

    #[test]
    fn a_key_may_do_no_more_than_its_owner() {
        let may = |owner: Role, role: &str| {
            let mut fields = Fields::default();
            check(&mut fields, "ci", Some(role), owner, None, Utc::now());
            fields.finish().is_ok()
        };
        for role in Role::NAMES {
            assert!(may(Role::Admin, role));
            assert_eq!(may(Role::RedLead, role), matches!(role, "red_lead" | "viewer"), "{role}");
        }
        assert!(!may(Role::Viewer, "admin") && !may(Role::Admin, "service"));
        assert!(may(Role::Admin, "sensor") && !may(Role::BlueLead, "sensor"));
        assert_eq!(effective(Role::Sensor, Role::Admin), Some(Role::Sensor));
        assert_eq!(effective(Role::Sensor, Role::Viewer), None);
        assert_eq!(effective(Role::RedTech, Role::RedTech), Some(Role::RedTech));
        assert_eq!(effective(Role::RedTech, Role::Admin), Some(Role::RedTech));
        // A red lead may not do all that a red technician may.
        assert_eq!(effective(Role::RedTech, Role::RedLead), Some(Role::Viewer));
        assert_eq!(effective(Role::Admin, Role::BlueLead), Some(Role::Viewer));
    }

    #[test]
    fn a_key_ends() {
        let now = Utc::now();
        let ends = |expires_at: Option<DateTime<Utc>>| {
            let mut fields = Fields::default();
            let (_, end) = check(&mut fields, "ci", None, Role::Admin, expires_at, now);
            fields.finish().map(|()| end - now)
        };
        assert_eq!(ends(None).unwrap(), DEFAULT_LIFETIME);
        assert_eq!(ends(Some(now + MAX_LIFETIME)).unwrap(), MAX_LIFETIME);
        assert!(ends(Some(now)).is_err() && ends(Some(now + TimeDelta::days(367))).is_err());
    }
}
