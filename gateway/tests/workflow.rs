//! Tests and their workflow at the gateway: what of a request goes on to the service, and what is refused before.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a test fails by panicking, also in its helpers

mod common;

use aegis_error::{Code, Failure, Fields};
use aegis_proto::testing::v1::{
    AddCommentResponse, Assignment, ChainLink, ChangeTestsRequest, ChangeTestsResponse, CreateRetestResponse,
    GetRetestChainResponse, ListTestsRequest, ListTestsResponse, Test, TimelineEntry, UpdateRemediationRequest,
    UpdateRemediationResponse, UpdateTestRequest, UpdateTestResponse, change_tests_request::Change,
};
use common::{Fixture, recorder::Recorder};
use http::StatusCode;
use prost_types::Timestamp;
use serde_json::Value;

const ID: &str = "018f0000-0000-7000-8000-000000000001";
const OTHER: &str = "018f0000-0000-7000-8000-000000000002";
const ANA: &str = "018f0000-0000-7000-8000-0000000000aa";

fn path(rest: &str) -> String {
    format!("/api/v1/tests/{ID}{rest}")
}

fn test(id: &str, version: i64) -> Test {
    Test { id: id.into(), version, state: "draft".into(), ..Test::default() }
}

fn assign(body: &str) -> (Recorder, Fixture, String) {
    let changed = ChangeTestsResponse { tests: vec![test(ID, 4)], changed: 1 };
    let service = Recorder::default().answers("ChangeTests", &changed);
    let fixture = Fixture::of_tests(service.service());
    (service, fixture, body.to_owned())
}

