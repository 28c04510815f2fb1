//! The processes that things happen to, and how they happen.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::Write as _;
use std::net::{SocketAddr, ToSocketAddrs as _};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use rustix::process::Signal;
use url::Url;

use super::cases::{Case, Fault, Target};
use super::proxy::Proxy;
use super::site::{self, Site};
use crate::proc::{self, Proc};
use crate::stores::{Keeper, Stores};
use crate::workspace::ROLES;
use crate::{ports, tree, ui};

/// What a slow one takes longer for each piece, either way.
const SLOW: Duration = Duration::from_millis(300);
/// A process that is not ready by then never is.
const START: Duration = Duration::from_secs(120);
/// What may be left of RabbitMQ's disk: it stops taking messages at 50 MB, before anything breaks.
const SPARED: u64 = 40_000_000;

/// Everything that runs. Taken down when dropped.
pub struct World {
    processes: HashMap<&'static str, Proc>,
    commands: HashMap<&'static str, Command>,
    addresses: HashMap<&'static str, SocketAddr>,
    proxies: HashMap<&'static str, Proxy>,
    ballast: Option<PathBuf>,
    settings: Vec<(String, String)>,
    binary: PathBuf,
    /// Where the logs are.
    pub logs: PathBuf,
    /// Of `admin`.
    pub password: String,
    // Last: they go when nothing needs them any more.
    stores: Stores,
}

/// The product in one process, and how it is started.
pub struct Home {
    process: Proc,
    command: Command,
    address: SocketAddr,
}

impl World {
    /// Makes proxies and settings, migrates, starts the roles, and waits until they are ready.
    pub fn up(stores: Stores, binary: &Path, logs: &Path) -> Result<World> {
        let mut proxies = HashMap::new();
        for (name, url) in [
            ("postgresql", stores.postgres.admin.to_string()),
            ("rabbitmq", stores.rabbitmq.url.clone()),
            ("redis", stores.redis.url.clone()),
            ("s3", stores.s3.endpoint.clone()),
        ] {
            proxies.insert(name, Proxy::new(address_of(&url)?)?);
        }
        let password = ports::random_hex(12)?;
        let through = |name: &str, url: &str| proxies[name].in_place(url);
        let mut settings: Vec<(String, String)> = [
            ("AEGIS_DATABASE_URL", through("postgresql", &stores.postgres.provision()?)?),
            ("AEGIS_BROKER_URL", through("rabbitmq", &stores.rabbitmq.url)?),
            ("AEGIS_CACHE_URL", through("redis", &stores.redis.url)?),
            ("AEGIS_BLOB_URL", format!("s3://{}/evidence", stores.s3.bucket)),
            ("AEGIS_S3_ENDPOINT", through("s3", &stores.s3.endpoint)?),
            ("AEGIS_S3_REGION", stores.s3.region.clone()),
            ("AEGIS_S3_ACCESS_KEY_ID", stores.s3.access_key_id.clone()),
            ("AEGIS_S3_SECRET_ACCESS_KEY", stores.s3.secret_access_key.clone()),
            ("AEGIS_SERVICE_SECRET", ports::random_hex(32)?),
            ("AEGIS_DATA_DIR", stores.folder("data")?.display().to_string()),
            ("AEGIS_ADMIN_PASSWORD", password.clone()),
            ("AEGIS_SHUTDOWN_SECONDS", "8".to_owned()),
            ("AEGIS_LOG", "info".to_owned()),
        ]
        .map(|(name, value)| (name.to_owned(), value))
        .into();
        let mut addresses = HashMap::new();
        for role in ROLES {
            let address = ports::local(ports::free()?);
            let proxy = Proxy::new(address)?;
            settings.push((format!("AEGIS_{}_URL", role.to_uppercase()), format!("http://{}", proxy.address)));
            addresses.insert(role, address);
            proxies.insert(role, proxy);
        }
        // It is nobody's peer.
        settings.retain(|(name, _)| name != "AEGIS_GATEWAY_URL");
        proxies.insert("sensor", Proxy::new(addresses["deception"])?);
        let mut world = World {
            processes: HashMap::new(),
            commands: HashMap::new(),
            addresses,
            proxies,
            ballast: None,
            settings,
            binary: binary.to_owned(),
            logs: logs.to_owned(),
            password,
            stores,
        };
        world.migrate()?;
        for role in ROLES {
            let mut command = world.product();
            command.args(["serve", role]).env("AEGIS_LISTEN", world.addresses[role].to_string());
            world.commands.insert(role, command);
            world.start(role)?;
        }
        let since = Instant::now();
        for role in ROLES {
            let address = world.addresses[role];
            wait_for(role, START, || ports::http_ok(address, "/readyz"))?;
        }
        ui::done("roles", "all ready", since);
        Ok(world)
    }

