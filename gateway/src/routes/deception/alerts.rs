//! What attackers did that somebody should hear of, grouped.

use aegis_proto::deception::v1::{self as proto, GetAlertRequest, ListAlertsRequest};
use axum::extract::State;
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{
    answer::Answer,
    error::Problem,
    extract::{Caller, Id, Query, page},
    openapi::responses::NotFound,
    state::Gateway,
    values::{AlertKind, time_always},
};

/// Routes that need a token.
pub fn protected() -> OpenApiRouter<Gateway> {
    OpenApiRouter::new().routes(routes!(list_alerts)).routes(routes!(get_alert))
}

/// Something that somebody should hear of.
#[derive(Serialize, ToSchema)]
#[schema(example = json!({
    "id": "0190b7a2-a000-7c4d-b222-2d3e4f5a6e01", "kind": "traversal", "attacker_ip": "203.0.113.9",
    "deckies": ["decky-01", "decky-03"], "message": "203.0.113.9 went on from decky-03 to decky-01", "count": 12,
    "first_seen": "2024-01-01T02:20:01Z", "last_seen": "2024-01-01T02:25:19Z"
}))]
pub struct Alert {
    #[schema(value_type = Uuid)]
    id: String,
    #[schema(value_type = AlertKind)]
    kind: String,
    attacker_ip: String,
    /// Those that it touched while the alert was open.
    deckies: Vec<String>,
    message: String,
    /// Events that it groups.
    count: i64,
    first_seen: DateTime<Utc>,
    last_seen: DateTime<Utc>,
}

impl From<proto::Alert> for Alert {
    fn from(alert: proto::Alert) -> Alert {
        Alert {
            id: alert.id,
            kind: alert.kind,
            attacker_ip: alert.attacker_ip,
            deckies: alert.deckies,
            message: alert.message,
            count: alert.count,
            first_seen: time_always(alert.first_seen),
            last_seen: time_always(alert.last_seen),
        }
    }
}

/// Part of a list.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct ListAlerts {
    /// Rows at most.
    #[param(minimum = 1, maximum = 1000, default = 100)]
    limit: Option<u32>,
    /// Rows to leave out before.
    #[param(minimum = 0, maximum = 2147483647, default = 0)]
    offset: Option<u32>,
}

/// List alerts
///
/// Newest first. A first contact, a credential that works, a captured file, a traversal: each is one alert with the
/// events that it groups, so that a scan is one. Approved scanners raise none.
#[utoipa::path(get, path = "/api/v1/alerts", tag = "Deception alerts", params(ListAlerts),
    responses((status = 200, description = "Alerts", body = [Alert])))]
async fn list_alerts(
    State(gateway): State<Gateway>,
    caller: Caller,
    Query(query): Query<ListAlerts>,
) -> Result<Answer, Problem> {
    let (page_size, skip) = page(query.limit, query.offset, 100, 1000)?;
    let request = caller.ctx().outgoing(ListAlertsRequest { page_size, page_token: String::new(), skip });
    let answer = gateway.deps.alerts.clone().list_alerts(request).await?.into_inner();
    let rows: Vec<Alert> = answer.alerts.into_iter().map(Alert::from).collect();
    Answer::list(&rows, answer.total_size)
}

/// Read an alert
#[utoipa::path(get, path = "/api/v1/alerts/{id}", tag = "Deception alerts",
    params(("id" = Uuid, Path, description = "Alert")),
    responses(
        (status = 200, description = "The alert", body = Alert),
        (status = 404, response = NotFound),
    ))]
async fn get_alert(State(gateway): State<Gateway>, caller: Caller, id: Id) -> Result<Answer, Problem> {
    let request = caller.ctx().outgoing(GetAlertRequest { id: id.to_string() });
    let answer = gateway.deps.alerts.clone().get_alert(request).await?.into_inner();
    Answer::entity(0, &Alert::from(answer.alert.ok_or_else(Problem::empty)?))
}
