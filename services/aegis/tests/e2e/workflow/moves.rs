//! Moves by the wrong role, in the wrong state, at the same moment, on what is gone; many at once; retests.

use std::time::Duration;

use futures::future::join_all;
use reqwest::Method;
use serde_json::{Value, json};

use super::{MOVED, RETESTED, Team};
use crate::{
    conventions::{post, version},
    harness::{Api, eventually, send},
};

const STATES: [&str; 6] = ["draft", "red_executing", "blue_evaluating", "in_review", "validated", "rejected"];

/// Where each state leads.
fn next(state: &str) -> &'static [&'static str] {
    match state {
        "draft" => &["red_executing"],
        "red_executing" => &["blue_evaluating"],
        "blue_evaluating" => &["in_review"],
        "in_review" => &["validated", "rejected"],
        "rejected" => &["draft"],
        _ => &[],
    }
}

/// Every move in every state that it does not fit, and by everyone who may not make it where it does.
pub async fn refused(team: &Team) {
    let red_vote = json!({"red_validation_status": "approved"});
    let red_no = json!({"red_validation_status": "rejected"});
    let blue_vote = json!({"blue_validation_status": "approved"});
    let validate = json!({"result": "detected"});
    // The move, its body, where it leads, where it is right, who may not.
    type Row<'a> = (&'static str, Option<&'a Value>, &'static str, &'static str, Vec<&'a Api>);
    let rows: Vec<Row> = vec![
        ("start-execution", None, "red_executing", "draft", vec![&team.blue, &team.blue_lead, &team.viewer]),
        ("submit-red", None, "blue_evaluating", "red_executing", vec![&team.blue, &team.blue_lead, &team.viewer]),
        ("submit-blue", None, "in_review", "blue_evaluating", vec![&team.red, &team.red_lead, &team.viewer]),
        (
            "validate-red",
            Some(&red_vote),
            "validated",
            "in_review",
            vec![&team.red, &team.blue, &team.blue_lead, &team.viewer],
        ),
        ("validate-red", Some(&red_no), "rejected", "in_review", vec![&team.blue_lead]),
        (
            "validate-blue",
            Some(&blue_vote),
            "validated",
            "in_review",
            vec![&team.red, &team.blue, &team.red_lead, &team.viewer],
        ),
        ("validate", Some(&validate), "validated", "in_review", vec![&team.red, &team.blue, &team.viewer]),
        ("reject", None, "rejected", "in_review", vec![&team.red, &team.blue, &team.viewer]),
        ("reopen", None, "draft", "rejected", vec![&team.blue, &team.viewer]),
    ];
    for state in STATES {
        let test = team.test_in(MOVED, state).await;
        let path = format!("/tests/{test}");
        let before = version(&team.admin.get(&path).await);
        for (name, body, target, right, others) in &rows {
            let path = format!("{path}/{name}");
            if *right == state {
                for who in others {
                    send(post(who, &path, *body)).await.error(403, "FORBIDDEN");
                }
                continue;
            }
            let names: Vec<String> = next(state).iter().map(|name| format!("'{name}'")).collect();
            let message =
                format!("Cannot transition from '{state}' to '{target}'. Valid transitions: [{}]", names.join(", "));
            let answer = send(post(&team.admin, &path, *body)).await;
            assert_eq!(
                answer.json(400),
                json!({"detail": {
                    "message": message,
                    "code": "INVALID_TRANSITION",
                    "current_state": state,
                    "target_state": target,
                    "valid_transitions": next(state),
                }}),
                "{name} in {state}"
            );
        }
        assert_eq!(version(&team.admin.get(&path).await), before, "{state}");
    }
    // Nobody votes on what they ran; whatever the state, the fields of the other side are not theirs.
    let test = team.draft(MOVED).await;
    let path = |name: &str| format!("/tests/{test}/{name}");
    team.red_lead.act(&path("start-execution")).await.json(200);
    team.red.act(&path("submit-red")).await.json(200);
    team.red.patch(&path("blue"), &json!({"blue_summary": "x"})).await.error(403, "FORBIDDEN");
    team.blue.act(&path("submit-blue")).await.json(200);
    team.red_lead.post(&path("validate-red"), &red_vote).await.error(403, "FORBIDDEN");
    team.blue.patch(&path("blue"), &json!({"blue_summary": "late"})).await.error(400, "INVALID_STATE");
    team.red.patch(&format!("/tests/{test}"), &json!({"name": "late"})).await.error(400, "INVALID_STATE");
    team.other_red_lead.post(&path("validate-red"), &red_vote).await.json(200);
}

