//! The use cases: read coverage, rebuild the projection.

use std::{collections::HashMap, sync::Arc};

use aegis_auth::{OpCtx, Role};
use aegis_db::{Db, now};
use aegis_error::Failure;
use aegis_events::{Audit, Outbox};
use chrono::{DateTime, Utc};
use futures::{Stream, StreamExt};
use serde_json::json;
use uuid::Uuid;

use crate::{
    NAME,
    cache::Coverage,
    domain::{
        self, Technique,
        pipeline::{Pipeline, State, TestFact},
    },
    error::Error,
    store::{self, SummaryRow, TacticRow},
};

/// More than any catalogue has: all three matrices together are below 3,000.
const MAX_TECHNIQUES: usize = 50_000;
/// Tests of a rebuild, which are in memory before they are written: some 40 bytes each.
const MAX_TESTS: usize = 5_000_000;

/// A part of what a projection is rebuilt from.
#[derive(Debug, Default)]
pub(crate) struct Batch {
    /// In the first part: what [`App::rebuild_start`] answered before anything was exported.
    pub(crate) started_at: Option<DateTime<Utc>>,
    pub(crate) techniques: Vec<Technique>,
    pub(crate) tests: Vec<TestFact>,
}

/// What a projection was rebuilt from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Rebuilt {
    pub(crate) techniques: usize,
    pub(crate) tests: usize,
}

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

    /// How many tests are in which state, and when that was so; for everyone who is signed in.
    pub(crate) async fn pipeline(&self, ctx: &OpCtx) -> Result<(Pipeline, Option<DateTime<Utc>>), Error> {
        ctx.user()?;
        // Six rows: there is nothing to gain from keeping them in memory.
        Ok(store::pipeline::pipeline(&self.db).await?)
    }

    /// The moment after which a rebuild's export begins, by the clock that events are taken in with.
    pub(crate) async fn rebuild_start(&self, ctx: &OpCtx) -> Result<DateTime<Utc>, Error> {
        may_rebuild(ctx)?;
        Ok(store::as_of(&self.db).await?.unwrap_or_default())
    }

    /// Replaces the projection with what its owners exported.
    ///
    /// What events bring after the start of the export stays where it is newer.
    pub(crate) async fn rebuild(
        &self,
        ctx: &OpCtx,
        batches: impl Stream<Item = Result<Batch, Failure>>,
    ) -> Result<Rebuilt, Error> {
        may_rebuild(ctx)?;
        let called = self.rebuild_start(ctx).await?;
        // All of it before the transaction: the database is not held while the caller sends.
        let (started_at, techniques, tests) = collect(batches).await?;
        let started_at = started_at.unwrap_or(called);
        let techniques = domain::newest(techniques);
        let mut tx = self.db.begin().await?;
        let at = store::advance(&mut tx, now()).await?;
        store::remove_until(&mut tx, started_at).await?;
        store::take_in(&mut tx, &techniques, at).await?;
        store::pipeline::replace(&mut tx, started_at, &tests, at).await?;
        let rebuilt = Rebuilt { techniques: techniques.len(), tests: tests.len() };
        let details = json!({ "techniques": rebuilt.techniques, "tests": rebuilt.tests });
        let audit =
            Audit { action: "rebuild_projection", entity_type: "projection", entity_id: NAME.to_owned(), details };
        self.outbox.audit(&mut tx, ctx, audit).await?;
        self.coverage.renew_on_commit(&mut tx);
        tx.commit().await?;
        Ok(rebuilt)
    }
}

fn may_rebuild(ctx: &OpCtx) -> Result<(), Error> {
    ctx.require(&[Role::Admin, Role::Service])?;
    Ok(())
}

type Collected = (Option<DateTime<Utc>>, Vec<Technique>, HashMap<Uuid, (i64, State)>);

/// Everything, of each test the newest.
async fn collect(batches: impl Stream<Item = Result<Batch, Failure>>) -> Result<Collected, Error> {
    let mut batches = std::pin::pin!(batches);
    let mut started_at = None;
    let mut techniques = Vec::new();
    let mut tests: HashMap<Uuid, (i64, State)> = HashMap::new();
    while let Some(batch) = batches.next().await {
        let batch = batch?;
        started_at = started_at.or(batch.started_at);
        if techniques.len() + batch.techniques.len() > MAX_TECHNIQUES {
            return Err(Error::TooMany(MAX_TECHNIQUES, "techniques"));
        }
        techniques.extend(batch.techniques);
        if tests.len() + batch.tests.len() > MAX_TESTS {
            return Err(Error::TooMany(MAX_TESTS, "tests"));
        }
        for test in batch.tests {
            let newest = tests.entry(test.id).or_insert((test.version, test.state));
            if newest.0 < test.version {
                *newest = (test.version, test.state);
            }
        }
    }
    Ok((started_at, techniques, tests))
}
