//! Scores of techniques, tactics, threat actors and the whole, their weights and plans.

use reqwest::Method;
use serde_json::{Value, json};

use super::{DETECTED, MISSED, PATIENCE, TACTIC, Team, close, list, number, text};
use crate::{
    conventions::version,
    harness::{eventually, send},
};

const PARTS: [&str; 5] = ["tests", "detection_rules", "d3fend", "freshness", "platform_diversity"];
const DEFAULTS: [f64; 5] = [40.0, 20.0, 15.0, 15.0, 10.0];

/// What the parts of a technique's score come from: a numerator and a denominator each.
type Shares = [(i64, i64); 5];

/// What the formulas make of the tests that this has seen, and of the rules and countermeasures that the catalogue lists.
async fn shares(team: &Team, mitre_id: &str, halves: i64, chains: i64, platforms: usize) -> Shares {
    let rules = team.viewer.total(&format!("/detection-rules?mitre_technique_id={mitre_id}")).await;
    let mapped = team.viewer.total(&format!("/d3fend?mitre_technique_id={mitre_id}")).await;
    let implemented = team.viewer.total(&format!("/d3fend?mitre_technique_id={mitre_id}&implemented=true")).await;
    let all = list(&team.technique(mitre_id).await["platforms"]).len();
    let whole = |n: u64| i64::try_from(n).unwrap();
    [
        (halves, 2 * chains),
        (whole(rules).min(5), 5),
        (whole(implemented), whole(mapped)),
        (i64::from(chains > 0), 1),
        (i64::try_from(platforms).unwrap(), i64::try_from(all).unwrap()),
    ]
}

/// Hundredths of a point that a part brings: rounded, halves up.
fn points((of, all): (i64, i64), weight: f64) -> i64 {
    let weight = (weight * 100.0).round() as i64;
    if all == 0 { 0 } else { (2 * of * weight + all) / (2 * all) }
}

/// Whether an answer is what the formulas give.
fn differs(answer: &Value, shares: &Shares, weights: [f64; 5]) -> Result<(), String> {
    let mut sum = 0;
    for ((name, share), weight) in PARTS.iter().zip(shares).zip(weights) {
        let part = &answer["breakdown"][name];
        let raw = if share.1 == 0 { 0.0 } else { share.0 as f64 / share.1 as f64 };
        let brings = points(*share, weight);
        sum += brings;
        let fits = (number(&part["raw"]) - raw).abs() < 0.0001
            && number(&part["weight"]) == weight
            && (number(&part["points"]) - brings as f64 / 100.0).abs() < 1e-9
            && !text(&part["basis"]).is_empty();
        if !fits {
            return Err(format!("{name} should be {raw} × {weight} = {}: {answer}", brings as f64 / 100.0));
        }
    }
    let score = ((sum + 5) / 10) as f64 / 10.0;
    if (number(&answer["score"]) - score).abs() < 1e-9 { Ok(()) } else { Err(format!("should be {score}: {answer}")) }
}

/// Waits until a technique's score is what the formulas give.
async fn scored(team: &Team, mitre_id: &str, status: &str, shares: &Shares, weights: [f64; 5]) -> Value {
    eventually(&format!("{mitre_id} is scored"), PATIENCE, || async {
        let answer = team.score(mitre_id).await;
        if answer["status"] != status {
            return Err(format!("not {status}: {answer}"));
        }
        differs(&answer, shares, weights).map(|()| answer)
    })
    .await
}

