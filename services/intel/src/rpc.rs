//! The gRPC side: messages in and out.

use aegis_auth::OpCtx;
use aegis_db::now;
use aegis_proto::intel::v1::{
    self as pb, GetDataSourceRequest, GetDataSourceResponse, GetJobRequest, GetJobResponse, ListDataSourcesRequest,
    ListDataSourcesResponse, ListJobsRequest, ListJobsResponse, StartSyncRequest, StartSyncResponse,
    UpdateDataSourceRequest, UpdateDataSourceResponse, intel_service_server::IntelService,
};
use chrono::{DateTime, Utc};
use prost_types::Timestamp;
use serde_json::json;
use tonic::{Request, Response, Status};

use crate::{
    app::{App, SourceEdit, SyncOrder},
    error::Error,
    store::{
        job::{self, FAILED, Job, RUNNING},
        source::Source,
    },
};

/// The server of `IntelService`.
pub(crate) struct Rpc {
    app: App,
}

impl Rpc {
    pub(crate) fn new(app: App) -> Self {
        Rpc { app }
    }

    async fn answer<T>(&self, ctx: &OpCtx, method: &str, result: Result<T, Error>) -> Result<Response<T>, Status> {
        let outbox = self.app.outbox();
        outbox.audited(self.app.db(), ctx, method, result).await.map(Response::new)
    }
}

#[tonic::async_trait]
impl IntelService for Rpc {
    async fn list_data_sources(
        &self,
        request: Request<ListDataSourcesRequest>,
    ) -> Result<Response<ListDataSourcesResponse>, Status> {
        let ctx = OpCtx::of(&request)?;
        let request = request.into_inner();
        let result = self.app.list_sources(&ctx, request.page_size, &request.page_token).await.map(|page| {
            ListDataSourcesResponse {
                data_sources: page.sources.into_iter().map(data_source).collect(),
                next_page_token: page.next_page_token,
                total_size: page.total,
            }
        });
        self.answer(&ctx, "ListDataSources", result).await
    }

    async fn get_data_source(
        &self,
        request: Request<GetDataSourceRequest>,
    ) -> Result<Response<GetDataSourceResponse>, Status> {
        let ctx = OpCtx::of(&request)?;
        let result = self.app.get_source(&ctx, &request.get_ref().id).await;
        let result = result.map(|source| GetDataSourceResponse { data_source: Some(data_source(source)) });
        self.answer(&ctx, "GetDataSource", result).await
    }

    async fn update_data_source(
        &self,
        request: Request<UpdateDataSourceRequest>,
    ) -> Result<Response<UpdateDataSourceResponse>, Status> {
        let ctx = OpCtx::of(&request)?;
        let request = request.into_inner();
        let edit = SourceEdit {
            url: request.url,
            enabled: request.enabled,
            schedule: request.schedule,
            companion_url: request.companion_url,
            clear_schedule: request.clear_schedule,
        };
        let result = self.app.update_source(&ctx, &request.id, edit).await;
        let result = result.map(|source| UpdateDataSourceResponse { data_source: Some(data_source(source)) });
        self.answer(&ctx, "UpdateDataSource", result).await
    }

    async fn start_sync(&self, request: Request<StartSyncRequest>) -> Result<Response<StartSyncResponse>, Status> {
        let ctx = OpCtx::of(&request)?;
        let request = request.into_inner();
        let order = SyncOrder {
            source_id: request.source_id,
            wait: request.wait,
            url: request.url,
            companion_url: request.companion_url,
            dry_run: request.dry_run,
            force: request.force,
        };
        let result = self.app.start_sync(&ctx, order).await;
        let result = result.map(|job| StartSyncResponse { job: Some(job_message(job)) });
        self.answer(&ctx, "StartSync", result).await
    }

    async fn get_job(&self, request: Request<GetJobRequest>) -> Result<Response<GetJobResponse>, Status> {
        let ctx = OpCtx::of(&request)?;
        let result = self.app.get_job(&ctx, &request.get_ref().id).await;
        let result = result.map(|job| GetJobResponse { job: Some(job_message(job)) });
        self.answer(&ctx, "GetJob", result).await
    }

    async fn list_jobs(&self, request: Request<ListJobsRequest>) -> Result<Response<ListJobsResponse>, Status> {
        let ctx = OpCtx::of(&request)?;
        let r = request.into_inner();
        let page = self.app.list_jobs(&ctx, &r.source_id, r.page_size, &r.page_token, r.skip).await;
        let result = page.map(|page| ListJobsResponse {
            // What each did to which technique, and skipped, is on the job itself: a thousand of these are no page.
            jobs: page
                .jobs
                .into_iter()
                .map(|job| pb::Job { changes_json: "[]".to_owned(), ..job_message(job) })
                .collect(),
            next_page_token: page.next_page_token,
            total_size: page.total,
        });
        self.answer(&ctx, "ListJobs", result).await
    }
}

fn data_source(source: Source) -> pb::DataSource {
    // What runs is on its job alone, so that a process that ends leaves nothing behind here.
    let (last_status, last_error) = match source.running_at {
        None => (source.last_status, source.last_error),
        Some(at) if job::is_dead(at, now()) => (Some(FAILED.to_owned()), Some(Error::Died.public())),
        Some(_) => (Some(RUNNING.to_owned()), None),
    };
    pb::DataSource {
        id: source.id.to_string(),
        name: source.name,
        kind: source.kind,
        url: source.url,
        enabled: source.enabled,
        schedule: source.schedule,
        last_sync_at: source.last_sync_at.and_then(timestamp),
        last_status,
        last_error,
        last_counts_json: match source.last_counts {
            Some(counts) => json!(counts.0).to_string(),
            None => "{}".to_owned(),
        },
        upstream_version: source.upstream_version,
        updated_at: timestamp(source.updated_at),
        version: source.version,
        companion_url: source.companion_url,
    }
}

fn job_message(job: Job) -> pb::Job {
    // Its process can no longer say so itself.
    let dead = job.status == RUNNING && job::is_dead(job.heartbeat_at, now());
    let (status, error, finished_at) = match dead {
        true => (FAILED.to_owned(), Some(Error::Died.public()), Some(job.heartbeat_at)),
        false => (job.status, job.error, job.finished_at),
    };
    pb::Job {
        id: job.id.to_string(),
        source_id: job.source_id.to_string(),
        source_name: job.source_name,
        status,
        phase: job.phase,
        percentage: job.percentage,
        counts_json: match job.counts {
            Some(counts) => json!(counts.0).to_string(),
            None => "{}".to_owned(),
        },
        error,
        skipped_json: json!(job.skipped.0).to_string(),
        started_at: timestamp(job.started_at),
        finished_at: finished_at.and_then(timestamp),
        dry_run: job.dry_run,
        changes_json: json!(job.changes.0).to_string(),
        started_by: job.started_by,
    }
}

fn timestamp(at: DateTime<Utc>) -> Option<Timestamp> {
    let nanos = i32::try_from(at.timestamp_subsec_nanos()).ok()?;
    Some(Timestamp { seconds: at.timestamp(), nanos })
}
