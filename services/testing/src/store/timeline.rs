//! The timeline of a test.

use aegis_db::{Db, Result, Tx, on, read};
use chrono::{DateTime, Utc};
use serde_json::Value;
use sqlx::{QueryBuilder, types::Json};
use uuid::Uuid;

use super::page_of;

/// One thing that happened to a test.
#[derive(Clone, Debug, PartialEq, sqlx::FromRow)]
pub struct Entry {
    /// Its own id.
    pub id: Uuid,
    /// The test.
    pub test_id: Uuid,
    /// When.
    pub at: DateTime<Utc>,
    /// created | transition | edit | vote | evidence | comment | assignment | retest
    pub kind: String,
    /// Who; none for background work.
    pub actor_id: Option<Uuid>,
    /// Username, or the service's name.
    pub actor: String,
    /// What, as a JSON object.
    pub details: Json<Value>,
}

/// Rows of one statement, each with seven values.
const INSERT_ROWS: usize = 500;

/// Adds entries.
pub async fn add(tx: &mut Tx, entries: &[Entry]) -> Result<()> {
    for entries in entries.chunks(INSERT_ROWS) {
        on!(tx, |c| {
            let mut query =
                QueryBuilder::new("INSERT INTO timeline (id, test_id, at, kind, actor_id, actor, details) ");
            query.push_values(entries, |mut row, entry| {
                row.push_bind(entry.id);
                row.push_bind(entry.test_id);
                row.push_bind(entry.at);
                row.push_bind(&entry.kind);
                row.push_bind(entry.actor_id);
                row.push_bind(&entry.actor);
                row.push_bind(&entry.details);
            });
            query.build().persistent(entries.len() == 1).execute(c).await.map(|_| ())
        })?;
    }
    Ok(())
}

/// Entries of a test, oldest first, that come after `after`; and whether there are more.
pub async fn list(
    db: &Db,
    test_id: Uuid,
    after: Option<(DateTime<Utc>, Uuid)>,
    skip: i64,
    limit: i64,
) -> Result<(Vec<Entry>, bool)> {
    let rows = usize::try_from(limit).unwrap_or(0);
    Ok(read!(db, |pool| {
        let mut query =
            QueryBuilder::new("SELECT id, test_id, at, kind, actor_id, actor, details FROM timeline WHERE test_id = ");
        query.push_bind(test_id);
        if let Some((at, id)) = after {
            query.push(" AND (at, id) > (").push_bind(at).push(", ").push_bind(id).push(")");
        }
        query.push(" ORDER BY at, id LIMIT ").push_bind(limit + 1);
        query.push(" OFFSET ").push_bind(skip);
        let found = query.build_query_as::<Entry>().fetch(pool);
        page_of(found, rows, |entry| text_bytes(&entry.details.0)).await
    })?)
}

/// How many entries a test has.
pub async fn count(db: &Db, test_id: Uuid) -> Result<i64> {
    Ok(read!(db, |pool| sqlx::query_scalar("SELECT COUNT(*) FROM timeline WHERE test_id = $1")
        .bind(test_id)
        .fetch_one(pool)
        .await)?)
}

fn text_bytes(value: &Value) -> usize {
    match value {
        Value::String(text) => text.len(),
        Value::Array(values) => values.iter().map(text_bytes).sum(),
        Value::Object(values) => values.iter().map(|(key, value)| key.len() + text_bytes(value)).sum(),
        _ => 8,
    }
}
