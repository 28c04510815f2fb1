//! `NotificationService`.

use aegis_auth::OpCtx;
use aegis_proto::identity::v1::{self as pb, notification_service_server::NotificationService};
use tonic::{Request, Response, Status};

use crate::store::notifications::Notification;

use super::{Rpc, timestamp};

#[tonic::async_trait]
impl NotificationService for Rpc {
    async fn list_notifications(
        &self,
        request: Request<pb::ListNotificationsRequest>,
    ) -> Result<Response<pb::ListNotificationsResponse>, Status> {
        let ctx = OpCtx::of(&request)?;
        let pb::ListNotificationsRequest { page_size, page_token, skip, unread_only } = request.into_inner();
        let result = self.0.list_notifications(&ctx, page_size, &page_token, skip, unread_only);
        self.answer(&ctx, "ListNotifications", result, |(rows, next_page_token, total_size)| {
            pb::ListNotificationsResponse {
                notifications: rows.into_iter().map(message).collect(),
                next_page_token,
                total_size,
            }
        })
        .await
    }

    async fn count_unread(
        &self,
        request: Request<pb::CountUnreadRequest>,
    ) -> Result<Response<pb::CountUnreadResponse>, Status> {
        let ctx = OpCtx::of(&request)?;
        self.answer(&ctx, "CountUnread", self.0.count_unread(&ctx), |unread_count| pb::CountUnreadResponse {
            unread_count,
        })
        .await
    }

    async fn mark_read(&self, request: Request<pb::MarkReadRequest>) -> Result<Response<pb::MarkReadResponse>, Status> {
        let ctx = OpCtx::of(&request)?;
        let id = request.into_inner().id;
        self.answer(&ctx, "MarkRead", self.0.mark_read(&ctx, &id), |row| pb::MarkReadResponse {
            notification: Some(message(row)),
        })
        .await
    }

    async fn mark_all_read(
        &self,
        request: Request<pb::MarkAllReadRequest>,
    ) -> Result<Response<pb::MarkAllReadResponse>, Status> {
        let ctx = OpCtx::of(&request)?;
        self.answer(&ctx, "MarkAllRead", self.0.mark_all_read(&ctx), |updated| pb::MarkAllReadResponse {
            updated: i64::try_from(updated).unwrap_or(i64::MAX),
        })
        .await
    }
}

fn message(row: Notification) -> pb::Notification {
    pb::Notification {
        id: row.id.to_string(),
        kind: row.kind,
        title: row.title,
        message: row.message,
        entity_type: row.entity_type,
        entity_id: row.entity_id,
        is_read: row.is_read,
        created_at: Some(timestamp(row.created_at)),
    }
}
