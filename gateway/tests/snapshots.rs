//! Snapshots at the gateway: their shapes, what of a request goes on, and what is refused before.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a test fails by panicking, also in its helpers

mod common;

use aegis_proto::analytics::v1::{
    CompareSnapshotsRequest, CompareSnapshotsResponse, Coverage, CreateSnapshotRequest, CreateSnapshotResponse,
    DeleteSnapshotResponse, GetSnapshotRequest, GetSnapshotResponse, ListSnapshotsRequest, ListSnapshotsResponse,
    Snapshot, SnapshotTechnique, TechniqueChange,
};
use axum::body::Body;
use common::{Fixture, recorder::Recorder};
use http::StatusCode;
use prost_types::Timestamp;
use serde_json::{Value, json};

const ID: &str = "018f0000-0000-7000-8000-00000000000c";
const OTHER: &str = "018f0000-0000-7000-8000-00000000000d";

fn snapshot(seconds: i64) -> Snapshot {
    Snapshot {
        id: ID.into(),
        name: "Before".into(),
        kind: "scheduled".into(),
        created_at: Some(Timestamp { seconds, nanos: 0 }),
        coverage: Some(Coverage { total: 2, validated: 1, not_evaluated: 1, ..Coverage::default() }),
        coverage_percentage: 50.0,
        score: Some(41.5),
        attack_versions: [("enterprise".to_owned(), "16.1".to_owned())].into(),
        ..Snapshot::default()
    }
}

