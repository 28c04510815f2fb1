//! One database interface over SQLite and PostgreSQL: pools, transactions, the two-backend macros, migrations, paging.

mod checkpoint;
mod connect;
mod durable;
mod error;
mod look;
mod migrate;
pub mod page;

use std::sync::Arc;

use chrono::{DateTime, SubsecRound, Utc};
use sqlx::{PgPool, Postgres, Sqlite, SqlitePool, Transaction, migrate::Migrator};
use tracing::{Span, field::Empty};

pub use connect::DbOptions;
pub use error::Error;

use durable::GroupSync;

/// The span of background work that goes on for as long as the process does.
const BACKGROUND: &str = "task";

/// What a store answers.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// A service's database. Cheap to clone.
#[derive(Clone, Debug)]
pub enum Db {
    /// A schema of a PostgreSQL database, through a role of its own.
    Postgres(PgPool),
    /// A file of its own.
    Sqlite(SqliteDb),
}

/// One SQLite file: many readers, one writer.
#[derive(Clone, Debug)]
pub struct SqliteDb {
    /// Readers; they never wait for the writer.
    pub read: SqlitePool,
    /// The one writer.
    pub write: SqlitePool,
    sync: Arc<GroupSync>,
}

/// A transaction. Dropped without [`Tx::commit`] it is rolled back.
pub struct Tx {
    inner: TxInner,
    on_commit: Vec<Box<dyn FnOnce() + Send>>,
    span: Span,
}

