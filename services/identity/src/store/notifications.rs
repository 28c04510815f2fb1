//! Notifications.

use aegis_auth::Role;
use aegis_db::{Db, Result, Tx, on, read};
use chrono::{DateTime, Utc};
use sqlx::QueryBuilder;
use uuid::Uuid;

/// Rows of one INSERT; nine values each, below the parameters that both databases take.
const CHUNK: usize = 500;

/// One notification of one user.
#[derive(Clone, Debug, PartialEq, Eq, sqlx::FromRow)]
pub struct Notification {
    /// Id.
    pub id: Uuid,
    /// Whose it is.
    pub user_id: Uuid,
    /// The state that caused it.
    pub kind: String,
    /// One line.
    pub title: String,
    /// A sentence or two.
    pub message: String,
    /// Kind of what it is about.
    pub entity_type: String,
    /// Id of what it is about.
    pub entity_id: String,
    /// Whether the user has marked it.
    pub is_read: bool,
    /// When what it tells happened.
    pub created_at: DateTime<Utc>,
}

/// The active users with one of these roles.
pub(crate) async fn active_with_role(tx: &mut Tx, roles: &[Role]) -> Result<Vec<Uuid>> {
    Ok(on!(tx, |c| {
        let mut query = QueryBuilder::new("SELECT id FROM users WHERE is_active AND role IN (");
        let mut names = query.separated(", ");
        for role in roles {
            names.push_bind(role.as_str());
        }
        query.push(")");
        query.build_query_scalar().fetch_all(c).await
    })?)
}

/// This user, if active.
pub(crate) async fn active_with_id(tx: &mut Tx, id: Uuid) -> Result<Vec<Uuid>> {
    Ok(on!(tx, |c| sqlx::query_scalar("SELECT id FROM users WHERE id = $1 AND is_active").bind(id).fetch_all(c).await)?)
}

/// Adds notifications.
pub(crate) async fn insert(tx: &mut Tx, notifications: &[Notification]) -> Result<()> {
    for chunk in notifications.chunks(CHUNK) {
        on!(tx, |c| {
            let mut query = QueryBuilder::new(
                "INSERT INTO notification
                 (id, user_id, kind, title, message, entity_type, entity_id, is_read, created_at) ",
            );
            query.push_values(chunk, |mut row, n| {
                row.push_bind(n.id)
                    .push_bind(n.user_id)
                    .push_bind(n.kind.clone())
                    .push_bind(n.title.clone())
                    .push_bind(n.message.clone())
                    .push_bind(n.entity_type.clone())
                    .push_bind(n.entity_id.clone())
                    .push_bind(n.is_read)
                    .push_bind(n.created_at);
            });
            query.build().execute(c).await.map(|_| ())
        })?;
    }
    Ok(())
}

/// A page of a user's notifications, newest first, and how many there are.
pub(crate) async fn list(
    db: &Db,
    user_id: Uuid,
    unread_only: bool,
    limit: i64,
    offset: i64,
) -> Result<(Vec<Notification>, i64)> {
    const ALL: &str = "SELECT * FROM notification WHERE user_id = $1
        ORDER BY created_at DESC, id DESC LIMIT $2 OFFSET $3";
    const UNREAD: &str = "SELECT * FROM notification WHERE user_id = $1 AND NOT is_read
        ORDER BY created_at DESC, id DESC LIMIT $2 OFFSET $3";
    let rows = read!(db, |pool| sqlx::query_as(if unread_only { UNREAD } else { ALL })
        .bind(user_id)
        .bind(limit)
        .bind(offset)
        .fetch_all(pool)
        .await)?;
    let total = if unread_only { count_unread(db, user_id).await? } else { count(db, user_id).await? };
    Ok((rows, total))
}

async fn count(db: &Db, user_id: Uuid) -> Result<i64> {
    Ok(read!(db, |pool| sqlx::query_scalar("SELECT COUNT(*) FROM notification WHERE user_id = $1")
        .bind(user_id)
        .fetch_one(pool)
        .await)?)
}

/// How many of a user's notifications are not marked.
pub(crate) async fn count_unread(db: &Db, user_id: Uuid) -> Result<i64> {
    Ok(read!(db, |pool| sqlx::query_scalar("SELECT COUNT(*) FROM notification WHERE user_id = $1 AND NOT is_read")
        .bind(user_id)
        .fetch_one(pool)
        .await)?)
}

/// Marks one; nothing where it is marked already or not this user's.
pub(crate) async fn mark(tx: &mut Tx, id: Uuid, user_id: Uuid) -> Result<Option<Notification>> {
    Ok(on!(tx, |c| sqlx::query_as(
        "UPDATE notification SET is_read = TRUE WHERE id = $1 AND user_id = $2 AND NOT is_read RETURNING *"
    )
    .bind(id)
    .bind(user_id)
    .fetch_optional(c)
    .await)?)
}

/// One of a user's notifications.
pub(crate) async fn find(tx: &mut Tx, id: Uuid, user_id: Uuid) -> Result<Option<Notification>> {
    Ok(on!(tx, |c| sqlx::query_as("SELECT * FROM notification WHERE id = $1 AND user_id = $2")
        .bind(id)
        .bind(user_id)
        .fetch_optional(c)
        .await)?)
}

/// Marks all of a user's; answers how many were not marked.
pub(crate) async fn mark_all(tx: &mut Tx, user_id: Uuid) -> Result<u64> {
    Ok(on!(tx, |c| sqlx::query("UPDATE notification SET is_read = TRUE WHERE user_id = $1 AND NOT is_read")
        .bind(user_id)
        .execute(c)
        .await
        .map(|done| done.rows_affected()))?)
}
