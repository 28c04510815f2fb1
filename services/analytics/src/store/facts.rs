//! A test as a row of `test_fact`: its columns, and how many rows are written at once.

use std::collections::HashSet;

use aegis_db::{Conn, Result, Tx};
use chrono::{DateTime, Utc};
use sqlx::{Postgres, QueryBuilder, Sqlite};
use uuid::Uuid;

use super::CHUNK;
use crate::domain::test::{Test, Verdict, week_of};

/// Makes the two statements of these columns, each with its type in PostgreSQL and its value of a test.
macro_rules! columns {
    (|$t:ident, $heads:ident| $($name:ident: $kind:literal = $value:expr,)+) => {
        const INSERT: &str = concat!("INSERT INTO test_fact (test_id, ", $(stringify!($name), ", ",)+ "taken_at) ");
        const UPDATE: &str = concat!(
            " ON CONFLICT (test_id) DO UPDATE SET ",
            $(stringify!($name), " = excluded.", stringify!($name), ", ",)+
            "taken_at = excluded.taken_at"
        );

        fn of_values(tests: &[&Test], $heads: &HashSet<Uuid>, at: DateTime<Utc>) -> QueryBuilder<Sqlite> {
            let mut query = QueryBuilder::new(INSERT);
            query.push_values(tests, |mut row, $t| {
                row.push_bind($t.id);
                $(row.push_bind($value);)+
                row.push_bind(at);
            });
            query.push(UPDATE);
            query
        }

        // An array for each column: the statement is the same for any number of tests.
        fn of_arrays(tests: &[&Test], $heads: &HashSet<Uuid>, at: DateTime<Utc>) -> QueryBuilder<Postgres> {
            let mut query = QueryBuilder::new(INSERT);
            query.push("SELECT new.*, ").push_bind(at).push(" FROM UNNEST(");
            let mut arrays = query.separated(", ");
            arrays.push_bind(tests.iter().map(|test| test.id).collect::<Vec<_>>());
            $(
                arrays
                    .push_bind(tests.iter().map(|$t| $value).collect::<Vec<_>>())
                    .push_unseparated(concat!("::", $kind, "[]"));
            )+
            query.push(") AS new").push(UPDATE);
            query
        }
    };
}

columns! {
    |t, heads|
    version: "int8" = t.version,
    digest: "int8" = t.digest(),
    state: "text" = t.state.as_str(),
    deleted: "bool" = t.deleted,
    verdict: "int8" = t.verdict().map(Verdict::number),
    head: "bool" = heads.contains(&t.id),
    technique_id: "uuid" = t.technique_id,
    mitre_id: "text" = t.mitre_id.as_deref(),
    technique_name: "text" = t.technique_name.as_deref(),
    name: "text" = t.name.as_deref(),
    platform: "text" = t.platform.as_deref(),
    detection_result: "text" = t.detection_result.as_deref(),
    attack_success: "bool" = t.attack_success,
    created_by: "uuid" = t.created_by,
    created_by_username: "text" = t.created_by_username.as_deref(),
    retest_of: "uuid" = t.retest_of,
    chain_id: "uuid" = t.chain_id,
    created_at: "timestamptz" = t.created_at,
    updated_at: "timestamptz" = t.updated_at,
    execution_date: "timestamptz" = t.execution_date,
    executed_at: "timestamptz" = t.executed_at,
    detected_at: "timestamptz" = t.detected_at,
    responded_at: "timestamptz" = t.responded_at,
    contained_at: "timestamptz" = t.contained_at,
    red_submitted_at: "timestamptz" = t.red_submitted_at,
    blue_submitted_at: "timestamptz" = t.blue_submitted_at,
    red_validation_status: "text" = t.red_validation_status.as_deref(),
    red_validated_at: "timestamptz" = t.red_validated_at,
    blue_validation_status: "text" = t.blue_validation_status.as_deref(),
    blue_validated_at: "timestamptz" = t.blue_validated_at,
    validated_at: "timestamptz" = t.validated_at,
    remediation_status: "text" = t.remediation_status.as_deref(),
    remediation_assignee: "uuid" = t.remediation_assignee,
    remediation_due_date: "timestamptz" = t.remediation_due_date,
    remediation_steps: "text" = t.remediation_steps.as_deref(),
    remediation_completed_at: "timestamptz" = t.remediation_completed_at,
    decided_at: "timestamptz" = t.decided_at(),
    decided_week: "int8" = t.decided_at().map(week_of),
    detect_seconds: "int8" = t.durations().detect,
    remediate_seconds: "int8" = t.durations().remediate,
    contain_seconds: "int8" = t.durations().contain,
    red_seconds: "int8" = t.durations().red,
    blue_seconds: "int8" = t.durations().blue,
    review_seconds: "int8" = t.durations().review,
}

/// Writes tests, each in place of what was known of it. `heads` are those that are the newest of their chains.
pub(super) async fn upsert(tx: &mut Tx, tests: &[&Test], heads: &HashSet<Uuid>, at: DateTime<Utc>) -> Result<()> {
    match tx.conn() {
        Conn::Postgres(c) => {
            if !tests.is_empty() {
                of_arrays(tests, heads, at).build().execute(c).await?;
            }
        }
        Conn::Sqlite(c) => {
            let mut chunks = tests.chunks(CHUNK);
            // Only what comes again and again in the same length is kept prepared.
            let statement = |tests: &[&Test]| (of_values(tests, heads, at), matches!(tests.len(), 1 | CHUNK));
            let mut next = chunks.next().map(statement);
            while let Some((mut query, often)) = next {
                // The next statement is put together while the database is busy with this one.
                let write = query.build().persistent(often).execute(&mut *c);
                let (written, following) = tokio::join!(write, async { chunks.next().map(statement) });
                written?;
                next = following;
            }
        }
    }
    Ok(())
}
