//! Identity's figures: what verifying a token costs, what a storm of logins does to others, pages of many users and of a
//! long audit trail, and how fast its chain is walked.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

use super::{
    client::Client,
    figures::{Figures, percentile},
    home::Home,
    product::{PASSWORD, Product},
    seed,
};

/// Users that are made.
const USERS: usize = 10_000;
/// Records that the audit trail has at least, when it is read.
const RECORDS: u64 = 100_000;
/// Pages that are read of each list.
const PAGES: usize = 300;
/// The route that others read meanwhile.
const READ: &str = "/api/v1/techniques/T1059.001";

/// Measures all of it; leaves the product with many users and a long audit trail.
pub async fn measure(product: &Product, admin: &Client, home: &Home, figures: &mut Figures) -> Result<()> {
    verification(product, admin, figures).await?;
    storm(product, admin, figures).await?;
    users(home, admin, figures).await?;
    audit(product, admin, figures).await?;
    walk(product, home, figures).await
}

/// The first request with a token against the next ones with the same: the difference is the signature.
async fn verification(product: &Product, admin: &Client, figures: &mut Figures) -> Result<()> {
    const TOKENS: usize = 150;
    const AGAIN: usize = 5;
    let (mut first, mut next) = (Vec::new(), Vec::new());
    let mut warm = admin.another().await?;
    for _ in 0..TOKENS {
        let fresh = product.login("admin", PASSWORD).await?;
        // The login made the gateway forget its answers; somebody else asks first, and over the same connection, so
        // that only the token is new.
        for _ in 0..AGAIN {
            warm.get_bytes(READ).await?;
        }
        warm.set_token(fresh.token());
        let client = &mut warm;
        for n in 0..=AGAIN {
            let began = Instant::now();
            client.get_bytes(READ).await?;
            let took = began.elapsed().as_secs_f64() * 1e6;
            if n == 0 { first.push(took) } else { next.push(took) }
        }
    }
    let (first, next) = (percentile(&mut first, 50.0), percentile(&mut next, 50.0));
    figures.add("request with a token, median", next, "µs", None);
    figures.add("  a token's very first request adds", first - next, "µs", None);
    // The same refusal of the same route: once without a token, so that nothing is verified, once with one that has
    // been ended, which is verified like any other and then found among the ended ones.
    let mut ended = product.login("admin", PASSWORD).await?;
    ended.send("POST", "/api/v1/auth/logout", None, 200).await?;
    let mut nobody = Client::connect(&product.address, None).await?;
    let (mut without, mut with) = (Vec::new(), Vec::new());
    for _ in 0..TOKENS * AGAIN {
        for (client, times) in [(&mut nobody, &mut without), (&mut ended, &mut with)] {
            let began = Instant::now();
            client.send("GET", READ, None, 401).await?;
            times.push(began.elapsed().as_secs_f64() * 1e6);
        }
    }
    let (without, with) = (percentile(&mut without, 50.0), percentile(&mut with, 50.0));
    figures.add("a refusal without a token, median", without, "µs", None);
    figures.add("  verification of a token adds", with - without, "µs", Some(("<", 60.0)));
    Ok(())
}

/// The p99 of a route at a steady pace, alone and while sixteen clients sign in as fast as they can.
async fn storm(product: &Product, admin: &Client, figures: &mut Figures) -> Result<()> {
    const CLIENTS: usize = 16;
    const LOAD: Duration = Duration::from_secs(8);
    let mut quiet = paced(admin, LOAD).await?;
    let end = Instant::now() + LOAD + Duration::from_secs(2);
    let mut logins = tokio::task::JoinSet::new();
    for _ in 0..CLIENTS {
        let mut client = Client::connect(&product.address, None).await?;
        logins.spawn(async move {
            let body = json!({ "username": "admin", "password": PASSWORD });
            let mut count = 0_u64;
            while Instant::now() < end {
                client.send("POST", "/api/v1/auth/login", Some(&body), 200).await?;
                count += 1;
            }
            anyhow::Ok(count)
        });
    }
    tokio::time::sleep(Duration::from_secs(1)).await;
    let mut stormy = paced(admin, LOAD).await?;
    let mut count = 0;
    while let Some(done) = logins.join_next().await {
        count += done??;
    }
    let (quiet, stormy) = (percentile(&mut quiet, 99.0), percentile(&mut stormy, 99.0));
    figures.add("logins a second, 16 clients", count as f64 / (LOAD.as_secs_f64() + 2.0), "logins/s", None);
    figures.add("p99 of a read, 4 clients, quiet", quiet, "ms", None);
    figures.add("p99 of a read during the storm", stormy, "ms", None);
    figures.add("  ratio", stormy / quiet, "times", Some(("<", 2.0)));
    Ok(())
}

