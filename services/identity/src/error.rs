//! What can go wrong in this service, and what a caller is told of it.

use std::time::Duration;

use aegis_error::{Code, Failure};
use uuid::Uuid;

use crate::domain::api_key::MAX_KEYS;

/// A use case that did not work.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The store.
    #[error(transparent)]
    Db(#[from] aegis_db::Error),
    /// A check or a part of the platform.
    #[error(transparent)]
    Failure(#[from] Failure),
    /// Unknown user, wrong password or disabled account: a caller cannot tell which.
    #[error("wrong username or password")]
    WrongCredentials,
    /// The caller changes its password and does not know the old one.
    #[error("the old password is wrong")]
    WrongOldPassword,
    /// A process does not know the shared secret.
    #[error("the service secret is wrong")]
    WrongServiceSecret,
    /// Too many failures of late.
    #[error("too many failed attempts; try again later")]
    TooManyFailures {
        /// When to try again.
        retry_after: Duration,
    },
    /// More passwords wait for hashing than will be done in time.
    #[error("too many logins at this moment; try again in a few seconds")]
    HashingQueueFull,
    /// No such user.
    #[error("user '{0}' does not exist")]
    NoSuchUser(Uuid),
    /// No user of that name (command line only).
    #[error("there is no user '{0}'")]
    NoSuchUsername(String),
    /// No such API key of the user.
    #[error("API key '{0}' does not exist")]
    NoSuchApiKey(Uuid),
    /// The user has as many keys as one may have.
    #[error("the user has {MAX_KEYS} API keys that hold; revoke one first")]
    TooManyApiKeys,
    /// Somebody has that username.
    #[error("a user named '{0}' exists already")]
    UsernameTaken(String),
    /// The change would leave the product without an administrator.
    #[error("this is the last active administrator; make another one first")]
    LastAdmin,
    /// An administrator took itself as the target.
    #[error("you cannot disable yourself or take your own administrator role away")]
    OwnAccount,
    /// Somebody set its own role, whatever it is.
    #[error("you cannot change your own role")]
    OwnRole,
    /// Somebody meant to delete itself.
    #[error("you cannot delete yourself")]
    OwnDeletion,
    /// No such notification of the caller.
    #[error("notification '{0}' does not exist")]
    NoSuchNotification(Uuid),
    /// As many streams are open as may be.
    #[error("as many streams {whose} are open as may be; close one first")]
    TooManyStreams {
        /// Whose.
        whose: &'static str,
    },
    /// It was changed by somebody else between reading and writing.
    #[error("it was changed at the same moment; read it and try again")]
    LostRace,
}

impl From<sqlx::Error> for Error {
    fn from(error: sqlx::Error) -> Self {
        Error::Db(error.into())
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Failure {
        let code = match error {
            Error::Db(error) => return error.into(),
            Error::Failure(failure) => return failure,
            Error::TooManyFailures { retry_after } => {
                return Failure::new(Code::RateLimited, error.to_string()).with_retry_after(retry_after);
            }
            Error::TooManyStreams { .. } => {
                return Failure::new(Code::RateLimited, error.to_string()).with_retry_after(Duration::from_secs(10));
            }
            Error::HashingQueueFull => {
                return Failure::new(Code::RateLimited, error.to_string()).with_retry_after(Duration::from_secs(2));
            }
            Error::WrongCredentials | Error::WrongOldPassword | Error::WrongServiceSecret => Code::InvalidCredentials,
            Error::NoSuchUser(_) | Error::NoSuchUsername(_) | Error::NoSuchNotification(_) | Error::NoSuchApiKey(_) => {
                Code::NotFound
            }
            Error::UsernameTaken(_) => Code::Duplicate,
            Error::LastAdmin | Error::LostRace | Error::TooManyApiKeys => Code::Conflict,
            Error::OwnAccount | Error::OwnRole | Error::OwnDeletion => Code::Forbidden,
        };
        Failure::new(code, error.to_string())
    }
}
