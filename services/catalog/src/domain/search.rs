//! What a person types into a search, taken as plain words.

use std::fmt::Write;

/// Characters of a search, of a key and of a name that are looked at.
pub const MAX_TERM: usize = 200;
/// The kind of techniques.
pub const TECHNIQUE: &str = "technique";
/// The kind of templates.
pub const TEMPLATE: &str = "template";
/// Everything that can be searched for, in the order of answers.
pub const KINDS: [&str; 14] = [
    TECHNIQUE,
    "threat_actor",
    "software",
    "campaign",
    "mitigation",
    "detection_strategy",
    "analytic",
    "data_component",
    "asset",
    "detection_rule",
    TEMPLATE,
    "defence",
    "framework",
    "control",
];
/// A last word that is shorter is taken as the beginning of a word in ids and names only.
const SHORT: usize = 3;
/// Words of a search that are looked at.
const MAX_WORDS: usize = 24;
/// Bytes of an excerpt before the hit and after it.
const AROUND: usize = 90;

/// The place of a kind in answers.
pub fn ordinal(kind: &str) -> i64 {
    KINDS.iter().zip(0..).find(|(known, _)| **known == kind).map_or(i64::MAX, |(_, ordinal)| ordinal)
}

/// Lower case, with single blanks.
pub fn fold(text: &str) -> String {
    let mut folded = String::with_capacity(text.len());
    for word in text.split_whitespace() {
        if !folded.is_empty() {
            folded.push(' ');
        }
        folded.extend(word.chars().flat_map(char::to_lowercase));
    }
    folded
}

/// A search, read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Words {
    /// All of it, folded.
    pub text: String,
    /// What was between blanks, each as its parts without punctuation: `T1059.001` is two that follow each other.
    terms: Vec<Vec<String>>,
}

/// Which words a database is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// In ids, names and aliases; the last word is a beginning.
    Names,
    /// Anywhere; the last word is a beginning unless it is short.
    Texts,
    /// One after the other, whole.
    Phrase,
}

impl Words {
    /// Reads a search; `None` where it has no letter and no digit.
    pub fn parse(text: &str) -> Option<Words> {
        let text = fold(text);
        let parts = |term: &str| -> Vec<String> {
            // Both databases drop accents that stand alone; a word of nothing else is none to them.
            let term: String = term.chars().filter(|c| !('\u{300}'..='\u{36f}').contains(c)).collect();
            term.split(|c: char| !c.is_alphanumeric()).filter(|part| !part.is_empty()).map(str::to_owned).collect()
        };
        let mut terms: Vec<Vec<String>> = text.split(' ').map(parts).filter(|term| !term.is_empty()).collect();
        terms.truncate(MAX_WORDS);
        (!terms.is_empty()).then_some(Words { text, terms })
    }

    /// Whether what has the words in names may lack them among the whole texts.
    pub fn short(&self) -> bool {
        self.terms.iter().flatten().last().is_some_and(|word| word.chars().count() < SHORT)
    }

    /// Just after everything that begins with the text.
    pub fn end(&self) -> String {
        format!("{}{}", self.text, char::MAX)
    }

    fn last_is_beginning(&self, part: Part) -> bool {
        match part {
            Part::Names => true,
            Part::Texts => !self.short(),
            Part::Phrase => false,
        }
    }

    fn all_terms(&self, part: Part) -> Vec<Vec<&str>> {
        match part {
            Part::Phrase => vec![self.terms.iter().flatten().map(String::as_str).collect()],
            Part::Names | Part::Texts => {
                self.terms.iter().map(|term| term.iter().map(String::as_str).collect()).collect()
            }
        }
    }

    /// The search as SQLite's FTS5 reads it. Words have letters and digits only, so nothing in them is an operator.
    pub fn fts5(&self, part: Part, kinds: &[&str]) -> String {
        let mut query = String::new();
        for (at, kind) in kinds.iter().enumerate() {
            let joint = if at == 0 { "kind : (" } else { " OR " };
            let _ = write!(query, "{joint}\"\u{e000}{}\"", kind.replace('_', ""));
        }
        if !kinds.is_empty() {
            query.push_str(") AND ");
        }
        if part == Part::Phrase {
            query.push_str("aliases : ");
        }
        let terms = self.all_terms(part);
        for (at, term) in terms.iter().enumerate() {
            let joint = if at == 0 { "" } else { " AND " };
            let _ = write!(query, "{joint}\"{}\"", term.join(" "));
        }
        if self.last_is_beginning(part) {
            query.push('*');
        }
        query
    }

    /// The search as PostgreSQL's `tsquery` is written. Words have letters and digits only.
    pub fn tsquery(&self, part: Part, kinds: &[&str]) -> String {
        let mut query = String::new();
        for (at, kind) in kinds.iter().enumerate() {
            let joint = if at == 0 { "(" } else { " | " };
            let _ = write!(query, "{joint}'={kind}'");
        }
        if !kinds.is_empty() {
            query.push_str(") & ");
        }
        let weight = if part == Part::Phrase { ":B" } else { "" };
        let terms = self.all_terms(part);
        for (at, term) in terms.iter().enumerate() {
            let joint = if at == 0 { "(" } else { " & (" };
            query.push_str(joint);
            for (at, word) in term.iter().enumerate() {
                let joint = if at == 0 { "" } else { " <-> " };
                let _ = write!(query, "{joint}'{word}'{weight}");
            }
            if at + 1 == terms.len() && self.last_is_beginning(part) {
                query.push_str(":*");
            }
            query.push(')');
        }
        query
    }

