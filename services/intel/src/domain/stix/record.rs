//! Reads the objects that become records of knowledge: all but techniques, tactics and matrices.

use chrono::{DateTime, Utc};
use serde_json::{Map, Value};

use super::fields::{
    attack_reference, description, flag, list, long, name, platforms, reference_id, reference_value, short, shorten,
    stix_id, text, url, version, words,
};
use crate::domain::knowledge::{self, Kind, KnowledgeRecord};

const MAX_KEY_BYTES: usize = 32;
const MAX_ALIASES: usize = 200;
const MAX_REFERENCES: usize = 500;
/// Entries of any other list; the longest of 18.1 has 320.
const MAX_ENTRIES: usize = 1000;
/// What is known of an analytic's log sources.
pub(super) const LOG_SOURCE_REFERENCES: &str = "log_source_references";
/// In each of them, the component that is collected there.
pub(super) const DATA_COMPONENT: &str = "data_component";

/// The STIX types that become records.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum RecordType {
    Actor,
    Malware,
    Tool,
    Campaign,
    Mitigation,
    DetectionStrategy,
    Analytic,
    DataComponent,
    DataSource,
    Asset,
}

impl RecordType {
    pub(super) fn of(stix_type: &str) -> Option<RecordType> {
        Some(match stix_type {
            "intrusion-set" => RecordType::Actor,
            "malware" => RecordType::Malware,
            "tool" => RecordType::Tool,
            "campaign" => RecordType::Campaign,
            "course-of-action" => RecordType::Mitigation,
            "x-mitre-detection-strategy" => RecordType::DetectionStrategy,
            "x-mitre-analytic" => RecordType::Analytic,
            "x-mitre-data-component" => RecordType::DataComponent,
            "x-mitre-data-source" => RecordType::DataSource,
            "x-mitre-asset" => RecordType::Asset,
            _ => return None,
        })
    }

    fn stix_type(self) -> &'static str {
        match self {
            RecordType::Actor => "intrusion-set",
            RecordType::Malware => "malware",
            RecordType::Tool => "tool",
            RecordType::Campaign => "campaign",
            RecordType::Mitigation => "course-of-action",
            RecordType::DetectionStrategy => "x-mitre-detection-strategy",
            RecordType::Analytic => "x-mitre-analytic",
            RecordType::DataComponent => "x-mitre-data-component",
            RecordType::DataSource => "x-mitre-data-source",
            RecordType::Asset => "x-mitre-asset",
        }
    }

    pub(super) fn kind(self) -> Kind {
        match self {
            RecordType::Actor => Kind::ThreatActor,
            RecordType::Malware | RecordType::Tool => Kind::Software,
            RecordType::Campaign => Kind::Campaign,
            RecordType::Mitigation => Kind::Mitigation,
            RecordType::DetectionStrategy => Kind::DetectionStrategy,
            RecordType::Analytic => Kind::Analytic,
            RecordType::DataComponent | RecordType::DataSource => Kind::DataComponent,
            RecordType::Asset => Kind::Asset,
        }
    }
}

/// A record before the objects that it names are known.
#[derive(Debug)]
pub(super) struct RawRecord {
    pub(super) kind: RecordType,
    pub(super) record: KnowledgeRecord,
    pub(super) modified: Option<DateTime<Utc>>,
    /// STIX ids: a strategy's analytics, an analytic's data components, a data component's source.
    pub(super) parts: Vec<String>,
}

impl RawRecord {
    fn is_active(&self) -> bool {
        !self.record.revoked && !self.record.deprecated
    }

    /// Of two with one key: the active one, else the one that was changed last.
    pub(super) fn wins_over(&self, other: &RawRecord) -> bool {
        (self.is_active(), self.modified) > (other.is_active(), other.modified)
    }

    /// Objects and lists in its attributes, each of which takes more memory than its text.
    pub(super) fn entries(&self) -> usize {
        self.record.attributes.values().filter_map(Value::as_array).map(Vec::len).sum()
    }
}

