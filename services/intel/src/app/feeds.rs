//! News feeds: listed, added, changed, taken away.

use aegis_auth::{OpCtx, Role};
use aegis_db::{now, page};
use aegis_error::{Code, Failure, Fields};
use aegis_events::Audit;
use serde_json::json;
use uuid::Uuid;

use super::{App, OPERATORS, scan::feed_limits};
use crate::{
    error::Error,
    fetch::{FetchLimits, Location},
    store::feed::{self, Feed},
};

/// Feeds that there may be: a scan reads them all.
pub(super) const MAX_FEEDS: i64 = 200;
/// Rows of a page at most; also the default.
const MAX_PAGE: i64 = 1000;
const MAX_NAME_CHARS: usize = 100;

/// A page of feeds.
pub(crate) struct FeedPage {
    pub feeds: Vec<Feed>,
    pub next_page_token: String,
    pub total: i64,
}

/// What is to be changed of a feed; what is absent stays.
#[derive(Debug, Default)]
pub(crate) struct FeedEdit {
    pub name: Option<String>,
    pub url: Option<String>,
    pub enabled: Option<bool>,
}

impl App {
    pub(crate) async fn list_feeds(&self, ctx: &OpCtx, page_size: i32, page_token: &str) -> Result<FeedPage, Error> {
        ctx.require(OPERATORS)?;
        let limit = page::size(page_size, MAX_PAGE, MAX_PAGE)?;
        let offset = page::offset(page_token, 0)?;
        let total = feed::count(self.db()).await?;
        let feeds = feed::list(self.db(), limit, offset).await?;
        Ok(FeedPage { next_page_token: page::next_offset(offset, feeds.len(), total), feeds, total })
    }

    pub(crate) async fn get_feed(&self, ctx: &OpCtx, id: &str) -> Result<Feed, Error> {
        ctx.require(OPERATORS)?;
        let id = parse_id("id", id)?;
        feed::get(self.db(), id).await?.ok_or_else(|| unknown(id))
    }

    pub(crate) async fn create_feed(&self, ctx: &OpCtx, name: String, url: String) -> Result<Feed, Error> {
        ctx.require(&[Role::Admin])?;
        let edit = checked(FeedEdit { name: Some(name), url: Some(url), enabled: None }, &self.0.limits)?;
        let at = now();
        let feed = Feed {
            id: Uuid::now_v7(),
            name: edit.name.unwrap_or_default(),
            url: edit.url.unwrap_or_default(),
            enabled: true,
            last_read_at: None,
            last_error: None,
            etag: None,
            version: 1,
            created_at: at,
            updated_at: at,
            items: 0,
        };
        let mut tx = self.db().begin().await?;
        if feed::count_in(&mut tx).await? >= MAX_FEEDS {
            let text = format!("there are {MAX_FEEDS} feeds already: delete one first");
            return Err(Failure::new(Code::InvalidState, text).into());
        }
        if !feed::insert(&mut tx, &feed).await? {
            return Err(taken(&feed.name));
        }
        let audit = Audit {
            action: "create_feed",
            entity_type: "feed",
            entity_id: feed.id.to_string(),
            details: json!({ "after": shown(&feed) }),
        };
        self.outbox().audit(&mut tx, ctx, audit).await?;
        tx.commit().await?;
        Ok(feed)
    }

    pub(crate) async fn update_feed(&self, ctx: &OpCtx, id: &str, edit: FeedEdit) -> Result<Feed, Error> {
        ctx.require(&[Role::Admin])?;
        let id = parse_id("id", id)?;
        let edit = checked(edit, &self.0.limits)?;
        let mut tx = self.db().begin().await?;
        let before = feed::lock(&mut tx, id).await?.ok_or_else(|| unknown(id))?;
        ctx.expect_version(before.version)?;
        let mut after = before.clone();
        after.name = edit.name.unwrap_or(after.name);
        after.url = edit.url.unwrap_or(after.url);
        after.enabled = edit.enabled.unwrap_or(after.enabled);
        if shown(&before) == shown(&after) {
            return Ok(before);
        }
        if after.url != before.url {
            after.etag = None;
            after.last_error = None;
        }
        after.updated_at = now();
        match feed::update(&mut tx, &after).await {
            Ok(true) => {}
            Ok(false) => return Err(Error::Raced),
            Err(error) if error.is_unique_violation() => return Err(taken(&after.name)),
            Err(error) => return Err(error.into()),
        }
        after.version += 1;
        let audit = Audit {
            action: "update_feed",
            entity_type: "feed",
            entity_id: id.to_string(),
            details: json!({ "before": shown(&before), "after": shown(&after) }),
        };
        self.outbox().audit(&mut tx, ctx, audit).await?;
        tx.commit().await?;
        Ok(after)
    }

    /// Deletes a feed with its items.
    pub(crate) async fn delete_feed(&self, ctx: &OpCtx, id: &str) -> Result<(), Error> {
        ctx.require(&[Role::Admin])?;
        let id = parse_id("id", id)?;
        let mut tx = self.db().begin().await?;
        let before = feed::lock(&mut tx, id).await?.ok_or_else(|| unknown(id))?;
        ctx.expect_version(before.version)?;
        feed::delete(&mut tx, id).await?;
        let audit = Audit {
            action: "delete_feed",
            entity_type: "feed",
            entity_id: id.to_string(),
            details: json!({ "before": shown(&before), "items": before.items }),
        };
        self.outbox().audit(&mut tx, ctx, audit).await?;
        tx.commit().await?;
        Ok(())
    }
}

pub(super) fn parse_id(field: &str, text: &str) -> Result<Uuid, Failure> {
    Uuid::parse_str(text).map_err(|_| Failure::invalid(field, "must be a UUID"))
}

fn unknown(id: Uuid) -> Error {
    Failure::not_found("feed", id).into()
}

fn taken(name: &str) -> Error {
    Failure::new(Code::Duplicate, format!("there is a feed with the name '{name}' already")).into()
}

/// What an administrator can change.
fn shown(feed: &Feed) -> serde_json::Value {
    json!({ "name": feed.name, "url": feed.url, "enabled": feed.enabled })
}

/// The edit as it is to be stored, or everything that is wrong with it.
fn checked(mut edit: FeedEdit, product: &FetchLimits) -> Result<FeedEdit, Failure> {
    let mut fields = Fields::default();
    if let Some(name) = edit.name.as_mut() {
        *name = name.trim().to_owned();
        fields.text("name", name, 1, MAX_NAME_CHARS);
        fields.check(!name.chars().any(char::is_control), "name", "must not hold control characters");
    }
    if let Some(url) = edit.url.as_mut() {
        *url = url.trim().to_owned();
        match Location::parse(url).and_then(|location| location.check(&feed_limits(product)).map(|()| location)) {
            Ok(Location::Http(_)) => {}
            Ok(Location::File { .. }) => {
                fields.add("url", "must be the address of a feed: https://… or http://…");
            }
            Err(error) => {
                fields.add("url", error.public().replace("data source", "feed"));
            }
        }
    }
    fields.finish()?;
    Ok(edit)
}
