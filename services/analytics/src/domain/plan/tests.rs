//! The plan against every other that there is.

use std::{collections::HashMap, sync::Arc};

use chrono::{DateTime, TimeDelta, Utc};
use proptest::prelude::*;

use super::*;
use crate::domain::{
    Status,
    matrix::{Matrix, Verdicts},
    score::{
        self, Sum,
        fixture::{matrix, technique},
    },
};

fn now() -> DateTime<Utc> {
    "2031-05-01T00:00:00Z".parse().unwrap()
}

/// What can be done to a technique, and what becomes of its tests then: not as the plan reckons it, but as the test
/// would come in.
fn every_test(technique: &MatrixTechnique) -> Vec<(String, bool, Verdicts)> {
    let mut every = Vec::new();
    let run = |verdicts: &Verdicts| Verdicts { last_validated_at: Some(now()), ..verdicts.clone() };
    let old = &technique.tests;
    for platform in technique.platforms.iter().cloned().chain([String::new()]) {
        let mut verdicts = run(old);
        verdicts.detected += 1;
        if !platform.is_empty() {
            verdicts.platforms.insert(platform.clone());
        }
        every.push((platform, false, verdicts));
    }
    if old.not_detected > 0 {
        let verdicts = Verdicts { not_detected: old.not_detected - 1, detected: old.detected + 1, ..run(old) };
        every.push((String::new(), true, verdicts));
    }
    if old.partially_detected > 0 {
        let verdicts =
            Verdicts { partially_detected: old.partially_detected - 1, detected: old.detected + 1, ..run(old) };
        every.push((String::new(), true, verdicts));
    }
    every
}

fn sum(matrix: &Matrix) -> i64 {
    score::scored(matrix, None, now()).map(|(_, score)| score).collect::<Vec<_>>().iter().collect::<Sum>().hundredths()
}

/// The most that so many tests can bring the sum to, by trying all.
fn most(matrix: &Matrix, tests: usize, seen: &mut HashMap<String, i64>) -> i64 {
    if tests == 0 {
        return sum(matrix);
    }
    // The same tests in another order lead to the same.
    let state = matrix.techniques.iter().map(|technique| format!("{:?}", technique.tests)).collect::<Vec<_>>();
    let key = format!("{tests} {state:?}");
    if let Some(known) = seen.get(&key) {
        return *known;
    }
    let mut best = sum(matrix);
    for at in 0..matrix.techniques.len() {
        for (_, _, verdicts) in every_test(&matrix.techniques[at]) {
            let mut next = matrix.clone();
            next.techniques[at].tests = verdicts;
            best = best.max(most(&next, tests - 1, seen));
        }
    }
    seen.insert(key, best);
    best
}

/// Does what a plan says.
fn carried_out(matrix: &Matrix, plan: &Plan<'_>) -> Matrix {
    let mut done = matrix.clone();
    for test in &plan.tests {
        let place = done.techniques.iter_mut().find(|technique| technique.id == test.technique.id).unwrap();
        let mut ways = every_test(place).into_iter();
        // Of retests the one of what was not detected comes first.
        let (_, _, verdicts) =
            ways.find(|(platform, retest, _)| *platform == test.platform && *retest == test.retest).unwrap();
        place.tests = verdicts;
        let after = Score::of(place, &matrix.knowledge, matrix.weights, now());
        assert_eq!(after.value(), test.score_after, "{test:?}");
    }
    done
}

fn planned<'a>(matrix: &'a Matrix, tests: usize) -> Plan<'a> {
    let scored: Vec<_> = score::scored(matrix, None, now()).collect();
    plan(&scored, &matrix.knowledge, matrix.weights, tests)
}

fn any_technique() -> impl Strategy<Value = (MatrixTechnique, i64)> {
    let verdicts = (0_i64..3, 0_i64..3, 0_i64..3, 0_i64..500, 0_usize..4);
    (verdicts, proptest::collection::btree_set("[abc]", 0..3), 0_i64..4).prop_map(
        |((detected, partially, not, days, ran), platforms, users)| {
            let mut technique = technique("T0000", Status::Partial);
            technique.platforms = platforms.into_iter().collect();
            if detected + partially + not > 0 {
                technique.tests = Verdicts {
                    all: 9,
                    validated: 9,
                    detected,
                    partially_detected: partially,
                    not_detected: not,
                    last_validated_at: Some(now() - TimeDelta::days(days)),
                    platforms: technique.platforms.iter().take(ran).cloned().collect(),
                };
            }
            (technique, users)
        },
    )
}

