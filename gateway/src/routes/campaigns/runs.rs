//! When a campaign runs, and what came of it.

use aegis_auth::IfMatch;
use aegis_error::{Code, Failure, Fields};
use aegis_proto::testing::v1::{
    self as proto, GetCampaignRequest, ListCampaignRunsRequest, ListCampaignTestsRequest, RunCampaignRequest,
    SetCampaignScheduleRequest,
};
use axum::extract::State;
use serde::Deserialize;
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{Campaign, CampaignPage, CampaignRun, CampaignTest, answer};
use crate::{
    answer::Answer,
    error::Problem,
    extract::{Caller, Id, Ids, Json, Query, page},
    openapi::responses::{Conflict, NotFound},
    state::Gateway,
    values::{Change, set},
};

/// Routes that need a token.
pub fn protected() -> OpenApiRouter<Gateway> {
    OpenApiRouter::new()
        .routes(routes!(set_campaign_schedule))
        .routes(routes!(run_campaign))
        .routes(routes!(get_campaign_history))
        .routes(routes!(list_run_tests))
}

/// When a campaign is to run by itself; what is absent is left alone.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"schedule": "monthly", "time_zone": "Europe/Berlin", "enabled": true}))]
pub struct ScheduleChanges {
    /// weekly | monthly | quarterly | a cron expression of five fields (minute, hour, day, month, weekday); `null`: no
    /// more runs.
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    schedule: Change<String>,
    /// IANA name, such as Europe/Berlin; `null`: UTC.
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    time_zone: Change<String>,
    /// Whether it is kept to. A campaign that gets its first schedule keeps to it unless this is `false`.
    #[serde(default, deserialize_with = "set")]
    #[schema(value_type = bool, required = false)]
    enabled: Option<bool>,
}

impl ScheduleChanges {
    /// What is wrong with them before anything is known of the campaign.
    fn check(&self) -> Result<(), Failure> {
        let mut fields = Fields::default();
        for (name, change) in [("schedule", &self.schedule), ("time_zone", &self.time_zone)] {
            let empty = matches!(change, Change::Set(text) if text.trim().is_empty());
            fields.check(!empty, name, "must not be empty; null removes it");
        }
        let contradicts = self.schedule == Change::Clear && self.enabled == Some(true);
        fields.check(!contradicts, "enabled", "must not be true where schedule is null");
        let contradicts = self.schedule == Change::Clear && matches!(self.time_zone, Change::Set(_));
        fields.check(!contradicts, "time_zone", "must not be given where schedule is null");
        fields.finish()
    }

    /// Whether they say all there is to say, so that what is there now does not matter.
    fn whole(&self) -> bool {
        self.schedule == Change::Clear && !self.time_zone.is_keep()
            || !self.schedule.is_keep() && !self.time_zone.is_keep() && self.enabled.is_some()
    }

    /// The schedule that there is then.
    fn over(self, id: Id, now: Option<&proto::Campaign>) -> SetCampaignScheduleRequest {
        let before = now.and_then(|campaign| campaign.schedule.clone());
        let pick = |change: Change<String>, present: Option<String>| match change {
            Change::Keep => present.unwrap_or_default(),
            Change::Clear => String::new(),
            Change::Set(text) => text,
        };
        let first = before.is_none();
        let schedule = pick(self.schedule, before);
        let kept = now.is_some_and(|campaign| campaign.schedule_enabled) || first;
        SetCampaignScheduleRequest {
            id: id.to_string(),
            enabled: self.enabled.unwrap_or(!schedule.is_empty() && kept),
            time_zone: pick(self.time_zone, now.and_then(|campaign| campaign.time_zone.clone())),
            schedule,
        }
    }
}

/// Part of a campaign's history.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct HistoryPage {
    /// Rows at most.
    #[param(minimum = 1, maximum = 1000, default = 200)]
    limit: Option<u32>,
    /// Rows to leave out before.
    #[param(minimum = 0, maximum = 2147483647, default = 0)]
    offset: Option<u32>,
}

/// Set the schedule of a campaign
///
/// Everyone but viewers. `weekly`, `monthly` and `quarterly` count from the moment in which the schedule is set: due for
/// the first time a week, a month or three months later, on the same weekday or day (the last one in a month without
/// it) and at the same time by the clocks of the time zone. `next_run_at`
/// of the answer says when it is due next. A cron expression that never comes due, or more than once an hour, is 400.
/// `null` as the schedule ends it, its time zone too; what is absent is left alone. Setting the same again changes
/// nothing; another schedule or time zone counts from now. Where somebody else changes the campaign at the same moment
/// it is 409. A run that was missed while the product was down is made once when it is up again. An archived campaign
/// is refused (400), and so is one that is completed unless `enabled` is false.
#[utoipa::path(patch, path = "/api/v1/campaigns/{id}/schedule", tag = "Campaigns", request_body = ScheduleChanges,
    params(("id" = Uuid, Path, description = "Campaign")),
    extensions(("x-roles" = json!(["admin", "red_tech", "blue_tech", "red_lead", "blue_lead"]))),
    responses(
        (status = 200, description = "The campaign", body = Campaign),
        (status = 404, response = NotFound),
        (status = 409, response = Conflict),
    ))]
