//! What a publisher's document changes in the catalogue: a plan, made from what is there and what came.
//!
//! An ATT&CK id names one row of its domain, and people and tests mean that row by it; so a record goes to the row
//! with its ATT&CK id, and only where there is none to the row with its STIX id (the publisher renumbered it).

use std::collections::{HashMap, HashSet};

use chrono::{DateTime, Utc};
use uuid::Uuid;

use super::technique::{Domain, PersonSet, Source, Tactic, Technique};

/// A technique as a document brings it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TechniqueRecord {
    /// The publisher's identity of it.
    pub stix_id: String,
    /// Unique in the document.
    pub mitre_id: String,
    /// Its name.
    pub name: String,
    /// Markdown.
    pub description: Option<String>,
    /// Short names.
    pub tactics: Vec<String>,
    /// As the publisher spells them.
    pub platforms: Vec<String>,
    /// The id has a part after the dot.
    pub is_subtechnique: bool,
    /// The part before the dot.
    pub parent_mitre_id: Option<String>,
    /// Its own version.
    pub attack_version: Option<String>,
    /// Its page.
    pub url: Option<String>,
    /// Withdrawn.
    pub revoked: bool,
    /// No longer maintained.
    pub deprecated: bool,
    /// ATT&CK id of the successor.
    pub revoked_by: Option<String>,
    /// Hash of the publisher's object.
    pub content_hash: Vec<u8>,
}

/// A tactic as a document brings it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TacticRecord {
    /// The publisher's identity of it.
    pub stix_id: String,
    /// Unique in the document.
    pub mitre_id: String,
    /// Such as `execution`.
    pub short_name: String,
    /// Its name.
    pub name: String,
    /// Its column, from 0.
    pub position: i64,
    /// No longer in the matrix.
    pub deprecated: bool,
}

/// How many of what.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// New to the catalogue, or known only from the starter matrix or from an administrator.
    pub created: i64,
    /// Known from an earlier document, and different now.
    pub updated: i64,
    /// As in an earlier document.
    pub unchanged: i64,
    /// Revoked ones in the document.
    pub revoked: i64,
    /// Deprecated ones in the document.
    pub deprecated: i64,
    /// Known and not in the document: marked as deprecated.
    pub vanished: i64,
    /// Starter rows that are not in the document and that nothing points at: deleted.
    pub removed: i64,
}

/// What happens to a technique.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Change {
    /// Withdrawn since.
    Revoked,
    /// No longer maintained since.
    Deprecated,
    /// No longer in the document.
    Vanished,
    /// Different.
    Changed,
    /// New to the catalogue.
    New,
}

impl Change {
    /// The name on every interface.
    pub fn as_str(self) -> &'static str {
        match self {
            Change::Revoked => "revoked",
            Change::Deprecated => "deprecated",
            Change::Vanished => "vanished",
            Change::Changed => "changed",
            Change::New => "new",
        }
    }
}

/// What to do.
#[derive(Debug)]
pub struct Plan<T> {
    /// How many of what.
    pub counts: Counts,
    /// Rows to write, new and changed, their versions raised.
    pub write: Vec<T>,
    /// What happens to each of those; of techniques only.
    pub changes: Vec<Change>,
    /// Rows to delete.
    pub remove: Vec<T>,
}

impl<T> Default for Plan<T> {
    fn default() -> Self {
        Plan { counts: Counts::default(), write: Vec::new(), changes: Vec::new(), remove: Vec::new() }
    }
}

impl<T> Plan<T> {
    /// Nothing changes.
    pub fn is_empty(&self) -> bool {
        self.write.is_empty() && self.remove.is_empty()
    }
}

/// Which existing row each record is about, by (ATT&CK id, STIX id); every row is taken once.
fn assign<'a>(
    existing: impl Iterator<Item = (&'a str, Option<&'a str>)> + Clone,
    records: impl Iterator<Item = (&'a str, &'a str)> + Clone,
) -> Vec<Option<usize>> {
    let by_mitre: HashMap<&str, usize> = existing.clone().enumerate().map(|(i, (mitre, _))| (mitre, i)).collect();
    let by_stix: HashMap<&str, usize> = existing.enumerate().filter_map(|(i, (_, stix))| Some((stix?, i))).collect();
    let mut taken: HashSet<usize> = records.clone().filter_map(|(mitre, _)| by_mitre.get(mitre).copied()).collect();
    let row_of = |(mitre, stix): (&str, &str)| match by_mitre.get(mitre) {
        Some(row) => Some(*row),
        None => by_stix.get(stix).copied().filter(|row| taken.insert(*row)),
    };
    records.map(row_of).collect()
}

