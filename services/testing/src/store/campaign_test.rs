//! The tests of a campaign in their order.

use aegis_db::{Db, Result, Tx, on, read};
use chrono::{DateTime, Utc};
use sqlx::QueryBuilder;
use uuid::Uuid;

use super::{
    campaign::among,
    dialect,
    test::{Test, columns},
};
use crate::domain::workflow::State;

/// Rows of one statement, each with four values.
const INSERT_ROWS: usize = 500;

/// A test's place in a campaign.
#[derive(Clone, Debug, PartialEq, Eq, sqlx::FromRow)]
pub struct Place {
    /// The test.
    pub test_id: Uuid,
    /// Grows from one to the next, not always by one.
    pub position: i64,
    /// Such as a tactic's short name.
    pub phase: Option<String>,
}

/// A test as a list of a campaign shows it.
#[allow(missing_docs, reason = "the fields are those of the API's CampaignTest, described there")]
#[derive(Clone, Debug, PartialEq, sqlx::FromRow)]
pub struct Placed {
    pub test_id: Uuid,
    pub position: i64,
    pub phase: Option<String>,
    pub name: String,
    pub technique_id: Uuid,
    pub mitre_id: String,
    pub technique_name: String,
    pub platform: Option<String>,
    pub state: String,
    pub detection_result: Option<String>,
    pub validated_at: Option<DateTime<Utc>>,
}

macro_rules! placed {
    ($of:literal) => {
        concat!(
            "SELECT p.test_id, p.position, p.phase, t.name, t.technique_id, t.mitre_id, t.technique_name, t.platform, \
             t.state, t.detection_result, t.validated_at FROM ",
            $of,
            " JOIN test t ON t.id = p.test_id ORDER BY p.position, p.test_id LIMIT $2 OFFSET $3"
        )
    };
}

const OF_CAMPAIGN: &str = placed!("(SELECT test_id, position, phase FROM campaign_test WHERE campaign_id = $1) p");
const OF_RUN: &str = placed!("(SELECT test_id, position, phase FROM campaign_run_test WHERE run_id = $1) p");

/// A page of the tests of a campaign, in their order.
pub async fn list(db: &Db, campaign: Uuid, limit: i64, offset: i64) -> Result<Vec<Placed>> {
    page(db, OF_CAMPAIGN, campaign, limit, offset).await
}

/// A page of the tests that a run created, in their order, those that there are.
pub async fn list_of_run(db: &Db, run: Uuid, limit: i64, offset: i64) -> Result<Vec<Placed>> {
    page(db, OF_RUN, run, limit, offset).await
}

async fn page(db: &Db, sql: &'static str, of: Uuid, limit: i64, offset: i64) -> Result<Vec<Placed>> {
    Ok(read!(db, |pool| sqlx::query_as(sql).bind(of).bind(limit).bind(offset).fetch_all(pool).await)?)
}

/// A technique, and the id and name of a campaign that tests it.
pub type Testing = (Uuid, Uuid, String);

/// The campaigns that test these techniques, by name, those that are archived left out.
pub async fn of_techniques(db: &Db, techniques: &[Uuid], limit: i64) -> Result<Vec<Testing>> {
    if techniques.is_empty() {
        return Ok(Vec::new());
    }
    Ok(read!(db, |pool| {
        let mut query = QueryBuilder::new(
            "SELECT DISTINCT t.technique_id, c.id, c.name FROM campaign c JOIN campaign_test p ON p.campaign_id = c.id \
             JOIN test t ON t.id = p.test_id WHERE c.status <> 'archived' AND t.technique_id IN (",
        );
        among(&mut query, techniques);
        query.push(") ORDER BY c.name, c.id, t.technique_id LIMIT ").push_bind(limit);
        query.build_query_as().persistent(false).fetch_all(pool).await
    })?)
}

/// How many tests a campaign has.
pub async fn count(db: &Db, campaign: Uuid) -> Result<i64> {
    const COUNT: &str = "SELECT COUNT(*) FROM campaign_test WHERE campaign_id = $1";
    Ok(read!(db, |pool| sqlx::query_scalar(COUNT).bind(campaign).fetch_one(pool).await)?)
}

/// How many tests of a run there are.
pub async fn count_of_run(db: &Db, run: Uuid) -> Result<i64> {
    const COUNT: &str = "SELECT COUNT(*) FROM campaign_run_test WHERE run_id = $1 AND test_id IS NOT NULL";
    Ok(read!(db, |pool| sqlx::query_scalar(COUNT).bind(run).fetch_one(pool).await)?)
}

/// All places of a campaign, in their order.
pub async fn places(tx: &mut Tx, campaign: Uuid) -> Result<Vec<Place>> {
    const PLACES: &str =
        "SELECT test_id, position, phase FROM campaign_test WHERE campaign_id = $1 ORDER BY position, test_id";
    Ok(on!(tx, |c| sqlx::query_as(PLACES).bind(campaign).fetch_all(c).await)?)
}

