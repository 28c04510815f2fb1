//! What holds on every route that changes something: a request with an `Idempotency-Key` is made once. The lists here
//! name every such route, and those of [`crate::conditions`]; one that is not among them fails the scenario.

mod decoys;

use std::{
    collections::BTreeSet,
    sync::atomic::{AtomicU32, Ordering},
};

use reqwest::{Method, RequestBuilder};
use serde_json::{Value, json};

use crate::harness::{Answer, Api, Mode, PASSWORD, Product, form, send};

pub use decoys::ini;

pub const IDEMPOTENCY_KEY: &str = "idempotency-key";
/// POSTs, which this scenario repeats.
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
    "change_tests",
    "add_comment",
    "create_retest",
    "create_campaign",
    "add_campaign_tests",
    "generate_campaign",
    "run_campaign",
    "create_snapshot",
    "upload_evidence",
    "sync_data_source",
    "sync_mitre",
    "run_intel_scan",
    "create_feed",
    "import_detection_rules",
    "import_templates",
    "deploy_fleet",
    "mutate_decky",
    "ingest_lines",
    "create_approved_scanner",
    "create_test_of_gap",
    "mark_all_notifications_read",
    "create_stream_ticket",
    "change_password",
    "logout",
];
/// PATCHes, PUTs, DELETEs and moves, which [`crate::conditions`] tries.
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
    "delete_test",
    "update_campaign",
    "delete_campaign",
    "order_campaign_tests",
    "remove_campaign_test",
    "set_campaign_schedule",
    "remove_evidence",
    "update_score_config",
    "delete_snapshot",
    "update_data_source",
    "sync_data_source",
    "update_defence",
    "delete_detection_rule",
    "update_feed",
    "delete_feed",
    "review_intel_item",
    "update_user",
    "delete_user",
    "revoke_api_key",
    "set_config_user_role",
    "reset_config_user_password",
    "delete_config_user",
    "set_deployment_limit",
    "set_global_mutation_interval",
    "mutate_decky",
    "set_mutate_interval",
    "delete_decky",
    "delete_approved_scanner",
    "mark_notification_read",
    "update_notification_preferences",
];
/// DELETEs that are about no entity, so that there is no version to be named.
const NO_ENTITY: &[&str] = &["purge_logs"];

pub async fn scenario(product: &mut Product) {
    every_route_is_in_the_lists();
    technique_once().await;
    product.ensure_sensor().await;
    let people = People::of(product).await;
    made_once(&people).await;
    moved_once(&people).await;
    evidence_once(&people).await;
    campaigns_once(&people).await;
    syncs_once(product, &people).await;
    knowledge_once(&people).await;
    decoys::once(&people).await;
    secrets_once(product, &people).await;
    at_once(&people).await;
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
    let known = [CONDITIONAL, NO_ENTITY].concat();
    let missing: Vec<_> =
        of(&[Method::PATCH, Method::PUT, Method::DELETE]).difference(&listed(&known)).cloned().collect();
    assert!(missing.is_empty(), "{missing:?}");
}

/// One of each who changes something.
pub struct People {
    pub admin: Api,
    pub red: Api,
    pub blue: Api,
    pub red_lead: Api,
    pub blue_lead: Api,
}

impl People {
    pub async fn of(product: &mut Product) -> People {
        People {
            admin: product.admin().await,
            red: product.someone("red_tech").await,
            blue: product.someone("blue_tech").await,
            red_lead: product.someone("red_lead").await,
            blue_lead: product.someone("blue_lead").await,
        }
    }
}

/// Different in every call and every run.
pub fn fresh() -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    format!("{}-{:08x}-{}", std::process::id(), rand::random::<u32>(), NEXT.fetch_add(1, Ordering::Relaxed))
}

