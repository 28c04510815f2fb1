//! The publisher's own releases, against figures that independent scripts counted. Skipped where they are absent.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs::File;
use std::path::PathBuf;

use super::*;

fn data_dir() -> PathBuf {
    match std::env::var_os("AEGIS_TEST_DATA") {
        Some(folder) => PathBuf::from(folder),
        None => PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data"),
    }
}

pub(super) fn parse(release: &str) -> Option<AttackDocument> {
    let path = data_dir().join(format!("attack/{release}.json.zst"));
    let Ok(file) = File::open(&path) else {
        println!("SKIPPED: the release {release} is not in the test data folder (AEGIS_TEST_DATA)");
        return None;
    };
    let mut read = 0;
    let document = parse_attack(zstd::Decoder::new(file).unwrap(), &mut |bytes| {
        assert!(bytes >= read);
        read = bytes;
    })
    .unwrap();
    assert!(read > 1_000_000);
    assert_eq!((document.skipped_total, document.skipped.len()), (0, 0), "{:?}", document.skipped);
    assert_eq!(document.knowledge.skipped.total, 0);
    Some(document)
}

struct Figures {
    domain: Domain,
    version: &'static str,
    objects: u64,
    total: usize,
    active: usize,
    revoked: usize,
    deprecated: usize,
    techniques: usize,
    subtechniques: usize,
    assignments: usize,
    tactics: usize,
    tactics_active: usize,
    revoked_by: u64,
}

fn check(release: &str, figures: &Figures) -> Option<AttackDocument> {
    let document = parse(release)?;
    let count = |wanted: &dyn Fn(&TechniqueRecord) -> bool| document.techniques.iter().filter(|t| wanted(t)).count();
    assert_eq!(document.domain, figures.domain);
    assert_eq!(document.upstream_version.as_deref(), Some(figures.version));
    assert_eq!(document.objects_total, figures.objects);
    assert_eq!(document.techniques.len(), figures.total);
    assert_eq!(count(&|t| t.is_active()), figures.active);
    assert_eq!(count(&|t| t.revoked), figures.revoked);
    assert_eq!(count(&|t| t.deprecated), figures.deprecated);
    assert_eq!(count(&|t| t.is_active() && !t.is_subtechnique), figures.techniques);
    assert_eq!(count(&|t| t.is_active() && t.is_subtechnique), figures.subtechniques);
    let assignments: usize = document.techniques.iter().filter(|t| t.is_active()).map(|t| t.tactics.len()).sum();
    assert_eq!(assignments, figures.assignments);
    assert_eq!(document.tactics.len(), figures.tactics);
    assert_eq!(document.tactics.iter().filter(|t| !t.deprecated).count(), figures.tactics_active);
    assert_eq!(document.revoked_by_total, figures.revoked_by);

    let ids: BTreeSet<_> = document.techniques.iter().map(|t| t.mitre_id.as_str()).collect();
    let live: BTreeSet<_> = document.tactics.iter().filter(|t| !t.deprecated).map(|t| t.short_name.as_str()).collect();
    for technique in &document.techniques {
        assert!(technique.parent_mitre_id.as_deref().is_none_or(|parent| ids.contains(parent)), "{technique:?}");
        assert!(!technique.platforms.iter().any(|platform| platform == "None"), "{technique:?}");
        if technique.is_active() {
            assert!(!technique.tactics.is_empty(), "{technique:?}");
            assert!(technique.tactics.iter().all(|tactic| live.contains(tactic.as_str())), "{technique:?}");
            assert!(technique.url.is_some() && technique.description.is_some() && technique.attack_version.is_some());
        }
        assert!(technique.revoked || technique.revoked_by.is_none());
        assert!(technique.revoked_by.as_deref().is_none_or(|successor| ids.contains(successor)));
    }
    assert!(document.tactics.iter().map(|t| t.position).eq(0..figures.tactics as i32));
    Some(document)
}

