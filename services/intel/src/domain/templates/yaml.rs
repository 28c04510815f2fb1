//! YAML of strangers, read within bounds into a tree that knows its lines.

use std::fmt;

use serde::de::{Deserialize, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};
use serde_saphyr::budget::BudgetBreach;
use serde_saphyr::options::{DuplicateKeyPolicy, NonFiniteFloatPolicy};
use serde_saphyr::{Error, Options, Spanned};

/// Nested lists and maps; the deepest real file has fewer than ten.
const MAX_DEPTH: usize = 32;
const MAX_EVENTS: usize = 100_000;
/// Keys of one map; the largest real one has fewer than thirty.
const MAX_KEYS: usize = 1_000;
/// No publisher uses aliases; people may, a little.
const MAX_ALIASES: usize = 100;
const MAX_REPLAYED_EVENTS: usize = 10_000;
/// What a small file may be with its aliases; a large one may double.
const MIN_UNFOLDED_BYTES: usize = 64 * 1024;

const TOO_MUCH: &str = "it is nested too deep, or has too many values or aliases";

/// A value and where it stands.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Node {
    /// 1 for the first.
    pub line: u32,
    /// The value.
    pub content: Content,
}

/// A value.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Content {
    /// Nothing, or `null`.
    Null,
    /// `true` or `false`; `yes` and the like are texts, as in YAML 1.2.
    Bool(bool),
    /// Whole or not.
    Number(Number),
    /// Line ends are `\n`, whatever the file has.
    Text(String),
    /// In the order of the file.
    List(Vec<Node>),
    /// In the order of the file, each key once.
    Map(Vec<Entry>),
}

/// A key and its value.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Entry {
    /// Where the key stands.
    pub line: u32,
    /// The key.
    pub key: String,
    /// Its value.
    pub value: Node,
}

/// Why a file is no document, and where.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Unreadable {
    /// 1 for the first; 0 where it is about the whole file.
    pub line: u32,
    /// In words for a person.
    pub reason: String,
}

/// What is done about a key that is there twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Duplicates {
    /// The last counts, as with most readers.
    LastWins,
    /// The file is refused.
    Refused,
}

/// Reads one document.
pub(super) fn parse(bytes: &[u8], max_bytes: usize, duplicates: Duplicates) -> Result<Node, Unreadable> {
    let whole = |reason: String| Unreadable { line: 0, reason };
    if bytes.len() > max_bytes {
        return Err(whole(format!("it is larger than {} KiB", max_bytes / 1024)));
    }
    let text = std::str::from_utf8(bytes).map_err(|error| {
        let lines = bytes.iter().take(error.valid_up_to()).filter(|byte| **byte == b'\n').count();
        Unreadable { line: u32::try_from(lines + 1).unwrap_or(0), reason: "it is not UTF-8 text".to_owned() }
    })?;
    let text = text.strip_prefix('\u{FEFF}').unwrap_or(text);
    if text.trim().is_empty() {
        return Err(whole("it is empty".to_owned()));
    }
    serde_saphyr::from_str_with_options(text, options(bytes.len(), duplicates)).map_err(|error| {
        let line = error.location().map_or(0, |location| line(location.line()));
        Unreadable { line, reason: reason(&error) }
    })
}

fn options(bytes: usize, duplicates: Duplicates) -> Options {
    let unfolded = 2 * bytes + MIN_UNFOLDED_BYTES;
    serde_saphyr::options! {
        budget: serde_saphyr::budget! {
            max_depth: MAX_DEPTH,
            flow_nesting_limit: MAX_DEPTH,
            max_events: MAX_EVENTS,
            max_nodes: MAX_EVENTS,
            max_aliases: MAX_ALIASES,
            max_anchors: MAX_ALIASES,
            max_documents: 1,
            max_recorded_anchor_events: MAX_EVENTS,
            // What aliases stand for is counted each time.
            max_recorded_anchor_bytes: unfolded,
            max_total_scalar_bytes: unfolded,
        },
        alias_limits: serde_saphyr::alias_limits! {
            max_total_replayed_events: MAX_REPLAYED_EVENTS,
            max_replay_stack_depth: 8,
        },
        duplicate_keys: match duplicates {
            Duplicates::LastWins => DuplicateKeyPolicy::LastWins,
            Duplicates::Refused => DuplicateKeyPolicy::Error,
        },
        // A date, a version or an account number is not a number because it looks like one.
        strict_booleans: true,
        leading_zero_numbers_as_strings: true,
        underscored_numbers_as_strings: true,
        non_finite_float_policy: NonFiniteFloatPolicy::AsString,
        with_snippet: false,
    }
}

