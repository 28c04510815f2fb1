//! What the readers of rules share: the rules so far, and what ids, dates, techniques and tactics look like.

use std::collections::HashSet;

use chrono::NaiveDate;
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};

use crate::domain::knowledge::{Kind, Knowledge, KnowledgeRecord, LinkRecord, ReadError, Skips, is_technique_id};
use crate::domain::yaml::file_text;

/// Bytes one rule's file may have; the largest that is published has 295 KB.
pub(super) const MAX_RULE_BYTES: usize = 1024 * 1024;
/// Rules one document may bring.
const MAX_RULES: usize = 100_000;
/// Bytes that all the rules' texts may have together; the largest publisher has 11 MB.
const MAX_KEPT: usize = 128 * 1024 * 1024;
/// Characters a rule's name may have.
const MAX_NAME: usize = 512;
/// Characters a publisher's id may have.
const MAX_ID: usize = 100;

/// The path from the first folder that `root` knows on, and the folder around it. `None` for a file that is in no such
/// folder, or in one of the publisher's own tests.
pub(super) fn place(path: &str, root: fn(&str) -> bool) -> Option<(Option<&str>, &str)> {
    let mut around = None;
    let mut rest = path;
    while let Some((folder, inner)) = rest.split_once('/') {
        match folder {
            "" | "." => {}
            "tests" | "regression_data" => return None,
            known if root(known) => return Some((around, rest)),
            other => around = Some(other),
        }
        rest = inner;
    }
    // A document that is no archive.
    (around.is_none() && !rest.starts_with('.')).then_some((None, rest))
}

/// One rule, before its key is settled.
pub(super) struct Rule {
    /// The publisher's id of it, if it has one.
    pub id: Option<String>,
    /// Where it is; unique in the document.
    pub place: String,
    /// The rest of it; its key and `source_id` are written by [`Collected::finish`].
    pub record: KnowledgeRecord,
    /// ATT&CK ids that it detects, each once.
    pub techniques: Vec<String>,
}

/// The rules so far.
#[derive(Default)]
pub(super) struct Collected {
    pub upstream_version: Option<String>,
    pub skipped: Skips,
    rules: Vec<Rule>,
    kept: usize,
}

impl Collected {
    pub(super) fn add(&mut self, rule: Rule) -> Result<(), ReadError> {
        if self.rules.len() == MAX_RULES {
            return Err(ReadError(format!("the archive holds more than {MAX_RULES} rules")));
        }
        self.kept += rule.record.content.as_ref().map_or(0, String::len);
        if self.kept > MAX_KEPT {
            return Err(ReadError(format!("the rules have more than {MAX_KEPT} bytes together")));
        }
        self.rules.push(rule);
        Ok(())
    }

    /// The file as text, without its byte order mark. What is no text is skipped.
    pub(super) fn text<'a>(&mut self, place: &str, bytes: &'a [u8]) -> Option<&'a str> {
        match file_text(bytes, MAX_RULE_BYTES) {
            Ok(text) => Some(text),
            Err(unreadable) => {
                self.skipped.add(place, unreadable.to_string());
                None
            }
        }
    }

    /// Settles the keys: of two rules with one id the active one keeps it, whatever the order of the archive, and the
    /// other is known by where it is.
    pub(super) fn finish(self, prefix: &str, nothing: &str) -> Result<Knowledge, ReadError> {
        let Collected { upstream_version, skipped, mut rules, .. } = self;
        if rules.is_empty() {
            let first =
                skipped.first.first().map(|skip| format!(" The first problem is in {}: {}.", skip.id, skip.reason));
            return Err(ReadError(format!("{nothing}{}", first.unwrap_or_default())));
        }
        rules.sort_by(|a, b| (a.record.deprecated, &a.place).cmp(&(b.record.deprecated, &b.place)));
        let mut taken = HashSet::with_capacity(rules.len());
        let mut knowledge = Knowledge { upstream_version, skipped, ..Knowledge::default() };
        knowledge.records.reserve(rules.len());
        for rule in rules {
            let id = match rule.id {
                Some(id) if taken.insert(id.clone()) => id,
                _ => derived_id(&[prefix, &rule.place]),
            };
            let (record, links) = settle(prefix, id, rule.record, &rule.techniques);
            knowledge.records.push(record);
            knowledge.links.extend(links);
        }
        Ok(knowledge)
    }
}

