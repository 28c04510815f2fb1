//! What is known of techniques, of any kind: records, what they are linked with, and how much there is of a technique.

use aegis_proto::catalog::v1::{
    self as proto, GetKnowledgeRequest, GetTechniqueKnowledgeRequest, ListKnowledgeRequest, ListLinksRequest,
};
use axum::extract::State;
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::{
    router::{OpenApiRouter, UtoipaMethodRouterExt},
    routes,
};

use super::d3fend::AttackMapping;
use crate::{
    answer::Answer,
    error::Problem,
    extract::{Caller, Name, Names, Query, page},
    middleware::compression,
    openapi::responses::NotFound,
    state::Gateway,
    values::{KnowledgeKind, filled, json, time_always},
};

/// Links that come with one record; the rest is a list of its own.
pub const LINKS: i32 = 5000;

/// Routes that need a token.
pub fn protected() -> OpenApiRouter<Gateway> {
    OpenApiRouter::new()
        .routes(routes!(list_knowledge).layer(compression()))
        .routes(routes!(get_knowledge).layer(compression()))
        .routes(routes!(get_technique_knowledge))
        .routes(routes!(list_technique_links).layer(compression()))
}

/// A record of the knowledge base as lists show it: without its texts.
#[derive(Serialize, ToSchema)]
#[schema(example = json!({
    "id": "0190b7a2-9000-7c3e-9d2a-3f6d1c0e8a01", "kind": "software", "key": "S0002", "source": "mitre_attack",
    "name": "Mimikatz", "aliases": [], "platforms": ["windows"], "url": "https://attack.mitre.org/software/S0002",
    "collection": null, "revoked": false, "revoked_by": null, "deprecated": false,
    "mitre_technique_ids": ["T1003.001"], "created_at": "2024-01-01T00:00:00Z", "updated_at": "2024-01-01T00:00:00Z"
}))]
pub struct KnowledgeRow {
    #[schema(value_type = Uuid)]
    id: String,
    #[schema(value_type = KnowledgeKind)]
    kind: String,
    /// Its id at the publisher, such as S0002 or M1049.
    key: String,
    source: String,
    name: String,
    aliases: Vec<String>,
    platforms: Vec<String>,
    url: Option<String>,
    /// What it is a part of.
    collection: Option<String>,
    revoked: bool,
    /// Key of the successor.
    revoked_by: Option<String>,
    deprecated: bool,
    /// ATT&CK ids of the techniques that it is linked with.
    mitre_technique_ids: Vec<String>,
    created_at: DateTime<Utc>,
    updated_at: DateTime<Utc>,
}

/// A record of the knowledge base with all that is known of it.
#[derive(Serialize, ToSchema)]
#[schema(example = json!({
    "id": "0190b7a2-9000-7c3e-9d2a-3f6d1c0e8a01", "kind": "software", "key": "S0002", "source": "mitre_attack",
    "name": "Mimikatz", "aliases": [], "platforms": ["windows"], "url": "https://attack.mitre.org/software/S0002",
    "collection": null, "revoked": false, "revoked_by": null, "deprecated": false, "mitre_technique_ids": ["T1003.001"],
    "created_at": "2024-01-01T00:00:00Z", "updated_at": "2024-01-01T00:00:00Z", "description": "What it is …",
    "attributes": {"type": "tool"}, "links": [], "links_total": 0
}))]
pub struct KnowledgeDetail {
    #[serde(flatten)]
    row: KnowledgeRow,
    /// Markdown as published.
    description: Option<String>,
    /// What its kind has besides.
    #[schema(value_type = Object)]
    attributes: serde_json::Value,
    /// What it is linked with, 5,000 at most.
    links: Vec<Link>,
    links_total: i64,
}

