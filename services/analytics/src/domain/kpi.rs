//! Key figures of how the work goes: times with mean, median and 95th percentile, and rates; over all, by week, by team.
//!
//! Median and percentile are exact: linear interpolation between the two values nearest to the rank, over every value.

use std::collections::BTreeMap;

use super::pipeline::State;

/// A figure over `n` tests; nothing but `n` where there is none.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Kpi {
    pub(crate) name: &'static str,
    pub(crate) unit: &'static str,
    /// The mean; of a rate the rate. One decimal.
    pub(crate) value: Option<f64>,
    pub(crate) median: Option<f64>,
    pub(crate) p95: Option<f64>,
    pub(crate) n: i64,
}

impl Kpi {
    /// Of times in seconds, in any order; leaves them in another.
    fn of_times(name: &'static str, times: &mut [i64]) -> Kpi {
        let n = i64::try_from(times.len()).unwrap_or(i64::MAX);
        let sum: i128 = times.iter().map(|time| i128::from(*time)).sum();
        let mean = (n > 0).then(|| round(sum as f64 / n as f64));
        let (median, p95) = (quantile(times, 50), quantile(times, 95));
        Kpi { name, unit: "seconds", value: mean, median: median.map(round), p95: p95.map(round), n }
    }

    fn of_rate(name: &'static str, part: i64, n: i64) -> Kpi {
        Kpi { name, unit: "percent", value: percentage(part, n), median: None, p95: None, n }
    }
}

/// `part` of `n` in percent, one decimal; nothing of nothing.
pub(crate) fn percentage(part: i64, n: i64) -> Option<f64> {
    (n > 0).then(|| round(part as f64 * 100.0 / n as f64))
}

fn round(value: f64) -> f64 {
    (value * 10.0).round() / 10.0
}

/// The value below which `percent` of all are, between the two nearest in proportion.
fn quantile(values: &mut [i64], percent: usize) -> Option<f64> {
    let last = values.len().checked_sub(1)?;
    let (rank, part) = (last * percent / 100, last * percent % 100);
    let (_, low, above) = values.select_nth_unstable(rank);
    let low = *low as f64;
    match above.iter().min() {
        Some(next) if part > 0 => Some(low + (*next as f64 - low) * part as f64 / 100.0),
        _ => Some(low),
    }
}

/// What a figure over times is of. The order is that of [`Group::times`].
const TIMES: [&str; 6] = ["mttd", "mttr", "mttc", "red_cycle", "blue_cycle", "review_cycle"];
/// How many of [`TIMES`] are of validated tests only.
const OF_VALIDATED: usize = 3;

/// The figures that are a team's own. Review belongs to the leads of both.
const OF_RED: [&str; 2] = ["attack_success_rate", "red_cycle"];
const OF_BLUE: [&str; 6] = ["mttd", "mttr", "mttc", "detection_efficacy", "remediation_rate", "blue_cycle"];

/// Tests of one state that were decided in one week, or are not decided.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Group {
    pub(crate) n: i64,
    /// Detected, and those with any result.
    pub(crate) detected: i64,
    pub(crate) with_result: i64,
    /// Attacks that did what they should, and those of which somebody said whether.
    pub(crate) succeeded: i64,
    pub(crate) attacked: i64,
    /// Remediations that are done, and those that have an object.
    pub(crate) remedied: i64,
    pub(crate) to_remedy: i64,
    pub(crate) red: Votes,
    pub(crate) blue: Votes,
    /// Handed on lately.
    pub(crate) red_lately: i64,
    pub(crate) blue_lately: i64,
    /// Seconds, by [`TIMES`]: numbers with commas between them.
    pub(crate) times: [String; 6],
}

/// Votes of one side.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Votes {
    pub(crate) approved: i64,
    pub(crate) rejected: i64,
    /// In review, and no vote yet.
    pub(crate) pending: i64,
}

/// What a team did and has to do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Load {
    pub(crate) completed: i64,
    pub(crate) pending: i64,
    pub(crate) completed_lately: i64,
}

/// Figures of one week.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Week {
    pub(crate) kpis: Vec<Kpi>,
    pub(crate) validated: i64,
    pub(crate) rejected: i64,
}

/// How the work goes.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Operational {
    pub(crate) kpis: Vec<Kpi>,
    /// By week, those with decided tests.
    pub(crate) weeks: BTreeMap<i64, Week>,
    pub(crate) red: Load,
    pub(crate) blue: Load,
    pub(crate) red_votes: Votes,
    pub(crate) blue_votes: Votes,
}

