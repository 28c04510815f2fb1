//! What a source's document brings, whatever its format: the records and links that every reader makes.

use serde::Serialize;
use serde_json::{Map, Value};

/// Skipped records that are named; the rest are only counted.
pub const MAX_SKIPPED_KEPT: usize = 100;

/// Everything that is kept of a source's document.
#[derive(Debug, Default)]
pub struct Knowledge {
    /// The publisher's version of it.
    pub upstream_version: Option<String>,
    /// Ready-made test procedures.
    pub templates: Vec<TemplateRecord>,
    /// Anything else that is known of techniques.
    pub records: Vec<KnowledgeRecord>,
    /// What is said of two records.
    pub links: Vec<LinkRecord>,
    /// What could not be read.
    pub skipped: Skips,
}

impl Knowledge {
    /// Leaves out what has a NUL in it, and says so: PostgreSQL keeps none, and one must not keep all others out.
    pub fn without_nul(&mut self) {
        const WHY: &str = "holds a NUL character";
        self.upstream_version = self.upstream_version.take().filter(|version| !nul(version));
        let skipped = &mut self.skipped;
        self.templates.retain(|template| {
            let clean = !template.holds_nul();
            if !clean {
                skipped.add(&template.source_id, WHY);
            }
            clean
        });
        self.records.retain(|record| {
            let clean = !record.holds_nul();
            if !clean {
                skipped.add(&record.key, WHY);
            }
            clean
        });
        self.links.retain(|link| {
            let clean = !link.holds_nul();
            if !clean {
                skipped.add(format!("{} {} {}", link.from_key, link.relation, link.to_key), WHY);
            }
            clean
        });
    }
}

fn nul(text: &str) -> bool {
    text.contains('\0')
}

fn any_nul<'a>(texts: impl IntoIterator<Item = &'a Option<String>>) -> bool {
    texts.into_iter().flatten().any(|text| nul(text))
}

fn nul_within(value: &Value) -> bool {
    match value {
        Value::String(text) => nul(text),
        Value::Array(values) => values.iter().any(nul_within),
        Value::Object(members) => members_have_nul(members),
        Value::Null | Value::Bool(_) | Value::Number(_) => false,
    }
}

fn members_have_nul(members: &Map<String, Value>) -> bool {
    members.iter().any(|(name, value)| nul(name) || nul_within(value))
}

/// A ready-made test procedure.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct TemplateRecord {
    /// Unique in its source: a GUID, an ability's id.
    pub source_id: String,
    /// Its name; not unique.
    pub name: String,
    /// What it does.
    pub description: Option<String>,
    /// Such as `T1059.001`.
    pub mitre_technique_id: String,
    /// Lower case, as [`platform`] spells them.
    pub platforms: Vec<String>,
    /// One of [`SEVERITIES`].
    pub severity: String,
    /// What the red side does.
    pub attack_procedure: Option<String>,
    /// What the red side uses.
    pub tool_suggested: Option<String>,
    /// What helps against it.
    pub suggested_remediation: Option<String>,
    /// What the blue side should see.
    pub expected_detection: Option<String>,
    /// How to leave no trace.
    pub cleanup_procedure: Option<String>,
    /// What its own format has besides: executor, arguments, dependencies.
    pub details: Map<String, Value>,
}

impl TemplateRecord {
    fn holds_nul(&self) -> bool {
        [&self.source_id, &self.name, &self.mitre_technique_id].into_iter().chain(&self.platforms).any(|text| nul(text))
            || any_nul([
                &self.description,
                &self.attack_procedure,
                &self.tool_suggested,
                &self.suggested_remediation,
                &self.expected_detection,
                &self.cleanup_procedure,
            ])
            || members_have_nul(&self.details)
    }
}

/// How bad it is when something goes unseen.
pub const SEVERITIES: [&str; 5] = ["informational", "low", "medium", "high", "critical"];

