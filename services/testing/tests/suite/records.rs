//! What a change leaves behind: events, the timeline, the audit trail; and the evidence that others add.

use std::time::Duration;

use aegis_error::Code;
use aegis_events::Outbox;
use aegis_proto::{
    events::v1::{EvidenceAdded, EvidenceRemoved},
    testing::v1::*,
};
use aegis_runtime::Shutdown;
use serde_json::json;

use crate::{catalog::*, world::*};

#[tokio::test]
async fn every_change_is_told_once_with_the_facts_after_it() {
    for world in worlds().await {
        let test = world.in_review().await;
        world.vote(RED_LEAD, &test.id, "red", true).await.unwrap();
        world.vote(BLUE_LEAD, &test.id, "own", true).await.unwrap();
        let changes = world.changes().await;
        let moves: Vec<_> = changes.iter().map(|c| (c.version, c.previous_state.as_str(), c.state.as_str())).collect();
        assert_eq!(
            moves,
            [
                (1, "", "draft"),
                (2, "draft", "red_executing"),
                (3, "red_executing", "blue_evaluating"),
                (4, "blue_evaluating", "in_review"),
                (5, "in_review", "in_review"),
                (6, "in_review", "validated"),
            ]
        );
        let last = changes.last().unwrap();
        assert_eq!((last.test_id.as_str(), last.chain_id.as_str()), (test.id.as_str(), test.id.as_str()));
        assert_eq!((last.technique_id.as_str(), last.mitre_id.as_str()), (POWERSHELL, "T1059.001"));
        assert_eq!((last.created_at, last.created_by.as_str()), (test.created_at, test.created_by.as_str()));
        assert!(last.validated_at.is_some() && last.executed_at.is_none() && last.retest_of.is_empty());

        let outbox = world.outbox().await;
        let change = outbox.iter().find(|e| e.r#type == "testing.test.changed").unwrap();
        assert_eq!((change.source.as_str(), change.subject.as_str()), ("testing", test.id.as_str()));
        assert_eq!(change.actor.as_ref().unwrap().username, "rita");

        let actions: Vec<String> = world.audit().await.into_iter().map(|(action, ..)| action).collect();
        assert_eq!(actions, ["create_test", "start_execution", "submit_red", "submit_blue", "vote_red", "vote_blue"]);
        world.close().await;
    }
}

#[tokio::test]
async fn the_timeline_tells_what_happened_oldest_first() {
    for world in worlds().await {
        let id = world.draft().await.id;
        let edit = UpdateRedRequest {
            id: id.clone(),
            red_summary: Some("x".repeat(3_000)),
            attack_success: Some(true),
            ..UpdateRedRequest::default()
        };
        world.by(RED_TECH).update_red(edit).await.unwrap();
        world.go(RED_TECH, &id, "start_execution").await.unwrap();
        world.go(RED_TECH, &id, "submit_red").await.unwrap();
        world.go(BLUE_TECH, &id, "submit_blue").await.unwrap();
        let ballot = CastVoteRequest {
            id: id.clone(),
            side: "own".into(),
            approve: false,
            notes: Some("no evidence".into()),
            result: None,
        };
        world.ballot(RED_LEAD, ballot).await.unwrap();
        world.go(RED_TECH, &id, "reopen").await.unwrap();

        let timeline = world.timeline(&id).await;
        let lines: Vec<_> = timeline
            .iter()
            .map(|(entry, details)| (entry.kind.as_str(), details["action"].as_str().unwrap(), entry.actor.as_str()))
            .collect();
        assert_eq!(
            lines,
            [
                ("created", "create_test", "rita"),
                ("edit", "update_red", "rita"),
                ("transition", "start_execution", "rita"),
                ("transition", "submit_red", "rita"),
                ("transition", "submit_blue", "bert"),
                ("vote", "vote_red", "rosa"),
                ("transition", "reject_test", "rosa"),
                ("transition", "reopen_test", "rita"),
            ]
        );
        let details = |n: usize| &timeline[n].1;
        assert_eq!(details(0)["mitre_id"], "T1059.001");
        let edited = details(1);
        assert_eq!(edited["before"], json!({ "red_summary": null, "attack_success": null }));
        assert_eq!(edited["after"]["attack_success"], true);
        assert_eq!(edited["after"]["red_summary"].as_str().unwrap().chars().count(), 2_001);
        assert_eq!((&details(2)["from"], &details(2)["to"]), (&json!("draft"), &json!("red_executing")));
        let vote = details(5);
        assert_eq!((&vote["side"], &vote["vote"]), (&json!("red"), &json!("rejected")));
        assert_eq!(vote["after"]["red_validation_notes"], "no evidence");
        assert!(vote["after"].get("state").is_none());
        assert_eq!(details(6)["after"], json!({ "state": "rejected" }));
        assert_eq!(details(7)["before"]["red_validation_notes"], "no evidence");
        assert_eq!(details(7)["after"]["red_validation_status"], "pending");
        assert_eq!(timeline[5].0.actor_id, aegis_testkit::user_id("rosa").to_string());

        let mut seen = Vec::new();
        let mut request = GetTimelineRequest { test_id: id, page_size: 3, ..GetTimelineRequest::default() };
        loop {
            let page = world.by(VIEWER).get_timeline(request.clone()).await.unwrap().into_inner();
            seen.extend(page.entries.into_iter().map(|entry| entry.id));
            if page.next_page_token.is_empty() {
                break;
            }
            request.page_token = page.next_page_token;
        }
        assert_eq!(seen, timeline.iter().map(|(entry, _)| entry.id.clone()).collect::<Vec<_>>());
        let nobody = GetTimelineRequest { test_id: uuid::Uuid::now_v7().to_string(), ..GetTimelineRequest::default() };
        assert_eq!(failure(world.by(VIEWER).get_timeline(nobody).await).code(), Code::NotFound);
        world.close().await;
    }
}

#[tokio::test]
async fn what_was_refused_leaves_only_the_refusal() {
    for world in worlds().await {
        let id = world.draft().await.id;
        let before = world.outbox().await.len();
        assert_eq!(code(world.go(RED_TECH, &id, "submit_red").await), Code::InvalidTransition);
        assert_eq!(world.outbox().await.len(), before);
        assert_eq!(code(world.go(VIEWER, &id, "start_execution").await), Code::Forbidden);
        let audit = world.audit().await;
        let (action, success, details) = audit.last().unwrap();
        assert_eq!((action.as_str(), *success), ("access_denied", false));
        assert_eq!(details["code"], "FORBIDDEN");
        assert_eq!(world.outbox().await.len(), before + 1);
        assert_eq!(world.timeline(&id).await.len(), 1);
        assert_eq!(world.get(&id).await.version, 1);
        world.close().await;
    }
}

#[tokio::test]
async fn a_typed_time_is_stored_as_typed() {
    for world in worlds().await {
        let id = world.draft().await.id;
        let executed_at = Some(prost_types::Timestamp { seconds: 1_700_000_000, nanos: 0 });
        let edit = UpdateRedRequest { id: id.clone(), executed_at, ..UpdateRedRequest::default() };
        world.by(RED_TECH).update_red(edit).await.unwrap();
        let (_, details) = world.timeline(&id).await.pop().unwrap();
        assert_eq!(
            details["after"],
            json!({ "executed_at": "2023-11-14T22:13:20.000000Z", "executed_at_source": "typed" })
        );
        let test = world.get(&id).await;
        assert_eq!(test.executed_at_source.as_deref(), Some("typed"));
        assert_eq!((test.detected_at_source, test.responded_at_source, test.contained_at_source), (None, None, None));
        world.close().await;
    }
}

/// The timeline once it has that many entries.
async fn timeline_of(world: &World, id: &str, entries: usize) -> Vec<(TimelineEntry, serde_json::Value)> {
    for _ in 0..200 {
        let timeline = world.timeline(id).await;
        if timeline.len() == entries {
            return timeline;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("the timeline of {id} has not come to {entries} entries");
}

#[tokio::test(flavor = "multi_thread")]
async fn evidence_appears_on_the_timeline_and_changes_nothing_else() {
    for mut world in worlds().await {
        let test = world.draft().await;
        let stop = Shutdown::new();
        for task in std::mem::take(&mut world.tasks) {
            task.spawn(&stop);
        }
        let evidence = Outbox::new("evidence");
        let ctx = aegis_testkit::ctx(BLUE_TECH.0, BLUE_TECH.1);
        let added = EvidenceAdded {
            evidence_id: uuid::Uuid::now_v7().to_string(),
            test_id: test.id.clone(),
            file_name: "Bildschirmfoto ü.png".into(),
            sha256: "ab".repeat(32),
            size_bytes: 42,
            team: "blue".into(),
        };
        // Evidence for a test that is not here is passed over, and stops nothing behind it.
        let lost = EvidenceAdded { test_id: uuid::Uuid::now_v7().to_string(), ..added.clone() };
        let mut tx = world.db.begin().await.unwrap();
        evidence.publish(&mut tx, &ctx, &lost.evidence_id, &lost).await.unwrap();
        evidence.publish(&mut tx, &ctx, &added.evidence_id, &added).await.unwrap();
        tx.commit().await.unwrap();
        let timeline = timeline_of(&world, &test.id, 2).await;
        let (entry, details) = timeline.last().unwrap();
        assert_eq!((entry.kind.as_str(), entry.actor.as_str()), ("evidence", "bert"));
        assert_eq!(entry.actor_id, aegis_testkit::user_id("bert").to_string());
        assert_eq!(
            *details,
            json!({
                "action": "add_evidence",
                "evidence_id": added.evidence_id,
                "file_name": "Bildschirmfoto ü.png",
                "sha256": added.sha256,
                "size_bytes": 42,
                "team": "blue",
            })
        );
        let removed = EvidenceRemoved {
            evidence_id: added.evidence_id.clone(),
            test_id: test.id.clone(),
            file_name: "Bildschirmfoto\0 ü.png".into(),
            sha256: added.sha256.clone(),
            reason: "of another test".into(),
        };
        let mut tx = world.db.begin().await.unwrap();
        evidence.publish(&mut tx, &ctx, &added.evidence_id, &removed).await.unwrap();
        tx.commit().await.unwrap();
        let timeline = timeline_of(&world, &test.id, 3).await;
        let (entry, details) = timeline.last().unwrap();
        assert_eq!((entry.kind.as_str(), entry.actor.as_str()), ("evidence", "bert"));
        assert_eq!(
            *details,
            json!({
                "action": "remove_evidence",
                "evidence_id": added.evidence_id,
                "file_name": "Bildschirmfoto ü.png",
                "sha256": added.sha256,
                "reason": "of another test",
            })
        );
        assert_eq!(world.get(&test.id).await, test);
        stop.cancel();
        world.close().await;
    }
}
