//! Redis: that it answers, and that it throws away nothing that counts.

use std::time::Instant;

use redis::{Client, RedisError, TlsCertificates};
use secrecy::{ExposeSecret, SecretString};

use super::{
    Findings,
    report::{Finding, Level, span},
};
use crate::{settings::Settings, tls};

/// Looks at it.
pub(super) async fn check(settings: &Settings, url: &SecretString) -> Findings {
    let roots = match tls::more_roots(settings) {
        Ok(roots) => roots,
        Err(error) => return vec![Finding::new(Level::Problem, format!("{error:#}"))],
    };
    let began = Instant::now();
    match info(url.expose_secret(), roots).await {
        Ok(info) => judge(&info, began.elapsed().as_secs_f64()),
        // The error's own text may quote the address with its password.
        Err(error) => vec![
            Finding::new(Level::Unreachable, format!("does not answer: {}", error.category()))
                .advice("is Redis running, and are AEGIS_CACHE_URL and its password right?"),
        ],
    }
}

async fn info(url: &str, roots: Option<Vec<u8>>) -> Result<String, RedisError> {
    let client = match roots.filter(|_| url.starts_with("rediss://")) {
        Some(roots) => Client::build_with_tls(url, TlsCertificates { client_tls: None, root_cert: Some(roots) })?,
        None => Client::open(url)?,
    };
    let mut connection = client.get_multiplexed_async_connection().await?;
    let _: String = redis::cmd("PING").query_async(&mut connection).await?;
    redis::cmd("INFO").query_async(&mut connection).await
}

fn judge(info: &str, seconds: f64) -> Findings {
    let field = |name: &str| {
        info.lines()
            .find_map(|line| line.split_once(':').filter(|(key, _)| *key == name))
            .map(|(_, value)| value.trim())
    };
    let version = field("redis_version").unwrap_or("of a version that it does not tell");
    let mut findings = vec![Finding::ok(format!("Redis {version} answers in {}", span(seconds)))];
    let policy = field("maxmemory_policy").unwrap_or("noeviction");
    let limited = field("maxmemory").is_some_and(|bytes| bytes != "0");
    if limited && policy.starts_with("allkeys") {
        findings.push(
            Finding::new(
                Level::Warning,
                format!("when memory is full it drops what it likes (maxmemory-policy {policy}), counts of failed logins too"),
            )
            .advice("set maxmemory-policy to volatile-ttl or noeviction"),
        );
    }
    if field("role") == Some("slave") {
        findings.push(
            Finding::new(Level::Problem, "it is a replica, which takes no changes")
                .advice("name its primary in AEGIS_CACHE_URL"),
        );
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_redis_that_may_forget_failed_logins_is_told() {
        let told = |info: &str| serde_json::to_string(&judge(info, 0.001)).unwrap();
        assert!(!told("redis_version:8.0.2\r\nmaxmemory:0\r\nmaxmemory_policy:allkeys-lru\r\n").contains("warning"));
        assert!(told("maxmemory:1000\r\nmaxmemory_policy:allkeys-lru\r\n").contains("warning"));
        assert!(!told("maxmemory:1000\r\nmaxmemory_policy:volatile-ttl\r\nrole:master\r\n").contains("warning"));
        assert!(told("role:slave\r\n").contains("problem"));
    }
}
