//! D3FEND: its ontology, and which defence counters which ATT&CK technique.

mod mappings;
mod ontology;
#[cfg(test)]
mod real_data_tests;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use super::json;
use super::knowledge::{Kind, Knowledge, LinkRecord, ReadError, Reader, is_technique_id};
use mappings::Mappings;
use ontology::Ontology;

/// Tuples that are kept of one defence and one technique.
const MAX_REFERENCES: usize = 20;

/// Reads the ontology and the mappings, of one file each technique or of one for all of them.
#[derive(Debug, Default)]
pub struct D3fendReader {
    ontology: Ontology,
    mappings: Mappings,
    version: Option<String>,
    knowledge: Knowledge,
}

/// Which of the site's files it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Role {
    Ontology,
    Version,
    Techniques,
    MappingOfOne,
    MappingOfAll,
}

fn role(path: &str) -> Option<Role> {
    let mut parts = path.rsplit('/');
    let name = parts.next()?;
    let folder = parts.next();
    Some(match (folder, name) {
        (_, "d3fend.json") => Role::Ontology,
        (_, "version.json") => Role::Version,
        (Some("technique"), "all.json") => Role::Techniques,
        (_, name) if name.ends_with("full-mappings.json") => Role::MappingOfAll,
        (Some("attack") | None, name) if name.strip_suffix(".json").is_some_and(is_technique_id) => Role::MappingOfOne,
        _ => return None,
    })
}

impl Reader for D3fendReader {
    fn wants(&self, path: &str) -> bool {
        role(path).is_some()
    }

    fn file(&mut self, path: &str, bytes: &[u8]) -> Result<(), ReadError> {
        match role(path) {
            Some(Role::Ontology) => self.ontology.add(path, bytes, true)?,
            Some(Role::Techniques) => self.ontology.add(path, bytes, false)?,
            Some(Role::Version) => {
                // Of no consequence when it cannot be read.
                let version: Option<Value> = json::read(path, bytes).ok();
                self.version = version.and_then(|version| json::text(version.get("version"), 100));
            }
            Some(Role::MappingOfAll) => self.mappings.add(path, bytes)?,
            Some(Role::MappingOfOne) => {
                if let Err(error) = self.mappings.add(path, bytes) {
                    self.knowledge.skipped.add(path, error.0);
                }
            }
            None => {}
        }
        Ok(())
    }

    fn finish(self: Box<Self>) -> Result<Knowledge, ReadError> {
        let D3fendReader { ontology, mappings, version, mut knowledge } = *self;
        if mappings.is_empty() {
            return Err(ReadError(
                "there is no mapping of a technique to a defence that can be read. Point the source's url at D3FEND's \
                 d3fend-full-mappings.json, or at an archive of its api/offensive-technique/attack/T*.json"
                    .to_owned(),
            ));
        }
        let defences = ontology.defences(&mut knowledge.skipped)?;
        knowledge.upstream_version = version.or(defences.version);
        for name in mappings.other_techniques() {
            knowledge.skipped.add(name, "it is mapped to a defence, and is no technique of ATT&CK");
        }
        let mut unknown = BTreeSet::new();
        let mut links: BTreeMap<_, BTreeSet<_>> = BTreeMap::new();
        for ((technique, defence), tuples) in mappings.pairs() {
            match defences.keys.get(defence) {
                Some(key) => links.entry((technique, key)).or_default().extend(tuples),
                None => _ = unknown.insert(defence),
            }
        }
        for ((technique, key), tuples) in links {
            let mut link = LinkRecord::to_technique(Kind::Defence, key, "counters", technique);
            link.references = tuples.into_iter().take(MAX_REFERENCES).map(reference).collect();
            knowledge.links.push(link);
        }
        for defence in unknown {
            knowledge.skipped.add(defence, "a mapping names it, and the ontology has no such defence");
        }
        knowledge.records = defences.records;
        Ok(knowledge)
    }
}

fn reference([defence_relation, artifact, offence_relation, offence_artifact]: &[String; 4]) -> Value {
    json!({
        "defence_relation": defence_relation,
        "artifact": artifact,
        "offence_relation": offence_relation,
        "offence_artifact": offence_artifact,
    })
}
