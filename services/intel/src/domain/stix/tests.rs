//! Hand-made bundles, one for each way a record can be odd or bad.

use serde_json::{Value, json};

use super::*;

pub(super) fn read(bytes: &[u8]) -> Result<AttackDocument, ParseError> {
    parse_attack(bytes, &mut |_| {})
}

pub(super) fn bundle(objects: Vec<Value>) -> Vec<u8> {
    json!({"type": "bundle", "id": "bundle--1", "objects": objects}).to_string().into_bytes()
}

pub(super) fn pattern(number: u32, mitre_id: &str) -> Value {
    json!({
        "type": "attack-pattern",
        "id": format!("attack-pattern--{number}"),
        "name": format!("Technique {number}"),
        "external_references": [
            {"source_name": "a blog", "url": "https://example.org/"},
            {"source_name": "mitre-attack", "external_id": mitre_id, "url": "https://example.org/t"},
        ],
        "kill_chain_phases": [{"kill_chain_name": "mitre-attack", "phase_name": "execution"}],
        "x_mitre_domains": ["enterprise-attack"],
    })
}

pub(super) fn with(mut object: Value, field: &str, value: Value) -> Value {
    object[field] = value;
    object
}

fn without(mut object: Value, field: &str) -> Value {
    object.as_object_mut().unwrap().remove(field);
    object
}

fn revoked_by(source: u32, target: u32) -> Value {
    json!({
        "type": "relationship", "id": format!("relationship--{source}-{target}"), "relationship_type": "revoked-by",
        "source_ref": format!("attack-pattern--{source}"), "target_ref": format!("attack-pattern--{target}"),
    })
}

/// Reads a bundle of one good technique and `objects`, and gives the reasons for what was skipped.
fn reasons(objects: Vec<Value>) -> Vec<(String, String)> {
    let mut all = vec![pattern(1, "T1001")];
    all.extend(objects);
    let document = read(&bundle(all)).unwrap();
    assert_eq!(document.techniques.len(), 1, "only the good one is kept");
    assert_eq!(document.skipped_total, document.skipped.len() as u64);
    document.skipped.into_iter().map(|skipped| (skipped.id, skipped.reason)).collect()
}

#[test]
fn absent_and_null_fields_are_defaults() {
    let mut bare = pattern(1, "T1001");
    for field in ["kill_chain_phases", "x_mitre_domains"] {
        bare = without(bare, field);
    }
    let nulls = json!({
        "type": "attack-pattern", "id": "attack-pattern--2", "name": " Two ", "description": "  ", "revoked": null,
        "x_mitre_deprecated": null, "x_mitre_platforms": null, "kill_chain_phases": null, "x_mitre_version": null,
        "external_references": [{"source_name": "mitre-attack", "external_id": "T1002.001", "url": "javascript:alert(1)"}],
        "x_mitre_domains": ["enterprise-attack"],
    });
    let document = read(&bundle(vec![bare, nulls])).unwrap();
    assert_eq!(document.skipped, []);
    assert_eq!(document.upstream_version, None);
    let [one, two] = &document.techniques[..] else { panic!("two techniques") };
    assert!(one.is_active() && one.tactics.is_empty() && one.platforms.is_empty() && one.description.is_none());
    assert_eq!(one.url.as_deref(), Some("https://example.org/t"));
    assert_eq!((two.name.as_str(), two.description.as_deref(), two.url.as_deref()), ("Two", None, None));
    assert!(two.is_subtechnique);
    assert_eq!(two.parent_mitre_id.as_deref(), Some("T1002"));
}

#[test]
fn platforms_and_phases_are_cleaned() {
    let mut technique = with(pattern(1, "T1001"), "x_mitre_platforms", json!(["None", " Windows ", "Windows", "IaaS"]));
    technique["kill_chain_phases"] = json!([
        {"kill_chain_name": "lockheed", "phase_name": "delivery"},
        {"kill_chain_name": "mitre-attack", "phase_name": "Persistence"},
        {"kill_chain_name": "mitre-mobile-attack", "phase_name": "impact"},
        {"kill_chain_name": "mitre-attack", "phase_name": "execution"},
        {"kill_chain_name": "mitre-attack", "phase_name": "persistence"},
    ]);
    let document = read(&bundle(vec![technique])).unwrap();
    assert_eq!(document.techniques[0].platforms, ["Windows", "IaaS"]);
    assert_eq!(document.techniques[0].tactics, ["persistence", "execution"]);
}

#[test]
fn markdown_and_angle_brackets_stay_as_published() {
    let text = "Run <code>kill <PID></code> (Citation: A) \u{202e}x\u{200b}";
    let document = read(&bundle(vec![with(pattern(1, "T1001"), "description", json!(text))])).unwrap();
    assert_eq!(document.techniques[0].description.as_deref(), Some(text));
}

#[test]
fn mitigations_with_technique_ids_are_no_techniques() {
    let mitigation = with(pattern(2, "T1001"), "type", json!("course-of-action"));
    let mitigation = with(mitigation, "id", json!("course-of-action--2"));
    let document = read(&bundle(vec![mitigation, pattern(1, "T1001")])).unwrap();
    assert_eq!((document.techniques.len(), document.objects_total, document.skipped_total), (1, 2, 0));
}

