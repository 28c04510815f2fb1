//! The moves of a test through its workflow, and the votes of the leads.

use aegis_proto::testing::v1::{CastVoteRequest, MoveTestRequest};
use axum::extract::State;
use serde::Deserialize;
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{Test, answer};
use crate::{
    answer::Answer,
    error::Problem,
    extract::{Caller, Id, Json, OptionalJson},
    openapi::responses::{Conflict, InvalidTransition, NotFound},
    state::Gateway,
    values::{Decision, DetectionResult},
};

/// Routes that need a token.
pub fn protected() -> OpenApiRouter<Gateway> {
    OpenApiRouter::new()
        .routes(routes!(start_execution))
        .routes(routes!(submit_red))
        .routes(routes!(submit_blue))
        .routes(routes!(reopen_test))
        .routes(routes!(validate_red))
        .routes(routes!(validate_blue))
        .routes(routes!(validate_test))
        .routes(routes!(reject_test))
}

/// The red lead's vote.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"red_validation_status": "approved", "red_validation_notes": "optional notes"}))]
pub struct RedVote {
    red_validation_status: Decision,
    #[serde(default)]
    red_validation_notes: Option<String>,
}

/// The blue lead's vote.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"blue_validation_status": "approved", "blue_validation_notes": "optional notes"}))]
pub struct BlueVote {
    blue_validation_status: Decision,
    #[serde(default)]
    blue_validation_notes: Option<String>,
}

/// An approval with its result.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"result": "detected", "comments": "Optional comment"}))]
pub struct Validation {
    /// Becomes the test's `detection_result`.
    result: DetectionResult,
    #[serde(default)]
    comments: Option<String>,
}

/// Why a test is rejected.
#[derive(Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"comments": "Optional comment"}))]
pub struct Rejection {
    #[serde(default)]
    comments: Option<String>,
}

async fn make(gateway: &Gateway, caller: &Caller, id: Id, action: &str) -> Result<Answer, Problem> {
    let request = MoveTestRequest { id: id.to_string(), action: action.to_owned() };
    answer(gateway.deps.testing.clone().move_test(caller.ctx().outgoing(request)).await?.into_inner().test)
}

async fn vote(gateway: &Gateway, caller: &Caller, request: CastVoteRequest) -> Result<Answer, Problem> {
    answer(gateway.deps.testing.clone().cast_vote(caller.ctx().outgoing(request)).await?.into_inner().test)
}

/// Start the execution
///
/// draft → red_executing; sets `execution_date`. Red techs, red leads and administrators.
#[utoipa::path(post, path = "/api/v1/tests/{id}/start-execution", tag = "Workflow",
    params(("id" = Uuid, Path, description = "Test")),
    extensions(("x-roles" = json!(["admin", "red_tech", "red_lead"]))),
    responses(
        (status = 200, description = "The test", body = Test),
        (status = 400, response = InvalidTransition),
        (status = 404, response = NotFound),
        (status = 409, response = Conflict),
    ))]
async fn start_execution(State(gateway): State<Gateway>, caller: Caller, id: Id) -> Result<Answer, Problem> {
    make(&gateway, &caller, id, "start_execution").await
}

/// Hand over to the blue side
///
/// red_executing → blue_evaluating; tells all blue techs. Red techs, red leads and administrators.
#[utoipa::path(post, path = "/api/v1/tests/{id}/submit-red", tag = "Workflow",
    params(("id" = Uuid, Path, description = "Test")),
    extensions(("x-roles" = json!(["admin", "red_tech", "red_lead"]))),
    responses(
        (status = 200, description = "The test", body = Test),
        (status = 400, response = InvalidTransition),
        (status = 404, response = NotFound),
        (status = 409, response = Conflict),
    ))]
async fn submit_red(State(gateway): State<Gateway>, caller: Caller, id: Id) -> Result<Answer, Problem> {
    make(&gateway, &caller, id, "submit_red").await
}

/// Hand over to the leads
///
/// blue_evaluating → in_review; tells the leads of both sides. Blue techs, blue leads and administrators.
#[utoipa::path(post, path = "/api/v1/tests/{id}/submit-blue", tag = "Workflow",
    params(("id" = Uuid, Path, description = "Test")),
    extensions(("x-roles" = json!(["admin", "blue_tech", "blue_lead"]))),
    responses(
        (status = 200, description = "The test", body = Test),
        (status = 400, response = InvalidTransition),
        (status = 404, response = NotFound),
        (status = 409, response = Conflict),
    ))]
async fn submit_blue(State(gateway): State<Gateway>, caller: Caller, id: Id) -> Result<Answer, Problem> {
    make(&gateway, &caller, id, "submit_blue").await
}

