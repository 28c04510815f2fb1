//! Templates of a document.

use std::collections::HashMap;

use aegis_db::Tx;
use uuid::Uuid;

use super::{Kinds, MANY, Scope};
use crate::{
    domain::{
        knowledge::TEMPLATE,
        template::{Template, TemplateRecord},
    },
    error::Error,
    store::{
        search::{self, SearchEntry},
        templates::{self, Known},
    },
};

/// Writes what changes of templates; answers whether anything does.
pub(super) async fn apply(
    tx: &mut Tx,
    scope: &Scope,
    records: Vec<TemplateRecord>,
    kinds: &mut Kinds,
) -> Result<bool, Error> {
    let known = templates::of_source(tx, &scope.source).await?;
    let ours = |known: &&Known| !known.vanished && known.origin.as_deref() == Some(scope.origin.as_str());
    let brought = known.iter().filter(ours).count();
    let mut known: HashMap<String, Known> = known.into_iter().map(|known| (known.source_id.clone(), known)).collect();
    let mut write: Vec<Template> = Vec::new();
    for record in records {
        let counts = kinds.entry(TEMPLATE).or_default();
        let old = known.remove(&record.source_id);
        match &old {
            Some(old) if old.says(&scope.origin, &record.content_hash) => {
                counts.unchanged += 1;
                continue;
            }
            Some(_) => counts.updated += 1,
            None => counts.created += 1,
        }
        let old = old.map(|old| (old.id, old.version, old.is_active));
        write.push(record.into_template(&scope.source, &scope.origin, old, scope.now));
    }
    let gone = known.into_values().filter(|known| !scope.partial && ours(&known));
    let gone: Vec<Uuid> = gone.map(|known| known.id).collect();
    scope.vanishing(gone.len(), brought, MANY, "templates")?;
    if !gone.is_empty() {
        kinds.entry(TEMPLATE).or_default().vanished += i64::try_from(gone.len()).unwrap_or(i64::MAX);
        templates::vanish(tx, &gone, scope.now).await?;
        search::remove(tx, &gone).await?;
    }
    templates::write(tx, &write).await?;
    let entries: Vec<_> = write.iter().map(|t| SearchEntry::of_template(t, t.is_offered())).collect();
    search::put(tx, &entries).await?;
    Ok(!gone.is_empty() || !write.is_empty())
}
