//! What is new in the world, and why it matters here.

use aegis_db::{Db, Result, Tx, contains_pattern, on, read};
use chrono::{DateTime, Utc};
use sqlx::{Database, Encode, QueryBuilder, Type};
use uuid::Uuid;

use super::dialect;
use crate::domain::matching::{Match, TECHNIQUE};

/// Rows of one statement.
const BATCH: usize = 500;

/// An item of CISA's list of exploited vulnerabilities.
pub(crate) const KEV: &str = "kev";
/// An item of a feed.
pub(crate) const FEED: &str = "feed";

/// An item that may be new.
#[derive(Debug, Clone)]
pub(crate) struct NewItem {
    pub external_id: String,
    pub title: String,
    pub summary: String,
    pub url: Option<String>,
    pub published_at: Option<DateTime<Utc>>,
}

/// An item as it is stored.
#[derive(Debug, Clone, sqlx::FromRow)]
pub(crate) struct Item {
    pub id: Uuid,
    pub kind: String,
    pub external_id: String,
    pub title: String,
    pub summary: String,
    pub url: Option<String>,
    pub published_at: Option<DateTime<Utc>>,
    pub found_at: DateTime<Utc>,
    pub source: String,
    pub reviewed: bool,
    pub reviewed_by: String,
    pub reviewed_at: Option<DateTime<Utc>>,
    pub version: i64,
}

/// Why an item matters.
#[derive(Debug, Clone, sqlx::FromRow)]
pub(crate) struct MatchRow {
    pub item_id: Uuid,
    pub kind: String,
    pub key: String,
    pub name: String,
    pub matched_by: String,
    pub text: String,
}

/// Which items are listed.
#[derive(Debug, Clone, Default)]
pub(crate) struct Filter {
    pub kind: Option<String>,
    pub feed_id: Option<Uuid>,
    /// In lower case; in title, summary or external id.
    pub search: Option<String>,
    pub technique: Option<String>,
    pub reviewed: Option<bool>,
    pub unmatched_too: bool,
}

/// Adds those items of a feed, or with no feed of KEV, that are not known. How many were new.
pub(crate) async fn insert(tx: &mut Tx, feed_id: Option<Uuid>, items: Vec<NewItem>, at: DateTime<Utc>) -> Result<u64> {
    let mut new = 0;
    let kind = if feed_id.is_some() { FEED } else { KEV };
    for batch in items.chunks(BATCH) {
        new += on!(tx, |c| {
            let mut query = QueryBuilder::new(
                "INSERT INTO item (id, kind, feed_id, external_id, title, summary, url, published_at, found_at, seen_at, \
                 match_count, reviewed, reviewed_by, version) ",
            );
            query.push_values(batch, |mut row, item| {
                row.push_bind(Uuid::now_v7())
                    .push_bind(kind)
                    .push_bind(feed_id)
                    .push_bind(item.external_id.clone())
                    .push_bind(item.title.clone())
                    .push_bind(item.summary.clone())
                    .push_bind(item.url.clone())
                    .push_bind(item.published_at)
                    .push_bind(at)
                    .push_bind(at)
                    .push_bind(0_i64)
                    .push_bind(false)
                    .push_bind("")
                    .push_bind(1_i64);
            });
            query.push(" ON CONFLICT DO NOTHING");
            query.build().execute(c).await.map(|done| done.rows_affected())
        })?;
    }
    Ok(new)
}

/// Writes that a feed still has these, where that was last written before `before`.
pub(crate) async fn seen(
    tx: &mut Tx,
    feed_id: Uuid,
    external_ids: &[String],
    before: DateTime<Utc>,
    at: DateTime<Utc>,
) -> Result<()> {
    for batch in external_ids.chunks(BATCH) {
        on!(tx, |c| {
            let mut query = QueryBuilder::new("UPDATE item SET seen_at = ");
            query.push_bind(at).push(" WHERE feed_id = ").push_bind(feed_id);
            query.push(" AND seen_at < ").push_bind(before).push(" AND external_id IN (");
            let mut ids = query.separated(", ");
            for id in batch {
                ids.push_bind(id.clone());
            }
            query.push(")");
            query.build().execute(c).await.map(|_| ())
        })?;
    }
    Ok(())
}

