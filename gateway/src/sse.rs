//! Streams of server-sent events, with the manners that all of them have.
//!
//! A stream begins with how long to wait before connecting again, says something every 15 seconds, and ends, with a
//! last `event: end` that says why, when the bearer no longer holds, when the process is to stop, when there is
//! nothing more to come, or when the client reads more slowly than there is to read. A task takes what comes from the
//! service at once and never waits for the client, so a slow client holds up nobody: not the service that writes, not
//! the other calls on the same connection.

use std::{convert::Infallible, sync::Arc, time::Duration};

use aegis_auth::Verifier;
use aegis_error::{Code, Failure};
use aegis_telemetry::Gauges;
use axum::response::{
    IntoResponse, Response,
    sse::{Event, KeepAlive, Sse},
};
use futures::{Stream, StreamExt, future, stream};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header::CACHE_CONTROL};
use serde::Serialize;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot},
    time::{Instant, MissedTickBehavior, interval_at, timeout},
};
use tokio_util::sync::CancellationToken;

use crate::{error::Problem, state::Gateway};

/// The position from which a client goes on, as a browser sends it when it connects again.
const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");
/// Proxies that buffer answers do not buffer this one.
const ACCEL_BUFFERING: HeaderName = HeaderName::from_static("x-accel-buffering");
/// How long a client waits before it connects again.
const RETRY: Duration = Duration::from_secs(2);
/// A connection on which nothing passes is taken for dead by what is in between.
const KEEP_ALIVE: Duration = Duration::from_secs(15);
/// How often the bearer is looked at.
const CHECK: Duration = Duration::from_secs(1);
/// How long to wait for whether the bearer holds; then it is asked again.
const CHECK_TIMEOUT: Duration = Duration::from_secs(5);
/// Events that may wait for a client.
const QUEUE: usize = 256;
/// Bytes of them.
const MAX_WAITING: usize = 2 * 1024 * 1024;
/// What an event takes of which the size is not said, bytes.
const USUAL: usize = 1024;
/// Why a stream ends whose client reads too slowly.
pub const SLOW_READER: &str = "SLOW_READER";
/// How long a client may leave its queue full.
const PATIENCE: Duration = Duration::from_secs(5);

/// The routes of streams.
pub const LOGS: &str = "/api/v1/stream";
/// See [`LOGS`].
pub const NOTIFICATIONS: &str = "/api/v1/notifications/stream";

static STREAMS: Gauges = Gauges::new("http_server_streams", "Event streams that are open.", &["http_route"]);

/// An event, and how large it is.
#[derive(Debug)]
pub struct Measured {
    /// What is sent.
    pub event: Event,
    /// Bytes of its data.
    pub bytes: usize,
}

impl From<Event> for Measured {
    fn from(event: Event) -> Measured {
        Measured { event, bytes: USUAL }
    }
}

/// An event on its way to a client, with the room that it takes there.
struct Queued {
    event: Event,
    _room: OwnedSemaphorePermit,
}

/// Why a stream ends; its last message.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct End {
    /// As in errors.
    pub code: String,
    /// A sentence.
    pub detail: String,
}

impl End {
    fn new(code: &str, detail: &str) -> End {
        End { code: code.to_owned(), detail: detail.to_owned() }
    }
}

impl From<Failure> for End {
    fn from(failure: Failure) -> End {
        End::new(failure.code().name(), failure.message())
    }
}

impl From<tonic::Status> for End {
    fn from(status: tonic::Status) -> End {
        Failure::from(status).into()
    }
}

/// The position after which the client wants to go on: the `Last-Event-ID` header, else the parameter.
pub fn last_event_id(headers: &HeaderMap, parameter: Option<&str>) -> Result<Option<i64>, Problem> {
    let (name, text) = match headers.get(LAST_EVENT_ID) {
        Some(value) => ("Last-Event-ID", value.to_str().unwrap_or("?")),
        None => ("lastEventId", parameter.unwrap_or_default()),
    };
    match text.trim() {
        "" => Ok(None),
        text => match text.parse::<i64>() {
            Ok(position) if position >= 0 => Ok(Some(position)),
            _ => Err(Problem::invalid(name, "must be the id of an event of this stream")),
        },
    }
}

