//! What gives a client away: its fingerprints, and the system behind it.

use super::facts::{Facts, cut};

/// The kinds of fingerprints, as they are told.
pub(crate) const KINDS: [&str; 4] = ["hassh", "ja3", "user_agent", "client_banner"];

/// The fingerprints in an event: kind and value.
pub(crate) fn of(facts: &Facts) -> impl Iterator<Item = (&'static str, String)> {
    let values = [&facts.hassh, &facts.ja3, &facts.user_agent, &facts.client_banner];
    KINDS.into_iter().zip(values).filter_map(|(kind, value)| Some((kind, cut(value.as_deref()?))))
}

/// The kind of that name.
pub(crate) fn kind(name: &str) -> Option<&'static str> {
    KINDS.into_iter().find(|kind| *kind == name)
}

/// What texts of clients say of their system: a part of the text in small letters, the system. The first that fits.
const SYSTEMS: &[(&str, &str)] = &[
    ("openssh_for_windows", "windows"),
    ("windows", "windows"),
    ("bitvise", "windows"),
    ("putty", "windows"),
    ("winscp", "windows"),
    ("android", "android"),
    ("iphone", "ios"),
    ("ipad", "ios"),
    ("mac os x", "macos"),
    ("macintosh", "macos"),
    ("darwin", "macos"),
    ("freebsd", "bsd"),
    ("openbsd", "bsd"),
    ("netbsd", "bsd"),
    ("dropbear", "embedded"),
    ("ubuntu", "linux"),
    ("debian", "linux"),
    ("raspbian", "linux"),
    ("linux", "linux"),
];

/// A word on which system a fingerprint belongs to, and its weight: a banner is rarely made up, a User-Agent often.
pub(crate) fn system(kind: &str, value: &str) -> Option<(&'static str, u64)> {
    let weight = match kind {
        "client_banner" => 2,
        "user_agent" => 1,
        _ => return None,
    };
    let value = value.to_lowercase();
    SYSTEMS.iter().find(|(part, _)| value.contains(part)).map(|(_, system)| (*system, weight))
}

/// What somebody else's look at its packets says of the system: a name, or the time to live with which they came.
pub(crate) fn system_of_packets(facts: &Facts) -> Option<(&'static str, u64)> {
    const WEIGHT: u64 = 3;
    let named = facts.os_guess.as_deref().map(str::to_lowercase);
    let known = named.as_deref().and_then(|name| {
        let exact =
            ["linux", "windows", "macos", "bsd", "android", "ios", "embedded"].into_iter().find(|os| *os == name);
        exact.or_else(|| SYSTEMS.iter().find(|(part, _)| name.contains(part)).map(|(_, system)| *system))
    });
    let by_ttl = || {
        // Systems start with 64, 128 or 255; hops take off at most some thirty.
        match facts.ttl.as_deref()?.parse().ok()? {
            33..=64_u8 => Some("linux"),
            97..=128 => Some("windows"),
            224..=255 => Some("embedded"),
            _ => None,
        }
    };
    known.or_else(by_ttl).map(|system| (system, WEIGHT))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fingerprints_are_those_that_are_there() {
        let facts = Facts::read(r#"{"hassh":"aa","user_agent":"curl/8.1","client_banner":"","ja3_text":"771"}"#);
        assert_eq!(of(&facts).collect::<Vec<_>>(), [("hassh", "aa".to_owned()), ("user_agent", "curl/8.1".to_owned())]);
    }

    #[test]
    fn systems_are_told_by_what_clients_say() {
        let of = |kind, value| system(kind, value).map(|(system, _)| system);
        assert_eq!(of("client_banner", "SSH-2.0-OpenSSH_for_Windows_8.1"), Some("windows"));
        assert_eq!(of("client_banner", "SSH-2.0-OpenSSH_9.2p1 Debian-2+deb12u3"), Some("linux"));
        assert_eq!(of("client_banner", "SSH-2.0-OpenSSH_9.6"), None);
        assert_eq!(of("user_agent", "Mozilla/5.0 (Linux; Android 14)"), Some("android"));
        assert_eq!(of("user_agent", "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7)"), Some("macos"));
        assert_eq!(of("hassh", "windows"), None);
    }

    #[test]
    fn packets_say_more() {
        let of = |json| system_of_packets(&Facts::read(json)).map(|(system, _)| system);
        assert_eq!(of(r#"{"os_guess":"Windows 10","ttl":"64"}"#), Some("windows"));
        assert_eq!(of(r#"{"os_guess":"unknown","ttl":52}"#), Some("linux"));
        assert_eq!(of(r#"{"ttl":"128"}"#), Some("windows"));
        assert_eq!(of(r#"{"ttl":"255"}"#), Some("embedded"));
        assert_eq!(of(r#"{"ttl":"1"}"#), None);
        assert_eq!(of("{}"), None);
    }
}
