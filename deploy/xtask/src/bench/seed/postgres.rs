//! Seeding of the database of PostgreSQL.

use anyhow::Result;
use sqlx::{AssertSqlSafe, Connection};

use super::Home;

pub async fn users(home: &Home, count: i64) -> Result<()> {
    let mut identity = home.postgres("identity").await?;
    sqlx::query(
        "INSERT INTO users (id, username, username_key, email, role, password_hash, is_active,
                            must_change_password, token_epoch, version, created_at, updated_at)
         SELECT gen_random_uuid(), person, person, person || '@example.org', 'viewer', password_hash, TRUE, FALSE, 0, 1,
                created_at, updated_at
         FROM (SELECT 'person-' || lpad(n::TEXT, 5, '0') AS person FROM generate_series(0, $1 - 1) AS n) AS people
         CROSS JOIN users WHERE username_key = 'admin'",
    )
    .bind(count)
    .execute(&mut identity)
    .await?;
    sqlx::query("VACUUM ANALYZE users").execute(&mut identity).await?;
    identity.close().await?;
    Ok(())
}

pub async fn tests(home: &Home, count: i64) -> Result<()> {
    let mut testing = home.postgres("testing").await?;
    sqlx::raw_sql(
        "SET synchronous_commit = off;
         SET work_mem = '256MB';
         SET maintenance_work_mem = '512MB';
         CREATE TEMP TABLE technique_of AS
         SELECT ROW_NUMBER() OVER (ORDER BY id) - 1 AS n, id, mitre_id, name
         FROM catalog.technique WHERE NOT revoked AND NOT deprecated;
         CREATE TEMP TABLE user_of AS
         SELECT ROW_NUMBER() OVER (ORDER BY username) - 1 AS n, id, username FROM identity.users
         WHERE username LIKE 'person-%' ORDER BY username LIMIT 20;
         ANALYZE technique_of;
         ANALYZE user_of;
         -- A moment that is not in the future.
         CREATE FUNCTION pg_temp.moment(t BIGINT, now BIGINT) RETURNS TIMESTAMPTZ LANGUAGE sql IMMUTABLE
         AS 'SELECT to_timestamp(CASE WHEN t > now THEN now ELSE t END)';
         ALTER TABLE test DISABLE TRIGGER USER;",
    )
    .execute(&mut testing)
    .await?;
    let indexes: Vec<(String, String)> = sqlx::query_as(
        "SELECT indexrelid::REGCLASS::TEXT, pg_get_indexdef(indexrelid) FROM pg_index
         WHERE indrelid = 'test'::REGCLASS AND NOT indisprimary",
    )
    .fetch_all(&mut testing)
    .await?;
    for (name, _) in &indexes {
        sqlx::query(AssertSqlSafe(format!("DROP INDEX {name}"))).execute(&mut testing).await?;
    }
    sqlx::query(include_str!("tests.postgres.sql")).bind(count).execute(&mut testing).await?;
    sqlx::raw_sql(
        "TRUNCATE tally_delta, tally;
         INSERT INTO tally SELECT kind.*, COUNT(*) FROM test CROSS JOIN LATERAL tallied(test) AS kind
         GROUP BY 1, 2, 3, 4, 5, 6, 7, 8;
         INSERT INTO campaign (id, name, type, status, created_by, created_by_username, created_at, updated_at,
             schedule_enabled, version)
         SELECT gen_random_uuid(), 'Bench', 'custom', 'draft', id, username, '2026-01-01Z', '2026-01-01Z', FALSE, 1
         FROM user_of WHERE n = 0;
         INSERT INTO campaign_test (campaign_id, test_id, position)
         SELECT campaign.id, middle.id, ROW_NUMBER() OVER ()
         FROM campaign CROSS JOIN (SELECT id FROM test OFFSET (SELECT COUNT(*) / 2 FROM test) LIMIT 1000) AS middle;
         ALTER TABLE test ENABLE TRIGGER USER;",
    )
    .execute(&mut testing)
    .await?;
    for (_, sql) in indexes {
        sqlx::query(AssertSqlSafe(sql)).execute(&mut testing).await?;
    }
    for table in ["test", "tally", "campaign_test"] {
        sqlx::query(AssertSqlSafe(format!("VACUUM ANALYZE {table}"))).execute(&mut testing).await?;
    }
    // What was just written is not to be written again while something is measured.
    sqlx::query("CHECKPOINT").execute(&mut testing).await?;
    testing.close().await?;
    Ok(())
}

