//! A sync from the inside: fetches, reads, applies, keeps its row alive, and writes its end.

use std::{collections::BTreeMap, panic::AssertUnwindSafe, sync::Arc, time::Duration};

use aegis_db::now;
use aegis_proto::events::v1::Actor;
use futures::FutureExt;
use tokio::time::{Instant, MissedTickBehavior};
use uuid::Uuid;

use super::{
    App,
    apply::{Import, apply},
    documents::{Content, Found},
    progress::Progress,
    scan::cut,
    sync::Outcome,
};
use crate::{
    domain::{
        counts::Counts,
        knowledge::{MAX_SKIPPED_KEPT, Skip, Skips},
        source::main_kind,
        stix::Domain,
    },
    error::Error,
    store::job::{self, Job, SkippedRecord},
};

/// Progress is written this often, if there is any.
const WRITE_EVERY: Duration = Duration::from_millis(250);
/// A sign of life is written at least this often.
const HEARTBEAT: Duration = Duration::from_secs(5);
/// Tries to write the end of a job while the database is away.
const END_TRIES: u32 = 6;
/// Bounds of what is kept of a document's own words.
const MAX_SKIP_CHARS: usize = 1000;
const MAX_VERSION_CHARS: usize = 200;

/// A sync that this process has to itself.
pub(super) struct Claim {
    pub job: Job,
    /// Which reader its documents need.
    pub kind: String,
    /// The ATT&CK knowledge base.
    pub domain: Option<Domain>,
    pub url: String,
    pub etag: Option<String>,
    pub companion_url: Option<String>,
    pub companion_etag: Option<String>,
    /// Whether the urls are the source's own.
    pub own_url: bool,
    /// Bring it in even where most of what the source brought before is not in it.
    pub force: bool,
    /// What the last good sync counted.
    pub before: Option<Counts>,
    pub version_before: Option<String>,
    /// Who started it.
    pub actor: Actor,
}

impl App {
    /// Runs a sync to its end and gives the job as it ended, or why it failed.
    pub(super) async fn run(&self, claim: Claim) -> Result<Job, Error> {
        let started = Instant::now();
        let progress = Arc::new(Progress::default());
        let result = tokio::select! {
            result = AssertUnwindSafe(self.work(&claim, &progress)).catch_unwind() => {
                result.unwrap_or_else(|_| Err(Error::fault("a sync panicked")))
            }
            lost = self.keep_alive(claim.job.id, &progress) => Err(lost),
            () = self.0.stop.cancelled() => Err(Error::Stopped),
        };
        match &result {
            Ok(outcome) => {
                tracing::info!(elapsed = ?started.elapsed(), counts = %outcome.counts, "a sync succeeded");
            }
            Err(error) => {
                tracing::warn!(elapsed = ?started.elapsed(), cause = error.chain(), "a sync failed");
            }
        }
        self.end(&claim, &progress, &result).await?;
        result?;
        let id = claim.job.id;
        job::get(self.db(), id).await?.ok_or(Error::NoJob(id))
    }

    async fn work(&self, claim: &Claim, progress: &Arc<Progress>) -> Result<Outcome, Error> {
        let Found::New(documents) = self.fetch(claim, progress).await? else {
            progress.done();
            return Ok(Outcome {
                counts: claim.before.clone().unwrap_or_default().again(),
                skipped: Vec::new(),
                changes: Vec::new(),
                upstream_version: claim.version_before.clone(),
                etag: claim.etag.clone(),
                companion_etag: claim.companion_etag.clone(),
            });
        };
        progress.fetched();
        let own = |etag: &Option<String>| etag.clone().filter(|_| claim.own_url);
        let (etag, companion_etag) = (own(&documents.etag), own(&documents.companion_etag));
        let content = self.read(claim.kind.clone(), claim.domain, documents, progress).await?;
        progress.parsed();
        let mut import = Import {
            source: claim.kind.clone(),
            origin: claim.job.source_name.clone(),
            dry_run: claim.job.dry_run,
            force: claim.force,
            ..Import::default()
        };
        let mut skips = Skips::default();
        let (mut counts, changes, upstream_version) = match content {
            Content::Kev(mut document) => {
                add(&mut skips, std::mem::take(&mut document.skipped));
                let version = document.catalog_version.clone();
                let tally = self.take_kev(document, &claim.job).await?;
                let main = main_kind(&claim.kind);
                (Counts::of_kind(main, BTreeMap::from([(main.to_owned(), tally)])), Vec::new(), version)
            }
            Content::Attack(attack) => {
                let attack = *attack;
                import.domain = Some(attack.domain);
                import.upstream_version = attack.upstream_version;
                import.techniques = attack.techniques;
                import.tactics = attack.tactics;
                import.knowledge = attack.knowledge;
                skips.total += attack.skipped_total;
                skips.first =
                    attack.skipped.into_iter().map(|skipped| Skip { id: skipped.id, reason: skipped.reason }).collect();
                add(&mut skips, std::mem::take(&mut import.knowledge.skipped));
                let version = import.upstream_version.clone();
                let applied = apply(&self.0.catalog, &self.0.background, import, progress).await?;
                (applied.counts, applied.changes, version)
            }
            Content::Knowledge(knowledge) => {
                import.knowledge = *knowledge;
                import.upstream_version = import.knowledge.upstream_version.clone();
                add(&mut skips, std::mem::take(&mut import.knowledge.skipped));
                let version = import.upstream_version.clone();
                let applied = apply(&self.0.catalog, &self.0.background, import, progress).await?;
                (applied.counts, applied.changes, version)
            }
        };
        progress.done();
        counts.skipped = i64::try_from(skips.total).unwrap_or(i64::MAX);
        // Of documents of strangers: a NUL in them would keep the end of the job from being written.
        let record =
            |skip: Skip| SkippedRecord { id: cut(&skip.id, MAX_SKIP_CHARS), reason: cut(&skip.reason, MAX_SKIP_CHARS) };
        let skipped = skips.first.into_iter().map(record).collect();
        let upstream_version = upstream_version.map(|version| cut(&version, MAX_VERSION_CHARS));
        Ok(Outcome { counts, skipped, changes, upstream_version, etag, companion_etag })
    }

