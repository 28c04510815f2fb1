//! The ATT&CK matrix.

use aegis_proto::{
    catalog::v1::{
        self as proto, CreateTechniqueRequest, GetTechniqueRequest, ListTechniquesRequest, ReviewTechniqueRequest,
        StringList, UpdateTechniqueRequest, get_technique_request::Key,
    },
    testing::v1::ListTestsRequest,
};
use axum::extract::State;
use chrono::{DateTime, Utc};
use http::Uri;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::{
    router::{OpenApiRouter, UtoipaMethodRouterExt},
    routes,
};
use uuid::Uuid;

use super::tests::Test;
use crate::{
    answer::Answer,
    error::Problem,
    extract::{Caller, Json, Name, Query, page},
    middleware::compression,
    openapi::responses::{Conflict, NotFound},
    state::Gateway,
    values::{Change, Domain, TechniqueStatus, set, time, time_always},
};

/// Tests that come with a technique.
const TESTS: i32 = 200;

/// Routes that need a token.
pub fn protected() -> OpenApiRouter<Gateway> {
    OpenApiRouter::new()
        .routes(routes!(list_techniques).layer(compression()))
        .routes(routes!(create_technique))
        .routes(routes!(get_technique, update_technique))
        .routes(routes!(review_technique))
}

/// A technique as lists show it: without its description.
#[derive(Serialize, ToSchema)]
#[schema(example = json!({
    "id": "0190b7a2-5f00-7c3e-9d2a-3f6d1c0e8a11", "mitre_id": "T1059", "name": "Command and Scripting Interpreter",
    "tactic": "execution", "tactics": ["execution"], "platforms": ["windows", "linux"], "is_subtechnique": false,
    "parent_mitre_id": null, "domain": "enterprise", "attack_version": "2.5",
    "url": "https://attack.mitre.org/techniques/T1059", "status_global": "validated", "status_overridden": false,
    "review_required": false, "last_reviewed_at": null, "revoked": false, "revoked_by": null, "deprecated": false,
    "source": "mitre_attack", "created_at": "2024-01-01T00:00:00Z", "updated_at": "2024-01-01T00:00:00Z"
}))]
pub struct TechniqueRow {
    #[schema(value_type = Uuid)]
    id: String,
    /// ATT&CK id.
    mitre_id: String,
    name: String,
    /// Short name of the first tactic.
    tactic: String,
    /// Short names of all tactics.
    tactics: Vec<String>,
    platforms: Vec<String>,
    is_subtechnique: bool,
    parent_mitre_id: Option<String>,
    #[schema(value_type = Domain)]
    domain: String,
    /// ATT&CK's version of the technique.
    attack_version: Option<String>,
    url: Option<String>,
    /// From the technique's tests, or what an administrator set.
    #[schema(value_type = TechniqueStatus)]
    status_global: String,
    /// An administrator set the status.
    status_overridden: bool,
    /// Changed upstream since somebody last looked at it.
    review_required: bool,
    last_reviewed_at: Option<DateTime<Utc>>,
    revoked: bool,
    /// ATT&CK id of the successor of a revoked technique.
    revoked_by: Option<String>,
    deprecated: bool,
    /// starter | mitre_attack | custom
    source: String,
    created_at: DateTime<Utc>,
    updated_at: DateTime<Utc>,
}

/// A technique.
#[derive(Serialize, ToSchema)]
#[schema(example = json!({
    "id": "0190b7a2-5f00-7c3e-9d2a-3f6d1c0e8a11", "mitre_id": "T1059", "name": "Command and Scripting Interpreter",
    "tactic": "execution", "tactics": ["execution"], "platforms": ["windows", "linux"], "is_subtechnique": false,
    "parent_mitre_id": null, "domain": "enterprise", "attack_version": "2.5",
    "url": "https://attack.mitre.org/techniques/T1059", "status_global": "validated", "status_overridden": false,
    "review_required": false, "last_reviewed_at": null, "revoked": false, "revoked_by": null, "deprecated": false,
    "source": "mitre_attack", "created_at": "2024-01-01T00:00:00Z", "updated_at": "2024-01-01T00:00:00Z",
    "description": "Adversaries may abuse command and script interpreters …"
}))]
pub struct Technique {
    #[serde(flatten)]
    row: TechniqueRow,
    description: Option<String>,
}

