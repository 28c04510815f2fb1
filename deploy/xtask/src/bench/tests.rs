//! A million tests: lists by every combination of filters, pages far back, moves at full speed and at a steady pace, and
//! a campaign of a thousand tests made at once.

use std::{
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};
use tokio::task::JoinSet;

use super::{
    client::Client,
    figures::{Figures, grouped, percentile},
    home::{Ground, Home},
    product::{PASSWORD, Product},
    seed,
};

/// Values tried of each combination of the reference's filters.
const ROUNDS: usize = 8;
/// Moves a second that are to be sustained, how long, and by how many clients.
const PACE: f64 = 300.0;
const SUSTAINED: Duration = Duration::from_secs(30);
const CLIENTS: usize = 16;
const STATES: [&str; 6] = ["draft", "red_executing", "blue_evaluating", "in_review", "validated", "rejected"];
const PLATFORMS: [&str; 8] =
    ["windows", "linux", "macos", "azure-ad", "office-365", "iaas:aws", "containers", "nothing"];
const STATUSES: [&str; 4] = ["pending", "in_progress", "completed", "not_applicable"];

/// Measures all of it, with a product of its own: one that has so many tests already, or one that is made for it.
pub async fn measure(ground: &Ground, seeded: Option<Home>, figures: &mut Figures) -> Result<()> {
    let home = match seeded {
        Some(home) => home,
        None => {
            let home = Home::make(ground).await?;
            // The first start makes the tables.
            Product::start(&home).await?.0.stop().await?;
            seed::users(&home, 20).await?;
            seed::timed_tests(&home, ground.tests, figures).await?;
            home
        }
    };
    seed::actor(&home).await?;
    let many = grouped(ground.tests);

    let (product, took) = Product::start(&home).await?;
    figures.add(&format!("start to ready, {many} tests"), took.as_secs_f64() * 1000.0, "ms", None);
    let admin = product.login("admin", PASSWORD).await?;
    let choice = Choice::read(&admin).await?;
    lists(&admin, &choice, &many, figures).await?;
    pages(&admin, ground.tests, figures).await?;
    // Milliseconds.
    let limit = if home.is_postgres() { 30.0 } else { 20.0 };
    moves(&admin, ground.tests, limit, figures).await?;
    generation(&admin, figures).await?;
    product.stop().await?;
    home.remove().await
}

/// What there is to filter by.
struct Choice {
    techniques: Vec<String>,
    users: Vec<String>,
    campaign: String,
}

impl Choice {
    async fn read(admin: &Client) -> Result<Self> {
        let mut client = admin.another().await?;
        let ids = |list: &Value| -> Vec<String> {
            let rows = list.as_array().map(Vec::as_slice).unwrap_or_default();
            rows.iter().filter_map(|row| row["id"].as_str().map(str::to_owned)).collect()
        };
        let mut techniques = ids(&client.get("/api/v1/techniques?limit=1000").await?);
        // The first in this order have the most tests.
        techniques.sort_unstable();
        let users = ids(&client.get("/api/v1/users?search=person-&limit=20").await?);
        let campaigns = ids(&client.get("/api/v1/campaigns?limit=1").await?);
        let campaign = campaigns.into_iter().next().context("there is no campaign")?;
        if techniques.is_empty() || users.is_empty() {
            bail!("there are no techniques or no users");
        }
        Ok(Choice { techniques, users, campaign })
    }

