//! SQL of what holds for the fleet as a whole.

use aegis_db::{Db, Error, Result, Tx, on, read};
use chrono::{DateTime, Utc};

use crate::domain::settings::{BadInterval, FleetSettings};

/// The one row.
#[derive(Clone, Debug, sqlx::FromRow)]
pub(crate) struct Row {
    pub(crate) version: i64,
    deployment_limit: i64,
    global_mutation_interval: String,
    pub(crate) updated_at: DateTime<Utc>,
}

impl Row {
    pub(crate) fn settings(&self) -> Result<FleetSettings> {
        let unreadable = |source: Box<dyn std::error::Error + Send + Sync>| Error::from(sqlx::Error::Decode(source));
        Ok(FleetSettings {
            deployment_limit: i32::try_from(self.deployment_limit).map_err(|error| unreadable(error.into()))?,
            global_mutation_interval: self
                .global_mutation_interval
                .parse()
                .map_err(|error: BadInterval| unreadable(error.into()))?,
        })
    }
}

/// What holds now.
pub(crate) async fn settings(db: &Db) -> Result<Row> {
    const SQL: &str = "SELECT version, deployment_limit, global_mutation_interval, updated_at FROM fleet_settings";
    Ok(read!(db, |pool| sqlx::query_as(SQL).fetch_one(pool).await)?)
}

/// What holds now, with the version and time of the change that is about to be written. Nobody else changes it until
/// the transaction ends.
pub(crate) async fn next_settings(tx: &mut Tx, at: DateTime<Utc>) -> Result<Row> {
    // An update locks the row on both databases, where a select does so in two spellings.
    const SQL: &str = "UPDATE fleet_settings SET version = version + 1, updated_at = $1 \
                       RETURNING version, deployment_limit, global_mutation_interval, updated_at";
    Ok(on!(tx, |c| sqlx::query_as(SQL).bind(at).fetch_one(c).await)?)
}

/// Writes what is to hold, after [`next_settings`].
pub(crate) async fn write_settings(tx: &mut Tx, settings: &FleetSettings) -> Result<()> {
    const SQL: &str = "UPDATE fleet_settings SET deployment_limit = $1, global_mutation_interval = $2";
    let limit = i64::from(settings.deployment_limit);
    let interval = settings.global_mutation_interval.as_str();
    on!(tx, |c| sqlx::query(SQL).bind(limit).bind(interval.to_owned()).execute(c).await.map(|_| ()))?;
    Ok(())
}

/// Most deckies at a time, as the transaction sees it.
pub(crate) async fn limit(tx: &mut Tx) -> Result<i32> {
    let limit: i64 = on!(tx, |c| sqlx::query_scalar("SELECT deployment_limit FROM fleet_settings").fetch_one(c).await)?;
    Ok(i32::try_from(limit).unwrap_or(0))
}
