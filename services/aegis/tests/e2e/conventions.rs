//! What holds on every route that changes something: a request with an `Idempotency-Key` is made once, and a change of
//! a version that is no longer there (`If-Match`) is not made. The lists here name every such route; one that is not
//! among them fails the scenario.

use std::{
    collections::BTreeSet,
    sync::atomic::{AtomicU32, Ordering},
};

use reqwest::{Method, RequestBuilder};
use serde_json::{Value, json};

use crate::harness::{Answer, Api, Mode, PASSWORD, Product, form, send};

const IDEMPOTENCY_KEY: &str = "idempotency-key";
const NOBODYS_VERSION: &str = "\"999999-0123456789abcdef\"";
/// POSTs of the first half.
const REPEATED: &[&str] = &[
    "create_user",
    "create_config_user",
    "create_api_key",
    "create_technique",
    "create_template",
    "toggle_template_active",
    "create_test",
    "create_test_from_template",
    "start_execution",
    "submit_red",
    "submit_blue",
    "validate_red",
    "validate_blue",
    "validate_test",
    "reject_test",
    "reopen_test",
    "upload_evidence",
    "sync_data_source",
    "sync_mitre",
    "mark_all_notifications_read",
    "create_stream_ticket",
    "change_password",
    "logout",
];
/// PATCHes, PUTs, DELETEs and moves of the second half.
const CONDITIONAL: &[&str] = &[
    "update_technique",
    "review_technique",
    "toggle_template_active",
    "update_test",
    "update_red",
    "update_blue",
    "update_remediation",
    "start_execution",
    "submit_red",
    "submit_blue",
    "validate_red",
    "validate_blue",
    "validate_test",
    "reject_test",
    "reopen_test",
    "update_data_source",
    "sync_data_source",
    "update_user",
    "delete_user",
    "revoke_api_key",
    "set_config_user_role",
    "reset_config_user_password",
    "delete_config_user",
    "set_deployment_limit",
    "set_global_mutation_interval",
    "mark_notification_read",
    "update_notification_preferences",
];

pub async fn scenario(product: &mut Product) {
    every_route_is_in_the_lists();
    technique_once().await;
    let admin = product.admin().await;
    let people = People {
        red: product.someone("red_tech").await,
        blue: product.someone("blue_tech").await,
        red_lead: product.someone("red_lead").await,
        blue_lead: product.someone("blue_lead").await,
        admin,
    };
    made_once(&people).await;
    moved_once(&people).await;
    evidence_once(&people).await;
    syncs_once(product, &people).await;
    secrets_once(product, &people).await;
    at_once(&people).await;
    technique_and_template(&people).await;
    tests(&people).await;
    data_source(product, &people).await;
    users(&people).await;
    configuration(&people).await;
    notifications(&people).await;
    bad_headers(&people).await;
    tags(&people).await;
    product.assert_alive();
}

fn every_route_is_in_the_lists() {
    let routes = aegis_gateway::routes();
    let of = |methods: &[Method]| -> BTreeSet<String> {
        let those = routes.iter().filter(|route| !route.public && methods.contains(&route.method));
        those.map(|route| route.operation_id.clone()).collect()
    };
    let listed = |list: &[&str]| -> BTreeSet<String> { list.iter().map(|id| (*id).to_owned()).collect() };
    assert_eq!(of(&[Method::POST]), listed(REPEATED));
    let missing: Vec<_> =
        of(&[Method::PATCH, Method::PUT, Method::DELETE]).difference(&listed(CONDITIONAL)).cloned().collect();
    assert!(missing.is_empty(), "{missing:?}");
}

struct People {
    admin: Api,
    red: Api,
    blue: Api,
    red_lead: Api,
    blue_lead: Api,
}

/// Different in every call and every run.
fn fresh() -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    format!("{}-{:08x}-{}", std::process::id(), rand::random::<u32>(), NEXT.fetch_add(1, Ordering::Relaxed))
}

fn post(api: &Api, path: &str, body: Option<&Value>) -> RequestBuilder {
    let request = api.request(Method::POST, path);
    match body {
        Some(body) => request.json(body),
        None => request,
    }
}

