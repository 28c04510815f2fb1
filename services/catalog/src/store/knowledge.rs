//! What is known of techniques, as it is read: lists, single records, links, counts; and the few changes that people
//! make to it.

use std::collections::HashMap;

use aegis_db::{Db, Result, Tx, contains_pattern, on, read};
use chrono::{DateTime, Utc};
use sqlx::{AssertSqlSafe, Database, Encode, QueryBuilder, Type, types::Json};
use uuid::Uuid;

use super::{
    MAX_BINDS, dialect,
    search::Ask,
    techniques::{BRIEF as TECHNIQUE_BRIEF, Row as TechniqueRow, techniques},
};
use crate::domain::{
    search::{TECHNIQUE, Words},
    technique::Technique,
};

/// The columns of a [`Record`], with expressions for the long texts.
macro_rules! columns {
    ($description:literal, $content:literal) => {
        concat!(
            "k.id, k.kind, k.key, k.source, k.source_id, k.name, ",
            $description,
            " AS description, k.aliases, k.platforms, k.url, k.revoked, k.deprecated, k.revoked_by, k.severity, \
             k.status, k.country, k.motivation, k.collection, ",
            $content,
            " AS content, CAST(k.attributes AS TEXT) AS attributes, k.implemented, k.version, k.created_at, k.updated_at"
        )
    };
}
const COLUMNS: &str = columns!("k.description", "k.content");
/// For answers of many.
const BRIEF: &str = columns!("CAST(NULL AS TEXT)", "CAST(NULL AS TEXT)");

/// A record, as it is read.
#[derive(Clone, Debug, PartialEq, sqlx::FromRow)]
pub(crate) struct Record {
    pub id: Uuid,
    pub kind: String,
    pub key: String,
    pub source: String,
    pub source_id: String,
    pub name: String,
    pub description: Option<String>,
    pub aliases: Json<Vec<String>>,
    pub platforms: Json<Vec<String>>,
    pub url: Option<String>,
    pub revoked: bool,
    pub deprecated: bool,
    pub revoked_by: Option<String>,
    pub severity: Option<String>,
    pub status: Option<String>,
    pub country: Option<String>,
    pub motivation: Option<String>,
    pub collection: Option<String>,
    pub content: Option<String>,
    /// An object.
    pub attributes: String,
    pub implemented: bool,
    pub version: i64,
    pub created_at: DateTime<Utc>,
    pub updated_at: DateTime<Utc>,
    /// ATT&CK ids that it is linked with; filled in apart.
    #[sqlx(skip)]
    pub techniques: Vec<String>,
}

/// What lists are sorted by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sort {
    Key,
    Name,
    Severity,
    Updated,
}

/// Which records; what is `None` is not asked for.
#[derive(Clone, Debug)]
pub(crate) struct Filter {
    /// One of [`crate::domain::search::KINDS`] that is a record.
    pub kind: &'static str,
    pub search: Option<Words>,
    pub source: Option<String>,
    pub mitre_technique_id: Option<String>,
    pub severity: Option<String>,
    pub status: Option<String>,
    pub country: Option<String>,
    /// Lower case; a part of it.
    pub motivation: Option<String>,
    pub collection: Option<String>,
    /// Lower case.
    pub platform: Option<String>,
    pub implemented: Option<bool>,
    pub include_revoked: bool,
    /// Whether it goes down. `None`: the best first in a search, else by key.
    pub sort: Option<(Sort, bool)>,
}

/// How bad a severity is.
pub(super) const SEVERITY: &str = "CASE severity WHEN 'informational' THEN 1 WHEN 'low' THEN 2 WHEN 'medium' THEN 3 \
     WHEN 'high' THEN 4 WHEN 'critical' THEN 5 ELSE 0 END";

