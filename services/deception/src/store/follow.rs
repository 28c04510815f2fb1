//! How far the follower of the log has come, and who it is.

use aegis_db::{Db, Result, Tx, on, read};
use uuid::Uuid;

/// How far what was derived reaches.
#[derive(Clone, Copy, Debug, PartialEq, Eq, sqlx::FromRow)]
pub(crate) struct Place {
    /// Id of the last log that is in it.
    pub(crate) position: i64,
    /// Increases with each purge.
    pub(crate) generation: i64,
}

/// Takes the lease, or keeps it, until `until`; both moments in microseconds. Nothing when somebody else holds it. Who
/// takes it over counts the attackers: an earlier version does not keep their number.
pub(crate) async fn lease(db: &Db, process: Uuid, at: i64, until: i64) -> Result<Option<Place>> {
    const SQL: &str = "UPDATE log_follower SET process = $1, held_until = $2, \
                       attackers = CASE WHEN process = $1 THEN attackers ELSE (SELECT COUNT(*) FROM attacker) END \
                       WHERE name = 'logs' AND (process = $1 OR process IS NULL OR held_until <= $3) \
                       RETURNING position, generation";
    let mut tx = db.begin().await?;
    let place = on!(tx, |c| sqlx::query_as(SQL).bind(process).bind(until).bind(at).fetch_optional(c).await)?;
    // After a power cut nobody follows anyway.
    tx.commit_relaxed().await?;
    Ok(place)
}

/// Gives the lease back, if it is held.
pub(crate) async fn release(db: &Db, process: Uuid) -> Result<()> {
    const SQL: &str = "UPDATE log_follower SET held_until = 0 WHERE name = 'logs' AND process = $1";
    let mut tx = db.begin().await?;
    on!(tx, |c| sqlx::query(SQL).bind(process).execute(c).await.map(|_| ()))?;
    tx.commit_relaxed().await
}

/// Moves on in the transaction of what was derived, with so many attackers who are new. False when it was not made of
/// what holds now: somebody else follows, or there was a purge.
pub(crate) async fn advance(tx: &mut Tx, process: Uuid, from: Place, to: i64, attackers: usize) -> Result<bool> {
    const SQL: &str = "UPDATE log_follower SET position = $4, attackers = attackers + $5 \
                       WHERE name = 'logs' AND process = $1 AND position = $2 AND generation = $3";
    let rows = on!(tx, |c| sqlx::query(SQL)
        .bind(process)
        .bind(from.position)
        .bind(from.generation)
        .bind(to)
        .bind(i64::try_from(attackers).unwrap_or(i64::MAX))
        .execute(c)
        .await
        .map(|done| done.rows_affected()))?;
    Ok(rows == 1)
}

/// How many attackers there are.
pub(crate) async fn attackers(db: &Db) -> Result<i64> {
    const SQL: &str = "SELECT attackers FROM log_follower WHERE name = 'logs'";
    Ok(read!(db, |pool| sqlx::query_scalar(SQL).fetch_one(pool).await)?)
}

/// How far it has come.
pub(crate) async fn place(db: &Db) -> Result<Place> {
    const SQL: &str = "SELECT position, generation FROM log_follower WHERE name = 'logs'";
    Ok(read!(db, |pool| sqlx::query_as(SQL).fetch_one(pool).await)?)
}

/// Removes everything that was derived from logs, so that it begins anew with the logs that are there then. How many
/// bounties that were. Approved scanners stay.
pub(crate) async fn purge(tx: &mut Tx) -> Result<u64> {
    // First of all: who follows waits here, and finds what it has read void.
    const ANEW: &str = "UPDATE log_follower SET position = 0, generation = generation + 1, attackers = 0 \
                        WHERE name = 'logs'";
    const TABLES: [&str; 7] = [
        "DELETE FROM alert",
        "DELETE FROM attacker_session",
        "DELETE FROM attacker_log",
        "DELETE FROM attacker_term",
        "DELETE FROM attacker_service",
        "DELETE FROM attacker_timing",
        "DELETE FROM attacker",
    ];
    on!(tx, |c| sqlx::query(ANEW).execute(c).await.map(|_| ()))?;
    for sql in TABLES {
        on!(tx, |c| sqlx::query(sql).execute(c).await.map(|_| ()))?;
    }
    super::observations::purge(tx).await?;
    super::tracks::purge(tx).await?;
    Ok(on!(tx, |c| sqlx::query("DELETE FROM bounty").execute(c).await.map(|done| done.rows_affected()))?)
}

/// Has everything derived anew from the logs that are there, without touching them.
#[cfg(test)]
pub(crate) async fn rebuild(db: &Db) -> Result<()> {
    let mut tx = db.begin().await?;
    purge(&mut tx).await?;
    tx.commit().await
}

/// Ends the lease, whoever holds it.
#[cfg(test)]
pub(crate) async fn end_lease(db: &Db) -> Result<()> {
    let mut tx = db.begin().await?;
    on!(tx, |c| sqlx::query("UPDATE log_follower SET held_until = 0").execute(c).await.map(|_| ()))?;
    tx.commit().await
}

/// Says that it has come so far.
#[cfg(test)]
pub(crate) async fn set_position(db: &Db, position: i64) -> Result<()> {
    const SQL: &str = "UPDATE log_follower SET position = $1 WHERE name = 'logs'";
    let mut tx = db.begin().await?;
    on!(tx, |c| sqlx::query(SQL).bind(position).execute(c).await.map(|_| ()))?;
    tx.commit().await
}
