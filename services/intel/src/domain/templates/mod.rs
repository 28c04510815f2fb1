//! Ready-made tests: Atomic Red Team, Caldera's abilities and LOLBAS read into templates, and templates written as
//! Atomic Red Team's own YAML.

mod atomic;
mod atomic_model;
mod atomic_upload;
mod atomic_yaml;
mod caldera;
mod lolbas;

#[cfg(test)]
mod real_data_tests;

use std::collections::HashSet;

pub use atomic::AtomicReader;
pub use atomic_upload::{MAX_UPLOAD_BYTES, MAX_UPLOAD_TESTS, MAX_UPLOAD_TEXT_CHARS, parse_upload};
pub use atomic_yaml::{Exported, write_technique};
pub use caldera::CalderaReader;
pub use lolbas::LolbasReader;

use super::knowledge::{Knowledge, ReadError, Skips, TemplateRecord, is_technique_id, platform};
use super::yaml::{self, Node};

/// One file of a publisher; the largest real one has 180 kB.
const MAX_FILE_BYTES: usize = 1024 * 1024;
/// One text of a publisher; the longest real one has less than 7,000.
const MAX_TEXT_CHARS: usize = 65_536;
const MAX_NAME_CHARS: usize = 500;
/// Nothing says how bad it is when a test goes unseen.
const SEVERITY: &str = "medium";

/// A test that cannot be read: its id or path, and why.
type Unread = (String, String);

/// What the readers of folders of YAML files have in common.
#[derive(Default)]
struct Collected {
    files: u64,
    ids: HashSet<String>,
    templates: Vec<TemplateRecord>,
    skipped: Skips,
}

impl Collected {
    /// The file as a tree, else skipped.
    fn open(&mut self, path: &str, bytes: &[u8]) -> Option<Node> {
        self.files += 1;
        match yaml::file_text(bytes, MAX_FILE_BYTES).and_then(yaml::parse_only) {
            Ok(document) => Some(document.root),
            Err(unreadable) => {
                self.skipped.add(path, unreadable.to_string());
                None
            }
        }
    }

    fn add(&mut self, read: Result<TemplateRecord, Unread>) {
        let template = match read {
            Ok(template) => template,
            Err((id, reason)) => return self.skipped.add(id, reason),
        };
        if template.name.chars().count() > MAX_NAME_CHARS {
            return self
                .skipped
                .add(template.source_id, format!("its name is longer than {MAX_NAME_CHARS} characters"));
        }
        match self.ids.insert(template.source_id.clone()) {
            true => self.templates.push(template),
            false => {
                let reason = format!("another test has the same id; this one is `{}`", template.name);
                self.skipped.add(template.source_id, reason);
            }
        }
    }

    fn finish(self, publisher: &str, folder: &str) -> Result<Knowledge, ReadError> {
        if self.templates.is_empty() {
            let why = match (self.files, self.skipped.first.first()) {
                (0, _) => format!("it has no files in `{folder}`"),
                (files, Some(skip)) => {
                    format!("nothing in its {files} files can be read; the first is {}: {}", skip.id, skip.reason)
                }
                (files, None) => format!("its {files} files hold no test"),
            };
            let message = format!("the document is not {publisher}: {why}. Check the data source's url");
            return Err(ReadError(message));
        }
        Ok(Knowledge { templates: self.templates, skipped: self.skipped, ..Knowledge::default() })
    }
}

/// The technique's id out of a publisher's text, if it is one.
fn technique_id(text: &str) -> Option<String> {
    let id = text.trim();
    is_technique_id(id).then(|| id.to_owned())
}

/// Platforms in the one spelling, each once, in their order.
fn platforms<'a>(raw: impl IntoIterator<Item = &'a str>) -> Vec<String> {
    let mut platforms: Vec<String> = Vec::new();
    for platform in raw.into_iter().filter_map(platform) {
        if !platforms.contains(&platform) {
            platforms.push(platform);
        }
    }
    platforms
}

/// A text without blank ends and lines, if anything is left of it.
fn block(text: &str) -> Option<String> {
    let text = text.trim_end().trim_start_matches(['\n', '\r']);
    (!text.trim().is_empty()).then(|| text.to_owned())
}

fn too_long(node: &Node) -> Option<String> {
    let (chars, line) = node.longest_text();
    (chars > MAX_TEXT_CHARS).then(|| format!("the text of line {line} is longer than {MAX_TEXT_CHARS} characters"))
}

/// The parts of a path inside an archive, the last first.
fn parts(path: &str) -> impl Iterator<Item = &str> {
    path.rsplit('/')
}

fn is_yaml(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    (name.ends_with(".yml") || name.ends_with(".yaml")) && !name.starts_with('.')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_of_techniques() {
        assert_eq!(technique_id(" T1564.001").as_deref(), Some("T1564.001"));
        assert_eq!(technique_id("T1059").as_deref(), Some("T1059"));
        assert_eq!(technique_id("T1059.1"), None);
    }

    #[test]
    fn a_block_keeps_its_indentation() {
        assert_eq!(block("\n  a\n b\n\n").as_deref(), Some("  a\n b"));
        assert_eq!(block(" \n"), None);
    }
}
