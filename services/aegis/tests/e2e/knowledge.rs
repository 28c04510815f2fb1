//! The knowledge base from outside: every source from its real file, the golden rows, search, and what people bring in.

use std::{collections::BTreeSet, net::SocketAddr, path::Path, time::Duration};

use reqwest::Method;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::harness::{Answer, Api, Product, eventually, send};

/// The sources with their files, and the companion of those that need two. Other scenarios count the techniques of one
/// matrix, so no second one is among them.
const SOURCES: &[(&str, &str, Option<&str>)] = &[
    ("mitre_attack_enterprise", "attack/enterprise-attack-18.1.json.zst", None),
    ("misp_threat_actors", "misp/misp-galaxy-9434ace4.tar.zst", None),
    ("d3fend", "d3fend/d3fend-site-0.14.0-ontology.tar.zst", Some("d3fend/d3fend-site-0.14.0-attack-api.tar.zst")),
    ("atomic_red_team", "atomic/atomics-yaml-b3dc12d4.tar.zst", None),
    ("caldera", "caldera/stockpile-data-996ec41c.tar.zst", None),
    ("lolbas", "lolbas/lolbas-yml-3403b338.tar.zst", None),
    ("sigma", "sigma/sigma-rules-r2025-11-01.tar.zst", None),
    ("elastic", "elastic/elastic-rules-38d38f29.tar.zst", None),
    (
        "nist_800_53",
        "compliance/ctid-mappings-explorer-2911162c.tar.zst",
        Some("compliance/NIST_SP-800-53_rev5_catalog-5.2.0.from-pypi-icdev.json.zst"),
    ),
    ("cri", "compliance/ctid-mappings-explorer-2911162c.tar.zst", None),
    ("csa_ccm", "compliance/ctid-mappings-explorer-2911162c.tar.zst", None),
    ("kev_mappings", "compliance/ctid-mappings-explorer-2911162c.tar.zst", None),
    ("kev", "kev/known_exploited_vulnerabilities-2025-01-27.json.zst", None),
];

/// What is counted of a technique: groups, software, mitigations, detection strategies, Atomic tests, Sigma rules, NIST
/// controls, D3FEND countermeasures, LOLBAS commands, Stockpile abilities.
const GOLDEN: &[(&str, [i64; 10])] = &[
    ("T1003.001", [42, 26, 7, 1, 14, 75, 19, 7, 8, 4]),
    ("T1059", [17, 22, 9, 1, 1, 92, 23, 11, 5, 0]),
    ("T1059.001", [83, 124, 5, 1, 22, 217, 19, 11, 3, 3]),
    ("T1078", [44, 6, 8, 1, 0, 60, 25, 16, 1, 0]),
    ("T1562.001", [30, 71, 5, 1, 59, 113, 13, 8, 1, 3]),
    ("T1112", [29, 136, 1, 1, 90, 88, 3, 3, 0, 1]),
    ("T1566.001", [77, 55, 7, 1, 2, 22, 12, 25, 0, 0]),
    ("T1190", [42, 8, 8, 1, 0, 140, 29, 12, 0, 0]),
];

/// A rule of our own, for the test.
const RULE: &str = "\
title: A word that only this rule has, xylograph
id: 5b1a3f52-9a4f-4a54-9d0e-6f1f7f6f3c11
status: experimental
description: For the test of the product.
author: Aegis
tags:
    - attack.execution
    - attack.t1059.001
logsource:
    category: process_creation
    product: windows
detection:
    selection:
        Image|endswith: '\\xylograph.exe'
    condition: selection
level: high
";

/// A template of our own, in the format that Atomic Red Team publishes.
const TEMPLATE: &str = "\
attack_technique: T1059.001
display_name: PowerShell
atomic_tests:
- name: Xylograph prints a line
  auto_generated_guid: 3a1f5a0e-6c62-4f0b-9d6e-2f8c1d3b7a55
  description: For the test of the product.
  supported_platforms:
  - windows
  input_arguments:
    word:
      description: What is printed
      type: string
      default: hello
  executor:
    name: powershell
    elevation_required: false
    command: |
      Write-Output #{word}
";

