//! Coverage as it was: snapshots that people take and weekly ones, and what changed between two.

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use aegis_auth::{OpCtx, Role};
use aegis_db::{now, page};
use aegis_error::{Code, Failure, Fields};
use aegis_events::Audit;
use chrono::{DateTime, TimeDelta, Utc};
use serde_json::json;
use uuid::Uuid;

use super::App;
use crate::{
    domain::{
        Counts,
        compare::{Change, Successors, TechniqueState, compare},
        matrix::Matrix,
        score::{self, Sum, count},
        view::{newest_version, states},
    },
    error::Error,
    store::snapshots::{self as store, MANUAL, Point, SCHEDULED, SNAPSHOT, Snapshot, WEEKLY},
};

/// Who may take one: everybody but viewers.
const TAKERS: &[Role] = &[Role::Admin, Role::RedLead, Role::BlueLead, Role::RedTech, Role::BlueTech];
/// Snapshots of a page at most, and by default.
const MAX_PAGE: i64 = 200;
const PAGE: i64 = 50;
/// Snapshots that people took, at most.
const MAX_MANUAL: i64 = 1_000;
const MAX_NAME: usize = 200;
const MAX_DESCRIPTION: usize = 5_000;
/// Clocks of two machines may differ by this.
const CLOCKS: TimeDelta = TimeDelta::minutes(5);
/// The version of a snapshot: nothing of it ever changes.
const VERSION: i64 = 0;

/// A page of snapshots.
pub(crate) struct SnapshotPage {
    pub(crate) snapshots: Vec<Snapshot>,
    pub(crate) next_page_token: String,
    pub(crate) total: i64,
}

/// A technique of one snapshot or of both.
pub(crate) struct ChangeRow {
    pub(crate) a: Option<TechniqueState>,
    pub(crate) b: Option<TechniqueState>,
}

/// What changed from one snapshot to another.
pub(crate) struct Compared {
    pub(crate) a: Snapshot,
    pub(crate) b: Snapshot,
    pub(crate) improved: Vec<ChangeRow>,
    pub(crate) worsened: Vec<ChangeRow>,
    pub(crate) added: Vec<ChangeRow>,
    pub(crate) removed: Vec<ChangeRow>,
    pub(crate) remapped: Vec<ChangeRow>,
    pub(crate) unchanged: i64,
}

/// A scheduled snapshot.
pub(crate) struct Taken {
    pub(crate) snapshot: Snapshot,
    /// It was not there before.
    pub(crate) created: bool,
    /// Older ones that went.
    pub(crate) removed: i64,
}

impl App {
    /// Snapshots, the newest first; for everyone who is signed in.
    pub(crate) async fn list_snapshots(
        &self,
        ctx: &OpCtx,
        page_size: i32,
        page_token: &str,
        skip: i32,
    ) -> Result<SnapshotPage, Error> {
        ctx.user()?;
        let limit = page::size(page_size, PAGE, MAX_PAGE)?;
        let offset = page::offset(page_token, skip)?;
        let total = store::count(&self.db).await?;
        let snapshots = store::list(&self.db, limit, offset).await?;
        Ok(SnapshotPage { next_page_token: page::next_offset(offset, snapshots.len(), total), snapshots, total })
    }

    /// A snapshot with its techniques; for everyone who is signed in.
    pub(crate) async fn get_snapshot(&self, ctx: &OpCtx, id: &str) -> Result<(Snapshot, Vec<TechniqueState>), Error> {
        ctx.user()?;
        self.snapshot_with_states("id", id).await
    }

    /// A snapshot with its techniques, whose id is in `field` of the request; for callers that were authorised.
    pub(super) async fn snapshot_with_states(
        &self,
        field: &str,
        id: &str,
    ) -> Result<(Snapshot, Vec<TechniqueState>), Error> {
        let key = parsed(field, id)?;
        Ok(store::get(&self.db, key).await?.ok_or_else(|| Failure::not_found("snapshot", id))?)
    }

