//! Tests by state, however their events arrive.

use std::collections::{BTreeMap, HashMap};

use aegis_events::{Consumer, Subscription};
use aegis_proto::{
    analytics::v1::{ProjectedTest, TestCounts},
    events::v1::TestChanged,
};
use tokio_util::sync::CancellationToken;

use super::*;
use crate::domain::pipeline::State;

/// A small generator, so that a failure can be run again.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % sides
    }
}

fn test(n: u128, version: i64, state: &str) -> TestChanged {
    TestChanged { test_id: Uuid::from_u128(n).to_string(), version, state: state.into(), ..TestChanged::default() }
}

fn envelope(test: &TestChanged) -> Envelope {
    Envelope {
        // The same event has the same id.
        id: format!("{} {}", test.test_id, test.version),
        r#type: TestChanged::KIND.into(),
        data: test.encode_to_vec(),
        ..Envelope::default()
    }
}

/// Brings events straight to the projector, several in a transaction.
async fn hear(app: &App, tests: &[TestChanged]) -> Result<(), Failure> {
    let projector = Projector::new(app.coverage().clone());
    for some in tests.chunks(64) {
        let mut tx = app.db.begin().await?;
        for test in some {
            projector.handle(&mut tx, &envelope(test)).await?;
        }
        tx.commit_relaxed().await?;
    }
    Ok(())
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

/// Everything that is known of tests.
async fn known(db: &Db) -> (Vec<(Uuid, i64, String)>, BTreeMap<String, i64>) {
    let tests: Vec<(Uuid, i64, String)> = read!(db, |pool| sqlx::query_as(
        "SELECT test_id, version, state FROM test_fact WHERE deleted = FALSE ORDER BY test_id"
    )
    .fetch_all(pool)
    .await)
    .unwrap();
    let counts: Vec<(String, i64)> =
        read!(db, |pool| sqlx::query_as("SELECT state, n FROM test_count").fetch_all(pool).await).unwrap();
    (tests, counts.into_iter().collect())
}

async fn export(app: &Arc<App>, started_at: Option<prost_types::Timestamp>, tests: &[TestChanged]) -> i64 {
    let parts: Vec<_> = tests
        .chunks(100)
        .map(|some| RebuildProjectionRequest {
            tests: some
                .iter()
                .map(|t| ProjectedTest { id: t.test_id.clone(), version: t.version, state: t.state.clone() })
                .collect(),
            started_at,
            ..Default::default()
        })
        .collect();
    let mut client = client(app, ctx(Role::Service, "system:aegis"));
    client.rebuild_projection(stream::iter(parts)).await.unwrap().into_inner().tests
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

        let before = known(&store.db).await;
        for bad in [test(5, 1, "done"), TestChanged { test_id: "five".into(), ..test(5, 1, "draft") }] {
            assert_eq!(hear(&app, &[bad]).await.unwrap_err().code(), Code::Validation);
        }
        assert_eq!(known(&store.db).await, before);
        store.close().await;
    }
}

#[tokio::test]
async fn in_any_order_with_duplicates_and_gaps_it_is_what_a_rebuild_makes() {
    for store in stores().await {
        let app = app(&store.db);
        for seed in 0..8 {
            let mut dice = Dice(seed);
            // What the owner has at the end, and the events on the way there.
            let mut last: HashMap<u128, TestChanged> = HashMap::new();
            let mut arriving = Vec::new();
            for n in 0..120_u128 {
                let n = n + 1000 * u128::from(seed);
                let versions = 1 + dice.roll(6) as i64;
                for version in 1..=versions {
                    let mut event = test(n, version, State::ALL[dice.roll(6)].as_str());
                    event.deleted = version == versions && dice.roll(6) == 0;
                    // The last one always comes, of the others one in five does not.
                    if version == versions || dice.roll(5) > 0 {
                        arriving.extend(std::iter::repeat_n(event.clone(), 1 + dice.roll(3)));
                    }
                    last.insert(n, event);
                }
            }
            for i in (1..arriving.len()).rev() {
                arriving.swap(i, dice.roll(i + 1));
            }
            hear(&app, &arriving).await.unwrap();

            let owned: Vec<TestChanged> = last.into_values().filter(|test| !test.deleted).collect();
            let mut model = [0; 7];
            for test in &owned {
                model[State::parse(&test.state).unwrap() as usize] += 1;
                model[6] += 1;
            }
            assert_eq!(by_state(&counts(&app).await), model, "seed {seed} on {}", store.name);
            let incremental = known(&store.db).await;
            assert_eq!(incremental.0.len(), owned.len());
            assert_eq!(export(&app, None, &owned).await, owned.len() as i64);
            assert_eq!(known(&store.db).await, incremental, "seed {seed} on {}", store.name);

            // Also when what was there is wrong, as after a restored backup.
            hear(&app, &[test(7, 900, "validated"), TestChanged { version: 900, ..owned[0].clone() }]).await.unwrap();
            export(&app, None, &owned).await;
            assert_eq!(known(&store.db).await, incremental, "seed {seed} on {}", store.name);
            // From nothing, and away.
            rebuild(&app, &ctx(Role::Admin, "ada"), Vec::new()).await.unwrap();
            assert_eq!(by_state(&counts(&app).await), [0; 7]);
        }
        store.close().await;
    }
}

#[tokio::test]
async fn what_comes_during_the_export_of_a_rebuild_stays() {
    for store in stores().await {
        let app = app(&store.db);
        for empty in [true, false] {
            if !empty {
                hear(&app, &[test(1, 1, "draft"), test(2, 1, "draft"), test(3, 1, "draft")]).await.unwrap();
            }
            let mut service = client(&app, ctx(Role::Service, "system:aegis"));
            let start = service.get_rebuild_start(GetRebuildStartRequest {}).await.unwrap().into_inner().started_at;
            // The export is read now; while it is on its way one moves, one is deleted, one is made.
            let exported = [test(1, 1, "draft"), test(2, 1, "draft"), test(3, 1, "draft")];
            let during = [
                test(1, 2, "red_executing"),
                TestChanged { deleted: true, ..test(2, 2, "draft") },
                test(4, 1, "draft"),
            ];
            hear(&app, &during).await.unwrap();
            export(&app, start, &exported).await;
            assert_eq!(by_state(&counts(&app).await), [2, 1, 0, 0, 0, 0, 3], "{}, empty: {empty}", store.name);
            rebuild(&app, &ctx(Role::Admin, "ada"), Vec::new()).await.unwrap();
        }
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
                let handler = Arc::new(Projector::new(app.coverage().clone()));
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
        let all: Vec<TestChanged> =
            (0..400).map(|n: usize| test((n % 50) as u128, (n / 50) as i64 + 1, State::ALL[n % 6].as_str())).collect();
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
        let dead: i64 =
            read!(&store.db, |pool| sqlx::query_scalar("SELECT COUNT(*) FROM dead_letter").fetch_one(pool).await)
                .unwrap();
        assert_eq!(dead, 0);
        store.close().await;
    }
}
