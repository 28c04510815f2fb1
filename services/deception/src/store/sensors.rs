//! SQL of sensors and what they say.

use aegis_db::{Db, Result, Tx, on, read};
use chrono::{DateTime, TimeDelta, Utc};
use sqlx::{QueryBuilder, types::Json};
use uuid::Uuid;

/// A sensor that says nothing for this long is away; it says something every 5 s.
const ALIVE: TimeDelta = TimeDelta::seconds(15);
/// Rows of one statement, each with at most ten values.
const ROWS: usize = 1000;

/// Whoever was seen after this is there.
pub(crate) fn alive_since(at: DateTime<Utc>) -> DateTime<Utc> {
    at.checked_sub_signed(ALIVE).unwrap_or(at)
}

/// A sensor as it is shown.
#[derive(Clone, Debug, sqlx::FromRow)]
pub(crate) struct Sensor {
    pub(crate) id: Uuid,
    pub(crate) name: String,
    pub(crate) version: String,
    pub(crate) attached: bool,
    pub(crate) seen_at: DateTime<Utc>,
    pub(crate) deckies: i64,
}

/// A sensor that attaches.
#[derive(Clone, Debug)]
pub(crate) struct Attaching {
    pub(crate) id: Uuid,
    pub(crate) name: String,
    pub(crate) version: String,
    pub(crate) services: Vec<String>,
    /// The stream that speaks for it from now on.
    pub(crate) attachment: Uuid,
}

/// A sensor attaches: its stream before that, if there is one, speaks for it no more.
pub(crate) async fn attach(tx: &mut Tx, sensor: &Attaching, at: DateTime<Utc>) -> Result<()> {
    const SQL: &str = "INSERT INTO sensor (id, name, version, services, attached, attachment, seen_at, generation, \
                       buffered, open_sessions) VALUES ($1, $2, $3, $4, TRUE, $5, $6, 0, 0, 0) \
                       ON CONFLICT (id) DO UPDATE SET name = excluded.name, version = excluded.version, \
                       services = excluded.services, attached = TRUE, attachment = excluded.attachment, \
                       seen_at = excluded.seen_at, generation = 0";
    on!(tx, |c| {
        let query = sqlx::query(SQL).bind(sensor.id).bind(sensor.name.clone()).bind(sensor.version.clone());
        query.bind(Json(sensor.services.clone())).bind(sensor.attachment).bind(at).execute(c).await.map(|_| ())
    })?;
    Ok(())
}

/// Sensors that are to come, by these names: until then nobody hosts their deckies, and [`adopt`] gives them those.
pub(crate) async fn expect(tx: &mut Tx, sensors: &[(Uuid, String)], at: DateTime<Utc>) -> Result<()> {
    for sensors in sensors.chunks(ROWS) {
        on!(tx, |c| {
            let mut query = QueryBuilder::new(
                "INSERT INTO sensor (id, name, version, services, attached, attachment, seen_at, generation, buffered, \
                 open_sessions) ",
            );
            query.push_values(sensors, |mut row, (id, name)| {
                row.push_bind(*id);
                row.push_bind(name);
                row.push_bind("");
                row.push_bind(Json(Vec::<String>::new()));
                row.push_bind(false);
                row.push_bind(Uuid::nil());
                row.push_bind(at);
                row.push_bind(0_i64);
                row.push_bind(0_i64);
                row.push_bind(0_i64);
            });
            query.build().persistent(false).execute(c).await.map(|_| ())
        })?;
    }
    Ok(())
}

/// Gives a sensor the deckies of those of its name that are away: one that was set up anew has another id. Whether there
/// were any.
pub(crate) async fn adopt(tx: &mut Tx, sensor: Uuid, name: &str, at: DateTime<Utc>) -> Result<bool> {
    const DECKIES: &str = "UPDATE decky SET sensor_id = $1 WHERE sensor_id IN (SELECT id FROM sensor \
                           WHERE name = $2 AND id <> $1 AND (NOT attached OR seen_at <= $3))";
    const GONE: &str = "DELETE FROM sensor WHERE name = $2 AND id <> $1 AND (NOT attached OR seen_at <= $3)";
    let since = alive_since(at);
    let name = name.to_owned();
    let adopted = on!(tx, |c| {
        let done = sqlx::query(DECKIES).bind(sensor).bind(name.clone()).bind(since).execute(c).await;
        done.map(|done| done.rows_affected())
    })?;
    on!(tx, |c| sqlx::query(GONE).bind(sensor).bind(name).bind(since).execute(c).await.map(|_| ()))?;
    Ok(adopted > 0)
}

