//! Changing the fields of a test: who, in which state, within which bounds.

use aegis_auth::Role;
use aegis_error::Code;
use aegis_proto::testing::v1::*;
use prost_types::Timestamp;

use crate::{identity, world::*};

fn moment(before_now: i64) -> Option<Timestamp> {
    Some(Timestamp { seconds: chrono::Utc::now().timestamp() - before_now, nanos: 123_456_789 })
}

#[tokio::test]
async fn its_creator_and_administrators_change_a_draft() {
    for world in worlds().await {
        let id = world.draft().await.id;
        let edit = UpdateTestRequest {
            id: id.clone(),
            name: Some("Another name".into()),
            platform: Some("Linux".into()),
            description: Some("Text".into()),
            ..UpdateTestRequest::default()
        };
        for who in [OTHER_RED_TECH, RED_LEAD, BLUE_LEAD, VIEWER] {
            assert_eq!(failure(world.by(who).update_test(edit.clone()).await).code(), Code::Forbidden);
        }
        let test = world.by(RED_TECH).update_test(edit).await.unwrap().into_inner().test.unwrap();
        assert_eq!((test.name.as_str(), test.platform.as_deref(), test.version), ("Another name", Some("linux"), 2));
        let clear = UpdateTestRequest {
            id: id.clone(),
            clear: vec!["description".into(), "platform".into()],
            ..UpdateTestRequest::default()
        };
        let test = world.by(ADMIN).update_test(clear.clone()).await.unwrap().into_inner().test.unwrap();
        assert_eq!((test.description, test.platform, test.version), (None, None, 3));
        // The same again changes nothing, and says nothing.
        let said = world.outbox().await.len();
        let test = world.by(ADMIN).update_test(clear).await.unwrap().into_inner().test.unwrap();
        assert_eq!(test.version, 3);
        assert_eq!(world.outbox().await.len(), said);

        let bad = UpdateTestRequest {
            id: "7".into(),
            name: Some("".into()),
            tool_used: Some("x".into()),
            platform: Some("".into()),
            clear: vec!["tool_used".into(), "name".into()],
            ..UpdateTestRequest::default()
        };
        let refused = failure(world.by(RED_TECH).update_test(bad).await);
        assert_eq!(fields(&refused), ["clear", "id", "name", "platform", "tool_used"]);

        world.go(RED_TECH, &id, "start_execution").await.unwrap();
        let late = UpdateTestRequest { id, name: Some("Late".into()), ..UpdateTestRequest::default() };
        let refused = failure(world.by(RED_TECH).update_test(late).await);
        assert_eq!(refused.code(), Code::InvalidState);
        assert_eq!(refused.get("current_state"), Some("red_executing"));
        assert_eq!(
            refused.message(),
            "the fields of a test can be changed only in draft or rejected, and this test is in red_executing"
        );
        world.close().await;
    }
}

#[tokio::test]
async fn a_rejected_test_can_be_changed_by_its_creator() {
    for world in worlds().await {
        let id = world.in_review().await.id;
        world.vote(RED_LEAD, &id, "red", false).await.unwrap();
        let edit = UpdateTestRequest { id, name: Some("Better".into()), ..UpdateTestRequest::default() };
        let test = world.by(RED_TECH).update_test(edit).await.unwrap().into_inner().test.unwrap();
        assert_eq!((test.name.as_str(), test.state.as_str()), ("Better", "rejected"));
        world.close().await;
    }
}

