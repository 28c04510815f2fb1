//! A decoy is deployed, attacked with real clients, and what was done shows up everywhere: logs, stream, attackers, bounty,
//! techniques, gaps, heatmap, alerts.

use std::{net::Ipv4Addr, time::Duration};

use reqwest::Method;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    net::TcpSocket,
};

use crate::harness::{Api, Product, eventually, plain, rows, send};

const PATIENCE: Duration = Duration::from_secs(30);

pub async fn scenario(product: &mut Product) {
    product.ensure_sensor().await;
    let admin = product.admin().await;
    let viewer = product.someone("viewer").await;
    let red = product.someone("red_tech").await;
    let name = format!("story-{:08x}", rand::random::<u32>());
    let decky = deployed(&admin, &viewer, &name).await;
    // An address that nobody else attacks from.
    let [a, b, c] = rand::random::<[u8; 3]>().map(|part| part.clamp(2, 250));
    let attacker = Ipv4Addr::new(127, a, b, c);

    let address = |service: &str| decky["ports"][service].as_str().unwrap_or_else(|| panic!("{decky}")).to_owned();
    web(&address("http"), attacker).await;
    redis(&address("redis"), attacker).await;
    let banner = first_line(&address("ssh"), attacker, b"SSH-2.0-libssh_0.9.6\r\n").await;
    assert!(banner.starts_with("SSH-2.0-OpenSSH_"), "{banner}");

    logs(&viewer, &name, attacker).await;
    let uuid = profile(&viewer, &name, attacker).await;
    techniques(&viewer, &red, &uuid).await;
    alerts(&viewer, attacker).await;
    sigma(&admin, &viewer, &uuid, &address("http"), attacker).await;
    ended(&admin, &viewer, &name, &address("http")).await;
    product.assert_alive();
}

/// The fleet has one more decky, whose services answer.
async fn deployed(admin: &Api, viewer: &Api, name: &str) -> Value {
    let [a, b, c] = rand::random::<[u8; 3]>().map(|part| part.clamp(2, 250));
    let ini = |services: &str| json!({"ini_content": format!("[general]\nnet = 127.0.0.0/8\n\n[{name}]\nip = 127.{a}.{b}.{c}\nservices = {services}\n")});
    viewer.post("/deckies/deploy", &ini("ssh")).await.error(403, "FORBIDDEN");
    let refused = admin.post("/deckies/deploy", &ini("ssh,gopher")).await;
    // Not `error`: what can be deployed has names of databases in it.
    let detail = refused.json(409)["detail"].to_string();
    assert!(detail.contains("gopher") && detail.contains('6'), "{detail}");
    viewer.get(&format!("/deckies/{name}")).await.error(404, "NOT_FOUND");
    let answer = admin.post("/deckies/deploy", &ini("ssh,http,redis")).await.json(200);
    assert!(answer["message"].is_string(), "{answer}");
    let decky = viewer.get(&format!("/deckies/{name}")).await.json(200);
    assert_eq!((&decky["status"], decky["ports"].as_object().unwrap().len()), (&json!("running"), 3), "{decky}");
    // What is there already is not deployed again.
    admin.post("/deckies/deploy", &ini("ssh,http,redis")).await.error(409, "CONFLICT");
    decky
}

async fn web(address: &str, from: Ipv4Addr) {
    let client = plain().local_address(Some(from.into())).build().unwrap();
    for path in ["/", "/.env", "/index.php?s=/index/think/app/invokefunction"] {
        let request = client.get(format!("http://{address}{path}")).header("user-agent", "Mozilla/5.0 zgrab/0.x");
        let answer = request.send().await.unwrap();
        assert!(answer.headers().contains_key("server"), "{answer:?}");
    }
}

async fn redis(address: &str, from: Ipv4Addr) {
    let line = first_line(address, from, b"CONFIG SET dir /var/spool/cron\r\n").await;
    assert!(line.starts_with('+') || line.starts_with('-'), "{line}");
}

