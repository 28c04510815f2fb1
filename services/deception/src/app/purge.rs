//! Everything that was collected goes, where somebody tries things out.

use aegis_auth::{OpCtx, Role};
use aegis_error::Failure;
use aegis_events::Audit;
use serde_json::json;

use super::App;
use crate::{error::Error, store};

/// What went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Purged {
    pub(crate) logs: i64,
    pub(crate) bounties: i64,
}

impl App {
    /// Removes all events, and what was derived from them. Captured files and the fleet stay. Administrators, in
    /// developer mode.
    pub(crate) async fn purge_logs(&self, ctx: &OpCtx) -> Result<Purged, Error> {
        ctx.require(&[Role::Admin])?;
        if !self.config.developer {
            return Err(Failure::forbidden("this is possible in developer mode only (AEGIS_DEVELOPER=true)").into());
        }
        let mut tx = self.db.begin().await?;
        let head = store::logs::lock_head(&mut tx).await?;
        let bounties = i64::try_from(store::follow::purge(&mut tx).await?).unwrap_or(0);
        store::logs::purge(&mut tx, head).await?;
        let purged = Purged { logs: head.total(), bounties };
        let details = json!({ "logs": purged.logs, "bounties": purged.bounties });
        let audit = Audit { action: "purge_logs", entity_type: "logs", entity_id: String::new(), details };
        self.outbox.audit(&mut tx, ctx, audit).await?;
        tx.commit().await?;
        self.logs_committed.ring();
        Ok(purged)
    }
}
