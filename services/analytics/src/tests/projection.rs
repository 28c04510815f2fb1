//! What tests say of techniques: in any order of events, with duplicates and gaps, it is what a rebuild makes of what the
//! owners have.

use std::collections::{BTreeMap, BTreeSet};

use aegis_error::Code;
use prost_types::Timestamp;

use super::{owners::Owned, pipeline::test, *};
use crate::domain::{Status, matrix::Verdicts};

/// A test of technique `technique`, validated at a second, with a chain of its own.
pub(super) fn validated(n: u128, version: i64, technique: u128, result: &str, at: i64) -> TestChanged {
    TestChanged {
        technique_id: Uuid::from_u128(technique).to_string(),
        mitre_id: format!("T{technique:04}"),
        name: format!("Test {n}, version {version}"),
        detection_result: result.into(),
        platform: " Linux".into(),
        created_by: Uuid::from_u128(1).to_string(),
        chain_id: Uuid::from_u128(n).to_string(),
        validated_at: Some(Timestamp { seconds: 1_700_000_000 + at, nanos: 0 }),
        ..test(n, version, "validated")
    }
}

fn in_chain(chain: u128, test: TestChanged) -> TestChanged {
    TestChanged { chain_id: Uuid::from_u128(chain).to_string(), retest_of: Uuid::from_u128(chain).to_string(), ..test }
}

async fn verdicts(app: &App, mitre_id: &str) -> Verdicts {
    app.matrix().await.unwrap().find(mitre_id).unwrap().tests.clone()
}

fn moment(at: i64) -> Option<DateTime<Utc>> {
    DateTime::from_timestamp(1_700_000_000 + at, 0)
}

#[tokio::test]
async fn the_newest_of_each_chain_counts() {
    for store in stores().await {
        let app = app(&store.db);
        // Tests may be heard of before their technique.
        hear(&app, &[validated(1, 1, 7, "not_detected", 5), validated(2, 1, 7, "detected", 3)]).await.unwrap();
        take_in(&app, &[facts(7, "partial", &["execution"], 1)]).await.unwrap();
        let expected = Verdicts {
            all: 2,
            validated: 2,
            detected: 1,
            not_detected: 1,
            last_validated_at: moment(5),
            platforms: BTreeSet::from(["linux".to_owned()]),
            ..Verdicts::default()
        };
        assert_eq!(verdicts(&app, "T0007").await, expected);

        // A retest that is open changes nothing but the number; one that is validated takes the place.
        hear(&app, &[in_chain(1, test(3, 1, "draft"))]).await.unwrap();
        assert_eq!(verdicts(&app, "T0007").await, expected, "a test without a technique is counted for none");
        let retest =
            TestChanged { platform: "macOS".into(), ..in_chain(1, validated(3, 2, 7, "partially_detected", 9)) };
        hear(&app, std::slice::from_ref(&retest)).await.unwrap();
        let platforms = BTreeSet::from(["linux".to_owned(), "macos".to_owned()]);
        let after = Verdicts {
            all: 3,
            validated: 3,
            partially_detected: 1,
            not_detected: 0,
            last_validated_at: moment(9),
            platforms,
            ..expected.clone()
        };
        assert_eq!(verdicts(&app, "T0007").await, after);

        // Gone again: the one before it stands, and so does its moment.
        hear(&app, &[TestChanged { version: 3, deleted: true, ..retest }]).await.unwrap();
        assert_eq!(verdicts(&app, "T0007").await, expected);
        // Without a result it says nothing.
        hear(&app, &[validated(1, 2, 7, "", 5)]).await.unwrap();
        let fewer = Verdicts { validated: 1, not_detected: 0, last_validated_at: moment(3), ..expected };
        assert_eq!(verdicts(&app, "T0007").await, fewer);
        store.close().await;
    }
}

