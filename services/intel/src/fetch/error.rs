//! Why a document is not here: a kind to decide by, a text to show, and a cause for the log.

use std::error::Error;

/// What went wrong, as far as a caller decides by it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FetchErrorKind {
    /// The data source's url cannot be used.
    InvalidUrl,
    /// There is no such file, or the server knows no such document.
    NotFound,
    /// The server or the file system does not let us.
    Forbidden,
    /// The server cannot be reached or fails; later may be better.
    Unavailable,
    /// It took too long.
    TimedOut,
    /// More bytes than allowed, packed or unpacked.
    TooLarge,
    /// The bytes are no archive of the kind they seem, or one that must not be opened.
    BadArchive,
    /// This machine's disk or memory.
    Local,
}

/// A failed fetch. Its text says what to do and shows no path but what the administrator typed.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct FetchError {
    kind: FetchErrorKind,
    message: String,
    #[source]
    source: Option<Box<dyn Error + Send + Sync>>,
}

impl FetchError {
    pub(super) fn new(kind: FetchErrorKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), source: None }
    }

    pub(super) fn because(mut self, source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// What went wrong.
    pub fn kind(&self) -> FetchErrorKind {
        self.kind
    }

    /// The text for whoever asked. What the source chain adds is for the log.
    pub fn public(&self) -> &str {
        &self.message
    }
}