pub async fn actor(home: &Home) -> Result<()> {
    let mut catalog = home.postgres("catalog").await?;
    sqlx::raw_sql(
        "INSERT INTO knowledge (id, kind, key, source, source_id, name, aliases, platforms, revoked, deprecated,
             attributes, implemented, version, created_at, updated_at)
         VALUES (gen_random_uuid(), 'threat_actor', 'G9999', 'custom', 'G9999', 'Bench Bear', '[]', '[]', FALSE, FALSE,
             '{}', FALSE, 1, '2026-01-01Z', '2026-01-01Z');
         INSERT INTO link (origin, id, from_kind, from_key, relation, to_kind, to_key, refs)
         SELECT 'bench', gen_random_uuid(), 'threat_actor', 'G9999', 'uses', 'technique', mitre_id, '[]'
         FROM technique WHERE NOT revoked AND NOT deprecated ORDER BY mitre_id LIMIT 500;
         INSERT INTO template (id, name, source, source_id, mitre_technique_id, severity, attack_procedure, is_active,
             version, created_at, updated_at)
         SELECT gen_random_uuid(), 'Bench ' || n || ' of ' || to_key, 'custom', 'bench-' || n || to_key, to_key, 'high',
             'Do this, then that.', TRUE, 1, '2026-01-01Z', '2026-01-01Z'
         FROM link CROSS JOIN generate_series(1, 2) AS n WHERE origin = 'bench';
         ANALYZE;",
    )
    .execute(&mut catalog)
    .await?;
    catalog.close().await?;
    Ok(())
}

pub async fn snapshots(home: &Home, weeks: i64) -> Result<()> {
    let mut analytics = home.postgres("analytics").await?;
    sqlx::query("CREATE TEMP TABLE week (id UUID, due TIMESTAMPTZ)").execute(&mut analytics).await?;
    sqlx::query(
        "INSERT INTO week
         SELECT gen_random_uuid(), date_trunc('week', now()) + INTERVAL '5 hours' - n * INTERVAL '7 days'
         FROM generate_series(1, $1) AS n",
    )
    .bind(weeks)
    .execute(&mut analytics)
    .await?;
    sqlx::raw_sql(
        "CREATE TEMP TABLE model AS SELECT * FROM snapshot ORDER BY created_at DESC LIMIT 1;
         INSERT INTO snapshot (id, name, kind, due_at, created_by_username, created_at, total, validated, partial,
             not_covered, in_progress, not_evaluated, score, weights, attack_versions)
         SELECT week.id, 'Week of ' || due::DATE, 'scheduled', due, '', due, total, validated, partial,
             not_covered, in_progress, not_evaluated, score, weights, attack_versions
         FROM week CROSS JOIN model;
         INSERT INTO snapshot_state (snapshot_id, techniques)
         SELECT week.id, techniques FROM week CROSS JOIN snapshot_state
         WHERE snapshot_id = (SELECT id FROM model);
         INSERT INTO score_point (id, at, kind, due_at, snapshot_id, score, coverage_percentage, tactics)
         SELECT gen_random_uuid(), due, 'weekly', due, week.id, score, coverage_percentage, tactics
         FROM week CROSS JOIN score_point WHERE snapshot_id = (SELECT id FROM model);
         ANALYZE;",
    )
    .execute(&mut analytics)
    .await?;
    analytics.close().await?;
    Ok(())
}
