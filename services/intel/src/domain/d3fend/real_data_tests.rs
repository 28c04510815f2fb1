//! The publisher's own release, against figures that independent scripts counted.

use std::collections::{BTreeMap, HashSet};
use std::time::Instant;

use super::*;
use crate::domain::testing;

#[test]
fn release_0_14() {
    let Some(mut files) = testing::files("d3fend/d3fend-site-0.14.0-ontology.tar.zst") else { return };
    let Some(mappings) = testing::files("d3fend/d3fend-site-0.14.0-attack-api.tar.zst") else { return };
    files.extend(mappings);
    let bytes: usize = files.iter().map(|(_, bytes)| bytes.len()).sum();
    let start = Instant::now();
    let knowledge = testing::read(Box::<D3fendReader>::default(), &files);
    println!("read {bytes} bytes in {:?}", start.elapsed());

    assert_eq!(knowledge.skipped.total, 0, "{:?}", knowledge.skipped);
    assert_eq!(knowledge.upstream_version.as_deref(), Some("0.14.0"));
    assert_eq!(knowledge.records.len(), 193);
    let mut tactics: BTreeMap<&str, usize> = BTreeMap::new();
    for record in &knowledge.records {
        *tactics.entry(record.collection.as_deref().unwrap()).or_default() += 1;
        assert!(record.key.starts_with("D3-") && record.description.is_some(), "{record:?}");
    }
    let counted = [
        ("Deceive", 11),
        ("Detect", 77),
        ("Evict", 10),
        ("Harden", 33),
        ("Isolate", 23),
        ("Model", 27),
        ("Restore", 12),
    ];
    assert_eq!(tactics, BTreeMap::from(counted));
    let keys: HashSet<_> = knowledge.records.iter().map(|record| record.key.as_str()).collect();
    assert_eq!(keys.len(), 193);
    // Two defences of this release have one id.
    let find = |key: &str| knowledge.records.iter().find(|record| record.key == key).unwrap();
    assert_eq!(
        (find("D3-RC").name.as_str(), find("D3-RC:ReissueCredential").name.as_str()),
        ("Restore Configuration", "Reissue Credential")
    );
    assert_eq!(knowledge.records.iter().filter(|record| record.attributes.contains_key("parent_id")).count(), 169);

    let links = &knowledge.links;
    assert_eq!(links.len(), 3_754);
    assert_eq!(links.iter().map(|link| link.references.len()).sum::<usize>(), 4_961);
    assert_eq!(links.iter().map(|link| link.to_key.as_str()).collect::<HashSet<_>>().len(), 387);
    assert_eq!(links.iter().map(|link| link.from_key.as_str()).collect::<HashSet<_>>().len(), 119);
    assert!(links.iter().all(|link| keys.contains(link.from_key.as_str())));
    for (technique, defences) in [
        ("T1003.001", 7),
        ("T1059", 11),
        ("T1059.001", 11),
        ("T1078", 16),
        ("T1562.001", 8),
        ("T1112", 3),
        ("T1566.001", 25),
        ("T1190", 12),
        ("T1218", 35),
    ] {
        assert_eq!(links.iter().filter(|link| link.to_key == technique).count(), defences, "{technique}");
    }
    let link = links.iter().find(|link| link.from_key == "D3-FEV" || link.to_key == "T1059.001").unwrap();
    assert!(link.references[0]["artifact"].is_string());
}
