//! The columns of the ATT&CK matrix.

use aegis_proto::catalog::v1::ListTacticsRequest;
use axum::extract::State;
use http::Uri;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{
    answer::Answer,
    error::Problem,
    extract::{Caller, Query},
    state::Gateway,
    values::Domain,
};

/// Routes that need a token.
pub fn protected() -> OpenApiRouter<Gateway> {
    OpenApiRouter::new().routes(routes!(list_tactics))
}

/// A tactic: a column of the matrix.
#[derive(Serialize, ToSchema)]
#[schema(example = json!({
    "id": "0190b7a2-5f00-7c3e-9d2a-3f6d1c0e8a12", "mitre_id": "TA0002", "short_name": "execution",
    "name": "Execution", "domain": "enterprise", "position": 3
}))]
pub struct Tactic {
    #[schema(value_type = Uuid)]
    id: String,
    /// ATT&CK id.
    mitre_id: String,
    /// The name that techniques use.
    short_name: String,
    name: String,
    #[schema(value_type = Domain)]
    domain: String,
    /// Place in the matrix of its domain.
    position: i32,
}

/// Filters of tactics.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct ListTactics {
    #[param(inline)]
    domain: Option<Domain>,
}

/// List tactics
///
/// In the order of the matrix.
#[utoipa::path(get, path = "/api/v1/tactics", tag = "Techniques", params(ListTactics),
    responses((status = 200, description = "Tactics", body = [Tactic])))]
async fn list_tactics(
    State(gateway): State<Gateway>,
    caller: Caller,
    uri: Uri,
    Query(query): Query<ListTactics>,
) -> Result<Answer, Problem> {
    let load = async {
        let request = ListTacticsRequest { domain: query.domain.map(String::from) };
        let answer = gateway.deps.catalog.clone().list_tactics(caller.ctx().outgoing(request)).await?.into_inner();
        let tactics = answer.tactics.into_iter().map(|t| Tactic {
            id: t.id,
            mitre_id: t.mitre_id,
            short_name: t.short_name,
            name: t.name,
            domain: t.domain,
            position: t.position,
        });
        let tactics: Vec<Tactic> = tactics.collect();
        Answer::list(&tactics, tactics.len() as i64)
    };
    gateway.hot.answer(&caller, &uri, load).await
}
