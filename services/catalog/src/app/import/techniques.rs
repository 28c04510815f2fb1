//! Techniques and tactics of a document.

use aegis_db::Tx;
use uuid::Uuid;

use super::{MAX_CHANGES, Matrix, Outcome, Scope, TechniqueChange};
use crate::{
    domain::{
        import::{Change, Plan, TacticRecord, TechniqueRecord, plan_tactics, plan_techniques},
        technique::{Source, Tactic, Technique},
    },
    error::Error,
    store::{
        facts,
        search::{self, SearchEntry},
        tactics, techniques, templates,
    },
};

/// Known techniques from which on a document that lacks most of them is taken for a broken one.
const KNOWN: usize = 50;

/// Writes what changes of a matrix.
pub(super) async fn apply(
    tx: &mut Tx,
    scope: &Scope,
    records: Vec<TechniqueRecord>,
    columns: Vec<TacticRecord>,
    outcome: &mut Outcome,
) -> Result<Matrix, Error> {
    let Some(domain) = scope.domain else { return Ok(Matrix::default()) };
    let existing = techniques::lock_domain(tx, domain).await?;
    let tested = techniques::tested_starters(tx).await?;
    let known = existing.iter().filter(|row| is_published(row) && !row.deprecated).count();
    let plan = plan_techniques(existing, records, &tested, domain, scope.partial, scope.now);
    let vanished = plan.write.iter().zip(&plan.changes).filter(|(row, c)| **c == Change::Vanished && is_published(row));
    scope.vanishing(vanished.count(), known, KNOWN, "techniques")?;
    let tactic_plan = match columns.is_empty() {
        // A document without a matrix says nothing of its columns.
        true => Plan::default(),
        false => plan_tactics(tactics::of_domain(tx, domain).await?, columns, domain, scope.partial),
    };
    (outcome.techniques, outcome.tactics) = (plan.counts, tactic_plan.counts);
    let other_release =
        !scope.release.is_empty() && tactics::releases_in(tx).await?.get(&domain) != Some(&scope.release);
    if other_release {
        tactics::set_release(tx, domain, &scope.release).await?;
    }
    let columns_changed = other_release || !tactic_plan.is_empty();
    let changed = columns_changed || !plan.is_empty();
    tactics::remove(tx, &ids(&tactic_plan.remove, |row: &Tactic| row.id)).await?;
    tactics::write(tx, &tactic_plan.write).await?;
    let gone = ids(&plan.remove, |row: &Technique| row.id);
    techniques::remove(tx, &gone).await?;
    search::remove(tx, &gone).await?;
    techniques::write(tx, &plan.write).await?;
    search::put(tx, &plan.write.iter().map(SearchEntry::from).collect::<Vec<_>>()).await?;
    Ok(Matrix { changed, columns_changed, write: plan.write, changes: plan.changes, remove: plan.remove })
}

/// Of an ATT&CK document, and not revoked.
fn is_published(row: &Technique) -> bool {
    row.source == Source::MitreAttack && !row.revoked
}

fn ids<T>(rows: &[T], id: impl Fn(&T) -> Uuid) -> Vec<Uuid> {
    rows.iter().map(id).collect()
}

/// The changes with what hangs on each technique, what matters most first.
pub(super) async fn touched(tx: &mut Tx, matrix: &Matrix) -> Result<Vec<TechniqueChange>, Error> {
    let mut changes: Vec<(Change, &Technique)> = matrix.changes.iter().copied().zip(&matrix.write).collect();
    changes.sort_by(|(a, x), (b, y)| a.cmp(b).then_with(|| x.mitre_id.cmp(&y.mitre_id)));
    changes.truncate(MAX_CHANGES);
    if changes.is_empty() {
        return Ok(Vec::new());
    }
    let ids: Vec<Uuid> = changes.iter().map(|(_, row)| row.id).collect();
    let names: Vec<&str> = changes.iter().map(|(_, row)| row.mitre_id.as_str()).collect();
    let tests = facts::counts(tx, &ids).await?;
    let procedures = templates::counts(tx, &names).await?;
    let change = |(change, row): (Change, &Technique)| TechniqueChange {
        id: row.id,
        mitre_id: row.mitre_id.clone(),
        name: row.name.clone(),
        change,
        revoked_by: row.revoked_by.clone(),
        tests: tests.get(&row.id).copied().unwrap_or_default(),
        templates: procedures.get(&row.mitre_id).copied().unwrap_or_default(),
    };
    Ok(changes.into_iter().map(change).collect())
}
