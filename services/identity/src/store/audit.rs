//! The audit trail.

use aegis_db::{Db, Result, Tx, on, read};
use chrono::{DateTime, Utc};
use sqlx::{Database, QueryBuilder};
use uuid::Uuid;

use crate::domain::audit::{Entry, Record};

/// Which records are wanted.
#[derive(Clone, Debug, Default)]
pub(crate) struct Filter {
    pub(crate) user_id: Option<Uuid>,
    pub(crate) action: Option<String>,
    pub(crate) entity_type: Option<String>,
    pub(crate) from: Option<DateTime<Utc>>,
    pub(crate) to: Option<DateTime<Utc>>,
}

impl Filter {
    fn is_empty(&self) -> bool {
        self.user_id.is_none()
            && self.action.is_none()
            && self.entity_type.is_none()
            && self.from.is_none()
            && self.to.is_none()
    }
}

#[derive(sqlx::FromRow)]
struct Row {
    seq: i64,
    id: Uuid,
    user_id: Option<Uuid>,
    username: String,
    action: String,
    entity_type: String,
    entity_id: String,
    at: DateTime<Utc>,
    details: String,
    success: bool,
    address: String,
    user_agent: String,
    request_id: String,
    source: String,
    prev_hash: String,
    hash: String,
}

impl From<Row> for Record {
    fn from(row: Row) -> Record {
        Record {
            seq: row.seq,
            entry: Entry {
                id: row.id,
                user_id: row.user_id,
                username: row.username,
                action: row.action,
                entity_type: row.entity_type,
                entity_id: row.entity_id,
                at: row.at,
                details: row.details,
                success: row.success,
                address: row.address,
                user_agent: row.user_agent,
                request_id: row.request_id,
                source: row.source,
            },
            prev_hash: row.prev_hash,
            hash: row.hash,
        }
    }
}

/// Puts an entry at the end of the chain. The head's row is locked until the transaction ends, so the chain does
/// not fork, however many append.
pub(crate) async fn append(tx: &mut Tx, entry: Entry) -> Result<()> {
    let (seq, prev_hash): (i64, String) =
        on!(tx, |c| sqlx::query_as("UPDATE audit_head SET seq = seq + 1 WHERE id = 1 RETURNING seq, hash")
            .fetch_one(c)
            .await)?;
    let record = Record::chain(seq, prev_hash, entry);
    let entry = &record.entry;
    on!(tx, |c| sqlx::query(
        "INSERT INTO audit_log (seq, id, user_id, username, action, entity_type, entity_id, at, details, success,
             address, user_agent, request_id, source, prev_hash, hash)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16)"
    )
    .bind(record.seq)
    .bind(entry.id)
    .bind(entry.user_id)
    .bind(&entry.username)
    .bind(&entry.action)
    .bind(&entry.entity_type)
    .bind(&entry.entity_id)
    .bind(entry.at)
    .bind(&entry.details)
    .bind(entry.success)
    .bind(&entry.address)
    .bind(&entry.user_agent)
    .bind(&entry.request_id)
    .bind(&entry.source)
    .bind(&record.prev_hash)
    .bind(&record.hash)
    .execute(c)
    .await
    .map(|_| ()))?;
    on!(tx, |c| sqlx::query("UPDATE audit_head SET hash = $1 WHERE id = 1")
        .bind(&record.hash)
        .execute(c)
        .await
        .map(|_| ()))?;
    on!(tx, |c| sqlx::query("INSERT INTO audit_action (action) VALUES ($1) ON CONFLICT DO NOTHING")
        .bind(&entry.action)
        .execute(c)
        .await
        .map(|_| ()))?;
    if !entry.entity_type.is_empty() {
        on!(tx, |c| sqlx::query("INSERT INTO audit_entity_type (entity_type) VALUES ($1) ON CONFLICT DO NOTHING")
            .bind(&entry.entity_type)
            .execute(c)
            .await
            .map(|_| ()))?;
    }
    Ok(())
}

/// A page of the records that pass, newest first, and how many pass.
pub(crate) async fn list(db: &Db, filter: &Filter, limit: i64, offset: i64) -> Result<(Vec<Record>, i64)> {
    let rows: Vec<Row> = read!(db, |pool| {
        let mut query = QueryBuilder::new("SELECT * FROM audit_log");
        narrow(&mut query, filter);
        query.push(" ORDER BY at DESC, seq DESC LIMIT ").push_bind(limit).push(" OFFSET ").push_bind(offset);
        query.build_query_as().fetch_all(pool).await
    })?;
    if filter.is_empty() {
        // Nothing is ever removed, so the position of the newest is the count.
        return Ok((rows.into_iter().map(Record::from).collect(), head(db).await?.0));
    }
    let total = read!(db, |pool| {
        let mut query = QueryBuilder::new("SELECT COUNT(*) FROM audit_log");
        narrow(&mut query, filter);
        query.build_query_scalar().fetch_one(pool).await
    })?;
    Ok((rows.into_iter().map(Record::from).collect(), total))
}

fn narrow<D>(query: &mut QueryBuilder<D>, filter: &Filter)
where
    D: Database,
    for<'q> Uuid: sqlx::Encode<'q, D> + sqlx::Type<D>,
    for<'q> String: sqlx::Encode<'q, D> + sqlx::Type<D>,
    for<'q> DateTime<Utc>: sqlx::Encode<'q, D> + sqlx::Type<D>,
{
    // The first condition is for the others to begin with AND.
    query.push(" WHERE TRUE");
    if let Some(id) = filter.user_id {
        query.push(" AND user_id = ").push_bind(id);
    }
    if let Some(action) = &filter.action {
        query.push(" AND action = ").push_bind(action.clone());
    }
    if let Some(entity_type) = &filter.entity_type {
        query.push(" AND entity_type = ").push_bind(entity_type.clone());
    }
    if let Some(from) = filter.from {
        query.push(" AND at >= ").push_bind(from);
    }
    if let Some(to) = filter.to {
        query.push(" AND at <= ").push_bind(to);
    }
}

/// The actions that occur.
pub(crate) async fn actions(db: &Db) -> Result<Vec<String>> {
    Ok(read!(db, |pool| sqlx::query_scalar("SELECT action FROM audit_action ORDER BY action LIMIT 1000")
        .fetch_all(pool)
        .await)?)
}

/// The kinds of entities that occur.
pub(crate) async fn entity_types(db: &Db) -> Result<Vec<String>> {
    Ok(read!(db, |pool| sqlx::query_scalar(
        "SELECT entity_type FROM audit_entity_type ORDER BY entity_type LIMIT 1000"
    )
    .fetch_all(pool)
    .await)?)
}

/// Position and hash of the newest record, as the head keeps them.
pub(crate) async fn head(db: &Db) -> Result<(i64, String)> {
    Ok(read!(db, |pool| sqlx::query_as("SELECT seq, hash FROM audit_head WHERE id = 1").fetch_one(pool).await)?)
}

/// At most `limit` records after a position and up to another, in order.
pub(crate) async fn range(db: &Db, after: i64, to: i64, limit: i64) -> Result<Vec<Record>> {
    let rows: Vec<Row> =
        read!(db, |pool| sqlx::query_as("SELECT * FROM audit_log WHERE seq > $1 AND seq <= $2 ORDER BY seq LIMIT $3")
            .bind(after)
            .bind(to)
            .bind(limit)
            .fetch_all(pool)
            .await)?;
    Ok(rows.into_iter().map(Record::from).collect())
}