/// An item that was not compared with what is known yet.
#[derive(Debug, Clone, sqlx::FromRow)]
pub(crate) struct Unmatched {
    pub id: Uuid,
    pub external_id: String,
    pub title: String,
    pub summary: String,
}

/// The next items to be matched, the oldest first, after `after`.
pub(crate) async fn unmatched(db: &Db, after: Uuid, limit: i64) -> Result<Vec<Unmatched>> {
    let sql =
        "SELECT id, external_id, title, summary FROM item WHERE matched_at IS NULL AND id > $1 ORDER BY id LIMIT $2";
    Ok(read!(db, |pool| sqlx::query_as(sql).bind(after).bind(limit).fetch_all(pool).await)?)
}

/// Writes what these items match; those that match nothing are among them.
pub(crate) async fn set_matched(tx: &mut Tx, items: &[(Uuid, Vec<Match>)], at: DateTime<Utc>) -> Result<()> {
    let rows: Vec<(Uuid, &Match)> =
        items.iter().flat_map(|(id, matches)| matches.iter().map(|found| (*id, found))).collect();
    for batch in rows.chunks(BATCH) {
        on!(tx, |c| {
            let mut query = QueryBuilder::new("INSERT INTO item_match (item_id, kind, key, name, matched_by, text) ");
            query.push_values(batch, |mut row, (id, found)| {
                row.push_bind(*id)
                    .push_bind(found.kind.clone())
                    .push_bind(found.key.clone())
                    .push_bind(found.name.clone())
                    .push_bind(found.by.as_str())
                    .push_bind(found.text.clone());
            });
            // An item may have gone with its feed meanwhile; then the foreign key refuses, and the scan comes again.
            query.push(" ON CONFLICT DO NOTHING");
            query.build().execute(c).await.map(|_| ())
        })?;
    }
    for batch in items.chunks(BATCH) {
        on!(tx, |c| {
            let mut query = QueryBuilder::new("UPDATE item SET matched_at = ");
            query.push_bind(at);
            query.push(
                ", match_count = (SELECT COUNT(*) FROM item_match WHERE item_match.item_id = item.id) WHERE id IN (",
            );
            let mut ids = query.separated(", ");
            for (id, _) in batch {
                ids.push_bind(*id);
            }
            query.push(")");
            query.build().execute(c).await.map(|_| ())
        })?;
    }
    Ok(())
}

/// What an item is shown with.
const SHOWN: &str = "SELECT item.id, item.kind, item.external_id, item.title, item.summary, item.url, item.published_at, \
     item.found_at, COALESCE(feed.name, 'CISA KEV') AS source, item.reviewed, item.reviewed_by, item.reviewed_at, \
     item.version FROM item LEFT JOIN feed ON feed.id = item.feed_id";

fn conditions<DB>(query: &mut QueryBuilder<DB>, filter: &Filter)
where
    DB: Database,
    for<'q> String: Encode<'q, DB> + Type<DB>,
    for<'q> &'q str: Encode<'q, DB> + Type<DB>,
    for<'q> bool: Encode<'q, DB> + Type<DB>,
    for<'q> Uuid: Encode<'q, DB> + Type<DB>,
{
    query.push(" WHERE 1 = 1");
    if !filter.unmatched_too {
        query.push(" AND item.match_count > 0");
    }
    if let Some(kind) = &filter.kind {
        query.push(" AND item.kind = ").push_bind(kind.clone());
    }
    if let Some(id) = filter.feed_id {
        query.push(" AND item.feed_id = ").push_bind(id);
    }
    if let Some(reviewed) = filter.reviewed {
        query.push(" AND item.reviewed = ").push_bind(reviewed);
    }
    if let Some(technique) = &filter.technique {
        query.push(" AND item.id IN (SELECT item_id FROM item_match WHERE kind = ").push_bind(TECHNIQUE);
        query.push(" AND key = ").push_bind(technique.clone()).push(")");
    }
    if let Some(search) = &filter.search {
        let pattern = contains_pattern(search);
        query.push(" AND (LOWER(item.title) LIKE ").push_bind(pattern.clone());
        query.push(" ESCAPE '\\' OR LOWER(item.external_id) LIKE ").push_bind(pattern.clone());
        query.push(" ESCAPE '\\' OR LOWER(item.summary) LIKE ").push_bind(pattern).push(" ESCAPE '\\')");
    }
}