#[tokio::test]
async fn snapshots_are_taken_listed_read_and_deleted() {
    let technique = SnapshotTechnique { mitre_id: "T1059".into(), score: 83.0, ..SnapshotTechnique::default() };
    let list = ListSnapshotsResponse { snapshots: vec![snapshot(1_704_067_200)], total_size: 9, ..Default::default() };
    let detail = GetSnapshotResponse { snapshot: Some(snapshot(1_704_067_200)), techniques: vec![technique] };
    let service = Recorder::default()
        .answers("ListSnapshots", &list)
        .answers("CreateSnapshot", &CreateSnapshotResponse { snapshot: Some(snapshot(1_704_067_200)) })
        .answers("GetSnapshot", &detail)
        .answers("DeleteSnapshot", &DeleteSnapshotResponse {});
    let fixture = Fixture::of_tests(service.service());
    let path = format!("/api/v1/snapshots/{ID}");

    let got = fixture.get("/api/v1/snapshots?limit=1&offset=2").await;
    assert_eq!((got.status, got.header("x-total-count")), (StatusCode::OK, "9"));
    let row = &got.json()[0];
    assert_eq!((&row["total_techniques"], &row["coverage_percentage"]), (&json!(2), &json!(50.0)));
    assert_eq!((&row["created_by"], &row["weights"]), (&Value::Null, &Value::Null));
    assert_eq!(row["attack_versions"], json!({"enterprise": "16.1"}));
    assert!(row.get("techniques").is_none());
    let sent: ListSnapshotsRequest = service.last("ListSnapshots");
    assert_eq!((sent.page_size, sent.skip), (1, 2));

    let request = fixture.signed("POST", "/api/v1/snapshots").header("content-type", "application/json");
    let request = request.header("idempotency-key", "once");
    let got = fixture.send(request.body(Body::from(r#"{"name": "Before", "description": "why"}"#)).unwrap()).await;
    assert_eq!((got.status, got.header("location")), (StatusCode::CREATED, path.as_str()));
    assert_eq!(got.header("x-as-of"), "2024-01-01T00:00:00Z");
    let sent: CreateSnapshotRequest = service.last("CreateSnapshot");
    assert_eq!(sent, CreateSnapshotRequest { name: "Before".into(), description: Some("why".into()) });
    assert_eq!(service.header("CreateSnapshot", "x-aegis-idempotency-key").as_deref(), Some("once"));
    let bare = fixture.signed("POST", "/api/v1/snapshots").body(Body::empty()).unwrap();
    assert_eq!(fixture.send(bare).await.status, StatusCode::CREATED);
    assert_eq!(service.last::<CreateSnapshotRequest>("CreateSnapshot"), CreateSnapshotRequest::default());

    let got = fixture.get(&path).await;
    assert_eq!((&got.json()["name"], &got.json()["techniques"][0]["score"]), (&json!("Before"), &json!(83.0)));
    assert!(got.header("etag").starts_with("\"0-"));
    assert_eq!(got.header("x-as-of"), "2024-01-01T00:00:00Z");
    assert_eq!(service.last::<GetSnapshotRequest>("GetSnapshot").id, ID);

    let request = fixture.signed("DELETE", &path).header("if-match", got.header("etag"));
    assert_eq!(fixture.send(request.body(Body::empty()).unwrap()).await.status, StatusCode::NO_CONTENT);
    assert_eq!(service.header("DeleteSnapshot", "x-aegis-if-match").as_deref(), Some("0"));
}

#[tokio::test]
async fn two_are_compared() {
    let change = TechniqueChange {
        mitre_id: "T1685".into(),
        status_a: Some("validated".into()),
        score_a: Some(80.0),
        previous_mitre_id: Some("T1562".into()),
        ..TechniqueChange::default()
    };
    let answer = CompareSnapshotsResponse {
        a: Some(snapshot(1_704_067_200)),
        b: Some(snapshot(1_704_153_600)),
        remapped: vec![change],
        unchanged: 1,
        score_change: Some(-1.5),
        coverage_change: 0.0,
        ..CompareSnapshotsResponse::default()
    };
    let service = Recorder::default().answers("CompareSnapshots", &answer);
    let fixture = Fixture::of_tests(service.service());
    let got = fixture.get(&format!("/api/v1/snapshots/compare?a={ID}&b={OTHER}")).await;
    assert_eq!(got.status, StatusCode::OK, "{}", got.json());
    let json = got.json();
    assert_eq!((&json["unchanged"], &json["score_change"], &json["added"]), (&json!(1), &json!(-1.5), &json!([])));
    let remapped = &json["remapped"][0];
    assert_eq!((&remapped["previous_mitre_id"], &remapped["status_b"]), (&json!("T1562"), &Value::Null));
    assert_eq!(json["a"]["name"], "Before");
    assert_eq!(got.header("x-as-of"), "2024-01-02T00:00:00Z");
    let sent: CompareSnapshotsRequest = service.last("CompareSnapshots");
    assert_eq!((sent.a.as_str(), sent.b.as_str()), (ID, OTHER));
}

#[tokio::test]
async fn what_does_not_validate_is_refused_by_field_before_any_call() {
    let fixture = Fixture::new();
    let bad = [
        ("GET", "?limit=201".to_owned(), "", "limit"),
        ("GET", "?search=x".into(), "", "search"),
        ("GET", "/7".into(), "", "id"),
        ("GET", "/compare".into(), "", "a"),
        ("GET", format!("/compare?a={ID}"), "", "b"),
        ("GET", format!("/compare?a={ID}&b=7"), "", "b"),
        ("POST", String::new(), r#"{"name": 7}"#, "name"),
        ("POST", String::new(), r#"{"kind": "manual"}"#, "kind"),
        ("DELETE", "/7".into(), "", "id"),
    ];
    for (method, path, body, field) in bad {
        let request = fixture.signed(method, &format!("/api/v1/snapshots{path}"));
        let request = request.header("content-type", "application/json");
        let got = fixture.send(request.body(Body::from(body)).unwrap()).await;
        assert_eq!((got.status, got.fields()), (StatusCode::BAD_REQUEST, vec![field.to_owned()]), "{path} {body}");
    }
    assert!(fixture.calls.lock().unwrap().is_empty());
}
