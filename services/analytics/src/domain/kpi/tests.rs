//! Figures against the same figures worked out plainly.

use proptest::prelude::*;

use super::*;

fn of<'a>(kpis: &'a [Kpi], name: &str) -> &'a Kpi {
    kpis.iter().find(|kpi| kpi.name == name).unwrap()
}

fn numbers(values: &[i64]) -> String {
    values.iter().map(i64::to_string).collect::<Vec<_>>().join(",")
}

fn detected_in(values: &[i64]) -> Group {
    let n = i64::try_from(values.len()).unwrap();
    let mut group = Group { n, detected: 1, with_result: n, ..Group::default() };
    group.times[0] = numbers(values);
    group
}

#[test]
fn without_data_there_is_no_figure() {
    let nothing = Collector::new(0).finish();
    let names = nothing.kpis.iter().map(|kpi| kpi.name).collect::<Vec<_>>();
    let wanted = [
        "mttd",
        "mttr",
        "mttc",
        "detection_efficacy",
        "attack_success_rate",
        "remediation_rate",
        "red_cycle",
        "blue_cycle",
        "review_cycle",
    ];
    assert_eq!(names, wanted);
    for kpi in nothing.kpis.iter().chain(&empty_week().kpis) {
        assert_eq!((kpi.value, kpi.median, kpi.p95, kpi.n), (None, None, None, 0), "{}", kpi.name);
    }
    assert!(nothing.weeks.is_empty());
}

#[test]
fn times_have_mean_median_and_percentile() {
    let mut all = Collector::new(0);
    all.add(Some(3), State::Validated, &detected_in(&[10, 40, 20, 31]));
    let all = all.finish();
    let mttd = of(&all.kpis, "mttd");
    // The ranks 1.5 and 2.85 of 10, 20, 31, 40.
    assert_eq!((mttd.value, mttd.median, mttd.p95, mttd.n), (Some(25.3), Some(25.5), Some(38.7), 4));
    assert_eq!(mttd.unit, "seconds");
    let efficacy = of(&all.kpis, "detection_efficacy");
    assert_eq!((efficacy.value, efficacy.median, efficacy.p95, efficacy.n), (Some(25.0), None, None, 4));
    assert_eq!(efficacy.unit, "percent");
    let one = Kpi::of_times("mttd", &mut [7]);
    assert_eq!((one.value, one.median, one.p95), (Some(7.0), Some(7.0), Some(7.0)));
}

#[test]
fn only_validated_tests_count_for_detection() {
    let mut all = Collector::new(0);
    let mut group = detected_in(&[5]);
    group.times[3] = numbers(&[60]);
    group.attacked = 1;
    for state in State::ALL {
        all.add(None, state, &group);
    }
    let all = all.finish();
    assert_eq!((of(&all.kpis, "mttd").n, of(&all.kpis, "detection_efficacy").n), (1, 1));
    assert_eq!((of(&all.kpis, "attack_success_rate").n, of(&all.kpis, "red_cycle").n), (1, 6));
    let own = |team| all.kpis_of(team).map(|kpi| kpi.name).collect::<Vec<_>>();
    assert_eq!(own("red"), ["attack_success_rate", "red_cycle"]);
    assert_eq!(own("blue"), ["mttd", "mttr", "mttc", "detection_efficacy", "remediation_rate", "blue_cycle"]);
}

#[test]
fn weeks_are_of_what_was_decided_in_them() {
    let mut all = Collector::new(10);
    all.add(None, State::Draft, &Group { n: 5, ..Group::default() });
    all.add(Some(9), State::Validated, &detected_in(&[1]));
    all.add(Some(10), State::Rejected, &Group { n: 2, ..Group::default() });
    all.add(Some(10), State::Validated, &detected_in(&[2, 4]));
    all.add(Some(12), State::Validated, &detected_in(&[8]));
    let all = all.finish();
    assert_eq!(all.weeks.keys().copied().collect::<Vec<_>>(), [10, 12]);
    let week = &all.weeks[&10];
    assert_eq!((week.validated, week.rejected, of(&week.kpis, "mttd").value), (2, 2, Some(3.0)));
    assert_eq!((of(&all.kpis, "mttd").n, of(&all.kpis, "mttd").value), (4, Some(3.8)));
}

#[test]
fn teams_and_votes_are_counted_by_state() {
    let mut all = Collector::new(0);
    let votes = Votes { approved: 1, rejected: 0, pending: 3 };
    for state in State::ALL {
        all.add(None, state, &Group { n: 1, red_lately: 1, blue_lately: 1, red: votes, ..Group::default() });
    }
    let all = all.finish();
    assert_eq!(all.red, Load { completed: 4, pending: 2, completed_lately: 4 });
    assert_eq!(all.blue, Load { completed: 3, pending: 1, completed_lately: 3 });
    assert_eq!(all.red_votes, Votes { approved: 6, rejected: 0, pending: 3 });
    assert_eq!(all.blue_votes, Votes::default());
}

proptest! {
    #[test]
    fn quantiles_are_those_of_the_sorted_values(
        values in prop::collection::vec(-1000..100_000_i64, 1..200),
        percent in 0..=100_usize,
    ) {
        let mut sorted = values.clone();
        sorted.sort_unstable();
        let rank = (sorted.len() - 1) as f64 * percent as f64 / 100.0;
        let (low, high) = (sorted[rank.floor() as usize] as f64, sorted[rank.ceil() as usize] as f64);
        let wanted = low + (high - low) * (rank - rank.floor());
        let found = quantile(&mut values.clone(), percent).unwrap();
        prop_assert!((found - wanted).abs() < 1e-6, "{} is not {}", found, wanted);
    }

    #[test]
    fn how_tests_are_grouped_does_not_matter(values in prop::collection::vec(0..1000_i64, 1..50), cut in 0..50_usize) {
        let cut = cut.min(values.len());
        let mut whole = Collector::new(0);
        whole.add(Some(1), State::Validated, &detected_in(&values));
        let mut parts = Collector::new(0);
        parts.add(Some(1), State::Validated, &detected_in(&values[..cut]));
        parts.add(Some(1), State::Validated, &Group { detected: 0, ..detected_in(&values[cut..]) });
        prop_assert_eq!(whole.finish(), parts.finish());
    }
}
