//! Reads Atomic Red Team: one file a technique, one template a test.

use std::collections::HashMap;

use serde_json::{Map, Value, json};
use uuid::Uuid;

use super::atomic_model::{MANUAL, flag};
use super::{Collected, SEVERITY, Unread, block, is_yaml, parts, platforms, technique_id, too_long};
use crate::domain::knowledge::{Knowledge, ReadError, Reader, TemplateRecord};
use crate::domain::yaml::Node;

/// Under which ids are made for what has none.
pub(super) const NAMESPACE: Uuid = Uuid::from_u128(0x6f1c_8c57_2f0a_4f1e_9a53_d5b0_71c4_3be8);

/// Reads `atomics/T*/T*.yaml`. A test's identity is its GUID, whichever technique it is under; its executor, arguments
/// and dependencies are kept in `details` as published, with their placeholders.
#[derive(Default)]
pub struct AtomicReader {
    collected: Collected,
}

impl Reader for AtomicReader {
    fn wants(&self, path: &str) -> bool {
        let mut parts = parts(path);
        let technique = |name: &str| name.starts_with('T');
        let file = parts.next().is_some_and(|name| technique(name) && is_yaml(name));
        // One file alone is a document too.
        file && parts.next().is_none_or(technique) && parts.next().is_none_or(|folder| folder == "atomics")
    }

    fn file(&mut self, path: &str, bytes: &[u8]) -> Result<(), ReadError> {
        let Some(root) = self.collected.open(path, bytes) else {
            return Ok(());
        };
        match tests(&root, path) {
            Ok(tests) => tests.into_iter().for_each(|test| self.collected.add(test)),
            Err(reason) => self.collected.skipped.add(path, reason),
        }
        Ok(())
    }

    fn finish(self: Box<Self>) -> Result<Knowledge, ReadError> {
        self.collected.finish("Atomic Red Team", "atomics/T*/T*.yaml")
    }
}

/// The tests of a file, in its order.
pub(super) fn tests(root: &Node, path: &str) -> Result<Vec<Result<TemplateRecord, Unread>>, String> {
    let technique = root.said("attack_technique").ok_or("attack_technique is missing")?;
    let technique =
        technique_id(technique).ok_or_else(|| format!("attack_technique `{technique}` is no technique's id"))?;
    let display_name = root.said("display_name");
    let tests = root.get("atomic_tests").and_then(Node::list).ok_or("atomic_tests is missing")?;
    // How many without a GUID have had the name.
    let mut names: HashMap<&str, usize> = HashMap::new();
    let read = tests.iter().enumerate().map(|(index, test)| {
        let number = index + 1;
        let about = |reason: String| {
            let id = test.said("auto_generated_guid").map_or_else(|| format!("{path}, test {number}"), str::to_owned);
            (id, reason)
        };
        let name = test.said("name").ok_or_else(|| about("its name is missing".to_owned()))?;
        let source_id = match test.said("auto_generated_guid") {
            Some(text) => Uuid::parse_str(text)
                .map_err(|_| about("auto_generated_guid is no GUID".to_owned()))?
                .hyphenated()
                .to_string(),
            None => {
                let nth = names.entry(name).and_modify(|nth| *nth += 1).or_insert(1);
                made_id(&format!("atomic:{technique}:{name}:{nth}"))
            }
        };
        let mut template = template(test).map_err(about)?;
        template.source_id = source_id;
        template.name = name.to_owned();
        template.mitre_technique_id.clone_from(&technique);
        template.details.insert("test_number".to_owned(), json!(number));
        if let Some(display_name) = display_name {
            template.details.insert("display_name".to_owned(), json!(display_name));
        }
        Ok(template)
    });
    Ok(read.collect())
}

/// An id for what has none, always the same.
pub(super) fn made_id(of: &str) -> String {
    Uuid::new_v5(&NAMESPACE, of.as_bytes()).hyphenated().to_string()
}

/// All that a test says itself.
fn template(test: &Node) -> Result<TemplateRecord, String> {
    if let Some(reason) = too_long(test) {
        return Err(reason);
    }
    let executor = test.get("executor").filter(|executor| !executor.entries().is_empty());
    let executor = executor.ok_or("its executor is missing")?;
    let tool = executor.said("name").ok_or("its executor has no name")?;
    let (first, second) = if tool == MANUAL { ("steps", "command") } else { ("command", "steps") };
    let procedure = [first, second].iter().find_map(|key| block(executor.get(key)?.text()?));
    let procedure = procedure.ok_or("its executor has neither a command nor steps")?;
    let raw = test.all_said("supported_platforms");
    Ok(TemplateRecord {
        description: test.get("description").and_then(Node::text).and_then(block),
        platforms: platforms(raw.iter().copied()),
        severity: SEVERITY.to_owned(),
        attack_procedure: Some(procedure),
        tool_suggested: Some(tool.to_owned()),
        cleanup_procedure: executor.get("cleanup_command").and_then(Node::text).and_then(block),
        details: details(test, executor, raw),
        ..TemplateRecord::default()
    })
}

