//! The intel scan: takes in what is new in KEV and the feeds, finds what of it matters here, and flags it for review.

use std::{
    collections::{BTreeMap, HashSet},
    io::Read,
    sync::Arc,
    time::Duration,
};

use aegis_auth::OpCtx;
use aegis_db::now;
use aegis_error::{Code, Failure};
use aegis_events::Audit;
use aegis_proto::{
    catalog::v1::{FlagTechniquesRequest, ListNamesRequest, Name},
    events::v1::Actor,
};
use chrono::TimeDelta;
use futures::StreamExt;
use serde_json::json;
use sha2::{Digest, Sha256};
use tracing::Instrument;
use uuid::Uuid;

use super::{
    App, OPERATORS,
    feeds::MAX_FEEDS,
    scheduler::{SCAN, give_up},
};
use crate::{
    domain::{
        counts::Tally,
        feeds::{FeedDocument, FeedItem, parse_feed},
        kev::{KevDocument, KevEntry},
        matching::{CONTROL, Match, Matcher, Named, SOFTWARE, TECHNIQUE, THREAT_ACTOR},
    },
    error::Error,
    fetch::{self, FetchLimits, Fetched, Location},
    store::{
        feed::{self, Feed},
        item::{self, NewItem, Unmatched},
        job::{self, Job},
        kev,
        schedule::{self, FAILED, Run, SUCCEEDED},
    },
};

/// Bytes of a feed, packed and unpacked.
const MAX_FEED_BYTES: u64 = 5 * 1024 * 1024;
/// Feeds that are read at the same time.
const FEEDS_AT_ONCE: usize = 4;
/// Items that are matched and written together.
const BATCH: i64 = 500;
/// Names that are taken from the catalog; ATT&CK and MISP have some 8,000.
const MAX_NAMES: usize = 500_000;
/// How long the catalog may take for one answer.
const CATALOG_TIMEOUT: Duration = Duration::from_secs(60);
/// That a feed still has an item is written this often.
const SEEN_EVERY: TimeDelta = TimeDelta::days(1);
/// Bounds of what is kept of an item.
const MAX_ID_CHARS: usize = 500;
const MAX_TITLE_CHARS: usize = 500;
const MAX_SUMMARY_CHARS: usize = 4000;
const MAX_URL_BYTES: usize = 2048;
/// The title in the reason of a flag.
pub(super) const MAX_REASON_CHARS: usize = 200;

/// What a scan did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct ScanOutcome {
    /// Items that were not known before.
    pub new_items: i64,
    /// Items that were matched now and match something.
    pub matched: i64,
    /// Techniques that were not flagged before.
    pub flagged: i64,
    /// Feeds that could not be read, each with its reason.
    pub problems: Vec<(String, String)>,
}

/// What a feed may use. Its items are shown and never run, so plain http is good enough.
pub(super) fn feed_limits(product: &FetchLimits) -> FetchLimits {
    FetchLimits {
        max_download_bytes: MAX_FEED_BYTES,
        max_unpacked_bytes: MAX_FEED_BYTES,
        total_timeout: Duration::from_secs(60),
        max_attempts: 2,
        allow_http: true,
        ..product.clone()
    }
}

impl App {
    /// Takes the list of exploited vulnerabilities in, as a sync read it.
    pub(super) async fn take_kev(&self, mut document: KevDocument, job: &Job) -> Result<Tally, Error> {
        let at = now();
        document.entries.iter_mut().for_each(without_controls);
        let mut tx = self.db().begin().await?;
        // A sync that was given up for dead must not write over the one that came after it.
        if !job::holds(&mut tx, job.id).await? {
            return Err(Error::Lost);
        }
        let mut known = kev::known(&mut tx).await?;
        let mut tally = Tally::default();
        let mut changed = Vec::new();
        for entry in &document.entries {
            tally.total += 1;
            let hash = content_hash(entry);
            match known.remove(&entry.cve_id) {
                None => tally.new += 1,
                Some(same) if same.listed && same.content_hash == hash => {
                    tally.unchanged += 1;
                    continue;
                }
                Some(_) => tally.updated += 1,
            }
            changed.push((entry, hash));
        }
        let vanished: Vec<String> = known.into_values().filter(|known| known.listed).map(|known| known.cve).collect();
        tally.vanished = i64::try_from(vanished.len()).unwrap_or(i64::MAX);
        let changes = !changed.is_empty() || !vanished.is_empty();
        if changes && !job.dry_run {
            kev::upsert(&mut tx, &changed, at).await?;
            kev::vanish(&mut tx, &vanished, at).await?;
            tx.commit().await?;
        }
        Ok(tally)
    }

