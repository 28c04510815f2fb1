//! Templates as rows.

use std::collections::HashMap;

use aegis_db::{Db, Result, Tx, contains_pattern, on, read};
use chrono::{DateTime, Utc};
use sqlx::{
    AssertSqlSafe, Database, Encode, QueryBuilder, Type,
    types::{Json, JsonRawValue},
};
use uuid::Uuid;

use super::{MAX_BINDS, dialect, knowledge::SEVERITY, search::Ask};
use crate::domain::{
    search::{TEMPLATE, Words},
    template::{AEGIS, Template},
};

/// The columns of a [`Row`].
const COLUMNS: &str = "id, name, description, source, source_id, mitre_technique_id, platforms, severity, \
     attack_procedure, tool_suggested, suggested_remediation, expected_detection, cleanup_procedure, \
     CAST(details AS TEXT) AS details, origin, content_hash, vanished, is_active, version, created_at, updated_at";
/// For writing, and how many they are.
const INSERT: &str = "INSERT INTO template (id, name, description, source, source_id, mitre_technique_id, platform, \
     platforms, severity, attack_procedure, tool_suggested, suggested_remediation, expected_detection, \
     cleanup_procedure, details, origin, content_hash, vanished, is_active, version, created_at, updated_at) ";
const COLUMN_COUNT: usize = 22;
/// What a person set stays.
const UPSERT: &str = " ON CONFLICT (id) DO UPDATE SET name = excluded.name, description = excluded.description, \
     mitre_technique_id = excluded.mitre_technique_id, platform = excluded.platform, \
     platforms = excluded.platforms, severity = excluded.severity, attack_procedure = excluded.attack_procedure, \
     tool_suggested = excluded.tool_suggested, suggested_remediation = excluded.suggested_remediation, \
     expected_detection = excluded.expected_detection, cleanup_procedure = excluded.cleanup_procedure, \
     details = excluded.details, origin = excluded.origin, content_hash = excluded.content_hash, \
     vanished = excluded.vanished, version = template.version + 1, updated_at = excluded.updated_at";

#[derive(sqlx::FromRow)]
struct Row {
    id: Uuid,
    name: String,
    description: Option<String>,
    source: String,
    source_id: String,
    mitre_technique_id: String,
    platforms: Json<Vec<String>>,
    severity: String,
    attack_procedure: Option<String>,
    tool_suggested: Option<String>,
    suggested_remediation: Option<String>,
    expected_detection: Option<String>,
    cleanup_procedure: Option<String>,
    details: String,
    origin: Option<String>,
    content_hash: Option<Vec<u8>>,
    vanished: bool,
    is_active: bool,
    version: i64,
    created_at: DateTime<Utc>,
    updated_at: DateTime<Utc>,
}

impl From<Row> for Template {
    fn from(row: Row) -> Template {
        Template {
            id: row.id,
            name: row.name,
            description: row.description,
            source: row.source,
            source_id: row.source_id,
            mitre_technique_id: row.mitre_technique_id,
            platforms: row.platforms.0,
            severity: row.severity,
            attack_procedure: row.attack_procedure,
            tool_suggested: row.tool_suggested,
            suggested_remediation: row.suggested_remediation,
            expected_detection: row.expected_detection,
            cleanup_procedure: row.cleanup_procedure,
            details: row.details,
            origin: row.origin,
            content_hash: row.content_hash,
            vanished: row.vanished,
            is_active: row.is_active,
            version: row.version,
            created_at: row.created_at,
            updated_at: row.updated_at,
        }
    }
}

/// Which templates; what is `None` is not asked for. Those that vanished from their source are left out.
#[derive(Clone, Debug, Default)]
pub(crate) struct Filter {
    pub source: Option<String>,
    /// Lower case.
    pub platform: Option<String>,
    pub severity: Option<String>,
    /// Lower case; in name, description, technique or procedure.
    pub search: Option<String>,
    pub mitre_technique_id: Option<String>,
    pub is_active: Option<bool>,
    /// Whether it goes down. `None`: the best first in a search, else by technique and name.
    pub sort: Option<(Sort, bool)>,
}

/// What templates are sorted by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sort {
    Name,
    Severity,
    MitreTechniqueId,
    Updated,
}

