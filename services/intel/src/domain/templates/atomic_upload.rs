//! Reads a person's file of tests in Atomic Red Team's YAML, and says of everything that its published model does not
//! allow where it stands.

use std::collections::HashSet;
use std::net::IpAddr;

use serde_json::Value;
use url::Url;
use uuid::Uuid;

use super::atomic_model::{
    ARGUMENT_TYPES, EXECUTORS, MANUAL, MIN_ARGUMENT_CHARS, MIN_DISPLAY_NAME_CHARS, MIN_STEPS_CHARS, PLATFORMS, flag,
    is_argument_name, needs_elevation, placeholders,
};
use super::{MAX_NAME_CHARS, atomic, is_yaml, parts};
use crate::domain::knowledge::{TemplateRecord, is_technique_id};
use crate::domain::upload::UploadProblem;
use crate::domain::yaml::{self, Content, Document, Entry, Node};

/// Bytes of a person's file.
pub const MAX_UPLOAD_BYTES: usize = 512 * 1024;
/// Tests of a person's file.
pub const MAX_UPLOAD_TESTS: usize = 500;
/// Characters of one text in it.
pub const MAX_UPLOAD_TEXT_CHARS: usize = 20_000;
/// More help nobody.
const MAX_PROBLEMS: usize = 1_000;

const TEST_KEYS: [&str; 9] = [
    "test_number",
    "name",
    "description",
    "supported_platforms",
    "executor",
    "dependencies",
    "input_arguments",
    "dependency_executor_name",
    "auto_generated_guid",
];

/// The tests that are right, in the order of the file, and everything that is wrong with the others. What is wrong
/// with the file as a whole leaves no test.
pub fn parse_upload(path: &str, bytes: &[u8]) -> (Vec<TemplateRecord>, Vec<UploadProblem>) {
    if !parts(path).next().is_some_and(is_yaml) {
        return (Vec::new(), vec![UploadProblem::of_file("its name must end with .yaml or .yml")]);
    }
    let root = match yaml::file_text(bytes, MAX_UPLOAD_BYTES).and_then(yaml::parse_only) {
        Ok(Document { root, repeated }) if repeated.is_empty() => root,
        Ok(Document { mut repeated, .. }) => {
            repeated.truncate(MAX_PROBLEMS);
            return (Vec::new(), repeated);
        }
        Err(unreadable) => return (Vec::new(), vec![unreadable.into()]),
    };
    let mut check = Check::default();
    let tests = check.document(&root);
    if !check.problems.is_empty() {
        return (Vec::new(), check.problems);
    }
    let mut guids = HashSet::new();
    let mut right = Vec::with_capacity(tests.len());
    for (index, test) in tests.iter().enumerate() {
        let before = check.problems.len();
        check.test(&format!("atomic_tests[{index}]"), test, &mut guids);
        right.push(check.problems.len() == before);
        if check.problems.len() >= MAX_PROBLEMS {
            check.problems.truncate(MAX_PROBLEMS);
            check.problems.push(UploadProblem::of_file("there are more problems than are told"));
            break;
        }
    }
    let mut templates = Vec::new();
    match atomic::tests(&root, path) {
        Ok(read) => {
            for ((read, right), test) in read.into_iter().zip(right).zip(tests) {
                match read {
                    Ok(template) if right => templates.push(template),
                    Err((_, reason)) if right => check.say(test.line, "", reason),
                    _ => {}
                }
            }
        }
        Err(reason) => check.problems.push(UploadProblem::of_file(reason)),
    }
    (templates, check.problems)
}

#[derive(Default)]
struct Check {
    problems: Vec<UploadProblem>,
}

impl Check {
    fn say(&mut self, line: u32, field: &str, problem: impl Into<String>) {
        self.problems.push(UploadProblem::at(line, field, problem));
    }

