//! Clears away what uploads left behind whose process was killed.

use std::{sync::Arc, time::Duration};

use aegis_db::now;
use aegis_runtime::Shutdown;
use chrono::{DateTime, TimeDelta, Utc};
use futures::{StreamExt, stream};
use uuid::Uuid;

use super::{App, upload::MAX_TIME};
use crate::{error::Error, store};

/// How often it looks.
const PAUSE: Duration = Duration::from_secs(10 * 60);
/// An upload that began before this is left behind: twice the longest that one may take.
const ABANDONED_AFTER: TimeDelta = TimeDelta::hours(2);
/// Uploads cleared at once.
const BATCH: i64 = 200;
/// Blobs removed at the same time.
const AT_ONCE: usize = 8;

impl App {
    /// Looks at the start and then from time to time, until `stop`.
    pub(crate) async fn keep_house(self: Arc<Self>, stop: Shutdown) {
        loop {
            match self.tidy(now()).await {
                Ok(0) => {}
                Ok(removed) => tracing::info!(removed, "cleared uploads that were left behind"),
                Err(error) => tracing::warn!(%error, "uploads that were left behind stay for now"),
            }
            tokio::select! {
                () = tokio::time::sleep(PAUSE) => {}
                () = stop.cancelled() => return,
            }
        }
    }

    /// Removes the blobs of uploads that were left behind, and their rows; how many.
    pub(crate) async fn tidy(&self, now: DateTime<Utc>) -> Result<usize, Error> {
        let before = now - ABANDONED_AFTER;
        let mut removed = 0;
        loop {
            // First marked, so that an upload which ends just now cannot succeed without its blob.
            let mut tx = self.db.begin().await?;
            let leftovers = store::abandon(&mut tx, before, BATCH).await?;
            if leftovers.is_empty() {
                tx.rollback().await?;
                break;
            }
            tx.commit().await?;
            let gone: Vec<Option<Uuid>> = stream::iter(leftovers)
                .map(|leftover| async move {
                    let deleted = self.blobs.delete(&leftover.blob_key).await;
                    if let Err(error) = &deleted {
                        tracing::warn!(%error, key = leftover.blob_key, "a blob that was left behind stays for now");
                    }
                    deleted.is_ok().then_some(leftover.id)
                })
                .buffer_unordered(AT_ONCE)
                .collect()
                .await;
            let all = gone.len();
            let gone: Vec<Uuid> = gone.into_iter().flatten().collect();
            if !gone.is_empty() {
                let mut tx = self.db.begin().await?;
                store::forget(&mut tx, &gone).await?;
                tx.commit().await?;
                removed += gone.len();
            }
            // The store refuses: the next round tries again.
            if gone.len() < all {
                break;
            }
        }
        if removed > 0 {
            // A write that was cut off may have left its parts, too.
            self.blobs.sweep(MAX_TIME).await?;
        }
        Ok(removed)
    }
}