    /// Starts a scan, one at a time across all processes. With `wait` it gives what the scan did.
    pub(crate) async fn run_scan(&self, ctx: &OpCtx, wait: bool) -> Result<Option<ScanOutcome>, Error> {
        ctx.require(OPERATORS)?;
        if self.0.stop.is_cancelled() {
            let text = "this process is about to stop; try again in a moment";
            return Err(Failure::new(Code::Unavailable, text).with_retry_after(Duration::from_secs(2)).into());
        }
        let at = now();
        let mut tx = self.db().begin().await?;
        for last in schedule::running(&mut tx).await?.into_iter().filter(|run| run.job_id == SCAN) {
            if !last.is_dead(at) {
                return Err(scan_runs());
            }
            give_up(&mut tx, &last).await?;
        }
        let run = Run::started(SCAN, at, at, false);
        if !schedule::insert_run(&mut tx, &run).await? {
            return Err(scan_runs());
        }
        self.outbox().claim(&mut tx, ctx, &run.id.to_string()).await?;
        tx.commit().await?;
        let (app, actor) = (self.clone(), aegis_events::actor(ctx));
        let span = tracing::info_span!("scan", run = %run.id);
        // Of its own: the scan goes on when the caller leaves.
        let scan = self.0.syncs.spawn(async move { app.scan(run, actor).await }.instrument(span));
        if !wait {
            return Ok(None);
        }
        scan.await.map_err(Error::fault)?.map(Some)
    }

    /// Does the scan of a run, and writes its end and the one audit record.
    pub(super) async fn scan(&self, run: Run, actor: Actor) -> Result<ScanOutcome, Error> {
        let mut outcome = ScanOutcome::default();
        let result = aegis_telemetry::job(SCAN, self.watched(run.id, self.find_and_flag(&mut outcome))).await;
        match &result {
            Ok(()) => tracing::info!(?outcome, "a scan succeeded"),
            Err(error) => tracing::warn!(cause = error.chain(), ?outcome, "a scan failed"),
        }
        let error = result.as_ref().err().map(Error::public);
        let status = if error.is_none() { SUCCEEDED } else { FAILED };
        let problems: Vec<_> =
            outcome.problems.iter().map(|(feed, problem)| json!({ "feed": feed, "problem": problem })).collect();
        let details = json!({
            "run_id": run.id, "status": status, "error": error, "new_items": outcome.new_items,
            "matched": outcome.matched, "flagged": outcome.flagged, "problems": problems,
        });
        self.ended(|| async {
            let mut tx = self.db().begin().await?;
            // Given up for dead by another process otherwise, which wrote that.
            if schedule::finish_run(&mut tx, run.id, status, error.as_deref(), now()).await? {
                let audit = Audit {
                    action: "run_intel_scan",
                    entity_type: "intel_scan",
                    entity_id: run.id.to_string(),
                    details: details.clone(),
                };
                self.outbox().audit_as(&mut tx, actor.clone(), audit, result.is_ok()).await?;
            }
            Ok(tx.commit().await?)
        })
        .await?;
        result.map(|()| outcome)
    }

    async fn find_and_flag(&self, outcome: &mut ScanOutcome) -> Result<(), Error> {
        self.take_feeds(outcome).await?;
        self.take_new_kev(outcome).await?;
        self.match_items(outcome).await
    }

    /// Reads all feeds and takes in what is new of them. One that cannot be read keeps no other from it.
    async fn take_feeds(&self, outcome: &mut ScanOutcome) -> Result<(), Error> {
        let feeds = feed::enabled(self.db(), MAX_FEEDS).await?;
        let mut answers = futures::stream::iter(feeds)
            .map(|feed| async move {
                let read = read_feed(&feed, feed_limits(&self.0.limits)).await;
                (feed, read)
            })
            .buffer_unordered(FEEDS_AT_ONCE);
        while let Some((feed, read)) = answers.next().await {
            let at = now();
            let mut tx = self.db().begin().await?;
            // Gone or pointed elsewhere while it was read: what came is of another feed.
            match feed::lock(&mut tx, feed.id).await? {
                Some(current) if current.url == feed.url => {}
                _ => continue,
            }
            match read {
                Ok(None) => feed::set_read(&mut tx, &feed, feed.etag.as_deref(), None, at).await?,
                Ok(Some((document, etag))) => {
                    let mut items: Vec<NewItem> = document.items.into_iter().map(of_feed).collect();
                    items.sort_by_key(|item| item.published_at);
                    let ids: Vec<String> = items.iter().map(|item| item.external_id.clone()).collect();
                    item::seen(&mut tx, feed.id, &ids, at - SEEN_EVERY, at).await?;
                    outcome.new_items += count(item::insert(&mut tx, Some(feed.id), items, at).await?);
                    feed::set_read(&mut tx, &feed, etag.as_deref(), None, at).await?;
                }
                Err(problem) => {
                    feed::set_read(&mut tx, &feed, feed.etag.as_deref(), Some(&problem), at).await?;
                    outcome.problems.push((feed.name, problem));
                }
            }
            tx.commit().await?;
        }
        outcome.problems.sort();
        Ok(())
    }