/// Many votes at the same moment end the review once; the one that comes after the end is told so.
pub async fn two_leads_at_once(team: &Team) {
    for (approve, end) in [(true, "validated"), (false, "rejected")] {
        let test = team.test_in(MOVED, "in_review").await;
        let word = if approve { "approved" } else { "rejected" };
        let path = |name: &str| format!("/tests/{test}/{name}");
        let (red, blue) = (json!({"red_validation_status": word}), json!({"blue_validation_status": word}));
        let votes = (0..4).flat_map(|_| {
            [
                post(&team.red_lead, &path("validate-red"), Some(&red)),
                post(&team.other_red_lead, &path("validate-red"), Some(&red)),
                post(&team.blue_lead, &path("validate-blue"), Some(&blue)),
            ]
        });
        let answers = join_all(votes.map(send)).await;
        let mut accepted = 0;
        for answer in &answers {
            assert!(matches!(answer.status, 200 | 400 | 409), "{answer}");
            accepted += usize::from(answer.status == 200);
        }
        let shown = team.admin.get(&format!("/tests/{test}")).await;
        assert_eq!(shown.json(200)["state"], end, "{shown}");
        let timeline = team.admin.get(&path("timeline")).await.json(200);
        let count = |kind: &str| timeline.as_array().unwrap().iter().filter(|entry| entry["kind"] == kind).count();
        assert_eq!((count("transition"), count("vote")), (4, accepted), "{timeline}");
        let late = team.red_lead.post(&path("validate-red"), &red).await.json(400);
        assert_eq!(late["detail"]["code"], "INVALID_TRANSITION", "{late}");
        assert_eq!(late["detail"]["current_state"], end, "{late}");
        assert_eq!(version(&team.admin.get(&format!("/tests/{test}")).await), version(&shown));
    }
}

/// A test that was deleted is gone for everything.
pub async fn gone(team: &Team) {
    let test = team.draft(MOVED).await;
    let path = format!("/tests/{test}");
    send(team.blue.request(Method::DELETE, &path)).await.error(403, "FORBIDDEN");
    send(team.red_lead.request(Method::DELETE, &path)).await.error(403, "FORBIDDEN");
    team.red.act(&format!("{path}/start-execution")).await.json(200);
    send(team.red.request(Method::DELETE, &path)).await.error(400, "INVALID_STATE");
    assert_eq!(send(team.admin.request(Method::DELETE, &path)).await.status, 204);
    let moves = ["start-execution", "submit-red", "submit-blue", "reopen", "reject", "retest"];
    for name in moves {
        team.admin.act(&format!("{path}/{name}")).await.error(404, "NOT_FOUND");
    }
    let bodies = [
        ("validate", json!({"result": "detected"})),
        ("validate-red", json!({"red_validation_status": "approved"})),
        ("validate-blue", json!({"blue_validation_status": "approved"})),
        ("comments", json!({"text": "Anybody there?"})),
    ];
    for (name, body) in bodies {
        team.admin.post(&format!("{path}/{name}"), &body).await.error(404, "NOT_FOUND");
    }
    for name in ["", "/timeline", "/retest-chain", "/evidence", "/evidence/manifest"] {
        team.admin.get(&format!("{path}{name}")).await.error(404, "NOT_FOUND");
    }
    for (name, body) in [("", json!({"name": "x"})), ("/red", json!({"red_summary": "x"}))] {
        team.admin.patch(&format!("{path}{name}"), &body).await.error(404, "NOT_FOUND");
    }
    team.admin.upload(&format!("{path}/evidence"), "a.txt", b"late".to_vec(), &[]).await.error(404, "NOT_FOUND");
    send(team.admin.request(Method::DELETE, &path)).await.error(404, "NOT_FOUND");
    // Its creator may delete what was rejected.
    let test = team.test_in(MOVED, "rejected").await;
    assert_eq!(send(team.red.request(Method::DELETE, &format!("/tests/{test}"))).await.status, 204);
    eventually("both deletions are in the audit trail", Duration::from_secs(15), || async {
        let rows = team.admin.all("/audit-logs?action=delete_test").await;
        let by = |who: &str, what: &str| {
            rows.iter()
                .filter(|row| row["username"] == who && row["entity_id"] == what && row["success"] == true)
                .count()
        };
        match by("flow-red", &test) {
            1 => Ok(()),
            other => Err(format!("{other} records")),
        }
    })
    .await;
}