pub(super) fn record(kind: RecordType, object: &Map<String, Value>) -> Result<RawRecord, String> {
    let stix_id = stix_id(object, kind.stix_type())?;
    let reference = attack_reference(object.get("external_references").unwrap_or(&Value::Null));
    let key = match reference {
        Some(reference) => key(reference_id(reference)?)?,
        // Before ATT&CK 18 components had no ids of their own.
        None if kind == RecordType::DataComponent => &stix_id,
        None => return Err("it has no ATT&CK id: no external_references entry of mitre-attack".to_owned()),
    };
    let mut record = KnowledgeRecord::new(kind.kind(), key, stix_id.as_str(), name(object)?);
    record.description = description(object)?;
    record.aliases = aliases(object, &record.name)?;
    record.platforms = known_platforms(object)?;
    record.url = reference.and_then(url);
    record.revoked = flag(object, "revoked")?;
    record.deprecated = flag(object, "x_mitre_deprecated")?;
    let parts = own(kind, object, &mut record)?;
    put(&mut record.attributes, "version", version(object)?);
    let references = cited(object, &record)?;
    put_list(&mut record.attributes, "references", references);
    let modified = text(object, "modified")?.and_then(|date| DateTime::parse_from_rfc3339(date).ok());
    Ok(RawRecord { kind, record, modified: modified.map(|date| date.to_utc()), parts })
}

/// What only this type has. Gives the STIX ids of its parts.
fn own(kind: RecordType, object: &Map<String, Value>, record: &mut KnowledgeRecord) -> Result<Vec<String>, String> {
    let attributes = &mut record.attributes;
    match kind {
        RecordType::Actor | RecordType::Campaign => {
            for field in ["first_seen", "last_seen"] {
                put(attributes, field, short(object, field)?);
            }
            put(attributes, "first_seen_citation", long(object, "x_mitre_first_seen_citation")?);
            put(attributes, "last_seen_citation", long(object, "x_mitre_last_seen_citation")?);
            put_list(attributes, "sectors", words(object, "x_mitre_sectors", MAX_ENTRIES)?);
            if kind == RecordType::Actor {
                record.motivation = short(object, "primary_motivation")?;
            }
        }
        RecordType::Malware | RecordType::Tool => put(attributes, "type", Some(kind.stix_type().to_owned())),
        RecordType::Mitigation => {
            put_list(attributes, "labels", words(object, "labels", MAX_ENTRIES)?);
        }
        RecordType::DetectionStrategy => return words(object, "x_mitre_analytic_refs", MAX_ENTRIES),
        RecordType::Analytic => {
            let fields = [("name", "name"), ("channel", "channel"), ("x_mitre_data_component_ref", DATA_COMPONENT)];
            let sources = entries(object, "x_mitre_log_source_references", &fields)?;
            let mut parts: Vec<String> = Vec::new();
            for part in sources.iter().filter_map(|source| source.get(DATA_COMPONENT)?.as_str()) {
                if !parts.iter().any(|known| known == part) {
                    parts.push(part.to_owned());
                }
            }
            put_list(attributes, LOG_SOURCE_REFERENCES, sources);
            let fields = [("field", "field"), ("description", "description")];
            put_list(attributes, "mutable_elements", entries(object, "x_mitre_mutable_elements", &fields)?);
            return Ok(parts);
        }
        RecordType::DataComponent => {
            let fields = [("name", "name"), ("channel", "channel")];
            put_list(attributes, "log_sources", entries(object, "x_mitre_log_sources", &fields)?);
            return Ok(short(object, "x_mitre_data_source_ref")?.into_iter().collect());
        }
        RecordType::DataSource => {
            put(attributes, "type", Some("data_source".to_owned()));
            put_list(attributes, "collection_layers", words(object, "x_mitre_collection_layers", MAX_ENTRIES)?);
        }
        RecordType::Asset => {
            put_list(attributes, "sectors", words(object, "x_mitre_sectors", MAX_ENTRIES)?);
            let fields = [("name", "name"), ("description", "description")];
            let mut related = entries(object, "x_mitre_related_assets", &fields)?;
            for (kept, item) in related.iter_mut().zip(list(object, "x_mitre_related_assets", MAX_ENTRIES)?) {
                if let (Value::Object(kept), Value::Object(item)) = (kept, item) {
                    put_list(kept, "sectors", words(item, "related_asset_sectors", MAX_ENTRIES)?);
                }
            }
            put_list(attributes, "related_assets", related);
        }
    }
    Ok(Vec::new())
}

