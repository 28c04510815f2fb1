//! Counts failed logins, so that guessing is slow. Nobody can lock another out from one address: the small limit is
//! for a username together with an address.
//!
//! Where the cache does not answer, logins are let through and a warning is logged: that a cache is down must not
//! keep everybody out, and each guess still costs a hash in a bounded queue.

use std::time::Duration;

use aegis_cache::{Cache, CacheError};
use aegis_db::now;

use crate::{
    LoginLimits,
    domain::user::{is_username, username_key},
    error::Error,
};

/// What a try is counted under: each key with its limit.
#[derive(Clone, Debug)]
pub(super) struct Attempt(Vec<(String, u64)>);

/// The counters.
#[derive(Clone, Debug)]
pub(super) struct Throttle {
    cache: Cache,
    limits: LoginLimits,
}

impl Throttle {
    pub(super) fn new(cache: Cache, limits: LoginLimits) -> Self {
        Throttle { cache, limits }
    }

    /// A try of a password.
    pub(super) fn login(&self, username: &str, address: &str) -> Attempt {
        // A text that is nobody's name is counted, but not under a key that its sender makes up.
        let username = if is_username(username) { username_key(username) } else { "?".to_owned() };
        Attempt(vec![
            (format!("login:pair:{username}|{address}"), self.limits.per_username_and_address),
            (format!("login:addr:{address}"), self.limits.per_address),
            (format!("login:user:{username}"), self.limits.per_username),
        ])
    }

    /// A try of the service secret.
    pub(super) fn service(&self, address: &str) -> Attempt {
        Attempt(vec![(format!("login:service:{address}"), self.limits.per_username_and_address)])
    }

    /// Fails when there were too many failures of late.
    pub(super) async fn check(&self, attempt: &Attempt) -> Result<(), Error> {
        match self.exceeded(attempt).await {
            Ok(None) => Ok(()),
            Ok(Some(retry_after)) => Err(Error::TooManyFailures { retry_after }),
            Err(error) => {
                tracing::warn!(%error, "failed logins are not counted while the cache is away");
                Ok(())
            }
        }
    }

    /// Counts a failure.
    pub(super) async fn failed(&self, attempt: &Attempt) {
        if let Err(error) = self.count(attempt).await {
            tracing::warn!(%error, "failed logins are not counted while the cache is away");
        }
    }

    async fn exceeded(&self, attempt: &Attempt) -> Result<Option<Duration>, CacheError> {
        for (key, limit) in &attempt.0 {
            if self.number(key).await?.is_some_and(|count| count >= *limit) {
                let until = self.number(&until_key(key)).await?.unwrap_or(u64::MAX);
                let left = Duration::from_secs(until.saturating_sub(seconds_now()));
                return Ok(Some(left.clamp(Duration::from_secs(1), self.limits.window)));
            }
        }
        Ok(None)
    }

    async fn count(&self, attempt: &Attempt) -> Result<(), CacheError> {
        let window = self.limits.window;
        for (key, _) in &attempt.0 {
            if self.cache.incr(key, window).await? == 1 {
                // The cache does not tell when a counter ends; who is refused wants to know.
                let until = (seconds_now() + window.as_secs()).to_string();
                self.cache.set(&until_key(key), until.as_bytes(), window).await?;
            }
        }
        Ok(())
    }

    async fn number(&self, key: &str) -> Result<Option<u64>, CacheError> {
        let value = self.cache.get(key).await?;
        Ok(value.and_then(|bytes| std::str::from_utf8(&bytes).ok()?.parse().ok()))
    }
}

fn until_key(key: &str) -> String {
    format!("{key}|until")
}

fn seconds_now() -> u64 {
    u64::try_from(now().timestamp()).unwrap_or(0)
}
