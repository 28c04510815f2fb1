//! Figures of the analytics service, as REST shows them.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a test fails by panicking, also in its helpers

mod common;

use aegis_error::Failure;
use aegis_proto::analytics::v1::{GetTestPipelineResponse, TestCounts};
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
