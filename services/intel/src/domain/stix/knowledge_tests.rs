//! Hand-made bundles of records and relationships.

use serde_json::{Value, json};

use super::tests::{bundle, pattern, read, with};
use super::*;
use crate::domain::knowledge::{Kind, KnowledgeRecord, LinkRecord};

fn object(stix_type: &str, number: u32, key: &str) -> Value {
    json!({
        "type": stix_type,
        "id": format!("{stix_type}--{number}"),
        "name": format!("{key} by name"),
        "external_references": [
            {"source_name": "mitre-attack", "external_id": key, "url": format!("https://example.org/{key}")},
        ],
    })
}

fn relationship(name: &str, source: &str, target: &str) -> Value {
    json!({
        "type": "relationship", "id": format!("relationship--{name}-{source}-{target}"), "relationship_type": name,
        "source_ref": source, "target_ref": target,
    })
}

/// Reads a bundle of these and one technique, `attack-pattern--1`.
fn document(mut objects: Vec<Value>) -> AttackDocument {
    objects.push(pattern(1, "T1001"));
    let document = read(&bundle(objects)).unwrap();
    assert_eq!(document.knowledge.skipped.total, 0, "skips are told in one place");
    document
}

fn clean(objects: Vec<Value>) -> Knowledge {
    let document = document(objects);
    assert_eq!(document.skipped, []);
    document.knowledge
}

pub(super) fn shown(link: &LinkRecord) -> String {
    format!("{} {} {} {} {}", link.from_kind, link.from_key, link.relation, link.to_kind, link.to_key)
}

#[test]
fn a_bare_record_has_defaults_and_an_odd_one_is_cleaned() {
    let bare = object("intrusion-set", 1, "G0001");
    let odd = json!({
        "type": "malware", "id": "malware--2", "name": " Two ", "description": " ", "revoked": null, "modified": null,
        "x_mitre_deprecated": null, "x_mitre_platforms": ["None", "macOS", "Windows", "macOS"], "aliases": null,
        "x_mitre_aliases": ["two", "Zwei", "Zwei"], "x_mitre_version": "1.2",
        "external_references": [{"source_name": "mitre-mobile-attack", "external_id": "S0002", "url": "javascript:1"}],
    });
    let knowledge = clean(vec![bare, odd]);
    let [bare, odd] = &knowledge.records[..] else { panic!("two records") };
    let mut expected = KnowledgeRecord::new(Kind::ThreatActor, "G0001", "intrusion-set--1", "G0001 by name");
    expected.url = Some("https://example.org/G0001".to_owned());
    assert_eq!(*bare, expected);
    assert_eq!((odd.kind, odd.key.as_str(), odd.name.as_str()), (Kind::Software, "S0002", "Two"));
    assert_eq!((odd.description.as_deref(), odd.url.as_deref()), (None, None));
    assert_eq!(odd.platforms, ["macos", "windows"]);
    assert_eq!(odd.aliases, ["Zwei"]);
    assert_eq!(Value::Object(odd.attributes.clone()), json!({"type": "malware", "version": "1.2"}));
}

