//! The state machine of a test: where it stands, what both sides said, and what can be asked of it from there.
//!
//! All that decides about a test's progress is here, and nothing of it is anywhere else: a [`Progress`] and a
//! [`Request`] make the next progress or a refusal. Who may ask is in [`super::permissions`].

use std::fmt;

use chrono::{DateTime, Utc};
use uuid::Uuid;

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

/// What moves a test by itself; votes move it too.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Move {
    /// The red side begins.
    StartExecution,
    /// The red side is done.
    SubmitRed,
    /// The blue side is done.
    SubmitBlue,
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
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Vote {
    /// Nothing yet.
    #[default]
    Pending,
    /// Yes.
    Approved,
    /// No.
    Rejected,
}

/// A side's vote, with who cast it and when.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Voice {
    /// The vote.
    pub vote: Vote,
    /// Why.
    pub notes: Option<String>,
    /// Who.
    pub by: Option<Uuid>,
    /// When.
    pub at: Option<DateTime<Utc>>,
}

/// All of a test that its workflow decides.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Progress {
    /// Where it stands.
    pub state: State,
    /// When its execution was started last.
    pub execution_date: Option<DateTime<Utc>>,
    /// By whom.
    pub executed_by: Option<Uuid>,
    /// When the red side handed it on.
    pub red_submitted_at: Option<DateTime<Utc>>,
    /// When the blue side handed it on.
    pub blue_submitted_at: Option<DateTime<Utc>>,
    /// The red side's vote.
    pub red: Voice,
    /// The blue side's vote.
    pub blue: Voice,
    /// When both had approved.
    pub validated_at: Option<DateTime<Utc>>,
    /// One of [`DETECTION_RESULTS`].
    pub detection_result: Option<String>,
}

/// What is asked of a test's progress.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request {
    /// To move on.
    Move(Move),
    /// To count a vote.
    Vote {
        /// For these sides.
        sides: Vec<Side>,
        /// Yes or no.
        approve: bool,
        /// Why.
        notes: Option<String>,
        /// The detection result that goes with an approval; replaces what the blue side wrote.
        result: Option<String>,
    },
}

/// Who asks, and when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    /// Who.
    pub by: Uuid,
    /// When.
    pub at: DateTime<Utc>,
}

/// What can be done to a test only in some of its states, besides moving it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Deed {
    /// Change what the test is.
    Describe,
    /// Write down the attack.
    WriteRed,
    /// Write down what was seen.
    WriteBlue,
    /// Change the remediation.
    Remedy,
    /// Say who is to do what.
    Assign,
    /// Delete it, for whoever made it. Administrators do so in any state.
    Delete,
    /// Make a retest of it.
    Retest,
}

/// What the two sides have written down.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs, reason = "the fields are those of the API's Test, described there")]
pub struct Written {
    pub attack_success: bool,
    pub red_summary: bool,
    pub detection_result: bool,
    pub blue_summary: bool,
}

/// The test cannot go there from where it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TransitionError {
    /// Where the test is.
    pub current: State,
    /// Where it was to go.
    pub target: State,
}

/// The deed is not for the state the test is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StateError {
    /// What was to be done.
    pub deed: Deed,
    /// Where the test is.
    pub current: State,
}

/// A text that is no name of a state or of a vote.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' is not a known name")]
pub struct UnknownName(String);

/// What a test's detection can be, best first.
pub const DETECTION_RESULTS: &[&str] = &[DETECTED, "partially_detected", "not_detected"];

/// The result after which there is nothing to test again.
const DETECTED: &str = "detected";

/// What a test's remediation can be.
pub const REMEDIATION_STATUSES: &[&str] = &["pending", "in_progress", COMPLETED, "not_applicable"];

/// The remediation's status that asks for a retest.
pub const COMPLETED: &str = "completed";

/// Retests of a chain, besides its first test.
pub const MAX_RETESTS: usize = 5;

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

    fn to(self, target: State) -> Result<State, TransitionError> {
        if self.valid_transitions().contains(&target) {
            Ok(target)
        } else {
            Err(TransitionError { current: self, target })
        }
    }

    /// Whether `deed` is for this state.
    pub fn allows(self, deed: Deed) -> Result<(), StateError> {
        if deed.states().contains(&self) { Ok(()) } else { Err(StateError { deed, current: self }) }
    }
}

impl Move {
    /// All moves, in the order of the workflow.
    pub const ALL: [Move; 4] = [Move::StartExecution, Move::SubmitRed, Move::SubmitBlue, Move::Reopen];

    /// The name on every interface.
    pub fn as_str(self) -> &'static str {
        match self {
            Move::StartExecution => "start_execution",
            Move::SubmitRed => "submit_red",
            Move::SubmitBlue => "submit_blue",
            Move::Reopen => "reopen",
        }
    }

    /// Where the move leads.
    pub fn target(self) -> State {
        match self {
            Move::StartExecution => State::RedExecuting,
            Move::SubmitRed => State::BlueEvaluating,
            Move::SubmitBlue => State::InReview,
            Move::Reopen => State::Draft,
        }
    }

    /// What a side has yet to write down before it hands over, where results are required.
    pub fn missing(self, written: Written) -> Vec<&'static str> {
        let needed: &[(&'static str, bool)] = match self {
            Move::SubmitRed => &[("attack_success", written.attack_success), ("red_summary", written.red_summary)],
            Move::SubmitBlue => {
                &[("detection_result", written.detection_result), ("blue_summary", written.blue_summary)]
            }
            Move::StartExecution | Move::Reopen => &[],
        };
        needed.iter().filter(|(_, there)| !there).map(|(field, _)| *field).collect()
    }
}

