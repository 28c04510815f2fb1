//! API keys.

use aegis_auth::Role;
use aegis_db::{Db, Error, Result, Tx, on, read};
use chrono::{DateTime, Utc};
use uuid::Uuid;

use crate::domain::{api_key::ApiKey, user::User};

use super::users::{self, UserRow};

#[derive(sqlx::FromRow)]
struct Row {
    id: Uuid,
    user_id: Uuid,
    name: String,
    role: String,
    prefix: String,
    created_at: DateTime<Utc>,
    expires_at: DateTime<Utc>,
    revoked_at: Option<DateTime<Utc>>,
    last_used_at: Option<DateTime<Utc>>,
}

impl Row {
    fn key(self) -> Result<ApiKey> {
        Ok(ApiKey {
            id: self.id,
            user_id: self.user_id,
            name: self.name,
            role: role(&self.role)?,
            prefix: self.prefix,
            created_at: self.created_at,
            expires_at: self.expires_at,
            revoked_at: self.revoked_at,
            last_used_at: self.last_used_at,
        })
    }
}

fn role(name: &str) -> Result<Role> {
    Role::of_key(name).ok_or_else(|| Error::Sqlx(sqlx::Error::Decode(format!("'{name}' is no role").into())))
}

/// Adds a key.
pub(crate) async fn insert(tx: &mut Tx, key: &ApiKey, hash: &[u8]) -> Result<()> {
    on!(tx, |c| sqlx::query(
        "INSERT INTO api_key (id, user_id, name, role, prefix, key_hash, created_at, expires_at)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8)"
    )
    .bind(key.id)
    .bind(key.user_id)
    .bind(&key.name)
    .bind(key.role.as_str())
    .bind(&key.prefix)
    .bind(hash)
    .bind(key.created_at)
    .bind(key.expires_at)
    .execute(c)
    .await
    .map(|_| ()))?;
    Ok(())
}

/// How many keys of a user hold.
pub(crate) async fn count_holding(tx: &mut Tx, user_id: Uuid, now: DateTime<Utc>) -> Result<i64> {
    Ok(on!(tx, |c| sqlx::query_scalar(
        "SELECT COUNT(*) FROM api_key WHERE user_id = $1 AND revoked_at IS NULL AND expires_at > $2"
    )
    .bind(user_id)
    .bind(now)
    .fetch_one(c)
    .await)?)
}

/// A page of a user's keys, newest first, and how many there are.
pub(crate) async fn list(db: &Db, user_id: Uuid, limit: i64, offset: i64) -> Result<(Vec<ApiKey>, i64)> {
    let rows: Vec<Row> = read!(db, |pool| sqlx::query_as(
        "SELECT id, user_id, name, role, prefix, created_at, expires_at, revoked_at, last_used_at FROM api_key
         WHERE user_id = $1 ORDER BY created_at DESC, id DESC LIMIT $2 OFFSET $3"
    )
    .bind(user_id)
    .bind(limit)
    .bind(offset)
    .fetch_all(pool)
    .await)?;
    let total = read!(db, |pool| sqlx::query_scalar("SELECT COUNT(*) FROM api_key WHERE user_id = $1")
        .bind(user_id)
        .fetch_one(pool)
        .await)?;
    Ok((rows.into_iter().map(Row::key).collect::<Result<_>>()?, total))
}

/// One of a user's keys.
pub(crate) async fn find(db: &Db, id: Uuid, user_id: Uuid) -> Result<Option<ApiKey>> {
    let row: Option<Row> = read!(db, |pool| sqlx::query_as(
        "SELECT id, user_id, name, role, prefix, created_at, expires_at, revoked_at, last_used_at FROM api_key
         WHERE id = $1 AND user_id = $2"
    )
    .bind(id)
    .bind(user_id)
    .fetch_optional(pool)
    .await)?;
    row.map(Row::key).transpose()
}

/// Ends a key; nothing where it has ended already or is not this user's.
pub(crate) async fn revoke(tx: &mut Tx, id: Uuid, user_id: Uuid, at: DateTime<Utc>) -> Result<Option<ApiKey>> {
    let row: Option<Row> = on!(tx, |c| sqlx::query_as(
        "UPDATE api_key SET revoked_at = $1 WHERE id = $2 AND user_id = $3 AND revoked_at IS NULL
         RETURNING id, user_id, name, role, prefix, created_at, expires_at, revoked_at, last_used_at"
    )
    .bind(at)
    .bind(id)
    .bind(user_id)
    .fetch_optional(c)
    .await)?;
    row.map(Row::key).transpose()
}

/// The key with this hash, and its owner.
pub(crate) async fn by_hash(db: &Db, hash: &[u8]) -> Result<Option<(ApiKey, User)>> {
    let row: Option<Row> = read!(db, |pool| sqlx::query_as(
        "SELECT id, user_id, name, role, prefix, created_at, expires_at, revoked_at, last_used_at FROM api_key
         WHERE key_hash = $1"
    )
    .bind(hash)
    .fetch_optional(pool)
    .await)?;
    let Some(key) = row.map(Row::key).transpose()? else { return Ok(None) };
    let owner = users::by_id(db, key.user_id).await?;
    Ok(owner.as_ref().map(UserRow::user).transpose()?.map(|owner| (key, owner)))
}

/// Notes that a key was used.
pub(crate) async fn touch(tx: &mut Tx, id: Uuid, at: DateTime<Utc>) -> Result<()> {
    on!(tx, |c| sqlx::query("UPDATE api_key SET last_used_at = $1 WHERE id = $2")
        .bind(at)
        .bind(id)
        .execute(c)
        .await
        .map(|_| ()))?;
    Ok(())
}

/// Removes keys that ended before a moment; answers how many.
pub(crate) async fn purge(tx: &mut Tx, before: DateTime<Utc>) -> Result<u64> {
    Ok(on!(tx, |c| sqlx::query("DELETE FROM api_key WHERE expires_at < $1")
        .bind(before)
        .execute(c)
        .await
        .map(|done| done.rows_affected()))?)
}
