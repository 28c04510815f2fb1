//! Gathers the wanted objects of a bundle and joins them when the last one was seen: they come in any order.

use std::collections::{HashMap, HashSet};

use serde_json::{Map, Value};

use super::graph::{Graph, Joined};
use super::object::{self, Kind, RawCollection, RawMatrix, RawTactic, RawTechnique};
use super::record::{self, RecordType};
use super::relationship;
use super::{
    AttackDocument, Domain, MAX_KEPT_BYTES, MAX_RECORD_BYTES, ParseError, TacticRecord, TechniqueRecord, canonical,
};
use crate::domain::knowledge::Skips;

/// What an entry in a list of a record or link takes in memory besides its texts, about.
const ENTRY_BYTES: u64 = 700;

/// What was seen of a bundle so far.
#[derive(Default)]
pub(super) struct Collector {
    techniques: Vec<(RawTechnique, [u8; 32])>,
    tactics: Vec<RawTactic>,
    matrices: Vec<RawMatrix>,
    collection: Option<RawCollection>,
    graph: Graph,
    seen_ids: HashSet<String>,
    active_ids: HashSet<String>,
    skipped: Skips,
    objects_total: u64,
    revoked_by_total: u64,
    technique_objects: u64,
    /// The first technique that could not be read.
    technique_fault: Option<(String, String)>,
    kept_bytes: u64,
    scratch: Vec<u8>,
}

impl Collector {
    /// Takes one object, as its well-formed JSON text.
    pub(super) fn object(&mut self, number: u64, text: &str) -> Result<(), ParseError> {
        self.objects_total += 1;
        let kind = object::kind_of(text);
        match kind {
            Kind::Other => return Ok(()),
            Kind::Unreadable => {
                self.skipped.add(format!("object {number}"), "it is no STIX object: it has no `type`");
                return Ok(());
            }
            Kind::Collection => {
                self.collection(number, text);
                return Ok(());
            }
            Kind::Technique => self.technique_objects += 1,
            Kind::Tactic | Kind::Matrix | Kind::Relationship | Kind::Record(_) => {}
        }
        if text.len() > MAX_RECORD_BYTES {
            self.skipped.add(format!("object {number}"), format!("it is larger than {MAX_RECORD_BYTES} bytes"));
            return Ok(());
        }
        self.keep(text.len() as u64)?;
        if kind == Kind::Relationship {
            return self.relationship(number, text);
        }
        let object = match text.parse::<Value>() {
            Ok(Value::Object(object)) => object,
            Ok(_) => return Ok(()),
            Err(error) => {
                self.skipped.add(format!("object {number}"), format!("it cannot be read: {error}"));
                return Ok(());
            }
        };
        let result = match kind {
            Kind::Technique => self.technique(&object),
            Kind::Tactic => self.tactic(&object),
            Kind::Matrix => object::matrix(&object).map(|matrix| self.matrices.push(matrix)),
            Kind::Record(kind) => self.record(kind, &object),
            _ => Ok(()),
        };
        if let Err(reason) = result {
            let id = object::label(&object, number);
            if kind == Kind::Technique && self.technique_fault.is_none() {
                self.technique_fault = Some((id.clone(), reason.clone()));
            }
            self.skipped.add(id, reason);
        }
        Ok(())
    }

    /// Counts bytes that are kept.
    fn keep(&mut self, bytes: u64) -> Result<(), ParseError> {
        self.kept_bytes += bytes;
        match self.kept_bytes > MAX_KEPT_BYTES {
            true => Err(ParseError::TooLarge(format!("what is kept of it has more than {MAX_KEPT_BYTES} bytes"))),
            false => Ok(()),
        }
    }

    fn collection(&mut self, number: u64, text: &str) {
        match serde_json::from_str::<RawCollection>(text) {
            Ok(collection) => {
                let names_domain =
                    |c: &RawCollection| c.name.as_deref().and_then(Domain::from_collection_name).is_some();
                // Of several, the first that names a domain.
                if !self.collection.as_ref().is_some_and(names_domain)
                    && (self.collection.is_none() || names_domain(&collection))
                {
                    self.collection = Some(collection);
                }
            }
            Err(error) => {
                self.skipped.add(format!("object {number}"), format!("the collection cannot be read: {error}"))
            }
        }
    }

