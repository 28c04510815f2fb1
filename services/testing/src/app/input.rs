//! What the use cases are given, and how its fields are checked.

use aegis_error::{Failure, Fields};
use chrono::{DateTime, TimeDelta, Utc};
use uuid::Uuid;

use crate::domain::workflow::{Side, State};

/// Clocks may differ by this much before a time counts as being in the future.
const CLOCK_SKEW: TimeDelta = TimeDelta::minutes(5);

/// Longest name, characters.
pub const MAX_NAME: usize = 300;
/// Longest description.
pub const MAX_DESCRIPTION: usize = 20_000;
/// Longest procedure.
pub const MAX_PROCEDURE: usize = 100_000;
/// Longest name of a tool.
pub const MAX_TOOL: usize = 300;
/// Longest summary, and longest remediation steps.
pub const MAX_SUMMARY: usize = 50_000;
/// Longest notes of a vote.
pub const MAX_NOTES: usize = 10_000;

/// Longest comment.
pub const MAX_COMMENT: usize = 10_000;

/// Which tests to list.
#[derive(Clone, Debug, Default)]
pub struct ListQuery {
    /// Rows of a page; 0 for the default.
    pub page_size: i32,
    /// Where the page begins.
    pub page_token: String,
    /// Rows to leave out before it.
    pub skip: i32,
    /// Only in this state.
    pub state: Option<String>,
    /// Only of this technique.
    pub technique_id: Option<String>,
    /// Only on this platform.
    pub platform: Option<String>,
    /// Only of this user.
    pub created_by: Option<String>,
    /// Only those that wait for this side's vote.
    pub pending_validation_side: Option<String>,
    /// Only those that are somebody's to run, to evaluate or to mend.
    pub assignee: Option<String>,
    /// Only those that are validated without a detection result.
    pub incomplete: Option<bool>,
    /// Only those of this campaign.
    pub campaign_id: Option<String>,
    /// Only with this state of the remediation.
    pub remediation_status: Option<String>,
    /// Only those whose remediation is late.
    pub overdue: Option<bool>,
}

/// A test to make. What is absent comes from the template, if one is named.
#[derive(Clone, Debug, Default)]
#[allow(missing_docs, reason = "the fields are those of the API's Test, described there")]
pub struct NewTest {
    pub technique_id: String,
    pub name: String,
    pub description: Option<String>,
    pub platform: Option<String>,
    pub procedure_text: Option<String>,
    pub tool_used: Option<String>,
    pub template_id: Option<String>,
    /// ATT&CK id, where `technique_id` is empty.
    pub mitre_id: Option<String>,
}

/// A change of what a test is. Absent fields stay, those in `clear` become null.
#[derive(Clone, Debug, Default)]
#[allow(missing_docs, reason = "the fields are those of the API's Test, described there")]
pub struct TestEdit {
    pub id: String,
    pub name: Option<String>,
    pub description: Option<String>,
    pub platform: Option<String>,
    pub procedure_text: Option<String>,
    pub tool_used: Option<String>,
    pub clear: Vec<String>,
}

/// A change of the red side's fields.
#[derive(Clone, Debug, Default)]
#[allow(missing_docs, reason = "the fields are those of the API's Test, described there")]
pub struct RedEdit {
    pub id: String,
    pub procedure_text: Option<String>,
    pub tool_used: Option<String>,
    pub attack_success: Option<bool>,
    pub red_summary: Option<String>,
    pub executed_at: Option<DateTime<Utc>>,
    pub clear: Vec<String>,
}

/// A change of the blue side's fields.
#[derive(Clone, Debug, Default)]
#[allow(missing_docs, reason = "the fields are those of the API's Test, described there")]
pub struct BlueEdit {
    pub id: String,
    pub detection_result: Option<String>,
    pub blue_summary: Option<String>,
    pub detected_at: Option<DateTime<Utc>>,
    pub responded_at: Option<DateTime<Utc>>,
    pub contained_at: Option<DateTime<Utc>>,
    pub clear: Vec<String>,
}

/// A change of the remediation.
#[derive(Clone, Debug, Default)]
#[allow(missing_docs, reason = "the fields are those of the API's Test, described there")]
pub struct RemediationEdit {
    pub id: String,
    pub remediation_steps: Option<String>,
    pub remediation_status: Option<String>,
    pub remediation_assignee: Option<String>,
    pub remediation_due_date: Option<DateTime<Utc>>,
    pub clear: Vec<String>,
}