#[test]
fn every_type_becomes_a_record_with_what_only_it_has() {
    let mut campaign = object("campaign", 1, "C0001");
    campaign["first_seen"] = json!("2019-03-01T05:00:00.000Z");
    campaign["x_mitre_first_seen_citation"] = json!("(Citation: One (2020))");
    campaign["description"] = json!("They ran <PID> (Citation: Two)");
    campaign["external_references"].as_array_mut().unwrap().extend([
        json!({"source_name": "One (2020)", "url": "https://example.org/1", "description": "First."}),
        json!({"source_name": "Two", "url": "ftp://example.org", "x": 1}),
        json!({"source_name": "Three", "description": "Not cited."}),
    ]);
    let mut analytic = object("x-mitre-analytic", 1, "AN0001");
    analytic["x_mitre_log_source_references"] = json!([
        {"x_mitre_data_component_ref": "x-mitre-data-component--1", "name": "auditd", "channel": "execve"},
        {"x_mitre_data_component_ref": "x-mitre-data-component--1", "name": "File", "channel": "None"},
    ]);
    analytic["x_mitre_mutable_elements"] = json!([{"field": "TimeWindow", "description": "How long.", "x": []}]);
    analytic["x_mitre_platforms"] = json!(["Linux"]);
    let mut asset = object("x-mitre-asset", 1, "A0001");
    asset["x_mitre_sectors"] = json!(["Energy"]);
    asset["x_mitre_related_assets"] =
        json!([{"name": "HMI", "related_asset_sectors": ["General"], "description": "A."}]);
    let source = object("x-mitre-data-source", 1, "DS0001");
    let strategy = with(
        object("x-mitre-detection-strategy", 1, "DET0001"),
        "x_mitre_analytic_refs",
        json!(["x-mitre-analytic--1", "x-mitre-analytic--1"]),
    );
    let mut component = object("x-mitre-data-component", 1, "");
    component.as_object_mut().unwrap().remove("external_references");
    component["x_mitre_data_source_ref"] = json!("x-mitre-data-source--1");
    component["x_mitre_log_sources"] = json!([{"name": "auditd", "channel": "execve"}]);
    let mitigation = with(object("course-of-action", 1, "M0001"), "labels", json!(["NIST SP 800-53 Rev. 5 - AC-3"]));
    let knowledge = clean(vec![
        strategy,
        analytic,
        component,
        source,
        campaign,
        asset,
        mitigation,
        object("tool", 1, "S0001"),
        object("identity", 1, "X0001"),
        json!({"type": "marking-definition"}),
    ]);

    let found: Vec<_> = knowledge.records.iter().map(|r| (r.kind.as_str(), r.key.as_str())).collect();
    assert_eq!(
        found,
        [
            ("detection_strategy", "DET0001"),
            ("analytic", "AN0001"),
            ("data_component", "x-mitre-data-component--1"),
            ("data_component", "DS0001"),
            ("campaign", "C0001"),
            ("asset", "A0001"),
            ("mitigation", "M0001"),
            ("software", "S0001"),
        ]
    );
    let attributes = |index: usize| Value::Object(knowledge.records[index].attributes.clone());
    assert_eq!(attributes(0), json!({}));
    assert_eq!(
        attributes(1),
        json!({
            "log_source_references": [
                {"name": "auditd", "channel": "execve", "data_component": "x-mitre-data-component--1"},
                {"name": "File", "data_component": "x-mitre-data-component--1"},
            ],
            "mutable_elements": [{"field": "TimeWindow", "description": "How long."}],
        })
    );
    assert_eq!(knowledge.records[1].platforms, ["linux"]);
    assert_eq!(attributes(2), json!({"log_sources": [{"name": "auditd", "channel": "execve"}]}));
    assert_eq!(knowledge.records[2].collection.as_deref(), Some("DS0001"));
    assert_eq!(attributes(3), json!({"type": "data_source"}));
    assert_eq!(
        attributes(4),
        json!({
            "first_seen": "2019-03-01T05:00:00.000Z",
            "first_seen_citation": "(Citation: One (2020))",
            "references": [
                {"source_name": "One (2020)", "url": "https://example.org/1", "description": "First."},
                {"source_name": "Two"},
            ],
        })
    );
    assert_eq!(
        attributes(5),
        json!({
            "sectors": ["Energy"],
            "related_assets": [{"name": "HMI", "description": "A.", "sectors": ["General"]}],
        })
    );
    assert_eq!(attributes(6), json!({"labels": ["NIST SP 800-53 Rev. 5 - AC-3"]}));
    assert_eq!(attributes(7), json!({"type": "tool"}));
    let links: Vec<_> = knowledge.links.iter().map(shown).collect();
    assert_eq!(
        links,
        [
            "detection_strategy DET0001 has analytic AN0001",
            "analytic AN0001 has data_component x-mitre-data-component--1",
        ]
    );
}

#[test]
fn relationships_become_links_whatever_the_order() {
    let (actor, tool, technique) = ("intrusion-set--1", "tool--1", "attack-pattern--1");
    let mut uses = relationship("uses", actor, technique);
    uses["description"] = json!("With <code>x</code> (Citation: A)");
    uses["external_references"] =
        json!([{"source_name": "A", "url": "https://example.org/a", "description": "About a."}, {"url": "x:y"}]);
    let knowledge = clean(vec![
        uses,
        relationship("uses", actor, tool),
        relationship("uses", tool, technique),
        relationship("uses", "campaign--1", tool),
        relationship("attributed-to", "campaign--1", actor),
        relationship("mitigates", "course-of-action--1", technique),
        relationship("detects", "x-mitre-detection-strategy--1", technique),
        relationship("detects", "x-mitre-data-component--1", technique),
        relationship("targets", technique, "x-mitre-asset--1"),
        // Said by the ids, withdrawn, or of things that are not kept.
        relationship("subtechnique-of", technique, technique),
        with(relationship("uses", "campaign--1", technique), "revoked", json!(true)),
        with(relationship("uses", "campaign--1", technique), "x_mitre_deprecated", json!(true)),
        relationship("uses", "identity--1", technique),
        relationship("uses", technique, tool),
        relationship("related-to", actor, "nothing"),
        json!({"type": "relationship"}),
        // Again, without a text.
        with(relationship("uses", actor, technique), "id", json!("relationship--9")),
        object("intrusion-set", 1, "G0001"),
        object("tool", 1, "S0001"),
        // The ends of a link may be withdrawn.
        with(object("campaign", 1, "C0001"), "revoked", json!(true)),
        with(object("course-of-action", 1, "T1001"), "x_mitre_deprecated", json!(true)),
        object("x-mitre-detection-strategy", 1, "DET0001"),
        object("x-mitre-data-component", 1, "DC0001"),
        object("x-mitre-asset", 1, "A0001"),
    ]);
    let links: Vec<_> = knowledge.links.iter().map(shown).collect();
    assert_eq!(
        links,
        [
            "threat_actor G0001 uses technique T1001",
            "threat_actor G0001 uses software S0001",
            "software S0001 uses technique T1001",
            "campaign C0001 uses software S0001",
            "campaign C0001 attributed_to threat_actor G0001",
            "mitigation T1001 mitigates technique T1001",
            "detection_strategy DET0001 detects technique T1001",
            "data_component DC0001 detects technique T1001",
            "asset A0001 targeted_by technique T1001",
        ]
    );
    assert_eq!(knowledge.links[0].description.as_deref(), Some("With <code>x</code> (Citation: A)"));
    assert_eq!(
        knowledge.links[0].references,
        [json!({"source_name": "A", "url": "https://example.org/a", "description": "About a."})]
    );
    assert!(knowledge.links[1].description.is_none() && knowledge.links[1].references.is_empty());
}

