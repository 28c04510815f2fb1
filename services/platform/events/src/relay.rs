//! The relay: brings what stands in the outbox to the bus, and says how much waits there.

use std::time::{Duration, Instant};

use aegis_db::{Db, Tx, now, on, read};
use aegis_error::Failure;
use aegis_proto::events::v1::Envelope;
use aegis_telemetry::{Counters, Gauges, Histograms, meters::CALLS};
use chrono::{DateTime, TimeDelta, Utc};
use prost::Message;
use sqlx::QueryBuilder;
use tokio_util::sync::CancellationToken;
use tracing::{Span, field::Empty};

use crate::{Bus, Outbox, idempotency};

/// Events that the relay takes at once.
const BATCH: i64 = 200;
/// The relay looks by itself this often, for rows of a process that ended before it could.
const POLL: Duration = Duration::from_secs(1);
/// How often it says how much waits.
const MEASURE: Duration = Duration::from_secs(5);
/// What is remembered of events taken in; a redelivery later than this would be taken in twice.
const INBOX_KEEP: TimeDelta = TimeDelta::days(30);

const SERVICE: &[&str] = &["service_name"];
static UNPUBLISHED: Gauges =
    Gauges::new("aegis_outbox_unpublished_events", "Events that wait for the bus, counted up to 100,000.", SERVICE);
static OLDEST: Gauges = Gauges::new(
    "aegis_outbox_oldest_event_age_seconds",
    "For how long the oldest event has waited for the bus; 0 where none waits.",
    SERVICE,
);
static DEAD: Gauges =
    Gauges::new("aegis_dead_letters", "Events that could not be taken in and wait for a person.", SERVICE);
static PUBLISHED: Counters =
    Counters::new("aegis_outbox_published_events_total", "Events that the bus has taken over.", SERVICE);
static FAILURES: Counters = Counters::new(
    "aegis_outbox_publish_failures_total",
    "Batches that could not be brought to the bus and are tried again.",
    SERVICE,
);
static SECONDS: Histograms =
    Histograms::new("aegis_outbox_publish_duration_seconds", "Time to hand a batch to the bus.", SERVICE, CALLS);

#[derive(sqlx::FromRow)]
struct Row {
    id: String,
    body: Vec<u8>,
}

/// How many events of one service wait.
#[derive(Debug)]
pub struct Waiting {
    /// For the bus, counted up to 100,000.
    pub unpublished: i64,
    /// When the first of those was written.
    pub oldest: Option<DateTime<Utc>>,
    /// For a person, because they could not be taken in; counted up to 100,000.
    pub dead: i64,
}

impl Outbox {
    /// Brings committed events to the bus, in order, until `stop`. A row goes only when the bus has taken it over.
    pub async fn relay(self, db: Db, bus: Bus, stop: CancellationToken) {
        PUBLISHED.add(&[self.source], 0);
        FAILURES.add(&[self.source], 0);
        SECONDS.declare(&[self.source]);
        tokio::select! {
            () = self.pass_on_all(&db, &bus, &stop) => {}
            // Also while the bus takes nothing.
            () = self.measure(&db) => {}
        }
    }

