//! Comments: who, how long, and who hears of them.

use aegis_error::Code;
use aegis_proto::testing::v1::{change_tests_request::Change, *};

use crate::world::*;

#[tokio::test]
async fn everyone_but_viewers_comments_and_those_concerned_are_named() {
    for world in worlds().await {
        let test = world.in_review().await;
        let id = test.id.as_str();
        let user = |(_, name): (aegis_auth::Role, &str)| aegis_testkit::user_id(name).to_string();
        let assign = Assignment {
            red_assignee: Some(user(OTHER_RED_TECH)),
            blue_assignee: Some(user(BLUE_TECH)),
            remediation_assignee: Some(user(BLUE_TECH)),
            clear: vec![],
        };
        world.change(ADMIN, std::slice::from_ref(&test.id), Change::Assign(assign)).await.unwrap();
        let before = world.get(id).await;
        assert_eq!(code(world.comment(VIEWER, id, "hm").await), Code::Forbidden);
        let entry = world.comment(BLUE_TECH, id, "  Seen in the\nEDR ü \u{202e}\t").await.unwrap();
        assert_eq!((entry.kind.as_str(), entry.actor.as_str()), ("comment", "bert"));
        let timeline = world.timeline(id).await;
        let (last, details) = timeline.last().unwrap();
        assert_eq!(*last, entry);
        assert_eq!(details["text"], "Seen in the\nEDR ü \u{202e}");
        let told = world.comments().await.pop().unwrap();
        assert_eq!(
            (told.test_id.as_str(), told.entry_id.as_str(), told.name.as_str()),
            (id, entry.id.as_str(), test.name.as_str())
        );
        // rita made and ran it, ralf is to run it; bert, who wrote, is not told.
        assert_eq!(told.concerned, [user(RED_TECH), user(OTHER_RED_TECH)]);
        for who in [RED_TECH, RED_LEAD, BLUE_LEAD, ADMIN] {
            world.comment(who, id, "yes").await.unwrap();
        }
        assert_eq!(world.comments().await.pop().unwrap().concerned.len(), 3);
        assert_eq!(world.get(id).await, before, "a comment leaves the test as it is");
        let (action, success, details) = world.audit().await.pop().unwrap();
        assert_eq!((action.as_str(), success, &details["text"]), ("comment_test", true, &"yes".into()));
        world.close().await;
    }
}

#[tokio::test]
async fn a_comment_has_a_text_and_a_test() {
    for world in worlds().await {
        let id = world.draft().await.id;
        let said = world.outbox().await.len();
        for bad in ["", " \n\t ", "bell\u{7}", "nul\0", &"ü".repeat(10_001), &"x".repeat(1_000_000)] {
            assert_eq!(fields(&world.comment(RED_TECH, &id, bad).await.unwrap_err()), ["text"], "{:.20}", bad);
        }
        assert_eq!(fields(&world.comment(RED_TECH, "12", "").await.unwrap_err()), ["test_id", "text"]);
        let nobody = uuid::Uuid::now_v7().to_string();
        assert_eq!(code(world.comment(RED_TECH, &nobody, "hm").await), Code::NotFound);
        assert_eq!(world.outbox().await.len(), said);
        world.comment(RED_TECH, &id, &"ü".repeat(10_000)).await.unwrap();
        let details = world.timeline(&id).await.pop().unwrap().1;
        assert_eq!(details["text"].as_str().unwrap().chars().count(), 10_000);
        world.close().await;
    }
}
