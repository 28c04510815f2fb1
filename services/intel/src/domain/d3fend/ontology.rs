//! The ontology: a graph whose classes with an id of `D3-` below a tactic are the defences.

use std::collections::{BTreeMap, HashMap, HashSet};

use serde::Deserialize;
use serde_json::{Map, Value};

use super::json;
use super::mappings::local_name;
use crate::domain::knowledge::{Kind, KnowledgeRecord, ReadError, Skips};

const MAX_NAME: usize = 300;
const MAX_TEXT: usize = 20_000;
const MAX_LIST: usize = 100;
const MAX_NODES: usize = 200_000;

/// The nodes of all documents, by the last part of their name.
#[derive(Debug, Default)]
pub(super) struct Ontology {
    nodes: HashMap<String, Node>,
    read: bool,
    version: Option<String>,
}

/// What is kept of a node.
#[derive(Debug, Default)]
struct Node {
    id: Option<String>,
    label: Option<String>,
    definition: Option<String>,
    synonyms: Vec<String>,
    parents: Vec<String>,
    enables: Vec<String>,
    references: Vec<String>,
    article: Option<String>,
    link: Option<String>,
}

/// The defences, and what names them.
#[derive(Debug, Default)]
pub(super) struct Defences {
    /// In the order of their keys.
    pub(super) records: Vec<KnowledgeRecord>,
    /// Key by the last part of the URI, and by the label where it is of one alone.
    pub(super) keys: HashMap<String, String>,
    /// The ontology's version.
    pub(super) version: Option<String>,
}

#[derive(Deserialize)]
struct Document {
    #[serde(rename = "@graph")]
    graph: Vec<Value>,
}

impl Ontology {
    /// Reads a document. What the whole ontology says of a node goes before what a list of techniques says.
    pub(super) fn add(&mut self, path: &str, bytes: &[u8], whole: bool) -> Result<(), ReadError> {
        let document: Document = json::read(path, bytes)?;
        if document.graph.len() > MAX_NODES {
            return Err(ReadError(format!("{path} has more than {MAX_NODES} nodes; check the source's url")));
        }
        self.read |= whole;
        for value in &document.graph {
            let Some(name) = value.get("@id").and_then(Value::as_str) else { continue };
            if name.starts_with("_:") {
                continue;
            }
            if self.version.is_none() {
                self.version = json::text(value.get("owl:versionInfo"), 100);
            }
            let name = local_name(name).to_owned();
            if whole || !self.nodes.contains_key(&name) {
                self.nodes.insert(name, node(value));
            }
        }
        Ok(())
    }

    /// The defences with the keys that they go by.
    pub(super) fn defences(&self, skipped: &mut Skips) -> Result<Defences, ReadError> {
        let advice = "Point the source at D3FEND's ontologies/d3fend.json and api/technique/all.json";
        if !self.read {
            return Err(ReadError(format!("there is no ontology, so that no defence has an id. {advice}")));
        }
        // By id, as more than one can claim the same.
        let mut claims: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        for (name, node) in &self.nodes {
            if let Some(id) = node.id.as_deref().filter(|id| id.starts_with("D3-"))
                && self.tactic(name).is_some()
            {
                claims.entry(id).or_default().push(name);
            }
        }
        let mut keys: HashMap<String, String> = HashMap::new();
        for (id, mut names) in claims {
            // The longer name has the id: a rule that needs nothing but the ontology, so that it does not change with
            // the mappings.
            names.sort_by_key(|name| (std::cmp::Reverse(name.len()), *name));
            for (position, name) in names.into_iter().enumerate() {
                let key = if position == 0 { id.to_owned() } else { format!("{id}:{name}") };
                keys.insert(name.to_owned(), key);
            }
        }
        if keys.is_empty() {
            return Err(ReadError(format!("the ontology holds no defence that can be read. {advice}")));
        }

        let mut records: Vec<_> = Vec::with_capacity(keys.len());
        for (name, key) in &keys {
            match self.record(name, key, &keys) {
                Some(record) => records.push(record),
                None => skipped.add(key.as_str(), "the ontology says no name of it"),
            }
        }
        records.sort_by(|a, b| a.key.cmp(&b.key));
        keys.retain(|_, key| records.binary_search_by(|record| record.key.cmp(key)).is_ok());
        self.add_labels(&mut keys);
        Ok(Defences { records, keys, version: self.version.clone() })
    }