/// A technique, what took its place or what it took the place of, and its tests.
#[derive(Serialize, ToSchema)]
#[schema(example = json!({
    "id": "0190b7a2-5f00-7c3e-9d2a-3f6d1c0e8a11", "mitre_id": "T1059", "name": "Command and Scripting Interpreter",
    "tactic": "execution", "tactics": ["execution"], "platforms": ["windows", "linux"], "is_subtechnique": false,
    "parent_mitre_id": null, "domain": "enterprise", "attack_version": "2.5",
    "url": "https://attack.mitre.org/techniques/T1059", "status_global": "not_evaluated", "status_overridden": false,
    "review_required": false, "last_reviewed_at": null, "revoked": false, "revoked_by": null, "deprecated": false,
    "source": "mitre_attack", "created_at": "2024-01-01T00:00:00Z", "updated_at": "2024-01-01T00:00:00Z",
    "description": "Adversaries may abuse command and script interpreters …", "successor": null,
    "replaces": ["T1086"], "tests": [], "tests_total": 0
}))]
pub struct TechniqueWithTests {
    #[serde(flatten)]
    technique: Technique,
    /// ATT&CK id at the end of the chain of successors of a revoked technique.
    successor: Option<String>,
    /// ATT&CK ids of the revoked techniques that lead here.
    replaces: Vec<String>,
    /// The newest tests of the technique, 200 at most.
    tests: Vec<Test>,
    /// How many tests there are.
    tests_total: i64,
}

impl From<proto::Technique> for Technique {
    fn from(t: proto::Technique) -> Technique {
        Technique {
            row: TechniqueRow {
                id: t.id,
                mitre_id: t.mitre_id,
                name: t.name,
                tactic: t.tactic,
                tactics: t.tactics,
                platforms: t.platforms,
                is_subtechnique: t.is_subtechnique,
                parent_mitre_id: t.parent_mitre_id,
                domain: t.domain,
                attack_version: t.attack_version,
                url: t.url,
                status_global: t.status_global,
                status_overridden: t.status_overridden,
                review_required: t.review_required,
                last_reviewed_at: time(t.last_reviewed_at),
                revoked: t.revoked,
                revoked_by: t.revoked_by,
                deprecated: t.deprecated,
                source: t.source,
                created_at: time_always(t.created_at),
                updated_at: time_always(t.updated_at),
            },
            description: t.description,
        }
    }
}

/// Filters of techniques; all given ones must hold.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct ListTechniques {
    /// Short name of a tactic.
    #[param(example = "execution")]
    tactic: Option<String>,
    #[param(inline)]
    status: Option<TechniqueStatus>,
    review_required: Option<bool>,
    #[param(inline)]
    domain: Option<Domain>,
    #[param(example = "linux")]
    platform: Option<String>,
    /// Words of the ATT&CK id, the name or the description; the best come first.
    #[param(example = "powershell")]
    search: Option<String>,
    is_subtechnique: Option<bool>,
    /// `mitre_id`, `name`, `status` or `updated_at`; with a `-` before it the other way round. A search without it has
    /// the best first.
    #[param(example = "name")]
    sort: Option<String>,
    /// Also those that were revoked or deprecated.
    #[param(default = false)]
    include_revoked: Option<bool>,
    /// Rows at most.
    #[param(minimum = 1, maximum = 5000, default = 1000)]
    limit: Option<u32>,
    /// Rows to leave out before.
    #[param(minimum = 0, maximum = 2147483647, default = 0)]
    offset: Option<u32>,
}

/// A technique of one's own. Give `tactic` or `tactics`.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({
    "mitre_id": "T1059", "name": "Command and Scripting Interpreter", "description": "What it is",
    "tactic": "execution", "platforms": ["windows", "linux"]
}))]
pub struct NewTechnique {
    mitre_id: String,
    name: String,
    #[serde(default)]
    description: Option<String>,
    /// Short name of the only tactic.
    #[serde(default)]
    tactic: Option<String>,
    /// Short names of all tactics; the first one is the technique's `tactic`.
    #[serde(default)]
    #[schema(value_type = Option<Vec<String>>)]
    tactics: Option<Vec<String>>,
    #[serde(default)]
    platforms: Option<Vec<String>>,
    #[serde(default)]
    #[schema(value_type = Option<Domain>)]
    domain: Option<Domain>,
}

