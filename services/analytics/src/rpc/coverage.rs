//! Coverage, the way of tests, one matrix as it is drawn, and rebuilding.

use std::pin::Pin;

use aegis_auth::OpCtx;
use aegis_error::Failure;
use aegis_proto::analytics::v1::{
    self as pb, GetMatrixRequest, GetMatrixResponse, GetSummaryRequest, GetSummaryResponse, GetTestPipelineRequest,
    GetTestPipelineResponse, ListTacticCoverageRequest, ListTacticCoverageResponse, RebuildProjectionRequest,
    RebuildProjectionResponse, analytics_service_server::AnalyticsService,
};
use futures::{Stream, StreamExt, TryStreamExt};
use tonic::{Request, Response, Status};

use super::{Rpc, coverage, timestamp, view};
use crate::{
    app::{observed::Gap, rebuild::Progress},
    cache::View,
    domain::pipeline::{Pipeline, State},
};

#[tonic::async_trait]
impl AnalyticsService for Rpc {
    async fn get_summary(&self, request: Request<GetSummaryRequest>) -> Result<Response<GetSummaryResponse>, Status> {
        let ctx = OpCtx::of(&request)?;
        let result = self.app.coverage_now(&ctx).await;
        self.answer(&ctx, "GetSummary", result.map(|view| summary(&view))).await
    }

    async fn list_tactic_coverage(
        &self,
        request: Request<ListTacticCoverageRequest>,
    ) -> Result<Response<ListTacticCoverageResponse>, Status> {
        let ctx = OpCtx::of(&request)?;
        let result = self.app.coverage_now(&ctx).await;
        self.answer(&ctx, "ListTacticCoverage", result.map(|view| tactics(&view))).await
    }

    async fn get_test_pipeline(
        &self,
        request: Request<GetTestPipelineRequest>,
    ) -> Result<Response<GetTestPipelineResponse>, Status> {
        let ctx = OpCtx::of(&request)?;
        let result = self.app.pipeline(&ctx).await.map(|(pipeline, as_of)| GetTestPipelineResponse {
            counts: Some(test_counts(&pipeline)),
            as_of: as_of.map(timestamp),
        });
        self.answer(&ctx, "GetTestPipeline", result).await
    }

    async fn get_matrix(&self, request: Request<GetMatrixRequest>) -> Result<Response<GetMatrixResponse>, Status> {
        let ctx = OpCtx::of(&request)?;
        let result = self.app.view(&ctx, view::ask(request.into_inner())).await;
        self.answer(&ctx, "GetMatrix", result.map(|viewed| view::response(&viewed))).await
    }

    async fn list_observed_gaps(
        &self,
        request: Request<pb::ListObservedGapsRequest>,
    ) -> Result<Response<pb::ListObservedGapsResponse>, Status> {
        let ctx = OpCtx::of(&request)?;
        let pb::ListObservedGapsRequest { page_size, page_token, skip } = request.into_inner();
        let result = self.app.list_observed_gaps(&ctx, page_size, &page_token, skip).await;
        let result = result.map(|gaps| pb::ListObservedGapsResponse {
            gaps: gaps.rows.into_iter().map(observed_gap).collect(),
            next_page_token: gaps.next_page_token,
            total_size: gaps.total,
            as_of: gaps.as_of.map(timestamp),
        });
        self.answer(&ctx, "ListObservedGaps", result).await
    }

    type RebuildProjectionStream = Pin<Box<dyn Stream<Item = Result<RebuildProjectionResponse, Status>> + Send>>;

    async fn rebuild_projection(
        &self,
        request: Request<RebuildProjectionRequest>,
    ) -> Result<Response<Self::RebuildProjectionStream>, Status> {
        let ctx = OpCtx::of(&request)?;
        let result = self.app.rebuild(&ctx).await;
        let answers = result.map(|told| told.map_ok(progress).map_err(|error| Failure::from(error).into()).boxed());
        self.answer(&ctx, "RebuildProjection", answers).await
    }
}

fn progress(progress: Progress) -> RebuildProjectionResponse {
    RebuildProjectionResponse {
        phase: progress.phase.to_owned(),
        techniques: progress.techniques,
        tests: progress.tests,
        knowledge: progress.knowledge,
        done: progress.done,
    }
}

fn observed_gap(gap: Gap) -> pb::ObservedGap {
    pb::ObservedGap {
        technique_id: gap.technique.id.to_string(),
        mitre_id: gap.technique.mitre_id.to_string(),
        name: gap.technique.name,
        tactics: gap.technique.tactics,
        status: gap.technique.status.as_str().to_owned(),
        score: gap.score,
        validated_tests: gap.technique.tests.validated,
        tests: gap.technique.tests.all,
        threat_actors: gap.users,
        count: gap.observed.count,
        attackers: gap.observed.attackers,
        first_seen: gap.observed.first_seen.map(timestamp),
        last_seen: gap.observed.last_seen.map(timestamp),
        priority: gap.priority,
    }
}

fn summary(view: &View) -> GetSummaryResponse {
    GetSummaryResponse {
        coverage: Some(coverage(&view.summary.counts)),
        coverage_percentage: view.summary.counts.percentage(),
        as_of: view.matrix.as_of.map(timestamp),
    }
}

fn tactics(view: &View) -> ListTacticCoverageResponse {
    let tactics = view
        .summary
        .tactics
        .iter()
        .map(|(tactic, counts)| pb::TacticCoverage { tactic: tactic.clone(), coverage: Some(coverage(counts)) });
    ListTacticCoverageResponse { tactics: tactics.collect(), as_of: view.matrix.as_of.map(timestamp) }
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
