//! Events as rows: written in batches, read by their ids.

use std::collections::{BTreeMap, HashSet};

use aegis_db::{Conn, Db, Result, Tx, now, on, read};
use chrono::{DateTime, Utc};
use sqlx::{PgConnection, QueryBuilder, SqliteConnection};
use uuid::Uuid;

use crate::domain::event::{Event, Fields, Log, event_type};

/// Rows of one statement on SQLite; each has [`COLUMNS`] values.
const INSERT_ROWS: usize = 200;
const COLUMNS: usize = 12;
/// Ids of one statement.
const CHUNK: usize = 5_000;
const _: () = assert!(INSERT_ROWS * COLUMNS <= 32_766 && CHUNK <= 32_766);

/// What is asked for in one statement at most.
pub(crate) const MAX_READ: i64 = 5_000;

/// Which events there are: those after `purged_id`, up to `last_id`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, sqlx::FromRow)]
pub(crate) struct Head {
    pub(crate) last_id: i64,
    pub(crate) purged_id: i64,
}

impl Head {
    /// How many there are.
    pub(crate) fn total(self) -> i64 {
        self.last_id - self.purged_id
    }
}

type Row = (i64, Uuid, i64, String, String, String, String, i64, String, String, String, String);

fn log(row: Row) -> Log {
    let (id, event_id, at, decky, service, kind, attacker_ip, port, session_id, msg, fields, techniques) = row;
    let event = Event {
        id: event_id,
        at: DateTime::from_timestamp_micros(at).unwrap_or_default(),
        decky,
        service,
        event_type: event_type(&kind),
        attacker_ip,
        attacker_port: u16::try_from(port).unwrap_or(0),
        session_id,
        msg,
        fields: Fields::stored(fields),
        techniques,
    };
    Log { id, event }
}

macro_rules! columns {
    () => {
        "id, event_id, at, decky, service, event_type, attacker_ip, attacker_port, session_id, msg, fields, techniques"
    };
}

/// Which events there are now.
pub(crate) async fn head(db: &Db) -> Result<Head> {
    const SQL: &str = "SELECT last_id, purged_id FROM log_head";
    Ok(read!(db, |pool| sqlx::query_as(SQL).fetch_one(pool).await)?)
}

/// The same, and nobody stores or purges events until the transaction ends.
pub(crate) async fn lock_head(tx: &mut Tx) -> Result<Head> {
    const SQL: &str = "UPDATE log_head SET last_id = last_id RETURNING last_id, purged_id";
    Ok(on!(tx, |c| sqlx::query_as(SQL).fetch_one(c).await)?)
}

/// Events after one, in the order of their ids; at most [`MAX_READ`].
pub(crate) async fn after(db: &Db, id: i64, limit: i64) -> Result<Vec<Log>> {
    const SQL: &str = concat!("SELECT ", columns!(), " FROM log WHERE id > $1 ORDER BY id LIMIT $2");
    let limit = limit.min(MAX_READ);
    let rows: Vec<Row> = read!(db, |pool| sqlx::query_as(SQL).bind(id).bind(limit).fetch_all(pool).await)?;
    Ok(rows.into_iter().map(log).collect())
}

/// Events up to one, and after another, newest first; at most [`MAX_READ`].
pub(crate) async fn up_to(db: &Db, id: i64, after: i64, limit: i64) -> Result<Vec<Log>> {
    const SQL: &str = concat!("SELECT ", columns!(), " FROM log WHERE id <= $1 AND id > $2 ORDER BY id DESC LIMIT $3");
    let limit = limit.min(MAX_READ);
    let rows: Vec<Row> = read!(db, |pool| sqlx::query_as(SQL).bind(id).bind(after).bind(limit).fetch_all(pool).await)?;
    Ok(rows.into_iter().map(log).collect())
}

/// Events of these ids, newest first. For a page of them, not for thousands.
pub(crate) async fn by_ids(db: &Db, ids: &[i64]) -> Result<Vec<Log>> {
    let mut logs = Vec::with_capacity(ids.len());
    for ids in ids.chunks(CHUNK) {
        let rows: Vec<Row> = read!(db, |pool| {
            let mut query = QueryBuilder::new(concat!("SELECT ", columns!(), " FROM log WHERE id IN ("));
            let mut list = query.separated(", ");
            for id in ids {
                list.push_bind(*id);
            }
            query.push(") ORDER BY id DESC");
            query.build_query_as().persistent(false).fetch_all(pool).await
        })?;
        logs.extend(rows.into_iter().map(log));
    }
    logs.sort_unstable_by_key(|log| std::cmp::Reverse(log.id));
    Ok(logs)
}

