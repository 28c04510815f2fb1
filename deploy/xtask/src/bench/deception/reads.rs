//! Millions of events: how fast they are found, counted by time, and who did it.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, bail};
use tokio::time::sleep;

use super::{
    super::{
        client::Client,
        figures::{Figures, grouped, percentile},
        home::Home,
        product::{PASSWORD, Product},
        seed,
    },
    sample::{address, mix},
};

/// Times that each read is asked for; a word over everything fewer times.
const ROUNDS: u64 = 200;
const WORD_ROUNDS: u64 = 20;
/// How long the product may take to index what was written beside it.
const PATIENCE: Duration = Duration::from_secs(1_200);
/// What is looked for: what that is, and how it is typed in each round.
type Search = (&'static str, fn(u64) -> String);
/// Keys that find events.
const KEYS: [Search; 6] = [
    ("attacker", |n| format!("attacker:{}", address(skewed(n)))),
    ("decky", |n| format!("decky:decky-{:03}", mix(n) % 500)),
    ("service", |n| format!("service:{}", ["ssh", "telnet", "http", "redis"][n as usize % 4])),
    ("field", |n| format!("password:admin{}", mix(n) % 625 * 8)),
    ("attacker and event", |n| format!("attacker:{}%20event:command", address(skewed(n)))),
    ("service, event and technique", |n| {
        format!("service:ssh%20event:command%20technique:{}", ["T1082", "T1105", "T1057"][n as usize % 3])
    }),
];
/// Words that may be anywhere: some are in many events, some in few, some in none.
const WORDS: [Search; 3] = [
    ("in many events", |n| ["libssh", "login", "chmod", "wget"][n as usize % 4].to_owned()),
    ("in few", |n| format!("198.18.{}.{}", 100 + n, 2 * n)),
    ("in none", |n| format!("nowhere{n}")),
];
const ORDERS: [&str; 3] = ["recent", "active", "traversals"];

/// Fills the store of a product that is stopped, and measures.
pub async fn measure(home: &Home, events: u64, figures: &mut Figures) -> Result<()> {
    let began = Instant::now();
    // What came in before counts; that may be more than was asked for.
    let (events, new) = seed::events(home, events).await?;
    let many = grouped(usize::try_from(events)?);
    figures.add("seeding events and their attackers", began.elapsed().as_secs_f64(), "s", None);
    figures.add("  events that are new", new as f64, "events", None);

    let (product, took) = Product::start(home).await?;
    figures.add(&format!("start to ready, {many} events"), took.as_secs_f64() * 1000.0, "ms", None);
    let admin = product.login("admin", PASSWORD).await?;
    let began = Instant::now();
    indexed(&admin, events).await?;
    if new > 0 {
        let seconds = began.elapsed().as_secs_f64();
        figures.add("  until those written beside it are in the search index", seconds, "s", None);
        figures.add("  indexed a second", new as f64 / seconds, "events/s", None);
    }
    // What was written last is still on its way to the disk.
    sleep(Duration::from_secs(3)).await;

    let mut client = admin.another().await?;
    let pages = |n: u64| format!("/api/v1/logs?limit=50&offset={}", n % 7);
    let p95 = p95(&mut client, ROUNDS, pages).await?;
    figures.add(&format!("{many} events: first page, p95"), p95, "ms", Some(("<", 50.0)));
    for (key, search) in KEYS {
        let p95 = self::p95(&mut client, ROUNDS, |n| format!("/api/v1/logs?search={}", search(n))).await?;
        figures.add(&format!("  search by {key}, p95"), p95, "ms", Some(("<", 50.0)));
    }
    let today = i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs())? / 86_400;
    let a_day = |n: u64| {
        let day = date(today - 1 - n as i64 % 27);
        format!("/api/v1/logs/histogram?start_time={day}&end_time={day}&interval_minutes={}", 5 + n / 27)
    };
    let p95 = self::p95(&mut client, ROUNDS, a_day).await?;
    figures.add("  histogram of a day, p95", p95, "ms", Some(("<", 50.0)));
    let of_key = |n: u64| format!("{}&search={}", a_day(n), KEYS[n as usize % 3].1(n));
    let p95 = self::p95(&mut client, ROUNDS, of_key).await?;
    figures.add("  histogram of a day, of a key, p95", p95, "ms", Some(("<", 50.0)));
    for (what, word) in WORDS {
        let p95 = self::p95(&mut client, WORD_ROUNDS, |n| format!("/api/v1/logs?search={}", word(n))).await?;
        figures.add(&format!("  a bare word that is {what}, p95"), p95, "ms", Some(("<", 1000.0)));
    }
    attackers(&mut client, figures).await?;
    figures.add("memory of the product, that has answered all this", product.memory_mb("VmRSS")?, "MB", None);
    product.stop().await
}

