//! Changes of a test's fields, by side.

use aegis_error::Fields;
use aegis_proto::testing::v1::{UpdateBlueRequest, UpdateRedRequest, UpdateRemediationRequest, UpdateTestRequest};
use axum::extract::State;
use serde::Deserialize;
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};
use uuid::Uuid;

use super::{RemediatedTest, Test, answer, bulk};
use crate::{
    answer::Answer,
    error::Problem,
    extract::{Caller, Id, Json},
    openapi::responses::{Conflict, NotFound},
    state::Gateway,
    values::{Change, DetectionResult, Moment, RemediationStatus, set},
};

/// Routes that need a token.
pub fn protected() -> OpenApiRouter<Gateway> {
    OpenApiRouter::new()
        .routes(routes!(update_test))
        .routes(routes!(update_red))
        .routes(routes!(update_blue))
        .routes(routes!(update_remediation))
}

/// Changes of a test; what is absent is left alone, `null` removes.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"name": "A better name", "tool_used": null}))]
pub struct TestChanges {
    #[serde(default, deserialize_with = "set")]
    #[schema(value_type = String, required = false)]
    name: Option<String>,
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    description: Change<String>,
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    platform: Change<String>,
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    procedure_text: Change<String>,
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    tool_used: Change<String>,
    /// A user: whose turn it is to run it. Not together with the fields above.
    #[serde(default)]
    #[schema(value_type = Option<Uuid>)]
    red_assignee: Change<Uuid>,
    /// A user: whose turn it is to evaluate it. Not together with the fields above.
    #[serde(default)]
    #[schema(value_type = Option<Uuid>)]
    blue_assignee: Change<Uuid>,
}

impl TestChanges {
    /// Who is to do it, if that is what the request is about.
    fn assignment(&mut self) -> Result<Option<bulk::NewAssignment>, Problem> {
        if self.red_assignee.is_keep() && self.blue_assignee.is_keep() {
            return Ok(None);
        }
        let mut fields = Fields::default();
        let others = [
            ("name", self.name.is_none()),
            ("description", self.description.is_keep()),
            ("platform", self.platform.is_keep()),
            ("procedure_text", self.procedure_text.is_keep()),
            ("tool_used", self.tool_used.is_keep()),
        ];
        for (name, absent) in others {
            fields.check(absent, name, "cannot be changed in one request with an assignee: others may do that");
        }
        fields.finish()?;
        Ok(Some(bulk::NewAssignment {
            red_assignee: std::mem::take(&mut self.red_assignee),
            blue_assignee: std::mem::take(&mut self.blue_assignee),
            remediation_assignee: Change::Keep,
        }))
    }
}

/// What the red side says; what is absent is left alone, `null` removes.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({
    "procedure_text": "Step by step...", "tool_used": "Atomic Red Team", "attack_success": true,
    "red_summary": "It ran", "executed_at": "2024-01-01T09:05:00Z"
}))]
pub struct RedChanges {
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    procedure_text: Change<String>,
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    tool_used: Change<String>,
    #[serde(default)]
    #[schema(value_type = Option<bool>)]
    attack_success: Change<bool>,
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    red_summary: Change<String>,
    /// When the attack ran.
    #[serde(default)]
    #[schema(value_type = Option<DateTime<Utc>>)]
    executed_at: Change<Moment>,
}

/// What the blue side says; what is absent is left alone, `null` removes.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({
    "detection_result": "detected", "blue_summary": "An alert after two minutes",
    "detected_at": "2024-01-01T09:07:00Z"
}))]
pub struct BlueChanges {
    #[serde(default)]
    #[schema(value_type = Option<DetectionResult>)]
    detection_result: Change<DetectionResult>,
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    blue_summary: Change<String>,
    #[serde(default)]
    #[schema(value_type = Option<DateTime<Utc>>)]
    detected_at: Change<Moment>,
    #[serde(default)]
    #[schema(value_type = Option<DateTime<Utc>>)]
    responded_at: Change<Moment>,
    #[serde(default)]
    #[schema(value_type = Option<DateTime<Utc>>)]
    contained_at: Change<Moment>,
}

/// The remediation; what is absent is left alone, `null` removes.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({
    "remediation_steps": "Step 1: ...\nStep 2: ...", "remediation_status": "in_progress",
    "remediation_assignee": "0190b7a2-5f00-7c3e-9d2a-3f6d1c0e8a99", "remediation_due_date": "2024-02-01T00:00:00Z"
}))]
pub struct RemediationChanges {
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    remediation_steps: Change<String>,
    #[serde(default)]
    #[schema(value_type = Option<RemediationStatus>)]
    remediation_status: Change<RemediationStatus>,
    /// A user.
    #[serde(default)]
    #[schema(value_type = Option<Uuid>)]
    remediation_assignee: Change<Uuid>,
    /// By when it is to be completed; a day long past is taken too.
    #[serde(default)]
    #[schema(value_type = Option<DateTime<Utc>>)]
    remediation_due_date: Change<Moment>,
}

/// Change a test
///
/// Its creator and administrators, in the states draft and rejected. Who is to run or evaluate it (`red_assignee`,
/// `blue_assignee`; `null` for nobody) is set in any state, by leads, administrators and the creator, and in a request
/// without other fields (400 otherwise). An assignee is told; nobody else is kept from the test. For many tests at
/// once: `POST /tests/bulk`.
#[utoipa::path(patch, path = "/api/v1/tests/{id}", tag = "Tests", params(("id" = Uuid, Path, description = "Test")),
    request_body = TestChanges,
    extensions(("x-roles" = json!(["admin"])), ("x-also" = json!("creator"))),
    responses(
        (status = 200, description = "Changed", body = Test),
        (status = 404, response = NotFound),
        (status = 409, response = Conflict),
    ))]
