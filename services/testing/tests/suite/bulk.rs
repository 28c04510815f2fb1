//! Many tests at once: all of them or none, each as if it were asked for alone.

use aegis_error::Code;
use aegis_proto::testing::v1::{change_tests_request::Change, *};

use crate::{identity, world::*};

async fn drafts(world: &World, n: usize) -> Vec<String> {
    let mut ids = Vec::with_capacity(n);
    for _ in 0..n {
        ids.push(world.draft().await.id);
    }
    ids
}

fn start() -> Change {
    Change::Move("start_execution".into())
}

#[tokio::test]
async fn tests_are_assigned_by_leads_and_their_creator() {
    for world in worlds().await {
        let ids = drafts(&world, 3).await;
        let user = |name: &str| Some(aegis_testkit::user_id(name).to_string());
        let assign = |red: &str| {
            Change::Assign(Assignment { red_assignee: user(red), blue_assignee: user("bert"), ..Assignment::default() })
        };
        for who in [OTHER_RED_TECH, BLUE_TECH, VIEWER] {
            assert_eq!(code(world.change(who, &ids, assign("rita")).await), Code::Forbidden);
        }
        let order = [ids[2].clone(), ids[0].clone(), ids[1].clone()];
        for (n, (who, red)) in
            [(RED_TECH, "a"), (RED_LEAD, "b"), (BLUE_LEAD, "c"), (ADMIN, "d")].into_iter().enumerate()
        {
            let done = world.change(who, &order, assign(red)).await.unwrap();
            assert_eq!(done.tests.iter().map(|test| &test.id).collect::<Vec<_>>(), order.iter().collect::<Vec<_>>());
            assert_eq!(done.changed, 3);
            for test in done.tests {
                assert_eq!((test.red_assignee.clone(), test.blue_assignee.clone()), (user(red), user("bert")));
                assert_eq!(test.version, i64::try_from(n).unwrap() + 2);
                assert_eq!(world.get(&test.id).await, test);
            }
        }
        // The same again is no change, and says nothing.
        let said = world.outbox().await.len();
        let same = world.change(ADMIN, &ids, assign("d")).await.unwrap();
        assert_eq!((same.changed, same.tests.len(), world.outbox().await.len()), (0, 3, said));

        let mend = Assignment {
            remediation_assignee: user("ralf"),
            clear: vec!["red_assignee".into()],
            ..Assignment::default()
        };
        let done = world.change(ADMIN, &ids[..1], Change::Assign(mend)).await.unwrap();
        assert_eq!((&done.tests[0].red_assignee, &done.tests[0].blue_assignee), (&None, &user("bert")));
        let told = world.changes().await.pop().unwrap();
        assert_eq!(told.notes, ["remediation_assigned"]);
        assert_eq!(Some(told.remediation_assignee), user("ralf"));
        let (entry, details) = world.timeline(&ids[0]).await.pop().unwrap();
        assert_eq!((entry.kind.as_str(), &details["action"]), ("assignment", &"assign_test".into()));
        assert_eq!(details["after"]["remediation_assignee"], user("ralf").unwrap());
        assert_eq!(details["before"]["red_assignee"], user("d").unwrap());

        let bad = Assignment {
            red_assignee: Some("rita".into()),
            blue_assignee: user("bert"),
            clear: vec!["blue_assignee".into(), "name".into()],
            ..Assignment::default()
        };
        let refused = world.change(ADMIN, &ids, Change::Assign(bad)).await.unwrap_err();
        assert_eq!(fields(&refused), ["clear", "red_assignee", "blue_assignee"]);
        let absent = Assignment {
            red_assignee: user(identity::DISABLED),
            blue_assignee: user("bert"),
            remediation_assignee: user(identity::DELETED),
            clear: Vec::new(),
        };
        let refused = world.change(RED_LEAD, &ids, Change::Assign(absent.clone())).await.unwrap_err();
        let mut named = fields(&refused);
        named.sort_unstable();
        assert_eq!(named, ["red_assignee", "remediation_assignee"]);
        assert_eq!(world.get(&ids[1]).await.blue_assignee, user("bert"));
        assert_eq!(code(world.change(VIEWER, &ids, Change::Assign(absent)).await), Code::Forbidden);
        let empty = world.change(ADMIN, &ids, Change::Assign(Assignment::default())).await.unwrap_err();
        assert_eq!(fields(&empty), ["assign"]);
        // Somebody else's among one's own.
        let request = CreateTestRequest {
            technique_id: crate::catalog::POWERSHELL.into(),
            name: "By ada".into(),
            ..CreateTestRequest::default()
        };
        let other = world.by(ADMIN).create_test(request).await.unwrap().into_inner().test.unwrap();
        let mixed = [ids[0].clone(), other.id];
        let refused = world.change(RED_TECH, &mixed, assign("e")).await.unwrap_err();
        assert_eq!((refused.code(), refused.fields().len()), (Code::Forbidden, 1));
        assert_eq!(refused.fields()[0].field, "ids[1]");
        assert!(refused.fields()[0].problem.contains(&mixed[1]));
        world.close().await;
    }
}

