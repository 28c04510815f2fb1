//! The gRPC face of campaigns.

use aegis_auth::OpCtx;
use aegis_proto::testing::v1::{self as pb, campaign_service_server::CampaignService};
use tonic::{Request, Response, Status};

use super::convert::{timestamp, timestamp_of};
use crate::{
    app::{
        App,
        campaigns::{
            CampaignEdit, CampaignQuery, CampaignView, GenerateOrder, NewCampaign, NewPlace, RunView, ScheduleOrder,
        },
    },
    domain::campaign::Progress,
    error::Error,
    store::campaign_test::Placed,
};

/// Answers the calls.
pub struct CampaignRpc {
    app: App,
}

impl CampaignRpc {
    /// Answers with what `app` does.
    pub fn new(app: App) -> Self {
        CampaignRpc { app }
    }

    /// The answer; a refusal goes into the audit trail on the way.
    async fn answer<T>(&self, ctx: &OpCtx, method: &str, result: Result<T, Error>) -> Result<Response<T>, Status> {
        self.app.outbox().audited(self.app.db(), ctx, method, result).await.map(Response::new)
    }
}

#[tonic::async_trait]
impl CampaignService for CampaignRpc {
    async fn list_campaigns(
        &self,
        request: Request<pb::ListCampaignsRequest>,
    ) -> Result<Response<pb::ListCampaignsResponse>, Status> {
        let ctx = OpCtx::of(&request)?;
        let m = request.into_inner();
        let query = CampaignQuery {
            page_size: m.page_size,
            page_token: m.page_token,
            skip: m.skip,
            status: m.status,
            kind: m.r#type,
            search: m.search,
        };
        let result = self.app.list_campaigns(&ctx, query).await.map(|page| pb::ListCampaignsResponse {
            campaigns: page.campaigns.into_iter().map(campaign).collect(),
            next_page_token: page.next_page_token,
            total_size: page.total_size,
        });
        self.answer(&ctx, "ListCampaigns", result).await
    }

    async fn get_campaign(
        &self,
        request: Request<pb::GetCampaignRequest>,
    ) -> Result<Response<pb::GetCampaignResponse>, Status> {
        let ctx = OpCtx::of(&request)?;
        let result = self.app.get_campaign(&ctx, &request.into_inner().id).await;
        let result = result.map(|view| pb::GetCampaignResponse { campaign: Some(campaign(view)) });
        self.answer(&ctx, "GetCampaign", result).await
    }

    async fn create_campaign(
        &self,
        request: Request<pb::CreateCampaignRequest>,
    ) -> Result<Response<pb::CreateCampaignResponse>, Status> {
        let ctx = OpCtx::of(&request)?;
        let m = request.into_inner();
        let new = NewCampaign {
            name: m.name,
            description: m.description,
            kind: m.r#type,
            threat_actor_id: m.threat_actor_id,
        };
        let result = self.app.create_campaign(&ctx, new).await;
        let result = result.map(|view| pb::CreateCampaignResponse { campaign: Some(campaign(view)) });
        self.answer(&ctx, "CreateCampaign", result).await
    }

    async fn update_campaign(
        &self,
        request: Request<pb::UpdateCampaignRequest>,
    ) -> Result<Response<pb::UpdateCampaignResponse>, Status> {
        let ctx = OpCtx::of(&request)?;
        let m = request.into_inner();
        let edit = CampaignEdit {
            id: m.id,
            name: m.name,
            description: m.description,
            kind: m.r#type,
            status: m.status,
            threat_actor_id: m.threat_actor_id,
            clear: m.clear,
        };
        let result = self.app.update_campaign(&ctx, edit).await;
        let result = result.map(|view| pb::UpdateCampaignResponse { campaign: Some(campaign(view)) });
        self.answer(&ctx, "UpdateCampaign", result).await
    }

    async fn delete_campaign(
        &self,
        request: Request<pb::DeleteCampaignRequest>,
    ) -> Result<Response<pb::DeleteCampaignResponse>, Status> {
        let ctx = OpCtx::of(&request)?;
        let result = self.app.delete_campaign(&ctx, &request.into_inner().id).await;
        self.answer(&ctx, "DeleteCampaign", result.map(|()| pb::DeleteCampaignResponse {})).await
    }

