//! YAML documents as trees that know their lines, bounded in depth and in what aliases copy.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};

use serde_saphyr::granit_parser::{Event, Options, Parser, ScalarStyle, ScanError, Span};

/// Lists and mappings inside one another.
const MAX_DEPTH: usize = 32;
/// Bytes and nodes that the aliases of a document may copy.
const MAX_COPIED: usize = 256 * 1024;

/// One value and its line.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Node<'a> {
    pub line: u32,
    pub value: Value<'a>,
}

/// What a value is. Numbers and booleans are texts: no rule's meaning depends on them here.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Value<'a> {
    Null,
    Text(Cow<'a, str>),
    List(Vec<Node<'a>>),
    Map(Vec<Entry<'a>>),
}

/// One key of a mapping.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Entry<'a> {
    pub key: Cow<'a, str>,
    pub line: u32,
    pub value: Node<'a>,
}

impl<'a> Node<'a> {
    /// The value of a key; of one that is stated twice the last.
    pub(super) fn get(&self, key: &str) -> Option<&Node<'a>> {
        self.entries()?.iter().rfind(|entry| entry.key == key).map(|entry| &entry.value)
    }

    pub(super) fn entries(&self) -> Option<&[Entry<'a>]> {
        match &self.value {
            Value::Map(entries) => Some(entries),
            _ => None,
        }
    }

    pub(super) fn text(&self) -> Option<&str> {
        match &self.value {
            Value::Text(text) => Some(text),
            _ => None,
        }
    }

    /// The text of a key, if it is one and is not blank.
    pub(super) fn text_of(&self, key: &str) -> Option<&str> {
        self.get(key)?.text().map(str::trim).filter(|text| !text.is_empty())
    }

    /// The texts of a key that is one text or a list of them.
    pub(super) fn texts_of(&self, key: &str) -> Vec<&str> {
        let texts: Vec<_> = match self.get(key).map(|node| &node.value) {
            Some(Value::Text(text)) => vec![text.as_ref()],
            Some(Value::List(items)) => items.iter().filter_map(Node::text).collect(),
            _ => Vec::new(),
        };
        texts.into_iter().map(str::trim).filter(|text| !text.is_empty()).collect()
    }

    pub(super) fn is_null(&self) -> bool {
        self.value == Value::Null
    }

    /// This document over a global one: its own keys count, mappings are joined.
    pub(super) fn over(mut self, base: &Node<'a>) -> Node<'a> {
        if let (Value::Map(own), Value::Map(base)) = (&mut self.value, &base.value) {
            let places: HashMap<_, _> = own.iter().enumerate().map(|(n, entry)| (entry.key.clone(), n)).collect();
            for entry in base {
                match places.get(&entry.key) {
                    None => own.push(entry.clone()),
                    Some(&place) if own[place].value.entries().is_some() => {
                        let null = Node { line: 0, value: Value::Null };
                        let value = std::mem::replace(&mut own[place].value, null);
                        own[place].value = value.over(&entry.value);
                    }
                    Some(_) => {}
                }
            }
        }
        self
    }

    /// Bytes and nodes in it, and how deep it is.
    fn extent(&self) -> (usize, usize) {
        let children: Vec<(usize, &Node<'a>)> = match &self.value {
            Value::Null => return (1, 0),
            Value::Text(text) => return (1 + text.len(), 0),
            Value::List(items) => items.iter().map(|item| (0, item)).collect(),
            Value::Map(entries) => entries.iter().map(|entry| (entry.key.len(), &entry.value)).collect(),
        };
        children.into_iter().fold((1, 1), |(weight, depth), (key, child)| {
            let (of_child, deep) = child.extent();
            (weight + key + of_child, depth.max(1 + deep))
        })
    }
}

/// A document that could be read.
#[derive(Debug)]
pub(super) struct Document<'a> {
    pub root: Node<'a>,
    /// Keys that a mapping states twice, with the line of the second.
    pub repeated: Vec<(u32, String)>,
}

/// Why a document could not be read.
#[derive(Debug, PartialEq)]
pub(super) struct YamlError {
    pub line: u32,
    pub reason: String,
}

/// One document's part of a file.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Slice<'a> {
    /// Lines of the file before it.
    pub lines_before: u32,
    pub text: &'a str,
}

/// Cuts a file at the lines that begin a document; a part with nothing but comments is none. No text of YAML can hold
/// such a line, unless it begins a document.
pub(super) fn documents(text: &str) -> Vec<Slice<'_>> {
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

