//! The live stream of one's own notifications.
//!
//! One task of the process, the [`Hub`], reads what is new from the database, once for all who watch: at once after a
//! transaction of this process, and by asking for the last position ten times a second, because another replica may
//! have written. It puts what is new into a bounded queue for each user. Each stream has a [`Reader`]; one that was
//! too slow for its queue reads what it missed from the database, so nothing is lost and nobody who writes waits.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use aegis_db::Db;
use aegis_error::Code;
use aegis_telemetry::Gauges;
use tokio::sync::{Notify, broadcast};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::{
    Config,
    error::Error,
    store::{self, notifications::Notification},
};

/// How often the last position is asked for while somebody watches. What another replica commits is to be pushed
/// within 200 ms.
const POLL: Duration = Duration::from_millis(100);
/// The longest pause after a database that did not answer.
const MAX_PAUSE: Duration = Duration::from_secs(5);
/// A user's count of unread notifications is told again at most this often.
const COUNT_PAUSE: Duration = Duration::from_secs(1);
/// Rows that are read at once.
const PAGE: i64 = 500;
/// What may wait for a user's slowest reader.
const QUEUE: usize = 256;
/// What a reader that comes back is given of what came since; the list has the rest.
const MAX_RESUMED: i64 = 1000;
/// How often in a row a reader may fall behind before it is dropped.
const TRIES: u32 = 3;

/// What a reader is given.
#[derive(Clone, Debug)]
pub(crate) enum Item {
    /// A notification.
    New(Arc<Notification>),
    /// How many are unread, and the position that the reader has come to.
    Unread { count: i64, position: i64 },
    /// The last item.
    Ended { code: &'static str, detail: &'static str },
}

#[derive(Clone, Debug)]
enum Signal {
    New(Arc<Notification>),
    Unread(i64),
}

/// Brings what is new to those who watch. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Hub(Arc<Shared>);

static STREAMS: Gauges =
    Gauges::new("aegis_notification_streams", "Notification streams that are open in this process.", &[]);

struct Shared {
    wake: Notify,
    closing: CancellationToken,
    watched: Mutex<Watched>,
    per_user: usize,
    in_all: usize,
}

#[derive(Default)]
struct Watched {
    /// Everything up to here has been handed out; nothing while nobody watches.
    position: Option<i64>,
    streams: usize,
    users: HashMap<Uuid, User>,
}

struct User {
    queue: broadcast::Sender<Signal>,
    streams: usize,
    /// The count may have changed since it was told.
    changed: bool,
    told: Option<Instant>,
}

impl Hub {
    pub(crate) fn new(config: &Config) -> Self {
        STREAMS.set(&[], 0.0);
        Hub(Arc::new(Shared {
            wake: Notify::new(),
            closing: CancellationToken::new(),
            watched: Mutex::default(),
            per_user: config.notification_streams_per_user,
            in_all: config.notification_streams,
        }))
    }

    /// Something was committed.
    pub(crate) fn wake(&self) {
        self.0.wake.notify_one();
    }

    /// Brings what is new to those who watch, until `stop`; then all streams end.
    pub(crate) async fn run(self, db: Db, stop: CancellationToken) {
        let mut pause = POLL;
        loop {
            let watched = self.watched().position.is_some();
            tokio::select! {
                () = self.0.wake.notified() => {}
                () = tokio::time::sleep(pause), if watched => {}
                () = stop.cancelled() => {
                    self.0.closing.cancel();
                    return;
                }
            }
            match aegis_telemetry::job("identity_notifications", self.round(&db)).await {
                Ok(()) => pause = POLL,
                Err(error) => {
                    tracing::warn!(%error, "what is new cannot be read; those who watch wait");
                    pause = (pause * 2).min(MAX_PAUSE);
                }
            }
        }
    }

