//! Downloads over HTTP: bounded, retried, and resumed where the server can.

use std::io::{self, SeekFrom};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use futures::StreamExt;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use reqwest::header::{
    ACCEPT_ENCODING, ACCEPT_RANGES, CONTENT_RANGE, ETAG, HeaderMap, HeaderName, IF_NONE_MATCH, IF_RANGE, RANGE,
    RETRY_AFTER,
};
use reqwest::{Client, Response, StatusCode, redirect};
use secrecy::ExposeSecret;
use tempfile::TempPath;
use tokio::io::{AsyncSeekExt, AsyncWriteExt, BufWriter};
use url::Url;

use super::{Content, Document, FetchError, FetchErrorKind, FetchLimits, Fetched, local, location, unpack};

/// Longer than a publisher may ask us to wait within one sync.
const MAX_RETRY_AFTER: Duration = Duration::from_secs(60);
const MAX_PAUSE: Duration = Duration::from_secs(10);
/// This much more than ever before is progress, and the failures so far are forgotten.
const PROGRESS_BYTES: u64 = 1024 * 1024;

type Progress<'a> = &'a (dyn Fn(u64, Option<u64>) + Send + Sync);

pub(super) async fn fetch(
    client: Client,
    url: &Url,
    limits: &FetchLimits,
    etag: Option<&str>,
    progress: Progress<'_>,
) -> Result<Fetched, FetchError> {
    let download = async {
        let mut download = Download::new(client, url, limits, etag, progress).await?;
        match download.run().await? {
            Outcome::NotModified => Ok(Fetched::NotModified),
            Outcome::Complete => download.finish().await.map(Fetched::Document),
        }
    };
    tokio::time::timeout(limits.total_timeout, download).await.unwrap_or_else(|_| {
        let seconds = limits.total_timeout.as_secs();
        let message =
            format!("{url} was not here after {seconds} s: try again later, or point the data source at a mirror");
        Err(FetchError::new(FetchErrorKind::TimedOut, message))
    })
}

enum Outcome {
    Complete,
    NotModified,
}

enum Step {
    Finished(Outcome),
    /// Worth another attempt, after the server's or our pause.
    Again(Option<Duration>, FetchError),
}

struct Download<'a> {
    client: Client,
    url: &'a Url,
    limits: &'a FetchLimits,
    known_etag: Option<&'a str>,
    progress: Progress<'a>,
    path: TempPath,
    out: BufWriter<tokio::fs::File>,
    written: u64,
    furthest: u64,
    etag: Option<String>,
    /// Whether what is here can be continued.
    resumable: bool,
}

impl<'a> Download<'a> {
    async fn new(
        client: Client,
        url: &'a Url,
        limits: &'a FetchLimits,
        known_etag: Option<&'a str>,
        progress: Progress<'a>,
    ) -> Result<Self, FetchError> {
        let folder = limits.spool_dir.clone().unwrap_or_else(std::env::temp_dir);
        let file =
            tokio::task::spawn_blocking(move || tempfile::Builder::new().prefix("aegis-fetch-").tempfile_in(folder))
                .await
                .map_err(spool_error)?
                .map_err(spool_error)?;
        let (file, path) = file.into_parts();
        Ok(Self {
            client,
            url,
            limits,
            known_etag,
            progress,
            path,
            out: BufWriter::with_capacity(256 * 1024, tokio::fs::File::from_std(file)),
            written: 0,
            furthest: 0,
            etag: None,
            resumable: false,
        })
    }

    async fn run(&mut self) -> Result<Outcome, FetchError> {
        let mut failures = 0;
        loop {
            let before = self.furthest;
            let (pause, error) = match self.attempt().await? {
                Step::Finished(outcome) => return Ok(outcome),
                Step::Again(pause, error) => (pause, error),
            };
            if self.furthest >= before + PROGRESS_BYTES {
                failures = 0;
            }
            failures += 1;
            if failures >= self.limits.max_attempts {
                return Err(error);
            }
            let backoff = self.limits.first_pause.saturating_mul(1 << (failures - 1).min(10)).min(MAX_PAUSE);
            tokio::time::sleep(pause.unwrap_or(backoff)).await;
        }
    }

