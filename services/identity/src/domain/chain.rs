//! Walking the chain of the audit trail: that every record follows the one before it, is what was hashed, and is
//! found under what it says; and that the place where the chain begins is one that the chain itself tells of.

use std::ops::Range;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{
    audit::{NO_HASH, Parts, prefix},
    lanes::{Hash, Messages},
};

/// Action of the record that tells of a removal by age.
pub(crate) const PRUNE: &str = "prune_audit_log";
/// Ends a column in rows that come as one value. No text of a record has it: control characters are left out.
pub(crate) const MARK: u8 = 0x1f;
/// Most records of a chunk.
pub(crate) const CHUNK_RECORDS: usize = 2000;
/// A chunk takes no more records when it has this many bytes.
const CHUNK_BYTES: usize = 2 * 1024 * 1024;

/// Where a chain breaks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Break {
    /// Position of the first record that does not fit.
    pub seq: i64,
    /// Why.
    pub reason: &'static str,
}

/// The end of a part of the chain: position and hash of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Link {
    pub(crate) seq: i64,
    pub(crate) hash: Hash,
}

impl Link {
    /// Before the first record.
    pub(crate) const START: Link = Link { seq: 0, hash: NO_HASH };
}

/// Details of a [`PRUNE`] record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Pruned {
    /// Position of the last record that was removed.
    pub(crate) through_seq: i64,
    /// Its hash, in hex.
    pub(crate) through_hash: String,
    /// How many were removed at this time.
    pub(crate) removed: i64,
    /// All of them were older than this, RFC 3339.
    pub(crate) before: String,
}

/// A few records as the store keeps them, one behind the other.
#[derive(Default)]
pub(crate) struct Chunk {
    bytes: Vec<u8>,
    rows: Vec<Row>,
    /// A row could not be read at all.
    unreadable: bool,
}

struct Row {
    seq: i64,
    user_id: Option<Uuid>,
    at_us: i64,
    hash: Option<Hash>,
    /// Where they are in the chunk's bytes.
    action: Range<usize>,
    entity_type: Range<usize>,
    record: Range<usize>,
}

/// A row as the store reads it.
pub(crate) struct Stored<'a> {
    pub(crate) seq: i64,
    pub(crate) user_id: Option<Uuid>,
    pub(crate) action: &'a str,
    pub(crate) entity_type: &'a str,
    pub(crate) at_us: i64,
    pub(crate) record: &'a [u8],
    pub(crate) hash: &'a [u8],
}

impl Chunk {
    /// Adds a row; the rows come in the order of their positions.
    pub(crate) fn push(&mut self, row: Stored<'_>) {
        let [action, entity_type, record] =
            [row.action.as_bytes(), row.entity_type.as_bytes(), row.record].map(|part| {
                let start = self.bytes.len();
                self.bytes.extend_from_slice(part);
                start..self.bytes.len()
            });
        let hash = row.hash.try_into().ok();
        self.rows.push(Row { seq: row.seq, user_id: row.user_id, at_us: row.at_us, hash, action, entity_type, record });
    }

    /// The rows from a position on, none of which is missing, in one value: of each its hash and record, and then,
    /// each before a [`MARK`], action, entity type, time in decimal, user id as text. `None` where that cannot be
    /// told apart, as after somebody wrote past the product: then the rows have to be read one by one.
    ///
    /// No other rows than those that are there can come out: what stands between the marks has none itself, for each
    /// row has as many marks as columns.
    pub(crate) fn unpack(first: i64, bytes: Vec<u8>) -> Option<Chunk> {
        let mut rows = Vec::with_capacity(bytes.len() / 256);
        let mut at = 0;
        while at < bytes.len() {
            let hash = bytes[at..].first_chunk::<32>()?;
            at += hash.len();
            let record = at..at + Parts::first(&bytes[at..])?.1;
            at = record.end;
            let mut column = || {
                let length = bytes[at..].iter().position(|byte| *byte == MARK)?;
                let column = at..at + length;
                at += length + 1;
                Some(column)
            };
            let (action, entity_type, at_us, user_id) = (column()?, column()?, column()?, column()?);
            let at_us = std::str::from_utf8(&bytes[at_us]).ok()?.parse().ok()?;
            let user_id = match &bytes[user_id] {
                [] => None,
                hex => Some(Uuid::try_parse_ascii(hex).ok()?),
            };
            let seq = first.checked_add(i64::try_from(rows.len()).ok()?)?;
            rows.push(Row { seq, user_id, at_us, hash: Some(*hash), action, entity_type, record });
        }
        Some(Chunk { bytes, rows, unreadable: false })
    }

