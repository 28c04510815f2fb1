//! One database interface over SQLite and PostgreSQL: pools, transactions, the two-backend macros, migrations, paging.

mod checkpoint;
mod connect;
mod durable;
mod error;
pub mod page;

use std::sync::Arc;

use chrono::{DateTime, SubsecRound, Utc};
use sqlx::{PgPool, Postgres, Sqlite, SqlitePool, Transaction, migrate::Migrator};

pub use connect::DbOptions;
pub use error::Error;

use durable::GroupSync;

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
        let inner = match self {
            Db::Postgres(pool) => TxInner::Postgres(pool.begin().await?),
            Db::Sqlite(sqlite) => {
                TxInner::Sqlite(sqlite.write.begin_with("BEGIN IMMEDIATE").await?, Arc::clone(&sqlite.sync))
            }
        };
        Ok(Tx { inner, on_commit: Vec::new() })
    }

    /// Begins a transaction that only reads: all its queries see one state.
    pub async fn begin_read(&self) -> Result<Tx> {
        let inner = match self {
            Db::Postgres(pool) => {
                TxInner::Postgres(pool.begin_with("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY").await?)
            }
            Db::Sqlite(sqlite) => TxInner::Sqlite(sqlite.read.begin().await?, Arc::clone(&sqlite.sync)),
        };
        Ok(Tx { inner, on_commit: Vec::new() })
    }

    /// Applies the migrations that are missing, of all `sets` together; their version numbers must differ.
    /// One process at a time does it; the others wait.
    pub async fn migrate(&self, sets: &[Migrations]) -> Result<()> {
        let pick = |set: &Migrations| match self {
            Db::Postgres(_) => set.postgres.iter().cloned().collect::<Vec<_>>(),
            Db::Sqlite(_) => set.sqlite.iter().cloned().collect::<Vec<_>>(),
        };
        let migrator = Migrator::with_migrations(sets.iter().flat_map(pick).collect());
        match self {
            Db::Postgres(pool) => migrator.run(pool).await?,
            Db::Sqlite(sqlite) => migrator.run(&sqlite.write).await?,
        }
        Ok(())
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

    /// Calls `f` right after this transaction has been committed.
    pub fn on_commit(&mut self, f: impl FnOnce() + Send + 'static) {
        self.on_commit.push(Box::new(f));
    }

    /// Commits; when this returns, the change is on the disk.
    pub async fn commit(self) -> Result<()> {
        if let Some(sync) = self.finish().await? {
            sync.wait().await?;
        }
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
        for f in self.on_commit {
            f();
        }
        Ok(sync)
    }

    /// Gives the change up.
    pub async fn rollback(self) -> Result<()> {
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
