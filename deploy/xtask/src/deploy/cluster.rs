//! `k8s/`: what Kustomize makes of it, held against Kubernetes' own schemas, and what we promise of it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, bail};
use serde_json::Value;

use super::rules::{self, Variables, holds, list, text};
use super::{Ground, Outcome, tools};
use crate::workspace::ROLES;

const OVERLAYS: [&str; 4] = ["dev", "prod", "prod-gateway-api", "prod-mtls"];
/// Secrets that neither `deploy/secrets` makes nor we do. Those of cert-manager begin with `peer-`.
const ELSEWHERE: [&str; 2] = ["aegis-sensor", "aegis-tls"];
/// Where pods see their secrets.
const MOUNT: &str = "/run/secrets/aegis/";

pub(super) fn check(ground: &Ground) -> Result<Outcome> {
    let Some(kubectl) = ground.tools.program("kubectl") else {
        return Ok(Outcome::LeftOut("no kubectl".to_owned()));
    };
    let build = |folder: &Path| {
        let text = tools::answer(Command::new(&kubectl).arg("kustomize").arg(folder));
        text.with_context(|| folder.display().to_string())
    };
    // As an overlay would take them: beside the file that names them.
    let made = ground.scratch.path().join("kustomized");
    copy(&ground.secrets, &made.join("run"))?;
    fs::copy(ground.root.join("deploy/secrets/kustomization.yaml"), made.join("kustomization.yaml"))?;
    let secrets_text = build(&made)?;
    let Some(secrets) = ground.tools.yaml(&secrets_text)? else {
        return Ok(Outcome::LeftOut("no Python with PyYAML".to_owned()));
    };
    let known: BTreeSet<(String, String)> = secrets.iter().flat_map(keys).collect();

    let mut problems = Vec::new();
    let (mut documents, mut workloads) = (0, 0);
    let validate = ground.tools.program("kubernetes-validate");
    for overlay in OVERLAYS {
        let built = build(&ground.root.join("k8s/overlays").join(overlay))?;
        if let Some(program) = &validate {
            let file = ground.scratch.path().join(format!("{overlay}.yaml"));
            fs::write(&file, format!("{built}---\n{secrets_text}"))?;
            // The Gateway API's own kinds are no part of Kubernetes' schemas: it warns, and goes on.
            let quiet = ["--strict", "--quiet", "--no-warn"];
            if let Err(error) = tools::answer(Command::new(program).args(quiet).arg(&file)) {
                problems.push(format!("{overlay}: {error:#}"));
            }
        }
        let all = ground.tools.yaml(&built)?.unwrap_or_default();
        documents += all.len();
        for document in &all {
            let name = format!("{overlay}: {} {}", text(document, "/kind"), text(document, "/metadata/name"));
            if let Some(pod) = document.pointer("/spec/template/spec") {
                workloads += 1;
                let of_it = of_pod(pod).into_iter().chain(references(pod, &known)).chain(settings(ground, &all, pod));
                problems.extend(of_it.map(|problem| format!("{name}: {problem}")));
            }
        }
        problems.extend(of_all(&all).into_iter().map(|problem| format!("{overlay}: {problem}")));
    }
    if !problems.is_empty() {
        bail!("k8s:\n  {}", problems.join("\n  "));
    }
    let by = if validate.is_some() { "held against the schemas" } else { "no kubernetes-validate: no schemas" };
    Ok(Outcome::Held(format!("{documents} documents of {} overlays, {workloads} workloads; {by}", OVERLAYS.len())))
}

/// What every pod has to be, and then some of what the restricted standard asks for.
fn of_pod(pod: &Value) -> Vec<String> {
    let mut problems = Vec::new();
    let mut must = |good: bool, problem: &str| {
        if !good {
            problems.push(problem.to_owned());
        }
    };
    must(holds(pod, "/securityContext/runAsNonRoot"), "it may run as root");
    must(text(pod, "/securityContext/seccompProfile/type") == "RuntimeDefault", "it may make any system call");
    must(pod["automountServiceAccountToken"] == false, "it has a token of the cluster");
    must(pod["enableServiceLinks"] == false, "it gets variables of Services, which the product takes for settings");
    must(pod.get("hostNetwork").is_none() && pod.get("hostPID").is_none(), "it is on the host");
    for container in list(pod, "/containers").iter().chain(list(pod, "/initContainers")) {
        must(rules::pinned(text(container, "/image")), "an image has no version");
        must(container.pointer("/resources/limits/memory").is_some(), "a container has no limit of memory");
        must(container.pointer("/resources/requests/cpu").is_some(), "a container asks for no processor");
        let security = &container["securityContext"];
        must(security["allowPrivilegeEscalation"] == false, "a container may gain privileges");
        must(list(security, "/capabilities/drop") == ["ALL"], "a container has capabilities");
        let own = text(container, "/name") == "aegis";
        must(!own || holds(security, "/readOnlyRootFilesystem"), "the product's root can be written to");
    }
    problems
}