    /// What is not a test's own.
    fn document<'a>(&mut self, root: &'a Node) -> &'a [Node] {
        if !root.is_map() {
            self.say(root.line, "", "must be a document with attack_technique, display_name and atomic_tests");
            return &[];
        }
        if let Some((line, id)) = self.text(root, "", "attack_technique", 1)
            && !is_technique_id(id)
        {
            self.say(line, "attack_technique", "must be a technique's id such as T1059.001");
        }
        self.text(root, "", "display_name", MIN_DISPLAY_NAME_CHARS);
        let Some(tests) = root.get("atomic_tests") else {
            self.say(root.line, "atomic_tests", "is missing");
            return &[];
        };
        match tests.list() {
            Some([]) | None => self.say(tests.line, "atomic_tests", "must be a list of at least one test"),
            Some(list) if list.len() > MAX_UPLOAD_TESTS => {
                self.say(tests.line, "atomic_tests", format!("has more than {MAX_UPLOAD_TESTS} tests"));
            }
            Some(list) => return list,
        }
        &[]
    }

    fn test(&mut self, at: &str, test: &Node, guids: &mut HashSet<Uuid>) {
        if !test.is_map() {
            return self.say(test.line, at, "must be a test: a map with name, description and so on");
        }
        for entry in test.entries().iter().filter(|entry| !TEST_KEYS.contains(&entry.key.as_str())) {
            self.say(entry.line, &field(at, &shown(&entry.key)), "is not known");
        }
        let (chars, line) = test.longest_text();
        if chars > MAX_UPLOAD_TEXT_CHARS {
            return self.say(line, at, format!("has a text longer than {MAX_UPLOAD_TEXT_CHARS} characters"));
        }
        if let Some((line, name)) = self.text(test, at, "name", 1)
            && name.chars().count() > MAX_NAME_CHARS
        {
            self.say(line, &field(at, "name"), format!("must be no longer than {MAX_NAME_CHARS} characters"));
        }
        self.text(test, at, "description", 1);
        if let Some(node) = test.get("test_number")
            && node.text().is_none()
            && !node.is_null()
        {
            self.say(node.line, &field(at, "test_number"), "must be a text");
        }
        let platforms = self.platforms(at, test);
        let commands = self.executor(at, test, &platforms);
        let dependencies = self.dependencies(at, test);
        self.dependency_executor(at, test, dependencies.is_empty());
        let used = placeholders(commands.into_iter().chain(dependencies));
        self.arguments(at, test, &used);
        self.guid(at, test, guids);
    }

    /// A text that must be there, with its line.
    fn text<'a>(&mut self, of: &'a Node, at: &str, key: &str, min_chars: usize) -> Option<(u32, &'a str)> {
        let field = field(at, key);
        let Some(node) = of.get(key) else {
            self.say(of.line, &field, "is missing");
            return None;
        };
        match node.text() {
            Some(text) if text.trim().is_empty() => self.say(node.line, &field, "must not be empty"),
            Some(text) if text.chars().count() < min_chars => {
                self.say(node.line, &field, format!("must have at least {min_chars} characters"));
            }
            Some(text) => return Some((node.line, text)),
            None if node.is_null() => self.say(node.line, &field, "must not be empty"),
            None => self.say(node.line, &field, "must be a text; put it in quotes"),
        }
        None
    }

    /// A text or nothing.
    fn optional_text<'a>(&mut self, of: &'a Node, at: &str, key: &str) -> Option<&'a str> {
        let node = of.get(key)?;
        let text = node.text();
        if text.is_none() && !node.is_null() {
            self.say(node.line, &field(at, key), "must be a text; put it in quotes");
        }
        text
    }

    fn platforms<'a>(&mut self, at: &str, test: &'a Node) -> Vec<&'a str> {
        let at = field(at, "supported_platforms");
        let Some(node) = test.get("supported_platforms") else {
            self.say(test.line, &at, "is missing");
            return Vec::new();
        };
        let Some(list) = node.list().filter(|list| !list.is_empty()) else {
            self.say(node.line, &at, "must be a list of at least one platform");
            return Vec::new();
        };
        let mut platforms = Vec::new();
        for (index, node) in list.iter().enumerate() {
            match node.text().filter(|platform| PLATFORMS.contains(platform)) {
                Some(platform) => platforms.push(platform),
                None => {
                    let problem = format!("must be one of {}", PLATFORMS.join(", "));
                    self.say(node.line, &format!("{at}[{index}]"), problem);
                }
            }
        }
        platforms
    }

    /// Tells the texts in which placeholders may be.
    fn executor<'a>(&mut self, at: &str, test: &'a Node, platforms: &[&str]) -> Vec<&'a str> {
        let at = field(at, "executor");
        let Some(executor) = test.get("executor") else {
            self.say(test.line, &at, "is missing");
            return Vec::new();
        };
        if !executor.is_map() {
            self.say(executor.line, &at, "must be a map with name and command, or name and steps");
            return Vec::new();
        }
        let elevated = match executor.get("elevation_required") {
            None => false,
            Some(node) => flag(&node.to_json()).unwrap_or_else(|| {
                self.say(node.line, &field(&at, "elevation_required"), "must be true or false");
                true
            }),
        };
        let name = self.text(executor, &at, "name", 1);
        if let Some((line, name)) = name
            && !EXECUTORS.contains(&name)
        {
            self.say(line, &field(&at, "name"), format!("must be one of {}", EXECUTORS.join(", ")));
        }
        if name.is_some_and(|(_, name)| name == MANUAL) {
            let steps = self.text(executor, &at, "steps", MIN_STEPS_CHARS);
            return steps.into_iter().map(|(_, steps)| steps).collect();
        }
        let command = self.text(executor, &at, "command", 1).map(|(_, command)| command);
        let cleanup = self.optional_text(executor, &at, "cleanup_command");
        let commands: Vec<_> = command.into_iter().chain(cleanup).collect();
        if !elevated && needs_elevation(platforms, commands.iter().copied()) {
            let line = executor.get("elevation_required").map_or(executor.line, |node| node.line);
            self.say(line, &field(&at, "elevation_required"), "must be true, for a command uses sudo");
        }
        commands
    }

    /// Tells the texts in which placeholders may be.
    fn dependencies<'a>(&mut self, at: &str, test: &'a Node) -> Vec<&'a str> {
        let Some(node) = test.get("dependencies").filter(|node| !node.is_null()) else {
            return Vec::new();
        };
        let at = field(at, "dependencies");
        let Some(list) = node.list() else {
            self.say(node.line, &at, "must be a list");
            return Vec::new();
        };
        let mut commands = Vec::new();
        for (index, dependency) in list.iter().enumerate() {
            let at = format!("{at}[{index}]");
            if !dependency.is_map() {
                let problem = "must be a map with description, prereq_command and get_prereq_command";
                self.say(dependency.line, &at, problem);
                continue;
            }
            self.text(dependency, &at, "description", 1);
            commands.extend(self.text(dependency, &at, "prereq_command", 1).map(|(_, command)| command));
            if dependency.get("get_prereq_command").is_none() {
                self.say(
                    dependency.line,
                    &field(&at, "get_prereq_command"),
                    "is missing; leave it empty if there is none",
                );
            }
            commands.extend(self.optional_text(dependency, &at, "get_prereq_command"));
        }
        commands
    }

    fn dependency_executor(&mut self, at: &str, test: &Node, alone: bool) {
        let Some(entry) = test.entry("dependency_executor_name") else {
            return;
        };
        let at = field(at, "dependency_executor_name");
        match entry.value.text().filter(|name| EXECUTORS.contains(name)) {
            Some(_) if alone => self.say(entry.line, &at, "is not needed without dependencies; take it away"),
            Some(_) => {}
            None => {
                let problem = format!("must be one of {}, or not be there", EXECUTORS.join(", "));
                self.say(entry.value.line, &at, problem);
            }
        }
    }

    fn arguments(&mut self, at: &str, test: &Node, used: &[&str]) {
        let at = field(at, "input_arguments");
        let (line, arguments): (u32, &[Entry]) = match test.entry("input_arguments") {
            None => (test.line, &[]),
            Some(entry) => match &entry.value.content {
                Content::Map(arguments) => (entry.line, arguments),
                Content::Null => return self.say(entry.line, &at, "must not be empty; take it away"),
                _ => return self.say(entry.value.line, &at, "must be a map of names and arguments"),
            },
        };
        let declared: HashSet<_> = arguments.iter().map(|argument| argument.key.as_str()).collect();
        for name in used.iter().filter(|name| !declared.contains(**name)) {
            let problem = format!("has no `{}`, which a command uses", shown(name));
            self.say(line, &at, problem);
        }
        let used: HashSet<_> = used.iter().copied().collect();
        for entry in arguments {
            let at = field(&at, &shown(&entry.key));
            if !is_argument_name(&entry.key) {
                let problem = format!(
                    "its name must have at least {MIN_ARGUMENT_CHARS} characters and nothing but letters, digits, _ and -"
                );
                self.say(entry.line, &at, problem);
            } else if !used.contains(entry.key.as_str()) {
                self.say(entry.line, &at, "is used in none of the commands");
            }
            self.argument(&at, entry);
        }
    }

    fn argument(&mut self, at: &str, entry: &Entry) {
        let argument = &entry.value;
        if !argument.is_map() {
            return self.say(entry.line, at, "must be a map with description, type and default");
        }
        match argument.get("description") {
            None => self.say(entry.line, &field(at, "description"), "is missing"),
            Some(node) if node.text().is_none() => {
                self.say(node.line, &field(at, "description"), "must be a text; put it in quotes");
            }
            Some(_) => {}
        }
        let Some((line, name)) = self.text(argument, at, "type", 1) else {
            return;
        };
        let Some(kind) = argument_type(name) else {
            let problem = format!("must be one of {}", ARGUMENT_TYPES.join(", "));
            return self.say(line, &field(at, "type"), problem);
        };
        match argument.get("default") {
            None => self.say(entry.line, &field(at, "default"), "is missing; leave it empty if there is none"),
            Some(node) => {
                if let Some(problem) = default_problem(kind, &node.to_json()) {
                    self.say(node.line, &field(at, "default"), problem);
                }
            }
        }
    }

    fn guid(&mut self, at: &str, test: &Node, guids: &mut HashSet<Uuid>) {
        let Some(node) = test.get("auto_generated_guid").filter(|node| !node.is_null()) else {
            return;
        };
        let at = field(at, "auto_generated_guid");
        match node.text().and_then(|text| Uuid::parse_str(text).ok()) {
            None => self.say(node.line, &at, "must be a UUID, or not be there"),
            Some(guid) if !guids.insert(guid) => {
                self.say(node.line, &at, "another test of this file has it; take it away");
            }
            Some(_) => {}
        }
    }
}

