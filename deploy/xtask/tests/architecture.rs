//! Holds the architecture: who may import whom, and that the services' calls form no circle.
#![allow(clippy::unwrap_used)] // a test fails by panicking, also in its helpers

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use cargo_metadata::{DependencyKind, Metadata, MetadataCommand, Package};

/// The crates that services stand on, and what each of them may import.
const PLATFORM: &[(&str, &[&str])] = &[
    ("aegis-error", &[]),
    ("aegis-rpc", &["aegis-error", "aegis-telemetry"]),
    ("aegis-db", &["aegis-error"]),
    // An event names who caused it and which trace it belongs to, so that no service has to write that again.
    ("aegis-events", &["aegis-auth", "aegis-db", "aegis-error", "aegis-proto", "aegis-telemetry"]),
    ("aegis-blob", &["aegis-error"]),
    ("aegis-cache", &["aegis-error"]),
    ("aegis-auth", &["aegis-error"]),
    ("aegis-schedule", &[]),
    ("aegis-telemetry", ANY_PLATFORM),
    ("aegis-runtime", ANY_PLATFORM),
    ("aegis-testkit", ANY_PLATFORM),
];

/// Stands for every crate of the platform.
const ANY_PLATFORM: &[&str] = &["platform"];

/// Which crate may be imported by tests alone.
const TESTKIT: &str = "aegis-testkit";

/// What the gateway draws with, and nobody else.
const RENDER: &str = "aegis-render";

/// The room a crate lives in; it decides what the crate may import.
#[derive(Debug, PartialEq)]
enum Room {
    Proto,
    Platform(&'static [&'static str]),
    Service,
    Gateway,
    /// Pure: what the gateway draws with.
    Render,
    Binary,
    Tools,
}

