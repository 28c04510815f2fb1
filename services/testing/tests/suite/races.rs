//! Many who ask for the same at once: exactly one gets it, and the others are told as the reference tells it.

use aegis_auth::Role;
use aegis_error::{Code, Failure};
use aegis_proto::testing::v1::change_tests_request::Change;
use futures::future::join_all;

use crate::world::*;

const RACERS: usize = 24;

type Person = (Role, &'static str);

/// The success and the refusals.
fn split<T: std::fmt::Debug>(answers: Vec<Result<T, Failure>>) -> (Vec<T>, Vec<Failure>) {
    let (won, lost): (Vec<_>, Vec<_>) = answers.into_iter().partition(Result::is_ok);
    (won.into_iter().map(Result::unwrap).collect(), lost.into_iter().map(Result::unwrap_err).collect())
}

#[tokio::test(flavor = "multi_thread")]
async fn each_move_is_made_once_however_many_ask() {
    for world in worlds().await {
        let id = world.draft().await.id;
        let way: [(&str, &[Person], &str); 3] = [
            (
                "start_execution",
                &[RED_TECH, OTHER_RED_TECH, RED_LEAD, ADMIN],
                "Cannot transition from 'red_executing' to 'red_executing'. Valid transitions: ['blue_evaluating']",
            ),
            (
                "submit_red",
                &[RED_TECH, RED_LEAD, ADMIN],
                "Cannot transition from 'blue_evaluating' to 'blue_evaluating'. Valid transitions: ['in_review']",
            ),
            (
                "submit_blue",
                &[BLUE_TECH, BLUE_LEAD, ADMIN],
                "Cannot transition from 'in_review' to 'in_review'. Valid transitions: ['validated', 'rejected']",
            ),
        ];
        for (n, (action, people, refusal)) in way.into_iter().enumerate() {
            let (world, id) = (&world, id.as_str());
            let answers =
                join_all((0..RACERS).map(|n| async move { world.go(people[n % people.len()], id, action).await }))
                    .await;
            let (won, lost) = split(answers);
            assert_eq!((won.len(), lost.len()), (1, RACERS - 1), "{action}");
            assert_eq!(won[0].version, i64::try_from(n).unwrap() + 2);
            for failure in lost {
                assert_eq!((failure.code(), failure.message()), (Code::InvalidTransition, refusal));
                assert_eq!(failure.get("current_state"), Some(won[0].state.as_str()));
            }
        }
        let versions: Vec<i64> = world.changes().await.iter().map(|change| change.version).collect();
        assert_eq!(versions, [1, 2, 3, 4]);
        assert_eq!((world.timeline(&id).await.len(), world.audit().await.len()), (4, 4));
        world.close().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn of_many_rejections_one_ends_the_review_and_of_many_who_reopen_one_does() {
    for world in worlds().await {
        let id = world.in_review().await.id;
        let people = [(RED_LEAD, "red"), (BLUE_LEAD, "blue"), (ADMIN, "own")];
        let (w, test) = (&world, id.as_str());
        let answers = join_all((0..RACERS).map(|n| {
            let (who, side) = people[n % people.len()];
            async move { w.vote(who, test, side, false).await }
        }))
        .await;
        let (won, lost) = split(answers);
        assert_eq!((won.len(), lost.len()), (1, RACERS - 1));
        assert_eq!(won[0].state, "rejected");
        for failure in lost {
            assert_eq!(
                (failure.code(), failure.message()),
                (
                    Code::InvalidTransition,
                    "Cannot transition from 'rejected' to 'rejected'. Valid transitions: ['draft']"
                )
            );
        }
        let people = [RED_TECH, RED_LEAD, BLUE_LEAD, ADMIN];
        let answers =
            join_all((0..RACERS).map(|n| async move { w.go(people[n % people.len()], test, "reopen").await })).await;
        let (won, lost) = split(answers);
        assert_eq!((won.len(), won[0].state.as_str()), (1, "draft"));
        assert!(lost.iter().all(|failure| failure.code() == Code::InvalidTransition));
        let versions: Vec<i64> = world.changes().await.iter().map(|change| change.version).collect();
        assert_eq!(versions, [1, 2, 3, 4, 5, 6]);
        world.close().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn leads_who_vote_at_once_leave_one_end() {
    for world in worlds().await {
        for n in 0..6 {
            let id = world.in_review().await.id;
            // One approves what the other rejects: rejected, whoever was first.
            let (red, blue) =
                tokio::join!(world.vote(RED_LEAD, &id, "red", true), world.vote(BLUE_LEAD, &id, "blue", false));
            let test = world.get(&id).await;
            assert_eq!((test.state.as_str(), test.blue_validation_status.as_str()), ("rejected", "rejected"), "{n}");
            blue.unwrap();
            match red {
                Ok(_) => assert_eq!(test.red_validation_status, "approved"),
                Err(late) => {
                    assert_eq!(
                        late.message(),
                        "Cannot transition from 'rejected' to 'validated'. Valid transitions: ['draft']"
                    );
                    assert_eq!(test.red_validation_status, "pending");
                }
            }
        }
        world.close().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_vote_after_the_end_is_refused_and_changes_nothing() {
    for world in worlds().await {
        let test = world.validated(Some("detected")).await;
        let said = world.outbox().await.len();
        for (who, side, approve, target) in [
            (RED_LEAD, "red", true, "validated"),
            (BLUE_LEAD, "blue", false, "rejected"),
            (ADMIN, "own", false, "rejected"),
        ] {
            let late = world.vote(who, &test.id, side, approve).await.unwrap_err();
            assert_eq!(late.code(), Code::InvalidTransition);
            assert_eq!(
                late.message(),
                format!("Cannot transition from 'validated' to '{target}'. Valid transitions: []")
            );
            assert_eq!(late.get("current_state"), Some("validated"));
            assert_eq!(late.get("target_state"), Some(target));
            assert_eq!(late.get("valid_transitions"), Some(""));
        }
        assert_eq!((world.get(&test.id).await, world.outbox().await.len()), (test, said));
        world.close().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn of_many_who_delete_one_does_and_the_others_find_nothing() {
    for world in worlds().await {
        let id = world.draft().await.id;
        let (w, test) = (&world, id.as_str());
        let (won, lost) = split(join_all((0..RACERS).map(|_| w.delete(RED_TECH, test))).await);
        assert_eq!((won.len(), lost.len()), (1, RACERS - 1));
        assert!(lost.iter().all(|failure| failure.code() == Code::NotFound));
        // And of deleting and moving at once, each is done before the other or not at all.
        let id = world.draft().await.id;
        let (gone, moved) = tokio::join!(world.delete(ADMIN, &id), world.go(RED_TECH, &id, "start_execution"));
        gone.unwrap();
        assert!(moved.map_or_else(|failure| failure.code() == Code::NotFound, |test| test.version == 2));
        assert_eq!(code(world.go(RED_TECH, &id, "start_execution").await), Code::NotFound);
        world.close().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn of_bulk_changes_that_cross_one_wins_and_none_waits_for_ever() {
    for world in worlds().await {
        let mut ids = Vec::new();
        for _ in 0..12 {
            ids.push(world.draft().await.id);
        }
        let backwards: Vec<String> = ids.iter().rev().cloned().collect();
        let (w, ids, backwards) = (&world, &ids, &backwards);
        let answers = join_all((0..RACERS).map(|n| async move {
            let ids = if n % 2 == 0 { ids } else { backwards };
            w.change(RED_TECH, ids, Change::Move("start_execution".into())).await
        }))
        .await;
        let (won, lost) = split(answers);
        assert_eq!((won.len(), won[0].changed), (1, 12));
        assert!(lost.iter().all(|failure| failure.code() == Code::InvalidTransition), "{lost:?}");
        for id in ids {
            assert_eq!(world.get(id).await.version, 2);
        }
        world.close().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_remediation_that_many_complete_at_once_makes_one_retest() {
    for world in worlds().await {
        let id = world.validated(Some("not_detected")).await.id;
        let (w, test) = (&world, id.as_str());
        let answers = join_all((0..RACERS).map(|_| w.remedy(BLUE_TECH, test, "completed"))).await;
        let retests = answers.into_iter().filter(|answer| answer.as_ref().unwrap().1.is_some()).count();
        assert_eq!((retests, world.chain(&id).await.len()), (1, 2));
        // By hand there may be more, but never more than the chain may have.
        let (won, lost) = split(join_all((0..RACERS).map(|_| w.retest(RED_TECH, test))).await);
        assert_eq!((won.len(), lost.len(), world.chain(&id).await.len()), (4, RACERS - 4, 6));
        assert!(lost.iter().all(|failure| failure.code() == Code::Conflict), "{lost:?}");
        // Each follows another one.
        let mut followed: Vec<_> = won.iter().map(|test| test.retest_of.clone()).collect();
        followed.sort();
        followed.dedup();
        assert_eq!(followed.len(), 4);
        world.close().await;
    }
}