fn line(line: u64) -> u32 {
    u32::try_from(line).unwrap_or(u32::MAX)
}

/// In words for a person, without the place.
fn reason(error: &Error) -> String {
    let short = |text: &str| text.chars().filter(|c| !c.is_control()).take(200).collect::<String>();
    match error.without_snippet() {
        Error::MultipleDocuments { .. } | Error::Budget { breach: BudgetBreach::Documents { .. }, .. } => {
            "it holds more than one document".to_owned()
        }
        Error::Budget { .. }
        | Error::AliasReplayCounterOverflow { .. }
        | Error::AliasReplayLimitExceeded { .. }
        | Error::AliasExpansionLimitExceeded { .. }
        | Error::AliasReplayStackDepthExceeded { .. } => TOO_MUCH.to_owned(),
        Error::RecursiveReferencesRequireWeakTypes { .. } => "an alias is inside of what it stands for".to_owned(),
        Error::DuplicateMappingKey { key: Some(key), .. } => format!("the key `{}` is there twice", short(key)),
        Error::NullIntoString { .. } => "a key must be a text".to_owned(),
        Error::AliasError { error, .. } => reason(error),
        error => {
            let text = error.to_string();
            let text = text.lines().next().unwrap_or_default();
            let text = text.rsplit_once(" at line ").map_or(text, |(text, _)| text);
            format!("it is no valid YAML: {}", short(text))
        }
    }
}

impl Node {
    /// The value of a key.
    pub fn get(&self, key: &str) -> Option<&Node> {
        self.entry(key).map(|entry| &entry.value)
    }

    /// A key with its value.
    pub fn entry(&self, key: &str) -> Option<&Entry> {
        self.entries().iter().find(|entry| entry.key == key)
    }

    /// All keys; of what is no map, none.
    pub fn entries(&self) -> &[Entry] {
        match &self.content {
            Content::Map(entries) => entries,
            _ => &[],
        }
    }

    /// The elements of a list.
    pub fn list(&self) -> Option<&[Node]> {
        match &self.content {
            Content::List(nodes) => Some(nodes),
            _ => None,
        }
    }

    /// A text as it stands.
    pub fn text(&self) -> Option<&str> {
        match &self.content {
            Content::Text(text) => Some(text),
            _ => None,
        }
    }

    /// Whether it is nothing.
    pub fn is_null(&self) -> bool {
        self.content == Content::Null
    }

    /// The text of a key as people read it: a number is one, and one without letters is none.
    pub fn said(&self, key: &str) -> Option<String> {
        let text = match &self.get(key)?.content {
            Content::Text(text) => text.trim().to_owned(),
            Content::Number(number) => number.to_string(),
            Content::Bool(flag) => flag.to_string(),
            _ => return None,
        };
        (!text.is_empty()).then_some(text)
    }

    /// The texts of a key whose value is a list of them, or one.
    pub fn all_said(&self, key: &str) -> Vec<String> {
        match self.get(key).map(|node| &node.content) {
            Some(Content::List(nodes)) => nodes
                .iter()
                .filter_map(Node::text)
                .map(|text| text.trim().to_owned())
                .filter(|text| !text.is_empty())
                .collect(),
            _ => self.said(key).into_iter().collect(),
        }
    }