fn details(test: &Node, executor: &Node, raw_platforms: Vec<&str>) -> Map<String, Value> {
    let mut details = Map::new();
    details.insert("supported_platforms".to_owned(), json!(raw_platforms));
    for key in ["input_arguments", "dependency_executor_name", "dependencies"] {
        if let Some(node) = test.get(key).filter(|node| !node.is_null()) {
            details.insert(key.to_owned(), node.to_json());
        }
    }
    let mut kept = Map::new();
    for key in ["name", "elevation_required", "command", "cleanup_command", "steps"] {
        if let Some(node) = executor.get(key).filter(|node| !node.is_null()) {
            let value = node.to_json();
            let value = match key {
                "elevation_required" => flag(&value).map_or(value, Value::Bool),
                _ => value,
            };
            kept.insert(key.to_owned(), value);
        }
    }
    details.insert("executor".to_owned(), Value::Object(kept));
    details
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIRST: &str = "0b3c2a5e-7c51-4a9e-8a86-0d7c2a3a0001";

    fn read(files: &[(&str, &str)]) -> Result<Knowledge, ReadError> {
        let mut reader = AtomicReader::default();
        for (path, text) in files {
            assert!(reader.wants(path), "{path}");
            reader.file(path, text.as_bytes()).unwrap();
        }
        Box::new(reader).finish()
    }

    fn file(technique: &str, tests: &str) -> String {
        format!("attack_technique: {technique}\ndisplay_name: Some technique\natomic_tests:\n{tests}")
    }

    fn test(name: &str, guid: &str) -> String {
        format!(
            "- name: {name}\n  auto_generated_guid: {guid}\n  description: What it does\n  supported_platforms: [windows]\n  \
             executor:\n    name: sh\n    command: id\n"
        )
    }

    #[test]
    fn only_files_of_techniques_are_read() {
        let reader = AtomicReader::default();
        for path in
            ["atomic-red-team-master/atomics/T1059.001/T1059.001.yaml", "atomics/T1003/T1003.yaml", "T1003.yaml"]
        {
            assert!(reader.wants(path), "{path}");
        }
        for path in [
            "atomics/Indexes/index.yaml",
            "atomics/T1003/src/T1003.yaml",
            "atomics/T1003/T1003.md",
            "atomic_red_team/spec.yaml",
            "other/T1003/T1003.yaml",
            "atomics/T1003/src/config.yaml",
        ] {
            assert!(!reader.wants(path), "{path}");
        }
    }

    #[test]
    fn a_test_is_kept_as_published() {
        let text = "\
attack_technique: T1059.004
display_name: 'Unix Shell'
atomic_tests:
- name: 'Ask who I am '
  auto_generated_guid: 0B3C2A5E-7C51-4A9E-8A86-0D7C2A3A0001
  description: |
    Prints <PID> and #{who}.
  supported_platforms:
  - macos
  - linux
  - iaas:aws
  - iaas:gcp
  - azure-ad
  input_arguments:
    who:
      description: Whom to ask
      type: string
      default: null
    port:
      description: Where
      type: Integer
      default: '8080'
  dependency_executor_name: bash
  dependencies:
  - description: It is there
    prereq_command: test -x /usr/bin/id
    get_prereq_command:
  executor:
    name: bash
    elevation_required: yes
    command: |
      id #{who}
      kill <PID>
    cleanup_command: |
      rm -f #{port}
";
        let knowledge = read(&[("atomics/T1059.004/T1059.004.yaml", &text.replace('\n', "\r\n"))]).unwrap();
        assert_eq!(knowledge.skipped, Default::default());
        let template = &knowledge.templates[0];
        assert_eq!(template.source_id, FIRST);
        assert_eq!(template.name, "Ask who I am");
        assert_eq!(template.mitre_technique_id, "T1059.004");
        assert_eq!(template.description.as_deref(), Some("Prints <PID> and #{who}."));
        assert_eq!(template.platforms, ["macos", "linux", "iaas", "identity provider"]);
        assert_eq!(template.severity, "medium");
        assert_eq!(template.attack_procedure.as_deref(), Some("id #{who}\nkill <PID>"));
        assert_eq!(template.tool_suggested.as_deref(), Some("bash"));
        assert_eq!(template.cleanup_procedure.as_deref(), Some("rm -f #{port}"));
        assert_eq!(
            Value::Object(template.details.clone()),
            json!({
                "display_name": "Unix Shell",
                "test_number": 1,
                "supported_platforms": ["macos", "linux", "iaas:aws", "iaas:gcp", "azure-ad"],
                "input_arguments": {
                    "who": {"description": "Whom to ask", "type": "string", "default": null},
                    "port": {"description": "Where", "type": "Integer", "default": "8080"},
                },
                "dependency_executor_name": "bash",
                "dependencies": [{
                    "description": "It is there",
                    "prereq_command": "test -x /usr/bin/id",
                    "get_prereq_command": null,
                }],
                "executor": {
                    "name": "bash",
                    "elevation_required": true,
                    "command": "id #{who}\nkill <PID>\n",
                    "cleanup_command": "rm -f #{port}\n",
                },
            })
        );
    }

    #[test]
    fn steps_by_hand() {
        let text = file(
            "T1003",
            "- name: By hand\n  supported_platforms: [windows]\n  executor:\n    name: manual\n    steps: |\n      1. Open it\n",
        );
        let knowledge = read(&[("T1003.yaml", &text)]).unwrap();
        let template = &knowledge.templates[0];
        assert_eq!(template.attack_procedure.as_deref(), Some("1. Open it"));
        assert_eq!(template.tool_suggested.as_deref(), Some("manual"));
        assert_eq!(template.description, None);
    }

    #[test]
    fn tests_of_one_name_are_two_and_a_guid_moves() {
        let second = "0b3c2a5e-7c51-4a9e-8a86-0d7c2a3a0002";
        let both = file("T1014", &(test("Rootkit", FIRST) + &test("Rootkit", second)));
        let before = read(&[("atomics/T1014/T1014.yaml", &both)]).unwrap();
        assert_eq!(before.templates.len(), 2);
        let one = file("T1014", &test("Rootkit", FIRST));
        let moved = file("T1547.006", &test("Rootkit", second));
        let after = read(&[("atomics/T1014/T1014.yaml", &one), ("atomics/T1547.006/T1547.006.yaml", &moved)]).unwrap();
        let ids = |knowledge: &Knowledge| knowledge.templates.iter().map(|t| t.source_id.clone()).collect::<Vec<_>>();
        assert_eq!(ids(&before), ids(&after));
        assert_eq!(after.templates[1].mitre_technique_id, "T1547.006");
    }

    #[test]
    fn without_a_guid_the_id_stays_the_same_wherever_the_test_stands() {
        let bare = |name: &str| test(name, "");
        let before = read(&[("T1003.yaml", &file("T1003", &(bare("a") + &bare("b") + &bare("a"))))]).unwrap();
        let after = read(&[("T1003.yaml", &file("T1003", &(bare("b") + &bare("a") + &bare("a"))))]).unwrap();
        let ids = |knowledge: &Knowledge| {
            let mut ids: Vec<_> = knowledge.templates.iter().map(|t| t.source_id.clone()).collect();
            ids.sort();
            ids.dedup();
            ids
        };
        assert_eq!(ids(&before).len(), 3);
        assert_eq!(ids(&before), ids(&after));
    }

    #[test]
    fn what_cannot_be_read_is_skipped_and_told() {
        let good = file(
            "T1003",
            &(test("Good", FIRST)
                + "- name: No executor\n  auto_generated_guid: 0b3c2a5e-7c51-4a9e-8a86-0d7c2a3a0009\n"
                + &test("Bad id", "nonsense")
                + "- just a text\n"
                + &test("The same id", FIRST)
                + &format!("- name: Long\n  executor:\n    name: sh\n    command: {}\n", "x".repeat(70_000))),
        );
        let knowledge = read(&[
            ("atomics/T1003/T1003.yaml", &good),
            ("atomics/T1004/T1004.yaml", "attack_technique: T1004\natomic_tests: [\n"),
            ("atomics/T1005/T1005.yaml", &file("T10055", &test("Unknown technique", FIRST))),
            ("atomics/T1006/T1006.yaml", "just a text\n"),
        ])
        .unwrap();
        assert_eq!(knowledge.templates.len(), 1);
        let told: Vec<_> =
            knowledge.skipped.first.iter().map(|skip| (skip.id.as_str(), skip.reason.as_str())).collect();
        assert_eq!(told[0], ("0b3c2a5e-7c51-4a9e-8a86-0d7c2a3a0009", "its executor is missing"));
        assert_eq!(told[1], ("nonsense", "auto_generated_guid is no GUID"));
        assert_eq!(told[2], ("atomics/T1003/T1003.yaml, test 4", "its name is missing"));
        assert_eq!(told[3], (FIRST, "another test has the same id; this one is `The same id`"));
        assert!(told[4].1.contains("longer than 65536 characters"), "{told:?}");
        assert!(told[5].0 == "atomics/T1004/T1004.yaml" && told[5].1.starts_with("line "), "{told:?}");
        assert_eq!(told[6].1, "attack_technique `T10055` is no technique's id");
        assert_eq!(told[7].1, "attack_technique is missing");
        assert_eq!(knowledge.skipped.total, 8);
    }

    #[test]
    fn a_document_of_nothing_changes_nothing() {
        let error = read(&[("T1003.yaml", "<html>Sign in</html>")]).unwrap_err();
        assert!(error.0.starts_with("the document is not Atomic Red Team: nothing in its 1 files"), "{error}");
        let error = read(&[]).unwrap_err();
        assert!(error.0.contains("no files in `atomics/T*/T*.yaml`"), "{error}");
    }
}