/// Sends the same twice under one key: the same answer twice. Gives it, and the key.
async fn twice(status: u16, request: impl Fn() -> RequestBuilder) -> (Answer, String) {
    let key = fresh();
    let first = send(request().header(IDEMPOTENCY_KEY, &key)).await;
    assert_eq!(first.status, status, "{first}");
    let second = send(request().header(IDEMPOTENCY_KEY, &key)).await;
    assert_eq!((second.status, &second.body), (first.status, &first.body), "{first}\n{second}");
    for header in ["etag", "location"] {
        assert_eq!(second.header(header), first.header(header), "{second}");
    }
    (first, key)
}

/// Another request under a key that was used.
async fn refused(key: &str, other: RequestBuilder) {
    let body = send(other.header(IDEMPOTENCY_KEY, key)).await.error(422, "UNPROCESSABLE");
    assert!(body["detail"].as_str().unwrap().contains("Idempotency-Key"), "{body}");
}

fn id(answer: &Answer) -> String {
    let body = answer.value();
    body["id"].as_str().or_else(|| body["uuid"].as_str()).unwrap_or_else(|| panic!("no id: {answer}")).to_owned()
}

/// The version in the `ETag`.
#[track_caller]
fn version(answer: &Answer) -> u64 {
    let etag = answer.header("etag");
    let version = etag.strip_prefix('"').and_then(|rest| rest.split_once('-')).map(|(version, _)| version);
    version.and_then(|version| version.parse().ok()).unwrap_or_else(|| panic!("no ETag of an entity: {answer}"))
}

/// On a product of its own, of one process in either mode: a technique stays, and other scenarios count them. (A second
/// product of many processes would take the first one's database.)
async fn technique_once() {
    let mut product = Product::start(Mode::Embedded).await;
    let admin = product.admin().await;
    let before = admin.total("/techniques").await;
    let body = |name: &str| json!({"mitre_id": "T9001", "name": name, "tactic": "impact"});
    let (one, other) = (body("Once"), body("Twice"));
    let (_, key) = twice(201, || post(&admin, "/techniques", Some(&one))).await;
    refused(&key, post(&admin, "/techniques", Some(&other))).await;
    assert_eq!(admin.total("/techniques").await, before + 1);
}

/// What is created is created once.
async fn made_once(people: &People) {
    let admin = &people.admin;
    let name = fresh();
    let body = |name: &str| json!({"name": name, "mitre_technique_id": "T1059"});
    let (one, other) = (body(&name), body("Twice"));
    let (_, key) = twice(201, || post(admin, "/test-templates", Some(&one))).await;
    refused(&key, post(admin, "/test-templates", Some(&other))).await;
    assert_eq!(admin.total(&format!("/test-templates?search={name}")).await, 1);

    for (path, extra) in [("/users", "email"), ("/config/users", "role")] {
        let name = format!("once-{}", fresh());
        let mut one = json!({"username": name, "password": PASSWORD, "role": "viewer"});
        let (made, key) = twice(201, || post(admin, path, Some(&one))).await;
        assert!(!String::from_utf8_lossy(&made.body).contains(PASSWORD));
        one[extra] = if extra == "email" { "a@example.com".into() } else { "red_tech".into() };
        refused(&key, post(admin, path, Some(&one))).await;
    }

    let red = &people.red;
    let technique = admin.get("/techniques/T1190").await.json(200)["id"].clone();
    let before = red.total("/tests").await;
    let body = |name: &str| json!({"technique_id": technique, "name": name});
    let (one, other) = (body("Once"), body("Twice"));
    let (_, key) = twice(201, || post(red, "/tests", Some(&one))).await;
    refused(&key, post(red, "/tests", Some(&other))).await;
    // A key is of its user.
    send(post(admin, "/tests", Some(&other)).header(IDEMPOTENCY_KEY, &key)).await.json(201);
    let template = admin.get("/test-templates?limit=1&is_active=true").await.json(200)[0]["id"].clone();
    let one = json!({"template_id": template});
    let other = json!({"template_id": template, "technique_id": technique});
    let (_, key) = twice(201, || post(red, "/tests/from-template", Some(&one))).await;
    refused(&key, post(red, "/tests/from-template", Some(&other))).await;
    assert_eq!(red.total("/tests").await, before + 3);
}

async fn draft(people: &People) -> String {
    let technique = people.admin.get("/techniques/T1190").await.json(200)["id"].clone();
    let body = json!({"technique_id": technique, "name": format!("Conventions {}", fresh())});
    id(&people.red.post("/tests", &body).await)
}

