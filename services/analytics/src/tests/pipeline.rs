//! Tests by state, and replicas that share the events.

use aegis_error::Code;
use aegis_events::{Bus, Consumer, Subscription};
use aegis_proto::analytics::v1::{GetTestPipelineRequest, TestCounts};
use tokio_util::sync::CancellationToken;

use super::*;
use crate::domain::pipeline::State;

pub(super) fn test(n: u128, version: i64, state: &str) -> TestChanged {
    TestChanged { test_id: Uuid::from_u128(n).to_string(), version, state: state.into(), ..TestChanged::default() }
}

async fn counts(app: &Arc<App>) -> TestCounts {
    let answer = client(app, ctx(Role::Viewer, "vera")).get_test_pipeline(GetTestPipelineRequest {}).await;
    answer.unwrap().into_inner().counts.unwrap()
}

fn by_state(counts: &TestCounts) -> [i64; 7] {
    [
        counts.draft,
        counts.red_executing,
        counts.blue_evaluating,
        counts.in_review,
        counts.validated,
        counts.rejected,
        counts.total,
    ]
}

#[tokio::test]
async fn each_test_counts_where_it_is() {
    for store in stores().await {
        let app = app(&store.db);
        assert_eq!(by_state(&counts(&app).await), [0; 7]);
        hear(&app, &[test(1, 1, "draft"), test(2, 1, "draft"), test(3, 4, "in_review")]).await.unwrap();
        assert_eq!(by_state(&counts(&app).await), [2, 0, 0, 1, 0, 0, 3]);
        // Moved; an edit; late; again.
        hear(
            &app,
            &[test(1, 2, "red_executing"), test(2, 3, "draft"), test(2, 2, "rejected"), test(1, 2, "validated")],
        )
        .await
        .unwrap();
        assert_eq!(by_state(&counts(&app).await), [1, 1, 0, 1, 0, 0, 3]);
        let gone = TestChanged { deleted: true, ..test(2, 4, "") };
        hear(&app, &[gone.clone(), test(2, 3, "draft"), gone]).await.unwrap();
        assert_eq!(by_state(&counts(&app).await), [0, 1, 0, 1, 0, 0, 2]);
        // Deleted before anything else was heard of it.
        hear(&app, &[TestChanged { deleted: true, ..test(4, 2, "draft") }, test(4, 1, "draft")]).await.unwrap();
        assert_eq!(counts(&app).await.total, 2);

        let before = dump(&store.db).await;
        let bad = TestChanged { test_id: "five".into(), ..test(5, 1, "draft") };
        assert_eq!(hear(&app, &[bad]).await.unwrap_err().code(), Code::Validation);
        // A state that only a newer version knows is no fault, and changes nothing.
        hear(&app, &[test(5, 1, "teleported")]).await.unwrap();
        assert_eq!(dump(&store.db).await, before);
        store.close().await;
    }
}

/// Two replicas hear parts of the same events at the same time.
#[tokio::test]
async fn replicas_that_share_the_events_count_each_once() {
    for store in stores().await {
        let app = app(&store.db);
        let consume = |events: Vec<TestChanged>| {
            let (app, db) = (Arc::clone(&app), store.db.clone());
            async move {
                let bus = Bus::local();
                let handler = Arc::new(projector(&app));
                let subscription = Subscription { consumer: NAME, kinds: &[TestChanged::KIND] };
                let _ = bus.subscribe(Consumer::new(subscription, db, handler));
                // An owner with a database of its own: its relay brings what is in its outbox to this replica.
                let owner = Db::memory().await.unwrap();
                owner.migrate(&[aegis_events::migrations()]).await.unwrap();
                let outbox = Outbox::new("testing");
                for some in events.chunks(20) {
                    let mut tx = owner.begin().await.unwrap();
                    for event in some {
                        outbox.publish(&mut tx, &ctx(Role::Admin, "ada"), &event.test_id, event).await.unwrap();
                    }
                    tx.commit().await.unwrap();
                    let stop = CancellationToken::new();
                    stop.cancel();
                    outbox.clone().relay(owner.clone(), bus.clone(), stop).await;
                }
            }
        };
        let all: Vec<TestChanged> = (0..400)
            .map(|n: usize| {
                let state = State::ALL[n % 6].as_str();
                TestChanged {
                    state: state.into(),
                    ..projection::validated((n % 50) as u128, (n / 50) as i64 + 1, 1, "detected", 5)
                }
            })
            .collect();
        let (even, odd): (Vec<_>, Vec<_>) = all.iter().cloned().enumerate().partition(|(n, _)| n % 2 == 0);
        let only = |some: Vec<(usize, TestChanged)>| some.into_iter().map(|(_, test)| test).collect::<Vec<_>>();
        // A third hears everything, the newest first.
        let backwards: Vec<TestChanged> = all.iter().rev().cloned().collect();
        tokio::join!(consume(only(even)), consume(only(odd)), consume(backwards));
        let mut model = [0; 7];
        for test in &all[350..] {
            model[State::parse(&test.state).unwrap() as usize] += 1;
            model[6] += 1;
        }
        assert_eq!(by_state(&counts(&app).await), model, "{}", store.name);
        let counted = dump(&store.db).await.counts;
        assert_eq!((counted[0].1, counted[0].3), (50, model[4]), "{}", store.name);
        let dead: i64 =
            read!(&store.db, |pool| sqlx::query_scalar("SELECT COUNT(*) FROM dead_letter").fetch_one(pool).await)
                .unwrap();
        assert_eq!(dead, 0);
        store.close().await;
    }
}
