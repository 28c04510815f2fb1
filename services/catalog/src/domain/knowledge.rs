//! What is known of techniques: records of any kind, the links between them, and which of several publishers' records
//! is shown.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use uuid::Uuid;

use super::technique::Domain;

/// What a record can be.
pub const KINDS: [&str; 12] = [
    THREAT_ACTOR,
    "software",
    "campaign",
    "mitigation",
    "detection_strategy",
    "analytic",
    "data_component",
    "asset",
    "detection_rule",
    "defence",
    "framework",
    "control",
];
/// What other services keep projections of, the columns of the matrix among it.
pub const PROJECTED: [&str; 6] = [TACTIC, THREAT_ACTOR, "detection_rule", "defence", "framework", "control"];
/// The name of a matrix's columns among kinds.
pub const TACTIC: &str = "tactic";
/// The kind that is put together of several publishers.
pub const THREAT_ACTOR: &str = "threat_actor";
/// The end of a link that is no record: its key is an ATT&CK id.
pub const TECHNIQUE: &str = "technique";
/// The name of links among kinds.
pub const LINK: &str = "link";
/// The name of templates among kinds.
pub const TEMPLATE: &str = "template";
/// What a link can say.
pub const RELATIONS: [&str; 8] =
    ["uses", "mitigates", "detects", "counters", "maps_to", "attributed_to", "has", "targeted_by"];
/// The source of ATT&CK's own records.
pub const MITRE_ATTACK: &str = "mitre_attack";

/// What a publisher says of one thing.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Record {
    /// One of [`KINDS`].
    #[serde(skip)]
    pub kind: &'static str,
    /// By what people and links name it; unique in its kind.
    pub key: String,
    /// The publisher's identity of it.
    pub source_id: String,
    /// Its name.
    pub name: String,
    /// Markdown.
    pub description: Option<String>,
    /// Other names.
    pub aliases: Vec<String>,
    /// Lower case.
    pub platforms: Vec<String>,
    /// Its page at the publisher.
    pub url: Option<String>,
    /// Replaced or withdrawn.
    pub revoked: bool,
    /// No longer maintained, or no longer in any document.
    pub deprecated: bool,
    /// Key of the successor.
    pub revoked_by: Option<String>,
    /// Of a rule.
    pub severity: Option<String>,
    /// Of a rule: what its author says of it.
    pub status: Option<String>,
    /// Of an actor: ISO 3166-1 alpha-2.
    pub country: Option<String>,
    /// Of an actor.
    pub motivation: Option<String>,
    /// What it is a part of.
    pub collection: Option<String>,
    /// The rule's text.
    pub content: Option<String>,
    /// What its kind has besides.
    pub attributes: Map<String, Value>,
}

/// The kind of that name, or of what links name besides; an empty text where there is none.
pub fn kind(name: &str) -> &'static str {
    if name == TECHNIQUE { TECHNIQUE } else { KINDS.into_iter().find(|kind| *kind == name).unwrap_or_default() }
}

/// The relation of that name; an empty text where there is none.
pub fn relation(name: &str) -> &'static str {
    RELATIONS.into_iter().find(|relation| *relation == name).unwrap_or_default()
}

impl Record {
    /// Neither revoked nor deprecated.
    pub fn active(&self) -> bool {
        !self.revoked && !self.deprecated
    }
}

/// A record as a document brings it.
#[derive(Clone, Debug)]
pub struct Incoming {
    /// What it says.
    pub record: Record,
    /// Its attributes, not read yet.
    pub attributes_json: String,
    /// Hash of what it says.
    pub content_hash: Vec<u8>,
}

/// A record in the catalogue.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    /// Ours.
    pub id: Uuid,
    /// Whose record it is.
    pub source: String,
    /// What is shown of it.
    pub record: Record,
    /// Of a countermeasure: a person said so.
    pub implemented: bool,
    /// Grows by one with every change.
    pub version: i64,
    /// When it came into the catalogue.
    pub created_at: DateTime<Utc>,
    /// When it last changed.
    pub updated_at: DateTime<Utc>,
}

impl Row {
    /// A record that is new here.
    pub fn new(said: Said, now: DateTime<Utc>) -> Row {
        Row {
            id: Uuid::now_v7(),
            source: said.source,
            record: said.record,
            implemented: false,
            version: 1,
            created_at: now,
            updated_at: now,
        }
    }

    /// Shows what was said; false when that is what it shows already.
    pub fn show(&mut self, said: Said, now: DateTime<Utc>) -> bool {
        if self.source == said.source && self.record == said.record {
            return false;
        }
        self.source = said.source;
        self.record = said.record;
        self.version += 1;
        self.updated_at = now;
        true
    }

    /// Marks what nobody speaks of any more; false when it is marked already.
    pub fn vanish(&mut self, now: DateTime<Utc>) -> bool {
        if self.record.deprecated {
            return false;
        }
        self.record.deprecated = true;
        self.version += 1;
        self.updated_at = now;
        true
    }
}

