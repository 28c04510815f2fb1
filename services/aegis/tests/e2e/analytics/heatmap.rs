//! Heatmaps: layers that ATT&CK Navigator loads, and the same drawn.

use std::collections::BTreeSet;

use reqwest::Method;
use serde_json::Value;

use super::{DETECTED, MISSED, TACTIC, Team, close, list, number, text};
use crate::harness::{Answer, send};

/// One layer, with what holds in each.
async fn layer(team: &Team, query: &str) -> Value {
    let layer = team.get(&format!("/heatmap{query}")).await;
    assert_eq!(layer["versions"]["layer"], "4.5", "{query}");
    assert!(text(&layer["domain"]).ends_with("-attack"), "{}", layer["domain"]);
    assert!(!text(&layer["name"]).is_empty());
    let rows = list(&layer["techniques"]);
    let places: BTreeSet<(&str, &str)> =
        rows.iter().map(|row| (text(&row["techniqueID"]), text(&row["tactic"]))).collect();
    assert_eq!(places.len(), rows.len(), "one row for each technique and tactic: {query}");
    layer
}

fn rows<'a>(layer: &'a Value, mitre_id: &str) -> Vec<&'a Value> {
    list(&layer["techniques"]).iter().filter(|row| row["techniqueID"] == mitre_id).collect()
}

/// The layer of all, and of every filter and metric.
pub async fn layers(team: &Team) {
    let whole = layer(team, "").await;
    assert_eq!(whole["domain"], "enterprise-attack");
    let report = team.get("/reports/coverage-summary?domain=enterprise").await;
    let places: usize = list(&report["techniques"]).iter().map(|row| list(&row["tactics"]).len()).sum();
    assert_eq!(list(&whole["techniques"]).len(), places);
    for row in list(&report["techniques"]) {
        let mitre_id = text(&row["mitre_id"]);
        let evaluated = row["status"] != "not_evaluated";
        for place in rows(&whole, mitre_id) {
            assert_eq!(place.get("score").is_some_and(Value::is_number), evaluated, "{place}");
        }
    }
    assert!(!rows(&whole, DETECTED).is_empty() && !rows(&whole, MISSED).is_empty());

    let of_tactic = layer(team, &format!("?tactic={TACTIC}")).await;
    assert!(list(&of_tactic["techniques"]).iter().all(|row| row["tactic"] == TACTIC));
    assert_eq!(
        list(&of_tactic["techniques"]).len(),
        list(&whole["techniques"]).iter().filter(|row| row["tactic"] == TACTIC).count()
    );

    let of_platform = layer(team, "?platform=macOS").await;
    let expected = team.viewer.total("/techniques?platform=macos&domain=enterprise").await;
    let found: BTreeSet<&str> = list(&of_platform["techniques"]).iter().map(|row| text(&row["techniqueID"])).collect();
    assert_eq!(found.len() as u64, expected);

    for metric in ["status", "score", "detection_rules", "observed"] {
        let layer = layer(team, &format!("?metric={metric}&tactic={TACTIC}")).await;
        if metric == "score" {
            // A layer has whole numbers.
            let expected = number(&team.score(DETECTED).await["score"]);
            close(number(&rows(&layer, DETECTED)[0]["score"]), expected, 0.5, "the score in the layer");
        }
    }
    for bad in ["metric=luck", "domain=lunar", "compare=last", "threat_actor_id="] {
        let answer = team.viewer.get(&format!("/heatmap?{bad}")).await;
        assert!(matches!(answer.status, 400 | 404), "{answer}");
    }
    team.viewer.get("/heatmap?threat_actor_id=G9999").await.error(404, "NOT_FOUND");
    team.viewer.get("/heatmap?compare=018f0000-0000-7000-8000-00000000dead").await.error(404, "NOT_FOUND");
}

/// The picture, by its name and by what the client accepts, and the page for the board.
pub async fn pictures(team: &Team) {
    for query in
        ["", "?tactic=impact", "?platform=linux", "?metric=score", "?metric=detection_rules", "?metric=observed"]
    {
        let named = team.viewer.get(&format!("/heatmap.svg{query}")).await;
        drawn(&named);
        let asked = team.viewer.request(Method::GET, &format!("/heatmap{query}")).header("accept", "image/svg+xml");
        drawn(&send(asked).await);
        if query.is_empty() {
            let name = text(&team.technique(DETECTED).await["name"]).to_owned();
            assert!(named.text().contains(DETECTED) || named.text().contains(&name), "{DETECTED} is not drawn");
        }
    }
    team.viewer.get("/heatmap.svg?metric=luck").await.error(400, "VALIDATION_ERROR");
    for query in ["", "?tactic=impact", "?platform=linux"] {
        page(&team.viewer.get(&format!("/reports/coverage-html{query}")).await);
    }
}

#[track_caller]
pub fn drawn(answer: &Answer) {
    assert_eq!(answer.status, 200, "{answer}");
    assert!(answer.header("content-type").starts_with("image/svg+xml"), "{answer}");
    let text = answer.text();
    assert!(text.trim_start().starts_with("<svg") || text.starts_with("<?xml"), "{answer}");
    assert!(text.trim_end().ends_with("</svg>") && text.len() < 2_000_000, "{} bytes", text.len());
    assert!(text.contains("<title"), "a picture has a title");
    assert!(!text.contains("<script"), "a picture runs nothing");
    super::as_of(answer);
}

/// One page that needs nothing else.
#[track_caller]
pub fn page(answer: &Answer) {
    assert_eq!(answer.status, 200, "{answer}");
    assert!(answer.header("content-type").starts_with("text/html"), "{answer}");
    let text = answer.text().to_lowercase();
    assert!(text.trim_start().starts_with("<!doctype html>") && text.contains("<svg"), "{answer}");
    for outside in ["<link", "<script", "src=\"http", "url(http", "@import"] {
        assert!(!text.contains(outside), "the page needs something else: {outside}");
    }
    super::as_of(answer);
}

/// Mobile and ICS, once they are there.
pub async fn other_domains(team: &Team) {
    for domain in ["mobile", "ics"] {
        let layer = layer(team, &format!("?domain={domain}")).await;
        assert_eq!(layer["domain"], format!("{domain}-attack"));
        let expected = team.viewer.total(&format!("/techniques?domain={domain}")).await;
        let found: BTreeSet<&str> = list(&layer["techniques"]).iter().map(|row| text(&row["techniqueID"])).collect();
        assert_eq!(found.len() as u64, expected, "{domain}");
        drawn(&team.viewer.get(&format!("/heatmap.svg?domain={domain}")).await);
        page(&team.viewer.get(&format!("/reports/coverage-html?domain={domain}")).await);
    }
    let of_actor = layer(team, "?threat_actor_id=G0007").await;
    let actor = team.get("/scores/threat-actor/G0007").await;
    let found: BTreeSet<&str> = list(&of_actor["techniques"]).iter().map(|row| text(&row["techniqueID"])).collect();
    for row in ["covered", "partial", "uncovered"].iter().flat_map(|name| list(&actor[name])) {
        // APT28 is in more than one matrix.
        let mitre_id = text(&row["mitre_id"]);
        let here = team.technique(mitre_id).await["domain"] == "enterprise";
        assert_eq!(found.contains(mitre_id), here, "{mitre_id}");
    }
    drawn(&team.viewer.get("/heatmap.svg?threat_actor_id=G0007").await);
    page(&team.viewer.get("/reports/coverage-html?threat_actor_id=G0007").await);
}
