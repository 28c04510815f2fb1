//! Which tests raise a score most, if each of them is run and detects.
//!
//! Techniques do not touch each other's scores, so the best plan shares its tests out among them: for each technique the
//! most that it gains by one test, by two … is reckoned, and the best way to share is found among all of them, as a
//! knapsack. Taking the best test again and again would not do: a technique's next test may be worth more than the one
//! before it, and the best two need not have the best one among them.

#[cfg(test)]
mod tests;

use std::cmp::Reverse;

use super::{
    matrix::{Knowledge, MatrixTechnique},
    score::{Part, Score, Share, Weights, chains, count, covered_platforms, one_decimal, points, users, words},
};

/// Tests of a plan at most.
pub(crate) const MAX_TESTS: usize = 100;

/// A test that is worth running.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Planned<'a> {
    pub(crate) technique: &'a MatrixTechnique,
    /// Of the technique, now and after this test and those before it.
    pub(crate) score: f64,
    pub(crate) score_after: f64,
    /// Points that the whole score gains by it, four decimals.
    pub(crate) gain: f64,
    /// Where it should run; empty where that does not matter.
    pub(crate) platform: String,
    /// A retest of one that was not or only partially detected.
    pub(crate) retest: bool,
    pub(crate) reason: String,
}

/// The best tests, the one that gains most first.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Plan<'a> {
    /// Mean of the techniques' scores, now and after all of it.
    pub(crate) score: Option<f64>,
    pub(crate) score_after: Option<f64>,
    pub(crate) tests: Vec<Planned<'a>>,
}

/// What is done to a technique.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Taken {
    /// Retests: first of those that were not detected, then of those that were partially.
    retests: i64,
    /// New tests, each on a platform that has none.
    platforms: i64,
    /// A new test on whatever platform; never worth it where one of the others is left.
    other: i64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Retest,
    Platform,
    Other,
}

impl Taken {
    fn and(self, step: Step) -> Taken {
        match step {
            Step::Retest => Taken { retests: self.retests + 1, ..self },
            Step::Platform => Taken { platforms: self.platforms + 1, ..self },
            Step::Other => Taken { other: self.other + 1, ..self },
        }
    }

    fn tests(self) -> i64 {
        self.retests + self.platforms + self.other
    }
}

/// A technique that tests can be planned for.
struct Candidate<'a> {
    technique: &'a MatrixTechnique,
    score: Score,
    weights: Weights,
    /// Platforms without a test that counts.
    open: Vec<&'a str>,
    covered: i64,
    users: i64,
    /// `gains[k]`: what `k` tests bring at most, in hundredths, and how.
    gains: Vec<(i64, Taken)>,
}

impl<'a> Candidate<'a> {
    fn new(technique: &'a MatrixTechnique, score: Score, knowledge: &Knowledge, weights: Weights, most: usize) -> Self {
        let mut candidate = Candidate {
            technique,
            score,
            weights,
            open: words::open_platforms(technique),
            covered: covered_platforms(technique),
            users: users(knowledge, technique),
            gains: Vec::new(),
        };
        candidate.gains = candidate.all_gains(count(most));
        candidate
    }

    fn missed(&self) -> i64 {
        self.technique.tests.not_detected + self.technique.tests.partially_detected
    }

    fn all_gains(&self, most: i64) -> Vec<(i64, Taken)> {
        let (missed, open) = (self.missed(), count(self.open.len()));
        let useful = most.min((missed + open).max(1));
        let mut gains = vec![(0, Taken::default())];
        for tests in 1..=useful {
            let best = if missed + open == 0 {
                let taken = Taken { other: tests, ..Taken::default() };
                (self.gain(taken), taken)
            } else {
                // At least one, as `tests` is at most what is missed and open together.
                let ways = ((tests - missed).max(0)..=tests.min(open))
                    .map(|platforms| Taken { retests: tests - platforms, platforms, other: 0 })
                    .map(|taken| (self.gain(taken), taken));
                // The first of equals is the one with more retests.
                ways.reduce(|best, way| if way.0 > best.0 { way } else { best }).unwrap_or_default()
            };
            gains.push(best);
        }
        gains
    }

