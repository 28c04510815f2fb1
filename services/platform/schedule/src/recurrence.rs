//! Recurrences that people name by a word or by a cron expression that is due once an hour at most.

use std::fmt;

use chrono::{DateTime, Days, Months, NaiveDateTime, TimeDelta, Timelike, Utc};
use chrono_tz::Tz;

use crate::cron::{self, first_instant};

/// How often something comes again.
///
/// The words count from an anchor, the moment at which somebody chose them: by the clocks of the time zone at the same
/// time of the day, each week on the same weekday, each month or each third month on the same day, or on the month's
/// last where it has no such day. Where the clocks leave that time out it is due when they go on; where they show it
/// twice, the first time.
///
/// A due time depends on the anchor, or on the expression, and on nothing else: what comes late moves nothing after it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Recurrence {
    /// Each seven days.
    Weekly,
    /// Each month.
    Monthly,
    /// Each three months.
    Quarterly,
    /// A cron expression of five fields, with single spaces.
    Cron(String),
}

impl Recurrence {
    /// The words.
    pub const WORDS: [&str; 3] = ["weekly", "monthly", "quarterly"];

    /// Reads a word or an expression; tells what is wrong with it.
    pub fn parse(text: &str) -> Result<Recurrence, String> {
        match text.trim() {
            "weekly" => Ok(Recurrence::Weekly),
            "monthly" => Ok(Recurrence::Monthly),
            "quarterly" => Ok(Recurrence::Quarterly),
            expression => {
                let fields = expression.split_whitespace().count();
                if fields != 5 {
                    return Err(format!(
                        "must be weekly, monthly, quarterly or a cron expression of 5 fields such as `0 3 * * MON`, \
                         not of {fields}"
                    ));
                }
                let expression = cron::parse(expression)?;
                once_an_hour(&expression)?;
                Ok(Recurrence::Cron(expression))
            }
        }
    }

    /// As [`Recurrence::parse`] takes it.
    pub fn as_str(&self) -> &str {
        match self {
            Recurrence::Weekly => "weekly",
            Recurrence::Monthly => "monthly",
            Recurrence::Quarterly => "quarterly",
            Recurrence::Cron(expression) => expression,
        }
    }

    /// The first time after `at` that it is due. Words are due for the first time one step after the anchor.
    pub fn next_after(&self, zone: Tz, anchor: DateTime<Utc>, at: DateTime<Utc>) -> Result<DateTime<Utc>, String> {
        let (step, longest) = match self {
            Recurrence::Cron(expression) => return cron::next_after(expression, zone, at),
            Recurrence::Weekly => (Step::Days(7), TimeDelta::days(7)),
            Recurrence::Monthly => (Step::Months(1), TimeDelta::days(31)),
            Recurrence::Quarterly => (Step::Months(3), TimeDelta::days(92)),
        };
        let from = shown(zone, anchor);
        // A few steps before, as clocks are put and months are not all of one length; each lasts no longer than that.
        let passed = (shown(zone, at) - from).num_seconds() / longest.num_seconds();
        let first = u32::try_from((passed - 2).max(1)).map_err(|_| never())?;
        (first..=first.saturating_add(FEW + first / 32))
            .map_while(|count| step.nth(zone, from, count))
            .find(|due| *due > at)
            .ok_or_else(never)
    }

    /// The last time that it is due from `due` on, itself a due time, until `at`.
    pub fn latest(
        &self,
        zone: Tz,
        anchor: DateTime<Utc>,
        due: DateTime<Utc>,
        at: DateTime<Utc>,
    ) -> Result<DateTime<Utc>, String> {
        // Back from `at` in growing steps until there is one between, so that few are gone through.
        let mut back = TimeDelta::hours(1);
        let mut last = loop {
            let from = at - back;
            if from <= due {
                break due;
            }
            let next = self.next_after(zone, anchor, from)?;
            if next <= at {
                break next;
            }
            back = back * 2;
        };
        loop {
            match self.next_after(zone, anchor, last) {
                Ok(next) if next <= at => last = next,
                _ => return Ok(last),
            }
        }
    }
}

impl fmt::Display for Recurrence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Steps that are looked at besides those by which months are shorter than the longest.
const FEW: u32 = 8;

#[derive(Clone, Copy)]
enum Step {
    Days(u64),
    Months(u32),
}