/// What one origin says of a record, with who that is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Said {
    /// Whose record it is: `mitre_attack`, `misp_threat_actors` …
    pub source: String,
    /// The matrix whose document it was in.
    #[serde(default)]
    pub domain: Option<String>,
    /// What it says.
    pub record: Record,
}

impl Said {
    /// Whether others may say something of the same record, so that what each says is kept.
    pub fn is_shared(source: &str, kind: &str) -> bool {
        source == MITRE_ATTACK || kind == THREAT_ACTOR
    }

    /// Of several the lowest is shown: enterprise before mobile before ICS before everybody else.
    pub fn rank(&self) -> usize {
        let of = |domain: Domain| Some(domain.as_str()) == self.domain.as_deref();
        Domain::ALL.into_iter().position(of).unwrap_or(Domain::ALL.len())
    }
}

/// What is shown of what several origins say; of equals the first, by the names of the origins.
pub fn shown<'a>(said: impl IntoIterator<Item = (&'a str, &'a Said)>) -> Option<&'a Said> {
    said.into_iter().min_by_key(|(origin, said)| (said.rank(), *origin)).map(|(_, said)| said)
}

/// One thing that is said of two records.
#[derive(Clone, Debug, PartialEq)]
pub struct Link {
    /// One of [`KINDS`].
    pub from_kind: &'static str,
    /// Its key.
    pub from_key: String,
    /// One of [`RELATIONS`].
    pub relation: &'static str,
    /// One of [`KINDS`] or [`TECHNIQUE`].
    pub to_kind: &'static str,
    /// Its key, known here or not.
    pub to_key: String,
    /// Markdown.
    pub description: Option<String>,
    /// An array of objects, as JSON.
    pub references: String,
}

impl Link {
    /// A link's identity in its origin: all that it says.
    pub fn id(&self) -> Uuid {
        digest(&[
            self.from_kind,
            &self.from_key,
            self.relation,
            self.to_kind,
            &self.to_key,
            self.description.as_deref().unwrap_or_default(),
            &self.references,
        ])
    }

    /// What a document may say once: of which ends, and how they are related.
    pub fn ends(&self) -> [&str; 5] {
        [self.from_kind, &self.from_key, self.relation, self.to_kind, &self.to_key]
    }
}

fn digest(texts: &[&str]) -> Uuid {
    let mut hasher = blake3::Hasher::new();
    for text in texts {
        // A length before each, so that no two lists of texts are the same bytes.
        hasher.update(&(text.len() as u64).to_le_bytes());
        hasher.update(text.as_bytes());
    }
    let mut id = [0; 16];
    for (to, from) in id.iter_mut().zip(*hasher.finalize().as_bytes()) {
        *to = from;
    }
    Uuid::from_bytes(id)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(domain: Option<&str>) -> Said {
        Said { source: "mitre_attack".into(), domain: domain.map(str::to_owned), record: Record::default() }
    }

    #[test]
    fn enterprise_is_shown_before_mobile_before_ics() {
        let (enterprise, mobile, ics, other) =
            (said(Some("enterprise")), said(Some("mobile")), said(Some("ics")), said(None));
        let of = |said: &[&'_ Said]| -> Option<String> {
            shown(said.iter().map(|said| ("o", *said))).and_then(|said| said.domain.clone())
        };
        assert_eq!(of(&[&other, &ics, &mobile, &enterprise]).as_deref(), Some("enterprise"));
        assert_eq!(of(&[&other, &ics, &mobile]).as_deref(), Some("mobile"));
        assert_eq!(of(&[&other, &ics]).as_deref(), Some("ics"));
        assert_eq!(of(&[]), None);
    }

    #[test]
    fn a_link_is_all_that_it_says() {
        let link = Link {
            from_kind: "software",
            from_key: "S0002".into(),
            relation: "uses",
            to_kind: TECHNIQUE,
            to_key: "T1003".into(),
            description: Some("It dumps.".into()),
            references: "[]".into(),
        };
        let mut other = link.clone();
        assert_eq!(link.id(), other.id());
        other.description = None;
        assert_ne!(link.id(), other.id());
        assert_eq!(link.ends(), other.ends());
        (other.from_key, other.relation) = ("S0002u".into(), "ses");
        assert_ne!(link.id(), other.id());
    }

    #[test]
    fn a_row_changes_only_with_what_is_said() {
        let now = DateTime::from_timestamp(1_700_000_000, 0).unwrap();
        let mut row = Row::new(said(None), now);
        assert!(!row.show(said(Some("ics")), now), "from which document does not matter");
        let mut changed = said(None);
        changed.record.name = "New".into();
        assert!(row.show(changed, now));
        assert_eq!(row.version, 2);
    }
}
