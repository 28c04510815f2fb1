//! Syncs: claimed, kept alive, ended, read.

use aegis_db::{Db, Result, Tx, on, read};
use chrono::{DateTime, TimeDelta, Utc};
use serde::{Deserialize, Serialize};
use sqlx::types::Json;
use uuid::Uuid;

use super::dialect;
use crate::domain::counts::Counts;

/// A running job that gave no sign of life for this long has lost its process.
pub(crate) const DEAD_AFTER: TimeDelta = TimeDelta::seconds(20);

/// The status of a job that runs.
pub(crate) const RUNNING: &str = "running";
/// The status of a job that brought its document in.
pub(crate) const SUCCEEDED: &str = "succeeded";
/// The status of a job that changed nothing.
pub(crate) const FAILED: &str = "failed";

/// A sync as it is stored.
#[derive(Debug, Clone, sqlx::FromRow)]
pub(crate) struct Job {
    pub id: Uuid,
    pub source_id: Uuid,
    pub source_name: String,
    pub status: String,
    pub phase: String,
    pub percentage: f64,
    pub counts: Option<Json<Counts>>,
    pub error: Option<String>,
    pub skipped: Json<Vec<SkippedRecord>>,
    pub started_by: String,
    pub started_at: DateTime<Utc>,
    pub finished_at: Option<DateTime<Utc>>,
    pub heartbeat_at: DateTime<Utc>,
    /// It changes nothing.
    pub dry_run: bool,
    pub changes: Json<Vec<Change>>,
}

/// A record that was skipped.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SkippedRecord {
    /// What the publisher calls it.
    pub id: String,
    /// Why.
    pub reason: String,
}

/// What becomes of a technique.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Change {
    /// Such as `T1059.001`.
    pub mitre_id: String,
    /// Its name in the document, else here.
    pub name: String,
    /// `new`, `changed`, `revoked`, `deprecated` or `vanished`.
    pub change: String,
    /// Its successor.
    pub revoked_by: Option<String>,
    /// Its id here; empty where it is new.
    pub technique_id: String,
    /// Tests of it.
    pub tests: i64,
    /// Templates for it.
    pub templates: i64,
}

/// Whether a job whose last sign of life was then has lost its process.
pub(crate) fn is_dead(heartbeat_at: DateTime<Utc>, now: DateTime<Utc>) -> bool {
    now - heartbeat_at > DEAD_AFTER
}

macro_rules! columns {
    () => {
        "id, source_id, source_name, status, phase, percentage, counts, error, skipped, started_by, started_at, \
         finished_at, heartbeat_at, dry_run, changes"
    };
}

/// Writes a new job. False when another of its source runs.
pub(crate) async fn insert(tx: &mut Tx, job: &Job) -> Result<bool> {
    let sql = concat!(
        "INSERT INTO sync_job (",
        columns!(),
        ") VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15) ON CONFLICT DO NOTHING"
    );
    let rows = on!(tx, |c| sqlx::query(sql)
        .bind(job.id)
        .bind(job.source_id)
        .bind(&job.source_name)
        .bind(&job.status)
        .bind(&job.phase)
        .bind(job.percentage)
        .bind(&job.counts)
        .bind(&job.error)
        .bind(&job.skipped)
        .bind(&job.started_by)
        .bind(job.started_at)
        .bind(job.finished_at)
        .bind(job.heartbeat_at)
        .bind(job.dry_run)
        .bind(&job.changes)
        .execute(c)
        .await
        .map(|done| done.rows_affected()))?;
    Ok(rows == 1)
}

/// The job of a source that runs.
pub(crate) async fn running(tx: &mut Tx, source_id: Uuid) -> Result<Option<Job>> {
    let sql = concat!("SELECT ", columns!(), " FROM sync_job WHERE source_id = $1 AND status = 'running'");
    Ok(on!(tx, |c| sqlx::query_as(sql).bind(source_id).fetch_optional(c).await)?)
}

/// One job.
pub(crate) async fn get(db: &Db, id: Uuid) -> Result<Option<Job>> {
    let sql = concat!("SELECT ", columns!(), " FROM sync_job WHERE id = $1");
    Ok(read!(db, |pool| sqlx::query_as(sql).bind(id).fetch_optional(pool).await)?)
}

