//! Reads LOLBAS: one file a program, one template a command.

use std::collections::HashMap;

use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

use super::{Collected, SEVERITY, Unread, block, is_yaml, parts, technique_id, too_long};
use crate::domain::knowledge::{Knowledge, ReadError, Reader, TemplateRecord};
use crate::domain::yaml::Node;

/// Reads `yml/**/*.yml`. A command has no id of its own: it is known by its program and what it runs for which
/// technique, so that it stays the same wherever it stands in the file and however it is described.
#[derive(Default)]
pub struct LolbasReader {
    collected: Collected,
}

impl Reader for LolbasReader {
    fn wants(&self, path: &str) -> bool {
        let mut parts = parts(path);
        let file = parts.next().is_some_and(is_yaml);
        file && parts.any(|folder| folder == "yml")
    }

    fn file(&mut self, path: &str, bytes: &[u8]) -> Result<(), ReadError> {
        let Some(root) = self.collected.open(path, bytes) else {
            return Ok(());
        };
        match commands(&root, path) {
            Ok(commands) => commands.into_iter().for_each(|command| self.collected.add(command)),
            Err(reason) => self.collected.skipped.add(path, reason),
        }
        Ok(())
    }

    fn finish(self: Box<Self>) -> Result<Knowledge, ReadError> {
        self.collected.finish("LOLBAS", "yml")
    }
}

fn commands(root: &Node, path: &str) -> Result<Vec<Result<TemplateRecord, Unread>>, String> {
    if let Some(reason) = too_long(root) {
        return Err(reason);
    }
    let program = root.said("Name").ok_or("Name is missing")?;
    let commands = root.get("Commands").and_then(Node::list).ok_or("Commands is missing")?;
    let detection = detection(root);
    let of_program = of_program(root);
    // How many have had the same hash.
    let mut hashes: HashMap<String, usize> = HashMap::new();
    let read = commands.iter().enumerate().map(|(index, command)| {
        let mut template =
            template(program, command).map_err(|reason| (format!("{path}, command {}", index + 1), reason))?;
        let hash = hash(command);
        let nth = hashes.entry(hash.clone()).and_modify(|nth| *nth += 1).or_insert(1);
        template.source_id = match *nth {
            1 => format!("{program}#{hash}"),
            nth => format!("{program}#{hash}-{nth}"),
        };
        template.expected_detection.clone_from(&detection);
        template.details.extend(of_program.clone());
        Ok(template)
    });
    Ok(read.collect())
}

fn hash(command: &Node) -> String {
    let mut hasher = Sha256::new();
    for key in ["Command", "MitreID", "Category"] {
        hasher.update(command.said(key).unwrap_or_default());
        hasher.update([0]);
    }
    hasher.finalize().iter().take(8).map(|byte| format!("{byte:02x}")).collect()
}

fn template(program: &str, command: &Node) -> Result<TemplateRecord, String> {
    let technique = command.said("MitreID").ok_or("its MitreID is missing")?;
    let run = command.said("Command").ok_or("its Command is missing")?;
    let name = match command.said("Usecase") {
        Some(purpose) => format!("{program}: {purpose}"),
        None => program.to_owned(),
    };
    Ok(TemplateRecord {
        name,
        description: command.get("Description").and_then(Node::text).and_then(block),
        mitre_technique_id: technique_id(technique)
            .ok_or_else(|| format!("its MitreID `{technique}` is no technique's id"))?,
        // All that LOLBAS is about.
        platforms: vec!["windows".to_owned()],
        severity: SEVERITY.to_owned(),
        attack_procedure: Some(run.to_owned()),
        tool_suggested: Some(program.to_owned()),
        details: details(command, run),
        ..TemplateRecord::default()
    })
}

fn details(command: &Node, run: &str) -> Map<String, Value> {
    let mut details = Map::new();
    let keys = [
        ("Category", "category"),
        ("Usecase", "usecase"),
        ("Privileges", "privileges"),
        ("OperatingSystem", "operating_system"),
    ];
    for (key, name) in keys {
        if let Some(text) = command.said(key) {
            details.insert(name.to_owned(), json!(text));
        }
    }
    if let Some(tags) = command.get("Tags").filter(|tags| tags.list().is_some_and(|tags| !tags.is_empty())) {
        details.insert("tags".to_owned(), tags.to_json());
    }
    let privileges = command.said("Privileges").unwrap_or_default().to_ascii_lowercase();
    let elevated = privileges.starts_with("admin") || privileges.starts_with("local admin") || privileges == "system";
    let mut executor = Map::new();
    executor.insert("name".to_owned(), json!("command_prompt"));
    executor.insert("command".to_owned(), json!(run));
    if elevated {
        executor.insert("elevation_required".to_owned(), json!(true));
    }
    details.insert("executor".to_owned(), Value::Object(executor));
    details
}

/// What is said of the program and not of one command.
fn of_program(root: &Node) -> Map<String, Value> {
    let mut details = Map::new();
    for (key, name) in [("Description", "program_description"), ("Author", "author"), ("Created", "created")] {
        if let Some(text) = root.said(key) {
            details.insert(name.to_owned(), json!(text));
        }
    }
    for (key, inner, name) in [
        ("Full_Path", "Path", "full_paths"),
        ("Code_Sample", "Code", "code_samples"),
        ("Resources", "Link", "resources"),
        ("Aliases", "Alias", "aliases"),
    ] {
        let nodes = root.get(key).and_then(Node::list).unwrap_or_default();
        let texts: Vec<_> = nodes.iter().filter_map(|node| node.said(inner)).collect();
        if !texts.is_empty() {
            details.insert(name.to_owned(), json!(texts));
        }
    }
    details
}