/// A page of items, the newest first, and how many there are in all.
pub(crate) async fn list(db: &Db, filter: &Filter, limit: i64, offset: i64) -> Result<(Vec<Item>, i64)> {
    let items = read!(db, |pool| {
        let mut query = QueryBuilder::new(SHOWN);
        conditions(&mut query, filter);
        query.push(" ORDER BY item.found_at DESC, item.id DESC LIMIT ").push_bind(limit);
        query.push(" OFFSET ").push_bind(offset);
        query.build_query_as().fetch_all(pool).await
    })?;
    let total = read!(db, |pool| {
        let mut query = QueryBuilder::new("SELECT COUNT(*) FROM item");
        conditions(&mut query, filter);
        query.build_query_scalar().fetch_one(pool).await
    })?;
    Ok((items, total))
}

/// Why these items matter, the surest first.
pub(crate) async fn matches(db: &Db, items: &[Item]) -> Result<Vec<MatchRow>> {
    if items.is_empty() {
        return Ok(Vec::new());
    }
    let rows = read!(db, |pool| {
        let mut query =
            QueryBuilder::new("SELECT item_id, kind, key, name, matched_by, text FROM item_match WHERE item_id IN (");
        let mut ids = query.separated(", ");
        for item in items {
            ids.push_bind(item.id);
        }
        query.push(
            ") ORDER BY CASE matched_by WHEN 'id' THEN 1 WHEN 'cve_mapping' THEN 2 WHEN 'name' THEN 3 ELSE 4 END, \
             kind, key",
        );
        query.build_query_as().fetch_all(pool).await
    })?;
    Ok(rows)
}

/// One item.
pub(crate) async fn get(db: &Db, id: Uuid) -> Result<Option<Item>> {
    Ok(read!(db, |pool| {
        let mut query = QueryBuilder::new(SHOWN);
        query.push(" WHERE item.id = ").push_bind(id);
        query.build_query_as().fetch_optional(pool).await
    })?)
}

/// One item, to be changed in this transaction.
pub(crate) async fn lock(tx: &mut Tx, id: Uuid) -> Result<Option<Item>> {
    let sql = dialect::locking(tx, "", " FOR UPDATE OF item");
    Ok(on!(tx, |c| {
        let mut query = QueryBuilder::new(SHOWN);
        query.push(" WHERE item.id = ").push_bind(id).push(sql);
        query.build_query_as().fetch_optional(c).await
    })?)
}

/// Writes that an item was read by somebody, or not. False when it was changed since it was read.
pub(crate) async fn set_reviewed(tx: &mut Tx, item: &Item) -> Result<bool> {
    let sql = "UPDATE item SET reviewed = $3, reviewed_by = $4, reviewed_at = $5, version = version + 1 \
               WHERE id = $1 AND version = $2";
    let rows = on!(tx, |c| sqlx::query(sql)
        .bind(item.id)
        .bind(item.version)
        .bind(item.reviewed)
        .bind(&item.reviewed_by)
        .bind(item.reviewed_at)
        .execute(c)
        .await
        .map(|done| done.rows_affected()))?;
    Ok(rows == 1)
}

/// Deletes items of feeds that were found before `found` and that their feeds no longer had at `seen`: one that still
/// stands in its feed would come again as new. One whose feed was not read whole since `seen` may still stand there.
pub(crate) async fn purge(tx: &mut Tx, found: DateTime<Utc>, seen: DateTime<Utc>) -> Result<u64> {
    let sql = "DELETE FROM item WHERE feed_id IS NOT NULL AND found_at < $1 AND seen_at < $2 AND EXISTS \
               (SELECT 1 FROM item AS newer WHERE newer.feed_id = item.feed_id AND newer.seen_at >= $2)";
    Ok(on!(tx, |c| sqlx::query(sql).bind(found).bind(seen).execute(c).await.map(|done| done.rows_affected()))?)
}
