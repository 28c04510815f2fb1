//! Technique statuses, kept from what is heard of tests.

use std::collections::HashMap;

use aegis_auth::{OpCtx, Role};
use aegis_db::{Tx, now};
use aegis_events::Audit;
use aegis_proto::events::v1::Actor;
use chrono::{DateTime, Utc};
use serde_json::json;
use uuid::Uuid;

use super::Catalog;
use crate::{
    domain::status::Status,
    error::Error,
    events::{Cause, techniques_changed},
    store::{
        dialect,
        facts::{self, TestFact},
        techniques,
    },
};

/// Takes in a fact about a test and computes the status of its technique anew, where the fact can have changed it.
///
/// A fact that is older than what is known changes nothing; one about a technique that is not in the catalogue is kept.
pub(crate) async fn take_in(catalog: &Catalog, tx: &mut Tx, fact: TestFact, actor: &Actor) -> Result<(), Error> {
    dialect::lock_catalogue(tx).await?;
    let before = facts::find(tx, fact.test_id).await?;
    if before.as_ref().is_some_and(|before| before.version >= fact.version) {
        return Ok(());
    }
    facts::write(tx, std::slice::from_ref(&fact), now()).await?;
    // Most moves and edits say nothing else of the technique than what the test said before.
    if before.as_ref().is_some_and(|before| before.says() == fact.says()) {
        return Ok(());
    }
    recompute(catalog, tx, fact.technique_id, actor).await?;
    match before {
        Some(before) if before.technique_id != fact.technique_id => {
            recompute(catalog, tx, before.technique_id, actor).await
        }
        _ => Ok(()),
    }
}

async fn recompute(catalog: &Catalog, tx: &mut Tx, technique_id: Uuid, actor: &Actor) -> Result<(), Error> {
    let Some(known) = techniques::computed_status(tx, technique_id).await? else { return Ok(()) };
    let status = facts::status_of(tx, technique_id).await?;
    if status == known {
        return Ok(());
    }
    let Some(mut technique) = techniques::lock_by_id(tx, technique_id).await? else { return Ok(()) };
    let now = now();
    technique.status_computed = status;
    technique.touch(now);
    techniques::set_status(tx, status, &[technique_id], now).await?;
    techniques_changed(&catalog.outbox, tx, Cause::Event(actor), &[technique], &[]).await?;
    catalog.cache.clear_on_commit(tx);
    Ok(())
}

/// Who may rebuild.
pub(crate) fn may_rebuild(ctx: &OpCtx) -> Result<(), Error> {
    ctx.require(&[Role::Admin, Role::Service])?;
    Ok(())
}

/// Replaces what is known of tests by `facts`, of which `started` says when the first came, and computes every
/// status anew. What was heard from events since then stays where it is newer. Answers how many techniques changed.
pub(crate) async fn rebuild(
    catalog: &Catalog,
    ctx: &OpCtx,
    facts: Vec<TestFact>,
    started: DateTime<Utc>,
) -> Result<i64, Error> {
    may_rebuild(ctx)?;
    let now = now();
    let mut tx = catalog.db.begin().await?;
    dialect::lock_catalogue(&mut tx).await?;
    facts::remove_before(&mut tx, started).await?;
    // A statement of many rows must not have one of them twice.
    let mut newest: HashMap<Uuid, TestFact> = HashMap::with_capacity(facts.len());
    for fact in facts {
        match newest.get(&fact.test_id) {
            Some(known) if known.version >= fact.version => {}
            _ => {
                newest.insert(fact.test_id, fact);
            }
        }
    }
    let tests = newest.len();
    facts::write(&mut tx, &newest.into_values().collect::<Vec<_>>(), now).await?;
    let statuses = facts::all_statuses(&mut tx).await?;
    let mut changed = techniques::lock_all(&mut tx).await?;
    changed.retain_mut(|technique| {
        let status = statuses.get(&technique.id).copied().unwrap_or_default();
        let differs = technique.status_computed != status;
        technique.status_computed = status;
        differs
    });
    for technique in &mut changed {
        technique.touch(now);
    }
    for status in Status::ALL {
        let ids: Vec<Uuid> = changed.iter().filter(|t| t.status_computed == status).map(|t| t.id).collect();
        techniques::set_status(&mut tx, status, &ids, now).await?;
    }
    techniques_changed(&catalog.outbox, &mut tx, Cause::Request(ctx), &changed, &[]).await?;
    let audit = Audit {
        action: "rebuild_statuses",
        entity_type: "catalogue",
        entity_id: String::new(),
        details: json!({ "tests": tests, "techniques_changed": changed.len() }),
    };
    catalog.outbox.audit(&mut tx, ctx, audit).await?;
    catalog.cache.clear_on_commit(&mut tx);
    tx.commit().await?;
    Ok(i64::try_from(changed.len()).unwrap_or(i64::MAX))
}
