//! Scores at the gateway: their shapes, what of a request goes on, and what is refused before.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a test fails by panicking, also in its helpers

mod common;

use aegis_error::{Code, Failure};
use aegis_proto::analytics::v1::{
    GetOrganizationScoreRequest, GetOrganizationScoreResponse, GetScoreConfigResponse, GetScoreHistoryRequest,
    GetScoreHistoryResponse, GetScorePlanRequest, GetScorePlanResponse, GetTacticScoreRequest, GetTacticScoreResponse,
    GetTechniqueScoreRequest, GetTechniqueScoreResponse, GetThreatActorScoreRequest, GetThreatActorScoreResponse,
    ListScoreConfigsRequest, ListScoreConfigsResponse, PlannedTest, ScoreConfig, ScorePart, ScorePoint,
    ScoredTechnique, TacticScore, TechniqueScore, UpdateScoreConfigRequest, UpdateScoreConfigResponse, Weights,
};
use axum::body::Body;
use common::{Fixture, recorder::Recorder};
use http::StatusCode;
use prost_types::Timestamp;
use serde_json::{Value, json};

const AS_OF: &str = "2024-01-01T00:00:00Z";

fn as_of() -> Option<Timestamp> {
    Some(Timestamp { seconds: 1_704_067_200, nanos: 0 })
}

fn part(name: &str, raw: f64, weight: f64) -> ScorePart {
    ScorePart { name: name.into(), raw, weight, points: raw * weight, ..ScorePart::default() }
}

fn scored(mitre_id: &str, status: &str, score: f64) -> ScoredTechnique {
    ScoredTechnique { mitre_id: mitre_id.into(), status: status.into(), score, ..ScoredTechnique::default() }
}

#[tokio::test]
async fn a_technique_is_broken_down_by_name() {
    let rules = ScorePart { basis: "3 of 5 rules".into(), advice: "2 more".into(), gain: 8.0, ..part("", 0.0, 0.0) };
    let parts = vec![
        part("tests", 0.5, 40.0),
        ScorePart { name: "detection_rules".into(), raw: 0.6, weight: 20.0, points: 12.0, ..rules },
    ];
    let score = TechniqueScore {
        mitre_id: "T1059".into(),
        domain: "enterprise".into(),
        tactics: vec!["execution".into()],
        status: "partial".into(),
        score: 32.0,
        parts,
        advice: "2 more".into(),
        ..TechniqueScore::default()
    };
    let service = Recorder::default()
        .answers("GetTechniqueScore", &GetTechniqueScoreResponse { score: Some(score), as_of: as_of() });
    let fixture = Fixture::of_tests(service.service());
    let got = fixture.get("/api/v1/scores/technique/T1059").await;
    assert_eq!(got.status, StatusCode::OK, "{}", got.json());
    let breakdown = &got.json()["breakdown"];
    assert_eq!(
        breakdown["detection_rules"],
        json!({"raw": 0.6, "weight": 20.0, "points": 12.0, "basis": "3 of 5 rules", "advice": "2 more", "gain": 8.0})
    );
    assert_eq!((&breakdown["tests"]["points"], &breakdown["tests"]["advice"]), (&json!(20.0), &Value::Null));
    assert_eq!((&got.json()["score"], &got.json()["advice"]), (&json!(32.0), &json!("2 more")));
    assert_eq!(got.header("x-as-of"), AS_OF);
    assert!(got.header("etag").starts_with("\"0-"));
    assert_eq!(service.last::<GetTechniqueScoreRequest>("GetTechniqueScore").mitre_id, "T1059");

    let etag = got.header("etag").to_owned();
    let again = fixture.signed("GET", "/api/v1/scores/technique/T1059").header("if-none-match", etag);
    assert_eq!(fixture.send(again.body(Body::empty()).unwrap()).await.status, StatusCode::NOT_MODIFIED);
}

