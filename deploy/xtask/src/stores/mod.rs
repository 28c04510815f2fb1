//! The four stores: found or started, each on its own, and taken down together.

mod compose;
mod keeper;
pub mod packages;
mod postgres;
mod rabbitmq;
mod redis;
mod s3;

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::Instant;

use anyhow::{Context as _, Result, anyhow, bail};
use tempfile::TempDir;
use url::Url;

use crate::{guard, proc, ui};
use compose::Compose;
pub use keeper::Keeper;
pub use postgres::Postgres;
pub use s3::{S3, serve as serve_s3};

/// What has a disk of its own where the stores are [`Options::kept`].
const ON_DISKS: [&str; 4] = ["postgres", "rabbitmq", "s3", "embedded"];
/// The size of such a disk.
const DISK_MIB: u32 = 384;

/// How the stores are to run.
#[derive(Debug)]
pub struct Options<'a> {
    /// Whether PostgreSQL waits for the disk. Tests do not need it and are faster without.
    pub durable: bool,
    /// Whether those that end are started again, each on a small disk of its own where this may mount one.
    pub kept: bool,
    /// Where the servers' logs go; none is a temporary folder.
    pub logs: Option<&'a Path>,
    /// The workspace, for its Compose file.
    pub root: &'a Path,
}

/// The running stores. Taken down when dropped.
#[derive(Debug)]
pub struct Stores {
    /// PostgreSQL, with a superuser.
    pub postgres: Postgres,
    /// Redis.
    pub redis: Server,
    /// RabbitMQ.
    pub rabbitmq: Server,
    /// S3.
    pub s3: S3,
    // Last: it goes when the servers have gone.
    scratch: Scratch,
}

/// A store that is known by its address alone.
#[derive(Debug)]
pub struct Server {
    /// Where it is, with user and password.
    pub url: String,
    /// The one that is started again when it ends, which may need those after it to the last; none if it is not ours.
    keeper: Option<Keeper>,
    /// The processes in the order in which they stop; none if it is not ours.
    procs: Vec<proc::Proc>,
}

impl Server {
    fn elsewhere(url: impl Into<String>) -> Self {
        Self { url: url.into(), keeper: None, procs: Vec::new() }
    }
}

/// Where a store comes from.
enum Source<Programs> {
    Named(Url),
    Local(Programs),
    Compose(u16),
}

impl Stores {
    /// Brings all four up, at the same time, and waits until they answer.
    pub fn up(options: &Options<'_>) -> Result<Self> {
        let since = Instant::now();
        let mut scratch = Scratch::new()?;
        scratch.small_disks = options.kept && proc::is_root();
        let logs = match options.logs {
            Some(folder) => {
                fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
                folder.to_owned()
            }
            None => scratch.folder("logs", None)?,
        };
        let mut plan = Plan::make()?;
        // Compose belongs to the scratch folder, so that it is taken down if anything below fails.
        let compose = plan.compose(options.root, &scratch)?;
        let Plan { postgres, redis, rabbitmq } = plan;
        let (postgres, redis, rabbitmq, s3) = thread::scope(|scope| {
            let postgres = scope
                .spawn(|| Postgres::up(postgres, &scratch, &logs, options.durable, options.kept, compose.as_ref()));
            let redis = scope.spawn(|| redis::up(redis, &scratch, &logs, options.kept));
            let rabbitmq = scope.spawn(|| rabbitmq::up(rabbitmq, &scratch, &logs));
            let s3 = scope.spawn(|| S3::up(&scratch, &logs, options.kept));
            (postgres.join(), redis.join(), rabbitmq.join(), s3.join())
        });
        let lost = |_| anyhow!("a thread that starts a store panicked");
        let mut stores = Self {
            postgres: postgres.map_err(lost)??,
            redis: redis.map_err(lost)??,
            rabbitmq: rabbitmq.map_err(lost)??,
            s3: s3.map_err(lost)??,
            scratch,
        };
        stores.scratch.compose = compose;
        ui::done("stores", "all ready", since);
        Ok(stores)
    }

    /// A folder for data that goes with the stores.
    pub fn folder(&self, name: &str) -> Result<PathBuf> {
        self.scratch.folder(name, None)
    }

    /// The disk of a server, where it has one of its own.
    pub fn disk(&self, name: &str) -> Option<PathBuf> {
        let mounted = self.scratch.mounted.lock().unwrap_or_else(PoisonError::into_inner);
        mounted.iter().find(|path| path.ends_with(name)).cloned()
    }

    /// Who starts a server again, where it is ours.
    pub fn keeper(&self, name: &str) -> Option<&Keeper> {
        match name {
            "postgresql" => self.postgres.keeper.as_ref(),
            "rabbitmq" => self.rabbitmq.keeper.as_ref(),
            "redis" => self.redis.keeper.as_ref(),
            _ => self.s3.keeper.as_ref(),
        }
    }

