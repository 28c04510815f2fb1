//! Records of what the catalogue knows of techniques, as they are kept, and what is computed from them.

use std::{
    cmp::Ordering,
    collections::{HashMap, HashSet},
    sync::Arc,
};

use uuid::Uuid;

use super::matrix::{Actor, Control, Framework, Knowledge, Tactic};

/// A record that is neither revoked nor deprecated, as the catalogue exports it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Known {
    pub(crate) kind: String,
    pub(crate) key: String,
    pub(crate) id: Uuid,
    pub(crate) name: String,
    pub(crate) collection: String,
    pub(crate) implemented: bool,
    pub(crate) techniques: Vec<String>,
    pub(crate) parent: String,
    pub(crate) family: String,
    pub(crate) version: String,
    pub(crate) attack_version: String,
    pub(crate) mapping_source: String,
    pub(crate) position: i64,
    pub(crate) mitre_id: String,
}

/// All of it, in the orders that [`Knowledge`] promises.
pub(crate) fn knowledge(records: Vec<Known>) -> Knowledge {
    let mut names = Names::default();
    let mut knowledge = Knowledge::default();
    for record in records {
        let techniques = names.all(record.techniques);
        match record.kind.as_str() {
            "tactic" => {
                if !record.attack_version.is_empty() {
                    knowledge.releases.insert(record.collection.clone(), record.attack_version);
                }
                let short_name = record.key.split_once(':').map_or(record.key.as_str(), |(_, short)| short);
                knowledge.tactics.push(Tactic {
                    short_name: short_name.to_owned(),
                    domain: record.collection,
                    name: record.name,
                    mitre_id: record.mitre_id,
                    position: i32::try_from(record.position).unwrap_or(i32::MAX),
                });
            }
            "threat_actor" => {
                for technique in &techniques {
                    *knowledge.users.entry(Arc::clone(technique)).or_default() += 1;
                }
                knowledge.actors.push(Actor { id: record.id, key: record.key, name: record.name, techniques });
            }
            "detection_rule" => {
                for technique in techniques {
                    *knowledge.rules.entry(technique).or_default() += 1;
                }
            }
            "defence" => {
                for technique in techniques {
                    let (all, implemented) = knowledge.defences.entry(technique).or_default();
                    *all += 1;
                    *implemented += i64::from(record.implemented);
                }
            }
            "framework" => knowledge.frameworks.push(Framework {
                key: record.key,
                name: record.name,
                version: record.version,
                attack_version: record.attack_version,
                mapping_source: record.mapping_source,
            }),
            "control" => {
                let prefix = format!("{}:", record.collection);
                let id = record.key.strip_prefix(&prefix).unwrap_or(&record.key).to_owned();
                let parent = record.parent.strip_prefix(&prefix).unwrap_or(&record.parent).to_owned();
                knowledge.controls.push(Control {
                    uuid: record.id,
                    framework: record.collection,
                    id,
                    name: record.name,
                    family: record.family,
                    parent,
                    techniques,
                });
            }
            _ => {}
        }
    }
    knowledge
        .tactics
        .sort_by(|a, b| (&a.domain, a.position, &a.short_name).cmp(&(&b.domain, b.position, &b.short_name)));
    knowledge.actors.sort_by(|a, b| a.key.cmp(&b.key));
    knowledge.frameworks.sort_by(|a, b| a.key.cmp(&b.key));
    knowledge.controls.sort_by(|a, b| a.framework.cmp(&b.framework).then_with(|| by_value(&a.id, &b.id)));
    knowledge
}

/// One text for all that have the same id.
#[derive(Default)]
struct Names(HashSet<Arc<str>>);

impl Names {
    fn all(&mut self, names: Vec<String>) -> Vec<Arc<str>> {
        let mut seen: HashMap<Arc<str>, ()> = HashMap::with_capacity(names.len());
        names
            .into_iter()
            .map(|name| match self.0.get(name.as_str()) {
                Some(known) => Arc::clone(known),
                None => {
                    let name: Arc<str> = name.into();
                    self.0.insert(Arc::clone(&name));
                    name
                }
            })
            // Each once, whatever the export says: a technique must not count twice.
            .filter(|name| seen.insert(Arc::clone(name), ()).is_none())
            .collect()
    }
}

/// The order of ids such as AC-2(10): what is a number by its value, all else by its characters.
pub(crate) fn by_value(a: &str, b: &str) -> Ordering {
    let (mut left, mut right) = (a, b);
    loop {
        let (x, y) = match (left.chars().next(), right.chars().next()) {
            (Some(x), Some(y)) => (x, y),
            // Of two that are of the same value, such as 1 and 01, the characters decide.
            _ => return left.len().cmp(&right.len()).then_with(|| a.cmp(b)),
        };
        if x.is_ascii_digit() && y.is_ascii_digit() {
            let (n, rest) = number(left);
            let (m, other) = number(right);
            let order = n.len().cmp(&m.len()).then_with(|| n.cmp(m));
            if order.is_ne() {
                return order;
            }
            (left, right) = (rest, other);
        } else if x != y {
            return x.cmp(&y);
        } else {
            (left, right) = (&left[x.len_utf8()..], &right[y.len_utf8()..]);
        }
    }
}

/// The digits in front without leading zeros, and the rest.
fn number(text: &str) -> (&str, &str) {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (digits, rest) = text.split_at(end);
    (digits.trim_start_matches('0'), rest)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn numbers_go_by_their_value() {
        let mut ids = vec!["AC-10", "AC-2(10)", "AC-2", "AC-2(2)", "AC-1", "AT-1", "AC-02"];
        ids.sort_by(|a, b| by_value(a, b));
        assert_eq!(ids, ["AC-1", "AC-02", "AC-2", "AC-2(2)", "AC-2(10)", "AC-10", "AT-1"]);
    }

    proptest! {
        #[test]
        fn the_order_is_one(mut ids in prop::collection::vec("[A-B0-2]{0,4}", 3)) {
            let [a, b, c] = [&ids[0], &ids[1], &ids[2]];
            prop_assert_eq!(by_value(a, b), by_value(b, a).reverse());
            prop_assert_eq!(by_value(a, b) == Ordering::Equal, a == b);
            if by_value(a, b).is_le() && by_value(b, c).is_le() {
                prop_assert!(by_value(a, c).is_le());
            }
            // Does not panic on an order that is none.
            ids.sort_by(|a, b| by_value(a, b));
        }
    }
}
