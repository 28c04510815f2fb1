//! The bus between processes: a durable topic exchange, one quorum queue a consumer with a dead-letter queue behind it,
//! publishing with confirms, manual acknowledgement after the consumer's commit.

use std::{convert::Infallible, sync::Arc, time::Duration};

use aegis_error::Failure;
use aegis_proto::events::v1::Envelope;
use aegis_telemetry::Gauges;
use futures::StreamExt;
use lapin::{
    BasicProperties, Channel, Connection, ConnectionProperties, ExchangeKind,
    message::Delivery,
    options::{
        BasicAckOptions, BasicConsumeOptions, BasicPublishOptions, BasicQosOptions, ConfirmSelectOptions,
        ExchangeDeclareOptions, QueueBindOptions, QueueDeclareOptions,
    },
    tcp::OwnedTLSConfig,
    types::{AMQPValue, FieldTable},
};
use prost::Message;
use tokio::sync::Mutex;
use tokio_util::sync::CancellationToken;

use crate::{Consumer, Subscription};

/// Where events are published.
const EXCHANGE: &str = "aegis.events";
/// Where the broker puts what it could not deliver.
const DEAD_EXCHANGE: &str = "aegis.dead";
/// Unacknowledged messages that a consumer holds.
const PREFETCH: u16 = 128;
/// Messages taken in with one transaction.
const CHUNK: usize = 64;
/// Deliveries of one message, counted by the broker, before it is dead.
const DELIVERY_LIMIT: i64 = 20;
/// A broker that does not answer by then is away.
const PATIENCE: Duration = Duration::from_secs(5);

/// How often it is asked how many messages wait.
const MEASURE: Duration = Duration::from_secs(10);

static QUEUED: Gauges =
    Gauges::new("aegis_consumer_queue_messages", "Messages that wait in a consumer's queue.", &["consumer"]);

/// See [`super::Bus::rabbit`].
#[derive(Clone)]
pub(super) struct RabbitBus {
    shared: Arc<Shared>,
}

struct Shared {
    url: String,
    /// Certificates of a private CA (PEM).
    roots: Option<String>,
    topology: Vec<Subscription>,
    publisher: Mutex<Option<(Connection, Channel)>>,
}

impl RabbitBus {
    pub(super) fn new(url: &str, topology: Vec<Subscription>, roots: Option<String>) -> Self {
        RabbitBus { shared: Arc::new(Shared { url: url.to_owned(), roots, topology, publisher: Mutex::new(None) }) }
    }

    async fn connect(&self) -> Result<(Connection, Channel), lapin::Error> {
        let properties = ConnectionProperties::default().with_connection_name("aegis".into());
        let tls = OwnedTLSConfig { identity: None, cert_chain: self.shared.roots.clone() };
        let runtime = lapin::runtime::default_runtime()?;
        let connection = Connection::connect_with_config(&self.shared.url, properties, tls, runtime).await?;
        let channel = connection.create_channel().await?;
        self.declare(&channel).await?;
        Ok((connection, channel))
    }

    async fn declare(&self, channel: &Channel) -> Result<(), lapin::Error> {
        let durable = ExchangeDeclareOptions { durable: true, ..ExchangeDeclareOptions::default() };
        for (exchange, kind) in [(EXCHANGE, ExchangeKind::Topic), (DEAD_EXCHANGE, ExchangeKind::Direct)] {
            channel.exchange_declare(exchange.into(), kind, durable, FieldTable::default()).await?;
        }
        for subscription in &self.shared.topology {
            let queue = queue_name(subscription.consumer);
            let dead = format!("{queue}.dead");
            let mut arguments = FieldTable::default();
            arguments.insert("x-queue-type".into(), AMQPValue::LongString("quorum".into()));
            channel.queue_declare(dead.clone().into(), QueueDeclareOptions::durable(), arguments.clone()).await?;
            channel
                .queue_bind(
                    dead.into(),
                    DEAD_EXCHANGE.into(),
                    queue.clone().into(),
                    QueueBindOptions::default(),
                    FieldTable::default(),
                )
                .await?;
            arguments.insert("x-delivery-limit".into(), AMQPValue::LongLongInt(DELIVERY_LIMIT));
            arguments.insert("x-dead-letter-exchange".into(), AMQPValue::LongString(DEAD_EXCHANGE.into()));
            arguments.insert("x-dead-letter-routing-key".into(), AMQPValue::LongString(queue.clone().into()));
            channel.queue_declare(queue.clone().into(), QueueDeclareOptions::durable(), arguments).await?;
            for kind in subscription.kinds {
                channel
                    .queue_bind(
                        queue.clone().into(),
                        EXCHANGE.into(),
                        (*kind).into(),
                        QueueBindOptions::default(),
                        FieldTable::default(),
                    )
                    .await?;
            }
        }
        Ok(())
    }

    pub(super) async fn publish(&self, events: &[Envelope]) -> Result<(), Failure> {
        let mut publisher = self.shared.publisher.lock().await;
        let channel = match publisher.as_ref() {
            Some((_, channel)) if channel.status().connected() => channel.clone(),
            _ => {
                let (connection, channel) = within(self.connect()).await?;
                within(channel.confirm_select(ConfirmSelectOptions::default())).await?;
                *publisher = Some((connection, channel.clone()));
                channel
            }
        };
        let sent = within(send(&channel, events)).await;
        if sent.is_err() {
            // A channel that failed once is not trusted again.
            *publisher = None;
        }
        sent
    }

