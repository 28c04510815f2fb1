//! Computing the projection anew from its owners, while events go on.
//!
//! Tests come in the order of their ids, and so are those that are known here read: a page is compared with what is
//! known between its first and its last id, what differs is written and counted, what the owner does not have any more
//! is removed. So nothing is whole in memory, nothing holds the writer for long, and after each page all that is known
//! is at least as right as before. What was taken in after the start stays where it is newer.

use std::{collections::HashMap, sync::Arc};

use aegis_auth::{OpCtx, Role};
use aegis_db::{Tx, now};
use aegis_error::{Code, Failure};
use aegis_events::{Audit, actor, system_actor};
use chrono::{DateTime, Utc};
use futures::{Stream, StreamExt, stream};
use serde_json::json;
use tokio::{sync::mpsc, task::JoinSet};
use uuid::Uuid;

use super::App;
use crate::{
    NAME,
    error::Error,
    pull::{ExportedTechniques, Listed},
    store::{self, tests::Known},
};

/// Tests that are compared and written with one transaction.
const PAGE: usize = 2_000;
/// Pages that are read ahead.
const AHEAD: usize = 4;
/// After so many tests the caller hears of it.
const TELL: i64 = 10_000;

/// How far a rebuild is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Progress {
    /// techniques | knowledge | tests | swap
    pub(crate) phase: &'static str,
    pub(crate) techniques: i64,
    pub(crate) knowledge: i64,
    pub(crate) tests: i64,
    pub(crate) done: bool,
}

/// A rebuild that has its place.
struct Run {
    id: Uuid,
    /// What was taken in later comes from events, and stays where it is newer.
    started_at: DateTime<Utc>,
    progress: Progress,
    tell: mpsc::Sender<Result<Progress, Error>>,
}

impl App {
    /// Begins a rebuild and tells how far it is; the last that is told has `done`. It ends when nobody listens any more.
    pub(crate) async fn rebuild(
        self: &Arc<Self>,
        ctx: &OpCtx,
    ) -> Result<impl Stream<Item = Result<Progress, Error>> + Send + use<>, Error> {
        ctx.require(&[Role::Admin, Role::Service])?;
        let (tell, told) = mpsc::channel(16);
        let mut run = self.begin(tell).await?;
        let (app, ctx) = (Arc::clone(self), ctx.clone());
        tokio::spawn(async move {
            if let Err(error) = app.rebuild_all(&ctx, &mut run).await {
                // Nobody may listen any more.
                let _ = run.tell.send(Err(error)).await;
            }
        });
        Ok(stream::unfold(told, |mut told| async move { told.recv().await.map(|progress| (progress, told)) }))
    }

    /// A rebuild that nobody asked for: what is here was brought by a version that knew less.
    pub(super) async fn rebuild_after_upgrade(&self, ctx: &OpCtx) -> Result<(), Error> {
        let (tell, mut told) = mpsc::channel(1);
        let mut run = self.begin(tell).await?;
        tracing::info!("the projection is computed anew: an older version of the product knew less");
        let listen = async { while told.recv().await.is_some() {} };
        let rebuild = async {
            let result = self.rebuild_all(ctx, &mut run).await;
            drop(run);
            result
        };
        let (result, ()) = tokio::join!(rebuild, listen);
        result
    }

    async fn begin(&self, tell: mpsc::Sender<Result<Progress, Error>>) -> Result<Run, Error> {
        let id = Uuid::now_v7();
        let mut tx = self.db.begin().await?;
        let started_at = store::begin_rebuild(&mut tx, id).await?;
        tx.commit().await?;
        let started_at = started_at.ok_or_else(|| Failure::new(Code::Conflict, "a rebuild is already running"))?;
        Ok(Run { id, started_at, progress: Progress::default(), tell })
    }

    async fn rebuild_all(&self, ctx: &OpCtx, run: &mut Run) -> Result<(), Error> {
        let result = self.rebuild_parts(ctx, run).await;
        if result.is_err() {
            let mut tx = self.db.begin().await?;
            store::end_rebuild(&mut tx, run.id, false).await?;
            self.coverage.renew_on_commit(&mut tx);
            tx.commit().await?;
        }
        result
    }

