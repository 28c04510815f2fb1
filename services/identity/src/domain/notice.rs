//! The kinds of notifications: what each tells, whom, in which words.

use aegis_auth::Role;

use super::audit::clean;

/// Most characters of a test's name in a notification.
const MAX_NAME: usize = 200;
/// Most characters of a technique's id in a notification.
const MAX_TECHNIQUE: usize = 20;

/// What is known of a test whose state may have changed.
#[derive(Clone, Debug, Default)]
pub(crate) struct TestNews {
    pub(crate) name: String,
    pub(crate) mitre_id: String,
    pub(crate) state: String,
    pub(crate) previous_state: String,
    pub(crate) detection_result: String,
    pub(crate) deleted: bool,
}

/// Whom a notification is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Recipients {
    /// Who made the test.
    Creator,
    /// Every active user with one of these roles.
    Roles(&'static [Role]),
}

/// What a notification can be about.
#[derive(Debug)]
pub(crate) struct Kind {
    /// As clients and preferences spell it.
    pub(crate) name: &'static str,
    /// The state of a test whose beginning is told.
    state: &'static str,
    pub(crate) recipients: Recipients,
    /// Whether those who decided nothing get it.
    pub(crate) by_default: bool,
    /// The words; `{name}`, `{technique}` and `{outcome}` stand for the test's.
    title: &'static str,
    message: &'static str,
}

/// All kinds. Another one is another entry here.
pub(crate) const KINDS: &[Kind] = &[
    Kind {
        name: "red_executing",
        state: "red_executing",
        recipients: Recipients::Creator,
        by_default: true,
        title: "Execution began: {name}",
        message: "The red side has begun to run your test \"{name}\"{technique}.",
    },
    Kind {
        name: "blue_evaluating",
        state: "blue_evaluating",
        recipients: Recipients::Roles(&[Role::BlueTech]),
        by_default: true,
        title: "To evaluate: {name}",
        message: "The test \"{name}\"{technique} was run. Look for what was seen of it and record the result.",
    },
    Kind {
        name: "in_review",
        state: "in_review",
        recipients: Recipients::Roles(&[Role::RedLead, Role::BlueLead]),
        by_default: true,
        title: "To review: {name}",
        message: "The test \"{name}\"{technique} has results of both sides and waits for the votes of the leads.",
    },
    Kind {
        name: "rejected",
        state: "rejected",
        recipients: Recipients::Creator,
        by_default: true,
        title: "Rejected: {name}",
        message: "Your test \"{name}\"{technique} was rejected in review. Reopen it to correct and repeat it.",
    },
    Kind {
        name: "validated",
        state: "validated",
        recipients: Recipients::Creator,
        by_default: true,
        title: "Validated: {name}",
        message: "Your test \"{name}\"{technique} was validated{outcome}.",
    },
];

/// A notification before it has recipients.
#[derive(Debug)]
pub(crate) struct Notice {
    pub(crate) kind: &'static Kind,
    pub(crate) title: String,
    pub(crate) message: String,
}

/// What a change of a test is worth telling; nothing where its state stayed or nobody waits for the new one.
///
/// Who made the change hears of it like everybody else; whether it wants to is a matter of its preferences.
pub(crate) fn notice(test: &TestNews) -> Option<Notice> {
    if test.deleted || test.state == test.previous_state {
        return None;
    }
    let kind = KINDS.iter().find(|kind| kind.state == test.state)?;
    let technique = match test.mitre_id.as_str() {
        "" => String::new(),
        id => format!(" ({})", clean(id, MAX_TECHNIQUE)),
    };
    let values = [
        ("name", clean(&test.name, MAX_NAME)),
        ("technique", technique),
        ("outcome", outcome(&test.detection_result).to_owned()),
    ];
    Some(Notice { kind, title: fill(kind.title, &values), message: fill(kind.message, &values) })
}

/// The text with its placeholders replaced, each once: what a value says is not read again.
fn fill(text: &str, values: &[(&str, String)]) -> String {
    let mut filled = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('{') {
        filled.push_str(before);
        let Some((name, after)) = after.split_once('}') else { break };
        filled.extend(values.iter().find(|(known, _)| *known == name).map(|(_, value)| value.as_str()));
        rest = after;
    }
    filled.push_str(rest);
    filled
}

fn outcome(detection_result: &str) -> &'static str {
    match detection_result {
        "detected" => ": the attack was detected",
        "partially_detected" => ": the attack was partially detected",
        "not_detected" => ": the attack was not detected",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn test(previous: &str, state: &str) -> TestNews {
        TestNews {
            name: "Dump LSASS".into(),
            mitre_id: "T1003.001".into(),
            previous_state: previous.into(),
            state: state.into(),
            ..TestNews::default()
        }
    }

    #[test]
    fn each_state_has_its_recipients() {
        let recipients = |previous, state| notice(&test(previous, state)).map(|n| n.kind.recipients);
        assert_eq!(recipients("draft", "red_executing"), Some(Recipients::Creator));
        assert_eq!(recipients("red_executing", "blue_evaluating"), Some(Recipients::Roles(&[Role::BlueTech])));
        assert_eq!(
            recipients("blue_evaluating", "in_review"),
            Some(Recipients::Roles(&[Role::RedLead, Role::BlueLead]))
        );
        assert_eq!(recipients("in_review", "rejected"), Some(Recipients::Creator));
        assert_eq!(recipients("in_review", "validated"), Some(Recipients::Creator));
        assert_eq!(recipients("", "draft"), None);
        assert_eq!(recipients("rejected", "draft"), None);
        assert_eq!(recipients("in_review", "in_review"), None);
        assert!(notice(&TestNews { deleted: true, ..test("in_review", "validated") }).is_none());
    }

    #[test]
    fn the_words_name_the_test() {
        let told = notice(&test("draft", "red_executing")).unwrap();
        assert_eq!(told.title, "Execution began: Dump LSASS");
        assert_eq!(told.message, "The red side has begun to run your test \"Dump LSASS\" (T1003.001).");
        let odd =
            TestNews { name: "{outcome} of {name".into(), mitre_id: String::new(), ..test("in_review", "rejected") };
        assert_eq!(notice(&odd).unwrap().title, "Rejected: {outcome} of {name");
        let good = TestNews { detection_result: "detected".into(), ..test("in_review", "validated") };
        assert!(notice(&good).unwrap().message.ends_with("was validated: the attack was detected."));
    }

    #[test]
    fn every_placeholder_is_known_and_every_name_is_there_once() {
        for kind in KINDS {
            for text in [kind.title, kind.message] {
                let names: Vec<_> = text.split('{').skip(1).filter_map(|rest| rest.split('}').next()).collect();
                assert!(names.iter().all(|name| ["name", "technique", "outcome"].contains(name)), "{text}");
            }
            assert_eq!(KINDS.iter().filter(|other| other.name == kind.name).count(), 1);
        }
    }
}
