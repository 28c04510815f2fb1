//! The look at the whole store: blobs that nothing names are collected, files whose blobs are not there are told.
//!
//! Blobs and rows are walked through side by side in the order of their keys, so that a few thousand of either are in
//! memory however many there are. What differs is looked at again before anything follows from it: both sides change
//! meanwhile.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use aegis_auth::{OpCtx, Role};
use aegis_blob::{BlobError, Entry};
use aegis_db::now;
use aegis_events::{Audit, system_actor};
use aegis_runtime::Shutdown;
use chrono::{DateTime, TimeDelta, Utc};
use futures::{
    StreamExt, TryStreamExt,
    stream::{self, BoxStream},
};
use serde_json::json;
use uuid::Uuid;

use super::{App, housekeeping::ABANDONED_AFTER};
use crate::{
    NAME,
    error::Error,
    store::{
        self, Evidence,
        look::{self, Broken, Report},
        uploads,
    },
};

/// The first look comes this long after the start, so that it does not slow it down.
const FIRST: Duration = Duration::from_secs(60);
/// Where another replica, or this one before its restart, has looked just now, there is no need to.
const FRESH: TimeDelta = TimeDelta::minutes(10);
/// Who looks has to say at least this often that it still does.
const LEASE: TimeDelta = TimeDelta::minutes(5);
/// Rows of one query.
const PAGE: i64 = 1_000;
/// Differences that are looked at together.
const BATCH: usize = 500;
/// Broken files that the report names.
const NAMED: usize = 100;
/// Broken files that are looked at a second time; where there are more, something is wrong with the store itself.
const CONFIRMED: i64 = 10_000;
/// Blobs that one look collects at most.
const COLLECTED: usize = 10_000;
/// More unnamed blobs than this, and more than named ones: the database is not that of this store.
const SUSPICIOUS: usize = 100;
/// Blobs removed at the same time.
const AT_ONCE: usize = 8;

/// The keys of a blob, in the order in which the store has them.
type Key = (Uuid, Uuid);

impl App {
    /// What the last look found. Administrators.
    pub(crate) async fn store_report(&self, ctx: &OpCtx) -> Result<Report, Error> {
        ctx.require(&[Role::Admin])?;
        Ok(look::last(&self.db).await?)
    }

    /// Looks shortly after the start and then from time to time, until `stop`.
    pub(crate) async fn keep_looking(self: Arc<Self>, stop: Shutdown) {
        let every = self.config.look_interval;
        let mut pause = FIRST.min(every);
        // A setting that is shorter than what counts as fresh is meant.
        let mut fresh = FRESH.min(TimeDelta::from_std(every).unwrap_or(FRESH) / 2);
        loop {
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = stop.cancelled() => return,
            }
            let look = self.look(now(), now() - fresh, &stop);
            match aegis_telemetry::job("evidence_look", look).await {
                Ok(Some(report)) => tell(&report),
                Ok(None) => {}
                Err(error) => tracing::warn!(%error, "the evidence store could not be looked through"),
            }
            pause = every;
            // Of several replicas one looks in each interval.
            fresh = TimeDelta::from_std(every).unwrap_or(FRESH) / 2;
        }
    }

    /// Looks, as of a moment, unless somebody else does or has done so since `before`.
    pub(crate) async fn look(
        &self,
        at: DateTime<Utc>,
        before: DateTime<Utc>,
        stop: &Shutdown,
    ) -> Result<Option<Report>, Error> {
        let holder = Uuid::now_v7();
        if !look::take(&self.db, holder, now(), now() + LEASE, before).await? {
            return Ok(None);
        }
        let found = self.look_through(holder, at, stop).await;
        let report = found.as_ref().ok().and_then(Option::as_ref);
        look::give_back(&self.db, holder, report).await?;
        found
    }

    async fn look_through(&self, holder: Uuid, at: DateTime<Utc>, stop: &Shutdown) -> Result<Option<Report>, Error> {
        let mut blobs = self.stored();
        let mut rows = Rows { app: self, page: VecDeque::new(), after: (Uuid::nil(), Uuid::nil()), more: true };
        let mut look = Look::new(self, at);
        let (mut blob, mut row) = (blobs.try_next().await?, rows.next().await?);
        let (mut steps, mut kept) = (0_u64, now());
        loop {
            match (&blob, &row) {
                (None, None) => break,
                (Some((key, entry)), Some(evidence)) if *key == (evidence.test_id, evidence.id) => {
                    look.report.files += 1;
                    look.report.bytes = look.report.bytes.saturating_add(signed(entry.size));
                    if signed(entry.size) != evidence.size_bytes {
                        look.differing.push(evidence.clone());
                    }
                    let last = *key;
                    (blob, row) = (blobs.try_next().await?, rows.next().await?);
                    in_order(last, blob.as_ref())?;
                }
                (Some((key, entry)), evidence)
                    if evidence.as_ref().is_none_or(|evidence| *key < (evidence.test_id, evidence.id)) =>
                {
                    look.unnamed.push((*key, entry.clone()));
                    let last = *key;
                    blob = blobs.try_next().await?;
                    in_order(last, blob.as_ref())?;
                }
                (_, evidence) => {
                    look.differing.extend(evidence.clone());
                    row = rows.next().await?;
                }
            }
            look.check(BATCH).await?;
            steps += 1;
            if steps.is_multiple_of(PAGE as u64) {
                if stop.is_cancelled() {
                    return Ok(None);
                }
                if now() - kept > LEASE / 5 {
                    kept = now();
                    // Somebody else took this process for dead, and looks.
                    if !look::keep(&self.db, holder, kept + LEASE).await? {
                        return Ok(None);
                    }
                }
            }
        }
        look.check(1).await?;
        Ok(Some(look.end().await?))
    }

    /// The blobs of evidence, in the order of their keys.
    fn stored(&self) -> BoxStream<'_, Result<(Key, Entry), Error>> {
        let ours = |entry: Entry| async move { Ok(store::of_blob_key(&entry.key).map(|key| (key, entry))) };
        self.blobs.walk(store::PREFIX).map_err(Error::from).try_filter_map(ours).boxed()
    }
}

