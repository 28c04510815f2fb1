//! The gRPC side of analytics.

use std::sync::Arc;

use aegis_auth::OpCtx;
use aegis_error::Failure;
use aegis_proto::analytics::v1::{
    self as pb, GetRebuildStartRequest, GetRebuildStartResponse, GetSummaryRequest, GetSummaryResponse,
    GetTestPipelineRequest, GetTestPipelineResponse, ListTacticCoverageRequest, ListTacticCoverageResponse,
    RebuildProjectionRequest, RebuildProjectionResponse, analytics_service_server::AnalyticsService,
};
use chrono::{DateTime, Utc};
use futures::TryStreamExt;
use tonic::{Request, Response, Status, Streaming};

use crate::{
    app::App,
    domain::{
        self,
        pipeline::{Pipeline, State},
    },
    events,
    store::{Counts, SummaryRow, TacticRow},
};

/// The server.
pub(crate) struct Rpc {
    app: Arc<App>,
}

impl Rpc {
    pub(crate) fn new(app: Arc<App>) -> Self {
        Rpc { app }
    }
}

#[tonic::async_trait]
impl AnalyticsService for Rpc {
    async fn get_summary(&self, request: Request<GetSummaryRequest>) -> Result<Response<GetSummaryResponse>, Status> {
        let ctx = OpCtx::of(&request)?;
        let app = &self.app;
        let summary = app.outbox.audited(&app.db, &ctx, "GetSummary", app.summary(&ctx).await).await?;
        Ok(Response::new(summary_response(&summary)))
    }

    async fn list_tactic_coverage(
        &self,
        request: Request<ListTacticCoverageRequest>,
    ) -> Result<Response<ListTacticCoverageResponse>, Status> {
        let ctx = OpCtx::of(&request)?;
        let app = &self.app;
        let tactics = app.outbox.audited(&app.db, &ctx, "ListTacticCoverage", app.tactics(&ctx).await).await?;
        Ok(Response::new(tactics_response(&tactics)))
    }

    async fn get_test_pipeline(
        &self,
        request: Request<GetTestPipelineRequest>,
    ) -> Result<Response<GetTestPipelineResponse>, Status> {
        let ctx = OpCtx::of(&request)?;
        let app = &self.app;
        let result = app.pipeline(&ctx).await;
        let (pipeline, as_of) = app.outbox.audited(&app.db, &ctx, "GetTestPipeline", result).await?;
        Ok(Response::new(GetTestPipelineResponse { counts: Some(test_counts(&pipeline)), as_of: as_of.map(timestamp) }))
    }

    async fn get_rebuild_start(
        &self,
        request: Request<GetRebuildStartRequest>,
    ) -> Result<Response<GetRebuildStartResponse>, Status> {
        let ctx = OpCtx::of(&request)?;
        let app = &self.app;
        let started_at = app.outbox.audited(&app.db, &ctx, "GetRebuildStart", app.rebuild_start(&ctx).await).await?;
        Ok(Response::new(GetRebuildStartResponse { started_at: Some(timestamp(started_at)) }))
    }

    async fn rebuild_projection(
        &self,
        request: Request<Streaming<RebuildProjectionRequest>>,
    ) -> Result<Response<RebuildProjectionResponse>, Status> {
        let ctx = OpCtx::of(&request)?;
        let app = &self.app;
        let parts = request.into_inner().map_err(Failure::from);
        let batches = parts.and_then(|part| std::future::ready(events::from_export(part)));
        let result = app.rebuild(&ctx, batches).await;
        let rebuilt = app.outbox.audited(&app.db, &ctx, "RebuildProjection", result).await?;
        Ok(Response::new(RebuildProjectionResponse {
            techniques: i64::try_from(rebuilt.techniques).unwrap_or(i64::MAX),
            tests: i64::try_from(rebuilt.tests).unwrap_or(i64::MAX),
        }))
    }
}

fn summary_response(row: &SummaryRow) -> GetSummaryResponse {
    let counts = &row.counts;
    GetSummaryResponse {
        coverage: Some(coverage(counts)),
        coverage_percentage: domain::coverage_percentage(counts.validated, counts.partial, counts.total),
        as_of: row.as_of.map(timestamp),
    }
}

fn tactics_response(rows: &[TacticRow]) -> ListTacticCoverageResponse {
    let tactics = rows.iter().filter_map(|row| {
        Some(pb::TacticCoverage { tactic: row.tactic.clone()?, coverage: Some(coverage(&row.counts)) })
    });
    ListTacticCoverageResponse {
        tactics: tactics.collect(),
        as_of: rows.first().and_then(|row| row.as_of).map(timestamp),
    }
}

fn coverage(counts: &Counts) -> pb::Coverage {
    pb::Coverage {
        total: counts.total,
        validated: counts.validated,
        partial: counts.partial,
        not_covered: counts.not_covered,
        in_progress: counts.in_progress,
        not_evaluated: counts.not_evaluated,
    }
}

fn test_counts(pipeline: &Pipeline) -> pb::TestCounts {
    pb::TestCounts {
        draft: pipeline.of(State::Draft),
        red_executing: pipeline.of(State::RedExecuting),
        blue_evaluating: pipeline.of(State::BlueEvaluating),
        in_review: pipeline.of(State::InReview),
        validated: pipeline.of(State::Validated),
        rejected: pipeline.of(State::Rejected),
        total: pipeline.total(),
    }
}

fn timestamp(at: DateTime<Utc>) -> prost_types::Timestamp {
    prost_types::Timestamp { seconds: at.timestamp(), nanos: i32::try_from(at.timestamp_subsec_nanos()).unwrap_or(0) }
}
