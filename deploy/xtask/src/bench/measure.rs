//! The figures of hot reads and of the workflow; those of the knowledge base and of identity are apart.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::json;

use super::{
    Part, analytics,
    client::{self, Client},
    deception, evidence,
    figures::{self, Figures},
    home::{Ground, Home},
    identity, knowledge,
    product::{self, Product},
    tests,
};

/// Measures the parts that are wanted, with a product of its own.
pub async fn all(ground: &Ground, load: Duration, only: Option<Part>, figures: &mut Figures) -> Result<()> {
    let home = Home::make(ground).await?;
    figures.begin("start");
    // The first start fills the catalogue; the second is what an operator sees every day.
    let (first, took) = Product::start(&home).await?;
    figures.add("first start to ready", took.as_secs_f64() * 1000.0, "ms", None);
    first.stop().await?;
    let (mut product, took) = Product::start(&home).await?;
    figures.add("start to ready, catalogue present", took.as_secs_f64() * 1000.0, "ms", Some(("<", 1000.0)));
    tokio::time::sleep(Duration::from_secs(3)).await;
    figures.add("idle memory", product.memory_mb("VmRSS")?, "MB", Some(("<", 120.0)));

    let mut admin = product.login("admin", product::PASSWORD).await?;
    let wanted = |part: Part| only.is_none_or(|only| only == part);
    if wanted(Part::Reads) {
        product.quiet().await?;
        figures.begin("reads");
        reads(&product, &admin, load, figures).await?;
    }
    if wanted(Part::Moves) {
        product.quiet().await?;
        figures.begin("moves");
        moves(&admin, figures).await?;
    }
    if wanted(Part::Knowledge) {
        // The memory that a sync takes is that of a product that has done nothing else.
        product.stop().await?;
        (product, _) = Product::start(&home).await?;
        admin = product.login("admin", product::PASSWORD).await?;
        figures.begin("knowledge");
        knowledge::measure(&product, &admin, &home, figures).await?;
    }
    if wanted(Part::Identity) {
        product.quiet().await?;
        figures.begin("identity");
        identity::measure(&product, &admin, &home, figures).await?;
    }
    // The others have products of their own; this one would be in their way.
    product.stop().await?;
    home.remove().await?;
    if wanted(Part::Evidence) {
        figures.begin("evidence");
        evidence::measure(ground, figures).await?;
    }
    let mut seeded = None;
    if wanted(Part::Analytics) {
        figures.begin("analytics");
        seeded = Some(analytics::measure(ground, figures).await?);
    }
    if wanted(Part::Tests) {
        figures.begin("tests");
        tests::measure(ground, seeded.take(), figures).await?;
    }
    if let Some(home) = seeded {
        home.remove().await?;
    }
    if wanted(Part::Deception) {
        figures.begin("deception");
        deception::measure(ground, load, figures).await?;
    }
    figures.end();
    Ok(())
}

/// Requests a second of two hot routes, each against a bare axum route that answers the same bytes from memory.
async fn reads(product: &Product, admin: &Client, load: Duration, figures: &mut Figures) -> Result<()> {
    const CONNECTIONS: usize = 16;
    for path in ["/api/v1/metrics/summary", "/api/v1/techniques/T1059.001"] {
        let body = admin.another().await?.get_bytes(path).await?;
        let floor = product::Floor::start(&body).await?;
        let (mut bare, mut ours) = (0.0, 0.0);
        // Twice, in turn, so that a busy moment of the machine meets both.
        for _ in 0..2 {
            bare += client::rate(&floor.address, "/", None, CONNECTIONS, load / 2).await?;
            ours += client::rate(&product.address, path, admin.token(), CONNECTIONS, load / 2).await?;
        }
        floor.stop().await?;
        figures.add(&format!("GET {path}"), ours / 2.0, "requests/s", None);
        figures.add("  a bare axum route, the same bytes", bare / 2.0, "requests/s", None);
        figures.add("  ratio", ours / bare * 100.0, "%", Some((">", 40.0)));
    }
    Ok(())
}