#[tokio::test]
async fn tactics_actors_and_all_of_it_are_means_with_what_they_are_of() {
    let tactic = GetTacticScoreResponse {
        tactic: "execution".into(),
        score: Some(26.0),
        parts: vec![part("tests", 0.25, 40.0)],
        techniques: vec![scored("T1106", "not_evaluated", 0.0), scored("T1059", "partial", 52.0)],
        as_of: as_of(),
    };
    let actor = GetThreatActorScoreResponse {
        key: "G0007".into(),
        name: "APT28".into(),
        score: Some(26.0),
        covered: vec![scored("T1001", "validated", 80.0)],
        uncovered: vec![scored("T1106", "not_evaluated", 0.0), scored("T1107", "not_covered", 1.0)],
        tactics: vec![TacticScore { tactic: "execution".into(), score: None, techniques: 0 }],
        unknown_mitre_ids: vec!["T9999".into()],
        as_of: as_of(),
        ..GetThreatActorScoreResponse::default()
    };
    let weights =
        Weights { tests: 40.0, detection_rules: 20.0, d3fend: 15.0, freshness: 15.0, platform_diversity: 10.0 };
    let all = GetOrganizationScoreResponse {
        score: None,
        weights: Some(weights),
        as_of: as_of(),
        ..GetOrganizationScoreResponse::default()
    };
    let point = ScorePoint { at: as_of(), kind: "weekly".into(), coverage_percentage: 35.0, ..ScorePoint::default() };
    let service = Recorder::default()
        .answers("GetTacticScore", &tactic)
        .answers("GetThreatActorScore", &actor)
        .answers("GetOrganizationScore", &all)
        .answers("GetScoreHistory", &GetScoreHistoryResponse { points: vec![point], as_of: as_of() });
    let fixture = Fixture::of_tests(service.service());

    let got = fixture.get("/api/v1/scores/tactic/execution?domain=enterprise").await;
    assert_eq!(
        (&got.json()["technique_count"], &got.json()["techniques"][0]["mitre_id"]),
        (&json!(2), &json!("T1106"))
    );
    assert_eq!(got.header("x-as-of"), AS_OF);
    let sent: GetTacticScoreRequest = service.last("GetTacticScore");
    assert_eq!((sent.tactic.as_str(), sent.domain.as_str()), ("execution", "enterprise"));

    let got = fixture.get("/api/v1/scores/threat-actor/G0007").await.json();
    assert_eq!((&got["mitre_id"], &got["technique_count"], &got["partial"]), (&json!("G0007"), &json!(3), &json!([])));
    assert_eq!(got["uncovered"][1]["status"], "not_covered");
    assert_eq!(got["tactics"], json!([{"tactic": "execution", "score": null, "technique_count": 0}]));
    assert_eq!(got["unknown_mitre_ids"], json!(["T9999"]));
    assert_eq!(service.last::<GetThreatActorScoreRequest>("GetThreatActorScore").id, "G0007");

    let got = fixture.get("/api/v1/scores/organization").await;
    assert_eq!((&got.json()["score"], &got.json()["breakdown"]), (&Value::Null, &Value::Null));
    assert_eq!(got.json()["weights"]["freshness"], 15.0);
    assert_eq!(service.last::<GetOrganizationScoreRequest>("GetOrganizationScore").domain, "");

    let got = fixture.get("/api/v1/scores/history?period=30d").await;
    assert_eq!((&got.json()[0]["at"], &got.json()[0]["score"]), (&json!(AS_OF), &Value::Null));
    assert_eq!((&got.json()[0]["snapshot_id"], got.header("x-total-count")), (&Value::Null, "1"));
    assert_eq!(service.last::<GetScoreHistoryRequest>("GetScoreHistory").period, "30d");
}

#[tokio::test]
async fn a_plan_is_for_all_or_against_an_actor() {
    let test = PlannedTest { rank: 1, mitre_id: "T1059".into(), gain: 0.7143, ..PlannedTest::default() };
    let plan = GetScorePlanResponse {
        threat_actor_name: "APT28".into(),
        score: Some(31.2),
        score_after: Some(33.0),
        tests: vec![test],
        as_of: as_of(),
    };
    let service = Recorder::default().answers("GetScorePlan", &plan);
    let fixture = Fixture::of_tests(service.service());
    let got = fixture.get("/api/v1/scores/plan?threat_actor_id=G0007&tests=100&domain=ics").await;
    assert_eq!((&got.json()["threat_actor"], &got.json()["gain"]), (&json!("APT28"), &json!(1.8)));
    assert_eq!((&got.json()["tests"][0]["gain"], &got.json()["tests"][0]["platform"]), (&json!(0.7143), &Value::Null));
    assert_eq!(got.header("x-as-of"), AS_OF);
    let sent: GetScorePlanRequest = service.last("GetScorePlan");
    assert_eq!((sent.threat_actor_id.as_deref(), sent.tests, sent.domain.as_str()), (Some("G0007"), 100, "ics"));
    fixture.get("/api/v1/scores/plan").await;
    let sent: GetScorePlanRequest = service.last("GetScorePlan");
    assert_eq!((sent.threat_actor_id, sent.tests), (None, 10));
}

