//! The SQL of the look at the whole store: who looks, and what the last look found. One row, for all replicas.

use aegis_db::{Db, Result, on, read};
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use sqlx::types::Json;
use uuid::Uuid;

/// What a look found.
#[derive(Clone, Debug, Default, PartialEq, Eq, sqlx::FromRow)]
pub(crate) struct Report {
    pub(crate) checked_at: Option<DateTime<Utc>>,
    pub(crate) files: i64,
    pub(crate) bytes: i64,
    pub(crate) collected: i64,
    pub(crate) collected_bytes: i64,
    pub(crate) broken: Json<Vec<Broken>>,
    pub(crate) broken_total: i64,
}

/// A file whose blob is not what its row says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Broken {
    pub(crate) id: Uuid,
    pub(crate) test_id: Uuid,
    pub(crate) file_name: String,
    pub(crate) expected_size: i64,
    /// Nothing where there is no blob.
    pub(crate) actual_size: Option<i64>,
}

/// Takes the look over until a moment, where nobody has it and the last one is older than `before`.
pub(crate) async fn take(
    db: &Db,
    holder: Uuid,
    now: DateTime<Utc>,
    until: DateTime<Utc>,
    before: DateTime<Utc>,
) -> Result<bool> {
    let mut tx = db.begin().await?;
    let taken = on!(tx, |c| sqlx::query(
        "UPDATE store_look SET holder = $1, held_until = $2 WHERE id = 1
         AND (held_until IS NULL OR held_until < $3) AND (checked_at IS NULL OR checked_at <= $4)"
    )
    .bind(holder)
    .bind(until)
    .bind(now)
    .bind(before)
    .execute(c)
    .await
    .map(|done| done.rows_affected()))?;
    tx.commit_relaxed().await?;
    Ok(taken == 1)
}

/// Keeps it for longer; false when somebody else has it.
pub(crate) async fn keep(db: &Db, holder: Uuid, until: DateTime<Utc>) -> Result<bool> {
    let mut tx = db.begin().await?;
    let kept = on!(tx, |c| sqlx::query("UPDATE store_look SET held_until = $1 WHERE id = 1 AND holder = $2")
        .bind(until)
        .bind(holder)
        .execute(c)
        .await
        .map(|done| done.rows_affected()))?;
    tx.commit_relaxed().await?;
    Ok(kept == 1)
}

/// Gives it back, with what it found where it came to its end.
pub(crate) async fn give_back(db: &Db, holder: Uuid, report: Option<&Report>) -> Result<()> {
    let mut tx = db.begin().await?;
    let held = on!(tx, |c| sqlx::query(
        "UPDATE store_look SET held_until = NULL, holder = NULL WHERE id = 1 AND holder = $1"
    )
    .bind(holder)
    .execute(c)
    .await
    .map(|done| done.rows_affected()))?;
    // Who was too slow has no say any more.
    if let Some(report) = report.filter(|_| held == 1) {
        on!(tx, |c| sqlx::query(
            "UPDATE store_look SET checked_at = $1, files = $2, bytes = $3, collected = $4, collected_bytes = $5,
             broken = $6, broken_total = $7 WHERE id = 1"
        )
        .bind(report.checked_at)
        .bind(report.files)
        .bind(report.bytes)
        .bind(report.collected)
        .bind(report.collected_bytes)
        .bind(&report.broken)
        .bind(report.broken_total)
        .execute(c)
        .await
        .map(|_| ()))?;
    }
    tx.commit().await
}

/// What the last look found.
pub(crate) async fn last(db: &Db) -> Result<Report> {
    Ok(read!(db, |pool| sqlx::query_as(
        "SELECT checked_at, files, bytes, collected, collected_bytes, broken, broken_total FROM store_look WHERE id = 1"
    )
    .fetch_one(pool)
    .await)?)
}
