//! Reads single STIX objects: first only what tells whether one is wanted, then its fields, each checked.

use std::borrow::Cow;
use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::{Map, Value};

use super::Domain;

const MAX_NAME_CHARS: usize = 512;
const MAX_DESCRIPTION_BYTES: usize = 100_000;
const MAX_TACTICS: usize = 32;
const MAX_PLATFORMS: usize = 64;
const MAX_WORD_CHARS: usize = 100;
const MAX_URL_BYTES: usize = 2048;
const MAX_STIX_ID_BYTES: usize = 128;

/// What an object is, as far as it matters here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Technique,
    Tactic,
    Matrix,
    Collection,
    RevokedBy,
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
    match (head.kind.as_deref(), head.relationship.as_deref()) {
        (Some("attack-pattern"), _) => Kind::Technique,
        (Some("x-mitre-tactic"), _) => Kind::Tactic,
        (Some("x-mitre-matrix"), _) => Kind::Matrix,
        (Some("x-mitre-collection"), _) => Kind::Collection,
        (Some("relationship"), Some("revoked-by")) => Kind::RevokedBy,
        (Some(_), _) => Kind::Other,
        (None, _) => Kind::Unreadable,
    }
}

#[derive(Default)]
struct Head<'de> {
    kind: Option<Cow<'de, str>>,
    relationship: Option<Cow<'de, str>>,
}

#[derive(Deserialize)]
#[serde(transparent)]
struct Text<'a> {
    #[serde(borrow)]
    text: Cow<'a, str>,
}

impl<'de> Visitor<'de> for &mut Head<'de> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a STIX object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(Text { text: key }) = map.next_key()? {
            match key.as_ref() {
                "type" => self.kind = Some(map.next_value::<Text<'de>>()?.text),
                "relationship_type" => self.relationship = Some(map.next_value::<Text<'de>>()?.text),
                _ => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
            match self.kind.as_deref() {
                Some("relationship") if self.relationship.is_none() => {}
                Some(_) => break,
                None => {}
            }
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
        Some(id) => id.chars().take(MAX_WORD_CHARS).collect(),
        None => format!("object {number}"),
    }
}

pub(super) fn technique(object: &Map<String, Value>) -> Result<RawTechnique, String> {
    let stix_id = stix_id(object, "attack-pattern--")?;
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
        url: reference
            .get("url")
            .and_then(Value::as_str)
            .filter(|url| url.len() <= MAX_URL_BYTES && (url.starts_with("https://") || url.starts_with("http://")))
            .filter(|url| !url.chars().any(|c| c.is_control() || c.is_whitespace()))
            .map(str::to_owned),
        revoked: flag(object, "revoked")?,
        deprecated: flag(object, "x_mitre_deprecated")?,
    })
}

pub(super) fn tactic(object: &Map<String, Value>) -> Result<RawTactic, String> {
    let stix_id = stix_id(object, "x-mitre-tactic--")?;
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

/// Source and target of a relationship, or nothing when it is itself withdrawn.
pub(super) fn relationship(object: &Map<String, Value>) -> Result<Option<(String, String)>, String> {
    let end = |field: &'static str| -> Result<String, String> {
        match text(object, field)? {
            Some(id) if !id.is_empty() && id.len() <= MAX_STIX_ID_BYTES => Ok(id.to_owned()),
            Some(_) => Err(format!("{field} is empty or too long")),
            None => Err(format!("{field} is missing")),
        }
    };
    let ends = (end("source_ref")?, end("target_ref")?);
    Ok((!flag(object, "revoked")? && !flag(object, "x_mitre_deprecated")?).then_some(ends))
}

fn is_technique_id(id: &str) -> bool {
    let digits = |text: &str, count: usize| text.len() == count && text.bytes().all(|byte| byte.is_ascii_digit());
    match id.strip_prefix('T').map(|rest| rest.split_once('.').unwrap_or((rest, "000"))) {
        Some((base, sub)) => digits(base, 4) && digits(sub, 3),
        None => false,
    }
}

fn is_tactic_id(id: &str) -> bool {
    id.strip_prefix("TA").is_some_and(|rest| rest.len() == 4 && rest.bytes().all(|byte| byte.is_ascii_digit()))
}

fn shorten(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(40).collect()
}

fn attack_reference(references: &Value) -> Option<&Map<String, Value>> {
    references.as_array()?.iter().filter_map(Value::as_object).find(|reference| {
        matches!(
            reference.get("source_name").and_then(Value::as_str),
            Some("mitre-attack" | "mitre-mobile-attack" | "mitre-ics-attack")
        )
    })
}

fn reference(object: &Map<String, Value>) -> Result<&Map<String, Value>, String> {
    let references = object.get("external_references").unwrap_or(&Value::Null);
    attack_reference(references)
        .ok_or_else(|| "it has no ATT&CK id: no external_references entry of mitre-attack".to_owned())
}