/// An answer of `events` to a request of `route`, for as long as `bearer` holds. The first `Err` is the last that comes.
pub fn answer<S, E>(gateway: &Gateway, route: &'static str, bearer: String, events: S) -> Response
where
    S: Stream<Item = Result<E, End>> + Send + 'static,
    E: Into<Measured> + Send,
{
    let (queue, queued) = mpsc::channel(QUEUE);
    let (last, ended) = oneshot::channel();
    let (verifier, stop) = (gateway.deps.verifier.clone(), gateway.deps.stop.clone());
    let open = STREAMS.hold(&[route]);
    tokio::spawn(async move {
        let _open = open;
        if let Some(end) = pump(&verifier, &stop, &bearer, events, &queue).await {
            // The client may be gone, or leave its queue for a long time; this waits outside of it.
            let _ = last.send(end);
        }
    });
    let first = stream::once(future::ready(Event::default().retry(RETRY)));
    let live =
        stream::unfold(queued, async |mut queued: mpsc::Receiver<Queued>| Some((queued.recv().await?.event, queued)));
    let end = stream::once(ended).filter_map(|end| future::ready(end.ok().map(|end| farewell(&end))));
    let events = first.chain(live).chain(end).map(Ok::<_, Infallible>);
    let keep_alive = KeepAlive::new().interval(KEEP_ALIVE).text("keep-alive");
    let mut response = Sse::new(events).keep_alive(keep_alive).into_response();
    let headers = response.headers_mut();
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(ACCEL_BUFFERING, HeaderValue::from_static("no"));
    response
}

/// Streams are measured from the start, also while there are none.
pub fn declare() {
    [LOGS, NOTIFICATIONS].iter().for_each(|route| STREAMS.set(&[route], 0.0));
}

fn farewell(end: &End) -> Event {
    let event = Event::default().event("end");
    let data = serde_json::to_string(end).unwrap_or_default();
    event.data(data)
}

/// Passes `events` on until there is a reason to end; nothing where the client has left.
async fn pump<S, E>(
    verifier: &Verifier,
    stop: &CancellationToken,
    bearer: &str,
    events: S,
    queue: &mpsc::Sender<Queued>,
) -> Option<End>
where
    S: Stream<Item = Result<E, End>>,
    E: Into<Measured>,
{
    let mut events = std::pin::pin!(events);
    let room = Arc::new(Semaphore::new(MAX_WAITING));
    let mut checks = interval_at(Instant::now() + CHECK, CHECK);
    checks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let event = tokio::select! {
            biased;
            () = queue.closed() => return None,
            () = stop.cancelled() => return Some(stopping()),
            _ = checks.tick() => {
                if let Some(end) = refused(verifier, bearer).await {
                    return Some(end);
                }
                continue;
            }
            event = events.next() => event,
        };
        let event = match event {
            Some(Ok(event)) => event,
            Some(Err(end)) => return Some(end),
            None => return Some(End::new(Code::Unavailable.name(), "there is nothing more to come; connect again")),
        };
        let sent = tokio::select! {
            sent = timeout(PATIENCE, enqueue(queue, &room, event.into())) => sent,
            () = stop.cancelled() => return Some(stopping()),
        };
        match sent {
            Ok(true) => {}
            Ok(false) => return None,
            Err(_) => {
                return Some(End::new(
                    SLOW_READER,
                    "you read more slowly than there is to read; connect again to go on",
                ));
            }
        }
    }
}

/// Waits for room; false when the client has left.
async fn enqueue(queue: &mpsc::Sender<Queued>, room: &Arc<Semaphore>, item: Measured) -> bool {
    // What is larger than all the room waits until there is nothing else.
    let bytes = u32::try_from(item.bytes.min(MAX_WAITING)).unwrap_or(u32::MAX);
    match Arc::clone(room).acquire_many_owned(bytes).await {
        Ok(room) => queue.send(Queued { event: item.event, _room: room }).await.is_ok(),
        // Nobody closes it.
        Err(_) => false,
    }
}

fn stopping() -> End {
    End::new(Code::Unavailable.name(), "the service stops; connect again in a moment")
}

