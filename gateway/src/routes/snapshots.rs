//! Coverage as it was.

use std::collections::BTreeMap;

use aegis_proto::analytics::v1::{
    self as proto, CompareSnapshotsRequest, CreateSnapshotRequest, DeleteSnapshotRequest, GetSnapshotRequest,
    ListSnapshotsRequest,
};
use axum::extract::State;
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::{
    router::{OpenApiRouter, UtoipaMethodRouterExt},
    routes,
};
use uuid::Uuid;

use super::{metrics::Summary, scores::Weights};
use crate::{
    answer::Answer,
    error::Problem,
    extract::{Caller, Id, OptionalJson, Query, page},
    middleware::compression,
    openapi::responses::{Conflict, NotFound},
    state::Gateway,
    values::{Domain, SnapshotKind, TechniqueStatus, filled, time, time_always},
};

/// Routes that need a token.
pub fn protected() -> OpenApiRouter<Gateway> {
    OpenApiRouter::new()
        .routes(routes!(list_snapshots))
        .routes(routes!(create_snapshot))
        .routes(routes!(compare_snapshots).layer(compression()))
        .routes(routes!(get_snapshot).layer(compression()))
        .routes(routes!(delete_snapshot))
}

/// A snapshot never changes, so that all have the same version.
const VERSION: i64 = 0;

/// Coverage at a moment.
#[derive(Serialize, ToSchema)]
#[schema(example = json!({
    "id": "0190b7a2-b000-7c3e-9d2a-3f6d1c0e8a77", "name": "Before the audit", "description": null, "kind": "manual",
    "created_by": "0190b7a2-5f00-7c3e-9d2a-3f6d1c0e8a99", "created_by_username": "ana",
    "created_at": "2024-01-01T00:00:00Z", "total_techniques": 200, "validated": 50, "partial": 20, "not_covered": 30,
    "in_progress": 10, "not_evaluated": 90, "coverage_percentage": 35.0, "score": 23.4,
    "weights": {"tests": 40.0, "detection_rules": 20.0, "d3fend": 15.0, "freshness": 15.0, "platform_diversity": 10.0},
    "attack_versions": {"enterprise": "16.1"}
}))]
pub struct Snapshot {
    #[schema(value_type = Uuid)]
    id: String,
    name: String,
    description: Option<String>,
    #[schema(value_type = SnapshotKind)]
    kind: String,
    /// Null for a scheduled one.
    #[schema(value_type = Option<Uuid>)]
    created_by: Option<String>,
    created_by_username: Option<String>,
    created_at: DateTime<Utc>,
    #[serde(flatten)]
    summary: Summary,
    /// Of the organisation; null for an empty catalogue.
    score: Option<f64>,
    /// That the scores were reckoned with.
    weights: Option<Weights>,
    /// Of each domain the newest release of ATT&CK among its techniques.
    attack_versions: BTreeMap<String, String>,
}

/// A snapshot with all techniques.
#[derive(Serialize, ToSchema)]
#[schema(example = json!({
    "id": "0190b7a2-b000-7c3e-9d2a-3f6d1c0e8a77", "name": "Before the audit", "description": null, "kind": "manual",
    "created_by": "0190b7a2-5f00-7c3e-9d2a-3f6d1c0e8a99", "created_by_username": "ana",
    "created_at": "2024-01-01T00:00:00Z", "total_techniques": 1, "validated": 0, "partial": 1, "not_covered": 0,
    "in_progress": 0, "not_evaluated": 0, "coverage_percentage": 100.0, "score": 52.0,
    "weights": {"tests": 40.0, "detection_rules": 20.0, "d3fend": 15.0, "freshness": 15.0, "platform_diversity": 10.0},
    "attack_versions": {"enterprise": "16.1"},
    "techniques": [{
        "technique_id": "0190b7a2-5f00-7c3e-9d2a-3f6d1c0e8a11", "mitre_id": "T1059.001", "name": "PowerShell",
        "domain": "enterprise", "tactics": ["execution"], "status": "partial", "score": 52.0
    }]
}))]
pub struct SnapshotDetail {
    #[serde(flatten)]
    snapshot: Snapshot,
    /// By ATT&CK id.
    techniques: Vec<SnapshotTechnique>,
}

