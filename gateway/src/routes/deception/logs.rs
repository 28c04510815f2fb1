//! What happened on decoys: the feed, its histogram and the totals.

use aegis_error::Failure;
use aegis_proto::deception::v1::{
    self as proto, GetLogHistogramRequest, GetLogHistogramResponse, GetStatsRequest, ListLogsRequest, LogFilter,
};
use axum::extract::State;
use chrono::{DateTime, Utc};
use http::Uri;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::{
    router::{OpenApiRouter, UtoipaMethodRouterExt},
    routes,
};

use crate::{
    answer::Answer,
    error::Problem,
    extract::{Caller, LongQuery, page},
    middleware::compression,
    state::Gateway,
    values::{EventType, Since, Until, filled, time_always},
};

/// Routes that need a token.
pub fn protected() -> OpenApiRouter<Gateway> {
    OpenApiRouter::new()
        .routes(routes!(list_logs).layer(compression()))
        .routes(routes!(get_log_histogram).layer(compression()))
        .routes(routes!(get_stats))
}

/// One thing that happened on a decoy.
#[derive(Debug, Serialize, ToSchema)]
#[schema(example = json!({
    "id": 1423, "timestamp": "2024-01-01T02:22:56Z", "decky": "decky-03", "service": "ssh", "event_type": "auth_fail",
    "attacker_ip": "203.0.113.9", "attacker_port": 50022, "session_id": "0190b7a2-a000-7c4d-b222-2d3e4f5a6b01",
    "msg": "Failed password for root", "fields": "{\"username\":\"root\",\"password\":\"123456\"}",
    "techniques": ["T1110.001"]
}))]
pub struct LogRow {
    /// Grows with each event that is stored.
    id: i64,
    timestamp: DateTime<Utc>,
    decky: String,
    service: String,
    #[schema(value_type = EventType)]
    event_type: String,
    attacker_ip: String,
    /// Null where the sensor does not say.
    attacker_port: Option<u32>,
    /// Of the connection; null where there was none.
    session_id: Option<String>,
    msg: String,
    /// A JSON object of texts, as a string.
    fields: String,
    /// ATT&CK ids of what it shows.
    techniques: Vec<String>,
}

impl From<proto::Log> for LogRow {
    fn from(log: proto::Log) -> LogRow {
        LogRow {
            id: log.id,
            timestamp: time_always(log.timestamp),
            decky: log.decky,
            service: log.service,
            event_type: log.event_type,
            attacker_ip: log.attacker_ip,
            attacker_port: Some(log.attacker_port).filter(|port| *port > 0),
            session_id: filled(log.session_id),
            msg: log.msg,
            fields: if log.fields_json.is_empty() { "{}".to_owned() } else { log.fields_json },
            techniques: log.techniques,
        }
    }
}

/// A page of the feed.
#[derive(Serialize, ToSchema)]
#[schema(example = json!({"total": 1423, "limit": 50, "offset": 0, "data": [{
    "id": 1423, "timestamp": "2024-01-01T02:22:56Z", "decky": "decky-03", "service": "ssh", "event_type": "auth_fail",
    "attacker_ip": "203.0.113.9", "attacker_port": 50022, "session_id": "0190b7a2-a000-7c4d-b222-2d3e4f5a6b01",
    "msg": "Failed password for root", "fields": "{\"username\":\"root\",\"password\":\"123456\"}",
    "techniques": ["T1110.001"]
}]}))]
pub struct LogsResponse {
    /// All that fit. With `search` they are counted up to 10,000, which then stands for that many or more.
    total: i64,
    limit: i32,
    offset: i32,
    data: Vec<LogRow>,
}

/// Events within one interval.
#[derive(Debug, Serialize, ToSchema)]
#[schema(example = json!({"bucket": "2024-01-01T02:15:00Z", "count": 17}))]
pub struct LogBucket {
    /// Where it begins.
    bucket: DateTime<Utc>,
    count: i64,
}

/// The rows of a histogram.
pub fn buckets(histogram: GetLogHistogramResponse) -> Vec<LogBucket> {
    let rows = histogram.buckets.into_iter();
    rows.map(|row| LogBucket { bucket: time_always(row.bucket), count: row.count }).collect()
}

/// The totals.
#[derive(Debug, Serialize, ToSchema)]
#[schema(example = json!({
    "total_logs": 14231, "unique_attackers": 47, "active_deckies": 5, "deployed_deckies": 5
}))]
pub struct StatsResponse {
    total_logs: i64,
    unique_attackers: i64,
    /// Those with all their services running.
    active_deckies: i64,
    deployed_deckies: i64,
}

impl From<proto::Stats> for StatsResponse {
    fn from(stats: proto::Stats) -> StatsResponse {
        StatsResponse {
            total_logs: stats.total_logs,
            unique_attackers: stats.unique_attackers,
            active_deckies: stats.active_deckies,
            deployed_deckies: stats.deployed_deckies,
        }
    }
}

