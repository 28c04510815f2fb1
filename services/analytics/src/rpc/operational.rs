//! The gRPC side of key figures and reports over tests.

use std::collections::HashMap;

use aegis_auth::OpCtx;
use aegis_error::{Failure, Fields};
use aegis_proto::analytics::v1::{
    self as pb, ExportRemediationStatusRequest, ExportRemediationStatusResponse, ExportTestResultsRequest,
    ExportTestResultsResponse, GetOperationalByTeamRequest, GetOperationalByTeamResponse, GetOperationalRequest,
    GetOperationalResponse, GetOperationalTrendRequest, GetOperationalTrendResponse, GetRemediationStatusRequest,
    GetRemediationStatusResponse, GetTeamActivityRequest, GetTeamActivityResponse, GetTestResultsRequest,
    GetTestResultsResponse, GetValidationRateRequest, GetValidationRateResponse, ListRecentTestsRequest,
    ListRecentTestsResponse, operational_service_server::OperationalService,
};
use chrono::{DateTime, Utc};
use futures::{StreamExt, TryStreamExt, stream::BoxStream};
use tonic::{Request, Response, Status};
use uuid::Uuid;

use super::{Rpc, chrono_of, timestamp};
use crate::{
    app::reports::{Part, Pieces, state_of},
    domain::{
        kpi::{Kpi, Load, Votes, percentage},
        results::Filter,
    },
    error::Error,
    store::reports::ReportRow,
};

#[tonic::async_trait]
impl OperationalService for Rpc {
    async fn get_operational(
        &self,
        request: Request<GetOperationalRequest>,
    ) -> Result<Response<GetOperationalResponse>, Status> {
        let ctx = OpCtx::of(&request)?;
        let result = self.app.operational(&ctx).await.map(|figure| GetOperationalResponse {
            kpis: figure.value.kpis.iter().map(kpi).collect(),
            as_of: Some(timestamp(figure.as_of)),
        });
        self.answer(&ctx, "GetOperational", result).await
    }

    async fn get_operational_trend(
        &self,
        request: Request<GetOperationalTrendRequest>,
    ) -> Result<Response<GetOperationalTrendResponse>, Status> {
        let ctx = OpCtx::of(&request)?;
        let result = self.app.operational_trend(&ctx, &request.get_ref().period).await;
        let result = result.map(|(weeks, as_of)| GetOperationalTrendResponse {
            weeks: weeks
                .iter()
                .map(|(begin, week)| pb::OperationalWeek {
                    week: Some(timestamp(*begin)),
                    kpis: week.kpis.iter().map(kpi).collect(),
                    validated: week.validated,
                    rejected: week.rejected,
                })
                .collect(),
            as_of: Some(timestamp(as_of)),
        });
        self.answer(&ctx, "GetOperationalTrend", result).await
    }

    async fn get_operational_by_team(
        &self,
        request: Request<GetOperationalByTeamRequest>,
    ) -> Result<Response<GetOperationalByTeamResponse>, Status> {
        let ctx = OpCtx::of(&request)?;
        let result = self.app.operational(&ctx).await.map(|figure| {
            let team = |name: &str, load: Load| pb::TeamOperational {
                team: name.to_owned(),
                kpis: figure.value.kpis_of(name).map(kpi).collect(),
                completed: load.completed,
                pending: load.pending,
            };
            GetOperationalByTeamResponse {
                teams: vec![team("red", figure.value.red), team("blue", figure.value.blue)],
                as_of: Some(timestamp(figure.as_of)),
            }
        });
        self.answer(&ctx, "GetOperationalByTeam", result).await
    }

    async fn get_team_activity(
        &self,
        request: Request<GetTeamActivityRequest>,
    ) -> Result<Response<GetTeamActivityResponse>, Status> {
        let ctx = OpCtx::of(&request)?;
        let team = |team: &str, load: Load| pb::TeamActivity {
            team: team.to_owned(),
            completed: load.completed,
            pending: load.pending,
            completed_30d: load.completed_lately,
        };
        let result = self.app.operational(&ctx).await.map(|figure| GetTeamActivityResponse {
            teams: vec![team("red", figure.value.red), team("blue", figure.value.blue)],
            as_of: Some(timestamp(figure.as_of)),
        });
        self.answer(&ctx, "GetTeamActivity", result).await
    }