    /// Points of the parts that a test changes, in hundredths.
    fn parts(&self, taken: Taken) -> [i64; 3] {
        let changed = [Part::Tests, Part::Freshness, Part::PlatformDiversity];
        if taken.tests() == 0 {
            return changed.map(|part| self.score.points(part));
        }
        let verdicts = &self.technique.tests;
        let new = taken.platforms + taken.other;
        let halves = 2 * verdicts.detected + verdicts.partially_detected;
        let of_not = taken.retests.min(verdicts.not_detected);
        let tests = Share::new(halves + 2 * of_not + (taken.retests - of_not) + 2 * new, 2 * (chains(verdicts) + new));
        let diversity = match count(self.technique.platforms.len()) {
            0 => Share::ONE,
            all => Share::new(self.covered + taken.platforms, all),
        };
        [
            tests.times(self.weights.of(changed[0])),
            self.weights.of(changed[1]),
            diversity.times(self.weights.of(changed[2])),
        ]
    }

    fn gain(&self, taken: Taken) -> i64 {
        self.parts(taken).iter().sum::<i64>() - self.parts(Taken::default()).iter().sum::<i64>()
    }

    /// The tests of a way, the one that gains most first.
    fn steps(&self, way: Taken) -> Vec<(Step, Taken)> {
        let mut taken = Taken::default();
        let mut steps = Vec::new();
        while taken != way {
            let left = [
                (Step::Retest, way.retests > taken.retests),
                (Step::Platform, way.platforms > taken.platforms),
                (Step::Other, way.other > taken.other),
            ];
            let next =
                left.into_iter().filter(|(_, left)| *left).map(|(step, _)| step).reduce(|best, step| {
                    if self.gain(taken.and(step)) > self.gain(taken.and(best)) { step } else { best }
                });
            let Some(step) = next else { break };
            steps.push((step, taken));
            taken = taken.and(step);
        }
        steps
    }

    /// Why a test is worth running after `before`.
    fn reason(&self, step: Step, before: Taken) -> String {
        let verdicts = &self.technique.tests;
        let why = match step {
            Step::Retest if before.retests < verdicts.not_detected => {
                "its last test of a chain was not detected".to_owned()
            }
            Step::Retest => "its last test of a chain was only partially detected".to_owned(),
            Step::Platform if chains(verdicts) == 0 && before.tests() == 0 => "no validated test yet".to_owned(),
            Step::Platform => "no validated test on this platform yet".to_owned(),
            Step::Other if chains(verdicts) == 0 => "no validated test yet".to_owned(),
            Step::Other => "its last validation is no longer fresh".to_owned(),
        };
        let names = [Part::Tests, Part::Freshness, Part::PlatformDiversity].map(Part::as_str);
        let (old, new) = (self.parts(before), self.parts(before.and(step)));
        let changes: Vec<String> = names
            .iter()
            .zip(old.iter().zip(&new))
            .filter(|(_, (old, new))| old != new)
            .map(|(name, (old, new))| format!("{name} {:+}", points(new - old)))
            .collect();
        let used = match self.users {
            0 => String::new(),
            n => format!("; used by {}", words::several(n, "threat actor")),
        };
        format!("{why}: {}{used}", changes.join(", "))
    }
}

/// The tests, `most` of them or fewer where more would bring nothing, that raise the mean score of `techniques` most.
/// Of plans that bring the same, the one whose techniques more threat actors use.
pub(crate) fn plan<'a>(
    techniques: &[(&'a MatrixTechnique, Score)],
    knowledge: &Knowledge,
    weights: Weights,
    most: usize,
) -> Plan<'a> {
    let most = most.min(MAX_TESTS);
    let n = count(techniques.len());
    let candidates: Vec<Candidate<'a>> = techniques
        .iter()
        .map(|(technique, score)| Candidate::new(technique, *score, knowledge, weights, most))
        .collect();
    let now: i64 = techniques.iter().map(|(_, score)| score.hundredths()).sum();
    let tests = ranked(&candidates, &shared_out(&candidates, most), n);
    let gained: i64 = tests.iter().map(|(gain, _)| gain).sum();
    Plan {
        score: (n > 0).then(|| one_decimal(now, n)),
        score_after: (n > 0).then(|| one_decimal(now + gained, n)),
        tests: tests.into_iter().map(|(_, test)| test).collect(),
    }
}

