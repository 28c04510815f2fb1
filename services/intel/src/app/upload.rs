//! Files of rules and templates that people bring in, and templates as a file that they take out.

use std::{
    collections::{BTreeMap, HashSet},
    io::Write,
    sync::Arc,
};

use aegis_auth::{OpCtx, Role};
use aegis_error::{Code, Failure, Fields};
use aegis_events::{Audit, Claim};
use aegis_proto::catalog::v1::{ListTechniquesRequest, ListTemplatesRequest, Template};
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};
use tempfile::{NamedTempFile, TempPath};
use tracing::Instrument;

use super::{
    App,
    apply::{Import, apply},
    progress::Progress,
    scan::cut,
};
use crate::{
    domain::{
        counts::Tally,
        knowledge::{Knowledge, TemplateRecord},
        rules,
        source::CUSTOM,
        templates::{self, Exported},
        upload::UploadProblem,
    },
    error::Error,
    fetch::{self, Document, FetchError, FetchLimits, Format, Visitor},
};

/// Bytes of a file that a person brings, packed or not.
pub(crate) const MAX_UPLOAD_BYTES: u64 = 16 * 1024 * 1024;
/// Bytes of all that is in it.
const MAX_UNPACKED_BYTES: u64 = 128 * 1024 * 1024;
/// Files of an archive.
const MAX_FILES: usize = 2000;
/// Problems that are told.
const MAX_PROBLEMS: usize = 100;
/// Keys that are told.
const MAX_KEYS: usize = 1000;
/// Characters of a file's name.
const MAX_NAME: usize = 255;
/// Characters of a file's path in an archive.
const MAX_PATH: usize = 500;
/// Templates and techniques of one page of the catalog.
const PAGE: i32 = 1000;
/// Templates of one export.
const MAX_EXPORTED: usize = 50_000;

/// What a file is brought in as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum UploadKind {
    /// Detection rules, in Sigma's YAML.
    Rules,
    /// Templates, in Atomic Red Team's YAML.
    Templates,
}

impl UploadKind {
    fn roles(self) -> &'static [Role] {
        match self {
            UploadKind::Rules => &[Role::RedLead, Role::BlueLead, Role::BlueTech, Role::Admin],
            UploadKind::Templates => &[Role::Admin],
        }
    }

    fn action(self) -> &'static str {
        match self {
            UploadKind::Rules => "import_rules",
            UploadKind::Templates => "import_templates",
        }
    }

    /// The name of its records in the catalog's counts.
    fn record(self) -> &'static str {
        match self {
            UploadKind::Rules => "detection_rule",
            UploadKind::Templates => "template",
        }
    }
}

/// A file as it comes in.
pub(crate) struct Upload {
    kind: UploadKind,
    name: String,
    dry_run: bool,
    file: NamedTempFile,
    bytes: u64,
    hash: Sha256,
}

/// One thing that is wrong with a file, and in which file of an archive.
#[derive(Debug)]
pub(crate) struct PathProblem {
    pub path: String,
    pub problem: UploadProblem,
}

/// What became of a file.
#[derive(Debug, Default)]
pub(crate) struct Uploaded {
    pub tally: Tally,
    /// The first of them.
    pub problems: Vec<PathProblem>,
    /// Files in which something was wrong.
    pub refused: i64,
    /// The first of them.
    pub keys: Vec<String>,
}

/// One document of an export.
pub(crate) struct ExportedFile {
    pub path: String,
    pub text: String,
}

impl App {
    /// Makes room for a file, if its bringer may bring it.
    pub(crate) async fn begin_upload(
        &self,
        ctx: &OpCtx,
        kind: UploadKind,
        name: &str,
        dry_run: bool,
    ) -> Result<Upload, Error> {
        ctx.require(kind.roles())?;
        let mut fields = Fields::default();
        fields.text("name", name, 1, MAX_NAME);
        fields.check(!name.chars().any(char::is_control), "name", "must have no control characters");
        fields.finish()?;
        let spool = self.0.limits.spool_dir.clone().unwrap_or_else(std::env::temp_dir);
        let made =
            tokio::task::spawn_blocking(move || tempfile::Builder::new().prefix("aegis-upload-").tempfile_in(spool));
        let file = made.await.map_err(Error::fault)?.map_err(Error::fault)?;
        // Whatever folders the bringer's machine has.
        let name = name.rsplit(['/', '\\']).next().unwrap_or(name).to_owned();
        Ok(Upload { kind, name, dry_run, file, bytes: 0, hash: Sha256::new() })
    }