fn any_matrix(techniques: std::ops::Range<usize>) -> impl Strategy<Value = Matrix> {
    let weights = prop_oneof![
        Just(Weights::default()),
        Just(Weights::new([1_000, 0, 0, 500, 8_500]).unwrap()),
        Just(Weights::new([9_000, 0, 0, 0, 1_000]).unwrap()),
        Just(Weights::new([0, 0, 0, 10_000, 0]).unwrap()),
        Just(Weights::new([0, 5_000, 5_000, 0, 0]).unwrap()),
        Just(Weights::new([7_777, 1_111, 0, 111, 1_001]).unwrap()),
    ];
    (proptest::collection::vec(any_technique(), techniques), weights).prop_map(|(techniques, weights)| {
        let mut users = HashMap::new();
        let named = techniques.into_iter().enumerate().map(|(n, (technique, used))| {
            let name: Arc<str> = format!("T{n:04}").into();
            users.insert(Arc::clone(&name), used);
            MatrixTechnique { id: uuid::Uuid::from_u128(n as u128), mitre_id: name, ..technique }
        });
        let mut matrix = matrix(named.collect());
        Arc::make_mut(&mut matrix.knowledge).users = users;
        matrix.weights = weights;
        matrix
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn no_other_tests_raise_the_score_more(matrix in any_matrix(1..4), tests in 1_usize..4) {
        let plan = planned(&matrix, tests);
        prop_assert!(plan.tests.len() <= tests);
        let done = carried_out(&matrix, &plan);
        prop_assert_eq!(sum(&done), most(&matrix, tests, &mut HashMap::new()));
        let n = count(matrix.techniques.len());
        prop_assert_eq!(plan.score, Some(one_decimal(sum(&matrix), n)));
        prop_assert_eq!(plan.score_after, Some(one_decimal(sum(&done), n)));
        let gains: f64 = plan.tests.iter().map(|test| test.gain).sum();
        prop_assert!((gains * n as f64 - points(sum(&done) - sum(&matrix))).abs() < 0.001 * (n * 4) as f64);
    }

    /// One technique with many tests: where shares of retests and new tests trade off.
    #[test]
    fn nor_do_they_on_one_technique(matrix in any_matrix(1..2), tests in 4_usize..7) {
        let done = carried_out(&matrix, &planned(&matrix, tests));
        prop_assert_eq!(sum(&done), most(&matrix, tests, &mut HashMap::new()));
    }

    #[test]
    fn every_planned_test_raises_the_score(matrix in any_matrix(0..40), tests in 1_usize..120) {
        let plan = planned(&matrix, tests);
        prop_assert!(plan.tests.len() <= tests.min(MAX_TESTS));
        prop_assert!(plan.score_after >= plan.score);
        carried_out(&matrix, &plan);
        // More tests never raise it less.
        prop_assert!(planned(&matrix, tests + 1).score_after >= plan.score_after);
    }
}

#[test]
fn among_equals_attackers_decide_and_each_test_says_why() {
    let mut never = [1, 2, 3].map(|n| technique(&format!("T000{n}"), Status::NotEvaluated));
    for technique in &mut never {
        technique.platforms = vec!["linux".into(), "windows".into()];
    }
    let mut missed = technique("T0004", Status::NotCovered);
    missed.tests = Verdicts { not_detected: 1, last_validated_at: Some(now()), ..Verdicts::default() };
    let mut matrix = matrix(never.into_iter().chain([missed]).collect());
    Arc::make_mut(&mut matrix.knowledge).users = HashMap::from([("T0002".into(), 7), ("T0003".into(), 1)]);
    let plan = planned(&matrix, 4);
    let tests: Vec<_> = plan
        .tests
        .iter()
        .map(|t| (&*t.technique.mitre_id, t.platform.as_str(), t.retest, t.gain, t.score_after))
        .collect();
    assert_eq!(
        tests,
        [
            ("T0002", "linux", false, 15.0, 60.0),
            ("T0003", "linux", false, 15.0, 60.0),
            ("T0001", "linux", false, 15.0, 60.0),
            ("T0004", "", true, 10.0, 65.0),
        ]
    );
    assert_eq!(
        plan.tests[0].reason,
        "no validated test yet: tests +40, freshness +15, platform_diversity +5; used by 7 threat actors"
    );
    assert_eq!(plan.tests[3].reason, "its last test of a chain was not detected: tests +40");
    assert_eq!((plan.score, plan.score_after), (Some(6.3), Some(61.3)));
}

#[test]
fn of_nothing_there_is_no_plan() {
    let matrix = matrix(Vec::new());
    assert_eq!(planned(&matrix, 10), Plan { score: None, score_after: None, tests: Vec::new() });
}

#[test]
fn the_best_test_is_not_always_among_the_best_two() {
    let mut missed = technique("T0001", Status::NotCovered);
    missed.platforms = vec!["linux".into()];
    missed.tests = Verdicts { not_detected: 2, last_validated_at: Some(now()), ..Verdicts::default() };
    let matrix = matrix(vec![missed]);
    let told = |tests| {
        let plan = planned(&matrix, tests);
        (plan.tests.iter().map(|test| test.retest).collect::<Vec<_>>(), plan.score_after)
    };
    // Of three tests one is detected then, on the platform; of two both; and then the platform too.
    assert_eq!(told(1), (vec![false], Some(38.3)));
    assert_eq!(told(2), (vec![true, true], Some(55.0)));
    assert_eq!(told(3), (vec![false, true, true], Some(65.0)));
}
