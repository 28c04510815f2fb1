//! The matrix at the gateway: as a layer of ATT&CK Navigator, as a picture, as a page.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a test fails by panicking, also in its helpers

mod common;

use aegis_error::{Code, Failure};
use aegis_proto::analytics::v1::{
    Coverage, GetMatrixRequest, GetMatrixResponse, GetScoreHistoryRequest, GetScoreHistoryResponse,
    GetThreatActorScoreRequest, GetThreatActorScoreResponse, MatrixTactic, MatrixTechnique, ScorePart, ScorePoint,
    ScoredTechnique,
};
use axum::body::Body;
use common::{Fixture, Got, recorder::Recorder};
use http::StatusCode;
use prost_types::Timestamp;
use serde_json::{Value, json};

const SNAPSHOT: &str = "018f0000-0000-7000-8000-000000000001";

fn technique(id: &str, parent: Option<&str>, tactics: &[&str], status: &str, score: f64) -> MatrixTechnique {
    MatrixTechnique {
        id: "018f0000-0000-7000-8000-0000000000aa".into(),
        mitre_id: id.into(),
        name: format!("<script>{id}</script>"),
        tactics: tactics.iter().map(|tactic| (*tactic).to_owned()).collect(),
        parent_mitre_id: parent.map(str::to_owned),
        status: status.into(),
        score,
        detection_rules: 7,
        observed: 3,
        ..MatrixTechnique::default()
    }
}

fn matrix() -> GetMatrixResponse {
    let tactic = |short: &str, name: &str| MatrixTactic {
        short_name: short.into(),
        name: name.into(),
        coverage: Some(Coverage { total: 2, validated: 1, not_evaluated: 1, ..Coverage::default() }),
        coverage_percentage: 50.0,
        ..MatrixTactic::default()
    };
    GetMatrixResponse {
        tactics: vec![tactic("execution", "Execution"), tactic("impact", "Impact")],
        techniques: vec![
            technique("T1059", None, &["execution"], "partial", 44.6),
            technique("T1059.001", Some("T1059"), &["execution", "impact"], "validated", 80.4),
            technique("T1485", None, &["impact"], "not_evaluated", 12.0),
        ],
        coverage: Some(Coverage { total: 3, validated: 1, partial: 1, not_evaluated: 1, ..Coverage::default() }),
        coverage_percentage: 66.7,
        score: Some(45.7),
        attack_version: "18.1".into(),
        domain: "enterprise".into(),
        as_of: Some(Timestamp { seconds: 1_704_067_200, nanos: 0 }),
        parts: vec![ScorePart { name: "tests".into(), weight: 40.0, points: 20.0, ..ScorePart::default() }],
        ..GetMatrixResponse::default()
    }
}

fn fixture(matrix: &GetMatrixResponse) -> (Recorder, Fixture) {
    let recorder = Recorder::default().answers("GetMatrix", matrix);
    let fixture = Fixture::of_tests(recorder.service());
    (recorder, fixture)
}

async fn accepting(fixture: &Fixture, path: &str, accept: &str) -> Got {
    fixture.send(fixture.signed("GET", path).header("accept", accept).body(Body::empty()).unwrap()).await
}

fn places(layer: &Value) -> Vec<(&str, &str, Option<i64>)> {
    let rows = layer["techniques"].as_array().unwrap().iter();
    let place = |row: &'_ Value| row.get("score").map(|score| score.as_i64().unwrap());
    rows.map(|row| (row["techniqueID"].as_str().unwrap(), row["tactic"].as_str().unwrap(), place(row))).collect()
}

#[tokio::test]
async fn a_layer_has_a_row_for_each_technique_and_tactic() {
    let (recorder, fixture) = fixture(&matrix());
    let got = fixture.get("/api/v1/heatmap").await;
    assert_eq!(got.status, StatusCode::OK, "{}", got.json());
    assert_eq!((got.header("x-as-of"), got.header("vary")), ("2024-01-01T00:00:00Z", "accept"));
    let layer = got.json();
    assert_eq!(
        places(&layer),
        [
            ("T1059", "execution", Some(50)),
            ("T1059.001", "execution", Some(100)),
            ("T1059.001", "impact", Some(100)),
            ("T1485", "impact", None),
        ]
    );
    assert_eq!(layer["versions"], json!({"attack": "18", "navigator": "5.1.0", "layer": "4.5"}));
    assert_eq!((&layer["domain"], &layer["filters"]), (&json!("enterprise-attack"), &Value::Null));
    assert!(layer["techniques"][3].get("color").is_none(), "what was not evaluated stays white");
    let asked: GetMatrixRequest = recorder.last("GetMatrix");
    assert_eq!(asked, GetMatrixRequest { domain: "enterprise".into(), ..GetMatrixRequest::default() });
}

