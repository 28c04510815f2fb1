//! Who touched decoys, and how.

use aegis_proto::deception::v1::{
    self as proto, GetAttackerRequest, ListAttackerArtifactsRequest, ListAttackerCommandsRequest, ListAttackersRequest,
};
use axum::extract::State;
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::{
    router::{OpenApiRouter, UtoipaMethodRouterExt},
    routes,
};

use super::logs::LogRow;
use crate::{
    answer::Answer,
    error::Problem,
    extract::{Caller, Id, LongQuery, Query, page},
    middleware::compression,
    openapi::responses::NotFound,
    state::Gateway,
    values::{AttackerSort, BehaviorClass, FingerprintKind, filled, time_always},
};

/// Routes that need a token.
pub fn protected() -> OpenApiRouter<Gateway> {
    OpenApiRouter::new()
        .routes(routes!(list_attackers).layer(compression()))
        .routes(routes!(get_attacker))
        .routes(routes!(list_attacker_commands).layer(compression()))
        .routes(routes!(list_attacker_artifacts).layer(compression()))
}

/// What the timing of an attacker's events looks like, and what follows from what it sent. Times are seconds; a figure
/// that too few events make is null.
#[derive(Serialize, ToSchema)]
#[schema(example = json!({
    "event_count": 212, "duration_s": 318.4, "mean_iat_s": 1.509, "median_iat_s": 1.21, "stdev_iat_s": 0.61,
    "min_iat_s": 0.8, "max_iat_s": 4.02, "cv": 0.404, "behavior_class": "brute_force", "beacon_interval_s": null,
    "beacon_jitter_pct": null, "tool_guesses": ["hydra"], "phase_sequence": ["recon", "credential_access"],
    "os_guess": "linux"
}))]
pub struct Behavior {
    event_count: i64,
    duration_s: f64,
    /// Between one event and the next, as below.
    mean_iat_s: Option<f64>,
    /// Exact up to 4,096 gaps, an estimate above.
    median_iat_s: Option<f64>,
    stdev_iat_s: Option<f64>,
    min_iat_s: Option<f64>,
    max_iat_s: Option<f64>,
    /// stdev / mean
    cv: Option<f64>,
    #[schema(value_type = BehaviorClass)]
    behavior_class: String,
    /// Of a beacon.
    beacon_interval_s: Option<f64>,
    /// Of a beacon.
    beacon_jitter_pct: Option<f64>,
    /// By client banners, User-Agents and timing.
    tool_guesses: Vec<String>,
    /// In the order in which they began.
    phase_sequence: Vec<String>,
    os_guess: Option<String>,
}

impl From<proto::Behavior> for Behavior {
    fn from(behavior: proto::Behavior) -> Behavior {
        Behavior {
            event_count: behavior.event_count,
            duration_s: behavior.duration_s,
            mean_iat_s: behavior.mean_iat_s,
            median_iat_s: behavior.median_iat_s,
            stdev_iat_s: behavior.stdev_iat_s,
            min_iat_s: behavior.min_iat_s,
            max_iat_s: behavior.max_iat_s,
            cv: behavior.cv,
            behavior_class: behavior.behavior_class,
            beacon_interval_s: behavior.beacon_interval_s,
            beacon_jitter_pct: behavior.beacon_jitter_pct,
            tool_guesses: behavior.tool_guesses,
            phase_sequence: behavior.phase_sequence,
            os_guess: filled(behavior.os_guess),
        }
    }
}

/// What tells an attacker's client from others.
#[derive(Serialize, ToSchema)]
#[schema(example = json!({"kind": "hassh", "value": "ec7378c1a92f5a8dde7e8b7a1ddf33d1"}))]
pub struct Fingerprint {
    #[schema(value_type = FingerprintKind)]
    kind: String,
    value: String,
}

/// A technique that an attacker has shown.
#[derive(Serialize, ToSchema)]
#[schema(example = json!({
    "mitre_id": "T1110.001", "count": 210, "first_seen": "2024-01-01T02:20:01Z", "last_seen": "2024-01-01T02:25:19Z",
    "rules": ["password-guessing"]
}))]
pub struct ShownTechnique {
    mitre_id: String,
    /// Events that showed it.
    count: i64,
    first_seen: DateTime<Utc>,
    last_seen: DateTime<Utc>,
    /// Ids of the rules that said so; `GET /tagging-rules` has their reasons.
    rules: Vec<String>,
}

