//! The coverage report as a page for a board.

use aegis_proto::analytics::v1::{
    GetMatrixRequest, GetMatrixResponse, GetScoreHistoryRequest, GetScoreHistoryResponse, GetThreatActorScoreRequest,
    GetThreatActorScoreResponse, ScorePoint,
};
use aegis_render::{Actor, Point, Report};
use axum::{
    extract::State,
    response::{IntoResponse, Response},
};
use chrono::{DateTime, Utc};
use http::{
    HeaderValue,
    header::{CONTENT_DISPOSITION, CONTENT_SECURITY_POLICY, CONTENT_TYPE},
};
use serde::Deserialize;
use utoipa::IntoParams;
use uuid::Uuid;

use crate::{
    answer::Answer,
    error::Problem,
    extract::{Caller, Query},
    openapi::responses::NotFound,
    routes::heatmap::model,
    state::Gateway,
    values::{Domain, time},
};

/// How far the trend goes back.
const PERIOD: &str = "1y";
/// The page styles itself, and that is all it may do.
const POLICY: HeaderValue = HeaderValue::from_static(
    "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
);

/// What the page is about; all filters that are given must hold.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct Page {
    /// Absent: enterprise.
    #[param(inline)]
    domain: Option<Domain>,
    /// Short name.
    #[param(example = "execution")]
    tactic: Option<String>,
    /// In whatever case.
    #[param(example = "windows")]
    platform: Option<String>,
    /// A snapshot: what became better and worse since.
    compare: Option<Uuid>,
    /// UUID or ATT&CK id: with a section on how this threat actor would fare.
    #[param(example = "G0016")]
    threat_actor_id: Option<String>,
}

/// The coverage report as a page
///
/// One page of HTML, to be read on a screen or printed on A4 in landscape: score, coverage, trend, tactics, the matrix, a
/// threat actor where one is named, the largest gaps, and how the figures come about. Its pictures are in it; nothing runs,
/// and nothing is loaded from elsewhere.
#[utoipa::path(get, path = "/api/v1/reports/coverage-html", tag = "Reports", params(Page),
    responses(
        (status = 200, description = "The page", body = String, content_type = "text/html",
            headers(("X-As-Of" = String, description = "When the figures were last brought up to date")),
            example = json!("<!DOCTYPE html><html lang=\"en\">…</html>")),
        (status = 404, response = NotFound),
    ))]
pub async fn get_coverage_page(
    State(gateway): State<Gateway>,
    caller: Caller,
    Query(query): Query<Page>,
) -> Result<Response, Problem> {
    let (matrix, history, actor) = tokio::try_join!(
        matrix(&gateway, &caller, &query),
        history(&gateway, &caller),
        actor(&gateway, &caller, &query)
    )?;
    let as_of = time(matrix.as_of);
    let day = as_of.unwrap_or_else(Utc::now).format("%Y-%m-%d");
    let file = format!("inline; filename=\"aegis-coverage-{day}.html\"");
    let report = report(matrix, history, actor, &query);
    let page = tokio::task::spawn_blocking(move || aegis_render::html(&report)).await.map_err(Problem::internal)?;
    let page = Answer::text(page).with(CONTENT_TYPE, "text/html; charset=utf-8").with(CONTENT_DISPOSITION, &file);
    let mut response = page.dated(as_of).into_response();
    response.headers_mut().insert(CONTENT_SECURITY_POLICY, POLICY);
    Ok(response)
}

async fn matrix(gateway: &Gateway, caller: &Caller, query: &Page) -> Result<GetMatrixResponse, Problem> {
    let request = GetMatrixRequest {
        domain: query.domain.unwrap_or(Domain::Enterprise).into(),
        threat_actor_id: None,
        platform: query.platform.as_ref().map(|platform| platform.to_lowercase()),
        tactic: query.tactic.clone(),
        compare: query.compare.map(|id| id.to_string()),
    };
    Ok(gateway.deps.analytics.clone().get_matrix(caller.ctx().outgoing(request)).await?.into_inner())
}

async fn history(gateway: &Gateway, caller: &Caller) -> Result<GetScoreHistoryResponse, Problem> {
    let request = GetScoreHistoryRequest { period: PERIOD.to_owned() };
    Ok(gateway.deps.scores.clone().get_score_history(caller.ctx().outgoing(request)).await?.into_inner())
}

async fn actor(
    gateway: &Gateway,
    caller: &Caller,
    query: &Page,
) -> Result<Option<GetThreatActorScoreResponse>, Problem> {
    let Some(id) = query.threat_actor_id.clone() else { return Ok(None) };
    let request = caller.ctx().outgoing(GetThreatActorScoreRequest { id });
    Ok(Some(gateway.deps.scores.clone().get_threat_actor_score(request).await?.into_inner()))
}

fn report(
    mut matrix: GetMatrixResponse,
    history: GetScoreHistoryResponse,
    actor: Option<GetThreatActorScoreResponse>,
    query: &Page,
) -> Report {
    let parts = model::parts(std::mem::take(&mut matrix.parts));
    let filters = [query.tactic.as_deref(), query.platform.as_deref()];
    Report {
        matrix: model::matrix(matrix, "ATT&CK coverage report", filters),
        filtered: query.tactic.is_some()
            || query.platform.is_some()
            || query.domain.is_some_and(|d| d != Domain::Enterprise),
        parts,
        history: history.points.into_iter().filter_map(point).collect(),
        history_of: "the whole organisation, by week; ◇ snapshot".to_owned(),
        actor: actor.map(told),
    }
}

fn point(point: ScorePoint) -> Option<Point> {
    let at: DateTime<Utc> = time(point.at)?;
    let snapshot = point.kind == "snapshot";
    Some(Point { at, score: point.score, coverage_percentage: point.coverage_percentage, snapshot })
}

fn told(actor: GetThreatActorScoreResponse) -> Actor {
    let (covered, partial, uncovered) = (actor.covered.len(), actor.partial.len(), actor.uncovered.len());
    let all = actor.covered.into_iter().chain(actor.partial).chain(actor.uncovered);
    Actor {
        name: actor.name,
        key: actor.key,
        score: actor.score,
        techniques: all.map(|technique| technique.mitre_id).collect(),
        covered,
        partial,
        uncovered,
    }
}
