//! What is known of techniques: lists, single records, links and counts; countermeasures that are implemented, rules
//! that people brought in, and techniques that are flagged.

use std::collections::BTreeSet;

use aegis_auth::{OpCtx, Role};
use aegis_db::{now, page};
use aegis_error::{Failure, Fields};
use aegis_events::Audit;
use serde_json::json;
use uuid::Uuid;

use super::{Catalog, MAX_PAGE, PAGE, Page, sort_order, techniques};
use crate::{
    cache::Key,
    domain::{
        search::{KINDS, MAX_TERM, TECHNIQUE, TEMPLATE, Words, fold},
        technique::is_mitre_id,
        template::{CUSTOM, SEVERITIES},
    },
    error::Error,
    events::{Cause, knowledge_changed, techniques_changed},
    store::{
        dialect,
        knowledge::{self, Ends, Filter, Known, Link, Name, Record, Sort},
        search,
    },
};

/// The kind of countermeasures.
const DEFENCE: &str = "defence";
/// The kind of rules.
const RULE: &str = "detection_rule";
/// The framework of known exploited vulnerabilities: a text names a control of it.
const KEV: &str = "kev";
/// Bytes of a page's texts at most, so that it fits into a message. The token goes on after a page cut short.
const PAGE_BYTES: usize = 12 * 1024 * 1024;
/// Characters of a key, as imports take them.
const MAX_KEY: usize = 300;
/// Techniques that are flagged at once.
const MAX_FLAGGED: usize = 5_000;
/// Ids of techniques that a line of the audit trail names.
const AUDITED: usize = 100;
/// Names of one message.
const NAMES: i64 = 1_000;

/// The kind of a record, as it is written on every interface.
fn record_kind(fields: &mut Fields, kind: &str) -> Option<&'static str> {
    let known = KINDS.into_iter().find(|known| *known == kind && *known != TECHNIQUE && *known != TEMPLATE);
    if known.is_none() {
        let all: Vec<&str> = KINDS.into_iter().filter(|kind| *kind != TECHNIQUE && *kind != TEMPLATE).collect();
        fields.add("kind", format!("must be one of {}", all.join(", ")));
    }
    known
}

/// As many rows of a page as fit into a message, one at least.
fn fitting<T>(rows: &mut Vec<T>, size: impl Fn(&T) -> usize) {
    let mut bytes = 0;
    let fits = rows
        .iter()
        .take_while(|row| {
            // What is short is rounded up.
            bytes += 512 + size(row);
            bytes <= PAGE_BYTES
        })
        .count();
    rows.truncate(fits.max(1));
}

/// What a list is asked for.
#[derive(Clone, Debug, Default)]
pub(crate) struct Query {
    pub kind: String,
    pub page_size: i32,
    pub page_token: String,
    pub skip: i32,
    pub search: Option<String>,
    pub source: Option<String>,
    pub mitre_technique_id: Option<String>,
    pub severity: Option<String>,
    pub status: Option<String>,
    pub country: Option<String>,
    pub motivation: Option<String>,
    pub collection: Option<String>,
    pub platform: Option<String>,
    pub include_revoked: bool,
    pub sort: String,
    pub implemented: Option<bool>,
}

