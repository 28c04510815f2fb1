//! What comes, for all who watch everything: taken from the service and made into JSON once, however many they are.
//!
//! A stream begins with a watch of its own at the service, which says what there was. As soon as that has told all that
//! the one for everybody has, the stream goes on with the latter. Streams with a filter stay on their own.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use aegis_proto::deception::v1::{WatchLogsResponse, watch_logs_response::Item};
use axum::response::sse::Event;
use futures::{Stream, StreamExt, stream};
use serde::Serialize;
use tokio::{
    sync::broadcast::{Receiver, Sender, error::RecvError},
    time::{Instant, interval_at, timeout_at},
};
use tonic::Status;

use super::logs::{LogRow, StatsResponse, buckets};
use crate::sse::{self, End, Measured};

/// Messages that a stream may be behind.
const BEHIND: usize = 256;
/// Events of one message, unless the service puts more into one.
const ROWS: usize = 500;
/// The more there are who watch, the longer events are gathered for one message.
const PER_READER: Duration = Duration::from_micros(40);
const LONGEST: Duration = Duration::from_millis(40);
/// Where nobody watches for so long, it ends.
const IDLE: Duration = Duration::from_secs(30);

/// The watch for everybody, where there is one.
#[derive(Clone, Default)]
pub struct Live(Arc<Mutex<Option<Feed>>>);

struct Feed {
    told: Sender<Arc<Message>>,
    /// All up to this event was told; none: nothing yet.
    newest: Option<i64>,
}

/// A message for all who watch.
#[derive(Debug)]
enum Message {
    /// Totals, or a histogram.
    Figures(String),
    Logs(Rows),
    End(End),
}

/// Events, oldest first, each as JSON.
#[derive(Debug)]
struct Rows {
    rows: Vec<(i64, String)>,
    /// All of them in a message.
    whole: String,
}

/// A message as clients get it.
#[derive(Serialize)]
struct Told<T> {
    #[serde(rename = "type")]
    kind: &'static str,
    data: T,
}

impl Rows {
    fn new(rows: Vec<(i64, String)>) -> Rows {
        let whole = joined(rows.iter());
        Rows { rows, whole }
    }

    /// Those after an event, and the last of them.
    fn after(&self, newest: i64) -> Option<(i64, Measured)> {
        let last = self.rows.iter().map(|(id, _)| *id).max().filter(|last| *last > newest)?;
        let measured = match self.rows.iter().all(|(id, _)| *id > newest) {
            true => message(Some(last), &self.whole),
            false => message(Some(last), &joined(self.rows.iter().filter(|(id, _)| *id > newest))),
        };
        Some((last, measured))
    }
}

fn joined<'a>(rows: impl Iterator<Item = &'a (i64, String)>) -> String {
    let mut text = String::from("{\"type\":\"logs\",\"data\":[");
    for (place, (_, row)) in rows.enumerate() {
        if place > 0 {
            text.push(',');
        }
        text.push_str(row);
    }
    text.push_str("]}");
    text
}

fn message(newest: Option<i64>, data: &str) -> Measured {
    let mut event = Event::default().event("message");
    if let Some(id) = newest {
        event = event.id(id.to_string());
    }
    Measured { bytes: data.len(), event: event.data(data) }
}

fn json<T: Serialize>(value: &T) -> Result<String, End> {
    serde_json::to_string(value).map_err(|error| aegis_error::Failure::internal(error).into())
}

fn read(item: WatchLogsResponse) -> Result<Option<Message>, End> {
    Ok(Some(match item.item {
        Some(Item::Stats(stats)) => Message::Figures(json(&Told { kind: "stats", data: StatsResponse::from(stats) })?),
        Some(Item::Histogram(histogram)) => {
            Message::Figures(json(&Told { kind: "histogram", data: buckets(histogram) })?)
        }
        Some(Item::Logs(logs)) => {
            let rows = logs.logs.into_iter().map(|log| Ok((log.id, json(&LogRow::from(log))?)));
            Message::Logs(Rows::new(rows.collect::<Result<_, End>>()?))
        }
        Some(Item::Dropped(detail)) => return Err(End { code: sse::SLOW_READER.to_owned(), detail }),
        // Of a newer service.
        None => return Ok(None),
    }))
}