    /// Takes a snapshot; for everyone but viewers.
    pub(crate) async fn create_snapshot(
        &self,
        ctx: &OpCtx,
        name: &str,
        description: Option<&str>,
    ) -> Result<Snapshot, Error> {
        let caller = ctx.require(TAKERS)?;
        let mut fields = Fields::default();
        fields.text("name", name.trim(), 0, MAX_NAME);
        if let Some(description) = description {
            fields.text("description", description, 0, MAX_DESCRIPTION);
        }
        fields.finish()?;
        let matrix = self.matrix().await?;
        let at = now();
        let techniques = states(&matrix, at);
        let snapshot = Snapshot {
            name: match name.trim() {
                "" => format!("Coverage of {}", at.format("%Y-%m-%d")),
                name => name.to_owned(),
            },
            description: description.map(str::to_owned).filter(|text| !text.trim().is_empty()),
            kind: MANUAL.to_owned(),
            created_by: Some(caller.user_id),
            created_by_username: caller.username.clone(),
            ..taken(&matrix, at)
        };
        let mut tx = self.db.begin().await?;
        if store::count_of(&mut tx, MANUAL).await? >= MAX_MANUAL {
            let text = format!("there are {MAX_MANUAL} snapshots already: delete some that nobody needs");
            return Err(Failure::new(Code::Conflict, text).into());
        }
        store::insert(&mut tx, &snapshot, &techniques).await?;
        let kept = Point { kind: SNAPSHOT.to_owned(), ..point(&matrix, &snapshot) };
        store::insert_point(&mut tx, &kept).await?;
        self.outbox.audit(&mut tx, ctx, told("create_snapshot", &snapshot)).await?;
        tx.commit().await?;
        Ok(snapshot)
    }

    /// Deletes a snapshot; for administrators.
    pub(crate) async fn delete_snapshot(&self, ctx: &OpCtx, id: &str) -> Result<(), Error> {
        ctx.require(&[Role::Admin])?;
        let key = parsed("id", id)?;
        let mut tx = self.db.begin().await?;
        let gone = || Failure::not_found("snapshot", id);
        let snapshot = store::find(&mut tx, key).await?.ok_or_else(gone)?;
        ctx.expect_version(VERSION)?;
        if !store::delete(&mut tx, key).await? {
            return Err(gone().into());
        }
        self.outbox.audit(&mut tx, ctx, told("delete_snapshot", &snapshot)).await?;
        tx.commit().await?;
        Ok(())
    }

    /// What changed from one snapshot to another; for everyone who is signed in.
    pub(crate) async fn compare_snapshots(&self, ctx: &OpCtx, a: &str, b: &str) -> Result<Compared, Error> {
        ctx.user()?;
        let mut fields = Fields::default();
        for (field, id) in [("a", a), ("b", b)] {
            fields.check(id.parse::<Uuid>().is_ok(), field, "must be the UUID of a snapshot");
        }
        fields.finish()?;
        let (a, states_a) = self.snapshot_with_states("a", a).await?;
        let (b, states_b) = self.snapshot_with_states("b", b).await?;
        let matrix = self.matrix().await?;
        let comparison = compare(&states_a, &states_b, &Successors::of(&matrix));
        let rows = |list: &[Change<'_>]| {
            list.iter().map(|change| ChangeRow { a: change.a.cloned(), b: change.b.cloned() }).collect()
        };
        Ok(Compared {
            a,
            b,
            improved: rows(&comparison.improved),
            worsened: rows(&comparison.worsened),
            added: rows(&comparison.added),
            removed: rows(&comparison.removed),
            remapped: rows(&comparison.remapped),
            unchanged: count(comparison.unchanged.len()),
        })
    }