    /// Makes items of the vulnerabilities that were added to KEV.
    async fn take_new_kev(&self, outcome: &mut ScanOutcome) -> Result<(), Error> {
        let entries = kev::without_item(self.db()).await?;
        if entries.is_empty() {
            return Ok(());
        }
        let items = entries.into_iter().map(of_kev).collect();
        let mut tx = self.db().begin().await?;
        outcome.new_items += count(item::insert(&mut tx, None, items, now()).await?);
        tx.commit().await?;
        Ok(())
    }

    /// Matches what was not matched yet. An item counts as matched when the techniques that it names are flagged, so
    /// that a catalog that is away loses nothing.
    async fn match_items(&self, outcome: &mut ScanOutcome) -> Result<(), Error> {
        let mut batch = item::unmatched(self.db(), Uuid::nil(), BATCH).await?;
        if batch.is_empty() {
            return Ok(());
        }
        let ctx = self.0.background.ctx().await?;
        let known = self.names(&ctx).await?;
        let matcher = tokio::task::spawn_blocking(move || Matcher::new(known));
        let matcher = Arc::new(matcher.await.map_err(Error::fault)?.map_err(Error::fault)?);
        let mut flagged = HashSet::new();
        while let Some(last) = batch.last().map(|item| item.id) {
            let matcher = Arc::clone(&matcher);
            let found = tokio::task::spawn_blocking(move || matches_of(&matcher, batch)).await.map_err(Error::fault)?;
            // Each technique once, for the first item that names it.
            let mut flags: BTreeMap<usize, Vec<String>> = BTreeMap::new();
            for (index, (_, matches)) in found.iter().enumerate() {
                for technique in matches.iter().filter(|found| found.kind == TECHNIQUE) {
                    if flagged.insert(technique.key.clone()) {
                        flags.entry(index).or_default().push(technique.key.clone());
                    }
                }
            }
            for (index, mitre_ids) in flags {
                let title = found.get(index).map(|(item, _)| item.title.as_str()).unwrap_or_default();
                let reason = format!("intel: {}", cut(title, MAX_REASON_CHARS));
                let mut request = ctx.outgoing(FlagTechniquesRequest { mitre_ids, reason });
                request.set_timeout(CATALOG_TIMEOUT);
                let answer = self.0.knowledge.clone().flag_techniques(request).await.map_err(Failure::from)?;
                outcome.flagged += answer.into_inner().flagged;
            }
            outcome.matched += count(found.iter().filter(|(_, matches)| !matches.is_empty()).count() as u64);
            let rows: Vec<(Uuid, Vec<Match>)> = found.into_iter().map(|(item, matches)| (item.id, matches)).collect();
            let mut tx = self.db().begin().await?;
            item::set_matched(&mut tx, &rows, now()).await?;
            tx.commit().await?;
            batch = item::unmatched(self.db(), last, BATCH).await?;
        }
        Ok(())
    }

    /// All that can be named in a text.
    async fn names(&self, ctx: &OpCtx) -> Result<Vec<Named>, Error> {
        let kinds = [TECHNIQUE, THREAT_ACTOR, SOFTWARE, CONTROL].map(str::to_owned).to_vec();
        let mut request = ctx.outgoing(ListNamesRequest { kinds });
        request.set_timeout(CATALOG_TIMEOUT);
        let mut answer = self.0.knowledge.clone().list_names(request).await.map_err(Failure::from)?.into_inner();
        let mut names = Vec::new();
        while let Some(message) = answer.message().await.map_err(Failure::from)? {
            names.extend(message.names.into_iter().map(named));
            if names.len() > MAX_NAMES {
                return Err(Error::fault(format!("the catalog has more than {MAX_NAMES} names")));
            }
        }
        Ok(names)
    }
}

fn scan_runs() -> Error {
    Failure::new(Code::Conflict, "an intel scan is already running").into()
}