#[test]
fn the_direct_successor_is_named_whatever_the_order() {
    let revoked = |number, id| with(pattern(number, id), "revoked", json!(true));
    let document = read(&bundle(vec![
        revoked_by(1, 2),
        revoked(1, "T1001"),
        revoked_by(2, 3),
        with(pattern(3, "T1003"), "x_mitre_deprecated", json!(true)),
        revoked(2, "T1002"),
        revoked(4, "T1004"),
        revoked_by(5, 99),
        revoked(5, "T1005"),
        // Of a technique that is not revoked any more, and one that is withdrawn itself.
        revoked_by(6, 3),
        pattern(6, "T1006"),
        revoked(7, "T1007"),
        with(revoked_by(7, 3), "revoked", json!(true)),
        with(with(revoked_by(8, 3), "type", json!("relationship")), "relationship_type", json!("uses")),
    ]))
    .unwrap();
    let successors: Vec<_> =
        document.techniques.iter().map(|t| (t.mitre_id.as_str(), t.revoked_by.as_deref())).collect();
    assert_eq!(
        successors,
        [
            ("T1001", Some("T1002")),
            ("T1003", None),
            ("T1002", Some("T1003")),
            ("T1004", None),
            ("T1005", None),
            ("T1006", None),
            ("T1007", None),
        ]
    );
    assert_eq!(document.revoked_by_total, 5);
}

#[test]
fn unreadable_records_are_skipped_and_told() {
    let long = |count: usize| json!("x".repeat(count));
    let cases = [
        (without(pattern(2, "T1002"), "id"), "T1002", "id is missing"),
        (with(pattern(2, "T1002"), "id", json!("malware--2")), "T1002", "does not begin with `attack-pattern--`"),
        (with(pattern(2, "T1002"), "external_references", json!([])), "attack-pattern--2", "no ATT&CK id"),
        (without(pattern(2, "T1002"), "external_references"), "attack-pattern--2", "no ATT&CK id"),
        (pattern(2, "T100"), "T100", "no technique id"),
        (pattern(2, "T1002.1"), "T1002.1", "no technique id"),
        (pattern(2, "T1002.001.001"), "T1002.001.001", "no technique id"),
        (pattern(2, "t1002"), "t1002", "no technique id"),
        (without(pattern(2, "T1002"), "name"), "T1002", "name is missing"),
        (with(pattern(2, "T1002"), "name", json!(7)), "T1002", "name is not a text"),
        (with(pattern(2, "T1002"), "name", long(513)), "T1002", "name is longer than 512"),
        (with(pattern(2, "T1002"), "name", json!("a\u{0}b")), "T1002", "NUL"),
        (with(pattern(2, "T1002"), "description", long(100_001)), "T1002", "description is longer than 100000"),
        (with(pattern(2, "T1002"), "description", long(1_100_000)), "object 2", "larger than 1048576 bytes"),
        (with(pattern(2, "T1002"), "revoked", json!("true")), "T1002", "revoked is neither true nor false"),
        (with(pattern(2, "T1002"), "x_mitre_platforms", json!("Windows")), "T1002", "x_mitre_platforms is not a list"),
        (with(pattern(2, "T1002"), "x_mitre_platforms", json!([1])), "T1002", "not a text"),
        (with(pattern(2, "T1002"), "x_mitre_platforms", json!(vec!["x"; 65])), "T1002", "more than 64"),
        (with(pattern(2, "T1002"), "kill_chain_phases", json!({})), "T1002", "kill_chain_phases is not a list"),
        (
            with(pattern(2, "T1002"), "x_mitre_domains", json!(["mobile-attack"])),
            "T1002",
            "not of the enterprise domain",
        ),
        (with(pattern(1, "T1002"), "name", json!("again")), "T1002", "attack-pattern--1 twice"),
        (pattern(2, "T1001"), "T1001", "another active technique has this id"),
        (with(pattern(2, "T1001"), "revoked", json!(true)), "T1001", "another technique has this id"),
        (without(revoked_by(1, 2), "target_ref"), "relationship--1-2", "target_ref is missing"),
        (json!({"type": 5}), "object 2", "no `type`"),
        (json!(17), "object 2", "no STIX object"),
        (json!(null), "object 2", "no STIX object"),
    ];
    for (object, id, reason) in cases {
        let told = reasons(vec![object.clone()]);
        assert_eq!(told.len(), 1, "{object} gives {told:?}");
        assert_eq!(told[0].0, id, "{object}");
        assert!(told[0].1.contains(reason), "{}", told[0].1);
    }
    let tactics = (0..33).map(|n| json!({"kill_chain_name": "mitre-attack", "phase_name": format!("p{n}")}));
    let many = with(pattern(2, "T1002"), "kill_chain_phases", tactics.collect());
    assert!(reasons(vec![many])[0].1.contains("more than 32 tactics"));
}

