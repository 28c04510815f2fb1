//! Users.

use aegis_auth::Role;
use aegis_db::{Db, Error, Result, Tx, contains_pattern, on, read};
use chrono::{DateTime, Utc};
use sqlx::{Database, QueryBuilder};
use uuid::Uuid;

use crate::domain::user::{User, username_key};

use super::dialect;

/// A row of users, with the hash of the password. Has no Debug on purpose.
#[derive(sqlx::FromRow)]
pub(crate) struct UserRow {
    id: Uuid,
    username: String,
    email: Option<String>,
    role: String,
    /// Not read for lists, which need none.
    #[sqlx(default)]
    pub(crate) password_hash: String,
    is_active: bool,
    must_change_password: bool,
    token_epoch: i64,
    version: i64,
    created_at: DateTime<Utc>,
    updated_at: DateTime<Utc>,
    last_login_at: Option<DateTime<Utc>>,
}

impl UserRow {
    /// The user without the hash.
    pub(crate) fn user(&self) -> Result<User> {
        let role = self
            .role
            .parse()
            .map_err(|()| Error::Sqlx(sqlx::Error::Decode(format!("'{}' is no role", self.role).into())))?;
        Ok(User {
            id: self.id,
            username: self.username.clone(),
            email: self.email.clone(),
            role,
            is_active: self.is_active,
            must_change_password: self.must_change_password,
            token_epoch: self.token_epoch,
            version: self.version,
            created_at: self.created_at,
            updated_at: self.updated_at,
            last_login_at: self.last_login_at,
        })
    }
}

/// Which users are wanted.
#[derive(Clone, Debug, Default)]
pub(crate) struct Filter {
    /// In the name or the email address, in whatever case.
    pub(crate) search: Option<String>,
    pub(crate) role: Option<Role>,
    pub(crate) is_active: Option<bool>,
}

/// A page of the users that pass, in the order of their names, and how many pass.
pub(crate) async fn list(db: &Db, filter: &Filter, limit: i64, offset: i64) -> Result<(Vec<User>, i64)> {
    tokio::try_join!(page(db, filter, limit, offset), total(db, filter))
}

async fn page(db: &Db, filter: &Filter, limit: i64, offset: i64) -> Result<Vec<User>> {
    let rows: Vec<UserRow> = read!(db, |pool| {
        let mut query = QueryBuilder::new(
            "SELECT id, username, email, role, is_active, must_change_password, token_epoch, version, created_at,
                 updated_at, last_login_at FROM users",
        );
        narrow(&mut query, filter);
        query.push(" ORDER BY username_key LIMIT ").push_bind(limit).push(" OFFSET ").push_bind(offset);
        query.build_query_as().fetch_all(pool).await
    })?;
    rows.iter().map(UserRow::user).collect()
}

async fn total(db: &Db, filter: &Filter) -> Result<i64> {
    Ok(read!(db, |pool| {
        let mut query = QueryBuilder::new("SELECT COUNT(*) FROM users");
        narrow(&mut query, filter);
        query.build_query_scalar().fetch_one(pool).await
    })?)
}

fn narrow<D>(query: &mut QueryBuilder<D>, filter: &Filter)
where
    D: Database,
    for<'q> bool: sqlx::Encode<'q, D> + sqlx::Type<D>,
    for<'q> String: sqlx::Encode<'q, D> + sqlx::Type<D>,
    for<'q> &'static str: sqlx::Encode<'q, D> + sqlx::Type<D>,
{
    // The first condition is for the others to begin with AND.
    query.push(" WHERE TRUE");
    if let Some(role) = filter.role {
        query.push(" AND role = ").push_bind(role.as_str());
    }
    if let Some(is_active) = filter.is_active {
        query.push(" AND is_active = ").push_bind(is_active);
    }
    if let Some(search) = &filter.search {
        let pattern = contains_pattern(&search.to_lowercase());
        query.push(" AND (username_key LIKE ").push_bind(pattern.clone()).push(" ESCAPE '\\'");
        query.push(" OR LOWER(email) LIKE ").push_bind(pattern).push(" ESCAPE '\\')");
    }
}

/// Whether there is somebody.
pub(crate) async fn exist(db: &Db) -> Result<bool> {
    let one: Option<i32> =
        read!(db, |pool| sqlx::query_scalar("SELECT 1 FROM users LIMIT 1").fetch_optional(pool).await)?;
    Ok(one.is_some())
}