/// What is said of a record and another one.
#[derive(Serialize, ToSchema)]
#[schema(example = json!({
    "relation": "uses", "outgoing": true, "kind": "technique", "key": "T1003.001", "name": "LSASS Memory",
    "id": "0190b7a2-5f00-7c3e-9d2a-3f6d1c0e8a11", "source": "mitre_attack", "origin": "mitre_attack_enterprise",
    "description": "How it does so …", "references": [{"source_name": "A report", "url": "https://example.com"}]
}))]
pub struct Link {
    /// uses | mitigates | detects | counters | maps_to | attributed_to | has | targeted_by
    relation: String,
    /// This record is the one that uses, mitigates …
    outgoing: bool,
    /// What the other one is: a kind of the knowledge base, or `technique`.
    kind: String,
    /// ATT&CK id, or the key of its kind.
    pub key: String,
    pub name: Option<String>,
    /// Null where it is named but not known here yet.
    #[schema(value_type = Option<Uuid>)]
    pub id: Option<String>,
    source: Option<String>,
    /// The data source that says so.
    pub origin: String,
    /// Markdown as published.
    pub description: Option<String>,
    #[schema(value_type = Vec<Object>)]
    pub references: serde_json::Value,
}

/// How much is known of a technique.
#[derive(Serialize, ToSchema)]
#[schema(example = json!({
    "mitre_id": "T1059.001", "total": 217,
    "counts": [{"kind": "detection_rule", "source": "sigma", "relation": "detects", "count": 217}]
}))]
pub struct TechniqueKnowledge {
    mitre_id: String,
    counts: Vec<KnowledgeCount>,
    total: i64,
}

/// How many active records of a kind and source name a technique.
#[derive(Serialize, ToSchema)]
#[schema(example = json!({"kind": "detection_rule", "source": "sigma", "relation": "detects", "count": 217}))]
pub struct KnowledgeCount {
    /// A kind of the knowledge base, or `template`.
    kind: String,
    source: String,
    relation: String,
    count: i64,
}

impl From<proto::Link> for Link {
    fn from(link: proto::Link) -> Link {
        Link {
            relation: link.relation,
            outgoing: link.outgoing,
            kind: link.kind,
            key: link.key,
            name: filled(link.name),
            id: filled(link.id),
            source: filled(link.source),
            origin: link.origin,
            description: link.description,
            references: list(&link.references_json),
        }
    }
}

impl Link {
    /// What a countermeasure or a control says of a technique.
    pub fn mapping(self) -> AttackMapping {
        AttackMapping { mitre_id: self.key, name: self.name, relations: self.references }
    }
}

impl From<proto::Knowledge> for KnowledgeRow {
    fn from(record: proto::Knowledge) -> KnowledgeRow {
        KnowledgeRow {
            id: record.id,
            kind: record.kind,
            key: record.key,
            source: record.source,
            name: record.name,
            aliases: record.aliases,
            platforms: record.platforms,
            url: record.url,
            collection: record.collection,
            revoked: record.revoked,
            revoked_by: record.revoked_by,
            deprecated: record.deprecated,
            mitre_technique_ids: record.mitre_technique_ids,
            created_at: time_always(record.created_at),
            updated_at: time_always(record.updated_at),
        }
    }
}

/// A JSON array of a service; what is none is empty.
fn list(text: &str) -> serde_json::Value {
    Some(json(text)).filter(serde_json::Value::is_array).unwrap_or_else(|| serde_json::json!([]))
}

/// Filters of the knowledge base; all given ones must hold.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct ListKnowledge {
    /// Words of its id, name, aliases or text; the best come first.
    #[param(example = "mimikatz")]
    search: Option<String>,
    #[param(example = "mitre_attack")]
    source: Option<String>,
    /// ATT&CK id of a technique that it is linked with.
    #[param(example = "T1003.001")]
    mitre_technique_id: Option<String>,
    #[param(example = "windows")]
    platform: Option<String>,
    /// What it is a part of.
    collection: Option<String>,
    /// Also those that were revoked or deprecated.
    #[param(default = false)]
    include_revoked: Option<bool>,
    /// `key`, `name` or `updated_at`; with a `-` before it the other way round.
    #[param(example = "name")]
    sort: Option<String>,
    /// Rows at most.
    #[param(minimum = 1, maximum = 5000, default = 1000)]
    limit: Option<u32>,
    /// Rows to leave out before.
    #[param(minimum = 0, maximum = 2147483647, default = 0)]
    offset: Option<u32>,
}

