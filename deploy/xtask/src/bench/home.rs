//! Where a measured product keeps its data: SQLite files of a temporary folder, or a database of PostgreSQL.

use std::{
    ffi::OsString,
    path::{Path, PathBuf},
    sync::atomic::{AtomicU32, Ordering},
};

use anyhow::{Context, Result};
use sqlx::{
    AssertSqlSafe, ConnectOptions, Connection, Executor, PgConnection, SqliteConnection, postgres::PgConnectOptions,
    sqlite::SqliteConnectOptions,
};
use tempfile::TempDir;
use url::Url;

/// What the products of a run are made of.
#[derive(Clone)]
pub struct Ground {
    /// The product's program.
    pub bin: PathBuf,
    /// Superuser of the server that databases are made on; none is SQLite.
    pub server: Option<Url>,
    /// The publishers' files.
    pub files: PathBuf,
    /// Tests in store where there are to be many.
    pub tests: usize,
    /// Events of decoys in store where there are to be many.
    pub events: u64,
}

/// One product's data. The folder goes when it is dropped.
pub struct Home {
    ground: Ground,
    folder: TempDir,
    /// Superuser, in the product's database.
    database: Option<Url>,
}

impl Home {
    /// Makes an empty one.
    pub async fn make(ground: &Ground) -> Result<Home> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let folder = tempfile::tempdir()?;
        let mut database = None;
        if let Some(server) = &ground.server {
            let name = format!("aegis_bench_{}_{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
            run(server, &format!("CREATE DATABASE {name}")).await?;
            let mut url = server.clone();
            url.set_path(&name);
            database = Some(url);
        }
        Ok(Home { ground: ground.clone(), folder, database })
    }

    /// The product's program.
    pub fn bin(&self) -> &Path {
        &self.ground.bin
    }

    /// The publishers' files.
    pub fn files(&self) -> &Path {
        &self.ground.files
    }

    /// What leads the product's program here.
    pub fn settings(&self) -> Vec<(&'static str, OsString)> {
        let mut settings = vec![("AEGIS_DATA_DIR", self.folder.path().into())];
        if let Some(url) = &self.database {
            // The program sets the schema of each service itself.
            settings.push(("AEGIS_DATABASE_URL", url.as_str().into()));
        }
        settings
    }

    /// Whether this is PostgreSQL.
    pub fn is_postgres(&self) -> bool {
        self.database.is_some()
    }

    /// A folder on the disk of its files, which goes with it.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The file of a service, where it is SQLite.
    pub fn file(&self, service: &str) -> PathBuf {
        self.folder.path().join(format!("{service}.db"))
    }

    /// Opens the file of a service.
    pub async fn sqlite(&self, service: &str) -> Result<SqliteConnection> {
        Ok(SqliteConnectOptions::new().filename(self.file(service)).connect().await?)
    }

    /// Opens the database, with the schema of a service before the others.
    pub async fn postgres(&self, service: &str) -> Result<PgConnection> {
        let url = self.database.as_ref().context("there is no PostgreSQL")?;
        let options: PgConnectOptions = url.as_str().parse()?;
        Ok(options.options([("search_path", service)]).connect().await?)
    }

    /// Takes it away; the product must be stopped.
    pub async fn remove(self) -> Result<()> {
        if let (Some(server), Some(url)) = (&self.ground.server, &self.database) {
            run(server, &format!("DROP DATABASE {} WITH (FORCE)", url.path().trim_start_matches('/'))).await?;
        }
        // Gigabytes; an error here is not to be overlooked.
        self.folder.close()?;
        Ok(())
    }
}

async fn run(server: &Url, statement: &str) -> Result<()> {
    let mut connection = PgConnection::connect(server.as_str()).await?;
    connection.execute(AssertSqlSafe(statement.to_owned())).await?;
    connection.close().await?;
    Ok(())
}
