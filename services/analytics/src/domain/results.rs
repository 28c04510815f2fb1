//! How many tests were made in which hour, by state and result: what any span of time has of them follows from it.

use std::collections::{BTreeMap, btree_map::Range};

use chrono::{DateTime, TimeDelta, Utc};

use super::pipeline::State;

/// Names of results; the last is none.
pub(crate) const RESULTS: [&str; 4] = ["detected", "partially_detected", "not_detected", "none"];

const HOUR: i64 = 3600;
const CELLS: usize = State::ALL.len() * RESULTS.len();

/// Which tests a report is of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Filter {
    pub(crate) state: Option<State>,
    /// Made at this moment or later.
    pub(crate) from: Option<DateTime<Utc>>,
    /// Made before this moment.
    pub(crate) to: Option<DateTime<Utc>>,
}

/// Tests by state and result.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Breakdown([i64; CELLS]);

impl Breakdown {
    /// Adds tests; a result that is unknown counts as none.
    pub(crate) fn add(&mut self, state: State, result: Option<&str>, n: i64) {
        let none = RESULTS.len() - 1;
        let result = RESULTS.iter().position(|name| Some(*name) == result).unwrap_or(none);
        self.0[state as usize * RESULTS.len() + result] += n;
    }

    /// Adds those of another.
    pub(crate) fn merge(&mut self, other: &Breakdown) {
        for (n, more) in self.0.iter_mut().zip(other.0) {
            *n += more;
        }
    }

    /// Only those of a state, where one is asked for.
    pub(crate) fn of(&self, state: Option<State>) -> Breakdown {
        let Some(state) = state else { return *self };
        let mut only = Breakdown::default();
        let cells = state as usize * RESULTS.len()..(state as usize + 1) * RESULTS.len();
        only.0[cells.clone()].copy_from_slice(&self.0[cells]);
        only
    }

    /// How many there are.
    pub(crate) fn total(&self) -> i64 {
        self.0.iter().sum()
    }

    /// Every state, with zeros.
    pub(crate) fn by_state(&self) -> impl Iterator<Item = (State, i64)> {
        State::ALL.into_iter().map(|state| (state, self.of(Some(state)).total()))
    }

    /// Every result, with zeros.
    pub(crate) fn by_result(&self) -> impl Iterator<Item = (&'static str, i64)> {
        RESULTS.into_iter().enumerate().map(|(n, name)| (name, self.0.iter().skip(n).step_by(RESULTS.len()).sum()))
    }
}

/// Tests by the hour since 1970 in which they were made.
#[derive(Clone, Debug, Default)]
pub(crate) struct Hours(BTreeMap<i64, Breakdown>);

/// Where a page of a list begins: so many tests on, of those that were made before a moment.
pub(crate) type Place = (Option<DateTime<Utc>>, i64);

impl Hours {
    /// Adds tests of an hour.
    pub(crate) fn add(&mut self, hour: i64, state: State, result: Option<&str>, n: i64) {
        self.0.entry(hour).or_default().add(state, result, n);
    }

    /// The tests of the whole hours inside a span.
    pub(crate) fn within(&self, filter: &Filter) -> Breakdown {
        let mut all = Breakdown::default();
        for (_, hour) in self.hours(filter) {
            all.merge(&hour.of(filter.state));
        }
        all
    }

    /// Where the page after `skip` tests begins, newest first; `newest` are those after the last whole hour.
    pub(crate) fn place(&self, filter: &Filter, newest: i64, skip: i64) -> Place {
        if skip < newest {
            return (filter.to, skip);
        }
        let mut left = skip - newest;
        for (hour, tests) in self.hours(filter).rev() {
            let n = tests.of(filter.state).total();
            if left < n {
                return (start_of(hour + 1), left);
            }
            left -= n;
        }
        match edges(filter)[0] {
            // In what is before the first whole hour.
            Some((_, end)) if Some(end) != filter.to => (Some(end), left),
            _ => (filter.to, skip),
        }
    }

    fn hours(&self, filter: &Filter) -> Range<'_, i64, Breakdown> {
        let first = filter.from.map_or(i64::MIN, ceil);
        let end = filter.to.map_or(i64::MAX, floor);
        self.0.range(first..end.max(first))
    }
}

