//! The scheduler: one process of all leads, and starts what is due, each due time once.

use std::{collections::HashMap, panic::AssertUnwindSafe, time::Duration};

use aegis_auth::{Bearer, OpCtx, Origin, Principal, Role};
use aegis_db::{Tx, now, page};
use aegis_error::{Code, Failure};
use aegis_telemetry::job;
use chrono::{DateTime, TimeDelta, Utc};
use chrono_tz::Tz;
use futures::FutureExt;
use tokio_util::sync::CancellationToken;
use tracing::Instrument;
use uuid::Uuid;

use super::{App, OPERATORS, scan::cut, sync::MAX_ERROR_CHARS};
use crate::{
    config::Config,
    domain::jitter::jitter,
    error::Error,
    store::schedule::{self, FAILED, Lease, Planned, Run, SKIPPED, SUCCEEDED},
};

/// How long a leader leads without a sign of life.
const LEASE: TimeDelta = TimeDelta::seconds(15);
/// How often it gives one, and how often others look whether it still does.
const LOOK_EVERY: Duration = Duration::from_secs(5);
/// The shortest pause between two looks.
const SHORTEST_PAUSE: Duration = Duration::from_millis(50);
/// A sign of life of a run is written this often.
const HEARTBEAT: Duration = Duration::from_secs(5);
/// What starts later than this after its due time was missed: no process was there. A change of leaders takes less.
const MISSED_AFTER: TimeDelta = TimeDelta::seconds(60);
/// Tries to write the end of a run while the database is away.
const END_TRIES: u32 = 6;
/// Runs of a page at most, and by default.
const MAX_PAGE: i64 = 1000;
const PAGE: i64 = 100;

/// The name under which the scheduler does things.
const USERNAME: &str = "system:scheduler";
/// The source whose job has a name of its own.
const MITRE: &str = "mitre_attack_enterprise";
/// The job of the intel scan.
pub(super) const SCAN: &str = "intel_scan";
/// The job that keeps coverage for later.
const SNAPSHOT: &str = "coverage_snapshot";
const CLEAN_UP: &str = "clean_up";
const CLEAN_UP_SCHEDULE: &str = "15 4 * * *";

/// What the scheduler goes by.
pub(crate) struct Scheduling {
    enabled: bool,
    zone: Tz,
    jitter: Duration,
    scan_schedule: Option<String>,
    snapshot_schedule: Option<String>,
    /// This process, for one run of it.
    process: Uuid,
}

impl Scheduling {
    pub(crate) fn new(config: &Config) -> Result<Self, Failure> {
        Ok(Scheduling {
            enabled: config.scheduler_enabled,
            zone: config.check()?,
            jitter: config.scheduler_jitter,
            scan_schedule: config.scan_schedule.clone(),
            snapshot_schedule: config.snapshot_schedule.clone(),
            process: Uuid::new_v4(),
        })
    }

    /// What people call this process.
    fn holder(&self) -> String {
        let name = self.process.simple().to_string();
        format!("intel-{}", name.get(..8).unwrap_or_default())
    }
}

/// What a job does.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Work {
    /// Syncs a data source.
    Sync(Uuid),
    Scan,
    Snapshot,
    CleanUp,
}

/// A job that there is, planned or not.
#[derive(Debug, Clone)]
struct Job {
    id: String,
    name: String,
    enabled: bool,
    schedule: Option<String>,
    work: Work,
}

/// A job as it is shown.
pub(crate) struct JobView {
    pub id: String,
    pub name: String,
    pub enabled: bool,
    pub schedule: Option<String>,
    pub next_run_at: Option<DateTime<Utc>>,
    pub last: Option<Run>,
}

/// What the scheduler does, and when.
pub(crate) struct SchedulerView {
    pub running: bool,
    pub lease: Option<Lease>,
    pub time_zone: String,
    pub jobs: Vec<JobView>,
}

/// A page of runs.
pub(crate) struct RunPage {
    pub runs: Vec<Run>,
    pub next_page_token: String,
    pub total: i64,
}

/// What one look brought.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Look {
    pub leads: bool,
    /// Runs that were started.
    pub started: usize,
    /// When something is due next.
    pub next: Option<DateTime<Utc>>,
}

