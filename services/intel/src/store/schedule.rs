//! The scheduler's rows: who leads, what is planned, what ran.

use aegis_db::{Db, Result, Tx, on, read};
use chrono::{DateTime, TimeDelta, Utc};
use sqlx::QueryBuilder;
use uuid::Uuid;

use super::dialect;

/// A run that gave no sign of life for this long has lost its process.
const DEAD_AFTER: TimeDelta = TimeDelta::seconds(20);

/// The status of a run that goes on.
pub(crate) const RUNNING: &str = "running";
/// The status of a run that ended well.
pub(crate) const SUCCEEDED: &str = "succeeded";
/// The status of a run that failed.
pub(crate) const FAILED: &str = "failed";
/// The status of a run that was due while the one before still went on.
pub(crate) const SKIPPED: &str = "skipped";

/// Who leads.
#[derive(Debug, Clone, PartialEq, Eq, sqlx::FromRow)]
pub(crate) struct Lease {
    pub holder: String,
    pub held_until: DateTime<Utc>,
}

/// Takes the lease, or keeps it, until `until`. The term if it is held now.
pub(crate) async fn take_lease(
    db: &Db,
    process: Uuid,
    holder: &str,
    at: DateTime<Utc>,
    until: DateTime<Utc>,
) -> Result<Option<i64>> {
    let sql = "INSERT INTO scheduler_lease (name, process, holder, held_until, term) VALUES ('scheduler', $1, $2, $3, 1) \
               ON CONFLICT (name) DO UPDATE SET process = excluded.process, holder = excluded.holder, \
               held_until = excluded.held_until, term = scheduler_lease.term + \
               CASE WHEN scheduler_lease.process = excluded.process THEN 0 ELSE 1 END \
               WHERE scheduler_lease.process = $1 OR scheduler_lease.held_until <= $4 RETURNING term";
    let mut tx = db.begin().await?;
    let term =
        on!(tx, |c| sqlx::query_scalar(sql).bind(process).bind(holder).bind(until).bind(at).fetch_optional(c).await)?;
    // After a power cut nobody leads anyway.
    tx.commit_relaxed().await?;
    Ok(term)
}

/// Gives the lease back, if it is held.
pub(crate) async fn release_lease(db: &Db, process: Uuid, at: DateTime<Utc>) -> Result<()> {
    let sql =
        "UPDATE scheduler_lease SET held_until = $2 WHERE name = 'scheduler' AND process = $1 AND held_until > $2";
    let mut tx = db.begin().await?;
    on!(tx, |c| sqlx::query(sql).bind(process).bind(at).execute(c).await.map(|_| ()))?;
    tx.commit_relaxed().await
}

/// Who leads, or led last.
pub(crate) async fn lease(db: &Db) -> Result<Option<Lease>> {
    let sql = "SELECT holder, held_until FROM scheduler_lease WHERE name = 'scheduler'";
    Ok(read!(db, |pool| sqlx::query_as(sql).fetch_optional(pool).await)?)
}

/// Whether the process leads; while this transaction lasts nobody else can begin to.
pub(crate) async fn leads(tx: &mut Tx, process: Uuid, at: DateTime<Utc>) -> Result<bool> {
    let sql = dialect::locking(
        tx,
        "SELECT term FROM scheduler_lease WHERE name = 'scheduler' AND process = $1 AND held_until > $2",
        "SELECT term FROM scheduler_lease WHERE name = 'scheduler' AND process = $1 AND held_until > $2 FOR UPDATE",
    );
    let term: Option<i64> = on!(tx, |c| sqlx::query_scalar(sql).bind(process).bind(at).fetch_optional(c).await)?;
    Ok(term.is_some())
}

/// A data source, as far as it is scheduled.
#[derive(Debug, Clone, sqlx::FromRow)]
pub(crate) struct SourcePlan {
    pub id: Uuid,
    pub name: String,
    pub enabled: bool,
    pub schedule: Option<String>,
}

/// All data sources, by name.
pub(crate) async fn sources(db: &Db) -> Result<Vec<SourcePlan>> {
    let sql = "SELECT id, name, enabled, schedule FROM data_source ORDER BY name LIMIT 1000";
    Ok(read!(db, |pool| sqlx::query_as(sql).fetch_all(pool).await)?)
}

/// A job that is planned.
#[derive(Debug, Clone, PartialEq, Eq, sqlx::FromRow)]
pub(crate) struct Planned {
    pub id: String,
    pub schedule: String,
    pub time_zone: String,
    pub next_due_at: DateTime<Utc>,
}