/// A technique that nobody tested; then one test that detects and one that does not, and a rule.
pub async fn of_two_tests(team: &Team) {
    for mitre_id in [DETECTED, MISSED] {
        let before = shares(team, mitre_id, 0, 0, 0).await;
        let score = scored(team, mitre_id, "not_evaluated", &before, DEFAULTS).await;
        assert_eq!(score["mitre_id"], mitre_id);
        assert!(!text(&score["advice"]).is_empty(), "{score}");
        assert!(number(&score["breakdown"]["tests"]["gain"]) > 0.0, "{score}");
    }
    team.validated(DETECTED, Some("windows"), "detected").await;
    let one = shares(team, DETECTED, 2, 1, 1).await;
    let score = scored(team, DETECTED, "validated", &one, DEFAULTS).await;
    assert!(score["breakdown"]["tests"]["advice"].is_null(), "nothing would raise it: {score}");

    team.validated(MISSED, Some("linux"), "not_detected").await;
    let one = shares(team, MISSED, 0, 1, 1).await;
    scored(team, MISSED, "not_covered", &one, DEFAULTS).await;

    // A second chain, half detected, on another platform.
    team.validated(MISSED, Some("macOS"), "partially_detected").await;
    let two = shares(team, MISSED, 1, 2, 2).await;
    scored(team, MISSED, "partial", &two, DEFAULTS).await;

    // The platform that no matrix knows counts for nothing; the test does.
    team.validated(DETECTED, Some("teapot"), "not_detected").await;
    let two = shares(team, DETECTED, 2, 2, 1).await;
    scored(team, DETECTED, "partial", &two, DEFAULTS).await;

    let rule = format!(
        "title: Pages that others wrote {}\nlogsource:\n  product: linux\ntags:\n  - attack.{}\ndetection:\n  selection:\n    \
         Image: index.html\n  condition: selection\n",
        crate::conventions::fresh(),
        DETECTED.to_lowercase(),
    );
    let bring = team.admin.request(Method::POST, "/detection-rules").header("content-type", "application/yaml");
    let made = send(bring.body(rule)).await.json(201);
    let ruled = shares(team, DETECTED, 2, 2, 1).await;
    assert!(ruled[1].0 > two[1].0 || two[1].0 == 5, "{made}");
    scored(team, DETECTED, "partial", &ruled, DEFAULTS).await;
    let mine = team.get(&format!("/detection-rules?mitre_technique_id={DETECTED}&source=custom&limit=1")).await;
    let path = format!("/detection-rules/{}", text(&mine[0]["id"]));
    assert_eq!(send(team.admin.request(Method::DELETE, &path)).await.status, 204);
    scored(team, DETECTED, "partial", &two, DEFAULTS).await;
    team.viewer.get("/scores/technique/T9999.999").await.error(404, "NOT_FOUND");
}

/// The summary, the tactics and the organisation say what the techniques say.
pub async fn of_all(team: &Team) {
    let report = team.get("/reports/coverage-summary").await;
    let summary = team.get("/metrics/summary").await;
    let rows = list(&report["techniques"]);
    let total = summary["total_techniques"].as_u64().unwrap();
    assert_eq!(rows.len() as u64, total, "{summary}");
    for status in ["validated", "partial", "not_covered", "in_progress", "not_evaluated"] {
        let count = rows.iter().filter(|row| row["status"] == status).count();
        assert_eq!(summary[status], count, "{status}: {summary}");
        assert_eq!(report["summary"][status], count, "{status}: {}", report["summary"]);
    }
    let covered = summary["validated"].as_u64().unwrap() + summary["partial"].as_u64().unwrap();
    close(number(&summary["coverage_percentage"]), covered as f64 * 100.0 / total as f64, 0.05, "coverage");

    let mean = |rows: &[&Value]| rows.iter().map(|row| number(&row["score"])).sum::<f64>() / rows.len() as f64;
    let all: Vec<&Value> = rows.iter().collect();
    let organization = team.get("/scores/organization").await;
    assert_eq!(organization["technique_count"].as_u64(), Some(total), "{organization}");
    close(number(&organization["score"]), mean(&all), 0.1, "the organisation's score");
    let points: f64 = PARTS.iter().map(|part| number(&organization["breakdown"][part]["points"])).sum();
    close(number(&organization["score"]), points, 0.1, "the sum of the organisation's parts");

    for row in list(&team.get("/metrics/by-tactic").await) {
        let tactic = text(&row["tactic"]);
        let of_it: Vec<&Value> =
            rows.iter().filter(|row| list(&row["tactics"]).iter().any(|name| name == tactic)).collect();
        assert_eq!(row["total"], of_it.len(), "{row}");
        let scored = list(&organization["tactics"]).iter().find(|row| row["tactic"] == tactic);
        let scored = scored.unwrap_or_else(|| panic!("no {tactic}: {organization}"));
        close(number(&scored["score"]), mean(&of_it), 0.1, tactic);
        assert_eq!(scored["technique_count"], of_it.len(), "{scored}");
    }
    let impact = team.get(&format!("/scores/tactic/{TACTIC}")).await;
    let scores: Vec<f64> = list(&impact["techniques"]).iter().map(|row| number(&row["score"])).collect();
    assert!(scores.is_sorted(), "the lowest come first: {scores:?}");
    close(number(&impact["score"]), scores.iter().sum::<f64>() / scores.len() as f64, 0.1, TACTIC);
    team.viewer.get("/scores/tactic/no-such-tactic").await.error(404, "NOT_FOUND");
    team.viewer.get("/scores/organization?domain=lunar").await.error(400, "VALIDATION_ERROR");
    team.viewer.get("/scores/history?period=7d").await.error(400, "VALIDATION_ERROR");
}

