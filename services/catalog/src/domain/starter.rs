//! What the catalogue holds before the first sync: the files under `data/`, read.

use chrono::{DateTime, Utc};
use serde::Deserialize;
use uuid::Uuid;

use super::{
    technique::{Domain, Source, Tactic, Technique, platform_names},
    template::{AEGIS, NO_DETAILS, Template},
};

const MATRIX: &str = include_str!("../../data/starter-matrix.tsv");
const TACTICS: &str = include_str!("../../data/starter-tactics.tsv");
const TEMPLATES: &str = include_str!("../../data/starter-templates.json");
/// The release of ATT&CK that the starter matrix is of.
pub const RELEASE: &str = "18.1";

fn rows(text: &'static str) -> impl Iterator<Item = Vec<&'static str>> {
    text.lines().filter(|line| !line.starts_with('#') && !line.is_empty()).map(|line| line.split('\t').collect())
}

fn list(text: &str) -> Vec<String> {
    text.split(',').filter(|word| !word.is_empty()).map(str::to_owned).collect()
}

/// The techniques of the starter matrix.
pub fn techniques(now: DateTime<Utc>) -> Vec<Technique> {
    let technique = |row: Vec<&str>| {
        let &[mitre_id, name, tactics, platforms, _parent, version] = row.as_slice() else { return None };
        let mut technique = Technique::new(mitre_id.to_owned(), Domain::Enterprise, Source::Starter, now);
        name.clone_into(&mut technique.name);
        technique.tactics = list(tactics);
        technique.platforms = platform_names(&list(platforms));
        technique.attack_version = (!version.is_empty()).then(|| version.to_owned());
        technique.url = Some(format!("https://attack.mitre.org/techniques/{}/", mitre_id.replace('.', "/")));
        Some(technique)
    };
    rows(MATRIX).filter_map(technique).collect()
}

/// The columns of the starter matrix.
pub fn tactics() -> Vec<Tactic> {
    let tactic = |(position, row): (i64, Vec<&str>)| {
        let &[mitre_id, short_name, name] = row.as_slice() else { return None };
        Some(Tactic {
            id: Uuid::now_v7(),
            mitre_id: mitre_id.to_owned(),
            short_name: short_name.to_owned(),
            name: name.to_owned(),
            domain: Domain::Enterprise,
            position,
            deprecated: false,
            source: Source::Starter,
            stix_id: None,
        })
    };
    (0..).zip(rows(TACTICS)).filter_map(tactic).collect()
}

#[derive(Deserialize)]
struct Entry {
    source_id: String,
    name: String,
    description: Option<String>,
    mitre_technique_id: String,
    platform: Option<String>,
    severity: String,
    attack_procedure: Option<String>,
    tool_suggested: Option<String>,
    suggested_remediation: Option<String>,
    expected_detection: Option<String>,
    cleanup_procedure: Option<String>,
}

/// The starter templates.
pub fn templates(now: DateTime<Utc>) -> Result<Vec<Template>, serde_json::Error> {
    let entries: Vec<Entry> = serde_json::from_str(TEMPLATES)?;
    let template = |entry: Entry| Template {
        id: Uuid::now_v7(),
        name: entry.name,
        description: entry.description,
        source: AEGIS.to_owned(),
        source_id: entry.source_id,
        mitre_technique_id: entry.mitre_technique_id,
        platforms: entry.platform.iter().map(|platform| platform.to_lowercase()).collect(),
        severity: entry.severity,
        attack_procedure: entry.attack_procedure,
        tool_suggested: entry.tool_suggested,
        suggested_remediation: entry.suggested_remediation,
        expected_detection: entry.expected_detection,
        cleanup_procedure: entry.cleanup_procedure,
        details: NO_DETAILS.to_owned(),
        origin: None,
        content_hash: None,
        vanished: false,
        is_active: true,
        version: 1,
        created_at: now,
        updated_at: now,
    };
    Ok(entries.into_iter().map(template).collect())
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;
    use crate::domain::{technique::is_mitre_id, template::SEVERITIES};

    #[test]
    fn every_line_is_read_and_the_parts_fit_together() {
        let (techniques, tactics) = (techniques(Utc::now()), tactics());
        let templates = templates(Utc::now()).unwrap();
        assert_eq!((techniques.len(), tactics.len(), templates.len()), (691, 14, 48));
        let ids: HashSet<_> = techniques.iter().map(|t| t.mitre_id.as_str()).collect();
        let columns: HashSet<_> = tactics.iter().map(|t| t.short_name.as_str()).collect();
        assert_eq!((ids.len(), columns.len()), (691, 14));
        for technique in &techniques {
            assert!(is_mitre_id(&technique.mitre_id), "{}", technique.mitre_id);
            assert!(!technique.name.is_empty() && !technique.tactics.is_empty() && !technique.platforms.is_empty());
            assert!(technique.tactics.iter().all(|t| columns.contains(t.as_str())), "{:?}", technique.tactics);
            assert!(technique.parent_mitre_id.as_deref().is_none_or(|parent| ids.contains(parent)));
        }
        let keys: HashSet<_> = templates.iter().map(|t| t.source_id.as_str()).collect();
        assert_eq!(keys.len(), 48);
        for template in &templates {
            assert!(ids.contains(template.mitre_technique_id.as_str()), "{}", template.mitre_technique_id);
            assert!(SEVERITIES.contains(&template.severity.as_str()));
        }
    }
}