/// What a record is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
pub enum Kind {
    /// An ATT&CK group or an actor of MISP.
    ThreatActor,
    /// Malware or a tool.
    Software,
    /// A campaign that ATT&CK describes.
    Campaign,
    /// An ATT&CK mitigation.
    Mitigation,
    /// How a technique is detected, as ATT&CK says it.
    DetectionStrategy,
    /// One platform's part of a detection strategy.
    Analytic,
    /// What is to be collected.
    DataComponent,
    /// A device of ATT&CK for ICS.
    Asset,
    /// A rule of Sigma or Elastic, or of a person.
    DetectionRule,
    /// A countermeasure of D3FEND.
    Defence,
    /// A set of controls.
    Framework,
    /// One control of a framework.
    Control,
}

impl Kind {
    /// The name on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Kind::ThreatActor => "threat_actor",
            Kind::Software => "software",
            Kind::Campaign => "campaign",
            Kind::Mitigation => "mitigation",
            Kind::DetectionStrategy => "detection_strategy",
            Kind::Analytic => "analytic",
            Kind::DataComponent => "data_component",
            Kind::Asset => "asset",
            Kind::DetectionRule => "detection_rule",
            Kind::Defence => "defence",
            Kind::Framework => "framework",
            Kind::Control => "control",
        }
    }
}

/// Anything that is known of techniques, but techniques, tactics and templates.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct KnowledgeRecord {
    /// What it is.
    pub kind: Kind,
    /// By what people and links name it, unique in its kind: `G0016`, `D3-NTA`, `sigma:<id>`, `nist_800_53:AC-2`.
    pub key: String,
    /// The publisher's identity of it: a STIX id, a UUID.
    pub source_id: String,
    /// Its name.
    pub name: String,
    /// Markdown as published.
    pub description: Option<String>,
    /// Other names, its own not among them.
    pub aliases: Vec<String>,
    /// Lower case, as [`platform`] spells them.
    pub platforms: Vec<String>,
    /// Its page at the publisher.
    pub url: Option<String>,
    /// Replaced or withdrawn.
    pub revoked: bool,
    /// No longer maintained.
    pub deprecated: bool,
    /// Key of the successor.
    pub revoked_by: Option<String>,
    /// Of a rule: one of [`SEVERITIES`].
    pub severity: Option<String>,
    /// Of a rule: what its author says of it, such as `stable`.
    pub status: Option<String>,
    /// Of an actor: ISO 3166-1 alpha-2, upper case.
    pub country: Option<String>,
    /// Of an actor.
    pub motivation: Option<String>,
    /// What it is a part of: the framework of a control, the tactic of a defence.
    pub collection: Option<String>,
    /// The rule's text as published.
    pub content: Option<String>,
    /// What its kind has besides.
    pub attributes: Map<String, Value>,
}

impl KnowledgeRecord {
    /// A record with nothing but who it is.
    pub fn new(kind: Kind, key: impl Into<String>, source_id: impl Into<String>, name: impl Into<String>) -> Self {
        KnowledgeRecord {
            kind,
            key: key.into(),
            source_id: source_id.into(),
            name: name.into(),
            description: None,
            aliases: Vec::new(),
            platforms: Vec::new(),
            url: None,
            revoked: false,
            deprecated: false,
            revoked_by: None,
            severity: None,
            status: None,
            country: None,
            motivation: None,
            collection: None,
            content: None,
            attributes: Map::new(),
        }
    }
}

impl KnowledgeRecord {
    fn holds_nul(&self) -> bool {
        let always = [&self.key, &self.source_id, &self.name].into_iter();
        always.chain(&self.aliases).chain(&self.platforms).any(|text| nul(text))
            || any_nul([
                &self.description,
                &self.url,
                &self.revoked_by,
                &self.status,
                &self.country,
                &self.motivation,
                &self.collection,
                &self.content,
            ])
            || members_have_nul(&self.attributes)
    }
}

