//! The end of old events: what nobody keeps for ever, and what attackers would fill the disk with.
//!
//! Events go a run at a time (`domain/index.rs`), the oldest first, once all that follows from them is derived: profiles,
//! bounty, observations, alerts and captured files stay. Age counts from when they came in, not from when they say that
//! they happened: clocks of sensors, and files of old logs, say anything.

use std::{sync::Arc, time::Duration};

use aegis_db::now;
use chrono::TimeDelta;
use tokio_util::sync::CancellationToken;

use super::App;
use crate::{
    error::Error,
    figures,
    store::{
        follow,
        logs::{self, Head},
        runs::{self, Stored},
    },
};

/// How often is looked.
const AGAIN: Duration = Duration::from_secs(5 * 60);
/// Rows that one transaction removes: storing waits for it on SQLite.
const ROWS: i64 = 4_000;

impl App {
    /// Removes the oldest events, in whole runs, that are more or older than what is kept; answers how many.
    pub(crate) async fn remove_old_events(&self, stop: &CancellationToken) -> Result<i64, Error> {
        let mut removed = 0;
        // What an earlier round did not get done.
        self.remove_rows(stop).await?;
        while !stop.is_cancelled() {
            let Some((run, written_at)) = runs::oldest(&self.db).await? else { break };
            let head = logs::head(&self.db).await?;
            if !self.is_old(run, written_at, head) || follow::place(&self.db).await?.position < run.last_id {
                break;
            }
            if !self.let_go(run).await? {
                break;
            }
            removed += run.last_id - run.first_id + 1;
            self.logs_committed.ring();
            self.remove_rows(stop).await?;
        }
        if removed > 0 {
            figures::REMOVED.add(&[], removed.unsigned_abs());
            tracing::info!(removed, "old events were removed");
        }
        Ok(removed)
    }

    fn is_old(&self, run: Stored, written_at: i64, head: Head) -> bool {
        let (days, kept) = (self.config.event_retention_days, self.config.events_kept);
        let before = now().checked_sub_signed(TimeDelta::days(i64::from(days))).map(|at| at.timestamp_micros());
        let too_old = days > 0 && before.is_some_and(|before| written_at < before);
        let left = (head.last_id - run.last_id).unsigned_abs();
        too_old || (kept > 0 && left >= kept)
    }

    /// Takes a run and its events out of all that is told; false where somebody else did, or everything was purged.
    pub(crate) async fn let_go(&self, run: Stored) -> Result<bool, Error> {
        // Before anybody has to wait: what is in a run stays the same.
        let minutes = logs::minutes_between(&self.db, run.first_id, run.last_id).await?;
        let mut tx = self.db.begin().await?;
        let head = logs::lock_head(&mut tx).await?;
        if head.purged_id + 1 != run.first_id || !runs::remove(&mut tx, run.run).await? {
            tx.rollback().await?;
            return Ok(false);
        }
        logs::let_go(&mut tx, run.last_id, &minutes).await?;
        tx.commit().await?;
        Ok(true)
    }

    async fn remove_rows(&self, stop: &CancellationToken) -> Result<(), Error> {
        while !stop.is_cancelled() && logs::sweep(&self.db, ROWS).await? {
            // Others store in between.
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        Ok(())
    }

    /// Looks again and again; the processes of the service do so side by side.
    pub(crate) async fn keep_events(self: Arc<Self>, stop: CancellationToken) {
        loop {
            if let Err(error) = aegis_telemetry::job("deception_retention", self.remove_old_events(&stop)).await {
                tracing::warn!(%error, "old events are removed later");
            }
            tokio::select! {
                () = tokio::time::sleep(AGAIN) => {}
                () = stop.cancelled() => return,
            }
        }
    }
}
