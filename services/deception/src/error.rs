//! What can go wrong in deception.

use aegis_blob::BlobError;
use aegis_error::{Code, Failure};

/// A use case that failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The store.
    #[error(transparent)]
    Db(#[from] aegis_db::Error),
    /// The store of captured files.
    #[error(transparent)]
    Blob(#[from] BlobError),
    /// A check that already says what the caller is told.
    #[error(transparent)]
    Failure(#[from] Failure),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Failure {
        match error {
            Error::Db(error) => error.into(),
            Error::Blob(error) => match error {
                BlobError::Full => {
                    Failure::new(Code::StorageFull, "the store of captured files is full").with_source(error)
                }
                BlobError::Unavailable(_) => Failure::unavailable("the store of captured files").with_source(error),
                BlobError::NotFound | BlobError::Invalid(_) => Failure::internal(error),
            },
            Error::Failure(failure) => failure,
        }
    }
}
