//! The newest events in memory: sorted into the run that grows, and told to all who watch.
//!
//! Every process of the service does this for itself, from what its own writers hand over or from the database. A run
//! that is full is written down by whoever comes first; what it says follows from the events alone.

use std::{
    collections::VecDeque,
    sync::{
        Arc, Mutex, PoisonError, RwLock,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use aegis_db::Db;
use tokio::{
    sync::{Notify, Semaphore, broadcast},
    time::Instant,
};
use tokio_util::sync::CancellationToken;

use super::Wake;
use crate::{
    domain::{event::Log, index::Run},
    error::Error,
    store::{
        logs::{self, Head, MAX_READ},
        runs::{self, Stored},
    },
};

/// Events that wait to be sorted in; when there are more, they are read from the database.
const MAX_FED: usize = 60_000;
/// Events that are sorted in, and told, at once.
const PIECE: usize = 500;
/// Pieces that a watcher may be behind.
const BEHIND: usize = 256;
/// Full runs that wait to be written.
const MAX_FULL: usize = 3;
/// Events of other processes are looked for this often.
const POLL: Duration = Duration::from_millis(100);
/// Watchers are told of events at most this often.
const PACE: Duration = Duration::from_millis(20);
/// Searches that look through the words of stored runs at a time.
const SCANS: usize = 2;

/// Events in a row.
pub(crate) type Piece = Arc<[Arc<Log>]>;

/// The newest events.
pub(crate) struct Live {
    db: Db,
    state: RwLock<Option<State>>,
    /// One at a time goes on.
    turn: tokio::sync::Mutex<()>,
    fed: Mutex<Fed>,
    told: broadcast::Sender<Piece>,
    sealing: AtomicBool,
    sealed: Notify,
    /// For searches that look through words.
    pub(crate) scans: Arc<Semaphore>,
}

#[derive(Default)]
struct Fed {
    pieces: VecDeque<Piece>,
    events: usize,
}

struct State {
    purged_id: i64,
    stored: Arc<Vec<Stored>>,
    full: Vec<Arc<Run>>,
    open: Run,
    /// Watchers know all up to this one.
    told: i64,
}

/// What is looked through, newest first: what `look` made of the runs in memory, and the stored ones.
pub(crate) struct Snapshot<T> {
    pub(crate) memory: Vec<T>,
    pub(crate) stored: Arc<Vec<Stored>>,
}

impl Live {
    pub(crate) fn new(db: Db) -> Self {
        Live {
            db,
            state: RwLock::new(None),
            turn: tokio::sync::Mutex::new(()),
            fed: Mutex::default(),
            told: broadcast::Sender::new(BEHIND),
            sealing: AtomicBool::new(false),
            sealed: Notify::new(),
            scans: Arc::new(Semaphore::new(SCANS)),
        }
    }

    /// Hands over events that were committed just now.
    pub(crate) fn feed(&self, events: Vec<Arc<Log>>) {
        let mut fed = self.fed.lock().unwrap_or_else(PoisonError::into_inner);
        if fed.events + events.len() > MAX_FED {
            *fed = Fed::default();
        }
        fed.events += events.len();
        fed.pieces.extend(events.chunks(PIECE).map(Arc::from));
    }

    /// What comes from now on.
    pub(crate) fn watch(&self) -> broadcast::Receiver<Piece> {
        self.told.subscribe()
    }

    /// Looks through everything that is committed: `look` at each run in memory, newest first.
    pub(crate) async fn snapshot<T>(self: &Arc<Self>, look: impl Fn(&Run) -> Option<T>) -> Result<Snapshot<T>, Error> {
        loop {
            self.catch_up().await?;
            let state = self.state.read().unwrap_or_else(PoisonError::into_inner);
            // None where a purge came in between.
            let Some(state) = state.as_ref() else { continue };
            let memory = std::iter::once(&state.open).chain(state.full.iter().rev().map(Arc::as_ref));
            let memory = memory.filter(|run| run.len() > 0).filter_map(look).collect();
            return Ok(Snapshot { memory, stored: Arc::clone(&state.stored) });
        }
    }

    /// Takes in all that is committed.
    pub(crate) async fn catch_up(self: &Arc<Self>) -> Result<Head, Error> {
        let _turn = self.turn.lock().await;
        let head = logs::head(&self.db).await?;
        let mut seen = self.begin(head).await?;
        while seen < head.last_id {
            let piece = match self.next_fed(seen) {
                Some(piece) => piece,
                None => logs::after(&self.db, seen, MAX_READ).await?.into_iter().map(Arc::new).collect(),
            };
            if piece.first().is_none_or(|first| first.id != seen + 1) {
                // Purged since: seen by the next one.
                break;
            }
            for piece in piece.chunks(PIECE) {
                seen = self.take(piece);
                tokio::task::yield_now().await;
            }
            while self.seal() >= MAX_FULL {
                let sealed = self.sealed.notified();
                let _ = tokio::time::timeout(POLL, sealed).await;
            }
        }
        Ok(head)
    }

    /// Makes the state fit the database where there is none yet or events were purged; the last event that is in it.
    async fn begin(&self, head: Head) -> Result<i64, Error> {
        if let Some(last_id) = self.let_go(head) {
            return Ok(last_id);
        }
        let told = {
            let state = self.state.read().unwrap_or_else(PoisonError::into_inner);
            match state.as_ref() {
                Some(state) if state.purged_id == head.purged_id => return Ok(state.open.last_id()),
                Some(state) => state.told.max(head.purged_id),
                None => head.last_id,
            }
        };
        let stored = runs::after(&self.db, -1).await?;
        // Those of before a purge that is not over yet.
        let stored: Vec<Stored> = stored.into_iter().filter(|run| run.first_id > head.purged_id).collect();
        let last_id = stored.last().map_or(head.purged_id, |run| run.last_id);
        let state = State {
            purged_id: head.purged_id,
            stored: Arc::new(stored),
            full: Vec::new(),
            open: Run::new(last_id + 1),
            told,
        };
        *self.state.write().unwrap_or_else(PoisonError::into_inner) = Some(state);
        Ok(last_id)
    }

    /// Where nothing but stored runs went since, the oldest ones, these are forgotten; the last event that is in then.
    fn let_go(&self, head: Head) -> Option<i64> {
        let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
        let state = state.as_mut()?;
        let first_id = state.full.first().map_or(state.open.first_id(), |run| run.first_id());
        if state.purged_id < 0 || head.purged_id <= state.purged_id || head.purged_id >= first_id {
            return None;
        }
        state.purged_id = head.purged_id;
        Arc::make_mut(&mut state.stored).retain(|run| run.first_id > head.purged_id);
        Some(state.open.last_id())
    }

    /// What was handed over of the events after this one.
    fn next_fed(&self, seen: i64) -> Option<Piece> {
        let mut fed = self.fed.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            let first = fed.pieces.front()?.first()?.id;
            if first > seen + 1 {
                return None;
            }
            let piece = fed.pieces.pop_front()?;
            fed.events = fed.events.saturating_sub(piece.len());
            if first == seen + 1 {
                return Some(piece);
            }
            // Read from the database before they came; a piece of which only the end is new is read there too.
        }
    }

    /// Sorts events in and tells watchers of them; the last one that is in.
    fn take(&self, piece: &[Arc<Log>]) -> i64 {
        let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
        let Some(state) = state.as_mut() else { return i64::MAX };
        for log in piece {
            if state.open.is_full() {
                let next = Run::new(state.open.last_id() + 1);
                state.full.push(Arc::new(std::mem::replace(&mut state.open, next)));
            }
            state.open.add(log);
        }
        let new: Vec<Arc<Log>> = piece.iter().filter(|log| log.id > state.told).cloned().collect();
        if let Some(last) = new.last() {
            state.told = last.id;
            // Without a watcher nobody is told.
            let _ = self.told.send(new.into());
        }
        state.open.last_id()
    }

    /// Begins to write full runs down where nobody does; how many there are.
    fn seal(self: &Arc<Self>) -> usize {
        let waiting = self.state.read().unwrap_or_else(PoisonError::into_inner).as_ref().map_or(0, |s| s.full.len());
        if waiting > 0 && !self.sealing.swap(true, Ordering::AcqRel) {
            let live = Arc::clone(self);
            tokio::spawn(async move {
                if let Err(error) = live.write_down().await {
                    tracing::warn!(%error, "the search index is written down later");
                }
                live.sealing.store(false, Ordering::Release);
                live.sealed.notify_waiters();
            });
        }
        waiting
    }

    async fn write_down(&self) -> Result<(), Error> {
        loop {
            let (run, newest) = {
                let state = self.state.read().unwrap_or_else(PoisonError::into_inner);
                let Some(state) = state.as_ref() else { return Ok(()) };
                let Some(run) = state.full.first() else { return Ok(()) };
                (Arc::clone(run), state.stored.last().map_or(-1, |run| run.run))
            };
            let full = Arc::clone(&run);
            let sealed =
                tokio::task::spawn_blocking(move || full.seal()).await.map_err(aegis_error::Failure::internal)?;
            let mut tx = self.db.begin().await?;
            let head = logs::lock_head(&mut tx).await?;
            let last = runs::last_in(&mut tx).await?;
            let end = last.map_or(head.purged_id, |last| last.last_id);
            let written = if head.purged_id >= sealed.first_id {
                tx.rollback().await?;
                None
            } else if end + 1 == sealed.first_id {
                let stored = runs::insert(&mut tx, last.map_or(0, |last| last.run) + 1, &sealed).await?;
                // It follows from the events: after a power cut it is made again.
                tx.commit_relaxed().await?;
                Some(stored)
            } else {
                tx.rollback().await?;
                // Somebody else was first.
                let others = runs::after(&self.db, newest).await?;
                others.into_iter().find(|run| (run.first_id, run.last_id) == (sealed.first_id, sealed.last_id))
            };
            let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
            match (state.as_mut(), written) {
                (Some(now), Some(written)) if now.full.first().is_some_and(|first| Arc::ptr_eq(first, &run)) => {
                    now.full.remove(0);
                    Arc::make_mut(&mut now.stored).push(written);
                }
                // Purged, or cut in another way by another version of this program: begun anew.
                (Some(now), None) => {
                    now.purged_id = -1;
                    return Ok(());
                }
                _ => return Ok(()),
            }
        }
    }
}

/// Keeps up with what is committed, here and in other processes.
pub(crate) async fn run(live: Arc<Live>, committed: Wake, stop: CancellationToken) {
    let mut committed = committed.listen();
    loop {
        let round = Instant::now();
        if let Err(error) = aegis_telemetry::job("deception_live", live.catch_up()).await {
            tracing::warn!(%error, "new events are shown later");
            tokio::time::sleep(POLL * 5).await;
        }
        tokio::select! {
            _ = committed.changed() => {}
            () = tokio::time::sleep(POLL) => {}
            () = stop.cancelled() => return,
        }
        // What it took counts: who comes after a rest is told at once.
        tokio::time::sleep_until(round + PACE).await;
    }
}
