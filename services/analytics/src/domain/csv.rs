//! Tests as lines of CSV (RFC 4180): what stands in which column, how it is written, and that no cell runs as a formula.

/// Between the fields of a record as the store hands it over. No text of a record has it.
pub(crate) const SEPARATOR: char = '\u{1f}';

/// What a field is, and so how it is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A UUID, as 32 hexadecimal digits or with hyphens.
    Id,
    /// A moment in UTC, as either database spells it.
    Time,
    /// Yes or no, as either database spells it.
    Flag,
    /// One of a few names of ours.
    Name,
    /// What people wrote.
    Text,
}

/// The columns of a test, in order.
pub(crate) const COLUMNS: [(&str, Kind); 21] = [
    ("id", Kind::Id),
    ("name", Kind::Text),
    ("technique_id", Kind::Id),
    ("mitre_id", Kind::Text),
    ("technique_name", Kind::Text),
    ("state", Kind::Name),
    ("detection_result", Kind::Name),
    ("attack_success", Kind::Flag),
    ("platform", Kind::Text),
    ("created_by", Kind::Id),
    ("created_by_username", Kind::Text),
    ("created_at", Kind::Time),
    ("updated_at", Kind::Time),
    ("executed_at", Kind::Time),
    ("detected_at", Kind::Time),
    ("validated_at", Kind::Time),
    ("remediation_status", Kind::Name),
    ("remediation_assignee", Kind::Id),
    ("remediation_due_date", Kind::Time),
    ("remediation_completed_at", Kind::Time),
    ("remediation_steps", Kind::Text),
];

/// Writes the line with the names of the columns.
pub(crate) fn header(out: &mut Vec<u8>) {
    for (n, (name, _)) in COLUMNS.iter().enumerate() {
        if n > 0 {
            out.push(b',');
        }
        out.extend_from_slice(name.as_bytes());
    }
    out.extend_from_slice(b"\r\n");
}

/// Writes a record, its fields in the order of [`COLUMNS`].
pub(crate) fn line(out: &mut Vec<u8>, record: &str) {
    let mut fields = record.split(SEPARATOR);
    for (n, (_, kind)) in COLUMNS.iter().enumerate() {
        if n > 0 {
            out.push(b',');
        }
        let field = fields.next().unwrap_or_default();
        match kind {
            Kind::Id => id(out, field),
            Kind::Time => time(out, field),
            Kind::Flag => flag(out, field),
            Kind::Name => out.extend_from_slice(field.as_bytes()),
            Kind::Text => text(out, field),
        }
    }
    out.extend_from_slice(b"\r\n");
}

/// A field of a record by the name of its column.
pub(crate) fn field<'a>(record: &'a str, column: &str) -> Option<&'a str> {
    let place = COLUMNS.iter().position(|(name, _)| *name == column)?;
    record.split(SEPARATOR).nth(place)
}

/// Writes a UUID with hyphens and small letters.
fn id(out: &mut Vec<u8>, field: &str) {
    let Ok(digits) = <&[u8; 32]>::try_from(field.as_bytes()) else {
        out.extend_from_slice(field.as_bytes());
        return;
    };
    let digits = digits.map(|digit| digit.to_ascii_lowercase());
    // Once for all: this is a good part of what a line costs.
    let mut text = [b'-'; 36];
    for (place, part) in [(0, 0..8), (9, 8..12), (14, 12..16), (19, 16..20), (24, 20..32)] {
        text[place..place + part.len()].copy_from_slice(&digits[part]);
    }
    out.extend_from_slice(&text);
}

/// Writes yes or no, from `1` of SQLite and `t` of PostgreSQL.
fn flag(out: &mut Vec<u8>, field: &str) {
    out.extend_from_slice(match field {
        "1" | "t" => b"true",
        "0" | "f" => b"false",
        _ => b"",
    });
}

/// Writes a moment as RFC 3339 with `Z` and none, three or six decimals, as the API does everywhere. Takes
/// `2026-01-02T03:04:05.678+00:00` of SQLite and `2026-01-02 03:04:05.678+00` of PostgreSQL.
pub(crate) fn time(out: &mut Vec<u8>, field: &str) {
    let bytes = field.as_bytes();
    let (Some(date), Some(clock)) = (bytes.get(..10), bytes.get(11..19)) else { return };
    out.extend_from_slice(date);
    out.push(b'T');
    out.extend_from_slice(clock);
    let rest = &bytes[19..];
    if rest.first() == Some(&b'.') {
        let decimals = &rest[1..];
        let end = decimals.iter().position(|b| !b.is_ascii_digit()).unwrap_or(decimals.len());
        // PostgreSQL leaves zeros at the end out.
        let places = end.min(6);
        out.push(b'.');
        out.extend_from_slice(&decimals[..places]);
        out.resize(out.len() + places.next_multiple_of(3) - places, b'0');
    }
    out.push(b'Z');
}

