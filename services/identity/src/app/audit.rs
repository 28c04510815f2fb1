//! The audit trail, as administrators see it.

use std::{
    num::NonZero,
    sync::atomic::{AtomicI64, Ordering},
};

use aegis_auth::{OpCtx, Role};
use aegis_db::{Db, page};
use aegis_error::{Code, Failure, Fields};
use chrono::{DateTime, Utc};
use uuid::Uuid;

use crate::{
    domain::{
        audit::Record,
        chain::{Break, Link, Walk},
    },
    error::Error,
    store::{
        self,
        audit::{Bounds, Filter},
    },
};

use super::App;

/// Most characters of a filter.
const MAX_FILTER: usize = 200;
/// A chain shorter than this is walked in one piece.
const SMALL: i64 = 1000;
/// How often a walk begins again because records were removed by age under it.
const TRIES: usize = 10;

/// Which page of which records is wanted.
#[derive(Debug, Default)]
pub(crate) struct AuditQuery {
    pub(crate) page_size: i32,
    pub(crate) page_token: String,
    pub(crate) skip: i32,
    pub(crate) filter: AuditFilter,
}

/// Which records are wanted, as the caller said it.
#[derive(Clone, Debug, Default)]
pub(crate) struct AuditFilter {
    pub(crate) user_id: Option<String>,
    pub(crate) action: Option<String>,
    pub(crate) entity_type: Option<String>,
    pub(crate) start_date: Option<DateTime<Utc>>,
    pub(crate) end_date: Option<DateTime<Utc>>,
}

impl AuditFilter {
    /// With everything checked.
    pub(crate) fn checked(self) -> Result<Filter, Failure> {
        let mut fields = Fields::default();
        let user_id = self.user_id.map(|text| text.parse::<Uuid>());
        fields.check(!matches!(user_id, Some(Err(_))), "user_id", "must be a UUID");
        for (field, text) in [("action", &self.action), ("entity_type", &self.entity_type)] {
            if let Some(text) = text {
                fields.text(field, text, 1, MAX_FILTER);
            }
        }
        if let (Some(start), Some(end)) = (self.start_date, self.end_date) {
            fields.check(start <= end, "end_date", "must not be before start_date");
        }
        fields.finish()?;
        Ok(Filter {
            user_id: user_id.and_then(Result::ok),
            action: self.action,
            entity_type: self.entity_type,
            from: self.start_date,
            to: self.end_date,
        })
    }
}

/// What a walk over the chain found.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Verdict {
    /// Records that fit.
    pub(crate) records: i64,
    /// The last of them.
    pub(crate) head: Link,
    /// The first record that does not.
    pub(crate) broken: Option<Break>,
    /// The last record that was removed by age.
    pub(crate) anchor: Link,
    /// When that was.
    pub(crate) pruned_at: Option<DateTime<Utc>>,
}

/// How far a walk or an export is.
#[derive(Debug, Default)]
pub struct Progress {
    done: AtomicI64,
    total: AtomicI64,
}

impl Progress {
    /// Records that were looked at, and all there are.
    pub fn get(&self) -> (i64, i64) {
        (self.done.load(Ordering::Relaxed), self.total.load(Ordering::Relaxed))
    }

    /// Begins anew, with this many records to come.
    pub(crate) fn begin(&self, total: i64) {
        self.done.store(0, Ordering::Relaxed);
        self.total.store(total, Ordering::Relaxed);
    }

    pub(crate) fn add(&self, records: i64) {
        self.done.fetch_add(records, Ordering::Relaxed);
    }
}

impl App {
    /// A page of records, newest first; the token of the next one; how many pass. Administrators.
    pub(crate) async fn list_audit(&self, ctx: &OpCtx, query: AuditQuery) -> Result<(Vec<Record>, String, i64), Error> {
        ctx.require(&[Role::Admin])?;
        let limit = page::size(query.page_size, 50, 100)?;
        let offset = page::offset(&query.page_token, query.skip)?;
        let filter = query.filter.checked()?;
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
        self.walk_audit(&Progress::default()).await
    }

    /// Walks the chain up to what was its end when this began.
    pub(crate) async fn walk_audit(&self, progress: &Progress) -> Result<Verdict, Error> {
        for _ in 0..TRIES {
            let bounds = store::audit::bounds(&self.db).await?;
            let verdict = walk(&self.db, bounds, progress).await?;
            // What looks missing may have been removed by age under the walk.
            if verdict.broken.is_none() || store::audit::bounds(&self.db).await?.anchor == bounds.anchor {
                return Ok(verdict);
            }
        }
        Err(Failure::new(Code::Conflict, "old records are being removed at this moment; try again later").into())
    }
}

