//! Names of captured files.

use chrono::{DateTime, Utc};

/// Longest name that is kept, characters.
const MAX_NAME: usize = 100;

/// `<time>_<first 12 hex of sha256>_<name>`; sensors make the same of the same.
pub(crate) fn stored_as(captured_at: DateTime<Utc>, sha256: &str, name: &str) -> String {
    let hash: String = sha256.chars().take(12).collect();
    format!("{}_{hash}_{}", captured_at.format("%Y-%m-%dT%H:%M:%SZ"), clean(name))
}

/// A name without a folder and without what a file name should not have.
pub(crate) fn clean(name: &str) -> String {
    let last = name.rsplit(['/', '\\']).next().unwrap_or_default();
    let good = |c: char| if c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-') { c } else { '_' };
    let name: String = last.chars().map(good).take(MAX_NAME).collect();
    if name.chars().all(|c| c == '.') { "file".to_owned() } else { name }
}

/// Whether this can be the name of a decky.
pub(crate) fn is_decky(name: &str) -> bool {
    let good = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit();
    name.len() <= 63 && name.bytes().next().is_some_and(good) && name.bytes().all(|c| good(c) || c == b'-')
}

/// Whether this can be what a file is stored as.
pub(crate) fn is_stored_as(name: &str) -> bool {
    let mut parts = name.splitn(3, '_');
    let (Some(time), Some(hash), Some(rest)) = (parts.next(), parts.next(), parts.next()) else { return false };
    let pattern = b"dddd-dd-ddTdd:dd:ddZ";
    let is_time = time.len() == pattern.len()
        && time.bytes().zip(pattern).all(|(c, p)| if *p == b'd' { c.is_ascii_digit() } else { c == *p });
    let is_hash = hash.len() == 12 && is_hex(hash);
    let name = |c: u8| c.is_ascii_alphanumeric() || matches!(c, b'.' | b'_' | b'-');
    is_time && is_hash && (1..=255).contains(&rest.len()) && rest.bytes().all(name)
}

/// Whether this is hex in small letters.
pub(crate) fn is_hex(text: &str) -> bool {
    text.bytes().all(|c| c.is_ascii_digit() || matches!(c, b'a'..=b'f'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_clean_and_known_again() {
        let at = DateTime::from_timestamp(1_776_000_000, 999).unwrap();
        let hash = "abcdef0123456789".repeat(4);
        for (name, cleaned) in [
            ("payload.sh", "payload.sh"),
            ("../../etc/passwd", "passwd"),
            ("C:\\temp\\x y.exe", "x_y.exe"),
            ("", "file"),
            ("..", "file"),
            ("dir/", "file"),
            ("ä\n;", "___"),
            (&"n".repeat(500), &"n".repeat(100)),
        ] {
            let stored = stored_as(at, &hash, name);
            assert_eq!(stored, format!("2026-04-12T13:20:00Z_abcdef012345_{cleaned}"));
            assert!(is_stored_as(&stored), "{stored}");
        }
    }

    #[test]
    fn what_is_no_such_name_is_refused() {
        let good = "2026-04-18T02:22:56Z_abcdef012345_payload.sh";
        assert!(is_stored_as(good));
        for bad in [
            "",
            "payload.sh",
            "2026-04-18T02:22:56Z_abcdef012345_",
            "2026-04-18T02:22:56Z_ABCDEF012345_a",
            "2026-04-18T02:22:56Z_abcdef01234_a",
            "2026-04-18 02:22:56Z_abcdef012345_a",
            "2026-04-18T02:22:56Z_abcdef012345_../a",
            &format!("2026-04-18T02:22:56Z_abcdef012345_{}", "a".repeat(256)),
        ] {
            assert!(!is_stored_as(bad), "{bad}");
        }
        assert!(is_decky("decky-03") && is_decky("0") && is_decky(&"a".repeat(63)));
        for bad in ["", "-a", "A", "a_b", "a/b", "..", &"a".repeat(64)] {
            assert!(!is_decky(bad), "{bad}");
        }
    }
}
