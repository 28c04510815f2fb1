//! Which data source brought which record.

use std::collections::HashMap;

use aegis_db::{Result, Tx, on};
use sqlx::{QueryBuilder, types::Json};
use uuid::Uuid;

use super::{MAX_BINDS, knowledge_write::kind};
use crate::domain::knowledge::Said;

/// What an origin brought before.
#[derive(Debug)]
pub(crate) struct Known {
    pub id: Uuid,
    pub content_hash: Vec<u8>,
}

/// What an origin brings.
#[derive(Debug)]
pub(crate) struct Brought {
    pub kind: &'static str,
    pub key: String,
    pub id: Uuid,
    pub content_hash: Vec<u8>,
    /// Where others may say something of the same.
    pub content: Option<Said>,
}

/// What an origin brought before, by kind and key.
pub(crate) async fn of(tx: &mut Tx, origin: &str) -> Result<HashMap<&'static str, HashMap<String, Known>>> {
    let rows: Vec<(String, String, Uuid, Vec<u8>)> = on!(tx, |c| sqlx::query_as(
        "SELECT kind, key, knowledge_id, content_hash FROM knowledge_origin WHERE origin = $1"
    )
    .bind(origin)
    .fetch_all(c)
    .await)?;
    let mut known: HashMap<&'static str, HashMap<String, Known>> = HashMap::new();
    for (name, key, id, content_hash) in rows {
        known.entry(kind(&name)?).or_default().insert(key, Known { id, content_hash });
    }
    Ok(known)
}

/// Which other origins brought these records, and what they say of them where that is kept.
pub(crate) async fn besides(tx: &mut Tx, origin: &str, ids: &[Uuid]) -> Result<Vec<(Uuid, String, Option<Said>)>> {
    let mut all = Vec::new();
    for chunk in ids.chunks(MAX_BINDS - 1) {
        let rows: Vec<(Uuid, String, String, Option<Json<Said>>)> = on!(tx, |c| {
            let mut query =
                QueryBuilder::new("SELECT knowledge_id, origin, kind, content FROM knowledge_origin WHERE origin <> ");
            query.push_bind(origin).push(" AND knowledge_id IN (");
            let mut list = query.separated(", ");
            for id in chunk {
                list.push_bind(*id);
            }
            query.push(")");
            query.build_query_as().persistent(false).fetch_all(c).await
        })?;
        for (id, origin, name, said) in rows {
            all.push((id, origin, said.map(|said| named(&name, said.0)).transpose()?));
        }
    }
    Ok(all)
}

/// What every origin says of the records of a kind.
pub(crate) async fn said_of(tx: &mut Tx, of: &str) -> Result<Vec<(String, Said)>> {
    let rows: Vec<(String, Json<Said>)> = on!(tx, |c| sqlx::query_as(
        "SELECT origin, content FROM knowledge_origin WHERE kind = $1 AND content IS NOT NULL"
    )
    .bind(of)
    .fetch_all(c)
    .await)?;
    rows.into_iter().map(|(origin, said)| Ok((origin, named(of, said.0)?))).collect()
}

/// The kind is a column, and not part of what is kept.
fn named(name: &str, mut said: Said) -> Result<Said> {
    said.record.kind = kind(name)?;
    Ok(said)
}

/// Writes what an origin brings.
pub(crate) async fn put(tx: &mut Tx, origin: &str, rows: &[Brought]) -> Result<()> {
    for chunk in rows.chunks(MAX_BINDS / 6) {
        on!(tx, |c| {
            let mut query = QueryBuilder::new(
                "INSERT INTO knowledge_origin (origin, kind, key, knowledge_id, content_hash, content) ",
            );
            query.push_values(chunk, |mut row, brought| {
                row.push_bind(origin)
                    .push_bind(brought.kind)
                    .push_bind(&brought.key)
                    .push_bind(brought.id)
                    .push_bind(&brought.content_hash)
                    .push_bind(brought.content.as_ref().map(Json));
            });
            query.push(
                " ON CONFLICT (origin, kind, key) DO UPDATE SET knowledge_id = excluded.knowledge_id, \
                 content_hash = excluded.content_hash, content = excluded.content",
            );
            query.build().persistent(false).execute(c).await.map(|_| ())
        })?;
    }
    Ok(())
}

/// Forgets that an origin brought these records.
pub(crate) async fn remove(tx: &mut Tx, origin: &str, ids: &[Uuid]) -> Result<()> {
    for chunk in ids.chunks(MAX_BINDS - 1) {
        on!(tx, |c| {
            let mut query = QueryBuilder::new("DELETE FROM knowledge_origin WHERE origin = ");
            query.push_bind(origin).push(" AND knowledge_id IN (");
            let mut list = query.separated(", ");
            for id in chunk {
                list.push_bind(*id);
            }
            query.push(")");
            query.build().persistent(false).execute(c).await.map(|_| ())
        })?;
    }
    Ok(())
}
