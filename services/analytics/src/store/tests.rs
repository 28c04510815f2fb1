//! The SQL that takes tests in and keeps what is counted of them.

use std::collections::{BTreeMap, HashSet};

use aegis_db::{Conn, Result, Tx, on};
use chrono::{DateTime, Utc};
use sqlx::{QueryBuilder, SqliteConnection};
use uuid::Uuid;

use super::{CHUNK, facts, pipeline};
use crate::domain::{
    heads::{Counted, Delta, changes, platform_name},
    pipeline::State,
    test::{Test, Verdict},
};

/// A test as it is known here, as far as taking it in depends on it.
#[derive(Clone, Debug)]
pub(crate) struct Known {
    pub(crate) version: i64,
    pub(crate) digest: i64,
    pub(crate) taken_at: DateTime<Utc>,
    pub(crate) counted: Counted,
}

#[derive(sqlx::FromRow)]
struct Row {
    test_id: Uuid,
    version: i64,
    digest: i64,
    taken_at: DateTime<Utc>,
    state: String,
    deleted: bool,
    technique_id: Option<Uuid>,
    chain_id: Option<Uuid>,
    verdict: Option<i64>,
    validated_at: Option<DateTime<Utc>>,
    platform: Option<String>,
    head: bool,
}

macro_rules! known {
    ($rest:literal) => {
        concat!(
            "SELECT test_id, version, digest, taken_at, state, deleted, technique_id, chain_id, verdict, validated_at, \
             platform, head FROM test_fact WHERE ",
            $rest
        )
    };
}

/// Each chain by itself: of all of them at once PostgreSQL, where it has not counted the rows yet, believes that they are
/// the whole table, and reads that.
const IN_CHAINS: &str = concat!(
    "SELECT f.* FROM UNNEST($1) AS asked (chain) CROSS JOIN LATERAL (",
    known!("verdict IS NOT NULL AND chain_id = asked.chain OFFSET 0"),
    ") AS f"
);

impl From<Row> for Known {
    fn from(row: Row) -> Known {
        let platform = row.platform.as_deref().and_then(platform_name);
        let counted = Counted {
            id: row.test_id,
            state: State::parse(&row.state).filter(|_| !row.deleted),
            technique_id: row.technique_id,
            chain_id: row.chain_id,
            verdict: row.verdict.and_then(Verdict::of_number),
            validated_at: row.validated_at,
            platform,
            head: row.head,
        };
        Known { version: row.version, digest: row.digest, taken_at: row.taken_at, counted }
    }
}

/// Takes tests in and counts them, of each the newest; one that is not newer than what is known changes nothing.
///
/// The caller holds the moment `at` from [`super::advance`], so nothing else changes what is read here.
pub(crate) async fn take_in(tx: &mut Tx, tests: &[Test], at: DateTime<Utc>) -> Result<()> {
    let mut newest: BTreeMap<Uuid, &Test> = BTreeMap::new();
    for test in tests {
        let kept = newest.entry(test.id).or_insert(test);
        if test.version > kept.version {
            *kept = test;
        }
    }
    let ids: Vec<Uuid> = newest.keys().copied().collect();
    let mut before = Vec::new();
    for known in by_ids(tx, &ids).await? {
        if newest.get(&known.counted.id).is_some_and(|test| test.version > known.version) {
            before.push(known.counted);
        } else {
            newest.remove(&known.counted.id);
        }
    }
    if newest.is_empty() {
        return Ok(());
    }
    change(tx, &before, &newest.into_values().collect::<Vec<_>>(), &[], at).await
}

/// What is known of these tests.
async fn by_ids(tx: &mut Tx, ids: &[Uuid]) -> Result<Vec<Known>> {
    let mut known = Vec::new();
    for some in ids.chunks(CHUNK) {
        let rows: Vec<Row> = match tx.conn() {
            Conn::Postgres(c) => sqlx::query_as(known!("test_id = ANY($1)")).bind(some).fetch_all(c).await?,
            Conn::Sqlite(c) => fetch(c, known!("test_id IN ("), some).await?,
        };
        known.extend(rows.into_iter().map(Known::from));
    }
    Ok(known)
}

