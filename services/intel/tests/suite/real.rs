//! The publishers' own files through the whole service, against figures that independent scripts counted. Skipped where
//! they are absent.

use std::time::Instant;

use aegis_proto::intel::v1::{Job, StartSyncRequest};
use aegis_testkit::data_dir;
use serde_json::Value;

use crate::world::*;

/// A source, its file, its second file, and what is counted: at the top and by kind.
type Row = (&'static str, &'static str, Option<&'static str>, &'static [(&'static str, i64)]);

const CTID: &str = "compliance/ctid-mappings-explorer-2911162c.tar.zst";
const OSCAL: &str = "compliance/NIST_SP-800-53_rev5_catalog-5.2.0.from-pypi-icdev.json.zst";

const ROWS: &[Row] = &[
    (
        ENTERPRISE,
        "attack/enterprise-attack-18.1.json.zst",
        None,
        &[
            ("/new", 835),
            ("/revoked", 132),
            ("/deprecated", 12),
            ("/techniques/total", 835),
            ("/tactics/total", 14),
            ("/kinds/threat_actor/total", 187),
            ("/kinds/detection_strategy/total", 691),
            ("/kinds/analytic/total", 1739),
        ],
    ),
    ("mitre_attack_ics", "attack/ics-attack-18.1.json.zst", None, &[("/new", 95), ("/deprecated", 12)]),
    ("mitre_attack_mobile", "attack/mobile-attack-17.1.json.zst", None, &[("/new", 188), ("/revoked", 53)]),
    (
        "d3fend",
        "d3fend/d3fend-site-0.14.0-ontology.tar.zst",
        Some("d3fend/d3fend-site-0.14.0-attack-api.tar.zst"),
        &[("/new", 193), ("/kinds/link/total", 3754)],
    ),
    ("atomic_red_team", "atomic/atomics-yaml-b3dc12d4.tar.zst", None, &[("/new", 1750)]),
    ("caldera", "caldera/stockpile-data-996ec41c.tar.zst", None, &[("/new", 209)]),
    ("lolbas", "lolbas/lolbas-yml-3403b338.tar.zst", None, &[("/new", 482)]),
    ("sigma", "sigma/sigma-rules-r2025-11-01.tar.zst", None, &[("/new", 3876), ("/deprecated", 250)]),
    ("elastic", "elastic/elastic-rules-38d38f29.tar.zst", None, &[("/new", 1628), ("/deprecated", 99)]),
    ("misp_threat_actors", "misp/misp-galaxy-9434ace4.tar.zst", None, &[("/new", 1041)]),
    ("nist_800_53", CTID, Some(OSCAL), &[("/kinds/link/total", 5264), ("/skipped", 96)]),
    ("cri", CTID, None, &[("/new", 60)]),
    ("csa_ccm", CTID, None, &[("/new", 204)]),
    ("aws", CTID, None, &[]),
    ("azure", CTID, None, &[]),
    ("gcp", CTID, None, &[]),
    ("m365", CTID, None, &[]),
    ("veris", CTID, None, &[]),
    ("kev_mappings", CTID, None, &[]),
    ("kev", "kev/known_exploited_vulnerabilities-2025-01-27.json.zst", None, &[("/new", 1252)]),
];

async fn sync(world: &World, row: &Row, dry_run: bool) -> (Job, Value) {
    let data = data_dir().unwrap();
    let order = StartSyncRequest {
        source_id: row.0.to_owned(),
        url: Some(file_url(&data.join(row.1))),
        companion_url: row.2.map(|file| file_url(&data.join(file))),
        dry_run,
        ..StartSyncRequest::default()
    };
    let job = world.order(order).await.map_err(|failure| format!("{}: {failure}", row.0)).unwrap();
    let counts = json_of(&job.counts_json);
    (job, counts)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_source_gives_the_counted_figures_and_the_same_again_nothing() {
    if data_dir().is_none() {
        return;
    }
    for world in World::all().await {
        let started = Instant::now();
        for row in ROWS {
            // Not of the largest: each is read once more for it.
            let dry = match row.0 {
                ENTERPRISE | "sigma" | "elastic" | "atomic_red_team" => None,
                _ => Some(sync(&world, row, true).await.1),
            };
            let (job, counts) = sync(&world, row, false).await;
            println!("{} {:?} {counts}", row.0, started.elapsed());
            assert_eq!(dry.as_ref().unwrap_or(&counts), &counts, "{}: a dry run says what happens then", row.0);
            for (pointer, figure) in row.3 {
                assert_eq!(counts.pointer(pointer), Some(&Value::from(*figure)), "{} {pointer}: {counts}", row.0);
            }
            assert!(counts["new"].as_i64().unwrap() > 0, "{}: {counts}", row.0);
            assert!(job.percentage == 100.0 && world.source_named(row.0).await.last_sync_at.is_some());
            let (_, again) = sync(&world, row, false).await;
            assert_eq!((&again["new"], &again["updated"]), (&0.into(), &0.into()), "{}: {again}", row.0);
            assert_eq!(again["unchanged"], counts["new"], "{}: {again}", row.0);
            for (kind, tally) in again["kinds"].as_object().into_iter().flatten() {
                assert_eq!(tally["unchanged"], tally["total"], "{} {kind}: {tally}", row.0);
            }
        }
        world.base.close().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upgrade_is_told_before_it_happens() {
    if data_dir().is_none() {
        return;
    }
    for world in World::all().await {
        let old: Row = (ENTERPRISE, "attack/enterprise-attack-17.1.json.zst", None, &[]);
        let (_, counts) = sync(&world, &old, false).await;
        assert_eq!(counts["new"], 823);
        let (job, counts) = sync(&world, &ROWS[0], true).await;
        println!("{counts}");
        assert_eq!((&counts["new"], &counts["techniques"]["total"]), (&12.into(), &835.into()));
        // 739 with another date, and 84 with other content under the same date.
        assert_eq!(counts["updated"], 739 + 84);
        assert!(job.dry_run && json_of(&job.changes_json)[0]["revoked_by"].is_string());
        let source = world.source().await;
        assert_eq!(source.upstream_version.as_deref(), Some("17.1"));
        let (_, after) = sync(&world, &ROWS[0], false).await;
        assert_eq!(after, counts);
        world.base.close().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_folder_and_an_archive_are_the_same() {
    let Some(data) = data_dir() else { return };
    for world in World::all().await {
        let (_, counts) = sync(&world, &ROWS[6], false).await;
        let file = std::fs::File::open(data.join("lolbas/lolbas-yml-3403b338.tar.zst")).unwrap();
        tar::Archive::new(zstd::Decoder::new(file).unwrap()).unpack(world.folder.path()).unwrap();
        let order = StartSyncRequest {
            source_id: "lolbas".to_owned(),
            url: Some(file_url(world.folder.path())),
            ..StartSyncRequest::default()
        };
        let folder = json_of(&world.order(order).await.unwrap().counts_json);
        assert_eq!(folder["unchanged"], counts["new"]);
        // The latest release of a folder of them.
        let order = StartSyncRequest {
            source_id: ENTERPRISE.to_owned(),
            url: Some(file_url(&data.join("attack"))),
            ..StartSyncRequest::default()
        };
        assert_eq!(json_of(&world.order(order).await.unwrap().counts_json)["new"], 835);
        world.base.close().await;
    }
}