impl Live {
    /// Makes sure that there is a watch for everybody; `open` opens it at the service.
    pub fn begin<F, S>(&self, open: F)
    where
        F: Future<Output = Result<S, Status>> + Send + 'static,
        S: Stream<Item = Result<WatchLogsResponse, Status>> + Send + 'static,
    {
        let mut feed = self.feed();
        if feed.is_none() {
            let told = Sender::new(BEHIND);
            *feed = Some(Feed { told: told.clone(), newest: None });
            let live = self.clone();
            tokio::spawn(async move {
                let end = match open.await {
                    Ok(items) => live.run(&told, items).await,
                    Err(status) => Some(status.into()),
                };
                if let Some(end) = end {
                    let mut feed = live.feed();
                    *feed = None;
                    // Those who follow it are told; the others never knew of it.
                    let _ = told.send(Arc::new(Message::End(end)));
                }
            });
        }
    }

    fn feed(&self) -> std::sync::MutexGuard<'_, Option<Feed>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What comes after `newest`, if the watch for everybody has told no more than that.
    fn follow(&self, newest: i64) -> Option<Receiver<Arc<Message>>> {
        let feed = self.feed();
        let feed = feed.as_ref()?;
        (feed.newest? <= newest).then(|| feed.told.subscribe())
    }

    /// Passes on what comes; why it ends, where anybody is to be told.
    async fn run<S>(&self, told: &Sender<Arc<Message>>, items: S) -> Option<End>
    where
        S: Stream<Item = Result<WatchLogsResponse, Status>>,
    {
        let mut items = std::pin::pin!(items);
        let mut looks = interval_at(Instant::now() + IDLE, IDLE);
        let mut idle = false;
        loop {
            let item = tokio::select! {
                item = items.next() => item,
                _ = looks.tick() => {
                    let mut feed = self.feed();
                    if told.receiver_count() > 0 {
                        idle = false;
                    } else if std::mem::replace(&mut idle, true) {
                        *feed = None;
                        return None;
                    }
                    continue;
                }
            };
            let mut next = Some(item);
            while let Some(item) = next.take() {
                match item.map(|item| item.map_err(End::from).and_then(read)) {
                    None => {
                        let detail = "there is nothing more to come; connect again".to_owned();
                        return Some(End { code: aegis_error::Code::Unavailable.name().to_owned(), detail });
                    }
                    Some(Err(end)) => return Some(end),
                    Some(Ok(None)) => {}
                    Some(Ok(Some(Message::Logs(first)))) => {
                        let readers = u32::try_from(told.receiver_count()).unwrap_or(u32::MAX);
                        let until = Instant::now() + LONGEST.min(PER_READER * readers);
                        match gathered(first, &mut items, until).await {
                            Ok((rows, other)) => {
                                self.tell(told, Message::Logs(rows));
                                next = other;
                            }
                            Err(end) => return Some(end),
                        }
                    }
                    Some(Ok(Some(message))) => self.tell(told, message),
                }
            }
        }
    }

    fn tell(&self, told: &Sender<Arc<Message>>, message: Message) {
        let mut feed = self.feed();
        if let (Some(feed), Message::Logs(rows)) = (feed.as_mut(), &message) {
            feed.newest = rows.rows.iter().map(|(id, _)| *id).max().or(Some(0)).max(feed.newest);
        }
        // Under the lock, so that who joins knows what was told. Without anybody who watches nobody is.
        let _ = told.send(Arc::new(message));
    }
}

type Next = Option<Result<WatchLogsResponse, Status>>;

/// Events with those that come until then; and what else came.
async fn gathered<S>(mut first: Rows, items: &mut S, until: Instant) -> Result<(Rows, Option<Next>), End>
where
    S: Stream<Item = Result<WatchLogsResponse, Status>> + Unpin,
{
    let alone = first.rows.len();
    let mut other = None;
    // None at all is how the service says that there was nothing.
    while alone > 0 && first.rows.len() < ROWS {
        match timeout_at(until, items.next()).await {
            Ok(Some(Ok(more @ WatchLogsResponse { item: Some(Item::Logs(_)) }))) => {
                if let Some(Message::Logs(more)) = read(more)? {
                    first.rows.extend(more.rows);
                }
            }
            Ok(item) => {
                other = Some(item);
                break;
            }
            Err(_) => break,
        }
    }
    let rows = if first.rows.len() > alone { Rows::new(first.rows) } else { first };
    Ok((rows, other))
}

