//! The SQL of what attackers showed on decoys.

use aegis_db::{Result, Tx, on};
use sqlx::QueryBuilder;

use super::CHUNK;
use crate::domain::observed::Observed;

/// Takes in what is newer than what is known.
pub(crate) async fn take_in(tx: &mut Tx, observed: &[Observed]) -> Result<()> {
    for some in observed.chunks(CHUNK) {
        on!(tx, |c| {
            let mut query =
                QueryBuilder::new("INSERT INTO observed (mitre_id, count, attackers, first_seen, last_seen, version) ");
            query.push_values(some, |mut row, observed| {
                row.push_bind(&*observed.mitre_id)
                    .push_bind(observed.count)
                    .push_bind(observed.attackers)
                    .push_bind(observed.first_seen)
                    .push_bind(observed.last_seen)
                    .push_bind(observed.version);
            });
            query.push(
                " ON CONFLICT (mitre_id) DO UPDATE SET count = excluded.count, attackers = excluded.attackers, \
                 first_seen = excluded.first_seen, last_seen = excluded.last_seen, version = excluded.version \
                 WHERE observed.version < excluded.version",
            );
            query.build().persistent(false).execute(c).await.map(|_| ())
        })?;
    }
    revise(tx).await
}

/// What is known of each technique, by its version.
pub(crate) async fn versions(tx: &mut Tx) -> Result<Vec<(String, i64)>> {
    Ok(on!(tx, |c| sqlx::query_as("SELECT mitre_id, version FROM observed").fetch_all(c).await)?)
}

/// Forgets what is known in these versions; what has changed since stays.
pub(crate) async fn forget(tx: &mut Tx, versions: &[(String, i64)]) -> Result<()> {
    for some in versions.chunks(CHUNK) {
        on!(tx, |c| {
            let mut query = QueryBuilder::new("DELETE FROM observed WHERE (mitre_id, version) IN (");
            query.push_values(some, |mut row, (mitre_id, version)| {
                row.push_bind(mitre_id).push_bind(*version);
            });
            query.push(")");
            query.build().persistent(false).execute(c).await.map(|_| ())
        })?;
    }
    Ok(())
}

async fn revise(tx: &mut Tx) -> Result<()> {
    const SQL: &str = "UPDATE meta SET observed_revision = observed_revision + 1";
    on!(tx, |c| sqlx::query(SQL).execute(c).await.map(|_| ()))?;
    Ok(())
}

/// All that was observed.
pub(crate) async fn all(tx: &mut Tx) -> Result<Vec<Observed>> {
    #[derive(sqlx::FromRow)]
    struct Row {
        mitre_id: String,
        count: i64,
        attackers: i64,
        first_seen: Option<chrono::DateTime<chrono::Utc>>,
        last_seen: Option<chrono::DateTime<chrono::Utc>>,
        version: i64,
    }
    const SQL: &str = "SELECT mitre_id, count, attackers, first_seen, last_seen, version FROM observed WHERE count > 0";
    let rows: Vec<Row> = on!(tx, |c| sqlx::query_as(SQL).fetch_all(c).await)?;
    let observed = rows.into_iter().map(|row| Observed {
        mitre_id: row.mitre_id.into(),
        count: row.count,
        attackers: row.attackers,
        first_seen: row.first_seen,
        last_seen: row.last_seen,
        version: row.version,
    });
    Ok(observed.collect())
}