#[tokio::test]
async fn each_side_writes_its_own_fields_in_its_own_time() {
    for world in worlds().await {
        let id = world.draft().await.id;
        let red = UpdateRedRequest {
            id: id.clone(),
            procedure_text: Some("How".into()),
            tool_used: Some("tool".into()),
            attack_success: Some(true),
            red_summary: Some("It worked".into()),
            executed_at: moment(600),
            clear: vec![],
        };
        let blue = UpdateBlueRequest {
            id: id.clone(),
            detection_result: Some("partially_detected".into()),
            blue_summary: Some("Half of it".into()),
            detected_at: moment(300),
            responded_at: moment(200),
            contained_at: moment(100),
            clear: vec![],
        };
        for who in [BLUE_TECH, BLUE_LEAD, VIEWER] {
            assert_eq!(failure(world.by(who).update_red(red.clone()).await).code(), Code::Forbidden);
        }
        let test = world.by(OTHER_RED_TECH).update_red(red.clone()).await.unwrap().into_inner().test.unwrap();
        assert_eq!(test.executed_at.unwrap().nanos, 123_456_000);
        assert_eq!((test.attack_success, test.red_summary.as_deref()), (Some(true), Some("It worked")));
        world.go(RED_TECH, &id, "start_execution").await.unwrap();
        let clear = UpdateRedRequest {
            id: id.clone(),
            clear: vec!["attack_success".into(), "executed_at".into()],
            ..UpdateRedRequest::default()
        };
        let test = world.by(RED_LEAD).update_red(clear).await.unwrap().into_inner().test.unwrap();
        assert_eq!((test.attack_success, test.executed_at), (None, None));
        assert_eq!(failure(world.by(BLUE_TECH).update_blue(blue.clone()).await).code(), Code::InvalidState);

        world.go(RED_TECH, &id, "submit_red").await.unwrap();
        assert_eq!(failure(world.by(RED_TECH).update_red(red).await).code(), Code::InvalidState);
        for who in [RED_TECH, RED_LEAD, VIEWER] {
            assert_eq!(failure(world.by(who).update_blue(blue.clone()).await).code(), Code::Forbidden);
        }
        let test = world.by(BLUE_LEAD).update_blue(blue.clone()).await.unwrap().into_inner().test.unwrap();
        assert_eq!(test.detection_result.as_deref(), Some("partially_detected"));
        assert!(test.detected_at.is_some() && test.responded_at.is_some() && test.contained_at.is_some());

        let bad = UpdateBlueRequest {
            id: id.clone(),
            detection_result: Some("seen".into()),
            detected_at: moment(-600),
            responded_at: Some(Timestamp { seconds: i64::MAX, nanos: 0 }),
            contained_at: Some(Timestamp { seconds: 0, nanos: -1 }),
            blue_summary: Some("x".repeat(50_001)),
            clear: vec![],
        };
        let refused = failure(world.by(BLUE_TECH).update_blue(bad).await);
        assert_eq!(
            fields(&refused),
            ["detection_result", "blue_summary", "detected_at", "responded_at", "contained_at"]
        );
        world.go(BLUE_TECH, &id, "submit_blue").await.unwrap();
        assert_eq!(failure(world.by(BLUE_TECH).update_blue(blue).await).code(), Code::InvalidState);
        world.close().await;
    }
}

#[tokio::test]
async fn remediation_is_for_leads_blue_technicians_and_the_assignee() {
    for world in worlds().await {
        let id = world.draft().await.id;
        let ralf = aegis_testkit::user_id(OTHER_RED_TECH.1).to_string();
        let status = |status: &str| UpdateRemediationRequest {
            id: id.clone(),
            remediation_status: Some(status.into()),
            ..UpdateRemediationRequest::default()
        };
        // Not its creator either.
        for who in [RED_TECH, OTHER_RED_TECH, VIEWER] {
            assert_eq!(failure(world.by(who).update_remediation(status("pending")).await).code(), Code::Forbidden);
        }
        let assign = UpdateRemediationRequest { remediation_assignee: Some(ralf), ..status("in_progress") };
        for who in [RED_LEAD, BLUE_LEAD, BLUE_TECH, ADMIN] {
            world.by(who).update_remediation(assign.clone()).await.unwrap();
        }
        let done = world.by(OTHER_RED_TECH).update_remediation(status("completed")).await.unwrap();
        let done = done.into_inner().test.unwrap();
        let completed = done.remediation_completed_at;
        assert!(completed.is_some());
        let steps = UpdateRemediationRequest {
            id: id.clone(),
            remediation_steps: Some("Step 1: …\nStep 2: …".into()),
            ..UpdateRemediationRequest::default()
        };
        let test = world.by(BLUE_TECH).update_remediation(steps).await.unwrap().into_inner().test.unwrap();
        assert_eq!(test.remediation_completed_at, completed, "the time of the completion stays");
        let test = world.by(BLUE_TECH).update_remediation(status("in_progress")).await.unwrap();
        assert_eq!(test.into_inner().test.unwrap().remediation_completed_at, None);

        let bad = UpdateRemediationRequest {
            remediation_assignee: Some("ralf".into()),
            remediation_steps: Some("x".repeat(50_001)),
            ..status("done")
        };
        let refused = failure(world.by(ADMIN).update_remediation(bad).await);
        assert_eq!(fields(&refused), ["remediation_steps", "remediation_status", "remediation_assignee"]);
        for name in [identity::DISABLED, identity::DELETED] {
            let absent = UpdateRemediationRequest {
                remediation_assignee: Some(aegis_testkit::user_id(name).to_string()),
                remediation_steps: Some("x".repeat(50_001)),
                ..status("pending")
            };
            let refused = failure(world.by(ADMIN).update_remediation(absent).await);
            assert_eq!(fields(&refused), ["remediation_steps", "remediation_assignee"], "all that is wrong at once");
        }
        // An assignee who has become a viewer changes nothing.
        let demoted = (Role::Viewer, OTHER_RED_TECH.1);
        assert_eq!(failure(world.by(demoted).update_remediation(status("completed")).await).code(), Code::Forbidden);
        world.close().await;
    }
}
