//! All the SQL of the catalogue.

pub(crate) mod dialect;
pub(crate) mod export;
pub(crate) mod facts;
pub(crate) mod knowledge;
pub(crate) mod knowledge_write;
pub(crate) mod links;
pub(crate) mod lists;
pub(crate) mod origins;
pub(crate) mod search;
pub(crate) mod tactics;
pub(crate) mod techniques;
pub(crate) mod templates;

use aegis_db::{Tx, on};
use sqlx::QueryBuilder;
use uuid::Uuid;

/// Values that one statement of many rows binds at most; both databases take some more.
const MAX_BINDS: usize = 30_000;

/// A text in a row that none of our code writes.
fn unknown_text(column: &str, text: &str) -> aegis_db::Error {
    let text: String = text.chars().take(40).collect();
    aegis_db::Error::Sqlx(sqlx::Error::Decode(format!("column {column} holds '{text}'").into()))
}

/// A table of platforms to be filtered by.
struct PlatformTable {
    delete: &'static str,
    insert: &'static str,
}

const KNOWLEDGE_PLATFORM: PlatformTable = PlatformTable {
    delete: "DELETE FROM knowledge_platform WHERE knowledge_id IN (",
    insert: "INSERT INTO knowledge_platform (knowledge_id, platform) ",
};
const TEMPLATE_PLATFORM: PlatformTable = PlatformTable {
    delete: "DELETE FROM template_platform WHERE template_id IN (",
    insert: "INSERT INTO template_platform (template_id, platform) ",
};

/// Writes platforms; what was there of `replaced` goes.
async fn platforms(
    tx: &mut Tx,
    table: &PlatformTable,
    replaced: &[Uuid],
    rows: &[(Uuid, &str)],
) -> aegis_db::Result<()> {
    for chunk in replaced.chunks(MAX_BINDS) {
        on!(tx, |c| {
            let mut query = QueryBuilder::new(table.delete);
            let mut list = query.separated(", ");
            for id in chunk {
                list.push_bind(*id);
            }
            query.push(")");
            query.build().persistent(false).execute(c).await.map(|_| ())
        })?;
    }
    for chunk in rows.chunks(MAX_BINDS / 2) {
        on!(tx, |c| {
            let mut query = QueryBuilder::new(table.insert);
            query.push_values(chunk, |mut row, (id, platform)| {
                row.push_bind(*id).push_bind(*platform);
            });
            query.push(" ON CONFLICT DO NOTHING");
            query.build().persistent(false).execute(c).await.map(|_| ())
        })?;
    }
    Ok(())
}
