//! The audit trail. Administrators only.

use aegis_proto::identity::v1::{
    self as proto, ExportAuditLogsRequest, ListAuditActionsRequest, ListAuditEntityTypesRequest, ListAuditLogsRequest,
    VerifyAuditChainRequest,
};
use axum::{body::Body, extract::State, response::Response};
use chrono::{DateTime, Utc};
use futures::TryStreamExt;
use http::{
    HeaderValue,
    header::{CONTENT_DISPOSITION, CONTENT_TYPE},
};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::{router::OpenApiRouter, routes};
use uuid::Uuid;

use crate::{
    answer::Answer,
    error::Problem,
    extract::{Caller, Query, page},
    state::Gateway,
    values::{Since, Until, filled, json, time, time_always},
};

/// Routes that need a token.
pub fn protected() -> OpenApiRouter<Gateway> {
    OpenApiRouter::new()
        .routes(routes!(list_audit_logs))
        .routes(routes!(list_audit_actions))
        .routes(routes!(list_audit_entity_types))
        .routes(routes!(verify_audit_chain))
        .routes(routes!(export_audit_logs))
}

/// One record of the audit trail.
#[derive(Serialize, ToSchema)]
#[schema(example = json!({
    "id": "0190b7a2-a000-7c4d-b222-2d3e4f5a6b01", "seq": 42, "user_id": "0190b7a2-5f00-7c3e-9d2a-3f6d1c0e8a99",
    "username": "admin", "action": "create_technique", "entity_type": "technique",
    "entity_id": "0190b7a2-5f00-7c3e-9d2a-3f6d1c0e8a11", "timestamp": "2024-01-01T00:00:00Z",
    "details": {"mitre_id": "T1059"}, "success": true, "address": "192.0.2.7", "user_agent": "curl/8.5.0",
    "request_id": "0190b7a2a0007c4db2222d3e4f5a6b02", "source": "catalog",
    "prev_hash": "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
    "hash": "60303ae22b998861bce3b28f33eec1be758a213c86c93c076dbe9f558c11c752"
}))]
pub struct AuditLog {
    #[schema(value_type = Uuid)]
    id: String,
    /// Position in the chain, from 1.
    seq: i64,
    /// Null for nobody (a failed login) and for the product itself.
    #[schema(value_type = Option<Uuid>)]
    user_id: Option<String>,
    username: Option<String>,
    action: String,
    entity_type: Option<String>,
    entity_id: Option<String>,
    timestamp: DateTime<Utc>,
    /// What happened, with `before` and `after` of the changed fields; secrets left out.
    #[schema(value_type = Object)]
    details: serde_json::Value,
    /// False for a refusal or a failed login.
    success: bool,
    /// Client address.
    address: Option<String>,
    user_agent: Option<String>,
    request_id: Option<String>,
    /// The service that wrote it.
    source: String,
    /// Lower-case hex of SHA-256.
    prev_hash: String,
    /// Lower-case hex of SHA-256 over this record and `prev_hash`.
    hash: String,
}

impl From<proto::AuditLog> for AuditLog {
    fn from(log: proto::AuditLog) -> AuditLog {
        AuditLog {
            id: log.id,
            seq: log.seq,
            user_id: filled(log.user_id),
            username: filled(log.username),
            action: log.action,
            entity_type: filled(log.entity_type),
            entity_id: filled(log.entity_id),
            timestamp: time_always(log.timestamp),
            details: json(&log.details_json),
            success: log.success,
            address: filled(log.address),
            user_agent: filled(log.user_agent),
            request_id: filled(log.request_id),
            source: log.source,
            prev_hash: log.prev_hash,
            hash: log.hash,
        }
    }
}

/// One page of the audit trail.
#[derive(Serialize, ToSchema)]
#[schema(example = json!({"items": [{
    "id": "0190b7a2-a000-7c4d-b222-2d3e4f5a6b01", "seq": 42, "user_id": "0190b7a2-5f00-7c3e-9d2a-3f6d1c0e8a99",
    "username": "admin", "action": "create_technique", "entity_type": "technique",
    "entity_id": "0190b7a2-5f00-7c3e-9d2a-3f6d1c0e8a11", "timestamp": "2024-01-01T00:00:00Z",
    "details": {"mitre_id": "T1059"}, "success": true, "address": "192.0.2.7", "user_agent": "curl/8.5.0",
    "request_id": "0190b7a2a0007c4db2222d3e4f5a6b02", "source": "catalog",
    "prev_hash": "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
    "hash": "60303ae22b998861bce3b28f33eec1be758a213c86c93c076dbe9f558c11c752"
}], "total": 100, "offset": 0, "limit": 50}))]
pub struct AuditPage {
    items: Vec<AuditLog>,
    /// All records that fit.
    total: i64,
    offset: i32,
    limit: i32,
}

