//! Files of rules and templates that people bring in: from the body of a request to the service.

use aegis_error::{Code, Failure};
use aegis_proto::intel::v1::{ImportFile, ImportFileRequest, ImportFileResponse, import_file_request::Part};
use axum::extract::Request;
use bytes::Bytes;
use futures::{Stream, stream};
use http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::{
    answer::Answer,
    error::Problem,
    extract::{is_type, read},
};

/// Bytes of a file at most.
const MAX_BYTES: usize = 16 * 1024 * 1024;
/// Bytes of a message.
const CHUNK: usize = 1024 * 1024;
/// What a file may be said to be; what it is is told by its bytes.
const TYPES: &[&str] = &[
    "application/yaml",
    "application/x-yaml",
    "text/yaml",
    "text/x-yaml",
    "text/plain",
    "application/octet-stream",
    "application/zip",
    "application/gzip",
    "application/zstd",
    "application/x-tar",
];

/// How a file is brought in.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct ImportQuery {
    /// The file's name, for the answer.
    #[param(example = "rules.zip", max_length = 255)]
    filename: Option<String>,
    /// Say what would come of it, and change nothing.
    #[param(default = false)]
    dry_run: Option<bool>,
}

impl ImportQuery {
    /// Whether nothing is to change.
    pub fn dry_run(&self) -> bool {
        self.dry_run.unwrap_or(false)
    }
}

/// What came of a file.
#[derive(Serialize, ToSchema)]
#[schema(example = json!({
    "created": 1, "updated": 0, "unchanged": 0, "refused": 1,
    "problems": [{"path": "rules/other.yml", "line": 7, "field": "level", "problem": "must be one of low, high …"}],
    "keys": ["custom:5b1a3f52-9a4f-4a54-9d0e-6f1f7f6f3c11"], "dry_run": false
}))]
pub struct ImportResult {
    created: i64,
    updated: i64,
    unchanged: i64,
    /// Records that were not taken.
    refused: i64,
    /// Why, of the first hundred.
    problems: Vec<ImportProblem>,
    /// What is there now, the first thousand: keys of rules, source ids of templates.
    keys: Vec<String>,
    /// Nothing was changed.
    dry_run: bool,
}

/// Why a record was not taken.
#[derive(Serialize, ToSchema)]
#[schema(example = json!({"path": "rules/other.yml", "line": 7, "field": "level", "problem": "must be one of low, high …"}))]
pub struct ImportProblem {
    path: String,
    /// 1 for the first; null where it is about the whole file.
    line: Option<i32>,
    field: Option<String>,
    problem: String,
}

/// The messages that bring the body of a request to the service.
pub async fn messages(
    query: ImportQuery,
    request: Request,
    default_name: &str,
) -> Result<impl Stream<Item = ImportFileRequest> + Send + 'static, Problem> {
    if !TYPES.iter().any(|wanted| is_type(request.headers(), wanted)) {
        let text = "the Content-Type must be application/yaml, or that of an archive such as application/zip";
        return Err(Failure::new(Code::UnsupportedMediaType, text).into());
    }
    let dry_run = query.dry_run();
    let name = query.filename.filter(|name| !name.is_empty()).unwrap_or_else(|| default_name.to_owned());
    if name.chars().count() > 255 {
        return Err(Problem::invalid("filename", "must have at most 255 characters"));
    }
    let mut body: Bytes = read(request.into_body(), MAX_BYTES).await?;
    if body.is_empty() {
        return Err(Problem::invalid("body", "is empty: send the file's bytes, such as with curl --data-binary @file"));
    }
    let head = Part::File(ImportFile { name, dry_run });
    let mut parts = vec![ImportFileRequest { part: Some(head) }];
    while !body.is_empty() {
        let chunk = body.split_to(body.len().min(CHUNK));
        parts.push(ImportFileRequest { part: Some(Part::Chunk(chunk.into())) });
    }
    Ok(stream::iter(parts))
}

/// The answer to a file that was brought in.
pub fn imported(answer: ImportFileResponse, dry_run: bool) -> Result<Answer, Problem> {
    let problems = answer.problems.into_iter().map(|problem| ImportProblem {
        path: problem.path,
        line: Some(problem.line).filter(|line| *line > 0),
        field: Some(problem.field).filter(|field| !field.is_empty()),
        problem: problem.problem,
    });
    let result = ImportResult {
        created: answer.created,
        updated: answer.updated,
        unchanged: answer.unchanged,
        refused: answer.refused,
        problems: problems.collect(),
        keys: answer.keys,
        dry_run,
    };
    let status = if dry_run { StatusCode::OK } else { StatusCode::CREATED };
    Ok(Answer::json(&result)?.status(status))
}
