//! The caller's own notifications.

use std::collections::BTreeMap;

use aegis_proto::identity::v1::{
    self as proto, CountUnreadRequest, GetNotificationPreferencesRequest, GetNotificationRequest,
    ListNotificationsRequest, MarkAllReadRequest, MarkReadRequest, UpdateNotificationPreferencesRequest,
    WatchNotificationsRequest, WatchNotificationsResponse, watch_notifications_response::Item,
};
use axum::{
    extract::State,
    response::{Response, sse::Event},
};
use chrono::{DateTime, Utc};
use futures::StreamExt;
use http::HeaderMap;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{
    answer::Answer,
    error::Problem,
    extract::{Caller, Id, Json, Query, page},
    openapi::responses::{NotFound, RateLimited, ServerEvent},
    sse::{self, End},
    state::Gateway,
    values::{Change, filled, time_always},
};

/// Routes that need a token.
pub fn protected() -> OpenApiRouter<Gateway> {
    OpenApiRouter::new()
        .routes(routes!(list_notifications))
        .routes(routes!(get_notification))
        .routes(routes!(count_unread_notifications))
        .routes(routes!(mark_notification_read))
        .routes(routes!(mark_all_notifications_read))
        .routes(routes!(get_notification_preferences, update_notification_preferences))
}

/// Event streams.
pub fn streams() -> OpenApiRouter<Gateway> {
    OpenApiRouter::new().routes(routes!(stream_notifications))
}

/// Kinds that a body may name.
const MAX_KINDS: usize = 100;

/// A notification.
#[derive(Serialize, ToSchema)]
#[schema(example = json!({
    "id": "0190b7a2-9000-7b3c-a111-1c2d3e4f5a01", "kind": "in_review", "title": "A test waits for your vote",
    "message": "'Encoded command' (T1059.001) is in review", "entity_type": "test",
    "entity_id": "0190b7a2-6a00-7b1d-8c55-0f3a9d2b7c01", "is_read": false, "created_at": "2024-01-01T10:00:00Z"
}))]
pub struct Notification {
    #[schema(value_type = Uuid)]
    id: String,
    /// What happened: the state that a test came to.
    kind: String,
    title: String,
    message: String,
    /// What it is about.
    entity_type: Option<String>,
    entity_id: Option<String>,
    is_read: bool,
    created_at: DateTime<Utc>,
}

impl From<proto::Notification> for Notification {
    fn from(n: proto::Notification) -> Notification {
        Notification {
            id: n.id,
            kind: n.kind,
            title: n.title,
            message: n.message,
            entity_type: filled(n.entity_type),
            entity_id: filled(n.entity_id),
            is_read: n.is_read,
            created_at: time_always(n.created_at),
        }
    }
}

/// How many are unread.
#[derive(Serialize, ToSchema)]
#[schema(example = json!({"unread_count": 3}))]
pub struct UnreadCount {
    unread_count: i64,
}

/// What was marked.
#[derive(Serialize, ToSchema)]
#[schema(example = json!({"message": "All notifications marked as read", "updated": 3}))]
pub struct Marked {
    message: &'static str,
    /// How many were unread.
    updated: i64,
}

/// What one wants to be notified of.
#[derive(Serialize, ToSchema)]
#[schema(example = json!({
    "mute_own_actions": false,
    "kinds": {
        "red_executing": true, "blue_evaluating": true, "in_review": true, "rejected": true, "validated": true,
        "regression": true, "remediation_assigned": true, "retest_created": true, "comment": true,
        "campaign_run": true, "campaign_run_failed": true, "first_contact": true, "credential_works": true,
        "file_captured": true, "traversal": true
    }
}))]
pub struct NotificationPreferences {
    /// No notification of what one did oneself.
    mute_own_actions: bool,
    /// Of every kind that there is, whether it is wanted.
    kinds: BTreeMap<String, bool>,
}

impl From<proto::NotificationPreferences> for NotificationPreferences {
    fn from(p: proto::NotificationPreferences) -> NotificationPreferences {
        NotificationPreferences { mute_own_actions: p.mute_own_actions, kinds: p.kinds.into_iter().collect() }
    }
}

/// A change of one's preferences. What is absent is left alone; `null` gives the default again.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"mute_own_actions": true, "kinds": {"validated": false, "rejected": null}}))]
pub struct NotificationPreferencesChanges {
    /// No notification of what one did oneself.
    #[serde(default)]
    #[schema(value_type = Option<bool>)]
    mute_own_actions: Change<bool>,
    /// Kinds, each with whether it is wanted.
    #[serde(default)]
    #[schema(value_type = Option<BTreeMap<String, Option<bool>>>)]
    kinds: Change<BTreeMap<String, Option<bool>>>,
}

/// Where a stream goes on.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct WatchNotifications {
    /// The id of the last event that was seen; the `Last-Event-ID` header comes before it.
    #[serde(rename = "lastEventId")]
    #[param(rename = "lastEventId")]
    last_event_id: Option<String>,
}