    /// Rows without a URI name a defence by its label.
    fn add_labels(&self, keys: &mut HashMap<String, String>) {
        let mut labels: HashMap<String, Option<String>> = HashMap::new();
        for (name, key) in keys.iter() {
            if let Some(label) = self.nodes.get(name).and_then(|node| node.label.clone()) {
                labels.entry(label).and_modify(|known| *known = None).or_insert_with(|| Some(key.clone()));
            }
        }
        for (label, key) in labels {
            if let Some(key) = key {
                keys.entry(label).or_insert(key);
            }
        }
    }

    fn record(&self, name: &str, key: &str, keys: &HashMap<String, String>) -> Option<KnowledgeRecord> {
        let node = self.nodes.get(name)?;
        let mut record = KnowledgeRecord::new(Kind::Defence, key, format!("d3f:{name}"), node.label.clone()?);
        record.description = node.definition.clone();
        record.aliases = node.synonyms.iter().filter(|synonym| **synonym != record.name).cloned().collect();
        record.url = Some(format!("https://d3fend.mitre.org/technique/d3f:{name}/"));
        record.collection = self.tactic(name);

        let attributes = &mut record.attributes;
        let mut keep = |name: &str, value: Option<Value>| {
            if let Some(value) = value {
                attributes.insert(name.to_owned(), value);
            }
        };
        keep("d3fend_id", node.id.clone().map(Value::from));
        if let Some((parent, key)) = node.parents.iter().find_map(|parent| Some((parent, keys.get(parent)?))) {
            keep("parent_id", Some(Value::from(key.as_str())));
            keep("parent_name", self.nodes.get(parent).and_then(|node| node.label.clone()).map(Value::from));
        }
        keep("synonyms", (!node.synonyms.is_empty()).then(|| Value::from(node.synonyms.clone())));
        keep("article", node.article.clone().map(Value::from));
        let references: Vec<_> = node.references.iter().filter_map(|name| self.reference(name)).collect();
        keep("references", (!references.is_empty()).then(|| Value::from(references)));
        Some(record)
    }

    /// A paper or a patent that describes the defence.
    fn reference(&self, name: &str) -> Option<Value> {
        let node = self.nodes.get(name)?;
        let mut reference = Map::new();
        reference.insert("source_name".to_owned(), Value::from(node.label.clone()?));
        if let Some(link) = &node.link {
            reference.insert("url".to_owned(), Value::from(link.clone()));
        }
        Some(Value::Object(reference))
    }

    /// The tactic that a node or one of its ancestors enables.
    fn tactic(&self, name: &str) -> Option<String> {
        let mut seen = HashSet::from([name]);
        let mut level = vec![name];
        while !level.is_empty() {
            let nodes: Vec<_> = level.iter().filter_map(|name| self.nodes.get(*name)).collect();
            if let Some(tactic) = nodes.iter().find_map(|node| node.enables.first()) {
                let label = self.nodes.get(tactic).and_then(|node| node.label.clone());
                return Some(label.unwrap_or_else(|| tactic.clone()));
            }
            level = nodes
                .iter()
                .flat_map(|node| &node.parents)
                .map(String::as_str)
                .filter(|name| seen.insert(name))
                .collect();
        }
        None
    }
}

fn node(value: &Value) -> Node {
    Node {
        id: json::text(value.get("d3f:d3fend-id"), 100),
        label: json::text(value.get("rdfs:label"), MAX_NAME),
        definition: json::bounded(&json::texts(value.get("d3f:definition"), MAX_LIST, MAX_TEXT).join("\n\n"), MAX_TEXT),
        synonyms: json::texts(value.get("d3f:synonym"), MAX_LIST, MAX_NAME),
        parents: names(value.get("rdfs:subClassOf")),
        enables: names(value.get("d3f:enables")),
        references: names(value.get("d3f:kb-reference")),
        article: json::text(value.get("d3f:kb-article"), MAX_TEXT),
        link: json::text(value.get("d3f:has-link"), 2_000)
            .filter(|link| link.starts_with("https://") || link.starts_with("http://")),
    }
}

/// What a property points at, which is one object or a list of them; nameless nodes are constraints.
fn names(value: Option<&Value>) -> Vec<String> {
    json::items(value)
        .iter()
        .filter_map(|item| item.get("@id").or(Some(item))?.as_str())
        .filter(|name| !name.starts_with("_:"))
        .filter_map(|name| json::bounded(local_name(name), MAX_NAME))
        .take(MAX_LIST)
        .collect()
}
