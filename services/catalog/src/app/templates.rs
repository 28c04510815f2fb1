//! Templates: lists, statistics, and those that administrators make.

use std::collections::{BTreeMap, HashMap};

use aegis_auth::{OpCtx, Role};
use aegis_db::{now, page};
use aegis_error::{Code, Failure, Fields};
use aegis_events::Audit;
use serde_json::json;
use uuid::Uuid;

use super::{Catalog, MAX_PAGE, PAGE, Page, search_term, sort_order};
use crate::{
    domain::{
        technique::{MAX_NAME, is_mitre_id},
        template::{CUSTOM, MAX_TEXT, NO_DETAILS, SEVERITIES, Template},
    },
    error::Error,
    store::{
        search::{self, SearchEntry},
        templates::{self, Filter, Sort},
    },
};

/// Bytes of a page's texts at most, so that it fits into a message. The token goes on after a page cut short.
const PAGE_BYTES: usize = 12 * 1024 * 1024;
/// Techniques whose templates are picked at once, at most.
const MAX_PICKED: usize = 2_000;
/// Templates picked of one technique, at most.
const MAX_PER_TECHNIQUE: i32 = 20;
/// The platform of templates that name none, in the statistics.
const ANY_PLATFORM: &str = "any";

/// What a list is asked for.
#[derive(Clone, Debug, Default)]
pub(crate) struct Query {
    pub page_size: i32,
    pub page_token: String,
    pub skip: i32,
    pub source: Option<String>,
    pub platform: Option<String>,
    pub severity: Option<String>,
    pub search: Option<String>,
    pub mitre_technique_id: Option<String>,
    pub is_active: Option<bool>,
    pub sort: String,
}

/// A page of templates, by technique and name.
pub(crate) async fn list(catalog: &Catalog, ctx: &OpCtx, query: Query) -> Result<Page<Template>, Error> {
    ctx.user()?;
    let limit = page::size(query.page_size, PAGE, MAX_PAGE)?;
    let offset = page::offset(&query.page_token, query.skip)?;
    let mut fields = Fields::default();
    for (name, text) in [
        ("source", &query.source),
        ("platform", &query.platform),
        ("search", &query.search),
        ("mitre_technique_id", &query.mitre_technique_id),
    ] {
        fields.text(name, text.as_deref().unwrap_or_default(), 0, 200);
    }
    if let Some(severity) = &query.severity {
        fields.one_of("severity", severity, &SEVERITIES);
    }
    let sorts = [
        ("name", Sort::Name),
        ("severity", Sort::Severity),
        ("mitre_technique_id", Sort::MitreTechniqueId),
        ("updated_at", Sort::Updated),
    ];
    let sort = sort_order(&mut fields, &query.sort, &sorts);
    fields.finish()?;
    let filter = Filter {
        source: search_term(query.source),
        platform: search_term(query.platform),
        severity: query.severity,
        search: search_term(query.search),
        mitre_technique_id: search_term(query.mitre_technique_id).map(|id| id.to_uppercase()),
        is_active: query.is_active,
        sort,
    };
    let (mut rows, total) = templates::list(&catalog.db, &filter, limit, offset).await?;
    let mut bytes = 0;
    let fits = rows.iter().take_while(|template| {
        bytes += size(template);
        bytes <= PAGE_BYTES
    });
    let fits = fits.count();
    rows.truncate(fits);
    Ok(Page { next_page_token: page::next_offset(offset, rows.len(), total), rows, total })
}

fn size(template: &Template) -> usize {
    let texts = [
        &template.description,
        &template.attack_procedure,
        &template.tool_suggested,
        &template.suggested_remediation,
        &template.expected_detection,
        &template.cleanup_procedure,
    ];
    // What is short is rounded up.
    1_024 + template.name.len() + template.details.len() + texts.into_iter().flatten().map(String::len).sum::<usize>()
}

/// The template with an id.
pub(crate) async fn get(catalog: &Catalog, ctx: &OpCtx, id: Uuid) -> Result<Template, Error> {
    ctx.user()?;
    templates::by_id(&catalog.db, id).await?.ok_or_else(|| Error::UnknownTemplate(id.to_string()))
}

/// The best templates of techniques, in the order of the ids.
pub(crate) async fn pick(
    catalog: &Catalog,
    ctx: &OpCtx,
    mitre_ids: Vec<String>,
    per_technique: i32,
    platform: Option<String>,
) -> Result<Vec<Template>, Error> {
    ctx.user()?;
    let mut fields = Fields::default();
    fields.check(mitre_ids.len() <= MAX_PICKED, "mitre_ids", &format!("must have at most {MAX_PICKED} entries"));
    let mitre_ids: Vec<String> = mitre_ids.iter().take(MAX_PICKED).map(|id| id.trim().to_uppercase()).collect();
    fields.check(mitre_ids.iter().all(|id| is_mitre_id(id)), "mitre_ids", "must be ids such as T1059 or T1059.001");
    fields.check((0..=MAX_PER_TECHNIQUE).contains(&per_technique), "per_technique", "must be 1 to 20");
    fields.text("platform", platform.as_deref().unwrap_or_default(), 0, 200);
    fields.finish()?;
    let platform = search_term(platform);
    let places: HashMap<&str, usize> = mitre_ids.iter().map(String::as_str).zip(0..).collect();
    let most = i64::from(per_technique.max(1));
    let mut best = templates::best(&catalog.db, &mitre_ids, most, platform.as_deref()).await?;
    if best.iter().map(size).sum::<usize>() > PAGE_BYTES {
        let text = "the templates are too much for one answer: ask for fewer techniques at once";
        return Err(Failure::new(Code::TooLarge, text).into());
    }
    // Stable: of one technique the best stay first.
    best.sort_by_key(|template| places.get(template.mitre_technique_id.as_str()).copied());
    Ok(best)
}

