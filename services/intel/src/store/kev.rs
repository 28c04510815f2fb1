//! CISA's list of exploited vulnerabilities, as the last sync left it.

use std::collections::HashMap;

use aegis_db::{Db, Result, Tx, on, read};
use chrono::{DateTime, NaiveDate, Utc};
use sqlx::{QueryBuilder, types::Json};

use crate::domain::kev::KevEntry;

/// Rows of one statement.
const BATCH: usize = 500;
/// Entries that are looked at of the list; it has some 1,500.
const MAX_ENTRIES: i64 = 100_000;

/// What is known of an entry.
#[derive(Debug, Clone, sqlx::FromRow)]
pub(crate) struct Known {
    pub cve: String,
    pub listed: bool,
    pub content_hash: Vec<u8>,
}

/// All entries that are known, by CVE.
pub(crate) async fn known(tx: &mut Tx) -> Result<HashMap<String, Known>> {
    let sql = "SELECT cve, listed, content_hash FROM kev_entry LIMIT $1";
    let rows: Vec<Known> = on!(tx, |c| sqlx::query_as(sql).bind(MAX_ENTRIES).fetch_all(c).await)?;
    Ok(rows.into_iter().map(|known| (known.cve.clone(), known)).collect())
}

/// Writes entries that are new or have other content.
pub(crate) async fn upsert(tx: &mut Tx, entries: &[(&KevEntry, [u8; 32])], at: DateTime<Utc>) -> Result<()> {
    for batch in entries.chunks(BATCH) {
        on!(tx, |c| {
            let mut query = QueryBuilder::new(
                "INSERT INTO kev_entry (cve, vendor, product, name, description, required_action, date_added, due_date, \
                 ransomware, cwes, listed, content_hash, updated_at) ",
            );
            query.push_values(batch, |mut row, (entry, hash)| {
                row.push_bind(entry.cve_id.clone())
                    .push_bind(entry.vendor.clone())
                    .push_bind(entry.product.clone())
                    .push_bind(entry.name.clone())
                    .push_bind(entry.description.clone())
                    .push_bind(entry.required_action.clone())
                    .push_bind(entry.date_added)
                    .push_bind(entry.due_date)
                    .push_bind(entry.ransomware)
                    .push_bind(Json(entry.cwes.clone()))
                    .push_bind(true)
                    .push_bind(hash.to_vec())
                    .push_bind(at);
            });
            query.push(
                " ON CONFLICT (cve) DO UPDATE SET vendor = excluded.vendor, product = excluded.product, \
                 name = excluded.name, description = excluded.description, required_action = excluded.required_action, \
                 date_added = excluded.date_added, due_date = excluded.due_date, ransomware = excluded.ransomware, \
                 cwes = excluded.cwes, listed = excluded.listed, content_hash = excluded.content_hash, \
                 updated_at = excluded.updated_at",
            );
            query.build().execute(c).await.map(|_| ())
        })?;
    }
    Ok(())
}

/// Marks entries that are no longer on the list.
pub(crate) async fn vanish(tx: &mut Tx, cves: &[String], at: DateTime<Utc>) -> Result<()> {
    for batch in cves.chunks(BATCH) {
        on!(tx, |c| {
            let mut query = QueryBuilder::new("UPDATE kev_entry SET listed = FALSE, updated_at = ");
            query.push_bind(at).push(" WHERE cve IN (");
            let mut names = query.separated(", ");
            for cve in batch {
                names.push_bind(cve.clone());
            }
            query.push(")");
            query.build().execute(c).await.map(|_| ())
        })?;
    }
    Ok(())
}

/// An entry, as far as a scan reads it.
#[derive(Debug, Clone, sqlx::FromRow)]
pub(crate) struct Listed {
    pub cve: String,
    pub vendor: String,
    pub product: String,
    pub name: String,
    pub description: String,
    pub required_action: String,
    pub date_added: NaiveDate,
}

/// Entries on the list that are no item yet, the oldest first.
pub(crate) async fn without_item(db: &Db) -> Result<Vec<Listed>> {
    let sql = "SELECT cve, vendor, product, name, description, required_action, date_added FROM kev_entry \
               WHERE listed AND NOT EXISTS (SELECT 1 FROM item WHERE item.feed_id IS NULL AND item.external_id = cve) \
               ORDER BY date_added, cve LIMIT $1";
    Ok(read!(db, |pool| sqlx::query_as(sql).bind(MAX_ENTRIES).fetch_all(pool).await)?)
}
