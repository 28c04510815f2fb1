//! Campaigns: who may, what is asked of the fields, and how a change is told.
//!
//! A campaign has tests of its own: those that people placed and those that were generated. They are its measure
//! (progress, `completed`) and what a run copies. The copies belong to the run and stay in the campaign's history; they
//! are not placed in the campaign, so that the next run copies the same tests and not copies of copies.

mod edit;
mod generate;
mod places;
mod read;
mod run;
mod settle;

use aegis_auth::{OpCtx, Principal, Role};
use aegis_db::{Tx, now};
use aegis_error::{Code, Failure};
use aegis_events::{Audit, Outbox};
use aegis_proto::events::v1::CampaignChanged;
use aegis_schedule::{Recurrence, time_zone};
use chrono::{DateTime, SecondsFormat, Utc};
use serde_json::{Map, Value, json};
use uuid::Uuid;

pub use edit::{CampaignEdit, NewCampaign, ScheduleOrder};
pub use generate::GenerateOrder;
pub use places::NewPlace;
pub use read::CampaignQuery;
pub use settle::settle;

use super::record::Author;
use crate::{
    domain::campaign::{Progress, Schedule, Status},
    error::Error,
    store::{
        campaign::{self, Campaign},
        campaign_run::{Outcome, Run},
    },
};

/// Longest name, characters.
const MAX_NAME: usize = 200;
/// Longest description.
const MAX_DESCRIPTION: usize = 20_000;
/// Longest name of a phase.
const MAX_PHASE: usize = 100;

/// A campaign and how far its tests are.
#[derive(Clone, Debug)]
pub struct CampaignView {
    /// The campaign.
    pub campaign: Campaign,
    /// Of its own tests.
    pub progress: Progress,
}

/// A run and what became of its tests.
#[derive(Clone, Debug)]
pub struct RunView {
    /// The run.
    pub run: Run,
    /// Of the tests that it created.
    pub outcome: Outcome,
}

/// Who a change is for.
#[derive(Clone, Copy)]
enum Cause<'a> {
    /// A caller, under the conditions of the request.
    Caller(&'a OpCtx),
    /// The service itself.
    System,
}

/// How a change is told.
struct Told {
    /// In the event.
    change: &'static str,
    /// In the audit trail.
    action: &'static str,
    created_tests: usize,
    run_id: Option<Uuid>,
    /// Why it failed, for those that did.
    error: Option<String>,
    /// What there is to say besides the changed fields.
    extra: Map<String, Value>,
}

impl Told {
    fn new(change: &'static str, action: &'static str) -> Self {
        Told { change, action, created_tests: 0, run_id: None, error: None, extra: Map::new() }
    }

    fn with(mut self, key: &str, value: impl Into<Value>) -> Self {
        self.extra.insert(key.to_owned(), value.into());
        self
    }
}

impl super::App {
    /// The campaign, held until the transaction ends, if `may` lets the one who asks change it and they know it as it
    /// is (`If-Match`).
    async fn held_campaign(
        &self,
        tx: &mut Tx,
        ctx: &OpCtx,
        id: Uuid,
        may: impl FnOnce(&Campaign) -> Result<(), Failure>,
    ) -> Result<Campaign, Error> {
        let campaign = campaign::get_for_update(tx, id).await?.ok_or_else(|| no_campaign(id))?;
        may(&campaign)?;
        ctx.expect_version(campaign.version)?;
        Ok(campaign)
    }
}

/// Writes a changed campaign over the one that the transaction holds, and tells of it.
async fn write(
    outbox: &Outbox,
    tx: &mut Tx,
    cause: Cause<'_>,
    before: &Campaign,
    mut after: Campaign,
    told: Told,
) -> Result<Campaign, Failure> {
    after.version = before.version + 1;
    after.updated_at = now();
    if !campaign::update(tx, before.version, &after).await? {
        let text = "the campaign was changed by someone else at the same moment; read it again";
        return Err(Failure::new(Code::Conflict, text));
    }
    tell(outbox, tx, cause, Some(before), Some(&after), told).await?;
    Ok(after)
}

/// Tells of a change: the event and the line of the audit trail. `after` is none where the campaign is deleted.
async fn tell(
    outbox: &Outbox,
    tx: &mut Tx,
    cause: Cause<'_>,
    before: Option<&Campaign>,
    after: Option<&Campaign>,
    told: Told,
) -> Result<(), Failure> {
    let Some(campaign) = after.or(before) else { return Ok(()) };
    let event = CampaignChanged {
        campaign_id: campaign.id.to_string(),
        version: campaign.version + i64::from(after.is_none()),
        name: campaign.name.clone(),
        status: campaign.status.as_str().to_owned(),
        r#type: campaign.kind.as_str().to_owned(),
        created_by: campaign.created_by.to_string(),
        change: told.change.to_owned(),
        created_tests: i32::try_from(told.created_tests).unwrap_or(i32::MAX),
        run_id: told.run_id.map(|id| id.to_string()).unwrap_or_default(),
        deleted: after.is_none(),
    };
    let mut details = Map::new();
    details.insert("name".to_owned(), campaign.name.clone().into());
    details.extend(told.extra);
    if let Some(id) = told.run_id {
        details.insert("run_id".to_owned(), id.to_string().into());
    }
    if told.created_tests > 0 {
        details.insert("created_tests".to_owned(), told.created_tests.into());
    }
    if let Some(error) = &told.error {
        details.insert("error".to_owned(), error.clone().into());
    }
    let (old, new) = changes(before, after);
    if before.is_some() {
        details.insert("before".to_owned(), old.into());
    }
    if after.is_some() {
        details.insert("after".to_owned(), new.into());
    }
    let subject = campaign.id.to_string();
    let audit = Audit {
        action: told.action,
        entity_type: "campaign",
        entity_id: subject.clone(),
        details: Value::Object(details),
    };
    match cause {
        Cause::Caller(ctx) => {
            outbox.publish(tx, ctx, &subject, &event).await?;
            outbox.audit(tx, ctx, audit).await?;
        }
        Cause::System => {
            let actor = Author::system().actor;
            outbox.publish_as(tx, actor.clone(), &subject, &event).await?;
            outbox.audit_as(tx, actor, audit, told.error.is_none()).await?;
        }
    }
    Ok(())
}

