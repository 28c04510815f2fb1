//! What the settings say of the socket: certificates, names, origins, limits.

use std::net::SocketAddr;

use axum::http::Uri;

use super::Settings;
use crate::{
    listen::{Limits, room},
    roles::Role,
};

impl Settings {
    pub(super) fn check_socket(&self, check: &mut dyn FnMut(bool, &str)) {
        check(
            self.tls_cert_file.is_some() == self.tls_key_file.is_some(),
            "tls_cert_file (AEGIS_TLS_CERT_FILE) and tls_key_file (AEGIS_TLS_KEY_FILE) go together",
        );
        let peers = [&self.peer_ca_file, &self.peer_cert_file, &self.peer_key_file];
        check(
            peers.iter().all(|file| file.is_some()) || peers.iter().all(|file| file.is_none()),
            "peer_ca_file (AEGIS_PEER_CA_FILE), peer_cert_file (AEGIS_PEER_CERT_FILE) and peer_key_file \
             (AEGIS_PEER_KEY_FILE) go together",
        );
        check(self.connections >= 64, "connections (AEGIS_CONNECTIONS) must be 64 or more");
        for origin in &self.cors_origins {
            check(
                is_origin(origin),
                &format!(
                    "cors_origins (AEGIS_CORS_ORIGINS) must be origins such as https://soc.example.com, without a path \
                     and without *: {origin:?} is none"
                ),
            );
        }
        for host in &self.allowed_hosts {
            let good = host == "*" || (!host.is_empty() && !host.contains(['/', ':', '*', '@', ' ']));
            check(
                good,
                &format!(
                    "allowed_hosts (AEGIS_ALLOWED_HOSTS) must be names such as aegis.example.com, without a port, or *: \
                     {host:?} is neither"
                ),
            );
        }
    }

    /// What a process of these roles lacks for certificates between the roles.
    pub(super) fn peer_problems(&self, roles: &[Role]) -> Vec<String> {
        let mut problems = Vec::new();
        if self.peer_ca_file.is_none() {
            return problems;
        }
        for role in Role::SERVICES {
            let plain =
                self.peer(role).is_some_and(|urls| urls.split(',').any(|url| !url.trim().starts_with("https:")));
            if plain && !roles.contains(&role) {
                problems.push(format!(
                    "{role}_url (AEGIS_{}_URL) must begin with https:// where AEGIS_PEER_CA_FILE is set: a certificate is \
                     shown over TLS only",
                    role.as_str().to_uppercase()
                ));
            }
        }
        let serves = roles.iter().any(|role| Role::SERVICES.contains(role));
        if serves && roles.contains(&Role::Gateway) && self.tls_cert_file.is_none() {
            problems.push(
                "tls_cert_file (AEGIS_TLS_CERT_FILE) is needed where AEGIS_PEER_CA_FILE is set and one process is the \
                 gateway and services: their calls need a certificate, which is shown over TLS only"
                    .to_owned(),
            );
        }
        problems
    }

    /// What connections may take.
    pub fn limits(&self) -> Limits {
        let of_address = usize::try_from(self.connections_per_address).ok().filter(|most| *most > 0);
        Limits {
            connections: room(self.connections as usize),
            // A proxy's connections are everybody's.
            per_address: of_address.filter(|_| !self.trust_proxy),
            ..Limits::default()
        }
    }

    /// The names under which the product may be asked; nothing where any will do.
    ///
    /// A page of any site can have its own name lead to 127.0.0.1 and then ask whatever listens there. A product that is
    /// meant for this machine alone does not know such names.
    pub fn hosts(&self) -> Option<Vec<String>> {
        if self.allowed_hosts.iter().any(|host| host == "*") {
            return None;
        }
        let here = match self.listen.parse::<SocketAddr>() {
            Ok(address) => address.ip().to_canonical().is_loopback(),
            Err(_) => true,
        };
        if self.allowed_hosts.is_empty() && (!here || self.trust_proxy) {
            return None;
        }
        let own = self.public_url.as_deref().and_then(|url| url.parse::<Uri>().ok());
        let own = own.and_then(|url| url.host().map(str::to_owned));
        Some(self.allowed_hosts.iter().cloned().chain(own).collect())
    }

    /// Whether browsers reach the product over TLS.
    pub fn is_https(&self) -> bool {
        self.tls_cert_file.is_some() || self.public_url.as_deref().is_some_and(|url| url.starts_with("https://"))
    }

