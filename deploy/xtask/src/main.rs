//! The developer's commands: `cargo xtask up`, `test`, `stores` and `ci`.

mod bench;
mod ci;
mod guard;
mod ports;
mod proc;
mod stores;
mod test;
mod ui;
mod up;
mod workspace;

use std::ffi::OsString;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Developer's commands of Aegis.
#[derive(Debug, Parser)]
#[command(bin_name = "cargo xtask", version, after_help = EXAMPLES)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

const EXAMPLES: &str = "\
Examples:
  cargo xtask up                 every role as its own process, over real stores
  cargo xtask test               all tests, over real stores
  cargo xtask stores -- bash     a shell with the stores up and AEGIS_TEST_* set
  cargo xtask ci                 what the build server runs
  cargo xtask bench              the figures of a release build

Where the stores come from, each on its own:
  1. named by environment: AEGIS_UP_POSTGRES_URL (a superuser), AEGIS_UP_REDIS_URL,
     AEGIS_UP_RABBITMQ_URL, AEGIS_UP_S3_ENDPOINT with AEGIS_UP_S3_ACCESS_KEY_ID,
     AEGIS_UP_S3_SECRET_ACCESS_KEY and optionally AEGIS_UP_S3_BUCKET, AEGIS_UP_S3_REGION
  2. programs of this machine, on free ports, with data in a temporary folder
  3. as root where apt-get is: installed from the distribution's packages
  4. docker compose
S3 is served by this program itself unless it is named.";

#[derive(Debug, Subcommand)]
enum Command {
    /// Run every role as its own process over PostgreSQL, Redis, RabbitMQ and S3, until Ctrl-C.
    ///
    /// Builds the product, brings the stores up on free ports, migrates, starts all roles, waits until
    /// they are ready and prints where everything is. The data is thrown away at the end. The gateway
    /// listens on AEGIS_LISTEN (127.0.0.1:8000 if unset); the administrator's password is
    /// AEGIS_ADMIN_PASSWORD or a random one.
    #[command(after_help = "\
Examples:
  cargo xtask up
  cargo xtask up --release
  AEGIS_LISTEN=127.0.0.1:9000 AEGIS_ADMIN_PASSWORD='a long passphrase' cargo xtask up
  AEGIS_UP_POSTGRES_URL=postgres://postgres:secret@db:5432/postgres cargo xtask up

Logs: .xtask/logs/<role>.log. Settings of the running processes: .xtask/up.env")]
    Up(up::Args),

    /// Run all tests with the stores up (AEGIS_TEST_* set).
    ///
    /// What follows `--` is passed on to `cargo test`. The exit code is that of `cargo test`.
    #[command(after_help = "\
Examples:
  cargo xtask test
  cargo xtask test -- -p aegis-db
  cargo xtask test -- -p aegis --test story -- --nocapture")]
    Test {
        /// Arguments for `cargo test`.
        #[arg(last = true)]
        args: Vec<OsString>,
    },

    /// Bring the stores up, run a command with AEGIS_TEST_* set, take the stores down.
    #[command(after_help = "\
Examples:
  cargo xtask stores -- env
  cargo xtask stores -- bash
  cargo xtask stores -- cargo test -p aegis-events
  cargo xtask stores -- sh -c 'psql \"$AEGIS_TEST_POSTGRES_URL\"'")]
    Stores {
        /// The command and its arguments.
        #[arg(last = true, required = true)]
        command: Vec<OsString>,
    },

    /// What the build server runs: format, lints, dependency rules, tests.
    #[command(after_help = "\
Examples:
  cargo xtask ci
  cargo xtask ci --advisories    also the published advisories (needs the network)")]
    Ci(ci::Args),

    /// Measure a release build: start, memory, sync, requests a second against a bare route, moves.
    #[command(after_help = "\
Examples:
  cargo xtask bench
  cargo xtask bench --seconds 20 --json
  cargo xtask bench --only analytics
  cargo xtask bench --only tests --postgres")]
    Bench(bench::Args),

    /// The bare route that `bench` measures against.
    #[cfg(feature = "bench")]
    #[command(hide = true)]
    Floor {
        /// The file that it answers.
        body: std::path::PathBuf,
    },
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let result = proc::watch_signals().and_then(|()| guard::start()).and_then(|()| match cli.command {
        Command::Up(args) => up::run(&args),
        Command::Test { args } => test::run(&args),
        Command::Stores { command } => test::stores(&command),
        Command::Ci(args) => ci::run(&args),
        Command::Bench(args) => bench::run(&args),
        #[cfg(feature = "bench")]
        Command::Floor { body } => bench::floor(body),
    });
    guard::end();
    match result {
        Ok(code) => ExitCode::from(code),
        Err(error) if error.is::<proc::Interrupted>() => {
            ui::note("stopped");
            ExitCode::from(130)
        }
        Err(error) => {
            ui::error(&format!("{error:#}"));
            ExitCode::FAILURE
        }
    }
}
