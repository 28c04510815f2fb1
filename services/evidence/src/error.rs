//! What can go wrong with evidence.

use aegis_blob::BlobError;
use aegis_error::{Code, Failure};
use uuid::Uuid;

use crate::domain::LinkError;

/// A use case that failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The store of rows.
    #[error(transparent)]
    Db(#[from] aegis_db::Error),
    /// The store of files.
    #[error(transparent)]
    Blob(#[from] BlobError),
    /// A check or a call that already says what the caller is told.
    #[error(transparent)]
    Failure(#[from] Failure),
    /// The test is closed, for what is to be added.
    #[error("evidence of a validated test can be neither added nor removed")]
    Validated,
    /// The same, for what is to be removed.
    #[error("evidence of a validated test can be neither added nor removed")]
    Closed,
    /// The test has as many files as one may have.
    #[error("the test has {} files already, which is as many as one may have", crate::app::MAX_FILES)]
    TooMany,
    /// No byte of the part that is asked for is in the file.
    #[error("the file has {size} bytes: the part that is asked for is not in it")]
    NoSuchPart {
        /// Bytes of the file.
        size: u64,
    },
    /// The test has a file with the same bytes.
    #[error("this test already has a file with the same bytes")]
    Duplicate {
        /// The evidence that was first.
        first: Uuid,
    },
    /// The file is past the limit.
    #[error("the file is larger than the limit of {limit} bytes")]
    TooLarge {
        /// Bytes.
        limit: u64,
    },
    /// The upload took longer than one may.
    #[error("the upload took too long; nothing was kept")]
    TooSlow,
    /// The link gives no right to read.
    #[error(transparent)]
    Link(#[from] LinkError),
    /// The row is there and its bytes are not, or not all.
    #[error("the stored bytes of evidence {id} are missing or incomplete")]
    Damaged {
        /// The evidence.
        id: Uuid,
    },
}

impl From<Error> for Failure {
    fn from(error: Error) -> Failure {
        match error {
            Error::Db(error) => error.into(),
            Error::Failure(failure) => failure,
            Error::Blob(error) => match error {
                BlobError::Full => {
                    Failure::new(Code::StorageFull, "the evidence store is full; nothing was kept").with_source(error)
                }
                BlobError::Unavailable(_) => Failure::unavailable("the evidence store").with_source(error),
                BlobError::NotFound | BlobError::Invalid(_) => Failure::internal(error),
            },
            Error::Validated => Failure::new(Code::InvalidState, error.to_string()).with("current_state", "validated"),
            Error::Closed => Failure::new(Code::Conflict, error.to_string()).with("current_state", "validated"),
            Error::TooMany => Failure::new(Code::Conflict, error.to_string()),
            Error::NoSuchPart { size } => {
                Failure::new(Code::RangeNotSatisfiable, error.to_string()).with("size", size.to_string())
            }
            Error::Duplicate { first } => {
                Failure::new(Code::Duplicate, error.to_string()).with("id", first.to_string())
            }
            Error::TooLarge { limit } => {
                Failure::new(Code::TooLarge, error.to_string()).with("limit", limit.to_string())
            }
            Error::TooSlow => Failure::new(Code::Timeout, error.to_string()),
            Error::Link(LinkError::Expired | LinkError::Altered | LinkError::Holder) => {
                Failure::forbidden(error.to_string())
            }
            Error::Damaged { .. } => Failure::internal(error),
        }
    }
}
