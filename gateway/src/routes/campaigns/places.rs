//! Which tests a campaign has, in which order and phase.

use aegis_error::Fields;
use aegis_proto::testing::v1::{
    self as proto, AddCampaignTestsRequest, GenerateCampaignRequest, OrderCampaignTestsRequest,
    RemoveCampaignTestRequest,
};
use axum::extract::State;
use serde::Deserialize;
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};
use uuid::Uuid;

use super::{Campaign, Generated, MAX_TESTS, answer, created};
use crate::{
    answer::Answer,
    error::Problem,
    extract::{Caller, Id, Ids, Json, OptionalJson},
    openapi::responses::{Conflict, NotFound},
    state::Gateway,
};

/// Templates of one technique at most.
const MAX_PER_TECHNIQUE: u32 = 20;

/// Routes that need a token.
pub fn protected() -> OpenApiRouter<Gateway> {
    OpenApiRouter::new()
        .routes(routes!(add_campaign_tests, order_campaign_tests))
        .routes(routes!(remove_campaign_test))
        .routes(routes!(generate_campaign))
}

/// A test and its phase.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"test_id": "0190b7a2-6a00-7b1d-8c55-0f3a9d2b7c01", "phase": "execution"}))]
pub struct CampaignPlace {
    test_id: Uuid,
    /// Such as a tactic's short name, or a step of one's own.
    #[serde(default)]
    phase: Option<String>,
}

impl From<CampaignPlace> for proto::CampaignPlace {
    fn from(place: CampaignPlace) -> proto::CampaignPlace {
        proto::CampaignPlace { test_id: place.test_id.to_string(), phase: place.phase }
    }
}

/// One test with its phase, or up to 500 in `tests`.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({
    "test_id": "0190b7a2-6a00-7b1d-8c55-0f3a9d2b7c01", "phase": "execution", "position": 1
}))]
pub struct NewCampaignTests {
    #[serde(default)]
    test_id: Option<Uuid>,
    /// Of `test_id`; in `tests` each has its own.
    #[serde(default)]
    phase: Option<String>,
    #[serde(default)]
    #[schema(min_items = 1, max_items = 500)]
    tests: Option<Vec<CampaignPlace>>,
    /// Place of the (first) test, 1 for before all others; after all others if absent.
    #[serde(default)]
    #[schema(minimum = 1, maximum = 2000)]
    position: Option<u32>,
}

impl NewCampaignTests {
    /// The tests in their order, and the place of the first (0: after all others).
    fn parts(self) -> Result<(Vec<proto::CampaignPlace>, i32), Problem> {
        let mut fields = Fields::default();
        let position = within(&mut fields, "position", self.position, MAX_TESTS);
        if self.tests.is_some() {
            fields.check(self.test_id.is_none(), "test_id", "cannot be given together with tests");
            fields.check(self.phase.is_none(), "phase", "belongs into each of tests");
        } else {
            fields.check(self.test_id.is_some(), "test_id", "is required, or tests");
        }
        fields.finish()?;
        let one = self.test_id.map(|test_id| vec![CampaignPlace { test_id, phase: self.phase }]);
        let places = self.tests.or(one).unwrap_or_default();
        Ok((places.into_iter().map(Into::into).collect(), position))
    }
}

/// All tests of a campaign, each once, in their new order.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"tests": [
    {"test_id": "0190b7a2-6a00-7b1d-8c55-0f3a9d2b7c01", "phase": "execution"},
    {"test_id": "0190b7a2-6a00-7b1d-8c55-0f3a9d2b7c02", "phase": null}
]}))]
pub struct CampaignOrder {
    #[schema(max_items = 2000)]
    tests: Vec<CampaignPlace>,
}

/// What to fill a campaign with.
#[derive(Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"per_technique": 1, "platform": "windows", "limit": 1000}))]
pub struct Generation {
    /// Templates of a technique at most; 1 if absent.
    #[serde(default)]
    #[schema(minimum = 1, maximum = 20)]
    per_technique: Option<u32>,
    /// Only templates for it.
    #[serde(default)]
    platform: Option<String>,
    /// Tests at most; 1,000 if absent.
    #[serde(default)]
    #[schema(minimum = 1, maximum = 2000)]
    limit: Option<u32>,
}

/// A number from 1 to `max`; 0 where it is absent.
fn within(fields: &mut Fields, name: &str, number: Option<u32>, max: u32) -> i32 {
    let Some(number) = number else { return 0 };
    fields.check((1..=max).contains(&number), name, &format!("must be 1 to {max}"));
    i32::try_from(number).unwrap_or(0)
}

/// Put tests into a campaign
///
/// Everyone but viewers. All of them, or none. A test may be in several campaigns, but in each once (409); a campaign
/// has at most 2,000 tests (400). Not of an archived campaign (400). The answer is the campaign as it is then.
#[utoipa::path(post, path = "/api/v1/campaigns/{id}/tests", tag = "Campaigns", request_body = NewCampaignTests,
    params(("id" = Uuid, Path, description = "Campaign")),
    extensions(("x-roles" = json!(["admin", "red_tech", "blue_tech", "red_lead", "blue_lead"]))),
    responses(
        (status = 201, description = "The campaign", body = Campaign),
        (status = 404, response = NotFound),
        (status = 409, response = Conflict),
    ))]