/// Reopen a rejected test
///
/// rejected → draft; clears all votes. The creator, leads and administrators.
#[utoipa::path(post, path = "/api/v1/tests/{id}/reopen", tag = "Workflow",
    params(("id" = Uuid, Path, description = "Test")),
    extensions(("x-roles" = json!(["admin", "red_lead", "blue_lead"])), ("x-also" = json!("creator"))),
    responses(
        (status = 200, description = "The test", body = Test),
        (status = 400, response = InvalidTransition),
        (status = 404, response = NotFound),
        (status = 409, response = Conflict),
    ))]
async fn reopen_test(State(gateway): State<Gateway>, caller: Caller, id: Id) -> Result<Answer, Problem> {
    make(&gateway, &caller, id, "reopen").await
}

/// Vote for the red side
///
/// Red leads and administrators, in review. Both sides approved → validated; one rejection → rejected. A lead cannot
/// vote on a test that it created or ran (403).
#[utoipa::path(post, path = "/api/v1/tests/{id}/validate-red", tag = "Workflow", request_body = RedVote,
    params(("id" = Uuid, Path, description = "Test")),
    extensions(("x-roles" = json!(["admin", "red_lead"]))),
    responses(
        (status = 200, description = "The test", body = Test),
        (status = 400, response = InvalidTransition),
        (status = 404, response = NotFound),
        (status = 409, response = Conflict),
    ))]
async fn validate_red(
    State(gateway): State<Gateway>,
    caller: Caller,
    id: Id,
    Json(body): Json<RedVote>,
) -> Result<Answer, Problem> {
    let request = CastVoteRequest {
        id: id.to_string(),
        side: "red".into(),
        approve: body.red_validation_status == Decision::Approved,
        notes: body.red_validation_notes,
        result: None,
    };
    vote(&gateway, &caller, request).await
}

/// Vote for the blue side
///
/// Blue leads and administrators, in review. Both sides approved → validated; one rejection → rejected. A lead cannot
/// vote on a test that it created or ran (403).
#[utoipa::path(post, path = "/api/v1/tests/{id}/validate-blue", tag = "Workflow", request_body = BlueVote,
    params(("id" = Uuid, Path, description = "Test")),
    extensions(("x-roles" = json!(["admin", "blue_lead"]))),
    responses(
        (status = 200, description = "The test", body = Test),
        (status = 400, response = InvalidTransition),
        (status = 404, response = NotFound),
        (status = 409, response = Conflict),
    ))]
async fn validate_blue(
    State(gateway): State<Gateway>,
    caller: Caller,
    id: Id,
    Json(body): Json<BlueVote>,
) -> Result<Answer, Problem> {
    let request = CastVoteRequest {
        id: id.to_string(),
        side: "blue".into(),
        approve: body.blue_validation_status == Decision::Approved,
        notes: body.blue_validation_notes,
        result: None,
    };
    vote(&gateway, &caller, request).await
}

/// Approve a test
///
/// Leads and administrators, in review: casts the vote of the caller's side (an administrator's counts for both) and
/// sets `detection_result`. A lead cannot vote on a test that it created or ran (403); an administrator can, and the
/// audit record says so. A second vote of a side replaces its first until the state changes.
#[utoipa::path(post, path = "/api/v1/tests/{id}/validate", tag = "Workflow", request_body = Validation,
    params(("id" = Uuid, Path, description = "Test")),
    extensions(("x-roles" = json!(["admin", "red_lead", "blue_lead"]))),
    responses(
        (status = 200, description = "The test", body = Test),
        (status = 400, response = InvalidTransition),
        (status = 404, response = NotFound),
        (status = 409, response = Conflict),
    ))]
async fn validate_test(
    State(gateway): State<Gateway>,
    caller: Caller,
    id: Id,
    Json(body): Json<Validation>,
) -> Result<Answer, Problem> {
    let request = CastVoteRequest {
        id: id.to_string(),
        side: "own".into(),
        approve: true,
        notes: body.comments,
        result: Some(body.result.into()),
    };
    vote(&gateway, &caller, request).await
}

/// Reject a test
///
/// Leads and administrators, in review: casts the vote of the caller's side (an administrator's counts for both), and
/// one rejection rejects the test. A lead cannot vote on a test that it created or ran (403). The body may be left out.
#[utoipa::path(post, path = "/api/v1/tests/{id}/reject", tag = "Workflow", request_body = Option<Rejection>,
    params(("id" = Uuid, Path, description = "Test")),
    extensions(("x-roles" = json!(["admin", "red_lead", "blue_lead"]))),
    responses(
        (status = 200, description = "The test", body = Test),
        (status = 400, response = InvalidTransition),
        (status = 404, response = NotFound),
        (status = 409, response = Conflict),
    ))]
async fn reject_test(
    State(gateway): State<Gateway>,
    caller: Caller,
    id: Id,
    OptionalJson(body): OptionalJson<Rejection>,
) -> Result<Answer, Problem> {
    let request =
        CastVoteRequest { id: id.to_string(), side: "own".into(), approve: false, notes: body.comments, result: None };
    vote(&gateway, &caller, request).await
}
