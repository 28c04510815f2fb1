//! Events of decoys and their attackers by the million, as intake and the follower would have written them.

use std::{
    collections::BTreeMap,
    time::{SystemTime, UNIX_EPOCH},
};

use anyhow::{Context, Result};
use sqlx::{Connection, Executor, PgConnection, QueryBuilder, SqliteConnection, sqlite::SqliteConnectOptions};
use tokio::sync::mpsc;

use super::{
    super::deception::{Event, event},
    Home,
};

const COLUMNS: &str =
    "id, event_id, at, decky, service, event_type, attacker_ip, attacker_port, session_id, msg, fields, techniques";
/// Rows of one statement on SQLite.
const ROWS: usize = 200;
/// Rows of one transaction.
const AT_ONCE: u64 = 20_000;
/// Attackers there are then.
pub const ATTACKERS: u64 = 50_000;
/// Over so long are the events spread, microseconds.
const SPAN: i64 = 30 * 24 * 3600 * 1_000_000;

/// Which new attacker is like which that there is: its address, and how many there are before it.
const SQLITE_TWINS: &str = "
CREATE TEMP TABLE twin (id BLOB PRIMARY KEY, ip TEXT, n INTEGER, model BLOB, model_ip TEXT);
WITH RECURSIVE row (n) AS (SELECT 500 UNION ALL SELECT n + 1 FROM row WHERE n + 1 < 50000)
INSERT INTO twin
SELECT randomblob(16), printf('198.%d.%d.%d', 18 + row.n / 65536, row.n / 256 % 256, row.n % 256), row.n, model.id, model.ip
FROM row JOIN model ON model.n = row.n % (SELECT COUNT(*) FROM model);";
const POSTGRES_TWINS: &str = "
CREATE TEMP TABLE twin AS
SELECT gen_random_uuid() AS id, '198.' || 18 + made.n / 65536 || '.' || made.n / 256 % 256 || '.' || made.n % 256 AS ip, made.n,
    model.id AS model, model.ip AS model_ip
FROM generate_series(500::BIGINT, 49999) AS made (n) JOIN model ON model.n = made.n % (SELECT COUNT(*) FROM model);
ANALYZE twin;";

/// The statements that make attackers of those that there are.
fn attackers(twins: &str, hash: &str) -> sqlx::AssertSqlSafe<String> {
    sqlx::AssertSqlSafe(include_str!("attackers.sql").replace("{twin}", twins).replace("{hash}", hash))
}

/// A bare program's own store, of the same kind as the product's.
pub enum Bare {
    Sqlite(SqliteConnection),
    Postgres(PgConnection),
}

impl Bare {
    /// Opens an empty one beside the product's.
    pub async fn open(home: &Home) -> Result<Bare> {
        let table = |id: &str, bytes: &str, number: &str| {
            format!(
                "CREATE TABLE log (id {id} PRIMARY KEY, event_id {bytes} NOT NULL, at {number} NOT NULL, decky TEXT NOT NULL,
                     service TEXT NOT NULL, event_type TEXT NOT NULL, attacker_ip TEXT NOT NULL,
                     attacker_port {number} NOT NULL, session_id TEXT NOT NULL, msg TEXT NOT NULL, fields TEXT NOT NULL,
                     techniques TEXT NOT NULL);
                 CREATE UNIQUE INDEX log_event_id ON log (event_id);"
            )
        };
        if home.is_postgres() {
            let mut store = home.postgres("bench_floor").await?;
            let make = format!("CREATE SCHEMA bench_floor; {}", table("BIGINT", "UUID", "BIGINT"));
            sqlx::raw_sql(sqlx::AssertSqlSafe(make)).execute(&mut store).await?;
            return Ok(Bare::Postgres(store));
        }
        let file = SqliteConnectOptions::new().filename(home.folder().join("floor.sqlite")).create_if_missing(true);
        let mut store = SqliteConnection::connect_with(&file).await?;
        // As durable as what is acknowledged.
        for pragma in ["PRAGMA journal_mode = WAL", "PRAGMA synchronous = FULL"] {
            sqlx::query(pragma).execute(&mut store).await?;
        }
        let make = table("INTEGER", "BLOB", "INTEGER");
        sqlx::raw_sql(sqlx::AssertSqlSafe(make)).execute(&mut store).await?;
        Ok(Bare::Sqlite(store))
    }

    /// Writes events in one transaction, which is on the disk then.
    pub async fn write(&mut self, first_id: u64, events: &[Event]) -> Result<()> {
        match self {
            Bare::Sqlite(store) => insert(store, first_id, events).await,
            Bare::Postgres(store) => copy(store, first_id, events).await,
        }
    }

    /// Takes it away, as far as it does not go with the product's.
    pub async fn close(self) -> Result<()> {
        match self {
            Bare::Sqlite(store) => store.close().await?,
            Bare::Postgres(mut store) => {
                store.execute("DROP SCHEMA bench_floor CASCADE").await?;
                store.close().await?;
            }
        }
        Ok(())
    }
}

