//! What differs between the two databases.

use aegis_db::{Conn, Tx};

/// Picks the text for the database of `tx`: on PostgreSQL a row that is to be changed is locked as it is read; on
/// SQLite a writing transaction is alone from its start.
pub(crate) fn locking(tx: &mut Tx, sqlite: &'static str, postgres: &'static str) -> &'static str {
    match tx.conn() {
        Conn::Sqlite(_) => sqlite,
        Conn::Postgres(_) => postgres,
    }
}
