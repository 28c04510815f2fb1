//! The SQL that finds out whether what is counted of tests is what they say, and mends it.

use std::collections::{BTreeMap, HashSet};

use aegis_db::{Db, Result, Tx, on, read};
use chrono::{DateTime, Utc};
use sqlx::QueryBuilder;
use uuid::Uuid;

use super::{CHUNK, pipeline, tests::count_all};
use crate::domain::{
    heads::{Delta, platform_name},
    pipeline::State,
    test::Verdict,
};

macro_rules! wrong_head {
    () => {
        "f.verdict IS NOT NULL AND f.head = EXISTS (SELECT 1 FROM test_fact o WHERE o.chain_id = f.chain_id \
         AND o.technique_id = f.technique_id AND o.verdict IS NOT NULL AND (o.validated_at > f.validated_at \
         OR (o.validated_at = f.validated_at AND o.test_id > f.test_id)))"
    };
}

/// Tests that are said to be heads and are not, or the other way round: what only a fault or a person can have written.
/// Reads all tests, and holds nobody up.
pub(crate) async fn wrong_heads(db: &Db) -> Result<Vec<Uuid>> {
    let without: Vec<Uuid> =
        read!(db, |pool| sqlx::query_scalar("SELECT test_id FROM test_fact WHERE head = TRUE AND verdict IS NULL")
            .fetch_all(pool)
            .await)?;
    let mut wrong: Vec<Uuid> =
        read!(db, |pool| sqlx::query_scalar(concat!("SELECT f.test_id FROM test_fact f WHERE ", wrong_head!()))
            .fetch_all(pool)
            .await)?;
    wrong.extend(without);
    Ok(wrong)
}

/// Turns those of these tests that are still wrong.
pub(crate) async fn mend_heads(tx: &mut Tx, wrong: &[Uuid]) -> Result<()> {
    for some in wrong.chunks(CHUNK) {
        on!(tx, |c| {
            let mut query = QueryBuilder::new(
                "UPDATE test_fact SET head = NOT head WHERE test_id IN (SELECT f.test_id FROM test_fact f WHERE (",
            );
            query.push(wrong_head!()).push(" OR (f.head = TRUE AND f.verdict IS NULL)) AND f.test_id IN (");
            let mut list = query.separated(", ");
            for id in some {
                list.push_bind(*id);
            }
            query.push("))");
            query.build().persistent(false).execute(c).await.map(|_| ())
        })?;
    }
    Ok(())
}

/// By how much the counts differ from what the tests say.
#[derive(Debug, Default)]
pub(crate) struct Drift {
    techniques: BTreeMap<Uuid, Delta>,
    states: BTreeMap<State, i64>,
}

/// Counts all tests, in a transaction that only reads: what events change meanwhile they change in both alike, so what is
/// answered holds later, too.
pub(crate) async fn drift(tx: &mut Tx) -> Result<Drift> {
    let mut drift = Drift::default();
    let mut after = Uuid::nil();
    while let Some((last, rows)) = some_counts(tx, after).await? {
        after = last;
        for row in rows {
            let Some(state) = State::parse(&row.state).filter(|_| !row.deleted) else { continue };
            *drift.states.entry(state).or_default() += row.n;
            let Some(technique) = row.technique_id else { continue };
            let sum = drift.techniques.entry(technique).or_default();
            sum.n += row.n;
            let Some(verdict) = row.verdict.and_then(Verdict::of_number) else { continue };
            sum.validated += row.n;
            if row.head {
                sum.heads[verdict as usize] += row.n;
                sum.newest = sum.newest.max(row.newest);
                if let Some(platform) = row.platform.as_deref().and_then(platform_name) {
                    *sum.platforms.entry(platform).or_default() += row.n;
                }
            }
        }
    }
    drift.less_what_is_counted(tx).await?;
    Ok(drift)
}