pub fn post(api: &Api, path: &str, body: Option<&Value>) -> RequestBuilder {
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

pub fn id(answer: &Answer) -> String {
    let body = answer.value();
    body["id"].as_str().or_else(|| body["uuid"].as_str()).unwrap_or_else(|| panic!("no id: {answer}")).to_owned()
}

/// The version in the `ETag`.
#[track_caller]
pub fn version(answer: &Answer) -> u64 {
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

pub async fn draft(people: &People) -> String {
    let technique = people.admin.get("/techniques/T1190").await.json(200)["id"].clone();
    let body = json!({"technique_id": technique, "name": format!("Conventions {}", fresh())});
    id(&people.red.post("/tests", &body).await)
}

/// Moves a test along these moves.
pub async fn go(people: &People, test: &str, moves: &[&str]) {
    for name in moves {
        let (who, body) = mover(people, name);
        let answer = send(post(who, &format!("/tests/{test}/{name}"), body.as_ref())).await;
        assert_eq!(answer.status, 200, "{answer}");
    }
}

/// Who makes a move, and with what.
pub fn mover<'a>(people: &'a People, name: &str) -> (&'a Api, Option<Value>) {
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
pub const WAYS: &[&[&str]] = &[
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

    let named = |name: &str| json!({ "name": name });
    let (one, other) = (named(&fresh()), named("Twice"));
    let before = admin.total("/snapshots").await;
    let (made, key) = twice(201, || post(&people.blue, "/snapshots", Some(&one))).await;
    refused(&key, post(&people.blue, "/snapshots", Some(&other))).await;
    assert_eq!(admin.total("/snapshots").await, before + 1);
    let path = format!("/snapshots/{}", id(&made));
    assert_eq!(send(admin.request(Method::DELETE, &path)).await.status, 204);
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

/// Comments, retests, changes of many tests, and what belongs to campaigns.
async fn campaigns_once(people: &People) {
    let (red, nothing) = (&people.red, json!({}));
    let (test, elsewhere) = (draft(people).await, draft(people).await);
    let comment = |text: &str| json!({ "text": text });
    let (one, other) = (comment("Once"), comment("Twice"));
    let path = format!("/tests/{test}/comments");
    let (_, key) = twice(201, || post(red, &path, Some(&one))).await;
    refused(&key, post(red, &path, Some(&other))).await;
    let timeline = red.get(&format!("/tests/{test}/timeline")).await.json(200);
    assert_eq!(timeline.as_array().unwrap().iter().filter(|entry| entry["kind"] == "comment").count(), 1);

    go(people, &test, &["start-execution", "submit-red", "submit-blue", "reject"]).await;
    let (_, key) = twice(201, || post(red, &format!("/tests/{test}/retest"), None)).await;
    refused(&key, post(red, &format!("/tests/{elsewhere}/retest"), None)).await;
    let chain = red.get(&format!("/tests/{test}/retest-chain")).await.json(200);
    assert_eq!(chain.as_array().map(Vec::len), Some(2), "{chain}");

    let bulk = |ids: &[&str]| json!({"ids": ids, "move": "start_execution"});
    let (one, other) = (bulk(&[&elsewhere]), bulk(&[&test]));
    let (_, key) = twice(200, || post(red, "/tests/bulk", Some(&one))).await;
    refused(&key, post(red, "/tests/bulk", Some(&other))).await;

    let named = |name: &str| json!({"name": name, "type": "custom"});
    let (one, other) = (named("Once"), named("Twice"));
    let (made, key) = twice(201, || post(red, "/campaigns", Some(&one))).await;
    refused(&key, post(red, "/campaigns", Some(&other))).await;
    let campaign = format!("/campaigns/{}", id(&made));
    let place = |test: &str| json!({ "test_id": test });
    let (one, other) = (place(&test), place(&elsewhere));
    let path = format!("{campaign}/tests");
    let (_, key) = twice(201, || post(red, &path, Some(&one))).await;
    refused(&key, post(red, &path, Some(&other))).await;
    let another = format!("/campaigns/{}", id(&red.post("/campaigns", &named("Another")).await));
    let (_, key) = twice(201, || post(red, &format!("{campaign}/run"), Some(&nothing))).await;
    refused(&key, post(red, &format!("{another}/run"), Some(&nothing))).await;
    assert_eq!(red.total(&format!("{campaign}/history")).await, 1);

    // The starter matrix has no actors; what a sync brought before has.
    let actors = red.get("/threat-actors?limit=1").await.json(200);
    let Some(actor) = actors.as_array().and_then(|actors| actors.first()) else { return };
    red.patch(&campaign, &json!({"threat_actor_id": actor["id"]})).await.json(200);
    let few = |limit: u32| json!({ "limit": limit });
    let (one, other) = (few(1), few(2));
    let path = format!("{campaign}/generate");
    let (_, key) = twice(200, || post(red, &path, Some(&one))).await;
    refused(&key, post(red, &path, Some(&other))).await;
    assert_eq!(red.get(&campaign).await.json(200)["test_count"], 2);
}

/// Rules, templates and feeds are brought in once, and a scan runs once.
async fn knowledge_once(people: &People) {
    let admin = &people.admin;
    let rule = |title: &str| {
        format!(
            "title: {title}\nlogsource:\n  product: linux\ndetection:\n  selection:\n    Image: {}\n  condition: selection\n",
            fresh()
        )
    };
    let template = |name: &str| {
        format!(
            "attack_technique: T1190\ndisplay_name: Once and not again\natomic_tests:\n- name: {name}\n  description: Once\n  \
             supported_platforms:\n  - linux\n  executor:\n    name: sh\n    command: echo once\n"
        )
    };
    for (path, one, other) in [
        ("/detection-rules", rule("Once"), rule("Twice")),
        ("/test-templates/import", template("Once"), template("Twice")),
    ] {
        let bring = |text: &str| {
            admin.request(Method::POST, path).header("content-type", "application/yaml").body(text.to_owned())
        };
        let (_, key) = twice(201, || bring(&one)).await;
        refused(&key, bring(&other)).await;
    }
    let feed = |name: &str| json!({"name": name, "url": "http://127.0.0.1:9/feed.xml"});
    let (one, other) = (feed(&fresh()), feed("Twice"));
    let (made, key) = twice(201, || post(admin, "/intel/feeds", Some(&one))).await;
    refused(&key, post(admin, "/intel/feeds", Some(&other))).await;
    let path = format!("/intel/feeds/{}", id(&made));
    assert_eq!(send(admin.request(Method::DELETE, &path)).await.status, 204);
    twice(200, || post(admin, "/system/run-intel-scan", None)).await;
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
