//! Where a document is: a data source's `url`, understood and checked.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::PathBuf;

use percent_encoding::percent_decode_str;
use url::{Host, Url};

use super::{FetchError, FetchErrorKind, FetchLimits};

const MAX_URL_BYTES: usize = 2048;
/// Stands for the id of a technique in a url that is one for each of them.
pub const ID: &str = "{id}";

/// A data source's `url`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Location {
    /// A file on this machine.
    File {
        /// Absolute, or relative to the working folder.
        path: PathBuf,
        /// What was typed.
        label: String,
    },
    /// A document on a server: `https:` or `http:`.
    Http(Url),
}

impl Location {
    /// Understands `https://…`, `http://…`, `file:///absolute/path` and `file:relative/path`.
    pub fn parse(text: &str) -> Result<Location, FetchError> {
        let text = text.trim();
        if text.is_empty() {
            return Err(invalid("it is empty"));
        }
        if text.len() > MAX_URL_BYTES {
            return Err(invalid(&format!("it is longer than {MAX_URL_BYTES} bytes")));
        }
        if text.chars().any(char::is_control) {
            return Err(invalid("it holds control characters"));
        }
        // Not through the url crate, which makes every file url absolute.
        if let Some(rest) = text.get(..5).filter(|scheme| scheme.eq_ignore_ascii_case("file:")).and(text.get(5..)) {
            return file(text, rest);
        }
        let url = Url::parse(text)
            .map_err(|error| invalid(&format!("`{text}` is no url ({error}): use https://… or file:…")))?;
        if !matches!(url.scheme(), "https" | "http") {
            return Err(invalid(&format!("`{}:` is not supported: use https://… or file:…", url.scheme())));
        }
        // The url is shown to everyone who may list the data sources.
        if !url.username().is_empty() || url.password().is_some() {
            return Err(invalid("it must not hold a user name or password"));
        }
        Ok(Location::Http(url))
    }

    /// A file named by its path, as on a command line.
    pub fn file(path: impl Into<PathBuf>) -> Location {
        let path = path.into();
        Location::File { label: path.display().to_string(), path }
    }

    /// For messages: what the administrator typed.
    pub(super) fn label(&self) -> String {
        match self {
            Location::File { label, .. } => label.clone(),
            Location::Http(url) => url.to_string(),
        }
    }

    /// Whether these limits allow it at all.
    pub fn check(&self, limits: &FetchLimits) -> Result<(), FetchError> {
        match self {
            Location::Http(url) if url.scheme() == "http" && !limits.allow_http && !is_loopback(url) => {
                Err(invalid("http: is only allowed for this machine: use https:"))
            }
            _ => Ok(()),
        }
    }
}

fn invalid(detail: &str) -> FetchError {
    FetchError::new(FetchErrorKind::InvalidUrl, format!("the data source's url is not usable: {detail}"))
}

fn file(label: &str, rest: &str) -> Result<Location, FetchError> {
    let path = match rest.strip_prefix("//") {
        None => rest,
        Some(rest) => {
            let (host, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
            if !host.is_empty() && !host.eq_ignore_ascii_case("localhost") {
                return Err(invalid(&format!(
                    "a file: url names no host, and `{host}` was read as one: use file:///absolute/path or file:relative/path"
                )));
            }
            path
        }
    };
    let path = percent_decode_str(path).decode_utf8().map_err(|_| invalid("its path is not UTF-8"))?;
    if path.is_empty() || path.contains('\0') {
        return Err(invalid("it names no file: use file:///absolute/path or file:relative/path"));
    }
    Ok(Location::File { path: PathBuf::from(path.as_ref()), label: label.to_owned() })
}

/// Whether the host is this machine.
pub(super) fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(name)) => is_localhost(name),
        Some(Host::Ipv4(ip)) => is_this_machine(IpAddr::V4(ip)),
        Some(Host::Ipv6(ip)) => is_this_machine(IpAddr::V6(ip)),
        None => false,
    }
}

/// Whether the host is an address that means something else, or nothing, outside of the network that we are in.
pub(super) fn is_internal(url: &Url) -> bool {
    match url.host() {
        Some(Host::Ipv4(ip)) => is_internal_v4(ip),
        Some(Host::Ipv6(ip)) => match ip.to_ipv4_mapped() {
            Some(ip) => is_internal_v4(ip),
            None => is_special_v6(ip) || ip.is_unique_local(),
        },
        Some(Host::Domain(_)) | None => is_loopback(url),
    }
}

