//! What is wrong with a Sigma rule, field by field.

use super::collected::{iso_date, technique_id};
use super::condition;
use crate::domain::knowledge::SEVERITIES;
use crate::domain::upload::UploadProblem;
use crate::domain::yaml::{Content, Entry, Node};

const MAX_TITLE: usize = 256;
const MAX_TEXT: usize = 65_536;
const MAX_ITEMS: usize = 1_000;
const MAX_SELECTIONS: usize = 1_000;
const STATUSES: [&str; 5] = ["stable", "test", "experimental", "deprecated", "unsupported"];

/// What may stand behind a field's name.
const MODIFIERS: [&str; 34] = [
    "all",
    "base64",
    "base64offset",
    "cased",
    "cidr",
    "contains",
    "day",
    "dotall",
    "endswith",
    "exists",
    "expand",
    "fieldref",
    "gt",
    "gte",
    "hour",
    "i",
    "ignorecase",
    "lt",
    "lte",
    "m",
    "minute",
    "month",
    "multiline",
    "neq",
    "re",
    "s",
    "startswith",
    "utf16",
    "utf16be",
    "utf16le",
    "week",
    "wide",
    "windash",
    "year",
];

/// Adds everything that is wrong with a rule.
pub(super) fn validate(root: &Node, problems: &mut Vec<UploadProblem>) {
    if !root.is_map() {
        problems.push(UploadProblem::at(root.line, "", "a rule is a mapping of fields"));
        return;
    }
    let mut check = Check { root, problems };
    check.title();
    check.id();
    check.one_of("status", &STATUSES);
    check.one_of("level", &SEVERITIES);
    for field in ["description", "license"] {
        check.text(field);
    }
    for field in ["date", "modified"] {
        check.date(field);
    }
    for field in ["author", "references", "falsepositives", "fields"] {
        check.texts(field);
    }
    check.tags();
    check.logsource();
    check.detection();
}

struct Check<'n, 'p> {
    root: &'n Node,
    problems: &'p mut Vec<UploadProblem>,
}