/// What a document of `domain` changes among `existing`, all the techniques of that domain.
///
/// `tested` are the techniques that tests point at. A `partial` document says nothing of what it does not have.
pub fn plan_techniques(
    existing: Vec<Technique>,
    records: Vec<TechniqueRecord>,
    tested: &HashSet<Uuid>,
    domain: Domain,
    partial: bool,
    now: DateTime<Utc>,
) -> Plan<Technique> {
    let mut plan = Plan::default();
    let rows = assign(
        existing.iter().map(|row| (row.mitre_id.as_str(), row.stix_id.as_deref())),
        records.iter().map(|record| (record.mitre_id.as_str(), record.stix_id.as_str())),
    );
    let mut existing: Vec<Option<Technique>> = existing.into_iter().map(Some).collect();
    for (record, row) in records.into_iter().zip(rows) {
        plan.counts.revoked += i64::from(record.revoked);
        plan.counts.deprecated += i64::from(record.deprecated);
        let Some(mut row) = row.and_then(|row| existing[row].take()) else {
            let mut row = Technique::new(record.mitre_id.clone(), domain, Source::MitreAttack, now);
            replace_content(&mut row, record);
            plan.counts.created += 1;
            plan.changes.push(Change::New);
            plan.write.push(row);
            continue;
        };
        if row.source != Source::MitreAttack {
            row.touch(now);
            replace_content(&mut row, record);
            plan.counts.created += 1;
            plan.changes.push(Change::New);
            plan.write.push(row);
        } else if differs(&row, &record) {
            let (revoked, deprecated) = (record.revoked && !row.revoked, record.deprecated && !row.deprecated);
            let review = row.content_hash.as_ref() != Some(&record.content_hash) || revoked || deprecated;
            plan.changes.push(match (revoked, deprecated) {
                (true, _) => Change::Revoked,
                (false, true) => Change::Deprecated,
                (false, false) => Change::Changed,
            });
            row.touch(now);
            replace_content(&mut row, record);
            row.review_required |= review;
            plan.counts.updated += 1;
            plan.write.push(row);
        } else {
            plan.counts.unchanged += 1;
        }
    }
    if !partial {
        for row in existing.into_iter().flatten() {
            missing(row, tested, now, &mut plan);
        }
    }
    plan
}

/// A row that the document does not have.
fn missing(mut row: Technique, tested: &HashSet<Uuid>, now: DateTime<Utc>, plan: &mut Plan<Technique>) {
    let kept = tested.contains(&row.id)
        || row.status_override.is_some()
        || row.last_reviewed_at.is_some()
        || row.person_set != PersonSet::default();
    match row.source {
        Source::Custom => {}
        Source::Starter if !kept => {
            row.touch(now);
            plan.counts.removed += 1;
            plan.remove.push(row);
        }
        Source::Starter | Source::MitreAttack if !row.deprecated => {
            row.touch(now);
            row.deprecated = true;
            row.review_required = true;
            plan.counts.vanished += 1;
            plan.changes.push(Change::Vanished);
            plan.write.push(row);
        }
        Source::Starter | Source::MitreAttack => {}
    }
}

/// The hash covers what the publisher wrote into the object; the rest is of relationships, or ours.
fn differs(row: &Technique, record: &TechniqueRecord) -> bool {
    row.content_hash.as_ref() != Some(&record.content_hash)
        || row.mitre_id != record.mitre_id
        || row.stix_id.as_ref() != Some(&record.stix_id)
        || row.revoked != record.revoked
        || row.revoked_by != record.revoked_by
        || row.deprecated != record.deprecated
        || row.parent_mitre_id != record.parent_mitre_id
}

fn replace_content(row: &mut Technique, record: TechniqueRecord) {
    row.source = Source::MitreAttack;
    row.stix_id = Some(record.stix_id);
    row.mitre_id = record.mitre_id;
    row.is_subtechnique = record.is_subtechnique;
    row.parent_mitre_id = record.parent_mitre_id;
    row.attack_version = record.attack_version;
    row.url = record.url;
    row.revoked = record.revoked;
    row.revoked_by = record.revoked_by;
    row.deprecated = record.deprecated;
    row.content_hash = Some(record.content_hash);
    if !row.person_set.has(PersonSet::NAME) {
        row.name = record.name;
    }
    if !row.person_set.has(PersonSet::DESCRIPTION) {
        row.description = record.description;
    }
    if !row.person_set.has(PersonSet::TACTICS) {
        row.tactics = record.tactics;
    }
    if !row.person_set.has(PersonSet::PLATFORMS) {
        row.platforms = record.platforms;
    }
}

/// What a document of `domain` changes among `existing`, all the tactics of that domain.
pub fn plan_tactics(existing: Vec<Tactic>, records: Vec<TacticRecord>, domain: Domain, partial: bool) -> Plan<Tactic> {
    let mut plan = Plan::default();
    let rows = assign(
        existing.iter().map(|row| (row.mitre_id.as_str(), row.stix_id.as_deref())),
        records.iter().map(|record| (record.mitre_id.as_str(), record.stix_id.as_str())),
    );
    let mut existing: Vec<Option<Tactic>> = existing.into_iter().map(Some).collect();
    for (record, row) in records.into_iter().zip(rows) {
        plan.counts.deprecated += i64::from(record.deprecated);
        let old = row.and_then(|row| existing[row].take());
        let new = Tactic {
            id: old.as_ref().map_or_else(Uuid::now_v7, |old| old.id),
            mitre_id: record.mitre_id,
            short_name: record.short_name,
            name: record.name,
            domain,
            position: record.position,
            deprecated: record.deprecated,
            source: Source::MitreAttack,
            stix_id: Some(record.stix_id),
        };
        match old {
            Some(old) if old == new => {
                plan.counts.unchanged += 1;
                continue;
            }
            Some(old) if old.source == Source::MitreAttack => plan.counts.updated += 1,
            _ => plan.counts.created += 1,
        }
        plan.write.push(new);
    }
    for mut row in existing.into_iter().flatten().filter(|_| !partial) {
        if row.source == Source::Starter {
            plan.counts.removed += 1;
            plan.remove.push(row);
        } else if !row.deprecated {
            row.deprecated = true;
            plan.counts.vanished += 1;
            plan.write.push(row);
        }
    }
    plan
}

#[cfg(test)]
#[path = "import_tests.rs"]
mod tests;
