//! What is taken in, what is refused, and that a refusal leaves nothing behind.

use aegis_auth::Role;
use aegis_error::{Code, Failure};
use aegis_events::{Event, decode};
use aegis_proto::{
    events::v1::EvidenceAdded,
    evidence::v1::{ListEvidenceRequest, UploadEvidenceRequest, UploadHeader, upload_evidence_request::Part},
};
use aegis_testkit::{ctx, user_id};
use bytes::Bytes;
use futures::stream;
use sha2::{Digest, Sha256};
use uuid::Uuid;

use super::{CHUNK, LIMIT, content, file, header, nobody, stores, worlds};
use crate::{
    app::{Header, Part as AppPart},
    store::{self, Evidence},
};

#[tokio::test]
async fn a_file_is_kept_with_its_hash_event_and_audit_record() {
    for world in stores().await {
        let test = world.tests.add(&["red_executing"]);
        let bytes = content(LIMIT as usize);
        let red = ctx(Role::RedTech, "rita");
        let about = UploadHeader { notes: Some("the beacon's log".into()), ..header(test, "/tmp/журнал.log") };
        let kept = world.upload(red, file(about, &bytes)).await.unwrap();
        assert_eq!(kept.file_name, "журнал.log");
        assert_eq!(kept.sha256_hash, hex::encode(Sha256::digest(&bytes)));
        assert_eq!(kept.size_bytes, bytes.len() as i64);
        assert_eq!(kept.team.as_deref(), Some("red"));
        assert_eq!(kept.notes.as_deref(), Some("the beacon's log"));
        assert_eq!(kept.uploaded_by, user_id("rita").to_string());
        assert_eq!(kept.uploaded_by_username, "rita");

        let mut read = world.get(&kept.id).await;
        // Each reader has a link of their own.
        read.download_url = kept.download_url.clone();
        read.download_url_expires_at = kept.download_url_expires_at;
        assert_eq!(read, kept);
        assert_eq!(world.left().await, (0, 1, 1));

        let events = world.events().await;
        let added: EvidenceAdded =
            decode(events.iter().find(|event| event.r#type == EvidenceAdded::KIND).unwrap()).unwrap();
        assert_eq!((added.evidence_id, added.test_id), (kept.id.clone(), test.to_string()));
        assert_eq!((added.sha256, added.team), (kept.sha256_hash, "red".into()));
        let mut audit = world.audit().await;
        // A bucket's own links are recorded when they are given out.
        audit.retain(|(_, record)| record.action != "issue_evidence_link");
        assert_eq!(audit.len(), 1);
        assert_eq!((audit[0].1.action.as_str(), &audit[0].1.entity_id), ("upload_evidence", &kept.id));
        assert_eq!(audit[0].0.username, "rita");
        world.close().await;
    }
}

#[tokio::test]
async fn what_is_refused_leaves_nothing_behind() {
    for world in stores().await {
        let open = world.tests.add(&["draft"]);
        let closed = world.tests.add(&["validated"]);
        let closing = world.tests.add(&["in_review", "validated"]);
        let chunk = |size| Part::Chunk(Bytes::from(content(size)));
        let head = || Part::Header(header(open, "a.txt"));
        let finish = || Part::Finish(true);
        let with = |team: Option<&str>, notes: Option<String>| {
            let about = UploadHeader { team: team.map(str::to_owned), notes, ..header(open, "a.txt") };
            file(about, b"bytes")
        };
        let cases: Vec<(&str, Vec<Part>, Code, &str)> = vec![
            ("nothing", vec![], Code::Validation, "header"),
            ("no header", vec![chunk(1), finish()], Code::Validation, "header"),
            ("two headers", vec![head(), chunk(1), head(), finish()], Code::Validation, "header"),
            ("no finish", vec![head(), chunk(CHUNK), chunk(1)], Code::Validation, "ended before its end"),
            ("finish false", vec![head(), chunk(1), Part::Finish(false)], Code::Validation, "finish"),
            ("more after the finish", vec![head(), chunk(1), finish(), chunk(1)], Code::Validation, "finish"),
            ("empty", vec![head(), finish()], Code::Validation, "empty"),
            ("large chunk", vec![head(), chunk(CHUNK + 1), finish()], Code::Validation, "chunk"),
            (
                "too large",
                file(header(open, "a.txt"), &content(LIMIT as usize + 1)),
                Code::TooLarge,
                "limit of 1048576 bytes",
            ),
            (
                "no UUID",
                file(UploadHeader { test_id: "1".into(), ..header(open, "a.txt") }, b"bytes"),
                Code::Validation,
                "test_id",
            ),
            ("no such test", file(header(Uuid::now_v7(), "a.txt"), b"bytes"), Code::NotFound, "does not exist"),
            ("closed test", file(header(closed, "a.txt"), b"bytes"), Code::InvalidState, "validated"),
            ("closed meanwhile", file(header(closing, "a.txt"), b"bytes"), Code::InvalidState, "validated"),
            ("wrong team", with(Some("green"), None), Code::Validation, "team"),
            ("long notes", with(None, Some("n".repeat(2001))), Code::Validation, "notes"),
            ("control characters", with(None, Some("a\0b".into())), Code::Validation, "notes"),
        ];
        for (name, parts, code, text) in cases {
            let failure = world.upload(ctx(Role::Admin, "ada"), parts).await.unwrap_err();
            assert_eq!(failure.code(), code, "{name}: {failure}");
            assert!(failure.message().contains(text), "{name}: {failure}");
            assert_eq!(world.left().await, (0, 0, 0), "{name}");
        }
        assert!(world.events().await.is_empty());

        // All that is wrong with a header is told at once.
        let wrong = UploadHeader {
            test_id: "1".into(),
            file_name: String::new(),
            team: Some("green".into()),
            notes: Some("n".repeat(2001)),
        };
        let failure = world.upload(ctx(Role::Admin, "ada"), file(wrong, b"bytes")).await.unwrap_err();
        assert_eq!(failure.fields().len(), 3);
        world.close().await;
    }
}

#[tokio::test]
async fn a_stream_that_breaks_leaves_nothing_behind() {
    for world in stores().await {
        let test = world.tests.add(&["draft"]);
        let about = Header { test_id: test.to_string(), file_name: "a.bin".into(), team: None, notes: None };
        let parts = stream::iter([
            Ok(AppPart::Header(about)),
            Ok(AppPart::Chunk(content(CHUNK).into())),
            Err(Failure::unavailable("the client")),
        ]);
        let result = world.app.upload(&ctx(Role::Admin, "ada"), parts).await;
        assert_eq!(Failure::from(result.err().unwrap()).code(), Code::Unavailable);
        assert_eq!(world.left().await, (0, 0, 0));
        world.close().await;
    }
}

#[tokio::test]
async fn the_same_bytes_twice_on_a_test_are_refused_with_the_first() {
    for world in stores().await {
        let (one, two) = (world.tests.add(&["draft"]), world.tests.add(&["draft"]));
        let bytes = content(CHUNK + 1);
        let first = world.upload(ctx(Role::RedTech, "rita"), file(header(one, "a.txt"), &bytes)).await.unwrap();
        let again = world.upload(ctx(Role::BlueTech, "bo"), file(header(one, "b.txt"), &bytes)).await.unwrap_err();
        assert_eq!((again.code(), again.get("id")), (Code::Duplicate, Some(first.id.as_str())));
        assert_eq!(world.left().await, (0, 1, 1));
        // On another test they are another proof.
        world.upload(ctx(Role::BlueTech, "bo"), file(header(two, "b.txt"), &bytes)).await.unwrap();
        assert_eq!(world.left().await, (0, 2, 2));

        // Also when they race.
        let other = content(3);
        let racing = (0..6).map(|_| world.upload(ctx(Role::Admin, "ada"), file(header(one, "c.txt"), &other)));
        let results = futures::future::join_all(racing).await;
        assert_eq!(results.iter().filter(|result| result.is_ok()).count(), 1);
        assert!(results.iter().flat_map(|result| result.as_ref().err()).all(|e| e.code() == Code::Duplicate));
        assert_eq!(world.left().await, (0, 3, 3));
        world.close().await;
    }
}

#[tokio::test]
async fn everyone_but_viewers_brings_files_for_their_side() {
    for world in worlds().await {
        let test = world.tests.add(&["blue_evaluating"]);
        let mut n = 0;
        for (role, team, kept) in [
            (Role::Admin, None, Ok(None)),
            (Role::Admin, Some("blue"), Ok(Some("blue"))),
            (Role::RedTech, None, Ok(Some("red"))),
            (Role::RedLead, Some("red"), Ok(Some("red"))),
            (Role::BlueTech, None, Ok(Some("blue"))),
            (Role::BlueLead, None, Ok(Some("blue"))),
            (Role::RedTech, Some("blue"), Err(Code::Forbidden)),
            (Role::BlueLead, Some("red"), Err(Code::Forbidden)),
            (Role::Viewer, None, Err(Code::Forbidden)),
            (Role::Service, None, Err(Code::Forbidden)),
        ] {
            n += 1;
            let about = UploadHeader { team: team.map(str::to_owned), ..header(test, "a.txt") };
            let result = world.upload(ctx(role, role.as_str()), file(about, &content(n))).await;
            match kept {
                Ok(team) => assert_eq!(result.unwrap().team.as_deref(), team, "{role}"),
                Err(code) => assert_eq!(result.unwrap_err().code(), code, "{role}"),
            }
        }
        assert_eq!(world.left().await, (0, 6, 6));
        let refusals = world.audit().await.into_iter().filter(|(_, record)| !record.success).count();
        assert_eq!(refusals, 4);
        let anonymous = world.upload(nobody(), file(header(test, "a.txt"), b"bytes")).await.unwrap_err();
        assert_eq!(anonymous.code(), Code::Unauthenticated);
        world.close().await;
    }
}

#[tokio::test]
async fn files_of_a_test_are_listed_oldest_first() {
    for world in worlds().await {
        let (test, other) = (world.tests.add(&["draft"]), world.tests.add(&["draft"]));
        let red = || ctx(Role::RedTech, "rita");
        for n in 1..=5 {
            world.upload(red(), file(header(test, &format!("{n}.txt")), &content(n))).await.unwrap();
        }
        world.upload(red(), file(header(other, "other.txt"), &content(1))).await.unwrap();

        let mut client = world.client(ctx(Role::Viewer, "vera"));
        let mut request = ListEvidenceRequest { test_id: test.to_string(), page_size: 2, ..Default::default() };
        let mut names = Vec::new();
        loop {
            let page = client.list_evidence(request.clone()).await.unwrap().into_inner();
            assert_eq!(page.total_size, 5);
            assert!(page.evidence.len() <= 2);
            assert!(page.evidence.iter().all(|one| one.download_url.starts_with("/api/v1/evidence/")));
            names.extend(page.evidence.into_iter().map(|one| one.file_name));
            if page.next_page_token.is_empty() {
                break;
            }
            request.page_token = page.next_page_token;
        }
        assert_eq!(names, ["1.txt", "2.txt", "3.txt", "4.txt", "5.txt"]);

        for wrong in [
            ListEvidenceRequest { test_id: "1".into(), ..Default::default() },
            ListEvidenceRequest { test_id: test.to_string(), page_size: 1001, ..Default::default() },
            ListEvidenceRequest { test_id: test.to_string(), page_token: "?".into(), ..Default::default() },
        ] {
            let failure = Failure::from(client.list_evidence(wrong).await.unwrap_err());
            assert_eq!(failure.code(), Code::Validation);
        }
        world.close().await;
    }
}

#[tokio::test]
async fn an_upload_without_any_part_in_a_message_is_refused() {
    for world in worlds().await {
        let mut client = world.client(ctx(Role::Admin, "ada"));
        let empty = stream::iter([UploadEvidenceRequest { part: None }]);
        let failure = Failure::from(client.upload_evidence(empty).await.unwrap_err());
        assert_eq!(failure.code(), Code::Validation);
        world.close().await;
    }
}

#[tokio::test]
async fn a_test_has_a_thousand_files_at_most() {
    for world in worlds().await {
        let test = world.tests.add(&["draft"]);
        let first = world.upload(ctx(Role::Admin, "ada"), file(header(test, "a"), &content(1))).await.unwrap();
        let row = store::get(&world.test.db, first.id.parse().unwrap()).await.unwrap().unwrap();
        let mut tx = world.test.db.begin().await.unwrap();
        for n in 0..998 {
            let row = Evidence { id: Uuid::now_v7(), sha256: format!("{n:064}"), ..row.clone() };
            assert_eq!(store::insert(&mut tx, &row).await.unwrap(), None);
        }
        tx.commit().await.unwrap();
        // Also when they race for the last place.
        let racing = (2..6).map(|n| {
            let bytes = content(n);
            let world = &world;
            async move { world.upload(ctx(Role::Admin, "ada"), file(header(test, "b"), &bytes)).await }
        });
        let results = futures::future::join_all(racing).await;
        assert_eq!(results.iter().filter(|result| result.is_ok()).count(), 1);
        for failure in results.iter().filter_map(|result| result.as_ref().err()) {
            assert_eq!(failure.code(), Code::Conflict);
            assert!(failure.message().contains("1000 files"), "{failure}");
        }
        assert_eq!(world.left().await, (0, 1000, 2));
        world.close().await;
    }
}

#[tokio::test]
async fn a_store_that_is_gone_or_full_keeps_nothing() {
    for world in worlds().await {
        let test = world.tests.add(&["draft"]);
        let kept = world.upload(ctx(Role::Admin, "ada"), file(header(test, "a"), &content(9))).await.unwrap();
        let away = world.folder.path().with_extension("away");
        std::fs::rename(world.folder.path(), &away).unwrap();
        let failure = world.upload(ctx(Role::Admin, "ada"), file(header(test, "b"), &content(10))).await.unwrap_err();
        assert_eq!(failure.code(), Code::Unavailable, "{failure}");
        // Nothing says that the file is missing: nobody knows.
        let failure = world.app.verify(&ctx(Role::Admin, "ada"), &kept.id).await.err().unwrap();
        assert_eq!(Failure::from(failure).code(), Code::Unavailable);
        assert!(!world.folder.path().exists());
        std::fs::rename(&away, world.folder.path()).unwrap();
        let listed = world.client(ctx(Role::Viewer, "vera"));
        let request = ListEvidenceRequest { test_id: test.to_string(), ..Default::default() };
        assert_eq!({ listed }.list_evidence(request).await.unwrap().into_inner().total_size, 1);
        // The upload could not be cleared away without its store; now it can.
        world.app.tidy(aegis_db::now() + chrono::TimeDelta::hours(3)).await.unwrap();
        assert_eq!(world.left().await, (0, 1, 1));
        world.close().await;
    }
    let full = Failure::from(crate::Error::from(aegis_blob::BlobError::Full));
    assert_eq!((full.code(), full.code().http().as_u16()), (Code::StorageFull, 507));
}
