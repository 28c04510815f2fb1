//! Canonical JSON, so that a hash tells a change of content from a change of spelling or of date.

use serde_json::Value;
use sha2::{Digest, Sha256};

/// SHA-256 of a STIX object as JSON with sorted keys and no white space, without its own `modified`.
///
/// `modified` is left out because publishers move it without changing anything else, and change content without moving it.
pub(super) fn content_hash(object: &serde_json::Map<String, Value>, scratch: &mut Vec<u8>) -> [u8; 32] {
    scratch.clear();
    write_object(object, Some("modified"), scratch);
    Sha256::digest(scratch.as_slice()).into()
}

fn write_object(object: &serde_json::Map<String, Value>, without: Option<&str>, out: &mut Vec<u8>) {
    // The map keeps the document's order when a serde_json feature is on, so sort here.
    let mut members: Vec<_> = object.iter().filter(|(key, _)| Some(key.as_str()) != without).collect();
    members.sort_unstable_by_key(|(key, _)| key.as_str());
    out.push(b'{');
    for (index, (key, value)) in members.into_iter().enumerate() {
        if index > 0 {
            out.push(b',');
        }
        write_string(key, out);
        out.push(b':');
        write_value(value, out);
    }
    out.push(b'}');
}

/// Depth is bounded by the parser's recursion limit.
fn write_value(value: &Value, out: &mut Vec<u8>) {
    match value {
        Value::Null => out.extend_from_slice(b"null"),
        Value::Bool(true) => out.extend_from_slice(b"true"),
        Value::Bool(false) => out.extend_from_slice(b"false"),
        Value::Number(number) => out.extend_from_slice(number.to_string().as_bytes()),
        Value::String(text) => write_string(text, out),
        Value::Array(items) => {
            out.push(b'[');
            for (index, item) in items.iter().enumerate() {
                if index > 0 {
                    out.push(b',');
                }
                write_value(item, out);
            }
            out.push(b']');
        }
        Value::Object(object) => write_object(object, None, out),
    }
}

fn write_string(text: &str, out: &mut Vec<u8>) {
    out.push(b'"');
    let mut rest = text.as_bytes();
    while let Some(at) = rest.iter().position(|byte| matches!(byte, b'"' | b'\\' | 0..=0x1F)) {
        out.extend_from_slice(&rest[..at]);
        match rest[at] {
            b'"' => out.extend_from_slice(b"\\\""),
            b'\\' => out.extend_from_slice(b"\\\\"),
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\r' => out.extend_from_slice(b"\\r"),
            b'\t' => out.extend_from_slice(b"\\t"),
            0x08 => out.extend_from_slice(b"\\b"),
            0x0C => out.extend_from_slice(b"\\f"),
            control => out.extend_from_slice(format!("\\u{control:04x}").as_bytes()),
        }
        rest = &rest[at + 1..];
    }
    out.extend_from_slice(rest);
    out.push(b'"');
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hash(text: &str) -> [u8; 32] {
        let value: Value = serde_json::from_str(text).unwrap();
        content_hash(value.as_object().unwrap(), &mut Vec::new())
    }

    #[test]
    fn order_spelling_and_the_objects_own_date_do_not_count() {
        let one = hash(r#"{"b":[1,{"y":"\u00e9\"\u0001","x":null}],"a":true,"modified":"2024"}"#);
        let two =
            hash("{ \"modified\": \"2025\", \"a\": true, \"b\": [1, {\"x\": null, \"y\": \"\u{e9}\\\"\\u0001\"}] }");
        assert_eq!(one, two);
        // Counted apart: sha256 of the canonical text.
        let text = "{\"a\":true,\"b\":[1,{\"x\":null,\"y\":\"\u{e9}\\\"\\u0001\"}]}";
        assert_eq!(one, <[u8; 32]>::from(Sha256::digest(text.as_bytes())));
    }

    #[test]
    fn an_inner_date_and_an_order_of_list_items_count() {
        assert_ne!(hash(r#"{"a":{"modified":"1"}}"#), hash(r#"{"a":{"modified":"2"}}"#));
        assert_ne!(hash(r#"{"a":[1,2]}"#), hash(r#"{"a":[2,1]}"#));
        assert_ne!(hash(r#"{"a":"1"}"#), hash(r#"{"a":1}"#));
    }
}
