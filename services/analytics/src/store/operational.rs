//! The SQL of key figures: one walk over all tests, grouped by state and the week of the decision.

use aegis_db::{Db, Result, read};
use chrono::{DateTime, Utc};
use futures::TryStreamExt;
use sqlx::AssertSqlSafe;

use super::reports::indexed;
use crate::domain::{
    kpi::{Collector, Group, Operational, Votes},
    pipeline::State,
};

// The times of a group come as one text: a row a test would cost more than all the rest.
const GROUPS: &str = "SELECT decided_week, state, COUNT(*) AS n, \
     COUNT(CASE WHEN detection_result = 'detected' THEN 1 END) AS detected, COUNT(detection_result) AS with_result, \
     COUNT(CASE WHEN attack_success THEN 1 END) AS succeeded, COUNT(attack_success) AS attacked, \
     COUNT(CASE WHEN remediation_status = 'completed' THEN 1 END) AS remedied, \
     COUNT(CASE WHEN remediation_status <> 'not_applicable' THEN 1 END) AS to_remedy, \
     COUNT(CASE WHEN red_validation_status = 'approved' THEN 1 END) AS red_approved, \
     COUNT(CASE WHEN red_validation_status = 'rejected' THEN 1 END) AS red_rejected, \
     COUNT(CASE WHEN red_validation_status = 'pending' THEN 1 END) AS red_pending, \
     COUNT(CASE WHEN blue_validation_status = 'approved' THEN 1 END) AS blue_approved, \
     COUNT(CASE WHEN blue_validation_status = 'rejected' THEN 1 END) AS blue_rejected, \
     COUNT(CASE WHEN blue_validation_status = 'pending' THEN 1 END) AS blue_pending, \
     COUNT(CASE WHEN red_submitted_at >= $1 THEN 1 END) AS red_lately, \
     COUNT(CASE WHEN blue_submitted_at >= $1 THEN 1 END) AS blue_lately, \
     string_agg(CAST(detect_seconds AS TEXT), ',') AS detect, \
     string_agg(CAST(remediate_seconds AS TEXT), ',') AS remediate, \
     string_agg(CAST(contain_seconds AS TEXT), ',') AS contain, string_agg(CAST(red_seconds AS TEXT), ',') AS red, \
     string_agg(CAST(blue_seconds AS TEXT), ',') AS blue, string_agg(CAST(review_seconds AS TEXT), ',') AS review \
     FROM test_fact";

#[derive(sqlx::FromRow)]
struct Row {
    decided_week: Option<i64>,
    state: String,
    n: i64,
    detected: i64,
    with_result: i64,
    succeeded: i64,
    attacked: i64,
    remedied: i64,
    to_remedy: i64,
    red_approved: i64,
    red_rejected: i64,
    red_pending: i64,
    blue_approved: i64,
    blue_rejected: i64,
    blue_pending: i64,
    red_lately: i64,
    blue_lately: i64,
    detect: Option<String>,
    remediate: Option<String>,
    contain: Option<String>,
    red: Option<String>,
    blue: Option<String>,
    review: Option<String>,
}

impl Row {
    fn group(self) -> Group {
        let red = Votes { approved: self.red_approved, rejected: self.red_rejected, pending: self.red_pending };
        let blue = Votes { approved: self.blue_approved, rejected: self.blue_rejected, pending: self.blue_pending };
        Group {
            n: self.n,
            detected: self.detected,
            with_result: self.with_result,
            succeeded: self.succeeded,
            attacked: self.attacked,
            remedied: self.remedied,
            to_remedy: self.to_remedy,
            red,
            blue,
            red_lately: self.red_lately,
            blue_lately: self.blue_lately,
            times: [self.detect, self.remediate, self.contain, self.red, self.blue, self.review]
                .map(Option::unwrap_or_default),
        }
    }
}

/// All key figures; those of weeks from `first_week` on, and what teams handed on since `lately`.
pub(crate) async fn operational(db: &Db, first_week: i64, lately: DateTime<Utc>) -> Result<Operational> {
    let mut collector = Collector::new(first_week);
    let by = indexed(db, " INDEXED BY test_fact_figures");
    let sql = format!("{GROUPS}{by} WHERE deleted = FALSE GROUP BY decided_week, state ORDER BY decided_week, state");
    read!(db, |pool| {
        let mut rows = sqlx::query_as::<_, Row>(AssertSqlSafe(sql)).bind(lately).fetch(pool);
        while let Some(mut row) = rows.try_next().await? {
            let week = row.decided_week.take();
            if let Some(state) = State::parse(&row.state) {
                collector.add(week, state, &row.group());
            }
        }
        Ok::<_, sqlx::Error>(())
    })?;
    // To find ranks among a million numbers takes a while.
    Ok(tokio::task::spawn_blocking(move || collector.finish()).await.map_err(|_| sqlx::Error::WorkerCrashed)?)
}
