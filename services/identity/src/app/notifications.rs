//! Notifications: made when something happens to tests and campaigns, read and marked by those they are for.

use aegis_auth::{OpCtx, Role};
use aegis_db::{Tx, now, page};
use aegis_error::Failure;
use aegis_events::Audit;
use chrono::{DateTime, TimeDelta, Utc};
use serde_json::json;
use uuid::Uuid;

use crate::{
    domain::notice::Notice,
    error::Error,
    store::{self, notifications::Notification},
};

use super::{
    App,
    users::parse_id,
    watch::{Hub, Reader},
};

/// How long a notification is kept that was read.
const KEEP_READ: TimeDelta = TimeDelta::days(90);
/// How long any notification is kept.
const KEEP: TimeDelta = TimeDelta::days(365);

/// What notices are about, and who brought it about.
pub(crate) struct Cause {
    pub(crate) entity_type: &'static str,
    pub(crate) entity_id: String,
    /// Who changed it.
    pub(crate) actor: Option<Uuid>,
    pub(crate) at: DateTime<Utc>,
}

/// Gives each notice to those of its recipients who want it.
pub(crate) async fn notify(tx: &mut Tx, hub: &Hub, told: Vec<(Vec<Notice>, Cause)>) -> aegis_db::Result<()> {
    let mut rows = Vec::new();
    for (notices, cause) in told {
        for notice in notices {
            let recipients = store::notifications::recipients(tx, &notice, cause.actor).await?;
            rows.extend(recipients.into_iter().map(|user_id| Notification {
                id: Uuid::now_v7(),
                user_id,
                kind: notice.kind.name.to_owned(),
                title: notice.title.clone(),
                message: notice.message.clone(),
                entity_type: cause.entity_type.to_owned(),
                entity_id: cause.entity_id.clone(),
                is_read: false,
                created_at: cause.at,
                seq: 0,
            }));
        }
    }
    if rows.is_empty() {
        return Ok(());
    }
    store::notifications::insert(tx, &mut rows).await?;
    let hub = hub.clone();
    tx.on_commit(move || hub.wake());
    Ok(())
}

/// The one whose notifications these are. A process of the product has none.
pub(super) fn owner(ctx: &OpCtx) -> Result<Uuid, Failure> {
    let principal = ctx.user()?;
    match principal.role {
        Role::Service => Err(Failure::forbidden("notifications are for people")),
        _ => Ok(principal.user_id),
    }
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
        let user_id = owner(ctx)?;
        let limit = page::size(page_size, 20, 100)?;
        let offset = page::offset(page_token, skip)?;
        let (rows, total) = store::notifications::list(&self.db, user_id, unread_only, limit, offset).await?;
        let next = page::next_offset(offset, rows.len(), total);
        Ok((rows, next, total))
    }

    /// One of the caller's notifications.
    pub(crate) async fn get_notification(&self, ctx: &OpCtx, id: &str) -> Result<Notification, Error> {
        let user_id = owner(ctx)?;
        let id = parse_id("id", id)?;
        store::notifications::find(&self.db, id, user_id).await?.ok_or(Error::NoSuchNotification(id))
    }

    /// How many of the caller's notifications are not marked.
    pub(crate) async fn count_unread(&self, ctx: &OpCtx) -> Result<i64, Error> {
        Ok(store::notifications::count_unread(&self.db, owner(ctx)?).await?)
    }

    /// Marks one of the caller's notifications. Marking it again changes nothing.
    pub(crate) async fn mark_read(&self, ctx: &OpCtx, id: &str) -> Result<Notification, Error> {
        let user_id = owner(ctx)?;
        let id = parse_id("id", id)?;
        let mut tx = self.db.begin().await?;
        let found = store::dialect::lock_notification(&mut tx, id, user_id).await?;
        let mut notification = found.ok_or(Error::NoSuchNotification(id))?;
        ctx.expect_version(notification.version())?;
        if notification.is_read {
            tx.rollback().await?;
            return Ok(notification);
        }
        store::notifications::mark(&mut tx, id, user_id).await?;
        notification.is_read = true;
        let audit = Audit {
            action: "mark_notification_read",
            entity_type: "notification",
            entity_id: id.to_string(),
            details: json!({ "before": { "is_read": false }, "after": { "is_read": true } }),
        };
        self.outbox.audit(&mut tx, ctx, audit).await?;
        self.wake_on_commit(&mut tx);
        tx.commit().await?;
        Ok(notification)
    }

    /// Marks all of the caller's notifications; answers how many were not marked.
    pub(crate) async fn mark_all_read(&self, ctx: &OpCtx) -> Result<u64, Error> {
        let user_id = owner(ctx)?;
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
        self.wake_on_commit(&mut tx);
        tx.commit().await?;
        Ok(updated)
    }

    /// A stream of the caller's notifications as they come, after those that came since position `after`.
    pub(crate) async fn watch_notifications(&self, ctx: &OpCtx, after: Option<i64>) -> Result<Reader, Error> {
        let user_id = owner(ctx)?;
        if after.is_some_and(|after| after < 0) {
            return Err(Failure::invalid("after_seq", "must be 0 or more").into());
        }
        Reader::open(&self.hub, &self.db, user_id, after).await
    }

    /// Removes notifications that are old; answers how many.
    pub(super) async fn purge_notifications(&self) -> aegis_db::Result<u64> {
        let now = now();
        let mut purged = 0;
        loop {
            let mut tx = self.db.begin().await?;
            let some = store::notifications::purge(&mut tx, now - KEEP, now - KEEP_READ).await?;
            tx.commit_relaxed().await?;
            purged += some;
            if some == 0 {
                return Ok(purged);
            }
        }
    }

    fn wake_on_commit(&self, tx: &mut Tx) {
        let hub = self.hub.clone();
        tx.on_commit(move || hub.wake());
    }
}
