//! The look at the whole store: what it collects, what it tells, and what it leaves alone.

use aegis_auth::Role;
use aegis_blob::BlobMeta;
use aegis_db::now;
use aegis_error::{Code, Failure};
use aegis_proto::evidence::v1::{GetStoreReportRequest, GetStoreReportResponse};
use aegis_runtime::Shutdown;
use aegis_testkit::ctx;
use chrono::TimeDelta;
use uuid::Uuid;

use super::{World, content, file, header, stores, worlds};
use crate::store::{self, look::Report};

async fn put(world: &World, key: &str, size: usize) {
    let mut writer = world.blobs.writer(key, &BlobMeta::default()).await.unwrap();
    writer.write(content(size).into()).await.unwrap();
    writer.finish().await.unwrap();
}

/// A look some hours from now: all that is stored is old then.
async fn look(world: &World) -> Report {
    let at = now() + TimeDelta::hours(3);
    world.app.look(at, at, &Shutdown::new()).await.unwrap().unwrap()
}

async fn reported(world: &World) -> GetStoreReportResponse {
    let mut client = world.client(ctx(Role::Admin, "ada"));
    client.get_store_report(GetStoreReportRequest {}).await.unwrap().into_inner()
}

#[tokio::test]
async fn what_nothing_names_is_collected_and_nothing_else() {
    for world in stores().await {
        let (one, two) = (world.tests.add(&["draft"]), world.tests.add(&["draft"]));
        for n in 1..=4 {
            let test = if n % 2 == 0 { one } else { two };
            world.upload(ctx(Role::Admin, "ada"), file(header(test, "a"), &content(n))).await.unwrap();
        }
        // Before, between and after the others.
        let strangers = [(Uuid::nil(), 5), (one, 6), (two, 7), (Uuid::max(), 8)];
        for (test, size) in strangers {
            put(&world, &store::blob_key(test, Uuid::now_v7()), size).await;
        }
        // Under way, and to be removed already: both have their rows.
        let under_way = (one, Uuid::now_v7());
        let key = store::blob_key(under_way.0, under_way.1);
        let mut tx = world.test.db.begin().await.unwrap();
        store::uploads::begin_upload(&mut tx, under_way.1, &key, now()).await.unwrap();
        tx.commit().await.unwrap();
        put(&world, &key, 9).await;
        // Not ours at all.
        put(&world, "evidence/readme", 10).await;
        put(&world, "other/thing", 11).await;

        // What is young may be anybody's.
        let first = world.app.look(now(), now(), &Shutdown::new()).await.unwrap().unwrap();
        assert_eq!((first.files, first.bytes, first.collected, first.broken_total), (4, 10, 0, 0));
        let report = look(&world).await;
        assert_eq!((report.files, report.bytes, report.broken_total), (4, 10, 0));
        assert_eq!((report.collected, report.collected_bytes), (4, 26));
        for key in [key.as_str(), "evidence/readme", "other/thing"] {
            assert!(world.blobs.size(key).await.unwrap().is_some(), "{key}");
        }
        let again = look(&world).await;
        assert_eq!((again.files, again.collected), (4, 0));
        assert_eq!(world.left().await, (1, 4, 6));
        let audit = world.audit().await;
        let (actor, record) = audit.last().unwrap();
        assert_eq!((actor.username.as_str(), record.action.as_str()), ("system:evidence", "collect_evidence_blobs"));
        world.close().await;
    }
}

