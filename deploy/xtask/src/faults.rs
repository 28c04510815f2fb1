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
use journal::Journal;
use load::Load;
use report::Row;
use site::Site;
use world::{Home, World};

/// People work for so long before anything happens to them.
const BEFORE: Duration = Duration::from_secs(1);
/// What was confirmed is everywhere within this, once the fault is over.
const SETTLED: Duration = Duration::from_secs(60);

/// What `cargo xtask faults` can be told.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// One of each kind: at most three minutes.
    #[arg(long)]
    quick: bool,
    /// Only this target, or this target with this fault; may be given again.
    #[arg(long, value_name = "TARGET[:FAULT]", value_parser = cases::Only::parse)]
    only: Vec<cases::Only>,
    /// Seconds that each fault lasts.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u64).range(1..=20))]
    seconds: u64,
    /// What cannot be tried here is no failure; without this, a run that skips anything fails.
    #[arg(long)]
    allow_skips: bool,
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
        let site = site::settle(&mut world, cases.len()).await.context("the product cannot be prepared")?;
        ui::done("faults", &format!("ready for {} cases", cases.len()), since);
        let hold = Duration::from_secs(args.seconds);
        let (mut rows, mut journals) = (Vec::new(), Vec::new());
        for (number, case) in cases.into_iter().enumerate() {
            proc::check()?;
            let (row, journal) = one(&mut world, &site.of_case(number), case, hold).await?;
            report::progress(&row);
            rows.push(row);
            journals.extend(journal);
        }
        let last = report::last_row(&site, &world, &journals).await;
        report::progress(&last);
        rows.push(last);
        anyhow::Ok(rows)
    })?;
    report::print(&rows, args.json, since);
    let failed = rows.iter().any(|row| !row.wrong.is_empty());
    if failed {
        ui::note(&format!("the logs are in {}", logs.display()));
    }
    let lacks = !args.allow_skips && rows.iter().any(Row::is_skipped);
    if lacks {
        ui::note("what was skipped was not tried, which is a failure without --allow-skips");
    }
    Ok(u8::from(failed || lacks))
}

/// One fault, from before it to when all is counted; and what is to be counted again at the end of the run.
async fn one(world: &mut World, site: &Site, case: Case, hold: Duration) -> Result<(Row, Option<Journal>)> {
    if let Some(why) = world.cannot(case) {
        return Ok((Row::skipped(case, why), None));
    }
    if case.target == Target::Embedded {
        let (site, home) = world.embedded().await?;
        return Ok((alone(world, &site, home, case, hold).await?, None));
    }
    let (row, journal) = through(world, site, case, hold).await?;
    Ok((row, Some(journal)))
}

/// The same of the product in one process. It is started again after the fault: what it has on its disk is what counts.
async fn alone(world: &mut World, site: &Site, home: Home, case: Case, hold: Duration) -> Result<Row> {
    let (mut row, journal) = through(world, site, case, hold).await?;
    let home = tokio::task::block_in_place(|| world.embedded_again(home))?;
    row.add(counted::compare(site, &[journal], SETTLED).await);
    if let Err(error) = counted::chain(site).await {
        row.wrong.push(format!("{error:#}"));
    }
    world.end_embedded(home);
    Ok(row)
}

async fn through(world: &mut World, site: &Site, case: Case, hold: Duration) -> Result<(Row, Journal)> {
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
    let counts = counted::compare(site, std::slice::from_ref(&journal), SETTLED).await;
    tokio::task::block_in_place(|| world.check())?;
    Ok((Row::new(&journal, recovered, counts), journal))
}

/// Whether a fault of this kind may cost this target's users anything that they were told.
fn may_lose_a_moment(case: Case) -> bool {
    // What a decoy answered is confirmed to nobody; a sensor that is killed may not have written it down yet.
    case.target == Target::Sensor && case.fault == Fault::Killed
}
