//! The SQL of the catalogue's Sigma rules, as every process of deception reads them.

use std::collections::{HashMap, HashSet};

use aegis_db::{Db, Result, Tx, on, read};
use sqlx::QueryBuilder;
use uuid::Uuid;

use crate::domain::sigma::Text;

/// Rows of one statement.
const ROWS: usize = 200;

/// How far what is here has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, sqlx::FromRow)]
pub(crate) struct State {
    /// Increases when the catalogue's rules change.
    pub(crate) wanted: i64,
    /// Which of these changes are in here.
    pub(crate) taken: i64,
    /// Increases when something changes here.
    pub(crate) generation: i64,
}

/// A rule of the catalogue.
#[derive(Clone, Debug)]
pub(crate) struct Row {
    pub(crate) id: Uuid,
    pub(crate) version: i64,
    pub(crate) text: Text,
}

/// How far it has come.
pub(crate) async fn state(db: &Db) -> Result<State> {
    const SQL: &str = "SELECT wanted, taken, generation FROM sigma_state WHERE id = 1";
    Ok(read!(db, |pool| sqlx::query_as(SQL).fetch_one(pool).await)?)
}

/// Notes that the catalogue's rules have changed.
pub(crate) async fn want(tx: &mut Tx) -> Result<()> {
    const SQL: &str = "UPDATE sigma_state SET wanted = wanted + 1 WHERE id = 1";
    on!(tx, |c| sqlx::query(SQL).execute(c).await.map(|_| ()))?;
    Ok(())
}

/// All rules by key, and of which generation they are or of a later one.
pub(crate) async fn all(db: &Db) -> Result<(i64, Vec<Text>)> {
    const SQL: &str = "SELECT key, name, author, licence, content FROM sigma_rule ORDER BY key";
    // First: what changes meanwhile is read again.
    let State { generation, .. } = state(db).await?;
    let rows: Vec<(String, String, String, String, String)> =
        read!(db, |pool| sqlx::query_as(SQL).fetch_all(pool).await)?;
    let text = |(key, name, author, licence, content)| Text { key, name, author, licence, content };
    Ok((generation, rows.into_iter().map(text).collect()))
}

/// Keeps exactly these rules, which were asked for when so much was wanted. Whether anything changed; what somebody else
/// asked for later stays.
pub(crate) async fn replace(tx: &mut Tx, wanted: i64, rows: &[Row]) -> Result<bool> {
    // Holds the row: one writes after the other.
    const TAKE: &str = "UPDATE sigma_state SET taken = $1 WHERE id = 1 AND taken <= $1";
    const CHANGED: &str = "UPDATE sigma_state SET generation = generation + 1 WHERE id = 1";
    let newest = on!(tx, |c| sqlx::query(TAKE).bind(wanted).execute(c).await.map(|done| done.rows_affected()))?;
    if newest == 0 {
        return Ok(false);
    }
    let known: Vec<(String, Uuid, i64)> =
        on!(tx, |c| sqlx::query_as("SELECT key, id, version FROM sigma_rule").fetch_all(c).await)?;
    let known: HashMap<&str, (Uuid, i64)> =
        known.iter().map(|(key, id, version)| (key.as_str(), (*id, *version))).collect();
    let keys: HashSet<&str> = rows.iter().map(|row| row.text.key.as_str()).collect();
    let gone: Vec<&str> = known.keys().filter(|key| !keys.contains(*key)).copied().collect();
    let new: Vec<&Row> =
        rows.iter().filter(|row| known.get(row.text.key.as_str()) != Some(&(row.id, row.version))).collect();
    for keys in gone.chunks(ROWS) {
        on!(tx, |c| {
            let mut query = QueryBuilder::new("DELETE FROM sigma_rule WHERE key IN (");
            let mut list = query.separated(", ");
            for key in keys {
                list.push_bind(*key);
            }
            query.push(")");
            query.build().persistent(false).execute(c).await.map(|_| ())
        })?;
    }
    for rows in new.chunks(ROWS) {
        on!(tx, |c| {
            let mut query =
                QueryBuilder::new("INSERT INTO sigma_rule (key, id, version, name, author, licence, content) ");
            query.push_values(rows, |mut into, row| {
                into.push_bind(&row.text.key)
                    .push_bind(row.id)
                    .push_bind(row.version)
                    .push_bind(&row.text.name)
                    .push_bind(&row.text.author)
                    .push_bind(&row.text.licence)
                    .push_bind(&row.text.content);
            });
            query.push(
                " ON CONFLICT (key) DO UPDATE SET id = excluded.id, version = excluded.version, \
                 name = excluded.name, author = excluded.author, licence = excluded.licence, \
                 content = excluded.content",
            );
            query.build().persistent(false).execute(c).await.map(|_| ())
        })?;
    }
    let changed = !gone.is_empty() || !new.is_empty();
    if changed {
        on!(tx, |c| sqlx::query(CHANGED).execute(c).await.map(|_| ()))?;
    }
    Ok(changed)
}
