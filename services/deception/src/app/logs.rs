//! Events for readers: pages, histograms, figures.

use std::{
    collections::BTreeMap,
    ops::Range,
    time::{Duration, Instant},
};

use aegis_auth::OpCtx;
use aegis_db::{now, page};
use aegis_error::Failure;
use chrono::{DateTime, TimeDelta, Utc};

use super::{
    App,
    find::{Hit, Plan, Walk},
};
use crate::{
    domain::{bits::Bits, event::Log, search::Search},
    error::Error,
    store::{self, logs},
};

/// Events that a filter finds are counted up to this.
pub(crate) const MAX_COUNTED: i64 = 10_000;
/// Buckets of a histogram.
const MAX_BUCKETS: i64 = 10_000;
/// Events that one search reads where the index alone does not say whether they hold.
const MAX_READ: usize = 20_000;
/// The same, at once.
const READ: usize = 500;
/// Microseconds of a minute.
const MINUTE: i64 = 60_000_000;
/// Later than any event, in microseconds, and a whole minute.
const NEVER: i64 = 253_402_300_800_000_000;
/// How long figures of everything are told again.
const KEEP: Duration = Duration::from_secs(1);

/// Which events somebody wants.
#[derive(Clone, Debug, Default)]
pub(crate) struct Filter {
    pub(crate) search: Search,
    pub(crate) start: Option<DateTime<Utc>>,
    /// That moment too.
    pub(crate) end: Option<DateTime<Utc>>,
}

impl Filter {
    /// Reads what somebody typed.
    pub(crate) fn new(search: &str, start: Option<DateTime<Utc>>, end: Option<DateTime<Utc>>) -> Result<Self, Failure> {
        let mut fields = aegis_error::Fields::default();
        let search = Search::parse(search).unwrap_or_else(|problem| {
            fields.add("search", problem);
            Search::default()
        });
        let backwards = matches!((start, end), (Some(start), Some(end)) if end < start);
        fields.check(!backwards, "end_time", "must not be before start_time");
        fields.finish()?;
        Ok(Filter { search, start, end })
    }

    /// Whether it holds for everything.
    pub(crate) fn is_empty(&self) -> bool {
        self.search.is_empty() && self.start.is_none() && self.end.is_none()
    }

    /// Whether it holds for an event.
    pub(crate) fn matches(&self, log: &Log) -> bool {
        let timed = self.start.is_some() || self.end.is_some();
        (!timed || self.during().contains(&log.at.timestamp_micros())) && self.search.matches(log)
    }

    /// Microseconds.
    fn during(&self) -> Range<i64> {
        let start = self.start.map_or(0, |at| at.timestamp_micros().clamp(0, NEVER));
        let end = self.end.map_or(NEVER, |at| at.timestamp_micros().saturating_add(1).clamp(0, NEVER));
        start..end
    }

    /// Whether the index alone does not say what holds: it has words, and this has texts of several.
    fn must_be_read(&self) -> bool {
        self.search.anywhere.iter().any(|text| text.contains(char::is_whitespace))
    }
}

/// A page of events, newest first.
#[derive(Debug)]
pub(crate) struct LogPage {
    pub(crate) logs: Vec<Log>,
    pub(crate) next_page_token: String,
    /// Up to [`MAX_COUNTED`] with a search; exact without one.
    pub(crate) total: i64,
}

/// The events of a stretch of time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Bucket {
    pub(crate) start: DateTime<Utc>,
    pub(crate) count: i64,
}

/// Figures of everything.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Stats {
    pub(crate) total_logs: i64,
    pub(crate) unique_attackers: i64,
    pub(crate) active_deckies: i64,
    pub(crate) deployed_deckies: i64,
}

/// The last figures that were told, for a moment.
#[derive(Debug, Default)]
pub(crate) struct KeptStats(tokio::sync::Mutex<Option<(Instant, Stats)>>);

/// Where a page begins, in its token: before this id; and how many there are in all.
type Token = (i64, i64);

impl App {
    /// A page of events, newest first, in the order in which they came in. Everyone who is signed in.
    pub(crate) async fn list_logs(
        &self,
        ctx: &OpCtx,
        filter: &Filter,
        page_size: i32,
        page_token: &str,
        skip: i32,
    ) -> Result<LogPage, Error> {
        ctx.user()?;
        let limit = page::size(page_size, 50, 1_000)?;
        let skip = page::skip(skip)?;
        let after: Option<Token> = page::key(page_token)?;
        let (before, counted) = after.unzip();
        if filter.is_empty() {
            let head = logs::head(&self.db).await?;
            // Ids have no gaps.
            let newest = before.map_or(head.last_id, |before| before.saturating_sub(1)).saturating_sub(skip);
            let logs = logs::up_to(&self.db, newest, head.purged_id, limit).await?;
            return Ok(paged(logs, limit, head.total(), |log| log.id > head.purged_id + 1));
        }
        let wanted = usize::try_from(limit).unwrap_or(0);
        let total = match counted {
            Some(total) => Some(total),
            None if filter.search.is_empty() => Some(self.count(filter).await?),
            None => None,
        };
        let (ids, found) = self
            .find(filter, before, usize::try_from(skip).unwrap_or(0), wanted, total.map_or(MAX_COUNTED, |_| 0))
            .await?;
        let mut logs = logs::by_ids(&self.db, &ids).await?;
        // Two texts with one hash: what one in 10^19 would see.
        logs.retain(|log| filter.matches(log));
        let full = ids.len() == wanted;
        Ok(paged(logs, limit, total.unwrap_or(found.min(MAX_COUNTED)), |_| full))
    }

