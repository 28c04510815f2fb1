//! The same change of many tests: all of them, or none.

use aegis_error::{Failure, Fields};
use aegis_proto::testing::v1::{Assignment, ChangeTestsRequest, change_tests_request::Change as Asked};
use axum::extract::State;
use serde::Deserialize;
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};
use uuid::Uuid;

use super::{ChangedTests, Test, answer};
use crate::{
    answer::Answer,
    error::Problem,
    extract::{Caller, Id, Json},
    openapi::responses::{Conflict, InvalidTransition, NotFound},
    state::Gateway,
    values::{Change, Move, set},
};

/// Routes that need a token.
pub fn protected() -> OpenApiRouter<Gateway> {
    OpenApiRouter::new().routes(routes!(change_tests))
}

/// Tests and what is to be done with them: exactly one of `assign`, `move` and `delete`.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({
    "ids": ["0190b7a2-6a00-7b1d-8c55-0f3a9d2b7c01"],
    "assign": {"red_assignee": "0190b7a2-5f00-7c3e-9d2a-3f6d1c0e8a99", "blue_assignee": null}
}))]
pub struct BulkChange {
    /// Each once.
    #[schema(min_items = 1, max_items = 500)]
    ids: Vec<Uuid>,
    #[serde(default, deserialize_with = "set")]
    #[schema(value_type = NewAssignment, required = false)]
    assign: Option<NewAssignment>,
    #[serde(default, deserialize_with = "set")]
    #[schema(value_type = Move, required = false)]
    r#move: Option<Move>,
    /// `true`.
    #[serde(default, deserialize_with = "set")]
    #[schema(value_type = bool, required = false)]
    delete: Option<bool>,
}

/// Who is to do what; what is absent is left alone, `null` means nobody.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"red_assignee": "0190b7a2-5f00-7c3e-9d2a-3f6d1c0e8a99", "blue_assignee": null}))]
pub struct NewAssignment {
    /// A user: who is to run the test.
    #[serde(default)]
    #[schema(value_type = Option<Uuid>)]
    pub(super) red_assignee: Change<Uuid>,
    /// A user: who is to evaluate it.
    #[serde(default)]
    #[schema(value_type = Option<Uuid>)]
    pub(super) blue_assignee: Change<Uuid>,
    /// A user: who is to remedy what it showed.
    #[serde(default)]
    #[schema(value_type = Option<Uuid>)]
    pub(super) remediation_assignee: Change<Uuid>,
}

impl From<NewAssignment> for Asked {
    fn from(new: NewAssignment) -> Asked {
        let mut clear = Vec::new();
        let mut user = |change: Change<Uuid>, field: &str| change.or_clear(field, &mut clear).map(|id| id.to_string());
        let red_assignee = user(new.red_assignee, "red_assignee");
        let blue_assignee = user(new.blue_assignee, "blue_assignee");
        let remediation_assignee = user(new.remediation_assignee, "remediation_assignee");
        Asked::Assign(Assignment { red_assignee, blue_assignee, remediation_assignee, clear })
    }
}

impl BulkChange {
    /// The ids, and the one change that is asked for.
    fn parts(self) -> Result<(Vec<String>, Asked), Problem> {
        let mut fields = Fields::default();
        fields.check(self.delete != Some(false), "delete", "must be true");
        let given: Vec<&str> =
            [self.assign.as_ref().map(|_| "assign"), self.r#move.map(|_| "move"), self.delete.map(|_| "delete")]
                .into_iter()
                .flatten()
                .collect();
        match given.as_slice() {
            [] => fields.add("body", "must have one of assign, move and delete"),
            [_] => {}
            [_, others @ ..] => {
                for name in others {
                    fields.add(*name, format!("cannot be asked for in one request with {}", given[0]));
                }
            }
        }
        fields.finish()?;
        let asked = match (self.assign, self.r#move) {
            (Some(assign), _) => assign.into(),
            (None, Some(action)) => Asked::Move(action.into()),
            (None, None) => Asked::Delete(true),
        };
        Ok((self.ids.iter().map(Uuid::to_string).collect(), asked))
    }
}

/// Sets who is to run or evaluate one test.
pub(super) async fn assign_one(
    gateway: &Gateway,
    caller: &Caller,
    id: Id,
    assignment: NewAssignment,
) -> Result<Answer, Problem> {
    let request = ChangeTestsRequest { ids: vec![id.to_string()], change: Some(assignment.into()) };
    let changed = gateway.deps.testing.clone().change_tests(caller.ctx().outgoing(request)).await.map_err(of_one)?;
    answer(changed.into_inner().tests.into_iter().next())
}

/// A refusal of the one test that was asked for: without its place among many.
fn of_one(status: tonic::Status) -> Problem {
    let failure = Failure::from(status);
    let [only] = failure.fields() else { return failure.into() };
    if !only.field.starts_with("ids[") {
        return failure.into();
    }
    let text = only.problem.split_once(": ").map_or(only.problem.as_str(), |(_, text)| text).to_owned();
    let plain = Failure::new(failure.code(), text);
    match failure.get("version") {
        Some(version) => plain.with("version", version).into(),
        None => plain.into(),
    }
}

/// Change many tests
///
/// Up to 500 at once: all of them, or, where one of them is refused, none. Each is asked for as it would be alone:
/// `assign` by leads, administrators and who created every one of them, in any state; `move` (start_execution,
/// submit_red, submit_blue, reopen) by who may move each so; `delete` by administrators, and by who created every one
/// of them while it is draft or rejected. A refusal has the code of the first test that it is about, and
/// `errors` names each of them as `ids[n]`. `changed` counts those that are another now; where their texts are very
/// long, `tests` ends before the last. Notifications, timelines and audit trail are those of single changes.
#[utoipa::path(post, path = "/api/v1/tests/bulk", tag = "Tests", request_body = BulkChange,
    extensions(("x-roles" = json!(["admin", "red_tech", "blue_tech", "red_lead", "blue_lead"]))),
    responses(
        (status = 200, description = "Changed", body = ChangedTests),
        (status = 400, response = InvalidTransition),
        (status = 404, response = NotFound),
        (status = 409, response = Conflict),
    ))]
async fn change_tests(
    State(gateway): State<Gateway>,
    caller: Caller,
    Json(body): Json<BulkChange>,
) -> Result<Answer, Problem> {
    let (ids, asked) = body.parts()?;
    let request = ChangeTestsRequest { ids, change: Some(asked) };
    let answer = gateway.deps.testing.clone().change_tests(caller.ctx().outgoing(request)).await?.into_inner();
    let tests = answer.tests.into_iter().map(Test::from).collect();
    Answer::json(&ChangedTests { changed: answer.changed, tests })
}
