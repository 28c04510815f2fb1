//! Events come in: several batches at a time become one transaction, and are acknowledged when that is on the disk.

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex, PoisonError},
};

use aegis_db::{Db, now};
use aegis_error::{Code, Failure};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};
use uuid::Uuid;

use super::{Wake, health::Parts, live::Live};
use crate::{
    domain::{
        event::{Event, Log, Raw},
        sigma::Set,
        tagging,
    },
    error::Error,
    figures,
    store::logs::{self, Head},
};

/// Events of one batch.
pub(crate) const MAX_BATCH: usize = 5_000;
/// Events of one transaction, about.
const MAX_TRANSACTION: usize = 20_000;
/// What waits to be stored takes so much memory at most, KiB.
const MAX_WAITING: u32 = 96 * 1024;
/// Fewer events are looked at right where they come in.
const FEW: usize = 20;

/// A batch that is to be stored.
struct Submission {
    events: Vec<Event>,
    part: Option<Part>,
    done: oneshot::Sender<Result<Stored, Failure>>,
    /// Held until it is stored.
    room: OwnedSemaphorePermit,
}

/// Which part of a sensor's events a batch is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Part {
    pub(crate) sensor: Uuid,
    /// Of its first event; the next have the next ones.
    pub(crate) first: i64,
    /// What the same stream handed in before must be stored up to this.
    pub(crate) after: Option<i64>,
}

/// What became of a batch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Stored {
    /// Of the sensor, all up to this is stored.
    pub(crate) mark: i64,
    /// Events that were new.
    pub(crate) new: usize,
}

/// What is to be told to whoever waits, once it is on the disk.
type Answers = Vec<(oneshot::Sender<Result<Stored, Failure>>, Result<Stored, Failure>, OwnedSemaphorePermit)>;

/// Takes events in. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Intake(Arc<Inner>);

struct Inner {
    db: Db,
    live: Arc<Live>,
    committed: Wake,
    parts: Arc<Parts>,
    waiting: Mutex<Vec<Submission>>,
    turn: tokio::sync::Mutex<()>,
    room: Arc<Semaphore>,
}

/// Looks at events as they came: brings them within bounds and finds out which techniques they show.
pub(crate) async fn sound(
    events: Vec<Raw>,
    origin: impl Fn(usize) -> Vec<u8> + Send + 'static,
    rules: Arc<Set>,
) -> Result<Vec<Event>, Failure> {
    let (at, few) = (now(), events.len() < FEW);
    let look = move || {
        let look = |(place, raw): (usize, Raw)| {
            let mut event = raw.sound(at, &origin(place));
            event.techniques = tagging::tag(&event, &rules).join(" ");
            event
        };
        events.into_iter().enumerate().map(look).collect()
    };
    // It is nothing but computing: other calls must not wait for it.
    if few { Ok(look()) } else { tokio::task::spawn_blocking(look).await.map_err(Failure::internal) }
}

impl Intake {
    pub(crate) fn new(db: Db, live: Arc<Live>, committed: Wake, parts: Arc<Parts>) -> Self {
        let room = Arc::new(Semaphore::new(usize::try_from(MAX_WAITING).unwrap_or(0)));
        let (waiting, turn) = (Mutex::default(), tokio::sync::Mutex::new(()));
        Intake(Arc::new(Inner { db, live, committed, parts, waiting, turn, room }))
    }

    /// Puts a batch into the queue, in the order of the calls; what is answered tells when it is stored.
    pub(crate) async fn submit(
        &self,
        events: Vec<Event>,
        part: Option<Part>,
    ) -> Result<oneshot::Receiver<Result<Stored, Failure>>, Failure> {
        let weight = events.iter().map(Event::weight).sum::<usize>() / 1024 + 1;
        let weight = u32::try_from(weight).unwrap_or(MAX_WAITING).min(MAX_WAITING);
        let room = Arc::clone(&self.0.room).acquire_many_owned(weight).await.map_err(Failure::internal)?;
        let (done, stored) = oneshot::channel();
        let submission = Submission { events, part, done, room };
        self.0.waiting.lock().unwrap_or_else(PoisonError::into_inner).push(submission);
        // A task of its own: it goes on when the caller leaves.
        let inner = Arc::clone(&self.0);
        tokio::spawn(async move { inner.store_waiting().await });
        Ok(stored)
    }

    /// Stores a batch.
    pub(crate) async fn store(&self, events: Vec<Event>, part: Option<Part>) -> Result<Stored, Failure> {
        stored(self.submit(events, part).await?).await
    }
}

/// Waits until a batch is stored.
pub(crate) async fn stored(waiting: oneshot::Receiver<Result<Stored, Failure>>) -> Result<Stored, Failure> {
    waiting.await.map_err(|_| Failure::unavailable("the store of events"))?
}

