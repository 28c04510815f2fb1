//! The records of the audit trail and the chain that holds them together.
//!
//! The hash of a record is SHA-256 over the concatenation of these parts, each preceded by its length in bytes as an
//! unsigned 64-bit big-endian number, so that no two records give the same bytes:
//!
//! 1. the text `aegis-audit-1`
//! 2. `prev_hash` of the record: the `hash` of the one before it, 64 zeros for the first (lower-case hex, ASCII)
//! 3. `seq`, a signed 64-bit big-endian number
//! 4. `id`, 16 bytes
//! 5. `user_id`, 16 bytes, or nothing where no user acted
//! 6. `username`, UTF-8, as are the parts without another word
//! 7. `action`
//! 8. `entity_type`
//! 9. `entity_id`
//! 10. the time in microseconds since 1970, a signed 64-bit big-endian number
//! 11. `details`, the JSON text byte for byte
//! 12. `success`, one byte: 1 or 0
//! 13. `address`
//! 14. `user_agent`
//! 15. `request_id`
//! 16. `source`
//!
//! Whoever keeps the newest hash outside of the product can tell later that nothing before it was changed.

use chrono::{DateTime, Utc};
use serde_json::value::RawValue;
use sha2::{Digest, Sha256};
use uuid::Uuid;

use super::lanes::Hash;

/// Most bytes of the details of one record; longer ones are replaced by their size and hash.
const MAX_DETAILS: usize = 64 * 1024;
/// `prev_hash` of the first record.
pub(crate) const NO_HASH: Hash = [0; 32];
/// Part 1.
const VERSION: &[u8] = b"aegis-audit-1";

/// What is known of one event, before it has a place in the chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Id, that of the event.
    pub id: Uuid,
    /// Who acted, if it was a user.
    pub user_id: Option<Uuid>,
    /// Name of who acted, or the name that was tried.
    pub username: String,
    /// Verb and noun.
    pub action: String,
    /// Kind of the entity.
    pub entity_type: String,
    /// Id of the entity; may be empty.
    pub entity_id: String,
    /// When.
    pub at: DateTime<Utc>,
    /// JSON.
    pub details: String,
    /// False for a refusal.
    pub success: bool,
    /// Client address.
    pub address: String,
    /// User agent.
    pub user_agent: String,
    /// Request id.
    pub request_id: String,
    /// Service that recorded it.
    pub source: String,
}

/// An entry in its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Record {
    /// Position, from 1.
    pub(crate) seq: i64,
    /// What happened.
    pub(crate) entry: Entry,
    /// Hash of the record before; unknown where that is missing.
    pub(crate) prev_hash: Option<Hash>,
    /// Hash of this one.
    pub(crate) hash: Hash,
}

impl Entry {
    /// Brings every field into its bounds.
    pub(crate) fn bounded(mut self) -> Entry {
        for (text, max) in [
            (&mut self.username, 64),
            (&mut self.action, 100),
            (&mut self.entity_type, 100),
            (&mut self.entity_id, 200),
            (&mut self.address, 64),
            (&mut self.user_agent, 256),
            (&mut self.request_id, 64),
            (&mut self.source, 64),
        ] {
            *text = clean(text, max);
        }
        if self.details.is_empty() {
            self.details = "{}".to_owned();
        } else if raw(&self.details).is_none() {
            // Several lines, or no JSON at all.
            let text = std::mem::take(&mut self.details);
            let value = serde_json::from_str(&text).unwrap_or_else(|_| serde_json::json!({ "text": text }));
            self.details = value.to_string();
        }
        if self.details.len() > MAX_DETAILS {
            let hash = hex::encode(Sha256::digest(&self.details));
            self.details =
                serde_json::json!({ "truncated": true, "bytes": self.details.len(), "sha256": hash }).to_string();
        }
        self
    }