/// What is before the first and after the last whole hour of a span, or all of it where it has none.
pub(crate) fn edges(filter: &Filter) -> [Option<(DateTime<Utc>, DateTime<Utc>)>; 2] {
    let (from, to) = (filter.from, filter.to);
    if let (Some(from), Some(to)) = (from, to)
        && ceil(from) >= floor(to)
        && !(ceil(from) == floor(from) && ceil(to) == floor(to))
    {
        // Nothing, or one hour and a bit at most.
        return [(from < to).then_some((from, to)), None];
    }
    let first = from.filter(|from| ceil(*from) != floor(*from)).and_then(|from| Some((from, start_of(ceil(from))?)));
    let last = to.filter(|to| ceil(*to) != floor(*to)).and_then(|to| Some((start_of(floor(to))?, to)));
    [first, last]
}

fn floor(at: DateTime<Utc>) -> i64 {
    at.timestamp().div_euclid(HOUR)
}

fn ceil(at: DateTime<Utc>) -> i64 {
    let hour = floor(at);
    if start_of(hour) == Some(at) { hour } else { hour + 1 }
}

fn start_of(hour: i64) -> Option<DateTime<Utc>> {
    DateTime::UNIX_EPOCH.checked_add_signed(TimeDelta::try_hours(hour)?)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(minutes: i64) -> DateTime<Utc> {
        DateTime::UNIX_EPOCH + TimeDelta::minutes(minutes)
    }

    type Test = (i64, State, Option<&'static str>);

    fn tests() -> impl Strategy<Value = Vec<Test>> {
        let result = prop::sample::select(vec![Some("detected"), Some("not_detected"), None]);
        prop::collection::vec((0..600_i64, prop::sample::select(State::ALL.to_vec()), result), 0..60)
    }

    fn filters() -> impl Strategy<Value = Filter> {
        let moment = || prop::option::of((0..600_i64).prop_map(at));
        (prop::option::of(prop::sample::select(State::ALL.to_vec())), moment(), moment())
            .prop_map(|(state, from, to)| Filter { state, from, to })
    }

    fn fits(filter: &Filter, (minutes, state, _): &Test) -> bool {
        filter.state.is_none_or(|wanted| wanted == *state)
            && filter.from.is_none_or(|from| at(*minutes) >= from)
            && filter.to.is_none_or(|to| at(*minutes) < to)
    }

    fn hours_of(tests: &[Test]) -> Hours {
        let mut hours = Hours::default();
        for (minutes, state, result) in tests {
            hours.add(minutes.div_euclid(60), *state, *result, 1);
        }
        hours
    }

    fn counted<'a>(tests: impl Iterator<Item = &'a Test>) -> Breakdown {
        let mut all = Breakdown::default();
        for (_, state, result) in tests {
            all.add(*state, *result, 1);
        }
        all
    }

    #[test]
    fn every_state_and_result_has_a_count_of_its_own() {
        let mut all = Breakdown::default();
        all.add(State::Validated, Some("detected"), 2);
        all.add(State::Validated, None, 3);
        all.add(State::Draft, Some("what?"), 5);
        assert_eq!(all.by_state().map(|(_, n)| n).collect::<Vec<_>>(), [5, 0, 0, 0, 5, 0]);
        assert_eq!(
            all.by_result().collect::<Vec<_>>(),
            [("detected", 2), ("partially_detected", 0), ("not_detected", 0), ("none", 8)]
        );
        assert_eq!(all.total(), 10);
    }

    proptest! {
        #[test]
        fn whole_hours_and_edges_make_the_span(tests in tests(), filter in filters()) {
            let hours = hours_of(&tests);
            let mut all = hours.within(&filter);
            for (from, to) in edges(&filter).into_iter().flatten() {
                let edge = Filter { from: Some(from), to: Some(to), ..filter };
                all.merge(&counted(tests.iter().filter(|test| fits(&edge, test))));
            }
            prop_assert_eq!(all, counted(tests.iter().filter(|test| fits(&filter, test))));
        }

        #[test]
        fn a_place_is_as_many_tests_on_as_were_skipped(tests in tests(), filter in filters(), skip in 0..70_usize) {
            let mut tests = tests;
            tests.sort_by_key(|test| std::cmp::Reverse(test.0));
            let hours = hours_of(&tests);
            let listed: Vec<&Test> = tests.iter().filter(|test| fits(&filter, test)).collect();
            let newest = edges(&filter)[1].map_or(0, |(from, to)| {
                let edge = Filter { from: Some(from), to: Some(to), ..filter };
                tests.iter().filter(|test| fits(&edge, test)).count()
            });
            let (to, skip_there) = hours.place(&filter, newest as i64, skip as i64);
            let rest: Vec<&Test> = tests.iter().filter(|test| fits(&Filter { to, ..filter }, test)).collect();
            let found: Vec<&Test> = rest.into_iter().skip(skip_there as usize).collect();
            let wanted: Vec<&Test> = listed.into_iter().skip(skip).collect();
            prop_assert_eq!(found, wanted);
        }
    }
}