    async fn attempt(&mut self) -> Result<Step, FetchError> {
        // Asking for packed bytes would make lengths and ranges mean something else.
        let mut request = self.client.get(self.url.clone()).header(ACCEPT_ENCODING, "identity");
        if !self.resumable || self.etag.is_none() {
            self.restart().await?;
        }
        match (&self.etag, self.known_etag) {
            (Some(etag), _) if self.written > 0 => {
                request = request.header(RANGE, format!("bytes={}-", self.written)).header(IF_RANGE, etag);
            }
            (_, Some(known)) => request = request.header(IF_NONE_MATCH, known),
            _ => {}
        }
        let response = match request.send().await {
            Ok(response) => response,
            Err(error) => return self.failed(error),
        };
        let status = response.status();
        match status {
            StatusCode::OK => self.restart().await?,
            StatusCode::PARTIAL_CONTENT if self.continues(&response) => {}
            StatusCode::PARTIAL_CONTENT | StatusCode::RANGE_NOT_SATISFIABLE if self.written > 0 => {
                self.restart().await?;
                return Ok(Step::Again(Some(Duration::ZERO), self.cut()));
            }
            StatusCode::NOT_MODIFIED if self.written == 0 && self.known_etag.is_some() => {
                return Ok(Step::Finished(Outcome::NotModified));
            }
            _ => return self.refused(status, response.headers()),
        }
        let total = response.content_length().map(|rest| self.written + rest);
        if total.is_some_and(|total| total > self.limits.max_download_bytes) {
            return Err(local::too_large(self.url.as_str(), self.limits.max_download_bytes));
        }
        if status == StatusCode::OK {
            // A weak one does not promise the same bytes.
            let etag = header(response.headers(), ETAG).filter(|etag| etag.len() <= 512).map(str::to_owned);
            let strong = etag.as_ref().is_some_and(|etag| !etag.starts_with("W/"));
            let ranges =
                header(response.headers(), ACCEPT_RANGES).is_some_and(|units| units.eq_ignore_ascii_case("bytes"));
            self.resumable = strong && ranges;
            self.etag = etag;
        }
        self.receive(response, total).await
    }

    async fn receive(&mut self, response: Response, total: Option<u64>) -> Result<Step, FetchError> {
        (self.progress)(self.written, total);
        let mut body = response.bytes_stream();
        while let Some(chunk) = body.next().await {
            let chunk = match chunk {
                Ok(chunk) => chunk,
                Err(error) => {
                    self.out.flush().await.map_err(spool_error)?;
                    return self.failed(error);
                }
            };
            let written = self.written + chunk.len() as u64;
            if written > self.limits.max_download_bytes {
                return Err(local::too_large(self.url.as_str(), self.limits.max_download_bytes));
            }
            self.out.write_all(&chunk).await.map_err(spool_error)?;
            self.written = written;
            self.furthest = self.furthest.max(written);
            (self.progress)(written, total);
        }
        self.out.flush().await.map_err(spool_error)?;
        if total.is_some_and(|total| total != self.written) {
            return Ok(Step::Again(None, self.cut()));
        }
        Ok(Step::Finished(Outcome::Complete))
    }

    /// Whether a 206 goes on exactly where we are, in the same bytes.
    fn continues(&self, response: &Response) -> bool {
        let same = header(response.headers(), ETAG).is_none_or(|etag| Some(etag) == self.etag.as_deref());
        let range = header(response.headers(), CONTENT_RANGE).and_then(|range| range.strip_prefix("bytes "));
        let start = range.and_then(|range| range.split_once('-')).and_then(|(start, _)| start.trim().parse().ok());
        self.written > 0 && same && start == Some(self.written)
    }

    async fn restart(&mut self) -> Result<(), FetchError> {
        self.resumable = false;
        self.etag = None;
        if self.written > 0 {
            self.out.flush().await.map_err(spool_error)?;
            self.out.get_mut().set_len(0).await.map_err(spool_error)?;
            self.out.seek(SeekFrom::Start(0)).await.map_err(spool_error)?;
            self.written = 0;
        }
        Ok(())
    }

    fn cut(&self) -> FetchError {
        let message = format!(
            "the download of {} was cut after {} bytes, again and again: try again later",
            self.url, self.written
        );
        FetchError::new(FetchErrorKind::Unavailable, message)
    }