    /// Notes that the next row has values of other types than it must have.
    pub(crate) fn unreadable(&mut self) {
        self.unreadable = true;
    }

    /// Whether it takes no more.
    pub(crate) fn is_full(&self) -> bool {
        self.unreadable || self.rows.len() >= CHUNK_RECORDS || self.bytes.len() >= CHUNK_BYTES
    }

    /// Whether there is nothing more, not even something unreadable.
    pub(crate) fn is_empty(&self) -> bool {
        self.rows.is_empty() && !self.unreadable
    }

    /// Positions of the first and the last row.
    pub(crate) fn span(&self) -> Option<(i64, i64)> {
        Some((self.rows.first()?.seq, self.rows.last()?.seq))
    }

    /// How many rows there are.
    pub(crate) fn len(&self) -> usize {
        self.rows.len()
    }

    /// The rows: position, record, hash.
    pub(crate) fn records(&self) -> impl Iterator<Item = (i64, &[u8], Option<Hash>)> {
        self.rows.iter().map(|row| (row.seq, &self.bytes[row.record.clone()], row.hash))
    }
}

/// Walks along a part of a chain.
#[derive(Debug)]
pub(crate) struct Walk {
    /// The last record that fitted.
    pub(crate) end: Link,
    /// The newest [`PRUNE`] record met, and its position.
    pub(crate) pruned: Option<(i64, Pruned)>,
}

impl Walk {
    /// After the record `from`.
    pub(crate) fn after(from: Link) -> Walk {
        Walk { end: from, pruned: None }
    }

    /// Takes the next records.
    pub(crate) fn take(&mut self, chunk: &Chunk) -> Result<(), Break> {
        // As many as have the right positions; the hash of each begins with the one that is kept of the record before.
        let mut messages = Messages::with_capacity(chunk.rows.len(), chunk.bytes.len() + chunk.rows.len() * 109);
        let mut before = self.end;
        for row in &chunk.rows {
            let Some(hash) = row.hash.filter(|_| row.seq == before.seq + 1) else { break };
            messages.push(&[&prefix(&before.hash, row.seq), &chunk.bytes[row.record.clone()]]);
            before = Link { seq: row.seq, hash };
        }
        let hashes = messages.hashes();
        for (n, hash) in hashes.iter().enumerate() {
            let row = &chunk.rows[n];
            if row.hash != Some(*hash) {
                return broken(
                    row.seq,
                    "this record, or the hash of the one before it, was changed after it was written",
                );
            }
            self.check(chunk, row)?;
            self.end = Link { seq: row.seq, hash: *hash };
        }
        let next = self.end.seq + 1;
        match chunk.rows.get(hashes.len()) {
            Some(row) if row.seq == next => broken(next, "the hash of the record was changed after it was written"),
            Some(_) => broken(next, "the record is missing"),
            None if chunk.unreadable => broken(next, "the record cannot be read"),
            None => Ok(()),
        }
    }

    fn check(&mut self, chunk: &Chunk, row: &Row) -> Result<(), Break> {
        let action = &chunk.bytes[row.action.clone()];
        let Some(parts) = Parts::of(&chunk.bytes[row.record.clone()]) else {
            return broken(row.seq, "the record cannot be read");
        };
        let filed_right = parts.user_id() == Some(row.user_id)
            && parts.action == action
            && parts.entity_type == &chunk.bytes[row.entity_type.clone()]
            && parts.at_us == row.at_us;
        if !filed_right {
            return broken(row.seq, "the record is filed under another user, action, entity type or time than its own");
        }
        if action == PRUNE.as_bytes() && parts.source == crate::NAME.as_bytes() && parts.success {
            let Ok(pruned) = serde_json::from_slice(parts.details) else {
                return broken(row.seq, "the record of a removal cannot be read");
            };
            self.pruned = Some((row.seq, pruned));
        }
        Ok(())
    }

    /// Whether the chain tells of the place where it begins.
    pub(crate) fn check_anchor(&self, anchor: Link) -> Result<(), Break> {
        match &self.pruned {
            Some((_, told)) if told.through_seq == anchor.seq && told.through_hash == hex::encode(anchor.hash) => {
                Ok(())
            }
            None if anchor == Link::START => Ok(()),
            Some((seq, _)) => {
                broken(*seq, "the newest record of a removal names another place than the chain begins at")
            }
            None => broken(anchor.seq, "the records up to this one are gone, and no record tells of their removal"),
        }
    }
}

