//! The settings of this service.

use std::time::Duration;

use aegis_error::Failure;
use chrono_tz::Tz;

use crate::fetch::FetchLimits;

/// The longest jitter; more would make a schedule a guess.
const MAX_JITTER: Duration = Duration::from_secs(3600);

/// What the composition root can set.
#[derive(Clone, Debug)]
pub struct Config {
    /// Whether this process may lead the scheduler. Off, what is scheduled runs in another process or not at all.
    pub scheduler_enabled: bool,
    /// The time zone of all schedules, by its IANA name.
    pub scheduler_time_zone: String,
    /// A job starts up to this long after its due time, always the same for one job.
    pub scheduler_jitter: Duration,
    /// When the intel scan runs by itself; not set: by hand only.
    pub scan_schedule: Option<String>,
    /// When coverage is kept for later, with a point of the score's history; not set: only the snapshots of people.
    pub snapshot_schedule: Option<String>,
    /// What fetching documents may use.
    pub fetch: FetchLimits,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            scheduler_enabled: true,
            scheduler_time_zone: "UTC".to_owned(),
            scheduler_jitter: Duration::from_secs(60),
            scan_schedule: Some("0 6 * * *".to_owned()),
            snapshot_schedule: Some("0 5 * * 1".to_owned()),
            fetch: FetchLimits::default(),
        }
    }
}

impl Config {
    /// What is wrong with the time zone, if anything.
    pub fn time_zone_problem(&self) -> Option<String> {
        let known = aegis_schedule::time_zone(&self.scheduler_time_zone).is_some();
        (!known).then(|| "must be an IANA time zone such as Europe/Berlin".to_owned())
    }

    /// What is wrong with the schedule of the scan, if anything.
    pub fn scan_schedule_problem(&self) -> Option<String> {
        self.scan_schedule.as_deref().and_then(|text| aegis_schedule::parse(text).err())
    }

    /// What is wrong with the schedule of snapshots, if anything.
    pub fn snapshot_schedule_problem(&self) -> Option<String> {
        self.snapshot_schedule.as_deref().and_then(|text| aegis_schedule::parse(text).err())
    }

    pub(crate) fn check(&self) -> Result<Tz, Failure> {
        if let Some(problem) = self.scan_schedule_problem() {
            return Err(Failure::invalid("scan_schedule", problem));
        }
        if let Some(problem) = self.snapshot_schedule_problem() {
            return Err(Failure::invalid("snapshot_schedule", problem));
        }
        if self.scheduler_jitter > MAX_JITTER {
            return Err(Failure::invalid("scheduler_jitter", "must be an hour or less"));
        }
        let wrong = || Failure::invalid("scheduler_time_zone", self.time_zone_problem().unwrap_or_default());
        aegis_schedule::time_zone(&self.scheduler_time_zone).ok_or_else(wrong)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_is_told() {
        Config::default().check().unwrap();
        let zone = Config { scheduler_time_zone: "Mars/Olympus".to_owned(), ..Config::default() };
        assert_eq!(zone.check().unwrap_err().fields()[0].field, "scheduler_time_zone");
        let schedule = Config { scan_schedule: Some("0 0 30 2 *".to_owned()), ..Config::default() };
        assert_eq!(schedule.check().unwrap_err().fields()[0].field, "scan_schedule");
        let schedule = Config { snapshot_schedule: Some("weekly or so".to_owned()), ..Config::default() };
        assert_eq!(schedule.check().unwrap_err().fields()[0].field, "snapshot_schedule");
    }
}
