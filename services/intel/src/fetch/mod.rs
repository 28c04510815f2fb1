//! Brings a publisher's document here, from a file or over HTTP, and opens it unpacked. Everything is bounded.

mod each;
mod error;
mod folder;
mod http;
mod local;
mod location;
mod unpack;

#[cfg(test)]
mod each_tests;
#[cfg(test)]
mod http_tests;
#[cfg(test)]
mod unpack_tests;

use std::fs::File;
use std::path::PathBuf;
use std::time::Duration;

use futures::{StreamExt, TryStreamExt, stream};
use secrecy::SecretString;
use tempfile::TempPath;

pub use each::{Visited, Visitor, each};
pub use error::{FetchError, FetchErrorKind};
pub use location::{ID, Location};
pub use unpack::{Format, open};

/// What a fetch may use.
#[derive(Debug, Clone)]
pub struct FetchLimits {
    /// Bytes of the document as it is published, packed or not.
    pub max_download_bytes: u64,
    /// Bytes after unpacking.
    pub max_unpacked_bytes: u64,
    /// Bytes of one file of an archive or a folder.
    pub max_file_bytes: u64,
    /// All attempts and pauses together.
    pub total_timeout: Duration,
    /// Without a byte from the server.
    pub idle_timeout: Duration,
    /// For one connection.
    pub connect_timeout: Duration,
    /// Redirects that are followed, one after the other.
    pub max_redirects: usize,
    /// Attempts without progress.
    pub max_attempts: u32,
    /// The pause after the first failure; it doubles with each.
    pub first_pause: Duration,
    /// Whether `http:` is allowed for other hosts than this one.
    pub allow_http: bool,
    /// A proxy for all hosts but this one, such as `http://proxy.example.org:3128`. Without one those of the
    /// environment hold: `HTTPS_PROXY`, `HTTP_PROXY` and `NO_PROXY`.
    pub proxy: Option<SecretString>,
    /// Certificates of a private CA (PEM) that are believed besides those of the system.
    pub roots: Option<Vec<u8>>,
    /// Where downloads are kept until they are read; the system's folder for temporary files by default.
    pub spool_dir: Option<PathBuf>,
    /// Folders that no document is read from, nor any inside them: where the product keeps its own. Its secrets are
    /// there, and SQLite's files, whose locks this process loses when it closes one that it opened besides
    /// (section 2.2 of <https://www.sqlite.org/howtocorrupt.html>).
    pub off_limits: Vec<PathBuf>,
}

impl Default for FetchLimits {
    fn default() -> Self {
        Self {
            max_download_bytes: 512 * 1024 * 1024,
            max_unpacked_bytes: 1024 * 1024 * 1024,
            max_file_bytes: 64 * 1024 * 1024,
            total_timeout: Duration::from_secs(600),
            idle_timeout: Duration::from_secs(30),
            connect_timeout: Duration::from_secs(10),
            max_redirects: 5,
            max_attempts: 4,
            first_pause: Duration::from_millis(500),
            allow_http: false,
            proxy: None,
            roots: None,
            spool_dir: None,
            off_limits: Vec::new(),
        }
    }
}

/// The answer to a fetch.
#[derive(Debug)]
pub enum Fetched {
    /// The publisher still has what the given ETag stands for.
    NotModified,
    /// The document is here.
    Document(Document),
}

/// A document on this machine, still packed as it came. A downloaded one is deleted when this is dropped.
#[derive(Debug)]
pub struct Document {
    content: Content,
    /// For messages: what the administrator typed.
    label: String,
    /// For readers that judge by it: the path of its URL or the last part of its file's, without `.zst` or `.gz`.
    name: String,
    /// How it is packed.
    pub format: Format,
    /// To be given to the next fetch; files have none.
    pub etag: Option<String>,
    /// Bytes as published.
    pub size: u64,
}

#[derive(Debug)]
enum Content {
    Downloaded(TempPath),
    Original(PathBuf),
}

