//! What would raise the score most.

use aegis_error::Failure;
use aegis_proto::analytics::v1::GetScorePlanRequest;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{
    answer::Answer,
    error::Problem,
    extract::{Caller, Query},
    openapi::responses::NotFound,
    state::Gateway,
    values::{Domain, TechniqueStatus, filled, time},
};

/// Most tests of a plan.
const MAX_TESTS: u32 = 100;
/// Tests of a plan where the request does not say.
const TESTS: u32 = 10;

/// Routes that need a token.
pub fn protected() -> OpenApiRouter<Gateway> {
    OpenApiRouter::new().routes(routes!(get_score_plan))
}

/// The tests that raise the score most.
#[derive(Serialize, ToSchema)]
#[schema(example = json!({
    "threat_actor": "APT28", "score": 31.2, "score_after": 33.0, "gain": 1.8,
    "tests": [{
        "rank": 1, "technique_id": "0190b7a2-5f00-7c3e-9d2a-3f6d1c0e8a11", "mitre_id": "T1059.001",
        "name": "PowerShell", "status": "not_evaluated", "score": 20.0, "score_after": 85.0, "gain": 0.7143,
        "platform": "windows", "retest": false, "reason": "never tested; used by 71 threat actors"
    }]
}))]
pub struct ScorePlan {
    /// Whose score it is; null for the organisation's.
    threat_actor: Option<String>,
    /// Now; null where there is no technique.
    score: Option<f64>,
    /// After all of these tests, if each is run and detects.
    score_after: Option<f64>,
    /// The difference; null where there is no technique.
    gain: Option<f64>,
    /// The best first.
    tests: Vec<PlannedTest>,
}

/// A test to run.
#[derive(Serialize, ToSchema)]
pub struct PlannedTest {
    /// From 1.
    rank: i32,
    #[schema(value_type = Uuid)]
    technique_id: String,
    mitre_id: String,
    /// Of the technique.
    name: String,
    #[schema(value_type = TechniqueStatus)]
    status: String,
    /// Of the technique before this test.
    score: f64,
    /// Of the technique after it.
    score_after: f64,
    /// Points that the whole score gains by it, after the tests before it; four decimals.
    gain: f64,
    /// Where to run it; null where that does not matter.
    platform: Option<String>,
    /// Not a new test but a retest of one that was not or only partially detected.
    retest: bool,
    /// Why.
    reason: String,
}

/// For whom, and how many tests.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct PlanOf {
    /// UUID or ATT&CK id: its techniques and the score against it. The organisation's score if absent.
    #[param(example = "G0007")]
    threat_actor_id: Option<String>,
    /// Tests at most.
    #[param(minimum = 1, maximum = 100, default = 10)]
    tests: Option<u32>,
    /// All of them if absent.
    #[param(inline)]
    domain: Option<Domain>,
}

/// Plan the next tests
///
/// The tests that raise the score most if each is run and detects the attack, the best first, and by how much. It changes
/// nothing. Each test is reckoned on top of those before it; a technique may come again for another of its platforms.
#[utoipa::path(get, path = "/api/v1/scores/plan", tag = "Scores", params(PlanOf),
    responses(
        (status = 200, description = "The plan", body = ScorePlan,
            headers(("X-As-Of" = String, description = "When the figures were last brought up to date"))),
        (status = 404, response = NotFound),
    ))]
async fn get_score_plan(
    State(gateway): State<Gateway>,
    caller: Caller,
    Query(query): Query<PlanOf>,
) -> Result<Answer, Problem> {
    let tests = query.tests.unwrap_or(TESTS);
    if !(1..=MAX_TESTS).contains(&tests) {
        return Err(Failure::invalid("tests", format!("must be 1 to {MAX_TESTS}")).into());
    }
    let request = GetScorePlanRequest {
        threat_actor_id: query.threat_actor_id,
        tests: tests as i32,
        domain: query.domain.map(String::from).unwrap_or_default(),
    };
    let answer = gateway.deps.scores.clone().get_score_plan(caller.ctx().outgoing(request)).await?.into_inner();
    let tests = answer.tests.into_iter().map(|test| PlannedTest {
        rank: test.rank,
        technique_id: test.technique_id,
        mitre_id: test.mitre_id,
        name: test.name,
        status: test.status,
        score: test.score,
        score_after: test.score_after,
        gain: test.gain,
        platform: filled(test.platform),
        retest: test.retest,
        reason: test.reason,
    });
    let tests: Vec<PlannedTest> = tests.collect();
    let plan = ScorePlan {
        threat_actor: filled(answer.threat_actor_name),
        score: answer.score,
        score_after: answer.score_after,
        gain: answer.score.zip(answer.score_after).map(|(now, after)| ((after - now) * 10_000.0).round() / 10_000.0),
        tests,
    };
    Ok(Answer::json(&plan)?.dated(time(answer.as_of)))
}
