//! Templates as rows.

use aegis_db::{Db, Result, Tx, contains_pattern, on, read};
use chrono::{DateTime, Utc};
use sqlx::{AssertSqlSafe, Database, Encode, QueryBuilder, Type};
use uuid::Uuid;

use super::{MAX_BINDS, dialect};
use crate::domain::template::{AEGIS, Template};

const COLUMNS: &str = "id, name, description, source, source_id, mitre_technique_id, platform, severity, \
     attack_procedure, tool_suggested, suggested_remediation, expected_detection, cleanup_procedure, is_active, \
     version, created_at, updated_at";
const COLUMN_COUNT: usize = 17;

#[derive(sqlx::FromRow)]
struct Row {
    id: Uuid,
    name: String,
    description: Option<String>,
    source: String,
    source_id: String,
    mitre_technique_id: String,
    platform: Option<String>,
    severity: String,
    attack_procedure: Option<String>,
    tool_suggested: Option<String>,
    suggested_remediation: Option<String>,
    expected_detection: Option<String>,
    cleanup_procedure: Option<String>,
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
            platform: row.platform,
            severity: row.severity,
            attack_procedure: row.attack_procedure,
            tool_suggested: row.tool_suggested,
            suggested_remediation: row.suggested_remediation,
            expected_detection: row.expected_detection,
            cleanup_procedure: row.cleanup_procedure,
            is_active: row.is_active,
            version: row.version,
            created_at: row.created_at,
            updated_at: row.updated_at,
        }
    }
}

/// Which templates; what is `None` is not asked for.
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
}

fn conditions<DB>(query: &mut QueryBuilder<DB>, filter: &Filter)
where
    DB: Database,
    for<'q> String: Encode<'q, DB> + Type<DB>,
    for<'q> bool: Encode<'q, DB> + Type<DB>,
{
    query.push(" FROM template WHERE 1 = 1");
    for (column, value) in [
        ("source", &filter.source),
        ("platform", &filter.platform),
        ("severity", &filter.severity),
        ("mitre_technique_id", &filter.mitre_technique_id),
    ] {
        if let Some(value) = value {
            query.push(format_args!(" AND {column} = ")).push_bind(value.clone());
        }
    }
    if let Some(flag) = filter.is_active {
        query.push(" AND is_active = ").push_bind(flag);
    }
    if let Some(search) = &filter.search {
        let pattern = contains_pattern(search);
        for (joint, column) in
            [(" AND (", "name"), (" OR ", "description"), (" OR ", "mitre_technique_id"), (" OR ", "attack_procedure")]
        {
            query.push(format_args!("{joint}LOWER({column}) LIKE ")).push_bind(pattern.clone()).push(" ESCAPE '\\'");
        }
        query.push(")");
    }
}

/// A page of templates by technique and name, and how many there are in all.
pub(crate) async fn list(db: &Db, filter: &Filter, limit: i64, offset: i64) -> Result<(Vec<Template>, i64)> {
    let rows: Vec<Row> = read!(db, |pool| {
        let mut query = QueryBuilder::new(format!("SELECT {COLUMNS}"));
        conditions(&mut query, filter);
        query.push(" ORDER BY mitre_technique_id, name, id LIMIT ").push_bind(limit);
        query.push(" OFFSET ").push_bind(offset);
        query.build_query_as().fetch_all(pool).await
    })?;
    let total = read!(db, |pool| {
        let mut query = QueryBuilder::new("SELECT COUNT(*)");
        conditions(&mut query, filter);
        query.build_query_scalar::<i64>().fetch_one(pool).await
    })?;
    Ok((rows.into_iter().map(Template::from).collect(), total))
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

/// Writes new templates.
pub(crate) async fn insert(tx: &mut Tx, rows: &[Template]) -> Result<()> {
    for chunk in rows.chunks(MAX_BINDS / COLUMN_COUNT) {
        on!(tx, |c| {
            let mut query = QueryBuilder::new(format!("INSERT INTO template ({COLUMNS}) "));
            query.push_values(chunk, |mut row, t| {
                row.push_bind(t.id)
                    .push_bind(&t.name)
                    .push_bind(&t.description)
                    .push_bind(&t.source)
                    .push_bind(&t.source_id)
                    .push_bind(&t.mitre_technique_id)
                    .push_bind(&t.platform)
                    .push_bind(&t.severity)
                    .push_bind(&t.attack_procedure)
                    .push_bind(&t.tool_suggested)
                    .push_bind(&t.suggested_remediation)
                    .push_bind(&t.expected_detection)
                    .push_bind(&t.cleanup_procedure)
                    .push_bind(t.is_active)
                    .push_bind(t.version)
                    .push_bind(t.created_at)
                    .push_bind(t.updated_at);
            });
            query.build().persistent(false).execute(c).await.map(|_| ())
        })?;
    }
    Ok(())
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

/// How many templates there are of each source and platform.
#[derive(sqlx::FromRow)]
pub(crate) struct Group {
    pub source: String,
    pub platform: Option<String>,
    pub is_active: bool,
    pub count: i64,
}

/// The figures that the statistics are made of.
pub(crate) async fn groups(db: &Db) -> Result<Vec<Group>> {
    let groups = read!(db, |pool| sqlx::query_as(
        "SELECT source, platform, is_active, COUNT(*) AS count FROM template GROUP BY source, platform, is_active"
    )
    .fetch_all(pool)
    .await)?;
    Ok(groups)
}
