//! The SQL of what the parts of a score count.

use aegis_db::{Db, Result, Tx, on, read};
use chrono::{DateTime, Utc};

use crate::domain::score::{Part, Weights};

/// Weights that held from a moment on.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Version {
    pub(crate) weights: Weights,
    /// Increases by one with every change, from 1.
    pub(crate) version: i64,
    /// Username; empty for the defaults.
    pub(crate) updated_by: String,
    pub(crate) updated_at: Option<DateTime<Utc>>,
}

#[derive(sqlx::FromRow)]
struct Row {
    version: i64,
    tests: i64,
    detection_rules: i64,
    d3fend: i64,
    freshness: i64,
    platform_diversity: i64,
    updated_by: String,
    updated_at: Option<DateTime<Utc>>,
}

impl From<Row> for Version {
    fn from(row: Row) -> Self {
        let hundredths = [row.tests, row.detection_rules, row.d3fend, row.freshness, row.platform_diversity];
        Version {
            // The table holds nothing that does not sum to 100.
            weights: Weights::new(hundredths).unwrap_or_default(),
            version: row.version,
            updated_by: row.updated_by,
            updated_at: row.updated_at,
        }
    }
}

macro_rules! versions {
    () => {
        "SELECT version, tests, detection_rules, d3fend, freshness, platform_diversity, updated_by, updated_at \
         FROM score_weights ORDER BY version DESC "
    };
}

/// The weights that hold.
pub(crate) async fn current(tx: &mut Tx) -> Result<Weights> {
    Ok(newest(tx).await?.weights)
}

/// The weights that hold, and since when.
pub(crate) async fn newest(tx: &mut Tx) -> Result<Version> {
    let row: Row = on!(tx, |c| sqlx::query_as(concat!(versions!(), "LIMIT 1")).fetch_one(c).await)?;
    Ok(row.into())
}

/// All that ever held, the newest first.
pub(crate) async fn list(db: &Db, limit: i64, offset: i64) -> Result<Vec<Version>> {
    let sql = concat!(versions!(), "LIMIT $1 OFFSET $2");
    let rows: Vec<Row> = read!(db, |pool| sqlx::query_as(sql).bind(limit).bind(offset).fetch_all(pool).await)?;
    Ok(rows.into_iter().map(Version::from).collect())
}

/// How many ever held.
pub(crate) async fn count(db: &Db) -> Result<i64> {
    Ok(read!(db, |pool| sqlx::query_scalar("SELECT COUNT(*) FROM score_weights").fetch_one(pool).await)?)
}

/// Writes the next version. False when somebody else has just written it.
pub(crate) async fn insert(tx: &mut Tx, next: &Version) -> Result<bool> {
    let sql = "INSERT INTO score_weights (version, tests, detection_rules, d3fend, freshness, platform_diversity, \
               updated_by, updated_at) VALUES ($1, $2, $3, $4, $5, $6, $7, $8) ON CONFLICT (version) DO NOTHING";
    let weight = |part| next.weights.of(part);
    let written = on!(tx, |c| sqlx::query(sql)
        .bind(next.version)
        .bind(weight(Part::Tests))
        .bind(weight(Part::DetectionRules))
        .bind(weight(Part::D3fend))
        .bind(weight(Part::Freshness))
        .bind(weight(Part::PlatformDiversity))
        .bind(&next.updated_by)
        .bind(next.updated_at)
        .execute(c)
        .await
        .map(|done| done.rows_affected()))?;
    Ok(written == 1)
}
