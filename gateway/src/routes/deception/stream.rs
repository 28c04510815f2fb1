//! What happens on decoys, as it happens.

use aegis_proto::deception::v1::{LogFilter, WatchLogsRequest};
use axum::{extract::State, response::Response};
use futures::{StreamExt, stream};
use http::HeaderMap;
use serde::Deserialize;
use utoipa::IntoParams;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{live, logs::filter};
use crate::{
    error::Problem,
    extract::{Caller, LongQuery},
    openapi::responses::{RateLimited, ServerEvent},
    sse::{self, End},
    state::Gateway,
    values::{Since, Until},
};

/// Messages after which a stream can be made to end, at most.
const MAX_OUTPUT: u32 = i32::MAX.unsigned_abs();

/// Event streams.
pub fn streams() -> OpenApiRouter<Gateway> {
    OpenApiRouter::new().routes(routes!(stream_logs))
}

/// What a stream tells, and where it goes on.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct WatchLogs {
    /// The id of the last event that was seen; the `Last-Event-ID` header comes before it. 0 is the same as none.
    #[serde(rename = "lastEventId")]
    #[param(rename = "lastEventId")]
    last_event_id: Option<String>,
    /// As for `/logs`.
    #[param(example = "service:ssh")]
    search: Option<String>,
    /// From this time on: RFC 3339, a time without a zone (UTC), or a day.
    #[param(value_type = Option<String>, example = "2024-01-01T00:00:00Z")]
    start_time: Option<Since>,
    /// Up to this time: RFC 3339, a time without a zone (UTC), or a day (to its end).
    #[param(value_type = Option<String>, example = "2024-01-31")]
    end_time: Option<Until>,
    /// In developer mode: end after as many messages.
    #[serde(rename = "maxOutput")]
    #[param(rename = "maxOutput", minimum = 1, maximum = 2147483647)]
    max_output: Option<u32>,
}

/// Stream events
///
/// Server-sent events of the one name `message`, each with `{"type", "data"}`: first `stats` (as `/stats`), `histogram`
/// (as `/logs/histogram`) and the latest 50 `logs` (rows of `/logs`, the newest last), then `logs` as they come, and
/// `stats` and `histogram` now and then. `search`, `start_time` and `end_time` choose as they do there.
///
/// The `id` is that of the newest event that was sent: a stream that is opened with it as `Last-Event-ID` or `lastEventId`
/// goes on with what came since, at most the newest 10,000. A comment every 15 seconds keeps the connection alive. The last event is `end` with
/// `{"code", "detail"}`: `UNAUTHENTICATED` when the bearer no longer holds, `SERVICE_UNAVAILABLE` when the service stops,
/// `SLOW_READER` for a client that reads more slowly than there is to read, `MAX_OUTPUT` after `maxOutput` messages.
///
/// For clients that cannot send headers, the query may have a ticket (`POST /api/v1/auth/stream-ticket`) or a token.
#[utoipa::path(get, path = "/api/v1/stream", tag = "Decoy events",
    params(
        WatchLogs,
        ("Last-Event-ID" = Option<String>, Header, description = "The id of the last event that was seen"),
        ("ticket" = Option<String>, Query, description = "A ticket for one stream, instead of the Authorization header"),
        ("token" = Option<String>, Query, description = "An access token or a ticket, instead of the Authorization header"),
    ),
    responses(
        (status = 200, description = "The stream", body = ServerEvent, content_type = "text/event-stream",
            example = json!("id: 1423\nevent: message\ndata: {\"type\":\"logs\",\"data\":[]}\n\n")),
        (status = 429, response = RateLimited),
    ))]
async fn stream_logs(
    State(gateway): State<Gateway>,
    caller: Caller,
    headers: HeaderMap,
    LongQuery(query): LongQuery<WatchLogs>,
) -> Result<Response, Problem> {
    let after_id = sse::last_event_id(&headers, query.last_event_id.as_deref())?.filter(|id| *id > 0);
    let most = match query.max_output {
        None => usize::MAX,
        Some(_) if !gateway.deps.config.developer => {
            return Err(Problem::invalid("maxOutput", "is taken in developer mode only"));
        }
        Some(most @ 1..=MAX_OUTPUT) => most as usize,
        Some(_) => return Err(Problem::invalid("maxOutput", format!("must be 1 to {MAX_OUTPUT}"))),
    };
    let filter = filter(query.search, query.start_time, query.end_time);
    let all = filter == LogFilter::default();
    let request = WatchLogsRequest { filter: Some(filter), after_id };
    let request = caller.ctx().without_deadline().outgoing(request);
    let items = gateway.deps.logs.clone().watch_logs(request).await?.into_inner();
    let live = all.then(|| gateway.live.clone());
    if let Some(live) = &live {
        let mut logs = gateway.deps.logs.clone();
        let request = caller.ctx().without_deadline().outgoing(WatchLogsRequest::default());
        live.begin(async move { Ok(logs.watch_logs(request).await?.into_inner()) });
    }
    let events = live::events(items, after_id, live);
    let enough = End { code: "MAX_OUTPUT".to_owned(), detail: "these were as many messages as you wanted".to_owned() };
    // Without a limit the stream ends by itself or not at all.
    let enough = stream::iter((most < usize::MAX).then_some(Err(enough)));
    Ok(sse::answer(&gateway, sse::LOGS, caller.token, events.take(most).chain(enough)))
}
