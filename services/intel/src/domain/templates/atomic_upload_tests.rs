//! A person's file of tests, and what is said of it.

use super::*;

fn told(text: &str) -> Vec<(u32, String, String)> {
    let (templates, problems) = parse_upload("mine.yaml", text.as_bytes());
    assert!(templates.is_empty() || problems.is_empty(), "{templates:?}");
    problems.into_iter().map(|problem| (problem.line, problem.field, problem.problem)).collect()
}

const GOOD: &str = "\
attack_technique: T1059.004
display_name: Unix Shell
atomic_tests:
- name: Ask
  auto_generated_guid: 0b3c2a5e-7c51-4a9e-8a86-0d7c2a3a0001
  description: Asks who I am
  supported_platforms:
  - linux
  input_arguments:
    who:
      description: Whom to ask
      type: String
      default: root
  dependency_executor_name: sh
  dependencies:
  - description: id is there
    prereq_command: which id
    get_prereq_command: ''
  executor:
    name: sh
    elevation_required: true
    command: 'sudo id #{who}'
- name: By hand
  description: Look
  supported_platforms: [windows, azure-ad]
  executor:
    name: manual
    steps: |
      1. Look at it
";

#[test]
fn a_right_file_is_read() {
    let (templates, problems) = parse_upload("folder/mine.yaml", GOOD.as_bytes());
    assert!(problems.is_empty(), "{problems:?}");
    assert_eq!(templates.len(), 2);
    assert_eq!(templates[0].source_id, "0b3c2a5e-7c51-4a9e-8a86-0d7c2a3a0001");
    assert_eq!(templates[1].platforms, ["windows", "identity provider"]);
    let again = parse_upload("other.yml", GOOD.as_bytes()).0;
    assert_eq!(templates, again, "what has no id gets the same one again");
}

#[test]
fn every_problem_has_its_line_and_field() {
    // What is put in the place of what, and what is then told.
    let cases: &[(&str, &str, u32, &str, &str)] = &[
        ("T1059.004", "X1059", 1, "attack_technique", "must be a technique's id"),
        ("T1059.004", "T1059.4", 1, "attack_technique", "must be a technique's id"),
        ("Unix Shell", "Unix", 2, "display_name", "at least 5 characters"),
        ("display_name: Unix Shell\n", "", 1, "display_name", "is missing"),
        ("name: Ask", "name: ''", 4, "atomic_tests[0].name", "must not be empty"),
        ("name: Ask", "name: 12", 4, "atomic_tests[0].name", "must be a text; put it in quotes"),
        ("  description: Asks who I am\n", "", 4, "atomic_tests[0].description", "is missing"),
        ("  - linux", "  - Linux", 8, "atomic_tests[0].supported_platforms[0]", "must be one of windows, macos"),
        ("[windows, azure-ad]", "[]", 25, "atomic_tests[1].supported_platforms", "at least one platform"),
        ("[windows, azure-ad]", "windows", 25, "atomic_tests[1].supported_platforms", "at least one platform"),
        ("    name: sh", "    name: zsh", 20, "atomic_tests[0].executor.name", "must be one of manual, powershell"),
        (
            "elevation_required: true",
            "elevation_required: maybe",
            21,
            "atomic_tests[0].executor.elevation_required",
            "true or false",
        ),
        (
            "elevation_required: true",
            "elevation_required: no",
            21,
            "atomic_tests[0].executor.elevation_required",
            "uses sudo",
        ),
        (
            "command: 'sudo id #{who}'",
            "command: '#{who}'\n    cleanup_command: 3",
            23,
            "atomic_tests[0].executor.cleanup_command",
            "must be a text",
        ),
        ("    name: manual\n", "    name: bash\n", 27, "atomic_tests[1].executor.command", "is missing"),
        ("1. Look at it", "Look", 29, "atomic_tests[1].executor.steps", "at least 10 characters"),
        ("    prereq_command: which id\n", "", 16, "atomic_tests[0].dependencies[0].prereq_command", "is missing"),
        ("    get_prereq_command: ''\n", "", 16, "atomic_tests[0].dependencies[0].get_prereq_command", "is missing"),
        (
            "dependency_executor_name: sh",
            "dependency_executor_name:",
            14,
            "atomic_tests[0].dependency_executor_name",
            "or not be there",
        ),
        (
            "description: Look",
            "description: Look\n  dependency_executor_name: sh",
            25,
            "atomic_tests[1].dependency_executor_name",
            "not needed",
        ),
        (
            "description: Look",
            "description: Look\n  input_arguments:",
            25,
            "atomic_tests[1].input_arguments",
            "must not be empty",
        ),
        ("description: Look", "description: Look\n  severity: high", 25, "atomic_tests[1].severity", "is not known"),
        ("sudo id #{who}", "sudo id #{who} #{port}", 9, "atomic_tests[0].input_arguments", "has no `port`"),
        ("#{who}", "root", 10, "atomic_tests[0].input_arguments.who", "used in none of the commands"),
        ("Look at it", "Look at #{it}", 23, "atomic_tests[1].input_arguments", "has no `it`"),
        ("type: String", "type: STRING", 12, "atomic_tests[0].input_arguments.who.type", "must be one of url, string"),
        ("default: root", "default: 5", 13, "atomic_tests[0].input_arguments.who.default", "must be a text"),
        ("      default: root\n", "", 10, "atomic_tests[0].input_arguments.who.default", "is missing"),
        ("type: String", "type: integer", 13, "atomic_tests[0].input_arguments.who.default", "must be a whole number"),
        ("type: String", "type: Float", 13, "atomic_tests[0].input_arguments.who.default", "must be a number"),
        ("type: String", "type: Url", 13, "atomic_tests[0].input_arguments.who.default", "must be a URL"),
        ("8a86-0d7c2a3a0001", "8a86", 5, "atomic_tests[0].auto_generated_guid", "must be a UUID"),
        (
            "name: By hand",
            "name: By hand\n  auto_generated_guid: 0B3C2A5E-7C51-4A9E-8A86-0D7C2A3A0001",
            24,
            "atomic_tests[1].auto_generated_guid",
            "another test of this file has it",
        ),
    ];
    for (from, to, line, field, problem) in cases {
        assert!(GOOD.contains(from), "{from}");
        let text = GOOD.replacen(from, to, 1);
        let (_, problems) = parse_upload("mine.yaml", text.as_bytes());
        let told = problems.first().unwrap_or_else(|| panic!("nothing is told of {to}"));
        assert_eq!((told.line, told.field.as_str()), (*line, *field), "{from} → {to}: {problems:?}");
        assert!(told.problem.contains(problem), "{from} → {to}: {told:?}");
        assert_eq!(problems.len(), 1, "{from} → {to}: {problems:?}");
    }
}

