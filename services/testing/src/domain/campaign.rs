//! Campaigns: what they are, who may run them, when they are over, in which order they are generated.

use std::{cmp::Ordering, collections::HashMap};

use aegis_auth::Role;
use aegis_schedule::Recurrence;
use chrono::{DateTime, Utc};
use chrono_tz::Tz;

use super::workflow::State;

/// Tests that a campaign has at most.
pub const MAX_TESTS: usize = 2_000;
/// Who may change campaigns: everyone but viewers.
pub const WRITERS: &[Role] = &[Role::Admin, Role::RedTech, Role::BlueTech, Role::RedLead, Role::BlueLead];

/// What a campaign is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Whatever somebody wants.
    Custom,
    /// Does what a threat actor does.
    AptEmulation,
    /// Goes through an attack from its beginning to its end.
    KillChain,
    /// Proves something to somebody.
    Compliance,
}

impl Kind {
    /// All names.
    pub const NAMES: &[&str] = &["custom", "apt_emulation", "kill_chain", "compliance"];

    /// Its name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Kind::Custom => "custom",
            Kind::AptEmulation => "apt_emulation",
            Kind::KillChain => "kill_chain",
            Kind::Compliance => "compliance",
        }
    }
}

impl TryFrom<String> for Kind {
    type Error = String;

    fn try_from(name: String) -> Result<Self, String> {
        [Kind::Custom, Kind::AptEmulation, Kind::KillChain, Kind::Compliance]
            .into_iter()
            .find(|kind| kind.as_str() == name)
            .ok_or(format!("'{name}' is no type of a campaign"))
    }
}

/// Where a campaign stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// Being put together.
    Draft,
    /// Under way.
    Active,
    /// All its tests are through, or somebody said that it is over.
    Completed,
    /// Kept as it was.
    Archived,
}

impl Status {
    /// All names.
    pub const NAMES: &[&str] = &["draft", "active", "completed", "archived"];

    /// Its name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Status::Draft => "draft",
            Status::Active => "active",
            Status::Completed => "completed",
            Status::Archived => "archived",
        }
    }

    /// Whether a campaign that stands there may be run.
    pub const fn runs(self) -> bool {
        matches!(self, Status::Draft | Status::Active)
    }
}

impl TryFrom<String> for Status {
    type Error = String;

    fn try_from(name: String) -> Result<Self, String> {
        [Status::Draft, Status::Active, Status::Completed, Status::Archived]
            .into_iter()
            .find(|status| status.as_str() == name)
            .ok_or(format!("'{name}' is no status of a campaign"))
    }
}

/// Whether someone may make a campaign's tests, be it from templates or as copies: who may create tests, leads, and
/// the campaign's creator.
pub fn may_make_tests(role: Role, creator: bool) -> bool {
    match role {
        Role::Admin | Role::RedTech | Role::RedLead | Role::BlueLead => true,
        Role::BlueTech => creator,
        Role::Viewer | Role::Service | Role::Sensor => false,
    }
}

/// Whether nothing is left to do in a test of this state.
pub const fn is_through(state: State) -> bool {
    matches!(state, State::Validated | State::Rejected)
}

/// How many tests there are in each state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names of the states")]
pub struct Progress {
    pub draft: i64,
    pub red_executing: i64,
    pub blue_evaluating: i64,
    pub in_review: i64,
    pub validated: i64,
    pub rejected: i64,
}

impl Progress {
    /// Counts tests of a state.
    pub fn add(&mut self, state: State, count: i64) {
        *match state {
            State::Draft => &mut self.draft,
            State::RedExecuting => &mut self.red_executing,
            State::BlueEvaluating => &mut self.blue_evaluating,
            State::InReview => &mut self.in_review,
            State::Validated => &mut self.validated,
            State::Rejected => &mut self.rejected,
        } += count;
    }

    /// All tests.
    pub const fn total(&self) -> i64 {
        self.open() + self.validated + self.rejected
    }

    /// Tests with something left to do.
    pub const fn open(&self) -> i64 {
        self.draft + self.red_executing + self.blue_evaluating + self.in_review
    }

    /// Where a campaign with these tests stands that stood at `status`: active until the last test is through, and
    /// again where one is open again. One that comes again by itself is never over by itself.
    pub fn settles(&self, status: Status, comes_again: bool) -> Status {
        match status {
            Status::Active if self.total() > 0 && self.open() == 0 && !comes_again => Status::Completed,
            Status::Completed if self.open() > 0 => Status::Active,
            other => other,
        }
    }
}

/// When a campaign runs by itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Schedule {
    /// How often.
    pub recurrence: Recurrence,
    /// By whose clocks.
    pub zone: Tz,
    /// When it was set.
    pub anchor: DateTime<Utc>,
}

impl Schedule {
    /// The first due time after `at`.
    pub fn next_after(&self, at: DateTime<Utc>) -> Result<DateTime<Utc>, String> {
        self.recurrence.next_after(self.zone, self.anchor, at)
    }

    /// Of the due times from `due` until `at` the last, which stands for all of them, and the one after it. Both come
    /// of the schedule alone: a run that is late moves none.
    pub fn caught_up(&self, due: DateTime<Utc>, at: DateTime<Utc>) -> Result<(DateTime<Utc>, DateTime<Utc>), String> {
        let last = self.recurrence.latest(self.zone, self.anchor, due, at)?;
        Ok((last, self.next_after(last)?))
    }
}

