//! The SQL of snapshots and of the history of scores.

use std::collections::BTreeMap;

use aegis_db::{Db, Result, Tx, on, read};
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use sqlx::types::Json;
use uuid::Uuid;

use crate::domain::{
    Counts, Status,
    compare::TechniqueState,
    score::{TacticScore, Weights},
};

/// The kind of a snapshot that a person took.
pub(crate) const MANUAL: &str = "manual";
/// The kind of a snapshot that was due.
pub(crate) const SCHEDULED: &str = "scheduled";
/// The kind of a point of the history that was due.
pub(crate) const WEEKLY: &str = "weekly";
/// The kind of a point of the history that a snapshot left.
pub(crate) const SNAPSHOT: &str = "snapshot";

/// A snapshot without its techniques.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Snapshot {
    pub(crate) id: Uuid,
    pub(crate) name: String,
    pub(crate) description: Option<String>,
    pub(crate) kind: String,
    pub(crate) due_at: Option<DateTime<Utc>>,
    pub(crate) created_by: Option<Uuid>,
    pub(crate) created_by_username: String,
    pub(crate) created_at: DateTime<Utc>,
    pub(crate) counts: Counts,
    pub(crate) score: Option<f64>,
    pub(crate) weights: Weights,
    /// By domain.
    pub(crate) attack_versions: BTreeMap<String, String>,
}

#[derive(sqlx::FromRow)]
struct Row {
    id: Uuid,
    name: String,
    description: Option<String>,
    kind: String,
    due_at: Option<DateTime<Utc>>,
    created_by: Option<Uuid>,
    created_by_username: String,
    created_at: DateTime<Utc>,
    total: i64,
    validated: i64,
    partial: i64,
    not_covered: i64,
    in_progress: i64,
    not_evaluated: i64,
    score: Option<f64>,
    weights: Json<[i64; 5]>,
    attack_versions: Json<BTreeMap<String, String>>,
}

impl From<Row> for Snapshot {
    fn from(row: Row) -> Self {
        Snapshot {
            id: row.id,
            name: row.name,
            description: row.description,
            kind: row.kind,
            due_at: row.due_at,
            created_by: row.created_by,
            created_by_username: row.created_by_username,
            created_at: row.created_at,
            counts: Counts {
                total: row.total,
                validated: row.validated,
                partial: row.partial,
                not_covered: row.not_covered,
                in_progress: row.in_progress,
                not_evaluated: row.not_evaluated,
            },
            score: row.score,
            // Only weights were ever written.
            weights: Weights::new(row.weights.0).unwrap_or_default(),
            attack_versions: row.attack_versions.0,
        }
    }
}

/// A technique as a snapshot keeps it.
#[derive(Serialize, Deserialize)]
struct Kept {
    id: Uuid,
    mitre_id: String,
    name: String,
    domain: String,
    tactics: Vec<String>,
    status: String,
    score: f64,
    attack_version: Option<String>,
}

impl From<&TechniqueState> for Kept {
    fn from(state: &TechniqueState) -> Self {
        Kept {
            id: state.id,
            mitre_id: state.mitre_id.clone(),
            name: state.name.clone(),
            domain: state.domain.clone(),
            tactics: state.tactics.clone(),
            status: state.status.as_str().to_owned(),
            score: state.score,
            attack_version: state.attack_version.clone(),
        }
    }
}

impl From<Kept> for TechniqueState {
    fn from(kept: Kept) -> Self {
        TechniqueState {
            id: kept.id,
            mitre_id: kept.mitre_id,
            name: kept.name,
            domain: kept.domain,
            tactics: kept.tactics,
            // Only names of statuses were ever written.
            status: Status::parse(&kept.status).unwrap_or(Status::NotEvaluated),
            score: kept.score,
            attack_version: kept.attack_version,
        }
    }
}

macro_rules! columns {
    () => {
        "s.id, s.name, s.description, s.kind, s.due_at, s.created_by, s.created_by_username, s.created_at, s.total, \
         s.validated, s.partial, s.not_covered, s.in_progress, s.not_evaluated, s.score, s.weights, s.attack_versions"
    };
}

