//! When the certificate of an address ends, whoever signed it.

use std::sync::Arc;

use anyhow::{Context, Result};
use chrono::{DateTime, Utc};
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::report::{Finding, Level, span};
use crate::tls::{self, Validity};

/// Looks at the certificate of `https://host:port`.
pub(super) async fn check(host: &str, port: u16) -> Finding {
    match shown(host.trim_matches(['[', ']']), port).await {
        Ok(validity) => judge(validity, Utc::now()),
        Err(error) => Finding::new(Level::Problem, format!("no TLS comes about: {error:#}"))
            .advice("is this address served over https, and does it show a certificate?"),
    }
}

fn judge(validity: Validity, now: DateTime<Utc>) -> Finding {
    let left = (validity.until - now).num_seconds();
    let (level, what) = match left {
        left if left <= 0 => (Level::Problem, format!("the certificate ended {} ago", span(-left as f64))),
        left if validity.ends_soon(now) => (Level::Warning, format!("the certificate ends in {}", span(left as f64))),
        left => return Finding::ok(format!("the certificate holds for {}", span(left as f64))),
    };
    Finding::new(level, what).advice("put a new one in its place; it is taken up without a restart")
}

/// From when to when the certificate holds that is shown there.
async fn shown(host: &str, port: u16) -> Result<Validity> {
    let name = ServerName::try_from(host.to_owned())?;
    let socket = TcpStream::connect((host, port)).await?;
    // Nothing is sent.
    let stream = TlsConnector::from(Arc::new(tls::onlooker()?)).connect(name, socket).await?;
    let chain = stream.get_ref().1.peer_certificates().context("it shows no certificate")?;
    Validity::of(chain)
}

#[cfg(test)]
mod tests {
    use chrono::TimeDelta;

    use super::*;

    #[test]
    fn a_certificate_is_told_in_time() {
        let now = Utc::now();
        let level = |past: i64, left: i64| {
            let validity = Validity { from: now - TimeDelta::days(past), until: now + TimeDelta::days(left) };
            serde_json::to_value(judge(validity, now)).unwrap()["level"].clone()
        };
        assert_eq!(level(300, 90), "ok");
        assert_eq!(level(380, 10), "warning");
        assert_eq!(level(90, -1), "problem");
        // One of a week is renewed within the week.
        assert_eq!(level(1, 6), "ok");
        assert_eq!(level(6, 1), "warning");
    }
}