/// All jobs that are planned.
pub(crate) async fn planned(db: &Db) -> Result<Vec<Planned>> {
    let sql = "SELECT id, schedule, time_zone, next_due_at FROM scheduled_job ORDER BY id LIMIT 2000";
    Ok(read!(db, |pool| sqlx::query_as(sql).fetch_all(pool).await)?)
}

/// Plans jobs that are new or have another schedule, and forgets others.
pub(crate) async fn plan(tx: &mut Tx, jobs: &[Planned], forgotten: &[String]) -> Result<()> {
    if !jobs.is_empty() {
        on!(tx, |c| {
            let mut query = QueryBuilder::new("INSERT INTO scheduled_job (id, schedule, time_zone, next_due_at) ");
            query.push_values(jobs, |mut row, job| {
                row.push_bind(job.id.clone())
                    .push_bind(job.schedule.clone())
                    .push_bind(job.time_zone.clone())
                    .push_bind(job.next_due_at);
            });
            query.push(
                " ON CONFLICT (id) DO UPDATE SET schedule = excluded.schedule, time_zone = excluded.time_zone, \
                 next_due_at = excluded.next_due_at",
            );
            query.build().execute(c).await.map(|_| ())
        })?;
    }
    if !forgotten.is_empty() {
        on!(tx, |c| {
            let mut query = QueryBuilder::new("DELETE FROM scheduled_job WHERE id IN (");
            let mut ids = query.separated(", ");
            for id in forgotten {
                ids.push_bind(id.clone());
            }
            query.push(")");
            query.build().execute(c).await.map(|_| ())
        })?;
    }
    Ok(())
}

/// Moves a job on from one due time to the next. False when somebody else did.
pub(crate) async fn move_on(tx: &mut Tx, job: &Planned, next: DateTime<Utc>) -> Result<bool> {
    let sql = "UPDATE scheduled_job SET next_due_at = $3 WHERE id = $1 AND next_due_at = $2";
    let rows = on!(tx, |c| sqlx::query(sql)
        .bind(&job.id)
        .bind(job.next_due_at)
        .bind(next)
        .execute(c)
        .await
        .map(|done| done.rows_affected()))?;
    Ok(rows == 1)
}

/// A run as it is stored.
#[derive(Debug, Clone, PartialEq, Eq, sqlx::FromRow)]
pub(crate) struct Run {
    pub id: Uuid,
    pub job_id: String,
    pub due_at: DateTime<Utc>,
    pub started_at: DateTime<Utc>,
    pub finished_at: Option<DateTime<Utc>>,
    pub status: String,
    pub error: Option<String>,
    pub missed: bool,
    pub heartbeat_at: DateTime<Utc>,
}

impl Run {
    /// One that starts now.
    pub(crate) fn started(job_id: &str, due_at: DateTime<Utc>, at: DateTime<Utc>, missed: bool) -> Self {
        Run {
            id: Uuid::now_v7(),
            job_id: job_id.to_owned(),
            due_at,
            started_at: at,
            finished_at: None,
            status: RUNNING.to_owned(),
            error: None,
            missed,
            heartbeat_at: at,
        }
    }

    /// Whether it seems to run and its process is gone.
    pub(crate) fn is_dead(&self, at: DateTime<Utc>) -> bool {
        self.status == RUNNING && at - self.heartbeat_at > DEAD_AFTER
    }
}

macro_rules! columns {
    () => {
        "id, job_id, due_at, started_at, finished_at, status, error, missed, heartbeat_at"
    };
}

/// Writes a new run. False when there is one for that due time, or another one of the job runs.
pub(crate) async fn insert_run(tx: &mut Tx, run: &Run) -> Result<bool> {
    let sql = concat!(
        "INSERT INTO scheduled_run (",
        columns!(),
        ") VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9) ON CONFLICT DO NOTHING"
    );
    let rows = on!(tx, |c| sqlx::query(sql)
        .bind(run.id)
        .bind(&run.job_id)
        .bind(run.due_at)
        .bind(run.started_at)
        .bind(run.finished_at)
        .bind(&run.status)
        .bind(&run.error)
        .bind(run.missed)
        .bind(run.heartbeat_at)
        .execute(c)
        .await
        .map(|done| done.rows_affected()))?;
    Ok(rows == 1)
}

