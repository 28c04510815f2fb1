//! Campaigns at the gateway: what of a request goes on to the service, and what is refused before.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a test fails by panicking, also in its helpers

mod common;

use aegis_error::{Code, Failure};
use aegis_proto::testing::v1::{
    AddCampaignTestsRequest, AddCampaignTestsResponse, Campaign, CampaignPlace, CampaignRun, CampaignTest,
    CreateCampaignRequest, CreateCampaignResponse, DeleteCampaignResponse, GenerateCampaignRequest,
    GenerateCampaignResponse, GetCampaignResponse, ListCampaignRunsResponse, ListCampaignTestsRequest,
    ListCampaignTestsResponse, ListCampaignsRequest, ListCampaignsResponse, OrderCampaignTestsRequest,
    OrderCampaignTestsResponse, RemoveCampaignTestRequest, RemoveCampaignTestResponse, RunCampaignResponse,
    SetCampaignScheduleRequest, SetCampaignScheduleResponse, StateCounts, UpdateCampaignRequest,
    UpdateCampaignResponse,
};
use axum::body::Body;
use common::{Fixture, Got, recorder::Recorder};
use http::StatusCode;
use serde_json::{Value, json};

const ID: &str = "018f0000-0000-7000-8000-00000000000c";
const TEST: &str = "018f0000-0000-7000-8000-000000000001";
const OTHER: &str = "018f0000-0000-7000-8000-000000000002";

fn path(rest: &str) -> String {
    format!("/api/v1/campaigns/{ID}{rest}")
}

fn campaign() -> Campaign {
    Campaign {
        id: ID.into(),
        name: "n".into(),
        r#type: "kill_chain".into(),
        status: "active".into(),
        version: 3,
        test_count: 2,
        progress: Some(StateCounts { draft: 2, ..StateCounts::default() }),
        ..Campaign::default()
    }
}

async fn ask(fixture: &Fixture, method: &str, path: &str, body: &str) -> Got {
    let request = fixture.signed(method, path).header("content-type", "application/json");
    fixture.send(request.body(Body::from(body.to_owned())).unwrap()).await
}