async fn add_campaign_tests(
    State(gateway): State<Gateway>,
    caller: Caller,
    id: Id,
    Json(body): Json<NewCampaignTests>,
) -> Result<Answer, Problem> {
    let (tests, position) = body.parts()?;
    let request = AddCampaignTestsRequest { campaign_id: id.to_string(), tests, position };
    let answer = gateway.deps.campaigns.clone().add_campaign_tests(caller.ctx().outgoing(request)).await?.into_inner();
    created(answer.campaign)
}

/// Set the order of a campaign
///
/// Everyone but viewers. The body has every test of the campaign, each once, with its phase; `null` or nothing means
/// none. Where another test came in or went out meanwhile it is refused (400), and changes nothing.
#[utoipa::path(put, path = "/api/v1/campaigns/{id}/tests", tag = "Campaigns", request_body = CampaignOrder,
    params(("id" = Uuid, Path, description = "Campaign")),
    extensions(("x-roles" = json!(["admin", "red_tech", "blue_tech", "red_lead", "blue_lead"]))),
    responses(
        (status = 200, description = "The campaign", body = Campaign),
        (status = 404, response = NotFound),
        (status = 409, response = Conflict),
    ))]
async fn order_campaign_tests(
    State(gateway): State<Gateway>,
    caller: Caller,
    id: Id,
    Json(body): Json<CampaignOrder>,
) -> Result<Answer, Problem> {
    let tests = body.tests.into_iter().map(Into::into).collect();
    let request = OrderCampaignTestsRequest { campaign_id: id.to_string(), tests };
    let ordered =
        gateway.deps.campaigns.clone().order_campaign_tests(caller.ctx().outgoing(request)).await?.into_inner();
    answer(ordered.campaign)
}

/// Take a test out of a campaign
///
/// Everyone but viewers. The test stays. `If-Match` is about the campaign.
#[utoipa::path(delete, path = "/api/v1/campaigns/{id}/tests/{test_id}", tag = "Campaigns",
    params(("id" = Uuid, Path, description = "Campaign"), ("test_id" = Uuid, Path, description = "Test")),
    extensions(("x-roles" = json!(["admin", "red_tech", "blue_tech", "red_lead", "blue_lead"]))),
    responses(
        (status = 204, description = "Taken out"),
        (status = 404, response = NotFound),
        (status = 409, response = Conflict),
    ))]
async fn remove_campaign_test(
    State(gateway): State<Gateway>,
    caller: Caller,
    Ids(campaign_id, test_id): Ids,
) -> Result<Answer, Problem> {
    let request = RemoveCampaignTestRequest { campaign_id: campaign_id.to_string(), test_id: test_id.to_string() };
    gateway.deps.campaigns.clone().remove_campaign_test(caller.ctx().outgoing(request)).await?;
    Ok(Answer::nothing())
}

/// Fill a campaign from its threat actor
///
/// Who may create tests, leads and the campaign's creator. For every technique of the actor a draft from the best
/// template there is (`per_technique` of them), in the order of the tactics, which are the phases. A technique without
/// a template gets a draft without a procedure. What is in the campaign already is not made again, so that a second
/// call adds what is new. A campaign without a threat actor, or an archived one, is refused (400). The body may be left
/// out.
#[utoipa::path(post, path = "/api/v1/campaigns/{id}/generate", tag = "Campaigns", request_body = Option<Generation>,
    params(("id" = Uuid, Path, description = "Campaign")),
    extensions(
        ("x-roles" = json!(["admin", "red_tech", "red_lead", "blue_lead"])),
        ("x-also" = json!("creator"))
    ),
    responses(
        (status = 200, description = "What was made", body = Generated),
        (status = 404, response = NotFound),
        (status = 409, response = Conflict),
    ))]
async fn generate_campaign(
    State(gateway): State<Gateway>,
    caller: Caller,
    id: Id,
    OptionalJson(body): OptionalJson<Generation>,
) -> Result<Answer, Problem> {
    let mut fields = Fields::default();
    let request = GenerateCampaignRequest {
        campaign_id: id.to_string(),
        per_technique: within(&mut fields, "per_technique", body.per_technique, MAX_PER_TECHNIQUE),
        platform: body.platform,
        limit: within(&mut fields, "limit", body.limit, MAX_TESTS),
    };
    fields.finish()?;
    let made = gateway.deps.campaigns.clone().generate_campaign(caller.ctx().outgoing(request)).await?.into_inner();
    let campaign = made.campaign.ok_or_else(Problem::empty)?;
    Answer::json(&Generated {
        campaign: campaign.into(),
        created: made.created,
        already_there: made.already_there,
        without_template: made.without_template,
    })
}