impl Drift {
    async fn less_what_is_counted(&mut self, tx: &mut Tx) -> Result<()> {
        type Counts = (Uuid, i64, i64, i64, i64, i64, Option<DateTime<Utc>>);
        let counts: Vec<Counts> = on!(tx, |c| sqlx::query_as(
            "SELECT technique_id, n, validated, not_detected, partially_detected, detected, last_validated_at \
             FROM technique_tests"
        )
        .fetch_all(c)
        .await)?;
        let mut told: HashSet<Uuid> = HashSet::with_capacity(counts.len());
        for (technique, n, validated, not_detected, partially_detected, detected, last) in counts {
            let sum = self.techniques.entry(technique).or_default();
            sum.n -= n;
            sum.validated -= validated;
            sum.heads[Verdict::NotDetected as usize] -= not_detected;
            sum.heads[Verdict::PartiallyDetected as usize] -= partially_detected;
            sum.heads[Verdict::Detected as usize] -= detected;
            // Then it is looked up again.
            sum.lost = sum.newest != last;
            sum.newest = None;
            told.insert(technique);
        }
        let platforms: Vec<(Uuid, String, i64)> = on!(tx, |c| {
            sqlx::query_as("SELECT technique_id, platform, n FROM technique_platform").fetch_all(c).await
        })?;
        for (technique, platform, n) in platforms {
            *self.techniques.entry(technique).or_default().platforms.entry(platform).or_default() -= n;
        }
        let states: Vec<(String, i64)> =
            on!(tx, |c| sqlx::query_as("SELECT state, n FROM test_count").fetch_all(c).await)?;
        for (state, n) in states {
            if let Some(state) = State::parse(&state) {
                *self.states.entry(state).or_default() -= n;
            }
        }
        self.states.retain(|_, n| *n != 0);
        self.techniques.retain(|technique, sum| {
            sum.platforms.retain(|_, n| *n != 0);
            // One that is not counted at all yet has a moment besides.
            sum.lost |= !told.contains(technique) && sum.newest.take().is_some();
            !sum.is_nothing()
        });
        Ok(())
    }
}

/// Makes the counts be what the tests say.
pub(crate) async fn correct(tx: &mut Tx, drift: &Drift, at: DateTime<Utc>) -> Result<()> {
    if !drift.techniques.is_empty() || !drift.states.is_empty() {
        let (techniques, states) = (drift.techniques.len(), drift.states.len());
        tracing::warn!(techniques, states, "what was counted of tests was not what they say, and is corrected");
    }
    count_all(tx, &drift.techniques, at).await?;
    pipeline::change(tx, &drift.states).await
}

#[derive(sqlx::FromRow)]
struct CountRow {
    technique_id: Option<Uuid>,
    state: String,
    verdict: Option<i64>,
    head: bool,
    platform: Option<String>,
    deleted: bool,
    n: i64,
    newest: Option<DateTime<Utc>>,
}

/// Counts of the next so many tests after an id, and the last id among them. In pieces, so that none is large; without
/// a condition besides, which would have another index chosen than that of the ids.
async fn some_counts(tx: &mut Tx, after: Uuid) -> Result<Option<(Uuid, Vec<CountRow>)>> {
    let last: Option<Uuid> = on!(tx, |c| sqlx::query_scalar(
        "SELECT test_id FROM (SELECT test_id FROM test_fact WHERE test_id > $1 ORDER BY test_id LIMIT 50000) page \
         ORDER BY test_id DESC LIMIT 1"
    )
    .bind(after)
    .fetch_optional(c)
    .await)?;
    let Some(last) = last else { return Ok(None) };
    let rows = on!(tx, |c| sqlx::query_as(
        "SELECT technique_id, state, verdict, head, platform, deleted, COUNT(*) AS n, MAX(validated_at) AS newest \
         FROM test_fact WHERE test_id > $1 AND test_id <= $2 \
         GROUP BY technique_id, state, verdict, head, platform, deleted"
    )
    .bind(after)
    .bind(last)
    .fetch_all(c)
    .await)?;
    Ok(Some((last, rows)))
}
