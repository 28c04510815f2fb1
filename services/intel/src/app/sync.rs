//! Syncs from the outside: started, one of a source at a time, and looked at.

use std::time::Duration;

use aegis_auth::OpCtx;
use aegis_db::{Tx, now, page};
use aegis_error::{Code, Failure, Fields};
use aegis_events::{Audit, system_actor};
use aegis_proto::events::v1::{Actor, SyncFinished};
use chrono::TimeDelta;
use serde_json::json;
use sqlx::types::Json;
use tracing::Instrument;
use uuid::Uuid;

use super::{
    App, OPERATORS,
    run::Claim,
    scan::cut,
    scheduler::sync_job_id,
    sources::{companion_location, has_companion, location},
};
use crate::{
    NAME,
    domain::{counts::Counts, stix::Domain},
    error::Error,
    store::{
        job::{self, Change, FAILED, Job, RUNNING, SUCCEEDED, SkippedRecord},
        source::{self, Key, Synced},
    },
};

/// How long ended jobs are kept.
const JOBS_KEPT: TimeDelta = TimeDelta::days(90);
/// Jobs of a page, unless the request says otherwise.
const JOBS_PAGE: i64 = 100;
/// Jobs of a page at most.
const MAX_JOBS_PAGE: i64 = 1000;
/// Characters of the reason why a sync failed; it may quote the document.
pub(super) const MAX_ERROR_CHARS: usize = 4000;

/// How a sync is asked for.
#[derive(Debug, Default)]
pub(crate) struct SyncOrder {
    /// Id or name.
    pub source_id: String,
    /// Answer when it has ended.
    pub wait: bool,
    /// Instead of the source's own URL.
    pub url: Option<String>,
    /// Instead of the source's own companion URL.
    pub companion_url: Option<String>,
    /// Changes nothing and says what would change.
    pub dry_run: bool,
    /// Brings it in even where most of what the source brought before is not in it.
    pub force: bool,
}

/// Jobs, the newest first.
pub(crate) struct JobPage {
    pub jobs: Vec<Job>,
    pub next_page_token: String,
    pub total: i64,
}

/// A sync that succeeded.
#[derive(Debug)]
pub(super) struct Outcome {
    pub counts: Counts,
    pub skipped: Vec<SkippedRecord>,
    /// What became of techniques.
    pub changes: Vec<Change>,
    pub upstream_version: Option<String>,
    /// Of the document, if it was at the source's own url.
    pub etag: Option<String>,
    /// Of the second document.
    pub companion_etag: Option<String>,
}

impl App {
    /// Starts a sync and gives the job that runs, or with `wait` the one that ended well.
    pub(crate) async fn start_sync(&self, ctx: &OpCtx, order: SyncOrder) -> Result<Job, Error> {
        let principal = ctx.require(OPERATORS)?;
        let mut fields = Fields::default();
        if order.source_id.is_empty() {
            fields.add("source_id", "must be the id or the name of a data source");
        }
        if let Some(url) = &order.url
            && let Err(error) = location(url, &self.0.limits)
        {
            fields.add("url", error.public());
        }
        if let Some(url) = &order.companion_url
            && let Err(error) = companion_location(url, &self.0.limits)
        {
            fields.add("companion_url", error.public());
        }
        fields.finish()?;
        if self.0.stop.is_cancelled() {
            let text = "this process is about to stop; try again in a moment";
            return Err(Failure::new(Code::Unavailable, text).with_retry_after(Duration::from_secs(2)).into());
        }
        let wait = order.wait;
        let claim = self.claim(ctx, order, &principal.username).await?;
        let job = claim.job.clone();
        let span = tracing::info_span!("sync", source = job.source_name, job = %job.id);
        // Of its own: the sync goes on when the caller leaves.
        let app = self.clone();
        let name = sync_job_id(&job.source_name);
        let run = async move { aegis_telemetry::job(&name, app.run(claim)).await };
        let sync = self.0.syncs.spawn(run.instrument(span));
        if !wait {
            return Ok(job);
        }
        match sync.await {
            Ok(Ok(ended)) => Ok(ended),
            Ok(Err(error)) => Err(Failure::from(error).with("job_id", job.id.to_string()).into()),
            Err(error) => Err(Error::fault(error)),
        }
    }

