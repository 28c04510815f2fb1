//! A service as a consumer of events: each is taken in once, in one transaction with the change that it causes.

use std::{
    collections::{BTreeSet, HashSet},
    sync::{Arc, OnceLock},
    time::{Duration, Instant},
};

use aegis_db::{Db, Tx, now, on};
use aegis_error::{Code, Failure};
use aegis_proto::events::v1::Envelope;
use aegis_telemetry::{
    Counters, Gauges, Histograms,
    meters::{CALLS, LAGS},
};
use async_trait::async_trait;
use chrono::DateTime;
use prost::Message;
use sqlx::QueryBuilder;
use tracing::{Instrument, Span, field::Empty};

use crate::Subscription;

const CONSUMER: &[&str] = &["consumer"];
static EVENTS: Counters = Counters::new(
    "aegis_consumer_events_total",
    "Events that a consumer has done with, by what became of them.",
    &["consumer", "event", "outcome"],
);
static SECONDS: Histograms = Histograms::new(
    "aegis_consumer_event_duration_seconds",
    "Time to handle an event, without the commit.",
    &["consumer", "event"],
    CALLS,
);
static FAILURES: Counters =
    Counters::new("aegis_consumer_failures_total", "Deliveries that failed and are to come again.", CONSUMER);
static RETRIES: Counters = Counters::new("aegis_consumer_retries_total", "Deliveries that were tried again.", CONSUMER);
static LAG: Histograms = Histograms::new(
    "aegis_consumer_lag_seconds",
    "Time from a change to its being taken in by a consumer, on the disk.",
    CONSUMER,
    LAGS,
);
static LAST_LAG: Gauges =
    Gauges::new("aegis_consumer_last_lag_seconds", "The same of the newest event that was taken in.", CONSUMER);

const HANDLED: &str = "handled";
const REPEATED: &str = "repeated";
const DEAD: &str = "dead_lettered";

/// A fault of ours is tried this often before the event is set aside.
const TRIES: u32 = 8;

/// What a service does with an event.
#[async_trait]
pub trait Handler: Send + Sync + 'static {
    /// Changes the service's state in `tx`. Called once for each event, also when it is delivered twice.
    async fn handle(&self, tx: &mut Tx, event: &Envelope) -> Result<(), Failure>;

    /// The same for several, in order: one by one, unless the service knows a way with fewer statements.
    async fn handle_all(&self, tx: &mut Tx, events: &[Taken<'_>]) -> Result<(), Failure> {
        for taken in events {
            Taken::together(&[taken], self.handle(tx, taken.event)).await?;
        }
        Ok(())
    }
}

/// An event that a handler has not seen before.
pub struct Taken<'a> {
    /// The event.
    pub event: &'a Envelope,
    consumer: &'static str,
    /// How long it took to handle it.
    took: OnceLock<Duration>,
}

impl<'a> Taken<'a> {
    fn new(event: &'a Envelope, consumer: &'static str) -> Self {
        Taken { event, consumer, took: OnceLock::new() }
    }

