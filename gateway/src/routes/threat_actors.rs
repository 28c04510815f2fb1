//! Threat actors and the techniques that they use.

use aegis_proto::catalog::v1::{self as proto, ListKnowledgeRequest};
use axum::extract::State;
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::{
    router::{OpenApiRouter, UtoipaMethodRouterExt},
    routes,
};

use super::knowledge::{Link, links, listed, record};
use crate::{
    answer::Answer,
    error::Problem,
    extract::{Caller, Name, Query, page},
    middleware::compression,
    openapi::responses::NotFound,
    state::Gateway,
    values::{KnowledgeKind, json, time_always},
};

/// Routes that need a token.
pub fn protected() -> OpenApiRouter<Gateway> {
    OpenApiRouter::new()
        .routes(routes!(list_threat_actors).layer(compression()))
        .routes(routes!(get_threat_actor).layer(compression()))
}

/// Somebody who attacks.
#[derive(Serialize, ToSchema)]
#[schema(example = json!({
    "id": "0190b7a2-9000-7c3e-9d2a-3f6d1c0e8a02", "mitre_id": "G0007", "name": "APT28", "aliases": ["Fancy Bear"],
    "country": "RU", "motivation": "espionage", "sophistication": null, "description": null, "first_seen": null,
    "last_seen": null, "source": "mitre_attack", "url": "https://attack.mitre.org/groups/G0007", "revoked": false,
    "revoked_by": null, "deprecated": false, "mitre_technique_ids": ["T1003"],
    "created_at": "2024-01-01T00:00:00Z", "updated_at": "2024-01-01T00:00:00Z"
}))]
pub struct ThreatActor {
    #[schema(value_type = Uuid)]
    id: String,
    /// Of an ATT&CK group.
    mitre_id: Option<String>,
    name: String,
    aliases: Vec<String>,
    /// ISO 3166-1 alpha-2.
    country: Option<String>,
    motivation: Option<String>,
    sophistication: Option<String>,
    /// Markdown as published; null in lists.
    description: Option<String>,
    first_seen: Option<String>,
    last_seen: Option<String>,
    source: String,
    url: Option<String>,
    revoked: bool,
    /// Key of the actor that took its place, or that it was merged into.
    revoked_by: Option<String>,
    deprecated: bool,
    /// ATT&CK ids of the techniques that it uses.
    mitre_technique_ids: Vec<String>,
    created_at: DateTime<Utc>,
    updated_at: DateTime<Utc>,
}

/// A threat actor with what is known of it.
#[derive(Serialize, ToSchema)]
#[schema(example = json!({
    "id": "0190b7a2-9000-7c3e-9d2a-3f6d1c0e8a02", "mitre_id": "G0007", "name": "APT28", "aliases": ["Fancy Bear"],
    "country": "RU", "motivation": "espionage", "sophistication": null, "description": "Who they are …",
    "first_seen": null, "last_seen": null, "source": "mitre_attack", "url": "https://attack.mitre.org/groups/G0007",
    "revoked": false, "revoked_by": null, "deprecated": false, "mitre_technique_ids": ["T1003"],
    "created_at": "2024-01-01T00:00:00Z", "updated_at": "2024-01-01T00:00:00Z",
    "techniques": [{
        "mitre_id": "T1003", "name": "OS Credential Dumping", "id": "0190b7a2-5f00-7c3e-9d2a-3f6d1c0e8a11",
        "uses": "How they do …", "references": [], "origin": "mitre_attack_enterprise"
    }],
    "links": [], "attributes": {}
}))]
pub struct ThreatActorDetail {
    #[serde(flatten)]
    actor: ThreatActor,
    /// The techniques that it uses, each with the source's words.
    techniques: Vec<UsedTechnique>,
    /// Its software and the campaigns attributed to it.
    links: Vec<Link>,
    /// What its sources say besides.
    #[schema(value_type = Object)]
    attributes: Value,
}

/// A technique that an actor uses.
#[derive(Serialize, ToSchema)]
#[schema(example = json!({
    "mitre_id": "T1003", "name": "OS Credential Dumping", "id": "0190b7a2-5f00-7c3e-9d2a-3f6d1c0e8a11",
    "uses": "How they do …", "references": [], "origin": "mitre_attack_enterprise"
}))]
pub struct UsedTechnique {
    mitre_id: String,
    name: Option<String>,
    #[schema(value_type = Option<Uuid>)]
    id: Option<String>,
    /// How, as published.
    uses: Option<String>,
    #[schema(value_type = Vec<Object>)]
    references: Value,
    /// The data source that says so.
    origin: String,
}