/// A megabyte is no summary, and changes nothing.
pub async fn long_texts(team: &Team) {
    let long = "ü".repeat(512 * 1024);
    let test = team.test_in(MOVED, "draft").await;
    let path = format!("/tests/{test}");
    let before = version(&team.red.get(&path).await);
    let fields = [
        ("", "name"),
        ("", "description"),
        ("", "procedure_text"),
        ("/red", "red_summary"),
        ("/remediation", "remediation_steps"),
    ];
    for (rest, field) in fields {
        let who = if rest == "/remediation" { &team.blue } else { &team.red };
        let answer = who.patch(&format!("{path}{rest}"), &json!({ field: long })).await;
        too_long(&answer, field);
    }
    too_long(&team.red.post(&format!("{path}/comments"), &json!({"text": long})).await, "text");
    assert_eq!(version(&team.red.get(&path).await), before);
    assert_eq!(team.red.total(&format!("{path}/timeline")).await, 1);
    for text in ["", "   "] {
        let answer = team.red.post(&format!("{path}/comments"), &json!({"text": text})).await;
        assert_eq!(answer.error(400, "VALIDATION_ERROR")["errors"][0]["field"], "text", "{answer}");
    }
    let comment = team.blue.post(&format!("{path}/comments"), &json!({"text": "<b>Seen</b> ✓"})).await.json(201);
    assert_eq!((&comment["kind"], &comment["details"]["text"]), (&json!("comment"), &json!("<b>Seen</b> ✓")));
    team.viewer.post(&format!("{path}/comments"), &json!({"text": "x"})).await.error(403, "FORBIDDEN");
}

fn too_long(answer: &crate::harness::Answer, field: &str) {
    match answer.status {
        413 => drop(answer.error(413, "PAYLOAD_TOO_LARGE")),
        _ => assert_eq!(answer.error(400, "VALIDATION_ERROR")["errors"][0]["field"], field, "{answer}"),
    }
}

/// Many at once: all of them or none.
pub async fn all_or_nothing(team: &Team) {
    let mut tests = Vec::new();
    for _ in 0..5 {
        tests.push(team.draft(MOVED).await);
    }
    let done = team.test_in(MOVED, "validated").await;
    let with = |more: &str| tests.iter().cloned().chain([more.to_owned()]).collect::<Vec<_>>();
    let nobody = uuid::Uuid::now_v7().to_string();
    let start = |ids: Vec<String>| json!({"ids": ids, "move": "start_execution"});
    let bulk = "/tests/bulk";

    let refused = team.red.post(bulk, &start(with(&done))).await;
    assert_eq!(refused.status, 400, "{refused}");
    assert!(refused.text().contains("INVALID_TRANSITION") && refused.text().contains(&done), "{refused}");
    team.red.post(bulk, &start(with(&nobody))).await.error(404, "NOT_FOUND");
    team.red.post(bulk, &start(with(&tests[0]))).await.error(400, "VALIDATION_ERROR");
    team.red.post(bulk, &start(Vec::new())).await.error(400, "VALIDATION_ERROR");
    let many = (0..501).map(|_| uuid::Uuid::now_v7().to_string()).collect();
    team.red.post(bulk, &start(many)).await.error(400, "VALIDATION_ERROR");
    team.blue.post(bulk, &start(tests.clone())).await.error(403, "FORBIDDEN");
    team.red.post(bulk, &json!({"ids": tests})).await.error(400, "VALIDATION_ERROR");
    let both = json!({"ids": tests, "move": "start_execution", "delete": true});
    team.red.post(bulk, &both).await.error(400, "VALIDATION_ERROR");
    assert_eq!(team.red.post(bulk, &json!({"ids": with(&done), "delete": true})).await.status, 400);
    let blue = team.blue.get("/auth/me").await.json(200)["id"].clone();
    let assign = |ids: Vec<String>| json!({"ids": ids, "assign": {"blue_assignee": blue}});
    team.blue.post(bulk, &assign(tests.clone())).await.error(403, "FORBIDDEN");
    team.red_lead.post(bulk, &assign(with(&nobody))).await.error(404, "NOT_FOUND");
    let absent = json!({"ids": tests, "assign": {"red_assignee": nobody}});
    let refused = team.red_lead.post(bulk, &absent).await.error(400, "VALIDATION_ERROR");
    assert!(refused["detail"].as_str().unwrap().contains("red_assignee"), "{refused}");
    for test in &tests {
        let shown = team.admin.get(&format!("/tests/{test}")).await;
        assert_eq!((version(&shown), &shown.json(200)["state"]), (1, &json!("draft")), "{shown}");
    }

    let assigned = team.red_lead.post(bulk, &assign(tests.clone())).await.json(200);
    assert_eq!(assigned["changed"], 5, "{assigned}");
    let moved = team.red.post(bulk, &start(tests.clone())).await.json(200);
    assert_eq!(moved["changed"], 5, "{moved}");
    for (test, shown) in tests.iter().zip(moved["tests"].as_array().unwrap()) {
        assert_eq!(
            (&shown["id"], &shown["state"], &shown["blue_assignee"]),
            (&json!(test), &json!("red_executing"), &blue)
        );
        let timeline = team.red.get(&format!("/tests/{test}/timeline")).await.json(200);
        assert_eq!(timeline.as_array().unwrap().len(), 3, "{timeline}");
    }
    // What its creator may not delete any more, an administrator may.
    assert_eq!(team.red.post(bulk, &json!({"ids": tests, "delete": true})).await.status, 400);
    let gone = team.admin.post(bulk, &json!({"ids": tests, "delete": true})).await.json(200);
    assert_eq!((&gone["changed"], &gone["tests"]), (&json!(5), &json!([])), "{gone}");
    team.admin.get(&format!("/tests/{}", tests[4])).await.error(404, "NOT_FOUND");
}

