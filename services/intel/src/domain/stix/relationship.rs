//! Reads relationships: most of a bundle, so straight into what is kept of them.

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::{Map, Value};

use super::fields::{MAX_STIX_ID_BYTES, described, flag, list, reference_value, text};
use super::object::Text;
use super::record::RecordType;
use crate::domain::knowledge::Kind;

const MAX_REFERENCES: usize = 50;

/// What a relationship says, from one end to the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Relation {
    Uses,
    Mitigates,
    Detects,
    AttributedTo,
    /// From an asset to a technique; the publisher has it the other way round.
    TargetedBy,
    /// From what was revoked to its successor.
    RevokedBy,
}

impl Relation {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Relation::Uses => "uses",
            Relation::Mitigates => "mitigates",
            Relation::Detects => "detects",
            Relation::AttributedTo => "attributed_to",
            Relation::TargetedBy => "targeted_by",
            Relation::RevokedBy => "revoked_by",
        }
    }
}

/// A relationship that is kept, its ends as STIX ids.
#[derive(Debug)]
pub(super) struct Related<'a> {
    pub(super) id: Option<Cow<'a, str>>,
    pub(super) relation: Relation,
    pub(super) from: Cow<'a, str>,
    pub(super) to: Cow<'a, str>,
    pub(super) description: Option<String>,
    pub(super) references: Vec<Value>,
}

/// A relationship as published.
#[derive(Debug, Deserialize)]
#[serde(expecting = "an object")]
pub(super) struct Raw<'a> {
    #[serde(borrow, default)]
    id: Option<Text<'a>>,
    #[serde(borrow, default)]
    relationship_type: Option<Text<'a>>,
    #[serde(borrow, default)]
    source_ref: Option<Text<'a>>,
    #[serde(borrow, default)]
    target_ref: Option<Text<'a>>,
    #[serde(borrow, default)]
    description: Option<Text<'a>>,
    #[serde(borrow, default)]
    external_references: Option<Vec<RawReference<'a>>>,
    #[serde(default)]
    revoked: Option<bool>,
    #[serde(default)]
    x_mitre_deprecated: Option<bool>,
}

#[derive(Debug, Deserialize)]
#[serde(expecting = "an object")]
struct RawReference<'a> {
    #[serde(borrow, default)]
    source_name: Option<Text<'a>>,
    #[serde(borrow, default)]
    url: Option<Text<'a>>,
    #[serde(borrow, default)]
    description: Option<Text<'a>>,
}

impl<'a> Raw<'a> {
    pub(super) fn is_revoked_by(&self) -> bool {
        shown(&self.relationship_type) == Some("revoked-by")
    }

    /// Nothing when it is withdrawn, or of things that are not kept.
    pub(super) fn read(self) -> Result<Option<Related<'a>>, String> {
        let Some(name) = self.relationship_type.map(|kind| kind.text).filter(|name| is_known(name)) else {
            return Ok(None);
        };
        let source = end("source_ref", self.source_ref)?;
        let target = end("target_ref", self.target_ref)?;
        if self.revoked == Some(true) || self.x_mitre_deprecated == Some(true) {
            return Ok(None);
        }
        let Some(relation) = relation(&name, kind_of(&source), kind_of(&target)) else {
            return Ok(None);
        };
        let published = self.external_references.unwrap_or_default();
        if published.len() > MAX_REFERENCES {
            return Err(format!("external_references has more than {MAX_REFERENCES} entries"));
        }
        let mut references = Vec::with_capacity(published.len());
        for reference in &published {
            references.extend(reference_value(
                shown(&reference.source_name),
                shown(&reference.url),
                shown(&reference.description),
            )?);
        }
        let (from, to) = if relation == Relation::TargetedBy { (target, source) } else { (source, target) };
        Ok(Some(Related {
            id: self.id.map(|id| id.text).filter(|id| is_plain(id)),
            relation,
            from,
            to,
            description: described(shown(&self.description))?,
            references,
        }))
    }
}

/// Names the field because of which a relationship cannot be read, or gives what the parser said.
pub(super) fn fault(object: &Map<String, Value>, error: &serde_json::Error) -> String {
    let look = || -> Result<(), String> {
        for field in ["id", "relationship_type", "source_ref", "target_ref", "description"] {
            text(object, field)?;
        }
        flag(object, "revoked")?;
        flag(object, "x_mitre_deprecated")?;
        for reference in list(object, "external_references", usize::MAX)? {
            let reference = reference.as_object().ok_or("external_references holds something that is no object")?;
            for field in ["source_name", "url", "description"] {
                text(reference, field).map_err(|reason| format!("external_references: {reason}"))?;
            }
        }
        Ok(())
    };
    look().err().unwrap_or_else(|| format!("it cannot be read: {error}"))
}

fn shown<'t>(text: &'t Option<Text<'_>>) -> Option<&'t str> {
    text.as_ref().map(|text| text.text.as_ref())
}

fn end<'a>(field: &str, id: Option<Text<'a>>) -> Result<Cow<'a, str>, String> {
    match id.map(|id| id.text) {
        Some(id) if !id.is_empty() && is_plain(&id) => Ok(id),
        Some(_) => Err(format!("{field} is empty, too long or holds control characters")),
        None => Err(format!("{field} is missing")),
    }
}

fn is_plain(id: &str) -> bool {
    id.len() <= MAX_STIX_ID_BYTES && !id.bytes().any(|byte| byte.is_ascii_control())
}

/// `subtechnique-of` is none of them: the ids say it.
fn is_known(name: &str) -> bool {
    matches!(name, "uses" | "mitigates" | "detects" | "attributed-to" | "targets" | "revoked-by")
}

/// What a STIX id is of; nothing of what is not kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum EndKind {
    Technique,
    Record(Kind),
}

fn kind_of(stix_id: &str) -> Option<EndKind> {
    match stix_id.split_once("--")?.0 {
        "attack-pattern" => Some(EndKind::Technique),
        other => RecordType::of(other).map(|kind| EndKind::Record(kind.kind())),
    }
}

fn relation(name: &str, source: Option<EndKind>, target: Option<EndKind>) -> Option<Relation> {
    use EndKind::{Record, Technique};
    match (name, source?, target?) {
        ("revoked-by", source, target) if source == target => Some(Relation::RevokedBy),
        ("uses", Record(Kind::ThreatActor | Kind::Software | Kind::Campaign), Technique | Record(Kind::Software)) => {
            Some(Relation::Uses)
        }
        ("mitigates", Record(Kind::Mitigation), Technique) => Some(Relation::Mitigates),
        // Before ATT&CK 18 data components did.
        ("detects", Record(Kind::DetectionStrategy | Kind::DataComponent), Technique) => Some(Relation::Detects),
        ("attributed-to", Record(Kind::Campaign | Kind::ThreatActor), Record(Kind::ThreatActor)) => {
            Some(Relation::AttributedTo)
        }
        ("targets", Technique, Record(Kind::Asset)) => Some(Relation::TargetedBy),
        _ => None,
    }
}
