//! What a process that was killed leaves behind is found, and nothing else is touched.

use std::time::Duration;

use aegis_auth::Role;
use aegis_blob::BlobMeta;
use aegis_db::now;
use aegis_error::{Code, Failure};
use aegis_proto::evidence::v1::{UploadEvidenceRequest, upload_evidence_request::Part};
use aegis_testkit::ctx;
use chrono::TimeDelta;
use secrecy::SecretString;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use uuid::Uuid;

use super::{World, content, file, header, worlds};
use crate::{
    Config,
    app::{Header, Part as AppPart},
    store,
};

/// As after `kill -9` between the blob and its row.
async fn orphan(world: &World, test: Uuid, age: TimeDelta) -> String {
    let id = Uuid::now_v7();
    let key = store::blob_key(test, id);
    let mut tx = world.test.db.begin().await.unwrap();
    store::uploads::begin_upload(&mut tx, id, &key, now() - age).await.unwrap();
    tx.commit().await.unwrap();
    let mut writer = world.blobs.writer(&key, &BlobMeta::default()).await.unwrap();
    writer.write(content(10).into()).await.unwrap();
    writer.finish().await.unwrap();
    key
}

#[tokio::test]
async fn old_leftovers_go_and_nothing_else() {
    for world in worlds().await {
        let test = world.tests.add(&["draft"]);
        let kept = world.upload(ctx(Role::Admin, "ada"), file(header(test, "a.txt"), b"bytes")).await.unwrap();
        for _ in 0..201 {
            orphan(&world, test, TimeDelta::hours(3)).await;
        }
        let fresh = orphan(&world, test, TimeDelta::minutes(59)).await;
        assert_eq!(world.app.tidy(now()).await.unwrap(), 201);
        assert_eq!(world.left().await, (1, 1, 2));
        assert!(world.blobs.size(&fresh).await.unwrap().is_some());
        assert_eq!(world.get(&kept.id).await.size_bytes, 5);
        assert_eq!(world.app.tidy(now()).await.unwrap(), 0);
        world.close().await;
    }
}

#[tokio::test]
async fn an_upload_that_its_caller_leaves_is_cleared_later() {
    for world in worlds().await {
        let test = world.tests.add(&["draft"]);
        let (sender, parts) = mpsc::channel(1);
        let mut client = world.client(ctx(Role::Admin, "ada"));
        let upload = tokio::spawn(async move { client.upload_evidence(ReceiverStream::new(parts)).await });
        let message = |part| UploadEvidenceRequest { part: Some(part) };
        sender.send(message(Part::Header(header(test, "a.bin")))).await.unwrap();
        // The channel holds one: when the third is in it, the first two were taken.
        for _ in 0..3 {
            sender.send(message(Part::Chunk(content(1000).into()))).await.unwrap();
        }
        upload.abort();
        assert!(upload.await.unwrap_err().is_cancelled());
        assert_eq!(world.left().await, (1, 0, 0));
        world.app.tidy(now() + TimeDelta::hours(3)).await.unwrap();
        assert_eq!(world.left().await, (0, 0, 0));
        world.close().await;
    }
}

#[tokio::test]
async fn an_upload_that_was_given_up_cannot_succeed_any_more() {
    for world in worlds().await {
        let test = world.tests.add(&["draft"]);
        let about = Header { test_id: test.to_string(), file_name: "a".into(), team: None, notes: None };
        let app = &world.app;
        let parts = futures::stream::iter([
            Ok(AppPart::Header(about)),
            Ok(AppPart::Chunk(content(10).into())),
            Ok(AppPart::Finish),
        ]);
        // Housekeeping takes it for left behind just before its end.
        let last = futures::stream::once(async move {
            assert_eq!(app.tidy(now() + TimeDelta::hours(3)).await.unwrap(), 1);
        });
        let parts = futures::StreamExt::chain(parts, futures::StreamExt::filter_map(last, async |()| None));
        let failure = app.upload(&ctx(Role::Admin, "ada"), parts).await.err().unwrap();
        assert_eq!(Failure::from(failure).code(), Code::Timeout);
        assert_eq!(world.left().await, (0, 0, 0));
        world.close().await;
    }
}

#[tokio::test]
async fn the_built_service_starts_and_stops() {
    for world in worlds().await {
        let deps = |secret: &str| crate::Deps {
            db: world.test.db.clone(),
            bus: aegis_events::Bus::local(),
            blobs: world.blobs.clone(),
            testing: world.tests.client(),
            identity: world.users.client(),
            background: world.users.background(),
            config: Config { link_secret: SecretString::from(secret), ..Config::default() },
        };
        let failure = crate::build(deps("short")).await.err().unwrap();
        assert_eq!(failure.fields()[0].field, "link_secret");
        let service = crate::build(deps(&"s".repeat(32))).await.unwrap();
        for check in &service.readiness {
            (check.probe)().await.unwrap();
        }
        let shutdown = aegis_runtime::Shutdown::new();
        for task in service.tasks {
            task.spawn(&shutdown);
        }
        assert!(shutdown.drain(Duration::from_secs(30)).await);
        assert!(!shutdown.failed());
        world.close().await;
    }
}
