//! `cargo xtask contract`: the product held to its own OpenAPI document, as every role and as nobody.
//!
//! schemathesis asks each operation for what the document allows and for what it does not, and holds each answer
//! against it: status, media type, headers, schema; and no fault of ours. Each role has a product of its own, so that
//! what one changes or deletes is not missed by the next.

pub mod tools;

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow, bail};
use rustix::process::Signal;
use tempfile::TempDir;

use crate::proc::{self, Proc};
use crate::workspace::Workspace;
use crate::{guard, ports, ui};

/// Those who ask: the six roles of people, a sensor with its API key, and nobody.
const ROLES: [&str; 8] = ["admin", "red_tech", "blue_tech", "red_lead", "blue_lead", "viewer", "sensor", "none"];
/// Products that run at once.
const AT_ONCE: usize = 2;
/// Times that a request is tried to be made.
const ATTEMPTS: u64 = 3;
/// Lines of a report's beginning that are told, and of its end.
const SHOWN: usize = 40;
/// Characters of such a line.
const LONGEST: usize = 400;
/// A product that is not up by then never is.
const PATIENCE: Duration = Duration::from_secs(120);

/// What `cargo xtask contract` can be told.
#[derive(Debug, Clone, clap::Args)]
pub struct Args {
    /// Only these roles; `sensor` is an API key of a sensor, `none` is without a token.
    #[arg(long, value_parser = ROLES)]
    role: Vec<String>,
    /// The product's program; built if it is not named.
    #[arg(long)]
    binary: Option<PathBuf>,
    /// Generated requests of each operation.
    #[arg(long, default_value_t = 4)]
    examples: u32,
    /// All phases for every role, not only for administrators. Takes about ten minutes more.
    #[arg(long)]
    thorough: bool,
    /// Where chance begins; the same gives the same requests.
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

impl Default for Args {
    fn default() -> Self {
        Self { role: Vec::new(), binary: None, examples: 4, thorough: false, seed: 1 }
    }
}

/// Runs it; the exit code is 1 if an answer was not as the document says.
pub fn run(args: &Args) -> Result<u8> {
    let workspace = Workspace::find()?;
    let begun = Instant::now();
    let program = match &args.binary {
        Some(program) => program.clone(),
        None => workspace.product()?,
    };
    let sources = workspace.root.join("deploy/xtask/src/contract");
    let run = Run {
        program: fs::canonicalize(&program).with_context(|| format!("there is no {}", program.display()))?,
        tools: tools::ready(&workspace)?,
        results: workspace.target.join("contract"),
        sources,
        password: ports::random_hex(16)?,
        args: args.clone(),
    };
    let roles: Vec<&str> =
        ROLES.into_iter().filter(|role| args.role.is_empty() || args.role.iter().any(|named| named == role)).collect();
    let (next, outcomes) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..AT_ONCE.min(roles.len()) {
            scope.spawn(|| {
                while let Some(role) = roles.get(next.fetch_add(1, Ordering::SeqCst)) {
                    let outcome = run.role(role);
                    if let Ok(mut outcomes) = outcomes.lock() {
                        outcomes.push((*role, outcome));
                    }
                }
            });
        }
    });
    proc::check()?;
    let outcomes = outcomes.into_inner().map_err(|_| anyhow!("a role was lost"))?;
    let mut good = outcomes.len() == roles.len();
    for (role, outcome) in outcomes {
        match outcome {
            Ok(true) => {}
            Ok(false) => good = false,
            Err(error) => {
                ui::error(&format!("{role}: {error:#}"));
                good = false;
            }
        }
    }
    if good {
        ui::done("contract", "every answer is as the document says", begun);
        return Ok(0);
    }
    ui::error(&format!("answers that are not as the document says: see {}", run.results.display()));
    Ok(1)
}

/// What all roles have in common.
struct Run {
    program: PathBuf,
    /// The folder with Python and schemathesis.
    tools: PathBuf,
    results: PathBuf,
    sources: PathBuf,
    password: String,
    args: Args,
}