/// A page, the newest first.
pub(crate) async fn list(db: &Db, limit: i64, offset: i64) -> Result<Vec<Snapshot>> {
    let sql =
        concat!("SELECT ", columns!(), " FROM snapshot s ORDER BY s.created_at DESC, s.id DESC LIMIT $1 OFFSET $2");
    let rows: Vec<Row> = read!(db, |pool| sqlx::query_as(sql).bind(limit).bind(offset).fetch_all(pool).await)?;
    Ok(rows.into_iter().map(Snapshot::from).collect())
}

/// How many there are.
pub(crate) async fn count(db: &Db) -> Result<i64> {
    Ok(read!(db, |pool| sqlx::query_scalar("SELECT COUNT(*) FROM snapshot").fetch_one(pool).await)?)
}

/// How many there are of a kind.
pub(crate) async fn count_of(tx: &mut Tx, kind: &str) -> Result<i64> {
    let sql = "SELECT COUNT(*) FROM snapshot WHERE kind = $1";
    Ok(on!(tx, |c| sqlx::query_scalar(sql).bind(kind).fetch_one(c).await)?)
}

/// A snapshot with its techniques, by ATT&CK id.
pub(crate) async fn get(db: &Db, id: Uuid) -> Result<Option<(Snapshot, Vec<TechniqueState>)>> {
    #[derive(sqlx::FromRow)]
    struct Whole {
        #[sqlx(flatten)]
        row: Row,
        techniques: Json<Vec<Kept>>,
    }
    let sql = concat!(
        "SELECT ",
        columns!(),
        ", t.techniques FROM snapshot s JOIN snapshot_state t ON t.snapshot_id = s.id WHERE s.id = $1"
    );
    let whole: Option<Whole> = read!(db, |pool| sqlx::query_as(sql).bind(id).fetch_optional(pool).await)?;
    Ok(whole.map(|whole| (whole.row.into(), whole.techniques.0.into_iter().map(TechniqueState::from).collect())))
}

/// A snapshot without its techniques.
pub(crate) async fn find(tx: &mut Tx, id: Uuid) -> Result<Option<Snapshot>> {
    let sql = concat!("SELECT ", columns!(), " FROM snapshot s WHERE s.id = $1");
    let row: Option<Row> = on!(tx, |c| sqlx::query_as(sql).bind(id).fetch_optional(c).await)?;
    Ok(row.map(Snapshot::from))
}

/// The snapshot of a due moment.
pub(crate) async fn due(tx: &mut Tx, due: DateTime<Utc>) -> Result<Option<Snapshot>> {
    let sql = concat!("SELECT ", columns!(), " FROM snapshot s WHERE s.due_at = $1");
    let row: Option<Row> = on!(tx, |c| sqlx::query_as(sql).bind(due).fetch_optional(c).await)?;
    Ok(row.map(Snapshot::from))
}

/// Writes a snapshot. False when there is one of the same due moment.
pub(crate) async fn insert(tx: &mut Tx, snapshot: &Snapshot, techniques: &[TechniqueState]) -> Result<bool> {
    let sql = "INSERT INTO snapshot (id, name, description, kind, due_at, created_by, created_by_username, created_at, \
               total, validated, partial, not_covered, in_progress, not_evaluated, score, weights, attack_versions) \
               VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17) \
               ON CONFLICT (due_at) DO NOTHING";
    let written = on!(tx, |c| sqlx::query(sql)
        .bind(snapshot.id)
        .bind(&snapshot.name)
        .bind(&snapshot.description)
        .bind(&snapshot.kind)
        .bind(snapshot.due_at)
        .bind(snapshot.created_by)
        .bind(&snapshot.created_by_username)
        .bind(snapshot.created_at)
        .bind(snapshot.counts.total)
        .bind(snapshot.counts.validated)
        .bind(snapshot.counts.partial)
        .bind(snapshot.counts.not_covered)
        .bind(snapshot.counts.in_progress)
        .bind(snapshot.counts.not_evaluated)
        .bind(snapshot.score)
        .bind(Json(snapshot.weights.hundredths()))
        .bind(Json(&snapshot.attack_versions))
        .execute(c)
        .await
        .map(|done| done.rows_affected()))?;
    if written == 0 {
        return Ok(false);
    }
    let kept: Vec<Kept> = techniques.iter().map(Kept::from).collect();
    on!(tx, |c| sqlx::query("INSERT INTO snapshot_state (snapshot_id, techniques) VALUES ($1, $2)")
        .bind(snapshot.id)
        .bind(Json(kept))
        .execute(c)
        .await
        .map(|_| ()))?;
    Ok(true)
}

