//! Under which names the product may be asked.
//!
//! A page of any site can have its own name lead to the address of this product (DNS rebinding); the browser then takes
//! the product for that site. A product that is meant for one machine knows that no such name is its own.

use std::net::{Ipv4Addr, Ipv6Addr};

use aegis_error::Failure;
use http::{HeaderMap, Uri, header::HOST, uri::Authority};

/// Refuses a request for another name than these, than addresses and than localhost; any name is good without a list,
/// and two names at once never are.
pub fn check(known: Option<&[String]>, uri: &Uri, headers: &HeaderMap) -> Result<(), Failure> {
    let mut hosts = headers.get_all(HOST).iter();
    let host = hosts.next();
    // Two that look at it may take two different ones.
    if hosts.next().is_some() {
        return Err(Failure::invalid("Host", "is given twice"));
    }
    let Some(known) = known else { return Ok(()) };
    let asked = host.map(|host| host.as_bytes()).into_iter().chain(uri.authority().map(|a| a.as_str().as_bytes()));
    for host in asked {
        // Some clients of HTTP/1.0 name none.
        if !host.is_empty() && !is_known(known, host) {
            return Err(Failure::forbidden(
                "this product is not known under the name that you ask for: if it should be, set AEGIS_PUBLIC_URL or \
                 AEGIS_ALLOWED_HOSTS",
            ));
        }
    }
    Ok(())
}

fn is_known(known: &[String], host: &[u8]) -> bool {
    let Ok(authority) = Authority::try_from(host) else { return false };
    let name = authority.host().trim_end_matches('.');
    let bare = name.trim_start_matches('[').trim_end_matches(']');
    if name.parse::<Ipv4Addr>().is_ok() || bare.parse::<Ipv6Addr>().is_ok() {
        return true;
    }
    let is_localhost = |name: &str| {
        let name = name.to_ascii_lowercase();
        // By RFC 6761 nobody can have it lead elsewhere.
        name == "localhost" || name.ends_with(".localhost")
    };
    is_localhost(name) || known.iter().any(|known| known.trim_end_matches('.').eq_ignore_ascii_case(name))
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn asked(known: &[&str], host: &str) -> bool {
        let known: Vec<String> = known.iter().map(|name| (*name).to_owned()).collect();
        let headers = HeaderMap::from_iter([(HOST, HeaderValue::from_str(host).unwrap())]);
        check(Some(&known), &Uri::from_static("/"), &headers).is_ok()
    }

    #[test]
    fn addresses_localhost_and_what_is_known_are_good() {
        for host in [
            "127.0.0.1",
            "127.0.0.1:8000",
            "192.0.2.7:80",
            "[::1]:8000",
            "[::1]",
            "localhost",
            "LOCALHOST:8000",
            "aegis.localhost:8000",
            "soc.example.com",
            "Soc.Example.Com:8443",
            "soc.example.com.",
        ] {
            assert!(asked(&["soc.example.com"], host), "{host}");
        }
        for host in [
            "evil.example",
            "127.0.0.1.evil.example",
            "localhost.evil.example",
            "x.soc.example.com",
            "a@b@c",
            "notlocalhost",
        ] {
            assert!(!asked(&["soc.example.com"], host), "{host}");
        }
    }

    #[test]
    fn the_address_of_the_request_counts_too_and_two_hosts_are_refused() {
        let named = Uri::from_static("http://evil.example/x");
        assert!(check(Some(&[]), &named, &HeaderMap::new()).is_err());
        assert!(check(None, &named, &HeaderMap::new()).is_ok());
        assert!(check(Some(&[]), &Uri::from_static("/"), &HeaderMap::new()).is_ok());
        let mut two = HeaderMap::new();
        two.append(HOST, HeaderValue::from_static("a"));
        two.append(HOST, HeaderValue::from_static("a"));
        assert!(check(None, &Uri::from_static("/"), &two).is_err());
    }
}
