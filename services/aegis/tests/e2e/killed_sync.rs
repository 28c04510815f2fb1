//! A sync that is killed half way has changed nothing or everything, and is simply run again.

use std::time::Duration;

use serde_json::json;

use crate::harness::{Api, Mode, Product, eventually};

/// Active techniques of the document.
const ACTIVE: u64 = 679;
/// A replica whose signs of life ended is waited for before it is given up.
const PATIENCE: Duration = Duration::from_secs(60);

pub async fn scenario(product: &mut Product) {
    let Some(data) = aegis_testkit::data_dir() else { return };
    let file = std::fs::canonicalize(data.join("attack/enterprise-attack-17.1.json.zst")).expect("the document");
    let admin = product.admin().await;
    let sources = admin.get("/data-sources").await.json(200);
    let source = sources.as_array().unwrap().iter().find(|row| row["name"] == "mitre_attack_enterprise").unwrap();
    let path = format!("/data-sources/{}", source["id"].as_str().unwrap());
    let url = format!("file://{}", file.display());
    admin.patch(&path, &json!({"url": url})).await.json(200);

    let victims: &[&str] = match product.mode {
        Mode::Embedded => &["aegis", "aegis"],
        Mode::Processes => &["catalog", "intel"],
    };
    for (victim, phase) in victims.iter().zip(["applying", "parsing"]) {
        let before = catalogue(&admin).await;
        let job = eventually("a sync begins", PATIENCE, || async {
            let answer = admin.act(&format!("{path}/sync?async=true")).await;
            if answer.status == 409 { Err(answer.to_string()) } else { Ok(answer.json(202)) }
        })
        .await;
        reaches(&admin, job["id"].as_str().unwrap(), phase).await;
        product.kill9(victim);
        product.ensure_running().await;
        let after = catalogue(&admin).await;
        assert!(after == before || after.0 == ACTIVE, "half a document: {before:?}, then {after:?}");
    }
    // Nothing of the killed ones stands in the way for long.
    let result = eventually("the sync is run again", PATIENCE, || async {
        let answer = admin.act(&format!("{path}/sync")).await;
        if answer.status == 200 { Ok(answer.json(200)) } else { Err(answer.to_string()) }
    })
    .await;
    let count = |name: &str| result[name].as_u64().unwrap();
    assert_eq!(count("new") + count("updated") + count("unchanged"), 823, "{result}");
    assert_eq!(admin.total("/techniques").await, ACTIVE);
    eventually("coverage counts the same techniques", Duration::from_secs(10), || async {
        let summary = admin.get("/metrics/summary").await.json(200);
        if summary["total_techniques"] == ACTIVE { Ok(()) } else { Err(summary.to_string()) }
    })
    .await;
    let row = admin.get("/data-sources").await.json(200);
    let row = row.as_array().unwrap().iter().find(|row| row["id"] == source["id"]).unwrap();
    assert_eq!(row["last_status"], "succeeded", "{row}");
    admin.patch(&path, &json!({"url": source["url"]})).await.json(200);
    product.assert_alive();
}

/// How many techniques there are, with and without those that are gone.
async fn catalogue(admin: &Api) -> (u64, u64) {
    (admin.total("/techniques").await, admin.total("/techniques?include_revoked=true").await)
}

/// Waits until the job is in this phase, or past it.
async fn reaches(admin: &Api, job: &str, phase: &str) {
    const PHASES: [&str; 4] = ["fetching", "parsing", "applying", "done"];
    let position = |name: &str| PHASES.iter().position(|phase| *phase == name);
    eventually(&format!("the sync is {phase}"), Duration::from_secs(30), || async {
        let job = admin.get(&format!("/system/jobs/{job}")).await.json(200);
        let there = position(job["phase"].as_str().unwrap()) >= position(phase) || job["status"] != "running";
        if there { Ok(()) } else { Err(job.to_string()) }
    })
    .await;
}
