//! Actors of two publishers meet.

use super::*;
use crate::domain::knowledge::THREAT_ACTOR;

fn now() -> DateTime<Utc> {
    DateTime::from_timestamp(1_700_000_000, 0).unwrap()
}

fn statement(origin: &str, source: &str, key: &str, name: &str, aliases: &[&str]) -> Statement {
    let record = Record {
        kind: THREAT_ACTOR,
        key: key.into(),
        name: name.into(),
        aliases: aliases.iter().map(|alias| (*alias).to_owned()).collect(),
        ..Record::default()
    };
    let domain = origin.strip_prefix("mitre_attack_").map(str::to_owned);
    Statement { origin: origin.into(), key: key.into(), said: Said { source: source.into(), domain, record } }
}

fn group(key: &str, name: &str, aliases: &[&str]) -> Statement {
    statement("mitre_attack_enterprise", MITRE_ATTACK, key, name, aliases)
}

fn misp(key: &str, name: &str, aliases: &[&str]) -> Statement {
    let mut statement = statement("misp_threat_actors", "misp_threat_actors", key, name, aliases);
    statement.said.record.country = Some("RU".into());
    statement.said.record.attributes.insert("victims".into(), "all".into());
    statement
}

/// What is shown, by key: its successor where it is merged, its aliases where it is a group.
fn shows(rows: &[Row]) -> BTreeMap<String, (Option<String>, Vec<String>)> {
    let row = |row: &Row| {
        assert_eq!(row.record.deprecated, row.record.revoked_by.is_some());
        (row.record.key.clone(), (row.record.revoked_by.clone(), row.record.aliases.clone()))
    };
    rows.iter().map(row).collect()
}

/// Who is merged into whom, and the same whatever comes first.
fn merged(statements: &[Statement]) -> Vec<(String, String)> {
    let at_once = recompute(Vec::new(), statements, now());
    let mut reversed = statements.to_vec();
    reversed.reverse();
    for order in [statements.to_vec(), reversed] {
        let mut rows: Vec<Row> = Vec::new();
        for length in 1..=order.len() {
            for row in recompute(rows.clone(), &order[..length], now()) {
                rows.retain(|old| old.id != row.id);
                rows.push(row);
            }
        }
        assert_eq!(shows(&rows), shows(&at_once), "the order does not matter");
        assert!(recompute(rows, statements, now()).is_empty(), "the same again changes nothing");
    }
    shows(&at_once).into_iter().filter_map(|(key, (group, _))| Some((key, group?))).collect()
}

fn pair(other: &str, group: &str) -> (String, String) {
    (other.to_owned(), group.to_owned())
}

#[test]
fn a_name_or_an_alias_makes_two_actors_one() {
    let statements = [
        group("G0016", "APT29", &["Cozy Bear", "The Dukes"]),
        misp("misp:1", "apt-29", &["COZY BEAR", "Yttrium"]),
        group("G0007", "APT28", &["Fancy Bear"]),
        misp("misp:2", "Sofacy", &["FancyBear"]),
        misp("misp:3", "Nobody Else", &[]),
    ];
    assert_eq!(merged(&statements), [pair("misp:1", "G0016"), pair("misp:2", "G0007")]);
    let rows = recompute(Vec::new(), &statements, now());
    let apt29 = rows.iter().find(|row| row.record.key == "G0016").unwrap();
    assert_eq!((apt29.source.as_str(), apt29.record.name.as_str()), (MITRE_ATTACK, "APT29"));
    assert_eq!(apt29.record.aliases, ["Cozy Bear", "The Dukes", "Yttrium"]);
    assert_eq!(apt29.record.country.as_deref(), Some("RU"));
    let theirs = serde_json::json!({ "key": "misp:1", "name": "apt-29", "victims": "all" });
    assert_eq!(apt29.record.attributes["misp"], theirs);
}

#[test]
fn a_name_that_several_claim_says_nothing() {
    // Two actors of MISP, or two groups, with one alias.
    let shared = [group("G1", "Alpha", &["Bear"]), misp("misp:1", "A", &["Bear"]), misp("misp:2", "B", &["bear"])];
    assert_eq!(merged(&shared), []);
    let shared = [group("G1", "Alpha", &["Bear"]), group("G2", "Beta", &["Bear"]), misp("misp:1", "A", &["Bear"])];
    assert_eq!(merged(&shared), []);
    // Another name of one of them is its own.
    let own = [group("G1", "Alpha", &["Bear"]), misp("misp:1", "ALPHA", &["Bear"]), misp("misp:2", "B", &["Bear"])];
    assert_eq!(merged(&own), [pair("misp:1", "G1")]);
}

#[test]
fn names_that_lead_to_several_actors_merge_none() {
    let two_groups = [group("G1", "Alpha", &[]), group("G2", "Beta", &[]), misp("misp:1", "Alpha", &["Beta"])];
    assert_eq!(merged(&two_groups), []);
    let two_others = [group("G1", "Alpha", &["Beta"]), misp("misp:1", "Alpha", &[]), misp("misp:2", "Beta", &[])];
    assert_eq!(merged(&two_others), []);
}

#[test]
fn a_revoked_group_takes_nobody_in() {
    let mut old = group("G1", "Alpha", &[]);
    old.said.record.revoked = true;
    assert_eq!(merged(&[old, group("G2", "Beta", &["Alpha"]), misp("misp:1", "Alpha", &[])]), [pair("misp:1", "G2")]);
}

#[test]
fn a_merge_ends_with_the_group() {
    let both = [group("G1", "Alpha", &[]), misp("misp:1", "Alpha", &[])];
    let rows = recompute(Vec::new(), &both, now());
    let after = recompute(rows, &both[1..], now());
    let of = |key: &str| after.iter().find(|row| row.record.key == key).unwrap();
    assert_eq!((of("G1").record.deprecated, of("G1").version), (true, 2));
    let own = of("misp:1");
    assert_eq!((own.record.deprecated, own.record.revoked_by.as_deref(), own.version), (false, None, 2));
}

#[test]
fn of_two_domains_the_first_is_shown() {
    let mut mobile = group("G1", "Alpha of mobile", &[]);
    (mobile.origin, mobile.said.domain) = ("mitre_attack_mobile".into(), Some("mobile".into()));
    let enterprise = group("G1", "Alpha", &[]);
    for order in [[mobile.clone(), enterprise.clone()], [enterprise, mobile]] {
        assert_eq!(recompute(Vec::new(), &order, now())[0].record.name, "Alpha");
    }
}
