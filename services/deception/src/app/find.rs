//! Looking through all events, run by run, newest first.

use std::{collections::HashMap, ops::Range, sync::Arc};

use aegis_db::Db;
use memchr::memmem::Finder;
use tokio::sync::OwnedSemaphorePermit;

use super::live::Live;
use crate::{
    domain::{
        bits::Bits,
        index::{Run, SHARDS, add_places, decode_times, shard, term, words_containing},
        search::{Key, MIN_SESSION, Search},
    },
    error::Error,
    store::runs::{self, Stored},
};
/// Runs that are looked at first; then four times as many, and so on.
const FIRST: usize = 2;
/// Runs that are looked at at once, at most.
const MOST: usize = 128;
/// Runs whose words are in memory at once.
const WORDS: usize = 8;
/// With more parts of a run than this, all are read.
const FEW: usize = 48;

/// What is looked for.
#[derive(Clone)]
pub(crate) struct Plan {
    terms: Vec<u64>,
    words: Vec<Word>,
    /// Microseconds.
    pub(crate) during: Range<i64>,
    /// Times are needed of runs that reach over the border of such steps, microseconds.
    pub(crate) steps: Option<i64>,
}

#[derive(Clone)]
struct Word {
    finder: Finder<'static>,
    /// The id of a session, which is found whole only.
    session: Option<u64>,
}

/// Events of a run that hold.
pub(crate) struct Hit {
    pub(crate) first_id: i64,
    pub(crate) bits: Bits,
    /// When the first of them may have happened, microseconds.
    pub(crate) min_at: i64,
    /// When each event of the run happened, where [`Plan::steps`] needs it.
    pub(crate) times: Option<Vec<i64>>,
}

impl Plan {
    pub(crate) fn new(search: &Search, during: Range<i64>) -> Plan {
        let whole = |text: &str| text.len() >= MIN_SESSION && !text.contains(char::is_whitespace);
        let session = |text: &str| whole(text).then(|| term(&Key::Session, text));
        let words = search.anywhere.iter().flat_map(|text| {
            text.split_whitespace()
                .map(|word| Word { finder: Finder::new(word).into_owned(), session: session(text) })
                .collect::<Vec<_>>()
        });
        Plan {
            terms: search.keyed.iter().map(|(key, value)| term(key, value)).collect(),
            words: words.collect(),
            during,
            steps: None,
        }
    }

    /// Whether all between two moments holds.
    fn whole(&self, min_at: i64, max_at: i64) -> bool {
        self.during.start <= min_at && max_at < self.during.end
    }

    fn overlaps(&self, min_at: i64, max_at: i64) -> bool {
        min_at < self.during.end && self.during.start <= max_at
    }

    fn needs_times(&self, min_at: i64, max_at: i64) -> bool {
        let apart = self.steps.is_some_and(|step| min_at.div_euclid(step) != max_at.div_euclid(step));
        apart || !self.whole(min_at, max_at)
    }

    /// What holds of a run in memory.
    fn look(&self, run: &Run) -> Option<Hit> {
        let (min_at, max_at) = run.span();
        if !self.overlaps(min_at, max_at) {
            return None;
        }
        let mut bits = Bits::first(run.len());
        for term in &self.terms {
            bits.and(&run.places(*term));
        }
        for word in &self.words {
            if bits.is_empty() {
                return None;
            }
            let mut found = run.containing(&word.finder);
            if let Some(session) = word.session {
                found.or(&run.places(session));
            }
            bits.and(&found);
        }
        let times = self.needs_times(min_at, max_at).then(|| run.times().to_vec());
        self.narrow(Hit { first_id: run.first_id(), bits, min_at, times }, max_at)
    }

    /// Without what happened at other times.
    fn narrow(&self, mut hit: Hit, max_at: i64) -> Option<Hit> {
        if !self.whole(hit.min_at, max_at) {
            let times = hit.times.as_deref().unwrap_or_default();
            let during = &self.during;
            hit.bits.retain(|place| times.get(place).is_some_and(|at| during.contains(at)));
        }
        (!hit.bits.is_empty()).then_some(hit)
    }
}

/// Goes through everything that was there when it began.
pub(crate) struct Walk {
    db: Db,
    live: Arc<Live>,
    plan: Plan,
    memory: Option<Vec<Hit>>,
    stored: Arc<Vec<Stored>>,
    /// Stored runs that are not looked at yet are before this.
    left: usize,
    step: usize,
    scan: Option<OwnedSemaphorePermit>,
}

impl Walk {
    pub(crate) async fn begin(db: &Db, live: &Arc<Live>, plan: Plan) -> Result<Walk, Error> {
        let snapshot = live.snapshot(|run| plan.look(run)).await?;
        Ok(Walk {
            db: db.clone(),
            live: Arc::clone(live),
            plan,
            memory: Some(snapshot.memory),
            left: snapshot.stored.len(),
            stored: snapshot.stored,
            step: FIRST,
            scan: None,
        })
    }

