//! When a cron expression is due, in a time zone.

use chrono::{DateTime, MappedLocalTime, NaiveDateTime, TimeDelta, TimeZone, Utc};
use chrono_tz::Tz;
use croner::Cron;

/// No clock is put forward by more than this; Samoa once left out a whole day.
const LONGEST_GAP_MINUTES: i64 = 25 * 60;
/// A clock that was put back repeats at most this many seconds.
const MOST_REPEATS: usize = 2 * 60 * 60;
/// Longer ones are refused.
const MAX_CHARS: usize = 120;

/// The time zone of an IANA name.
pub fn time_zone(name: &str) -> Option<Tz> {
    name.parse().ok()
}

/// Checks that a text is a cron expression that comes some day, and gives it with single spaces.
pub fn parse(text: &str) -> Result<String, String> {
    if text.chars().count() > MAX_CHARS {
        return Err(format!("must have at most {MAX_CHARS} characters"));
    }
    let fields: Vec<&str> = text.split_whitespace().collect();
    if !matches!(fields.len(), 5 | 6) {
        return Err(format!("must be a cron expression of 5 or 6 fields such as `0 3 * * *`, not of {}", fields.len()));
    }
    let allowed = |c: char| c.is_ascii_alphanumeric() || "*/,-#?".contains(c);
    match fields.iter().find(|field| !field.chars().all(allowed)) {
        Some(field) => {
            Err(format!("`{field}` is no field of a cron expression: use digits, names, `*`, `/`, `,` and `-`"))
        }
        None => {
            let text = fields.join(" ");
            problem(&text).map_or(Ok(text), Err)
        }
    }
}

/// Why a text is no schedule that ever comes, if it is none.
pub fn problem(expression: &str) -> Option<String> {
    next_after(expression, Tz::UTC, DateTime::UNIX_EPOCH).err()
}

/// The first time after `at` that the expression is due, by the clocks of `zone`.
///
/// An expression that names its hours is due once at each of the times that it names: at one that the clocks leave out
/// as soon as they go on, at one that they show twice the first time. Several that fall together there are one. An
/// expression for every hour (`*`, `*/2`) follows the time that passes, whatever the clocks show.
pub fn next_after(expression: &str, zone: Tz, at: DateTime<Utc>) -> Result<DateTime<Utc>, String> {
    let cron: Cron = expression.parse().map_err(|error| format!("is no cron expression: {error}"))?;
    let never = |_| "names a time that never comes".to_owned();
    let local = at.with_timezone(&zone);
    if every_hour(expression) {
        return cron.find_next_occurrence(&local, false).map(|next| next.to_utc()).map_err(never);
    }
    let mut shown = local.naive_local();
    for _ in 0..MOST_REPEATS {
        shown = cron.find_next_occurrence(&shown, false).map_err(never)?;
        let due = first_instant(zone, shown).ok_or_else(|| "names a time that never comes".to_owned())?;
        // One in the hour that the clocks show again was due when they showed it first.
        if due > at {
            return Ok(due);
        }
    }
    Err("names a time that never comes".to_owned())
}

/// Whether the field of the hours names none.
fn every_hour(expression: &str) -> bool {
    let mut fields = expression.split_whitespace().rev();
    // Weekday, month and day come after it.
    fields.nth(3).is_some_and(|hours| hours.starts_with('*') || hours == "?")
}

