//! API keys, rotated signing keys, revocation in every process, and what people try who should not get in.

use std::{fs, time::Duration};

use reqwest::{Method, header};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use tonic::Code;
use tonic_reflection::pb::v1::{
    ServerReflectionRequest, server_reflection_client::ServerReflectionClient,
    server_reflection_request::MessageRequest,
};

use crate::harness::{Api, PASSWORD, Product, eventually, head, send};

pub async fn scenario(product: &mut Product) {
    let admin = product.admin().await;
    api_keys(product, &admin).await;
    rotation(product).await;
    oversized(product, &admin).await;
    injection(product, &admin).await;
    product.assert_alive();
}

/// Whether every process takes this bearer, asked over gRPC past the gateway.
async fn every_process(product: &Product, bearer: &str, expected: Code) -> Result<(), String> {
    for name in product.processes() {
        let endpoint = tonic::transport::Endpoint::from_shared(product.address_of(name)).unwrap();
        let mut client = ServerReflectionClient::new(endpoint.connect().await.map_err(|e| e.to_string())?);
        let ask = ServerReflectionRequest {
            host: String::new(),
            message_request: Some(MessageRequest::ListServices(String::new())),
        };
        let mut request = tonic::Request::new(futures::stream::iter([ask]));
        request.metadata_mut().insert("authorization", format!("Bearer {bearer}").parse().unwrap());
        let code = client.server_reflection_info(request).await.map_or_else(|status| status.code(), |_| Code::Ok);
        if code != expected {
            return Err(format!("{name} answers {code:?}, not {expected:?}"));
        }
    }
    Ok(())
}

async fn api_keys(product: &mut Product, admin: &Api) {
    let red = product.user("red_tech", "keyholder").await;
    let id = red.get("/auth/me").await.json(200)["id"].as_str().unwrap().to_owned();
    let path = format!("/users/{id}/api-keys");
    let made = red.post(&path, &json!({"name": "pipeline", "role": "red_tech", "expires_in_days": 7})).await;
    let key = made.json(201);
    let (key_id, text) = (key["id"].as_str().unwrap().to_owned(), key["key"].as_str().unwrap().to_owned());
    assert_eq!(made.header("location"), format!("/api/v1{path}/{key_id}"));

    // It works like a token of its role, through every service, and says whose it is.
    let machine = product.anonymous().with_token(&text);
    assert_eq!(machine.get("/auth/me").await.json(200)["username"], "keyholder");
    let technique = machine.get("/techniques/T1003").await.json(200)["id"].clone();
    let test = machine.post("/tests", &json!({"technique_id": technique, "name": "By a machine"})).await.json(201);
    assert_eq!(test["created_by"], json!(id));
    machine.get("/users").await.error(403, "FORBIDDEN");
    machine.get("/audit-logs").await.error(403, "FORBIDDEN");
    machine.post(&path, &json!({"name": "another"})).await.error(403, "FORBIDDEN");
    every_process(product, &text, Code::Ok).await.unwrap();

    // Shown once: not in lists, not in the audit trail.
    let listed = red.get(&path).await;
    let rows = listed.json(200);
    assert_eq!((rows.as_array().unwrap().len(), listed.total()), (1, 1));
    assert!(rows[0].get("key").is_none() && !listed.text().contains(&text), "{rows}");
    assert!(!admin.get("/audit-logs?action=create_api_key").await.text().contains(&text));
    assert_eq!(red.get(&format!("{path}/{key_id}")).await.json(200)["prefix"], key["prefix"]);

    // No higher than its owner; of others only for administrators; not for ever.
    let refused = red.post(&path, &json!({"name": "x", "role": "admin"})).await.error(400, "VALIDATION_ERROR");
    assert_eq!(refused["errors"][0]["field"], "role");
    for body in [
        json!({"name": ""}),
        json!({"name": "x".repeat(101)}),
        json!({"name": "x", "expires_in_days": 0}),
        json!({"name": "x", "expires_in_days": 367}),
        json!({"name": "x", "expires_at": "2020-01-01T00:00:00Z"}),
        json!({"name": "x", "expires_at": "2030-01-01T00:00:00Z", "expires_in_days": 1}),
        json!({"name": "x", "role": "service"}),
    ] {
        red.post(&path, &body).await.error(400, "VALIDATION_ERROR");
    }
    let viewer = product.someone("viewer").await;
    viewer.get(&path).await.error(403, "FORBIDDEN");
    let own = viewer.get("/auth/me").await.json(200)["id"].as_str().unwrap().to_owned();
    viewer.post(&format!("/users/{own}/api-keys"), &json!({"name": "x"})).await.error(403, "FORBIDDEN");

    // Revoked: refused here at once and everywhere a moment later.
    let revoked = send(red.request(Method::DELETE, &format!("{path}/{key_id}"))).await;
    assert_eq!(revoked.status, 204, "{revoked}");
    machine.get("/auth/me").await.error(401, "UNAUTHENTICATED");
    eventually("the key has ended in every process", Duration::from_secs(3), || {
        every_process(product, &text, Code::Unauthenticated)
    })
    .await;
    assert!(!red.get(&format!("{path}/{key_id}")).await.json(200)["revoked_at"].is_null());
    let again = send(red.request(Method::DELETE, &format!("{path}/{key_id}"))).await;
    assert_eq!(again.status, 204, "{again}");
    for made_up in ["aegis_key_", "aegis_key_short", &format!("aegis_key_{}", "A".repeat(43)), &text.to_uppercase()] {
        product.anonymous().with_token(made_up).get("/auth/me").await.error(401, "UNAUTHENTICATED");
    }
}