#[test]
fn nesting_without_end_skips_one_record() {
    let deep = format!(
        r#"{{"type":"attack-pattern","id":"attack-pattern--2","x":{}{}}}"#,
        "[".repeat(100_000),
        "]".repeat(100_000)
    );
    let text = format!(
        r#"{{"type":"bundle","deep":{0}{1},"objects":[{deep},{2}]}}"#,
        "[".repeat(9000),
        "]".repeat(9000),
        pattern(1, "T1001")
    );
    let document = read(text.as_bytes()).unwrap();
    assert_eq!((document.techniques.len(), document.skipped_total), (1, 1));
    assert!(document.skipped[0].reason.contains("recursion limit"), "{}", document.skipped[0].reason);
}

#[test]
fn the_first_hundred_skipped_are_kept_and_all_counted() {
    let mut objects: Vec<Value> = (0..250).map(|_| json!({"type": "attack-pattern"})).collect();
    objects.push(pattern(1, "T1001"));
    let document = read(&bundle(objects)).unwrap();
    assert_eq!((document.skipped.len(), document.skipped_total, document.objects_total), (100, 250, 251));
}

#[test]
fn the_domain_is_told_by_collection_then_domains_then_kill_chain() {
    let collection = json!({"type": "x-mitre-collection", "name": "ICS ATT&CK", "x_mitre_version": "18.1"});
    let bare = |chain: &str| {
        let technique = without(pattern(1, "T0801"), "x_mitre_domains");
        with(technique, "kill_chain_phases", json!([{"kill_chain_name": chain, "phase_name": "evasion"}]))
    };
    let document = read(&bundle(vec![bare("mitre-ics-attack"), collection])).unwrap();
    assert_eq!((document.domain, document.upstream_version.as_deref()), (Domain::Ics, Some("18.1")));
    assert_eq!(document.techniques[0].tactics, ["evasion"]);
    let domains = with(bare("mitre-attack"), "x_mitre_domains", json!(["mobile-attack", "enterprise-attack"]));
    let mobile = with(pattern(2, "T1002"), "x_mitre_domains", json!(["mobile-attack"]));
    assert_eq!(read(&bundle(vec![domains, mobile])).unwrap().domain, Domain::Mobile);
    assert_eq!(read(&bundle(vec![bare("mitre-mobile-attack")])).unwrap().domain, Domain::Mobile);
    assert!(matches!(read(&bundle(vec![bare("lockheed")])), Err(ParseError::UnknownDomain)));
}

#[test]
fn tactics_are_in_matrix_order_and_data() {
    let tactic = |number: u32, id: &str, short: &str| {
        json!({
            "type": "x-mitre-tactic", "id": format!("x-mitre-tactic--{number}"), "name": short, "x_mitre_shortname": short,
            "external_references": [{"source_name": "mitre-attack", "external_id": id}],
        })
    };
    let document = read(&bundle(vec![
        pattern(1, "T1001"),
        tactic(1, "TA0001", "initial-access"),
        tactic(9, "TA0009", "loose"),
        tactic(3, "TA0003", "stealth"),
        with(tactic(4, "TA0004", "old"), "x_mitre_deprecated", json!(true)),
        tactic(5, "TA5", "bad"),
        tactic(6, "TA0006", "stealth"),
        json!({"type": "x-mitre-matrix", "x_mitre_deprecated": true, "tactic_refs": ["x-mitre-tactic--4"]}),
        json!({"type": "x-mitre-matrix", "tactic_refs": ["x-mitre-tactic--3", "x-mitre-tactic--77", "x-mitre-tactic--1"]}),
    ]))
    .unwrap();
    let order: Vec<_> = document.tactics.iter().map(|t| (t.position, t.short_name.as_str(), t.deprecated)).collect();
    assert_eq!(order, [(0, "stealth", false), (1, "initial-access", false), (2, "old", true), (3, "loose", false)]);
    assert_eq!(document.skipped_total, 2);
}

#[test]
fn the_hash_follows_the_content_and_not_the_date() {
    let hash = |object: Value| read(&bundle(vec![object])).unwrap().techniques[0].content_hash;
    let one = hash(with(pattern(1, "T1001"), "modified", json!("2024-01-01T00:00:00Z")));
    assert_eq!(one, hash(with(pattern(1, "T1001"), "modified", json!("2025-01-01T00:00:00Z"))));
    assert_eq!(one, hash(pattern(1, "T1001")));
    assert_ne!(one, hash(with(pattern(1, "T1001"), "x_mitre_contributors", json!(["someone"]))));
}

#[test]
fn a_type_may_come_late_and_escaped() {
    let object = pattern(1, "T1001").to_string().replace(r#""type":"attack"#, r#""\u0074ype":"\u0061ttack"#);
    assert!(object.starts_with(r#"{"external_references"#) && object.contains(r"\u0074ype"));
    let text = format!(r#"{{"objects":[{object}],"spec_version":"2.1","type":"bundle"}}"#);
    let document = read(text.as_bytes()).unwrap();
    assert_eq!(document.techniques[0].mitre_id, "T1001");
}
