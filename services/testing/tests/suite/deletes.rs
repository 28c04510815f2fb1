//! Deleting tests: who, in which state, and what stays.

use aegis_error::Code;
use aegis_proto::testing::v1::*;

use crate::world::*;

#[tokio::test]
async fn its_creator_deletes_a_draft_and_an_administrator_anything() {
    for world in worlds().await {
        let test = world.draft().await;
        for who in [OTHER_RED_TECH, RED_LEAD, BLUE_LEAD, BLUE_TECH, VIEWER] {
            assert_eq!(code(world.delete(who, &test.id).await), Code::Forbidden);
        }
        world.comment(BLUE_TECH, &test.id, "do we need it?").await.unwrap();
        world.delete(RED_TECH, &test.id).await.unwrap();
        let told = world.changes().await.pop().unwrap();
        assert_eq!((told.test_id.as_str(), told.version, told.deleted), (test.id.as_str(), 2, true));
        assert_eq!((told.state.as_str(), told.previous_state.as_str()), ("draft", "draft"));
        let (action, success, details) = world.audit().await.pop().unwrap();
        assert_eq!((action.as_str(), success), ("delete_test", true));
        assert_eq!((&details["name"], &details["before"]["state"]), (&test.name.as_str().into(), &"draft".into()));

        // Gone for everything that can be asked of it.
        let id = test.id.as_str();
        assert_eq!(failure(world.by(VIEWER).get_test(GetTestRequest { id: id.into() }).await).code(), Code::NotFound);
        let timeline = GetTimelineRequest { test_id: id.into(), ..GetTimelineRequest::default() };
        assert_eq!(failure(world.by(VIEWER).get_timeline(timeline).await).code(), Code::NotFound);
        assert_eq!(code(world.delete(RED_TECH, id).await), Code::NotFound);
        assert_eq!(code(world.go(RED_TECH, id, "start_execution").await), Code::NotFound);
        assert_eq!(code(world.vote(ADMIN, id, "own", true).await), Code::NotFound);
        assert_eq!(code(world.comment(RED_TECH, id, "?").await), Code::NotFound);
        assert_eq!(code(world.remedy(ADMIN, id, "completed").await), Code::NotFound);
        assert_eq!(code(world.retest(ADMIN, id).await), Code::NotFound);
        let edit = UpdateTestRequest { id: id.into(), name: Some("N".into()), ..UpdateTestRequest::default() };
        assert_eq!(failure(world.by(RED_TECH).update_test(edit).await).code(), Code::NotFound);

        let id = world.draft().await.id;
        world.go(RED_TECH, &id, "start_execution").await.unwrap();
        let refused = world.delete(RED_TECH, &id).await.unwrap_err();
        assert_eq!((refused.code(), refused.get("current_state")), (Code::InvalidState, Some("red_executing")));
        assert_eq!(
            refused.message(),
            "a test can be deleted by its creator only in draft or rejected, and this test is in red_executing"
        );
        world.delete(ADMIN, &id).await.unwrap();
        let id = world.in_review().await.id;
        world.vote(RED_LEAD, &id, "red", false).await.unwrap();
        world.delete(RED_TECH, &id).await.unwrap();
        let id = world.validated(Some("detected")).await.id;
        assert_eq!(code(world.delete(RED_TECH, &id).await), Code::InvalidState);
        world.delete(ADMIN, &id).await.unwrap();
        let all = world.by(VIEWER).list_tests(ListTestsRequest::default()).await.unwrap().into_inner();
        assert_eq!((all.tests.len(), all.total_size), (0, 0));
        world.close().await;
    }
}

#[tokio::test]
async fn a_chain_stays_one_when_a_test_of_it_is_deleted() {
    for world in worlds().await {
        let first = world.validated(Some("detected")).await.id;
        let mut ids = vec![first.clone()];
        for _ in 0..3 {
            ids.push(world.retest(RED_TECH, &first).await.unwrap().id);
        }
        let of = async |n: usize| world.get(&ids[n]).await.retest_of;
        world.delete(ADMIN, &ids[2]).await.unwrap();
        assert_eq!(of(3).await.as_ref(), Some(&ids[1]));
        let after = world.get(&ids[3]).await;
        assert_eq!(after.version, 2);
        let told = world.changes().await.into_iter().find(|c| c.test_id == ids[3] && c.version == 2).unwrap();
        assert_eq!(told.retest_of, ids[1]);
        // The first and what follows it at once.
        let bulk = [ids[1].clone(), ids[0].clone()];
        let gone = world.change(ADMIN, &bulk, change_tests_request::Change::Delete(true)).await.unwrap();
        assert_eq!((gone.changed, gone.tests.len()), (2, 0));
        assert_eq!(of(3).await, None);
        assert_eq!(world.get(&ids[3]).await.chain_id, first);
        assert_eq!(world.chain(&ids[3]).await, [(ids[3].clone(), false)]);
        world.close().await;
    }
}