#[tokio::test]
async fn weights_are_read_changed_and_remembered() {
    let weights =
        Weights { tests: 50.0, detection_rules: 10.0, d3fend: 15.0, freshness: 15.0, platform_diversity: 10.0 };
    let config = ScoreConfig { weights: Some(weights), version: 2, updated_by: "u".into(), updated_at: as_of() };
    let list = ListScoreConfigsResponse {
        configs: vec![config.clone(), ScoreConfig { version: 1, ..ScoreConfig::default() }],
        total_size: 7,
        ..ListScoreConfigsResponse::default()
    };
    let service = Recorder::default()
        .answers("GetScoreConfig", &GetScoreConfigResponse { config: Some(config.clone()) })
        .answers("UpdateScoreConfig", &UpdateScoreConfigResponse { config: Some(config) })
        .answers("ListScoreConfigs", &list);
    let fixture = Fixture::of_tests(service.service());
    let got = fixture.get("/api/v1/scores/config").await;
    let expected = json!({
        "tests": 50.0, "detection_rules": 10.0, "d3fend": 15.0, "freshness": 15.0, "platform_diversity": 10.0,
        "version": 2, "updated_by": "u", "updated_at": AS_OF
    });
    assert_eq!(got.json(), expected);
    assert!(got.header("etag").starts_with("\"2-") && !got.header("x-as-of").is_empty());

    let request = fixture.signed("PATCH", "/api/v1/scores/config").header("if-match", got.header("etag"));
    let request = request.header("content-type", "application/json");
    let got = fixture.send(request.body(Body::from(r#"{"tests": 50, "detection_rules": 10.0}"#)).unwrap()).await;
    assert_eq!((got.status, got.json()), (StatusCode::OK, expected));
    let sent: UpdateScoreConfigRequest = service.last("UpdateScoreConfig");
    assert_eq!((sent.tests, sent.detection_rules, sent.d3fend), (Some(50.0), Some(10.0), None));
    assert_eq!(service.header("UpdateScoreConfig", "x-aegis-if-match").as_deref(), Some("2"));

    let got = fixture.get("/api/v1/scores/config/history?limit=2&offset=3").await;
    assert_eq!((got.header("x-total-count"), &got.json()[1]["updated_at"]), ("7", &Value::Null));
    let sent: ListScoreConfigsRequest = service.last("ListScoreConfigs");
    assert_eq!((sent.page_size, sent.skip), (2, 3));
}

#[tokio::test]
async fn weights_that_do_not_sum_are_told_by_the_service_and_nothing_is_kept_for_others() {
    let refusal = Failure::invalid("tests", "all five must sum to 100, not 110");
    let service = Recorder::default()
        .refuses("UpdateScoreConfig", refusal)
        .refuses("GetScoreConfig", Failure::new(Code::Forbidden, "administrators only"));
    let fixture = Fixture::of_tests(service.service());
    let got = fixture.patch("/api/v1/scores/config", r#"{"tests": 50}"#).await;
    assert_eq!((got.status, got.fields()), (StatusCode::BAD_REQUEST, vec!["tests".to_owned()]));
    assert_eq!(fixture.get("/api/v1/scores/config").await.status, StatusCode::FORBIDDEN);
}

#[tokio::test]
async fn what_does_not_validate_is_refused_by_field_before_any_call() {
    let fixture = Fixture::new();
    let bad = [
        ("GET", "tactic/execution?domain=space", "", "domain"),
        ("GET", "organization?tactic=x", "", "tactic"),
        ("GET", "history?period=2y", "", "period"),
        ("GET", "plan?tests=0", "", "tests"),
        ("GET", "plan?tests=101", "", "tests"),
        ("GET", "plan?tests=x", "", "tests"),
        ("GET", "plan?actor=G0007", "", "actor"),
        ("GET", "technique/a%00b", "", "mitre_id"),
        ("GET", "config/history?limit=101", "", "limit"),
        ("PATCH", "config", r#"{"tests": null}"#, "tests"),
        ("PATCH", "config", r#"{"tests": "40"}"#, "tests"),
        ("PATCH", "config", r#"{"rules": 40}"#, "rules"),
        ("PATCH", "config", "[]", "body"),
    ];
    for (method, path, body, field) in bad {
        let request =
            fixture.signed(method, &format!("/api/v1/scores/{path}")).header("content-type", "application/json");
        let got = fixture.send(request.body(Body::from(body)).unwrap()).await;
        assert_eq!((got.status, got.fields()), (StatusCode::BAD_REQUEST, vec![field.to_owned()]), "{path} {body}");
    }
    assert!(fixture.calls.lock().unwrap().is_empty());
}
