//! Verifies access tokens: signature, issuer, audience, time, revocation.

use std::{
    collections::HashMap,
    sync::{Arc, RwLock},
    time::{Duration, Instant},
};

use aegis_error::{Code, Failure};
use async_trait::async_trait;
use chrono::{DateTime, Utc};
use jsonwebtoken::{Algorithm, DecodingKey, Validation, jwk::JwkSet};
use serde::{Deserialize, Serialize};
use tokio::sync::Mutex;
use uuid::Uuid;

use crate::Role;

/// The `iss` of every token.
pub const ISSUER: &str = "aegis";
/// The `aud` of every token.
pub const AUDIENCE: &str = "aegis";
/// A longer bearer is refused unread.
pub const MAX_TOKEN_BYTES: usize = 4096;
/// Verified tokens that are remembered.
const CACHE_ENTRIES: u64 = 20_000;
/// An unknown key id asks identity for new keys, but not more often than this.
const REFETCH_PAUSE: Duration = Duration::from_secs(2);

/// What a token says.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Claims {
    /// Issuer.
    pub iss: String,
    /// Audience.
    pub aud: String,
    /// User id; for a service the nil UUID.
    pub sub: Uuid,
    /// Username, or the service's name.
    pub name: String,
    /// Role.
    pub role: Role,
    /// Token id.
    pub jti: Uuid,
    /// Issued at, Unix seconds.
    pub iat: i64,
    /// Expires at, Unix seconds.
    pub exp: i64,
    /// The user's token epoch when it was issued; a token of an older epoch has ended.
    pub epoch: i64,
    /// The password must be changed before anything else.
    #[serde(default)]
    pub pwd: bool,
}

/// Who is asking.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Principal {
    /// User id; nil for a service.
    pub user_id: Uuid,
    /// Username; `system:<service>` for a service.
    pub username: String,
    /// Role.
    pub role: Role,
    /// Token id.
    pub jti: Uuid,
    /// Token epoch.
    pub epoch: i64,
    /// When the token expires.
    pub expires_at: DateTime<Utc>,
    /// The password must be changed before anything else.
    pub must_change_password: bool,
}

/// Something that no longer holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Revocation {
    /// One token.
    Token {
        /// Its id.
        jti: Uuid,
        /// When it would have expired anyway.
        expires_at: DateTime<Utc>,
    },
    /// All tokens of a user that are older than an epoch.
    User {
        /// The user.
        user_id: Uuid,
        /// The first epoch that holds.
        min_epoch: i64,
        /// When all older tokens will have expired anyway.
        expires_at: DateTime<Utc>,
    },
}

/// Where keys and revocations come from: identity, here or over the network.
#[async_trait]
pub trait KeySource: Send + Sync + 'static {
    /// The present key set, as JSON (RFC 7517).
    async fn jwks(&self) -> Result<String, Failure>;
    /// Revocations after a cursor (0: all that matter), and the next cursor.
    async fn revocations(&self, after: i64) -> Result<(Vec<Revocation>, i64), Failure>;
}

/// Verifies tokens. Cheap to clone; clones share keys, revocations and the memory of verified tokens.
#[derive(Clone)]
pub struct Verifier(Arc<State>);

struct State {
    source: Arc<dyn KeySource>,
    keys: RwLock<HashMap<String, DecodingKey>>,
    refetched: Mutex<Option<Instant>>,
    cursor: Mutex<i64>,
    tokens: RwLock<HashMap<Uuid, DateTime<Utc>>>,
    users: RwLock<HashMap<Uuid, (i64, DateTime<Utc>)>>,
    verified: moka::sync::Cache<String, Arc<Principal>>,
    validation: Validation,
}

impl Verifier {
    /// A verifier that has no keys yet; it asks for them with the first token.
    pub fn new(source: Arc<dyn KeySource>) -> Self {
        let mut validation = Validation::new(Algorithm::EdDSA);
        validation.set_issuer(&[ISSUER]);
        validation.set_audience(&[AUDIENCE]);
        validation.set_required_spec_claims(&["exp", "iss", "aud", "sub"]);
        validation.leeway = 5;
        Verifier(Arc::new(State {
            source,
            keys: RwLock::default(),
            refetched: Mutex::new(None),
            cursor: Mutex::new(0),
            tokens: RwLock::default(),
            users: RwLock::default(),
            verified: moka::sync::Cache::builder().max_capacity(CACHE_ENTRIES).build(),
            validation,
        }))
    }

