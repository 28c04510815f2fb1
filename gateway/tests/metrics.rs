//! Figures of the analytics service, as REST shows them.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a test fails by panicking, also in its helpers

mod common;

use aegis_error::Failure;
use aegis_proto::analytics::v1::{
    GetOperationalByTeamResponse, GetOperationalResponse, GetOperationalTrendRequest, GetOperationalTrendResponse,
    GetTeamActivityResponse, GetTestPipelineResponse, GetValidationRateResponse, Kpi, ListRecentTestsRequest,
    ListRecentTestsResponse, OperationalWeek, ReportedTest, SideRate, TeamActivity, TeamOperational, TestCounts,
};
use axum::body::Body;
use common::{Fixture, recorder::Recorder, request};
use http::StatusCode;
use serde_json::json;

const PATH: &str = "/api/v1/metrics/test-pipeline";

#[tokio::test]
async fn the_pipeline_names_every_state_and_when_that_was_so() {
    let counts = TestCounts { draft: 3, in_review: 2, validated: 1, total: 6, ..TestCounts::default() };
    let as_of = prost_types::Timestamp { seconds: 1_700_000_000, nanos: 250_000_000 };
    let answer = GetTestPipelineResponse { counts: Some(counts), as_of: Some(as_of) };
    let fixture = Fixture::of_tests(Recorder::default().answers("GetTestPipeline", &answer).service());
    let got = fixture.get(PATH).await;
    assert_eq!(got.status, StatusCode::OK, "{}", got.json());
    assert_eq!(
        got.json(),
        json!({
            "draft": 3, "red_executing": 0, "blue_evaluating": 0, "in_review": 2, "validated": 1, "rejected": 0,
            "total": 6
        })
    );
    assert_eq!(got.header("x-as-of"), "2023-11-14T22:13:20.250Z");
}

#[tokio::test]
async fn a_pipeline_without_events_is_all_zero() {
    let answer = GetTestPipelineResponse { counts: Some(TestCounts::default()), as_of: None };
    let fixture = Fixture::of_tests(Recorder::default().answers("GetTestPipeline", &answer).service());
    let got = fixture.get(PATH).await;
    assert_eq!((got.json()["total"].as_i64(), got.header("x-as-of")), (Some(0), ""));
}

#[tokio::test]
async fn without_a_token_or_without_analytics_there_is_none() {
    let service = Recorder::default().refuses("GetTestPipeline", Failure::unavailable("the database")).service();
    let fixture = Fixture::of_tests(service);
    let got = fixture.send(request("GET", PATH).body(Body::empty()).unwrap()).await;
    assert_eq!((got.status, got.json()["code"].as_str()), (StatusCode::UNAUTHORIZED, Some("UNAUTHENTICATED")));
    let got = fixture.get(PATH).await;
    assert_eq!(got.status, StatusCode::SERVICE_UNAVAILABLE);
    assert!(!got.header("retry-after").is_empty());
}

fn kpi(name: &str, unit: &str, value: Option<f64>, n: i64) -> Kpi {
    let median = value.filter(|_| unit == "seconds");
    Kpi { name: name.into(), unit: unit.into(), value, median, p95: median, n }
}

#[tokio::test]
async fn operational_figures_are_objects_by_name_and_null_without_tests() {
    let kpis = vec![
        kpi("mttd", "seconds", Some(5400.0), 3),
        kpi("mttr", "seconds", None, 0),
        kpi("detection_efficacy", "percent", Some(66.7), 3),
        kpi("of_tomorrow", "percent", Some(1.0), 1),
    ];
    let monday = Some(prost_types::Timestamp { seconds: 1_704_067_200, nanos: 0 });
    let week = OperationalWeek { week: monday, kpis: kpis.clone(), validated: 3, rejected: 1 };
    let red = TeamOperational { team: "red".into(), kpis: vec![], completed: 4, pending: 2 };
    let blue = TeamOperational { team: "blue".into(), kpis: kpis.clone(), completed: 3, pending: 1 };
    let service = Recorder::default()
        .answers("GetOperational", &GetOperationalResponse { kpis, as_of: monday })
        .answers("GetOperationalTrend", &GetOperationalTrendResponse { weeks: vec![week], as_of: monday })
        .answers("GetOperationalByTeam", &GetOperationalByTeamResponse { teams: vec![blue, red], as_of: monday });
    let fixture = Fixture::of_tests(service.service());

    let got = fixture.get("/api/v1/metrics/operational").await;
    assert_eq!(got.status, StatusCode::OK, "{}", got.json());
    assert_eq!(
        got.json(),
        json!({
            "mttd": {"value": 5400.0, "median": 5400.0, "p95": 5400.0, "n": 3, "unit": "seconds"},
            "mttr": {"value": null, "median": null, "p95": null, "n": 0, "unit": "seconds"},
            "detection_efficacy": {"value": 66.7, "median": null, "p95": null, "n": 3, "unit": "percent"}
        })
    );
    assert_eq!(got.header("x-as-of"), "2024-01-01T00:00:00Z");

    let got = fixture.get("/api/v1/metrics/operational/trend?period=1y").await;
    let week = &got.json()[0];
    assert_eq!((&week["week"], &week["validated"]), (&json!("2024-01-01T00:00:00Z"), &json!(3)));
    assert_eq!((&week["mttd"]["n"], &week["mttr"]["value"]), (&json!(3), &json!(null)));
    assert_eq!((got.header("x-total-count"), got.header("x-as-of")), ("1", "2024-01-01T00:00:00Z"));
    assert_eq!(service.last::<GetOperationalTrendRequest>("GetOperationalTrend").period, "1y");
    fixture.get("/api/v1/metrics/operational/trend").await;
    assert_eq!(service.last::<GetOperationalTrendRequest>("GetOperationalTrend").period, "");

    let teams = fixture.get("/api/v1/metrics/operational/by-team").await.json();
    assert_eq!((&teams["red_team"]["pending"], &teams["blue_team"]["completed"]), (&json!(2), &json!(3)));
    assert_eq!(teams["red_team"], json!({"completed": 4, "pending": 2}));
    assert_eq!(teams["blue_team"]["mttd"]["value"], 5400.0);
}

