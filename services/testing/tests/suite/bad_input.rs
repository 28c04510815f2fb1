//! Input that is too long, not text, or no id: refused with the field's name, and nothing is changed.

use aegis_error::{Code, Failure};
use aegis_proto::testing::v1::*;

use crate::{catalog::*, world::*};

/// A megabyte, a NUL, other control characters.
fn bad_texts() -> [String; 3] {
    ["x".repeat(1_000_000), "a\0b".into(), "a\u{1b}[2Jb".into()]
}

#[tokio::test]
async fn no_text_field_takes_a_megabyte_or_control_characters() {
    for world in worlds().await {
        let id = world.draft().await.id;
        let review = world.in_review().await.id;
        let evaluating = world.draft().await.id;
        world.go(RED_TECH, &evaluating, "start_execution").await.unwrap();
        world.go(RED_TECH, &evaluating, "submit_red").await.unwrap();
        let said = world.outbox().await.len();
        let is = |answer: Failure, expected: &[&str]| {
            assert_eq!(fields(&answer), expected);
            // An answer does not carry the text back.
            assert!(answer.message().len() < 2_000);
        };
        for bad in bad_texts() {
            let some = || Some(bad.clone());
            let create = CreateTestRequest {
                technique_id: POWERSHELL.into(),
                name: bad.clone(),
                description: some(),
                platform: some(),
                procedure_text: some(),
                tool_used: some(),
                template_id: None,
                mitre_id: None,
            };
            is(
                failure(world.by(RED_TECH).create_test(create).await),
                &["name", "platform", "description", "procedure_text", "tool_used"],
            );
            let edit = UpdateTestRequest {
                id: id.clone(),
                name: some(),
                description: some(),
                platform: some(),
                procedure_text: some(),
                tool_used: some(),
                clear: vec![],
            };
            is(
                failure(world.by(RED_TECH).update_test(edit).await),
                &["name", "description", "procedure_text", "tool_used", "platform"],
            );
            let red = UpdateRedRequest {
                id: id.clone(),
                procedure_text: some(),
                tool_used: some(),
                red_summary: some(),
                ..UpdateRedRequest::default()
            };
            is(failure(world.by(RED_TECH).update_red(red).await), &["procedure_text", "tool_used", "red_summary"]);
            let blue = UpdateBlueRequest {
                id: evaluating.clone(),
                detection_result: some(),
                blue_summary: some(),
                ..UpdateBlueRequest::default()
            };
            is(failure(world.by(BLUE_TECH).update_blue(blue).await), &["detection_result", "blue_summary"]);
            let remediation = UpdateRemediationRequest {
                id: id.clone(),
                remediation_steps: some(),
                remediation_status: some(),
                remediation_assignee: some(),
                ..UpdateRemediationRequest::default()
            };
            is(
                failure(world.by(BLUE_TECH).update_remediation(remediation).await),
                &["remediation_steps", "remediation_status", "remediation_assignee"],
            );
            let ballot = CastVoteRequest {
                id: review.clone(),
                side: "own".into(),
                approve: true,
                notes: some(),
                result: some(),
            };
            is(world.ballot(RED_LEAD, ballot).await.unwrap_err(), &["notes", "result"]);
            is(world.comment(RED_TECH, &id, &bad).await.unwrap_err(), &["text"]);
            is(world.go(RED_TECH, &id, &bad).await.unwrap_err(), &["action"]);
        }
        assert_eq!(world.outbox().await.len(), said);
        assert_eq!((world.get(&id).await.version, world.get(&review).await.version), (1, 4));
        world.close().await;
    }
}

#[tokio::test]
async fn what_is_no_id_is_refused_everywhere() {
    for world in worlds().await {
        let nobody = uuid::Uuid::now_v7().to_string();
        for bad in ["", "7", "../etc/passwd", "00000000-0000-0000-0000-00000000000g", "a\0", &"9".repeat(1_000_000)] {
            let id = bad.to_owned();
            let admin = || world.by(ADMIN);
            let get = failure(admin().get_test(GetTestRequest { id: id.clone() }).await);
            assert_eq!(fields(&get), ["id"]);
            assert_eq!(fields(&world.go(ADMIN, &id, "reopen").await.unwrap_err()), ["id"]);
            assert_eq!(fields(&world.vote(ADMIN, &id, "red", true).await.unwrap_err()), ["id"]);
            assert_eq!(fields(&world.delete(ADMIN, &id).await.unwrap_err()), ["id"]);
            assert_eq!(fields(&world.retest(ADMIN, &id).await.unwrap_err()), ["test_id"]);
            assert_eq!(fields(&world.remedy(ADMIN, &id, "completed").await.unwrap_err()), ["id"]);
            let chain = failure(admin().get_retest_chain(GetRetestChainRequest { test_id: id.clone() }).await);
            assert_eq!(fields(&chain), ["test_id"]);
            let timeline = GetTimelineRequest { test_id: id.clone(), ..GetTimelineRequest::default() };
            assert_eq!(fields(&failure(admin().get_timeline(timeline).await)), ["test_id"]);
            let list = ListTestsRequest {
                technique_id: Some(id.clone()),
                created_by: Some(id.clone()),
                assignee: Some(id.clone()),
                campaign_id: Some(id.clone()),
                remediation_status: Some("late".into()),
                ..ListTestsRequest::default()
            };
            let list = failure(admin().list_tests(list).await);
            assert_eq!(fields(&list), ["remediation_status", "technique_id", "created_by", "assignee", "campaign_id"]);
        }
        assert_eq!(code(world.go(ADMIN, &nobody, "reopen").await), Code::NotFound);
        assert_eq!(code(world.vote(ADMIN, &nobody, "red", true).await), Code::NotFound);
        assert_eq!(code(world.delete(ADMIN, &nobody).await), Code::NotFound);
        assert_eq!(code(world.remedy(ADMIN, &nobody, "completed").await), Code::NotFound);
        world.close().await;
    }
}