enum TxInner {
    Postgres(Transaction<'static, Postgres>),
    Sqlite(Transaction<'static, Sqlite>, Arc<GroupSync>),
}

/// The connection inside a [`Tx`], for [`on!`].
pub enum Conn<'a> {
    /// PostgreSQL.
    Postgres(&'a mut sqlx::PgConnection),
    /// SQLite.
    Sqlite(&'a mut sqlx::SqliteConnection),
}

/// Runs one expression on the connection of a [`Tx`], whichever database it is of.
///
/// The connection is a `&mut` of the backend's connection type: an executor once, or `&mut *c` many times.
///
/// ```ignore
/// let row = on!(tx, |c| sqlx::query_as::<_, Row>("SELECT … WHERE id = $1").bind(id).fetch_optional(c).await)?;
/// ```
#[macro_export]
macro_rules! on {
    ($tx:expr, |$c:ident| $body:expr) => {
        match $tx.conn() {
            $crate::Conn::Postgres($c) => $body,
            $crate::Conn::Sqlite($c) => $body,
        }
    };
}

/// Runs one reading expression on a [`Db`] outside of a transaction. The pool is an executor as often as needed.
///
/// ```ignore
/// let rows = read!(db, |pool| sqlx::query_as::<_, Row>("SELECT …").fetch_all(pool).await)?;
/// ```
#[macro_export]
macro_rules! read {
    ($db:expr, |$pool:ident| $body:expr) => {
        match $db {
            $crate::Db::Postgres($pool) => $body,
            $crate::Db::Sqlite(sqlite) => {
                let $pool = &sqlite.read;
                $body
            }
        }
    };
}

/// A crate's migrations for both databases, from `migrations/postgres` and `migrations/sqlite` beside its Cargo.toml.
#[macro_export]
macro_rules! migrations {
    () => {{
        static POSTGRES: sqlx::migrate::Migrator = sqlx::migrate!("migrations/postgres");
        static SQLITE: sqlx::migrate::Migrator = sqlx::migrate!("migrations/sqlite");
        $crate::Migrations { postgres: &POSTGRES, sqlite: &SQLITE }
    }};
}

/// Migrations for both databases.
#[derive(Clone, Copy, Debug)]
pub struct Migrations {
    /// For PostgreSQL.
    pub postgres: &'static Migrator,
    /// For SQLite.
    pub sqlite: &'static Migrator,
}

impl Db {
    /// Begins a transaction that writes. On SQLite it holds the only write lock from the start.
    pub async fn begin(&self) -> Result<Tx> {
        // From here: it may have to wait for a connection.
        let span = self.span();
        let inner = match self {
            Db::Postgres(pool) => TxInner::Postgres(pool.begin().await?),
            Db::Sqlite(sqlite) => {
                TxInner::Sqlite(sqlite.write.begin_with("BEGIN IMMEDIATE").await?, Arc::clone(&sqlite.sync))
            }
        };
        Ok(Tx { inner, on_commit: Vec::new(), span })
    }

    /// Of a transaction that belongs to a request, or to anything else that has a span; background work has none.
    fn span(&self) -> Span {
        let around = Span::current();
        if around.metadata().is_none_or(|around| around.name() == BACKGROUND) {
            return Span::none();
        }
        let system = match self {
            Db::Postgres(_) => "postgresql",
            Db::Sqlite(_) => "sqlite",
        };
        tracing::info_span!("transaction", otel.kind = "client", db.system.name = system, committed = Empty)
    }

    /// Begins a transaction that only reads: all its queries see one state.
    pub async fn begin_read(&self) -> Result<Tx> {
        let inner = match self {
            Db::Postgres(pool) => {
                TxInner::Postgres(pool.begin_with("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY").await?)
            }
            Db::Sqlite(sqlite) => TxInner::Sqlite(sqlite.read.begin().await?, Arc::clone(&sqlite.sync)),
        };
        Ok(Tx { inner, on_commit: Vec::new(), span: Span::none() })
    }

    /// Answers when the database does.
    pub async fn ping(&self) -> Result<()> {
        read!(self, |pool| sqlx::query("SELECT 1").execute(pool).await.map(|_| ()))?;
        Ok(())
    }

    /// Waits until everything committed so far, also by [`Tx::commit_relaxed`], is on the disk.
    pub async fn sync(&self) -> Result<()> {
        match self {
            Db::Postgres(_) => Ok(()),
            Db::Sqlite(sqlite) => sqlite.sync.wait().await,
        }
    }

    /// Its pools of connections, each with what it is for, the connections that somebody has, those that nobody has and
    /// the most that it may have.
    pub fn pools(&self) -> Vec<(&'static str, usize, usize, usize)> {
        fn pool<D: sqlx::Database>(name: &'static str, pool: &sqlx::Pool<D>) -> (&'static str, usize, usize, usize) {
            let (size, idle) = (pool.size() as usize, pool.num_idle());
            (name, size.saturating_sub(idle), idle, pool.options().get_max_connections() as usize)
        }
        match self {
            Db::Postgres(all) => vec![pool("", all)],
            Db::Sqlite(sqlite) => vec![pool("read", &sqlite.read), pool("write", &sqlite.write)],
        }
    }

    /// Closes the pools, after the queries that run.
    pub async fn close(&self) {
        match self {
            Db::Postgres(pool) => pool.close().await,
            Db::Sqlite(sqlite) => {
                sqlite.read.close().await;
                sqlite.write.close().await;
            }
        }
    }
}

impl Tx {
    /// The connection, for [`on!`].
    pub fn conn(&mut self) -> Conn<'_> {
        match &mut self.inner {
            TxInner::Postgres(tx) => Conn::Postgres(tx),
            TxInner::Sqlite(tx, _) => Conn::Sqlite(tx),
        }
    }

    /// What happens because of it comes after this span.
    pub fn span(&self) -> &Span {
        &self.span
    }

    /// Calls `f` right after this transaction has been committed.
    pub fn on_commit(&mut self, f: impl FnOnce() + Send + 'static) {
        self.on_commit.push(Box::new(f));
    }

    /// Commits; when this returns, the change is on the disk.
    pub async fn commit(self) -> Result<()> {
        let span = self.span.clone();
        if let Some(sync) = self.finish().await? {
            sync.wait().await?;
        }
        drop(span);
        Ok(())
    }

    /// Commits without waiting for the disk: the change survives the end of the process, not that of the machine.
    /// For what can be done again, until a [`Db::sync`]. On PostgreSQL the same as [`Tx::commit`].
    pub async fn commit_relaxed(self) -> Result<()> {
        self.finish().await.map(|_| ())
    }

    async fn finish(self) -> Result<Option<Arc<GroupSync>>> {
        let sync = match self.inner {
            TxInner::Postgres(tx) => {
                tx.commit().await?;
                None
            }
            TxInner::Sqlite(tx, sync) => {
                tx.commit().await?;
                sync.written();
                Some(sync)
            }
        };
        self.span.record("committed", true);
        for f in self.on_commit {
            f();
        }
        Ok(sync)
    }

    /// Gives the change up.
    pub async fn rollback(self) -> Result<()> {
        self.span.record("committed", false);
        match self.inner {
            TxInner::Postgres(tx) => tx.rollback().await?,
            TxInner::Sqlite(tx, _) => tx.rollback().await?,
        }
        Ok(())
    }
}

/// The present moment, in the microseconds that both databases keep.
pub fn now() -> DateTime<Utc> {
    Utc::now().trunc_subsecs(6)
}

/// A `LIKE` pattern that finds `text` anywhere, its wildcards taken as plain characters. Use with `ESCAPE '\'`.
pub fn contains_pattern(text: &str) -> String {
    let escaped = text.replace('\\', "\\\\").replace('%', "\\%").replace('_', "\\_");
    format!("%{escaped}%")
}
