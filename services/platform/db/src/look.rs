//! Opens a database to look at it and nothing else, beside a product that may hold it.

use std::{path::Path, str::FromStr, sync::Arc, time::Duration};

use sqlx::{
    postgres::{PgConnectOptions, PgPoolOptions},
    sqlite::{SqliteConnectOptions, SqlitePoolOptions},
};

use crate::{Db, Error, Result, SqliteDb, durable::GroupSync};

/// Who only looks does not wait for long.
const PATIENCE: Duration = Duration::from_secs(2);

impl Db {
    /// Opens the SQLite file at `path`, which has to be there; nothing can be written through it.
    pub async fn look(path: &Path) -> Result<Db> {
        let options = SqliteConnectOptions::new()
            .filename(path)
            .create_if_missing(false)
            .busy_timeout(PATIENCE)
            .pragma("query_only", "ON");
        let pool = SqlitePoolOptions::new().max_connections(2).acquire_timeout(PATIENCE).connect_with(options).await?;
        Ok(Db::Sqlite(SqliteDb { read: pool.clone(), write: pool, sync: Arc::new(GroupSync::none()) }))
    }

    /// Opens a schema of a PostgreSQL database, which is not made if it is not there; nothing can be written through
    /// it. `roots`: certificates of a private CA (PEM), as in [`DbOptions`](crate::DbOptions).
    pub fn look_postgres(url: &str, schema: &str, roots: Option<Vec<u8>>) -> Result<Db> {
        let options = PgConnectOptions::from_str(url)
            .map_err(|_| Error::Config("the database URL cannot be read".to_owned()))?
            .application_name("aegis-doctor")
            .options([("search_path", schema), ("default_transaction_read_only", "on")]);
        let options = match roots {
            Some(roots) if !url.contains("sslrootcert=") => options.ssl_root_cert_from_pem(roots),
            _ => options,
        };
        let pool = PgPoolOptions::new().max_connections(2).acquire_timeout(PATIENCE).connect_lazy_with(options);
        Ok(Db::Postgres(pool))
    }
}