/// What a walk along the chain found.
#[derive(Serialize, ToSchema)]
#[schema(example = json!({
    "valid": true, "records": 100, "first_broken_seq": null, "reason": null,
    "head": "60303ae22b998861bce3b28f33eec1be758a213c86c93c076dbe9f558c11c752",
    "pruned_through_seq": null, "pruned_through_hash": null, "pruned_at": null
}))]
pub struct Verification {
    /// Every record fits the one before.
    valid: bool,
    /// Records that were looked at.
    records: i64,
    /// Position of the first record that does not fit.
    first_broken_seq: Option<i64>,
    /// What is wrong with it.
    reason: Option<String>,
    /// Hash of the last record that fits. Kept outside of the product, it proves later that nothing before it was
    /// changed.
    head: Option<String>,
    /// Position of the last record that was removed by age; null where all are there.
    pruned_through_seq: Option<i64>,
    /// Its hash: the chain begins here.
    pruned_through_hash: Option<String>,
    /// When records were last removed by age.
    pruned_at: Option<DateTime<Utc>>,
}

/// Filters of the audit trail; all given ones must hold.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct ListAuditLogs {
    user_id: Option<Uuid>,
    #[param(example = "create_technique")]
    action: Option<String>,
    #[param(example = "technique")]
    entity_type: Option<String>,
    /// From this time on: RFC 3339, or a day.
    #[param(value_type = Option<String>, example = "2024-01-01T00:00:00Z")]
    start_date: Option<Since>,
    /// Up to this time: RFC 3339, or a day (to its end).
    #[param(value_type = Option<String>, example = "2024-12-31")]
    end_date: Option<Until>,
    /// Rows to leave out before.
    #[param(minimum = 0, maximum = 2147483647, default = 0)]
    offset: Option<u32>,
    /// Rows at most.
    #[param(minimum = 1, maximum = 100, default = 50)]
    limit: Option<u32>,
}

/// Filters of an export; all given ones must hold.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct ExportAuditLogs {
    user_id: Option<Uuid>,
    #[param(example = "create_technique")]
    action: Option<String>,
    #[param(example = "technique")]
    entity_type: Option<String>,
    /// From this time on: RFC 3339, or a day.
    #[param(value_type = Option<String>, example = "2024-01-01T00:00:00Z")]
    start_date: Option<Since>,
    /// Up to this time: RFC 3339, or a day (to its end).
    #[param(value_type = Option<String>, example = "2024-12-31")]
    end_date: Option<Until>,
}

/// List audit records
///
/// Administrators only. Newest first.
#[utoipa::path(get, path = "/api/v1/audit-logs", tag = "Audit", params(ListAuditLogs),
    extensions(("x-roles" = json!(["admin"]))),
    responses((status = 200, description = "A page of records", body = AuditPage)))]
async fn list_audit_logs(
    State(gateway): State<Gateway>,
    caller: Caller,
    Query(query): Query<ListAuditLogs>,
) -> Result<Answer, Problem> {
    let (limit, offset) = page(query.limit, query.offset, 50, 100)?;
    let request = ListAuditLogsRequest {
        page_size: limit,
        skip: offset,
        page_token: String::new(),
        user_id: query.user_id.map(|id| id.to_string()),
        action: query.action,
        entity_type: query.entity_type,
        start_date: query.start_date.map(|Since(moment)| moment.into()),
        end_date: query.end_date.map(|Until(moment)| moment.into()),
    };
    let answer = gateway.deps.audit.clone().list_audit_logs(caller.ctx().outgoing(request)).await?.into_inner();
    let items = answer.items.into_iter().map(AuditLog::from).collect();
    Answer::json(&AuditPage { items, total: answer.total_size, offset, limit })
}

/// List the actions that were recorded
///
/// Administrators only.
#[utoipa::path(get, path = "/api/v1/audit-logs/actions", tag = "Audit",
    extensions(("x-roles" = json!(["admin"]))),
    responses((status = 200, description = "Actions", body = [String],
        example = json!(["create_technique", "login"]))))]
