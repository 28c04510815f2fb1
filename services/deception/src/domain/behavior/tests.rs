use proptest::prelude::*;

use super::*;

const START: i64 = 1_777_000_000_000_000;

fn timing(seconds: &[f64]) -> Timing {
    let mut timing = Timing::default();
    for at in seconds {
        timing.add(START + (at * MICROS) as i64);
    }
    timing
}

/// Gaps of `mean` seconds, longer and shorter by `jitter` in turn.
fn steady(count: usize, mean: f64, jitter: f64) -> Timing {
    let mut at = 0.0;
    let times: Vec<f64> = (0..count)
        .map(|place| {
            let now = at;
            at += mean + if place % 2 == 0 { jitter } else { -jitter };
            now
        })
        .collect();
    timing(&times)
}

fn class(timing: &Timing, services: usize) -> Class {
    Class::of(&timing.stats(), services)
}

#[test]
fn gaps_need_two_events() {
    assert_eq!(Timing::default().stats(), Stats::default());
    let one = timing(&[3.0]).stats();
    assert_eq!((one.event_count, one.duration_s, one.mean_iat_s, one.cv), (1, 0.0, None, None));
    let two = timing(&[3.0, 4.5]).stats();
    assert_eq!((two.duration_s, two.mean_iat_s, two.median_iat_s), (1.5, Some(1.5), Some(1.5)));
    assert_eq!((two.stdev_iat_s, two.cv), (Some(0.0), Some(0.0)));
    assert_eq!(Class::of(&two, 1), Class::Unknown);
}

#[test]
fn figures_are_those_of_the_gaps() {
    // 1, 2, 3, 10
    let stats = timing(&[0.0, 1.0, 3.0, 6.0, 16.0]).stats();
    assert_eq!(stats.duration_s, 16.0);
    assert_eq!(stats.mean_iat_s, Some(4.0));
    assert_eq!(stats.median_iat_s, Some(2.5));
    assert_eq!(stats.stdev_iat_s, Some(3.535534));
    assert_eq!((stats.min_iat_s, stats.max_iat_s), (Some(1.0), Some(10.0)));
    assert_eq!(stats.cv, Some(0.883883));
    // All at once has no mean to compare with.
    assert_eq!(timing(&[1.0; 9]).stats().cv, Some(0.0));
}

#[test]
fn the_first_class_that_fits() {
    assert_eq!(class(&steady(2, 60.0, 0.0), 1), Class::Unknown);
    assert_eq!(class(&steady(4, 10.0, 0.0), 2), Class::SlowScan);
    assert_eq!(class(&steady(3, 10.0, 0.0), 2), Class::Mixed);
    assert_eq!(class(&steady(3, 9.9, 0.0), 3), Class::Scanning);
    assert_eq!(class(&steady(3, 1.9, 0.0), 2), Class::Scanning);
    assert_eq!(class(&steady(3, 2.0, 0.0), 2), Class::Mixed);
    assert_eq!(class(&steady(8, 4.9, 0.0), 1), Class::BruteForce);
    assert_eq!(class(&timing(&[7.0; 8]), 1), Class::BruteForce);
    assert_eq!(class(&steady(7, 4.9, 0.0), 1), Class::Mixed);
    assert_eq!(class(&steady(4, 5.0, 0.0), 1), Class::Beaconing);
    assert_eq!(class(&steady(10, 60.0, 12.0), 1), Class::Beaconing);
    assert_eq!(class(&steady(6, 20.0, 10.0), 1), Class::Mixed);
    let typed = [0.0, 0.2, 0.5, 1.0, 5.0, 5.1, 5.3, 10.0, 10.1, 10.2, 12.0];
    assert_eq!(class(&timing(&typed), 1), Class::Interactive);
    assert_eq!(class(&timing(&typed[..5]), 1), Class::Mixed);
    // Of two services that are beacons too, the earlier rule says what it is.
    assert_eq!(class(&steady(10, 60.0, 0.0), 2), Class::SlowScan);
    assert_eq!(class(&steady(10, 5.0, 0.0), 2), Class::Beaconing);
}

#[test]
fn what_comes_late_finds_its_place() {
    let mut ordered = Timing::default();
    let mut late = Timing::default();
    let times: Vec<i64> = (0..100).map(|place| START + place * place * 1_000).collect();
    times.iter().for_each(|at| ordered.add(*at));
    times.iter().rev().for_each(|at| late.add(*at));
    assert_eq!(late.stats(), ordered.stats());
    let mut shuffled = Timing::default();
    times.iter().skip(1).step_by(2).chain(times.iter().step_by(2)).for_each(|at| shuffled.add(*at));
    assert_eq!(shuffled, ordered);
}