pub async fn scenario(product: &mut Product) {
    let admin = product.admin().await;
    let viewer = product.someone("viewer").await;
    rules_of_ones_own(product, &admin).await;
    templates_of_ones_own(&admin).await;
    scheduler(&admin).await;
    feeds(&admin).await;
    if let Some(data) = aegis_testkit::data_dir() {
        let before = admin.get("/data-sources").await.json(200);
        sync_everything(&admin, &data).await;
        golden_rows(&viewer).await;
        actors(&viewer).await;
        rules(&viewer).await;
        countermeasures(product, &viewer).await;
        controls(&viewer).await;
        search(&viewer).await;
        generation(&admin, &viewer).await;
        for source in before.as_array().unwrap() {
            let path = format!("/data-sources/{}", source["id"].as_str().unwrap());
            let mut old = json!({ "url": source["url"] });
            if source["companion_url"].is_string() {
                old["companion_url"] = source["companion_url"].clone();
            }
            admin.patch(&path, &old).await.json(200);
        }
    }
    product.assert_alive();
}

/// Every source from its file; a second time nothing is new.
async fn sync_everything(admin: &Api, data: &Path) {
    let url = |file: &str| {
        let path = std::fs::canonicalize(data.join(file)).unwrap_or_else(|e| panic!("{file}: {e}"));
        format!("file://{}", path.display())
    };
    for (name, file, companion) in SOURCES {
        let mut place = json!({ "url": url(file) });
        if let Some(companion) = companion {
            place["companion_url"] = url(companion).into();
        }
        let path = format!("/data-sources/{name}");
        admin.patch(&path, &place).await.json(200);
        let done = admin.act(&format!("{path}/sync")).await.json(200);
        assert_eq!(done["job"]["status"], "succeeded", "{name}: {done}");
        let again = admin.act(&format!("{path}/sync?dry_run=true")).await.json(200);
        assert_eq!((&again["new"], &again["updated"]), (&json!(0), &json!(0)), "{name}: {again}");
        assert_eq!(again["job"]["dry_run"], true);
    }
    let jobs = admin.get("/system/jobs?source=sigma&limit=2").await.json(200);
    assert_eq!(jobs[0]["started_by"], "admin", "{jobs}");
}

async fn golden_rows(viewer: &Api) {
    for (technique, golden) in GOLDEN {
        let known = viewer.get(&format!("/techniques/{technique}/knowledge")).await.json(200);
        let counts = known["counts"].as_array().unwrap();
        let count = |kind: &str, source: &str| -> i64 {
            let rows = counts.iter().filter(|row| row["kind"] == kind && row["source"] == source);
            rows.map(|row| row["count"].as_i64().unwrap()).sum()
        };
        let found = [
            count("threat_actor", "mitre_attack"),
            count("software", "mitre_attack"),
            count("mitigation", "mitre_attack"),
            count("detection_strategy", "mitre_attack"),
            count("template", "atomic_red_team"),
            count("detection_rule", "sigma"),
            // The controls of the other frameworks have another source.
            controls_of(viewer, "nist_800_53", technique).await,
            count("defence", "d3fend"),
            count("template", "lolbas"),
            count("template", "caldera"),
        ];
        assert_eq!(&found, golden, "{technique}: {known}");
    }
    let links = viewer.get("/techniques/T1059.001/links?kind=threat_actor").await;
    assert_eq!(links.total(), 83, "{links}");
    let first = &links.json(200)[0];
    assert!(first["description"].is_string() && first["references"].is_array(), "{first}");
}

async fn controls_of(viewer: &Api, framework: &str, technique: &str) -> i64 {
    let path = format!("/compliance/{framework}/controls?mitre_technique_id={technique}&limit=1");
    i64::try_from(viewer.get(&path).await.total()).unwrap()
}

