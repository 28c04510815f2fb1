//! Reads the abilities of Caldera's Stockpile, in both of its schemas: one template an ability.

use serde_json::{Map, Value, json};

use super::{Collected, SEVERITY, Unread, block, is_yaml, parts, platforms, technique_id, too_long};
use crate::domain::knowledge::{Knowledge, ReadError, Reader, TemplateRecord};
use crate::domain::yaml::{Content, Node};

/// Reads `data/abilities/**.yml`. What runs on which platform is kept in `details.executors`; where one command is
/// all there is, `details.executor` says it as Atomic Red Team would.
#[derive(Default)]
pub struct CalderaReader {
    collected: Collected,
}

impl Reader for CalderaReader {
    fn wants(&self, path: &str) -> bool {
        let mut parts = parts(path);
        let file = parts.next().is_some_and(is_yaml);
        let folders: Vec<_> = parts.collect();
        file && folders.windows(2).any(|pair| pair == ["abilities", "data"])
    }

    fn file(&mut self, path: &str, bytes: &[u8]) -> Result<(), ReadError> {
        let Some(root) = self.collected.open(path, bytes) else {
            return Ok(());
        };
        let abilities = match &root.content {
            Content::List(abilities) => abilities.as_slice(),
            Content::Map(_) => std::slice::from_ref(&root),
            _ => &[],
        };
        if abilities.is_empty() {
            self.collected.skipped.add(path, "it holds no ability");
        }
        for (index, ability) in abilities.iter().enumerate() {
            self.collected.add(template(ability).map_err(|reason| unread(ability, path, index, reason)));
        }
        Ok(())
    }

    fn finish(self: Box<Self>) -> Result<Knowledge, ReadError> {
        self.collected.finish("Caldera's Stockpile", "data/abilities")
    }
}

fn unread(ability: &Node, path: &str, index: usize, reason: String) -> Unread {
    let id = match (ability.said("id"), index) {
        (Some(id), _) => id.to_owned(),
        (None, 0) => path.to_owned(),
        (None, _) => format!("{path}, ability {}", index + 1),
    };
    (id, reason)
}

fn template(ability: &Node) -> Result<TemplateRecord, String> {
    if let Some(reason) = too_long(ability) {
        return Err(reason);
    }
    let technique = ability.get("technique").and_then(|technique| technique.said("attack_id"));
    let technique = technique.or_else(|| ability.said("technique_id")).ok_or("its technique is missing")?;
    let executors = executors(ability)?;
    let template = TemplateRecord {
        source_id: ability.said("id").ok_or("its id is missing")?.to_owned(),
        name: ability.said("name").ok_or("its name is missing")?.to_owned(),
        description: ability.get("description").and_then(Node::text).and_then(block),
        mitre_technique_id: technique_id(technique)
            .ok_or_else(|| format!("its technique `{technique}` is no technique's id"))?,
        platforms: platforms(executors.iter().flat_map(|executor| executor.platforms.iter().map(String::as_str))),
        severity: SEVERITY.to_owned(),
        attack_procedure: procedure(&executors, |executor| executor.command.as_deref().or(executor.code.as_deref())),
        tool_suggested: tools(&executors),
        cleanup_procedure: procedure(&executors, |executor| executor.cleanup.as_deref()),
        details: details(ability, &executors),
        ..TemplateRecord::default()
    };
    // Some do nothing but clean up after others.
    match template.attack_procedure.is_some() || template.cleanup_procedure.is_some() {
        true => Ok(template),
        false => Err("it has no command".to_owned()),
    }
}

/// What runs an ability on some platforms.
#[derive(Debug)]
struct Executor {
    /// As published, such as `darwin`.
    platforms: Vec<String>,
    /// As published, such as `psh` and `pwsh`.
    names: Vec<String>,
    command: Option<String>,
    cleanup: Option<String>,
    /// Source that is compiled for the agent.
    code: Option<String>,
    /// Payloads, parsers and so on.
    rest: Map<String, Value>,
}