#[tokio::test]
async fn what_does_not_validate_is_refused_by_field_before_any_call() {
    let fixture = Fixture::new();
    let queries = [
        ("assignee=ana", "assignee"),
        ("incomplete=perhaps", "incomplete"),
        ("overdue=1", "overdue"),
        ("campaign_id=7", "campaign_id"),
        ("remediation_status=done", "remediation_status"),
        ("remediation_status=Pending", "remediation_status"),
        ("limit=201", "limit"),
        ("campaign=7", "campaign"),
    ];
    for (query, field) in queries {
        let got = fixture.get(&format!("/api/v1/tests?{query}")).await;
        assert_eq!((got.status, got.fields()), (StatusCode::BAD_REQUEST, vec![field.to_owned()]), "{query}");
    }
    let bodies = [
        ("POST", path("/comments"), "{}", "text"),
        ("POST", path("/comments"), r#"{"text": 7}"#, "text"),
        ("POST", path("/comments"), r#"{"text": "a\u0000b"}"#, "text"),
        ("POST", path("/comments"), r#"{"text": "a", "by": "ana"}"#, "by"),
        ("POST", "/api/v1/tests/7/comments".into(), r#"{"text": "a"}"#, "id"),
        ("POST", "/api/v1/tests/7/retest".into(), "", "id"),
        ("PATCH", path("/remediation"), r#"{"remediation_due_date": "tomorrow"}"#, "remediation_due_date"),
        ("PATCH", path("/remediation"), r#"{"remediation_due_date": "2024-02-30T00:00:00Z"}"#, "remediation_due_date"),
        ("PATCH", path("/remediation"), r#"{"retest": null}"#, "retest"),
        ("PATCH", path(""), r#"{"red_assignee": "ana"}"#, "red_assignee"),
        ("PATCH", path(""), r#"{"red_assignee": null, "name": "n"}"#, "name"),
        ("PATCH", path(""), r#"{"blue_assignee": null, "tool_used": null}"#, "tool_used"),
        ("POST", path("/validate"), r#"{"result": "seen"}"#, "result"),
        ("POST", path("/validate"), "{}", "result"),
        ("POST", path("/reject"), r#"{"comment": "no"}"#, "comment"),
    ];
    for (method, path, body, field) in bodies {
        let got = match method {
            "POST" => fixture.post(&path, body).await,
            _ => fixture.patch(&path, body).await,
        };
        assert_eq!((got.status, got.fields()), (StatusCode::BAD_REQUEST, vec![field.to_owned()]), "{path} {body}");
    }
    for bad in ["/api/v1/tests/7/retest-chain", "/api/v1/tests/7/timeline"] {
        assert_eq!(fixture.get(bad).await.fields(), ["id"]);
    }
    assert_eq!(fixture.delete("/api/v1/tests/7").await.fields(), ["id"]);
    let long = format!(r#"{{"text": "{}"}}"#, "a".repeat(1024 * 1024));
    let got = fixture.post(&path("/comments"), &long).await;
    assert_eq!((got.status, &got.json()["code"]), (StatusCode::PAYLOAD_TOO_LARGE, &Value::from("PAYLOAD_TOO_LARGE")));
    assert!(fixture.calls.lock().unwrap().is_empty());
}

#[tokio::test]
async fn many_tests_take_exactly_one_change() {
    let fixture = Fixture::new();
    let ids = format!(r#""ids": ["{ID}"]"#);
    let bad = [
        (format!("{{{ids}}}"), vec!["body"]),
        (format!(r#"{{{ids}, "assign": {{}}, "move": "reopen"}}"#), vec!["move"]),
        (format!(r#"{{{ids}, "assign": {{}}, "move": "reopen", "delete": true}}"#), vec!["move", "delete"]),
        (format!(r#"{{{ids}, "delete": false}}"#), vec!["delete"]),
        (format!(r#"{{{ids}, "delete": null}}"#), vec!["delete"]),
        (format!(r#"{{{ids}, "assign": null}}"#), vec!["assign"]),
        (format!(r#"{{{ids}, "move": "start-execution"}}"#), vec!["move"]),
        (format!(r#"{{{ids}, "move": "validate"}}"#), vec!["move"]),
        (format!(r#"{{{ids}, "assign": {{"assignee": null}}}}"#), vec!["assign.assignee"]),
        (format!(r#"{{{ids}, "assign": {{"red_assignee": "ana"}}}}"#), vec!["assign.red_assignee"]),
        (r#"{"ids": ["7"], "delete": true}"#.into(), vec!["ids[0]"]),
        (r#"{"delete": true}"#.into(), vec!["ids"]),
    ];
    for (body, fields) in bad {
        let got = fixture.post("/api/v1/tests/bulk", &body).await;
        assert_eq!(got.status, StatusCode::BAD_REQUEST, "{body}");
        assert_eq!(got.fields(), fields, "{body}");
    }
    assert!(fixture.calls.lock().unwrap().is_empty());
}

#[tokio::test]
async fn many_tests_are_changed_by_one_call() {
    let changes = [
        (
            format!(r#""assign": {{"red_assignee": "{ANA}", "blue_assignee": null}}"#),
            Change::Assign(Assignment {
                red_assignee: Some(ANA.into()),
                clear: vec!["blue_assignee".into()],
                ..Assignment::default()
            }),
        ),
        (r#""move": "start_execution""#.into(), Change::Move("start_execution".into())),
        (r#""delete": true"#.into(), Change::Delete(true)),
    ];
    for (asked, change) in changes {
        let (service, fixture, body) = assign(&format!(r#"{{"ids": ["{OTHER}", "{ID}"], {asked}}}"#));
        let got = fixture.post("/api/v1/tests/bulk", &body).await;
        assert_eq!(got.status, StatusCode::OK, "{}", got.json());
        assert_eq!((&got.json()["changed"], &got.json()["tests"][0]["id"]), (&1.into(), &ID.into()));
        let sent: ChangeTestsRequest = service.last("ChangeTests");
        assert_eq!(sent, ChangeTestsRequest { ids: vec![OTHER.into(), ID.into()], change: Some(change) });
    }
}

#[tokio::test]
async fn one_test_is_assigned_by_its_patch_under_its_conditions() {
    let (service, fixture, body) = assign(&format!(r#"{{"blue_assignee": "{ANA}", "red_assignee": null}}"#));
    let request = fixture.signed("PATCH", &path("")).header("content-type", "application/json");
    let request = request.header("if-match", "\"3-0123456789abcdef\"").body(body.into()).unwrap();
    let got = fixture.send(request).await;
    assert_eq!(got.status, StatusCode::OK, "{}", got.json());
    assert!(got.header("etag").starts_with("\"4-"), "{}", got.header("etag"));
    assert_eq!(service.header("ChangeTests", "x-aegis-if-match").as_deref(), Some("3"));
    let sent: ChangeTestsRequest = service.last("ChangeTests");
    let assignment =
        Assignment { blue_assignee: Some(ANA.into()), clear: vec!["red_assignee".into()], ..Assignment::default() };
    assert_eq!(sent, ChangeTestsRequest { ids: vec![ID.into()], change: Some(Change::Assign(assignment)) });
    assert_eq!(service.methods(), ["ChangeTests"]);

    // A refusal of one is not told as of many.
    for (code, status) in
        [(Code::Forbidden, StatusCode::FORBIDDEN), (Code::PreconditionFailed, StatusCode::PRECONDITION_FAILED)]
    {
        let mut fields = Fields::default();
        fields.add("ids[0]", format!("{ID}: not yours: really"));
        let service = Recorder::default().refuses("ChangeTests", fields.into_failure(code).with("version", "7"));
        let fixture = Fixture::of_tests(service.service());
        let got = fixture.patch(&path(""), r#"{"red_assignee": null}"#).await;
        assert_eq!((got.status, &got.json()["detail"]), (status, &"not yours: really".into()));
        assert_eq!((got.json().get("errors"), &got.json()["context"]["version"]), (None, &"7".into()));
    }

    // Everything else is its own fields.
    let service = Recorder::default().answers("UpdateTest", &UpdateTestResponse { test: Some(test(ID, 2)) });
    let fixture = Fixture::of_tests(service.service());
    fixture.patch(&path(""), r#"{"name": "n", "platform": null}"#).await.json();
    let sent: UpdateTestRequest = service.last("UpdateTest");
    assert_eq!((sent.name.as_deref(), sent.clear), (Some("n"), vec!["platform".to_owned()]));
}

#[tokio::test]
async fn filters_go_to_the_service_as_they_were_given() {
    let answer = ListTestsResponse { total_size: 7, ..ListTestsResponse::default() };
    let service = Recorder::default().answers("ListTests", &answer);
    let fixture = Fixture::of_tests(service.service());
    let query = format!(
        "assignee={ANA}&incomplete=true&campaign_id={OTHER}&remediation_status=in_progress&overdue=false&offset=3"
    );
    let got = fixture.get(&format!("/api/v1/tests?{query}")).await;
    assert_eq!((got.header("x-total-count"), got.json()), ("7", Value::Array(Vec::new())));
    let expected = ListTestsRequest {
        page_size: 50,
        skip: 3,
        assignee: Some(ANA.into()),
        incomplete: Some(true),
        campaign_id: Some(OTHER.into()),
        remediation_status: Some("in_progress".into()),
        overdue: Some(false),
        ..ListTestsRequest::default()
    };
    assert_eq!(service.last::<ListTestsRequest>("ListTests"), expected);
}

#[tokio::test]
async fn a_due_date_is_set_cleared_or_left_and_the_retest_is_shown() {
    let due = Timestamp { seconds: 1_706_745_600, nanos: 0 };
    let remedied = Test { remediation_due_date: Some(due), ..test(ID, 5) };
    let answer = UpdateRemediationResponse {
        test: Some(remedied),
        retest: Some(Test { retest_of: Some(ID.into()), ..test(OTHER, 1) }),
    };
    let service = Recorder::default().answers("UpdateRemediation", &answer);
    let fixture = Fixture::of_tests(service.service());
    let asked = [
        (r#"{"remediation_due_date": "2024-02-01T01:00:00+01:00"}"#, Some(due), vec![]),
        (r#"{"remediation_due_date": null}"#, None, vec!["remediation_due_date"]),
        (r#"{"remediation_status": "completed"}"#, None, vec![]),
    ];
    for (body, expected, clear) in asked {
        let got = fixture.patch(&path("/remediation"), body).await;
        assert_eq!(got.status, StatusCode::OK, "{}", got.json());
        let sent: UpdateRemediationRequest = service.last("UpdateRemediation");
        assert_eq!(
            (sent.remediation_due_date, sent.clear),
            (expected, clear.iter().map(ToString::to_string).collect())
        );
        assert!(got.header("etag").starts_with("\"5-"));
        let body = got.json();
        assert_eq!((&body["id"], &body["retest"]["id"]), (&ID.into(), &OTHER.into()));
        assert_eq!(body["retest"]["retest_of"], ID);
        assert_eq!(body["remediation_due_date"], "2024-02-01T00:00:00Z");
    }
    let none = UpdateRemediationResponse { test: Some(test(ID, 1)), retest: None };
    let fixture = Fixture::of_tests(Recorder::default().answers("UpdateRemediation", &none).service());
    let got = fixture.patch(&path("/remediation"), "{}").await.json();
    assert_eq!(got.get("retest"), Some(&Value::Null));
}

#[tokio::test]
async fn comments_and_retests_are_made_and_chains_are_lists() {
    let entry = TimelineEntry {
        id: OTHER.into(),
        kind: "comment".into(),
        details_json: r#"{"text": "hm"}"#.into(),
        ..TimelineEntry::default()
    };
    let links = vec![
        ChainLink { test: Some(test(ID, 3)), regression: false },
        ChainLink { test: Some(Test { retest_of: Some(ID.into()), ..test(OTHER, 1) }), regression: true },
    ];
    let service = Recorder::default()
        .answers("AddComment", &AddCommentResponse { entry: Some(entry) })
        .answers("CreateRetest", &CreateRetestResponse { test: Some(test(OTHER, 1)) })
        .answers("GetRetestChain", &GetRetestChainResponse { links })
        .refuses("DeleteTest", Failure::new(Code::Conflict, "it is in review"));
    let fixture = Fixture::of_tests(service.service());

    let got = fixture.post(&path("/comments"), r#"{"text": "hm"}"#).await;
    assert_eq!((got.status, got.header("location")), (StatusCode::CREATED, path("/timeline").as_str()));
    assert_eq!(got.json()["details"]["text"], "hm");

    let got = fixture.post(&path("/retest"), "").await;
    assert_eq!((got.status, got.header("location")), (StatusCode::CREATED, format!("/api/v1/tests/{OTHER}").as_str()));
    assert!(got.header("etag").starts_with("\"1-"));

    let got = fixture.get(&path("/retest-chain")).await;
    assert_eq!((got.status, got.header("x-total-count")), (StatusCode::OK, "2"));
    let regressions: Vec<_> = got.json().as_array().unwrap().iter().map(|test| test["regression"].clone()).collect();
    assert_eq!(regressions, [false, true]);
    assert_eq!(got.json()[0]["id"], ID);

    assert_eq!(fixture.delete(&path("")).await.status, StatusCode::CONFLICT);
    // Not a change of one entity.
    let request = fixture.signed("POST", &path("/retest")).header("if-match", "*");
    let got = fixture.send(request.body(axum::body::Body::empty()).unwrap()).await;
    assert_eq!(got.fields(), ["If-Match"]);
}
