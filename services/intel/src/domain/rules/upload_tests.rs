use super::parse_upload;
use crate::domain::upload::UploadProblem;

fn problems(yaml: &str) -> Vec<UploadProblem> {
    parse_upload(yaml.as_bytes()).1
}

fn told(yaml: &str) -> Vec<(u32, String, String)> {
    problems(yaml).into_iter().map(|p| (p.line, p.field, p.problem)).collect()
}

const RULE: &str = "\
title: Mine
logsource:
  category: process_creation
detection:
  selection:
    Image|endswith: ['\\a.exe']
    CommandLine|re|i: 'x.*'
  filter_known:
    - User: SYSTEM
    - Parent: null
  keywords: [a, 1]
  condition: selection and not 1 of filter_*
tags: [attack.t1059.001]
";

#[test]
fn a_rule_without_an_id_gets_one_of_its_content() {
    let (rules, problems) = parse_upload(RULE.as_bytes());
    assert_eq!(problems, []);
    let [(rule, links)] = rules.as_slice() else { panic!("{rules:?}") };
    assert_eq!(rule.key, format!("custom:{}", rule.source_id));
    assert!(uuid::Uuid::try_parse(&rule.source_id).is_ok());
    assert_eq!((rule.severity.as_deref(), rule.content.as_deref()), (Some("medium"), Some(RULE)));
    assert_eq!(
        (links.len(), links[0].to_key.as_str(), links[0].from_key.as_str()),
        (1, "T1059.001", rule.key.as_str())
    );
    let again = parse_upload(RULE.as_bytes()).0;
    assert_eq!(again, rules);
    assert!(!rule.attributes.contains_key("path"), "a file's name is no content");
    let other = parse_upload(RULE.replace("Mine", "Yours").as_bytes()).0;
    assert_ne!(other[0].0.key, rule.key);
}

#[test]
fn all_problems_are_told_with_their_lines() {
    let yaml = "\
title: ''
id: not-a-uuid
status: finished
level: terrible
date: 2024-13-01
tags:
  - attack.t1059
  - attack.t105
  - nothing
  - {a: b}
logsource:
  definition: x
detection:
  selection:
    Image|endwith: a
    List: []
    Nested: {a: b}
  empty:
  condition: selection and selektion or
references: {a: b}
";
    let expected = [
        (1, "title", "must not be empty"),
        (2, "id", "must be a UUID such as 7d0f8c4e-5a1b-4c39-9d1e-0c2f4f1f6a11"),
        (3, "status", "must be one of stable, test, experimental, deprecated, unsupported"),
        (4, "level", "must be one of informational, low, medium, high, critical"),
        (5, "date", "must be a date such as 2025-11-01"),
        (20, "references", "must be a list of texts"),
        (10, "tags[3]", "must be a text"),
        (8, "tags[1]", "must name a technique as attack.t1059 or attack.t1059.001"),
        (9, "tags[2]", "must be a namespace and a name with a dot between them, such as attack.t1059.001"),
        (12, "logsource", "must have a category, a product or a service"),
        (15, "detection.selection.Image|endwith", "`endwith` is no modifier of Sigma"),
        (16, "detection.selection.List", "has no value"),
        (17, "detection.selection.Nested", "must have a value or a list of values"),
        (18, "detection.empty", "must be a mapping of fields or a list, and not empty"),
        (19, "detection.condition", "there is no selection `selektion`"),
        (19, "detection.condition", "it ends where a selection is expected"),
    ];
    let expected: Vec<_> =
        expected.iter().map(|(line, field, problem)| (*line, (*field).to_owned(), (*problem).to_owned())).collect();
    let mut told = told(yaml);
    let mut wanted = expected;
    told.sort();
    wanted.sort();
    assert_eq!(told, wanted);
    assert!(parse_upload(yaml.as_bytes()).0.is_empty());
}

#[test]
fn each_document_stands_alone() {
    let yaml = format!(
        "{RULE}---\n- no rule\n---\ntitle: [x\n---\ntitle: Correlated\nlogsource: {{product: linux}}\ncorrelation: {{type: event_count}}\n---\n{}",
        RULE.replace("Mine", "Last")
    );
    let (rules, problems) = parse_upload(yaml.as_bytes());
    let names: Vec<_> = rules.iter().map(|(rule, _)| rule.name.as_str()).collect();
    assert_eq!(names, ["Mine", "Last"]);
    let lines: Vec<_> = problems.iter().map(|p| (p.line, p.field.as_str())).collect();
    assert_eq!(lines[0], (15, ""));
    assert!((17..=19).contains(&lines[1].0), "{problems:?}");
    assert_eq!(lines[2], (19, "detection"));
    assert_eq!(lines.len(), 3);
}

#[test]
fn a_global_document_completes_the_others() {
    let yaml = "action: global\ntitle: Shared\ndetection: {condition: sel}\n---\nlogsource: {product: linux}\ndetection: {sel: {a: 1}}\n---\nlogsource: {product: linux}\ndetection: {other: {a: 1}}\n";
    let (rules, problems) = parse_upload(yaml.as_bytes());
    assert_eq!((rules.len(), rules[0].0.name.as_str()), (1, "Shared"));
    assert_eq!(problems, [UploadProblem::at(3, "detection.condition", "there is no selection `sel`")]);
}

#[test]
fn ids_and_keys_are_there_once() {
    let with_id = format!("id: 7d0f8c4e-5a1b-4c39-9d1e-0c2f4f1f6a11\n{RULE}");
    let (rules, problems) = parse_upload(format!("{with_id}---\n{with_id}").as_bytes());
    assert_eq!(rules[0].0.key, "custom:7d0f8c4e-5a1b-4c39-9d1e-0c2f4f1f6a11");
    assert_eq!(problems, [UploadProblem::at(16, "id", "another rule of this file has the same")]);
    let twice = format!("{RULE}title: Again\n");
    assert_eq!(told(&twice), [(14, "title".to_owned(), "is stated twice".to_owned())]);
}

#[test]
fn files_past_a_bound_are_refused() {
    assert_eq!(told("# Nothing.\n---\n")[0].2, "the file holds no rule");
    assert_eq!(told("action: global\ntitle: A\n")[0].2, "the file holds no rule");
    assert_eq!(problems(&"#".repeat(600_000)).len(), 1);
    assert_eq!(problems(&"title: a\n---\n".repeat(101)).len(), 1);
    assert_eq!(parse_upload(b"title: \xff").1.len(), 1);
    let mut bomb = "a0: &a0 {k: xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx}\n".to_owned();
    for n in 1..30 {
        let prior = n - 1;
        bomb.push_str(&format!("a{n}: &a{n} {{l: *a{prior}, m: *a{prior}, n: *a{prior}}}\n"));
    }
    let bomb = problems(&bomb);
    assert_eq!((bomb.len(), bomb[0].problem.as_str()), (1, "aliases make the document too large"));
    // As many problems as a file can have.
    let many = "- ".repeat(30) + "a\n";
    assert_eq!(problems(&many).len(), 1);
    let tags = format!("{RULE}references: [{}]\n", "{a: b}, ".repeat(900));
    assert_eq!(problems(&tags).len(), 900);
}