impl Run {
    /// Whether all answers to this role were as they should be.
    fn role(&self, role: &str) -> Result<bool> {
        let since = Instant::now();
        let results = self.results.join(role);
        if results.exists() {
            fs::remove_dir_all(&results).context("cannot remove earlier results")?;
        }
        fs::create_dir_all(&results).context("cannot make a folder for results")?;
        let data = TempDir::new().context("cannot make a data folder")?;
        guard::folder(data.path());
        let address = ports::local(ports::free()?);
        // Each product has a net of its own for its decoys, as all of them listen on the same ports there.
        let net = format!("127.{}.{}.0/24", 64 + address.port() % 128, address.port() / 256);
        let mut product = self.start(&results, data.path(), address, &net)?;
        self.seed(role, &results, address, &net)?;
        let (good, told) = self.schemathesis(role, &results, address)?;
        product.check_alive()?;
        let log = fs::read_to_string(results.join("aegis.log")).unwrap_or_default();
        let panics = log.matches("panicked at").count();
        if panics > 0 {
            ui::error(&format!("{role}: {panics} panics: see {}", results.join("aegis.log").display()));
        }
        ui::done("contract", &format!("{role:<10} {told}"), since);
        Ok(good && panics == 0)
    }

    fn start(&self, results: &Path, data: &Path, address: SocketAddr, net: &str) -> Result<Proc> {
        let mut command = Command::new(&self.program);
        command
            .current_dir(data)
            .env("AEGIS_DATA_DIR", data.join("data"))
            .env("AEGIS_LISTEN", address.to_string())
            .env("AEGIS_ADMIN_PASSWORD", &self.password)
            .env("AEGIS_DECKY_NET", net)
            // All routes, also the one that takes everything away.
            .env("AEGIS_DEVELOPER", "true")
            // Whatever address a feed or a data source is given, nobody is asked.
            .env("AEGIS_SOURCE_PROXY", "http://127.0.0.1:9");
        for limit in ["LOGIN_FAILURES", "LOGIN_FAILURES_PER_ADDRESS", "LOGIN_FAILURES_PER_USERNAME"] {
            command.env(format!("AEGIS_{limit}"), "1000000");
        }
        let mut product = Proc::spawn("aegis", &mut command, &results.join("aegis.log"), Signal::TERM)?;
        proc::wait_until(&mut product, PATIENCE, || ports::http_ok(address, "/health"))?;
        Ok(product)
    }

    /// A Python program of the tools', with what it is to know of this run.
    fn tool(&self, name: &str, results: &Path, address: SocketAddr, net: &str) -> Command {
        let mut command = Command::new(self.tools.join("bin").join(name));
        command
            .current_dir(results)
            .env("CONTRACT_BASE", format!("http://{address}"))
            .env("CONTRACT_FOLDER", results)
            .env("CONTRACT_NET", net)
            .env("CONTRACT_PASSWORD", &self.password)
            .env("PYTHONDONTWRITEBYTECODE", "1")
            .env("PYTHONPATH", &self.sources)
            .env("SCHEMATHESIS_HOOKS", "hooks");
        command
    }

    fn seed(&self, role: &str, results: &Path, address: SocketAddr, net: &str) -> Result<()> {
        let mut seed = self.tool("python", results, address, net);
        seed.arg(self.sources.join("seed.py")).arg(format!("http://{address}")).arg(role).arg(results);
        proc::output(&mut seed, "").map(drop).context("the product cannot be filled")
    }

