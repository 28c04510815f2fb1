//! Reads Sigma's rules as they are published.

use serde_json::{Map, Value, json};

use super::collected::{
    Collected, Rule, add_once, is_invisible, iso_date, name, place, publisher_id, put, tactic, technique_id,
};
use crate::domain::knowledge::{Kind, Knowledge, KnowledgeRecord, ReadError, Reader, SEVERITIES, platform};
use crate::domain::yaml::{self, Document, Node};

const NOTHING: &str = "no Sigma rule could be read. Point the source's url at a release archive of SigmaHQ/sigma, with the folder rules in it.";

/// Documents in one file.
pub(super) const MAX_DOCUMENTS: usize = 100;
/// Bytes that the rules of one file may have together, with what the documents give to one another.
pub(super) const MAX_CONTENT: usize = 4 * 1024 * 1024;

/// Reads an archive of Sigma rules.
#[derive(Default)]
pub struct SigmaReader {
    collected: Collected,
}

/// The publisher's folders of rules; the last two are of those that are no longer kept up.
fn is_root(folder: &str) -> bool {
    folder == "rules" || folder.starts_with("rules-") || matches!(folder, "deprecated" | "unsupported")
}

impl Reader for SigmaReader {
    fn wants(&self, path: &str) -> bool {
        (path.ends_with(".yml") || path.ends_with(".yaml")) && place(path, is_root).is_some()
    }

    fn file(&mut self, path: &str, bytes: &[u8]) -> Result<(), ReadError> {
        let (around, place) = place(path, is_root).unwrap_or((None, path));
        if self.collected.upstream_version.is_none() {
            // A release's archive has one folder around everything, `sigma-r2025-11-01`.
            let release = around.and_then(|folder| folder.strip_prefix("sigma-"));
            self.collected.upstream_version =
                release.filter(|name| name.strip_prefix('r').is_some_and(starts_with_digit)).map(str::to_owned);
        }
        let Some(text) = self.collected.text(place, bytes) else {
            return Ok(());
        };
        let withdrawn = place.starts_with("deprecated/") || place.starts_with("unsupported/");
        let slices = yaml::documents(text);
        if slices.len() > MAX_DOCUMENTS {
            let reason = format!("it has {} documents; {MAX_DOCUMENTS} are allowed", slices.len());
            self.collected.skipped.add(place, reason);
            return Ok(());
        }
        let several = slices.len() > 1;
        let mut inherited = Inherited::new(several);
        let mut kept = 0;
        for (number, slice) in (1..).zip(slices) {
            let place = if several { format!("{place}#{number}") } else { place.to_owned() };
            let Document { root, .. } = match yaml::parse(slice) {
                Ok(document) => document,
                Err(unreadable) => {
                    self.collected.skipped.add(place, unreadable.to_string());
                    continue;
                }
            };
            let Some((root, content)) = inherited.take(root, slice.text) else {
                continue;
            };
            kept += content.len();
            if kept > MAX_CONTENT {
                self.collected.skipped.add(place, "what its documents give to one another is too large");
                break;
            }
            let Some((mut record, techniques)) = rule(&root) else {
                self.collected.skipped.add(place, "it is no rule: it has no title");
                continue;
            };
            record.deprecated |= withdrawn;
            record.url =
                Some(format!("https://github.com/SigmaHQ/sigma/blob/master/{}", place.split('#').next().unwrap_or("")));
            record.content = Some(content);
            put(&mut record.attributes, "path", place.clone());
            let id = root.said("id").and_then(publisher_id);
            self.collected.add(Rule { id, place, record, techniques })?;
        }
        Ok(())
    }

    fn finish(self: Box<Self>) -> Result<Knowledge, ReadError> {
        self.collected.finish("sigma", NOTHING)
    }
}

fn starts_with_digit(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_digit())
}

/// What the documents of one file give to the ones after them, by their `action`.
pub(super) struct Inherited<'a> {
    /// Whether documents come after one another at all: nothing else needs a copy.
    several: bool,
    global: Option<(Node, &'a str)>,
    last: Option<(Node, String)>,
}

impl<'a> Inherited<'a> {
    pub(super) fn new(several: bool) -> Self {
        Inherited { several, global: None, last: None }
    }

