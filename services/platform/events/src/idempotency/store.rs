//! The SQL of keys that were used.

use aegis_db::{Db, Result, Tx, on, read};
use chrono::{DateTime, TimeDelta, Utc};
use tonic::Code;
use uuid::Uuid;

/// How long a key is remembered.
pub(crate) const KEEP: TimeDelta = TimeDelta::hours(24);

/// A key that was used, and what was answered.
#[derive(Clone, Debug, sqlx::FromRow)]
pub(super) struct Used {
    pub fingerprint: Vec<u8>,
    pub entity_id: String,
    pub code: Option<i64>,
    pub message: String,
    pub answer: Option<Vec<u8>>,
}

/// An answer as it is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Kept {
    pub code: Code,
    /// Of an error.
    pub message: String,
    /// The message of a success, the details of an error.
    pub bytes: Vec<u8>,
}

/// A use of a key.
pub(super) struct Use<'a> {
    pub key_hash: &'a [u8],
    pub fingerprint: &'a [u8],
    pub claim: Uuid,
    pub entity_id: &'a str,
}

impl Used {
    /// The answer, once there is one.
    pub fn kept(&self) -> Option<Kept> {
        let code = i32::try_from(self.code?).ok()?;
        let bytes = self.answer.clone().unwrap_or_default();
        Some(Kept { code: Code::from_i32(code), message: self.message.clone(), bytes })
    }
}

/// The use of a key at `at`, unless it is too long ago to count.
pub(super) async fn find(db: &Db, key_hash: &[u8], at: DateTime<Utc>) -> Result<Option<Used>> {
    Ok(read!(db, |pool| sqlx::query_as(
        "SELECT fingerprint, entity_id, code, message, answer FROM idempotency WHERE key_hash = $1 AND at > $2"
    )
    .bind(key_hash)
    .bind(at - KEEP)
    .fetch_optional(pool)
    .await)?)
}

/// Writes a use, with its answer where nothing is left to be done. False when the key is somebody else's; waits for
/// whoever is about to use it.
pub(super) async fn insert(tx: &mut Tx, new: &Use<'_>, kept: Option<&Kept>, at: DateTime<Utc>) -> Result<bool> {
    let rows = on!(tx, |c| sqlx::query(
        "INSERT INTO idempotency (key_hash, fingerprint, claim, entity_id, code, message, answer, at) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8) \
         ON CONFLICT (key_hash) DO UPDATE SET fingerprint = excluded.fingerprint, claim = excluded.claim, \
         entity_id = excluded.entity_id, code = excluded.code, message = excluded.message, \
         answer = excluded.answer, at = excluded.at WHERE idempotency.at <= $9"
    )
    .bind(new.key_hash)
    .bind(new.fingerprint)
    .bind(new.claim)
    .bind(new.entity_id)
    .bind(kept.map(|kept| i64::from(kept.code as i32)))
    .bind(kept.map_or("", |kept| kept.message.as_str()))
    .bind(kept.map(|kept| kept.bytes.as_slice()))
    .bind(at)
    .bind(at - KEEP)
    .execute(c)
    .await
    .map(|done| done.rows_affected()))?;
    if rows == 1 {
        return Ok(true);
    }
    // A transaction says more than once what it does.
    let claim: Option<Uuid> = on!(tx, |c| sqlx::query_scalar("SELECT claim FROM idempotency WHERE key_hash = $1")
        .bind(new.key_hash)
        .fetch_optional(c)
        .await)?;
    Ok(claim == Some(new.claim))
}

/// Adds the answer to a use.
pub(super) async fn finish(tx: &mut Tx, key_hash: &[u8], claim: Uuid, kept: &Kept) -> Result<()> {
    on!(tx, |c| sqlx::query(
        "UPDATE idempotency SET code = $3, message = $4, answer = $5 WHERE key_hash = $1 AND claim = $2"
    )
    .bind(key_hash)
    .bind(claim)
    .bind(i64::from(kept.code as i32))
    .bind(&kept.message)
    .bind(kept.bytes.as_slice())
    .execute(c)
    .await
    .map(|_| ()))?;
    Ok(())
}

/// Forgets what no longer counts.
pub(crate) async fn purge(db: &Db, at: DateTime<Utc>) -> Result<()> {
    let mut tx = db.begin().await?;
    on!(tx, |c| sqlx::query("DELETE FROM idempotency WHERE at <= $1").bind(at - KEEP).execute(c).await.map(|_| ()))?;
    tx.commit_relaxed().await
}
