//! Analytics over a million tests, three years of history and what the publishers know: reads, how soon an event is in
//! the projection, the rebuild, the export.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};
use tokio::{task::JoinSet, time::sleep};

use super::{
    client::Client,
    figures::{Figures, grouped, percentile},
    home::{Ground, Home},
    knowledge,
    product::{PASSWORD, Product},
    seed,
};

/// Weekly snapshots: three years.
const WEEKS: usize = 156;
/// 691 techniques, 5,155 rules, actors, countermeasures, controls.
const SOURCES: [&str; 7] =
    ["mitre_attack_enterprise", "misp_threat_actors", "d3fend", "sigma", "elastic", "nist_800_53", "csa_ccm"];
/// The gateway keeps an answer for a tenth of a second; who asks later is answered anew.
const ANEW: Duration = Duration::from_millis(105);
/// Times that each read is asked for: what has to be fast, and what else there is.
const ROUNDS: (usize, usize) = (60, 30);
/// What has to be fast.
const HOT: [(&str, &str); 5] = [
    ("summary", "/api/v1/metrics/summary"),
    ("by tactic", "/api/v1/metrics/by-tactic"),
    ("the organisation's score", "/api/v1/scores/organization"),
    ("heatmap", "/api/v1/heatmap"),
    ("operational", "/api/v1/metrics/operational"),
];
/// What else there is.
const MORE: [(&str, &str); 9] = [
    ("heatmap as SVG", "/api/v1/heatmap.svg"),
    ("operational trend of a year", "/api/v1/metrics/operational/trend?period=1y"),
    ("operational by team", "/api/v1/metrics/operational/by-team"),
    ("the plan of ten tests", "/api/v1/scores/plan?tests=10"),
    ("score history of a year", "/api/v1/scores/history?period=1y"),
    ("recent tests", "/api/v1/metrics/recent-tests"),
    ("a page of test results", "/api/v1/reports/test-results"),
    ("remediation status", "/api/v1/reports/remediation-status"),
    ("the page for the board", "/api/v1/reports/coverage-html"),
];
/// What needs the publishers' files.
const KNOWN: [(&str, &str); 4] = [
    ("a threat actor's score", "/api/v1/scores/threat-actor/G0007"),
    ("its heatmap", "/api/v1/heatmap?threat_actor_id=G0007"),
    ("NIST 800-53: summary", "/api/v1/compliance/nist_800_53/summary"),
    ("NIST 800-53: gaps", "/api/v1/compliance/nist_800_53/gaps"),
];

/// Measures all of it, with a product of its own; gives what is left of it, for others who need as many tests.
pub async fn measure(ground: &Ground, figures: &mut Figures) -> Result<Home> {
    let home = Home::make(ground).await?;
    let (product, _) = Product::start(&home).await?;
    let known = knowledge::present(&home);
    if known {
        knowledge::sync(&product.login("admin", PASSWORD).await?, &home, &SOURCES).await?;
    } else {
        figures.note("analytics without rules, actors and controls: the publishers' files are not beside the checkout");
    }
    product.stop().await?;
    seed::users(&home, 20).await?;
    seed::timed_tests(&home, ground.tests, figures).await?;

    let (product, _) = Product::start(&home).await?;
    rebuild(&product, &home, figures).await?;
    let mut admin = product.login("admin", PASSWORD).await?;
    admin.send("POST", "/api/v1/snapshots", Some(&json!({ "name": "The model of all others" })), 201).await?;
    product.stop().await?;
    seed::snapshots(&home, WEEKS).await?;

    let (product, took) = Product::start(&home).await?;
    let name = format!("start to ready, {} tests projected", grouped(ground.tests));
    figures.add(&name, took.as_secs_f64() * 1000.0, "ms", None);
    let admin = product.login("admin", PASSWORD).await?;
    // What was written last is still on its way to the disk.
    sleep(Duration::from_secs(3)).await;
    reads(&admin, known, figures).await?;
    events(&admin, figures).await?;
    sleep(Duration::from_secs(3)).await;
    export(&product, &admin, ground.tests, figures).await?;
    product.stop().await?;
    Ok(home)
}

/// Of the catalogue's statuses, which the tests decide, and of all that analytics has.
async fn rebuild(product: &Product, home: &Home, figures: &mut Figures) -> Result<()> {
    for (projection, limit) in [("statuses", None), ("analytics", Some(("<", 60.0)))] {
        let idle = product.memory_mb("RssAnon")?;
        let began = Instant::now();
        let (_, peak) = product.peak_mb(product.command(home, &["rebuild", projection])).await?;
        figures.add(&format!("rebuild of {projection}"), began.elapsed().as_secs_f64(), "s", limit);
        figures.add("  memory above idle", peak - idle, "MB", None);
    }
    Ok(())
}

async fn reads(admin: &Client, known: bool, figures: &mut Figures) -> Result<()> {
    let mut client = admin.another().await?;
    let began = Instant::now();
    client.get_bytes("/api/v1/metrics/operational").await?;
    figures.add("operational, asked the first time", began.elapsed().as_secs_f64() * 1000.0, "ms", None);
    let known = if known { KNOWN.as_slice() } else { &[] };
    for (name, path) in HOT.iter().chain(&MORE).chain(known) {
        let limit = HOT.iter().any(|(hot, _)| hot == name).then_some(("<", 20.0));
        let mut times = Vec::new();
        for _ in 0..limit.map_or(ROUNDS.1, |_| ROUNDS.0) {
            times.push(timed(&mut client, path).await?);
            sleep(ANEW).await;
        }
        figures.add(&format!("{name}, p95"), percentile(&mut times, 95.0), "ms", limit);
    }
    Ok(())
}

