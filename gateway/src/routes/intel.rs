//! What is new in the world and matters here: items of KEV and of feeds, and the feeds.

use aegis_proto::intel::v1::{
    self as proto, CreateFeedRequest, DeleteFeedRequest, GetFeedRequest, GetItemRequest, ListFeedsRequest,
    ListItemsRequest, ReviewItemRequest, RunScanRequest, UpdateFeedRequest,
};
use axum::extract::State;
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{
    answer::Answer,
    error::Problem,
    extract::{Caller, Id, Json, Query, page},
    openapi::responses::{Conflict, NotFound},
    state::Gateway,
    values::{IntelKind, filled, set, time, time_always},
};

/// Routes that need a token.
pub fn protected() -> OpenApiRouter<Gateway> {
    OpenApiRouter::new()
        .routes(routes!(run_intel_scan))
        .routes(routes!(list_intel_items))
        .routes(routes!(get_intel_item, review_intel_item))
        .routes(routes!(list_feeds, create_feed))
        .routes(routes!(get_feed, update_feed, delete_feed))
}

/// What a scan found.
#[derive(Serialize, ToSchema)]
#[schema(example = json!({
    "message": "Intel scan completed", "new_items": 3, "matched": 1, "flagged": 1,
    "problems": [{"feed": "Vendor blog", "problem": "example.com answered 404"}]
}))]
pub struct ScanResult {
    message: &'static str,
    /// Items that were not known before.
    new_items: i64,
    /// Of these, those that match something here.
    matched: i64,
    /// Techniques that were flagged for review.
    flagged: i64,
    /// Feeds that could not be read.
    problems: Vec<FeedProblem>,
}

/// Why a feed could not be read.
#[derive(Serialize, ToSchema)]
#[schema(example = json!({"feed": "Vendor blog", "problem": "example.com answered 404"}))]
pub struct FeedProblem {
    feed: String,
    problem: String,
}

/// Something new in the world, and why it matters here.
#[derive(Serialize, ToSchema)]
#[schema(example = json!({
    "id": "0190b7a2-9000-7c3e-9d2a-3f6d1c0e8a06", "kind": "kev", "external_id": "CVE-2024-0001", "title": "A product",
    "summary": "What it is …", "url": null, "source": "CISA KEV", "published_at": "2024-01-01T00:00:00Z",
    "found_at": "2024-01-02T00:00:00Z", "reviewed": false, "reviewed_by": null, "reviewed_at": null,
    "matches": [{
        "kind": "technique", "key": "T1190", "name": "Exploit Public-Facing Application", "by": "cve_mapping",
        "text": "CVE-2024-0001"
    }]
}))]
pub struct IntelItem {
    #[schema(value_type = Uuid)]
    id: String,
    #[schema(value_type = IntelKind)]
    kind: String,
    /// Its name at the publisher: a CVE, a link.
    external_id: String,
    title: String,
    /// Plain text.
    summary: String,
    url: Option<String>,
    /// Name of the feed, or CISA KEV.
    source: String,
    published_at: Option<DateTime<Utc>>,
    found_at: DateTime<Utc>,
    matches: Vec<IntelMatch>,
    reviewed: bool,
    reviewed_by: Option<String>,
    reviewed_at: Option<DateTime<Utc>>,
}

/// Why an item matters here.
#[derive(Serialize, ToSchema)]
#[schema(example = json!({
    "kind": "technique", "key": "T1190", "name": "Exploit Public-Facing Application", "by": "cve_mapping",
    "text": "CVE-2024-0001"
}))]
pub struct IntelMatch {
    /// technique | threat_actor | software
    kind: String,
    key: String,
    name: String,
    /// id | name | alias | cve_mapping
    by: String,
    /// The words that matched.
    text: String,
}