fn conditions<DB>(query: &mut QueryBuilder<DB>, filter: &Filter)
where
    DB: Database,
    for<'q> String: Encode<'q, DB> + Type<DB>,
    for<'q> &'q str: Encode<'q, DB> + Type<DB>,
    for<'q> bool: Encode<'q, DB> + Type<DB>,
{
    query.push(" FROM knowledge k");
    match &filter.search {
        Some(_) if filter.include_revoked => query.push(" LEFT JOIN ranked r ON r.entry_id = k.id"),
        Some(_) => query.push(" JOIN ranked r ON r.entry_id = k.id"),
        None => query,
    };
    query.push(" WHERE k.kind = ").push_bind(filter.kind);
    if let Some(words) = &filter.search
        && filter.include_revoked
    {
        // What is not active has no words sorted in; there are few of those.
        let pattern = contains_pattern(&words.text);
        query.push(" AND (r.tier IS NOT NULL OR (k.revoked OR k.deprecated) AND (LOWER(k.key) LIKE ");
        query.push_bind(pattern.clone()).push(" ESCAPE '\\' OR LOWER(k.name) LIKE ").push_bind(pattern.clone());
        query.push(" ESCAPE '\\' OR LOWER(CAST(k.aliases AS TEXT)) LIKE ").push_bind(pattern.clone());
        query.push(" ESCAPE '\\' OR LOWER(k.description) LIKE ").push_bind(pattern).push(" ESCAPE '\\'))");
    }
    if !filter.include_revoked {
        query.push(" AND k.revoked = FALSE AND k.deprecated = FALSE");
    }
    for (column, value) in [
        ("source", &filter.source),
        ("severity", &filter.severity),
        ("status", &filter.status),
        ("country", &filter.country),
        ("collection", &filter.collection),
    ] {
        if let Some(value) = value {
            query.push(" AND k.").push(column).push(" = ").push_bind(value.clone());
        }
    }
    if let Some(motivation) = &filter.motivation {
        // An actor can have several: `Espionage, Sabotage`.
        query.push(" AND LOWER(k.motivation) LIKE ").push_bind(contains_pattern(motivation)).push(" ESCAPE '\\'");
    }
    if let Some(flag) = filter.implemented {
        query.push(" AND k.implemented = ").push_bind(flag);
    }
    if let Some(platform) = &filter.platform {
        query.push(" AND k.id IN (SELECT knowledge_id FROM knowledge_platform WHERE platform = ");
        query.push_bind(platform.clone()).push(")");
    }
    if let Some(technique) = &filter.mitre_technique_id {
        query.push(" AND k.key IN (SELECT from_key FROM link WHERE to_kind = 'technique' AND to_key = ");
        query.push_bind(technique.clone()).push(" AND from_kind = ").push_bind(filter.kind).push(")");
    }
}

fn push_order<DB: Database>(query: &mut QueryBuilder<DB>, filter: &Filter) {
    query.push(" ORDER BY ");
    let (column, down) = match filter.sort {
        None if filter.search.is_some() => {
            query.push("COALESCE(r.tier, 6), r.score, k.key, k.id");
            return;
        }
        None => ("k.key", false),
        Some((sort, down)) => {
            let column = match sort {
                Sort::Key => "k.key",
                Sort::Name => "k.name",
                Sort::Severity => SEVERITY,
                Sort::Updated => "k.updated_at",
            };
            (column, down)
        }
    };
    query.push(column).push(if down { " DESC" } else { "" });
    // So that no two rows are equal.
    query.push(match column {
        "k.key" => "",
        "k.name" | "k.updated_at" if down => ", k.id DESC",
        "k.name" | "k.updated_at" => ", k.id",
        _ => ", k.key",
    });
}

/// A page of records without their long texts, and how many there are in all.
pub(crate) async fn list(db: &Db, filter: &Filter, limit: i64, offset: i64) -> Result<(Vec<Record>, i64)> {
    let kinds = [filter.kind];
    let ask = filter.search.as_ref().map(|words| Ask::all_of(db, words, &kinds));
    let rows: Vec<Record> = read!(db, |pool| {
        let mut query = QueryBuilder::new("");
        if let Some(ask) = ask {
            ask.push_ranked(&mut query);
        }
        query.push("SELECT ").push(BRIEF);
        conditions(&mut query, filter);
        push_order(&mut query, filter);
        query.push(" LIMIT ").push_bind(limit).push(" OFFSET ").push_bind(offset);
        query.build_query_as().fetch_all(pool).await
    })?;
    let shown = i64::try_from(rows.len()).unwrap_or(i64::MAX);
    let total = if shown < limit && (shown > 0 || offset == 0) {
        offset + shown
    } else {
        read!(db, |pool| {
            let mut query = QueryBuilder::new("");
            if let Some(ask) = ask {
                ask.push_ranked(&mut query);
            }
            query.push("SELECT COUNT(*)");
            conditions(&mut query, filter);
            query.build_query_scalar::<i64>().fetch_one(pool).await
        })?
    };
    Ok((rows, total))
}

