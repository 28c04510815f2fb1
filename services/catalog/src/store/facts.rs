//! What is known of tests, for the statuses of techniques.

use std::collections::HashMap;

use aegis_db::{Result, Tx, on};
use chrono::{DateTime, Utc};
use futures::TryStreamExt;
use sqlx::QueryBuilder;
use uuid::Uuid;

use super::MAX_BINDS;
use crate::domain::status::{Fact, Status, Verdict, status};

/// The last that was heard of a test.
#[derive(Clone, Debug, PartialEq, Eq, sqlx::FromRow)]
pub(crate) struct TestFact {
    pub test_id: Uuid,
    pub version: i64,
    pub technique_id: Uuid,
    pub state: String,
    pub detection_result: String,
    pub chain_id: Uuid,
    pub validated_at: Option<DateTime<Utc>>,
    pub deleted: bool,
}

impl TestFact {
    /// All that the status of a technique depends on: of which technique it is and what it says; of one that counts with
    /// a result also where in its chain it stands.
    pub(crate) fn says(&self) -> impl PartialEq + use<> {
        let verdict = match self.deleted {
            true => Verdict::Nothing,
            false => Verdict::of(&self.state, &self.detection_result),
        };
        (self.technique_id, verdict, verdict.is_result().then_some((self.chain_id, self.validated_at)))
    }
}

#[derive(sqlx::FromRow)]
struct Row {
    test_id: Uuid,
    technique_id: Uuid,
    state: String,
    detection_result: String,
    chain_id: Uuid,
    validated_at: Option<DateTime<Utc>>,
}

impl Row {
    fn fact(&self) -> Fact {
        Fact {
            test_id: self.test_id,
            chain_id: self.chain_id,
            verdict: Verdict::of(&self.state, &self.detection_result),
            validated_at: self.validated_at,
        }
    }
}

const COLUMNS: usize = 9;

/// What was last heard of a test.
pub(crate) async fn find(tx: &mut Tx, test_id: Uuid) -> Result<Option<TestFact>> {
    let fact = on!(tx, |c| sqlx::query_as(
        "SELECT test_id, version, technique_id, state, detection_result, chain_id, validated_at, deleted \
         FROM test_fact WHERE test_id = $1"
    )
    .bind(test_id)
    .fetch_optional(c)
    .await)?;
    Ok(fact)
}

/// Writes facts; of two about one test the one with the higher version stays. Answers how many rows changed.
pub(crate) async fn write(tx: &mut Tx, facts: &[TestFact], now: DateTime<Utc>) -> Result<u64> {
    let mut changed = 0;
    for chunk in facts.chunks(MAX_BINDS / COLUMNS) {
        changed += on!(tx, |c| {
            let mut query = QueryBuilder::new(
                "INSERT INTO test_fact (test_id, version, technique_id, state, detection_result, chain_id, \
                 validated_at, deleted, received_at) ",
            );
            query.push_values(chunk, |mut row, f| {
                row.push_bind(f.test_id)
                    .push_bind(f.version)
                    .push_bind(f.technique_id)
                    .push_bind(&f.state)
                    .push_bind(&f.detection_result)
                    .push_bind(f.chain_id)
                    .push_bind(f.validated_at)
                    .push_bind(f.deleted)
                    .push_bind(now);
            });
            query.push(
                " ON CONFLICT (test_id) DO UPDATE SET version = excluded.version, \
                 technique_id = excluded.technique_id, state = excluded.state, \
                 detection_result = excluded.detection_result, chain_id = excluded.chain_id, \
                 validated_at = excluded.validated_at, deleted = excluded.deleted, \
                 received_at = excluded.received_at WHERE test_fact.version < excluded.version",
            );
            let one = chunk.len() == 1;
            query.build().persistent(one).execute(c).await.map(|done| done.rows_affected())
        })?;
    }
    Ok(changed)
}

/// Forgets what was heard before a moment.
pub(crate) async fn remove_before(tx: &mut Tx, moment: DateTime<Utc>) -> Result<()> {
    on!(tx, |c| sqlx::query("DELETE FROM test_fact WHERE received_at < $1").bind(moment).execute(c).await.map(|_| ()))?;
    Ok(())
}

/// The status of one technique from its tests: from those that are validated; where none has a result, from whether one
/// is under way. An index has all that is read here.
pub(crate) async fn status_of(tx: &mut Tx, technique_id: Uuid) -> Result<Status> {
    let rows: Vec<Row> = on!(tx, |c| sqlx::query_as(
        "SELECT test_id, technique_id, state, detection_result, chain_id, validated_at FROM test_fact \
         WHERE technique_id = $1 AND deleted = FALSE AND state = 'validated'"
    )
    .bind(technique_id)
    .fetch_all(c)
    .await)?;
    let facts: Vec<Fact> = rows.iter().map(Row::fact).collect();
    if facts.iter().any(|fact| fact.verdict.is_result()) {
        return Ok(status(&facts));
    }
    let open: Option<i32> = on!(tx, |c| sqlx::query_scalar(
        "SELECT 1 FROM test_fact WHERE technique_id = $1 AND deleted = FALSE \
         AND state IN ('draft', 'red_executing', 'blue_evaluating', 'in_review') LIMIT 1"
    )
    .bind(technique_id)
    .fetch_optional(c)
    .await)?;
    Ok(if open.is_some() { Status::InProgress } else { Status::NotEvaluated })
}

/// How many tests techniques have, those that have any.
pub(crate) async fn counts(tx: &mut Tx, techniques: &[Uuid]) -> Result<HashMap<Uuid, i64>> {
    let mut counts = HashMap::new();
    for chunk in techniques.chunks(MAX_BINDS) {
        let rows: Vec<(Uuid, i64)> = on!(tx, |c| {
            let mut query = QueryBuilder::new(
                "SELECT technique_id, COUNT(*) FROM test_fact WHERE deleted = FALSE AND technique_id IN (",
            );
            let mut list = query.separated(", ");
            for id in chunk {
                list.push_bind(*id);
            }
            query.push(") GROUP BY technique_id");
            query.build_query_as().persistent(false).fetch_all(c).await
        })?;
        counts.extend(rows);
    }
    Ok(counts)
}

/// The status of every technique that has tests, from one pass over the facts.
pub(crate) async fn all_statuses(tx: &mut Tx) -> Result<HashMap<Uuid, Status>> {
    let mut statuses = HashMap::new();
    let mut of: Option<Uuid> = None;
    let mut facts = Vec::new();
    on!(tx, |c| {
        let mut rows = sqlx::query_as::<_, Row>(
            "SELECT test_id, technique_id, state, detection_result, chain_id, validated_at FROM test_fact \
             WHERE deleted = FALSE ORDER BY technique_id",
        )
        .fetch(c);
        while let Some(row) = rows.try_next().await? {
            if let Some(before) = of.replace(row.technique_id)
                && before != row.technique_id
            {
                statuses.insert(before, status(&facts));
                facts.clear();
            }
            facts.push(row.fact());
        }
    });
    if let Some(last) = of {
        statuses.insert(last, status(&facts));
    }
    Ok(statuses)
}
