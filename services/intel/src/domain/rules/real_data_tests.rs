//! The publishers' own archives, against figures that independent scripts counted. Skipped where they are absent.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;
use std::path::PathBuf;
use std::time::Instant;

use super::{ElasticReader, SigmaReader, parse_upload};
use crate::domain::knowledge::{Knowledge, KnowledgeRecord, Reader};

fn files(archive: &str) -> Option<Vec<(String, Vec<u8>)>> {
    let folder = match std::env::var_os("AEGIS_TEST_DATA") {
        Some(folder) => PathBuf::from(folder),
        None => PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data"),
    };
    let Ok(file) = std::fs::File::open(folder.join(archive)) else {
        println!("SKIPPED: {archive} is not in the test data folder (AEGIS_TEST_DATA)");
        return None;
    };
    let mut archive = tar::Archive::new(zstd::Decoder::new(file).unwrap());
    let mut files = Vec::new();
    for entry in archive.entries().unwrap() {
        let mut entry = entry.unwrap();
        let path = entry.path().unwrap().to_str().unwrap().to_owned();
        let mut bytes = Vec::new();
        entry.read_to_end(&mut bytes).unwrap();
        files.push((path, bytes));
    }
    Some(files)
}

fn read(mut reader: Box<dyn Reader>, archive: &str) -> Option<Knowledge> {
    let files = files(archive)?;
    let start = Instant::now();
    let wanted: Vec<_> = files.iter().filter(|(path, _)| reader.wants(path)).collect();
    for (path, bytes) in &wanted {
        reader.file(path, bytes).unwrap();
    }
    let knowledge = reader.finish().unwrap();
    println!("{archive}: {} files in {:?}", wanted.len(), start.elapsed());
    assert_eq!(knowledge.skipped.total, 0, "{:?}", knowledge.skipped);
    let keys: BTreeSet<_> = knowledge.records.iter().map(|record| record.key.as_str()).collect();
    assert_eq!(keys.len(), knowledge.records.len());
    assert!(knowledge.records.iter().all(|record| record.content.as_ref().is_some_and(|text| !text.is_empty())));
    Some(knowledge)
}

type Counts<'a> = BTreeMap<&'a str, usize>;

fn counts<'a>(texts: impl Iterator<Item = &'a str>) -> Counts<'a> {
    let mut counts = BTreeMap::new();
    for text in texts {
        *counts.entry(text).or_default() += 1;
    }
    counts
}

fn severities<'a>(records: &[&'a KnowledgeRecord]) -> Counts<'a> {
    counts(records.iter().filter_map(|record| record.severity.as_deref()))
}

/// Links of the active rules: of how many rules, how many, and how many for each technique.
fn links(knowledge: &Knowledge) -> (usize, usize, Counts<'_>) {
    let active: BTreeSet<_> = knowledge.records.iter().filter(|r| !r.deprecated).map(|r| r.key.as_str()).collect();
    let links: Vec<_> = knowledge.links.iter().filter(|link| active.contains(link.from_key.as_str())).collect();
    let ends: BTreeSet<_> = links.iter().map(|link| (&link.from_key, &link.to_key)).collect();
    assert_eq!(ends.len(), links.len());
    let rules: BTreeSet<_> = links.iter().map(|link| &link.from_key).collect();
    (rules.len(), links.len(), counts(links.iter().map(|link| link.to_key.as_str())))
}