/// Part of what a technique is linked with.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct ListLinks {
    /// What the other one is.
    #[param(inline)]
    kind: Option<KnowledgeKind>,
    /// Also links with what was revoked or deprecated.
    #[param(default = false)]
    include_revoked: Option<bool>,
    /// Rows at most.
    #[param(minimum = 1, maximum = 5000, default = 1000)]
    limit: Option<u32>,
    /// Rows to leave out before.
    #[param(minimum = 0, maximum = 2147483647, default = 0)]
    offset: Option<u32>,
}

/// The records of a kind that a request asks for, and how many there are in all.
pub async fn listed(
    gateway: &Gateway,
    caller: &Caller,
    request: ListKnowledgeRequest,
) -> Result<(Vec<proto::Knowledge>, i64), Problem> {
    let answer = gateway.deps.knowledge.clone().list_knowledge(caller.ctx().outgoing(request)).await?.into_inner();
    Ok((answer.records, answer.total_size))
}

/// The record of a kind with an id: its UUID or its key.
pub async fn record(
    gateway: &Gateway,
    caller: &Caller,
    kind: KnowledgeKind,
    id: String,
) -> Result<proto::Knowledge, Problem> {
    let request = GetKnowledgeRequest { kind: kind.into(), id };
    let answer = gateway.deps.knowledge.clone().get_knowledge(caller.ctx().outgoing(request)).await?.into_inner();
    answer.record.ok_or_else(Problem::empty)
}

/// What a record is linked with, and how many links there are in all.
pub async fn links(
    gateway: &Gateway,
    caller: &Caller,
    kind: &str,
    key: &str,
) -> Result<(Vec<proto::Link>, i64), Problem> {
    let request = ListLinksRequest {
        kind: kind.to_owned(),
        key: key.to_owned(),
        page_size: LINKS,
        ..ListLinksRequest::default()
    };
    let answer = gateway.deps.knowledge.clone().list_links(caller.ctx().outgoing(request)).await?.into_inner();
    Ok((answer.links, answer.total_size))
}

/// List the knowledge base
///
/// One kind of it, without texts; `X-Total-Count` has the number of all that fit. Threat actors, detection rules,
/// countermeasures and controls have routes of their own besides.
#[utoipa::path(get, path = "/api/v1/knowledge/{kind}", tag = "Knowledge",
    params(("kind" = KnowledgeKind, Path, description = "Kind", example = "software"), ListKnowledge),
    responses((status = 200, description = "Records", body = [KnowledgeRow])))]
async fn list_knowledge(
    State(gateway): State<Gateway>,
    caller: Caller,
    Name(kind): Name,
    Query(query): Query<ListKnowledge>,
) -> Result<Answer, Problem> {
    let (page_size, skip) = page(query.limit, query.offset, 1000, 5000)?;
    let request = ListKnowledgeRequest {
        kind: kind_of(&kind)?.into(),
        page_size,
        skip,
        search: query.search,
        source: query.source,
        mitre_technique_id: query.mitre_technique_id,
        platform: query.platform,
        collection: query.collection,
        include_revoked: query.include_revoked.unwrap_or(false),
        sort: query.sort.unwrap_or_default(),
        ..ListKnowledgeRequest::default()
    };
    let (records, total) = listed(&gateway, &caller, request).await?;
    Answer::list(&records.into_iter().map(KnowledgeRow::from).collect::<Vec<_>>(), total)
}

