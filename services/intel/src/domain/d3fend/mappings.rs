//! The answers of D3FEND's inference: rows that name a defence, a technique and what both touch.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet, HashMap};

use serde::Deserialize;

use super::json;
use crate::domain::knowledge::{ReadError, is_technique_id};

/// Tuples of one pair while reading; far more than there are, and a bound for a hostile file.
const MAX_TUPLES: usize = 200;
const MAX_LABEL: usize = 200;
/// Pairs of all files.
const MAX_PAIRS: usize = 500_000;

/// How the defence works on what, and how the technique does on what.
type Tuple = [String; 4];

/// What all the files said.
#[derive(Debug, Default)]
pub(super) struct Mappings {
    /// By technique, then by the defence's URI (its label where a row has no URI).
    techniques: HashMap<String, HashMap<String, Vec<Tuple>>>,
    pairs: usize,
    others: BTreeSet<String>,
}

#[derive(Deserialize)]
struct File<'a> {
    /// Of one technique.
    #[serde(borrow)]
    off_to_def: Option<Answer<'a>>,
    /// Of all of them.
    #[serde(borrow)]
    results: Option<Results<'a>>,
}

#[derive(Deserialize)]
struct Answer<'a> {
    #[serde(borrow)]
    results: Results<'a>,
}

#[derive(Deserialize)]
struct Results<'a> {
    #[serde(borrow)]
    bindings: Vec<Binding<'a>>,
}

/// Only what is looked at: a row has two dozen members, and there are 68,365 of them.
#[derive(Deserialize)]
struct Binding<'a> {
    #[serde(borrow)]
    def_tech: Option<Cell<'a>>,
    #[serde(borrow)]
    def_tech_label: Option<Cell<'a>>,
    #[serde(borrow)]
    off_tech: Option<Cell<'a>>,
    #[serde(borrow)]
    off_tech_id: Option<Cell<'a>>,
    #[serde(borrow)]
    def_artifact_rel_label: Option<Cell<'a>>,
    #[serde(borrow)]
    def_artifact_label: Option<Cell<'a>>,
    #[serde(borrow)]
    off_artifact_rel_label: Option<Cell<'a>>,
    #[serde(borrow)]
    off_artifact_label: Option<Cell<'a>>,
}

#[derive(Deserialize)]
struct Cell<'a> {
    #[serde(borrow)]
    value: Cow<'a, str>,
}

fn value<'a>(cell: &'a Option<Cell<'_>>) -> Option<&'a str> {
    cell.as_ref().map(|cell| cell.value.trim()).filter(|text| !text.is_empty())
}

/// The last part of a URI.
pub(super) fn local_name(uri: &str) -> &str {
    uri.rsplit(['#', '/', ':']).next().unwrap_or(uri)
}

impl Mappings {
    /// Reads one file, all of it or nothing.
    pub(super) fn add(&mut self, path: &str, bytes: &[u8]) -> Result<(), ReadError> {
        let file: File<'_> = json::read(path, bytes)?;
        let Some(results) = file.off_to_def.map(|answer| answer.results).or(file.results) else {
            return Err(ReadError(format!("{path} has neither off_to_def nor results; check the source's url")));
        };
        for row in &results.bindings {
            // A row without a defence says that nothing is known to touch the artifact.
            let Some(defence) = value(&row.def_tech).map(local_name).or_else(|| value(&row.def_tech_label)) else {
                continue;
            };
            let Some(technique) = value(&row.off_tech_id).or_else(|| value(&row.off_tech).map(local_name)) else {
                continue;
            };
            // D3FEND also maps other frameworks.
            if !is_technique_id(technique) {
                if self.others.len() < MAX_PAIRS && !self.others.contains(technique) {
                    self.others.extend(json::bounded(technique, MAX_LABEL));
                }
                continue;
            }
            let tuple = [
                &row.def_artifact_rel_label,
                &row.def_artifact_label,
                &row.off_artifact_rel_label,
                &row.off_artifact_label,
            ]
            .map(|cell| value(cell).unwrap_or_default());
            self.keep(technique, defence, tuple);
        }
        if self.pairs > MAX_PAIRS {
            return Err(ReadError(format!("the mappings name more than {MAX_PAIRS} pairs; check the source's url")));
        }
        Ok(())
    }

    fn keep(&mut self, technique: &str, defence: &str, tuple: [&str; 4]) {
        // Most rows repeat what is known, so nothing is copied before it is new.
        if !self.techniques.contains_key(technique) {
            self.techniques.insert(technique.to_owned(), HashMap::new());
        }
        let Some(defences) = self.techniques.get_mut(technique) else { return };
        if !defences.contains_key(defence) {
            defences.insert(defence.to_owned(), Vec::new());
            self.pairs += 1;
        }
        let Some(tuples) = defences.get_mut(defence) else { return };
        if tuples.len() < MAX_TUPLES && !tuples.iter().any(|known| known.iter().eq(tuple)) {
            tuples.push(tuple.map(|text| json::bounded(text, MAX_LABEL).unwrap_or_default()));
        }
    }

    /// Whether no file named a pair.
    pub(super) fn is_empty(&self) -> bool {
        self.techniques.is_empty()
    }

    /// Ids of other frameworks.
    pub(super) fn other_techniques(&self) -> impl Iterator<Item = &str> {
        self.others.iter().map(String::as_str)
    }

    /// Each technique and defence once, in one order whatever the order of the files.
    pub(super) fn pairs(&self) -> BTreeMap<(&str, &str), BTreeSet<&Tuple>> {
        let mut pairs = BTreeMap::new();
        for (technique, defences) in &self.techniques {
            for (defence, tuples) in defences {
                pairs.insert((technique.as_str(), defence.as_str()), tuples.iter().collect());
            }
        }
        pairs
    }
}