    /// Writes progress and signs of life for as long as the job is ours; gives why it no longer is.
    async fn keep_alive(&self, id: Uuid, progress: &Progress) -> Error {
        let mut ticks = tokio::time::interval(WRITE_EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let (mut written, mut at) = (0.0, Instant::now());
        loop {
            ticks.tick().await;
            let percentage = progress.percentage();
            if percentage == written && at.elapsed() < HEARTBEAT {
                continue;
            }
            match self.beat(id, progress.phase(), percentage).await {
                Ok(true) => (written, at) = (percentage, Instant::now()),
                Ok(false) => return Error::Lost,
                Err(error) => tracing::warn!(%error, "a sync's progress could not be written"),
            }
        }
    }

    async fn beat(&self, id: Uuid, phase: &str, percentage: f64) -> aegis_db::Result<bool> {
        let mut tx = self.db().begin().await?;
        let ours = job::beat(&mut tx, id, phase, percentage, now()).await?;
        // Nobody misses it after a power cut.
        tx.commit_relaxed().await?;
        Ok(ours)
    }

    /// Writes the end of a job, again and again while the database is away.
    async fn end(&self, claim: &Claim, progress: &Progress, result: &Result<Outcome, Error>) -> Result<(), Error> {
        let mut tries = 1;
        loop {
            match self.try_end(claim, progress, result).await {
                Err(Error::Db(error)) if error.is_unavailable() && tries < END_TRIES => {
                    tracing::warn!(%error, tries, "the end of a sync could not be written");
                    tokio::time::sleep(Duration::from_millis(250 << tries)).await;
                    tries += 1;
                }
                Ok(true) => return Ok(()),
                // Given up for dead by another process, which wrote that; or written by the try before, whose
                // answer did not come.
                Ok(false) => {
                    let now = job::get(self.db(), claim.job.id).await?;
                    let wrote = tries > 1 && now.is_some_and(|job| (job.status == job::SUCCEEDED) == result.is_ok());
                    return match wrote || result.is_err() {
                        true => Ok(()),
                        false => Err(Error::Lost),
                    };
                }
                Err(error) => {
                    tracing::error!(cause = error.chain(), "the end of a sync could not be written");
                    return Err(error);
                }
            }
        }
    }

    async fn try_end(
        &self,
        claim: &Claim,
        progress: &Progress,
        result: &Result<Outcome, Error>,
    ) -> Result<bool, Error> {
        let mut tx = self.db().begin().await?;
        let ours = match result {
            Ok(outcome) => self.end_succeeded(&mut tx, claim, outcome).await?,
            Err(error) => {
                let job = Job {
                    phase: progress.phase().to_owned(),
                    percentage: progress.percentage(),
                    heartbeat_at: now(),
                    ..claim.job.clone()
                };
                self.end_failed(&mut tx, &job, error, claim.actor.clone()).await?
            }
        };
        tx.commit().await?;
        Ok(ours)
    }
}

/// More records that could not be read.
fn add(skips: &mut Skips, more: Skips) {
    skips.total += more.total;
    let room = MAX_SKIPPED_KEPT.saturating_sub(skips.first.len());
    skips.first.extend(more.first.into_iter().take(room));
}
