//! The gRPC side of alerts.

use aegis_auth::OpCtx;
use aegis_error::{Failure, Fields};
use aegis_proto::deception::v1::{self as pb, alert_service_server::AlertService};
use chrono::{DateTime, Utc};
use tonic::{Request, Response, Status};

use super::{Rpc, moment, timestamp};
use crate::{
    app::{alerts::NewScanner, follow::at},
    domain::alert::Alert,
    store::alerts::Scanner,
};

#[tonic::async_trait]
impl AlertService for Rpc {
    async fn list_alerts(
        &self,
        request: Request<pb::ListAlertsRequest>,
    ) -> Result<Response<pb::ListAlertsResponse>, Status> {
        let ctx = OpCtx::of(&request)?;
        let pb::ListAlertsRequest { page_size, page_token, skip } = request.into_inner();
        let app = &self.app;
        let result = app.list_alerts(&ctx, page_size, &page_token, skip).await;
        let (alerts, next_page_token, total_size) = app.outbox.audited(&app.db, &ctx, "ListAlerts", result).await?;
        let alerts = alerts.into_iter().map(alert).collect();
        Ok(Response::new(pb::ListAlertsResponse { alerts, next_page_token, total_size }))
    }

    async fn get_alert(&self, request: Request<pb::GetAlertRequest>) -> Result<Response<pb::GetAlertResponse>, Status> {
        let ctx = OpCtx::of(&request)?;
        let app = &self.app;
        let result = app.get_alert(&ctx, &request.into_inner().id).await;
        let found = app.outbox.audited(&app.db, &ctx, "GetAlert", result).await?;
        Ok(Response::new(pb::GetAlertResponse { alert: Some(alert(found)) }))
    }

    async fn get_approved_scanner(
        &self,
        request: Request<pb::GetApprovedScannerRequest>,
    ) -> Result<Response<pb::GetApprovedScannerResponse>, Status> {
        let ctx = OpCtx::of(&request)?;
        let app = &self.app;
        let result = app.get_approved_scanner(&ctx, &request.into_inner().id).await;
        let row = app.outbox.audited(&app.db, &ctx, "GetApprovedScanner", result).await?;
        Ok(Response::new(pb::GetApprovedScannerResponse { scanner: Some(scanner(row)) }))
    }

    async fn list_approved_scanners(
        &self,
        request: Request<pb::ListApprovedScannersRequest>,
    ) -> Result<Response<pb::ListApprovedScannersResponse>, Status> {
        let ctx = OpCtx::of(&request)?;
        let pb::ListApprovedScannersRequest { page_size, page_token, skip } = request.into_inner();
        let app = &self.app;
        let result = app.list_approved_scanners(&ctx, page_size, &page_token, skip).await;
        let (scanners, next_page_token, total_size) =
            app.outbox.audited(&app.db, &ctx, "ListApprovedScanners", result).await?;
        let scanners = scanners.into_iter().map(scanner).collect();
        Ok(Response::new(pb::ListApprovedScannersResponse { scanners, next_page_token, total_size }))
    }

    async fn create_approved_scanner(
        &self,
        request: Request<pb::CreateApprovedScannerRequest>,
    ) -> Result<Response<pb::CreateApprovedScannerResponse>, Status> {
        let ctx = OpCtx::of(&request)?;
        let app = &self.app;
        let result = match new(request.into_inner()) {
            Ok(new) => app.create_approved_scanner(&ctx, new).await.map_err(Failure::from),
            // Nobody learns from the error whether the rest would have been good.
            Err(failure) => ctx.require(&[aegis_auth::Role::Admin]).and(Err(failure)),
        };
        let row = app.outbox.audited(&app.db, &ctx, "CreateApprovedScanner", result).await?;
        Ok(Response::new(pb::CreateApprovedScannerResponse { scanner: Some(scanner(row)) }))
    }

    async fn delete_approved_scanner(
        &self,
        request: Request<pb::DeleteApprovedScannerRequest>,
    ) -> Result<Response<pb::DeleteApprovedScannerResponse>, Status> {
        let ctx = OpCtx::of(&request)?;
        let app = &self.app;
        let result = app.delete_approved_scanner(&ctx, &request.into_inner().id).await;
        app.outbox.audited(&app.db, &ctx, "DeleteApprovedScanner", result).await?;
        Ok(Response::new(pb::DeleteApprovedScannerResponse {}))
    }
}

fn new(request: pb::CreateApprovedScannerRequest) -> Result<NewScanner, Failure> {
    let pb::CreateApprovedScannerRequest { name, network, ports, starts_at, ends_at } = request;
    let mut fields = Fields::default();
    let mut read = |field: &str, at: Option<prost_types::Timestamp>| -> Option<DateTime<Utc>> {
        let at = at?;
        let moment = moment(&at);
        fields.check(moment.is_some(), field, "must be a moment of the calendar");
        moment
    };
    let (starts_at, ends_at) = (read("starts_at", starts_at), read("ends_at", ends_at));
    fields.finish()?;
    Ok(NewScanner { name, network, ports, starts_at, ends_at })
}

fn alert(alert: Alert) -> pb::Alert {
    pb::Alert {
        id: alert.id.to_string(),
        message: alert.message(),
        kind: alert.kind,
        attacker_ip: alert.attacker_ip,
        deckies: alert.deckies,
        count: alert.count,
        first_seen: Some(timestamp(at(alert.first_seen))),
        last_seen: Some(timestamp(at(alert.last_seen))),
    }
}

fn scanner(row: Scanner) -> pb::ApprovedScanner {
    pb::ApprovedScanner {
        id: row.id.to_string(),
        name: row.name,
        network: row.network,
        ports: row.ports.0.into_iter().map(u32::from).collect(),
        starts_at: row.starts_at.map(timestamp),
        ends_at: row.ends_at.map(timestamp),
        created_by: row.created_by,
        created_at: Some(timestamp(row.created_at)),
        version: row.version,
    }
}