/// A sign of life. Whether the stream still speaks for the sensor.
pub(crate) async fn seen(
    tx: &mut Tx,
    sensor: Uuid,
    attachment: Uuid,
    generation: i64,
    (buffered, open_sessions): (i64, i64),
    at: DateTime<Utc>,
) -> Result<bool> {
    const SQL: &str = "UPDATE sensor SET seen_at = $3, generation = $4, buffered = $5, open_sessions = $6, \
                       attached = TRUE WHERE id = $1 AND attachment = $2";
    let rows = on!(tx, |c| {
        let query = sqlx::query(SQL).bind(sensor).bind(attachment).bind(at).bind(generation);
        query.bind(buffered).bind(open_sessions).execute(c).await.map(|done| done.rows_affected())
    })?;
    Ok(rows > 0)
}

/// The fleet's generation, as long as that stream speaks for the sensor.
pub(crate) async fn generation(db: &Db, sensor: Uuid, attachment: Uuid) -> Result<Option<i64>> {
    const SQL: &str = "SELECT f.generation FROM fleet f JOIN sensor x ON x.id = $1 AND x.attachment = $2";
    Ok(read!(db, |pool| sqlx::query_scalar(SQL).bind(sensor).bind(attachment).fetch_optional(pool).await)?)
}

/// The stream ended. Does nothing when another speaks for the sensor already.
pub(crate) async fn detach(tx: &mut Tx, sensor: Uuid, attachment: Uuid) -> Result<()> {
    const SQL: &str = "UPDATE sensor SET attached = FALSE WHERE id = $1 AND attachment = $2";
    on!(tx, |c| sqlx::query(SQL).bind(sensor).bind(attachment).execute(c).await.map(|_| ()))?;
    Ok(())
}

/// What a sensor says of one service.
#[derive(Clone, Debug, PartialEq, Eq, sqlx::FromRow)]
pub(crate) struct Hosted {
    pub(crate) decky_id: Uuid,
    pub(crate) service: String,
    pub(crate) status: String,
    pub(crate) address: String,
    pub(crate) detail: String,
}

/// Writes all that a sensor hosts, for what it said before. Only of deckies that are its own.
pub(crate) async fn write_hosted(tx: &mut Tx, sensor: Uuid, generation: i64, hosted: &[Hosted]) -> Result<()> {
    const DELETE: &str = "DELETE FROM hosted WHERE sensor_id = $1";
    const OWN: &str = "SELECT id FROM decky WHERE sensor_id = $1";
    on!(tx, |c| sqlx::query(DELETE).bind(sensor).execute(c).await.map(|_| ()))?;
    let own: Vec<Uuid> = on!(tx, |c| sqlx::query_scalar(OWN).bind(sensor).fetch_all(c).await)?;
    let own: std::collections::HashSet<Uuid> = own.into_iter().collect();
    let hosted: Vec<&Hosted> = hosted.iter().filter(|hosted| own.contains(&hosted.decky_id)).collect();
    for hosted in hosted.chunks(ROWS) {
        on!(tx, |c| {
            let mut query = QueryBuilder::new(
                "INSERT INTO hosted (decky_id, service, sensor_id, generation, status, address, detail) ",
            );
            query.push_values(hosted, |mut row, hosted| {
                row.push_bind(hosted.decky_id);
                row.push_bind(&hosted.service);
                row.push_bind(sensor);
                row.push_bind(generation);
                row.push_bind(&hosted.status);
                row.push_bind(&hosted.address);
                row.push_bind(&hosted.detail);
            });
            // Another sensor may have had the decky before.
            query.push(
                " ON CONFLICT (decky_id, service) DO UPDATE SET sensor_id = excluded.sensor_id, \
                 generation = excluded.generation, status = excluded.status, address = excluded.address, \
                 detail = excluded.detail",
            );
            query.build().persistent(false).execute(c).await.map(|_| ())
        })?;
    }
    Ok(())
}

