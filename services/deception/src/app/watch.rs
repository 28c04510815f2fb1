//! The live stream: what is there, then what comes, to each who watches; the slow are let go.

use std::{
    pin::pin,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use aegis_auth::OpCtx;
use aegis_error::{Code, Failure};
use futures::{
    StreamExt,
    stream::{self, BoxStream},
};
use tokio::{
    sync::{
        OwnedSemaphorePermit, Semaphore,
        broadcast::{
            Receiver,
            error::{RecvError, TryRecvError},
        },
        mpsc,
    },
    time::{MissedTickBehavior, interval, timeout},
};
use tokio_stream::wrappers::ReceiverStream;

use super::{
    App,
    live::Piece,
    logs::{Bucket, Filter, Stats},
};
use crate::{domain::event::Log, error::Error, figures, store::logs};

/// Those who watch at a time.
const MAX_WATCHERS: usize = 5_000;
/// The latest events with which a stream begins.
const LATEST: usize = 50;
/// Events that a stream goes on with from an id, at most: the newest ones.
const MAX_MISSED: usize = 10_000;
/// Events of one message.
const MESSAGE: usize = 500;
/// Messages that wait for a reader.
const QUEUE: usize = 8;
/// A reader that takes nothing for so long is let go.
const PATIENCE: Duration = Duration::from_secs(20);
/// Figures are told again this often, where they changed.
const FIGURES: Duration = Duration::from_secs(5);

/// One message of a stream.
#[derive(Clone, Debug)]
pub(crate) enum Told {
    Stats(Stats),
    Histogram(Vec<Bucket>),
    /// Oldest first.
    Logs(Vec<Arc<Log>>),
    /// Why it ends.
    Dropped(String),
}

/// Room for those who watch.
pub(crate) struct Watchers(Arc<Semaphore>);

impl Default for Watchers {
    fn default() -> Self {
        Watchers(Arc::new(Semaphore::new(MAX_WATCHERS)))
    }
}

/// One who watches.
struct Watcher {
    app: Arc<App>,
    filter: Filter,
    queue: mpsc::Sender<Told>,
    last_word: Arc<Mutex<Option<String>>>,
    told: Stats,
    /// All up to this one is told.
    seen: i64,
    _room: OwnedSemaphorePermit,
    _counted: aegis_telemetry::Held,
}

/// Why it goes no further.
enum End {
    /// The reader left, or the process ends.
    Gone,
    Slow,
    Failed(Error),
}

impl From<Error> for End {
    fn from(error: Error) -> Self {
        End::Failed(error)
    }
}

impl From<aegis_db::Error> for End {
    fn from(error: aegis_db::Error) -> Self {
        End::Failed(error.into())
    }
}

impl App {
    /// Figures, a histogram and the latest events (or those after an id), then what comes. Everyone who is signed in.
    pub(crate) async fn watch_logs(
        self: &Arc<Self>,
        ctx: &OpCtx,
        filter: Filter,
        after_id: Option<i64>,
    ) -> Result<BoxStream<'static, Told>, Error> {
        ctx.user()?;
        let room = Arc::clone(&self.watchers.0).try_acquire_owned().map_err(|_| {
            Failure::new(Code::Unavailable, "too many are watching; try again later").with_retry_after(PATIENCE)
        })?;
        // From here on nothing is missed.
        let coming = self.live.watch();
        let told = self.stats().await?;
        let histogram = self.recent_histogram(&filter).await?;
        let (queue, messages) = mpsc::channel(QUEUE);
        let last_word = Arc::new(Mutex::new(None));
        let watcher = Watcher {
            app: Arc::clone(self),
            filter,
            queue,
            last_word: Arc::clone(&last_word),
            told,
            seen: 0,
            _room: room,
            _counted: figures::WATCHERS.hold(&[]),
        };
        tokio::spawn(watcher.run(histogram, after_id, coming));
        let end = stream::once(async move { last_word.lock().unwrap_or_else(PoisonError::into_inner).take() });
        let end = end.filter_map(|word| async move { word.map(Told::Dropped) });
        Ok(ReceiverStream::new(messages).chain(end).boxed())
    }
}

impl Watcher {
    async fn run(mut self, histogram: Vec<Bucket>, after_id: Option<i64>, coming: Receiver<Piece>) {
        let word = match self.tell_all(histogram, after_id, coming).await {
            Ok(()) | Err(End::Gone) => return,
            Err(End::Slow) => "the reader was too slow; read again from the last id".to_owned(),
            Err(End::Failed(error)) => Failure::from(error).message().to_owned(),
        };
        *self.last_word.lock().unwrap_or_else(PoisonError::into_inner) = Some(word);
    }