impl<'n> Check<'n, '_> {
    fn wrong(&mut self, line: u32, field: impl Into<String>, problem: impl Into<String>) {
        self.problems.push(UploadProblem::at(line, field, problem));
    }

    /// A field that is there and says something.
    fn present(&self, field: &str) -> Option<&'n Node> {
        self.root.get(field).filter(|node| !node.is_null())
    }

    /// The text of a field; one that is there and is no text is a problem.
    fn text(&mut self, field: &str) -> Option<(u32, &'n str)> {
        let node = self.present(field)?;
        match node.written() {
            Some(text) if text.len() > MAX_TEXT => {
                self.wrong(node.line, field, format!("is longer than {MAX_TEXT} bytes"));
                None
            }
            Some(text) => Some((node.line, text.trim())),
            None => {
                self.wrong(node.line, field, "must be a text");
                None
            }
        }
    }

    fn title(&mut self) {
        if self.present("title").is_none() {
            return self.wrong(self.root.line, "title", "is required");
        }
        match self.text("title") {
            Some((line, "")) => self.wrong(line, "title", "must not be empty"),
            Some((line, text)) if text.chars().count() > MAX_TITLE => {
                self.wrong(line, "title", format!("is longer than {MAX_TITLE} characters"));
            }
            _ => {}
        }
    }

    fn id(&mut self) {
        if let Some((line, id)) = self.text("id") {
            let hyphenated = id.len() == 36 && uuid::Uuid::try_parse(id).is_ok();
            if !hyphenated {
                self.wrong(line, "id", "must be a UUID such as 7d0f8c4e-5a1b-4c39-9d1e-0c2f4f1f6a11");
            }
        }
    }

    fn one_of(&mut self, field: &str, allowed: &[&str]) {
        if let Some((line, text)) = self.text(field)
            && !allowed.contains(&text.to_ascii_lowercase().as_str())
        {
            self.wrong(line, field, format!("must be one of {}", allowed.join(", ")));
        }
    }

    fn date(&mut self, field: &str) {
        if let Some((line, text)) = self.text(field)
            && iso_date(text).is_none()
        {
            self.wrong(line, field, "must be a date such as 2025-11-01");
        }
    }

    /// One text or a list of them, with their lines.
    fn texts(&mut self, field: &str) -> Vec<(usize, u32, &'n str)> {
        let Some(node) = self.present(field) else {
            return Vec::new();
        };
        match &node.content {
            Content::Text(text) | Content::Literal(text, _) => vec![(0, node.line, text.trim())],
            Content::List(items) if items.len() > MAX_ITEMS => {
                self.wrong(node.line, field, format!("has more than {MAX_ITEMS} entries"));
                Vec::new()
            }
            Content::List(items) => {
                let mut texts = Vec::new();
                for (number, item) in items.iter().enumerate() {
                    match item.written() {
                        Some(text) => texts.push((number, item.line, text.trim())),
                        None => self.wrong(item.line, format!("{field}[{number}]"), "must be a text"),
                    }
                }
                texts
            }
            _ => {
                self.wrong(node.line, field, "must be a list of texts");
                Vec::new()
            }
        }
    }

    fn tags(&mut self) {
        for (number, line, tag) in self.texts("tags") {
            let field = format!("tags[{number}]");
            let fits = |part: &str| {
                !part.is_empty() && part.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'))
            };
            let Some((namespace, name)) = tag.split_once('.').filter(|(namespace, name)| fits(namespace) && fits(name))
            else {
                self.wrong(
                    line,
                    field,
                    "must be a namespace and a name with a dot between them, such as attack.t1059.001",
                );
                continue;
            };
            let of_technique = |name: &str| {
                let mut chars = name.chars();
                matches!(chars.next(), Some('t' | 'T')) && chars.next().is_some_and(|c| c.is_ascii_digit())
            };
            if namespace.eq_ignore_ascii_case("attack") && of_technique(name) && technique_id(name).is_none() {
                self.wrong(line, field, "must name a technique as attack.t1059 or attack.t1059.001");
            }
        }
    }

    fn logsource(&mut self) {
        let Some(node) = self.present("logsource") else {
            return self.wrong(self.root.line, "logsource", "is required");
        };
        if !node.is_map() {
            return self.wrong(node.line, "logsource", "must be a mapping");
        }
        let mut says = false;
        for key in ["category", "product", "service"] {
            let Some(value) = node.get(key).filter(|value| !value.is_null()) else {
                continue;
            };
            says = true;
            if value.written().is_none_or(|text| text.trim().is_empty()) {
                self.wrong(value.line, format!("logsource.{key}"), "must be a text");
            }
        }
        if !says {
            self.wrong(node.line, "logsource", "must have a category, a product or a service");
        }
    }

    fn detection(&mut self) {
        let Some(node) = self.present("detection") else {
            let problem = match self.present("correlation") {
                Some(_) => "is required: correlation rules cannot be added",
                None => "is required",
            };
            return self.wrong(self.root.line, "detection", problem);
        };
        if !node.is_map() {
            return self.wrong(node.line, "detection", "must be a mapping of selections and a condition");
        }
        let entries = node.entries();
        let is_selection = |entry: &&Entry| !matches!(entry.key.as_str(), "condition" | "timeframe");
        let names: Vec<&str> = entries.iter().filter(is_selection).map(|entry| entry.key.as_str()).collect();
        if names.is_empty() {
            self.wrong(node.line, "detection", "must have a selection");
        }
        if names.len() > MAX_SELECTIONS {
            return self.wrong(node.line, "detection", format!("has more than {MAX_SELECTIONS} selections"));
        }
        for entry in entries.iter().filter(is_selection) {
            self.selection(&entry.value, &format!("detection.{}", entry.key));
        }
        self.condition(node, &names);
    }

    fn condition(&mut self, detection: &'n Node, names: &[&str]) {
        const FIELD: &str = "detection.condition";
        let Some(node) = detection.get("condition").filter(|node| !node.is_null()) else {
            return self.wrong(detection.line, FIELD, "is required");
        };
        let conditions: Vec<&Node> = match &node.content {
            Content::Text(_) | Content::Literal(..) => vec![node],
            Content::List(items) if !items.is_empty() && items.len() <= MAX_ITEMS => items.iter().collect(),
            _ => return self.wrong(node.line, FIELD, "must be a text or a list of texts"),
        };
        for condition in conditions {
            match condition.written() {
                Some(text) => {
                    for problem in condition::problems(text, names) {
                        self.wrong(condition.line, FIELD, problem);
                    }
                }
                None => self.wrong(condition.line, FIELD, "must be a text"),
            }
        }
    }

    /// Fields with values, a list of such, or words to look for.
    fn selection(&mut self, node: &'n Node, field: &str) {
        match &node.content {
            Content::Text(_) | Content::Literal(..) => {}
            Content::Map(entries) if !entries.is_empty() => self.fields(entries, field),
            Content::List(items) if !items.is_empty() => {
                for (number, item) in items.iter().enumerate() {
                    let field = format!("{field}[{number}]");
                    match &item.content {
                        Content::Text(_) | Content::Literal(..) => {}
                        Content::Map(entries) if !entries.is_empty() => self.fields(entries, &field),
                        _ => self.wrong(item.line, field, "must be a text or a mapping of fields"),
                    }
                }
            }
            _ => self.wrong(node.line, field, "must be a mapping of fields or a list, and not empty"),
        }
    }

    fn fields(&mut self, entries: &'n [Entry], within: &str) {
        for entry in entries {
            let field = format!("{within}.{}", entry.key);
            for modifier in entry.key.split('|').skip(1) {
                if !MODIFIERS.contains(&modifier) {
                    self.wrong(entry.line, field.clone(), format!("`{modifier}` is no modifier of Sigma"));
                }
            }
            match &entry.value.content {
                Content::Text(_) | Content::Literal(..) | Content::Null => {}
                Content::List(items) if items.is_empty() => self.wrong(entry.value.line, field, "has no value"),
                Content::List(items) => {
                    for item in items {
                        if !matches!(item.content, Content::Text(_) | Content::Literal(..) | Content::Null) {
                            self.wrong(item.line, field.clone(), "must have texts or numbers as values");
                        }
                    }
                }
                Content::Map(_) => self.wrong(entry.value.line, field, "must have a value or a list of values"),
            }
        }
    }
}