/// The conditions of a list. `ranked` is whether there is a table of what has the words.
fn conditions<DB>(query: &mut QueryBuilder<DB>, filter: &Filter, ranked: bool)
where
    DB: Database,
    for<'q> String: Encode<'q, DB> + Type<DB>,
    for<'q> bool: Encode<'q, DB> + Type<DB>,
{
    query.push(" FROM template");
    if ranked {
        query.push(" LEFT JOIN ranked r ON r.entry_id = template.id");
    }
    query.push(" WHERE vanished = FALSE");
    if let Some(platform) = &filter.platform {
        query.push(" AND id IN (SELECT template_id FROM template_platform WHERE platform = ");
        query.push_bind(platform.clone()).push(")");
    }
    for (column, value) in
        [("source", &filter.source), ("severity", &filter.severity), ("mitre_technique_id", &filter.mitre_technique_id)]
    {
        if let Some(value) = value {
            query.push(format_args!(" AND {column} = ")).push_bind(value.clone());
        }
    }
    if let Some(flag) = filter.is_active {
        query.push(" AND is_active = ").push_bind(flag);
    }
    if let Some(search) = &filter.search {
        // There are few: a part of a word is found too, and what is switched off has no words sorted in.
        let pattern = contains_pattern(search);
        query.push(if ranked { " AND (r.tier IS NOT NULL" } else { " AND (FALSE" });
        for column in ["name", "description", "mitre_technique_id", "attack_procedure"] {
            query.push(format_args!(" OR LOWER({column}) LIKE ")).push_bind(pattern.clone()).push(" ESCAPE '\\'");
        }
        query.push(")");
    }
}

fn push_order<DB>(query: &mut QueryBuilder<DB>, filter: &Filter, ranked: bool)
where
    DB: Database,
    for<'q> String: Encode<'q, DB> + Type<DB>,
{
    query.push(" ORDER BY ");
    if let (Some(search), None) = (&filter.search, filter.sort) {
        query.push("CASE WHEN LOWER(mitre_technique_id) = ").push_bind(search.clone());
        query.push(" THEN 0 ELSE 1 END, ").push(if ranked { "COALESCE(r.tier, 6), r.score, " } else { "" });
    }
    let (column, down) = match filter.sort {
        None | Some((Sort::MitreTechniqueId, false)) => ("", false),
        Some((Sort::MitreTechniqueId, true)) => ("mitre_technique_id", true),
        Some((Sort::Name, down)) => ("name", down),
        Some((Sort::Severity, down)) => (SEVERITY, down),
        Some((Sort::Updated, down)) => ("updated_at", down),
    };
    query.push(column).push(match (column, down) {
        ("", _) => "",
        (_, true) => " DESC, ",
        (_, false) => ", ",
    });
    query.push("mitre_technique_id, name, id");
}

/// A page of templates, and how many there are in all.
pub(crate) async fn list(db: &Db, filter: &Filter, limit: i64, offset: i64) -> Result<(Vec<Template>, i64)> {
    let words = filter.search.as_deref().and_then(Words::parse);
    let ask = words.as_ref().map(|words| Ask::all_of(db, words, &[TEMPLATE]));
    let rows: Vec<Row> = read!(db, |pool| {
        let mut query = QueryBuilder::new("");
        if let Some(ask) = ask {
            ask.push_ranked(&mut query);
        }
        query.push("SELECT ").push(COLUMNS);
        conditions(&mut query, filter, ask.is_some());
        push_order(&mut query, filter, ask.is_some());
        query.push(" LIMIT ").push_bind(limit).push(" OFFSET ").push_bind(offset);
        query.build_query_as().fetch_all(pool).await
    })?;
    let total = read!(db, |pool| {
        let mut query = QueryBuilder::new("");
        if let Some(ask) = ask {
            ask.push_ranked(&mut query);
        }
        query.push("SELECT COUNT(*)");
        conditions(&mut query, filter, ask.is_some());
        query.build_query_scalar::<i64>().fetch_one(pool).await
    })?;
    Ok((rows.into_iter().map(Template::from).collect(), total))
}

