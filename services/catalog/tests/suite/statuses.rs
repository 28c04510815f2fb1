//! Technique statuses, from the events about tests.

use std::collections::{BTreeMap, HashMap};

use aegis_proto::events::v1::{TechniqueFacts, TestChanged};
use uuid::Uuid;

use super::*;

fn at(seconds: i64) -> Option<prost_types::Timestamp> {
    (seconds > 0).then_some(prost_types::Timestamp { seconds: 1_700_000_000 + seconds, nanos: 0 })
}

/// A test of a technique; `validated` counts seconds, 0 for not.
fn test(id: Uuid, version: i64, technique: &str, state: &str, result: &str, validated: i64) -> TestChanged {
    TestChanged {
        test_id: id.to_string(),
        version,
        technique_id: technique.into(),
        state: state.into(),
        detection_result: result.into(),
        chain_id: id.to_string(),
        validated_at: at(validated),
        ..Default::default()
    }
}

async fn facts(world: &World) -> Vec<TechniqueFacts> {
    techniques_changed(&world.published().await).into_iter().flat_map(|event| event.techniques).collect()
}

async fn rebuild(world: &World, tests: Vec<TestChanged>) -> i64 {
    let tests: Vec<pb::TestFact> = tests
        .into_iter()
        .map(|t| pb::TestFact {
            test_id: t.test_id,
            version: t.version,
            technique_id: t.technique_id,
            state: t.state,
            detection_result: t.detection_result,
            chain_id: t.chain_id,
            validated_at: t.validated_at,
        })
        .collect();
    let parts: Vec<_> =
        tests.chunks(50).map(|part| pb::RebuildStatusesRequest { tests: part.to_vec(), started_at: None }).collect();
    let answer = world.catalog(Role::Service).rebuild_statuses(futures::stream::iter(parts)).await.unwrap();
    answer.into_inner().techniques_changed
}

#[tokio::test]
async fn a_test_moves_its_technique_and_each_change_is_told_once() {
    for world in World::all().await {
        let testing = world.testing().await;
        let technique = world.technique("T1059.001").await;
        let (id, of) = (Uuid::now_v7(), technique.id.as_str());
        world.published().await;
        let expect = async |status: &str, version: i64, told: usize| {
            let now = world.technique("T1059.001").await;
            assert_eq!((now.status_global.as_str(), now.version), (status, version));
            let facts = facts(&world).await;
            assert_eq!(facts.len(), told);
            assert!(facts.iter().all(|f| f.status == status && f.version == version));
        };
        testing.publish(&[test(id, 1, of, "draft", "", 0)]).await;
        expect("in_progress", 2, 1).await;
        testing.publish(&[test(id, 2, of, "red_executing", "", 0)]).await;
        expect("in_progress", 2, 0).await;
        testing.publish(&[test(id, 5, of, "validated", "detected", 9)]).await;
        let events = world.published().await;
        assert_eq!(events[0].actor.as_ref().unwrap().username, "blue", "who moved the test");
        expect("validated", 3, 0).await;
        // What comes late or again changes nothing.
        testing
            .publish(&[test(id, 4, of, "in_review", "detected", 0), test(id, 5, of, "validated", "detected", 9)])
            .await;
        expect("validated", 3, 0).await;
        // A second test, missed: half.
        let second = Uuid::now_v7();
        testing.publish(&[test(second, 3, of, "validated", "not_detected", 11)]).await;
        expect("partial", 4, 1).await;
        // Its retest in the same chain is newer and counts instead.
        let retest =
            TestChanged { chain_id: second.to_string(), ..test(Uuid::now_v7(), 4, of, "validated", "detected", 20) };
        testing.publish(std::slice::from_ref(&retest)).await;
        expect("validated", 5, 1).await;
        // Deleted, and an older event after that does not bring it back.
        let deleted = TestChanged { deleted: true, version: 5, ..retest.clone() };
        testing.publish(&[deleted]).await;
        expect("partial", 6, 1).await;
        testing.publish(&[retest]).await;
        expect("partial", 6, 0).await;
        world.close().await;
    }
}

#[tokio::test]
async fn an_override_stands_over_what_is_computed() {
    for world in World::all().await {
        let testing = world.testing().await;
        let technique = world.technique("T1003").await;
        let change = |status: Option<&str>| pb::UpdateTechniqueRequest {
            mitre_id: "T1003".into(),
            status_global: status.map(str::to_owned),
            clear_status_global: status.is_none(),
            ..Default::default()
        };
        world.admin().update_technique(change(Some("not_covered"))).await.unwrap();
        testing.publish(&[test(Uuid::now_v7(), 1, &technique.id, "validated", "detected", 5)]).await;
        let now = world.technique("T1003").await;
        assert_eq!((now.status_global.as_str(), now.status_overridden), ("not_covered", true));
        let computed = pb::ListTechniquesRequest { status: Some("validated".into()), ..Default::default() };
        assert!(world.list(computed.clone()).await.is_empty());
        let cleared = world.admin().update_technique(change(None)).await.unwrap().into_inner().technique.unwrap();
        assert_eq!((cleared.status_global.as_str(), cleared.status_overridden), ("validated", false));
        assert_eq!(world.list(computed).await.len(), 1);
        world.close().await;
    }
}

