//! What no longer holds.

use aegis_auth::Revocation;
use aegis_db::{Db, Error, Result, Tx, on, read};
use chrono::{DateTime, Utc};
use uuid::Uuid;

#[derive(sqlx::FromRow)]
struct Row {
    seq: i64,
    jti: Option<Uuid>,
    user_id: Option<Uuid>,
    min_epoch: i64,
    expires_at: DateTime<Utc>,
}

/// Adds a revocation. To be called late in a transaction: others that revoke wait for its end, which is what makes
/// the positions appear in their order, so that a reader who has seen one has seen all before it.
pub(crate) async fn insert(tx: &mut Tx, revocation: &Revocation) -> Result<()> {
    let seq: i64 =
        on!(tx, |c| sqlx::query_scalar("UPDATE revocation_head SET seq = seq + 1 WHERE id = 1 RETURNING seq")
            .fetch_one(c)
            .await)?;
    let (jti, user_id, min_epoch, expires_at) = match *revocation {
        Revocation::Token { jti, expires_at } => (Some(jti), None, 0, expires_at),
        Revocation::User { user_id, min_epoch, expires_at } => (None, Some(user_id), min_epoch, expires_at),
    };
    on!(tx, |c| sqlx::query(
        "INSERT INTO revocation (seq, jti, user_id, min_epoch, expires_at) VALUES ($1, $2, $3, $4, $5)"
    )
    .bind(seq)
    .bind(jti)
    .bind(user_id)
    .bind(min_epoch)
    .bind(expires_at)
    .execute(c)
    .await
    .map(|_| ()))?;
    Ok(())
}

/// At most `limit` unexpired revocations after position `after`, and the position of the last.
pub(crate) async fn after(db: &Db, after: i64, now: DateTime<Utc>, limit: i64) -> Result<(Vec<Revocation>, i64)> {
    let rows: Vec<Row> = read!(db, |pool| sqlx::query_as(
        "SELECT seq, jti, user_id, min_epoch, expires_at FROM revocation
         WHERE seq > $1 AND expires_at > $2 ORDER BY seq LIMIT $3"
    )
    .bind(after)
    .bind(now)
    .bind(limit)
    .fetch_all(pool)
    .await)?;
    let cursor = rows.last().map_or(after, |row| row.seq);
    let revocations = rows.into_iter().map(|row| match (row.jti, row.user_id) {
        (Some(jti), None) => Ok(Revocation::Token { jti, expires_at: row.expires_at }),
        (None, Some(user_id)) => Ok(Revocation::User { user_id, min_epoch: row.min_epoch, expires_at: row.expires_at }),
        _ => Err(Error::Sqlx(sqlx::Error::Decode("a revocation names neither token nor user, or both".into()))),
    });
    Ok((revocations.collect::<Result<_>>()?, cursor))
}

/// Removes what has expired; answers how many.
pub(crate) async fn purge(tx: &mut Tx, now: DateTime<Utc>) -> Result<u64> {
    Ok(on!(tx, |c| sqlx::query("DELETE FROM revocation WHERE expires_at <= $1")
        .bind(now)
        .execute(c)
        .await
        .map(|done| done.rows_affected()))?)
}
