//! Work that nobody waits for: how often, how long, how it ended, and when it last went well.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::meters::{Counters, Gauges, Histograms, JOBS};

static RUNS: Counters =
    Counters::new("aegis_job_runs_total", "Runs of a job by how they ended.", &["job_name", "outcome"]);
static SECONDS: Histograms =
    Histograms::new("aegis_job_duration_seconds", "Time of a run of a job.", &["job_name"], JOBS);
static RUNNING: Gauges = Gauges::new("aegis_jobs_running", "Runs of a job that go on.", &["job_name"]);
static SUCCESS: Gauges = Gauges::new(
    "aegis_job_last_success_timestamp_seconds",
    "When a run of a job last ended well, seconds since the Unix epoch.",
    &["job_name"],
);

/// Does one run of a job and takes note of it. `job` is one of few names of ours, or of a data source.
pub async fn job<T, E>(job: &str, run: impl Future<Output = Result<T, E>>) -> Result<T, E> {
    let began = Instant::now();
    let running = RUNNING.hold(&[job]);
    let result = run.await;
    drop(running);
    job_ended(job, result.is_ok(), began.elapsed());
    result
}

/// Takes note of a run that was measured elsewhere.
pub fn job_ended(job: &str, well: bool, took: Duration) {
    SECONDS.observe(&[job], took.as_secs_f64());
    // Both, so that the first failure is a change that can be seen.
    RUNS.add(&[job, "ok"], u64::from(well));
    RUNS.add(&[job, "failed"], u64::from(!well));
    if well {
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        SUCCESS.set(&[job], now.map_or(0.0, |now| now.as_secs_f64()));
    } else {
        // One that never went well is there too, with 0: else nothing tells of a process that has come nowhere.
        SUCCESS.add(&[job], 0.0);
    }
}
