//! The status of a technique, computed from what is known of its tests.

use std::collections::HashMap;

use chrono::{DateTime, Utc};
use uuid::Uuid;

/// How well a technique is covered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Status {
    /// No test says anything.
    #[default]
    NotEvaluated,
    /// A test is under way, none is validated.
    InProgress,
    /// Everything that was tested was detected.
    Validated,
    /// Some of what was tested was detected.
    Partial,
    /// Nothing that was tested was detected.
    NotCovered,
}

impl Status {
    /// All of them.
    pub const ALL: [Status; 5] =
        [Status::NotEvaluated, Status::InProgress, Status::Validated, Status::Partial, Status::NotCovered];
    /// The names of [`Status::ALL`].
    pub const NAMES: [&'static str; 5] = ["not_evaluated", "in_progress", "validated", "partial", "not_covered"];

    /// The name on every interface.
    pub fn as_str(self) -> &'static str {
        match self {
            Status::NotEvaluated => "not_evaluated",
            Status::InProgress => "in_progress",
            Status::Validated => "validated",
            Status::Partial => "partial",
            Status::NotCovered => "not_covered",
        }
    }

    /// The status of that name.
    pub fn parse(name: &str) -> Option<Status> {
        Status::ALL.into_iter().find(|status| status.as_str() == name)
    }
}

/// What a test says about its technique.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is validated and was detected.
    Detected,
    /// It is validated and was partially detected.
    Partially,
    /// It is validated and was not detected.
    Missed,
    /// It is under way.
    Open,
    /// It is rejected, or validated without saying what was detected, or unknown.
    Nothing,
}

impl Verdict {
    /// From a test's `state` and `detection_result`.
    pub fn of(state: &str, detection_result: &str) -> Verdict {
        match (state, detection_result) {
            ("validated", "detected") => Verdict::Detected,
            ("validated", "partially_detected") => Verdict::Partially,
            ("validated", "not_detected") => Verdict::Missed,
            ("draft" | "red_executing" | "blue_evaluating" | "in_review", _) => Verdict::Open,
            _ => Verdict::Nothing,
        }
    }

    /// Whether it says what was detected: only these count where there are any.
    pub fn is_result(self) -> bool {
        self.halves().is_some()
    }

    /// Twice the share that was detected, of a validated test with a result.
    fn halves(self) -> Option<u64> {
        match self {
            Verdict::Detected => Some(2),
            Verdict::Partially => Some(1),
            Verdict::Missed => Some(0),
            Verdict::Open | Verdict::Nothing => None,
        }
    }
}

/// What the status needs of a test.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fact {
    /// The test.
    pub test_id: Uuid,
    /// First test of its retest chain.
    pub chain_id: Uuid,
    /// What it says.
    pub verdict: Verdict,
    /// When it was validated.
    pub validated_at: Option<DateTime<Utc>>,
}

/// The status that a technique with these tests has; their order does not matter.
pub fn status(facts: &[Fact]) -> Status {
    // The newest validated test of each chain counts; of two at the same moment the younger one.
    let mut newest: HashMap<Uuid, (Option<DateTime<Utc>>, Uuid, u64)> = HashMap::new();
    for fact in facts {
        let Some(halves) = fact.verdict.halves() else { continue };
        let candidate = (fact.validated_at, fact.test_id, halves);
        newest.entry(fact.chain_id).and_modify(|best| *best = (*best).max(candidate)).or_insert(candidate);
    }
    let detected: u64 = newest.values().map(|(_, _, halves)| halves).sum();
    let most = 2 * newest.len() as u64;
    match detected {
        _ if most == 0 && facts.iter().any(|fact| fact.verdict == Verdict::Open) => Status::InProgress,
        _ if most == 0 => Status::NotEvaluated,
        0 => Status::NotCovered,
        all if all == most => Status::Validated,
        _ => Status::Partial,
    }
}

#[cfg(test)]
mod tests {
    use chrono::TimeZone;
    use proptest::prelude::*;

    use super::*;

    fn fact(test: u128, chain: u128, state: &str, result: &str, at: i64) -> Fact {
        Fact {
            test_id: Uuid::from_u128(test),
            chain_id: Uuid::from_u128(chain),
            verdict: Verdict::of(state, result),
            validated_at: (at > 0).then(|| Utc.timestamp_opt(at, 0).unwrap()),
        }
    }