/// The ATT&CK ids that records of one kind are linked with, by their keys.
pub(crate) async fn techniques_of(db: &Db, kind: &str, keys: &[&str]) -> Result<HashMap<String, Vec<String>>> {
    let mut techniques: HashMap<String, Vec<String>> = HashMap::new();
    if keys.is_empty() {
        return Ok(techniques);
    }
    let pairs: Vec<(String, String)> = read!(db, |pool| {
        let mut query = QueryBuilder::new(
            "SELECT DISTINCT from_key, to_key FROM link WHERE to_kind = 'technique' AND from_kind = ",
        );
        query.push_bind(kind.to_owned()).push(" AND from_key IN (");
        let mut list = query.separated(", ");
        // A page has fewer.
        for key in keys.iter().take(MAX_BINDS) {
            list.push_bind((*key).to_owned());
        }
        query.push(") ORDER BY from_key, to_key");
        query.build_query_as().persistent(keys.len() == 1).fetch_all(pool).await
    })?;
    for (key, technique) in pairs {
        techniques.entry(key).or_default().push(technique);
    }
    Ok(techniques)
}

/// The record of a kind with an id of ours.
pub(crate) async fn by_id(db: &Db, kind: &str, id: Uuid) -> Result<Option<Record>> {
    let sql = format!("SELECT {COLUMNS} FROM knowledge k WHERE k.id = $1 AND k.kind = $2");
    Ok(read!(db, |pool| sqlx::query_as(AssertSqlSafe(sql)).bind(id).bind(kind).fetch_optional(pool).await)?)
}

/// The record of a kind with a key: as it is written, else whatever its case.
pub(crate) async fn by_key(db: &Db, kind: &str, key: &str, folded: &str) -> Result<Option<Record>> {
    let sql = format!(
        "SELECT {COLUMNS} FROM knowledge k WHERE k.id IN (SELECT id FROM knowledge WHERE kind = $1 AND key = $2 \
         UNION SELECT id FROM search_entry WHERE lookup = $3 AND kind = $1) \
         ORDER BY CASE WHEN k.key = $2 THEN 0 ELSE 1 END, k.key LIMIT 1"
    );
    Ok(read!(db, |pool| sqlx::query_as(AssertSqlSafe(sql))
        .bind(kind)
        .bind(key)
        .bind(folded)
        .fetch_optional(pool)
        .await)?)
}

/// The record of a kind with an id of ours, held until the end of the transaction.
pub(crate) async fn lock(tx: &mut Tx, kind: &str, id: Uuid) -> Result<Option<Record>> {
    let sql = format!("SELECT {COLUMNS} FROM knowledge k WHERE k.id = $1 AND k.kind = $2{}", dialect::for_update(tx));
    Ok(on!(tx, |c| sqlx::query_as(AssertSqlSafe(sql)).bind(id).bind(kind).fetch_optional(c).await)?)
}

/// Writes whether a countermeasure is implemented. False when somebody else changed it since it was read.
pub(crate) async fn set_implemented(tx: &mut Tx, record: &Record) -> Result<bool> {
    let rows = on!(tx, |c| sqlx::query(
        "UPDATE knowledge SET implemented = $1, version = $2, updated_at = $3 WHERE id = $4 AND version = $5"
    )
    .bind(record.implemented)
    .bind(record.version)
    .bind(record.updated_at)
    .bind(record.id)
    .bind(record.version - 1)
    .execute(c)
    .await
    .map(|done| done.rows_affected()))?;
    Ok(rows == 1)
}

/// Deletes a record with what was said of it; what came of it with the record goes with it.
pub(crate) async fn remove(tx: &mut Tx, record: &Record) -> Result<()> {
    on!(tx, |c| sqlx::query("DELETE FROM link WHERE from_kind = $1 AND from_key = $2")
        .bind(&record.kind)
        .bind(&record.key)
        .execute(c)
        .await
        .map(|_| ()))?;
    on!(tx, |c| sqlx::query("DELETE FROM link WHERE to_kind = $1 AND to_key = $2")
        .bind(&record.kind)
        .bind(&record.key)
        .execute(c)
        .await
        .map(|_| ()))?;
    on!(tx, |c| sqlx::query("DELETE FROM knowledge WHERE id = $1").bind(record.id).execute(c).await.map(|_| ()))?;
    Ok(())
}