#[test]
fn the_other_tests_are_kept() {
    let text = GOOD.replace("    name: sh", "    name: zsh");
    let (templates, problems) = parse_upload("mine.yaml", text.as_bytes());
    assert_eq!(templates.iter().map(|t| t.name.as_str()).collect::<Vec<_>>(), ["By hand"]);
    assert_eq!(problems.len(), 1);
}

#[test]
fn addresses_are_domains_urls_or_ip_addresses() {
    for text in ["example.com", "a-b.example.co", "10.0.0.1", "::1", "https://example.com/a?b=c", "ftp://x"] {
        assert!(is_address(text), "{text}");
    }
    for text in ["", "root", "Example.com/x", "-a.example.com", "example.c", "a..b", "10.0.0.1/24"] {
        assert!(!is_address(text), "{text}");
    }
}

#[test]
fn defaults_of_the_model() {
    use serde_json::json;
    for (kind, default) in [
        ("integer", json!(5)),
        ("integer", json!("443")),
        ("integer", json!(null)),
        ("float", json!(1.5)),
        ("path", json!("")),
        ("url", json!(null)),
    ] {
        assert_eq!(default_problem(kind, &default), None, "{kind} {default}");
    }
    for (kind, default) in [
        ("integer", json!(1.5)),
        ("integer", json!("1.5")),
        ("integer", json!(true)),
        ("float", json!("1.5")),
        ("string", json!(false)),
        ("url", json!(5)),
        ("path", json!(["a"])),
    ] {
        assert!(default_problem(kind, &default).is_some(), "{kind} {default}");
    }
}

#[test]
fn what_is_no_such_file() {
    let whole = |problem: &str| vec![(0, String::new(), problem.to_owned())];
    assert_eq!(told(""), whole("it is empty"));
    assert_eq!(told("- a\n- b\n")[0].2, "must be a document with attack_technique, display_name and atomic_tests");
    assert_eq!(told("a: [1\n")[0].1, "");
    assert_eq!(told("attack_technique: T1003\nattack_technique: T1004\n")[0].0, 2);
    let (_, problems) = parse_upload("mine.txt", GOOD.as_bytes());
    assert_eq!(problems[0].problem, "its name must end with .yaml or .yml");
    assert_eq!(told("attack_technique: T1003\ndisplay_name: Some name\natomic_tests: []\n")[0].1, "atomic_tests");
    assert_eq!(
        told("attack_technique: T1003\ndisplay_name: Some name\natomic_tests: [3]\n"),
        [(3, "atomic_tests[0]".to_owned(), "must be a test: a map with name, description and so on".to_owned())]
    );
}

#[test]
fn everything_is_bounded() {
    let (templates, problems) = parse_upload("mine.yaml", &vec![b'a'; MAX_UPLOAD_BYTES + 1]);
    assert!(templates.is_empty() && problems[0].problem == "it is larger than 512 KiB", "{problems:?}");
    let head = "attack_technique: T1003\ndisplay_name: Some name\natomic_tests:\n";
    let many = head.to_owned() + &"- name: x\n".repeat(MAX_UPLOAD_TESTS + 1);
    assert_eq!(told(&many), [(4, "atomic_tests".to_owned(), "has more than 500 tests".to_owned())]);
    let test = "- name: x\n  description: x\n  supported_platforms: [linux]\n  executor:\n    name: sh\n    command: ";
    let long = format!("{head}{test}{}\n", "x".repeat(MAX_UPLOAD_TEXT_CHARS + 1));
    assert_eq!(told(&long), [(9, "atomic_tests[0]".to_owned(), "has a text longer than 20000 characters".to_owned())]);
    let wrong = head.to_owned() + &"- name: 1\n".repeat(MAX_UPLOAD_TESTS);
    let problems = told(&wrong);
    assert_eq!(problems.len(), MAX_PROBLEMS + 1);
    let bomb = format!("{head}- &a [x, x, x, x]\n{}", "- [*a, *a, *a, *a]\n".repeat(100));
    let told = told(&bomb);
    assert_eq!(told.len(), 1, "{told:?}");
}
