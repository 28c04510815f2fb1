//! The deception half at the gateway: what services are asked, and what comes of their answers.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a test fails by panicking, also in its helpers

mod common;

use aegis_error::{Code, Failure};
use aegis_proto::deception::v1::{
    Archetype, Attacker, Behavior, Bounty, Command, Component, Decky, DeckyService, DeleteDeckyRequest,
    DeployFleetRequest, DeployFleetResponse, Fingerprint, GetAttackerRequest, GetAttackerResponse, GetDeckyResponse,
    GetHealthResponse, GetLogHistogramRequest, GetLogHistogramResponse, GetStatsResponse, ListArchetypesResponse,
    ListAttackerArtifactsResponse, ListAttackerCommandsRequest, ListAttackerCommandsResponse,
    ListAttackerSessionsResponse, ListAttackersRequest, ListAttackersResponse, ListBountyRequest, ListBountyResponse,
    ListDeckiesRequest, ListDeckiesResponse, ListLogsRequest, ListLogsResponse, Log, LogBucket, MutateDeckyResponse,
    PurgeLogsResponse, ReadRecordingRequest, ReadRecordingResponse, Session, SetMutateIntervalRequest,
    SetMutateIntervalResponse, ShownTechnique, Stats,
};
use common::{Fixture, recorder::Recorder, request};
use http::StatusCode;
use prost_types::Timestamp;
use serde_json::{Value, json};

const WHEN: &str = "2024-01-01T00:00:00Z";
const NOBODY: &str = "018f0000-0000-7000-8000-000000000000";

fn when() -> Option<Timestamp> {
    Some(Timestamp { seconds: 1_704_067_200, nanos: 0 })
}

fn log() -> Log {
    Log {
        id: 1423,
        timestamp: when(),
        decky: "decky-03".into(),
        service: "ssh".into(),
        event_type: "auth_fail".into(),
        attacker_ip: "203.0.113.9".into(),
        attacker_port: 50022,
        session_id: String::new(),
        msg: "Failed password for root".into(),
        fields_json: r#"{"username":"root"}"#.into(),
        techniques: vec!["T1110".into()],
    }
}

fn log_json() -> Value {
    json!({
        "id": 1423, "timestamp": WHEN, "decky": "decky-03", "service": "ssh", "event_type": "auth_fail",
        "attacker_ip": "203.0.113.9", "attacker_port": 50022, "session_id": null, "msg": "Failed password for root",
        "fields": "{\"username\":\"root\"}", "techniques": ["T1110"]
    })
}

#[tokio::test]
async fn the_feed_is_as_the_reference_shows_it() {
    let page = ListLogsResponse { logs: vec![log()], total_size: 1423, ..ListLogsResponse::default() };
    let service = Recorder::default().answers("ListLogs", &page);
    let fixture = Fixture::of_tests(service.service());
    let query =
        "limit=7&offset=3&search=service:ssh%20%22uname%20-a%22&start_time=2024-01-01&end_time=2024-01-01T12:00:00";
    let got = fixture.get(&format!("/api/v1/logs?{query}")).await;
    assert_eq!(got.json(), json!({"total": 1423, "limit": 7, "offset": 3, "data": [log_json()]}));
    let asked: ListLogsRequest = service.last("ListLogs");
    let filter = asked.filter.unwrap();
    assert_eq!((asked.page_size, asked.skip, filter.search.as_str()), (7, 3, "service:ssh \"uname -a\""));
    assert_eq!(filter.start_time, when());
    assert_eq!(filter.end_time.unwrap().seconds, 1_704_067_200 + 12 * 3600);
    assert_eq!(fixture.get("/api/v1/logs").await.json()["limit"], 50);
}

#[tokio::test]
async fn histogram_and_totals_are_as_the_reference_shows_them() {
    let stats = Stats { total_logs: 9, unique_attackers: 4, active_deckies: 2, deployed_deckies: 3 };
    let rows = vec![LogBucket { bucket: when(), count: 0 }, LogBucket { bucket: when(), count: 9 }];
    let service = Recorder::default()
        .answers("GetLogHistogram", &GetLogHistogramResponse { buckets: rows })
        .answers("GetStats", &GetStatsResponse { stats: Some(stats) });
    let fixture = Fixture::of_tests(service.service());
    let got = fixture.get("/api/v1/logs/histogram?interval_minutes=5&search=ssh").await;
    assert_eq!(got.json(), json!([{"bucket": WHEN, "count": 0}, {"bucket": WHEN, "count": 9}]));
    let asked: GetLogHistogramRequest = service.last("GetLogHistogram");
    assert_eq!((asked.interval_minutes, asked.filter.unwrap().search.as_str()), (5, "ssh"));
    let expected = json!({"total_logs": 9, "unique_attackers": 4, "active_deckies": 2, "deployed_deckies": 3});
    assert_eq!(fixture.get("/api/v1/stats").await.json(), expected);
}

