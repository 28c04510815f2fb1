//! YAML of strangers, read within bounds into trees that know their lines.

use std::collections::{HashMap, HashSet};
use std::fmt;

use serde_json::{Map, Value};
use serde_saphyr::granit_parser::{Event, Options, Parser, ScalarStyle, Span, StrInput};

use super::upload::UploadProblem;

/// Lists and maps inside one another; the deepest real file has fewer than ten.
const MAX_DEPTH: usize = 32;
/// What a document may be made of: values, and the ends of lists and maps.
const MAX_EVENTS: usize = 100_000;
/// Keys of one map; the largest real one has fewer than thirty.
const MAX_KEYS: usize = 1_000;
/// Anchors of a document, and its aliases. No publisher uses any; people may, a little.
const MAX_ALIASES: usize = 100;
/// What the anchors and aliases of a document may copy: bytes of texts, and so many for each value.
const MAX_COPIED: usize = 256 * 1024;
const NODE_BYTES: usize = 16;

/// A value and where it stands.
#[derive(Debug, Clone, PartialEq)]
pub struct Node {
    /// 1 for the first.
    pub line: u32,
    /// The value.
    pub content: Content,
}

/// A value.
#[derive(Debug, Clone, PartialEq)]
pub enum Content {
    /// Nothing, or `null`.
    Null,
    /// `true`, `false` or a number, first as it is written; `yes` and the like are texts, as in YAML 1.2.
    Literal(String, Value),
    /// Line ends are `\n`, whatever the file has.
    Text(String),
    /// In the order of the file.
    List(Vec<Node>),
    /// In the order of the file, each key once.
    Map(Vec<Entry>),
}

/// A key and its value.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    /// Where the key stands.
    pub line: u32,
    /// The key.
    pub key: String,
    /// Its value.
    pub value: Node,
}

/// A document that could be read.
#[derive(Debug, PartialEq)]
pub struct Document {
    /// All of it; of a key that a map states twice, the last.
    pub root: Node,
    /// Keys that a map states twice, at the line of the second.
    pub repeated: Vec<UploadProblem>,
}

/// Why a file or a document could not be read, and where.
#[derive(Debug, PartialEq, Eq)]
pub struct Unreadable {
    /// 1 for the first; 0 where it is about the whole file.
    pub line: u32,
    /// In words for a person.
    pub reason: String,
}

impl fmt::Display for Unreadable {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            0 => formatter.write_str(&self.reason),
            line => write!(formatter, "line {line}: {}", self.reason),
        }
    }
}

impl From<Unreadable> for UploadProblem {
    fn from(unreadable: Unreadable) -> Self {
        UploadProblem::at(unreadable.line, "", unreadable.reason)
    }
}

/// One document's part of a file.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Slice<'a> {
    /// Lines of the file before it.
    pub lines_before: u32,
    /// What stands there.
    pub text: &'a str,
}

/// The bytes of a file as text without a byte order mark.
pub fn file_text(bytes: &[u8], max_bytes: usize) -> Result<&str, Unreadable> {
    if bytes.len() > max_bytes {
        return Err(Unreadable { line: 0, reason: format!("it is larger than {} KiB", max_bytes / 1024) });
    }
    match std::str::from_utf8(bytes) {
        Ok(text) => Ok(text.strip_prefix('\u{feff}').unwrap_or(text)),
        Err(error) => {
            let lines = bytes.iter().take(error.valid_up_to()).filter(|byte| **byte == b'\n').count();
            Err(Unreadable { line: u32::try_from(lines + 1).unwrap_or(0), reason: "it is not UTF-8 text".to_owned() })
        }
    }
}

/// Cuts a file at the lines that begin a document; a part with nothing but comments is none. No text of YAML can hold
/// such a line, unless it begins a document.
pub fn documents(text: &str) -> Vec<Slice<'_>> {
    let mut slices = Vec::new();
    let (mut start, mut first_line) = (0, 0);
    let mut offset = 0;
    for (number, line) in (0u32..).zip(text.split_inclusive('\n')) {
        if line.starts_with("---") && line[3..].chars().next().is_none_or(char::is_whitespace) {
            slices.push(Slice { lines_before: first_line, text: &text[start..offset] });
            let rest = line[3..].trim();
            let bare = rest.is_empty() || rest.starts_with('#');
            // What follows on the marker's own line belongs to the document, with the marker.
            (start, first_line) = if bare { (offset + line.len(), number + 1) } else { (offset, number) };
        }
        offset += line.len();
    }
    slices.push(Slice { lines_before: first_line, text: &text[start..] });
    slices.retain(|slice| {
        slice.text.lines().any(|line| {
            let line = line.trim();
            !line.is_empty() && !line.starts_with(['#', '%']) && line != "..."
        })
    });
    slices
}

