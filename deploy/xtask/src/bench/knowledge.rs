//! The knowledge base's figures: every source from its file, then search and lists over all of it.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use serde_json::json;

use super::{
    client::Client,
    figures::{Figures, percentile},
    home::Home,
    product::Product,
};

/// Sources with their files, and the companion of those that need two.
const SOURCES: &[(&str, &str, Option<&str>)] = &[
    ("mitre_attack_enterprise", "attack/enterprise-attack-18.1.json.zst", None),
    ("mitre_attack_mobile", "attack/mobile-attack-17.1.json.zst", None),
    ("mitre_attack_ics", "attack/ics-attack-18.1.json.zst", None),
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
    ("aws", "compliance/ctid-mappings-explorer-2911162c.tar.zst", None),
    ("azure", "compliance/ctid-mappings-explorer-2911162c.tar.zst", None),
    ("gcp", "compliance/ctid-mappings-explorer-2911162c.tar.zst", None),
    ("m365", "compliance/ctid-mappings-explorer-2911162c.tar.zst", None),
    ("kev_mappings", "compliance/ctid-mappings-explorer-2911162c.tar.zst", None),
    ("veris", "compliance/ctid-mappings-explorer-2911162c.tar.zst", None),
    ("kev", "kev/known_exploited_vulnerabilities-2025-01-27.json.zst", None),
];

/// What people type: ids, names, words of texts, beginnings of words.
const QUERIES: &[&str] = &[
    "T1059.001",
    "t1059",
    "G0007",
    "powershell",
    "credential dumping",
    "lsass",
    "fancy bear",
    "mimikatz",
    "registry run keys",
    "a",
    "co",
    "network traffic",
    "account management",
    "CVE-2024",
    "scheduled task persistence",
    "no such thing at all",
];

/// Measures all of it.
pub async fn measure(product: &Product, admin: &Client, home: &Home, figures: &mut Figures) -> Result<()> {
    if !present(home) {
        figures.note("the knowledge base was not measured: the publishers' files are not beside the checkout");
        return Ok(());
    }
    let mut client = admin.another().await?;
    let mut whole = Duration::ZERO;
    for (name, ..) in SOURCES {
        let path = place(&mut client, home, name).await?;
        let began = Instant::now();
        let answer = client.send("POST", &format!("{path}/sync"), None, 200).await?;
        let took = began.elapsed();
        whole += took;
        let most = if home.is_postgres() { 5.0 } else { 2.0 };
        let limit = (*name == "mitre_attack_enterprise").then_some(("<", most));
        figures.add(&format!("sync of {name}"), took.as_secs_f64(), "s", limit);
        figures.note(&format!(
            "{name}: {} new, {} updated, {} skipped",
            answer["new"], answer["updated"], answer["skipped"]
        ));
        if limit.is_some() {
            figures.add("  peak memory up to here", product.memory_mb("VmHWM")?, "MB", Some(("<", 300.0)));
            let began = Instant::now();
            client.send("POST", &format!("{path}/sync"), None, 200).await?;
            figures.add("  the same again, nothing changed", began.elapsed().as_secs_f64(), "s", Some(("<", 1.0)));
        }
    }
    figures.add("all sources together", whole.as_secs_f64(), "s", Some(("<", 20.0)));
    figures.add("peak memory up to here", product.memory_mb("VmHWM")?, "MB", None);
    // What was written last is still on its way to the disk.
    tokio::time::sleep(Duration::from_secs(3)).await;
    let mut times = Vec::new();
    for round in 0..20 {
        for query in QUERIES {
            // Every time another page, so that no answer is one that was kept.
            let query: String = form(query);
            times.push(timed(&mut client, &format!("/api/v1/search?q={query}&offset={round}")).await?);
        }
    }
    figures.add("search over everything, p95", percentile(&mut times, 95.0), "ms", Some(("<", 15.0)));
    figures.add("  median", percentile(&mut times, 50.0), "ms", None);
    for (label, path) in [
        ("the list of all techniques, p95", "/api/v1/techniques?domain=enterprise"),
        ("the same of one tactic, with a search, p95", "/api/v1/techniques?tactic=execution&search=shell"),
        ("a page of detection rules of a technique, p95", "/api/v1/detection-rules?mitre_technique_id=T1059.001"),
        ("a threat actor with its techniques, p95", "/api/v1/threat-actors/G0016"),
        ("what is known of a technique, p95", "/api/v1/techniques/T1059.001/knowledge"),
    ] {
        let mut times = Vec::new();
        for round in 0..100 {
            // The gateway keeps answers of a moment; a parameter that changes nothing asks anew.
            let joint = if path.contains('?') { '&' } else { '?' };
            let fresh = match path.contains("/techniques?") {
                true => format!("{path}{joint}limit={}", 1000 + round),
                false => path.to_owned(),
            };
            times.push(timed(&mut client, &fresh).await?);
        }
        let limit = label.starts_with("the list of all").then_some(("<", 15.0));
        figures.add(label, percentile(&mut times, 95.0), "ms", limit);
    }
    Ok(())
}

/// Whether the publishers' files are there.
pub fn present(home: &Home) -> bool {
    home.files().join("sigma").is_dir()
}

/// Brings these sources in.
pub async fn sync(admin: &Client, home: &Home, names: &[&str]) -> Result<()> {
    let mut client = admin.another().await?;
    for name in names {
        let path = place(&mut client, home, name).await?;
        client.send("POST", &format!("{path}/sync"), None, 200).await?;
    }
    Ok(())
}

/// Points a source at its file; gives its route.
async fn place(client: &mut Client, home: &Home, name: &str) -> Result<String> {
    let (_, file, companion) =
        SOURCES.iter().find(|(other, ..)| *other == name).with_context(|| format!("{name} has no file"))?;
    let url = |file: &str| format!("file://{}", home.files().join(file).display());
    let path = format!("/api/v1/data-sources/{name}");
    let mut place = json!({ "url": url(file) });
    if let Some(companion) = companion {
        place["companion_url"] = url(companion).into();
    }
    client.send("PATCH", &path, Some(&place), 200).await?;
    Ok(path)
}

fn form(text: &str) -> String {
    text.replace(' ', "%20")
}

/// Milliseconds that a GET takes.
async fn timed(client: &mut Client, path: &str) -> Result<f64> {
    let began = Instant::now();
    client.get_bytes(path).await.with_context(|| path.to_owned())?;
    Ok(began.elapsed().as_secs_f64() * 1000.0)
}
