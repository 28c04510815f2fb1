//! The SQL of evidence and of uploads under way.

use aegis_db::{Db, Result, Tx, on, read};
use chrono::{DateTime, Utc};
use serde_json::json;
use sqlx::QueryBuilder;
use uuid::Uuid;

const COLUMNS: &str = "id, test_id, file_name, sha256, size_bytes, team, notes, uploaded_by, \
                       uploaded_by_username, uploaded_at";

/// One file.
#[derive(Clone, Debug, PartialEq, Eq, sqlx::FromRow)]
pub(crate) struct Evidence {
    pub(crate) id: Uuid,
    pub(crate) test_id: Uuid,
    pub(crate) file_name: String,
    pub(crate) sha256: String,
    pub(crate) size_bytes: i64,
    pub(crate) team: Option<String>,
    pub(crate) notes: Option<String>,
    pub(crate) uploaded_by: Uuid,
    pub(crate) uploaded_by_username: String,
    pub(crate) uploaded_at: DateTime<Utc>,
}

/// An upload whose process is gone.
#[derive(Clone, Debug, sqlx::FromRow)]
pub(crate) struct Leftover {
    pub(crate) id: Uuid,
    pub(crate) blob_key: String,
}

/// Where the bytes of a file are.
pub(crate) fn blob_key(test_id: Uuid, id: Uuid) -> String {
    format!("evidence/{test_id}/{id}")
}

impl Evidence {
    pub(crate) fn blob_key(&self) -> String {
        blob_key(self.test_id, self.id)
    }

    /// For the audit trail.
    pub(crate) fn facts(&self) -> serde_json::Value {
        json!({
            "test_id": self.test_id,
            "file_name": self.file_name,
            "sha256": self.sha256,
            "size_bytes": self.size_bytes,
            "team": self.team,
        })
    }
}

pub(crate) async fn get(db: &Db, id: Uuid) -> Result<Option<Evidence>> {
    let sql = format!("SELECT {COLUMNS} FROM evidence WHERE id = $1");
    Ok(read!(db, |pool| sqlx::query_as(sqlx::AssertSqlSafe(sql)).bind(id).fetch_optional(pool).await)?)
}

/// Files of a test after `after`, oldest first.
pub(crate) async fn of_test(db: &Db, test_id: Uuid, after: (DateTime<Utc>, Uuid), limit: i64) -> Result<Vec<Evidence>> {
    let sql = format!(
        "SELECT {COLUMNS} FROM evidence WHERE test_id = $1 AND (uploaded_at, id) > ($2, $3) \
         ORDER BY uploaded_at, id LIMIT $4"
    );
    Ok(read!(db, |pool| sqlx::query_as(sqlx::AssertSqlSafe(sql))
        .bind(test_id)
        .bind(after.0)
        .bind(after.1)
        .bind(limit)
        .fetch_all(pool)
        .await)?)
}

pub(crate) async fn count_of_test(db: &Db, test_id: Uuid) -> Result<i64> {
    Ok(read!(db, |pool| sqlx::query_scalar("SELECT COUNT(*) FROM evidence WHERE test_id = $1")
        .bind(test_id)
        .fetch_one(pool)
        .await)?)
}

/// Adds a file. The id of the one that has the same bytes, if there is one.
pub(crate) async fn insert(tx: &mut Tx, row: &Evidence) -> Result<Option<Uuid>> {
    let added = on!(tx, |c| sqlx::query(
        "INSERT INTO evidence (id, test_id, file_name, sha256, size_bytes, team, notes, uploaded_by, \
         uploaded_by_username, uploaded_at) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10) \
         ON CONFLICT (test_id, sha256) DO NOTHING"
    )
    .bind(row.id)
    .bind(row.test_id)
    .bind(&row.file_name)
    .bind(&row.sha256)
    .bind(row.size_bytes)
    .bind(&row.team)
    .bind(&row.notes)
    .bind(row.uploaded_by)
    .bind(&row.uploaded_by_username)
    .bind(row.uploaded_at)
    .execute(c)
    .await
    .map(|done| done.rows_affected()))?;
    if added == 1 {
        return Ok(None);
    }
    let first = on!(tx, |c| sqlx::query_scalar("SELECT id FROM evidence WHERE test_id = $1 AND sha256 = $2")
        .bind(row.test_id)
        .bind(&row.sha256)
        .fetch_one(c)
        .await)?;
    Ok(Some(first))
}

/// Notes that a blob is about to be written.
pub(crate) async fn begin_upload(tx: &mut Tx, id: Uuid, key: &str, at: DateTime<Utc>) -> Result<()> {
    on!(tx, |c| sqlx::query("INSERT INTO upload (id, blob_key, started_at) VALUES ($1, $2, $3)")
        .bind(id)
        .bind(key)
        .bind(at)
        .execute(c)
        .await
        .map(|_| ()))?;
    Ok(())
}

/// Ends an upload; false when it was abandoned meanwhile.
pub(crate) async fn end_upload(tx: &mut Tx, id: Uuid) -> Result<bool> {
    let ended = on!(tx, |c| sqlx::query("DELETE FROM upload WHERE id = $1 AND abandoned = FALSE")
        .bind(id)
        .execute(c)
        .await
        .map(|done| done.rows_affected()))?;
    Ok(ended == 1)
}

/// Marks uploads begun before a moment as abandoned and answers some of them, oldest first.
pub(crate) async fn abandon(tx: &mut Tx, before: DateTime<Utc>, limit: i64) -> Result<Vec<Leftover>> {
    on!(tx, |c| sqlx::query("UPDATE upload SET abandoned = TRUE WHERE started_at < $1 AND abandoned = FALSE")
        .bind(before)
        .execute(c)
        .await
        .map(|_| ()))?;
    Ok(on!(tx, |c| sqlx::query_as(
        "SELECT id, blob_key FROM upload WHERE started_at < $1 AND abandoned = TRUE ORDER BY started_at LIMIT $2"
    )
    .bind(before)
    .bind(limit)
    .fetch_all(c)
    .await)?)
}

/// Forgets uploads whose blobs are gone.
pub(crate) async fn forget(tx: &mut Tx, ids: &[Uuid]) -> Result<()> {
    on!(tx, |c| {
        let mut query = QueryBuilder::new("DELETE FROM upload WHERE id IN (");
        let mut list = query.separated(", ");
        for id in ids {
            list.push_bind(*id);
        }
        query.push(")");
        query.build().execute(c).await.map(|_| ())
    })?;
    Ok(())
}