fn broken<T>(seq: i64, reason: &'static str) -> Result<T, Break> {
    Err(Break { seq, reason })
}

#[cfg(test)]
mod tests {
    use chrono::DateTime;

    use super::*;
    use crate::domain::audit::{self, Entry};

    struct Kept {
        seq: i64,
        entry: Entry,
        user_id: Option<Uuid>,
        action: String,
        at_us: i64,
        record: Vec<u8>,
        hash: Vec<u8>,
    }

    fn entry(n: i64, action: &str, details: &str) -> Entry {
        Entry {
            id: Uuid::from_u128(7),
            user_id: (n % 2 == 0).then(|| Uuid::from_u128(1)),
            username: "al".into(),
            action: action.into(),
            entity_type: "user".into(),
            entity_id: n.to_string(),
            at: DateTime::from_timestamp_micros(1_700_000_000_123_456 + n).unwrap(),
            details: details.into(),
            success: true,
            address: "192.0.2.1".into(),
            user_agent: "curl".into(),
            request_id: "r".into(),
            source: "identity".into(),
        }
    }

    fn chain(after: Link, entries: Vec<Entry>) -> Vec<Kept> {
        let mut end = after;
        let keep = |entry: Entry| {
            let record = entry.encode();
            end = Link { seq: end.seq + 1, hash: audit::hash(&end.hash, end.seq + 1, &record) };
            Kept {
                seq: end.seq,
                user_id: entry.user_id,
                action: entry.action.clone(),
                at_us: entry.at.timestamp_micros(),
                hash: end.hash.to_vec(),
                entry,
                record,
            }
        };
        entries.into_iter().map(keep).collect()
    }

    fn ten() -> Vec<Kept> {
        chain(Link::START, (0..10).map(|n| entry(n, "ice", "{}")).collect())
    }

    fn walk_from(start: Link, kept: &[Kept]) -> Result<Walk, Break> {
        let mut walk = Walk::after(start);
        // Several chunks, so that their borders are met too.
        for part in kept.chunks(4) {
            let mut chunk = Chunk::default();
            for k in part {
                chunk.push(Stored {
                    seq: k.seq,
                    user_id: k.user_id,
                    action: &k.action,
                    entity_type: &k.entry.entity_type,
                    at_us: k.at_us,
                    record: &k.record,
                    hash: &k.hash,
                });
            }
            walk.take(&chunk)?;
        }
        Ok(walk)
    }

    #[test]
    fn a_walk_names_the_first_break() {
        let found = |change: &dyn Fn(&mut Vec<Kept>)| {
            let mut kept = ten();
            change(&mut kept);
            walk_from(Link::START, &kept).map(|walk| walk.end.seq).map_err(|at| (at.seq, at.reason))
        };
        assert_eq!(found(&|_| {}), Ok(10));
        let (changed, missing) = (
            "this record, or the hash of the one before it, was changed after it was written",
            "the record is missing",
        );
        for n in 0..10 {
            let seq = n as i64 + 1;
            let edit = |k: &mut Kept| {
                k.entry.username = "eve".into();
                k.record = k.entry.encode();
            };
            assert_eq!(found(&|kept| edit(&mut kept[n])), Err((seq, changed)));
            assert_eq!(found(&|kept| kept[n].hash[3] ^= 1), Err((seq, changed)));
            // With its hash made to fit, the next one does not follow.
            let rehashed = found(&|kept| {
                edit(&mut kept[n]);
                let before = if n == 0 { NO_HASH } else { kept[n - 1].hash.as_slice().try_into().unwrap() };
                kept[n].hash = audit::hash(&before, seq, &kept[n].record).to_vec();
            });
            assert_eq!(rehashed, if n == 9 { Ok(10) } else { Err((seq + 1, changed)) });
            let removed = found(&|kept| drop(kept.remove(n)));
            assert_eq!(removed, if n == 9 { Ok(9) } else { Err((seq, missing)) });
            let refiled = found(&|kept| kept[n].action = "nice".into());
            assert_eq!(refiled.unwrap_err().0, seq);
            assert_eq!(found(&|kept| kept[n].at_us += 1).unwrap_err().0, seq);
            assert_eq!(found(&|kept| kept[n].user_id = Some(Uuid::from_u128(9))).unwrap_err().0, seq);
            assert_eq!(found(&|kept| kept[n].hash.truncate(31)).unwrap_err().0, seq);
            assert_eq!(found(&|kept| kept[n].record.truncate(99)).unwrap_err().0, seq);
        }
        // Two records that changed places, positions and all.
        let swapped = found(&|kept| {
            let (a, b) = (kept[4].seq, kept[5].seq);
            (kept[4].seq, kept[5].seq) = (b, a);
            kept.swap(4, 5);
        });
        assert_eq!(swapped, Err((5, changed)));
    }

