//! Exports of the audit trail, record by record in the order of the chain.

use aegis_auth::{OpCtx, Role};
use aegis_db::Db;
use aegis_error::Failure;
use aegis_events::Audit;
use serde_json::{Map, Value};

use crate::{
    domain::{
        audit::{Entry, Record},
        chain::{Chunk, Link},
        export,
    },
    error::Error,
    store::{self, audit::Filter},
};

use super::{App, audit::AuditFilter};

/// An export under way. It reads on when it is asked to, so it waits for a reader that is slow.
pub struct Export {
    db: Db,
    filter: Filter,
    /// The last record that was read, if it is known.
    after: Link,
    to: i64,
}

/// A part of an export.
#[derive(Debug)]
pub struct ExportPart {
    /// Whole lines, each with its end.
    pub lines: Vec<u8>,
    /// How many.
    pub records: i64,
    /// Positions that were looked at for them.
    pub looked_at: i64,
}

impl App {
    /// Begins an export of the records that pass, up to the newest of this moment; it is itself a record.
    /// Administrators.
    pub(crate) async fn export_audit(&self, ctx: &OpCtx, filter: AuditFilter) -> Result<Export, Error> {
        ctx.require(&[Role::Admin])?;
        self.begin_export(ctx, filter).await
    }

    /// The same for who needs no role.
    pub(crate) async fn begin_export(&self, ctx: &OpCtx, filter: AuditFilter) -> Result<Export, Error> {
        let filter = filter.checked()?;
        let bounds = store::audit::bounds(&self.db).await?;
        let to = bounds.head.seq;
        // Times and positions go up together, but for what came late: both ends of the filter are looked up.
        let span = match filter.is_empty() {
            true => (to > bounds.anchor.seq).then_some((bounds.anchor.seq + 1, to)),
            false => store::audit::span(&self.db, &filter, to).await?,
        };
        let (first, last) = span.unwrap_or((to + 1, to));
        // Unknown where the record before is missing: then the first one has nothing to follow.
        let after = store::audit::link(&self.db, first - 1).await?;

        let mut tx = self.db.begin().await?;
        let audit = Audit {
            action: "export_audit_log",
            entity_type: "audit_log",
            entity_id: String::new(),
            details: told(&filter, to),
        };
        self.outbox.audit(&mut tx, ctx, audit).await?;
        tx.commit().await?;
        let nowhere = Link { seq: first - 2, ..Link::START };
        Ok(Export { db: self.db.clone(), filter, after: after.unwrap_or(nowhere), to: last })
    }
}

fn told(filter: &Filter, through: i64) -> Value {
    let mut details = Map::new();
    let dates = [("start_date", filter.from), ("end_date", filter.to)].map(|(n, at)| (n, at.map(|at| at.to_rfc3339())));
    let texts = [
        ("user_id", filter.user_id.map(|id| id.to_string())),
        ("action", filter.action.clone()),
        ("entity_type", filter.entity_type.clone()),
    ];
    for (name, text) in texts.into_iter().chain(dates) {
        if let Some(text) = text {
            details.insert(name.to_owned(), text.into());
        }
    }
    details.insert("through_seq".to_owned(), through.into());
    details.into()
}

impl Export {
    /// Positions that are still to be looked at.
    pub fn left(&self) -> i64 {
        (self.to - self.after.seq).max(0)
    }

    /// The next part, or nothing after the last. A part without a record is possible, but only where many were looked
    /// at.
    pub async fn next(&mut self) -> Result<Option<ExportPart>, Failure> {
        if self.after.seq >= self.to {
            return Ok(None);
        }
        let chunk = store::audit_chunk::chunk(&self.db, self.after.seq, self.to).await?;
        let Some((first, last)) = chunk.span() else {
            if chunk.is_empty() {
                return Ok(None);
            }
            return Err(Failure::internal(format!("the audit record after {} cannot be read", self.after.seq)));
        };
        let mut before = Some(self.after);
        if first != self.after.seq + 1 {
            // The records between were removed by age since, or are missing.
            before = store::audit::link(&self.db, first - 1).await?;
        }
        let filter = self.filter.clone();
        let lines = tokio::task::spawn_blocking(move || lines(&chunk, before, &filter));
        let (lines, records, end) = lines.await.map_err(Failure::internal)?.map_err(Failure::internal)?;
        let looked_at = last - self.after.seq;
        self.after = end.unwrap_or(Link { seq: last, ..Link::START });
        Ok(Some(ExportPart { lines, records, looked_at }))
    }
}

type Lines = (Vec<u8>, i64, Option<Link>);

fn lines(chunk: &Chunk, mut before: Option<Link>, filter: &Filter) -> serde_json::Result<Lines> {
    let mut lines = Vec::new();
    let mut records = 0;
    for (seq, record, hash) in chunk.records() {
        let prev_hash = before.filter(|link| link.seq == seq - 1).map(|link| link.hash);
        before = hash.map(|hash| Link { seq, hash });
        let entry = Entry::read(record);
        if filter.passes(&entry) {
            export::write(&mut lines, &Record { seq, entry, prev_hash, hash: hash.unwrap_or([0xff; 32]) })?;
            records += 1;
        }
    }
    Ok((lines, records, before))
}