    /// A job as it is now.
    pub(crate) async fn get_job(&self, ctx: &OpCtx, id: &str) -> Result<Job, Error> {
        ctx.require(OPERATORS)?;
        let id = Uuid::parse_str(id).map_err(|_| Failure::invalid("id", "must be a UUID"))?;
        job::get(self.db(), id).await?.ok_or(Error::NoJob(id))
    }

    /// Jobs of one source or of all.
    pub(crate) async fn list_jobs(
        &self,
        ctx: &OpCtx,
        source_id: &str,
        page_size: i32,
        page_token: &str,
        skip: i32,
    ) -> Result<JobPage, Error> {
        ctx.require(OPERATORS)?;
        let limit = page::size(page_size, JOBS_PAGE, MAX_JOBS_PAGE)?;
        let offset = page::offset(page_token, skip)?;
        let source = match source_id {
            "" => None,
            id => Some(self.get_source(ctx, id).await?.id),
        };
        let (total, jobs) =
            tokio::try_join!(job::count(self.db(), source), job::list(self.db(), source, limit, offset))?;
        Ok(JobPage { next_page_token: page::next_offset(offset, jobs.len(), total), jobs, total })
    }

    /// Makes the source's one running job, across all processes.
    async fn claim(&self, ctx: &OpCtx, order: SyncOrder, started_by: &str) -> Result<Claim, Error> {
        let SyncOrder { source_id, url, companion_url, dry_run, force, .. } = order;
        let key = &Key::from(source_id.as_str());
        let mut tx = self.db().begin().await?;
        let source = source::lock(&mut tx, key).await?.ok_or_else(|| Error::NoSource(key.to_string()))?;
        ctx.expect_version(source.version)?;
        if !source.enabled {
            return Err(Error::Disabled(source.name));
        }
        let domain = Domain::ALL.into_iter().find(|domain| domain.as_str() == source.domain);
        if companion_url.is_some() && !has_companion(&source) {
            let problem = format!("{} has one document only", source.name);
            return Err(Failure::invalid("companion_url", problem).into());
        }
        let at = now();
        if let Some(running) = job::running(&mut tx, source.id).await? {
            if !job::is_dead(running.heartbeat_at, at) {
                return Err(Error::Running { source_name: source.name, job: running.id });
            }
            tracing::warn!(job = %running.id, source = source.name, "a sync lost its process");
            self.end_failed(&mut tx, &running, &Error::Died, system_actor(NAME)).await?;
        }
        job::purge(&mut tx, source.id, at - JOBS_KEPT).await?;
        let job = Job {
            id: Uuid::now_v7(),
            source_id: source.id,
            source_name: source.name.clone(),
            status: RUNNING.to_owned(),
            phase: "fetching".to_owned(),
            percentage: 0.0,
            counts: None,
            error: None,
            skipped: Json(Vec::new()),
            started_by: started_by.to_owned(),
            started_at: at,
            finished_at: None,
            heartbeat_at: at,
            dry_run,
            changes: Json(Vec::new()),
        };
        if !job::insert(&mut tx, &job).await? {
            return Err(Error::Raced);
        }
        self.outbox().claim(&mut tx, ctx, &job.id.to_string()).await?;
        // Its outcome is told at its end; who asked for it is known now, whatever becomes of this process.
        let audit = Audit {
            action: "start_sync",
            entity_type: "data_source",
            entity_id: source.id.to_string(),
            details: json!({ "name": source.name, "job_id": job.id, "dry_run": dry_run, "force": force }),
        };
        self.outbox().audit(&mut tx, ctx, audit).await?;
        let own = url.is_none() && companion_url.is_none();
        if !own && !dry_run {
            // What comes in now is not what the etag stands for.
            source::forget_etag(&mut tx, source.id).await?;
        }
        tx.commit().await?;
        Ok(Claim {
            job,
            kind: source.kind,
            domain,
            url: url.unwrap_or(source.url),
            etag: source.etag.filter(|_| own),
            companion_url: companion_url.or(source.companion_url),
            companion_etag: source.companion_etag.filter(|_| own),
            own_url: own,
            force,
            before: source.last_counts.map(|counts| counts.0),
            version_before: source.upstream_version,
            actor: aegis_events::actor(ctx),
        })
    }

