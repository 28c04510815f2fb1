//! What holds for the fleet as a whole, and what an interval is.

use std::{fmt, str::FromStr};

use aegis_error::Fields;
use chrono::{DateTime, Months, TimeDelta, Utc};

/// Most deckies that the limit may allow.
pub(crate) const MAX_DEPLOYMENT_LIMIT: i32 = 500;

const MINUTES_A_DAY: u32 = 24 * 60;
const MONTHS_A_YEAR: u32 = 12;
const MAX_YEARS: u32 = 100;
/// A hundred years, the leap days of any hundred years in a row included.
const MAX_MINUTES: u32 = (MAX_YEARS * 365 + 25) * MINUTES_A_DAY;

/// What holds for the fleet as a whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct FleetSettings {
    /// Most deckies at a time.
    pub(crate) deployment_limit: i32,
    /// How often a decky changes its services that has no interval of its own.
    pub(crate) global_mutation_interval: Interval,
}

/// A time between two changes of a decky, as `30m`, `1d`, `6M`, `1y` or `1Y`: at most a hundred years.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interval {
    text: String,
    step: Step,
}

/// How long an [`Interval`] is. Months have no fixed length, so that two kinds are needed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Minutes; a day is 1,440 of them.
    Minutes(u32),
    /// Months of the calendar; a year is 12 of them.
    Months(u32),
}

/// Why a text is no [`Interval`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadInterval {
    /// Not a number and a unit.
    #[error(
        "must be a whole number from 1 and m (minutes), d (days), M (months), y or Y (years), as in 30m, without anything else"
    )]
    Malformed,
    /// More than a hundred years.
    #[error("must be at most 100 years")]
    TooLong,
}

impl Interval {
    /// As it was written.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// How long it is.
    pub fn step(&self) -> Step {
        self.step
    }

    /// The moment that is one interval later; nothing past the end of the calendar. A month after the 31st is the
    /// last day of a month that has none.
    pub fn after(&self, moment: DateTime<Utc>) -> Option<DateTime<Utc>> {
        match self.step {
            Step::Minutes(minutes) => moment.checked_add_signed(TimeDelta::minutes(i64::from(minutes))),
            Step::Months(months) => moment.checked_add_months(Months::new(months)),
        }
    }
}

impl FromStr for Interval {
    type Err = BadInterval;

    fn from_str(text: &str) -> Result<Interval, BadInterval> {
        let (number, unit) = text.split_at_checked(text.len().saturating_sub(1)).ok_or(BadInterval::Malformed)?;
        let digits = number.bytes().all(|byte| byte.is_ascii_digit());
        if !digits || number.is_empty() || number.starts_with('0') {
            return Err(BadInterval::Malformed);
        }
        // Only digits are left, so that a number that cannot be read is one too large for its type.
        let count = |factor: u32, max: u32| {
            let number: Option<u32> = number.parse().ok();
            let count = number.and_then(|number| number.checked_mul(factor));
            count.filter(|count| *count <= max).ok_or(BadInterval::TooLong)
        };
        let step = match unit {
            "m" => Step::Minutes(count(1, MAX_MINUTES)?),
            "d" => Step::Minutes(count(MINUTES_A_DAY, MAX_MINUTES)?),
            "M" => Step::Months(count(1, MAX_YEARS * MONTHS_A_YEAR)?),
            "y" | "Y" => Step::Months(count(MONTHS_A_YEAR, MAX_YEARS * MONTHS_A_YEAR)?),
            _ => return Err(BadInterval::Malformed),
        };
        Ok(Interval { text: text.to_owned(), step })
    }
}