#[tokio::test]
async fn all_of_them_move_or_none() {
    for world in worlds().await {
        let ids = drafts(&world, 5).await;
        world.go(RED_TECH, &ids[3], "start_execution").await.unwrap();
        let before = world.outbox().await.len();
        let refused = world.change(RED_TECH, &ids, start()).await.unwrap_err();
        assert_eq!(refused.code(), Code::InvalidTransition);
        assert_eq!(refused.fields().len(), 1);
        assert_eq!(refused.fields()[0].field, "ids[3]");
        assert_eq!(
            refused.fields()[0].problem,
            format!(
                "{}: Cannot transition from 'red_executing' to 'red_executing'. Valid transitions: ['blue_evaluating']",
                ids[3]
            )
        );
        assert_eq!(refused.get("current_state"), Some("red_executing"));
        let nobody = uuid::Uuid::now_v7().to_string();
        let missing = [ids[0].clone(), nobody.clone(), ids[1].clone()];
        let refused = world.change(RED_TECH, &missing, start()).await.unwrap_err();
        assert_eq!((refused.code(), refused.fields()[0].field.as_str()), (Code::NotFound, "ids[1]"));
        assert!(refused.fields()[0].problem.contains(&nobody));
        assert_eq!(code(world.change(BLUE_TECH, &ids, start()).await), Code::Forbidden);
        for (n, id) in ids.iter().enumerate() {
            assert_eq!(world.get(id).await.version, if n == 3 { 2 } else { 1 });
        }
        // Only the refusal for the wrong role was written down.
        assert_eq!(world.outbox().await.len(), before + 1);

        let rest = [ids[4].clone(), ids[0].clone(), ids[1].clone(), ids[2].clone()];
        let done = world.change(RED_TECH, &rest, start()).await.unwrap();
        assert_eq!(done.changed, 4);
        for (test, id) in done.tests.iter().zip(&rest) {
            assert_eq!((&test.id, test.state.as_str(), test.version), (id, "red_executing", 2));
            assert!(test.execution_date.is_some() && test.executed_by.is_some());
            let (entry, details) = world.timeline(id).await.pop().unwrap();
            assert_eq!((entry.kind.as_str(), &details["to"]), ("transition", &"red_executing".into()));
        }
        let starts = world.audit().await.iter().filter(|(action, ok, _)| action == "start_execution" && *ok).count();
        assert_eq!(starts, 5);
        assert_eq!(world.changes().await.iter().filter(|c| c.version == 2).count(), 5);
        world.change(RED_LEAD, &ids, Change::Move("submit_red".into())).await.unwrap();
        world.change(BLUE_LEAD, &ids, Change::Move("submit_blue".into())).await.unwrap();
        world.close().await;
    }
}

#[tokio::test]
async fn the_request_itself_is_bounded_and_names_what_is_wrong() {
    for world in worlds().await {
        let ids = drafts(&world, 2).await;
        let of = |ids: &[String], change| {
            let request = ChangeTestsRequest { ids: ids.to_vec(), change };
            let mut client = world.by(ADMIN);
            async move { failure(client.change_tests(request).await) }
        };
        assert_eq!(fields(&of(&[], Some(start())).await), ["ids"]);
        let many: Vec<String> = (0..501).map(|_| uuid::Uuid::now_v7().to_string()).collect();
        assert_eq!(fields(&of(&many, Some(start())).await), ["ids"]);
        let twice = [ids[0].clone(), ids[1].clone(), ids[0].to_uppercase(), "x".into()];
        assert_eq!(fields(&of(&twice, Some(start())).await), ["ids[2]", "ids[3]"]);
        assert_eq!(fields(&of(&ids, None).await), ["change"]);
        assert_eq!(fields(&of(&ids, Some(Change::Delete(false))).await), ["change"]);
        assert_eq!(fields(&of(&ids, Some(Change::Move("approve".into()))).await), ["move"]);
        // However many are wrong, the answer stays small.
        let unknown = of(&many[..500], Some(start())).await;
        assert_eq!((unknown.code(), unknown.fields().len()), (Code::NotFound, 21));
        assert_eq!(unknown.fields()[20].problem, "and 480 more");
        for id in &ids {
            assert_eq!(world.get(id).await.version, 1);
        }
        world.close().await;
    }
}

#[tokio::test]
async fn five_hundred_go_in_one_request() {
    for world in worlds().await {
        let ids = drafts(&world, 500).await;
        assert_eq!(world.change(ADMIN, &ids, start()).await.unwrap().changed, 500);
        let refused = world.change(RED_TECH, &ids, Change::Delete(true)).await.unwrap_err();
        assert_eq!((refused.code(), refused.fields().len()), (Code::InvalidState, 21));
        let gone = world.change(ADMIN, &ids, Change::Delete(true)).await.unwrap();
        assert_eq!((gone.changed, gone.tests.len()), (500, 0));
        let deleted = world.changes().await.iter().filter(|change| change.deleted && change.version == 3).count();
        assert_eq!(deleted, 500);
        let all = world.by(VIEWER).list_tests(ListTestsRequest::default()).await.unwrap().into_inner();
        assert_eq!((all.tests.len(), all.total_size), (0, 0));
        world.close().await;
    }
}