async fn actors(viewer: &Api) {
    let bear = viewer.get("/threat-actors/G0007").await.json(200);
    assert_eq!((&bear["name"], &bear["mitre_id"]), (&json!("APT28"), &json!("G0007")));
    assert_eq!(bear["country"], "RU", "MISP knows it: {}", bear["attributes"]);
    let used = bear["techniques"].as_array().unwrap();
    assert!(used.len() > 50 && used.iter().all(|row| row["uses"].is_string()), "{} techniques", used.len());
    let russian = viewer.all("/threat-actors?country=RU").await;
    assert!(russian.iter().all(|row| row["country"] == "RU") && russian.iter().any(|row| row["name"] == "APT28"));
    let found = viewer.get("/threat-actors?search=fancy%20bear").await.json(200);
    assert_eq!(found[0]["name"], "APT28", "{found}");
    let groups = viewer.all("/knowledge/threat_actor?source=mitre_attack").await;
    assert!(groups.len() >= 172, "{} groups", groups.len());
    viewer.get("/threat-actors/G9999").await.error(404, "NOT_FOUND");
    viewer.get("/threat-actors?sort=shoe_size").await.error(400, "VALIDATION_ERROR");
}

async fn rules(viewer: &Api) {
    assert_eq!(viewer.get("/detection-rules?source=sigma&limit=1").await.total(), 3626);
    assert_eq!(viewer.get("/detection-rules?source=elastic&limit=1").await.total(), 1529);
    assert_eq!(viewer.get("/detection-rules?source=sigma&severity=critical&limit=1").await.total(), 171);
    let page = viewer.get("/detection-rules?mitre_technique_id=T1059.001&source=sigma&limit=3").await;
    assert_eq!(page.total(), 217, "{page}");
    let row = page.json(200)[0].clone();
    assert!(row["content"].is_null());
    let rule = viewer.get(&format!("/detection-rules/{}", row["id"].as_str().unwrap())).await.json(200);
    assert!(rule["content"].as_str().unwrap().contains("detection:"), "{rule}");
    assert!(rule["mitre_technique_ids"].as_array().unwrap().contains(&json!("T1059.001")));
}

async fn countermeasures(product: &mut Product, viewer: &Api) {
    assert_eq!(viewer.get("/d3fend?limit=1").await.total(), 193);
    let all = viewer.all("/d3fend?mitre_technique_id=T1059.001").await;
    assert_eq!(all.len(), 11);
    let id = all[0]["id"].as_str().unwrap();
    let path = format!("/d3fend/{id}");
    let detail = viewer.get(&path).await.json(200);
    let mapped = detail["attack_mappings"].as_array().unwrap();
    assert!(mapped.iter().any(|row| row["mitre_id"] == "T1059.001" && row["relations"].is_array()), "{detail}");
    viewer.patch(&path, &json!({"implemented": true})).await.error(403, "FORBIDDEN");
    let lead = product.someone("blue_lead").await;
    assert_eq!(lead.patch(&path, &json!({"implemented": true})).await.json(200)["implemented"], true);
    let found = viewer.get("/d3fend?implemented=true").await.json(200);
    assert_eq!(found[0]["id"], id, "{found}");
    lead.patch(&path, &json!({"implemented": false})).await.json(200);
}

async fn controls(viewer: &Api) {
    let nist = eventually("analytics knows the framework and its controls", Duration::from_secs(30), || async {
        let frameworks = viewer.get("/compliance/frameworks").await.json(200);
        let nist = frameworks.as_array().unwrap().iter().find(|row| row["id"] == "nist_800_53").cloned();
        nist.filter(|nist| nist["total"].as_i64() > Some(0)).ok_or_else(|| frameworks.to_string())
    })
    .await;
    assert_eq!(nist["attack_version"], "16.1", "{nist}");
    let control = viewer.get("/compliance/nist_800_53/controls/AC-2").await.json(200);
    assert_eq!(control["name"], "Account Management", "{control}");
    assert!(control["text"].is_string() && !control["attack_mappings"].as_array().unwrap().is_empty());
    let enhancement = viewer.get("/compliance/nist_800_53/controls/AC-2(1)").await.json(200);
    assert_eq!(enhancement["parent_id"], "AC-2", "{enhancement}");
    assert_eq!(viewer.get("/compliance/csa_ccm/controls?limit=1").await.total(), 204);
    viewer.get("/compliance/no_such/controls").await.error(404, "NOT_FOUND");
}

