//! Campaigns: read, held for a change, written, listed, found due.

use std::collections::HashMap;

use aegis_db::{Db, Result, Tx, contains_pattern, on, read};
use chrono::{DateTime, Utc};
use sqlx::{Database, Encode, QueryBuilder, Type};
use uuid::Uuid;

use super::{dialect, page_of};
use crate::domain::{
    campaign::{Kind, Progress, Status},
    workflow::State,
};

/// A campaign as it is stored.
#[allow(missing_docs, reason = "the fields are those of the API's Campaign, described there")]
#[derive(Clone, Debug, PartialEq, sqlx::FromRow)]
pub struct Campaign {
    pub id: Uuid,
    pub name: String,
    pub description: Option<String>,
    #[sqlx(rename = "type", try_from = "String")]
    pub kind: Kind,
    #[sqlx(try_from = "String")]
    pub status: Status,
    pub threat_actor_id: Option<Uuid>,
    pub threat_actor_name: Option<String>,
    pub created_by: Uuid,
    pub created_by_username: String,
    pub created_at: DateTime<Utc>,
    pub updated_at: DateTime<Utc>,
    pub schedule: Option<String>,
    pub time_zone: Option<String>,
    pub schedule_enabled: bool,
    /// When the schedule was set: what `weekly` and its like count from.
    pub schedule_set_at: Option<DateTime<Utc>>,
    pub next_run_at: Option<DateTime<Utc>>,
    pub last_run_at: Option<DateTime<Utc>>,
    pub version: i64,
}

macro_rules! columns {
    () => {
        "id, name, description, type, status, threat_actor_id, threat_actor_name, created_by, created_by_username, \
         created_at, updated_at, schedule, time_zone, schedule_enabled, schedule_set_at, next_run_at, last_run_at, \
         version"
    };
}

const SELECT: &str = concat!("SELECT ", columns!(), " FROM campaign");
const GET: &str = concat!("SELECT ", columns!(), " FROM campaign WHERE id = $1");
const GET_LOCKED: &str = concat!("SELECT ", columns!(), " FROM campaign WHERE id = $1 FOR UPDATE");
const INSERT: &str = concat!(
    "INSERT INTO campaign (",
    columns!(),
    ") VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18)"
);
/// Everything that a change can touch; `$1` is the id, `$2` the version that was read.
const UPDATE: &str = "UPDATE campaign SET name = $3, description = $4, type = $5, status = $6, threat_actor_id = $7, \
     threat_actor_name = $8, updated_at = $9, schedule = $10, time_zone = $11, schedule_enabled = $12, \
     schedule_set_at = $13, next_run_at = $14, last_run_at = $15, version = $16 WHERE id = $1 AND version = $2";

const DUE: &str =
    concat!("SELECT ", columns!(), " FROM campaign WHERE next_run_at <= $1 ORDER BY next_run_at, id LIMIT 1");
// One that another replica has in hand is not waited for.
const DUE_LOCKED: &str = concat!(
    "SELECT ",
    columns!(),
    " FROM campaign WHERE next_run_at <= $1 ORDER BY next_run_at, id LIMIT 1 FOR UPDATE SKIP LOCKED"
);

/// The campaign with that id.
pub async fn get(db: &Db, id: Uuid) -> Result<Option<Campaign>> {
    Ok(read!(db, |pool| sqlx::query_as(GET).bind(id).fetch_optional(pool).await)?)
}

/// Whether there is a campaign with that id.
pub async fn exists(db: &Db, id: Uuid) -> Result<bool> {
    let found: Option<i32> = read!(db, |pool| sqlx::query_scalar("SELECT 1 FROM campaign WHERE id = $1")
        .bind(id)
        .fetch_optional(pool)
        .await)?;
    Ok(found.is_some())
}

/// The campaign with that id, held until the transaction ends.
pub async fn get_for_update(tx: &mut Tx, id: Uuid) -> Result<Option<Campaign>> {
    let sql = dialect::locking(tx, GET, GET_LOCKED);
    Ok(on!(tx, |c| sqlx::query_as(sql).bind(id).fetch_optional(c).await)?)
}

/// Those of these campaigns that there are, in the order of their ids, held until the transaction ends.
pub async fn get_many_for_update(tx: &mut Tx, ids: &[Uuid]) -> Result<Vec<Campaign>> {
    let end = dialect::locking(tx, ") ORDER BY id", ") ORDER BY id FOR UPDATE");
    Ok(on!(tx, |c| {
        let mut query = QueryBuilder::new(SELECT);
        query.push(" WHERE id IN (");
        among(&mut query, ids);
        query.push(end);
        query.build_query_as().persistent(false).fetch_all(c).await
    })?)
}

