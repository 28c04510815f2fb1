//! The audit trail.

use std::collections::BTreeSet;

use aegis_db::{Db, Result, Tx, on, read};
use chrono::{DateTime, Utc};
use sqlx::{Database, QueryBuilder};
use uuid::Uuid;

use crate::domain::{
    audit::{self, Entry, Record},
    chain::Link,
    lanes::Hash,
};

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
    pub(crate) fn is_empty(&self) -> bool {
        self.user_id.is_none()
            && self.action.is_none()
            && self.entity_type.is_none()
            && self.from.is_none()
            && self.to.is_none()
    }

    /// Whether an entry passes; the same as [`narrow`] in SQL.
    pub(crate) fn passes(&self, entry: &Entry) -> bool {
        self.user_id.is_none_or(|id| entry.user_id == Some(id))
            && self.action.as_ref().is_none_or(|action| entry.action == *action)
            && self.entity_type.as_ref().is_none_or(|entity_type| entry.entity_type == *entity_type)
            && self.from.is_none_or(|from| entry.at.timestamp_micros() >= from.timestamp_micros())
            && self.to.is_none_or(|to| entry.at.timestamp_micros() <= to.timestamp_micros())
    }
}

/// Where the chain begins and ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Bounds {
    /// The last record that was removed by age.
    pub(crate) anchor: Link,
    /// When that was.
    pub(crate) pruned_at: Option<DateTime<Utc>>,
    /// The newest record.
    pub(crate) head: Link,
    /// The lowest and the highest position that there is.
    pub(crate) extent: Option<(i64, i64)>,
}

/// Records of one statement.
const CHUNK: usize = 500;

/// Puts entries at the end of the chain, in this order. The head's row is locked until the transaction ends, so the
/// chain does not fork, however many append.
pub(crate) async fn append(tx: &mut Tx, entries: &[Entry]) -> Result<()> {
    if entries.is_empty() {
        return Ok(());
    }
    let count = i64::try_from(entries.len()).unwrap_or(i64::MAX);
    let (last, before): (i64, Vec<u8>) =
        on!(tx, |c| sqlx::query_as("UPDATE audit_head SET seq = seq + $1 WHERE id = 1 RETURNING seq, hash")
            .bind(count)
            .fetch_one(c)
            .await)?;
    let (mut hash, mut links) = (whole(&before), Vec::with_capacity(entries.len()));
    for (seq, entry) in (last - count + 1..).zip(entries) {
        let record = entry.encode();
        hash = audit::hash(&hash, seq, &record);
        links.push((seq, entry, record, hash));
    }
    for chunk in links.chunks(CHUNK) {
        on!(tx, |c| {
            let mut query =
                QueryBuilder::new("INSERT INTO audit_record (seq, user_id, action, entity_type, at_us, record, hash) ");
            query.push_values(chunk, |mut row, (seq, entry, record, hash)| {
                row.push_bind(*seq)
                    .push_bind(entry.user_id)
                    .push_bind(entry.action.clone())
                    .push_bind(entry.entity_type.clone())
                    .push_bind(entry.at.timestamp_micros())
                    .push_bind(record.clone())
                    .push_bind(hash.to_vec());
            });
            query.build().execute(c).await.map(|_| ())
        })?;
    }
    on!(tx, |c| sqlx::query("UPDATE audit_head SET hash = $1 WHERE id = 1")
        .bind(hash.to_vec())
        .execute(c)
        .await
        .map(|_| ()))?;
    know(tx, "INSERT INTO audit_action (action) ", entries.iter().map(|entry| entry.action.as_str())).await?;
    let entity_types = entries.iter().map(|entry| entry.entity_type.as_str()).filter(|name| !name.is_empty());
    know(tx, "INSERT INTO audit_entity_type (entity_type) ", entity_types).await
}

/// Adds the names that are not there yet to what one can filter by.
async fn know(tx: &mut Tx, insert: &'static str, names: impl Iterator<Item = &str>) -> Result<()> {
    let names: Vec<&str> = names.collect::<BTreeSet<_>>().into_iter().collect();
    for chunk in names.chunks(CHUNK) {
        on!(tx, |c| {
            let mut query = QueryBuilder::new(insert);
            query.push_values(chunk, |mut row, name| {
                row.push_bind(name.to_string());
            });
            query.push(" ON CONFLICT DO NOTHING").build().execute(c).await.map(|_| ())
        })?;
    }
    Ok(())
}

