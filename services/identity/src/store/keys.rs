//! Keys that sign tokens.

use aegis_db::{Db, Result, Tx, on, read};
use chrono::{DateTime, Utc};

/// The key that signs. Has no Debug on purpose.
#[derive(sqlx::FromRow)]
pub(crate) struct SigningKeyRow {
    pub(crate) kid: String,
    pub(crate) private_pkcs8: Vec<u8>,
}

/// A key that verifies.
#[derive(sqlx::FromRow)]
pub(crate) struct PublicKeyRow {
    pub(crate) kid: String,
    pub(crate) public_key: Vec<u8>,
}

/// Adds a key that is to sign; nothing where there is one already.
pub(crate) async fn insert(
    tx: &mut Tx,
    kid: &str,
    private_pkcs8: &[u8],
    public_key: &[u8],
    at: DateTime<Utc>,
) -> Result<()> {
    on!(tx, |c| sqlx::query(
        "INSERT INTO signing_key (kid, private_pkcs8, public_key, created_at, retire_at)
         VALUES ($1, $2, $3, $4, NULL) ON CONFLICT DO NOTHING"
    )
    .bind(kid)
    .bind(private_pkcs8)
    .bind(public_key)
    .bind(at)
    .execute(c)
    .await
    .map(|_| ()))?;
    Ok(())
}

/// The key that signs at present.
pub(crate) async fn current(db: &Db) -> Result<Option<SigningKeyRow>> {
    Ok(read!(db, |pool| sqlx::query_as("SELECT kid, private_pkcs8 FROM signing_key WHERE retire_at IS NULL")
        .fetch_optional(pool)
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
