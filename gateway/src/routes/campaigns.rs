//! Campaigns: tests in order, each in a phase. What is in them is changed in [`places`], their schedule and their runs
//! are in [`runs`].

mod model;
mod places;
mod runs;

pub use model::{Campaign, CampaignDetail, CampaignRun, CampaignTest, Generated};

use aegis_proto::testing::v1::{
    self as proto, CreateCampaignRequest, DeleteCampaignRequest, GetCampaignRequest, ListCampaignTestsRequest,
    ListCampaignsRequest, UpdateCampaignRequest,
};
use axum::extract::State;
use serde::Deserialize;
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::{
    router::{OpenApiRouter, UtoipaMethodRouterExt},
    routes,
};
use uuid::Uuid;

use crate::{
    answer::Answer,
    error::Problem,
    extract::{Caller, Id, Json, Query, page},
    middleware::compression,
    openapi::responses::{Conflict, NotFound},
    state::Gateway,
    values::{CampaignStatus, CampaignType, Change, set},
};

/// Tests of a campaign, at most.
const MAX_TESTS: u32 = 2000;

/// Routes that need a token.
pub fn protected() -> OpenApiRouter<Gateway> {
    OpenApiRouter::new()
        .routes(routes!(list_campaigns).layer(compression()))
        .routes(routes!(create_campaign))
        .routes(routes!(get_campaign).layer(compression()))
        .routes(routes!(update_campaign, delete_campaign))
        .merge(places::protected())
        .merge(runs::protected())
}

/// Filters of campaigns; all given ones must hold.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct ListCampaigns {
    #[param(inline)]
    status: Option<CampaignStatus>,
    #[serde(rename = "type")]
    #[param(inline)]
    kind: Option<CampaignType>,
    /// Anywhere in the name or the description, in whatever case.
    #[param(example = "bear")]
    search: Option<String>,
    /// Rows at most.
    #[param(minimum = 1, maximum = 5000, default = 1000)]
    limit: Option<u32>,
    /// Rows to leave out before.
    #[param(minimum = 0, maximum = 2147483647, default = 0)]
    offset: Option<u32>,
}

/// Which of the campaign's tests to show.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct CampaignPage {
    /// Tests at most.
    #[param(minimum = 1, maximum = 2000, default = 1000)]
    limit: Option<u32>,
    /// Tests to leave out before.
    #[param(minimum = 0, maximum = 2147483647, default = 0)]
    offset: Option<u32>,
}

/// A new campaign.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({
    "name": "APT28 in spring", "description": "What they did to others", "type": "apt_emulation",
    "threat_actor_id": "0190b7a2-9000-7c3e-9d2a-3f6d1c0e8a28"
}))]
pub struct NewCampaign {
    name: String,
    #[serde(default)]
    description: Option<String>,
    /// `custom` if absent.
    #[serde(default, rename = "type")]
    #[schema(value_type = Option<CampaignType>)]
    kind: Option<CampaignType>,
    /// A threat actor of the knowledge base.
    #[serde(default)]
    threat_actor_id: Option<Uuid>,
}

/// Changes of a campaign; what is absent is left alone, `null` removes.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"name": "APT28 in summer", "status": "active", "description": null}))]
pub struct CampaignChanges {
    #[serde(default, deserialize_with = "set")]
    #[schema(value_type = String, required = false)]
    name: Option<String>,
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    description: Change<String>,
    #[serde(default, rename = "type", deserialize_with = "set")]
    #[schema(value_type = CampaignType, required = false)]
    kind: Option<CampaignType>,
    #[serde(default, deserialize_with = "set")]
    #[schema(value_type = CampaignStatus, required = false)]
    status: Option<CampaignStatus>,
    /// A threat actor of the knowledge base. The tests that are there stay.
    #[serde(default)]
    #[schema(value_type = Option<Uuid>)]
    threat_actor_id: Change<Uuid>,
}

/// The answer with this campaign.
fn answer(campaign: Option<proto::Campaign>) -> Result<Answer, Problem> {
    let campaign = campaign.ok_or_else(Problem::empty)?;
    Answer::entity(campaign.version, &Campaign::from(campaign))
}

/// The answer that something of it, or it itself, was made.
fn created(campaign: Option<proto::Campaign>) -> Result<Answer, Problem> {
    let campaign = campaign.ok_or_else(Problem::empty)?;
    let (version, location) = (campaign.version, format!("/api/v1/campaigns/{}", campaign.id));
    Ok(Answer::created(&location, &Campaign::from(campaign))?.versioned(version))
}

/// List campaigns
///
/// Newest first, without their tests; `X-Total-Count` has the number of all that fit.
#[utoipa::path(get, path = "/api/v1/campaigns", tag = "Campaigns", params(ListCampaigns),
    responses((status = 200, description = "Campaigns", body = [Campaign])))]
async fn list_campaigns(
    State(gateway): State<Gateway>,
    caller: Caller,
    Query(query): Query<ListCampaigns>,
) -> Result<Answer, Problem> {
    let (page_size, skip) = page(query.limit, query.offset, 1000, 5000)?;
    let request = ListCampaignsRequest {
        page_size,
        skip,
        page_token: String::new(),
        status: query.status.map(String::from),
        r#type: query.kind.map(String::from),
        search: query.search,
    };
    let answer = gateway.deps.campaigns.clone().list_campaigns(caller.ctx().outgoing(request)).await?.into_inner();
    let campaigns: Vec<Campaign> = answer.campaigns.into_iter().map(Campaign::from).collect();
    Answer::list(&campaigns, answer.total_size)
}