/// Somebody who touched decoys: an address.
#[derive(Serialize, ToSchema)]
#[schema(example = json!({
    "uuid": "0190b7a2-a000-7c4d-b222-2d3e4f5a6b09", "ip": "203.0.113.9", "first_seen": "2024-01-01T02:20:01Z",
    "last_seen": "2024-01-01T02:25:19Z", "event_count": 212, "service_count": 1, "decky_count": 2,
    "services": ["ssh"], "deckies": ["decky-01", "decky-03"], "traversal_path": "decky-03 → decky-01",
    "is_traversal": true, "bounty_count": 64, "credential_count": 63,
    "fingerprints": [{"kind": "hassh", "value": "ec7378c1a92f5a8dde7e8b7a1ddf33d1"}],
    "techniques": [{
        "mitre_id": "T1110.001", "count": 210, "first_seen": "2024-01-01T02:20:01Z",
        "last_seen": "2024-01-01T02:25:19Z", "rules": ["password-guessing"]
    }],
    "behavior": {
        "event_count": 212, "duration_s": 318.4, "mean_iat_s": 1.509, "median_iat_s": 1.21, "stdev_iat_s": 0.61,
        "min_iat_s": 0.8, "max_iat_s": 4.02, "cv": 0.404, "behavior_class": "brute_force", "beacon_interval_s": null,
        "beacon_jitter_pct": null, "tool_guesses": ["hydra"], "phase_sequence": ["recon", "credential_access"],
        "os_guess": "linux"
    }
}))]
pub struct Attacker {
    #[schema(value_type = Uuid)]
    uuid: String,
    ip: String,
    first_seen: DateTime<Utc>,
    last_seen: DateTime<Utc>,
    event_count: i64,
    service_count: i64,
    decky_count: i64,
    services: Vec<String>,
    deckies: Vec<String>,
    /// Its deckies in the order of first contact; null with one only.
    traversal_path: Option<String>,
    /// It was on two or more deckies.
    is_traversal: bool,
    bounty_count: i64,
    credential_count: i64,
    fingerprints: Vec<Fingerprint>,
    techniques: Vec<ShownTechnique>,
    behavior: Behavior,
}

impl From<proto::Attacker> for Attacker {
    fn from(attacker: proto::Attacker) -> Attacker {
        let fingerprints = attacker.fingerprints.into_iter();
        let techniques = attacker.techniques.into_iter().map(|shown| ShownTechnique {
            mitre_id: shown.mitre_id,
            count: shown.count,
            first_seen: time_always(shown.first_seen),
            last_seen: time_always(shown.last_seen),
            rules: shown.rules,
        });
        Attacker {
            uuid: attacker.uuid,
            ip: attacker.ip,
            first_seen: time_always(attacker.first_seen),
            last_seen: time_always(attacker.last_seen),
            event_count: attacker.event_count,
            service_count: attacker.service_count,
            decky_count: attacker.decky_count,
            services: attacker.services,
            deckies: attacker.deckies,
            traversal_path: filled(attacker.traversal_path),
            is_traversal: attacker.is_traversal,
            bounty_count: attacker.bounty_count,
            credential_count: attacker.credential_count,
            fingerprints: fingerprints.map(|print| Fingerprint { kind: print.kind, value: print.value }).collect(),
            techniques: techniques.collect(),
            behavior: attacker.behavior.unwrap_or_default().into(),
        }
    }
}

/// A page of attackers.
#[derive(Serialize, ToSchema)]
#[schema(example = json!({"total": 1, "limit": 50, "offset": 0, "data": [{
    "uuid": "0190b7a2-a000-7c4d-b222-2d3e4f5a6b09", "ip": "203.0.113.9", "first_seen": "2024-01-01T02:20:01Z",
    "last_seen": "2024-01-01T02:20:01Z", "event_count": 1, "service_count": 1, "decky_count": 1,
    "services": ["ssh"], "deckies": ["decky-03"], "traversal_path": null, "is_traversal": false, "bounty_count": 0,
    "credential_count": 0, "fingerprints": [], "techniques": [],
    "behavior": {
        "event_count": 1, "duration_s": 0.0, "mean_iat_s": null, "median_iat_s": null, "stdev_iat_s": null,
        "min_iat_s": null, "max_iat_s": null, "cv": null, "behavior_class": "unknown", "beacon_interval_s": null,
        "beacon_jitter_pct": null, "tool_guesses": [], "phase_sequence": ["recon"], "os_guess": null
    }
}]}))]
pub struct AttackersResponse {
    /// All that fit.
    total: i64,
    limit: i32,
    offset: i32,
    data: Vec<Attacker>,
}