/// The fields that differ, as they were and as they are; of a campaign that is new or gone, those with a value.
fn changes(before: Option<&Campaign>, after: Option<&Campaign>) -> (Map<String, Value>, Map<String, Value>) {
    let (mut old, mut new) = (Map::new(), Map::new());
    let (was, is) = (before.map(fields), after.map(fields));
    let names = was.as_ref().or(is.as_ref()).into_iter().flatten().map(|(name, _)| *name);
    for (at, name) in names.enumerate() {
        let value = |of: &Option<[(&'static str, Value); 10]>| of.as_ref().map_or(Value::Null, |of| of[at].1.clone());
        let (was, is) = (value(&was), value(&is));
        if was != is {
            old.insert(name.to_owned(), was);
            new.insert(name.to_owned(), is);
        }
    }
    (old, new)
}

/// All that a person can change, in one order.
fn fields(campaign: &Campaign) -> [(&'static str, Value); 10] {
    let time = |at: Option<DateTime<Utc>>| at.map(|at| at.to_rfc3339_opts(SecondsFormat::Micros, true));
    [
        ("name", json!(campaign.name)),
        ("description", json!(campaign.description)),
        ("type", json!(campaign.kind.as_str())),
        ("status", json!(campaign.status.as_str())),
        ("threat_actor_id", json!(campaign.threat_actor_id.map(|id| id.to_string()))),
        ("threat_actor_name", json!(campaign.threat_actor_name)),
        ("schedule", json!(campaign.schedule)),
        ("time_zone", json!(campaign.time_zone)),
        ("schedule_enabled", json!(campaign.schedule_enabled)),
        ("next_run_at", json!(time(campaign.next_run_at))),
    ]
}

/// How far the tests of a campaign are, as the transaction sees them.
async fn progress_of(tx: &mut Tx, id: Uuid) -> aegis_db::Result<Progress> {
    Ok(campaign::progress_in(tx, &[id]).await?.remove(&id).unwrap_or_default())
}

/// The campaign's schedule, if it has one that can be read.
fn schedule_of(campaign: &Campaign) -> Option<Schedule> {
    Some(Schedule {
        recurrence: Recurrence::parse(campaign.schedule.as_deref()?).ok()?,
        zone: time_zone(campaign.time_zone.as_deref().unwrap_or("UTC"))?,
        anchor: campaign.schedule_set_at?,
    })
}

/// Whether the campaign runs by itself while its status lets it.
fn comes_again(campaign: &Campaign) -> bool {
    campaign.schedule_enabled && campaign.schedule.is_some()
}

/// Moves a campaign to a status. One that no longer runs is due no more; one that runs again is due at the next of its
/// times from now on.
fn set_status(campaign: &mut Campaign, status: Status, at: DateTime<Utc>) {
    campaign.status = status;
    plan(campaign, at);
}

/// Says when the campaign is due, unless that is said already.
fn plan(campaign: &mut Campaign, at: DateTime<Utc>) {
    if !campaign.status.runs() || !comes_again(campaign) {
        campaign.next_run_at = None;
    } else if campaign.next_run_at.is_none() {
        campaign.next_run_at = schedule_of(campaign).and_then(|schedule| schedule.next_after(at).ok());
    }
}

fn no_campaign(id: Uuid) -> Failure {
    Failure::not_found("campaign", id)
}

/// Fails for a campaign that is kept as it was.
fn unarchived(campaign: &Campaign) -> Result<(), Failure> {
    if campaign.status == Status::Archived {
        let text = "the campaign is archived: change its status first";
        return Err(wrong_status(campaign, text));
    }
    Ok(())
}

fn wrong_status(campaign: &Campaign, text: &'static str) -> Failure {
    Failure::new(Code::InvalidState, text).with("current_status", campaign.status.as_str())
}

/// Fails unless the one who asks made the campaign or is an administrator.
fn owned(user: &Principal, campaign: &Campaign) -> Result<(), Failure> {
    if user.role == Role::Admin || campaign.created_by == user.user_id {
        return Ok(());
    }
    Err(Failure::forbidden("only its creator and administrators may change or delete this campaign"))
}

/// Fails unless the one who asks may make tests of the campaign.
fn makes_tests(user: &Principal, campaign: &Campaign) -> Result<(), Failure> {
    if crate::domain::campaign::may_make_tests(user.role, campaign.created_by == user.user_id) {
        return Ok(());
    }
    let text = "only those who may create tests, leads and its creator may generate or run this campaign";
    Err(Failure::forbidden(text))
}

fn id_of(field: &str, text: &str) -> Result<Uuid, Failure> {
    Uuid::try_parse(text).map_err(|_| Failure::invalid(field, "must be a UUID"))
}