/// A technique as it was.
#[derive(Serialize, ToSchema)]
pub struct SnapshotTechnique {
    #[schema(value_type = Uuid)]
    technique_id: String,
    mitre_id: String,
    name: String,
    #[schema(value_type = Domain)]
    domain: String,
    tactics: Vec<String>,
    #[schema(value_type = TechniqueStatus)]
    status: String,
    /// 0 to 100, one decimal.
    score: f64,
}

/// What is different between two snapshots.
#[derive(Serialize, ToSchema)]
#[schema(example = example)]
pub struct Comparison {
    a: Snapshot,
    b: Snapshot,
    /// By status, and by score where the status is the same.
    improved: Vec<TechniqueChange>,
    worsened: Vec<TechniqueChange>,
    /// Not there in `a`.
    added: Vec<TechniqueChange>,
    /// Not there in `b`, without a successor.
    removed: Vec<TechniqueChange>,
    /// Revoked since `a`: `previous_mitre_id` is the old one, `mitre_id` its successor.
    remapped: Vec<TechniqueChange>,
    /// Techniques that are the same in both.
    unchanged: i64,
    /// b − a; null where one of them has no score.
    score_change: Option<f64>,
    /// b − a, percentage points.
    coverage_change: f64,
}

/// A technique in two snapshots.
#[derive(Serialize, ToSchema)]
pub struct TechniqueChange {
    mitre_id: String,
    name: String,
    #[schema(value_type = Domain)]
    domain: String,
    /// Null where it was not there.
    #[schema(value_type = Option<TechniqueStatus>)]
    status_a: Option<String>,
    score_a: Option<f64>,
    #[schema(value_type = Option<TechniqueStatus>)]
    status_b: Option<String>,
    score_b: Option<f64>,
    /// Of a remapped one: its ATT&CK id in `a`.
    previous_mitre_id: Option<String>,
}

impl From<proto::Snapshot> for Snapshot {
    fn from(snapshot: proto::Snapshot) -> Snapshot {
        Snapshot {
            id: snapshot.id,
            name: snapshot.name,
            description: snapshot.description,
            kind: snapshot.kind,
            created_by: filled(snapshot.created_by),
            created_by_username: filled(snapshot.created_by_username),
            created_at: time_always(snapshot.created_at),
            summary: Summary::new(snapshot.coverage, snapshot.coverage_percentage),
            score: snapshot.score,
            weights: snapshot.weights.map(Weights::from),
            attack_versions: snapshot.attack_versions.into_iter().collect(),
        }
    }
}

impl From<proto::TechniqueChange> for TechniqueChange {
    fn from(change: proto::TechniqueChange) -> TechniqueChange {
        TechniqueChange {
            mitre_id: change.mitre_id,
            name: change.name,
            domain: change.domain,
            status_a: change.status_a,
            score_a: change.score_a,
            status_b: change.status_b,
            score_b: change.score_b,
            previous_mitre_id: change.previous_mitre_id,
        }
    }
}

impl Comparison {
    fn new(answer: proto::CompareSnapshotsResponse) -> Option<Comparison> {
        let changes = |list: Vec<proto::TechniqueChange>| list.into_iter().map(TechniqueChange::from).collect();
        Some(Comparison {
            a: answer.a?.into(),
            b: answer.b?.into(),
            improved: changes(answer.improved),
            worsened: changes(answer.worsened),
            added: changes(answer.added),
            removed: changes(answer.removed),
            remapped: changes(answer.remapped),
            unchanged: answer.unchanged,
            score_change: answer.score_change,
            coverage_change: answer.coverage_change,
        })
    }
}

