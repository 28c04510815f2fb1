//! Every route × every role × no token, from one table that must cover the document exactly.

use std::collections::{BTreeMap, BTreeSet};

use reqwest::Method;
use serde_json::{Value, json};

use crate::harness::{Answer, Api, PASSWORD, Product, form, send};

const ADMIN: &[&str] = &["admin"];
const RED: &[&str] = &["admin", "red_tech", "red_lead"];
const BLUE: &[&str] = &["admin", "blue_tech", "blue_lead"];
const LEADS: &[&str] = &["admin", "red_lead", "blue_lead"];
const AUTHORS: &[&str] = &["admin", "red_tech"];
const REMEDIATORS: &[&str] = &["admin", "red_lead", "blue_lead", "blue_tech"];
const UPLOADERS: &[&str] = &["admin", "red_tech", "blue_tech", "red_lead", "blue_lead"];
const EVERYONE: &[&str] = &["admin", "red_tech", "blue_tech", "red_lead", "blue_lead", "viewer"];

/// Who may call a route.
#[derive(Clone, Copy)]
enum Who {
    /// Without a token too.
    Public,
    /// Those of these roles.
    These(&'static [&'static str]),
}

/// What is sent along.
#[derive(Clone, Copy)]
enum With {
    Nothing,
    Json(&'static str),
    File,
}

use Who::{Public, These};
use With::{File, Json, Nothing};

/// Method, path, what stands for its parameter, who may, and a request that gets past the parsing. `$test` is an
/// administrator's draft, `$nobody` the id of nothing: what it is about does not matter where the role alone decides.
type Route = (&'static str, &'static str, &'static str, Who, With);

const TABLE: &[Route] = &[
    // Authentication
    ("POST", "/api/v1/auth/login", "", Public, Json(r#"{"username": ""}"#)),
    ("GET", "/.well-known/jwks.json", "", Public, Nothing),
    ("POST", "/api/v1/auth/logout", "", These(EVERYONE), Nothing),
    ("GET", "/api/v1/auth/me", "", These(EVERYONE), Nothing),
    (
        "POST",
        "/api/v1/auth/change-password",
        "",
        These(EVERYONE),
        Json(r#"{"old_password": "x", "new_password": "x"}"#),
    ),
    // Users
    ("GET", "/api/v1/users", "", These(ADMIN), Nothing),
    (
        "POST",
        "/api/v1/users",
        "",
        These(ADMIN),
        Json(r#"{"username": "admin", "password": "long enough 1", "role": "viewer"}"#),
    ),
    ("GET", "/api/v1/users/{id}", "$nobody", These(ADMIN), Nothing),
    ("PATCH", "/api/v1/users/{id}", "$nobody", These(ADMIN), Json(r#"{"role": "viewer"}"#)),
    // Techniques
    ("GET", "/api/v1/techniques", "", These(EVERYONE), Nothing),
    (
        "POST",
        "/api/v1/techniques",
        "",
        These(ADMIN),
        Json(r#"{"mitre_id": "T1059", "name": "Again", "tactic": "execution"}"#),
    ),
    ("GET", "/api/v1/techniques/{mitre_id}", "T1059", These(EVERYONE), Nothing),
    ("PATCH", "/api/v1/techniques/{mitre_id}", "T9999", These(ADMIN), Json(r#"{"name": "Renamed"}"#)),
    ("PATCH", "/api/v1/techniques/{mitre_id}/review", "T9999", These(LEADS), Nothing),
    ("GET", "/api/v1/tactics", "", These(EVERYONE), Nothing),
    // Tests
    ("GET", "/api/v1/tests", "", These(EVERYONE), Nothing),
    ("POST", "/api/v1/tests", "", These(AUTHORS), Json(r#"{"technique_id": "$technique", "name": "By the table"}"#)),
    (
        "POST",
        "/api/v1/tests/from-template",
        "",
        These(AUTHORS),
        Json(r#"{"template_id": "$nobody", "technique_id": "$technique"}"#),
    ),
    ("GET", "/api/v1/tests/{id}", "$test", These(EVERYONE), Nothing),
    ("PATCH", "/api/v1/tests/{id}", "$test", These(ADMIN), Json(r#"{"name": "Renamed by the table"}"#)),
    ("PATCH", "/api/v1/tests/{id}/red", "$nobody", These(RED), Json(r#"{"red_summary": "x"}"#)),
    ("PATCH", "/api/v1/tests/{id}/blue", "$nobody", These(BLUE), Json(r#"{"blue_summary": "x"}"#)),
    ("PATCH", "/api/v1/tests/{id}/remediation", "$test", These(REMEDIATORS), Json(r#"{"remediation_steps": "x"}"#)),
    ("GET", "/api/v1/tests/{id}/timeline", "$test", These(EVERYONE), Nothing),
    ("POST", "/api/v1/tests/{id}/start-execution", "$nobody", These(RED), Nothing),
    ("POST", "/api/v1/tests/{id}/submit-red", "$nobody", These(RED), Nothing),
    ("POST", "/api/v1/tests/{id}/submit-blue", "$nobody", These(BLUE), Nothing),
    (
        "POST",
        "/api/v1/tests/{id}/validate-red",
        "$nobody",
        These(&["admin", "red_lead"]),
        Json(r#"{"red_validation_status": "approved"}"#),
    ),
    (
        "POST",
        "/api/v1/tests/{id}/validate-blue",
        "$nobody",
        These(&["admin", "blue_lead"]),
        Json(r#"{"blue_validation_status": "approved"}"#),
    ),
    ("POST", "/api/v1/tests/{id}/validate", "$nobody", These(LEADS), Json(r#"{"result": "detected"}"#)),
    ("POST", "/api/v1/tests/{id}/reject", "$nobody", These(LEADS), Nothing),
    ("POST", "/api/v1/tests/{id}/reopen", "$test", These(LEADS), Nothing),
    // Evidence
    ("POST", "/api/v1/tests/{id}/evidence", "$test", These(UPLOADERS), File),
    ("GET", "/api/v1/tests/{id}/evidence", "$test", These(EVERYONE), Nothing),
    ("GET", "/api/v1/evidence/{id}", "$nobody", These(EVERYONE), Nothing),
    ("GET", "/api/v1/evidence/{id}/download", "$nobody", Public, Nothing),
    // Templates
    ("GET", "/api/v1/test-templates", "", These(EVERYONE), Nothing),
    (
        "POST",
        "/api/v1/test-templates",
        "",
        These(ADMIN),
        Json(r#"{"name": "By the table", "mitre_technique_id": "T1003"}"#),
    ),
    ("GET", "/api/v1/test-templates/stats", "", These(ADMIN), Nothing),
    ("GET", "/api/v1/test-templates/{id}", "$nobody", These(EVERYONE), Nothing),
    ("POST", "/api/v1/test-templates/{id}/toggle-active", "$nobody", These(ADMIN), Nothing),
    // Metrics
    ("GET", "/api/v1/metrics/summary", "", These(EVERYONE), Nothing),
    ("GET", "/api/v1/metrics/by-tactic", "", These(EVERYONE), Nothing),
    // Notifications
    ("GET", "/api/v1/notifications", "", These(EVERYONE), Nothing),
    ("GET", "/api/v1/notifications/unread-count", "", These(EVERYONE), Nothing),
    ("PATCH", "/api/v1/notifications/{id}/read", "$nobody", These(EVERYONE), Nothing),
    ("POST", "/api/v1/notifications/read-all", "", These(EVERYONE), Nothing),
    // Audit trail
    ("GET", "/api/v1/audit-logs", "", These(ADMIN), Nothing),
    ("GET", "/api/v1/audit-logs/actions", "", These(ADMIN), Nothing),
    ("GET", "/api/v1/audit-logs/entity-types", "", These(ADMIN), Nothing),
    ("GET", "/api/v1/audit-logs/verify", "", These(ADMIN), Nothing),
    // Data sources and the system
    ("GET", "/api/v1/data-sources", "", These(ADMIN), Nothing),
    ("PATCH", "/api/v1/data-sources/{id}", "$nobody", These(ADMIN), Json(r#"{"enabled": true}"#)),
    ("POST", "/api/v1/data-sources/{id}/sync", "$nobody", These(ADMIN), Nothing),
    ("POST", "/api/v1/system/sync-mitre", "", These(ADMIN), Nothing),
    ("GET", "/api/v1/system/jobs/{id}", "$nobody", These(ADMIN), Nothing),
    ("GET", "/api/v1/health", "", Public, Nothing),
    ("GET", "/health", "", Public, Nothing),
];

/// What the placeholders of the table stand for.
struct Fixture(Vec<(&'static str, String)>);

impl Fixture {
    async fn make(admin: &Api) -> Fixture {
        let technique = admin.get("/techniques/T1003").await.json(200)["id"].as_str().unwrap().to_owned();
        let body = json!({"technique_id": technique, "name": "An administrator's draft"});
        let test = admin.post("/tests", &body).await.json(201)["id"].as_str().unwrap().to_owned();
        let nobody = "018f0000-0000-7000-8000-00000000dead".to_owned();
        Fixture(vec![("$technique", technique), ("$test", test), ("$nobody", nobody)])
    }

    fn fill(&self, text: &str) -> String {
        self.0.iter().fold(text.to_owned(), |text, (name, value)| text.replace(name, value))
    }
}

pub async fn scenario(product: &mut Product) {
    let admin = product.admin().await;
    let document = admin.get("//openapi.json").await.json(200);
    covers(&document);
    let fixture = Fixture::make(&admin).await;
    let urls = point_nowhere(&admin).await;

    let mut faults = Vec::new();
    for route in TABLE {
        let (method, path, _, who, _) = route;
        let answer = call(&product.anonymous(), route, &fixture).await;
        let refused = answer.status == 401;
        if refused == matches!(who, Public) {
            faults.push(format!("without a token: {answer}"));
        } else if refused {
            answer.error(401, "UNAUTHENTICATED");
        }
        for role in EVERYONE {
            let someone = match *path {
                // It ends the token that it is called with.
                "/api/v1/auth/logout" => fresh(product, role).await,
                _ => product.someone(role).await,
            };
            let answer = call(&someone, route, &fixture).await;
            let may = match who {
                Public => true,
                These(roles) => roles.contains(role),
            };
            let fits = if may {
                !matches!(answer.status, 401 | 403 | 405) && answer.status < 500
            } else {
                answer.status == 403
            };
            if !fits {
                faults.push(format!("{method} {path} as {role}: {answer}"));
            } else if !may {
                answer.error(403, "FORBIDDEN");
            }
        }
    }
    for (path, url) in urls {
        admin.patch(&path, &json!({"url": url})).await.json(200);
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
    product.assert_alive();
}

/// The table and the document have the same routes, and say the same of who may.
fn covers(document: &Value) {
    let mut documented = BTreeMap::new();
    for (path, operations) in document["paths"].as_object().expect("paths") {
        for (method, operation) in operations.as_object().expect("operations") {
            if matches!(method.as_str(), "get" | "post" | "put" | "patch" | "delete") {
                documented.insert((method.to_uppercase(), path.clone()), operation);
            }
        }
    }
    let table: BTreeSet<(String, String)> =
        TABLE.iter().map(|(method, path, ..)| ((*method).to_owned(), (*path).to_owned())).collect();
    assert_eq!(table.len(), TABLE.len(), "a route is twice in the table");
    let names: BTreeSet<(String, String)> = documented.keys().cloned().collect();
    let (missing, left): (Vec<_>, Vec<_>) = (names.difference(&table).collect(), table.difference(&names).collect());
    assert!(missing.is_empty() && left.is_empty(), "not in the table: {missing:?}; not in the document: {left:?}");

    for (method, path, _, who, _) in TABLE {
        let operation = documented[&((*method).to_owned(), (*path).to_owned())];
        if let (Some(roles), These(expected)) = (operation["x-roles"].as_array(), who) {
            let told: BTreeSet<&str> = roles.iter().filter_map(Value::as_str).collect();
            assert_eq!(told, expected.iter().copied().collect(), "x-roles of {method} {path}");
        }
        let answers = operation["responses"].as_object().expect("responses");
        match who {
            Public => {}
            These(EVERYONE) => assert!(answers.contains_key("401"), "{method} {path} documents no 401"),
            These(_) => {
                assert!(
                    answers.contains_key("401") && answers.contains_key("403"),
                    "{method} {path} documents no 401 or 403"
                );
            }
        }
    }
}

/// A sync must not reach for the network here. Gives what to put back.
async fn point_nowhere(admin: &Api) -> Vec<(String, Value)> {
    let mut urls = Vec::new();
    for source in admin.get("/data-sources").await.json(200).as_array().expect("a list") {
        let path = format!("/data-sources/{}", source["id"].as_str().unwrap());
        admin.patch(&path, &json!({"url": "file:///is/not/there.json"})).await.json(200);
        urls.push((path, source["url"].clone()));
    }
    urls
}

async fn fresh(product: &Product, role: &str) -> Api {
    let nobody = product.anonymous();
    let body = json!({"username": format!("some-{}", role.replace('_', "-")), "password": PASSWORD});
    let token = nobody.post("/auth/login", &body).await.json(200);
    nobody.with_token(token["access_token"].as_str().unwrap())
}

async fn call(who: &Api, (method, path, parameter, _, with): &Route, fixture: &Fixture) -> Answer {
    let path = match path.split_once('{') {
        Some((head, rest)) => {
            let tail = rest.split_once('}').expect("a whole parameter").1;
            format!("{head}{}{tail}", fixture.fill(parameter))
        }
        None => (*path).to_owned(),
    };
    let method = Method::from_bytes(method.as_bytes()).expect("a method");
    let request = who.request(method, &format!("/{path}"));
    send(match with {
        Nothing => request,
        Json(body) => request.header("content-type", "application/json").body(fixture.fill(body)),
        File => request.multipart(form("proof.txt", b"seen by the table".to_vec(), &[])),
    })
    .await
}