/// Part of the list.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct ListNotifications {
    /// Rows to leave out before.
    #[param(minimum = 0, maximum = 2147483647, default = 0)]
    offset: Option<u32>,
    /// Rows at most.
    #[param(minimum = 1, maximum = 100, default = 20)]
    limit: Option<u32>,
    /// Only those that are unread.
    #[param(default = false)]
    unread_only: Option<bool>,
}

/// List notifications
///
/// The caller's own, newest first; `X-Total-Count` has the number of all.
#[utoipa::path(get, path = "/api/v1/notifications", tag = "Notifications", params(ListNotifications),
    responses((status = 200, description = "Notifications", body = [Notification])))]
async fn list_notifications(
    State(gateway): State<Gateway>,
    caller: Caller,
    Query(query): Query<ListNotifications>,
) -> Result<Answer, Problem> {
    let (page_size, skip) = page(query.limit, query.offset, 20, 100)?;
    let request = ListNotificationsRequest {
        page_size,
        skip,
        page_token: String::new(),
        unread_only: query.unread_only.unwrap_or(false),
    };
    let request = caller.ctx().outgoing(request);
    let answer = gateway.deps.notifications.clone().list_notifications(request).await?.into_inner();
    let rows: Vec<Notification> = answer.notifications.into_iter().map(Notification::from).collect();
    Answer::list(&rows, answer.total_size)
}

/// Read a notification
///
/// One of the caller's own.
#[utoipa::path(get, path = "/api/v1/notifications/{id}", tag = "Notifications",
    params(("id" = Uuid, Path, description = "Notification")),
    responses(
        (status = 200, description = "The notification", body = Notification),
        (status = 404, response = NotFound),
    ))]
async fn get_notification(State(gateway): State<Gateway>, caller: Caller, id: Id) -> Result<Answer, Problem> {
    let request = caller.ctx().outgoing(GetNotificationRequest { id: id.to_string() });
    let answer = gateway.deps.notifications.clone().get_notification(request).await?.into_inner();
    let notification = answer.notification.ok_or_else(Problem::empty)?;
    Answer::entity(notification.version, &Notification::from(notification))
}

/// Count unread notifications
#[utoipa::path(get, path = "/api/v1/notifications/unread-count", tag = "Notifications",
    responses((status = 200, description = "The count", body = UnreadCount)))]
async fn count_unread_notifications(State(gateway): State<Gateway>, caller: Caller) -> Result<Answer, Problem> {
    let request = caller.ctx().outgoing(CountUnreadRequest {});
    let answer = gateway.deps.notifications.clone().count_unread(request).await?.into_inner();
    Answer::json(&UnreadCount { unread_count: answer.unread_count })
}

/// Mark a notification as read
#[utoipa::path(patch, path = "/api/v1/notifications/{id}/read", tag = "Notifications",
    params(("id" = Uuid, Path, description = "Notification")),
    responses(
        (status = 200, description = "The notification", body = Notification),
        (status = 404, response = NotFound),
    ))]
async fn mark_notification_read(State(gateway): State<Gateway>, caller: Caller, id: Id) -> Result<Answer, Problem> {
    let request = caller.ctx().outgoing(MarkReadRequest { id: id.to_string() });
    let answer = gateway.deps.notifications.clone().mark_read(request).await?.into_inner();
    let notification = answer.notification.ok_or_else(Problem::empty)?;
    Answer::entity(notification.version, &Notification::from(notification))
}

/// Mark all notifications as read
#[utoipa::path(post, path = "/api/v1/notifications/read-all", tag = "Notifications",
    responses((status = 200, description = "Marked", body = Marked)))]
async fn mark_all_notifications_read(State(gateway): State<Gateway>, caller: Caller) -> Result<Answer, Problem> {
    let request = caller.ctx().outgoing(MarkAllReadRequest {});
    let answer = gateway.deps.notifications.clone().mark_all_read(request).await?.into_inner();
    Answer::json(&Marked { message: "All notifications marked as read", updated: answer.updated })
}

/// Read one's preferences
///
/// Which kinds of notifications the caller wants, and whether also of what it does itself. Besides the states of tests
/// there are `regression` (leads), `remediation_assigned` (the assignee), `retest_created` (the creator of the test),
/// `comment` (those whose test it is: creator, red, blue and remediation side, without who wrote it), `campaign_run` (the
/// creator of the campaign) and `campaign_run_failed` (its creator and leads). Of decoys, to administrators, blue
/// technicians and blue leads: `first_contact` (an attacker who was never seen before), `credential_works`,
/// `file_captured` and `traversal` (an attacker goes on from one decky to another).
#[utoipa::path(get, path = "/api/v1/notifications/preferences", tag = "Notifications",
    responses((status = 200, description = "The preferences", body = NotificationPreferences)))]
async fn get_notification_preferences(State(gateway): State<Gateway>, caller: Caller) -> Result<Answer, Problem> {
    let request = caller.ctx().outgoing(GetNotificationPreferencesRequest {});
    let answer = gateway.deps.notifications.clone().get_notification_preferences(request).await?.into_inner();
    preferences(answer.preferences)
}