fn example() -> serde_json::Value {
    let snapshot = |validated: i64, percentage: f64| proto::Snapshot {
        id: "0190b7a2-b000-7c3e-9d2a-3f6d1c0e8a77".into(),
        name: "Before the audit".into(),
        kind: "manual".into(),
        created_at: Some(prost_types::Timestamp { seconds: 1_704_067_200, nanos: 0 }),
        coverage: Some(proto::Coverage { total: 2, validated, not_covered: 2 - validated, ..Default::default() }),
        coverage_percentage: percentage,
        score: Some(percentage),
        ..proto::Snapshot::default()
    };
    let improved = proto::TechniqueChange {
        mitre_id: "T1059.001".into(),
        name: "PowerShell".into(),
        domain: "enterprise".into(),
        status_a: Some("not_covered".into()),
        score_a: Some(20.0),
        status_b: Some("validated".into()),
        score_b: Some(85.0),
        previous_mitre_id: None,
    };
    let answer = proto::CompareSnapshotsResponse {
        a: Some(snapshot(0, 0.0)),
        b: Some(snapshot(1, 50.0)),
        improved: vec![improved],
        unchanged: 1,
        score_change: Some(50.0),
        coverage_change: 50.0,
        ..proto::CompareSnapshotsResponse::default()
    };
    Comparison::new(answer).and_then(|example| serde_json::to_value(example).ok()).unwrap_or_default()
}

/// A new snapshot.
#[derive(Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"name": "Before the audit", "description": "Asked for by the auditors"}))]
pub struct NewSnapshot {
    /// One made of the day if absent.
    #[serde(default)]
    #[schema(max_length = 200)]
    name: Option<String>,
    #[serde(default)]
    description: Option<String>,
}

/// Part of the list of snapshots.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct ListSnapshots {
    /// Rows at most.
    #[param(minimum = 1, maximum = 200, default = 50)]
    limit: Option<u32>,
    /// Rows to leave out before.
    #[param(minimum = 0, maximum = 2147483647, default = 0)]
    offset: Option<u32>,
}

/// Which two.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct TwoSnapshots {
    /// A snapshot, the older one as a rule.
    a: Uuid,
    /// Another.
    b: Uuid,
}

/// List snapshots
///
/// Newest first, without their techniques; `X-Total-Count` has the number of all. Scheduled ones are taken once a week,
/// and the oldest of them removed where there are more than are kept; those that people took stay.
#[utoipa::path(get, path = "/api/v1/snapshots", tag = "Coverage snapshots", params(ListSnapshots),
    responses((status = 200, description = "Snapshots", body = [Snapshot],
        headers(("X-As-Of" = String, description = "When the list was read")))))]
async fn list_snapshots(
    State(gateway): State<Gateway>,
    caller: Caller,
    Query(query): Query<ListSnapshots>,
) -> Result<Answer, Problem> {
    let (page_size, skip) = page(query.limit, query.offset, 50, 200)?;
    let request = ListSnapshotsRequest { page_size, skip, page_token: String::new() };
    let answer = gateway.deps.snapshots.clone().list_snapshots(caller.ctx().outgoing(request)).await?.into_inner();
    let snapshots: Vec<Snapshot> = answer.snapshots.into_iter().map(Snapshot::from).collect();
    Ok(Answer::list(&snapshots, answer.total_size)?.dated(Some(Utc::now())))
}

/// Take a snapshot
///
/// Everyone but viewers. Keeps status, score, ATT&CK version and weights of every technique, and adds a point to the score
/// history. The body may be left out.
#[utoipa::path(post, path = "/api/v1/snapshots", tag = "Coverage snapshots", request_body = Option<NewSnapshot>,
    extensions(("x-roles" = json!(["admin", "red_tech", "blue_tech", "red_lead", "blue_lead"]))),
    responses((status = 201, description = "Taken", body = Snapshot,
        headers(("X-As-Of" = String, description = "When it was taken")))))]