/// Changes of a technique; what is absent is left alone.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"name": "Updated Name", "status_global": "validated"}))]
pub struct TechniqueChanges {
    #[serde(default, deserialize_with = "set")]
    #[schema(value_type = String, required = false)]
    name: Option<String>,
    /// `null` removes it.
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    description: Change<String>,
    /// Short name of the only tactic. Not together with `tactics`.
    #[serde(default, deserialize_with = "set")]
    #[schema(value_type = String, required = false)]
    tactic: Option<String>,
    #[serde(default, deserialize_with = "set")]
    #[schema(value_type = Vec<String>, required = false)]
    tactics: Option<Vec<String>>,
    #[serde(default, deserialize_with = "set")]
    #[schema(value_type = Vec<String>, required = false)]
    platforms: Option<Vec<String>>,
    /// Overrides the status that the tests give; `null` goes back to it.
    #[serde(default)]
    #[schema(value_type = Option<TechniqueStatus>)]
    status_global: Change<TechniqueStatus>,
}

/// The tactics of a body that may name one or several.
fn tactics(one: Option<String>, several: Option<Vec<String>>) -> Result<Option<Vec<String>>, Problem> {
    match (one, several) {
        (Some(_), Some(_)) => Err(Problem::invalid("tactics", "give either tactic or tactics, not both")),
        (Some(tactic), None) => Ok(Some(vec![tactic])),
        (None, several) => Ok(several),
    }
}

/// The answer with this technique, as it is now.
fn changed(technique: Option<proto::Technique>) -> Result<Answer, Problem> {
    let technique = technique.ok_or_else(Problem::empty)?;
    Answer::entity(technique.version, &Technique::from(technique))
}

/// List techniques
///
/// By ATT&CK id, without descriptions; `X-Total-Count` has the number of all that fit.
#[utoipa::path(get, path = "/api/v1/techniques", tag = "Techniques", params(ListTechniques),
    responses((status = 200, description = "Techniques", body = [TechniqueRow])))]
async fn list_techniques(
    State(gateway): State<Gateway>,
    caller: Caller,
    uri: Uri,
    Query(query): Query<ListTechniques>,
) -> Result<Answer, Problem> {
    let (page_size, skip) = page(query.limit, query.offset, 1000, 5000)?;
    let load = async {
        let request = ListTechniquesRequest {
            page_size,
            skip,
            page_token: String::new(),
            tactic: query.tactic,
            status: query.status.map(String::from),
            review_required: query.review_required,
            include_revoked: query.include_revoked.unwrap_or(false),
            domain: query.domain.map(String::from),
            platform: query.platform,
            search: query.search,
            is_subtechnique: query.is_subtechnique,
            sort: query.sort.unwrap_or_default(),
        };
        let answer = gateway.deps.catalog.clone().list_techniques(caller.ctx().outgoing(request)).await?.into_inner();
        let rows: Vec<TechniqueRow> = answer.techniques.into_iter().map(|t| Technique::from(t).row).collect();
        Answer::list(&rows, answer.total_size)
    };
    gateway.hot.answer(&caller, &uri, load).await
}

/// Read a technique
///
/// By ATT&CK id, or by UUID; with its newest tests.
#[utoipa::path(get, path = "/api/v1/techniques/{mitre_id}", tag = "Techniques",
    params(("mitre_id" = String, Path, description = "ATT&CK id, or the UUID", example = "T1059")),
    responses(
        (status = 200, description = "The technique", body = TechniqueWithTests),
        (status = 404, response = NotFound),
    ))]
