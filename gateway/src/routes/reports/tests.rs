//! Reports over tests: their results, their remediations.

use std::collections::BTreeMap;

use aegis_proto::analytics::v1::{
    self as proto, ExportRemediationStatusRequest, ExportTestResultsRequest, GetRemediationStatusRequest,
    GetTestResultsRequest, TestResultsFilter,
};
use axum::{
    extract::State,
    response::{IntoResponse, Response},
};
use chrono::{DateTime, TimeDelta, Utc};
use http::HeaderMap;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::{
    router::{OpenApiRouter, UtoipaMethodRouterExt},
    routes,
};

use super::csv;
use crate::{
    answer::{Answer, TOTAL_COUNT},
    error::Problem,
    extract::{Caller, Query, page},
    middleware::compression,
    state::Gateway,
    values::{DetectionResult, Moment, RemediationStatus, Since, TestState, Until, filled, time, time_always},
};

/// Routes that need a token.
pub fn protected() -> OpenApiRouter<Gateway> {
    OpenApiRouter::new()
        .routes(routes!(get_test_results).layer(compression()))
        .routes(routes!(export_test_results))
        .routes(routes!(get_remediation_status).layer(compression()))
        .routes(routes!(export_remediation_status))
}

/// A test in a report.
#[derive(Serialize, ToSchema)]
#[schema(example = example)]
pub struct ReportedTest {
    #[schema(value_type = Uuid)]
    id: String,
    name: String,
    #[schema(value_type = Uuid)]
    technique_id: String,
    /// ATT&CK id of the technique.
    mitre_id: String,
    technique_name: String,
    #[schema(value_type = TestState)]
    state: String,
    #[schema(value_type = Option<DetectionResult>)]
    detection_result: Option<String>,
    attack_success: Option<bool>,
    platform: Option<String>,
    #[schema(value_type = Uuid)]
    created_by: String,
    created_by_username: Option<String>,
    created_at: DateTime<Utc>,
    updated_at: DateTime<Utc>,
    executed_at: Option<DateTime<Utc>>,
    detected_at: Option<DateTime<Utc>>,
    validated_at: Option<DateTime<Utc>>,
    #[schema(value_type = Option<RemediationStatus>)]
    remediation_status: Option<String>,
    /// A user.
    #[schema(value_type = Option<Uuid>)]
    remediation_assignee: Option<String>,
    remediation_steps: Option<String>,
    remediation_due_date: Option<DateTime<Utc>>,
    remediation_completed_at: Option<DateTime<Utc>>,
}

impl From<proto::ReportedTest> for ReportedTest {
    fn from(test: proto::ReportedTest) -> ReportedTest {
        ReportedTest {
            id: test.id,
            name: test.name,
            technique_id: test.technique_id,
            mitre_id: test.mitre_id,
            technique_name: test.technique_name,
            state: test.state,
            detection_result: filled(test.detection_result),
            attack_success: test.attack_success,
            platform: filled(test.platform),
            created_by: test.created_by,
            created_by_username: filled(test.created_by_username),
            created_at: time_always(test.created_at),
            updated_at: time_always(test.updated_at),
            executed_at: time(test.executed_at),
            detected_at: time(test.detected_at),
            validated_at: time(test.validated_at),
            remediation_status: filled(test.remediation_status),
            remediation_assignee: filled(test.remediation_assignee),
            remediation_steps: filled(test.remediation_steps),
            remediation_due_date: time(test.remediation_due_date),
            remediation_completed_at: time(test.remediation_completed_at),
        }
    }
}

fn example() -> serde_json::Value {
    let moment = Some(prost_types::Timestamp { seconds: 1_704_067_200, nanos: 0 });
    let test = proto::ReportedTest {
        id: "0190b7a2-6a00-7b1d-8c55-0f3a9d2b7c01".into(),
        name: "Encoded command".into(),
        technique_id: "0190b7a2-5f00-7c3e-9d2a-3f6d1c0e8a11".into(),
        mitre_id: "T1059.001".into(),
        technique_name: "PowerShell".into(),
        state: "validated".into(),
        detection_result: "not_detected".into(),
        attack_success: Some(true),
        platform: "windows".into(),
        created_by: "0190b7a2-5f00-7c3e-9d2a-3f6d1c0e8a99".into(),
        created_by_username: "ana".into(),
        created_at: moment,
        updated_at: moment,
        executed_at: moment,
        validated_at: moment,
        remediation_status: "in_progress".into(),
        remediation_steps: "Log script blocks".into(),
        ..proto::ReportedTest::default()
    };
    serde_json::to_value(ReportedTest::from(test)).unwrap_or_default()
}

/// Results of tests.
#[derive(Serialize, ToSchema)]
#[schema(example = example_of_results)]
pub struct TestResults {
    /// Tests that fit.
    total: i64,
    /// How many of them are in which state; every state is there.
    by_state: BTreeMap<String, i64>,
    /// How many of them have which result: detected, partially_detected, not_detected, none.
    by_detection: BTreeMap<String, i64>,
    /// Newest first.
    tests: Vec<ReportedTest>,
}