/// The rows of evidence, in the order of the keys of their blobs.
struct Rows<'a> {
    app: &'a App,
    page: VecDeque<Evidence>,
    after: Key,
    more: bool,
}

impl Rows<'_> {
    async fn next(&mut self) -> Result<Option<Evidence>, Error> {
        if self.page.is_empty() && self.more {
            self.page = store::by_key(&self.app.db, self.after, PAGE).await?.into();
            self.more = self.page.len() as i64 == PAGE;
            if let Some(last) = self.page.back() {
                self.after = (last.test_id, last.id);
            }
        }
        Ok(self.page.pop_front())
    }
}

/// A look under way.
struct Look<'a> {
    app: &'a App,
    at: DateTime<Utc>,
    report: Report,
    /// Blobs without a row, as it seems.
    unnamed: Vec<(Key, Entry)>,
    /// Rows whose blob is not as it should be, as it seems.
    differing: Vec<Evidence>,
    /// Blobs that nothing names, as many as are to be collected.
    orphans: Vec<(Key, u64)>,
    orphans_total: usize,
}

impl<'a> Look<'a> {
    fn new(app: &'a App, at: DateTime<Utc>) -> Self {
        Look {
            app,
            at,
            report: Report::default(),
            unnamed: Vec::new(),
            differing: Vec::new(),
            orphans: Vec::new(),
            orphans_total: 0,
        }
    }

    /// Looks again at what seemed to differ, where there is enough of it.
    async fn check(&mut self, enough: usize) -> Result<(), Error> {
        if self.unnamed.len() >= enough {
            let unnamed = std::mem::take(&mut self.unnamed);
            self.check_unnamed(unnamed).await?;
        }
        if self.differing.len() >= enough {
            let differing = std::mem::take(&mut self.differing);
            self.check_differing(differing).await?;
        }
        Ok(())
    }