/// Where a stream is.
enum Reader<S> {
    /// On its own.
    Own {
        items: S,
        newest: Option<i64>,
        live: Option<Live>,
    },
    /// With all others.
    Joined {
        told: Receiver<Arc<Message>>,
        newest: i64,
    },
    Ended,
}

/// The events of a stream: what its own watch says after `newest`, and with `live` what comes for everybody.
pub fn events<S>(items: S, newest: Option<i64>, live: Option<Live>) -> impl Stream<Item = Result<Measured, End>> + Send
where
    S: Stream<Item = Result<WatchLogsResponse, Status>> + Send + Unpin,
{
    stream::unfold(Reader::Own { items, newest, live }, async |mut reader| {
        loop {
            let (told, next) = match reader {
                Reader::Own { items, newest, live } => own(items, newest, live).await?,
                Reader::Joined { told, newest } => joined_in(told, newest).await?,
                Reader::Ended => return None,
            };
            reader = next;
            if let Some(told) = told {
                return Some((told, reader));
            }
        }
    })
}

type Step<S> = Option<(Option<Result<Measured, End>>, Reader<S>)>;

async fn own<S>(mut items: S, newest: Option<i64>, live: Option<Live>) -> Step<S>
where
    S: Stream<Item = Result<WatchLogsResponse, Status>> + Unpin,
{
    let item = items.next().await?;
    Some(match item.map_err(End::from).and_then(read) {
        Err(end) => (Some(Err(end)), Reader::Ended),
        Ok(None) => (None, Reader::Own { items, newest, live }),
        Ok(Some(Message::Logs(rows))) => {
            let newest = rows.rows.iter().map(|(id, _)| *id).max().max(newest);
            let told = Some(Ok(message(newest, &rows.whole)));
            match live.as_ref().and_then(|live| live.follow(newest.unwrap_or(0))) {
                Some(others) => (told, Reader::Joined { told: others, newest: newest.unwrap_or(0) }),
                None => (told, Reader::Own { items, newest, live }),
            }
        }
        Ok(Some(Message::Figures(data))) => (Some(Ok(message(newest, &data))), Reader::Own { items, newest, live }),
        Ok(Some(Message::End(end))) => (Some(Err(end)), Reader::Ended),
    })
}

async fn joined_in<S>(mut told: Receiver<Arc<Message>>, newest: i64) -> Step<S> {
    let message = match told.recv().await {
        Ok(message) => message,
        Err(RecvError::Lagged(_)) => {
            let detail = "you read more slowly than there is to read; connect again to go on".to_owned();
            return Some((Some(Err(End { code: sse::SLOW_READER.to_owned(), detail })), Reader::Ended));
        }
        Err(RecvError::Closed) => return None,
    };
    Some(match message.as_ref() {
        Message::Figures(data) => {
            let id = Some(newest).filter(|id| *id > 0);
            (Some(Ok(self::message(id, data))), Reader::Joined { told, newest })
        }
        Message::Logs(rows) => match rows.after(newest) {
            Some((last, measured)) => (Some(Ok(measured)), Reader::Joined { told, newest: last }),
            None => (None, Reader::Joined { told, newest }),
        },
        Message::End(end) => (Some(Err(end.clone())), Reader::Ended),
    })
}

#[cfg(test)]
mod tests {
    use aegis_proto::deception::v1::{ListLogsResponse, Log, Stats};
    use futures::channel::mpsc::{UnboundedReceiver, UnboundedSender, unbounded};

    use super::*;

    type Items = UnboundedReceiver<Result<WatchLogsResponse, Status>>;

    fn logs(ids: &[i64]) -> Result<WatchLogsResponse, Status> {
        let logs = ids.iter().map(|id| Log { id: *id, ..Log::default() }).collect();
        Ok(WatchLogsResponse { item: Some(Item::Logs(ListLogsResponse { logs, ..ListLogsResponse::default() })) })
    }

    fn watch() -> (UnboundedSender<Result<WatchLogsResponse, Status>>, Items) {
        unbounded()
    }

    /// The ids of the next message.
    async fn next(events: &mut (impl Stream<Item = Result<Measured, End>> + Unpin)) -> Result<Vec<i64>, End> {
        let measured = tokio::time::timeout(Duration::from_secs(5), events.next()).await.unwrap().unwrap()?;
        // Its text is not to be had of an event but by its form.
        let text = format!("{:?}", measured.event).replace('\\', "");
        let ids = text.split("{\"id\":").skip(1).map(|rest| rest.split(',').next().unwrap().parse().unwrap());
        Ok(ids.collect())
    }

