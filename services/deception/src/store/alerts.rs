//! SQL of alerts and approved scanners.

use aegis_db::{Conn, Db, Result, Tx, on, read};
use chrono::{DateTime, Utc};
use sqlx::{QueryBuilder, types::Json};
use uuid::Uuid;

use crate::domain::alert::Alert;

/// Rows of one statement.
const ROWS: usize = 500;

#[derive(sqlx::FromRow)]
struct Row {
    id: Uuid,
    kind: String,
    attacker_id: Option<Uuid>,
    attacker_ip: String,
    deckies: Json<Vec<String>>,
    detail: String,
    count: i64,
    attackers: i64,
    first_seen: i64,
    last_seen: i64,
}

impl From<Row> for Alert {
    fn from(row: Row) -> Alert {
        Alert {
            id: row.id,
            kind: row.kind,
            attacker_id: row.attacker_id,
            attacker_ip: row.attacker_ip,
            deckies: row.deckies.0,
            detail: row.detail,
            count: row.count,
            attackers: row.attackers,
            first_seen: row.first_seen,
            last_seen: row.last_seen,
        }
    }
}

/// Alerts of these attackers to which something was added since `since`, and those with these ids.
pub(crate) async fn open(tx: &mut Tx, attackers: &[Uuid], since: i64, ids: &[Uuid]) -> Result<Vec<Alert>> {
    let mut alerts: Vec<Alert> = Vec::new();
    for attackers in attackers.chunks(ROWS) {
        let rows: Vec<Row> = on!(tx, |c| {
            let mut query = QueryBuilder::new(
                "SELECT id, kind, attacker_id, attacker_ip, deckies, detail, \
         count, attackers, first_seen, last_seen \
         FROM alert WHERE last_seen >= ",
            );
            query.push_bind(since).push(" AND attacker_id IN (");
            let mut values = query.separated(", ");
            for id in attackers {
                values.push_bind(*id);
            }
            query.push(")");
            query.build_query_as().persistent(false).fetch_all(c).await
        })?;
        alerts.extend(rows.into_iter().map(Alert::from));
    }
    for ids in ids.chunks(ROWS) {
        let rows: Vec<Row> = on!(tx, |c| {
            let mut query = QueryBuilder::new(
                "SELECT id, kind, attacker_id, attacker_ip, deckies, detail, \
         count, attackers, first_seen, last_seen \
         FROM alert WHERE id IN (",
            );
            let mut values = query.separated(", ");
            for id in ids {
                values.push_bind(*id);
            }
            query.push(")");
            query.build_query_as().persistent(false).fetch_all(c).await
        })?;
        for row in rows {
            if !alerts.iter().any(|alert| alert.id == row.id) {
                alerts.push(row.into());
            }
        }
    }
    Ok(alerts)
}

/// Writes alerts, new ones and changed ones.
pub(crate) async fn write(tx: &mut Tx, alerts: &[&Alert]) -> Result<()> {
    for alerts in alerts.chunks(ROWS) {
        on!(tx, |c| {
            let mut query = QueryBuilder::new(
                "INSERT INTO alert (id, kind, attacker_id, attacker_ip, deckies, detail, count, attackers, first_seen, \
                 last_seen) ",
            );
            query.push_values(alerts, |mut row, alert| {
                row.push_bind(alert.id)
                    .push_bind(&alert.kind)
                    .push_bind(alert.attacker_id)
                    .push_bind(&alert.attacker_ip)
                    .push_bind(Json(&alert.deckies))
                    .push_bind(&alert.detail)
                    .push_bind(alert.count)
                    .push_bind(alert.attackers)
                    .push_bind(alert.first_seen)
                    .push_bind(alert.last_seen);
            });
            query.push(
                " ON CONFLICT (id) DO UPDATE SET deckies = excluded.deckies, count = excluded.count, \
                 attackers = excluded.attackers, first_seen = excluded.first_seen, last_seen = excluded.last_seen",
            );
            query.build().persistent(false).execute(c).await.map(|_| ())
        })?;
    }
    Ok(())
}