/// A page of records of one kind, without their long texts.
pub(crate) async fn list(catalog: &Catalog, ctx: &OpCtx, query: Query) -> Result<Page<Record>, Error> {
    ctx.user()?;
    let limit = page::size(query.page_size, PAGE, MAX_PAGE)?;
    let offset = page::offset(&query.page_token, query.skip)?;
    let mut fields = Fields::default();
    let kind = record_kind(&mut fields, &query.kind);
    for (name, text) in [
        ("search", &query.search),
        ("source", &query.source),
        ("mitre_technique_id", &query.mitre_technique_id),
        ("status", &query.status),
        ("country", &query.country),
        ("motivation", &query.motivation),
        ("collection", &query.collection),
        ("platform", &query.platform),
    ] {
        fields.text(name, text.as_deref().unwrap_or_default(), 0, MAX_TERM);
    }
    if let Some(severity) = &query.severity {
        fields.one_of("severity", severity, &SEVERITIES);
    }
    let sorts = [("key", Sort::Key), ("name", Sort::Name), ("severity", Sort::Severity), ("updated_at", Sort::Updated)];
    let sort = sort_order(&mut fields, &query.sort, &sorts);
    fields.finish()?;
    let Some(kind) = kind else { return Err(Failure::invalid("kind", "is unknown").into()) };
    let given = |text: Option<String>| text.map(|text| text.trim().to_owned()).filter(|text| !text.is_empty());
    let lower = |text: Option<String>| given(text).map(|text| text.to_lowercase());
    let upper = |text: Option<String>| given(text).map(|text| text.to_uppercase());
    let search = given(query.search);
    let words = search.as_deref().and_then(Words::parse);
    if search.is_some() && words.is_none() {
        // Nothing but punctuation, which is not looked for.
        return Ok(Page { rows: Vec::new(), next_page_token: String::new(), total: 0 });
    }
    let filter = Filter {
        kind,
        search: words,
        source: lower(query.source),
        mitre_technique_id: upper(query.mitre_technique_id),
        severity: query.severity,
        status: given(query.status),
        country: upper(query.country),
        motivation: lower(query.motivation),
        collection: given(query.collection),
        platform: lower(query.platform),
        implemented: query.implemented,
        include_revoked: query.include_revoked,
        sort,
    };
    let (mut rows, total) = knowledge::list(&catalog.db, &filter, limit, offset).await?;
    let lists = |row: &Record| row.aliases.iter().chain(row.platforms.iter()).map(String::len).sum::<usize>();
    let texts = |row: &Record| row.name.len() + row.url.as_ref().map_or(0, String::len);
    fitting(&mut rows, |row| row.attributes.len() + texts(row) + lists(row));
    let keys: Vec<&str> = rows.iter().map(|row| row.key.as_str()).collect();
    let mut techniques = knowledge::techniques_of(&catalog.db, kind, &keys).await?;
    for row in &mut rows {
        row.techniques = techniques.remove(&row.key).unwrap_or_default();
    }
    Ok(Page { next_page_token: page::next_offset(offset, rows.len(), total), rows, total })
}

/// One record with its texts, by our id or by its key.
pub(crate) async fn get(catalog: &Catalog, ctx: &OpCtx, kind: &str, id: &str) -> Result<Record, Error> {
    ctx.user()?;
    let mut fields = Fields::default();
    let kind = record_kind(&mut fields, kind);
    fields.text("id", id.trim(), 1, MAX_KEY);
    fields.finish()?;
    find(catalog, kind.unwrap_or_default(), id.trim()).await
}

async fn find(catalog: &Catalog, kind: &str, id: &str) -> Result<Record, Error> {
    let by_id = match Uuid::try_parse(id) {
        Ok(id) => knowledge::by_id(&catalog.db, kind, id).await?,
        Err(_) => None,
    };
    let found = match by_id {
        Some(record) => Some(record),
        None => knowledge::by_key(&catalog.db, kind, id, &fold(id)).await?,
    };
    let mut record = found.ok_or_else(|| unknown(kind, id))?;
    let mut techniques = knowledge::techniques_of(&catalog.db, kind, &[&record.key]).await?;
    record.techniques = techniques.remove(&record.key).unwrap_or_default();
    Ok(record)
}

fn unknown(kind: &str, id: &str) -> Error {
    Error::UnknownKnowledge { kind: kind.replace('_', " "), id: id.to_owned() }
}

/// Which links are asked for.
#[derive(Clone, Debug, Default)]
pub(crate) struct LinkQuery {
    pub kind: String,
    pub key: String,
    pub other_kind: String,
    pub page_size: i32,
    pub page_token: String,
    pub skip: i32,
    pub include_revoked: bool,
}

