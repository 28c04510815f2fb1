//! `cargo xtask ci`: format, lints, dependency rules, all tests, and what operators are given, as the build server runs
//! them. What is up to chance or to the clock (`contract`, `faults`, `fuzz`, `bench`) is no part of it.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context as _, Result};

use crate::workspace::Workspace;
use crate::{deploy, proc, test, ui};

/// Builds with Rust 1.88 and later.
const DENY_VERSION: &str = "0.20.2";

/// What `cargo xtask ci` can be told.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Fail where the published advisories cannot be had; else they are left out there, and that is said.
    #[arg(long)]
    advisories: bool,
}

/// Runs every step; the first that fails ends it.
pub fn run(args: &Args) -> Result<u8> {
    let workspace = Workspace::find()?;
    let begun = Instant::now();
    components(&workspace)?;
    step("fmt", workspace.cargo().args(["fmt", "--all", "--check"])).context("run `cargo fmt --all`")?;
    step(
        "clippy",
        workspace
            .cargo()
            .args(["clippy", "--workspace", "--all-targets", "--features", "xtask/bench", "--locked"])
            .args(["--", "-D", "warnings"]),
    )?;
    deny(&workspace, args.advisories)?;
    for check in [|| test::run(&[]), || deploy::run(&deploy::Args::default())] {
        let code = check()?;
        if code != 0 {
            return Ok(code);
        }
    }
    ui::done("ci", "all passed", begun);
    Ok(0)
}

fn step(name: &str, command: &mut Command) -> Result<()> {
    let since = Instant::now();
    ui::step(name, "");
    proc::run_ok(command)?;
    ui::done(name, "passed", since);
    Ok(())
}

/// A toolchain of the minimal profile has neither formatter nor lints.
fn components(workspace: &Workspace) -> Result<()> {
    let missing: Vec<&str> = [("fmt", "rustfmt"), ("clippy", "clippy")]
        .into_iter()
        .filter(|(command, _)| !answers(workspace.cargo().args([command, "--version"])))
        .map(|(_, component)| component)
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    step("rustup", Command::new("rustup").args(["component", "add"]).args(&missing))
        .with_context(|| format!("the toolchain lacks {}", missing.join(" and ")))
}

fn deny(workspace: &Workspace, advisories: bool) -> Result<()> {
    let program = deny_program(workspace)?;
    // The rules look at the packages of every platform, also at those that no build here needed.
    step("fetch", workspace.cargo().args(["fetch", "--locked", "--quiet"]))?;
    let mut rules = Command::new(&program);
    rules.current_dir(&workspace.root).args(["--offline", "--locked", "check"]);
    step("deny", rules.args(["bans", "licenses", "sources"]))?;
    let mut fetch = Command::new(&program);
    if advisories || answers(fetch.current_dir(&workspace.root).args(["--locked", "fetch", "db"])) {
        let mut check = Command::new(&program);
        step("advisories", check.current_dir(&workspace.root).args(["--locked", "check", "advisories"]))
    } else {
        ui::note(
            "advisories not checked: their database is not to be had from here (cargo xtask ci --advisories insists)",
        );
        Ok(())
    }
}

/// The checker of this machine, or one that is built once and kept with the build results.
fn deny_program(workspace: &Workspace) -> Result<PathBuf> {
    let tools = workspace.target.join("tools");
    let kept = tools.join("bin/cargo-deny");
    for candidate in [kept.as_path(), Path::new("cargo-deny")] {
        if answers(Command::new(candidate).arg("--version")) {
            return Ok(candidate.to_owned());
        }
    }
    step(
        "tools",
        workspace
            .cargo()
            .args(["install", "--locked", "--quiet", "cargo-deny", "--version", DENY_VERSION])
            .arg("--root")
            .arg(&tools),
    )?;
    Ok(kept)
}

fn answers(command: &mut Command) -> bool {
    command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}