/// A template that an administrator makes.
#[derive(Clone, Debug, Default)]
pub(crate) struct NewTemplate {
    pub name: String,
    pub description: Option<String>,
    pub mitre_technique_id: String,
    pub platform: Option<String>,
    pub severity: String,
    pub attack_procedure: Option<String>,
    pub tool_suggested: Option<String>,
    pub suggested_remediation: Option<String>,
    pub expected_detection: Option<String>,
    pub cleanup_procedure: Option<String>,
}

/// Makes a template of the source `custom`; its id there is its id here.
pub(crate) async fn create(catalog: &Catalog, ctx: &OpCtx, new: NewTemplate) -> Result<Template, Error> {
    ctx.require(&[Role::Admin])?;
    let severity = if new.severity.is_empty() { "medium".to_owned() } else { new.severity };
    let mut fields = Fields::default();
    fields.text("name", new.name.trim(), 1, MAX_NAME);
    fields.check(is_mitre_id(&new.mitre_technique_id), "mitre_technique_id", "must look like T1059 or T1059.001");
    fields.one_of("severity", &severity, &SEVERITIES);
    for (name, text, most) in [
        ("platform", &new.platform, 64),
        ("description", &new.description, MAX_TEXT),
        ("attack_procedure", &new.attack_procedure, MAX_TEXT),
        ("tool_suggested", &new.tool_suggested, MAX_TEXT),
        ("suggested_remediation", &new.suggested_remediation, MAX_TEXT),
        ("expected_detection", &new.expected_detection, MAX_TEXT),
        ("cleanup_procedure", &new.cleanup_procedure, MAX_TEXT),
    ] {
        fields.text(name, text.as_deref().unwrap_or_default(), 0, most);
    }
    fields.finish()?;
    let (id, now) = (Uuid::now_v7(), now());
    let some = |text: Option<String>| text.filter(|text| !text.trim().is_empty());
    let template = Template {
        id,
        name: new.name.trim().to_owned(),
        description: some(new.description),
        source: CUSTOM.to_owned(),
        source_id: id.to_string(),
        mitre_technique_id: new.mitre_technique_id,
        platforms: search_term(new.platform).into_iter().collect(),
        severity,
        attack_procedure: some(new.attack_procedure),
        tool_suggested: some(new.tool_suggested),
        suggested_remediation: some(new.suggested_remediation),
        expected_detection: some(new.expected_detection),
        cleanup_procedure: some(new.cleanup_procedure),
        details: NO_DETAILS.to_owned(),
        origin: None,
        content_hash: None,
        vanished: false,
        is_active: true,
        version: 1,
        created_at: now,
        updated_at: now,
    };
    let mut tx = catalog.db.begin().await?;
    templates::write(&mut tx, std::slice::from_ref(&template)).await?;
    search::put(&mut tx, &[SearchEntry::of_template(&template, template.is_offered())]).await?;
    let audit = Audit {
        action: "create_template",
        entity_type: "template",
        entity_id: id.to_string(),
        details: json!({ "after": {
            "name": template.name,
            "mitre_technique_id": template.mitre_technique_id,
            "platform": template.platform(),
            "severity": template.severity,
            "description": template.description,
            "attack_procedure": template.attack_procedure,
            "tool_suggested": template.tool_suggested,
            "suggested_remediation": template.suggested_remediation,
            "expected_detection": template.expected_detection,
            "cleanup_procedure": template.cleanup_procedure,
            "is_active": template.is_active,
        } }),
    };
    catalog.outbox.audit(&mut tx, ctx, audit).await?;
    tx.commit().await?;
    Ok(template)
}

/// How many templates there are.
#[derive(Clone, Debug, Default)]
pub(crate) struct Stats {
    pub active: i64,
    pub inactive: i64,
    pub by_source: BTreeMap<String, i64>,
    pub by_platform: BTreeMap<String, i64>,
}

/// The figures of all templates.
pub(crate) async fn stats(catalog: &Catalog, ctx: &OpCtx) -> Result<Stats, Error> {
    ctx.require(&[Role::Admin])?;
    let mut stats = Stats::default();
    let (groups, platforms) = templates::groups(&catalog.db).await?;
    for group in groups {
        *if group.offered { &mut stats.active } else { &mut stats.inactive } += group.count;
        *stats.by_source.entry(group.source).or_default() += group.count;
    }
    for (platform, count) in platforms {
        *stats.by_platform.entry(platform.unwrap_or_else(|| ANY_PLATFORM.to_owned())).or_default() += count;
    }
    Ok(stats)
}

/// Offers a template for new tests, or no longer.
pub(crate) async fn toggle(catalog: &Catalog, ctx: &OpCtx, id: Uuid) -> Result<Template, Error> {
    ctx.require(&[Role::Admin])?;
    let mut tx = catalog.db.begin().await?;
    let mut template =
        templates::lock_by_id(&mut tx, id).await?.ok_or_else(|| Error::UnknownTemplate(id.to_string()))?;
    ctx.expect_version(template.version)?;
    template.is_active = !template.is_active;
    template.version += 1;
    template.updated_at = now();
    if !templates::set_active(&mut tx, &template).await? {
        return Err(Error::Raced);
    }
    search::put(&mut tx, &[SearchEntry::of_template(&template, template.is_offered())]).await?;
    let audit = Audit {
        action: "toggle_template",
        entity_type: "template",
        entity_id: id.to_string(),
        details: json!({
            "before": { "is_active": !template.is_active },
            "after": { "is_active": template.is_active },
        }),
    };
    catalog.outbox.audit(&mut tx, ctx, audit).await?;
    tx.commit().await?;
    Ok(template)
}