/// Part of the feed.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct ListLogs {
    /// Rows at most.
    #[param(minimum = 1, maximum = 1000, default = 50)]
    limit: Option<u32>,
    /// Rows to leave out before.
    #[param(minimum = 0, maximum = 2147483647, default = 0)]
    offset: Option<u32>,
    /// Tokens with spaces between them, all of which must hold.
    #[param(example = "service:ssh event:auth_fail username:root")]
    search: Option<String>,
    /// From this time on: RFC 3339, a time without a zone (UTC), or a day.
    #[param(value_type = Option<String>, example = "2024-01-01T00:00:00Z")]
    start_time: Option<Since>,
    /// Up to this time: RFC 3339, a time without a zone (UTC), or a day (to its end).
    #[param(value_type = Option<String>, example = "2024-01-31")]
    end_time: Option<Until>,
}

/// What is counted, and how finely.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct HistogramOf {
    /// As for `/logs`.
    #[param(example = "service:ssh")]
    search: Option<String>,
    /// From this time on: RFC 3339, a time without a zone (UTC), or a day.
    #[param(value_type = Option<String>, example = "2024-01-01T00:00:00Z")]
    start_time: Option<Since>,
    /// Up to this time: RFC 3339, a time without a zone (UTC), or a day (to its end).
    #[param(value_type = Option<String>, example = "2024-01-31")]
    end_time: Option<Until>,
    /// Length of an interval.
    #[param(minimum = 1, default = 15)]
    interval_minutes: Option<u32>,
}

/// What a service is to look for.
pub fn filter(search: Option<String>, start_time: Option<Since>, end_time: Option<Until>) -> LogFilter {
    LogFilter {
        search: search.unwrap_or_default(),
        start_time: start_time.map(|Since(moment)| moment.into()),
        end_time: end_time.map(|Until(moment)| moment.into()),
    }
}

/// List events
///
/// Newest first. `search` is tokens with spaces between them, all of which must hold: `decky:`, `service:`, `event:` and
/// `attacker:` are exact, any other `key:value` compares that field, a bare word is found anywhere; quotes keep spaces
/// (`command:"uname -a"`). `fields` of a row is a JSON object as a string.
#[utoipa::path(get, path = "/api/v1/logs", tag = "Decoy events", params(ListLogs),
    responses((status = 200, description = "A page of events", body = LogsResponse)))]
async fn list_logs(
    State(gateway): State<Gateway>,
    caller: Caller,
    LongQuery(query): LongQuery<ListLogs>,
) -> Result<Answer, Problem> {
    let (limit, offset) = page(query.limit, query.offset, 50, 1000)?;
    let request = ListLogsRequest {
        filter: Some(filter(query.search, query.start_time, query.end_time)),
        page_size: limit,
        page_token: String::new(),
        skip: offset,
    };
    let answer = gateway.deps.logs.clone().list_logs(caller.ctx().outgoing(request)).await?.into_inner();
    let data = answer.logs.into_iter().map(LogRow::from).collect();
    Answer::json(&LogsResponse { total: answer.total_size, limit, offset, data })
}

/// Count events by time
///
/// Oldest first; an interval in which nothing happened has a row with 0. Without `start_time` it begins with the oldest
/// event that fits, without `end_time` it goes up to now or the newest. There are 10,000 rows at most, the newest; a
/// range that is given and makes more needs longer intervals.
#[utoipa::path(get, path = "/api/v1/logs/histogram", tag = "Decoy events", params(HistogramOf),
    responses((status = 200, description = "Rows", body = [LogBucket])))]
async fn get_log_histogram(
    State(gateway): State<Gateway>,
    caller: Caller,
    uri: Uri,
    LongQuery(query): LongQuery<HistogramOf>,
) -> Result<Answer, Problem> {
    let interval_minutes = match query.interval_minutes.map(i32::try_from) {
        None => 0,
        Some(Ok(minutes)) if minutes > 0 => minutes,
        Some(_) => {
            let problem = format!("must be 1 to {}", i32::MAX);
            return Err(Failure::invalid("interval_minutes", problem).into());
        }
    };
    let filter = filter(query.search, query.start_time, query.end_time);
    let load = async {
        let request = GetLogHistogramRequest { filter: Some(filter), interval_minutes };
        let request = caller.ctx().outgoing(request);
        let rows = buckets(gateway.deps.logs.clone().get_log_histogram(request).await?.into_inner());
        Answer::list(&rows, rows.len() as i64)
    };
    gateway.hot.answer(&caller, &uri, load).await
}

/// Read the totals
#[utoipa::path(get, path = "/api/v1/stats", tag = "Decoy events",
    responses((status = 200, description = "The totals", body = StatsResponse)))]
async fn get_stats(State(gateway): State<Gateway>, caller: Caller, uri: Uri) -> Result<Answer, Problem> {
    let load = async {
        let request = caller.ctx().outgoing(GetStatsRequest {});
        let answer = gateway.deps.logs.clone().get_stats(request).await?.into_inner();
        Answer::json(&StatsResponse::from(answer.stats.ok_or_else(Problem::empty)?))
    };
    gateway.hot.answer(&caller, &uri, load).await
}
