//! News feeds: listed, changed, read.

use aegis_db::{Db, Result, Tx, on, read};
use chrono::{DateTime, Utc};
use uuid::Uuid;

use super::dialect;

/// A feed as it is stored.
#[derive(Debug, Clone, sqlx::FromRow)]
pub(crate) struct Feed {
    pub id: Uuid,
    pub name: String,
    pub url: String,
    pub enabled: bool,
    pub last_read_at: Option<DateTime<Utc>>,
    pub last_error: Option<String>,
    pub etag: Option<String>,
    pub version: i64,
    pub created_at: DateTime<Utc>,
    pub updated_at: DateTime<Utc>,
    /// How many items it brought.
    pub items: i64,
}

macro_rules! select {
    ($rest:literal) => {
        concat!(
            "SELECT id, name, url, enabled, last_read_at, last_error, etag, version, created_at, updated_at, ",
            "(SELECT COUNT(*) FROM item WHERE item.feed_id = feed.id) AS items FROM feed ",
            $rest
        )
    };
}

/// How many there are.
pub(crate) async fn count(db: &Db) -> Result<i64> {
    let sql = "SELECT COUNT(*) FROM feed";
    Ok(read!(db, |pool| sqlx::query_scalar(sql).fetch_one(pool).await)?)
}

/// How many there are, in the transaction that adds one.
pub(crate) async fn count_in(tx: &mut Tx) -> Result<i64> {
    let sql = "SELECT COUNT(*) FROM feed";
    Ok(on!(tx, |c| sqlx::query_scalar(sql).fetch_one(c).await)?)
}

/// A page of them, by name.
pub(crate) async fn list(db: &Db, limit: i64, offset: i64) -> Result<Vec<Feed>> {
    let sql = select!("ORDER BY name LIMIT $1 OFFSET $2");
    Ok(read!(db, |pool| sqlx::query_as(sql).bind(limit).bind(offset).fetch_all(pool).await)?)
}

/// Those that are to be read.
pub(crate) async fn enabled(db: &Db, limit: i64) -> Result<Vec<Feed>> {
    let sql = select!("WHERE enabled ORDER BY name LIMIT $1");
    Ok(read!(db, |pool| sqlx::query_as(sql).bind(limit).fetch_all(pool).await)?)
}

/// One of them.
pub(crate) async fn get(db: &Db, id: Uuid) -> Result<Option<Feed>> {
    let sql = select!("WHERE id = $1");
    Ok(read!(db, |pool| sqlx::query_as(sql).bind(id).fetch_optional(pool).await)?)
}

/// One of them, to be changed in this transaction.
pub(crate) async fn lock(tx: &mut Tx, id: Uuid) -> Result<Option<Feed>> {
    let sql = dialect::locking(tx, select!("WHERE id = $1"), select!("WHERE id = $1 FOR UPDATE"));
    Ok(on!(tx, |c| sqlx::query_as(sql).bind(id).fetch_optional(c).await)?)
}

/// Adds one. False when another has its name.
pub(crate) async fn insert(tx: &mut Tx, feed: &Feed) -> Result<bool> {
    let sql = "INSERT INTO feed (id, name, url, enabled, version, created_at, updated_at) \
               VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT (name) DO NOTHING";
    let rows = on!(tx, |c| sqlx::query(sql)
        .bind(feed.id)
        .bind(&feed.name)
        .bind(&feed.url)
        .bind(feed.enabled)
        .bind(feed.version)
        .bind(feed.created_at)
        .bind(feed.updated_at)
        .execute(c)
        .await
        .map(|done| done.rows_affected()))?;
    Ok(rows == 1)
}

/// Writes what an administrator can change. False when it was changed since it was read.
pub(crate) async fn update(tx: &mut Tx, feed: &Feed) -> Result<bool> {
    let sql = "UPDATE feed SET name = $3, url = $4, enabled = $5, etag = $6, last_error = $7, updated_at = $8, \
               version = version + 1 WHERE id = $1 AND version = $2";
    let rows = on!(tx, |c| sqlx::query(sql)
        .bind(feed.id)
        .bind(feed.version)
        .bind(&feed.name)
        .bind(&feed.url)
        .bind(feed.enabled)
        .bind(&feed.etag)
        .bind(&feed.last_error)
        .bind(feed.updated_at)
        .execute(c)
        .await
        .map(|done| done.rows_affected()))?;
    Ok(rows == 1)
}

/// Deletes one with its items.
pub(crate) async fn delete(tx: &mut Tx, id: Uuid) -> Result<()> {
    on!(tx, |c| sqlx::query("DELETE FROM feed WHERE id = $1").bind(id).execute(c).await.map(|_| ()))?;
    Ok(())
}

/// Writes that one was read, or why not. Its etag is of the document at `url`, which may be another by now.
pub(crate) async fn set_read(
    tx: &mut Tx,
    feed: &Feed,
    etag: Option<&str>,
    error: Option<&str>,
    at: DateTime<Utc>,
) -> Result<()> {
    let sql = "UPDATE feed SET last_read_at = $2, last_error = $3, etag = CASE WHEN url = $4 THEN $5 ELSE NULL END, \
               updated_at = $2, version = version + 1 WHERE id = $1";
    on!(tx, |c| sqlx::query(sql)
        .bind(feed.id)
        .bind(at)
        .bind(error)
        .bind(&feed.url)
        .bind(etag)
        .execute(c)
        .await
        .map(|_| ()))?;
    Ok(())
}
