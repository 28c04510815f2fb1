//! The gRPC side of analytics.

use std::sync::Arc;

use aegis_auth::OpCtx;
use aegis_error::Failure;
use aegis_proto::analytics::v1::{
    self as pb, GetSummaryRequest, GetSummaryResponse, ListTacticCoverageRequest, ListTacticCoverageResponse,
    RebuildProjectionRequest, RebuildProjectionResponse, analytics_service_server::AnalyticsService,
};
use chrono::{DateTime, Utc};
use futures::TryStreamExt;
use tonic::{Request, Response, Status, Streaming};

use crate::{
    app::App,
    domain, events,
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

    async fn rebuild_projection(
        &self,
        request: Request<Streaming<RebuildProjectionRequest>>,
    ) -> Result<Response<RebuildProjectionResponse>, Status> {
        let ctx = OpCtx::of(&request)?;
        let app = &self.app;
        let batches = request.into_inner().map_err(Failure::from).and_then(|batch| async move {
            batch.techniques.into_iter().map(events::from_export).collect::<Result<Vec<_>, _>>()
        });
        let result = app.rebuild(&ctx, batches).await;
        let techniques = app.outbox.audited(&app.db, &ctx, "RebuildProjection", result).await?;
        let techniques = i64::try_from(techniques).unwrap_or(i64::MAX);
        Ok(Response::new(RebuildProjectionResponse { techniques }))
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

fn timestamp(at: DateTime<Utc>) -> prost_types::Timestamp {
    prost_types::Timestamp { seconds: at.timestamp(), nanos: i32::try_from(at.timestamp_subsec_nanos()).unwrap_or(0) }
}
