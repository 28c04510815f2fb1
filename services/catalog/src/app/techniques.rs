//! Reading, making, changing and reviewing techniques.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use aegis_auth::{OpCtx, Role};
use aegis_db::{Tx, now, page};
use aegis_error::{Failure, Fields};
use aegis_events::Audit;
use serde_json::{Map, Value, json};
use uuid::Uuid;

use super::{Catalog, MAX_PAGE, PAGE, Page, search_term, sort_order};
use crate::{
    cache::{Found, Key},
    domain::{
        status::Status,
        technique::{
            Domain, MAX_DESCRIPTION, MAX_NAME, MAX_WORDS, PersonSet, Source, Tactic, Technique, is_mitre_id,
            platform_names, short_name, unique,
        },
    },
    error::Error,
    events::{Cause, techniques_changed},
    store::{
        dialect,
        lists::{self, Filter, Sort},
        search::{self, SearchEntry},
        tactics, techniques,
    },
};

/// Characters of a text that is searched or filtered for.
const MAX_TERM: usize = 200;
/// Characters of a text that the audit trail keeps.
const AUDITED: usize = 1_000;

/// The technique that is asked for, with what it replaces and what replaces it.
pub(crate) async fn get(catalog: &Catalog, ctx: &OpCtx, key: Key) -> Result<Arc<Found>, Error> {
    ctx.user()?;
    let key = match key {
        Key::MitreId(id) => Key::MitreId(mitre_id(&id)?),
        key @ Key::Id(_) => key,
    };
    let slot = catalog.cache.slot(key);
    if let Some(found) = catalog.cache.get(&slot) {
        return Ok(found);
    }
    let (found, asked) = match &slot.1 {
        Key::MitreId(id) => (techniques::by_mitre_id(&catalog.db, id).await?, id.clone()),
        Key::Id(id) => (techniques::by_id(&catalog.db, *id).await?, id.to_string()),
    };
    let technique = found.ok_or(Error::UnknownTechnique(asked))?;
    let succession = techniques::succession(&catalog.db, &technique).await?;
    let found = Arc::new(Found { technique, succession });
    catalog.cache.put(slot, Arc::clone(&found));
    Ok(found)
}

/// An ATT&CK id as a person may write it. One that cannot be any is unknown, not wrong.
fn mitre_id(text: &str) -> Result<String, Error> {
    let id = text.trim().to_ascii_uppercase();
    if id.is_empty() {
        return Err(Failure::invalid("mitre_id", "must not be empty").into());
    }
    if !is_mitre_id(&id) {
        return Err(Error::UnknownTechnique(text.to_owned()));
    }
    Ok(id)
}

/// What a list is asked for.
#[derive(Clone, Debug, Default)]
pub(crate) struct Query {
    pub page_size: i32,
    pub page_token: String,
    pub skip: i32,
    pub tactic: Option<String>,
    pub status: Option<String>,
    pub review_required: Option<bool>,
    pub include_revoked: bool,
    pub domain: Option<String>,
    pub platform: Option<String>,
    pub search: Option<String>,
    pub is_subtechnique: Option<bool>,
    pub sort: String,
}

/// A page of techniques, without descriptions.
pub(crate) async fn list(catalog: &Catalog, ctx: &OpCtx, query: Query) -> Result<Page<Technique>, Error> {
    ctx.user()?;
    let limit = page::size(query.page_size, PAGE, MAX_PAGE)?;
    let offset = page::offset(&query.page_token, query.skip)?;
    let mut fields = Fields::default();
    for (name, text) in [("tactic", &query.tactic), ("platform", &query.platform), ("search", &query.search)] {
        fields.text(name, text.as_deref().unwrap_or_default(), 0, MAX_TERM);
    }
    if let Some(status) = &query.status {
        fields.one_of("status", status, &Status::NAMES);
    }
    if let Some(domain) = &query.domain {
        fields.one_of("domain", domain, &Domain::NAMES);
    }
    let sorts =
        [("mitre_id", Sort::MitreId), ("name", Sort::Name), ("updated_at", Sort::Updated), ("status", Sort::Status)];
    let sort = sort_order(&mut fields, &query.sort, &sorts);
    fields.finish()?;
    let filter = Filter {
        tactic: query.tactic.map(|tactic| short_name(&tactic)).filter(|tactic| !tactic.is_empty()),
        status: query.status.as_deref().and_then(Status::parse),
        review_required: query.review_required,
        include_revoked: query.include_revoked,
        domain: query.domain.as_deref().and_then(Domain::parse),
        platform: search_term(query.platform),
        search: search_term(query.search),
        is_subtechnique: query.is_subtechnique,
        sort,
    };
    let (rows, total) = lists::list(&catalog.db, &filter, limit, offset).await?;
    Ok(Page { next_page_token: page::next_offset(offset, rows.len(), total), rows, total })
}

