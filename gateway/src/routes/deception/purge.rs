//! Everything that happened, gone: for those who try the product out.

use aegis_proto::deception::v1::PurgeLogsRequest;
use axum::extract::State;
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{answer::Answer, error::Problem, extract::Caller, state::Gateway};

/// Routes that need a token.
pub fn protected() -> OpenApiRouter<Gateway> {
    OpenApiRouter::new().routes(routes!(purge_logs))
}

/// What was purged.
#[derive(Serialize, ToSchema)]
#[schema(example = json!({"message": "Data purged", "deleted": {"logs": 14231, "bounties": 64}}))]
pub struct PurgeResponse {
    message: &'static str,
    deleted: Purged,
}

/// How much.
#[derive(Serialize, ToSchema)]
#[schema(example = json!({"logs": 14231, "bounties": 64}))]
pub struct Purged {
    logs: i64,
    bounties: i64,
}

/// Purge what happened
///
/// Administrators only, and only where the product was started in developer mode (`AEGIS_DEVELOPER` or
/// `DECNET_DEVELOPER`); else 403. Events, bounties, attackers and all that was made of them go; the fleet and
/// captured files stay.
#[utoipa::path(delete, path = "/api/v1/config/reinit", tag = "Configuration",
    extensions(("x-roles" = json!(["admin"]))),
    responses((status = 200, description = "Purged", body = PurgeResponse)))]
async fn purge_logs(State(gateway): State<Gateway>, caller: Caller) -> Result<Answer, Problem> {
    let request = caller.ctx().outgoing(PurgeLogsRequest {});
    let answer = gateway.deps.logs.clone().purge_logs(request).await?.into_inner();
    let deleted = Purged { logs: answer.logs, bounties: answer.bounties };
    Answer::json(&PurgeResponse { message: "Data purged", deleted })
}
