//! Syncs by hand and the jobs they run as. Administrators only.

use std::collections::HashMap;

use aegis_error::{Code, Failure};
use aegis_proto::{
    intel::v1::{self as proto, GetJobRequest, ListJobsRequest, StartSyncRequest},
    testing::v1::ListTechniqueCampaignsRequest,
};
use axum::extract::State;
use chrono::{DateTime, Utc};
use http::{StatusCode, header::LOCATION};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{
    answer::Answer,
    error::Problem,
    extract::{Caller, Id, Query, page},
    openapi::responses::{Conflict, NotFound, SourceUnreachable, TooLarge, Unprocessable},
    state::Gateway,
    values::{self, JobStatus, time},
};

/// The source that `POST /system/sync-mitre` syncs.
const MITRE: &str = "mitre_attack_enterprise";

/// Routes that need a token.
pub fn protected() -> OpenApiRouter<Gateway> {
    OpenApiRouter::new().routes(routes!(sync_mitre)).routes(routes!(list_jobs)).routes(routes!(get_job))
}

/// A sync, under way or ended.
#[derive(Serialize, ToSchema)]
#[schema(example = json!({
    "id": "0190b7a2-c000-7e6f-9444-4f5a6b7c8d01", "source_id": "0190b7a2-b000-7d5e-8333-3e4f5a6b7c01",
    "source_name": "mitre_attack_enterprise", "status": "running", "phase": "applying", "percentage": 62.5,
    "counts": {"new": 5, "updated": 10}, "error": null, "skipped": [], "dry_run": false, "changes": [],
    "started_by": "admin", "started_at": "2024-01-01T00:00:00Z",
    "finished_at": null
}))]
pub struct Job {
    #[schema(value_type = Uuid)]
    id: String,
    #[schema(value_type = Uuid)]
    source_id: String,
    source_name: String,
    #[schema(value_type = JobStatus)]
    status: String,
    /// fetching | parsing | applying | done
    phase: String,
    /// 0 to 100.
    percentage: f64,
    /// What came of the records.
    #[schema(value_type = Option<Object>)]
    counts: Value,
    /// Why it failed.
    error: Option<String>,
    /// The first 100 records that were skipped, each with its reason.
    #[schema(value_type = Vec<Object>)]
    skipped: Value,
    /// Nothing was changed; `counts` and `changes` are what would be.
    dry_run: bool,
    /// What it does to techniques, the first 1,000: new, changed, revoked with successor, deprecated, vanished; how
    /// many tests and templates name each, and which campaigns test it.
    #[schema(value_type = Vec<Object>)]
    changes: Value,
    /// Username, or system:scheduler.
    started_by: String,
    started_at: Option<DateTime<Utc>>,
    finished_at: Option<DateTime<Utc>>,
}

impl From<proto::Job> for Job {
    fn from(job: proto::Job) -> Job {
        let list =
            |text: &str| Some(values::json(text)).filter(Value::is_array).unwrap_or_else(|| Value::Array(Vec::new()));
        Job {
            dry_run: job.dry_run,
            changes: list(&job.changes_json),
            started_by: job.started_by,
            id: job.id,
            source_id: job.source_id,
            source_name: job.source_name,
            status: job.status,
            phase: job.phase,
            percentage: job.percentage,
            counts: values::json(&job.counts_json),
            error: job.error,
            skipped: list(&job.skipped_json),
            started_at: time(job.started_at),
            finished_at: time(job.finished_at),
        }
    }
}

