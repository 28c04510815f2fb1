//! What hosts deckies, and what they can be.

use aegis_proto::deception::v1::{ListArchetypesRequest, ListSensorsRequest};
use axum::extract::State;
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{
    answer::Answer,
    error::Problem,
    extract::{Caller, Query, page},
    state::Gateway,
    values::time,
};

/// Routes that need a token.
pub fn protected() -> OpenApiRouter<Gateway> {
    OpenApiRouter::new().routes(routes!(list_sensors)).routes(routes!(list_archetypes))
}

/// A process that hosts deckies.
#[derive(Serialize, ToSchema)]
#[schema(example = json!({
    "id": "0190b7a2-a000-7c4d-b222-2d3e4f5a6c01", "name": "sensor-01", "version": "0.7.0", "attached": true,
    "seen_at": "2024-01-01T02:22:56Z", "deckies": 5
}))]
pub struct Sensor {
    /// It gives itself one at its first start.
    id: String,
    name: String,
    version: String,
    /// It hears now what it is to host.
    attached: bool,
    seen_at: Option<DateTime<Utc>>,
    /// How many it hosts.
    deckies: i64,
}

/// A kind of machine that a decky can play.
#[derive(Serialize, ToSchema)]
#[schema(example = json!({
    "name": "linux-server", "description": "A general-purpose Linux server", "nmap_os": "linux",
    "services": ["ssh", "http", "ftp"]
}))]
pub struct Archetype {
    name: String,
    description: String,
    nmap_os: String,
    /// Those that such a machine may have.
    services: Vec<String>,
}

/// What deckies can be.
#[derive(Serialize, ToSchema)]
#[schema(example = json!({
    "archetypes": [{
        "name": "linux-server", "description": "A general-purpose Linux server", "nmap_os": "linux",
        "services": ["ssh", "http", "ftp"]
    }],
    "services": ["ftp", "http", "ssh"]
}))]
pub struct Archetypes {
    archetypes: Vec<Archetype>,
    /// All that there are.
    services: Vec<String>,
}

/// Part of a list.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct ListSensors {
    /// Rows at most.
    #[param(minimum = 1, maximum = 5000, default = 1000)]
    limit: Option<u32>,
    /// Rows to leave out before.
    #[param(minimum = 0, maximum = 2147483647, default = 0)]
    offset: Option<u32>,
}

/// List sensors
///
/// By name: the processes that host deckies, also those that are away.
#[utoipa::path(get, path = "/api/v1/sensors", tag = "Fleet", params(ListSensors),
    responses((status = 200, description = "Sensors", body = [Sensor])))]
async fn list_sensors(
    State(gateway): State<Gateway>,
    caller: Caller,
    Query(query): Query<ListSensors>,
) -> Result<Answer, Problem> {
    let (page_size, skip) = page(query.limit, query.offset, 1000, 5000)?;
    let request = caller.ctx().outgoing(ListSensorsRequest { page_size, page_token: String::new(), skip });
    let answer = gateway.deps.deckies.clone().list_sensors(request).await?.into_inner();
    let rows = answer.sensors.into_iter().map(|sensor| Sensor {
        id: sensor.id,
        name: sensor.name,
        version: sensor.version,
        attached: sensor.attached,
        seen_at: time(sensor.seen_at),
        deckies: sensor.deckies,
    });
    Answer::list(&rows.collect::<Vec<_>>(), answer.total_size)
}

/// List archetypes and services
///
/// What `archetype` and `services` of a decky may say in an INI file.
#[utoipa::path(get, path = "/api/v1/archetypes", tag = "Fleet",
    responses((status = 200, description = "Archetypes and services", body = Archetypes)))]
async fn list_archetypes(State(gateway): State<Gateway>, caller: Caller) -> Result<Answer, Problem> {
    let request = caller.ctx().outgoing(ListArchetypesRequest {});
    let answer = gateway.deps.deckies.clone().list_archetypes(request).await?.into_inner();
    let archetypes = answer.archetypes.into_iter().map(|archetype| Archetype {
        name: archetype.name,
        description: archetype.description,
        nmap_os: archetype.nmap_os,
        services: archetype.services,
    });
    Answer::json(&Archetypes { archetypes: archetypes.collect(), services: answer.services })
}