/// Those of these tests that there are, with their states; none of them is deleted until the transaction ends.
pub async fn hold_tests(tx: &mut Tx, ids: &[Uuid]) -> Result<Vec<(Uuid, State)>> {
    if ids.is_empty() {
        return Ok(Vec::new());
    }
    // In the order of ids, as deletions hold them too.
    let end = dialect::locking(tx, ") ORDER BY id", ") ORDER BY id FOR KEY SHARE");
    let rows: Vec<(Uuid, String)> = on!(tx, |c| {
        let mut query = QueryBuilder::new("SELECT id, state FROM test WHERE id IN (");
        among(&mut query, ids);
        query.push(end);
        query.build_query_as().persistent(false).fetch_all(c).await
    })?;
    let known = |(id, state)| Some((id, State::try_from(state).ok()?));
    Ok(rows.into_iter().filter_map(known).collect())
}

/// Adds tests to a campaign.
pub async fn add(tx: &mut Tx, campaign: Uuid, places: &[Place]) -> Result<()> {
    for places in places.chunks(INSERT_ROWS) {
        on!(tx, |c| {
            let mut query = QueryBuilder::new("INSERT INTO campaign_test (campaign_id, test_id, position, phase) ");
            query.push_values(places, |mut row, place| {
                row.push_bind(campaign).push_bind(place.test_id).push_bind(place.position).push_bind(&place.phase);
            });
            query.build().persistent(false).execute(c).await.map(|_| ())
        })?;
    }
    Ok(())
}

/// Makes room for `by` tests before the one at `position`.
pub async fn shift(tx: &mut Tx, campaign: Uuid, position: i64, by: i64) -> Result<()> {
    const SHIFT: &str = "UPDATE campaign_test SET position = position + $3 WHERE campaign_id = $1 AND position >= $2";
    on!(tx, |c| sqlx::query(SHIFT).bind(campaign).bind(position).bind(by).execute(c).await.map(|_| ()))?;
    Ok(())
}

/// Takes a test out of a campaign. False when it was not in it.
pub async fn remove(tx: &mut Tx, campaign: Uuid, test_id: Uuid) -> Result<bool> {
    const REMOVE: &str = "DELETE FROM campaign_test WHERE campaign_id = $1 AND test_id = $2";
    let rows = on!(tx, |c| sqlx::query(REMOVE)
        .bind(campaign)
        .bind(test_id)
        .execute(c)
        .await
        .map(|done| done.rows_affected()))?;
    Ok(rows == 1)
}

/// Takes all tests out of a campaign.
pub async fn clear(tx: &mut Tx, campaign: Uuid) -> Result<()> {
    const CLEAR: &str = "DELETE FROM campaign_test WHERE campaign_id = $1";
    on!(tx, |c| sqlx::query(CLEAR).bind(campaign).execute(c).await.map(|_| ()))?;
    Ok(())
}

/// A technique and a template, or none.
pub type Made = (Uuid, Option<Uuid>);

const MADE: &str = "SELECT t.technique_id, t.template_id FROM campaign_test p JOIN test t ON t.id = p.test_id \
     WHERE p.campaign_id = $1";

/// What the tests of a campaign were made from.
pub async fn made(db: &Db, campaign: Uuid) -> Result<Vec<Made>> {
    Ok(read!(db, |pool| sqlx::query_as(MADE).bind(campaign).fetch_all(pool).await)?)
}

/// The same, as the transaction sees it.
pub async fn made_in(tx: &mut Tx, campaign: Uuid) -> Result<Vec<Made>> {
    Ok(on!(tx, |c| sqlx::query_as(MADE).bind(campaign).fetch_all(c).await)?)
}

/// A test of a campaign, to be copied.
#[derive(Clone, Debug, sqlx::FromRow)]
pub struct Source {
    /// The test.
    #[sqlx(flatten)]
    pub test: Test,
    /// Its place.
    pub position: i64,
    /// Its phase.
    pub phase: Option<String>,
}

/// The next tests of a campaign after a position, in their order.
pub async fn sources(tx: &mut Tx, campaign: Uuid, after: i64, limit: i64) -> Result<Vec<Source>> {
    const SOURCES: &str = concat!(
        "SELECT ",
        columns!(),
        ", position, phase FROM campaign_test JOIN test ON id = test_id WHERE campaign_id = $1 AND position > $2 \
         ORDER BY position, test_id LIMIT $3"
    );
    Ok(on!(tx, |c| sqlx::query_as(SOURCES).bind(campaign).bind(after).bind(limit).fetch_all(c).await)?)
}