/// The first moment at which the clocks of `zone` show `shown`, or later where they leave it out.
pub(crate) fn first_instant(zone: Tz, shown: NaiveDateTime) -> Option<DateTime<Utc>> {
    let instant = |shown: &NaiveDateTime| match zone.from_local_datetime(shown) {
        MappedLocalTime::Single(at) => Some(at.to_utc()),
        MappedLocalTime::Ambiguous(first, _) => Some(first.to_utc()),
        MappedLocalTime::None => None,
    };
    instant(&shown).or_else(|| {
        // Gaps end on whole minutes.
        let minute = shown - TimeDelta::seconds(shown.and_utc().timestamp().rem_euclid(60));
        (1..=LONGEST_GAP_MINUTES).find_map(|minutes| instant(&(minute + TimeDelta::minutes(minutes))))
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(text: &str) -> DateTime<Utc> {
        text.parse().unwrap()
    }

    /// The due times from `from` on, one after the other.
    fn due(expression: &str, zone: Tz, from: &str, count: usize) -> Vec<String> {
        let mut now = at(from);
        (0..count)
            .map(|_| {
                now = next_after(expression, zone, now).unwrap();
                now.with_timezone(&zone).format("%m-%d %H:%M %z").to_string()
            })
            .collect()
    }

    #[test]
    fn times_are_of_the_zone() {
        assert_eq!(next_after("0 3 * * *", Tz::UTC, at("2025-01-01T03:00:00Z")), Ok(at("2025-01-02T03:00:00Z")));
        assert_eq!(next_after("0 3 * * *", Tz::UTC, at("2025-01-01T02:59:59.5Z")), Ok(at("2025-01-01T03:00:00Z")));
        assert_eq!(
            next_after("0 3 * * *", Tz::Asia__Tokyo, at("2025-01-01T00:00:00Z")),
            Ok(at("2025-01-01T18:00:00Z"))
        );
        assert_eq!(next_after("*/5 0 3 * * *", Tz::UTC, at("2025-01-01T03:00:05Z")), Ok(at("2025-01-01T03:00:10Z")));
        assert_eq!(next_after("0 0 29 2 *", Tz::UTC, at("2025-01-01T00:00:00Z")), Ok(at("2028-02-29T00:00:00Z")));
    }

    #[test]
    fn a_time_that_the_clocks_leave_out_is_due_when_they_go_on_and_once() {
        let zone = Tz::Europe__Berlin;
        let night = "2025-03-29T12:00:00Z";
        assert_eq!(due("30 2 * * *", zone, night, 2), ["03-30 03:00 +0200", "03-31 02:30 +0200"]);
        assert_eq!(due("*/20 2 * * *", zone, night, 2), ["03-30 03:00 +0200", "03-31 02:00 +0200"]);
        assert_eq!(due("0 2,3 * * *", zone, night, 2), ["03-30 03:00 +0200", "03-31 02:00 +0200"]);
        assert_eq!(due("30 3 * * *", zone, night, 1), ["03-30 03:30 +0200"]);
        // A whole day that never was.
        assert_eq!(due("0 12 30 12 *", Tz::Pacific__Apia, "2011-12-29T00:00:00Z", 1), ["12-31 00:00 +1400"]);
    }

    #[test]
    fn a_time_that_the_clocks_show_twice_is_due_once() {
        let zone = Tz::America__New_York;
        let night = "2025-11-02T00:00:00Z";
        assert_eq!(due("30 1 * * *", zone, night, 2), ["11-02 01:30 -0400", "11-03 01:30 -0500"]);
        assert_eq!(
            due("0,30 1 * * *", zone, night, 3),
            ["11-02 01:00 -0400", "11-02 01:30 -0400", "11-03 01:00 -0500"]
        );
        // From the middle of the hour that is shown again.
        assert_eq!(due("45 1 * * *", zone, "2025-11-02T06:40:00Z", 1), ["11-03 01:45 -0500"]);
    }

    #[test]
    fn what_is_due_every_hour_follows_the_time_that_passes() {
        let zone = Tz::America__New_York;
        let twice = ["11-02 00:30 -0400", "11-02 01:30 -0400", "11-02 01:30 -0500", "11-02 02:30 -0500"];
        assert_eq!(due("30 * * * *", zone, "2025-11-02T04:00:00Z", 4), twice);
        let gap = ["03-09 01:30 -0500", "03-09 03:30 -0400"];
        assert_eq!(due("30 * * * *", zone, "2025-03-09T06:00:00Z", 2), gap);
    }

    #[test]
    fn what_never_comes_is_told() {
        assert_eq!(problem("0 3 * * *"), None);
        for wrong in ["0 0 30 2 *", "61 * * * *", "* * * *", "", "0 3 * * BLA"] {
            assert!(problem(wrong).is_some(), "{wrong}");
        }
        assert!(time_zone("Europe/Berlin").is_some());
        assert!(time_zone("Mars/Olympus").is_none());
    }

    #[test]
    fn cron_expressions_are_told_from_other_texts() {
        assert_eq!(parse(" 0  3 * * * "), Ok("0 3 * * *".to_owned()));
        assert!(parse("*/5 0 3 1,15 JAN-MAR MON#2").is_ok());
        for wrong in ["", "daily", "@daily", "0 3 * *", "0 3 * * * * *", "0 3 * * $(x)", "61 3 * * *", "0 0 30 2 *"] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
        assert!(parse(&format!("0 3 * * {}", "1".repeat(120))).is_err());
    }

    proptest! {
        /// Whenever one asks, the answer is the same list of times: none is skipped and none comes twice.
        #[test]
        fn no_time_is_skipped_or_comes_twice(
            start in 1_577_836_800_i64..1_893_456_000,
            shares in proptest::collection::vec(0.0_f64..1.0, 1..6),
            expression in prop::sample::select(vec![
                "0 3 * * *", "*/15 * * * *", "30 1,2,3 * * *", "0 0 1 * *", "15 2 * * SUN", "7 */5 * * *", "*/10 30 2 * * *",
            ]),
            zone in prop::sample::select(vec![
                Tz::UTC, Tz::Europe__Berlin, Tz::America__New_York, Tz::Australia__Lord_Howe, Tz::Asia__Kathmandu,
            ]),
        ) {
            let mut now = DateTime::from_timestamp(start, 500_000_000).unwrap();
            for share in shares {
                let next = next_after(expression, zone, now).unwrap();
                prop_assert!(next > now);
                let between = now + (next - now).mul_f(share);
                prop_assert_eq!(next_after(expression, zone, between.min(next - TimeDelta::nanoseconds(1))).unwrap(), next);
                now = next;
            }
        }
    }

    trait Part {
        fn mul_f(self, share: f64) -> TimeDelta;
    }

    impl Part for TimeDelta {
        fn mul_f(self, share: f64) -> TimeDelta {
            TimeDelta::milliseconds((self.num_milliseconds() as f64 * share) as i64)
        }
    }
}
