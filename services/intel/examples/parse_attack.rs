//! Prints what a bundle holds, how long reading it took and the process's peak memory: `parse_attack FILE`.

use std::collections::BTreeMap;
use std::time::Instant;

use aegis_intel::domain::stix::{TechniqueRecord, parse_attack};
use aegis_intel::fetch::{FetchLimits, Fetched, Location, fetch, open};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let path = std::env::args().nth(1).ok_or("usage: parse_attack FILE")?;
    let limits = FetchLimits::default();
    let started = Instant::now();
    let Fetched::Document(document) = fetch(&Location::file(path), &limits, None, |_, _| {}).await? else {
        return Err("a file is always new".into());
    };
    let attack = tokio::task::spawn_blocking(move || -> Result<_, String> {
        let reader = open(&document, &|name| name.ends_with("-attack.json"), &limits).map_err(|e| e.to_string())?;
        parse_attack(reader, &mut |_| {}).map_err(|e| e.to_string())
    })
    .await??;
    let elapsed = started.elapsed();
    println!(
        "{} {}: {} objects, {} techniques ({} active), {} tactics, {} skipped",
        attack.domain,
        attack.upstream_version.as_deref().unwrap_or("of unknown version"),
        attack.objects_total,
        attack.techniques.len(),
        attack.techniques.iter().filter(|technique: &&TechniqueRecord| technique.is_active()).count(),
        attack.tactics.len(),
        attack.skipped_total,
    );
    let knowledge = &attack.knowledge;
    let mut records: BTreeMap<&str, (usize, usize)> = BTreeMap::new();
    for record in &knowledge.records {
        let count = records.entry(record.kind.as_str()).or_default();
        count.0 += 1;
        count.1 += usize::from(!record.revoked && !record.deprecated);
    }
    for (kind, (total, active)) in records {
        println!("{kind}: {total} ({active} active)");
    }
    let mut links: BTreeMap<(&str, &str, &str), usize> = BTreeMap::new();
    for link in &knowledge.links {
        *links.entry((link.from_kind, link.relation, link.to_kind)).or_default() += 1;
    }
    for ((from, relation, to), count) in links {
        println!("{from} {relation} {to}: {count}");
    }
    println!("read in {elapsed:?}");
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    if let Some(peak) = status.lines().find(|line| line.starts_with("VmHWM")) {
        println!("{peak}");
    }
    Ok(())
}
