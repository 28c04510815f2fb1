//! Frameworks, their controls, and the techniques that each control is mapped to.

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

use super::{
    d3fend::AttackMapping,
    knowledge::{Link, links, listed, record},
};
use crate::{
    answer::Answer,
    error::Problem,
    extract::{Caller, Name, Names, Query, page},
    middleware::compression,
    openapi::responses::NotFound,
    state::Gateway,
    values::{KnowledgeKind, json, time_always},
};

/// Routes that need a token.
pub fn protected() -> OpenApiRouter<Gateway> {
    OpenApiRouter::new()
        .routes(routes!(list_frameworks))
        .routes(routes!(list_controls).layer(compression()))
        .routes(routes!(get_control))
}

/// A set of controls and where its mapping to ATT&CK comes from.
#[derive(Serialize, ToSchema)]
#[schema(example = json!({
    "id": "nist_800_53", "name": "NIST SP 800-53", "version": "rev5", "attack_version": "16.1",
    "mapping_source": "CTID Mappings Explorer", "description": null, "updated_at": "2024-01-01T00:00:00Z"
}))]
pub struct Framework {
    /// Its name in paths.
    id: String,
    name: String,
    version: Option<String>,
    /// The release of ATT&CK that its mapping names.
    attack_version: Option<String>,
    /// Who mapped it.
    mapping_source: String,
    description: Option<String>,
    updated_at: DateTime<Utc>,
}

/// A control.
#[derive(Serialize, ToSchema)]
#[schema(example = json!({
    "id": "AC-2(1)", "uuid": "0190b7a2-9000-7c3e-9d2a-3f6d1c0e8a05", "framework_id": "nist_800_53",
    "name": "Automated System Account Management", "family": "AC", "parent_id": "AC-2", "text": null,
    "mitre_technique_ids": ["T1078"], "withdrawn": false, "updated_at": "2024-01-01T00:00:00Z"
}))]
pub struct Control {
    /// Its id in the framework.
    id: String,
    #[schema(value_type = Uuid)]
    uuid: String,
    framework_id: String,
    name: String,
    family: Option<String>,
    /// The control that it enhances.
    parent_id: Option<String>,
    /// What it demands; null in lists.
    text: Option<String>,
    /// ATT&CK ids of the techniques that it is mapped to.
    mitre_technique_ids: Vec<String>,
    withdrawn: bool,
    updated_at: DateTime<Utc>,
}

/// A control and the techniques behind it.
#[derive(Serialize, ToSchema)]
#[schema(example = json!({
    "id": "AC-2", "uuid": "0190b7a2-9000-7c3e-9d2a-3f6d1c0e8a05", "framework_id": "nist_800_53",
    "name": "Account Management", "family": "AC", "parent_id": null, "text": "What it demands …",
    "mitre_technique_ids": ["T1078"], "withdrawn": false, "updated_at": "2024-01-01T00:00:00Z",
    "attack_mappings": [{"mitre_id": "T1078", "name": "Valid Accounts", "relations": [{"mapping_type": "mitigates"}]}],
    "attributes": {}
}))]
pub struct ControlDetail {
    #[serde(flatten)]
    control: Control,
    attack_mappings: Vec<AttackMapping>,
    /// What the framework says besides.
    #[schema(value_type = Object)]
    attributes: Value,
}

impl From<proto::Knowledge> for Framework {
    fn from(record: proto::Knowledge) -> Framework {
        let attributes = json(&record.attributes_json);
        let text = |name: &str| attributes[name].as_str().map(str::to_owned);
        Framework {
            id: record.key,
            name: record.name,
            version: text("version"),
            attack_version: text("attack_version"),
            mapping_source: text("source").unwrap_or(record.source),
            description: record.description,
            updated_at: time_always(record.updated_at),
        }
    }
}

impl From<proto::Knowledge> for Control {
    fn from(record: proto::Knowledge) -> Control {
        let attributes = json(&record.attributes_json);
        let text = |name: &str| attributes[name].as_str().map(str::to_owned);
        let (framework_id, id) = match record.key.split_once(':') {
            Some((framework, id)) => (framework.to_owned(), id.to_owned()),
            None => (record.collection.unwrap_or_default(), record.key),
        };
        Control {
            id,
            uuid: record.id,
            framework_id,
            name: record.name,
            family: text("family"),
            parent_id: text("parent"),
            text: record.description,
            mitre_technique_ids: record.mitre_technique_ids,
            withdrawn: record.deprecated,
            updated_at: time_always(record.updated_at),
        }
    }
}

