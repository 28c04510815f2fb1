//! One file of the mappings explorer: a framework's controls, in one version, on one version of ATT&CK.

use std::collections::{BTreeMap, HashMap};

use chrono::NaiveDate;
use serde_json::{Map, Value};

use super::{Framework, MAX_REFERENCES, canonical_id, json};
use crate::domain::knowledge::{ReadError, Skips, is_technique_id};

const MAX_ROWS: usize = 200_000;
const MAX_NAME: usize = 300;
const MAX_TEXT: usize = 10_000;
const MAX_URLS: usize = 20;

/// Which of two mappings is newer: the version of ATT&CK first, then the framework's own.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Rank {
    attack: Vec<u32>,
    framework: Vec<u32>,
}

impl Rank {
    fn new(attack: &str, framework: &str) -> Self {
        Rank { attack: version_parts(attack), framework: version_parts(framework) }
    }
}

/// The numbers of a version, of a date the year first: `rev5`, `v2.1`, `07.28.2025`, `07/28/2025`.
pub(super) fn version_parts(text: &str) -> Vec<u32> {
    let numbers: Vec<u32> =
        text.split(|letter: char| !letter.is_ascii_digit()).filter_map(|digits| digits.parse().ok()).collect();
    match numbers[..] {
        [month, day, year] if year >= 1900 => vec![year, month, day],
        _ => numbers,
    }
}

/// What a file's name says: `<framework>-<version>_attack-<version>-<domain>.json`.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct FileName<'a> {
    pub(super) framework: &'a str,
    version: &'a str,
    attack: &'a str,
    pub(super) domain: &'a str,
}

impl<'a> FileName<'a> {
    pub(super) fn parse(name: &'a str) -> Option<Self> {
        let (rest, domain) = name.strip_suffix(".json")?.rsplit_once('-')?;
        let (rest, attack) = rest.rsplit_once("_attack-")?;
        let (framework, version) = rest.split_once('-')?;
        Some(FileName { framework, version, attack, domain })
    }

    pub(super) fn rank(&self) -> Rank {
        Rank::new(self.attack, self.version)
    }
}

/// What is kept of the file.
#[derive(Debug)]
pub(super) struct Mapping {
    pub(super) rank: Rank,
    pub(super) version: Option<String>,
    pub(super) attack_version: Option<String>,
    /// Dates, the year first.
    pub(super) created: Option<String>,
    pub(super) updated: Option<String>,
    /// Names by id.
    pub(super) families: BTreeMap<String, String>,
    /// By canonical id, the ones that map to nothing among them.
    pub(super) controls: BTreeMap<String, Control>,
    /// What is said of each control and technique.
    pub(super) pairs: BTreeMap<(String, String), Vec<Value>>,
    pub(super) skipped: Skips,
}

#[derive(Debug)]
pub(super) struct Control {
    pub(super) name: Option<String>,
    pub(super) description: Option<String>,
    pub(super) family: Option<String>,
}

impl Mapping {
    /// Reads the file; `rank` is its name's, where that says one.
    pub(super) fn read(framework: Framework, path: &str, value: &Value, rank: Option<Rank>) -> Result<Self, ReadError> {
        let said = |member: &str| json::text(value.get("metadata").and_then(|metadata| metadata.get(member)), 100);
        let Some(Value::Array(rows)) = value.get("mapping_objects") else {
            return Err(ReadError(format!("{path} has no list of mapping_objects; check the source's url")));
        };
        if rows.len() > MAX_ROWS {
            return Err(ReadError(format!("{path} has more than {MAX_ROWS} mappings; check the source's url")));
        }
        let (version, attack_version) = (said("mapping_framework_version"), said("attack_version"));
        let rank = rank.unwrap_or_else(|| {
            Rank::new(attack_version.as_deref().unwrap_or_default(), version.as_deref().unwrap_or_default())
        });
        let mut mapping = Mapping {
            rank,
            version,
            attack_version,
            created: said("creation_date").map(|date| iso(&date)),
            updated: said("last_update").map(|date| iso(&date)),
            families: families(value),
            controls: BTreeMap::new(),
            pairs: BTreeMap::new(),
            skipped: Skips::default(),
        };
        let spellings = spellings(framework, rows);
        for (index, row) in rows.iter().enumerate() {
            mapping.add(framework, index, row, &spellings);
        }
        if mapping.controls.is_empty() {
            let why = mapping.skipped.first.first().map_or("it is empty", |skip| &skip.reason);
            return Err(ReadError(format!("{path} holds no control that can be read: {why}; check the source's url")));
        }
        Ok(mapping)
    }

