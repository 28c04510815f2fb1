//! A shared cache with expiry: Redis for many processes, memory for one, with the same behaviour.

mod memory;
mod redis_store;

use std::time::Duration;

use memory::MemoryCache;
use redis_store::RedisCache;

/// Longest key in bytes.
pub const MAX_KEY: usize = 512;
/// Largest value in bytes.
pub const MAX_VALUE: usize = 1024 * 1024;
/// Longest time to live; longer ones are cut to it.
pub const MAX_TTL: Duration = Duration::from_secs(365 * 24 * 60 * 60);

/// Why a cache operation failed.
#[derive(Debug, thiserror::Error)]
pub enum CacheError {
    /// The cache cannot be reached or did not answer in time.
    #[error("the cache is not available")]
    Unavailable(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The cache answered that it cannot do this.
    #[error("the cache refused the operation")]
    Refused(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// [`Cache::incr`] on a key that holds something else than a count.
    #[error("the cached value is not a counter")]
    NotACounter,
    /// The address, key or value is not acceptable.
    #[error("invalid {0}")]
    Invalid(&'static str),
}

/// A cache handle; clones share the same store.
#[derive(Clone)]
pub struct Cache(Inner);

#[derive(Clone)]
enum Inner {
    Memory(MemoryCache),
    Redis(RedisCache),
}

impl std::fmt::Debug for Cache {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self.0 {
            Inner::Memory(_) => "Cache::Memory",
            Inner::Redis(_) => "Cache::Redis",
        })
    }
}

impl Cache {
    /// A cache in this process, bounded in entries and bytes; the least recently used go first.
    pub fn memory() -> Self {
        Self(Inner::Memory(MemoryCache::new()))
    }

    /// Redis (6.2 or later) at a `redis://` or `rediss://` address.
    ///
    /// The connection is made when it is needed, and again when it breaks: only an address that cannot be read fails.
    /// `roots` are certificates of a private CA (PEM), for `rediss`. To be called in a Tokio runtime.
    pub fn redis(url: &str, roots: Option<Vec<u8>>) -> Result<Self, CacheError> {
        Ok(Self(Inner::Redis(RedisCache::new(url, roots)?)))
    }

    /// The value under the key, unless it has expired.
    pub async fn get(&self, key: &str) -> Result<Option<Vec<u8>>, CacheError> {
        check_key(key)?;
        match &self.0 {
            Inner::Memory(m) => Ok(m.get(key)),
            Inner::Redis(r) => r.get(key).await,
        }
    }

    /// Stores the value for `ttl`, replacing what was there.
    pub async fn set(&self, key: &str, value: &[u8], ttl: Duration) -> Result<(), CacheError> {
        check_key(key)?;
        check_value(value)?;
        let ttl = clamp(ttl);
        match &self.0 {
            Inner::Memory(m) => {
                m.set(key, value, ttl);
                Ok(())
            }
            Inner::Redis(r) => r.set(key, value, ttl).await,
        }
    }

    /// Stores the value only where the key is free; `true` to exactly one of several callers.
    pub async fn set_if_absent(&self, key: &str, value: &[u8], ttl: Duration) -> Result<bool, CacheError> {
        check_key(key)?;
        check_value(value)?;
        let ttl = clamp(ttl);
        match &self.0 {
            Inner::Memory(m) => Ok(m.set_if_absent(key, value, ttl)),
            Inner::Redis(r) => r.set_if_absent(key, value, ttl).await,
        }
    }

    /// Removes the key and returns its value, in one step: one caller gets it.
    pub async fn take(&self, key: &str) -> Result<Option<Vec<u8>>, CacheError> {
        check_key(key)?;
        match &self.0 {
            Inner::Memory(m) => Ok(m.take(key)),
            Inner::Redis(r) => r.take(key).await,
        }
    }

    /// Adds one to a counter and returns the new count.
    ///
    /// The first call starts a window of `ttl`; later calls do not prolong it.
    pub async fn incr(&self, key: &str, ttl: Duration) -> Result<u64, CacheError> {
        check_key(key)?;
        let ttl = clamp(ttl);
        match &self.0 {
            Inner::Memory(m) => m.incr(key, ttl),
            Inner::Redis(r) => r.incr(key, ttl).await,
        }
    }

    /// Removes the key; a missing one is no error.
    pub async fn delete(&self, key: &str) -> Result<(), CacheError> {
        check_key(key)?;
        match &self.0 {
            Inner::Memory(m) => {
                m.take(key);
                Ok(())
            }
            Inner::Redis(r) => r.delete(key).await,
        }
    }

    /// Whether the store answers.
    pub async fn ping(&self) -> Result<(), CacheError> {
        match &self.0 {
            Inner::Memory(_) => Ok(()),
            Inner::Redis(r) => r.ping().await,
        }
    }
}

fn check_key(key: &str) -> Result<(), CacheError> {
    if key.is_empty() || key.len() > MAX_KEY {
        return Err(CacheError::Invalid("cache key: 1 to 512 bytes"));
    }
    Ok(())
}

fn check_value(value: &[u8]) -> Result<(), CacheError> {
    if value.len() > MAX_VALUE {
        return Err(CacheError::Invalid("cache value: at most 1 MiB"));
    }
    Ok(())
}

/// Redis refuses an expiry of zero and of more than it can add to its clock.
fn clamp(ttl: Duration) -> Duration {
    ttl.clamp(Duration::from_millis(1), MAX_TTL)
}
