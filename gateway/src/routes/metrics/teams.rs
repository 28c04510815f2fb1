//! Who does what: the teams' work, the leads' votes, the tests that changed last.

use aegis_proto::analytics::v1::{GetTeamActivityRequest, GetValidationRateRequest, ListRecentTestsRequest, SideRate};
use axum::extract::State;
use http::Uri;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{
    answer::Answer,
    error::Problem,
    extract::{Caller, Query, page},
    routes::reports::ReportedTest,
    state::Gateway,
    values::time,
};

/// Routes that need a token.
pub fn protected() -> OpenApiRouter<Gateway> {
    OpenApiRouter::new()
        .routes(routes!(get_team_activity))
        .routes(routes!(get_validation_rate))
        .routes(routes!(list_recent_tests))
}

/// What a team has done and has to do.
#[derive(Default, Serialize, ToSchema)]
pub struct TeamActivity {
    /// Tests that it has handed on and that are not back with it.
    completed: i64,
    /// Tests that wait for it: red's are drafts and in execution, blue's are in evaluation.
    pending: i64,
    /// Tests that it has handed on in the last 30 days.
    completed_30d: i64,
}

/// What both teams have done and have to do.
#[derive(Default, Serialize, ToSchema)]
#[schema(example = json!({
    "red_team": {"completed": 147, "pending": 15, "completed_30d": 22},
    "blue_team": {"completed": 146, "pending": 5, "completed_30d": 24}
}))]
pub struct TeamActivities {
    red_team: TeamActivity,
    blue_team: TeamActivity,
}

/// How a lead votes.
#[derive(Default, Serialize, ToSchema)]
pub struct ValidationRate {
    approved: i64,
    rejected: i64,
    /// In review, and no vote of this side yet.
    pending: i64,
    /// approved / (approved + rejected) × 100, one decimal; null without a vote.
    approval_rate: Option<f64>,
    /// rejected / (approved + rejected) × 100, one decimal; null without a vote.
    rejection_rate: Option<f64>,
}

/// How both leads vote.
#[derive(Default, Serialize, ToSchema)]
#[schema(example = json!({
    "red_lead": {"approved": 140, "rejected": 3, "pending": 2, "approval_rate": 97.9, "rejection_rate": 2.1},
    "blue_lead": {"approved": 141, "rejected": 1, "pending": 1, "approval_rate": 99.3, "rejection_rate": 0.7}
}))]
pub struct ValidationRates {
    red_lead: ValidationRate,
    blue_lead: ValidationRate,
}

impl From<SideRate> for ValidationRate {
    fn from(side: SideRate) -> ValidationRate {
        ValidationRate {
            approved: side.approved,
            rejected: side.rejected,
            pending: side.pending,
            approval_rate: side.approval_rate,
            rejection_rate: side.rejection_rate,
        }
    }
}

/// How many of them.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct RecentTests {
    /// Rows at most.
    #[param(minimum = 1, maximum = 100, default = 10)]
    limit: Option<u32>,
}

/// Team activity
///
/// Tests that each team has completed, which is to say handed on, and those that wait for it. Deleted tests do not
/// count. Kept as `/metrics/operational` is.
#[utoipa::path(get, path = "/api/v1/metrics/team-activity", tag = "Metrics",
    responses((status = 200, description = "Both teams", body = TeamActivities,
        headers(("X-As-Of" = String, description = "When the figures were computed")))))]
async fn get_team_activity(State(gateway): State<Gateway>, caller: Caller, uri: Uri) -> Result<Answer, Problem> {
    let load = async {
        let request = caller.ctx().outgoing(GetTeamActivityRequest {});
        let answer = gateway.deps.operational.clone().get_team_activity(request).await?.into_inner();
        let mut teams = TeamActivities::default();
        for team in answer.teams {
            let activity =
                TeamActivity { completed: team.completed, pending: team.pending, completed_30d: team.completed_30d };
            match team.team.as_str() {
                "red" => teams.red_team = activity,
                "blue" => teams.blue_team = activity,
                _ => {}
            }
        }
        Ok(Answer::json(&teams)?.dated(time(answer.as_of)))
    };
    gateway.hot.answer(&caller, &uri, load).await
}

/// Approval and rejection rates
///
/// How the red and the blue lead vote on tests in review: the vote that a test has now counts, one that was replaced does
/// not. Kept as `/metrics/operational` is.
#[utoipa::path(get, path = "/api/v1/metrics/validation-rate", tag = "Metrics",
    responses((status = 200, description = "Both leads", body = ValidationRates,
        headers(("X-As-Of" = String, description = "When the figures were computed")))))]
async fn get_validation_rate(State(gateway): State<Gateway>, caller: Caller, uri: Uri) -> Result<Answer, Problem> {
    let load = async {
        let request = caller.ctx().outgoing(GetValidationRateRequest {});
        let answer = gateway.deps.operational.clone().get_validation_rate(request).await?.into_inner();
        let mut leads = ValidationRates::default();
        for side in answer.sides {
            match side.side.as_str() {
                "red" => leads.red_lead = side.into(),
                "blue" => leads.blue_lead = side.into(),
                _ => {}
            }
        }
        Ok(Answer::json(&leads)?.dated(time(answer.as_of)))
    };
    gateway.hot.answer(&caller, &uri, load).await
}

/// Recently changed tests
///
/// The last that were changed, newest first, ten of them unless `limit` says otherwise.
#[utoipa::path(get, path = "/api/v1/metrics/recent-tests", tag = "Metrics", params(RecentTests),
    responses((status = 200, description = "The tests", body = [ReportedTest],
        headers(("X-As-Of" = String, description = "When the figures were last brought up to date")))))]
async fn list_recent_tests(
    State(gateway): State<Gateway>,
    caller: Caller,
    uri: Uri,
    Query(query): Query<RecentTests>,
) -> Result<Answer, Problem> {
    let (page_size, _) = page(query.limit, None, 10, 100)?;
    let load = async {
        let request = caller.ctx().outgoing(ListRecentTestsRequest { page_size });
        let answer = gateway.deps.operational.clone().list_recent_tests(request).await?.into_inner();
        let tests: Vec<ReportedTest> = answer.tests.into_iter().map(ReportedTest::from).collect();
        Ok(Answer::list(&tests, tests.len() as i64)?.dated(time(answer.as_of)))
    };
    gateway.hot.answer(&caller, &uri, load).await
}
