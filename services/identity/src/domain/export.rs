//! Exports of the audit trail: one record a line, in JSON, and the check of such a file by itself.

use chrono::{DateTime, SecondsFormat, Utc};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use uuid::Uuid;

use super::{
    audit::{self, Entry, Record, raw},
    chain::{Break, Link},
};

/// A line. The fields are those of the REST interface; what is empty is null.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Line<'a> {
    seq: i64,
    id: Uuid,
    timestamp: String,
    user_id: Option<Uuid>,
    username: Option<String>,
    action: String,
    entity_type: Option<String>,
    entity_id: Option<String>,
    /// Byte for byte what was hashed.
    #[serde(borrow)]
    details: Option<&'a RawValue>,
    /// Instead, where it is no JSON on one line.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    details_text: Option<String>,
    success: bool,
    address: Option<String>,
    user_agent: Option<String>,
    request_id: Option<String>,
    source: String,
    prev_hash: Option<String>,
    hash: String,
}

/// Appends a record and a line break.
pub(crate) fn write(lines: &mut Vec<u8>, record: &Record) -> serde_json::Result<()> {
    let Record { seq, entry, prev_hash, hash } = record;
    let filled = |text: &str| (!text.is_empty()).then(|| text.to_owned());
    let details = raw(&entry.details);
    let line = Line {
        seq: *seq,
        id: entry.id,
        timestamp: entry.at.to_rfc3339_opts(SecondsFormat::Micros, true),
        user_id: entry.user_id,
        username: filled(&entry.username),
        action: entry.action.clone(),
        entity_type: filled(&entry.entity_type),
        entity_id: filled(&entry.entity_id),
        details,
        details_text: details.is_none().then(|| entry.details.clone()),
        success: entry.success,
        address: filled(&entry.address),
        user_agent: filled(&entry.user_agent),
        request_id: filled(&entry.request_id),
        source: entry.source.clone(),
        prev_hash: prev_hash.map(hex::encode),
        hash: hex::encode(hash),
    };
    serde_json::to_writer(&mut *lines, &line)?;
    lines.push(b'\n');
    Ok(())
}

/// The record of a line, if it is one.
fn read(line: &[u8]) -> Option<Record> {
    let line: Line<'_> = serde_json::from_slice(line).ok()?;
    let text = Option::unwrap_or_default;
    let hash = |text: String| {
        let mut hash = [0; 32];
        hex::decode_to_slice(text, &mut hash).ok().map(|()| hash)
    };
    let entry = Entry {
        id: line.id,
        user_id: line.user_id,
        username: text(line.username),
        action: line.action,
        entity_type: text(line.entity_type),
        entity_id: text(line.entity_id),
        at: line.timestamp.parse::<DateTime<Utc>>().ok()?,
        // `null` is read as nothing, and can be what was written.
        details: line.details_text.unwrap_or_else(|| line.details.map_or("null", RawValue::get).to_owned()),
        success: line.success,
        address: text(line.address),
        user_agent: text(line.user_agent),
        request_id: text(line.request_id),
        source: line.source,
    };
    let prev_hash = match line.prev_hash {
        Some(text) => Some(hash(text)?),
        None => None,
    };
    Some(Record { seq: line.seq, entry, prev_hash, hash: hash(line.hash)? })
}

/// Checks the lines of an export, one after the other.
#[derive(Debug, Default)]
pub(crate) struct FileWalk {
    /// Lines that fitted.
    pub(crate) records: i64,
    /// The first record.
    pub(crate) first: Option<i64>,
    /// The last record that fitted.
    pub(crate) last: Option<Link>,
    /// Places where records lie between two lines that are not in the file.
    pub(crate) gaps: i64,
    /// The first position that is not in the file.
    pub(crate) first_gap: Option<i64>,
}