#[tokio::test]
async fn the_bounty_has_its_payload_as_an_object() {
    let bounty = Bounty {
        id: 17,
        bounty_type: "credential".into(),
        attacker_ip: "203.0.113.9".into(),
        service: "ssh".into(),
        payload_json: r#"{"username":"root","password":"<script>"}"#.into(),
        first_seen: when(),
        last_seen: when(),
        count: 4,
        ..Bounty::default()
    };
    let page = ListBountyResponse { bounties: vec![bounty], total_size: 1, ..ListBountyResponse::default() };
    let service = Recorder::default().answers("ListBounty", &page);
    let fixture = Fixture::of_tests(service.service());
    let got = fixture.get("/api/v1/bounty?bounty_type=credential&search=username:root").await;
    assert_eq!(
        got.json(),
        json!({"total": 1, "limit": 50, "offset": 0, "data": [{
            "id": 17, "timestamp": WHEN, "bounty_type": "credential", "attacker_ip": "203.0.113.9", "decky": null,
            "service": "ssh", "payload": {"username": "root", "password": "<script>"}, "first_seen": WHEN,
            "last_seen": WHEN, "count": 4
        }]})
    );
    assert_eq!(got.header("content-type"), "application/json");
    let asked: ListBountyRequest = service.last("ListBounty");
    assert_eq!((asked.bounty_type.as_str(), asked.search.as_str()), ("credential", "username:root"));
}

fn attacker() -> Attacker {
    let shown = ShownTechnique {
        mitre_id: "T1110".into(),
        count: 2,
        first_seen: when(),
        last_seen: when(),
        rules: vec!["password-guessing".into()],
    };
    let behavior = Behavior {
        event_count: 3,
        duration_s: 4.0,
        mean_iat_s: Some(2.0),
        behavior_class: "mixed".into(),
        tool_guesses: vec!["hydra".into()],
        ..Behavior::default()
    };
    Attacker {
        uuid: NOBODY.into(),
        ip: "203.0.113.9".into(),
        first_seen: when(),
        last_seen: when(),
        event_count: 3,
        service_count: 1,
        decky_count: 1,
        services: vec!["ssh".into()],
        deckies: vec!["decky-03".into()],
        fingerprints: vec![Fingerprint { kind: "hassh".into(), value: "ec73".into() }],
        techniques: vec![shown],
        behavior: Some(behavior),
        ..Attacker::default()
    }
}

#[tokio::test]
async fn attackers_have_their_behavior() {
    let page = ListAttackersResponse { attackers: vec![attacker()], total_size: 1, ..ListAttackersResponse::default() };
    let service = Recorder::default()
        .answers("ListAttackers", &page)
        .answers("GetAttacker", &GetAttackerResponse { attacker: Some(attacker()) });
    let fixture = Fixture::of_tests(service.service());
    let got = fixture.get("/api/v1/attackers?sort_by=traversals&service=ssh&search=203.0.113.9&limit=1000").await;
    let expected = json!({
        "uuid": NOBODY, "ip": "203.0.113.9", "first_seen": WHEN, "last_seen": WHEN, "event_count": 3,
        "service_count": 1, "decky_count": 1, "services": ["ssh"], "deckies": ["decky-03"], "traversal_path": null,
        "is_traversal": false, "bounty_count": 0, "credential_count": 0,
        "fingerprints": [{"kind": "hassh", "value": "ec73"}],
        "techniques": [{
            "mitre_id": "T1110", "count": 2, "first_seen": WHEN, "last_seen": WHEN, "rules": ["password-guessing"]
        }],
        "behavior": {
            "event_count": 3, "duration_s": 4.0, "mean_iat_s": 2.0, "median_iat_s": null, "stdev_iat_s": null,
            "min_iat_s": null, "max_iat_s": null, "cv": null, "behavior_class": "mixed", "beacon_interval_s": null,
            "beacon_jitter_pct": null, "tool_guesses": ["hydra"], "phase_sequence": [], "os_guess": null
        }
    });
    assert_eq!(got.json(), json!({"total": 1, "limit": 1000, "offset": 0, "data": [expected]}));
    let asked: ListAttackersRequest = service.last("ListAttackers");
    assert_eq!((asked.sort_by.as_str(), asked.service.as_str(), asked.page_size), ("traversals", "ssh", 1000));
    let got = fixture.get(&format!("/api/v1/attackers/{NOBODY}")).await;
    assert_eq!(got.json(), expected);
    assert!(got.header("etag").starts_with("\"0-"));
    assert_eq!(service.last::<GetAttackerRequest>("GetAttacker").uuid, NOBODY);

    let refuses = Recorder::default().refuses("GetAttacker", Failure::not_found("attacker", NOBODY));
    let got = Fixture::of_tests(refuses.service()).get(&format!("/api/v1/attackers/{NOBODY}")).await;
    assert_eq!((got.status, &got.json()["code"]), (StatusCode::NOT_FOUND, &json!("NOT_FOUND")));
}