/// Change one's preferences
///
/// Everyone may, for themselves. A kind that is not wanted makes no notification from now on; those that are there
/// stay. A kind that is not known is refused.
#[utoipa::path(patch, path = "/api/v1/notifications/preferences", tag = "Notifications",
    request_body = NotificationPreferencesChanges,
    responses((status = 200, description = "The preferences", body = NotificationPreferences)))]
async fn update_notification_preferences(
    State(gateway): State<Gateway>,
    caller: Caller,
    Json(body): Json<NotificationPreferencesChanges>,
) -> Result<Answer, Problem> {
    let (mute_own_actions, reset_mute_own_actions) = body.mute_own_actions.parts();
    let (changed, reset_all_kinds) = body.kinds.parts();
    let changed = changed.unwrap_or_default();
    if changed.len() > MAX_KINDS {
        return Err(Problem::invalid("kinds", format!("must have at most {MAX_KINDS} entries")));
    }
    let (mut kinds, mut reset_kinds) = (std::collections::HashMap::new(), Vec::new());
    for (kind, wanted) in changed {
        match wanted {
            Some(wanted) => {
                kinds.insert(kind, wanted);
            }
            None => reset_kinds.push(kind),
        }
    }
    let request = UpdateNotificationPreferencesRequest {
        mute_own_actions,
        kinds,
        reset_mute_own_actions,
        reset_kinds,
        reset_all_kinds,
    };
    let request = caller.ctx().outgoing(request);
    let answer = gateway.deps.notifications.clone().update_notification_preferences(request).await?.into_inner();
    preferences(answer.preferences)
}

fn preferences(preferences: Option<proto::NotificationPreferences>) -> Result<Answer, Problem> {
    let preferences = preferences.ok_or_else(Problem::empty)?;
    Answer::entity(preferences.version, &NotificationPreferences::from(preferences))
}

/// Stream notifications
///
/// The caller's own, as server-sent events. First `unread_count` with `{"unread_count": n}`, and again when the count
/// has changed, at most once a second; then each new one as `notification`, with the JSON of the list. The `id` of an
/// event is where a stream goes on that is opened with it as `Last-Event-ID` or `lastEventId`: with what came since,
/// at most the newest 1,000, and then with what comes. A comment every 15 seconds keeps the connection alive.
///
/// The last event is `end` with `{"code", "detail"}`: `UNAUTHENTICATED` when the bearer no longer holds,
/// `SERVICE_UNAVAILABLE` when the service stops, `SLOW_READER` for a client that reads more slowly than there is to
/// read. A client that connects again after the last two loses nothing.
///
/// For clients that cannot send headers, the query may have a ticket (`POST /api/v1/auth/stream-ticket`) or a token. A
/// user may have ten streams open (configurable); one more is 429.
#[utoipa::path(get, path = "/api/v1/notifications/stream", tag = "Notifications",
    params(
        WatchNotifications,
        ("Last-Event-ID" = Option<String>, Header, description = "The id of the last event that was seen"),
        ("ticket" = Option<String>, Query, description = "A ticket for one stream, instead of the Authorization header"),
        ("token" = Option<String>, Query, description = "An access token or a ticket, instead of the Authorization header"),
    ),
    responses(
        (status = 200, description = "The stream", body = ServerEvent, content_type = "text/event-stream",
            example = json!("id: 41\nevent: unread_count\ndata: {\"unread_count\":3}\n\n")),
        (status = 429, response = RateLimited),
    ))]
async fn stream_notifications(
    State(gateway): State<Gateway>,
    caller: Caller,
    headers: HeaderMap,
    Query(query): Query<WatchNotifications>,
) -> Result<Response, Problem> {
    let after_seq = sse::last_event_id(&headers, query.last_event_id.as_deref())?;
    let request = caller.ctx().without_deadline().outgoing(WatchNotificationsRequest { after_seq });
    let items = gateway.deps.notifications.clone().watch_notifications(request).await?.into_inner();
    let events = items.filter_map(async |item| item.map_err(End::from).and_then(event).transpose());
    Ok(sse::answer(&gateway, sse::NOTIFICATIONS, caller.token, events))
}

fn event(item: WatchNotificationsResponse) -> Result<Option<Event>, End> {
    let (id, name, data) = match item.item {
        Some(Item::Notification(notification)) => {
            (notification.seq, "notification", serde_json::to_string(&Notification::from(notification)))
        }
        Some(Item::Unread(unread)) => {
            (unread.seq, "unread_count", serde_json::to_string(&UnreadCount { unread_count: unread.unread_count }))
        }
        Some(Item::Ended(ended)) => return Err(End { code: ended.code, detail: ended.detail }),
        // Of a newer service.
        None => return Ok(None),
    };
    let data = data.map_err(|error| End::from(aegis_error::Failure::internal(error)))?;
    Ok(Some(Event::default().id(id.to_string()).event(name).data(data)))
}