/// Deletes a snapshot, and the point of the history that only it left.
pub(crate) async fn delete(tx: &mut Tx, id: Uuid) -> Result<bool> {
    on!(tx, |c| sqlx::query("DELETE FROM score_point WHERE snapshot_id = $1 AND kind = 'snapshot'")
        .bind(id)
        .execute(c)
        .await
        .map(|_| ()))?;
    let deleted = on!(tx, |c| sqlx::query("DELETE FROM snapshot WHERE id = $1")
        .bind(id)
        .execute(c)
        .await
        .map(|done| done.rows_affected()))?;
    Ok(deleted == 1)
}

/// Deletes scheduled snapshots but for the newest ones, and answers how many. Their points of the history stay.
pub(crate) async fn keep_newest(tx: &mut Tx, kept: i64) -> Result<i64> {
    let sql = "DELETE FROM snapshot WHERE kind = 'scheduled' AND id NOT IN (SELECT id FROM snapshot \
               WHERE kind = 'scheduled' ORDER BY created_at DESC, id DESC LIMIT $1)";
    let deleted = on!(tx, |c| sqlx::query(sql).bind(kept).execute(c).await.map(|done| done.rows_affected()))?;
    Ok(i64::try_from(deleted).unwrap_or(i64::MAX))
}

/// A point of the history.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Point {
    pub(crate) at: DateTime<Utc>,
    pub(crate) kind: String,
    pub(crate) due_at: Option<DateTime<Utc>>,
    pub(crate) snapshot_id: Option<Uuid>,
    pub(crate) score: Option<f64>,
    pub(crate) coverage_percentage: f64,
    pub(crate) tactics: Vec<TacticScore>,
}

/// A tactic as a point keeps it.
#[derive(Serialize, Deserialize)]
struct KeptTactic {
    tactic: String,
    score: Option<f64>,
    techniques: i64,
}

/// Writes a point, unless there is one of the same due moment.
pub(crate) async fn insert_point(tx: &mut Tx, point: &Point) -> Result<()> {
    let sql = "INSERT INTO score_point (id, at, kind, due_at, snapshot_id, score, coverage_percentage, tactics) \
               VALUES ($1, $2, $3, $4, $5, $6, $7, $8) ON CONFLICT (due_at) DO NOTHING";
    let kept = |tactic: &TacticScore| KeptTactic {
        tactic: tactic.tactic.clone(),
        score: tactic.score,
        techniques: tactic.techniques,
    };
    let tactics: Vec<KeptTactic> = point.tactics.iter().map(kept).collect();
    on!(tx, |c| sqlx::query(sql)
        .bind(Uuid::now_v7())
        .bind(point.at)
        .bind(&point.kind)
        .bind(point.due_at)
        .bind(point.snapshot_id)
        .bind(point.score)
        .bind(point.coverage_percentage)
        .bind(Json(tactics))
        .execute(c)
        .await
        .map(|_| ()))?;
    Ok(())
}

/// The newest points since a moment, at most `limit`, the oldest of them first.
pub(crate) async fn points(db: &Db, since: DateTime<Utc>, limit: i64) -> Result<Vec<Point>> {
    #[derive(sqlx::FromRow)]
    struct PointRow {
        at: DateTime<Utc>,
        kind: String,
        due_at: Option<DateTime<Utc>>,
        snapshot_id: Option<Uuid>,
        score: Option<f64>,
        coverage_percentage: f64,
        tactics: Json<Vec<KeptTactic>>,
    }
    let sql = "SELECT at, kind, due_at, snapshot_id, score, coverage_percentage, tactics FROM score_point \
               WHERE at >= $1 ORDER BY at DESC, id DESC LIMIT $2";
    let rows: Vec<PointRow> = read!(db, |pool| sqlx::query_as(sql).bind(since).bind(limit).fetch_all(pool).await)?;
    let tactic = |kept: KeptTactic| TacticScore { tactic: kept.tactic, score: kept.score, techniques: kept.techniques };
    let point = |row: PointRow| Point {
        at: row.at,
        kind: row.kind,
        due_at: row.due_at,
        snapshot_id: row.snapshot_id,
        score: row.score,
        coverage_percentage: row.coverage_percentage,
        tactics: row.tactics.0.into_iter().map(tactic).collect(),
    };
    Ok(rows.into_iter().rev().map(point).collect())
}
