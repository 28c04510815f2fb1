//! What is asked of the decoys is made once.

use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};

use super::{People, fresh, id, post, refused, twice, version};
use crate::harness::{eventually, send};

/// A decky on an address of its own, on which nothing else listens.
pub fn ini(name: &str) -> Value {
    let [a, b, c] = rand::random::<[u8; 3]>().map(|part| part.clamp(2, 250));
    json!({"ini_content": format!("[{name}]\nip = 127.{a}.{b}.{c}\narchetype = web-server\nservices = http\n")})
}

/// Deckies, scanners that are approved, and lines of other honeypots.
pub async fn once(people: &People) {
    let admin = &people.admin;
    let name = format!("once-{}", fresh());
    let (one, other) = (ini(&name), ini(&format!("twice-{}", fresh())));
    let before = admin.total("/deckies").await;
    let (_, key) = twice(200, || post(admin, "/deckies/deploy", Some(&one))).await;
    refused(&key, post(admin, "/deckies/deploy", Some(&other))).await;
    assert_eq!(admin.total("/deckies").await, before + 1);
    let decky = format!("/deckies/{name}");
    let version_before = version(&admin.get(&decky).await);
    let (mutated, key) = twice(200, || post(admin, &format!("{decky}/mutate"), None)).await;
    assert_eq!(version(&mutated), version_before + 1, "{mutated}");
    refused(&key, post(admin, "/deckies/another/mutate", None)).await;
    assert_eq!(send(admin.request(Method::DELETE, &decky)).await.status, 204);

    let scanner = |name: &str| json!({"name": name, "network": "198.51.100.0/24"});
    let (one, other) = (scanner(&fresh()), scanner("Twice"));
    let (made, key) = twice(201, || post(admin, "/approved-scanners", Some(&one))).await;
    refused(&key, post(admin, "/approved-scanners", Some(&other))).await;
    let path = format!("/approved-scanners/{}", id(&made));
    assert_eq!(send(admin.request(Method::DELETE, &path)).await.status, 204);

    let line = || {
        let line = json!({
            "eventid": "cowrie.login.failed", "timestamp": "2024-01-01T00:00:00.000000Z", "sensor": "elsewhere",
            "session": fresh().replace('-', ""), "src_ip": "198.51.100.7", "username": "root", "password": "once",
            "message": "login attempt [root/once] failed"
        });
        format!("{line}\n")
    };
    let bring = |lines: &str| {
        let request = admin.request(Method::POST, "/ingest/cowrie").header("content-type", "application/x-ndjson");
        request.body(lines.to_owned())
    };
    let (one, other) = (line(), line());
    let (first, key) = twice(200, || bring(&one)).await;
    assert_eq!((&first.value()["accepted"], &first.value()["duplicate"]), (&json!(1), &json!(0)), "{first}");
    refused(&key, bring(&other)).await;
    // Without the key it is there already.
    assert_eq!(send(bring(&one)).await.json(200)["duplicate"], 1);

    // What was tried there is a technique that can be tested now.
    let gap = "/metrics/observed-gaps/T1110.001/test";
    eventually("the technique is observed", Duration::from_secs(30), || async {
        let observed = admin.get("/techniques/T1110.001/observations").await;
        if observed.total() > 0 { Ok(()) } else { Err(observed.to_string()) }
    })
    .await;
    let (made, key) = twice(201, || post(&people.red, gap, Some(&json!({})))).await;
    let made = made.value();
    assert_eq!((&made["mitre_id"], &made["state"]), (&json!("T1110.001"), &json!("draft")), "{made}");
    assert!(made["procedure_text"].as_str().unwrap().contains("log in as root"), "{made}");
    refused(&key, post(&people.red, gap, Some(&json!({"name": "Another"})))).await;
    let unseen = post(&people.red, "/metrics/observed-gaps/T1600/test", Some(&json!({})));
    send(unseen).await.error(404, "NOT_FOUND");
}