#[tokio::test]
async fn the_teams_their_leads_and_what_changed_last() {
    let as_of = Some(prost_types::Timestamp { seconds: 1_704_067_200, nanos: 0 });
    let blue = TeamActivity { team: "blue".into(), completed: 3, pending: 1, completed_30d: 2 };
    let red = SideRate {
        side: "red".into(),
        approved: 3,
        rejected: 1,
        pending: 0,
        approval_rate: Some(75.0),
        rejection_rate: Some(25.0),
    };
    let none = SideRate { side: "blue".into(), pending: 4, ..SideRate::default() };
    let test = ReportedTest { id: "t".into(), state: "draft".into(), mitre_id: "T1059".into(), ..Default::default() };
    let service = Recorder::default()
        .answers("GetTeamActivity", &GetTeamActivityResponse { teams: vec![blue], as_of })
        .answers("GetValidationRate", &GetValidationRateResponse { sides: vec![none, red], as_of })
        .answers("ListRecentTests", &ListRecentTestsResponse { tests: vec![test], as_of });
    let fixture = Fixture::of_tests(service.service());
    let got = fixture.get("/api/v1/metrics/team-activity").await;
    let expected = json!({
        "red_team": {"completed": 0, "pending": 0, "completed_30d": 0},
        "blue_team": {"completed": 3, "pending": 1, "completed_30d": 2}
    });
    assert_eq!((got.json(), got.header("x-as-of")), (expected, "2024-01-01T00:00:00Z"));
    let expected = json!({
        "red_lead": {"approved": 3, "rejected": 1, "pending": 0, "approval_rate": 75.0, "rejection_rate": 25.0},
        "blue_lead": {"approved": 0, "rejected": 0, "pending": 4, "approval_rate": null, "rejection_rate": null}
    });
    assert_eq!(fixture.get("/api/v1/metrics/validation-rate").await.json(), expected);
    let got = fixture.get("/api/v1/metrics/recent-tests").await;
    let (test, as_of) = (&got.json()[0], got.header("x-as-of").to_owned());
    assert_eq!((&test["mitre_id"], &test["platform"], as_of.is_empty()), (&json!("T1059"), &json!(null), false));
    assert_eq!(service.last::<ListRecentTestsRequest>("ListRecentTests").page_size, 10);
    fixture.get("/api/v1/metrics/recent-tests?limit=100").await;
    assert_eq!(service.last::<ListRecentTestsRequest>("ListRecentTests").page_size, 100);
}

#[tokio::test]
async fn what_does_not_validate_is_refused_by_field_before_any_call() {
    let fixture = Fixture::new();
    for (path, field) in [
        ("operational/trend?period=7d", "period"),
        ("operational/trend?period=", "period"),
        ("operational/trend?weeks=3", "weeks"),
        ("recent-tests?limit=0", "limit"),
        ("recent-tests?limit=101", "limit"),
        ("recent-tests?offset=1", "offset"),
    ] {
        let got = fixture.get(&format!("/api/v1/metrics/{path}")).await;
        assert_eq!((got.status, got.fields()), (StatusCode::BAD_REQUEST, vec![field.to_owned()]), "{path}");
    }
    assert!(fixture.calls.lock().unwrap().is_empty());
}