    fn add(&mut self, framework: Framework, index: usize, row: &Value, spellings: &HashMap<String, String>) {
        let control = json::text(row.get("capability_id"), MAX_NAME);
        let technique = json::text(row.get("attack_object_id"), MAX_NAME);
        let place = || format!("mapping {}", index + 1);
        let Some(control) = control else {
            self.skipped.add(technique.unwrap_or_else(place), "maps to nothing");
            return;
        };
        let Some(id) = canonical_id(framework, &control) else {
            self.skipped.add(control, "is no control id of the framework");
            return;
        };
        let id = spellings.get(&id.to_lowercase()).cloned().unwrap_or(id);
        self.controls.entry(id.clone()).or_insert_with(|| {
            let said = json::text(row.get("capability_description"), MAX_TEXT);
            let family = json::text(row.get("capability_group"), MAX_NAME);
            // VERIS says what a term means; the others say what a control is called.
            let (name, description) = match framework {
                Framework::Veris => (None, said),
                _ => (said.and_then(|said| json::bounded(&said, MAX_NAME)), None),
            };
            Control { name, description, family }
        });
        let Some(technique) = technique.map(|technique| technique.to_uppercase()) else {
            self.skipped.add(id, "maps to nothing");
            return;
        };
        if !is_technique_id(&technique) {
            self.skipped.add(id, format!("maps to {technique}, which is no technique id"));
            return;
        }
        let said = self.pairs.entry((id, technique)).or_default();
        let reference = reference(row);
        if !said.contains(&reference) && said.len() < MAX_REFERENCES {
            said.push(reference);
        }
    }
}

/// Of ids that differ in case alone, the one that is kept: lower case goes before upper case.
fn spellings(framework: Framework, rows: &[Value]) -> HashMap<String, String> {
    let mut spellings: HashMap<String, String> = HashMap::new();
    for row in rows {
        let Some(id) = json::text(row.get("capability_id"), MAX_NAME).and_then(|id| canonical_id(framework, &id))
        else {
            continue;
        };
        let known = spellings.entry(id.to_lowercase()).or_default();
        if *known < id {
            *known = id;
        }
    }
    spellings
}

/// What a row says besides its ends.
fn reference(row: &Value) -> Value {
    let mut reference = Map::new();
    for (name, max) in [
        ("mapping_type", 100),
        ("comments", MAX_TEXT),
        ("score_category", 100),
        ("score_value", 100),
        ("related_score", 100),
    ] {
        if let Some(text) = json::text(row.get(name), max) {
            reference.insert(name.to_owned(), Value::from(text));
        }
    }
    let mut urls = json::texts(row.get("references"), MAX_URLS, 2_000);
    urls.retain(|url| url.starts_with("https://") || url.starts_with("http://"));
    if !urls.is_empty() {
        reference.insert("urls".to_owned(), Value::from(urls));
    }
    Value::Object(reference)
}

fn families(value: &Value) -> BTreeMap<String, String> {
    let groups =
        value.get("metadata").and_then(|metadata| metadata.get("capability_groups")).and_then(Value::as_object);
    groups
        .into_iter()
        .flatten()
        .filter_map(|(id, name)| Some((json::bounded(id, MAX_NAME)?, json::text(Some(name), MAX_NAME)?)))
        .collect()
}

/// The mappings write months first.
fn iso(date: &str) -> String {
    NaiveDate::parse_from_str(date, "%m/%d/%Y").map_or_else(|_| date.to_owned(), |date| date.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_versions() {
        let name = FileName::parse("nist_800_53-rev5_attack-16.1-enterprise.json").unwrap();
        assert_eq!(
            (name.framework, name.version, name.attack, name.domain),
            ("nist_800_53", "rev5", "16.1", "enterprise")
        );
        let rank = |name| FileName::parse(name).unwrap().rank();
        assert!(rank("aws-12.12.2024_attack-9.0-enterprise.json") < rank("aws-09.21.2021_attack-16.1-enterprise.json"));
        assert!(
            rank("aws-12.12.2024_attack-16.1-enterprise.json") < rank("aws-01.02.2025_attack-16.1-enterprise.json")
        );
        assert!(
            rank("nist_800_53-rev4_attack-14.1-enterprise.json") < rank("nist_800_53-rev5_attack-14.1-enterprise.json")
        );
        for name in ["nist_800_53-rev5_attack-16.1-enterprise_navigator_layer.json", "NIST_SP-800-53_rev5_catalog.json"]
        {
            assert!(FileName::parse(name).is_none_or(|name| name.domain != "enterprise"), "{name}");
        }
        assert_eq!(iso("04/16/2025"), "2025-04-16");
        assert_eq!(iso("soon"), "soon");
    }
}
