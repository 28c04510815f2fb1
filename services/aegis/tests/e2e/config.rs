//! The configuration as a client of the deception half sees it: limits, and the users under their other view.

use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};

use crate::harness::{Answer, Api, PASSWORD, Process, Product, binary, eventually, send};

const NOBODYS_ID: &str = "018f0000-0000-7000-8000-00000000c0f1";

pub async fn scenario(product: &mut Product) {
    let admin = product.admin().await;
    let viewer = product.someone("viewer").await;
    let nobody = product.anonymous();
    views(&admin, &viewer, &nobody).await;
    limits(&admin, &viewer).await;
    made_by_either_view(&admin, &nobody).await;
    role_and_password(&admin, &nobody).await;
    deleted(&admin, &nobody).await;
    own_account(&admin).await;
    refused(&admin, &viewer).await;
    product.assert_alive();
}

async fn put(who: &Api, path: &str, body: &Value) -> Answer {
    send(who.request(Method::PUT, path).json(body)).await
}

async fn delete(who: &Api, path: &str) -> Answer {
    send(who.request(Method::DELETE, path)).await
}

/// Tries to sign in.
async fn login(nobody: &Api, username: &str, password: &str) -> Answer {
    nobody.post("/auth/login", &json!({"username": username, "password": password})).await
}

/// Signs in; the client, and whether the password must be changed.
async fn signed_in(nobody: &Api, username: &str, password: &str) -> (Api, bool) {
    let token = login(nobody, username, password).await.json(200);
    let client = nobody.with_token(token["access_token"].as_str().expect("a token"));
    (client, token["must_change_password"].as_bool().expect("a flag"))
}

fn id(user: &Value) -> &str {
    user["uuid"].as_str().unwrap_or_else(|| panic!("no uuid: {user}"))
}

#[track_caller]
fn names(error: &Value, field: &str) {
    let errors = error["errors"].as_array().unwrap_or_else(|| panic!("no errors: {error}"));
    assert!(errors.iter().any(|e| e["field"] == field), "{field} is not named: {error}");
}

/// `GET /config` as each role sees it.
async fn views(admin: &Api, viewer: &Api, nobody: &Api) {
    nobody.get("/config").await.error(401, "UNAUTHENTICATED");
    let seen = viewer.get("/config").await.json(200);
    assert_eq!(seen["role"], "viewer");
    assert_eq!(seen.as_object().unwrap().len(), 3, "{seen}");
    assert!(seen["deployment_limit"].is_u64() && seen["global_mutation_interval"].is_string(), "{seen}");

    let seen = admin.get("/config").await.json(200);
    assert_eq!(seen["role"], "admin");
    assert!(seen.get("developer_mode").is_none(), "{seen}");
    let users = seen["users"].as_array().expect("the users");
    let names: Vec<&str> = users.iter().map(|user| user["username"].as_str().unwrap()).collect();
    assert!(names.is_sorted(), "{names:?}");
    let me = users.iter().find(|user| user["username"] == "admin").expect("the administrator");
    assert_eq!((&me["role"], &me["must_change_password"]), (&json!("admin"), &json!(false)));
    assert_eq!(me.as_object().unwrap().len(), 4, "{me}");
    // The other view of the same people.
    let same = admin.get(&format!("/users/{}", id(me))).await.json(200);
    assert_eq!(same["username"], "admin");
}