/// One thing that is said of two records; unique by its ends and its relation in one document.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct LinkRecord {
    /// A [`Kind`]'s name.
    pub from_kind: &'static str,
    /// Its key.
    pub from_key: String,
    /// `uses`, `mitigates`, `detects`, `counters`, `maps_to`, `attributed_to` or `has`.
    pub relation: &'static str,
    /// A [`Kind`]'s name, or [`TECHNIQUE`].
    pub to_kind: &'static str,
    /// Its key; of a technique the ATT&CK id, known here or not.
    pub to_key: String,
    /// Markdown as published.
    pub description: Option<String>,
    /// Objects with `source_name`, `url`, `description`, whichever there are.
    pub references: Vec<Value>,
}

/// The `to_kind` of a link to a technique.
pub const TECHNIQUE: &str = "technique";

impl LinkRecord {
    fn holds_nul(&self) -> bool {
        nul(&self.from_key)
            || nul(&self.to_key)
            || any_nul([&self.description])
            || self.references.iter().any(nul_within)
    }

    /// A link to a technique.
    pub fn to_technique(from: Kind, key: &str, relation: &'static str, mitre_id: &str) -> Self {
        LinkRecord::between(from, key, relation, TECHNIQUE, mitre_id)
    }

    /// A link between two records.
    pub fn between(from: Kind, key: &str, relation: &'static str, to_kind: &'static str, to_key: &str) -> Self {
        LinkRecord {
            from_kind: from.as_str(),
            from_key: key.to_owned(),
            relation,
            to_kind,
            to_key: to_key.to_owned(),
            description: None,
            references: Vec::new(),
        }
    }
}

/// Records that could not be read, the first of them named.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Skips {
    /// The first [`MAX_SKIPPED_KEPT`].
    pub first: Vec<Skip>,
    /// How many.
    pub total: u64,
}

/// A record that could not be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Skip {
    /// Its id at the publisher, else the path of its file.
    pub id: String,
    /// Why, in words for an administrator.
    pub reason: String,
}

impl Skips {
    /// One more.
    pub fn add(&mut self, id: impl Into<String>, reason: impl Into<String>) {
        self.total += 1;
        if self.first.len() < MAX_SKIPPED_KEPT {
            self.first.push(Skip { id: id.into(), reason: reason.into() });
        }
    }
}

/// Reads a source whose document is one file or many, handed over one after the other in the order of the archive.
pub trait Reader: Send {
    /// Whether the file is read at all, by its path inside the archive with `/` between its parts (of a document
    /// that is no archive, the last part of its URL). An archive of a repository has a folder around everything:
    /// judge by how a path ends.
    fn wants(&self, path: &str) -> bool;

    /// Reads one file. What cannot be read of it is skipped and told, unless the source is nothing without it.
    fn file(&mut self, path: &str, bytes: &[u8]) -> Result<(), ReadError>;

    /// What all the files said together.
    fn finish(self: Box<Self>) -> Result<Knowledge, ReadError>;
}

/// Why a document changes nothing at all. In words for an administrator, with what to do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ReadError(pub String);

/// The one spelling of a platform: ATT&CK's own name in lower case, such as `macos` for `darwin` and `iaas` for
/// `iaas:aws`; `None` for no platform.
pub fn platform(text: &str) -> Option<String> {
    let text = text.trim().to_lowercase();
    let known = match text.as_str() {
        "" | "none" | "n/a" => return None,
        "darwin" | "osx" | "os x" | "mac" => "macos",
        "win" => "windows",
        "azure-ad" | "azuread" => "identity provider",
        "office-365" | "google-workspace" => "office suite",
        other if other.starts_with("iaas:") => "iaas",
        other => other,
    };
    Some(known.to_owned())
}

/// Whether it is the id of a technique, such as `T1059` or `T1059.001`, whatever techniques there are.
pub fn is_technique_id(text: &str) -> bool {
    let digits = |text: &str, count: usize| text.len() == count && text.bytes().all(|byte| byte.is_ascii_digit());
    text.strip_prefix('T').is_some_and(|rest| match rest.split_once('.') {
        None => digits(rest, 4),
        Some((parent, sub)) => digits(parent, 4) && digits(sub, 3),
    })
}

