//! Which tests a campaign has, and in which order.

use std::collections::{HashMap, HashSet};

use aegis_auth::OpCtx;
use aegis_db::{Tx, now};
use aegis_error::{Code, Failure, Fields};
use chrono::{DateTime, Utc};
use uuid::Uuid;

use super::{CampaignView, Cause, MAX_PHASE, Told, comes_again, id_of, progress_of, set_status, unarchived, write};
use crate::{
    app::App,
    domain::{
        campaign::{MAX_TESTS, Progress, Status, WRITERS, is_through},
        workflow::State,
    },
    error::Error,
    store::{
        campaign::Campaign,
        campaign_test::{self, Place},
    },
};

/// Tests that are added at once, at most.
const MAX_ADDED: usize = 500;
/// Ids in a line of the audit trail, at most.
const AUDITED: usize = 100;

/// A test and the phase that it is to be in.
#[derive(Clone, Debug, Default)]
pub struct NewPlace {
    /// The test.
    pub test_id: String,
    /// Such as a tactic's short name.
    pub phase: Option<String>,
}

impl App {
    /// Adds tests to a campaign before the one at `position`, or after all.
    pub async fn add_campaign_tests(
        &self,
        ctx: &OpCtx,
        campaign_id: &str,
        tests: Vec<NewPlace>,
        position: i32,
    ) -> Result<CampaignView, Error> {
        ctx.require(WRITERS)?;
        let mut fields = Fields::default();
        fields.check((1..=MAX_ADDED).contains(&tests.len()), "tests", "must have 1 to 500 entries");
        fields.check(position >= 0, "position", "must be 1 or more, or 0 for the end");
        let mut added = placed(&mut fields, &tests, MAX_ADDED);
        fields.finish()?;
        let id = id_of("campaign_id", campaign_id)?;

        let mut tx = self.db.begin().await?;
        let before = self.held_campaign(&mut tx, ctx, id, unarchived).await?;
        let ids: Vec<Uuid> = added.iter().map(|place| place.test_id).collect();
        let known: HashMap<Uuid, State> = campaign_test::hold_tests(&mut tx, &ids).await?.into_iter().collect();
        if let Some(unknown) = ids.iter().find(|id| !known.contains_key(*id)) {
            return Err(Error::NoTest(*unknown));
        }
        let there = campaign_test::places(&mut tx, id).await?;
        let twice: HashSet<Uuid> = there.iter().map(|place| place.test_id).collect();
        if let Some(twice) = ids.iter().find(|id| twice.contains(*id)) {
            let text = format!("test '{twice}' is in the campaign already");
            return Err(Failure::new(Code::Duplicate, text).with("test_id", twice.to_string()).into());
        }
        room(there.len(), added.len(), "tests")?;
        let last = there.last().map_or(0, |place| place.position);
        let first = match usize::try_from(position).ok().and_then(|at| at.checked_sub(1)).and_then(|at| there.get(at)) {
            Some(next) => {
                campaign_test::shift(&mut tx, id, next.position, signed(added.len())).await?;
                next.position
            }
            None => last + 1,
        };
        for (place, position) in added.iter_mut().zip(first..) {
            place.position = position;
        }
        campaign_test::add(&mut tx, id, &added).await?;
        let told =
            Told::new("tests_changed", "add_campaign_tests").with("added", added.len()).with("tests", some(&ids));
        let opens = known.values().any(|state| !is_through(*state));
        let view = self.write_places(&mut tx, ctx, &before, opens, told).await?;
        tx.commit().await?;
        Ok(view)
    }

    /// Takes a test out of a campaign.
    pub async fn remove_campaign_test(&self, ctx: &OpCtx, campaign_id: &str, test_id: &str) -> Result<(), Error> {
        ctx.require(WRITERS)?;
        let id = id_of("campaign_id", campaign_id)?;
        let test_id = id_of("test_id", test_id)?;
        let mut tx = self.db.begin().await?;
        let before = self.held_campaign(&mut tx, ctx, id, unarchived).await?;
        if !campaign_test::remove(&mut tx, id, test_id).await? {
            return Err(Failure::not_found("test of the campaign", test_id).into());
        }
        let told = Told::new("tests_changed", "remove_campaign_test").with("removed", test_id.to_string());
        self.write_places(&mut tx, ctx, &before, false, told).await?;
        tx.commit().await?;
        Ok(())
    }