/// APT28, which uses what was tested here.
pub async fn of_an_actor(team: &Team) {
    const USED: &str = "T1059.001";
    const ACTOR: &str = "G0007";
    team.validated(USED, Some("windows"), "detected").await;
    eventually("it is covered", PATIENCE, || async {
        let score = team.score(USED).await;
        let covered = score["status"] == "validated" || score["status"] == "partial";
        if covered { Ok(()) } else { Err(score.to_string()) }
    })
    .await;
    let actor = team.get(&format!("/scores/threat-actor/{ACTOR}")).await;
    assert_eq!((&actor["mitre_id"], &actor["name"]), (&json!(ACTOR), &json!("APT28")), "{actor}");
    let of = |name: &str| list(&actor[name]).clone();
    let (covered, partial, uncovered) = (of("covered"), of("partial"), of("uncovered"));
    assert!(covered.iter().all(|row| row["status"] == "validated"), "{covered:?}");
    assert!(partial.iter().all(|row| row["status"] == "partial"), "{partial:?}");
    assert!(uncovered.iter().all(|row| row["status"] != "validated" && row["status"] != "partial"));
    assert!(covered.iter().chain(&partial).any(|row| row["mitre_id"] == USED), "{USED} is covered: {actor}");
    let all: Vec<Value> = [covered, partial, uncovered].concat();
    assert_eq!(actor["technique_count"], all.len());
    let mean = all.iter().map(|row| number(&row["score"])).sum::<f64>() / all.len() as f64;
    close(number(&actor["score"]), mean, 0.1, "the actor's score");
    // The catalogue lists the same.
    let known = team.get(&format!("/threat-actors/{ACTOR}")).await;
    let mut known: Vec<&str> = list(&known["techniques"]).iter().map(|row| text(&row["mitre_id"])).collect();
    let unknown = list(&actor["unknown_mitre_ids"]).iter();
    let mut listed: Vec<&str> = all.iter().map(|row| text(&row["mitre_id"])).chain(unknown.map(text)).collect();
    known.sort_unstable();
    listed.sort_unstable();
    listed.dedup();
    known.dedup();
    assert_eq!(listed, known);
    // By its id the same as by its key.
    let by_id = team.get(&format!("/scores/threat-actor/{}", text(&actor["threat_actor_id"]))).await;
    assert_eq!(by_id["score"], actor["score"]);
    team.viewer.get("/scores/threat-actor/G9999").await.error(404, "NOT_FOUND");

    let plan = team.get(&format!("/scores/plan?threat_actor_id={ACTOR}&tests=7")).await;
    let tests = list(&plan["tests"]);
    assert_eq!(tests.len(), 7, "{plan}");
    assert!(tests.iter().all(|test| all.iter().any(|row| row["mitre_id"] == test["mitre_id"])), "{plan}");
    assert_eq!(plan["score"], actor["score"]);
}

