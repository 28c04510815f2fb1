//! Notifications: made when a test changes, read and marked by those they are for.

use aegis_auth::OpCtx;
use aegis_db::{Tx, page};
use aegis_events::Audit;
use chrono::{DateTime, Utc};
use serde_json::json;
use uuid::Uuid;

use crate::{
    domain::notice::{Notice, Recipients},
    error::Error,
    store::{self, notifications::Notification},
};

use super::{App, users::parse_id};

/// Gives a notice on a test to each of its recipients.
pub(crate) async fn notify(
    tx: &mut Tx,
    notice: Notice,
    test_id: &str,
    creator: Option<Uuid>,
    at: DateTime<Utc>,
) -> aegis_db::Result<()> {
    let recipients = match (notice.recipients, creator) {
        (Recipients::Creator, None) => Vec::new(),
        (Recipients::Creator, Some(id)) => store::notifications::active_with_id(tx, id).await?,
        (Recipients::Roles(roles), _) => store::notifications::active_with_role(tx, roles).await?,
    };
    let rows: Vec<_> = recipients
        .into_iter()
        .map(|user_id| Notification {
            id: Uuid::now_v7(),
            user_id,
            kind: notice.kind.to_owned(),
            title: notice.title.clone(),
            message: notice.message.clone(),
            entity_type: "test".to_owned(),
            entity_id: test_id.to_owned(),
            is_read: false,
            created_at: at,
        })
        .collect();
    store::notifications::insert(tx, &rows).await
}

impl App {
    /// A page of the caller's notifications, newest first; the token of the next one; how many there are.
    pub(crate) async fn list_notifications(
        &self,
        ctx: &OpCtx,
        page_size: i32,
        page_token: &str,
        skip: i32,
        unread_only: bool,
    ) -> Result<(Vec<Notification>, String, i64), Error> {
        let user_id = ctx.user()?.user_id;
        let limit = page::size(page_size, 20, 100)?;
        let offset = page::offset(page_token, skip)?;
        let (rows, total) = store::notifications::list(&self.db, user_id, unread_only, limit, offset).await?;
        let next = page::next_offset(offset, rows.len(), total);
        Ok((rows, next, total))
    }

    /// How many of the caller's notifications are not marked.
    pub(crate) async fn count_unread(&self, ctx: &OpCtx) -> Result<i64, Error> {
        Ok(store::notifications::count_unread(&self.db, ctx.user()?.user_id).await?)
    }

    /// Marks one of the caller's notifications. Marking it again changes nothing.
    pub(crate) async fn mark_read(&self, ctx: &OpCtx, id: &str) -> Result<Notification, Error> {
        let user_id = ctx.user()?.user_id;
        let id = parse_id("id", id)?;
        let mut tx = self.db.begin().await?;
        let Some(marked) = store::notifications::mark(&mut tx, id, user_id).await? else {
            let found = store::notifications::find(&mut tx, id, user_id).await?;
            tx.rollback().await?;
            return found.ok_or(Error::NoSuchNotification(id));
        };
        let audit = Audit {
            action: "mark_notification_read",
            entity_type: "notification",
            entity_id: id.to_string(),
            details: json!({ "before": { "is_read": false }, "after": { "is_read": true } }),
        };
        self.outbox.audit(&mut tx, ctx, audit).await?;
        tx.commit().await?;
        Ok(marked)
    }

    /// Marks all of the caller's notifications; answers how many were not marked.
    pub(crate) async fn mark_all_read(&self, ctx: &OpCtx) -> Result<u64, Error> {
        let user_id = ctx.user()?.user_id;
        let mut tx = self.db.begin().await?;
        let updated = store::notifications::mark_all(&mut tx, user_id).await?;
        if updated == 0 {
            tx.rollback().await?;
            return Ok(0);
        }
        let audit = Audit {
            action: "mark_all_notifications_read",
            entity_type: "notification",
            entity_id: String::new(),
            details: json!({ "updated": updated }),
        };
        self.outbox.audit(&mut tx, ctx, audit).await?;
        tx.commit().await?;
        Ok(updated)
    }
}
