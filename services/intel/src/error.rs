//! What can go wrong here, and the code of each.

use std::error::Error as StdError;

use aegis_error::{Code, Failure};
use uuid::Uuid;

use crate::{
    domain::{
        knowledge::ReadError,
        stix::{Domain, ParseError},
    },
    fetch::{FetchError, FetchErrorKind},
};

/// What a use case or a sync fails with.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// The database.
    #[error("the sync's state could not be kept: {0}")]
    Db(#[from] aegis_db::Error),
    /// Another service, a missing right, fields that do not validate.
    #[error("{}", .0.message())]
    Failure(#[from] Failure),
    /// There is no such data source.
    #[error("data source '{0}' does not exist")]
    NoSource(String),
    /// There is no such job.
    #[error("job {0} does not exist")]
    NoJob(Uuid),
    /// An administrator switched the source off.
    #[error("the data source {0} is disabled: enable it first")]
    Disabled(String),
    /// One sync of a source at a time.
    #[error("a sync of {source_name} is already running")]
    Running {
        /// The data source.
        source_name: String,
        /// The job that runs.
        job: Uuid,
    },
    /// Another writer came in between.
    #[error("the data source was changed by someone else at the same moment; try again")]
    Raced,
    /// The document is not here.
    #[error(transparent)]
    Fetch(#[from] FetchError),
    /// The document cannot be read.
    #[error(transparent)]
    Parse(#[from] ParseError),
    /// The document is not what the source is there for.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// A bundle of another knowledge base.
    #[error("the bundle is ATT&CK for {found}, not for {wanted}: check the data source's url")]
    WrongDomain {
        /// What it is.
        found: Domain,
        /// What it should be.
        wanted: Domain,
    },
    /// The job's process was gone.
    #[error("the process that ran it ended; start it again")]
    Died,
    /// The job was given up for dead by another process.
    #[error("the sync was too long without a sign of life and was given up; start it again")]
    Lost,
    /// The process is to stop.
    #[error("the process was stopped during the sync; start it again")]
    Stopped,
    /// A fault of ours.
    #[error("something went wrong on our side; the log has the cause")]
    Fault(#[source] Box<dyn StdError + Send + Sync>),
}

impl Error {
    /// A fault of ours, with its cause.
    pub(crate) fn fault(source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        Error::Fault(source.into())
    }

    /// The text for an administrator, who may read it long after.
    pub(crate) fn public(&self) -> String {
        match self {
            Error::Db(_) => "the database could not be reached; start the sync again".to_owned(),
            other => other.to_string(),
        }
    }

    /// The text for the log, with every cause.
    pub(crate) fn chain(&self) -> String {
        let mut text = match self {
            // Shows its own causes.
            Error::Failure(failure) => return failure.to_string(),
            other => other.to_string(),
        };
        let mut source = self.source();
        while let Some(error) = source {
            text.push_str(": ");
            text.push_str(&error.to_string());
            source = error.source();
        }
        text
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Failure {
        let text = error.public();
        match error {
            Error::Db(error) => error.into(),
            Error::Failure(failure) => failure,
            Error::NoSource(key) => Failure::not_found("data source", key),
            Error::NoJob(id) => Failure::not_found("job", id),
            Error::Disabled(_) => Failure::new(Code::InvalidState, text),
            Error::Running { job, .. } => Failure::new(Code::Conflict, text).with("job_id", job.to_string()),
            Error::Raced | Error::Lost => Failure::new(Code::Conflict, text),
            // A document that cannot be used is a url that leads to the wrong place.
            Error::Fetch(error) => match error.kind() {
                FetchErrorKind::InvalidUrl
                | FetchErrorKind::NotFound
                | FetchErrorKind::Forbidden
                | FetchErrorKind::TooLarge
                | FetchErrorKind::BadArchive => Failure::invalid("url", text).with_source(error),
                // Not of the product: its own parts are well.
                FetchErrorKind::Unavailable | FetchErrorKind::TimedOut => {
                    Failure::new(Code::SourceUnreachable, text).with_source(error)
                }
                FetchErrorKind::Local => Failure::new(Code::Internal, text).with_source(error),
            },
            Error::Parse(error) => Failure::invalid("url", text).with_source(error),
            Error::WrongDomain { .. } | Error::Read(_) => Failure::invalid("url", text),
            Error::Died | Error::Stopped => Failure::new(Code::Unavailable, text),
            Error::Fault(source) => Failure::internal(source),
        }
    }
}