/// Moves a test along these moves.
async fn go(people: &People, test: &str, moves: &[&str]) {
    for name in moves {
        let (who, body) = mover(people, name);
        let answer = send(post(who, &format!("/tests/{test}/{name}"), body.as_ref())).await;
        assert_eq!(answer.status, 200, "{answer}");
    }
}

/// Who makes a move, and with what.
fn mover<'a>(people: &'a People, name: &str) -> (&'a Api, Option<Value>) {
    match name {
        "submit-blue" => (&people.blue, None),
        "validate-red" => (&people.red_lead, Some(json!({"red_validation_status": "approved"}))),
        "validate-blue" => (&people.blue_lead, Some(json!({"blue_validation_status": "approved"}))),
        "validate" => (&people.red_lead, Some(json!({"result": "detected"}))),
        "reject" => (&people.blue_lead, Some(json!({"comments": "Again, please"}))),
        "reopen" => (&people.red_lead, None),
        _ => (&people.red, None),
    }
}

/// Every way through the workflow that has a move of its own.
const WAYS: &[&[&str]] = &[
    &["start-execution", "submit-red", "submit-blue", "validate-red", "validate-blue"],
    &["start-execution", "submit-red", "submit-blue", "validate"],
    &["start-execution", "submit-red", "submit-blue", "reject", "reopen"],
];

async fn moved_once(people: &People) {
    let elsewhere = draft(people).await;
    for way in WAYS {
        let test = draft(people).await;
        for name in *way {
            let (who, body) = mover(people, name);
            let before = version(&people.admin.get(&format!("/tests/{test}")).await);
            let path = format!("/tests/{test}/{name}");
            let (moved, key) = twice(200, || post(who, &path, body.as_ref())).await;
            assert_eq!(version(&moved), before + 1, "{moved}");
            refused(&key, post(who, &format!("/tests/{elsewhere}/{name}"), body.as_ref())).await;
        }
    }
    let admin = &people.admin;
    let templates = admin.get("/test-templates?limit=2").await.json(200);
    let [one, other] = [0, 1].map(|i| templates[i]["id"].as_str().unwrap().to_owned());
    let path = format!("/test-templates/{one}/toggle-active");
    let (toggled, key) = twice(200, || post(admin, &path, None)).await;
    assert_ne!(toggled.value()["is_active"], templates[0]["is_active"]);
    refused(&key, post(admin, &format!("/test-templates/{other}/toggle-active"), None)).await;
    admin.act(&path).await.json(200);

    twice(200, || post(&people.blue, "/notifications/read-all", None)).await;
}

async fn evidence_once(people: &People) {
    let test = draft(people).await;
    let path = format!("/tests/{test}/evidence");
    // Held back by the gateway, and passed on while it arrives.
    for size in [4_000, 2_000_000] {
        let bytes: Vec<u8> = (0..size).map(|_| rand::random()).collect();
        let upload = |bytes: &[u8], notes: &str| {
            let form = form("once.bin", bytes.to_vec(), &[("notes", notes)]);
            people.red.request(Method::POST, &path).multipart(form)
        };
        let (_, key) = twice(201, || upload(&bytes, "one")).await;
        refused(&key, upload(&bytes, "two")).await;
        refused(&key, upload(&bytes[1..], "one")).await;
        // Without the key they are a copy.
        send(upload(&bytes, "one")).await.error(409, "DUPLICATE");
    }
    assert_eq!(people.red.total(&path).await, 2);
}

