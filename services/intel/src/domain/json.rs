//! What the readers of JSON documents share: one way to open them, and a tolerant look at their members.

use std::collections::BTreeSet;

use serde::Deserialize;
use serde_json::Value;
use serde_json::error::Category;

use super::knowledge::ReadError;

/// Reads a document, and says what is wrong with it and what to do. `name` is what an administrator knows it by.
pub(crate) fn read<'a, T: Deserialize<'a>>(name: &str, bytes: &'a [u8]) -> Result<T, ReadError> {
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    // Checked whole: members that are not looked at would pass unseen.
    let text = std::str::from_utf8(bytes).map_err(|error| {
        let byte = error.valid_up_to();
        if error.error_len().is_none() {
            return ReadError(format!(
                "{name} ends too early, after {byte} bytes: the download was cut; fetch it again"
            ));
        }
        ReadError(format!(
            "{name} is not UTF-8 at byte {byte}: the file is damaged or has another encoding; fetch it again"
        ))
    })?;
    serde_json::from_str(text).map_err(|error| match error.classify() {
        Category::Eof => ReadError(format!(
            "{name} ends too early, after {} bytes: the download was cut; fetch it again",
            bytes.len()
        )),
        Category::Data => {
            ReadError(format!("{name} has another form than its publisher's: {error}; check the source's url"))
        }
        Category::Syntax | Category::Io => {
            ReadError(format!("{name} is not JSON: {error}; fetch it again, or check the source's url"))
        }
    })
}

/// At most `max` characters of a text, without the white space around it; `None` for nothing.
pub(crate) fn bounded(text: &str, max: usize) -> Option<String> {
    let text = text.trim();
    let end = text.char_indices().nth(max).map_or(text.len(), |(at, _)| at);
    let text = text[..end].trim_end();
    (!text.is_empty()).then(|| text.to_owned())
}

/// The texts of a member that is one text or a list, of JSON-LD also one object with a `@value`; each once, in
/// their order, at most `max` of them with at most `chars` characters each.
pub(crate) fn texts(value: Option<&Value>, max: usize, chars: usize) -> Vec<String> {
    let mut seen = BTreeSet::new();
    items(value)
        .iter()
        .filter_map(|item| match item {
            Value::String(text) => bounded(text, chars),
            Value::Number(number) => Some(number.to_string()),
            Value::Object(object) => bounded(object.get("@value")?.as_str()?, chars),
            _ => None,
        })
        .filter(|text| seen.insert(text.clone()))
        .take(max)
        .collect()
}

/// The first of [`texts`].
pub(crate) fn text(value: Option<&Value>, chars: usize) -> Option<String> {
    texts(value, 1, chars).pop()
}

/// A member that is one thing or a list of them, as a list.
pub(crate) fn items(value: Option<&Value>) -> &[Value] {
    match value {
        None | Some(Value::Null) => &[],
        Some(Value::Array(items)) => items,
        Some(one) => std::slice::from_ref(one),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_bad_document_says_what_to_do() {
        let read = |bytes: &[u8]| read::<Value>("kev.json", bytes).map_err(|error| error.0);
        assert_eq!(read(b"\xef\xbb\xbf{\"a\": 1}"), Ok(json!({"a": 1})));
        assert_eq!(
            read(br#"{"a": [1, 2"#).unwrap_err(),
            "kev.json ends too early, after 11 bytes: the download was cut; fetch it again"
        );
        assert!(read(b"{\"a\": \"\xff\"}").unwrap_err().starts_with("kev.json is not UTF-8 at byte 7"));
        assert!(read("{\"a\": \"é".as_bytes().split_last().unwrap().1).unwrap_err().contains("ends too early"));
        assert!(read(b"<html>").unwrap_err().starts_with("kev.json is not JSON"));
        assert!(read(&b"[".repeat(10_000)).is_err());
    }

    #[test]
    fn a_member_is_one_or_many() {
        assert_eq!(texts(Some(&json!("a")), 9, 9), ["a"]);
        assert_eq!(texts(Some(&json!([" a ", "b", "a", {"@value": "c"}, null, ""])), 9, 9), ["a", "b", "c"]);
        assert_eq!(texts(Some(&json!(["abc", "def"])), 1, 2), ["ab"]);
        assert!(texts(Some(&Value::Null), 9, 9).is_empty());
        assert_eq!(bounded("  grün und ", 4).as_deref(), Some("grün"));
    }
}