#[test]
fn sigma_r2025_11_01() {
    let Some(knowledge) = read(Box::<SigmaReader>::default(), "sigma/sigma-rules-r2025-11-01.tar.zst") else {
        return;
    };
    // 3,879 documents, three of them global ones that are no rules.
    assert_eq!(knowledge.records.len(), 3_876);
    let active: Vec<_> = knowledge.records.iter().filter(|record| !record.deprecated).collect();
    assert_eq!(active.len(), 3_626);
    let levels =
        BTreeMap::from([("high", 1_643), ("medium", 1_454), ("low", 330), ("critical", 171), ("informational", 28)]);
    assert_eq!(severities(&active), levels);
    let statuses = BTreeMap::from([("test", 3_351), ("experimental", 169), ("stable", 106)]);
    assert_eq!(counts(active.iter().filter_map(|record| record.status.as_deref())), statuses);

    let (rules, total, by_technique) = links(&knowledge);
    assert_eq!((rules, total, by_technique.len()), (3_150, 4_203, 391));
    for (technique, golden) in [
        ("T1003.001", 75),
        ("T1059", 92),
        ("T1059.001", 217),
        ("T1078", 60),
        ("T1562.001", 113),
        ("T1112", 88),
        ("T1566.001", 22),
        ("T1190", 140),
    ] {
        assert_eq!(by_technique[technique], golden, "{technique}");
    }
    let tactics = counts(
        active
            .iter()
            .flat_map(|r| r.attributes.get("tactics").and_then(|t| t.as_array()).into_iter().flatten())
            .filter_map(|t| t.as_str()),
    );
    assert_eq!(
        (tactics["defense-evasion"], tactics["execution"], tactics["reconnaissance"], tactics.len()),
        (1_540, 855, 24, 14)
    );
    let products = counts(active.iter().filter_map(|r| r.attributes["logsource"]["product"].as_str()));
    assert_eq!((products["windows"], products["linux"], products["azure"], products["macos"]), (2_768, 229, 135, 72));
    assert!(knowledge.records.iter().all(|record| record.attributes.contains_key("date")));
    let ids: BTreeSet<_> = active.iter().map(|record| record.source_id.as_str()).collect();
    assert!(ids.contains("39b64854-5497-4b57-a448-40977b8c9679"));

    // What the publisher calls a rule is none that a person would be refused.
    let start = Instant::now();
    for rule in active {
        let (rules, problems) = parse_upload(rule.content.as_deref().unwrap_or_default().as_bytes());
        assert_eq!((rules.len(), problems), (1, Vec::new()), "{}", rule.key);
        assert_eq!((&rules[0].0.name, &rules[0].0.source_id), (&rule.name, &rule.source_id));
    }
    println!("all of them as uploads in {:?}", start.elapsed());
}

#[test]
fn elastic_38d38f29() {
    let Some(knowledge) = read(Box::<ElasticReader>::default(), "elastic/elastic-rules-38d38f29.tar.zst") else {
        return;
    };
    assert_eq!(knowledge.records.len(), 1_628);
    let active: Vec<_> = knowledge.records.iter().filter(|record| !record.deprecated).collect();
    assert_eq!(active.len(), 1_529);
    assert_eq!(severities(&active), BTreeMap::from([("medium", 686), ("low", 573), ("high", 267), ("critical", 3)]));
    let (rules, total, by_technique) = links(&knowledge);
    // 3,581 times a technique is named; 117 of those for the second time in one rule.
    assert_eq!((rules, total, by_technique.len()), (1_440, 3_464, 358));
    assert_eq!((by_technique["T1562"], by_technique["T1562.001"], by_technique["T1656"]), (113, 51, 1));
    let types = counts(active.iter().filter_map(|r| r.attributes["type"].as_str()));
    assert_eq!((types["eql"], types["machine_learning"], types["threat_match"]), (846, 95, 6));
    let languages = counts(active.iter().filter_map(|r| r.attributes.get("language").and_then(|l| l.as_str())));
    assert_eq!(languages, BTreeMap::from([("eql", 846), ("kuery", 517), ("esql", 67), ("lucene", 4)]));
    let with_tactic = active.iter().filter(|r| r.attributes.contains_key("tactics")).count();
    assert_eq!(with_tactic, 1_470);
    let platforms = counts(active.iter().flat_map(|r| r.platforms.iter().map(String::as_str)));
    assert_eq!((platforms["windows"], platforms["linux"], platforms["macos"]), (567, 382, 102));
}
