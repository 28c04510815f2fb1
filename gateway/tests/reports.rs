//! Reports at the gateway: JSON, and CSV that is either whole or visibly broken.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a test fails by panicking, also in its helpers

mod common;

use aegis_error::Failure;
use aegis_proto::analytics::v1::{
    Coverage, ExportRemediationStatusRequest, ExportRemediationStatusResponse, ExportTestResultsRequest,
    ExportTestResultsResponse, GetMatrixRequest, GetMatrixResponse, GetRemediationStatusRequest,
    GetRemediationStatusResponse, GetTestResultsRequest, GetTestResultsResponse, MatrixTactic, MatrixTechnique,
    ReportedTest,
};
use axum::body::Body;
use common::{Fixture, Got, recorder::Recorder};
use http::StatusCode;
use http_body_util::BodyExt;
use prost_types::Timestamp;
use serde_json::{Value, json};
use tower::ServiceExt;

const AS_OF: &str = "2024-01-01T00:00:00Z";

fn at(seconds: i64, nanos: i32) -> Option<Timestamp> {
    Some(Timestamp { seconds, nanos })
}

fn as_of() -> Option<Timestamp> {
    at(1_704_067_200, 0)
}

async fn csv(fixture: &Fixture, path: &str) -> Got {
    let request = fixture.signed("GET", path).header("accept", "text/csv");
    fixture.send(request.body(Body::empty()).unwrap()).await
}

fn is_dated_csv(got: &Got, name: &str) {
    assert_eq!(got.status, StatusCode::OK, "{}", String::from_utf8_lossy(&got.body));
    assert_eq!(got.header("content-type"), "text/csv; charset=utf-8");
    let today = chrono::Utc::now().date_naive();
    let yesterday = today.pred_opt().unwrap();
    let names = [today, yesterday].map(|day| format!("attachment; filename=\"aegis-{name}-{day}.csv\""));
    assert!(names.contains(&got.header("content-disposition").to_owned()), "{}", got.header("content-disposition"));
    assert_eq!(got.header("x-as-of"), AS_OF);
}

fn matrix() -> GetMatrixResponse {
    let coverage = Some(Coverage { total: 2, validated: 1, not_evaluated: 1, ..Coverage::default() });
    let tactic = MatrixTactic {
        short_name: "execution".into(),
        name: "Execution".into(),
        mitre_id: "TA0002".into(),
        coverage,
        coverage_percentage: 50.0,
        score: Some(41.5),
    };
    let shell = MatrixTechnique {
        id: "i1".into(),
        mitre_id: "T1059.001".into(),
        name: "=cmd|' /C calc'!A0, \"PowerShell\"".into(),
        domain: "enterprise".into(),
        tactics: vec!["execution".into(), "discovery".into()],
        platforms: vec!["windows".into()],
        parent_mitre_id: Some("T1059".into()),
        status: "validated".into(),
        score: 83.0,
        tests: 3,
        validated_tests: 2,
        last_validated_at: as_of(),
        detection_rules: 5,
        threat_actors: 71,
        ..MatrixTechnique::default()
    };
    let other = MatrixTechnique { mitre_id: "T1106".into(), name: "Native API".into(), ..MatrixTechnique::default() };
    GetMatrixResponse {
        tactics: vec![tactic],
        techniques: vec![shell, other],
        coverage,
        coverage_percentage: 50.0,
        score: Some(41.5),
        attack_version: "16.1".into(),
        as_of: as_of(),
        ..GetMatrixResponse::default()
    }
}

