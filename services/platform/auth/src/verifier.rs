//! Verifies bearers: of access tokens the signature, issuer, audience, time and revocation; of API keys what identity
//! says of them.

use std::{
    collections::HashMap,
    sync::{
        Arc, RwLock,
        atomic::{AtomicBool, Ordering},
    },
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
/// How the text of every API key begins: nothing else does.
pub const API_KEY_PREFIX: &str = "aegis_key_";
/// Bearers that are remembered, of each kind.
const CACHE_ENTRIES: u64 = 20_000;
/// An API key that is known is asked about again after this long.
const KEY_LIFE: Duration = Duration::from_secs(60);
/// So is one that did not hold.
const REFUSAL_LIFE: Duration = Duration::from_secs(10);
/// Pages of revocations that are read at once.
const MAX_ROUNDS: usize = 1000;
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

/// What somebody showed to be let in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bearer {
    /// An access token, from a login or of a process.
    Token,
    /// The API key of a machine.
    ApiKey,
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
    /// Id of the token or of the API key.
    pub jti: Uuid,
    /// The user's token epoch when the bearer was issued or last asked about.
    pub epoch: i64,
    /// When the bearer expires.
    pub expires_at: DateTime<Utc>,
    /// The password must be changed before anything else.
    pub must_change_password: bool,
    /// What was shown.
    pub bearer: Bearer,
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

/// What changed since a verifier last asked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct News {
    /// What no longer holds. Not all of it, where there is much.
    pub revocations: Vec<Revocation>,
    /// Where the next question goes on.
    pub cursor: i64,
    /// The ids of all keys that verify at present.
    pub key_ids: Vec<String>,
}

/// Where keys, revocations and the owners of API keys come from: identity, here or over the network.
#[async_trait]
pub trait KeySource: Send + Sync + 'static {
    /// The present key set, as JSON (RFC 7517).
    async fn jwks(&self) -> Result<String, Failure>;
    /// What changed after a cursor (0: all that matters).
    async fn news(&self, after: i64) -> Result<News, Failure>;
    /// Whom an API key stands for.
    async fn api_key(&self, key: &str) -> Result<Principal, Failure>;
}

/// Verifies bearers. Cheap to clone; clones share keys, revocations and the memory of what was verified.
#[derive(Clone)]
pub struct Verifier(Arc<State>);