/// Why the bearer no longer holds, if it does not. Not to know it is no reason.
async fn refused(verifier: &Verifier, bearer: &str) -> Option<End> {
    match timeout(CHECK_TIMEOUT, verifier.verify(bearer)).await {
        Ok(Err(failure)) if failure.code().http() == StatusCode::UNAUTHORIZED => Some(failure.into()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use aegis_auth::{KeySource, News, Principal};
    use async_trait::async_trait;

    use crate::extract::Caller;

    use super::*;

    /// Identity, which knows one API key.
    struct OneKey;

    #[async_trait]
    impl KeySource for OneKey {
        async fn jwks(&self) -> Result<String, Failure> {
            Ok(r#"{"keys": []}"#.to_owned())
        }

        async fn news(&self, after: i64) -> Result<News, Failure> {
            Ok(News { cursor: after, ..News::default() })
        }

        async fn api_key(&self, key: &str) -> Result<Principal, Failure> {
            match key {
                GOOD => Ok(Caller::example(false).principal.as_ref().clone()),
                _ => Err(Failure::new(Code::Unauthenticated, "no such key")),
            }
        }
    }

    const GOOD: &str = "aegis_key_good";

    fn verifier() -> Verifier {
        Verifier::new(Arc::new(OneKey))
    }

    fn never() -> stream::Pending<Result<Event, End>> {
        stream::pending()
    }

    async fn pumped<S: Stream<Item = Result<Event, End>>>(bearer: &str, events: S, size: usize) -> Option<End> {
        let (queue, _queued) = mpsc::channel(size);
        pump(&verifier(), &CancellationToken::new(), bearer, events, &queue).await
    }

    #[tokio::test(start_paused = true)]
    async fn a_stream_ends_with_its_bearer() {
        let end = pumped("aegis_key_bad", stream::pending(), 1).await.unwrap();
        assert_eq!(end.code, "UNAUTHENTICATED");
        // One that holds is looked at for a minute, and nothing happens.
        let open = timeout(Duration::from_secs(60), pumped(GOOD, stream::pending(), 1)).await;
        assert!(open.is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn who_does_not_read_is_told_and_holds_nobody_up() {
        let began = Instant::now();
        let end = pumped(GOOD, stream::repeat_with(|| Ok(Event::default().data("x"))), QUEUE).await.unwrap();
        assert_eq!(end.code, SLOW_READER);
        assert_eq!(began.elapsed(), PATIENCE);
    }

    #[tokio::test(start_paused = true)]
    async fn few_large_events_are_as_much_as_many_small_ones() {
        let large = || Measured { event: Event::default().data("x"), bytes: MAX_WAITING / 2 };
        let (queue, queued) = mpsc::channel(QUEUE);
        let stop = CancellationToken::new();
        let events = stream::repeat_with(|| Ok(large()));
        let end = pump(&verifier(), &stop, GOOD, events, &queue).await.unwrap();
        assert_eq!((end.code.as_str(), queued.len()), (SLOW_READER, 2));
        // One that is larger than all the room passes by itself.
        let huge = Measured { event: Event::default().data("x"), bytes: 2 * MAX_WAITING };
        let (queue, queued) = mpsc::channel(QUEUE);
        let end = pump(&verifier(), &stop, GOOD, stream::iter([Ok(huge)]), &queue).await.unwrap();
        assert_eq!((end.code.as_str(), queued.len()), ("SERVICE_UNAVAILABLE", 1));
    }

    #[tokio::test(start_paused = true)]
    async fn a_stream_ends_when_the_client_leaves_the_service_stops_or_says_so() {
        let (queue, queued) = mpsc::channel(1);
        let stop = CancellationToken::new();
        stop.cancel();
        let end = pump(&verifier(), &stop, GOOD, never(), &queue).await.unwrap();
        assert_eq!(end.code, "SERVICE_UNAVAILABLE");
        let said = End::new(SLOW_READER, "too slow");
        assert_eq!(pumped(GOOD, stream::iter([Err(said.clone())]), 1).await, Some(said));
        assert_eq!(pumped(GOOD, stream::empty(), 1).await.unwrap().code, "SERVICE_UNAVAILABLE");
        drop(queued);
        assert_eq!(pump(&verifier(), &CancellationToken::new(), GOOD, never(), &queue).await, None);
    }

    #[test]
    fn the_position_is_the_headers_then_the_parameters() {
        let mut headers = HeaderMap::new();
        assert_eq!(last_event_id(&headers, None).unwrap(), None);
        assert_eq!(last_event_id(&headers, Some("")).unwrap(), None);
        assert_eq!(last_event_id(&headers, Some("7")).unwrap(), Some(7));
        assert_eq!(last_event_id(&headers, Some("-1")).unwrap_err().0.fields()[0].field, "lastEventId");
        headers.insert(LAST_EVENT_ID, HeaderValue::from_static("9"));
        assert_eq!(last_event_id(&headers, Some("7")).unwrap(), Some(9));
        headers.insert(LAST_EVENT_ID, HeaderValue::from_static("nine"));
        assert_eq!(last_event_id(&headers, Some("7")).unwrap_err().0.fields()[0].field, "Last-Event-ID");
    }
}