/// How many tests each candidate gets.
fn shared_out(candidates: &[Candidate<'_>], most: usize) -> Vec<usize> {
    // best[j]: what j tests bring at most on the candidates so far; then how many threat actors use what they are of.
    let mut best = vec![(0_i64, 0_i64); most + 1];
    let mut chosen: Vec<Vec<u8>> = Vec::with_capacity(candidates.len());
    for candidate in candidates {
        // A test that brings nothing to those before it is none that anybody should run.
        let worth: Vec<(usize, i64)> = (1..candidate.gains.len())
            .filter(|k| candidate.gains[*k].0 > candidate.gains[*k - 1].0)
            .map(|k| (k, candidate.gains[k].0))
            .collect();
        let mut choice = vec![0_u8; most + 1];
        for tests in (1..=most).rev() {
            for &(k, gain) in worth.iter().take_while(|(k, _)| *k <= tests) {
                let before = best[tests - k];
                let now = (before.0 + gain, before.1 + candidate.users * count(k));
                if now > best[tests] {
                    best[tests] = now;
                    choice[tests] = u8::try_from(k).unwrap_or(u8::MAX);
                }
            }
        }
        chosen.push(choice);
    }
    let mut left = most;
    let mut shares = vec![0; candidates.len()];
    for (share, choice) in shares.iter_mut().zip(&chosen).rev() {
        *share = usize::from(choice[left]);
        left -= *share;
    }
    shares
}

/// The tests in the order of what they bring, each with that in hundredths.
fn ranked<'a>(candidates: &[Candidate<'a>], shares: &[usize], n: i64) -> Vec<(i64, Planned<'a>)> {
    let mut waiting: Vec<_> = candidates
        .iter()
        .zip(shares)
        .filter(|(_, share)| **share > 0)
        .map(|(candidate, share)| (candidate, candidate.steps(candidate.gains[*share].1).into_iter().peekable()))
        .collect();
    let mut tests = Vec::new();
    loop {
        // At most a hundred wait; those of a technique keep their order.
        let next = waiting
            .iter_mut()
            .filter_map(|(candidate, steps)| {
                let (step, before) = *steps.peek()?;
                let gain = candidate.gain(before.and(step)) - candidate.gain(before);
                Some(((Reverse(gain), Reverse(candidate.users), &candidate.technique.mitre_id), &*candidate, steps))
            })
            .min_by(|(a, ..), (b, ..)| a.cmp(b));
        let Some(((Reverse(gain), ..), candidate, steps)) = next else { return tests };
        let Some((step, before)) = steps.next() else { return tests };
        let platform = match step {
            Step::Platform => usize::try_from(before.platforms).ok().and_then(|nth| candidate.open.get(nth).copied()),
            Step::Retest | Step::Other => None,
        };
        let score = candidate.score.hundredths();
        tests.push((
            gain,
            Planned {
                technique: candidate.technique,
                score: candidate.score.value(),
                score_after: one_decimal(score + candidate.gain(before.and(step)), 1),
                gain: four_decimals(gain, n),
                platform: platform.unwrap_or_default().to_owned(),
                retest: step == Step::Retest,
                reason: candidate.reason(step, before),
            },
        ));
    }
}

/// A sum of hundredths over `n` as a mean with four decimals.
fn four_decimals(hundredths: i64, n: i64) -> f64 {
    super::score::divided(100 * hundredths, n) as f64 / 10_000.0
}