async fn search(viewer: &Api) {
    let first = async |q: &str| viewer.get(&format!("/search?q={q}")).await.json(200)[0].clone();
    for (q, kind, key) in [
        ("T1059.001", "technique", "T1059.001"),
        ("g0007", "threat_actor", "G0007"),
        ("mimikatz", "software", "S0002"),
        ("D3-NTA", "defence", "D3-NTA"),
        ("fancy%20bear", "threat_actor", "G0007"),
    ] {
        let hit = first(q).await;
        assert_eq!((&hit["kind"], &hit["key"]), (&json!(kind), &json!(key)), "{q}: {hit}");
        assert_eq!(
            viewer.get(hit["url"].as_str().unwrap().strip_prefix("/api/v1").unwrap()).await.status,
            200,
            "{hit}"
        );
    }
    let some = viewer.get("/search?q=credential&kind=software,mitigation").await.json(200);
    assert!(some.as_array().unwrap().iter().all(|hit| hit["kind"] == "software" || hit["kind"] == "mitigation"));
    for odd in ["%22", "*", "NEAR(", "a%20OR%20b", "-", ":", "'", "%25", "\\"] {
        assert_eq!(viewer.get(&format!("/search?q={odd}")).await.status, 200, "{odd}");
    }
    viewer.get("/search?q=").await.error(400, "VALIDATION_ERROR");
    viewer.get("/search").await.error(400, "VALIDATION_ERROR");
}

async fn bring(who: &Api, path: &str, body: &str) -> Answer {
    let request = who.request(Method::POST, path).header("content-type", "application/yaml");
    send(request.body(body.to_owned())).await
}

async fn rules_of_ones_own(product: &mut Product, admin: &Api) {
    let blue = product.someone("blue_tech").await;
    let path = "/detection-rules?filename=xylograph.yml";
    let tried = bring(&blue, &format!("{path}&dry_run=true"), RULE).await.json(200);
    assert_eq!((&tried["created"], &tried["dry_run"]), (&json!(1), &json!(true)), "{tried}");
    assert_eq!(blue.get("/detection-rules?source=custom&search=xylograph").await.total(), 0);

    let bad = RULE.replace("level: high", "level: dreadful").replace("condition: selection", "condition: nothing");
    let refused = bring(&blue, path, &bad).await.error(422, "UNPROCESSABLE");
    let told = refused.to_string();
    assert!(told.contains("level") && told.contains("16"), "the field and its line: {told}");
    assert!(told.contains("condition") || told.contains("nothing"), "all problems at once: {told}");
    assert_eq!(blue.get("/detection-rules?source=custom&search=xylograph").await.total(), 0);

    let made = bring(&blue, path, RULE).await.json(201);
    assert_eq!((&made["created"], &made["refused"]), (&json!(1), &json!(0)), "{made}");
    let same = bring(&blue, path, RULE).await.json(201);
    assert_eq!((&same["created"], &same["unchanged"]), (&json!(0), &json!(1)), "{same}");
    let rows = blue.get("/detection-rules?source=custom&mitre_technique_id=T1059.001").await.json(200);
    let rule =
        rows.as_array().unwrap().iter().find(|row| row["title"].as_str().unwrap().contains("xylograph")).unwrap();
    assert_eq!((&rule["severity"], &rule["platforms"]), (&json!("high"), &json!(["windows"])), "{rule}");
    let id = rule["id"].as_str().unwrap();
    let whole = blue.get(&format!("/detection-rules/{id}")).await.json(200);
    assert_eq!(whole["content"].as_str().unwrap().trim(), RULE.trim());
    assert_eq!(blue.get("/search?q=xylograph").await.json(200)[0]["kind"], "detection_rule");

    send(blue.request(Method::POST, path).header("content-type", "image/png").body("x"))
        .await
        .error(415, "UNSUPPORTED_MEDIA_TYPE");
    send(blue.request(Method::DELETE, &format!("/detection-rules/{id}"))).await.error(403, "FORBIDDEN");
    assert_eq!(send(admin.request(Method::DELETE, &format!("/detection-rules/{id}"))).await.status, 204);
    blue.get(&format!("/detection-rules/{id}")).await.error(404, "NOT_FOUND");
    assert!(blue.get("/search?q=xylograph").await.json(200).as_array().unwrap().is_empty());
}

