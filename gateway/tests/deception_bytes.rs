//! The deception half at the gateway: bytes in and out, the stream of events, and who gets how far.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a test fails by panicking, also in its helpers

mod common;

use aegis_auth::Role;
use aegis_error::Failure;
use aegis_gateway::Config;
use aegis_proto::deception::v1::{
    Alert, ApprovedScanner, ArtifactInfo, CreateApprovedScannerRequest, CreateApprovedScannerResponse,
    GetAlertResponse, GetApprovedScannerResponse, GetLogHistogramResponse, IngestLinesRequest, IngestLinesResponse,
    ListAttackerTechniquesResponse, ListLogsResponse, ListObservationsRequest, ListObservationsResponse,
    ListTaggingRulesResponse, Log, LogBucket, Observation, ReadArtifactRequest, ReadArtifactResponse, RefusedLine,
    Stats, TaggingRule, WatchLogsRequest, WatchLogsResponse, ingest_lines_request, read_artifact_response,
    watch_logs_response::Item,
};
use axum::body::Body;
use common::{Fixture, Got, recorder::Recorder, request};
use http::StatusCode;
use prost_types::Timestamp;
use serde_json::{Value, json};

const WHEN: &str = "2024-01-01T00:00:00Z";
const NOBODY: &str = "018f0000-0000-7000-8000-000000000000";
const STORED: &str = "2024-01-01T02:22:56Z_9f86d081884c_payload.sh";
const SHA256: &str = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08";

fn when() -> Option<Timestamp> {
    Some(Timestamp { seconds: 1_704_067_200, nanos: 0 })
}

fn told(item: Item) -> WatchLogsResponse {
    WatchLogsResponse { item: Some(item) }
}

fn logs(ids: &[i64]) -> Item {
    let logs = ids.iter().map(|id| Log { id: *id, timestamp: when(), ..Log::default() }).collect();
    Item::Logs(ListLogsResponse { logs, ..ListLogsResponse::default() })
}

fn first() -> Vec<WatchLogsResponse> {
    let buckets = vec![LogBucket { bucket: when(), count: 2 }];
    vec![
        told(Item::Stats(Stats { total_logs: 2, ..Stats::default() })),
        told(Item::Histogram(GetLogHistogramResponse { buckets })),
        told(logs(&[7, 9])),
        told(logs(&[])),
        told(logs(&[10])),
    ]
}

/// The messages of a stream: id, name and data.
fn messages(got: &Got) -> Vec<(Option<i64>, String, Value)> {
    let text = String::from_utf8(got.body.clone()).unwrap();
    let blocks = text.split("\n\n").filter(|block| block.contains("data:"));
    let messages = blocks.map(|block| {
        let line = |name: &str| block.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
        let data = serde_json::from_str(line("data:").unwrap()).unwrap();
        (line("id:").map(|id| id.parse().unwrap()), line("event:").unwrap().to_owned(), data)
    });
    messages.collect()
}

#[tokio::test]
async fn the_stream_has_the_messages_of_the_reference() {
    let service = Recorder::default().streams("WatchLogs", &first(), None);
    let fixture = Fixture::of_tests(service.service());
    let got = fixture.get("/api/v1/stream?lastEventId=0&search=service:ssh&start_time=2024-01-01").await;
    assert_eq!((got.status, got.header("content-type")), (StatusCode::OK, "text/event-stream"));
    let asked: WatchLogsRequest = service.last("WatchLogs");
    assert_eq!(asked.after_id, None);
    assert_eq!(asked.filter.unwrap().search, "service:ssh");
    // A stream has no end to be met in time.
    assert_eq!(service.header("WatchLogs", "grpc-timeout"), None);
    let messages = messages(&got);
    let kinds: Vec<_> = messages.iter().map(|(id, name, data)| (*id, name.as_str(), data["type"].as_str())).collect();
    assert_eq!(
        kinds,
        [
            (None, "message", Some("stats")),
            (None, "message", Some("histogram")),
            (Some(9), "message", Some("logs")),
            (Some(9), "message", Some("logs")),
            (Some(10), "message", Some("logs")),
            (None, "end", None),
        ]
    );
    assert_eq!(messages[0].2["data"]["total_logs"], 2);
    assert_eq!(messages[1].2["data"], json!([{"bucket": WHEN, "count": 2}]));
    assert_eq!(messages[2].2["data"][1]["id"], 9);
    assert_eq!(messages[5].2["code"], "SERVICE_UNAVAILABLE");
}

