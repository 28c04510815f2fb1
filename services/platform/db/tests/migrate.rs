//! Two versions side by side: the older one starts on tables that the newer one has brought further, and works.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking, also in its helpers")]

use std::{path::Path, str::FromStr};

use aegis_db::{Db, DbOptions, Error, Migrations, on, read};
use sqlx::{
    AssertSqlSafe, Connection, Executor, PgConnection, SqlSafeStr,
    migrate::{MigrateError, Migration, MigrationType, Migrator},
    postgres::PgConnectOptions,
};

const FIRST: (i64, &str) = (100, "CREATE TABLE thing (id BIGINT PRIMARY KEY, name TEXT NOT NULL)");
const SECOND: (i64, &str) = (120, "CREATE INDEX thing_name ON thing (name)");
/// Of a newer version of something that this service shares, so between those that the older version knows.
const SHARED: (i64, &str) = (110, "CREATE TABLE shared (id BIGINT PRIMARY KEY)");
/// Expands: what writes without naming the column goes on.
const NEWEST: (i64, &str) = (130, "ALTER TABLE thing ADD COLUMN colour TEXT NOT NULL DEFAULT 'grey'");

/// Of the test's own, on the server of the tests.
const SCHEMA: &str = "aegis_migrate_test";

fn version(migrations: &[(i64, &'static str)]) -> Migrations {
    let migration = |(number, sql): &(i64, &'static str)| {
        Migration::new(*number, "test".into(), MigrationType::Simple, sql.into_sql_str(), false)
    };
    let migrator = Migrator::with_migrations(migrations.iter().map(migration).collect());
    let migrator: &'static Migrator = Box::leak(Box::new(migrator));
    Migrations { postgres: migrator, sqlite: migrator }
}

async fn write(db: &Db, id: i64) {
    let mut tx = db.begin().await.unwrap();
    on!(tx, |c| sqlx::query("INSERT INTO thing (id, name) VALUES ($1, 'one')").bind(id).execute(c).await.map(|_| ()))
        .unwrap();
    tx.commit().await.unwrap();
}

async fn names(db: &Db) -> i64 {
    read!(db, |pool| sqlx::query_scalar("SELECT COUNT(*) FROM thing WHERE name = 'one'").fetch_one(pool).await).unwrap()
}

async fn side_by_side(db: &Db) {
    let (old, new) = (version(&[FIRST, SECOND]), version(&[FIRST, SHARED, SECOND, NEWEST]));
    db.migrate(&[old]).await.unwrap();
    write(db, 1).await;
    // The newer version starts beside it.
    db.migrate(&[new]).await.unwrap();
    write(db, 2).await;
    // A replica of the older one starts again, and again.
    db.migrate(&[old]).await.unwrap();
    db.migrate(&[old]).await.unwrap();
    write(db, 3).await;
    assert_eq!(names(db).await, 3);
    // It took nothing back, and the newer one has nothing to do.
    db.migrate(&[new]).await.unwrap();
    let grey: i64 =
        read!(db, |pool| sqlx::query_scalar("SELECT COUNT(*) FROM thing WHERE colour = 'grey'").fetch_one(pool).await)
            .unwrap();
    assert_eq!(grey, 3);

    // What is known and reads otherwise now is still refused: that is no version of ours, or somebody's mistake.
    let other = version(&[FIRST, (120, "CREATE INDEX thing_name_too ON thing (name)")]);
    match db.migrate(&[other]).await {
        Err(Error::Migrate(MigrateError::VersionMismatch(120))) => {}
        answer => panic!("{answer:?}"),
    }
}

async fn sqlite(folder: &Path) -> Db {
    Db::sqlite(&folder.join("one.db"), &DbOptions::default()).await.unwrap()
}

#[tokio::test]
async fn the_older_version_works_on_sqlite() {
    let folder = tempfile::tempdir().unwrap();
    let db = sqlite(folder.path()).await;
    side_by_side(&db).await;
    // Who only looks sees it, and changes nothing.
    let look = Db::look(&folder.path().join("one.db")).await.unwrap();
    assert_eq!(names(&look).await, 3);
    assert!(look.begin().await.is_err());
    look.close().await;
    assert!(Db::look(&folder.path().join("two.db")).await.is_err());
    assert!(!folder.path().join("two.db").exists(), "looking made a file");
    db.close().await;
}

#[tokio::test]
async fn the_older_version_works_on_postgresql() {
    let Some(url) = std::env::var("AEGIS_TEST_POSTGRES_URL").ok().filter(|url| !url.is_empty()) else {
        println!("skipped on PostgreSQL: AEGIS_TEST_POSTGRES_URL names no server");
        return;
    };
    let drop_schema = || async {
        let options = PgConnectOptions::from_str(&url).unwrap();
        let mut server = PgConnection::connect_with(&options).await.unwrap();
        server.execute(AssertSqlSafe(format!("DROP SCHEMA IF EXISTS {SCHEMA} CASCADE"))).await.unwrap();
        server.close().await.unwrap();
    };
    drop_schema().await;
    let db = Db::postgres(&url, SCHEMA, &DbOptions::default()).await.unwrap();
    side_by_side(&db).await;
    let look = Db::look_postgres(&url, SCHEMA, None).unwrap();
    assert_eq!(names(&look).await, 3);
    let mut tx = look.begin().await.unwrap();
    assert!(on!(tx, |c| sqlx::query("DELETE FROM thing").execute(c).await.map(|_| ())).is_err());
    drop(tx);
    look.close().await;
    db.close().await;
    drop_schema().await;
}
