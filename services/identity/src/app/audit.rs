//! The audit trail, as administrators see it.

use aegis_auth::{OpCtx, Role};
use aegis_db::page;
use aegis_error::Fields;
use chrono::{DateTime, Utc};
use uuid::Uuid;

use crate::{
    domain::audit::{Break, Record, Walk},
    error::Error,
    store::{self, audit::Filter},
};

use super::App;

/// Records that are read at once when the chain is walked.
const WALK_BATCH: i64 = 2000;
/// Most characters of a filter.
const MAX_FILTER: usize = 200;

/// Which page of which records is wanted.
#[derive(Debug, Default)]
pub(crate) struct AuditQuery {
    pub(crate) page_size: i32,
    pub(crate) page_token: String,
    pub(crate) skip: i32,
    pub(crate) user_id: Option<String>,
    pub(crate) action: Option<String>,
    pub(crate) entity_type: Option<String>,
    pub(crate) start_date: Option<DateTime<Utc>>,
    pub(crate) end_date: Option<DateTime<Utc>>,
}

/// What a walk over the chain found.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Verdict {
    /// Records that fit.
    pub(crate) records: i64,
    /// Hash of the last of them.
    pub(crate) head: String,
    /// The first record that does not.
    pub(crate) broken: Option<Break>,
}

impl App {
    /// A page of records, newest first; the token of the next one; how many pass. Administrators.
    pub(crate) async fn list_audit(&self, ctx: &OpCtx, query: AuditQuery) -> Result<(Vec<Record>, String, i64), Error> {
        ctx.require(&[Role::Admin])?;
        let limit = page::size(query.page_size, 50, 100)?;
        let offset = page::offset(&query.page_token, query.skip)?;
        let mut fields = Fields::default();
        let user_id = query.user_id.map(|text| text.parse::<Uuid>());
        fields.check(!matches!(user_id, Some(Err(_))), "user_id", "must be a UUID");
        for (field, text) in [("action", &query.action), ("entity_type", &query.entity_type)] {
            if let Some(text) = text {
                fields.text(field, text, 1, MAX_FILTER);
            }
        }
        if let (Some(start), Some(end)) = (query.start_date, query.end_date) {
            fields.check(start <= end, "end_date", "must not be before start_date");
        }
        fields.finish()?;
        let filter = Filter {
            user_id: user_id.and_then(Result::ok),
            action: query.action,
            entity_type: query.entity_type,
            from: query.start_date,
            to: query.end_date,
        };
        let (records, total) = store::audit::list(&self.db, &filter, limit, offset).await?;
        let next = page::next_offset(offset, records.len(), total);
        Ok((records, next, total))
    }

    /// The actions that occur. Administrators.
    pub(crate) async fn audit_actions(&self, ctx: &OpCtx) -> Result<Vec<String>, Error> {
        ctx.require(&[Role::Admin])?;
        Ok(store::audit::actions(&self.db).await?)
    }

    /// The kinds of entities that occur. Administrators.
    pub(crate) async fn audit_entity_types(&self, ctx: &OpCtx) -> Result<Vec<String>, Error> {
        ctx.require(&[Role::Admin])?;
        Ok(store::audit::entity_types(&self.db).await?)
    }

    /// Walks the chain and names the first break. Administrators.
    pub(crate) async fn verify_audit(&self, ctx: &OpCtx) -> Result<Verdict, Error> {
        ctx.require(&[Role::Admin])?;
        self.walk_audit().await
    }

    /// Walks the chain up to what was its end when this began.
    pub(crate) async fn walk_audit(&self) -> Result<Verdict, Error> {
        let (last, head) = store::audit::head(&self.db).await?;
        let mut walk = Walk::start();
        let mut broken = None;
        'walk: while walk.seq < last {
            let records = store::audit::range(&self.db, walk.seq, last, WALK_BATCH).await?;
            if records.is_empty() {
                broken = Some(Break { seq: walk.seq + 1, reason: "the record is missing" });
                break;
            }
            for record in &records {
                if let Err(at) = walk.step(record) {
                    broken = Some(at);
                    break 'walk;
                }
            }
            tokio::task::yield_now().await;
        }
        if broken.is_none() && walk.hash != head {
            broken = Some(Break { seq: walk.seq.max(1), reason: "the last record is not the one that was written" });
        }
        Ok(Verdict { records: walk.seq, head: walk.hash, broken })
    }
}
