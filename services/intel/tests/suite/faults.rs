//! The publishers' own files over HTTP, from a server that misbehaves. Skipped where they are absent.

use std::io::Read;

use aegis_error::Code;
use aegis_intel::fetch::FetchLimits;
use aegis_proto::intel::v1::{Job, StartSyncRequest};
use aegis_testkit::data_dir;

use crate::{
    mirror::{Fault, Mirror},
    world::*,
};

fn order(source: &str, url: &str) -> StartSyncRequest {
    StartSyncRequest { source_id: source.to_owned(), url: Some(url.to_owned()), ..StartSyncRequest::default() }
}

fn new(job: &Job) -> i64 {
    json_of(&job.counts_json)["new"].as_i64().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn real_files_come_in_whole_whatever_the_server_does() {
    let Some(data) = data_dir() else { return };
    let files = [
        ("mitre_attack_ics", "attack/ics-attack-18.1.json.zst", 95),
        ("atomic_red_team", "atomic/atomics-yaml-b3dc12d4.tar.zst", 1750),
        ("caldera", "caldera/stockpile-data-996ec41c.tar.zst", 209),
        ("lolbas", "lolbas/lolbas-yml-3403b338.tar.zst", 482),
    ];
    for world in World::all().await {
        let mirror = Mirror::start().await;
        for ((source, file, count), faults) in files.into_iter().zip([
            // The rest is asked for, and cut again.
            &[Fault::Cut, Fault::Cut][..],
            &[Fault::Busy, Fault::TooLong],
            &[Fault::Drip],
            &[Fault::Busy, Fault::Cut, Fault::Drip],
        ]) {
            let path = format!("/{file}");
            let url = mirror.serve(&path, std::fs::read(data.join(file)).unwrap());
            mirror.misbehave(&path, faults);
            let job = world.order(order(source, &url)).await.unwrap();
            assert_eq!(new(&job), count, "{source}: {}", job.counts_json);
            let again = world.order(order(source, &url)).await.unwrap();
            assert_eq!(new(&again), 0, "{source}");
        }
        let parts = mirror.requests().iter().filter(|request| request.contains("\r\nrange: bytes=")).count();
        assert!(parts >= 3, "cut downloads go on where they were");
        world.base.close().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_document_that_did_not_change_is_not_downloaded_again() {
    let Some(data) = data_dir() else { return };
    for world in World::all().await {
        let mirror = Mirror::start().await;
        let file = std::fs::read(data.join("lolbas/lolbas-yml-3403b338.tar.zst")).unwrap();
        let url = mirror.serve("/lolbas.tar.zst", file);
        let edit = aegis_proto::intel::v1::UpdateDataSourceRequest {
            id: "lolbas".to_owned(),
            url: Some(url),
            ..Default::default()
        };
        world.admin().update_data_source(edit).await.unwrap();
        let own = || StartSyncRequest { source_id: "lolbas".to_owned(), ..StartSyncRequest::default() };
        assert_eq!(new(&world.order(own()).await.unwrap()), 482);
        let counts = json_of(&world.order(own()).await.unwrap().counts_json);
        assert_eq!((&counts["new"], &counts["unchanged"]), (&0.into(), &482.into()));
        assert_eq!(world.catalog.imports().len(), 1);
        assert!(mirror.requests()[1].contains("if-none-match"));
        world.base.close().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_never_comes_right_changes_nothing() {
    let Some(data) = data_dir() else { return };
    let limits = FetchLimits {
        max_download_bytes: 8 * 1024 * 1024,
        max_unpacked_bytes: 64 * 1024 * 1024,
        ..FetchLimits::default()
    };
    for mut world in World::all().await {
        world.service = replica_with(&world.base.db, &world.catalog, limits.clone()).await;
        let mirror = Mirror::start().await;
        let file = std::fs::read(data.join("lolbas/lolbas-yml-3403b338.tar.zst")).unwrap();
        for (path, faults, code, told) in [
            ("/short", &[Fault::TooShort][..], Code::Validation, "damaged or was cut"),
            ("/loop", &[Fault::Loop], Code::Validation, "more than 5 redirects"),
            ("/nothing", &[Fault::Nothing], Code::Validation, "larger than the 8388608 bytes"),
            ("/busy", &[Fault::Busy; 4], Code::SourceUnreachable, "answers 429, again and again"),
        ] {
            let url = mirror.serve(path, file.clone());
            mirror.misbehave(path, faults);
            let failure = world.order(order("lolbas", &url)).await.unwrap_err();
            assert_eq!(failure.code(), code, "{path}: {}", failure.message());
            assert!(failure.message().contains(told), "{path}: {}", failure.message());
        }
        let zeros = zstd::encode_all(std::io::repeat(0).take(1 << 30), 1).unwrap();
        let bomb = mirror.serve("/bomb.json", zeros);
        let failure = world.order(order("mitre_attack_enterprise", &bomb)).await.unwrap_err();
        assert_eq!(failure.code(), Code::Validation, "{}", failure.message());
        let outside = mirror.serve("/outside.tar", outside());
        let failure = world.order(order("lolbas", &outside)).await.unwrap_err();
        assert!(failure.message().contains("leads out of the archive"), "{}", failure.message());
        assert!(world.catalog.imports().is_empty());
        let source = world.source_named("lolbas").await;
        assert_eq!((source.last_status.as_deref(), source.last_sync_at), (Some("failed"), None));
        world.base.close().await;
    }
}

/// A tar archive with an entry that points outside.
fn outside() -> Vec<u8> {
    let mut archive = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    let name = b"yml/../../OSBinaries/x.yml";
    header.as_old_mut().name[..name.len()].copy_from_slice(name);
    header.set_size(1);
    header.set_cksum();
    archive.append(&header, &b"x"[..]).unwrap();
    archive.into_inner().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_mappings_of_d3fend_come_from_one_document_a_technique() {
    let Some(data) = data_dir() else { return };
    for world in World::all().await {
        let mirror = Mirror::start().await;
        let open = |name: &str| {
            let file = std::fs::File::open(data.join("d3fend").join(name)).unwrap();
            tar::Archive::new(zstd::Decoder::new(file).unwrap())
        };
        let mut url = String::new();
        for archive in ["d3fend-site-0.14.0-ontology.tar.zst", "d3fend-site-0.14.0-attack-api.tar.zst"] {
            for entry in open(archive).entries().unwrap() {
                let mut entry = entry.unwrap();
                let path = format!("/{}", entry.path().unwrap().display());
                let mut bytes = Vec::new();
                entry.read_to_end(&mut bytes).unwrap();
                let served = mirror.serve(&path, bytes);
                if path.ends_with("ontologies/d3fend.json") {
                    url = served;
                }
            }
        }
        let attack = data.join("attack/enterprise-attack-18.1.json.zst");
        world.order(order(ENTERPRISE, &file_url(&attack))).await.unwrap();
        let template = format!("{}/api/offensive-technique/attack/{{id}}.json", mirror.base);
        let edit = aegis_proto::intel::v1::UpdateDataSourceRequest {
            id: "d3fend".to_owned(),
            url: Some(url),
            companion_url: Some(template),
            ..Default::default()
        };
        world.admin().update_data_source(edit).await.unwrap();
        let own = StartSyncRequest { source_id: "d3fend".to_owned(), ..StartSyncRequest::default() };
        let job = world.order(own.clone()).await.unwrap();
        let counts = json_of(&job.counts_json);
        println!("{counts}");
        assert!(counts["new"].as_i64().unwrap() >= 193, "{counts}");
        let asked = mirror.requests().len();
        assert!(asked > 835, "the ontology, and one for each technique: {asked}");
        // The same again: the ontology did not change, and no technique came.
        let again = json_of(&world.order(own).await.unwrap().counts_json);
        assert_eq!((&again["new"], &again["unchanged"]), (&0.into(), &counts["new"]));
        assert_eq!(mirror.requests().len(), asked + 1);
        world.base.close().await;
    }
}