    /// Hands out what is new. What a failure left half done is handed out again: readers know what they had.
    async fn round(&self, db: &Db) -> aegis_db::Result<()> {
        let Some(before) = self.watched().position else { return Ok(()) };
        let head = store::notifications::head(db).await?;
        let mut after = before;
        while after < head {
            let rows = store::notifications::between(db, after, head, PAGE).await?;
            after = if rows.len() < PAGE as usize { head } else { rows.last().map_or(head, |row| row.seq) };
            self.hand_out(rows);
        }
        let mut after = before;
        while after < head {
            let marks = store::notifications::marked_between(db, after, head, PAGE).await?;
            after = if marks.len() < PAGE as usize { head } else { marks.last().map_or(head, |(_, seq)| *seq) };
            self.note_changes(&marks.into_iter().map(|(user_id, _)| user_id).collect::<Vec<_>>());
        }
        self.advance(before, head);
        let users = self.due();
        if !users.is_empty() {
            match store::notifications::count_unread_of(db, &users).await {
                Ok(counts) => self.tell_counts(&users, &counts),
                Err(error) => {
                    self.note_changes(&users);
                    return Err(error);
                }
            }
        }
        Ok(())
    }

    fn hand_out(&self, rows: Vec<Notification>) {
        let mut watched = self.watched();
        for row in rows {
            if let Some(user) = watched.users.get_mut(&row.user_id) {
                user.changed = true;
                // Fails only where nobody listens any more.
                let _ = user.queue.send(Signal::New(Arc::new(row)));
            }
        }
    }

    fn note_changes(&self, users: &[Uuid]) {
        let mut watched = self.watched();
        for user_id in users {
            if let Some(user) = watched.users.get_mut(user_id) {
                user.changed = true;
            }
        }
    }

    fn advance(&self, before: i64, head: i64) {
        let mut watched = self.watched();
        // Unless everybody left meanwhile and somebody else came, and said where to begin.
        if watched.position == Some(before) {
            watched.position = Some(head);
        }
    }

    /// Users whose count may have changed and was not told lately.
    fn due(&self) -> Vec<Uuid> {
        let mut watched = self.watched();
        let mut due = Vec::new();
        for (user_id, user) in &mut watched.users {
            if user.changed && user.told.is_none_or(|at| at.elapsed() >= COUNT_PAUSE) {
                user.changed = false;
                user.told = Some(Instant::now());
                due.push(*user_id);
            }
        }
        due
    }

    fn tell_counts(&self, users: &[Uuid], counts: &[(Uuid, i64)]) {
        let counts: HashMap<Uuid, i64> = counts.iter().copied().collect();
        let watched = self.watched();
        for user_id in users {
            if let Some(user) = watched.users.get(user_id) {
                let _ = user.queue.send(Signal::Unread(counts.get(user_id).copied().unwrap_or(0)));
            }
        }
    }

    /// A new stream of a user, which ends with what it gives.
    fn enter(&self, user_id: Uuid) -> Result<Place, Error> {
        let mut watched = self.watched();
        if watched.streams >= self.0.in_all {
            return Err(Error::TooManyStreams { whose: "of all users together" });
        }
        let user = watched.users.entry(user_id).or_insert_with(|| User {
            queue: broadcast::Sender::new(QUEUE),
            streams: 0,
            changed: false,
            told: None,
        });
        if user.streams >= self.0.per_user {
            return Err(Error::TooManyStreams { whose: "of yours" });
        }
        user.streams += 1;
        let queue = user.queue.subscribe();
        watched.streams += 1;
        STREAMS.set(&[], watched.streams as f64);
        Ok(Place { hub: self.clone(), user_id, queue })
    }

    /// From where on to hand out, where nobody watched before. Everything up to `head` is committed.
    fn begin(&self, head: i64) {
        self.watched().position.get_or_insert(head);
        // The task may be asleep for want of somebody who watches.
        self.wake();
    }

    fn leave(&self, user_id: Uuid) {
        let mut watched = self.watched();
        watched.streams = watched.streams.saturating_sub(1);
        STREAMS.set(&[], watched.streams as f64);
        if let Some(user) = watched.users.get_mut(&user_id) {
            user.streams = user.streams.saturating_sub(1);
            if user.streams == 0 {
                watched.users.remove(&user_id);
            }
        }
        if watched.streams == 0 {
            watched.position = None;
        }
    }

    /// How many streams there are.
    #[cfg(test)]
    pub(crate) fn streams(&self) -> usize {
        self.watched().streams
    }

