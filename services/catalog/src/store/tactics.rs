//! Tactics as rows.

use std::collections::HashMap;

use aegis_db::{Db, Result, Tx, on, read};
use sqlx::QueryBuilder;
use uuid::Uuid;

use super::{MAX_BINDS, unknown_text};
use crate::domain::technique::{Domain, Source, Tactic};

#[derive(sqlx::FromRow)]
struct Row {
    id: Uuid,
    mitre_id: String,
    short_name: String,
    name: String,
    domain: String,
    position: i64,
    deprecated: bool,
    source: String,
    stix_id: Option<String>,
}

impl TryFrom<Row> for Tactic {
    type Error = aegis_db::Error;

    fn try_from(row: Row) -> Result<Tactic> {
        Ok(Tactic {
            domain: Domain::parse(&row.domain).ok_or_else(|| unknown_text("domain", &row.domain))?,
            source: Source::parse(&row.source).ok_or_else(|| unknown_text("source", &row.source))?,
            id: row.id,
            mitre_id: row.mitre_id,
            short_name: row.short_name,
            name: row.name,
            position: row.position,
            deprecated: row.deprecated,
            stix_id: row.stix_id,
        })
    }
}

/// The live tactics of one matrix or of all, in the order of the columns.
pub(crate) async fn list(db: &Db, domain: Option<Domain>) -> Result<Vec<Tactic>> {
    let rows: Vec<Row> = read!(db, |pool| {
        let mut query = QueryBuilder::new(
            "SELECT id, mitre_id, short_name, name, domain, position, deprecated, source, stix_id FROM tactic \
             WHERE deprecated = FALSE",
        );
        if let Some(domain) = domain {
            query.push(" AND domain = ").push_bind(domain.as_str());
        }
        query.push(
            " ORDER BY CASE domain WHEN 'enterprise' THEN 0 WHEN 'mobile' THEN 1 ELSE 2 END, position, mitre_id \
             LIMIT 1000",
        );
        query.build_query_as().fetch_all(pool).await
    })?;
    rows.into_iter().map(Tactic::try_from).collect()
}

/// All tactics of a matrix.
pub(crate) async fn of_domain(tx: &mut Tx, domain: Domain) -> Result<Vec<Tactic>> {
    let rows: Vec<Row> = on!(tx, |c| sqlx::query_as(
        "SELECT id, mitre_id, short_name, name, domain, position, deprecated, source, stix_id FROM tactic \
         WHERE domain = $1 ORDER BY position, mitre_id"
    )
    .bind(domain.as_str())
    .fetch_all(c)
    .await)?;
    rows.into_iter().map(Tactic::try_from).collect()
}

const RELEASES: &str = "SELECT domain, attack_release FROM matrix";

/// Which release of ATT&CK each matrix is of, where that is known.
pub(crate) async fn releases(db: &Db) -> Result<HashMap<Domain, String>> {
    by_domain(read!(db, |pool| sqlx::query_as(RELEASES).fetch_all(pool).await)?)
}

/// The same in a transaction.
pub(crate) async fn releases_in(tx: &mut Tx) -> Result<HashMap<Domain, String>> {
    by_domain(on!(tx, |c| sqlx::query_as(RELEASES).fetch_all(c).await)?)
}

fn by_domain(rows: Vec<(String, String)>) -> Result<HashMap<Domain, String>> {
    let parse = |(name, release): (String, String)| match Domain::parse(&name) {
        Some(domain) => Ok((domain, release)),
        None => Err(unknown_text("domain", &name)),
    };
    rows.into_iter().map(parse).collect()
}

/// Notes which release of ATT&CK a matrix is of.
pub(crate) async fn set_release(tx: &mut Tx, domain: Domain, release: &str) -> Result<()> {
    on!(tx, |c| sqlx::query(
        "INSERT INTO matrix (domain, attack_release) VALUES ($1, $2) \
         ON CONFLICT (domain) DO UPDATE SET attack_release = excluded.attack_release"
    )
    .bind(domain.as_str())
    .bind(release)
    .execute(c)
    .await
    .map(|_| ()))?;
    Ok(())
}

/// Writes tactics, new and changed.
pub(crate) async fn write(tx: &mut Tx, rows: &[Tactic]) -> Result<()> {
    for chunk in rows.chunks(MAX_BINDS / 9) {
        on!(tx, |c| {
            let mut query = QueryBuilder::new(
                "INSERT INTO tactic (id, mitre_id, short_name, name, domain, position, deprecated, source, stix_id) ",
            );
            query.push_values(chunk, |mut row, t| {
                row.push_bind(t.id)
                    .push_bind(&t.mitre_id)
                    .push_bind(&t.short_name)
                    .push_bind(&t.name)
                    .push_bind(t.domain.as_str())
                    .push_bind(t.position)
                    .push_bind(t.deprecated)
                    .push_bind(t.source.as_str())
                    .push_bind(&t.stix_id);
            });
            query.push(
                " ON CONFLICT (id) DO UPDATE SET mitre_id = excluded.mitre_id, short_name = excluded.short_name, \
                 name = excluded.name, position = excluded.position, deprecated = excluded.deprecated, \
                 source = excluded.source, stix_id = excluded.stix_id",
            );
            query.build().persistent(false).execute(c).await.map(|_| ())
        })?;
    }
    Ok(())
}

/// Deletes tactics.
pub(crate) async fn remove(tx: &mut Tx, ids: &[Uuid]) -> Result<()> {
    for chunk in ids.chunks(MAX_BINDS) {
        on!(tx, |c| {
            let mut query = QueryBuilder::new("DELETE FROM tactic WHERE id IN (");
            let mut list = query.separated(", ");
            for id in chunk {
                list.push_bind(*id);
            }
            query.push(")");
            query.build().persistent(false).execute(c).await.map(|_| ())
        })?;
    }
    Ok(())
}