#[tokio::test]
async fn what_an_attacker_did_is_listed() {
    let command = Command {
        timestamp: when(),
        decky: "decky-03".into(),
        service: "ssh".into(),
        command: "uname -a".into(),
        techniques: vec!["T1082".into()],
        ..Command::default()
    };
    let commands = ListAttackerCommandsResponse {
        commands: vec![command],
        total_size: 9,
        ..ListAttackerCommandsResponse::default()
    };
    let session = |id: &str, recorded| Session {
        id: id.into(),
        decky: "decky-03".into(),
        service: "ssh".into(),
        started_at: when(),
        event_count: 12,
        recorded,
        ..Session::default()
    };
    let sessions = ListAttackerSessionsResponse {
        sessions: vec![session(NOBODY, true), session("a/b?", true), session("c", false)],
        total_size: 3,
        ..ListAttackerSessionsResponse::default()
    };
    let captured =
        ListAttackerArtifactsResponse { logs: vec![log()], total_size: 1, ..ListAttackerArtifactsResponse::default() };
    let service = Recorder::default()
        .answers("ListAttackerCommands", &commands)
        .answers("ListAttackerSessions", &sessions)
        .answers("ListAttackerArtifacts", &captured);
    let fixture = Fixture::of_tests(service.service());
    let got = fixture.get(&format!("/api/v1/attackers/{NOBODY}/commands?service=ssh&limit=200")).await;
    assert_eq!(
        got.json(),
        json!({"total": 9, "limit": 200, "offset": 0, "data": [{
            "timestamp": WHEN, "decky": "decky-03", "service": "ssh", "command": "uname -a", "session_id": null,
            "techniques": ["T1082"]
        }]})
    );
    let asked: ListAttackerCommandsRequest = service.last("ListAttackerCommands");
    assert_eq!((asked.uuid.as_str(), asked.service.as_str(), asked.page_size), (NOBODY, "ssh", 200));
    let got = fixture.get(&format!("/api/v1/attackers/{NOBODY}/artifacts")).await;
    assert_eq!(got.json(), json!({"total": 1, "data": [log_json()]}));
    let got = fixture.get(&format!("/api/v1/attackers/{NOBODY}/sessions")).await.json();
    let base = format!("/api/v1/attackers/{NOBODY}/sessions");
    assert_eq!(got["data"][0]["recording_url"], format!("{base}/{NOBODY}/recording"));
    assert_eq!(got["data"][1]["recording_url"], format!("{base}/a%2Fb%3F/recording"));
    assert_eq!((&got["data"][2]["recording_url"], &got["data"][2]["ended_at"]), (&Value::Null, &Value::Null));
}

