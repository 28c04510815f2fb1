//! What can be wrong with a statement; each server says it in its own words.

/// Why a statement was refused.
#[derive(Clone, Debug, PartialEq)]
#[allow(missing_docs, reason = "their meaning is their name")]
pub(crate) enum Fault {
    /// `near` is the first text that was not understood, `rest` all from there; `at` counts characters from 1.
    Syntax {
        near: String,
        rest: String,
        line: u64,
        at: usize,
    },
    NoTable {
        schema: Option<String>,
        name: String,
    },
    NoColumn {
        table: Option<String>,
        name: String,
    },
    NoFunction {
        name: String,
        arguments: Vec<&'static str>,
    },
    NoDatabase(String),
    NoSchema(String),
    NoDatabaseSelected,
    NoVariable(String),
    TableExists(String),
    DatabaseExists(String),
    SchemaExists(String),
    ColumnExists {
        column: String,
        table: String,
    },
    /// More expressions than target columns, or fewer; the row counts from 1.
    ValueCount {
        more: bool,
        row: usize,
    },
    NullValue {
        column: String,
        table: String,
    },
    DuplicateKey {
        value: String,
        key: String,
        column: String,
    },
    BadInput {
        kind: &'static str,
        text: String,
    },
    DivisionByZero,
    ManyRows,
    ManyColumns,
    /// Rules such as `SELECT *` without a table.
    Misuse(&'static str),
    ReadOnly(String),
    TooComplex,
    TooMuch,
    Full,
    /// In the server's words already: its number, its state, its text.
    Own(u16, &'static str, String),
}
