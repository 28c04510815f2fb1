//! `docker-compose.yml`: as Compose itself reads it, and what we promise of it.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};
use serde_json::Value;

use super::rules::{self, Variables, holds, list, text};
use super::{Ground, Outcome, tools};
use crate::workspace::ROLES;

/// Services that have no program that could ask them, and the sensor, which answers attackers only.
const UNASKED: [&str; 3] = ["jaeger", "otel-collector", "sensor"];

/// A service that runs the product.
pub struct Service {
    /// Its name, which is its host's.
    pub name: String,
    /// The product's arguments.
    pub arguments: Vec<String>,
    /// Its variables, as they are in the container.
    pub variables: Variables,
    /// The folder of `deploy/secrets/run` that it sees as `/run/secrets`.
    pub secrets: String,
}

impl Service {
    /// The variables with the files where they are here.
    pub fn variables_here(&self, secrets: &Path) -> Variables {
        let folder = secrets.join(&self.secrets);
        let here = |value: &String| match value.strip_prefix("/run/secrets/") {
            Some(file) => folder.join(file).display().to_string(),
            None => value.clone(),
        };
        self.variables.iter().map(|(name, value)| (name.clone(), here(value))).collect()
    }
}

/// The files that make a whole: by themselves, and with certificates between the roles.
const FILES: [&[&str]; 2] = [&["docker-compose.yml"], &["docker-compose.yml", "deploy/compose/mtls.yml"]];

/// `docker-compose.yml` as Compose understands it; none without a Compose that can say so.
pub(super) fn read(ground: &Ground) -> Result<Option<Value>> {
    read_all(ground, FILES[0])
}

fn read_all(ground: &Ground, files: &[&str]) -> Result<Option<Value>> {
    let Some(program) = ground.tools.program("docker-compose") else { return Ok(None) };
    let mut command = Command::new(program);
    command.current_dir(&ground.root).env_clear().envs(std::env::var_os("PATH").map(|path| ("PATH", path)));
    command.args(files.iter().flat_map(|file| ["--file", file]));
    let json = tools::answer(command.args(["config", "--format", "json"]))?;
    Ok(Some(serde_json::from_str(&json).context("Compose does not answer with JSON")?))
}

/// The services of the product's own image.
pub fn services(document: &Value) -> Vec<Service> {
    let all = document["services"].as_object().into_iter().flatten();
    let own = all.filter(|(_, service)| text(service, "/image").starts_with("aegis:"));
    own.map(|(name, service)| Service {
        name: name.clone(),
        arguments: words(service, "/command"),
        variables: variables(service),
        secrets: mounted(service, "/run/secrets").unwrap_or_default(),
    })
    .collect()
}

pub fn check(ground: &Ground) -> Result<Outcome> {
    let (mut all, mut own) = (0, 0);
    for files in FILES {
        let Some(document) = read_all(ground, files)? else {
            return Ok(Outcome::LeftOut("no docker-compose".to_owned()));
        };
        let problems = problems(ground, &document);
        if !problems.is_empty() {
            bail!("{}:\n  {}", files.join(" and "), problems.join("\n  "));
        }
        all += document["services"].as_object().map_or(0, serde_json::Map::len);
        own += services(&document).len();
    }
    Ok(Outcome::Held(format!(
        "{all} services in {} ways to start them, {own} of them ours, whose settings the product understands",
        FILES.len()
    )))
}

fn problems(ground: &Ground, document: &Value) -> Vec<String> {
    let mut problems = Vec::new();
    for (name, service) in document["services"].as_object().into_iter().flatten() {
        problems.extend(of_any(name, service).into_iter().map(|problem| format!("{name}: {problem}")));
    }
    let own = services(document);
    let expected: BTreeSet<&str> = ROLES.into_iter().chain(["migrate", "sensor"]).collect();
    let found: BTreeSet<&str> = own.iter().map(|service| service.name.as_str()).collect();
    if expected != found {
        problems.push(format!("the product's services are {found:?}, not {expected:?}"));
    }
    for service in &own {
        problems
            .extend(of_own(&document["services"][&service.name]).map(|problem| format!("{}: {problem}", service.name)));
        if let Err(error) = rules::understood(&ground.binary, &service.variables_here(&ground.secrets)) {
            problems.push(format!("{}: {error:#}", service.name));
        }
    }
    problems.extend(networks(document));
    problems
}

