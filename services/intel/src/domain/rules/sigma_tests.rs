use serde_json::json;

use super::SigmaReader;
use crate::domain::knowledge::{Knowledge, KnowledgeRecord, Reader};

fn read(files: &[(&str, &[u8])]) -> Knowledge {
    let mut reader = Box::new(SigmaReader::default());
    for (path, bytes) in files {
        assert!(reader.wants(path), "{path}");
        reader.file(path, bytes).unwrap();
    }
    reader.finish().unwrap()
}

fn one(yaml: &str) -> (KnowledgeRecord, Vec<String>) {
    let knowledge = read(&[("rules/a.yml", yaml.as_bytes())]);
    assert_eq!((knowledge.records.len(), knowledge.skipped.total), (1, 0), "{:?}", knowledge.skipped);
    let links = knowledge.links.iter().map(|link| link.to_key.clone()).collect();
    (knowledge.records.into_iter().next().unwrap(), links)
}

const RULE: &str = "\
title: Odd Parent Of A Shell
id: 0C6A2A1F-6A55-4B6C-9F3E-3D3C9E3D0001
status: test
description: |
  Sees `<PID>` of a shell whose parent is <code>{DOMAIN}\\agent</code> ([more](https://example.org/a)). (Citation: Someone 2020)
references:
  - https://example.org/a
author: A, B
date: 2024-02-03
modified: 2024/11/09
tags:
  - attack.execution
  - attack.t1059.001
  - attack.T1059.001
  - attack.t1059
  - attack.g0016
  - cve.2024-0001
logsource:
  category: process_creation
  product: windows
detection:
  selection:
    ParentImage|endswith: '\\agent.exe'
  condition: selection
falsepositives:
  - Unknown
level: High
";

#[test]
fn a_rule_is_kept_as_published() {
    let (rule, techniques) = one(RULE);
    assert_eq!(rule.key, "sigma:0c6a2a1f-6a55-4b6c-9f3e-3d3c9e3d0001");
    assert_eq!(rule.source_id, "0c6a2a1f-6a55-4b6c-9f3e-3d3c9e3d0001");
    assert_eq!(rule.name, "Odd Parent Of A Shell");
    assert_eq!(
        rule.description.as_deref(),
        Some(
            "Sees `<PID>` of a shell whose parent is <code>{DOMAIN}\\agent</code> ([more](https://example.org/a)). (Citation: Someone 2020)"
        )
    );
    assert_eq!((rule.severity.as_deref(), rule.status.as_deref()), (Some("high"), Some("test")));
    assert_eq!((rule.platforms, rule.deprecated), (vec!["windows".to_owned()], false));
    assert_eq!(rule.content.as_deref(), Some(RULE));
    assert_eq!(techniques, ["T1059.001", "T1059"]);
    let attributes = json!({
        "rule_format": "sigma",
        "path": "rules/a.yml",
        "logsource": {"category": "process_creation", "product": "windows"},
        "author": "A, B",
        "date": "2024-02-03",
        "modified": "2024-11-09",
        "references": ["https://example.org/a"],
        "falsepositives": ["Unknown"],
        "tactics": ["execution"],
        "tags": ["attack.execution", "attack.t1059.001", "attack.t1059", "attack.g0016", "cve.2024-0001"],
    });
    assert_eq!(serde_json::Value::Object(rule.attributes), attributes);
}

#[test]
fn unknown_techniques_and_tactics_of_any_version_are_kept() {
    let (rule, techniques) = one(
        "title: A\ntags: [attack.t9876.543, attack.defense_evasion, attack.defense-evasion, attack.stealth, attack.ds0005, attack.t10]\n",
    );
    assert_eq!(techniques, ["T9876.543"]);
    assert_eq!(rule.attributes["tactics"], json!(["defense-evasion", "stealth"]));
    assert_eq!(rule.severity.as_deref(), Some("medium"));
}

#[test]
fn products_become_platforms() {
    for (logsource, platform) in [
        ("product: macOS", Some("macos")),
        ("product: darwin", Some("macos")),
        ("product: Windows", Some("windows")),
        ("product: aws", Some("iaas")),
        ("{product: azure, service: signinlogs}", Some("identity provider")),
        ("product: m365", Some("office suite")),
        ("product: django", None),
        ("category: webserver", None),
        ("[]", None),
    ] {
        let nested =
            if logsource.starts_with(['{', '[']) { format!(" {logsource}") } else { format!("\n  {logsource}") };
        let (rule, _) = one(&format!("title: A\nlogsource:{nested}\n"));
        assert_eq!(rule.platforms.first().map(String::as_str), platform, "{logsource}");
    }
}

#[test]
fn documents_of_one_file_share_a_global_one() {
    let file = "\
# Shared by both.
action: global
title: Two Sources
tags: [attack.t1543.003]
level: critical
date: 2017/01/10
detection:
  condition: 1 of them
---
id: 0c6a2a1f-6a55-4b6c-9f3e-3d3c9e3d0002
logsource:
  product: windows
detection:
  one: {EventID: 1}
--- # The second one.
logsource:
  product: linux
level: low
detection:
  two: {EventID: 2}
---
action: reset
---
title: Alone
";
    let knowledge = read(&[("sigma-r2030-01-02/rules/x/a.yml", file.as_bytes())]);
    assert_eq!(knowledge.upstream_version.as_deref(), Some("r2030-01-02"));
    assert_eq!(knowledge.skipped.total, 0);
    let [first, second, alone] = knowledge.records.as_slice() else { panic!("{:?}", knowledge.records) };
    assert_eq!((first.name.as_str(), first.severity.as_deref()), ("Two Sources", Some("critical")));
    assert_eq!((second.name.as_str(), second.severity.as_deref()), ("Two Sources", Some("low")));
    assert_eq!(first.key, "sigma:0c6a2a1f-6a55-4b6c-9f3e-3d3c9e3d0002");
    assert_eq!((first.platforms[0].as_str(), second.platforms[0].as_str()), ("windows", "linux"));
    assert_eq!(first.attributes["date"], "2017-01-10");
    let content = first.content.as_deref().unwrap();
    assert!(
        content.starts_with("# Shared by both.\naction: global\n") && content.contains("\n---\nid: 0c6a"),
        "{content}"
    );
    assert!(!content.contains("two:"));
    assert_eq!((alone.name.as_str(), alone.content.as_deref()), ("Alone", Some("title: Alone\n")));
    assert_eq!(knowledge.links.len(), 2);
    // No id: the path is its identity, whatever folder is around everything.
    let again = read(&[("sigma-master/rules/x/a.yml", file.as_bytes())]);
    assert_eq!(again.upstream_version, None);
    assert_eq!(again.records[1].key, second.key);
    assert_ne!(second.key, alone.key);
}

#[test]
fn what_cannot_be_seen_stays_in_texts_and_is_in_no_id() {
    let (rule, techniques) = one(
        "title: \"A \u{200d}\u{202e}sign\"\nid: \"\u{200b}0c6a2a1f-6a55-4b6c-9f3e-3d3c9e3d0003\u{200e} \"\ntags: [\"attack.t1059\u{200b}\"]\n",
    );
    assert_eq!(rule.name, "A \u{200d}\u{202e}sign");
    assert_eq!(rule.key, "sigma:0c6a2a1f-6a55-4b6c-9f3e-3d3c9e3d0003");
    assert_eq!(techniques, ["T1059"]);
    assert_eq!(rule.attributes["tags"], json!(["attack.t1059"]));
}

#[test]
fn the_active_one_of_two_rules_with_one_id_keeps_it() {
    let yaml =
        |title: &str| format!("title: {title}\nid: 0c6a2a1f-6a55-4b6c-9f3e-3d3c9e3d0004\ntags: [attack.t1112]\n");
    let (old, new) = (yaml("Old"), yaml("New"));
    let files: [(&str, &[u8]); 3] = [
        ("deprecated/a.yml", old.as_bytes()),
        ("rules-emerging-threats/a.yml", new.as_bytes()),
        ("unsupported/b.yml", b"title: B\nstatus: test\n"),
    ];
    let knowledge = read(&files);
    let [active, first, second] = knowledge.records.as_slice() else { panic!("{:?}", knowledge.records) };
    assert_eq!((active.name.as_str(), active.deprecated), ("New", false));
    assert_eq!(active.key, "sigma:0c6a2a1f-6a55-4b6c-9f3e-3d3c9e3d0004");
    assert!(first.deprecated && second.deprecated && first.key != active.key);
    assert!(knowledge.links.iter().any(|link| link.from_key == first.key));
    let mut turned = files;
    turned.reverse();
    let keys = |knowledge: &Knowledge| knowledge.records.iter().map(|r| r.key.clone()).collect::<Vec<_>>();
    assert_eq!(keys(&read(&turned)), keys(&knowledge));
}

#[test]
fn what_cannot_be_read_is_skipped_and_told() {
    let bomb = {
        let mut text = "title: Bomb\na0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
        for n in 1..20 {
            let list = vec![format!("*a{}", n - 1); 10].join(", ");
            text.push_str(&format!("a{n}: &a{n} [{list}]\n"));
        }
        text
    };
    let mut chain = "title: Chain\na0: &a0 [[[[[[[[x]]]]]]]]\n".to_owned();
    for n in 1..20 {
        chain.push_str(&format!("a{n}: &a{n} [[[[[[[[*a{}]]]]]]]]\n", n - 1));
    }
    let deep = format!("title: Deep\na: {}{}\n", "[".repeat(200), "]".repeat(200));
    let deeper = format!("a: {}", "[".repeat(100_000));
    let staircase: String = (0..2_000).map(|n| format!("{}a:\n", " ".repeat(n))).collect();
    let repeated = format!("title: R\nx: {}\n{}", "y".repeat(200_000), "---\naction: repeat\n".repeat(99));
    let many = "title: D\n---\n".repeat(101);
    let huge = vec![b'#'; 2 * 1024 * 1024];
    let marked = format!("\u{feff}{RULE}");
    let knowledge = read(&[
        ("rules/binary.yml", b"title: \xff\xfe\n"),
        ("rules/bomb.yml", bomb.as_bytes()),
        ("rules/chain.yml", chain.as_bytes()),
        ("rules/cut.yml", b"title: \"Never closed\nid: 1\n"),
        ("rules/deep.yml", deep.as_bytes()),
        ("rules/deeper.yml", deeper.as_bytes()),
        ("rules/empty.yml", b"# Nothing.\n"),
        ("rules/huge.yml", &huge),
        ("rules/list.yml", b"- a\n- b\n"),
        ("rules/many.yml", many.as_bytes()),
        ("rules/merge.yml", b"title: M\n<<: {a: b}\n"),
        ("rules/mixed.yml", b"title: Good\n---\n{a: [}\n---\ntitle: Also Good\n"),
        ("rules/repeated.yml", repeated.as_bytes()),
        ("rules/self.yml", b"title: S\na: &a [*a]\n"),
        ("rules/staircase.yml", staircase.as_bytes()),
        ("rules/with-mark.yml", marked.as_bytes()),
    ]);
    let skipped: Vec<_> = knowledge.skipped.first.iter().map(|skip| skip.id.as_str()).collect();
    assert_eq!(
        skipped,
        [
            "rules/binary.yml",
            "rules/bomb.yml",
            "rules/chain.yml",
            "rules/cut.yml",
            "rules/deep.yml",
            "rules/deeper.yml",
            "rules/huge.yml",
            "rules/list.yml",
            "rules/many.yml",
            "rules/merge.yml",
            "rules/mixed.yml#2",
            "rules/repeated.yml#21",
            "rules/self.yml",
            "rules/staircase.yml",
        ]
    );
    let reason = |id: &str| knowledge.skipped.first.iter().find(|skip| skip.id == id).unwrap().reason.as_str();
    assert_eq!(reason("rules/binary.yml"), "line 1: it is not UTF-8 text");
    assert_eq!(reason("rules/bomb.yml"), "line 5: aliases make the document too large");
    assert_eq!(reason("rules/list.yml"), "it is no rule: it has no title");
    assert!(
        reason("rules/mixed.yml#2").starts_with("line 3: it is no valid YAML: "),
        "{}",
        reason("rules/mixed.yml#2")
    );
    let names: Vec<_> = knowledge.records.iter().map(|record| record.name.as_str()).collect();
    let others: Vec<_> = names.into_iter().filter(|name| *name != "R").collect();
    assert_eq!(others, ["Good", "Also Good", "Odd Parent Of A Shell"]);
}

#[test]
fn an_archive_without_rules_is_an_error() {
    let error = Box::new(SigmaReader::default()).finish().unwrap_err();
    assert!(error.0.contains("SigmaHQ/sigma"), "{error}");
    let mut reader = Box::new(SigmaReader::default());
    reader.file("rules/a.yml", b"<html>no</html>").unwrap();
    assert!(reader.finish().unwrap_err().0.contains("rules/a.yml"));
}

#[test]
fn only_rules_of_the_publishers_folders_are_wanted() {
    let reader = SigmaReader::default();
    for path in
        ["rules/a.yml", "sigma-master/rules-dfir/x/a.yml", "./deprecated/a.yaml", "a/b/unsupported/a.yml", "a.yml"]
    {
        assert!(reader.wants(path), "{path}");
    }
    for path in [
        "sigma-master/tests/rules/a.yml",
        "sigma-master/regression_data/rules/a.yml",
        "sigma-master/.github/workflows/a.yml",
        "sigma-master/mkdocs.yml",
        "rules/README.md",
        ".pre-commit-config.yml",
    ] {
        assert!(!reader.wants(path), "{path}");
    }
}
