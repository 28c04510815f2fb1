//! Opens a service's database from its URL.

use std::{path::Path, str::FromStr, sync::Arc, time::Duration};

use sqlx::{
    Connection,
    postgres::{PgConnectOptions, PgPoolOptions},
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous},
};

use crate::{Db, Error, Result, SqliteDb, checkpoint, durable::GroupSync};

/// How a database is opened.
#[derive(Clone, Debug)]
pub struct DbOptions {
    /// Most connections of a PostgreSQL pool, or most readers of a SQLite file.
    pub max_connections: u32,
    /// How long a request waits for a connection.
    pub acquire_timeout: Duration,
    /// Certificates of a private CA (PEM) that PostgreSQL's may be of, where its URL names none (`sslrootcert`).
    pub roots: Option<Vec<u8>>,
}

impl Default for DbOptions {
    fn default() -> Self {
        DbOptions { max_connections: 8, acquire_timeout: Duration::from_secs(5), roots: None }
    }
}

impl Db {
    /// Opens the SQLite file at `path`, which is made if it is not there.
    pub async fn sqlite(path: &Path, options: &DbOptions) -> Result<Db> {
        let base = SqliteConnectOptions::new()
            .filename(path)
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            // The flush at commit is ours: see `durable`.
            .synchronous(SqliteSynchronous::Normal)
            .foreign_keys(true)
            .busy_timeout(Duration::from_secs(5))
            // An index of a hundred thousand rows: to count what a filter fits is to walk one.
            .pragma("cache_size", "-8192")
            .pragma("temp_store", "MEMORY")
            .pragma("journal_size_limit", "67108864")
            .statement_cache_capacity(256)
            // Rows cross threads one by one; with a short queue both sides sleep and wake all the time on a long page.
            .row_buffer_size(1024);
        let write = SqlitePoolOptions::new()
            .max_connections(1)
            .min_connections(1)
            .acquire_timeout(options.acquire_timeout.max(Duration::from_secs(10)))
            .idle_timeout(None)
            .max_lifetime(None)
            // Where the disk was full, SQLite has rolled back by itself, and the driver waits on that connection for the end
            // of a transaction that is none: it would begin no other one for good.
            .before_acquire(|connection, _| {
                let broken = connection.is_in_transaction();
                if broken {
                    tracing::warn!("a connection of SQLite is opened anew after a transaction that broke off");
                }
                Box::pin(std::future::ready(Ok(!broken)))
            })
            // Room for the pages that one large import touches: what does not fit is written and read again in between.
            // The log is carried over beside the writer: see `checkpoint`.
            .connect_with(base.clone().pragma("cache_size", "-32768").pragma("wal_autocheckpoint", "16000"))
            .await?;
        // The log appears with the first write.
        sqlx::raw_sql("CREATE TABLE IF NOT EXISTS opened (at INTEGER); DROP TABLE opened;").execute(&write).await?;
        let read = SqlitePoolOptions::new()
            .max_connections(options.max_connections)
            .min_connections(1)
            .acquire_timeout(options.acquire_timeout)
            .idle_timeout(Duration::from_secs(60))
            .max_lifetime(None)
            .connect_with(base.pragma("query_only", "ON"))
            .await?;
        let mut log = path.as_os_str().to_owned();
        log.push("-wal");
        let sync = Arc::new(GroupSync::open(Path::new(&log))?);
        tokio::spawn(checkpoint::run(read.clone(), Arc::downgrade(&sync)));
        Ok(Db::Sqlite(SqliteDb { read, write, sync }))
    }

    /// A SQLite database in memory, for tests. Readers share the writer's connection.
    pub async fn memory() -> Result<Db> {
        let options = SqliteConnectOptions::from_str("sqlite::memory:")?.foreign_keys(true);
        let pool = SqlitePoolOptions::new()
            .max_connections(1)
            .idle_timeout(None)
            .max_lifetime(None)
            .connect_with(options)
            .await?;
        Ok(Db::Sqlite(SqliteDb { read: pool.clone(), write: pool, sync: Arc::new(GroupSync::none()) }))
    }

    /// Opens a schema of a PostgreSQL database. The schema is made if it is not there and the role may.
    ///
    /// Connections are opened when they are needed: a database that is down is an error of the query, not of this.
    pub async fn postgres(url: &str, schema: &str, options: &DbOptions) -> Result<Db> {
        if !schema.chars().all(|c| c.is_ascii_lowercase() || c == '_') {
            return Err(Error::Config(format!("'{schema}' is no name of a schema")));
        }
        let connect = PgConnectOptions::from_str(url)
            .map_err(|e| Error::Config(format!("the database URL cannot be read: {e}")))?
            .application_name(&format!("aegis-{schema}"))
            .options([("search_path", schema)]);
        let connect = match &options.roots {
            Some(roots) if !url.contains("sslrootcert=") => connect.ssl_root_cert_from_pem(roots.clone()),
            _ => connect,
        };
        let pool = PgPoolOptions::new()
            .max_connections(options.max_connections)
            .acquire_timeout(options.acquire_timeout)
            .connect_lazy_with(connect);
        let exists: Option<i32> = sqlx::query_scalar("SELECT 1 FROM pg_namespace WHERE nspname = $1")
            .bind(schema)
            .fetch_optional(&pool)
            .await?;
        if exists.is_none() {
            // Only letters and underscores, checked above.
            let sql = format!("CREATE SCHEMA IF NOT EXISTS {schema}");
            sqlx::query(sqlx::AssertSqlSafe(sql)).execute(&pool).await?;
        }
        Ok(Db::Postgres(pool))
    }
}