/// The techniques after an id, for an export.
pub(crate) async fn export(catalog: &Catalog, after: Uuid, limit: i64) -> Result<Vec<Technique>, Error> {
    Ok(lists::after(&catalog.db, after, limit).await?)
}

/// Which release of ATT&CK each matrix is of, where that is known.
pub(crate) async fn releases(catalog: &Catalog) -> Result<HashMap<Domain, String>, Error> {
    Ok(tactics::releases(&catalog.db).await?)
}

/// The live tactics, of one matrix or of all.
pub(crate) async fn list_tactics(catalog: &Catalog, ctx: &OpCtx, domain: Option<String>) -> Result<Vec<Tactic>, Error> {
    ctx.user()?;
    let mut fields = Fields::default();
    if let Some(domain) = &domain {
        fields.one_of("domain", domain, &Domain::NAMES);
    }
    fields.finish()?;
    Ok(tactics::list(&catalog.db, domain.as_deref().and_then(Domain::parse)).await?)
}

/// A technique that an administrator makes.
#[derive(Clone, Debug, Default)]
pub(crate) struct NewTechnique {
    pub mitre_id: String,
    pub name: String,
    pub description: Option<String>,
    pub tactics: Vec<String>,
    pub platforms: Vec<String>,
    pub domain: String,
}

/// Makes a technique that ATT&CK does not have, or not yet.
pub(crate) async fn create(catalog: &Catalog, ctx: &OpCtx, new: NewTechnique) -> Result<Technique, Error> {
    ctx.require(&[Role::Admin])?;
    let mut fields = Fields::default();
    fields.check(
        is_mitre_id(&new.mitre_id),
        "mitre_id",
        "must be T and four digits, for a sub-technique followed by a dot and three digits",
    );
    let domain = if new.domain.is_empty() { Domain::Enterprise.as_str() } else { new.domain.as_str() };
    fields.one_of("domain", domain, &Domain::NAMES);
    let name = new.name.trim();
    fields.text("name", name, 1, MAX_NAME);
    fields.text("description", new.description.as_deref().unwrap_or_default(), 0, MAX_DESCRIPTION);
    check_platforms(&mut fields, &new.platforms);

    let now = now();
    let mut tx = catalog.db.begin().await?;
    let parsed = Domain::parse(domain);
    let domain = parsed.unwrap_or(Domain::Enterprise);
    if parsed.is_some() {
        check_tactics(&mut fields, &mut tx, domain, &new.tactics).await?;
    }
    fields.finish()?;
    let mut technique = Technique::new(new.mitre_id, domain, Source::Custom, now);
    name.clone_into(&mut technique.name);
    technique.description = new.description.filter(|text| !text.is_empty());
    technique.tactics = clean_tactics(&new.tactics);
    technique.platforms = platform_names(&new.platforms);
    technique.person_set.add(PersonSet::NAME);
    technique.person_set.add(PersonSet::TACTICS);
    if technique.description.is_some() {
        technique.person_set.add(PersonSet::DESCRIPTION);
    }
    if !technique.platforms.is_empty() {
        technique.person_set.add(PersonSet::PLATFORMS);
    }

    // An import could bring the same id.
    dialect::lock_catalogue(&mut tx).await?;
    match techniques::write(&mut tx, std::slice::from_ref(&technique)).await {
        Err(error) if error.is_unique_violation() => return Err(Error::TechniqueExists(technique.mitre_id)),
        other => other?,
    }
    search::put(&mut tx, &[SearchEntry::from(&technique)]).await?;
    let details = json!({ "mitre_id": technique.mitre_id, "after": Value::Object(shown(&technique)) });
    record(catalog, &mut tx, ctx, "create_technique", &technique, details).await?;
    tx.commit().await?;
    Ok(technique)
}

