//! What runs by itself, and when. Administrators only.

use aegis_proto::intel::v1::{self as proto, GetSchedulerRequest, ListRunsRequest};
use axum::extract::State;
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{
    answer::Answer,
    error::Problem,
    extract::{Caller, Query, page},
    state::Gateway,
    values::{filled, time, time_always},
};

/// Routes that need a token.
pub fn protected() -> OpenApiRouter<Gateway> {
    OpenApiRouter::new().routes(routes!(get_scheduler_status)).routes(routes!(list_scheduler_runs))
}

/// What the scheduler does.
#[derive(Serialize, ToSchema)]
#[schema(example = json!({
    "running": true, "leader": "intel-7f3a", "lease_until": "2024-01-01T00:00:15Z",
    "jobs": [{
        "id": "mitre_sync", "name": "MITRE ATT&CK Sync", "next_run_time": "2024-01-02T00:00:00Z", "enabled": true,
        "schedule": "0 0 * * 1", "time_zone": "UTC", "last_run_time": null, "last_status": null, "last_error": null,
        "last_duration_seconds": null
    }]
}))]
pub struct SchedulerStatus {
    /// Some process leads at present.
    running: bool,
    /// Which one.
    leader: Option<String>,
    lease_until: Option<DateTime<Utc>>,
    jobs: Vec<ScheduledJob>,
}

/// A job of the scheduler.
#[derive(Serialize, ToSchema)]
#[schema(example = json!({
    "id": "mitre_sync", "name": "MITRE ATT&CK Sync", "next_run_time": "2024-01-02T00:00:00Z", "enabled": true,
    "schedule": "0 0 * * 1", "time_zone": "UTC", "last_run_time": null, "last_status": null, "last_error": null,
    "last_duration_seconds": null
}))]
pub struct ScheduledJob {
    id: String,
    name: String,
    next_run_time: Option<DateTime<Utc>>,
    enabled: bool,
    /// Cron; null for by hand only.
    schedule: Option<String>,
    /// IANA name.
    time_zone: String,
    last_run_time: Option<DateTime<Utc>>,
    /// succeeded | failed | running | skipped
    last_status: Option<String>,
    last_error: Option<String>,
    last_duration_seconds: Option<f64>,
}

impl From<proto::ScheduledJob> for ScheduledJob {
    fn from(job: proto::ScheduledJob) -> ScheduledJob {
        ScheduledJob {
            id: job.id,
            name: job.name,
            next_run_time: time(job.next_run_at),
            enabled: job.enabled,
            schedule: job.schedule,
            time_zone: job.time_zone,
            last_run_time: time(job.last_run_at),
            last_status: job.last_status,
            last_error: job.last_error,
            last_duration_seconds: job.last_duration_seconds,
        }
    }
}

/// One run of a job.
#[derive(Serialize, ToSchema)]
#[schema(example = json!({
    "id": "0190b7a2-9000-7c3e-9d2a-3f6d1c0e8a08", "job_id": "mitre_sync", "due_at": "2024-01-01T00:00:00Z",
    "started_at": "2024-01-01T00:00:03Z", "finished_at": "2024-01-01T00:00:05Z", "status": "succeeded", "error": null,
    "missed": false
}))]
pub struct SchedulerRun {
    #[schema(value_type = Uuid)]
    id: String,
    job_id: String,
    due_at: DateTime<Utc>,
    started_at: Option<DateTime<Utc>>,
    finished_at: Option<DateTime<Utc>>,
    /// succeeded | failed | running | skipped
    status: String,
    error: Option<String>,
    /// It was due while no process ran.
    missed: bool,
}

/// Part of the history of runs.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct ListRuns {
    /// Of this job.
    #[param(example = "mitre_sync")]
    job_id: Option<String>,
    /// Rows at most.
    #[param(minimum = 1, maximum = 1000, default = 100)]
    limit: Option<u32>,
    /// Rows to leave out before.
    #[param(minimum = 0, maximum = 2147483647, default = 0)]
    offset: Option<u32>,
}

/// Read the scheduler's status
///
/// Administrators only. Every job with its next and its last run.
#[utoipa::path(get, path = "/api/v1/system/scheduler-status", tag = "System",
    extensions(("x-roles" = json!(["admin"]))),
    responses((status = 200, description = "The status", body = SchedulerStatus)))]
async fn get_scheduler_status(State(gateway): State<Gateway>, caller: Caller) -> Result<Answer, Problem> {
    let request = caller.ctx().outgoing(GetSchedulerRequest {});
    let answer = gateway.deps.scheduler.clone().get_scheduler(request).await?.into_inner();
    Answer::json(&SchedulerStatus {
        running: answer.running,
        leader: filled(answer.leader),
        lease_until: time(answer.lease_until),
        jobs: answer.jobs.into_iter().map(ScheduledJob::from).collect(),
    })
}

/// List the scheduler's runs
///
/// Administrators only. The newest first; `X-Total-Count` has the number of all that fit.
#[utoipa::path(get, path = "/api/v1/system/scheduler-runs", tag = "System", params(ListRuns),
    extensions(("x-roles" = json!(["admin"]))),
    responses((status = 200, description = "Runs", body = [SchedulerRun])))]
async fn list_scheduler_runs(
    State(gateway): State<Gateway>,
    caller: Caller,
    Query(query): Query<ListRuns>,
) -> Result<Answer, Problem> {
    let (page_size, skip) = page(query.limit, query.offset, 100, 1000)?;
    let request =
        ListRunsRequest { job_id: query.job_id.unwrap_or_default(), page_size, page_token: String::new(), skip };
    let answer = gateway.deps.scheduler.clone().list_runs(caller.ctx().outgoing(request)).await?.into_inner();
    let runs = answer.runs.into_iter().map(|run| SchedulerRun {
        id: run.id,
        job_id: run.job_id,
        due_at: time_always(run.due_at),
        started_at: time(run.started_at),
        finished_at: time(run.finished_at),
        status: run.status,
        error: run.error,
        missed: run.missed,
    });
    Answer::list(&runs.collect::<Vec<_>>(), answer.total_size)
}