    /// The document with what it inherits, and its text with theirs; `None` for one that is no rule itself.
    pub(super) fn take(&mut self, root: Node, text: &'a str) -> Option<(Node, String)> {
        let action = root.said("action").map(str::to_ascii_lowercase);
        let (base, before) = match action.as_deref() {
            Some("global") => {
                self.global = Some((root, text));
                return None;
            }
            Some("reset") => {
                self.global = None;
                return None;
            }
            Some("repeat") => match &self.last {
                Some((node, text)) => (Some(node), Some(text.as_str())),
                None => (None, None),
            },
            _ => match &self.global {
                Some((node, text)) => (Some(node), Some(*text)),
                None => (None, None),
            },
        };
        let content = match before {
            // A rule that others complete means nothing without them.
            Some(before) => format!("{}\n---\n{}", before.trim_end(), text.trim_start_matches(['\n', '\r'])),
            None => text.to_owned(),
        };
        let root = match base {
            Some(base) => root.over(base),
            None => root,
        };
        if self.several {
            self.last = Some((root.clone(), content.clone()));
        }
        Some((root, content))
    }
}

/// The record of a rule, without its key, and the techniques that it detects. `None` without a title.
pub(super) fn rule(root: &Node) -> Option<(KnowledgeRecord, Vec<String>)> {
    let mut record = KnowledgeRecord::new(Kind::DetectionRule, "", "", name(root.said("title")?)?);
    record.description = root.said("description").map(str::to_owned);
    let level = root.said("level").map(str::to_ascii_lowercase);
    record.severity =
        Some(level.filter(|level| SEVERITIES.contains(&level.as_str())).unwrap_or_else(|| "medium".to_owned()));
    record.status = root.said("status").map(str::to_ascii_lowercase);
    record.deprecated = matches!(record.status.as_deref(), Some("deprecated" | "unsupported"));

    let (mut techniques, mut tactics, mut tags) = (Vec::new(), Vec::new(), Vec::new());
    for tag in root.all_said("tags") {
        let tag: String = tag.chars().filter(|c| !is_invisible(*c)).collect::<String>().trim().to_ascii_lowercase();
        if let Some(name) = tag.strip_prefix("attack.") {
            if let Some(technique) = technique_id(name) {
                add_once(&mut techniques, technique);
            } else if let Some(tactic) = tactic(name) {
                add_once(&mut tactics, tactic);
            }
        }
        add_once(&mut tags, tag);
    }

    let logsource = root.get("logsource");
    let source = |key: &str| logsource.and_then(|node| node.said(key));
    let product = source("product").map(str::to_ascii_lowercase);
    record.platforms = product.iter().filter_map(|product| product_platform(product, source("service"))).collect();

    let attributes = &mut record.attributes;
    put(attributes, "rule_format", "sigma");
    let mut about = Map::new();
    for key in ["category", "product", "service", "definition"] {
        put(&mut about, key, source(key));
    }
    put(attributes, "logsource", about);
    put(attributes, "author", root.all_said("author").join(", "));
    put(attributes, "license", root.said("license"));
    put(attributes, "date", root.said("date").and_then(iso_date));
    put(attributes, "modified", root.said("modified").and_then(iso_date));
    for key in ["references", "falsepositives", "fields"] {
        put(attributes, key, root.all_said(key));
    }
    put(attributes, "tactics", tactics);
    put(attributes, "tags", tags);
    put(attributes, "related", related(root));
    Some((record, techniques))
}

/// Rules that it has to do with: what their ids are, and how.
fn related(root: &Node) -> Vec<Value> {
    let pair = |item: &Node| Some(json!({"id": publisher_id(item.said("id")?)?, "type": item.said("type")?}));
    root.get("related").and_then(Node::list).unwrap_or_default().iter().filter_map(pair).collect()
}

/// The ATT&CK platform of a log source's product, if it is of one.
fn product_platform(product: &str, service: Option<&str>) -> Option<String> {
    let known = match product {
        "windows" | "linux" | "macos" => product,
        "rpc_firewall" => "windows",
        "azure" if matches!(service, Some("signinlogs" | "auditlogs" | "riskdetection" | "pim")) => "identity provider",
        "aws" | "azure" | "gcp" => "iaas",
        "okta" | "onelogin" => "identity provider",
        "m365" | "google_workspace" => "office suite",
        "github" | "bitbucket" => "saas",
        "kubernetes" => "containers",
        "esxi" => "esxi",
        "cisco" | "juniper" | "huawei" | "fortios" | "fortigate" | "paloalto" => "network devices",
        "darwin" | "osx" => "macos",
        // A product such as a web framework is no platform.
        _ => return None,
    };
    platform(known)
}
