//! The bus of one process: calls the consumers, each in order, all at the same time.

use std::{
    sync::{Arc, RwLock},
    time::Duration,
};

use aegis_error::Failure;
use aegis_proto::events::v1::Envelope;
use tokio_util::sync::CancellationToken;

use crate::Consumer;

/// See [`super::Bus::local`].
#[derive(Clone, Default)]
pub(super) struct LocalBus {
    consumers: Arc<RwLock<Vec<Consumer>>>,
}

impl LocalBus {
    pub(super) fn attach(&self, consumer: Consumer) {
        self.consumers.write().unwrap_or_else(|poisoned| poisoned.into_inner()).push(consumer);
    }

    pub(super) async fn publish(&self, events: &[Envelope], stop: &CancellationToken) -> Result<(), Failure> {
        let consumers = self.consumers.read().unwrap_or_else(|poisoned| poisoned.into_inner()).clone();
        let deliveries = consumers.into_iter().map(|consumer| async move {
            let kinds = consumer.subscription().kinds;
            let wanted: Vec<Envelope> =
                events.iter().filter(|event| kinds.contains(&event.r#type.as_str())).cloned().collect();
            let mut attempt = 1;
            // Until it has them: its database may be away for a while, and the rows stay in the outbox anyway.
            while let Err(failure) = consumer.deliver(&wanted, attempt).await {
                tracing::warn!(consumer = consumer.subscription().consumer, attempt, %failure, "a delivery is tried again");
                let pause = Duration::from_millis(20 << attempt.min(6));
                tokio::select! {
                    () = tokio::time::sleep(pause) => {}
                    () = stop.cancelled() => return Err(failure),
                }
                attempt += 1;
            }
            Ok(())
        });
        futures::future::try_join_all(deliveries).await.map(|_| ())
    }
}