async fn set_campaign_schedule(
    State(gateway): State<Gateway>,
    mut caller: Caller,
    id: Id,
    Json(body): Json<ScheduleChanges>,
) -> Result<Answer, Problem> {
    body.check()?;
    let mut campaigns = gateway.deps.campaigns.clone();
    if body.whole() {
        let set = campaigns.set_campaign_schedule(caller.ctx().outgoing(body.over(id, None))).await?;
        return answer(set.into_inner().campaign);
    }
    let read = campaigns.get_campaign(caller.ctx().outgoing(GetCampaignRequest { id: id.to_string() })).await?;
    let now = read.into_inner().campaign.ok_or_else(Problem::empty)?;
    // What was left out comes from what was read, so that is what must still be there.
    let ours = caller.conditions.if_match.is_none();
    caller.conditions.if_match.get_or_insert_with(|| IfMatch::Versions(vec![now.version]));
    let zoned = matches!(body.time_zone, Change::Set(_));
    let request = body.over(id, Some(&now));
    if request.schedule.is_empty() {
        let mut fields = Fields::default();
        fields.check(!request.enabled, "enabled", "must not be true without a schedule");
        fields.check(!zoned, "time_zone", "must not be given without a schedule");
        fields.finish()?;
    }
    match campaigns.set_campaign_schedule(caller.ctx().outgoing(request)).await {
        Ok(set) => answer(set.into_inner().campaign),
        Err(status) => {
            let failure = Failure::from(status);
            if ours && failure.code() == Code::PreconditionFailed {
                let text = "somebody else changed the campaign at the same moment; read it again";
                return Err(Failure::new(Code::Conflict, text).into());
            }
            Err(failure.into())
        }
    }
}

/// Run a campaign now
///
/// Who may create tests, leads and the campaign's creator, with or without a schedule. Copies its tests as new drafts,
/// which are the run's and not the campaign's; the schedule goes on as before. A campaign that is completed or
/// archived, or has no tests, is refused (400).
#[utoipa::path(post, path = "/api/v1/campaigns/{id}/run", tag = "Campaigns",
    params(("id" = Uuid, Path, description = "Campaign")),
    extensions(
        ("x-roles" = json!(["admin", "red_tech", "red_lead", "blue_lead"])),
        ("x-also" = json!("creator"))
    ),
    responses(
        (status = 201, description = "The run", body = CampaignRun),
        (status = 404, response = NotFound),
        (status = 409, response = Conflict),
    ))]
async fn run_campaign(State(gateway): State<Gateway>, caller: Caller, id: Id) -> Result<Answer, Problem> {
    let request = RunCampaignRequest { id: id.to_string() };
    let answer = gateway.deps.campaigns.clone().run_campaign(caller.ctx().outgoing(request)).await?.into_inner();
    let run = answer.run.ok_or_else(Problem::empty)?;
    Answer::created(&format!("/api/v1/campaigns/{id}/history"), &CampaignRun::from(run))
}

/// Read a campaign's history
///
/// Every run, newest first: when it was due, when it started, what it made and what came of that so far.
/// `X-Total-Count` has the number of all.
#[utoipa::path(get, path = "/api/v1/campaigns/{id}/history", tag = "Campaigns",
    params(("id" = Uuid, Path, description = "Campaign"), HistoryPage),
    responses((status = 200, description = "The runs", body = [CampaignRun]), (status = 404, response = NotFound)))]
async fn get_campaign_history(
    State(gateway): State<Gateway>,
    caller: Caller,
    id: Id,
    Query(query): Query<HistoryPage>,
) -> Result<Answer, Problem> {
    let (page_size, skip) = page(query.limit, query.offset, 200, 1000)?;
    let request = ListCampaignRunsRequest { campaign_id: id.to_string(), page_size, skip, page_token: String::new() };
    let answer = gateway.deps.campaigns.clone().list_campaign_runs(caller.ctx().outgoing(request)).await?.into_inner();
    let runs: Vec<CampaignRun> = answer.runs.into_iter().map(CampaignRun::from).collect();
    Answer::list(&runs, answer.total_size)
}

/// List the tests of a run
///
/// Those that it made, in the order that the campaign had, without those that were deleted since. `X-Total-Count` has
/// the number of all.
#[utoipa::path(get, path = "/api/v1/campaigns/{id}/history/{run_id}/tests", tag = "Campaigns",
    params(("id" = Uuid, Path, description = "Campaign"), ("run_id" = Uuid, Path, description = "Run"), CampaignPage),
    responses((status = 200, description = "The tests", body = [CampaignTest]), (status = 404, response = NotFound)))]
async fn list_run_tests(
    State(gateway): State<Gateway>,
    caller: Caller,
    Ids(campaign_id, run_id): Ids,
    Query(query): Query<CampaignPage>,
) -> Result<Answer, Problem> {
    let (page_size, skip) = page(query.limit, query.offset, 1000, 2000)?;
    let request = ListCampaignTestsRequest {
        campaign_id: campaign_id.to_string(),
        run_id: Some(run_id.to_string()),
        page_size,
        skip,
        page_token: String::new(),
    };
    let answer = gateway.deps.campaigns.clone().list_campaign_tests(caller.ctx().outgoing(request)).await?.into_inner();
    let tests: Vec<CampaignTest> = answer.tests.into_iter().map(CampaignTest::from).collect();
    Answer::list(&tests, answer.total_size)
}
