//! Applies one document of a source: all of it in one transaction, or nothing.

mod check;
mod knowledge;
mod links;
mod techniques;
mod templates;

use std::collections::{BTreeMap, BTreeSet};

use aegis_auth::{OpCtx, Role};
use aegis_db::now;
use aegis_error::Failure;
use aegis_events::Audit;
use chrono::{DateTime, Utc};
use serde_json::{Map, Value, json};
use uuid::Uuid;

use super::Catalog;
use crate::{
    domain::{
        import::{Change, Counts, TacticRecord, TechniqueRecord},
        knowledge::{Incoming, LINK, Link, TACTIC},
        technique::{Domain, Technique},
        template::TemplateRecord,
    },
    error::Error,
    events::{Cause, knowledge_changed, techniques_changed},
    store::dialect,
};

pub(crate) use check::too_large;

/// Records of an origin from which on a document that lacks most of them is taken for a broken one.
const MANY: usize = 100;
/// Changes of techniques that are answered.
const MAX_CHANGES: usize = 1_000;
/// Changes of techniques that the audit trail names.
const MAX_AUDITED: usize = 100;

/// What a document is.
#[derive(Clone, Debug, Default)]
pub(crate) struct Header {
    pub source: String,
    pub domain: String,
    pub upstream_version: String,
    pub dry_run: bool,
    pub origin: String,
    pub partial: bool,
    pub force: bool,
}

/// A document, read.
#[derive(Debug, Default)]
pub(crate) struct Document {
    pub header: Header,
    pub techniques: Vec<TechniqueRecord>,
    pub tactics: Vec<TacticRecord>,
    pub templates: Vec<TemplateRecord>,
    pub knowledge: Vec<Incoming>,
    pub links: Vec<Link>,
}

/// What all parts of a document have in common.
struct Scope {
    source: String,
    origin: String,
    domain: Option<Domain>,
    /// The release of ATT&CK that it is of, or empty; of a partial document it says nothing.
    release: String,
    partial: bool,
    dry_run: bool,
    force: bool,
    now: DateTime<Utc>,
}

impl Scope {
    /// Refuses a document that most of what its origin brought is not in: it is mostly one that was cut, or another one.
    /// Of fewer than `few` that says nothing.
    fn vanishing(&self, gone: usize, known: usize, few: usize, what: &str) -> Result<(), Error> {
        if self.dry_run || self.force || known < few || gone * 2 <= known {
            return Ok(());
        }
        Err(Error::Document(format!(
            "the document would mark {gone} of {known} {what} as gone; nothing was changed. Look at it with a dry run; \
             where that is right, sync with force"
        )))
    }
}

/// What a document did.
#[derive(Debug, Default)]
pub(crate) struct Outcome {
    pub techniques: Counts,
    pub tactics: Counts,
    /// By kind; those of which nothing came and nothing vanished are absent.
    pub kinds: BTreeMap<&'static str, Counts>,
    /// What changed of techniques, what matters most first.
    pub changes: Vec<TechniqueChange>,
    /// Links to techniques that are not known here.
    pub links_unknown: i64,
    /// Kinds, columns of the matrix among them, of which something else is known now.
    pub touched: BTreeSet<&'static str>,
}

/// What happens to a technique, and what hangs on it.
#[derive(Debug)]
pub(crate) struct TechniqueChange {
    pub id: Uuid,
    pub mitre_id: String,
    pub name: String,
    pub change: Change,
    pub revoked_by: Option<String>,
    pub tests: i64,
    pub templates: i64,
}

/// Who may import.
pub(crate) fn may_import(ctx: &OpCtx) -> Result<(), Error> {
    ctx.require(&[Role::Admin, Role::Service])?;
    Ok(())
}

/// Applies a document; answers what happened. A dry run does everything and takes it back.
pub(crate) async fn import(catalog: &Catalog, ctx: &OpCtx, document: Document) -> Result<Outcome, Error> {
    may_import(ctx)?;
    // Tens of megabytes are looked through and hashed.
    let checked = tokio::task::spawn_blocking(move || check::check(document)).await.map_err(Failure::internal)??;
    let check::Checked { document, domain, links } = checked;
    let Document { header, techniques: records, tactics, templates: procedures, knowledge: said, links: _ } = document;
    let scope = Scope {
        source: header.source,
        origin: header.origin,
        domain,
        release: if header.partial { String::new() } else { header.upstream_version.clone() },
        partial: header.partial,
        dry_run: header.dry_run,
        force: header.force,
        now: now(),
    };
    let mut outcome = Outcome::default();
    let mut tx = catalog.db.begin().await?;
    dialect::lock_knowledge(&mut tx).await?;
    if domain.is_some() {
        dialect::lock_catalogue(&mut tx).await?;
    }
    let matrix = techniques::apply(&mut tx, &scope, records, tactics, &mut outcome).await?;
    let mut changed = matrix.changed;
    if matrix.columns_changed {
        outcome.touched.insert(TACTIC);
    }
    changed |= templates::apply(&mut tx, &scope, procedures, &mut outcome.kinds).await?;
    let said_of: Vec<(&'static str, String)> = match scope.partial {
        true => said.iter().map(|new| (new.record.kind, new.record.key.clone())).collect(),
        false => Vec::new(),
    };
    changed |= knowledge::apply(&mut tx, &scope, said, &mut outcome).await?;
    changed |= links::apply(&mut tx, &scope, &said_of, links, &mut outcome).await?;
    outcome.changes = techniques::touched(&mut tx, &matrix).await?;
    if header.dry_run || !changed {
        tx.rollback().await?;
        return Ok(outcome);
    }
    techniques_changed(&catalog.outbox, &mut tx, Cause::Request(ctx), &matrix.write, &matrix.remove).await?;
    knowledge_changed(&catalog.outbox, &mut tx, Cause::Request(ctx), &outcome.touched).await?;
    let (action, entity_id) = match domain {
        Some(domain) => ("sync_techniques", format!("{}:{}", scope.source, domain.as_str())),
        None => ("import_knowledge", scope.origin.clone()),
    };
    let details = details(&scope, &header.upstream_version, &outcome);
    catalog.outbox.audit(&mut tx, ctx, Audit { action, entity_type: "source", entity_id, details }).await?;
    catalog.cache.clear_on_commit(&mut tx);
    tx.commit().await?;
    Ok(outcome)
}

fn details(scope: &Scope, upstream_version: &str, outcome: &Outcome) -> Value {
    let kinds: Map<String, Value> =
        outcome.kinds.iter().map(|(kind, counts)| ((*kind).to_owned(), counts_json(counts))).collect();
    let changed: Vec<&str> = outcome.changes.iter().take(MAX_AUDITED).map(|c| c.mitre_id.as_str()).collect();
    json!({
        "source": scope.source,
        "origin": scope.origin,
        "domain": scope.domain.map(Domain::as_str),
        "upstream_version": upstream_version,
        "partial": scope.partial,
        "force": scope.force,
        "techniques": counts_json(&outcome.techniques),
        "tactics": counts_json(&outcome.tactics),
        "kinds": kinds,
        "links_unknown": outcome.links_unknown,
        "changed_techniques": changed,
    })
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

/// Of the techniques that changed, and are gone.
#[derive(Default)]
struct Matrix {
    changed: bool,
    /// Its tactics, or which release it is of.
    columns_changed: bool,
    write: Vec<Technique>,
    changes: Vec<Change>,
    remove: Vec<Technique>,
}

type Kinds = BTreeMap<&'static str, Counts>;

fn link_counts(kinds: &mut Kinds) -> &mut Counts {
    kinds.entry(LINK).or_default()
}