/// The kind that a path names.
fn kind_of(text: &str) -> Result<KnowledgeKind, Problem> {
    serde_json::from_value(serde_json::Value::String(text.to_owned()))
        .map_err(|error| Problem::invalid("kind", error.to_string()))
}

/// Read a record of the knowledge base
///
/// By UUID or key, with its texts and what it is linked with.
#[utoipa::path(get, path = "/api/v1/knowledge/{kind}/{id}", tag = "Knowledge",
    params(("kind" = KnowledgeKind, Path, description = "Kind", example = "software"),
        ("id" = String, Path, description = "UUID or key", example = "S0002")),
    responses(
        (status = 200, description = "The record", body = KnowledgeDetail),
        (status = 404, response = NotFound),
    ))]
async fn get_knowledge(
    State(gateway): State<Gateway>,
    caller: Caller,
    Names(kind, id): Names,
) -> Result<Answer, Problem> {
    let mut record = record(&gateway, &caller, kind_of(&kind)?, id).await?;
    let (links, links_total) = links(&gateway, &caller, &record.kind, &record.key).await?;
    let description = record.description.take();
    let attributes = json(&record.attributes_json);
    let version = record.version;
    let detail = KnowledgeDetail {
        row: record.into(),
        description,
        attributes,
        links: links.into_iter().map(Link::from).collect(),
        links_total,
    };
    Answer::entity(version, &detail)
}

/// Count what is known of a technique
///
/// Active records by kind, source and relation: who uses it, which rules detect it, what mitigates and counters it,
/// which controls name it, which templates test it.
#[utoipa::path(get, path = "/api/v1/techniques/{mitre_id}/knowledge", tag = "Knowledge",
    params(("mitre_id" = String, Path, description = "ATT&CK id", example = "T1059.001")),
    responses(
        (status = 200, description = "The counts", body = TechniqueKnowledge),
        (status = 404, response = NotFound),
    ))]
async fn get_technique_knowledge(
    State(gateway): State<Gateway>,
    caller: Caller,
    Name(mitre_id): Name,
) -> Result<Answer, Problem> {
    let request = caller.ctx().outgoing(GetTechniqueKnowledgeRequest { mitre_id: mitre_id.clone() });
    let answer = gateway.deps.knowledge.clone().get_technique_knowledge(request).await?.into_inner();
    let total = answer.counts.iter().map(|row| row.count).sum();
    let counts = answer.counts.into_iter().map(|row| KnowledgeCount {
        kind: row.kind,
        source: row.source,
        relation: row.relation,
        count: row.count,
    });
    let mitre_id = mitre_id.trim().to_ascii_uppercase();
    Answer::json(&TechniqueKnowledge { mitre_id, counts: counts.collect(), total })
}

/// List what a technique is linked with
///
/// With the words that the source has for it; `X-Total-Count` has the number of all that fit.
#[utoipa::path(get, path = "/api/v1/techniques/{mitre_id}/links", tag = "Knowledge",
    params(("mitre_id" = String, Path, description = "ATT&CK id", example = "T1059.001"), ListLinks),
    responses((status = 200, description = "Links", body = [Link]), (status = 404, response = NotFound)))]
async fn list_technique_links(
    State(gateway): State<Gateway>,
    caller: Caller,
    Name(mitre_id): Name,
    Query(query): Query<ListLinks>,
) -> Result<Answer, Problem> {
    let (page_size, skip) = page(query.limit, query.offset, 1000, 5000)?;
    let request = ListLinksRequest {
        kind: "technique".to_owned(),
        key: mitre_id,
        other_kind: query.kind.map(String::from).unwrap_or_default(),
        page_size,
        page_token: String::new(),
        skip,
        include_revoked: query.include_revoked.unwrap_or(false),
    };
    let answer = gateway.deps.knowledge.clone().list_links(caller.ctx().outgoing(request)).await?.into_inner();
    Answer::list(&answer.links.into_iter().map(Link::from).collect::<Vec<_>>(), answer.total_size)
}