async fn update_test(
    State(gateway): State<Gateway>,
    caller: Caller,
    id: Id,
    Json(mut body): Json<TestChanges>,
) -> Result<Answer, Problem> {
    if let Some(assignment) = body.assignment()? {
        return bulk::assign_one(&gateway, &caller, id, assignment).await;
    }
    let mut clear = Vec::new();
    let request = UpdateTestRequest {
        id: id.to_string(),
        name: body.name,
        description: body.description.or_clear("description", &mut clear),
        platform: body.platform.or_clear("platform", &mut clear),
        procedure_text: body.procedure_text.or_clear("procedure_text", &mut clear),
        tool_used: body.tool_used.or_clear("tool_used", &mut clear),
        clear,
    };
    answer(gateway.deps.testing.clone().update_test(caller.ctx().outgoing(request)).await?.into_inner().test)
}

/// Change the red side's fields
///
/// Red techs, red leads and administrators, in the states draft and red_executing.
#[utoipa::path(patch, path = "/api/v1/tests/{id}/red", tag = "Tests", request_body = RedChanges,
    params(("id" = Uuid, Path, description = "Test")),
    extensions(("x-roles" = json!(["admin", "red_tech", "red_lead"]))),
    responses(
        (status = 200, description = "Changed", body = Test),
        (status = 404, response = NotFound),
        (status = 409, response = Conflict),
    ))]
async fn update_red(
    State(gateway): State<Gateway>,
    caller: Caller,
    id: Id,
    Json(body): Json<RedChanges>,
) -> Result<Answer, Problem> {
    let mut clear = Vec::new();
    let request = UpdateRedRequest {
        id: id.to_string(),
        procedure_text: body.procedure_text.or_clear("procedure_text", &mut clear),
        tool_used: body.tool_used.or_clear("tool_used", &mut clear),
        attack_success: body.attack_success.or_clear("attack_success", &mut clear),
        red_summary: body.red_summary.or_clear("red_summary", &mut clear),
        executed_at: body.executed_at.or_clear("executed_at", &mut clear).map(Into::into),
        clear,
    };
    answer(gateway.deps.testing.clone().update_red(caller.ctx().outgoing(request)).await?.into_inner().test)
}

/// Change the blue side's fields
///
/// Blue techs, blue leads and administrators, in the state blue_evaluating.
#[utoipa::path(patch, path = "/api/v1/tests/{id}/blue", tag = "Tests", request_body = BlueChanges,
    params(("id" = Uuid, Path, description = "Test")),
    extensions(("x-roles" = json!(["admin", "blue_tech", "blue_lead"]))),
    responses(
        (status = 200, description = "Changed", body = Test),
        (status = 404, response = NotFound),
        (status = 409, response = Conflict),
    ))]
async fn update_blue(
    State(gateway): State<Gateway>,
    caller: Caller,
    id: Id,
    Json(body): Json<BlueChanges>,
) -> Result<Answer, Problem> {
    let mut clear = Vec::new();
    let request = UpdateBlueRequest {
        id: id.to_string(),
        detection_result: body.detection_result.or_clear("detection_result", &mut clear).map(String::from),
        blue_summary: body.blue_summary.or_clear("blue_summary", &mut clear),
        detected_at: body.detected_at.or_clear("detected_at", &mut clear).map(Into::into),
        responded_at: body.responded_at.or_clear("responded_at", &mut clear).map(Into::into),
        contained_at: body.contained_at.or_clear("contained_at", &mut clear).map(Into::into),
        clear,
    };
    answer(gateway.deps.testing.clone().update_blue(caller.ctx().outgoing(request)).await?.into_inner().test)
}

/// Change the remediation
///
/// Leads, blue techs, the assignee and administrators. Who gets it to do must be an active user. A request that completes
/// the remediation of a test that is validated or rejected and was not fully detected makes its retest: a draft of the
/// same procedure, in `retest` of the answer (null where none was made, so also where the chain has its five already).
#[utoipa::path(patch, path = "/api/v1/tests/{id}/remediation", tag = "Tests", request_body = RemediationChanges,
    params(("id" = Uuid, Path, description = "Test")),
    extensions(
        ("x-roles" = json!(["admin", "red_lead", "blue_lead", "blue_tech"])),
        ("x-also" = json!("assignee"))
    ),
    responses(
        (status = 200, description = "Changed", body = RemediatedTest),
        (status = 404, response = NotFound),
        (status = 409, response = Conflict),
    ))]
async fn update_remediation(
    State(gateway): State<Gateway>,
    caller: Caller,
    id: Id,
    Json(body): Json<RemediationChanges>,
) -> Result<Answer, Problem> {
    let mut clear = Vec::new();
    let assignee = body.remediation_assignee.or_clear("remediation_assignee", &mut clear);
    let request = UpdateRemediationRequest {
        id: id.to_string(),
        remediation_steps: body.remediation_steps.or_clear("remediation_steps", &mut clear),
        remediation_status: body.remediation_status.or_clear("remediation_status", &mut clear).map(String::from),
        remediation_assignee: assignee.map(|id| id.to_string()),
        remediation_due_date: body.remediation_due_date.or_clear("remediation_due_date", &mut clear).map(Into::into),
        clear,
    };
    let answer = gateway.deps.testing.clone().update_remediation(caller.ctx().outgoing(request)).await?.into_inner();
    let test = answer.test.ok_or_else(Problem::empty)?;
    let version = test.version;
    let remediated = RemediatedTest { test: test.into(), retest: answer.retest.map(Test::from) };
    Answer::entity(version, &remediated)
}