    /// The query of the filters that have their bit in `which`; the values change with the round.
    fn query(&self, which: u32, round: usize) -> String {
        let some = |n: usize, all: usize| (round * 7 + n) % all;
        let technique = match round % 2 {
            0 => &self.techniques[round / 2 % 4],
            _ => &self.techniques[some(round * 31, self.techniques.len())],
        };
        // In no other state can both hold.
        let state = match (which & 0b10000 != 0, which & 0b100_0000 != 0) {
            (true, _) => STATES[3],
            (_, true) => STATES[4],
            _ => STATES[some(0, STATES.len())],
        };
        let parts = [
            format!("state={state}"),
            format!("technique_id={technique}"),
            format!("platform={}", PLATFORMS[some(3, PLATFORMS.len())]),
            format!("created_by={}", self.users[some(5, self.users.len())]),
            format!("pending_validation_side={}", ["red", "blue"][round % 2]),
            format!("assignee={}", self.users[some(2, self.users.len())]),
            "incomplete=true".to_owned(),
            format!("campaign_id={}", self.campaign),
            format!("remediation_status={}", STATUSES[some(1, STATUSES.len())]),
            "overdue=true".to_owned(),
        ];
        let wanted = (0..).zip(&parts).filter(|(bit, _)| which & (1 << bit) != 0).map(|(_, part)| part.as_str());
        // The gateway keeps answers of a moment; another limit asks anew.
        wanted.chain([format!("limit={}", 50 - round).as_str()]).collect::<Vec<_>>().join("&")
    }
}

const NAMES: [&str; 10] = [
    "state",
    "technique",
    "platform",
    "creator",
    "pending",
    "assignee",
    "incomplete",
    "campaign",
    "remediation",
    "overdue",
];

async fn lists(admin: &Client, choice: &Choice, many: &str, figures: &mut Figures) -> Result<()> {
    let mut client = admin.another().await?;
    for (label, combinations, rounds) in
        [("state, technique, platform, creator, pending", 1 << 5, ROUNDS), ("all ten filters", 1 << 10, 2)]
    {
        let mut all = Vec::new();
        let mut worst = (0.0, String::new());
        for which in 0..combinations {
            let mut times = Vec::new();
            for round in 0..rounds {
                let path = format!("/api/v1/tests?{}", choice.query(which, round));
                times.push(timed(&mut client, &path).await?);
            }
            all.extend_from_slice(&times);
            let p95 = percentile(&mut times, 95.0);
            if p95 > worst.0 {
                let names: Vec<_> =
                    (0..).zip(NAMES).filter(|(bit, _)| which & (1 << bit) != 0).map(|(_, name)| name).collect();
                worst = (p95, names.join(" + "));
            }
        }
        figures.add(&format!("{many} tests: {label}, p95"), percentile(&mut all, 95.0), "ms", Some(("<", 25.0)));
        figures.add("  the slowest combination, p95", worst.0, "ms", None);
        figures.note(&format!("slowest of {label}: {}", worst.1));
    }
    Ok(())
}

async fn pages(admin: &Client, tests: usize, figures: &mut Figures) -> Result<()> {
    let mut client = admin.another().await?;
    for offset in [0, tests / 1_000, tests / 10, tests / 2, tests / 10 * 9] {
        let mut times = Vec::new();
        for round in 0..10 {
            times.push(timed(&mut client, &format!("/api/v1/tests?limit=50&offset={}", offset + round)).await?);
        }
        figures.add(&format!("  a page from offset {offset}, p95"), percentile(&mut times, 95.0), "ms", None);
    }
    Ok(())
}

/// Milliseconds that a GET takes.
async fn timed(client: &mut Client, path: &str) -> Result<f64> {
    let began = Instant::now();
    client.get_bytes(path).await.with_context(|| path.to_owned())?;
    Ok(began.elapsed().as_secs_f64() * 1000.0)
}

/// Drafts from all over the store; each is handed out once.
type Drafts = Arc<Mutex<Vec<String>>>;

async fn drafts(admin: &Client, tests: usize) -> Result<Drafts> {
    let mut client = admin.another().await?;
    let mut ids = Vec::new();
    for page in 0..40 {
        // Three in twenty are drafts.
        let offset = page * (tests / 330);
        let list = client.get(&format!("/api/v1/tests?state=draft&limit=200&offset={offset}")).await?;
        let rows = list.as_array().context("the list of tests is no array")?;
        ids.extend(rows.iter().filter_map(|row| row["id"].as_str().map(str::to_owned)));
    }
    Ok(Arc::new(Mutex::new(ids)))
}

/// A test on its way.
struct Walker {
    client: Client,
    drafts: Drafts,
    test: String,
    step: usize,
}