/// Secrets that are named and that nobody makes.
fn references<'a>(pod: &'a Value, known: &'a BTreeSet<(String, String)>) -> impl Iterator<Item = String> + 'a {
    let sources = list(pod, "/volumes").iter().flat_map(|volume| {
        let projected = list(volume, "/projected/sources").iter().filter_map(|source| source.get("secret"));
        projected.chain(volume.get("secret"))
    });
    sources.flat_map(move |source| {
        let name = [text(source, "/name"), text(source, "/secretName")].concat();
        let mut missing = Vec::new();
        if !ELSEWHERE.contains(&name.as_str()) && !name.starts_with("peer-") {
            if !known.iter().any(|(secret, _)| *secret == name) {
                missing.push(format!("the Secret {name} is not one of deploy/secrets"));
            }
            for item in list(source, "/items") {
                let key = text(item, "/key").to_owned();
                if !known.contains(&(name.clone(), key.clone())) {
                    missing.push(format!("the Secret {name} has no {key}"));
                }
            }
        }
        missing
    })
}

/// Whether the product understands the variables of its container, and every file that they name is there.
fn settings(ground: &Ground, all: &[Value], pod: &Value) -> Vec<String> {
    let mut problems = Vec::new();
    for container in list(pod, "/containers").iter().filter(|container| text(container, "/name") == "aegis") {
        let mut variables = Variables::new();
        for source in list(container, "/envFrom") {
            let name = text(source, "/configMapRef/name");
            let map =
                all.iter().find(|other| text(other, "/kind") == "ConfigMap" && text(other, "/metadata/name") == name);
            match map.and_then(|map| map["data"].as_object()) {
                Some(data) => {
                    variables.extend(data.iter().map(|(k, v)| (k.clone(), v.as_str().unwrap_or_default().to_owned())))
                }
                None => problems.push(format!("there is no ConfigMap {name}")),
            }
        }
        for variable in list(container, "/env") {
            let value = variable["value"].as_str().unwrap_or("of-the-pod");
            variables.insert(text(variable, "/name").to_owned(), value.to_owned());
        }
        problems.extend(rules::open_secrets(&variables));
        let files = files(pod);
        for (name, value) in &mut variables {
            let Some(file) = value.strip_prefix(MOUNT).map(str::to_owned) else { continue };
            if !files.is_empty() && !files.contains(file.as_str()) {
                problems.push(format!("{name}: no volume has {file}"));
            }
            let folders = ["identity", "s3", "sensor"];
            let here = folders.iter().map(|folder| ground.secrets.join(folder).join(&file)).find(|path| path.is_file());
            *value = here.unwrap_or_default().display().to_string();
        }
        if let Err(error) = rules::understood(&ground.binary, &variables) {
            problems.push(format!("{error:#}"));
        }
    }
    problems
}

/// The files of a pod at [`MOUNT`]; none where a whole Secret is mounted.
fn files(pod: &Value) -> BTreeSet<&str> {
    let volumes = list(pod, "/volumes").iter().filter(|volume| text(volume, "/name") == "secrets");
    let sources = volumes.flat_map(|volume| {
        list(volume, "/projected/sources").iter().filter_map(|source| source.get("secret")).chain(volume.get("secret"))
    });
    sources.flat_map(|source| list(source, "/items")).map(|item| text(item, "/path")).collect()
}

/// What holds of an overlay as a whole.
fn of_all(all: &[Value]) -> Vec<String> {
    let mut names: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for document in all {
        names.entry(text(document, "/kind")).or_default().insert(text(document, "/metadata/name"));
    }
    let has = |kind: &str, name: &str| names.get(kind).is_some_and(|all| all.contains(name));
    let mut problems = Vec::new();
    for role in ROLES {
        for kind in ["Deployment", "Service", "NetworkPolicy"] {
            if !has(kind, role) {
                problems.push(format!("{role} has no {kind}"));
            }
        }
    }
    for (kind, name) in [("NetworkPolicy", "closed"), ("Job", "migrate")] {
        if !has(kind, name) {
            problems.push(format!("there is no {kind} {name}"));
        }
    }
    let sensor =
        all.iter().find(|one| text(one, "/kind") == "NetworkPolicy" && text(one, "/metadata/name") == "sensor");
    let to: Vec<&Value> =
        sensor.into_iter().flat_map(|policy| list(policy, "/spec/egress")).flat_map(|rule| list(rule, "/to")).collect();
    let deception =
        |to: &&Value| to.pointer("/podSelector/matchLabels/app.kubernetes.io~1component") == Some(&"deception".into());
    if sensor.is_some() && !(to.len() == 1 && to.iter().all(deception)) {
        problems.push("the sensor reaches more than deception".to_owned());
    }
    problems
}

fn keys(secret: &Value) -> Vec<(String, String)> {
    let name = text(secret, "/metadata/name");
    secret["data"].as_object().into_iter().flatten().map(|(key, _)| (name.to_owned(), key.clone())).collect()
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let path = entry?.path();
        let target = to.join(path.file_name().unwrap_or_default());
        match path.is_dir() {
            true => copy(&path, &target)?,
            false => drop(fs::copy(&path, &target)?),
        }
    }
    Ok(())
}
