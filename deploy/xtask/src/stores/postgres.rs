//! PostgreSQL: a private cluster, and the database with one role and schema a service.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use rustix::process::Signal;
use url::Url;

use super::{Compose, Scratch, Source, keeper::Keeper};
use crate::proc::{self, Account, Proc};
use crate::{ports, ui};

/// The services that keep data, each with a schema and role of its own.
const SERVICES: [&str; 7] = ["identity", "catalog", "testing", "evidence", "intel", "analytics", "deception"];

/// The folder with `initdb`, `postgres` and `psql`.
pub struct Programs(PathBuf);

/// The newest PostgreSQL of this machine.
pub fn find() -> Option<Programs> {
    let version = |path: &Path| -> Option<u32> { path.file_name()?.to_str()?.parse().ok() };
    let packaged = fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten()
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.join("bin/initdb").is_file() && path.join("bin/postgres").is_file())
        .max_by_key(|path| version(path))
        .map(|path| path.join("bin"));
    let on_path = || {
        let folder = proc::find_program("initdb", &[])?.parent()?.to_owned();
        (folder.join("postgres").is_file() && folder.join("psql").is_file()).then_some(folder)
    };
    packaged.or_else(on_path).map(Programs)
}

/// How SQL reaches the server.
#[derive(Debug)]
enum Psql {
    Program(PathBuf),
    /// The command line of a `psql` in a container.
    Container(Vec<std::ffi::OsString>),
}

/// A running PostgreSQL.
#[derive(Debug)]
pub struct Postgres {
    /// Where it is, as a superuser.
    pub admin: Url,
    psql: Psql,
    /// Where it is started again when it ends.
    pub(super) keeper: Option<Keeper>,
    pub(super) procs: Vec<Proc>,
}

impl Postgres {
    pub(super) fn up(
        source: Source<Programs>,
        scratch: &Scratch,
        logs: &Path,
        durable: bool,
        kept: bool,
        compose: Option<&Compose>,
    ) -> Result<Self> {
        let since = Instant::now();
        let (postgres, how) = match source {
            Source::Named(admin) => {
                let psql = find()
                    .map(|programs| programs.0.join("psql"))
                    .or_else(|| proc::find_program("psql", &[]))
                    .context("AEGIS_UP_POSTGRES_URL needs `psql` here (Debian: postgresql-client)")?;
                let how = "named by AEGIS_UP_POSTGRES_URL";
                (Self { admin, psql: Psql::Program(psql), keeper: None, procs: Vec::new() }, how)
            }
            Source::Compose(port) => {
                let command = compose.context("no Compose project for PostgreSQL")?.psql();
                let words = std::iter::once(command.get_program()).chain(command.get_args());
                let psql = Psql::Container(words.map(ToOwned::to_owned).collect());
                (Self { admin: local_url(port)?, psql, keeper: None, procs: Vec::new() }, "in a container")
            }
            Source::Local(programs) => (Self::start(&programs.0, scratch, logs, durable, kept)?, "local programs"),
        };
        postgres.sql("postgres", "SELECT 1;").context("PostgreSQL does not answer")?;
        let place = place(&postgres.admin, 5432);
        ui::done("postgresql", &format!("{place}, {how}"), since);
        Ok(postgres)
    }

    fn start(programs: &Path, scratch: &Scratch, logs: &Path, durable: bool, kept: bool) -> Result<Self> {
        // initdb refuses root.
        let account = Account::for_server("postgres")?;
        let folder = scratch.folder("postgres", account)?;
        let data = folder.join("data");
        let port = ports::free()?;
        let command = |program: &str| {
            let mut command = Command::new(programs.join(program));
            Account::apply(account, &mut command).current_dir(&folder).env("HOME", &folder).env_remove("PGDATA");
            command
        };
        proc::output(
            command("initdb").arg("--pgdata").arg(&data).args([
                "--username=postgres",
                "--auth=trust",
                "--encoding=UTF8",
                "--locale=C",
                "--no-sync",
            ]),
            "",
        )?;
        let mut server = command("postgres");
        server.arg("-D").arg(&data).arg("-p").arg(port.to_string());
        // Loopback only: whoever may connect is trusted.
        for setting in ["listen_addresses=127.0.0.1", "unix_socket_directories=", "max_connections=300"] {
            server.args(["-c", setting]);
        }
        if !durable {
            for setting in ["fsync=off", "synchronous_commit=off", "full_page_writes=off"] {
                server.args(["-c", setting]);
            }
        }
        if kept {
            // Its disk may be small.
            for setting in ["min_wal_size=32MB", "max_wal_size=96MB"] {
                server.args(["-c", setting]);
            }
        }
        // SIGINT is the fast shutdown; SIGTERM would wait for every client to leave.
        let log = logs.join("postgresql.log");
        let mut running = Proc::spawn("postgresql", &mut server, &log, Signal::INT)?;
        let admin = local_url(port)?;
        let psql = Psql::Program(programs.join("psql"));
        proc::wait_until(&mut running, Duration::from_secs(60), || {
            query(&psql, &admin, "postgres", "SELECT 1;").is_ok()
        })?;
        if !kept {
            return Ok(Self { admin, psql, keeper: None, procs: vec![running] });
        }
        let again = move || Proc::spawn_again("postgresql", &mut server, &log, Signal::INT);
        let keeper = Keeper::new(running, again, logs.join("postgresql.pid"))?;
        Ok(Self { admin, psql, keeper: Some(keeper), procs: Vec::new() })
    }

