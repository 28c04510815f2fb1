//! What attackers show on decoys and nobody has validated, and the test that closes such a gap.

use aegis_error::Failure;
use aegis_proto::{
    analytics::v1::{self as proto, ListObservedGapsRequest},
    deception::v1::GetObservedProcedureRequest,
    testing::v1::CreateTestRequest,
};
use axum::extract::State;
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{
    answer::Answer,
    error::Problem,
    extract::{Caller, Json, Name, Query, page},
    openapi::responses::NotFound,
    routes::tests::{Test, created},
    state::Gateway,
    values::{TechniqueStatus, time},
};

/// Routes that need a token.
pub fn protected() -> OpenApiRouter<Gateway> {
    OpenApiRouter::new().routes(routes!(list_observed_gaps)).routes(routes!(create_test_of_gap))
}

/// A technique that attackers showed on decoys and that is not validated.
#[derive(Serialize, ToSchema)]
#[schema(example = json!({
    "technique_id": "0190b7a2-5f00-7c3e-9d2a-3f6d1c0e8a11", "mitre_id": "T1082",
    "name": "System Information Discovery", "tactics": ["discovery"], "status": "not_evaluated", "score": 20.0,
    "validated_tests": 0, "tests": 1, "threat_actors": 61, "observed": 214, "attackers": 17,
    "first_seen": "2024-01-01T02:22:56Z", "last_seen": "2024-02-11T21:04:10Z", "priority": 2.8904
}))]
pub struct ObservedGap {
    #[schema(value_type = Uuid)]
    technique_id: String,
    mitre_id: String,
    name: String,
    /// Short names.
    tactics: Vec<String>,
    #[schema(value_type = TechniqueStatus)]
    status: String,
    /// 0 to 100.
    score: f64,
    validated_tests: i64,
    /// Of any state.
    tests: i64,
    /// Threat actors that are known to use it.
    threat_actors: i64,
    /// Events of decoys that showed it.
    observed: i64,
    /// Attackers who showed it here.
    attackers: i64,
    first_seen: Option<DateTime<Utc>>,
    last_seen: Option<DateTime<Utc>>,
    /// ln(1 + attackers) × 0.5^(days since it was last seen / 30), half of that where the status is partial.
    priority: f64,
}

impl From<proto::ObservedGap> for ObservedGap {
    fn from(gap: proto::ObservedGap) -> ObservedGap {
        ObservedGap {
            technique_id: gap.technique_id,
            mitre_id: gap.mitre_id,
            name: gap.name,
            tactics: gap.tactics,
            status: gap.status,
            score: gap.score,
            validated_tests: gap.validated_tests,
            tests: gap.tests,
            threat_actors: gap.threat_actors,
            observed: gap.count,
            attackers: gap.attackers,
            first_seen: time(gap.first_seen),
            last_seen: time(gap.last_seen),
            priority: gap.priority,
        }
    }
}

/// Part of the list of gaps.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct ListObservedGaps {
    /// Rows at most.
    #[param(minimum = 1, maximum = 1000, default = 100)]
    limit: Option<u32>,
    /// Rows to leave out before.
    #[param(minimum = 0, maximum = 2147483647, default = 0)]
    offset: Option<u32>,
}

/// What the test is to be, besides its technique and procedure.
#[derive(Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"name": "What attackers did on our web servers", "platform": "linux"}))]
pub struct TestOfGap {
    /// Without one it is named after the technique.
    #[serde(default)]
    name: Option<String>,
    #[serde(default)]
    description: Option<String>,
    #[serde(default)]
    platform: Option<String>,
}

/// List observed gaps
///
/// Techniques that attackers showed on decoys here and that are not validated, the most urgent first: those that many
/// attackers showed lately. `X-Total-Count` has the number of all.
#[utoipa::path(get, path = "/api/v1/metrics/observed-gaps", tag = "Metrics", params(ListObservedGaps),
    responses((status = 200, description = "The gaps", body = [ObservedGap],
        headers(("X-As-Of" = String, description = "When the figures were last brought up to date")))))]
async fn list_observed_gaps(
    State(gateway): State<Gateway>,
    caller: Caller,
    Query(query): Query<ListObservedGaps>,
) -> Result<Answer, Problem> {
    let (page_size, skip) = page(query.limit, query.offset, 100, 1000)?;
    let request = ListObservedGapsRequest { page_size, skip, page_token: String::new() };
    let answer = gateway.deps.analytics.clone().list_observed_gaps(caller.ctx().outgoing(request)).await?.into_inner();
    let gaps: Vec<ObservedGap> = answer.gaps.into_iter().map(ObservedGap::from).collect();
    Ok(Answer::list(&gaps, answer.total_size)?.dated(time(answer.as_of)))
}

/// Make a test of an observed gap
///
/// A draft test of the technique, with what attackers did here to show it as its procedure: a step a line, `service: what
/// was done`, the newest last. Red techs and administrators. 404 where no decoy has seen the technique.
#[utoipa::path(post, path = "/api/v1/metrics/observed-gaps/{mitre_id}/test", tag = "Metrics",
    params(("mitre_id" = String, Path, description = "ATT&CK id", example = "T1082")), request_body = TestOfGap,
    extensions(("x-roles" = json!(["admin", "red_tech"]))),
    responses((status = 201, description = "Created", body = Test), (status = 404, response = NotFound)))]
async fn create_test_of_gap(
    State(gateway): State<Gateway>,
    caller: Caller,
    Name(mitre_id): Name,
    Json(body): Json<TestOfGap>,
) -> Result<Answer, Problem> {
    let ctx = caller.ctx();
    let request = GetObservedProcedureRequest { mitre_id: mitre_id.clone() };
    let observed = gateway.deps.observations.clone().get_observed_procedure(ctx.outgoing(request)).await?.into_inner();
    if observed.count == 0 {
        return Err(Failure::not_found("observation of technique", &mitre_id).into());
    }
    let seen = format!("Shown on decoys by {} attackers in {} events.", observed.attackers, observed.count);
    let request = CreateTestRequest {
        mitre_id: Some(mitre_id.to_ascii_uppercase()),
        name: body.name.unwrap_or_else(|| format!("Seen on decoys: {}", mitre_id.to_ascii_uppercase())),
        description: Some(body.description.unwrap_or(seen)),
        platform: body.platform,
        procedure_text: Some(observed.procedure).filter(|procedure| !procedure.is_empty()),
        ..CreateTestRequest::default()
    };
    created(gateway.deps.testing.clone().create_test(ctx.outgoing(request)).await?.into_inner().test)
}