/// Of `platforms` (a map of platforms and executors) or of `executors` (a list).
fn executors(ability: &Node) -> Result<Vec<Executor>, String> {
    let mut executors = Vec::new();
    for platform in ability.get("platforms").map_or(&[][..], Node::entries) {
        for entry in platform.value.entries() {
            executors.push(executor(names(&platform.key), names(&entry.key), &entry.value));
        }
    }
    for node in ability.get("executors").and_then(Node::list).unwrap_or_default() {
        let said = |key| node.said(key).map(names).unwrap_or_default();
        executors.push(executor(said("platform"), said("name"), node));
    }
    match executors.is_empty() {
        true => Err("it has no executor".to_owned()),
        false => Ok(executors),
    }
}

/// `linux,darwin` is two.
fn names(key: &str) -> Vec<String> {
    key.split(',').map(str::trim).filter(|name| !name.is_empty()).map(str::to_owned).collect()
}

fn executor(platforms: Vec<String>, names: Vec<String>, node: &Node) -> Executor {
    let known = ["name", "platform", "command", "cleanup", "code"];
    let rest = node.entries().iter().filter(|entry| !known.contains(&entry.key.as_str()) && !is_empty(&entry.value));
    // One command, or a list of them.
    let cleanup = match node.get("cleanup").map(|cleanup| &cleanup.content) {
        Some(Content::Text(text)) => block(text),
        Some(Content::List(nodes)) => block(&nodes.iter().filter_map(Node::text).collect::<Vec<_>>().join("\n")),
        _ => None,
    };
    Executor {
        platforms,
        names,
        command: node.get("command").and_then(Node::text).and_then(block),
        cleanup,
        code: node.get("code").and_then(Node::text).and_then(block),
        rest: rest.map(|entry| (entry.key.clone(), entry.value.to_json())).collect(),
    }
}

fn is_empty(node: &Node) -> bool {
    match &node.content {
        Content::Null => true,
        Content::Text(text) => text.is_empty(),
        Content::List(nodes) => nodes.is_empty(),
        Content::Map(entries) => entries.is_empty(),
        _ => false,
    }
}

/// The one text there is, or each under a line that says where it runs.
fn procedure<'a>(executors: &'a [Executor], text: impl Fn(&'a Executor) -> Option<&'a str>) -> Option<String> {
    let said: Vec<_> = executors.iter().filter_map(|executor| Some((executor, text(executor)?))).collect();
    match said.as_slice() {
        [] => None,
        [(_, first), rest @ ..] if rest.iter().all(|(_, other)| other == first) => Some((*first).to_owned()),
        all => {
            let blocks: Vec<_> = all
                .iter()
                .map(|(executor, text)| {
                    let on = platforms(executor.platforms.iter().map(String::as_str)).join(", ");
                    format!("{on} ({}):\n{text}", executor.names.join(", "))
                })
                .collect();
            Some(blocks.join("\n\n"))
        }
    }
}

fn tools(executors: &[Executor]) -> Option<String> {
    let mut tools: Vec<&str> = Vec::new();
    for name in executors.iter().flat_map(|executor| &executor.names) {
        if !tools.contains(&name.as_str()) {
            tools.push(name);
        }
    }
    (!tools.is_empty()).then(|| tools.join(", "))
}

fn details(ability: &Node, executors: &[Executor]) -> Map<String, Value> {
    let own = ["id", "name", "description", "technique", "technique_id", "technique_name", "platforms", "executors"];
    let rest = ability.entries().iter().filter(|entry| !own.contains(&entry.key.as_str()) && !is_empty(&entry.value));
    let mut details: Map<_, _> = rest.map(|entry| (entry.key.clone(), entry.value.to_json())).collect();
    let technique = ability.get("technique").and_then(|technique| technique.said("name"));
    if let Some(name) = technique.or_else(|| ability.said("technique_name")) {
        details.insert("technique_name".to_owned(), json!(name));
    }
    let kept: Vec<_> = executors
        .iter()
        .map(|executor| {
            let mut kept = executor.rest.clone();
            kept.insert("platforms".to_owned(), json!(executor.platforms));
            kept.insert("names".to_owned(), json!(executor.names));
            let texts = [("command", &executor.command), ("cleanup", &executor.cleanup), ("code", &executor.code)];
            for (key, text) in texts {
                if let Some(text) = text {
                    kept.insert(key.to_owned(), json!(text));
                }
            }
            Value::Object(kept)
        })
        .collect();
    details.insert("executors".to_owned(), Value::Array(kept));
    let elevated = ability.said("privilege").is_some_and(|privilege| privilege.eq_ignore_ascii_case("elevated"));
    if let Some(executor) = atomic_executor(executors, elevated) {
        details.insert("executor".to_owned(), executor);
    }
    details
}

