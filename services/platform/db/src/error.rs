//! What can go wrong in a store, and what of it a caller is told.

use aegis_error::{Code, Failure};
use sqlx::migrate::MigrateError;

/// A query, a transaction or a migration that failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A query or a connection.
    #[error(transparent)]
    Sqlx(#[from] sqlx::Error),
    /// A migration.
    #[error("cannot bring the database's tables up to date: {0}")]
    Migrate(#[from] MigrateError),
    /// The disk refused to keep what was written.
    #[error("cannot write to the disk: {0}")]
    Disk(#[from] std::io::Error),
    /// A setting.
    #[error("{0}")]
    Config(String),
    /// What was to be written must not be, and the caller is told why.
    #[error(transparent)]
    Refused(#[from] Failure),
}

/// How the driver says that a statement is too large for the protocol, or that it cannot log in as it is asked to.
const NEVER_SENT: [&str; 3] = ["too many ", "size out of range", "unknown authentication"];

impl Error {
    /// A unique index refused the row.
    pub fn is_unique_violation(&self) -> bool {
        matches!(self, Error::Sqlx(sqlx::Error::Database(e)) if e.is_unique_violation())
    }

    /// The database is away, busy or starting; the same may work later.
    pub fn is_unavailable(&self) -> bool {
        match self {
            Error::Sqlx(e) => match e {
                sqlx::Error::PoolTimedOut
                | sqlx::Error::PoolClosed
                | sqlx::Error::WorkerCrashed
                | sqlx::Error::Io(_)
                | sqlx::Error::Tls(_) => true,
                // A server that goes away in the middle of what it says. What can never be sent is our fault.
                sqlx::Error::Protocol(text) => !NEVER_SENT.iter().any(|fault| text.contains(fault)),
                // SQLITE_BUSY, SQLITE_LOCKED; PostgreSQL: connection lost, shutting down, too many connections,
                // serialisation failure, deadlock.
                sqlx::Error::Database(e) => e.code().is_some_and(|code| {
                    matches!(code.as_ref(), "5" | "6" | "261" | "517" | "40001" | "40P01" | "53300")
                        || code.starts_with("08")
                        || code.starts_with("57P")
                }),
                _ => false,
            },
            _ => false,
        }
    }

    /// The disk is full.
    pub fn is_full(&self) -> bool {
        match self {
            Error::Disk(e) => e.kind() == std::io::ErrorKind::StorageFull,
            Error::Sqlx(sqlx::Error::Database(e)) => {
                e.code().is_some_and(|code| matches!(code.as_ref(), "13" | "53100"))
            }
            _ => false,
        }
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Failure {
        if let Error::Refused(failure) = error {
            failure
        } else if error.is_full() {
            Failure::new(Code::StorageFull, "the disk is full; nothing was changed").with_source(error)
        } else if error.is_unavailable() {
            Failure::unavailable("the database").with_source(error)
        } else if error.is_unique_violation() {
            Failure::new(Code::Duplicate, "it exists already").with_source(error)
        } else {
            Failure::internal(error)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_can_never_be_sent_is_not_tried_again() {
        let protocol = |text: &str| Error::Sqlx(sqlx::Error::Protocol(text.to_owned())).is_unavailable();
        assert!(protocol("expected ReadyForQuery, got EOF"));
        assert!(!protocol("too many arguments for query (70000)"));
        assert!(!protocol("message size out of range for protocol: 4000000000"));
        assert!(!protocol("unknown authentication method: 7"));
    }
}
