//! The publishers' own releases, against figures that independent scripts counted.

use std::collections::HashSet;
use std::time::Instant;

use super::*;
use crate::domain::testing;

struct Figures {
    framework: Framework,
    version: &'static str,
    attack: &'static str,
    updated: &'static str,
    controls: usize,
    mapped: usize,
    techniques: usize,
    pairs: usize,
    said: usize,
    nothing: u64,
}

#[test]
fn every_framework() {
    let Some(files) = testing::files("compliance/ctid-mappings-explorer-2911162c.tar.zst") else { return };
    #[rustfmt::skip]
    let figures = [
        Figures { framework: Framework::Nist80053, version: "rev5", attack: "16.1", updated: "2025-04-16", controls: 109, mapped: 109, techniques: 470, pairs: 5_264, said: 5_264, nothing: 96 },
        Figures { framework: Framework::Cri, version: "v2.1", attack: "16.1", updated: "2025-07-11", controls: 60, mapped: 60, techniques: 430, pairs: 2_152, said: 2_152, nothing: 0 },
        Figures { framework: Framework::CsaCcm, version: "4.1", attack: "17.1", updated: "2026-01-27", controls: 204, mapped: 57, techniques: 213, pairs: 790, said: 791, nothing: 148 },
        Figures { framework: Framework::Aws, version: "12/12/2024", attack: "16.1", updated: "2024-12-11", controls: 30, mapped: 20, techniques: 215, pairs: 473, said: 487, nothing: 10 },
        Figures { framework: Framework::Azure, version: "04/26/2025", attack: "16.1", updated: "2025-05-29", controls: 38, mapped: 38, techniques: 412, pairs: 946, said: 972, nothing: 0 },
        Figures { framework: Framework::Gcp, version: "03/06/2025", attack: "16.1", updated: "2025-03-06", controls: 58, mapped: 40, techniques: 290, pairs: 508, said: 518, nothing: 18 },
        Figures { framework: Framework::M365, version: "07/18/2025", attack: "16.1", updated: "2025-07-24", controls: 38, mapped: 38, techniques: 218, pairs: 684, said: 774, nothing: 0 },
        Figures { framework: Framework::Kev, version: "07/28/2025", attack: "16.1", updated: "2025-08-28", controls: 419, mapped: 419, techniques: 155, pairs: 1_177, said: 1_183, nothing: 0 },
        // Four of its ids are there in two spellings.
        Figures { framework: Framework::Veris, version: "1.4.0", attack: "16.1", updated: "2025-04-03", controls: 188, mapped: 140, techniques: 541, pairs: 1_160, said: 1_160, nothing: 52 },
    ];
    for wanted in figures {
        let start = Instant::now();
        let knowledge = testing::read(Box::new(CtidReader::new(wanted.framework)), &files);
        println!("{} in {:?}", wanted.framework.as_str(), start.elapsed());
        let framework = &knowledge.records[0];
        assert_eq!(framework.key, wanted.framework.as_str());
        let attribute = |name: &str| framework.attributes[name].as_str().unwrap();
        assert_eq!(
            (attribute("version"), attribute("attack_version"), attribute("mapping_updated")),
            (wanted.version, wanted.attack, wanted.updated)
        );
        let links = &knowledge.links;
        let distinct = |key: fn(&LinkRecord) -> &str| links.iter().map(key).collect::<HashSet<_>>().len();
        assert_eq!(
            (
                knowledge.records.len() - 1,
                distinct(|link| &link.from_key),
                distinct(|link| &link.to_key),
                links.len(),
                links.iter().map(|link| link.references.len()).sum::<usize>(),
                knowledge.skipped.total,
            ),
            (wanted.controls, wanted.mapped, wanted.techniques, wanted.pairs, wanted.said, wanted.nothing),
            "{}",
            framework.key
        );
        assert!(knowledge.skipped.first.iter().all(|skip| skip.reason == "maps to nothing"), "{:?}", knowledge.skipped);
        let keys: HashSet<_> = knowledge.records.iter().map(|record| record.key.as_str()).collect();
        assert_eq!(keys.len(), knowledge.records.len());
        assert!(links.iter().all(|link| keys.contains(link.from_key.as_str())));
    }
}

#[test]
fn nist_with_the_control_texts() {
    let Some(mut files) = testing::files("compliance/ctid-mappings-explorer-2911162c.tar.zst") else { return };
    let catalog = "compliance/NIST_SP-800-53_rev5_catalog-5.2.0.from-pypi-icdev.json.zst";
    let Some(catalog) = testing::files(catalog) else { return };
    files.extend(catalog);
    let start = Instant::now();
    let knowledge = testing::read(Box::new(CtidReader::new(Framework::Nist80053)), &files);
    println!("NIST with its catalogue in {:?}", start.elapsed());
    assert_eq!(knowledge.skipped.total, 96, "{:?}", knowledge.skipped);
    let controls = &knowledge.records[1..];
    assert_eq!(controls.len(), 1_196);
    assert_eq!(controls.iter().filter(|control| control.deprecated).count(), 182);
    assert_eq!(controls.iter().filter(|control| control.attributes.contains_key("parent")).count(), 1_196 - 324);
    let families: HashSet<_> = controls.iter().map(|control| control.attributes["family"].as_str().unwrap()).collect();
    assert_eq!(families.len(), 20);
    // The withdrawn have no text; no text has a hole.
    assert_eq!(controls.iter().filter(|control| control.description.is_some()).count(), 1_196 - 180);
    for control in controls {
        let text = control.description.as_deref().unwrap_or_default();
        assert!(!text.contains("{{") && !text.contains("[Assignment]") && !text.contains("](#"), "{control:?}");
    }
    let keys: HashSet<_> = controls.iter().map(|control| control.key.as_str()).collect();
    assert!(knowledge.links.iter().all(|link| keys.contains(link.from_key.as_str())));
    let find = |key: &str| controls.iter().find(|control| control.key == key).unwrap();
    assert_eq!(find("nist_800_53:CM-3").name, "Configuration Change Control");
    let withdrawn = find("nist_800_53:AC-17(8)");
    assert!(withdrawn.deprecated && withdrawn.revoked_by.as_deref() == Some("nist_800_53:CM-7"));
    let text = find("nist_800_53:AC-2").description.as_deref().unwrap();
    assert!(
        text.contains("\nb. Assign account managers;\nc. Require [Assignment: prerequisites and criteria] for group"),
        "{text}"
    );
    for (technique, controls) in [
        ("T1003.001", 19),
        ("T1059", 23),
        ("T1059.001", 19),
        ("T1078", 25),
        ("T1562.001", 13),
        ("T1112", 3),
        ("T1566.001", 12),
        ("T1190", 29),
    ] {
        assert_eq!(knowledge.links.iter().filter(|link| link.to_key == technique).count(), controls, "{technique}");
    }
}