impl Walker {
    /// Makes the next move. Answers when the answer came.
    async fn go(&mut self) -> Result<Instant> {
        const STEPS: [&str; 4] = ["start-execution", "submit-red", "submit-blue", "validate"];
        if self.step == 0 {
            let next = self.drafts.lock().map_err(|_| anyhow::anyhow!("another client failed"))?.pop();
            self.test = next.context("there are no drafts left")?;
        }
        let body = json!({ "result": "detected" });
        let body = (self.step == 3).then_some(&body);
        self.client.send("POST", &format!("/api/v1/tests/{}/{}", self.test, STEPS[self.step]), body, 200).await?;
        self.step = (self.step + 1) % STEPS.len();
        Ok(Instant::now())
    }
}

async fn moves(admin: &Client, tests: usize, limit: f64, figures: &mut Figures) -> Result<()> {
    const FULL: Duration = Duration::from_secs(10);
    let drafts = drafts(admin, tests).await?;
    let walker = async || -> Result<Walker> {
        Ok(Walker { client: admin.another().await?, drafts: Arc::clone(&drafts), test: String::new(), step: 0 })
    };
    let mut loops = JoinSet::new();
    let began = Instant::now();
    for _ in 0..8 {
        let mut walker = walker().await?;
        loops.spawn(async move {
            let mut times = Vec::new();
            while began.elapsed() < FULL {
                let asked = Instant::now();
                times.push((walker.go().await? - asked).as_secs_f64() * 1000.0);
            }
            anyhow::Ok(times)
        });
    }
    let mut times = gathered(loops).await?;
    let rate = times.len() as f64 / began.elapsed().as_secs_f64();
    // As much as it can do: how long a move waits then is a matter of how many clients wait.
    let name = format!("moves among {}, as many as 8 clients can", grouped(tests));
    figures.add(&name, rate, "moves/s", Some((">", PACE)));
    figures.add("  a move at that rate, p99", percentile(&mut times, 99.0), "ms", None);

    // Each move has its moment, whether the one before it took long or not, and is late from then on.
    let mut loops = JoinSet::new();
    let began = Instant::now();
    for worker in 0..CLIENTS {
        let mut walker = walker().await?;
        loops.spawn(async move {
            let mut times = Vec::new();
            for turn in 0.. {
                let due = Duration::from_secs_f64((turn * CLIENTS + worker) as f64 / PACE);
                if due > SUSTAINED {
                    break;
                }
                tokio::time::sleep_until((began + due).into()).await;
                times.push((walker.go().await? - (began + due)).as_secs_f64() * 1000.0);
            }
            anyhow::Ok(times)
        });
    }
    let mut times = gathered(loops).await?;
    let rate = times.len() as f64 / began.elapsed().as_secs_f64();
    figures.add("moves sustained for 30 s", rate, "moves/s", Some((">", PACE * 0.99)));
    figures.add("  a move at that pace, p99", percentile(&mut times, 99.0), "ms", Some(("<", limit)));
    Ok(())
}

async fn gathered(mut loops: JoinSet<Result<Vec<f64>>>) -> Result<Vec<f64>> {
    let mut all = Vec::new();
    while let Some(done) = loops.join_next().await {
        all.extend(done??);
    }
    Ok(all)
}

/// A campaign of a thousand tests, made from a threat actor.
async fn generation(admin: &Client, figures: &mut Figures) -> Result<()> {
    let mut client = admin.another().await?;
    let actor = client.get("/api/v1/threat-actors/G9999").await?;
    let new = json!({ "name": "Bench Bear", "type": "apt_emulation", "threat_actor_id": actor["id"] });
    let campaign = client.send("POST", "/api/v1/campaigns", Some(&new), 201).await?;
    let path = format!("/api/v1/campaigns/{}/generate", campaign["id"].as_str().context("a campaign has no id")?);
    let began = Instant::now();
    let made = client.send("POST", &path, Some(&json!({ "per_technique": 2, "limit": 1000 })), 200).await?;
    let took = began.elapsed().as_secs_f64() * 1000.0;
    if made["created"] != 1000 {
        bail!("the campaign has {} tests, not 1,000", made["created"]);
    }
    figures.add("a campaign of 1,000 tests generated", took, "ms", Some(("<", 2000.0)));
    Ok(())
}
