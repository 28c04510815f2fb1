use serde_json::json;

use super::ElasticReader;
use crate::domain::knowledge::{Knowledge, Reader};

fn read(files: &[(&str, &[u8])]) -> Knowledge {
    let mut reader = Box::new(ElasticReader::default());
    for (path, bytes) in files {
        assert!(reader.wants(path), "{path}");
        reader.file(path, bytes).unwrap();
    }
    reader.finish().unwrap()
}

const RULE: &str = r#"[metadata]
creation_date = "2024/05/06"
updated_date = "2025/01/02"
maturity = "production"
integration = "endpoint"

[rule]
author = ["Someone", "Else"]
description = """
Sees <PID> in `code`.
"""
name = "Two Tactics"
risk_score = 47
rule_id = "5C0E6C1E-1111-4222-8333-000000000001"
severity = "Medium"
tags = ["Domain: Endpoint", "OS: macOS", "OS: Linux", "OS: Linux", "Data Source: AWS"]
type = "eql"
language = "eql"
query = 'process where true'

[[rule.threat]]
framework = "MITRE ATT&CK"
[rule.threat.tactic]
id = "TA0003"
name = "Persistence"
[[rule.threat.technique]]
id = "T1078"
[[rule.threat.technique.subtechnique]]
id = "T1078.004"

[[rule.threat]]
framework = "MITRE ATT&CK"
[rule.threat.tactic]
id = "TA0005"
name = "Defense Evasion"
[[rule.threat.technique]]
id = "T1078"
[[rule.threat.technique]]
id = "T9999"

[[rule.threat]]
framework = "MITRE ATLAS"
[[rule.threat.technique]]
id = "T1111"
"#;

fn small(id: u32, rest: &str) -> String {
    format!(
        "[metadata]\nmaturity = \"production\"\n[rule]\nname = \"R{id}\"\nrule_id = \"5c0e6c1e-1111-4222-8333-{id:012}\"\n{rest}\n"
    )
}

#[test]
fn a_technique_under_two_tactics_is_one_link() {
    let knowledge = read(&[("detection-rules-0a1b2c/rules/x/a.toml", RULE.as_bytes())]);
    assert_eq!(knowledge.upstream_version.as_deref(), Some("0a1b2c"));
    let [rule] = knowledge.records.as_slice() else { panic!("{:?}", knowledge.records) };
    assert_eq!(rule.key, "elastic:5c0e6c1e-1111-4222-8333-000000000001");
    assert_eq!(rule.description.as_deref(), Some("Sees <PID> in `code`."));
    assert_eq!((rule.severity.as_deref(), rule.status.as_deref()), (Some("medium"), Some("production")));
    assert_eq!(rule.platforms, ["macos", "linux", "iaas"]);
    assert_eq!(rule.content.as_deref(), Some(RULE));
    assert_eq!(rule.attributes["tactics"], json!(["persistence", "defense-evasion"]));
    assert_eq!(rule.attributes["date"], "2024-05-06");
    assert_eq!(rule.attributes["author"], "Someone, Else");
    assert_eq!(rule.attributes["integration"], json!(["endpoint"]));
    assert_eq!(rule.attributes["risk_score"], 47);
    // An unknown one is kept until ATT&CK brings it.
    let techniques: Vec<_> = knowledge.links.iter().map(|link| link.to_key.as_str()).collect();
    assert_eq!(techniques, ["T1078", "T1078.004", "T9999"]);
}

#[test]
fn a_rule_is_deprecated_by_its_folder_or_its_maturity_but_not_by_its_name() {
    let (a, b) = (small(1, ""), small(2, "query = \"x\""));
    let c = small(3, "").replace("production", "deprecated");
    let knowledge = read(&[
        ("rules/aws/discovery_deprecated_image.toml", a.as_bytes()),
        ("rules/_deprecated/b.toml", b.as_bytes()),
        ("rules_building_block/c.toml", c.as_bytes()),
        ("rules/_deprecated/a.toml", a.as_bytes()),
    ]);
    let active: Vec<_> = knowledge.records.iter().filter(|rule| !rule.deprecated).collect();
    assert_eq!(active.len(), 1);
    assert_eq!(
        (active[0].name.as_str(), active[0].key.as_str()),
        ("R1", "elastic:5c0e6c1e-1111-4222-8333-000000000001")
    );
    assert_eq!((knowledge.records.len(), knowledge.links.len(), knowledge.skipped.total), (4, 0, 0));
}

#[test]
fn what_cannot_be_read_is_skipped_and_told() {
    let good = small(1, "threat = \"none\"\ntags = \"OS: Windows\"");
    let knowledge = read(&[
        ("rules/binary.toml", b"[rule]\nname = \"\xff\"\n"),
        ("rules/cut.toml", b"[rule]\nname = \"Never clo"),
        ("rules/other.toml", b"[package]\nname = \"x\"\n"),
        ("rules/nameless.toml", b"[rule]\nrule_id = \"5c0e6c1e-1111-4222-8333-000000000009\"\n"),
        ("rules/good.toml", good.as_bytes()),
        ("rules/z-deep.toml", format!("a = {}", "[".repeat(100_000)).as_bytes()),
    ]);
    let skipped: Vec<_> = knowledge.skipped.first.iter().map(|skip| skip.id.as_str()).collect();
    assert_eq!(
        skipped,
        ["rules/binary.toml", "rules/cut.toml", "rules/other.toml", "rules/nameless.toml", "rules/z-deep.toml"]
    );
    assert!(
        knowledge.skipped.first[1].reason.starts_with("line 2: not valid TOML: "),
        "{:?}",
        knowledge.skipped.first[1]
    );
    assert_eq!(knowledge.records[0].platforms, ["windows"]);
    let mut reader = Box::new(ElasticReader::default());
    assert!(!reader.wants("hunting/x.toml") && !reader.wants("repo/tests/rules/x.toml") && reader.wants("x.toml"));
    reader.file("rules/other.toml", b"a = 1").unwrap();
    assert!(reader.finish().unwrap_err().0.contains("elastic/detection-rules"));
}
