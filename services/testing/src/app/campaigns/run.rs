//! Runs: copies of a campaign's tests as new drafts, by hand and by the schedule.
//!
//! What is due is in the campaign's row, and the row moves on to its next time in the transaction that creates the run.
//! So it matters neither how many replicas look nor when: a due time has one run or, until one could be written, none.

use std::time::Duration;

use aegis_auth::OpCtx;
use aegis_db::{Tx, now};
use aegis_error::{Code, Failure};
use chrono::{DateTime, Utc};
use tokio_util::sync::CancellationToken;
use tracing::Instrument;
use uuid::Uuid;

use super::{Cause, RunView, Told, id_of, makes_tests, schedule_of, unarchived, write, wrong_status};
use crate::{
    app::{App, create::NewDraft, record::Author},
    domain::campaign::{Progress, WRITERS},
    error::Error,
    store::{
        campaign::{self, Campaign},
        campaign_run::{self, CREATED, FAILED, MANUAL, Outcome, Run, SCHEDULED},
        campaign_test::{self, Place},
    },
};

/// How often the scheduler looks whether something is due.
const LOOK_EVERY: Duration = Duration::from_secs(2);
/// The shortest pause between two looks.
const SHORTEST_PAUSE: Duration = Duration::from_millis(50);
/// Tests that are copied at once.
const COPIED: i64 = 250;
/// Longest reason of a failed run, characters.
const MAX_ERROR: usize = 1_000;

impl App {
    /// Copies the campaign's tests as new drafts, now.
    pub async fn run_campaign(&self, ctx: &OpCtx, id: &str) -> Result<RunView, Error> {
        let user = ctx.require(WRITERS)?;
        let id = id_of("id", id)?;
        let mut tx = self.db.begin().await?;
        let before = self.held_campaign(&mut tx, ctx, id, |campaign| makes_tests(user, campaign)).await?;
        unarchived(&before)?;
        if !before.status.runs() {
            let text = "a completed campaign does not run: make it active first";
            return Err(wrong_status(&before, text).into());
        }
        let run = Run {
            id: Uuid::now_v7(),
            campaign_id: id,
            cause: MANUAL.to_owned(),
            due_at: None,
            started_at: now(),
            started_by: Some(user.user_id),
            started_by_username: user.username.clone(),
            status: CREATED.to_owned(),
            error: None,
            test_count: 0,
        };
        // Whose answer was lost is told the run.
        self.outbox.claim(&mut tx, ctx, &run.id.to_string()).await?;
        let owner = (user.user_id, user.username.clone());
        let run = self.copy(&mut tx, &Author::of(ctx)?, &owner, run).await?;
        let after = Campaign { last_run_at: Some(run.started_at), ..before.clone() };
        write(&self.outbox, &mut tx, Cause::Caller(ctx), &before, after, ran(&run)).await?;
        tx.commit().await?;
        Ok(fresh(run))
    }