/// What a server says first after this.
async fn first_line(address: &str, from: Ipv4Addr, says: &[u8]) -> String {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind((from, 0).into()).unwrap();
    let mut stream = BufReader::new(socket.connect(address.parse().unwrap()).await.unwrap());
    stream.write_all(says).await.unwrap();
    let mut line = String::new();
    tokio::time::timeout(PATIENCE, stream.read_line(&mut line)).await.unwrap().unwrap();
    line
}

async fn logs(viewer: &Api, name: &str, from: Ipv4Addr) {
    let search = format!("/logs?search=decky:{name}%20attacker:{from}%20event:request");
    let page = eventually("the requests are logged", PATIENCE, || async {
        let page = viewer.get(&search).await.json(200);
        if page["total"] == 3 { Ok(page) } else { Err(page.to_string()) }
    })
    .await;
    let fields: Value = serde_json::from_str(page["data"][0]["fields"].as_str().unwrap()).unwrap();
    assert_eq!(fields["user_agent"], "Mozilla/5.0 zgrab/0.x", "{page}");
    let histogram = viewer.get(&format!("/logs/histogram?search=decky:{name}")).await.json(200);
    let counted: i64 = rows(&histogram).iter().filter_map(|bucket| bucket["count"].as_i64()).sum();
    assert!(counted >= 3, "{histogram}");
    let stats = viewer.get("/stats").await.json(200);
    assert!(stats["total_logs"].as_i64() >= Some(3) && stats["deployed_deckies"].as_i64() >= Some(1), "{stats}");
    viewer.get("/logs?start_time=yesterday").await.error(422, "VALIDATION_ERROR");
}

async fn profile(viewer: &Api, name: &str, from: Ipv4Addr) -> String {
    let attacker = eventually("the attacker has a profile", PATIENCE, || async {
        let page = viewer.get(&format!("/attackers?search={from}")).await.json(200);
        let found = page["data"].as_array().and_then(|rows| rows.iter().find(|row| row["service_count"] == 3)).cloned();
        found.ok_or_else(|| page.to_string())
    })
    .await;
    assert_eq!((&attacker["ip"], &attacker["deckies"]), (&json!(from.to_string()), &json!([name])), "{attacker}");
    assert!(attacker["behavior"]["event_count"].as_i64() >= Some(6), "{attacker}");
    let uuid = attacker["uuid"].as_str().unwrap().to_owned();
    let bounty = viewer.get(&format!("/bounty?bounty_type=fingerprint&search=attacker:{from}")).await.json(200);
    assert!(bounty["total"].as_i64() >= Some(1), "{bounty}");
    uuid
}

async fn techniques(viewer: &Api, red: &Api, uuid: &str) {
    let shown = viewer.get(&format!("/attackers/{uuid}/techniques")).await.json(200);
    let ids: Vec<&str> = shown.as_array().unwrap().iter().filter_map(|row| row["mitre_id"].as_str()).collect();
    for id in ["T1595.002", "T1552.001", "T1190"] {
        assert!(ids.contains(&id), "{id}: {shown}");
    }
    let gap = eventually("what was seen is a gap", PATIENCE, || async {
        let gaps = viewer.get("/metrics/observed-gaps?limit=1000").await.json(200);
        let found = rows(&gaps).into_iter().find(|gap| gap["mitre_id"] == "T1190");
        found.ok_or_else(|| gaps.to_string())
    })
    .await;
    assert!(gap["attackers"].as_i64() >= Some(1) && gap["priority"].as_f64() > Some(0.0), "{gap}");
    let layer = viewer.get("/heatmap?metric=observed").await.json(200);
    let seen = layer["techniques"].as_array().unwrap().iter().find(|row| row["techniqueID"] == "T1190").unwrap();
    assert!(seen["score"].as_i64() >= Some(1), "{seen}");
    viewer.post("/metrics/observed-gaps/T1190/test", &json!({})).await.error(403, "FORBIDDEN");
    let test = red.post("/metrics/observed-gaps/T1190/test", &json!({"platform": "linux"})).await.json(201);
    let procedure = test["procedure_text"].as_str().unwrap();
    assert!(procedure.contains("http: GET /index.php?s=/index/think/app/invokefunction"), "{test}");
}

