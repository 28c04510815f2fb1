//! What is handed on: coverage, results of tests, remediations; as JSON, as CSV, as a page.

mod coverage;
mod csv;
mod html;
mod tests;

pub use tests::ReportedTest;

use utoipa_axum::{
    router::{OpenApiRouter, UtoipaMethodRouterExt},
    routes,
};

use crate::{middleware::compression, state::Gateway};

/// Routes that need a token.
pub fn protected() -> OpenApiRouter<Gateway> {
    OpenApiRouter::new()
        .merge(coverage::protected())
        .merge(tests::protected())
        .routes(routes!(html::get_coverage_page).layer(compression()))
}