    fn technique(&mut self, object: &Map<String, Value>) -> Result<(), String> {
        let technique = object::technique(object)?;
        if !self.seen_ids.insert(technique.stix_id.clone()) {
            return Err(format!("the bundle has {} twice", technique.stix_id));
        }
        let active = !technique.revoked && !technique.deprecated;
        if active && !self.active_ids.insert(technique.mitre_id.clone()) {
            return Err(format!("another active technique has this id: {} is left out", technique.stix_id));
        }
        let hash = canonical::content_hash(object, &mut self.scratch);
        self.techniques.push((technique, hash));
        Ok(())
    }

    fn tactic(&mut self, object: &Map<String, Value>) -> Result<(), String> {
        let tactic = object::tactic(object)?;
        if !self.seen_ids.insert(tactic.stix_id.clone()) {
            return Err(format!("the bundle has {} twice", tactic.stix_id));
        }
        if !tactic.deprecated && !self.active_ids.insert(tactic.mitre_id.clone()) {
            return Err(format!("another active tactic has this id: {} is left out", tactic.stix_id));
        }
        self.tactics.push(tactic);
        Ok(())
    }

    fn record(&mut self, kind: RecordType, object: &Map<String, Value>) -> Result<(), String> {
        let record = record::record(kind, object)?;
        self.kept_bytes += record.entries() as u64 * ENTRY_BYTES;
        self.graph.record(record);
        Ok(())
    }

