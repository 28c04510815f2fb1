//! The gRPC side of the fleet.

use aegis_auth::OpCtx;
use aegis_proto::deception::v1::{
    self as pb, DeleteDeckyRequest, DeleteDeckyResponse, DeployFleetRequest, DeployFleetResponse, GetDeckyRequest,
    GetDeckyResponse, GetHealthRequest, GetHealthResponse, ListArchetypesRequest, ListArchetypesResponse,
    ListDeckiesRequest, ListDeckiesResponse, ListSensorsRequest, ListSensorsResponse, MutateDeckyRequest,
    MutateDeckyResponse, SetMutateIntervalRequest, SetMutateIntervalResponse, fleet_service_server::FleetService,
};
use tonic::{Request, Response, Status};

use super::{Rpc, timestamp};
use crate::{
    domain::{
        archetypes::{ARCHETYPES, SERVICES},
        fleet::{Decky, Service, ServiceStatus},
    },
    error::Error,
};

#[tonic::async_trait]
impl FleetService for Rpc {
    async fn deploy_fleet(
        &self,
        request: Request<DeployFleetRequest>,
    ) -> Result<Response<DeployFleetResponse>, Status> {
        let ctx = OpCtx::of(&request)?;
        let app = &self.app;
        let result = app.deploy_fleet(&ctx, &request.into_inner().ini_content).await;
        let deckies = app.outbox.audited(&app.db, &ctx, "DeployFleet", result).await?;
        let noun = if deckies.len() == 1 { "decky" } else { "deckies" };
        let message = format!("Deployed {} {noun}", deckies.len());
        Ok(Response::new(DeployFleetResponse { message, deckies: deckies.into_iter().map(decky).collect() }))
    }

    async fn list_deckies(
        &self,
        request: Request<ListDeckiesRequest>,
    ) -> Result<Response<ListDeckiesResponse>, Status> {
        let ctx = OpCtx::of(&request)?;
        let ListDeckiesRequest { page_size, page_token, skip } = request.into_inner();
        let app = &self.app;
        let result = app.list_deckies(&ctx, page_size, &page_token, skip).await;
        let page = app.outbox.audited(&app.db, &ctx, "ListDeckies", result).await?;
        Ok(Response::new(ListDeckiesResponse {
            deckies: page.deckies.into_iter().map(decky).collect(),
            next_page_token: page.next_page_token,
            total_size: page.total,
        }))
    }

    async fn get_decky(&self, request: Request<GetDeckyRequest>) -> Result<Response<GetDeckyResponse>, Status> {
        let ctx = OpCtx::of(&request)?;
        let app = &self.app;
        let result = app.decky(&ctx, &request.into_inner().name).await;
        let found = app.outbox.audited(&app.db, &ctx, "GetDecky", result).await?;
        Ok(Response::new(GetDeckyResponse { decky: Some(decky(found)) }))
    }

    async fn delete_decky(
        &self,
        request: Request<DeleteDeckyRequest>,
    ) -> Result<Response<DeleteDeckyResponse>, Status> {
        let ctx = OpCtx::of(&request)?;
        let app = &self.app;
        let result = app.delete_decky(&ctx, &request.into_inner().name).await;
        app.outbox.audited(&app.db, &ctx, "DeleteDecky", result).await?;
        Ok(Response::new(DeleteDeckyResponse {}))
    }

    async fn mutate_decky(
        &self,
        request: Request<MutateDeckyRequest>,
    ) -> Result<Response<MutateDeckyResponse>, Status> {
        let ctx = OpCtx::of(&request)?;
        let app = &self.app;
        let result = app.mutate_decky(&ctx, &request.into_inner().name).await;
        let mutated = app.outbox.audited(&app.db, &ctx, "MutateDecky", result).await?;
        Ok(Response::new(MutateDeckyResponse { decky: Some(decky(mutated)) }))
    }