/// Counted the long way, as the specification says it.
fn model(tests: &[TestChanged]) -> BTreeMap<String, Verdicts> {
    let mut all: BTreeMap<String, Verdicts> = BTreeMap::new();
    let mut chains: BTreeMap<(String, String), Vec<&TestChanged>> = BTreeMap::new();
    for test in tests {
        let sum = all.entry(test.technique_id.clone()).or_default();
        sum.all += 1;
        if test.state == "validated" && !test.detection_result.is_empty() {
            sum.validated += 1;
            chains.entry((test.technique_id.clone(), test.chain_id.clone())).or_default().push(test);
        }
    }
    for ((technique, _), mut chain) in chains {
        chain.sort_by_key(|test| (test.validated_at.map(|at| at.seconds), test.test_id.clone()));
        let newest = chain[chain.len() - 1];
        let sum = all.get_mut(&technique).unwrap();
        *match newest.detection_result.as_str() {
            "detected" => &mut sum.detected,
            "partially_detected" => &mut sum.partially_detected,
            _ => &mut sum.not_detected,
        } += 1;
        sum.last_validated_at =
            sum.last_validated_at.max(newest.validated_at.and_then(|at| DateTime::from_timestamp(at.seconds, 0)));
        sum.platforms.insert(newest.platform.trim().to_lowercase());
    }
    all
}

/// Versions of tests and techniques on their way to what the owners have at the end.
fn history(dice: &mut Dice, seed: u64) -> (Owned, Vec<TestChanged>, Vec<TechniqueFacts>) {
    let mut owned = Owned::default();
    let mut tests = Vec::new();
    for n in 0..150_u128 {
        let n = n + 1000 * u128::from(seed);
        let versions = 1 + dice.roll(5) as i64;
        for version in 1..=versions {
            let result = dice.pick(&["detected", "partially_detected", "not_detected", ""]);
            let state = dice.pick(&["draft", "in_review", "validated", "validated", "validated", "rejected"]);
            let mut event = validated(n, version, n % 7, result, dice.roll(20) as i64);
            // Four in a chain.
            event.chain_id = Uuid::from_u128(n / 28 * 28 + n % 7).to_string();
            event.state = state.into();
            event.platform = dice.pick(&["linux", "Windows ", "macos"]).into();
            event.deleted = version == versions && dice.roll(6) == 0;
            if state != "validated" {
                event.validated_at = None;
            }
            // The last one always comes, of the others one in five does not.
            if version == versions || dice.roll(5) > 0 {
                tests.extend(std::iter::repeat_n(event.clone(), 1 + dice.roll(3)));
            }
            if version == versions {
                owned.tests.push(event);
            }
        }
    }
    let mut techniques = Vec::new();
    for n in 0..20 {
        let versions = 1 + dice.roll(4) as i64;
        for version in 1..=versions {
            let mut event = facts(
                n,
                dice.pick(&["validated", "partial", "not_covered"]),
                &[dice.pick(&["execution", "impact"])],
                version,
            );
            event.revoked = dice.roll(5) == 0;
            event.deleted = version == versions && n > 10 && dice.roll(4) == 0;
            if version == versions || dice.roll(5) > 0 {
                techniques.extend(std::iter::repeat_n(event.clone(), 1 + dice.roll(2)));
            }
            if version == versions {
                owned.techniques.push(event);
            }
        }
    }
    dice.shuffle(&mut tests);
    dice.shuffle(&mut techniques);
    (owned, tests, techniques)
}