impl Job {
    /// Names the campaigns that test what it changes.
    async fn with_campaigns(mut self, gateway: &Gateway, caller: &Caller) -> Result<Job, Problem> {
        let Some(changes) = self.changes.as_array_mut() else { return Ok(self) };
        let tested = |change: &&Value| change["tests"].as_i64().unwrap_or(0) > 0;
        let ids = changes.iter().filter(tested).filter_map(|change| change["technique_id"].as_str());
        let technique_ids: Vec<String> = ids.take(1_000).map(str::to_owned).collect();
        let mut found: HashMap<String, Vec<Value>> = HashMap::new();
        if !technique_ids.is_empty() {
            let request = caller.ctx().outgoing(ListTechniqueCampaignsRequest { technique_ids });
            let answer = gateway.deps.campaigns.clone().list_technique_campaigns(request).await?.into_inner();
            for row in answer.campaigns {
                let campaign = json!({"id": row.campaign_id, "name": row.name});
                found.entry(row.technique_id).or_default().push(campaign);
            }
        }
        for change in changes.iter_mut().filter(|change| change.is_object()) {
            let campaigns = change["technique_id"].as_str().and_then(|id| found.remove(id)).unwrap_or_default();
            change["campaigns"] = Value::Array(campaigns);
        }
        Ok(self)
    }
}

/// What a sync brought.
#[derive(Serialize, ToSchema)]
#[schema(example = json!({
    "message": "MITRE sync completed", "new": 5, "updated": 10, "unchanged": 676, "revoked": 140, "deprecated": 20,
    "skipped": 0, "job": {
        "id": "0190b7a2-c000-7e6f-9444-4f5a6b7c8d01", "source_id": "0190b7a2-b000-7d5e-8333-3e4f5a6b7c01",
        "source_name": "mitre_attack_enterprise", "status": "succeeded", "phase": "done", "percentage": 100.0,
        "counts": {"new": 5, "updated": 10}, "error": null, "skipped": [], "dry_run": false, "changes": [],
    "started_by": "admin", "started_at": "2024-01-01T00:00:00Z",
        "finished_at": "2024-01-01T00:00:02Z"
    }
}))]
pub struct SyncResult {
    message: String,
    new: i64,
    updated: i64,
    unchanged: i64,
    /// Techniques that the publisher has revoked.
    revoked: i64,
    /// Techniques that the publisher has deprecated.
    deprecated: i64,
    /// Records that could not be read; the job says why.
    skipped: i64,
    job: Job,
}

/// How a sync is to run.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct SyncQuery {
    /// Answer 202 at once, with a job to poll.
    #[serde(rename = "async")]
    #[param(default = false)]
    background: Option<bool>,
    /// Say what it would do, and change nothing.
    #[param(default = false)]
    dry_run: Option<bool>,
    /// Bring the document in even where more than half of what the source brought before is not in it.
    #[param(default = false)]
    force: Option<bool>,
}

impl SyncQuery {
    /// Whether to answer before the end.
    pub fn background(&self) -> bool {
        self.background.unwrap_or(false)
    }

    /// Whether a document may take most of what is there away.
    pub fn force(&self) -> bool {
        self.force.unwrap_or(false)
    }

    /// Whether nothing is to change.
    pub fn dry_run(&self) -> bool {
        self.dry_run.unwrap_or(false)
    }
}

/// The answer to a sync that has started: 202 and where its job is.
pub fn started(job: proto::Job) -> Result<Answer, Problem> {
    let location = format!("/api/v1/system/jobs/{}", job.id);
    Ok(Answer::json(&Job::from(job))?.status(StatusCode::ACCEPTED).with(LOCATION, &location))
}

/// The answer to a sync that has ended.
pub async fn synced(gateway: &Gateway, caller: &Caller, job: proto::Job, message: String) -> Result<Answer, Problem> {
    if job.status == JobStatus::Failed.as_str() {
        let why = job.error.unwrap_or_else(|| "the job does not say why".into());
        let failure = Failure::new(Code::Unprocessable, format!("the sync of {} failed: {why}", job.source_name));
        return Err(failure.with("job_id", job.id).into());
    }
    let job = Job::from(job).with_campaigns(gateway, caller).await?;
    let count = |name: &str| job.counts.get(name).and_then(Value::as_i64).unwrap_or(0);
    let result = SyncResult {
        message,
        new: count("new"),
        updated: count("updated"),
        unchanged: count("unchanged"),
        revoked: count("revoked"),
        deprecated: count("deprecated"),
        skipped: count("skipped"),
        job,
    };
    Answer::json(&result)
}