    async fn pass_on_all(&self, db: &Db, bus: &Bus, stop: &CancellationToken) {
        let mut pause = Duration::from_millis(50);
        let mut purge_at = now();
        loop {
            match self.relay_batch(db, bus, stop).await {
                Ok(true) => {
                    pause = Duration::from_millis(50);
                    if !stop.is_cancelled() {
                        continue;
                    }
                }
                Ok(false) => {
                    pause = Duration::from_millis(50);
                    if stop.is_cancelled() {
                        return;
                    }
                    if now() >= purge_at {
                        purge_at = now() + TimeDelta::hours(1);
                        let inbox = purge_inbox(db, now() - INBOX_KEEP);
                        if let Err(error) = aegis_telemetry::job("inbox_purge", inbox).await {
                            tracing::warn!(%error, service = self.source, "old inbox rows stay for now");
                        }
                        let keys = idempotency::store::purge(db, now());
                        if let Err(error) = aegis_telemetry::job("idempotency_purge", keys).await {
                            tracing::warn!(%error, service = self.source, "old idempotency keys stay for now");
                        }
                    }
                    tokio::select! {
                        () = self.wake.notified() => {}
                        () = tokio::time::sleep(POLL) => {}
                        () = stop.cancelled() => {}
                    }
                    continue;
                }
                Err(failure) => {
                    FAILURES.inc(&[self.source]);
                    tracing::warn!(%failure, service = self.source, "events wait in the outbox");
                    pause = (pause * 2).min(Duration::from_secs(1));
                }
            }
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = stop.cancelled() => return,
            }
        }
    }

    /// Passes one batch on. True when there may be more.
    async fn relay_batch(&self, db: &Db, bus: &Bus, stop: &CancellationToken) -> Result<bool, Failure> {
        match db {
            Db::Sqlite(_) => {
                let rows: Vec<Row> =
                    aegis_db::read!(db, |pool| sqlx::query_as(SELECT).bind(BATCH).fetch_all(pool).await)
                        .map_err(aegis_db::Error::from)?;
                if rows.is_empty() {
                    return Ok(false);
                }
                self.pass_on(bus, &rows, stop).await?;
                let mut tx = db.begin().await?;
                delete(&mut tx, &rows).await?;
                // A row that comes back after a power cut is passed on again: the inboxes know it.
                tx.commit_relaxed().await?;
            }
            Db::Postgres(_) => {
                let mut tx = db.begin().await?;
                // One relay at a time across replicas keeps the order.
                let mine: bool =
                    on!(tx, |c| sqlx::query_scalar(LOCK).fetch_one(c).await).map_err(aegis_db::Error::from)?;
                if !mine {
                    return Ok(false);
                }
                let rows: Vec<Row> = on!(tx, |c| sqlx::query_as(SELECT).bind(BATCH).fetch_all(c).await)
                    .map_err(aegis_db::Error::from)?;
                if rows.is_empty() {
                    return Ok(false);
                }
                self.pass_on(bus, &rows, stop).await?;
                delete(&mut tx, &rows).await?;
                tx.commit().await?;
            }
        }
        Ok(true)
    }

    /// Hands a batch to the bus. An event whose trace is recorded comes after the span of that from here on.
    async fn pass_on(&self, bus: &Bus, rows: &[Row], stop: &CancellationToken) -> Result<(), Failure> {
        let mut events = rows
            .iter()
            .map(|row| Envelope::decode(row.body.as_slice()).map_err(Failure::internal))
            .collect::<Result<Vec<_>, _>>()?;
        let spans: Vec<Span> = events.iter_mut().filter_map(|event| publishing(bus, event)).collect();
        let began = Instant::now();
        let published = bus.publish(&events, stop).await;
        SECONDS.observe(&[self.source], began.elapsed().as_secs_f64());
        match &published {
            Ok(()) => PUBLISHED.add(&[self.source], events.len() as u64),
            Err(_) => spans.iter().for_each(|span| {
                span.record("otel.status_code", "ERROR");
            }),
        }
        published
    }

    /// Says again and again how much waits.
    async fn measure(&self, db: &Db) {
        loop {
            match waiting(db).await {
                Ok(Waiting { unpublished, oldest, dead }) => {
                    let age = oldest.map_or(TimeDelta::zero(), |oldest| now() - oldest);
                    UNPUBLISHED.set(&[self.source], unpublished as f64);
                    OLDEST.set(&[self.source], age.as_seconds_f64().max(0.0));
                    DEAD.set(&[self.source], dead as f64);
                }
                Err(error) => tracing::debug!(%error, service = self.source, "the outbox is not measured for now"),
            }
            tokio::time::sleep(MEASURE).await;
        }
    }
}

const SELECT: &str = "SELECT id, body FROM outbox ORDER BY seq LIMIT $1";
// The number is arbitrary and ours; the schema tells the services of one database apart.
const LOCK: &str = "SELECT pg_try_advisory_xact_lock(7242, hashtext(current_schema()))";

/// The span of handing an event over, which the event names from then on. None where its trace is not recorded.
fn publishing(bus: &Bus, event: &mut Envelope) -> Option<Span> {
    if !aegis_telemetry::is_recorded(&event.traceparent) {
        return None;
    }
    let span = tracing::info_span!(
        parent: None,
        "publish",
        otel.name = format!("publish {}", event.r#type),
        otel.kind = "producer",
        messaging.system = bus.system(),
        messaging.operation.type = "send",
        messaging.destination.name = event.r#type,
        messaging.message.id = event.id,
        otel.status_code = Empty,
    );
    aegis_telemetry::set_parent(&span, &event.traceparent);
    event.traceparent = aegis_telemetry::traceparent(&span);
    Some(span)
}

/// How many events wait in a service's database: read by keys and indexes alone, with a bound on what is counted.
pub async fn waiting(db: &Db) -> aegis_db::Result<Waiting> {
    const COUNT: &str = "SELECT COUNT(*) FROM (SELECT id FROM outbox LIMIT 100000) AS waiting";
    const OLDEST: &str = "SELECT at FROM outbox ORDER BY seq LIMIT 1";
    const DEAD: &str = "SELECT COUNT(*) FROM (SELECT id FROM dead_letter LIMIT 100000) AS dead";
    let unpublished: i64 = read!(db, |pool| sqlx::query_scalar(COUNT).fetch_one(pool).await)?;
    let oldest: Option<DateTime<Utc>> = match unpublished {
        0 => None,
        _ => read!(db, |pool| sqlx::query_scalar(OLDEST).fetch_optional(pool).await)?,
    };
    let dead: i64 = read!(db, |pool| sqlx::query_scalar(DEAD).fetch_one(pool).await)?;
    Ok(Waiting { unpublished, oldest, dead })
}

async fn delete(tx: &mut Tx, rows: &[Row]) -> aegis_db::Result<()> {
    on!(tx, |c| {
        let mut query = QueryBuilder::new("DELETE FROM outbox WHERE id IN (");
        let mut ids = query.separated(", ");
        for row in rows {
            ids.push_bind(row.id.clone());
        }
        query.push(")");
        query.build().execute(c).await.map(|_| ())
    })?;
    Ok(())
}

async fn purge_inbox(db: &Db, before: DateTime<Utc>) -> aegis_db::Result<()> {
    let mut tx = db.begin().await?;
    on!(tx, |c| sqlx::query("DELETE FROM inbox WHERE at < $1").bind(before).execute(c).await.map(|_| ()))?;
    tx.commit_relaxed().await
}
