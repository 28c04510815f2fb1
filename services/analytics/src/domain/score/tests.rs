//! Figures of scores, by hand and over all that can be.

use std::{collections::HashMap, sync::Arc};

use chrono::TimeDelta;
use proptest::prelude::*;

use super::{
    fixture::{matrix, technique},
    *,
};
use crate::domain::Status;

fn now() -> DateTime<Utc> {
    "2031-05-01T00:00:00Z".parse().unwrap()
}

fn days_ago(days: i64) -> Option<DateTime<Utc>> {
    Some(now() - TimeDelta::days(days))
}

fn tested(detected: i64, partially: i64, not: i64, days: i64, platforms: &[&str]) -> Verdicts {
    Verdicts {
        all: detected + partially + not,
        validated: detected + partially + not,
        detected,
        partially_detected: partially,
        not_detected: not,
        last_validated_at: days_ago(days),
        platforms: platforms.iter().map(|platform| (*platform).to_owned()).collect(),
    }
}

fn knowledge(rules: i64, defences: (i64, i64)) -> Knowledge {
    Knowledge {
        rules: HashMap::from([("T0001".into(), rules)]),
        defences: HashMap::from([("T0001".into(), defences)]),
        ..Knowledge::default()
    }
}

#[test]
fn a_breakdown_adds_up_and_says_what_would_help() {
    let mut technique = technique("T0001", Status::Partial);
    technique.platforms = ["linux", "macos", "windows"].map(str::to_owned).into();
    technique.tests = tested(1, 1, 1, 200, &["windows", "saas"]);
    let knowledge = knowledge(3, (4, 1));
    let score = Score::of(&technique, &knowledge, Weights::default(), now());
    let parts = words::of_technique(&technique, &knowledge, Weights::default(), &score, now());
    let figures: Vec<_> = parts.iter().map(|p| (p.raw, p.weight, p.points, p.gain)).collect();
    assert_eq!(
        figures,
        [
            (0.5, 40.0, 20.0, 20.0),
            (0.6, 20.0, 12.0, 8.0),
            (0.25, 15.0, 3.75, 11.25),
            // 165 of 275 days are left.
            (0.6, 15.0, 9.0, 6.0),
            (0.3333, 10.0, 3.33, 6.67),
        ]
    );
    assert_eq!((score.hundredths(), score.value()), (4808, 48.1));
    let said: Vec<_> = parts.iter().map(|p| (p.basis.as_str(), p.advice.as_str())).collect();
    assert_eq!(
        said,
        [
            (
                "1 of 3 tests detected, 1 partially, 1 not",
                "detect fully what was not or only partially detected, and retest: 2 tests"
            ),
            ("3 of 5 rules", "add 2 detection rules"),
            ("1 of 4 countermeasures implemented", "implement 3 more countermeasures and mark them as such"),
            ("last validated 200 days ago", "validate a test again"),
            ("1 of 3 platforms with a validated test", "validate a test on linux, macos"),
        ]
    );
    assert_eq!(words::best(&parts), parts[0].advice);
}

#[test]
fn nothing_is_nothing_and_everything_is_100() {
    let empty = technique("T0001", Status::NotEvaluated);
    let score = Score::of(&empty, &Knowledge::default(), Weights::default(), now());
    assert_eq!(score.value(), 0.0);
    let parts = words::of_technique(&empty, &Knowledge::default(), Weights::default(), &score, now());
    assert_eq!(words::best(&parts), "run a test and have it detected");
    // No countermeasure is mapped: there is none to implement.
    assert_eq!((parts[2].advice.as_str(), parts[2].gain), ("", 0.0));

    let mut full = technique("T0001", Status::Validated);
    full.platforms = vec!["linux".into()];
    full.tests = tested(7, 0, 0, 90, &["linux"]);
    let knowledge = knowledge(9, (2, 2));
    let score = Score::of(&full, &knowledge, Weights::default(), now());
    let parts = words::of_technique(&full, &knowledge, Weights::default(), &score, now());
    assert_eq!(score.value(), 100.0);
    assert!(parts.iter().all(|part| part.advice.is_empty() && part.gain == 0.0), "{parts:?}");
    assert_eq!(words::best(&parts), "");
}

#[test]
fn freshness_goes_down_from_90_to_365_days() {
    let share = |seconds: i64| freshness_share(Some(now() - TimeDelta::seconds(seconds)), now()).times(1_000_000);
    let day = 24 * 3600;
    assert_eq!((share(-day), share(0), share(90 * day)), (1_000_000, 1_000_000, 1_000_000));
    // The middle.
    assert_eq!(share(455 * day / 2), 500_000);
    assert_eq!((share(365 * day), share(366 * day), share(i64::from(u32::MAX))), (0, 0, 0));
    assert!(share(91 * day) < 1_000_000 && share(364 * day) > 0);
    assert_eq!(freshness_share(None, now()), Share::ZERO);
}

#[test]
fn weights_are_some_only_when_they_sum_to_100() {
    assert_eq!(Weights::new(Weights::default().hundredths()), Some(Weights::default()));
    assert_eq!(Weights::default().percent(Part::Tests), 40.0);
    assert!(Weights::new([3_333, 3_333, 3_334, 0, 0]).is_some());
    for wrong in [[4_000, 2_000, 1_500, 1_500, 999], [10_001, -1, 0, 0, 0], [0; 5]] {
        assert_eq!(Weights::new(wrong), None);
    }
}