/// Walks the newest records of the chain, `most` of them: a look that takes no time, however long the chain is. It trusts
/// the hash of the record before them.
pub(crate) async fn walk_audit_tail(db: &Db, most: i64) -> Result<Verdict, Error> {
    for _ in 0..TRIES {
        let bounds = store::audit::bounds(db).await?;
        let Bounds { anchor, pruned_at, head, .. } = bounds;
        let from = match head.seq - most > anchor.seq {
            true => store::audit::link(db, head.seq - most).await?,
            false => Some(anchor),
        };
        let found = match from {
            Some(from) => walk_segment(db, from, head.seq, &Progress::default()).await?,
            None => (Walk::after(anchor), Some(Break { seq: head.seq - most, reason: "the record is missing" })),
        };
        let (walk, broken) = found;
        let at = |seq, reason| Some(Break { seq, reason });
        let broken = match broken {
            None if walk.end != head => at(head.seq.max(1), "the last record is not the one that was written"),
            broken => broken,
        };
        if broken.is_none() || store::audit::bounds(db).await?.anchor == anchor {
            let records = walk.end.seq - from.map_or(anchor.seq, |from| from.seq);
            return Ok(Verdict { records, head: walk.end, broken, anchor, pruned_at });
        }
    }
    Err(Failure::new(Code::Conflict, "old records are being removed at this moment; try again later").into())
}

/// Walks all of the chain: in several parts at the same time, each of which begins at the hash that is kept of the
/// record before it and must end where the next one began. Two for each processor: while one reads, another hashes.
async fn walk(db: &Db, bounds: Bounds, progress: &Progress) -> Result<Verdict, Error> {
    let Bounds { anchor, pruned_at, head, extent } = bounds;
    let total = head.seq - anchor.seq;
    progress.begin(total);
    let processors = std::thread::available_parallelism().map_or(1, NonZero::get);
    let parts = if total < SMALL { 1 } else { (processors * 2).min(8) as i64 };
    let border = |part: i64| anchor.seq + (i128::from(total) * i128::from(part) / i128::from(parts)) as i64;
    let segments = (0..parts).map(|part| async move {
        let from = if part == 0 { Some(anchor) } else { store::audit::link(db, border(part)).await? };
        match from {
            Some(from) => walk_segment(db, from, border(part + 1), progress).await.map(|walked| (from, walked)),
            // The part before finds out where it ends.
            None => Ok((Link::START, (Walk::after(Link::START), None))),
        }
    });
    let mut whole = Walk::after(anchor);
    let mut broken = None;
    for (from, (walk, found)) in futures::future::try_join_all(segments).await? {
        if from != whole.end {
            // Changed or removed between the two looks at it.
            broken = Some(Break { seq: whole.end.seq, reason: "the record was changed just now" });
            break;
        }
        whole = Walk { pruned: walk.pruned.or(whole.pruned), ..walk };
        broken = found;
        if broken.is_some() {
            break;
        }
    }
    let at = |seq, reason| Some(Break { seq, reason });
    let broken = match extent {
        _ if broken.is_some() => broken,
        _ if whole.end != head => at(head.seq.max(1), "the last record is not the one that was written"),
        Some((lowest, _)) if lowest <= anchor.seq => {
            at(lowest, "the record lies before the place where the chain begins")
        }
        Some((_, highest)) if highest > head.seq => at(highest, "the record lies behind the last one that was written"),
        _ => whole.check_anchor(anchor).err(),
    };
    Ok(Verdict { records: whole.end.seq - anchor.seq, head: whole.end, broken, anchor, pruned_at })
}

/// Walks the chain after a link and up to a position. What is read at once is bounded, and hashed off the threads that
/// serve requests.
pub(super) async fn walk_segment(
    db: &Db,
    from: Link,
    to: i64,
    progress: &Progress,
) -> Result<(Walk, Option<Break>), Error> {
    let mut walk = Walk::after(from);
    while walk.end.seq < to {
        let before = walk.end.seq;
        let chunk = store::audit_chunk::chunk(db, before, to).await?;
        if chunk.is_empty() {
            return Ok((walk, Some(Break { seq: before + 1, reason: "the record is missing" })));
        }
        let checked = tokio::task::spawn_blocking(move || {
            let found = walk.take(&chunk).err();
            (walk, found)
        });
        let found;
        (walk, found) = checked.await.map_err(Failure::internal)?;
        progress.add(walk.end.seq - before);
        if found.is_some() {
            return Ok((walk, found));
        }
    }
    Ok((walk, None))
}
