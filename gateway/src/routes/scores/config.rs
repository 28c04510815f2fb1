//! The weights of the scores' parts. Administrators only.

use aegis_proto::analytics::v1::{
    self as proto, GetScoreConfigRequest, ListScoreConfigsRequest, UpdateScoreConfigRequest,
};
use axum::extract::State;
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{
    answer::Answer,
    error::Problem,
    extract::{Caller, Json, Query, page},
    openapi::responses::Conflict,
    state::Gateway,
    values::{filled, set, time},
};

/// Routes that need a token.
pub fn protected() -> OpenApiRouter<Gateway> {
    OpenApiRouter::new().routes(routes!(get_score_config, update_score_config)).routes(routes!(list_score_configs))
}

/// Percent; they sum to 100.
#[derive(Default, Serialize, ToSchema)]
#[schema(example = json!({
    "tests": 40.0, "detection_rules": 20.0, "d3fend": 15.0, "freshness": 15.0, "platform_diversity": 10.0
}))]
pub struct Weights {
    tests: f64,
    detection_rules: f64,
    d3fend: f64,
    freshness: f64,
    platform_diversity: f64,
}

impl From<proto::Weights> for Weights {
    fn from(weights: proto::Weights) -> Weights {
        Weights {
            tests: weights.tests,
            detection_rules: weights.detection_rules,
            d3fend: weights.d3fend,
            freshness: weights.freshness,
            platform_diversity: weights.platform_diversity,
        }
    }
}

/// The weights, and who has set them.
#[derive(Serialize, ToSchema)]
#[schema(example = json!({
    "tests": 40.0, "detection_rules": 20.0, "d3fend": 15.0, "freshness": 15.0, "platform_diversity": 10.0,
    "version": 1, "updated_by": null, "updated_at": null
}))]
pub struct ScoreConfig {
    #[serde(flatten)]
    weights: Weights,
    /// Increases by one with every change, from 1.
    version: i64,
    /// A username; null for the defaults.
    updated_by: Option<String>,
    /// Null for the defaults.
    updated_at: Option<DateTime<Utc>>,
}

impl From<proto::ScoreConfig> for ScoreConfig {
    fn from(config: proto::ScoreConfig) -> ScoreConfig {
        ScoreConfig {
            weights: config.weights.unwrap_or_default().into(),
            version: config.version,
            updated_by: filled(config.updated_by),
            updated_at: time(config.updated_at),
        }
    }
}

/// New weights; what is absent is left alone. All five must sum to 100 then.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"tests": 50, "detection_rules": 10}))]
pub struct ScoreConfigChanges {
    #[serde(default, deserialize_with = "set")]
    #[schema(value_type = f64, required = false, minimum = 0, maximum = 100)]
    tests: Option<f64>,
    #[serde(default, deserialize_with = "set")]
    #[schema(value_type = f64, required = false, minimum = 0, maximum = 100)]
    detection_rules: Option<f64>,
    #[serde(default, deserialize_with = "set")]
    #[schema(value_type = f64, required = false, minimum = 0, maximum = 100)]
    d3fend: Option<f64>,
    #[serde(default, deserialize_with = "set")]
    #[schema(value_type = f64, required = false, minimum = 0, maximum = 100)]
    freshness: Option<f64>,
    #[serde(default, deserialize_with = "set")]
    #[schema(value_type = f64, required = false, minimum = 0, maximum = 100)]
    platform_diversity: Option<f64>,
}

/// Part of the history of weights.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct ListScoreConfigs {
    /// Rows at most.
    #[param(minimum = 1, maximum = 100, default = 50)]
    limit: Option<u32>,
    /// Rows to leave out before.
    #[param(minimum = 0, maximum = 2147483647, default = 0)]
    offset: Option<u32>,
}

fn answer(config: Option<proto::ScoreConfig>) -> Result<Answer, Problem> {
    let config = config.ok_or_else(Problem::empty)?;
    Ok(Answer::entity(config.version, &ScoreConfig::from(config))?.dated(Some(Utc::now())))
}

/// Read the weights
///
/// Administrators only. Those of now.
#[utoipa::path(get, path = "/api/v1/scores/config", tag = "Scores", extensions(("x-roles" = json!(["admin"]))),
    responses((status = 200, description = "The weights", body = ScoreConfig,
        headers(("X-As-Of" = String, description = "When they were read")))))]
async fn get_score_config(State(gateway): State<Gateway>, caller: Caller) -> Result<Answer, Problem> {
    let request = caller.ctx().outgoing(GetScoreConfigRequest {});
    answer(gateway.deps.scores.clone().get_score_config(request).await?.into_inner().config)
}

/// Change the weights
///
/// Administrators only. All five must sum to 100 then, else 400. Every score follows at once; snapshots and points of the
/// history keep the weights of their time. `GET /scores/config/history` has all that were.
#[utoipa::path(patch, path = "/api/v1/scores/config", tag = "Scores", request_body = ScoreConfigChanges,
    extensions(("x-roles" = json!(["admin"]))),
    responses(
        (status = 200, description = "Changed", body = ScoreConfig,
            headers(("X-As-Of" = String, description = "When they were changed"))),
        (status = 409, response = Conflict),
    ))]
async fn update_score_config(
    State(gateway): State<Gateway>,
    caller: Caller,
    Json(body): Json<ScoreConfigChanges>,
) -> Result<Answer, Problem> {
    let request = UpdateScoreConfigRequest {
        tests: body.tests,
        detection_rules: body.detection_rules,
        d3fend: body.d3fend,
        freshness: body.freshness,
        platform_diversity: body.platform_diversity,
    };
    let request = caller.ctx().outgoing(request);
    answer(gateway.deps.scores.clone().update_score_config(request).await?.into_inner().config)
}

/// List the weights that were
///
/// Administrators only. Newest first, those of now among them; `X-Total-Count` has the number of all.
#[utoipa::path(get, path = "/api/v1/scores/config/history", tag = "Scores", params(ListScoreConfigs),
    extensions(("x-roles" = json!(["admin"]))),
    responses((status = 200, description = "The weights", body = [ScoreConfig],
        headers(("X-As-Of" = String, description = "When the list was read")))))]
async fn list_score_configs(
    State(gateway): State<Gateway>,
    caller: Caller,
    Query(query): Query<ListScoreConfigs>,
) -> Result<Answer, Problem> {
    let (page_size, skip) = page(query.limit, query.offset, 50, 100)?;
    let request = ListScoreConfigsRequest { page_size, skip, page_token: String::new() };
    let answer = gateway.deps.scores.clone().list_score_configs(caller.ctx().outgoing(request)).await?.into_inner();
    let configs: Vec<ScoreConfig> = answer.configs.into_iter().map(ScoreConfig::from).collect();
    Ok(Answer::list(&configs, answer.total_size)?.dated(Some(Utc::now())))
}
