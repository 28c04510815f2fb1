//! Brings a publisher's document here, from a file or over HTTP, and opens it unpacked. Everything is bounded.

mod error;
mod http;
mod local;
mod location;
mod unpack;

#[cfg(test)]
mod http_tests;
#[cfg(test)]
mod unpack_tests;

use std::fs::File;
use std::path::PathBuf;
use std::time::Duration;

use tempfile::TempPath;

pub use error::{FetchError, FetchErrorKind};
pub use location::Location;
pub use unpack::{Format, open};

/// What a fetch may use.
#[derive(Debug, Clone)]
pub struct FetchLimits {
    /// Bytes of the document as it is published, packed or not.
    pub max_download_bytes: u64,
    /// Bytes after unpacking.
    pub max_unpacked_bytes: u64,
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
    /// Where downloads are kept until they are read; the system's folder for temporary files by default.
    pub spool_dir: Option<PathBuf>,
}

impl Default for FetchLimits {
    fn default() -> Self {
        Self {
            max_download_bytes: 512 * 1024 * 1024,
            max_unpacked_bytes: 1024 * 1024 * 1024,
            total_timeout: Duration::from_secs(600),
            idle_timeout: Duration::from_secs(30),
            connect_timeout: Duration::from_secs(10),
            max_redirects: 5,
            max_attempts: 4,
            first_pause: Duration::from_millis(500),
            allow_http: false,
            spool_dir: None,
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
        Location::Http(url) => http::fetch(url, limits, etag, &progress).await,
    }
}
