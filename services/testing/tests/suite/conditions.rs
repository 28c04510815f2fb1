//! Changes under conditions: of the version that was read, and of being made once.

use aegis_auth::{Conditions, IdempotencyKey, IfMatch, OpCtx, Role};
use aegis_error::{Code, Failure};
use aegis_proto::testing::v1::*;
use futures::future::join_all;

use crate::{catalog, world::*};

fn under(who: (Role, &str), if_match: Option<i64>, key: Option<&str>) -> OpCtx {
    aegis_testkit::ctx(who.0, who.1).under(Conditions {
        if_match: if_match.map(|version| IfMatch::Versions(vec![version])),
        idempotency_key: key.map(|key| IdempotencyKey::new(key.as_bytes()).unwrap()),
    })
}

/// Makes one change of a test; each knows which.
async fn change(world: &World, what: &str, id: &str, version: i64) -> Result<Test, Failure> {
    let (who, id) = (ADMIN, id.to_owned());
    let mut client = world.with(under(who, Some(version), None));
    let text = Some(format!("{what} {version}"));
    let test = match what {
        "test" => {
            let request = UpdateTestRequest { id, description: text, ..Default::default() };
            client.update_test(request).await.map(|answer| answer.into_inner().test)
        }
        "red" => {
            let request = UpdateRedRequest { id, red_summary: text, ..Default::default() };
            client.update_red(request).await.map(|answer| answer.into_inner().test)
        }
        "blue" => {
            let request = UpdateBlueRequest { id, blue_summary: text, ..Default::default() };
            client.update_blue(request).await.map(|answer| answer.into_inner().test)
        }
        "remediation" => {
            let request = UpdateRemediationRequest { id, remediation_steps: text, ..Default::default() };
            client.update_remediation(request).await.map(|answer| answer.into_inner().test)
        }
        "vote" => {
            let request = CastVoteRequest { id, side: "red".into(), approve: true, ..Default::default() };
            client.cast_vote(request).await.map(|answer| answer.into_inner().test)
        }
        action => {
            let request = MoveTestRequest { id, action: action.into() };
            client.move_test(request).await.map(|answer| answer.into_inner().test)
        }
    };
    Ok(test?.unwrap())
}

#[tokio::test]
async fn no_change_is_made_of_an_older_version() {
    for world in worlds().await {
        let id = world.draft().await.id;
        let way = ["test", "red", "remediation", "start_execution", "submit_red", "blue", "submit_blue", "vote"];
        for what in way {
            let before = world.get(&id).await;
            let said = world.outbox().await.len();
            for wrong in [before.version - 1, before.version + 1] {
                let refused = change(&world, what, &id, wrong).await.unwrap_err();
                assert_eq!(refused.code(), Code::PreconditionFailed, "{what}");
                assert_eq!(refused.get("version"), Some(before.version.to_string().as_str()));
            }
            assert_eq!((world.get(&id).await, world.outbox().await.len()), (before.clone(), said), "{what}");
            let after = change(&world, what, &id, before.version).await.unwrap();
            assert_eq!(after.version, before.version + 1, "{what}");
        }
        // Who may not is told that, and not whether it is a good version.
        let edit = UpdateTestRequest { id: id.clone(), name: Some("N".into()), ..Default::default() };
        let refused = failure(world.with(under(VIEWER, Some(1), None)).update_test(edit).await);
        assert_eq!(refused.code(), Code::Forbidden);
        world.close().await;
    }
}

#[tokio::test]
async fn of_many_who_read_the_same_version_one_changes_it() {
    for world in worlds().await {
        let id = world.draft().await.id;
        let answers = join_all((0..6).map(|n| {
            let mut client = world.with(under(RED_TECH, Some(1), None));
            let edit = UpdateTestRequest { id: id.clone(), name: Some(format!("By {n}")), ..Default::default() };
            async move { client.update_test(edit).await.map_err(Failure::from) }
        }))
        .await;
        let codes: Vec<_> = answers.iter().map(|answer| answer.as_ref().err().map(Failure::code)).collect();
        assert_eq!(codes.iter().filter(|code| code.is_none()).count(), 1, "{codes:?}");
        assert!(codes.iter().flatten().all(|code| *code == Code::PreconditionFailed), "{codes:?}");
        assert_eq!(world.get(&id).await.version, 2);
        world.close().await;
    }
}