#[tokio::test]
async fn in_any_order_with_duplicates_and_gaps_it_is_what_a_rebuild_makes() {
    for store in stores().await {
        let world = World::default();
        let app = app_of(&store.db, &world);
        for seed in 0..6 {
            let mut dice = Dice(seed);
            let (owned, mut tests, mut techniques) = history(&mut dice, seed);
            *world.0.lock().unwrap() = owned;
            world.0.lock().unwrap().known = vec![knowledge::record("detection_rule", "sigma:1", &["T0001"])];
            while !tests.is_empty() || !techniques.is_empty() {
                let some = tests.split_off(tests.len() - tests.len().min(1 + dice.roll(40)));
                hear(&app, &some).await.unwrap();
                let some = techniques.split_off(techniques.len() - techniques.len().min(1 + dice.roll(5)));
                take_in(&app, &some).await.unwrap();
            }
            let there: Vec<TestChanged> =
                world.0.lock().unwrap().tests.iter().filter(|test| !test.deleted).cloned().collect();
            let expected = model(&there);
            let matrix = app.matrix().await.unwrap();
            for technique in &matrix.techniques {
                let said = expected.get(&technique.id.to_string()).cloned().unwrap_or_default();
                assert_eq!(technique.tests, said, "seed {seed} on {}", store.name);
            }
            let before = dump(&store.db).await;
            assert_eq!(before.tests.len(), there.len());

            let due = crate::store::knowledge::due(&store.db).await.unwrap();
            if !due.is_empty() {
                app.pull_known(&admin(), &due).await.unwrap();
            }
            let incremental = dump(&store.db).await;
            let last = rebuilt(&app).await;
            assert_eq!((last.tests, last.knowledge), (there.len() as i64, 1));
            assert_eq!(dump(&store.db).await, incremental, "seed {seed} on {}", store.name);

            // Also when what was there is wrong, as after a restored backup, and when counts are.
            hear(&app, &[test(7, 900, "validated"), TestChanged { version: 900, ..there[0].clone() }]).await.unwrap();
            hear(&app, &[validated(u128::MAX, 3, 2, "detected", 90)]).await.unwrap();
            take_in(&app, &[facts(1, "partial", &["impact"], 900), facts(9000, "partial", &["impact"], 1)])
                .await
                .unwrap();
            break_counts(&store.db).await;
            rebuilt(&app).await;
            assert_eq!(dump(&store.db).await, incremental, "seed {seed} on {}", store.name);
            assert_eq!(app.matrix().await.unwrap().techniques, matrix_of(&app).await);

            // From nothing, and away.
            let owned = std::mem::take(&mut *world.0.lock().unwrap());
            rebuilt(&app).await;
            let nothing = dump(&store.db).await;
            assert_eq!((nothing.techniques.len(), nothing.tests.len(), nothing.counts.len()), (0, 0, 0));
            assert!(nothing.states.iter().all(|(_, n)| *n == 0));
            *world.0.lock().unwrap() = owned;
            rebuilt(&app).await;
            assert_eq!(dump(&store.db).await, incremental, "seed {seed} on {}", store.name);
            world.0.lock().unwrap().tests.clear();
            world.0.lock().unwrap().techniques.clear();
            rebuilt(&app).await;
        }
        store.close().await;
    }
}

async fn matrix_of(app: &App) -> Vec<MatrixTechnique> {
    self::app(&app.db).matrix().await.unwrap().techniques.clone()
}

async fn break_counts(db: &Db) {
    let mut tx = db.begin().await.unwrap();
    for sql in [
        "UPDATE technique_tests SET n = n + 5, detected = 3",
        "UPDATE technique_platform SET n = 9",
        "UPDATE test_count SET n = n + 7",
        "UPDATE test_fact SET head = NOT head WHERE verdict IS NOT NULL",
    ] {
        aegis_db::on!(tx, |c| sqlx::query(sql).execute(c).await.map(|_| ())).unwrap();
    }
    tx.commit().await.unwrap();
}

#[tokio::test]
async fn what_comes_during_a_rebuild_stays() {
    for store in stores().await {
        for empty in [true, false] {
            let world = World::default();
            let app = app_of(&store.db, &world);
            let tests = [1, 2, 3].map(|n| validated(n, 1, 1, "not_detected", 1));
            if !empty {
                hear(&app, &tests).await.unwrap();
            }
            let during = Arc::clone(&app);
            {
                let mut owned = world.0.lock().unwrap();
                owned.techniques = vec![facts(1, "not_covered", &["execution"], 1)];
                owned.tests = tests.to_vec();
                // The pages are read; while they are on their way one moves, one is deleted, one is made.
                owned.during = Some(Box::new(move || {
                    Box::pin(async move {
                        let gone = TestChanged { deleted: true, version: 2, ..validated(2, 2, 1, "not_detected", 1) };
                        let new = [validated(1, 2, 1, "detected", 4), gone, validated(4, 1, 1, "detected", 2)];
                        hear(&during, &new).await.unwrap();
                        take_in(&during, &[facts(1, "partial", &["execution"], 2)]).await.unwrap();
                    })
                }));
            }
            rebuilt(&app).await;
            let said = verdicts(&app, "T0001").await;
            assert_eq!((said.all, said.detected, said.not_detected), (3, 2, 1), "{}, empty: {empty}", store.name);
            assert_eq!(said.last_validated_at, moment(4));
            assert_eq!(app.matrix().await.unwrap().techniques[0].status, Status::Partial);
            *world.0.lock().unwrap() = Owned::default();
            rebuilt(&app).await;
            assert_eq!(dump(&store.db).await.tests.len(), 0);
        }
        store.close().await;
    }
}

