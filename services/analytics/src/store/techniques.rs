//! The SQL that takes techniques in.

use aegis_db::{Result, Tx, on};
use chrono::{DateTime, Utc};
use sqlx::{QueryBuilder, types::Json};
use uuid::Uuid;

use super::CHUNK;
use crate::domain::Technique;

/// Takes techniques in, one row an id; a row that is as new already stays. The moment is from [`super::advance`].
pub(crate) async fn take_in(tx: &mut Tx, techniques: &[Technique], at: DateTime<Utc>) -> Result<()> {
    for rows in techniques.chunks(CHUNK) {
        on!(tx, |c| {
            let mut query = QueryBuilder::new(
                "INSERT INTO technique (id, mitre_id, name, status, active, deleted, platforms, tactics, domain, \
                 parent_mitre_id, revoked_by, version, taken_at) ",
            );
            query.push_values(rows, |mut row, technique| {
                row.push_bind(technique.id)
                    .push_bind(&technique.mitre_id)
                    .push_bind(&technique.name)
                    .push_bind(technique.status.as_str())
                    .push_bind(technique.active)
                    .push_bind(technique.deleted)
                    .push_bind(Json(&technique.platforms))
                    .push_bind(Json(&technique.tactics))
                    .push_bind(&technique.domain)
                    .push_bind(&technique.parent_mitre_id)
                    .push_bind(&technique.revoked_by)
                    .push_bind(technique.version)
                    .push_bind(at);
            });
            query.push(
                " ON CONFLICT (id) DO UPDATE SET mitre_id = excluded.mitre_id, name = excluded.name, \
                 status = excluded.status, active = excluded.active, deleted = excluded.deleted, \
                 platforms = excluded.platforms, tactics = excluded.tactics, domain = excluded.domain, \
                 parent_mitre_id = excluded.parent_mitre_id, revoked_by = excluded.revoked_by, \
                 version = excluded.version, taken_at = excluded.taken_at WHERE excluded.version > technique.version",
            );
            query.build().persistent(rows.len() == 1).execute(c).await.map(|_| ())
        })?;
    }
    Ok(())
}

/// Removes the techniques that were taken in up to a moment, but for some: these count as taken in at `at`, which is later.
pub(crate) async fn remove_until(tx: &mut Tx, moment: DateTime<Utc>, spared: &[Uuid], at: DateTime<Utc>) -> Result<()> {
    for ids in spared.chunks(CHUNK) {
        on!(tx, |c| {
            let mut query = QueryBuilder::new("UPDATE technique SET taken_at = ");
            query.push_bind(at).push(" WHERE id IN (");
            let mut list = query.separated(", ");
            for id in ids {
                list.push_bind(*id);
            }
            query.push(")");
            query.build().persistent(false).execute(c).await.map(|_| ())
        })?;
    }
    on!(tx, |c| sqlx::query("DELETE FROM technique WHERE taken_at <= $1").bind(moment).execute(c).await.map(|_| ()))?;
    Ok(())
}