/// A change of who is to do what.
#[derive(Clone, Debug, Default)]
#[allow(missing_docs, reason = "the fields are those of the API's Test, described there")]
pub struct AssignmentEdit {
    pub red_assignee: Option<String>,
    pub blue_assignee: Option<String>,
    pub remediation_assignee: Option<String>,
    pub clear: Vec<String>,
}

/// A lead's vote.
#[derive(Clone, Debug, Default)]
pub struct Ballot {
    /// The test.
    pub id: String,
    /// red, blue, or own: the side of the caller's role, both for an administrator.
    pub side: String,
    /// Yes or no.
    pub approve: bool,
    /// Why.
    pub notes: Option<String>,
    /// The detection result that goes with an approval.
    pub result: Option<String>,
}

/// What happens to a field that may be empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Set<T> {
    /// Nothing.
    Keep,
    /// It becomes empty.
    Clear,
    /// It becomes this.
    To(T),
}

impl<T> Set<T> {
    /// Does it.
    pub fn put(self, field: &mut Option<T>) {
        match self {
            Set::Keep => {}
            Set::Clear => *field = None,
            Set::To(value) => *field = Some(value),
        }
    }
}

impl Set<DateTime<Utc>> {
    /// Does it to a time that a person typed, and to the note of where it came from.
    pub fn put_typed(self, at: &mut Option<DateTime<Utc>>, source: &mut Option<String>) {
        if self != Set::Keep {
            *source = matches!(self, Set::To(_)).then(|| "typed".to_owned());
        }
        self.put(at);
    }
}

/// Checks the fields of a request and collects what is wrong with them.
#[derive(Default)]
pub struct Checker {
    fields: Fields,
    clear: Vec<String>,
}

impl Checker {
    /// A checker of a change that may clear the fields `clearable`.
    pub fn of_change(clear: Vec<String>, clearable: &[&str]) -> Self {
        let mut fields = Fields::default();
        if clear.iter().any(|name| !clearable.contains(&name.as_str())) {
            fields.add("clear", format!("may name only {}", clearable.join(", ")));
        }
        Checker { fields, clear }
    }

    /// Fails when anything was wrong.
    pub fn finish(self) -> Result<(), Failure> {
        self.fields.finish()
    }

    /// Notes that a field is wrong.
    pub fn wrong(&mut self, field: &str, problem: impl Into<String>) {
        self.fields.add(field, problem);
    }

    /// A UUID; what is none is noted and becomes nil.
    pub fn id(&mut self, field: &str, text: &str) -> Uuid {
        Uuid::try_parse(text).unwrap_or_else(|_| {
            self.fields.add(field, "must be a UUID");
            Uuid::nil()
        })
    }

    /// A UUID that may be absent.
    pub fn id_of(&mut self, field: &str, text: Option<&str>) -> Option<Uuid> {
        text.map(|text| self.id(field, text))
    }

    /// A name without the blanks around it.
    pub fn name(&mut self, name: &str) -> String {
        let name = name.trim();
        self.fields.text("name", name, 1, MAX_NAME);
        name.to_owned()
    }

    /// A text that may be absent.
    pub fn text(&mut self, field: &str, text: Option<&str>, max: usize) {
        if let Some(text) = text {
            self.fields.text(field, text, 0, max);
        }
    }

    /// A text that must not be empty.
    pub fn full_text(&mut self, field: &str, text: &str, max: usize) {
        self.fields.text(field, text, 1, max);
    }

    /// One of a few names, which may be absent.
    pub fn one_of(&mut self, field: &str, name: Option<&str>, allowed: &[&str]) {
        if let Some(name) = name {
            self.fields.one_of(field, name, allowed);
        }
    }

    /// A platform in small letters, which may be absent.
    pub fn platform(&mut self, platform: Option<String>) -> Option<String> {
        let platform = platform?.trim().to_lowercase();
        // The colon is in the names that published procedures use for clouds, such as iaas:aws.
        let known = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || " ._/-:".contains(c);
        let good = (1..=64).contains(&platform.chars().count()) && platform.chars().all(known);
        self.fields.check(
            good,
            "platform",
            "must be 1 to 64 letters, digits, blanks or . _ / - : (such as windows, linux, macos, azure-ad)",
        );
        Some(platform)
    }

