//! How long it takes to detect and to mend, and how often it works.

use aegis_proto::analytics::v1::{
    self as proto, GetOperationalByTeamRequest, GetOperationalRequest, GetOperationalTrendRequest,
};
use axum::extract::State;
use chrono::{DateTime, Utc};
use http::Uri;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{
    answer::Answer,
    error::Problem,
    extract::{Caller, Query},
    state::Gateway,
    values::{Period, time, time_always},
};

/// Routes that need a token.
pub fn protected() -> OpenApiRouter<Gateway> {
    OpenApiRouter::new()
        .routes(routes!(get_operational))
        .routes(routes!(list_operational_trend))
        .routes(routes!(get_operational_by_team))
}

/// A figure over `n` tests. Where `n` is 0, all of it is null.
#[derive(Serialize, ToSchema)]
#[schema(example = json!({"value": 5400.0, "median": 1800.0, "p95": 21600.0, "n": 42, "unit": "seconds"}))]
pub struct Kpi {
    /// The mean; of a rate the rate. One decimal.
    value: Option<f64>,
    /// Null for a rate.
    median: Option<f64>,
    /// 95 of 100 are at most this. Null for a rate.
    p95: Option<f64>,
    /// Tests that it is over.
    n: i64,
    /// seconds | percent
    unit: String,
}

impl From<proto::Kpi> for Kpi {
    fn from(kpi: proto::Kpi) -> Kpi {
        Kpi { value: kpi.value, median: kpi.median, p95: kpi.p95, n: kpi.n, unit: kpi.unit }
    }
}

/// The figures, by name.
#[derive(Default, Serialize, ToSchema)]
#[schema(example = json!({
    "mttd": {"value": 5400.0, "median": 1800.0, "p95": 21600.0, "n": 42, "unit": "seconds"},
    "mttr": {"value": 172800.0, "median": 86400.0, "p95": 604800.0, "n": 12, "unit": "seconds"},
    "mttc": {"value": null, "median": null, "p95": null, "n": 0, "unit": "seconds"},
    "detection_efficacy": {"value": 61.9, "median": null, "p95": null, "n": 42, "unit": "percent"},
    "attack_success_rate": {"value": 38.1, "median": null, "p95": null, "n": 42, "unit": "percent"},
    "remediation_rate": {"value": 75.0, "median": null, "p95": null, "n": 16, "unit": "percent"},
    "red_cycle": {"value": 7200.0, "median": 3600.0, "p95": 28800.0, "n": 40, "unit": "seconds"},
    "blue_cycle": {"value": 9000.0, "median": 5400.0, "p95": 36000.0, "n": 40, "unit": "seconds"},
    "review_cycle": {"value": 3600.0, "median": 1800.0, "p95": 14400.0, "n": 40, "unit": "seconds"}
}))]
pub struct Kpis {
    /// Mean time to detect: from the execution to the detection, of validated tests that have both.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(required = false, nullable = false)]
    mttd: Option<Kpi>,
    /// Mean time to remediate: from the detection to the completed remediation, of validated tests that have both.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(required = false, nullable = false)]
    mttr: Option<Kpi>,
    /// Mean time to contain: from the detection to the containment, of validated tests that have both.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(required = false, nullable = false)]
    mttc: Option<Kpi>,
    /// Detected, of all validated tests with a result: those that were partially detected do not count as detected.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(required = false, nullable = false)]
    detection_efficacy: Option<Kpi>,
    /// Attacks that succeeded, of the validated tests that say so or not.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(required = false, nullable = false)]
    attack_success_rate: Option<Kpi>,
    /// Completed remediations, of all tests that have one and where there is something to remediate.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(required = false, nullable = false)]
    remediation_rate: Option<Kpi>,
    /// How long a test is with the red team.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(required = false, nullable = false)]
    red_cycle: Option<Kpi>,
    /// How long a test is with the blue team.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(required = false, nullable = false)]
    blue_cycle: Option<Kpi>,
    /// How long a test is in review.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(required = false, nullable = false)]
    review_cycle: Option<Kpi>,
}

impl FromIterator<proto::Kpi> for Kpis {
    fn from_iter<T: IntoIterator<Item = proto::Kpi>>(all: T) -> Kpis {
        let mut kpis = Kpis::default();
        for kpi in all {
            let place = match kpi.name.as_str() {
                "mttd" => &mut kpis.mttd,
                "mttr" => &mut kpis.mttr,
                "mttc" => &mut kpis.mttc,
                "detection_efficacy" => &mut kpis.detection_efficacy,
                "attack_success_rate" => &mut kpis.attack_success_rate,
                "remediation_rate" => &mut kpis.remediation_rate,
                "red_cycle" => &mut kpis.red_cycle,
                "blue_cycle" => &mut kpis.blue_cycle,
                "review_cycle" => &mut kpis.review_cycle,
                // Of a newer service.
                _ => continue,
            };
            *place = Some(kpi.into());
        }
        kpis
    }
}

/// The figures of one week.
#[derive(Serialize, ToSchema)]
#[schema(example = json!({
    "week": "2024-01-01T00:00:00Z", "validated": 12, "rejected": 1,
    "mttd": {"value": 5400.0, "median": 1800.0, "p95": 21600.0, "n": 12, "unit": "seconds"},
    "mttr": {"value": null, "median": null, "p95": null, "n": 0, "unit": "seconds"},
    "detection_efficacy": {"value": 58.3, "median": null, "p95": null, "n": 12, "unit": "percent"}
}))]
pub struct OperationalWeek {
    /// Its Monday, 00:00 UTC.
    week: DateTime<Utc>,
    /// Tests that were validated in it.
    validated: i64,
    /// Tests that were rejected in it.
    rejected: i64,
    #[serde(flatten)]
    kpis: Kpis,
}