async fn limits(admin: &Api, viewer: &Api) {
    let before = viewer.get("/config").await.json(200);
    for bad in [json!(0), json!(-1), json!(501), json!(1_000_000_000_000_u64), json!(2.5), json!("25"), Value::Null] {
        let answer = put(admin, "/config/deployment-limit", &json!({"deployment_limit": bad})).await;
        names(&answer.error(422, "VALIDATION_ERROR"), "deployment_limit");
    }
    let intervals = ["", "30", "m", "0m", "01d", "-1d", "1h", "1.5d", "30m ", "1d1m", "101Y", "99999999999999999999m"];
    for bad in intervals.map(Value::from).into_iter().chain([json!(30), Value::Null]) {
        let answer = put(admin, "/config/global-mutation-interval", &json!({"global_mutation_interval": bad})).await;
        names(&answer.error(422, "VALIDATION_ERROR"), "global_mutation_interval");
    }
    let unknown = json!({"deployment_limit": 5, "colour": "blue"});
    names(&put(admin, "/config/deployment-limit", &unknown).await.error(422, "VALIDATION_ERROR"), "colour");
    assert_eq!(viewer.get("/config").await.json(200), before, "bad values changed something");

    put(viewer, "/config/deployment-limit", &json!({"deployment_limit": 25})).await.error(403, "FORBIDDEN");
    let interval = json!({"global_mutation_interval": "1d"});
    put(viewer, "/config/global-mutation-interval", &interval).await.error(403, "FORBIDDEN");
    assert_eq!(viewer.get("/config").await.json(200), before, "a viewer changed something");

    for (limit, interval) in [(1, "1Y"), (500, "6M"), (25, "1d")] {
        let set = put(admin, "/config/deployment-limit", &json!({"deployment_limit": limit})).await.json(200);
        assert_eq!(set["deployment_limit"], limit);
        assert!(set["message"].is_string(), "{set}");
        let interval = json!({"global_mutation_interval": interval});
        let set = put(admin, "/config/global-mutation-interval", &interval).await.json(200);
        assert_eq!(set["global_mutation_interval"], interval["global_mutation_interval"]);
        assert!(set["message"].is_string(), "{set}");
        let seen = viewer.get("/config").await.json(200);
        assert_eq!(seen["deployment_limit"], limit);
        assert_eq!(seen["global_mutation_interval"], interval["global_mutation_interval"]);
    }
    // Who saw an older version changes nothing.
    let tag = admin.get("/config").await.header("etag");
    let setting = async |limit: u32, tag: &str| {
        let request = admin.request(Method::PUT, "/config/deployment-limit").header("if-match", tag);
        send(request.json(&json!({"deployment_limit": limit}))).await
    };
    setting(26, &tag).await.json(200);
    setting(27, &tag).await.error(412, "PRECONDITION_FAILED");
    assert_eq!(viewer.get("/config").await.json(200)["deployment_limit"], 26);
    let recorded = eventually("the change is in the audit trail", Duration::from_secs(20), || async {
        let rows = admin.all("/audit-logs?action=update_fleet_settings").await;
        let last = rows.iter().find(|row| row["details"]["after"]["deployment_limit"] == 25).cloned();
        last.ok_or_else(|| format!("{} rows", rows.len()))
    })
    .await;
    assert_eq!(recorded["details"]["before"]["deployment_limit"], 500, "{recorded}");
}

/// One made here has to change the password, one made by `POST /users` does not.
async fn made_by_either_view(admin: &Api, nobody: &Api) {
    let body = json!({"username": "config-alice", "password": PASSWORD, "role": "blue_tech"});
    let answer = admin.post("/config/users", &body).await;
    let made = answer.json(201);
    assert_eq!(made.as_object().unwrap().len(), 4, "{made}");
    assert_eq!((&made["username"], &made["role"]), (&body["username"], &body["role"]));
    assert_eq!(made["must_change_password"], true);
    assert_eq!(answer.header("location"), format!("/api/v1/users/{}", id(&made)));
    admin.post("/config/users", &body).await.error(409, "DUPLICATE");
    admin.post("/users", &body).await.error(409, "DUPLICATE");

    let (alice, flagged) = signed_in(nobody, "config-alice", PASSWORD).await;
    assert!(flagged);
    alice.get("/config").await.error(403, "PASSWORD_CHANGE_REQUIRED");
    let new = format!("{PASSWORD}-of-her-own");
    let change = json!({"old_password": PASSWORD, "new_password": new});
    alice.post("/auth/change-password", &change).await.json(200);
    let (alice, flagged) = signed_in(nobody, "config-alice", &new).await;
    assert!(!flagged);
    assert_eq!(alice.get("/config").await.json(200)["role"], "blue_tech");

    let body = json!({"username": "config-bob", "password": PASSWORD, "role": "viewer"});
    assert_eq!(admin.post("/users", &body).await.json(201)["must_change_password"], false);
    let (bob, flagged) = signed_in(nobody, "config-bob", PASSWORD).await;
    assert!(!flagged);
    bob.get("/config").await.json(200);

    for (username, password, role, field) in [
        ("", PASSWORD, "viewer", "username"),
        ("config-carl", "short", "viewer", "password"),
        ("config-carl", "config-carl", "viewer", "password"),
        ("config-carl", PASSWORD, "king", "role"),
    ] {
        let body = json!({"username": username, "password": password, "role": role});
        names(&admin.post("/config/users", &body).await.error(422, "VALIDATION_ERROR"), field);
    }
}

