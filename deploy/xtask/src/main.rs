//! The developer's commands: `cargo xtask up`, `test`, `ci`, `bench`, `faults` and more; `cargo xtask --help` has all.

mod bench;
mod ci;
mod contract;
mod deploy;
mod faults;
mod fuzz;
mod guard;
mod ports;
mod proc;
mod sbom;
mod stores;
mod test;
mod tree;
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
  cargo xtask contract           every answer held to the OpenAPI document, as every role
  cargo xtask fuzz               every parser of what comes from outside
  cargo xtask bench              the figures of a release build
  cargo xtask faults             every store and role stopped, killed, frozen, slow, and back

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

    /// What the build server runs: format, lints, dependency rules, tests, the checks of Compose and Kubernetes.
    #[command(after_help = "\
Examples:
  cargo xtask ci
  cargo xtask ci --advisories    fail where the published advisories cannot be had")]
    Ci(ci::Args),

    /// Check docker-compose.yml, deploy/ and k8s/: linters, schemas, and the roles run with what these say.
    ///
    /// Installs what it needs from PyPI into the build folder, and promtool from the distribution's packages where this
    /// is root; a check whose program is not to be had is left out, and said so.
    #[command(after_help = "\
Examples:
  cargo xtask deploy-check
  cargo xtask deploy-check --files     only what looks at files")]
    DeployCheck(deploy::Args),

    /// Hold the product to its OpenAPI document, as every role and as nobody.
    ///
    /// Each role has a product of its own in a scratch folder, with something of everything in it. schemathesis asks
    /// every operation for what the document allows and for what it does not: no answer may be 5xx, and each has the
    /// status, the media type, the headers and the schema that the document says. schemathesis is installed from PyPI
    /// into the build folder.
    #[command(after_help = "\
Examples:
  cargo xtask contract
  cargo xtask contract --role viewer --role none
  cargo xtask contract --thorough --examples 20 --seed 7
  cargo xtask contract --binary target/release/aegis

Results: target/contract/<role>/")]
    Contract(contract::Args),

    /// Fuzz every parser of what comes from outside, guided by coverage (libFuzzer), for a bounded time.
    ///
    /// The first build takes some minutes. What was learned is kept in target/fuzz/corpus; seeds are in
    /// deploy/fuzz/seeds. The tests run each target over its seeds, and for a moment over what becomes of them.
    #[command(after_help = "\
Examples:
  cargo xtask fuzz                              ten seconds each, about six minutes on two processors
  cargo xtask fuzz --seconds 600 stix redis
  cargo xtask fuzz --list")]
    Fuzz(fuzz::Args),

    /// What the product is made of, as a CycloneDX document.
    #[command(after_help = "\
Examples:
  cargo xtask sbom > aegis.cdx.json
  cargo xtask sbom --check --output aegis.cdx.json    also hold it against CycloneDX's schema
  cargo xtask sbom --target aarch64-unknown-linux-gnu")]
    Sbom(sbom::Args),

    /// Measure a release build: every figure that was asked for, each beside its target or its floor.
    #[command(after_help = "\
Examples:
  cargo xtask bench
  cargo xtask bench --json=now.json --markdown=now.md
  cargo xtask bench --only analytics
  cargo xtask bench --only deception --events 10000000 --postgres
  cargo xtask bench compare before.json now.json")]
    Bench(bench::Args),

    /// Stop, kill, freeze and slow down every store and every role while people work, and count what was confirmed.
    ///
    /// Everything runs as `up` runs it, behind proxies. In each case people make tests, walk them through, comment,
    /// bring files, sign in, listen, and decoys are attacked; then the fault comes, stays, and goes. What was confirmed
    /// has to be there once; what was refused has to be said as documented; what does not stand on the target has to go
    /// on; and all has to be well within ten seconds. A full disk needs root, which mounts small ones.
    #[command(after_help = "\
Examples:
  cargo xtask faults                       all cases, about six minutes
  cargo xtask faults --quick               one of each kind, in about two minutes
  cargo xtask faults --only redis --only testing:killed
  cargo xtask faults --json > faults.json

The exit code is 1 if anything was not as it should be. Logs: .xtask/faults/")]
    Faults(faults::Args),

    /// The S3 store as a process of its own, for `faults`.
    #[command(hide = true)]
    ServeS3 {
        /// Where its files are.
        folder: std::path::PathBuf,
        /// Where it listens, on the loopback address.
        port: u16,
    },

    /// The bare route, or the bare SSH server, that `bench` measures against.
    #[cfg(feature = "bench")]
    #[command(hide = true)]
    Floor {
        /// The file that the route answers; without one it is the SSH server.
        body: Option<std::path::PathBuf>,
    },
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let result = proc::watch_signals().and_then(|()| guard::start()).and_then(|()| match cli.command {
        Command::Up(args) => up::run(&args),
        Command::Test { args } => test::run(&args),
        Command::Stores { command } => test::stores(&command),
        Command::Ci(args) => ci::run(&args),
        Command::DeployCheck(args) => deploy::run(&args),
        Command::Contract(args) => contract::run(&args),
        Command::Fuzz(args) => fuzz::run(&args),
        Command::Sbom(args) => sbom::run(&args),
        Command::Bench(args) => bench::run(&args),
        Command::Faults(args) => faults::run(&args),
        Command::ServeS3 { folder, port } => stores::serve_s3(&folder, port),
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
