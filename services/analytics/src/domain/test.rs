//! What the projection keeps of a test, and what follows from it.

use std::hash::{Hash, Hasher};

use chrono::{DateTime, Datelike, TimeDelta, Utc};
use uuid::Uuid;

use super::pipeline::State;

/// A test as was last heard of it. Texts that nobody gave are absent.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Test {
    pub(crate) id: Uuid,
    pub(crate) version: i64,
    pub(crate) state: State,
    pub(crate) deleted: bool,
    pub(crate) technique_id: Option<Uuid>,
    pub(crate) mitre_id: Option<String>,
    pub(crate) technique_name: Option<String>,
    pub(crate) name: Option<String>,
    pub(crate) platform: Option<String>,
    pub(crate) detection_result: Option<String>,
    pub(crate) attack_success: Option<bool>,
    pub(crate) created_by: Option<Uuid>,
    pub(crate) created_by_username: Option<String>,
    pub(crate) retest_of: Option<Uuid>,
    pub(crate) chain_id: Option<Uuid>,
    pub(crate) created_at: Option<DateTime<Utc>>,
    pub(crate) updated_at: Option<DateTime<Utc>>,
    pub(crate) execution_date: Option<DateTime<Utc>>,
    pub(crate) executed_at: Option<DateTime<Utc>>,
    pub(crate) detected_at: Option<DateTime<Utc>>,
    pub(crate) responded_at: Option<DateTime<Utc>>,
    pub(crate) contained_at: Option<DateTime<Utc>>,
    pub(crate) red_submitted_at: Option<DateTime<Utc>>,
    pub(crate) blue_submitted_at: Option<DateTime<Utc>>,
    pub(crate) red_validation_status: Option<String>,
    pub(crate) red_validated_at: Option<DateTime<Utc>>,
    pub(crate) blue_validation_status: Option<String>,
    pub(crate) blue_validated_at: Option<DateTime<Utc>>,
    pub(crate) validated_at: Option<DateTime<Utc>>,
    pub(crate) remediation_status: Option<String>,
    pub(crate) remediation_assignee: Option<Uuid>,
    pub(crate) remediation_due_date: Option<DateTime<Utc>>,
    pub(crate) remediation_steps: Option<String>,
    pub(crate) remediation_completed_at: Option<DateTime<Utc>>,
}

/// What a validated test says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Verdict {
    NotDetected,
    PartiallyDetected,
    Detected,
}

impl Verdict {
    /// Of a detection result; no other text is one.
    pub(crate) fn parse(text: &str) -> Option<Verdict> {
        match text {
            "detected" => Some(Verdict::Detected),
            "partially_detected" => Some(Verdict::PartiallyDetected),
            "not_detected" => Some(Verdict::NotDetected),
            _ => None,
        }
    }

    /// As it is stored.
    pub(crate) fn number(self) -> i64 {
        self as i64
    }

    /// As it was stored.
    pub(crate) fn of_number(number: i64) -> Option<Verdict> {
        [Verdict::NotDetected, Verdict::PartiallyDetected, Verdict::Detected].into_iter().find(|v| v.number() == number)
    }
}

/// Whole seconds, absent where one of both ends is: see the table `test_fact`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Durations {
    pub(crate) detect: Option<i64>,
    pub(crate) remediate: Option<i64>,
    pub(crate) contain: Option<i64>,
    pub(crate) red: Option<i64>,
    pub(crate) blue: Option<i64>,
    pub(crate) review: Option<i64>,
}

/// What is kept of a test, and how: raised when either changes, so that a rebuild writes all of them again.
const LAYOUT: u64 = 1;

impl Test {
    /// Of all that is known of it. Two tests that differ have the same one by chance alone.
    pub(crate) fn digest(&self) -> i64 {
        let mut hasher = Fnv(0xcbf2_9ce4_8422_2325 ^ LAYOUT);
        self.hash(&mut hasher);
        hasher.finish().cast_signed()
    }

    /// What it says for its technique: only validated tests with a result say anything, and all of them have a moment.
    pub(crate) fn verdict(&self) -> Option<Verdict> {
        let counts = !self.deleted && self.state == State::Validated && self.validated_at.is_some();
        self.detection_result.as_deref().filter(|_| counts).and_then(Verdict::parse)
    }

    /// When it was validated, or rejected by the first vote against it.
    pub(crate) fn decided_at(&self) -> Option<DateTime<Utc>> {
        match self.state {
            State::Validated => self.validated_at,
            State::Rejected => {
                let votes = [
                    (&self.red_validation_status, self.red_validated_at),
                    (&self.blue_validation_status, self.blue_validated_at),
                ];
                votes.into_iter().filter(|(vote, _)| vote.as_deref() == Some("rejected")).filter_map(|(_, at)| at).min()
            }
            _ => None,
        }
    }

    pub(crate) fn durations(&self) -> Durations {
        Durations {
            detect: seconds(self.executed_at, self.detected_at),
            remediate: seconds(self.detected_at, self.remediation_completed_at),
            contain: seconds(self.detected_at, self.contained_at),
            red: seconds(self.execution_date, self.red_submitted_at),
            blue: seconds(self.red_submitted_at, self.blue_submitted_at),
            review: seconds(self.blue_submitted_at, self.decided_at()),
        }
    }
}

/// FNV-1a, which is the same in every build.
struct Fnv(u64);

impl Hasher for Fnv {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }
}

fn seconds(from: Option<DateTime<Utc>>, to: Option<DateTime<Utc>>) -> Option<i64> {
    Some((to? - from?).num_seconds())
}

/// Weeks from the one that began on Monday 1970-01-05, UTC.
pub(crate) fn week_of(at: DateTime<Utc>) -> i64 {
    (i64::from(at.num_days_from_ce()) - FIRST_MONDAY).div_euclid(7)
}

/// When a week of [`week_of`] begins.
pub(crate) fn start_of_week(week: i64) -> Option<DateTime<Utc>> {
    let days = week.checked_mul(7)?.checked_add(4)?;
    DateTime::UNIX_EPOCH.checked_add_signed(TimeDelta::try_days(days)?)
}

/// 1970-01-05 as a day of the common era.
const FIRST_MONDAY: i64 = 719_163 + 4;

#[cfg(test)]
mod tests {
    use chrono::{TimeZone, Weekday};
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_verdict_is_read_as_it_is_stored() {
        for text in ["detected", "partially_detected", "not_detected"] {
            let verdict = Verdict::parse(text).unwrap();
            assert_eq!(Verdict::of_number(verdict.number()), Some(verdict));
        }
        assert_eq!(Verdict::parse(""), None);
        assert_eq!(Verdict::of_number(3), None);
        assert_eq!(week_of(Utc.with_ymd_and_hms(1970, 1, 5, 0, 0, 0).unwrap()), 0);
        assert_eq!(week_of(Utc.with_ymd_and_hms(1970, 1, 4, 23, 59, 59).unwrap()), -1);
    }

    proptest! {
        #[test]
        fn a_moment_is_in_the_week_that_begins_on_its_monday(at in -10_000_000_000_i64..10_000_000_000) {
            let at = Utc.timestamp_opt(at, 0).unwrap();
            let monday = start_of_week(week_of(at)).unwrap();
            prop_assert_eq!(monday.weekday(), Weekday::Mon);
            prop_assert!(monday <= at && at < monday + TimeDelta::days(7));
        }
    }
}
