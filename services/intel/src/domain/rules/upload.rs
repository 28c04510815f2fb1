//! Sigma rules that a person brings: read strictly, and everything that is wrong is told with its line.

use std::collections::HashSet;

use super::collected::{derived_id, settle};
use super::sigma::{self, Inherited, MAX_CONTENT};
use super::validate::validate;
use crate::domain::knowledge::{KnowledgeRecord, LinkRecord};
use crate::domain::upload::UploadProblem;
use crate::domain::yaml::{self, Document};

/// Bytes of a file that a person brings.
pub const MAX_UPLOAD_BYTES: usize = 512 * 1024;
/// Rules in a file that a person brings.
pub const MAX_UPLOAD_DOCUMENTS: usize = sigma::MAX_DOCUMENTS;
/// Problems that are told of a file.
const MAX_PROBLEMS: usize = 1_000;

/// Reads a Sigma file of one or more documents. The rules with nothing wrong are in the answer under `custom:<id>`, with
/// a link to each technique that they name; whether the rest stops them is for the caller to say. What the file is
/// called is no content: the same rule in another file is the same.
pub fn parse_upload(bytes: &[u8]) -> (Vec<(KnowledgeRecord, Vec<LinkRecord>)>, Vec<UploadProblem>) {
    let mut rules = Vec::new();
    let mut problems = Vec::new();
    let text = match yaml::file_text(bytes, MAX_UPLOAD_BYTES) {
        Ok(text) => text,
        Err(unreadable) => return (rules, vec![unreadable.into()]),
    };
    let slices = yaml::documents(text);
    if slices.is_empty() {
        return (rules, vec![UploadProblem::of_file("the file holds no rule")]);
    }
    if slices.len() > MAX_UPLOAD_DOCUMENTS {
        let count = slices.len();
        let problem = format!("the file holds {count} documents; {MAX_UPLOAD_DOCUMENTS} are allowed");
        return (rules, vec![UploadProblem::of_file(problem)]);
    }
    let several = slices.len() > 1;
    let mut inherited = Inherited::new(several);
    let mut ids = HashSet::new();
    let mut kept = 0;
    for slice in slices {
        let Document { root, repeated } = match yaml::parse(slice) {
            Ok(document) => document,
            Err(unreadable) => {
                problems.push(unreadable.into());
                continue;
            }
        };
        let before = problems.len();
        let line = root.line;
        problems.extend(repeated);
        let Some((root, content)) = inherited.take(root, slice.text) else {
            continue;
        };
        kept += content.len();
        if kept > MAX_CONTENT {
            problems.push(UploadProblem::at(line, "", "what the documents give to one another is too large"));
            break;
        }
        validate(&root, &mut problems);
        let id = match root.said("id") {
            Some(id) => id.to_ascii_lowercase(),
            None => derived_id(&["custom", content.trim()]),
        };
        if !ids.insert(id.clone()) {
            let line = root.get("id").map_or(line, |node| node.line);
            problems.push(UploadProblem::at(line, "id", "another rule of this file has the same"));
        }
        if let Some((mut record, techniques)) = sigma::rule(&root)
            && problems.len() == before
        {
            record.content = Some(content);
            rules.push(settle("custom", id, record, &techniques));
        }
        if problems.len() >= MAX_PROBLEMS {
            problems.truncate(MAX_PROBLEMS);
            break;
        }
    }
    if rules.is_empty() && problems.is_empty() {
        problems.push(UploadProblem::of_file("the file holds no rule"));
    }
    (rules, problems)
}
