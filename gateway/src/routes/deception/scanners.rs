//! Who may scan decoys without an alert.

use aegis_error::Fields;
use aegis_proto::deception::v1::{
    self as proto, CreateApprovedScannerRequest, DeleteApprovedScannerRequest, GetApprovedScannerRequest,
    ListApprovedScannersRequest,
};
use axum::extract::State;
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{
    answer::Answer,
    error::Problem,
    extract::{Caller, Id, Json, Query, page},
    openapi::responses::{Conflict, NotFound},
    state::Gateway,
    values::{Moment, filled, time, time_always},
};

/// Ports that one scanner may name.
const MAX_PORTS: usize = 1000;

/// Routes that need a token.
pub fn protected() -> OpenApiRouter<Gateway> {
    OpenApiRouter::new()
        .routes(routes!(list_approved_scanners, create_approved_scanner))
        .routes(routes!(get_approved_scanner, delete_approved_scanner))
}

/// Somebody who may scan decoys without an alert.
#[derive(Serialize, ToSchema)]
#[schema(example = json!({
    "id": "0190b7a2-a000-7c4d-b222-2d3e4f5a6f01", "name": "Weekly vulnerability scan", "network": "10.1.2.0/24",
    "ports": [], "starts_at": "2024-01-01T00:00:00Z", "ends_at": null, "created_by": "admin",
    "created_at": "2024-01-01T00:00:00Z"
}))]
pub struct ApprovedScanner {
    #[schema(value_type = Uuid)]
    id: String,
    name: String,
    /// An address or a network.
    network: String,
    /// Source ports; none means all.
    ports: Vec<u32>,
    /// From when on; null for always.
    starts_at: Option<DateTime<Utc>>,
    /// Until when; null for ever.
    ends_at: Option<DateTime<Utc>>,
    /// Who approved it.
    created_by: Option<String>,
    created_at: DateTime<Utc>,
}

impl From<proto::ApprovedScanner> for ApprovedScanner {
    fn from(scanner: proto::ApprovedScanner) -> ApprovedScanner {
        ApprovedScanner {
            id: scanner.id,
            name: scanner.name,
            network: scanner.network,
            ports: scanner.ports,
            starts_at: time(scanner.starts_at),
            ends_at: time(scanner.ends_at),
            created_by: filled(scanner.created_by),
            created_at: time_always(scanner.created_at),
        }
    }
}

/// A scanner to be approved.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({
    "name": "Weekly vulnerability scan", "network": "10.1.2.0/24", "ends_at": "2024-12-31T00:00:00Z"
}))]
pub struct NewApprovedScanner {
    #[schema(min_length = 1, max_length = 200)]
    name: String,
    /// An address or a network, such as `10.1.2.0/24`.
    network: String,
    /// Source ports; none means all.
    #[serde(default)]
    #[schema(value_type = Option<Vec<u16>>, max_items = 1000)]
    ports: Option<Vec<u32>>,
    /// From when on; at once without.
    #[serde(default)]
    #[schema(value_type = Option<DateTime<Utc>>)]
    starts_at: Option<Moment>,
    /// Until when; for ever without.
    #[serde(default)]
    #[schema(value_type = Option<DateTime<Utc>>)]
    ends_at: Option<Moment>,
}

/// Part of a list.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct ListApprovedScanners {
    /// Rows at most.
    #[param(minimum = 1, maximum = 5000, default = 1000)]
    limit: Option<u32>,
    /// Rows to leave out before.
    #[param(minimum = 0, maximum = 2147483647, default = 0)]
    offset: Option<u32>,
}

/// List approved scanners
///
/// By name, also those whose time is over.
#[utoipa::path(get, path = "/api/v1/approved-scanners", tag = "Deception alerts", params(ListApprovedScanners),
    responses((status = 200, description = "Approved scanners", body = [ApprovedScanner])))]
async fn list_approved_scanners(
    State(gateway): State<Gateway>,
    caller: Caller,
    Query(query): Query<ListApprovedScanners>,
) -> Result<Answer, Problem> {
    let (page_size, skip) = page(query.limit, query.offset, 1000, 5000)?;
    let request = ListApprovedScannersRequest { page_size, page_token: String::new(), skip };
    let request = caller.ctx().outgoing(request);
    let answer = gateway.deps.alerts.clone().list_approved_scanners(request).await?.into_inner();
    let rows: Vec<ApprovedScanner> = answer.scanners.into_iter().map(ApprovedScanner::from).collect();
    Answer::list(&rows, answer.total_size)
}

/// Read an approved scanner
#[utoipa::path(get, path = "/api/v1/approved-scanners/{id}", tag = "Deception alerts",
    params(("id" = Uuid, Path, description = "Approved scanner")),
    responses(
        (status = 200, description = "The approved scanner", body = ApprovedScanner),
        (status = 404, response = NotFound),
    ))]
async fn get_approved_scanner(State(gateway): State<Gateway>, caller: Caller, id: Id) -> Result<Answer, Problem> {
    let request = caller.ctx().outgoing(GetApprovedScannerRequest { id: id.to_string() });
    let answer = gateway.deps.alerts.clone().get_approved_scanner(request).await?.into_inner();
    let scanner = answer.scanner.ok_or_else(Problem::empty)?;
    Answer::entity(scanner.version, &ApprovedScanner::from(scanner))
}

/// Approve a scanner
///
/// Administrators only. What comes from that network, from those ports and in that time is recorded as ever, and raises
/// no alert.
#[utoipa::path(post, path = "/api/v1/approved-scanners", tag = "Deception alerts", request_body = NewApprovedScanner,
    extensions(("x-roles" = json!(["admin"]))),
    responses(
        (status = 201, description = "Approved", body = ApprovedScanner),
        (status = 409, response = Conflict),
    ))]
async fn create_approved_scanner(
    State(gateway): State<Gateway>,
    caller: Caller,
    Json(body): Json<NewApprovedScanner>,
) -> Result<Answer, Problem> {
    let ports = body.ports.unwrap_or_default();
    let mut fields = Fields::default();
    fields.check(ports.len() <= MAX_PORTS, "ports", &format!("must have at most {MAX_PORTS} entries"));
    fields.finish()?;
    let request = CreateApprovedScannerRequest {
        name: body.name,
        network: body.network,
        ports,
        starts_at: body.starts_at.map(Into::into),
        ends_at: body.ends_at.map(Into::into),
    };
    let request = caller.ctx().outgoing(request);
    let answer = gateway.deps.alerts.clone().create_approved_scanner(request).await?.into_inner();
    let scanner = answer.scanner.ok_or_else(Problem::empty)?;
    let (version, scanner) = (scanner.version, ApprovedScanner::from(scanner));
    Ok(Answer::created(&format!("/api/v1/approved-scanners/{}", scanner.id), &scanner)?.versioned(version))
}

/// Withdraw the approval of a scanner
///
/// Administrators only.
#[utoipa::path(delete, path = "/api/v1/approved-scanners/{id}", tag = "Deception alerts",
    params(("id" = Uuid, Path, description = "Approved scanner")),
    extensions(("x-roles" = json!(["admin"]))),
    responses(
        (status = 204, description = "Withdrawn"),
        (status = 404, response = NotFound),
    ))]
async fn delete_approved_scanner(State(gateway): State<Gateway>, caller: Caller, id: Id) -> Result<Answer, Problem> {
    let request = caller.ctx().outgoing(DeleteApprovedScannerRequest { id: id.to_string() });
    gateway.deps.alerts.clone().delete_approved_scanner(request).await?;
    Ok(Answer::nothing())
}