async fn get_technique(
    State(gateway): State<Gateway>,
    caller: Caller,
    uri: Uri,
    Name(mitre_id): Name,
) -> Result<Answer, Problem> {
    let load = async {
        let ctx = caller.ctx();
        let key = match Uuid::try_parse(&mitre_id) {
            Ok(id) => Key::Id(id.to_string()),
            Err(_) => Key::MitreId(mitre_id),
        };
        let request = GetTechniqueRequest { key: Some(key) };
        let answer = gateway.deps.catalog.clone().get_technique(ctx.outgoing(request)).await?.into_inner();
        let mut technique = answer.technique.ok_or_else(Problem::empty)?;
        let version = technique.version;
        let (successor, replaces) = (technique.successor.take(), std::mem::take(&mut technique.replaces));
        let request = ListTestsRequest {
            page_size: TESTS,
            technique_id: Some(technique.id.clone()),
            ..ListTestsRequest::default()
        };
        let answer = gateway.deps.testing.clone().list_tests(ctx.outgoing(request)).await?.into_inner();
        let technique = TechniqueWithTests {
            technique: technique.into(),
            successor,
            replaces,
            tests: answer.tests.into_iter().map(Test::from).collect(),
            tests_total: answer.total_size,
        };
        Answer::entity(version, &technique)
    };
    gateway.hot.answer(&caller, &uri, load).await
}

/// Create a technique
///
/// Administrators only. Give its tactic as `tactic`, or several as `tactics`.
#[utoipa::path(post, path = "/api/v1/techniques", tag = "Techniques", request_body = NewTechnique,
    extensions(("x-roles" = json!(["admin"]))),
    responses((status = 201, description = "Created", body = Technique), (status = 409, response = Conflict)))]
async fn create_technique(
    State(gateway): State<Gateway>,
    caller: Caller,
    Json(body): Json<NewTechnique>,
) -> Result<Answer, Problem> {
    let request = CreateTechniqueRequest {
        mitre_id: body.mitre_id,
        name: body.name,
        description: body.description,
        tactics: tactics(body.tactic, body.tactics)?.unwrap_or_default(),
        platforms: body.platforms.unwrap_or_default(),
        domain: body.domain.map(String::from).unwrap_or_default(),
    };
    let answer = gateway.deps.catalog.clone().create_technique(caller.ctx().outgoing(request)).await?.into_inner();
    let technique = answer.technique.ok_or_else(Problem::empty)?;
    let (version, technique) = (technique.version, Technique::from(technique));
    let location = format!("/api/v1/techniques/{}", technique.row.mitre_id);
    Ok(Answer::created(&location, &technique)?.versioned(version))
}

/// Change a technique
///
/// Administrators only. `status_global` overrides the status that the tests give until it is cleared with `null`.
#[utoipa::path(patch, path = "/api/v1/techniques/{mitre_id}", tag = "Techniques", request_body = TechniqueChanges,
    params(("mitre_id" = String, Path, description = "ATT&CK id", example = "T1059")),
    extensions(("x-roles" = json!(["admin"]))),
    responses(
        (status = 200, description = "Changed", body = Technique),
        (status = 404, response = NotFound),
        (status = 409, response = Conflict),
    ))]
async fn update_technique(
    State(gateway): State<Gateway>,
    caller: Caller,
    Name(mitre_id): Name,
    Json(body): Json<TechniqueChanges>,
) -> Result<Answer, Problem> {
    let (description, clear_description) = body.description.parts();
    let (status_global, clear_status_global) = body.status_global.parts();
    let request = UpdateTechniqueRequest {
        mitre_id,
        name: body.name,
        description,
        clear_description,
        tactics: tactics(body.tactic, body.tactics)?.map(|values| StringList { values }),
        platforms: body.platforms.map(|values| StringList { values }),
        status_global: status_global.map(String::from),
        clear_status_global,
    };
    let answer = gateway.deps.catalog.clone().update_technique(caller.ctx().outgoing(request)).await?.into_inner();
    changed(answer.technique)
}

/// Mark a technique as reviewed
///
/// Leads and administrators.
#[utoipa::path(patch, path = "/api/v1/techniques/{mitre_id}/review", tag = "Techniques",
    params(("mitre_id" = String, Path, description = "ATT&CK id", example = "T1059")),
    extensions(("x-roles" = json!(["admin", "red_lead", "blue_lead"]))),
    responses(
        (status = 200, description = "Reviewed", body = Technique),
        (status = 404, response = NotFound),
        (status = 409, response = Conflict),
    ))]
async fn review_technique(
    State(gateway): State<Gateway>,
    caller: Caller,
    Name(mitre_id): Name,
) -> Result<Answer, Problem> {
    let request = ReviewTechniqueRequest { mitre_id };
    let answer = gateway.deps.catalog.clone().review_technique(caller.ctx().outgoing(request)).await?.into_inner();
    changed(answer.technique)
}
