//! Reading: open to everyone who is signed in, but for the export.

use std::sync::Arc;

use aegis_auth::OpCtx;
use aegis_db::{Db, now, page};
use chrono::{DateTime, Utc};
use futures::{Stream, stream};
use uuid::Uuid;

use super::{
    App,
    input::{Checker, ListQuery},
    permitted,
};
use crate::{
    domain::{permissions::Operation, workflow::REMEDIATION_STATUSES},
    error::Error,
    store::{
        list::{self, Filter},
        test::{self, Test},
        timeline::{self, Entry},
    },
};

const DEFAULT_TESTS: i64 = 50;
const MAX_TESTS: i64 = 200;
const DEFAULT_ENTRIES: i64 = 200;
const MAX_ENTRIES: i64 = 1000;
const EXPORT_PAGE: i64 = 500;

/// The sort key in a page token.
type Key = (DateTime<Utc>, Uuid);

/// A page of tests.
pub struct TestPage {
    /// Newest first. Fewer than asked for where they would not fit into a message; then the token is not empty.
    pub tests: Vec<Test>,
    /// Empty after the last page.
    pub next_page_token: String,
    /// Of all pages.
    pub total_size: i64,
}

/// A page of a timeline.
pub struct TimelinePage {
    /// Oldest first.
    pub entries: Vec<Entry>,
    /// Empty after the last page.
    pub next_page_token: String,
    /// Of all pages.
    pub total_size: i64,
}

impl App {
    /// One test.
    pub async fn get_test(&self, ctx: &OpCtx, id: &str) -> Result<Test, Error> {
        ctx.user()?;
        let id = id_of("id", id)?;
        test::get(&self.db, id).await?.ok_or(Error::NoTest(id))
    }

    /// Tests, newest first.
    pub async fn list_tests(&self, ctx: &OpCtx, query: ListQuery) -> Result<Arc<TestPage>, Error> {
        ctx.user()?;
        let mut check = Checker::default();
        check.one_of("remediation_status", query.remediation_status.as_deref(), REMEDIATION_STATUSES);
        let filter = Filter {
            state: check.state("state", query.state),
            technique_id: check.id_of("technique_id", query.technique_id.as_deref()),
            platform: check.platform(query.platform),
            created_by: check.id_of("created_by", query.created_by.as_deref()),
            pending: check.side("pending_validation_side", query.pending_validation_side.as_deref()),
            assignee: check.id_of("assignee", query.assignee.as_deref()),
            incomplete: query.incomplete.unwrap_or_default(),
            campaign_id: check.id_of("campaign_id", query.campaign_id.as_deref()),
            remediation_status: query.remediation_status,
            overdue_at: query.overdue.unwrap_or_default().then(now),
        };
        check.finish()?;
        let size = page::size(query.page_size, DEFAULT_TESTS, MAX_TESTS)?;
        let skip = page::skip(query.skip)?;
        let after: Option<Key> = page::key(&query.page_token)?;
        let hot = match filter.technique_id {
            Some(technique)
                if after.is_none()
                    && skip == 0
                    && filter == (Filter { technique_id: Some(technique), ..Filter::default() }) =>
            {
                if let Some(page) = self.hot.get(technique, size) {
                    return Ok(page);
                }
                Some((technique, self.hot.moment()))
            }
            _ => None,
        };
        let list::Page { tests, more, total: total_size } = list::page(&self.db, &filter, after, skip, size).await?;
        let next_page_token = match tests.last() {
            Some(last) if more => page::token(&(last.created_at, last.id)),
            _ => String::new(),
        };
        let page = Arc::new(TestPage { tests, next_page_token, total_size });
        if let Some((technique, moment)) = hot {
            self.hot.put(technique, size, Arc::clone(&page), moment);
        }
        Ok(page)
    }

    /// What happened to a test, oldest first.
    pub async fn timeline(
        &self,
        ctx: &OpCtx,
        test_id: &str,
        page_size: i32,
        page_token: &str,
        skip: i32,
    ) -> Result<TimelinePage, Error> {
        ctx.user()?;
        let test_id = id_of("test_id", test_id)?;
        let size = page::size(page_size, DEFAULT_ENTRIES, MAX_ENTRIES)?;
        let skip = page::skip(skip)?;
        let after: Option<Key> = page::key(page_token)?;
        let (entries, more) = timeline::list(&self.db, test_id, after, skip, size).await?;
        // Every test has an entry of its making.
        let total_size = timeline::count(&self.db, test_id).await?;
        if total_size == 0 {
            return Err(Error::NoTest(test_id));
        }
        let next_page_token = match entries.last() {
            Some(last) if more => page::token(&(last.at, last.id)),
            _ => String::new(),
        };
        Ok(TimelinePage { entries, next_page_token, total_size })
    }

    /// All tests in the order of their ids, page by page.
    pub fn export(&self, ctx: &OpCtx) -> Result<impl Stream<Item = Result<Vec<Test>, Error>> + Send + use<>, Error> {
        permitted(ctx, Operation::Export)?;
        Ok(pages(self.db.clone()))
    }
}

fn pages(db: Db) -> impl Stream<Item = Result<Vec<Test>, Error>> + Send {
    stream::try_unfold((db, None, true), |(db, after, more)| async move {
        if !more {
            return Ok(None);
        }
        let (tests, more) = list::export(&db, after, EXPORT_PAGE).await?;
        let Some(last) = tests.last().map(|test| test.id) else {
            return Ok(None);
        };
        Ok(Some((tests, (db, Some(last), more))))
    })
}

/// The one id of a request.
pub(super) fn id_of(field: &str, text: &str) -> Result<Uuid, Error> {
    let mut check = Checker::default();
    let id = check.id(field, text);
    check.finish()?;
    Ok(id)
}