/// The rows of SQLite that a condition, of which the end is missing, finds with these ids.
async fn fetch(c: &mut SqliteConnection, sql: &'static str, ids: &[Uuid]) -> Result<Vec<Row>> {
    let mut query = QueryBuilder::new(sql);
    let mut list = query.separated(", ");
    for id in ids {
        list.push_bind(*id);
    }
    query.push(")");
    Ok(query.build_query_as().persistent(ids.len() == 1).fetch_all(c).await?)
}

/// What is known of the tests with ids above the first and up to the second, which may be left out.
pub(crate) async fn between(tx: &mut Tx, after: Uuid, last: Option<Uuid>) -> Result<Vec<Known>> {
    let rows: Vec<Row> = on!(tx, |c| match last {
        Some(last) => {
            let query = sqlx::query_as(known!("test_id > $1 AND test_id <= $2 ORDER BY test_id"));
            query.bind(after).bind(last).fetch_all(c).await
        }
        None => {
            // Of all the rest at most so many at a time.
            let query = sqlx::query_as(known!("test_id > $1 ORDER BY test_id LIMIT 1000"));
            query.bind(after).fetch_all(c).await
        }
    })?;
    Ok(rows.into_iter().map(Known::from).collect())
}

/// Writes tests and removes others, and counts that. `before` is what is known of all of them.
pub(crate) async fn change(
    tx: &mut Tx,
    before: &[Counted],
    write: &[&Test],
    remove: &[Uuid],
    at: DateTime<Utc>,
) -> Result<()> {
    let after: Vec<Counted> = write.iter().map(|test| Counted::of(test)).collect();
    let chains: HashSet<Uuid> =
        before.iter().chain(&after).filter_map(|test| test.chain().map(|(_, chain)| chain)).collect();
    let others = in_chains(tx, &chains.into_iter().collect::<Vec<_>>()).await?;
    let changes = changes(before, &after, &others);
    for ids in remove.chunks(CHUNK) {
        on!(tx, |c| {
            let mut query = QueryBuilder::new("DELETE FROM test_fact WHERE test_id IN (");
            let mut list = query.separated(", ");
            for id in ids {
                list.push_bind(*id);
            }
            query.push(")");
            query.build().persistent(false).execute(c).await.map(|_| ())
        })?;
    }
    facts::upsert(tx, write, &changes.heads, at).await?;
    turn(tx, &changes.turned).await?;
    pipeline::change(tx, &changes.states).await?;
    count_all(tx, &changes.techniques, at).await
}

/// Changes the counts of techniques.
pub(super) async fn count_all(tx: &mut Tx, changes: &BTreeMap<Uuid, Delta>, at: DateTime<Utc>) -> Result<()> {
    let techniques: Vec<(&Uuid, &Delta)> = changes.iter().collect();
    for some in techniques.chunks(CHUNK) {
        count(tx, some, at).await?;
    }
    let lost: Vec<Uuid> = techniques.iter().filter(|(_, delta)| delta.lost).map(|(id, _)| **id).collect();
    for ids in lost.chunks(CHUNK) {
        find_newest(tx, ids).await?;
    }
    Ok(())
}

/// All tests of these chains that have a verdict.
async fn in_chains(tx: &mut Tx, chains: &[Uuid]) -> Result<Vec<Counted>> {
    let mut others = Vec::new();
    for some in chains.chunks(CHUNK) {
        let rows: Vec<Row> = match tx.conn() {
            Conn::Postgres(c) => sqlx::query_as(IN_CHAINS).bind(some).fetch_all(c).await?,
            Conn::Sqlite(c) => fetch(c, known!("verdict IS NOT NULL AND chain_id IN ("), some).await?,
        };
        others.extend(rows.into_iter().map(|row| Known::from(row).counted));
    }
    Ok(others)
}