impl Operational {
    /// The figures that are the red team's, or the blue one's.
    pub(crate) fn kpis_of(&self, team: &str) -> impl Iterator<Item = &Kpi> {
        let own: &[&str] = if team == "red" { &OF_RED } else { &OF_BLUE };
        self.kpis.iter().filter(|kpi| own.contains(&kpi.name))
    }
}

/// A week without a decided test.
pub(crate) fn empty_week() -> Week {
    Tally::default().week()
}

/// Adds groups up, one after the other.
#[derive(Debug)]
pub(crate) struct Collector {
    first_week: i64,
    all: Tally,
    week: Option<(i64, Tally)>,
    weeks: BTreeMap<i64, Week>,
    red: Load,
    blue: Load,
    red_votes: Votes,
    blue_votes: Votes,
}

impl Collector {
    /// Weeks before the first one count only for the whole.
    pub(crate) fn new(first_week: i64) -> Self {
        Collector {
            first_week,
            all: Tally::default(),
            week: None,
            weeks: BTreeMap::new(),
            red: Load::default(),
            blue: Load::default(),
            red_votes: Votes::default(),
            blue_votes: Votes::default(),
        }
    }

    /// Takes a group; the groups of one week must follow each other.
    pub(crate) fn add(&mut self, week: Option<i64>, state: State, group: &Group) {
        self.all.add(state, group);
        if let Some(week) = week.filter(|week| *week >= self.first_week) {
            if self.week.as_ref().is_some_and(|(open, _)| *open != week) {
                self.close_week();
            }
            self.week.get_or_insert_with(|| (week, Tally::default())).1.add(state, group);
        }
        let red_done = !matches!(state, State::Draft | State::RedExecuting);
        let blue_done = red_done && state != State::BlueEvaluating;
        self.red.count(group.n, red_done, !red_done, group.red_lately);
        self.blue.count(group.n, blue_done, state == State::BlueEvaluating, group.blue_lately);
        self.red_votes.count(state, group.red);
        self.blue_votes.count(state, group.blue);
    }

    /// All figures. Takes a while for many tests.
    pub(crate) fn finish(mut self) -> Operational {
        self.close_week();
        Operational {
            kpis: self.all.kpis(),
            weeks: self.weeks,
            red: self.red,
            blue: self.blue,
            red_votes: self.red_votes,
            blue_votes: self.blue_votes,
        }
    }

    fn close_week(&mut self) {
        if let Some((week, tally)) = self.week.take() {
            self.weeks.insert(week, tally.week());
        }
    }
}

impl Load {
    fn count(&mut self, n: i64, completed: bool, pending: bool, lately: i64) {
        if completed {
            self.completed += n;
            self.completed_lately += lately;
        }
        if pending {
            self.pending += n;
        }
    }
}

impl Votes {
    fn count(&mut self, state: State, votes: Votes) {
        self.approved += votes.approved;
        self.rejected += votes.rejected;
        if state == State::InReview {
            self.pending += votes.pending;
        }
    }
}

#[derive(Debug, Default)]
struct Tally {
    validated: i64,
    rejected: i64,
    detected: i64,
    with_result: i64,
    succeeded: i64,
    attacked: i64,
    remedied: i64,
    to_remedy: i64,
    times: [Vec<i64>; 6],
}

impl Tally {
    fn add(&mut self, state: State, group: &Group) {
        let validated = state == State::Validated;
        if validated {
            self.validated += group.n;
            self.detected += group.detected;
            self.with_result += group.with_result;
            self.succeeded += group.succeeded;
            self.attacked += group.attacked;
        }
        if state == State::Rejected {
            self.rejected += group.n;
        }
        self.remedied += group.remedied;
        self.to_remedy += group.to_remedy;
        for (place, (all, some)) in self.times.iter_mut().zip(&group.times).enumerate() {
            if validated || place >= OF_VALIDATED {
                all.extend(some.split(',').filter_map(|number| number.parse::<i64>().ok()));
            }
        }
    }

    fn kpis(mut self) -> Vec<Kpi> {
        let mut times = TIMES.into_iter().zip(&mut self.times).map(|(name, times)| Kpi::of_times(name, times));
        let mut kpis: Vec<Kpi> = times.by_ref().take(OF_VALIDATED).collect();
        kpis.push(Kpi::of_rate("detection_efficacy", self.detected, self.with_result));
        kpis.push(Kpi::of_rate("attack_success_rate", self.succeeded, self.attacked));
        kpis.push(Kpi::of_rate("remediation_rate", self.remedied, self.to_remedy));
        kpis.extend(times);
        kpis
    }

    fn week(self) -> Week {
        Week { validated: self.validated, rejected: self.rejected, kpis: self.kpis() }
    }
}

#[cfg(test)]
mod tests;
