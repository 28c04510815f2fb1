//! The workflow: who may move a test where, who votes, and what happens when two do it at once.

use aegis_error::Code;
use aegis_proto::testing::v1::*;
use aegis_testing::Config;
use futures::future::join_all;

use crate::{catalog, world::*};

#[tokio::test(flavor = "multi_thread")]
async fn a_test_goes_from_draft_to_validated_with_the_right_people() {
    for world in worlds().await {
        let test = world.draft().await;
        let id = test.id.as_str();
        assert_eq!((test.state.as_str(), test.version, test.chain_id.as_str()), ("draft", 1, id));
        assert!(test.execution_date.is_none() && test.executed_at.is_none());

        for who in [BLUE_TECH, BLUE_LEAD, VIEWER] {
            assert_eq!(code(world.go(who, id, "start_execution").await), Code::Forbidden);
        }
        let refused = world.go(RED_TECH, id, "submit_red").await.unwrap_err();
        assert_eq!(refused.code(), Code::InvalidTransition);
        assert_eq!(
            refused.message(),
            "Cannot transition from 'draft' to 'blue_evaluating'. Valid transitions: ['red_executing']"
        );
        let test = world.go(RED_TECH, id, "start_execution").await.unwrap();
        assert_eq!((test.state.as_str(), test.version), ("red_executing", 2));
        assert!(test.execution_date.is_some() && test.executed_at.is_none(), "no time is invented");
        assert_eq!(test.executed_by.as_deref(), Some(test.created_by.as_str()));

        assert_eq!(code(world.go(BLUE_LEAD, id, "submit_red").await), Code::Forbidden);
        world.go(RED_LEAD, id, "submit_red").await.unwrap();
        for who in [RED_TECH, RED_LEAD, VIEWER] {
            assert_eq!(code(world.go(who, id, "submit_blue").await), Code::Forbidden);
        }
        world.go(BLUE_TECH, id, "submit_blue").await.unwrap();

        for (who, side) in [(BLUE_LEAD, "red"), (RED_LEAD, "blue"), (RED_TECH, "red"), (BLUE_TECH, "own")] {
            assert_eq!(code(world.vote(who, id, side, true).await), Code::Forbidden);
        }
        let test = world.vote(RED_LEAD, id, "red", true).await.unwrap();
        assert_eq!(test.state, "in_review");
        assert_eq!(
            (test.red_validation_status.as_str(), test.blue_validation_status.as_str()),
            ("approved", "pending")
        );
        let test = world.vote(BLUE_LEAD, id, "blue", true).await.unwrap();
        assert_eq!((test.state.as_str(), test.version), ("validated", 6));
        assert!(test.validated_at.is_some() && test.blue_validated_at == test.validated_at);
        assert_eq!(world.get(id).await, test);

        let refused = world.go(ADMIN, id, "reopen").await.unwrap_err();
        assert_eq!(refused.message(), "Cannot transition from 'validated' to 'draft'. Valid transitions: []");
        assert_eq!(refused.get("valid_transitions"), Some(""));
        world.close().await;
    }
}

#[tokio::test]
async fn a_wrong_move_says_all_that_the_reference_shows() {
    for world in worlds().await {
        let id = world.draft().await.id;
        let refused = world.vote(ADMIN, &id, "own", true).await.unwrap_err();
        assert_eq!(refused.code(), Code::InvalidTransition);
        assert_eq!(
            refused.message(),
            "Cannot transition from 'draft' to 'validated'. Valid transitions: ['red_executing']"
        );
        assert_eq!(refused.get("current_state"), Some("draft"));
        assert_eq!(refused.get("target_state"), Some("validated"));
        assert_eq!(refused.get("valid_transitions"), Some("red_executing"));

        let id = world.in_review().await.id;
        let refused = world.go(ADMIN, &id, "start_execution").await.unwrap_err();
        assert_eq!(refused.get("valid_transitions"), Some("validated,rejected"));
        world.close().await;
    }
}

