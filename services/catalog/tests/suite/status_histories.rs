//! Technique statuses after random histories of tests, however their events arrive, against a model of the final facts.

use std::collections::BTreeMap;

use aegis_proto::events::v1::TestChanged;
use uuid::Uuid;

use super::{statuses::Dice, *};

const TECHNIQUES: [&str; 5] = ["T1001", "T1003", "T1005", "T1006", "T1007"];
const RESULTS: [&str; 4] = ["detected", "partially_detected", "not_detected", ""];

/// A test as its owner has it.
#[derive(Clone)]
struct Owned {
    id: Uuid,
    chain: Uuid,
    technique: usize,
    state: &'static str,
    result: &'static str,
    validated: i64,
    deleted: bool,
    version: i64,
}

impl Owned {
    fn event(&self, techniques: &[String]) -> TestChanged {
        TestChanged {
            test_id: self.id.to_string(),
            version: self.version,
            technique_id: techniques[self.technique].clone(),
            state: self.state.into(),
            detection_result: self.result.into(),
            chain_id: self.chain.to_string(),
            validated_at: (self.validated > 0)
                .then_some(prost_types::Timestamp { seconds: 1_700_000_000 + self.validated, nanos: 0 }),
            deleted: self.deleted,
            ..TestChanged::default()
        }
    }

    /// One more change, as the workflow allows it; false where there is none.
    fn step(&mut self, dice: &mut Dice, clock: &mut i64) -> bool {
        self.state = match self.state {
            "draft" | "rejected" if dice.roll(8) == 0 => {
                self.deleted = true;
                self.state
            }
            "draft" => "red_executing",
            "red_executing" => "blue_evaluating",
            "blue_evaluating" if dice.roll(2) == 0 => {
                // An edit: the state stays.
                self.result = RESULTS[dice.roll(RESULTS.len())];
                self.state
            }
            "blue_evaluating" => "in_review",
            "in_review" if dice.roll(3) == 0 => "rejected",
            "in_review" => {
                *clock += dice.roll(2) as i64;
                self.validated = *clock;
                "validated"
            }
            "rejected" => "draft",
            _ => return false,
        };
        self.version += 1;
        true
    }
}

/// The specification, written once more.
fn model(tests: &[Owned], technique: usize) -> &'static str {
    let of: Vec<&Owned> = tests.iter().filter(|t| t.technique == technique && !t.deleted).collect();
    let mut newest: BTreeMap<Uuid, (i64, Uuid, f64)> = BTreeMap::new();
    for test in &of {
        let share = match test.result {
            "detected" => 1.0,
            "partially_detected" => 0.5,
            "not_detected" => 0.0,
            _ => continue,
        };
        if test.state != "validated" {
            continue;
        }
        let one = (test.validated, test.id, share);
        match newest.get(&test.chain) {
            Some(known) if (known.0, known.1) > (one.0, one.1) => {}
            _ => {
                newest.insert(test.chain, one);
            }
        }
    }
    let open = of.iter().any(|t| !["validated", "rejected"].contains(&t.state));
    let mean = newest.values().map(|(_, _, share)| share).sum::<f64>() / newest.len() as f64;
    match mean {
        _ if newest.is_empty() => ["not_evaluated", "in_progress"][usize::from(open)],
        1.0 => "validated",
        0.0 => "not_covered",
        _ => "partial",
    }
}

/// Tests, and every event that they caused, in order.
fn history(dice: &mut Dice, techniques: &[String]) -> (Vec<Owned>, Vec<TestChanged>) {
    let (mut tests, mut events, mut clock): (Vec<Owned>, _, _) = (Vec::new(), Vec::new(), 1);
    for _ in 0..400 {
        if tests.len() < 3 || dice.roll(6) == 0 {
            let id = Uuid::now_v7();
            // A retest follows one that is validated or rejected.
            let done: Vec<&Owned> = tests.iter().filter(|t| ["validated", "rejected"].contains(&t.state)).collect();
            let (chain, technique) = match dice.roll(2) {
                0 if !done.is_empty() => {
                    let of = done[dice.roll(done.len())];
                    (of.chain, of.technique)
                }
                _ => (id, dice.roll(techniques.len())),
            };
            tests.push(Owned {
                id,
                chain,
                technique,
                state: "draft",
                result: "",
                validated: 0,
                deleted: false,
                version: 1,
            });
            events.push(tests[tests.len() - 1].event(techniques));
        } else {
            let n = dice.roll(tests.len());
            if !tests[n].deleted && tests[n].step(dice, &mut clock) {
                events.push(tests[n].event(techniques));
            }
        }
    }
    (tests, events)
}