impl From<proto::Item> for IntelItem {
    fn from(item: proto::Item) -> IntelItem {
        let matches = item.matches.into_iter().map(|m| IntelMatch {
            kind: m.kind,
            key: m.key,
            name: m.name,
            by: m.by,
            text: m.text,
        });
        IntelItem {
            id: item.id,
            kind: item.kind,
            external_id: item.external_id,
            title: item.title,
            summary: item.summary,
            url: item.url,
            source: item.source,
            published_at: time(item.published_at),
            found_at: time_always(item.found_at),
            matches: matches.collect(),
            reviewed: item.reviewed,
            reviewed_by: filled(item.reviewed_by),
            reviewed_at: time(item.reviewed_at),
        }
    }
}

/// A feed that the scan reads: RSS, Atom or JSON Feed.
#[derive(Serialize, ToSchema)]
#[schema(example = json!({
    "id": "0190b7a2-9000-7c3e-9d2a-3f6d1c0e8a07", "name": "Vendor blog", "url": "https://example.com/feed.xml",
    "enabled": true, "last_read_at": "2024-01-02T00:00:00Z", "last_error": null, "items": 20,
    "created_at": "2024-01-01T00:00:00Z", "updated_at": "2024-01-02T00:00:00Z"
}))]
pub struct Feed {
    #[schema(value_type = Uuid)]
    id: String,
    name: String,
    url: String,
    enabled: bool,
    last_read_at: Option<DateTime<Utc>>,
    last_error: Option<String>,
    /// How many items came from it.
    items: i64,
    created_at: DateTime<Utc>,
    updated_at: DateTime<Utc>,
}

impl From<proto::Feed> for Feed {
    fn from(feed: proto::Feed) -> Feed {
        Feed {
            id: feed.id,
            name: feed.name,
            url: feed.url,
            enabled: feed.enabled,
            last_read_at: time(feed.last_read_at),
            last_error: feed.last_error,
            items: feed.items,
            created_at: time_always(feed.created_at),
            updated_at: time_always(feed.updated_at),
        }
    }
}

/// Filters of items; all given ones must hold.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct ListIntelItems {
    #[param(inline)]
    kind: Option<IntelKind>,
    /// Of this feed.
    #[param(value_type = Option<Uuid>)]
    feed_id: Option<String>,
    /// A part of the title, the summary or the external id.
    #[param(example = "CVE-2024")]
    search: Option<String>,
    /// ATT&CK id of a technique that it matches.
    #[param(example = "T1190")]
    mitre_technique_id: Option<String>,
    reviewed: Option<bool>,
    /// Also items that match nothing here.
    #[param(default = false)]
    include_unmatched: Option<bool>,
    /// Rows at most.
    #[param(minimum = 1, maximum = 1000, default = 1000)]
    limit: Option<u32>,
    /// Rows to leave out before.
    #[param(minimum = 0, maximum = 2147483647, default = 0)]
    offset: Option<u32>,
}

/// Part of a list of feeds.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct ListFeeds {
    /// Rows at most.
    #[param(minimum = 1, maximum = 5000, default = 1000)]
    limit: Option<u32>,
    /// Rows to leave out before.
    #[param(minimum = 0, maximum = 2147483647, default = 0)]
    offset: Option<u32>,
}

/// Changes of an item.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"reviewed": true}))]
pub struct ItemChanges {
    /// Somebody has looked at it.
    reviewed: bool,
}

/// A feed to be read.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"name": "Vendor blog", "url": "https://example.com/feed.xml"}))]
pub struct NewFeed {
    name: String,
    /// https: or http:
    url: String,
}

/// Changes of a feed; what is absent is left alone.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"enabled": false}))]
pub struct FeedChanges {
    #[serde(default, deserialize_with = "set")]
    #[schema(value_type = String, required = false)]
    name: Option<String>,
    #[serde(default, deserialize_with = "set")]
    #[schema(value_type = String, required = false)]
    url: Option<String>,
    #[serde(default, deserialize_with = "set")]
    #[schema(value_type = bool, required = false)]
    enabled: Option<bool>,
}

/// Run an intel scan
///
/// Administrators only. Reads the feeds, looks at what is new there and in KEV, and flags the techniques that it names.
#[utoipa::path(post, path = "/api/v1/system/run-intel-scan", tag = "System",
    extensions(("x-roles" = json!(["admin"]))),
    responses((status = 200, description = "Scanned", body = ScanResult), (status = 409, response = Conflict)))]