#[tokio::test]
async fn coverage_is_one_report_in_two_forms() {
    let service = Recorder::default().answers("GetMatrix", &matrix());
    let fixture = Fixture::of_tests(service.service());
    let got = fixture.get("/api/v1/reports/coverage-summary?tactic=execution&platform=Windows").await;
    assert_eq!(got.status, StatusCode::OK, "{}", got.json());
    let report = got.json();
    assert_eq!((&report["summary"]["total_techniques"], &report["summary"]["score"]), (&json!(2), &json!(41.5)));
    assert_eq!((&report["tactics"][0]["tactic"], &report["tactics"][0]["total"]), (&json!("execution"), &json!(2)));
    assert_eq!(report["techniques"][0]["is_subtechnique"], true);
    assert_eq!((&report["techniques"][1]["last_validated_at"], &report["threat_actor"]), (&Value::Null, &Value::Null));
    assert_eq!((got.header("x-as-of"), got.header("vary").contains("accept")), (AS_OF, true));
    let sent: GetMatrixRequest = service.last("GetMatrix");
    let expected = GetMatrixRequest {
        domain: "all".into(),
        platform: Some("windows".into()),
        tactic: Some("execution".into()),
        ..GetMatrixRequest::default()
    };
    assert_eq!(sent, expected);

    let expected = "mitre_id,name,domain,tactics,platforms,is_subtechnique,parent_mitre_id,status,score,tests,\
                    validated_tests,last_validated_at,detection_rules,threat_actors,technique_id\r\n\
                    T1059.001,\"'=cmd|' /C calc'!A0, \"\"PowerShell\"\"\",enterprise,execution; discovery,windows,true,\
                    T1059,validated,83.0,3,2,2024-01-01T00:00:00Z,5,71,i1\r\n\
                    T1106,Native API,,,,false,,,0.0,0,0,,0,0,\r\n";
    let asked = fixture.get("/api/v1/reports/coverage-csv?domain=ics&threat_actor_id=G0007").await;
    is_dated_csv(&asked, "coverage");
    assert_eq!(String::from_utf8(asked.body).unwrap(), expected);
    let sent: GetMatrixRequest = service.last("GetMatrix");
    assert_eq!((sent.domain.as_str(), sent.threat_actor_id.as_deref()), ("ics", Some("G0007")));
    let accepted = csv(&fixture, "/api/v1/reports/coverage-summary").await;
    is_dated_csv(&accepted, "coverage");
    assert_eq!(String::from_utf8(accepted.body).unwrap(), expected);
}

#[tokio::test]
async fn results_are_counted_and_paged() {
    let test = ReportedTest { id: "t".into(), state: "validated".into(), ..ReportedTest::default() };
    let answer = GetTestResultsResponse {
        total_size: 3,
        by_state: [("validated".to_owned(), 3), ("draft".to_owned(), 0)].into(),
        by_detection: [("none".to_owned(), 3)].into(),
        tests: vec![test],
        as_of: as_of(),
        ..GetTestResultsResponse::default()
    };
    let service = Recorder::default().answers("GetTestResults", &answer);
    let fixture = Fixture::of_tests(service.service());
    let query = "state=validated&date_from=2024-01-01&date_to=2024-01-31&limit=1&offset=2";
    let got = fixture.get(&format!("/api/v1/reports/test-results?{query}")).await;
    assert_eq!((got.status, got.header("x-total-count"), got.header("x-as-of")), (StatusCode::OK, "3", AS_OF));
    let report = got.json();
    assert_eq!((&report["total"], &report["by_state"]), (&json!(3), &json!({"draft": 0, "validated": 3})));
    assert_eq!((&report["by_detection"], &report["tests"][0]["detection_result"]), (&json!({"none": 3}), &Value::Null));
    let sent: GetTestResultsRequest = service.last("GetTestResults");
    assert_eq!((sent.page_size, sent.skip), (1, 2));
    let filter = sent.filter.unwrap();
    // The last day is meant to its end; services take the end as exclusive.
    assert_eq!((filter.state.as_deref(), filter.from, filter.to), (Some("validated"), as_of(), at(1_706_745_600, 0)));
}

#[tokio::test]
async fn remediations_are_counted_and_paged() {
    let test = ReportedTest { remediation_steps: "Log script blocks".into(), ..ReportedTest::default() };
    let answer = GetRemediationStatusResponse {
        total_size: 1,
        by_status: [("pending".to_owned(), 1)].into(),
        overdue: 1,
        tests: vec![test],
        as_of: as_of(),
        ..GetRemediationStatusResponse::default()
    };
    let service = Recorder::default().answers("GetRemediationStatus", &answer);
    let fixture = Fixture::of_tests(service.service());
    let got = fixture.get("/api/v1/reports/remediation-status?status=pending").await;
    assert_eq!((got.status, got.header("x-total-count"), got.header("x-as-of")), (StatusCode::OK, "1", AS_OF));
    let report = got.json();
    assert_eq!((&report["overdue"], &report["by_status"]["pending"]), (&json!(1), &json!(1)));
    assert_eq!(report["tests"][0]["remediation_steps"], "Log script blocks");
    let sent: GetRemediationStatusRequest = service.last("GetRemediationStatus");
    assert_eq!((sent.status.as_deref(), sent.page_size, sent.skip), (Some("pending"), 100, 0));
}

