//! `cargo xtask fuzz`: every parser of what comes from outside, guided by what the code has seen.
//!
//! The fuzzer is libFuzzer, of crates.io's libfuzzer-sys, in a program of its own (deploy/fuzz). Stable Rust builds it:
//! the marks that guide it are made by a pass of LLVM. What it learns is kept in target/fuzz and is where the next run
//! begins.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use anyhow::{Context as _, Result, anyhow, bail};
use rustix::process::Signal;

use crate::proc::{self, Proc};
use crate::ui;
use crate::workspace::Workspace;

/// What guides the fuzzer. All of it is stable.
const FLAGS: [&str; 9] = [
    "-Cpasses=sancov-module",
    "-Cllvm-args=-sanitizer-coverage-level=4",
    "-Cllvm-args=-sanitizer-coverage-inline-8bit-counters",
    "-Cllvm-args=-sanitizer-coverage-pc-table",
    "-Cllvm-args=-sanitizer-coverage-trace-compares",
    "-Clink-dead-code=no",
    "-Ccodegen-units=1",
    "--cfg",
    "fuzzing",
];
/// An input that takes longer is a find, seconds.
const TOO_LONG: u32 = 10;
/// Memory beyond which an input is a find, MiB.
const TOO_MUCH: u32 = 2_048;
/// Longest input, bytes.
const LONGEST: u32 = 4_096;

/// What `cargo xtask fuzz` can be told.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Only these; all without this.
    target: Vec<String>,
    /// Of each target.
    #[arg(long, default_value_t = 10)]
    seconds: u32,
    /// Targets at a time; as many as there are processors without this.
    #[arg(long)]
    jobs: Option<usize>,
    /// Only name the targets.
    #[arg(long)]
    list: bool,
}

/// Runs it; the exit code is 1 if something was found.
pub fn run(args: &Args) -> Result<u8> {
    let workspace = Workspace::find()?;
    let fuzzer = build(&workspace)?;
    let known = proc::output(&mut Command::new(&fuzzer), "").context("the fuzzer does not name its targets")?;
    let known: Vec<&str> = known.lines().collect();
    if args.list {
        println!("{}", known.join("\n"));
        return Ok(0);
    }
    if let Some(unknown) = args.target.iter().find(|target| !known.contains(&target.as_str())) {
        bail!("there is no target {unknown}; there are: {}", known.join(", "));
    }
    let chosen: Vec<&str> = known
        .into_iter()
        .filter(|target| args.target.is_empty() || args.target.iter().any(|named| named == target))
        .collect();
    let since = Instant::now();
    let jobs = args.jobs.unwrap_or_else(|| std::thread::available_parallelism().map_or(1, usize::from));
    let (next, outcomes) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..jobs.clamp(1, chosen.len().max(1)) {
            scope.spawn(|| {
                while let Some(target) = chosen.get(next.fetch_add(1, Ordering::SeqCst)) {
                    let outcome = fuzz(&workspace, &fuzzer, target, args.seconds);
                    if let Ok(mut outcomes) = outcomes.lock() {
                        outcomes.push((*target, outcome));
                    }
                }
            });
        }
    });
    proc::check()?;
    let mut outcomes = outcomes.into_inner().map_err(|_| anyhow!("a target was lost"))?;
    outcomes.sort_by_key(|(target, _)| *target);
    let mut found = 0;
    println!("{:<18} {:>10} {:>8} {:>7}  result", "target", "inputs", "seen", "kept");
    for (target, outcome) in outcomes {
        match outcome {
            Ok(Told { inputs, seen, kept, find }) => {
                let result =
                    find.as_ref().map_or_else(|| "nothing found".to_owned(), |find| find.display().to_string());
                println!("{target:<18} {inputs:>10} {seen:>8} {kept:>7}  {result}");
                found += usize::from(find.is_some());
            }
            Err(error) => {
                ui::error(&format!("{target}: {error:#}"));
                found += 1;
            }
        }
    }
    if found > 0 {
        ui::error(
            "something was found: AEGIS_FUZZ_TARGET=<target> and the program below, with the file as its argument, show it again",
        );
        ui::note(&fuzzer.display().to_string());
        return Ok(1);
    }
    ui::done("fuzz", "nothing found", since);
    Ok(0)
}

