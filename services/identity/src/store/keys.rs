//! Keys that sign tokens.

use aegis_db::{Db, Result, Tx, on, read};
use chrono::{DateTime, Utc};

/// A key that can sign. Has no Debug on purpose.
#[derive(sqlx::FromRow)]
pub(crate) struct SigningKeyRow {
    pub(crate) kid: String,
    pub(crate) private_pkcs8: Vec<u8>,
    created_at: DateTime<Utc>,
}

/// A key as operators see it.
#[derive(Clone, Debug, PartialEq, Eq, sqlx::FromRow)]
pub struct KeyRow {
    /// Its id, as in tokens and the key set.
    pub kid: String,
    /// When it was made.
    pub created_at: DateTime<Utc>,
    /// When it no longer verifies; `None` for the newest.
    pub retire_at: Option<DateTime<Utc>>,
}

/// A key that verifies.
#[derive(sqlx::FromRow)]
pub(crate) struct PublicKeyRow {
    pub(crate) kid: String,
    pub(crate) public_key: Vec<u8>,
}

/// Adds a key that is to sign; false where there is one already.
pub(crate) async fn insert(
    tx: &mut Tx,
    kid: &str,
    private_pkcs8: &[u8],
    public_key: &[u8],
    at: DateTime<Utc>,
) -> Result<bool> {
    let rows = on!(tx, |c| sqlx::query(
        "INSERT INTO signing_key (kid, private_pkcs8, public_key, created_at, retire_at)
         VALUES ($1, $2, $3, $4, NULL) ON CONFLICT DO NOTHING"
    )
    .bind(kid)
    .bind(private_pkcs8)
    .bind(public_key)
    .bind(at)
    .execute(c)
    .await
    .map(|done| done.rows_affected()))?;
    Ok(rows == 1)
}

/// The newest key, which signs or soon will.
pub(crate) async fn current(db: &Db) -> Result<Option<SigningKeyRow>> {
    Ok(read!(db, |pool| sqlx::query_as(
        "SELECT kid, private_pkcs8, created_at FROM signing_key WHERE retire_at IS NULL"
    )
    .fetch_optional(pool)
    .await)?)
}

/// The keys that verify and can still sign, newest first.
pub(crate) async fn signing(db: &Db, now: DateTime<Utc>) -> Result<Vec<SigningKeyRow>> {
    Ok(read!(db, |pool| sqlx::query_as(
        "SELECT kid, private_pkcs8, created_at FROM signing_key
         WHERE (retire_at IS NULL OR retire_at > $1) AND LENGTH(private_pkcs8) > 0
         ORDER BY created_at DESC, kid LIMIT 100"
    )
    .bind(now)
    .fetch_all(pool)
    .await)?)
}

/// Which of these keys (newest first) signs: the newest that was made before `known`, so that everybody has it; the
/// oldest where there is none.
pub(crate) fn signer(mut keys: Vec<SigningKeyRow>, known: DateTime<Utc>) -> Option<SigningKeyRow> {
    match keys.iter().position(|key| key.created_at <= known) {
        Some(at) => Some(keys.swap_remove(at)),
        None => keys.pop(),
    }
}

/// Ends the life of all keys but those that have ended already; they verify until `at`.
pub(crate) async fn retire(tx: &mut Tx, at: DateTime<Utc>) -> Result<u64> {
    Ok(on!(tx, |c| sqlx::query("UPDATE signing_key SET retire_at = $1 WHERE retire_at IS NULL OR retire_at > $1")
        .bind(at)
        .execute(c)
        .await
        .map(|done| done.rows_affected()))?)
}

/// Ends the life of the newest key; it verifies until `at`.
pub(crate) async fn retire_newest(tx: &mut Tx, at: DateTime<Utc>) -> Result<()> {
    Ok(on!(tx, |c| sqlx::query("UPDATE signing_key SET retire_at = $1 WHERE retire_at IS NULL")
        .bind(at)
        .execute(c)
        .await
        .map(|_| ()))?)
}

/// Removes the private halves of keys that were replaced before `then`: they never sign again. The public halves
/// stay, for what was signed with them.
pub(crate) async fn wipe(tx: &mut Tx, then: DateTime<Utc>) -> Result<u64> {
    Ok(on!(tx, |c| sqlx::query(
        "UPDATE signing_key SET private_pkcs8 = $1 WHERE retire_at IS NOT NULL AND LENGTH(private_pkcs8) > 0
         AND EXISTS (SELECT 1 FROM signing_key newer WHERE newer.retire_at IS NULL AND newer.created_at < $2)"
    )
    .bind(Vec::<u8>::new())
    .bind(then)
    .execute(c)
    .await
    .map(|done| done.rows_affected()))?)
}

/// The keys, newest first.
pub(crate) async fn list(db: &Db) -> Result<Vec<KeyRow>> {
    Ok(read!(db, |pool| sqlx::query_as(
        "SELECT kid, created_at, retire_at FROM signing_key ORDER BY created_at DESC, kid LIMIT 1000"
    )
    .fetch_all(pool)
    .await)?)
}

/// The keys that verify at present, newest first.
pub(crate) async fn verifying(db: &Db, now: DateTime<Utc>) -> Result<Vec<PublicKeyRow>> {
    Ok(read!(db, |pool| sqlx::query_as(
        "SELECT kid, public_key FROM signing_key WHERE retire_at IS NULL OR retire_at > $1
         ORDER BY created_at DESC LIMIT 100"
    )
    .bind(now)
    .fetch_all(pool)
    .await)?)
}