/// Which of these are stored already.
pub(crate) async fn known(tx: &mut Tx, ids: &[Uuid]) -> Result<HashSet<Uuid>> {
    let mut known = HashSet::new();
    for ids in ids.chunks(CHUNK) {
        let found: Vec<Uuid> = match tx.conn() {
            Conn::Postgres(c) => {
                sqlx::query_scalar("SELECT event_id FROM log WHERE event_id = ANY($1)").bind(ids).fetch_all(c).await?
            }
            Conn::Sqlite(c) => {
                let mut query = QueryBuilder::new("SELECT event_id FROM log WHERE event_id IN (");
                let mut list = query.separated(", ");
                for id in ids {
                    list.push_bind(*id);
                }
                query.push(")");
                query.build_query_scalar().persistent(false).fetch_all(c).await?
            }
        };
        known.extend(found);
    }
    Ok(known)
}

/// Stores events, which get the ids after the last one; the head must be locked. One that is stored already makes it
/// fail as a unique violation: the transaction is of no use then.
pub(crate) async fn insert(tx: &mut Tx, head: Head, events: &[&Event]) -> Result<Head> {
    if events.is_empty() {
        return Ok(head);
    }
    match tx.conn() {
        Conn::Postgres(c) => insert_postgres(c, head.last_id, events).await?,
        Conn::Sqlite(c) => insert_sqlite(c, head.last_id, events).await?,
    }
    let last_id = head.last_id + i64::try_from(events.len()).unwrap_or(0);
    const SQL: &str = "UPDATE log_head SET last_id = $1";
    on!(tx, |c| sqlx::query(SQL).bind(last_id).execute(c).await.map(|_| ()))?;
    count_minutes(tx, events).await?;
    Ok(Head { last_id, ..head })
}

async fn insert_sqlite(c: &mut SqliteConnection, last_id: i64, events: &[&Event]) -> sqlx::Result<()> {
    let mut id = last_id;
    for events in events.chunks(INSERT_ROWS) {
        let mut query = QueryBuilder::new(concat!("INSERT INTO log (", columns!(), ") "));
        query.push_values(events, |mut row, event| {
            id += 1;
            row.push_bind(id)
                .push_bind(event.id)
                .push_bind(event.at.timestamp_micros())
                .push_bind(&event.decky)
                .push_bind(&event.service)
                .push_bind(event.event_type)
                .push_bind(&event.attacker_ip)
                .push_bind(i64::from(event.attacker_port))
                .push_bind(&event.session_id)
                .push_bind(&event.msg)
                .push_bind(event.fields.json())
                .push_bind(&event.techniques);
        });
        // The statement of whole chunks is made once.
        query.build().persistent(events.len() == INSERT_ROWS || events.len() == 1).execute(&mut *c).await?;
    }
    Ok(())
}

