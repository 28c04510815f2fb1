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
    match name.as_str() {
        "" => NAMELESS.to_owned(),
        name if is_device(name) => shorten(&format!("_{name}")),
        _ => name,
    }
}

/// Names of devices on Windows, whatever ending they have: nothing can be saved under them.
fn is_device(name: &str) -> bool {
    let stem = name.split('.').next().unwrap_or_default().trim_end().to_ascii_uppercase();
    let numbered = |stem: &str| {
        let number = stem.strip_prefix("COM").or_else(|| stem.strip_prefix("LPT"));
        number.is_some_and(|number| {
            let mut chars = number.chars();
            matches!(chars.next(), Some('0'..='9' | '¹' | '²' | '³')) && chars.next().is_none()
        })
    };
    matches!(stem.as_str(), "CON" | "PRN" | "AUX" | "NUL" | "CONIN$" | "CONOUT$") || numbered(&stem)
}

/// Hidden on one system at the front, dropped on another at the end.
fn is_edge(c: char) -> bool {
    c == '.' || c.is_whitespace()
}

/// Turns the direction of text around, breaks lines or is not seen at all. Joiners stay: scripts need them.
fn misleads(c: char) -> bool {
    matches!(c,
        '\u{00AD}' | '\u{180E}' | '\u{2061}'..='\u{2064}' | '\u{206A}'..='\u{206F}' | '\u{E0000}'..='\u{E007F}'
        | '\u{061C}' | '\u{200E}' | '\u{200F}' | '\u{202A}'..='\u{202E}' | '\u{2066}'..='\u{2069}'
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
            ("\u{2067}a\u{2069}\u{206F}b\u{00AD}c\u{E0041}.txt", "abc.txt"),
            ("CON", "_CON"),
            ("nul.txt", "_nul.txt"),
            ("Lpt9 .tar.gz", "_Lpt9 .tar.gz"),
            ("com¹", "_com¹"),
            ("console.log", "console.log"),
            ("com10", "com10"),
            ("file.txt . . ", "file.txt"),
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
        assert_eq!(clean(&"x".repeat(300)).len(), MAX_BYTES);
        assert_eq!(clean(&format!("con{}x.txt", " ".repeat(300))), "_con.txt");
        assert_eq!(clean(&format!("con.{}", "b".repeat(1000))).len(), MAX_BYTES);
    }

    fn hostile() -> impl Strategy<Value = String> {
        let piece = prop_oneof![
            any::<char>().prop_map(String::from),
            "[./\\\\ \\x00\u{202A}-\u{202E}\u{2066}-\u{2069}\\r\\n]{1,5}",
            "[a-zé証]{1,120}",
            "(CON|nul|com[0-9¹])[. ]{0,3}",
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
            prop_assert!(!is_device(&name));
            prop_assert_eq!(clean(&name), name);
        }
    }
}
