//! What attackers have left: credentials, fingerprints, payloads.

use aegis_proto::deception::v1::{self as proto, ListBountyRequest};
use axum::extract::State;
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::{
    router::{OpenApiRouter, UtoipaMethodRouterExt},
    routes,
};

use crate::{
    answer::Answer,
    error::Problem,
    extract::{Caller, LongQuery, page},
    middleware::compression,
    state::Gateway,
    values::{BountyType, filled, json, time_always},
};

/// Routes that need a token.
pub fn protected() -> OpenApiRouter<Gateway> {
    OpenApiRouter::new().routes(routes!(list_bounty).layer(compression()))
}

/// Something that an attacker has left.
#[derive(Serialize, ToSchema)]
#[schema(example = json!({
    "id": 17, "timestamp": "2024-01-01T02:22:56Z", "bounty_type": "credential", "attacker_ip": "203.0.113.9",
    "decky": "decky-03", "service": "ssh", "payload": {"username": "root", "password": "123456"},
    "first_seen": "2024-01-01T02:20:01Z", "last_seen": "2024-01-01T02:22:56Z", "count": 4
}))]
pub struct Bounty {
    id: i64,
    /// The same as `last_seen`.
    timestamp: DateTime<Utc>,
    #[schema(value_type = BountyType)]
    bounty_type: String,
    attacker_ip: String,
    /// Where it was seen first.
    decky: Option<String>,
    service: Option<String>,
    /// Of a credential `username` and `password`, of a fingerprint `kind` (hassh, ja3, user_agent, client_banner) and
    /// `value`, of a payload `stored_as`, `sha256`, `size` and `name`.
    #[schema(value_type = Object)]
    payload: Value,
    first_seen: DateTime<Utc>,
    last_seen: DateTime<Utc>,
    /// How often it was seen.
    count: i64,
}

impl From<proto::Bounty> for Bounty {
    fn from(bounty: proto::Bounty) -> Bounty {
        let last_seen = time_always(bounty.last_seen);
        Bounty {
            id: bounty.id,
            timestamp: last_seen,
            bounty_type: bounty.bounty_type,
            attacker_ip: bounty.attacker_ip,
            decky: filled(bounty.decky),
            service: filled(bounty.service),
            payload: json(&bounty.payload_json),
            first_seen: time_always(bounty.first_seen),
            last_seen,
            count: bounty.count,
        }
    }
}

/// A page of the vault.
#[derive(Serialize, ToSchema)]
#[schema(example = json!({"total": 17, "limit": 50, "offset": 0, "data": [{
    "id": 17, "timestamp": "2024-01-01T02:22:56Z", "bounty_type": "credential", "attacker_ip": "203.0.113.9",
    "decky": "decky-03", "service": "ssh", "payload": {"username": "root", "password": "123456"},
    "first_seen": "2024-01-01T02:20:01Z", "last_seen": "2024-01-01T02:22:56Z", "count": 4
}]}))]
pub struct BountyResponse {
    /// All that fit.
    total: i64,
    limit: i32,
    offset: i32,
    data: Vec<Bounty>,
}

/// Part of the vault.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct ListBounty {
    /// Rows at most.
    #[param(minimum = 1, maximum = 1000, default = 50)]
    limit: Option<u32>,
    /// Rows to leave out before.
    #[param(minimum = 0, maximum = 2147483647, default = 0)]
    offset: Option<u32>,
    #[param(inline)]
    bounty_type: Option<BountyType>,
    /// Tokens as for `/logs`; a `key:value` compares that field of the payload.
    #[param(example = "service:ssh username:root")]
    search: Option<String>,
}

/// List the bounty
///
/// Credentials that were tried, fingerprints of clients, files that were captured: one row for each attacker and
/// content, with when it was first and last seen and how often. The last seen comes first. Attackers wrote what is in
/// there.
#[utoipa::path(get, path = "/api/v1/bounty", tag = "Attackers", params(ListBounty),
    responses((status = 200, description = "A page of the vault", body = BountyResponse)))]
async fn list_bounty(
    State(gateway): State<Gateway>,
    caller: Caller,
    LongQuery(query): LongQuery<ListBounty>,
) -> Result<Answer, Problem> {
    let (limit, offset) = page(query.limit, query.offset, 50, 1000)?;
    let request = ListBountyRequest {
        page_size: limit,
        page_token: String::new(),
        skip: offset,
        bounty_type: query.bounty_type.map(String::from).unwrap_or_default(),
        search: query.search.unwrap_or_default(),
    };
    let answer = gateway.deps.attackers.clone().list_bounty(caller.ctx().outgoing(request)).await?.into_inner();
    let data = answer.bounties.into_iter().map(Bounty::from).collect();
    Answer::json(&BountyResponse { total: answer.total_size, limit, offset, data })
}