    async fn list_campaign_tests(
        &self,
        request: Request<pb::ListCampaignTestsRequest>,
    ) -> Result<Response<pb::ListCampaignTestsResponse>, Status> {
        let ctx = OpCtx::of(&request)?;
        let m = request.into_inner();
        let run = m.run_id.as_deref();
        let result = self.app.list_campaign_tests(&ctx, &m.campaign_id, run, m.page_size, &m.page_token, m.skip).await;
        let result = result.map(|page| pb::ListCampaignTestsResponse {
            tests: page.tests.into_iter().map(placed).collect(),
            next_page_token: page.next_page_token,
            total_size: page.total_size,
        });
        self.answer(&ctx, "ListCampaignTests", result).await
    }

    async fn add_campaign_tests(
        &self,
        request: Request<pb::AddCampaignTestsRequest>,
    ) -> Result<Response<pb::AddCampaignTestsResponse>, Status> {
        let ctx = OpCtx::of(&request)?;
        let m = request.into_inner();
        let result = self.app.add_campaign_tests(&ctx, &m.campaign_id, places(m.tests), m.position).await;
        let result = result.map(|view| pb::AddCampaignTestsResponse { campaign: Some(campaign(view)) });
        self.answer(&ctx, "AddCampaignTests", result).await
    }

    async fn remove_campaign_test(
        &self,
        request: Request<pb::RemoveCampaignTestRequest>,
    ) -> Result<Response<pb::RemoveCampaignTestResponse>, Status> {
        let ctx = OpCtx::of(&request)?;
        let m = request.into_inner();
        let result = self.app.remove_campaign_test(&ctx, &m.campaign_id, &m.test_id).await;
        self.answer(&ctx, "RemoveCampaignTest", result.map(|()| pb::RemoveCampaignTestResponse {})).await
    }

    async fn order_campaign_tests(
        &self,
        request: Request<pb::OrderCampaignTestsRequest>,
    ) -> Result<Response<pb::OrderCampaignTestsResponse>, Status> {
        let ctx = OpCtx::of(&request)?;
        let m = request.into_inner();
        let result = self.app.order_campaign_tests(&ctx, &m.campaign_id, places(m.tests)).await;
        let result = result.map(|view| pb::OrderCampaignTestsResponse { campaign: Some(campaign(view)) });
        self.answer(&ctx, "OrderCampaignTests", result).await
    }

    async fn generate_campaign(
        &self,
        request: Request<pb::GenerateCampaignRequest>,
    ) -> Result<Response<pb::GenerateCampaignResponse>, Status> {
        let ctx = OpCtx::of(&request)?;
        let m = request.into_inner();
        let order = GenerateOrder {
            campaign_id: m.campaign_id,
            per_technique: m.per_technique,
            platform: m.platform,
            limit: m.limit,
        };
        let result = self.app.generate_campaign(&ctx, order).await;
        let result = result.map(|generated| pb::GenerateCampaignResponse {
            campaign: Some(campaign(generated.view)),
            created: count(generated.created),
            already_there: count(generated.already_there),
            without_template: generated.without_template,
        });
        self.answer(&ctx, "GenerateCampaign", result).await
    }

    async fn set_campaign_schedule(
        &self,
        request: Request<pb::SetCampaignScheduleRequest>,
    ) -> Result<Response<pb::SetCampaignScheduleResponse>, Status> {
        let ctx = OpCtx::of(&request)?;
        let m = request.into_inner();
        let order = ScheduleOrder { id: m.id, schedule: m.schedule, time_zone: m.time_zone, enabled: m.enabled };
        let result = self.app.set_campaign_schedule(&ctx, order).await;
        let result = result.map(|view| pb::SetCampaignScheduleResponse { campaign: Some(campaign(view)) });
        self.answer(&ctx, "SetCampaignSchedule", result).await
    }

    async fn run_campaign(
        &self,
        request: Request<pb::RunCampaignRequest>,
    ) -> Result<Response<pb::RunCampaignResponse>, Status> {
        let ctx = OpCtx::of(&request)?;
        let result = self.app.run_campaign(&ctx, &request.into_inner().id).await;
        let result = result.map(|view| pb::RunCampaignResponse { run: Some(run(view)) });
        self.answer(&ctx, "RunCampaign", result).await
    }

