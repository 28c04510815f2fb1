//! What differs between the two databases.

use aegis_db::{Conn, Result, Tx};
use uuid::Uuid;

/// Picks the text for the database of `tx`: on PostgreSQL a row that is to be changed is locked as it is read; on
/// SQLite a writing transaction is alone from its start.
pub fn locking(tx: &mut Tx, sqlite: &'static str, postgres: &'static str) -> &'static str {
    match tx.conn() {
        Conn::Sqlite(_) => sqlite,
        Conn::Postgres(_) => postgres,
    }
}

/// Holds names until the transaction ends: on PostgreSQL others who hold one of them wait, on SQLite they wait anyway.
/// They are taken in one order, so that nobody waits for each other.
pub async fn hold(tx: &mut Tx, names: &[Uuid]) -> Result<()> {
    // The number is arbitrary and ours.
    const LOCK: &str = "SELECT pg_advisory_xact_lock(7245, key) FROM \
         (SELECT DISTINCT hashtext(name) AS key FROM unnest($1::text[]) AS name ORDER BY 1) AS keys";
    if let Conn::Postgres(c) = tx.conn() {
        let names: Vec<String> = names.iter().map(Uuid::to_string).collect();
        sqlx::query(LOCK).bind(names).execute(c).await?;
    }
    Ok(())
}
