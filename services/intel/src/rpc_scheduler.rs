//! The gRPC side of the scheduler.

use aegis_auth::OpCtx;
use aegis_db::now;
use aegis_proto::intel::v1::{
    self as pb, GetSchedulerRequest, GetSchedulerResponse, ListRunsRequest, ListRunsResponse,
    scheduler_service_server::SchedulerService,
};
use chrono::{DateTime, Utc};
use prost_types::Timestamp;
use tonic::{Request, Response, Status};

use crate::{
    app::{App, JobView, SchedulerView},
    error::Error,
    store::schedule::{FAILED, Run},
};

/// The server of `SchedulerService`.
pub(crate) struct SchedulerRpc {
    app: App,
}

impl SchedulerRpc {
    pub(crate) fn new(app: App) -> Self {
        SchedulerRpc { app }
    }

    async fn answer<T>(&self, ctx: &OpCtx, method: &str, result: Result<T, Error>) -> Result<Response<T>, Status> {
        self.app.outbox().audited(self.app.db(), ctx, method, result).await.map(Response::new)
    }
}

#[tonic::async_trait]
impl SchedulerService for SchedulerRpc {
    async fn get_scheduler(
        &self,
        request: Request<GetSchedulerRequest>,
    ) -> Result<Response<GetSchedulerResponse>, Status> {
        let ctx = OpCtx::of(&request)?;
        let result = self.app.get_scheduler(&ctx).await.map(scheduler);
        self.answer(&ctx, "GetScheduler", result).await
    }

    async fn list_runs(&self, request: Request<ListRunsRequest>) -> Result<Response<ListRunsResponse>, Status> {
        let ctx = OpCtx::of(&request)?;
        let request = request.into_inner();
        let result =
            self.app.list_runs(&ctx, &request.job_id, request.page_size, &request.page_token, request.skip).await.map(
                |page| ListRunsResponse {
                    runs: page.runs.into_iter().map(run).collect(),
                    next_page_token: page.next_page_token,
                    total_size: page.total,
                },
            );
        self.answer(&ctx, "ListRuns", result).await
    }
}

fn scheduler(view: SchedulerView) -> GetSchedulerResponse {
    let time_zone = view.time_zone;
    GetSchedulerResponse {
        running: view.running,
        // Who led last leads no more.
        leader: view.lease.as_ref().filter(|_| view.running).map(|lease| lease.holder.clone()).unwrap_or_default(),
        lease_until: view.lease.filter(|_| view.running).and_then(|lease| timestamp(lease.held_until)),
        jobs: view.jobs.into_iter().map(|view| job(view, &time_zone)).collect(),
    }
}

fn job(view: JobView, time_zone: &str) -> pb::ScheduledJob {
    let last = view.last.map(ended_if_dead);
    let lasted = |run: &Run| {
        let finished = run.finished_at?;
        Some((finished - run.started_at).as_seconds_f64().max(0.0))
    };
    pb::ScheduledJob {
        id: view.id,
        name: view.name,
        enabled: view.enabled,
        schedule: view.schedule,
        time_zone: time_zone.to_owned(),
        next_run_at: view.next_run_at.and_then(timestamp),
        last_run_at: last.as_ref().and_then(|run| timestamp(run.started_at)),
        last_status: last.as_ref().map(|run| run.status.clone()),
        last_duration_seconds: last.as_ref().and_then(lasted),
        last_error: last.and_then(|run| run.error),
    }
}

fn run(run: Run) -> pb::Run {
    let run = ended_if_dead(run);
    pb::Run {
        id: run.id.to_string(),
        job_id: run.job_id,
        due_at: timestamp(run.due_at),
        started_at: timestamp(run.started_at),
        finished_at: run.finished_at.and_then(timestamp),
        status: run.status,
        error: run.error,
        missed: run.missed,
    }
}

/// A run whose process can no longer say that it ended.
fn ended_if_dead(mut run: Run) -> Run {
    if run.is_dead(now()) {
        run.status = FAILED.to_owned();
        run.error = Some(Error::Died.public());
        run.finished_at = Some(run.heartbeat_at.max(run.started_at));
    }
    run
}

/// A moment as a message has it.
pub(crate) fn timestamp(at: DateTime<Utc>) -> Option<Timestamp> {
    let nanos = i32::try_from(at.timestamp_subsec_nanos()).ok()?;
    Some(Timestamp { seconds: at.timestamp(), nanos })
}
