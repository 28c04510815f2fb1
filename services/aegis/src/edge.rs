//! The one address of a process: gRPC calls go to their service, all else to the REST router; probes and metrics beside.

use std::{convert::Infallible, sync::Arc, time::Duration};

use aegis_rpc::RpcService;
use aegis_runtime::{Readiness, Shutdown};
use anyhow::Result;
use axum::{
    Router,
    extract::{Request, State},
    http::{StatusCode, header},
    middleware::Next,
    response::{IntoResponse, Json, Response},
    routing::get,
};
use tonic::{Status, service::Routes};
use tonic_health::{ServingStatus, pb::health_server::Health};
use tower::ServiceExt;

use crate::{listen::Peer, roles::Role};

/// The health methods, which need no token.
pub const HEALTH_METHODS: &[&str] = &["/grpc.health.v1.Health/Check", "/grpc.health.v1.Health/Watch"];

/// What a sensor calls. It shows an API key with every call and faces attackers: it may have no certificate of ours.
const SENSOR_SERVICES: &[&str] = &["/aegis.deception.v1.SensorControlService/", "/aegis.deception.v1.IntakeService/"];

/// The services of this process by the second part of their package's name.
type Services = Vec<(&'static str, RpcService)>;

/// The services, and who may call them.
#[derive(Clone)]
struct Grpc {
    services: Arc<Services>,
    /// Calls of ours need a certificate of a peer.
    certified: bool,
    /// Nobody but sensors calls here.
    sensors: bool,
}

/// Health, kept up to date from readiness, and reflection.
pub fn introspection(
    shutdown: &Shutdown,
    readiness: Readiness,
    roles: &[Role],
) -> Result<(tonic_health::pb::health_server::HealthServer<impl Health + use<>>, Routes)> {
    let (reporter, health) = aegis_rpc::health_service();
    let names: Vec<String> = roles.iter().map(|role| format!("aegis.{role}")).collect();
    let stop = shutdown.clone();
    shutdown.spawn("health", async move {
        let mut last = None;
        loop {
            let ready = readiness.ready().await;
            if last != Some(ready) {
                let status = if ready { ServingStatus::Serving } else { ServingStatus::NotServing };
                reporter.set_service_status("", status).await;
                for name in &names {
                    reporter.set_service_status(name, status).await;
                }
                last = Some(ready);
            }
            tokio::select! {
                () = tokio::time::sleep(Duration::from_secs(1)) => {}
                () = stop.cancelled() => {
                    reporter.set_service_status("", ServingStatus::NotServing).await;
                    return;
                }
            }
        }
    });
    let (v1, v1alpha) = aegis_rpc::reflection_services(aegis_proto::DESCRIPTORS)?;
    Ok((health, Routes::new(v1).add_service(v1alpha)))
}

/// Whether this process lives and is ready, and its metrics.
pub fn probes(readiness: Readiness) -> Router {
    Router::new()
        .route("/livez", get(|| async { "ok" }))
        .route("/readyz", get(ready).with_state(readiness))
        .route("/metrics", get(metrics))
}

/// Everything that this process answers; `certified`: calls of its services need a certificate of a peer.
pub fn router(rest: Option<Router>, probes: Router, grpc: Services, certified: bool) -> Router {
    let router = match rest {
        Some(rest) => rest.merge(probes),
        None => probes,
    };
    let grpc = Grpc { services: Arc::new(grpc), certified, sensors: false };
    router.layer(axum::middleware::from_fn_with_state(grpc, dispatch))
}

/// What the product's own sensor calls, and nothing else: for an address that only this machine reaches.
pub fn door(grpc: &[(&'static str, RpcService)]) -> Router {
    let services = grpc.iter().filter(|(name, _)| matches!(*name, "deception" | "health")).cloned().collect();
    let grpc = Grpc { services: Arc::new(services), certified: false, sensors: true };
    Router::new().layer(axum::middleware::from_fn_with_state(grpc, dispatch))
}

async fn dispatch(State(grpc): State<Grpc>, request: Request, next: Next) -> Response {
    if !aegis_telemetry::is_grpc(request.headers()) {
        return next.run(request).await;
    }
    if let Some(status) = refused(&grpc, &request) {
        return grpc_answer(status);
    }
    match target(&grpc.services, request.uri().path()) {
        Some(service) => {
            let request = request.map(tonic::body::Body::new);
            match service.oneshot(request).await {
                Ok(answer) => answer.into_response(),
                Err(status) => grpc_answer(status),
            }
        }
        None => grpc_answer(Status::unimplemented("this process has no such service")),
    }
}

fn grpc_answer(status: Status) -> Response {
    status.into_http::<tonic::body::Body>().into_response()
}

/// Why this call is not for this client.
fn refused(grpc: &Grpc, request: &Request) -> Option<Status> {
    let path = request.uri().path();
    if !path.starts_with("/aegis.") || SENSOR_SERVICES.iter().any(|service| path.starts_with(service)) {
        return None;
    }
    if grpc.sensors {
        return Some(Status::permission_denied("this address is the sensor's"));
    }
    let certified = request.extensions().get::<Peer>().is_some_and(|peer| peer.certified);
    (grpc.certified && !certified).then(|| {
        Status::unauthenticated("this call needs a certificate of the product's own CA (AEGIS_PEER_CERT_FILE)")
    })
}

/// The service of a path such as `/aegis.identity.v1.AuditService/ListAuditLogs`.
fn target(grpc: &Services, path: &str) -> Option<RpcService> {
    let package = path.strip_prefix('/')?;
    let name = match package.strip_prefix("aegis.") {
        Some(rest) => rest.split('.').next()?,
        None if package.starts_with("grpc.health.") => "health",
        None if package.starts_with("grpc.reflection.") => "reflection",
        None => return None,
    };
    grpc.iter().find(|(known, _)| *known == name).map(|(_, service)| service.clone())
}

async fn ready(State(readiness): State<Readiness>) -> (StatusCode, Json<serde_json::Value>) {
    let report = readiness.report().await;
    let good = readiness.ready().await;
    let checks: serde_json::Map<String, serde_json::Value> = report
        .into_iter()
        .map(|(name, result)| (name.to_owned(), result.err().unwrap_or_else(|| "ok".to_owned()).into()))
        .collect();
    let status = if good { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, Json(serde_json::json!({ "ready": good, "checks": checks })))
}

async fn metrics() -> Result<impl IntoResponse, Infallible> {
    Ok(([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], aegis_telemetry::metrics_text()))
}