    /// The same without lines.
    pub fn to_json(&self) -> Value {
        match &self.content {
            Content::Null => Value::Null,
            Content::Bool(flag) => Value::Bool(*flag),
            Content::Number(number) => Value::Number(number.clone()),
            Content::Text(text) => Value::String(text.clone()),
            Content::List(nodes) => nodes.iter().map(Node::to_json).collect(),
            Content::Map(entries) => {
                let map: Map<_, _> = entries.iter().map(|entry| (entry.key.clone(), entry.value.to_json())).collect();
                Value::Object(map)
            }
        }
    }

    /// The longest text in it, in characters, and its line.
    pub fn longest_text(&self) -> (usize, u32) {
        match &self.content {
            Content::Text(text) => (text.chars().count(), self.line),
            Content::List(nodes) => nodes.iter().map(Node::longest_text).max().unwrap_or_default(),
            Content::Map(entries) => {
                let keys = entries.iter().map(|entry| (entry.key.chars().count(), entry.line)).max();
                let values = entries.iter().map(|entry| entry.value.longest_text()).max();
                keys.max(values).unwrap_or_default()
            }
            _ => (0, self.line),
        }
    }
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let spanned = Spanned::<Content>::deserialize(deserializer)?;
        Ok(Node { line: line(spanned.referenced.line()), content: spanned.value })
    }
}

impl<'de> Deserialize<'de> for Content {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ContentVisitor)
    }
}

struct ContentVisitor;

