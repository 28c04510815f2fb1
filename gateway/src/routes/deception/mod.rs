//! The deception half: the fleet of decoys, what happens on it, who did it and what they left.

mod alerts;
mod artifacts;
mod attackers;
mod bounty;
mod deckies;
mod ingest;
mod live;
mod logs;
mod purge;
mod scanners;
mod sensors;
mod sessions;
mod stream;
mod techniques;

pub use live::Live;

use axum::extract::FromRequestParts;
use http::request::Parts;
use utoipa_axum::router::OpenApiRouter;

use crate::{error::Problem, extract::parameter, state::Gateway};

/// Where lines of other honeypots come in; a request here may take long.
pub const INGEST: &str = "/api/v1/ingest/{format}";
/// Where all logs are purged; a request here may take long.
pub const REINIT: &str = "/api/v1/config/reinit";
/// Where a decky changes its services: a move of it.
pub const MUTATE: &str = "/api/v1/deckies/{decky_name}/mutate";

/// What the routes here begin with that answer 422 for what does not validate. That of an artifact's bytes is not among
/// them: the reference has 400 for its names.
const ROOTS: &[&str] = &[
    "logs",
    "bounty",
    "stats",
    "stream",
    "deckies",
    "attackers",
    "ingest",
    "sensors",
    "archetypes",
    "tagging-rules",
    "alerts",
    "approved-scanners",
];

/// Whether a route is one of those here that answer 422.
pub fn answers_422(route: &str) -> bool {
    let rest = route.strip_prefix("/api/v1/").unwrap_or_default();
    ROOTS.contains(&rest.split('/').next().unwrap_or_default())
}

/// Routes that need a token.
pub fn protected() -> OpenApiRouter<Gateway> {
    OpenApiRouter::new()
        .merge(logs::protected())
        .merge(bounty::protected())
        .merge(deckies::protected())
        .merge(sensors::protected())
        .merge(attackers::protected())
        .merge(sessions::protected())
        .merge(techniques::protected())
        .merge(artifacts::protected())
        .merge(alerts::protected())
        .merge(scanners::protected())
        .merge(ingest::protected())
        .merge(purge::protected())
}

/// Event streams.
pub fn streams() -> OpenApiRouter<Gateway> {
    stream::streams()
}

/// The name of a decky in the path: `^[a-z0-9-]{1,64}$`, as the reference has it. No decky has one that is refused here.
#[derive(Clone, Debug)]
struct DeckyName(String);

impl<S: Send + Sync> FromRequestParts<S> for DeckyName {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let (name, value) = parameter(parts, state).await?;
        let good = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        if !(1..=64).contains(&value.len()) || !value.bytes().all(good) {
            return Err(Problem::invalid(name, "must be 1 to 64 of a-z, 0-9 and -"));
        }
        Ok(DeckyName(value))
    }
}

#[cfg(test)]
mod tests {
    use super::answers_422;

    #[test]
    fn the_first_part_of_the_path_decides() {
        for route in ["/api/v1/logs", "/api/v1/logs/histogram", "/api/v1/deckies/{decky_name}/mutate"] {
            assert!(answers_422(route), "{route}");
        }
        for route in ["/api/v1/artifacts/{decky}/{stored_as}", "/api/v1/logsx", "/logs", "", "/api/v1/tests"] {
            assert!(!answers_422(route), "{route}");
        }
    }
}
