//! Reading about files. Where the store serves the files itself, giving a link out is what can be recorded.

use aegis_auth::OpCtx;
use aegis_db::page;
use aegis_error::Failure;
use aegis_events::Audit;
use chrono::{DateTime, Utc};
use serde_json::{Value, json};
use uuid::Uuid;

use super::{App, Linked};
use crate::{error::Error, store};

const DEFAULT_PAGE: i64 = 200;
const MAX_PAGE: i64 = 1_000;

/// Some files of a test.
pub(crate) struct Page {
    pub(crate) rows: Vec<Linked>,
    /// Empty after the last page.
    pub(crate) next_page_token: String,
    pub(crate) total_size: i64,
}

impl App {
    /// One file; for everyone who is signed in.
    pub(crate) async fn get(&self, ctx: &OpCtx, id: &str) -> Result<Linked, Error> {
        let user = ctx.user()?.user_id;
        let evidence = self.find(id).await?;
        let link = self.link(&evidence, user).await?;
        if link.direct {
            self.record_links(ctx, "evidence", evidence.id, evidence.facts()).await?;
        }
        Ok(Linked { evidence, link })
    }

    /// Files of a test, oldest first; for everyone who is signed in.
    pub(crate) async fn list(
        &self,
        ctx: &OpCtx,
        test_id: &str,
        page_size: i32,
        page_token: &str,
    ) -> Result<Page, Error> {
        let user = ctx.user()?.user_id;
        let test_id = test_id.parse::<Uuid>().map_err(|_| Failure::invalid("test_id", "must be a UUID"))?;
        let size = page::size(page_size, DEFAULT_PAGE, MAX_PAGE)?;
        let after: Option<(DateTime<Utc>, Uuid)> = page::key(page_token)?;
        let after = after.unwrap_or((DateTime::UNIX_EPOCH, Uuid::nil()));
        let total_size = store::count_of_test(&self.db, test_id).await?;
        // One more than asked for tells whether there is a next page.
        let mut found = store::of_test(&self.db, test_id, after, size + 1).await?;
        let wanted = usize::try_from(size).unwrap_or(usize::MAX);
        let more = found.len() > wanted;
        found.truncate(wanted);
        let next_page_token = match found.last() {
            Some(last) if more => page::token(&(last.uploaded_at, last.id)),
            _ => String::new(),
        };
        let mut rows = Vec::with_capacity(found.len());
        for evidence in found {
            let link = self.link(&evidence, user).await?;
            rows.push(Linked { evidence, link });
        }
        if rows.iter().any(|row| row.link.direct) {
            let ids: Vec<_> = rows.iter().map(|row| row.evidence.id).collect();
            self.record_links(ctx, "test", test_id, json!({ "evidence": ids })).await?;
        }
        Ok(Page { rows, next_page_token, total_size })
    }

    async fn record_links(&self, ctx: &OpCtx, entity: &str, id: Uuid, details: Value) -> Result<(), Error> {
        let mut tx = self.db.begin().await?;
        let audit = Audit { action: "issue_evidence_link", entity_type: entity, entity_id: id.to_string(), details };
        self.outbox.audit(&mut tx, ctx, audit).await?;
        tx.commit().await?;
        Ok(())
    }
}
