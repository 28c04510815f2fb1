//! Notifications, and the positions by which they are followed.

use aegis_db::{Db, Result, Tx, on, read};
use chrono::{DateTime, Utc};
use sqlx::QueryBuilder;
use uuid::Uuid;

use crate::domain::notice::Notice;

use super::dialect;

/// Rows of one INSERT; ten values each, below the parameters that both databases take.
const CHUNK: usize = 500;
/// Rows of one DELETE: a writer that waits does not wait long.
const PURGED_AT_ONCE: i64 = 1000;

/// One notification of one user.
#[derive(Clone, Debug, PartialEq, Eq, sqlx::FromRow)]
pub struct Notification {
    /// Id.
    pub id: Uuid,
    /// Whose it is.
    pub user_id: Uuid,
    /// What happened.
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
    /// Its position among all.
    pub seq: i64,
}

impl Notification {
    /// 1 as long as it is unread, then 2: nothing else of it changes.
    pub fn version(&self) -> i64 {
        1 + i64::from(self.is_read)
    }
}

/// The active users who are to get a notice, by role or by name, and want it; each once.
pub(crate) async fn recipients(tx: &mut Tx, notice: &Notice, actor: Option<Uuid>) -> Result<Vec<Uuid>> {
    if notice.people.is_empty() && notice.kind.roles.is_empty() {
        return Ok(Vec::new());
    }
    Ok(on!(tx, |c| {
        let mut query = QueryBuilder::new(
            "SELECT u.id FROM users u
             LEFT JOIN notification_preference p ON p.user_id = u.id
             LEFT JOIN notification_choice c ON c.user_id = u.id AND c.kind = ",
        );
        query.push_bind(notice.kind.name).push(" WHERE u.is_active AND COALESCE(c.enabled, ");
        query.push_bind(notice.kind.by_default);
        query.push(") AND NOT (COALESCE(p.mute_own_actions, FALSE) AND u.id = ");
        query.push_bind(actor.unwrap_or_default()).push(") AND (");
        if !notice.people.is_empty() {
            query.push("u.id IN (");
            let mut ids = query.separated(", ");
            for id in &notice.people {
                ids.push_bind(*id);
            }
            query.push(")");
        }
        if !notice.kind.roles.is_empty() {
            query.push(if notice.people.is_empty() { "u.role IN (" } else { " OR u.role IN (" });
            let mut names = query.separated(", ");
            for role in notice.kind.roles {
                names.push_bind(role.as_str());
            }
            query.push(")");
        }
        query.push(")");
        query.build_query_scalar().fetch_all(c).await
    })?)
}

/// Adds notifications and gives them their positions, in this order.
pub(crate) async fn insert(tx: &mut Tx, notifications: &mut [Notification]) -> Result<()> {
    if notifications.is_empty() {
        return Ok(());
    }
    // Transactions that take events in lock the head of the audit trail too. All of them in this order, or two
    // replicas could wait for each other.
    dialect::lock_trail(tx).await?;
    let count = i64::try_from(notifications.len()).unwrap_or(i64::MAX);
    let last = advance(tx, count).await?;
    for (row, seq) in notifications.iter_mut().zip(last - count + 1..) {
        row.seq = seq;
    }
    for chunk in notifications.chunks(CHUNK) {
        on!(tx, |c| {
            let mut query = QueryBuilder::new(
                "INSERT INTO notification
                 (id, user_id, kind, title, message, entity_type, entity_id, is_read, created_at, seq) ",
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
                    .push_bind(n.created_at)
                    .push_bind(n.seq);
            });
            query.build().execute(c).await.map(|_| ())
        })?;
    }
    Ok(())
}

/// Takes the next `count` positions; answers the last of them. Others that take some wait for the end of this
/// transaction, which is what makes positions appear in their order.
async fn advance(tx: &mut Tx, count: i64) -> Result<i64> {
    Ok(on!(tx, |c| sqlx::query_scalar("UPDATE notification_head SET seq = seq + $1 WHERE id = 1 RETURNING seq")
        .bind(count)
        .fetch_one(c)
        .await)?)
}

