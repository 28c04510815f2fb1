//! Syncs that succeed, and documents that cannot be used.

use aegis_error::{Code, Failure};
use aegis_proto::events::v1::{AuditRecorded, SyncFinished};
use serde_json::json;

use crate::world::*;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sync_brings_a_bundle_in_and_the_same_again_changes_nothing() {
    for world in World::all().await {
        world.point(&world.file("bundle.json", &bundle("18.1", "One"))).await;
        let job = world.sync(None).await.unwrap();
        assert_eq!((job.status.as_str(), job.phase.as_str(), job.percentage), ("succeeded", "done", 100.0));
        let counts = json_of(&job.counts_json);
        let techniques = json!({
            "new": 4, "updated": 0, "unchanged": 0, "revoked": 1, "deprecated": 0, "vanished": 0, "removed": 0, "total": 4,
        });
        assert_eq!(counts["techniques"], techniques);
        assert_eq!(counts["tactics"]["total"], 1);
        assert_eq!((&counts["new"], &counts["skipped"]), (&json!(4), &json!(1)));
        let skipped = json_of(&job.skipped_json);
        assert_eq!(skipped.as_array().unwrap().len(), 1);
        assert!(skipped[0]["id"].is_string() && skipped[0]["reason"].is_string(), "{skipped}");
        assert_eq!(world.job(&job.id).await, job);

        let import = world.catalog.imports().remove(0);
        assert!(import.committed && !import.header.dry_run);
        assert_eq!(import.token, "Bearer service-token");
        assert_eq!(
            (import.header.source.as_str(), import.header.domain.as_str(), import.header.upstream_version.as_str()),
            ("mitre_attack", "enterprise", "18.1")
        );
        let ids: Vec<&str> = import.techniques.iter().map(|t| t.mitre_id.as_str()).collect();
        assert_eq!(ids, ["T1001", "T1002", "T1002.001", "T1004"]);
        assert_eq!(import.techniques[3].revoked_by.as_deref(), Some("T1002"));
        assert_eq!(import.techniques[2].parent_mitre_id.as_deref(), Some("T1002"));
        assert_eq!(import.techniques[0].content_hash.len(), 32);
        assert_eq!(import.tactics[0].short_name, "execution");

        let source = world.source().await;
        assert_eq!(source.last_status.as_deref(), Some("succeeded"));
        assert_eq!(source.upstream_version.as_deref(), Some("18.1"));
        assert!(source.last_sync_at.is_some() && source.last_error.is_none());
        assert_eq!(json_of(&source.last_counts_json), counts);

        let again = world.sync(None).await.unwrap();
        let counts = json_of(&again.counts_json);
        assert_eq!((&counts["new"], &counts["updated"], &counts["unchanged"]), (&json!(0), &json!(0), &json!(4)));
        let newer = world.file("newer.json", &bundle("19.0", "One, renamed"));
        let counts = json_of(&world.sync(Some(&newer)).await.unwrap().counts_json);
        assert_eq!((&counts["new"], &counts["updated"], &counts["unchanged"]), (&json!(0), &json!(1), &json!(3)));
        assert_eq!(world.source().await.upstream_version.as_deref(), Some("19.0"));

        let finished = world.events::<SyncFinished>().await;
        assert_eq!(finished.len(), 3);
        assert_eq!((finished[0].1.job_id.as_str(), finished[0].1.status.as_str()), (job.id.as_str(), "succeeded"));
        assert_eq!(finished[0].1.source, ENTERPRISE);
        let audits = world.events::<AuditRecorded>().await;
        let (envelope, audit) = audits.iter().find(|(_, audit)| audit.action == "sync_source").unwrap();
        assert!(audit.success);
        assert_eq!(audit.entity_id, source.id);
        assert_eq!(envelope.actor.as_ref().unwrap().username, "ada");
        assert_eq!(json_of(&audit.details_json)["after"]["upstream_version"], "18.1");
        world.base.close().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_document_that_cannot_be_used_changes_nothing_and_says_why() {
    for world in World::all().await {
        let good = bundle("18.1", "One");
        world.sync(Some(&world.file("good.json", &good))).await.unwrap();
        let before = world.source().await;
        let packed = zstd::encode_all(good.as_slice(), 3).unwrap();
        let mobile = String::from_utf8(good.clone()).unwrap().replace("Enterprise ATT", "Mobile ATT");
        let mobile =
            mobile.replace("enterprise-attack", "mobile-attack").replace("\"mitre-attack\"", "\"mitre-mobile-attack\"");
        let documents = [
            ("cut.json", &good[..good.len() / 2], "ends too early"),
            ("cut.json.zst", &packed[..packed.len() / 2], ""),
            ("list.json", b"[1, 2]", "no STIX bundle"),
            ("object.json", br#"{"type": "report"}"#, "no STIX bundle"),
            ("page.html", b"<!DOCTYPE html>", "web page"),
            ("empty.json", b"", "empty"),
            ("mobile.json", mobile.as_bytes(), "mobile"),
        ];
        let mut urls = vec![("file:///does/not/exist.json".to_owned(), "does not exist")];
        urls.extend(documents.map(|(name, content, why)| (world.file(name, content), why)));
        for (url, why) in &urls {
            let failure = world.sync(Some(url)).await.unwrap_err();
            assert_eq!(failure.code(), Code::Validation, "{url}: {}", failure.message());
            assert_eq!(failure.fields()[0].field, "url");
            assert!(failure.message().contains(why), "{url}: {}", failure.message());
            let job = world.job(failure.get("job_id").unwrap()).await;
            assert_eq!((job.status.as_str(), job.counts_json.as_str()), ("failed", "{}"));
            assert!(job.finished_at.is_some());
            let after = world.source().await;
            assert_eq!((after.last_status.as_deref(), &after.last_error), (Some("failed"), &job.error));
            assert_eq!(after.upstream_version, before.upstream_version);
            assert_eq!(after.last_sync_at, before.last_sync_at);
            assert_eq!(after.last_counts_json, before.last_counts_json);
        }
        assert_eq!(world.catalog.imports().len(), 1, "the catalog was asked for the good one alone");
        let finished = world.events::<SyncFinished>().await;
        assert_eq!(finished.iter().filter(|(_, event)| event.status == "failed").count(), urls.len());
        let audits = world.events::<AuditRecorded>().await;
        assert_eq!(audits.iter().filter(|(_, audit)| !audit.success).count(), urls.len());
        world.base.close().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failure_of_the_catalog_is_passed_on_and_kept() {
    for world in World::all().await {
        world.point(&world.file("bundle.json", &bundle("18.1", "One"))).await;
        *world.catalog.failure.lock().unwrap() = Some(Failure::new(Code::StorageFull, "the disk is full"));
        let failure = world.sync(None).await.unwrap_err();
        assert_eq!((failure.code(), failure.message()), (Code::StorageFull, "the disk is full"));
        let source = world.source().await;
        assert_eq!(source.last_error.as_deref(), Some("the disk is full"));
        assert_eq!((source.upstream_version, source.last_sync_at), (None, None));
        assert_eq!(world.sync(None).await.unwrap().status, "succeeded");
        assert_eq!(world.source().await.last_error, None);
        world.base.close().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_document_that_did_not_change_at_the_publisher_is_not_sent_again() {
    for world in World::all().await {
        let server = WebServer::start(bundle("18.1", "One")).await;
        world.point(&server.url).await;
        world.sync(None).await.unwrap();
        let again = world.sync(None).await.unwrap();
        assert_eq!(server.answers(), ["200 OK", "304 Not Modified"]);
        assert_eq!(world.catalog.imports().len(), 1);
        let counts = json_of(&again.counts_json);
        assert_eq!((&counts["new"], &counts["unchanged"], &counts["revoked"]), (&json!(0), &json!(4), &json!(1)));
        assert_eq!(world.source().await.upstream_version.as_deref(), Some("18.1"));

        // What another document brought in must be undone by the next sync, though the publisher's did not change.
        world.sync(Some(&world.file("old.json", &bundle("17.1", "Old")))).await.unwrap();
        world.sync(None).await.unwrap();
        assert_eq!(server.answers()[2..], ["200 OK"]);
        // Neither does the ETag of one address say anything about another.
        let mirror = WebServer::start(bundle("18.2", "One")).await;
        world.point(&mirror.url).await;
        world.sync(None).await.unwrap();
        assert_eq!(mirror.answers(), ["200 OK"]);
        world.base.close().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_publishers_release_comes_in_whole() {
    let Some(data) = aegis_testkit::data_dir() else {
        return;
    };
    for world in World::all().await {
        let release = |name: &str| file_url(&data.join("attack").join(name));
        world.point(&release("enterprise-attack-17.1.json.zst")).await;
        let job = world.sync(None).await.unwrap();
        let counts = json_of(&job.counts_json);
        assert_eq!((&counts["techniques"]["total"], &counts["skipped"]), (&json!(823), &json!(0)));
        world.point(&release("enterprise-attack-18.1.json.zst")).await;
        let counts = json_of(&world.sync(None).await.unwrap().counts_json);
        assert_eq!(counts["techniques"]["total"], 835);
        assert_eq!((&counts["new"], &counts["revoked"], &counts["deprecated"]), (&json!(12), &json!(132), &json!(12)));
        assert_eq!(counts["tactics"]["total"], 14);
        let import = world.catalog.imports().remove(1);
        assert_eq!(import.header.upstream_version, "18.1");
        assert_eq!((import.techniques.len(), import.tactics.len(), import.largest_batch), (835, 14, 200));
        assert!(import.committed);
        world.base.close().await;
    }
}
