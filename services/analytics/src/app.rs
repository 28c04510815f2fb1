//! The use cases: read coverage, rebuild the projection.

use std::sync::Arc;

use aegis_auth::{OpCtx, Role};
use aegis_db::{Db, now};
use aegis_error::Failure;
use aegis_events::{Audit, Outbox};
use futures::{Stream, StreamExt};
use serde_json::json;

use crate::{
    NAME,
    cache::Coverage,
    domain::{self, Technique},
    error::Error,
    store::{self, SummaryRow, TacticRow},
};

/// More than any catalogue has: all three matrices together are below 3,000.
const MAX_TECHNIQUES: usize = 50_000;

/// What the use cases stand on.
pub(crate) struct App {
    pub(crate) db: Db,
    pub(crate) outbox: Outbox,
    coverage: Coverage,
}

impl App {
    pub(crate) fn new(db: Db, outbox: Outbox) -> Self {
        App { coverage: Coverage::new(db.clone()), db, outbox }
    }

    pub(crate) fn coverage(&self) -> &Coverage {
        &self.coverage
    }

    /// Counts over all active techniques; for everyone who is signed in.
    pub(crate) async fn summary(&self, ctx: &OpCtx) -> Result<Arc<SummaryRow>, Error> {
        ctx.user()?;
        self.coverage.summary().await
    }

    /// Counts by tactic; for everyone who is signed in.
    pub(crate) async fn tactics(&self, ctx: &OpCtx) -> Result<Arc<Vec<TacticRow>>, Error> {
        ctx.user()?;
        self.coverage.tactics().await
    }

    /// Replaces the projection with what the catalogue exported; the number of techniques that it then has.
    ///
    /// What events bring while the export is on its way stays where it is newer.
    pub(crate) async fn rebuild(
        &self,
        ctx: &OpCtx,
        batches: impl Stream<Item = Result<Vec<Technique>, Failure>>,
    ) -> Result<usize, Error> {
        ctx.require(&[Role::Admin, Role::Service])?;
        let began = now();
        // All of it before the transaction: the database is not held while the caller sends.
        let techniques = domain::newest(collect(batches).await?);
        let mut tx = self.db.begin().await?;
        store::remove_older(&mut tx, began).await?;
        store::take_in(&mut tx, &techniques, now()).await?;
        let details = json!({ "techniques": techniques.len() });
        let audit =
            Audit { action: "rebuild_projection", entity_type: "projection", entity_id: NAME.to_owned(), details };
        self.outbox.audit(&mut tx, ctx, audit).await?;
        self.coverage.renew_on_commit(&mut tx);
        tx.commit().await?;
        Ok(techniques.len())
    }
}

async fn collect(batches: impl Stream<Item = Result<Vec<Technique>, Failure>>) -> Result<Vec<Technique>, Error> {
    let mut batches = std::pin::pin!(batches);
    let mut all = Vec::new();
    while let Some(batch) = batches.next().await {
        let batch = batch?;
        if all.len() + batch.len() > MAX_TECHNIQUES {
            return Err(Error::TooMany(MAX_TECHNIQUES));
        }
        all.extend(batch);
    }
    Ok(all)
}