    /// A time that may be absent, of something that has happened.
    pub fn time(&mut self, field: &str, at: Option<DateTime<Utc>>, now: DateTime<Utc>) {
        let Some(at) = at else { return };
        self.fields.check(at >= DateTime::UNIX_EPOCH, field, "must be a time after 1970");
        self.fields.check(at <= now + CLOCK_SKEW, field, "must not be in the future");
    }

    /// A day until which something is to be done, which may be absent; it may have passed.
    pub fn due(&mut self, field: &str, at: Option<DateTime<Utc>>) {
        let Some(at) = at else { return };
        // Two hundred years: a date that both databases and every client can write.
        let last = DateTime::UNIX_EPOCH + TimeDelta::days(2 * 36_525);
        self.fields.check(at >= DateTime::UNIX_EPOCH && at <= last, field, "must be a time between 1970 and 2169");
    }

    /// A state that may be absent.
    pub fn state(&mut self, field: &str, name: Option<String>) -> Option<State> {
        let state = State::try_from(name?);
        self.fields.check(state.is_ok(), field, &format!("must be one of {}", State::NAMES.join(", ")));
        state.ok()
    }

    /// A side that may be absent.
    pub fn side(&mut self, field: &str, name: Option<&str>) -> Option<Side> {
        match name? {
            "red" => Some(Side::Red),
            "blue" => Some(Side::Blue),
            _ => {
                self.fields.add(field, "must be one of red, blue");
                None
            }
        }
    }

    /// What happens to a field that this value was given for.
    pub fn set<T>(&mut self, field: &str, value: Option<T>) -> Set<T> {
        match (value, self.clear.iter().any(|name| name == field)) {
            (Some(_), true) => {
                self.fields.add(field, "is both given and cleared");
                Set::Keep
            }
            (Some(value), false) => Set::To(value),
            (None, true) => Set::Clear,
            (None, false) => Set::Keep,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problems(check: impl FnOnce(&mut Checker)) -> Vec<String> {
        let mut checker = Checker::default();
        check(&mut checker);
        match checker.finish() {
            Ok(()) => Vec::new(),
            Err(failure) => failure.fields().iter().map(|f| f.field.clone()).collect(),
        }
    }

    #[test]
    fn platforms_are_small_letters_and_bounded() {
        let mut checker = Checker::default();
        assert_eq!(checker.platform(Some(" Windows ".into())).as_deref(), Some("windows"));
        assert_eq!(checker.platform(Some("iaas:AWS".into())).as_deref(), Some("iaas:aws"));
        assert!(checker.finish().is_ok());
        for bad in ["", "  ", "win\u{7}", "wïndows", "a;b", &"x".repeat(65)] {
            assert_eq!(problems(|c| drop(c.platform(Some(bad.into())))), ["platform"], "{bad:?}");
        }
    }

    #[test]
    fn times_are_of_the_past_give_or_take_a_clock() {
        let now = aegis_db::now();
        let wrong = |at| !problems(|c| c.time("executed_at", Some(at), now)).is_empty();
        assert!(!wrong(now));
        assert!(!wrong(now + TimeDelta::minutes(5)));
        assert!(wrong(now + TimeDelta::minutes(6)));
        assert!(wrong(DateTime::<Utc>::MIN_UTC));
    }

    #[test]
    fn a_change_sets_clears_or_keeps() {
        let mut checker = Checker::of_change(vec!["a".into(), "c".into()], &["a", "b", "c"]);
        assert_eq!(checker.set::<u8>("a", None), Set::Clear);
        assert_eq!(checker.set("b", Some(1)), Set::To(1));
        assert_eq!(checker.set::<u8>("d", None), Set::Keep);
        checker.set("c", Some(1));
        let failure = checker.finish().unwrap_err();
        assert_eq!(failure.message(), "c: is both given and cleared");
        let unknown = Checker::of_change(vec!["name".into()], &["a"]).finish().unwrap_err();
        assert_eq!(unknown.fields()[0].field, "clear");
    }

    #[test]
    fn a_typed_time_remembers_that_it_was_typed() {
        let (mut at, mut source) = (None, None);
        let now = aegis_db::now();
        Set::To(now).put_typed(&mut at, &mut source);
        assert_eq!((at, source.as_deref()), (Some(now), Some("typed")));
        Set::Keep.put_typed(&mut at, &mut source);
        assert_eq!((at, source.as_deref()), (Some(now), Some("typed")));
        Set::Clear.put_typed(&mut at, &mut source);
        assert_eq!((at, source), (None, None));
    }
}
