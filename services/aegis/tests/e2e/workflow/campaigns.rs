//! Campaigns: schedules that are refused and shown, tests that are gone, runs by hand and their history.

use chrono::{DateTime, Datelike, NaiveDate, SecondsFormat, TimeDelta, Utc, Weekday};
use reqwest::Method;
use serde_json::{Value, json};

use super::{CAMPAIGN, Team};
use crate::{
    conventions::{fresh, id},
    harness::{Api, send},
};

async fn campaign(who: &Api) -> String {
    let body = json!({"name": format!("Campaign {}", fresh()), "type": "custom"});
    let made = who.post("/campaigns", &body).await;
    let shown = made.json(201);
    assert_eq!(
        (&shown["status"], &shown["test_count"], &shown["next_run_at"]),
        (&json!("draft"), &json!(0), &Value::Null)
    );
    id(&made)
}

/// Expressions that never come, or too often; midnights that a clock leaves out.
pub async fn schedules(team: &Team) {
    team.viewer.post("/campaigns", &json!({"name": "x"})).await.error(403, "FORBIDDEN");
    team.red.post("/campaigns", &json!({"name": "x", "type": "holiday"})).await.error(400, "VALIDATION_ERROR");
    let id = campaign(&team.red).await;
    let path = format!("/campaigns/{id}/schedule");
    let set = |schedule: &str, zone: &str| {
        let body = json!({"schedule": schedule, "time_zone": zone, "enabled": true});
        let request = team.red.request(Method::PATCH, &path).json(&body);
        send(request)
    };
    for (schedule, zone, field) in [
        ("0 0 31 2 *", "UTC", "schedule"),
        ("0 0 30 2 1", "Mars/Olympus", "time_zone"),
        ("* * * * * *", "UTC", "schedule"),
        ("* * * * *", "UTC", "schedule"),
        ("*/1 * * * *", "UTC", "schedule"),
        ("61 0 * * *", "UTC", "schedule"),
        ("daily", "UTC", "schedule"),
        ("0 0 * *", "UTC", "schedule"),
        ("0 0 * * * ; rm -rf /", "UTC", "schedule"),
        ("weekly", "../../etc/passwd", "time_zone"),
    ] {
        let refused = set(schedule, zone).await.error_about(400, "VALIDATION_ERROR", zone);
        let fields = refused["errors"].as_array().unwrap();
        assert!(fields.iter().any(|row| row["field"] == field), "{schedule} {zone}: {refused}");
    }
    assert_eq!(team.red.get(&format!("/campaigns/{id}")).await.json(200)["schedule"], Value::Null);

    // In Chile the clocks go from 24:00 to 01:00 on the first Sunday from September 2 on.
    let now = Utc::now();
    let spring = |year: i32| {
        let first = NaiveDate::from_ymd_opt(year, 9, 2).unwrap();
        let days = (7 - first.weekday().days_since(Weekday::Sun)) % 7;
        (first + TimeDelta::days(i64::from(days))).and_hms_opt(4, 0, 0).unwrap().and_utc()
    };
    let due = [now.year(), now.year() + 1].into_iter().map(spring).find(|due| *due > now).unwrap();
    let shown = set(&format!("0 0 {} 9 *", due.day()), "America/Santiago").await.json(200);
    assert_eq!(shown["next_run_at"], time(due), "{shown}");

    // The same midnight is another moment in each zone.
    for (zone, hours) in [("UTC", 0), ("Pacific/Auckland", -12), ("America/Los_Angeles", 7), ("Asia/Kolkata", -6)] {
        let midnight = |year: i32| {
            let first = NaiveDate::from_ymd_opt(year, 7, 1).unwrap().and_hms_opt(0, 0, 0).unwrap().and_utc();
            first + TimeDelta::hours(hours) + TimeDelta::minutes(if zone == "Asia/Kolkata" { 30 } else { 0 })
        };
        let due = [now.year(), now.year() + 1].into_iter().map(midnight).find(|due| *due > now).unwrap();
        let shown = set("0 0 1 7 *", zone).await.json(200);
        assert_eq!((&shown["next_run_at"], &shown["time_zone"]), (&time(due), &json!(zone)), "{shown}");
    }
    for word in ["weekly", "monthly", "quarterly"] {
        let shown = set(word, "Europe/Berlin").await.json(200);
        let due: DateTime<Utc> = shown["next_run_at"].as_str().unwrap().parse().unwrap();
        assert!(due > Utc::now() && due < Utc::now() + TimeDelta::days(93), "{shown}");
    }
    let off = team.red.patch(&path, &json!({"enabled": false})).await.json(200);
    assert_eq!((&off["schedule_enabled"], &off["next_run_at"]), (&json!(false), &Value::Null), "{off}");
    let none = team.red.patch(&path, &json!({"schedule": null})).await.json(200);
    assert_eq!(none["schedule"], Value::Null, "{none}");
    team.viewer.patch(&path, &json!({"schedule": "weekly"})).await.error(403, "FORBIDDEN");
    send(team.blue.request(Method::DELETE, &format!("/campaigns/{id}"))).await.error(403, "FORBIDDEN");
    assert_eq!(send(team.red.request(Method::DELETE, &format!("/campaigns/{id}"))).await.status, 204);
    team.red.get(&format!("/campaigns/{id}")).await.error(404, "NOT_FOUND");
    team.red.patch(&path, &json!({"schedule": "weekly"})).await.error(404, "NOT_FOUND");
}

