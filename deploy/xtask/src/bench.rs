//! `cargo xtask bench`: measures a release build, each figure against what the issue asks or a floor of the same run.

#[cfg(feature = "bench")]
mod analytics;
#[cfg(feature = "bench")]
mod client;
mod compare;
#[cfg(feature = "bench")]
mod deception;
#[cfg(feature = "bench")]
mod evidence;
#[cfg(feature = "bench")]
mod figures;
#[cfg(feature = "bench")]
mod home;
#[cfg(feature = "bench")]
mod identity;
#[cfg(feature = "bench")]
mod knowledge;
#[cfg(feature = "bench")]
mod measure;
#[cfg(feature = "bench")]
mod product;
#[cfg(feature = "bench")]
mod roles;
#[cfg(feature = "bench")]
mod seed;
#[cfg(feature = "bench")]
mod tests;

use std::path::PathBuf;

use anyhow::Result;

use crate::workspace::Workspace;

/// Tests in store where there are to be many.
#[cfg(feature = "bench")]
const TESTS: u64 = 1_000_000;
/// Events in store where there are to be many: in a run of this part alone, and in one of all parts, which is to be
/// over within 15 minutes.
#[cfg(feature = "bench")]
const EVENTS: (u64, u64) = (10_000_000, 3_000_000);

/// Arguments of `cargo xtask bench`.
#[derive(Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct Args {
    #[command(subcommand)]
    command: Option<Command>,
    /// Seconds of each load.
    #[arg(long, default_value_t = 5)]
    seconds: u64,
    /// Print the figures as JSON, or write that to a file.
    #[arg(long, value_name = "FILE", num_args = 0..=1, require_equals = true, default_missing_value = "-")]
    json: Option<PathBuf>,
    /// Print the figures as Markdown, or write that to a file.
    #[arg(long, value_name = "FILE", num_args = 0..=1, require_equals = true, default_missing_value = "-")]
    markdown: Option<PathBuf>,
    /// Measure only this part.
    #[arg(long, value_enum)]
    only: Option<Part>,
    /// A product that was built already.
    #[arg(long)]
    bin: Option<PathBuf>,
    /// Tests in store where there are to be many: 1,000,000.
    #[arg(long, value_parser = clap::value_parser!(u64).range(100_000..=10_000_000))]
    tests: Option<u64>,
    /// Events of decoys in store where there are to be many: 10,000,000, and with all parts 3,000,000.
    #[arg(long, value_parser = clap::value_parser!(u64).range(100_000..=100_000_000))]
    events: Option<u64>,
    /// Over PostgreSQL, which is brought up for it, in place of SQLite. Events stay in the process.
    #[arg(long)]
    postgres: bool,
}

/// What else there is.
#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Put two runs that were written with --json=FILE beside each other.
    Compare {
        /// The first.
        before: PathBuf,
        /// The second.
        after: PathBuf,
    },
}

/// What can be measured by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Part {
    /// Every source, search and lists.
    Knowledge,
    /// Requests a second of two hot routes.
    Reads,
    /// The workflow.
    Moves,
    /// Files up and down, and the memory that they need.
    Evidence,
    /// Lists and moves among a million tests.
    Tests,
    /// Coverage, scores, operational figures and exports of a million tests.
    Analytics,
    /// Tokens, logins, many users, a long audit trail.
    Identity,
    /// Events of decoys coming in and being found, streams, 500 deckies, SSH sessions.
    Deception,
    /// What one operation costs each role as a process of its own, over PostgreSQL, RabbitMQ, Redis and S3. Only by
    /// itself.
    Roles,
}

/// Measures, or compares what was measured.
pub fn run(args: &Args) -> Result<u8> {
    match &args.command {
        Some(Command::Compare { before, after }) => compare::run(before, after),
        None => measured(args),
    }
}

/// Builds the product and this program for release, then measures with that program.
#[cfg(not(feature = "bench"))]
fn measured(args: &Args) -> Result<u8> {
    let workspace = Workspace::find()?;
    let mut build = workspace.cargo();
    build.args(["build", "--release", "-p", "xtask", "--features", "xtask/bench"]);
    if args.bin.is_none() {
        build.args(["-p", "aegis"]);
    }
    crate::proc::run_ok(&mut build)?;
    let mut command = std::process::Command::new(workspace.target.join("release/xtask"));
    command.args(std::env::args_os().skip(1));
    Ok(u8::from(!crate::proc::run(&mut command)?.success()))
}

/// Measures; this program was built for it.
#[cfg(feature = "bench")]
fn measured(args: &Args) -> Result<u8> {
    let workspace = Workspace::find()?;
    let bin = args.bin.clone().unwrap_or_else(|| workspace.binary(true));
    let files = workspace.root.join("../shared/data");
    let files = files.canonicalize().unwrap_or(files);
    deception::room_for_streams()?;
    if args.only == Some(Part::Roles) {
        return roles(args, &workspace.root, &bin);
    }
    let server = args.postgres.then(|| crate::stores::Database::up(&workspace.root)).transpose()?;
    let admin = server.as_ref().map(|server| server.postgres.admin.clone());
    let tests = args.tests.unwrap_or(TESTS);
    let events = args.events.unwrap_or(if args.only.is_some() { EVENTS.0 } else { EVENTS.1 });
    let ground = home::Ground { bin, server: admin, files, tests: usize::try_from(tests)?, events };
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let load = std::time::Duration::from_secs(args.seconds);
    let mut figures = figures::Figures::new(figures::about(vec![
        ("store", if args.postgres { "PostgreSQL, with its defaults" } else { "SQLite" }.to_owned()),
        ("tests", figures::grouped(ground.tests)),
        ("events", figures::grouped(usize::try_from(events)?)),
        ("seconds of a load", args.seconds.to_string()),
    ]));
    runtime.block_on(measure::all(&ground, load, args.only, &mut figures))?;
    drop(server);
    figures.tell(args.json.as_deref(), args.markdown.as_deref())?;
    Ok(0)
}

#[cfg(feature = "bench")]
fn roles(args: &Args, root: &std::path::Path, bin: &std::path::Path) -> Result<u8> {
    let logs = root.join(".xtask/bench");
    let gateway = crate::ports::local(crate::ports::free()?);
    // All who ask are at one address here.
    let system = crate::up::System::start(root, bin, gateway, &logs, &[("AEGIS_CONNECTIONS_PER_ADDRESS", "0")])?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let load = std::time::Duration::from_secs(args.seconds);
    let mut figures = figures::Figures::new(figures::about(vec![
        ("store", "PostgreSQL, RabbitMQ, Redis and S3 on the same machine".to_owned()),
        ("seconds of a load", args.seconds.to_string()),
    ]));
    runtime.block_on(roles::measure(&system, bin, &logs, load, &mut figures))?;
    drop(system);
    figures.tell(args.json.as_deref(), args.markdown.as_deref())?;
    Ok(0)
}

/// `cargo xtask floor`: the bare route, or the bare SSH server, in a process of its own as the product is.
#[cfg(feature = "bench")]
pub fn floor(body: Option<PathBuf>) -> Result<u8> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        match body {
            Some(body) => product::serve_floor(body).await,
            None => deception::serve_ssh().await,
        }
    })?;
    Ok(0)
}
