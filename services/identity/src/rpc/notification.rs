//! `NotificationService`.

use std::pin::Pin;

use aegis_auth::OpCtx;
use aegis_error::Failure;
use aegis_proto::identity::v1::{
    self as pb, notification_service_server::NotificationService, watch_notifications_response::Item as WatchItem,
};
use futures::{Stream, stream};
use tonic::{Request, Response, Status};

use crate::{
    app::{Item, PreferencesPatch},
    store::{notifications::Notification, preferences::Preferences},
};

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

    async fn get_notification(
        &self,
        request: Request<pb::GetNotificationRequest>,
    ) -> Result<Response<pb::GetNotificationResponse>, Status> {
        let ctx = OpCtx::of(&request)?;
        let id = request.into_inner().id;
        self.answer(&ctx, "GetNotification", self.0.get_notification(&ctx, &id), |row| pb::GetNotificationResponse {
            notification: Some(message(row)),
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

    async fn get_notification_preferences(
        &self,
        request: Request<pb::GetNotificationPreferencesRequest>,
    ) -> Result<Response<pb::GetNotificationPreferencesResponse>, Status> {
        let ctx = OpCtx::of(&request)?;
        self.answer(&ctx, "GetNotificationPreferences", self.0.notification_preferences(&ctx), |found| {
            pb::GetNotificationPreferencesResponse { preferences: Some(preferences(&found)) }
        })
        .await
    }

    async fn update_notification_preferences(
        &self,
        request: Request<pb::UpdateNotificationPreferencesRequest>,
    ) -> Result<Response<pb::UpdateNotificationPreferencesResponse>, Status> {
        let ctx = OpCtx::of(&request)?;
        let r = request.into_inner();
        let patch = PreferencesPatch {
            mute_own_actions: r.mute_own_actions,
            kinds: r.kinds.into_iter().collect(),
            reset_mute_own_actions: r.reset_mute_own_actions,
            reset_kinds: r.reset_kinds,
            reset_all_kinds: r.reset_all_kinds,
        };
        let result = self.0.update_notification_preferences(&ctx, patch);
        self.answer(&ctx, "UpdateNotificationPreferences", result, |changed| {
            pb::UpdateNotificationPreferencesResponse { preferences: Some(preferences(&changed)) }
        })
        .await
    }

    type WatchNotificationsStream = Pin<Box<dyn Stream<Item = Result<pb::WatchNotificationsResponse, Status>> + Send>>;

    async fn watch_notifications(
        &self,
        request: Request<pb::WatchNotificationsRequest>,
    ) -> Result<Response<Self::WatchNotificationsStream>, Status> {
        let ctx = OpCtx::of(&request)?;
        let after = request.into_inner().after_seq;
        self.answer(&ctx, "WatchNotifications", self.0.watch_notifications(&ctx, after), |reader| {
            let items = stream::unfold(reader, async |mut reader| {
                let item = reader.next().await?;
                Some((item.map(watched).map_err(|error| Status::from(Failure::from(error))), reader))
            });
            Box::pin(items) as Self::WatchNotificationsStream
        })
        .await
    }
}

fn watched(item: Item) -> pb::WatchNotificationsResponse {
    let item = match item {
        Item::New(row) => WatchItem::Notification(message(row.as_ref().clone())),
        Item::Unread { count, position } => WatchItem::Unread(pb::UnreadChanged { unread_count: count, seq: position }),
        Item::Ended { code, detail } => {
            WatchItem::Ended(pb::WatchEnded { code: code.to_owned(), detail: detail.to_owned() })
        }
    };
    pb::WatchNotificationsResponse { item: Some(item) }
}

fn preferences(preferences: &Preferences) -> pb::NotificationPreferences {
    pb::NotificationPreferences {
        mute_own_actions: preferences.mute_own_actions,
        kinds: preferences.kinds().into_iter().map(|(kind, wanted)| (kind.to_owned(), wanted)).collect(),
        version: preferences.version,
    }
}

fn message(row: Notification) -> pb::Notification {
    pb::Notification {
        seq: row.seq,
        version: row.version(),
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
