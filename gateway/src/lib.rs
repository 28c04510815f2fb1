//! The REST interface: every route under `/api/v1`, its OpenAPI document and the pages that show it, over the gRPC
//! services.
//!
//! A handler reads the request, makes at most two calls and shapes the answer. Who may do what is decided by the
//! services; the gateway only makes sure that nobody gets further than a public route without a token that holds:
//! all other routes stand behind [`middleware::authenticate`], and their handlers take the `Caller` it leaves.

mod accept;
mod answer;
mod conditions;
mod cors;
mod error;
mod extract;
#[doc(hidden)]
pub mod fuzz;
mod headers;
mod hosts;
mod hot;
mod middleware;
mod openapi;
mod pages;
mod refusal;
mod routes;
mod sse;
mod state;
mod values;

pub use headers::guarded;
pub use openapi::{Route, openapi, routes};
pub use state::{Config, Deps};

use axum::{Router, middleware as layer};

/// All routes of the gateway. The server must give the peer's address (`into_make_service_with_connect_info`), or
/// the audit trail has none.
pub fn router(deps: Deps) -> Router {
    sse::declare();
    let gateway = state::Gateway::new(deps);
    let (public, _) = routes::public().split_for_parts();
    let (protected, _) = routes::protected().split_for_parts();
    // Per route, so that an unknown path is 404 also without a token; the fallback below does it for methods.
    let protected = protected.route_layer(layer::from_fn_with_state(gateway.clone(), middleware::authenticate));
    let (streams, _) = routes::streams().split_for_parts();
    let streams = streams.route_layer(layer::from_fn_with_state(gateway.clone(), middleware::authenticate_stream));
    let edge = layer::from_fn_with_state(gateway.clone(), middleware::edge);
    let router = Router::new()
        .merge(public)
        .merge(protected)
        .merge(streams)
        .merge(pages::router())
        .fallback(error::unknown_route)
        .method_not_allowed_fallback(error::wrong_method);
    let router = match cors::layer(&gateway.deps.config.cors_origins) {
        Some(cors) => router.layer(cors),
        None => router,
    };
    router.layer(edge).layer(aegis_telemetry::CallMetricsLayer::http(middleware::route_label)).with_state(gateway)
}
