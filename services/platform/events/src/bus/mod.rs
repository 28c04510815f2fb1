//! The bus: RabbitMQ between processes, or plain calls inside one.

mod local;
mod rabbit;

use aegis_error::Failure;
use aegis_proto::events::v1::Envelope;
use tokio_util::sync::CancellationToken;

use crate::Consumer;
use local::LocalBus;
use rabbit::RabbitBus;
pub use rabbit::queue_name;

/// Who wants to hear of what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Subscription {
    /// The consumer's name: the service's.
    pub consumer: &'static str,
    /// Routing keys.
    pub kinds: &'static [&'static str],
}

/// Carries events from outboxes to consumers. Cheap to clone.
#[derive(Clone)]
pub struct Bus(Inner);

#[derive(Clone)]
enum Inner {
    Local(LocalBus),
    Rabbit(RabbitBus),
}

impl Bus {
    /// Inside one process: the relay calls the consumers itself. Durability is the outbox row.
    pub fn local() -> Self {
        Bus(Inner::Local(LocalBus::default()))
    }

    /// Over RabbitMQ. `topology` names every consumer of the product, also those of other processes: their queues
    /// are declared by whoever publishes, so that an event for a service that was never started waits for it. `roots`
    /// are certificates of a private CA (PEM), for `amqps`.
    pub fn rabbit(url: &str, topology: Vec<Subscription>, roots: Option<String>) -> Self {
        Bus(Inner::Rabbit(RabbitBus::new(url, topology, roots)))
    }

    /// Hands events over. `Ok` means that each consumer has it or that the broker keeps it.
    pub(crate) async fn publish(&self, events: &[Envelope], stop: &CancellationToken) -> Result<(), Failure> {
        match &self.0 {
            Inner::Local(bus) => bus.publish(events, stop).await,
            Inner::Rabbit(bus) => bus.publish(events).await,
        }
    }

    /// What carries events, as traces name it.
    pub(crate) fn system(&self) -> &'static str {
        match &self.0 {
            Inner::Local(_) => "aegis",
            Inner::Rabbit(_) => "rabbitmq",
        }
    }

    /// Attaches a consumer. The delivery has to be run. To be called for all consumers of the process before any
    /// relay starts.
    pub fn subscribe(&self, consumer: Consumer) -> Delivery {
        if let Inner::Local(bus) = &self.0 {
            bus.attach(consumer.clone());
        }
        Delivery { bus: self.clone(), consumer }
    }

    /// Answers when the broker does.
    pub async fn ping(&self) -> Result<(), Failure> {
        match &self.0 {
            Inner::Local(_) => Ok(()),
            Inner::Rabbit(bus) => bus.ping().await,
        }
    }
}

/// Brings events to one consumer while it runs.
pub struct Delivery {
    bus: Bus,
    consumer: Consumer,
}

impl Delivery {
    /// Delivers until `stop`.
    pub async fn run(self, stop: CancellationToken) {
        match self.bus.0 {
            // The relays call the consumer themselves.
            Inner::Local(_) => stop.cancelled().await,
            Inner::Rabbit(bus) => bus.consume(self.consumer, stop).await,
        }
    }
}
