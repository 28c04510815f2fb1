//! What differs between the two databases.

use aegis_db::{Conn, Db, Result, Tx};
use chrono::DateTime;

/// Picks the text for the database of `tx`: on PostgreSQL a row that is to be changed is locked as it is read; on
/// SQLite a writing transaction is alone from its start.
pub(crate) fn locking(tx: &mut Tx, sqlite: &'static str, postgres: &'static str) -> &'static str {
    match tx.conn() {
        Conn::Sqlite(_) => sqlite,
        Conn::Postgres(_) => postgres,
    }
}

/// A SQLite file belongs to one process: a sync that seems to run as that process starts has ended with the one before,
/// and the next may begin at once. On PostgreSQL another replica may be at it; its signs of life tell.
pub(crate) async fn end_jobs_of_the_last_process(db: &Db) -> Result<()> {
    let Db::Sqlite(sqlite) = db else { return Ok(()) };
    sqlx::query("UPDATE sync_job SET heartbeat_at = $1 WHERE status = 'running'")
        .bind(DateTime::UNIX_EPOCH)
        .execute(&sqlite.write)
        .await?;
    sqlx::query("UPDATE scheduled_run SET heartbeat_at = $1 WHERE status = 'running'")
        .bind(DateTime::UNIX_EPOCH)
        .execute(&sqlite.write)
        .await?;
    Ok(())
}
