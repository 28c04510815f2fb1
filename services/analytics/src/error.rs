//! What can go wrong in analytics.

use std::sync::Arc;

use aegis_error::{Code, Failure};

/// A use case that failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The store.
    #[error(transparent)]
    Db(#[from] aegis_db::Error),
    /// A check or a call that already says what the caller is told.
    #[error(transparent)]
    Failure(#[from] Failure),
    /// A query that several requests waited for.
    #[error("a shared query failed: {0}")]
    Shared(#[source] Arc<aegis_db::Error>),
    /// More techniques or tests than a projection has.
    #[error("a projection has at most {0} {1}")]
    TooMany(usize, &'static str),
}

impl From<sqlx::Error> for Error {
    fn from(error: sqlx::Error) -> Self {
        Error::Db(error.into())
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Failure {
        match error {
            Error::Db(error) => error.into(),
            Error::Failure(failure) => failure,
            Error::Shared(error) if error.is_unavailable() => Failure::unavailable("the database").with_source(error),
            Error::Shared(error) => Failure::internal(error),
            Error::TooMany(..) => Failure::new(Code::TooLarge, error.to_string()),
        }
    }
}