#[tokio::test]
async fn a_stream_goes_on_where_it_was_left() {
    let service = Recorder::default().streams("WatchLogs", &first()[..1], None);
    let fixture = Fixture::of_tests(service.service());
    let got = fixture.get("/api/v1/stream?lastEventId=41&search=a").await;
    assert_eq!(service.last::<WatchLogsRequest>("WatchLogs").after_id, Some(41));
    // A client that breaks off now must not lose its place.
    assert_eq!(messages(&got)[0].0, Some(41));
    let request = fixture.signed("GET", "/api/v1/stream?lastEventId=41&search=a").header("last-event-id", "42");
    fixture.send(request.body(Body::empty()).unwrap()).await;
    assert_eq!(service.last::<WatchLogsRequest>("WatchLogs").after_id, Some(42));
    // By a token in the query too.
    let query = format!("/api/v1/stream?token={}", fixture.token());
    assert_eq!(fixture.send(request_of(&query)).await.status, StatusCode::OK);
    assert_eq!(fixture.send(request_of("/api/v1/stream")).await.status, StatusCode::UNAUTHORIZED);
}

fn request_of(path: &str) -> http::Request<Body> {
    request("GET", path).body(Body::empty()).unwrap()
}

#[tokio::test]
async fn a_stream_says_why_it_ends() {
    let dropped = [first().remove(0), told(Item::Dropped("you read too slowly".into()))];
    let service = Recorder::default().streams("WatchLogs", &dropped, None);
    let got = Fixture::of_tests(service.service()).get("/api/v1/stream").await;
    let end = json!({"code": "SLOW_READER", "detail": "you read too slowly"});
    assert_eq!(messages(&got).last().unwrap().2, end);
    let service = Recorder::default().streams("WatchLogs", &first(), None).service();
    let fixture = Fixture::over(Config { developer: true, ..Config::default() }, None, Some(service));
    let got = messages(&fixture.get("/api/v1/stream?maxOutput=2").await);
    assert_eq!((got.len(), &got[2].2["code"]), (3, &json!("MAX_OUTPUT")));
    assert_eq!(fixture.get("/api/v1/stream?maxOutput=0").await.fields(), ["maxOutput"]);
    let refuses = Recorder::default().refuses("WatchLogs", Failure::invalid("search", "has an open quote"));
    let got = Fixture::of_tests(refuses.service()).get("/api/v1/stream?search=%22a").await;
    assert_eq!((got.status, got.fields()), (StatusCode::UNPROCESSABLE_ENTITY, vec!["search".to_owned()]));
}

fn artifact(chunks: &[&[u8]], end: Option<Failure>) -> Recorder {
    let info = ArtifactInfo { size: chunks.iter().map(|chunk| chunk.len() as u64).sum(), sha256: SHA256.into() };
    let mut parts = vec![ReadArtifactResponse { item: Some(read_artifact_response::Item::Info(info)) }];
    for chunk in chunks {
        parts.push(ReadArtifactResponse { item: Some(read_artifact_response::Item::Chunk(chunk.to_vec())) });
    }
    Recorder::default().streams("ReadArtifact", &parts, end)
}

