//! SQL of attackers' sessions.

use aegis_db::{Db, Result, Tx, on, read};
use sqlx::QueryBuilder;
use uuid::Uuid;

/// Rows of one statement; the statement of whole chunks is made once.
const ROWS: usize = 500;

/// One connection of an attacker. Moments are microseconds since 1970.
#[derive(Clone, Debug, PartialEq, Eq, sqlx::FromRow)]
pub(crate) struct Session {
    pub(crate) attacker_id: Uuid,
    pub(crate) id: String,
    pub(crate) decky: String,
    pub(crate) service: String,
    pub(crate) started_at: i64,
    pub(crate) last_at: i64,
    pub(crate) ended_at: Option<i64>,
    pub(crate) event_count: i64,
    pub(crate) command_count: i64,
    pub(crate) username: Option<String>,
}

/// Adds events to sessions, each of which is there once.
pub(crate) async fn add(tx: &mut Tx, sessions: &[Session]) -> Result<()> {
    for sessions in sessions.chunks(ROWS) {
        on!(tx, |c| {
            let mut query = QueryBuilder::new(
                "INSERT INTO attacker_session (attacker_id, id, decky, service, started_at, last_at, ended_at, \
                 event_count, command_count, username) ",
            );
            query.push_values(sessions, |mut row, session| {
                row.push_bind(session.attacker_id)
                    .push_bind(&session.id)
                    .push_bind(&session.decky)
                    .push_bind(&session.service)
                    .push_bind(session.started_at)
                    .push_bind(session.last_at)
                    .push_bind(session.ended_at)
                    .push_bind(session.event_count)
                    .push_bind(session.command_count)
                    .push_bind(&session.username);
            });
            query.push(
                " ON CONFLICT (attacker_id, id) DO UPDATE SET \
                 started_at = CASE WHEN excluded.started_at < attacker_session.started_at \
                 THEN excluded.started_at ELSE attacker_session.started_at END, \
                 last_at = CASE WHEN excluded.last_at > attacker_session.last_at \
                 THEN excluded.last_at ELSE attacker_session.last_at END, \
                 ended_at = COALESCE(excluded.ended_at, attacker_session.ended_at), \
                 event_count = attacker_session.event_count + excluded.event_count, \
                 command_count = attacker_session.command_count + excluded.command_count, \
                 username = COALESCE(attacker_session.username, excluded.username)",
            );
            query.build().persistent(sessions.len() == ROWS).execute(c).await.map(|_| ())
        })?;
    }
    Ok(())
}

/// A page of an attacker's sessions, the latest first, and how many there are.
pub(crate) async fn list(db: &Db, attacker_id: Uuid, limit: i64, offset: i64) -> Result<(Vec<Session>, i64)> {
    const TOTAL: &str = "SELECT COUNT(*) FROM attacker_session WHERE attacker_id = $1";
    const PAGE: &str = "SELECT attacker_id, id, decky, service, started_at, last_at, ended_at, event_count, \
         command_count, username \
         FROM attacker_session WHERE attacker_id = $1 \
                        ORDER BY started_at DESC, id DESC LIMIT $2 OFFSET $3";
    let total = read!(db, |pool| sqlx::query_scalar(TOTAL).bind(attacker_id).fetch_one(pool).await)?;
    let rows = read!(db, |pool| sqlx::query_as(PAGE).bind(attacker_id).bind(limit).bind(offset).fetch_all(pool).await)?;
    Ok((rows, total))
}

/// One of an attacker's sessions.
pub(crate) async fn find(db: &Db, attacker_id: Uuid, id: &str) -> Result<Option<Session>> {
    const SQL: &str = "SELECT attacker_id, id, decky, service, started_at, last_at, ended_at, event_count, \
         command_count, username \
         FROM attacker_session WHERE attacker_id = $1 AND id = $2";
    Ok(read!(db, |pool| sqlx::query_as(SQL).bind(attacker_id).bind(id).fetch_optional(pool).await)?)
}