async fn run_intel_scan(State(gateway): State<Gateway>, caller: Caller) -> Result<Answer, Problem> {
    let request = caller.ctx().outgoing(RunScanRequest { wait: true });
    let answer = gateway.deps.scan.clone().run_scan(request).await?.into_inner();
    let problems = answer.problems.into_iter().map(|p| FeedProblem { feed: p.feed, problem: p.problem });
    Answer::json(&ScanResult {
        message: "Intel scan completed",
        new_items: answer.new_items,
        matched: answer.matched,
        flagged: answer.flagged,
        problems: problems.collect(),
    })
}

/// List intel items
///
/// The newest first, each with why it matters here; `X-Total-Count` has the number of all that fit.
#[utoipa::path(get, path = "/api/v1/intel/items", tag = "Intel", params(ListIntelItems),
    responses((status = 200, description = "Items", body = [IntelItem])))]
async fn list_intel_items(
    State(gateway): State<Gateway>,
    caller: Caller,
    Query(query): Query<ListIntelItems>,
) -> Result<Answer, Problem> {
    let (page_size, skip) = page(query.limit, query.offset, 1000, 1000)?;
    let request = ListItemsRequest {
        page_size,
        page_token: String::new(),
        skip,
        kind: query.kind.map(String::from),
        feed_id: query.feed_id,
        search: query.search,
        mitre_technique_id: query.mitre_technique_id,
        reviewed: query.reviewed,
        include_unmatched: query.include_unmatched.unwrap_or(false),
    };
    let answer = gateway.deps.scan.clone().list_items(caller.ctx().outgoing(request)).await?.into_inner();
    Answer::list(&answer.items.into_iter().map(IntelItem::from).collect::<Vec<_>>(), answer.total_size)
}

/// Read an intel item
#[utoipa::path(get, path = "/api/v1/intel/items/{id}", tag = "Intel",
    params(("id" = Uuid, Path, description = "Item")),
    responses((status = 200, description = "The item", body = IntelItem), (status = 404, response = NotFound)))]
async fn get_intel_item(State(gateway): State<Gateway>, caller: Caller, id: Id) -> Result<Answer, Problem> {
    let request = caller.ctx().outgoing(GetItemRequest { id: id.to_string() });
    let item = gateway.deps.scan.clone().get_item(request).await?.into_inner().item.ok_or_else(Problem::empty)?;
    Answer::entity(item.version, &IntelItem::from(item))
}

/// Mark an intel item as reviewed
///
/// Or as not. Leads and administrators.
#[utoipa::path(patch, path = "/api/v1/intel/items/{id}", tag = "Intel", request_body = ItemChanges,
    params(("id" = Uuid, Path, description = "Item")),
    extensions(("x-roles" = json!(["admin", "red_lead", "blue_lead"]))),
    responses(
        (status = 200, description = "Changed", body = IntelItem),
        (status = 404, response = NotFound),
        (status = 409, response = Conflict),
    ))]
async fn review_intel_item(
    State(gateway): State<Gateway>,
    caller: Caller,
    id: Id,
    Json(body): Json<ItemChanges>,
) -> Result<Answer, Problem> {
    let request = ReviewItemRequest { id: id.to_string(), reviewed: body.reviewed };
    let answer = gateway.deps.scan.clone().review_item(caller.ctx().outgoing(request)).await?.into_inner();
    let item = answer.item.ok_or_else(Problem::empty)?;
    Answer::entity(item.version, &IntelItem::from(item))
}

/// List feeds
///
/// Administrators only.
#[utoipa::path(get, path = "/api/v1/intel/feeds", tag = "Intel", params(ListFeeds),
    extensions(("x-roles" = json!(["admin"]))),
    responses((status = 200, description = "Feeds", body = [Feed])))]
