//! Reports over tests: what was tested with which result, what is being mended. For everyone who is signed in.

use std::sync::Arc;

use aegis_auth::OpCtx;
use aegis_db::{now, page};
use aegis_error::Fields;
use chrono::{DateTime, Datelike, Utc};
use futures::{StreamExt, TryStreamExt, stream, stream::BoxStream};

use super::{App, kept::Figure};
use crate::{
    domain::{
        csv,
        pipeline::State,
        results::{Breakdown, Filter, Hours, edges},
    },
    error::Error,
    store::{
        self,
        reports::{Key, List, Remediations, ReportRow},
    },
};

/// What a remediation can be.
pub(crate) const REMEDIATION_STATUSES: [&str; 4] = ["pending", "in_progress", "completed", "not_applicable"];

/// Rows of a page.
const PAGE: i64 = 100;
const MAX_PAGE: i64 = 1000;
/// Tests that were changed last.
const RECENT: i64 = 10;
const MAX_RECENT: i64 = 100;
/// From so many skipped rows on, the way to a page is by hours.
const FAR: i64 = 1000;
/// Bytes of a piece of an export.
const PIECE: usize = 64 << 10;

/// Which part of a list is wanted.
#[derive(Clone, Debug, Default)]
pub(crate) struct Part {
    pub(crate) page_size: i32,
    pub(crate) page_token: String,
    pub(crate) skip: i32,
}

/// A page of results, and how all that fit are divided.
#[derive(Debug)]
pub(crate) struct Results {
    pub(crate) breakdown: Breakdown,
    pub(crate) tests: Vec<ReportRow>,
    pub(crate) next_page_token: String,
    pub(crate) as_of: DateTime<Utc>,
}

/// A page of remediations, and how many there are.
#[derive(Debug)]
pub(crate) struct RemediationPage {
    pub(crate) total: i64,
    pub(crate) by_status: Vec<(&'static str, i64)>,
    pub(crate) overdue: i64,
    pub(crate) tests: Vec<ReportRow>,
    pub(crate) next_page_token: String,
    pub(crate) as_of: DateTime<Utc>,
}

/// Pieces of CSV, the first with the header.
pub(crate) type Pieces = BoxStream<'static, Result<Vec<u8>, Error>>;

impl App {
    /// The tests that were changed last, newest first, and of when that is.
    pub(crate) async fn recent_tests(
        &self,
        ctx: &OpCtx,
        page_size: i32,
    ) -> Result<(Vec<ReportRow>, Option<DateTime<Utc>>), Error> {
        ctx.user()?;
        let rows = page::size(page_size, RECENT, MAX_RECENT)?;
        let (tests, as_of) = tokio::try_join!(store::reports::recent(&self.db, rows), store::as_of(&self.db))?;
        Ok((tests, as_of))
    }

    /// A page of the tests that fit, and their numbers by state and by result.
    pub(crate) async fn test_results(&self, ctx: &OpCtx, filter: Filter, part: &Part) -> Result<Results, Error> {
        ctx.user()?;
        check(&filter)?;
        let rows = page::size(part.page_size, PAGE, MAX_PAGE)?;
        let skip = page::skip(part.skip)?;
        let after = page::key::<Key>(&part.page_token)?;
        let hours = self.hours().await?;
        let [first, last] = edges(&filter);
        let (first, last) = tokio::try_join!(self.between(first), self.between(last))?;
        let newest = last.of(filter.state).total();
        let mut breakdown = hours.value.within(&filter);
        breakdown.merge(&first.of(filter.state));
        breakdown.merge(&last.of(filter.state));
        let (to, skip) = match after {
            None if skip >= FAR => hours.value.place(&filter, newest, skip),
            _ => (filter.to, skip),
        };
        let list = List::Results(Filter { to, ..filter });
        let mut tests = store::reports::page(&self.db, &list, after.as_ref(), rows + 1, skip).await?;
        let next_page_token = next(&mut tests, rows, &list);
        Ok(Results { breakdown, tests, next_page_token, as_of: hours.as_of })
    }

