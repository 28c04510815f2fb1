//! Making, changing, deleting and scheduling campaigns.

use aegis_auth::OpCtx;
use aegis_db::now;
use aegis_error::{Code, Failure, Fields};
use aegis_proto::catalog::v1::{GetKnowledgeRequest, Knowledge};
use aegis_schedule::{Recurrence, time_zone};
use uuid::Uuid;

use super::{
    CampaignView, Cause, MAX_DESCRIPTION, MAX_NAME, Told, id_of, owned, plan, progress_of, set_status, tell,
    unarchived, write, wrong_status,
};
use crate::{
    app::{App, input::Set},
    domain::campaign::{Kind, Progress, Status, WRITERS},
    error::Error,
    store::campaign::{self, Campaign},
};

/// Kind of the catalogue's records of threat actors.
const THREAT_ACTOR: &str = "threat_actor";
/// Longest id of a record of the catalogue, characters.
const MAX_RECORD_ID: usize = 64;

/// A campaign to make.
#[derive(Clone, Debug, Default)]
#[allow(missing_docs, reason = "the fields are those of the API's Campaign, described there")]
pub struct NewCampaign {
    pub name: String,
    pub description: Option<String>,
    /// Empty for `custom`.
    pub kind: String,
    pub threat_actor_id: Option<String>,
}

/// A change of a campaign. Absent fields stay, those in `clear` become null.
#[derive(Clone, Debug, Default)]
#[allow(missing_docs, reason = "the fields are those of the API's Campaign, described there")]
pub struct CampaignEdit {
    pub id: String,
    pub name: Option<String>,
    pub description: Option<String>,
    pub kind: Option<String>,
    pub status: Option<String>,
    pub threat_actor_id: Option<String>,
    pub clear: Vec<String>,
}

/// When a campaign is to run by itself.
#[derive(Clone, Debug, Default)]
pub struct ScheduleOrder {
    /// The campaign.
    pub id: String,
    /// A word or an expression; empty for no more runs.
    pub schedule: String,
    /// IANA name; empty for UTC.
    pub time_zone: String,
    /// Whether it is to be gone by.
    pub enabled: bool,
}

impl App {
    /// Makes a campaign without tests.
    pub async fn create_campaign(&self, ctx: &OpCtx, new: NewCampaign) -> Result<CampaignView, Error> {
        let user = ctx.require(WRITERS)?;
        let mut fields = Fields::default();
        let name = named(&mut fields, &new.name);
        let description = described(&mut fields, new.description);
        let kind = if new.kind.is_empty() { Some(Kind::Custom) } else { kind_of(&mut fields, &new.kind) };
        actor_id(&mut fields, new.threat_actor_id.as_deref());
        fields.finish()?;
        let actor = match &new.threat_actor_id {
            Some(id) => Some(actor_named(&self.actor(ctx, id).await?)?),
            None => None,
        };

        let at = now();
        let campaign = Campaign {
            id: Uuid::now_v7(),
            name,
            description,
            kind: kind.unwrap_or(Kind::Custom),
            status: Status::Draft,
            threat_actor_id: actor.as_ref().map(|(id, _)| *id),
            threat_actor_name: actor.map(|(_, name)| name),
            created_by: user.user_id,
            created_by_username: user.username.clone(),
            created_at: at,
            updated_at: at,
            schedule: None,
            time_zone: None,
            schedule_enabled: false,
            schedule_set_at: None,
            next_run_at: None,
            last_run_at: None,
            version: 1,
        };
        let mut tx = self.db.begin().await?;
        campaign::insert(&mut tx, &campaign).await?;
        let told = Told::new("created", "create_campaign");
        tell(&self.outbox, &mut tx, Cause::Caller(ctx), None, Some(&campaign), told).await?;
        tx.commit().await?;
        Ok(CampaignView { campaign, progress: Progress::default() })
    }

