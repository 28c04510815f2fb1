//! The caller's own notifications.

use aegis_proto::identity::v1::{
    self as proto, CountUnreadRequest, ListNotificationsRequest, MarkAllReadRequest, MarkReadRequest,
};
use axum::extract::State;
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{
    answer::Answer,
    error::Problem,
    extract::{Caller, Id, Query, page},
    openapi::responses::NotFound,
    state::Gateway,
    values::{filled, time_always},
};

/// Routes that need a token.
pub fn protected() -> OpenApiRouter<Gateway> {
    OpenApiRouter::new()
        .routes(routes!(list_notifications))
        .routes(routes!(count_unread_notifications))
        .routes(routes!(mark_notification_read))
        .routes(routes!(mark_all_notifications_read))
}

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
    Answer::json(&Notification::from(answer.notification.ok_or_else(Problem::empty)?))
}

/// Mark all notifications as read
#[utoipa::path(post, path = "/api/v1/notifications/read-all", tag = "Notifications",
    responses((status = 200, description = "Marked", body = Marked)))]
async fn mark_all_notifications_read(State(gateway): State<Gateway>, caller: Caller) -> Result<Answer, Problem> {
    let request = caller.ctx().outgoing(MarkAllReadRequest {});
    let answer = gateway.deps.notifications.clone().mark_all_read(request).await?.into_inner();
    Answer::json(&Marked { message: "All notifications marked as read", updated: answer.updated })
}
