//! Coverage and the way of tests, for everyone who is signed in.

use std::sync::Arc;

use aegis_auth::OpCtx;
use chrono::{DateTime, Utc};

use super::App;
use crate::{cache::View, domain::pipeline::Pipeline, error::Error, store};

impl App {
    /// Counts over all active techniques, and by tactic.
    pub(crate) async fn coverage_now(&self, ctx: &OpCtx) -> Result<Arc<View>, Error> {
        ctx.user()?;
        self.coverage.view().await
    }

    /// How many tests are in which state, and when that was so.
    pub(crate) async fn pipeline(&self, ctx: &OpCtx) -> Result<(Pipeline, Option<DateTime<Utc>>), Error> {
        ctx.user()?;
        // Six rows: there is nothing to gain from keeping them in memory.
        Ok(store::pipeline::pipeline(&self.db).await?)
    }
}