/// What is said of a record and another one.
#[derive(Clone, Debug, PartialEq, sqlx::FromRow)]
pub(crate) struct Link {
    pub relation: String,
    /// The record that was asked for is the `from` of the link.
    pub outgoing: bool,
    pub kind: String,
    pub key: String,
    /// `None` where the other end is not known here.
    pub id: Option<Uuid>,
    pub name: Option<String>,
    pub source: Option<String>,
    pub origin: String,
    pub description: Option<String>,
    /// An array.
    pub refs: String,
}

/// Which links.
#[derive(Clone, Debug)]
pub(crate) struct Ends {
    pub kind: String,
    pub key: String,
    pub other_kind: Option<String>,
    /// Those whose other end is revoked or deprecated too.
    pub include_revoked: bool,
}

fn push_ends<DB>(query: &mut QueryBuilder<DB>, ends: &Ends)
where
    DB: Database,
    for<'q> String: Encode<'q, DB> + Type<DB>,
{
    query.push(
        " FROM (SELECT relation, TRUE AS outgoing, to_kind AS kind, to_key AS key, origin, description, refs \
         FROM link WHERE from_kind = ",
    );
    query.push_bind(ends.kind.clone()).push(" AND from_key = ").push_bind(ends.key.clone());
    if let Some(other) = &ends.other_kind {
        query.push(" AND to_kind = ").push_bind(other.clone());
    }
    query.push(
        " UNION ALL SELECT relation, FALSE, from_kind, from_key, origin, description, refs FROM link WHERE to_kind = ",
    );
    query.push_bind(ends.kind.clone()).push(" AND to_key = ").push_bind(ends.key.clone());
    if let Some(other) = &ends.other_kind {
        query.push(" AND from_kind = ").push_bind(other.clone());
    }
    // An id that several matrices use is the enterprise technique's.
    query.push(
        ") e LEFT JOIN knowledge k ON k.kind = e.kind AND k.key = e.key LEFT JOIN technique t ON t.id = \
         (SELECT id FROM technique x WHERE e.kind = 'technique' AND x.mitre_id = e.key \
          ORDER BY CASE x.domain WHEN 'enterprise' THEN 0 WHEN 'mobile' THEN 1 ELSE 2 END LIMIT 1)",
    );
    if !ends.include_revoked {
        query.push(
            " WHERE COALESCE(k.revoked, t.revoked, FALSE) = FALSE \
             AND COALESCE(k.deprecated, t.deprecated, FALSE) = FALSE",
        );
    }
}

/// A page of what a record or a technique is linked with, what is active first, and how many there are in all.
pub(crate) async fn links(db: &Db, ends: &Ends, limit: i64, offset: i64) -> Result<(Vec<Link>, i64)> {
    let rows: Vec<Link> = read!(db, |pool| {
        let mut query = QueryBuilder::new(
            "SELECT e.relation, e.outgoing, e.kind, e.key, COALESCE(k.id, t.id) AS id, COALESCE(k.name, t.name) AS name, \
             COALESCE(k.source, t.source) AS source, e.origin, e.description, CAST(e.refs AS TEXT) AS refs",
        );
        push_ends(&mut query, ends);
        query.push(
            " ORDER BY CASE WHEN COALESCE(k.revoked, t.revoked, FALSE) OR COALESCE(k.deprecated, t.deprecated, FALSE) \
             THEN 1 ELSE 0 END, e.kind, e.key, e.relation, e.origin, e.outgoing LIMIT ",
        );
        query.push_bind(limit).push(" OFFSET ").push_bind(offset);
        query.build_query_as().fetch_all(pool).await
    })?;
    let shown = i64::try_from(rows.len()).unwrap_or(i64::MAX);
    let total = if shown < limit && (shown > 0 || offset == 0) {
        offset + shown
    } else {
        read!(db, |pool| {
            let mut query = QueryBuilder::new("SELECT COUNT(*)");
            push_ends(&mut query, ends);
            query.build_query_scalar::<i64>().fetch_one(pool).await
        })?
    };
    Ok((rows, total))
}