    /// The tests that fit as CSV, and of when they are. What was found wrong with the request, or with the database at
    /// the start, is told before the first piece.
    pub(crate) async fn export_results(
        &self,
        ctx: &OpCtx,
        filter: Filter,
    ) -> Result<(Pieces, Option<DateTime<Utc>>), Error> {
        ctx.user()?;
        check(&filter)?;
        self.export(vec![List::Results(filter)]).await
    }

    /// A page of the tests with a remediation, or with one of this status; and how many have which.
    pub(crate) async fn remediation_status(
        &self,
        ctx: &OpCtx,
        status: Option<&str>,
        part: &Part,
    ) -> Result<RemediationPage, Error> {
        ctx.user()?;
        let status = status_of(status)?;
        let rows = page::size(part.page_size, PAGE, MAX_PAGE)?;
        let skip = page::skip(part.skip)?;
        let after = page::key::<Key>(&part.page_token)?;
        let figure = self
            .figures
            .remediations
            .get(|| {
                let db = self.db.clone();
                async move { store::reports::remediations(&db, now()).await }
            })
            .await?;
        let (tests, next_page_token) = self.remediation_page(status, rows, skip, after, &figure).await?;
        let count = |name: &str, n: fn(&Remediations) -> i64| {
            figure.value.iter().filter(|row| row.remediation_status == name).map(n).sum::<i64>()
        };
        let by_status: Vec<_> = REMEDIATION_STATUSES.into_iter().map(|name| (name, count(name, |row| row.n))).collect();
        Ok(RemediationPage {
            total: by_status.iter().filter(|(name, _)| status.is_none_or(|s| s == *name)).map(|(_, n)| n).sum(),
            by_status,
            overdue: count("pending", |row| row.passed) + count("in_progress", |row| row.passed),
            tests,
            next_page_token,
            as_of: figure.as_of,
        })
    }

    /// The tests with a remediation as CSV, and of when they are.
    pub(crate) async fn export_remediations(
        &self,
        ctx: &OpCtx,
        status: Option<&str>,
    ) -> Result<(Pieces, Option<DateTime<Utc>>), Error> {
        ctx.user()?;
        let status = status_of(status)?;
        self.export(vec![List::Dated(status), List::Undated(status)]).await
    }

    /// First those that are due once, then the others.
    async fn remediation_page(
        &self,
        status: Option<&'static str>,
        rows: i64,
        skip: i64,
        after: Option<Key>,
        figure: &Figure<Vec<Remediations>>,
    ) -> Result<(Vec<ReportRow>, String), Error> {
        let (dated, undated) = (List::Dated(status), List::Undated(status));
        let mut tests = Vec::new();
        let among_undated = after.is_some_and(|(due, ..)| due.is_none());
        let mut skip = skip;
        let mut after = after;
        if !among_undated {
            tests = store::reports::page(&self.db, &dated, after.as_ref(), rows + 1, skip).await?;
            if tests.len() as i64 > rows {
                let token = next(&mut tests, rows, &dated);
                return Ok((tests, token));
            }
            // Of those that were skipped, so many are not due.
            skip = match skip {
                0 => 0,
                _ if !tests.is_empty() => 0,
                _ if after.is_some() => skip,
                _ => {
                    let fit = figure.value.iter().filter(|row| status.is_none_or(|s| s == row.remediation_status));
                    (skip - fit.map(|row| row.dated).sum::<i64>()).max(0)
                }
            };
            after = None;
        }
        let room = rows - tests.len() as i64;
        let mut rest = store::reports::page(&self.db, &undated, after.as_ref(), room + 1, skip).await?;
        let token = match room {
            // The place after the last dated one.
            0 if !rest.is_empty() => {
                tests.last().and_then(|test| test.key(&dated)).map_or_else(String::new, |key| page::token(&key))
            }
            0 => String::new(),
            _ => next(&mut rest, room, &undated),
        };
        rest.truncate(usize::try_from(room).unwrap_or(0));
        tests.extend(rest);
        Ok((tests, token))
    }

