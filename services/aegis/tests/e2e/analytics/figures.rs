//! How the work goes: nothing of no tests, and exact times of few.

use serde_json::{Value, json};

use super::{PATIENCE, STEADY, Team, Times, list, number};
use crate::harness::eventually;

const KPIS: [&str; 9] = [
    "mttd",
    "mttr",
    "mttc",
    "detection_efficacy",
    "attack_success_rate",
    "remediation_rate",
    "red_cycle",
    "blue_cycle",
    "review_cycle",
];

/// Where nothing has happened no figure has a value, and no count is anything but 0.
pub async fn of_nothing(team: &Team) {
    let operational = team.get("/metrics/operational").await;
    for name in KPIS {
        nothing(&operational[name], name);
    }
    for week in list(&team.get("/metrics/operational/trend?period=30d").await) {
        for name in ["mttd", "mttr", "detection_efficacy"] {
            nothing(&week[name], name);
        }
        assert_eq!((&week["validated"], &week["rejected"]), (&json!(0), &json!(0)), "{week}");
    }
    let teams = team.get("/metrics/operational/by-team").await;
    nothing(&teams["blue_team"]["mttd"], "mttd");
    let activity = team.get("/metrics/team-activity").await;
    for side in ["red_team", "blue_team"] {
        assert_eq!(activity[side], json!({"completed": 0, "pending": 0, "completed_30d": 0}), "{activity}");
    }
    let rates = team.get("/metrics/validation-rate").await;
    for side in ["red_lead", "blue_lead"] {
        let nobody = json!({"approved": 0, "rejected": 0, "pending": 0, "approval_rate": null, "rejection_rate": null});
        assert_eq!(rates[side], nobody, "{rates}");
    }
    assert_eq!(team.get("/metrics/recent-tests").await, json!([]));
    let results = team.get("/reports/test-results").await;
    assert_eq!((&results["total"], &results["tests"]), (&json!(0), &json!([])), "{results}");
    let organization = team.get("/scores/organization").await;
    assert_eq!(
        (number(&organization["score"]), &organization["technique_count"]),
        (0.0, &json!(691)),
        "{organization}"
    );
    assert_eq!(team.get("/metrics/summary").await["coverage_percentage"], 0.0);
}

#[track_caller]
fn nothing(kpi: &Value, name: &str) {
    assert_eq!(kpi["n"], 0, "{name}: {kpi}");
    for figure in ["value", "median", "p95"] {
        assert!(kpi.get(figure).is_some_and(Value::is_null), "{name} has a {figure} of nothing: {kpi}");
    }
}

