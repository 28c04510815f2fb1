//! What the publisher's own releases say of techniques, against figures that independent scripts counted. Skipped where
//! they are absent.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use super::knowledge_tests::shown;
use super::real_data_tests::parse;
use super::*;
use crate::domain::knowledge::{Kind, KnowledgeRecord};

/// What is linked with a technique in one way, of records and techniques that are active.
struct Active<'d> {
    knowledge: &'d Knowledge,
    records: HashMap<(&'d str, &'d str), &'d KnowledgeRecord>,
    techniques: HashSet<&'d str>,
}

impl<'d> Active<'d> {
    fn of(document: &'d AttackDocument) -> Self {
        let records = document.knowledge.records.iter().filter(|r| !r.revoked && !r.deprecated);
        Active {
            knowledge: &document.knowledge,
            records: records.map(|r| ((r.kind.as_str(), r.key.as_str()), r)).collect(),
            techniques: document.techniques.iter().filter(|t| t.is_active()).map(|t| t.mitre_id.as_str()).collect(),
        }
    }

    /// Pairs of the record's key and the technique's id.
    fn pairs(&self, kind: Kind, relation: &str) -> Vec<(&'d str, &'d str)> {
        let links = self.knowledge.links.iter().filter(|l| l.from_kind == kind.as_str() && l.relation == relation);
        links
            .filter(|l| l.to_kind == "technique" && self.techniques.contains(l.to_key.as_str()))
            .filter(|l| self.records.contains_key(&(l.from_kind, l.from_key.as_str())))
            .map(|l| (l.from_key.as_str(), l.to_key.as_str()))
            .collect()
    }
}

/// Total and active records of each kind.
type RecordCounts<'d> = BTreeMap<&'d str, (usize, usize)>;

/// Records, and links by kinds and relation.
fn counts(document: &AttackDocument) -> (RecordCounts<'_>, BTreeMap<String, usize>) {
    let mut records = RecordCounts::new();
    let mut keys = HashSet::new();
    for record in &document.knowledge.records {
        let count = records.entry(record.kind.as_str()).or_default();
        count.0 += 1;
        count.1 += usize::from(!record.revoked && !record.deprecated);
        assert!(keys.insert((record.kind.as_str(), record.key.as_str())), "{record:?}");
        assert!(!record.aliases.contains(&record.name) && !record.platforms.iter().any(|p| p == "none"), "{record:?}");
        assert!(record.revoked || record.revoked_by.is_none());
    }
    let ids: HashSet<&str> = document.techniques.iter().map(|t| t.mitre_id.as_str()).collect();
    let mut links: BTreeMap<String, usize> = BTreeMap::new();
    let mut seen = HashSet::new();
    for link in &document.knowledge.links {
        *links.entry(format!("{} {} {}", link.from_kind, link.relation, link.to_kind)).or_default() += 1;
        assert!(seen.insert(shown(link)), "{link:?}");
        assert!(keys.contains(&(link.from_kind, link.from_key.as_str())), "{link:?}");
        let known = keys.contains(&(link.to_kind, link.to_key.as_str())) || ids.contains(link.to_key.as_str());
        assert!(known, "{link:?}");
    }
    (records, links)
}

fn check(release: &str, records: &[(&str, (usize, usize))], links: &[(&str, usize)]) -> Option<AttackDocument> {
    let document = parse(release)?;
    let (found_records, found_links) = counts(&document);
    assert_eq!(found_records, records.iter().copied().collect(), "{release}");
    assert_eq!(found_links, links.iter().map(|(name, count)| ((*name).to_owned(), *count)).collect(), "{release}");
    Some(document)
}

/// Pairs of a group and a technique, groups with one, techniques used.
fn groups_use(document: &AttackDocument) -> (usize, usize, usize) {
    let pairs = Active::of(document).pairs(Kind::ThreatActor, "uses");
    let groups: BTreeSet<_> = pairs.iter().map(|(group, _)| group).collect();
    let used: BTreeSet<_> = pairs.iter().map(|(_, technique)| technique).collect();
    (pairs.len(), groups.len(), used.len())
}