/// Eight clients walk tests through the workflow; then the status of each technique has to show it.
async fn moves(admin: &Client, figures: &mut Figures) -> Result<()> {
    const CLIENTS: usize = 8;
    const TESTS: usize = 40;
    let listed = admin.another().await?.get("/api/v1/techniques?limit=600").await?;
    let techniques: Vec<(String, String)> = listed
        .as_array()
        .context("the list of techniques is no array")?
        .iter()
        .filter_map(|row| Some((row["id"].as_str()?.to_owned(), row["mitre_id"].as_str()?.to_owned())))
        .collect();
    if techniques.len() < CLIENTS * TESTS {
        bail!("there are only {} techniques", techniques.len());
    }
    let mut workers = tokio::task::JoinSet::new();
    for worker in 0..CLIENTS {
        let mut client = admin.another().await?;
        let mine: Vec<_> = techniques[worker * TESTS..(worker + 1) * TESTS].to_vec();
        workers.spawn(async move {
            let mut times = Vec::new();
            let mut fresh = Vec::new();
            for (id, mitre_id) in mine {
                walk(&mut client, &id, &mitre_id, &mut times, &mut fresh).await?;
            }
            anyhow::Ok((times, fresh))
        });
    }
    let began = Instant::now();
    let (mut times, mut fresh) = (Vec::new(), Vec::new());
    while let Some(done) = workers.join_next().await {
        let (some, late) = done??;
        times.extend(some);
        fresh.extend(late);
    }
    let rate = times.len() as f64 / began.elapsed().as_secs_f64();
    figures.add("workflow move, 8 clients, p50", figures::percentile(&mut times, 50.0), "ms", None);
    figures.add("workflow move, 8 clients, p99", figures::percentile(&mut times, 99.0), "ms", Some(("<", 15.0)));
    figures.add("workflow moves a second", rate, "moves/s", None);
    figures.add("new status readable after, p99", figures::percentile(&mut fresh, 99.0), "ms", Some(("<", 250.0)));
    figures.add("new status readable after, longest", figures::percentile(&mut fresh, 100.0), "ms", Some(("<", 250.0)));
    Ok(())
}

/// One test from draft to validated. Times in milliseconds: of each move, and until the new status could be read.
async fn walk(
    client: &mut Client,
    technique_id: &str,
    mitre_id: &str,
    times: &mut Vec<f64>,
    fresh: &mut Vec<f64>,
) -> Result<()> {
    times.extend(validated(client, technique_id).await?);
    let began = Instant::now();
    loop {
        let technique = client.get(&format!("/api/v1/techniques/{mitre_id}")).await?;
        if technique["status_global"] == "validated" {
            fresh.push(began.elapsed().as_secs_f64() * 1000.0);
            return Ok(());
        }
        if began.elapsed() > Duration::from_secs(10) {
            bail!("the status of {mitre_id} never became validated");
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Makes a test and takes it from draft to validated; milliseconds of each move.
pub async fn validated(client: &mut Client, technique_id: &str) -> Result<[f64; 4]> {
    let test = json!({ "technique_id": technique_id, "name": "bench", "platform": "windows" });
    let test = client.send("POST", "/api/v1/tests", Some(&test), 201).await?;
    let base = format!("/api/v1/tests/{}", test["id"].as_str().context("a test has no id")?);
    let validate = json!({ "result": "detected" });
    let mut times = [0.0; 4];
    for (time, (step, body)) in times.iter_mut().zip([
        ("start-execution", None),
        ("submit-red", None),
        ("submit-blue", None),
        ("validate", Some(&validate)),
    ]) {
        let began = Instant::now();
        client.send("POST", &format!("{base}/{step}"), body, 200).await?;
        *time = began.elapsed().as_secs_f64() * 1000.0;
    }
    Ok(times)
}
