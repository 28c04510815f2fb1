//! `cargo xtask faults`: every store and every role stopped, killed, frozen, slowed down, its disk full, and back, while
//! people work; what was confirmed is then counted.

mod cases;
mod client;
mod counted;
mod journal;
mod load;
mod probes;
mod proxy;
mod report;
mod site;
mod world;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

use crate::stores::{Options, Stores};
use crate::workspace::Workspace;
use crate::{proc, ui};
use cases::{Case, Fault, Target};
use load::Load;
use report::Row;
use site::Site;
use world::World;

/// People work for so long before anything happens to them.
const BEFORE: Duration = Duration::from_secs(1);
/// What was confirmed is everywhere within this, once the fault is over.
const SETTLED: Duration = Duration::from_secs(60);

/// What `cargo xtask faults` can be told.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// One of each kind: at most four minutes.
    #[arg(long)]
    quick: bool,
    /// Only this target, or this target with this fault; may be given again.
    #[arg(long, value_name = "TARGET[:FAULT]", value_parser = cases::Only::parse)]
    only: Vec<cases::Only>,
    /// Seconds that each fault lasts.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u64).range(1..=20))]
    seconds: u64,
    /// Print the table as JSON.
    #[arg(long)]
    json: bool,
    /// Run this binary instead of building one.
    #[arg(long, value_name = "PATH")]
    bin: Option<PathBuf>,
}

/// Builds the product, brings everything up, and goes through the cases.
pub fn run(args: &Args) -> Result<u8> {
    let workspace = Workspace::find()?;
    let cases: Vec<Case> = if args.quick && args.only.is_empty() { cases::quick() } else { cases::all() };
    let cases: Vec<Case> = cases.into_iter().filter(|case| cases::chosen(&args.only, *case)).collect();
    if cases.is_empty() {
        bail!("no such case: targets are {}; faults are {}", cases::targets(), cases::faults());
    }
    let binary = match &args.bin {
        Some(binary) => std::fs::canonicalize(binary).with_context(|| format!("no {}", binary.display()))?,
        None => workspace.product()?,
    };
    let logs = workspace.root.join(".xtask/faults");
    let _ = std::fs::remove_dir_all(&logs);
    let since = Instant::now();
    // It may be killed at any moment, so it has to keep its word.
    let stores = Stores::up(&Options { durable: true, kept: true, logs: Some(&logs), root: &workspace.root })?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(4).enable_all().build()?;
    let rows = runtime.block_on(async {
        let mut world = World::up(stores, &binary, &logs)?;
        let site = site::settle(&mut world).await.context("the product cannot be prepared")?;
        ui::done("faults", &format!("ready for {} cases", cases.len()), since);
        let hold = Duration::from_secs(args.seconds);
        let mut rows = Vec::new();
        for case in cases {
            proc::check()?;
            let row = one(&mut world, &site, case, hold).await?;
            report::progress(&row);
            rows.push(row);
        }
        rows.extend(report::last_row(&site, &world).await);
        anyhow::Ok(rows)
    })?;
    report::print(&rows, args.json, since);
    let failed = rows.iter().any(|row| !row.wrong.is_empty());
    if failed {
        ui::note(&format!("the logs are in {}", logs.display()));
    }
    Ok(u8::from(failed))
}

/// One fault, from before it to when all is counted.
async fn one(world: &mut World, site: &Site, case: Case, hold: Duration) -> Result<Row> {
    if let Some(why) = world.cannot(case) {
        return Ok(Row::skipped(case, why));
    }
    if case.target == Target::Embedded {
        let (alone, home) = world.embedded().await?;
        let row = through(world, &alone, case, hold).await;
        world.end_embedded(home);
        return row;
    }
    through(world, site, case, hold).await
}

async fn through(world: &mut World, site: &Site, case: Case, hold: Duration) -> Result<Row> {
    let load = Load::start(site, case);
    tokio::time::sleep(BEFORE).await;
    load.tell_begin();
    tokio::task::block_in_place(|| world.begin(case))?;
    // What it took to begin, such as a gentle stop, is a part of it.
    tokio::time::sleep(hold).await;
    tokio::task::block_in_place(|| world.end(case))?;
    let over = Instant::now();
    let waiting = case.target == Target::Store("rabbitmq");
    let recovered = probes::recovery(site, waiting, over).await;
    let journal = load.stop().await;
    let counts = counted::compare(site, &journal, SETTLED).await;
    tokio::task::block_in_place(|| world.check())?;
    Ok(Row::new(case, journal, recovered, counts))
}

/// Whether a fault of this kind may cost this target's users anything that they were told.
fn may_lose_a_moment(case: Case) -> bool {
    // What a decoy answered is confirmed to nobody; a sensor that is killed may not have written it down yet.
    case.target == Target::Sensor && case.fault == Fault::Killed
}
