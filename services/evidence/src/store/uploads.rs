//! The SQL of blobs that no evidence names: of uploads under way, and of what is to be removed.

use aegis_db::{Db, Result, Tx, on, read};
use chrono::{DateTime, Utc};
use sqlx::QueryBuilder;
use uuid::Uuid;

use super::blob_key;

/// A blob that is to be removed: of an upload whose process is gone, or of evidence that was removed.
#[derive(Clone, Debug, sqlx::FromRow)]
pub(crate) struct Leftover {
    pub(crate) id: Uuid,
    pub(crate) blob_key: String,
    /// Of an upload; the beginning of time for what is not one.
    pub(crate) started_at: DateTime<Utc>,
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
    Ok(on!(tx, |c| {
        sqlx::query_as(
        "SELECT id, blob_key, started_at FROM upload WHERE started_at < $1 AND abandoned = TRUE ORDER BY started_at LIMIT $2"
    )
    .bind(before)
    .bind(limit)
    .fetch_all(c)
    .await
    })?)
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

/// Notes blobs whose evidence is gone: housekeeping removes them, whatever becomes of this process.
pub(crate) async fn leave(tx: &mut Tx, files: &[(Uuid, Uuid)]) -> Result<()> {
    if files.is_empty() {
        return Ok(());
    }
    on!(tx, |c| {
        let mut query = QueryBuilder::new("INSERT INTO upload (id, blob_key, started_at, abandoned) ");
        query.push_values(files, |mut row, (test_id, id)| {
            // Long ago, so that nobody waits for it to end.
            row.push_bind(*id).push_bind(blob_key(*test_id, *id)).push_bind(DateTime::<Utc>::UNIX_EPOCH).push("TRUE");
        });
        query.build().execute(c).await.map(|_| ())
    })?;
    Ok(())
}

/// Which of these blobs are of uploads under way or to be removed.
pub(crate) async fn known(db: &Db, ids: &[Uuid]) -> Result<Vec<Uuid>> {
    Ok(read!(db, |pool| {
        let mut query = QueryBuilder::new("SELECT id FROM upload WHERE id IN (");
        let mut list = query.separated(", ");
        for id in ids {
            list.push_bind(*id);
        }
        query.push(")");
        query.build_query_scalar().fetch_all(pool).await
    })?)
}
