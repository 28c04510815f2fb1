//! Events between services: the envelope, the outbox that a change writes into, the bus, the inbox that makes twice once.

mod bus;
mod consumer;
mod envelope;
mod idempotency;
mod outbox;
mod relay;

use aegis_db::Migrations;

pub use bus::{Bus, Delivery, Subscription, queue_name};
pub use consumer::{Consumer, Handler, Taken};
pub use envelope::{Event, actor, decode, system_actor};
pub use idempotency::{Claim, IdempotencyLayer, Idempotent};
pub use outbox::{Audit, Outbox};
pub use relay::{Waiting, waiting};

/// The tables of outbox, inbox and idempotency keys, to be migrated together with a service's own (versions 1 to 99 are ours).
pub fn migrations() -> Migrations {
    aegis_db::migrations!()
}
