//! A service as a consumer of events: each is taken in once, in one transaction with the change that it causes.

use std::{sync::Arc, time::Instant};

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
        let mut tx = self.db.begin().await?;
        let mut done = Vec::with_capacity(events.len());
        for event in events {
            let span = self.span(event);
            let began = Instant::now();
            match self.handle(&mut tx, event).instrument(span.clone()).await {
                Ok(outcome) => done.push((outcome, began.elapsed())),
                Err(failure) => {
                    span.record("otel.status_code", "ERROR");
                    span.record("error.type", failure.code().name());
                    return Err(failure);
                }
            }
        }
        tx.commit_relaxed().await?;
        let consumer = self.subscription.consumer;
        for (event, (outcome, took)) in events.iter().zip(done) {
            SECONDS.observe(&[consumer, &event.r#type], took.as_secs_f64());
            EVENTS.inc(&[consumer, &event.r#type, outcome]);
            if outcome == HANDLED {
                handled.push(event);
            }
        }
        Ok(())
    }

    async fn handle(&self, tx: &mut Tx, event: &Envelope) -> Result<&'static str, Failure> {
        if first_time(tx, &event.id).await? {
            self.handler.handle(tx, event).await?;
            return Ok(HANDLED);
        }
        Ok(REPEATED)
    }

    /// The span of handling an event, a part of the trace of what caused it.
    fn span(&self, event: &Envelope) -> Span {
        let actor = event.actor.as_ref();
        let span = tracing::info_span!(
            parent: None,
            "consume",
            otel.name = format!("process {}", event.r#type),
            otel.kind = "consumer",
            messaging.operation.type = "process",
            messaging.consumer.group.name = self.subscription.consumer,
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

async fn first_time(tx: &mut Tx, id: &str) -> aegis_db::Result<bool> {
    let rows = on!(tx, |c| sqlx::query("INSERT INTO inbox (id, at) VALUES ($1, $2) ON CONFLICT (id) DO NOTHING")
        .bind(id)
        .bind(now())
        .execute(c)
        .await
        .map(|done| done.rows_affected()))?;
    Ok(rows == 1)
}