fn example_of_results() -> serde_json::Value {
    serde_json::json!({
        "total": 1,
        "by_state": {
            "draft": 0, "red_executing": 0, "blue_evaluating": 0, "in_review": 0, "validated": 1, "rejected": 0
        },
        "by_detection": {"detected": 0, "partially_detected": 0, "not_detected": 1, "none": 0},
        "tests": [example()],
    })
}

/// Remediations of tests.
#[derive(Serialize, ToSchema)]
#[schema(example = example_of_remediations)]
pub struct Remediations {
    /// Tests that fit: those with a remediation, or with the status that was asked for.
    total: i64,
    /// How many tests have which status, whatever was asked for; every status is there.
    by_status: BTreeMap<String, i64>,
    /// Tests whose remediation is past its due date and neither completed nor without object, whatever was asked for.
    overdue: i64,
    /// Those that are due first, then the newest.
    tests: Vec<ReportedTest>,
}

fn example_of_remediations() -> serde_json::Value {
    serde_json::json!({
        "total": 1,
        "by_status": {"pending": 0, "in_progress": 1, "completed": 0, "not_applicable": 0},
        "overdue": 0,
        "tests": [example()],
    })
}

/// Which tests; all given ones must hold.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct ResultsOf {
    #[param(inline)]
    state: Option<TestState>,
    /// Made from this time on: RFC 3339, or a day.
    #[param(value_type = Option<String>, example = "2024-01-01")]
    date_from: Option<Since>,
    /// Made up to this time: RFC 3339, or a day (to its end).
    #[param(value_type = Option<String>, example = "2024-12-31")]
    date_to: Option<Until>,
    /// Rows at most.
    #[param(minimum = 1, maximum = 1000, default = 100)]
    limit: Option<u32>,
    /// Rows to leave out before.
    #[param(minimum = 0, maximum = 2147483647, default = 0)]
    offset: Option<u32>,
}

/// Which tests go into the file; all given ones must hold.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct ExportedResults {
    #[param(inline)]
    state: Option<TestState>,
    /// Made from this time on: RFC 3339, or a day.
    #[param(value_type = Option<String>, example = "2024-01-01")]
    date_from: Option<Since>,
    /// Made up to this time: RFC 3339, or a day (to its end).
    #[param(value_type = Option<String>, example = "2024-12-31")]
    date_to: Option<Until>,
}

impl ExportedResults {
    fn filter(self) -> Result<TestResultsFilter, Problem> {
        let (from, to) = (self.date_from.map(|Since(moment)| moment.0), self.date_to.map(|Until(moment)| moment.0));
        if from.zip(to).is_some_and(|(from, to)| from > to) {
            return Err(Problem::invalid("date_from", "must not be after date_to"));
        }
        // Services take the end as exclusive; times are to the microsecond.
        let end = to.map(|to| to.checked_add_signed(TimeDelta::microseconds(1)).unwrap_or(to));
        Ok(TestResultsFilter {
            state: self.state.map(String::from),
            from: from.map(|from| Moment(from).into()),
            to: end.map(|end| Moment(end).into()),
        })
    }
}

/// Which remediations.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct RemediationsOf {
    #[param(inline)]
    status: Option<RemediationStatus>,
    /// Rows at most.
    #[param(minimum = 1, maximum = 1000, default = 100)]
    limit: Option<u32>,
    /// Rows to leave out before.
    #[param(minimum = 0, maximum = 2147483647, default = 0)]
    offset: Option<u32>,
}

/// Which remediations go into the file.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct ExportedRemediations {
    #[param(inline)]
    status: Option<RemediationStatus>,
}

/// Report of test results
///
/// How many tests are in which state and have which result, and a page of the tests themselves, the newest first
/// (`total` and `X-Total-Count` have the number of all that fit). Deleted tests do not count. `date_from` and `date_to` are
/// of the moment when a test was made. With `Accept: text/csv` it is the file of `/reports/test-results.csv`, with all
/// that fit: `limit` and `offset` say nothing there.
#[utoipa::path(get, path = "/api/v1/reports/test-results", tag = "Reports", params(ResultsOf),
    responses(
        (status = 200, description = "The report",
            content((TestResults = "application/json"),
                (String = "text/csv", example = json!("id,name,…\r\n0190b7a2-6a00-7b1d-8c55-0f3a9d2b7c01,…\r\n"))),
            headers(("X-As-Of" = String, description = "When the figures were computed"),
                ("X-Total-Count" = String, description = "Tests that fit"))),
    ))]
async fn get_test_results(
    State(gateway): State<Gateway>,
    caller: Caller,
    headers: HeaderMap,
    Query(query): Query<ResultsOf>,
) -> Result<Response, Problem> {
    let (page_size, skip) = page(query.limit, query.offset, 100, 1000)?;
    let filter = ExportedResults { state: query.state, date_from: query.date_from, date_to: query.date_to }.filter()?;
    if csv::wanted(&headers) {
        return Ok(csv::varying(results_file(&gateway, &caller, filter).await?));
    }
    let request = GetTestResultsRequest { filter: Some(filter), page_size, page_token: String::new(), skip };
    let answer = gateway.deps.operational.clone().get_test_results(caller.ctx().outgoing(request)).await?.into_inner();
    let report = TestResults {
        total: answer.total_size,
        by_state: answer.by_state.into_iter().collect(),
        by_detection: answer.by_detection.into_iter().collect(),
        tests: answer.tests.into_iter().map(ReportedTest::from).collect(),
    };
    let total = report.total.to_string();
    Ok(csv::varying(Answer::json(&report)?.with(TOTAL_COUNT, &total).dated(time(answer.as_of)).into_response()))
}

