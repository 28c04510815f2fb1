//! The control texts of NIST SP 800-53, as its OSCAL catalogue has them.

use std::collections::{BTreeMap, HashMap};
use std::fmt::Write;

use serde_json::Value;

use super::mapping::version_parts;
use super::{Framework, canonical_id, json, key, parent};
use crate::domain::knowledge::{Kind, KnowledgeRecord, ReadError, Skips};

const MAX_CONTROLS: usize = 20_000;
const MAX_NAME: usize = 300;
const MAX_TEXT: usize = 20_000;
const MAX_LIST: usize = 100;
/// Parts in parts, and parameters in parameters.
const MAX_DEPTH: usize = 8;
/// Parameters that are put into one text, those in others among them.
const MAX_INSERTS: usize = 500;
const FRAMEWORK: Framework = Framework::Nist80053;

/// What is kept of the catalogue.
#[derive(Debug)]
pub(super) struct Catalog {
    pub(super) rank: Vec<u32>,
    pub(super) version: Option<String>,
    /// A date, the year first.
    pub(super) updated: Option<String>,
    /// By canonical id.
    pub(super) controls: BTreeMap<String, KnowledgeRecord>,
    pub(super) skipped: Skips,
}

struct Family<'a> {
    id: String,
    name: Option<String>,
    parameters: &'a HashMap<&'a str, &'a Value>,
}

impl Catalog {
    pub(super) fn read(path: &str, value: &Value) -> Result<Self, ReadError> {
        let catalog = value.get("catalog");
        let said = |member: &str| {
            json::text(catalog.and_then(|it| it.get("metadata")).and_then(|metadata| metadata.get(member)), 100)
        };
        let groups = json::items(catalog.and_then(|catalog| catalog.get("groups")));
        let mut parameters = HashMap::new();
        groups.iter().for_each(|group| collect_parameters(group, 0, &mut parameters));

        let version = said("version");
        let mut read = Catalog {
            rank: version_parts(version.as_deref().unwrap_or_default()),
            version,
            updated: said("last-modified").map(|time| time.split('T').next().unwrap_or_default().to_owned()),
            controls: BTreeMap::new(),
            skipped: Skips::default(),
        };
        for group in groups {
            let id = json::text(group.get("id"), 100).unwrap_or_default().to_uppercase();
            let family = Family { id, name: json::text(group.get("title"), MAX_NAME), parameters: &parameters };
            read.add_all(group, &family, 0);
        }
        if read.controls.is_empty() {
            return Err(ReadError(format!(
                "{path} holds no control that can be read. Point the source at NIST_SP-800-53_rev5_catalog.json of \
                 usnistgov/oscal-content"
            )));
        }
        Ok(read)
    }

    /// The controls of a family, or the enhancements of a control.
    fn add_all(&mut self, holder: &Value, family: &Family<'_>, depth: usize) {
        for value in json::items(holder.get("controls")) {
            let named = json::text(value.get("id"), MAX_NAME);
            let Some(id) = named.as_deref().and_then(|id| canonical_id(FRAMEWORK, id)) else {
                let id = named.unwrap_or_else(|| format!("a control of {}", family.id));
                self.skipped.add(id, "its id is none of NIST 800-53");
                continue;
            };
            if self.controls.len() >= MAX_CONTROLS {
                self.skipped.add(id, format!("the catalogue has more than {MAX_CONTROLS} controls"));
                continue;
            }
            match record(&id, value, family) {
                Some(_) if self.controls.contains_key(&id) => self.skipped.add(id, "it is listed twice"),
                Some(record) => _ = self.controls.insert(id, record),
                None => self.skipped.add(id, "it has no title"),
            }
            if depth < MAX_DEPTH {
                self.add_all(value, family, depth + 1);
            }
        }
    }
}

fn record(id: &str, value: &Value, family: &Family<'_>) -> Option<KnowledgeRecord> {
    let title = json::text(value.get("title"), MAX_NAME)?;
    let mut record = KnowledgeRecord::new(Kind::Control, key(FRAMEWORK, id), id, title);
    record.collection = Some(FRAMEWORK.as_str().to_owned());
    record.description = text_of(value, "statement", family.parameters);
    record.deprecated = properties(value, "status").any(|status| status == "withdrawn");

    let attributes = &mut record.attributes;
    let mut keep = |name: &str, value: Option<Value>| {
        if let Some(value) = value {
            attributes.insert(name.to_owned(), value);
        }
    };
    keep("family", Some(Value::from(family.id.as_str())));
    keep("family_name", family.name.clone().map(Value::from));
    keep("parent", parent(FRAMEWORK, id).map(Value::from));
    keep("guidance", text_of(value, "guidance", family.parameters).map(Value::from));
    keep("related", list(linked(value, &["related"])));
    let successors = linked(value, &["incorporated-into", "moved-to"]);
    record.revoked_by = successors.first().filter(|_| record.deprecated).map(|successor| key(FRAMEWORK, successor));
    keep("incorporated_into", list(successors));
    Some(record)
}

