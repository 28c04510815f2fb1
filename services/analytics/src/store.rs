//! The SQL of the projection.

pub(crate) mod pipeline;

use aegis_db::{Conn, Db, Result, Tx, on, read};
use chrono::{DateTime, TimeDelta, Utc};
use sqlx::{QueryBuilder, types::Json};
use uuid::Uuid;

use crate::domain::Technique;

/// Rows of one statement; nine values each stay far below what either database takes.
const CHUNK: usize = 500;

/// Counts of active techniques by status.
#[derive(Clone, Debug, Default, PartialEq, Eq, sqlx::FromRow)]
pub(crate) struct Counts {
    pub(crate) total: i64,
    pub(crate) validated: i64,
    pub(crate) partial: i64,
    pub(crate) not_covered: i64,
    pub(crate) in_progress: i64,
    pub(crate) not_evaluated: i64,
}

/// Counts over the whole catalogue.
#[derive(Clone, Debug, sqlx::FromRow)]
pub(crate) struct SummaryRow {
    #[sqlx(flatten)]
    pub(crate) counts: Counts,
    pub(crate) as_of: Option<DateTime<Utc>>,
}

/// Counts of one tactic; no tactic in the one row of an empty projection.
#[derive(Clone, Debug, sqlx::FromRow)]
pub(crate) struct TacticRow {
    pub(crate) tactic: Option<String>,
    #[sqlx(flatten)]
    pub(crate) counts: Counts,
    pub(crate) as_of: Option<DateTime<Utc>>,
}

macro_rules! counts {
    () => {
        "COUNT(*) AS total, \
         CAST(COALESCE(SUM(CASE t.status WHEN 'validated' THEN 1 ELSE 0 END), 0) AS BIGINT) AS validated, \
         CAST(COALESCE(SUM(CASE t.status WHEN 'partial' THEN 1 ELSE 0 END), 0) AS BIGINT) AS partial, \
         CAST(COALESCE(SUM(CASE t.status WHEN 'not_covered' THEN 1 ELSE 0 END), 0) AS BIGINT) AS not_covered, \
         CAST(COALESCE(SUM(CASE t.status WHEN 'in_progress' THEN 1 ELSE 0 END), 0) AS BIGINT) AS in_progress, \
         CAST(COALESCE(SUM(CASE t.status WHEN 'not_evaluated' THEN 1 ELSE 0 END), 0) AS BIGINT) AS not_evaluated"
    };
}

const SUMMARY: &str =
    concat!("SELECT ", counts!(), ", (SELECT as_of FROM meta) AS as_of FROM technique t WHERE t.active = TRUE");

// The outer join gives the time of an empty projection too.
const TACTICS: &str = concat!(
    "SELECT m.as_of, c.tactic, COALESCE(c.total, 0) AS total, COALESCE(c.validated, 0) AS validated, \
     COALESCE(c.partial, 0) AS partial, COALESCE(c.not_covered, 0) AS not_covered, \
     COALESCE(c.in_progress, 0) AS in_progress, COALESCE(c.not_evaluated, 0) AS not_evaluated \
     FROM meta m LEFT JOIN (SELECT tt.tactic AS tactic, ",
    counts!(),
    " FROM technique_tactic tt JOIN technique t ON t.id = tt.technique_id WHERE t.active = TRUE \
     GROUP BY tt.tactic) c ON TRUE"
);

/// Counts over all active techniques.
pub(crate) async fn summary(db: &Db) -> Result<SummaryRow> {
    Ok(read!(db, |pool| sqlx::query_as(SUMMARY).fetch_one(pool).await)?)
}

/// Counts by tactic, in the order of names.
pub(crate) async fn tactics(db: &Db) -> Result<Vec<TacticRow>> {
    let mut rows: Vec<TacticRow> = read!(db, |pool| sqlx::query_as(TACTICS).fetch_all(pool).await)?;
    // Here, because PostgreSQL orders hyphens as its locale says.
    rows.sort_by(|a, b| a.tactic.cmp(&b.tactic));
    Ok(rows)
}

/// When the projection last took something in.
pub(crate) async fn as_of(db: &Db) -> Result<Option<DateTime<Utc>>> {
    Ok(read!(db, |pool| sqlx::query_scalar("SELECT as_of FROM meta").fetch_one(pool).await)?)
}

