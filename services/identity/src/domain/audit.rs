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
use sha2::{Digest, Sha256};
use uuid::Uuid;

/// Most bytes of the details of one record; longer ones are replaced by their size and hash.
const MAX_DETAILS: usize = 64 * 1024;

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
pub struct Record {
    /// Position, from 1.
    pub seq: i64,
    /// What happened.
    pub entry: Entry,
    /// Hash of the record before.
    pub prev_hash: String,
    /// Hash of this one.
    pub hash: String,
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
        // JSON writes control characters as escapes; a bare one is no JSON, and PostgreSQL keeps no zero byte.
        if self.details.is_empty() || self.details.contains('\0') {
            self.details = "{}".to_owned();
        } else if self.details.len() > MAX_DETAILS {
            let hash = hex::encode(Sha256::digest(&self.details));
            self.details =
                serde_json::json!({ "truncated": true, "bytes": self.details.len(), "sha256": hash }).to_string();
        }
        self
    }
}

impl Record {
    /// The record of `entry` at position `seq`, after one with the hash `prev_hash`.
    pub(crate) fn chain(seq: i64, prev_hash: String, entry: Entry) -> Record {
        let mut record = Record { seq, entry, prev_hash, hash: String::new() };
        record.hash = record.computed_hash();
        record
    }

    /// The hash that the fields give; see the head of this module.
    pub(crate) fn computed_hash(&self) -> String {
        let e = &self.entry;
        let mut sha = Sha256::new();
        let mut part = |bytes: &[u8]| {
            sha.update((bytes.len() as u64).to_be_bytes());
            sha.update(bytes);
        };
        part(b"aegis-audit-1");
        part(self.prev_hash.as_bytes());
        part(&self.seq.to_be_bytes());
        part(e.id.as_bytes());
        part(e.user_id.as_ref().map_or(&[][..], |id| id.as_bytes()));
        part(e.username.as_bytes());
        part(e.action.as_bytes());
        part(e.entity_type.as_bytes());
        part(e.entity_id.as_bytes());
        part(&e.at.timestamp_micros().to_be_bytes());
        part(e.details.as_bytes());
        part(&[u8::from(e.success)]);
        part(e.address.as_bytes());
        part(e.user_agent.as_bytes());
        part(e.request_id.as_bytes());
        part(e.source.as_bytes());
        hex::encode(sha.finalize())
    }
}

/// The text without control characters, cut to `max` characters.
pub(crate) fn clean(text: &str, max: usize) -> String {
    text.chars().filter(|c| !c.is_control()).take(max).collect()
}

/// Walks a chain from its beginning.
#[derive(Debug)]
pub(crate) struct Walk {
    /// Records that fitted.
    pub(crate) seq: i64,
    /// Hash of the last of them.
    pub(crate) hash: String,
}

/// Where a chain breaks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Break {
    /// Position of the first record that does not fit.
    pub seq: i64,
    /// Why.
    pub reason: &'static str,
}

impl Walk {
    /// Before the first record.
    pub(crate) fn start() -> Walk {
        Walk { seq: 0, hash: "0".repeat(64) }
    }

    /// Takes the next record.
    pub(crate) fn step(&mut self, record: &Record) -> Result<(), Break> {
        let expected = self.seq + 1;
        let broken = |seq, reason| Err(Break { seq, reason });
        if record.seq != expected {
            return broken(expected, "the record is missing");
        }
        if record.prev_hash != self.hash {
            return broken(expected, "the record does not follow the one before it");
        }
        if record.hash != record.computed_hash() {
            return broken(expected, "the record was changed after it was written");
        }
        self.seq = record.seq;
        self.hash.clone_from(&record.hash);
        Ok(())
    }
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
        let base = Record::chain(1, "0".repeat(64), entry());
        let changes: [fn(&mut Record); 15] = [
            |r| r.seq = 2,
            |r| r.prev_hash = "1".repeat(64),
            |r| r.entry.id = Uuid::from_u128(8),
            |r| r.entry.user_id = Some(Uuid::nil()),
            // The same letters, divided in another way.
            |r| (r.entry.username, r.entry.action) = ("ali".into(), "ce".into()),
            |r| r.entry.entity_type = "test".into(),
            |r| r.entry.entity_id = "x".into(),
            |r| r.entry.at += chrono::TimeDelta::microseconds(1),
            |r| r.entry.details = "{ }".into(),
            |r| r.entry.success = false,
            |r| r.entry.address = String::new(),
            |r| r.entry.user_agent = String::new(),
            |r| r.entry.request_id = String::new(),
            |r| r.entry.source = String::new(),
            |r| r.entry.action = "x".into(),
        ];
        for change in changes {
            let mut record = base.clone();
            change(&mut record);
            assert_ne!(record.computed_hash(), base.hash);
        }
        // Written down once, so that a change of the encoding cannot go unnoticed.
        assert_eq!(base.hash, "f1439457578393e01dcd02d789be90aae3826dd2bcd3b70c9c038f3664344486");
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
    fn a_walk_stops_at_the_first_break() {
        let mut chain = Vec::new();
        let mut hash = "0".repeat(64);
        for seq in 1..=3 {
            let record = Record::chain(seq, hash, entry());
            hash = record.hash.clone();
            chain.push(record);
        }
        let walk = |chain: &[Record]| {
            let mut walk = Walk::start();
            chain.iter().try_for_each(|record| walk.step(record)).map(|()| walk.seq)
        };
        assert_eq!(walk(&chain), Ok(3));
        assert_eq!(walk(&[chain[0].clone(), chain[2].clone()]).unwrap_err().seq, 2);
        let mut forged = chain.clone();
        forged[1].entry.username = "eve".into();
        assert_eq!(walk(&forged).unwrap_err().reason, "the record was changed after it was written");
        // With its hash made to fit, the next one does not follow.
        forged[1].hash = forged[1].computed_hash();
        assert_eq!(
            walk(&forged).unwrap_err(),
            Break { seq: 3, reason: "the record does not follow the one before it" }
        );
    }
}