    /// Ids of the events that hold, newest first, and how many they are, counted up to `count_to` at least.
    pub(super) async fn find(
        &self,
        filter: &Filter,
        before: Option<i64>,
        mut skip: usize,
        limit: usize,
        count_to: i64,
    ) -> Result<(Vec<i64>, i64), Error> {
        let plan = Plan::new(&filter.search, filter.during());
        let mut walk = Walk::begin(&self.db, &self.live, plan).await?;
        let (mut ids, mut total, mut read) = (Vec::new(), 0, 0);
        while let Some(hits) = walk.next().await? {
            for hit in hits {
                if ids.len() >= limit && total >= count_to {
                    return Ok((ids, total));
                }
                let hit = self.verified(filter, hit, &mut read).await?;
                total += hit.bits.count();
                if ids.len() >= limit {
                    continue;
                }
                let found = hit.bits.newest_first().filter_map(|place| Some(hit.first_id + i64::try_from(place).ok()?));
                for id in found.filter(|id| before.is_none_or(|before| *id < before)) {
                    if skip > 0 {
                        skip -= 1;
                    } else if ids.len() < limit {
                        ids.push(id);
                    } else {
                        break;
                    }
                }
            }
        }
        Ok((ids, total))
    }

    /// Without those that have all words, but not as they were asked for.
    async fn verified(&self, filter: &Filter, mut hit: Hit, read: &mut usize) -> Result<Hit, Error> {
        if !filter.must_be_read() {
            return Ok(hit);
        }
        let places: Vec<usize> = hit.bits.newest_first().collect();
        for places in places.chunks(READ) {
            if *read >= MAX_READ {
                break;
            }
            *read += places.len();
            let id = |place: &usize| hit.first_id + i64::try_from(*place).unwrap_or(0);
            let ids: Vec<i64> = places.iter().map(id).collect();
            let mut holds = Bits::none();
            for log in logs::by_ids(&self.db, &ids).await?.iter().filter(|log| filter.matches(log)) {
                holds.set(usize::try_from(log.id - hit.first_id).unwrap_or(usize::MAX));
            }
            let (newest, oldest) = (places.first().copied().unwrap_or(0), places.last().copied().unwrap_or(0));
            let looked_at = oldest..=newest;
            hit.bits.retain(|place| !looked_at.contains(&place) || holds.has(place));
        }
        Ok(hit)
    }

    /// How many events there were at what time. Everyone who is signed in.
    pub(crate) async fn log_histogram(
        &self,
        ctx: &OpCtx,
        filter: &Filter,
        interval_minutes: i32,
    ) -> Result<Vec<Bucket>, Error> {
        ctx.user()?;
        let minutes = match interval_minutes {
            0 => 15,
            minutes if minutes >= 1 => i64::from(minutes),
            _ => return Err(Failure::invalid("interval_minutes", "must be 1 or more").into()),
        };
        self.histogram(filter, minutes).await
    }

    pub(super) async fn histogram(&self, filter: &Filter, minutes: i64) -> Result<Vec<Bucket>, Error> {
        let step = minutes * MINUTE;
        let during = filter.during();
        let now = now().timestamp_micros();
        let first = filter.start.map(|_| during.start.div_euclid(step));
        let last = filter.end.map(|_| (during.end - 1).max(during.start).div_euclid(step));
        let too_many = |first: i64, last: i64| last - first >= MAX_BUCKETS;
        if first.is_some_and(|first| too_many(first, last.unwrap_or(now.div_euclid(step)))) {
            let problem = format!("makes more than {MAX_BUCKETS} buckets of that time; it must be longer");
            return Err(Failure::invalid("interval_minutes", problem).into());
        }
        let counts = self.counts(filter, step, MAX_BUCKETS).await?;
        let seen = |count: Option<(&i64, &i64)>| count.map(|(at, _)| *at);
        let newest = seen(counts.last_key_value());
        // Up to now where only the beginning is given, and where a clock is ahead, further.
        let open_end = first.map(|_| now.div_euclid(step)).into_iter().chain(newest).max();
        let Some(last) = last.or(open_end) else { return Ok(Vec::new()) };
        let Some(first) = first.or(seen(counts.first_key_value())) else { return Ok(Vec::new()) };
        let first = first.max(last - MAX_BUCKETS + 1);
        let bucket = |at: i64| {
            let start = DateTime::from_timestamp_micros(at * step).unwrap_or_default();
            Bucket { start, count: counts.get(&at).copied().unwrap_or(0) }
        };
        Ok((first..=last).map(bucket).collect())
    }

