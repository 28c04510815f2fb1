//! A service as a consumer of events: each is taken in once, in one transaction with the change that it causes.

use std::sync::Arc;

use aegis_db::{Db, Tx, now, on};
use aegis_error::{Code, Failure};
use aegis_proto::events::v1::Envelope;
use async_trait::async_trait;
use prost::Message;

use crate::Subscription;

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
        if self.take_in(events).await.is_err() {
            // One of them is the cause: singly, so that the others do not wait for it.
            for event in events {
                if let Err(failure) = self.take_in(std::slice::from_ref(event)).await {
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
        Ok(())
    }

    async fn take_in(&self, events: &[Envelope]) -> Result<(), Failure> {
        let mut tx = self.db.begin().await?;
        for event in events {
            if first_time(&mut tx, &event.id).await? {
                self.handler.handle(&mut tx, event).await?;
            }
        }
        tx.commit_relaxed().await?;
        Ok(())
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