    /// Takes the file in, once it is here.
    pub(crate) async fn finish_upload(&self, ctx: &OpCtx, upload: Upload) -> Result<Uploaded, Error> {
        let Upload { kind, name, dry_run, file, bytes, hash } = upload;
        if bytes == 0 {
            return Err(Failure::invalid("file", "is empty").into());
        }
        if let Some(claim) = Claim::of(ctx) {
            let hash: String = hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
            claim.is_about(&[&name, if dry_run { "dry run" } else { "" }, &hash]);
            if claim.is_repeat() {
                return Err(Claim::taken().into());
            }
        }
        let limits = FetchLimits {
            max_download_bytes: MAX_UPLOAD_BYTES,
            max_unpacked_bytes: MAX_UNPACKED_BYTES,
            max_file_bytes: MAX_UPLOAD_BYTES,
            ..self.0.limits.clone()
        };
        let (path, called) = (file.into_temp_path(), name.clone());
        let reading = tokio::task::spawn_blocking(move || read(kind, path, &called, &limits));
        let (read, single) = reading.await.map_err(Error::fault)??;
        if single && !read.problems.is_empty() {
            return Err(refused(read.problems).into());
        }
        let keys = read.keys();
        let mut uploaded = Uploaded {
            refused: i64::try_from(read.refused.len()).unwrap_or(i64::MAX),
            keys: keys.iter().take(MAX_KEYS).cloned().collect(),
            problems: read.problems,
            ..Uploaded::default()
        };
        if keys.is_empty() {
            return Ok(uploaded);
        }
        let import = Import {
            source: CUSTOM.to_owned(),
            origin: CUSTOM.to_owned(),
            partial: true,
            dry_run,
            knowledge: read.knowledge,
            ..Import::default()
        };
        // Of its own: what the catalog took in gets its audit record when the caller leaves, too.
        let (app, ctx) = (self.clone(), ctx.clone());
        let taking = async move {
            let applied = apply(&app.0.catalog, &app.0.background, import, &Arc::new(Progress::default())).await?;
            uploaded.tally = applied.counts.kinds.get(kind.record()).copied().unwrap_or_default();
            if !dry_run {
                app.audit_upload(&ctx, kind, &name, &uploaded).await?;
            }
            Ok(uploaded)
        };
        self.0.syncs.spawn(taking.in_current_span()).await.map_err(Error::fault)?
    }

    async fn audit_upload(&self, ctx: &OpCtx, kind: UploadKind, name: &str, up: &Uploaded) -> Result<(), Error> {
        let mut tx = self.db().begin().await?;
        let audit = Audit {
            action: kind.action(),
            entity_type: kind.record(),
            entity_id: name.to_owned(),
            details: json!({
                "file": name,
                "created": up.tally.new,
                "updated": up.tally.updated,
                "unchanged": up.tally.unchanged,
                "refused": up.refused,
                "keys": up.keys.iter().take(MAX_PROBLEMS).collect::<Vec<_>>(),
            }),
        };
        self.outbox().audit(&mut tx, ctx, audit).await?;
        tx.commit().await?;
        Ok(())
    }

