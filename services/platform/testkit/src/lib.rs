//! What tests stand on: databases of their own on every backend, contexts of every role, the folder of real documents.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that cannot be set up must fail")]

use std::path::{Path, PathBuf};

use aegis_auth::{Bearer, OpCtx, Origin, Principal, Role};
use aegis_db::{Db, DbOptions, Migrations};
use chrono::{TimeDelta, Utc};
use sqlx::{AssertSqlSafe, Connection, PgConnection};
use tempfile::TempDir;
use url::Url;
use uuid::Uuid;

/// Names the PostgreSQL server on which the tests make their databases: a URL whose user may create databases.
pub const POSTGRES_URL: &str = "AEGIS_TEST_POSTGRES_URL";
/// Names the folder of real documents where it is not beside the workspace.
pub const DATA: &str = "AEGIS_TEST_DATA";

/// A database that only one test uses. It goes with [`TestDb::close`], or at the latest when this is dropped.
pub struct TestDb {
    /// `sqlite` or `postgres`.
    pub name: &'static str,
    /// The database, migrated.
    pub db: Db,
    home: Home,
}

enum Home {
    Folder { _folder: TempDir },
    Server { admin: Url, database: String },
    Gone,
}

/// A fresh, migrated database on SQLite, and one on PostgreSQL where [`POSTGRES_URL`] names a server.
pub async fn databases(schema: &str, migrations: &[Migrations]) -> Vec<TestDb> {
    let mut all = vec![sqlite(schema).await];
    match std::env::var(POSTGRES_URL) {
        Ok(url) if !url.is_empty() => all.push(postgres(&url, schema).await),
        _ => println!("skipped on PostgreSQL: {POSTGRES_URL} names no server"),
    }
    for one in &all {
        one.db.migrate(migrations).await.unwrap_or_else(|e| panic!("migrations on {}: {e}", one.name));
    }
    all
}

async fn sqlite(schema: &str) -> TestDb {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let file = folder.path().join(format!("{schema}.db"));
    let db = Db::sqlite(&file, &DbOptions::default()).await.expect("a SQLite file");
    TestDb { name: "sqlite", db, home: Home::Folder { _folder: folder } }
}

async fn postgres(url: &str, schema: &str) -> TestDb {
    let admin = Url::parse(url).unwrap_or_else(|e| panic!("{POSTGRES_URL} is no URL: {e}"));
    let database = format!("aegis_test_{}", Uuid::new_v4().simple());
    run(&admin, format!("CREATE DATABASE {database}"))
        .await
        .unwrap_or_else(|e| panic!("cannot make a database on the server of {POSTGRES_URL}: {e}"));
    let mut own = admin.clone();
    own.set_path(&database);
    let home = Home::Server { admin, database };
    let db = Db::postgres(own.as_str(), schema, &DbOptions::default()).await.expect("a PostgreSQL database");
    TestDb { name: "postgres", db, home }
}

async fn run(server: &Url, sql: String) -> sqlx::Result<()> {
    let mut connection = PgConnection::connect(server.as_str()).await?;
    sqlx::query(AssertSqlSafe(sql)).execute(&mut connection).await?;
    connection.close().await
}

fn drop_database(database: &str) -> String {
    format!("DROP DATABASE IF EXISTS {database} WITH (FORCE)")
}

impl TestDb {
    /// Closes the connections and removes the database.
    pub async fn close(mut self) {
        self.db.close().await;
        if let Home::Server { admin, database } = std::mem::replace(&mut self.home, Home::Gone) {
            run(&admin, drop_database(&database)).await.expect("the test's database is dropped");
        }
    }
}

impl Drop for TestDb {
    fn drop(&mut self) {
        if let Home::Server { admin, database } = std::mem::replace(&mut self.home, Home::Gone) {
            // A failed test drops this inside its runtime, which cannot be blocked on: hence the thread.
            let _ = std::thread::spawn(move || {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
                runtime.block_on(run(&admin, drop_database(&database))).map_err(std::io::Error::other)
            })
            .join();
        }
    }
}

/// The context of a request by a signed-in user (or, with [`Role::Service`], by a process of the product).
///
/// The same username is the same user id.
pub fn ctx(role: Role, username: &str) -> OpCtx {
    OpCtx::new(Some(principal(role, username)), None, origin(), None)
}

/// Who [`ctx`] says is asking.
pub fn principal(role: Role, username: &str) -> Principal {
    let user_id = if role == Role::Service { Uuid::nil() } else { user_id(username) };
    Principal {
        user_id,
        username: username.to_owned(),
        role,
        jti: Uuid::now_v7(),
        epoch: 0,
        expires_at: Utc::now() + TimeDelta::hours(1),
        must_change_password: false,
        bearer: Bearer::Token,
    }
}

/// The user id that [`ctx`] gives a username.
pub fn user_id(username: &str) -> Uuid {
    let mut bytes = [0; 16];
    for (i, byte) in username.bytes().enumerate() {
        bytes[i % 16] ^= byte.rotate_left(u32::try_from(i / 16).unwrap_or(0));
    }
    uuid::Builder::from_random_bytes(bytes).into_uuid()
}

fn origin() -> Origin {
    Origin {
        address: "192.0.2.1".to_owned(),
        user_agent: "aegis-testkit".to_owned(),
        request_id: Uuid::now_v7().to_string(),
    }
}

/// The folder of real documents (ATT&CK bundles and the like), if it is there; says so where it is not.
pub fn data_dir() -> Option<PathBuf> {
    let folder = match std::env::var_os(DATA) {
        Some(folder) => PathBuf::from(folder),
        None => Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../../shared/data"),
    };
    if folder.is_dir() {
        return Some(folder);
    }
    println!("skipped: the folder of real documents is not there ({DATA} may name it)");
    None
}