/// A page of alerts, newest first, and how many there are.
pub(crate) async fn list(db: &Db, limit: i64, offset: i64) -> Result<(Vec<Alert>, i64)> {
    // The ids grow with time.
    const PAGE: &str = "SELECT id, kind, attacker_id, attacker_ip, deckies, detail, count, attackers, \
         first_seen, last_seen \
         FROM alert ORDER BY id DESC LIMIT $1 OFFSET $2";
    let total = read!(db, |pool| sqlx::query_scalar("SELECT COUNT(*) FROM alert").fetch_one(pool).await)?;
    let rows: Vec<Row> = read!(db, |pool| sqlx::query_as(PAGE).bind(limit).bind(offset).fetch_all(pool).await)?;
    Ok((rows.into_iter().map(Alert::from).collect(), total))
}

/// One alert.
pub(crate) async fn find(db: &Db, id: Uuid) -> Result<Option<Alert>> {
    const SQL: &str = "SELECT id, kind, attacker_id, attacker_ip, deckies, detail, count, attackers, \
         first_seen, last_seen \
         FROM alert WHERE id = $1";
    let row: Option<Row> = read!(db, |pool| sqlx::query_as(SQL).bind(id).fetch_optional(pool).await)?;
    Ok(row.map(Alert::from))
}

/// An approved scanner as it is stored.
#[derive(Clone, Debug, PartialEq, Eq, sqlx::FromRow)]
pub(crate) struct Scanner {
    pub(crate) id: Uuid,
    pub(crate) name: String,
    pub(crate) network: String,
    pub(crate) ports: Json<Vec<u16>>,
    pub(crate) starts_at: Option<DateTime<Utc>>,
    pub(crate) ends_at: Option<DateTime<Utc>>,
    pub(crate) created_by: String,
    pub(crate) created_at: DateTime<Utc>,
    pub(crate) version: i64,
}

/// A page of approved scanners by name, and how many there are.
pub(crate) async fn scanners(db: &Db, limit: i64, offset: i64) -> Result<(Vec<Scanner>, i64)> {
    const PAGE: &str = "SELECT id, name, network, ports, starts_at, ends_at, created_by, created_at, version \
         FROM approved_scanner ORDER BY name, id LIMIT $1 OFFSET $2";
    let total = read!(db, |pool| sqlx::query_scalar("SELECT COUNT(*) FROM approved_scanner").fetch_one(pool).await)?;
    let rows = read!(db, |pool| sqlx::query_as(PAGE).bind(limit).bind(offset).fetch_all(pool).await)?;
    Ok((rows, total))
}

/// One approved scanner.
pub(crate) async fn scanner(db: &Db, id: Uuid) -> Result<Option<Scanner>> {
    const SQL: &str = "SELECT id, name, network, ports, starts_at, ends_at, created_by, created_at, version \
         FROM approved_scanner WHERE id = $1";
    Ok(read!(db, |pool| sqlx::query_as(SQL).bind(id).fetch_optional(pool).await)?)
}

/// How many scanners are approved; while this transaction lasts it stays so.
pub(crate) async fn count_scanners(tx: &mut Tx) -> Result<i64> {
    if let Conn::Postgres(c) = tx.conn() {
        sqlx::query("LOCK TABLE approved_scanner IN SHARE ROW EXCLUSIVE MODE").execute(c).await?;
    }
    Ok(on!(tx, |c| sqlx::query_scalar("SELECT COUNT(*) FROM approved_scanner").fetch_one(c).await)?)
}

/// Writes a new scanner.
pub(crate) async fn insert_scanner(tx: &mut Tx, scanner: &Scanner) -> Result<()> {
    const SQL: &str = "INSERT INTO approved_scanner \
                       (id, name, network, ports, starts_at, ends_at, created_by, created_at, version) \
                       VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)";
    on!(tx, |c| sqlx::query(SQL)
        .bind(scanner.id)
        .bind(&scanner.name)
        .bind(&scanner.network)
        .bind(&scanner.ports)
        .bind(scanner.starts_at)
        .bind(scanner.ends_at)
        .bind(&scanner.created_by)
        .bind(scanner.created_at)
        .bind(scanner.version)
        .execute(c)
        .await
        .map(|_| ()))?;
    Ok(())
}

/// Takes a scanner away; what it was, nothing where there is none.
pub(crate) async fn delete_scanner(tx: &mut Tx, id: Uuid) -> Result<Option<Scanner>> {
    const SQL: &str = "DELETE FROM approved_scanner WHERE id = $1 \
         RETURNING id, name, network, ports, starts_at, ends_at, created_by, created_at, version";
    Ok(on!(tx, |c| sqlx::query_as(SQL).bind(id).fetch_optional(c).await)?)
}