impl fmt::Display for Interval {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// Notes a limit that may not be set.
pub(crate) fn check_deployment_limit(fields: &mut Fields, limit: i32) {
    let good = (1..=MAX_DEPLOYMENT_LIMIT).contains(&limit);
    fields.check(good, "deployment_limit", &format!("must be 1 to {MAX_DEPLOYMENT_LIMIT}"));
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn step(text: &str) -> Result<Step, BadInterval> {
        text.parse::<Interval>().map(|interval| interval.step())
    }

    fn after(text: &str, moment: &str) -> String {
        let interval: Interval = text.parse().unwrap();
        interval.after(moment.parse().unwrap()).unwrap().to_rfc3339()
    }

    #[test]
    fn units_are_told_apart_by_their_letter() {
        assert_eq!(step("30m"), Ok(Step::Minutes(30)));
        assert_eq!(step("1d"), Ok(Step::Minutes(1440)));
        assert_eq!(step("6M"), Ok(Step::Months(6)));
        assert_eq!(step("1y"), Ok(Step::Months(12)));
        assert_eq!(step("2Y"), Ok(Step::Months(24)));
        assert_eq!("2Y".parse::<Interval>().unwrap().to_string(), "2Y");
    }

    #[test]
    fn what_the_pattern_does_not_take_is_refused() {
        for text in [
            "", "m", "30", "0m", "-1m", "+1m", "01d", "1h", "1s", "1D", "1.5d", "30 m", " 30m", "30m ", "30m\n",
            "1d1m", "٣m", "30µ", "é", "m30", "1e3m",
        ] {
            assert_eq!(step(text), Err(BadInterval::Malformed), "{text:?}");
        }
    }

    #[test]
    fn a_hundred_years_is_the_longest() {
        for (longest, too_long) in
            [("36525d", "36526d"), ("52596000m", "52596001m"), ("1200M", "1201M"), ("100Y", "101Y")]
        {
            assert!(step(longest).is_ok(), "{longest}");
            assert_eq!(step(too_long), Err(BadInterval::TooLong), "{too_long}");
        }
        for huge in ["4294967296m", "4294967295d", "99999999999999999999y", "357913942Y"] {
            assert_eq!(step(huge), Err(BadInterval::TooLong), "{huge}");
        }
    }

    #[test]
    fn months_and_years_are_those_of_the_calendar() {
        assert_eq!(after("30m", "2024-02-28T23:45:00Z"), "2024-02-29T00:15:00+00:00");
        assert_eq!(after("1d", "2024-02-28T12:00:00Z"), "2024-02-29T12:00:00+00:00");
        assert_eq!(after("1M", "2024-01-31T12:00:00Z"), "2024-02-29T12:00:00+00:00");
        assert_eq!(after("1M", "2023-01-31T12:00:00Z"), "2023-02-28T12:00:00+00:00");
        assert_eq!(after("1y", "2024-02-29T12:00:00Z"), "2025-02-28T12:00:00+00:00");
        assert_eq!(after("1y", "2023-03-01T12:00:00Z"), "2024-03-01T12:00:00+00:00");
        let last = DateTime::<Utc>::MAX_UTC;
        assert_eq!("1m".parse::<Interval>().unwrap().after(last), None);
        assert_eq!("1M".parse::<Interval>().unwrap().after(last), None);
    }

    #[test]
    fn the_limit_has_ends() {
        for (limit, good) in [(i32::MIN, false), (0, false), (1, true), (500, true), (501, false), (i32::MAX, false)] {
            let mut fields = Fields::default();
            check_deployment_limit(&mut fields, limit);
            assert_eq!(fields.finish().is_ok(), good, "{limit}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in any::<String>()) {
            if let Ok(interval) = text.parse::<Interval>() {
                prop_assert_eq!(interval.as_str(), text);
            }
        }

        #[test]
        fn what_is_read_leads_forward_and_no_further_than_a_hundred_years(
            number in 1..=60_000_000_u32,
            unit in prop::sample::select(vec!["m", "d", "M", "y", "Y"]),
            seconds in 0..=4_102_444_800_i64,
        ) {
            let moment = DateTime::from_timestamp(seconds, 0).unwrap();
            if let Ok(interval) = format!("{number}{unit}").parse::<Interval>() {
                let later = interval.after(moment).unwrap();
                prop_assert!(later > moment);
                prop_assert!(later - moment <= TimeDelta::days(36_525));
            }
        }
    }
}