    /// Those that are ours, and the first process of each.
    #[cfg(feature = "bench")]
    pub fn pids(&self) -> Vec<(&'static str, u32)> {
        let (postgres, rabbitmq, redis) = (&self.postgres, &self.rabbitmq, &self.redis);
        [
            ("PostgreSQL", &postgres.keeper, &postgres.procs),
            ("RabbitMQ", &rabbitmq.keeper, &rabbitmq.procs),
            ("Redis", &redis.keeper, &redis.procs),
        ]
        .into_iter()
        .filter_map(|(name, keeper, procs)| {
            let pid = keeper.as_ref().and_then(Keeper::pid).or_else(|| procs.first().map(proc::Proc::id));
            Some((name, pid?))
        })
        .collect()
    }

    /// Fails if one of the servers has ended.
    pub fn check_alive(&mut self) -> Result<()> {
        for keeper in [&self.rabbitmq.keeper, &self.redis.keeper, &self.postgres.keeper, &self.s3.keeper] {
            keeper.as_ref().map_or(Ok(()), Keeper::check)?;
        }
        self.procs().try_for_each(proc::Proc::check_alive)
    }

    /// What the tests are told.
    pub fn test_environment(&self) -> Vec<(&'static str, String)> {
        let mut environment = vec![
            ("AEGIS_TEST_POSTGRES_URL", self.postgres.admin.to_string()),
            ("AEGIS_TEST_REDIS_URL", self.redis.url.clone()),
            ("AEGIS_TEST_RABBITMQ_URL", self.rabbitmq.url.clone()),
            ("AEGIS_TEST_S3_ENDPOINT", self.s3.endpoint.clone()),
            ("AEGIS_TEST_S3_REGION", self.s3.region.clone()),
            ("AEGIS_TEST_S3_URL", format!("s3://{}/test", self.s3.bucket)),
            ("AEGIS_TEST_S3_ACCESS_KEY_ID", self.s3.access_key_id.clone()),
            ("AEGIS_TEST_S3_SECRET_ACCESS_KEY", self.s3.secret_access_key.clone()),
        ];
        if let Some(broker) = &self.rabbitmq.keeper {
            // A test that kills the process it names sees it come back, with its data, at the same address.
            environment.push(("AEGIS_TEST_BROKER_PID_FILE", broker.pid_file().display().to_string()));
        }
        environment
    }

    fn procs(&mut self) -> impl Iterator<Item = &mut proc::Proc> {
        self.rabbitmq.procs.iter_mut().chain(&mut self.redis.procs).chain(&mut self.postgres.procs)
    }
}

impl Drop for Stores {
    fn drop(&mut self) {
        // All at once; each is then waited for when its field is dropped.
        let (rabbitmq, redis) = (&mut self.rabbitmq.keeper, &mut self.redis.keeper);
        let kept = [rabbitmq, redis, &mut self.postgres.keeper, &mut self.s3.keeper];
        kept.into_iter().flatten().for_each(Keeper::begin_stop);
        self.redis.procs.iter_mut().chain(&mut self.postgres.procs).for_each(proc::Proc::begin_stop);
    }
}

/// PostgreSQL alone, as it comes. Taken down when dropped.
#[cfg(feature = "bench")]
#[derive(Debug)]
pub struct Database {
    /// The server.
    pub postgres: Postgres,
    // Last: it goes when the server has gone.
    _scratch: Scratch,
}

#[cfg(feature = "bench")]
impl Database {
    /// Brings it up and waits until it answers; `root` is the workspace.
    pub fn up(root: &Path) -> Result<Self> {
        let mut scratch = Scratch::new()?;
        let logs = scratch.folder("logs", None)?;
        if named("AEGIS_UP_POSTGRES_URL")?.is_none() && postgres::find().is_none() && packages::available() {
            packages::install(&["postgresql"])?;
        }
        let mut absent = Vec::new();
        let source = source("PostgreSQL", "AEGIS_UP_POSTGRES_URL", postgres::find(), &mut absent)?;
        if !absent.is_empty() && !compose::available() {
            bail!("no PostgreSQL here: install it, start an engine for `docker compose`, or set AEGIS_UP_POSTGRES_URL");
        }
        if let Some(port) = source.compose_port() {
            let folder = scratch.folder("compose", None)?;
            scratch.compose = Some(Compose::up(root, &folder, &[("postgres", port)])?);
        }
        let postgres = Postgres::up(source, &scratch, &logs, true, false, scratch.compose.as_ref())?;
        Ok(Self { postgres, _scratch: scratch })
    }
}

/// Where each store is going to come from.
struct Plan {
    postgres: Source<postgres::Programs>,
    redis: Source<redis::Programs>,
    rabbitmq: Source<rabbitmq::Programs>,
}