/// As Atomic Red Team says it, where one command of one shell is all there is.
fn atomic_executor(executors: &[Executor], elevated: bool) -> Option<Value> {
    let mut all = executors.iter().map(|executor| {
        let mut shells = executor.names.iter().map(|name| match name.as_str() {
            "psh" | "pwsh" => Some("powershell"),
            "cmd" => Some("command_prompt"),
            "sh" => Some("sh"),
            _ => None,
        });
        let shell = shells.next()??;
        shells.all(|other| other == Some(shell)).then_some((shell, executor.command.as_deref()?, &executor.cleanup))
    });
    let first = all.next()??;
    if !all.all(|other| other == Some(first)) {
        return None;
    }
    let (shell, command, cleanup) = first;
    let mut executor = Map::new();
    executor.insert("name".to_owned(), json!(shell));
    executor.insert("command".to_owned(), json!(command));
    if elevated {
        executor.insert("elevation_required".to_owned(), json!(true));
    }
    if let Some(cleanup) = cleanup {
        executor.insert("cleanup_command".to_owned(), json!(cleanup));
    }
    Some(Value::Object(executor))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::templates::{Exported, parse_upload, write_technique};

    fn read(text: &str) -> Result<Knowledge, ReadError> {
        let mut reader = CalderaReader::default();
        reader.file("data/abilities/discovery/a.yml", text.as_bytes()).unwrap();
        Box::new(reader).finish()
    }

    #[test]
    fn only_abilities_are_read() {
        let reader = CalderaReader::default();
        assert!(reader.wants("stockpile-master/data/abilities/discovery/a.yml"));
        assert!(reader.wants("data/abilities/a.yaml"));
        for path in ["data/adversaries/a.yml", "data/abilities/readme.md", "abilities/a.yml", "data/abilities/.a.yml"] {
            assert!(!reader.wants(path), "{path}");
        }
    }

    const FIRST_SCHEMA: &str = "\
---

- id: ' 11111111-0000-4000-8000-000000000001'
  name: List users
  description: |
    Lists <USERS> (ATT&CK)
  tactic: discovery
  technique:
    attack_id: T1087.001
    name: 'Account Discovery: Local Account'
  privilege: Elevated
  platforms:
    linux,darwin:
      sh:
        command: |
          cut -d: -f1 /etc/passwd #{host.user.name}
        cleanup: 'rm #{host.user.name}'
    windows:
      psh,pwsh:
        command: Get-LocalUser
        payloads: [a.ps1]
        timeout: 60
  requirements: []
";

    #[test]
    fn the_schema_with_platforms() {
        let knowledge = read(FIRST_SCHEMA).unwrap();
        assert_eq!(knowledge.skipped.total, 0);
        let template = &knowledge.templates[0];
        assert_eq!(template.source_id, "11111111-0000-4000-8000-000000000001");
        assert_eq!(template.mitre_technique_id, "T1087.001");
        assert_eq!(template.platforms, ["linux", "macos", "windows"]);
        assert_eq!(template.description.as_deref(), Some("Lists <USERS> (ATT&CK)"));
        assert_eq!(
            template.attack_procedure.as_deref(),
            Some(
                "linux, macos (sh):\ncut -d: -f1 /etc/passwd #{host.user.name}\n\nwindows (psh, pwsh):\nGet-LocalUser"
            )
        );
        assert_eq!(template.cleanup_procedure.as_deref(), Some("rm #{host.user.name}"));
        assert_eq!(template.tool_suggested.as_deref(), Some("sh, psh, pwsh"));
        assert_eq!(
            Value::Object(template.details.clone()),
            json!({
                "tactic": "discovery",
                "technique_name": "Account Discovery: Local Account",
                "privilege": "Elevated",
                "executors": [
                    {"platforms": ["linux", "darwin"], "names": ["sh"], "cleanup": "rm #{host.user.name}",
                        "command": "cut -d: -f1 /etc/passwd #{host.user.name}"},
                    {"platforms": ["windows"], "names": ["psh", "pwsh"], "command": "Get-LocalUser",
                        "payloads": ["a.ps1"], "timeout": 60},
                ],
            })
        );
    }

    #[test]
    fn the_schema_with_executors() {
        let text = "\
- id: 11111111-0000-4000-8000-000000000002
  name: Hide it
  description: Hides it
  tactic: defense-evasion
  technique_name: Hidden Files
  technique_id: ' T1564.001'
  executors:
  - name: sh
    platform: linux
    command: 'mv \"#{location}\" .x'
    code: null
    timeout: 60
    cleanup: ['rm .x', 'rm .y']
    parsers: []
  privilege: ''
";
        let knowledge = read(&text.replace('\n', "\r\n")).unwrap();
        let template = &knowledge.templates[0];
        assert_eq!(template.mitre_technique_id, "T1564.001");
        assert_eq!(template.attack_procedure.as_deref(), Some("mv \"#{location}\" .x"));
        assert_eq!(template.cleanup_procedure.as_deref(), Some("rm .x\nrm .y"));
        assert_eq!(
            template.details["executor"],
            json!({"name": "sh", "command": "mv \"#{location}\" .x", "cleanup_command": "rm .x\nrm .y"})
        );
        assert!(!template.details.contains_key("privilege"));
    }

    #[test]
    fn abilities_are_written_as_atomics() {
        let template = &read(FIRST_SCHEMA).unwrap().templates[0];
        let exported = [Exported { source: "caldera", template }];
        let yaml = write_technique("T1087.001", "Local Account", &exported).unwrap();
        let (read, problems) = parse_upload("T1087.001.yaml", yaml.as_bytes());
        assert!(problems.is_empty(), "{problems:?}\n{yaml}");
        assert_eq!(read[0].tool_suggested.as_deref(), Some("manual"), "its shells differ");
        assert!(read[0].attack_procedure.as_deref().is_some_and(|text| text.contains("#{host_user_name}")), "{yaml}");
    }

    #[test]
    fn what_cannot_be_read_is_skipped_and_told() {
        let text = "\
- id: one
  name: No technique
  platforms: {linux: {sh: {command: id}}}
- id: two
  name: Odd technique
  technique: {attack_id: X1}
  platforms: {linux: {sh: {command: id}}}
- name: No id
  technique: {attack_id: T1033}
  platforms: {linux: {sh: {command: id}}}
- id: four
  name: Nothing to run
  technique: {attack_id: T1033}
- id: five
  name: Nothing to say
  technique: {attack_id: T1033}
  platforms: {linux: {sh: {timeout: 5}}}
- id: six
  name: Good
  technique: {attack_id: T1033}
  platforms: {linux: {sh: {command: id}}}
";
        let knowledge = read(text).unwrap();
        assert_eq!(knowledge.templates.len(), 1);
        let told: Vec<_> = knowledge.skipped.first.iter().map(|skip| format!("{}: {}", skip.id, skip.reason)).collect();
        assert_eq!(
            told,
            [
                "one: its technique is missing",
                "two: its technique `X1` is no technique's id",
                "data/abilities/discovery/a.yml, ability 3: its id is missing",
                "four: it has no executor",
                "five: it has no command",
            ]
        );
        assert!(read("- id: x\n").is_err());
        assert!(read("text").unwrap_err().0.contains("it holds no ability"));
    }
}
