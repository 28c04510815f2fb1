//! Clears away blobs that are to be removed: of uploads whose process was killed, and of evidence that was removed. Shows
//! files again that a process was about to remove when it ended.

use std::{sync::Arc, time::Duration};

use aegis_db::now;
use aegis_runtime::Shutdown;
use chrono::{DateTime, TimeDelta, Utc};
use futures::{StreamExt, stream};
use uuid::Uuid;

use super::{App, upload::MAX_TIME};
use crate::{
    error::Error,
    store::{self, uploads},
};

/// How often it looks.
const PAUSE: Duration = Duration::from_secs(60);
/// An upload that began before this is left behind: twice the longest that one may take.
pub(super) const ABANDONED_AFTER: TimeDelta = TimeDelta::hours(2);
/// A removal that began before this was cut off: longer than any request takes.
const REMOVAL_ENDS_AFTER: TimeDelta = TimeDelta::minutes(5);
/// Uploads cleared at once.
const BATCH: i64 = 200;
/// Blobs removed at the same time.
const AT_ONCE: usize = 8;

impl App {
    /// Looks at the start, when there is something, and from time to time, until `stop`.
    pub(crate) async fn keep_house(self: Arc<Self>, stop: Shutdown) {
        loop {
            match aegis_telemetry::job("evidence_housekeeping", self.tidy(now())).await {
                Ok(0) => {}
                Ok(removed) => tracing::info!(removed, "removed blobs that nothing needs"),
                Err(error) => tracing::warn!(%error, "blobs that nothing needs stay for now"),
            }
            tokio::select! {
                () = tokio::time::sleep(PAUSE) => {}
                () = self.left.notified() => {}
                () = stop.cancelled() => return,
            }
        }
    }

    /// Removes the blobs that are to be removed, and their rows; how many.
    pub(crate) async fn tidy(&self, now: DateTime<Utc>) -> Result<usize, Error> {
        let mut tx = self.db.begin().await?;
        match store::show_all(&mut tx, now - REMOVAL_ENDS_AFTER).await? {
            0 => tx.rollback().await?,
            shown => {
                tx.commit().await?;
                tracing::info!(shown, "files whose removal was cut off are seen again");
            }
        }
        let before = now - ABANDONED_AFTER;
        let (mut removed, mut cut_off) = (0, false);
        loop {
            // First marked, so that an upload which ends just now cannot succeed without its blob.
            let mut tx = self.db.begin().await?;
            let leftovers = uploads::abandon(&mut tx, before, BATCH).await?;
            if leftovers.is_empty() {
                tx.rollback().await?;
                break;
            }
            tx.commit().await?;
            cut_off |= leftovers.iter().any(|leftover| leftover.started_at > DateTime::UNIX_EPOCH);
            let gone: Vec<Option<Uuid>> = stream::iter(leftovers)
                .map(|leftover| async move {
                    let deleted = self.blobs.delete(&leftover.blob_key).await;
                    if let Err(error) = &deleted {
                        tracing::warn!(%error, key = leftover.blob_key, "a blob that nothing needs stays for now");
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
                uploads::forget(&mut tx, &gone).await?;
                tx.commit().await?;
                removed += gone.len();
            }
            // The store refuses: the next round tries again.
            if gone.len() < all {
                break;
            }
        }
        if cut_off {
            // A write that was cut off may have left its parts, too.
            self.blobs.sweep(MAX_TIME).await?;
        }
        Ok(removed)
    }
}
