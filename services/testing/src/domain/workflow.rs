//! The states of a test, the moves between them, and what the votes of both sides decide.

use std::fmt;

/// Where a test stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum State {
    /// Written, not yet begun.
    Draft,
    /// The red side attacks.
    RedExecuting,
    /// The blue side looks for traces.
    BlueEvaluating,
    /// Both leads vote.
    InReview,
    /// Both approved.
    Validated,
    /// One of them did not.
    Rejected,
}

/// What moves a test.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Action {
    /// The red side begins.
    StartExecution,
    /// The red side is done.
    SubmitRed,
    /// The blue side is done.
    SubmitBlue,
    /// The review ends well.
    Approve,
    /// The review ends badly.
    Reject,
    /// A rejected test is taken up again.
    Reopen,
}

/// One of the two teams.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Side {
    /// Attacks.
    Red,
    /// Defends.
    Blue,
}

/// What a side's lead said in the review.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Vote {
    /// Nothing yet.
    Pending,
    /// Yes.
    Approved,
    /// No.
    Rejected,
}

/// The test cannot go there from where it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TransitionError {
    /// Where the test is.
    pub current: State,
    /// Where it was to go.
    pub target: State,
}

/// A text that is no name of a state or of a vote.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' is not a known name")]
pub struct UnknownName(String);

/// What a test's detection can be.
pub const DETECTION_RESULTS: &[&str] = &["detected", "partially_detected", "not_detected"];

/// What a test's remediation can be.
pub const REMEDIATION_STATUSES: &[&str] = &["pending", "in_progress", "completed", "not_applicable"];

impl State {
    /// All states, in the order of the workflow.
    pub const ALL: [State; 6] =
        [State::Draft, State::RedExecuting, State::BlueEvaluating, State::InReview, State::Validated, State::Rejected];

    /// The names of [`State::ALL`].
    pub const NAMES: [&'static str; 6] =
        ["draft", "red_executing", "blue_evaluating", "in_review", "validated", "rejected"];

    /// The name on every interface.
    pub fn as_str(self) -> &'static str {
        match self {
            State::Draft => "draft",
            State::RedExecuting => "red_executing",
            State::BlueEvaluating => "blue_evaluating",
            State::InReview => "in_review",
            State::Validated => "validated",
            State::Rejected => "rejected",
        }
    }

    /// The states that can follow this one.
    pub fn valid_transitions(self) -> &'static [State] {
        match self {
            State::Draft => &[State::RedExecuting],
            State::RedExecuting => &[State::BlueEvaluating],
            State::BlueEvaluating => &[State::InReview],
            State::InReview => &[State::Validated, State::Rejected],
            State::Rejected => &[State::Draft],
            State::Validated => &[],
        }
    }
}

impl Action {
    /// Where the action leads.
    pub fn target(self) -> State {
        match self {
            Action::StartExecution => State::RedExecuting,
            Action::SubmitRed => State::BlueEvaluating,
            Action::SubmitBlue => State::InReview,
            Action::Approve => State::Validated,
            Action::Reject => State::Rejected,
            Action::Reopen => State::Draft,
        }
    }
}

/// The state after `action`.
pub fn apply(state: State, action: Action) -> Result<State, TransitionError> {
    let target = action.target();
    if state.valid_transitions().contains(&target) {
        Ok(target)
    } else {
        Err(TransitionError { current: state, target })
    }
}

/// What the votes of both sides end the review with; `None` while it goes on.
pub fn decided(red: Vote, blue: Vote) -> Option<Action> {
    match (red, blue) {
        (Vote::Rejected, _) | (_, Vote::Rejected) => Some(Action::Reject),
        (Vote::Approved, Vote::Approved) => Some(Action::Approve),
        _ => None,
    }
}

impl Side {
    /// The name on every interface.
    pub fn as_str(self) -> &'static str {
        match self {
            Side::Red => "red",
            Side::Blue => "blue",
        }
    }
}

impl Vote {
    /// The name on every interface.
    pub fn as_str(self) -> &'static str {
        match self {
            Vote::Pending => "pending",
            Vote::Approved => "approved",
            Vote::Rejected => "rejected",
        }
    }
}

impl TryFrom<String> for State {
    type Error = UnknownName;

    fn try_from(name: String) -> Result<Self, UnknownName> {
        State::ALL.into_iter().find(|state| state.as_str() == name).ok_or(UnknownName(name))
    }
}

impl TryFrom<String> for Vote {
    type Error = UnknownName;

    fn try_from(name: String) -> Result<Self, UnknownName> {
        [Vote::Pending, Vote::Approved, Vote::Rejected]
            .into_iter()
            .find(|vote| vote.as_str() == name)
            .ok_or(UnknownName(name))
    }
}

