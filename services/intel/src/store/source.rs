//! Data sources: seeded, read, locked for a change, written.

use aegis_db::{Db, Result, Tx, now, on, read};
use chrono::{DateTime, Utc};
use sqlx::{QueryBuilder, types::Json};
use uuid::Uuid;

use super::dialect;
use crate::domain::{counts::Counts, source::Published, stix::Domain};

/// A data source as it is stored.
#[derive(Debug, Clone, sqlx::FromRow)]
pub(crate) struct Source {
    pub id: Uuid,
    pub name: String,
    pub kind: String,
    pub domain: String,
    pub url: String,
    pub enabled: bool,
    pub schedule: Option<String>,
    pub last_sync_at: Option<DateTime<Utc>>,
    pub last_status: Option<String>,
    pub last_error: Option<String>,
    pub last_counts: Option<Json<Counts>>,
    pub upstream_version: Option<String>,
    pub etag: Option<String>,
    pub companion_url: Option<String>,
    pub companion_etag: Option<String>,
    pub version: i64,
    pub updated_at: DateTime<Utc>,
    /// The last sign of life of the sync that runs, if one does.
    pub running_at: Option<DateTime<Utc>>,
}

/// How a request names a data source.
#[derive(Debug, Clone)]
pub(crate) enum Key {
    /// By id.
    Id(Uuid),
    /// By name.
    Name(String),
}

impl From<&str> for Key {
    fn from(text: &str) -> Self {
        match Uuid::parse_str(text) {
            Ok(id) => Key::Id(id),
            Err(_) => Key::Name(text.to_owned()),
        }
    }
}

impl std::fmt::Display for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Key::Id(id) => id.fmt(f),
            Key::Name(name) => name.fmt(f),
        }
    }
}

/// What a sync that succeeded leaves on its source.
#[derive(Debug)]
pub(crate) struct Synced<'a> {
    pub counts: &'a Counts,
    pub upstream_version: Option<&'a str>,
    /// Where the document was.
    pub url: &'a str,
    /// Of the document, if it was at the source's own url.
    pub etag: Option<&'a str>,
    /// Where the second document was, if there is one.
    pub companion_url: Option<&'a str>,
    /// Of the second document.
    pub companion_etag: Option<&'a str>,
}

macro_rules! select {
    ($rest:literal) => {
        concat!(
            "SELECT id, name, kind, domain, url, enabled, schedule, last_sync_at, last_status, last_error, last_counts, ",
            "upstream_version, etag, companion_url, companion_etag, version, updated_at, (SELECT heartbeat_at FROM sync_job ",
            "WHERE sync_job.source_id = data_source.id AND sync_job.status = 'running') AS running_at ",
            "FROM data_source ",
            $rest
        )
    };
}

/// Adds the sources that are not there, and leaves alone those that are. Two processes may do it at once.
pub(crate) async fn seed(db: &Db, sources: &[Published]) -> Result<()> {
    let at = now();
    let mut tx = db.begin().await?;
    on!(tx, |c| {
        let mut query = QueryBuilder::new(
            "INSERT INTO data_source (id, name, kind, domain, url, companion_url, schedule, enabled, version, updated_at) ",
        );
        query.push_values(sources, |mut row, source| {
            row.push_bind(Uuid::now_v7())
                .push_bind(source.name)
                .push_bind(source.kind)
                .push_bind(source.domain.map(Domain::as_str).unwrap_or_default())
                .push_bind(source.url)
                .push_bind(source.companion_url)
                .push_bind(source.schedule)
                .push_bind(true)
                .push_bind(1_i64)
                .push_bind(at);
        });
        query.push(" ON CONFLICT (name) DO NOTHING");
        query.build().execute(c).await.map(|_| ())
    })?;
    tx.commit().await
}

/// How many there are.
pub(crate) async fn count(db: &Db) -> Result<i64> {
    let sql = "SELECT COUNT(*) FROM data_source";
    Ok(read!(db, |pool| sqlx::query_scalar(sql).fetch_one(pool).await)?)
}

/// A page of them, by name.
pub(crate) async fn list(db: &Db, limit: i64, offset: i64) -> Result<Vec<Source>> {
    let sql = select!("ORDER BY name LIMIT $1 OFFSET $2");
    Ok(read!(db, |pool| sqlx::query_as(sql).bind(limit).bind(offset).fetch_all(pool).await)?)
}

