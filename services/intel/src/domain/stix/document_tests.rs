//! Documents that are whole, cut, foreign or endless.

use std::io::{self, Read};

use serde_json::json;

use super::tests::{bundle, pattern, read, with};
use super::*;

#[test]
fn documents_that_cannot_be_read_are_told_apart() {
    let good = bundle(vec![pattern(1, "T1001")]);
    assert!(matches!(read(b""), Err(ParseError::Empty)));
    assert!(matches!(read(b" \n"), Err(ParseError::Empty)));
    assert!(matches!(read(b"<!DOCTYPE html><html>"), Err(ParseError::WebPage)));
    assert!(matches!(read(b"key: value"), Err(ParseError::NotJson { byte: 0, .. })));
    assert!(matches!(
        read(b"{\"type\":\"bundle\",\"objects\":[{\"a\":\n tru}]}"),
        Err(ParseError::NotJson { byte: 38, .. })
    ));
    assert!(matches!(read(b"{\"type\":\"bundle\" \"objects\":[]}"), Err(ParseError::NotJson { byte: 17, .. })));
    assert!(matches!(read(b"{,}"), Err(ParseError::NotJson { byte: 1, .. })));
    assert!(matches!(read(b"{\"objects\":[],}"), Err(ParseError::NotJson { byte: 14, .. })));
    assert!(matches!(read(&[&good[..], b"x"].concat()), Err(ParseError::NotJson { .. })));
    assert!(matches!(read(b"\xFF\xFE{\x00"), Err(ParseError::NotUtf8 { byte: 0, .. })));
    for cut in 1..good.len() {
        let result = read(&good[..cut]);
        assert!(
            matches!(result, Err(ParseError::Truncated { bytes, .. }) if bytes == cut as u64),
            "cut at {cut}: {result:?}"
        );
    }
    for (text, part) in [
        ("[]", "a JSON list"),
        ("{}", "no `type`"),
        (r#"{"objects":[]}"#, "no `type`"),
        (r#"{"type":"bundle"}"#, "no `objects`"),
        (r#"{"type":"bundle","objects":{}}"#, "`objects` is not a list"),
        (r#"{"type":"bundle","objects":[],"objects":[]}"#, "`objects` twice"),
        (r#"{"objects":[],"type":"feed"}"#, "`type` is \"feed\""),
        (r#"{"objects":[],"type":3}"#, "`type` is 3"),
    ] {
        match read(text.as_bytes()) {
            Err(ParseError::NotABundle(told)) => assert!(told.contains(part), "{text}: {told}"),
            other => panic!("{text}: {other:?}"),
        }
    }
    let none = read(&bundle(vec![])).unwrap_err();
    assert!(matches!(&none, ParseError::NoTechniques(told) if told.contains("none of its 0 objects")), "{none}");
    let bad = read(&bundle(vec![json!({"type": "malware"}), pattern(1, "bad")])).unwrap_err();
    assert!(matches!(&bad, ParseError::NoTechniques(told) if told.contains("such as bad")), "{bad}");
}

#[test]
fn a_byte_order_mark_is_tolerated_and_broken_utf8_is_not() {
    let good = bundle(vec![with(pattern(1, "T1001"), "name", json!("Gr\u{fc}\u{df}e"))]);
    assert_eq!(read(&[b"\xEF\xBB\xBF", &good[..]].concat()).unwrap().techniques[0].name, "Gr\u{fc}\u{df}e");
    let at = good.iter().position(|byte| *byte == 0xC3).unwrap();
    let mut broken = good.clone();
    broken[at] = 0xFF;
    let error = read(&broken).unwrap_err();
    assert!(matches!(error, ParseError::NotUtf8 { byte, .. } if byte == at as u64), "{error}");
    assert!(error.to_string().contains("(object 1)"), "{error}");
}

/// Gives a few bytes at a time, then an error.
struct Failing<'a>(&'a [u8]);

impl Read for Failing<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.0.is_empty() {
            return Err(io::Error::other("the disk is on fire"));
        }
        let count = self.0.len().min(buffer.len()).min(7);
        let (now, later) = self.0.split_at(count);
        buffer[..count].copy_from_slice(now);
        self.0 = later;
        Ok(count)
    }
}

#[test]
fn a_reader_that_fails_is_told() {
    let good = bundle(vec![pattern(1, "T1001")]);
    let error = parse_attack(Failing(&good[..good.len() - 20]), &mut |_| {}).unwrap_err();
    assert!(error.to_string().contains("on fire"), "{error}");
}

#[test]
fn values_longer_than_the_window_are_read_and_unbounded_ones_are_not() {
    let contents: Vec<String> = (0..60_000).map(|n| format!("attack-pattern--{n}")).collect();
    let collection = json!({"type": "x-mitre-collection", "x_mitre_contents": contents, "name": "Enterprise ATT&CK", "x_mitre_version": "1.0"});
    // Numbers and literals between the objects, so that one falls on the window's edge.
    let mut objects = vec![collection];
    objects.extend((0..200_000).map(|n| json!(n)));
    objects.push(pattern(1, "T1001"));
    let document = read(&bundle(objects)).unwrap();
    assert_eq!(document.upstream_version.as_deref(), Some("1.0"));
    assert_eq!((document.objects_total, document.skipped_total), (200_002, 200_000));

    let endless =
        io::Cursor::new(b"{\"type\":\"bundle\",\"objects\":[{\"type\":\"x\",\"y\":\"".to_vec()).chain(io::repeat(b'y'));
    let error = parse_attack(endless, &mut |_| {}).unwrap_err();
    assert!(matches!(error, ParseError::TooLarge(_)), "{error}");
    let error = parse_attack(io::Cursor::new(b"{\"".to_vec()).chain(io::repeat(b'y')), &mut |_| {}).unwrap_err();
    assert!(matches!(error, ParseError::TooLarge(_)), "{error}");
}
