//! All the SQL of the catalogue.

pub(crate) mod dialect;
pub(crate) mod facts;
pub(crate) mod lists;
pub(crate) mod tactics;
pub(crate) mod techniques;
pub(crate) mod templates;

/// Values that one statement of many rows binds at most; both databases take some more.
const MAX_BINDS: usize = 30_000;

/// A text in a row that none of our code writes.
fn unknown_text(column: &str, text: &str) -> aegis_db::Error {
    let text: String = text.chars().take(40).collect();
    aegis_db::Error::Sqlx(sqlx::Error::Decode(format!("column {column} holds '{text}'").into()))
}