    /// Templates as Atomic Red Team's own YAML, one document a technique, in the order of their ids.
    pub(crate) async fn export_templates(
        &self,
        ctx: &OpCtx,
        mitre_technique_id: &str,
        source: &str,
    ) -> Result<Vec<ExportedFile>, Error> {
        ctx.user()?;
        let some = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        let (technique, source) = (some(mitre_technique_id), some(source));
        let mut by_technique: BTreeMap<String, Vec<(String, TemplateRecord)>> = BTreeMap::new();
        let (mut page_token, mut count) = (String::new(), 0);
        loop {
            let request = ListTemplatesRequest {
                page_size: PAGE,
                page_token,
                source: source.clone(),
                mitre_technique_id: technique.clone(),
                ..ListTemplatesRequest::default()
            };
            let answer = self.0.templates.clone().list_templates(ctx.outgoing(request)).await;
            let page = answer.map_err(Failure::from)?.into_inner();
            count += page.templates.len();
            if count > MAX_EXPORTED {
                let text = format!("there are more than {MAX_EXPORTED} templates: name a technique or a source");
                return Err(Failure::new(Code::TooLarge, text).into());
            }
            for template in page.templates {
                by_technique.entry(template.mitre_technique_id.clone()).or_default().push(record(template));
            }
            page_token = page.next_page_token;
            if page_token.is_empty() {
                break;
            }
        }
        let names = self.technique_names(ctx).await?;
        let writing = tokio::task::spawn_blocking(move || {
            let files = by_technique.iter().map(|(id, templates)| {
                let exported: Vec<Exported<'_>> =
                    templates.iter().map(|(source, template)| Exported { source, template }).collect();
                let name = names.get(id).map_or(id.as_str(), String::as_str);
                let text = templates::write_technique(id, name, &exported)?;
                Ok(ExportedFile { path: format!("{id}.yaml"), text })
            });
            files.collect::<Result<Vec<_>, Error>>()
        });
        writing.await.map_err(Error::fault)?
    }

    async fn technique_names(&self, ctx: &OpCtx) -> Result<BTreeMap<String, String>, Error> {
        let mut names = BTreeMap::new();
        let mut page_token = String::new();
        loop {
            let request = ListTechniquesRequest {
                page_size: PAGE,
                page_token,
                include_revoked: true,
                ..ListTechniquesRequest::default()
            };
            let answer = self.0.catalog.clone().list_techniques(ctx.outgoing(request)).await;
            let page = answer.map_err(Failure::from)?.into_inner();
            names.extend(page.techniques.into_iter().map(|technique| (technique.mitre_id, technique.name)));
            page_token = page.next_page_token;
            if page_token.is_empty() || names.len() > MAX_EXPORTED {
                return Ok(names);
            }
        }
    }
}

impl Upload {
    /// More bytes of it.
    pub(crate) async fn write(mut self, chunk: Vec<u8>) -> Result<Upload, Error> {
        self.bytes += chunk.len() as u64;
        if self.bytes > MAX_UPLOAD_BYTES {
            let text = format!("a file has at most {MAX_UPLOAD_BYTES} bytes");
            return Err(Failure::new(Code::TooLarge, text).into());
        }
        let writing = tokio::task::spawn_blocking(move || {
            self.hash.update(&chunk);
            self.file.write_all(&chunk).map(|()| self)
        });
        writing.await.map_err(Error::fault)?.map_err(Error::fault)
    }
}

/// Everything that is wrong with a file that is no archive.
fn refused(problems: Vec<PathProblem>) -> Failure {
    let mut fields = Fields::default();
    for PathProblem { path, problem } in problems.into_iter().take(MAX_PROBLEMS) {
        let text = match problem.field.is_empty() {
            true => problem.problem,
            false => format!("{}: {}", problem.field, problem.problem),
        };
        fields.add(format!("{path}:{}", problem.line), text);
    }
    fields.into_failure(Code::Unprocessable)
}

/// What was read of a file.
struct Read {
    kind: UploadKind,
    knowledge: Knowledge,
    /// The first of them.
    problems: Vec<PathProblem>,
    /// Files in which something is wrong.
    refused: HashSet<String>,
    /// Of the records so far: one of the name came already.
    seen: HashSet<String>,
    files: usize,
}

