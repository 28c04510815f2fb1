//! What holds of every answer: it says of when it is, and computing the projection anew changes none.

use std::time::Duration;

use reqwest::Method;
use serde_json::Value;

use super::{DETECTED, PATIENCE, TACTIC, Team, as_of};
use crate::harness::{Product, eventually, send};

/// Every route of analytics that reads.
fn paths(frameworks: &[String], actor: bool) -> Vec<String> {
    let mut paths: Vec<String> = [
        "/metrics/summary",
        "/metrics/by-tactic",
        "/metrics/test-pipeline",
        "/metrics/team-activity",
        "/metrics/validation-rate",
        "/metrics/recent-tests",
        "/metrics/operational",
        "/metrics/operational/trend",
        "/metrics/operational/by-team",
        "/scores/organization",
        "/scores/history",
        "/scores/plan",
        "/heatmap",
        "/heatmap?metric=score",
        "/heatmap.svg",
        "/snapshots",
        "/compliance/frameworks",
        "/reports/coverage-summary",
        "/reports/coverage-csv",
        "/reports/coverage-html",
        "/reports/test-results",
        "/reports/test-results.csv",
        "/reports/remediation-status",
        "/reports/remediation-status.csv",
    ]
    .map(str::to_owned)
    .into();
    paths.push(format!("/scores/technique/{DETECTED}"));
    paths.push(format!("/scores/tactic/{TACTIC}"));
    if actor {
        paths.push("/scores/threat-actor/G0007".to_owned());
        paths.push("/heatmap?threat_actor_id=G0007".to_owned());
    }
    for framework in frameworks {
        for part in ["controls", "summary", "gaps"] {
            paths.push(format!("/compliance/{framework}/{part}"));
        }
    }
    paths
}

async fn all(team: &Team) -> Vec<String> {
    let frameworks = team.get("/compliance/frameworks").await;
    let frameworks: Vec<String> =
        frameworks.as_array().unwrap().iter().filter_map(|row| row["id"].as_str().map(str::to_owned)).collect();
    let actor = team.viewer.get("/scores/threat-actor/G0007").await.status == 200;
    paths(&frameworks, actor)
}

/// Every answer says of when it is, to those who are signed in.
pub async fn dated(team: &Team) {
    let now = chrono::Utc::now();
    for path in all(team).await {
        let answer = team.viewer.get(&path).await;
        assert_eq!(answer.status, 200, "{answer}");
        let at = as_of(&answer);
        assert!(at <= now + chrono::TimeDelta::minutes(1), "{path} is of {at}");
        let anonymous = team.viewer.with_token("nobody");
        anonymous.get(&path).await.error(401, "UNAUTHENTICATED");
        let wrong = send(team.viewer.request(Method::DELETE, path.split('?').next().unwrap())).await;
        assert_eq!(wrong.status, 405, "{wrong}");
    }
}

/// `aegis rebuild analytics` beside the running product.
pub async fn rebuilt(product: &mut Product, team: &Team) {
    let paths = all(team).await;
    let read = async || -> Vec<(String, String)> {
        let mut answers = Vec::new();
        for path in &paths {
            let answer = team.viewer.get(path).await;
            assert_eq!(answer.status, 200, "{answer}");
            answers.push((path.clone(), timeless(&answer.body)));
        }
        answers
    };
    // Events that are still under way must not look like a difference.
    let before = eventually("nothing changes any more", PATIENCE, || async {
        let first = read().await;
        tokio::time::sleep(Duration::from_millis(300)).await;
        let second = read().await;
        match first.iter().zip(&second).find(|(a, b)| a != b) {
            None => Ok(second),
            Some((a, b)) => Err(different(a, b)),
        }
    })
    .await;
    for projection in ["analytics", "statuses", "analytics"] {
        let mut command = product.command(&["rebuild", projection, "--json"]);
        command.env("AEGIS_LISTEN", product.base.trim_start_matches("http://"));
        let output = tokio::task::spawn_blocking(move || command.output().expect("aegis runs")).await.unwrap();
        let (said, why) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success(), "aegis rebuild {projection}: {said} {why}");
        eventually("the rebuilt projection says the same", PATIENCE, || async {
            let after = read().await;
            match before.iter().zip(&after).find(|(a, b)| a != b) {
                None => Ok(()),
                Some((a, b)) => Err(different(a, b)),
            }
        })
        .await;
    }
}

/// An answer without what says when it was made.
fn timeless(body: &[u8]) -> String {
    let text = String::from_utf8_lossy(body).into_owned();
    let Ok(mut value) = serde_json::from_str::<Value>(&text) else {
        // A picture and the page carry the moment as a text: as many letters in every one.
        return text.chars().map(|letter| if letter.is_ascii_digit() { '0' } else { letter }).collect();
    };
    if let Some(fields) = value.as_object_mut() {
        fields.remove("generated_at");
        fields.remove("metadata");
        fields.remove("description");
    }
    value.to_string()
}

fn different((path, a): &(String, String), (_, b): &(String, String)) -> String {
    let at = a.bytes().zip(b.bytes()).take_while(|(a, b)| a == b).count();
    let part = |text: &str| text.chars().skip(at.saturating_sub(80)).take(300).collect::<String>();
    format!("{path}:\n{}\n{}", part(a), part(b))
}
