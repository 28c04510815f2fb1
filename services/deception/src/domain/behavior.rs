//! How an attacker behaves in time: the gaps between its events, and what they say of it.
//!
//! Not all events are read again for each new one. Sums are exact whatever their number. The median is exact up to
//! [`EXACT_GAPS`] gaps; from then on they are counted in buckets, each two percent wider than the one before, so that the
//! median is right within one percent. An event that comes late finds its place among the latest [`RECENT`]; one that is
//! older than those, and not older than the first, is counted and leaves the gaps as they are.

use std::collections::{BTreeMap, VecDeque};

use serde::{Deserialize, Serialize};

/// Up to so many gaps are kept each.
pub(crate) const EXACT_GAPS: usize = 4_096;
/// So many times are kept, for events that come late.
pub(crate) const RECENT: usize = 128;

/// How much wider a bucket is than the one before.
const WIDER: f64 = 1.02;
/// What the encoded form begins with.
const FORMAT: u8 = 1;
const MICROS: f64 = 1e6;

/// When an attacker did something. Times are microseconds since 1970.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Timing {
    /// All events.
    events: u64,
    /// Those whose times are in the gaps.
    timed: u64,
    first: i64,
    last: i64,
    /// Sum of the squares of the gaps.
    squares: u128,
    gaps: Gaps,
    /// The latest times, in order; all events since the first of them are among them.
    recent: VecDeque<i64>,
}

#[derive(Clone, Debug, PartialEq)]
enum Gaps {
    /// Each of them, the smallest first.
    Each(Vec<u64>),
    /// How many are in each bucket, and the ends.
    Counted { buckets: BTreeMap<u16, u64>, min: u64, max: u64 },
}

impl Default for Gaps {
    fn default() -> Self {
        Gaps::Each(Vec::new())
    }
}

/// What the gaps between events are like. Seconds; nothing of gaps with fewer than two events.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Stats {
    pub(crate) event_count: u64,
    pub(crate) duration_s: f64,
    pub(crate) mean_iat_s: Option<f64>,
    pub(crate) median_iat_s: Option<f64>,
    /// Of the population: these are all the gaps that there are.
    pub(crate) stdev_iat_s: Option<f64>,
    pub(crate) min_iat_s: Option<f64>,
    pub(crate) max_iat_s: Option<f64>,
    /// Standard deviation over mean; 0 where all happens at one moment.
    pub(crate) cv: Option<f64>,
}

/// What the timing looks like.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Class {
    #[default]
    Unknown,
    SlowScan,
    Scanning,
    BruteForce,
    Beaconing,
    Interactive,
    Mixed,
}

impl Class {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Class::Unknown => "unknown",
            Class::SlowScan => "slow_scan",
            Class::Scanning => "scanning",
            Class::BruteForce => "brute_force",
            Class::Beaconing => "beaconing",
            Class::Interactive => "interactive",
            Class::Mixed => "mixed",
        }
    }

    /// The first class that fits what was done on so many services.
    pub(crate) fn of(stats: &Stats, services: usize) -> Class {
        let events = stats.event_count;
        let (Some(mean), Some(cv)) = (stats.mean_iat_s, stats.cv) else { return Class::Unknown };
        if events < 3 {
            Class::Unknown
        } else if services >= 2 && mean >= 10.0 && events >= 4 {
            Class::SlowScan
        } else if (services >= 3 && mean < 10.0) || (services >= 2 && mean < 2.0) {
            Class::Scanning
        } else if services == 1 && events >= 8 && mean < 5.0 && cv < 0.6 {
            Class::BruteForce
        } else if cv < 0.35 && mean >= 5.0 && events >= 4 {
            Class::Beaconing
        } else if cv >= 0.5 && mean < 5.0 && events >= 6 {
            Class::Interactive
        } else {
            Class::Mixed
        }
    }
}

impl Timing {
    /// How many events there were.
    pub(crate) fn events(&self) -> u64 {
        self.events
    }

    /// The earliest and the latest event; nothing where there was none.
    pub(crate) fn span(&self) -> Option<(i64, i64)> {
        (self.events > 0).then_some((self.first, self.last))
    }

    /// Roughly the bytes that it takes in memory.
    pub(crate) fn weight(&self) -> usize {
        let gaps = match &self.gaps {
            Gaps::Each(gaps) => gaps.len() * 8,
            Gaps::Counted { buckets, .. } => buckets.len() * 16,
        };
        128 + gaps + self.recent.len() * 8
    }

