use serde_json::{Value, json};

use super::*;
use crate::domain::testing;

fn mapping(framework: &str, version: &str, attack: &str, rows: &Value) -> Value {
    json!({"metadata": {"mapping_framework": framework, "mapping_framework_version": version, "attack_version": attack,
        "technology_domain": "enterprise", "creation_date": "01/13/2022", "last_update": "04/16/2025",
        "capability_groups": {"AC": "Access Control"}}, "mapping_objects": rows})
}

fn row(control: Option<&str>, technique: Option<&str>) -> Value {
    json!({"capability_id": control, "capability_description": control.map(|_| "Account Management"),
        "capability_group": "AC", "mapping_type": "mitigates", "attack_object_id": technique, "references": [], "status": "complete"})
}

fn path(framework: &str, version: &str, attack: &str) -> String {
    format!(
        "mappings-explorer-main/mappings/{framework}/attack-{attack}/{framework}-{version}/enterprise/{framework}-{version}_attack-{attack}-enterprise.json"
    )
}

fn file(path: &str, value: &Value) -> (String, Vec<u8>) {
    (path.to_owned(), value.to_string().into_bytes())
}

fn read(framework: Framework, files: &[(String, Vec<u8>)]) -> Knowledge {
    testing::read(Box::new(CtidReader::new(framework)), files)
}

fn keys(knowledge: &Knowledge) -> Vec<&str> {
    knowledge.records.iter().map(|record| record.key.as_str()).collect()
}

#[test]
fn null_ids_mobile_techniques_and_one_form_of_ids() {
    let mut said = row(Some("ac-2"), Some("t1059.001"));
    said["comments"] = json!(" Because. ");
    said["references"] = json!(["https://example.org", "javascript:x"]);
    let rows = json!([
        row(Some("AC-02"), Some("T1059")),
        row(Some("AC-2"), Some("T1059")),
        row(Some("AC-02"), Some("T1059.001")),
        said,
        // SSL Pinning, a Mobile technique in an Enterprise file.
        row(Some("AC-17.8"), Some("T1521.003")),
        row(None, Some("T1496.002")),
        row(Some("AC-3"), None),
        row(None, None),
        row(Some("Chapter 3"), Some("T1059")),
        row(Some("AC-4"), Some("TA0001")),
        7,
    ]);
    let knowledge = read(
        Framework::Nist80053,
        &[file(&path("nist_800_53", "rev5", "16.1"), &mapping("nist_800_53", "rev5", "16.1", &rows))],
    );
    assert_eq!(
        keys(&knowledge),
        ["nist_800_53", "nist_800_53:AC-17(8)", "nist_800_53:AC-2", "nist_800_53:AC-3", "nist_800_53:AC-4"]
    );
    let framework = &knowledge.records[0];
    assert_eq!((framework.kind, framework.name.as_str()), (Kind::Framework, "NIST SP 800-53"));
    assert_eq!(
        Value::Object(framework.attributes.clone()),
        json!({
        "source": "CTID Mappings Explorer", "version": "rev5", "attack_version": "16.1",
        "mapping_created": "2022-01-13", "mapping_updated": "2025-04-16"})
    );
    let enhancement = &knowledge.records[1];
    assert_eq!((enhancement.collection.as_deref(), enhancement.source_id.as_str()), (Some("nist_800_53"), "AC-17(8)"));
    assert_eq!(
        Value::Object(enhancement.attributes.clone()),
        json!({"family": "AC", "family_name": "Access Control", "parent": "AC-17"})
    );

    let links: Vec<_> = knowledge
        .links
        .iter()
        .map(|link| (link.from_key.as_str(), link.relation, link.to_key.as_str(), link.references.len()))
        .collect();
    assert_eq!(
        links,
        [
            ("nist_800_53:AC-17(8)", "maps_to", "T1521.003", 1),
            ("nist_800_53:AC-2", "maps_to", "T1059", 1),
            ("nist_800_53:AC-2", "maps_to", "T1059.001", 2),
        ]
    );
    assert_eq!(
        knowledge.links[2].references[1],
        json!({"mapping_type": "mitigates", "comments": "Because.", "urls": ["https://example.org"]})
    );
    let skipped: Vec<_> = knowledge.skipped.first.iter().map(|skip| (skip.id.as_str(), skip.reason.as_str())).collect();
    assert_eq!(
        skipped,
        [
            ("T1496.002", "maps to nothing"),
            ("AC-3", "maps to nothing"),
            ("mapping 8", "maps to nothing"),
            ("Chapter 3", "is no control id of the framework"),
            ("AC-4", "maps to TA0001, which is no technique id"),
            ("mapping 11", "maps to nothing"),
        ]
    );
}

