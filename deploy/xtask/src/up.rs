//! `cargo xtask up`: every role as its own process over real stores.

use std::fs::{self, File, OpenOptions};
use std::io::Write as _;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anstream::println;
use anyhow::{Context as _, Result, bail};
use owo_colors::OwoColorize as _;
use rustix::process::Signal;

use crate::proc::{self, Proc};
use crate::stores::{Options, Stores};
use crate::workspace::{ROLES, Workspace};
use crate::{ports, ui};

/// What `cargo xtask up` can be told.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Build and run with optimisation.
    #[arg(long)]
    release: bool,

    /// Run this binary instead of building one.
    #[arg(long, value_name = "PATH", conflicts_with = "release")]
    bin: Option<PathBuf>,
}

/// Brings everything up and stays until it is told to stop or something ends.
pub fn run(args: &Args) -> Result<u8> {
    let workspace = Workspace::find()?;
    let gateway = gateway_address()?;
    let binary = build(&workspace, args)?;
    let logs = workspace.root.join(".xtask/logs");

    let since = Instant::now();
    let mut system = System::start(&workspace.root, &binary, gateway, &logs, &[])?;
    let file = EnvFile::write(workspace.root.join(".xtask/up.env"), &system.settings)?;
    ui::done("up", "everything is ready", since);
    announce(&system.settings, &system.roles, &logs, &file);

    let end = loop {
        if let Err(end) = system.check_alive().and_then(|()| proc::pause()) {
            break end;
        }
    };
    let since = Instant::now();
    ui::step("down", "stopping the roles and the stores");
    drop(file);
    drop(system);
    ui::done("down", "nothing is left running", since);
    // Ctrl-C is the ordinary end.
    if end.is::<proc::Interrupted>() { Ok(0) } else { Err(end) }
}

/// Every role as a process of its own over all four stores. Taken down when dropped, the stores last.
pub struct System {
    roles: Roles,
    settings: Settings,
    stores: Stores,
}

impl System {
    /// Brings the stores up, migrates, starts the roles and waits until they are ready. `more` are settings of all of them.
    pub fn start(
        root: &Path,
        binary: &Path,
        gateway: SocketAddr,
        logs: &Path,
        more: &[(&str, &str)],
    ) -> Result<System> {
        let stores = Stores::up(&Options { durable: true, kept: false, logs: Some(logs), root })?;
        let mut settings = settings(&stores, gateway)?;
        settings.variables.extend(more.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
        migrate(binary, &settings, logs)?;
        let mut roles = Roles::start(binary, &settings, gateway, logs)?;
        roles.wait_ready()?;
        Ok(System { roles, settings, stores })
    }

    fn check_alive(&mut self) -> Result<()> {
        self.roles.check_alive()?;
        self.stores.check_alive()
    }
}

#[cfg(feature = "bench")]
impl System {
    /// Where a role listens.
    pub fn address(&self, role: &str) -> Result<SocketAddr> {
        let found = self.settings.peers.iter().find(|(name, _)| *name == role);
        found.map(|(_, address)| *address).with_context(|| format!("there is no {role}"))
    }

    /// Of `admin`.
    pub fn admin_password(&self) -> &str {
        &self.settings.admin_password
    }