impl Step {
    /// The due time `count` steps after the anchor. Each is counted from the anchor itself: what is due on the 31st is
    /// due on the 31st again after a February.
    fn nth(self, zone: Tz, anchor: NaiveDateTime, count: u32) -> Option<DateTime<Utc>> {
        let shown = match self {
            Step::Days(days) => anchor.checked_add_days(Days::new(days * u64::from(count))),
            Step::Months(months) => anchor.checked_add_months(Months::new(months.checked_mul(count)?)),
        };
        first_instant(zone, shown?)
    }
}

/// What the clocks of `zone` show, to the second.
fn shown(zone: Tz, at: DateTime<Utc>) -> NaiveDateTime {
    let local = at.with_timezone(&zone).naive_local();
    local.with_nanosecond(0).unwrap_or(local)
}

fn never() -> String {
    "names a time that never comes".to_owned()
}

/// Refuses an expression that is due twice in an hour: one whose minutes are more than one.
fn once_an_hour(expression: &str) -> Result<(), String> {
    let minutes = expression.split_whitespace().next().unwrap_or_default();
    let hourly = format!("{minutes} * * * *");
    let first = cron::next_after(&hourly, Tz::UTC, DateTime::UNIX_EPOCH)?;
    let second = cron::next_after(&hourly, Tz::UTC, first)?;
    if second - first < TimeDelta::hours(1) {
        return Err(format!(
            "may be due once an hour at most: `{minutes}` names more than one minute of an hour; name one, such as `0`"
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(text: &str) -> DateTime<Utc> {
        text.parse().unwrap()
    }

    fn due(recurrence: &Recurrence, zone: Tz, anchor: &str, count: usize) -> Vec<String> {
        let anchor = at(anchor);
        let mut last = anchor;
        (0..count)
            .map(|_| {
                last = recurrence.next_after(zone, anchor, last).unwrap();
                last.with_timezone(&zone).format("%Y-%m-%d %H:%M %z").to_string()
            })
            .collect()
    }

    #[test]
    fn words_keep_the_weekday_and_the_time_of_the_day() {
        let berlin = Tz::Europe__Berlin;
        // A Friday; the clocks go forward on the 30th.
        assert_eq!(
            due(&Recurrence::Weekly, berlin, "2025-03-21T08:30:00Z", 3),
            ["2025-03-28 09:30 +0100", "2025-04-04 09:30 +0200", "2025-04-11 09:30 +0200"]
        );
        // Set just before midnight in Berlin, when it was the next day in Tokyo.
        assert_eq!(
            due(&Recurrence::Weekly, Tz::Asia__Tokyo, "2025-01-01T22:59:00Z", 2),
            ["2025-01-09 07:59 +0900", "2025-01-16 07:59 +0900"]
        );
        assert_eq!(due(&Recurrence::Weekly, berlin, "2025-01-01T22:59:00Z", 1), ["2025-01-08 23:59 +0100"]);
    }

    #[test]
    fn months_are_cut_to_their_end_and_no_further() {
        assert_eq!(
            due(&Recurrence::Monthly, Tz::UTC, "2023-12-31T10:00:00Z", 5),
            [
                "2024-01-31 10:00 +0000",
                "2024-02-29 10:00 +0000",
                "2024-03-31 10:00 +0000",
                "2024-04-30 10:00 +0000",
                "2024-05-31 10:00 +0000"
            ]
        );
        assert_eq!(
            due(&Recurrence::Quarterly, Tz::America__New_York, "2024-11-30T15:00:00Z", 3),
            ["2025-02-28 10:00 -0500", "2025-05-30 10:00 -0400", "2025-08-30 10:00 -0400"]
        );
    }

    #[test]
    fn a_time_that_the_clocks_leave_out_or_show_twice_is_due_once() {
        let zone = Tz::Europe__Berlin;
        assert_eq!(
            due(&Recurrence::Weekly, zone, "2025-03-23T01:30:00Z", 2),
            ["2025-03-30 03:00 +0200", "2025-04-06 02:30 +0200"]
        );
        assert_eq!(
            due(&Recurrence::Weekly, zone, "2025-10-19T00:30:00Z", 2),
            ["2025-10-26 02:30 +0200", "2025-11-02 02:30 +0100"]
        );
    }

    #[test]
    fn what_comes_too_often_or_never_is_refused() {
        for good in ["weekly", " monthly ", "quarterly", "0 3 * * MON", "30 * * * *", "0 8-18 * * 1-5", "59 23 31 12 *"]
        {
            let read = Recurrence::parse(good).unwrap();
            assert_eq!(Recurrence::parse(read.as_str()), Ok(read));
        }
        for often in ["* * * * *", "*/30 3 * * *", "0,59 3 * * *", "*/59 * * * *", "1-2 0 1 1 *"] {
            let problem = Recurrence::parse(often).unwrap_err();
            assert!(problem.contains("once an hour"), "{often}: {problem}");
        }
        for fields in ["", "daily", "@weekly", "* * * * * *", "0 0 3 * * *", "0 3 * *", "Weekly"] {
            let problem = Recurrence::parse(fields).unwrap_err();
            assert!(problem.contains("5 fields"), "{fields}: {problem}");
        }
        let problem = Recurrence::parse("0 0 30 2 *").unwrap_err();
        assert!(problem.contains("never comes"), "{problem}");
        for wrong in ["61 * * * *", "0 3 * * $(x)", "a b c d e"] {
            assert!(Recurrence::parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn the_last_of_the_missed_times_is_found() {
        let zone = Tz::Europe__Berlin;
        let latest = |text: &str, due: &str, now: &str| {
            Recurrence::parse(text).unwrap().latest(zone, at("2024-12-01T07:00:00Z"), at(due), at(now)).unwrap()
        };
        let first = "2025-01-01T02:00:00Z";
        assert_eq!(latest("0 3 * * *", first, "2025-01-01T02:00:00Z"), at(first));
        assert_eq!(latest("0 3 * * *", first, "2025-06-10T12:00:00Z"), at("2025-06-10T01:00:00Z"));
        assert_eq!(latest("0 * * * *", first, "2027-06-10T12:30:00Z"), at("2027-06-10T12:00:00Z"));
        assert_eq!(latest("0 0 1 1 *", "2024-12-31T23:00:00Z", "2026-12-31T22:59:59Z"), at("2025-12-31T23:00:00Z"));
        assert_eq!(latest("weekly", "2024-12-08T07:00:00Z", "2025-06-01T00:00:00Z"), at("2025-05-25T06:00:00Z"));
    }

    proptest! {
        /// The k-th due time is that many weeks or months after the anchor by the calendar, however it is asked for.
        #[test]
        fn words_never_slip(
            start in 1_577_836_800_i64..1_893_456_000,
            late in proptest::collection::vec(0_i64..40 * 86_400, 1..40),
            word in prop::sample::select(Recurrence::WORDS.to_vec()),
            zone in prop::sample::select(vec![
                Tz::UTC, Tz::Europe__Berlin, Tz::America__New_York, Tz::Australia__Lord_Howe, Tz::Asia__Kathmandu,
            ]),
        ) {
            let recurrence = Recurrence::parse(word).unwrap();
            let anchor = DateTime::from_timestamp(start, 0).unwrap();
            let set = anchor.with_timezone(&zone).naive_local();
            let nth = |k: u32| {
                let shown = match word {
                    "weekly" => set + TimeDelta::days(7 * i64::from(k)),
                    "monthly" => set.checked_add_months(Months::new(k)).unwrap(),
                    _ => set.checked_add_months(Months::new(3 * k)).unwrap(),
                };
                first_instant(zone, shown).unwrap()
            };
            // Taken one after the other, each a while after it was due.
            let mut due = anchor;
            for (k, late) in (1..).zip(&late) {
                due = recurrence.next_after(zone, anchor, due).unwrap();
                prop_assert_eq!(due, nth(k));
                let now = due + TimeDelta::seconds(*late);
                let last = recurrence.latest(zone, anchor, due, now).unwrap();
                prop_assert!(last >= due && last <= now);
                prop_assert_eq!(recurrence.next_after(zone, anchor, last), recurrence.next_after(zone, anchor, now));
            }
        }

        #[test]
        fn years_later_the_next_is_found_too(
            start in 1_577_836_800_i64..1_893_456_000,
            years in 0_i64..60,
            word in prop::sample::select(Recurrence::WORDS.to_vec()),
        ) {
            let recurrence = Recurrence::parse(word).unwrap();
            let anchor = DateTime::from_timestamp(start, 0).unwrap();
            let now = anchor + TimeDelta::days(365 * years);
            let next = recurrence.next_after(Tz::Europe__Berlin, anchor, now).unwrap();
            prop_assert!(next > now && next - now <= TimeDelta::days(93));
        }
    }
}