fn key(id: &str) -> Result<&str, String> {
    let id = id.trim();
    let known = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_');
    match !id.is_empty() && id.len() <= MAX_KEY_BYTES && id.bytes().all(known) {
        true => Ok(id),
        false => Err(format!("external_id `{}` is no ATT&CK id such as G0016", shorten(id))),
    }
}

fn aliases(object: &Map<String, Value>, name: &str) -> Result<Vec<String>, String> {
    let mut aliases = words(object, "aliases", MAX_ALIASES)?;
    for alias in words(object, "x_mitre_aliases", MAX_ALIASES)? {
        if !aliases.contains(&alias) {
            aliases.push(alias);
        }
    }
    aliases.retain(|alias| !alias.eq_ignore_ascii_case(name));
    Ok(aliases)
}

fn known_platforms(object: &Map<String, Value>) -> Result<Vec<String>, String> {
    let mut known = Vec::new();
    for platform in platforms(object)?.iter().filter_map(|platform| knowledge::platform(platform)) {
        if !known.contains(&platform) {
            known.push(platform);
        }
    }
    Ok(known)
}

/// The references that its texts cite; the others are of an older text, or say where an alias comes from.
fn cited(object: &Map<String, Value>, record: &KnowledgeRecord) -> Result<Vec<Value>, String> {
    let seen = ["first_seen_citation", "last_seen_citation"];
    let texts: Vec<&str> = seen
        .iter()
        .filter_map(|field| record.attributes.get(*field)?.as_str())
        .chain(record.description.as_deref())
        .collect();
    let mut kept = Vec::new();
    for reference in list(object, "external_references", MAX_REFERENCES)?.iter().filter_map(Value::as_object) {
        let Some(source) = text(reference, "source_name")? else { continue };
        let citation = format!("(Citation: {source})");
        if texts.iter().any(|text| text.contains(&citation)) {
            kept.extend(reference_value(Some(source), text(reference, "url")?, text(reference, "description")?)?);
        }
    }
    Ok(kept)
}

/// A list of objects, of each the texts that it has, by their names there and here. The publisher writes "None" for none.
fn entries(object: &Map<String, Value>, field: &str, texts: &[(&str, &str)]) -> Result<Vec<Value>, String> {
    let items = list(object, field, MAX_ENTRIES)?;
    let mut kept = Vec::with_capacity(items.len());
    for item in items {
        let item = item.as_object().ok_or_else(|| format!("{field} holds something that is no object"))?;
        let mut entry = Map::new();
        for (theirs, ours) in texts {
            put(&mut entry, ours, long(item, theirs)?.filter(|text| text != "None"));
        }
        kept.push(Value::Object(entry));
    }
    Ok(kept)
}

fn put(attributes: &mut Map<String, Value>, name: &str, text: Option<String>) {
    if let Some(text) = text {
        attributes.insert(name.to_owned(), Value::String(text));
    }
}

fn put_list<T: Into<Value>>(attributes: &mut Map<String, Value>, name: &str, items: Vec<T>) {
    if !items.is_empty() {
        attributes.insert(name.to_owned(), Value::Array(items.into_iter().map(Into::into).collect()));
    }
}
