//! Reads Elastic's detection rules as they are published.

use serde_json::Value;
use toml::{Table, Value as Toml};

use super::collected::{Collected, Rule, add_once, iso_date, name, place, publisher_id, put, tactic, technique_id};
use crate::domain::knowledge::{Kind, Knowledge, KnowledgeRecord, ReadError, Reader, SEVERITIES, platform};

const NOTHING: &str = "no Elastic rule could be read. Point the source's url at an archive of elastic/detection-rules, with the folder rules in it.";

/// Reads an archive of Elastic's detection rules.
#[derive(Default)]
pub struct ElasticReader {
    collected: Collected,
}

fn is_root(folder: &str) -> bool {
    matches!(folder, "rules" | "rules_building_block")
}

impl Reader for ElasticReader {
    fn wants(&self, path: &str) -> bool {
        path.ends_with(".toml") && place(path, is_root).is_some()
    }

    fn file(&mut self, path: &str, bytes: &[u8]) -> Result<(), ReadError> {
        let (around, place) = place(path, is_root).unwrap_or((None, path));
        if self.collected.upstream_version.is_none() {
            // An archive of a commit or a tag has it in the name of the folder around everything.
            let version = around.and_then(|folder| folder.strip_prefix("detection-rules-"));
            let is_version = |name: &&str| name.contains(|c: char| c.is_ascii_digit());
            self.collected.upstream_version = version.filter(is_version).map(str::to_owned);
        }
        let Some(text) = self.collected.text(place, bytes) else {
            return Ok(());
        };
        let document = match text.parse::<Table>() {
            Ok(document) => document,
            Err(error) => {
                let line = error.span().map_or(0, |span| {
                    1 + text.as_bytes().iter().take(span.start).filter(|byte| **byte == b'\n').count()
                });
                self.collected.skipped.add(place, format!("line {line}: not valid TOML: {}", error.message()));
                return Ok(());
            }
        };
        match rule(&document) {
            Ok((id, mut record, techniques)) => {
                // The folder says so, not a name such as `..._deprecated_ami_...`.
                record.deprecated |= place.split('/').any(|part| part == "_deprecated");
                record.url = Some(format!("https://github.com/elastic/detection-rules/blob/main/{place}"));
                record.content = Some(text.to_owned());
                put(&mut record.attributes, "path", place);
                self.collected.add(Rule { id: Some(id), place: place.to_owned(), record, techniques })?;
            }
            Err(reason) => self.collected.skipped.add(place, reason),
        }
        Ok(())
    }

    fn finish(self: Box<Self>) -> Result<Knowledge, ReadError> {
        self.collected.finish("elastic", NOTHING)
    }
}

/// The id of a rule, its record without its key, and the techniques that it detects.
fn rule(document: &Table) -> Result<(String, KnowledgeRecord, Vec<String>), &'static str> {
    let rule = document.get("rule").and_then(Toml::as_table).ok_or("it is no rule: it has no table `rule`")?;
    let none = Table::new();
    let metadata = document.get("metadata").and_then(Toml::as_table).unwrap_or(&none);
    let id = text(rule, "rule_id").and_then(publisher_id).ok_or("it has no rule_id")?;
    let title = text(rule, "name").and_then(name).ok_or("it has no name")?;

    let mut record = KnowledgeRecord::new(Kind::DetectionRule, "", "", title);
    record.description = text(rule, "description").map(str::to_owned);
    let severity = text(rule, "severity").map(str::to_ascii_lowercase);
    record.severity = Some(
        severity.filter(|severity| SEVERITIES.contains(&severity.as_str())).unwrap_or_else(|| "medium".to_owned()),
    );
    record.status = text(metadata, "maturity").map(str::to_ascii_lowercase);
    record.deprecated = record.status.as_deref() == Some("deprecated");
    let tags = texts(rule, "tags");
    for platform in tags.iter().filter_map(|tag| tag_platform(tag)) {
        add_once(&mut record.platforms, platform);
    }

    let (mut techniques, mut tactics) = (Vec::new(), Vec::new());
    for threat in tables(rule, "threat") {
        let of_attack =
            text(threat, "framework").is_none_or(|framework| framework.to_ascii_uppercase().contains("ATT&CK"));
        if !of_attack {
            continue;
        }
        let named = threat.get("tactic").and_then(Toml::as_table).and_then(|tactic| text(tactic, "name"));
        if let Some(tactic) = named.and_then(tactic) {
            add_once(&mut tactics, tactic);
        }
        for technique in tables(threat, "technique") {
            for named in std::iter::once(technique).chain(tables(technique, "subtechnique")) {
                if let Some(id) = text(named, "id").and_then(technique_id) {
                    add_once(&mut techniques, id);
                }
            }
        }
    }

    let attributes = &mut record.attributes;
    put(attributes, "rule_format", "elastic");
    for key in ["type", "language", "license", "building_block_type"] {
        put(attributes, key, text(rule, key));
    }
    put(attributes, "author", texts(rule, "author").join(", "));
    put(attributes, "risk_score", rule.get("risk_score").and_then(Toml::as_integer));
    put(attributes, "date", text(metadata, "creation_date").and_then(iso_date));
    put(attributes, "modified", text(metadata, "updated_date").and_then(iso_date));
    put(attributes, "deprecation_date", text(metadata, "deprecation_date").and_then(iso_date));
    put(attributes, "falsepositives", texts(rule, "false_positives"));
    put(attributes, "integration", texts(metadata, "integration"));
    for key in ["index", "references"] {
        put(attributes, key, texts(rule, key));
    }
    put(attributes, "tactics", tactics);
    put(attributes, "tags", Value::from(tags));
    Ok((id, record, techniques))
}

fn text<'a>(table: &'a Table, key: &str) -> Option<&'a str> {
    table.get(key)?.as_str().map(str::trim).filter(|text| !text.is_empty())
}

/// Of one text, or of a list of them.
fn texts<'a>(table: &'a Table, key: &str) -> Vec<&'a str> {
    let texts: Vec<_> = match table.get(key) {
        Some(Toml::String(text)) => vec![text.as_str()],
        Some(Toml::Array(items)) => items.iter().filter_map(Toml::as_str).collect(),
        _ => Vec::new(),
    };
    texts.into_iter().map(str::trim).filter(|text| !text.is_empty()).collect()
}

fn tables<'a>(table: &'a Table, key: &str) -> impl Iterator<Item = &'a Table> {
    table.get(key).and_then(Toml::as_array).into_iter().flatten().filter_map(Toml::as_table)
}

/// The ATT&CK platform that a tag such as `OS: Linux` names. Tags of old rules are bare.
fn tag_platform(tag: &str) -> Option<String> {
    let (topic, value) = tag.split_once(':').unwrap_or(("", tag));
    let value = value.trim().to_ascii_lowercase();
    let known = match (topic.trim(), value.as_str()) {
        ("OS", os) => os,
        ("", "windows" | "linux" | "macos") => value.as_str(),
        ("Domain", "container" | "kubernetes") | ("Data Source", "kubernetes") => "containers",
        ("Domain" | "Data Source", "saas" | "github") => "saas",
        ("Data Source", "okta" | "entra id" | "microsoft entra id") => "identity provider",
        ("Data Source", "microsoft 365" | "google workspace") => "office suite",
        ("Data Source" | "", "aws" | "amazon web services" | "azure" | "gcp" | "google cloud platform") => "iaas",
        ("Data Source", "pan-os") => "network devices",
        _ => return None,
    };
    platform(known)
}
