//! Asking the owners for what is due, and when.

use std::{collections::BTreeMap, time::Duration};

use aegis_auth::OpCtx;
use aegis_db::now;
use aegis_error::Failure;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::Instrument;

use super::App;
use crate::{error::Error, store};

/// What another replica marked, or what failed, is looked at again after this.
const LOOK: Duration = Duration::from_secs(5);
/// An import tells many times that something has changed: no pull begins sooner after the one before.
const PAUSE: Duration = Duration::from_millis(200);

impl App {
    /// Asks the owners for what is due, until the process ends: what is known of techniques, and everything after an
    /// upgrade from a version that knew less.
    pub(crate) async fn keep_pulling(&self, stop: CancellationToken) {
        let _ = stop.run_until_cancelled(self.pull_forever()).await;
    }

    async fn pull_forever(&self) {
        let mut failed = 0;
        loop {
            let began = Instant::now();
            match aegis_telemetry::job("analytics_pulls", self.pull_due()).await {
                Ok(()) => failed = 0,
                Err(error) => {
                    failed += 1;
                    let failure = Failure::from(error);
                    // At the start the owners may not answer yet.
                    match failed {
                        1 => tracing::debug!(%failure, "what is due could not be asked for; trying again"),
                        _ => tracing::warn!(%failure, failed, "what is due could not be asked for; trying again"),
                    }
                    tokio::time::sleep(LOOK.min(PAUSE * 2_u32.saturating_pow(failed.min(10)))).await;
                    continue;
                }
            }
            // What takes long is not done all the time.
            tokio::time::sleep(PAUSE.max(began.elapsed())).await;
            let _ = tokio::time::timeout(LOOK, self.pulls.woken()).await;
        }
    }

    async fn pull_due(&self) -> Result<(), Error> {
        if store::rebuild_due(&self.db).await? {
            let ctx = self.owners.background.ctx().await?;
            self.rebuild_after_upgrade(&ctx).await?;
        }
        let due = store::knowledge::due(&self.db).await?;
        if due.is_empty() {
            return Ok(());
        }
        let ctx = self.owners.background.ctx().await?;
        let span = tracing::info_span!(parent: None, "pull", kinds = due.len());
        self.pull_known(&ctx, &due).instrument(span).await.map(|_| ())
    }

    /// Asks for kinds, each with the mark that was on it before, and keeps what the owner answers. How many records
    /// there are.
    pub(crate) async fn pull_known(&self, ctx: &OpCtx, due: &BTreeMap<String, i64>) -> Result<usize, Error> {
        let kinds: Vec<String> = due.keys().cloned().collect();
        let known = self.owners.known(ctx, &kinds).await?;
        let mut tx = self.db.begin().await?;
        // Nobody else replaces what is compared here.
        store::advance(&mut tx, now()).await?;
        let mut changed = false;
        for (kind, mark) in due {
            // What another replica asked for later stays.
            if let Some(records) = known.get(kind)
                && store::knowledge::pulled(&mut tx, kind, *mark).await?
            {
                changed |= store::knowledge::replace(&mut tx, kind, records).await?;
            }
        }
        if changed {
            store::knowledge::revise(&mut tx).await?;
        }
        self.coverage().renew_on_commit(&mut tx);
        tx.commit().await?;
        Ok(known.values().map(BTreeMap::len).sum())
    }
}