impl fmt::Display for TransitionError {
    /// Spelled as clients of the API know it, the list included.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let valid: Vec<String> =
            self.current.valid_transitions().iter().map(|state| format!("'{}'", state.as_str())).collect();
        write!(
            f,
            "Cannot transition from '{}' to '{}'. Valid transitions: [{}]",
            self.current.as_str(),
            self.target.as_str(),
            valid.join(", ")
        )
    }
}

impl std::error::Error for TransitionError {}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_refusal_reads_as_the_reference_shows_it() {
        let refused = |state, action| apply(state, action).unwrap_err().to_string();
        assert_eq!(
            refused(State::Draft, Action::Approve),
            "Cannot transition from 'draft' to 'validated'. Valid transitions: ['red_executing']"
        );
        assert_eq!(
            refused(State::InReview, Action::Reopen),
            "Cannot transition from 'in_review' to 'draft'. Valid transitions: ['validated', 'rejected']"
        );
        assert_eq!(
            refused(State::Validated, Action::Reopen),
            "Cannot transition from 'validated' to 'draft'. Valid transitions: []"
        );
    }

    #[test]
    fn names_lead_back_to_their_states() {
        for (state, name) in State::ALL.into_iter().zip(State::NAMES) {
            assert_eq!(state.as_str(), name);
            assert_eq!(State::try_from(name.to_owned()), Ok(state));
        }
        assert!(State::try_from("done".to_owned()).is_err());
        assert!(Vote::try_from("maybe".to_owned()).is_err());
    }

    /// Something that somebody tries.
    #[derive(Clone, Copy, Debug)]
    enum Try {
        Move(Action),
        Cast(Side, bool),
    }

    fn tries() -> impl Strategy<Value = Vec<Try>> {
        let moves = prop::sample::select(vec![
            Try::Move(Action::StartExecution),
            Try::Move(Action::SubmitRed),
            Try::Move(Action::SubmitBlue),
            Try::Move(Action::Reopen),
            Try::Cast(Side::Red, true),
            Try::Cast(Side::Red, false),
            Try::Cast(Side::Blue, true),
            Try::Cast(Side::Blue, false),
        ]);
        prop::collection::vec(moves, 0..60)
    }

    /// The edges of the workflow, written a second time.
    const EDGES: [(State, State); 6] = [
        (State::Draft, State::RedExecuting),
        (State::RedExecuting, State::BlueEvaluating),
        (State::BlueEvaluating, State::InReview),
        (State::InReview, State::Validated),
        (State::InReview, State::Rejected),
        (State::Rejected, State::Draft),
    ];

    proptest! {
        #[test]
        fn nothing_that_anybody_tries_leaves_the_workflow(tries in tries()) {
            let mut state = State::Draft;
            let (mut red, mut blue) = (Vote::Pending, Vote::Pending);
            for attempt in tries {
                let before = state;
                let action = match attempt {
                    Try::Move(action) => Some(action),
                    Try::Cast(side, approve) => {
                        let (vote, ends) = match approve {
                            true => (Vote::Approved, Action::Approve),
                            false => (Vote::Rejected, Action::Reject),
                        };
                        if apply(state, ends).is_err() {
                            continue;
                        }
                        match side {
                            Side::Red => red = vote,
                            Side::Blue => blue = vote,
                        }
                        decided(red, blue)
                    }
                };
                if let Some(action) = action {
                    match apply(state, action) {
                        Ok(next) => {
                            prop_assert!(EDGES.contains(&(before, next)));
                            state = next;
                        }
                        Err(error) => {
                            prop_assert!(!EDGES.contains(&(before, action.target())));
                            prop_assert_eq!(error.current, before);
                        }
                    }
                }
                if before == State::Rejected && state == State::Draft {
                    (red, blue) = (Vote::Pending, Vote::Pending);
                }
                prop_assert!(before != State::Validated || state == State::Validated);
                prop_assert_eq!(state == State::Validated, red == Vote::Approved && blue == Vote::Approved);
                prop_assert_eq!(state == State::Rejected, red == Vote::Rejected || blue == Vote::Rejected);
                if !matches!(state, State::InReview | State::Validated | State::Rejected) {
                    prop_assert_eq!((red, blue), (Vote::Pending, Vote::Pending));
                }
            }
        }

        #[test]
        fn an_action_leads_to_its_target_or_nowhere(
            state in prop::sample::select(State::ALL.to_vec()),
            action in prop::sample::select(vec![
                Action::StartExecution, Action::SubmitRed, Action::SubmitBlue,
                Action::Approve, Action::Reject, Action::Reopen,
            ]),
        ) {
            let edge = EDGES.contains(&(state, action.target()));
            prop_assert_eq!(apply(state, action).ok(), edge.then_some(action.target()));
        }
    }
}
