//! The SQL of evidence.

pub(crate) mod look;
pub(crate) mod uploads;

use aegis_db::{Db, Result, Tx, on, read};
use chrono::{DateTime, Utc};
use serde_json::json;
use sqlx::QueryBuilder;
use uuid::Uuid;

const COLUMNS: &str = "id, test_id, file_name, sha256, size_bytes, team, notes, uploaded_by, \
                       uploaded_by_username, uploaded_at";

/// Below it are the blobs of evidence and nothing else.
pub(crate) const PREFIX: &str = "evidence";

/// One file.
#[derive(Clone, Debug, PartialEq, Eq, sqlx::FromRow)]
pub(crate) struct Evidence {
    pub(crate) id: Uuid,
    pub(crate) test_id: Uuid,
    pub(crate) file_name: String,
    pub(crate) sha256: String,
    pub(crate) size_bytes: i64,
    pub(crate) team: Option<String>,
    pub(crate) notes: Option<String>,
    pub(crate) uploaded_by: Uuid,
    pub(crate) uploaded_by_username: String,
    pub(crate) uploaded_at: DateTime<Utc>,
}

/// Where the bytes of a file are.
pub(crate) fn blob_key(test_id: Uuid, id: Uuid) -> String {
    format!("{PREFIX}/{test_id}/{id}")
}

/// The test and the file of a key that [`blob_key`] has made.
pub(crate) fn of_blob_key(key: &str) -> Option<(Uuid, Uuid)> {
    let (test_id, id) = key.strip_prefix(PREFIX)?.strip_prefix('/')?.split_once('/')?;
    let ids = (test_id.parse().ok()?, id.parse().ok()?);
    // A UUID can be written in several ways.
    (blob_key(ids.0, ids.1) == key).then_some(ids)
}

impl Evidence {
    pub(crate) fn blob_key(&self) -> String {
        blob_key(self.test_id, self.id)
    }

    /// For the audit trail.
    pub(crate) fn facts(&self) -> serde_json::Value {
        json!({
            "test_id": self.test_id,
            "file_name": self.file_name,
            "sha256": self.sha256,
            "size_bytes": self.size_bytes,
            "team": self.team,
        })
    }
}

pub(crate) async fn get(db: &Db, id: Uuid) -> Result<Option<Evidence>> {
    let sql = format!("SELECT {COLUMNS} FROM evidence WHERE id = $1 AND removing_at IS NULL");
    Ok(read!(db, |pool| sqlx::query_as(sqlx::AssertSqlSafe(sql)).bind(id).fetch_optional(pool).await)?)
}

/// Files of a test after `after`, oldest first.
pub(crate) async fn of_test(db: &Db, test_id: Uuid, after: (DateTime<Utc>, Uuid), limit: i64) -> Result<Vec<Evidence>> {
    let sql = format!(
        "SELECT {COLUMNS} FROM evidence WHERE test_id = $1 AND (uploaded_at, id) > ($2, $3) AND removing_at IS NULL \
         ORDER BY uploaded_at, id LIMIT $4"
    );
    Ok(read!(db, |pool| sqlx::query_as(sqlx::AssertSqlSafe(sql))
        .bind(test_id)
        .bind(after.0)
        .bind(after.1)
        .bind(limit)
        .fetch_all(pool)
        .await)?)
}

pub(crate) async fn count_of_test(db: &Db, test_id: Uuid) -> Result<i64> {
    const COUNT: &str = "SELECT COUNT(*) FROM evidence WHERE test_id = $1 AND removing_at IS NULL";
    Ok(read!(db, |pool| sqlx::query_scalar(COUNT).bind(test_id).fetch_one(pool).await)?)
}

/// Adds a file. The id of the one that has the same bytes, if there is one.
pub(crate) async fn insert(tx: &mut Tx, row: &Evidence) -> Result<Option<Uuid>> {
    let added = on!(tx, |c| sqlx::query(
        "INSERT INTO evidence (id, test_id, file_name, sha256, size_bytes, team, notes, uploaded_by, \
         uploaded_by_username, uploaded_at) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10) \
         ON CONFLICT (test_id, sha256) DO NOTHING"
    )
    .bind(row.id)
    .bind(row.test_id)
    .bind(&row.file_name)
    .bind(&row.sha256)
    .bind(row.size_bytes)
    .bind(&row.team)
    .bind(&row.notes)
    .bind(row.uploaded_by)
    .bind(&row.uploaded_by_username)
    .bind(row.uploaded_at)
    .execute(c)
    .await
    .map(|done| done.rows_affected()))?;
    if added == 1 {
        return Ok(None);
    }
    let first = on!(tx, |c| sqlx::query_scalar("SELECT id FROM evidence WHERE test_id = $1 AND sha256 = $2")
        .bind(row.test_id)
        .bind(&row.sha256)
        .fetch_one(c)
        .await)?;
    Ok(Some(first))
}

/// Holds a test until the transaction ends; true when it was deleted.
pub(crate) async fn hold_test(tx: &mut Tx, test_id: Uuid) -> Result<bool> {
    Ok(on!(tx, |c| sqlx::query_scalar(
        "INSERT INTO test (id, deleted) VALUES ($1, FALSE)
         ON CONFLICT (id) DO UPDATE SET deleted = test.deleted RETURNING deleted"
    )
    .bind(test_id)
    .fetch_one(c)
    .await)?)
}

