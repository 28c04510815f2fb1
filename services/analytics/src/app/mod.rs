//! The use cases: read coverage, scores, compliance and reports; keep and rebuild the projection.

pub(crate) mod compliance;
mod coverage;
pub(crate) mod kept;
pub(crate) mod observed;
mod operational;
mod pulls;
pub(crate) mod rebuild;
pub(crate) mod reports;
pub(crate) mod scores;
pub(crate) mod snapshots;

use std::sync::Arc;

use aegis_db::Db;
use aegis_events::Outbox;

use crate::{
    Config,
    cache::Coverage,
    domain::matrix::Matrix,
    error::Error,
    pull::{Owners, Pulls},
};

/// What the use cases stand on.
pub(crate) struct App {
    pub(crate) db: Db,
    pub(crate) outbox: Outbox,
    pub(crate) config: Config,
    /// Figures over all tests, kept for a while.
    pub(crate) figures: operational::Figures,
    coverage: Coverage,
    owners: Owners,
    pulls: Pulls,
}

impl App {
    pub(crate) fn new(db: Db, outbox: Outbox, owners: Owners, config: Config) -> Self {
        App {
            figures: operational::Figures::default(),
            coverage: Coverage::new(db.clone()),
            pulls: Pulls::default(),
            db,
            outbox,
            config,
            owners,
        }
    }

    pub(crate) fn coverage(&self) -> &Coverage {
        &self.coverage
    }

    pub(crate) fn pulls(&self) -> &Pulls {
        &self.pulls
    }

    /// All techniques with what their tests say and what is known of them, as of the last change of this process, or of
    /// another one 100 ms ago. From memory; for callers that were authorised.
    pub(crate) async fn matrix(&self) -> Result<Arc<Matrix>, Error> {
        Ok(Arc::clone(&self.coverage.view().await?.matrix))
    }
}