    async fn get_validation_rate(
        &self,
        request: Request<GetValidationRateRequest>,
    ) -> Result<Response<GetValidationRateResponse>, Status> {
        let ctx = OpCtx::of(&request)?;
        let side = |side: &str, votes: Votes| {
            let cast = votes.approved + votes.rejected;
            pb::SideRate {
                side: side.to_owned(),
                approved: votes.approved,
                rejected: votes.rejected,
                pending: votes.pending,
                approval_rate: percentage(votes.approved, cast),
                rejection_rate: percentage(votes.rejected, cast),
            }
        };
        let result = self.app.operational(&ctx).await.map(|figure| GetValidationRateResponse {
            sides: vec![side("red", figure.value.red_votes), side("blue", figure.value.blue_votes)],
            as_of: Some(timestamp(figure.as_of)),
        });
        self.answer(&ctx, "GetValidationRate", result).await
    }

    async fn list_recent_tests(
        &self,
        request: Request<ListRecentTestsRequest>,
    ) -> Result<Response<ListRecentTestsResponse>, Status> {
        let ctx = OpCtx::of(&request)?;
        let result = self.app.recent_tests(&ctx, request.get_ref().page_size).await;
        let result = result.map(|(tests, as_of)| ListRecentTestsResponse {
            tests: tests.into_iter().map(reported).collect(),
            as_of: as_of.map(timestamp),
        });
        self.answer(&ctx, "ListRecentTests", result).await
    }

    async fn get_test_results(
        &self,
        request: Request<GetTestResultsRequest>,
    ) -> Result<Response<GetTestResultsResponse>, Status> {
        let ctx = OpCtx::of(&request)?;
        let result = self.results(&ctx, request.into_inner()).await;
        self.answer(&ctx, "GetTestResults", result).await
    }

    type ExportTestResultsStream = BoxStream<'static, Result<ExportTestResultsResponse, Status>>;

    async fn export_test_results(
        &self,
        request: Request<ExportTestResultsRequest>,
    ) -> Result<Response<Self::ExportTestResultsStream>, Status> {
        let ctx = OpCtx::of(&request)?;
        let result = self.results_csv(&ctx, request.into_inner()).await;
        let answer = self.answer(&ctx, "ExportTestResults", result).await?;
        Ok(answer
            .map(|(pieces, as_of)| messages(pieces, as_of, |chunk, as_of| ExportTestResultsResponse { chunk, as_of })))
    }

    async fn get_remediation_status(
        &self,
        request: Request<GetRemediationStatusRequest>,
    ) -> Result<Response<GetRemediationStatusResponse>, Status> {
        let ctx = OpCtx::of(&request)?;
        let asked = request.into_inner();
        let part = Part { page_size: asked.page_size, page_token: asked.page_token, skip: asked.skip };
        let result = self.app.remediation_status(&ctx, asked.status.as_deref(), &part).await;
        let result = result.map(|page| GetRemediationStatusResponse {
            total_size: page.total,
            by_status: page.by_status.into_iter().map(|(name, n)| (name.to_owned(), n)).collect(),
            overdue: page.overdue,
            tests: page.tests.into_iter().map(reported).collect(),
            next_page_token: page.next_page_token,
            as_of: Some(timestamp(page.as_of)),
        });
        self.answer(&ctx, "GetRemediationStatus", result).await
    }

    type ExportRemediationStatusStream = BoxStream<'static, Result<ExportRemediationStatusResponse, Status>>;

    async fn export_remediation_status(
        &self,
        request: Request<ExportRemediationStatusRequest>,
    ) -> Result<Response<Self::ExportRemediationStatusStream>, Status> {
        let ctx = OpCtx::of(&request)?;
        let result = self.app.export_remediations(&ctx, request.get_ref().status.as_deref()).await;
        let answer = self.answer(&ctx, "ExportRemediationStatus", result).await?;
        Ok(answer.map(|(pieces, as_of)| {
            messages(pieces, as_of, |chunk, as_of| ExportRemediationStatusResponse { chunk, as_of })
        }))
    }
}