    async fn rebuild_parts(&self, ctx: &OpCtx, run: &mut Run) -> Result<(), Error> {
        run.phase("techniques").await?;
        let ExportedTechniques { techniques, skipped } = self.owners.techniques(ctx).await?;
        let (mut tx, at) = self.step(run).await?;
        store::techniques::remove_until(&mut tx, run.started_at, &skipped, at).await?;
        store::techniques::take_in(&mut tx, &techniques, at).await?;
        // Rows are gone: who has them in memory reads all.
        store::renew_epoch(&mut tx).await?;
        self.coverage.renew_on_commit(&mut tx);
        tx.commit().await?;
        run.progress.techniques = i64::try_from(techniques.len()).unwrap_or(i64::MAX);

        run.phase("knowledge").await?;
        let marks = store::knowledge::marks(&self.db).await?;
        let known = self.pull_known(ctx, &marks).await?;
        run.progress.knowledge = i64::try_from(known).unwrap_or(i64::MAX);

        let mut tx = self.db.begin_read().await?;
        let held = store::observed::versions(&mut tx).await?;
        tx.rollback().await?;
        let observed = self.owners.observed(ctx).await?;
        // What events told meanwhile has another version, and stays where it is newer.
        let (mut tx, _) = self.step(run).await?;
        store::observed::forget(&mut tx, &held).await?;
        store::observed::take_in(&mut tx, &observed).await?;
        self.coverage.renew_on_commit(&mut tx);
        tx.commit().await?;

        run.phase("tests").await?;
        self.rebuild_tests(ctx, run).await?;

        run.phase("swap").await?;
        let wrong = store::drift::wrong_heads(&self.db).await?;
        if !wrong.is_empty() {
            let (mut tx, _) = self.step(run).await?;
            store::drift::mend_heads(&mut tx, &wrong).await?;
            tx.commit_relaxed().await?;
        }
        // What takes long only reads.
        let mut tx = self.db.begin_read().await?;
        let drift = store::drift::drift(&mut tx).await?;
        tx.rollback().await?;
        let (mut tx, at) = self.step(run).await?;
        store::drift::correct(&mut tx, &drift, at).await?;
        let Progress { techniques, knowledge, tests, .. } = run.progress;
        let details = json!({ "techniques": techniques, "knowledge": knowledge, "tests": tests });
        let audit =
            Audit { action: "rebuild_projection", entity_type: "projection", entity_id: NAME.to_owned(), details };
        // After an upgrade it is the service's own doing.
        match ctx.anyone() {
            Some(_) => {
                self.outbox.claim(&mut tx, ctx, NAME).await?;
                self.outbox.audit_as(&mut tx, actor(ctx), audit, true).await?;
            }
            None => self.outbox.audit_as(&mut tx, system_actor(NAME), audit, true).await?,
        }
        store::end_rebuild(&mut tx, run.id, true).await?;
        self.coverage.renew_on_commit(&mut tx);
        tx.commit().await?;
        run.progress.done = true;
        run.tell().await
    }

    async fn rebuild_tests(&self, ctx: &OpCtx, run: &mut Run) -> Result<(), Error> {
        let mut pages = ahead(self.owners.tests(ctx).await?);
        let mut held: Vec<Listed> = Vec::new();
        let mut after = Uuid::nil();
        let mut told = 0;
        loop {
            let page = pages.told.recv().await;
            let ended = page.is_none();
            for test in page.transpose()?.unwrap_or_default() {
                if test.id <= held.last().map_or(after, |last| last.id) {
                    return Err(Failure::internal("the tests of an export are not in the order of their ids").into());
                }
                held.push(test);
            }
            while held.len() >= PAGE || (ended && !held.is_empty()) {
                let rest = held.split_off(held.len().min(PAGE));
                let some = std::mem::replace(&mut held, rest);
                after = self.rebuild_page(run, after, &some).await?;
                let taken = some.iter().filter(|listed| listed.test.is_some()).count();
                run.progress.tests += i64::try_from(taken).unwrap_or(0);
            }
            if run.progress.tests >= told + TELL {
                told = run.progress.tests;
                run.tell().await?;
            }
            if ended {
                break;
            }
        }
        // What lies behind the last one is not the owner's either, unless it came since.
        loop {
            let (mut tx, at) = self.step(run).await?;
            let known = store::tests::between(&mut tx, after, None).await?;
            let Some(last) = known.last() else { return Ok(tx.rollback().await?) };
            after = last.counted.id;
            write(&mut tx, run.started_at, known, &[], at).await?;
            self.coverage.renew_on_commit(&mut tx);
            tx.commit_relaxed().await?;
        }
    }