    /// The words around the first hit in a text, as plain text; the beginning where no word is found as it stands.
    pub fn excerpt(&self, body: &str) -> String {
        let (from, to) = self.first_hit(body).unwrap_or((0, 0));
        let mut start = body.floor_char_boundary(from.saturating_sub(AROUND));
        if start > 0 {
            // No half word at either end.
            start += body[start..from].find(char::is_whitespace).unwrap_or(0);
        }
        let mut end = body.ceil_char_boundary((to + 2 * AROUND - (from - start).min(AROUND)).min(body.len()));
        if end < body.len() {
            end = to + body[to..end].rfind(char::is_whitespace).unwrap_or(end - to);
        }
        let words: Vec<&str> = body[start..end].split_whitespace().collect();
        let before = if start > 0 { "… " } else { "" };
        let after = if end < body.len() { " …" } else { "" };
        if words.is_empty() { String::new() } else { format!("{before}{}{after}", words.join(" ")) }
    }

    /// Where the first word that was searched for stands in a text.
    fn first_hit(&self, body: &str) -> Option<(usize, usize)> {
        let wanted: Vec<&str> = self.terms.iter().flatten().map(String::as_str).collect();
        let last = wanted.last()?;
        let mut at = 0;
        for word in body.split(|c: char| !c.is_alphanumeric()) {
            let from = at;
            // What split the words is one character.
            at = from + word.len();
            at += body[at..].chars().next().map_or(0, char::len_utf8);
            if word.is_empty() {
                continue;
            }
            let folded = word.to_lowercase();
            if wanted.contains(&folded.as_str()) || (!self.short() && folded.starts_with(last)) {
                return Some((from, from + word.len()));
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Words {
        Words::parse(text).unwrap()
    }

    #[test]
    fn a_search_is_plain_words() {
        assert_eq!(Words::parse(" - \" ' * ( : "), None);
        assert_eq!(Words::parse("\u{345} \u{363}"), None);
        assert_eq!(words("re\u{301}sume\u{301}").tsquery(Part::Texts, &[]), "('resume':*)");
        let ids = words("T1059.001");
        assert_eq!(ids.fts5(Part::Texts, &[]), "\"t1059 001\"*");
        assert_eq!(ids.tsquery(Part::Texts, &[]), "('t1059' <-> '001':*)");
        let operators = words("NEAR(a \"b) OR -c* body:x'y");
        assert_eq!(
            operators.fts5(Part::Names, &["threat_actor", "software"]),
            "kind : (\"\u{e000}threatactor\" OR \"\u{e000}software\") AND \"near a\" AND \"b\" AND \"or\" AND \"c\" \
             AND \"body x y\"*"
        );
        assert_eq!(
            operators.tsquery(Part::Names, &["threat_actor", "software"]),
            "('=threat_actor' | '=software') & ('near' <-> 'a') & ('b') & ('or') & ('c') & ('body' <-> 'x' <-> 'y':*)"
        );
    }

    #[test]
    fn a_short_last_word_is_a_whole_one_in_texts() {
        let short = words("Lateral  Mo");
        assert_eq!(short.text, "lateral mo");
        assert!(short.short());
        assert_eq!(short.fts5(Part::Texts, &[]), "\"lateral\" AND \"mo\"");
        assert_eq!(short.fts5(Part::Names, &[]), "\"lateral\" AND \"mo\"*");
        assert_eq!(short.fts5(Part::Phrase, &[]), "aliases : \"lateral mo\"");
        assert_eq!(short.tsquery(Part::Phrase, &[]), "('lateral':B <-> 'mo':B)");
        assert!(!words("lateral mov").short());
    }

    #[test]
    fn an_excerpt_has_the_hit_in_the_middle() {
        let body = format!("{} Mimikatz, ünd  mehr\n{}", "vorher ".repeat(40), "nachher ".repeat(60));
        let excerpt = words("mimi").excerpt(&body);
        assert!(excerpt.starts_with("… vorher vorher") && excerpt.ends_with("nachher …"), "{excerpt}");
        assert!(excerpt.contains("Mimikatz, ünd mehr nachher") && excerpt.len() < 220, "{excerpt}");
        assert_eq!(words("none").excerpt("Short."), "Short.");
        assert_eq!(words("none").excerpt(""), "");
        assert_eq!(words("short").excerpt("Short"), "Short");
        assert_eq!(words("ende").excerpt(&"ß".repeat(500)).chars().filter(|c| *c == 'ß').count(), 90);
    }

    #[test]
    fn kinds_are_in_order() {
        assert_eq!((ordinal("technique"), ordinal("template"), ordinal("control")), (0, 10, 13));
    }
}