/// Brings a feed here and reads it; nothing if its publisher has no other than the last. A reason otherwise.
async fn read_feed(feed: &Feed, limits: FetchLimits) -> Result<Option<(FeedDocument, Option<String>)>, String> {
    let told = |error: &dyn std::fmt::Display| cut(&error.to_string().replace("data source", "feed"), MAX_TITLE_CHARS);
    let location = Location::parse(&feed.url).map_err(|error| told(&error))?;
    let fetched = fetch::fetch(&location, &limits, feed.etag.as_deref(), |_, _| {}).await;
    let document = match fetched.map_err(|error| told(&error))? {
        Fetched::NotModified => return Ok(None),
        Fetched::Document(document) => document,
    };
    let etag = document.etag.clone();
    let read = tokio::task::spawn_blocking(move || {
        let mut bytes = Vec::new();
        fetch::open(&document, &|_| false, &limits)
            .map_err(|error| error.to_string())?
            .read_to_end(&mut bytes)
            .map_err(|error| error.to_string())?;
        parse_feed(&bytes).map_err(|error| error.to_string())
    });
    match read.await {
        Ok(Ok(document)) => Ok(Some((document, etag))),
        Ok(Err(problem)) => Err(told(&problem)),
        Err(error) => {
            tracing::error!(%error, feed = %feed.id, "a feed could not be read for a fault of ours");
            Err("something went wrong on our side; the log has the cause".to_owned())
        }
    }
}

/// PostgreSQL keeps no NUL, and one text must not keep all others out.
fn without_controls(entry: &mut KevEntry) {
    let texts =
        [&mut entry.vendor, &mut entry.product, &mut entry.name, &mut entry.description, &mut entry.required_action];
    for text in texts.into_iter().chain(&mut entry.cwes) {
        text.retain(|c| !c.is_control() || matches!(c, '\n' | '\t'));
    }
}

/// What a text may have at most, and nothing that steers a terminal or a database.
pub(super) fn cut(text: &str, max: usize) -> String {
    text.chars().filter(|c| !c.is_control() || matches!(c, '\n' | '\t')).take(max).collect()
}

fn of_feed(entry: FeedItem) -> NewItem {
    let url = entry.url.filter(|url| {
        url.len() <= MAX_URL_BYTES && url::Url::parse(url).is_ok_and(|url| matches!(url.scheme(), "http" | "https"))
    });
    // A longer id would be refused by an index; its hash tells it from others as well.
    let external_id = match cut(&entry.external_id, MAX_ID_CHARS + 1) {
        id if id.chars().count() <= MAX_ID_CHARS && !id.is_empty() => id,
        _ => {
            let hash: [u8; 32] = Sha256::digest(entry.external_id.as_bytes()).into();
            hash.iter().map(|byte| format!("{byte:02x}")).collect()
        }
    };
    NewItem {
        external_id,
        title: cut(&entry.title, MAX_TITLE_CHARS),
        summary: cut(&entry.summary, MAX_SUMMARY_CHARS),
        url,
        published_at: entry.published_at,
    }
}

fn of_kev(entry: kev::Listed) -> NewItem {
    let url = format!("https://nvd.nist.gov/vuln/detail/{}", entry.cve);
    let summary = format!("{} {}: {} {}", entry.vendor, entry.product, entry.description, entry.required_action);
    NewItem {
        title: cut(&format!("{}: {}", entry.cve, entry.name), MAX_TITLE_CHARS),
        summary: cut(summary.trim(), MAX_SUMMARY_CHARS),
        url: Some(url),
        published_at: entry.date_added.and_hms_opt(0, 0, 0).map(|at| at.and_utc()),
        external_id: entry.cve,
    }
}

fn matches_of(matcher: &Matcher, batch: Vec<Unmatched>) -> Vec<(Unmatched, Vec<Match>)> {
    let find = |item: &Unmatched| {
        // Each on its own line, so that no name is found across their borders.
        matcher.find(&format!("{}\n|\n{}\n|\n{}", item.title, item.summary, item.external_id))
    };
    batch.into_iter().map(|item| (find(&item), item)).map(|(matches, item)| (item, matches)).collect()
}

fn named(name: Name) -> Named {
    Named {
        kind: name.kind,
        key: name.key,
        name: name.name,
        aliases: name.aliases,
        techniques: name.mitre_technique_ids,
    }
}

fn count(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// Tells whether an entry is another than the last time.
fn content_hash(entry: &KevEntry) -> [u8; 32] {
    let content = json!([
        entry.cve_id,
        entry.vendor,
        entry.product,
        entry.name,
        entry.description,
        entry.required_action,
        entry.date_added,
        entry.due_date,
        entry.ransomware,
        entry.cwes,
    ]);
    Sha256::digest(content.to_string().as_bytes()).into()
}