async fn insert_postgres(c: &mut PgConnection, last_id: i64, events: &[&Event]) -> sqlx::Result<()> {
    const SQL: &str = concat!("COPY log (", columns!(), ") FROM STDIN WITH (FORMAT binary)");
    let mut copy = c.copy_in_raw(SQL).await?;
    let mut bytes = Vec::with_capacity(256 * 1024);
    bytes.extend_from_slice(b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0");
    for (id, event) in (last_id + 1..).zip(events) {
        bytes.extend_from_slice(&u16::try_from(COLUMNS).unwrap_or(0).to_be_bytes());
        let port = i64::from(event.attacker_port);
        value(&mut bytes, &id.to_be_bytes());
        value(&mut bytes, event.id.as_bytes());
        value(&mut bytes, &event.at.timestamp_micros().to_be_bytes());
        value(&mut bytes, event.decky.as_bytes());
        value(&mut bytes, event.service.as_bytes());
        value(&mut bytes, event.event_type.as_bytes());
        value(&mut bytes, event.attacker_ip.as_bytes());
        value(&mut bytes, &port.to_be_bytes());
        value(&mut bytes, event.session_id.as_bytes());
        value(&mut bytes, event.msg.as_bytes());
        value(&mut bytes, event.fields.json().as_bytes());
        value(&mut bytes, event.techniques.as_bytes());
        if bytes.len() > 192 * 1024 {
            copy.send(bytes.as_slice()).await?;
            bytes.clear();
        }
    }
    bytes.extend_from_slice(&(-1_i16).to_be_bytes());
    copy.send(bytes.as_slice()).await?;
    copy.finish().await?;
    Ok(())
}

fn value(to: &mut Vec<u8>, bytes: &[u8]) {
    to.extend_from_slice(&i32::try_from(bytes.len()).unwrap_or(0).to_be_bytes());
    to.extend_from_slice(bytes);
}

/// The minute since 1970 in which something happened.
pub(crate) fn minute(at: DateTime<Utc>) -> i64 {
    at.timestamp().div_euclid(60)
}

async fn count_minutes(tx: &mut Tx, events: &[&Event]) -> Result<()> {
    let mut counts: BTreeMap<i64, i64> = BTreeMap::new();
    for event in events {
        *counts.entry(minute(event.at)).or_default() += 1;
    }
    add_to_minutes(tx, &counts.into_iter().collect::<Vec<_>>()).await
}

/// Adds to what is counted of minutes; less than nothing takes away.
async fn add_to_minutes(tx: &mut Tx, counts: &[(i64, i64)]) -> Result<()> {
    for counts in counts.chunks(CHUNK) {
        on!(tx, |c| {
            let mut query = QueryBuilder::new("INSERT INTO log_minute (minute, count) ");
            query.push_values(counts, |mut row, (minute, count)| {
                row.push_bind(*minute).push_bind(*count);
            });
            query.push(" ON CONFLICT (minute) DO UPDATE SET count = log_minute.count + excluded.count");
            query.build().persistent(counts.len() <= 2).execute(c).await.map(|_| ())
        })?;
    }
    Ok(())
}

/// How many events happened, `every` minutes at a time: where that begins (in such steps since 1970), and how many. From
/// one minute up to but without another, newest first, at most `limit`.
pub(crate) async fn per_minutes(db: &Db, from: i64, to: i64, every: i64, limit: i64) -> Result<Vec<(i64, i64)>> {
    const SQL: &str = "SELECT minute / $3 AS step, CAST(SUM(count) AS BIGINT) FROM log_minute \
                       WHERE minute >= $1 AND minute < $2 AND minute > \
                       COALESCE((SELECT MAX(minute) FROM log_minute WHERE minute < $2), 0) - $3 * $4 \
                       GROUP BY step ORDER BY step DESC LIMIT $4";
    Ok(read!(db, |pool| sqlx::query_as(SQL).bind(from).bind(to).bind(every).bind(limit).fetch_all(pool).await)?)
}

/// What of a sensor's events is stored; 0 for one that is new.
pub(crate) async fn mark(db: &Db, sensor: Uuid) -> Result<i64> {
    const SQL: &str = "SELECT sequence FROM intake_mark WHERE sensor_id = $1";
    let mark: Option<i64> = read!(db, |pool| sqlx::query_scalar(SQL).bind(sensor).fetch_optional(pool).await)?;
    Ok(mark.unwrap_or(0))
}

/// The same, in the transaction that is to move it on; the head must be locked.
pub(crate) async fn mark_in(tx: &mut Tx, sensor: Uuid) -> Result<i64> {
    const SQL: &str = "SELECT sequence FROM intake_mark WHERE sensor_id = $1";
    let mark: Option<i64> = on!(tx, |c| sqlx::query_scalar(SQL).bind(sensor).fetch_optional(c).await)?;
    Ok(mark.unwrap_or(0))
}

/// Everything of a sensor up to this is stored.
pub(crate) async fn set_mark(tx: &mut Tx, sensor: Uuid, sequence: i64) -> Result<()> {
    const SQL: &str = "INSERT INTO intake_mark (sensor_id, sequence, updated_at) VALUES ($1, $2, $3) \
                       ON CONFLICT (sensor_id) DO UPDATE SET sequence = excluded.sequence, updated_at = excluded.updated_at";
    let at = now();
    on!(tx, |c| sqlx::query(SQL).bind(sensor).bind(sequence).bind(at).execute(c).await.map(|_| ()))?;
    Ok(())
}

/// How many events from one id to another happened in each minute since 1970.
pub(crate) async fn minutes_between(db: &Db, from: i64, to: i64) -> Result<Vec<(i64, i64)>> {
    // Down, also before 1970, as `div_euclid` does.
    const SQL: &str = "SELECT (at - (at % 60000000 + 60000000) % 60000000) / 60000000 AS minute, COUNT(*) FROM log \
                       WHERE id BETWEEN $1 AND $2 GROUP BY minute";
    Ok(read!(db, |pool| sqlx::query_as(SQL).bind(from).bind(to).fetch_all(pool).await)?)
}

/// Takes the events up to one out of what is told: they are gone for everybody, and their rows can go. The head must be
/// locked. `minutes` are those of the events, by how many each has less.
pub(crate) async fn let_go(tx: &mut Tx, up_to: i64, minutes: &[(i64, i64)]) -> Result<()> {
    const HEAD: &str = "UPDATE log_head SET purged_id = $1";
    const EMPTY: &str = "DELETE FROM log_minute WHERE minute BETWEEN $1 AND $2 AND count <= 0";
    let less: Vec<(i64, i64)> = minutes.iter().map(|(minute, count)| (*minute, -count)).collect();
    add_to_minutes(tx, &less).await?;
    let minutes = || minutes.iter().map(|(minute, _)| *minute);
    if let (Some(first), Some(last)) = (minutes().min(), minutes().max()) {
        on!(tx, |c| sqlx::query(EMPTY).bind(first).bind(last).execute(c).await.map(|_| ()))?;
    }
    on!(tx, |c| sqlx::query(HEAD).bind(up_to).execute(c).await.map(|_| ()))?;
    Ok(())
}

/// Removes rows of events that were let go, the oldest ones, and where they are listed with their attackers; at most
/// `limit`. False when there are none.
pub(crate) async fn sweep(db: &Db, limit: i64) -> Result<bool> {
    const FIRST: &str = "SELECT log.id FROM log, log_head WHERE log.id <= log_head.purged_id ORDER BY log.id LIMIT 1";
    const LISTED: &str = "DELETE FROM attacker_log WHERE kind IN (1, 2) AND log_id BETWEEN $1 AND $2 AND attacker_id IN \
                          (SELECT id FROM attacker WHERE ip IN \
                          (SELECT attacker_ip FROM log WHERE id BETWEEN $1 AND $2))";
    const ROWS: &str = "DELETE FROM log WHERE id BETWEEN $1 AND $2";
    let first: Option<i64> = read!(db, |pool| sqlx::query_scalar(FIRST).fetch_optional(pool).await)?;
    let Some(first) = first else { return Ok(false) };
    let last = head(db).await?.purged_id.min(first.saturating_add(limit - 1));
    let mut tx = db.begin().await?;
    for sql in [LISTED, ROWS] {
        on!(tx, |c| sqlx::query(sql).bind(first).bind(last).execute(c).await.map(|_| ()))?;
    }
    // After a power cut they are found again.
    tx.commit_relaxed().await?;
    Ok(true)
}

/// Removes all events and all that finds them; the head must be locked. Ids go on.
pub(crate) async fn purge(tx: &mut Tx, head: Head) -> Result<()> {
    match tx.conn() {
        Conn::Postgres(c) => {
            sqlx::query("TRUNCATE log, log_minute, log_run, log_word, log_term").execute(c).await?;
        }
        Conn::Sqlite(c) => {
            // Without a condition SQLite drops the pages of a table as they are.
            sqlx::raw_sql(
                "DELETE FROM log; DELETE FROM log_minute; DELETE FROM log_run; DELETE FROM log_word; DELETE FROM log_term;",
            )
            .execute(c)
            .await?;
        }
    }
    const SQL: &str = "UPDATE log_head SET purged_id = $1";
    on!(tx, |c| sqlx::query(SQL).bind(head.last_id).execute(c).await.map(|_| ()))?;
    Ok(())
}
