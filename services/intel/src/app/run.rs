//! A sync from the inside: fetches, reads, applies, keeps its row alive, and writes its end.

use std::{
    io::{self, Read},
    panic::AssertUnwindSafe,
    sync::Arc,
    time::Duration,
};

use aegis_db::now;
use aegis_proto::events::v1::Actor;
use futures::FutureExt;
use tokio::time::{Instant, MissedTickBehavior};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::{App, apply::apply, progress::Progress, sources::location, sync::Outcome};
use crate::{
    domain::{
        counts::Counts,
        source::ENTRY_NAMES,
        stix::{AttackDocument, Domain, parse_attack},
    },
    error::Error,
    fetch::{self, Document, FetchErrorKind, FetchLimits, Fetched},
    store::job::{self, Job, SkippedRecord},
};

/// Progress is written this often, if there is any.
const WRITE_EVERY: Duration = Duration::from_millis(250);
/// A sign of life is written at least this often.
const HEARTBEAT: Duration = Duration::from_secs(5);
/// Tries to write the end of a job while the database is away.
const END_TRIES: u32 = 6;

/// A sync that this process has to itself.
pub(super) struct Claim {
    pub job: Job,
    pub domain: Domain,
    pub url: String,
    pub etag: Option<String>,
    /// Whether the url is the source's own.
    pub own_url: bool,
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
                tracing::info!(elapsed = ?started.elapsed(), counts = ?outcome.counts, "a sync succeeded");
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
        let limits = &self.0.limits;
        let location = location(&claim.url, limits)?;
        let fetched = fetch::fetch(&location, limits, claim.etag.as_deref(), |bytes, total| {
            progress.fetching(bytes, total);
        })
        .await?;
        let Fetched::Document(document) = fetched else {
            progress.done();
            return Ok(Outcome {
                counts: claim.before.unwrap_or_default().again(),
                skipped: Vec::new(),
                upstream_version: claim.version_before.clone(),
                etag: claim.etag.clone(),
            });
        };
        progress.fetched();
        let etag = document.etag.clone().filter(|_| claim.own_url);
        let mut attack = self.read(document, claim.domain, progress).await?;
        progress.parsed();
        if attack.domain != claim.domain {
            return Err(Error::WrongDomain { found: attack.domain, wanted: claim.domain });
        }
        let upstream_version = attack.upstream_version.clone();
        let skipped = std::mem::take(&mut attack.skipped)
            .into_iter()
            .map(|skipped| SkippedRecord { id: skipped.id, reason: skipped.reason })
            .collect();
        let counts = apply(&self.0.catalog, &self.0.background, attack, progress).await?;
        progress.done();
        Ok(Outcome { counts, skipped, upstream_version, etag })
    }

    /// Reads the document whole, on a thread of its own. The document is gone after that.
    async fn read(
        &self,
        document: Document,
        domain: Domain,
        progress: &Arc<Progress>,
    ) -> Result<AttackDocument, Error> {
        let limits = self.0.limits.clone();
        let progress = Arc::clone(progress);
        let abandoned = CancellationToken::new();
        // The thread cannot be stopped from outside, so it looks whether this future is still there.
        let _guard = abandoned.clone().drop_guard();
        let reading = tokio::task::spawn_blocking(move || {
            let reader = open(&document, domain, &limits)?;
            let reader = Abandonable { inner: reader, abandoned };
            let (size, format) = (document.size, document.format);
            let attack = parse_attack(reader, &mut |bytes| progress.parsing(bytes, size, format))?;
            Ok(attack)
        });
        reading.await.map_err(Error::fault)?
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

/// Opens the bundle in a document, which may be an archive of several.
fn open(document: &Document, domain: Domain, limits: &FetchLimits) -> Result<Box<dyn Read + Send>, Error> {
    let [latest, named] =
        ENTRY_NAMES.map(|wanted| move |path: &str| wanted(domain, path.rsplit('/').next().unwrap_or_default()));
    match fetch::open(document, &latest, limits) {
        Err(error) if error.kind() == FetchErrorKind::NotFound => Ok(fetch::open(document, &named, limits)?),
        opened => Ok(opened?),
    }
}

/// Stops reading when nobody waits for what is read.
struct Abandonable<R> {
    inner: R,
    abandoned: CancellationToken,
}

impl<R: Read> Read for Abandonable<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.abandoned.is_cancelled() {
            return Err(io::Error::other("nobody waits for the document any more"));
        }
        self.inner.read(buffer)
    }
}