/// Removes a user and what is its own.
pub(crate) async fn delete(tx: &mut Tx, id: Uuid) -> Result<()> {
    // Before its notifications are looked for: one that is committed afterwards would refer to nobody.
    dialect::lock_user_to_remove(tx, id).await?;
    on!(tx, |c| sqlx::query("DELETE FROM notification WHERE user_id = $1").bind(id).execute(c).await.map(|_| ()))?;
    // API keys go with it.
    on!(tx, |c| sqlx::query("DELETE FROM users WHERE id = $1").bind(id).execute(c).await.map(|_| ()))?;
    Ok(())
}

/// The user with this id.
pub(crate) async fn by_id(db: &Db, id: Uuid) -> Result<Option<UserRow>> {
    Ok(read!(db, |pool| sqlx::query_as(
        "SELECT id, username, email, role, password_hash, is_active, \
         must_change_password, token_epoch, version, created_at, updated_at, last_login_at \
         FROM users WHERE id = $1"
    )
    .bind(id)
    .fetch_optional(pool)
    .await)?)
}

/// The user with this name, in whatever case.
pub(crate) async fn by_username(db: &Db, username: &str) -> Result<Option<UserRow>> {
    Ok(read!(db, |pool| sqlx::query_as(
        "SELECT id, username, email, role, password_hash, is_active, \
         must_change_password, token_epoch, version, created_at, updated_at, last_login_at \
         FROM users WHERE username_key = $1"
    )
    .bind(username_key(username))
    .fetch_optional(pool)
    .await)?)
}

/// Whether there is any user.
pub(crate) async fn any(tx: &mut Tx) -> Result<bool> {
    let one: Option<i32> = on!(tx, |c| sqlx::query_scalar("SELECT 1 FROM users LIMIT 1").fetch_optional(c).await)?;
    Ok(one.is_some())
}

/// Adds a user; false when the name is taken.
pub(crate) async fn insert(tx: &mut Tx, user: &User, password_hash: &str) -> Result<bool> {
    let rows = on!(tx, |c| sqlx::query(
        "INSERT INTO users (id, username, username_key, email, role, password_hash, is_active,
             must_change_password, token_epoch, version, created_at, updated_at, last_login_at)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)
         ON CONFLICT (username_key) DO NOTHING"
    )
    .bind(user.id)
    .bind(&user.username)
    .bind(username_key(&user.username))
    .bind(&user.email)
    .bind(user.role.as_str())
    .bind(password_hash)
    .bind(user.is_active)
    .bind(user.must_change_password)
    .bind(user.token_epoch)
    .bind(user.version)
    .bind(user.created_at)
    .bind(user.updated_at)
    .bind(user.last_login_at)
    .execute(c)
    .await
    .map(|done| done.rows_affected()))?;
    Ok(rows == 1)
}

/// Writes what can change of a user whose version was `user.version - 1`; the hash only where there is a new one.
/// False when the version was another.
pub(crate) async fn update(tx: &mut Tx, user: &User, password_hash: Option<&str>) -> Result<bool> {
    let rows = on!(tx, |c| sqlx::query(
        "UPDATE users SET email = $1, role = $2, is_active = $3, must_change_password = $4, token_epoch = $5,
             version = $6, updated_at = $7, password_hash = COALESCE($8, password_hash)
         WHERE id = $9 AND version = $10"
    )
    .bind(&user.email)
    .bind(user.role.as_str())
    .bind(user.is_active)
    .bind(user.must_change_password)
    .bind(user.token_epoch)
    .bind(user.version)
    .bind(user.updated_at)
    .bind(password_hash)
    .bind(user.id)
    .bind(user.version - 1)
    .execute(c)
    .await
    .map(|done| done.rows_affected()))?;
    Ok(rows == 1)
}

/// Notes a login, unless the user was disabled or its tokens were ended since it was read.
pub(crate) async fn touch_login(tx: &mut Tx, id: Uuid, token_epoch: i64, at: DateTime<Utc>) -> Result<bool> {
    let rows = on!(tx, |c| sqlx::query(
        "UPDATE users SET last_login_at = $1 WHERE id = $2 AND token_epoch = $3 AND is_active"
    )
    .bind(at)
    .bind(id)
    .bind(token_epoch)
    .execute(c)
    .await
    .map(|done| done.rows_affected()))?;
    Ok(rows == 1)
}