    /// Parts 4 to 16; see the head of this module.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let texts = [
            &self.username,
            &self.action,
            &self.entity_type,
            &self.entity_id,
            &self.details,
            &self.address,
            &self.user_agent,
            &self.request_id,
            &self.source,
        ];
        let mut bytes = Vec::with_capacity(13 * 8 + 41 + texts.iter().map(|text| text.len()).sum::<usize>());
        let mut part = |part: &[u8]| {
            bytes.extend_from_slice(&(part.len() as u64).to_be_bytes());
            bytes.extend_from_slice(part);
        };
        part(self.id.as_bytes());
        part(self.user_id.as_ref().map_or(&[][..], |id| id.as_bytes()));
        part(self.username.as_bytes());
        part(self.action.as_bytes());
        part(self.entity_type.as_bytes());
        part(self.entity_id.as_bytes());
        part(&self.at.timestamp_micros().to_be_bytes());
        part(self.details.as_bytes());
        part(&[u8::from(self.success)]);
        part(self.address.as_bytes());
        part(self.user_agent.as_bytes());
        part(self.request_id.as_bytes());
        part(self.source.as_bytes());
        bytes
    }

    /// What [`Entry::encode`] made, to be shown: of other bytes, which somebody wrote past the product, an entry that
    /// says so.
    pub(crate) fn read(bytes: &[u8]) -> Entry {
        Entry::decode(bytes).unwrap_or_else(|| Entry {
            id: Uuid::nil(),
            user_id: None,
            username: String::new(),
            action: "unreadable".to_owned(),
            entity_type: String::new(),
            entity_id: String::new(),
            at: DateTime::UNIX_EPOCH,
            details: r#"{"unreadable":true}"#.to_owned(),
            success: false,
            address: String::new(),
            user_agent: String::new(),
            request_id: String::new(),
            source: crate::NAME.to_owned(),
        })
    }

    /// What [`Entry::encode`] made; `None` for other bytes.
    fn decode(bytes: &[u8]) -> Option<Entry> {
        let parts = Parts::of(bytes)?;
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).ok();
        Some(Entry {
            id: Uuid::from_slice(parts.id).ok()?,
            user_id: parts.user_id()?,
            username: text(parts.username)?,
            action: text(parts.action)?,
            entity_type: text(parts.entity_type)?,
            entity_id: text(parts.entity_id)?,
            at: DateTime::from_timestamp_micros(parts.at_us)?,
            details: text(parts.details)?,
            success: parts.success,
            address: text(parts.address)?,
            user_agent: text(parts.user_agent)?,
            request_id: text(parts.request_id)?,
            source: text(parts.source)?,
        })
    }
}

/// An encoded entry, divided but not copied.
pub(crate) struct Parts<'a> {
    id: &'a [u8],
    user_id: &'a [u8],
    username: &'a [u8],
    pub(crate) action: &'a [u8],
    pub(crate) entity_type: &'a [u8],
    entity_id: &'a [u8],
    pub(crate) at_us: i64,
    pub(crate) details: &'a [u8],
    pub(crate) success: bool,
    address: &'a [u8],
    user_agent: &'a [u8],
    request_id: &'a [u8],
    pub(crate) source: &'a [u8],
}