async fn results_file(gateway: &Gateway, caller: &Caller, filter: TestResultsFilter) -> Result<Response, Problem> {
    let request = caller.ctx().outgoing(ExportTestResultsRequest { filter: Some(filter) });
    // The deadline is for the head of the answer; the lines come as fast as they are read.
    csv::streamed("test-results", gateway.deps.operational.clone().export_test_results(request).await?.into_inner())
        .await
}

/// Export test results as CSV
///
/// All tests that fit, streamed, the newest first: UTF-8, with a header line; cells that a spreadsheet would take for a
/// formula begin with a `'`. The answer has no length; a connection that breaks before its end is not a whole file.
#[utoipa::path(get, path = "/api/v1/reports/test-results.csv", tag = "Reports", params(ExportedResults),
    responses((status = 200, description = "The file", body = String, content_type = "text/csv",
        headers(("Content-Disposition" = String, description = "attachment, with a dated file name"),
            ("X-As-Of" = String, description = "When the tests were read")),
        example = json!("id,name,…\r\n0190b7a2-6a00-7b1d-8c55-0f3a9d2b7c01,Encoded command,…\r\n"))))]
async fn export_test_results(
    State(gateway): State<Gateway>,
    caller: Caller,
    Query(query): Query<ExportedResults>,
) -> Result<Response, Problem> {
    results_file(&gateway, &caller, query.filter()?).await
}

/// Report of remediations
///
/// How many tests have which remediation status, how many are overdue, and a page of the tests with their steps: those that
/// are due first, then the newest (`total` and `X-Total-Count` have the number of all that fit). With `Accept: text/csv`
/// it is the file of `/reports/remediation-status.csv`, with all that fit: `limit` and `offset` say nothing there.
#[utoipa::path(get, path = "/api/v1/reports/remediation-status", tag = "Reports", params(RemediationsOf),
    responses(
        (status = 200, description = "The report",
            content((Remediations = "application/json"),
                (String = "text/csv", example = json!("id,name,…\r\n0190b7a2-6a00-7b1d-8c55-0f3a9d2b7c01,…\r\n"))),
            headers(("X-As-Of" = String, description = "When the figures were computed"),
                ("X-Total-Count" = String, description = "Tests that fit"))),
    ))]
async fn get_remediation_status(
    State(gateway): State<Gateway>,
    caller: Caller,
    headers: HeaderMap,
    Query(query): Query<RemediationsOf>,
) -> Result<Response, Problem> {
    let (page_size, skip) = page(query.limit, query.offset, 100, 1000)?;
    let status = query.status.map(String::from);
    if csv::wanted(&headers) {
        return Ok(csv::varying(remediations_file(&gateway, &caller, status).await?));
    }
    let request = GetRemediationStatusRequest { status, page_size, page_token: String::new(), skip };
    let request = caller.ctx().outgoing(request);
    let answer = gateway.deps.operational.clone().get_remediation_status(request).await?.into_inner();
    let report = Remediations {
        total: answer.total_size,
        by_status: answer.by_status.into_iter().collect(),
        overdue: answer.overdue,
        tests: answer.tests.into_iter().map(ReportedTest::from).collect(),
    };
    let total = report.total.to_string();
    Ok(csv::varying(Answer::json(&report)?.with(TOTAL_COUNT, &total).dated(time(answer.as_of)).into_response()))
}

async fn remediations_file(gateway: &Gateway, caller: &Caller, status: Option<String>) -> Result<Response, Problem> {
    let request = caller.ctx().outgoing(ExportRemediationStatusRequest { status });
    let pieces = gateway.deps.operational.clone().export_remediation_status(request).await?.into_inner();
    csv::streamed("remediation-status", pieces).await
}

/// Export remediations as CSV
///
/// All tests that fit, streamed, in the order of `/reports/remediation-status`; written as `/reports/test-results.csv`.
#[utoipa::path(get, path = "/api/v1/reports/remediation-status.csv", tag = "Reports", params(ExportedRemediations),
    responses((status = 200, description = "The file", body = String, content_type = "text/csv",
        headers(("Content-Disposition" = String, description = "attachment, with a dated file name"),
            ("X-As-Of" = String, description = "When the tests were read")),
        example = json!("id,name,…\r\n0190b7a2-6a00-7b1d-8c55-0f3a9d2b7c01,Encoded command,…\r\n"))))]
async fn export_remediation_status(
    State(gateway): State<Gateway>,
    caller: Caller,
    Query(query): Query<ExportedRemediations>,
) -> Result<Response, Problem> {
    remediations_file(&gateway, &caller, query.status.map(String::from)).await
}
