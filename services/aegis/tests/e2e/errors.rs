//! Bad input: each gets a clear error with its code, changes nothing and leaves the product running.

use std::{fs, path::Path, time::Duration};

use reqwest::{Method, header};
use serde_json::{Value, json};

use crate::harness::{Api, PASSWORD, Product, REQUEST_ID, eventually, send};

const NOBODYS_ID: &str = "018f0000-0000-7000-8000-000000000000";

/// Malformed, wrong, too large, not there.
pub async fn input(product: &mut Product) {
    let admin = product.admin().await;
    let before = State::read(&admin).await;
    let technique = admin.get("/techniques/T1003").await.json(200);

    bodies(&admin, &technique).await;
    ids_and_queries(&admin).await;
    sizes_and_types(&admin).await;
    paths_and_methods(&admin).await;
    request_ids(&admin).await;
    let folder = product.folder().to_owned();
    documents(&admin, &folder).await;

    assert_eq!(State::read(&admin).await, before, "bad input changed something");
    product.assert_alive();
}

/// What bad input must not change.
#[derive(Debug, PartialEq)]
struct State {
    techniques: u64,
    with_revoked: u64,
    flagged: u64,
    tests: u64,
    users: u64,
    templates: u64,
}

impl State {
    async fn read(admin: &Api) -> State {
        State {
            techniques: admin.total("/techniques").await,
            with_revoked: admin.total("/techniques?include_revoked=true").await,
            flagged: admin.total("/techniques?review_required=true").await,
            tests: tests(admin).await,
            users: admin.total("/users").await,
            templates: admin.total("/test-templates").await,
        }
    }
}

async fn tests(admin: &Api) -> u64 {
    let answer = admin.get("/tests?limit=1").await;
    let body = answer.json(200);
    body["total"].as_u64().unwrap_or_else(|| answer.total())
}

async fn bodies(admin: &Api, technique: &Value) {
    let raw = async |path: &str, body: &str| {
        send(admin.request(Method::POST, path).header(header::CONTENT_TYPE, "application/json").body(body.to_owned()))
            .await
    };
    for path in ["/auth/login", "/users", "/tests", "/techniques", "/test-templates"] {
        // Signing in is in the deception reference, whose routes answer 422.
        let status = if path == "/auth/login" { 422 } else { 400 };
        for bad in ["{", "", "null", "[]", "42", "\"text\"", "{\"a\": }", "{\"username\": \"\u{0}\"}", "\u{feff}{}"] {
            raw(path, bad).await.error(status, "VALIDATION_ERROR");
        }
        // Not UTF-8.
        let bad =
            admin.request(Method::POST, path).header(header::CONTENT_TYPE, "application/json").body(vec![0xff, 0xfe]);
        send(bad).await.error(status, "VALIDATION_ERROR");
    }
    let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    raw("/tests", &deep).await.error(400, "VALIDATION_ERROR");

    let id = technique["id"].as_str().unwrap();
    let user = |change: (&str, Value)| {
        let mut body = json!({"username": "never-made", "password": PASSWORD, "role": "viewer"});
        body[change.0] = change.1;
        body
    };
    let test = |change: (&str, Value)| {
        let mut body = json!({"technique_id": id, "name": "never made"});
        body[change.0] = change.1;
        body
    };
    // (path, body, the field that the error must name)
    let wrong = [
        ("/users", user(("username", json!(7))), "username"),
        ("/users", user(("username", json!(""))), "username"),
        ("/users", user(("username", json!("a".repeat(1000)))), "username"),
        ("/users", user(("role", json!("king"))), "role"),
        ("/users", user(("password", json!("short"))), "password"),
        ("/users", user(("email", json!("not an address"))), "email"),
        ("/users", user(("is_king", json!(true))), "is_king"),
        ("/tests", test(("technique_id", json!("no-uuid"))), "technique_id"),
        ("/tests", test(("technique_id", json!(1))), "technique_id"),
        ("/tests", test(("name", json!(""))), "name"),
        ("/tests", test(("name", json!(["x"]))), "name"),
        ("/tests", test(("name", json!("x".repeat(100_000)))), "name"),
        ("/tests", test(("state", json!("validated"))), "state"),
        (
            "/techniques",
            json!({"mitre_id": "T9999", "name": "x", "tactic": "execution", "platforms": "windows"}),
            "platforms",
        ),
        ("/techniques", json!({"mitre_id": "nonsense", "name": "x", "tactic": "execution"}), "mitre_id"),
    ];
    for (path, body, field) in wrong {
        let error = admin.post(path, &body).await.error(400, "VALIDATION_ERROR");
        assert!(error.to_string().contains(field), "{path} with a bad {field}: {error}");
    }
    // All problems at once.
    let error = admin.post("/users", &json!({"username": "", "password": "short", "role": "viewer"})).await;
    let error = error.error(400, "VALIDATION_ERROR");
    let fields: Vec<&str> = error["errors"].as_array().unwrap().iter().map(|e| e["field"].as_str().unwrap()).collect();
    assert!(fields.contains(&"username") && fields.contains(&"password"), "{error}");
    // A technique that is not there.
    let answer = admin.post("/tests", &json!({"technique_id": NOBODYS_ID, "name": "never made"})).await;
    assert!(matches!(answer.status, 400 | 404), "{answer}");
    answer.error(answer.status, answer.value()["code"].as_str().unwrap());
}

