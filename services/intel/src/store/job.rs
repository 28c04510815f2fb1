//! Syncs: claimed, kept alive, ended, read.

use aegis_db::{Db, Result, Tx, on, read};
use chrono::{DateTime, TimeDelta, Utc};
use serde::{Deserialize, Serialize};
use sqlx::types::Json;
use uuid::Uuid;

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
}

/// A record that was skipped.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SkippedRecord {
    /// What the publisher calls it.
    pub id: String,
    /// Why.
    pub reason: String,
}

/// Whether a job whose last sign of life was then has lost its process.
pub(crate) fn is_dead(heartbeat_at: DateTime<Utc>, now: DateTime<Utc>) -> bool {
    now - heartbeat_at > DEAD_AFTER
}

macro_rules! columns {
    () => {
        "id, source_id, source_name, status, phase, percentage, counts, error, skipped, started_by, started_at, \
         finished_at, heartbeat_at"
    };
}

/// Writes a new job. False when another of its source runs.
pub(crate) async fn insert(tx: &mut Tx, job: &Job) -> Result<bool> {
    let sql = concat!(
        "INSERT INTO sync_job (",
        columns!(),
        ") VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13) ON CONFLICT DO NOTHING"
    );
    let rows = on!(tx, |c| sqlx::query(sql)
        .bind(job.id)
        .bind(job.source_id)
        .bind(&job.source_name)
        .bind(&job.status)
        .bind(&job.phase)
        .bind(job.percentage)
        .bind(job.counts)
        .bind(&job.error)
        .bind(&job.skipped)
        .bind(&job.started_by)
        .bind(job.started_at)
        .bind(job.finished_at)
        .bind(job.heartbeat_at)
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
               finished_at = $8, heartbeat_at = $9 WHERE id = $1 AND status = 'running'";
    let rows = on!(tx, |c| sqlx::query(sql)
        .bind(job.id)
        .bind(&job.status)
        .bind(&job.phase)
        .bind(job.percentage)
        .bind(job.counts)
        .bind(&job.error)
        .bind(&job.skipped)
        .bind(job.finished_at)
        .bind(job.heartbeat_at)
        .execute(c)
        .await
        .map(|done| done.rows_affected()))?;
    Ok(rows == 1)
}

/// Deletes the jobs of a source that ended before `before`.
pub(crate) async fn purge(tx: &mut Tx, source_id: Uuid, before: DateTime<Utc>) -> Result<()> {
    let sql = "DELETE FROM sync_job WHERE source_id = $1 AND finished_at < $2";
    on!(tx, |c| sqlx::query(sql).bind(source_id).bind(before).execute(c).await.map(|_| ()))?;
    Ok(())
}