    /// Makes what is known after an id and up to the last of these tests be them, and answers the last id.
    async fn rebuild_page(&self, run: &Run, after: Uuid, tests: &[Listed]) -> Result<Uuid, Error> {
        let Some(last) = tests.last().map(|test| test.id) else { return Ok(after) };
        let (mut tx, at) = self.step(run).await?;
        let known = store::tests::between(&mut tx, after, Some(last)).await?;
        write(&mut tx, run.started_at, known, tests, at).await?;
        self.coverage.renew_on_commit(&mut tx);
        // The last step waits for the disk.
        tx.commit_relaxed().await?;
        Ok(last)
    }

    /// A transaction of a rebuild, and its moment.
    async fn step(&self, run: &Run) -> Result<(Tx, DateTime<Utc>), Error> {
        let mut tx = self.db.begin().await?;
        let at = store::advance(&mut tx, now()).await?;
        if !store::continue_rebuild(&mut tx, run.id, at).await? {
            return Err(
                Failure::new(Code::Conflict, "another rebuild took over, for this one gave no sign of life").into()
            );
        }
        Ok((tx, at))
    }
}

/// Writes those tests that differ from what is known, and removes what is known and not among them; those in a state of
/// the future stay as they are known. `known` is all that is known in the range of these tests.
async fn write(
    tx: &mut Tx,
    started_at: DateTime<Utc>,
    known: Vec<Known>,
    tests: &[Listed],
    at: DateTime<Utc>,
) -> Result<(), Error> {
    let mut known: HashMap<Uuid, Known> = known.into_iter().map(|known| (known.counted.id, known)).collect();
    let mut new = Vec::new();
    let mut before = Vec::new();
    for Listed { id, test } in tests {
        let held = known.remove(id);
        let Some(test) = test else { continue };
        let differs = match &held {
            Some(held) if held.taken_at > started_at => held.version < test.version,
            Some(held) => held.version != test.version || held.digest != test.digest(),
            None => true,
        };
        if differs {
            before.extend(held.map(|held| held.counted));
            new.push(test);
        }
    }
    known.retain(|_, known| known.taken_at <= started_at);
    let gone: Vec<Uuid> = known.keys().copied().collect();
    before.extend(known.into_values().map(|known| known.counted));
    if !new.is_empty() || !gone.is_empty() {
        store::tests::change(tx, &before, &new, &gone, at).await?;
    }
    Ok(())
}

impl Run {
    async fn phase(&mut self, phase: &'static str) -> Result<(), Error> {
        self.progress.phase = phase;
        self.tell().await
    }

    async fn tell(&self) -> Result<(), Error> {
        let sent = self.tell.send(Ok(self.progress)).await;
        // What was done stays; it is right as far as it goes.
        Ok(sent.map_err(|_| Failure::unavailable("who asked for the rebuild"))?)
    }
}

/// Pages that are asked for while the ones before are worked on.
struct Ahead {
    told: mpsc::Receiver<Result<Vec<Listed>, Failure>>,
    /// Ends the reading when this goes.
    _reader: JoinSet<()>,
}

fn ahead(pages: impl Stream<Item = Result<Vec<Listed>, Failure>> + Send + 'static) -> Ahead {
    let (tell, told) = mpsc::channel(AHEAD);
    let mut reader = JoinSet::new();
    reader.spawn(async move {
        let mut pages = std::pin::pin!(pages);
        while let Some(page) = pages.next().await {
            if tell.send(page).await.is_err() {
                return;
            }
        }
    });
    Ahead { told, _reader: reader }
}