/// Reads the file, and says whether it is a single one.
fn read(kind: UploadKind, path: TempPath, name: &str, limits: &FetchLimits) -> Result<(Read, bool), Error> {
    let mut read = Read {
        kind,
        knowledge: Knowledge::default(),
        problems: Vec::new(),
        refused: HashSet::new(),
        seen: HashSet::new(),
        files: 0,
    };
    // A file of somebody who is told what is wrong with it, not of a data source.
    let wrong = |error: FetchError| {
        let text = error.public().replace(". Check the data source's url", ", and none that ends with .yml or .yaml");
        Failure::invalid("file", text.replace(": check the data source's url", "")).with_source(error)
    };
    let document = Document::sent(path, name, limits).map_err(wrong)?;
    let single = matches!(document.format, Format::Plain | Format::Zstd | Format::Gzip);
    match fetch::each(&document, limits, &mut read) {
        Ok(_) => Ok((read, single)),
        Err(Error::Fetch(error)) => Err(wrong(error).into()),
        Err(other) => Err(other),
    }
}

impl Read {
    /// What it brings, by the names that the catalog has for it.
    fn keys(&self) -> Vec<String> {
        match self.kind {
            UploadKind::Rules => self.knowledge.records.iter().map(|record| record.key.clone()).collect(),
            UploadKind::Templates => {
                self.knowledge.templates.iter().map(|template| template.source_id.clone()).collect()
            }
        }
    }

    fn problem(&mut self, path: &str, problem: UploadProblem) {
        if !self.refused.contains(path) {
            self.refused.insert(path.to_owned());
        }
        if self.problems.len() < MAX_PROBLEMS {
            self.problems.push(PathProblem { path: path.to_owned(), problem });
        }
    }

    /// Whether a record of that name comes for the first time.
    fn is_first(&mut self, path: &str, key: &str) -> bool {
        let first = self.seen.insert(key.to_owned());
        if !first {
            self.problem(path, UploadProblem::of_file(format!("another file has {key} too")));
        }
        first
    }
}

impl Visitor for Read {
    type Error = Error;

    fn wants(&self, path: &str) -> bool {
        let name = path.rsplit('/').next().unwrap_or_default().to_ascii_lowercase();
        let yaml = name.ends_with(".yml") || name.ends_with(".yaml");
        yaml && !name.starts_with('.') && !path.split('/').any(|part| part == "__MACOSX")
    }

    fn file(&mut self, path: &str, bytes: &[u8]) -> Result<(), Error> {
        self.files += 1;
        if self.files > MAX_FILES {
            return Err(Failure::invalid("file", format!("holds more than {MAX_FILES} files")).into());
        }
        // Whoever reads it keeps it with each record and each problem.
        if path.chars().count() > MAX_PATH {
            let problem = format!("its path has more than {MAX_PATH} characters");
            self.problem(&format!("{} … ({})", cut(path, MAX_PATH / 2), self.files), UploadProblem::of_file(problem));
            return Ok(());
        }
        match self.kind {
            UploadKind::Rules => {
                let (rules, problems) = rules::parse_upload(bytes);
                for (record, links) in rules {
                    if self.is_first(path, &record.key) {
                        self.knowledge.records.push(record);
                        self.knowledge.links.extend(links);
                    }
                }
                problems.into_iter().for_each(|problem| self.problem(path, problem));
            }
            UploadKind::Templates => {
                let (templates, problems) = templates::parse_upload(path, bytes);
                for template in templates {
                    if self.is_first(path, &template.source_id) {
                        self.knowledge.templates.push(template);
                    }
                }
                problems.into_iter().for_each(|problem| self.problem(path, problem));
            }
        }
        Ok(())
    }
}

/// A template of the catalog, and whose it is.
fn record(template: Template) -> (String, TemplateRecord) {
    let details: Map<String, Value> = serde_json::from_str(&template.details_json).unwrap_or_default();
    let platforms = match template.platforms.is_empty() {
        true => template.platform.into_iter().collect(),
        false => template.platforms,
    };
    let record = TemplateRecord {
        source_id: template.source_id,
        name: template.name,
        description: template.description,
        mitre_technique_id: template.mitre_technique_id,
        platforms,
        severity: template.severity,
        attack_procedure: template.attack_procedure,
        tool_suggested: template.tool_suggested,
        suggested_remediation: template.suggested_remediation,
        expected_detection: template.expected_detection,
        cleanup_procedure: template.cleanup_procedure,
        details,
    };
    (template.source, record)
}