impl App {
    /// Leads whenever no other process does, until the stop.
    pub(crate) async fn schedule(self, stop: CancellationToken) {
        if !self.0.scheduling.enabled {
            tracing::info!("the scheduler is switched off");
            return;
        }
        let mut led = false;
        loop {
            let pause = match job("scheduler", self.look(now())).await {
                Ok(look) => {
                    if look.leads != led {
                        led = look.leads;
                        tracing::info!(leads = led, "the scheduler has another leader");
                    }
                    let next = look.next.map(|next| (next - now()).to_std().unwrap_or_default());
                    next.unwrap_or(LOOK_EVERY).clamp(SHORTEST_PAUSE, LOOK_EVERY)
                }
                Err(error) => {
                    tracing::warn!(cause = error.chain(), "the scheduler cannot look what is due");
                    LOOK_EVERY
                }
            };
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = stop.cancelled() => break,
            }
        }
        // The next leader need not wait for the lease to end.
        if let Err(error) = schedule::release_lease(self.db(), self.0.scheduling.process, now()).await {
            tracing::warn!(%error, "the scheduler's lease could not be given back");
        }
    }

    /// Looks once: keeps the lease, plans what is new, starts what is due.
    pub(super) async fn look(&self, at: DateTime<Utc>) -> Result<Look, Error> {
        let scheduling = &self.0.scheduling;
        let term = schedule::take_lease(self.db(), scheduling.process, &scheduling.holder(), at, at + LEASE).await?;
        if term.is_none() {
            return Ok(Look { leads: false, started: 0, next: None });
        }
        let jobs = self.jobs().await?;
        let planned = self.planned(&jobs, at).await?;
        let wait = |job: &Planned| job.next_due_at + jitter(&job.id, scheduling.jitter);
        let (due, later): (Vec<_>, Vec<_>) = planned.into_iter().partition(|job| wait(job) <= at);
        let mut next = later.iter().map(wait).min();
        let mut started = 0;
        if !due.is_empty() && !self.0.stop.is_cancelled() {
            let (runs, due_again) = self.claim_due(&due, at).await?;
            started = runs.len();
            next = next.into_iter().chain(due_again).min();
            let works: HashMap<&str, &Work> = jobs.iter().map(|job| (job.id.as_str(), &job.work)).collect();
            for run in runs {
                let Some(work) = works.get(run.job_id.as_str()) else { continue };
                let span = tracing::info_span!(parent: None, "scheduled run", job = run.job_id, run = %run.id);
                let (app, work) = (self.clone(), (*work).clone());
                self.0.syncs.spawn(async move { app.run_scheduled(run, work).await }.instrument(span));
            }
        }
        Ok(Look { leads: true, started, next })
    }

    /// All jobs that there are.
    async fn jobs(&self) -> Result<Vec<Job>, Error> {
        let mut jobs: Vec<Job> = schedule::sources(self.db())
            .await?
            .into_iter()
            .map(|source| Job {
                id: sync_job_id(&source.name),
                name: match source.name.as_str() {
                    MITRE => "MITRE ATT&CK Sync".to_owned(),
                    other => format!("Sync of {other}"),
                },
                enabled: source.enabled,
                schedule: source.schedule,
                work: Work::Sync(source.id),
            })
            .collect();
        jobs.push(Job {
            id: SCAN.to_owned(),
            name: "Threat intelligence scan".to_owned(),
            enabled: true,
            schedule: self.0.scheduling.scan_schedule.clone(),
            work: Work::Scan,
        });
        jobs.push(Job {
            id: SNAPSHOT.to_owned(),
            name: "Coverage snapshot and score history".to_owned(),
            enabled: true,
            schedule: self.0.scheduling.snapshot_schedule.clone(),
            work: Work::Snapshot,
        });
        jobs.push(Job {
            id: CLEAN_UP.to_owned(),
            name: "Clean-up of old runs, jobs and items".to_owned(),
            enabled: true,
            schedule: Some(CLEAN_UP_SCHEDULE.to_owned()),
            work: Work::CleanUp,
        });
        Ok(jobs)
    }

    /// What is planned, after what is new or changed was planned too. A job that was not known is due first at the
    /// next of its times from now on.
    async fn planned(&self, jobs: &[Job], at: DateTime<Utc>) -> Result<Vec<Planned>, Error> {
        let zone = self.0.scheduling.zone;
        let mut known: HashMap<String, Planned> =
            schedule::planned(self.db()).await?.into_iter().map(|job| (job.id.clone(), job)).collect();
        let mut planned = Vec::new();
        let mut changed = Vec::new();
        for job in jobs.iter().filter(|job| job.enabled) {
            let Some(text) = &job.schedule else { continue };
            match known.remove(&job.id) {
                Some(same) if same.schedule == *text && same.time_zone == zone.name() => planned.push(same),
                _ => match aegis_schedule::next_after(text, zone, at) {
                    Ok(next_due_at) => changed.push(Planned {
                        id: job.id.clone(),
                        schedule: text.clone(),
                        time_zone: zone.name().to_owned(),
                        next_due_at,
                    }),
                    // Was refused when it was set, unless an older version took it.
                    Err(problem) => tracing::warn!(job = job.id, schedule = text, problem, "a schedule is no use"),
                },
            }
        }
        let forgotten: Vec<String> = known.into_keys().collect();
        if !changed.is_empty() || !forgotten.is_empty() {
            let mut tx = self.db().begin().await?;
            if schedule::leads(&mut tx, self.0.scheduling.process, at).await? {
                schedule::plan(&mut tx, &changed, &forgotten).await?;
                tx.commit().await?;
            }
        }
        planned.append(&mut changed);
        Ok(planned)
    }

    /// Writes a run for each due job and moves it on to its next time. What was due while nothing ran is one run. Gives
    /// the runs to be started, and when the first of the jobs is due again.
    async fn claim_due(&self, due: &[Planned], at: DateTime<Utc>) -> Result<(Vec<Run>, Option<DateTime<Utc>>), Error> {
        let scheduling = &self.0.scheduling;
        let (mut started, mut due_again) = (Vec::new(), None);
        let mut tx = self.db().begin().await?;
        if !schedule::leads(&mut tx, scheduling.process, at).await? {
            return Ok((started, due_again));
        }
        let running: HashMap<String, Run> =
            schedule::running(&mut tx).await?.into_iter().map(|run| (run.job_id.clone(), run)).collect();
        // Few are due at once, and each is its own few statements.
        for job in due {
            let wait = jitter(&job.id, scheduling.jitter);
            let next = match aegis_schedule::next_after(&job.schedule, scheduling.zone, at - wait) {
                Ok(next) => next,
                Err(problem) => {
                    tracing::warn!(job = job.id, problem, "a schedule is no use");
                    continue;
                }
            };
            if !schedule::move_on(&mut tx, job, next).await? {
                continue;
            }
            due_again = due_again.into_iter().chain(Some(next + wait)).min();
            let missed = at - wait - job.next_due_at > MISSED_AFTER;
            let mut run = Run::started(&job.id, job.next_due_at, at, missed);
            match running.get(&job.id) {
                Some(last) if last.is_dead(at) => give_up(&mut tx, last).await?,
                Some(_) => {
                    run.status = SKIPPED.to_owned();
                    run.error = Some("the run before was still going on".to_owned());
                    run.finished_at = Some(at);
                }
                None => {}
            }
            if schedule::insert_run(&mut tx, &run).await? && run.finished_at.is_none() {
                started.push(run);
            }
        }
        tx.commit().await?;
        Ok((started, due_again))
    }

    async fn run_scheduled(&self, run: Run, work: Work) {
        let result = match work {
            Work::Scan => {
                // Writes its end itself, with what it found, and tells of its failure.
                let _ = self.scan(run, aegis_events::actor(&scheduler_ctx())).await;
                return;
            }
            Work::Sync(source) => self.watched(run.id, self.sync_on_schedule(source)).await,
            Work::Snapshot => job(SNAPSHOT, self.watched(run.id, self.take_snapshot(run.due_at))).await,
            Work::CleanUp => job(CLEAN_UP, self.watched(run.id, self.clean_up(now()))).await,
        };
        let (status, text) = match &result {
            Ok(()) => (SUCCEEDED, None),
            // Somebody started it by hand a moment ago.
            Err(error @ Error::Running { .. }) => (SKIPPED, Some(error.public())),
            Err(error) => {
                tracing::warn!(cause = error.chain(), "a scheduled job failed");
                // It may quote a document.
                (FAILED, Some(cut(&error.public(), MAX_ERROR_CHARS)))
            }
        };
        let ended = self
            .ended(|| async {
                let mut tx = self.db().begin().await?;
                schedule::finish_run(&mut tx, run.id, status, text.as_deref(), now()).await?;
                Ok(tx.commit().await?)
            })
            .await;
        if let Err(error) = ended {
            tracing::error!(cause = error.chain(), "the end of a scheduled job could not be written");
        }
    }

    /// Does the work of a run and tells all the while that it goes on.
    pub(super) async fn watched<T>(&self, run: Uuid, work: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
        tokio::select! {
            result = AssertUnwindSafe(work).catch_unwind() => {
                result.unwrap_or_else(|_| Err(Error::fault("a run panicked")))
            }
            lost = self.keep_run_alive(run) => Err(lost),
            () = self.0.stop.cancelled() => {
                let text = "the process was stopped in the middle of it; it comes again at its next time";
                Err(Failure::new(Code::Unavailable, text).into())
            }
        }
    }

    /// Ends only when the run was given up for dead.
    async fn keep_run_alive(&self, run: Uuid) -> Error {
        loop {
            tokio::time::sleep(HEARTBEAT).await;
            match self.beat_run(run).await {
                Ok(true) => {}
                Ok(false) => {
                    let text = "it was too long without a sign of life and was given up";
                    return Failure::new(Code::Conflict, text).into();
                }
                Err(error) => tracing::warn!(%error, "a run's sign of life could not be written"),
            }
        }
    }

    async fn beat_run(&self, run: Uuid) -> aegis_db::Result<bool> {
        let mut tx = self.db().begin().await?;
        let ours = schedule::beat(&mut tx, run, now()).await?;
        tx.commit_relaxed().await?;
        Ok(ours)
    }

    /// Writes the end of a run, again and again while the database is away.
    pub(super) async fn ended<F>(&self, write: impl Fn() -> F) -> Result<(), Error>
    where
        F: Future<Output = Result<(), Error>>,
    {
        let mut tries = 1;
        loop {
            match write().await {
                Err(Error::Db(error)) if error.is_unavailable() && tries < END_TRIES => {
                    tracing::warn!(%error, tries, "the end of a run could not be written");
                    tokio::time::sleep(Duration::from_millis(250 << tries)).await;
                    tries += 1;
                }
                result => return result,
            }
        }
    }

    /// What the scheduler does, and when.
    pub(crate) async fn get_scheduler(&self, ctx: &OpCtx) -> Result<SchedulerView, Error> {
        ctx.require(OPERATORS)?;
        let lease = schedule::lease(self.db()).await?;
        let mut planned: HashMap<String, Planned> =
            schedule::planned(self.db()).await?.into_iter().map(|job| (job.id.clone(), job)).collect();
        let mut last: HashMap<String, Run> =
            schedule::last_runs(self.db()).await?.into_iter().map(|run| (run.job_id.clone(), run)).collect();
        let jobs = self.jobs().await?.into_iter().map(|job| {
            // A change of the schedule is planned at the leader's next look.
            let planned =
                planned.remove(&job.id).filter(|known| job.enabled && Some(&known.schedule) == job.schedule.as_ref());
            JobView {
                last: last.remove(&job.id),
                next_run_at: planned.map(|job| job.next_due_at),
                id: job.id,
                name: job.name,
                enabled: job.enabled,
                schedule: job.schedule,
            }
        });
        Ok(SchedulerView {
            running: lease.as_ref().is_some_and(|lease| lease.held_until > now()),
            time_zone: self.0.scheduling.zone.name().to_owned(),
            jobs: jobs.collect(),
            lease,
        })
    }

    /// Runs, the newest first.
    pub(crate) async fn list_runs(
        &self,
        ctx: &OpCtx,
        job_id: &str,
        page_size: i32,
        page_token: &str,
        skip: i32,
    ) -> Result<RunPage, Error> {
        ctx.require(OPERATORS)?;
        if job_id.chars().count() > 200 {
            return Err(Failure::invalid("job_id", "must have at most 200 characters").into());
        }
        let limit = page::size(page_size, PAGE, MAX_PAGE)?;
        let offset = page::offset(page_token, skip)?;
        let total = schedule::count_runs(self.db(), job_id).await?;
        let runs = schedule::list_runs(self.db(), job_id, limit, offset).await?;
        Ok(RunPage { next_page_token: page::next_offset(offset, runs.len(), total), runs, total })
    }
}

/// Writes that a run lost its process.
pub(super) async fn give_up(tx: &mut Tx, run: &Run) -> Result<(), Error> {
    tracing::warn!(run = %run.id, job = run.job_id, "a run lost its process");
    schedule::finish_run(tx, run.id, FAILED, Some(&Error::Died.public()), run.heartbeat_at).await?;
    Ok(())
}

/// The job that syncs a source. The queries of runs say the same.
pub(super) fn sync_job_id(source: &str) -> String {
    match source {
        MITRE => "mitre_sync".to_owned(),
        other => format!("sync_{other}"),
    }
}

/// The scheduler as a caller of use cases.
pub(super) fn scheduler_ctx() -> OpCtx {
    let principal = Principal {
        user_id: Uuid::nil(),
        username: USERNAME.to_owned(),
        role: Role::Service,
        jti: Uuid::nil(),
        epoch: 0,
        expires_at: now() + TimeDelta::hours(1),
        must_change_password: false,
        bearer: Bearer::Token,
    };
    let origin = Origin { request_id: Uuid::now_v7().to_string(), ..Origin::default() };
    OpCtx::new(Some(principal), None, origin, None)
}

#[cfg(test)]
#[path = "scheduler_tests.rs"]
mod tests;