/// The best `most` templates of each of these techniques that people may make tests of, by technique and best first.
/// With a platform: of those that name it, or that name none.
pub(crate) async fn best(db: &Db, mitre_ids: &[String], most: i64, platform: Option<&str>) -> Result<Vec<Template>> {
    let mut best = Vec::new();
    for chunk in mitre_ids.chunks(MAX_BINDS - 2) {
        let rows: Vec<Row> = read!(db, |pool| {
            let mut query = QueryBuilder::new("SELECT ");
            query.push(COLUMNS).push(
                " FROM template JOIN (SELECT t.id AS picked, ROW_NUMBER() OVER (PARTITION BY t.mitre_technique_id \
                 ORDER BY CASE t.source WHEN 'custom' THEN 0 WHEN 'aegis' THEN 1 WHEN 'atomic_red_team' THEN 2 \
                 WHEN 'caldera' THEN 3 WHEN 'lolbas' THEN 4 ELSE 5 END, t.name, t.id) AS place FROM template t \
                 WHERE t.is_active = TRUE AND t.vanished = FALSE AND t.mitre_technique_id IN (",
            );
            let mut list = query.separated(", ");
            for id in chunk {
                list.push_bind(id);
            }
            query.push(")");
            if let Some(platform) = platform {
                query.push(
                    " AND (NOT EXISTS (SELECT 1 FROM template_platform p WHERE p.template_id = t.id) OR EXISTS \
                     (SELECT 1 FROM template_platform p WHERE p.template_id = t.id AND p.platform = ",
                );
                query.push_bind(platform).push("))");
            }
            query.push(") best ON best.picked = template.id WHERE best.place <= ").push_bind(most);
            query.push(" ORDER BY mitre_technique_id, best.place");
            query.build_query_as().persistent(false).fetch_all(pool).await
        })?;
        best.extend(rows.into_iter().map(Template::from));
    }
    Ok(best)
}

/// The template with an id.
pub(crate) async fn by_id(db: &Db, id: Uuid) -> Result<Option<Template>> {
    let sql = format!("SELECT {COLUMNS} FROM template WHERE id = $1");
    let row = read!(db, |pool| sqlx::query_as::<_, Row>(AssertSqlSafe(sql)).bind(id).fetch_optional(pool).await)?;
    Ok(row.map(Template::from))
}

/// The template with an id, held until the end of the transaction.
pub(crate) async fn lock_by_id(tx: &mut Tx, id: Uuid) -> Result<Option<Template>> {
    let sql = format!("SELECT {COLUMNS} FROM template WHERE id = $1{}", dialect::for_update(tx));
    let row = on!(tx, |c| sqlx::query_as::<_, Row>(AssertSqlSafe(sql)).bind(id).fetch_optional(c).await)?;
    Ok(row.map(Template::from))
}

/// Whether there is any template that is part of the product.
pub(crate) async fn any_starter(tx: &mut Tx) -> Result<bool> {
    let one: Option<i32> = on!(tx, |c| sqlx::query_scalar("SELECT 1 FROM template WHERE source = $1 LIMIT 1")
        .bind(AEGIS)
        .fetch_optional(c)
        .await)?;
    Ok(one.is_some())
}

/// Writes templates, new and changed, with what filters need of them.
pub(crate) async fn write(tx: &mut Tx, rows: &[Template]) -> Result<()> {
    let details: Vec<&JsonRawValue> = rows
        .iter()
        .map(|t| serde_json::from_str(&t.details))
        .collect::<Result<_, _>>()
        .map_err(|error| aegis_db::Error::Sqlx(sqlx::Error::Encode(Box::new(error))))?;
    let rows_with: Vec<(&Template, &JsonRawValue)> = rows.iter().zip(details).collect();
    for chunk in rows_with.chunks(MAX_BINDS / COLUMN_COUNT) {
        on!(tx, |c| {
            let mut query = QueryBuilder::new(INSERT);
            query.push_values(chunk, |mut row, (t, details)| {
                row.push_bind(t.id)
                    .push_bind(&t.name)
                    .push_bind(&t.description)
                    .push_bind(&t.source)
                    .push_bind(&t.source_id)
                    .push_bind(&t.mitre_technique_id)
                    .push_bind(t.platform())
                    .push_bind(Json(&t.platforms))
                    .push_bind(&t.severity)
                    .push_bind(&t.attack_procedure)
                    .push_bind(&t.tool_suggested)
                    .push_bind(&t.suggested_remediation)
                    .push_bind(&t.expected_detection)
                    .push_bind(&t.cleanup_procedure)
                    .push_bind(Json(*details))
                    .push_bind(&t.origin)
                    .push_bind(&t.content_hash)
                    .push_bind(t.vanished)
                    .push_bind(t.is_active)
                    .push_bind(t.version)
                    .push_bind(t.created_at)
                    .push_bind(t.updated_at);
            });
            query.push(UPSERT);
            query.build().persistent(false).execute(c).await.map(|_| ())
        })?;
    }
    let replaced: Vec<Uuid> = rows.iter().filter(|t| t.version > 1).map(|t| t.id).collect();
    let platforms: Vec<(Uuid, &str)> =
        rows.iter().flat_map(|t| t.platforms.iter().map(|platform| (t.id, platform.as_str()))).collect();
    super::platforms(tx, &super::TEMPLATE_PLATFORM, &replaced, &platforms).await
}