/// The record under its key, with the links to what it detects.
pub(super) fn settle(
    prefix: &str,
    id: String,
    mut record: KnowledgeRecord,
    techniques: &[String],
) -> (KnowledgeRecord, Vec<LinkRecord>) {
    record.key = format!("{prefix}:{id}");
    record.source_id = id;
    let links = techniques
        .iter()
        .map(|technique| LinkRecord::to_technique(Kind::DetectionRule, &record.key, "detects", technique))
        .collect();
    (record, links)
}

/// A UUID that is the same for the same parts (version 8 over SHA-256).
pub(super) fn derived_id(parts: &[&str]) -> String {
    let mut hasher = Sha256::new();
    for part in parts {
        hasher.update((part.len() as u64).to_be_bytes());
        hasher.update(part.as_bytes());
    }
    let hash: [u8; 32] = hasher.finalize().into();
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&hash[..16]);
    uuid::Builder::from_custom_bytes(bytes).into_uuid().to_string()
}

/// An id without what cannot be seen in it: spaces around it, zero-width and direction characters. `None` for a text
/// that is no id. A UUID has one spelling.
pub(super) fn publisher_id(text: &str) -> Option<String> {
    let id: String = text.trim().chars().filter(|c| !is_invisible(*c)).collect();
    let id = id.trim();
    if let Ok(uuid) = uuid::Uuid::try_parse(id) {
        return Some(uuid.to_string());
    }
    let fits =
        !id.is_empty() && id.len() <= MAX_ID && id.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b));
    fits.then(|| id.to_owned())
}

/// Characters that are not seen: zero-width ones and those that set the direction of a text.
pub(super) fn is_invisible(c: char) -> bool {
    matches!(c, '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
}

/// A name of at most so many characters as a record may have.
pub(super) fn name(text: &str) -> Option<String> {
    let text = text.trim();
    (!text.is_empty()).then(|| text.chars().take(MAX_NAME).collect())
}

/// An ATT&CK technique's id in capitals; `None` for anything else.
pub(super) fn technique_id(text: &str) -> Option<String> {
    let id = text.to_ascii_uppercase();
    is_technique_id(&id).then_some(id)
}

/// A tactic's short name, such as `defense-evasion`, from any spelling of it; which tactics there are is data.
pub(super) fn tactic(text: &str) -> Option<String> {
    let fits = text.starts_with(|c: char| c.is_ascii_alphabetic())
        && text.chars().all(|c| c.is_ascii_alphabetic() || matches!(c, '-' | '_' | ' '));
    fits.then(|| text.trim().to_ascii_lowercase().replace(['_', ' '], "-"))
}

/// `2017-01-10`, also from `2017/01/10`.
pub(super) fn iso_date(text: &str) -> Option<String> {
    let mut parts = text.trim().split(['-', '/']);
    let (year, month, day) = (parts.next()?, parts.next()?, parts.next()?);
    if year.len() != 4 || parts.next().is_some() {
        return None;
    }
    let date = NaiveDate::from_ymd_opt(year.parse().ok()?, month.parse().ok()?, day.parse().ok()?)?;
    Some(date.to_string())
}

/// Adds to a list what is not in it yet.
pub(super) fn add_once(list: &mut Vec<String>, item: String) {
    if !list.contains(&item) {
        list.push(item);
    }
}

/// Adds an attribute unless it says nothing.
pub(super) fn put(attributes: &mut Map<String, Value>, key: &str, value: impl Into<Value>) {
    let value = value.into();
    let says = match &value {
        Value::Null => false,
        Value::String(text) => !text.is_empty(),
        Value::Array(list) => !list.is_empty(),
        Value::Object(map) => !map.is_empty(),
        _ => true,
    };
    if says {
        attributes.insert(key.to_owned(), value);
    }
}
