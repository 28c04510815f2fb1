//! `cargo xtask test` and `cargo xtask stores`: commands that run with the stores up.

use std::ffi::{OsStr, OsString};
use std::os::unix::process::ExitStatusExt as _;
use std::process::{Command, ExitStatus};
use std::time::Instant;

use anyhow::{Context as _, Result};

use crate::stores::{Options, Stores, packages};
use crate::workspace::Workspace;
use crate::{proc, ui};

/// Builds everything, brings the stores up, runs the tests and gives cargo's exit code.
pub fn run(args: &[OsString]) -> Result<u8> {
    let workspace = Workspace::find()?;
    let separator = args.iter().position(|arg| arg == "--").unwrap_or(args.len());
    let (for_cargo, for_tests) = args.split_at(separator);
    let chosen = for_cargo.iter().any(|arg| {
        let text = arg.to_string_lossy();
        text == "--package" || text.starts_with("--package=") || text.starts_with("-p")
    });
    let scope: &[&str] = if chosen { &[] } else { &["--workspace"] };

    // All that is slow and needs no store comes first.
    let since = Instant::now();
    ui::step("build", "the product and the tests");
    workspace.product()?;
    proc::run_ok(workspace.cargo().arg("test").args(scope).args(for_cargo).arg("--no-run"))?;
    ui::done("build", "the product and the tests", since);

    packages::clients()?;
    let stores = up(&workspace)?;
    let since = Instant::now();
    ui::step("test", "cargo test");
    let status = proc::run(
        workspace
            .cargo()
            .arg("test")
            .args(scope)
            .args(for_cargo)
            .args(for_tests)
            .envs(stores.test_environment())
            .env("AEGIS_TEST_AEGIS_BIN", workspace.binary(false)),
    )?;
    if status.success() {
        ui::done("test", "passed", since);
    } else {
        ui::error(&format!("tests failed after {:.1} s", since.elapsed().as_secs_f64()));
    }
    down(stores);
    Ok(code(status))
}

/// Brings the stores up, runs `command` and gives its exit code.
pub fn stores(command: &[OsString]) -> Result<u8> {
    let workspace = Workspace::find()?;
    let (program, args) = command.split_first().context("no command")?;
    let stores = up(&workspace)?;
    let mut command = Command::new::<&OsStr>(program);
    command.args(args).envs(stores.test_environment());
    if workspace.binary(false).is_file() {
        command.env("AEGIS_TEST_AEGIS_BIN", workspace.binary(false));
    }
    let status = proc::run_interactive(&mut command)?;
    down(stores);
    Ok(code(status))
}

fn up(workspace: &Workspace) -> Result<Stores> {
    Stores::up(&Options { durable: false, kept: false, logs: None, root: &workspace.root })
}

fn down(stores: Stores) {
    let since = Instant::now();
    drop(stores);
    ui::done("stores", "all down", since);
}

/// The code that a shell would give.
fn code(status: ExitStatus) -> u8 {
    let code = status.code().or_else(|| status.signal().map(|signal| 128 + signal)).unwrap_or(1);
    u8::try_from(code).unwrap_or(1)
}