/// A rule that somebody brings in tags what comes from then on, and says that it was the reason; until it is deleted.
async fn sigma(admin: &Api, viewer: &Api, uuid: &str, web: &str, from: Ipv4Addr) {
    let id = uuid::Uuid::now_v7();
    let path = format!("/export-{id}.tar");
    let text = format!(
        "title: Export of everything\nid: {id}\nstatus: test\ndescription: Nobody fetches the whole export but to take it \
         away.\nauthor: Ana\ntags:\n  - attack.collection\n  - attack.t1213\nlogsource:\n  category: webserver\n\
         detection:\n  selection:\n    cs-method: GET\n    cs-uri-stem: {path}\n  condition: selection\nlevel: high\n"
    );
    let bring = admin.request(Method::POST, "/detection-rules").header("content-type", "application/yaml");
    let made = send(bring.body(text)).await.json(201);
    let key = format!("custom:{id}");
    assert_eq!(made["keys"], json!([key]), "{made}");
    let listed = async || {
        let rules = viewer.all("/tagging-rules").await;
        rules.into_iter().find(|rule| rule["id"] == key)
    };
    let rule = eventually("the rule is in use", PATIENCE, || async { listed().await.ok_or("it is not listed".into()) });
    let rule = rule.await;
    assert_eq!((&rule["source"], &rule["mitre_ids"]), (&json!("sigma"), &json!(["T1213"])), "{rule}");
    assert_eq!((&rule["author"], &rule["problem"]), (&json!("Ana"), &Value::Null), "{rule}");

    let client = plain().local_address(Some(from.into())).build().unwrap();
    // Of several processes each has it in its own time.
    let shown = eventually("the event is tagged by the rule", PATIENCE, || async {
        client.get(format!("http://{web}{path}?x=1")).send().await.unwrap();
        let shown = viewer.get(&format!("/attackers/{uuid}/techniques")).await.json(200);
        rows(&shown).into_iter().find(|row| row["mitre_id"] == "T1213").ok_or_else(|| shown.to_string())
    })
    .await;
    assert_eq!(shown["rules"], json!([key]), "{shown}");
    let logged = viewer.get(&format!("/logs?search=attacker:{from}%20{id}&limit=1")).await.json(200);
    assert_eq!(
        logged["data"][0]["techniques"].as_array().map(|all| all.contains(&json!("T1213"))),
        Some(true),
        "{logged}"
    );

    assert_eq!(send(admin.request(Method::DELETE, &format!("/detection-rules/{key}"))).await.status, 204);
    eventually("the rule is gone", PATIENCE, || async {
        match listed().await {
            None => Ok(()),
            Some(rule) => Err(rule.to_string()),
        }
    })
    .await;
}

async fn alerts(viewer: &Api, from: Ipv4Addr) {
    let alerts = viewer.get("/alerts?limit=200").await.json(200);
    let own: Vec<Value> = rows(&alerts).into_iter().filter(|row| row["attacker_ip"] == from.to_string()).collect();
    assert!(own.iter().any(|alert| alert["kind"] == "first_contact"), "{alerts}");
    // One alert, however many events.
    assert_eq!(own.iter().filter(|alert| alert["kind"] == "first_contact").count(), 1, "{own:?}");
}

/// Its services end; what happened stays.
async fn ended(admin: &Api, viewer: &Api, name: &str, web: &str) {
    assert_eq!(send(admin.request(Method::DELETE, &format!("/deckies/{name}"))).await.status, 204);
    eventually("nobody answers there any more", PATIENCE, || async {
        match tokio::net::TcpStream::connect(web).await {
            Ok(_) => Err("somebody answers".to_owned()),
            Err(_) => Ok(()),
        }
    })
    .await;
    let page = viewer.get(&format!("/logs?search=decky:{name}")).await.json(200);
    assert!(page["total"].as_i64() >= Some(6), "{page}");
}
