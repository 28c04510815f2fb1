//! Runs of events as they are stored, for searching.

use aegis_db::{Db, Result, Tx, now, on, read};
use sqlx::QueryBuilder;

use crate::domain::index::{SHARDS, Sealed};

/// A run that is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, sqlx::FromRow)]
pub(crate) struct Stored {
    pub(crate) run: i64,
    pub(crate) first_id: i64,
    pub(crate) last_id: i64,
    /// Microseconds.
    pub(crate) min_at: i64,
    pub(crate) max_at: i64,
}

impl Stored {
    /// How many events are in it.
    pub(crate) fn len(&self) -> usize {
        usize::try_from(self.last_id - self.first_id + 1).unwrap_or(0)
    }
}

fn place(shard: usize, run: i64) -> i64 {
    (i64::try_from(shard).unwrap_or(0) << 40) | run
}

fn run_of(place: i64) -> i64 {
    place & ((1 << 40) - 1)
}

/// Runs after one, oldest first.
pub(crate) async fn after(db: &Db, run: i64) -> Result<Vec<Stored>> {
    const SQL: &str = "SELECT run, first_id, last_id, min_at, max_at FROM log_run WHERE run > $1 ORDER BY run";
    Ok(read!(db, |pool| sqlx::query_as(SQL).bind(run).fetch_all(pool).await)?)
}

/// The newest one, in a transaction that may write the next.
pub(crate) async fn last_in(tx: &mut Tx) -> Result<Option<Stored>> {
    const SQL: &str = "SELECT run, first_id, last_id, min_at, max_at FROM log_run ORDER BY run DESC LIMIT 1";
    Ok(on!(tx, |c| sqlx::query_as(SQL).fetch_optional(c).await)?)
}

/// The part of all terms, of runs from one to another.
pub(crate) async fn terms(db: &Db, shard: usize, from: i64, to: i64) -> Result<Vec<(i64, Vec<u8>)>> {
    const SQL: &str = "SELECT place, places FROM log_term WHERE place BETWEEN $1 AND $2";
    let (from, to) = (place(shard, from), place(shard, to));
    let rows: Vec<(i64, Vec<u8>)> = read!(db, |pool| sqlx::query_as(SQL).bind(from).bind(to).fetch_all(pool).await)?;
    Ok(rows.into_iter().map(|(place, places)| (run_of(place), places)).collect())
}

/// Parts of all terms, of one run: which part, and its places.
pub(crate) async fn terms_of(db: &Db, run: i64, shards: &[usize]) -> Result<Vec<(usize, Vec<u8>)>> {
    let rows: Vec<(i64, Vec<u8>)> = read!(db, |pool| {
        let mut query = QueryBuilder::new("SELECT place, places FROM log_term WHERE place IN (");
        let mut list = query.separated(", ");
        for shard in shards {
            list.push_bind(place(*shard, run));
        }
        query.push(")");
        query.build_query_as().persistent(shards.len() == 1 || shards.len() == SHARDS).fetch_all(pool).await
    })?;
    Ok(rows.into_iter().map(|(place, places)| (usize::try_from(place >> 40).unwrap_or(0), places)).collect())
}

/// The words of runs.
pub(crate) async fn words(db: &Db, runs: &[i64]) -> Result<Vec<(i64, Vec<u8>)>> {
    blobs(db, "SELECT run, words FROM log_word WHERE run IN (", runs).await
}

/// When the events of runs happened.
pub(crate) async fn times(db: &Db, runs: &[i64]) -> Result<Vec<(i64, Vec<u8>)>> {
    blobs(db, "SELECT run, times FROM log_run WHERE run IN (", runs).await
}

async fn blobs(db: &Db, sql: &'static str, runs: &[i64]) -> Result<Vec<(i64, Vec<u8>)>> {
    if runs.is_empty() {
        return Ok(Vec::new());
    }
    Ok(read!(db, |pool| {
        let mut query = QueryBuilder::new(sql);
        let mut list = query.separated(", ");
        for run in runs {
            list.push_bind(*run);
        }
        query.push(")");
        query.build_query_as().persistent(runs.len() == 1).fetch_all(pool).await
    })?)
}

/// The oldest run, if there is a newer one: the newest stays, for the next to follow it. With the moment at which it was
/// written, microseconds; of a run of an earlier version that of its newest event.
pub(crate) async fn oldest(db: &Db) -> Result<Option<(Stored, i64)>> {
    const SQL: &str = "SELECT run, first_id, last_id, min_at, max_at, COALESCE(written_at, max_at) FROM log_run \
                       WHERE run < (SELECT MAX(run) FROM log_run) ORDER BY run LIMIT 1";
    let row: Option<(i64, i64, i64, i64, i64, i64)> = read!(db, |pool| sqlx::query_as(SQL).fetch_optional(pool).await)?;
    Ok(row.map(|(run, first_id, last_id, min_at, max_at, written_at)| {
        (Stored { run, first_id, last_id, min_at, max_at }, written_at)
    }))
}

/// Removes what finds the events of a run; false where it is gone already.
pub(crate) async fn remove(tx: &mut Tx, run: i64) -> Result<bool> {
    const RUN: &str = "DELETE FROM log_run WHERE run = $1";
    const WORDS: &str = "DELETE FROM log_word WHERE run = $1";
    let removed = on!(tx, |c| sqlx::query(RUN).bind(run).execute(c).await.map(|done| done.rows_affected()))?;
    on!(tx, |c| sqlx::query(WORDS).bind(run).execute(c).await.map(|_| ()))?;
    on!(tx, |c| {
        let mut query = QueryBuilder::new("DELETE FROM log_term WHERE place IN (");
        let mut list = query.separated(", ");
        for shard in 0..SHARDS {
            list.push_bind(place(shard, run));
        }
        query.push(")");
        query.build().execute(c).await.map(|_| ())
    })?;
    Ok(removed == 1)
}

/// Stores a run.
pub(crate) async fn insert(tx: &mut Tx, run: i64, sealed: &Sealed) -> Result<Stored> {
    const RUN: &str = "INSERT INTO log_run (run, first_id, last_id, min_at, max_at, times, written_at) VALUES ($1, $2, $3, $4, $5, $6, $7)";
    const WORDS: &str = "INSERT INTO log_word (run, words) VALUES ($1, $2)";
    let Sealed { first_id, last_id, min_at, max_at, .. } = *sealed;
    let written_at = now().timestamp_micros();
    on!(tx, |c| {
        let insert = sqlx::query(RUN).bind(run).bind(first_id).bind(last_id).bind(min_at).bind(max_at);
        insert.bind(sealed.times.as_slice()).bind(written_at).execute(c).await.map(|_| ())
    })?;
    on!(tx, |c| sqlx::query(WORDS).bind(run).bind(sealed.words.as_slice()).execute(c).await.map(|_| ()))?;
    on!(tx, |c| {
        let mut query = QueryBuilder::new("INSERT INTO log_term (place, places) ");
        query.push_values(&sealed.shards, |mut row, (shard, places)| {
            row.push_bind(place(*shard, run)).push_bind(places.as_slice());
        });
        query.build().persistent(sealed.shards.len() == SHARDS).execute(c).await.map(|_| ())
    })?;
    Ok(Stored { run, first_id, last_id, min_at, max_at })
}