fn metadata() -> Metadata {
    MetadataCommand::new().manifest_path(concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml")).no_deps().exec().unwrap()
}

/// The room, from the crate's folder; its name has to be the folder's.
fn room(metadata: &Metadata, package: &Package) -> Result<Room, String> {
    let folder = package.manifest_path.parent().unwrap();
    let folder = folder.strip_prefix(&metadata.workspace_root).unwrap();
    let parts: Vec<&str> = folder.components().map(|part| part.as_str()).collect();
    let name = package.name.as_str();
    let (room, expected) = match parts.as_slice() {
        ["proto"] => (Room::Proto, "aegis-proto".to_owned()),
        ["gateway"] => (Room::Gateway, "aegis-gateway".to_owned()),
        ["gateway", "render"] => (Room::Render, RENDER.to_owned()),
        ["services", "aegis"] => (Room::Binary, "aegis".to_owned()),
        ["services", "platform", crate_name] => {
            let allowed = PLATFORM
                .iter()
                .find(|(known, _)| known.strip_prefix("aegis-") == Some(crate_name))
                .ok_or(format!("{folder} is a new platform crate: add it to the table in this test"))?;
            (Room::Platform(allowed.1), allowed.0.to_owned())
        }
        ["services", service] => (Room::Service, format!("aegis-{service}")),
        ["deploy", "xtask"] => (Room::Tools, "xtask".to_owned()),
        _ => return Err(format!("{folder} is in no room of the architecture")),
    };
    if name != expected {
        return Err(format!("{folder} is to be named {expected}, not {name}"));
    }
    Ok(room)
}

/// Whether a crate in `from` may import `to`, one of ours, in code that is no test.
fn may_import(from: &Room, to: &str) -> bool {
    let platform = PLATFORM.iter().any(|(name, _)| *name == to) && to != TESTKIT;
    match from {
        Room::Proto | Room::Render => false,
        // What they speak to a running product, and nothing of what it is made of.
        Room::Tools => to == "aegis-proto",
        Room::Platform(allowed) if *allowed == ANY_PLATFORM => platform,
        Room::Platform(allowed) => allowed.contains(&to),
        Room::Service => platform || to == "aegis-proto",
        Room::Gateway => platform || to == "aegis-proto" || to == RENDER,
        Room::Binary => to != TESTKIT,
    }
}

#[test]
fn crates_import_only_what_the_architecture_allows() {
    let metadata = metadata();
    let packages = metadata.workspace_packages();
    let ours: BTreeSet<&str> = packages.iter().map(|package| package.name.as_str()).collect();
    let mut faults = Vec::new();
    for package in &packages {
        let room = match room(&metadata, package) {
            Ok(room) => room,
            Err(fault) => {
                faults.push(fault);
                continue;
            }
        };
        for dependency in &package.dependencies {
            let to = dependency.name.as_str();
            if !ours.contains(to) {
                continue;
            }
            let test_only = dependency.kind == DependencyKind::Development;
            // A crate may name itself in its tests, to switch features on.
            let for_tests = test_only && (to == TESTKIT || to == package.name.as_str());
            if !for_tests && !may_import(&room, to) {
                faults.push(format!("{} ({room:?}) must not import {to}", package.name));
            }
        }
    }
    assert!(faults.is_empty(), "who may import whom is broken:\n  {}", faults.join("\n  "));
}

#[test]
fn the_table_names_crates_that_exist() {
    let metadata = metadata();
    let ours: BTreeSet<String> = metadata.workspace_packages().iter().map(|package| package.name.to_string()).collect();
    for (name, _) in PLATFORM {
        assert!(ours.contains(*name), "{name} is in the table but not in the workspace");
    }
}

#[test]
fn the_rules_tell_good_imports_from_bad_ones() {
    assert!(may_import(&Room::Service, "aegis-proto"));
    assert!(may_import(&Room::Service, "aegis-db"));
    assert!(!may_import(&Room::Service, "aegis-identity"));
    assert!(!may_import(&Room::Service, "aegis-testkit"));
    assert!(!may_import(&Room::Service, "aegis-gateway"));
    assert!(!may_import(&Room::Gateway, "aegis-catalog"));
    assert!(may_import(&Room::Gateway, RENDER));
    assert!(!may_import(&Room::Service, RENDER));
    assert!(!may_import(&Room::Render, "aegis-error"));
    assert!(may_import(&Room::Tools, "aegis-proto"));
    assert!(!may_import(&Room::Tools, "aegis-rpc"));
    assert!(!may_import(&Room::Proto, "aegis-error"));
    assert!(!may_import(&Room::Platform(PLATFORM[2].1), "aegis-proto"));
    assert!(may_import(&Room::Platform(ANY_PLATFORM), "aegis-db"));
    assert!(!may_import(&Room::Platform(ANY_PLATFORM), "aegis-proto"));
    assert!(may_import(&Room::Binary, "aegis-identity"));
}

/// Which services a service holds clients of.
type Calls = BTreeMap<String, BTreeSet<String>>;

#[test]
fn calls_between_services_form_no_circle() {
    let root: PathBuf = metadata().workspace_root.into();
    let clients = clients(&root.join("proto/aegis"));
    let mut calls = Calls::new();
    calls.insert("gateway".into(), called(&sources(&root.join("gateway/src")), &clients));
    for entry in fs::read_dir(root.join("services")).unwrap() {
        let folder = entry.unwrap().path();
        let name = folder.file_name().unwrap().to_string_lossy().into_owned();
        if !folder.is_dir() || name == "platform" || name == "aegis" {
            continue;
        }
        let mut owners = called(&sources(&folder.join("src")), &clients);
        // A test that calls its own service is no call to another.
        owners.remove(&name);
        calls.insert(name, owners);
    }
    let identity = calls.get("identity").unwrap();
    assert!(identity.is_empty(), "identity must call no service, but holds clients of {identity:?}");
    if let Some(circle) = circle(&calls) {
        panic!("these services call one another in a circle: {}", circle.join(" → "));
    }
}

/// The names that code uses for each generated client, with the service that owns it.
fn clients(protos: &Path) -> BTreeMap<String, String> {
    let mut names = BTreeMap::new();
    for file in files(protos, "proto") {
        let owner = file.strip_prefix(protos).unwrap().components().next().unwrap();
        let owner = owner.as_os_str().to_string_lossy().into_owned();
        for line in fs::read_to_string(&file).unwrap().lines() {
            let mut words = line.split_whitespace();
            if words.next() == Some("service")
                && let Some(service) = words.next().map(|word| word.trim_end_matches('{'))
            {
                names.insert(format!("{service}Client"), owner.clone());
                names.insert(format!("{}_client", snake_case(service)), owner.clone());
            }
        }
    }
    assert!(!names.is_empty(), "no service is defined under {}", protos.display());
    names
}

fn snake_case(name: &str) -> String {
    let mut text = String::new();
    for (index, letter) in name.chars().enumerate() {
        if letter.is_uppercase() && index > 0 {
            text.push('_');
        }
        text.extend(letter.to_lowercase());
    }
    text
}

/// The owners of the clients that `source` names, however it imports or renames their packages.
fn called(source: &str, clients: &BTreeMap<String, String>) -> BTreeSet<String> {
    source
        .lines()
        .map(|line| line.split("//").next().unwrap_or(line))
        .flat_map(|line| line.split(|letter: char| !letter.is_alphanumeric() && letter != '_'))
        .filter_map(|word| clients.get(word).cloned())
        .collect()
}

fn sources(folder: &Path) -> String {
    files(folder, "rs").iter().map(|file| fs::read_to_string(file).unwrap()).collect()
}

fn files(folder: &Path, extension: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|found| found == extension) {
                found.push(path);
            }
        }
    }
    found
}