    /// All operations; those whose requests could not be made are tried again, with other ones.
    fn schemathesis(&self, role: &str, results: &Path, address: SocketAddr) -> Result<(bool, String)> {
        let mut operations: Vec<String> = Vec::new();
        let mut told = None;
        for attempt in 0..ATTEMPTS {
            let report = results.join(format!("schemathesis-{attempt}.txt"));
            let mut command = self.command(role, results, address, self.args.seed + attempt);
            for operation in &operations {
                command.args(["--include-name", operation]);
            }
            let mut running = Proc::spawn("schemathesis", &mut command, &report, Signal::TERM)?;
            let status = running.wait()?;
            let text = fs::read_to_string(&report).unwrap_or_default();
            let told = told.get_or_insert_with(|| {
                text.lines().rev().find(|line| line.contains(" generated")).unwrap_or("no request").trim().to_owned()
            });
            match status.code() {
                Some(0) => return Ok((true, told.clone())),
                // Some answers were wrong: they are told, and where the rest of it is.
                Some(1) => {
                    let begun = text.find("= ERRORS =").or_else(|| text.find("= FAILURES ="));
                    // A trace may quote whole modules in one line.
                    let short = |line: &str| line.chars().take(LONGEST).collect::<String>();
                    let lines: Vec<String> = begun.map_or("", |at| &text[at..]).lines().map(short).collect();
                    // A trace has what it is about at its beginning, and what went wrong at its end.
                    let shown = match lines.len() <= 2 * SHOWN {
                        true => lines.join("\n"),
                        false => {
                            format!("{}\n…\n{}", lines[..SHOWN].join("\n"), lines[lines.len() - SHOWN..].join("\n"))
                        }
                    };
                    operations = not_asked(&text);
                    if operations.is_empty() || attempt + 1 == ATTEMPTS {
                        ui::error(&format!("{role}: {}\n{shown}", report.display()));
                        return Ok((false, told.clone()));
                    }
                    ui::note(&format!("{role}: no requests could be made for {}\n{shown}", operations.join(", ")));
                }
                _ => bail!("schemathesis failed{}", running.last_lines()),
            }
        }
        bail!("no attempt was made")
    }

    fn command(&self, role: &str, results: &Path, address: SocketAddr, seed: u64) -> Command {
        // What the others may not do is refused alike whatever they send.
        let phases = match role == "admin" || self.args.thorough {
            true => "examples,coverage,fuzzing",
            false => "examples,fuzzing",
        };
        let mut command = self.tool("schemathesis", results, address, "");
        command
            .arg("--config-file")
            .arg(self.sources.join("schemathesis.toml"))
            .args(["run", &format!("http://{address}/openapi.json"), "--no-color", "--no-shrink"])
            .args(["--phases", phases, "--workers", "2", "--generation-database", "none", "--warnings", "off"])
            .args(["--max-examples", &self.args.examples.to_string(), "--seed", &seed.to_string()]);
        command
    }
}

/// The operations of a report for which the generator broke down before a request was made; none when anything else was
/// wrong too. It draws values from answers that come in any order, and at times does not get over it.
fn not_asked(report: &str) -> Vec<String> {
    let (Some((_, errors)), None) = (report.split_once("= ERRORS ="), report.find("= FAILURES =")) else {
        return Vec::new();
    };
    let (errors, summary) = errors.split_once("= SUMMARY =").unwrap_or((errors, ""));
    // Before this, phases have the same sign.
    let (_, summary) = summary.split_once("\nErrors:\n").unwrap_or_default();
    let mut kinds = summary.lines().filter_map(|line| line.trim().strip_prefix("🚫 ")).peekable();
    if kinds.peek().is_none() || !kinds.all(|kind| kind.starts_with("Runtime Error: ")) {
        return Vec::new();
    }
    let titles = errors.lines().filter(|line| line.starts_with("__") && line.ends_with("__"));
    titles.map(|line| line.trim_matches('_').trim().to_owned()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const ERRORS: &str = "\
==== ERRORS ====
____ POST /api/v1/tests ____
Runtime Error

    Traceback (most recent call last):
____ PATCH /api/v1/users/{user_id} ____
Runtime Error

Need more help?
==== SUMMARY ====

Test Phases:
  ✅ Examples
  🚫 Fuzzing

Errors:
  🚫 Runtime Error: 2

Test cases:
  12 generated, 12 passed
";

    #[test]
    fn only_what_the_generator_did_not_get_done_is_asked_again() {
        assert_eq!(not_asked(ERRORS), ["POST /api/v1/tests", "PATCH /api/v1/users/{user_id}"]);
        // An answer that never came is the product's own.
        assert!(
            not_asked(&ERRORS.replace("🚫 Runtime Error: 2", "🚫 Runtime Error: 1\n  🚫 Network Error: 1")).is_empty()
        );
        assert!(not_asked(&ERRORS.replace("==== SUMMARY", "==== FAILURES ====\n==== SUMMARY")).is_empty());
        assert!(not_asked("").is_empty());
    }
}
