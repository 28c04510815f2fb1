//! Tests: reading, creating and deleting them. Their fields are changed in [`edits`], their moves are in [`moves`],
//! many of them change at once in [`bulk`], what happened to them is in [`history`].

mod bulk;
mod edits;
mod history;
mod model;
mod moves;

pub use model::{ChainedTest, ChangedTests, RemediatedTest, Test, TestWithEvidence};

use aegis_proto::{
    evidence::v1::ListEvidenceRequest,
    testing::v1::{self as proto, CreateTestRequest, DeleteTestRequest, GetTestRequest, ListTestsRequest},
};
use axum::extract::State;
use http::HeaderMap;
use serde::Deserialize;
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::{router::OpenApiRouter, routes};
use uuid::Uuid;

use super::evidence;
use crate::{
    answer::Answer,
    error::Problem,
    extract::{Caller, Id, Json, Query, page},
    openapi::responses::{Conflict, NotFound},
    state::Gateway,
    values::{RemediationStatus, Team, TestState},
};

/// Routes that need a token.
pub fn protected() -> OpenApiRouter<Gateway> {
    OpenApiRouter::new()
        .routes(routes!(list_tests, create_test))
        .routes(routes!(create_test_from_template))
        .routes(routes!(get_test, delete_test))
        .merge(bulk::protected())
        .merge(edits::protected())
        .merge(history::protected())
        .merge(moves::protected())
}

/// Filters of tests; all given ones must hold.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct ListTests {
    #[param(inline)]
    state: Option<TestState>,
    technique_id: Option<Uuid>,
    #[param(example = "windows")]
    platform: Option<String>,
    /// A user.
    created_by: Option<Uuid>,
    /// Tests in review whose vote of this side is pending.
    #[param(inline)]
    pending_validation_side: Option<Team>,
    /// A user: tests that are this one's to run, to evaluate or to remedy.
    assignee: Option<Uuid>,
    /// Validated without a `detection_result`, which counts for no status or score.
    incomplete: Option<bool>,
    /// Tests of this campaign; its own order is in `GET /campaigns/{id}`.
    campaign_id: Option<Uuid>,
    #[param(inline)]
    remediation_status: Option<RemediationStatus>,
    /// The remediation's `remediation_due_date` is past, and it is neither completed nor not_applicable.
    overdue: Option<bool>,
    /// Rows to leave out before.
    #[param(minimum = 0, maximum = 2147483647, default = 0)]
    offset: Option<u32>,
    /// Rows at most.
    #[param(minimum = 1, maximum = 200, default = 50)]
    limit: Option<u32>,
}

/// A new test.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({
    "technique_id": "0190b7a2-5f00-7c3e-9d2a-3f6d1c0e8a11", "name": "My Test", "description": "Test description",
    "platform": "windows", "procedure_text": "Step by step...", "tool_used": "Atomic Red Team"
}))]
pub struct NewTest {
    technique_id: Uuid,
    name: String,
    #[serde(default)]
    description: Option<String>,
    #[serde(default)]
    platform: Option<String>,
    #[serde(default)]
    procedure_text: Option<String>,
    #[serde(default)]
    tool_used: Option<String>,
}

/// A new test from a template.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({
    "template_id": "0190b7a2-7000-7a4b-8d11-9e2f3c4d5e01", "technique_id": "0190b7a2-5f00-7c3e-9d2a-3f6d1c0e8a11"
}))]
pub struct NewTestFromTemplate {
    template_id: Uuid,
    /// The template's own technique if it is not given.
    technique_id: Option<Uuid>,
}

/// The answer with this test.
fn answer(test: Option<proto::Test>) -> Result<Answer, Problem> {
    let test = test.ok_or_else(Problem::empty)?;
    Answer::entity(test.version, &Test::from(test))
}

/// The answer with this new test.
pub fn created(test: Option<proto::Test>) -> Result<Answer, Problem> {
    let test = test.ok_or_else(Problem::empty)?;
    let (version, location) = (test.version, format!("/api/v1/tests/{}", test.id));
    Ok(Answer::created(&location, &Test::from(test))?.versioned(version))
}

/// List tests
///
/// Newest first; `X-Total-Count` has the number of all that fit. All filters that are given must hold; `false` for
/// `incomplete` or `overdue` is as if it were not given. A campaign or a user that does not exist has no tests: an empty
/// list.
#[utoipa::path(get, path = "/api/v1/tests", tag = "Tests", params(ListTests),
    responses((status = 200, description = "Tests", body = [Test])))]