fn reference_id(reference: &Map<String, Value>) -> Result<&str, String> {
    let id = reference.get("external_id").and_then(Value::as_str);
    id.ok_or_else(|| "it has no ATT&CK id: external_id is missing".to_owned())
}

fn stix_id(object: &Map<String, Value>, prefix: &str) -> Result<String, String> {
    match text(object, "id")? {
        Some(id) if id.len() > MAX_STIX_ID_BYTES => Err(format!("id is longer than {MAX_STIX_ID_BYTES} bytes")),
        Some(id) if id.len() > prefix.len() && id.starts_with(prefix) => Ok(id.to_owned()),
        Some(id) => Err(format!("id `{}` does not begin with `{prefix}`", shorten(id))),
        None => Err("id is missing".to_owned()),
    }
}

/// A text field; absent and null are one. PostgreSQL's text holds no NUL, so neither does a record.
fn text<'a>(object: &'a Map<String, Value>, field: &str) -> Result<Option<&'a str>, String> {
    match object.get(field) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) if text.contains('\0') => Err(format!("{field} holds a NUL character")),
        Some(Value::String(text)) => Ok(Some(text)),
        Some(_) => Err(format!("{field} is not a text")),
    }
}

fn flag(object: &Map<String, Value>, field: &str) -> Result<bool, String> {
    match object.get(field) {
        None | Some(Value::Null) => Ok(false),
        Some(Value::Bool(flag)) => Ok(*flag),
        Some(_) => Err(format!("{field} is neither true nor false")),
    }
}

fn name(object: &Map<String, Value>) -> Result<String, String> {
    let name = text(object, "name")?.map(str::trim).unwrap_or_default();
    if name.is_empty() {
        return Err("name is missing".to_owned());
    }
    if name.chars().count() > MAX_NAME_CHARS {
        return Err(format!("name is longer than {MAX_NAME_CHARS} characters"));
    }
    Ok(name.to_owned())
}

fn description(object: &Map<String, Value>) -> Result<Option<String>, String> {
    match text(object, "description")? {
        Some(text) if text.len() > MAX_DESCRIPTION_BYTES => {
            Err(format!("description is longer than {MAX_DESCRIPTION_BYTES} bytes"))
        }
        Some(text) if !text.trim().is_empty() => Ok(Some(text.to_owned())),
        _ => Ok(None),
    }
}

fn version(object: &Map<String, Value>) -> Result<Option<String>, String> {
    match text(object, "x_mitre_version")?.map(str::trim) {
        Some(version) if version.len() > 32 => Err("x_mitre_version is longer than 32 bytes".to_owned()),
        Some(version) if !version.is_empty() => Ok(Some(version.to_owned())),
        _ => Ok(None),
    }
}

fn word<'a>(field: &str, text: &'a str) -> Result<&'a str, String> {
    let text = text.trim();
    if text.is_empty() || text.chars().any(char::is_control) {
        return Err(format!("{field} is empty or holds control characters"));
    }
    if text.chars().count() > MAX_WORD_CHARS {
        return Err(format!("{field} is longer than {MAX_WORD_CHARS} characters"));
    }
    Ok(text)
}

/// A list of short texts, each once; absent and null are an empty one.
fn words(object: &Map<String, Value>, field: &str, most: usize) -> Result<Vec<String>, String> {
    let items = match object.get(field) {
        None | Some(Value::Null) => return Ok(Vec::new()),
        Some(Value::Array(items)) => items,
        Some(_) => return Err(format!("{field} is not a list")),
    };
    if items.len() > most {
        return Err(format!("{field} has more than {most} entries"));
    }
    let mut found: Vec<String> = Vec::with_capacity(items.len());
    for item in items {
        let item = word(field, item.as_str().ok_or_else(|| format!("{field} holds something that is not a text"))?)?;
        if !found.iter().any(|known| known == item) {
            found.push(item.to_owned());
        }
    }
    Ok(found)
}

/// The publisher writes "None" where a technique has no platform.
fn platforms(object: &Map<String, Value>) -> Result<Vec<String>, String> {
    let mut platforms = words(object, "x_mitre_platforms", MAX_PLATFORMS)?;
    platforms.retain(|platform| !platform.eq_ignore_ascii_case("none"));
    Ok(platforms)
}

fn domains(object: &Map<String, Value>) -> Result<Vec<Domain>, String> {
    let names = words(object, "x_mitre_domains", 16)?;
    Ok(names.iter().filter_map(|name| Domain::from_publisher(name)).collect())
}

/// Phases of other kill chains than ATT&CK's are no tactics.
fn phases(object: &Map<String, Value>) -> Result<Vec<(Domain, String)>, String> {
    let items = match object.get("kill_chain_phases") {
        None | Some(Value::Null) => return Ok(Vec::new()),
        Some(Value::Array(items)) => items,
        Some(_) => return Err("kill_chain_phases is not a list".to_owned()),
    };
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