/// The signing key is changed under the feet of people who work, and of every process.
async fn rotation(product: &mut Product) {
    let nobody = product.anonymous();
    let login = async || {
        let token = nobody.post("/auth/login", &json!({"username": "keyholder", "password": PASSWORD})).await.json(200);
        token["access_token"].as_str().unwrap().to_owned()
    };
    let kids = async || -> Vec<Value> {
        let keys = nobody.get("//.well-known/jwks.json").await.json(200);
        keys["keys"].as_array().unwrap().iter().map(|key| key["kid"].clone()).collect()
    };
    let old = login().await;
    let before = kids().await;
    let output = product.command(&["keys", "rotate", "--json"]).output().expect("aegis runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let said: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(kids().await.len(), before.len() + 1);
    every_process(product, &old, Code::Ok).await.unwrap();

    let new = eventually("the new key signs", Duration::from_secs(40), || async {
        let token = login().await;
        every_process(product, &token, Code::Ok).await.unwrap();
        if header_of(&token)["kid"] == said["kid"] { Ok(token) } else { Err(header_of(&token).to_string()) }
    })
    .await;
    every_process(product, &old, Code::Ok).await.unwrap();
    nobody.with_token(&old).get("/techniques?limit=1").await.json(200);

    // A logout ends the token in every process.
    nobody.with_token(&new).act("/auth/logout").await.json(200);
    eventually("the token has ended in every process", Duration::from_secs(3), || {
        every_process(product, &new, Code::Unauthenticated)
    })
    .await;
    every_process(product, &old, Code::Ok).await.unwrap();
}

fn header_of(token: &str) -> Value {
    use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(token.split('.').next().unwrap()).unwrap()).unwrap()
}

/// A token of a megabyte, a password of a hundred: refused unread, and the next request is answered.
async fn oversized(product: &Product, admin: &Api) {
    let request = |head: String| async move {
        let mut stream = TcpStream::connect(product.base.strip_prefix("http://").unwrap()).await.unwrap();
        // The server may hang up before it has read everything: that is its right.
        let _ = stream.write_all(head.as_bytes()).await;
        let _ = stream.write_all(&vec![b'x'; 1024 * 1024]).await;
        let mut answer = vec![0; 4096];
        let n = stream.read(&mut answer).await.unwrap_or(0);
        String::from_utf8_lossy(&answer[..n]).into_owned()
    };
    let token = request("GET /api/v1/auth/me HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer ".into()).await;
    assert!(token.is_empty() || token.starts_with("HTTP/1.1 4"), "{token}");
    let password = request(
        "POST /api/v1/auth/login HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n\
         Content-Length: 104857600\r\n\r\n{\"username\": \"admin\", \"password\": \""
            .into(),
    )
    .await;
    assert!(password.starts_with("HTTP/1.1 413"), "{password}");
    // What passes as a header and is no token of ours.
    let long = product.anonymous().with_token(&"x".repeat(20_000));
    let refused = head(long.request(Method::GET, "/auth/me")).await;
    assert!(matches!(refused.status, 401 | 431), "{refused}");
    admin.get("/auth/me").await.json(200);
}