/// Adds a campaign.
pub async fn insert(tx: &mut Tx, campaign: &Campaign) -> Result<()> {
    on!(tx, |c| sqlx::query(INSERT)
        .bind(campaign.id)
        .bind(&campaign.name)
        .bind(&campaign.description)
        .bind(campaign.kind.as_str())
        .bind(campaign.status.as_str())
        .bind(campaign.threat_actor_id)
        .bind(&campaign.threat_actor_name)
        .bind(campaign.created_by)
        .bind(&campaign.created_by_username)
        .bind(campaign.created_at)
        .bind(campaign.updated_at)
        .bind(&campaign.schedule)
        .bind(&campaign.time_zone)
        .bind(campaign.schedule_enabled)
        .bind(campaign.schedule_set_at)
        .bind(campaign.next_run_at)
        .bind(campaign.last_run_at)
        .bind(campaign.version)
        .execute(c)
        .await
        .map(|_| ()))?;
    Ok(())
}

/// Writes a campaign over the version `read`. False when it is no longer that version.
pub async fn update(tx: &mut Tx, read: i64, campaign: &Campaign) -> Result<bool> {
    let rows = on!(tx, |c| sqlx::query(UPDATE)
        .bind(campaign.id)
        .bind(read)
        .bind(&campaign.name)
        .bind(&campaign.description)
        .bind(campaign.kind.as_str())
        .bind(campaign.status.as_str())
        .bind(campaign.threat_actor_id)
        .bind(&campaign.threat_actor_name)
        .bind(campaign.updated_at)
        .bind(&campaign.schedule)
        .bind(&campaign.time_zone)
        .bind(campaign.schedule_enabled)
        .bind(campaign.schedule_set_at)
        .bind(campaign.next_run_at)
        .bind(campaign.last_run_at)
        .bind(campaign.version)
        .execute(c)
        .await
        .map(|done| done.rows_affected()))?;
    Ok(rows == 1)
}

/// Deletes a campaign with its places and its history; its tests stay.
pub async fn delete(tx: &mut Tx, id: Uuid) -> Result<()> {
    on!(tx, |c| sqlx::query("DELETE FROM campaign WHERE id = $1").bind(id).execute(c).await.map(|_| ()))?;
    Ok(())
}

/// Which campaigns a list is of.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// Standing there.
    pub status: Option<String>,
    /// Of this type.
    pub kind: Option<String>,
    /// With this in the name or the description.
    pub search: Option<String>,
}

/// Campaigns, newest first, that come after `after`; and whether there are more.
pub async fn list(
    db: &Db,
    filter: &Filter,
    after: Option<(DateTime<Utc>, Uuid)>,
    skip: i64,
    limit: i64,
) -> Result<(Vec<Campaign>, bool)> {
    let rows = usize::try_from(limit).unwrap_or(0);
    Ok(read!(db, |pool| {
        let mut query = QueryBuilder::new(SELECT);
        filtered(&mut query, filter);
        if let Some((at, id)) = after {
            query.push(" AND (created_at, id) < (").push_bind(at).push(", ").push_bind(id).push(")");
        }
        query.push(" ORDER BY created_at DESC, id DESC LIMIT ").push_bind(limit + 1);
        query.push(" OFFSET ").push_bind(skip);
        let text = |row: &Campaign| 1024 + row.name.len() + row.description.as_ref().map_or(0, String::len);
        page_of(query.build_query_as::<Campaign>().fetch(pool), rows, text).await
    })?)
}

/// How many campaigns there are.
pub async fn count(db: &Db, filter: &Filter) -> Result<i64> {
    Ok(read!(db, |pool| {
        let mut query = QueryBuilder::new("SELECT COUNT(*) FROM campaign");
        filtered(&mut query, filter);
        query.build_query_scalar().fetch_one(pool).await
    })?)
}

fn filtered<DB>(query: &mut QueryBuilder<DB>, filter: &Filter)
where
    DB: Database,
    String: for<'q> Encode<'q, DB> + Type<DB>,
{
    // So that every condition can begin with AND.
    query.push(" WHERE 1 = 1");
    if let Some(status) = &filter.status {
        query.push(" AND status = ").push_bind(status.clone());
    }
    if let Some(kind) = &filter.kind {
        query.push(" AND type = ").push_bind(kind.clone());
    }
    if let Some(search) = &filter.search {
        let pattern = contains_pattern(&search.to_lowercase());
        query.push(" AND (LOWER(name) LIKE ").push_bind(pattern.clone());
        query.push(" ESCAPE '\\' OR LOWER(description) LIKE ").push_bind(pattern).push(" ESCAPE '\\')");
    }
}

