//! Applies one document of a publisher: all of it in one transaction, or nothing.

use std::collections::HashSet;

use aegis_auth::{OpCtx, Role};
use aegis_db::now;
use aegis_error::Fields;
use aegis_events::Audit;
use serde_json::{Value, json};
use uuid::Uuid;

use super::Catalog;
use crate::{
    domain::{
        import::{Counts, Plan, TacticRecord, TechniqueRecord, plan_tactics, plan_techniques},
        technique::{Domain, MAX_DESCRIPTION, MAX_NAME, MAX_WORDS, is_mitre_id},
    },
    error::Error,
    events::{Cause, techniques_changed},
    store::{dialect, tactics, techniques},
};

/// Techniques of a document at most.
pub(crate) const MAX_TECHNIQUES: usize = 20_000;
/// Tactics of a document at most.
pub(crate) const MAX_TACTICS: usize = 1_000;
/// Bytes of a document's records at most.
pub(crate) const MAX_BYTES: usize = 64 * 1024 * 1024;
/// The one source of techniques.
const SOURCE: &str = "mitre_attack";
/// Problems that are told at once.
const MOST_PROBLEMS: usize = 20;

/// What a document is.
#[derive(Clone, Debug, Default)]
pub(crate) struct Header {
    pub source: String,
    pub domain: String,
    pub upstream_version: String,
    pub dry_run: bool,
}

/// A document, read.
#[derive(Debug, Default)]
pub(crate) struct Document {
    pub header: Header,
    pub techniques: Vec<TechniqueRecord>,
    pub tactics: Vec<TacticRecord>,
}

/// Who may import.
pub(crate) fn may_import(ctx: &OpCtx) -> Result<(), Error> {
    ctx.require(&[Role::Admin, Role::Service])?;
    Ok(())
}

/// Applies a document; answers what happened to techniques and to tactics. A dry run only counts.
pub(crate) async fn import(catalog: &Catalog, ctx: &OpCtx, document: Document) -> Result<(Counts, Counts), Error> {
    may_import(ctx)?;
    let domain = check(&document)?;
    let Document { header, techniques: records, tactics: columns } = document;
    let now = now();
    let mut tx = catalog.db.begin().await?;
    dialect::lock_catalogue(&mut tx).await?;
    let existing = techniques::lock_domain(&mut tx, domain).await?;
    let tested = techniques::tested_starters(&mut tx).await?;
    let plan = plan_techniques(existing, records, &tested, domain, now);
    let tactic_plan = match columns.is_empty() {
        // A document without a matrix says nothing of its columns.
        true => Plan::default(),
        false => plan_tactics(tactics::of_domain(&mut tx, domain).await?, columns, domain),
    };
    let counts = (plan.counts, tactic_plan.counts);
    if header.dry_run || (plan.is_empty() && tactic_plan.is_empty()) {
        tx.rollback().await?;
        return Ok(counts);
    }
    let ids = |rows: &[crate::domain::technique::Tactic]| rows.iter().map(|row| row.id).collect::<Vec<Uuid>>();
    tactics::remove(&mut tx, &ids(&tactic_plan.remove)).await?;
    tactics::write(&mut tx, &tactic_plan.write).await?;
    techniques::remove(&mut tx, &plan.remove.iter().map(|row| row.id).collect::<Vec<_>>()).await?;
    techniques::write(&mut tx, &plan.write).await?;
    techniques_changed(&catalog.outbox, &mut tx, Cause::Request(ctx), &plan.write, &plan.remove).await?;
    let audit = Audit {
        action: "sync_techniques",
        entity_type: "source",
        entity_id: format!("{}:{}", header.source, domain.as_str()),
        details: json!({
            "domain": domain.as_str(),
            "upstream_version": header.upstream_version,
            "techniques": counts_json(&counts.0),
            "tactics": counts_json(&counts.1),
        }),
    };
    catalog.outbox.audit(&mut tx, ctx, audit).await?;
    catalog.cache.clear_on_commit(&mut tx);
    tx.commit().await?;
    Ok(counts)
}

