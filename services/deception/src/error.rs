//! What can go wrong in deception.

use aegis_error::Failure;

/// A use case that failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The store.
    #[error(transparent)]
    Db(#[from] aegis_db::Error),
    /// A check that already says what the caller is told.
    #[error(transparent)]
    Failure(#[from] Failure),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Failure {
        match error {
            Error::Db(error) => error.into(),
            Error::Failure(failure) => failure,
        }
    }
}