#[test]
fn enterprise_18_1_and_the_golden_rows() {
    let Some(document) = check(
        "enterprise-attack-18.1",
        &[
            ("threat_actor", (187, 172)),
            ("software", (787, 784)),
            ("campaign", (52, 52)),
            ("mitigation", (268, 44)),
            ("detection_strategy", (691, 691)),
            ("analytic", (1739, 1739)),
            ("data_component", (147, 106)),
        ],
        &[
            ("threat_actor uses technique", 4362),
            ("threat_actor uses software", 647 + 457),
            ("software uses technique", 9836 + 800),
            ("campaign uses technique", 1019),
            ("campaign uses software", 84 + 65),
            ("campaign attributed_to threat_actor", 25),
            ("mitigation mitigates technique", 1445),
            ("detection_strategy detects technique", 691),
            ("detection_strategy has analytic", 1739),
            ("analytic has data_component", 4124),
        ],
    ) else {
        return;
    };
    assert_eq!(groups_use(&document), (4362, 168, 488));
    let active = Active::of(&document);
    let count = |kind, relation, id: &str| active.pairs(kind, relation).iter().filter(|(_, t)| *t == id).count();
    for (id, golden) in [
        ("T1003.001", [42, 26, 7, 1]),
        ("T1059", [17, 22, 9, 1]),
        ("T1059.001", [83, 124, 5, 1]),
        ("T1078", [44, 6, 8, 1]),
        ("T1562.001", [30, 71, 5, 1]),
        ("T1112", [29, 136, 1, 1]),
        ("T1566.001", [77, 55, 7, 1]),
        ("T1190", [42, 8, 8, 1]),
    ] {
        let found = [
            count(Kind::ThreatActor, "uses", id),
            count(Kind::Software, "uses", id),
            count(Kind::Mitigation, "mitigates", id),
            count(Kind::DetectionStrategy, "detects", id),
        ];
        assert_eq!(found, golden, "{id}");
    }
    let find =
        |kind: Kind, key: &str| document.knowledge.records.iter().find(|r| r.kind == kind && r.key == key).unwrap();
    let successors: BTreeSet<_> =
        document.knowledge.records.iter().filter_map(|r| Some((r.key.as_str(), r.revoked_by.as_deref()?))).collect();
    assert_eq!(
        successors,
        BTreeSet::from([
            ("G0042", "G0040"),
            ("G0057", "G0049"),
            ("G0058", "G0059"),
            ("G0074", "G0035"),
            ("G0086", "G0094"),
            ("G0118", "G0016"),
            ("S0209", "S0012"),
            ("S9000", "S0508"),
        ])
    );
    // 224 deprecated mitigations have ids like techniques'.
    let odd = document.knowledge.records.iter().filter(|r| r.kind == Kind::Mitigation && r.key.starts_with('T'));
    assert_eq!(odd.filter(|r| r.deprecated).count(), 224);
    let apt29 = find(Kind::ThreatActor, "G0016");
    assert!(apt29.aliases.iter().any(|alias| alias == "Cozy Bear") && !apt29.aliases.contains(&apt29.name));
    assert_eq!(apt29.url.as_deref(), Some("https://attack.mitre.org/groups/G0016"));
    assert!(apt29.attributes["references"].as_array().unwrap().len() > 3);
    assert_eq!(find(Kind::Software, "S0002").attributes["type"], "tool");
    assert!(find(Kind::Campaign, "C0024").attributes["first_seen"].as_str().unwrap().starts_with("2019-08"));
    let analytic = find(Kind::Analytic, "AN0110");
    assert_eq!(analytic.platforms, ["linux"]);
    let components: Vec<_> = analytic.attributes["log_source_references"].as_array().unwrap().iter().collect();
    assert!(components.iter().all(|source| source["data_component"].as_str().unwrap().starts_with("DC")));
    let link = document.knowledge.links.iter().find(|l| l.from_key == "G0016" && l.to_key == "T1059.001").unwrap();
    assert!(link.description.as_deref().unwrap().contains("(Citation: ") && !link.references.is_empty());
}

#[test]
fn enterprise_17_1() {
    let document = check(
        "enterprise-attack-17.1",
        &[
            ("threat_actor", (181, 166)),
            ("software", (758, 755)),
            ("campaign", (47, 47)),
            ("mitigation", (268, 44)),
            ("data_component", (147, 143)),
        ],
        &[
            ("threat_actor uses technique", 4046),
            ("threat_actor uses software", 614 + 438),
            ("software uses technique", 9303 + 798),
            ("campaign uses technique", 902),
            ("campaign uses software", 82 + 58),
            ("campaign attributed_to threat_actor", 23),
            ("mitigation mitigates technique", 1421),
            ("data_component detects technique", 2116),
        ],
    );
    let Some(document) = document else { return };
    assert_eq!(groups_use(&document), (4046, 162, 458));
    let of_sources = document.knowledge.records.iter().filter(|r| r.collection.is_some());
    assert_eq!(of_sources.filter(|r| r.kind == Kind::DataComponent).count(), 109);
}

#[test]
fn ics_18_1() {
    let document = check(
        "ics-attack-18.1",
        &[
            ("threat_actor", (16, 14)),
            ("software", (30, 23)),
            ("campaign", (8, 7)),
            ("mitigation", (52, 52)),
            ("detection_strategy", (83, 83)),
            ("analytic", (82, 82)),
            ("data_component", (53, 36)),
            ("asset", (18, 18)),
        ],
        &[
            ("threat_actor uses technique", 20),
            ("threat_actor uses software", 16),
            ("software uses technique", 163),
            ("campaign uses technique", 63),
            ("campaign uses software", 5),
            ("campaign attributed_to threat_actor", 5),
            ("mitigation mitigates technique", 331),
            ("detection_strategy detects technique", 83),
            ("detection_strategy has analytic", 82),
            ("analytic has data_component", 236),
            ("asset targeted_by technique", 685),
        ],
    );
    let Some(document) = document else { return };
    assert_eq!(groups_use(&document), (20, 7, 10));
    // The publisher writes "None" where an analytic has no platform.
    let analytics = document.knowledge.records.iter().filter(|r| r.kind == Kind::Analytic);
    assert!(analytics.into_iter().all(|r| r.platforms.is_empty()));
}

#[test]
fn mobile_17_1() {
    let document = check(
        "mobile-attack-17.1",
        &[
            ("threat_actor", (15, 15)),
            ("software", (119, 118)),
            ("campaign", (3, 3)),
            ("mitigation", (15, 13)),
            ("data_component", (23, 23)),
        ],
        &[
            ("threat_actor uses technique", 29),
            ("threat_actor uses software", 13),
            ("software uses technique", 1228 + 22),
            ("campaign uses technique", 44),
            ("campaign uses software", 2),
            ("campaign attributed_to threat_actor", 1),
            ("mitigation mitigates technique", 163),
            ("data_component detects technique", 168),
        ],
    );
    let Some(document) = document else { return };
    assert_eq!(groups_use(&document), (29, 10, 22));
}