#[tokio::test]
async fn a_captured_file_is_an_attachment_of_no_type() {
    let service = artifact(&[b"<script>", b"alert(1)</script>"], None);
    let fixture = Fixture::of_tests(service.service());
    let path = format!("/api/v1/artifacts/decky-03/{STORED}");
    let got = fixture.get(&path).await;
    assert_eq!(got.body, b"<script>alert(1)</script>");
    assert_eq!(got.header("content-type"), "application/octet-stream");
    assert_eq!((got.header("content-length"), got.header("x-content-type-options")), ("25", "nosniff"));
    assert!(got.header("content-disposition").starts_with("attachment; filename=\"2024-01-01T02:22:56Z_9f86d081884c_"));
    let asked: ReadArtifactRequest = service.last("ReadArtifact");
    assert_eq!((asked.decky.as_str(), asked.stored_as.as_str()), ("decky-03", STORED));
    let known = fixture.signed("GET", &path).header("if-none-match", got.header("etag"));
    let known = fixture.send(known.body(Body::empty()).unwrap()).await;
    assert_eq!((known.status, known.body.len()), (StatusCode::NOT_MODIFIED, 0));

    let none: [ReadArtifactResponse; 0] = [];
    let gone = Recorder::default().streams("ReadArtifact", &none, Some(Failure::not_found("artifact", STORED)));
    assert_eq!(Fixture::of_tests(gone.service()).get(&path).await.status, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn a_name_that_no_artifact_can_have_is_400() {
    let service = Recorder::default();
    let fixture = Fixture::of_tests(service.service());
    for (path, field) in [
        (format!("Decky/{STORED}"), "decky"),
        (format!("..%2Fdecky/{STORED}"), "decky"),
        (format!("-d/{STORED}"), "decky"),
        ("decky-03/payload.sh".to_owned(), "stored_as"),
        (format!("decky-03/{STORED}%2F..%2F..%2Fetc%2Fpasswd"), "stored_as"),
    ] {
        let got = fixture.get(&format!("/api/v1/artifacts/{path}")).await;
        assert_eq!((got.status, got.fields()), (StatusCode::BAD_REQUEST, vec![field.to_owned()]), "{path}");
    }
    assert_eq!(service.methods(), [""; 0]);
}

/// Headers and a body.
type Sent = (&'static [(&'static str, &'static str)], &'static [u8]);

async fn ingest(fixture: &Fixture, format: &str, headers: &[(&str, &str)], body: &[u8]) -> Got {
    let mut request = fixture.signed("POST", &format!("/api/v1/ingest/{format}"));
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    fixture.send(request.body(Body::from(body.to_vec())).unwrap()).await
}

#[tokio::test]
async fn lines_of_others_go_to_the_service_whole_and_unzipped() {
    let refused = RefusedLine { line: 2, why: "is not valid JSON".into() };
    let answer = IngestLinesResponse { accepted: 1, duplicate: 2, refused: 3, first_refused: vec![refused] };
    let service = Recorder::default().answers("IngestLines", &answer);
    let fixture = Fixture::of_tests(service.service());
    // printf 'one\ntwo\n' | gzip -n
    let zipped: &'static [u8] = b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\x03\xcb\xcf\x4b\xe5\x2a\x29\xcf\xe7\x02\x00\xe6\x0b\xba\x12\x08\x00\x00\x00";
    let mut bodies: Vec<Sent> = vec![
        (&[("content-type", "application/x-ndjson; charset=utf-8")], b"one\ntwo\n"),
        (&[("content-type", "text/plain"), ("content-encoding", "identity")], b"one\ntwo\n"),
    ];
    let gzip = zipped;
    bodies.push((&[("content-type", "application/gzip")], gzip));
    bodies.push((&[("content-type", "application/json"), ("content-encoding", "gzip")], gzip));
    for (headers, body) in bodies {
        let got = ingest(&fixture, "opencanary", headers, body).await;
        assert_eq!(got.status, StatusCode::OK, "{headers:?} {}", String::from_utf8_lossy(&got.body));
        let refused = json!([{"line": 2, "why": "is not valid JSON"}]);
        assert_eq!(got.json(), json!({"accepted": 1, "duplicate": 2, "refused": 3, "first_refused": refused}));
        let sent = service.all::<IngestLinesRequest>("IngestLines").into_iter().map(|message| message.item.unwrap());
        let expected = [
            ingest_lines_request::Item::Format("opencanary".into()),
            ingest_lines_request::Item::Chunk(b"one\ntwo\n".to_vec()),
        ];
        assert_eq!(sent.collect::<Vec<_>>(), expected);
    }
}

#[tokio::test]
async fn lines_that_cannot_be_read_are_refused() {
    let service = Recorder::default();
    let fixture = Fixture::of_tests(service.service());
    let lines = [("content-type", "text/plain")];
    let got = ingest(&fixture, "dionaea", &lines, b"x\n").await;
    assert_eq!((got.status, got.fields()), (StatusCode::UNPROCESSABLE_ENTITY, vec!["format".to_owned()]));
    let types: [&[(&str, &str)]; 3] =
        [&[], &[("content-type", "image/png")], &[("content-type", "text/plain"), ("content-encoding", "br")]];
    for headers in types {
        let got = ingest(&fixture, "cowrie", headers, b"x\n").await;
        assert_eq!(got.status, StatusCode::UNSUPPORTED_MEDIA_TYPE, "{headers:?}");
    }
    assert_eq!(service.methods(), [""; 0]);
    let got = ingest(&fixture, "cowrie", &[("content-type", "application/gzip")], b"no gzip").await;
    assert_eq!((got.status, got.fields()), (StatusCode::UNPROCESSABLE_ENTITY, vec!["body".to_owned()]));
    let config = Config { max_upload_bytes: 10, ..Config::default() };
    let small = Fixture::over(config, None, Some(Recorder::default().service()));
    let got = ingest(&small, "cowrie", &lines, b"more than ten bytes\n").await;
    assert_eq!(got.status, StatusCode::PAYLOAD_TOO_LARGE);
}

#[tokio::test]
async fn a_sensor_gets_no_further_than_its_route() {
    let service = Recorder::default().answers("IngestLines", &IngestLinesResponse::default());
    let fixture = Fixture::of_tests(service.service());
    let token = fixture.token_of(Role::Sensor);
    let ask = async |method: &str, path: &str| {
        let request = request(method, path).header("authorization", format!("Bearer {token}"));
        fixture.send(request.header("content-type", "text/plain").body(Body::from("x\n")).unwrap()).await
    };
    assert_eq!(ask("POST", "/api/v1/ingest/cowrie").await.status, StatusCode::OK);
    // What others asked for is not in memory for it either.
    fixture.get("/api/v1/stats").await;
    for (method, path) in [
        ("GET", "/api/v1/stats"),
        ("GET", "/api/v1/logs"),
        ("GET", "/api/v1/stream"),
        ("GET", "/api/v1/techniques"),
        ("POST", "/api/v1/deckies/deploy"),
    ] {
        let got = ask(method, path).await;
        assert_eq!((got.status, &got.json()["code"]), (StatusCode::FORBIDDEN, &json!("FORBIDDEN")), "{path}");
    }
}

fn observation() -> Observation {
    Observation {
        mitre_id: "T1082".into(),
        attacker_uuid: NOBODY.into(),
        attacker_ip: "203.0.113.9".into(),
        count: 2,
        first_seen: when(),
        last_seen: when(),
        deckies: vec!["decky-03".into()],
        services: vec!["ssh".into()],
        rules: vec!["system-information".into()],
        last_log_id: 9,
        last_msg: "uname -a".into(),
    }
}

#[tokio::test]
async fn techniques_that_were_shown_say_by_whom_and_why() {
    let shown = ListObservationsResponse {
        observations: vec![observation()],
        total_size: 3,
        ..ListObservationsResponse::default()
    };
    let rules = ["a", "b", "c"].map(|id| TaggingRule { id: id.into(), reason: "why".into(), ..TaggingRule::default() });
    let service = Recorder::default()
        .answers("ListObservations", &shown)
        .answers("ListAttackerTechniques", &ListAttackerTechniquesResponse { techniques: vec![observation()] })
        .answers("ListTaggingRules", &ListTaggingRulesResponse { rules: rules.into() });
    let fixture = Fixture::of_tests(service.service());
    let got = fixture.get("/api/v1/techniques/T1082/observations?limit=1").await;
    let mut expected = json!({
        "mitre_id": "T1082", "count": 2, "first_seen": WHEN, "last_seen": WHEN, "deckies": ["decky-03"],
        "services": ["ssh"], "rules": ["system-information"], "last_log_id": 9, "last_msg": "uname -a"
    });
    let of_attacker = fixture.get(&format!("/api/v1/attackers/{NOBODY}/techniques")).await;
    assert_eq!((of_attacker.json(), of_attacker.header("x-total-count")), (json!([expected]), "1"));
    expected["attacker_uuid"] = NOBODY.into();
    expected["attacker_ip"] = "203.0.113.9".into();
    assert_eq!((got.json(), got.header("x-total-count")), (json!([expected]), "3"));
    assert_eq!(service.last::<ListObservationsRequest>("ListObservations").mitre_id, "T1082");
    let got = fixture.get("/api/v1/tagging-rules?limit=1&offset=1").await;
    assert_eq!((&got.json()[0]["id"], got.header("x-total-count")), (&json!("b"), "3"));
    assert_eq!(service.methods().iter().filter(|method| *method == "GetTechnique").count(), 0);
    // One that nobody has shown has to be there at least. The catalogue is away in this fixture.
    let unseen = Recorder::default().answers("ListObservations", &ListObservationsResponse::default());
    let got = Fixture::of_tests(unseen.service()).get("/api/v1/techniques/T9999/observations").await;
    assert_eq!(got.status, StatusCode::SERVICE_UNAVAILABLE);
}

#[tokio::test]
async fn alerts_and_who_raises_none() {
    let scanner = ApprovedScanner {
        id: NOBODY.into(),
        name: "Weekly".into(),
        network: "10.1.2.0/24".into(),
        ports: vec![443],
        ends_at: when(),
        created_by: "ana".into(),
        created_at: when(),
        version: 1,
        ..ApprovedScanner::default()
    };
    let alert = Alert { id: NOBODY.into(), kind: "traversal".into(), count: 2, first_seen: when(), ..Alert::default() };
    let service = Recorder::default()
        .answers("CreateApprovedScanner", &CreateApprovedScannerResponse { scanner: Some(scanner.clone()) })
        .answers("GetApprovedScanner", &GetApprovedScannerResponse { scanner: Some(scanner) })
        .answers("DeleteApprovedScanner", &())
        .answers("GetAlert", &GetAlertResponse { alert: Some(alert) });
    let fixture = Fixture::of_tests(service.service());
    let body =
        r#"{"name": "Weekly", "network": "10.1.2.0/24", "ports": [443], "ends_at": "2024-01-01T01:00:00+01:00"}"#;
    let made = fixture.post("/api/v1/approved-scanners", body).await;
    assert_eq!(made.status, StatusCode::CREATED);
    assert_eq!(
        made.json(),
        json!({
            "id": NOBODY, "name": "Weekly", "network": "10.1.2.0/24", "ports": [443], "starts_at": null, "ends_at": WHEN,
            "created_by": "ana", "created_at": WHEN
        })
    );
    let asked: CreateApprovedScannerRequest = service.last("CreateApprovedScanner");
    assert_eq!((asked.ports.as_slice(), asked.starts_at, asked.ends_at), (&[443][..], None, when()));
    let read = fixture.get(made.header("location")).await;
    assert_eq!((read.json(), read.header("etag")), (made.json(), made.header("etag")));
    let gone = fixture.delete(made.header("location")).await;
    assert_eq!(gone.status, StatusCode::NO_CONTENT);
    let got = fixture.get(&format!("/api/v1/alerts/{NOBODY}")).await;
    assert_eq!((&got.json()["kind"], &got.json()["count"]), (&json!("traversal"), &json!(2)));
}