    #[test]
    fn names_go_both_ways() {
        for (status, name) in Status::ALL.into_iter().zip(Status::NAMES) {
            assert_eq!(status.as_str(), name);
            assert_eq!(Status::parse(name), Some(status));
        }
        assert_eq!(Status::parse("Validated"), None);
    }

    #[test]
    fn the_table_of_the_specification() {
        let cases: [(&[Fact], Status); 13] = [
            (&[], Status::NotEvaluated),
            (&[fact(1, 1, "draft", "", 0)], Status::InProgress),
            (&[fact(1, 1, "in_review", "detected", 0)], Status::InProgress),
            (&[fact(1, 1, "rejected", "detected", 0)], Status::NotEvaluated),
            (&[fact(1, 1, "validated", "", 5)], Status::NotEvaluated),
            (&[fact(1, 1, "validated", "", 5), fact(2, 2, "draft", "", 0)], Status::InProgress),
            (&[fact(1, 1, "validated", "detected", 5)], Status::Validated),
            (&[fact(1, 1, "validated", "partially_detected", 5)], Status::Partial),
            (&[fact(1, 1, "validated", "not_detected", 5)], Status::NotCovered),
            // Two chains, one found and one missed.
            (&[fact(1, 1, "validated", "detected", 5), fact(2, 2, "validated", "not_detected", 5)], Status::Partial),
            // A retest was detected: the miss before it does not count, whatever the order they come in.
            (&[fact(2, 1, "validated", "detected", 9), fact(1, 1, "validated", "not_detected", 5)], Status::Validated),
            // A retest that is open or has no result leaves the one before it standing.
            (
                &[
                    fact(1, 1, "validated", "not_detected", 5),
                    fact(2, 1, "validated", "", 9),
                    fact(3, 1, "draft", "", 0),
                ],
                Status::NotCovered,
            ),
            (&[fact(1, 1, "validated", "detected", 5), fact(2, 2, "draft", "", 0)], Status::Validated),
        ];
        for (facts, expected) in cases {
            assert_eq!(status(facts), expected, "{facts:?}");
        }
    }

    prop_compose! {
        fn any_fact()(
            test in 0u128..1_000_000,
            chain in 0u128..4,
            state in prop::sample::select(vec!["draft", "in_review", "validated", "validated", "rejected", "else"]),
            result in prop::sample::select(vec!["detected", "partially_detected", "not_detected", ""]),
            at in 0i64..20,
        ) -> Fact {
            fact(test, chain, state, result, at)
        }
    }

    proptest! {
        #[test]
        fn order_and_repetition_do_not_matter(facts in prop::collection::vec(any_fact(), 0..12), turn in 0usize..12) {
            let expected = status(&facts);
            let mut turned = facts.clone();
            turned.rotate_left(turn % facts.len().max(1));
            turned.reverse();
            turned.extend(facts.iter().copied());
            prop_assert_eq!(status(&turned), expected);
        }

        #[test]
        fn it_is_the_mean_over_the_newest_of_each_chain(facts in prop::collection::vec(any_fact(), 0..12)) {
            // Written another way: sort, then keep the last of each chain.
            let mut validated: Vec<_> = facts.iter().filter(|f| f.verdict.halves().is_some()).collect();
            validated.sort_by_key(|f| (f.validated_at, f.test_id, f.verdict.halves()));
            let last: std::collections::BTreeMap<_, _> = validated.iter().map(|f| (f.chain_id, f.verdict)).collect();
            let share = |v: &Verdict| match v { Verdict::Detected => 1.0, Verdict::Partially => 0.5, _ => 0.0 };
            let mean = last.values().map(share).sum::<f64>() / last.len() as f64;
            let open = facts.iter().any(|f| f.verdict == Verdict::Open);
            let expected = if last.is_empty() {
                if open { Status::InProgress } else { Status::NotEvaluated }
            } else if mean >= 1.0 {
                Status::Validated
            } else if mean <= 0.0 {
                Status::NotCovered
            } else {
                Status::Partial
            };
            prop_assert_eq!(status(&facts), expected);
        }
    }
}