    /// The next ones that hold, newest first; none at the end.
    pub(crate) async fn next(&mut self) -> Result<Option<Vec<Hit>>, Error> {
        if let Some(memory) = self.memory.take() {
            return Ok(Some(memory));
        }
        if self.left == 0 {
            return Ok(None);
        }
        let mut runs = Vec::new();
        while runs.len() < self.step && self.left > 0 {
            self.left -= 1;
            let run = self.stored.get(self.left).filter(|run| self.plan.overlaps(run.min_at, run.max_at));
            runs.extend(run.copied());
        }
        let most = if self.plan.words.is_empty() { MOST } else { 2 * WORDS };
        self.step = (self.step * 4).min(most);
        self.look(runs).await.map(Some)
    }

    /// Looks at stored runs; newest first.
    async fn look(&mut self, runs: Vec<Stored>) -> Result<Vec<Hit>, Error> {
        let mut left: Vec<(Stored, Bits)> = runs.into_iter().map(|run| (run, Bits::first(run.len()))).collect();
        for term in &self.plan.terms {
            let (Some((newest, _)), Some((oldest, _))) = (left.first(), left.last()) else { break };
            let parts = runs::terms(&self.db, shard(*term), oldest.run, newest.run).await?;
            let parts: HashMap<i64, Vec<u8>> = parts.into_iter().collect();
            left.retain_mut(|(run, bits)| {
                let mut places = Bits::none();
                if let Some(part) = parts.get(&run.run) {
                    add_places(part, *term, &mut places);
                }
                bits.and(&places);
                !bits.is_empty()
            });
        }
        if !self.plan.words.is_empty() && !left.is_empty() {
            if self.scan.is_none() {
                self.scan = Arc::clone(&self.live.scans).acquire_owned().await.ok();
            }
            left = self.look_through_words(left).await?;
        }
        self.with_times(left).await
    }

    async fn look_through_words(&self, left: Vec<(Stored, Bits)>) -> Result<Vec<(Stored, Bits)>, Error> {
        let mut hold = Vec::new();
        let mut left = left.into_iter().peekable();
        while left.peek().is_some() {
            let some: Vec<(Stored, Bits)> = left.by_ref().take(WORDS).collect();
            let ids: Vec<i64> = some.iter().map(|(run, _)| run.run).collect();
            let mut words: HashMap<i64, Vec<u8>> = runs::words(&self.db, &ids).await?.into_iter().collect();
            for (run, mut bits) in some {
                let words = words.remove(&run.run).unwrap_or_default();
                let found: Vec<Vec<u64>> = self.terms_containing(&words);
                if found.iter().any(Vec::is_empty) {
                    continue;
                }
                let mut shards: Vec<usize> = found.iter().flatten().map(|term| shard(*term)).collect();
                shards.sort_unstable();
                shards.dedup();
                if shards.len() > FEW {
                    shards = (0..SHARDS).collect();
                }
                let parts: HashMap<usize, Vec<u8>> =
                    runs::terms_of(&self.db, run.run, &shards).await?.into_iter().collect();
                for terms in found {
                    let mut places = Bits::none();
                    for term in terms {
                        if let Some(part) = parts.get(&shard(term)) {
                            add_places(part, term, &mut places);
                        }
                    }
                    bits.and(&places);
                }
                if !bits.is_empty() {
                    hold.push((run, bits));
                }
            }
            tokio::task::yield_now().await;
        }
        Ok(hold)
    }

    /// For each word that is looked for, the terms that can be it.
    fn terms_containing(&self, words: &[u8]) -> Vec<Vec<u64>> {
        let mut found = Vec::with_capacity(self.plan.words.len());
        for word in &self.plan.words {
            let mut terms = words_containing(words, &word.finder);
            terms.extend(word.session);
            let none = terms.is_empty();
            found.push(terms);
            if none {
                break;
            }
        }
        found
    }

    async fn with_times(&self, left: Vec<(Stored, Bits)>) -> Result<Vec<Hit>, Error> {
        let wanted = left.iter().filter(|(run, _)| self.plan.needs_times(run.min_at, run.max_at));
        let wanted: Vec<i64> = wanted.map(|(run, _)| run.run).collect();
        let mut times: HashMap<i64, Vec<u8>> = HashMap::new();
        for wanted in wanted.chunks(MOST) {
            times.extend(runs::times(&self.db, wanted).await?);
        }
        let hits = left.into_iter().filter_map(|(run, bits)| {
            let times = times.remove(&run.run).map(|bytes| decode_times(&bytes));
            self.plan.narrow(Hit { first_id: run.first_id, bits, min_at: run.min_at, times }, run.max_at)
        });
        Ok(hits.collect())
    }
}