#[test]
fn means_are_rounded_once() {
    assert_eq!((one_decimal(4_805, 1), one_decimal(4_804, 1), one_decimal(-45, 1)), (48.1, 48.0, -0.4));
    assert_eq!((one_decimal(10_000, 3), divided(5, 0), divided(7, 2)), (33.3, 0, 4));
    let none = Sum::default();
    assert_eq!((none.mean(), none.mean_points(Part::Tests), none.mean_raw(Part::Tests)), (None, 0.0, 0.0));
}

#[test]
fn tactics_and_all_of_it_are_means_over_techniques() {
    let mut one = technique("T0001", Status::Validated);
    one.tactics = vec!["execution".into(), "initial-access".into()];
    one.tests = tested(1, 0, 0, 0, &[]);
    let mut ics = technique("T0002", Status::NotEvaluated);
    ics.domain = "ics".into();
    ics.tactics = vec!["impair-process-control".into()];
    let mut odd = technique("T0003", Status::NotEvaluated);
    odd.tactics = vec!["never-heard-of".into()];
    let mut matrix = matrix(vec![one, ics, odd]);
    Arc::make_mut(&mut matrix.knowledge).defences = HashMap::from([("T0003".into(), (4, 1))]);
    let all: Vec<_> = scored(&matrix, None, now()).collect();
    let sum: Sum = all.iter().map(|(_, score)| score).collect();
    // 40 + 15 + 10 (it names no platform), 0, and a quarter of 15; over three.
    assert_eq!((sum.mean(), sum.hundredths()), (Some(22.9), 6875));
    let names = tactic_names(&matrix.knowledge, None);
    assert_eq!(names, ["initial-access", "execution", "persistence", "impair-process-control"]);
    let tactics = by_tactic(&names, &all);
    let told: Vec<_> = tactics.iter().map(|t| (t.tactic.as_str(), t.score, t.techniques)).collect();
    assert_eq!(
        told,
        [
            ("initial-access", Some(65.0), 1),
            ("execution", Some(65.0), 1),
            ("persistence", None, 0),
            ("impair-process-control", Some(0.0), 1),
            ("never-heard-of", Some(3.8), 1),
        ]
    );
    let parts = words::of_many(&all, &matrix.knowledge, matrix.weights, now());
    let total: f64 = parts.iter().map(|part| part.points).sum();
    assert!((total - 22.92).abs() < 0.03, "{total}");
    assert_eq!(parts[0].basis, "1 of 3 techniques with a validated test");
    assert_eq!(parts[0].advice, "test 2 techniques without a validated test");
    // 15 of the 45 points can be had: where countermeasures are mapped, three quarters of them.
    assert_eq!((parts[2].points, parts[2].gain), (1.25, 3.75));
    assert_eq!(scored(&matrix, Some("ics"), now()).count(), 1);
}

fn any_verdicts() -> impl Strategy<Value = Verdicts> {
    (0_i64..4, 0_i64..4, 0_i64..4, 0_i64..500, proptest::collection::btree_set("[abc]", 0..3)).prop_map(
        |(detected, partially, not, days, platforms)| {
            if detected + partially + not == 0 {
                return Verdicts::default();
            }
            Verdicts { platforms, ..tested(detected, partially, not, days, &[]) }
        },
    )
}

fn any_weights() -> impl Strategy<Value = Weights> {
    proptest::collection::vec(0_i64..10_001, 4).prop_map(|mut cuts| {
        cuts.sort_unstable();
        let edges = [0, cuts[0], cuts[1], cuts[2], cuts[3], 10_000];
        Weights::new(std::array::from_fn(|i| edges[i + 1] - edges[i])).unwrap()
    })
}

proptest! {
    #[test]
    fn a_score_is_from_0_to_100_and_the_sum_of_its_parts(
        verdicts in any_verdicts(),
        weights in any_weights(),
        platforms in proptest::collection::btree_set("[abcd]", 0..4),
        rules in 0_i64..9,
        mapped in 0_i64..6,
        implemented in 0_i64..6,
    ) {
        let mut technique = technique("T0001", Status::Partial);
        technique.platforms = platforms.into_iter().collect();
        technique.tests = verdicts;
        let knowledge = knowledge(rules, (mapped, implemented.min(mapped)));
        let score = Score::of(&technique, &knowledge, weights, now());
        prop_assert!((0..=10_000).contains(&score.hundredths()));
        let parts = words::of_technique(&technique, &knowledge, weights, &score, now());
        let shown: i64 = parts.iter().map(|part| (part.points * 100.0).round() as i64).sum();
        prop_assert_eq!(shown, score.hundredths());
        prop_assert_eq!(one_decimal(shown, 1), score.value());
        for part in &parts {
            prop_assert!((0.0..=1.0).contains(&part.raw) && part.points <= part.weight + 1e-9);
            prop_assert!((part.raw * part.weight - part.points).abs() < 0.02, "{:?}", part);
            prop_assert_eq!(part.advice.is_empty(), part.gain == 0.0);
            prop_assert!(part.points + part.gain <= part.weight + 1e-9);
        }
        // One more detected test is never worse.
        let mut better = technique.clone();
        better.tests.detected += 1;
        better.tests.last_validated_at = Some(now());
        prop_assert!(Score::of(&better, &knowledge, weights, now()).hundredths() >= score.hundredths());
    }
}
