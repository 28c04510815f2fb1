//! Coverage figures, and tests by state. What the work costs in time is in [`operational`], who does it in [`teams`],
//! what attackers show here in [`observed`].

mod observed;
mod operational;
mod teams;

use aegis_proto::analytics::v1::{Coverage, GetSummaryRequest, GetTestPipelineRequest, ListTacticCoverageRequest};
use axum::extract::State;
use http::Uri;
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{answer::Answer, error::Problem, extract::Caller, state::Gateway, values::time};

/// Routes that need a token.
pub fn protected() -> OpenApiRouter<Gateway> {
    OpenApiRouter::new()
        .routes(routes!(get_summary))
        .routes(routes!(list_tactic_coverage))
        .routes(routes!(get_test_pipeline))
        .merge(observed::protected())
        .merge(operational::protected())
        .merge(teams::protected())
}

/// Coverage of the whole matrix.
#[derive(Serialize, ToSchema)]
#[schema(example = json!({
    "total_techniques": 200, "validated": 50, "partial": 20, "not_covered": 30, "in_progress": 10,
    "not_evaluated": 90, "coverage_percentage": 35.0
}))]
pub struct Summary {
    total_techniques: i64,
    validated: i64,
    partial: i64,
    not_covered: i64,
    in_progress: i64,
    not_evaluated: i64,
    /// (validated + partial) / total × 100, one decimal; 0 for an empty catalogue.
    coverage_percentage: f64,
}

impl Summary {
    /// Of these counts.
    pub fn new(coverage: Option<Coverage>, coverage_percentage: f64) -> Summary {
        let coverage = coverage.unwrap_or_default();
        Summary {
            total_techniques: coverage.total,
            validated: coverage.validated,
            partial: coverage.partial,
            not_covered: coverage.not_covered,
            in_progress: coverage.in_progress,
            not_evaluated: coverage.not_evaluated,
            coverage_percentage,
        }
    }
}

/// Coverage of one tactic.
#[derive(Serialize, ToSchema)]
#[schema(example = json!({
    "tactic": "execution", "total": 15, "validated": 5, "partial": 2, "not_covered": 3, "not_evaluated": 5,
    "in_progress": 0
}))]
pub struct TacticCoverage {
    /// Short name.
    tactic: String,
    total: i64,
    validated: i64,
    partial: i64,
    not_covered: i64,
    not_evaluated: i64,
    in_progress: i64,
}

impl TacticCoverage {
    /// Of these counts.
    pub fn new(tactic: String, coverage: Option<Coverage>) -> TacticCoverage {
        let coverage = coverage.unwrap_or_default();
        TacticCoverage {
            tactic,
            total: coverage.total,
            validated: coverage.validated,
            partial: coverage.partial,
            not_covered: coverage.not_covered,
            not_evaluated: coverage.not_evaluated,
            in_progress: coverage.in_progress,
        }
    }
}

/// Tests by state.
#[derive(Serialize, ToSchema)]
#[schema(example = json!({
    "draft": 12, "red_executing": 3, "blue_evaluating": 5, "in_review": 2, "validated": 140, "rejected": 4, "total": 166
}))]
pub struct TestPipeline {
    draft: i64,
    red_executing: i64,
    blue_evaluating: i64,
    in_review: i64,
    validated: i64,
    rejected: i64,
    /// All of them.
    total: i64,
}

/// Coverage summary
///
/// Revoked and deprecated techniques do not count.
#[utoipa::path(get, path = "/api/v1/metrics/summary", tag = "Metrics",
    responses((status = 200, description = "The summary", body = Summary,
        headers(("X-As-Of" = String, description = "When the figures were last brought up to date")))))]
async fn get_summary(State(gateway): State<Gateway>, caller: Caller, uri: Uri) -> Result<Answer, Problem> {
    let load = async {
        let request = caller.ctx().outgoing(GetSummaryRequest {});
        let answer = gateway.deps.analytics.clone().get_summary(request).await?.into_inner();
        let summary = Summary::new(answer.coverage, answer.coverage_percentage);
        Ok(Answer::json(&summary)?.dated(time(answer.as_of)))
    };
    gateway.hot.answer(&caller, &uri, load).await
}

/// Coverage by tactic
///
/// A technique counts once in each of its tactics.
#[utoipa::path(get, path = "/api/v1/metrics/by-tactic", tag = "Metrics",
    responses((status = 200, description = "The tactics", body = [TacticCoverage],
        headers(("X-As-Of" = String, description = "When the figures were last brought up to date")))))]
async fn list_tactic_coverage(State(gateway): State<Gateway>, caller: Caller, uri: Uri) -> Result<Answer, Problem> {
    let load = async {
        let request = caller.ctx().outgoing(ListTacticCoverageRequest {});
        let answer = gateway.deps.analytics.clone().list_tactic_coverage(request).await?.into_inner();
        let tactics = answer.tactics.into_iter().map(|row| TacticCoverage::new(row.tactic, row.coverage));
        let tactics: Vec<TacticCoverage> = tactics.collect();
        Ok(Answer::list(&tactics, tactics.len() as i64)?.dated(time(answer.as_of)))
    };
    gateway.hot.answer(&caller, &uri, load).await
}

/// Tests by state
///
/// How many tests are in which state of the pipeline; deleted ones do not count. Kept by events: a move shows here within
/// a quarter of a second, and `X-As-Of` says up to when events were taken in.
#[utoipa::path(get, path = "/api/v1/metrics/test-pipeline", tag = "Metrics",
    responses((status = 200, description = "The counts; every state is there", body = TestPipeline,
        headers(("X-As-Of" = String, description = "When the figures were last brought up to date")))))]
async fn get_test_pipeline(State(gateway): State<Gateway>, caller: Caller, uri: Uri) -> Result<Answer, Problem> {
    let load = async {
        let request = caller.ctx().outgoing(GetTestPipelineRequest {});
        let answer = gateway.deps.analytics.clone().get_test_pipeline(request).await?.into_inner();
        let counts = answer.counts.unwrap_or_default();
        let pipeline = TestPipeline {
            draft: counts.draft,
            red_executing: counts.red_executing,
            blue_evaluating: counts.blue_evaluating,
            in_review: counts.in_review,
            validated: counts.validated,
            rejected: counts.rejected,
            total: counts.total,
        };
        Ok(Answer::json(&pipeline)?.dated(time(answer.as_of)))
    };
    gateway.hot.answer(&caller, &uri, load).await
}
