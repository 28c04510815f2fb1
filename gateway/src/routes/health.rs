//! Whether the product works. Public.

use std::{collections::BTreeMap, time::Duration};

use aegis_error::Code;
use aegis_proto::deception::v1::GetHealthRequest;
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
    extract::Visitor,
    state::Gateway,
    values::filled,
};

/// The parts of the deception half, as its reference names them, and whether it works without.
const DECEPTION: [(&str, bool); 6] = [
    ("database", true),
    ("docker", true),
    ("ingestion_worker", true),
    ("collector_worker", false),
    ("attacker_worker", false),
    ("sniffer_worker", false),
];
/// How long they have to answer.
const PATIENCE: Duration = Duration::from_secs(3);

/// Routes that need no token.
pub fn public() -> OpenApiRouter<Gateway> {
    OpenApiRouter::new().routes(routes!(get_health)).routes(routes!(get_api_health))
}

/// How the product is.
#[derive(Serialize, ToSchema)]
#[schema(example = json!({
    "status": "healthy",
    "components": {
        "process": {"status": "ok"}, "catalog": {"status": "ok"}, "database": {"status": "ok"},
        "docker": {"status": "ok"}, "ingestion_worker": {"status": "ok"}, "collector_worker": {"status": "ok"},
        "attacker_worker": {"status": "ok"}, "sniffer_worker": {"status": "ok"}
    }
}))]
pub struct Health {
    /// healthy | degraded (a part is failing that the rest works without) | unhealthy
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
    #[schema(required = false, nullable = false)]
    detail: Option<String>,
}

/// How the product is
///
/// The parts of this process, and those of the deception half: `database`, `docker` (what runs the decoys, whatever it
/// is) and `ingestion_worker`, without which it is unhealthy, and `collector_worker`, `attacker_worker` and
/// `sniffer_worker`, without which it is degraded.
#[utoipa::path(get, path = "/health", tag = "System",
    responses(
        (status = 200, description = "All parts work that must", body = Health),
        (status = 503, description = "A part does not work that must", body = Health),
    ))]
async fn get_health(State(gateway): State<Gateway>, visitor: Visitor) -> Result<Response, Problem> {
    report(&gateway, &visitor).await
}

/// How the product is, under the API's prefix
#[utoipa::path(get, path = "/api/v1/health", tag = "System",
    responses(
        (status = 200, description = "All parts work that must", body = Health),
        (status = 503, description = "A part does not work that must", body = Health),
    ))]
async fn get_api_health(State(gateway): State<Gateway>, visitor: Visitor) -> Result<Response, Problem> {
    report(&gateway, &visitor).await
}

async fn report(gateway: &Gateway, visitor: &Visitor) -> Result<Response, Problem> {
    let readiness = &gateway.deps.readiness;
    let (own, deception) = tokio::join!(readiness.report(), deception(gateway, visitor));
    let own = own.into_iter().map(|(name, answer)| (name, readiness.needs(name), answer));
    let parts: Vec<Part> = own.chain(deception).collect();
    let status = overall(&parts);
    let components = parts.into_iter().map(|(name, _, answer)| {
        let status = if answer.is_ok() { "ok" } else { "failing" };
        (name, Component { status, detail: answer.err() })
    });
    let components = components.collect();
    let mut response = Answer::json(&Health { status, components })?.into_response();
    if status == "unhealthy" {
        *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
        response.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("2"));
        response.extensions_mut().insert(Told { code: Code::Unavailable });
    }
    Ok(response)
}

/// A part: its name, whether nothing works without it, and what is wrong with it.
type Part = (&'static str, bool, Result<(), String>);

fn overall(parts: &[Part]) -> &'static str {
    match parts.iter().filter(|(_, _, answer)| answer.is_err()).map(|(_, needed, _)| *needed).max() {
        None => "healthy",
        Some(false) => "degraded",
        Some(true) => "unhealthy",
    }
}

/// The parts of the deception half.
async fn deception(gateway: &Gateway, visitor: &Visitor) -> Vec<Part> {
    let mut client = gateway.deps.deckies.clone();
    let asked = client.get_health(visitor.ctx().outgoing(GetHealthRequest {}));
    let told = match tokio::time::timeout(PATIENCE, asked).await {
        Ok(Ok(answer)) => answer.into_inner().components,
        Ok(Err(status)) => {
            tracing::warn!(%status, "deception does not say how it is");
            Vec::new()
        }
        Err(_) => Vec::new(),
    };
    let of = |name: &str| match told.iter().find(|component| component.name == name) {
        Some(component) if component.ok => Ok(()),
        Some(component) => Err(filled(component.detail.clone()).unwrap_or_else(|| "is failing".to_owned())),
        // The page is public: it names the part, not the cause.
        None => Err("does not answer".to_owned()),
    };
    DECEPTION.into_iter().map(|(name, needed)| (name, needed, of(name))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_worst_part_decides() {
        let part = |needed, ok: bool| ("part", needed, if ok { Ok(()) } else { Err(String::new()) });
        assert_eq!(overall(&[]), "healthy");
        assert_eq!(overall(&[part(true, true), part(false, true)]), "healthy");
        assert_eq!(overall(&[part(true, true), part(false, false)]), "degraded");
        assert_eq!(overall(&[part(true, false), part(false, false), part(true, true)]), "unhealthy");
    }
}