fn field(at: &str, key: &str) -> String {
    match at {
        "" => key.to_owned(),
        at => format!("{at}.{key}"),
    }
}

/// A stranger's text, fit to be told.
fn shown(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(60).collect()
}

/// The type in lower case; only its first letter may be upper case.
fn argument_type(name: &str) -> Option<&'static str> {
    ARGUMENT_TYPES.into_iter().find(|known| known.eq_ignore_ascii_case(name) && known[1..] == name[1..])
}

fn default_problem(kind: &str, default: &Value) -> Option<&'static str> {
    match (kind, default) {
        (_, Value::Null) | ("string" | "path", Value::String(_)) => None,
        ("string" | "path", _) => Some("must be a text; put it in quotes"),
        ("integer", Value::Number(number)) if number.as_f64().is_some_and(|number| number.fract() == 0.0) => None,
        ("integer", Value::String(text)) if text.trim().parse::<i64>().is_ok() => None,
        ("integer", _) => Some("must be a whole number"),
        ("float", Value::Number(_)) => None,
        ("float", _) => Some("must be a number"),
        (_, Value::String(text)) if is_address(text) => None,
        _ => Some("must be a URL, a domain or an IP address"),
    }
}

fn is_address(text: &str) -> bool {
    is_domain(text) || text.parse::<IpAddr>().is_ok() || Url::parse(text).is_ok()
}

fn is_domain(text: &str) -> bool {
    let inner = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'-';
    let label = |label: &str| {
        let bytes = label.as_bytes();
        let ends = |at: Option<&u8>| at.is_some_and(|c| *c != b'-');
        bytes.len() <= 63 && bytes.iter().all(|c| inner(*c)) && ends(bytes.first()) && ends(bytes.last())
    };
    match text.rsplit_once('.') {
        Some((labels, last)) => last.len() >= 2 && label(last) && labels.split('.').all(label),
        None => false,
    }
}

#[cfg(test)]
#[path = "atomic_upload_tests.rs"]
mod tests;