#[derive(sqlx::FromRow)]
struct Listed {
    seq: i64,
    record: Vec<u8>,
    hash: Vec<u8>,
    prev_hash: Option<Vec<u8>>,
}

/// A page of the records that pass, newest first, and how many pass.
pub(crate) async fn list(db: &Db, filter: &Filter, limit: i64, offset: i64) -> Result<(Vec<Record>, i64)> {
    tokio::try_join!(page(db, filter, limit, offset), total(db, filter))
}

async fn page(db: &Db, filter: &Filter, limit: i64, offset: i64) -> Result<Vec<Record>> {
    // The page is found in an index alone; only its rows are read.
    let rows: Vec<Listed> = read!(db, |pool| {
        let mut query = QueryBuilder::new(
            "SELECT r.seq, r.record, r.hash, COALESCE(p.hash, a.hash) AS prev_hash
             FROM (SELECT seq, at_us FROM audit_record",
        );
        narrow(&mut query, filter);
        query.push(" ORDER BY at_us DESC, seq DESC LIMIT ").push_bind(limit).push(" OFFSET ").push_bind(offset);
        query.push(
            ") page
             JOIN audit_record r ON r.seq = page.seq
             LEFT JOIN audit_record p ON p.seq = page.seq - 1
             LEFT JOIN audit_anchor a ON a.seq = page.seq - 1
             ORDER BY page.at_us DESC, page.seq DESC",
        );
        query.build_query_as().fetch_all(pool).await
    })?;
    let record = |row: Listed| Record {
        seq: row.seq,
        entry: Entry::read(&row.record),
        prev_hash: row.prev_hash.map(|hash| whole(&hash)),
        hash: whole(&row.hash),
    };
    Ok(rows.into_iter().map(record).collect())
}

async fn total(db: &Db, filter: &Filter) -> Result<i64> {
    if filter.is_empty() {
        // Positions have no gaps.
        let bounds = bounds(db).await?;
        return Ok(bounds.head.seq - bounds.anchor.seq);
    }
    Ok(read!(db, |pool| {
        let mut query = QueryBuilder::new("SELECT COUNT(*) FROM audit_record");
        narrow(&mut query, filter);
        query.build_query_scalar().fetch_one(pool).await
    })?)
}

fn narrow<D>(query: &mut QueryBuilder<D>, filter: &Filter)
where
    D: Database,
    for<'q> Uuid: sqlx::Encode<'q, D> + sqlx::Type<D>,
    for<'q> String: sqlx::Encode<'q, D> + sqlx::Type<D>,
    for<'q> i64: sqlx::Encode<'q, D> + sqlx::Type<D>,
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
        query.push(" AND at_us >= ").push_bind(from.timestamp_micros());
    }
    if let Some(to) = filter.to {
        query.push(" AND at_us <= ").push_bind(to.timestamp_micros());
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

const BOUNDS: &str = "SELECT a.seq, a.hash, a.at_us, h.seq, h.hash,
        (SELECT MIN(seq) FROM audit_record), (SELECT MAX(seq) FROM audit_record)
    FROM audit_head h, audit_anchor a";

type BoundsRow = (i64, Vec<u8>, Option<i64>, i64, Vec<u8>, Option<i64>, Option<i64>);

/// Where the chain begins and ends, as head and anchor keep it.
pub(crate) async fn bounds(db: &Db) -> Result<Bounds> {
    Ok(read!(db, |pool| sqlx::query_as::<_, BoundsRow>(BOUNDS).fetch_one(pool).await).map(to_bounds)?)
}

fn to_bounds((anchor, anchor_hash, at_us, head, head_hash, lowest, highest): BoundsRow) -> Bounds {
    Bounds {
        anchor: Link { seq: anchor, hash: whole(&anchor_hash) },
        pruned_at: at_us.and_then(DateTime::from_timestamp_micros),
        head: Link { seq: head, hash: whole(&head_hash) },
        extent: lowest.zip(highest),
    }
}

/// First and last position of the records that pass, up to a position.
pub(crate) async fn span(db: &Db, filter: &Filter, to: i64) -> Result<Option<(i64, i64)>> {
    let (first, last): (Option<i64>, Option<i64>) = read!(db, |pool| {
        let mut query = QueryBuilder::new("SELECT MIN(seq), MAX(seq) FROM audit_record");
        narrow(&mut query, filter);
        query.push(" AND seq <= ").push_bind(to);
        query.build_query_as().fetch_one(pool).await
    })?;
    Ok(first.zip(last))
}

/// The link at a position: that of a record, or where the chain begins. Nothing where the record is missing.
pub(crate) async fn link(db: &Db, seq: i64) -> Result<Option<Link>> {
    let hash: Option<Vec<u8>> = read!(db, |pool| sqlx::query_scalar(
        "SELECT hash FROM audit_record WHERE seq = $1 UNION ALL SELECT hash FROM audit_anchor WHERE seq = $1"
    )
    .bind(seq)
    .fetch_optional(pool)
    .await)?;
    Ok(hash.map(|hash| Link { seq, hash: whole(&hash) }))
}

/// How far the records after the anchor are all older than a moment, within the next `limit`: the last such position.
pub(crate) async fn older_through(db: &Db, before: DateTime<Utc>, limit: i64) -> Result<Option<i64>> {
    let (last, younger): (Option<i64>, Option<i64>) = read!(db, |pool| sqlx::query_as(
        "SELECT MAX(seq), MIN(CASE WHEN at_us >= $1 THEN seq END)
         FROM (SELECT seq, at_us FROM audit_record ORDER BY seq LIMIT $2) AS oldest"
    )
    .bind(before.timestamp_micros())
    .bind(limit)
    .fetch_one(pool)
    .await)?;
    Ok(younger.map(|seq| seq - 1).or(last))
}

/// Where the chain begins and ends; its end is locked until the transaction ends, so nobody else appends or removes.
pub(crate) async fn lock(tx: &mut Tx) -> Result<Bounds> {
    on!(tx, |c| sqlx::query("UPDATE audit_head SET seq = seq WHERE id = 1").execute(c).await.map(|_| ()))?;
    Ok(on!(tx, |c| sqlx::query_as::<_, BoundsRow>(BOUNDS).fetch_one(c).await).map(to_bounds)?)
}

/// Removes the records up to a position, which the chain then begins after. Answers how many there were. The end of
/// the chain must be locked.
pub(crate) async fn remove(tx: &mut Tx, through: Link, at: DateTime<Utc>) -> Result<i64> {
    let removed = on!(tx, |c| sqlx::query("DELETE FROM audit_record WHERE seq <= $1")
        .bind(through.seq)
        .execute(c)
        .await
        .map(|done| done.rows_affected()))?;
    on!(tx, |c| sqlx::query("UPDATE audit_anchor SET seq = $1, hash = $2, at_us = $3 WHERE id = 1")
        .bind(through.seq)
        .bind(&through.hash[..])
        .bind(at.timestamp_micros())
        .execute(c)
        .await
        .map(|_| ()))?;
    on!(tx, |c| sqlx::query(
        "DELETE FROM audit_action
         WHERE NOT EXISTS (SELECT 1 FROM audit_record r WHERE r.action = audit_action.action)"
    )
    .execute(c)
    .await
    .map(|_| ()))?;
    on!(tx, |c| sqlx::query(
        "DELETE FROM audit_entity_type
         WHERE NOT EXISTS (SELECT 1 FROM audit_record r WHERE r.entity_type = audit_entity_type.entity_type)"
    )
    .execute(c)
    .await
    .map(|_| ()))?;
    Ok(i64::try_from(removed).unwrap_or(i64::MAX))
}

/// A hash as it was read; one of another length was forged, and becomes one that fits nothing.
fn whole(hash: &[u8]) -> Hash {
    hash.try_into().unwrap_or([0xff; 32])
}
