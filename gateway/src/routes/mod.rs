//! The routes, by subject. Each handler declares its operation of the OpenAPI document itself; what all of them can
//! answer is added in [`crate::openapi`].

pub mod api_keys;
pub mod audit;
pub mod auth;
pub mod campaigns;
pub mod compliance;
pub mod config;
pub mod d3fend;
pub mod data_sources;
pub mod deception;
pub mod detection_rules;
pub mod evidence;
pub mod health;
pub mod heatmap;
pub mod intel;
pub mod knowledge;
pub mod metrics;
pub mod notifications;
pub mod reports;
pub mod scheduler;
pub mod scores;
pub mod search;
pub mod snapshots;
pub mod system;
pub mod tactics;
pub mod techniques;
pub mod templates;
pub mod tests;
pub mod threat_actors;
pub mod uploads;
pub mod users;

pub use deception::{INGEST, MUTATE, REINIT};

use utoipa_axum::router::OpenApiRouter;

use crate::state::Gateway;

/// Where evidence is uploaded; a request here may take long.
pub const UPLOAD: &str = "/api/v1/tests/{id}/evidence";
/// Where stored evidence is read and hashed again; a request here may take long.
pub const VERIFY: &str = "/api/v1/evidence/{id}/verify";
/// Where a data source is synced; a request here may take long.
pub const SYNC: &str = "/api/v1/data-sources/{id}/sync";
/// Where ATT&CK is synced; a request here may take long.
pub const SYNC_MITRE: &str = "/api/v1/system/sync-mitre";
/// Where feeds are read; a request here may take long.
pub const SCAN: &str = "/api/v1/system/run-intel-scan";

/// Whether a route is one of the deception reference, which answers 422 where that of the purple team answers 400: for
/// what does not validate.
pub fn answers_422(route: &str) -> bool {
    matches!(route, "/api/v1/auth/login" | "/api/v1/auth/change-password" | "/api/v1/config")
        || route.starts_with("/api/v1/config/")
        || deception::answers_422(route)
}

/// Routes that need no token.
pub fn public() -> OpenApiRouter<Gateway> {
    OpenApiRouter::new().merge(auth::public()).merge(evidence::public()).merge(health::public())
}

/// Event streams, which stand behind [`crate::middleware::authenticate_stream`].
pub fn streams() -> OpenApiRouter<Gateway> {
    OpenApiRouter::new().merge(notifications::streams()).merge(deception::streams())
}

/// Routes that stand behind [`crate::middleware::authenticate`].
pub fn protected() -> OpenApiRouter<Gateway> {
    OpenApiRouter::new()
        .merge(auth::protected())
        .merge(users::protected())
        .merge(api_keys::protected())
        .merge(techniques::protected())
        .merge(tactics::protected())
        .merge(tests::protected())
        .merge(campaigns::protected())
        .merge(templates::protected())
        .merge(knowledge::protected())
        .merge(search::protected())
        .merge(threat_actors::protected())
        .merge(detection_rules::protected())
        .merge(d3fend::protected())
        .merge(compliance::protected())
        .merge(evidence::protected())
        .merge(metrics::protected())
        .merge(scores::protected())
        .merge(snapshots::protected())
        .merge(reports::protected())
        .merge(heatmap::protected())
        .merge(notifications::protected())
        .merge(audit::protected())
        .merge(data_sources::protected())
        .merge(system::protected())
        .merge(scheduler::protected())
        .merge(intel::protected())
        .merge(config::protected())
        .merge(deception::protected())
}