impl<'de> Visitor<'de> for ContentVisitor {
    type Value = Content;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a text, number, list or map")
    }

    fn visit_unit<E>(self) -> Result<Content, E> {
        Ok(Content::Null)
    }

    fn visit_none<E>(self) -> Result<Content, E> {
        Ok(Content::Null)
    }

    fn visit_bool<E>(self, flag: bool) -> Result<Content, E> {
        Ok(Content::Bool(flag))
    }

    fn visit_i64<E>(self, number: i64) -> Result<Content, E> {
        Ok(Content::Number(number.into()))
    }

    fn visit_u64<E>(self, number: u64) -> Result<Content, E> {
        Ok(Content::Number(number.into()))
    }

    fn visit_f64<E>(self, number: f64) -> Result<Content, E> {
        Ok(Number::from_f64(number).map_or_else(|| Content::Text(number.to_string()), Content::Number))
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Content, E> {
        self.visit_string(text.to_owned())
    }

    fn visit_string<E: serde::de::Error>(self, text: String) -> Result<Content, E> {
        match text.contains('\0') {
            // No database keeps it.
            true => Err(E::custom("a text holds the character NUL")),
            false => Ok(Content::Text(text)),
        }
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<Content, A::Error> {
        let mut nodes = Vec::new();
        while let Some(node) = access.next_element()? {
            nodes.push(node);
        }
        Ok(Content::List(nodes))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Content, A::Error> {
        let mut entries: Vec<Entry> = Vec::new();
        while let Some(key) = access.next_key::<Spanned<String>>()? {
            let entry = Entry { line: line(key.referenced.line()), key: key.value, value: access.next_value()? };
            if entry.key.contains('\0') {
                return Err(A::Error::custom("a key holds the character NUL"));
            }
            if entries.len() >= MAX_KEYS {
                return Err(A::Error::custom(format!("a map has more than {MAX_KEYS} keys")));
            }
            match entries.iter_mut().find(|known| known.key == entry.key) {
                Some(known) => *known = entry,
                None => entries.push(entry),
            }
        }
        Ok(Content::Map(entries))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Node, Unreadable> {
        parse(text.as_bytes(), 64 * 1024, Duplicates::LastWins)
    }

    #[test]
    fn lines_are_known() {
        let root = read("# a comment\na: 1\nb:\n  - x\n  - c: |\n      two\n      lines\n").unwrap();
        assert_eq!(root.entry("a").unwrap().line, 2);
        assert_eq!(root.get("a").unwrap().line, 2);
        let list = root.get("b").unwrap().list().unwrap();
        assert_eq!((list[0].line, list[1].line), (4, 5));
        assert_eq!(list[1].get("c").unwrap().text(), Some("two\nlines\n"));
        let aliased = read("a: &x one\nb: *x\n").unwrap();
        assert_eq!((aliased.get("b").unwrap().line, aliased.get("b").unwrap().text()), (2, Some("one")));
    }

    #[test]
    fn scalars_are_what_they_look_like_in_yaml_1_2() {
        let root =
            read("a: yes\nb: 007\nc: 2024-01-31\nd: 1_000\ne: ~\nf: 1.5\ng: 'true'\nh: .inf\ni: -3\n1: x\n").unwrap();
        assert_eq!(
            root.to_json(),
            serde_json::json!({"a": "yes", "b": "007", "c": "2024-01-31", "d": "1_000", "e": null, "f": 1.5,
                "g": "true", "h": ".inf", "i": -3, "1": "x"})
        );
        assert_eq!(root.said("i").as_deref(), Some("-3"));
    }

    #[test]
    fn a_bom_and_crlf_are_no_content() {
        let root = read("\u{FEFF}a: |\r\n  one\r\n  two\r\nb: x\r\n").unwrap();
        assert_eq!(root.to_json(), serde_json::json!({"a": "one\ntwo\n", "b": "x"}));
    }

    #[test]
    fn what_is_no_document_is_told_with_its_line() {
        let bad = parse(b"a: 1\nb: \xFF\n", 1024, Duplicates::LastWins).unwrap_err();
        assert_eq!((bad.line, bad.reason.as_str()), (2, "it is not UTF-8 text"));
        let bad = read("a: 1\nb: [1, 2\nc: 3\n").unwrap_err();
        assert!(bad.line >= 2 && bad.reason.starts_with("it is no valid YAML: "), "{bad:?}");
        assert_eq!(parse(&[b' '; 2048], 1024, Duplicates::LastWins).unwrap_err().reason, "it is larger than 1 KiB");
        assert_eq!(read(" \n").unwrap_err().reason, "it is empty");
        assert!(read("a: \"x\\0y\"\n").unwrap_err().reason.contains("NUL"));
        let bad = read("a: 1\n---\nb: 2\n").unwrap_err();
        assert_eq!((bad.line, bad.reason.as_str()), (2, "it holds more than one document"));
        assert_eq!(read("~: x\n").unwrap_err().reason, "a key must be a text");
    }

    #[test]
    fn a_key_that_is_there_twice() {
        let text = b"a: 1\nb: 2\na: 3\n";
        let last = parse(text, 1024, Duplicates::LastWins).unwrap();
        assert_eq!(last.to_json(), serde_json::json!({"a": 3, "b": 2}));
        let refused = parse(text, 1024, Duplicates::Refused).unwrap_err();
        assert_eq!(refused, Unreadable { line: 3, reason: "the key `a` is there twice".to_owned() });
    }

    #[test]
    fn bombs_are_refused() {
        let mut bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n".to_owned();
        for n in 1..12 {
            let before = format!("*a{}", n - 1);
            bomb += &format!("a{n}: &a{n} [{}]\n", [before.as_str(); 9].join(", "));
        }
        let refused = |text: &str| read(text).unwrap_err().reason;
        assert_eq!(refused(&bomb), TOO_MUCH);
        let mut large = format!("a: &a {}\n", "x".repeat(10_000));
        large += &"- *a\n"
            .repeat(50)
            .replace("- ", "")
            .lines()
            .enumerate()
            .fold(String::new(), |text, (n, alias)| text + &format!("b{n}: {alias}\n"));
        assert_eq!(refused(&large), TOO_MUCH, "one large text many times");
        assert!(read(&format!("a: {}{}\n", "[".repeat(500), "]".repeat(500))).is_err());
        let deep: String = (0..200).map(|n| format!("{}a:\n", " ".repeat(n))).collect();
        assert_eq!(refused(&deep), TOO_MUCH);
        assert_eq!(refused("a: &a [*a]\n"), "an alias is inside of what it stands for");
        let many: String = (0..300).map(|n| format!("k{n}: &n{n} x\n")).collect();
        let keys: String = (0..2_000).map(|n| format!("k{n}: x\n")).collect();
        assert!(refused(&keys).contains("more than 1000 keys"));
        assert_eq!(refused(&many), TOO_MUCH, "more anchors than anyone needs");
    }
}