    async fn tell_all(
        &mut self,
        histogram: Vec<Bucket>,
        after_id: Option<i64>,
        mut coming: Receiver<Piece>,
    ) -> Result<(), End> {
        self.tell(Told::Stats(self.told)).await?;
        self.tell(Told::Histogram(histogram)).await?;
        self.tell_what_was(after_id).await?;
        let stop = self.app.stop.clone();
        let mut ticks = interval(FIGURES);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let app = Arc::clone(&self.app);
        // Events do not wait for them. In a task of their own: who asks holds up all others who do, and must come to an
        // end while a reader is slow.
        let figures = stream::unfold((ticks, app), async |(mut ticks, app)| {
            ticks.tick().await;
            let asked = Arc::clone(&app);
            let stats = tokio::spawn(async move { asked.stats().await }).await;
            Some((stats.map_err(Failure::internal), (ticks, app)))
        });
        let mut figures = pin!(figures);
        loop {
            tokio::select! {
                piece = coming.recv() => match piece {
                    Ok(piece) => self.tell_pieces(piece, &mut coming).await?,
                    Err(RecvError::Lagged(_)) => return Err(End::Slow),
                    Err(RecvError::Closed) => return Err(End::Gone),
                },
                Some(stats) = figures.next() => {
                    let stats = stats.map_err(Error::from)??;
                    if stats != self.told {
                        self.told = stats;
                        self.tell(Told::Stats(stats)).await?;
                    }
                }
                () = self.queue.closed() => return Err(End::Gone),
                () = stop.cancelled() => return Err(End::Gone),
            }
        }
    }

    /// The latest events, or those after an id.
    async fn tell_what_was(&mut self, after_id: Option<i64>) -> Result<(), End> {
        let app = Arc::clone(&self.app);
        let head = app.live.catch_up().await?;
        self.seen = head.last_id;
        let limit = if after_id.is_some() { MAX_MISSED } else { LATEST };
        if self.filter.is_empty() {
            let newest = head.last_id - i64::try_from(limit).unwrap_or(0);
            let mut after = after_id.unwrap_or(0).max(newest).max(head.purged_id);
            while after < head.last_id {
                let some = i64::try_from(MESSAGE).unwrap_or(0).min(head.last_id - after);
                let logs = logs::after(&app.db, after, some).await?;
                let Some(last) = logs.last() else { break };
                after = last.id;
                self.tell(Told::Logs(logs.into_iter().map(Arc::new).collect())).await?;
            }
            if after_id.unwrap_or(0).max(newest).max(head.purged_id) >= head.last_id {
                self.tell(Told::Logs(Vec::new())).await?;
            }
            return Ok(());
        }
        let (ids, _) = app.find(&self.filter, Some(head.last_id + 1), 0, limit, 0).await?;
        let after = after_id.unwrap_or(0);
        let mut ids: Vec<i64> = ids.into_iter().take_while(|id| *id > after).collect();
        ids.reverse();
        if ids.is_empty() {
            self.tell(Told::Logs(Vec::new())).await?;
        }
        for ids in ids.chunks(MESSAGE) {
            let mut logs = logs::by_ids(&app.db, ids).await?;
            logs.reverse();
            logs.retain(|log| self.filter.matches(log));
            self.tell(Told::Logs(logs.into_iter().map(Arc::new).collect())).await?;
        }
        Ok(())
    }

    /// What came, and what else came meanwhile.
    async fn tell_pieces(&mut self, first: Piece, coming: &mut Receiver<Piece>) -> Result<(), End> {
        let mut logs = Vec::new();
        let mut piece = Some(first);
        while let Some(events) = piece.take() {
            let new = events.iter().filter(|log| log.id > self.seen && self.filter.matches(log));
            logs.extend(new.cloned());
            if logs.len() < MESSAGE {
                piece = match coming.try_recv() {
                    Ok(piece) => Some(piece),
                    Err(TryRecvError::Lagged(_)) => return Err(End::Slow),
                    Err(TryRecvError::Empty | TryRecvError::Closed) => None,
                };
            }
        }
        if logs.is_empty() { Ok(()) } else { self.tell(Told::Logs(logs)).await }
    }

    async fn tell(&self, message: Told) -> Result<(), End> {
        match timeout(PATIENCE, self.queue.send(message)).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) => Err(End::Gone),
            Err(_) => Err(End::Slow),
        }
    }
}