impl Rpc {
    async fn results(&self, ctx: &OpCtx, asked: GetTestResultsRequest) -> Result<GetTestResultsResponse, Error> {
        let part = Part { page_size: asked.page_size, page_token: asked.page_token, skip: asked.skip };
        let page = self.app.test_results(ctx, filter(asked.filter)?, &part).await?;
        let by_state: HashMap<_, _> =
            page.breakdown.by_state().map(|(state, n)| (state.as_str().to_owned(), n)).collect();
        Ok(GetTestResultsResponse {
            total_size: page.breakdown.total(),
            by_state,
            by_detection: page.breakdown.by_result().map(|(name, n)| (name.to_owned(), n)).collect(),
            tests: page.tests.into_iter().map(reported).collect(),
            next_page_token: page.next_page_token,
            as_of: Some(timestamp(page.as_of)),
        })
    }

    async fn results_csv(
        &self,
        ctx: &OpCtx,
        asked: ExportTestResultsRequest,
    ) -> Result<(Pieces, Option<DateTime<Utc>>), Error> {
        self.app.export_results(ctx, filter(asked.filter)?).await
    }
}

fn filter(asked: Option<pb::TestResultsFilter>) -> Result<Filter, Error> {
    let asked = asked.unwrap_or_default();
    let mut fields = Fields::default();
    let state = state_of(asked.state.as_deref(), &mut fields);
    let mut moment = |field: &str, at: Option<prost_types::Timestamp>| {
        let moment = at.and_then(chrono_of);
        fields.check(moment.is_some() || at.is_none(), field, "must be a time");
        moment
    };
    let (from, to) = (moment("date_from", asked.from), moment("date_to", asked.to));
    fields.finish()?;
    Ok(Filter { state, from, to })
}

/// The messages of an export; the first says of when it is.
fn messages<M: Send + 'static>(
    pieces: Pieces,
    as_of: Option<DateTime<Utc>>,
    message: impl Fn(Vec<u8>, Option<prost_types::Timestamp>) -> M + Send + 'static,
) -> BoxStream<'static, Result<M, Status>> {
    let mut as_of = as_of.map(timestamp);
    pieces.map_ok(move |piece| message(piece, as_of.take())).map_err(|error| Failure::from(error).into()).boxed()
}

fn kpi(kpi: &Kpi) -> pb::Kpi {
    pb::Kpi {
        name: kpi.name.to_owned(),
        unit: kpi.unit.to_owned(),
        value: kpi.value,
        median: kpi.median,
        p95: kpi.p95,
        n: kpi.n,
    }
}

fn reported(row: ReportRow) -> pb::ReportedTest {
    let id = |id: Option<Uuid>| id.map(|id| id.to_string()).unwrap_or_default();
    let moment = |at: Option<DateTime<Utc>>| at.map(timestamp);
    pb::ReportedTest {
        id: row.test_id.to_string(),
        name: row.name.unwrap_or_default(),
        technique_id: id(row.technique_id),
        mitre_id: row.mitre_id.unwrap_or_default(),
        technique_name: row.technique_name.unwrap_or_default(),
        state: row.state,
        detection_result: row.detection_result.unwrap_or_default(),
        platform: row.platform.unwrap_or_default(),
        created_by: id(row.created_by),
        created_by_username: row.created_by_username.unwrap_or_default(),
        created_at: moment(row.created_at),
        updated_at: moment(row.updated_at),
        executed_at: moment(row.executed_at),
        detected_at: moment(row.detected_at),
        validated_at: moment(row.validated_at),
        remediation_status: row.remediation_status.unwrap_or_default(),
        remediation_assignee: id(row.remediation_assignee),
        remediation_steps: row.remediation_steps.unwrap_or_default(),
        remediation_due_date: moment(row.remediation_due_date),
        remediation_completed_at: moment(row.remediation_completed_at),
        attack_success: row.attack_success,
    }
}