    #[tokio::test(start_paused = true)]
    async fn a_stream_goes_over_to_that_of_all_without_a_gap_or_a_repetition() {
        let live = Live::default();
        let (all, items) = watch();
        live.begin(async { Ok(items) });
        let (own, items) = watch();
        let mut events = Box::pin(events(items, None, Some(live.clone())));
        own.unbounded_send(logs(&[1, 2, 3])).unwrap();
        assert_eq!(next(&mut events).await.unwrap(), [1, 2, 3]);
        assert_eq!(live.feed().as_ref().unwrap().told.receiver_count(), 0);
        // Ahead of its own watch: it waits until that has told as much.
        all.unbounded_send(logs(&[2, 3, 4])).unwrap();
        tokio::time::sleep(LONGEST).await;
        own.unbounded_send(logs(&[4])).unwrap();
        assert_eq!(next(&mut events).await.unwrap(), [4]);
        assert_eq!(live.feed().as_ref().unwrap().told.receiver_count(), 1);
        // Its own is not heard any more, and let go.
        assert!(own.is_closed());
        all.unbounded_send(logs(&[4])).unwrap();
        tokio::time::sleep(LONGEST).await;
        all.unbounded_send(logs(&[4, 5])).unwrap();
        tokio::time::sleep(LONGEST).await;
        all.unbounded_send(logs(&[6, 7])).unwrap();
        assert_eq!(next(&mut events).await.unwrap(), [5]);
        assert_eq!(next(&mut events).await.unwrap(), [6, 7]);
        all.unbounded_send(Err(Status::unavailable("gone"))).unwrap();
        assert_eq!(next(&mut events).await.unwrap_err().code, "SERVICE_UNAVAILABLE");
        assert!(events.next().await.is_none());
        assert!(live.feed().is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn events_are_gathered_for_many_and_the_slow_are_let_go() {
        let live = Live::default();
        let (all, items) = watch();
        live.begin(async { Ok(items) });
        all.unbounded_send(logs(&[])).unwrap();
        tokio::time::sleep(LONGEST).await;
        let mut readers = Vec::new();
        for _ in 0..100 {
            let (own, items) = watch();
            own.unbounded_send(logs(&[])).unwrap();
            let mut events = Box::pin(events(items, None, Some(live.clone())));
            assert!(next(&mut events).await.unwrap().is_empty());
            readers.push(events);
        }
        for id in 1..=3 {
            all.unbounded_send(logs(&[id])).unwrap();
        }
        all.unbounded_send(Ok(WatchLogsResponse { item: Some(Item::Stats(Stats::default())) })).unwrap();
        for events in &mut readers {
            assert_eq!(next(events).await.unwrap(), [1, 2, 3]);
            assert!(next(events).await.unwrap().is_empty());
        }
        for id in 4..2000 {
            all.unbounded_send(logs(&[id])).unwrap();
            tokio::time::sleep(LONGEST).await;
            assert_eq!(next(&mut readers[0]).await.unwrap(), [id]);
        }
        assert_eq!(next(&mut readers[1]).await.unwrap_err().code, sse::SLOW_READER);
        assert!(readers[1].next().await.is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn where_nobody_watches_it_ends_and_a_stream_of_its_own_does_without() {
        let live = Live::default();
        let (all, items) = watch();
        live.begin(async { Ok(items) });
        // A second one is not opened.
        live.begin::<_, Items>(async { Err(Status::internal("it is open")) });
        tokio::time::sleep(3 * IDLE).await;
        assert!(live.feed().is_none() && all.is_closed());
        live.begin::<_, Items>(async { Err(Status::unavailable("away")) });
        let (own, items) = watch();
        let mut events = Box::pin(events(items, Some(7), Some(live)));
        for id in 8..10 {
            own.unbounded_send(logs(&[id])).unwrap();
            assert_eq!(next(&mut events).await.unwrap(), [id]);
        }
        own.unbounded_send(Ok(WatchLogsResponse { item: Some(Item::Dropped("slow".into())) })).unwrap();
        assert_eq!(next(&mut events).await.unwrap_err().detail, "slow");
        assert!(events.next().await.is_none());
    }
}
