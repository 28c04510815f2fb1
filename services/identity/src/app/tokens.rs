//! Keys and tokens: making, signing, publishing.

use std::{
    sync::{Arc, RwLock},
    time::{Duration, Instant},
};

use aegis_auth::{AUDIENCE, Claims, ISSUER, Role};
use aegis_db::{Db, Tx, now};
use aegis_error::Failure;
use aegis_events::{Audit, Outbox, system_actor};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use chrono::TimeDelta;
use ed25519_dalek::{
    SigningKey,
    pkcs8::{DecodePrivateKey, EncodePrivateKey},
};
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use sha2::{Digest, Sha256};
use uuid::Uuid;

use crate::{
    domain::user::User,
    error::Error,
    store::{self, keys::PublicKeyRow},
};

/// Another replica may have changed the key; after this long it is read again.
const KEY_AGE: Duration = Duration::from_secs(5);
/// A new key signs when it is this old: by then every verifier has it, for they ask for news twice a second.
pub(super) const KEY_LEAD: TimeDelta = TimeDelta::seconds(10);
/// How long a token of a service holds.
const SERVICE_LIFETIME: Duration = Duration::from_secs(5 * 60);

/// Signs tokens.
pub(super) struct Tokens {
    db: Db,
    lifetime: Duration,
    held: RwLock<Option<(Arc<Signer>, Instant)>>,
}

/// The key that signs now.
pub(super) struct Signer {
    pub(super) kid: String,
    pub(super) key: EncodingKey,
    /// Its public half.
    pub(super) jwk: serde_json::Value,
}

/// A token that was just signed. Has no Debug on purpose.
pub(crate) struct Token {
    pub(crate) text: String,
    pub(crate) expires_in: Duration,
    pub(crate) jti: Uuid,
}

impl Tokens {
    pub(super) fn new(db: Db, lifetime: Duration) -> Self {
        Tokens { db, lifetime, held: RwLock::new(None) }
    }

    /// Makes the first key where there is none. Several replicas may do so at the same time: one wins.
    pub(super) async fn ensure_key(&self, outbox: &Outbox) -> Result<(), Error> {
        if store::keys::current(&self.db).await?.is_some() {
            return Ok(());
        }
        let mut tx = self.db.begin().await?;
        let Some(kid) = add_key(&mut tx).await? else {
            tx.rollback().await?;
            return Ok(());
        };
        let audit = Audit {
            action: "create_signing_key",
            entity_type: "signing_key",
            entity_id: kid,
            details: serde_json::json!({ "reason": "there was none" }),
        };
        outbox.audit_as(&mut tx, system_actor(crate::NAME), audit, true).await?;
        tx.commit().await?;
        Ok(())
    }

    /// A token for a user.
    pub(super) async fn issue(&self, user: &User) -> Result<Token, Error> {
        let pwd = user.must_change_password;
        let (iat, exp) = span(self.lifetime)?;
        let jti = Uuid::now_v7();
        let (sub, name, role, epoch) = (user.id, user.username.clone(), user.role, user.token_epoch);
        self.sign(Claims {
            iss: ISSUER.to_owned(),
            aud: AUDIENCE.to_owned(),
            sub,
            name,
            role,
            jti,
            iat,
            exp,
            epoch,
            pwd,
        })
        .await
    }

    /// A token for background work of a service; that of the sensor, which faces attackers, has a role of its own.
    pub(super) async fn issue_service(&self, service: &str) -> Result<Token, Error> {
        let (iat, exp) = span(SERVICE_LIFETIME)?;
        self.sign(Claims {
            iss: ISSUER.to_owned(),
            aud: AUDIENCE.to_owned(),
            sub: Uuid::nil(),
            name: format!("system:{service}"),
            role: if service == Role::Sensor.as_str() { Role::Sensor } else { Role::Service },
            jti: Uuid::now_v7(),
            iat,
            exp,
            epoch: 0,
            pwd: false,
        })
        .await
    }

