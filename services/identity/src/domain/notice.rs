//! Who hears of a test's new state, and in which words.

use aegis_auth::Role;

use super::audit::clean;

/// Most characters of a test's name in a notification.
const MAX_NAME: usize = 200;

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

/// A notification before it has recipients.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Notice {
    pub(crate) kind: &'static str,
    pub(crate) recipients: Recipients,
    pub(crate) title: String,
    pub(crate) message: String,
}

/// What a change of a test is worth telling; nothing where its state stayed or nobody waits for the new one.
///
/// Who made the change hears of it like everybody else.
pub(crate) fn notice(test: &TestNews) -> Option<Notice> {
    if test.deleted || test.state == test.previous_state {
        return None;
    }
    let name = clean(&test.name, MAX_NAME);
    let on = if test.mitre_id.is_empty() { String::new() } else { format!(" ({})", clean(&test.mitre_id, 20)) };
    let (kind, recipients, title, message) = match test.state.as_str() {
        "red_executing" => (
            "red_executing",
            Recipients::Creator,
            format!("Execution began: {name}"),
            format!("The red side has begun to run your test \"{name}\"{on}."),
        ),
        "blue_evaluating" => (
            "blue_evaluating",
            Recipients::Roles(&[Role::BlueTech]),
            format!("To evaluate: {name}"),
            format!("The test \"{name}\"{on} was run. Look for what was seen of it and record the result."),
        ),
        "in_review" => (
            "in_review",
            Recipients::Roles(&[Role::RedLead, Role::BlueLead]),
            format!("To review: {name}"),
            format!("The test \"{name}\"{on} has results of both sides and waits for the votes of the leads."),
        ),
        "rejected" => (
            "rejected",
            Recipients::Creator,
            format!("Rejected: {name}"),
            format!("Your test \"{name}\"{on} was rejected in review. Reopen it to correct and repeat it."),
        ),
        "validated" => (
            "validated",
            Recipients::Creator,
            format!("Validated: {name}"),
            format!("Your test \"{name}\"{on} was validated{}.", outcome(&test.detection_result)),
        ),
        _ => return None,
    };
    Some(Notice { kind, recipients, title, message })
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
        let recipients = |previous, state| notice(&test(previous, state)).map(|n| n.recipients);
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
        assert_eq!(notice(&TestNews { deleted: true, ..test("in_review", "validated") }), None);
    }

    #[test]
    fn the_words_name_the_test() {
        let notice = notice(&test("draft", "red_executing")).unwrap();
        assert!(notice.title.contains("Dump LSASS"));
        assert!(notice.message.contains("Dump LSASS") && notice.message.contains("T1003.001"));
    }
}