/// How many active records of a kind and source say something of a technique.
#[derive(Clone, Debug, PartialEq, Eq, sqlx::FromRow)]
pub(crate) struct Known {
    pub kind: String,
    pub source: String,
    pub relation: String,
    pub count: i64,
}

/// What is known of a technique, with its templates.
pub(crate) async fn counts(db: &Db, mitre_id: &str) -> Result<Vec<Known>> {
    Ok(read!(db, |pool| sqlx::query_as(
        "SELECT l.from_kind AS kind, k.source, l.relation, COUNT(DISTINCT l.from_key) AS count \
         FROM link l JOIN knowledge k ON k.kind = l.from_kind AND k.key = l.from_key \
         WHERE l.to_kind = 'technique' AND l.to_key = $1 AND k.revoked = FALSE AND k.deprecated = FALSE \
         GROUP BY l.from_kind, k.source, l.relation \
         UNION ALL SELECT 'template', source, 'tests', COUNT(*) FROM template \
         WHERE mitre_technique_id = $1 AND is_active = TRUE AND vanished = FALSE GROUP BY source \
         ORDER BY 1, 2, 3"
    )
    .bind(mitre_id)
    .fetch_all(pool)
    .await)?)
}

/// By what a text may name something.
#[derive(Clone, Debug, sqlx::FromRow)]
pub(crate) struct Name {
    pub key: String,
    pub name: String,
    pub aliases: Json<Vec<String>>,
    pub collection: Option<String>,
}

/// The names of what is active of a kind, after a key, in the order of keys.
pub(crate) async fn names_after(db: &Db, kind: &str, after: &str, limit: i64) -> Result<Vec<Name>> {
    if kind == TECHNIQUE {
        let rows: Vec<(String, String)> = read!(db, |pool| {
            sqlx::query_as(
            "SELECT mitre_id, MIN(name) FROM technique WHERE revoked = FALSE AND deprecated = FALSE AND mitre_id > $1 \
             GROUP BY mitre_id ORDER BY mitre_id LIMIT $2"
        )
        .bind(after)
        .bind(limit)
        .fetch_all(pool)
        .await
        })?;
        let name = |(key, name)| Name { key, name, aliases: Json(Vec::new()), collection: None };
        return Ok(rows.into_iter().map(name).collect());
    }
    Ok(read!(db, |pool| sqlx::query_as(
        "SELECT key, name, aliases, collection FROM knowledge \
         WHERE kind = $1 AND revoked = FALSE AND deprecated = FALSE AND key > $2 ORDER BY key LIMIT $3"
    )
    .bind(kind)
    .bind(after)
    .bind(limit)
    .fetch_all(pool)
    .await)?)
}

/// The active ones of these techniques that are not flagged for review, held until the end of the transaction; without
/// descriptions.
pub(crate) async fn lock_unflagged(tx: &mut Tx, mitre_ids: &[String]) -> Result<Vec<Technique>> {
    let held = dialect::for_update(tx);
    let mut found = Vec::new();
    for chunk in mitre_ids.chunks(MAX_BINDS) {
        let rows: Vec<TechniqueRow> = on!(tx, |c| {
            let mut query = QueryBuilder::new("SELECT ");
            query.push(TECHNIQUE_BRIEF).push(
                " FROM technique WHERE review_required = FALSE AND revoked = FALSE AND deprecated = FALSE \
                 AND mitre_id IN (",
            );
            let mut list = query.separated(", ");
            for id in chunk {
                list.push_bind(id.clone());
            }
            query.push(") ORDER BY id").push(held);
            query.build_query_as().persistent(false).fetch_all(c).await
        })?;
        found.extend(techniques(rows)?);
    }
    Ok(found)
}

/// Flags techniques that were read and held in this transaction.
pub(crate) async fn flag(tx: &mut Tx, ids: &[Uuid], now: DateTime<Utc>) -> Result<()> {
    for chunk in ids.chunks(MAX_BINDS) {
        on!(tx, |c| {
            let mut query =
                QueryBuilder::new("UPDATE technique SET review_required = TRUE, version = version + 1, updated_at = ");
            query.push_bind(now).push(" WHERE id IN (");
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