#[tokio::test]
async fn a_rebuild_that_breaks_off_leaves_what_is_right_and_can_be_run_again() {
    for store in stores().await {
        let world = World::default();
        let app = app_of(&store.db, &world);
        let tests: Vec<TestChanged> =
            (1..=4200).map(|n| validated(n, 1, n % 5, "detected", i64::try_from(n % 90).unwrap())).collect();
        hear(&app, &tests[4100..]).await.unwrap();
        {
            let mut owned = world.0.lock().unwrap();
            owned.techniques = (0..5).map(|n| facts(n, "validated", &["execution"], 1)).collect();
            owned.tests = tests.clone();
            owned.break_after = Some(45);
        }
        assert_eq!(rebuild(&app, &admin()).await.unwrap_err().code(), Code::Unavailable);
        // Nothing behind the break is taken for deleted.
        let half = dump(&store.db).await;
        assert!(half.tests.len() >= 2000 && half.tests.len() < 4200, "{}", half.tests.len());
        let counted: i64 = half.counts.iter().map(|row| row.3).sum();
        assert_eq!(counted, half.tests.len() as i64, "what is there is counted");

        world.0.lock().unwrap().break_after = None;
        assert_eq!(rebuilt(&app).await.tests, 4200);
        assert_eq!(dump(&store.db).await.tests.len(), 4200);

        // What cannot be read is no end either.
        world
            .0
            .lock()
            .unwrap()
            .tests
            .push(TestChanged { created_by: "nobody".into(), ..validated(5000, 1, 1, "detected", 1) });
        let before = dump(&store.db).await;
        assert_eq!(rebuild(&app, &admin()).await.unwrap_err().code(), Code::Validation);
        assert_eq!(dump(&store.db).await, before);
        store.close().await;
    }
}

#[tokio::test]
async fn what_attackers_showed_is_known_in_its_newest_version_and_rebuilt() {
    use aegis_proto::{
        deception::v1::ObservedTechnique,
        events::v1::{ObservedFacts, TechniquesObserved},
    };

    for store in stores().await {
        let world = World::default();
        let app = app_of(&store.db, &world);
        take_in(&app, &[facts(1, "partial", &["execution"], 1), facts(2, "validated", &["execution"], 1)])
            .await
            .unwrap();
        let told = |mitre_id: &str, count, version| {
            let facts = ObservedFacts { mitre_id: mitre_id.into(), count, attackers: 1, version, ..Default::default() };
            envelope(format!("{mitre_id} {version} {count}"), &TechniquesObserved { techniques: vec![facts] })
        };
        let mut tx = store.db.begin().await.unwrap();
        // The older one comes late.
        for event in [told("T0001", 9, 4), told("T0001", 2, 3), told("T0002", 5, 1), told("T0099", 1, 1)] {
            projector(&app).handle(&mut tx, &event).await.unwrap();
        }
        tx.commit_relaxed().await.unwrap();
        let gaps = async || {
            let page = app.list_observed_gaps(&admin(), 0, "", 0).await.unwrap();
            let rows = page.rows.iter().map(|gap| (gap.technique.mitre_id.to_string(), gap.observed.count));
            (rows.collect::<Vec<_>>(), page.total)
        };
        assert_eq!(gaps().await, (vec![("T0001".to_owned(), 9)], 1));

        {
            let mut owned = world.0.lock().unwrap();
            owned.techniques = vec![facts(1, "partial", &["execution"], 1), facts(2, "partial", &["execution"], 2)];
            // Its database was put back: the version is lower, and it is right all the same.
            let observed = |mitre_id: &str, count, version| ObservedTechnique {
                mitre_id: mitre_id.into(),
                count,
                attackers: 3,
                version,
                ..Default::default()
            };
            owned.observed = vec![observed("T0001", 1, 1), observed("T0002", 0, 7)];
        }
        rebuilt(&app).await;
        assert_eq!(gaps().await, (vec![("T0001".to_owned(), 1)], 1));
        store.close().await;
    }
}

