//! What a test has to look like after the changes that were accepted, written a second time from the specification.

use std::fmt;

/// Where a test stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum State {
    Draft,
    RedExecuting,
    BlueEvaluating,
    InReview,
    Validated,
    Rejected,
}

use State::{BlueEvaluating, Draft, InReview, RedExecuting, Rejected, Validated};

impl State {
    pub fn parse(name: &str) -> State {
        let all = [Draft, RedExecuting, BlueEvaluating, InReview, Validated, Rejected];
        all.into_iter().find(|state| state.name() == name).unwrap_or_else(|| panic!("no state {name}"))
    }

    pub fn name(self) -> &'static str {
        match self {
            Draft => "draft",
            RedExecuting => "red_executing",
            BlueEvaluating => "blue_evaluating",
            InReview => "in_review",
            Validated => "validated",
            Rejected => "rejected",
        }
    }

    /// Where it can go from here.
    pub fn next(self) -> &'static [State] {
        match self {
            Draft => &[RedExecuting],
            RedExecuting => &[BlueEvaluating],
            BlueEvaluating => &[InReview],
            InReview => &[Validated, Rejected],
            Rejected => &[Draft],
            Validated => &[],
        }
    }
}

/// Who asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    RedTech,
    BlueTech,
    RedLead,
    BlueLead,
    Admin,
}

use Role::{Admin, BlueLead, BlueTech, RedLead, RedTech};

impl Role {
    pub fn name(self) -> &'static str {
        match self {
            RedTech => "red_tech",
            BlueTech => "blue_tech",
            RedLead => "red_lead",
            BlueLead => "blue_lead",
            Admin => "admin",
        }
    }
}

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Act {
    Start,
    SubmitRed,
    SubmitBlue,
    Reopen,
    /// Whether with approval.
    VoteRed(bool),
    VoteBlue(bool),
    /// The short forms; the first with a result.
    Validate(&'static str),
    Reject,
    Edit,
    EditRed,
    /// Its result.
    EditBlue(&'static str),
    /// Its status.
    Remediate(&'static str),
}

use Act::{
    Edit, EditBlue, EditRed, Reject, Remediate, Reopen, Start, SubmitBlue, SubmitRed, Validate, VoteBlue, VoteRed,
};

impl Act {
    /// Whether the role alone does not keep one from it. Who made the test has more rights.
    pub fn open_to(self, role: Role, creator: bool) -> bool {
        let these: &[Role] = match self {
            Start | SubmitRed | EditRed => &[RedTech, RedLead, Admin],
            SubmitBlue | EditBlue(_) => &[BlueTech, BlueLead, Admin],
            Reopen if creator => return true,
            Reopen | Validate(_) | Reject => &[RedLead, BlueLead, Admin],
            VoteRed(_) => &[RedLead, Admin],
            VoteBlue(_) => &[BlueLead, Admin],
            Edit if creator => return true,
            Edit => &[Admin],
            Remediate(_) => &[RedLead, BlueLead, BlueTech, Admin],
        };
        these.contains(&role)
    }

    /// Where it makes sense.
    pub fn fits(self, state: State) -> bool {
        match self {
            Start => state == Draft,
            SubmitRed => state == RedExecuting,
            SubmitBlue | EditBlue(_) => state == BlueEvaluating,
            Reopen => state == Rejected,
            VoteRed(_) | VoteBlue(_) | Validate(_) | Reject => state == InReview,
            Edit => matches!(state, Draft | Rejected),
            EditRed => matches!(state, Draft | RedExecuting),
            Remediate(_) => true,
        }
    }
}

/// A side's vote.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Vote {
    Pending,
    Approved,
    Rejected,
}

impl fmt::Display for Vote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Vote::Pending => "pending",
            Vote::Approved => "approved",
            Vote::Rejected => "rejected",
        })
    }
}

/// What one accepted change leaves besides the test.
#[derive(Clone, Debug, Default)]
pub struct Traces {
    /// Actions in the audit trail.
    pub audit: Vec<&'static str>,
    /// Kinds of entries of the timeline.
    pub timeline: Vec<&'static str>,
    /// The state that was reached, which is told.
    pub reached: Option<State>,
    /// It has to be tested again: its remediation is completed, and it was not fully detected.
    pub again: bool,
}

/// A test as it has to be.
#[derive(Clone, Debug)]
pub struct Test {
    pub state: State,
    /// Position in the list of people.
    pub creator: usize,
    pub executor: Option<usize>,
    pub red: Vote,
    pub blue: Vote,
    pub result: Option<&'static str>,
    pub remediation: Option<&'static str>,
}

