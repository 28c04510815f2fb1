//! The SQL of how many tests are in which state.

use std::collections::BTreeMap;

use aegis_db::{Db, Result, Tx, on, read};
use chrono::{DateTime, Utc};
use sqlx::QueryBuilder;

use crate::domain::pipeline::{Pipeline, State};

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

/// Changes the counts.
pub(crate) async fn change(tx: &mut Tx, by: &BTreeMap<State, i64>) -> Result<()> {
    if by.is_empty() {
        return Ok(());
    }
    on!(tx, |c| {
        let mut query = QueryBuilder::new("UPDATE test_count SET n = n + CASE state");
        for (state, n) in by {
            query.push(" WHEN ").push_bind(state.as_str()).push(" THEN ").push_bind(*n);
        }
        query.push(" ELSE 0 END WHERE state IN (");
        let mut list = query.separated(", ");
        for state in by.keys() {
            list.push_bind(state.as_str());
        }
        query.push(")");
        query.build().execute(c).await.map(|_| ())
    })?;
    Ok(())
}