    /// Where people ask.
    pub fn gateway(&self) -> SocketAddr {
        self.proxies["gateway"].address
    }

    /// The decoys' process, with its key.
    pub fn start_sensor(&mut self, key: &str) -> Result<()> {
        let mut command = bare(&self.binary);
        command
            .arg("sensor")
            .env("AEGIS_DECEPTION_URL", format!("http://{}", self.proxies["sensor"].address))
            .env("AEGIS_SENSOR_TOKEN", key)
            .env("AEGIS_DATA_DIR", self.stores.folder("sensor")?)
            .env("AEGIS_LOG", "info");
        self.commands.insert("sensor", command);
        self.start("sensor")
    }

    fn product(&self) -> Command {
        let mut command = bare(&self.binary);
        command.envs(self.settings.iter().map(|(name, value)| (name, value)));
        command
    }

    fn migrate(&self) -> Result<()> {
        let output = self.product().arg("migrate").output().context("the product cannot be run")?;
        if !output.status.success() {
            bail!("`aegis migrate` failed: {}", String::from_utf8_lossy(&output.stderr).trim_end());
        }
        Ok(())
    }

    fn start(&mut self, name: &'static str) -> Result<()> {
        let log = self.logs.join(format!("{name}.log"));
        if !log.exists() {
            File::create(&log).with_context(|| format!("cannot write {}", log.display()))?;
        }
        let command = self.commands.get_mut(name).with_context(|| format!("nobody knows how {name} is started"))?;
        let process = Proc::spawn_again(name, command, &log, Signal::TERM)?;
        self.processes.insert(name, process);
        Ok(())
    }

