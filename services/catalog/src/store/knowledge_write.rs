//! Records of any kind as rows: what imports read and write.

use aegis_db::{Result, Tx, on};
use chrono::{DateTime, Utc};
use serde_json::{Map, Value};
use sqlx::{AssertSqlSafe, QueryBuilder, types::Json};
use uuid::Uuid;

use super::{MAX_BINDS, unknown_text};
use crate::domain::knowledge::{self, Record, Row};

const COLUMNS: &str = "id, kind, key, source, source_id, name, description, aliases, platforms, url, revoked, \
     deprecated, revoked_by, severity, status, country, motivation, collection, content, attributes, implemented, \
     version, created_at, updated_at";
const COLUMN_COUNT: usize = 24;
/// What a person set stays, and so does what somebody else changed meanwhile.
const UPSERT: &str = " ON CONFLICT (id) DO UPDATE SET source = excluded.source, source_id = excluded.source_id, \
     name = excluded.name, description = excluded.description, aliases = excluded.aliases, \
     platforms = excluded.platforms, url = excluded.url, revoked = excluded.revoked, \
     deprecated = excluded.deprecated, revoked_by = excluded.revoked_by, severity = excluded.severity, \
     status = excluded.status, country = excluded.country, motivation = excluded.motivation, \
     collection = excluded.collection, content = excluded.content, attributes = excluded.attributes, \
     version = knowledge.version + 1, updated_at = excluded.updated_at";

#[derive(sqlx::FromRow)]
struct Stored {
    id: Uuid,
    kind: String,
    key: String,
    source: String,
    source_id: String,
    name: String,
    description: Option<String>,
    aliases: Json<Vec<String>>,
    platforms: Json<Vec<String>>,
    url: Option<String>,
    revoked: bool,
    deprecated: bool,
    revoked_by: Option<String>,
    severity: Option<String>,
    status: Option<String>,
    country: Option<String>,
    motivation: Option<String>,
    collection: Option<String>,
    content: Option<String>,
    attributes: Json<Map<String, Value>>,
    implemented: bool,
    version: i64,
    created_at: DateTime<Utc>,
    updated_at: DateTime<Utc>,
}

/// The kind that a column holds.
pub(super) fn kind(text: &str) -> Result<&'static str> {
    match knowledge::kind(text) {
        "" => Err(unknown_text("kind", text)),
        kind => Ok(kind),
    }
}

impl TryFrom<Stored> for Row {
    type Error = aegis_db::Error;

    fn try_from(row: Stored) -> Result<Row> {
        let record = Record {
            kind: kind(&row.kind)?,
            key: row.key,
            source_id: row.source_id,
            name: row.name,
            description: row.description,
            aliases: row.aliases.0,
            platforms: row.platforms.0,
            url: row.url,
            revoked: row.revoked,
            deprecated: row.deprecated,
            revoked_by: row.revoked_by,
            severity: row.severity,
            status: row.status,
            country: row.country,
            motivation: row.motivation,
            collection: row.collection,
            content: row.content,
            attributes: row.attributes.0,
        };
        Ok(Row {
            id: row.id,
            source: row.source,
            record,
            implemented: row.implemented,
            version: row.version,
            created_at: row.created_at,
            updated_at: row.updated_at,
        })
    }
}

/// The rows of kinds and keys, those that there are.
pub(crate) async fn rows(tx: &mut Tx, names: &[(&str, &str)]) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    for chunk in names.chunks(MAX_BINDS / 2) {
        let stored: Vec<Stored> = on!(tx, |c| {
            // The one or the other database looks through the whole table when it is asked for pairs with IN.
            let mut query = QueryBuilder::new("WITH named (of_kind, of_key) AS (");
            query.push_values(chunk, |mut row, (kind, key)| {
                row.push_bind(*kind).push_bind(*key);
            });
            query.push(format_args!(
                ") SELECT {COLUMNS} FROM named CROSS JOIN knowledge WHERE kind = of_kind AND key = of_key"
            ));
            query.build_query_as().persistent(false).fetch_all(c).await
        })?;
        for row in stored {
            rows.push(Row::try_from(row)?);
        }
    }
    Ok(rows)
}

/// All rows of a kind.
pub(crate) async fn of_kind(tx: &mut Tx, kind: &str) -> Result<Vec<Row>> {
    let sql = format!("SELECT {COLUMNS} FROM knowledge WHERE kind = $1 ORDER BY key");
    let rows: Vec<Stored> = on!(tx, |c| sqlx::query_as(AssertSqlSafe(sql)).bind(kind).fetch_all(c).await)?;
    rows.into_iter().map(Row::try_from).collect()
}

/// Writes rows, new and changed, with what filters need of them.
pub(crate) async fn write(tx: &mut Tx, rows: &[Row]) -> Result<()> {
    for chunk in rows.chunks(MAX_BINDS / COLUMN_COUNT) {
        on!(tx, |c| {
            let mut query = QueryBuilder::new(format!("INSERT INTO knowledge ({COLUMNS}) "));
            query.push_values(chunk, |mut row, k| {
                let r = &k.record;
                row.push_bind(k.id)
                    .push_bind(r.kind)
                    .push_bind(&r.key)
                    .push_bind(&k.source)
                    .push_bind(&r.source_id)
                    .push_bind(&r.name)
                    .push_bind(&r.description)
                    .push_bind(Json(&r.aliases))
                    .push_bind(Json(&r.platforms))
                    .push_bind(&r.url)
                    .push_bind(r.revoked)
                    .push_bind(r.deprecated)
                    .push_bind(&r.revoked_by)
                    .push_bind(&r.severity)
                    .push_bind(&r.status)
                    .push_bind(&r.country)
                    .push_bind(&r.motivation)
                    .push_bind(&r.collection)
                    .push_bind(&r.content)
                    .push_bind(Json(&r.attributes))
                    .push_bind(k.implemented)
                    .push_bind(k.version)
                    .push_bind(k.created_at)
                    .push_bind(k.updated_at);
            });
            query.push(UPSERT);
            query.build().persistent(false).execute(c).await.map(|_| ())
        })?;
    }
    let replaced: Vec<Uuid> = rows.iter().filter(|row| row.version > 1).map(|row| row.id).collect();
    let platforms: Vec<(Uuid, &str)> =
        rows.iter().flat_map(|row| row.record.platforms.iter().map(|name| (row.id, name.as_str()))).collect();
    super::platforms(tx, &super::KNOWLEDGE_PLATFORM, &replaced, &platforms).await
}
