//! The roles as `docker-compose.yml` starts them, as processes of this machine: its settings, its secrets, its scripts, over
//! stores that are brought up here. And whether what they export is what dashboards and alerts ask for.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use rustix::process::Signal;

use super::compose::{self, Service};
use super::rules::Variables;
use super::{Ground, Outcome, figures, tools};
use crate::ports;
use crate::proc::{self, Proc};
use crate::stores::{Options, Stores};

/// How long the roles have to be ready, and the sensor to be attached.
const LIMIT: Duration = Duration::from_secs(90);

pub(super) fn check(ground: &Ground) -> Result<Outcome> {
    let Some(document) = compose::read(ground)? else {
        return Ok(Outcome::LeftOut("no docker-compose, so nobody says what their settings are".to_owned()));
    };
    let services = compose::services(&document);
    let logs = ground.scratch.path().join("logs");
    let stores = Stores::up(&Options { durable: false, kept: false, logs: Some(&logs), root: &ground.root })?;
    let here = Here::new(ground, &stores, &services)?;
    provision(ground, &stores)?;
    bucket(ground, &stores)?;
    for service in services.iter().filter(|service| service.arguments == ["migrate"]) {
        tools::answer(here.command(service).arg("migrate")).context("migrate")?;
    }
    let since = Instant::now();
    let mut running = Vec::new();
    for service in services.iter().filter(|service| service.arguments.first().is_some_and(|word| word == "serve")) {
        running.push((service, here.start(service, &logs)?));
    }
    for (service, process) in &mut running {
        let address = here.address(&service.name)?;
        proc::wait_until(process, LIMIT.saturating_sub(since.elapsed()), || ports::http_ok(address, "/readyz"))?;
        tools::answer(here.command(service).arg("health")).with_context(|| format!("health of {}", service.name))?;
    }
    let ready = since.elapsed();
    enroll(ground, &here)?;
    let deception = here.address("deception")?;
    for service in services.iter().filter(|service| service.arguments == ["sensor"]) {
        let mut process = here.start(service, &logs)?;
        proc::wait_until(&mut process, LIMIT, || {
            get(deception, "/metrics").is_ok_and(|text| value(&text, "aegis_deception_sensors_attached") == Some(1.0))
        })
        .context("the sensor with the key of its enrolment")?;
        running.push((service, process));
    }
    let exported = exported(&here, &running)?;
    drop(running);
    let live = held(ground, &exported)?;
    Ok(Outcome::Held(format!(
        "{} processes as Compose starts them, ready in {:.1} s; metrics of dashboards and alerts: {live}",
        services.len(),
        ready.as_secs_f64()
    )))
}

/// The names of Compose's network, as addresses of this machine.
struct Here<'a> {
    ground: &'a Ground,
    addresses: BTreeMap<String, SocketAddr>,
    endpoint: String,
}

impl<'a> Here<'a> {
    fn new(ground: &'a Ground, stores: &Stores, services: &[Service]) -> Result<Self> {
        let mut addresses = BTreeMap::new();
        for service in services {
            addresses.insert(service.name.clone(), ports::local(ports::free()?));
        }
        // The secrets name the stores by the hosts that they have in Compose.
        let postgres = format!(
            "@{}:{}/",
            stores.postgres.admin.host_str().unwrap_or("127.0.0.1"),
            stores.postgres.admin.port().unwrap_or(5432)
        );
        let changed = |file: &str, text: &str| match file {
            "database-url" => text.replace("@postgres:5432/", &postgres),
            "broker-url" => stores.rabbitmq.url.clone(),
            "cache-url" => stores.redis.url.clone(),
            "s3-access-key-id" => stores.s3.access_key_id.clone(),
            _ => stores.s3.secret_access_key.clone(),
        };
        for entry in fs::read_dir(&ground.secrets)? {
            let folder = entry?.path();
            for file in ["database-url", "broker-url", "cache-url", "s3-access-key-id", "s3-secret-access-key"] {
                let path = folder.join(file);
                if let Ok(text) = fs::read_to_string(&path) {
                    rewrite(&path, &changed(file, &text))?;
                }
            }
        }
        let user = format!("user = \"{}:{}\"\n", stores.s3.access_key_id, stores.s3.secret_access_key);
        rewrite(&ground.secrets.join("bucket/curl"), &user)?;
        Ok(Self { ground, addresses, endpoint: stores.s3.endpoint.clone() })
    }

    fn address(&self, name: &str) -> Result<SocketAddr> {
        self.addresses.get(name).copied().with_context(|| format!("there is no service {name}"))
    }

    /// The variables of a service, with addresses that are here.
    fn variables(&self, service: &Service) -> Result<Variables> {
        let mut variables = service.variables_here(&self.ground.secrets);
        for (name, value) in &mut variables {
            if name == "AEGIS_LISTEN" {
                *value = self.address(&service.name)?.to_string();
            } else if name == "AEGIS_S3_ENDPOINT" {
                self.endpoint.clone_into(value);
            } else if let Some(host) = value.strip_prefix("http://").and_then(|rest| rest.strip_suffix(":8000")) {
                *value = format!("http://{}", self.address(host)?);
            }
        }
        // Nobody takes traces here.
        variables.remove("AEGIS_OTLP_ENDPOINT");
        let data = self.ground.scratch.path().join("data").join(&service.name);
        variables.insert("AEGIS_DATA_DIR".to_owned(), data.display().to_string());
        Ok(variables)
    }

