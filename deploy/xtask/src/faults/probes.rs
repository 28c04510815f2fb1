//! What is asked all the time, so that it is seen what goes on and when all is well again.

use std::time::{Duration, Instant};

use serde_json::json;

use super::client::{Ask, Client};
use super::site::{Site, rows};
use crate::ports;

/// All has to be well within this.
pub const RECOVERY: Duration = Duration::from_secs(10);
/// So long it is looked for.
const PATIENCE: Duration = Duration::from_secs(60);

/// One route of each part.
pub fn routes(site: &Site) -> Vec<(&'static str, Ask)> {
    vec![
        ("me", Ask::get("/auth/me")),
        ("tests", Ask::get("/tests?limit=5")),
        ("techniques", Ask::get("/techniques?limit=5")),
        ("metrics", Ask::get("/metrics/summary")),
        ("evidence", Ask::get(format!("/evidence/{}", site.evidence))),
        ("notifications", Ask::get("/notifications?limit=1")),
        ("decoys", Ask::get("/logs?limit=1")),
        ("sources", Ask::get("/data-sources")),
        ("alive", Ask::get("//livez")),
    ]
}

/// How long after `over` every part answered, a change was made, and it was told to whom it concerns; and what did
/// not if that never happened. `waiting`: events waited while it lasted, and are told before that one; then it is
/// enough that they are being told, and how long all of them take is counted as what settles.
pub async fn recovery(site: &Site, waiting: bool, over: Instant) -> Result<Duration, String> {
    let mut why = String::new();
    let before = if waiting { told(site).await } else { None };
    while over.elapsed() < PATIENCE {
        match all_well(site, before, over).await {
            Ok(()) => return Ok(over.elapsed()),
            Err(problem) => why = problem,
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    Err(why)
}

/// How many notifications red has.
async fn told(site: &Site) -> Option<u64> {
    let reply = site.red.client.ask(&Ask::get("/notifications?limit=1")).await.0.ok()?;
    reply.header("x-total-count").parse().ok()
}

async fn all_well(site: &Site, before: Option<u64>, over: Instant) -> Result<(), String> {
    for (what, ask) in routes(site) {
        match site.admin.client.ask(&ask).await.0 {
            Ok(reply) if reply.status == 200 => {}
            Ok(reply) => return Err(format!("{what} answers {}", reply.status)),
            Err(error) => return Err(format!("{what}: {error:#}")),
        }
    }
    if let Some(decoy) = site.decoy {
        super::load::hit(decoy, "/").await.map_err(|error| format!("a decoy: {error:#}"))?;
    }
    let body = json!({"technique_id": site.techniques[0].1, "name": "well again", "platform": "linux"});
    let key = ports::random_hex(16).map_err(|error| error.to_string())?;
    let test = made(&site.red.client, Ask::post("/tests", &body).header("idempotency-key", key)).await?;
    made(&site.red.client, Ask::new("POST", format!("/tests/{test}/start-execution"))).await?;
    while over.elapsed() < PATIENCE {
        if before.is_some() && told(site).await > before {
            return Ok(());
        }
        let list = Ask::get("/notifications?limit=20");
        let told = site.red.client.must(&list).await.map_err(|error| format!("{error:#}"))?;
        if rows(&told).iter().any(|row| row["entity_id"] == test.as_str()) {
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    Err("nobody is told of a change".to_owned())
}

async fn made(client: &Client, ask: Ask) -> Result<String, String> {
    let body = client.must(&ask).await.map_err(|error| format!("{error:#}"))?;
    Ok(body["id"].as_str().unwrap_or_default().to_owned())
}
