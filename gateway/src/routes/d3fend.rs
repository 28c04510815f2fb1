//! D3FEND's countermeasures, and which of them are in place here.

use aegis_proto::catalog::v1::{self as proto, ListKnowledgeRequest, UpdateDefenceRequest};
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
    extract::{Caller, Json, Name, Query, page},
    middleware::compression,
    openapi::responses::{Conflict, NotFound},
    state::Gateway,
    values::{KnowledgeKind, json, time_always},
};

/// Routes that need a token.
pub fn protected() -> OpenApiRouter<Gateway> {
    OpenApiRouter::new()
        .routes(routes!(list_defences).layer(compression()))
        .routes(routes!(get_defence, update_defence))
}

/// A countermeasure.
#[derive(Serialize, ToSchema)]
#[schema(example = json!({
    "id": "D3-NTA", "uuid": "0190b7a2-9000-7c3e-9d2a-3f6d1c0e8a04", "name": "Network Traffic Analysis",
    "tactic": "Detect", "definition": null, "parent_id": null, "implemented": false, "mitre_technique_ids": ["T1071"],
    "url": null, "deprecated": false, "updated_at": "2024-01-01T00:00:00Z"
}))]
pub struct Defence {
    /// D3FEND's id.
    id: String,
    #[schema(value_type = Uuid)]
    uuid: String,
    name: String,
    /// D3FEND's tactic, such as Detect.
    tactic: Option<String>,
    /// Null in lists.
    definition: Option<String>,
    parent_id: Option<String>,
    /// A lead has said that it is in place here.
    implemented: bool,
    /// ATT&CK ids of the techniques that it counters.
    mitre_technique_ids: Vec<String>,
    url: Option<String>,
    deprecated: bool,
    updated_at: DateTime<Utc>,
}

/// A countermeasure and the techniques that it counters.
#[derive(Serialize, ToSchema)]
#[schema(example = json!({
    "id": "D3-NTA", "uuid": "0190b7a2-9000-7c3e-9d2a-3f6d1c0e8a04", "name": "Network Traffic Analysis",
    "tactic": "Detect", "definition": "What it is …", "parent_id": null, "implemented": false,
    "mitre_technique_ids": ["T1071"], "url": null, "deprecated": false, "updated_at": "2024-01-01T00:00:00Z",
    "attack_mappings": [{"mitre_id": "T1071", "name": "Application Layer Protocol", "relations": []}]
}))]
pub struct DefenceDetail {
    #[serde(flatten)]
    defence: Defence,
    attack_mappings: Vec<AttackMapping>,
}

/// A technique that a countermeasure counters, and how.
#[derive(Serialize, ToSchema)]
#[schema(example = json!({"mitre_id": "T1071", "name": "Application Layer Protocol", "relations": []}))]
pub struct AttackMapping {
    pub mitre_id: String,
    pub name: Option<String>,
    /// Through which artifacts: what the countermeasure does to one and what the technique does to it.
    #[schema(value_type = Vec<Object>)]
    pub relations: Value,
}

impl From<proto::Knowledge> for Defence {
    fn from(record: proto::Knowledge) -> Defence {
        let attributes = json(&record.attributes_json);
        Defence {
            id: record.key,
            uuid: record.id,
            name: record.name,
            tactic: record.collection,
            definition: record.description,
            parent_id: attributes["parent_id"].as_str().map(str::to_owned),
            implemented: record.implemented,
            mitre_technique_ids: record.mitre_technique_ids,
            url: record.url,
            deprecated: record.deprecated,
            updated_at: time_always(record.updated_at),
        }
    }
}

/// Filters of countermeasures; all given ones must hold.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct ListDefences {
    /// D3FEND's tactic.
    #[param(example = "Detect")]
    tactic: Option<String>,
    /// ATT&CK id of a technique that it counters.
    #[param(example = "T1059.001")]
    mitre_technique_id: Option<String>,
    implemented: Option<bool>,
    /// Words of its id, name or definition; the best come first.
    #[param(example = "traffic")]
    search: Option<String>,
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

/// Changes of a countermeasure.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"implemented": true}))]
pub struct DefenceChanges {
    /// Whether it is in place here.
    implemented: bool,
}

/// As D3FEND writes its tactics.
fn capitalized(tactic: &str) -> String {
    let mut letters = tactic.trim().chars();
    letters
        .next()
        .map_or_else(String::new, |first| first.to_uppercase().chain(letters.flat_map(char::to_lowercase)).collect())
}

/// List countermeasures
///
/// D3FEND's defensive techniques, without definitions; `X-Total-Count` has the number of all that fit.
#[utoipa::path(get, path = "/api/v1/d3fend", tag = "D3FEND", params(ListDefences),
    responses((status = 200, description = "Countermeasures", body = [Defence])))]
async fn list_defences(
    State(gateway): State<Gateway>,
    caller: Caller,
    Query(query): Query<ListDefences>,
) -> Result<Answer, Problem> {
    let (page_size, skip) = page(query.limit, query.offset, 1000, 5000)?;
    let request = ListKnowledgeRequest {
        kind: KnowledgeKind::Defence.into(),
        page_size,
        skip,
        search: query.search,
        mitre_technique_id: query.mitre_technique_id,
        collection: query.tactic.as_deref().map(capitalized),
        implemented: query.implemented,
        sort: query.sort.unwrap_or_default(),
        ..ListKnowledgeRequest::default()
    };
    let (records, total) = listed(&gateway, &caller, request).await?;
    Answer::list(&records.into_iter().map(Defence::from).collect::<Vec<_>>(), total)
}

/// Read a countermeasure
///
/// With the techniques that it counters.
#[utoipa::path(get, path = "/api/v1/d3fend/{id}", tag = "D3FEND",
    params(("id" = String, Path, description = "D3FEND id or UUID", example = "D3-NTA")),
    responses(
        (status = 200, description = "The countermeasure", body = DefenceDetail),
        (status = 404, response = NotFound),
    ))]
async fn get_defence(State(gateway): State<Gateway>, caller: Caller, Name(id): Name) -> Result<Answer, Problem> {
    let record = record(&gateway, &caller, KnowledgeKind::Defence, id).await?;
    let (all, _) = links(&gateway, &caller, &record.kind, &record.key).await?;
    let mappings = all.into_iter().filter(|link| link.kind == "technique").map(Link::from);
    let version = record.version;
    let detail = DefenceDetail { defence: record.into(), attack_mappings: mappings.map(Link::mapping).collect() };
    Answer::entity(version, &detail)
}

/// Say whether a countermeasure is in place
///
/// Leads and administrators. It counts in the scores of the techniques that it counters; a sync leaves it alone.
#[utoipa::path(patch, path = "/api/v1/d3fend/{id}", tag = "D3FEND", request_body = DefenceChanges,
    params(("id" = String, Path, description = "D3FEND id or UUID", example = "D3-NTA")),
    extensions(("x-roles" = json!(["admin", "red_lead", "blue_lead"]))),
    responses(
        (status = 200, description = "Changed", body = Defence),
        (status = 404, response = NotFound),
        (status = 409, response = Conflict),
    ))]
async fn update_defence(
    State(gateway): State<Gateway>,
    caller: Caller,
    Name(id): Name,
    Json(body): Json<DefenceChanges>,
) -> Result<Answer, Problem> {
    let request = UpdateDefenceRequest { id, implemented: body.implemented };
    let answer = gateway.deps.knowledge.clone().update_defence(caller.ctx().outgoing(request)).await?.into_inner();
    let record = answer.record.ok_or_else(Problem::empty)?;
    Answer::entity(record.version, &Defence::from(record))
}
