//! The OpenAPI document is complete, and the one that is checked in is the one that the code makes.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a test fails by panicking, also in its helpers

use std::collections::HashSet;

use serde_json::Value;

fn document() -> Value {
    serde_json::to_value(aegis_gateway::openapi()).unwrap()
}

fn operations(document: &Value) -> Vec<(String, Value)> {
    let paths = document["paths"].as_object().unwrap();
    let of = |path: &str, item: &Value| {
        let methods = item.as_object().unwrap().clone().into_iter();
        methods.map(|(method, operation)| (format!("{method} {path}"), operation)).collect::<Vec<_>>()
    };
    paths.iter().flat_map(|(path, item)| of(path, item)).collect()
}

fn resolve<'a>(document: &'a Value, part: &'a Value) -> &'a Value {
    match part["$ref"].as_str() {
        Some(reference) => document.pointer(reference.trim_start_matches('#')).expect(reference),
        None => part,
    }
}

/// Those answer 422 where the others answer 400.
fn of_the_deception_reference(path: &str) -> bool {
    const ROOTS: [&str; 13] = [
        "config",
        "logs",
        "bounty",
        "stats",
        "stream",
        "deckies",
        "attackers",
        "ingest",
        "sensors",
        "archetypes",
        "tagging-rules",
        "alerts",
        "approved-scanners",
    ];
    path == "/api/v1/auth/login"
        || path == "/api/v1/auth/change-password"
        || path.strip_prefix("/api/v1/").is_some_and(|rest| ROOTS.contains(&rest.split('/').next().unwrap()))
}

#[test]
fn every_operation_is_complete() {
    let document = document();
    let mut ids = HashSet::new();
    for (name, operation) in operations(&document) {
        let id = operation["operationId"].as_str().expect("operationId");
        assert!(ids.insert(id.to_owned()), "{name}: {id} is used twice");
        assert!(operation["summary"].is_string(), "{name} has no summary");
        assert_eq!(operation["tags"].as_array().map(Vec::len), Some(1), "{name}");
        let public = operation["security"].as_array().expect("security").is_empty();
        let responses = operation["responses"].as_object().unwrap();
        let mut expected = vec!["500", "503", "504"];
        if !public {
            expected.extend(["401", "403"]);
        }
        let path = name.split_once(' ').unwrap().1;
        let deception = of_the_deception_reference(path);
        let invalid = if deception { "422" } else { "400" };
        if operation.get("parameters").is_some() {
            expected.push(invalid);
        }
        if operation.get("requestBody").is_some() {
            expected.extend([invalid, "413", "415"]);
        }
        assert!(!deception || !responses.contains_key("400"), "{name} documents 400");
        for status in expected {
            assert!(responses.contains_key(status), "{name} does not document {status}");
        }
        assert!(responses.keys().any(|status| status.starts_with('2')), "{name}");
        for (status, response) in responses {
            let response = resolve(&document, response);
            assert!(response["headers"]["X-Request-Id"].is_object(), "{name} {status}");
            if matches!(status.as_str(), "204" | "304") {
                assert!(response.get("content").is_none(), "{name} has a body that says nothing");
                continue;
            }
            for (kind, content) in response["content"].as_object().expect("a body") {
                assert!(content.get("example").is_some(), "{name} {status} {kind} has no example");
                assert!(content.get("schema").is_some(), "{name} {status} {kind} has no schema");
            }
        }
        for (kind, content) in operation["requestBody"]["content"].as_object().into_iter().flatten() {
            assert!(content.get("example").is_some(), "{name} {kind} has no example");
        }
        for parameter in operation["parameters"].as_array().into_iter().flatten() {
            assert!(parameter["schema"].is_object(), "{name} {parameter}");
        }
    }
    assert!(ids.len() >= 45, "only {} operations", ids.len());
}

#[test]
fn every_reference_leads_somewhere_and_every_path_parameter_is_declared() {
    let document = document();
    fn walk(document: &Value, part: &Value) {
        match part {
            Value::Object(map) => {
                if let Some(reference) = map.get("$ref").and_then(Value::as_str) {
                    assert!(document.pointer(reference.trim_start_matches('#')).is_some(), "{reference}");
                }
                map.values().for_each(|value| walk(document, value));
            }
            Value::Array(values) => values.iter().for_each(|value| walk(document, value)),
            _ => {}
        }
    }
    walk(&document, &document);
    for (name, operation) in operations(&document) {
        let in_path: Vec<&str> = name.split('{').skip(1).filter_map(|rest| rest.split('}').next()).collect();
        let parameters = operation["parameters"].as_array().cloned().unwrap_or_default();
        let declared: Vec<&str> =
            parameters.iter().filter(|p| p["in"] == "path").filter_map(|p| p["name"].as_str()).collect();
        assert_eq!(in_path, declared, "{name}");
    }
}

#[test]
fn the_table_of_routes_says_who_may() {
    let routes = aegis_gateway::routes();
    let public = routes.iter().filter(|r| r.public).map(|r| format!("{} {}", r.method, r.path));
    let expected = [
        "GET /.well-known/jwks.json",
        "GET /api/v1/evidence/{id}/download",
        "GET /api/v1/health",
        "GET /health",
        "POST /api/v1/auth/login",
    ];
    assert_eq!(public.collect::<HashSet<_>>(), expected.map(String::from).into());
    let users = routes.iter().find(|r| r.operation_id == "list_users").unwrap();
    assert_eq!(users.roles, ["admin"]);
    let update = routes.iter().find(|r| r.operation_id == "update_test").unwrap();
    assert_eq!(update.also.as_deref(), Some("creator"));
    let known = |name: &str| aegis_auth::Role::of_key(name).is_some();
    assert!(routes.iter().flat_map(|r| &r.roles).all(|role| known(role)));
}

#[test]
fn the_checked_in_document_is_current() {
    let checked_in: Value = serde_json::from_str(include_str!("../openapi.json")).unwrap();
    assert!(
        checked_in == document(),
        "gateway/openapi.json is not what the code makes; update it with: cargo run -- openapi > gateway/openapi.json"
    );
}