/// A remediation with its due date leads to a retest; a worse one is told to the leads; five are enough.
pub async fn tested_again(team: &Team) {
    let first = team.test_in(RETESTED, "in_review").await;
    let path = |test: &str, name: &str| format!("/tests/{test}/{name}");
    team.admin.post(&path(&first, "validate"), &json!({"result": "partially_detected"})).await.json(200);
    let me = team.blue.get("/auth/me").await.json(200)["id"].clone();
    let body = json!({
        "remediation_steps": "Turn it on", "remediation_status": "in_progress", "remediation_assignee": me,
        "remediation_due_date": "2031-05-01T00:00:00Z"
    });
    let planned = team.red_lead.patch(&path(&first, "remediation"), &body).await.json(200);
    assert_eq!((&planned["remediation_due_date"], &planned["retest"]), (&json!("2031-05-01T00:00:00Z"), &Value::Null));
    let bad = json!({"remediation_due_date": "soon"});
    team.red_lead.patch(&path(&first, "remediation"), &bad).await.error(400, "VALIDATION_ERROR");

    let completed = json!({"remediation_status": "completed"});
    let answer = team.blue.patch(&path(&first, "remediation"), &completed).await.json(200);
    let second = answer["retest"]["id"].as_str().unwrap_or_else(|| panic!("no retest: {answer}")).to_owned();
    assert_eq!((&answer["retest"]["state"], &answer["retest"]["retest_of"]), (&json!("draft"), &json!(first)));
    // It was completed; once more is no second time.
    let again = team.blue.patch(&path(&first, "remediation"), &json!({"remediation_status": "completed"})).await;
    assert_eq!(again.json(200)["retest"], Value::Null, "{again}");
    team.red.act(&path(&second, "retest")).await.error(400, "INVALID_STATE");
    team.blue.act(&path(&first, "retest")).await.error(403, "FORBIDDEN");

    team.bring(&second, "in_review").await;
    team.admin.post(&path(&second, "validate"), &json!({"result": "not_detected"})).await.json(200);
    for test in [&first, &second] {
        let chain = team.viewer.get(&path(test, "retest-chain")).await.json(200);
        let rows = chain.as_array().unwrap();
        let ids: Vec<&Value> = rows.iter().map(|row| &row["id"]).collect();
        assert_eq!(ids, [&json!(first), &json!(second)], "{chain}");
        assert_eq!((&rows[0]["regression"], &rows[1]["regression"]), (&json!(false), &json!(true)), "{chain}");
    }
    for lead in [&team.red_lead, &team.other_red_lead, &team.blue_lead] {
        eventually("the leads hear of the regression", Duration::from_secs(15), || async {
            let rows = lead.all("/notifications").await;
            let told =
                rows.iter().filter(|row| row["kind"] == "regression" && row["entity_id"] == json!(second)).count();
            if told == 1 { Ok(()) } else { Err(format!("{told} of 1")) }
        })
        .await;
    }
    eventually("the newest validated test of the chain counts", Duration::from_secs(15), || async {
        let technique = team.viewer.get(&format!("/techniques/{RETESTED}")).await.json(200);
        let status = technique["status_global"].clone();
        if status == "not_covered" { Ok(()) } else { Err(status.to_string()) }
    })
    .await;
    // By hand: the third, fourth, fifth and sixth of the chain; there is no seventh.
    for number in 3..=6 {
        let made = team.red.act(&path(&first, "retest")).await.json(201);
        assert_eq!(made["state"], "draft", "the {number}th: {made}");
    }
    team.red.act(&path(&first, "retest")).await.error(409, "CONFLICT");
    assert_eq!(team.viewer.get(&path(&first, "retest-chain")).await.json(200).as_array().unwrap().len(), 6);
}
