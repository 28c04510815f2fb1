//! The SQL of the service.

pub(crate) mod behind;
pub(crate) mod drift;
mod facts;
pub(crate) mod knowledge;
pub(crate) mod matrix;
pub(crate) mod observed;
pub(crate) mod operational;
pub(crate) mod pipeline;
pub(crate) mod reports;
pub(crate) mod snapshots;
pub(crate) mod techniques;
pub(crate) mod tests;
pub(crate) mod weights;

use aegis_db::{Conn, Db, Result, Tx, now, on, read};
use chrono::{DateTime, TimeDelta, Utc};
use uuid::Uuid;

/// Rows of one statement; what they bind stays below what either database takes.
const CHUNK: usize = 500;
/// A rebuild that has given no sign of life for so long has ended.
const REBUILD_PATIENCE: TimeDelta = TimeDelta::seconds(30);

/// When the projection last took something in.
pub(crate) async fn as_of(db: &Db) -> Result<Option<DateTime<Utc>>> {
    Ok(read!(db, |pool| sqlx::query_scalar("SELECT as_of FROM meta").fetch_one(pool).await)?)
}

/// Lets nothing else change the projection until the transaction ends, and answers the moment of the change: `now`, or
/// later than the change before it where the clocks of two replicas differ.
///
/// SQLite has one writer anyway.
pub(crate) async fn advance(tx: &mut Tx, now: DateTime<Utc>) -> Result<DateTime<Utc>> {
    let last: Option<DateTime<Utc>> = match tx.conn() {
        Conn::Postgres(c) => sqlx::query_scalar("SELECT as_of FROM meta FOR UPDATE").fetch_one(c).await?,
        Conn::Sqlite(c) => sqlx::query_scalar("SELECT as_of FROM meta").fetch_one(c).await?,
    };
    let at = last.map_or(now, |last| now.max(last + TimeDelta::microseconds(1)));
    on!(tx, |c| sqlx::query("UPDATE meta SET as_of = $1").bind(at).execute(c).await.map(|_| ()))?;
    Ok(at)
}

/// Takes the one place for a rebuild, if it is free, and answers the moment since which what events bring is newer than
/// what is asked of the owners from now on.
pub(crate) async fn begin_rebuild(tx: &mut Tx, run: Uuid) -> Result<Option<DateTime<Utc>>> {
    let at = advance(tx, now()).await?;
    let mine = on!(tx, |c| sqlx::query(
        "UPDATE meta SET rebuild = $1, rebuild_seen_at = $2 WHERE rebuild IS NULL OR rebuild_seen_at < $3"
    )
    .bind(run)
    .bind(at)
    .bind(at - REBUILD_PATIENCE)
    .execute(c)
    .await
    .map(|done| done.rows_affected()))?;
    Ok((mine == 1).then_some(at))
}

/// A sign of life of a rebuild; whether it still has the place.
pub(crate) async fn continue_rebuild(tx: &mut Tx, run: Uuid, at: DateTime<Utc>) -> Result<bool> {
    let mine = on!(tx, |c| sqlx::query("UPDATE meta SET rebuild_seen_at = $1 WHERE rebuild = $2")
        .bind(at)
        .bind(run)
        .execute(c)
        .await
        .map(|done| done.rows_affected()))?;
    Ok(mine == 1)
}

/// Gives the place up. `done`: nothing is due any more, and what is in memory is read anew by all.
pub(crate) async fn end_rebuild(tx: &mut Tx, run: Uuid, done: bool) -> Result<()> {
    on!(tx, |c| sqlx::query(
        "UPDATE meta SET rebuild = NULL, rebuild_seen_at = NULL, epoch = epoch + 1, \
         rebuild_due = CASE WHEN $1 THEN FALSE ELSE rebuild_due END WHERE rebuild = $2"
    )
    .bind(done)
    .bind(run)
    .execute(c)
    .await
    .map(|_| ()))?;
    Ok(())
}

/// Whether the projection was brought here by an older version that knew less.
pub(crate) async fn rebuild_due(db: &Db) -> Result<bool> {
    Ok(read!(db, |pool| sqlx::query_scalar("SELECT rebuild_due FROM meta").fetch_one(pool).await)?)
}

/// Rows are gone: what is in memory anywhere is read anew as a whole.
pub(crate) async fn renew_epoch(tx: &mut Tx) -> Result<()> {
    on!(tx, |c| sqlx::query("UPDATE meta SET epoch = epoch + 1").execute(c).await.map(|_| ()))?;
    Ok(())
}