    /// A token for what somebody is already known to be.
    pub(super) async fn sign(&self, claims: Claims) -> Result<Token, Error> {
        let signer = self.signer().await?;
        let mut header = Header::new(Algorithm::EdDSA);
        header.kid = Some(signer.kid.clone());
        let text = jsonwebtoken::encode(&header, &claims, &signer.key).map_err(Failure::internal)?;
        let seconds = u64::try_from(claims.exp - claims.iat).unwrap_or(0);
        Ok(Token { text, expires_in: Duration::from_secs(seconds), jti: claims.jti })
    }

    pub(super) async fn signer(&self) -> Result<Arc<Signer>, Error> {
        {
            let held = self.held.read().unwrap_or_else(|poisoned| poisoned.into_inner());
            if let Some((signer, read_at)) = held.as_ref()
                && read_at.elapsed() < KEY_AGE
            {
                return Ok(Arc::clone(signer));
            }
        }
        let keys = store::keys::signing(&self.db, now()).await?;
        let row = store::keys::signer(keys, now() - KEY_LEAD)
            .ok_or_else(|| Failure::internal("there is no key to sign tokens with"))?;
        let public = SigningKey::from_pkcs8_der(&row.private_pkcs8).map_err(Failure::internal)?.verifying_key();
        let jwk = jwk(&PublicKeyRow { kid: row.kid.clone(), public_key: public.to_bytes().to_vec() });
        let signer = Arc::new(Signer { key: EncodingKey::from_ed_der(&row.private_pkcs8), kid: row.kid, jwk });
        *self.held.write().unwrap_or_else(|poisoned| poisoned.into_inner()) =
            Some((Arc::clone(&signer), Instant::now()));
        Ok(signer)
    }

    /// The keys that verify tokens, as a JSON Web Key Set (RFC 7517, RFC 8037).
    pub(super) async fn jwks(&self) -> Result<String, Error> {
        let keys = store::keys::verifying(&self.db, now()).await?;
        let keys: Vec<_> = keys.iter().map(jwk).collect();
        Ok(serde_json::json!({ "keys": keys }).to_string())
    }

    /// The ids of the keys that verify tokens.
    pub(super) async fn key_ids(&self) -> Result<Vec<String>, Error> {
        Ok(store::keys::verifying(&self.db, now()).await?.into_iter().map(|key| key.kid).collect())
    }
}

/// Makes a key that is to sign; answers its id. Nothing where another replica has just made one.
pub(super) async fn add_key(tx: &mut Tx) -> Result<Option<String>, Error> {
    let key = SigningKey::generate(&mut rand::rng());
    let public = key.verifying_key().to_bytes();
    let private = key.to_pkcs8_der().map_err(Failure::internal)?;
    let kid = thumbprint(&public);
    let made = store::keys::insert(tx, &kid, private.as_bytes(), &public, now()).await?;
    Ok(made.then_some(kid))
}

/// From now until a lifetime later, in Unix seconds.
fn span(lifetime: Duration) -> Result<(i64, i64), Failure> {
    let iat = now().timestamp();
    let seconds = i64::try_from(lifetime.as_secs()).map_err(Failure::internal)?;
    Ok((iat, iat + seconds))
}

fn jwk(row: &PublicKeyRow) -> serde_json::Value {
    serde_json::json!({
        "kty": "OKP",
        "crv": "Ed25519",
        "x": URL_SAFE_NO_PAD.encode(&row.public_key),
        "kid": row.kid,
        "use": "sig",
        "alg": "EdDSA",
    })
}

/// The key's id: its thumbprint (RFC 7638).
fn thumbprint(public: &[u8]) -> String {
    let x = URL_SAFE_NO_PAD.encode(public);
    let canonical = format!(r#"{{"crv":"Ed25519","kty":"OKP","x":"{x}"}}"#);
    URL_SAFE_NO_PAD.encode(Sha256::digest(canonical))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_thumbprint_is_that_of_the_standard() {
        // The key and the thumbprint of RFC 8037, appendix A.
        let public = URL_SAFE_NO_PAD.decode("11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo").unwrap();
        assert_eq!(thumbprint(&public), "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k");
    }
}