async fn insert(store: &mut SqliteConnection, first_id: u64, events: &[Event]) -> Result<()> {
    let mut transaction = store.begin().await?;
    let mut id = i64::try_from(first_id)?;
    for events in events.chunks(ROWS) {
        let mut query = QueryBuilder::new(format!("INSERT INTO log ({COLUMNS}) "));
        query.push_values(events, |mut row, event| {
            row.push_bind(id)
                .push_bind(event.id.as_slice())
                .push_bind(event.at)
                .push_bind(&event.decky)
                .push_bind(event.service)
                .push_bind(event.event_type)
                .push_bind(&event.attacker_ip)
                .push_bind(i64::from(event.attacker_port))
                .push_bind(&event.session_id)
                .push_bind(&event.msg)
                .push_bind(&event.fields)
                .push_bind(event.techniques);
            id += 1;
        });
        query.build().persistent(events.len() == ROWS).execute(&mut *transaction).await?;
    }
    transaction.commit().await?;
    Ok(())
}

async fn copy(store: &mut PgConnection, first_id: u64, events: &[Event]) -> Result<()> {
    let mut bytes = Vec::with_capacity(events.len() * 400);
    bytes.extend_from_slice(b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0");
    for (id, event) in (i64::try_from(first_id)?..).zip(events) {
        let (id, at, port) = (id.to_be_bytes(), event.at.to_be_bytes(), i64::from(event.attacker_port).to_be_bytes());
        let values: [&[u8]; 12] = [
            &id,
            &event.id,
            &at,
            event.decky.as_bytes(),
            event.service.as_bytes(),
            event.event_type.as_bytes(),
            event.attacker_ip.as_bytes(),
            &port,
            event.session_id.as_bytes(),
            event.msg.as_bytes(),
            event.fields.as_bytes(),
            event.techniques.as_bytes(),
        ];
        bytes.extend_from_slice(&u16::try_from(values.len())?.to_be_bytes());
        for value in values {
            bytes.extend_from_slice(&i32::try_from(value.len())?.to_be_bytes());
            bytes.extend_from_slice(value);
        }
    }
    bytes.extend_from_slice(&(-1_i16).to_be_bytes());
    let mut to = store.copy_in_raw(&format!("COPY log ({COLUMNS}) FROM STDIN WITH (FORMAT binary)")).await?;
    to.send(bytes).await?;
    to.finish().await?;
    Ok(())
}

/// Fills the log up to so many events, as intake does, and makes copies of the attackers that there are. What follows
/// from the log is taken for done; the search index is not made: the product does that when it starts. How many events
/// there are then, and how many of them are new.
pub async fn write(home: &Home, upto: u64) -> Result<(u64, u64)> {
    let mut log = match home.is_postgres() {
        true => Bare::Postgres(home.postgres("deception").await?),
        false => Bare::Sqlite(home.sqlite("deception").await?),
    };
    match &mut log {
        Bare::Sqlite(store) => {
            for pragma in ["PRAGMA synchronous = OFF", "PRAGMA cache_size = -400000", "PRAGMA temp_store = MEMORY"] {
                sqlx::query(pragma).execute(&mut *store).await?;
            }
        }
        Bare::Postgres(store) => {
            let settings = "SET synchronous_commit = off; SET maintenance_work_mem = '512MB'; SET work_mem = '256MB';
                            DROP INDEX log_event_id;";
            sqlx::raw_sql(settings).execute(&mut *store).await?;
        }
    }
    const LAST: &str = "SELECT last_id FROM log_head";
    let last: i64 = match &mut log {
        Bare::Sqlite(store) => sqlx::query_scalar(LAST).fetch_one(&mut *store).await?,
        Bare::Postgres(store) => sqlx::query_scalar(LAST).fetch_one(&mut *store).await?,
    };
    let first = u64::try_from(last)? + 1;
    let minutes = events(&mut log, first, upto).await?;
    let mut statements: Vec<String> = Vec::new();
    for some in minutes.chunks(5_000) {
        let rows: Vec<String> = some.iter().map(|(minute, count)| format!("({minute}, {count})")).collect();
        statements.push(format!(
            "INSERT INTO log_minute (minute, count) VALUES {}
             ON CONFLICT (minute) DO UPDATE SET count = log_minute.count + excluded.count",
            rows.join(", ")
        ));
    }
    let upto = upto.max(first - 1);
    statements.push(format!("UPDATE log_head SET last_id = {upto}"));
    statements.push(format!("UPDATE log_follower SET position = {upto}, process = NULL, held_until = 0"));
    for statement in statements {
        let statement = sqlx::AssertSqlSafe(statement);
        match &mut log {
            Bare::Sqlite(store) => sqlx::query(statement).execute(&mut *store).await.map(|_| ())?,
            Bare::Postgres(store) => sqlx::query(statement).execute(&mut *store).await.map(|_| ())?,
        }
    }
    match log {
        Bare::Sqlite(mut store) => {
            sqlx::raw_sql(attackers(SQLITE_TWINS, "randomblob(32)")).execute(&mut store).await?;
            sqlx::query("PRAGMA wal_checkpoint(TRUNCATE)").execute(&mut store).await?;
            store.close().await?;
        }
        Bare::Postgres(mut store) => {
            sqlx::raw_sql("CREATE UNIQUE INDEX log_event_id ON log (event_id)").execute(&mut store).await?;
            let attackers = attackers(POSTGRES_TWINS, "sha256(uuid_send(gen_random_uuid()))");
            sqlx::raw_sql(attackers).execute(&mut store).await?;
            for table in ["attacker", "attacker_service", "attacker_term", "observation", "bounty", "log"] {
                sqlx::query(sqlx::AssertSqlSafe(format!("VACUUM ANALYZE {table}"))).execute(&mut store).await?;
            }
            // What was just written is not to be written again while something is measured.
            sqlx::query("CHECKPOINT").execute(&mut store).await?;
            store.close().await?;
        }
    }
    Ok((upto, upto + 1 - first))
}

/// Writes events of these numbers, the last of which happens now; how many happen in which minute since 1970.
async fn events(log: &mut Bare, first: u64, upto: u64) -> Result<Vec<(i64, i64)>> {
    let now = i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH)?.as_micros())?;
    let step = SPAN / i64::try_from(upto.max(1))?;
    let (made, mut making) = mpsc::channel::<Vec<Event>>(2);
    // While some are written, the next ones are made.
    let maker = tokio::task::spawn_blocking(move || {
        for from in (first..=upto).step_by(usize::try_from(AT_ONCE).unwrap_or(1)) {
            let at = |number: u64| now - step * i64::try_from(upto - number).unwrap_or(0);
            let one = |number: u64| event(number, at(number), ATTACKERS, number / 5);
            if made.blocking_send((from..(from + AT_ONCE).min(upto + 1)).map(one).collect()).is_err() {
                return;
            }
        }
    });
    let mut minutes: BTreeMap<i64, i64> = BTreeMap::new();
    let mut next = first;
    while let Some(events) = making.recv().await {
        log.write(next, &events).await.context("seeding events")?;
        next += events.len() as u64;
        for event in events {
            *minutes.entry(event.at.div_euclid(60_000_000)).or_default() += 1;
        }
    }
    maker.await?;
    Ok(minutes.into_iter().collect())
}
