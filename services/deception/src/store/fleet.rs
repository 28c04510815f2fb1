//! SQL of deckies and their services.

use std::{collections::HashMap, net::IpAddr};

use aegis_db::{Db, Error, Result, Tx, on, read};
use chrono::{DateTime, Utc};
use sqlx::{Database, Encode, QueryBuilder, Type, types::Json};
use uuid::Uuid;

use super::sensors::alive_since;
use crate::domain::{
    fleet::{Decky, Existing, Network, Service, ServiceStatus},
    ini::Options,
};

/// Deckies of one statement, each with twenty-one values.
const ROWS: usize = 200;
/// Services of one statement, each with four values.
const SERVICE_ROWS: usize = 1000;

/// Which deckies.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Which<'a> {
    All,
    Page {
        limit: i64,
        offset: i64,
    },
    Name(&'a str),
    Ids(&'a [Uuid]),
    /// Those that a sensor is to host.
    Sensor(Uuid),
}

#[derive(sqlx::FromRow)]
struct Row {
    id: Uuid,
    name: String,
    ip: String,
    mac: String,
    hostname: String,
    archetype: String,
    nmap_os: String,
    system: String,
    seed: Vec<u8>,
    booted_at: DateTime<Utc>,
    net: Option<String>,
    gateway: Option<String>,
    interface: Option<String>,
    runtime: String,
    deployed: bool,
    sensor_id: Uuid,
    mutate_interval: Option<String>,
    options: Json<Options>,
    last_mutated: Option<DateTime<Utc>>,
    created_at: DateTime<Utc>,
    version: i64,
    sensor_seen_at: Option<DateTime<Utc>>,
}

#[derive(sqlx::FromRow)]
struct ServiceRow {
    decky_id: Uuid,
    name: String,
    port: i64,
    status: Option<String>,
    address: Option<String>,
    detail: Option<String>,
}

/// What is kept can be read, unless somebody else wrote it.
fn unreadable(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Error {
    sqlx::Error::Decode(error.into()).into()
}

impl Row {
    fn decky(self, at: DateTime<Utc>, services: Vec<Service>) -> Result<Decky> {
        let address = |text: String| text.parse::<IpAddr>().map_err(unreadable);
        Ok(Decky {
            id: self.id,
            name: self.name,
            ip: address(self.ip)?,
            mac: self.mac,
            hostname: self.hostname,
            archetype: self.archetype,
            nmap_os: self.nmap_os,
            system: self.system,
            seed: self.seed.try_into().map_err(|_| unreadable("a seed has 32 bytes"))?,
            booted_at: self.booted_at,
            network: Network {
                net: self.net.map(|net| net.parse().map_err(unreadable)).transpose()?,
                gateway: self.gateway.map(address).transpose()?,
                interface: self.interface,
            },
            runtime: self.runtime,
            deployed: self.deployed,
            sensor_id: self.sensor_id,
            sensor_alive: self.sensor_seen_at.is_some_and(|seen| seen > alive_since(at)),
            mutate_interval: self.mutate_interval.map(|text| text.parse().map_err(unreadable)).transpose()?,
            options: self.options.0,
            last_mutated: self.last_mutated,
            created_at: self.created_at,
            version: self.version,
            services,
        })
    }
}

/// Only this row's generation orders changes of the fleet: whoever changes it waits here for the one before.
pub(crate) async fn next_generation(tx: &mut Tx) -> Result<i64> {
    const SQL: &str = "UPDATE fleet SET generation = generation + 1 RETURNING generation";
    Ok(on!(tx, |c| sqlx::query_scalar(SQL).fetch_one(c).await)?)
}

/// Waits for the change before, for a change that sensors need not hear of.
pub(crate) async fn lock(tx: &mut Tx) -> Result<i64> {
    const SQL: &str = "UPDATE fleet SET generation = generation RETURNING generation";
    Ok(on!(tx, |c| sqlx::query_scalar(SQL).fetch_one(c).await)?)
}

/// Of the fleet as it is.
pub(crate) async fn generation(db: &Db) -> Result<i64> {
    Ok(read!(db, |pool| sqlx::query_scalar("SELECT generation FROM fleet").fetch_one(pool).await)?)
}

fn select<DB>(query: &mut QueryBuilder<DB>, which: Which<'_>)
where
    DB: Database,
    for<'q> i64: Encode<'q, DB> + Type<DB>,
    for<'q> String: Encode<'q, DB> + Type<DB>,
    for<'q> Uuid: Encode<'q, DB> + Type<DB>,
{
    match which {
        Which::All | Which::Page { .. } => {}
        Which::Name(name) => {
            query.push(" WHERE d.name = ").push_bind(name.to_owned());
        }
        Which::Ids(ids) => {
            query.push(" WHERE d.id IN (");
            let mut list = query.separated(", ");
            for id in ids {
                list.push_bind(*id);
            }
            query.push(")");
        }
        Which::Sensor(sensor) => {
            query.push(" WHERE d.sensor_id = ").push_bind(sensor);
        }
    }
    query.push(" ORDER BY d.name");
    if let Which::Page { limit, offset } = which {
        query.push(" LIMIT ").push_bind(limit).push(" OFFSET ").push_bind(offset);
    }
}

/// Deckies by name, with their services and what is said of these, all of one moment where `tx` reads one.
pub(crate) async fn deckies(tx: &mut Tx, which: Which<'_>, at: DateTime<Utc>) -> Result<Vec<Decky>> {
    const DECKIES: &str = "SELECT d.id, d.name, d.ip, d.mac, d.hostname, d.archetype, d.nmap_os, d.system, d.seed, \
                           d.booted_at, d.net, d.gateway, d.interface, d.runtime, d.deployed, d.sensor_id, \
                           d.mutate_interval, d.options, d.last_mutated, d.created_at, d.version, \
                           CASE WHEN x.attached THEN x.seen_at END AS sensor_seen_at \
                           FROM decky d LEFT JOIN sensor x ON x.id = d.sensor_id";
    const SERVICES: &str = "SELECT s.decky_id, s.name, s.port, h.status, h.address, h.detail FROM decky_service s \
                            LEFT JOIN hosted h ON h.decky_id = s.decky_id AND h.service = s.name WHERE s.decky_id IN (";
    if matches!(which, Which::Ids([])) {
        return Ok(Vec::new());
    }
    let rows: Vec<Row> = on!(tx, |c| {
        let mut query = QueryBuilder::new(DECKIES);
        select(&mut query, which);
        query.build_query_as().fetch_all(c).await
    })?;
    if rows.is_empty() {
        return Ok(Vec::new());
    }
    let services: Vec<ServiceRow> = on!(tx, |c| {
        let mut query = QueryBuilder::new(SERVICES);
        let mut list = query.separated(", ");
        for row in &rows {
            list.push_bind(row.id);
        }
        query.push(") ORDER BY s.decky_id, s.position");
        query.build_query_as().persistent(rows.len() == 1).fetch_all(c).await
    })?;
    let mut of: HashMap<Uuid, Vec<Service>> = HashMap::new();
    for row in services {
        let service = Service {
            name: row.name,
            port: u16::try_from(row.port).map_err(unreadable)?,
            status: ServiceStatus::parse(&row.status.unwrap_or_default()),
            address: row.address.unwrap_or_default(),
            detail: row.detail.unwrap_or_default(),
        };
        of.entry(row.decky_id).or_default().push(service);
    }
    rows.into_iter()
        .map(|row| {
            let services = of.remove(&row.id).unwrap_or_default();
            row.decky(at, services)
        })
        .collect()
}

/// How many deckies there are.
pub(crate) async fn count(tx: &mut Tx) -> Result<i64> {
    Ok(on!(tx, |c| sqlx::query_scalar("SELECT COUNT(*) FROM decky").fetch_one(c).await)?)
}

/// How many deckies are deployed, and of how many all services run.
pub(crate) async fn counts(db: &Db, at: DateTime<Utc>) -> Result<(i64, i64)> {
    const SQL: &str = "SELECT COUNT(*), CAST(COALESCE(SUM(CASE WHEN x.attached AND x.seen_at > $1 AND NOT EXISTS \
                       (SELECT 1 FROM decky_service s LEFT JOIN hosted h ON h.decky_id = s.decky_id AND h.service = s.name \
                       WHERE s.decky_id = d.id AND (h.status IS NULL OR h.status <> 'running')) THEN 1 ELSE 0 END), 0) \
                       AS BIGINT) FROM decky d LEFT JOIN sensor x ON x.id = d.sensor_id WHERE d.deployed";
    Ok(read!(db, |pool| sqlx::query_as(SQL).bind(alive_since(at)).fetch_one(pool).await)?)
}

/// What is used already.
pub(crate) async fn existing(tx: &mut Tx) -> Result<Existing> {
    const SQL: &str = "SELECT name, ip, mac, hostname FROM decky";
    let rows: Vec<(String, String, String, String)> = on!(tx, |c| sqlx::query_as(SQL).fetch_all(c).await)?;
    let mut existing = Existing::default();
    for (name, ip, mac, hostname) in rows {
        existing.names.insert(name);
        existing.ips.insert(ip.parse().map_err(unreadable)?);
        existing.macs.insert(mac);
        existing.hostnames.insert(hostname);
    }
    Ok(existing)
}

/// Writes deckies that are new, with their services.
pub(crate) async fn insert(tx: &mut Tx, deckies: &[Decky]) -> Result<()> {
    for deckies in deckies.chunks(ROWS) {
        on!(tx, |c| {
            let mut query = QueryBuilder::new(
                "INSERT INTO decky (id, name, ip, mac, hostname, archetype, nmap_os, system, seed, booted_at, net, \
                 gateway, interface, runtime, deployed, sensor_id, mutate_interval, options, last_mutated, created_at, \
                 version) ",
            );
            query.push_values(deckies, |mut row, decky| {
                row.push_bind(decky.id);
                row.push_bind(&decky.name);
                row.push_bind(decky.ip.to_string());
                row.push_bind(&decky.mac);
                row.push_bind(&decky.hostname);
                row.push_bind(&decky.archetype);
                row.push_bind(&decky.nmap_os);
                row.push_bind(&decky.system);
                row.push_bind(decky.seed.to_vec());
                row.push_bind(decky.booted_at);
                row.push_bind(decky.network.net.map(|net| net.to_string()));
                row.push_bind(decky.network.gateway.map(|gateway| gateway.to_string()));
                row.push_bind(decky.network.interface.clone());
                row.push_bind(&decky.runtime);
                row.push_bind(decky.deployed);
                row.push_bind(decky.sensor_id);
                row.push_bind(decky.mutate_interval.as_ref().map(ToString::to_string));
                row.push_bind(Json(decky.options.clone()));
                row.push_bind(decky.last_mutated);
                row.push_bind(decky.created_at);
                row.push_bind(decky.version);
            });
            query.build().persistent(false).execute(c).await.map(|_| ())
        })?;
    }
    insert_services(tx, deckies).await
}

async fn insert_services(tx: &mut Tx, deckies: &[Decky]) -> Result<()> {
    let rows: Vec<(Uuid, &Service, i64)> = deckies
        .iter()
        .flat_map(|decky| decky.services.iter().zip(0..).map(|(service, at)| (decky.id, service, at)))
        .collect();
    for rows in rows.chunks(SERVICE_ROWS) {
        on!(tx, |c| {
            let mut query = QueryBuilder::new("INSERT INTO decky_service (decky_id, name, position, port) ");
            query.push_values(rows, |mut row, (decky, service, position)| {
                row.push_bind(*decky);
                row.push_bind(&service.name);
                row.push_bind(*position);
                row.push_bind(i64::from(service.port));
            });
            query.build().persistent(false).execute(c).await.map(|_| ())
        })?;
    }
    Ok(())
}

/// Their deployment is through.
pub(crate) async fn set_deployed(tx: &mut Tx, ids: &[Uuid]) -> Result<u64> {
    with_ids(tx, "UPDATE decky SET deployed = TRUE WHERE NOT deployed AND id IN (", ids).await
}

/// Waits for what the sensors of these deckies say just now. Who changes what is said locks fleet, sensor, hosted in this
/// order, as who says it does: in another one each could wait for the other.
async fn lock_sensors(tx: &mut Tx, ids: &[Uuid]) -> Result<()> {
    const SQL: &str = "UPDATE sensor SET seen_at = seen_at WHERE id IN (SELECT sensor_id FROM decky WHERE id IN (";
    with_ids(tx, SQL, ids).await.map(|_| ())
}

/// Removes deckies and what is said of them.
pub(crate) async fn delete(tx: &mut Tx, ids: &[Uuid]) -> Result<u64> {
    const OWN: &str =
        "DELETE FROM sensor WHERE id IN (SELECT sensor_id FROM decky WHERE runtime = 'docker' AND id IN (";
    lock_sensors(tx, ids).await?;
    // A sensor that lives with its decky alone.
    with_ids(tx, OWN, ids).await?;
    with_ids(tx, "DELETE FROM hosted WHERE decky_id IN (", ids).await?;
    with_ids(tx, "DELETE FROM decky WHERE id IN (", ids).await
}

/// Gives deckies the services that they have here, for those that they had: a mutation of that moment, or one that is
/// taken back.
pub(crate) async fn replace_services(tx: &mut Tx, deckies: &[Decky]) -> Result<()> {
    let ids: Vec<Uuid> = deckies.iter().map(|decky| decky.id).collect();
    lock_sensors(tx, &ids).await?;
    with_ids(tx, "DELETE FROM hosted WHERE decky_id IN (", &ids).await?;
    with_ids(tx, "DELETE FROM decky_service WHERE decky_id IN (", &ids).await?;
    insert_services(tx, deckies).await
}

/// They were mutated.
pub(crate) async fn set_mutated(tx: &mut Tx, ids: &[Uuid], at: DateTime<Utc>) -> Result<()> {
    if ids.is_empty() {
        return Ok(());
    }
    on!(tx, |c| {
        let mut query = QueryBuilder::new("UPDATE decky SET version = version + 1, last_mutated = ");
        query.push_bind(at).push(" WHERE id IN (");
        let mut list = query.separated(", ");
        for id in ids {
            list.push_bind(*id);
        }
        query.push(")");
        query.build().persistent(false).execute(c).await.map(|_| ())
    })?;
    Ok(())
}

/// Takes back when a decky was mutated, after [`set_mutated`].
pub(crate) async fn set_last_mutated(tx: &mut Tx, id: Uuid, at: Option<DateTime<Utc>>) -> Result<()> {
    const SQL: &str = "UPDATE decky SET version = version + 1, last_mutated = $2 WHERE id = $1";
    on!(tx, |c| sqlx::query(SQL).bind(id).bind(at).execute(c).await.map(|_| ()))?;
    Ok(())
}

/// Sets how often a decky is mutated.
pub(crate) async fn set_interval(tx: &mut Tx, id: Uuid, interval: Option<&str>) -> Result<()> {
    const SQL: &str = "UPDATE decky SET version = version + 1, mutate_interval = $2 WHERE id = $1";
    let interval = interval.map(str::to_owned);
    on!(tx, |c| sqlx::query(SQL).bind(id).bind(interval).execute(c).await.map(|_| ()))?;
    Ok(())
}

/// Deckies whose deployment began before that and never ended: their process is gone.
pub(crate) async fn left_over(db: &Db, before: DateTime<Utc>) -> Result<Vec<Uuid>> {
    const SQL: &str = "SELECT id FROM decky WHERE NOT deployed AND created_at < $1";
    Ok(read!(db, |pool| sqlx::query_scalar(SQL).bind(before).fetch_all(pool).await)?)
}

/// What a decky's next mutation goes by.
#[derive(sqlx::FromRow)]
pub(crate) struct Clock {
    pub(crate) id: Uuid,
    pub(crate) mutate_interval: Option<String>,
    pub(crate) last_mutated: Option<DateTime<Utc>>,
    pub(crate) created_at: DateTime<Utc>,
}

/// What the next mutations of all deckies go by.
pub(crate) async fn clocks(db: &Db) -> Result<Vec<Clock>> {
    const SQL: &str = "SELECT id, mutate_interval, last_mutated, created_at FROM decky WHERE deployed";
    Ok(read!(db, |pool| sqlx::query_as(SQL).fetch_all(pool).await)?)
}

/// Takes the lease on the fleet's scheduled work, or keeps it, until `until`. Whether it is held now.
pub(crate) async fn take_lease(db: &Db, process: Uuid, at: DateTime<Utc>, until: DateTime<Utc>) -> Result<bool> {
    const SQL: &str = "UPDATE fleet SET lease_holder = $1, lease_until = $2 \
                       WHERE lease_holder IS NULL OR lease_holder = $1 OR lease_until <= $3 RETURNING id";
    let mut tx = db.begin().await?;
    let row: Option<i64> =
        on!(tx, |c| sqlx::query_scalar(SQL).bind(process).bind(until).bind(at).fetch_optional(c).await)?;
    // After a power cut nobody leads anyway.
    tx.commit_relaxed().await?;
    Ok(row.is_some())
}

/// Whether the process holds the lease; while this transaction lasts nobody else can take it.
pub(crate) async fn leads(tx: &mut Tx, process: Uuid, at: DateTime<Utc>) -> Result<bool> {
    const SQL: &str =
        "UPDATE fleet SET lease_until = lease_until WHERE lease_holder = $1 AND lease_until > $2 RETURNING id";
    let row: Option<i64> = on!(tx, |c| sqlx::query_scalar(SQL).bind(process).bind(at).fetch_optional(c).await)?;
    Ok(row.is_some())
}

/// Gives the lease back, if it is held.
pub(crate) async fn release_lease(db: &Db, process: Uuid) -> Result<()> {
    const SQL: &str = "UPDATE fleet SET lease_holder = NULL, lease_until = NULL WHERE lease_holder = $1";
    let mut tx = db.begin().await?;
    on!(tx, |c| sqlx::query(SQL).bind(process).execute(c).await.map(|_| ()))?;
    tx.commit_relaxed().await
}

/// `sql` ends with the bracket that the ids come into.
async fn with_ids(tx: &mut Tx, sql: &'static str, ids: &[Uuid]) -> Result<u64> {
    if ids.is_empty() {
        return Ok(0);
    }
    let open = sql.matches('(').count();
    let rows = on!(tx, |c| {
        let mut query = QueryBuilder::new(sql);
        let mut list = query.separated(", ");
        for id in ids {
            list.push_bind(*id);
        }
        query.push(")".repeat(open));
        query.build().persistent(false).execute(c).await.map(|done| done.rows_affected())
    })?;
    Ok(rows)
}

/// Tells this fleet from others at the same container engine.
pub(crate) async fn uid(db: &Db) -> Result<Uuid> {
    Ok(read!(db, |pool| sqlx::query_scalar("SELECT uid FROM fleet").fetch_one(pool).await)?)
}

/// Who hosts deckies of that net.
pub(crate) async fn sensors_of(db: &Db, net: &str) -> Result<Vec<Uuid>> {
    const SQL: &str = "SELECT DISTINCT sensor_id FROM decky WHERE net = $1";
    Ok(read!(db, |pool| sqlx::query_scalar(SQL).bind(net.to_owned()).fetch_all(pool).await)?)
}
