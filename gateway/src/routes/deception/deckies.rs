//! The deckies: what is deployed, and how that is changed.

use std::collections::BTreeMap;

use aegis_proto::deception::v1::{
    self as proto, DeleteDeckyRequest, DeployFleetRequest, GetDeckyRequest, ListDeckiesRequest, MutateDeckyRequest,
    SetMutateIntervalRequest,
};
use axum::extract::State;
use chrono::{DateTime, Utc};
use http::Uri;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::{
    router::{OpenApiRouter, UtoipaMethodRouterExt},
    routes,
};

use super::DeckyName;
use crate::{
    answer::Answer,
    error::Problem,
    extract::{Caller, Json, Query, page},
    middleware::compression,
    openapi::responses::{Conflict, NotFound},
    state::Gateway,
    values::{Change, DeckyServiceStatus, DeckyStatus, DecoyRuntime, filled, time, time_always},
};

/// Routes that need a token.
pub fn protected() -> OpenApiRouter<Gateway> {
    OpenApiRouter::new()
        .routes(routes!(list_deckies).layer(compression()))
        .routes(routes!(deploy_fleet))
        .routes(routes!(get_decky, delete_decky))
        .routes(routes!(mutate_decky))
        .routes(routes!(set_mutate_interval))
}

/// A decoy machine.
#[derive(Serialize, ToSchema)]
#[schema(example = json!({
    "id": "0190b7a2-a000-7c4d-b222-2d3e4f5a6d01", "name": "decky-01", "ip": "192.0.2.11", "mac": "52:54:00:6b:3c:01",
    "services": ["http", "ssh"], "status": "degraded", "mutate_interval": "5d", "archetype": "linux-server",
    "nmap_os": "linux", "hostname": "web01", "runtime": "native", "ports": {"ssh": "192.0.2.11:22"},
    "service_status": {
        "http": {"status": "failed", "detail": "the address is in use"}, "ssh": {"status": "running", "detail": null}
    },
    "last_mutated": null, "created_at": "2024-01-01T02:22:56Z"
}))]
pub struct Decky {
    #[schema(value_type = Uuid)]
    id: String,
    name: String,
    ip: String,
    mac: String,
    services: Vec<String>,
    #[schema(value_type = DeckyStatus)]
    status: String,
    /// Its own; null where that of the fleet holds.
    mutate_interval: Option<String>,
    archetype: Option<String>,
    nmap_os: Option<String>,
    hostname: String,
    #[schema(value_type = DecoyRuntime)]
    runtime: String,
    /// The address and port that answer, by service.
    ports: BTreeMap<String, String>,
    service_status: BTreeMap<String, DeckyServiceState>,
    last_mutated: Option<DateTime<Utc>>,
    created_at: DateTime<Utc>,
}

/// How a service of a decky is.
#[derive(Serialize, ToSchema)]
#[schema(example = json!({"status": "failed", "detail": "the address is in use"}))]
pub struct DeckyServiceState {
    #[schema(value_type = DeckyServiceStatus)]
    status: String,
    /// What is wrong.
    detail: Option<String>,
}

impl From<proto::Decky> for Decky {
    fn from(decky: proto::Decky) -> Decky {
        let (mut services, mut ports, mut service_status) = (Vec::new(), BTreeMap::new(), BTreeMap::new());
        for service in decky.services {
            if let Some(address) = filled(service.address).filter(|_| service.status == "running") {
                ports.insert(service.name.clone(), address);
            }
            let state = DeckyServiceState { status: service.status, detail: filled(service.detail) };
            service_status.insert(service.name.clone(), state);
            services.push(service.name);
        }
        Decky {
            id: decky.id,
            name: decky.name,
            ip: decky.ip,
            mac: decky.mac,
            services,
            status: decky.status,
            mutate_interval: filled(decky.mutate_interval),
            archetype: filled(decky.archetype),
            nmap_os: filled(decky.nmap_os),
            hostname: decky.hostname,
            runtime: decky.runtime,
            ports,
            service_status,
            last_mutated: time(decky.last_mutated),
            created_at: time_always(decky.created_at),
        }
    }
}

/// A fleet, or more of one.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"ini_content": "[general]\nnet = 192.0.2.0/24\n\n[decky-01]\nip = 192.0.2.11\nservices = ssh,http\n"}))]
pub struct DeployIniRequest {
    /// INI, at most 512 KiB.
    #[schema(min_length = 1, max_length = 524288)]
    ini_content: String,
}

