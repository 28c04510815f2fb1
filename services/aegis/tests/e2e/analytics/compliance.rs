//! Controls: a verdict follows from the techniques of the mapping, and these from their tests.

use std::{cmp::Reverse, collections::HashMap, path::Path};

use reqwest::Method;
use serde_json::{Value, json};

use super::{PATIENCE, Team, close, list, number, text};
use crate::harness::{eventually, send};

const FRAMEWORK: &str = "nist_800_53";
/// What is needed of the publishers, with the companions.
const SOURCES: [(&str, &str, Option<&str>); 6] = [
    ("mitre_attack_enterprise", "attack/enterprise-attack-18.1.json.zst", None),
    ("mitre_attack_mobile", "attack/mobile-attack-17.1.json.zst", None),
    ("mitre_attack_ics", "attack/ics-attack-18.1.json.zst", None),
    ("d3fend", "d3fend/d3fend-site-0.14.0-ontology.tar.zst", Some("d3fend/d3fend-site-0.14.0-attack-api.tar.zst")),
    (
        FRAMEWORK,
        "compliance/ctid-mappings-explorer-2911162c.tar.zst",
        Some("compliance/NIST_SP-800-53_rev5_catalog-5.2.0.from-pypi-icdev.json.zst"),
    ),
    ("csa_ccm", "compliance/ctid-mappings-explorer-2911162c.tar.zst", None),
];

/// Brings them in, and waits until analytics has all of it.
pub async fn sync(team: &Team, data: &Path) {
    let url = |file: &str| {
        let path = std::fs::canonicalize(data.join(file)).unwrap_or_else(|e| panic!("{file}: {e}"));
        format!("file://{}", path.display())
    };
    for (name, file, companion) in SOURCES {
        let mut place = json!({ "url": url(file) });
        if let Some(companion) = companion {
            place["companion_url"] = url(companion).into();
        }
        let path = format!("/data-sources/{name}");
        team.admin.patch(&path, &place).await.json(200);
        let done = team.admin.act(&format!("{path}/sync")).await.json(200);
        assert_eq!(done["job"]["status"], "succeeded", "{name}: {done}");
    }
    let techniques = team.viewer.total("/techniques").await;
    eventually("analytics has what was brought in", PATIENCE * 3, || async {
        let summary = team.get("/metrics/summary").await;
        let rules = team.viewer.get(&format!("/compliance/{FRAMEWORK}/summary")).await;
        let actor = team.viewer.get("/scores/threat-actor/G0007").await;
        let there =
            summary["total_techniques"].as_u64() == Some(techniques) && rules.status == 200 && actor.status == 200;
        if there { Ok(()) } else { Err(format!("{summary} {rules} {actor}")) }
    })
    .await;
}

/// Whether somebody did so before.
pub async fn brought_in(team: &Team) -> bool {
    let there = team.viewer.get(&format!("/compliance/{FRAMEWORK}/summary")).await.status == 200
        && team.viewer.get("/scores/threat-actor/G0007").await.status == 200;
    if !there {
        println!("compliance and actors are left out: nothing was brought in yet");
    }
    there
}

/// The control's verdict by the rule.
fn verdict(covered: i64, all: i64) -> &'static str {
    match all {
        0 => "not_applicable",
        _ if covered * 100 >= all * 80 => "covered",
        _ if covered * 100 >= all * 40 => "partial",
        _ => "gap",
    }
}

pub async fn verdicts(team: &Team) {
    let path = format!("/compliance/{FRAMEWORK}");
    let statuses = statuses(team).await;
    let controls = team.viewer.all(&format!("{path}/controls")).await;
    assert!(controls.len() > 1000, "{} controls", controls.len());
    let covered = |ids: &Value| -> (i64, i64) {
        let known: Vec<&str> = list(ids).iter().filter_map(|id| statuses.get(text(id)).map(String::as_str)).collect();
        let covered = known.iter().filter(|status| matches!(**status, "validated" | "partial")).count();
        (i64::try_from(covered).unwrap(), i64::try_from(known.len()).unwrap())
    };
    for control in &controls {
        let (covered, all) = covered(&control["mitre_technique_ids"]);
        assert_eq!(control["status"], verdict(covered, all), "{control}");
        assert_eq!((&control["technique_count"], &control["covered_techniques"]), (&json!(all), &json!(covered)));
        match all {
            0 => assert!(control["coverage_percentage"].is_null() && control["score"].is_null(), "{control}"),
            _ => {
                let expected = covered as f64 * 100.0 / all as f64;
                close(number(&control["coverage_percentage"]), expected, 0.05, "coverage");
            }
        }
        assert!(!text(&control["mapping"]["source"]).is_empty(), "{control}");
    }
    let count = |rows: &[&Value], status: &str| rows.iter().filter(|row| row["status"] == status).count();
    let all: Vec<&Value> = controls.iter().collect();
    let summary = team.get(&format!("{path}/summary")).await;
    assert_eq!(summary["total"], controls.len());
    for (name, status) in
        [("covered", "covered"), ("partial", "partial"), ("gaps", "gap"), ("not_applicable", "not_applicable")]
    {
        assert_eq!(summary[name], count(&all, status), "{name}: {summary}");
        let listed = team.viewer.total(&format!("{path}/controls?status={status}")).await;
        assert_eq!(listed, count(&all, status) as u64, "{status}");
    }
    for family in list(&summary["families"]) {
        let of_it: Vec<&Value> = controls.iter().filter(|row| row["family"] == family["family"]).collect();
        assert_eq!(
            (&family["total"], &family["gaps"]),
            (&json!(of_it.len()), &json!(count(&of_it, "gap"))),
            "{family}"
        );
    }
    // Enhancements are controls, of those that they enhance.
    assert!(controls.iter().any(|row| row["id"] == "AC-2(1)" && row["parent_id"] == "AC-2"));

    changed(team, &path, &controls).await;
    gaps(team, &path).await;
    team.viewer.get("/compliance/no_such_framework/summary").await.error(404, "NOT_FOUND");
    team.viewer.get(&format!("{path}/controls/XX-99")).await.error(404, "NOT_FOUND");
    team.viewer.get(&format!("{path}/controls?status=fine")).await.error(400, "VALIDATION_ERROR");
}

