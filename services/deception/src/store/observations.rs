//! The SQL of observations: which attacker showed which technique, and how.

use std::collections::BTreeSet;

use aegis_db::{Db, Result, Tx, on, read};
use sqlx::{QueryBuilder, types::Json};
use uuid::Uuid;

/// Rows of one statement.
const ROWS: usize = 500;
/// Acts that are kept of a technique.
const ACTS: i64 = 100;
/// Techniques that are told of at once.
const TOLD: i64 = 500;

macro_rules! columns {
    () => {
        "technique, attacker_id, attacker_ip, count, first_seen, last_seen, deckies, services, rules, last_log_id, last_msg"
    };
}

/// A technique that one attacker showed. Moments are microseconds since 1970.
#[derive(Clone, Debug, PartialEq, Eq, sqlx::FromRow)]
pub(crate) struct Row {
    pub(crate) technique: String,
    pub(crate) attacker_id: Uuid,
    pub(crate) attacker_ip: String,
    pub(crate) count: i64,
    pub(crate) first_seen: i64,
    pub(crate) last_seen: i64,
    pub(crate) deckies: Json<BTreeSet<String>>,
    pub(crate) services: Json<BTreeSet<String>>,
    pub(crate) rules: Json<BTreeSet<String>>,
    /// The newest event that showed it.
    pub(crate) last_log_id: i64,
    pub(crate) last_msg: String,
}

/// A technique over all attackers. Moments are microseconds since 1970.
#[derive(Clone, Debug, PartialEq, Eq, sqlx::FromRow)]
pub(crate) struct Observed {
    pub(crate) technique: String,
    pub(crate) count: i64,
    pub(crate) attackers: i64,
    pub(crate) first_seen: i64,
    pub(crate) last_seen: i64,
    pub(crate) version: i64,
}

/// What was done to show a technique.
#[derive(Clone, Debug, PartialEq, Eq, sqlx::FromRow)]
pub(crate) struct Act {
    pub(crate) technique: String,
    pub(crate) service: String,
    pub(crate) act: String,
    pub(crate) count: i64,
    pub(crate) last_seen: i64,
}

/// All that these attackers showed.
pub(crate) async fn of_attackers(tx: &mut Tx, ids: &[Uuid]) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    for ids in ids.chunks(ROWS) {
        let some: Vec<Row> = on!(tx, |c| {
            let mut query =
                QueryBuilder::new(concat!("SELECT ", columns!(), " FROM observation WHERE attacker_id IN ("));
            let mut list = query.separated(", ");
            for id in ids {
                list.push_bind(*id);
            }
            query.push(")");
            query.build_query_as().persistent(ids.len() == ROWS).fetch_all(c).await
        })?;
        rows.extend(some);
    }
    Ok(rows)
}

/// Writes rows as they are.
pub(crate) async fn put(tx: &mut Tx, rows: &[Row]) -> Result<()> {
    for rows in rows.chunks(ROWS) {
        on!(tx, |c| {
            let mut query = QueryBuilder::new(concat!("INSERT INTO observation (", columns!(), ") "));
            query.push_values(rows, |mut into, row| {
                into.push_bind(&row.technique)
                    .push_bind(row.attacker_id)
                    .push_bind(&row.attacker_ip)
                    .push_bind(row.count)
                    .push_bind(row.first_seen)
                    .push_bind(row.last_seen)
                    .push_bind(&row.deckies)
                    .push_bind(&row.services)
                    .push_bind(&row.rules)
                    .push_bind(row.last_log_id)
                    .push_bind(&row.last_msg);
            });
            query.push(
                " ON CONFLICT (attacker_id, technique) DO UPDATE SET count = excluded.count, \
                 first_seen = excluded.first_seen, last_seen = excluded.last_seen, deckies = excluded.deckies, \
                 services = excluded.services, rules = excluded.rules, last_log_id = excluded.last_log_id, \
                 last_msg = excluded.last_msg",
            );
            query.build().persistent(rows.len() == ROWS).execute(c).await.map(|_| ())
        })?;
    }
    Ok(())
}

/// Adds to what is known over all attackers: `count` and `attackers` are what comes to them.
pub(crate) async fn add(tx: &mut Tx, more: &[Observed]) -> Result<()> {
    for more in more.chunks(ROWS) {
        on!(tx, |c| {
            let mut query = QueryBuilder::new(
                "INSERT INTO observed_technique (technique, count, attackers, first_seen, last_seen, version, told) ",
            );
            query.push_values(more, |mut into, row| {
                into.push_bind(&row.technique)
                    .push_bind(row.count)
                    .push_bind(row.attackers)
                    .push_bind(row.first_seen)
                    .push_bind(row.last_seen)
                    .push("1, 0");
            });
            query.push(
                " ON CONFLICT (technique) DO UPDATE SET count = observed_technique.count + excluded.count, \
                 attackers = observed_technique.attackers + excluded.attackers, \
                 first_seen = CASE WHEN observed_technique.count > 0 \
                 AND observed_technique.first_seen < excluded.first_seen \
                 THEN observed_technique.first_seen ELSE excluded.first_seen END, \
                 last_seen = CASE WHEN observed_technique.last_seen > excluded.last_seen \
                 THEN observed_technique.last_seen ELSE excluded.last_seen END, \
                 version = observed_technique.version + 1",
            );
            query.build().persistent(false).execute(c).await.map(|_| ())
        })?;
    }
    Ok(())
}