    /// Why a case cannot be tried here.
    pub fn cannot(&self, case: Case) -> Option<&'static str> {
        match (case.target, case.fault) {
            (Target::Store(name), Fault::Stopped | Fault::Killed | Fault::Frozen)
                if self.stores.keeper(name).is_none() =>
            {
                Some("it is not a process of ours")
            }
            (Target::Store(name), Fault::Full) if self.stores.disk(disk(name)).is_none() => {
                Some("it has no disk of its own: only root can mount one")
            }
            (Target::Embedded, _) if !proc::is_root() => Some("it has no disk of its own: only root can mount one"),
            _ => None,
        }
    }

    /// Makes it happen; when this returns, it has.
    pub fn begin(&mut self, case: Case) -> Result<()> {
        let name = name(case.target);
        match case.fault {
            Fault::Stopped | Fault::Killed => {
                let gently = case.fault == Fault::Stopped;
                match case.target {
                    Target::Store(_) => self.end_store(name, gently)?,
                    _ => self.end_role(name, gently),
                }
                self.open(name, false);
            }
            Fault::Frozen => tree::signal(self.pid(case.target)?, Signal::STOP),
            Fault::Slow => self.proxies[name].delay(SLOW),
            Fault::Full => self.fill(case.target)?,
        }
        Ok(())
    }

    /// Takes it back. A store that was away answers when this returns; a role is only just started.
    pub fn end(&mut self, case: Case) -> Result<()> {
        let name = name(case.target);
        match case.fault {
            Fault::Stopped | Fault::Killed => match case.target {
                Target::Store(_) => {
                    self.keeper(name)?.hold(false);
                    wait_for(name, START, || self.answers(name))?;
                    self.open(name, true);
                }
                _ => {
                    self.start(name)?;
                    // Connections are taken when it takes them.
                    let (address, proxies) = (self.addresses.get(name).copied(), self.behind(name));
                    tokio::spawn(async move {
                        while let Some(address) = address
                            && tokio::net::TcpStream::connect(address).await.is_err()
                        {
                            tokio::time::sleep(Duration::from_millis(20)).await;
                        }
                        proxies.iter().for_each(|proxy| proxy.open(true));
                    });
                }
            },
            Fault::Frozen => tree::signal(self.pid(case.target)?, Signal::CONT),
            Fault::Slow => self.proxies[name].delay(Duration::ZERO),
            Fault::Full => {
                if let Some(ballast) = self.ballast.take() {
                    fs::remove_file(&ballast).with_context(|| format!("cannot remove {}", ballast.display()))?;
                }
                if let Target::Store(store) = case.target {
                    wait_for(store, START, || self.answers(store))?;
                }
            }
        }
        Ok(())
    }

    /// Fails if something has ended by itself.
    pub fn check(&mut self) -> Result<()> {
        self.processes.values_mut().try_for_each(Proc::check_alive)?;
        self.stores.check_alive()
    }

    fn keeper(&self, name: &str) -> Result<&Keeper> {
        self.stores.keeper(name).with_context(|| format!("{name} is not a process of ours"))
    }

    fn pid(&self, target: Target) -> Result<u32> {
        let name = name(target);
        match target {
            Target::Store(_) => self.keeper(name)?.pid(),
            _ => self.processes.get(name).map(Proc::id),
        }
        .with_context(|| format!("{name} does not run"))
    }

    fn end_store(&self, name: &str, gently: bool) -> Result<()> {
        let keeper = self.keeper(name)?;
        keeper.hold(true);
        let pid = keeper.pid().with_context(|| format!("{name} does not run"))?;
        if gently {
            // SIGTERM would have PostgreSQL wait until everybody has left.
            let signal = if name == "postgresql" { Signal::INT } else { Signal::TERM };
            if let Some(pid) = i32::try_from(pid).ok().and_then(rustix::process::Pid::from_raw) {
                rustix::process::kill_process(pid, signal)?;
            }
        } else {
            tree::signal(pid, Signal::KILL);
        }
        wait_for(name, Duration::from_secs(30), || !keeper.alive()).context("it does not end")
    }

    fn end_role(&mut self, name: &str, gently: bool) {
        if let Some(mut process) = self.processes.remove(name) {
            if !gently {
                tree::signal(process.id(), Signal::KILL);
            }
            process.begin_stop();
            // Waits for its end.
            drop(process);
        }
    }

    fn behind(&self, name: &str) -> Vec<Proxy> {
        let names: &[&str] = if name == "deception" { &["deception", "sensor"] } else { &[name] };
        // The sensor itself takes no connections but at its decoys.
        names.iter().filter(|_| name != "sensor").map(|name| self.proxies[name].clone()).collect()
    }

    fn open(&self, name: &str, open: bool) {
        self.behind(name).iter().for_each(|proxy| proxy.open(open));
    }

    fn answers(&self, name: &str) -> bool {
        let behind = self.proxies[name].behind;
        let says = |request: &[u8], begins: &[u8]| ports::ask(behind, request).is_ok_and(|a| a.starts_with(begins));
        match name {
            "postgresql" => self.stores.postgres.answers(),
            "rabbitmq" => says(b"AMQP\x00\x00\x09\x01", &[1]),
            "redis" => says(b"PING\r\n", b"+PONG"),
            _ => says(b"GET / HTTP/1.1\r\nHost: s3\r\n\r\n", b"HTTP/1.1"),
        }
    }

    /// Writes until nothing more fits.
    fn fill(&mut self, target: Target) -> Result<()> {
        let name = disk(name(target));
        let folder = self.stores.disk(name).with_context(|| format!("{name} has no disk of its own"))?;
        let path = folder.join("ballast");
        let mut file = File::create(&path).with_context(|| format!("cannot write {}", path.display()))?;
        self.ballast = Some(path);
        let spared = if name == "rabbitmq" { SPARED } else { 0 };
        let free = || rustix::fs::statvfs(&folder).map(|disk| disk.f_bavail * disk.f_frsize);
        for piece in [1 << 20, 4096, 1] {
            let bytes = vec![0; piece];
            while free()? > spared && file.write_all(&bytes).is_ok() {}
        }
        Ok(())
    }

    /// The product in one process on a disk of its own.
    pub async fn embedded(&mut self) -> Result<(Site, Home)> {
        let folder = self.stores.folder("embedded")?;
        let address = ports::local(ports::free()?);
        let mut command = bare(&self.binary);
        command
            .env("AEGIS_DATA_DIR", folder.join("data"))
            .env("AEGIS_ADMIN_PASSWORD", &self.password)
            .env("AEGIS_LISTEN", address.to_string())
            .env("AEGIS_SENSOR", "false")
            .env("AEGIS_LOG", "info");
        let process = Proc::spawn("embedded", &mut command, &self.embedded_log(), Signal::TERM)?;
        let home = Home { process, command, address };
        wait_for("embedded", START, || ports::http_ok(address, "/readyz"))?;
        let site = site::people(home.address, &self.password, 1).await?;
        Ok((site.of_case(0), home))
    }

    /// Ends it and starts it on the same data again. Fails if it has ended by itself.
    pub fn embedded_again(&self, home: Home) -> Result<Home> {
        let Home { mut process, mut command, address } = home;
        process.check_alive()?;
        // Waits for its end.
        drop(process);
        let process = Proc::spawn_again("embedded", &mut command, &self.embedded_log(), Signal::TERM)?;
        wait_for("embedded", START, || ports::http_ok(address, "/readyz"))?;
        Ok(Home { process, command, address })
    }

    fn embedded_log(&self) -> PathBuf {
        self.logs.join("embedded.log")
    }

    /// Ends it.
    pub fn end_embedded(&mut self, home: Home) {
        tokio::task::block_in_place(|| drop(home.process));
    }
}