/// A page of what a record or a technique is linked with, both ways. Of a record that is not known here there is none;
/// a technique that is not known and that nothing names is an error.
pub(crate) async fn links(catalog: &Catalog, ctx: &OpCtx, query: LinkQuery) -> Result<Page<Link>, Error> {
    ctx.user()?;
    let limit = page::size(query.page_size, PAGE, MAX_PAGE)?;
    let offset = page::offset(&query.page_token, query.skip)?;
    let mut fields = Fields::default();
    let linked = |kind: &str| KINDS.contains(&kind) && kind != TEMPLATE;
    let problem = "must be technique or a kind of knowledge";
    fields.check(linked(&query.kind), "kind", problem);
    fields.check(query.other_kind.is_empty() || linked(&query.other_kind), "other_kind", problem);
    fields.text("key", query.key.trim(), 1, MAX_KEY);
    fields.finish()?;
    let key = query.key.trim();
    let ends = Ends {
        key: if query.kind == TECHNIQUE { key.to_uppercase() } else { key.to_owned() },
        kind: query.kind,
        other_kind: Some(query.other_kind).filter(|kind| !kind.is_empty()),
        include_revoked: query.include_revoked,
    };
    let (mut rows, total) = knowledge::links(&catalog.db, &ends, limit, offset).await?;
    if total == 0 && ends.kind == TECHNIQUE {
        techniques::get(catalog, ctx, Key::MitreId(ends.key)).await?;
    }
    let texts = |row: &Link| row.key.len() + row.name.as_ref().map_or(0, String::len);
    fitting(&mut rows, |row| row.description.as_ref().map_or(0, String::len) + row.refs.len() + texts(row));
    Ok(Page { next_page_token: page::next_offset(offset, rows.len(), total), rows, total })
}

/// How much is known of a technique.
pub(crate) async fn of_technique(catalog: &Catalog, ctx: &OpCtx, mitre_id: &str) -> Result<Vec<Known>, Error> {
    let found = techniques::get(catalog, ctx, Key::MitreId(mitre_id.to_owned())).await?;
    Ok(knowledge::counts(&catalog.db, &found.technique.mitre_id).await?)
}

/// Notes that a countermeasure is implemented, or that it is not.
pub(crate) async fn update_defence(
    catalog: &Catalog,
    ctx: &OpCtx,
    id: &str,
    implemented: bool,
) -> Result<Record, Error> {
    ctx.require(&[Role::RedLead, Role::BlueLead, Role::Admin])?;
    let found = find_named(catalog, DEFENCE, id).await?;
    let mut tx = catalog.db.begin().await?;
    let before = knowledge::lock(&mut tx, DEFENCE, found.id).await?.ok_or_else(|| unknown(DEFENCE, id))?;
    ctx.expect_version(before.version)?;
    let mut after = Record { techniques: found.techniques, ..before.clone() };
    if implemented == before.implemented {
        tx.rollback().await?;
        return Ok(after);
    }
    after.implemented = implemented;
    after.version += 1;
    after.updated_at = now();
    if !knowledge::set_implemented(&mut tx, &after).await? {
        return Err(Error::Raced);
    }
    let audit = Audit {
        action: "update_defence",
        entity_type: DEFENCE,
        entity_id: after.id.to_string(),
        details: json!({
            "key": after.key,
            "before": { "implemented": before.implemented },
            "after": { "implemented": after.implemented },
        }),
    };
    catalog.outbox.audit(&mut tx, ctx, audit).await?;
    // After the line of the audit trail, whose subject is what a repeated request is told.
    knowledge_changed(&catalog.outbox, &mut tx, Cause::Request(ctx), &BTreeSet::from([DEFENCE])).await?;
    tx.commit().await?;
    Ok(after)
}

async fn find_named(catalog: &Catalog, kind: &str, id: &str) -> Result<Record, Error> {
    let mut fields = Fields::default();
    fields.text("id", id.trim(), 1, MAX_KEY);
    fields.finish()?;
    find(catalog, kind, id.trim()).await
}

/// Deletes a rule that a person brought in, with its links.
pub(crate) async fn delete_rule(catalog: &Catalog, ctx: &OpCtx, id: &str) -> Result<(), Error> {
    ctx.require(&[Role::RedLead, Role::BlueLead, Role::Admin])?;
    let found = find_named(catalog, RULE, id).await?;
    let mut tx = catalog.db.begin().await?;
    // An import could bring it at the same moment.
    dialect::lock_knowledge(&mut tx).await?;
    let rule = knowledge::lock(&mut tx, RULE, found.id).await?.ok_or_else(|| unknown(RULE, id))?;
    ctx.expect_version(rule.version)?;
    if rule.source != CUSTOM {
        return Err(Error::PublishedRule(rule.key));
    }
    knowledge::remove(&mut tx, &rule).await?;
    search::remove(&mut tx, &[rule.id]).await?;
    let audit = Audit {
        action: "delete_rule",
        entity_type: RULE,
        entity_id: rule.id.to_string(),
        details: json!({ "before": {
            "key": rule.key,
            "name": rule.name,
            "severity": rule.severity,
            "status": rule.status,
            "mitre_technique_ids": found.techniques.iter().take(AUDITED).collect::<Vec<_>>(),
        } }),
    };
    catalog.outbox.audit(&mut tx, ctx, audit).await?;
    knowledge_changed(&catalog.outbox, &mut tx, Cause::Request(ctx), &BTreeSet::from([RULE])).await?;
    tx.commit().await?;
    Ok(())
}