    /// Puts the tests of a campaign into another order and into phases.
    pub async fn order_campaign_tests(
        &self,
        ctx: &OpCtx,
        campaign_id: &str,
        tests: Vec<NewPlace>,
    ) -> Result<CampaignView, Error> {
        ctx.require(WRITERS)?;
        let mut fields = Fields::default();
        fields.check(tests.len() <= MAX_TESTS, "tests", "must have at most 2,000 entries");
        let mut ordered = placed(&mut fields, &tests, MAX_TESTS);
        fields.finish()?;
        let id = id_of("campaign_id", campaign_id)?;
        for (place, position) in ordered.iter_mut().zip(1..) {
            place.position = position;
        }

        let mut tx = self.db.begin().await?;
        let before = self.held_campaign(&mut tx, ctx, id, unarchived).await?;
        // Held, so that none of them is deleted while all are written anew.
        let mut ids: Vec<Uuid> = ordered.iter().map(|place| place.test_id).collect();
        campaign_test::hold_tests(&mut tx, &ids).await?;
        let there = campaign_test::places(&mut tx, id).await?;
        let mut has: Vec<Uuid> = there.iter().map(|place| place.test_id).collect();
        has.sort_unstable();
        ids.sort_unstable();
        if has != ids {
            let problem = format!("must be all {} tests of the campaign, each once", has.len());
            return Err(Failure::invalid("tests", problem).into());
        }
        let same = there.iter().map(|place| (place.test_id, &place.phase));
        if same.eq(ordered.iter().map(|place| (place.test_id, &place.phase))) {
            let progress = progress_of(&mut tx, id).await?;
            tx.rollback().await?;
            return Ok(CampaignView { campaign: before, progress });
        }
        campaign_test::clear(&mut tx, id).await?;
        campaign_test::add(&mut tx, id, &ordered).await?;
        let told = Told::new("tests_changed", "order_campaign_tests").with("ordered", ordered.len());
        let view = self.write_places(&mut tx, ctx, &before, false, told).await?;
        tx.commit().await?;
        Ok(view)
    }

    /// Writes a campaign that has other tests now: it may be over without what was taken out, and is active again where
    /// it `opens` with what was put in.
    async fn write_places(
        &self,
        tx: &mut Tx,
        ctx: &OpCtx,
        before: &Campaign,
        opens: bool,
        told: Told,
    ) -> Result<CampaignView, Error> {
        let progress = progress_of(tx, before.id).await?;
        let after = match before.status {
            Status::Completed if !opens => before.clone(),
            _ => settled(before, &progress, now()),
        };
        let campaign = write(&self.outbox, tx, Cause::Caller(ctx), before, after, told).await?;
        Ok(CampaignView { campaign, progress })
    }
}

/// The campaign as it stands with tests that are so far.
pub(super) fn settled(campaign: &Campaign, progress: &Progress, at: DateTime<Utc>) -> Campaign {
    let mut settled = campaign.clone();
    let status = progress.settles(campaign.status, comes_again(campaign));
    if status != campaign.status {
        set_status(&mut settled, status, at);
    }
    settled
}

/// Fails where a campaign would have too many tests.
pub(super) fn room(there: usize, more: usize, field: &str) -> Result<(), Failure> {
    if there + more <= MAX_TESTS {
        return Ok(());
    }
    let problem = format!("would make {} tests of the campaign's {there}; it has at most {MAX_TESTS}", there + more);
    Err(Failure::invalid(field, problem))
}

/// Places without positions, each test once; of more than `most` only the first are looked at.
fn placed(fields: &mut Fields, tests: &[NewPlace], most: usize) -> Vec<Place> {
    let mut seen: HashMap<Uuid, usize> = HashMap::new();
    let mut places = Vec::with_capacity(tests.len().min(most));
    for (at, test) in tests.iter().take(most).enumerate() {
        let phase = test.phase.as_deref().map(str::trim).filter(|phase| !phase.is_empty());
        fields.text(&format!("tests.{at}.phase"), phase.unwrap_or_default(), 0, MAX_PHASE);
        let Ok(test_id) = Uuid::try_parse(&test.test_id) else {
            fields.add(format!("tests.{at}.test_id"), "must be a UUID");
            continue;
        };
        if let Some(first) = seen.insert(test_id, at) {
            fields.add(format!("tests.{at}.test_id"), format!("is the same as of entry {first}"));
        }
        places.push(Place { test_id, position: 0, phase: phase.map(str::to_owned) });
    }
    places
}

fn some(ids: &[Uuid]) -> Vec<String> {
    ids.iter().take(AUDITED).map(Uuid::to_string).collect()
}

fn signed(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}