#[test]
fn enterprise_17_1_and_what_changes_to_18_1() {
    let old = check(
        "enterprise-attack-17.1",
        &Figures {
            domain: Domain::Enterprise,
            version: "17.1",
            objects: 22_653,
            total: 823,
            active: 679,
            revoked: 132,
            deprecated: 12,
            techniques: 211,
            subtechniques: 468,
            assignments: 874,
            tactics: 14,
            tactics_active: 14,
            revoked_by: 140,
        },
    );
    let new = check(
        "enterprise-attack-18.1",
        &Figures {
            domain: Domain::Enterprise,
            version: "18.1",
            objects: 24_772,
            total: 835,
            active: 691,
            revoked: 132,
            deprecated: 12,
            techniques: 216,
            subtechniques: 475,
            assignments: 887,
            tactics: 14,
            tactics_active: 14,
            revoked_by: 140,
        },
    );
    let (Some(old), Some(new)) = (old, new) else {
        return;
    };

    let mut by_tactic: BTreeMap<&str, usize> = BTreeMap::new();
    for tactic in new.techniques.iter().filter(|t| t.is_active()).flat_map(|t| &t.tactics) {
        *by_tactic.entry(tactic).or_default() += 1;
    }
    let counted = BTreeMap::from([
        ("collection", 41),
        ("command-and-control", 45),
        ("credential-access", 67),
        ("defense-evasion", 215),
        ("discovery", 49),
        ("execution", 46),
        ("exfiltration", 19),
        ("impact", 33),
        ("initial-access", 22),
        ("lateral-movement", 23),
        ("persistence", 126),
        ("privilege-escalation", 109),
        ("reconnaissance", 45),
        ("resource-development", 47),
    ]);
    assert_eq!(by_tactic, counted);
    let order: Vec<_> = new.tactics.iter().map(|t| t.mitre_id.as_str()).collect();
    assert_eq!(order[..4], ["TA0043", "TA0042", "TA0001", "TA0002"]);
    assert_eq!(order[13], "TA0040");

    let before: HashMap<_, _> = old.techniques.iter().map(|t| (t.stix_id.as_str(), t)).collect();
    let added: BTreeSet<_> = new
        .techniques
        .iter()
        .filter(|t| !before.contains_key(t.stix_id.as_str()))
        .map(|t| t.mitre_id.as_str())
        .collect();
    let ids = [
        "T1036.012",
        "T1059.013",
        "T1204.005",
        "T1213.006",
        "T1518.002",
        "T1546.018",
        "T1562.013",
        "T1677",
        "T1678",
        "T1679",
        "T1680",
        "T1681",
    ];
    assert_eq!(added, BTreeSet::from(ids));
    let common: Vec<_> = new.techniques.iter().filter_map(|t| Some((*before.get(t.stix_id.as_str())?, t))).collect();
    assert_eq!(common.len(), 823);
    // 739 with another date and 84 with the same one.
    assert_eq!(common.iter().filter(|(old, new)| old.content_hash != new.content_hash).count(), 823);
    assert_eq!(common.iter().filter(|(old, new)| old.name != new.name).count(), 2);

    let find = |id: &str| new.techniques.iter().find(|t| t.mitre_id == id).unwrap();
    // A chain: each names its direct successor.
    assert_eq!(find("T1150").revoked_by.as_deref(), Some("T1547.011"));
    assert_eq!(find("T1547.011").revoked_by.as_deref(), Some("T1647"));
    assert_eq!(find("T1647").revoked_by, None);
    assert_eq!(find("T1078").tactics.len(), 4);
    assert_eq!(new.techniques.iter().filter(|t| t.is_active() && t.tactics.len() > 1).count(), 154);
    // Hashes of another implementation, over the same files.
    let hash = |document: &AttackDocument, id: &str| {
        hex::encode(document.techniques.iter().find(|t| t.mitre_id == id).unwrap().content_hash)
    };
    assert_eq!(hash(&old, "T1059.001"), "1a159188c880d48b876affa2bd2a71076ca4b8392156e7b1bb60ebef8e6c6de0");
    assert_eq!(hash(&new, "T1059.001"), "d53171cf7bcb7e3ef80dbd79cd630e7c34160e9a3b90f31c040e9da9a2816ff3");
    assert_eq!(hash(&new, "T1036.012"), "bf158d08eb371684b1fd6211117e0908b60f36ea587c949388625675792eca80");
}

#[test]
fn ics_18_1() {
    check(
        "ics-attack-18.1",
        &Figures {
            domain: Domain::Ics,
            version: "18.1",
            objects: 1_826,
            total: 95,
            active: 83,
            revoked: 0,
            deprecated: 12,
            techniques: 83,
            subtechniques: 0,
            assignments: 94,
            tactics: 12,
            tactics_active: 12,
            revoked_by: 2,
        },
    );
}

#[test]
fn mobile_17_1() {
    let document = check(
        "mobile-attack-17.1",
        &Figures {
            domain: Domain::Mobile,
            version: "17.1",
            objects: 2_148,
            total: 188,
            active: 121,
            revoked: 53,
            deprecated: 14,
            techniques: 75,
            subtechniques: 46,
            assignments: 139,
            tactics: 14,
            tactics_active: 12,
            revoked_by: 50,
        },
    );
    let Some(document) = document else { return };
    // The deprecated matrix's tactics come after the live one's.
    assert!(document.tactics[12..].iter().all(|tactic| tactic.deprecated));
    let alone: BTreeSet<_> = document
        .techniques
        .iter()
        .filter(|t| t.revoked && t.revoked_by.is_none())
        .map(|t| t.mitre_id.as_str())
        .collect();
    assert_eq!(alone, BTreeSet::from(["T1415", "T1419", "T1454"]));
}