    /// Writes that a job succeeded. False when it no longer runs.
    pub(super) async fn end_succeeded(&self, tx: &mut Tx, claim: &Claim, outcome: &Outcome) -> Result<bool, Error> {
        let at = now();
        let job = Job {
            status: SUCCEEDED.to_owned(),
            phase: "done".to_owned(),
            percentage: 100.0,
            counts: Some(Json(outcome.counts.clone())),
            skipped: Json(outcome.skipped.clone()),
            changes: Json(outcome.changes.clone()),
            finished_at: Some(at),
            heartbeat_at: at,
            ..claim.job.clone()
        };
        if !job::finish(tx, &job).await? {
            return Ok(false);
        }
        let synced = Synced {
            counts: &outcome.counts,
            upstream_version: outcome.upstream_version.as_deref(),
            url: &claim.url,
            etag: outcome.etag.as_deref(),
            companion_url: claim.companion_url.as_deref(),
            companion_etag: outcome.companion_etag.as_deref(),
        };
        if !job.dry_run {
            source::set_succeeded(tx, job.source_id, &synced, at).await?;
        }
        let counts = json!(outcome.counts);
        let event = SyncFinished {
            job_id: job.id.to_string(),
            source: job.source_name.clone(),
            status: SUCCEEDED.to_owned(),
            counts_json: counts.to_string(),
        };
        let details = json!({
            "name": job.source_name,
            "job_id": job.id,
            "status": SUCCEEDED,
            "dry_run": job.dry_run,
            "url": claim.url,
            "counts": counts,
            "before": { "upstream_version": claim.version_before },
            "after": { "upstream_version": outcome.upstream_version },
        });
        self.told(tx, &job, claim.actor.clone(), &event, details).await?;
        Ok(true)
    }

    /// Writes that a job failed. False when it no longer runs.
    pub(super) async fn end_failed(
        &self,
        tx: &mut Tx,
        running: &Job,
        error: &Error,
        actor: Actor,
    ) -> Result<bool, Error> {
        let at = now();
        let text = cut(&error.public(), MAX_ERROR_CHARS);
        let job =
            Job { status: FAILED.to_owned(), error: Some(text.clone()), finished_at: Some(at), ..running.clone() };
        if !job::finish(tx, &job).await? {
            return Ok(false);
        }
        if !job.dry_run {
            source::set_failed(tx, job.source_id, &text, at).await?;
        }
        let event = SyncFinished {
            job_id: job.id.to_string(),
            source: job.source_name.clone(),
            status: FAILED.to_owned(),
            counts_json: "{}".to_owned(),
        };
        let details = json!({
            "name": job.source_name, "job_id": job.id, "status": FAILED, "dry_run": job.dry_run, "error": text,
        });
        self.told(tx, &job, actor, &event, details).await?;
        Ok(true)
    }

    /// The audit record of a job's end, and the event if anything can have changed.
    async fn told(
        &self,
        tx: &mut Tx,
        job: &Job,
        actor: Actor,
        event: &SyncFinished,
        details: serde_json::Value,
    ) -> Result<(), Error> {
        let outbox = self.outbox();
        if !job.dry_run {
            outbox.publish_as(tx, actor.clone(), &job.source_id.to_string(), event).await?;
        }
        let audit =
            Audit { action: "sync_source", entity_type: "data_source", entity_id: job.source_id.to_string(), details };
        outbox.audit_as(tx, actor, audit, job.status == SUCCEEDED).await?;
        Ok(())
    }
}