/// A command that an attacker gave.
#[derive(Serialize, ToSchema)]
#[schema(example = json!({
    "timestamp": "2024-01-01T02:22:56Z", "decky": "decky-03", "service": "ssh", "command": "uname -a",
    "session_id": "0190b7a2-a000-7c4d-b222-2d3e4f5a6b01", "techniques": ["T1082"]
}))]
pub struct AttackerCommand {
    timestamp: DateTime<Utc>,
    decky: String,
    service: String,
    command: String,
    session_id: Option<String>,
    /// ATT&CK ids of what it shows.
    techniques: Vec<String>,
}

/// A page of commands.
#[derive(Serialize, ToSchema)]
#[schema(example = json!({"total": 1, "limit": 50, "offset": 0, "data": [{
    "timestamp": "2024-01-01T02:22:56Z", "decky": "decky-03", "service": "ssh", "command": "uname -a",
    "session_id": "0190b7a2-a000-7c4d-b222-2d3e4f5a6b01", "techniques": ["T1082"]
}]}))]
pub struct CommandsResponse {
    /// All that fit.
    total: i64,
    limit: i32,
    offset: i32,
    data: Vec<AttackerCommand>,
}

/// The files that an attacker has left.
#[derive(Serialize, ToSchema)]
#[schema(example = json!({"total": 1, "data": [{
    "id": 1423, "timestamp": "2024-01-01T02:22:56Z", "decky": "decky-03", "service": "ssh",
    "event_type": "file_captured", "attacker_ip": "203.0.113.9", "attacker_port": 50022,
    "session_id": "0190b7a2-a000-7c4d-b222-2d3e4f5a6b01", "msg": "Captured payload.sh",
    "fields": "{\"name\":\"payload.sh\",\"size\":\"1204\",\"stored_as\":\"2024-01-01T02:22:56Z_abcdef012345_payload.sh\"}",
    "techniques": ["T1105"]
}]}))]
pub struct ArtifactsResponse {
    /// All of the attacker.
    total: i64,
    data: Vec<LogRow>,
}

/// Part of the list.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct ListAttackers {
    /// Rows at most.
    #[param(minimum = 1, maximum = 1000, default = 50)]
    limit: Option<u32>,
    /// Rows to leave out before.
    #[param(minimum = 0, maximum = 2147483647, default = 0)]
    offset: Option<u32>,
    /// Tokens as for `/logs`.
    #[param(example = "attacker:203.0.113.9")]
    search: Option<String>,
    /// A service that they touched.
    #[param(example = "ssh")]
    service: Option<String>,
    /// The last seen first (`recent`), those with the most events (`active`), those on the most deckies (`traversals`).
    #[param(inline)]
    sort_by: Option<AttackerSort>,
}

/// Part of the list.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct ListCommands {
    /// Rows at most.
    #[param(minimum = 1, maximum = 200, default = 50)]
    limit: Option<u32>,
    /// Rows to leave out before.
    #[param(minimum = 0, maximum = 2147483647, default = 0)]
    offset: Option<u32>,
    /// Given to this service only.
    #[param(example = "ssh")]
    service: Option<String>,
}

/// Part of the list.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct ListCaptures {
    /// Rows at most.
    #[param(minimum = 1, maximum = 1000, default = 1000)]
    limit: Option<u32>,
    /// Rows to leave out before.
    #[param(minimum = 0, maximum = 2147483647, default = 0)]
    offset: Option<u32>,
}

/// List attackers
///
/// Each with its behaviour; of one with more than fifty services or deckies, or ten fingerprints, so many are shown here.
/// A profile is up to date two seconds after an event at the latest.
#[utoipa::path(get, path = "/api/v1/attackers", tag = "Attackers", params(ListAttackers),
    responses((status = 200, description = "A page of attackers", body = AttackersResponse)))]
