//! Techniques that attackers show here and nobody has validated.

use aegis_auth::OpCtx;
use aegis_db::{now, page};
use chrono::{DateTime, Utc};

use super::App;
use crate::{
    domain::{
        matrix::MatrixTechnique,
        observed::{self, Observed},
        score::{Score, count, users},
    },
    error::Error,
};

/// Gaps of a page at most, and by default.
const MAX_GAPS: i64 = 1_000;
const GAPS: i64 = 100;

/// A technique that was seen on a decoy and is not validated.
pub(crate) struct Gap {
    pub(crate) technique: MatrixTechnique,
    pub(crate) score: f64,
    /// Threat actors that are known to use it.
    pub(crate) users: i64,
    pub(crate) observed: Observed,
    pub(crate) priority: f64,
}

/// Part of the list.
pub(crate) struct Gaps {
    pub(crate) rows: Vec<Gap>,
    pub(crate) next_page_token: String,
    pub(crate) total: i64,
    pub(crate) as_of: Option<DateTime<Utc>>,
}

impl App {
    /// The gaps, the most urgent first; for everyone who is signed in.
    pub(crate) async fn list_observed_gaps(
        &self,
        ctx: &OpCtx,
        page_size: i32,
        page_token: &str,
        skip: i32,
    ) -> Result<Gaps, Error> {
        ctx.user()?;
        let limit = page::size(page_size, GAPS, MAX_GAPS)?;
        let offset = page::offset(page_token, skip)?;
        let matrix = self.matrix().await?;
        let at = now();
        let gaps = observed::gaps(&matrix, at);
        let total = count(gaps.len());
        let place = |n: i64| usize::try_from(n).unwrap_or(usize::MAX);
        let rows: Vec<Gap> = gaps
            .into_iter()
            .skip(place(offset))
            .take(place(limit))
            .map(|gap| Gap {
                technique: gap.technique.clone(),
                score: Score::of(gap.technique, &matrix.knowledge, matrix.weights, at).value(),
                users: users(&matrix.knowledge, gap.technique),
                observed: gap.observed.clone(),
                priority: gap.priority,
            })
            .collect();
        let next_page_token = page::next_offset(offset, rows.len(), total);
        Ok(Gaps { rows, next_page_token, total, as_of: matrix.as_of })
    }
}