/// The figures of one team.
#[derive(Default, Serialize, ToSchema)]
pub struct TeamOperational {
    /// Tests that it has handed on.
    completed: i64,
    /// Tests that wait for it.
    pending: i64,
    #[serde(flatten)]
    kpis: Kpis,
}

/// The figures of both teams.
#[derive(Default, Serialize, ToSchema)]
#[schema(example = json!({
    "red_team": {
        "completed": 147, "pending": 15,
        "attack_success_rate": {"value": 38.1, "median": null, "p95": null, "n": 42, "unit": "percent"},
        "red_cycle": {"value": 7200.0, "median": 3600.0, "p95": 28800.0, "n": 40, "unit": "seconds"}
    },
    "blue_team": {
        "completed": 146, "pending": 5,
        "mttd": {"value": 5400.0, "median": 1800.0, "p95": 21600.0, "n": 42, "unit": "seconds"},
        "detection_efficacy": {"value": 61.9, "median": null, "p95": null, "n": 42, "unit": "percent"},
        "blue_cycle": {"value": 9000.0, "median": 5400.0, "p95": 36000.0, "n": 40, "unit": "seconds"}
    }
}))]
pub struct OperationalByTeam {
    red_team: TeamOperational,
    blue_team: TeamOperational,
}

/// How far back.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct PastWeeks {
    /// `90d` if absent.
    #[param(inline)]
    period: Option<Period>,
}

/// Operational figures
///
/// Each figure with the mean (`value`), `median`, `p95` and the number of tests behind it: what is not known of a test is
/// not guessed, and with `n` 0 the figure is null. Detection, remediation, containment and success are of validated tests,
/// cycles and remediations of all. Durations are in seconds, rates in percent.
/// The figures are kept for a hundred times as long as they took to compute, five minutes at most; `X-As-Of` says when
/// that was.
#[utoipa::path(get, path = "/api/v1/metrics/operational", tag = "Metrics",
    responses((status = 200, description = "The figures; all nine are there", body = Kpis,
        headers(("X-As-Of" = String, description = "When the figures were computed")))))]
async fn get_operational(State(gateway): State<Gateway>, caller: Caller, uri: Uri) -> Result<Answer, Problem> {
    let load = async {
        let request = caller.ctx().outgoing(GetOperationalRequest {});
        let answer = gateway.deps.operational.clone().get_operational(request).await?.into_inner();
        Ok(Answer::json(&answer.kpis.into_iter().collect::<Kpis>())?.dated(time(answer.as_of)))
    };
    gateway.hot.answer(&caller, &uri, load).await
}

/// Operational figures by week
///
/// Oldest first, every week of the period is there, the present one so far; a test counts in the week in which it was
/// validated or rejected. A week without a figure has `n` 0 and null. Kept as `/metrics/operational` is.
#[utoipa::path(get, path = "/api/v1/metrics/operational/trend", tag = "Metrics", params(PastWeeks),
    responses((status = 200, description = "The weeks", body = [OperationalWeek],
        headers(("X-As-Of" = String, description = "When the figures were computed")))))]
async fn list_operational_trend(
    State(gateway): State<Gateway>,
    caller: Caller,
    uri: Uri,
    Query(query): Query<PastWeeks>,
) -> Result<Answer, Problem> {
    let load = async {
        let period = query.period.map(String::from).unwrap_or_default();
        let request = caller.ctx().outgoing(GetOperationalTrendRequest { period });
        let answer = gateway.deps.operational.clone().get_operational_trend(request).await?.into_inner();
        let weeks = answer.weeks.into_iter().map(|week| OperationalWeek {
            week: time_always(week.week),
            validated: week.validated,
            rejected: week.rejected,
            kpis: week.kpis.into_iter().collect(),
        });
        let weeks: Vec<OperationalWeek> = weeks.collect();
        Ok(Answer::list(&weeks, weeks.len() as i64)?.dated(time(answer.as_of)))
    };
    gateway.hot.answer(&caller, &uri, load).await
}

/// Operational figures by team
///
/// For each team the figures that are its own, the tests that it has handed on and those that wait for it. Kept as
/// `/metrics/operational` is.
#[utoipa::path(get, path = "/api/v1/metrics/operational/by-team", tag = "Metrics",
    responses((status = 200, description = "Both teams", body = OperationalByTeam,
        headers(("X-As-Of" = String, description = "When the figures were computed")))))]
async fn get_operational_by_team(State(gateway): State<Gateway>, caller: Caller, uri: Uri) -> Result<Answer, Problem> {
    let load = async {
        let request = caller.ctx().outgoing(GetOperationalByTeamRequest {});
        let answer = gateway.deps.operational.clone().get_operational_by_team(request).await?.into_inner();
        let mut teams = OperationalByTeam::default();
        for team in answer.teams {
            let figures = TeamOperational {
                completed: team.completed,
                pending: team.pending,
                kpis: team.kpis.into_iter().collect(),
            };
            match team.team.as_str() {
                "red" => teams.red_team = figures,
                "blue" => teams.blue_team = figures,
                _ => {}
            }
        }
        Ok(Answer::json(&teams)?.dated(time(answer.as_of)))
    };
    gateway.hot.answer(&caller, &uri, load).await
}