/// Builds the fuzzer with the product's own versions of everything.
fn build(workspace: &Workspace) -> Result<PathBuf> {
    let since = Instant::now();
    ui::step("build", "the fuzzer");
    let folder = workspace.root.join("deploy/fuzz");
    fs::copy(workspace.root.join("Cargo.lock"), folder.join("Cargo.lock")).context("cannot copy Cargo.lock")?;
    let target = workspace.target.join("fuzz");
    let triple = triple()?;
    let mut command = workspace.cargo();
    command
        .args(["build", "--quiet", "--release", "--target", &triple, "--target-dir"])
        .arg(&target)
        .arg("--manifest-path")
        .arg(folder.join("Cargo.toml"))
        .env_remove("CARGO_ENCODED_RUSTFLAGS")
        .env("RUSTFLAGS", FLAGS.join(" "));
    proc::run_ok(&mut command).context("the fuzzer cannot be built (libFuzzer needs a C++ compiler)")?;
    ui::done("build", "the fuzzer", since);
    Ok(target.join(triple).join("release/aegis-fuzz"))
}

/// What rustc builds for here: flags for a target that is named are not those of build scripts and macros.
fn triple() -> Result<String> {
    let told = proc::output(Command::new("rustc").arg("-vV"), "")?;
    told.lines().find_map(|line| line.strip_prefix("host: ")).map(str::to_owned).context("rustc does not name its host")
}

/// How it went.
struct Told {
    inputs: String,
    /// Places in the code that were seen.
    seen: String,
    /// Inputs that are kept, because each sees something that no other does.
    kept: usize,
    /// What makes the target fail.
    find: Option<PathBuf>,
}

fn fuzz(workspace: &Workspace, fuzzer: &Path, target: &str, seconds: u32) -> Result<Told> {
    let folder = workspace.target.join("fuzz");
    let (learned, finds) = (folder.join("corpus").join(target), folder.join("finds").join(target));
    for folder in [&learned, &finds] {
        fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    }
    let scratch = tempfile::tempdir()?;
    let log = folder.join(format!("{target}.log"));
    let mut command = Command::new(fuzzer);
    command
        .env("AEGIS_FUZZ_TARGET", target)
        .env("TMPDIR", scratch.path())
        .arg(format!("-max_total_time={seconds}"))
        .arg(format!("-timeout={TOO_LONG}"))
        .arg(format!("-rss_limit_mb={TOO_MUCH}"))
        .arg(format!("-max_len={LONGEST}"))
        .arg(format!("-artifact_prefix={}/", finds.display()))
        .arg("-print_final_stats=1")
        .arg(&learned)
        .arg(workspace.root.join("deploy/fuzz/seeds").join(target));
    let mut running = Proc::spawn("fuzzer", &mut command, &log, Signal::TERM)?;
    let status = running.wait()?;
    let text = String::from_utf8_lossy(&fs::read(&log).unwrap_or_default()).into_owned();
    let find = text
        .lines()
        .find_map(|line| line.split_once("Test unit written to "))
        .map(|(_, path)| PathBuf::from(path.trim()));
    if !status.success() && find.is_none() {
        bail!("the fuzzer failed{}", running.last_lines());
    }
    let last = |before: &str| {
        let words = text.lines().rev().find_map(|line| line.split_once(before).map(|(_, rest)| rest.trim()));
        words.and_then(|rest| rest.split_whitespace().next()).unwrap_or("?").to_owned()
    };
    Ok(Told {
        inputs: last("stat::number_of_executed_units:"),
        seen: last(" cov: "),
        kept: fs::read_dir(&learned).map_or(0, Iterator::count),
        find,
    })
}
