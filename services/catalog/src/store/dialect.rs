//! What differs between the two databases.

use aegis_db::{Conn, Result, Tx};

/// Lets one transaction at a time change many techniques, across replicas: seeding, matrices, rebuilds, statuses from
/// events.
/// Without it two of them could lock the same rows in different orders, or compute a status from half of the facts.
pub(crate) async fn lock_catalogue(tx: &mut Tx) -> Result<()> {
    // A SQLite transaction that writes is alone from its start.
    if let Conn::Postgres(c) = tx.conn() {
        // The number is arbitrary and ours; the schema tells the services of one database apart.
        sqlx::query("SELECT pg_advisory_xact_lock(7243, hashtext(current_schema()))").execute(c).await?;
    }
    Ok(())
}

/// Lets one transaction at a time change records, links and imported templates, across replicas. A lock of its own: the
/// statuses of techniques need not wait for a document of rules. Who takes both takes this one first.
pub(crate) async fn lock_knowledge(tx: &mut Tx) -> Result<()> {
    if let Conn::Postgres(c) = tx.conn() {
        sqlx::query("SELECT pg_advisory_xact_lock(7244, hashtext(current_schema()))").execute(c).await?;
    }
    Ok(())
}

/// What makes a `SELECT` of a transaction hold the rows that it read until the end.
pub(crate) fn for_update(tx: &mut Tx) -> &'static str {
    match tx.conn() {
        Conn::Postgres(_) => " FOR UPDATE",
        Conn::Sqlite(_) => "",
    }
}