    fn command(&self, service: &Service) -> Command {
        let mut command = Command::new(&self.ground.binary);
        // What it lacks is told by the command itself.
        command.env_clear().envs(self.variables(service).unwrap_or_default());
        command
    }

    fn start(&self, service: &Service, logs: &Path) -> Result<Proc> {
        self.variables(service)?;
        let mut command = self.command(service);
        command.args(&service.arguments);
        Proc::spawn(&service.name, &mut command, &logs.join(format!("{}.log", service.name)), Signal::TERM)
    }
}

/// What make.sh has made is not to be written to; a new file in its place may be.
fn rewrite(path: &Path, text: &str) -> Result<()> {
    fs::remove_file(path)?;
    fs::write(path, text).with_context(|| path.display().to_string())
}

/// The script that makes roles and schemas; a second time it changes nothing and does not fail.
fn provision(ground: &Ground, stores: &Stores) -> Result<()> {
    let admin = &stores.postgres.admin;
    for _ in 0..2 {
        let mut command = Command::new(ground.root.join("deploy/postgres/provision.sh"));
        command
            .arg(ground.secrets.join("postgres"))
            .env("PGHOST", admin.host_str().unwrap_or("127.0.0.1"))
            .env("PGPORT", admin.port().unwrap_or(5432).to_string())
            .env("PGUSER", admin.username());
        tools::answer(&mut command).context("deploy/postgres/provision.sh")?;
    }
    Ok(())
}

fn bucket(ground: &Ground, stores: &Stores) -> Result<()> {
    for _ in 0..2 {
        let mut command = Command::new(ground.root.join("deploy/compose/bucket.sh"));
        command
            .args([stores.s3.endpoint.trim_end_matches('/'), "aegis"])
            .env("AEGIS_SECRETS", ground.secrets.join("bucket"))
            .env("AEGIS_S3_REGION", &stores.s3.region);
        tools::answer(&mut command).context("deploy/compose/bucket.sh")?;
    }
    Ok(())
}

fn enroll(ground: &Ground, here: &Here<'_>) -> Result<()> {
    fs::remove_file(ground.secrets.join("sensor/token"))?;
    for expected in ["has a new key", "has its key"] {
        let mut command = Command::new(ground.root.join("deploy/compose/enroll.sh"));
        command
            .env("AEGIS_URL", format!("http://{}", here.address("gateway")?))
            .env("AEGIS_SECRETS", ground.secrets.join("enroll"))
            .env("AEGIS_SENSOR_FOLDER", ground.secrets.join("sensor"));
        let said = tools::answer(&mut command).context("deploy/compose/enroll.sh")?;
        if !said.contains(expected) {
            bail!("deploy/compose/enroll.sh says: {}", said.trim());
        }
    }
    Ok(())
}

/// The names of all metrics that the processes export.
fn exported(here: &Here<'_>, running: &[(&Service, Proc)]) -> Result<BTreeSet<String>> {
    let mut names = BTreeSet::new();
    for (service, _) in running.iter().filter(|(service, _)| service.arguments != ["sensor"]) {
        let text = get(here.address(&service.name)?, "/metrics")?;
        let types = text.lines().filter_map(|line| line.strip_prefix("# TYPE "));
        names.extend(types.filter_map(|line| Some(line.split_whitespace().next()?.to_owned())));
    }
    Ok(names)
}

/// Whether every metric that somebody asks for is exported, or will be once there is something to count.
fn held(ground: &Ground, exported: &BTreeSet<String>) -> Result<String> {
    let named = figures::named(ground)?;
    let silent: BTreeSet<String> = named
        .keys()
        .filter(|name| !exported.contains(name.as_str()) && !exported.contains(figures::family(name)))
        .cloned()
        .collect();
    let declared = figures::declared(&ground.root, &silent)?;
    let unknown: Vec<String> = silent
        .difference(&declared)
        .map(|name| format!("{name} ({})", named.get(name).map_or("", String::as_str)))
        .collect();
    if !unknown.is_empty() {
        bail!("nobody exports what these ask for:\n  {}", unknown.join("\n  "));
    }
    Ok(format!("{} exported by now, {} once they have something to count", named.len() - silent.len(), declared.len()))
}

/// The answer to `GET path`, its head included.
fn get(address: SocketAddr, path: &str) -> Result<String> {
    let patience = Duration::from_secs(10);
    let mut stream = TcpStream::connect_timeout(&address, patience)?;
    stream.set_read_timeout(Some(patience))?;
    write!(stream, "GET {path} HTTP/1.0\r\nHost: {address}\r\n\r\n")?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    Ok(text)
}

/// The value of a metric without labels.
fn value(text: &str, name: &str) -> Option<f64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '))?;
    line.trim().parse().ok()
}