/// The same events with duplicates, in another order, some of the superseded ones left out.
fn disturbed(dice: &mut Dice, tests: &[Owned], events: &[TestChanged]) -> Vec<TestChanged> {
    let last = |event: &TestChanged| {
        tests.iter().any(|test| test.id.to_string() == event.test_id && test.version == event.version)
    };
    let mut all: Vec<TestChanged> = Vec::new();
    for event in events {
        if last(event) || dice.roll(5) > 0 {
            all.extend(std::iter::repeat_n(event.clone(), 1 + dice.roll(2)));
        }
    }
    for i in (1..all.len()).rev() {
        // Near its place, or anywhere.
        let far = if dice.roll(10) == 0 { i + 1 } else { 8.min(i + 1) };
        all.swap(i, i - dice.roll(far));
    }
    all
}

#[tokio::test]
async fn however_the_events_arrive_the_statuses_are_those_of_the_final_facts() {
    for world in World::all().await {
        let testing = world.testing().await;
        let mut techniques = Vec::new();
        for id in TECHNIQUES {
            techniques.push(world.technique(id).await.id);
        }
        let mut everything = Vec::new();
        for seed in 0..6 {
            let mut dice = Dice(seed);
            let (mut tests, events) = history(&mut dice, &techniques);
            let arriving = disturbed(&mut dice, &tests, &events);
            world.published().await;
            testing.publish(&arriving).await;
            everything.append(&mut tests);
            let told = techniques_changed(&world.published().await);
            for (n, id) in TECHNIQUES.into_iter().enumerate() {
                let now = world.technique(id).await;
                assert_eq!(now.status_global, model(&everything, n), "{id}, seed {seed}, {}", world.home.name);
                // Who keeps the newest of what was told has the same, and nothing was told that did not change.
                let mut told = told.iter().flat_map(|event| &event.techniques).filter(|t| t.id == now.id);
                let versions: Vec<i64> = told.clone().map(|t| t.version).collect();
                assert!(versions.windows(2).all(|two| two[0] + 1 == two[1]), "{versions:?}");
                assert!(told.next_back().is_none_or(|t| t.status == now.status_global && t.version == now.version));
            }
            // Each seed's tests go, so that the next begins from nothing, and late events do not bring them back.
            for test in &mut everything {
                if !test.deleted {
                    test.deleted = true;
                    test.version += 1;
                }
            }
            let gone: Vec<TestChanged> = everything.iter().map(|test| test.event(&techniques)).collect();
            testing.publish(&gone).await;
            testing.publish(&arriving).await;
            for id in TECHNIQUES {
                assert_eq!(world.technique(id).await.status_global, "not_evaluated", "{id}, seed {seed}");
            }
        }
        world.close().await;
    }
}

#[tokio::test]
async fn what_comes_during_the_export_of_a_rebuild_stays() {
    for world in World::all().await {
        let testing = world.testing().await;
        let mut techniques = Vec::new();
        for id in TECHNIQUES {
            techniques.push(world.technique(id).await.id);
        }
        let test = |n: u128, version, state, result| Owned {
            id: Uuid::from_u128(n),
            chain: Uuid::from_u128(n),
            technique: n as usize,
            state,
            result,
            validated: 1,
            deleted: false,
            version,
        };
        let of = |test: &Owned| test.event(&techniques);
        let (moved, made, gone) = (test(0, 3, "in_review", ""), test(1, 1, "draft", ""), test(2, 2, "draft", ""));
        testing.publish(&[of(&moved), of(&gone)]).await;
        let start = world.catalog(Role::Service).get_rebuild_start(pb::GetRebuildStartRequest {}).await.unwrap();
        // The export is read now; while it is on its way one test moves, one is made, one is deleted.
        let exported = [moved.clone(), gone.clone()];
        testing
            .publish(&[
                of(&test(0, 4, "validated", "detected")),
                of(&made),
                of(&Owned { deleted: true, version: 3, ..gone }),
            ])
            .await;
        let tests = exported.iter().map(of).map(|t| pb::TestFact {
            test_id: t.test_id,
            version: t.version,
            technique_id: t.technique_id,
            state: t.state,
            detection_result: t.detection_result,
            chain_id: t.chain_id,
            validated_at: t.validated_at,
        });
        let part = pb::RebuildStatusesRequest { tests: tests.collect(), started_at: start.into_inner().started_at };
        world.catalog(Role::Service).rebuild_statuses(futures::stream::iter([part])).await.unwrap();
        for (id, status) in TECHNIQUES.into_iter().zip(["validated", "in_progress", "not_evaluated"]) {
            assert_eq!(world.technique(id).await.status_global, status, "{id}");
        }
        world.close().await;
    }
}