/// A sync that failed was made: its failure is the answer.
async fn syncs_once(product: &mut Product, people: &People) {
    let admin = &people.admin;
    let file = product.folder().join("no-bundle.json");
    std::fs::write(&file, b"{").expect("a file");
    let source = "/data-sources/mitre_attack_enterprise";
    let before = admin.get(source).await.json(200)["url"].clone();
    let url = format!("file://{}", file.display());
    admin.patch(source, &json!({"url": url})).await.json(200);
    for path in [format!("{source}/sync"), "/system/sync-mitre".to_owned()] {
        let key = fresh();
        let run = || send(post(admin, &path, None).header(IDEMPOTENCY_KEY, &key));
        let (first, second) = (run().await, run().await);
        assert!(matches!(first.status, 400 | 422), "{first}");
        assert_eq!((second.status, &second.body), (first.status, &first.body));
        assert!(first.value()["context"]["job_id"].is_string(), "{first}");
        let other = send(post(admin, &format!("{path}?async=true"), None).header(IDEMPOTENCY_KEY, &key)).await;
        other.error(422, "UNPROCESSABLE");
        let (started, _) = twice(202, || post(admin, &format!("{path}?async=true"), None)).await;
        assert_ne!(started.value()["id"], first.value()["context"]["job_id"]);
        let job = format!("/system/jobs/{}", id(&started));
        crate::harness::eventually("the sync ends", std::time::Duration::from_secs(20), || async {
            let answer = admin.get(&job).await;
            assert_eq!(version(&answer), 0);
            if answer.json(200)["status"] == "running" { Err(answer.to_string()) } else { Ok(()) }
        })
        .await;
    }
    admin.patch(source, &json!({"url": before})).await.json(200);
}

/// What is shown once is made once.
async fn secrets_once(product: &mut Product, people: &People) {
    let me = people.red.get("/auth/me").await.json(200)["id"].as_str().unwrap().to_owned();
    let path = format!("/users/{me}/api-keys");
    let body = json!({"name": fresh(), "expires_in_days": 2});
    let key = fresh();
    let ask = || send(post(&people.red, &path, Some(&body)).header(IDEMPOTENCY_KEY, &key));
    let before = people.red.total(&path).await;
    let made = ask().await;
    assert_eq!(made.status, 201, "{made}");
    let again = ask().await.error(409, "CONFLICT");
    assert_eq!(again["context"]["id"], made.value()["id"], "{again}");
    assert_eq!(people.red.total(&path).await, before + 1);
    refused(&key, post(&people.red, &path, Some(&json!({"name": "another"})))).await;

    let key = fresh();
    let ticket = || send(post(&people.red, "/auth/stream-ticket", None).header(IDEMPOTENCY_KEY, &key));
    ticket().await.json(200);
    ticket().await.error(409, "CONFLICT");

    let name = format!("renewed-{}", fresh());
    let old = product.user("viewer", &name).await;
    let new_password = format!("new-{PASSWORD}");
    let body = json!({"old_password": PASSWORD, "new_password": new_password});
    let key = fresh();
    let change = |api: &Api| send(post(api, "/auth/change-password", Some(&body)).header(IDEMPOTENCY_KEY, &key));
    let first = change(&old).await;
    assert_eq!(first.status, 200, "{first}");
    product.forget(&name);
    let renewed = product.login(&name, &new_password).await;
    let second = change(&renewed).await;
    assert_eq!((second.status, &second.body), (200, &first.body), "{second}");
    // And the sign-in still holds.
    send(post(&renewed, "/auth/logout", None).header(IDEMPOTENCY_KEY, fresh())).await.json(200);
    renewed.get("/auth/me").await.error(401, "UNAUTHENTICATED");
    product.forget(&name);
}

async fn at_once(people: &People) {
    let technique = people.admin.get("/techniques/T1190").await.json(200)["id"].clone();
    let before = people.red.total("/tests").await;
    let (body, key) = (json!({"technique_id": technique, "name": "Once of many"}), fresh());
    let ask = |_| send(post(&people.red, "/tests", Some(&body)).header(IDEMPOTENCY_KEY, &key));
    let answers = futures::future::join_all((0..8).map(ask)).await;
    for answer in &answers {
        assert_eq!((answer.status, &answer.body), (201, &answers[0].body), "{answer}");
    }
    assert_eq!(people.red.total("/tests").await, before + 1);
}

/// Reads an entity; tries a change with a version that is not there: 412, and nothing is changed; then with the one that
/// was read.
async fn conditional(reader: &Api, entity: &str, who: &Api, method: Method, path: &str, body: Option<Value>) {
    let read = reader.get(entity).await;
    assert_eq!(read.status, 200, "{read}");
    let before = version(&read);
    let ask = |tag: &str| {
        let request = who.request(method.clone(), path).header("if-match", tag);
        send(match &body {
            Some(body) => request.json(body),
            None => request,
        })
    };
    let stale = ask(NOBODYS_VERSION).await.error(412, "PRECONDITION_FAILED");
    assert_eq!(stale["context"]["version"], before.to_string(), "{stale}");
    ask(&format!("W/{}", read.header("etag"))).await.error(412, "PRECONDITION_FAILED");
    assert_eq!(version(&reader.get(entity).await), before, "{method} {path}");
    let done = ask(&format!("{NOBODYS_VERSION}, {}", read.header("etag"))).await;
    assert!(matches!(done.status, 200 | 202 | 204), "{done}");
}