async fn create_snapshot(
    State(gateway): State<Gateway>,
    caller: Caller,
    OptionalJson(body): OptionalJson<NewSnapshot>,
) -> Result<Answer, Problem> {
    let request = CreateSnapshotRequest { name: body.name.unwrap_or_default(), description: body.description };
    let answer = gateway.deps.snapshots.clone().create_snapshot(caller.ctx().outgoing(request)).await?.into_inner();
    let snapshot = answer.snapshot.ok_or_else(Problem::empty)?;
    let (location, taken) = (format!("/api/v1/snapshots/{}", snapshot.id), time(snapshot.created_at));
    Ok(Answer::created(&location, &Snapshot::from(snapshot))?.versioned(VERSION).dated(taken))
}

/// Compare two snapshots
///
/// Each technique is in one list: improved and worsened, added, removed, and remapped where ATT&CK has revoked it since
/// and named a successor. With both summaries; `b` is compared with `a`.
#[utoipa::path(get, path = "/api/v1/snapshots/compare", tag = "Coverage snapshots", params(TwoSnapshots),
    responses(
        (status = 200, description = "What is different", body = Comparison,
            headers(("X-As-Of" = String, description = "When the newer one was taken"))),
        (status = 404, response = NotFound),
    ))]
async fn compare_snapshots(
    State(gateway): State<Gateway>,
    caller: Caller,
    Query(query): Query<TwoSnapshots>,
) -> Result<Answer, Problem> {
    let request = CompareSnapshotsRequest { a: query.a.to_string(), b: query.b.to_string() };
    let answer = gateway.deps.snapshots.clone().compare_snapshots(caller.ctx().outgoing(request)).await?.into_inner();
    let comparison = Comparison::new(answer).ok_or_else(Problem::empty)?;
    let newer = comparison.a.created_at.max(comparison.b.created_at);
    Ok(Answer::json(&comparison)?.dated(Some(newer)))
}

/// Read a snapshot
///
/// With status and score of every technique as they were.
#[utoipa::path(get, path = "/api/v1/snapshots/{id}", tag = "Coverage snapshots",
    params(("id" = Uuid, Path, description = "Snapshot")),
    responses(
        (status = 200, description = "The snapshot", body = SnapshotDetail,
            headers(("X-As-Of" = String, description = "When it was taken"))),
        (status = 404, response = NotFound),
    ))]
async fn get_snapshot(State(gateway): State<Gateway>, caller: Caller, id: Id) -> Result<Answer, Problem> {
    let request = caller.ctx().outgoing(GetSnapshotRequest { id: id.to_string() });
    let answer = gateway.deps.snapshots.clone().get_snapshot(request).await?.into_inner();
    let techniques = answer.techniques.into_iter().map(|technique| SnapshotTechnique {
        technique_id: technique.technique_id,
        mitre_id: technique.mitre_id,
        name: technique.name,
        domain: technique.domain,
        tactics: technique.tactics,
        status: technique.status,
        score: technique.score,
    });
    let snapshot = answer.snapshot.ok_or_else(Problem::empty)?;
    let taken = time(snapshot.created_at);
    let detail = SnapshotDetail { snapshot: snapshot.into(), techniques: techniques.collect() };
    Ok(Answer::entity(VERSION, &detail)?.dated(taken))
}

/// Delete a snapshot
///
/// Administrators only. Its point of the score history stays.
#[utoipa::path(delete, path = "/api/v1/snapshots/{id}", tag = "Coverage snapshots",
    params(("id" = Uuid, Path, description = "Snapshot")),
    extensions(("x-roles" = json!(["admin"]))),
    responses(
        (status = 204, description = "Deleted"),
        (status = 404, response = NotFound),
        (status = 409, response = Conflict),
    ))]
async fn delete_snapshot(State(gateway): State<Gateway>, caller: Caller, id: Id) -> Result<Answer, Problem> {
    let request = caller.ctx().outgoing(DeleteSnapshotRequest { id: id.to_string() });
    gateway.deps.snapshots.clone().delete_snapshot(request).await?;
    Ok(Answer::nothing())
}