/// Adds what was done, each text of a technique and service once; of a technique the newest stay.
pub(crate) async fn add_acts(tx: &mut Tx, acts: &[Act]) -> Result<()> {
    for acts in acts.chunks(ROWS) {
        on!(tx, |c| {
            let mut query = QueryBuilder::new("INSERT INTO observed_act (technique, service, act, count, last_seen) ");
            query.push_values(acts, |mut into, act| {
                into.push_bind(&act.technique)
                    .push_bind(&act.service)
                    .push_bind(&act.act)
                    .push_bind(act.count)
                    .push_bind(act.last_seen);
            });
            query.push(
                " ON CONFLICT (technique, service, act) DO UPDATE SET count = observed_act.count + excluded.count, \
                 last_seen = CASE WHEN observed_act.last_seen > excluded.last_seen \
                 THEN observed_act.last_seen ELSE excluded.last_seen END",
            );
            query.build().persistent(acts.len() == ROWS).execute(c).await.map(|_| ())
        })?;
    }
    let techniques: BTreeSet<&str> = acts.iter().map(|act| act.technique.as_str()).collect();
    for technique in techniques {
        // A batch shows a few dozen techniques, and there is an index from the newest.
        const OLD: &str = "DELETE FROM observed_act WHERE technique = $1 AND last_seen < \
             (SELECT last_seen FROM observed_act WHERE technique = $1 ORDER BY last_seen DESC LIMIT 1 OFFSET $2)";
        on!(tx, |c| sqlx::query(OLD).bind(technique).bind(ACTS).execute(c).await.map(|_| ()))?;
    }
    Ok(())
}

/// Techniques whose facts were not told since they changed; they count as told from now on.
pub(crate) async fn tell(tx: &mut Tx) -> Result<Vec<Observed>> {
    const SQL: &str = "UPDATE observed_technique SET told = version WHERE technique IN \
         (SELECT technique FROM observed_technique WHERE told < version ORDER BY technique LIMIT $1) \
         RETURNING technique, count, attackers, first_seen, last_seen, version";
    on!(tx, |c| sqlx::query_as(SQL).bind(TOLD).fetch_all(c).await).map_err(Into::into)
}

/// Whether any technique is to be told of.
pub(crate) async fn untold(db: &Db) -> Result<bool> {
    const SQL: &str = "SELECT EXISTS (SELECT 1 FROM observed_technique WHERE told < version)";
    Ok(read!(db, |pool| sqlx::query_scalar(SQL).fetch_one(pool).await)?)
}

/// Those who showed a technique, newest first, and how many they are.
pub(crate) async fn of_technique(db: &Db, technique: &str, limit: i64, offset: i64) -> Result<(Vec<Row>, i64)> {
    const PAGE: &str = concat!(
        "SELECT ",
        columns!(),
        " FROM observation WHERE technique = $1 ORDER BY last_seen DESC, attacker_id LIMIT $2 OFFSET $3"
    );
    let rows = read!(db, |pool| sqlx::query_as(PAGE).bind(technique).bind(limit).bind(offset).fetch_all(pool).await)?;
    let total = one(db, technique).await?.map_or(0, |observed| observed.attackers);
    Ok((rows, total))
}

/// What an attacker showed, the most often shown first.
pub(crate) async fn of_attacker(db: &Db, id: Uuid) -> Result<Vec<Row>> {
    const SQL: &str =
        concat!("SELECT ", columns!(), " FROM observation WHERE attacker_id = $1 ORDER BY count DESC, technique");
    Ok(read!(db, |pool| sqlx::query_as(SQL).bind(id).fetch_all(pool).await)?)
}

/// What is known of a technique over all attackers.
pub(crate) async fn one(db: &Db, technique: &str) -> Result<Option<Observed>> {
    const SQL: &str = "SELECT technique, count, attackers, first_seen, last_seen, version FROM observed_technique \
                       WHERE technique = $1";
    Ok(read!(db, |pool| sqlx::query_as(SQL).bind(technique).fetch_optional(pool).await)?)
}

/// The same of all techniques: as many as rules name, and no more.
pub(crate) async fn all(db: &Db) -> Result<Vec<Observed>> {
    const SQL: &str = "SELECT technique, count, attackers, first_seen, last_seen, version FROM observed_technique \
                       ORDER BY technique";
    Ok(read!(db, |pool| sqlx::query_as(SQL).fetch_all(pool).await)?)
}

/// What was done to show a technique, newest first.
pub(crate) async fn acts(db: &Db, technique: &str, limit: i64) -> Result<Vec<Act>> {
    const SQL: &str = "SELECT technique, service, act, count, last_seen FROM observed_act WHERE technique = $1 \
                       ORDER BY last_seen DESC, service, act LIMIT $2";
    Ok(read!(db, |pool| sqlx::query_as(SQL).bind(technique).bind(limit).fetch_all(pool).await)?)
}

/// Removes everything; that nothing is known any more is told too.
pub(crate) async fn purge(tx: &mut Tx) -> Result<()> {
    for sql in [
        "DELETE FROM observation",
        "DELETE FROM observed_act",
        "UPDATE observed_technique SET count = 0, attackers = 0, version = version + 1",
    ] {
        on!(tx, |c| sqlx::query(sql).execute(c).await.map(|_| ()))?;
    }
    Ok(())
}
