//! Servers that are missing, run by `docker compose`: the images of the workspace's file, without its secrets and volumes.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context as _, Result};

use crate::{guard, ports, proc, ui};

/// Whether an engine answers.
pub fn available() -> bool {
    let quiet = |arguments: &[&str]| {
        Command::new("docker")
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .is_ok_and(|status| status.success())
    };
    quiet(&["compose", "version"]) && quiet(&["info"])
}

/// A running project. Taken down, with its volumes, when dropped.
#[derive(Debug)]
pub struct Compose {
    project: String,
    file: PathBuf,
}

impl Compose {
    /// Starts `services`, each on its port of the loopback address.
    pub fn up(root: &Path, folder: &Path, services: &[(&str, u16)]) -> Result<Self> {
        let since = Instant::now();
        let product = fs::read_to_string(root.join("docker-compose.yml")).context("docker-compose.yml")?;
        let file = folder.join("stores.yml");
        fs::write(&file, text(services, &product)?)?;
        let compose = Self { project: format!("aegis-xtask-{}", ports::random_hex(4)?), file };
        guard::project(&compose.project);
        let names: Vec<&str> = services.iter().map(|(name, _)| *name).collect();
        ui::step("compose", &format!("docker compose up {}", names.join(" ")));
        proc::run_ok(compose.command().args(["up", "--detach", "--wait", "--no-deps"]).args(&names))
            .context("docker compose")?;
        ui::done("compose", "containers ready", since);
        Ok(compose)
    }

    /// A `psql` in the database's container.
    pub fn psql(&self) -> Command {
        let mut command = self.command();
        command.args(["exec", "--no-TTY", "postgres", "psql", "--username=postgres"]);
        command
    }

    fn command(&self) -> Command {
        let mut command = Command::new("docker");
        command.args(["compose", "--project-name", &self.project, "--file"]).arg(&self.file);
        command
    }
}

impl Drop for Compose {
    fn drop(&mut self) {
        let _ = self
            .command()
            .args(["down", "--volumes", "--remove-orphans", "--timeout", "5"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status();
    }
}

/// The servers on their own ports, with accounts that are known here.
fn text(services: &[(&str, u16)], product: &str) -> Result<String> {
    let mut text = String::from("services:\n");
    for (name, port) in services {
        let (inner, settings) = match *name {
            "postgres" => (
                5432,
                "    environment:\n      POSTGRES_USER: postgres\n      POSTGRES_DB: postgres\n      \
                 POSTGRES_HOST_AUTH_METHOD: trust\n    command: [postgres, -c, max_connections=300]\n    \
                 healthcheck:\n      test: [CMD, pg_isready, -h, 127.0.0.1, -U, postgres]\n      interval: 1s\n      retries: 60\n",
            ),
            "redis" => (
                6379,
                "    command: [redis-server, --save, '', --appendonly, 'no']\n    \
                 healthcheck:\n      test: [CMD, redis-cli, ping]\n      interval: 1s\n      retries: 60\n",
            ),
            _ => (
                5672,
                "    environment:\n      RABBITMQ_DEFAULT_USER: guest\n      RABBITMQ_DEFAULT_PASS: guest\n    \
                 healthcheck:\n      test: [CMD, rabbitmq-diagnostics, -q, check_port_connectivity]\n      \
                 interval: 2s\n      timeout: 10s\n      retries: 60\n",
            ),
        };
        let image = image(product, name).with_context(|| format!("docker-compose.yml has no image of {name}"))?;
        let _ = writeln!(text, "  {name}:\n    image: {image}");
        let _ = write!(text, "    ports: ['127.0.0.1:{port}:{inner}']\n{settings}");
    }
    Ok(text)
}

/// The image that the product's own file names.
fn image<'a>(product: &'a str, name: &str) -> Option<&'a str> {
    let images = product.lines().filter_map(|line| line.trim().strip_prefix("image: "));
    images.map(str::trim).find(|image| image.split(':').next() == Some(name))
}