fn time(at: DateTime<Utc>) -> Value {
    at.to_rfc3339_opts(SecondsFormat::AutoSi, true).into()
}

/// Tests in their order, one that was deleted, a run by hand, and what came of it.
pub async fn runs(team: &Team) {
    let id = campaign(&team.red).await;
    let path = |rest: &str| format!("/campaigns/{id}{rest}");
    let empty = team.red.act(&path("/run")).await;
    assert!(matches!(empty.status, 400 | 409), "nothing to run: {empty}");
    let no_actor = team.red.act(&path("/generate")).await;
    assert!(matches!(no_actor.status, 400 | 409), "no actor to generate from: {no_actor}");

    let mut tests = Vec::new();
    for _ in 0..3 {
        tests.push(team.draft(CAMPAIGN).await);
    }
    let place = |test: &str, phase: &str| json!({"test_id": test, "phase": phase});
    let all = json!({"tests": [place(&tests[0], "discovery"), place(&tests[1], "collection")]});
    assert_eq!(team.blue.post(&path("/tests"), &all).await.json(201)["test_count"], 2);
    let nobody = uuid::Uuid::now_v7().to_string();
    let with_nobody = json!({"tests": [place(&tests[2], "x"), place(&nobody, "y")]});
    let unknown = team.blue.post(&path("/tests"), &with_nobody).await;
    assert!(matches!(unknown.status, 400 | 404) && unknown.text().contains(&nobody), "{unknown}");
    let twice = team.blue.post(&path("/tests"), &json!({"test_id": tests[0]})).await;
    assert_eq!(twice.status, 409, "{twice}");
    team.viewer.post(&path("/tests"), &json!({"test_id": tests[2]})).await.error(403, "FORBIDDEN");
    let first = json!({"test_id": tests[2], "phase": "initial", "position": 1});
    team.blue.post(&path("/tests"), &first).await.json(201);
    assert_eq!(order(team, &id).await, [&tests[2], &tests[0], &tests[1]].map(Clone::clone));

    let put = |rows: Vec<Value>| send(team.blue.request(Method::PUT, &path("/tests")).json(&json!({"tests": rows})));
    let short = put(vec![place(&tests[0], "a")]).await;
    assert!(matches!(short.status, 400 | 409), "not all of them: {short}");
    put(tests.iter().map(|test| place(test, "sorted")).collect()).await.json(200);
    assert_eq!(order(team, &id).await, tests);

    // A test of it that is deleted is in it no more, and nothing else changes.
    assert_eq!(send(team.red.request(Method::DELETE, &format!("/tests/{}", tests[1]))).await.status, 204);
    let left = [tests[0].clone(), tests[2].clone()];
    let shown = team.viewer.get(&path("")).await.json(200);
    assert_eq!((&shown["test_count"], &shown["progress"]["draft"]), (&json!(2), &json!(2)), "{shown}");
    assert_eq!(order(team, &id).await, left);
    send(team.blue.request(Method::DELETE, &path(&format!("/tests/{}", tests[1])))).await.error(404, "NOT_FOUND");

    team.blue.act(&path("/run")).await.error(403, "FORBIDDEN");
    let before = team.red.total("/tests").await;
    let run = team.red.act(&path("/run")).await;
    assert!(matches!(run.status, 200 | 201), "{run}");
    let run = run.value();
    assert_eq!((&run["status"], &run["trigger"], &run["test_count"]), (&json!("created"), &json!("manual"), &json!(2)));
    assert_eq!(run["started_by_username"], "flow-red", "{run}");
    assert_eq!(team.red.total("/tests").await, before + 2);
    let history = team.viewer.get(&path("/history")).await.json(200);
    let rows = history.as_array().unwrap();
    assert_eq!((rows.len(), &rows[0]["id"], &rows[0]["progress"]["draft"]), (1, &run["id"], &json!(2)), "{history}");

    let archived = team.red.patch(&path(""), &json!({"status": "archived"})).await.json(200);
    assert_eq!(archived["status"], "archived");
    team.blue.patch(&path(""), &json!({"status": "active"})).await.error(403, "FORBIDDEN");
    // Its tests stay.
    assert_eq!(send(team.red.request(Method::DELETE, &path(""))).await.status, 204);
    team.red.get(&format!("/tests/{}", tests[0])).await.json(200);
    for rest in ["", "/history"] {
        team.red.get(&path(rest)).await.error(404, "NOT_FOUND");
    }
}

async fn order(team: &Team, id: &str) -> Vec<String> {
    let shown = team.viewer.get(&format!("/campaigns/{id}")).await.json(200);
    let tests = shown["tests"].as_array().unwrap();
    for (position, test) in tests.iter().enumerate() {
        assert_eq!(test["position"], json!(position + 1), "{shown}");
    }
    tests.iter().map(|test| test["test_id"].as_str().unwrap().to_owned()).collect()
}