    async fn list_campaign_runs(
        &self,
        request: Request<pb::ListCampaignRunsRequest>,
    ) -> Result<Response<pb::ListCampaignRunsResponse>, Status> {
        let ctx = OpCtx::of(&request)?;
        let m = request.into_inner();
        let result = self.app.list_campaign_runs(&ctx, &m.campaign_id, m.page_size, &m.page_token, m.skip).await;
        let result = result.map(|page| pb::ListCampaignRunsResponse {
            runs: page.runs.into_iter().map(run).collect(),
            next_page_token: page.next_page_token,
            total_size: page.total_size,
        });
        self.answer(&ctx, "ListCampaignRuns", result).await
    }

    async fn list_technique_campaigns(
        &self,
        request: Request<pb::ListTechniqueCampaignsRequest>,
    ) -> Result<Response<pb::ListTechniqueCampaignsResponse>, Status> {
        let ctx = OpCtx::of(&request)?;
        let result = self.app.list_technique_campaigns(&ctx, &request.into_inner().technique_ids).await;
        let result = result.map(|rows| pb::ListTechniqueCampaignsResponse {
            campaigns: rows
                .into_iter()
                .map(|(technique, campaign, name)| pb::TechniqueCampaign {
                    technique_id: technique.to_string(),
                    campaign_id: campaign.to_string(),
                    name,
                })
                .collect(),
        });
        self.answer(&ctx, "ListTechniqueCampaigns", result).await
    }
}

/// A number of tests, of which there are never so many.
fn count<N: TryInto<i32>>(number: N) -> i32 {
    number.try_into().unwrap_or(i32::MAX)
}

fn progress(progress: Progress) -> pb::StateCounts {
    pb::StateCounts {
        draft: count(progress.draft),
        red_executing: count(progress.red_executing),
        blue_evaluating: count(progress.blue_evaluating),
        in_review: count(progress.in_review),
        validated: count(progress.validated),
        rejected: count(progress.rejected),
    }
}

/// A campaign as a message.
fn campaign(view: CampaignView) -> pb::Campaign {
    let CampaignView { campaign, progress: tests } = view;
    pb::Campaign {
        id: campaign.id.to_string(),
        name: campaign.name,
        description: campaign.description,
        r#type: campaign.kind.as_str().to_owned(),
        status: campaign.status.as_str().to_owned(),
        threat_actor_id: campaign.threat_actor_id.map(|id| id.to_string()),
        threat_actor_name: campaign.threat_actor_name,
        created_by: campaign.created_by.to_string(),
        created_by_username: campaign.created_by_username,
        created_at: timestamp(campaign.created_at),
        updated_at: timestamp(campaign.updated_at),
        schedule: campaign.schedule,
        time_zone: campaign.time_zone,
        schedule_enabled: campaign.schedule_enabled,
        next_run_at: timestamp_of(campaign.next_run_at),
        last_run_at: timestamp_of(campaign.last_run_at),
        version: campaign.version,
        progress: Some(progress(tests)),
        test_count: count(tests.total()),
    }
}

fn placed(test: Placed) -> pb::CampaignTest {
    pb::CampaignTest {
        test_id: test.test_id.to_string(),
        position: count(test.position),
        phase: test.phase,
        name: test.name,
        technique_id: test.technique_id.to_string(),
        mitre_id: test.mitre_id,
        technique_name: test.technique_name,
        platform: test.platform,
        state: test.state,
        detection_result: test.detection_result,
        validated_at: timestamp_of(test.validated_at),
    }
}

/// A run as a message.
fn run(view: RunView) -> pb::CampaignRun {
    let RunView { run, outcome } = view;
    pb::CampaignRun {
        id: run.id.to_string(),
        campaign_id: run.campaign_id.to_string(),
        trigger: run.cause,
        due_at: timestamp_of(run.due_at),
        started_at: timestamp(run.started_at),
        started_by: run.started_by.map(|id| id.to_string()),
        started_by_username: run.started_by_username,
        status: run.status,
        error: run.error,
        test_count: count(run.test_count),
        progress: Some(progress(outcome.progress)),
        detected: count(outcome.detected),
        partially_detected: count(outcome.partially_detected),
        not_detected: count(outcome.not_detected),
        deleted: count(outcome.deleted),
    }
}

fn places(places: Vec<pb::CampaignPlace>) -> Vec<NewPlace> {
    places.into_iter().map(|place| NewPlace { test_id: place.test_id, phase: place.phase }).collect()
}
