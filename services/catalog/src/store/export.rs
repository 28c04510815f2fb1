//! Records as projections of other services need them, and the texts of rules.

use aegis_db::{Db, Result, read};
use sqlx::types::Json;
use uuid::Uuid;

/// A record without its texts.
#[derive(Clone, Debug, sqlx::FromRow)]
pub(crate) struct Row {
    pub key: String,
    pub id: Uuid,
    pub name: String,
    pub source: String,
    pub collection: Option<String>,
    pub implemented: bool,
    pub aliases: Json<Vec<String>>,
    /// An object; of frameworks and controls only.
    pub attributes: Option<String>,
}

/// The active records of a kind after a key, in the order of keys.
pub(crate) async fn after(db: &Db, kind: &str, key: &str, limit: i64) -> Result<Vec<Row>> {
    Ok(read!(db, |pool| sqlx::query_as(
        "SELECT key, id, name, source, collection, implemented, aliases, \
         CASE WHEN kind IN ('framework', 'control') THEN CAST(attributes AS TEXT) END AS attributes FROM knowledge \
         WHERE kind = $1 AND revoked = FALSE AND deprecated = FALSE AND key > $2 ORDER BY key LIMIT $3"
    )
    .bind(kind)
    .bind(key)
    .bind(limit)
    .fetch_all(pool)
    .await)?)
}

/// A rule with its text.
#[derive(Clone, Debug, sqlx::FromRow)]
pub(crate) struct RuleRow {
    pub key: String,
    pub id: Uuid,
    pub name: String,
    pub source: String,
    pub content: String,
    /// An object.
    pub attributes: String,
    pub version: i64,
}

/// The active rules that have a text, after a key, in the order of keys.
pub(crate) async fn rules_after(db: &Db, key: &str, limit: i64) -> Result<Vec<RuleRow>> {
    Ok(read!(db, |pool| sqlx::query_as(
        "SELECT key, id, name, source, content, CAST(attributes AS TEXT) AS attributes, version FROM knowledge \
         WHERE kind = 'detection_rule' AND revoked = FALSE AND deprecated = FALSE AND content IS NOT NULL AND key > $1 \
         ORDER BY key LIMIT $2"
    )
    .bind(key)
    .bind(limit)
    .fetch_all(pool)
    .await)?)
}
