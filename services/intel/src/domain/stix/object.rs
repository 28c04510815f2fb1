//! Reads single STIX objects: first only what tells whether one is wanted, then its fields, each checked.

use std::borrow::Cow;
use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::{Map, Value};

use super::Domain;
use super::fields::{
    MAX_WORD_CHARS, attack_reference, description, flag, list, name, platforms, reference, reference_id, shorten,
    stix_id, text, url, version, word, words,
};
use super::record::RecordType;
use crate::domain::knowledge::is_technique_id;

const MAX_TACTICS: usize = 32;

/// What an object is, as far as it matters here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Technique,
    Tactic,
    Matrix,
    Collection,
    Relationship,
    Record(RecordType),
    /// Well-formed, and of no interest.
    Other,
    /// Not an object, or without a `type`.
    Unreadable,
}

/// Looks at no more of an object than is needed to tell its kind. The text is known to be well-formed.
pub(super) fn kind_of(text: &str) -> Kind {
    if !text.starts_with('{') {
        return Kind::Unreadable;
    }
    let mut head = Head::default();
    let mut deserializer = serde_json::Deserializer::from_str(text);
    // Leaving an object early is an error to serde_json; that is meant here.
    let _ = deserializer.deserialize_map(&mut head);
    match head.kind.as_deref() {
        Some("attack-pattern") => Kind::Technique,
        Some("x-mitre-tactic") => Kind::Tactic,
        Some("x-mitre-matrix") => Kind::Matrix,
        Some("x-mitre-collection") => Kind::Collection,
        Some("relationship") => Kind::Relationship,
        Some(other) => RecordType::of(other).map_or(Kind::Other, Kind::Record),
        None => Kind::Unreadable,
    }
}

#[derive(Default)]
struct Head<'de> {
    kind: Option<Cow<'de, str>>,
}

/// A text that is borrowed from the document where it has no escapes.
#[derive(Debug, Deserialize)]
#[serde(transparent)]
pub(super) struct Text<'a> {
    #[serde(borrow)]
    pub(super) text: Cow<'a, str>,
}

impl<'de> Visitor<'de> for &mut Head<'de> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a STIX object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(Text { text: key }) = map.next_key()? {
            if key == "type" {
                self.kind = Some(map.next_value::<Text<'de>>()?.text);
                break;
            }
            map.next_value::<IgnoredAny>()?;
        }
        Ok(())
    }
}

/// A technique before the document's domain is known and its successor is looked up.
#[derive(Debug)]
pub(super) struct RawTechnique {
    pub(super) stix_id: String,
    pub(super) mitre_id: String,
    pub(super) name: String,
    pub(super) description: Option<String>,
    /// Tactics of every ATT&CK kill chain, in the publisher's order.
    pub(super) phases: Vec<(Domain, String)>,
    pub(super) domains: Vec<Domain>,
    pub(super) platforms: Vec<String>,
    pub(super) attack_version: Option<String>,
    pub(super) url: Option<String>,
    pub(super) revoked: bool,
    pub(super) deprecated: bool,
}

/// A tactic before its place in the matrix is known.
#[derive(Debug)]
pub(super) struct RawTactic {
    pub(super) stix_id: String,
    pub(super) mitre_id: String,
    pub(super) short_name: String,
    pub(super) name: String,
    pub(super) domains: Vec<Domain>,
    pub(super) deprecated: bool,
}

/// The order of the tactics in one matrix.
#[derive(Debug)]
pub(super) struct RawMatrix {
    pub(super) tactic_refs: Vec<String>,
    pub(super) deprecated: bool,
}

/// Only what is read of a collection: its list of contents is skipped unread.
#[derive(Debug, Default, Deserialize)]
pub(super) struct RawCollection {
    #[serde(default)]
    pub(super) name: Option<String>,
    #[serde(default)]
    pub(super) x_mitre_version: Option<String>,
}