impl Plan {
    fn make() -> Result<Self> {
        let mut missing = Vec::new();
        if named("AEGIS_UP_POSTGRES_URL")?.is_none() && postgres::find().is_none() {
            missing.push("postgresql");
        }
        if named("AEGIS_UP_REDIS_URL")?.is_none() && redis::find().is_none() {
            missing.push("redis-server");
        }
        if named("AEGIS_UP_RABBITMQ_URL")?.is_none() && rabbitmq::find().is_none() {
            missing.push("rabbitmq-server");
        }
        let mut reason = None;
        if !missing.is_empty() && packages::available() {
            // Compose may still help, so a failure here is not the end yet.
            reason = packages::install(&missing).err();
            proc::check()?;
        }
        let mut absent = Vec::new();
        let plan = Self {
            postgres: source("PostgreSQL", "AEGIS_UP_POSTGRES_URL", postgres::find(), &mut absent)?,
            redis: source("Redis", "AEGIS_UP_REDIS_URL", redis::find(), &mut absent)?,
            rabbitmq: source("RabbitMQ", "AEGIS_UP_RABBITMQ_URL", rabbitmq::find(), &mut absent)?,
        };
        if !absent.is_empty() && !compose::available() {
            let names = absent.join(", ");
            let why = reason.map(|error| format!(" ({error:#})")).unwrap_or_default();
            bail!(
                "no {names} here{why}. One of these helps:\n  \
                 - install it (Debian: apt-get install postgresql redis-server rabbitmq-server)\n  \
                 - start an engine that `docker compose` can talk to\n  \
                 - name one that runs: AEGIS_UP_POSTGRES_URL, AEGIS_UP_REDIS_URL, AEGIS_UP_RABBITMQ_URL"
            );
        }
        Ok(plan)
    }

    fn compose(&mut self, root: &Path, scratch: &Scratch) -> Result<Option<Compose>> {
        let services: Vec<(&str, u16)> = [
            ("postgres", self.postgres.compose_port()),
            ("redis", self.redis.compose_port()),
            ("rabbitmq", self.rabbitmq.compose_port()),
        ]
        .into_iter()
        .filter_map(|(name, port)| Some((name, port?)))
        .collect();
        if services.is_empty() {
            return Ok(None);
        }
        Compose::up(root, &scratch.folder("compose", None)?, &services).map(Some)
    }
}

impl<Programs> Source<Programs> {
    fn compose_port(&self) -> Option<u16> {
        match self {
            Self::Compose(port) => Some(*port),
            Self::Named(_) | Self::Local(_) => None,
        }
    }
}

fn source<Programs>(
    name: &'static str,
    variable: &str,
    local: Option<Programs>,
    absent: &mut Vec<&'static str>,
) -> Result<Source<Programs>> {
    Ok(match (named(variable)?, local) {
        (Some(url), _) => Source::Named(url),
        (None, Some(programs)) => Source::Local(programs),
        (None, None) => {
            absent.push(name);
            Source::Compose(crate::ports::free()?)
        }
    })
}

fn named(variable: &str) -> Result<Option<Url>> {
    match std::env::var(variable) {
        Ok(text) if !text.is_empty() => {
            // The value may hold a password, so the message does not.
            Url::parse(&text).map(Some).map_err(|error| anyhow!("{variable} is no URL: {error}"))
        }
        _ => Ok(None),
    }
}

/// A temporary folder of this run, and the containers that live as long.
#[derive(Debug)]
struct Scratch {
    compose: Option<Compose>,
    /// Whether [`ON_DISKS`] have disks of their own.
    small_disks: bool,
    mounted: Mutex<Vec<PathBuf>>,
    folder: TempDir,
}

impl Scratch {
    fn new() -> Result<Self> {
        let folder =
            tempfile::Builder::new().prefix("aegis-xtask-").tempdir().context("cannot make a temporary folder")?;
        guard::folder(folder.path());
        // The servers' users must reach their own folders in it, and need not list it.
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o711))?;
        Ok(Self { compose: None, small_disks: false, mounted: Mutex::default(), folder })
    }

    /// A folder of its own for `name`, which only `account` can read.
    fn folder(&self, name: &str, account: Option<proc::Account>) -> Result<PathBuf> {
        let path = self.folder.path().join(name);
        fs::create_dir_all(&path).with_context(|| format!("cannot make {}", path.display()))?;
        if self.small_disks && ON_DISKS.contains(&name) {
            self.mount(&path);
        }
        fs::set_permissions(&path, fs::Permissions::from_mode(0o700))?;
        proc::Account::own(account, &path)?;
        Ok(path)
    }

    /// A disk of its own below `path`, if this machine lets us; else the folder stays an ordinary one.
    fn mount(&self, path: &Path) {
        let mut command = Command::new("mount");
        command.args(["-t", "tmpfs", "-o", &format!("size={DISK_MIB}m"), "tmpfs"]).arg(path);
        if proc::output(&mut command, "").is_ok() {
            guard::mount(path);
            self.mounted.lock().unwrap_or_else(PoisonError::into_inner).push(path.to_owned());
        }
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        for path in self.mounted.lock().unwrap_or_else(PoisonError::into_inner).drain(..) {
            // Lazily: what a server still has open goes with it.
            let _ = proc::output(Command::new("umount").arg("-l").arg(&path), "");
        }
    }
}