/// Reads a file of one document.
pub fn parse_only(text: &str) -> Result<Document, Unreadable> {
    match documents(text).as_slice() {
        [] => Err(Unreadable { line: 0, reason: "it is empty".to_owned() }),
        [slice] => parse(*slice),
        [_, second, ..] => {
            let line = second.lines_before.saturating_add(1);
            Err(Unreadable { line, reason: "it holds more than one document".to_owned() })
        }
    }
}

/// Reads one document.
pub fn parse(slice: Slice<'_>) -> Result<Document, Unreadable> {
    let mut options = Options::default();
    options.set_emit_comments(false);
    let mut tree = Tree {
        parser: Parser::new_from_str_with_options(slice.text, options),
        lines_before: slice.lines_before,
        events: 0,
        anchors: HashMap::new(),
        aliases: 0,
        copied: 0,
        repeated: Vec::new(),
    };
    let mut root = None;
    loop {
        let (event, line) = tree.next()?;
        match event {
            Event::StreamStart | Event::DocumentEnd => {}
            Event::DocumentStart(..) if root.is_none() => {
                let (event, line) = tree.next()?;
                root = Some(tree.node(event, line, 0)?);
            }
            Event::DocumentStart(..) => return wrong(line, "another document begins without `---`"),
            Event::StreamEnd => break,
            _ => return wrong(line, "unexpected content"),
        }
    }
    let root = root.unwrap_or(Node { line: slice.lines_before + 1, content: Content::Null });
    Ok(Document { root, repeated: tree.repeated })
}

fn wrong<T>(line: u32, reason: impl Into<String>) -> Result<T, Unreadable> {
    Err(Unreadable { line, reason: reason.into() })
}

struct Tree<'a> {
    parser: Parser<'a, StrInput<'a>>,
    lines_before: u32,
    events: usize,
    anchors: HashMap<usize, Node>,
    aliases: usize,
    copied: usize,
    repeated: Vec<UploadProblem>,
}

impl<'a> Tree<'a> {
    fn line(&self, line: usize) -> u32 {
        self.lines_before.saturating_add(u32::try_from(line).unwrap_or(u32::MAX))
    }

