//! A small database that a decky keeps in memory: enough of SQL for what clients and attackers ask, bounded in all ways.

mod change;
mod expr;
mod fault;
mod functions;
mod parse;
mod seed;
mod select;
mod store;
mod value;

pub(super) use change::Runner;
pub(super) use expr::{Context, like};
pub(super) use fault::Fault;
pub(super) use parse::{looks_like, split, unquote, words};
pub(super) use seed::{Dice, seeded};
pub(super) use select::{Col, Relation};
pub(super) use store::{Catalog, Column, Database, Engine, Table, Undo};
pub(super) use value::{Kind, Value};

/// Whose SQL it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Dialect {
    /// MySQL and MariaDB.
    MySql,
    /// PostgreSQL.
    Postgres,
}

/// What only the server that is played knows.
pub(super) trait Facts: Send + Sync {
    /// A table that the server makes up itself, such as those of `information_schema`.
    fn table(&self, context: &Context<'_>, schema: Option<&str>, name: &str) -> Option<Relation>;

    /// A function of the server; none when it has no such function. The name is in lower case.
    fn function(&self, context: &Context<'_>, name: &str, arguments: &[Value]) -> Option<Result<Value, Fault>>;

    /// A variable of the server, by its name in lower case without `@@`.
    fn variable(&self, context: &Context<'_>, name: &str) -> Option<Value>;
}