/// Sync MITRE ATT&CK
///
/// Administrators only. The enterprise matrix, from the data source `mitre_attack_enterprise`. Answers when it has
/// ended, ten minutes at most; with `async=true` at once, with a job to poll. A sync that is already running is 409.
#[utoipa::path(post, path = "/api/v1/system/sync-mitre", tag = "System", params(SyncQuery),
    extensions(("x-roles" = json!(["admin"]))),
    responses(
        (status = 200, description = "Synced", body = SyncResult),
        (status = 202, description = "Started; Location is the job", body = Job),
        (status = 409, response = Conflict),
        (status = 413, response = TooLarge),
        (status = 422, response = Unprocessable),
        (status = 424, response = SourceUnreachable),
    ))]
async fn sync_mitre(
    State(gateway): State<Gateway>,
    caller: Caller,
    Query(query): Query<SyncQuery>,
) -> Result<Answer, Problem> {
    let wait = !query.background();
    let dry_run = query.dry_run();
    let force = query.force();
    let request = StartSyncRequest { source_id: MITRE.into(), wait, dry_run, force, ..StartSyncRequest::default() };
    let answer = gateway.deps.intel.clone().start_sync(caller.ctx().outgoing(request)).await?.into_inner();
    let job = answer.job.ok_or_else(Problem::empty)?;
    let message = if dry_run { "MITRE sync tried out, nothing was changed" } else { "MITRE sync completed" };
    if wait { synced(&gateway, &caller, job, message.into()).await } else { started(job) }
}

/// Part of the history of jobs.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct ListJobs {
    /// Of this data source: UUID or name.
    #[param(example = "mitre_attack_enterprise")]
    source: Option<String>,
    /// Rows at most.
    #[param(minimum = 1, maximum = 1000, default = 100)]
    limit: Option<u32>,
    /// Rows to leave out before.
    #[param(minimum = 0, maximum = 2147483647, default = 0)]
    offset: Option<u32>,
}

/// List jobs
///
/// Administrators only. The newest first, without `changes`; `X-Total-Count` has the number of all that fit.
#[utoipa::path(get, path = "/api/v1/system/jobs", tag = "System", params(ListJobs),
    extensions(("x-roles" = json!(["admin"]))),
    responses(
        (status = 200, description = "Jobs", body = [Job]),
        (status = 404, response = NotFound),
    ))]
async fn list_jobs(
    State(gateway): State<Gateway>,
    caller: Caller,
    Query(query): Query<ListJobs>,
) -> Result<Answer, Problem> {
    let (page_size, skip) = page(query.limit, query.offset, 100, 1000)?;
    let request =
        ListJobsRequest { source_id: query.source.unwrap_or_default(), page_size, page_token: String::new(), skip };
    let answer = gateway.deps.intel.clone().list_jobs(caller.ctx().outgoing(request)).await?.into_inner();
    Answer::list(&answer.jobs.into_iter().map(Job::from).collect::<Vec<_>>(), answer.total_size)
}

/// Read a job
///
/// Administrators only.
#[utoipa::path(get, path = "/api/v1/system/jobs/{id}", tag = "System", params(("id" = Uuid, Path, description = "Job")),
    extensions(("x-roles" = json!(["admin"]))),
    responses((status = 200, description = "The job", body = Job), (status = 404, response = NotFound)))]
async fn get_job(State(gateway): State<Gateway>, caller: Caller, id: Id) -> Result<Answer, Problem> {
    let request = GetJobRequest { id: id.to_string() };
    let answer = gateway.deps.intel.clone().get_job(caller.ctx().outgoing(request)).await?.into_inner();
    let job = Job::from(answer.job.ok_or_else(Problem::empty)?).with_campaigns(&gateway, &caller).await?;
    Answer::entity(0, &job)
}