impl Drop for World {
    fn drop(&mut self) {
        // All at once; each is then waited for.
        self.processes.values_mut().for_each(Proc::begin_stop);
    }
}

/// The product's binary with nothing of the developer's own settings.
fn bare(binary: &Path) -> Command {
    let mut command = Command::new(binary);
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        if text.starts_with("AEGIS_") || text.starts_with("OTEL_") {
            command.env_remove(&name);
        }
    }
    command
}

fn name(target: Target) -> &'static str {
    match target {
        Target::Store(name) | Target::Role(name) => name,
        Target::Sensor => "sensor",
        Target::Embedded => "embedded",
    }
}

/// What the folder of a store is called.
fn disk(name: &str) -> &str {
    if name == "postgresql" { "postgres" } else { name }
}

fn address_of(url: &str) -> Result<SocketAddr> {
    let url = Url::parse(url).context("a store's address is no URL")?;
    let (host, port) = (url.host_str().unwrap_or("127.0.0.1"), url.port().context("a store's address has no port")?);
    let found = (host, port).to_socket_addrs()?.find(SocketAddr::is_ipv4);
    found.with_context(|| format!("{host} is not known"))
}

fn wait_for(name: &str, limit: Duration, ready: impl Fn() -> bool) -> Result<()> {
    let since = Instant::now();
    while !ready() {
        if since.elapsed() > limit {
            bail!("{name} is not as it should be after {} s", limit.as_secs());
        }
        proc::pause()?;
    }
    Ok(())
}