    /// How many hold in each step since 1970; the newest ones, where there are more than `limit` steps with any.
    async fn counts(&self, filter: &Filter, step: i64, limit: i64) -> Result<BTreeMap<i64, i64>, Error> {
        let during = filter.during();
        if !filter.search.is_empty() {
            return self.count_hits(filter, during, step).await;
        }
        // Whole minutes are counted as they come in; the rest is what is before and after them.
        let minutes = during.start.div_euclid(MINUTE) + i64::from(during.start % MINUTE != 0)..during.end / MINUTE;
        if minutes.is_empty() {
            return self.count_hits(filter, during, step).await;
        }
        let mut counts = BTreeMap::new();
        for (at, count) in logs::per_minutes(&self.db, minutes.start, minutes.end, step / MINUTE, limit).await? {
            counts.insert(at, count);
        }
        for edge in [during.start..minutes.start * MINUTE, minutes.end * MINUTE..during.end] {
            if !edge.is_empty() {
                for (at, count) in self.count_hits(filter, edge, step).await? {
                    *counts.entry(at).or_default() += count;
                }
            }
        }
        Ok(counts)
    }

    async fn count_hits(&self, filter: &Filter, during: Range<i64>, step: i64) -> Result<BTreeMap<i64, i64>, Error> {
        let mut plan = Plan::new(&filter.search, during);
        plan.steps = Some(step);
        let mut walk = Walk::begin(&self.db, &self.live, plan).await?;
        let (mut counts, mut read) = (BTreeMap::<i64, i64>::new(), 0);
        while let Some(hits) = walk.next().await? {
            for hit in hits {
                let hit = self.verified(filter, hit, &mut read).await?;
                match &hit.times {
                    None => *counts.entry(hit.min_at.div_euclid(step)).or_default() += hit.bits.count(),
                    Some(times) => {
                        for at in hit.bits.newest_first().filter_map(|place| times.get(place)) {
                            *counts.entry(at.div_euclid(step)).or_default() += 1;
                        }
                    }
                }
            }
        }
        counts.retain(|_, count| *count > 0);
        Ok(counts)
    }

    /// How many events there were at a time, exactly.
    async fn count(&self, filter: &Filter) -> Result<i64, Error> {
        Ok(self.counts(filter, NEVER, 1).await?.values().sum())
    }

    /// Figures of everything. Everyone who is signed in.
    pub(crate) async fn log_stats(&self, ctx: &OpCtx) -> Result<Stats, Error> {
        ctx.user()?;
        self.stats().await
    }

    pub(crate) async fn stats(&self) -> Result<Stats, Error> {
        let total_logs = logs::head(&self.db).await?.total();
        let mut kept = self.stats.0.lock().await;
        if let Some((at, stats)) = *kept
            && at.elapsed() < KEEP
        {
            return Ok(Stats { total_logs, ..stats });
        }
        let unique_attackers = store::follow::attackers(&self.db).await?;
        let (deployed_deckies, active_deckies) = store::fleet::counts(&self.db, now()).await?;
        let stats = Stats { total_logs, unique_attackers, active_deckies, deployed_deckies };
        *kept = Some((Instant::now(), stats));
        Ok(stats)
    }

    /// The histogram with which a stream begins: of what it is about, or of the last day.
    pub(super) async fn recent_histogram(&self, filter: &Filter) -> Result<Vec<Bucket>, Error> {
        let mut filter = filter.clone();
        if filter.start.is_none() {
            filter.start = Some(filter.end.unwrap_or_else(now) - TimeDelta::days(1));
        }
        let whole = filter.end.unwrap_or_else(now).signed_duration_since(filter.start.unwrap_or_else(now));
        let minutes = (whole.num_minutes() / (MAX_BUCKETS / 10)).max(15);
        self.histogram(&filter, minutes).await
    }
}

fn paged(logs: Vec<Log>, limit: i64, total: i64, more: impl Fn(&Log) -> bool) -> LogPage {
    let full = i64::try_from(logs.len()).unwrap_or(0) == limit;
    let last = logs.last().filter(|last| full && more(last));
    let next_page_token = last.map(|last| page::token::<Token>(&(last.id, total))).unwrap_or_default();
    LogPage { logs, next_page_token, total }
}