/// One of them.
pub(crate) async fn get(db: &Db, key: &Key) -> Result<Option<Source>> {
    let found = match key {
        Key::Id(id) => {
            let sql = select!("WHERE id = $1");
            read!(db, |pool| sqlx::query_as(sql).bind(id).fetch_optional(pool).await)
        }
        Key::Name(name) => {
            let sql = select!("WHERE name = $1");
            read!(db, |pool| sqlx::query_as(sql).bind(name).fetch_optional(pool).await)
        }
    };
    Ok(found?)
}

/// One of them, to be changed in this transaction.
pub(crate) async fn lock(tx: &mut Tx, key: &Key) -> Result<Option<Source>> {
    let found = match key {
        Key::Id(id) => {
            let sql = dialect::locking(tx, select!("WHERE id = $1"), select!("WHERE id = $1 FOR UPDATE"));
            on!(tx, |c| sqlx::query_as(sql).bind(id).fetch_optional(c).await)
        }
        Key::Name(name) => {
            let sql = dialect::locking(tx, select!("WHERE name = $1"), select!("WHERE name = $1 FOR UPDATE"));
            on!(tx, |c| sqlx::query_as(sql).bind(name).fetch_optional(c).await)
        }
    };
    Ok(found?)
}

/// Writes what an administrator can change. False when it was changed since it was read.
pub(crate) async fn update(tx: &mut Tx, source: &Source) -> Result<bool> {
    let sql = "UPDATE data_source SET url = $3, enabled = $4, schedule = $5, etag = $6, updated_at = $7, \
               companion_url = $8, companion_etag = $9, version = version + 1 WHERE id = $1 AND version = $2";
    let rows = on!(tx, |c| sqlx::query(sql)
        .bind(source.id)
        .bind(source.version)
        .bind(&source.url)
        .bind(source.enabled)
        .bind(&source.schedule)
        .bind(&source.etag)
        .bind(source.updated_at)
        .bind(&source.companion_url)
        .bind(&source.companion_etag)
        .execute(c)
        .await
        .map(|done| done.rows_affected()))?;
    Ok(rows == 1)
}

/// Forgets which document came in last: another one is about to.
pub(crate) async fn forget_etag(tx: &mut Tx, id: Uuid) -> Result<()> {
    let sql = "UPDATE data_source SET etag = NULL, companion_etag = NULL WHERE id = $1";
    on!(tx, |c| sqlx::query(sql).bind(id).execute(c).await.map(|_| ()))?;
    Ok(())
}

/// Writes that a sync succeeded.
pub(crate) async fn set_succeeded(tx: &mut Tx, id: Uuid, synced: &Synced<'_>, at: DateTime<Utc>) -> Result<()> {
    // The urls may have been changed while the sync ran: then the etags are other documents'.
    let sql = "UPDATE data_source SET last_sync_at = $2, last_status = 'succeeded', last_error = NULL, \
               last_counts = $3, upstream_version = $4, etag = CASE WHEN url = $5 THEN $6 ELSE NULL END, \
               companion_etag = CASE WHEN companion_url = $7 THEN $8 ELSE NULL END, updated_at = $2, version = version + 1 WHERE id = $1";
    on!(tx, |c| sqlx::query(sql)
        .bind(id)
        .bind(at)
        .bind(Json(synced.counts))
        .bind(synced.upstream_version)
        .bind(synced.url)
        .bind(synced.etag)
        .bind(synced.companion_url)
        .bind(synced.companion_etag)
        .execute(c)
        .await
        .map(|_| ()))?;
    Ok(())
}

/// Writes that a sync failed. What the last good one left stays.
pub(crate) async fn set_failed(tx: &mut Tx, id: Uuid, error: &str, at: DateTime<Utc>) -> Result<()> {
    let sql = "UPDATE data_source SET last_status = 'failed', last_error = $2, updated_at = $3, \
               version = version + 1 WHERE id = $1";
    on!(tx, |c| sqlx::query(sql).bind(id).bind(error).bind(at).execute(c).await.map(|_| ()))?;
    Ok(())
}