/// What an administrator changes; what is absent stays.
#[derive(Clone, Debug, Default)]
pub(crate) struct Change {
    pub name: Option<String>,
    pub description: Option<String>,
    pub clear_description: bool,
    pub tactics: Option<Vec<String>>,
    pub platforms: Option<Vec<String>>,
    pub status_global: Option<String>,
    pub clear_status_global: bool,
}

/// Changes a technique. What a person set here is left alone by syncs.
pub(crate) async fn update(catalog: &Catalog, ctx: &OpCtx, id: &str, change: Change) -> Result<Technique, Error> {
    ctx.require(&[Role::Admin])?;
    let id = mitre_id(id)?;
    let mut tx = catalog.db.begin().await?;
    let before = techniques::lock_by_mitre_id(&mut tx, &id).await?.ok_or(Error::UnknownTechnique(id))?;
    ctx.expect_version(before.version)?;
    check_change(&mut tx, &before, &change).await?;

    let mut after = before.clone();
    if let Some(name) = change.name.map(|name| name.trim().to_owned()).filter(|name| *name != before.name) {
        after.name = name;
        after.person_set.add(PersonSet::NAME);
    }
    if change.clear_description || change.description.is_some() {
        let description = change.description.filter(|text| !text.is_empty());
        if description != before.description {
            after.description = description;
            after.person_set.add(PersonSet::DESCRIPTION);
        }
    }
    if let Some(tactics) = change.tactics.map(|tactics| clean_tactics(&tactics)).filter(|t| *t != before.tactics) {
        after.tactics = tactics;
        after.person_set.add(PersonSet::TACTICS);
    }
    if let Some(platforms) =
        change.platforms.map(|platforms| platform_names(&platforms)).filter(|p| *p != before.platforms)
    {
        after.platforms = platforms;
        after.person_set.add(PersonSet::PLATFORMS);
    }
    match change.status_global.as_deref().and_then(Status::parse) {
        Some(status) => after.status_override = Some(status),
        None if change.clear_status_global => after.status_override = None,
        None => {}
    }
    if after == before {
        tx.rollback().await?;
        return Ok(before);
    }
    after.touch(now());
    if !techniques::update(&mut tx, &after).await? {
        return Err(Error::Raced);
    }
    if after.tactics != before.tactics || after.platforms != before.platforms {
        techniques::reindex(&mut tx, &after).await?;
    }
    search::put(&mut tx, &[SearchEntry::from(&after)]).await?;
    record(catalog, &mut tx, ctx, "update_technique", &after, difference(&before, &after)).await?;
    tx.commit().await?;
    Ok(after)
}

async fn check_change(tx: &mut Tx, before: &Technique, change: &Change) -> Result<(), Error> {
    let mut fields = Fields::default();
    if let Some(name) = &change.name {
        fields.text("name", name.trim(), 1, MAX_NAME);
    }
    if let Some(description) = &change.description {
        fields.text("description", description, 0, MAX_DESCRIPTION);
        fields.check(!change.clear_description, "description", "is set and cleared at once");
    }
    if let Some(platforms) = &change.platforms {
        check_platforms(&mut fields, platforms);
    }
    if let Some(status) = &change.status_global {
        fields.one_of("status_global", status, &Status::NAMES);
        fields.check(!change.clear_status_global, "status_global", "is set and cleared at once");
    }
    if let Some(tactics) = &change.tactics {
        check_tactics(&mut fields, tx, before.domain, tactics).await?;
    }
    Ok(fields.finish()?)
}

