//! Where the processes of one role are: URLs with commas between them, each an address or a name with any number of
//! addresses behind it.

use std::{fmt, net::SocketAddr, time::Duration};

use http::{Uri, uri::Scheme};
use tonic::transport::{Channel, Endpoint};

use crate::{ANSWERS_WINDOW, ClientTls, MAX_FRAME, STREAM_WINDOW};

/// Most addresses of one role: those written down, and those that their names stand for.
pub const MAX_ADDRESSES: usize = 64;

/// How long a name, or a connection, may take.
pub(crate) const CONNECT: Duration = Duration::from_secs(2);

/// Addresses that cannot be read.
#[derive(Debug)]
pub struct AddressError(String);

impl AddressError {
    /// What the transport does not take.
    pub(crate) fn of(error: impl std::error::Error) -> AddressError {
        AddressError(format!("an address cannot be used: {error}"))
    }
}

impl fmt::Display for AddressError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for AddressError {}

/// Whether these are addresses that [`remote`](crate::remote) takes.
pub fn check_addresses(urls: &str) -> Result<(), AddressError> {
    parse(urls).map(drop)
}

/// The ports that connections to these addresses go to.
pub fn ports(urls: &str) -> Result<Vec<u16>, AddressError> {
    let mut ports: Vec<u16> = parse(urls)?.iter().map(|target| target.port).collect();
    ports.sort_unstable();
    ports.dedup();
    Ok(ports)
}

/// One URL as it was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Target {
    /// Scheme and authority, as servers and certificates know it.
    origin: Uri,
    /// Without the brackets of IPv6.
    host: String,
    port: u16,
    tls: bool,
}

/// Reads the list, each address once.
pub(crate) fn parse(urls: &str) -> Result<Vec<Target>, AddressError> {
    let mut targets: Vec<Target> = Vec::new();
    for url in urls.split(',') {
        let target = Target::parse(url.trim())?;
        if !targets.contains(&target) {
            targets.push(target);
        }
    }
    if targets.len() > MAX_ADDRESSES {
        return Err(AddressError(format!("there are {} addresses; {MAX_ADDRESSES} are the most", targets.len())));
    }
    Ok(targets)
}

impl Target {
    fn parse(url: &str) -> Result<Target, AddressError> {
        // The text is not repeated: a user and a password in it would get into a log.
        let bad = |why: &str| AddressError(format!("an address must be http://host:port or https://host:port: {why}"));
        let uri: Uri = url.parse().map_err(|_| bad("one cannot be read"))?;
        let tls = match uri.scheme() {
            Some(scheme) if *scheme == Scheme::HTTPS => true,
            Some(scheme) if *scheme == Scheme::HTTP => false,
            _ => return Err(bad("one has another scheme")),
        };
        let authority = uri.authority().filter(|authority| !authority.host().is_empty());
        let authority = authority.ok_or_else(|| bad("one has no host"))?;
        if authority.as_str().contains('@') {
            return Err(bad("one has a user in it"));
        }
        if !matches!(uri.path(), "" | "/") || uri.query().is_some() {
            return Err(bad("one has more than a host and a port"));
        }
        let host = authority.host().trim_start_matches('[').trim_end_matches(']').to_owned();
        let port = authority.port_u16().unwrap_or(if tls { 443 } else { 80 });
        let scheme = if tls { Scheme::HTTPS } else { Scheme::HTTP };
        let origin = Uri::builder().scheme(scheme).authority(authority.as_str()).path_and_query("/").build();
        Ok(Target { origin: origin.map_err(|_| bad("one cannot be read"))?, host, port, tls })
    }

    /// The address itself, where it is no name.
    pub(crate) fn literal(&self) -> Option<SocketAddr> {
        Some(SocketAddr::new(self.host.parse().ok()?, self.port))
    }

    /// What the name stands for now; at most as many as may be, always in the same order.
    pub(crate) async fn resolve(&self) -> Option<Vec<SocketAddr>> {
        let found = tokio::net::lookup_host((self.host.as_str(), self.port));
        let mut found: Vec<SocketAddr> = match tokio::time::timeout(CONNECT, found).await {
            Ok(Ok(found)) => found.collect(),
            Ok(Err(error)) => {
                tracing::debug!(host = self.host, %error, "a name is not known");
                return None;
            }
            Err(_) => return None,
        };
        found.sort_unstable();
        found.dedup();
        found.truncate(MAX_ADDRESSES);
        Some(found)
    }

    /// A lazy connection to one of its addresses: asked for, and verified, by the name.
    pub(crate) fn channel(&self, address: SocketAddr, tls: &ClientTls) -> Result<Channel, AddressError> {
        let endpoint = Endpoint::from_shared(format!("http://{address}"))
            .map_err(AddressError::of)?
            .origin(self.origin.clone())
            .connect_timeout(CONNECT)
            .tcp_nodelay(true)
            .http2_keep_alive_interval(Duration::from_secs(20))
            .keep_alive_timeout(Duration::from_secs(5))
            .keep_alive_while_idle(true)
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(ANSWERS_WINDOW)
            .max_frame_size(MAX_FRAME);
        match self.tls {
            true => tls.channel(&endpoint, address, &self.host),
            false => Ok(endpoint.connect_lazy()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_once_each() {
        let read =
            parse("http://127.0.0.1:7001, http://[::1]:7002,https://identity.svc,http://127.0.0.1:7001/").unwrap();
        let literal: Vec<_> = read.iter().map(Target::literal).collect();
        assert_eq!(literal, [Some("127.0.0.1:7001".parse().unwrap()), Some("[::1]:7002".parse().unwrap()), None]);
        assert_eq!((read[2].host.as_str(), read[2].port, read[2].tls), ("identity.svc", 443, true));
        assert_eq!(read[1].origin, "http://[::1]:7002/");
        assert_eq!(ports("https://a,http://b:7002,http://a:7002,https://c:443").unwrap(), [443, 7002]);
    }

    #[test]
    fn what_is_no_address_is_refused_and_not_repeated() {
        for bad in ["", ",", "http://a,", "ftp://a", "a:1", "http://", "http://u:secret@a", "http://a/b", "http://a?b"]
        {
            let error = check_addresses(bad).unwrap_err().to_string();
            assert!(!error.contains("secret"), "{error}");
        }
        let many: Vec<String> = (1..=65).map(|port| format!("http://a:{port}")).collect();
        assert!(check_addresses(&many.join(",")).is_err());
    }

    #[tokio::test]
    async fn a_name_has_its_addresses() {
        let target = parse("http://localhost:9").unwrap().remove(0);
        assert!(
            target.resolve().await.unwrap().iter().all(|address| address.ip().is_loopback() && address.port() == 9)
        );
        let nowhere = parse("http://no-such-name.invalid:9").unwrap().remove(0);
        assert_eq!(nowhere.resolve().await, None);
    }
}