/// The runs that go on, at most one of a job.
pub(crate) async fn running(tx: &mut Tx) -> Result<Vec<Run>> {
    let sql = concat!("SELECT ", columns!(), " FROM scheduled_run WHERE status = 'running' LIMIT 2000");
    Ok(on!(tx, |c| sqlx::query_as(sql).fetch_all(c).await)?)
}

/// Writes that a run lives. False when it no longer runs.
pub(crate) async fn beat(tx: &mut Tx, id: Uuid, at: DateTime<Utc>) -> Result<bool> {
    let sql = "UPDATE scheduled_run SET heartbeat_at = $2 WHERE id = $1 AND status = 'running'";
    let rows = on!(tx, |c| sqlx::query(sql).bind(id).bind(at).execute(c).await.map(|done| done.rows_affected()))?;
    Ok(rows == 1)
}

/// Writes the end of a run. False when it no longer runs.
pub(crate) async fn finish_run(
    tx: &mut Tx,
    id: Uuid,
    status: &str,
    error: Option<&str>,
    at: DateTime<Utc>,
) -> Result<bool> {
    let sql = "UPDATE scheduled_run SET status = $2, error = $3, finished_at = $4, heartbeat_at = $4 \
               WHERE id = $1 AND status = 'running'";
    let rows = on!(tx, |c| sqlx::query(sql)
        .bind(id)
        .bind(status)
        .bind(error)
        .bind(at)
        .execute(c)
        .await
        .map(|done| done.rows_affected()))?;
    Ok(rows == 1)
}

/// Scheduled runs, and the syncs that a person started as runs of their jobs: those of one job, or of all.
macro_rules! all_runs {
    () => {
        concat!(
            "(SELECT ",
            columns!(),
            " FROM scheduled_run WHERE ($1 = '' OR job_id = $1) UNION ALL \
             SELECT id, job_id, started_at AS due_at, started_at, finished_at, status, error, FALSE AS missed, heartbeat_at \
             FROM (SELECT id, started_at, finished_at, status, error, heartbeat_at, \
             CASE WHEN source_name = 'mitre_attack_enterprise' THEN 'mitre_sync' ELSE 'sync_' || source_name END AS job_id \
             FROM sync_job WHERE started_by <> 'system:scheduler' AND NOT dry_run) AS by_hand WHERE ($1 = '' OR job_id = $1)) AS runs"
        )
    };
}

/// How many runs there are, of one job or with an empty id of all.
pub(crate) async fn count_runs(db: &Db, job_id: &str) -> Result<i64> {
    let sql = concat!("SELECT COUNT(*) FROM ", all_runs!());
    Ok(read!(db, |pool| sqlx::query_scalar(sql).bind(job_id).fetch_one(pool).await)?)
}

/// A page of runs, the newest first.
pub(crate) async fn list_runs(db: &Db, job_id: &str, limit: i64, offset: i64) -> Result<Vec<Run>> {
    let sql =
        concat!("SELECT ", columns!(), " FROM ", all_runs!(), " ORDER BY started_at DESC, id DESC LIMIT $2 OFFSET $3");
    Ok(read!(db, |pool| sqlx::query_as(sql).bind(job_id).bind(limit).bind(offset).fetch_all(pool).await)?)
}

/// The last run of every job.
pub(crate) async fn last_runs(db: &Db) -> Result<Vec<Run>> {
    let sql = concat!(
        "SELECT ",
        columns!(),
        " FROM (SELECT ",
        columns!(),
        ", ROW_NUMBER() OVER (PARTITION BY job_id ORDER BY started_at DESC, id DESC) AS place FROM ",
        all_runs!(),
        ") AS ranked WHERE place = 1 LIMIT 2000"
    );
    Ok(read!(db, |pool| sqlx::query_as(sql).bind("").fetch_all(pool).await)?)
}

/// Deletes what ended before `before`: runs, and jobs of syncs.
pub(crate) async fn purge(tx: &mut Tx, before: DateTime<Utc>) -> Result<u64> {
    let runs = on!(tx, |c| sqlx::query("DELETE FROM scheduled_run WHERE finished_at < $1")
        .bind(before)
        .execute(c)
        .await
        .map(|done| done.rows_affected()))?;
    let jobs = on!(tx, |c| sqlx::query("DELETE FROM sync_job WHERE finished_at < $1")
        .bind(before)
        .execute(c)
        .await
        .map(|done| done.rows_affected()))?;
    Ok(runs + jobs)
}