/// Puts ids into a list that has been opened.
pub(super) fn among<DB>(query: &mut QueryBuilder<DB>, ids: &[Uuid])
where
    DB: Database,
    Uuid: for<'q> Encode<'q, DB> + Type<DB>,
{
    let mut list = query.separated(", ");
    for id in ids {
        list.push_bind(*id);
    }
}

/// A campaign, a state, and how many of its tests are there.
type Count = (Uuid, String, i64);

fn push_progress<DB>(query: &mut QueryBuilder<DB>, ids: &[Uuid])
where
    DB: Database,
    Uuid: for<'q> Encode<'q, DB> + Type<DB>,
{
    query.push(
        "SELECT p.campaign_id, t.state, COUNT(*) FROM campaign_test p JOIN test t ON t.id = p.test_id \
         WHERE p.campaign_id IN (",
    );
    among(query, ids);
    query.push(") GROUP BY p.campaign_id, t.state");
}

fn progresses(counts: Vec<Count>) -> HashMap<Uuid, Progress> {
    let mut of: HashMap<Uuid, Progress> = HashMap::new();
    for (campaign, state, count) in counts {
        if let Ok(state) = State::try_from(state) {
            of.entry(campaign).or_default().add(state, count);
        }
    }
    of
}

/// How far these campaigns' tests are, in one query. A campaign without tests is not in it.
pub async fn progress(db: &Db, ids: &[Uuid]) -> Result<HashMap<Uuid, Progress>> {
    if ids.is_empty() {
        return Ok(HashMap::new());
    }
    let counts: Vec<Count> = read!(db, |pool| {
        let mut query = QueryBuilder::new("");
        push_progress(&mut query, ids);
        query.build_query_as().persistent(ids.len() == 1).fetch_all(pool).await
    })?;
    Ok(progresses(counts))
}

/// The same, as the transaction sees them.
pub async fn progress_in(tx: &mut Tx, ids: &[Uuid]) -> Result<HashMap<Uuid, Progress>> {
    if ids.is_empty() {
        return Ok(HashMap::new());
    }
    let counts: Vec<Count> = on!(tx, |c| {
        let mut query = QueryBuilder::new("");
        push_progress(&mut query, ids);
        query.build_query_as().persistent(ids.len() == 1).fetch_all(c).await
    })?;
    Ok(progresses(counts))
}

/// Campaigns of this status with that test.
pub async fn with_test(tx: &mut Tx, test_id: Uuid, status: Status) -> Result<Vec<Uuid>> {
    Ok(on!(tx, |c| {
        sqlx::query_scalar(
        "SELECT c.id FROM campaign c JOIN campaign_test p ON p.campaign_id = c.id WHERE p.test_id = $1 AND c.status = $2"
    )
    .bind(test_id)
    .bind(status.as_str())
    .fetch_all(c)
    .await
    })?)
}

/// Active campaigns whose tests, if there are any, are all through.
pub async fn through(tx: &mut Tx) -> Result<Vec<Uuid>> {
    const THROUGH: &str = "SELECT c.id FROM campaign c WHERE c.status = 'active' \
         AND EXISTS (SELECT 1 FROM campaign_test p WHERE p.campaign_id = c.id) \
         AND NOT EXISTS (SELECT 1 FROM campaign_test p JOIN test t ON t.id = p.test_id WHERE p.campaign_id = c.id \
         AND t.state NOT IN ('validated', 'rejected'))";
    Ok(on!(tx, |c| sqlx::query_scalar(THROUGH).fetch_all(c).await)?)
}

/// When the first of all campaigns is due.
pub async fn first_due(db: &Db) -> Result<Option<DateTime<Utc>>> {
    const FIRST: &str = "SELECT next_run_at FROM campaign WHERE next_run_at IS NOT NULL ORDER BY next_run_at LIMIT 1";
    Ok(read!(db, |pool| sqlx::query_scalar(FIRST).fetch_optional(pool).await)?)
}

/// The campaign that has been due the longest at `at`, held until the transaction ends; none where others have all of
/// those in hand.
pub async fn take_due(tx: &mut Tx, at: DateTime<Utc>) -> Result<Option<Campaign>> {
    let sql = dialect::locking(tx, DUE, DUE_LOCKED);
    Ok(on!(tx, |c| sqlx::query_as(sql).bind(at).fetch_optional(c).await)?)
}
