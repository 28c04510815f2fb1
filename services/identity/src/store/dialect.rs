//! What the two databases do not share: locks on rows that are read in order to be changed.

use aegis_db::{Conn, Result, Tx};
use uuid::Uuid;

use super::{notifications::Notification, users::UserRow};

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
    const USER: &str = "SELECT id, username, email, role, password_hash, is_active, must_change_password, \
         token_epoch, version, created_at, updated_at, last_login_at \
         FROM users WHERE id = $1";
    // Not the strongest lock: rows that refer to the user may still be written.
    const LOCKED: &str = "SELECT id, username, email, role, password_hash, is_active, must_change_password, \
         token_epoch, version, created_at, updated_at, last_login_at \
         FROM users WHERE id = $1 FOR NO KEY UPDATE";
    Ok(match tx.conn() {
        Conn::Postgres(c) => sqlx::query_as(LOCKED).bind(id).fetch_optional(c).await?,
        Conn::Sqlite(c) => sqlx::query_as(USER).bind(id).fetch_optional(c).await?,
    })
}

/// A user that is about to be removed, locked so that until the transaction ends nobody writes rows that refer to
/// it: who is about to notify it has finished, or waits. SQLite has one writer anyway.
pub(crate) async fn lock_user_to_remove(tx: &mut Tx, id: Uuid) -> Result<()> {
    if let Conn::Postgres(c) = tx.conn() {
        sqlx::query("SELECT 1 FROM users WHERE id = $1 FOR UPDATE").bind(id).execute(c).await?;
    }
    Ok(())
}

/// One of a user's notifications, locked until the transaction ends.
pub(crate) async fn lock_notification(tx: &mut Tx, id: Uuid, user_id: Uuid) -> Result<Option<Notification>> {
    const ONE: &str = "SELECT id, user_id, kind, title, message, entity_type, entity_id, is_read, created_at, seq \
         FROM notification WHERE id = $1 AND user_id = $2";
    const LOCKED: &str = "SELECT id, user_id, kind, title, message, entity_type, entity_id, is_read, created_at, seq \
         FROM notification WHERE id = $1 AND user_id = $2 FOR UPDATE";
    Ok(match tx.conn() {
        Conn::Postgres(c) => sqlx::query_as(LOCKED).bind(id).bind(user_id).fetch_optional(c).await?,
        Conn::Sqlite(c) => sqlx::query_as(ONE).bind(id).bind(user_id).fetch_optional(c).await?,
    })
}

/// The notification settings of a user, which are there, locked until the transaction ends.
pub(crate) async fn lock_preference(tx: &mut Tx, user_id: Uuid) -> Result<()> {
    if let Conn::Postgres(c) = tx.conn() {
        const LOCK: &str = "SELECT 1 FROM notification_preference WHERE user_id = $1 FOR UPDATE";
        sqlx::query(LOCK).bind(user_id).execute(c).await?;
    }
    Ok(())
}

/// The end of the audit trail, locked until the transaction ends, as appending to it does.
pub(crate) async fn lock_trail(tx: &mut Tx) -> Result<()> {
    if let Conn::Postgres(c) = tx.conn() {
        sqlx::query("SELECT 1 FROM audit_head WHERE id = 1 FOR UPDATE").execute(c).await?;
    }
    Ok(())
}