fn of_any(name: &str, service: &Value) -> Vec<String> {
    let mut problems = rules::open_secrets(&variables(service));
    let mut must = |good: bool, problem: &str| {
        if !good {
            problems.push(problem.to_owned());
        }
    };
    must(rules::pinned(text(service, "/image")), "its image has no version");
    must(!holds(service, "/privileged"), "it is privileged");
    must(service.get("mem_limit").is_some() && service.get("cpus").is_some(), "it has no limits");
    must(words(service, "/security_opt").iter().any(|word| word == "no-new-privileges:true"), "it may gain privileges");
    for volume in list(service, "/volumes") {
        let source = text(volume, "/source");
        must(!source.ends_with("docker.sock"), "it has the engine's socket");
        let target = text(volume, "/target");
        must(
            text(volume, "/type") != "bind" || holds(volume, "/read_only") || WRITABLE.contains(&target),
            "it may write to this folder",
        );
    }
    let once = text(service, "/restart") == "no";
    let asked = service.pointer("/healthcheck/test").is_some();
    must(once || asked || UNASKED.contains(&name), "it has no health check");
    problems
}

/// Where one-shot services put what they make.
const WRITABLE: [&str; 2] = ["/deploy/secrets", "/sensor"];

fn of_own(service: &Value) -> impl Iterator<Item = String> {
    let facts = [
        (holds(service, "/read_only"), "its root can be written to"),
        (text(service, "/user") == "65532:65532", "it does not say as whom it runs"),
        (words(service, "/cap_drop") == ["ALL"] && list(service, "/cap_add").is_empty(), "it has capabilities"),
    ];
    facts.into_iter().filter(|(good, _)| !good).map(|(_, problem)| problem.to_owned())
}

/// The sensor reaches deception, and nothing else.
fn networks(document: &Value) -> Vec<String> {
    let of = |service: &str| -> BTreeSet<String> {
        let networks = document.pointer(&format!("/services/{service}/networks")).and_then(Value::as_object);
        networks.into_iter().flatten().map(|(name, _)| name.clone()).collect()
    };
    let members = |network: &str| -> Vec<String> {
        let all = document["services"].as_object().into_iter().flatten();
        all.filter(|(name, _)| of(name).contains(network)).map(|(name, _)| name.clone()).collect()
    };
    let mut problems = Vec::new();
    let mut must = |good: bool, problem: &str| {
        if !good {
            problems.push(problem.to_owned());
        }
    };
    must(of("sensor") == ["decoys", "handing-in"].map(str::to_owned).into(), "the sensor is in other networks");
    must(members("handing-in") == ["deception", "sensor"], "handing-in is for deception and the sensor");
    must(members("decoys") == ["sensor"], "decoys is for the sensor");
    must(members("outside") == ["intel"], "outside is for intel");
    must(holds(document, "/networks/back/internal"), "back has a way out");
    must(holds(document, "/networks/handing-in/internal"), "handing-in has a way out");
    for network in ["decoys", "front"] {
        let way_out = format!("/networks/{network}/driver_opts/com.docker.network.bridge.enable_ip_masquerade");
        must(text(document, &way_out) == "false", &format!("{network} has a way out"));
    }
    problems
}

fn variables(service: &Value) -> Variables {
    let all = service["environment"].as_object().into_iter().flatten();
    all.map(|(name, value)| (name.clone(), value.as_str().map_or_else(|| value.to_string(), str::to_owned))).collect()
}

fn words(service: &Value, path: &str) -> Vec<String> {
    list(service, path).iter().filter_map(|word| Some(word.as_str()?.to_owned())).collect()
}

/// The name of the folder that is bound to `target`.
fn mounted(service: &Value, target: &str) -> Option<String> {
    let volume = list(service, "/volumes").iter().find(|volume| text(volume, "/target") == target)?;
    let source = PathBuf::from(text(volume, "/source"));
    Some(source.file_name()?.to_str()?.to_owned())
}
