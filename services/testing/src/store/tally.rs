//! How many tests there are of each kind, kept by triggers of the database so that nobody has to count.
//!
//! A change of a test adds what it takes away and what it brings to `tally_delta`; a task folds that into `tally`.
//! Nobody waits for anybody that way: changes only add rows. A number is the sum over both tables.

use std::time::Duration;

use aegis_db::{Conn, Db, Result, Tx, on, read};
use aegis_runtime::Shutdown;
use sqlx::AssertSqlSafe;
use uuid::Uuid;

use super::list::{
    Filter,
    filter::{Arg, Statement, bound},
};
use crate::domain::workflow::Side;

/// Between two looks at what has come.
const PAUSE: Duration = Duration::from_millis(500);
/// Rows folded in one transaction; a writer of SQLite waits a few milliseconds for it at most.
const BATCH: i64 = 250;

/// How many tests fit the filter, which is of what the tally knows: all but technique, campaign and due date.
pub async fn count(tx: &mut Tx, filter: &Filter) -> Result<i64> {
    let mut sum = Statement::for_database_of(tx);
    sum.push("SELECT CAST(COALESCE(SUM(n), 0) AS BIGINT) FROM (SELECT n FROM tally");
    conditions(&mut sum, filter);
    sum.push(" UNION ALL SELECT n FROM tally_delta");
    conditions(&mut sum, filter);
    sum.push(") AS counted");
    let Statement { sql, args, .. } = sum;
    Ok(on!(tx, |c| {
        let query = bound!(sqlx::query_scalar(AssertSqlSafe(sql)), args);
        query.fetch_one(c).await
    })?)
}

fn conditions(sum: &mut Statement, filter: &Filter) {
    sum.push(" WHERE scope = ");
    sum.bind(Arg::Id(filter.assignee.unwrap_or(Uuid::nil())));
    if let Some(state) = filter.state {
        sum.push(" AND state = ");
        sum.bind(Arg::Text(state.as_str().to_owned()));
    }
    if let Some(platform) = &filter.platform {
        sum.push(" AND platform = ");
        sum.bind(Arg::Text(platform.clone()));
    }
    if let Some(id) = filter.created_by {
        sum.push(" AND created_by = ");
        sum.bind(Arg::Id(id));
    }
    match filter.pending {
        Some(Side::Red) => sum.push(" AND red_pending"),
        Some(Side::Blue) => sum.push(" AND blue_pending"),
        None => {}
    }
    if filter.incomplete {
        sum.push(" AND incomplete");
    }
    if let Some(status) = &filter.remediation_status {
        sum.push(" AND remediation_status = ");
        sum.bind(Arg::Text(status.clone()));
    }
}

/// Folds what has come, every moment until `stop`.
pub async fn keep(db: Db, stop: Shutdown) {
    loop {
        if let Err(error) = aegis_telemetry::job("testing_tally", fold_all(&db)).await {
            // Numbers are right without it, only slower.
            tracing::warn!(%error, "the numbers of tests stay unfolded for now");
        }
        tokio::select! {
            () = tokio::time::sleep(PAUSE) => {}
            () = stop.cancelled() => return,
        }
    }
}

/// Folds all that has come so far.
pub async fn fold_all(db: &Db) -> Result<()> {
    while waiting(db).await? {
        let mut tx = db.begin().await?;
        fold(&mut tx).await?;
        // One state for another: should the machine lose it, it loses both tables' part of it.
        tx.commit_relaxed().await?;
        // Those who wait to write come first.
        tokio::task::yield_now().await;
    }
    Ok(())
}

async fn waiting(db: &Db) -> Result<bool> {
    let found: Option<i32> =
        read!(db, |pool| sqlx::query_scalar("SELECT 1 FROM tally_delta LIMIT 1").fetch_optional(pool).await)?;
    Ok(found.is_some())
}

macro_rules! kind {
    () => {
        "scope, state, platform, created_by, red_pending, blue_pending, incomplete, remediation_status"
    };
}

/// Folds a batch. On PostgreSQL in one statement, so that what comes meanwhile is neither lost nor counted twice; on
/// SQLite nothing comes meanwhile.
async fn fold(tx: &mut Tx) -> Result<()> {
    const POSTGRES: &str = concat!(
        "WITH gone AS (DELETE FROM tally_delta WHERE id IN (SELECT id FROM tally_delta LIMIT $1 FOR UPDATE SKIP LOCKED) \
         RETURNING *) INSERT INTO tally (",
        kind!(),
        ", n) SELECT ",
        kind!(),
        ", CAST(SUM(n) AS BIGINT) FROM gone GROUP BY ",
        kind!(),
        // Two processes that fold take the rows in the same order.
        " HAVING SUM(n) <> 0 ORDER BY ",
        kind!(),
        " ON CONFLICT (",
        kind!(),
        ") DO UPDATE SET n = tally.n + EXCLUDED.n"
    );
    const LAST: &str = "SELECT MAX(id) FROM (SELECT id FROM tally_delta ORDER BY id LIMIT $1)";
    const ADD: &str = concat!(
        "INSERT INTO tally (",
        kind!(),
        ", n) SELECT ",
        kind!(),
        ", SUM(n) FROM tally_delta WHERE id <= $1 GROUP BY ",
        kind!(),
        " HAVING SUM(n) <> 0 ON CONFLICT (",
        kind!(),
        ") DO UPDATE SET n = n + excluded.n"
    );
    match tx.conn() {
        Conn::Postgres(c) => {
            sqlx::query(POSTGRES).bind(BATCH).execute(c).await?;
        }
        Conn::Sqlite(c) => {
            let last: Option<i64> = sqlx::query_scalar(LAST).bind(BATCH).fetch_one(&mut *c).await?;
            sqlx::query(ADD).bind(last).execute(&mut *c).await?;
            sqlx::query("DELETE FROM tally_delta WHERE id <= $1").bind(last).execute(c).await?;
        }
    }
    Ok(())
}