/// The hash by which a record is known to have changed: BLAKE3 over everything that is kept of it, as JSON.
pub fn content_hash(record: &impl Serialize) -> [u8; 32] {
    // A record of texts is always JSON.
    blake3::hash(&serde_json::to_vec(record).unwrap_or_default()).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn platforms_have_one_spelling() {
        for (text, one) in [("macOS", "macos"), ("darwin", "macos"), (" Windows ", "windows"), ("iaas:aws", "iaas")] {
            assert_eq!(platform(text).as_deref(), Some(one), "{text}");
        }
        assert_eq!(platform("None"), None);
        assert_eq!(platform(" "), None);
    }

    #[test]
    fn ids_of_techniques() {
        for id in ["T1059", "T1059.001", "T9999.999"] {
            assert!(is_technique_id(id), "{id}");
        }
        for id in [
            "",
            "T",
            "1059",
            "T105",
            "T10590",
            "T1059.",
            "T1059.1",
            "T1059.0011",
            "T1059.001.1",
            "TA0001",
            "t1059",
            "T1059 ",
            "T105９",
            "T105a.001",
        ] {
            assert!(!is_technique_id(id), "{id}");
        }
    }

    #[test]
    fn a_hash_is_of_the_content() {
        let record = KnowledgeRecord::new(Kind::Software, "S0002", "tool--1", "Mimikatz");
        let mut other = record.clone();
        assert_eq!(content_hash(&record), content_hash(&other));
        other.deprecated = true;
        assert_ne!(content_hash(&record), content_hash(&other));
    }

    #[test]
    fn what_has_a_nul_in_it_is_left_out_alone() {
        let record = |key: &str| KnowledgeRecord::new(Kind::DetectionRule, key, key, "A rule");
        let named = |name: &str, value: Value| Map::from_iter([(name.to_owned(), value)]);
        let template = TemplateRecord { source_id: "t".into(), ..TemplateRecord::default() };
        let link = LinkRecord::to_technique(Kind::DetectionRule, "good", "detects", "T1059");
        let mut knowledge = Knowledge {
            templates: vec![
                template.clone(),
                TemplateRecord { cleanup_procedure: Some("a\0".into()), ..template.clone() },
                TemplateRecord { details: named("a", Value::from(vec!["b\0"])), ..template },
            ],
            records: vec![
                record("good"),
                KnowledgeRecord { content: Some("\0".into()), ..record("content") },
                KnowledgeRecord { aliases: vec!["a".into(), "\0b".into()], ..record("alias") },
                KnowledgeRecord { attributes: named("a\0", Value::Null), ..record("attribute") },
                KnowledgeRecord { attributes: named("a", Value::from("\\u0000")), ..record("letters") },
            ],
            links: vec![link.clone(), LinkRecord { description: Some("\0".into()), ..link.clone() }],
            ..Knowledge::default()
        };
        knowledge.without_nul();
        let keys: Vec<&str> = knowledge.records.iter().map(|record| record.key.as_str()).collect();
        assert_eq!((knowledge.templates.len(), keys), (1, vec!["good", "letters"]));
        assert_eq!(knowledge.links, [link]);
        let skipped: Vec<&str> = knowledge.skipped.first.iter().map(|skip| skip.id.as_str()).collect();
        assert_eq!(skipped, ["t", "t", "content", "alias", "attribute", "good detects T1059"]);
        assert_eq!((knowledge.skipped.total, knowledge.skipped.first[0].reason.as_str()), (6, "holds a NUL character"));
    }

    #[test]
    fn the_first_skips_are_named_and_all_are_counted() {
        let mut skips = Skips::default();
        for n in 0..150 {
            skips.add(n.to_string(), "why");
        }
        assert_eq!((skips.first.len(), skips.total), (100, 150));
    }
}
