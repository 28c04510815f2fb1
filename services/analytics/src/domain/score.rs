//! Scores from 0 to 100: what five parts say of a technique, weighed and summed.
//!
//! All of it is reckoned in whole hundredths of a point, part by part, so that a score is always the sum of the points
//! that are shown, and no order of summing changes it.

#[cfg(test)]
pub(crate) mod fixture;
#[cfg(test)]
mod tests;
pub(crate) mod words;

use chrono::{DateTime, Utc};

use super::matrix::{Knowledge, Matrix, MatrixTechnique, Verdicts};

/// This many detection rules are enough.
pub(crate) const ENOUGH_RULES: i64 = 5;
/// What was validated in so many days is fresh.
pub(crate) const FRESH_DAYS: i64 = 90;
/// What was validated so many days ago counts for nothing.
const STALE_DAYS: i64 = 365;
const DAY: i64 = 24 * 60 * 60;

/// What a score is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    Tests,
    DetectionRules,
    D3fend,
    Freshness,
    PlatformDiversity,
}

impl Part {
    pub(crate) const ALL: [Part; 5] =
        [Part::Tests, Part::DetectionRules, Part::D3fend, Part::Freshness, Part::PlatformDiversity];

    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Part::Tests => "tests",
            Part::DetectionRules => "detection_rules",
            Part::D3fend => "d3fend",
            Part::Freshness => "freshness",
            Part::PlatformDiversity => "platform_diversity",
        }
    }
}

/// What each part counts: percent that sum to 100, kept in hundredths.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Weights([i64; 5]);

impl Default for Weights {
    fn default() -> Self {
        Weights([4_000, 2_000, 1_500, 1_500, 1_000])
    }
}

impl Weights {
    /// Weights in hundredths of a percent, in the order of [`Part::ALL`], if they are some.
    pub(crate) fn new(hundredths: [i64; 5]) -> Option<Weights> {
        let each = hundredths.iter().all(|weight| (0..=10_000).contains(weight));
        (each && hundredths.iter().sum::<i64>() == 10_000).then_some(Weights(hundredths))
    }

    /// In hundredths of a percent, in the order of [`Part::ALL`].
    pub(crate) fn hundredths(self) -> [i64; 5] {
        self.0
    }

    /// In hundredths of a percent, which are the hundredths of a point that the part can bring.
    pub(crate) fn of(self, part: Part) -> i64 {
        self.0[part as usize]
    }

    /// In percent.
    pub(crate) fn percent(self, part: Part) -> f64 {
        points(self.of(part))
    }
}

/// A number from 0 to 1, exactly.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Share {
    of: i64,
    all: i64,
}

impl Share {
    pub(crate) const ZERO: Share = Share { of: 0, all: 1 };
    pub(crate) const ONE: Share = Share { of: 1, all: 1 };

    /// `of / all`; 0 of nothing is 0.
    pub(crate) fn new(of: i64, all: i64) -> Share {
        if all <= 0 { Share::ZERO } else { Share { of: of.clamp(0, all), all } }
    }

    /// Of a whole number, rounded to a whole number.
    pub(crate) fn times(self, whole: i64) -> i64 {
        (2 * self.of * whole + self.all) / (2 * self.all)
    }
}

/// The tests' part: detected 1, partially ½, not 0, and their mean.
pub(crate) fn tests_share(verdicts: &Verdicts) -> Share {
    Share::new(2 * verdicts.detected + verdicts.partially_detected, 2 * chains(verdicts))
}

/// Retest chains with a test that counts.
pub(crate) fn chains(verdicts: &Verdicts) -> i64 {
    verdicts.detected + verdicts.partially_detected + verdicts.not_detected
}

fn rules_share(rules: i64) -> Share {
    Share::new(rules, ENOUGH_RULES)
}

fn freshness_share(last: Option<DateTime<Utc>>, now: DateTime<Utc>) -> Share {
    let Some(last) = last else { return Share::ZERO };
    let age = (now - last).num_seconds();
    Share::new(STALE_DAYS * DAY - age, (STALE_DAYS - FRESH_DAYS) * DAY)
}

/// How many platforms of a technique have a test that counts.
pub(crate) fn covered_platforms(technique: &MatrixTechnique) -> i64 {
    count(technique.platforms.iter().filter(|platform| technique.tests.platforms.contains(*platform)).count())
}

/// A technique without platforms needs a test, on whatever.
fn diversity_share(technique: &MatrixTechnique) -> Share {
    if technique.platforms.is_empty() {
        return if chains(&technique.tests) > 0 { Share::ONE } else { Share::ZERO };
    }
    Share::new(covered_platforms(technique), count(technique.platforms.len()))
}

/// The score of a technique.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Score {
    shares: [Share; 5],
    /// Hundredths of a point.
    points: [i64; 5],
}

impl Score {
    /// The score of a technique at a moment.
    pub(crate) fn of(
        technique: &MatrixTechnique,
        knowledge: &Knowledge,
        weights: Weights,
        now: DateTime<Utc>,
    ) -> Score {
        let (implemented, mapped) = defences(knowledge, technique);
        let shares = [
            tests_share(&technique.tests),
            rules_share(rules(knowledge, technique)),
            Share::new(implemented, mapped),
            freshness_share(technique.tests.last_validated_at, now),
            diversity_share(technique),
        ];
        Score { shares, points: Part::ALL.map(|part| shares[part as usize].times(weights.of(part))) }
    }

    pub(crate) fn share(&self, part: Part) -> Share {
        self.shares[part as usize]
    }

    /// Hundredths of a point.
    pub(crate) fn points(&self, part: Part) -> i64 {
        self.points[part as usize]
    }

    /// Hundredths of a point.
    pub(crate) fn hundredths(&self) -> i64 {
        self.points.iter().sum()
    }