    async fn set_mutate_interval(
        &self,
        request: Request<SetMutateIntervalRequest>,
    ) -> Result<Response<SetMutateIntervalResponse>, Status> {
        let ctx = OpCtx::of(&request)?;
        let SetMutateIntervalRequest { name, mutate_interval } = request.into_inner();
        let app = &self.app;
        let result = app.set_mutate_interval(&ctx, &name, mutate_interval.as_deref()).await;
        let changed = app.outbox.audited(&app.db, &ctx, "SetMutateInterval", result).await?;
        Ok(Response::new(SetMutateIntervalResponse { decky: Some(decky(changed)) }))
    }

    async fn list_sensors(
        &self,
        request: Request<ListSensorsRequest>,
    ) -> Result<Response<ListSensorsResponse>, Status> {
        let ctx = OpCtx::of(&request)?;
        let ListSensorsRequest { page_size, page_token, skip } = request.into_inner();
        let app = &self.app;
        let result = app.list_sensors(&ctx, page_size, &page_token, skip).await;
        let page = app.outbox.audited(&app.db, &ctx, "ListSensors", result).await?;
        let sensors = page.sensors.into_iter().map(|sensor| pb::Sensor {
            id: sensor.id.to_string(),
            name: sensor.name,
            version: sensor.version,
            attached: sensor.attached,
            seen_at: Some(timestamp(sensor.seen_at)),
            deckies: sensor.deckies,
        });
        Ok(Response::new(ListSensorsResponse {
            sensors: sensors.collect(),
            next_page_token: page.next_page_token,
            total_size: page.total,
        }))
    }

    async fn list_archetypes(
        &self,
        request: Request<ListArchetypesRequest>,
    ) -> Result<Response<ListArchetypesResponse>, Status> {
        let ctx = OpCtx::of(&request)?;
        let app = &self.app;
        let allowed = ctx.user().map(|_| ()).map_err(Error::from);
        app.outbox.audited(&app.db, &ctx, "ListArchetypes", allowed).await?;
        let archetypes = ARCHETYPES.iter().map(|archetype| pb::Archetype {
            name: archetype.name.to_owned(),
            description: archetype.description.to_owned(),
            nmap_os: archetype.nmap_os.to_owned(),
            services: archetype.services.iter().map(|service| (*service).to_owned()).collect(),
        });
        Ok(Response::new(ListArchetypesResponse {
            archetypes: archetypes.collect(),
            services: SERVICES.into_iter().map(|(service, _)| service.to_owned()).collect(),
        }))
    }

    async fn get_health(&self, _request: Request<GetHealthRequest>) -> Result<Response<GetHealthResponse>, Status> {
        let components = self.app.health().await.into_iter().map(|component| pb::Component {
            name: component.name.to_owned(),
            ok: component.problem.is_none(),
            detail: component.problem.unwrap_or_default(),
        });
        Ok(Response::new(GetHealthResponse { components: components.collect() }))
    }
}

fn decky(decky: Decky) -> pb::Decky {
    let status = decky.status().to_owned();
    pb::Decky {
        id: decky.id.to_string(),
        name: decky.name,
        ip: decky.ip.to_string(),
        mac: decky.mac,
        services: decky.services.into_iter().map(service).collect(),
        status,
        mutate_interval: decky.mutate_interval.map(|interval| interval.to_string()).unwrap_or_default(),
        archetype: decky.archetype,
        nmap_os: decky.nmap_os,
        hostname: decky.hostname,
        runtime: decky.runtime,
        last_mutated: decky.last_mutated.map(timestamp),
        created_at: Some(timestamp(decky.created_at)),
        version: decky.version,
    }
}

fn service(service: Service) -> pb::DeckyService {
    let address = if service.status == ServiceStatus::Running { service.address } else { String::new() };
    pb::DeckyService { name: service.name, address, status: service.status.as_str().to_owned(), detail: service.detail }
}
