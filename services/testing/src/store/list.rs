//! Lists of tests: filtered, newest first, with their exact number.
//!
//! Every combination of filters walks one index in the order of the list and finds all that it filters by in that
//! index; only the rows of the page itself are read. A total is the sum of a tally, or where there is none, the
//! length of a short walk: a campaign, a technique, the remediations that are open and due.

pub(super) mod filter;
#[cfg(test)]
mod tests;

use aegis_db::{Db, Result, Tx, on, read};
use chrono::{DateTime, Utc};
use sqlx::AssertSqlSafe;
use uuid::Uuid;

pub use filter::Filter;
use filter::{Arg, Span, Statement, bound};

use super::{
    page_of, tally,
    test::{Test, columns, text_bytes},
};

/// Pages that begin before this many rows are read from the start of their list.
const NEAR: i64 = 1000;

/// A page of a list.
pub struct Page {
    /// Newest first.
    pub tests: Vec<Test>,
    /// Whether there are tests after them.
    pub more: bool,
    /// Of the whole list.
    pub total: i64,
}

/// Tests, newest first, that come after `after`, without the first `skip`. The page and the total are of one moment.
pub async fn page(
    db: &Db,
    filter: &Filter,
    after: Option<(DateTime<Utc>, Uuid)>,
    skip: i64,
    limit: i64,
) -> Result<Page> {
    let mut tx = db.begin_read().await?;
    let page = page_in(&mut tx, filter, after, skip, limit).await?;
    tx.rollback().await?;
    Ok(page)
}

async fn page_in(
    tx: &mut Tx,
    filter: &Filter,
    after: Option<(DateTime<Utc>, Uuid)>,
    skip: i64,
    limit: i64,
) -> Result<Page> {
    if filter.contradicts_itself() {
        return Ok(Page { tests: Vec::new(), more: false, total: 0 });
    }
    let tallied = filter.walk().has_tally();
    if !tallied && after.is_none() && skip < NEAR {
        // Where the page ends the list, its number is known without a second walk.
        let (tests, more, total) = rows(tx, filter, &Span::from_the_start(skip, limit + 1), limit).await?;
        let seen = i64::try_from(tests.len()).unwrap_or(i64::MAX);
        let total = match total {
            Some(total) => total,
            None if more || (tests.is_empty() && skip > 0) => counted(tx, filter).await?,
            None => skip + seen,
        };
        return Ok(Page { tests, more, total });
    }
    let total = if tallied { tally::count(tx, filter).await? } else { counted(tx, filter).await? };
    let span = match after {
        Some(after) => Some(Span::after(after, skip, limit + 1)),
        None => Span::of(total, skip, limit + 1),
    };
    let (tests, more, _) = match span {
        Some(span) if total > 0 => rows(tx, filter, &span, limit).await?,
        _ => (Vec::new(), false, None),
    };
    Ok(Page { tests, more, total })
}

/// Tests in the order of their ids, after `after`; and whether there are more.
pub async fn export(db: &Db, after: Option<Uuid>, limit: i64) -> Result<(Vec<Test>, bool)> {
    const EXPORT: &str = concat!("SELECT ", columns!(), " FROM test WHERE id > $1 ORDER BY id LIMIT $2");
    let rows = usize::try_from(limit).unwrap_or(0);
    Ok(read!(db, |pool| {
        let found = sqlx::query_as::<_, Test>(EXPORT).bind(after.unwrap_or(Uuid::nil())).bind(limit + 1).fetch(pool);
        page_of(found, rows, text_bytes).await
    })?)
}

/// How many tests there are, by walking past them.
async fn counted(tx: &mut Tx, filter: &Filter) -> Result<i64> {
    let mut count = Statement::for_database_of(tx);
    count.push("SELECT COUNT(*)");
    count.walked(&filter.walk(), filter);
    let Statement { sql, args, .. } = count;
    Ok(on!(tx, |c| {
        let query = bound!(sqlx::query_scalar(AssertSqlSafe(sql)), args);
        query.fetch_one(c).await
    })?)
}

/// A row of a page, with the number of all where the walk has it.
#[derive(sqlx::FromRow)]
struct Listed {
    #[sqlx(flatten)]
    test: Test,
    listed_total: Option<i64>,
}

/// The rows of a part of the list, whether there are more, and their number if the walk has it.
async fn rows(tx: &mut Tx, filter: &Filter, span: &Span, limit: i64) -> Result<(Vec<Test>, bool, Option<i64>)> {
    let mut page = Statement::for_database_of(tx);
    // First the keys of the page, which are all in an index, then their rows.
    page.push(concat!("SELECT ", columns!(), ", listed_total FROM ("));
    page.keys(filter, span);
    page.push(") AS listed CROSS JOIN test WHERE id = listed_id");
    if !page.sqlite {
        // SQLite joins from left to right here, so it keeps the order, and rows need not be held to be sorted.
        page.push(" ORDER BY listed_at DESC, listed_id DESC");
    }
    let Statement { sql, args, .. } = page;
    let rows = usize::try_from(limit).unwrap_or(0);
    let (listed, more) = on!(tx, |c| {
        let query = bound!(sqlx::query_as::<_, Listed>(AssertSqlSafe(sql)), args);
        page_of(query.fetch(c), rows, |row| text_bytes(&row.test)).await
    })?;
    let total = listed.first().and_then(|row| row.listed_total);
    Ok((listed.into_iter().map(|row| row.test).collect(), more, total))
}
