//! What the metrics say of the fleet and its events, besides calls and jobs.

use aegis_telemetry::{Counters, Gauges};

/// Events that are stored and that nothing was derived from yet. Of the process that follows; 0 elsewhere.
pub(crate) static BEHIND: Gauges = Gauges::new(
    "aegis_deception_follower_lag_events",
    "Events that are stored and from which attackers, sessions, alerts and the rest are not yet derived.",
    &[],
);
/// Events that the follower has done with.
pub(crate) static FOLLOWED: Counters =
    Counters::new("aegis_deception_followed_events_total", "Events from which was derived what follows.", &[]);
/// Events that were new.
pub(crate) static STORED: Counters =
    Counters::new("aegis_deception_stored_events_total", "Events that were taken in, each counted once.", &[]);
/// Events that were removed because they were old or too many.
pub(crate) static REMOVED: Counters =
    Counters::new("aegis_deception_removed_events_total", "Events that were no longer kept.", &[]);
/// Sensors whose stream is open here.
pub(crate) static SENSORS: Gauges =
    Gauges::new("aegis_deception_sensors_attached", "Sensors that are attached to this process.", &[]);
static BUFFERED: Gauges = Gauges::new(
    "aegis_deception_sensor_buffered_events",
    "Events that wait on the disks of the sensors attached to this process, by their last word.",
    &[],
);
/// Readers of the live stream.
pub(crate) static WATCHERS: Gauges =
    Gauges::new("aegis_deception_log_watchers", "Readers of the stream of events.", &[]);

/// All of them, before there is anything to say.
pub(crate) fn declare() {
    [&BEHIND, &SENSORS, &BUFFERED, &WATCHERS].iter().for_each(|gauge| gauge.add(&[], 0.0));
    [&FOLLOWED, &STORED, &REMOVED].iter().for_each(|counter| counter.add(&[], 0));
}

/// What one sensor has on its disk; nothing once its stream has ended.
#[derive(Debug, Default)]
pub(crate) struct Buffered(f64);

impl Buffered {
    /// As it says.
    pub(crate) fn set(&mut self, events: i64) {
        let events = events.max(0) as f64;
        BUFFERED.add(&[], events - self.0);
        self.0 = events;
    }
}

impl Drop for Buffered {
    fn drop(&mut self) {
        self.set(0);
    }
}
