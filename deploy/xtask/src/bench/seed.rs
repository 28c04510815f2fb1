//! Rows that a bench needs by the thousand or the million, written straight into the product's SQLite files.

use std::path::Path;

use anyhow::Result;
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, SqliteConnection, sqlite::SqliteConnectOptions};

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

/// Makes tests of all techniques by the first twenty people, and a campaign of a thousand of them. The product must be
/// stopped. Indexes and triggers are taken away meanwhile; then the tally is made anew.
pub async fn tests(data: &Path, count: usize) -> Result<()> {
    let mut testing = open(data, "testing").await?;
    for pragma in ["PRAGMA synchronous = OFF", "PRAGMA cache_size = -400000", "PRAGMA temp_store = MEMORY"] {
        sqlx::query(pragma).execute(&mut testing).await?;
    }
    for service in ["catalog", "identity"] {
        let file = data.join(format!("{service}.db")).to_string_lossy().into_owned();
        let attach = format!("ATTACH DATABASE $1 AS {service}");
        sqlx::query(AssertSqlSafe(attach)).bind(file).execute(&mut testing).await?;
    }
    sqlx::raw_sql(
        "CREATE TEMP TABLE technique_of (n INTEGER PRIMARY KEY, id BLOB, mitre_id TEXT, name TEXT);
         INSERT INTO technique_of SELECT ROW_NUMBER() OVER (ORDER BY hex(id)) - 1, id, mitre_id, name
         FROM catalog.technique WHERE NOT revoked AND NOT deprecated;
         CREATE TEMP TABLE user_of (n INTEGER PRIMARY KEY, id BLOB, username TEXT);
         INSERT INTO user_of SELECT ROW_NUMBER() OVER (ORDER BY username) - 1, id, username
         FROM identity.users WHERE username LIKE 'person-%' ORDER BY username LIMIT 20;",
    )
    .execute(&mut testing)
    .await?;
    let parts: Vec<(String, String, String)> = sqlx::query_as(
        "SELECT type, name, sql FROM main.sqlite_master
         WHERE tbl_name = 'test' AND type IN ('index', 'trigger') AND sql IS NOT NULL",
    )
    .fetch_all(&mut testing)
    .await?;
    for (kind, name, _) in &parts {
        sqlx::query(AssertSqlSafe(format!("DROP {kind} main.{name}"))).execute(&mut testing).await?;
    }
    sqlx::query(include_str!("seed_tests.sql")).bind(i64::try_from(count)?).execute(&mut testing).await?;
    sqlx::raw_sql(
        "DELETE FROM tally_delta;
         DELETE FROM tally;
         INSERT INTO tally SELECT scope, state, platform, created_by, red_pending, blue_pending, incomplete,
             remediation_status, COUNT(*) FROM tallied GROUP BY 1, 2, 3, 4, 5, 6, 7, 8;
         INSERT INTO campaign (id, name, type, status, created_by, created_by_username, created_at, updated_at,
             schedule_enabled, version)
         SELECT randomblob(16), 'Bench', 'custom', 'draft', id, username, '2026-01-01T00:00:00+00:00',
             '2026-01-01T00:00:00+00:00', FALSE, 1 FROM user_of WHERE n = 0;
         INSERT INTO campaign_test (campaign_id, test_id, position)
         SELECT campaign.id, test.id, test.rowid FROM campaign CROSS JOIN test
         WHERE test.rowid > (SELECT MAX(rowid) / 2 FROM test) ORDER BY test.rowid LIMIT 1000;",
    )
    .execute(&mut testing)
    .await?;
    for (_, _, sql) in parts {
        sqlx::query(AssertSqlSafe(sql)).execute(&mut testing).await?;
    }
    sqlx::query("PRAGMA wal_checkpoint(TRUNCATE)").execute(&mut testing).await?;
    testing.close().await?;
    Ok(())
}

/// Makes a threat actor that uses 500 techniques, each with two templates. The product must be stopped.
pub async fn actor(data: &Path) -> Result<()> {
    let mut catalog = open(data, "catalog").await?;
    sqlx::raw_sql(
        "INSERT INTO knowledge (id, kind, key, source, source_id, name, aliases, platforms, revoked, deprecated,
             attributes, implemented, version, created_at, updated_at)
         VALUES (randomblob(16), 'threat_actor', 'G9999', 'custom', 'G9999', 'Bench Bear', '[]', '[]', FALSE, FALSE, '{}',
             FALSE, 1, '2026-01-01T00:00:00+00:00', '2026-01-01T00:00:00+00:00');
         INSERT INTO link (origin, id, from_kind, from_key, relation, to_kind, to_key, refs)
         SELECT 'bench', randomblob(16), 'threat_actor', 'G9999', 'uses', 'technique', mitre_id, '[]'
         FROM technique WHERE NOT revoked AND NOT deprecated ORDER BY mitre_id LIMIT 500;
         INSERT INTO template (id, name, source, source_id, mitre_technique_id, severity, attack_procedure, is_active,
             version, created_at, updated_at)
         SELECT randomblob(16), 'Bench ' || n || ' of ' || to_key, 'custom', 'bench-' || n || to_key, to_key, 'high',
             'Do this, then that.', TRUE, 1, '2026-01-01T00:00:00+00:00', '2026-01-01T00:00:00+00:00'
         FROM link, (SELECT 1 AS n UNION ALL SELECT 2) WHERE origin = 'bench';",
    )
    .execute(&mut catalog)
    .await?;
    catalog.close().await?;
    Ok(())
}

async fn open(data: &Path, service: &str) -> Result<SqliteConnection> {
    let file = data.join(format!("{service}.db"));
    Ok(SqliteConnectOptions::new().filename(file).connect().await?)
}