impl Deed {
    /// The states that it is for.
    pub fn states(self) -> &'static [State] {
        match self {
            Deed::Describe | Deed::Delete => &[State::Draft, State::Rejected],
            Deed::WriteRed => &[State::Draft, State::RedExecuting],
            Deed::WriteBlue => &[State::BlueEvaluating],
            Deed::Retest => &[State::Validated, State::Rejected],
            Deed::Remedy | Deed::Assign => &State::ALL,
        }
    }

    /// What cannot be done, for a sentence that goes on with the states in which it can.
    fn subject(self) -> &'static str {
        match self {
            Deed::Describe => "the fields of a test can be changed only",
            Deed::WriteRed => "the red side's fields can be changed only",
            Deed::WriteBlue => "the blue side's fields can be changed only",
            Deed::Remedy => "the remediation can be changed only",
            Deed::Assign => "a test can be assigned only",
            Deed::Delete => "a test can be deleted by its creator only",
            Deed::Retest => "a retest can be made only of a test",
        }
    }
}

impl Progress {
    /// Of a new test.
    pub fn draft() -> Self {
        Progress {
            state: State::Draft,
            execution_date: None,
            executed_by: None,
            red_submitted_at: None,
            blue_submitted_at: None,
            red: Voice::default(),
            blue: Voice::default(),
            validated_at: None,
            detection_result: None,
        }
    }

    /// What comes of a request.
    pub fn after(&self, request: &Request, stamp: Stamp) -> Result<Progress, TransitionError> {
        match request {
            Request::Move(step) => self.moved(*step, stamp),
            Request::Vote { sides, approve, notes, result } => {
                self.voted(sides, *approve, notes.as_deref(), result.as_deref(), stamp)
            }
        }
    }

    fn moved(&self, step: Move, stamp: Stamp) -> Result<Progress, TransitionError> {
        let mut next = Progress { state: self.state.to(step.target())?, ..self.clone() };
        match step {
            Move::StartExecution => {
                next.execution_date = Some(stamp.at);
                next.executed_by = Some(stamp.by);
            }
            Move::SubmitRed => next.red_submitted_at = Some(stamp.at),
            Move::SubmitBlue => next.blue_submitted_at = Some(stamp.at),
            Move::Reopen => {
                next.red_submitted_at = None;
                next.blue_submitted_at = None;
                next.red = Voice::default();
                next.blue = Voice::default();
                next.validated_at = None;
            }
        }
        Ok(next)
    }

    fn voted(
        &self,
        sides: &[Side],
        approve: bool,
        notes: Option<&str>,
        result: Option<&str>,
        stamp: Stamp,
    ) -> Result<Progress, TransitionError> {
        // A vote is cast where it could end the review.
        let vote = if approve { Vote::Approved } else { Vote::Rejected };
        self.state.to(if approve { State::Validated } else { State::Rejected })?;
        let mut next = self.clone();
        for side in sides {
            // Replaces what the side said before.
            *next.voice_mut(*side) =
                Voice { vote, notes: notes.map(str::to_owned), by: Some(stamp.by), at: Some(stamp.at) };
        }
        if let (true, Some(result)) = (approve, result) {
            next.detection_result = Some(result.to_owned());
        }
        match (next.red.vote, next.blue.vote) {
            (Vote::Rejected, _) | (_, Vote::Rejected) => next.state = self.state.to(State::Rejected)?,
            (Vote::Approved, Vote::Approved) => {
                next.state = self.state.to(State::Validated)?;
                next.validated_at = Some(stamp.at);
            }
            _ => {}
        }
        Ok(next)
    }

    /// What a side said.
    pub fn voice(&self, side: Side) -> &Voice {
        match side {
            Side::Red => &self.red,
            Side::Blue => &self.blue,
        }
    }

    fn voice_mut(&mut self, side: Side) -> &mut Voice {
        match side {
            Side::Red => &mut self.red,
            Side::Blue => &mut self.blue,
        }
    }

    /// Whether the end of its remediation asks for a retest: it went to its end and was not fully detected.
    pub fn calls_for_retest(&self) -> bool {
        self.state.allows(Deed::Retest).is_ok() && self.detection_result.as_deref() != Some(DETECTED)
    }
}

/// Whether a result is worse than one before it.
pub fn is_worse(result: &str, before: &str) -> bool {
    let rank = |name: &str| DETECTION_RESULTS.iter().position(|known| *known == name);
    rank(result).zip(rank(before)).is_some_and(|(now, before)| now > before)
}

/// Which tests of a chain, oldest first, are regressions: validated with a worse result than the validated one before.
pub fn regressions<'a>(chain: impl IntoIterator<Item = (State, Option<&'a str>)>) -> Vec<bool> {
    let mut last = None;
    let of = |(state, result): (State, Option<&'a str>)| {
        let Some(result) = result.filter(|_| state == State::Validated) else { return false };
        last.replace(result).is_some_and(|before| is_worse(result, before))
    };
    chain.into_iter().map(of).collect()
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

impl fmt::Display for StateError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<&str> = self.deed.states().iter().map(|state| state.as_str()).collect();
        let (subject, current) = (self.deed.subject(), self.current.as_str());
        write!(f, "{subject} in {}, and this test is in {current}", names.join(" or "))
    }
}

impl std::error::Error for StateError {}

#[cfg(test)]
mod tests;