#[tokio::test]
async fn a_recording_is_an_attachment_and_its_absence_an_error() {
    let parts = ["{\"version\":2}\n", "[0.1,\"o\",\"$ \"]\n"];
    let parts = parts.map(|text| ReadRecordingResponse { chunk: text.into() });
    let path = format!("/api/v1/attackers/{NOBODY}/sessions/a%2Fb/recording");
    let service = Recorder::default().streams("ReadRecording", &parts, None);
    let got = Fixture::of_tests(service.service()).get(&path).await;
    assert_eq!(got.body, b"{\"version\":2}\n[0.1,\"o\",\"$ \"]\n");
    assert_eq!(got.header("content-type"), "application/x-asciicast");
    assert!(got.header("content-disposition").starts_with("attachment; filename=\"a_b.cast\""));
    let asked: ReadRecordingRequest = service.last("ReadRecording");
    assert_eq!((asked.uuid.as_str(), asked.session_id.as_str()), (NOBODY, "a/b"));
    // Told in the stream before a byte of it.
    let none: [ReadRecordingResponse; 0] = [];
    let refuses = Recorder::default().streams("ReadRecording", &none, Some(Failure::not_found("recording", "a")));
    assert_eq!(Fixture::of_tests(refuses.service()).get(&path).await.status, StatusCode::NOT_FOUND);
}

fn decky() -> Decky {
    let service = |name: &str, address: &str, status: &str, detail: &str| DeckyService {
        name: name.into(),
        address: address.into(),
        status: status.into(),
        detail: detail.into(),
    };
    Decky {
        id: NOBODY.into(),
        name: "decky-01".into(),
        ip: "192.0.2.11".into(),
        mac: "52:54:00:6b:3c:01".into(),
        services: vec![
            service("ssh", "192.0.2.11:22", "running", ""),
            service("http", "192.0.2.11:80", "failed", "the address is in use"),
        ],
        status: "degraded".into(),
        hostname: "web01".into(),
        runtime: "native".into(),
        created_at: when(),
        version: 3,
        ..Decky::default()
    }
}

fn decky_json() -> Value {
    json!({
        "id": NOBODY, "name": "decky-01", "ip": "192.0.2.11", "mac": "52:54:00:6b:3c:01", "services": ["ssh", "http"],
        "status": "degraded", "mutate_interval": null, "archetype": null, "nmap_os": null, "hostname": "web01",
        "runtime": "native", "ports": {"ssh": "192.0.2.11:22"},
        "service_status": {
            "http": {"status": "failed", "detail": "the address is in use"}, "ssh": {"status": "running", "detail": null}
        },
        "last_mutated": null, "created_at": WHEN
    })
}

#[tokio::test]
async fn the_fleet_is_read() {
    let page = ListDeckiesResponse { deckies: vec![decky()], total_size: 7, ..ListDeckiesResponse::default() };
    let archetypes = ListArchetypesResponse {
        archetypes: vec![Archetype { name: "printer".into(), services: vec!["snmp".into()], ..Archetype::default() }],
        services: vec!["snmp".into(), "ssh".into()],
    };
    let service = Recorder::default()
        .answers("ListDeckies", &page)
        .answers("GetDecky", &GetDeckyResponse { decky: Some(decky()) })
        .answers("ListArchetypes", &archetypes);
    let fixture = Fixture::of_tests(service.service());
    let got = fixture.get("/api/v1/deckies?limit=1&offset=2").await;
    assert_eq!((got.json(), got.header("x-total-count")), (json!([decky_json()]), "7"));
    let asked: ListDeckiesRequest = service.last("ListDeckies");
    assert_eq!((asked.page_size, asked.skip), (1, 2));
    let got = fixture.get("/api/v1/deckies/decky-01").await;
    assert_eq!(got.json(), decky_json());
    assert!(got.header("etag").starts_with("\"3-"));
    let got = fixture.get("/api/v1/archetypes").await.json();
    assert_eq!((&got["archetypes"][0]["services"], &got["services"]), (&json!(["snmp"]), &json!(["snmp", "ssh"])));
}