async fn role_and_password(admin: &Api, nobody: &Api) {
    let body = json!({"username": "config-dora", "password": PASSWORD, "role": "viewer"});
    let dora = admin.post("/users", &body).await.json(201)["id"].as_str().unwrap().to_owned();
    let (client, _) = signed_in(nobody, "config-dora", PASSWORD).await;
    client.get("/config").await.json(200);
    for role in ["red_tech", "blue_lead", "admin", "red_lead"] {
        let changed = put(admin, &format!("/config/users/{dora}/role"), &json!({"role": role})).await.json(200);
        assert_eq!((id(&changed), &changed["role"]), (dora.as_str(), &json!(role)));
        assert_eq!(changed["must_change_password"], false);
    }
    client.get("/config").await.error(401, "UNAUTHENTICATED");
    let (client, _) = signed_in(nobody, "config-dora", PASSWORD).await;
    assert_eq!(client.get("/config").await.json(200)["role"], "red_lead");

    let path = format!("/config/users/{dora}/reset-password");
    for bad in ["short", "config-dora", "password"] {
        let answer = put(admin, &path, &json!({"new_password": bad})).await;
        names(&answer.error(422, "VALIDATION_ERROR"), "new_password");
    }
    client.get("/config").await.json(200);
    let new = format!("{PASSWORD}-reset");
    let reset = put(admin, &path, &json!({"new_password": new})).await.json(200);
    assert_eq!((id(&reset), &reset["must_change_password"]), (dora.as_str(), &json!(true)));
    client.get("/config").await.error(401, "UNAUTHENTICATED");
    login(nobody, "config-dora", PASSWORD).await.error(401, "INVALID_CREDENTIALS");
    let (client, flagged) = signed_in(nobody, "config-dora", &new).await;
    assert!(flagged);
    client.get("/config").await.error(403, "PASSWORD_CHANGE_REQUIRED");
}

/// The token ends, the name is free again, what the user did stays.
async fn deleted(admin: &Api, nobody: &Api) {
    for (round, path) in ["/config/users", "/users"].into_iter().enumerate() {
        let body = json!({"username": "config-eve", "password": PASSWORD, "role": "red_tech"});
        let eve = admin.post("/users", &body).await.json(201)["id"].as_str().unwrap().to_owned();
        let (client, _) = signed_in(nobody, "config-eve", PASSWORD).await;
        // Somebody who has done something, and was told of something.
        let technique = admin.get("/techniques/T1003").await.json(200)["id"].clone();
        let draft = json!({"technique_id": technique, "name": "By someone who leaves"});
        let test = client.post("/tests", &draft).await.json(201)["id"].as_str().unwrap().to_owned();
        let start = client.act(&format!("/tests/{test}/start-execution")).await;
        start.json(200);

        let gone = delete(admin, &format!("{path}/{eve}")).await;
        assert_eq!((gone.status, gone.body.len()), (204, 0), "{gone}");
        gone.request_id();
        client.get("/config").await.error(401, "UNAUTHENTICATED");
        client.get("/auth/me").await.error(401, "UNAUTHENTICATED");
        login(nobody, "config-eve", PASSWORD).await.error(401, "INVALID_CREDENTIALS");
        delete(admin, &format!("{path}/{eve}")).await.error(404, "NOT_FOUND");
        admin.get(&format!("/users/{eve}")).await.error(404, "NOT_FOUND");
        let config = admin.get("/config").await.json(200);
        assert!(config["users"].as_array().unwrap().iter().all(|user| user["uuid"] != eve.as_str()), "{config}");

        // The test is still there and can go on without its author.
        let test = admin.get(&format!("/tests/{test}")).await.json(200);
        assert_eq!(test["created_by"], eve.as_str(), "{test}");
        admin.get("/notifications").await.json(200);
        admin.get("/notifications/unread-count").await.json(200);
        eventually("what it did is in the audit trail", Duration::from_secs(20), || async {
            let own = admin.all(&format!("/audit-logs?user_id={eve}")).await;
            let about = admin.all("/audit-logs?action=delete_user").await;
            let done = own.iter().any(|row| row["action"] == "create_test");
            let removed = about.iter().filter(|row| row["entity_id"] == eve.as_str()).count();
            if done && removed == 1 { Ok(()) } else { Err(format!("{} records, {removed} removals", own.len())) }
        })
        .await;
        assert_eq!(admin.get("/audit-logs/verify").await.json(200)["valid"], true, "round {round}");
    }
    // The name is free, and the new one is somebody else.
    let body = json!({"username": "config-eve", "password": PASSWORD, "role": "viewer"});
    let other = admin.post("/config/users", &body).await.json(201);
    let (client, flagged) = signed_in(nobody, "config-eve", PASSWORD).await;
    assert!(flagged);
    assert_eq!(client.get("/auth/me").await.json(200)["id"], other["uuid"]);
}

async fn own_account(admin: &Api) {
    let me = admin.get("/auth/me").await.json(200)["id"].as_str().unwrap().to_owned();
    delete(admin, &format!("/config/users/{me}")).await.error(403, "FORBIDDEN");
    delete(admin, &format!("/users/{me}")).await.error(403, "FORBIDDEN");
    for role in ["viewer", "admin"] {
        put(admin, &format!("/config/users/{me}/role"), &json!({"role": role})).await.error(403, "FORBIDDEN");
    }
    assert_eq!(admin.get("/config").await.json(200)["role"], "admin");
}