struct State {
    source: Arc<dyn KeySource>,
    keys: RwLock<HashMap<String, DecodingKey>>,
    refetched: Mutex<Option<Instant>>,
    /// How far the revocations are known; `None` before the first answer.
    cursor: Mutex<Option<i64>>,
    /// Whether there was a first answer: without it nobody knows what was revoked before this process began.
    informed: AtomicBool,
    tokens: RwLock<HashMap<Uuid, DateTime<Utc>>>,
    users: RwLock<HashMap<Uuid, (i64, DateTime<Utc>)>>,
    verified: moka::sync::Cache<String, Arc<Principal>>,
    api_keys: moka::sync::Cache<String, Arc<Principal>>,
    refused_keys: moka::sync::Cache<String, ()>,
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
        let memory = || moka::sync::Cache::builder().max_capacity(CACHE_ENTRIES);
        Verifier(Arc::new(State {
            source,
            keys: RwLock::default(),
            refetched: Mutex::new(None),
            cursor: Mutex::new(None),
            informed: AtomicBool::new(false),
            tokens: RwLock::default(),
            users: RwLock::default(),
            verified: memory().build(),
            api_keys: memory().time_to_live(KEY_LIFE).build(),
            refused_keys: moka::sync::Cache::builder().max_capacity(CACHE_ENTRIES).time_to_live(REFUSAL_LIFE).build(),
            validation,
        }))
    }

    /// Whose bearer this is: an access token or an API key.
    pub async fn verify(&self, bearer: &str) -> Result<Arc<Principal>, Failure> {
        if bearer.len() > MAX_TOKEN_BYTES {
            return Err(refused("the token is too long"));
        }
        if !self.0.informed.load(Ordering::Acquire) {
            self.refresh().await?;
        }
        if bearer.starts_with(API_KEY_PREFIX) {
            return self.verify_api_key(bearer).await;
        }
        let principal = match self.0.verified.get(bearer) {
            Some(principal) => principal,
            None => {
                let principal = Arc::new(self.decode(bearer).await?);
                self.0.verified.insert(bearer.to_owned(), Arc::clone(&principal));
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

    /// What happens to the owner (another role, disabled, another password) ends its tokens, but is a reason to ask
    /// about its keys anew: identity says what each may still do.
    async fn verify_api_key(&self, key: &str) -> Result<Arc<Principal>, Failure> {
        if let Some(principal) = self.0.api_keys.get(key) {
            if principal.expires_at <= Utc::now() {
                return Err(refused("the API key has expired"));
            }
            if read(&self.0.tokens).contains_key(&principal.jti) {
                return Err(refused("the API key has been revoked"));
            }
            if !self.is_revoked(&principal) {
                return Ok(principal);
            }
        }
        if self.0.refused_keys.contains_key(key) {
            return Err(refused("the API key does not hold"));
        }
        match self.0.source.api_key(key).await {
            Ok(principal) => {
                let principal = Arc::new(principal);
                self.0.api_keys.insert(key.to_owned(), Arc::clone(&principal));
                Ok(principal)
            }
            Err(failure) => {
                if failure.code() == Code::Unauthenticated {
                    self.0.refused_keys.insert(key.to_owned(), ());
                }
                Err(failure)
            }
        }
    }

    async fn decode(&self, token: &str) -> Result<Principal, Failure> {
        let header = jsonwebtoken::decode_header(token).map_err(|_| refused("the token cannot be read"))?;
        if header.alg != Algorithm::EdDSA {
            return Err(refused("the token is not signed as ours are"));
        }
        // The same key signs documents: their `typ` says of what kind.
        if header.typ.as_deref().is_some_and(|typ| !typ.eq_ignore_ascii_case("JWT")) {
            return Err(refused("what was sent is signed by us, but is no token"));
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
            bearer: Bearer::Token,
        })
    }

    fn key(&self, kid: &str) -> Option<DecodingKey> {
        read(&self.0.keys).get(kid).cloned()
    }

    /// For a token whose key is not known.
    async fn refetch(&self) -> Result<(), Failure> {
        let mut last = self.0.refetched.lock().await;
        if last.is_some_and(|at| at.elapsed() < REFETCH_PAUSE) {
            return Ok(());
        }
        self.read_keys().await?;
        *last = Some(Instant::now());
        Ok(())
    }

    async fn read_keys(&self) -> Result<(), Failure> {
        let json = self.0.source.jwks().await?;
        let set: JwkSet = serde_json::from_str(&json).map_err(Failure::internal)?;
        let mut keys = HashMap::new();
        for jwk in &set.keys {
            if let Some(kid) = &jwk.common.key_id {
                keys.insert(kid.clone(), DecodingKey::from_jwk(jwk).map_err(Failure::internal)?);
            }
        }
        let lost = {
            let mut held = write(&self.0.keys);
            let lost = held.keys().any(|kid| !keys.contains_key(kid));
            *held = keys;
            lost
        };
        if lost {
            // Tokens that were signed with it have to show it again, and cannot.
            self.0.verified.invalidate_all();
        }
        Ok(())
    }

    fn is_revoked(&self, principal: &Principal) -> bool {
        read(&self.0.tokens).contains_key(&principal.jti)
            || read(&self.0.users).get(&principal.user_id).is_some_and(|(min, _)| principal.epoch < *min)
    }

    /// Takes over what changed since the last call: revocations, and the keys where they are others. To be called
    /// twice a second by a background task, and by the gateway right after it passed on a request that revokes.
    pub async fn refresh(&self) -> Result<(), Failure> {
        let mut cursor = self.0.cursor.lock().await;
        for _ in 0..MAX_ROUNDS {
            let after = cursor.unwrap_or(0);
            let news = self.0.source.news(after).await?;
            let more = !news.revocations.is_empty();
            self.take_over(news.revocations);
            *cursor = Some(news.cursor);
            if !more {
                if self.holds_other_keys(&news.key_ids) {
                    self.read_keys().await?;
                }
                break;
            }
        }
        self.0.informed.store(true, Ordering::Release);
        Ok(())
    }

    fn take_over(&self, revocations: Vec<Revocation>) {
        if revocations.is_empty() {
            return;
        }
        let now = Utc::now();
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

    fn holds_other_keys(&self, key_ids: &[String]) -> bool {
        let held = read(&self.0.keys);
        held.len() != key_ids.len() || key_ids.iter().any(|kid| !held.contains_key(kid))
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