    /// The roles, and the stores that are ours, and the first process of each.
    pub fn pids(&self) -> Vec<(String, u32)> {
        let roles = self.roles.running.iter().map(|(process, _)| (process.name().to_owned(), process.id()));
        roles.chain(self.stores.pids().into_iter().map(|(name, pid)| (name.to_owned(), pid))).collect()
    }
}

fn gateway_address() -> Result<SocketAddr> {
    let text = std::env::var("AEGIS_LISTEN").unwrap_or_else(|_| "127.0.0.1:8000".to_owned());
    let address: SocketAddr =
        text.parse().with_context(|| format!("AEGIS_LISTEN is no address with a port: {text}"))?;
    TcpListener::bind(address).with_context(|| {
        format!("cannot listen on {address}: stop what does, or set AEGIS_LISTEN to another address")
    })?;
    Ok(address)
}

fn build(workspace: &Workspace, args: &Args) -> Result<PathBuf> {
    if let Some(binary) = &args.bin {
        return fs::canonicalize(binary).with_context(|| format!("no {}", binary.display()));
    }
    let since = Instant::now();
    ui::step("build", "cargo build -p aegis");
    let mut command = workspace.cargo();
    command.args(["build", "-p", "aegis"]);
    if args.release {
        command.arg("--release");
    }
    proc::run_ok(&mut command)?;
    ui::done("build", "aegis", since);
    Ok(workspace.binary(args.release))
}

/// The settings that all roles share.
#[derive(Debug)]
struct Settings {
    variables: Vec<(String, String)>,
    peers: Vec<(&'static str, SocketAddr)>,
    admin_password: String,
}

fn settings(stores: &Stores, gateway: SocketAddr) -> Result<Settings> {
    let admin_password = match std::env::var("AEGIS_ADMIN_PASSWORD") {
        Ok(password) if !password.is_empty() => password,
        _ => ports::random_hex(12)?,
    };
    let mut variables: Vec<(String, String)> = [
        ("AEGIS_DATABASE_URL", stores.postgres.provision()?),
        ("AEGIS_BROKER_URL", stores.rabbitmq.url.clone()),
        ("AEGIS_CACHE_URL", stores.redis.url.clone()),
        ("AEGIS_BLOB_URL", format!("s3://{}/evidence", stores.s3.bucket)),
        ("AEGIS_S3_ENDPOINT", stores.s3.endpoint.clone()),
        ("AEGIS_S3_REGION", stores.s3.region.clone()),
        ("AEGIS_S3_ACCESS_KEY_ID", stores.s3.access_key_id.clone()),
        ("AEGIS_S3_SECRET_ACCESS_KEY", stores.s3.secret_access_key.clone()),
        ("AEGIS_SERVICE_SECRET", ports::random_hex(32)?),
        ("AEGIS_DATA_DIR", stores.folder("data")?.display().to_string()),
        ("AEGIS_ADMIN_PASSWORD", admin_password.clone()),
    ]
    .map(|(name, value)| (name.to_owned(), value))
    .into();
    let mut peers = Vec::new();
    for role in ROLES {
        if role == "gateway" {
            peers.push((role, gateway));
            continue;
        }
        let address = ports::local(ports::free()?);
        variables.push((format!("AEGIS_{}_URL", role.to_uppercase()), format!("http://{address}")));
        peers.push((role, address));
    }
    Ok(Settings { variables, peers, admin_password })
}

/// The product's binary with the shared settings.
fn product(binary: &Path, settings: &Settings) -> Command {
    let mut command = Command::new(binary);
    // What is meant for this program would only confuse the product.
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("AEGIS_UP_") {
            command.env_remove(name);
        }
    }
    command.envs(settings.variables.iter().map(|(name, value)| (name, value)));
    command
}

fn migrate(binary: &Path, settings: &Settings, logs: &Path) -> Result<()> {
    let since = Instant::now();
    let log = logs.join("migrate.log");
    let output = File::create(&log).with_context(|| format!("cannot write {}", log.display()))?;
    let status = proc::run(product(binary, settings).arg("migrate").stdout(output.try_clone()?).stderr(output))?;
    if !status.success() {
        let text = fs::read_to_string(&log).unwrap_or_default();
        bail!("`aegis migrate` failed ({status}):\n{}", text.trim_end());
    }
    ui::done("migrate", "schemas are up to date", since);
    Ok(())
}

/// The running roles. Stopped when dropped: the gateway first, so that no request comes in half way.
struct Roles {
    running: Vec<(Proc, SocketAddr)>,
}

impl Roles {
    fn start(binary: &Path, settings: &Settings, gateway: SocketAddr, logs: &Path) -> Result<Self> {
        let mut roles = Self { running: Vec::new() };
        for (role, address) in &settings.peers {
            let mut command = product(binary, settings);
            command.args(["serve", role]).env("AEGIS_LISTEN", address.to_string());
            let log = logs.join(format!("{role}.log"));
            let process = Proc::spawn(role, &mut command, &log, Signal::TERM)?;
            roles.running.push((process, *address));
        }
        ui::step("roles", &format!("{} processes started, gateway on {gateway}", ROLES.len()));
        Ok(roles)
    }

    fn wait_ready(&mut self) -> Result<()> {
        const LIMIT: Duration = Duration::from_secs(120);
        let since = Instant::now();
        let mut ready = vec![false; self.running.len()];
        while ready.contains(&false) {
            self.check_alive()?;
            for (index, (process, address)) in self.running.iter().enumerate() {
                if !ready[index] && ports::http_ok(reachable(*address), "/readyz") {
                    ready[index] = true;
                    ui::done(process.name(), &format!("ready on {address}"), since);
                }
            }
            if since.elapsed() > LIMIT {
                let late = self.running.iter().zip(&ready).find(|(_, ready)| !**ready);
                let lines =
                    late.map(|((process, _), _)| format!("{} is not ready{}", process.name(), process.last_lines()));
                bail!("{} (waited {} s)", lines.unwrap_or_default(), LIMIT.as_secs());
            }
            proc::pause()?;
        }
        Ok(())
    }

    fn check_alive(&mut self) -> Result<()> {
        self.running.iter_mut().try_for_each(|(process, _)| process.check_alive())
    }
}

impl Drop for Roles {
    fn drop(&mut self) {
        // The gateway is the last one started.
        drop(self.running.pop());
        for (process, _) in &mut self.running {
            process.begin_stop();
        }
    }
}

/// An address to connect to for one to listen on: 0.0.0.0 is none.
fn reachable(mut address: SocketAddr) -> SocketAddr {
    if address.ip().is_unspecified() {
        address.set_ip(ports::local(0).ip());
    }
    address
}

/// The settings as a file that a shell can read, for the product's other commands. Gone with the rest.
struct EnvFile(PathBuf);

impl EnvFile {
    fn write(path: PathBuf, settings: &Settings) -> Result<Self> {
        // It holds secrets: nobody else may read it, not even for a moment.
        let _ = fs::remove_file(&path);
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&path)
            .with_context(|| format!("cannot write {}", path.display()))?;
        for (name, value) in &settings.variables {
            writeln!(file, "export {name}={}", quoted(value))?;
        }
        Ok(Self(path))
    }
}

impl Drop for EnvFile {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

fn quoted(value: &str) -> String {
    format!("'{}'", value.replace('\'', r"'\''"))
}

fn announce(settings: &Settings, roles: &Roles, logs: &Path, file: &EnvFile) {
    println!();
    for (process, address) in &roles.running {
        let what = match process.name() {
            "gateway" => format!("http://{address}/api/v1").green().bold().to_string(),
            _ => format!("http://{address}"),
        };
        println!("  {:<10} {what}", process.name());
    }
    println!();
    println!("  {:<10} admin", "user");
    println!("  {:<10} {}", "password", settings.admin_password.bold());
    println!("  {:<10} {}", "logs", logs.display());
    println!();
    for (name, value) in &settings.variables {
        println!("  export {name}={}", quoted(value).dimmed());
    }
    println!();
    println!("  The same for a shell: . {}", file.0.display());
    println!("  Ctrl-C stops everything and throws the data away.");
}
