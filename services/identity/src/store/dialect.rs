//! What the two databases do not share: locks on rows that are read in order to be changed.

use aegis_db::{Conn, Result, Tx};
use uuid::Uuid;

use super::users::UserRow;

/// The ids of all active administrators, locked until the transaction ends: two transactions that both mean to
/// take one away go one after the other. SQLite has one writer anyway.
///
/// To be called before any other row of users is locked, so that two callers cannot wait for each other.
pub(crate) async fn lock_active_admins(tx: &mut Tx) -> Result<Vec<Uuid>> {
    const ADMINS: &str = "SELECT id FROM users WHERE role = 'admin' AND is_active ORDER BY id";
    const LOCKED: &str = "SELECT id FROM users WHERE role = 'admin' AND is_active ORDER BY id FOR NO KEY UPDATE";
    Ok(match tx.conn() {
        Conn::Postgres(c) => sqlx::query_scalar(LOCKED).fetch_all(c).await?,
        Conn::Sqlite(c) => sqlx::query_scalar(ADMINS).fetch_all(c).await?,
    })
}

/// A user, locked until the transaction ends.
pub(crate) async fn lock_user(tx: &mut Tx, id: Uuid) -> Result<Option<UserRow>> {
    const USER: &str = "SELECT * FROM users WHERE id = $1";
    // Not the strongest lock: rows that refer to the user may still be written.
    const LOCKED: &str = "SELECT * FROM users WHERE id = $1 FOR NO KEY UPDATE";
    Ok(match tx.conn() {
        Conn::Postgres(c) => sqlx::query_as(LOCKED).bind(id).fetch_optional(c).await?,
        Conn::Sqlite(c) => sqlx::query_as(USER).bind(id).fetch_optional(c).await?,
    })
}