#[tokio::test]
async fn the_role_is_asked_before_the_test_and_the_test_before_its_state() {
    for world in worlds().await {
        let nobody = uuid::Uuid::now_v7().to_string();
        // The role alone decides: no matter whether there is such a test.
        assert_eq!(code(world.go(VIEWER, &nobody, "start_execution").await), Code::Forbidden);
        assert_eq!(code(world.go(VIEWER, &nobody, "reopen").await), Code::Forbidden);
        assert_eq!(code(world.vote(RED_TECH, &nobody, "red", true).await), Code::Forbidden);
        assert_eq!(code(world.go(RED_TECH, &nobody, "start_execution").await), Code::NotFound);
        assert_eq!(code(world.go(RED_TECH, &nobody, "reopen").await), Code::NotFound);
        // Somebody else's draft: forbidden, although it could not be reopened either.
        let id = world.draft().await.id;
        assert_eq!(code(world.go(OTHER_RED_TECH, &id, "reopen").await), Code::Forbidden);
        assert_eq!(code(world.go(RED_TECH, &id, "reopen").await), Code::InvalidTransition);
        assert_eq!(fields(&world.go(ADMIN, "12", "reopen").await.unwrap_err()), ["id"]);
        assert_eq!(fields(&world.go(ADMIN, &id, "finish").await.unwrap_err()), ["action"]);
        // Nobody is signed in.
        let origin = aegis_auth::Origin::default();
        let mut client = world.with(aegis_auth::OpCtx::new(None, None, origin, None));
        let answer = client.get_test(GetTestRequest { id }).await;
        assert_eq!(failure(answer).code(), Code::Unauthenticated);
        world.close().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn of_racing_moves_one_succeeds() {
    for world in worlds().await {
        let id = world.draft().await.id;
        let answers = join_all((0..16).map(|n| {
            let (world, id) = (&world, &id);
            async move {
                let who = if n % 2 == 0 { RED_TECH } else { OTHER_RED_TECH };
                world.go(who, id, "start_execution").await
            }
        }))
        .await;
        let (won, lost): (Vec<_>, Vec<_>) = answers.into_iter().partition(Result::is_ok);
        assert_eq!(won.len(), 1);
        for failure in lost.into_iter().map(Result::unwrap_err) {
            assert_eq!(failure.code(), Code::InvalidTransition);
            assert_eq!(
                failure.message(),
                "Cannot transition from 'red_executing' to 'red_executing'. Valid transitions: ['blue_evaluating']"
            );
        }
        let changes = world.changes().await;
        assert_eq!(changes.iter().map(|c| c.version).collect::<Vec<_>>(), [1, 2]);
        assert_eq!(world.timeline(&id).await.len(), 2);
        world.close().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn racing_votes_of_both_sides_both_count() {
    for world in worlds().await {
        for _ in 0..8 {
            let id = world.in_review().await.id;
            let (red, blue) =
                tokio::join!(world.vote(RED_LEAD, &id, "red", true), world.vote(BLUE_LEAD, &id, "blue", true));
            let (red, blue) = (red.unwrap(), blue.unwrap());
            let mut states = [red.state.as_str(), blue.state.as_str()];
            states.sort_unstable();
            assert_eq!(states, ["in_review", "validated"]);
            assert_eq!(world.get(&id).await.state, "validated");
        }
        world.close().await;
    }
}

#[tokio::test]
async fn a_second_vote_of_a_side_replaces_its_first_until_the_state_changes() {
    for world in worlds().await {
        let id = world.in_review().await.id;
        let ballot = |notes: Option<&str>| CastVoteRequest {
            id: id.clone(),
            side: "blue".into(),
            approve: true,
            notes: notes.map(str::to_owned),
            result: None,
        };
        let first = world.ballot(BLUE_LEAD, ballot(Some("looks right"))).await.unwrap();
        assert_eq!(first.blue_validation_notes.as_deref(), Some("looks right"));
        let second = world.ballot(ADMIN, ballot(None)).await.unwrap();
        assert_eq!(second.blue_validation_notes, None);
        assert_ne!(second.blue_validated_by, first.blue_validated_by);
        assert_eq!(second.state, "in_review");
        let third = world.vote(BLUE_LEAD, &id, "blue", false).await.unwrap();
        assert_eq!((third.state.as_str(), third.blue_validation_status.as_str()), ("rejected", "rejected"));
        assert!(third.validated_at.is_none());
        let late = world.vote(RED_LEAD, &id, "red", true).await.unwrap_err();
        assert_eq!(late.message(), "Cannot transition from 'rejected' to 'validated'. Valid transitions: ['draft']");
        world.close().await;
    }
}

#[tokio::test]
async fn a_lead_does_not_vote_on_its_own_work_but_an_administrator_may() {
    for world in worlds().await {
        // Run by rosa.
        let id = world.draft().await.id;
        world.go(RED_LEAD, &id, "start_execution").await.unwrap();
        // Own work is told before the state.
        assert_eq!(code(world.vote(RED_LEAD, &id, "red", true).await), Code::Forbidden);
        world.go(RED_LEAD, &id, "submit_red").await.unwrap();
        world.go(BLUE_TECH, &id, "submit_blue").await.unwrap();
        for side in ["red", "own"] {
            let refused = world.vote(RED_LEAD, &id, side, false).await.unwrap_err();
            assert_eq!(refused.code(), Code::Forbidden);
        }
        assert_eq!(world.get(&id).await.red_validation_status, "pending");
        // Made by ada.
        let request = CreateTestRequest {
            technique_id: catalog::POWERSHELL.into(),
            name: "By the administrator".into(),
            ..CreateTestRequest::default()
        };
        let id = world.by(ADMIN).create_test(request).await.unwrap().into_inner().test.unwrap().id;
        world.go(ADMIN, &id, "start_execution").await.unwrap();
        world.go(ADMIN, &id, "submit_red").await.unwrap();
        world.go(ADMIN, &id, "submit_blue").await.unwrap();
        let test = world.vote(ADMIN, &id, "own", true).await.unwrap();
        assert_eq!(test.state, "validated");
        let audit = world.audit().await;
        let votes: Vec<_> = audit.iter().filter(|(action, ..)| action.starts_with("vote_")).collect();
        assert_eq!(votes.len(), 2);
        for (_, success, details) in votes {
            assert!(success);
            assert_eq!(details["own_test"], true);
            assert_eq!((&details["from"], &details["to"]), (&"in_review".into(), &"validated".into()));
        }
        let denied = audit.iter().filter(|(action, success, _)| action == "access_denied" && !success).count();
        assert_eq!(denied, 3);
        world.close().await;
    }
}

#[tokio::test]
async fn the_short_forms_vote_for_the_callers_side() {
    for world in worlds().await {
        let own = |id: &str, approve, result: Option<&str>| CastVoteRequest {
            id: id.into(),
            side: "own".into(),
            approve,
            notes: Some("seen".into()),
            result: result.map(str::to_owned),
        };
        let id = world.in_review().await.id;
        let test = world.ballot(BLUE_LEAD, own(&id, true, Some("detected"))).await.unwrap();
        assert_eq!(test.detection_result.as_deref(), Some("detected"));
        assert_eq!(
            (test.red_validation_status.as_str(), test.blue_validation_status.as_str()),
            ("pending", "approved")
        );
        let test = world.ballot(RED_LEAD, own(&id, true, Some("partially_detected"))).await.unwrap();
        assert_eq!((test.state.as_str(), test.detection_result.as_deref()), ("validated", Some("partially_detected")));

        let id = world.in_review().await.id;
        let test = world.ballot(ADMIN, own(&id, false, None)).await.unwrap();
        assert_eq!(test.state, "rejected");
        assert_eq!(
            (test.red_validation_status.as_str(), test.blue_validation_status.as_str()),
            ("rejected", "rejected")
        );

        let id = world.in_review().await.id;
        let refused = world.ballot(ADMIN, own(&id, false, Some("detected"))).await.unwrap_err();
        assert_eq!(fields(&refused), ["result"]);
        let bad = CastVoteRequest {
            id: "x".into(),
            side: "green".into(),
            approve: true,
            notes: Some("x".repeat(10_001)),
            result: Some("seen".into()),
        };
        let refused = world.ballot(ADMIN, bad).await.unwrap_err();
        assert_eq!(fields(&refused), ["side", "id", "notes", "result", "result"]);
        world.close().await;
    }
}

#[tokio::test]
async fn a_rejected_test_is_reopened_with_its_votes_forgotten() {
    for world in worlds().await {
        let id = world.in_review().await.id;
        world.vote(BLUE_LEAD, &id, "blue", true).await.unwrap();
        world.vote(RED_LEAD, &id, "red", false).await.unwrap();
        for who in [OTHER_RED_TECH, BLUE_TECH, VIEWER] {
            assert_eq!(code(world.go(who, &id, "reopen").await), Code::Forbidden);
        }
        let test = world.go(RED_TECH, &id, "reopen").await.unwrap();
        assert_eq!(test.state, "draft");
        for status in [&test.red_validation_status, &test.blue_validation_status] {
            assert_eq!(status, "pending");
        }
        assert!(test.red_validated_by.is_none() && test.blue_validated_by.is_none());
        assert!(test.red_validated_at.is_none() && test.blue_validated_at.is_none());
        assert!(test.red_validation_notes.is_none() && test.blue_validation_notes.is_none());
        // And again, to the end: the old approval of the blue side counts no more.
        world.go(RED_TECH, &id, "start_execution").await.unwrap();
        world.go(RED_TECH, &id, "submit_red").await.unwrap();
        world.go(BLUE_TECH, &id, "submit_blue").await.unwrap();
        assert_eq!(world.vote(RED_LEAD, &id, "red", true).await.unwrap().state, "in_review");
        assert_eq!(world.vote(BLUE_LEAD, &id, "blue", true).await.unwrap().state, "validated");
        world.close().await;
    }
}

#[tokio::test]
async fn results_can_be_required() {
    for world in worlds_with(Config { require_results: true }, catalog::techniques_client()).await {
        let id = world.draft().await.id;
        // The state is told before what is missing.
        assert_eq!(code(world.go(RED_TECH, &id, "submit_red").await), Code::InvalidTransition);
        world.go(RED_TECH, &id, "start_execution").await.unwrap();
        let refused = world.go(RED_TECH, &id, "submit_red").await.unwrap_err();
        assert_eq!(fields(&refused), ["attack_success", "red_summary"]);
        let edit = UpdateRedRequest {
            id: id.clone(),
            attack_success: Some(false),
            red_summary: Some("  ".into()),
            ..UpdateRedRequest::default()
        };
        world.by(RED_TECH).update_red(edit.clone()).await.unwrap();
        assert_eq!(fields(&world.go(RED_TECH, &id, "submit_red").await.unwrap_err()), ["red_summary"]);
        world.by(RED_TECH).update_red(UpdateRedRequest { red_summary: Some("blocked".into()), ..edit }).await.unwrap();
        world.go(RED_TECH, &id, "submit_red").await.unwrap();

        let refused = world.go(BLUE_TECH, &id, "submit_blue").await.unwrap_err();
        assert_eq!(fields(&refused), ["detection_result", "blue_summary"]);
        let edit = UpdateBlueRequest {
            id: id.clone(),
            detection_result: Some("detected".into()),
            blue_summary: Some("an alert".into()),
            ..UpdateBlueRequest::default()
        };
        world.by(BLUE_TECH).update_blue(edit).await.unwrap();
        world.go(BLUE_TECH, &id, "submit_blue").await.unwrap();
        world.close().await;
    }
}