/// Lets nothing else change the projection until the transaction ends, and answers the moment of the change: `now`, or
/// later than the change before it where the clocks of two replicas differ.
///
/// SQLite has one writer anyway.
pub(crate) async fn advance(tx: &mut Tx, now: DateTime<Utc>) -> Result<DateTime<Utc>> {
    let last: Option<DateTime<Utc>> = match tx.conn() {
        Conn::Postgres(c) => sqlx::query_scalar("SELECT as_of FROM meta FOR UPDATE").fetch_one(c).await?,
        Conn::Sqlite(c) => sqlx::query_scalar("SELECT as_of FROM meta").fetch_one(c).await?,
    };
    let at = last.map_or(now, |last| now.max(last + TimeDelta::microseconds(1)));
    on!(tx, |c| sqlx::query("UPDATE meta SET as_of = $1").bind(at).execute(c).await.map(|_| ()))?;
    Ok(at)
}

/// Takes techniques in, one row an id; a row that is as new already stays. The moment is from [`advance`].
pub(crate) async fn take_in(tx: &mut Tx, techniques: &[Technique], at: DateTime<Utc>) -> Result<()> {
    for chunk in techniques.chunks(CHUNK) {
        let changed = upsert(tx, chunk, at).await?;
        if changed.is_empty() {
            continue;
        }
        clear_tactics(tx, &changed).await?;
        let tactics: Vec<(Uuid, &str)> = chunk
            .iter()
            .filter(|technique| !technique.deleted && changed.contains(&technique.id))
            .flat_map(|technique| technique.tactics.iter().map(|tactic| (technique.id, tactic.as_str())))
            .collect();
        for rows in tactics.chunks(CHUNK) {
            insert_tactics(tx, rows).await?;
        }
    }
    Ok(())
}

/// Removes the techniques that were taken in up to a moment.
pub(crate) async fn remove_until(tx: &mut Tx, moment: DateTime<Utc>) -> Result<()> {
    on!(tx, |c| sqlx::query("DELETE FROM technique WHERE taken_at <= $1").bind(moment).execute(c).await.map(|_| ()))?;
    Ok(())
}

/// Answers the ids whose rows are new or newer than before.
async fn upsert(tx: &mut Tx, rows: &[Technique], at: DateTime<Utc>) -> Result<Vec<Uuid>> {
    let ids = on!(tx, |c| {
        let mut query = QueryBuilder::new(
            "INSERT INTO technique (id, mitre_id, name, status, active, deleted, platforms, version, taken_at) ",
        );
        query.push_values(rows, |mut row, technique| {
            row.push_bind(technique.id)
                .push_bind(technique.mitre_id.clone())
                .push_bind(technique.name.clone())
                .push_bind(technique.status.as_str())
                .push_bind(technique.active)
                .push_bind(technique.deleted)
                .push_bind(Json(technique.platforms.clone()))
                .push_bind(technique.version)
                .push_bind(at);
        });
        query.push(
            " ON CONFLICT (id) DO UPDATE SET mitre_id = excluded.mitre_id, name = excluded.name, \
             status = excluded.status, active = excluded.active, deleted = excluded.deleted, \
             platforms = excluded.platforms, version = excluded.version, taken_at = excluded.taken_at \
             WHERE excluded.version > technique.version RETURNING id",
        );
        query.build_query_scalar::<Uuid>().fetch_all(c).await
    })?;
    Ok(ids)
}

async fn clear_tactics(tx: &mut Tx, ids: &[Uuid]) -> Result<()> {
    on!(tx, |c| {
        let mut query = QueryBuilder::new("DELETE FROM technique_tactic WHERE technique_id IN (");
        let mut list = query.separated(", ");
        for id in ids {
            list.push_bind(*id);
        }
        query.push(")");
        query.build().execute(c).await.map(|_| ())
    })?;
    Ok(())
}

async fn insert_tactics(tx: &mut Tx, rows: &[(Uuid, &str)]) -> Result<()> {
    on!(tx, |c| {
        let mut query = QueryBuilder::new("INSERT INTO technique_tactic (technique_id, tactic) ");
        query.push_values(rows, |mut row, (id, tactic)| {
            row.push_bind(*id).push_bind((*tactic).to_owned());
        });
        query.build().execute(c).await.map(|_| ())
    })?;
    Ok(())
}