async fn list_feeds(
    State(gateway): State<Gateway>,
    caller: Caller,
    Query(query): Query<ListFeeds>,
) -> Result<Answer, Problem> {
    let (limit, offset) = page(query.limit, query.offset, 1000, 5000)?;
    let request = caller.ctx().outgoing(ListFeedsRequest { page_size: 1000, page_token: String::new() });
    let answer = gateway.deps.scan.clone().list_feeds(request).await?.into_inner();
    let feeds = answer.feeds.into_iter().skip(offset as usize).take(limit as usize);
    Answer::list(&feeds.map(Feed::from).collect::<Vec<_>>(), answer.total_size)
}

/// Add a feed
///
/// Administrators only. The next scan reads it.
#[utoipa::path(post, path = "/api/v1/intel/feeds", tag = "Intel", request_body = NewFeed,
    extensions(("x-roles" = json!(["admin"]))),
    responses((status = 201, description = "Added", body = Feed), (status = 409, response = Conflict)))]
async fn create_feed(
    State(gateway): State<Gateway>,
    caller: Caller,
    Json(body): Json<NewFeed>,
) -> Result<Answer, Problem> {
    let request = CreateFeedRequest { name: body.name, url: body.url };
    let answer = gateway.deps.scan.clone().create_feed(caller.ctx().outgoing(request)).await?.into_inner();
    let feed = answer.feed.ok_or_else(Problem::empty)?;
    let (version, location) = (feed.version, format!("/api/v1/intel/feeds/{}", feed.id));
    Ok(Answer::created(&location, &Feed::from(feed))?.versioned(version))
}

/// Read a feed
///
/// Administrators only.
#[utoipa::path(get, path = "/api/v1/intel/feeds/{id}", tag = "Intel",
    params(("id" = Uuid, Path, description = "Feed")),
    extensions(("x-roles" = json!(["admin"]))),
    responses((status = 200, description = "The feed", body = Feed), (status = 404, response = NotFound)))]
async fn get_feed(State(gateway): State<Gateway>, caller: Caller, id: Id) -> Result<Answer, Problem> {
    let request = caller.ctx().outgoing(GetFeedRequest { id: id.to_string() });
    let feed = gateway.deps.scan.clone().get_feed(request).await?.into_inner().feed.ok_or_else(Problem::empty)?;
    Answer::entity(feed.version, &Feed::from(feed))
}

/// Change a feed
///
/// Administrators only.
#[utoipa::path(patch, path = "/api/v1/intel/feeds/{id}", tag = "Intel", request_body = FeedChanges,
    params(("id" = Uuid, Path, description = "Feed")),
    extensions(("x-roles" = json!(["admin"]))),
    responses(
        (status = 200, description = "Changed", body = Feed),
        (status = 404, response = NotFound),
        (status = 409, response = Conflict),
    ))]
async fn update_feed(
    State(gateway): State<Gateway>,
    caller: Caller,
    id: Id,
    Json(body): Json<FeedChanges>,
) -> Result<Answer, Problem> {
    let request = UpdateFeedRequest { id: id.to_string(), name: body.name, url: body.url, enabled: body.enabled };
    let answer = gateway.deps.scan.clone().update_feed(caller.ctx().outgoing(request)).await?.into_inner();
    let feed = answer.feed.ok_or_else(Problem::empty)?;
    Answer::entity(feed.version, &Feed::from(feed))
}

/// Remove a feed
///
/// Administrators only. The items that came from it go with it.
#[utoipa::path(delete, path = "/api/v1/intel/feeds/{id}", tag = "Intel",
    params(("id" = Uuid, Path, description = "Feed")),
    extensions(("x-roles" = json!(["admin"]))),
    responses(
        (status = 204, description = "Removed"),
        (status = 404, response = NotFound),
        (status = 409, response = Conflict),
    ))]
async fn delete_feed(State(gateway): State<Gateway>, caller: Caller, id: Id) -> Result<Answer, Problem> {
    let request = caller.ctx().outgoing(DeleteFeedRequest { id: id.to_string() });
    gateway.deps.scan.clone().delete_feed(request).await?;
    Ok(Answer::nothing())
}
