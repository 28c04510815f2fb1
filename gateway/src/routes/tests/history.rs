//! What happened to a test: its timeline, the comments in it, its retests.

use aegis_proto::testing::v1::{
    self as proto, AddCommentRequest, CreateRetestRequest, GetRetestChainRequest, GetTimelineRequest,
};
use axum::extract::State;
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{ChainedTest, Test, created};
use crate::{
    answer::Answer,
    error::Problem,
    extract::{Caller, Id, Json, Query, page},
    openapi::responses::{Conflict, NotFound},
    state::Gateway,
    values::{filled, json, time_always},
};

/// Routes that need a token.
pub fn protected() -> OpenApiRouter<Gateway> {
    OpenApiRouter::new()
        .routes(routes!(get_timeline))
        .routes(routes!(add_comment))
        .routes(routes!(create_retest))
        .routes(routes!(get_retest_chain))
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
    /// created | transition | edit | vote | evidence | comment | assignment | retest
    kind: String,
    /// A user; null for the product itself.
    #[schema(value_type = Option<Uuid>)]
    actor_id: Option<String>,
    actor: String,
    /// What happened.
    #[schema(value_type = Object)]
    details: serde_json::Value,
}

impl From<proto::TimelineEntry> for TimelineEntry {
    fn from(entry: proto::TimelineEntry) -> TimelineEntry {
        TimelineEntry {
            id: entry.id,
            time: time_always(entry.time),
            kind: entry.kind,
            actor_id: filled(entry.actor_id),
            actor: entry.actor,
            details: json(&entry.details_json),
        }
    }
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

/// What somebody has to say of a test.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"text": "The sensor on host 7 was down that day"}))]
pub struct NewComment {
    #[schema(min_length = 1, max_length = 10000)]
    text: String,
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
    let entries: Vec<TimelineEntry> = answer.entries.into_iter().map(TimelineEntry::from).collect();
    Answer::list(&entries, answer.total_size)
}

/// Comment on a test
///
/// Everyone but viewers, in whatever state the test is. The comment becomes a line of the test's history, which is what
/// the answer shows (`details.text`); it can be neither changed nor removed.
#[utoipa::path(post, path = "/api/v1/tests/{id}/comments", tag = "Tests", request_body = NewComment,
    params(("id" = Uuid, Path, description = "Test")),
    extensions(("x-roles" = json!(["admin", "red_tech", "blue_tech", "red_lead", "blue_lead"]))),
    responses((status = 201, description = "Written", body = TimelineEntry), (status = 404, response = NotFound)))]
async fn add_comment(
    State(gateway): State<Gateway>,
    caller: Caller,
    id: Id,
    Json(body): Json<NewComment>,
) -> Result<Answer, Problem> {
    let request = AddCommentRequest { test_id: id.to_string(), text: body.text };
    let answer = gateway.deps.testing.clone().add_comment(caller.ctx().outgoing(request)).await?.into_inner();
    let entry = answer.entry.ok_or_else(Problem::empty)?;
    Answer::created(&format!("/api/v1/tests/{id}/timeline"), &TimelineEntry::from(entry))
}

/// Test again
///
/// Who may create tests, and leads. Makes a draft of the same procedure whose `retest_of` is the newest test of the
/// chain. `id` may be any test of the chain that is validated or rejected: another state is 400 (`INVALID_STATE`). A
/// chain that has its five retests already is 409 (`CONFLICT`). The retest belongs to the one who asks.
#[utoipa::path(post, path = "/api/v1/tests/{id}/retest", tag = "Workflow",
    params(("id" = Uuid, Path, description = "Test")),
    extensions(("x-roles" = json!(["admin", "red_tech", "red_lead", "blue_lead"]))),
    responses(
        (status = 201, description = "The new draft", body = Test),
        (status = 404, response = NotFound),
        (status = 409, response = Conflict),
    ))]
async fn create_retest(State(gateway): State<Gateway>, caller: Caller, id: Id) -> Result<Answer, Problem> {
    let request = CreateRetestRequest { test_id: id.to_string() };
    created(gateway.deps.testing.clone().create_retest(caller.ctx().outgoing(request)).await?.into_inner().test)
}

/// Read a chain of retests
///
/// All of it, whichever of its tests `id` is, oldest first: at most six tests, so there are no pages. A test without
/// retests is a chain of one. `regression` marks a test with a worse result than the validated one before it.
#[utoipa::path(get, path = "/api/v1/tests/{id}/retest-chain", tag = "Tests",
    params(("id" = Uuid, Path, description = "Test")),
    responses((status = 200, description = "The chain", body = [ChainedTest]), (status = 404, response = NotFound)))]
async fn get_retest_chain(State(gateway): State<Gateway>, caller: Caller, id: Id) -> Result<Answer, Problem> {
    let request = GetRetestChainRequest { test_id: id.to_string() };
    let answer = gateway.deps.testing.clone().get_retest_chain(caller.ctx().outgoing(request)).await?.into_inner();
    let chain = answer.links.into_iter().map(|link| {
        let test = link.test.ok_or_else(Problem::empty)?;
        Ok(ChainedTest { test: test.into(), regression: link.regression })
    });
    let chain = chain.collect::<Result<Vec<_>, Problem>>()?;
    let total = i64::try_from(chain.len()).unwrap_or(i64::MAX);
    Answer::list(&chain, total)
}