async fn attackers(client: &mut Client, figures: &mut Figures) -> Result<()> {
    let page = client.get("/api/v1/attackers?limit=1").await?;
    let all = page["total"].as_u64().context("a page of attackers has no total")?;
    if all < seed::ATTACKERS * 9 / 10 {
        bail!("there are only {all} attackers");
    }
    let many = grouped(usize::try_from(seed::ATTACKERS)?);
    let in_order =
        |n: u64| format!("/api/v1/attackers?limit=50&sort_by={}&offset={}", ORDERS[n as usize % 3], n / 3 * 50);
    let p95 = self::p95(client, ROUNDS, in_order).await?;
    figures.add(&format!("{many} attackers: a page, p95"), p95, "ms", Some(("<", 30.0)));
    let of_service =
        |n: u64| format!("/api/v1/attackers?limit=50&service=ssh&sort_by={}&offset={n}", ORDERS[n as usize % 3]);
    let p95 = self::p95(client, ROUNDS, of_service).await?;
    figures.add("  a page of those of a service, p95", p95, "ms", Some(("<", 30.0)));
    let found = |n: u64| format!("/api/v1/attackers?search=decky:decky-{:03}", mix(n) % 500);
    let p95 = self::p95(client, ROUNDS, found).await?;
    figures.add("  a page of those on a decky, p95", p95, "ms", None);
    Ok(())
}

/// Waits until what was written beside the product can be found.
async fn indexed(admin: &Client, events: u64) -> Result<()> {
    let mut client = admin.another().await?;
    let began = Instant::now();
    while began.elapsed() < PATIENCE {
        // Until then a search waits, and may wait for too long.
        match client.get("/api/v1/logs?search=service:ssh&limit=1").await {
            Ok(page) if page["total"].as_u64() >= Some((events / 4).min(10_000)) => return Ok(()),
            Ok(page) => bail!("a search finds {} events", page["total"]),
            Err(error) => eprintln!("not indexed yet after {:.0} s: {error:#}", began.elapsed().as_secs_f64()),
        }
        sleep(Duration::from_millis(250)).await;
        client = admin.another().await?;
    }
    bail!("the events were never indexed")
}

/// Milliseconds that 95 of 100 answers do not exceed.
async fn p95(client: &mut Client, rounds: u64, path: impl Fn(u64) -> String) -> Result<f64> {
    let mut times = Vec::new();
    for round in 0..rounds {
        let path = path(round);
        let began = Instant::now();
        client.get_bytes(&path).await.with_context(|| path.clone())?;
        times.push(began.elapsed().as_secs_f64() * 1000.0);
    }
    Ok(percentile(&mut times, 95.0))
}

/// One of the attackers, in the way in which the events have them: few are often met.
fn skewed(n: u64) -> u64 {
    let part = mix(n) & 0xf_ffff;
    (((part * part) >> 20) * seed::ATTACKERS) >> 20
}

/// A day since 1970, as the calendar has it.
fn date(day: i64) -> String {
    let shifted = day + 719_468;
    let era = shifted.div_euclid(146_097);
    let of_era = shifted.rem_euclid(146_097);
    let year = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let month = (5 * of_year + 2) / 153;
    let (day, month) = (of_year - (153 * month + 2) / 5 + 1, if month < 10 { month + 3 } else { month - 9 });
    format!("{:04}-{month:02}-{day:02}", year + era * 400 + i64::from(month <= 2))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_are_those_of_the_calendar() {
        let shown = [0, 59, 19_782, 20_779].map(date);
        assert_eq!(shown, ["1970-01-01", "1970-03-01", "2024-02-29", "2026-11-22"]);
    }
}