async fn ids_and_queries(admin: &Api) {
    for bad in ["nonsense", "1", "018f0000-0000-7000-8000-00000000000g", "%00", "..%2f..%2fetc%2fpasswd", "' OR 1=1 --"]
    {
        for path in ["/tests/", "/users/", "/evidence/"] {
            admin.get(&format!("{path}{bad}")).await.error(400, "VALIDATION_ERROR");
        }
        admin.act(&format!("/tests/{bad}/start-execution")).await.error(400, "VALIDATION_ERROR");
    }
    for path in ["/tests/", "/users/", "/evidence/", "/system/jobs/"] {
        admin.get(&format!("{path}{NOBODYS_ID}")).await.error(404, "NOT_FOUND");
    }
    for query in [
        "limit=0",
        "limit=-1",
        "limit=many",
        "limit=100000",
        "offset=-1",
        "offset=x",
        "status=x",
        "review_required=maybe",
    ] {
        admin.get(&format!("/techniques?{query}")).await.error(400, "VALIDATION_ERROR");
    }
    for query in ["limit=201", "state=x", "technique_id=x", "pending_validation_side=green"] {
        admin.get(&format!("/tests?{query}")).await.error(400, "VALIDATION_ERROR");
    }
    for query in ["user_id=x", "start_date=yesterday", "limit=101"] {
        admin.get(&format!("/audit-logs?{query}")).await.error(400, "VALIDATION_ERROR");
    }
    // Wildcards and quotes of SQL are plain text.
    for search in ["%25", "_", "'", "\\", "%22"] {
        let found = admin.get(&format!("/techniques?search={search}&limit=1")).await;
        found.json(200);
        assert!(found.total() < 600, "{found}");
    }
}

async fn sizes_and_types(admin: &Api) {
    let large = vec![b' '; 10 * 1024 * 1024];
    for path in ["/auth/login", "/tests", "/users"] {
        let request = admin.request(Method::POST, path).header(header::CONTENT_TYPE, "application/json");
        send(request.body(large.clone())).await.error(413, "PAYLOAD_TOO_LARGE");
    }
    for kind in ["text/plain", "application/xml"] {
        let request = admin.request(Method::POST, "/users").header(header::CONTENT_TYPE, kind).body("{}");
        send(request).await.error(415, "UNSUPPORTED_MEDIA_TYPE");
    }
    let untyped = admin.request(Method::POST, "/users").body("{}");
    send(untyped).await.error(415, "UNSUPPORTED_MEDIA_TYPE");
    let json_evidence = admin.post(&format!("/tests/{NOBODYS_ID}/evidence"), &json!({})).await;
    json_evidence.error(415, "UNSUPPORTED_MEDIA_TYPE");
}

async fn paths_and_methods(admin: &Api) {
    for path in ["/no-such-route", "/tests/a/b/c", "//nothing-here", "//api/v2/techniques"] {
        admin.get(path).await.error(404, "NOT_FOUND");
        Api::new(&admin.base, None).get(path).await.error(404, "NOT_FOUND");
    }
    for (method, path) in
        [(Method::DELETE, "/techniques"), (Method::PUT, "/auth/login"), (Method::PATCH, "/metrics/summary")]
    {
        let answer = send(admin.request(method, path)).await;
        answer.error(405, "METHOD_NOT_ALLOWED");
        assert!(!answer.header("allow").is_empty(), "{answer}");
    }
}

/// Every answer has an id: the client's own where it is harmless, else a new one.
async fn request_ids(admin: &Api) {
    for path in ["/techniques?limit=1", "/nothing", "//docs", "//openapi.json", "//livez", "//readyz"] {
        let answer = admin.get(path).await;
        if !path.contains("livez") && !path.contains("readyz") {
            answer.request_id();
        }
    }
    let mine = send(admin.request(Method::GET, "/auth/me").header(REQUEST_ID, "my-own.id_1")).await;
    assert_eq!(mine.request_id(), "my-own.id_1");
    let evil = send(admin.request(Method::GET, "/auth/me").header(REQUEST_ID, "a b\"<script>")).await;
    assert!(!evil.request_id().contains('<'));
}