#[test]
fn what_is_too_late_is_counted_alone() {
    let mut timing = Timing::default();
    (0..1_000).for_each(|place| timing.add(START + place * 1_000_000));
    let before = timing.stats();
    timing.add(START + 500_500_000);
    let after = timing.stats();
    assert_eq!(after, Stats { event_count: 1_001, ..before });
}

#[test]
fn the_median_of_many_is_right_within_a_percent() {
    let mut timing = Timing::default();
    let (mut at, mut gaps) = (START, Vec::new());
    timing.add(at);
    for place in 0..20_000_u64 {
        let gap = place * 7_919 % 10_007 * 531;
        gaps.push(gap);
        at += gap.cast_signed();
        timing.add(at);
        if place + 1 == EXACT_GAPS as u64 {
            let mut sorted = gaps.clone();
            sorted.sort_unstable();
            let exact = f64::midpoint(sorted[EXACT_GAPS / 2 - 1] as f64, sorted[EXACT_GAPS / 2] as f64);
            assert_eq!(timing.stats().median_iat_s, Some(seconds(exact)));
        }
    }
    gaps.sort_unstable();
    let stats = timing.stats();
    let (exact, told) = (gaps[10_000] as f64 / MICROS, stats.median_iat_s.unwrap());
    assert!((told - exact).abs() <= exact * 0.0101, "{told} for {exact}");
    assert_eq!(stats.max_iat_s, Some(seconds(gaps[19_999] as f64)));
    assert!(timing.encode().len() < 4_096);
    assert_eq!(Timing::decode(&timing.encode()), Some(timing));
}

#[test]
fn extreme_times_are_no_fault() {
    let mut timing = Timing::default();
    for at in [i64::MAX, i64::MIN, 0, -1, i64::MAX] {
        timing.add(at);
    }
    let stats = timing.stats();
    assert_eq!(stats.event_count, 5);
    assert!(stats.cv.unwrap().is_finite());
    assert_eq!(Timing::decode(&timing.encode()), Some(timing));
}

#[test]
fn what_is_damaged_in_store_is_refused() {
    // The shortest gap is longer than the longest; together there are more than can be counted.
    let smallest = [1, 2, 2, 1, 9, 9, 0, 1, 5, 0, 2, 9, 1, 3, 2];
    assert_eq!(Timing::decode(&smallest), None);
    let most = [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1];
    let counted = [&[1, 2, 2, 1, 9, 9, 0, 1, 0, 5, 2, 1][..], &most, &[3], &most].concat();
    assert_eq!(Timing::decode(&counted), None);
}

proptest! {
    #[test]
    fn figures_are_the_same_as_by_hand(mut gaps in prop::collection::vec(0..10_000_000_u64, 1..200)) {
        let mut timing = Timing::default();
        let mut at = START;
        timing.add(at);
        for gap in &gaps {
            at += gap.cast_signed();
            timing.add(at);
        }
        let n = gaps.len() as f64;
        let mean = gaps.iter().sum::<u64>() as f64 / n;
        let stdev = (gaps.iter().map(|gap| (*gap as f64 - mean).powi(2)).sum::<f64>() / n).sqrt();
        gaps.sort_unstable();
        let half = gaps.len() / 2;
        let median = if gaps.len() % 2 == 1 { gaps[half] as f64 } else { (gaps[half - 1] + gaps[half]) as f64 / 2.0 };
        let stats = timing.stats();
        prop_assert!((stats.mean_iat_s.unwrap() * MICROS - mean).abs() < 1.0);
        prop_assert!((stats.stdev_iat_s.unwrap() * MICROS - stdev).abs() < 1.0);
        prop_assert!((stats.median_iat_s.unwrap() * MICROS - median).abs() < 1.0);
        prop_assert_eq!(Timing::decode(&timing.encode()), Some(timing));
    }

    #[test]
    fn the_order_of_few_does_not_matter(times in prop::collection::vec(0..1_000_000_i64, 1..100)) {
        let (mut one, mut two) = (Timing::default(), Timing::default());
        times.iter().for_each(|at| one.add(*at));
        let mut sorted = times;
        sorted.sort_unstable();
        sorted.iter().for_each(|at| two.add(*at));
        prop_assert_eq!(one, two);
    }

    #[test]
    fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        if let Some(timing) = Timing::decode(&bytes) {
            let _ = timing.stats();
        }
    }
}