    fn relationship(&mut self, number: u64, text: &str) -> Result<(), ParseError> {
        let fault = match serde_json::from_str::<relationship::Raw<'_>>(text) {
            Ok(raw) => {
                self.revoked_by_total += u64::from(raw.is_revoked_by());
                match raw.read() {
                    Ok(None) => return Ok(()),
                    Ok(Some(related)) => {
                        let entries = related.references.len() as u64;
                        self.graph.relationship(related);
                        return self.keep(entries * ENTRY_BYTES);
                    }
                    Err(reason) => Ok(reason),
                }
            }
            Err(error) => Err(error),
        };
        // Only one that cannot be read is read a second time, for a name and a reason.
        let object: Map<String, Value> = serde_json::from_str(text).unwrap_or_default();
        let reason = fault.unwrap_or_else(|error| relationship::fault(&object, &error));
        self.skipped.add(object::label(&object, number), reason);
        Ok(())
    }

    /// The collection says it, else most techniques' domains, else most techniques' kill chains.
    fn domain(&self) -> Result<Domain, ParseError> {
        if let Some(domain) = self.collection.as_ref().and_then(|c| Domain::from_collection_name(c.name.as_deref()?)) {
            return Ok(domain);
        }
        let most = |votes: &dyn Fn(&RawTechnique, Domain) -> bool| {
            Domain::ALL
                .into_iter()
                .map(|domain| {
                    (self.techniques.iter().filter(|(technique, _)| votes(technique, domain)).count(), domain)
                })
                .filter(|(count, _)| *count > 0)
                .max_by_key(|(count, domain)| (*count, std::cmp::Reverse(*domain)))
                .map(|(_, domain)| domain)
        };
        most(&|technique, domain| technique.domains.contains(&domain))
            .or_else(|| most(&|technique, domain| technique.phases.iter().any(|(chain, _)| *chain == domain)))
            .ok_or(ParseError::UnknownDomain)
    }

    /// Joins successors, tactics and matrix order.
    pub(super) fn finish(mut self) -> Result<AttackDocument, ParseError> {
        if self.techniques.is_empty() {
            return Err(ParseError::NoTechniques(match (self.technique_objects, &self.technique_fault) {
                (0, _) => format!("none of its {} objects is an attack-pattern", self.objects_total),
                (count, Some((id, reason))) => {
                    format!("none of its {count} attack-patterns can be, such as {id}: {reason}")
                }
                (count, None) => format!("none of its {count} attack-patterns can be"),
            }));
        }
        let domain = self.domain()?;
        let tactics = self.finish_tactics(domain);
        let ids = self.techniques.iter().map(|(raw, _)| (raw.stix_id.as_str(), raw.mitre_id.as_str()));
        let Joined { mut knowledge, successors } = std::mem::take(&mut self.graph).finish(ids, &mut self.skipped);
        let techniques = self.finish_techniques(domain, &successors);
        if techniques.is_empty() {
            return Err(ParseError::NoTechniques(format!("none of its attack-patterns is of the {domain} domain")));
        }
        let upstream_version = self
            .collection
            .and_then(|collection| collection.x_mitre_version)
            .map(|version| version.trim().chars().filter(|c| !c.is_control()).take(32).collect::<String>())
            .filter(|version| !version.is_empty());
        knowledge.upstream_version.clone_from(&upstream_version);
        Ok(AttackDocument {
            domain,
            upstream_version,
            knowledge,
            techniques,
            tactics,
            skipped: self.skipped.first,
            skipped_total: self.skipped.total,
            objects_total: self.objects_total,
            revoked_by_total: self.revoked_by_total,
        })
    }

    fn finish_techniques(&mut self, domain: Domain, successors: &HashMap<String, String>) -> Vec<TechniqueRecord> {
        let raw = std::mem::take(&mut self.techniques);
        let mut techniques = Vec::with_capacity(raw.len());
        let mut taken: HashSet<String> = HashSet::with_capacity(raw.len());
        for (technique, content_hash) in raw {
            let active = !technique.revoked && !technique.deprecated;
            // An id names one technique: the active one, else the first.
            if !active && (self.active_ids.contains(&technique.mitre_id) || taken.contains(&technique.mitre_id)) {
                let reason = format!("another technique has this id: the inactive {} is left out", technique.stix_id);
                self.skipped.add(technique.mitre_id, reason);
                continue;
            }
            if !technique.domains.is_empty() && !technique.domains.contains(&domain) {
                self.skipped
                    .add(technique.mitre_id, format!("it is not of the {domain} domain, which the bundle is of"));
                continue;
            }
            taken.insert(technique.mitre_id.clone());
            let revoked_by = if technique.revoked { successors.get(&technique.stix_id).cloned() } else { None };
            let parent_mitre_id = technique.mitre_id.split_once('.').map(|(parent, _)| parent.to_owned());
            techniques.push(TechniqueRecord {
                is_subtechnique: parent_mitre_id.is_some(),
                parent_mitre_id,
                tactics: technique
                    .phases
                    .into_iter()
                    .filter(|(chain, _)| *chain == domain)
                    .map(|(_, phase)| phase)
                    .collect(),
                stix_id: technique.stix_id,
                mitre_id: technique.mitre_id,
                name: technique.name,
                description: technique.description,
                platforms: technique.platforms,
                attack_version: technique.attack_version,
                url: technique.url,
                revoked: technique.revoked,
                deprecated: technique.deprecated,
                revoked_by,
                content_hash,
            });
        }
        techniques
    }

    fn finish_tactics(&mut self, domain: Domain) -> Vec<TacticRecord> {
        let mut raw: Vec<RawTactic> = std::mem::take(&mut self.tactics);
        raw.retain(|tactic| tactic.domains.is_empty() || tactic.domains.contains(&domain));
        raw.sort_by_key(|tactic| tactic.deprecated);
        let mut taken: HashSet<String> = HashSet::with_capacity(raw.len());
        let mut unique = Vec::with_capacity(raw.len());
        for tactic in raw {
            if taken.contains(&tactic.mitre_id) || taken.contains(&tactic.short_name) {
                let reason = format!("another tactic has this id or short name: {} is left out", tactic.stix_id);
                self.skipped.add(tactic.mitre_id, reason);
                continue;
            }
            taken.insert(tactic.mitre_id.clone());
            taken.insert(tactic.short_name.clone());
            unique.push(tactic);
        }
        // Mobile has a deprecated matrix beside the live one: its columns come after.
        self.matrices.sort_by_key(|matrix| matrix.deprecated);
        let mut columns: HashMap<&str, usize> = HashMap::new();
        for tactic in self.matrices.iter().flat_map(|matrix| &matrix.tactic_refs) {
            let next = columns.len();
            columns.entry(tactic).or_insert(next);
        }
        unique.sort_by(|a, b| {
            let key = |tactic: &RawTactic| columns.get(tactic.stix_id.as_str()).copied().unwrap_or(usize::MAX);
            key(a).cmp(&key(b)).then_with(|| a.mitre_id.cmp(&b.mitre_id))
        });
        (0..)
            .zip(unique)
            .map(|(position, tactic)| TacticRecord {
                stix_id: tactic.stix_id,
                mitre_id: tactic.mitre_id,
                short_name: tactic.short_name,
                name: tactic.name,
                position,
                deprecated: tactic.deprecated,
            })
            .collect()
    }
}