/// Which kinds a text is searched for; checked.
pub(crate) fn named_kinds(ctx: &OpCtx, kinds: &[String]) -> Result<Vec<&'static str>, Error> {
    ctx.require(&[Role::Service, Role::Admin])?;
    let mut fields = Fields::default();
    fields.check(!kinds.is_empty() && kinds.len() <= KINDS.len(), "kinds", "must name one kind or more, each once");
    for kind in kinds.iter().take(KINDS.len()) {
        fields.check(
            KINDS.contains(&kind.as_str()) && kind != TEMPLATE,
            "kinds",
            "must be technique or a kind of knowledge",
        );
    }
    fields.finish()?;
    Ok(KINDS.into_iter().filter(|known| kinds.iter().any(|kind| kind == known)).collect())
}

/// A page of the names of a kind after a key, each with the techniques that it stands for.
pub(crate) async fn names(
    catalog: &Catalog,
    kind: &'static str,
    after: &str,
) -> Result<(Vec<(Name, Vec<String>)>, Option<String>), Error> {
    let names = knowledge::names_after(&catalog.db, kind, after, NAMES).await?;
    let last = names.last().filter(|_| names.len() as i64 == NAMES).map(|name| name.key.clone());
    let stands = |name: &Name| kind == "software" || (kind == "control" && name.collection.as_deref() == Some(KEV));
    let keys: Vec<&str> = names.iter().filter(|name| stands(name)).map(|name| name.key.as_str()).collect();
    let mut techniques = knowledge::techniques_of(&catalog.db, kind, &keys).await?;
    let with = |name: Name| {
        let techniques = techniques.remove(&name.key).unwrap_or_default();
        (name, techniques)
    };
    Ok((names.into_iter().map(with).collect(), last))
}

/// Flags techniques for review; answers how many were not flagged before.
pub(crate) async fn flag(catalog: &Catalog, ctx: &OpCtx, mitre_ids: Vec<String>, reason: &str) -> Result<usize, Error> {
    ctx.require(&[Role::Service, Role::Admin])?;
    let mut fields = Fields::default();
    fields.check(mitre_ids.len() <= MAX_FLAGGED, "mitre_ids", &format!("must have at most {MAX_FLAGGED} entries"));
    fields.check(mitre_ids.iter().all(|id| is_mitre_id(id)), "mitre_ids", "must be ids such as T1059 or T1059.001");
    fields.text("reason", reason.trim(), 1, 1_000);
    fields.finish()?;
    let mut tx = catalog.db.begin().await?;
    dialect::lock_catalogue(&mut tx).await?;
    let mut flagged = knowledge::lock_unflagged(&mut tx, &mitre_ids).await?;
    if flagged.is_empty() {
        tx.rollback().await?;
        return Ok(0);
    }
    let now = now();
    let ids: Vec<Uuid> = flagged.iter().map(|technique| technique.id).collect();
    knowledge::flag(&mut tx, &ids, now).await?;
    for technique in &mut flagged {
        technique.review_required = true;
        technique.touch(now);
    }
    techniques_changed(&catalog.outbox, &mut tx, Cause::Request(ctx), &flagged, &[]).await?;
    let mut named: Vec<&str> = flagged.iter().map(|technique| technique.mitre_id.as_str()).collect();
    named.sort_unstable();
    named.truncate(AUDITED);
    let audit = Audit {
        action: "flag_techniques",
        entity_type: TECHNIQUE,
        entity_id: match ids.as_slice() {
            [one] => one.to_string(),
            _ => String::new(),
        },
        details: json!({
            "reason": reason.trim(),
            "flagged": flagged.len(),
            "mitre_ids": named,
            "before": { "review_required": false },
            "after": { "review_required": true },
        }),
    };
    catalog.outbox.audit(&mut tx, ctx, audit).await?;
    catalog.cache.clear_on_commit(&mut tx);
    tx.commit().await?;
    Ok(flagged.len())
}