/// What a document is compared with.
#[derive(Debug, sqlx::FromRow)]
pub(crate) struct Known {
    pub id: Uuid,
    pub source_id: String,
    pub origin: Option<String>,
    pub content_hash: Option<Vec<u8>>,
    pub vanished: bool,
    pub version: i64,
    pub is_active: bool,
}

impl Known {
    /// Whether a record of an origin says what is known already.
    pub fn says(&self, origin: &str, content_hash: &[u8]) -> bool {
        !self.vanished && self.origin.as_deref() == Some(origin) && self.content_hash.as_deref() == Some(content_hash)
    }
}

/// The templates of a source.
pub(crate) async fn of_source(tx: &mut Tx, source: &str) -> Result<Vec<Known>> {
    Ok(on!(tx, |c| sqlx::query_as(
        "SELECT id, source_id, origin, content_hash, vanished, version, is_active FROM template WHERE source = $1"
    )
    .bind(source)
    .fetch_all(c)
    .await)?)
}

/// Marks templates that their source no longer has.
pub(crate) async fn vanish(tx: &mut Tx, ids: &[Uuid], now: DateTime<Utc>) -> Result<()> {
    for chunk in ids.chunks(MAX_BINDS - 1) {
        on!(tx, |c| {
            let mut query =
                QueryBuilder::new("UPDATE template SET vanished = TRUE, version = version + 1, updated_at = ");
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

/// How many templates ATT&CK ids have, those that have any.
pub(crate) async fn counts(tx: &mut Tx, mitre_ids: &[&str]) -> Result<HashMap<String, i64>> {
    let mut counts = HashMap::new();
    for chunk in mitre_ids.chunks(MAX_BINDS) {
        let rows: Vec<(String, i64)> = on!(tx, |c| {
            let mut query = QueryBuilder::new(
                "SELECT mitre_technique_id, COUNT(*) FROM template WHERE vanished = FALSE AND mitre_technique_id IN (",
            );
            let mut list = query.separated(", ");
            for id in chunk {
                list.push_bind(*id);
            }
            query.push(") GROUP BY mitre_technique_id");
            query.build_query_as().persistent(false).fetch_all(c).await
        })?;
        counts.extend(rows);
    }
    Ok(counts)
}

/// Writes whether a template is offered. False when somebody else changed it since it was read.
pub(crate) async fn set_active(tx: &mut Tx, t: &Template) -> Result<bool> {
    let rows = on!(tx, |c| sqlx::query(
        "UPDATE template SET is_active = $1, version = $2, updated_at = $3 WHERE id = $4 AND version = $5"
    )
    .bind(t.is_active)
    .bind(t.version)
    .bind(t.updated_at)
    .bind(t.id)
    .bind(t.version - 1)
    .execute(c)
    .await
    .map(|done| done.rows_affected()))?;
    Ok(rows == 1)
}

/// How many templates there are of each source.
#[derive(sqlx::FromRow)]
pub(crate) struct Group {
    pub source: String,
    pub offered: bool,
    pub count: i64,
}

/// The figures that the statistics are made of: by source, and by platform, where a template counts once in each of
/// its own; those of templates without any have no name.
pub(crate) async fn groups(db: &Db) -> Result<(Vec<Group>, Vec<(Option<String>, i64)>)> {
    let groups = read!(db, |pool| sqlx::query_as(
        "SELECT source, (is_active = TRUE AND vanished = FALSE) AS offered, COUNT(*) AS count FROM template \
         GROUP BY source, (is_active = TRUE AND vanished = FALSE)"
    )
    .fetch_all(pool)
    .await)?;
    let platforms = read!(db, |pool| sqlx::query_as(
        "SELECT p.platform, COUNT(*) FROM template t LEFT JOIN template_platform p ON p.template_id = t.id \
         GROUP BY p.platform"
    )
    .fetch_all(pool)
    .await)?;
    Ok((groups, platforms))
}