async fn list_tests(
    State(gateway): State<Gateway>,
    caller: Caller,
    Query(query): Query<ListTests>,
) -> Result<Answer, Problem> {
    let (page_size, skip) = page(query.limit, query.offset, 50, 200)?;
    let request = ListTestsRequest {
        page_size,
        skip,
        page_token: String::new(),
        state: query.state.map(String::from),
        technique_id: query.technique_id.map(|id| id.to_string()),
        platform: query.platform,
        created_by: query.created_by.map(|id| id.to_string()),
        pending_validation_side: query.pending_validation_side.map(String::from),
        assignee: query.assignee.map(|id| id.to_string()),
        incomplete: query.incomplete,
        campaign_id: query.campaign_id.map(|id| id.to_string()),
        remediation_status: query.remediation_status.map(String::from),
        overdue: query.overdue,
    };
    let answer = gateway.deps.testing.clone().list_tests(caller.ctx().outgoing(request)).await?.into_inner();
    let tests: Vec<Test> = answer.tests.into_iter().map(Test::from).collect();
    Answer::list(&tests, answer.total_size)
}

/// Read a test
///
/// With its evidence.
#[utoipa::path(get, path = "/api/v1/tests/{id}", tag = "Tests", params(("id" = Uuid, Path, description = "Test")),
    responses((status = 200, description = "The test", body = TestWithEvidence), (status = 404, response = NotFound)))]
async fn get_test(
    State(gateway): State<Gateway>,
    caller: Caller,
    id: Id,
    headers: HeaderMap,
) -> Result<Answer, Problem> {
    let ctx = caller.ctx();
    let request = ListEvidenceRequest { test_id: id.to_string(), page_size: 1000, page_token: String::new() };
    let (mut testing, mut files) = (gateway.deps.testing.clone(), gateway.deps.evidence.clone());
    let (test, files) = tokio::join!(
        testing.get_test(ctx.outgoing(GetTestRequest { id: id.to_string() })),
        files.list_evidence(ctx.outgoing(request)),
    );
    let test = test?.into_inner().test.ok_or_else(Problem::empty)?;
    let files = files?.into_inner().evidence;
    let links = evidence::Links::of(&gateway, &headers);
    let version = test.version;
    let evidences = files.into_iter().map(|file| links.evidence(file)).collect();
    Answer::entity(version, &TestWithEvidence { test: test.into(), evidences })
}

/// Create a test
///
/// Red techs and administrators.
#[utoipa::path(post, path = "/api/v1/tests", tag = "Tests", request_body = NewTest,
    extensions(("x-roles" = json!(["admin", "red_tech"]))),
    responses((status = 201, description = "Created", body = Test), (status = 404, response = NotFound)))]
async fn create_test(
    State(gateway): State<Gateway>,
    caller: Caller,
    Json(body): Json<NewTest>,
) -> Result<Answer, Problem> {
    let request = CreateTestRequest {
        technique_id: body.technique_id.to_string(),
        name: body.name,
        description: body.description,
        platform: body.platform,
        procedure_text: body.procedure_text,
        tool_used: body.tool_used,
        template_id: None,
        mitre_id: None,
    };
    created(gateway.deps.testing.clone().create_test(caller.ctx().outgoing(request)).await?.into_inner().test)
}

/// Create a test from a template
///
/// Red techs and administrators. Name, description, platform, procedure, tool and remediation steps come from the
/// template.
#[utoipa::path(post, path = "/api/v1/tests/from-template", tag = "Tests", request_body = NewTestFromTemplate,
    extensions(("x-roles" = json!(["admin", "red_tech"]))),
    responses((status = 201, description = "Created", body = Test), (status = 404, response = NotFound)))]
async fn create_test_from_template(
    State(gateway): State<Gateway>,
    caller: Caller,
    Json(body): Json<NewTestFromTemplate>,
) -> Result<Answer, Problem> {
    let request = CreateTestRequest {
        technique_id: body.technique_id.map(|id| id.to_string()).unwrap_or_default(),
        template_id: Some(body.template_id.to_string()),
        ..CreateTestRequest::default()
    };
    created(gateway.deps.testing.clone().create_test(caller.ctx().outgoing(request)).await?.into_inner().test)
}

/// Delete a test
///
/// Its creator while it is draft or rejected (400 otherwise), and administrators in any state. It leaves the lists, its
/// campaigns and its chain of retests, and its history goes with it. What happened stays in the audit trail.
#[utoipa::path(delete, path = "/api/v1/tests/{id}", tag = "Tests", params(("id" = Uuid, Path, description = "Test")),
    extensions(("x-roles" = json!(["admin"])), ("x-also" = json!("creator"))),
    responses(
        (status = 204, description = "Deleted"),
        (status = 404, response = NotFound),
        (status = 409, response = Conflict),
    ))]
async fn delete_test(State(gateway): State<Gateway>, caller: Caller, id: Id) -> Result<Answer, Problem> {
    let request = DeleteTestRequest { id: id.to_string() };
    gateway.deps.testing.clone().delete_test(caller.ctx().outgoing(request)).await?;
    Ok(Answer::nothing())
}