/// Documents that cannot be read: told, and nothing of them kept.
async fn documents(admin: &Api, folder: &Path) {
    let write = |name: &str, bytes: &[u8]| -> String {
        let path = folder.join(name);
        fs::write(&path, bytes).unwrap();
        format!("file://{}", path.display())
    };
    let technique = json!({
        "type": "attack-pattern", "spec_version": "2.1", "name": "Never imported",
        "id": "attack-pattern--00000000-0000-4000-8000-000000000001",
        "created": "2025-01-01T00:00:00.000Z", "modified": "2025-01-01T00:00:00.000Z",
        "external_references": [{"source_name": "mitre-attack", "external_id": "T9001"}],
        "kill_chain_phases": [{"kill_chain_name": "mitre-attack", "phase_name": "execution"}],
    });
    let bundle =
        json!({"type": "bundle", "id": "bundle--00000000-0000-4000-8000-000000000001", "objects": [technique]});
    let bundle = serde_json::to_vec(&bundle).unwrap();
    let bad = [
        write("truncated.json", &bundle[..bundle.len() - 2]),
        write("half.json", &bundle[..bundle.len() / 2]),
        write("no-stix.json", br#"{"hello": "world"}"#),
        write("a-list.json", b"[1, 2, 3]"),
        write("no-json.json", b"<html>404 Not Found</html>"),
        write("empty.json", b""),
        write("damaged.json.zst", &[0x28, 0xb5, 0x2f, 0xfd, 0x04, 0x00, 0xff, 0xff, 0xff, 0xff]),
        write("damaged.json.gz", &[0x1f, 0x8b, 0x08, 0x00, 0x00, 0x00, 0x00, 0x00, 0xff, 0xff, 0xff]),
        format!("file://{}/is-not-there.json", folder.display()),
        // The data folder of a product in one process is in it, and its own files are nobody's document.
        format!("file://{}", folder.display()),
        format!("file://{}/data", folder.display()),
        format!("file://{}/data/identity.db", folder.display()),
        format!("file://{}/data/service-secret", folder.display()),
    ];
    let sources = admin.get("/data-sources").await.json(200);
    let sources = sources.as_array().unwrap();
    let source = sources.iter().find(|row| row["name"] == "mitre_attack_enterprise").unwrap().clone();
    let path = format!("/data-sources/{}", source["id"].as_str().unwrap());
    for url in &bad {
        admin.patch(&path, &json!({"url": url})).await.json(200);
        let answer = admin.act(&format!("{path}/sync")).await;
        assert!((400..500).contains(&answer.status), "{url}: {answer}");
        let error = answer.error_about(answer.status, answer.value()["code"].as_str().unwrap_or_default(), url);
        let row = admin.get("/data-sources").await.json(200);
        let row = row.as_array().unwrap().iter().find(|row| row["id"] == source["id"]).unwrap().clone();
        assert_eq!(row["last_status"], "failed", "{url}: {error}");
        assert!(row["last_error"].as_str().is_some_and(|why| !why.is_empty()), "{row}");
        admin.get("/techniques/T9001").await.error(404, "NOT_FOUND");
    }
    // The one in the background says it in its job.
    let job = admin.act(&format!("{path}/sync?async=true")).await.json(202);
    let job_path = format!("/system/jobs/{}", job["id"].as_str().unwrap());
    let job = eventually("the sync ends", Duration::from_secs(20), || async {
        let job = admin.get(&job_path).await.json(200);
        if job["status"] == "running" { Err(job.to_string()) } else { Ok(job) }
    })
    .await;
    assert_eq!(job["status"], "failed", "{job}");
    assert!(job["error"].as_str().is_some_and(|why| !why.is_empty()), "{job}");

    for url in ["", "nonsense", "ftp://example.com/x", "javascript:alert(1)", "http://"] {
        admin.patch(&path, &json!({"url": url})).await.error(400, "VALIDATION_ERROR");
    }
    admin.patch(&path, &json!({"schedule": "every now and then"})).await.error(400, "VALIDATION_ERROR");
    admin.patch(&path, &json!({"url": source["url"]})).await.json(200);
}

/// Tokens that do not hold, users who are not let in.
pub async fn identity(product: &mut Product) {
    let nobody = product.anonymous();
    let admin = product.admin().await;
    let login = async |username: &str, password: &str| {
        nobody.post("/auth/login", &json!({"username": username, "password": password})).await
    };
    for bad in ["", "x", "a.b.c", "eyJhbGciOiJub25lIn0.eyJzdWIiOiJhZG1pbiIsInJvbGUiOiJhZG1pbiJ9."] {
        nobody.with_token(bad).get("/auth/me").await.error(401, "UNAUTHENTICATED");
    }
    let token = admin.token.clone().unwrap();
    let (head, signature) = token.rsplit_once('.').unwrap();
    let forged: String = signature.chars().rev().collect();
    nobody.with_token(&format!("{head}.{forged}")).get("/auth/me").await.error(401, "UNAUTHENTICATED");
    let basic = nobody.request(Method::GET, "/auth/me").basic_auth("admin", Some("x"));
    send(basic).await.error(401, "UNAUTHENTICATED");

    must_change_password(product, &admin).await;

    // Disabled, demoted, with a new password, logged out: the token ends.
    let body = json!({"username": "short-lived", "password": PASSWORD, "role": "red_tech"});
    let id = admin.post("/users", &body).await.json(201)["id"].as_str().unwrap().to_owned();
    let path = format!("/users/{id}");
    for change in [json!({"role": "viewer"}), json!({"password": format!("{PASSWORD}-2")}), json!({"is_active": false})]
    {
        let password = if change.get("is_active").is_some() { format!("{PASSWORD}-2") } else { PASSWORD.to_owned() };
        let token = login("short-lived", &password).await.json(200)["access_token"].as_str().unwrap().to_owned();
        let user = nobody.with_token(&token);
        user.get("/auth/me").await.json(200);
        admin.patch(&path, &change).await.json(200);
        user.get("/auth/me").await.error(401, "UNAUTHENTICATED");
        user.get("/techniques?limit=1").await.error(401, "UNAUTHENTICATED");
    }
    login("short-lived", &format!("{PASSWORD}-2")).await.error(401, "INVALID_CREDENTIALS");
    admin.patch(&path, &json!({"is_active": true})).await.json(200);
    let token =
        login("short-lived", &format!("{PASSWORD}-2")).await.json(200)["access_token"].as_str().unwrap().to_owned();
    let user = nobody.with_token(&token);
    let out = user.act("/auth/logout").await;
    assert!((200..300).contains(&out.status), "{out}");
    user.get("/auth/me").await.error(401, "UNAUTHENTICATED");

    // Nobody demotes or disables themselves.
    let me = admin.get("/auth/me").await.json(200)["id"].as_str().unwrap().to_owned();
    for change in [json!({"role": "viewer"}), json!({"is_active": false})] {
        let answer = admin.patch(&format!("/users/{me}"), &change).await;
        assert!(matches!(answer.status, 403 | 409), "{answer}");
    }
    // Guessing ends after ten failures, for that username alone.
    // Another run may have guessed a moment ago, on the same Redis.
    let name = format!("guessed-{}", std::process::id());
    let mut refused = 0;
    for _ in 0..12 {
        let answer = login(&name, "wrong-password").await;
        if answer.status == 429 {
            answer.error(429, "RATE_LIMITED");
            assert!(answer.header("retry-after").parse::<u64>().is_ok_and(|seconds| seconds > 0), "{answer}");
            refused += 1;
        } else {
            answer.error(401, "INVALID_CREDENTIALS");
        }
    }
    assert_eq!(refused, 2, "ten guesses are heard");
    admin.get("/auth/me").await.json(200);
    product.assert_alive();
}

/// A flagged user gets nothing but the way out.
async fn must_change_password(product: &Product, admin: &Api) {
    let body = json!({"username": "flagged", "password": PASSWORD, "role": "admin", "must_change_password": true});
    admin.post("/users", &body).await.json(201);
    let nobody = product.anonymous();
    let first = nobody.post("/auth/login", &json!({"username": "flagged", "password": PASSWORD})).await.json(200);
    assert_eq!(first["must_change_password"], true);
    let flagged = nobody.with_token(first["access_token"].as_str().unwrap());
    flagged.get("/auth/me").await.json(200);
    for path in ["/techniques", "/users", "/metrics/summary", "/tests", "/notifications", "/audit-logs"] {
        flagged.get(path).await.error(403, "PASSWORD_CHANGE_REQUIRED");
    }
    flagged
        .post("/users", &json!({"username": "x-y-z", "password": PASSWORD, "role": "viewer"}))
        .await
        .error(403, "PASSWORD_CHANGE_REQUIRED");
    let new = format!("{PASSWORD}-changed");
    flagged.post("/auth/change-password", &json!({"old_password": PASSWORD, "new_password": new})).await.json(200);
    flagged.get("/techniques?limit=1").await.error(401, "UNAUTHENTICATED");
    let second = nobody.post("/auth/login", &json!({"username": "flagged", "password": new})).await.json(200);
    assert_eq!(second["must_change_password"], false);
    nobody.with_token(second["access_token"].as_str().unwrap()).get("/users").await.json(200);
}