/// The columns of the matrices from left to right.
#[derive(Clone, Debug, Default)]
pub struct TacticOrder(HashMap<(String, String), usize>);

impl TacticOrder {
    /// Of domains and short names in their order.
    pub fn new(tactics: impl IntoIterator<Item = (String, String)>) -> Self {
        TacticOrder(tactics.into_iter().zip(0..).collect())
    }

    /// Which of two techniques, each with its domain, first tactic and ATT&CK id, comes first in an attack. Those of a
    /// tactic that is not known come last.
    pub fn compare(&self, a: (&str, &str, &str), b: (&str, &str, &str)) -> Ordering {
        let place = |(domain, tactic, _): (&str, &str, &str)| {
            self.0.get(&(domain.to_owned(), tactic.to_owned())).copied().unwrap_or(usize::MAX)
        };
        place(a).cmp(&place(b)).then_with(|| a.2.cmp(b.2))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_lead_back_to_what_they_name() {
        for name in Kind::NAMES {
            assert_eq!(Kind::try_from((*name).to_owned()).unwrap().as_str(), *name);
        }
        for name in Status::NAMES {
            assert_eq!(Status::try_from((*name).to_owned()).unwrap().as_str(), *name);
        }
        assert!(Kind::try_from("apt".to_owned()).is_err() && Status::try_from(String::new()).is_err());
    }

    #[test]
    fn a_campaign_is_over_with_its_last_test() {
        let mut progress = Progress::default();
        assert_eq!(progress.settles(Status::Active, false), Status::Active, "nothing to be through with");
        progress.add(State::Validated, 2);
        progress.add(State::Rejected, 1);
        assert_eq!((progress.total(), progress.open()), (3, 0));
        assert_eq!(progress.settles(Status::Active, false), Status::Completed);
        assert_eq!(progress.settles(Status::Active, true), Status::Active);
        assert_eq!(progress.settles(Status::Draft, false), Status::Draft);
        progress.add(State::InReview, 1);
        assert_eq!(progress.settles(Status::Active, false), Status::Active);
        assert_eq!(progress.settles(Status::Completed, false), Status::Active);
        assert_eq!(progress.settles(Status::Archived, false), Status::Archived);
    }

    #[test]
    fn what_was_missed_is_one_run_and_moves_nothing() {
        let at = |text: &str| text.parse::<DateTime<Utc>>().unwrap();
        let schedule = |text: &str, zone: Tz| Schedule {
            recurrence: Recurrence::parse(text).unwrap(),
            zone,
            anchor: at("2025-03-09T22:30:00Z"),
        };
        // Half past eleven in the evening, each Sunday in Berlin; the clocks went forward on the 30th of March.
        let weekly = schedule("weekly", Tz::Europe__Berlin);
        let first = weekly.next_after(weekly.anchor).unwrap();
        assert_eq!(first, at("2025-03-16T22:30:00Z"));
        let late = weekly.caught_up(first, at("2025-04-02T00:00:00Z"));
        assert_eq!(late, Ok((at("2025-03-30T21:30:00Z"), at("2025-04-06T21:30:00Z"))));
        assert_eq!(weekly.caught_up(first, first), Ok((first, at("2025-03-23T22:30:00Z"))));
        // The same moment is Monday in Tokyo, whose clocks stay.
        let tokyo = schedule("weekly", Tz::Asia__Tokyo);
        assert_eq!(tokyo.next_after(at("2025-03-29T00:00:00Z")), Ok(at("2025-03-30T22:30:00Z")));
        // Midnight in Berlin, before and after the change.
        let midnight = schedule("0 0 * * *", Tz::Europe__Berlin);
        let late = midnight.caught_up(at("2025-03-28T23:00:00Z"), at("2025-03-30T22:00:00Z"));
        assert_eq!(late, Ok((at("2025-03-30T22:00:00Z"), at("2025-03-31T22:00:00Z"))));
    }

    #[test]
    fn an_attack_goes_from_left_to_right() {
        let order = TacticOrder::new(
            [("enterprise", "initial-access"), ("enterprise", "execution"), ("ics", "initial-access")]
                .map(|(domain, tactic)| (domain.to_owned(), tactic.to_owned())),
        );
        let mut techniques = [
            ("ics", "initial-access", "T0800"),
            ("enterprise", "", "T0001"),
            ("enterprise", "execution", "T1059.001"),
            ("enterprise", "execution", "T1059"),
            ("enterprise", "initial-access", "T1566"),
        ];
        techniques.sort_by(|a, b| order.compare(*a, *b));
        assert_eq!(techniques.map(|(.., id)| id), ["T1566", "T1059", "T1059.001", "T0800", "T0001"]);
    }

    #[test]
    fn blue_technicians_make_tests_of_their_own_campaigns_alone() {
        assert!(may_make_tests(Role::BlueTech, true) && !may_make_tests(Role::BlueTech, false));
        assert!(may_make_tests(Role::RedTech, false) && may_make_tests(Role::BlueLead, false));
        assert!(!may_make_tests(Role::Viewer, true));
    }
}