#[test]
fn an_absent_end_is_skipped_and_told() {
    let strategy = with(
        object("x-mitre-detection-strategy", 1, "DET0001"),
        "x_mitre_analytic_refs",
        json!(["x-mitre-analytic--7", "attack-pattern--1"]),
    );
    let document = document(vec![
        object("intrusion-set", 1, "G0001"),
        relationship("uses", "intrusion-set--1", "attack-pattern--77"),
        relationship("uses", "malware--77", "attack-pattern--1"),
        relationship("revoked-by", "intrusion-set--1", "intrusion-set--77"),
        with(relationship("uses", "malware--77", "attack-pattern--1"), "revoked", json!(true)),
        strategy,
        with(object("x-mitre-data-component", 1, "DC0001"), "x_mitre_data_source_ref", json!("")),
    ]);
    assert_eq!(document.knowledge.links, []);
    assert_eq!(document.knowledge.records.len(), 3);
    let told: Vec<_> = document.skipped.iter().map(|skip| format!("{}: {}", skip.id, skip.reason)).collect();
    assert_eq!((told.len(), document.skipped_total), (5, 5), "{told:?}");
    for (told, (id, part)) in told.iter().zip([
        ("DET0001", "names x-mitre-analytic--7"),
        ("DET0001", "names attack-pattern--1"),
        ("relationship--uses-intrusion-set--1-attack-pattern--77", "its end attack-pattern--77 is not in the bundle"),
        ("relationship--uses-malware--77-attack-pattern--1", "its end malware--77"),
        ("relationship--revoked-by-intrusion-set--1-intrusion-set--77", "its end intrusion-set--77"),
    ]) {
        assert!(told.starts_with(id) && told.contains(part), "{told}");
    }
}

#[test]
fn successors_are_named_by_key_and_across_software() {
    let revoked = |stix_type, number, key| with(object(stix_type, number, key), "revoked", json!(true));
    let knowledge = clean(vec![
        relationship("revoked-by", "malware--1", "tool--2"),
        relationship("revoked-by", "intrusion-set--1", "intrusion-set--2"),
        relationship("revoked-by", "intrusion-set--2", "intrusion-set--3"),
        relationship("revoked-by", "intrusion-set--3", "intrusion-set--1"),
        revoked("malware", 1, "S0001"),
        object("tool", 2, "S0002"),
        revoked("intrusion-set", 1, "G0001"),
        revoked("intrusion-set", 2, "G0002"),
        object("intrusion-set", 3, "G0003"),
        revoked("intrusion-set", 4, "G0004"),
    ]);
    let successors: Vec<_> = knowledge.records.iter().map(|r| r.revoked_by.as_deref()).collect();
    assert_eq!(successors, [Some("S0002"), None, Some("G0002"), Some("G0003"), None, None]);
    assert_eq!(knowledge.links, []);
}