    /// No answer, or half of one.
    fn failed(&self, error: reqwest::Error) -> Result<Step, FetchError> {
        if error.is_redirect() {
            let mut deepest: &dyn std::error::Error = &error;
            while let Some(source) = deepest.source() {
                deepest = source;
            }
            let message = format!("{} redirects in a way that is not followed: {deepest}", self.url);
            return Err(FetchError::new(FetchErrorKind::InvalidUrl, message));
        }
        if error.is_builder() {
            let message = format!("{} cannot be asked for: check the data source's url", self.url);
            return Err(FetchError::new(FetchErrorKind::InvalidUrl, message).because(error.without_url()));
        }
        let host = self.url.host_str().unwrap_or_default();
        let failure = if error.is_timeout() {
            let message =
                format!("{host} does not answer in time: try again later, or point the data source at a mirror");
            FetchError::new(FetchErrorKind::TimedOut, message)
        } else if error.is_connect() {
            let message = format!(
                "{host} cannot be reached: check the network and the data source's url, or point it at a mirror or a file"
            );
            FetchError::new(FetchErrorKind::Unavailable, message)
        } else {
            self.cut()
        };
        Ok(Step::Again(None, failure.because(error.without_url())))
    }

    /// An answer without the document.
    fn refused(&self, status: StatusCode, headers: &HeaderMap) -> Result<Step, FetchError> {
        let (url, code) = (self.url, status.as_u16());
        let busy =
            matches!(status, StatusCode::TOO_MANY_REQUESTS | StatusCode::REQUEST_TIMEOUT) || status.is_server_error();
        if busy {
            let asked = header(headers, RETRY_AFTER).and_then(|text| retry_after(text, Utc::now()));
            if let Some(asked) = asked.filter(|asked| *asked > MAX_RETRY_AFTER) {
                let message =
                    format!("{url} answers {code} and asks to wait {} s: sync again after that", asked.as_secs());
                return Err(FetchError::new(FetchErrorKind::Unavailable, message));
            }
            let message =
                format!("{url} answers {code}, again and again: try again later, or point the data source at a mirror");
            return Ok(Step::Again(asked, FetchError::new(FetchErrorKind::Unavailable, message)));
        }
        Err(match status {
            StatusCode::NOT_FOUND | StatusCode::GONE => {
                let message = format!("{url} does not exist (the server answers {code}): check the data source's url");
                FetchError::new(FetchErrorKind::NotFound, message)
            }
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
                let message = format!(
                    "{url} may not be read (the server answers {code}): point the data source at a mirror or a file"
                );
                FetchError::new(FetchErrorKind::Forbidden, message)
            }
            _ => {
                let message = format!("{url} answers {code} and no document: check the data source's url");
                FetchError::new(FetchErrorKind::Unavailable, message)
            }
        })
    }

    async fn finish(self) -> Result<Document, FetchError> {
        local::check_size(self.written, self.limits.max_download_bytes, self.url.as_str())?;
        let name = self.url.path_segments().and_then(|mut parts| parts.next_back()).unwrap_or_default().to_owned();
        let mut document = Document {
            content: Content::Downloaded(self.path),
            label: self.url.to_string(),
            name: unpack::unpacked_name(self.url.path().trim_start_matches('/')).to_owned(),
            format: unpack::Format::Plain,
            etag: self.etag,
            size: self.written,
        };
        tokio::task::spawn_blocking(move || {
            document.format = unpack::detect(&document, &name)?;
            Ok(document)
        })
        .await
        .map_err(spool_error)?
    }
}