/// What is a command elsewhere is text here: kept as it came, found as it is, one line in the log.
async fn injection(product: &Product, admin: &Api) {
    const NASTY: [&str; 8] = [
        "'; DROP TABLE users; --",
        "\" OR 1=1 --",
        "%' ESCAPE '!' OR '%'='",
        "100%_\\",
        "<script>alert(1)</script>",
        "{{7*7}}${7*7}#{7*7}",
        "=HYPERLINK(\"http://192.0.2.1\")",
        "\u{202e}gnp.exe\u{200b}",
    ];
    let technique = admin.get("/techniques/T1003").await.json(200)["id"].clone();
    for text in NASTY {
        let body = json!({"technique_id": technique, "name": text, "description": text, "procedure_text": text});
        let test = admin.post("/tests", &body).await.json(201);
        let read = admin.get(&format!("/tests/{}", test["id"].as_str().unwrap())).await.json(200);
        for field in ["name", "description", "procedure_text"] {
            assert_eq!(read[field], json!(text), "{field}");
        }
        let body = json!({"name": text, "mitre_technique_id": "T1003", "attack_procedure": text});
        let template = admin.post("/test-templates", &body).await.json(201);
        assert_eq!(template["attack_procedure"], json!(text));
        // As a search it is words: what has it as a name comes first, and it does not find everything.
        let found = send(admin.request(Method::GET, "/test-templates").query(&[("search", text)])).await.json(200);
        let found = found.as_array().unwrap();
        assert!(found.first().is_some_and(|row| row["name"] == json!(text)), "{text}: {found:?}");
        let everything = admin.total("/techniques").await;
        let found = send(admin.request(Method::GET, "/techniques").query(&[("search", text)])).await;
        assert!(found.total() < everything / 2, "{text}: {} of {everything}", found.total());
        for (list, parameter) in [("/users", "search"), ("/audit-logs", "action"), ("/audit-logs", "entity_type")] {
            let found = send(admin.request(Method::GET, list).query(&[(parameter, text)])).await;
            let rows = found.json(200);
            let rows = rows.as_array().or_else(|| rows["items"].as_array()).unwrap();
            assert!(rows.is_empty(), "{list} {parameter} {text}: {rows:?}");
        }
        let refused = json!({"username": text, "password": PASSWORD, "role": "viewer"});
        admin.post("/users", &refused).await.error_about(400, "VALIDATION_ERROR", text);
    }

    // A line break in a name makes no line of its own in the log, nor in the audit trail.
    let forged = "x\n2030-01-01T00:00:00Z ERROR forged entry";
    let nobody = product.anonymous();
    nobody
        .post("/auth/login", &json!({"username": forged, "password": PASSWORD}))
        .await
        .error(401, "INVALID_CREDENTIALS");
    let agent = nobody.request(Method::GET, "/auth/me").header(header::USER_AGENT, "curl\tforged ERROR");
    send(agent).await.error(401, "UNAUTHENTICATED");
    for entry in fs::read_dir(product.folder()).unwrap().flatten() {
        if entry.path().extension().is_some_and(|end| end == "out" || end == "err") {
            let log = fs::read_to_string(entry.path()).unwrap_or_default();
            let lines = log.lines().filter(|line| line.starts_with("2030-01-01")).count();
            assert_eq!(lines, 0, "{}", entry.path().display());
        }
    }
    let users = admin.get("/users?limit=5000").await.json(200);
    assert!(users.as_array().unwrap().iter().any(|user| user["username"] == "admin"));
}
