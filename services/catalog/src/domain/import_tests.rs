//! Every case of a document meeting the catalogue.

use super::*;
use crate::domain::status::Status;

fn at(minute: i64) -> DateTime<Utc> {
    DateTime::from_timestamp(1_700_000_000 + 60 * minute, 0).unwrap()
}

fn record(number: u8) -> TechniqueRecord {
    TechniqueRecord {
        stix_id: format!("attack-pattern--{number}"),
        mitre_id: format!("T{:04}", 1000 + u32::from(number)),
        name: format!("Technique {number}"),
        description: Some("Text".into()),
        tactics: vec!["execution".into()],
        platforms: vec!["Windows".into()],
        is_subtechnique: false,
        parent_mitre_id: None,
        attack_version: Some("1.0".into()),
        url: None,
        revoked: false,
        deprecated: false,
        revoked_by: None,
        content_hash: vec![number; 32],
    }
}

fn plan(existing: Vec<Technique>, records: Vec<TechniqueRecord>) -> Plan<Technique> {
    plan_techniques(existing, records, &HashSet::new(), Domain::Enterprise, false, at(9))
}

fn row(mitre_id: &str, source: Source) -> Technique {
    Technique::new(mitre_id.into(), Domain::Enterprise, source, at(0))
}

/// The rows after a document, from nothing.
fn synced(records: &[TechniqueRecord]) -> Vec<Technique> {
    plan(Vec::new(), records.to_vec()).write
}

#[test]
fn the_same_again_changes_nothing() {
    let records = [record(1), record(2)];
    let first = plan(Vec::new(), records.to_vec());
    assert_eq!(first.counts, Counts { created: 2, ..Counts::default() });
    assert_eq!(first.changes, [Change::New, Change::New]);
    assert!(first.write.iter().all(|t| t.version == 1 && !t.review_required));
    let second = plan(first.write, records.to_vec());
    assert!(second.is_empty());
    assert_eq!(second.counts, Counts { unchanged: 2, ..Counts::default() });
}

#[test]
fn changed_content_is_replaced_and_flagged_but_not_what_a_person_set() {
    let mut rows = synced(&[record(1)]);
    rows[0].status_override = Some(Status::Partial);
    rows[0].last_reviewed_at = Some(at(3));
    rows[0].name = "Our name".into();
    rows[0].person_set.add(PersonSet::NAME);
    let id = rows[0].id;
    let mut changed = record(1);
    changed.name = "Their name".into();
    changed.description = Some("Their text".into());
    changed.platforms = vec!["Linux".into()];
    changed.content_hash = vec![99; 32];
    let plan = plan(rows, vec![changed]);
    assert_eq!(plan.counts, Counts { updated: 1, ..Counts::default() });
    let row = &plan.write[0];
    assert_eq!((row.id, row.version, row.review_required), (id, 2, true));
    assert_eq!((row.name.as_str(), row.description.as_deref()), ("Our name", Some("Their text")));
    assert_eq!(row.platforms, ["Linux"]);
    assert_eq!((row.status_override, row.last_reviewed_at), (Some(Status::Partial), Some(at(3))));
}

#[test]
fn a_new_successor_is_kept_without_a_flag_and_a_revocation_with_one() {
    let mut revoked = record(1);
    revoked.revoked = true;
    let with_flag = plan(synced(&[record(1)]), vec![revoked.clone()]);
    assert_eq!(with_flag.counts, Counts { updated: 1, revoked: 1, ..Counts::default() });
    assert!(with_flag.write[0].revoked && with_flag.write[0].review_required);
    assert_eq!(with_flag.changes, [Change::Revoked]);
    let mut rows = with_flag.write;
    rows[0].review_required = false;
    revoked.revoked_by = Some("T1002".into());
    let without = plan(rows, vec![revoked]);
    assert_eq!(without.write[0].revoked_by.as_deref(), Some("T1002"));
    assert!(!without.write[0].review_required);
}

#[test]
fn starter_and_custom_rows_are_taken_over() {
    let starter = row("T1001", Source::Starter);
    let mut custom = row("T1002", Source::Custom);
    custom.name = "Ours".into();
    custom.person_set.add(PersonSet::NAME);
    custom.status_override = Some(Status::Validated);
    let ids = [starter.id, custom.id];
    let plan = plan(vec![starter, custom], vec![record(1), record(2)]);
    assert_eq!(plan.counts, Counts { created: 2, ..Counts::default() });
    assert_eq!(plan.write.iter().map(|t| t.id).collect::<Vec<_>>(), ids);
    assert!(plan.write.iter().all(|t| t.source == Source::MitreAttack && !t.review_required && t.version == 2));
    assert_eq!((plan.write[0].name.as_str(), plan.write[1].name.as_str()), ("Technique 1", "Ours"));
    assert_eq!(plan.write[1].status_override, Some(Status::Validated));
    assert_eq!(plan.write[1].description.as_deref(), Some("Text"));
}

