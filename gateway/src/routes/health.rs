//! Whether the product works. Public.

use std::collections::BTreeMap;

use aegis_error::Code;
use axum::{
    extract::State,
    response::{IntoResponse, Response},
};
use http::{HeaderValue, StatusCode, header::RETRY_AFTER};
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{
    answer::Answer,
    error::{Problem, Told},
    state::Gateway,
};

/// Routes that need no token.
pub fn public() -> OpenApiRouter<Gateway> {
    OpenApiRouter::new().routes(routes!(get_health)).routes(routes!(get_api_health))
}

/// How the product is.
#[derive(Serialize, ToSchema)]
#[schema(example = json!({"status": "healthy", "components": {"process": {"status": "ok"}, "catalog": {"status": "ok"}}}))]
pub struct Health {
    /// healthy | unhealthy
    status: &'static str,
    components: BTreeMap<&'static str, Component>,
}

/// How one part is.
#[derive(Serialize, ToSchema)]
#[schema(example = json!({"status": "failing", "detail": "does not answer"}))]
pub struct Component {
    /// ok | failing
    status: &'static str,
    /// What is wrong.
    #[serde(skip_serializing_if = "Option::is_none")]
    detail: Option<String>,
}

/// How the product is
#[utoipa::path(get, path = "/health", tag = "System",
    responses(
        (status = 200, description = "All parts work", body = Health),
        (status = 503, description = "A part does not work", body = Health),
    ))]
async fn get_health(State(gateway): State<Gateway>) -> Result<Response, Problem> {
    report(&gateway).await
}

/// How the product is, under the API's prefix
#[utoipa::path(get, path = "/api/v1/health", tag = "System",
    responses(
        (status = 200, description = "All parts work", body = Health),
        (status = 503, description = "A part does not work", body = Health),
    ))]
async fn get_api_health(State(gateway): State<Gateway>) -> Result<Response, Problem> {
    report(&gateway).await
}

async fn report(gateway: &Gateway) -> Result<Response, Problem> {
    let report = gateway.deps.readiness.report().await;
    let healthy = report.iter().all(|(_, answer)| answer.is_ok());
    let components = report.into_iter().map(|(name, answer)| {
        let status = if answer.is_ok() { "ok" } else { "failing" };
        (name, Component { status, detail: answer.err() })
    });
    let health = Health { status: if healthy { "healthy" } else { "unhealthy" }, components: components.collect() };
    let mut response = Answer::json(&health)?.into_response();
    if !healthy {
        *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
        response.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("2"));
        response.extensions_mut().insert(Told { code: Code::Unavailable });
    }
    Ok(response)
}