#[tokio::test]
async fn files_without_their_blobs_are_told() {
    for world in stores().await {
        assert_eq!(reported(&world).await, GetStoreReportResponse::default());
        let test = world.tests.add(&["draft"]);
        let mut kept = Vec::new();
        for n in 1..=5 {
            kept.push(world.upload(ctx(Role::Admin, "ada"), file(header(test, "a"), &content(n))).await.unwrap());
        }
        let key = |at: usize| store::blob_key(test, kept[at].id.parse().unwrap());
        for at in [0, 4] {
            world.blobs.delete(&key(at)).await.unwrap();
        }
        put(&world, &key(2), 300).await;
        look(&world).await;
        let report = reported(&world).await;
        assert_eq!((report.files, report.bytes, report.collected, report.broken_total), (3, 306, 0, 3));
        assert!(report.checked_at.is_some());
        let broken: Vec<_> =
            report.broken.iter().map(|one| (one.id.as_str(), one.expected_size, one.actual_size)).collect();
        assert_eq!(
            broken,
            [(kept[0].id.as_str(), 1, None), (kept[2].id.as_str(), 3, Some(300)), (kept[4].id.as_str(), 5, None)]
        );
        assert_eq!(world.left().await, (0, 5, 3));

        let refused = world.client(ctx(Role::RedLead, "lea")).get_store_report(GetStoreReportRequest {}).await;
        assert_eq!(Failure::from(refused.unwrap_err()).code(), Code::Forbidden);
        world.close().await;
    }
}

#[tokio::test]
async fn many_of_both_are_walked_through_page_by_page() {
    for world in worlds().await {
        let test = world.tests.add(&["draft"]);
        let kept = world.upload(ctx(Role::Admin, "ada"), file(header(test, "a"), &content(3))).await.unwrap();
        let row = store::get(&world.test.db, kept.id.parse().unwrap()).await.unwrap().unwrap();
        // More than a page of rows, and of each test some without a blob.
        let mut tx = world.test.db.begin().await.unwrap();
        for n in 0..2200_u128 {
            let row = store::Evidence {
                id: Uuid::now_v7(),
                test_id: Uuid::from_u128(n / 10),
                sha256: format!("{n:064}"),
                ..row.clone()
            };
            assert_eq!(store::insert(&mut tx, &row).await.unwrap(), None);
            if n % 10 == 3 {
                let path = world.folder.path().join(row.blob_key());
                std::fs::create_dir_all(path.parent().unwrap()).unwrap();
                std::fs::write(path, b"abc").unwrap();
            }
        }
        tx.commit().await.unwrap();
        let report = look(&world).await;
        assert_eq!((report.files, report.collected, report.broken_total), (221, 0, 1980));
        assert_eq!(report.broken.len(), 100);
        world.close().await;
    }
}

#[tokio::test]
async fn a_store_that_belongs_to_another_database_is_left_alone() {
    for world in worlds().await {
        for _ in 0..101 {
            put(&world, &store::blob_key(Uuid::now_v7(), Uuid::now_v7()), 1).await;
        }
        assert_eq!(look(&world).await.collected, 0);
        assert_eq!(world.left().await, (0, 0, 101));
        world.close().await;
    }
}

#[tokio::test]
async fn one_looks_at_a_time_and_not_too_often() {
    for world in worlds().await {
        let db = &world.test.db;
        let (at, stop) = (now(), Shutdown::new());
        let other = Uuid::now_v7();
        assert!(store::look::take(db, other, at, at + TimeDelta::minutes(5), at).await.unwrap());
        assert!(world.app.look(at, at, &stop).await.unwrap().is_none());
        assert!(store::look::keep(db, other, at - TimeDelta::minutes(1)).await.unwrap());
        // It has not been heard of for long: another one takes over, and the first has no say any more.
        assert!(world.app.look(at, at, &stop).await.unwrap().is_some());
        assert!(!store::look::keep(db, other, at).await.unwrap());
        store::look::give_back(db, other, Some(&Report { files: 99, ..Report::default() })).await.unwrap();
        assert_eq!(reported(&world).await.files, 0);
        assert!(world.app.look(at, at - TimeDelta::minutes(1), &stop).await.unwrap().is_none());
        // A store that does not answer changes nothing in the report.
        let checked = reported(&world).await.checked_at;
        let away = world.folder.path().with_extension("away");
        std::fs::rename(world.folder.path(), &away).unwrap();
        let later = at + TimeDelta::hours(1);
        assert!(world.app.look(later, later, &stop).await.is_err());
        std::fs::rename(&away, world.folder.path()).unwrap();
        assert_eq!(reported(&world).await.checked_at, checked);
        assert!(world.app.look(later, later, &stop).await.unwrap().is_some());
        world.close().await;
    }
}