/// What was deployed.
#[derive(Serialize, ToSchema)]
#[schema(example = json!({"message": "Deployed 2 deckies", "deckies": ["decky-01", "decky-02"]}))]
pub struct DeployResponse {
    message: String,
    /// The names of those that are new.
    deckies: Vec<String>,
}

/// A decky that changed its services.
#[derive(Serialize, ToSchema)]
#[schema(example = json!({
    "message": "Successfully mutated decky-01",
    "decky": {
        "id": "0190b7a2-a000-7c4d-b222-2d3e4f5a6d01", "name": "decky-01", "ip": "192.0.2.11",
        "mac": "52:54:00:6b:3c:01", "services": ["ftp"], "status": "running", "mutate_interval": null,
        "archetype": "linux-server", "nmap_os": "linux", "hostname": "web01", "runtime": "native",
        "ports": {"ftp": "192.0.2.11:21"}, "service_status": {"ftp": {"status": "running", "detail": null}},
        "last_mutated": "2024-01-02T02:22:56Z", "created_at": "2024-01-01T02:22:56Z"
    }
}))]
pub struct MutateResponse {
    message: String,
    decky: Decky,
}

/// How often a decky changes its services.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"mutate_interval": "5d"}))]
pub struct MutateIntervalRequest {
    /// A number and m (minutes), d (days), M (months of the calendar), y or Y (years); `null` for that of the fleet.
    #[serde(deserialize_with = "given")]
    #[schema(value_type = Option<String>, required = true, pattern = r"^[1-9]\d*[mdMyY]$")]
    mutate_interval: Change<String>,
}

/// A field that must be there, though it may be `null`.
fn given<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Change<String>, D::Error> {
    Change::deserialize(deserializer)
}

/// The interval that now holds.
#[derive(Serialize, ToSchema)]
#[schema(example = json!({"message": "Mutation interval updated", "mutate_interval": "5d"}))]
pub struct MutateIntervalResponse {
    message: &'static str,
    /// The decky's own; null where that of the fleet holds.
    mutate_interval: Option<String>,
}

/// Part of a list.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct ListDeckies {
    /// Rows at most.
    #[param(minimum = 1, maximum = 5000, default = 1000)]
    limit: Option<u32>,
    /// Rows to leave out before.
    #[param(minimum = 0, maximum = 2147483647, default = 0)]
    offset: Option<u32>,
}

/// List deckies
///
/// By name: the whole fleet, with what of it answers and where.
#[utoipa::path(get, path = "/api/v1/deckies", tag = "Fleet", params(ListDeckies),
    responses((status = 200, description = "Deckies", body = [Decky])))]
async fn list_deckies(
    State(gateway): State<Gateway>,
    caller: Caller,
    uri: Uri,
    Query(query): Query<ListDeckies>,
) -> Result<Answer, Problem> {
    let (page_size, skip) = page(query.limit, query.offset, 1000, 5000)?;
    let load = async {
        let request = caller.ctx().outgoing(ListDeckiesRequest { page_size, page_token: String::new(), skip });
        let answer = gateway.deps.deckies.clone().list_deckies(request).await?.into_inner();
        let rows: Vec<Decky> = answer.deckies.into_iter().map(Decky::from).collect();
        Answer::list(&rows, answer.total_size)
    };
    gateway.hot.answer(&caller, &uri, load).await
}

/// Deploy or extend the fleet
///
/// Administrators only. `[general]` has `net`, `gw`, `interface` and `sensor` (who is to host it); any other section is a decky with `ip`, `services`
/// (with commas), `archetype`, `nmap_os`, `mutate_interval` (minutes) and `amount` (1 to 100: makes `name-01` …, not
/// with `ip`); `[decky.service]` sets options of one service. Without services and archetype a decky has one to three
/// services at random. All or nothing: what does not fit is 409 with the section and line of each fault; where a part
/// cannot start, all is rolled back and the answer (500) names it.
#[utoipa::path(post, path = "/api/v1/deckies/deploy", tag = "Fleet", request_body = DeployIniRequest,
    extensions(("x-roles" = json!(["admin"]))),
    responses(
        (status = 200, description = "Deployed", body = DeployResponse),
        (status = 409, response = Conflict),
    ))]
