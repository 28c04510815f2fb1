//! Evidence that is removed, and evidence whose test is.

use std::sync::Arc;

use aegis_auth::{Conditions, IfMatch, OpCtx, Role};
use aegis_db::now;
use aegis_error::{Code, Failure};
use aegis_events::{Consumer, Event, decode, system_actor};
use aegis_proto::{
    events::v1::{EvidenceRemoved, TestChanged},
    evidence::v1::{ListEvidenceRequest, RemoveEvidenceRequest},
};
use aegis_testkit::ctx;
use uuid::Uuid;

use super::{World, content, file, header, nobody, stores, worlds};
use crate::{
    app::{Header, Part as AppPart},
    events::Events,
};

async fn remove(world: &World, ctx: OpCtx, id: &str, reason: &str) -> Result<(), Failure> {
    let request = RemoveEvidenceRequest { id: id.to_owned(), reason: reason.to_owned() };
    Ok(world.client(ctx).remove_evidence(request).await.map(drop)?)
}

#[tokio::test]
async fn a_file_is_removed_with_its_blob_and_the_reason_stays() {
    for world in stores().await {
        let test = world.tests.add(&["draft"]);
        let red = || ctx(Role::RedTech, "rita");
        let kept = world.upload(red(), file(header(test, "a.txt"), &content(10))).await.unwrap();
        let other = world.upload(red(), file(header(test, "b.txt"), &content(20))).await.unwrap();
        remove(&world, red(), &kept.id, "shows a customer's name").await.unwrap();
        assert_eq!(world.left().await, (0, 1, 1));

        let events = world.events().await;
        let event = events.iter().find(|event| event.r#type == EvidenceRemoved::KIND).unwrap();
        let removed: EvidenceRemoved = decode(event).unwrap();
        assert_eq!((removed.evidence_id.as_str(), removed.test_id), (kept.id.as_str(), test.to_string()));
        assert_eq!((removed.sha256, removed.reason.as_str()), (kept.sha256_hash, "shows a customer's name"));
        let audit = world.audit().await;
        let (actor, record) = audit.last().unwrap();
        assert_eq!((record.action.as_str(), &record.entity_id), ("remove_evidence", &kept.id));
        assert_eq!(actor.username, "rita");
        assert!(record.details_json.contains("shows a customer's name") && record.details_json.contains("a.txt"));

        assert_eq!(world.get(&other.id).await.size_bytes, 20);
        // The same bytes may come again.
        world.upload(red(), file(header(test, "a.txt"), &content(10))).await.unwrap();
        let failure = remove(&world, red(), &kept.id, "again").await.unwrap_err();
        assert_eq!(failure.code(), Code::NotFound);
        world.close().await;
    }
}

#[tokio::test]
async fn who_brought_it_leads_and_administrators_remove_it() {
    for world in worlds().await {
        let test = world.tests.add(&["in_review"]);
        let mut n = 0;
        for (role, name, allowed) in [
            (Role::RedTech, "rita", true),
            (Role::RedTech, "ron", false),
            (Role::BlueTech, "bo", false),
            (Role::RedLead, "lea", true),
            (Role::BlueLead, "ben", true),
            (Role::Admin, "ada", true),
            (Role::Viewer, "vera", false),
            // Who brought it and has become a viewer changes nothing any more.
            (Role::Viewer, "rita", false),
            (Role::Service, "system:testing", false),
        ] {
            n += 1;
            let kept = world.upload(ctx(Role::RedTech, "rita"), file(header(test, "a"), &content(n))).await.unwrap();
            let removed = remove(&world, ctx(role, name), &kept.id, "reason").await;
            match allowed {
                true => removed.unwrap(),
                false => assert_eq!(removed.unwrap_err().code(), Code::Forbidden, "{name}"),
            }
        }
        assert_eq!(remove(&world, nobody(), "1", "reason").await.unwrap_err().code(), Code::Unauthenticated);
        assert_eq!(world.left().await, (0, 5, 5));
        world.close().await;
    }
}

#[tokio::test]
async fn what_is_refused_removes_nothing() {
    for world in worlds().await {
        let test = world.tests.add(&["draft"]);
        let kept = world.upload(ctx(Role::Admin, "ada"), file(header(test, "a"), &content(9))).await.unwrap();
        for (id, reason, field) in [
            (kept.id.as_str(), String::new(), "reason"),
            (&kept.id, " \n ".into(), "reason"),
            (&kept.id, "r".repeat(1001), "reason"),
            (&kept.id, "a\0b".into(), "reason"),
            ("1", "reason".into(), "id"),
        ] {
            let failure = remove(&world, ctx(Role::Admin, "ada"), id, &reason).await.unwrap_err();
            assert_eq!((failure.code(), failure.fields()[0].field.as_str()), (Code::Validation, field), "{reason}");
        }
        let stale = ctx(Role::Admin, "ada")
            .under(Conditions { if_match: "2".parse::<IfMatch>().ok(), ..Conditions::default() });
        let failure = remove(&world, stale, &kept.id, "reason").await.unwrap_err();
        assert_eq!(failure.code(), Code::PreconditionFailed);
        world.tests.set(test, &["validated"]);
        let failure = remove(&world, ctx(Role::Admin, "ada"), &kept.id, "reason").await.unwrap_err();
        assert_eq!((failure.code(), failure.get("current_state")), (Code::Conflict, Some("validated")));
        assert_eq!(world.left().await, (0, 1, 1));
        assert!(world.events().await.iter().all(|event| event.r#type != EvidenceRemoved::KIND));
        world.close().await;
    }
}

#[tokio::test]
async fn a_test_that_is_validated_during_a_removal_keeps_its_evidence() {
    for world in worlds().await {
        let test = world.tests.add(&["in_review"]);
        let kept = world.upload(ctx(Role::RedTech, "rita"), file(header(test, "a"), &content(9))).await.unwrap();
        // As the removal first looks at it, and from then on.
        world.tests.set(test, &["in_review", "validated"]);
        let failure = remove(&world, ctx(Role::RedTech, "rita"), &kept.id, "reason").await.unwrap_err();
        assert_eq!((failure.code(), failure.get("current_state")), (Code::Conflict, Some("validated")));
        assert_eq!(world.left().await, (0, 1, 1));
        assert_eq!(listed(&world, test).await, 1);
        assert!(world.events().await.iter().all(|event| event.r#type != EvidenceRemoved::KIND));
        world.close().await;
    }
}

#[tokio::test]
async fn a_removal_that_was_cut_off_is_none() {
    for world in worlds().await {
        let test = world.tests.add(&["draft"]);
        let kept = world.upload(ctx(Role::Admin, "ada"), file(header(test, "a"), &content(9))).await.unwrap();
        let at = now();
        let mut tx = world.test.db.begin().await.unwrap();
        assert!(crate::store::hide(&mut tx, kept.id.parse().unwrap(), at).await.unwrap());
        tx.commit().await.unwrap();
        assert_eq!(listed(&world, test).await, 0, "nobody sees what is about to go");
        let again = remove(&world, ctx(Role::Admin, "ada"), &kept.id, "reason").await.unwrap_err();
        assert_eq!(again.code(), Code::NotFound);
        world.app.tidy(at + chrono::TimeDelta::minutes(4)).await.unwrap();
        assert_eq!(listed(&world, test).await, 0);
        world.app.tidy(at + chrono::TimeDelta::minutes(6)).await.unwrap();
        assert_eq!(listed(&world, test).await, 1);
        remove(&world, ctx(Role::Admin, "ada"), &kept.id, "reason").await.unwrap();
        assert_eq!(world.left().await, (0, 0, 0));
        world.close().await;
    }
}

async fn listed(world: &World, test: Uuid) -> i64 {
    let request = ListEvidenceRequest { test_id: test.to_string(), ..ListEvidenceRequest::default() };
    world.client(ctx(Role::Viewer, "vera")).list_evidence(request).await.unwrap().into_inner().total_size
}

#[tokio::test]
async fn a_process_that_ends_after_the_removal_leaves_the_blob_to_the_next_one() {
    for world in stores().await {
        let test = world.tests.add(&["draft"]);
        let kept = world.upload(ctx(Role::Admin, "ada"), file(header(test, "a"), &content(9))).await.unwrap();
        // As far as a removal goes before its process is killed.
        let (app, id) = (&world.app, kept.id.parse().unwrap());
        let mut tx = world.test.db.begin().await.unwrap();
        crate::store::hold_test(&mut tx, test).await.unwrap();
        let at = now();
        assert!(crate::store::hide(&mut tx, id, at).await.unwrap());
        assert!(crate::store::remove(&mut tx, id, at).await.unwrap());
        crate::store::uploads::leave(&mut tx, &[(test, id)]).await.unwrap();
        tx.commit().await.unwrap();
        assert_eq!(world.left().await, (1, 0, 1));
        assert_eq!(app.tidy(now()).await.unwrap(), 1);
        assert_eq!(world.left().await, (0, 0, 0));
        world.close().await;
    }
}

/// Brings the event that a test is gone to the service, twice.
async fn delete(world: &World, test: Uuid) {
    let bus = aegis_events::Bus::local();
    let handler = Arc::new(Events(Arc::clone(&world.app)));
    let delivery = bus.subscribe(Consumer::new(crate::SUBSCRIPTION, world.test.db.clone(), handler));
    let gone = TestChanged { test_id: test.to_string(), version: 7, deleted: true, ..TestChanged::default() };
    let outbox = aegis_events::Outbox::new("testing");
    let mut tx = world.test.db.begin().await.unwrap();
    for _ in 0..2 {
        outbox.publish_as(&mut tx, system_actor("tests"), &gone.test_id, &gone).await.unwrap();
    }
    tx.commit().await.unwrap();
    let stop = tokio_util::sync::CancellationToken::new();
    stop.cancel();
    outbox.relay(world.test.db.clone(), bus, stop.clone()).await;
    drop(delivery);
}

#[tokio::test]
async fn the_evidence_of_a_test_goes_with_it() {
    for world in worlds().await {
        let (test, other) = (world.tests.add(&["draft"]), world.tests.add(&["draft"]));
        for n in 1..=5 {
            world.upload(ctx(Role::Admin, "ada"), file(header(test, "a"), &content(n))).await.unwrap();
        }
        world.upload(ctx(Role::Admin, "ada"), file(header(other, "b"), &content(1))).await.unwrap();
        delete(&world, test).await;
        assert_eq!(world.left().await, (5, 1, 6));
        assert_eq!(world.app.tidy(now()).await.unwrap(), 5);
        assert_eq!(world.left().await, (0, 1, 1));
        // A test that is gone for this service takes nothing, also where the other side does not know it yet.
        let late = world.upload(ctx(Role::Admin, "ada"), file(header(test, "c"), &content(6))).await.unwrap_err();
        assert_eq!(late.code(), Code::NotFound);
        assert_eq!(world.left().await, (0, 1, 1));
        world.close().await;
    }
}

#[tokio::test]
async fn an_upload_that_races_with_the_end_of_its_test_leaves_nothing() {
    for world in worlds().await {
        let test = world.tests.add(&["draft"]);
        let about = Header { test_id: test.to_string(), file_name: "a".into(), team: None, notes: None };
        let world_ref = &world;
        let parts = futures::stream::iter([
            Ok(AppPart::Header(about)),
            Ok(AppPart::Chunk(content(10).into())),
            Ok(AppPart::Finish),
        ]);
        // The test ends after the last byte and before the upload does.
        let last = futures::stream::once(async move { delete(world_ref, test).await });
        let parts = futures::StreamExt::chain(parts, futures::StreamExt::filter_map(last, async |()| None));
        let failure = world.app.upload(&ctx(Role::Admin, "ada"), parts).await.err().unwrap();
        assert_eq!(Failure::from(failure).code(), Code::NotFound);
        assert_eq!(world.left().await, (0, 0, 0));
        world.close().await;
    }
}