    fn watched(&self) -> MutexGuard<'_, Watched> {
        self.0.watched.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A stream's place among those that are counted.
struct Place {
    hub: Hub,
    user_id: Uuid,
    queue: broadcast::Receiver<Signal>,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.hub.leave(self.user_id);
    }
}

/// One stream. Ends with what it is dropped with; does nothing while nobody reads.
pub(crate) struct Reader {
    db: Db,
    place: Place,
    /// The last notification that was given.
    position: i64,
    /// The database has more than the queue.
    behind: bool,
    fell_behind: u32,
    waiting: VecDeque<Item>,
    unread: Option<i64>,
    ended: bool,
}

impl Reader {
    /// A stream of what comes, after what came since `after`, if that is given.
    pub(super) async fn open(hub: &Hub, db: &Db, user_id: Uuid, after: Option<i64>) -> Result<Reader, Error> {
        let place = hub.enter(user_id)?;
        // Read after the queue was there: what is committed later is in it.
        let head = store::notifications::head(db).await?;
        hub.begin(head);
        let mut position = after.unwrap_or(head).min(head);
        if position < head
            && let Some(oldest) = store::notifications::nth_newest(db, user_id, position, MAX_RESUMED).await?
        {
            position = oldest - 1;
        }
        let count = store::notifications::count_unread(db, user_id).await?;
        Ok(Reader {
            db: db.clone(),
            place,
            position,
            behind: position < head,
            fell_behind: 0,
            waiting: [Item::Unread { count, position }].into(),
            unread: Some(count),
            ended: false,
        })
    }

    /// What comes next; nothing after the end.
    pub(crate) async fn next(&mut self) -> Option<Result<Item, Error>> {
        loop {
            if let Some(mut item) = self.waiting.pop_front() {
                match &mut item {
                    Item::New(notification) => self.position = notification.seq,
                    Item::Unread { position, .. } => *position = self.position,
                    Item::Ended { .. } => {}
                }
                return Some(Ok(item));
            }
            if self.ended {
                return None;
            }
            if self.behind {
                if let Err(error) = self.catch_up().await {
                    self.ended = true;
                    return Some(Err(error));
                }
                continue;
            }
            let closing = self.place.hub.0.closing.clone();
            let signal = tokio::select! {
                biased;
                () = closing.cancelled() => {
                    self.end(Code::Unavailable.name(), "the service stops; connect again in a moment");
                    continue;
                }
                signal = self.place.queue.recv() => signal,
            };
            match signal {
                Ok(signal) => {
                    if self.place.queue.is_empty() {
                        self.fell_behind = 0;
                    }
                    self.take(signal);
                }
                Err(broadcast::error::RecvError::Lagged(_)) if self.fell_behind == TRIES => {
                    self.end("SLOW_READER", "you read more slowly than there is to read; connect again to go on");
                }
                Err(broadcast::error::RecvError::Lagged(_)) => {
                    self.fell_behind += 1;
                    self.behind = true;
                }
                Err(broadcast::error::RecvError::Closed) => self.ended = true,
            }
        }
    }

    fn take(&mut self, signal: Signal) {
        match signal {
            Signal::New(notification) if notification.seq > self.position => {
                self.waiting.push_back(Item::New(notification));
            }
            Signal::New(_) => {}
            Signal::Unread(count) => self.count(count),
        }
    }

    fn count(&mut self, count: i64) {
        if self.unread != Some(count) {
            self.unread = Some(count);
            let position = self.position;
            self.waiting.push_back(Item::Unread { count, position });
        }
    }

    /// Reads a page of what the queue has no more.
    async fn catch_up(&mut self) -> Result<(), Error> {
        let user_id = self.place.user_id;
        let rows = store::notifications::after(&self.db, user_id, self.position, PAGE).await?;
        self.behind = rows.len() == PAGE as usize;
        self.waiting.extend(rows.into_iter().map(|row| Item::New(Arc::new(row))));
        if !self.behind && self.fell_behind > 0 {
            // The queue may have dropped the newest count.
            self.count(store::notifications::count_unread(&self.db, user_id).await?);
        }
        Ok(())
    }

    fn end(&mut self, code: &'static str, detail: &'static str) {
        self.ended = true;
        self.waiting.push_back(Item::Ended { code, detail });
    }
}