    fn next(&mut self) -> Result<(Event<'a>, u32), Unreadable> {
        let next: Option<Result<(Event<'a>, Span), _>> = self.parser.next_event();
        self.events += 1;
        match next {
            Some(Ok((_, span))) if self.events > MAX_EVENTS => {
                wrong(self.line(span.start.line()), "it has too many values")
            }
            Some(Ok((event, span))) => Ok((event, self.line(span.start.line()))),
            Some(Err(error)) => {
                wrong(self.line(error.marker().line()), format!("it is no valid YAML: {}", shown(&error.info(), 200)))
            }
            None => Ok((Event::StreamEnd, 0)),
        }
    }

    /// The value that begins with this event.
    fn node(&mut self, event: Event<'a>, line: u32, depth: usize) -> Result<Node, Unreadable> {
        if depth > MAX_DEPTH {
            return wrong(line, format!("more than {MAX_DEPTH} lists and maps are inside one another"));
        }
        let (content, anchor) = match event {
            Event::Scalar(text, style, anchor, tag) => {
                if text.contains('\0') {
                    // No database keeps it.
                    return wrong(line, "a text holds the character NUL");
                }
                // With a tag it is not what it looks like.
                let plain = style == ScalarStyle::Plain && tag.is_none();
                (if plain { looked_at(text.into_owned()) } else { Content::Text(text.into_owned()) }, anchor)
            }
            Event::SequenceStart(_, anchor, _) => {
                let mut items = Vec::new();
                loop {
                    match self.next()? {
                        (Event::SequenceEnd, _) => break,
                        (event, line) => items.push(self.node(event, line, depth + 1)?),
                    }
                }
                (Content::List(items), anchor)
            }
            Event::MappingStart(_, anchor, _) => (Content::Map(self.entries(depth)?), anchor),
            Event::Alias(anchor) => return self.copy(anchor, line, depth),
            _ => return wrong(line, "unexpected end of the document"),
        };
        let node = Node { line, content };
        if anchor > 0 {
            if self.anchors.len() >= MAX_ALIASES {
                return wrong(line, format!("it has more than {MAX_ALIASES} anchors"));
            }
            self.charge(&node, line, depth)?;
            self.anchors.insert(anchor, node.clone());
        }
        Ok(node)
    }

    fn entries(&mut self, depth: usize) -> Result<Vec<Entry>, Unreadable> {
        let mut entries: Vec<Entry> = Vec::new();
        loop {
            let (event, line) = self.next()?;
            if event == Event::MappingEnd {
                break;
            }
            if entries.len() >= MAX_KEYS {
                return wrong(line, format!("a map has more than {MAX_KEYS} keys"));
            }
            let (Content::Text(key) | Content::Literal(key, _)) = self.node(event, line, depth + 1)?.content else {
                return wrong(line, "a key must be a text");
            };
            if key == "<<" {
                return wrong(line, "merge keys (`<<`) are not supported: write the values out");
            }
            let (event, of_value) = self.next()?;
            let value = self.node(event, of_value, depth + 1)?;
            entries.push(Entry { line, key, value });
        }
        let mut places = HashMap::with_capacity(entries.len());
        let mut replaced = HashSet::new();
        for (place, entry) in entries.iter().enumerate() {
            if let Some(earlier) = places.insert(entry.key.as_str(), place) {
                replaced.insert(earlier);
                self.repeated.push(UploadProblem::at(entry.line, shown(&entry.key, 60), "is stated twice"));
            }
        }
        if !replaced.is_empty() {
            let mut place = 0..;
            entries.retain(|_| place.next().is_none_or(|place| !replaced.contains(&place)));
        }
        Ok(entries)
    }

    /// What an alias stands for.
    fn copy(&mut self, anchor: usize, line: u32, depth: usize) -> Result<Node, Unreadable> {
        self.aliases += 1;
        if self.aliases > MAX_ALIASES {
            return wrong(line, format!("it has more than {MAX_ALIASES} aliases"));
        }
        let Some(node) = self.anchors.remove(&anchor) else {
            return wrong(line, "an alias must stand for something complete before it");
        };
        self.charge(&node, line, depth)?;
        let copy = Node { line, content: node.content.clone() };
        self.anchors.insert(anchor, node);
        Ok(copy)
    }

    fn charge(&mut self, node: &Node, line: u32, depth: usize) -> Result<(), Unreadable> {
        let (weight, deep) = node.extent();
        self.copied += weight;
        match self.copied > MAX_COPIED || depth + deep > MAX_DEPTH {
            true => wrong(line, "aliases make the document too large"),
            false => Ok(()),
        }
    }
}

/// What a text without quotes is.
fn looked_at(text: String) -> Content {
    match text.as_str() {
        "" | "~" | "null" | "Null" | "NULL" => Content::Null,
        "true" | "True" | "TRUE" => Content::Literal(text, Value::Bool(true)),
        "false" | "False" | "FALSE" => Content::Literal(text, Value::Bool(false)),
        _ => match number(&text) {
            Some(number) => Content::Literal(text, number),
            None => Content::Text(text),
        },
    }
}

/// The number that a text is. A date, a version or an account number is not one because it looks like one.
fn number(text: &str) -> Option<Value> {
    let digits = text.strip_prefix(['-', '+']).unwrap_or(text);
    let is_digit = |c: char| c.is_ascii_digit();
    if let Some((radix, digits)) = [(16, "0x"), (8, "0o")].iter().find_map(|(r, p)| Some((*r, text.strip_prefix(p)?))) {
        return u64::from_str_radix(digits, radix).ok().filter(|_| !digits.starts_with('+')).map(Value::from);
    }
    if !digits.starts_with(|c| is_digit(c) || c == '.')
        || digits.strip_prefix('0').is_some_and(|rest| rest.starts_with(is_digit))
    {
        return None;
    }
    if digits.chars().all(is_digit) {
        return text.parse::<i64>().map(Value::from).or_else(|_| text.parse::<u64>().map(Value::from)).ok();
    }
    // Past what a number can be it is infinite, and so a text.
    text.parse::<f64>().ok().and_then(serde_json::Number::from_f64).map(Value::Number)
}

/// A stranger's text, fit to be told.
fn shown(text: &str, max_chars: usize) -> String {
    text.chars().filter(|c| !c.is_control()).take(max_chars).collect()
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

    /// Whether it is a map, even an empty one.
    pub fn is_map(&self) -> bool {
        matches!(self.content, Content::Map(_))
    }

    /// The elements of a list.
    pub fn list(&self) -> Option<&[Node]> {
        match &self.content {
            Content::List(nodes) => Some(nodes),
            _ => None,
        }
    }

    /// A text as it stands; a number is none.
    pub fn text(&self) -> Option<&str> {
        match &self.content {
            Content::Text(text) => Some(text),
            _ => None,
        }
    }

    /// A text, number or flag as it is written.
    pub fn written(&self) -> Option<&str> {
        match &self.content {
            Content::Text(text) | Content::Literal(text, _) => Some(text),
            _ => None,
        }
    }

    /// Whether it is nothing.
    pub fn is_null(&self) -> bool {
        self.content == Content::Null
    }

    /// The text of a key as people read it: a number is one, and a blank one is none.
    pub fn said(&self, key: &str) -> Option<&str> {
        self.get(key)?.written().map(str::trim).filter(|text| !text.is_empty())
    }

    /// The texts of a key whose value is a list of them, or one.
    pub fn all_said(&self, key: &str) -> Vec<&str> {
        let Some(node) = self.get(key) else {
            return Vec::new();
        };
        let nodes = node.list().unwrap_or(std::slice::from_ref(node));
        nodes.iter().filter_map(Node::written).map(str::trim).filter(|text| !text.is_empty()).collect()
    }

    /// The same without lines.
    pub fn to_json(&self) -> Value {
        match &self.content {
            Content::Null => Value::Null,
            Content::Literal(_, value) => value.clone(),
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
            Content::Null => (0, self.line),
            Content::Text(text) | Content::Literal(text, _) => (text.chars().count(), self.line),
            Content::List(nodes) => nodes.iter().map(Node::longest_text).max().unwrap_or_default(),
            Content::Map(entries) => {
                let keys = entries.iter().map(|entry| (entry.key.chars().count(), entry.line)).max();
                let values = entries.iter().map(|entry| entry.value.longest_text()).max();
                keys.max(values).unwrap_or_default()
            }
        }
    }

    /// This document over a global one: its own keys count, maps are joined.
    pub fn over(mut self, base: &Node) -> Node {
        if let (Content::Map(own), Content::Map(base)) = (&mut self.content, &base.content) {
            let places: HashMap<_, _> = own.iter().enumerate().map(|(n, entry)| (entry.key.clone(), n)).collect();
            for entry in base {
                match places.get(&entry.key) {
                    None => own.push(entry.clone()),
                    Some(&place) if own[place].value.is_map() => {
                        let null = Node { line: 0, content: Content::Null };
                        let value = std::mem::replace(&mut own[place].value, null);
                        own[place].value = value.over(&entry.value);
                    }
                    Some(_) => {}
                }
            }
        }
        self
    }

    /// How much it is to copy, and how deep it is.
    fn extent(&self) -> (usize, usize) {
        let children: Vec<(usize, &Node)> = match &self.content {
            Content::Null => return (NODE_BYTES, 0),
            Content::Text(text) | Content::Literal(text, _) => return (NODE_BYTES + text.len(), 0),
            Content::List(items) => items.iter().map(|item| (0, item)).collect(),
            Content::Map(entries) => entries.iter().map(|entry| (entry.key.len(), &entry.value)).collect(),
        };
        children.into_iter().fold((NODE_BYTES, 1), |(weight, depth), (key, child)| {
            let (of_child, deep) = child.extent();
            (weight + key + of_child, depth.max(1 + deep))
        })
    }
}

#[cfg(test)]
#[path = "yaml_tests.rs"]
mod tests;