#[tokio::test]
async fn what_is_asked_for_twice_is_made_once() {
    for world in worlds().await {
        let create = |key: &str, name: &str| {
            let mut client = world.with(under(RED_TECH, None, Some(key)));
            let request = CreateTestRequest {
                technique_id: catalog::POWERSHELL.into(),
                name: name.into(),
                ..CreateTestRequest::default()
            };
            async move { client.create_test(request).await.map(|r| r.into_inner().test.unwrap()).map_err(Failure::from) }
        };
        let answers = join_all((0..6).map(|_| create("c", "Once"))).await;
        let first = answers[0].as_ref().unwrap();
        assert!(answers.iter().all(|answer| answer.as_ref().unwrap() == first), "{answers:?}");
        assert_eq!(create("c", "Twice").await.unwrap_err().code(), Code::Unprocessable);
        assert_eq!(world.changes().await.len(), 1);

        // A move cannot be made twice; its answer can.
        let go = |key: &str| {
            let mut client = world.with(under(RED_TECH, None, Some(key)));
            let request = MoveTestRequest { id: first.id.clone(), action: "start_execution".into() };
            async move { client.move_test(request).await.map(|r| r.into_inner().test.unwrap()).map_err(Failure::from) }
        };
        let answers = join_all((0..6).map(|_| go("m"))).await;
        assert!(answers.iter().all(|answer| answer.as_ref().unwrap().version == 2), "{answers:?}");
        assert_eq!(go("n").await.unwrap_err().code(), Code::InvalidTransition);
        assert_eq!(world.get(&first.id).await.version, 2);
        world.close().await;
    }
}

#[tokio::test]
async fn a_test_is_deleted_only_as_it_was_read() {
    for world in worlds().await {
        let id = world.go(RED_TECH, &world.draft().await.id, "start_execution").await.unwrap().id;
        let request = DeleteTestRequest { id: id.clone() };
        let stale = failure(world.with(under(ADMIN, Some(1), None)).delete_test(request.clone()).await);
        assert_eq!((stale.code(), stale.get("version")), (Code::PreconditionFailed, Some("2")));
        assert_eq!(world.get(&id).await.version, 2);
        world.with(under(ADMIN, Some(2), None)).delete_test(request).await.unwrap();
        world.close().await;
    }
}

#[tokio::test]
async fn what_makes_something_new_makes_it_once_for_a_key() {
    for world in worlds().await {
        let id = world.validated(Some("not_detected")).await.id;
        for _ in 0..2 {
            let mut client = world.with(under(RED_LEAD, None, Some("comment")));
            client.add_comment(AddCommentRequest { test_id: id.clone(), text: "once".into() }).await.unwrap();
            let mut client = world.with(under(RED_LEAD, None, Some("retest")));
            client.create_retest(CreateRetestRequest { test_id: id.clone() }).await.unwrap();
            let mut client = world.with(under(RED_LEAD, None, Some("remediation")));
            let request = UpdateRemediationRequest {
                id: id.clone(),
                remediation_status: Some("completed".into()),
                ..UpdateRemediationRequest::default()
            };
            let answer = client.update_remediation(request).await.unwrap().into_inner();
            assert!(answer.retest.is_some());
            let mut client = world.with(under(RED_LEAD, None, Some("assign")));
            let assign = Assignment { red_assignee: Some(id.clone()), ..Assignment::default() };
            let change = Some(change_tests_request::Change::Assign(assign));
            let answer = client.change_tests(ChangeTestsRequest { ids: vec![id.clone()], change }).await.unwrap();
            assert_eq!(answer.into_inner().changed, 1);
        }
        assert_eq!((world.comments().await.len(), world.chain(&id).await.len()), (1, 3));
        world.close().await;
    }
}
