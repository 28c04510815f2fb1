//! What can go wrong in the catalogue.

use aegis_error::{Code, Failure};

/// Why a use case did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The store.
    #[error(transparent)]
    Store(#[from] aegis_db::Error),
    /// A refusal or a validation error.
    #[error(transparent)]
    Failure(#[from] Failure),
    /// No technique has that id.
    #[error("technique '{0}' does not exist")]
    UnknownTechnique(String),
    /// No template has that id.
    #[error("template '{0}' does not exist")]
    UnknownTemplate(String),
    /// No record of that kind has that id or key.
    #[error("{kind} '{id}' does not exist")]
    UnknownKnowledge {
        /// Which kind.
        kind: String,
        /// What was asked for.
        id: String,
    },
    /// A rule comes from a publisher, whose next sync would bring it back.
    #[error("rule {0} was not brought in by a person: only those are deleted")]
    PublishedRule(String),
    /// A technique has that ATT&CK id already.
    #[error("technique {0} exists already")]
    TechniqueExists(String),
    /// Somebody else was faster.
    #[error("it was changed by somebody else at the same moment; try again")]
    Raced,
    /// A document cannot be imported.
    #[error("{0}")]
    Document(String),
    /// A document is larger than the limits.
    #[error("{0}")]
    TooLarge(String),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Failure {
        let message = error.to_string();
        match error {
            Error::Store(error) => error.into(),
            Error::Failure(failure) => failure,
            Error::UnknownTechnique(id) => Failure::not_found("technique", id),
            Error::UnknownTemplate(id) => Failure::not_found("template", id),
            Error::UnknownKnowledge { kind, id } => Failure::not_found(&kind, id),
            Error::PublishedRule(_) => Failure::new(Code::Conflict, message),
            Error::TechniqueExists(_) => Failure::new(Code::Duplicate, message),
            Error::Raced => Failure::new(Code::Conflict, message),
            Error::Document(_) => Failure::new(Code::Unprocessable, message),
            Error::TooLarge(_) => Failure::new(Code::TooLarge, message),
        }
    }
}
