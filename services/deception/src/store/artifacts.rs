//! Captured files and recorded sessions, as rows.

use std::collections::HashSet;

use aegis_db::{Db, Result, Tx, on, read};
use chrono::{DateTime, Utc};
use sqlx::QueryBuilder;
use uuid::Uuid;

/// A file that an attacker brought, or a recorded session.
#[derive(Clone, Debug, sqlx::FromRow)]
pub(crate) struct Artifact {
    pub(crate) id: Uuid,
    /// `file` or `recording`.
    pub(crate) kind: String,
    pub(crate) decky: String,
    pub(crate) stored_as: String,
    pub(crate) service: String,
    pub(crate) attacker_ip: String,
    pub(crate) session_id: String,
    /// As the attacker had it.
    pub(crate) name: String,
    pub(crate) sha256: String,
    pub(crate) size: i64,
    pub(crate) captured_at: DateTime<Utc>,
    pub(crate) created_at: DateTime<Utc>,
}

impl Artifact {
    /// Where its bytes are.
    pub(crate) fn blob_key(&self) -> String {
        format!("artifacts/{}/{}", self.sha256.get(..2).unwrap_or("00"), self.sha256)
    }
}

macro_rules! columns {
    () => {
        "id, kind, decky, stored_as, service, attacker_ip, session_id, name, sha256, size, captured_at, created_at"
    };
}

/// One, by its name.
pub(crate) async fn get(db: &Db, decky: &str, stored_as: &str) -> Result<Option<Artifact>> {
    const SQL: &str = concat!("SELECT ", columns!(), " FROM artifact WHERE decky = $1 AND stored_as = $2");
    Ok(read!(db, |pool| sqlx::query_as(SQL).bind(decky).bind(stored_as).fetch_optional(pool).await)?)
}

/// The recording of a session.
pub(crate) async fn recording(db: &Db, session_id: &str) -> Result<Option<Artifact>> {
    const SQL: &str = concat!(
        "SELECT ",
        columns!(),
        " FROM artifact WHERE session_id = $1 AND kind = 'recording' ORDER BY captured_at DESC LIMIT 1"
    );
    Ok(read!(db, |pool| sqlx::query_as(SQL).bind(session_id).fetch_optional(pool).await)?)
}

/// Which of these sessions were recorded. For a page of them.
pub(crate) async fn recorded(db: &Db, sessions: &[String]) -> Result<HashSet<String>> {
    if sessions.is_empty() {
        return Ok(HashSet::new());
    }
    let found: Vec<String> = read!(db, |pool| {
        let mut query =
            QueryBuilder::new("SELECT session_id FROM artifact WHERE kind = 'recording' AND session_id IN (");
        let mut list = query.separated(", ");
        for session in sessions {
            list.push_bind(session);
        }
        query.push(")");
        query.build_query_scalar().persistent(false).fetch_all(pool).await
    })?;
    Ok(found.into_iter().collect())
}

/// What all of them take together, bytes.
pub(crate) async fn bytes(db: &Db) -> Result<i64> {
    const SQL: &str = "SELECT CAST(COALESCE(SUM(size), 0) AS BIGINT) FROM artifact";
    Ok(read!(db, |pool| sqlx::query_scalar(SQL).fetch_one(pool).await)?)
}

/// Adds one; false where it is there.
pub(crate) async fn insert(tx: &mut Tx, artifact: &Artifact) -> Result<bool> {
    const SQL: &str = concat!(
        "INSERT INTO artifact (",
        columns!(),
        ") VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12) ON CONFLICT (decky, stored_as) DO NOTHING"
    );
    let a = artifact;
    Ok(on!(tx, |c| {
        let query = sqlx::query(SQL).bind(a.id).bind(&a.kind).bind(&a.decky).bind(&a.stored_as).bind(&a.service);
        let query = query.bind(&a.attacker_ip).bind(&a.session_id).bind(&a.name).bind(&a.sha256).bind(a.size);
        query.bind(a.captured_at).bind(a.created_at).execute(c).await.map(|done| done.rows_affected() > 0)
    })?)
}