    /// Changes what a campaign is and where it stands.
    pub async fn update_campaign(&self, ctx: &OpCtx, edit: CampaignEdit) -> Result<CampaignView, Error> {
        let user = ctx.require(WRITERS)?;
        let id = id_of("id", &edit.id)?;
        let mut fields = Fields::default();
        let name = edit.name.as_deref().map(|name| named(&mut fields, name));
        let description = described(&mut fields, edit.description);
        let kind = edit.kind.as_deref().and_then(|name| kind_of(&mut fields, name));
        let status = edit.status.and_then(|name| {
            let status = Status::try_from(name).ok();
            let problem = format!("must be one of {}", Status::NAMES.join(", "));
            fields.check(status.is_some(), "status", &problem);
            status
        });
        actor_id(&mut fields, edit.threat_actor_id.as_deref());
        let clearable = ["description", "threat_actor_id"];
        let known = edit.clear.iter().all(|name| clearable.contains(&name.as_str()));
        fields.check(known, "clear", &format!("may name only {}", clearable.join(", ")));
        let description = set(&mut fields, &edit.clear, "description", description);
        let actor = set(&mut fields, &edit.clear, "threat_actor_id", edit.threat_actor_id);
        fields.finish()?;
        let actor = match actor {
            Set::To(id) => Set::To(actor_named(&self.actor(ctx, &id).await?)?),
            Set::Clear => Set::Clear,
            Set::Keep => Set::Keep,
        };

        let at = now();
        let mut tx = self.db.begin().await?;
        let before = self.held_campaign(&mut tx, ctx, id, |campaign| owned(user, campaign)).await?;
        if status.is_none_or(|status| status == Status::Archived) {
            unarchived(&before)?;
        }
        let mut after = before.clone();
        if let Some(name) = name {
            after.name = name;
        }
        description.put(&mut after.description);
        if let Some(kind) = kind {
            after.kind = kind;
        }
        match actor {
            Set::To((id, name)) => (after.threat_actor_id, after.threat_actor_name) = (Some(id), Some(name)),
            Set::Clear => (after.threat_actor_id, after.threat_actor_name) = (None, None),
            Set::Keep => {}
        }
        if let Some(status) = status {
            set_status(&mut after, status, at);
        }
        let progress = progress_of(&mut tx, id).await?;
        if after == before {
            tx.rollback().await?;
            return Ok(CampaignView { campaign: after, progress });
        }
        let told = Told::new("updated", "update_campaign");
        let campaign = write(&self.outbox, &mut tx, Cause::Caller(ctx), &before, after, told).await?;
        tx.commit().await?;
        Ok(CampaignView { campaign, progress })
    }

    /// Deletes a campaign with its history. Its tests stay, and those of its runs.
    pub async fn delete_campaign(&self, ctx: &OpCtx, id: &str) -> Result<(), Error> {
        let user = ctx.require(WRITERS)?;
        let id = id_of("id", id)?;
        let mut tx = self.db.begin().await?;
        let before = self.held_campaign(&mut tx, ctx, id, |campaign| owned(user, campaign)).await?;
        campaign::delete(&mut tx, id).await?;
        let told = Told::new("deleted", "delete_campaign");
        tell(&self.outbox, &mut tx, Cause::Caller(ctx), Some(&before), None, told).await?;
        tx.commit().await?;
        Ok(())
    }