/// Milliseconds that a GET takes.
async fn timed(client: &mut Client, path: &str) -> Result<f64> {
    let began = Instant::now();
    client.get_bytes(path).await.with_context(|| path.to_owned())?;
    Ok(began.elapsed().as_secs_f64() * 1000.0)
}

/// Tests begin at a steady pace, in batches; how many are under way is read all the time.
async fn events(admin: &Client, figures: &mut Figures) -> Result<()> {
    const BATCH: usize = 50;
    const PACE: usize = 500;
    const BATCHES: usize = PACE * 20 / BATCH;
    const CLIENTS: usize = 4;
    let mut client = admin.another().await?;
    let mut drafts = Vec::new();
    while drafts.len() < BATCH * BATCHES {
        let list = client.get(&format!("/api/v1/tests?state=draft&limit=200&offset={}", drafts.len())).await?;
        let rows = list.as_array().context("the list of tests is no array")?;
        ensure!(!rows.is_empty(), "there are only {} drafts", drafts.len());
        drafts.extend(rows.iter().map(|row| row["id"].clone()));
    }
    let before = under_way(&mut client).await?;
    let began = Instant::now();
    let mut senders = JoinSet::new();
    for sender in 0..CLIENTS {
        let mut client = admin.another().await?;
        let batches: Vec<(usize, Vec<Value>)> = drafts
            .chunks(BATCH)
            .take(BATCHES)
            .map(<[Value]>::to_vec)
            .enumerate()
            .skip(sender)
            .step_by(CLIENTS)
            .collect();
        senders.spawn(async move {
            let mut answered = Vec::new();
            for (n, ids) in batches {
                let due = Duration::from_secs_f64((n * BATCH) as f64 / PACE as f64);
                tokio::time::sleep_until((began + due).into()).await;
                let body = json!({ "ids": ids, "move": "start_execution" });
                client.send("POST", "/api/v1/tests/bulk", Some(&body), 200).await?;
                answered.push(Instant::now());
            }
            anyhow::Ok(answered)
        });
    }
    let mut reader = admin.another().await?;
    let beside = tokio::spawn(async move {
        let mut times = Vec::new();
        while began.elapsed() < Duration::from_secs((BATCHES * BATCH / PACE) as u64) {
            for (_, path) in HOT {
                times.push(timed(&mut reader, path).await?);
                sleep(ANEW / 5).await;
            }
        }
        anyhow::Ok(times)
    });
    let all = before + (BATCH * BATCHES) as u64;
    let mut seen = Vec::new();
    loop {
        let count = under_way(&mut client).await?;
        seen.push((Instant::now(), count));
        if count >= all {
            break;
        }
        if began.elapsed() > Duration::from_secs(120) {
            bail!("the projection never had all of the events: {count} of {all}");
        }
        sleep(Duration::from_millis(5)).await;
    }
    let mut answered = Vec::new();
    while let Some(done) = senders.join_next().await {
        answered.extend(done??);
    }
    answered.sort();
    let took = answered.last().map_or(Duration::ZERO, |last| *last - began);
    let mut late = Vec::new();
    for (n, at) in answered.iter().enumerate() {
        let count = before + ((n + 1) * BATCH) as u64;
        let (visible, _) = seen.iter().find(|(_, seen)| *seen >= count).context("an event was never seen")?;
        late.push(visible.saturating_duration_since(*at).as_secs_f64() * 1000.0);
    }
    let rate = (BATCH * BATCHES) as f64 / took.as_secs_f64();
    figures.add("events a second", rate, "events/s", Some((">", PACE as f64 * 0.98)));
    figures.add("  in the projection after, p99", percentile(&mut late, 99.0), "ms", Some(("<", 250.0)));
    figures.add("  in the projection after, longest", percentile(&mut late, 100.0), "ms", Some(("<", 250.0)));
    figures.add("  the five reads meanwhile, p95", percentile(&mut beside.await??, 95.0), "ms", None);
    Ok(())
}

/// Tests that red executes, as the projection has it.
async fn under_way(client: &mut Client) -> Result<u64> {
    let counts = client.get("/api/v1/metrics/test-pipeline").await?;
    counts["red_executing"].as_u64().context("the pipeline has no count")
}

/// The CSV of all tests.
async fn export(product: &Product, admin: &Client, tests: usize, figures: &mut Figures) -> Result<()> {
    let mut best = 0.0_f64;
    let mut most = 0.0_f64;
    for _ in 0..2 {
        let idle = product.memory_mb("RssAnon")?;
        let mut client = admin.another().await?;
        let began = Instant::now();
        let ((bytes, lines), peak) = product.peak_mb(client.drain("/api/v1/reports/test-results.csv")).await?;
        ensure!(lines > tests as u64, "the export has {lines} lines");
        best = best.max(bytes as f64 / 1e6 / began.elapsed().as_secs_f64());
        most = most.max(peak - idle);
    }
    figures.add(&format!("CSV of {} tests", grouped(tests)), best, "MB/s", Some((">", 50.0)));
    figures.add("  memory above idle", most, "MB", Some(("<", 50.0)));
    Ok(())
}