impl FileWalk {
    /// Takes the next line.
    pub(crate) fn take(&mut self, line: &[u8]) -> Result<(), Break> {
        let at = |seq, reason| Err(Break { seq, reason });
        let Some(record) = read(line) else {
            return at(self.last.map_or(0, |last| last.seq + 1), "the line is no record of an export");
        };
        let seq = record.seq;
        let Some(prev_hash) = record.prev_hash else {
            return at(seq, "the record before it was missing when it was exported");
        };
        if audit::hash(&prev_hash, seq, &record.entry.encode()) != record.hash {
            return at(seq, "the record was changed after it was written");
        }
        if let Some(last) = self.last {
            if seq <= last.seq {
                return at(seq, "the record is not behind the one before it");
            }
            if seq == last.seq + 1 && prev_hash != last.hash {
                return at(seq, "the record does not follow the one before it");
            }
            if seq > last.seq + 1 {
                self.gaps += 1;
                self.first_gap.get_or_insert(last.seq + 1);
            }
        }
        self.first.get_or_insert(seq);
        self.last = Some(Link { seq, hash: record.hash });
        self.records += 1;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::audit::NO_HASH;

    fn lines(details: &[&str]) -> Vec<Vec<u8>> {
        let mut prev_hash = NO_HASH;
        let line = |(n, details): (usize, &&str)| {
            let seq = n as i64 + 1;
            let entry = Entry {
                id: Uuid::from_u128(7),
                user_id: (n % 2 == 0).then(|| Uuid::from_u128(1)),
                username: "'; DROP TABLE x --".into(),
                action: "ice".into(),
                entity_type: String::new(),
                entity_id: "\u{2028}\"}{".into(),
                at: DateTime::from_timestamp_micros(-1_500_000 * seq + 7).unwrap(),
                details: (*details).into(),
                success: true,
                address: "192.0.2.1".into(),
                user_agent: "cu\\rl\u{1b}[31m".into(),
                request_id: "r".into(),
                source: "identity".into(),
            };
            let hash = audit::hash(&prev_hash, seq, &entry.encode());
            let record = Record { seq, entry, prev_hash: Some(prev_hash), hash };
            prev_hash = hash;
            let mut line = Vec::new();
            write(&mut line, &record).unwrap();
            assert_eq!(read(&line), Some(record));
            line
        };
        details.iter().enumerate().map(line).collect()
    }

    fn walk(lines: &[Vec<u8>]) -> Result<FileWalk, Break> {
        let mut walk = FileWalk::default();
        lines.iter().try_for_each(|line| walk.take(line)).map(|()| walk)
    }

    #[test]
    fn a_line_is_one_line_and_says_all_that_was_hashed() {
        let details = ["{}", r#"{"a":[1.50,"\n"]}"#, "no JSON", "{\n}", "{}\r\n{}", "\u{1b}", "null", " {}", ""];
        let lines = lines(&details);
        for line in &lines {
            assert!(line.ends_with(b"}\n"));
            assert!(!line[..line.len() - 1].iter().any(u8::is_ascii_control), "{}", String::from_utf8_lossy(line));
            let value: serde_json::Value = serde_json::from_slice(line).unwrap();
            assert_eq!(value["entity_type"], serde_json::Value::Null);
        }
        let walk = walk(&lines).unwrap();
        assert_eq!((walk.records, walk.gaps, walk.last.map(|last| last.seq)), (9, 0, Some(9)));
    }

    #[test]
    fn a_file_is_checked_by_itself() {
        let good = lines(&["{}", "{}", "{}", r#"{"a":1}"#]);
        let part = walk(&[good[1].clone(), good[3].clone()]).unwrap();
        assert_eq!((part.records, part.gaps, part.first_gap, part.first), (2, 1, Some(3), Some(2)));
        let order = walk(&[good[1].clone(), good[0].clone()]).unwrap_err();
        assert_eq!((order.seq, order.reason), (1, "the record is not behind the one before it"));
        assert_eq!(walk(&[good[1].clone(), good[1].clone()]).unwrap_err().seq, 2);
        let text = String::from_utf8(good[3].clone()).unwrap();
        for (from, to) in [
            (r#""success":true"#, r#""success":false"#),
            (r#"{"a":1}"#, r#"{"a": 1}"#),
            (r#""seq":4"#, r#""seq":5"#),
            (r#""action":"ice""#, r#""action":"rice""#),
            (r#""source""#, r#""note":"unhashed","source""#),
            (r#""action""#, r#""action":"ice","action""#),
        ] {
            assert!(text.contains(from), "{from}");
            let mut forged = good.clone();
            forged[3] = text.replacen(from, to, 1).into_bytes();
            assert!(walk(&forged).is_err(), "{to}");
        }
        assert_eq!(walk(&[b"{}\n".to_vec()]).unwrap_err().reason, "the line is no record of an export");
    }
}