#[tokio::test]
async fn each_metric_has_its_scores_and_filters_are_passed_on() {
    let (recorder, fixture) = fixture(&matrix());
    for (metric, scores) in
        [("score", [Some(45), Some(80), Some(80), None]), ("detection_rules", [Some(7); 4]), ("observed", [Some(3); 4])]
    {
        let layer = fixture.get(&format!("/api/v1/heatmap?metric={metric}")).await.json();
        assert_eq!(places(&layer).into_iter().map(|(_, _, score)| score).collect::<Vec<_>>(), scores, "{metric}");
    }
    let query = format!("domain=ics&platform=WINDOWS&tactic=impact&threat_actor_id=G0016&compare={SNAPSHOT}");
    let layer = fixture.get(&format!("/api/v1/heatmap?{query}")).await.json();
    assert_eq!(layer["filters"], json!({"platforms": ["Windows"]}));
    let asked: GetMatrixRequest = recorder.last("GetMatrix");
    let expected = GetMatrixRequest {
        domain: "ics".into(),
        threat_actor_id: Some("G0016".into()),
        platform: Some("windows".into()),
        tactic: Some("impact".into()),
        compare: Some(SNAPSHOT.into()),
    };
    assert_eq!(asked, expected);
    for (bad, field) in [("metric=luck", "metric"), ("compare=last", "compare"), ("domain=lunar", "domain")] {
        assert_eq!(fixture.get(&format!("/api/v1/heatmap?{bad}")).await.fields(), [field]);
    }
}

#[tokio::test]
async fn beside_a_snapshot_a_layer_tells_what_became_of_each() {
    let mut matrix = matrix();
    matrix.compare_name = "Spring".into();
    let row = &mut matrix.techniques[0];
    row.change = Some("improved".into());
    row.previous_status = Some("not_covered".into());
    row.previous_score = Some(8.0);
    let (_, fixture) = fixture(&matrix);
    let layer = fixture.get(&format!("/api/v1/heatmap?compare={SNAPSHOT}")).await.json();
    let row = &layer["techniques"][0];
    assert_eq!(row["comment"], "improved: not covered → partial");
    assert_eq!((&row["score"], &layer["legendItems"][0]["label"]), (&json!(50), &json!("Improved")));
    assert_eq!(row["color"], layer["legendItems"][0]["color"]);
}

#[tokio::test]
async fn the_picture_is_for_those_who_ask_for_it() {
    let (_, fixture) = fixture(&matrix());
    let asked = accepting(&fixture, "/api/v1/heatmap", "image/svg+xml").await;
    let named = fixture.get("/api/v1/heatmap.svg").await;
    // The layer is not what is remembered of the address, nor the picture.
    let usual = accepting(&fixture, "/api/v1/heatmap", "*/*").await;
    assert_eq!((asked.header("content-type"), named.header("content-type")), ("image/svg+xml", "image/svg+xml"));
    assert_eq!(usual.header("content-type"), "application/json");
    assert_eq!(named.header("x-as-of"), "2024-01-01T00:00:00Z");
    assert_eq!(asked.body, named.body);
    let picture = String::from_utf8(named.body).unwrap();
    assert!(picture.contains("&lt;script&gt;T1059") && !picture.contains("<script"));
}

#[tokio::test]
async fn the_page_needs_nothing_else_and_runs_nothing() {
    let point = |seconds| ScorePoint {
        at: Some(Timestamp { seconds, nanos: 0 }),
        kind: "weekly".into(),
        score: Some(40.0),
        ..ScorePoint::default()
    };
    let history = GetScoreHistoryResponse { points: vec![point(1_700_000_000), point(1_700_604_800)], as_of: None };
    let scored = |id: &str| ScoredTechnique { mitre_id: id.into(), ..ScoredTechnique::default() };
    let actor = GetThreatActorScoreResponse {
        key: "G0016".into(),
        name: "<b>Bear</b>".into(),
        score: Some(30.0),
        covered: vec![scored("T1059.001")],
        uncovered: vec![scored("T1485")],
        ..GetThreatActorScoreResponse::default()
    };
    let recorder = Recorder::default()
        .answers("GetMatrix", &matrix())
        .answers("GetScoreHistory", &history)
        .answers("GetThreatActorScore", &actor);
    let fixture = Fixture::of_tests(recorder.service());
    let got = fixture.get("/api/v1/reports/coverage-html?threat_actor_id=G0016&platform=Linux").await;
    assert_eq!(got.status, StatusCode::OK, "{}", String::from_utf8_lossy(&got.body));
    assert_eq!(got.header("content-type"), "text/html; charset=utf-8");
    assert!(got.header("content-security-policy").starts_with("default-src 'none';"));
    let page = String::from_utf8(got.body).unwrap();
    assert!(page.starts_with("<!DOCTYPE html>") && !page.contains("<script") && !page.contains("<b>Bear"));
    for told in ["45.7", "66.7", "&lt;b&gt;Bear&lt;/b&gt;", "platform Linux", "18.1", "1 January 2024"] {
        assert!(page.contains(told), "{told}");
    }
    assert_eq!(recorder.last::<GetScoreHistoryRequest>("GetScoreHistory").period, "1y");
    assert_eq!(recorder.last::<GetThreatActorScoreRequest>("GetThreatActorScore").id, "G0016");
    assert_eq!(recorder.last::<GetMatrixRequest>("GetMatrix").threat_actor_id, None);
}

#[tokio::test]
async fn who_is_not_known_is_not_found() {
    let unknown = Failure::new(Code::NotFound, "threat actor 'G9999' does not exist");
    let recorder = Recorder::default().refuses("GetMatrix", unknown);
    let fixture = Fixture::of_tests(recorder.service());
    for path in ["/api/v1/heatmap", "/api/v1/heatmap.svg", "/api/v1/reports/coverage-html"] {
        assert_eq!(fixture.get(&format!("{path}?threat_actor_id=G9999")).await.status, StatusCode::NOT_FOUND, "{path}");
    }
}