async fn templates_of_ones_own(admin: &Api) {
    let made = bring(admin, "/test-templates/import", TEMPLATE).await.json(201);
    assert_eq!(made["created"], 1, "{made}");
    let out = admin.get("/test-templates/export?mitre_technique_id=T1059.001&source=custom").await;
    assert_eq!(out.header("content-type"), "application/yaml", "{out}");
    let text = out.text();
    for part in
        ["attack_technique: T1059.001", "Xylograph prints a line", "3a1f5a0e-6c62-4f0b-9d6e-2f8c1d3b7a55", "#{word}"]
    {
        assert!(text.contains(part), "{part} is not in {text}");
    }
    // What came out goes in again and changes nothing.
    let again = bring(admin, "/test-templates/import", &text).await.json(201);
    assert_eq!((&again["created"], &again["updated"]), (&json!(0), &json!(0)), "{again}");
    let bad = TEMPLATE.replace("name: powershell", "name: telepathy");
    bring(admin, "/test-templates/import", &bad).await.error(422, "UNPROCESSABLE");
    admin.get("/test-templates/export?mitre_technique_id=T9999").await.error(404, "NOT_FOUND");
}

async fn scheduler(admin: &Api) {
    let status = admin.get("/system/scheduler-status").await.json(200);
    assert_eq!(status["running"], true, "{status}");
    let job = |id: &str| status["jobs"].as_array().unwrap().iter().find(|job| job["id"] == id).cloned();
    let sync = job("mitre_sync").unwrap_or_else(|| panic!("no mitre_sync in {status}"));
    assert_eq!(sync["name"], "MITRE ATT&CK Sync");
    assert!(sync["next_run_time"].is_string(), "{sync}");
    assert!(job("intel_scan").is_some(), "{status}");
    admin.get("/system/scheduler-runs").await.json(200);
}

/// A feed on loopback: what it says of a technique is listed, with why, and flags the technique once.
async fn feeds(admin: &Api) {
    let feed = "<?xml version=\"1.0\"?><rss version=\"2.0\"><channel><title>Loopback</title><link>http://127.0.0.1/</link>\
        <item><guid>one</guid><title>Somebody uses T1053.005 again</title><link>https://example.com/one</link>\
        <description>&lt;b&gt;Bold&lt;/b&gt; words</description></item></channel></rss>";
    let address = serve(feed).await;
    let body = json!({"name": "Loopback", "url": format!("http://{address}/feed.xml")});
    let made = admin.post("/intel/feeds", &body).await.json(201);
    let path = format!("/intel/feeds/{}", made["id"].as_str().unwrap());
    send(admin.request(Method::PATCH, "/techniques/T1053.005/review")).await.json(200);
    let scan = admin.act("/system/run-intel-scan").await.json(200);
    assert_eq!(scan["message"], "Intel scan completed");
    assert!(scan["new_items"].as_i64().unwrap() >= 1 && scan["matched"].as_i64().unwrap() >= 1, "{scan}");
    let items = admin.get("/intel/items?mitre_technique_id=T1053.005").await.json(200);
    let item = &items[0];
    assert_eq!((&item["source"], &item["matches"][0]["by"]), (&json!("Loopback"), &json!("id")), "{items}");
    assert!(!item["summary"].as_str().unwrap().contains('<'), "plain text: {item}");
    assert_eq!(admin.get("/techniques/T1053.005").await.json(200)["review_required"], true);
    send(admin.request(Method::PATCH, "/techniques/T1053.005/review")).await.json(200);
    let again = admin.act("/system/run-intel-scan").await.json(200);
    assert_eq!(again["new_items"], 0, "{again}");
    assert_eq!(admin.get("/techniques/T1053.005").await.json(200)["review_required"], false, "once, not again");
    let reviewed =
        admin.patch(&format!("/intel/items/{}", item["id"].as_str().unwrap()), &json!({"reviewed": true})).await;
    assert_eq!(reviewed.json(200)["reviewed_by"], "admin", "{reviewed}");
    assert_eq!(send(admin.request(Method::DELETE, &path)).await.status, 204);
    let bad = json!({"name": "Bad", "url": "gopher://example.com"});
    admin.post("/intel/feeds", &bad).await.error(400, "VALIDATION_ERROR");
}