pub(super) fn client(url: &Url, limits: &FetchLimits) -> Result<Client, FetchError> {
    let (max, allow_http) = (limits.max_redirects, limits.allow_http);
    // A server elsewhere must not send us to this machine's own services, or to those of its network.
    let (local, internal) = (location::is_loopback(url), location::is_internal(url));
    let policy = redirect::Policy::custom(move |attempt| {
        let next = attempt.url();
        let loopback = location::is_loopback(next);
        if attempt.previous().len() > max {
            attempt.error(format!("more than {max} redirects"))
        } else if loopback && !local {
            attempt.error("the redirect leads to this machine")
        } else if location::is_internal(next) && !internal {
            attempt.error("the redirect leads into the network of this machine")
        } else if next.scheme() == "https" || (next.scheme() == "http" && (allow_http || loopback)) {
            attempt.follow()
        } else {
            attempt.error("the redirect leads away from https")
        }
    });
    let mut builder = Client::builder()
        .user_agent(concat!("aegis/", env!("CARGO_PKG_VERSION")))
        .connect_timeout(limits.connect_timeout)
        .read_timeout(limits.idle_timeout)
        .redirect(policy)
        .dns_resolver(Arc::new(Outwards { known: known_hosts(url, limits) }))
        .referer(false);
    if local {
        builder = builder.no_proxy();
    } else if let Some(proxy) = &limits.proxy {
        let proxy = reqwest::Proxy::all(proxy.expose_secret()).map_err(|error| {
            let message = "the proxy for data sources is no URL: check the setting `source_proxy`";
            FetchError::new(FetchErrorKind::Local, message).because(error)
        })?;
        builder = builder.proxy(proxy.no_proxy(reqwest::NoProxy::from_env()));
    }
    if let Some(roots) = &limits.roots {
        let roots = reqwest::Certificate::from_pem_bundle(roots).map_err(|error| {
            let message = "the certificates of the setting `ca_file` cannot be read";
            FetchError::new(FetchErrorKind::Local, message).because(error)
        })?;
        builder = builder.tls_certs_merge(roots);
    }
    builder.build().map_err(|error| {
        FetchError::new(FetchErrorKind::Local, "no HTTP client can be made here: check the system's certificates")
            .because(error)
    })
}

/// Looks names up, and leaves out what answers only on this machine or its link, unless the administrator typed the name
/// or it says so itself: a name in a redirect is somebody else's, and may lead anywhere.
struct Outwards {
    known: Vec<String>,
}

/// The names that an administrator typed: the document's host, and the proxies.
fn known_hosts(url: &Url, limits: &FetchLimits) -> Vec<String> {
    let set = limits.proxy.as_ref().map(|proxy| proxy.expose_secret().to_owned());
    let names = ["HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"];
    let proxies = set.into_iter().chain(names.into_iter().filter_map(|name| std::env::var(name).ok()));
    let proxies =
        proxies.filter_map(|proxy| Url::parse(&proxy).or_else(|_| Url::parse(&format!("http://{proxy}"))).ok());
    std::iter::once(url.clone()).chain(proxies).filter_map(|url| url.host_str().map(str::to_ascii_lowercase)).collect()
}

impl Resolve for Outwards {
    fn resolve(&self, name: Name) -> Resolving {
        let name = name.as_str().to_ascii_lowercase();
        let anywhere = self.known.contains(&name) || location::is_localhost(&name);
        Box::pin(async move {
            let found: Vec<SocketAddr> = tokio::net::lookup_host((name.as_str(), 0)).await?.collect();
            let kept: Vec<SocketAddr> =
                found.into_iter().filter(|found| anywhere || !location::is_nearby(found.ip())).collect();
            match kept.is_empty() {
                true => Err(io::Error::other("the name leads to no address outside of this machine").into()),
                false => Ok(Box::new(kept.into_iter()) as Addrs),
            }
        })
    }
}

fn header(headers: &HeaderMap, name: HeaderName) -> Option<&str> {
    headers.get(name).and_then(|value| value.to_str().ok()).map(str::trim)
}

/// Seconds or an HTTP date.
fn retry_after(text: &str, now: DateTime<Utc>) -> Option<Duration> {
    if let Ok(seconds) = text.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let at = DateTime::parse_from_rfc2822(text).ok()?;
    Some((at.with_timezone(&Utc) - now).to_std().unwrap_or_default())
}

fn spool_error(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> FetchError {
    let message = "the download cannot be kept: check the space in the folder for temporary files";
    FetchError::new(FetchErrorKind::Local, message).because(error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        let now = "2025-11-21T10:00:00Z".parse().unwrap();
        assert_eq!(retry_after("7", now), Some(Duration::from_secs(7)));
        assert_eq!(retry_after("Fri, 21 Nov 2025 10:00:30 GMT", now), Some(Duration::from_secs(30)));
        assert_eq!(retry_after("Fri, 21 Nov 2025 09:00:00 GMT", now), Some(Duration::ZERO));
        assert_eq!(retry_after("soon", now), None);
    }
}
