//! Gathers records and relationships in any order, and joins them by their STIX ids when all were seen.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use serde_json::{Map, Value};

use super::fields::MAX_STIX_ID_BYTES;
use super::record::{DATA_COMPONENT, LOG_SOURCE_REFERENCES, RawRecord, RecordType};
use super::relationship::{Related, Relation};
use crate::domain::knowledge::{Kind, Knowledge, KnowledgeRecord, LinkRecord, Skips, TECHNIQUE};

/// Between a strategy and its analytics, an analytic and its data components.
const HAS: &str = "has";

/// What was seen so far.
#[derive(Default)]
pub(super) struct Graph {
    /// A number for each STIX id that is the id of a record or the end of a relationship: ids are long and come often.
    numbers: HashMap<Box<str>, u32>,
    /// With the number of its id, in the order of the bundle.
    records: Vec<(u32, RawRecord)>,
    relationships: Vec<Relationship>,
}

struct Relationship {
    /// Its own STIX id.
    id: Option<Box<str>>,
    relation: Relation,
    from: u32,
    to: u32,
    description: Option<String>,
    references: Vec<Value>,
}

/// What a link names.
struct End {
    kind: &'static str,
    key: String,
}

/// What came of the joining.
pub(super) struct Joined {
    pub(super) knowledge: Knowledge,
    /// STIX id of a technique → ATT&CK id of its successor.
    pub(super) successors: HashMap<String, String>,
}

impl Graph {
    pub(super) fn record(&mut self, record: RawRecord) {
        let number = self.number(&record.record.source_id);
        self.records.push((number, record));
    }

    pub(super) fn relationship(&mut self, related: Related<'_>) {
        let (from, to) = (self.number(&related.from), self.number(&related.to));
        self.relationships.push(Relationship {
            id: related.id.map(|id| id.as_ref().into()),
            relation: related.relation,
            from,
            to,
            description: related.description,
            references: related.references,
        });
    }

    fn number(&mut self, id: &str) -> u32 {
        match self.numbers.get(id) {
            Some(number) => *number,
            None => {
                // At most three of each object, whose number is bounded.
                let number = self.numbers.len() as u32;
                self.numbers.insert(id.into(), number);
                number
            }
        }
    }

    /// `techniques` are STIX id and ATT&CK id of each.
    pub(super) fn finish<'t>(
        self,
        techniques: impl Iterator<Item = (&'t str, &'t str)>,
        skipped: &mut Skips,
    ) -> Joined {
        let mut ids = vec![""; self.numbers.len()];
        for (id, number) in &self.numbers {
            ids[*number as usize] = id;
        }
        let mut ends: Vec<Option<End>> = Vec::new();
        ends.resize_with(ids.len(), || None);
        for (stix_id, mitre_id) in techniques {
            if let Some(number) = self.numbers.get(stix_id) {
                ends[*number as usize] = Some(End { kind: TECHNIQUE, key: mitre_id.to_owned() });
            }
        }
        for (number, raw) in &self.records {
            ends[*number as usize] = Some(End { kind: raw.kind.kind().as_str(), key: raw.record.key.clone() });
        }
        let find = |id: &str, kind: Kind| {
            let end = ends[*self.numbers.get(id)? as usize].as_ref()?;
            (end.kind == kind.as_str()).then_some(end)
        };

        let mut links = Links::default();
        let mut records: Vec<(u32, KnowledgeRecord)> = Vec::with_capacity(self.records.len());
        for (number, raw) in one_of_each_key(self.records) {
            let record = join_parts(raw, &find, &mut links, skipped);
            records.push((number, record));
        }
        let mut successors: HashMap<u32, u32> = HashMap::new();
        for relationship in self.relationships {
            let absent = match (&ends[relationship.from as usize], &ends[relationship.to as usize]) {
                (Some(_), Some(_)) if relationship.relation == Relation::RevokedBy => {
                    successors.entry(relationship.from).or_insert(relationship.to);
                    continue;
                }
                (Some(from), Some(to)) => {
                    let relation = relationship.relation.as_str();
                    links.add(from, relation, to, relationship.description, relationship.references);
                    continue;
                }
                (None, _) => relationship.from,
                (_, None) => relationship.to,
            };
            let id = relationship.id.as_deref().unwrap_or("a relationship");
            skipped.add(id, format!("its end {} is not in the bundle, or could not be read", ids[absent as usize]));
        }

        let successor = |number: u32| ends[*successors.get(&number)? as usize].as_ref();
        for (number, record) in records.iter_mut().filter(|(_, record)| record.revoked) {
            record.revoked_by = successor(*number).map(|end| end.key.clone()).filter(|key| *key != record.key);
        }
        let techniques = successors.keys().filter_map(|number| {
            let to = successor(*number).filter(|end| end.kind == TECHNIQUE)?;
            Some((ids[*number as usize].to_owned(), to.key.clone()))
        });
        Joined {
            successors: techniques.collect(),
            knowledge: Knowledge {
                records: records.into_iter().map(|(_, record)| record).collect(),
                links: links.links,
                ..Knowledge::default()
            },
        }
    }
}