impl ThreatActor {
    fn new(record: proto::Knowledge, attributes: &Value) -> ThreatActor {
        let text = |name: &str| attributes[name].as_str().map(str::to_owned);
        ThreatActor {
            mitre_id: record.key.starts_with('G').then_some(record.key),
            id: record.id,
            name: record.name,
            aliases: record.aliases,
            country: record.country,
            motivation: record.motivation,
            sophistication: text("sophistication"),
            description: record.description,
            first_seen: text("first_seen"),
            last_seen: text("last_seen"),
            source: record.source,
            url: record.url,
            revoked: record.revoked,
            revoked_by: record.revoked_by,
            deprecated: record.deprecated,
            mitre_technique_ids: record.mitre_technique_ids,
            created_at: time_always(record.created_at),
            updated_at: time_always(record.updated_at),
        }
    }
}

/// Filters of threat actors; all given ones must hold.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct ListThreatActors {
    /// ISO 3166-1 alpha-2.
    #[param(example = "RU")]
    country: Option<String>,
    /// A part of it, whatever its case.
    #[param(example = "espionage")]
    motivation: Option<String>,
    /// Words of its id, names or description; the best come first.
    #[param(example = "bear")]
    search: Option<String>,
    #[param(example = "mitre_attack")]
    source: Option<String>,
    /// ATT&CK id of a technique that it uses.
    #[param(example = "T1003.001")]
    mitre_technique_id: Option<String>,
    /// Also those that were revoked, deprecated or merged.
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

/// List threat actors
///
/// ATT&CK's groups and MISP's actors, one row where both mean the same; `X-Total-Count` has the number of all that fit.
#[utoipa::path(get, path = "/api/v1/threat-actors", tag = "Threat actors", params(ListThreatActors),
    responses((status = 200, description = "Threat actors", body = [ThreatActor])))]
async fn list_threat_actors(
    State(gateway): State<Gateway>,
    caller: Caller,
    Query(query): Query<ListThreatActors>,
) -> Result<Answer, Problem> {
    let (page_size, skip) = page(query.limit, query.offset, 1000, 5000)?;
    let request = ListKnowledgeRequest {
        kind: KnowledgeKind::ThreatActor.into(),
        page_size,
        skip,
        search: query.search,
        source: query.source,
        mitre_technique_id: query.mitre_technique_id,
        country: query.country,
        motivation: query.motivation,
        include_revoked: query.include_revoked.unwrap_or(false),
        sort: query.sort.unwrap_or_default(),
        ..ListKnowledgeRequest::default()
    };
    let (records, total) = listed(&gateway, &caller, request).await?;
    let rows = records.into_iter().map(|record| {
        let attributes = json(&record.attributes_json);
        ThreatActor::new(record, &attributes)
    });
    Answer::list(&rows.collect::<Vec<_>>(), total)
}

/// Read a threat actor
///
/// By UUID or by ATT&CK id; with its techniques, software and campaigns.
#[utoipa::path(get, path = "/api/v1/threat-actors/{id}", tag = "Threat actors",
    params(("id" = String, Path, description = "UUID or ATT&CK id", example = "G0007")),
    responses(
        (status = 200, description = "The actor", body = ThreatActorDetail),
        (status = 404, response = NotFound),
    ))]
async fn get_threat_actor(State(gateway): State<Gateway>, caller: Caller, Name(id): Name) -> Result<Answer, Problem> {
    let record = record(&gateway, &caller, KnowledgeKind::ThreatActor, id).await?;
    let (all, _) = links(&gateway, &caller, &record.kind, &record.key).await?;
    let (version, attributes) = (record.version, json(&record.attributes_json));
    let (used, other): (Vec<_>, Vec<_>) = all.into_iter().partition(|link| link.kind == "technique");
    let techniques = used.into_iter().map(Link::from).map(|link| UsedTechnique {
        mitre_id: link.key,
        name: link.name,
        id: link.id,
        uses: link.description,
        references: link.references,
        origin: link.origin,
    });
    let detail = ThreatActorDetail {
        actor: ThreatActor::new(record, &attributes),
        techniques: techniques.collect(),
        links: other.into_iter().map(Link::from).collect(),
        attributes,
    };
    Answer::entity(version, &detail)
}