#[test]
fn what_is_missing_is_marked_once_and_comes_back() {
    let both = synced(&[record(1), record(2)]);
    let gone = plan(both.clone(), vec![record(1)]);
    assert_eq!(gone.counts, Counts { unchanged: 1, vanished: 1, ..Counts::default() });
    assert!(gone.write[0].deprecated && gone.write[0].review_required);
    assert_eq!(gone.changes, [Change::Vanished]);
    let partial = plan_techniques(both.clone(), vec![record(1)], &HashSet::new(), Domain::Enterprise, true, at(9));
    assert!(partial.is_empty());
    let rows = vec![both[0].clone(), gone.write[0].clone()];
    let again = plan(rows.clone(), vec![record(1)]);
    assert!(again.is_empty() && again.counts.vanished == 0);
    let back = plan(rows, vec![record(1), record(2)]);
    assert_eq!(back.counts, Counts { unchanged: 1, updated: 1, ..Counts::default() });
    assert!(!back.write[0].deprecated);
}

#[test]
fn starter_rows_that_nobody_needs_go() {
    let (unused, tested, mut overridden) =
        (row("T1005", Source::Starter), row("T1006", Source::Starter), row("T1007", Source::Starter));
    overridden.status_override = Some(Status::Partial);
    let custom = row("T1008", Source::Custom);
    let rows = vec![unused.clone(), tested.clone(), overridden, custom];
    let plan = plan_techniques(rows, vec![record(1)], &HashSet::from([tested.id]), Domain::Enterprise, false, at(9));
    assert_eq!(plan.counts, Counts { created: 1, removed: 1, vanished: 2, ..Counts::default() });
    assert_eq!(plan.remove.iter().map(|t| (t.id, t.version)).collect::<Vec<_>>(), [(unused.id, 2)]);
    let kept: Vec<_> = plan.write[1..].iter().map(|t| (t.mitre_id.as_str(), t.deprecated)).collect();
    assert_eq!(kept, [("T1006", true), ("T1007", true)]);
}

#[test]
fn a_renumbered_technique_stays_the_same_row_unless_its_new_number_is_taken() {
    let rows = synced(&[record(1), record(2)]);
    let mut moved = record(1);
    moved.mitre_id = "T1999".into();
    let plan_free = plan(rows.clone(), vec![moved.clone(), record(2)]);
    assert_eq!((plan_free.write[0].id, plan_free.write[0].mitre_id.as_str()), (rows[0].id, "T1999"));
    // Two rows must never have one number, whatever a document says.
    let mut onto = record(1);
    onto.mitre_id = "T1002".into();
    let mut swapped = record(2);
    swapped.mitre_id = "T1001".into();
    for records in [vec![onto.clone()], vec![onto, swapped]] {
        let plan = plan(rows.clone(), records);
        let mut after: HashMap<Uuid, String> = rows.iter().map(|t| (t.id, t.mitre_id.clone())).collect();
        after.extend(plan.write.iter().map(|t| (t.id, t.mitre_id.clone())));
        let unique: HashSet<_> = after.values().collect();
        assert_eq!((after.len(), unique.len()), (2, 2));
    }
}

#[test]
fn tactics_follow_the_document() {
    let tactic = |number: i64, name: &str| TacticRecord {
        stix_id: format!("x-mitre-tactic--{number}"),
        mitre_id: format!("TA{number:04}"),
        short_name: name.to_lowercase(),
        name: name.into(),
        position: number,
        deprecated: false,
    };
    let starter = crate::domain::starter::tactics();
    let first = plan_tactics(starter, vec![tactic(5, "Evasion"), tactic(77, "New")], Domain::Enterprise, false);
    assert_eq!(first.counts, Counts { created: 2, removed: 13, ..Counts::default() });
    let second =
        plan_tactics(first.write.clone(), vec![tactic(5, "Stealth"), tactic(77, "New")], Domain::Enterprise, false);
    assert_eq!(second.counts, Counts { updated: 1, unchanged: 1, ..Counts::default() });
    assert_eq!((second.write[0].id, second.write[0].short_name.as_str()), (first.write[0].id, "stealth"));
    let third = plan_tactics(first.write, vec![tactic(77, "New")], Domain::Enterprise, false);
    assert_eq!(third.counts, Counts { unchanged: 1, vanished: 1, ..Counts::default() });
    assert!(third.write[0].deprecated);
}
