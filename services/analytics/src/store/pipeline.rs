//! The SQL of tests and their counts.

use std::collections::HashMap;

use aegis_db::{Db, Result, Tx, on, read};
use chrono::{DateTime, Utc};
use sqlx::QueryBuilder;
use uuid::Uuid;

use super::CHUNK;
use crate::domain::pipeline::{Pipeline, State, TestFact};

/// Tests by state, and when the projection last took something in. The outer join gives the time without tests too.
const PIPELINE: &str = "SELECT m.as_of, c.state, c.n FROM meta m LEFT JOIN test_count c ON TRUE";

/// Counts over all tests.
pub(crate) async fn pipeline(db: &Db) -> Result<(Pipeline, Option<DateTime<Utc>>)> {
    type Row = (Option<DateTime<Utc>>, Option<String>, Option<i64>);
    let rows: Vec<Row> = read!(db, |pool| sqlx::query_as(PIPELINE).fetch_all(pool).await)?;
    let mut pipeline = Pipeline::default();
    let mut as_of = None;
    for (at, state, n) in rows {
        as_of = at;
        if let Some((state, n)) = state.as_deref().and_then(State::parse).zip(n) {
            pipeline.set(state, n);
        }
    }
    Ok((pipeline, as_of))
}

/// Takes one fact in and counts it; one that is not newer than what is known changes nothing.
///
/// The caller holds the moment `at` from [`super::advance`], so nothing else changes what is read here.
pub(crate) async fn take_in(tx: &mut Tx, fact: &TestFact, at: DateTime<Utc>) -> Result<()> {
    let known: Option<(i64, String, bool)> =
        on!(tx, |c| sqlx::query_as("SELECT version, state, deleted FROM test_fact WHERE test_id = $1")
            .bind(fact.id)
            .fetch_optional(c)
            .await)?;
    let known = known.and_then(|(version, state, deleted)| {
        Some(TestFact { id: fact.id, version, state: State::parse(&state)?, deleted })
    });
    if known.is_some_and(|known| known.version >= fact.version) {
        return Ok(());
    }
    write(tx, &[*fact], at).await?;
    let place = |fact: &TestFact| (!fact.deleted).then_some(fact.state);
    count(tx, known.as_ref().and_then(place), place(fact)).await
}

/// Replaces all that was taken in up to a moment by `facts`, and counts anew.
pub(crate) async fn replace(
    tx: &mut Tx,
    until: DateTime<Utc>,
    facts: &HashMap<Uuid, (i64, State)>,
    at: DateTime<Utc>,
) -> Result<()> {
    on!(tx, |c| sqlx::query("DELETE FROM test_fact WHERE taken_at <= $1").bind(until).execute(c).await.map(|_| ()))?;
    let mut facts: Vec<TestFact> = facts
        .iter()
        .map(|(id, (version, state))| TestFact { id: *id, version: *version, state: *state, deleted: false })
        .collect();
    // In the order of the index: a million rows go in where the last one did.
    facts.sort_unstable_by_key(|fact| fact.id);
    for chunk in facts.chunks(CHUNK) {
        write(tx, chunk, at).await?;
    }
    on!(tx, |c| sqlx::query("UPDATE test_count SET n = 0").execute(c).await.map(|_| ()))?;
    on!(tx, |c| sqlx::query(
        "INSERT INTO test_count (state, n) SELECT state, COUNT(*) FROM test_fact WHERE deleted = FALSE GROUP BY state \
         ON CONFLICT (state) DO UPDATE SET n = excluded.n"
    )
    .execute(c)
    .await
    .map(|_| ()))?;
    Ok(())
}

/// Writes facts, each of another test; a row that is as new already stays.
async fn write(tx: &mut Tx, facts: &[TestFact], at: DateTime<Utc>) -> Result<()> {
    on!(tx, |c| {
        let mut query = QueryBuilder::new("INSERT INTO test_fact (test_id, version, state, deleted, taken_at) ");
        query.push_values(facts, |mut row, fact| {
            row.push_bind(fact.id)
                .push_bind(fact.version)
                .push_bind(fact.state.as_str())
                .push_bind(fact.deleted)
                .push_bind(at);
        });
        query.push(
            " ON CONFLICT (test_id) DO UPDATE SET version = excluded.version, state = excluded.state, \
             deleted = excluded.deleted, taken_at = excluded.taken_at WHERE test_fact.version < excluded.version",
        );
        query.build().execute(c).await.map(|_| ())
    })?;
    Ok(())
}

/// A test went from one count to another; nowhere is none.
async fn count(tx: &mut Tx, from: Option<State>, to: Option<State>) -> Result<()> {
    if from == to {
        return Ok(());
    }
    on!(tx, |c| sqlx::query(
        "UPDATE test_count SET n = n + CASE WHEN state = $1 THEN 1 ELSE -1 END WHERE state IN ($1, $2)"
    )
    .bind(to.map_or("", State::as_str))
    .bind(from.map_or("", State::as_str))
    .execute(c)
    .await
    .map(|_| ()))?;
    Ok(())
}