    async fn hours(&self) -> Result<Arc<Figure<Hours>>, Error> {
        let hours = self.figures.hours.get(|| {
            let db = self.db.clone();
            async move { store::reports::hours(&db).await }
        });
        hours.await
    }

    /// What was made between two moments; nothing where there are none.
    async fn between(&self, edge: Option<(DateTime<Utc>, DateTime<Utc>)>) -> Result<Breakdown, Error> {
        match edge {
            Some((from, to)) => Ok(store::reports::between(&self.db, from, to).await?),
            None => Ok(Breakdown::default()),
        }
    }

    async fn export(&self, mut lists: Vec<List>) -> Result<(Pieces, Option<DateTime<Utc>>), Error> {
        let as_of = store::as_of(&self.db).await?;
        lists.reverse();
        let mut first = Vec::new();
        csv::header(&mut first);
        let db = self.db.clone();
        // A part at a time: nothing is held of the database while the reader takes its time.
        let mut parts = stream::try_unfold((lists, None), move |(mut lists, after)| {
            let db = db.clone();
            async move {
                let Some(list) = lists.last() else { return Ok::<_, Error>(None) };
                let mut part = Vec::new();
                let after = store::reports::export(&db, list, after.as_ref(), &mut part).await?;
                if after.is_none() {
                    lists.pop();
                }
                Ok(Some((part, (lists, after))))
            }
        })
        .boxed();
        if let Some(part) = parts.try_next().await? {
            first.extend_from_slice(&part);
        }
        let parts = stream::once(std::future::ready(Ok(first))).chain(parts);
        let pieces = parts.map_ok(|part| {
            let pieces: Vec<_> = part.chunks(PIECE).map(|piece| Ok(piece.to_vec())).collect();
            stream::iter(pieces)
        });
        Ok((pieces.try_flatten().boxed(), as_of))
    }
}

/// Leaves `rows` of a page that was read with one more, and answers the token of the next; empty after the last.
fn next(tests: &mut Vec<ReportRow>, rows: i64, list: &List) -> String {
    let rows = usize::try_from(rows).unwrap_or(usize::MAX);
    if tests.len() <= rows {
        return String::new();
    }
    tests.truncate(rows);
    tests.last().and_then(|test| test.key(list)).map_or_else(String::new, |key| page::token(&key))
}

fn check(filter: &Filter) -> Result<(), Error> {
    let mut fields = Fields::default();
    // What both databases and every client can write and put in order.
    let writable = |at: Option<DateTime<Utc>>| at.is_none_or(|at| (1..=9999).contains(&at.year()));
    fields.check(writable(filter.from), "date_from", "must be a time between the years 1 and 9999");
    fields.check(writable(filter.to), "date_to", "must be a time between the years 1 and 9999");
    if let (Some(from), Some(to)) = (filter.from, filter.to) {
        fields.check(from < to, "date_to", "must be after date_from");
    }
    Ok(fields.finish()?)
}

/// A state by its name, or what is wrong with it.
pub(crate) fn state_of(name: Option<&str>, fields: &mut Fields) -> Option<State> {
    let name = name?;
    let state = State::parse(name);
    fields.one_of("state", name, &State::ALL.map(State::as_str));
    state
}

fn status_of(name: Option<&str>) -> Result<Option<&'static str>, Error> {
    let Some(name) = name else { return Ok(None) };
    let mut fields = Fields::default();
    fields.one_of("status", name, &REMEDIATION_STATUSES);
    fields.finish()?;
    Ok(REMEDIATION_STATUSES.into_iter().find(|status| *status == name))
}

#[cfg(test)]
mod tests;