async fn technique_and_template(people: &People) {
    let (admin, entity) = (&people.admin, "/techniques/T1190");
    let body = json!({"status_global": "in_progress"});
    conditional(admin, entity, admin, Method::PATCH, entity, Some(body)).await;
    admin.patch(entity, &json!({"status_global": null})).await.json(200);
    conditional(admin, entity, &people.red_lead, Method::PATCH, &format!("{entity}/review"), None).await;
    // What would change nothing is refused too.
    let same = json!({"name": admin.get(entity).await.json(200)["name"]});
    let stale = admin.request(Method::PATCH, entity).header("if-match", NOBODYS_VERSION).json(&same);
    send(stale).await.error(412, "PRECONDITION_FAILED");

    let template = admin.get("/test-templates?limit=1").await.json(200)[0]["id"].as_str().unwrap().to_owned();
    let entity = format!("/test-templates/{template}");
    for _ in 0..2 {
        conditional(admin, &entity, admin, Method::POST, &format!("{entity}/toggle-active"), None).await;
    }
}

async fn tests(people: &People) {
    let test = draft(people).await;
    let entity = format!("/tests/{test}");
    let change = async |who: &Api, path: &str, body: Value| {
        conditional(&people.admin, &entity, who, Method::PATCH, &format!("{entity}{path}"), Some(body)).await;
    };
    change(&people.red, "", json!({"name": "Another name"})).await;
    change(&people.red, "/red", json!({"red_summary": "Seen"})).await;
    change(&people.red_lead, "/remediation", json!({"remediation_steps": "None"})).await;
    go(people, &test, &["start-execution", "submit-red"]).await;
    change(&people.blue, "/blue", json!({"blue_summary": "Seen"})).await;
    for way in WAYS {
        let test = draft(people).await;
        let entity = format!("/tests/{test}");
        for name in *way {
            let (who, body) = mover(people, name);
            conditional(&people.admin, &entity, who, Method::POST, &format!("{entity}/{name}"), body).await;
        }
    }
    // Of many who read the same, one changes it.
    let test = draft(people).await;
    let path = format!("/tests/{test}");
    let etag = people.red.get(&path).await.header("etag");
    let answers = futures::future::join_all((0..6).map(|n| {
        let request = people.red.request(Method::PATCH, &path).header("if-match", &etag);
        send(request.json(&json!({"description": format!("by {n}")})))
    }))
    .await;
    let won = answers.iter().filter(|answer| answer.status == 200).count();
    assert!(won == 1 && answers.iter().all(|answer| matches!(answer.status, 200 | 412)), "{}", answers[0]);
}

async fn data_source(product: &Product, people: &People) {
    let (admin, entity) = (&people.admin, "/data-sources/mitre_attack_ics");
    conditional(admin, entity, admin, Method::PATCH, entity, Some(json!({"schedule": "0 3 * * *"}))).await;
    admin.patch(entity, &json!({"schedule": null})).await.json(200);
    let url = admin.get(entity).await.json(200)["url"].clone();
    // No document: the sync starts, which is all that is asked here.
    let file = product.folder().join("no-bundle.json");
    std::fs::write(&file, b"{").expect("a file");
    admin.patch(entity, &json!({"url": format!("file://{}", file.display())})).await.json(200);
    let sync = format!("{entity}/sync?async=true");
    conditional(admin, entity, admin, Method::POST, &sync, None).await;
    admin.patch(entity, &json!({"url": url})).await.json(200);
}

