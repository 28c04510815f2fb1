//! The SQL of what the catalogue knows of techniques besides.

use std::collections::{BTreeMap, BTreeSet};

use aegis_db::{Db, Result, Tx, on, read};
use sqlx::{QueryBuilder, types::Json};

use super::CHUNK;
use crate::domain::known::Known;

#[derive(sqlx::FromRow)]
struct Row {
    kind: String,
    key: String,
    id: uuid::Uuid,
    name: String,
    collection: String,
    implemented: bool,
    techniques: Json<Vec<String>>,
    parent: String,
    family: String,
    version: String,
    attack_version: String,
    mapping_source: String,
    position: i64,
    mitre_id: String,
}

impl From<Row> for Known {
    fn from(row: Row) -> Known {
        Known {
            kind: row.kind,
            key: row.key,
            id: row.id,
            name: row.name,
            collection: row.collection,
            implemented: row.implemented,
            techniques: row.techniques.0,
            parent: row.parent,
            family: row.family,
            version: row.version,
            attack_version: row.attack_version,
            mapping_source: row.mapping_source,
            position: row.position,
            mitre_id: row.mitre_id,
        }
    }
}

/// Everything.
pub(crate) async fn all(tx: &mut Tx) -> Result<Vec<Known>> {
    let rows: Vec<Row> = on!(tx, |c| sqlx::query_as(
        "SELECT kind, key, id, name, collection, implemented, \
         techniques, parent, family, version, attack_version, mapping_source, position, mitre_id \
         FROM known"
    )
    .fetch_all(c)
    .await)?;
    Ok(rows.into_iter().map(Known::from).collect())
}

/// Marks kinds as due. Those that are not known here are left out.
pub(crate) async fn mark(tx: &mut Tx, kinds: &BTreeSet<String>) -> Result<()> {
    if kinds.is_empty() {
        return Ok(());
    }
    on!(tx, |c| {
        let mut query = QueryBuilder::new("UPDATE known_kind SET marked = marked + 1 WHERE kind IN (");
        let mut list = query.separated(", ");
        for kind in kinds {
            list.push_bind(kind.as_str());
        }
        query.push(")");
        query.build().execute(c).await.map(|_| ())
    })?;
    Ok(())
}

/// The kinds that are due, and the mark that a pull from now on answers.
pub(crate) async fn due(db: &Db) -> Result<BTreeMap<String, i64>> {
    let rows: Vec<(String, i64)> = read!(db, |pool| {
        sqlx::query_as("SELECT kind, marked FROM known_kind WHERE marked > pulled").fetch_all(pool).await
    })?;
    Ok(rows.into_iter().collect())
}

/// All kinds, with their marks.
pub(crate) async fn marks(db: &Db) -> Result<BTreeMap<String, i64>> {
    let rows: Vec<(String, i64)> =
        read!(db, |pool| sqlx::query_as("SELECT kind, marked FROM known_kind").fetch_all(pool).await)?;
    Ok(rows.into_iter().collect())
}

/// Notes that a kind was pulled for this mark; whether nothing newer was.
pub(crate) async fn pulled(tx: &mut Tx, kind: &str, mark: i64) -> Result<bool> {
    let rows = on!(tx, |c| sqlx::query("UPDATE known_kind SET pulled = $1 WHERE kind = $2 AND pulled <= $1")
        .bind(mark)
        .bind(kind)
        .execute(c)
        .await
        .map(|done| done.rows_affected()))?;
    Ok(rows == 1)
}

/// Makes a kind be these records, which are by key; whether that changed anything. What stays as it is is not written.
pub(crate) async fn replace(tx: &mut Tx, kind: &str, records: &BTreeMap<String, Known>) -> Result<bool> {
    let rows: Vec<Row> = on!(tx, |c| sqlx::query_as(
        "SELECT kind, key, id, name, collection, implemented, techniques, parent, \
         family, version, attack_version, mapping_source, position, mitre_id \
         FROM known WHERE kind = $1"
    )
    .bind(kind)
    .fetch_all(c)
    .await)?;
    let held: BTreeMap<String, Known> = rows.into_iter().map(|row| (row.key.clone(), Known::from(row))).collect();
    let gone: Vec<&str> = held.keys().filter(|key| !records.contains_key(*key)).map(String::as_str).collect();
    let new: Vec<&Known> = records.values().filter(|record| held.get(&record.key) != Some(record)).collect();
    for keys in gone.chunks(CHUNK) {
        on!(tx, |c| {
            let mut query = QueryBuilder::new("DELETE FROM known WHERE kind = ");
            query.push_bind(kind).push(" AND key IN (");
            let mut list = query.separated(", ");
            for key in keys {
                list.push_bind(*key);
            }
            query.push(")");
            query.build().persistent(false).execute(c).await.map(|_| ())
        })?;
    }
    for some in new.chunks(CHUNK) {
        write(tx, some).await?;
    }
    Ok(!gone.is_empty() || !new.is_empty())
}

async fn write(tx: &mut Tx, records: &[&Known]) -> Result<()> {
    on!(tx, |c| {
        let mut query = QueryBuilder::new(
            "INSERT INTO known (kind, key, id, name, collection, implemented, techniques, parent, family, version, \
             attack_version, mapping_source, position, mitre_id) ",
        );
        query.push_values(records, |mut row, record| {
            row.push_bind(&record.kind)
                .push_bind(&record.key)
                .push_bind(record.id)
                .push_bind(&record.name)
                .push_bind(&record.collection)
                .push_bind(record.implemented)
                .push_bind(Json(&record.techniques))
                .push_bind(&record.parent)
                .push_bind(&record.family)
                .push_bind(&record.version)
                .push_bind(&record.attack_version)
                .push_bind(&record.mapping_source)
                .push_bind(record.position)
                .push_bind(&record.mitre_id);
        });
        query.push(
            " ON CONFLICT (kind, key) DO UPDATE SET id = excluded.id, name = excluded.name, \
             collection = excluded.collection, implemented = excluded.implemented, techniques = excluded.techniques, \
             parent = excluded.parent, family = excluded.family, version = excluded.version, \
             attack_version = excluded.attack_version, mapping_source = excluded.mapping_source, \
             position = excluded.position, mitre_id = excluded.mitre_id",
        );
        query.build().persistent(false).execute(c).await.map(|_| ())
    })?;
    Ok(())
}

/// What is held in memory elsewhere is old.
pub(crate) async fn revise(tx: &mut Tx) -> Result<()> {
    on!(tx, |c| sqlx::query("UPDATE meta SET knowledge_revision = knowledge_revision + 1")
        .execute(c)
        .await
        .map(|_| ()))?;
    Ok(())
}
