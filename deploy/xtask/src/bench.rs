//! `cargo xtask bench`: measures a release build, each figure against what the issue asks or a floor of the same run.

#[cfg(feature = "bench")]
mod analytics;
#[cfg(feature = "bench")]
mod client;
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
mod seed;
#[cfg(feature = "bench")]
mod tests;

use std::path::PathBuf;

use anyhow::Result;

use crate::workspace::Workspace;

/// Arguments of `cargo xtask bench`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Seconds of each load.
    #[arg(long, default_value_t = 5)]
    seconds: u64,
    /// Print the figures as JSON.
    #[arg(long)]
    json: bool,
    /// Measure only this part.
    #[arg(long, value_enum)]
    only: Option<Part>,
    /// A product that was built already.
    #[arg(long)]
    bin: Option<PathBuf>,
    /// Tests in store where there are to be many.
    #[arg(long, default_value_t = 1_000_000, value_parser = clap::value_parser!(u64).range(100_000..=10_000_000))]
    tests: u64,
    /// Over PostgreSQL, which is brought up for it, in place of SQLite. Events stay in the process.
    #[arg(long)]
    postgres: bool,
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
}

/// Builds the product and this program for release, then measures with that program.
#[cfg(not(feature = "bench"))]
pub fn run(args: &Args) -> Result<u8> {
    let workspace = Workspace::find()?;
    let build = ["build", "--release", "-p", "aegis", "-p", "xtask", "--features", "xtask/bench"];
    crate::proc::run_ok(workspace.cargo().args(build))?;
    let mut command = std::process::Command::new(workspace.target.join("release/xtask"));
    command.arg("bench").arg("--seconds").arg(args.seconds.to_string()).arg("--tests").arg(args.tests.to_string());
    if args.json {
        command.arg("--json");
    }
    if let Some(part) = args.only.and_then(|part| clap::ValueEnum::to_possible_value(&part)) {
        command.arg("--only").arg(part.get_name());
    }
    if args.postgres {
        command.arg("--postgres");
    }
    if let Some(bin) = &args.bin {
        command.arg("--bin").arg(bin);
    }
    Ok(u8::from(!crate::proc::run(&mut command)?.success()))
}

/// Measures; this program was built for it.
#[cfg(feature = "bench")]
pub fn run(args: &Args) -> Result<u8> {
    let workspace = Workspace::find()?;
    let bin = args.bin.clone().unwrap_or_else(|| workspace.binary(true));
    let files = workspace.root.join("../shared/data");
    let files = files.canonicalize().unwrap_or(files);
    let server = args.postgres.then(|| crate::stores::Database::up(&workspace.root)).transpose()?;
    let admin = server.as_ref().map(|server| server.postgres.admin.clone());
    let ground = home::Ground { bin, server: admin, files, tests: usize::try_from(args.tests)? };
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let load = std::time::Duration::from_secs(args.seconds);
    let mut figures = runtime.block_on(measure::all(&ground, load, args.only))?;
    drop(server);
    figures.note(if args.postgres { "over PostgreSQL, with its defaults" } else { "over SQLite" });
    figures.print(args.json);
    Ok(0)
}

/// `cargo xtask floor`: the bare route, in a process of its own as the product is.
#[cfg(feature = "bench")]
pub fn floor(body: PathBuf) -> Result<u8> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(product::serve_floor(body))?;
    Ok(0)
}
