//! The gRPC side of what holds for the fleet as a whole.

use aegis_auth::OpCtx;
use aegis_proto::deception::v1::{
    FleetSettings, GetFleetSettingsRequest, GetFleetSettingsResponse, SetDeploymentLimitRequest,
    SetDeploymentLimitResponse, SetGlobalMutationIntervalRequest, SetGlobalMutationIntervalResponse,
    fleet_settings_service_server::FleetSettingsService,
};
use tonic::{Request, Response, Status};

use super::{Rpc, timestamp};
use crate::app::settings::Settled;

#[tonic::async_trait]
impl FleetSettingsService for Rpc {
    async fn get_fleet_settings(
        &self,
        request: Request<GetFleetSettingsRequest>,
    ) -> Result<Response<GetFleetSettingsResponse>, Status> {
        let ctx = OpCtx::of(&request)?;
        let app = &self.app;
        let settled = app.outbox.audited(&app.db, &ctx, "GetFleetSettings", app.fleet_settings(&ctx).await).await?;
        Ok(Response::new(GetFleetSettingsResponse { settings: Some(message(settled)) }))
    }

    async fn set_deployment_limit(
        &self,
        request: Request<SetDeploymentLimitRequest>,
    ) -> Result<Response<SetDeploymentLimitResponse>, Status> {
        let ctx = OpCtx::of(&request)?;
        let app = &self.app;
        let result = app.set_deployment_limit(&ctx, request.into_inner().deployment_limit).await;
        let settled = app.outbox.audited(&app.db, &ctx, "SetDeploymentLimit", result).await?;
        Ok(Response::new(SetDeploymentLimitResponse { settings: Some(message(settled)) }))
    }

    async fn set_global_mutation_interval(
        &self,
        request: Request<SetGlobalMutationIntervalRequest>,
    ) -> Result<Response<SetGlobalMutationIntervalResponse>, Status> {
        let ctx = OpCtx::of(&request)?;
        let app = &self.app;
        let result = app.set_global_mutation_interval(&ctx, &request.into_inner().global_mutation_interval).await;
        let settled = app.outbox.audited(&app.db, &ctx, "SetGlobalMutationInterval", result).await?;
        Ok(Response::new(SetGlobalMutationIntervalResponse { settings: Some(message(settled)) }))
    }
}

fn message(settled: Settled) -> FleetSettings {
    FleetSettings {
        deployment_limit: settled.settings.deployment_limit,
        global_mutation_interval: settled.settings.global_mutation_interval.to_string(),
        version: settled.version,
        updated_at: Some(timestamp(settled.updated_at)),
    }
}