/// A circle in the graph, as the names along it.
fn circle(calls: &Calls) -> Option<Vec<String>> {
    fn visit(calls: &Calls, at: &str, path: &mut Vec<String>, done: &mut BTreeSet<String>) -> bool {
        if let Some(start) = path.iter().position(|name| name == at) {
            path.drain(..start);
            path.push(at.to_owned());
            return true;
        }
        if done.contains(at) {
            return false;
        }
        path.push(at.to_owned());
        for next in calls.get(at).into_iter().flatten() {
            if visit(calls, next, path, done) {
                return true;
            }
        }
        path.pop();
        done.insert(at.to_owned());
        false
    }
    let mut done = BTreeSet::new();
    calls.keys().find_map(|start| {
        let mut path = Vec::new();
        visit(calls, start, &mut path, &mut done).then_some(path)
    })
}

#[test]
fn circles_are_found() {
    let graph = |edges: &[(&str, &[&str])]| -> Calls {
        edges.iter().map(|(from, to)| ((*from).into(), to.iter().map(|name| (*name).into()).collect())).collect()
    };
    let line = graph(&[("a", &["b", "c"]), ("b", &["c"]), ("c", &[])]);
    assert_eq!(circle(&line), None);
    let ring = graph(&[("a", &["b"]), ("b", &["c"]), ("c", &["b"])]);
    assert_eq!(circle(&ring), Some(vec!["b".into(), "c".into(), "b".into()]));
}

#[test]
fn clients_are_found_in_sources() {
    let clients = BTreeMap::from([
        ("CatalogServiceClient".to_owned(), "catalog".to_owned()),
        ("catalog_service_client".to_owned(), "catalog".to_owned()),
        ("identity_service_client".to_owned(), "identity".to_owned()),
    ]);
    let source = "use aegis_proto::catalog::v1::{catalog_service_client::CatalogServiceClient};\n\
                  // use aegis_proto::identity::v1::identity_service_client::X;\n\
                  let my_identity_service_client_of_old = 1;";
    assert_eq!(called(source, &clients), BTreeSet::from(["catalog".to_owned()]));
}