    /// 0 to 100, one decimal.
    pub(crate) fn value(&self) -> f64 {
        one_decimal(self.hundredths(), 1)
    }
}

/// Detection rules of a technique.
pub(crate) fn rules(knowledge: &Knowledge, technique: &MatrixTechnique) -> i64 {
    knowledge.rules.get(&technique.mitre_id).copied().unwrap_or(0)
}

/// Countermeasures of a technique: implemented, and all.
pub(crate) fn defences(knowledge: &Knowledge, technique: &MatrixTechnique) -> (i64, i64) {
    let (all, implemented) = knowledge.defences.get(&technique.mitre_id).copied().unwrap_or((0, 0));
    (implemented, all)
}

/// Threat actors that use a technique.
pub(crate) fn users(knowledge: &Knowledge, technique: &MatrixTechnique) -> i64 {
    knowledge.users.get(&technique.mitre_id).copied().unwrap_or(0)
}

/// Scores of several techniques, summed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Sum {
    /// Techniques.
    pub(crate) n: i64,
    /// Hundredths of a point.
    points: [i64; 5],
    /// Ten-thousandths.
    raw: [i64; 5],
}

impl Sum {
    pub(crate) fn add(&mut self, score: &Score) {
        self.n += 1;
        for part in Part::ALL {
            self.points[part as usize] += score.points(part);
            self.raw[part as usize] += score.share(part).times(10_000);
        }
    }

    /// Mean of the scores, 0 to 100 with one decimal; of none there is none.
    pub(crate) fn mean(&self) -> Option<f64> {
        (self.n > 0).then(|| one_decimal(self.hundredths(), self.n))
    }

    /// Hundredths of a point of all together.
    pub(crate) fn hundredths(&self) -> i64 {
        self.points.iter().sum()
    }

    /// Mean of a part's points, two decimals.
    pub(crate) fn mean_points(&self, part: Part) -> f64 {
        points(divided(self.points[part as usize], self.n))
    }

    /// Mean of a part's raw figure, four decimals.
    pub(crate) fn mean_raw(&self, part: Part) -> f64 {
        divided(self.raw[part as usize], self.n) as f64 / 10_000.0
    }
}

impl<'a> FromIterator<&'a Score> for Sum {
    fn from_iter<I: IntoIterator<Item = &'a Score>>(scores: I) -> Self {
        let mut sum = Sum::default();
        for score in scores {
            sum.add(score);
        }
        sum
    }
}

/// The active techniques of a domain, or of all, with their scores at a moment.
pub(crate) fn scored<'a>(
    matrix: &'a Matrix,
    domain: Option<&'a str>,
    now: DateTime<Utc>,
) -> impl Iterator<Item = (&'a MatrixTechnique, Score)> {
    matrix
        .active()
        .filter(move |technique| domain.is_none_or(|domain| technique.domain == domain))
        .map(move |technique| (technique, Score::of(technique, &matrix.knowledge, matrix.weights, now)))
}

/// The mean score of the techniques of a tactic.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct TacticScore {
    /// Short name.
    pub(crate) tactic: String,
    pub(crate) score: Option<f64>,
    pub(crate) techniques: i64,
}

/// The mean by tactic; those of `names` come first, in their order, and are there without a technique too.
pub(crate) fn by_tactic(names: &[&str], techniques: &[(&MatrixTechnique, Score)]) -> Vec<TacticScore> {
    let mut sums: Vec<(&str, Sum)> = names.iter().map(|name| (*name, Sum::default())).collect();
    let mut others: std::collections::BTreeMap<&str, Sum> = std::collections::BTreeMap::new();
    for (technique, score) in techniques {
        for tactic in &technique.tactics {
            match sums.iter_mut().find(|(name, _)| name == tactic) {
                Some((_, sum)) => sum.add(score),
                None => others.entry(tactic).or_default().add(score),
            }
        }
    }
    sums.into_iter()
        .chain(others)
        .map(|(tactic, sum)| TacticScore { tactic: tactic.to_owned(), score: sum.mean(), techniques: sum.n })
        .collect()
}

/// Places of domains: enterprise, mobile, ics, others.
pub(crate) fn domain_place(domain: &str) -> usize {
    ["enterprise", "mobile", "ics"].iter().position(|known| *known == domain).unwrap_or(3)
}

/// Short names of the known tactics of a domain, or of all, in the order of the matrix, each once.
pub(crate) fn tactic_names<'a>(knowledge: &'a Knowledge, domain: Option<&str>) -> Vec<&'a str> {
    let mut tactics: Vec<_> =
        knowledge.tactics.iter().filter(|tactic| domain.is_none_or(|domain| tactic.domain == domain)).collect();
    tactics.sort_by_key(|tactic| (domain_place(&tactic.domain), tactic.position));
    let mut names: Vec<&str> = Vec::with_capacity(tactics.len());
    for tactic in tactics {
        if !names.contains(&tactic.short_name.as_str()) {
            names.push(&tactic.short_name);
        }
    }
    names
}

/// Hundredths as a number with two decimals.
pub(crate) fn points(hundredths: i64) -> f64 {
    hundredths as f64 / 100.0
}

/// A sum of hundredths over `n` as a mean with one decimal, halves up.
pub(crate) fn one_decimal(hundredths: i64, n: i64) -> f64 {
    divided(hundredths, 10 * n) as f64 / 10.0
}

/// Rounded to the next whole number, halves up, also below 0; nothing over nothing is 0.
pub(crate) fn divided(sum: i64, n: i64) -> i64 {
    if n <= 0 { 0 } else { (2 * sum + n).div_euclid(2 * n) }
}

/// A count of things in memory.
pub(crate) fn count(n: usize) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX)
}