/// One answer for every request, until the test ends.
async fn serve(body: &'static str) -> SocketAddr {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("its address");
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut head = [0; 4096];
                let _ = tokio::time::timeout(Duration::from_secs(5), stream.read(&mut head)).await;
                let answer = format!(
                    "HTTP/1.1 200 OK\r\ncontent-type: application/rss+xml\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
                    body.len()
                );
                let _ = stream.write_all(answer.as_bytes()).await;
            });
        }
    });
    address
}

/// A campaign that is generated from what is known of an actor. What it made is removed: others count techniques.
async fn generation(admin: &Api, viewer: &Api) {
    let bear = viewer.get("/threat-actors/G0007").await.json(200);
    let known: BTreeSet<&str> = bear["techniques"].as_array().unwrap().iter().map(text("mitre_id")).collect();
    let body = json!({"name": "Like APT28", "type": "apt_emulation", "threat_actor_id": bear["id"]});
    let made = admin.post("/campaigns", &body).await.json(201);
    assert_eq!(made["threat_actor_name"], "APT28", "{made}");
    let path = format!("/campaigns/{}", made["id"].as_str().unwrap());
    send(viewer.request(Method::POST, &format!("{path}/generate"))).await.error(403, "FORBIDDEN");
    let status = async || viewer.get("/techniques/T1059.001").await.json(200)["status_global"].clone();
    let before = status().await;
    let done = admin.post(&format!("{path}/generate"), &json!({"per_technique": 1})).await.json(200);
    let campaign = viewer.get(&path).await.json(200);
    let tests = campaign["tests"].as_array().unwrap();
    let made: BTreeSet<&str> = tests.iter().map(text("mitre_id")).collect();
    assert_eq!(made, known, "every technique of the actor, and no other");
    assert_eq!((tests.len(), &campaign["progress"]["draft"]), (made.len(), &json!(made.len())), "one of each");
    assert_eq!(done["created"], json!(tests.len()), "{done}");
    for (n, test) in tests.iter().enumerate() {
        assert_eq!(test["position"], json!(n + 1));
        assert!(test["phase"].is_string() && test["state"] == "draft", "{test}");
    }
    let without: BTreeSet<&str> =
        done["without_template"].as_array().unwrap().iter().filter_map(Value::as_str).collect();
    assert!(without.is_subset(&known) && without.len() < known.len() / 2, "{without:?}");
    let one = tests.iter().find(|test| test["mitre_id"] == "T1059.001").unwrap();
    let one = viewer.get(&format!("/tests/{}", one["test_id"].as_str().unwrap())).await.json(200);
    assert!(one["template_id"].is_string() && one["procedure_text"].is_string(), "{one}");
    // A second time nothing is new.
    let again = admin.post(&format!("{path}/generate"), &json!({})).await.json(200);
    assert_eq!((&again["created"], &again["campaign"]["test_count"]), (&json!(0), &json!(tests.len())), "{again}");

    let ids: Vec<&str> = tests.iter().map(text("test_id")).collect();
    let gone = admin.post("/tests/bulk", &json!({"ids": ids, "delete": true})).await.json(200);
    assert_eq!(gone["changed"], json!(ids.len()), "{gone}");
    let empty = viewer.get(&path).await.json(200);
    assert_eq!((&empty["test_count"], &empty["tests"]), (&json!(0), &json!([])), "{empty}");
    assert_eq!(send(admin.request(Method::DELETE, &path)).await.status, 204);
    eventually("the drafts count no more", Duration::from_secs(30), || async {
        let now = status().await;
        if now == before { Ok(()) } else { Err(format!("{now}, before it was {before}")) }
    })
    .await;
}

/// A field of a row that is a text.
fn text(field: &str) -> impl Fn(&Value) -> &str {
    move |row| row[field].as_str().unwrap_or_else(|| panic!("no {field}: {row}"))
}