/// Notes that a test is gone, and holds it until the transaction ends.
pub(crate) async fn delete_test(tx: &mut Tx, test_id: Uuid) -> Result<()> {
    on!(tx, |c| sqlx::query(
        "INSERT INTO test (id, deleted) VALUES ($1, TRUE) ON CONFLICT (id) DO UPDATE SET deleted = TRUE"
    )
    .bind(test_id)
    .execute(c)
    .await
    .map(|_| ()))?;
    Ok(())
}

/// How many files a test has, in the transaction that holds it.
pub(crate) async fn count_held(tx: &mut Tx, test_id: Uuid) -> Result<i64> {
    Ok(on!(tx, |c| sqlx::query_scalar("SELECT COUNT(*) FROM evidence WHERE test_id = $1")
        .bind(test_id)
        .fetch_one(c)
        .await)?)
}

/// Hides a file that is about to be removed; false where there is none to be seen.
pub(crate) async fn hide(tx: &mut Tx, id: Uuid, at: DateTime<Utc>) -> Result<bool> {
    let hidden =
        on!(tx, |c| sqlx::query("UPDATE evidence SET removing_at = $1 WHERE id = $2 AND removing_at IS NULL")
            .bind(at)
            .bind(id)
            .execute(c)
            .await
            .map(|done| done.rows_affected()))?;
    Ok(hidden == 1)
}

/// Shows a file again that was hidden at that moment.
pub(crate) async fn show(tx: &mut Tx, id: Uuid, at: DateTime<Utc>) -> Result<()> {
    on!(tx, |c| sqlx::query("UPDATE evidence SET removing_at = NULL WHERE id = $1 AND removing_at = $2")
        .bind(id)
        .bind(at)
        .execute(c)
        .await
        .map(|_| ()))?;
    Ok(())
}

/// Shows all files again that were hidden before that moment; how many.
pub(crate) async fn show_all(tx: &mut Tx, before: DateTime<Utc>) -> Result<u64> {
    Ok(on!(tx, |c| sqlx::query("UPDATE evidence SET removing_at = NULL WHERE removing_at < $1")
        .bind(before)
        .execute(c)
        .await
        .map(|done| done.rows_affected()))?)
}

/// Takes the row of a file away that was hidden at that moment; false where there is none.
pub(crate) async fn remove(tx: &mut Tx, id: Uuid, hidden_at: DateTime<Utc>) -> Result<bool> {
    let removed = on!(tx, |c| sqlx::query("DELETE FROM evidence WHERE id = $1 AND removing_at = $2")
        .bind(id)
        .bind(hidden_at)
        .execute(c)
        .await
        .map(|done| done.rows_affected()))?;
    Ok(removed == 1)
}

/// Takes some rows of a test away and answers them, in no order.
pub(crate) async fn remove_of_test(tx: &mut Tx, test_id: Uuid, limit: i64) -> Result<Vec<Evidence>> {
    let sql = format!(
        "DELETE FROM evidence WHERE id IN (SELECT id FROM evidence WHERE test_id = $1 ORDER BY id LIMIT $2) \
         RETURNING {COLUMNS}"
    );
    Ok(on!(tx, |c| sqlx::query_as(sqlx::AssertSqlSafe(sql)).bind(test_id).bind(limit).fetch_all(c).await)?)
}

/// Files behind a key, in the order of the keys of their blobs.
pub(crate) async fn by_key(db: &Db, after: (Uuid, Uuid), limit: i64) -> Result<Vec<Evidence>> {
    let sql = format!("SELECT {COLUMNS} FROM evidence WHERE (test_id, id) > ($1, $2) ORDER BY test_id, id LIMIT $3");
    Ok(read!(db, |pool| sqlx::query_as(sqlx::AssertSqlSafe(sql))
        .bind(after.0)
        .bind(after.1)
        .bind(limit)
        .fetch_all(pool)
        .await)?)
}

/// Which of these files have a row.
pub(crate) async fn known(db: &Db, ids: &[Uuid]) -> Result<Vec<Uuid>> {
    Ok(read!(db, |pool| {
        let mut query = QueryBuilder::new("SELECT id FROM evidence WHERE id IN (");
        let mut list = query.separated(", ");
        for id in ids {
            list.push_bind(*id);
        }
        query.push(")");
        query.build_query_scalar().fetch_all(pool).await
    })?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_says_whose_blob_it_is() {
        let (test, id) = (Uuid::now_v7(), Uuid::now_v7());
        assert_eq!(of_blob_key(&blob_key(test, id)), Some((test, id)));
        for key in [
            "evidence".to_owned(),
            format!("evidence/{test}"),
            format!("other/{test}/{id}"),
            format!("evidence/{test}/{id}/x"),
            format!("evidence/{}/{id}", test.simple()),
            format!("evidence/{test}/{}", id.to_string().to_uppercase()),
        ] {
            assert_eq!(of_blob_key(&key), None, "{key}");
        }
    }
}