/// Whether the name always means this machine.
pub(super) fn is_localhost(name: &str) -> bool {
    let name = name.strip_suffix('.').unwrap_or(name);
    name == "localhost" || name.ends_with(".localhost")
}

/// Whether nothing but this machine, or its link, answers there.
pub(super) fn is_nearby(ip: IpAddr) -> bool {
    match ip.to_canonical() {
        IpAddr::V4(ip) => is_this_machine(IpAddr::V4(ip)) || ip.is_link_local(),
        IpAddr::V6(ip) => is_special_v6(ip),
    }
}

/// The unspecified address leads to this machine as well.
fn is_this_machine(ip: IpAddr) -> bool {
    let ip = ip.to_canonical();
    ip.is_loopback() || ip.is_unspecified()
}

fn is_internal_v4(ip: Ipv4Addr) -> bool {
    is_this_machine(IpAddr::V4(ip)) || ip.is_private() || ip.is_link_local()
}

fn is_special_v6(ip: Ipv6Addr) -> bool {
    is_this_machine(IpAddr::V6(ip)) || ip.is_unicast_link_local()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(text: &str) -> String {
        match Location::parse(text).unwrap() {
            Location::File { path, .. } => path.to_str().unwrap().to_owned(),
            Location::Http(url) => panic!("{url} is no file"),
        }
    }

    #[test]
    fn file_urls_are_absolute_or_relative_and_decoded() {
        assert_eq!(path("file:///srv/a%20b/x.json.zst"), "/srv/a b/x.json.zst");
        assert_eq!(path("file://localhost/srv/x.json"), "/srv/x.json");
        assert_eq!(path("FILE:/srv/x.json"), "/srv/x.json");
        assert_eq!(path(" file:../data/100%/x#1?.json "), "../data/100%/x#1?.json");
    }

    #[test]
    fn unusable_urls_are_told() {
        for (text, part) in [
            ("", "empty"),
            ("file:", "names no file"),
            ("file://data/x.json", "names no host"),
            ("file:///a%00b", "names no file"),
            ("file:///a%ff", "not UTF-8"),
            ("ftp://example.org/x", "`ftp:` is not supported"),
            ("example.org/x", "is no url"),
            ("https://", "is no url"),
            ("https://me:secret@example.org/x", "user name or password"),
        ] {
            let error = Location::parse(text).unwrap_err();
            assert_eq!(error.kind(), FetchErrorKind::InvalidUrl);
            assert!(error.public().contains(part), "{text}: {}", error.public());
            assert!(!error.public().contains("secret"));
        }
    }

    #[test]
    fn plain_http_is_for_this_machine_unless_allowed() {
        let limits = FetchLimits::default();
        let open = FetchLimits { allow_http: true, ..FetchLimits::default() };
        for (text, by_default) in [
            ("http://127.0.0.1:8/x", true),
            ("http://localhost/x", true),
            ("http://[::1]/x", true),
            ("http://[::ffff:127.0.0.1]/x", true),
            ("http://localhost./x", true),
            ("https://example.org/x", true),
            ("http://example.org/x", false),
            ("http://127.0.0.1.example.org/x", false),
        ] {
            let location = Location::parse(text).unwrap();
            assert_eq!(location.check(&limits).is_ok(), by_default, "{text}");
            assert!(location.check(&open).is_ok());
        }
    }

    #[test]
    fn internal_addresses_are_known_in_every_form() {
        for (text, internal) in [
            ("http://127.0.0.2/", true),
            ("http://2130706433/", true),
            ("http://0.0.0.0/", true),
            ("http://[::]/", true),
            ("http://[::ffff:10.1.2.3]/", true),
            ("http://169.254.169.254/", true),
            ("http://192.168.1.1/", true),
            ("http://[fe80::1]/", true),
            ("http://[fd00::1]/", true),
            ("http://x.localhost./", true),
            ("http://192.0.2.1/", false),
            ("http://[2001:db8::1]/", false),
            ("http://example.org/", false),
        ] {
            assert_eq!(is_internal(&Url::parse(text).unwrap()), internal, "{text}");
        }
        let nearby = |text: &str| is_nearby(text.parse().unwrap());
        assert!(nearby("127.0.1.1") && nearby("::ffff:0.0.0.0") && nearby("169.254.169.254") && nearby("fe80::1"));
        assert!(!nearby("10.0.0.1") && !nearby("2001:db8::1"));
    }
}