/// Two objects of a kind with one key are one record.
fn one_of_each_key(all: Vec<(u32, RawRecord)>) -> Vec<(u32, RawRecord)> {
    let mut kept: Vec<(u32, RawRecord)> = Vec::with_capacity(all.len());
    let mut places: HashMap<(Kind, String), usize> = HashMap::with_capacity(all.len());
    for (number, raw) in all {
        match places.entry((raw.record.kind, raw.record.key.clone())) {
            Entry::Vacant(place) => {
                place.insert(kept.len());
                kept.push((number, raw));
            }
            Entry::Occupied(place) => {
                let known = &mut kept[*place.get()];
                if raw.wins_over(&known.1) {
                    *known = (number, raw);
                }
            }
        }
    }
    kept
}

/// Replaces the STIX ids in a record by keys and links, where they are of something.
fn join_parts<'e>(
    raw: RawRecord,
    find: &impl Fn(&str, Kind) -> Option<&'e End>,
    links: &mut Links,
    skipped: &mut Skips,
) -> KnowledgeRecord {
    let mut record = raw.record;
    let (wanted, has) = match raw.kind {
        RecordType::DetectionStrategy => (Kind::Analytic, true),
        RecordType::Analytic => (Kind::DataComponent, true),
        RecordType::DataComponent => (Kind::DataComponent, false),
        _ => return record,
    };
    let this = End { kind: record.kind.as_str(), key: record.key.clone() };
    for part in &raw.parts {
        match find(part, wanted) {
            Some(end) if has => links.add(&this, HAS, end, None, Vec::new()),
            Some(end) => record.collection = Some(end.key.clone()),
            None => {
                let part: String = part.chars().take(MAX_STIX_ID_BYTES).collect();
                let reason = format!("it names {part}, which is not in the bundle, or could not be read");
                skipped.add(record.key.as_str(), reason);
            }
        }
    }
    if let Some(Value::Array(sources)) = record.attributes.get_mut(LOG_SOURCE_REFERENCES) {
        for source in sources.iter_mut().filter_map(Value::as_object_mut) {
            name_component(source, |id| find(id, wanted).map(|end| end.key.clone()));
        }
    }
    record
}

fn name_component(source: &mut Map<String, Value>, key: impl Fn(&str) -> Option<String>) {
    match source.get(DATA_COMPONENT).and_then(Value::as_str).and_then(key) {
        Some(key) => {
            source.insert(DATA_COMPONENT.to_owned(), Value::String(key));
        }
        None => {
            source.remove(DATA_COMPONENT);
        }
    }
}

/// Links, each once.
#[derive(Default)]
struct Links {
    links: Vec<LinkRecord>,
    places: HashMap<(&'static str, String, &'static str, &'static str, String), usize>,
}

impl Links {
    /// Of two that say the same of the same, the first with a text stays.
    fn add(
        &mut self,
        from: &End,
        relation: &'static str,
        to: &End,
        description: Option<String>,
        references: Vec<Value>,
    ) {
        match self.places.entry((from.kind, from.key.clone(), relation, to.kind, to.key.clone())) {
            Entry::Vacant(place) => {
                place.insert(self.links.len());
                self.links.push(LinkRecord {
                    from_kind: from.kind,
                    from_key: from.key.clone(),
                    relation,
                    to_kind: to.kind,
                    to_key: to.key.clone(),
                    description,
                    references,
                });
            }
            Entry::Occupied(place) => {
                let known = &mut self.links[*place.get()];
                if known.description.is_none() && description.is_some() {
                    known.description = description;
                    known.references = references;
                }
            }
        }
    }
}