/// Five tests with typed times, of which four are validated and one is rejected.
pub async fn of_typed_times(team: &Team) {
    let typed = |executed, detected, contained| Times { executed: Some(executed), detected, contained };
    let rows = [
        // Seven minutes, and an hour to contain; twenty minutes; ten minutes, and half an hour.
        ("detected", typed("2024-01-01T09:00:00Z", Some("2024-01-01T09:07:00Z"), Some("2024-01-01T10:07:00Z"))),
        ("partially_detected", typed("2024-01-01T09:00:00Z", Some("2024-01-01T09:20:00Z"), None)),
        ("detected", typed("2024-01-02T09:00:00Z", Some("2024-01-02T09:10:00Z"), Some("2024-01-02T09:40:00Z"))),
        // Nobody saw it: no time is made up for it.
        ("not_detected", typed("2024-01-03T09:00:00Z", None, None)),
    ];
    let mut tests = Vec::new();
    for (result, times) in rows {
        let test = team.draft(STEADY, Some("linux")).await;
        tests.push(team.validate(&test, result, times).await);
    }
    // It is neither validated nor counted; its times are not either.
    let rejected = team.draft(STEADY, Some("linux")).await;
    for (who, name) in [(&team.red, "start-execution"), (&team.red, "submit-red"), (&team.blue, "submit-blue")] {
        who.act(&format!("/tests/{rejected}/{name}")).await.json(200);
    }
    let no = json!({"blue_validation_status": "rejected", "blue_validation_notes": "Again"});
    team.blue_lead.post(&format!("/tests/{rejected}/validate-blue"), &no).await.json(200);
    // The first is remedied now; how long that took follows from what the test says.
    let path = format!("/tests/{}/remediation", tests[0]["id"].as_str().unwrap());
    let done = json!({"remediation_steps": "=1+1", "remediation_status": "completed"});
    let remedied = team.blue_lead.patch(&path, &done).await.json(200);
    let moment = |value: &Value| value.as_str().unwrap().parse::<chrono::DateTime<chrono::Utc>>().unwrap();
    let took = moment(&remedied["remediation_completed_at"]) - moment(&remedied["detected_at"]);

    let operational = eventually("the figures are those of all tests", PATIENCE, || async {
        let operational = team.get("/metrics/operational").await;
        let there = operational["mttr"]["n"] == 1 && operational["detection_efficacy"]["n"] == 4;
        if there { Ok(operational) } else { Err(operational.to_string()) }
    })
    .await;
    let is = |name: &str, n: u64, value: f64, unit: &str| {
        let kpi = &operational[name];
        assert_eq!((&kpi["n"], &kpi["unit"]), (&json!(n), &json!(unit)), "{name}: {kpi}");
        assert!((number(&kpi["value"]) - value).abs() < 0.051, "{name} is not {value}: {kpi}");
    };
    is("mttd", 3, (420.0 + 1200.0 + 600.0) / 3.0, "seconds");
    assert_eq!(number(&operational["mttd"]["median"]), 600.0, "{operational}");
    // Nine tenths of the way from the second to the third.
    assert_eq!(number(&operational["mttd"]["p95"]), 1140.0, "{operational}");
    is("mttc", 2, (3600.0 + 1800.0) / 2.0, "seconds");
    let seconds = took.num_seconds() as f64;
    let mttr = number(&operational["mttr"]["value"]);
    assert!((seconds - 1.0..=seconds + 1.0).contains(&mttr), "{mttr}, not {seconds}");
    is("detection_efficacy", 4, 50.0, "percent");
    for name in ["red_cycle", "blue_cycle"] {
        assert!(operational[name]["n"].as_u64() >= Some(4), "{name}: {operational}");
        assert!(number(&operational[name]["value"]) < 600.0, "{name}: {operational}");
    }
    teams(team).await;
}

/// What both sides have done and how the leads voted.
async fn teams(team: &Team) {
    // One more waits for red, one for blue.
    team.draft(STEADY, None).await;
    let test = team.draft(STEADY, None).await;
    for name in ["start-execution", "submit-red"] {
        team.red.act(&format!("/tests/{test}/{name}")).await.json(200);
    }
    eventually("the sides' work is counted", PATIENCE, || async {
        let activity = team.get("/metrics/team-activity").await;
        let side = |name: &str| (activity[name]["completed"].as_u64(), activity[name]["pending"].as_u64());
        let fits = side("red_team") == (Some(6), Some(1)) && side("blue_team") == (Some(5), Some(1));
        if fits { Ok(()) } else { Err(activity.to_string()) }
    })
    .await;
    let rates = team.get("/metrics/validation-rate").await;
    let red = json!({"approved": 4, "rejected": 0, "pending": 0, "approval_rate": 100.0, "rejection_rate": 0.0});
    let blue = json!({"approved": 4, "rejected": 1, "pending": 0, "approval_rate": 80.0, "rejection_rate": 20.0});
    assert_eq!((&rates["red_lead"], &rates["blue_lead"]), (&red, &blue), "{rates}");
    let weeks = team.get("/metrics/operational/trend?period=30d").await;
    let sum = |name: &str| list(&weeks).iter().filter_map(|week| week[name].as_u64()).sum::<u64>();
    assert_eq!((sum("validated"), sum("rejected")), (4, 1), "{weeks}");
    let recent = team.get("/metrics/recent-tests").await;
    assert_eq!((list(&recent).len(), &recent[0]["id"]), (7, &json!(test)), "{recent}");
    let pipeline = team.get("/metrics/test-pipeline").await;
    let counts = json!({
        "draft": 1, "red_executing": 0, "blue_evaluating": 1, "in_review": 0, "validated": 4, "rejected": 1, "total": 7
    });
    assert_eq!(pipeline, counts);
    team.viewer.get("/metrics/operational/trend?period=7d").await.error(400, "VALIDATION_ERROR");
    for bad in ["limit=0", "limit=101"] {
        team.viewer.get(&format!("/metrics/recent-tests?{bad}")).await.error(400, "VALIDATION_ERROR");
    }
}