/// A page of a user's notifications, newest first, and how many there are.
pub(crate) async fn list(
    db: &Db,
    user_id: Uuid,
    unread_only: bool,
    limit: i64,
    offset: i64,
) -> Result<(Vec<Notification>, i64)> {
    const ALL: &str = "SELECT id, user_id, kind, title, message, entity_type, entity_id, is_read, created_at, seq \
         FROM notification WHERE user_id = $1
        ORDER BY created_at DESC, id DESC LIMIT $2 OFFSET $3";
    const UNREAD: &str = "SELECT id, user_id, kind, title, message, entity_type, entity_id, is_read, created_at, seq \
         FROM notification WHERE user_id = $1 AND NOT is_read
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

/// How many notifications these users have not marked; who has none is not there.
pub(crate) async fn count_unread_of(db: &Db, users: &[Uuid]) -> Result<Vec<(Uuid, i64)>> {
    let mut counts = Vec::with_capacity(users.len());
    for chunk in users.chunks(CHUNK) {
        let some: Vec<(Uuid, i64)> = read!(db, |pool| {
            let mut query =
                QueryBuilder::new("SELECT user_id, COUNT(*) FROM notification WHERE NOT is_read AND user_id IN (");
            let mut ids = query.separated(", ");
            for user in chunk {
                ids.push_bind(*user);
            }
            query.push(") GROUP BY user_id");
            query.build_query_as().fetch_all(pool).await
        })?;
        counts.extend(some);
    }
    Ok(counts)
}

/// One of a user's notifications.
pub(crate) async fn find(db: &Db, id: Uuid, user_id: Uuid) -> Result<Option<Notification>> {
    Ok(read!(db, |pool| sqlx::query_as(
        "SELECT id, user_id, kind, title, message, entity_type, entity_id, \
         is_read, created_at, seq \
         FROM notification WHERE id = $1 AND user_id = $2"
    )
    .bind(id)
    .bind(user_id)
    .fetch_optional(pool)
    .await)?)
}

/// Marks one that is not marked.
pub(crate) async fn mark(tx: &mut Tx, id: Uuid, user_id: Uuid) -> Result<()> {
    on!(tx, |c| sqlx::query("UPDATE notification SET is_read = TRUE WHERE id = $1 AND user_id = $2")
        .bind(id)
        .bind(user_id)
        .execute(c)
        .await
        .map(|_| ()))?;
    note_mark(tx, user_id).await
}

/// Marks all of a user's; answers how many were not marked.
pub(crate) async fn mark_all(tx: &mut Tx, user_id: Uuid) -> Result<u64> {
    let updated =
        on!(tx, |c| sqlx::query("UPDATE notification SET is_read = TRUE WHERE user_id = $1 AND NOT is_read")
            .bind(user_id)
            .execute(c)
            .await
            .map(|done| done.rows_affected()))?;
    if updated > 0 {
        note_mark(tx, user_id).await?;
    }
    Ok(updated)
}

async fn note_mark(tx: &mut Tx, user_id: Uuid) -> Result<()> {
    let seq = advance(tx, 1).await?;
    on!(tx, |c| sqlx::query(
        "INSERT INTO notification_mark (user_id, seq) VALUES ($1, $2)
         ON CONFLICT (user_id) DO UPDATE SET seq = excluded.seq"
    )
    .bind(user_id)
    .bind(seq)
    .execute(c)
    .await
    .map(|_| ()))?;
    Ok(())
}

/// The last position given in what is committed.
pub(crate) async fn head(db: &Db) -> Result<i64> {
    Ok(read!(db, |pool| sqlx::query_scalar("SELECT seq FROM notification_head WHERE id = 1").fetch_one(pool).await)?)
}

/// At most `limit` notifications of everybody with positions after `after` and up to `until`.
pub(crate) async fn between(db: &Db, after: i64, until: i64, limit: i64) -> Result<Vec<Notification>> {
    Ok(read!(db, |pool| sqlx::query_as(
        "SELECT id, user_id, kind, title, message, entity_type, entity_id, is_read, created_at, seq \
         FROM notification WHERE seq > $1 AND seq <= $2 ORDER BY seq LIMIT $3"
    )
    .bind(after)
    .bind(until)
    .bind(limit)
    .fetch_all(pool)
    .await)?)
}

/// At most `limit` users who marked something at positions after `after` and up to `until`, with the position.
pub(crate) async fn marked_between(db: &Db, after: i64, until: i64, limit: i64) -> Result<Vec<(Uuid, i64)>> {
    Ok(read!(db, |pool| sqlx::query_as(
        "SELECT user_id, seq FROM notification_mark WHERE seq > $1 AND seq <= $2 ORDER BY seq LIMIT $3"
    )
    .bind(after)
    .bind(until)
    .bind(limit)
    .fetch_all(pool)
    .await)?)
}

/// At most `limit` of a user's notifications after a position, oldest first.
pub(crate) async fn after(db: &Db, user_id: Uuid, after: i64, limit: i64) -> Result<Vec<Notification>> {
    Ok(read!(db, |pool| sqlx::query_as(
        "SELECT id, user_id, kind, title, message, entity_type, entity_id, is_read, created_at, seq \
         FROM notification WHERE user_id = $1 AND seq > $2 ORDER BY seq LIMIT $3"
    )
    .bind(user_id)
    .bind(after)
    .bind(limit)
    .fetch_all(pool)
    .await)?)
}

/// The position of the `nth` newest of a user's notifications, where there are so many after `after`.
pub(crate) async fn nth_newest(db: &Db, user_id: Uuid, after: i64, nth: i64) -> Result<Option<i64>> {
    Ok(read!(db, |pool| sqlx::query_scalar(
        "SELECT seq FROM notification WHERE user_id = $1 AND seq > $2 ORDER BY seq DESC LIMIT 1 OFFSET $3"
    )
    .bind(user_id)
    .bind(after)
    .bind(nth - 1)
    .fetch_optional(pool)
    .await)?)
}

/// Removes some of the notifications that were made before `any`, or are read and were made before `read`; answers
/// how many, nothing when none are left.
pub(crate) async fn purge(tx: &mut Tx, any: DateTime<Utc>, read: DateTime<Utc>) -> Result<u64> {
    const OLD: &str = "DELETE FROM notification WHERE id IN
        (SELECT id FROM notification WHERE created_at < $1 ORDER BY created_at LIMIT $2)";
    const READ: &str = "DELETE FROM notification WHERE id IN
        (SELECT id FROM notification WHERE is_read AND created_at < $1 ORDER BY created_at LIMIT $2)";
    let old = purge_by(tx, OLD, any).await?;
    Ok(old + purge_by(tx, READ, read).await?)
}

async fn purge_by(tx: &mut Tx, sql: &'static str, before: DateTime<Utc>) -> Result<u64> {
    Ok(on!(tx, |c| sqlx::query(sql)
        .bind(before)
        .bind(PURGED_AT_ONCE)
        .execute(c)
        .await
        .map(|done| done.rows_affected()))?)
}
