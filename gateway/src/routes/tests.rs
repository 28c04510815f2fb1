//! Tests: reading and creating them. Their fields are changed in [`edits`], their moves are in [`moves`].

mod edits;
mod moves;

use aegis_proto::{
    evidence::v1::ListEvidenceRequest,
    testing::v1::{self as proto, CreateTestRequest, GetTestRequest, GetTimelineRequest, ListTestsRequest},
};
use axum::extract::State;
use chrono::{DateTime, Utc};
use http::HeaderMap;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::{router::OpenApiRouter, routes};
use uuid::Uuid;

use super::evidence::{self, Evidence};
use crate::{
    answer::Answer,
    error::Problem,
    extract::{Caller, Id, Json, Query, page},
    openapi::responses::NotFound,
    state::Gateway,
    values::{DetectionResult, RemediationStatus, Team, TestState, Vote, filled, json, time, time_always},
};

/// Routes that need a token.
pub fn protected() -> OpenApiRouter<Gateway> {
    OpenApiRouter::new()
        .routes(routes!(list_tests, create_test))
        .routes(routes!(create_test_from_template))
        .routes(routes!(get_test))
        .routes(routes!(get_timeline))
        .merge(edits::protected())
        .merge(moves::protected())
}

/// A test.
#[derive(Serialize, ToSchema)]
#[schema(example = json!({
    "id": "0190b7a2-6a00-7b1d-8c55-0f3a9d2b7c01", "technique_id": "0190b7a2-5f00-7c3e-9d2a-3f6d1c0e8a11",
    "mitre_id": "T1059.001", "technique_name": "PowerShell", "name": "Encoded command",
    "description": "Runs an encoded command", "platform": "windows", "procedure_text": "Step by step …",
    "tool_used": "Atomic Red Team", "template_id": null, "state": "draft",
    "created_by": "0190b7a2-5f00-7c3e-9d2a-3f6d1c0e8a99", "created_by_username": "ana",
    "created_at": "2024-01-01T00:00:00Z", "updated_at": "2024-01-01T00:00:00Z", "execution_date": null,
    "executed_by": null, "attack_success": null, "red_summary": null, "executed_at": null, "detection_result": null,
    "blue_summary": null, "detected_at": null, "responded_at": null, "contained_at": null,
    "red_validation_status": "pending", "red_validation_notes": null, "red_validated_by": null,
    "red_validated_at": null, "blue_validation_status": "pending", "blue_validation_notes": null,
    "blue_validated_by": null, "blue_validated_at": null, "validated_at": null, "remediation_steps": null,
    "remediation_status": null, "remediation_assignee": null, "remediation_completed_at": null, "retest_of": null
}))]
pub struct Test {
    #[schema(value_type = Uuid)]
    id: String,
    #[schema(value_type = Uuid)]
    technique_id: String,
    /// ATT&CK id of the technique.
    mitre_id: String,
    technique_name: String,
    name: String,
    description: Option<String>,
    platform: Option<String>,
    procedure_text: Option<String>,
    tool_used: Option<String>,
    #[schema(value_type = Option<Uuid>)]
    template_id: Option<String>,
    #[schema(value_type = TestState)]
    state: String,
    #[schema(value_type = Uuid)]
    created_by: String,
    created_by_username: String,
    created_at: DateTime<Utc>,
    updated_at: DateTime<Utc>,
    /// When the execution was started.
    execution_date: Option<DateTime<Utc>>,
    /// Who started it.
    #[schema(value_type = Option<Uuid>)]
    executed_by: Option<String>,
    attack_success: Option<bool>,
    red_summary: Option<String>,
    executed_at: Option<DateTime<Utc>>,
    #[schema(value_type = Option<DetectionResult>)]
    detection_result: Option<String>,
    blue_summary: Option<String>,
    detected_at: Option<DateTime<Utc>>,
    responded_at: Option<DateTime<Utc>>,
    contained_at: Option<DateTime<Utc>>,
    #[schema(value_type = Option<Vote>)]
    red_validation_status: Option<String>,
    red_validation_notes: Option<String>,
    #[schema(value_type = Option<Uuid>)]
    red_validated_by: Option<String>,
    red_validated_at: Option<DateTime<Utc>>,
    #[schema(value_type = Option<Vote>)]
    blue_validation_status: Option<String>,
    blue_validation_notes: Option<String>,
    #[schema(value_type = Option<Uuid>)]
    blue_validated_by: Option<String>,
    blue_validated_at: Option<DateTime<Utc>>,
    validated_at: Option<DateTime<Utc>>,
    remediation_steps: Option<String>,
    #[schema(value_type = Option<RemediationStatus>)]
    remediation_status: Option<String>,
    /// A user.
    #[schema(value_type = Option<Uuid>)]
    remediation_assignee: Option<String>,
    remediation_completed_at: Option<DateTime<Utc>>,
    /// The test that this one tests again.
    #[schema(value_type = Option<Uuid>)]
    retest_of: Option<String>,
}