/// Reads one document.
pub(super) fn parse<'a>(slice: Slice<'a>) -> Result<Document<'a>, YamlError> {
    let mut options = Options::default();
    options.set_emit_comments(false);
    let mut tree = Tree {
        parser: Parser::new_from_str_with_options(slice.text, options),
        lines_before: slice.lines_before,
        anchors: HashMap::new(),
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
            Event::DocumentStart(..) => return Err(tree.wrong(line, "another document begins without `---`")),
            Event::StreamEnd => break,
            _ => return Err(tree.wrong(line, "unexpected content")),
        }
    }
    let root = root.unwrap_or(Node { line: slice.lines_before + 1, value: Value::Null });
    Ok(Document { root, repeated: tree.repeated })
}

type Source<'a> = Parser<'a, serde_saphyr::granit_parser::StrInput<'a>>;

struct Tree<'a> {
    parser: Source<'a>,
    lines_before: u32,
    anchors: HashMap<usize, Node<'a>>,
    copied: usize,
    repeated: Vec<(u32, String)>,
}

impl<'a> Tree<'a> {
    fn wrong(&self, line: u32, reason: impl Into<String>) -> YamlError {
        YamlError { line, reason: reason.into() }
    }

    fn line(&self, line: usize) -> u32 {
        self.lines_before.saturating_add(u32::try_from(line).unwrap_or(u32::MAX))
    }

    fn next(&mut self) -> Result<(Event<'a>, u32), YamlError> {
        let next: Option<Result<(Event<'a>, Span), ScanError>> = self.parser.next_event();
        match next {
            Some(Ok((event, span))) => Ok((event, self.line(span.start.line()))),
            Some(Err(error)) => {
                Err(self.wrong(self.line(error.marker().line()), format!("not valid YAML: {}", error.info())))
            }
            None => Ok((Event::StreamEnd, 0)),
        }
    }

    /// The value that begins with this event.
    fn node(&mut self, event: Event<'a>, line: u32, depth: usize) -> Result<Node<'a>, YamlError> {
        if depth > MAX_DEPTH {
            return Err(self.wrong(line, format!("more than {MAX_DEPTH} lists and mappings are inside one another")));
        }
        let (value, anchor) = match event {
            Event::Scalar(text, style, anchor, _) => {
                let null = style == ScalarStyle::Plain && matches!(text.as_ref(), "" | "~" | "null" | "Null" | "NULL");
                (if null { Value::Null } else { Value::Text(text) }, anchor)
            }
            Event::SequenceStart(_, anchor, _) => {
                let mut items = Vec::new();
                loop {
                    match self.next()? {
                        (Event::SequenceEnd, _) => break,
                        (event, line) => items.push(self.node(event, line, depth + 1)?),
                    }
                }
                (Value::List(items), anchor)
            }
            Event::MappingStart(_, anchor, _) => (Value::Map(self.entries(depth)?), anchor),
            Event::Alias(anchor) => return self.copy(anchor, line, depth),
            _ => return Err(self.wrong(line, "unexpected end of the document")),
        };
        let node = Node { line, value };
        if anchor > 0 {
            self.charge(&node, line, depth)?;
            self.anchors.insert(anchor, node.clone());
        }
        Ok(node)
    }

    fn entries(&mut self, depth: usize) -> Result<Vec<Entry<'a>>, YamlError> {
        let mut entries: Vec<Entry<'a>> = Vec::new();
        loop {
            let (event, line) = self.next()?;
            if event == Event::MappingEnd {
                break;
            }
            let Value::Text(key) = self.node(event, line, depth + 1)?.value else {
                return Err(self.wrong(line, "a key must be a text"));
            };
            if key == "<<" {
                return Err(self.wrong(line, "merge keys (`<<`) are no part of rules: write the values out"));
            }
            let (event, of_value) = self.next()?;
            let value = self.node(event, of_value, depth + 1)?;
            entries.push(Entry { key, line, value });
        }
        let mut seen = HashSet::with_capacity(entries.len());
        for entry in &entries {
            if !seen.insert(entry.key.as_ref()) {
                self.repeated.push((entry.line, entry.key.clone().into_owned()));
            }
        }
        Ok(entries)
    }

    /// What an alias stands for.
    fn copy(&mut self, anchor: usize, line: u32, depth: usize) -> Result<Node<'a>, YamlError> {
        let Some(node) = self.anchors.remove(&anchor) else {
            return Err(self.wrong(line, "an alias must stand for something complete before it"));
        };
        self.charge(&node, line, depth)?;
        let copy = Node { line, value: node.value.clone() };
        self.anchors.insert(anchor, node);
        Ok(copy)
    }

    fn charge(&mut self, node: &Node<'a>, line: u32, depth: usize) -> Result<(), YamlError> {
        let (weight, deep) = node.extent();
        self.copied += weight;
        if self.copied > MAX_COPIED || depth + deep > MAX_DEPTH {
            return Err(self.wrong(line, "aliases make the document too large"));
        }
        Ok(())
    }
}