/// Notes that a lead looked at a technique as it is now.
pub(crate) async fn review(catalog: &Catalog, ctx: &OpCtx, id: &str) -> Result<Technique, Error> {
    let reviewer = ctx.require(&[Role::RedLead, Role::BlueLead, Role::Admin])?.username.clone();
    let id = mitre_id(id)?;
    let mut tx = catalog.db.begin().await?;
    let before = techniques::lock_by_mitre_id(&mut tx, &id).await?.ok_or(Error::UnknownTechnique(id))?;
    ctx.expect_version(before.version)?;
    let mut after = before.clone();
    let now = now();
    after.review_required = false;
    after.last_reviewed_at = Some(now);
    after.last_reviewed_by = Some(reviewer);
    after.touch(now);
    if !techniques::update(&mut tx, &after).await? {
        return Err(Error::Raced);
    }
    record(catalog, &mut tx, ctx, "review_technique", &after, difference(&before, &after)).await?;
    tx.commit().await?;
    Ok(after)
}

/// The event, the line of the audit trail, and what is remembered.
async fn record(
    catalog: &Catalog,
    tx: &mut Tx,
    ctx: &OpCtx,
    action: &str,
    technique: &Technique,
    details: Value,
) -> Result<(), Error> {
    let changed = std::slice::from_ref(technique);
    techniques_changed(&catalog.outbox, tx, Cause::Request(ctx), changed, &[]).await?;
    let audit = Audit { action, entity_type: "technique", entity_id: technique.id.to_string(), details };
    catalog.outbox.audit(tx, ctx, audit).await?;
    catalog.cache.clear_on_commit(tx);
    Ok(())
}

fn shown(technique: &Technique) -> Map<String, Value> {
    let description: Option<String> = technique.description.as_ref().map(|text| text.chars().take(AUDITED).collect());
    let fields = [
        ("name", json!(technique.name)),
        ("description", json!(description)),
        ("tactics", json!(technique.tactics)),
        ("platforms", json!(technique.platforms)),
        ("status_global", json!(technique.status().as_str())),
        ("status_overridden", json!(technique.status_override.is_some())),
        ("review_required", json!(technique.review_required)),
        ("last_reviewed_at", json!(technique.last_reviewed_at)),
        ("last_reviewed_by", json!(technique.last_reviewed_by)),
    ];
    fields.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

fn difference(before: &Technique, after: &Technique) -> Value {
    let (mut old, mut new) = (shown(before), shown(after));
    old.retain(|name, value| new.get(name) != Some(value));
    new.retain(|name, _| old.contains_key(name));
    json!({ "mitre_id": after.mitre_id, "before": old, "after": new })
}

/// A technique's tactics must be columns of its matrix.
async fn check_tactics(fields: &mut Fields, tx: &mut Tx, domain: Domain, wanted: &[String]) -> Result<(), Error> {
    if wanted.is_empty() || wanted.len() > MAX_WORDS {
        fields.add("tactics", format!("must have 1 to {MAX_WORDS} entries"));
        return Ok(());
    }
    let known: HashSet<String> = tactics::of_domain(tx, domain)
        .await?
        .into_iter()
        .filter(|tactic| !tactic.deprecated)
        .map(|tactic| tactic.short_name)
        .collect();
    let unknown: Vec<String> = wanted
        .iter()
        .filter(|tactic| !known.contains(&short_name(tactic)))
        .map(|tactic| format!("'{}'", tactic.chars().take(64).collect::<String>()))
        .collect();
    fields.check(
        unknown.is_empty(),
        "tactics",
        &format!("{} is no tactic of the {} matrix", unknown.join(", "), domain.as_str()),
    );
    Ok(())
}

fn clean_tactics(tactics: &[String]) -> Vec<String> {
    unique(tactics.iter().map(|tactic| short_name(tactic)))
}

fn check_platforms(fields: &mut Fields, platforms: &[String]) {
    if platforms.len() > MAX_WORDS {
        fields.add("platforms", format!("must have at most {MAX_WORDS} entries"));
        return;
    }
    for platform in platforms {
        fields.text("platforms", platform.trim(), 1, 64);
    }
}