#[tokio::test]
async fn one_rebuild_runs_at_a_time_and_tells_how_far_it_is() {
    for store in stores().await {
        let world = World::default();
        let app = app_of(&store.db, &world);
        world.0.lock().unwrap().tests = (1..=300).map(|n| validated(n, 1, 1, "detected", 1)).collect();
        let other = Arc::clone(&app);
        let (tell, told) = tokio::sync::oneshot::channel();
        world.0.lock().unwrap().during = Some(Box::new(move || {
            Box::pin(async move {
                let _ = tell.send(rebuild(&other, &admin()).await.map(|_| ()));
            })
        }));
        let steps = rebuild(&app, &admin()).await.unwrap();
        assert_eq!(told.await.unwrap().unwrap_err().code(), Code::Conflict);
        let mut phases: Vec<&str> = steps.iter().map(|step| step.phase.as_str()).collect();
        phases.dedup();
        assert_eq!(phases, ["techniques", "knowledge", "tests", "swap"]);
        assert_eq!(steps.iter().filter(|step| step.done).count(), 1);

        // A process that was killed in the middle is waited for, but not for ever.
        let mut tx = store.db.begin().await.unwrap();
        assert!(crate::store::begin_rebuild(&mut tx, Uuid::now_v7()).await.unwrap().is_some());
        tx.commit().await.unwrap();
        assert_eq!(rebuild(&app, &admin()).await.unwrap_err().code(), Code::Conflict);
        let mut tx = store.db.begin().await.unwrap();
        let long_ago = aegis_db::now() - chrono::TimeDelta::minutes(2);
        aegis_db::on!(tx, |c| sqlx::query("UPDATE meta SET rebuild_seen_at = $1")
            .bind(long_ago)
            .execute(c)
            .await
            .map(|_| ()))
        .unwrap();
        tx.commit().await.unwrap();
        rebuilt(&app).await;
        store.close().await;
    }
}

#[tokio::test]
async fn a_rebuild_leaves_alone_what_only_a_newer_version_knows() {
    for store in stores().await {
        let world = World::default();
        let app = app_of(&store.db, &world);
        let (techniques, tests) = ([1, 2].map(|n| facts(n, "partial", &["impact"], 1)), [1, 2, 3, 4]);
        take_in(&app, &techniques).await.unwrap();
        let tests = tests.map(|n| validated(n, 1, 1, "detected", 1));
        hear(&app, &tests).await.unwrap();
        let before = dump(&store.db).await;
        {
            let mut owned = world.0.lock().unwrap();
            let technique = TechniqueFacts { status: "under_review".into(), version: 2, ..techniques[1].clone() };
            let unheard = TechniqueFacts { status: "under_review".into(), ..facts(3, "", &[], 1) };
            owned.techniques = vec![techniques[0].clone(), technique, unheard];
            let [one, two, three, four] = tests.clone();
            let future = |test| TestChanged { state: "archived".into(), version: 2, ..test };
            owned.tests = vec![one, future(two), three, future(four), future(validated(5, 1, 1, "detected", 1))];
        }
        for _ in 0..2 {
            let last = rebuilt(&app).await;
            assert_eq!((last.techniques, last.tests), (1, 2), "{}", store.name);
            assert_eq!(dump(&store.db).await, before, "{}", store.name);
        }
        // By the next version that knows them.
        {
            let mut owned = world.0.lock().unwrap();
            owned.techniques.iter_mut().for_each(|technique| technique.status = "validated".into());
            owned.tests.iter_mut().for_each(|test| test.state = "validated".into());
        }
        let last = rebuilt(&app).await;
        assert_eq!((last.techniques, last.tests), (3, 5), "{}", store.name);
        store.close().await;
    }
}