    #[test]
    fn rows_in_one_value_are_told_apart_or_not_taken() {
        let pack = |kept: &[Kept]| {
            let mut bytes = Vec::new();
            for k in kept {
                bytes.extend([k.hash.as_slice(), &k.record, k.action.as_bytes(), &[MARK]].concat());
                let user = k.user_id.map(|id| id.simple().to_string().to_uppercase()).unwrap_or_default();
                let columns = [k.entry.entity_type.clone(), k.at_us.to_string(), user];
                bytes.extend(columns.iter().flat_map(|column| [column.as_bytes(), &[MARK]].concat()));
            }
            bytes
        };
        let mut kept = ten();
        let bytes = pack(&kept);
        let chunk = Chunk::unpack(1, bytes.clone()).unwrap();
        assert_eq!((chunk.len(), chunk.span()), (10, Some((1, 10))));
        let mut walk = Walk::after(Link::START);
        assert_eq!(walk.take(&chunk), Ok(()));
        assert_eq!(walk.end.seq, 10);
        for end in 1..bytes.len() {
            let whole = Chunk::unpack(1, bytes[..end].to_vec());
            assert!(whole.is_none_or(|chunk| bytes[..end] == pack(&kept[..chunk.len()])), "{end}");
        }
        assert!(Chunk::unpack(1, Vec::new()).unwrap().is_empty());
        // What is in one column is not taken for two.
        kept[4].action = "ice\u{1f}user".into();
        assert!(Chunk::unpack(1, pack(&kept)).is_none());
        kept[4].entry.entity_type = kept[4].at_us.to_string();
        assert!(Chunk::unpack(1, pack(&kept)).is_none());
    }

    #[test]
    fn where_the_chain_begins_is_told_by_the_chain() {
        let kept = ten();
        let anchor = Link { seq: 3, hash: kept[2].hash.as_slice().try_into().unwrap() };
        let end = Link { seq: 10, hash: kept[9].hash.as_slice().try_into().unwrap() };
        let told = Pruned {
            through_seq: 3,
            through_hash: hex::encode(anchor.hash),
            removed: 3,
            before: "2024-01-01T00:00:00Z".into(),
        };
        let prune = |told: &Pruned| chain(end, vec![entry(10, PRUNE, &serde_json::to_string(told).unwrap())]);
        let verdict = |start: Link, more: Vec<Kept>| {
            let walked = walk_from(start, &ten()[start.seq as usize..])?;
            let mut rest = walk_from(walked.end, &more)?;
            rest.pruned = rest.pruned.or(walked.pruned);
            rest.check_anchor(start)
        };
        assert_eq!(verdict(anchor, prune(&told)), Ok(()));
        assert_eq!(verdict(Link::START, Vec::new()), Ok(()));
        // The prefix is gone and the anchor made to fit, but nothing tells of it.
        assert_eq!(verdict(anchor, Vec::new()).unwrap_err().seq, 3);
        // More is gone than was told.
        assert_eq!(verdict(anchor, prune(&Pruned { through_seq: 2, ..told.clone() })).unwrap_err().seq, 11);
        assert_eq!(verdict(anchor, prune(&Pruned { through_hash: "00".into(), ..told.clone() })).unwrap_err().seq, 11);
        // A removal is told of, and the beginning is there.
        assert_eq!(verdict(Link::START, prune(&told)).unwrap_err().seq, 11);
        let nonsense = chain(end, vec![entry(10, PRUNE, "{}")]);
        assert_eq!(verdict(anchor, nonsense).unwrap_err().seq, 11);
        // Somebody else's record of that name tells nothing.
        let mut foreign = entry(10, PRUNE, &serde_json::to_string(&told).unwrap());
        foreign.source = "testing".into();
        assert_eq!(verdict(anchor, chain(end, vec![foreign])).unwrap_err().seq, 3);
    }
}