/// One line a hint: `Sigma: https://…`.
fn detection(root: &Node) -> Option<String> {
    let hints = root.get("Detection").and_then(Node::list).unwrap_or_default();
    let lines: Vec<_> = hints
        .iter()
        .flat_map(Node::entries)
        .filter_map(|hint| Some(format!("{}: {}", hint.key, block(hint.value.text()?)?.trim())))
        .collect();
    (!lines.is_empty()).then(|| lines.join("\n"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::templates::{Exported, parse_upload, write_technique};

    fn read(text: &str) -> Result<Knowledge, ReadError> {
        let mut reader = LolbasReader::default();
        reader.file("yml/OSBinaries/Thing.yml", text.as_bytes()).unwrap();
        Box::new(reader).finish()
    }

    fn command(run: &str, technique: &str, category: &str) -> String {
        format!(
            "  - Command: '{run}'\n    Description: Runs it\n    Usecase: Run a thing\n    Category: {category}\n    \
             Privileges: Administrator\n    MitreID: {technique}\n    OperatingSystem: Windows 11\n    Tags:\n      \
             - Execute: DLL\n"
        )
    }

    fn file(commands: &str) -> String {
        format!(
            "---\nName: Thing.exe\nDescription: Does things\nAuthor: Someone\nCreated: 2024-01-31\nCommands:\n{commands}\
             Full_Path:\n  - Path: C:\\Thing.exe\n  - Path:\nDetection:\n  - Sigma: https://example.com/a.yml\n  \
             - IOC: Thing.exe runs\nResources:\n  - Link: https://example.com\n...\n"
        )
    }

    #[test]
    fn only_programs_are_read() {
        let reader = LolbasReader::default();
        assert!(reader.wants("LOLBAS-master/yml/OSBinaries/Thing.yml"));
        assert!(!reader.wants("LOLBAS-master/YML-Template.yml") && !reader.wants("YML-Template.yml"));
        assert!(!reader.wants("LOLBAS-master/.github/workflows/a.yml"));
        assert!(!reader.wants("yml/OSBinaries/Thing.md"));
    }

    #[test]
    fn a_command_is_a_template() {
        let knowledge = read(&file(&command("thing {PATH:.dll} #{xy}", "T1218.010", "Execute"))).unwrap();
        let template = &knowledge.templates[0];
        assert!(template.source_id.starts_with("Thing.exe#"), "{}", template.source_id);
        assert_eq!(template.name, "Thing.exe: Run a thing");
        assert_eq!(template.mitre_technique_id, "T1218.010");
        assert_eq!(template.platforms, ["windows"]);
        assert_eq!(template.attack_procedure.as_deref(), Some("thing {PATH:.dll} #{xy}"));
        assert_eq!(template.tool_suggested.as_deref(), Some("Thing.exe"));
        assert_eq!(
            template.expected_detection.as_deref(),
            Some("Sigma: https://example.com/a.yml\nIOC: Thing.exe runs")
        );
        assert_eq!(
            Value::Object(template.details.clone()),
            json!({
                "category": "Execute",
                "usecase": "Run a thing",
                "privileges": "Administrator",
                "operating_system": "Windows 11",
                "tags": [{"Execute": "DLL"}],
                "executor": {"name": "command_prompt", "command": "thing {PATH:.dll} #{xy}", "elevation_required": true},
                "program_description": "Does things",
                "author": "Someone",
                "created": "2024-01-31",
                "full_paths": ["C:\\Thing.exe"],
                "resources": ["https://example.com"],
            })
        );
        let yaml = write_technique("T1218.010", "Regsvr32", &[Exported { source: "lolbas", template }]).unwrap();
        let (read, problems) = parse_upload("T1218.010.yaml", yaml.as_bytes());
        assert!(problems.is_empty(), "{problems:?}\n{yaml}");
        assert_eq!(read[0].attack_procedure, template.attack_procedure);
    }

    #[test]
    fn a_command_stays_the_same_wherever_it_stands() {
        let (a, b, c) =
            (command("a", "T1105", "Download"), command("b", "T1105", "Download"), command("a", "T1105", "ADS"));
        let ids = |text: &str| {
            let mut ids: Vec<_> = read(&file(text)).unwrap().templates.into_iter().map(|t| t.source_id).collect();
            ids.sort();
            ids
        };
        let before = ids(&format!("{a}{b}{c}{a}"));
        assert_eq!(before.iter().collect::<std::collections::BTreeSet<_>>().len(), 4);
        assert_eq!(before, ids(&format!("{c}{a}{a}{b}").replace("Runs it", "Runs it better")));
    }

    #[test]
    fn what_cannot_be_read_is_skipped_and_told() {
        let text = file(&(command("a", "T1105", "ADS") + &command("b", "Txxxx", "ADS") + "  - Command: c\n"));
        let knowledge = read(&text).unwrap();
        assert_eq!(knowledge.templates.len(), 1);
        let told: Vec<_> = knowledge.skipped.first.iter().map(|skip| format!("{}: {}", skip.id, skip.reason)).collect();
        assert_eq!(
            told,
            [
                "yml/OSBinaries/Thing.yml, command 2: its MitreID `Txxxx` is no technique's id",
                "yml/OSBinaries/Thing.yml, command 3: its MitreID is missing",
            ]
        );
        assert!(read("Name: x\n").unwrap_err().0.contains("Commands is missing"));
    }
}
