//! Fills an empty catalogue with what is part of the product, so that it is useful before its first sync.

use std::collections::BTreeSet;

use aegis_db::{Db, now};
use aegis_error::Failure;
use aegis_events::{Audit, Outbox, system_actor};
use serde_json::json;

use crate::{
    NAME,
    domain::{knowledge::TACTIC, starter, technique::Domain},
    error::Error,
    events::{Cause, knowledge_changed, techniques_changed},
    store::{
        dialect,
        search::{self, SearchEntry},
        tactics, techniques, templates,
    },
};

/// Writes the starter matrix if there is no technique, and the starter templates if there is none of them. Replicas
/// that start at the same time do it once.
pub async fn seed(db: &Db, outbox: &Outbox) -> Result<(), Failure> {
    fill(db, outbox).await.map_err(Failure::from)
}

async fn fill(db: &Db, outbox: &Outbox) -> Result<(), Error> {
    let mut look = db.begin_read().await?;
    let full = techniques::any(&mut look).await? && templates::any_starter(&mut look).await?;
    look.rollback().await?;
    if full {
        return Ok(());
    }
    let actor = system_actor(NAME);
    let now = now();
    let mut tx = db.begin().await?;
    dialect::lock_catalogue(&mut tx).await?;
    let mut counts = (0, 0, 0);
    if !techniques::any(&mut tx).await? {
        let matrix = starter::techniques(now);
        // A custom tactic does not exist, so an empty catalogue has no tactics either.
        let columns = starter::tactics();
        tactics::write(&mut tx, &columns).await?;
        tactics::set_release(&mut tx, Domain::Enterprise, starter::RELEASE).await?;
        techniques::write(&mut tx, &matrix).await?;
        search::put(&mut tx, &matrix.iter().map(SearchEntry::from).collect::<Vec<_>>()).await?;
        techniques_changed(outbox, &mut tx, Cause::Event(&actor), &matrix, &[]).await?;
        knowledge_changed(outbox, &mut tx, Cause::Event(&actor), &BTreeSet::from([TACTIC])).await?;
        (counts.0, counts.1) = (matrix.len(), columns.len());
    }
    if !templates::any_starter(&mut tx).await? {
        let starters = starter::templates(now).map_err(Failure::internal)?;
        templates::write(&mut tx, &starters).await?;
        let entries: Vec<_> = starters.iter().map(|t| SearchEntry::of_template(t, t.is_offered())).collect();
        search::put(&mut tx, &entries).await?;
        counts.2 = starters.len();
    }
    if counts == (0, 0, 0) {
        // Another replica was faster.
        return Ok(tx.rollback().await?);
    }
    let audit = Audit {
        action: "seed_catalogue",
        entity_type: "catalogue",
        entity_id: String::new(),
        details: json!({ "techniques": counts.0, "tactics": counts.1, "templates": counts.2 }),
    };
    outbox.audit_as(&mut tx, actor, audit, true).await?;
    tx.commit().await?;
    tracing::info!(
        techniques = counts.0,
        tactics = counts.1,
        templates = counts.2,
        "the catalogue was empty and has its starter content"
    );
    Ok(())
}