#[test]
fn two_objects_with_one_key_are_one_record() {
    let at = |number, date: &str| with(object("malware", number, "S0001"), "modified", json!(date));
    let deprecated = |object| with(object, "x_mitre_deprecated", json!(true));
    let chosen = |objects: Vec<Value>| {
        let mut all = objects;
        all.push(relationship("uses", "malware--1", "attack-pattern--1"));
        all.push(relationship("uses", "malware--2", "attack-pattern--1"));
        let knowledge = clean(all);
        assert_eq!((knowledge.records.len(), knowledge.links.len()), (1, 1));
        knowledge.records[0].source_id.clone()
    };
    let (old, new) = ("2024-01-01T00:00:00.000Z", "2025-01-01T00:00:00Z");
    assert_eq!(chosen(vec![at(1, old), deprecated(at(2, new))]), "malware--1", "the active one");
    assert_eq!(chosen(vec![deprecated(at(2, new)), at(1, old)]), "malware--1", "whatever the order");
    assert_eq!(chosen(vec![at(1, old), at(2, new)]), "malware--2", "the newest");
    assert_eq!(chosen(vec![object("malware", 1, "S0001"), at(2, old)]), "malware--2", "a date before none");
    assert_eq!(chosen(vec![at(1, old), at(2, old)]), "malware--1", "the first");
    // Keys are unique in their kind only.
    let knowledge = clean(vec![object("malware", 1, "S0001"), object("course-of-action", 1, "S0001")]);
    assert_eq!(knowledge.records.len(), 2);
}

#[test]
fn unreadable_records_and_relationships_are_skipped_and_told() {
    let actor = || object("intrusion-set", 1, "G0001");
    let uses = || relationship("uses", "malware--1", "attack-pattern--1");
    let without = |mut object: Value, field: &str| {
        object.as_object_mut().unwrap().remove(field);
        object
    };
    let references = |count: usize| json!(vec![json!({"source_name": "x"}); count]);
    let uses_id = uses()["id"].as_str().unwrap().to_owned();
    let words = |count: u32| json!((0..count).map(|n| n.to_string()).collect::<Vec<_>>());
    let cases = [
        (without(actor(), "name"), "G0001", "name is missing"),
        (without(actor(), "external_references"), "intrusion-set--1", "no ATT&CK id"),
        (with(actor(), "id", json!("malware--1")), "G0001", "does not begin with `intrusion-set--`"),
        (object("intrusion-set", 1, "G 1"), "G 1", "no ATT&CK id such as G0016"),
        (with(actor(), "name", json!("x".repeat(513))), "G0001", "name is longer than 512"),
        (with(actor(), "description", json!("x".repeat(100_001))), "G0001", "description is longer than 100000"),
        (with(actor(), "description", json!("a\u{0}b")), "G0001", "description holds a NUL"),
        (with(actor(), "aliases", json!("APT")), "G0001", "aliases is not a list"),
        (with(actor(), "aliases", words(201)), "G0001", "aliases has more than 200"),
        (with(actor(), "revoked", json!("no")), "G0001", "revoked is neither"),
        (with(actor(), "first_seen", json!(2019)), "G0001", "first_seen is not a text"),
        (
            with(object("x-mitre-analytic", 1, "AN0001"), "x_mitre_log_source_references", json!(["x"])),
            "AN0001",
            "x_mitre_log_source_references holds something that is no object",
        ),
        (with(uses(), "source_ref", json!(5)), &uses_id, "source_ref is not a text"),
        (with(uses(), "source_ref", json!("")), &uses_id, "source_ref is empty"),
        (without(uses(), "target_ref"), &uses_id, "target_ref is missing"),
        (with(uses(), "revoked", json!(1)), &uses_id, "revoked is neither true nor false"),
        (with(uses(), "description", json!("x".repeat(100_001))), &uses_id, "description is longer than 100000"),
        (with(uses(), "description", json!("a\u{0}")), &uses_id, "description holds a NUL"),
        (with(uses(), "external_references", references(51)), &uses_id, "external_references has more than 50"),
        (with(uses(), "external_references", json!(["x"])), &uses_id, "external_references holds something"),
        (
            with(uses(), "external_references", json!([{"description": "x".repeat(10_001)}])),
            &uses_id,
            "description is longer than 10000",
        ),
        (with(uses(), "x", json!("x".repeat(1_100_000))), "object 1", "larger than 1048576 bytes"),
    ];
    for (bad, id, reason) in cases {
        let is_link = bad["type"] == "relationship";
        let document = document(vec![bad, object("malware", 1, "S0001")]);
        assert_eq!((document.knowledge.records.len(), document.knowledge.links.len()), (1, 0), "{reason}");
        assert_eq!(document.skipped.len(), 1, "{:?}", document.skipped);
        assert_eq!(document.skipped[0].id, id);
        assert!(document.skipped[0].reason.contains(reason), "{is_link}: {}", document.skipped[0].reason);
    }
    // As many as may be are read.
    let document = document(vec![with(uses(), "external_references", references(50)), object("malware", 1, "S0001")]);
    assert_eq!(document.knowledge.links[0].references.len(), 50);
}

#[test]
fn entries_that_take_more_memory_than_text_are_bounded() {
    let component = |number: u32| {
        let key = format!("DC{number}");
        with(object("x-mitre-data-component", number, &key), "x_mitre_log_sources", json!(vec![json!({}); 1000]))
    };
    let error = read(&bundle((0..400).map(component).collect())).unwrap_err();
    assert!(matches!(error, ParseError::TooLarge(_)), "{error}");
}