/// What is said of these deckies by a sensor that has taken in that generation.
pub(crate) async fn hosted(db: &Db, deckies: &[Uuid], generation: i64) -> Result<Vec<Hosted>> {
    if deckies.is_empty() {
        return Ok(Vec::new());
    }
    Ok(read!(db, |pool| {
        let mut query =
            QueryBuilder::new("SELECT decky_id, service, status, address, detail FROM hosted WHERE generation >= ");
        query.push_bind(generation).push(" AND decky_id IN (");
        let mut list = query.separated(", ");
        for id in deckies {
            list.push_bind(*id);
        }
        query.push(")");
        query.build_query_as().persistent(false).fetch_all(pool).await
    })?)
}

/// A sensor that could host deckies.
#[derive(Clone, Debug, sqlx::FromRow)]
pub(crate) struct Candidate {
    pub(crate) id: Uuid,
    pub(crate) name: String,
    pub(crate) services: Json<Vec<String>>,
}

/// Sensors that are there, the one with the fewest deckies first.
pub(crate) async fn candidates(db: &Db, at: DateTime<Utc>) -> Result<Vec<Candidate>> {
    const SQL: &str = "SELECT x.id, x.name, x.services FROM sensor x WHERE x.attached AND x.seen_at > $1 \
                       ORDER BY (SELECT COUNT(*) FROM decky d WHERE d.sensor_id = x.id), x.name, x.id LIMIT 1000";
    Ok(read!(db, |pool| sqlx::query_as(SQL).bind(alive_since(at)).fetch_all(pool).await)?)
}

/// Sensors by name, and how many there are.
pub(crate) async fn list(db: &Db, limit: i64, offset: i64, at: DateTime<Utc>) -> Result<(Vec<Sensor>, i64)> {
    const SQL: &str = "SELECT x.id, x.name, x.version, (x.attached AND x.seen_at > $3) AS attached, x.seen_at, \
                       (SELECT COUNT(*) FROM decky d WHERE d.sensor_id = x.id) AS deckies FROM sensor x \
                       ORDER BY x.name, x.id LIMIT $1 OFFSET $2";
    let since = alive_since(at);
    let rows = read!(db, |pool| sqlx::query_as(SQL).bind(limit).bind(offset).bind(since).fetch_all(pool).await)?;
    let total = read!(db, |pool| sqlx::query_scalar("SELECT COUNT(*) FROM sensor").fetch_one(pool).await)?;
    Ok((rows, total))
}

/// How many sensors there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, sqlx::FromRow)]
pub(crate) struct Summary {
    /// That are there.
    pub(crate) alive: i64,
    /// That have deckies to host and are not there.
    pub(crate) away: i64,
}

/// How the sensors are.
pub(crate) async fn summary(db: &Db, at: DateTime<Utc>) -> Result<Summary> {
    const SQL: &str = "SELECT (SELECT COUNT(*) FROM sensor WHERE attached AND seen_at > $1) AS alive, \
                       (SELECT COUNT(DISTINCT d.sensor_id) FROM decky d LEFT JOIN sensor x ON x.id = d.sensor_id \
                       WHERE d.deployed AND (x.id IS NULL OR NOT x.attached OR x.seen_at <= $1)) AS away";
    Ok(read!(db, |pool| sqlx::query_as(SQL).bind(alive_since(at)).fetch_one(pool).await)?)
}

/// Forgets sensors that host nothing and were not seen since then.
pub(crate) async fn forget(db: &Db, before: DateTime<Utc>) -> Result<()> {
    const SQL: &str = "DELETE FROM sensor WHERE seen_at < $1 AND NOT EXISTS \
                       (SELECT 1 FROM decky d WHERE d.sensor_id = sensor.id)";
    let mut tx = db.begin().await?;
    on!(tx, |c| sqlx::query(SQL).bind(before).execute(c).await.map(|_| ()))?;
    tx.commit_relaxed().await
}