/// Writes what people wrote: in quotes where commas, quotes or line breaks make it necessary, and after an apostrophe
/// where a spreadsheet would take it for a formula.
pub(crate) fn text(out: &mut Vec<u8>, field: &str) {
    let formula = matches!(field.as_bytes().first(), Some(b'=' | b'+' | b'-' | b'@' | b'\t' | b'\r' | b'\n'))
        // The same signs in their full width, which spreadsheets of East Asia read alike.
        || field.starts_with(['＝', '＋', '－', '＠']);
    let quoted = field.bytes().any(|b| matches!(b, b',' | b'"' | b'\r' | b'\n'));
    if quoted {
        out.push(b'"');
    }
    if formula {
        out.push(b'\'');
    }
    if quoted {
        for (n, part) in field.split('"').enumerate() {
            if n > 0 {
                out.extend_from_slice(b"\"\"");
            }
            out.extend_from_slice(part.as_bytes());
        }
        out.push(b'"');
    } else {
        out.extend_from_slice(field.as_bytes());
    }
}

#[cfg(test)]
mod tests {
    use chrono::{DateTime, SecondsFormat};
    use proptest::prelude::*;

    use super::*;

    fn written(write: impl FnOnce(&mut Vec<u8>)) -> String {
        let mut out = Vec::new();
        write(&mut out);
        String::from_utf8(out).unwrap()
    }

    /// Reads one cell as RFC 4180 says.
    fn read(cell: &str) -> String {
        match cell.strip_prefix('"').and_then(|cell| cell.strip_suffix('"')) {
            Some(inner) => inner.replace("\"\"", "\""),
            None => cell.to_owned(),
        }
    }

    #[test]
    fn the_header_names_every_column() {
        let header = written(header);
        assert!(header.starts_with("id,name,technique_id,mitre_id,"));
        assert!(header.ends_with(",remediation_steps\r\n"));
        assert_eq!(header.split(',').count(), COLUMNS.len());
    }

    #[test]
    fn formulas_are_defused() {
        for (field, cell) in [
            ("=1+1", "'=1+1"),
            ("+49", "'+49"),
            ("-1", "'-1"),
            ("@SUM(A1)", "'@SUM(A1)"),
            ("\t=1", "'\t=1"),
            ("\r=1", "\"'\r=1\""),
            ("\n=1", "\"'\n=1\""),
            ("＝1", "'＝1"),
            ("=\"a\",b", "\"'=\"\"a\"\",b\""),
            ("a=1", "a=1"),
            ("", ""),
        ] {
            assert_eq!(written(|out| text(out, field)), cell, "{field:?}");
        }
    }

    #[test]
    fn ids_and_times_of_both_databases_are_written_alike() {
        let id_of = |field| written(|out| id(out, field));
        let wanted = "0199a1b2-c3d4-7e5f-8a9b-0c1d2e3f4a5b";
        assert_eq!(id_of("0199A1B2C3D47E5F8A9B0C1D2E3F4A5B"), wanted);
        assert_eq!(id_of(wanted), wanted);
        assert_eq!(id_of(""), "");
        let time_of = |field| written(|out| time(out, field));
        for (sqlite, postgres, wanted) in [
            ("2026-01-02T03:04:05+00:00", "2026-01-02 03:04:05+00", "2026-01-02T03:04:05Z"),
            ("2026-01-02T03:04:05.100+00:00", "2026-01-02 03:04:05.1+00", "2026-01-02T03:04:05.100Z"),
            ("2026-01-02T03:04:05.000001+00:00", "2026-01-02 03:04:05.000001+00", "2026-01-02T03:04:05.000001Z"),
            ("2026-01-02T03:04:05.123450+00:00", "2026-01-02 03:04:05.12345+00", "2026-01-02T03:04:05.123450Z"),
            ("", "", ""),
        ] {
            assert_eq!((time_of(sqlite).as_str(), time_of(postgres).as_str()), (wanted, wanted));
        }
    }

    #[test]
    fn a_record_has_its_fields_by_name() {
        let record = COLUMNS.map(|(name, _)| name).join("\u{1f}");
        assert!(COLUMNS.iter().all(|(name, _)| field(&record, name) == Some(*name)));
        assert_eq!(field(&record, "other"), None);
    }

    proptest! {
        #[test]
        fn what_was_written_is_read_again(field in "[ -~\n\r\t=+@\u{e9}\u{1f600}]{0,20}") {
            let cell = written(|out| text(out, &field));
            let wild = ['=', '+', '-', '@', '\t', '\r', '\n'];
            let wanted = if field.starts_with(wild) { format!("'{field}") } else { field };
            prop_assert!(!cell.starts_with(wild));
            prop_assert_eq!(read(&cell), wanted);
        }

        #[test]
        fn a_moment_stays_what_it_was(micros in 0..4_000_000_000_000_000_i64) {
            let at = DateTime::from_timestamp_micros(micros).unwrap();
            let stored = at.to_rfc3339_opts(SecondsFormat::AutoSi, false);
            prop_assert_eq!(written(|out| time(out, &stored)), at.to_rfc3339_opts(SecondsFormat::AutoSi, true));
        }
    }
}
