//! Keys that are safe as file names and as URLs, and file names that are safe in a header.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use crate::BlobError;

/// Longest key in characters.
pub const MAX_KEY: usize = 512;
/// Longest part of a key between slashes: a file name, with room for the name of its staging file.
const MAX_SEGMENT: usize = 200;
/// Longest file name in characters that is passed on to a reader.
const MAX_FILE_NAME: usize = 255;

/// What RFC 5987 lets stand as it is in an extended value.
const ATTR_CHAR: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'!')
    .remove(b'#')
    .remove(b'$')
    .remove(b'&')
    .remove(b'+')
    .remove(b'-')
    .remove(b'.')
    .remove(b'^')
    .remove(b'_')
    .remove(b'`')
    .remove(b'|')
    .remove(b'~');

pub(crate) fn check(key: &str) -> Result<(), BlobError> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-' | '/');
    let segment = |part: &str| !part.is_empty() && part != "." && part.len() <= MAX_SEGMENT;
    if key.len() <= MAX_KEY && key.chars().all(allowed) && !key.contains("..") && key.split('/').all(segment) {
        Ok(())
    } else {
        Err(BlobError::Invalid("blob key"))
    }
}

/// The `Content-Disposition` that makes a browser save a file under its name, whatever the name is.
pub fn content_disposition(file_name: &str) -> String {
    let name: String = file_name.chars().filter(|c| !c.is_control()).take(MAX_FILE_NAME).collect();
    let plain: String = name
        .chars()
        .map(|c| match c {
            'a'..='z' | 'A'..='Z' | '0'..='9' | ' ' | '.' | '_' | '-' => c,
            _ => '_',
        })
        .collect();
    let encoded = utf8_percent_encode(&name, ATTR_CHAR);
    format!("attachment; filename=\"{plain}\"; filename*=UTF-8''{encoded}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_cannot_leave_the_store() {
        for key in ["a", "a/b.c", "A-1_2/x.tar.gz", ".hidden", &"k".repeat(200)] {
            assert!(check(key).is_ok(), "{key}");
        }
        let long = ["s".repeat(100).as_str(); 6].join("/");
        for key in [
            "",
            "/",
            "/a",
            "a/",
            "a//b",
            "..",
            "a/..",
            "../a",
            "a/../b",
            "a..b",
            ".",
            "a/./b",
            "a b",
            "a\\b",
            "a%2e",
            "ä",
            "a\0",
            "a#1",
            "a:b",
            &"k".repeat(201),
            &long,
        ] {
            assert!(check(key).is_err(), "{key}");
        }
    }

    #[test]
    fn file_names_cannot_break_out_of_the_header() {
        assert_eq!(
            content_disposition("report 1.pdf"),
            "attachment; filename=\"report 1.pdf\"; filename*=UTF-8''report%201.pdf"
        );
        assert_eq!(
            content_disposition("naïve\"\r\nX: y.txt"),
            "attachment; filename=\"na_ve_X_ y.txt\"; filename*=UTF-8''na%C3%AFve%22X%3A%20y.txt"
        );
        assert!(content_disposition(&"x".repeat(10_000)).len() < 600);
    }
}