    /// Handles these events with `work`, in a span of each that is a part of the trace of what caused the event. Each
    /// is measured with its share of the time.
    pub async fn together<T>(
        events: &[&Taken<'_>],
        work: impl Future<Output = Result<T, Failure>> + Send,
    ) -> Result<T, Failure> {
        let spans: Vec<Span> = events.iter().map(|taken| taken.span()).collect();
        let began = Instant::now();
        let done = work.instrument(spans.first().cloned().unwrap_or_else(Span::none)).await;
        let each = began.elapsed() / u32::try_from(events.len().max(1)).unwrap_or(u32::MAX);
        for (taken, span) in events.iter().zip(spans) {
            let _ = taken.took.set(each);
            if let Err(failure) = &done {
                span.record("otel.status_code", "ERROR");
                span.record("error.type", failure.code().name());
            }
        }
        done
    }

    fn span(&self) -> Span {
        let (event, actor) = (self.event, self.event.actor.as_ref());
        let span = tracing::info_span!(
            parent: None,
            "consume",
            otel.name = format!("process {}", event.r#type),
            otel.kind = "consumer",
            messaging.operation.type = "process",
            messaging.consumer.group.name = self.consumer,
            messaging.destination.name = event.r#type,
            messaging.message.id = event.id,
            request_id = actor.map(|actor| actor.request_id.as_str()).filter(|id| !id.is_empty()),
            user.id = actor.map(|actor| actor.user_id.as_str()).filter(|id| !id.is_empty()),
            otel.status_code = Empty,
            error.type = Empty,
        );
        aegis_telemetry::set_parent(&span, &event.traceparent);
        span
    }
}

/// A service's handler, what it wants to hear of, and the database in which it remembers. Cheap to clone.
#[derive(Clone)]
pub struct Consumer {
    subscription: Subscription,
    db: Db,
    handler: Arc<dyn Handler>,
}

impl Consumer {
    /// `db` must have the tables of [`crate::migrations`].
    pub fn new(subscription: Subscription, db: Db, handler: Arc<dyn Handler>) -> Self {
        let consumer = subscription.consumer;
        FAILURES.add(&[consumer], 0);
        RETRIES.add(&[consumer], 0);
        LAG.declare(&[consumer]);
        LAST_LAG.set(&[consumer], 0.0);
        for kind in subscription.kinds {
            SECONDS.declare(&[consumer, kind]);
            [HANDLED, REPEATED, DEAD].iter().for_each(|outcome| EVENTS.add(&[consumer, kind, outcome], 0));
        }
        Consumer { subscription, db, handler }
    }

    /// What it wants to hear of.
    pub fn subscription(&self) -> Subscription {
        self.subscription
    }

    /// Takes events in, in order. When this returns `Ok` each of them is taken in or set aside, on the disk.
    /// `attempt` counts from 1; an error means that the same events are to be delivered again.
    pub(crate) async fn deliver(&self, events: &[Envelope], attempt: u32) -> Result<(), Failure> {
        if events.is_empty() {
            return Ok(());
        }
        let consumer = self.subscription.consumer;
        if attempt > 1 {
            RETRIES.inc(&[consumer]);
        }
        let delivered = self.deliver_all(events, attempt).await;
        if delivered.is_err() {
            FAILURES.inc(&[consumer]);
        }
        delivered
    }

    async fn deliver_all(&self, events: &[Envelope], attempt: u32) -> Result<(), Failure> {
        let mut handled = Vec::with_capacity(events.len());
        if self.take_in(events, &mut handled).await.is_err() {
            // One of them is the cause: singly, so that the others do not wait for it.
            for event in events {
                if let Err(failure) = self.take_in(std::slice::from_ref(event), &mut handled).await {
                    let away = matches!(failure.code(), Code::Unavailable | Code::Timeout | Code::StorageFull);
                    let fault = failure.code() == Code::Internal && attempt < TRIES;
                    if away || fault {
                        return Err(failure);
                    }
                    self.set_aside(event, &failure).await?;
                }
            }
        }
        self.db.sync().await?;
        self.measure_lag(&handled);
        Ok(())
    }

    /// Takes events in with one transaction. Those that were not known are added to `handled`.
    async fn take_in<'a>(&self, events: &'a [Envelope], handled: &mut Vec<&'a Envelope>) -> Result<(), Failure> {
        let consumer = self.subscription.consumer;
        let mut tx = self.db.begin().await?;
        let mut fresh = first_times(&mut tx, events).await?;
        let (new, repeated): (Vec<_>, Vec<_>) = events.iter().partition(|event| fresh.remove(&event.id));
        let new: Vec<Taken<'a>> = new.into_iter().map(|event| Taken::new(event, consumer)).collect();
        if !new.is_empty() {
            self.handler.handle_all(&mut tx, &new).await?;
        }
        tx.commit_relaxed().await?;
        for Taken { event, took, .. } in new {
            SECONDS.observe(&[consumer, &event.r#type], took.into_inner().unwrap_or_default().as_secs_f64());
            EVENTS.inc(&[consumer, &event.r#type, HANDLED]);
            handled.push(event);
        }
        repeated.iter().for_each(|event| EVENTS.inc(&[consumer, &event.r#type, REPEATED]));
        Ok(())
    }

    /// Of events that are on the disk now.
    fn measure_lag(&self, events: &[&Envelope]) {
        let (consumer, at) = (self.subscription.consumer, now());
        let mut last = None;
        for time in events.iter().filter_map(|event| event.time.as_ref()) {
            let nanos = u32::try_from(time.nanos).unwrap_or(0);
            if let Some(time) = DateTime::from_timestamp(time.seconds, nanos) {
                // Of a machine whose clock is ahead.
                let lag = (at - time).as_seconds_f64().max(0.0);
                LAG.observe(&[consumer], lag);
                last = Some(lag);
            }
        }
        if let Some(last) = last {
            LAST_LAG.set(&[consumer], last);
        }
    }

    async fn set_aside(&self, event: &Envelope, failure: &Failure) -> Result<(), Failure> {
        tracing::error!(consumer = self.subscription.consumer, event = event.id, kind = event.r#type, %failure,
            "an event could not be taken in and is set aside");
        let mut tx = self.db.begin().await?;
        on!(tx, |c| sqlx::query(
            "INSERT INTO dead_letter (id, kind, body, reason, at) VALUES ($1, $2, $3, $4, $5) ON CONFLICT (id) DO NOTHING"
        )
        .bind(&event.id)
        .bind(&event.r#type)
        .bind(event.encode_to_vec())
        .bind(failure.to_string())
        .bind(now())
        .execute(c)
        .await
        .map(|_| ()))
        .map_err(aegis_db::Error::from)?;
        tx.commit().await?;
        EVENTS.inc(&[self.subscription.consumer, &event.r#type, DEAD]);
        Ok(())
    }
}

/// Remembers events; answers the ids of those that were not known.
async fn first_times(tx: &mut Tx, events: &[Envelope]) -> aegis_db::Result<HashSet<String>> {
    // In one order for all: two consumers that remember the same events must not wait for each other.
    let ids: BTreeSet<&str> = events.iter().map(|event| event.id.as_str()).collect();
    let at = now();
    let new: Vec<String> = on!(tx, |c| {
        let mut query = QueryBuilder::new("INSERT INTO inbox (id, at) ");
        query.push_values(&ids, |mut row, id| {
            row.push_bind(id.to_string()).push_bind(at);
        });
        query.push(" ON CONFLICT (id) DO NOTHING RETURNING id");
        query.build_query_scalar().fetch_all(c).await
    })?;
    Ok(new.into_iter().collect())
}
