//! What the scheduler's jobs do, besides the scan.

use std::time::Duration;

use aegis_error::Failure;
use aegis_proto::analytics::v1::TakeScheduledSnapshotRequest;
use chrono::{DateTime, TimeDelta, Utc};
use uuid::Uuid;

use super::{App, SyncOrder, scheduler::scheduler_ctx};
use crate::{
    error::Error,
    store::{item, schedule},
};

/// How long ended runs and jobs are kept.
const RUNS_KEPT: TimeDelta = TimeDelta::days(90);
/// How long items are kept that are gone from their feed.
const ITEMS_KEPT: TimeDelta = TimeDelta::days(365);
/// For how long a feed must have been without an item.
const ITEMS_GONE: TimeDelta = TimeDelta::days(30);
/// Tries to have a snapshot taken while analytics is away, and the pause between two: ten minutes in all.
const SNAPSHOT_TRIES: u32 = 20;
const SNAPSHOT_PAUSE: Duration = Duration::from_secs(30);

impl App {
    /// Syncs a source as if by hand, to the end.
    pub(super) async fn sync_on_schedule(&self, source: Uuid) -> Result<(), Error> {
        let order = SyncOrder { source_id: source.to_string(), wait: true, ..SyncOrder::default() };
        self.start_sync(&scheduler_ctx(), order).await.map(|_| ())
    }

    /// Has coverage kept as it is, once for each due time.
    pub(super) async fn take_snapshot(&self, due: DateTime<Utc>) -> Result<(), Error> {
        let due = prost_types::Timestamp {
            seconds: due.timestamp(),
            nanos: i32::try_from(due.timestamp_subsec_nanos()).unwrap_or(0),
        };
        let mut tries = 1;
        loop {
            let failure = match self.ask_for_snapshot(due).await {
                Ok(()) => return Ok(()),
                Err(failure) => failure,
            };
            if !failure.is_transient() || tries >= SNAPSHOT_TRIES {
                return Err(failure.into());
            }
            tracing::warn!(%failure, tries, "a snapshot could not be taken yet");
            tokio::time::sleep(SNAPSHOT_PAUSE).await;
            tries += 1;
        }
    }

    async fn ask_for_snapshot(&self, due: prost_types::Timestamp) -> Result<(), Failure> {
        let request = self.0.background.ctx().await?.outgoing(TakeScheduledSnapshotRequest { due: Some(due) });
        let taken =
            self.0.snapshots.clone().take_scheduled_snapshot(request).await.map_err(Failure::from)?.into_inner();
        tracing::info!(created = taken.created, removed = taken.removed, "coverage was kept");
        Ok(())
    }

    /// Removes what nobody needs any more.
    pub(super) async fn clean_up(&self, at: DateTime<Utc>) -> Result<(), Error> {
        let mut tx = self.db().begin().await?;
        let runs = schedule::purge(&mut tx, at - RUNS_KEPT).await?;
        let items = item::purge(&mut tx, at - ITEMS_KEPT, at - ITEMS_GONE).await?;
        tx.commit().await?;
        tracing::info!(runs, items, "what was old is gone");
        Ok(())
    }
}