    /// Takes an event in that happened at `at`.
    pub(crate) fn add(&mut self, at: i64) {
        self.events += 1;
        if self.timed == 0 {
            (self.first, self.last) = (at, at);
            self.recent.push_back(at);
        } else if at >= self.last {
            self.insert_gap(self.last.abs_diff(at));
            self.last = at;
            self.recent.push_back(at);
        } else if at < self.first {
            self.insert_gap(self.first.abs_diff(at));
            self.first = at;
            // Only as long as nothing was let go are all times since the first there.
            if self.recent.len() as u64 == self.timed && self.recent.len() < RECENT {
                self.recent.push_front(at);
            }
        } else {
            // The first of them is not later than `at` unless the event is too late.
            let place = self.recent.partition_point(|earlier| *earlier <= at);
            let neighbours =
                place.checked_sub(1).and_then(|before| self.recent.get(before).zip(self.recent.get(place)));
            let Some((&before, &after)) = neighbours else { return };
            self.remove_gap(before.abs_diff(after));
            self.insert_gap(before.abs_diff(at));
            self.insert_gap(at.abs_diff(after));
            self.recent.insert(place, at);
        }
        self.timed += 1;
        if self.recent.len() > RECENT {
            self.recent.pop_front();
        }
    }

    fn insert_gap(&mut self, gap: u64) {
        self.squares = self.squares.saturating_add(square(gap));
        match &mut self.gaps {
            Gaps::Each(gaps) => {
                gaps.insert(gaps.partition_point(|other| *other < gap), gap);
                if gaps.len() > EXACT_GAPS {
                    let mut buckets = BTreeMap::new();
                    for gap in gaps.iter() {
                        *buckets.entry(bucket(*gap)).or_insert(0) += 1;
                    }
                    let (min, max) = (gaps.first().copied().unwrap_or(0), gaps.last().copied().unwrap_or(0));
                    self.gaps = Gaps::Counted { buckets, min, max };
                }
            }
            Gaps::Counted { buckets, min, max } => {
                *buckets.entry(bucket(gap)).or_insert(0) += 1;
                (*min, *max) = ((*min).min(gap), (*max).max(gap));
            }
        }
    }

    /// Takes a gap out that two others take the place of.
    fn remove_gap(&mut self, gap: u64) {
        self.squares = self.squares.saturating_sub(square(gap));
        match &mut self.gaps {
            Gaps::Each(gaps) => {
                if let Ok(place) = gaps.binary_search(&gap) {
                    gaps.remove(place);
                }
            }
            Gaps::Counted { buckets, max, .. } => {
                let bucket = bucket(gap);
                if let Some(count) = buckets.get_mut(&bucket) {
                    *count = count.saturating_sub(1);
                    if *count == 0 {
                        buckets.remove(&bucket);
                    }
                }
                // Which one is the largest now is known as well as its bucket is.
                if gap == *max
                    && let Some((&last, _)) = buckets.last_key_value()
                {
                    *max = if last == bucket { *max } else { middle(last) as u64 };
                }
            }
        }
    }

    /// What the gaps are like.
    pub(crate) fn stats(&self) -> Stats {
        let sum = self.first.abs_diff(self.last);
        let mut stats = Stats { event_count: self.events, duration_s: seconds(sum as f64), ..Stats::default() };
        let n = self.timed.saturating_sub(1);
        if n == 0 {
            return stats;
        }
        let mean = sum as f64 / n as f64;
        let stdev = variance(n, sum, self.squares).sqrt();
        let (min, max) = match &self.gaps {
            Gaps::Each(gaps) => (gaps.first().copied().unwrap_or(0), gaps.last().copied().unwrap_or(0)),
            Gaps::Counted { min, max, .. } => (*min, *max),
        };
        stats.mean_iat_s = Some(seconds(mean));
        stats.median_iat_s = Some(seconds(self.median()));
        stats.stdev_iat_s = Some(seconds(stdev));
        stats.min_iat_s = Some(seconds(min as f64));
        stats.max_iat_s = Some(seconds(max as f64));
        stats.cv = Some(if mean > 0.0 { round(stdev / mean) } else { 0.0 });
        stats
    }

    fn median(&self) -> f64 {
        match &self.gaps {
            Gaps::Each(gaps) => {
                let at = |place: usize| gaps.get(place).copied().unwrap_or(0) as f64;
                let half = gaps.len() / 2;
                if gaps.len() % 2 == 1 { at(half) } else { f64::midpoint(at(half.saturating_sub(1)), at(half)) }
            }
            Gaps::Counted { buckets, min, max } => {
                let total: u64 = buckets.values().sum();
                let at = |place: u64| {
                    let mut before = 0;
                    let found = buckets.iter().find(|(_, count)| {
                        before += **count;
                        before > place
                    });
                    found.map_or(0.0, |(bucket, _)| middle(*bucket)).clamp(*min as f64, *max as f64)
                };
                let half = total / 2;
                if total % 2 == 1 { at(half) } else { f64::midpoint(at(half.saturating_sub(1)), at(half)) }
            }
        }
    }