async fn users(people: &People) {
    let admin = &people.admin;
    let new = || json!({"username": format!("kept-{}", fresh()), "password": PASSWORD, "role": "viewer"});
    let user = id(&admin.post("/users", &new()).await);
    let entity = format!("/users/{user}");
    conditional(admin, &entity, admin, Method::PATCH, &entity, Some(json!({"email": "kept@example.com"}))).await;
    let config = format!("/config/users/{user}");
    let role = Some(json!({"role": "viewer"}));
    let (put, delete) = (Method::PUT, Method::DELETE);
    // The same role again: checked though nothing is changed.
    conditional(admin, &entity, admin, put.clone(), &format!("{config}/role"), role).await;
    let password = Some(json!({"new_password": format!("other-{PASSWORD}")}));
    conditional(admin, &entity, admin, put, &format!("{config}/reset-password"), password).await;
    let key = id(&admin.post(&format!("{entity}/api-keys"), &json!({"name": "kept"})).await);
    let key = format!("{entity}/api-keys/{key}");
    conditional(admin, &key, admin, delete.clone(), &key, None).await;
    conditional(admin, &entity, admin, delete.clone(), &config, None).await;
    let entity = format!("/users/{}", id(&admin.post("/users", &new()).await));
    conditional(admin, &entity, admin, delete, &entity, None).await;
    admin.get(&entity).await.error(404, "NOT_FOUND");
    version(&admin.get("/auth/me").await);
}

async fn configuration(people: &People) {
    let admin = &people.admin;
    let before = admin.get("/config").await.json(200);
    for (path, field) in [
        ("/config/deployment-limit", "deployment_limit"),
        ("/config/global-mutation-interval", "global_mutation_interval"),
    ] {
        let value = |value: &Value| Some(json!({field: value}));
        let other = if field == "deployment_limit" { json!(17) } else { json!("45m") };
        conditional(admin, "/config", admin, Method::PUT, path, value(&other)).await;
        send(admin.request(Method::PUT, path).json(&json!({field: before[field]}))).await.json(200);
    }
}

async fn notifications(people: &People) {
    // Its leads hear of a test that waits for them.
    let test = draft(people).await;
    go(people, &test, &["start-execution", "submit-red", "submit-blue"]).await;
    let lead = &people.red_lead;
    let notice = crate::harness::eventually("a notification", std::time::Duration::from_secs(10), || async {
        let unread = lead.get("/notifications?unread_only=true&limit=1").await.json(200);
        crate::harness::rows(&unread)
            .first()
            .map(|row| row["id"].as_str().unwrap().to_owned())
            .ok_or(unread.to_string())
    })
    .await;
    let entity = format!("/notifications/{notice}");
    conditional(lead, &entity, lead, Method::PATCH, &format!("{entity}/read"), None).await;
    let preferences = "/notifications/preferences";
    let own = lead.get(preferences).await.json(200)["mute_own_actions"].clone();
    conditional(lead, preferences, lead, Method::PATCH, preferences, Some(json!({"mute_own_actions": own}))).await;
}

async fn bad_headers(people: &People) {
    let test = draft(people).await;
    let path = format!("/tests/{test}");
    let names = |answer: Answer, header: &str| {
        let body = answer.error(400, "VALIDATION_ERROR");
        assert_eq!(body["errors"][0]["field"], header, "{body}");
    };
    for bad in ["3", "\"3", "\"a b\""] {
        let request = people.red.request(Method::PATCH, &path).header("if-match", bad);
        names(send(request.json(&json!({"name": "N"}))).await, "If-Match");
    }
    let body = json!({"name": "N"});
    names(send(post(&people.red, "/tests", Some(&body)).header("if-match", "*")).await, "If-Match");
    for bad in ["", "two words", &"k".repeat(256)] {
        let request = post(&people.red, &format!("{path}/start-execution"), None).header(IDEMPOTENCY_KEY, bad);
        names(send(request).await, "Idempotency-Key");
    }
    assert_eq!(version(&people.red.get(&path).await), 1);
    // What a client says in the product's own headers is not heard.
    let request = people.red.request(Method::PATCH, &path).header("x-aegis-if-match", "7");
    send(request.json(&json!({"name": "N"}))).await.json(200);
}

/// Who has it is not sent it again.
async fn tags(people: &People) {
    let test = draft(people).await;
    for path in [format!("/tests/{test}"), "/techniques/T1059".into(), "/auth/me".into()] {
        let read = people.red.get(&path).await;
        let etag = read.header("etag");
        let known = send(people.red.request(Method::GET, &path).header("if-none-match", &etag)).await;
        assert_eq!((known.status, known.body.len(), known.header("etag")), (304, 0, etag), "{path}");
        known.request_id();
        let other = send(people.red.request(Method::GET, &path).header("if-none-match", NOBODYS_VERSION)).await;
        assert_eq!(other.body, read.body);
    }
}
