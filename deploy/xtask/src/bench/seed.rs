//! Rows that a bench needs by the thousand, written straight into a running product's SQLite files.

use std::path::Path;

use anyhow::Result;
use sqlx::{ConnectOptions, Connection, SqliteConnection, sqlite::SqliteConnectOptions};

/// Makes people `person-00000`, `person-00001` … with the password of `admin`.
pub async fn users(data: &Path, count: usize) -> Result<()> {
    let mut identity = open(data, "identity").await?;
    sqlx::query(
        "WITH RECURSIVE row (n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM row WHERE n + 1 < $1)
         INSERT INTO users (id, username, username_key, email, role, password_hash, is_active,
                            must_change_password, token_epoch, version, created_at, updated_at)
         SELECT randomblob(16), printf('person-%05d', n), printf('person-%05d', n),
                printf('person-%05d@example.org', n), 'viewer', password_hash, TRUE, FALSE, 0, 1,
                created_at, updated_at
         FROM row, users WHERE username_key = 'admin'",
    )
    .bind(i64::try_from(count)?)
    .execute(&mut identity)
    .await?;
    identity.close().await?;
    Ok(())
}

async fn open(data: &Path, service: &str) -> Result<SqliteConnection> {
    let file = data.join(format!("{service}.db"));
    Ok(SqliteConnectOptions::new().filename(file).connect().await?)
}