async fn list_attackers(
    State(gateway): State<Gateway>,
    caller: Caller,
    LongQuery(query): LongQuery<ListAttackers>,
) -> Result<Answer, Problem> {
    let (limit, offset) = page(query.limit, query.offset, 50, 1000)?;
    let request = ListAttackersRequest {
        page_size: limit,
        page_token: String::new(),
        skip: offset,
        search: query.search.unwrap_or_default(),
        service: query.service.unwrap_or_default(),
        sort_by: query.sort_by.map(String::from).unwrap_or_default(),
    };
    let answer = gateway.deps.attackers.clone().list_attackers(caller.ctx().outgoing(request)).await?.into_inner();
    let data = answer.attackers.into_iter().map(Attacker::from).collect();
    Answer::json(&AttackersResponse { total: answer.total_size, limit, offset, data })
}

/// Read an attacker
///
/// With its behaviour: `behavior_class` is the first that fits of `unknown` (fewer than 3 events), `slow_scan`,
/// `scanning`, `brute_force`, `beaconing` (with the interval and jitter of the beacon), `interactive`, `mixed`.
#[utoipa::path(get, path = "/api/v1/attackers/{uuid}", tag = "Attackers",
    params(("uuid" = Uuid, Path, description = "Attacker")),
    responses(
        (status = 200, description = "The attacker", body = Attacker),
        (status = 404, response = NotFound),
    ))]
async fn get_attacker(State(gateway): State<Gateway>, caller: Caller, id: Id) -> Result<Answer, Problem> {
    let request = caller.ctx().outgoing(GetAttackerRequest { uuid: id.to_string() });
    let answer = gateway.deps.attackers.clone().get_attacker(request).await?.into_inner();
    Answer::entity(0, &Attacker::from(answer.attacker.ok_or_else(Problem::empty)?))
}

/// List an attacker's commands
///
/// Newest first.
#[utoipa::path(get, path = "/api/v1/attackers/{uuid}/commands", tag = "Attackers",
    params(("uuid" = Uuid, Path, description = "Attacker"), ListCommands),
    responses(
        (status = 200, description = "A page of commands", body = CommandsResponse),
        (status = 404, response = NotFound),
    ))]
async fn list_attacker_commands(
    State(gateway): State<Gateway>,
    caller: Caller,
    id: Id,
    Query(query): Query<ListCommands>,
) -> Result<Answer, Problem> {
    let (limit, offset) = page(query.limit, query.offset, 50, 200)?;
    let request = ListAttackerCommandsRequest {
        uuid: id.to_string(),
        page_size: limit,
        page_token: String::new(),
        skip: offset,
        service: query.service.unwrap_or_default(),
    };
    let request = caller.ctx().outgoing(request);
    let answer = gateway.deps.attackers.clone().list_attacker_commands(request).await?.into_inner();
    let rows = answer.commands.into_iter().map(|command| AttackerCommand {
        timestamp: time_always(command.timestamp),
        decky: command.decky,
        service: command.service,
        command: command.command,
        session_id: filled(command.session_id),
        techniques: command.techniques,
    });
    Answer::json(&CommandsResponse { total: answer.total_size, limit, offset, data: rows.collect() })
}

/// List an attacker's files
///
/// The events of the files that it left, newest first. `stored_as` in `fields` is the name under which
/// `GET /artifacts/{decky}/{stored_as}` has the bytes.
#[utoipa::path(get, path = "/api/v1/attackers/{uuid}/artifacts", tag = "Attackers",
    params(("uuid" = Uuid, Path, description = "Attacker"), ListCaptures),
    responses(
        (status = 200, description = "Events", body = ArtifactsResponse),
        (status = 404, response = NotFound),
    ))]
async fn list_attacker_artifacts(
    State(gateway): State<Gateway>,
    caller: Caller,
    id: Id,
    Query(query): Query<ListCaptures>,
) -> Result<Answer, Problem> {
    let (page_size, skip) = page(query.limit, query.offset, 1000, 1000)?;
    let request = ListAttackerArtifactsRequest { uuid: id.to_string(), page_size, page_token: String::new(), skip };
    let request = caller.ctx().outgoing(request);
    let answer = gateway.deps.attackers.clone().list_attacker_artifacts(request).await?.into_inner();
    let data = answer.logs.into_iter().map(LogRow::from).collect();
    Answer::json(&ArtifactsResponse { total: answer.total_size, data })
}
