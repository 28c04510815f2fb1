//! What ran of a campaign, and what became of it.

use std::collections::HashMap;

use aegis_db::{Db, Result, Tx, on, read};
use chrono::{DateTime, Utc};
use sqlx::QueryBuilder;
use uuid::Uuid;

use super::{campaign::among, campaign_test::Place, page_of};
use crate::domain::{campaign::Progress, workflow::State};

/// Rows of one statement, each with four values.
const INSERT_ROWS: usize = 500;

/// By its schedule.
pub const SCHEDULED: &str = "scheduled";
/// By hand.
pub const MANUAL: &str = "manual";
/// Its tests were created.
pub const CREATED: &str = "created";
/// Nothing was.
pub const FAILED: &str = "failed";

/// A run of a campaign.
#[allow(missing_docs, reason = "the fields are those of the API's CampaignRun, described there")]
#[derive(Clone, Debug, PartialEq, sqlx::FromRow)]
pub struct Run {
    pub id: Uuid,
    pub campaign_id: Uuid,
    /// [`SCHEDULED`] or [`MANUAL`].
    pub cause: String,
    pub due_at: Option<DateTime<Utc>>,
    pub started_at: DateTime<Utc>,
    pub started_by: Option<Uuid>,
    pub started_by_username: String,
    /// [`CREATED`] or [`FAILED`].
    pub status: String,
    pub error: Option<String>,
    pub test_count: i64,
}

/// What became of the tests of a run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// Where they are.
    pub progress: Progress,
    /// Validated and detected.
    pub detected: i64,
    /// Validated and partially detected.
    pub partially_detected: i64,
    /// Validated and not detected.
    pub not_detected: i64,
    /// Gone since.
    pub deleted: i64,
}

/// Adds a run.
pub async fn insert(tx: &mut Tx, run: &Run) -> Result<()> {
    const INSERT: &str = "INSERT INTO campaign_run (id, campaign_id, cause, due_at, started_at, started_by, \
         started_by_username, status, error, test_count) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)";
    on!(tx, |c| sqlx::query(INSERT)
        .bind(run.id)
        .bind(run.campaign_id)
        .bind(&run.cause)
        .bind(run.due_at)
        .bind(run.started_at)
        .bind(run.started_by)
        .bind(&run.started_by_username)
        .bind(&run.status)
        .bind(&run.error)
        .bind(run.test_count)
        .execute(c)
        .await
        .map(|_| ()))?;
    Ok(())
}

/// Notes how many tests a run created, whose row was there before them.
pub async fn set_test_count(tx: &mut Tx, run: &Run) -> Result<()> {
    on!(tx, |c| sqlx::query("UPDATE campaign_run SET test_count = $2 WHERE id = $1")
        .bind(run.id)
        .bind(run.test_count)
        .execute(c)
        .await
        .map(|_| ()))?;
    Ok(())
}

/// Notes which tests a run created.
pub async fn add_tests(tx: &mut Tx, run: Uuid, places: &[Place]) -> Result<()> {
    for places in places.chunks(INSERT_ROWS) {
        on!(tx, |c| {
            let mut query = QueryBuilder::new("INSERT INTO campaign_run_test (run_id, position, test_id, phase) ");
            query.push_values(places, |mut row, place| {
                row.push_bind(run).push_bind(place.position).push_bind(place.test_id).push_bind(&place.phase);
            });
            query.build().persistent(false).execute(c).await.map(|_| ())
        })?;
    }
    Ok(())
}

/// Whether there is such a run of that campaign.
pub async fn exists(db: &Db, campaign: Uuid, run: Uuid) -> Result<bool> {
    const EXISTS: &str = "SELECT 1 FROM campaign_run WHERE id = $1 AND campaign_id = $2";
    let found: Option<i32> =
        read!(db, |pool| sqlx::query_scalar(EXISTS).bind(run).bind(campaign).fetch_optional(pool).await)?;
    Ok(found.is_some())
}

/// Runs of a campaign, newest first, that come after `after`; and whether there are more.
pub async fn list(
    db: &Db,
    campaign: Uuid,
    after: Option<(DateTime<Utc>, Uuid)>,
    skip: i64,
    limit: i64,
) -> Result<(Vec<Run>, bool)> {
    let rows = usize::try_from(limit).unwrap_or(0);
    Ok(read!(db, |pool| {
        let mut query = QueryBuilder::new(
            "SELECT id, campaign_id, cause, due_at, started_at, started_by, started_by_username, status, error, \
             test_count FROM campaign_run WHERE campaign_id = ",
        );
        query.push_bind(campaign);
        if let Some((at, id)) = after {
            query.push(" AND (started_at, id) < (").push_bind(at).push(", ").push_bind(id).push(")");
        }
        query.push(" ORDER BY started_at DESC, id DESC LIMIT ").push_bind(limit + 1);
        query.push(" OFFSET ").push_bind(skip);
        let text = |run: &Run| 512 + run.error.as_ref().map_or(0, String::len);
        page_of(query.build_query_as::<Run>().fetch(pool), rows, text).await
    })?)
}

/// How many runs a campaign had.
pub async fn count(db: &Db, campaign: Uuid) -> Result<i64> {
    const COUNT: &str = "SELECT COUNT(*) FROM campaign_run WHERE campaign_id = $1";
    Ok(read!(db, |pool| sqlx::query_scalar(COUNT).bind(campaign).fetch_one(pool).await)?)
}

/// What became of the tests of these runs, in one query. A run without tests is not in it.
pub async fn outcomes(db: &Db, runs: &[Uuid]) -> Result<HashMap<Uuid, Outcome>> {
    let mut outcomes: HashMap<Uuid, Outcome> = HashMap::new();
    if runs.is_empty() {
        return Ok(outcomes);
    }
    let rows: Vec<(Uuid, Option<String>, Option<String>, i64)> = read!(db, |pool| {
        let mut query = QueryBuilder::new(
            "SELECT p.run_id, t.state, t.detection_result, COUNT(*) FROM campaign_run_test p \
             LEFT JOIN test t ON t.id = p.test_id WHERE p.run_id IN (",
        );
        among(&mut query, runs);
        query.push(") GROUP BY p.run_id, t.state, t.detection_result");
        query.build_query_as().persistent(false).fetch_all(pool).await
    })?;
    for (run, state, result, count) in rows {
        let outcome = outcomes.entry(run).or_default();
        let Some(state) = state.and_then(|name| State::try_from(name).ok()) else {
            outcome.deleted += count;
            continue;
        };
        outcome.progress.add(state, count);
        // A result is one once both sides have approved it.
        match (state, result.as_deref()) {
            (State::Validated, Some("detected")) => outcome.detected += count,
            (State::Validated, Some("partially_detected")) => outcome.partially_detected += count,
            (State::Validated, Some("not_detected")) => outcome.not_detected += count,
            _ => {}
        }
    }
    Ok(outcomes)
}