    /// Runs what is due, until the stop.
    pub async fn keep_campaign_schedules(self, stop: CancellationToken) {
        loop {
            let run = self.run_due_campaigns(&stop);
            let pause = match aegis_telemetry::job("campaign_schedules", run).await {
                Ok(next) => {
                    let next = next.map(|next| (next - now()).to_std().unwrap_or_default());
                    next.unwrap_or(LOOK_EVERY).clamp(SHORTEST_PAUSE, LOOK_EVERY)
                }
                Err(error) => {
                    tracing::warn!(%error, "campaigns that are due wait");
                    LOOK_EVERY
                }
            };
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = stop.cancelled() => return,
            }
        }
    }

    /// Runs all that is due now. Answers when the next is due that nobody has in hand.
    async fn run_due_campaigns(&self, stop: &CancellationToken) -> Result<Option<DateTime<Utc>>, Error> {
        while !stop.is_cancelled() {
            let due = campaign::first_due(&self.db).await?;
            if due.is_none_or(|due| due > now()) {
                return Ok(due);
            }
            let span = tracing::info_span!(parent: None, "campaign run");
            if !self.run_one_due(now()).instrument(span).await? {
                break;
            }
        }
        Ok(None)
    }

    /// Runs the campaign that has been due the longest. False where there is none, or others have them all in hand.
    async fn run_one_due(&self, at: DateTime<Utc>) -> Result<bool, Error> {
        let mut tx = self.db.begin().await?;
        let Some(campaign) = campaign::take_due(&mut tx, at).await? else {
            tx.rollback().await?;
            return Ok(false);
        };
        let (id, due) = (campaign.id, campaign.next_run_at);
        let result = self.run_scheduled(&mut tx, campaign, at).await;
        let failure = match result {
            Ok(()) => match tx.commit().await {
                Ok(()) => return Ok(true),
                Err(error) => Failure::from(error),
            },
            Err(error) => {
                tx.rollback().await?;
                Failure::from(error)
            }
        };
        // The database is away or full: the run is due until it can be written.
        if matches!(failure.code(), Code::Unavailable | Code::Timeout | Code::StorageFull) {
            return Err(failure.into());
        }
        tracing::warn!(campaign = %id, %failure, "a campaign could not be run");
        let mut tx = self.db.begin().await?;
        match campaign::get_for_update(&mut tx, id).await? {
            Some(campaign) if campaign.next_run_at == due => {
                self.run_failed(&mut tx, campaign, at, failure.message()).await?;
                tx.commit().await?;
            }
            // Somebody changed it in between.
            _ => tx.rollback().await?,
        }
        Ok(true)
    }

    /// Writes the run of a campaign that is due and moves it on, inside the transaction that holds it.
    async fn run_scheduled(&self, tx: &mut Tx, before: Campaign, at: DateTime<Utc>) -> Result<(), Error> {
        let (run, next) = due_run(&before, at).map_err(|problem| Failure::new(Code::InvalidState, problem))?;
        let owner = (before.created_by, before.created_by_username.clone());
        let run = self.copy(tx, &Author::system(), &owner, run).await?;
        let after = Campaign { last_run_at: Some(run.started_at), next_run_at: Some(next), ..before.clone() };
        write(&self.outbox, tx, Cause::System, &before, after, ran(&run)).await?;
        Ok(())
    }

    /// Writes that a campaign that is due could not be run, and moves it on all the same.
    async fn run_failed(&self, tx: &mut Tx, before: Campaign, at: DateTime<Utc>, why: &str) -> Result<(), Error> {
        let (run, next) = match due_run(&before, at) {
            Ok((run, next)) => (run, Some(next)),
            // Never comes again until somebody sets it anew.
            Err(_) => (scheduled(&before, before.next_run_at.unwrap_or(at), at), None),
        };
        let error: String = why.chars().take(MAX_ERROR).collect();
        let run = Run { status: FAILED.to_owned(), error: Some(error.clone()), ..run };
        campaign_run::insert(tx, &run).await?;
        let after = Campaign { next_run_at: next, ..before.clone() };
        let told = Told { run_id: Some(run.id), error: Some(error), ..Told::new("run_failed", "run_campaign") };
        write(&self.outbox, tx, Cause::System, &before, after, told).await?;
        Ok(())
    }

    /// Writes a run with copies of the campaign's tests, which are `owner`'s.
    async fn copy(&self, tx: &mut Tx, author: &Author, owner: &(Uuid, String), mut run: Run) -> Result<Run, Error> {
        campaign_run::insert(tx, &run).await?;
        let (mut after, mut copied) = (i64::MIN, 0);
        loop {
            let sources = campaign_test::sources(tx, run.campaign_id, after, COPIED).await?;
            let Some(last) = sources.last() else { break };
            after = last.position;
            let (mut drafts, mut phases) = (Vec::with_capacity(sources.len()), Vec::with_capacity(sources.len()));
            for source in sources {
                let mut draft = NewDraft {
                    remediation_steps: source.test.remediation_steps.clone(),
                    created_by: owner.0,
                    created_by_username: owner.1.clone(),
                    ..NewDraft::again(&source.test)
                };
                draft.said.insert("campaign_id".to_owned(), run.campaign_id.to_string().into());
                draft.said.insert("campaign_run_id".to_owned(), run.id.to_string().into());
                draft.said.insert("copy_of".to_owned(), source.test.id.to_string().into());
                drafts.push(draft);
                phases.push(source.phase);
            }
            let tests = self.insert_drafts(tx, author, drafts).await?;
            let places: Vec<Place> = tests
                .iter()
                .zip(phases)
                .zip(run.test_count + 1..)
                .map(|((test, phase), position)| Place { test_id: test.id, position, phase })
                .collect();
            campaign_run::add_tests(tx, run.id, &places).await?;
            copied += places.len();
            run.test_count = i64::try_from(copied).unwrap_or(i64::MAX);
        }
        if copied == 0 {
            return Err(Failure::new(Code::InvalidState, "the campaign has no tests to run").into());
        }
        campaign_run::set_test_count(tx, &run).await?;
        Ok(run)
    }
}

/// The run of a campaign that is due, and when the next is. What was missed is one run, at the last of its times.
fn due_run(campaign: &Campaign, at: DateTime<Utc>) -> Result<(Run, DateTime<Utc>), String> {
    let due = campaign.next_run_at.unwrap_or(at);
    let schedule = schedule_of(campaign).ok_or("the campaign's schedule cannot be read")?;
    let (due, next) = schedule.caught_up(due, at)?;
    Ok((scheduled(campaign, due, at), next))
}

fn scheduled(campaign: &Campaign, due: DateTime<Utc>, at: DateTime<Utc>) -> Run {
    Run {
        id: Uuid::now_v7(),
        campaign_id: campaign.id,
        cause: SCHEDULED.to_owned(),
        due_at: Some(due),
        started_at: at,
        started_by: None,
        started_by_username: Author::system().username,
        status: CREATED.to_owned(),
        error: None,
        test_count: 0,
    }
}

fn ran(run: &Run) -> Told {
    let created_tests = usize::try_from(run.test_count).unwrap_or(0);
    let told = Told { created_tests, run_id: Some(run.id), ..Told::new("ran", "run_campaign") };
    told.with("trigger", run.cause.clone())
}

/// A run whose tests were created a moment ago.
fn fresh(run: Run) -> RunView {
    let progress = Progress { draft: run.test_count, ..Progress::default() };
    RunView { run, outcome: Outcome { progress, ..Outcome::default() } }
}