/// The best name there is for an object in a message.
pub(super) fn label(object: &Map<String, Value>, number: u64) -> String {
    let mitre_id =
        object.get("external_references").and_then(|refs| attack_reference(refs)?.get("external_id")?.as_str());
    match mitre_id.or_else(|| object.get("id").and_then(Value::as_str)).filter(|id| !id.trim().is_empty()) {
        Some(id) => id.chars().filter(|c| !c.is_control()).take(MAX_WORD_CHARS).collect(),
        None => format!("object {number}"),
    }
}

pub(super) fn technique(object: &Map<String, Value>) -> Result<RawTechnique, String> {
    let stix_id = stix_id(object, "attack-pattern")?;
    let reference = reference(object)?;
    let mitre_id = reference_id(reference)?;
    if !is_technique_id(mitre_id) {
        return Err(format!("external_id `{}` is no technique id such as T1059 or T1059.001", shorten(mitre_id)));
    }
    Ok(RawTechnique {
        stix_id,
        mitre_id: mitre_id.to_owned(),
        name: name(object)?,
        description: description(object)?,
        phases: phases(object)?,
        domains: domains(object)?,
        platforms: platforms(object)?,
        attack_version: version(object)?,
        url: url(reference),
        revoked: flag(object, "revoked")?,
        deprecated: flag(object, "x_mitre_deprecated")?,
    })
}

pub(super) fn tactic(object: &Map<String, Value>) -> Result<RawTactic, String> {
    let stix_id = stix_id(object, "x-mitre-tactic")?;
    let mitre_id = reference_id(reference(object)?)?;
    if !is_tactic_id(mitre_id) {
        return Err(format!("external_id `{}` is no tactic id such as TA0002", shorten(mitre_id)));
    }
    let short_name = text(object, "x_mitre_shortname")?.ok_or("x_mitre_shortname is missing")?;
    Ok(RawTactic {
        stix_id,
        mitre_id: mitre_id.to_owned(),
        short_name: word("x_mitre_shortname", short_name)?.to_ascii_lowercase(),
        name: name(object)?,
        domains: domains(object)?,
        deprecated: flag(object, "x_mitre_deprecated")? || flag(object, "revoked")?,
    })
}

pub(super) fn matrix(object: &Map<String, Value>) -> Result<RawMatrix, String> {
    Ok(RawMatrix {
        tactic_refs: words(object, "tactic_refs", 256)?,
        deprecated: flag(object, "x_mitre_deprecated")? || flag(object, "revoked")?,
    })
}

fn is_tactic_id(id: &str) -> bool {
    id.strip_prefix("TA").is_some_and(|rest| rest.len() == 4 && rest.bytes().all(|byte| byte.is_ascii_digit()))
}

fn domains(object: &Map<String, Value>) -> Result<Vec<Domain>, String> {
    let names = words(object, "x_mitre_domains", 16)?;
    Ok(names.iter().filter_map(|name| Domain::from_publisher(name)).collect())
}

/// Phases of other kill chains than ATT&CK's are no tactics.
fn phases(object: &Map<String, Value>) -> Result<Vec<(Domain, String)>, String> {
    let items = list(object, "kill_chain_phases", usize::MAX)?;
    let mut phases = Vec::with_capacity(items.len().min(MAX_TACTICS));
    for item in items {
        let Some(domain) = item.get("kill_chain_name").and_then(Value::as_str).and_then(Domain::from_kill_chain) else {
            continue;
        };
        let phase =
            item.get("phase_name").and_then(Value::as_str).ok_or("a kill_chain_phases entry has no phase_name")?;
        let phase = (domain, word("phase_name", phase)?.to_ascii_lowercase());
        if phases.contains(&phase) {
            continue;
        }
        if phases.len() == MAX_TACTICS {
            return Err(format!("kill_chain_phases has more than {MAX_TACTICS} tactics"));
        }
        phases.push(phase);
    }
    Ok(phases)
}