#[tokio::test]
async fn facts_about_unknown_techniques_wait_and_unreadable_ones_stop_nothing() {
    for world in World::all().await {
        let testing = world.testing().await;
        let known = world.technique("T1005").await.id;
        let moved = Uuid::now_v7();
        testing
            .publish(&[
                test(moved, 1, &Uuid::now_v7().to_string(), "validated", "detected", 5),
                test(Uuid::now_v7(), 1, "no id", "validated", "detected", 5),
                test(Uuid::now_v7(), 1, &known, "validated", "not_detected", 5),
            ])
            .await;
        assert_eq!(world.technique("T1005").await.status_global, "not_covered");
        // A test that turns out to be of another technique counts there.
        testing.publish(&[test(moved, 2, &known, "validated", "detected", 5)]).await;
        assert_eq!(world.technique("T1005").await.status_global, "partial");
        let other = world.technique("T1006").await.id;
        testing.publish(&[test(moved, 3, &other, "validated", "detected", 5)]).await;
        assert_eq!(world.technique("T1005").await.status_global, "not_covered");
        assert_eq!(world.technique("T1006").await.status_global, "validated");
        let dead: i64 =
            read!(&world.home.db, |pool| sqlx::query_scalar("SELECT COUNT(*) FROM dead_letter").fetch_one(pool).await)
                .unwrap();
        assert_eq!(dead, 1);
        world.close().await;
    }
}

/// A small generator, so that a failure can be run again.
pub struct Dice(pub u64);

impl Dice {
    pub fn roll(&mut self, sides: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % sides
    }
}

#[tokio::test]
async fn shuffled_and_repeated_events_end_where_a_rebuild_ends() {
    for world in World::all().await {
        let testing = world.testing().await;
        let mut dice = Dice(7);
        let mut techniques = Vec::new();
        for id in ["T1001", "T1003", "T1005", "T1006", "T1007", "T1059.001"] {
            techniques.push(world.technique(id).await.id);
        }
        let states = ["draft", "red_executing", "in_review", "validated", "validated", "rejected"];
        let results = ["detected", "partially_detected", "not_detected", ""];
        let mut events = Vec::new();
        let mut chains: Vec<(Uuid, usize)> = Vec::new();
        for _ in 0..60 {
            let id = Uuid::now_v7();
            let (chain, of) = match dice.roll(3) {
                0 if !chains.is_empty() => chains[dice.roll(chains.len())],
                _ => (id, dice.roll(techniques.len())),
            };
            chains.push((chain, of));
            for version in 1..=1 + dice.roll(4) as i64 {
                let state = states[dice.roll(states.len())];
                let validated = if state == "validated" { 1 + dice.roll(30) as i64 } else { 0 };
                let result = results[dice.roll(results.len())];
                let mut event = test(id, version, &techniques[of], state, result, validated);
                event.chain_id = chain.to_string();
                event.deleted = dice.roll(12) == 0;
                events.push(event);
            }
        }
        let mut shuffled: Vec<TestChanged> = events.iter().flat_map(|e| [e.clone(), e.clone()]).collect();
        for i in (1..shuffled.len()).rev() {
            shuffled.swap(i, dice.roll(i + 1));
        }
        testing.publish(&shuffled).await;

        let statuses = async || {
            let mut found = BTreeMap::new();
            for id in ["T1001", "T1003", "T1005", "T1006", "T1007", "T1059.001"] {
                found.insert(id, world.technique(id).await.status_global);
            }
            found
        };
        let incremental = statuses().await;
        assert!(incremental.values().any(|status| status != "not_evaluated"), "{incremental:?}");
        let mut last: HashMap<String, TestChanged> = HashMap::new();
        for event in events {
            last.insert(event.test_id.clone(), event);
        }
        let owned: Vec<TestChanged> = last.into_values().filter(|t| !t.deleted).collect();
        assert_eq!(rebuild(&world, owned.clone()).await, 0, "the rebuilt statuses are the incremental ones");
        assert_eq!(statuses().await, incremental);

        // From nothing, and back.
        let changed = rebuild(&world, Vec::new()).await;
        assert_eq!(changed, incremental.values().filter(|status| *status != "not_evaluated").count() as i64);
        assert!(statuses().await.values().all(|status| status == "not_evaluated"));
        world.published().await;
        assert_eq!(rebuild(&world, owned).await, changed);
        assert_eq!(statuses().await, incremental);
        assert_eq!(facts(&world).await.len() as i64, changed);

        let none = futures::stream::iter(Vec::<pb::RebuildStatusesRequest>::new());
        assert_eq!(refusal(world.catalog(Role::BlueLead).rebuild_statuses(none).await).0, Code::Forbidden);
        world.close().await;
    }
}