fn list(ids: Vec<String>) -> Option<Value> {
    (!ids.is_empty()).then(|| Value::from(ids))
}

fn properties<'a>(value: &'a Value, name: &'a str) -> impl Iterator<Item = &'a str> {
    json::items(value.get("props"))
        .iter()
        .filter(move |property| property.get("name").and_then(Value::as_str) == Some(name))
        .filter_map(|property| property.get("value")?.as_str())
}

/// Controls that a control links to by `#ac-2` or, to a part of one, `#ac-2_smt.k`.
fn linked(value: &Value, relations: &[&str]) -> Vec<String> {
    let mut ids: Vec<String> = Vec::new();
    for link in json::items(value.get("links")) {
        let is_wanted = link.get("rel").and_then(Value::as_str).is_some_and(|rel| relations.contains(&rel));
        let id = link
            .get("href")
            .and_then(Value::as_str)
            .and_then(|href| href.strip_prefix('#')?.split('_').next())
            .and_then(|id| canonical_id(FRAMEWORK, id));
        if let Some(id) = id
            && is_wanted
            && !ids.contains(&id)
            && ids.len() < MAX_LIST
        {
            ids.push(id);
        }
    }
    ids
}

/// A part of a control as text, one line each item, indented as deep as it stands.
fn text_of(value: &Value, name: &str, parameters: &HashMap<&str, &Value>) -> Option<String> {
    let mut text = String::new();
    for part in json::items(value.get("parts")) {
        if part.get("name").and_then(Value::as_str) == Some(name) {
            write_part(part, 0, parameters, &mut text);
        }
    }
    json::bounded(&text, MAX_TEXT)
}

fn write_part(part: &Value, depth: usize, parameters: &HashMap<&str, &Value>, text: &mut String) {
    if depth > MAX_DEPTH || text.len() > 4 * MAX_TEXT {
        return;
    }
    if let Some(prose) = part.get("prose").and_then(Value::as_str) {
        let label = if depth > 0 { properties(part, "label").next() } else { None };
        let prose = fill(prose, parameters);
        let indent = "  ".repeat(depth.saturating_sub(1));
        let gap = if label.is_some() { " " } else { "" };
        let _ = writeln!(text, "{indent}{}{gap}{}", label.unwrap_or_default(), without_anchors(prose.trim()));
    }
    for inner in json::items(part.get("parts")) {
        write_part(inner, depth + 1, parameters, text);
    }
}

fn collect_parameters<'a>(holder: &'a Value, depth: usize, parameters: &mut HashMap<&'a str, &'a Value>) {
    for parameter in json::items(holder.get("params")) {
        if let Some(id) = parameter.get("id").and_then(Value::as_str) {
            parameters.insert(id, parameter);
        }
    }
    if depth <= MAX_DEPTH {
        for control in json::items(holder.get("controls")) {
            collect_parameters(control, depth + 1, parameters);
        }
    }
}

/// Puts what stands for a parameter in place of `{{ insert: param, <id> }}`, as the printed catalogue has it.
fn fill(prose: &str, parameters: &HashMap<&str, &Value>) -> String {
    fill_within(prose, 0, &mut { MAX_INSERTS }, parameters)
}

fn fill_within(prose: &str, depth: usize, inserts: &mut usize, parameters: &HashMap<&str, &Value>) -> String {
    let mut filled = String::with_capacity(prose.len());
    let mut rest = prose;
    while let Some((before, after)) = rest.split_once("{{") {
        filled.push_str(before);
        let Some((insert, after)) = after.split_once("}}") else {
            filled.push_str("{{");
            rest = after;
            continue;
        };
        let id = insert.trim().strip_prefix("insert: param,").map(str::trim).unwrap_or_default();
        match parameters.get(id) {
            Some(parameter) if depth < MAX_DEPTH && *inserts > 0 => {
                *inserts -= 1;
                filled.push_str(&placeholder(parameter, depth, inserts, parameters));
            }
            _ => filled.push_str("[Assignment]"),
        }
        rest = after;
    }
    filled.push_str(rest);
    filled
}

