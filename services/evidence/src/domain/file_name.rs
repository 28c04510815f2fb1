//! A file's name as it is kept: its Unicode stays, what could mislead a person or a file system goes.

/// Longest name in bytes, as most file systems have it.
const MAX_BYTES: usize = 255;
/// A longer ending is no ending, and is cut with the rest.
const MAX_ENDING: usize = 32;
/// The name of a file that has none.
const NAMELESS: &str = "evidence";

/// The name to keep for a file that came under `raw`.
pub(crate) fn clean(raw: &str) -> String {
    let base = raw.rsplit(['/', '\\']).next().unwrap_or_default();
    let kept: String = base.chars().filter(|c| !c.is_control() && !misleads(*c)).collect();
    let name = shorten(kept.trim_matches(is_edge));
    if name.is_empty() { NAMELESS.to_owned() } else { name }
}

/// Hidden on one system at the front, dropped on another at the end.
fn is_edge(c: char) -> bool {
    c == '.' || c.is_whitespace()
}

/// Turns the direction of text around, breaks lines or is not seen at all. Joiners stay: scripts need them.
fn misleads(c: char) -> bool {
    matches!(c,
        '\u{061C}' | '\u{200E}' | '\u{200F}' | '\u{202A}'..='\u{202E}' | '\u{2066}'..='\u{2069}'
        | '\u{2028}' | '\u{2029}' | '\u{200B}' | '\u{2060}' | '\u{FEFF}' | '\u{FFF9}'..='\u{FFFB}')
}

/// Cuts a name to its longest length, keeping the ending where there is one.
fn shorten(name: &str) -> String {
    if name.len() <= MAX_BYTES {
        return name.to_owned();
    }
    let dot = name.rfind('.').filter(|dot| name.len() - dot <= MAX_ENDING).unwrap_or(name.len());
    let (stem, ending) = name.split_at(dot);
    let cut = stem.floor_char_boundary(MAX_BYTES - ending.len());
    format!("{}{ending}", stem[..cut].trim_end_matches(is_edge))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn names_keep_their_unicode_and_lose_their_paths() {
        for (raw, kept) in [
            ("screenshot.png", "screenshot.png"),
            ("Überwachung – 証拠 🇩🇪.pcap", "Überwachung – 証拠 🇩🇪.pcap"),
            ("../../etc/passwd", "passwd"),
            ("C:\\Users\\a\\mimikatz.log", "mimikatz.log"),
            ("..\\../mixed/\\x.txt", "x.txt"),
            ("a\0b\r\n.t\u{7f}xt", "ab.txt"),
            ("invoice\u{202E}gpj.exe", "invoicegpj.exe"),
            ("  ..hidden.. ", "hidden"),
            (".htaccess", "htaccess"),
            ("क्\u{200D}ष.txt", "क्\u{200D}ष.txt"),
            ("", "evidence"),
            ("..", "evidence"),
            ("folder/", "evidence"),
            ("\u{202E}\u{0000}", "evidence"),
            ("<script>\"'%00;|&.html", "<script>\"'%00;|&.html"),
        ] {
            assert_eq!(clean(raw), kept, "{raw:?}");
        }
    }

    #[test]
    fn a_long_name_keeps_its_ending() {
        let name = clean(&format!("{}.tar.gz", "é".repeat(300)));
        assert!(name.len() <= MAX_BYTES && name.ends_with("é.gz"));
        assert_eq!(clean(&"a".repeat(1000)).len(), MAX_BYTES);
        assert_eq!(clean(&format!("a.{}", "b".repeat(1000))).len(), MAX_BYTES);
    }

    fn hostile() -> impl Strategy<Value = String> {
        let piece = prop_oneof![
            any::<char>().prop_map(String::from),
            "[./\\\\ \\x00\u{202A}-\u{202E}\u{2066}-\u{2069}\\r\\n]{1,5}",
            "[a-zé証]{1,120}",
        ];
        prop::collection::vec(piece, 0..30).prop_map(|pieces| pieces.concat())
    }

    proptest! {
        #[test]
        fn whatever_comes_a_safe_name_is_kept(raw in hostile()) {
            let name = clean(&raw);
            prop_assert!((1..=MAX_BYTES).contains(&name.len()));
            prop_assert!(!name.contains(['/', '\\']));
            prop_assert!(!name.chars().any(|c| c.is_control() || misleads(c)));
            prop_assert!(!name.starts_with(is_edge) && !name.ends_with(is_edge));
            prop_assert_eq!(clean(&name), name);
        }
    }
}