/// Milliseconds of reads by four clients that each ask about two hundred times a second.
async fn paced(admin: &Client, load: Duration) -> Result<Vec<f64>> {
    let mut readers = tokio::task::JoinSet::new();
    for _ in 0..4 {
        let mut client = admin.another().await?;
        readers.spawn(async move {
            let mut times = Vec::new();
            let end = Instant::now() + load;
            let mut pace = tokio::time::interval(Duration::from_millis(5));
            pace.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
            while Instant::now() < end {
                pace.tick().await;
                let began = Instant::now();
                client.get_bytes(READ).await?;
                times.push(began.elapsed().as_secs_f64() * 1000.0);
            }
            anyhow::Ok(times)
        });
    }
    let mut all = Vec::new();
    while let Some(times) = readers.join_next().await {
        all.extend(times??);
    }
    Ok(all)
}

async fn users(home: &Home, admin: &Client, figures: &mut Figures) -> Result<()> {
    // By REST they would take minutes: each password is hashed on purpose slowly.
    seed::users(home, USERS).await?;
    let pages = |n: usize| format!("/api/v1/users?offset={}", n * 7919 % (USERS - 1000));
    let p95 = read(admin, pages).await?;
    figures.add("10,000 users: a page of 1,000, p95", p95, "ms", Some(("<", 20.0)));
    let pages = |n: usize| format!("/api/v1/users?search=on-{:03}&limit=50&role=viewer&is_active=true", n);
    figures.add("10,000 users: a search, p95", read(admin, pages).await?, "ms", Some(("<", 20.0)));
    Ok(())
}

async fn audit(product: &Product, admin: &Client, figures: &mut Figures) -> Result<()> {
    const CLIENTS: usize = 32;
    let total = async || -> Result<u64> {
        let page: Value = admin.another().await?.get("/api/v1/audit-logs?limit=1").await?;
        page["total"].as_u64().context("a page of the audit trail has no total")
    };
    // A refusal is a record, and the cheapest there is.
    let missing = RECORDS.saturating_sub(total().await?);
    let mut refused = tokio::task::JoinSet::new();
    for n in 0..CLIENTS {
        let mut client = product.login(&format!("person-{n:05}"), PASSWORD).await?;
        refused.spawn(async move {
            for _ in 0..missing / CLIENTS as u64 + 1 {
                client.send("GET", "/api/v1/audit-logs/actions", None, 403).await?;
            }
            anyhow::Ok(())
        });
    }
    while let Some(done) = refused.join_next().await {
        done??;
    }
    let began = Instant::now();
    while total().await? < RECORDS {
        if began.elapsed() > Duration::from_secs(120) {
            bail!("the audit trail never had {RECORDS} records");
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    let someone: Value = admin.another().await?.get("/api/v1/users?search=person-00001").await?;
    let someone = someone[0]["id"].as_str().context("a user has no id")?.to_owned();
    let day = "start_date=2020-01-01T00:00:00Z&end_date=2100-01-01T00:00:00Z";
    let pages = |n: usize| {
        let offset = n * 31 % 3000;
        match n % 6 {
            0 => format!("/api/v1/audit-logs?limit=100&offset={offset}"),
            1 => format!("/api/v1/audit-logs?action=access_denied&limit=100&offset={offset}"),
            2 => format!("/api/v1/audit-logs?entity_type=user&{day}&offset={offset}"),
            3 => format!("/api/v1/audit-logs?user_id={someone}&offset={}", n % 300),
            4 => format!("/api/v1/audit-logs?user_id={someone}&action=access_denied&entity_type=method&{day}"),
            _ => format!("/api/v1/audit-logs?action=access_denied&entity_type=method&{day}&offset={offset}"),
        }
    };
    let p95 = read(admin, pages).await?;
    figures.add("100,000 audit records: a filtered page, p95", p95, "ms", Some(("<", 20.0)));
    Ok(())
}

/// Reads pages one after the other; the p95 in milliseconds.
async fn read(admin: &Client, path: impl Fn(usize) -> String) -> Result<f64> {
    let mut client = admin.another().await?;
    let mut times = Vec::new();
    for n in 0..PAGES {
        let began = Instant::now();
        client.get_bytes(&path(n)).await?;
        times.push(began.elapsed().as_secs_f64() * 1000.0);
    }
    Ok(percentile(&mut times, 95.0))
}

/// `aegis audit verify`, beside the running product.
async fn walk(product: &Product, home: &Home, figures: &mut Figures) -> Result<()> {
    let mut best = 0.0_f64;
    for _ in 0..3 {
        let said = product.command(home, &["audit", "verify"]).await?;
        best = best.max(said["records_per_second"].as_f64().context("no records_per_second")?);
    }
    figures.add("audit chain: records verified a second", best, "records/s", Some((">", 500_000.0)));
    Ok(())
}