    async fn check_unnamed(&mut self, mut unnamed: Vec<(Key, Entry)>) -> Result<(), Error> {
        let old = self.at - ABANDONED_AFTER;
        unnamed.retain(|(_, entry)| DateTime::<Utc>::from(entry.modified) < old);
        // First uploads, then evidence: an upload becomes evidence, never the other way round but to be removed.
        for known in [Known::Uploads, Known::Evidence] {
            let ids: Vec<Uuid> = unnamed.iter().map(|((_, id), _)| *id).collect();
            if ids.is_empty() {
                return Ok(());
            }
            let named = match known {
                Known::Uploads => uploads::known(&self.app.db, &ids).await?,
                Known::Evidence => store::known(&self.app.db, &ids).await?,
            };
            unnamed.retain(|((_, id), _)| !named.contains(id));
        }
        self.orphans_total += unnamed.len();
        let room = COLLECTED - self.orphans.len();
        self.orphans.extend(unnamed.into_iter().take(room).map(|(key, entry)| (key, entry.size)));
        Ok(())
    }

    async fn check_differing(&mut self, differing: Vec<Evidence>) -> Result<(), Error> {
        let ids: Vec<Uuid> = differing.iter().map(|evidence| evidence.id).collect();
        let known = store::known(&self.app.db, &ids).await?;
        for evidence in differing.into_iter().filter(|evidence| known.contains(&evidence.id)) {
            let confirmed = self.report.broken_total < CONFIRMED;
            let actual_size = match confirmed {
                true => self.app.blobs.size(&evidence.blob_key()).await?.map(signed),
                false => None,
            };
            if actual_size == Some(evidence.size_bytes) {
                continue;
            }
            self.report.broken_total += 1;
            if self.report.broken.len() < NAMED {
                self.report.broken.push(Broken {
                    id: evidence.id,
                    test_id: evidence.test_id,
                    file_name: evidence.file_name,
                    expected_size: evidence.size_bytes,
                    actual_size,
                });
            }
        }
        Ok(())
    }

    /// Collects what nothing names, and sums up.
    async fn end(mut self) -> Result<Report, Error> {
        let named = usize::try_from(self.report.files).unwrap_or(usize::MAX);
        if self.orphans_total > SUSPICIOUS && self.orphans_total > named {
            tracing::error!(
                unnamed = self.orphans_total,
                named,
                "most of what is stored is named by nothing: is this the right database? nothing is removed"
            );
            self.orphans.clear();
        }
        let app = self.app;
        let removed: Vec<Option<u64>> = stream::iter(std::mem::take(&mut self.orphans))
            .map(|((test_id, id), size)| async move {
                let key = store::blob_key(test_id, id);
                match app.blobs.delete(&key).await {
                    Ok(()) => Some(size),
                    Err(error) => {
                        tracing::warn!(%error, key, "a blob that nothing names stays for now");
                        None
                    }
                }
            })
            .buffer_unordered(AT_ONCE)
            .collect()
            .await;
        for size in removed.into_iter().flatten() {
            self.report.collected += 1;
            self.report.collected_bytes = self.report.collected_bytes.saturating_add(signed(size));
        }
        if self.report.collected > 0 {
            let audit = Audit {
                action: "collect_evidence_blobs",
                entity_type: "evidence_store",
                entity_id: String::new(),
                details: json!({ "collected": self.report.collected, "bytes": self.report.collected_bytes }),
            };
            let mut tx = app.db.begin().await?;
            app.outbox.audit_as(&mut tx, system_actor(NAME), audit, true).await?;
            tx.commit().await?;
        }
        self.report.checked_at = Some(self.at);
        Ok(self.report)
    }
}

/// What names blobs.
#[derive(Clone, Copy)]
enum Known {
    Uploads,
    Evidence,
}

/// A store that lists its keys in no order (some imitations of S3 do) cannot be looked through beside the rows.
fn in_order(last: Key, next: Option<&(Key, Entry)>) -> Result<(), Error> {
    match next {
        Some((key, _)) if *key <= last => {
            Err(BlobError::Unavailable("the store does not list its keys in their order".into()).into())
        }
        _ => Ok(()),
    }
}

fn signed(size: u64) -> i64 {
    i64::try_from(size).unwrap_or(i64::MAX)
}

fn tell(report: &Report) {
    let Report { files, bytes, collected, broken_total, .. } = report;
    if *broken_total > 0 {
        let first = report.broken.first().map(|broken| broken.id);
        tracing::warn!(broken_total, ?first, files, "evidence is missing or altered in the store");
    }
    tracing::info!(files, bytes, collected, broken_total, "looked through the evidence store");
}
