//! Coverage kept as it was, and what has changed since.

use reqwest::Method;
use serde_json::{Value, json};

use super::{IMPROVED, Team, WORSENED, close, heatmap, list, number, text};
use crate::{
    conventions::{fresh, version},
    harness::send,
};

/// A snapshot, a technique that got better and one that got worse, another snapshot: compared, drawn, deleted.
pub async fn compared(team: &Team) {
    team.validated(WORSENED, Some("linux"), "detected").await;
    team.status(WORSENED, "validated").await;
    let name = format!("Before {}", fresh());
    let made = team.red.post("/snapshots", &json!({"name": name, "description": "To compare with"})).await;
    let before = made.json(201);
    assert!(made.header("location").ends_with(text(&before["id"])), "{made}");
    assert_eq!((&before["name"], &before["kind"]), (&json!(name), &json!("manual")), "{before}");
    let summary = team.get("/metrics/summary").await;
    for count in ["total_techniques", "validated", "partial", "not_covered", "in_progress", "not_evaluated"] {
        assert_eq!(before[count], summary[count], "{count}: {before}");
    }
    assert_eq!(number(&before["weights"]["tests"]), 40.0);

    let improved = team.validated(IMPROVED, Some("windows"), "detected").await;
    team.status(IMPROVED, "validated").await;
    // Another chain that nobody saw.
    team.validated(WORSENED, Some("windows"), "not_detected").await;
    team.status(WORSENED, "partial").await;
    // A name is made of the day where none is given.
    let after = team.blue_lead.post("/snapshots", &json!({})).await.json(201);
    assert!(!text(&after["name"]).is_empty(), "{after}");
    team.viewer.post("/snapshots", &json!({"name": "No"})).await.error(403, "FORBIDDEN");
    let long = json!({"name": "n".repeat(100_000)});
    assert!(matches!(team.red.post("/snapshots", &long).await.status, 400 | 413));

    let [a, b] = [&before, &after].map(|snapshot| text(&snapshot["id"]).to_owned());
    let changes = team.get(&format!("/snapshots/compare?a={a}&b={b}")).await;
    let only = |list_name: &str| -> Value {
        let rows = list(&changes[list_name]);
        assert_eq!(rows.len(), 1, "{list_name}: {}", changes[list_name]);
        rows[0].clone()
    };
    let (better, worse) = (only("improved"), only("worsened"));
    assert_eq!(better["mitre_id"], IMPROVED, "{better}");
    assert_eq!((&better["status_b"], &better["name"]), (&json!("validated"), &improved["technique_name"]), "{better}");
    assert_eq!(worse["mitre_id"], WORSENED, "{worse}");
    assert_eq!((&worse["status_a"], &worse["status_b"]), (&json!("validated"), &json!("partial")), "{worse}");
    for none in ["added", "removed", "remapped"] {
        assert_eq!(changes[none], json!([]), "{none}");
    }
    assert_eq!(changes["unchanged"].as_u64().unwrap() + 2, before["total_techniques"].as_u64().unwrap());
    assert_eq!((&changes["a"]["id"], &changes["b"]["id"]), (&before["id"], &after["id"]));
    let change = number(&after["coverage_percentage"]) - number(&before["coverage_percentage"]);
    close(number(&changes["coverage_change"]), change, 0.05, "the change of coverage");
    // The other way round it is the other way round.
    let back = team.get(&format!("/snapshots/compare?a={b}&b={a}")).await;
    assert_eq!(
        (&back["improved"][0]["mitre_id"], &back["worsened"][0]["mitre_id"]),
        (&json!(WORSENED), &json!(IMPROVED))
    );

    drawn_beside(team, &a).await;
    kept(team, &before, &after).await;
    for bad in [format!("a={a}"), format!("a={a}&b=yesterday")] {
        team.viewer.get(&format!("/snapshots/compare?{bad}")).await.error(400, "VALIDATION_ERROR");
    }
    deleted(team, &a).await;
    deleted(team, &b).await;
}

/// Layer, picture and page beside a snapshot.
async fn drawn_beside(team: &Team, snapshot: &str) {
    let query = format!("?compare={snapshot}&tactic=impact");
    let layer = team.get(&format!("/heatmap{query}")).await;
    let said = |mitre_id: &str| -> String {
        let row = list(&layer["techniques"]).iter().find(|row| row["techniqueID"] == mitre_id).cloned();
        row.unwrap_or_else(|| panic!("no {mitre_id}")).to_string()
    };
    assert!(said(IMPROVED).contains("improved"), "{}", said(IMPROVED));
    assert!(said(WORSENED).contains("worsened"), "{}", said(WORSENED));
    heatmap::drawn(&team.viewer.get(&format!("/heatmap.svg{query}")).await);
    heatmap::page(&team.viewer.get(&format!("/reports/coverage-html{query}")).await);
}

/// They are listed, with all techniques in the detail, and are points of the history.
async fn kept(team: &Team, before: &Value, after: &Value) {
    let listed = team.viewer.get("/snapshots?limit=2").await;
    assert!(listed.total() >= 2, "{listed}");
    let ids: Vec<Value> = list(&listed.json(200)).iter().map(|row| row["id"].clone()).collect();
    assert_eq!(ids, [after["id"].clone(), before["id"].clone()], "newest first");
    let detail = team.get(&format!("/snapshots/{}", text(&before["id"]))).await;
    let rows = list(&detail["techniques"]);
    assert_eq!(rows.len() as u64, before["total_techniques"].as_u64().unwrap());
    let row = rows.iter().find(|row| row["mitre_id"] == WORSENED).expect("the technique");
    assert_eq!(row["status"], "validated", "it is as it was: {row}");
    let history = team.get("/scores/history?period=30d").await;
    for snapshot in [before, after] {
        let point = list(&history).iter().find(|point| point["snapshot_id"] == snapshot["id"]);
        let point = point.unwrap_or_else(|| panic!("no point of {snapshot}: {history}"));
        assert_eq!((&point["kind"], &point["score"]), (&json!("snapshot"), &snapshot["score"]), "{point}");
    }
    let moments: Vec<&str> = list(&history).iter().map(|point| text(&point["at"])).collect();
    assert!(moments.is_sorted(), "oldest first: {moments:?}");
}

async fn deleted(team: &Team, snapshot: &str) {
    let path = format!("/snapshots/{snapshot}");
    assert_eq!(version(&team.admin.get(&path).await), 0);
    send(team.red_lead.request(Method::DELETE, &path)).await.error(403, "FORBIDDEN");
    assert_eq!(send(team.admin.request(Method::DELETE, &path)).await.status, 204);
    team.viewer.get(&path).await.error(404, "NOT_FOUND");
    team.viewer.get(&format!("/snapshots/compare?a={snapshot}&b={snapshot}")).await.error(404, "NOT_FOUND");
}