    /// Makes the product's database: a role and a schema a service, and nobody sees another's. Gives the
    /// URL in which `{service}` stands for the service's name.
    pub fn provision(&self) -> Result<String> {
        let since = Instant::now();
        let password = ports::random_hex(16)?;
        self.sql(
            "postgres",
            "SELECT 'CREATE DATABASE aegis' \
             WHERE NOT EXISTS (SELECT FROM pg_database WHERE datname = 'aegis')\\gexec\n",
        )?;
        let mut script = String::from(
            "BEGIN;\nREVOKE ALL ON DATABASE aegis FROM PUBLIC;\nREVOKE ALL ON SCHEMA public FROM PUBLIC;\n",
        );
        for service in SERVICES {
            let role = format!("aegis_{service}");
            let _ = write!(
                script,
                "SELECT 'CREATE ROLE {role}' WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = '{role}')\\gexec\n\
                 ALTER ROLE {role} LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE PASSWORD '{password}';\n\
                 GRANT CONNECT ON DATABASE aegis TO {role};\n\
                 CREATE SCHEMA IF NOT EXISTS {service} AUTHORIZATION {role};\n\
                 ALTER ROLE {role} SET search_path = {service};\n"
            );
        }
        script.push_str("COMMIT;\n");
        self.sql("aegis", &script).context("cannot make the roles and schemas")?;
        ui::done("database", "aegis, with a role and a schema a service", since);
        let host = self.admin.host_str().unwrap_or("127.0.0.1");
        let port = self.admin.port().unwrap_or(5432);
        let options = self.admin.query().map(|query| format!("?{query}")).unwrap_or_default();
        Ok(format!("postgres://aegis_{{service}}:{password}@{host}:{port}/aegis{options}"))
    }

    /// Whether it answers a question.
    pub fn answers(&self) -> bool {
        self.sql("postgres", "SELECT 1;").is_ok()
    }

    fn sql(&self, database: &str, script: &str) -> Result<String> {
        query(&self.psql, &self.admin, database, script)
    }
}

/// Runs `script` as the superuser. It goes through standard input and the password through the
/// environment: a command line is seen by everyone.
fn query(psql: &Psql, admin: &Url, database: &str, script: &str) -> Result<String> {
    let mut command = match psql {
        Psql::Program(program) => {
            let mut command = Command::new(program);
            let mut target = admin.clone();
            target.set_path(database);
            if let Some(password) = target.password().map(decoded) {
                command.env("PGPASSWORD", password);
                let _ = target.set_password(None);
            }
            command.env("PGCONNECT_TIMEOUT", "10").arg("--dbname").arg(target.as_str());
            command
        }
        Psql::Container(words) => {
            let mut command = Command::new(&words[0]);
            command.args(&words[1..]).arg("--dbname").arg(database);
            command
        }
    };
    command.args(["--no-psqlrc", "--quiet", "--no-password", "--set=ON_ERROR_STOP=1"]);
    proc::output(&mut command, script)
}

/// A password as it was before it was written into a URL.
fn decoded(text: &str) -> String {
    let pair = format!("p={}", text.replace('+', "%2B"));
    url::form_urlencoded::parse(pair.as_bytes()).next().map(|(_, value)| value.into_owned()).unwrap_or_default()
}

fn local_url(port: u16) -> Result<Url> {
    Ok(Url::parse(&format!("postgres://postgres@127.0.0.1:{port}/postgres"))?)
}

pub(super) fn place(url: &Url, default_port: u16) -> String {
    let host = url.host_str().unwrap_or("127.0.0.1");
    format!("{host}:{}", url.port().unwrap_or(default_port))
}
