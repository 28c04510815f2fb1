//! Where a document is: a data source's `url`, understood and checked.

use std::net::IpAddr;
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
        Some(Host::Domain(name)) => name == "localhost" || name.ends_with(".localhost"),
        Some(Host::Ipv4(ip)) => IpAddr::V4(ip).is_loopback(),
        Some(Host::Ipv6(ip)) => IpAddr::V6(ip).is_loopback(),
        None => false,
    }
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
            ("https://example.org/x", true),
            ("http://example.org/x", false),
            ("http://127.0.0.1.example.org/x", false),
        ] {
            let location = Location::parse(text).unwrap();
            assert_eq!(location.check(&limits).is_ok(), by_default, "{text}");
            assert!(location.check(&open).is_ok());
        }
    }
}