async fn list_audit_actions(State(gateway): State<Gateway>, caller: Caller) -> Result<Answer, Problem> {
    let request = caller.ctx().outgoing(ListAuditActionsRequest {});
    let answer = gateway.deps.audit.clone().list_audit_actions(request).await?.into_inner();
    Answer::list(&answer.actions, answer.actions.len() as i64)
}

/// List the kinds of entities that were recorded
///
/// Administrators only.
#[utoipa::path(get, path = "/api/v1/audit-logs/entity-types", tag = "Audit",
    extensions(("x-roles" = json!(["admin"]))),
    responses((status = 200, description = "Kinds of entities", body = [String],
        example = json!(["technique", "test", "user"]))))]
async fn list_audit_entity_types(State(gateway): State<Gateway>, caller: Caller) -> Result<Answer, Problem> {
    let request = caller.ctx().outgoing(ListAuditEntityTypesRequest {});
    let answer = gateway.deps.audit.clone().list_audit_entity_types(request).await?.into_inner();
    Answer::list(&answer.entity_types, answer.entity_types.len() as i64)
}

/// Verify the audit trail
///
/// Administrators only. Walks the whole chain of hashes and names the first break. Where old records were removed by
/// age, the chain begins at the last of them, if the newest `prune_audit_log` record says the same.
#[utoipa::path(get, path = "/api/v1/audit-logs/verify", tag = "Audit",
    extensions(("x-roles" = json!(["admin"]))),
    responses((status = 200, description = "What was found", body = Verification)))]
async fn verify_audit_chain(State(gateway): State<Gateway>, caller: Caller) -> Result<Answer, Problem> {
    let request = caller.ctx().outgoing(VerifyAuditChainRequest {});
    let answer = gateway.deps.audit.clone().verify_audit_chain(request).await?.into_inner();
    Answer::json(&Verification {
        valid: answer.valid,
        records: answer.records,
        first_broken_seq: Some(answer.first_broken_seq).filter(|seq| *seq > 0),
        reason: filled(answer.reason),
        head: filled(answer.head),
        pruned_through_seq: Some(answer.pruned_through_seq).filter(|seq| *seq > 0),
        pruned_through_hash: filled(answer.pruned_through_hash),
        pruned_at: time(answer.pruned_at),
    })
}

/// Export the audit trail
///
/// Administrators only. JSON Lines: one record a line with the fields of the list, oldest first, up to the newest of
/// this moment. `details` is byte for byte what was hashed, and each line has `hash` and `prev_hash`:
/// `aegis audit verify --file` checks the file by itself. An export is itself a record (`export_audit_log`).
/// The answer has no length; a connection that breaks before its end is not a whole export.
#[utoipa::path(get, path = "/api/v1/audit-logs/export", tag = "Audit", params(ExportAuditLogs),
    extensions(("x-roles" = json!(["admin"]))),
    responses((status = 200, description = "The records", body = String, content_type = "application/x-ndjson",
        headers(("Content-Disposition" = String, description = "attachment, with the file's name")),
        example = json!("{\"seq\":42,\"action\":\"create_technique\",\"prev_hash\":\"…\",\"hash\":\"…\"}\n"))))]
async fn export_audit_logs(
    State(gateway): State<Gateway>,
    caller: Caller,
    Query(query): Query<ExportAuditLogs>,
) -> Result<Response, Problem> {
    let request = ExportAuditLogsRequest {
        user_id: query.user_id.map(|id| id.to_string()),
        action: query.action,
        entity_type: query.entity_type,
        start_date: query.start_date.map(|Since(moment)| moment.into()),
        end_date: query.end_date.map(|Until(moment)| moment.into()),
    };
    // The deadline is for the head of the answer; the lines come as fast as they are read.
    let parts = gateway.deps.audit.clone().export_audit_logs(caller.ctx().outgoing(request)).await?.into_inner();
    // An error ends the connection, so that the client does not take a part for the whole.
    let lines = parts.map_ok(|part| part.lines).map_err(std::io::Error::other);
    let mut response = Response::new(Body::from_stream(lines));
    let name = format!("attachment; filename=\"aegis-audit-{}.jsonl\"", Utc::now().format("%Y%m%dT%H%M%SZ"));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/x-ndjson"));
    headers.insert(CONTENT_DISPOSITION, HeaderValue::from_str(&name).unwrap_or(HeaderValue::from_static("attachment")));
    Ok(response)
}