fn counts_json(counts: &Counts) -> Value {
    json!({
        "created": counts.created,
        "updated": counts.updated,
        "unchanged": counts.unchanged,
        "revoked": counts.revoked,
        "deprecated": counts.deprecated,
        "vanished": counts.vanished,
        "removed": counts.removed,
    })
}

/// Checks all of a document; answers its domain.
fn check(document: &Document) -> Result<Domain, Error> {
    let header = &document.header;
    let mut fields = Fields::default();
    fields.one_of("source", &header.source, &[SOURCE]);
    fields.one_of("domain", &header.domain, &Domain::NAMES);
    fields.text("upstream_version", &header.upstream_version, 0, 64);
    fields.finish()?;
    let domain = Domain::parse(&header.domain).unwrap_or(Domain::Enterprise);
    if document.techniques.is_empty() {
        return Err(Error::Document("the document has no techniques; nothing was changed".into()));
    }
    if document.techniques.len() > MAX_TECHNIQUES || document.tactics.len() > MAX_TACTICS {
        return Err(Error::TooLarge(format!(
            "a document has at most {MAX_TECHNIQUES} techniques and {MAX_TACTICS} tactics"
        )));
    }
    let mut problems = Problems::default();
    let mut seen = HashSet::new();
    for (index, record) in document.techniques.iter().enumerate() {
        problems.of = format!("techniques[{index}]");
        technique(&mut problems, record);
        problems.check(seen.insert(record.mitre_id.as_str()), "mitre_id", "is there twice");
        problems.check(seen.insert(record.stix_id.as_str()), "stix_id", "is there twice");
    }
    for (index, record) in document.tactics.iter().enumerate() {
        problems.of = format!("tactics[{index}]");
        tactic(&mut problems, record);
        problems.check(seen.insert(record.mitre_id.as_str()), "mitre_id", "is there twice");
        problems.check(seen.insert(record.stix_id.as_str()), "stix_id", "is there twice");
    }
    problems.fields.finish()?;
    Ok(domain)
}

/// The first problems of a document. Names of fields are made only for those: a document has thousands of records.
#[derive(Default)]
struct Problems {
    of: String,
    count: usize,
    fields: Fields,
}

impl Problems {
    fn check(&mut self, good: bool, field: &str, problem: &str) {
        if !good && self.count < MOST_PROBLEMS {
            self.count += 1;
            self.fields.add(format!("{}.{field}", self.of), problem);
        }
    }

    /// At most `max` characters, and none that a database refuses.
    fn text(&mut self, field: &str, text: &str, min: usize, max: usize) {
        let length = if text.len() <= max { text.len().min(1) } else { text.chars().count() };
        self.check(length >= min && length <= max && !text.contains('\0'), field, "has a wrong length or a NUL");
    }

    fn words(&mut self, field: &str, words: &[String]) {
        self.check(words.len() <= MAX_WORDS, field, "has too many entries");
        for word in words {
            self.text(field, word, 1, 100);
        }
    }
}

fn technique(problems: &mut Problems, record: &TechniqueRecord) {
    problems.check(is_mitre_id(&record.mitre_id), "mitre_id", "must look like T1059 or T1059.001");
    problems.text("stix_id", &record.stix_id, 1, 128);
    problems.text("name", &record.name, 1, MAX_NAME);
    problems.text("description", record.description.as_deref().unwrap_or_default(), 0, MAX_DESCRIPTION);
    problems.words("tactics", &record.tactics);
    problems.words("platforms", &record.platforms);
    for (field, text) in [
        ("parent_mitre_id", &record.parent_mitre_id),
        ("revoked_by", &record.revoked_by),
        ("attack_version", &record.attack_version),
    ] {
        problems.text(field, text.as_deref().unwrap_or_default(), 0, 64);
    }
    problems.text("url", record.url.as_deref().unwrap_or_default(), 0, 2048);
    problems.check(record.content_hash.len() == 32, "content_hash", "must have 32 bytes");
}

fn tactic(problems: &mut Problems, record: &TacticRecord) {
    problems.text("mitre_id", &record.mitre_id, 1, 16);
    problems.text("stix_id", &record.stix_id, 1, 128);
    problems.text("short_name", &record.short_name, 1, 100);
    problems.text("name", &record.name, 1, MAX_NAME);
}
