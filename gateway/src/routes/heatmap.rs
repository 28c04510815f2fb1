//! The ATT&CK matrix in colours: as a layer of ATT&CK Navigator, and drawn.

mod layer;
pub mod model;

use aegis_proto::analytics::v1::{GetMatrixRequest, GetMatrixResponse};
use aegis_render::Metric;
use axum::{
    extract::State,
    response::{IntoResponse, Response},
};
use http::{
    HeaderMap, HeaderValue, Uri,
    header::{CONTENT_TYPE, VARY},
};
use serde::Deserialize;
use utoipa::IntoParams;
use utoipa_axum::{
    router::{OpenApiRouter, UtoipaMethodRouterExt},
    routes,
};
use uuid::Uuid;

use self::layer::Layer;
use crate::{
    accept::prefers,
    answer::Answer,
    error::Problem,
    extract::{Caller, Query},
    middleware::compression,
    openapi::responses::NotFound,
    state::Gateway,
    values::{Domain, HeatmapMetric, time},
};

const SVG: &str = "image/svg+xml";

/// Routes that need a token.
pub fn protected() -> OpenApiRouter<Gateway> {
    OpenApiRouter::new()
        .routes(routes!(get_heatmap).layer(compression()))
        .routes(routes!(get_heatmap_svg).layer(compression()))
}

/// What is shown; all filters that are given must hold.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct Heatmap {
    /// Absent: enterprise.
    #[param(inline)]
    domain: Option<Domain>,
    /// UUID or ATT&CK id: the techniques that it uses.
    #[param(example = "G0016")]
    threat_actor_id: Option<String>,
    /// In whatever case.
    #[param(example = "windows")]
    platform: Option<String>,
    /// Short name.
    #[param(example = "execution")]
    tactic: Option<String>,
    /// What the scores, and without `compare` the colours, stand for. Absent: status.
    #[param(inline)]
    metric: Option<HeatmapMetric>,
    /// A snapshot: colours stand for what became of each technique since.
    compare: Option<Uuid>,
}

impl Heatmap {
    fn metric(&self) -> Metric {
        match self.metric {
            None | Some(HeatmapMetric::Status) => Metric::Status,
            Some(HeatmapMetric::Score) => Metric::Score,
            Some(HeatmapMetric::DetectionRules) => Metric::DetectionRules,
            Some(HeatmapMetric::Observed) => Metric::Observed,
        }
    }

    /// What the colours stand for.
    fn coloured(&self) -> Metric {
        if self.compare.is_some() { Metric::Change } else { self.metric() }
    }

    async fn ask(&self, gateway: &Gateway, caller: &Caller) -> Result<GetMatrixResponse, Problem> {
        let request = GetMatrixRequest {
            domain: self.domain.unwrap_or(Domain::Enterprise).into(),
            threat_actor_id: self.threat_actor_id.clone(),
            platform: self.platform.as_ref().map(|platform| platform.to_lowercase()),
            tactic: self.tactic.clone(),
            compare: self.compare.map(|id| id.to_string()),
        };
        Ok(gateway.deps.analytics.clone().get_matrix(caller.ctx().outgoing(request)).await?.into_inner())
    }
}

/// The matrix as a Navigator layer, or drawn
///
/// A layer of format 4.5 that ATT&CK Navigator opens as it is: one row for each technique and tactic. With
/// `metric=status` a score is 100 (validated), 50 (partial), 25 (in progress) or 0 (not covered); with `metric=score` the
/// technique's score as a whole figure; a technique that was not evaluated has none. With `detection_rules` and
/// `observed` each has its count. With `compare` the colours, a comment and the metadata tell what became of each since
/// the snapshot. With `Accept: image/svg+xml` it is the picture of `/heatmap.svg`.
#[utoipa::path(get, path = "/api/v1/heatmap", tag = "Metrics", params(Heatmap),
    responses(
        (status = 200, description = "The layer, or the picture",
            content((Layer = "application/json"), (String = "image/svg+xml", example = json!("<svg …>…</svg>"))),
            headers(("X-As-Of" = String, description = "When the figures were last brought up to date"))),
        (status = 404, response = NotFound),
    ))]
async fn get_heatmap(
    State(gateway): State<Gateway>,
    caller: Caller,
    headers: HeaderMap,
    uri: Uri,
    Query(query): Query<Heatmap>,
) -> Result<Response, Problem> {
    let answer = if prefers(&headers, SVG, "application/json") {
        picture(&gateway, &caller, &query).await?
    } else {
        // Only the layer is remembered under this address.
        let load = async {
            let matrix = query.ask(&gateway, &caller).await?;
            let as_of = time(matrix.as_of);
            let platform = query.platform.as_deref();
            let layer = Layer::new(matrix, query.metric(), query.coloured(), platform);
            Ok(Answer::json(&layer)?.dated(as_of))
        };
        gateway.hot.answer(&caller, &uri, load).await?
    };
    let mut response = answer.into_response();
    response.headers_mut().append(VARY, HeaderValue::from_static("accept"));
    Ok(response)
}

/// The matrix, drawn
///
/// An SVG of the whole matrix with title and legend: tactics side by side, a long one in several columns, sub-techniques
/// under their parents. Each colour has a letter or a figure beside it. Nothing in it runs or is loaded from elsewhere.
#[utoipa::path(get, path = "/api/v1/heatmap.svg", tag = "Metrics", params(Heatmap),
    responses(
        (status = 200, description = "The picture", body = String, content_type = "image/svg+xml",
            headers(("X-As-Of" = String, description = "When the figures were last brought up to date")),
            example = json!("<svg …>…</svg>")),
        (status = 404, response = NotFound),
    ))]
async fn get_heatmap_svg(
    State(gateway): State<Gateway>,
    caller: Caller,
    uri: Uri,
    Query(query): Query<Heatmap>,
) -> Result<Answer, Problem> {
    gateway.hot.answer(&caller, &uri, picture(&gateway, &caller, &query)).await
}

async fn picture(gateway: &Gateway, caller: &Caller, query: &Heatmap) -> Result<Answer, Problem> {
    let matrix = query.ask(gateway, caller).await?;
    let as_of = time(matrix.as_of);
    let coloured = query.coloured();
    let filters = [query.tactic.as_deref(), query.platform.as_deref()];
    let matrix = model::matrix(matrix, &format!("ATT&CK coverage: {}", coloured.label().to_lowercase()), filters);
    let drawn = tokio::task::spawn_blocking(move || aegis_render::svg(&matrix, coloured)).await;
    Ok(Answer::text(drawn.map_err(Problem::internal)?).with(CONTENT_TYPE, SVG).dated(as_of))
}
