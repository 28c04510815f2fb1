//! Searching everything at once.

use aegis_auth::OpCtx;
use aegis_db::page;
use aegis_error::Fields;

use super::{Catalog, Page};
use crate::{
    domain::search::{KINDS, MAX_TERM, Words},
    error::Error,
    store::search::{self, Hit},
};

/// Hits of a page when the caller does not say.
const PAGE: i64 = 20;
/// Hits of a page at most.
const MAX_PAGE: i64 = 100;

/// What is searched for.
#[derive(Clone, Debug, Default)]
pub(crate) struct Query {
    pub query: String,
    pub kinds: Vec<String>,
    pub page_size: i32,
    pub page_token: String,
    pub skip: i32,
}

/// A page of what has all the words, the best first; the bodies are excerpts.
pub(crate) async fn search(catalog: &Catalog, ctx: &OpCtx, query: Query) -> Result<Page<Hit>, Error> {
    ctx.user()?;
    let limit = page::size(query.page_size, PAGE, MAX_PAGE)?;
    let offset = page::offset(&query.page_token, query.skip)?;
    let mut fields = Fields::default();
    fields.text("query", query.query.trim(), 1, MAX_TERM);
    fields.check(query.kinds.len() <= KINDS.len(), "kinds", "names more kinds than there are");
    for kind in query.kinds.iter().take(KINDS.len()) {
        fields.one_of("kinds", kind, &KINDS);
    }
    fields.finish()?;
    let kinds: Vec<&str> = KINDS.into_iter().filter(|known| query.kinds.iter().any(|kind| kind == known)).collect();
    let Some(words) = Words::parse(&query.query) else {
        // Nothing but punctuation, which is not looked for.
        return Ok(Page { rows: Vec::new(), next_page_token: String::new(), total: 0 });
    };
    let (mut rows, total) = search::search(&catalog.db, &words, &kinds, limit, offset).await?;
    for hit in &mut rows {
        hit.body = hit.body.take().map(|body| words.excerpt(&body));
    }
    Ok(Page { next_page_token: page::next_offset(offset, rows.len(), total), rows, total })
}