    /// Takes the snapshot that was due, and the point of the history with it, once for each moment; then removes
    /// scheduled ones that are past their number. For administrators and the scheduler.
    pub(crate) async fn take_scheduled(&self, ctx: &OpCtx, due: Option<DateTime<Utc>>) -> Result<Taken, Error> {
        ctx.require(&[Role::Admin, Role::Service])?;
        let at = now();
        let due = due.ok_or_else(|| Failure::invalid("due", "is needed"))?;
        if due > at + CLOCKS {
            return Err(Failure::invalid("due", "must not be in the future").into());
        }
        let matrix = self.matrix().await?;
        let techniques = states(&matrix, at);
        let snapshot = Snapshot {
            name: format!("Weekly coverage of {}", due.format("%Y-%m-%d")),
            kind: SCHEDULED.to_owned(),
            due_at: Some(due),
            ..taken(&matrix, at)
        };
        let mut tx = self.db.begin().await?;
        if !store::insert(&mut tx, &snapshot, &techniques).await? {
            self.outbox.claim(&mut tx, ctx, "").await?;
            let there = store::due(&mut tx, due).await?;
            tx.commit().await?;
            let snapshot = there.ok_or_else(|| Failure::new(Code::Conflict, "the snapshot was deleted just now"))?;
            return Ok(Taken { snapshot, created: false, removed: 0 });
        }
        let week = Point { kind: WEEKLY.to_owned(), due_at: Some(due), ..point(&matrix, &snapshot) };
        store::insert_point(&mut tx, &week).await?;
        let removed = store::keep_newest(&mut tx, i64::from(self.config.snapshots_kept.max(1))).await?;
        let mut audit = told("take_scheduled_snapshot", &snapshot);
        audit.details["removed"] = json!(removed);
        self.outbox.audit(&mut tx, ctx, audit).await?;
        tx.commit().await?;
        Ok(Taken { snapshot, created: true, removed })
    }
}

fn parsed(field: &str, id: &str) -> Result<Uuid, Failure> {
    id.parse().map_err(|_| Failure::invalid(field, "must be the UUID of a snapshot"))
}

/// A snapshot of the matrix at a moment, without what is said of it.
fn taken(matrix: &Matrix, at: DateTime<Utc>) -> Snapshot {
    let mut versions = BTreeMap::new();
    for technique in matrix.active() {
        versions.entry(technique.domain.as_str()).or_insert_with(Vec::new).push(technique);
    }
    let newest = |(domain, techniques): (&str, Vec<_>)| Some((domain.to_owned(), newest_version(techniques)?));
    let scores: Vec<_> = score::scored(matrix, None, at).map(|(_, score)| score).collect();
    Snapshot {
        id: Uuid::now_v7(),
        name: String::new(),
        description: None,
        kind: String::new(),
        due_at: None,
        created_by: None,
        created_by_username: String::new(),
        created_at: at,
        counts: Counts::of(matrix.active().map(|technique| technique.status)),
        score: scores.iter().collect::<Sum>().mean(),
        weights: matrix.weights,
        attack_versions: versions.into_iter().filter_map(newest).collect(),
    }
}

/// The point of the history that goes with a snapshot of the matrix.
fn point(matrix: &Matrix, snapshot: &Snapshot) -> Point {
    let scored: Vec<_> = score::scored(matrix, None, snapshot.created_at).collect();
    Point {
        at: snapshot.created_at,
        kind: String::new(),
        due_at: None,
        snapshot_id: Some(snapshot.id),
        score: snapshot.score,
        coverage_percentage: snapshot.counts.percentage(),
        tactics: score::by_tactic(&score::tactic_names(&matrix.knowledge, None), &scored),
    }
}

fn told<'a>(action: &'a str, snapshot: &Snapshot) -> Audit<'a> {
    let details = json!({
        "name": snapshot.name, "kind": snapshot.kind, "score": snapshot.score,
        "coverage_percentage": snapshot.counts.percentage(),
    });
    Audit { action, entity_type: "snapshot", entity_id: snapshot.id.to_string(), details }
}