/// Whether a job still runs; it goes on to for as long as this transaction does.
pub(crate) async fn holds(tx: &mut Tx, id: Uuid) -> Result<bool> {
    let sql = dialect::locking(
        tx,
        "SELECT id FROM sync_job WHERE id = $1 AND status = 'running'",
        "SELECT id FROM sync_job WHERE id = $1 AND status = 'running' FOR UPDATE",
    );
    let found: Option<Uuid> = on!(tx, |c| sqlx::query_scalar(sql).bind(id).fetch_optional(c).await)?;
    Ok(found.is_some())
}

/// Writes how far a job is and that it lives. False when it no longer runs.
pub(crate) async fn beat(tx: &mut Tx, id: Uuid, phase: &str, percentage: f64, at: DateTime<Utc>) -> Result<bool> {
    let sql = "UPDATE sync_job SET phase = $2, percentage = $3, heartbeat_at = $4 \
               WHERE id = $1 AND status = 'running'";
    let rows = on!(tx, |c| sqlx::query(sql)
        .bind(id)
        .bind(phase)
        .bind(percentage)
        .bind(at)
        .execute(c)
        .await
        .map(|done| done.rows_affected()))?;
    Ok(rows == 1)
}

/// Writes the end of a job. False when it no longer runs.
pub(crate) async fn finish(tx: &mut Tx, job: &Job) -> Result<bool> {
    let sql = "UPDATE sync_job SET status = $2, phase = $3, percentage = $4, counts = $5, error = $6, skipped = $7, \
               finished_at = $8, heartbeat_at = $9, changes = $10 WHERE id = $1 AND status = 'running'";
    let rows = on!(tx, |c| sqlx::query(sql)
        .bind(job.id)
        .bind(&job.status)
        .bind(&job.phase)
        .bind(job.percentage)
        .bind(&job.counts)
        .bind(&job.error)
        .bind(&job.skipped)
        .bind(job.finished_at)
        .bind(job.heartbeat_at)
        .bind(&job.changes)
        .execute(c)
        .await
        .map(|done| done.rows_affected()))?;
    Ok(rows == 1)
}

/// How many there are, of one source or of all.
pub(crate) async fn count(db: &Db, source_id: Option<Uuid>) -> Result<i64> {
    let found = match source_id {
        Some(id) => {
            let sql = "SELECT COUNT(*) FROM sync_job WHERE source_id = $1";
            read!(db, |pool| sqlx::query_scalar(sql).bind(id).fetch_one(pool).await)
        }
        None => {
            let sql = "SELECT COUNT(*) FROM sync_job";
            read!(db, |pool| sqlx::query_scalar(sql).fetch_one(pool).await)
        }
    };
    Ok(found?)
}

/// A page of them, the newest first.
pub(crate) async fn list(db: &Db, source_id: Option<Uuid>, limit: i64, offset: i64) -> Result<Vec<Job>> {
    let found = match source_id {
        Some(id) => {
            let sql = concat!(
                "SELECT ",
                columns!(),
                " FROM sync_job WHERE source_id = $3 ORDER BY started_at DESC, id DESC LIMIT $1 OFFSET $2"
            );
            read!(db, |pool| sqlx::query_as(sql).bind(limit).bind(offset).bind(id).fetch_all(pool).await)
        }
        None => {
            let sql =
                concat!("SELECT ", columns!(), " FROM sync_job ORDER BY started_at DESC, id DESC LIMIT $1 OFFSET $2");
            read!(db, |pool| sqlx::query_as(sql).bind(limit).bind(offset).fetch_all(pool).await)
        }
    };
    Ok(found?)
}

/// Deletes the jobs of a source that ended before `before`.
pub(crate) async fn purge(tx: &mut Tx, source_id: Uuid, before: DateTime<Utc>) -> Result<()> {
    let sql = "DELETE FROM sync_job WHERE source_id = $1 AND finished_at < $2";
    on!(tx, |c| sqlx::query(sql).bind(source_id).bind(before).execute(c).await.map(|_| ()))?;
    Ok(())
}