    /// Who the bearer of this token is.
    pub async fn verify(&self, token: &str) -> Result<Arc<Principal>, Failure> {
        if token.len() > MAX_TOKEN_BYTES {
            return Err(refused("the token is too long"));
        }
        let principal = match self.0.verified.get(token) {
            Some(principal) => principal,
            None => {
                let principal = Arc::new(self.decode(token).await?);
                self.0.verified.insert(token.to_owned(), Arc::clone(&principal));
                principal
            }
        };
        if principal.expires_at <= Utc::now() {
            return Err(refused("the token has expired; sign in again"));
        }
        if self.is_revoked(&principal) {
            return Err(refused("the token has been ended; sign in again"));
        }
        Ok(principal)
    }

    async fn decode(&self, token: &str) -> Result<Principal, Failure> {
        let header = jsonwebtoken::decode_header(token).map_err(|_| refused("the token cannot be read"))?;
        if header.alg != Algorithm::EdDSA {
            return Err(refused("the token is not signed as ours are"));
        }
        let kid = header.kid.ok_or_else(|| refused("the token names no key"))?;
        let key = match self.key(&kid) {
            Some(key) => key,
            None => {
                self.refetch().await?;
                self.key(&kid).ok_or_else(|| refused("the token is signed with a key that is not ours"))?
            }
        };
        let claims = jsonwebtoken::decode::<Claims>(token, &key, &self.0.validation)
            .map_err(|e| match e.kind() {
                jsonwebtoken::errors::ErrorKind::ExpiredSignature => refused("the token has expired; sign in again"),
                _ => refused("the token does not hold"),
            })?
            .claims;
        let expires_at = DateTime::from_timestamp(claims.exp, 0).ok_or_else(|| refused("the token does not hold"))?;
        Ok(Principal {
            user_id: claims.sub,
            username: claims.name,
            role: claims.role,
            jti: claims.jti,
            epoch: claims.epoch,
            expires_at,
            must_change_password: claims.pwd,
        })
    }

    fn key(&self, kid: &str) -> Option<DecodingKey> {
        read(&self.0.keys).get(kid).cloned()
    }

    async fn refetch(&self) -> Result<(), Failure> {
        let mut last = self.0.refetched.lock().await;
        if last.is_some_and(|at| at.elapsed() < REFETCH_PAUSE) {
            return Ok(());
        }
        let json = self.0.source.jwks().await?;
        let set: JwkSet = serde_json::from_str(&json).map_err(Failure::internal)?;
        let mut keys = HashMap::new();
        for jwk in &set.keys {
            if let Some(kid) = &jwk.common.key_id {
                keys.insert(kid.clone(), DecodingKey::from_jwk(jwk).map_err(Failure::internal)?);
            }
        }
        *write(&self.0.keys) = keys;
        *last = Some(Instant::now());
        Ok(())
    }

    fn is_revoked(&self, principal: &Principal) -> bool {
        read(&self.0.tokens).contains_key(&principal.jti)
            || read(&self.0.users).get(&principal.user_id).is_some_and(|(min, _)| principal.epoch < *min)
    }

    /// Takes over the revocations since the last call. To be called twice a second by a background task, and by
    /// the gateway right after it passed on a request that revokes.
    pub async fn refresh(&self) -> Result<(), Failure> {
        let mut cursor = self.0.cursor.lock().await;
        let (revocations, next) = self.0.source.revocations(*cursor).await?;
        let now = Utc::now();
        if !revocations.is_empty() {
            let mut tokens = write(&self.0.tokens);
            let mut users = write(&self.0.users);
            tokens.retain(|_, until| *until > now);
            users.retain(|_, (_, until)| *until > now);
            for revocation in revocations {
                match revocation {
                    Revocation::Token { jti, expires_at } => {
                        tokens.insert(jti, expires_at);
                    }
                    Revocation::User { user_id, min_epoch, expires_at } => {
                        let entry = users.entry(user_id).or_insert((min_epoch, expires_at));
                        entry.0 = entry.0.max(min_epoch);
                        entry.1 = entry.1.max(expires_at);
                    }
                }
            }
        }
        *cursor = next;
        Ok(())
    }
}

fn refused(message: &'static str) -> Failure {
    Failure::new(Code::Unauthenticated, message)
}

fn read<T>(lock: &RwLock<T>) -> std::sync::RwLockReadGuard<'_, T> {
    lock.read().unwrap_or_else(|poisoned| poisoned.into_inner())
}

fn write<T>(lock: &RwLock<T>) -> std::sync::RwLockWriteGuard<'_, T> {
    lock.write().unwrap_or_else(|poisoned| poisoned.into_inner())
}
