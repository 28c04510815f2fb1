//! What can go wrong here, and the code of each.

use aegis_error::{Code, Failure};
use uuid::Uuid;

use crate::domain::workflow::{MAX_RETESTS, State, StateError, TransitionError};

/// What a use case fails with.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The database.
    #[error(transparent)]
    Db(#[from] aegis_db::Error),
    /// Another service, a missing right, fields that do not validate.
    #[error(transparent)]
    Failure(#[from] Failure),
    /// The workflow has no such move.
    #[error(transparent)]
    Transition(#[from] TransitionError),
    /// There is no such test.
    #[error("test {0} does not exist")]
    NoTest(Uuid),
    /// That cannot be done in the state the test is in.
    #[error(transparent)]
    WrongState(#[from] StateError),
    /// The chain has all the retests that it may have.
    #[error("the chain of this test has {MAX_RETESTS} retests already, and no more are made: make a new test instead")]
    ChainFull,
    /// The template was switched off.
    #[error("template '{0}' is inactive; choose another or have an administrator activate it")]
    InactiveTemplate(String),
    /// Another writer came in between.
    #[error("the test was changed by someone else at the same moment; read it again")]
    Raced,
}

impl From<Error> for Failure {
    fn from(error: Error) -> Failure {
        let text = error.to_string();
        match error {
            Error::Db(error) => error.into(),
            Error::Failure(failure) => failure,
            Error::Transition(TransitionError { current, target }) => Failure::new(Code::InvalidTransition, text)
                .with("current_state", current.as_str())
                .with("target_state", target.as_str())
                .with("valid_transitions", names(current.valid_transitions()).join(",")),
            Error::NoTest(id) => Failure::not_found("test", id),
            Error::WrongState(StateError { current, .. }) => {
                Failure::new(Code::InvalidState, text).with("current_state", current.as_str())
            }
            Error::ChainFull => Failure::new(Code::Conflict, text).with("max_retests", MAX_RETESTS.to_string()),
            Error::InactiveTemplate(_) => Failure::new(Code::InvalidState, text),
            Error::Raced => Failure::new(Code::Conflict, text),
        }
    }
}

fn names(states: &[State]) -> Vec<&'static str> {
    states.iter().map(|state| state.as_str()).collect()
}
