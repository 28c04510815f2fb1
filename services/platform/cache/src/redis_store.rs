//! The cache in Redis.

use std::sync::Arc;
use std::time::Duration;

use redis::aio::{ConnectionManager, ConnectionManagerConfig};
use redis::{Client, Cmd, FromRedisValue, RedisError, Script, TlsCertificates};

use crate::CacheError;

/// A dead Redis must cost a caller about a second, not a request's whole deadline.
const TIMEOUT: Duration = Duration::from_secs(1);

/// Counts and starts the window in one step: a crash between the two would leave a counter for ever.
const INCR: &str = "\
local count = redis.call('INCR', KEYS[1])
if redis.call('PTTL', KEYS[1]) < 0 then
  redis.call('PEXPIRE', KEYS[1], ARGV[1])
end
return count";

#[derive(Clone)]
pub(crate) struct RedisCache {
    connection: ConnectionManager,
    incr: Arc<Script>,
}

impl RedisCache {
    pub(crate) fn new(url: &str, roots: Option<Vec<u8>>) -> Result<Self, CacheError> {
        let secure = url.starts_with("rediss://");
        if !secure && !url.starts_with("redis://") {
            return Err(CacheError::Invalid("cache address: redis:// or rediss:// expected"));
        }
        if secure {
            // Another part of the process may have chosen the provider first; that is fine.
            let _ = rustls::crypto::ring::default_provider().install_default();
        }
        // The error is not passed on: it may quote the address with its password.
        let client = match roots.filter(|_| secure) {
            Some(roots) => Client::build_with_tls(url, TlsCertificates { client_tls: None, root_cert: Some(roots) }),
            None => Client::open(url),
        };
        let client = client.map_err(|_| CacheError::Invalid("cache address"))?;
        let config = ConnectionManagerConfig::new()
            .set_connection_timeout(Some(TIMEOUT))
            .set_response_timeout(Some(TIMEOUT))
            .set_number_of_retries(0);
        // Connected when it is needed: what starts while Redis is away does without it, as what runs does.
        let connection = ConnectionManager::new_lazy_with_config(client, config).map_err(failed)?;
        Ok(Self { connection, incr: Arc::new(Script::new(INCR)) })
    }

    pub(crate) async fn get(&self, key: &str) -> Result<Option<Vec<u8>>, CacheError> {
        self.repeatable(redis::cmd("GET").arg(key)).await
    }

    pub(crate) async fn set(&self, key: &str, value: &[u8], ttl: Duration) -> Result<(), CacheError> {
        let cmd = &mut redis::cmd("SET");
        cmd.arg(key).arg(value).arg("PX").arg(millis(ttl));
        self.repeatable(cmd).await
    }

    pub(crate) async fn set_if_absent(&self, key: &str, value: &[u8], ttl: Duration) -> Result<bool, CacheError> {
        let cmd = &mut redis::cmd("SET");
        cmd.arg(key).arg(value).arg("NX").arg("PX").arg(millis(ttl));
        let stored: Option<String> = self.once(cmd).await.map_err(failed)?;
        Ok(stored.is_some())
    }

    pub(crate) async fn take(&self, key: &str) -> Result<Option<Vec<u8>>, CacheError> {
        self.once(redis::cmd("GETDEL").arg(key)).await.map_err(failed)
    }

    pub(crate) async fn incr(&self, key: &str, ttl: Duration) -> Result<u64, CacheError> {
        let mut connection = self.connection.clone();
        let count: i64 =
            self.incr.key(key).arg(millis(ttl)).invoke_async(&mut connection).await.map_err(|e| {
                if e.to_string().contains("not an integer") { CacheError::NotACounter } else { failed(e) }
            })?;
        u64::try_from(count).map_err(|_| CacheError::NotACounter)
    }

    pub(crate) async fn delete(&self, key: &str) -> Result<(), CacheError> {
        self.repeatable::<i64>(redis::cmd("DEL").arg(key)).await.map(drop)
    }

    pub(crate) async fn ping(&self) -> Result<(), CacheError> {
        self.repeatable::<String>(&redis::cmd("PING")).await.map(drop)
    }

    async fn once<T: FromRedisValue>(&self, cmd: &Cmd) -> Result<T, RedisError> {
        cmd.query_async(&mut self.connection.clone()).await
    }

    /// A restart of Redis shows only at the next command; where doing it twice is the same as once,
    /// that command is tried again on the new connection.
    async fn repeatable<T: FromRedisValue>(&self, cmd: &Cmd) -> Result<T, CacheError> {
        match self.once(cmd).await {
            Err(e) if e.is_unrecoverable_error() && !e.is_timeout() => {
                tracing::debug!(error = %e, "cache connection lost, trying again");
                self.once(cmd).await.map_err(failed)
            }
            other => other.map_err(failed),
        }
    }
}

fn millis(ttl: Duration) -> u64 {
    u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX)
}

fn failed(e: RedisError) -> CacheError {
    if e.is_io_error() || e.is_timeout() || e.is_unrecoverable_error() {
        CacheError::Unavailable(Box::new(e))
    } else {
        CacheError::Refused(Box::new(e))
    }
}