/// Filters of controls; all given ones must hold.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct ListControls {
    /// Words of its id, name or text; the best come first.
    #[param(example = "account")]
    search: Option<String>,
    /// ATT&CK id of a technique that it is mapped to.
    #[param(example = "T1078")]
    mitre_technique_id: Option<String>,
    /// Also those that the framework has withdrawn.
    #[param(default = false)]
    include_withdrawn: Option<bool>,
    /// Rows at most.
    #[param(minimum = 1, maximum = 5000, default = 1000)]
    limit: Option<u32>,
    /// Rows to leave out before.
    #[param(minimum = 0, maximum = 2147483647, default = 0)]
    offset: Option<u32>,
}

/// Part of the list of frameworks.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct ListFrameworks {
    /// Rows at most.
    #[param(minimum = 1, maximum = 5000, default = 1000)]
    limit: Option<u32>,
    /// Rows to leave out before.
    #[param(minimum = 0, maximum = 2147483647, default = 0)]
    offset: Option<u32>,
}

/// List frameworks
///
/// `X-Total-Count` has the number of all.
#[utoipa::path(get, path = "/api/v1/compliance/frameworks", tag = "Compliance", params(ListFrameworks),
    responses((status = 200, description = "Frameworks", body = [Framework])))]
async fn list_frameworks(
    State(gateway): State<Gateway>,
    caller: Caller,
    Query(query): Query<ListFrameworks>,
) -> Result<Answer, Problem> {
    let (page_size, skip) = page(query.limit, query.offset, 1000, 5000)?;
    let kind = KnowledgeKind::Framework.into();
    let request = ListKnowledgeRequest { kind, page_size, skip, ..ListKnowledgeRequest::default() };
    let (records, total) = listed(&gateway, &caller, request).await?;
    Answer::list(&records.into_iter().map(Framework::from).collect::<Vec<_>>(), total)
}

/// List the controls of a framework
///
/// Without their texts; `X-Total-Count` has the number of all that fit.
#[utoipa::path(get, path = "/api/v1/compliance/{framework_id}/controls", tag = "Compliance",
    params(("framework_id" = String, Path, description = "Framework", example = "nist_800_53"), ListControls),
    responses((status = 200, description = "Controls", body = [Control]), (status = 404, response = NotFound)))]
async fn list_controls(
    State(gateway): State<Gateway>,
    caller: Caller,
    Name(framework): Name,
    Query(query): Query<ListControls>,
) -> Result<Answer, Problem> {
    let (page_size, skip) = page(query.limit, query.offset, 1000, 5000)?;
    let framework = record(&gateway, &caller, KnowledgeKind::Framework, framework).await?;
    let request = ListKnowledgeRequest {
        kind: KnowledgeKind::Control.into(),
        page_size,
        skip,
        search: query.search,
        mitre_technique_id: query.mitre_technique_id,
        collection: Some(framework.key),
        include_revoked: query.include_withdrawn.unwrap_or(false),
        ..ListKnowledgeRequest::default()
    };
    let (records, total) = listed(&gateway, &caller, request).await?;
    Answer::list(&records.into_iter().map(Control::from).collect::<Vec<_>>(), total)
}

/// Read a control
///
/// With its text and the techniques that it is mapped to.
#[utoipa::path(get, path = "/api/v1/compliance/{framework_id}/controls/{control_id}", tag = "Compliance",
    params(("framework_id" = String, Path, description = "Framework", example = "nist_800_53"),
        ("control_id" = String, Path, description = "Control", example = "AC-2")),
    responses(
        (status = 200, description = "The control", body = ControlDetail),
        (status = 404, response = NotFound),
    ))]
async fn get_control(
    State(gateway): State<Gateway>,
    caller: Caller,
    Names(framework, control): Names,
) -> Result<Answer, Problem> {
    let key = format!("{framework}:{control}");
    let record = record(&gateway, &caller, KnowledgeKind::Control, key).await?;
    let (all, _) = links(&gateway, &caller, &record.kind, &record.key).await?;
    let (version, attributes) = (record.version, json(&record.attributes_json));
    let mappings = all.into_iter().filter(|link| link.kind == "technique").map(Link::from);
    let detail =
        ControlDetail { control: record.into(), attack_mappings: mappings.map(Link::mapping).collect(), attributes };
    Answer::entity(version, &detail)
}
