//! The end of old audit records, in a way that leaves the rest provable.
//!
//! Records go oldest first, and only from the beginning of the chain. In the same transaction the chain is given a new
//! beginning (the anchor: position and hash of the last record that went) and a record at its end that says so. The
//! walk begins at the anchor and believes it only if the newest such record says the same.

use aegis_db::now;
use chrono::{DateTime, NaiveTime, SecondsFormat, TimeDelta, Utc};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::{
    domain::{
        audit::Entry,
        chain::{PRUNE, Pruned},
    },
    error::Error,
    store,
};

use super::{
    App,
    audit::{Progress, walk_segment},
};

/// Most records that one transaction removes.
const BATCH: i64 = 10_000;

impl App {
    /// Removes the audit records that are older than they are kept, if they are not kept for ever; answers how many.
    pub(crate) async fn prune_audit(&self, stop: &CancellationToken) -> Result<i64, Error> {
        let days = self.config.audit_retention_days;
        if days == 0 {
            return Ok(0);
        }
        // Whole days: else every hour would remove a few records and add one that tells of it.
        let today = now().date_naive().and_time(NaiveTime::MIN).and_utc();
        let Some(before) = today.checked_sub_signed(TimeDelta::days(i64::from(days))) else { return Ok(0) };
        let mut removed = 0;
        while !stop.is_cancelled() {
            match self.prune_batch(before, BATCH).await? {
                0 => break,
                batch => removed += batch,
            }
        }
        if removed > 0 {
            tracing::info!(removed, %before, "old audit records were removed");
        }
        Ok(removed)
    }

    /// Removes the first records that are older than `before`, `limit` at most; answers how many.
    pub(crate) async fn prune_batch(&self, before: DateTime<Utc>, limit: i64) -> Result<i64, Error> {
        let bounds = store::audit::bounds(&self.db).await?;
        let through = store::audit::older_through(&self.db, before, limit).await?.unwrap_or(0).min(bounds.head.seq);
        if through <= bounds.anchor.seq {
            return Ok(0);
        }
        // What was forged stays, or its removal would be the end of the proof.
        let (walk, found) = walk_segment(&self.db, bounds.anchor, through, &Progress::default()).await?;
        if let Some(at) = found {
            tracing::error!(seq = at.seq, reason = at.reason, "the audit trail is broken; old records stay");
            return Ok(0);
        }
        let whole = walk.end;
        let mut tx = self.db.begin().await?;
        // Whoever else removes waits here, and then finds it done.
        if store::audit::lock(&mut tx).await?.anchor != bounds.anchor {
            tx.rollback().await?;
            return Ok(0);
        }
        let at = now();
        let removed = store::audit::remove(&mut tx, whole, at).await?;
        if removed != through - bounds.anchor.seq {
            tx.rollback().await?;
            tracing::error!(through, "the audit trail has records before its beginning; old records stay");
            return Ok(0);
        }
        let told = Pruned {
            through_seq: through,
            through_hash: hex::encode(whole.hash),
            removed,
            before: before.to_rfc3339_opts(SecondsFormat::Secs, true),
        };
        let details = serde_json::to_string(&told).map_err(aegis_error::Failure::internal)?;
        store::audit::append(&mut tx, &[entry(at, details)]).await?;
        tx.commit().await?;
        Ok(removed)
    }
}

fn entry(at: DateTime<Utc>, details: String) -> Entry {
    Entry {
        id: Uuid::now_v7(),
        user_id: None,
        username: format!("system:{}", crate::NAME),
        action: PRUNE.to_owned(),
        entity_type: "audit_log".to_owned(),
        entity_id: String::new(),
        at,
        details,
        success: true,
        address: String::new(),
        user_agent: String::new(),
        request_id: String::new(),
        source: crate::NAME.to_owned(),
    }
}