impl<'a> Parts<'a> {
    /// The parts of what [`Entry::encode`] made; `None` where the bytes cannot be divided like that.
    pub(crate) fn of(bytes: &'a [u8]) -> Option<Parts<'a>> {
        Parts::first(bytes).filter(|(_, length)| *length == bytes.len()).map(|(parts, _)| parts)
    }

    /// The parts at the beginning of the bytes, and how many bytes they are.
    pub(crate) fn first(all: &'a [u8]) -> Option<(Parts<'a>, usize)> {
        let mut bytes = all;
        let mut part = || {
            let (length, rest) = bytes.split_first_chunk::<8>()?;
            let (part, rest) = rest.split_at_checked(usize::try_from(u64::from_be_bytes(*length)).ok()?)?;
            bytes = rest;
            Some(part)
        };
        // In the order of the encoding: a struct's fields are evaluated as they are written.
        let parts = Parts {
            id: part()?,
            user_id: part()?,
            username: part()?,
            action: part()?,
            entity_type: part()?,
            entity_id: part()?,
            at_us: i64::from_be_bytes(part()?.try_into().ok()?),
            details: part()?,
            success: match part()? {
                [0] => false,
                [1] => true,
                _ => return None,
            },
            address: part()?,
            user_agent: part()?,
            request_id: part()?,
            source: part()?,
        };
        Some((parts, all.len() - bytes.len()))
    }

    /// Who acted, if it was a user; `None` outside where it is neither an id nor nothing.
    pub(crate) fn user_id(&self) -> Option<Option<Uuid>> {
        if self.user_id.is_empty() { Some(None) } else { Uuid::from_slice(self.user_id).ok().map(Some) }
    }
}

/// Parts 1 to 3, which come before the encoded entry.
pub(crate) fn prefix(prev_hash: &Hash, seq: i64) -> [u8; 109] {
    let mut bytes = [0; 109];
    let mut hex_text = [0; 64];
    // Two digits a byte fit exactly.
    let _ = hex::encode_to_slice(prev_hash, &mut hex_text);
    let mut at = 0;
    for part in [VERSION, &hex_text, &seq.to_be_bytes()] {
        bytes[at..at + 8].copy_from_slice(&(part.len() as u64).to_be_bytes());
        bytes[at + 8..at + 8 + part.len()].copy_from_slice(part);
        at += 8 + part.len();
    }
    bytes
}

/// The hash of an encoded entry in its place.
pub(crate) fn hash(prev_hash: &Hash, seq: i64, record: &[u8]) -> Hash {
    Sha256::new().chain_update(prefix(prev_hash, seq)).chain_update(record).finalize().into()
}

/// The text as JSON that stands on one line byte for byte, if it is such.
pub(crate) fn raw(text: &str) -> Option<&RawValue> {
    let value: &RawValue = serde_json::from_str(text).ok()?;
    (value.get() == text && !text.contains(char::is_control)).then_some(value)
}

/// The text without control characters, cut to `max` characters.
pub(crate) fn clean(text: &str, max: usize) -> String {
    text.chars().filter(|c| !c.is_control()).take(max).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry() -> Entry {
        Entry {
            id: Uuid::from_u128(7),
            user_id: None,
            username: "al".into(),
            action: "ice".into(),
            entity_type: "user".into(),
            entity_id: String::new(),
            at: DateTime::from_timestamp_micros(1_700_000_000_123_456).unwrap(),
            details: "{}".into(),
            success: true,
            address: "192.0.2.1".into(),
            user_agent: "curl".into(),
            request_id: "r".into(),
            source: "identity".into(),
        }
    }

    #[test]
    fn every_field_is_in_the_hash() {
        let hashed = |entry: &Entry| hash(&NO_HASH, 1, &entry.encode());
        let base = hashed(&entry());
        let changes: [fn(&mut Entry); 13] = [
            |e| e.id = Uuid::from_u128(8),
            |e| e.user_id = Some(Uuid::nil()),
            // The same letters, divided in another way.
            |e| (e.username, e.action) = ("ali".into(), "ce".into()),
            |e| e.entity_type = "test".into(),
            |e| e.entity_id = "x".into(),
            |e| e.at += chrono::TimeDelta::microseconds(1),
            |e| e.details = "{ }".into(),
            |e| e.success = false,
            |e| e.address = String::new(),
            |e| e.user_agent = String::new(),
            |e| e.request_id = String::new(),
            |e| e.source = String::new(),
            |e| e.action = "x".into(),
        ];
        for change in changes {
            let mut other = entry();
            change(&mut other);
            assert_ne!(hashed(&other), base);
            assert_eq!(Entry::decode(&other.encode()), Some(other));
        }
        assert_ne!(hash(&NO_HASH, 2, &entry().encode()), base);
        assert_ne!(hash(&[1; 32], 1, &entry().encode()), base);
        // Written down once, so that a change of the encoding cannot go unnoticed.
        assert_eq!(hex::encode(base), "f1439457578393e01dcd02d789be90aae3826dd2bcd3b70c9c038f3664344486");
    }

    #[test]
    fn bytes_that_are_no_entry_are_told_from_one() {
        let bytes = entry().encode();
        for end in 0..bytes.len() {
            assert!(Parts::of(&bytes[..end]).is_none(), "{end}");
        }
        assert!(Parts::of(&[bytes.as_slice(), b"x"].concat()).is_none());
        assert!(Parts::of(&[0xff; 200]).is_none());
        let mut no_text = bytes;
        let at = no_text.windows(3).position(|w| w == b"ice").unwrap();
        no_text[at] = 0xff;
        assert!(Parts::of(&no_text).is_some() && Entry::decode(&no_text).is_none());
    }

    #[test]
    fn entries_are_bounded_and_clean() {
        let mut wild = entry();
        wild.username = "a\0b\n".repeat(100);
        wild.details = format!("{{\"x\":\"{}\"}}", "y".repeat(MAX_DETAILS));
        let tame = wild.bounded();
        assert_eq!(tame.username.chars().count(), 64);
        assert!(!tame.username.contains('\0'));
        assert!(tame.details.len() < 200 && tame.details.contains("truncated"));
    }

    #[test]
    fn details_are_one_line_of_json() {
        let told = |details: &str| Entry { details: details.into(), ..entry() }.bounded().details;
        for kept in ["{}", r#"{"b":1,"a":[1.50,"\u0000"]}"#, r#"{ "a" : "ü" }"#, "null"] {
            assert_eq!(told(kept), kept);
        }
        assert_eq!(told(""), "{}");
        assert_eq!(told("{\n  \"a\": 1\n}\n"), r#"{"a":1}"#);
        assert_eq!(told("a\nb\0"), r#"{"text":"a\nb\u0000"}"#);
        assert_eq!(told("{}\n{\"forged\":1}"), r#"{"text":"{}\n{\"forged\":1}"}"#);
    }
}