    /// Where a product of these settings is on this machine; the likelier first.
    pub fn here(&self) -> Vec<String> {
        let address = self.listen.replace("0.0.0.0", "127.0.0.1").replace("[::]", "[::1]");
        let schemes: &[&str] = match (&self.tls_cert_file, &self.peer_cert_file) {
            (Some(_), _) => &["https"],
            // Services show it, the gateway alone does not.
            (None, Some(_)) => &["https", "http"],
            (None, None) => &["http"],
        };
        schemes.iter().map(|scheme| format!("{scheme}://{address}")).collect()
    }

    /// Roots of a private CA, as they stand in the file. What is wrong with it is said where TLS is set up.
    pub(super) fn more_roots(&self) -> Option<Vec<u8>> {
        crate::tls::more_roots(self).unwrap_or_default()
    }
}

fn is_origin(text: &str) -> bool {
    let Ok(uri) = text.parse::<Uri>() else { return false };
    let Some((scheme, authority)) = uri.scheme_str().zip(uri.authority()) else { return false };
    // As browsers write it: a text that differs would never match.
    matches!(scheme, "http" | "https")
        && !authority.as_str().contains(['@', '*'])
        && text == format!("{scheme}://{authority}")
        && text == text.to_ascii_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings() -> Settings {
        Settings::default()
    }

    #[test]
    fn origins_are_written_as_browsers_write_them() {
        for good in ["https://soc.example.com", "http://127.0.0.1:3000", "https://[2001:db8::1]:8443"] {
            assert!(is_origin(good), "{good}");
        }
        for bad in ["*", "null", "soc.example.com", "https://a.example/", "https://*.example", "HTTPS://a", "ftp://a"] {
            assert!(!is_origin(bad), "{bad}");
        }
    }

    #[test]
    fn names_are_known_where_the_product_is_for_this_machine_alone() {
        assert_eq!(settings().hosts(), Some(vec![]));
        let own = Settings { public_url: Some("https://aegis.example.com/x".into()), ..settings() };
        assert_eq!(own.hosts(), Some(vec!["aegis.example.com".to_owned()]));
        assert_eq!(Settings { listen: "0.0.0.0:80".into(), ..settings() }.hosts(), None);
        assert_eq!(Settings { trust_proxy: true, ..settings() }.hosts(), None);
        assert_eq!(Settings { allowed_hosts: vec!["*".into()], ..settings() }.hosts(), None);
        let named = Settings { listen: "[::]:80".into(), allowed_hosts: vec!["a".into()], ..own };
        assert_eq!(named.hosts(), Some(vec!["a".to_owned(), "aegis.example.com".to_owned()]));
    }

    #[test]
    fn certificates_go_together() {
        let mut problems = Vec::new();
        let bad = Settings {
            tls_key_file: Some("k".into()),
            peer_ca_file: Some("ca".into()),
            cors_origins: vec!["*".into()],
            allowed_hosts: vec!["a:8000".into()],
            connections: 1,
            ..settings()
        };
        bad.check_socket(&mut |good, problem| problems.extend((!good).then(|| problem.to_owned())));
        for name in ["TLS_CERT_FILE", "PEER_CERT_FILE", "CORS_ORIGINS", "ALLOWED_HOSTS", "AEGIS_CONNECTIONS"] {
            assert!(problems.iter().any(|problem| problem.contains(name)), "{name}: {problems:?}");
        }
        let plain = Settings {
            peer_ca_file: Some("ca".into()),
            identity_url: Some("https://a,http://b".into()),
            catalog_url: Some("https://a".into()),
            ..settings()
        };
        assert_eq!(plain.peer_problems(&[Role::Testing]).len(), 1);
        assert_eq!(plain.peer_problems(&Role::ALL).len(), 1, "one process needs a certificate of its own");
        assert!(settings().peer_problems(&Role::ALL).is_empty());
    }

    #[test]
    fn behind_a_proxy_addresses_are_not_counted() {
        assert_eq!(settings().limits().per_address, Some(1_000));
        assert_eq!(Settings { trust_proxy: true, ..settings() }.limits().per_address, None);
        assert_eq!(Settings { connections_per_address: 0, ..settings() }.limits().per_address, None);
    }
}
