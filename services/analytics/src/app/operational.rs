//! Key figures of how the work goes: over all tests, by week, by team. For everyone who is signed in.

use std::sync::Arc;

use aegis_auth::OpCtx;
use aegis_db::now;
use aegis_error::Failure;
use chrono::{DateTime, TimeDelta, Utc};

use super::{
    App,
    kept::{Figure, Kept},
};
use crate::{
    domain::{
        kpi::{Operational, Week, empty_week},
        results::Hours,
        test::{start_of_week, week_of},
    },
    error::Error,
    store::{self, reports::Remediations},
};

/// What teams handed on in so many days counts as lately.
const LATELY: TimeDelta = TimeDelta::days(30);
const YEAR: TimeDelta = TimeDelta::days(365);

/// Figures over all tests, kept for a while.
#[derive(Default)]
pub(crate) struct Figures {
    operational: Kept<Operational>,
    pub(super) hours: Kept<Hours>,
    pub(super) remediations: Kept<Vec<Remediations>>,
}

impl App {
    /// All key figures.
    pub(crate) async fn operational(&self, ctx: &OpCtx) -> Result<Arc<Figure<Operational>>, Error> {
        ctx.user()?;
        let figures = self.figures.operational.get(|| {
            let (db, now) = (self.db.clone(), now());
            async move { store::operational::operational(&db, week_of(now - YEAR), now - LATELY).await }
        });
        figures.await
    }

    /// Key figures by week, oldest first, a week without a decided test too; and of when they are.
    pub(crate) async fn operational_trend(
        &self,
        ctx: &OpCtx,
        period: &str,
    ) -> Result<(Vec<(DateTime<Utc>, Week)>, DateTime<Utc>), Error> {
        ctx.user()?;
        let span = match period {
            "30d" => TimeDelta::days(30),
            "" | "90d" => TimeDelta::days(90),
            "1y" => YEAR,
            _ => return Err(Failure::invalid("period", "must be one of 30d, 90d, 1y").into()),
        };
        let figure = self.operational(ctx).await?;
        let (first, last) = (week_of(figure.as_of - span), week_of(figure.as_of));
        let weeks = (first..=last).filter_map(|week| {
            let figures = figure.value.weeks.get(&week).cloned().unwrap_or_else(empty_week);
            Some((start_of_week(week)?, figures))
        });
        Ok((weeks.collect(), figure.as_of))
    }
}