    pub(super) async fn consume(self, consumer: Consumer, stop: CancellationToken) {
        let name = consumer.subscription().consumer;
        while !stop.is_cancelled() {
            let ended = tokio::select! {
                ended = self.consume_once(&consumer, &stop) => ended,
                () = stop.cancelled() => return,
            };
            if let Err(error) = ended {
                tracing::warn!(consumer = name, %error, "the broker is away; trying again");
            }
            tokio::select! {
                () = tokio::time::sleep(Duration::from_secs(1)) => {}
                () = stop.cancelled() => return,
            }
        }
    }

    async fn begin(&self, name: &str) -> Result<(Connection, Channel, lapin::Consumer), lapin::Error> {
        let (connection, channel) = self.connect().await?;
        channel.basic_qos(PREFETCH, BasicQosOptions::default()).await?;
        let deliveries = channel
            .basic_consume(queue_name(name).into(), "".into(), BasicConsumeOptions::default(), FieldTable::default())
            .await?;
        Ok((connection, channel, deliveries))
    }

    async fn consume_once(&self, consumer: &Consumer, stop: &CancellationToken) -> Result<(), Failure> {
        let name = consumer.subscription().consumer;
        // A broker that takes a connection and says nothing would keep the consumer waiting for good.
        let (connection, channel, deliveries) = within(self.begin(name)).await?;
        let ended = tokio::select! {
            ended = take_in(consumer, deliveries, stop) => ended,
            // Also while the consumer is stuck.
            never = measure(&channel, name) => match never {},
        };
        drop((channel, connection));
        ended
    }

    pub(super) async fn ping(&self) -> Result<(), Failure> {
        let mut publisher = self.shared.publisher.lock().await;
        match publisher.as_ref() {
            Some((connection, channel)) if connection.status().connected() && channel.status().connected() => Ok(()),
            _ => {
                let (connection, channel) = within(self.connect()).await?;
                within(channel.confirm_select(ConfirmSelectOptions::default())).await?;
                *publisher = Some((connection, channel));
                Ok(())
            }
        }
    }
}

/// Takes in what is delivered until the stream of deliveries ends.
async fn take_in(consumer: &Consumer, deliveries: lapin::Consumer, stop: &CancellationToken) -> Result<(), Failure> {
    let name = consumer.subscription().consumer;
    let mut chunks = deliveries.ready_chunks(CHUNK);
    while let Some(chunk) = chunks.next().await {
        let deliveries = chunk.into_iter().collect::<Result<Vec<Delivery>, _>>().map_err(away)?;
        let mut events = Vec::with_capacity(deliveries.len());
        for delivery in &deliveries {
            match Envelope::decode(delivery.data.as_slice()) {
                Ok(event) => events.push(event),
                Err(error) => {
                    tracing::error!(consumer = name, %error, "a message is no event of ours and is dropped");
                }
            }
        }
        let mut attempt = 1;
        while let Err(failure) = consumer.deliver(&events, attempt).await {
            tracing::warn!(consumer = name, attempt, %failure, "a delivery is tried again");
            let pause = Duration::from_millis(20 << attempt.min(7));
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                // Unacknowledged: the broker gives them to the next consumer.
                () = stop.cancelled() => return Ok(()),
            }
            attempt += 1;
        }
        for delivery in &deliveries {
            delivery.ack(BasicAckOptions::default()).await.map_err(away)?;
        }
    }
    Ok(())
}

/// Says again and again how many messages wait in a consumer's queue.
async fn measure(channel: &Channel, name: &str) -> Infallible {
    loop {
        let passive = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::durable() };
        match within(channel.queue_declare(queue_name(name).into(), passive, FieldTable::default())).await {
            Ok(queue) => QUEUED.set(&[name], queue.message_count().into()),
            Err(error) => tracing::debug!(consumer = name, %error, "the queue is not measured for now"),
        }
        tokio::time::sleep(MEASURE).await;
    }
}

async fn send(channel: &Channel, events: &[Envelope]) -> Result<(), lapin::Error> {
    let mut confirms = Vec::with_capacity(events.len());
    for event in events {
        let properties = BasicProperties::default()
            // Persistent.
            .with_delivery_mode(2)
            .with_content_type("application/x-protobuf".into())
            .with_message_id(event.id.as_str().into())
            .with_type(event.r#type.as_str().into());
        let confirm = channel
            .basic_publish(
                EXCHANGE.into(),
                event.r#type.as_str().into(),
                BasicPublishOptions::default(),
                &event.encode_to_vec(),
                properties,
            )
            .await?;
        confirms.push(confirm);
    }
    for confirm in confirms {
        if !confirm.await?.is_ack() {
            return Err(std::io::Error::other("the broker did not confirm a message").into());
        }
    }
    Ok(())
}

async fn within<T>(work: impl Future<Output = Result<T, lapin::Error>>) -> Result<T, Failure> {
    match tokio::time::timeout(PATIENCE, work).await {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(error)) => Err(away(error)),
        Err(elapsed) => Err(Failure::unavailable("the message broker").with_source(elapsed)),
    }
}

fn away(error: lapin::Error) -> Failure {
    Failure::unavailable("the message broker").with_source(error)
}

/// The queue of a consumer; what it could not take is in the one with `.dead` behind that name.
pub fn queue_name(consumer: &str) -> String {
    format!("aegis.{consumer}")
}