    /// The form in which it is stored.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut bytes = vec![FORMAT];
        for value in
            [u128::from(self.events), u128::from(self.timed), signed(self.first), signed(self.last), self.squares]
        {
            put(&mut bytes, value);
        }
        put(&mut bytes, self.recent.len() as u128);
        let mut before = self.first;
        for at in &self.recent {
            put(&mut bytes, u128::from(before.abs_diff(*at)));
            before = *at;
        }
        match &self.gaps {
            Gaps::Each(gaps) => {
                put(&mut bytes, 0);
                put(&mut bytes, gaps.len() as u128);
                let mut before = 0;
                for gap in gaps {
                    put(&mut bytes, u128::from(gap - before));
                    before = *gap;
                }
            }
            Gaps::Counted { buckets, min, max } => {
                for value in [1, u128::from(*min), u128::from(*max), buckets.len() as u128] {
                    put(&mut bytes, value);
                }
                for (bucket, count) in buckets {
                    put(&mut bytes, u128::from(*bucket));
                    put(&mut bytes, u128::from(*count));
                }
            }
        }
        bytes
    }

    /// What [`Timing::encode`] wrote.
    pub(crate) fn decode(bytes: &[u8]) -> Option<Timing> {
        let (&format, mut rest) = bytes.split_first()?;
        if format != FORMAT {
            return None;
        }
        let rest = &mut rest;
        let mut timing = Timing {
            events: take_u64(rest)?,
            timed: take_u64(rest)?,
            first: unsigned(take(rest)?)?,
            last: unsigned(take(rest)?)?,
            squares: take(rest)?,
            ..Timing::default()
        };
        let times = usize::try_from(take(rest)?).ok().filter(|times| *times <= RECENT)?;
        let mut before = timing.first;
        for _ in 0..times {
            before = before.checked_add_unsigned(take_u64(rest)?)?;
            timing.recent.push_back(before);
        }
        timing.gaps = match take(rest)? {
            0 => {
                let count = usize::try_from(take(rest)?).ok().filter(|count| *count <= EXACT_GAPS)?;
                let mut gaps = Vec::with_capacity(count);
                let mut before = 0_u64;
                for _ in 0..count {
                    before = before.checked_add(take_u64(rest)?)?;
                    gaps.push(before);
                }
                Gaps::Each(gaps)
            }
            1 => {
                let (min, max) = (take_u64(rest)?, take_u64(rest)?);
                let count = take(rest)?;
                let mut buckets = BTreeMap::new();
                for _ in 0..count {
                    buckets.insert(u16::try_from(take(rest)?).ok()?, take_u64(rest)?);
                }
                // Nobody wrote what cannot be computed with.
                buckets.values().try_fold(0_u64, |total, count| total.checked_add(*count))?;
                if min > max {
                    return None;
                }
                Gaps::Counted { buckets, min, max }
            }
            _ => return None,
        };
        rest.is_empty().then_some(timing)
    }
}

fn square(gap: u64) -> u128 {
    u128::from(gap) * u128::from(gap)
}

/// The variance of `n` values from their sum and the sum of their squares; whole numbers as far as they go, as what is
/// all alike is to have none.
fn variance(n: u64, sum: u64, squares: u128) -> f64 {
    let wide = u128::from(n);
    let exact = wide.checked_mul(squares).map(|scaled| scaled.saturating_sub(square(sum)));
    match exact {
        Some(exact) => exact as f64 / (n as f64 * n as f64),
        None => (squares as f64 / n as f64 - (sum as f64 / n as f64).powi(2)).max(0.0),
    }
}

/// Which bucket a gap is in. One of nothing has its own.
fn bucket(gap: u64) -> u16 {
    if gap == 0 {
        return 0;
    }
    // At most ln(2^64) / ln(1.02) = 2,240.
    1 + ((gap as f64).ln() / WIDER.ln()) as u16
}

/// The middle of a bucket.
fn middle(bucket: u16) -> f64 {
    if bucket == 0 { 0.0 } else { WIDER.powf(f64::from(bucket) - 0.5) }
}

fn seconds(micros: f64) -> f64 {
    round(micros / MICROS)
}

/// To the microsecond: what comes after is noise of the computation.
fn round(value: f64) -> f64 {
    (value * MICROS).round() / MICROS
}

fn signed(value: i64) -> u128 {
    u128::from(((value << 1) ^ (value >> 63)).cast_unsigned())
}

fn unsigned(value: u128) -> Option<i64> {
    let value = u64::try_from(value).ok()?;
    Some((value >> 1).cast_signed() ^ -((value & 1).cast_signed()))
}

fn put(bytes: &mut Vec<u8>, mut value: u128) {
    while value >= 0x80 {
        bytes.push((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    bytes.push(value as u8);
}

fn take(bytes: &mut &[u8]) -> Option<u128> {
    let mut value = 0_u128;
    for shift in (0..128).step_by(7) {
        let (&byte, rest) = bytes.split_first()?;
        *bytes = rest;
        value |= u128::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

fn take_u64(bytes: &mut &[u8]) -> Option<u64> {
    u64::try_from(take(bytes)?).ok()
}

#[cfg(test)]
mod tests;
