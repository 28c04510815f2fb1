//! What holds on every change of one entity: with a version that is no longer there (`If-Match`) it is not made. And
//! what holds on every reading of one: who has it (`If-None-Match`) is not sent it again.

use reqwest::Method;
use serde_json::{Value, json};

use crate::{
    conventions::{IDEMPOTENCY_KEY, People, WAYS, draft, fresh, go, id, ini, mover, post, version},
    harness::{Answer, Api, PASSWORD, Product, form, send},
};

const NOBODYS_VERSION: &str = "\"999999-0123456789abcdef\"";

pub async fn scenario(product: &mut Product) {
    product.ensure_sensor().await;
    let people = People::of(product).await;
    technique_and_template(&people).await;
    tests(&people).await;
    campaigns(&people).await;
    scores(&people).await;
    knowledge(&people).await;
    data_source(product, &people).await;
    users(&people).await;
    configuration(&people).await;
    decoys(&people).await;
    notifications(&people).await;
    bad_headers(&people).await;
    tags(&people).await;
    product.assert_alive();
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
    let test = draft(people).await;
    let upload = people.red.request(Method::POST, &format!("/tests/{test}/evidence"));
    let file = id(&send(upload.multipart(form("kept.bin", b"kept".to_vec(), &[]))).await);
    let entity = format!("/evidence/{file}");
    let path = format!("{entity}?reason=not%20kept");
    conditional(&people.red, &entity, &people.red, Method::DELETE, &path, None).await;
    people.red.get(&entity).await.error(404, "NOT_FOUND");
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

/// The weights of scores, and a snapshot.
async fn scores(people: &People) {
    let (admin, entity) = (&people.admin, "/scores/config");
    let before = admin.get(entity).await.json(200);
    let changed = json!({"tests": 30.0, "freshness": 25.0});
    conditional(admin, entity, admin, Method::PATCH, entity, Some(changed)).await;
    let same = json!({"tests": before["tests"], "freshness": before["freshness"]});
    conditional(admin, entity, admin, Method::PATCH, entity, Some(same)).await;
    let snapshot = id(&people.red.post("/snapshots", &json!({"name": fresh()})).await);
    let entity = format!("/snapshots/{snapshot}");
    conditional(admin, &entity, admin, Method::DELETE, &entity, None).await;
    admin.get(&entity).await.error(404, "NOT_FOUND");
}

/// A campaign, its tests and their order, its schedule; and at last it and its test.
async fn campaigns(people: &People) {
    let red = &people.red;
    let (one, other) = (draft(people).await, draft(people).await);
    let entity = format!("/campaigns/{}", id(&red.post("/campaigns", &json!({"name": "Kept"})).await));
    let tests = format!("{entity}/tests");
    let places = json!({"tests": [{"test_id": one}, {"test_id": other}]});
    red.post(&tests, &places).await.json(201);
    let change = async |method: Method, path: &str, body: Option<Value>| {
        conditional(red, &entity, red, method, path, body).await;
    };
    change(Method::PATCH, &entity, Some(json!({"description": "Kept as it is"}))).await;
    let turned = json!({"tests": [{"test_id": other, "phase": "first"}, {"test_id": one}]});
    change(Method::PUT, &tests, Some(turned)).await;
    let schedule = json!({"schedule": "monthly", "time_zone": "Europe/Berlin", "enabled": true});
    change(Method::PATCH, &format!("{entity}/schedule"), Some(schedule)).await;
    change(Method::DELETE, &format!("{tests}/{other}"), None).await;
    change(Method::DELETE, &entity, None).await;
    red.get(&entity).await.error(404, "NOT_FOUND");
    let test = format!("/tests/{one}");
    conditional(red, &test, red, Method::DELETE, &test, None).await;
    red.get(&test).await.error(404, "NOT_FOUND");
}

/// A rule that was brought in, a feed, and what a feed said.
async fn knowledge(people: &People) {
    let admin = &people.admin;
    let rule = format!(
        "title: Kept {}\nlogsource:\n  product: linux\ndetection:\n  selection:\n    Image: x\n  condition: selection\n",
        fresh()
    );
    let bring = admin.request(Method::POST, "/detection-rules").header("content-type", "application/yaml");
    let made = send(bring.body(rule)).await.json(201);
    let rule = format!("/detection-rules/{}", made["keys"][0].as_str().unwrap());
    conditional(admin, &rule, admin, Method::DELETE, &rule, None).await;
    admin.get(&rule).await.error(404, "NOT_FOUND");

    let feed = json!({"name": fresh(), "url": "http://127.0.0.1:9/feed.xml"});
    let made = admin.post("/intel/feeds", &feed).await;
    let path = format!("/intel/feeds/{}", id(&made));
    let body = Some(json!({"enabled": false}));
    conditional(admin, &path, admin, Method::PATCH, &path, body).await;
    conditional(admin, &path, admin, Method::DELETE, &path, None).await;
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

/// A decky, and a scanner that is approved.
async fn decoys(people: &People) {
    let admin = &people.admin;
    let name = format!("kept-{}", fresh());
    admin.post("/deckies/deploy", &ini(&name)).await.json(200);
    let entity = format!("/deckies/{name}");
    conditional(admin, &entity, admin, Method::POST, &format!("{entity}/mutate"), None).await;
    for interval in [json!("5d"), json!("5d"), json!(null)] {
        let body = Some(json!({"mutate_interval": interval}));
        conditional(admin, &entity, admin, Method::PUT, &format!("{entity}/mutate-interval"), body).await;
    }
    conditional(admin, &entity, admin, Method::DELETE, &entity, None).await;
    admin.get(&entity).await.error(404, "NOT_FOUND");

    let scanner = json!({"name": fresh(), "network": "198.51.100.0/24"});
    let entity = format!("/approved-scanners/{}", id(&admin.post("/approved-scanners", &scanner).await));
    conditional(admin, &entity, admin, Method::DELETE, &entity, None).await;
    admin.get(&entity).await.error(404, "NOT_FOUND");
    // What is no entity has no version.
    let purge = admin.request(Method::DELETE, "/config/reinit").header("if-match", "*");
    send(purge).await.error(422, "VALIDATION_ERROR");
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
