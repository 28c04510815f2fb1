//! Threat actors of several publishers: which actor of MISP is which ATT&CK group, and what is shown of both.
//!
//! A name means two actors to be one where nobody else claims it: where it fits one actor of ATT&CK and one of MISP
//! only. Two actors are merged where such names lead from each to the other and to nobody else. Everything is computed
//! from what the publishers say, so that it does not matter whose document came first.

use std::collections::{BTreeMap, HashMap, HashSet};

use chrono::{DateTime, Utc};
use serde_json::{Map, Value};

use super::knowledge::{MITRE_ATTACK, Record, Row, Said, shown};

/// What one origin says of one actor.
#[derive(Clone, Debug)]
pub struct Statement {
    /// The name of the data source.
    pub origin: String,
    /// Which actor.
    pub key: String,
    /// What it says.
    pub said: Said,
}

/// What changes among `rows`, all actors of the catalogue, when `statements` is all that is said of actors.
///
/// Rows come back new or changed, their versions raised. Of one that nobody speaks of any more nothing but that is
/// changed.
pub fn recompute(rows: Vec<Row>, statements: &[Statement], now: DateTime<Utc>) -> Vec<Row> {
    let mut of: BTreeMap<&str, Vec<(&str, &Said)>> = BTreeMap::new();
    for statement in statements {
        of.entry(&statement.key).or_default().push((&statement.origin, &statement.said));
    }
    let actors: BTreeMap<&str, &Said> = of.into_iter().filter_map(|(key, said)| Some((key, shown(said)?))).collect();
    let merged = merges(&actors);
    let into: HashMap<&str, &str> = merged.iter().map(|(group, other)| (*other, *group)).collect();

    let mut wanted: BTreeMap<&str, Said> = BTreeMap::new();
    for (key, said) in &actors {
        let mut said = (*said).clone();
        if let Some(other) = merged.get(key).and_then(|other| actors.get(other)) {
            said.record = merge(said.record, &other.record);
        }
        if let Some(group) = into.get(key) {
            said.record.deprecated = true;
            said.record.revoked_by = Some((*group).to_owned());
        }
        wanted.insert(key, said);
    }

    let mut changed = Vec::new();
    for mut row in rows {
        match wanted.remove(row.record.key.as_str()) {
            Some(said) => {
                if row.show(said, now) {
                    changed.push(row);
                }
            }
            None => {
                if row.vanish(now) {
                    changed.push(row);
                }
            }
        }
    }
    changed.extend(wanted.into_values().map(|said| Row::new(said, now)));
    changed
}

/// Who claims a name.
#[derive(Default)]
struct Claim<'a> {
    groups: HashSet<&'a str>,
    others: HashSet<&'a str>,
}

/// The actors that are one, by key: an ATT&CK group and the other's actor.
fn merges<'a>(actors: &BTreeMap<&'a str, &Said>) -> HashMap<&'a str, &'a str> {
    let mut claims: HashMap<String, Claim<'a>> = HashMap::new();
    for (key, said) in actors.iter().filter(|(_, said)| said.record.active()) {
        for name in names(&said.record) {
            let claim = claims.entry(name).or_default();
            let side = if said.source == MITRE_ATTACK { &mut claim.groups } else { &mut claim.others };
            side.insert(key);
        }
    }
    let mut others_of: HashMap<&str, HashSet<&'a str>> = HashMap::new();
    let mut groups_of: HashMap<&'a str, HashSet<&'a str>> = HashMap::new();
    for claim in claims.values() {
        if let (Some(group), Some(other)) = (only(&claim.groups), only(&claim.others)) {
            others_of.entry(group).or_default().insert(other);
            groups_of.entry(other).or_default().insert(group);
        }
    }
    let pair = |(other, groups): (&&'a str, &HashSet<&'a str>)| {
        let group = only(groups)?;
        only(others_of.get(group)?)?;
        Some((group, *other))
    };
    groups_of.iter().filter_map(pair).collect()
}

fn only<'a>(set: &HashSet<&'a str>) -> Option<&'a str> {
    set.iter().next().copied().filter(|_| set.len() == 1)
}

/// A name as it is compared: `APT 29`, `apt-29` and `APT29` are one.
fn plain(name: &str) -> String {
    name.chars().filter(|c| c.is_alphanumeric()).flat_map(char::to_lowercase).collect()
}

fn names(record: &Record) -> HashSet<String> {
    std::iter::once(&record.name)
        .chain(&record.aliases)
        .map(|name| plain(name))
        .filter(|name| !name.is_empty())
        .collect()
}

/// A group of ATT&CK with what another publisher knows besides.
fn merge(mut group: Record, other: &Record) -> Record {
    let mut known = names(&group);
    for name in std::iter::once(&other.name).chain(&other.aliases) {
        if known.insert(plain(name)) {
            group.aliases.push(name.clone());
        }
    }
    group.country = group.country.or_else(|| other.country.clone());
    group.motivation = group.motivation.or_else(|| other.motivation.clone());
    group.url = group.url.or_else(|| other.url.clone());
    let mut theirs: Map<String, Value> = other.attributes.clone();
    theirs.insert("key".into(), other.key.clone().into());
    theirs.insert("name".into(), other.name.clone().into());
    group.attributes.insert("misp".into(), theirs.into());
    group
}

#[cfg(test)]
#[path = "actors_tests.rs"]
mod tests;
