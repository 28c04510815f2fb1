//! The gRPC side of the intel scan: scans, items and feeds.

use aegis_auth::OpCtx;
use aegis_proto::intel::v1::{
    self as pb, CreateFeedRequest, CreateFeedResponse, DeleteFeedRequest, DeleteFeedResponse, GetFeedRequest,
    GetFeedResponse, GetItemRequest, GetItemResponse, ListFeedsRequest, ListFeedsResponse, ListItemsRequest,
    ListItemsResponse, ReviewItemRequest, ReviewItemResponse, RunScanRequest, RunScanResponse, UpdateFeedRequest,
    UpdateFeedResponse, scan_service_server::ScanService,
};
use tonic::{Request, Response, Status};

use crate::{
    app::{App, FeedEdit, ItemQuery, ItemView, ScanOutcome},
    error::Error,
    rpc_scheduler::timestamp,
    store::{feed::Feed, item::MatchRow},
};

/// The server of `ScanService`.
pub(crate) struct ScanRpc {
    app: App,
}

impl ScanRpc {
    pub(crate) fn new(app: App) -> Self {
        ScanRpc { app }
    }

    async fn answer<T>(&self, ctx: &OpCtx, method: &str, result: Result<T, Error>) -> Result<Response<T>, Status> {
        self.app.outbox().audited(self.app.db(), ctx, method, result).await.map(Response::new)
    }
}

#[tonic::async_trait]
impl ScanService for ScanRpc {
    async fn run_scan(&self, request: Request<RunScanRequest>) -> Result<Response<RunScanResponse>, Status> {
        let ctx = OpCtx::of(&request)?;
        let result = self.app.run_scan(&ctx, request.get_ref().wait).await;
        self.answer(&ctx, "RunScan", result.map(|outcome| scan(outcome.unwrap_or_default()))).await
    }

    async fn list_items(&self, request: Request<ListItemsRequest>) -> Result<Response<ListItemsResponse>, Status> {
        let ctx = OpCtx::of(&request)?;
        let request = request.into_inner();
        let query = ItemQuery {
            page_size: request.page_size,
            page_token: request.page_token,
            skip: request.skip,
            kind: request.kind,
            feed_id: request.feed_id,
            search: request.search,
            mitre_technique_id: request.mitre_technique_id,
            reviewed: request.reviewed,
            include_unmatched: request.include_unmatched,
        };
        let result = self.app.list_items(&ctx, query).await.map(|page| ListItemsResponse {
            items: page.items.into_iter().map(item).collect(),
            next_page_token: page.next_page_token,
            total_size: page.total,
        });
        self.answer(&ctx, "ListItems", result).await
    }

    async fn get_item(&self, request: Request<GetItemRequest>) -> Result<Response<GetItemResponse>, Status> {
        let ctx = OpCtx::of(&request)?;
        let result = self.app.get_item(&ctx, &request.get_ref().id).await;
        self.answer(&ctx, "GetItem", result.map(|view| GetItemResponse { item: Some(item(view)) })).await
    }

    async fn review_item(&self, request: Request<ReviewItemRequest>) -> Result<Response<ReviewItemResponse>, Status> {
        let ctx = OpCtx::of(&request)?;
        let request = request.into_inner();
        let result = self.app.review_item(&ctx, &request.id, request.reviewed).await;
        self.answer(&ctx, "ReviewItem", result.map(|view| ReviewItemResponse { item: Some(item(view)) })).await
    }

    async fn list_feeds(&self, request: Request<ListFeedsRequest>) -> Result<Response<ListFeedsResponse>, Status> {
        let ctx = OpCtx::of(&request)?;
        let request = request.into_inner();
        let result =
            self.app.list_feeds(&ctx, request.page_size, &request.page_token).await.map(|page| ListFeedsResponse {
                feeds: page.feeds.into_iter().map(feed).collect(),
                next_page_token: page.next_page_token,
                total_size: page.total,
            });
        self.answer(&ctx, "ListFeeds", result).await
    }

    async fn get_feed(&self, request: Request<GetFeedRequest>) -> Result<Response<GetFeedResponse>, Status> {
        let ctx = OpCtx::of(&request)?;
        let result = self.app.get_feed(&ctx, &request.get_ref().id).await;
        self.answer(&ctx, "GetFeed", result.map(|found| GetFeedResponse { feed: Some(feed(found)) })).await
    }

    async fn create_feed(&self, request: Request<CreateFeedRequest>) -> Result<Response<CreateFeedResponse>, Status> {
        let ctx = OpCtx::of(&request)?;
        let request = request.into_inner();
        let result = self.app.create_feed(&ctx, request.name, request.url).await;
        self.answer(&ctx, "CreateFeed", result.map(|new| CreateFeedResponse { feed: Some(feed(new)) })).await
    }

    async fn update_feed(&self, request: Request<UpdateFeedRequest>) -> Result<Response<UpdateFeedResponse>, Status> {
        let ctx = OpCtx::of(&request)?;
        let request = request.into_inner();
        let edit = FeedEdit { name: request.name, url: request.url, enabled: request.enabled };
        let result = self.app.update_feed(&ctx, &request.id, edit).await;
        self.answer(&ctx, "UpdateFeed", result.map(|after| UpdateFeedResponse { feed: Some(feed(after)) })).await
    }

    async fn delete_feed(&self, request: Request<DeleteFeedRequest>) -> Result<Response<DeleteFeedResponse>, Status> {
        let ctx = OpCtx::of(&request)?;
        let result = self.app.delete_feed(&ctx, &request.get_ref().id).await;
        self.answer(&ctx, "DeleteFeed", result.map(|()| DeleteFeedResponse {})).await
    }
}

fn scan(outcome: ScanOutcome) -> RunScanResponse {
    let problem = |(feed, problem)| pb::FeedProblem { feed, problem };
    RunScanResponse {
        new_items: outcome.new_items,
        matched: outcome.matched,
        flagged: outcome.flagged,
        problems: outcome.problems.into_iter().map(problem).collect(),
    }
}

fn item(view: ItemView) -> pb::Item {
    let ItemView { item, matches } = view;
    pb::Item {
        id: item.id.to_string(),
        kind: item.kind,
        external_id: item.external_id,
        title: item.title,
        summary: item.summary,
        url: item.url,
        published_at: item.published_at.and_then(timestamp),
        found_at: timestamp(item.found_at),
        source: item.source,
        matches: matches.into_iter().map(found).collect(),
        reviewed: item.reviewed,
        reviewed_by: item.reviewed_by,
        reviewed_at: item.reviewed_at.and_then(timestamp),
        version: item.version,
    }
}

fn found(row: MatchRow) -> pb::Match {
    pb::Match { kind: row.kind, key: row.key, name: row.name, by: row.matched_by, text: row.text }
}

fn feed(feed: Feed) -> pb::Feed {
    pb::Feed {
        id: feed.id.to_string(),
        name: feed.name,
        url: feed.url,
        enabled: feed.enabled,
        last_read_at: feed.last_read_at.and_then(timestamp),
        last_error: feed.last_error,
        items: feed.items,
        created_at: timestamp(feed.created_at),
        updated_at: timestamp(feed.updated_at),
        version: feed.version,
    }
}