    /// Says when a campaign runs by itself. A schedule that is set again as it was goes on as it did; another one
    /// counts from now.
    pub async fn set_campaign_schedule(&self, ctx: &OpCtx, order: ScheduleOrder) -> Result<CampaignView, Error> {
        ctx.require(WRITERS)?;
        let id = id_of("id", &order.id)?;
        let mut fields = Fields::default();
        let recurrence = match order.schedule.trim() {
            "" => {
                fields.check(!order.enabled, "schedule", "is needed to enable it");
                None
            }
            text => match Recurrence::parse(text) {
                Ok(recurrence) => Some(recurrence),
                Err(problem) => {
                    fields.add("schedule", problem);
                    None
                }
            },
        };
        let zone = if order.time_zone.is_empty() { "UTC" } else { order.time_zone.as_str() };
        fields.check(time_zone(zone).is_some(), "time_zone", "must be an IANA time zone such as Europe/Berlin");
        fields.finish()?;

        let at = now();
        let mut tx = self.db.begin().await?;
        let before = self.held_campaign(&mut tx, ctx, id, unarchived).await?;
        if order.enabled && !before.status.runs() {
            let text = "a completed campaign does not run: make it active first";
            return Err(wrong_status(&before, text).into());
        }
        let mut after = before.clone();
        after.schedule = recurrence.map(|recurrence| recurrence.as_str().to_owned());
        after.time_zone = after.schedule.is_some().then(|| zone.to_owned());
        after.schedule_enabled = order.enabled;
        if (&after.schedule, &after.time_zone) != (&before.schedule, &before.time_zone) {
            after.schedule_set_at = after.schedule.is_some().then_some(at);
            after.next_run_at = None;
        }
        plan(&mut after, at);
        let progress = progress_of(&mut tx, id).await?;
        if after == before {
            tx.rollback().await?;
            return Ok(CampaignView { campaign: after, progress });
        }
        let told = Told::new("scheduled", "schedule_campaign");
        let campaign = write(&self.outbox, &mut tx, Cause::Caller(ctx), &before, after, told).await?;
        tx.commit().await?;
        Ok(CampaignView { campaign, progress })
    }

    /// The catalogue's record of a threat actor that still counts.
    pub(super) async fn actor(&self, ctx: &OpCtx, id: &str) -> Result<Knowledge, Failure> {
        let request = ctx.outgoing(GetKnowledgeRequest { kind: THREAT_ACTOR.to_owned(), id: id.to_owned() });
        let answer = self.knowledge.clone().get_knowledge(request).await.map_err(|status| {
            let failure = Failure::from(status);
            if failure.code() == Code::NotFound { Failure::not_found("threat actor", id) } else { failure }
        })?;
        let actor = answer.into_inner().record;
        let actor = actor.ok_or_else(|| Failure::internal("the catalogue answered without a record"))?;
        if !actor.revoked {
            return Ok(actor);
        }
        Err(match actor.revoked_by {
            Some(successor) => {
                let problem = format!("{} is revoked; its successor is {successor}", actor.key);
                Failure::invalid("threat_actor_id", problem).with("successor", successor)
            }
            None => Failure::invalid("threat_actor_id", format!("{} is revoked and has no successor", actor.key)),
        })
    }
}

fn named(fields: &mut Fields, name: &str) -> String {
    let name = name.trim();
    fields.text("name", name, 1, MAX_NAME);
    name.to_owned()
}

fn described(fields: &mut Fields, description: Option<String>) -> Option<String> {
    fields.text("description", description.as_deref().unwrap_or_default(), 0, MAX_DESCRIPTION);
    description
}

fn kind_of(fields: &mut Fields, name: &str) -> Option<Kind> {
    fields.one_of("type", name, Kind::NAMES);
    Kind::try_from(name.to_owned()).ok()
}

/// What happens to a field that this value was given for.
fn set<T>(fields: &mut Fields, clear: &[String], field: &str, value: Option<T>) -> Set<T> {
    match (value, clear.iter().any(|name| name == field)) {
        (Some(_), true) => {
            fields.add(field, "is both given and cleared");
            Set::Keep
        }
        (Some(value), false) => Set::To(value),
        (None, true) => Set::Clear,
        (None, false) => Set::Keep,
    }
}

fn actor_id(fields: &mut Fields, id: Option<&str>) {
    if let Some(id) = id {
        fields.text("threat_actor_id", id.trim(), 1, MAX_RECORD_ID);
    }
}

fn actor_named(actor: &Knowledge) -> Result<(Uuid, String), Failure> {
    Ok((Uuid::try_parse(&actor.id).map_err(Failure::internal)?, actor.name.clone()))
}
