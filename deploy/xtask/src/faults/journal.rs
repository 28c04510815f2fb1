//! What was confirmed while a fault lasted, and what was answered that should not have been.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::Result;

use super::cases::{Case, Fault};
use super::client::Reply;

/// The steps of a test after its creation, in their order.
pub const STEPS: [&str; 4] = ["start-execution", "submit-red", "submit-blue", "validate"];

/// What is said of the tests of each technique of a case once they are validated, and the status that it then has.
pub const VERDICTS: [(&str, &str); 3] =
    [("detected", "validated"), ("partially_detected", "partial"), ("not_detected", "not_covered")];

/// A test that was confirmed.
#[derive(Clone, Debug)]
pub struct Test {
    /// Its id.
    pub id: String,
    /// Its name, which no other has.
    pub name: String,
    /// The ATT&CK id of its technique.
    pub technique: String,
    /// One of [`VERDICTS`].
    pub verdict: (&'static str, &'static str),
    /// How many of [`STEPS`] were confirmed.
    pub steps: usize,
    /// Comments that were confirmed.
    pub comments: usize,
    /// Files that were confirmed.
    pub files: Vec<Vec<u8>>,
    /// When it was made, as the product says.
    pub created_at: String,
}

/// What is known of requests of one kind.
#[derive(Clone, Debug, Default)]
pub struct Kind {
    /// Answered as they should be.
    pub good: u64,
    /// Refused, or not answered.
    pub refused: u64,
    /// The slowest answer.
    pub slowest: Duration,
}

/// All of a case.
#[derive(Debug)]
pub struct Journal {
    /// What happened.
    pub case: Case,
    /// In the names of all that was made meanwhile.
    pub mark: String,
    /// Of whom the lines are.
    pub attacker: String,
    /// Tests.
    pub tests: Vec<Test>,
    /// The user agents of the sign-ins that were confirmed, each another one.
    pub logins: Vec<String>,
    /// Lines that were taken in.
    pub lines: u64,
    /// What decoys were asked, and when they had answered.
    pub hits: Vec<(String, Instant)>,
    /// Notifications as the stream told them.
    pub streamed: Vec<String>,
    /// By kind of request.
    pub kinds: BTreeMap<&'static str, Kind>,
    /// What should not have been, and how often.
    pub wrong: BTreeMap<String, usize>,
    /// When the fault began.
    pub begun: Option<Instant>,
}

impl Journal {
    /// An empty one.
    pub fn new(case: Case, mark: String, attacker: String) -> Journal {
        Journal {
            case,
            mark,
            attacker,
            tests: Vec::new(),
            logins: Vec::new(),
            lines: 0,
            hits: Vec::new(),
            streamed: Vec::new(),
            kinds: BTreeMap::new(),
            wrong: BTreeMap::new(),
            begun: None,
        }
    }

    /// What has to be confirmed before anything can be said of a case, and is not yet.
    pub fn missing(&self) -> Option<&'static str> {
        if !self.tests.iter().any(|test| test.steps == STEPS.len()) {
            Some("no test was finished")
        } else if self.tests.iter().all(|test| test.files.is_empty()) {
            Some("no file was brought")
        } else if self.lines == 0 {
            Some("no line was taken in")
        } else {
            None
        }
    }

    /// Notes something that should not have been.
    pub fn wrong(&mut self, what: impl Into<String>) {
        *self.wrong.entry(what.into()).or_default() += 1;
    }

    /// Notes an answer. Gives it where it is what was hoped for, whether now or the first time.
    pub fn judge(&mut self, what: &'static str, reply: Result<Reply>, took: Duration, good: &[u16]) -> Option<Reply> {
        let kind = self.kinds.entry(what).or_default();
        kind.slowest = kind.slowest.max(took);
        let reply = match reply {
            Ok(reply) => reply,
            Err(error) => {
                kind.refused += 1;
                if !self.case.may_be_silent() {
                    self.wrong(format!("{what} had no answer: {error:#}"));
                }
                return None;
            }
        };
        let text = reply.text();
        if good.contains(&reply.status) || reply.status == 409 && text.contains("was carried out") {
            kind.good += 1;
            return Some(reply);
        }
        kind.refused += 1;
        if reply.status == 409 && text.contains("already being carried") {
            return None;
        }
        let body = reply.json();
        let code = body["code"].as_str().unwrap_or_default();
        let documented = match reply.status {
            503 => code == "SERVICE_UNAVAILABLE" && !reply.header("retry-after").is_empty(),
            504 => code == "DEADLINE_EXCEEDED",
            507 => code == "STORAGE_FULL" && self.case.fault == Fault::Full,
            _ => false,
        };
        let detail = body["detail"].as_str().unwrap_or(&text).to_owned();
        let lower = text.to_lowercase();
        let inside = ["select ", "insert ", "sqlx", "panicked", ".rs:", "/tmp/", "127.0.0.1", "connection refused"];
        if !documented {
            self.wrong(format!("{what} answered {} {code}: {detail}", reply.status));
        } else if inside.iter().any(|word| lower.contains(word)) {
            self.wrong(format!("{what} shows its inside: {text}"));
        } else if !self.case.may_refuse(what) {
            self.wrong(format!("{what} was refused: {} {detail}", reply.status));
        }
        None
    }

    /// Requests that were refused.
    pub fn refused(&self) -> u64 {
        self.kinds.values().map(|kind| kind.refused).sum()
    }

    /// The slowest answer of all.
    pub fn slowest(&self) -> (&'static str, Duration) {
        let slowest = self.kinds.iter().max_by_key(|(_, kind)| kind.slowest);
        slowest.map(|(what, kind)| (*what, kind.slowest)).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::faults::cases::Target;

    #[test]
    fn nothing_is_said_of_a_case_without_work() {
        let case = Case { target: Target::Sensor, fault: Fault::Slow };
        let mut journal = Journal::new(case, "m1".to_owned(), "2001:db8::1".to_owned());
        assert_eq!(journal.missing(), Some("no test was finished"));
        journal.tests.push(Test {
            id: "1".to_owned(),
            name: "m1 1".to_owned(),
            technique: "T1012".to_owned(),
            verdict: VERDICTS[0],
            steps: STEPS.len(),
            comments: 0,
            files: Vec::new(),
            created_at: String::new(),
        });
        assert_eq!(journal.missing(), Some("no file was brought"));
        journal.tests[0].files.push(b"proof".to_vec());
        assert_eq!(journal.missing(), Some("no line was taken in"));
        journal.lines = 5;
        assert_eq!(journal.missing(), None);
        journal.tests[0].steps -= 1;
        assert_eq!(journal.missing(), Some("no test was finished"));
    }
}
