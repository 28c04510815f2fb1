//! Seeding of the SQLite files.

use anyhow::Result;
use sqlx::{AssertSqlSafe, Connection, SqliteConnection};

use super::Home;

pub async fn users(home: &Home, count: i64) -> Result<()> {
    let mut identity = home.sqlite("identity").await?;
    sqlx::query(
        "WITH RECURSIVE row (n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM row WHERE n + 1 < $1)
         INSERT INTO users (id, username, username_key, email, role, password_hash, is_active,
                            must_change_password, token_epoch, version, created_at, updated_at)
         SELECT randomblob(16), printf('person-%05d', n), printf('person-%05d', n),
                printf('person-%05d@example.org', n), 'viewer', password_hash, TRUE, FALSE, 0, 1,
                created_at, updated_at
         FROM row, users WHERE username_key = 'admin'",
    )
    .bind(count)
    .execute(&mut identity)
    .await?;
    identity.close().await?;
    Ok(())
}

pub async fn tests(home: &Home, count: i64) -> Result<()> {
    let mut testing = home.sqlite("testing").await?;
    for pragma in ["PRAGMA synchronous = OFF", "PRAGMA cache_size = -400000", "PRAGMA temp_store = MEMORY"] {
        sqlx::query(pragma).execute(&mut testing).await?;
    }
    attach(&mut testing, home, &["catalog", "identity"]).await?;
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
    sqlx::query(include_str!("tests.sqlite.sql")).bind(count).execute(&mut testing).await?;
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

pub async fn actor(home: &Home) -> Result<()> {
    let mut catalog = home.sqlite("catalog").await?;
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

pub async fn snapshots(home: &Home, weeks: i64) -> Result<()> {
    let mut analytics = home.sqlite("analytics").await?;
    sqlx::query("CREATE TEMP TABLE week (id BLOB, due TEXT)").execute(&mut analytics).await?;
    sqlx::query(
        "WITH RECURSIVE row (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM row WHERE n < $1)
         INSERT INTO week SELECT randomblob(16),
             strftime('%Y-%m-%dT05:00:00.000000+00:00', 'now', 'weekday 1', '-' || (7 * n) || ' days') FROM row",
    )
    .bind(weeks)
    .execute(&mut analytics)
    .await?;
    sqlx::raw_sql(
        "CREATE TEMP TABLE model AS SELECT * FROM snapshot ORDER BY created_at DESC LIMIT 1;
         INSERT INTO snapshot (id, name, kind, due_at, created_by_username, created_at, total, validated, partial,
             not_covered, in_progress, not_evaluated, score, weights, attack_versions)
         SELECT week.id, 'Week of ' || substr(due, 1, 10), 'scheduled', due, '', due, total, validated, partial,
             not_covered, in_progress, not_evaluated, score, weights, attack_versions
         FROM week CROSS JOIN model;
         INSERT INTO snapshot_state (snapshot_id, techniques)
         SELECT week.id, techniques FROM week CROSS JOIN snapshot_state
         WHERE snapshot_id = (SELECT id FROM model);
         INSERT INTO score_point (id, at, kind, due_at, snapshot_id, score, coverage_percentage, tactics)
         SELECT randomblob(16), due, 'weekly', due, week.id, score, coverage_percentage, tactics
         FROM week CROSS JOIN score_point WHERE snapshot_id = (SELECT id FROM model);",
    )
    .execute(&mut analytics)
    .await?;
    analytics.close().await?;
    Ok(())
}

async fn attach(connection: &mut SqliteConnection, home: &Home, services: &[&str]) -> Result<()> {
    for service in services {
        let file = home.file(service).to_string_lossy().into_owned();
        let attach = format!("ATTACH DATABASE $1 AS {service}");
        sqlx::query(AssertSqlSafe(attach)).bind(file).execute(&mut *connection).await?;
    }
    Ok(())
}
