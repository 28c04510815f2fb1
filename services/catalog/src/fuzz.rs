//! For the fuzzer: what people search for. Nothing of it may make one fail.

use crate::domain::search::{Part, Words};

/// A target by its name.
pub type Target = (&'static str, fn(&[u8]));

/// Each by its name.
pub const TARGETS: &[Target] = &[("search", search)];

/// A search, and after a line break a text that it is looked for in.
fn search(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let (search, body) = text.split_once('\n').unwrap_or((&text, ""));
    let Some(words) = Words::parse(search) else { return };
    for part in [Part::Names, Part::Texts, Part::Phrase] {
        for kinds in [[].as_slice(), &["technique", "software"]] {
            let _ = (words.fts5(part, kinds), words.tsquery(part, kinds));
        }
    }
    let _ = (words.excerpt(body), words.short(), words.end());
}