fn pieces() -> Vec<ExportTestResultsResponse> {
    let piece = |chunk: &str, as_of| ExportTestResultsResponse { chunk: chunk.into(), as_of };
    vec![piece("id,name\r\n1,Ein Ü", as_of()), piece("berblick\r\n2,", None), piece("x\r\n", None)]
}

#[tokio::test]
async fn files_are_streamed_as_they_come() {
    let whole = ExportRemediationStatusResponse { chunk: b"id\r\n".to_vec(), as_of: as_of() };
    let service = Recorder::default().streams("ExportTestResults", &pieces(), None).streams(
        "ExportRemediationStatus",
        &[whole],
        None,
    );
    let fixture = Fixture::of_tests(service.service());
    let got = fixture.get("/api/v1/reports/test-results.csv?state=draft&date_to=2024-01-01T00:00:00Z").await;
    is_dated_csv(&got, "test-results");
    assert_eq!(String::from_utf8(got.body).unwrap(), "id,name\r\n1,Ein Überblick\r\n2,x\r\n");
    let filter = service.last::<ExportTestResultsRequest>("ExportTestResults").filter.unwrap();
    assert_eq!((filter.state.as_deref(), filter.from, filter.to), (Some("draft"), None, at(1_704_067_200, 1000)));
    let got = csv(&fixture, "/api/v1/reports/test-results?limit=1").await;
    is_dated_csv(&got, "test-results");
    assert_eq!(got.header("vary"), "accept");

    let got = fixture.get("/api/v1/reports/remediation-status.csv?status=completed").await;
    is_dated_csv(&got, "remediation-status");
    let sent: ExportRemediationStatusRequest = service.last("ExportRemediationStatus");
    assert_eq!((sent.status.as_deref(), got.body.as_slice()), (Some("completed"), &b"id\r\n"[..]));
    is_dated_csv(&csv(&fixture, "/api/v1/reports/remediation-status").await, "remediation-status");
}

#[tokio::test]
async fn a_file_that_breaks_off_does_not_look_whole() {
    let service =
        Recorder::default().streams("ExportTestResults", &pieces(), Some(Failure::unavailable("the database")));
    let fixture = Fixture::of_tests(service.service());
    for accept in ["", "gzip"] {
        let request = fixture.signed("GET", "/api/v1/reports/test-results").header("accept", "text/csv");
        let request = request.header("accept-encoding", accept).body(Body::empty()).unwrap();
        let response = fixture.router.clone().oneshot(request).await.unwrap();
        assert_eq!(response.status(), StatusCode::OK);
        assert!(response.into_body().collect().await.is_err(), "{accept}: the body ended as if it was whole");
    }
}

#[tokio::test]
async fn what_fails_before_the_first_line_is_an_error_answer() {
    let none: &[ExportTestResultsResponse] = &[];
    for (end, status) in [
        (Some(Failure::unavailable("the database")), StatusCode::SERVICE_UNAVAILABLE),
        (None, StatusCode::INTERNAL_SERVER_ERROR),
    ] {
        let service = Recorder::default().streams("ExportTestResults", none, end);
        let got = Fixture::of_tests(service.service()).get("/api/v1/reports/test-results.csv").await;
        assert_eq!((got.status, got.header("content-type")), (status, "application/json"));
        assert_eq!(got.header("content-disposition"), "");
    }
}

#[tokio::test]
async fn what_does_not_validate_is_refused_by_field_before_any_call() {
    let fixture = Fixture::new();
    for (path, field) in [
        ("coverage-summary?domain=all", "domain"),
        ("coverage-csv?status=validated", "status"),
        ("test-results?state=done", "state"),
        ("test-results?date_from=yesterday", "date_from"),
        ("test-results?date_from=2024-02-01&date_to=2024-01-31", "date_from"),
        ("test-results.csv?date_from=2024-02-01&date_to=2024-01-31", "date_from"),
        ("test-results?limit=1001", "limit"),
        ("test-results.csv?limit=5", "limit"),
        ("remediation-status?status=open", "status"),
        ("remediation-status?limit=0", "limit"),
        ("remediation-status.csv?offset=5", "offset"),
    ] {
        let got = fixture.get(&format!("/api/v1/reports/{path}")).await;
        assert_eq!((got.status, got.fields()), (StatusCode::BAD_REQUEST, vec![field.to_owned()]), "{path}");
    }
    assert!(fixture.calls.lock().unwrap().is_empty());
}
