//! Links as rows: what imports read and write.

use std::collections::HashSet;

use aegis_db::{Conn, Result, Tx, on};
use sqlx::{AssertSqlSafe, QueryBuilder, Sqlite};
use uuid::Uuid;

use super::MAX_BINDS;
use crate::domain::knowledge::Link;

/// Links of one statement on PostgreSQL, which takes each column as one array.
const ARRAY: usize = 20_000;
const INSERT: &str =
    "INSERT INTO link (origin, id, from_kind, from_key, relation, to_kind, to_key, description, refs) ";
const COLUMN_COUNT: usize = 9;

/// The links of an origin.
pub(crate) async fn of_origin(tx: &mut Tx, origin: &str) -> Result<HashSet<Uuid>> {
    let ids: Vec<Uuid> =
        on!(tx, |c| sqlx::query_scalar("SELECT id FROM link WHERE origin = $1").bind(origin).fetch_all(c).await)?;
    Ok(ids.into_iter().collect())
}

/// The links of an origin that start from records of kinds and keys.
pub(crate) async fn of_records(tx: &mut Tx, origin: &str, from: &[(&str, &str)]) -> Result<HashSet<Uuid>> {
    let mut ids = HashSet::new();
    for chunk in from.chunks(MAX_BINDS / 2 - 1) {
        let some: Vec<Uuid> = on!(tx, |c| {
            let mut query = QueryBuilder::new("WITH named (of_kind, of_key) AS (");
            query.push_values(chunk, |mut row, (kind, key)| {
                row.push_bind(*kind).push_bind(*key);
            });
            query.push(
                ") SELECT id FROM named CROSS JOIN link WHERE from_kind = of_kind AND from_key = of_key AND origin = ",
            );
            query.push_bind(origin);
            query.build_query_scalar().persistent(false).fetch_all(c).await
        })?;
        ids.extend(some);
    }
    Ok(ids)
}

/// Deletes links of an origin; answers which two each was of, and how they were related.
pub(crate) async fn remove(tx: &mut Tx, origin: &str, ids: &[Uuid]) -> Result<Vec<[String; 5]>> {
    let mut removed = Vec::with_capacity(ids.len());
    for chunk in ids.chunks(MAX_BINDS - 1) {
        let rows: Vec<(String, String, String, String, String)> = on!(tx, |c| {
            let mut query = QueryBuilder::new("DELETE FROM link WHERE origin = ");
            query.push_bind(origin).push(" AND id IN (");
            let mut list = query.separated(", ");
            for id in chunk {
                list.push_bind(*id);
            }
            query.push(") RETURNING from_kind, from_key, relation, to_kind, to_key");
            query.build_query_as().persistent(false).fetch_all(c).await
        })?;
        removed.extend(rows.into_iter().map(|(a, b, c, d, e)| [a, b, c, d, e]));
    }
    Ok(removed)
}

/// Writes new links of an origin. There are tens of thousands, so each database gets them in the way it is fastest.
pub(crate) async fn insert(tx: &mut Tx, origin: &str, links: &[&(Uuid, Link)]) -> Result<()> {
    match tx.conn() {
        Conn::Postgres(c) => {
            for chunk in links.chunks(ARRAY) {
                sqlx::query(AssertSqlSafe(format!(
                    "{INSERT}SELECT $1, l.id, l.from_kind, l.from_key, l.relation, l.to_kind, l.to_key, l.description, \
                     CAST(l.refs AS JSONB) FROM UNNEST($2::UUID[], $3::TEXT[], $4::TEXT[], $5::TEXT[], $6::TEXT[], \
                     $7::TEXT[], $8::TEXT[], $9::TEXT[]) \
                     AS l (id, from_kind, from_key, relation, to_kind, to_key, description, refs)",
                )))
                .bind(origin)
                .bind(chunk.iter().map(|(id, _)| *id).collect::<Vec<_>>())
                .bind(chunk.iter().map(|(_, link)| link.from_kind).collect::<Vec<_>>())
                .bind(chunk.iter().map(|(_, link)| link.from_key.as_str()).collect::<Vec<_>>())
                .bind(chunk.iter().map(|(_, link)| link.relation).collect::<Vec<_>>())
                .bind(chunk.iter().map(|(_, link)| link.to_kind).collect::<Vec<_>>())
                .bind(chunk.iter().map(|(_, link)| link.to_key.as_str()).collect::<Vec<_>>())
                .bind(chunk.iter().map(|(_, link)| link.description.as_deref()).collect::<Vec<_>>())
                .bind(chunk.iter().map(|(_, link)| link.references.as_str()).collect::<Vec<_>>())
                .execute(&mut *c)
                .await?;
            }
        }
        Conn::Sqlite(c) => {
            for chunk in links.chunks(MAX_BINDS / COLUMN_COUNT) {
                let mut query: QueryBuilder<Sqlite> = QueryBuilder::new(INSERT);
                query.push_values(chunk, |mut row, (id, link)| {
                    row.push_bind(origin)
                        .push_bind(*id)
                        .push_bind(link.from_kind)
                        .push_bind(&link.from_key)
                        .push_bind(link.relation)
                        .push_bind(link.to_kind)
                        .push_bind(&link.to_key)
                        .push_bind(&link.description)
                        .push_bind(&link.references);
                });
                query.build().persistent(false).execute(&mut *c).await?;
            }
        }
    }
    Ok(())
}