async fn deploy_fleet(
    State(gateway): State<Gateway>,
    caller: Caller,
    Json(body): Json<DeployIniRequest>,
) -> Result<Answer, Problem> {
    let request = caller.ctx().outgoing(DeployFleetRequest { ini_content: body.ini_content });
    let answer = gateway.deps.deckies.clone().deploy_fleet(request).await?.into_inner();
    let deckies = answer.deckies.into_iter().map(|decky| decky.name).collect();
    Answer::json(&DeployResponse { message: answer.message, deckies })
}

/// Read a decky
#[utoipa::path(get, path = "/api/v1/deckies/{name}", tag = "Fleet",
    params(("name" = String, Path, description = "Decky", example = "decky-01")),
    responses(
        (status = 200, description = "The decky", body = Decky),
        (status = 404, response = NotFound),
    ))]
async fn get_decky(
    State(gateway): State<Gateway>,
    caller: Caller,
    DeckyName(name): DeckyName,
) -> Result<Answer, Problem> {
    let request = caller.ctx().outgoing(GetDeckyRequest { name });
    let answer = gateway.deps.deckies.clone().get_decky(request).await?.into_inner();
    let decky = answer.decky.ok_or_else(Problem::empty)?;
    Answer::entity(decky.version, &Decky::from(decky))
}

/// Delete a decky
///
/// Administrators only. Its events and artifacts stay.
#[utoipa::path(delete, path = "/api/v1/deckies/{name}", tag = "Fleet",
    params(("name" = String, Path, description = "Decky", example = "decky-01")),
    extensions(("x-roles" = json!(["admin"]))),
    responses(
        (status = 204, description = "Deleted"),
        (status = 404, response = NotFound),
    ))]
async fn delete_decky(
    State(gateway): State<Gateway>,
    caller: Caller,
    DeckyName(name): DeckyName,
) -> Result<Answer, Problem> {
    gateway.deps.deckies.clone().delete_decky(caller.ctx().outgoing(DeleteDeckyRequest { name })).await?;
    Ok(Answer::nothing())
}

/// Mutate a decky
///
/// Administrators only. Swaps its services for others of its archetype, at once; sessions that are open go on.
#[utoipa::path(post, path = "/api/v1/deckies/{decky_name}/mutate", tag = "Fleet",
    params(("decky_name" = String, Path, description = "Decky", example = "decky-01")),
    extensions(("x-roles" = json!(["admin"]))),
    responses(
        (status = 200, description = "Mutated", body = MutateResponse),
        (status = 404, response = NotFound),
        (status = 409, response = Conflict),
    ))]
async fn mutate_decky(
    State(gateway): State<Gateway>,
    caller: Caller,
    DeckyName(name): DeckyName,
) -> Result<Answer, Problem> {
    let request = caller.ctx().outgoing(MutateDeckyRequest { name });
    let answer = gateway.deps.deckies.clone().mutate_decky(request).await?.into_inner();
    let decky = answer.decky.ok_or_else(Problem::empty)?;
    let (version, message) = (decky.version, format!("Successfully mutated {}", decky.name));
    Answer::entity(version, &MutateResponse { message, decky: decky.into() })
}

/// Set the mutation interval of a decky
///
/// Administrators only. Without one of its own (`null`), that of the fleet holds.
#[utoipa::path(put, path = "/api/v1/deckies/{decky_name}/mutate-interval", tag = "Fleet",
    params(("decky_name" = String, Path, description = "Decky", example = "decky-01")),
    request_body = MutateIntervalRequest,
    extensions(("x-roles" = json!(["admin"]))),
    responses(
        (status = 200, description = "Set", body = MutateIntervalResponse),
        (status = 404, response = NotFound),
    ))]
async fn set_mutate_interval(
    State(gateway): State<Gateway>,
    caller: Caller,
    DeckyName(name): DeckyName,
    Json(body): Json<MutateIntervalRequest>,
) -> Result<Answer, Problem> {
    let (mutate_interval, _) = body.mutate_interval.parts();
    let request = caller.ctx().outgoing(SetMutateIntervalRequest { name, mutate_interval });
    let answer = gateway.deps.deckies.clone().set_mutate_interval(request).await?.into_inner();
    let decky = answer.decky.ok_or_else(Problem::empty)?;
    let mutate_interval = filled(decky.mutate_interval);
    let set = MutateIntervalResponse { message: "Mutation interval updated", mutate_interval };
    Answer::entity(decky.version, &set)
}