async fn refused(admin: &Api, viewer: &Api) {
    let role = json!({"role": "viewer"});
    let password = json!({"new_password": PASSWORD});
    for id in ["nonsense", "1", "%00"] {
        let path = format!("/config/users/{id}");
        names(&delete(admin, &path).await.error(422, "VALIDATION_ERROR"), "user_uuid");
        names(&put(admin, &format!("{path}/role"), &role).await.error(422, "VALIDATION_ERROR"), "user_uuid");
        let answer = put(admin, &format!("{path}/reset-password"), &password).await;
        names(&answer.error(422, "VALIDATION_ERROR"), "user_uuid");
    }
    let path = format!("/config/users/{NOBODYS_ID}");
    for (who, status, code) in [(admin, 404, "NOT_FOUND"), (viewer, 403, "FORBIDDEN")] {
        delete(who, &path).await.error(status, code);
        put(who, &format!("{path}/role"), &role).await.error(status, code);
        put(who, &format!("{path}/reset-password"), &password).await.error(status, code);
    }
    let body = json!({"username": "config-never", "password": PASSWORD, "role": "viewer"});
    viewer.post("/config/users", &body).await.error(403, "FORBIDDEN");
    // In earnest nobody purges what happened.
    for who in [admin, viewer] {
        delete(who, "/config/reinit").await.error(403, "FORBIDDEN");
    }
}

/// Developer mode has two names; administrators alone are told of it, and may purge what happened.
#[tokio::test]
async fn developer_mode_is_told_to_administrators() {
    for variable in ["AEGIS_DEVELOPER", "DECNET_DEVELOPER"] {
        let folder = tempfile::tempdir().unwrap();
        let mut command = binary();
        command
            .env("AEGIS_DATA_DIR", folder.path().join("data"))
            .env("AEGIS_LISTEN", "127.0.0.1:0")
            .env("AEGIS_ADMIN_PASSWORD", PASSWORD)
            .env(variable, "true");
        let mut process = Process::spawn("developer", command, folder.path());
        let nobody = Api::new(&format!("http://{}", process.listening().await), None);
        let (admin, _) = signed_in(&nobody, "admin", PASSWORD).await;
        assert_eq!(admin.get("/config").await.json(200)["developer_mode"], true, "{variable}");
        admin.post("/users", &json!({"username": "vera", "password": PASSWORD, "role": "viewer"})).await.json(201);
        let (viewer, _) = signed_in(&nobody, "vera", PASSWORD).await;
        assert!(viewer.get("/config").await.json(200).get("developer_mode").is_none(), "{variable}");
        purged(&admin, &viewer).await;
        process.kill9();
    }
}

/// What another honeypot's key brought in is seen, and gone.
async fn purged(admin: &Api, viewer: &Api) {
    let me = admin.get("/auth/me").await.json(200)["id"].as_str().unwrap().to_owned();
    let wish = json!({"name": "honeypot", "role": "sensor"});
    let key = admin.post(&format!("/users/{me}/api-keys"), &wish).await.json(201);
    let sensor = admin.with_token(key["key"].as_str().unwrap());
    let line = json!({
        "eventid": "cowrie.login.success", "timestamp": "2024-01-01T00:00:00.000000Z", "sensor": "elsewhere",
        "session": "a1b2c3d4e5f6", "src_ip": "198.51.100.7", "username": "root", "password": "123456",
        "message": "login attempt [root/123456] succeeded"
    });
    let lines = format!("{line}\nnot JSON\n");
    let request = sensor.request(Method::POST, "/ingest/cowrie").header("content-type", "application/x-ndjson");
    let told = send(request.body(lines)).await.json(200);
    assert_eq!(
        (&told["accepted"], &told["refused"], &told["first_refused"][0]["line"]),
        (&json!(1), &json!(1), &json!(2))
    );
    sensor.get("/logs").await.error(403, "FORBIDDEN");
    eventually("the attacker is known", Duration::from_secs(10), || async {
        let attackers = viewer.get("/attackers?search=attacker:198.51.100.7").await.json(200);
        if attackers["total"] == 1 { Ok(()) } else { Err(attackers.to_string()) }
    })
    .await;
    let stream = viewer.get("/stream?maxOutput=3").await;
    for kind in ["stats", "histogram", "logs"] {
        assert!(stream.text().contains(&format!("data: {{\"type\":\"{kind}\"")), "{stream}");
    }
    delete(viewer, "/config/reinit").await.error(403, "FORBIDDEN");
    let gone = delete(admin, "/config/reinit").await.json(200);
    assert_eq!((&gone["message"], &gone["deleted"]["logs"]), (&json!("Data purged"), &json!(1)), "{gone}");
    for path in ["/logs", "/bounty", "/attackers"] {
        assert_eq!(viewer.get(path).await.json(200)["total"], 0, "{path}");
    }
}