impl Document {
    /// A file of our own that holds what somebody sent, `name` being what they call it. Blocking.
    pub fn sent(path: TempPath, name: &str, limits: &FetchLimits) -> Result<Document, FetchError> {
        let size = std::fs::metadata(&path).map_err(|error| local::read_error(name, error))?.len();
        local::check_size(size, limits.max_download_bytes, name)?;
        let mut document = Document {
            content: Content::Downloaded(path),
            label: name.to_owned(),
            name: unpack::unpacked_name(name).to_owned(),
            format: Format::Plain,
            etag: None,
            size,
        };
        document.format = unpack::detect(&document, name)?;
        Ok(document)
    }

    /// Opens the bytes as published. Blocking.
    fn file(&self) -> Result<File, FetchError> {
        let path = match &self.content {
            Content::Downloaded(path) => path.as_ref(),
            Content::Original(path) => path.as_path(),
        };
        File::open(path).map_err(|error| local::read_error(&self.label, error))
    }
}

/// Fetches the document at `location`.
///
/// `etag` is the one of the copy that was read last, to learn cheaply that nothing changed. `progress` is told the bytes
/// that are here and, where known, how many there will be; after a failed attempt it may go back.
/// The process must have installed a rustls provider when `location` is `https:`.
pub async fn fetch(
    location: &Location,
    limits: &FetchLimits,
    etag: Option<&str>,
    progress: impl Fn(u64, Option<u64>) + Send + Sync,
) -> Result<Fetched, FetchError> {
    location.check(limits)?;
    match location {
        Location::File { path, label } => local::fetch(path, label, limits, &progress).await.map(Fetched::Document),
        Location::Http(url) => http::fetch(http::client(url, limits)?, url, limits, etag, &progress).await,
    }
}

/// Downloads of [`fetch_many`] that run at once.
const AT_ONCE: usize = 4;

/// Fetches documents that belong together, those that are not there left out. `progress` is told how many were asked for.
///
/// All together are bounded as one document is.
pub async fn fetch_many(
    locations: Vec<Location>,
    limits: &FetchLimits,
    progress: impl Fn(usize) + Send + Sync,
) -> Result<Vec<Document>, FetchError> {
    let first = locations.iter().find_map(|location| match location {
        Location::Http(url) => Some(url),
        Location::File { .. } => None,
    });
    let label = locations.first().map(Location::label).unwrap_or_default();
    let client = first.map(|url| http::client(url, limits)).transpose()?;
    let fetched = stream::iter(locations.into_iter().map(|location| {
        let client = client.clone();
        async move {
            location.check(limits)?;
            let fetched = match (&location, client) {
                (Location::Http(url), Some(client)) => http::fetch(client, url, limits, None, &|_, _| {}).await,
                (Location::File { path, label }, _) => {
                    local::fetch(path, label, limits, &|_, _| {}).await.map(Fetched::Document)
                }
                (Location::Http(_), None) => return Ok(None),
            };
            match fetched {
                Ok(Fetched::Document(document)) => Ok(Some(document)),
                Ok(Fetched::NotModified) => Ok(None),
                Err(error) if error.kind() == FetchErrorKind::NotFound => Ok(None),
                Err(error) => Err(error),
            }
        }
    }))
    .buffered(AT_ONCE);
    let (mut asked, mut bytes) = (0, 0);
    let all = fetched.try_fold(Vec::new(), |mut all, document| {
        asked += 1;
        progress(asked);
        let mut result = Ok(());
        if let Some(document) = document {
            bytes += document.size;
            if bytes > limits.max_download_bytes {
                result = Err(local::too_large(&document.label, limits.max_download_bytes));
            }
            all.push(document);
        }
        async move { result.map(|()| all) }
    });
    let all = tokio::time::timeout(limits.total_timeout, all).await.map_err(|_| {
        let seconds = limits.total_timeout.as_secs();
        let message = format!("{label} and the others were not all here after {seconds} s: try again later");
        FetchError::new(FetchErrorKind::TimedOut, message)
    })??;
    if all.is_empty() {
        let message = format!("there is none of the {asked} documents such as {label}: check the data source's url");
        return Err(FetchError::new(FetchErrorKind::NotFound, message));
    }
    Ok(all)
}