fn placeholder(parameter: &Value, depth: usize, inserts: &mut usize, parameters: &HashMap<&str, &Value>) -> String {
    if let Some(select) = parameter.get("select") {
        let several = select.get("how-many").and_then(Value::as_str) == Some("one-or-more");
        let choices: Vec<_> = json::texts(select.get("choice"), MAX_LIST, MAX_NAME)
            .iter()
            .map(|choice| fill_within(choice, depth + 1, inserts, parameters))
            .collect();
        return format!("[Selection{}: {}]", if several { " (one or more)" } else { "" }, choices.join("; "));
    }
    match json::text(parameter.get("label"), MAX_NAME) {
        Some(label) => format!("[Assignment: {label}]"),
        None => "[Assignment]".to_owned(),
    }
}

/// Links to places in the catalogue lead nowhere here: `[AU-2](#au-2)` becomes `AU-2`.
fn without_anchors(prose: &str) -> String {
    let mut text = String::with_capacity(prose.len());
    let mut rest = prose;
    while let Some((before, after)) = rest.split_once("](#") {
        match (before.rsplit_once('['), after.split_once(')')) {
            (Some((before, label)), Some((_, after))) => {
                text.push_str(before);
                text.push_str(label);
                rest = after;
            }
            _ => {
                text.push_str(before);
                text.push_str("](#");
                rest = after;
            }
        }
    }
    text.push_str(rest);
    text
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(value: &Value) -> Catalog {
        Catalog::read("catalog.json", value).unwrap()
    }

    #[test]
    fn text_with_parameters_enhancements_and_withdrawn() {
        let catalog = read(&json!({"catalog": {
            "metadata": {"version": "5.2.0", "last-modified": "2025-08-26T14:33:16.00000-00:00"},
            "groups": [{"id": "ac", "title": "Access Control", "controls": [
                {"id": "ac-2", "title": "Account Management",
                 "params": [
                    {"id": "ac-02_odp.01", "label": "time period"},
                    {"id": "ac-02_odp.02", "select": {"how-many": "one-or-more", "choice": ["daily", "each {{ insert: param, ac-02_odp.01 }}"]}},
                    {"id": "loop", "select": {"choice": ["{{ insert: param, loop }}"]}}],
                 "links": [{"rel": "related", "href": "#ac-3"}, {"rel": "reference", "href": "#0-1"}],
                 "parts": [
                    {"name": "statement", "prose": "The organization:", "parts": [
                        {"name": "item", "props": [{"name": "label", "value": "a."}], "prose": "Reviews accounts {{ insert: param, ac-02_odp.02 }}; and", "parts": [
                            {"name": "item", "props": [{"name": "label", "value": "1."}], "prose": "Says so {{ insert: param, gone }}."}]}]},
                    {"name": "guidance", "prose": "See [AC-3](#ac-3) and [x](https://example.org)."},
                    {"name": "assessment-objective", "prose": "not kept"}],
                 "controls": [{"id": "ac-2.10", "title": "Shared Account Credential Change",
                    "props": [{"name": "status", "value": "withdrawn"}],
                    "links": [{"rel": "incorporated-into", "href": "#ac-2_smt.k"}]}]},
                {"id": "ac-02", "title": "Again"}, {"id": "nonsense", "title": "X"}, {"id": "ac-3"}, 7]}]}}));
        assert_eq!((catalog.version.as_deref(), catalog.updated.as_deref()), (Some("5.2.0"), Some("2025-08-26")));
        let control = &catalog.controls["AC-2"];
        assert_eq!(control.key, "nist_800_53:AC-2");
        assert_eq!(
            control.description.as_deref(),
            Some(
                "The organization:\na. Reviews accounts [Selection (one or more): daily; each [Assignment: time period]]; \
                 and\n  1. Says so [Assignment]."
            )
        );
        assert_eq!(control.attributes["guidance"], "See AC-3 and [x](https://example.org).");
        assert_eq!((&control.attributes["family"], &control.attributes["related"]), (&json!("AC"), &json!(["AC-3"])));
        let enhancement = &catalog.controls["AC-2(10)"];
        assert!(enhancement.deprecated && enhancement.description.is_none());
        assert_eq!(enhancement.attributes["parent"], "AC-2");
        assert_eq!(enhancement.revoked_by.as_deref(), Some("nist_800_53:AC-2"));
        let reasons: Vec<_> = catalog.skipped.first.iter().map(|skip| skip.reason.as_str()).collect();
        assert_eq!(
            reasons,
            ["it is listed twice", "its id is none of NIST 800-53", "it has no title", "its id is none of NIST 800-53"]
        );
    }

    #[test]
    fn a_parameter_of_itself_ends() {
        let parameter =
            json!({"id": "loop", "select": {"choice": ["{{ insert: param, loop }} {{ insert: param, loop }}"]}});
        let parameters = HashMap::from([("loop", &parameter)]);
        assert!(fill("{{ insert: param, loop }}", &parameters).len() < 20_000);
        assert_eq!(fill("{{ open", &parameters), "{{ open");
    }
}