/// Create a campaign
///
/// Everyone but viewers. It is a draft without tests: `POST /campaigns/{id}/tests` puts them in,
/// `POST /campaigns/{id}/generate` makes them from the threat actor's techniques. Names need not be unique.
#[utoipa::path(post, path = "/api/v1/campaigns", tag = "Campaigns", request_body = NewCampaign,
    extensions(("x-roles" = json!(["admin", "red_tech", "blue_tech", "red_lead", "blue_lead"]))),
    responses((status = 201, description = "Created", body = Campaign), (status = 404, response = NotFound)))]
async fn create_campaign(
    State(gateway): State<Gateway>,
    caller: Caller,
    Json(body): Json<NewCampaign>,
) -> Result<Answer, Problem> {
    let request = CreateCampaignRequest {
        name: body.name,
        description: body.description,
        r#type: body.kind.map(String::from).unwrap_or_default(),
        threat_actor_id: body.threat_actor_id.map(|id| id.to_string()),
    };
    let answer = gateway.deps.campaigns.clone().create_campaign(caller.ctx().outgoing(request)).await?.into_inner();
    created(answer.campaign)
}

/// Read a campaign
///
/// With its tests in their order, a thousand of them unless `limit` says otherwise (`test_count` has the number of
/// all), and its progress: how many of them are in which state.
#[utoipa::path(get, path = "/api/v1/campaigns/{id}", tag = "Campaigns",
    params(("id" = Uuid, Path, description = "Campaign"), CampaignPage),
    responses(
        (status = 200, description = "The campaign", body = CampaignDetail),
        (status = 404, response = NotFound),
    ))]
async fn get_campaign(
    State(gateway): State<Gateway>,
    caller: Caller,
    id: Id,
    Query(query): Query<CampaignPage>,
) -> Result<Answer, Problem> {
    let (page_size, skip) = page(query.limit, query.offset, 1000, 2000)?;
    let ctx = caller.ctx();
    let request = ListCampaignTestsRequest { campaign_id: id.to_string(), page_size, skip, ..Default::default() };
    let (mut campaigns, mut places) = (gateway.deps.campaigns.clone(), gateway.deps.campaigns.clone());
    let (campaign, tests) = tokio::join!(
        campaigns.get_campaign(ctx.outgoing(GetCampaignRequest { id: id.to_string() })),
        places.list_campaign_tests(ctx.outgoing(request)),
    );
    let campaign = campaign?.into_inner().campaign.ok_or_else(Problem::empty)?;
    let tests = tests?.into_inner().tests.into_iter().map(CampaignTest::from).collect();
    Answer::entity(campaign.version, &CampaignDetail { campaign: campaign.into(), tests })
}

/// Change a campaign
///
/// Its creator and administrators. Any status may be set. An active campaign without a schedule is completed by itself
/// with its last test that is validated or rejected, and active again when one is open again. A completed or archived
/// campaign does not run; an archived one takes no change (400) but of its status. What is in it is changed by
/// `/campaigns/{id}/tests`, its schedule by `/campaigns/{id}/schedule`.
#[utoipa::path(patch, path = "/api/v1/campaigns/{id}", tag = "Campaigns",
    params(("id" = Uuid, Path, description = "Campaign")), request_body = CampaignChanges,
    extensions(("x-roles" = json!(["admin"])), ("x-also" = json!("creator"))),
    responses(
        (status = 200, description = "Changed", body = Campaign),
        (status = 404, response = NotFound),
        (status = 409, response = Conflict),
    ))]
async fn update_campaign(
    State(gateway): State<Gateway>,
    caller: Caller,
    id: Id,
    Json(body): Json<CampaignChanges>,
) -> Result<Answer, Problem> {
    let mut clear = Vec::new();
    let actor = body.threat_actor_id.or_clear("threat_actor_id", &mut clear);
    let request = UpdateCampaignRequest {
        id: id.to_string(),
        name: body.name,
        description: body.description.or_clear("description", &mut clear),
        r#type: body.kind.map(String::from),
        status: body.status.map(String::from),
        threat_actor_id: actor.map(|id| id.to_string()),
        clear,
    };
    let changed = gateway.deps.campaigns.clone().update_campaign(caller.ctx().outgoing(request)).await?.into_inner();
    answer(changed.campaign)
}

/// Delete a campaign
///
/// Its creator and administrators. Its schedule ends and its history goes with it; its tests stay, those of its runs
/// too.
#[utoipa::path(delete, path = "/api/v1/campaigns/{id}", tag = "Campaigns",
    params(("id" = Uuid, Path, description = "Campaign")),
    extensions(("x-roles" = json!(["admin"])), ("x-also" = json!("creator"))),
    responses(
        (status = 204, description = "Deleted"),
        (status = 404, response = NotFound),
        (status = 409, response = Conflict),
    ))]
async fn delete_campaign(State(gateway): State<Gateway>, caller: Caller, id: Id) -> Result<Answer, Problem> {
    let request = DeleteCampaignRequest { id: id.to_string() };
    gateway.deps.campaigns.clone().delete_campaign(caller.ctx().outgoing(request)).await?;
    Ok(Answer::nothing())
}
