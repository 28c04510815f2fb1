//! The pages that show the OpenAPI document. Everything they need comes from this binary.

use std::sync::LazyLock;

use axum::{Router, body::Body, response::Response, routing::get};
use bytes::Bytes;
use http::{
    HeaderValue,
    header::{CACHE_CONTROL, CONTENT_ENCODING, CONTENT_SECURITY_POLICY, CONTENT_TYPE},
};
use tower_http::set_header::SetResponseHeaderLayer;
use utoipa_swagger_ui::{Config, SwaggerUi};

use crate::{middleware::compression, openapi::openapi, state::Gateway};

static DOCUMENT: LazyLock<Bytes> = LazyLock::new(|| match serde_json::to_vec(&openapi()) {
    Ok(document) => document.into(),
    Err(error) => {
        tracing::error!(%error, "the OpenAPI document cannot be written");
        Bytes::from_static(b"{}")
    }
});

const REDOC_PAGE: &str = include_str!("../assets/redoc.html");
/// ReDoc 2.5.4, compressed; every browser takes it so.
const REDOC_SCRIPT: &[u8] = include_bytes!("../assets/redoc.standalone.js.gz");

/// Both pages style themselves inline and draw their icons from data; ReDoc searches in a worker it makes itself.
const PAGE_POLICY: HeaderValue = HeaderValue::from_static(
    "default-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; font-src 'self' data:; \
     worker-src 'self' blob:; object-src 'none'; base-uri 'none'; frame-ancestors 'none'",
);

/// `/docs`, `/redoc` and `/openapi.json`.
pub fn router() -> Router<Gateway> {
    // The top bar would load other documents, the validator is somebody else's server.
    let config = Config::new(["/openapi.json"])
        .use_base_layout()
        .validator_url("none")
        .deep_linking(true)
        .persist_authorization(true)
        .display_request_duration(true)
        .try_it_out_enabled(true);
    let swagger: Router<Gateway> = SwaggerUi::new("/docs").config(config).into();
    let pages = swagger
        .route("/redoc", get(|| async { page("text/html; charset=utf-8", REDOC_PAGE.as_bytes()) }))
        .route("/redoc/redoc.standalone.js", get(redoc_script))
        .layer(SetResponseHeaderLayer::if_not_present(CONTENT_SECURITY_POLICY, PAGE_POLICY))
        .layer(SetResponseHeaderLayer::if_not_present(CACHE_CONTROL, HeaderValue::from_static("no-cache")));
    let document = get(|| async { page("application/json", DOCUMENT.clone()) }).layer(compression());
    pages.route("/openapi.json", document)
}

fn page(kind: &'static str, body: impl Into<Body>) -> Response {
    let mut response = Response::new(body.into());
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    response
}

async fn redoc_script() -> Response {
    let mut response = page("text/javascript; charset=utf-8", REDOC_SCRIPT);
    let headers = response.headers_mut();
    headers.insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    // The page asks for it by its version.
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("public, max-age=31536000, immutable"));
    response
}