#[test]
fn the_newest_mapping_is_read_whatever_the_order() {
    let of = |version: &str, attack: &str, control: &str| {
        file(
            &path("aws", version, attack),
            &mapping("aws", version, attack, &json!([row(Some(control), Some("T1059"))])),
        )
    };
    let newest = of("12.12.2024", "16.1", "newest");
    let mut files = vec![
        of("09.21.2021", "9.0", "a"),
        newest.clone(),
        of("01.01.2025", "15.1", "b"),
        of("01.02.2024", "16.1", "c"),
    ];
    // Not of this framework, or of another domain.
    files.push(("x/aws-12.12.2025_attack-18.1-mobile.json".to_owned(), b"not read".to_vec()));
    files.push(("x/gcp-12.12.2025_attack-18.1-enterprise.json".to_owned(), b"not read".to_vec()));
    for _ in 0..2 {
        let knowledge = read(Framework::Aws, &files);
        assert_eq!(keys(&knowledge), ["aws", "aws:newest"]);
        assert_eq!(knowledge.upstream_version.as_deref(), Some("12.12.2024 on ATT&CK 16.1"));
        files.reverse();
    }
    // The newest one unread must not leave an older one in its place.
    let mut reader = CtidReader::new(Framework::Aws);
    reader.file(&files[0].0, &files[0].1).unwrap();
    assert!(reader.file(&newest.0, &newest.1[..50]).unwrap_err().0.contains("the download was cut"));
}

#[test]
fn single_documents_say_what_they_are() {
    let rows = json!([row(Some("CM-03"), Some("T1059"))]);
    let catalog = json!({"catalog": {"metadata": {"version": "5.2.0"}, "groups": [{"id": "cm", "title": "Configuration Management", "controls": [
        {"id": "cm-3", "title": "Configuration Change Control", "parts": [{"name": "statement", "prose": "Do so."}]},
        {"id": "cm-3.1", "title": "Automated"}]}]}});
    let mapping = mapping("nist_800_53", "rev5", "16.1", &rows);
    let knowledge = read(Framework::Nist80053, &[file("controls.json", &catalog), file("nist.json", &mapping)]);
    assert_eq!(keys(&knowledge), ["nist_800_53", "nist_800_53:CM-3", "nist_800_53:CM-3(1)"]);
    assert_eq!(knowledge.records[1].name, "Configuration Change Control");
    assert_eq!(knowledge.records[1].description.as_deref(), Some("Do so."));
    assert_eq!(knowledge.upstream_version.as_deref(), Some("rev5 (catalog 5.2.0) on ATT&CK 16.1"));

    let mut reader = CtidReader::new(Framework::Nist80053);
    for path in ["a/NIST_SP-800-53_rev5_catalog.json", "NIST_SP-800-53_rev5_catalog-5.2.0.json", "x.json"] {
        assert!(reader.wants(path), "{path}");
    }
    for path in [
        "a/NIST_SP-800-53_rev5_LOW-baseline-resolved-profile_catalog.json",
        "a/x.json",
        "x.csv",
        "a/nist_800_53-rev5_attack-16.1-enterprise_navigator_layer.json",
    ] {
        assert!(!reader.wants(path), "{path}");
    }
    assert!(reader.file("x.json", b"{}").unwrap_err().0.contains("but of something unknown"));
    assert!(reader.file("x.json", br#"{"catalog": {}}"#).unwrap_err().0.contains("NIST_SP-800-53_rev5_catalog.json"));
    reader.file("x.json", catalog.to_string().as_bytes()).unwrap();
    assert!(Box::new(reader).finish().unwrap_err().0.contains("there is no mapping of nist_800_53"));
    let mut reader = CtidReader::new(Framework::Cri);
    assert!(
        reader.file("nist.json", mapping.to_string().as_bytes()).unwrap_err().0.contains("no mapping of cri_profile")
    );
}

#[test]
fn ids_that_differ_in_case_are_one() {
    let rows = json!([
        row(Some("Action.Malware.Variety.Other"), Some("T1059")),
        row(Some("action.malware.variety.Other"), Some("T1060"))
    ]);
    let knowledge = read(Framework::Veris, &[file("veris.json", &mapping("veris", "1.4.0", "16.1", &rows))]);
    assert_eq!(keys(&knowledge), ["veris", "veris:action.malware.variety.Other"]);
    assert_eq!(
        (knowledge.records[1].name.as_str(), knowledge.records[1].description.as_deref()),
        ("action.malware.variety.Other", Some("Account Management"))
    );
    assert_eq!(knowledge.links.len(), 2);
}
