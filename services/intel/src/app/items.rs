//! What the scans found: listed, and marked as read.

use std::collections::HashMap;

use aegis_auth::{OpCtx, Role};
use aegis_db::{now, page};
use aegis_error::{Failure, Fields};
use aegis_events::Audit;
use serde_json::json;
use uuid::Uuid;

use super::{
    App,
    feeds::parse_id,
    scan::{MAX_REASON_CHARS, cut},
};
use crate::{
    error::Error,
    store::item::{self, Filter, Item, MatchRow},
};

/// Items of a page at most, which is also the default: each may have a summary and a hundred matches.
const MAX_PAGE: i64 = 1000;
const MAX_SEARCH_CHARS: usize = 200;

/// An item with why it matters.
pub(crate) struct ItemView {
    pub item: Item,
    pub matches: Vec<MatchRow>,
}

/// A page of items.
pub(crate) struct ItemPage {
    pub items: Vec<ItemView>,
    pub next_page_token: String,
    pub total: i64,
}

/// Which items a request asks for.
#[derive(Debug, Default)]
pub(crate) struct ItemQuery {
    pub page_size: i32,
    pub page_token: String,
    pub skip: i32,
    pub kind: Option<String>,
    pub feed_id: Option<String>,
    pub search: Option<String>,
    pub mitre_technique_id: Option<String>,
    pub reviewed: Option<bool>,
    pub include_unmatched: bool,
}

impl App {
    /// Items, the newest first.
    pub(crate) async fn list_items(&self, ctx: &OpCtx, query: ItemQuery) -> Result<ItemPage, Error> {
        ctx.user()?;
        let mut fields = Fields::default();
        if let Some(kind) = &query.kind {
            fields.one_of("kind", kind, &[item::KEV, item::FEED]);
        }
        if let Some(search) = &query.search {
            fields.text("search", search, 1, MAX_SEARCH_CHARS);
        }
        if let Some(technique) = &query.mitre_technique_id {
            fields.text("mitre_technique_id", technique, 1, 20);
        }
        fields.finish()?;
        let filter = Filter {
            kind: query.kind,
            feed_id: query.feed_id.map(|id| parse_id("feed_id", &id)).transpose()?,
            search: query.search.map(|search| search.to_lowercase()),
            technique: query.mitre_technique_id.map(|id| id.to_uppercase()),
            reviewed: query.reviewed,
            unmatched_too: query.include_unmatched,
        };
        let limit = page::size(query.page_size, MAX_PAGE, MAX_PAGE)?;
        let offset = page::offset(&query.page_token, query.skip)?;
        let (items, total) = item::list(self.db(), &filter, limit, offset).await?;
        let next_page_token = page::next_offset(offset, items.len(), total);
        Ok(ItemPage { items: self.with_matches(items).await?, next_page_token, total })
    }

    pub(crate) async fn get_item(&self, ctx: &OpCtx, id: &str) -> Result<ItemView, Error> {
        ctx.user()?;
        let id = parse_id("id", id)?;
        let item = item::get(self.db(), id).await?.ok_or_else(|| Failure::not_found("intel item", id))?;
        self.with_its_matches(item).await
    }

    /// Marks an item as read, or as not read.
    pub(crate) async fn review_item(&self, ctx: &OpCtx, id: &str, reviewed: bool) -> Result<ItemView, Error> {
        let principal = ctx.require(&[Role::Admin, Role::RedLead, Role::BlueLead])?;
        let id = parse_id("id", id)?;
        let mut tx = self.db().begin().await?;
        let mut item = item::lock(&mut tx, id).await?.ok_or_else(|| Failure::not_found("intel item", id))?;
        ctx.expect_version(item.version)?;
        if item.reviewed != reviewed {
            item.reviewed = reviewed;
            item.reviewed_by = if reviewed { principal.username.clone() } else { String::new() };
            item.reviewed_at = reviewed.then(now);
            if !item::set_reviewed(&mut tx, &item).await? {
                return Err(Error::Raced);
            }
            item.version += 1;
            let audit = Audit {
                action: "review_intel_item",
                entity_type: "intel_item",
                entity_id: id.to_string(),
                details: json!({
                    "title": cut(&item.title, MAX_REASON_CHARS),
                    "before": { "reviewed": !reviewed }, "after": { "reviewed": reviewed },
                }),
            };
            self.outbox().audit(&mut tx, ctx, audit).await?;
            tx.commit().await?;
        } else {
            tx.rollback().await?;
        }
        self.with_its_matches(item).await
    }

    async fn with_its_matches(&self, item: Item) -> Result<ItemView, Error> {
        let id = item.id;
        let mut views = self.with_matches(vec![item]).await?;
        views.pop().ok_or_else(|| Failure::not_found("intel item", id).into())
    }

    async fn with_matches(&self, items: Vec<Item>) -> Result<Vec<ItemView>, Error> {
        let mut by_item: HashMap<Uuid, Vec<MatchRow>> = HashMap::new();
        for row in item::matches(self.db(), &items).await? {
            by_item.entry(row.item_id).or_default().push(row);
        }
        let view = |item: Item| ItemView { matches: by_item.remove(&item.id).unwrap_or_default(), item };
        Ok(items.into_iter().map(view).collect())
    }
}