#[tokio::test]
async fn what_does_not_validate_is_refused_by_field_before_any_call() {
    let fixture = Fixture::new();
    let places = |place: &str| format!(r#"{{"tests": [{place}]}}"#);
    let bad = [
        ("GET", "/api/v1/campaigns?status=Active".into(), String::new(), vec!["status"]),
        ("GET", "/api/v1/campaigns?type=apt".into(), String::new(), vec!["type"]),
        ("GET", "/api/v1/campaigns?kind=custom".into(), String::new(), vec!["kind"]),
        ("GET", "/api/v1/campaigns?limit=5001".into(), String::new(), vec!["limit"]),
        ("GET", "/api/v1/campaigns?search=a%00b".into(), String::new(), vec!["search"]),
        ("GET", "/api/v1/campaigns/7".into(), String::new(), vec!["id"]),
        ("GET", path("?limit=2001"), String::new(), vec!["limit"]),
        ("GET", path("/history?limit=1001"), String::new(), vec!["limit"]),
        ("GET", path("/history?offset=-1"), String::new(), vec!["offset"]),
        ("POST", "/api/v1/campaigns".into(), "{}".into(), vec!["name"]),
        ("POST", "/api/v1/campaigns".into(), r#"{"name": "n", "type": "red"}"#.into(), vec!["type"]),
        ("POST", "/api/v1/campaigns".into(), r#"{"name": "n", "status": "active"}"#.into(), vec!["status"]),
        (
            "POST",
            "/api/v1/campaigns".into(),
            r#"{"name": "n", "threat_actor_id": "G7"}"#.into(),
            vec!["threat_actor_id"],
        ),
        ("PATCH", path(""), r#"{"name": null}"#.into(), vec!["name"]),
        ("PATCH", path(""), r#"{"status": null}"#.into(), vec!["status"]),
        ("PATCH", path(""), r#"{"status": "running"}"#.into(), vec!["status"]),
        ("PATCH", path(""), r#"{"schedule": "weekly"}"#.into(), vec!["schedule"]),
        ("POST", path("/tests"), "{}".into(), vec!["test_id"]),
        ("POST", path("/tests"), r#"{"test_id": "7"}"#.into(), vec!["test_id"]),
        ("POST", path("/tests"), format!(r#"{{"test_id": "{TEST}", "tests": []}}"#), vec!["test_id"]),
        ("POST", path("/tests"), r#"{"phase": "x", "tests": []}"#.into(), vec!["phase"]),
        ("POST", path("/tests"), format!(r#"{{"test_id": "{TEST}", "position": 0}}"#), vec!["position"]),
        ("POST", path("/tests"), format!(r#"{{"test_id": "{TEST}", "position": 2001}}"#), vec!["position"]),
        ("POST", path("/tests"), places(r#"{"test_id": "x"}"#), vec!["tests[0].test_id"]),
        (
            "POST",
            path("/tests"),
            places(&format!(r#"{{"test_id": "{TEST}", "position": 1}}"#)),
            vec!["tests[0].position"],
        ),
        ("PUT", path("/tests"), "{}".into(), vec!["tests"]),
        ("PUT", path("/tests"), places(r#"{"phase": "x"}"#), vec!["tests[0].test_id"]),
        ("DELETE", path("/tests/7"), String::new(), vec!["test_id"]),
        ("DELETE", "/api/v1/campaigns/6/tests/7".into(), String::new(), vec!["id", "test_id"]),
        ("PATCH", path("/schedule"), r#"{"schedule": ""}"#.into(), vec!["schedule"]),
        ("PATCH", path("/schedule"), r#"{"time_zone": " "}"#.into(), vec!["time_zone"]),
        ("PATCH", path("/schedule"), r#"{"enabled": null}"#.into(), vec!["enabled"]),
        ("PATCH", path("/schedule"), r#"{"schedule": null, "enabled": true}"#.into(), vec!["enabled"]),
        ("PATCH", path("/schedule"), r#"{"schedule": null, "time_zone": "UTC"}"#.into(), vec!["time_zone"]),
        ("PATCH", path("/schedule"), r#"{"cron": "* * * * *"}"#.into(), vec!["cron"]),
        ("GET", path("/history/7/tests"), String::new(), vec!["run_id"]),
        ("POST", path("/generate"), r#"{"per_technique": 0}"#.into(), vec!["per_technique"]),
        ("POST", path("/generate"), r#"{"per_technique": 21, "limit": 2001}"#.into(), vec!["per_technique", "limit"]),
        ("POST", path("/generate"), r#"{"actor": "G0007"}"#.into(), vec!["actor"]),
        ("POST", "/api/v1/campaigns/7/run".into(), String::new(), vec!["id"]),
    ];
    for (method, path, body, fields) in bad {
        let got = ask(&fixture, method, &path, &body).await;
        assert_eq!(got.status, StatusCode::BAD_REQUEST, "{method} {path} {body}");
        assert_eq!(got.fields(), fields, "{method} {path} {body}");
    }
    let long = format!(r#"{{"name": "n", "description": "{}"}}"#, "a".repeat(1024 * 1024));
    for (method, path) in [("POST", "/api/v1/campaigns".to_owned()), ("PATCH", path(""))] {
        assert_eq!(ask(&fixture, method, &path, &long).await.status, StatusCode::PAYLOAD_TOO_LARGE);
    }
    assert!(fixture.calls.lock().unwrap().is_empty());
}

#[tokio::test]
async fn lists_and_details_say_what_was_asked_for() {
    let tests = vec![CampaignTest {
        test_id: TEST.into(),
        position: 4,
        phase: Some("execution".into()),
        state: "draft".into(),
        ..CampaignTest::default()
    }];
    let service = Recorder::default()
        .answers(
            "ListCampaigns",
            &ListCampaignsResponse { campaigns: vec![campaign()], total_size: 9, ..ListCampaignsResponse::default() },
        )
        .answers("GetCampaign", &GetCampaignResponse { campaign: Some(campaign()) })
        .answers(
            "ListCampaignTests",
            &ListCampaignTestsResponse { tests, total_size: 2, ..ListCampaignTestsResponse::default() },
        );
    let fixture = Fixture::of_tests(service.service());
    let got = fixture.get("/api/v1/campaigns?status=archived&type=apt_emulation&search=bear&limit=1&offset=2").await;
    assert_eq!((got.status, got.header("x-total-count")), (StatusCode::OK, "9"));
    let row = &got.json()[0];
    assert_eq!(
        (&row["type"], &row["progress"]["draft"], &row["schedule"]),
        (&"kill_chain".into(), &2.into(), &Value::Null)
    );
    assert!(row.get("tests").is_none());
    let sent: ListCampaignsRequest = service.last("ListCampaigns");
    let expected = ListCampaignsRequest {
        page_size: 1,
        skip: 2,
        status: Some("archived".into()),
        r#type: Some("apt_emulation".into()),
        search: Some("bear".into()),
        ..ListCampaignsRequest::default()
    };
    assert_eq!(sent, expected);

    let got = fixture.get(&path("")).await;
    assert!(got.header("etag").starts_with("\"3-"), "{}", got.json());
    assert_eq!(got.json()["tests"][0]["test_id"], TEST);
    assert_eq!((&got.json()["tests"][0]["position"], &got.json()["test_count"]), (&4.into(), &2.into()));
    let sent: ListCampaignTestsRequest = service.last("ListCampaignTests");
    assert_eq!((sent.page_size, sent.skip), (1000, 0));
    fixture.get(&path("?limit=2000&offset=5")).await;
    let sent: ListCampaignTestsRequest = service.last("ListCampaignTests");
    assert_eq!((sent.page_size, sent.skip), (2000, 5));
}

#[tokio::test]
async fn changes_reach_the_service_with_absent_null_and_values_apart() {
    let service = Recorder::default()
        .answers("CreateCampaign", &CreateCampaignResponse { campaign: Some(campaign()) })
        .answers("UpdateCampaign", &UpdateCampaignResponse { campaign: Some(campaign()) })
        .answers("DeleteCampaign", &DeleteCampaignResponse {});
    let fixture = Fixture::of_tests(service.service());
    let got = fixture.post("/api/v1/campaigns", r#"{"name": "n", "threat_actor_id": null}"#).await;
    assert_eq!((got.status, got.header("location")), (StatusCode::CREATED, path("").as_str()));
    assert!(got.header("etag").starts_with("\"3-"));
    let sent: CreateCampaignRequest = service.last("CreateCampaign");
    assert_eq!(sent, CreateCampaignRequest { name: "n".into(), ..CreateCampaignRequest::default() });

    let body = r#"{"status": "archived", "type": "custom", "description": null, "threat_actor_id": null}"#;
    let got = fixture.patch(&path(""), body).await;
    assert_eq!(got.status, StatusCode::OK, "{}", got.json());
    let sent: UpdateCampaignRequest = service.last("UpdateCampaign");
    assert_eq!((sent.name, sent.status.as_deref(), sent.r#type.as_deref()), (None, Some("archived"), Some("custom")));
    assert_eq!(sent.clear, ["threat_actor_id", "description"]);

    let request = fixture.signed("DELETE", &path("")).header("if-match", "\"3-0123456789abcdef\"");
    let got = fixture.send(request.body(Body::empty()).unwrap()).await;
    assert_eq!((got.status, got.body.len()), (StatusCode::NO_CONTENT, 0));
    assert_eq!(service.header("DeleteCampaign", "x-aegis-if-match").as_deref(), Some("3"));
}

#[tokio::test]
async fn tests_come_in_go_out_and_are_put_in_order() {
    let service = Recorder::default()
        .answers("AddCampaignTests", &AddCampaignTestsResponse { campaign: Some(campaign()) })
        .answers("OrderCampaignTests", &OrderCampaignTestsResponse { campaign: Some(campaign()) })
        .answers("RemoveCampaignTest", &RemoveCampaignTestResponse {});
    let fixture = Fixture::of_tests(service.service());
    let place = |id: &str, phase: Option<&str>| CampaignPlace { test_id: id.into(), phase: phase.map(Into::into) };
    let two = json!({"tests": [{"test_id": TEST, "phase": "impact"}, {"test_id": OTHER}]});
    let adds = [
        (json!({"test_id": TEST}), vec![place(TEST, None)], 0),
        (json!({"test_id": TEST, "phase": "impact", "position": 1}), vec![place(TEST, Some("impact"))], 1),
        (two.clone(), vec![place(TEST, Some("impact")), place(OTHER, None)], 0),
    ];
    for (body, tests, position) in adds {
        let got = fixture.post(&path("/tests"), &body.to_string()).await;
        assert_eq!((got.status, got.header("location")), (StatusCode::CREATED, path("").as_str()), "{body}");
        let sent: AddCampaignTestsRequest = service.last("AddCampaignTests");
        assert_eq!(sent, AddCampaignTestsRequest { campaign_id: ID.into(), tests, position });
    }
    let got = fixture.put(&path("/tests"), &two.to_string()).await;
    assert_eq!((got.status, &got.json()["test_count"]), (StatusCode::OK, &2.into()));
    let sent: OrderCampaignTestsRequest = service.last("OrderCampaignTests");
    assert_eq!(sent.tests, [place(TEST, Some("impact")), place(OTHER, None)]);
    assert_eq!(fixture.delete(&path(&format!("/tests/{TEST}"))).await.status, StatusCode::NO_CONTENT);
    let sent: RemoveCampaignTestRequest = service.last("RemoveCampaignTest");
    assert_eq!(sent, RemoveCampaignTestRequest { campaign_id: ID.into(), test_id: TEST.into() });
}

#[tokio::test]
async fn what_a_schedule_leaves_out_stays_as_it_is() {
    let monthly = Campaign {
        schedule: Some("monthly".into()),
        time_zone: Some("Europe/Berlin".into()),
        schedule_enabled: false,
        ..campaign()
    };
    let set = |schedule: &str, time_zone: &str, enabled: bool| SetCampaignScheduleRequest {
        id: ID.into(),
        schedule: schedule.into(),
        time_zone: time_zone.into(),
        enabled,
    };
    let cron = "30 6 * * 1";
    let cases = [
        // Without a schedule so far.
        (campaign(), json!({"schedule": "weekly"}), set("weekly", "", true)),
        (campaign(), json!({"schedule": "weekly", "enabled": false}), set("weekly", "", false)),
        // With one that is paused.
        (monthly.clone(), json!({"schedule": cron}), set(cron, "Europe/Berlin", false)),
        (monthly.clone(), json!({"enabled": true}), set("monthly", "Europe/Berlin", true)),
        (monthly.clone(), json!({"time_zone": null}), set("monthly", "", false)),
        (monthly.clone(), json!({"schedule": null}), set("", "Europe/Berlin", false)),
        (monthly.clone(), json!({}), set("monthly", "Europe/Berlin", false)),
    ];
    for (now, body, expected) in cases {
        let service = Recorder::default()
            .answers("GetCampaign", &GetCampaignResponse { campaign: Some(now) })
            .answers("SetCampaignSchedule", &SetCampaignScheduleResponse { campaign: Some(campaign()) });
        let fixture = Fixture::of_tests(service.service());
        let got = fixture.patch(&path("/schedule"), &body.to_string()).await;
        assert_eq!(got.status, StatusCode::OK, "{body} {}", got.json());
        assert_eq!(service.last::<SetCampaignScheduleRequest>("SetCampaignSchedule"), expected, "{body}");
        // What was read must still be there.
        assert_eq!(service.header("SetCampaignSchedule", "x-aegis-if-match").as_deref(), Some("3"));
    }
    let service = Recorder::default()
        .answers("GetCampaign", &GetCampaignResponse { campaign: Some(campaign()) })
        .answers("SetCampaignSchedule", &SetCampaignScheduleResponse { campaign: Some(campaign()) });
    let fixture = Fixture::of_tests(service.service());
    let orphans = json!({"enabled": true, "time_zone": "Asia/Tokyo"});
    let got = fixture.patch(&path("/schedule"), &orphans.to_string()).await;
    assert_eq!(got.fields(), ["enabled", "time_zone"]);
    // A whole one needs nothing of what is there.
    let whole = json!({"schedule": cron, "time_zone": "UTC", "enabled": true});
    let calls = service.methods().len();
    fixture.patch(&path("/schedule"), &whole.to_string()).await;
    assert_eq!(service.methods()[calls..], ["SetCampaignSchedule"]);
    assert_eq!(service.header("SetCampaignSchedule", "x-aegis-if-match"), None);
}

#[tokio::test]
async fn a_race_for_the_schedule_is_a_conflict_unless_the_client_named_a_version() {
    let stale = Failure::new(Code::PreconditionFailed, "it is at version 4 now");
    let service = Recorder::default()
        .answers("GetCampaign", &GetCampaignResponse { campaign: Some(campaign()) })
        .refuses("SetCampaignSchedule", stale);
    let fixture = Fixture::of_tests(service.service());
    let body = r#"{"schedule": "weekly"}"#;
    assert_eq!(fixture.patch(&path("/schedule"), body).await.status, StatusCode::CONFLICT);
    let request = fixture.signed("PATCH", &path("/schedule")).header("content-type", "application/json");
    let request = request.header("if-match", "\"2-0123456789abcdef\"");
    let got = fixture.send(request.body(Body::from(body)).unwrap()).await;
    assert_eq!(got.status, StatusCode::PRECONDITION_FAILED);
    assert_eq!(service.header("SetCampaignSchedule", "x-aegis-if-match").as_deref(), Some("2"));
}

#[tokio::test]
async fn campaigns_are_filled_and_run_and_have_a_history() {
    let run = CampaignRun {
        id: OTHER.into(),
        campaign_id: ID.into(),
        trigger: "scheduled".into(),
        status: "created".into(),
        test_count: 2,
        detected: 1,
        deleted: 1,
        ..CampaignRun::default()
    };
    let service = Recorder::default()
        .answers(
            "GenerateCampaign",
            &GenerateCampaignResponse {
                campaign: Some(campaign()),
                created: 2,
                already_there: 1,
                without_template: vec!["T1583".into()],
            },
        )
        .answers("RunCampaign", &RunCampaignResponse { run: Some(run.clone()) })
        .answers("ListCampaignTests", &ListCampaignTestsResponse::default())
        .answers(
            "ListCampaignRuns",
            &ListCampaignRunsResponse { runs: vec![run], total_size: 8, ..ListCampaignRunsResponse::default() },
        );
    let fixture = Fixture::of_tests(service.service());
    for (body, per_technique, limit) in [("", 0, 0), (r#"{"per_technique": 3, "limit": 7}"#, 3, 7)] {
        let got = fixture.post(&path("/generate"), body).await;
        assert_eq!(got.status, StatusCode::OK, "{}", got.json());
        assert_eq!((&got.json()["created"], &got.json()["campaign"]["id"]), (&2.into(), &ID.into()));
        assert_eq!(got.json()["without_template"], json!(["T1583"]));
        let sent: GenerateCampaignRequest = service.last("GenerateCampaign");
        assert_eq!((sent.per_technique, sent.limit), (per_technique, limit));
    }
    let got = fixture.post(&path("/run"), "").await;
    assert_eq!((got.status, got.header("location")), (StatusCode::CREATED, path("/history").as_str()));
    assert_eq!((&got.json()["id"], &got.json()["started_by"]), (&OTHER.into(), &Value::Null));
    let got = fixture.get(&path("/history")).await;
    assert_eq!((got.status, got.header("x-total-count")), (StatusCode::OK, "8"));
    assert_eq!((&got.json()[0]["detected"], &got.json()[0]["progress"]["draft"]), (&1.into(), &0.into()));
    let got = fixture.get(&path(&format!("/history/{OTHER}/tests?limit=3"))).await;
    assert_eq!((got.status, got.header("x-total-count")), (StatusCode::OK, "0"));
    let sent: ListCampaignTestsRequest = service.last("ListCampaignTests");
    assert_eq!((sent.run_id.as_deref(), sent.page_size), (Some(OTHER), 3));
}