#[tokio::test]
async fn the_fleet_is_changed() {
    let mut faster = decky();
    faster.mutate_interval = "5d".into();
    let deployed = DeployFleetResponse { message: "Deployed 1 decky".into(), deckies: vec![decky()] };
    let service = Recorder::default()
        .answers("DeployFleet", &deployed)
        .answers("DeleteDecky", &())
        .answers("MutateDecky", &MutateDeckyResponse { decky: Some(decky()) })
        .answers("SetMutateInterval", &SetMutateIntervalResponse { decky: Some(faster) })
        .answers("PurgeLogs", &PurgeLogsResponse { logs: 12, bounties: 3 });
    let fixture = Fixture::of_tests(service.service());
    let ini = "[general]\nnet = 192.0.2.0/24\n\n[decky-01]\nservices = ssh ; and\t%(more)s\n";
    let got = fixture.post("/api/v1/deckies/deploy", &json!({"ini_content": ini}).to_string()).await;
    assert_eq!(got.status, StatusCode::OK);
    assert_eq!(got.json(), json!({"message": "Deployed 1 decky", "deckies": ["decky-01"]}));
    assert_eq!(service.last::<DeployFleetRequest>("DeployFleet").ini_content, ini);

    let mutate = fixture.signed("POST", "/api/v1/deckies/decky-01/mutate").header("if-match", "\"3-0123456789abcdef\"");
    let got = fixture.send(mutate.body(axum::body::Body::empty()).unwrap()).await;
    assert_eq!(got.json(), json!({"message": "Successfully mutated decky-01", "decky": decky_json()}));
    assert_eq!(service.header("MutateDecky", "x-aegis-if-match").as_deref(), Some("3"));

    let path = "/api/v1/deckies/decky-01/mutate-interval";
    let got = fixture.put(path, r#"{"mutate_interval": "5d"}"#).await;
    assert_eq!(got.json(), json!({"message": "Mutation interval updated", "mutate_interval": "5d"}));
    let asked: SetMutateIntervalRequest = service.last("SetMutateInterval");
    assert_eq!((asked.name.as_str(), asked.mutate_interval.as_deref()), ("decky-01", Some("5d")));
    fixture.put(path, r#"{"mutate_interval": null}"#).await;
    assert_eq!(service.last::<SetMutateIntervalRequest>("SetMutateInterval").mutate_interval, None);
    assert_eq!(fixture.put(path, "{}").await.fields(), ["mutate_interval"]);

    assert_eq!(fixture.delete("/api/v1/deckies/decky-01").await.status, StatusCode::NO_CONTENT);
    assert_eq!(service.last::<DeleteDeckyRequest>("DeleteDecky").name, "decky-01");

    let got = fixture.delete("/api/v1/config/reinit").await;
    assert_eq!(got.json(), json!({"message": "Data purged", "deleted": {"logs": 12, "bounties": 3}}));
    // It is no entity.
    let stale = fixture.signed("DELETE", "/api/v1/config/reinit").header("if-match", "*");
    let got = fixture.send(stale.body(axum::body::Body::empty()).unwrap()).await;
    assert_eq!((got.status, got.fields()), (StatusCode::UNPROCESSABLE_ENTITY, vec!["If-Match".to_owned()]));
}

#[tokio::test]
async fn what_cannot_be_deployed_is_told_by_name() {
    let ask = async |failure: Failure| {
        let service = Recorder::default().refuses("DeployFleet", failure);
        let body = r#"{"ini_content": "[decky-01]\nservices = telegraph\n"}"#;
        Fixture::of_tests(service.service()).post("/api/v1/deckies/deploy", body).await
    };
    let mut fields = aegis_error::Fields::default();
    fields.add("decky-01.services", "line 2: there is no service 'telegraph'");
    let got = ask(fields.into_failure(Code::Conflict)).await;
    assert_eq!((got.status, &got.json()["code"]), (StatusCode::CONFLICT, &json!("CONFLICT")));
    assert_eq!(got.json()["errors"][0]["field"], "decky-01.services");
    let got = ask(Failure::new(Code::Internal, "ssh of decky-01 cannot start: the address is in use")).await;
    assert_eq!(got.status, StatusCode::INTERNAL_SERVER_ERROR);
    assert_eq!(got.json()["detail"], "ssh of decky-01 cannot start: the address is in use");
}

#[tokio::test]
async fn what_does_not_validate_is_422_and_reaches_no_service() {
    let service = Recorder::default();
    let fixture = Fixture::of_tests(service.service());
    let long = "s".repeat(4001);
    let gets = [
        ("/api/v1/logs?limit=0", "limit"),
        ("/api/v1/logs?limit=1001", "limit"),
        ("/api/v1/logs?offset=-1", "offset"),
        ("/api/v1/logs?start_time=yesterday", "start_time"),
        ("/api/v1/logs?end_time=2024-02-30", "end_time"),
        ("/api/v1/logs?searhc=x", "searhc"),
        ("/api/v1/logs?search=a%00b", "search"),
        (&format!("/api/v1/logs?search={long}"), "search"),
        ("/api/v1/logs/histogram?interval_minutes=0", "interval_minutes"),
        ("/api/v1/logs/histogram?interval_minutes=4294967295", "interval_minutes"),
        ("/api/v1/logs/histogram?interval_minutes=x", "interval_minutes"),
        ("/api/v1/bounty?bounty_type=gold", "bounty_type"),
        ("/api/v1/attackers?sort_by=name", "sort_by"),
        ("/api/v1/attackers?limit=1001", "limit"),
        ("/api/v1/attackers/7", "uuid"),
        ("/api/v1/attackers/7/commands", "uuid"),
        (&format!("/api/v1/attackers/{NOBODY}/commands?limit=201"), "limit"),
        (&format!("/api/v1/attackers/{NOBODY}/sessions?limit=201"), "limit"),
        ("/api/v1/attackers/7/sessions/8/recording", "uuid"),
        ("/api/v1/deckies?limit=5001", "limit"),
        ("/api/v1/deckies/Decky", "name"),
        ("/api/v1/deckies/decky%2F..%2F01", "name"),
        ("/api/v1/stream?lastEventId=x", "lastEventId"),
        ("/api/v1/stream?start_time=x", "start_time"),
        ("/api/v1/stream?maxOutput=5", "maxOutput"),
        ("/api/v1/alerts?limit=1001", "limit"),
        ("/api/v1/approved-scanners/7", "id"),
        ("/api/v1/tagging-rules?limit=0", "limit"),
    ];
    for (path, field) in gets {
        let got = fixture.get(path).await;
        assert_eq!(got.status, StatusCode::UNPROCESSABLE_ENTITY, "{path}");
        assert_eq!(got.fields(), [field], "{path}");
    }
    let posts = [
        ("/api/v1/deckies/deploy", "{}", "ini_content"),
        ("/api/v1/deckies/deploy", r#"{"ini_content": 7}"#, "ini_content"),
        ("/api/v1/deckies/deploy", r#"{"ini_content": "", "force": true}"#, "force"),
        ("/api/v1/deckies/decky_01/mutate", "", "decky_name"),
        ("/api/v1/approved-scanners", r#"{"name": "n"}"#, "network"),
        ("/api/v1/approved-scanners", r#"{"name": "n", "network": "x", "ends_at": "soon"}"#, "ends_at"),
    ];
    for (path, body, field) in posts {
        let got = fixture.post(path, body).await;
        assert_eq!(got.status, StatusCode::UNPROCESSABLE_ENTITY, "{path} {body}");
        assert_eq!(got.fields(), [field], "{path} {body}");
    }
    assert_eq!(service.methods(), [""; 0]);
}

#[tokio::test]
async fn health_has_the_parts_of_the_deception_half() {
    const NAMES: [&str; 6] =
        ["database", "docker", "ingestion_worker", "collector_worker", "attacker_worker", "sniffer_worker"];
    let ask = async |bad: &[&str]| {
        let component = |name: &str| Component {
            name: name.into(),
            ok: !bad.contains(&name),
            detail: if bad.contains(&name) { "is slow".into() } else { String::new() },
        };
        let components = NAMES.map(component).into();
        let service = Recorder::default().answers("GetHealth", &GetHealthResponse { components });
        let fixture = Fixture::of_tests(service.service());
        fixture.send(request("GET", "/api/v1/health").body(axum::body::Body::empty()).unwrap()).await.json()
    };
    let got = ask(&["docker", "attacker_worker"]).await;
    // The fixture has a part of its own that fails.
    assert_eq!(got["status"], "unhealthy");
    assert_eq!(got["components"]["database"], json!({"status": "ok"}));
    assert_eq!(got["components"]["docker"], json!({"status": "failing", "detail": "is slow"}));
    assert_eq!(got["components"]["attacker_worker"]["status"], "failing");
    let away = Fixture::of_tests(Recorder::default().service());
    let got = away.send(request("GET", "/health").body(axum::body::Body::empty()).unwrap()).await;
    assert_eq!(got.status, StatusCode::SERVICE_UNAVAILABLE);
    for name in NAMES {
        assert_eq!(got.json()["components"][name]["detail"], "does not answer", "{name}");
    }
}