/// Statuses of all active techniques, by ATT&CK id, as the catalogue has them.
async fn statuses(team: &Team) -> HashMap<String, String> {
    let rows = team.get("/techniques?limit=5000").await;
    list(&rows).iter().map(|row| (text(&row["mitre_id"]).to_owned(), text(&row["status_global"]).to_owned())).collect()
}

/// A control without cover; its techniques are validated one after the other until it is covered.
async fn changed(team: &Team, path: &str, controls: &[Value]) {
    let control = controls
        .iter()
        .filter(|row| row["status"] == "gap" && row["covered_techniques"] == 0)
        .min_by_key(|row| (row["technique_count"].as_i64(), text(&row["id"]).to_owned()))
        .expect("a control that is a gap");
    let (id, all) = (text(&control["id"]), control["technique_count"].as_i64().unwrap());
    let detail = async || team.get(&format!("{path}/controls/{id}")).await;
    let before = detail().await;
    let techniques: Vec<String> =
        list(&before["techniques"]).iter().map(|row| text(&row["mitre_id"]).to_owned()).collect();
    assert_eq!(i64::try_from(techniques.len()), Ok(all), "{before}");
    for (covered, mitre_id) in (1..).zip(&techniques) {
        let test = team.validated(mitre_id, None, "detected").await;
        let after = eventually(&format!("{id} follows the test"), PATIENCE, || async {
            let after = detail().await;
            let fits = after["covered_techniques"] == covered && after["status"] == verdict(covered, all);
            if fits { Ok(after) } else { Err(format!("{covered} of {all}: {after}")) }
        })
        .await;
        let row = list(&after["techniques"]).iter().find(|row| row["mitre_id"] == mitre_id.as_str()).expect("the row");
        assert_eq!(
            (&row["tests"][0]["id"], &row["tests"][0]["detection_result"]),
            (&test["id"], &json!("detected")),
            "{row}"
        );
        if after["status"] == "covered" {
            let listed = team.viewer.all(&format!("{path}/gaps")).await;
            assert!(listed.iter().all(|gap| gap["id"] != id), "{id} is no gap any more");
            return;
        }
    }
    panic!("{id} was never covered");
}

/// The most missing first, each technique counted with the share of the actors that use it.
async fn gaps(team: &Team, path: &str) {
    let gaps = team.viewer.all(&format!("{path}/gaps")).await;
    let open = ["gap", "partial"];
    let mut expected = 0;
    for status in open {
        expected += team.viewer.total(&format!("{path}/controls?status={status}")).await;
    }
    assert_eq!(gaps.len() as u64, expected);
    let priorities: Vec<f64> = gaps.iter().map(|gap| number(&gap["priority"])).collect();
    assert!(priorities.is_sorted_by(|a, b| a >= b), "{priorities:?}");
    for gap in &gaps {
        assert!(open.contains(&text(&gap["status"])), "{gap}");
        let missing = list(&gap["missing"]);
        let count = gap["missing_count"].as_u64().unwrap();
        assert_eq!(missing.len() as u64, count.min(50), "{gap}");
        let open = gap["technique_count"].as_u64().unwrap() - gap["covered_techniques"].as_u64().unwrap();
        assert_eq!(count, open, "{gap}");
        assert!(number(&gap["priority"]) >= count as f64, "{gap}");
        let used: Vec<Reverse<i64>> =
            missing.iter().map(|row| Reverse(row["threat_actors"].as_i64().unwrap())).collect();
        assert!(used.is_sorted(), "the most used first: {gap}");
        assert!(missing.iter().all(|row| row["status"] != "validated" && row["status"] != "partial"), "{gap}");
    }
    // What somebody has implemented counts in the score.
    let defence = team.get("/d3fend?mitre_technique_id=T1059.001&implemented=false&limit=1").await;
    let Some(defence) = list(&defence).first() else { return };
    let before = number(&team.score("T1059.001").await["breakdown"]["d3fend"]["raw"]);
    let path = format!("/d3fend/{}", text(&defence["id"]));
    let set = async |implemented: bool| {
        let change = team.blue_lead.request(Method::PATCH, &path).json(&json!({ "implemented": implemented }));
        send(change).await.json(200);
    };
    set(true).await;
    let all = team.viewer.total("/d3fend?mitre_technique_id=T1059.001").await;
    let expected = before + 1.0 / all as f64;
    eventually("the countermeasure counts", PATIENCE, || async {
        let part = team.score("T1059.001").await["breakdown"]["d3fend"].clone();
        if (number(&part["raw"]) - expected).abs() < 0.0002 { Ok(()) } else { Err(format!("{part}, not {expected}")) }
    })
    .await;
    set(false).await;
}