impl Test {
    pub fn new(creator: usize) -> Test {
        Test {
            state: Draft,
            creator,
            executor: None,
            red: Vote::Pending,
            blue: Vote::Pending,
            result: None,
            remediation: None,
        }
    }

    /// Makes the change, or says why it should have been refused.
    pub fn apply(&mut self, act: Act, who: usize, role: Role) -> Result<Traces, String> {
        if !act.open_to(role, self.creator == who) {
            return Err(format!("{act:?} is not for {role:?}"));
        }
        if !act.fits(self.state) {
            return Err(format!("{act:?} in {:?}", self.state));
        }
        let mut traces = Traces::default();
        match act {
            Start => {
                self.executor = Some(who);
                self.go(RedExecuting, "start_execution", &mut traces);
            }
            SubmitRed => self.go(BlueEvaluating, "submit_red", &mut traces),
            SubmitBlue => self.go(InReview, "submit_blue", &mut traces),
            Reopen => {
                (self.red, self.blue) = (Vote::Pending, Vote::Pending);
                self.go(Draft, "reopen_test", &mut traces);
            }
            Edit => traces.edit("update_test"),
            EditRed => traces.edit("update_red"),
            EditBlue(result) => {
                self.result = Some(result);
                traces.edit("update_blue");
            }
            Remediate(status) => {
                traces.again = status == "completed"
                    && self.remediation != Some("completed")
                    && matches!(self.state, Validated | Rejected)
                    && self.result != Some("detected");
                self.remediation = Some(status);
                traces.edit("update_remediation");
            }
            VoteRed(_) | VoteBlue(_) | Validate(_) | Reject => self.vote(act, who, role, &mut traces)?,
        }
        Ok(traces)
    }

    fn vote(&mut self, act: Act, who: usize, role: Role, traces: &mut Traces) -> Result<(), String> {
        if role != Admin && (self.creator == who || self.executor == Some(who)) {
            return Err(format!("{act:?} on the voter's own test"));
        }
        let (red, blue) = match (act, role) {
            (VoteRed(_), _) | (_, RedLead) => (true, false),
            (VoteBlue(_), _) | (_, BlueLead) => (false, true),
            _ => (true, true),
        };
        let vote = match act {
            VoteRed(false) | VoteBlue(false) | Reject => Vote::Rejected,
            _ => Vote::Approved,
        };
        if red {
            self.red = vote;
            traces.both("vote_red", "vote");
        }
        if blue {
            self.blue = vote;
            traces.both("vote_blue", "vote");
        }
        if let Validate(result) = act {
            self.result = Some(result);
        }
        let end = match (self.red, self.blue) {
            (Vote::Rejected, _) | (_, Vote::Rejected) => Rejected,
            (Vote::Approved, Vote::Approved) => Validated,
            _ => return Ok(()),
        };
        // The votes are its records.
        self.state = end;
        traces.timeline.push("transition");
        traces.reached = Some(end);
        Ok(())
    }

    fn go(&mut self, state: State, action: &'static str, traces: &mut Traces) {
        self.state = state;
        traces.both(action, "transition");
        traces.reached = Some(state);
    }
}

impl Traces {
    fn both(&mut self, action: &'static str, kind: &'static str) {
        self.audit.push(action);
        self.timeline.push(kind);
    }

    fn edit(&mut self, action: &'static str) {
        self.both(action, "edit");
    }
}

/// Whether a result is worse than the one before it.
pub fn is_worse(result: &str, before: &str) -> bool {
    let points = |result: &str| match result {
        "detected" => 2,
        "partially_detected" => 1,
        _ => 0,
    };
    points(result) < points(before)
}

/// The status of a technique whose chains have these tests, each chain in the order of its validations.
pub fn status<'a>(chains: impl Iterator<Item = Vec<(State, Option<&'a str>)>>) -> &'static str {
    let (mut halves, mut counted, mut open) = (0, 0, false);
    for chain in chains {
        open |= chain.iter().any(|(state, _)| !matches!(state, Validated | Rejected));
        let newest = chain.iter().rev().find_map(|(state, result)| result.filter(|_| *state == Validated));
        if let Some(result) = newest {
            counted += 1;
            halves += match result {
                "detected" => 2,
                "partially_detected" => 1,
                _ => 0,
            };
        }
    }
    match halves {
        _ if counted == 0 && open => "in_progress",
        _ if counted == 0 => "not_evaluated",
        0 => "not_covered",
        all if all == 2 * counted => "validated",
        _ => "partial",
    }
}