impl Inner {
    /// Stores what waits; whoever has the turn does it for all.
    async fn store_waiting(self: Arc<Self>) {
        let turn = self.turn.lock().await;
        let batch = {
            let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
            let mut events = 0;
            let fits = |submission: &&Submission| {
                events += submission.events.len();
                events <= MAX_TRANSACTION
            };
            let fitting = waiting.iter().take_while(fits).count().max(1).min(waiting.len());
            let rest = waiting.split_off(fitting);
            std::mem::replace(&mut *waiting, rest)
        };
        if batch.is_empty() {
            return;
        }
        let answers = self.store_batch(batch).await;
        drop(turn);
        // The next one is written while this one goes to the disk.
        let on_disk = self.db.sync().await.map_err(|error| Arc::new(Failure::from(error)));
        for (done, answer, room) in answers {
            let answer = match &on_disk {
                Ok(()) => answer,
                Err(_) => Err(Failure::unavailable("the disk")),
            };
            drop(room);
            // Whoever left does not want to know.
            let _ = done.send(answer);
        }
    }

    async fn store_batch(&self, batch: Vec<Submission>) -> Answers {
        let parts: Vec<(Option<Part>, usize)> = batch.iter().map(|s| (s.part, s.events.len())).collect();
        let mut owners = Vec::with_capacity(batch.len());
        let mut events = Vec::with_capacity(parts.iter().map(|(_, count)| count).sum());
        for submission in batch {
            owners.push((submission.done, submission.room));
            events.extend(submission.events);
        }
        // Sensors do not repeat themselves: whether events are there already is looked at where it is likely, or known.
        let unlikely = parts.iter().all(|(part, _)| part.is_some());
        let mut result = self.transaction(&parts, &mut events, !unlikely).await;
        if let Err(Error::Db(error)) = &result
            && unlikely
            && error.is_unique_violation()
        {
            result = self.transaction(&parts, &mut events, true).await;
        }
        let results = match result {
            Ok(results) => {
                self.parts.ingestion.ok();
                results
            }
            Err(error) => {
                self.parts.ingestion.failed("events cannot be stored; they wait in the sensors");
                let failure = Failure::from(error);
                let (code, message) = (failure.code(), failure.message().to_owned());
                tracing::warn!(%failure, events = events.len(), "events were not stored");
                parts.iter().map(|_| Err(Failure::new(code, message.clone()))).collect()
            }
        };
        owners.into_iter().zip(results).map(|((done, room), result)| (done, result, room)).collect()
    }

    /// One transaction for all. `events` are taken out of it once they are stored.
    async fn transaction(
        &self,
        parts: &[(Option<Part>, usize)],
        events: &mut Vec<Event>,
        look: bool,
    ) -> Result<Vec<Result<Stored, Failure>>, Error> {
        let mut tx = self.db.begin().await?;
        // From here on nobody else stores events: ids grow in the order of commits, and readers miss none.
        let head = logs::lock_head(&mut tx).await?;
        let mut marks: HashMap<Uuid, i64> = HashMap::new();
        for sensor in parts.iter().filter_map(|(part, _)| part.map(|part| part.sensor)) {
            if let std::collections::hash_map::Entry::Vacant(entry) = marks.entry(sensor) {
                entry.insert(logs::mark_in(&mut tx, sensor).await?);
            }
        }
        let mut seen = HashSet::with_capacity(events.len());
        if look {
            let ids: Vec<Uuid> = events.iter().map(|event| event.id).collect();
            seen = logs::known(&mut tx, &ids).await?;
        }
        let mut moved: HashSet<Uuid> = HashSet::new();
        let mut keep = vec![false; events.len()];
        let mut results = Vec::with_capacity(parts.len());
        let mut at = 0;
        for (part, count) in parts {
            let range = at..at + count;
            at += count;
            let mut skip = 0;
            if let Some(part) = part {
                let mark = marks.get(&part.sensor).copied().unwrap_or(0);
                if part.after.is_some_and(|after| mark < after) {
                    results.push(Err(Failure::new(Code::Unavailable, "the batch before this one was not stored")));
                    continue;
                }
                skip = usize::try_from(mark.saturating_add(1).saturating_sub(part.first)).unwrap_or(0).min(*count);
                let last = part.first.saturating_add(i64::try_from(*count).unwrap_or(0)).saturating_sub(1);
                if last > mark {
                    marks.insert(part.sensor, last);
                    moved.insert(part.sensor);
                }
            }
            let mut new = 0;
            for (keep, event) in keep.iter_mut().zip(events.iter()).take(range.end).skip(range.start + skip) {
                *keep = seen.insert(event.id);
                new += usize::from(*keep);
            }
            let mark = part.and_then(|part| marks.get(&part.sensor).copied()).unwrap_or(0);
            results.push(Ok(Stored { mark, new }));
        }
        let new: Vec<&Event> = events.iter().zip(&keep).filter(|(_, keep)| **keep).map(|(event, _)| event).collect();
        let Head { last_id, .. } = logs::insert(&mut tx, head, &new).await?;
        for sensor in moved {
            logs::set_mark(&mut tx, sensor, marks.get(&sensor).copied().unwrap_or(0)).await?;
        }
        // The wait for the disk is with the answer.
        tx.commit_relaxed().await?;
        if last_id > head.last_id {
            figures::STORED.add(&[], u64::try_from(last_id - head.last_id).unwrap_or(0));
            let new = std::mem::take(events).into_iter().zip(keep).filter(|(_, keep)| *keep);
            let new = (head.last_id + 1..).zip(new).map(|(id, (event, _))| Arc::new(Log { id, event })).collect();
            self.live.feed(new);
            self.committed.ring();
        }
        Ok(results)
    }
}