/// Marks tests as heads, or no longer.
async fn turn(tx: &mut Tx, turned: &BTreeMap<Uuid, bool>) -> Result<()> {
    for head in [false, true] {
        let ids: Vec<Uuid> = turned.iter().filter(|(_, is)| **is == head).map(|(id, _)| *id).collect();
        for some in ids.chunks(CHUNK) {
            on!(tx, |c| {
                let mut query = QueryBuilder::new("UPDATE test_fact SET head = ");
                query.push_bind(head).push(" WHERE test_id IN (");
                let mut list = query.separated(", ");
                for id in some {
                    list.push_bind(*id);
                }
                query.push(")");
                query.build().persistent(some.len() == 1).execute(c).await.map(|_| ())
            })?;
        }
    }
    Ok(())
}

async fn count(tx: &mut Tx, techniques: &[(&Uuid, &Delta)], at: DateTime<Utc>) -> Result<()> {
    if techniques.is_empty() {
        return Ok(());
    }
    on!(tx, |c| {
        let mut query = QueryBuilder::new(
            "INSERT INTO technique_tests (technique_id, n, validated, detected, partially_detected, not_detected, \
             last_validated_at, taken_at) ",
        );
        query.push_values(techniques, |mut row, (id, delta)| {
            row.push_bind(**id)
                .push_bind(delta.n)
                .push_bind(delta.validated)
                .push_bind(delta.heads[Verdict::Detected as usize])
                .push_bind(delta.heads[Verdict::PartiallyDetected as usize])
                .push_bind(delta.heads[Verdict::NotDetected as usize])
                .push_bind(delta.newest)
                .push_bind(at);
        });
        query.push(
            " ON CONFLICT (technique_id) DO UPDATE SET n = technique_tests.n + excluded.n, \
             validated = technique_tests.validated + excluded.validated, \
             detected = technique_tests.detected + excluded.detected, \
             partially_detected = technique_tests.partially_detected + excluded.partially_detected, \
             not_detected = technique_tests.not_detected + excluded.not_detected, \
             last_validated_at = CASE WHEN technique_tests.last_validated_at >= excluded.last_validated_at \
             THEN technique_tests.last_validated_at \
             ELSE COALESCE(excluded.last_validated_at, technique_tests.last_validated_at) END, \
             taken_at = excluded.taken_at",
        );
        query.build().persistent(techniques.len() == 1).execute(c).await.map(|_| ())
    })?;
    let platforms: Vec<(Uuid, &str, i64)> = techniques
        .iter()
        .flat_map(|(id, delta)| delta.platforms.iter().map(|(platform, n)| (**id, platform.as_str(), *n)))
        .collect();
    for some in platforms.chunks(CHUNK) {
        on!(tx, |c| {
            let mut query = QueryBuilder::new("INSERT INTO technique_platform (technique_id, platform, n) ");
            query.push_values(some, |mut row, (id, platform, n)| {
                row.push_bind(*id).push_bind(*platform).push_bind(*n);
            });
            query.push(" ON CONFLICT (technique_id, platform) DO UPDATE SET n = technique_platform.n + excluded.n");
            query.build().persistent(some.len() == 1).execute(c).await.map(|_| ())
        })?;
    }
    Ok(())
}

/// The newest validation of the heads of techniques, from their tests.
async fn find_newest(tx: &mut Tx, techniques: &[Uuid]) -> Result<()> {
    on!(tx, |c| {
        let mut query = QueryBuilder::new(
            "UPDATE technique_tests SET last_validated_at = (SELECT validated_at FROM test_fact f \
             WHERE f.technique_id = technique_tests.technique_id AND f.verdict IS NOT NULL AND f.head = TRUE \
             AND f.validated_at IS NOT NULL ORDER BY f.validated_at DESC LIMIT 1) WHERE technique_id IN (",
        );
        let mut list = query.separated(", ");
        for id in techniques {
            list.push_bind(*id);
        }
        query.push(")");
        query.build().persistent(techniques.len() == 1).execute(c).await.map(|_| ())
    })?;
    Ok(())
}