/// A test and its evidence.
#[derive(Serialize, ToSchema)]
#[schema(example = json!({
    "id": "0190b7a2-6a00-7b1d-8c55-0f3a9d2b7c01", "technique_id": "0190b7a2-5f00-7c3e-9d2a-3f6d1c0e8a11",
    "mitre_id": "T1059.001", "technique_name": "PowerShell", "name": "Encoded command",
    "description": "Runs an encoded command", "platform": "windows", "procedure_text": "Step by step …",
    "tool_used": "Atomic Red Team", "template_id": null, "state": "draft",
    "created_by": "0190b7a2-5f00-7c3e-9d2a-3f6d1c0e8a99", "created_by_username": "ana",
    "created_at": "2024-01-01T00:00:00Z", "updated_at": "2024-01-01T00:00:00Z", "execution_date": null,
    "executed_by": null, "attack_success": null, "red_summary": null, "executed_at": null, "detection_result": null,
    "blue_summary": null, "detected_at": null, "responded_at": null, "contained_at": null,
    "red_validation_status": "pending", "red_validation_notes": null, "red_validated_by": null,
    "red_validated_at": null, "blue_validation_status": "pending", "blue_validation_notes": null,
    "blue_validated_by": null, "blue_validated_at": null, "validated_at": null, "remediation_steps": null,
    "remediation_status": null, "remediation_assignee": null, "remediation_completed_at": null, "retest_of": null,
    "evidences": []
}))]
pub struct TestWithEvidence {
    #[serde(flatten)]
    test: Test,
    /// Oldest first.
    evidences: Vec<Evidence>,
}

impl From<proto::Test> for Test {
    fn from(t: proto::Test) -> Test {
        Test {
            id: t.id,
            technique_id: t.technique_id,
            mitre_id: t.mitre_id,
            technique_name: t.technique_name,
            name: t.name,
            description: t.description,
            platform: t.platform,
            procedure_text: t.procedure_text,
            tool_used: t.tool_used,
            template_id: t.template_id,
            state: t.state,
            created_by: t.created_by,
            created_by_username: t.created_by_username,
            created_at: time_always(t.created_at),
            updated_at: time_always(t.updated_at),
            execution_date: time(t.execution_date),
            executed_by: t.executed_by,
            attack_success: t.attack_success,
            red_summary: t.red_summary,
            executed_at: time(t.executed_at),
            detection_result: t.detection_result,
            blue_summary: t.blue_summary,
            detected_at: time(t.detected_at),
            responded_at: time(t.responded_at),
            contained_at: time(t.contained_at),
            red_validation_status: filled(t.red_validation_status),
            red_validation_notes: t.red_validation_notes,
            red_validated_by: t.red_validated_by,
            red_validated_at: time(t.red_validated_at),
            blue_validation_status: filled(t.blue_validation_status),
            blue_validation_notes: t.blue_validation_notes,
            blue_validated_by: t.blue_validated_by,
            blue_validated_at: time(t.blue_validated_at),
            validated_at: time(t.validated_at),
            remediation_steps: t.remediation_steps,
            remediation_status: t.remediation_status,
            remediation_assignee: t.remediation_assignee,
            remediation_completed_at: time(t.remediation_completed_at),
            retest_of: t.retest_of,
        }
    }
}

/// One line of a test's history.
#[derive(Serialize, ToSchema)]
#[schema(example = json!({
    "id": "0190b7a2-6b00-7d10-9f00-2a6f4c1b8e02", "time": "2024-01-01T09:00:00Z", "kind": "transition",
    "actor_id": "0190b7a2-5f00-7c3e-9d2a-3f6d1c0e8a99", "actor": "ana",
    "details": {"from": "draft", "to": "red_executing"}
}))]
pub struct TimelineEntry {
    #[schema(value_type = Uuid)]
    id: String,
    time: DateTime<Utc>,
    /// created | transition | edit | vote | evidence | comment
    kind: String,
    /// A user; null for the product itself.
    #[schema(value_type = Option<Uuid>)]
    actor_id: Option<String>,
    actor: String,
    /// What happened.
    #[schema(value_type = Object)]
    details: serde_json::Value,
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
    /// Rows to leave out before.
    #[param(minimum = 0, maximum = 2147483647, default = 0)]
    offset: Option<u32>,
    /// Rows at most.
    #[param(minimum = 1, maximum = 200, default = 50)]
    limit: Option<u32>,
}

/// Part of a timeline.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct TimelinePage {
    /// Rows at most.
    #[param(minimum = 1, maximum = 1000, default = 200)]
    limit: Option<u32>,
    /// Rows to leave out before.
    #[param(minimum = 0, maximum = 2147483647, default = 0)]
    offset: Option<u32>,
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
fn created(test: Option<proto::Test>) -> Result<Answer, Problem> {
    let test = test.ok_or_else(Problem::empty)?;
    let (version, location) = (test.version, format!("/api/v1/tests/{}", test.id));
    Ok(Answer::created(&location, &Test::from(test))?.versioned(version))
}

/// List tests
///
/// Newest first; `X-Total-Count` has the number of all that fit.
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

/// Read a test's history
///
/// Every transition, edit, vote, evidence and comment, oldest first.
#[utoipa::path(get, path = "/api/v1/tests/{id}/timeline", tag = "Tests",
    params(("id" = Uuid, Path, description = "Test"), TimelinePage),
    responses(
        (status = 200, description = "The history", body = [TimelineEntry]),
        (status = 404, response = NotFound),
    ))]
async fn get_timeline(
    State(gateway): State<Gateway>,
    caller: Caller,
    id: Id,
    Query(query): Query<TimelinePage>,
) -> Result<Answer, Problem> {
    let (page_size, skip) = page(query.limit, query.offset, 200, 1000)?;
    let request = GetTimelineRequest { test_id: id.to_string(), page_size, skip, page_token: String::new() };
    let answer = gateway.deps.testing.clone().get_timeline(caller.ctx().outgoing(request)).await?.into_inner();
    let entries = answer.entries.into_iter().map(|entry| TimelineEntry {
        id: entry.id,
        time: time_always(entry.time),
        kind: entry.kind,
        actor_id: filled(entry.actor_id),
        actor: entry.actor,
        details: json(&entry.details_json),
    });
    Answer::list(&entries.collect::<Vec<_>>(), answer.total_size)
}