/// What the plan promises comes true.
pub async fn plan(team: &Team) {
    let plan = team.get("/scores/plan?tests=5").await;
    let tests = list(&plan["tests"]);
    assert_eq!(tests.len(), 5, "{plan}");
    let gains: f64 = tests.iter().map(|test| number(&test["gain"])).sum();
    close(number(&plan["score"]) + gains, number(&plan["score_after"]), 0.1, "the plan's sum");
    for (rank, test) in (1..).zip(tests) {
        assert_eq!(test["rank"], rank, "{plan}");
        assert!(number(&test["score_after"]) > number(&test["score"]) && !text(&test["reason"]).is_empty(), "{test}");
    }
    let first = &tests[0];
    let mitre_id = text(&first["mitre_id"]);
    assert_eq!(team.score(mitre_id).await["score"], first["score"]);
    team.validated(mitre_id, first["platform"].as_str(), "detected").await;
    eventually("the first test of the plan counts", PATIENCE, || async {
        let score = team.score(mitre_id).await;
        if score["score"] == first["score_after"] { Ok(()) } else { Err(format!("{score} after {first}")) }
    })
    .await;
    for bad in ["tests=0", "tests=101", "domain=lunar"] {
        team.viewer.get(&format!("/scores/plan?{bad}")).await.error(400, "VALIDATION_ERROR");
    }
    team.viewer.get("/scores/plan?threat_actor_id=G9999").await.error(404, "NOT_FOUND");
}

/// Weights change what scores are, and must sum to 100.
pub async fn weights(team: &Team) {
    const PATH: &str = "/scores/config";
    let read = team.admin.get(PATH).await;
    let config = read.json(200);
    for (part, weight) in PARTS.iter().zip(DEFAULTS) {
        assert_eq!(number(&config[part]), weight, "{config}");
    }
    let first = version(&read);
    let before = team.score(DETECTED).await;
    for (bad, field) in [
        (json!({"tests": 50}), "tests"),
        (json!({"tests": -40, "detection_rules": 100}), "tests"),
        (json!({"tests": 40.001}), "tests"),
    ] {
        let refused = team.admin.patch(PATH, &bad).await.error(400, "VALIDATION_ERROR");
        assert!(refused.to_string().contains(field) || refused.to_string().contains("100"), "{refused}");
    }
    team.admin.patch(PATH, &json!({"luck": 100})).await.error(400, "VALIDATION_ERROR");
    team.red_lead.patch(PATH, &json!({"tests": 40})).await.error(403, "FORBIDDEN");
    assert_eq!(version(&team.admin.get(PATH).await), first, "what was refused changed nothing");
    assert_eq!(team.score(DETECTED).await["score"], before["score"]);

    let new = [100.0, 0.0, 0.0, 0.0, 0.0];
    let body: Value = PARTS.iter().zip(new).map(|(part, weight)| ((*part).to_owned(), json!(weight))).collect();
    let changed = team.admin.patch(PATH, &body).await;
    assert_eq!((changed.json(200)["updated_by"].clone(), version(&changed)), (json!("admin"), first + 1), "{changed}");
    // Detected and not detected, half of each.
    let two = shares(team, DETECTED, 2, 2, 1).await;
    let score = scored(team, DETECTED, "partial", &two, new).await;
    assert_eq!(score["score"], 50.0, "{score}");
    let body: Value = PARTS.iter().zip(DEFAULTS).map(|(part, weight)| ((*part).to_owned(), json!(weight))).collect();
    let restored = team.admin.patch(PATH, &body).await;
    assert_eq!(version(&restored), first + 2, "{restored}");
    eventually("the old weights hold again", PATIENCE, || async {
        let score = team.score(DETECTED).await;
        if score["score"] == before["score"] { Ok(()) } else { Err(score.to_string()) }
    })
    .await;
    let history = team.admin.get(&format!("{PATH}/history?limit=2")).await;
    let versions: Vec<u64> = list(&history.json(200)).iter().filter_map(|row| row["version"].as_u64()).collect();
    assert_eq!(versions, [first + 2, first + 1], "{history}");
    assert_eq!(number(&history.value()[1]["tests"]), 100.0);
    team.viewer.get(PATH).await.error(403, "FORBIDDEN");
}
