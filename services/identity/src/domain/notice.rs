//! The kinds of notifications: what each tells, whom, in which words.

use aegis_auth::Role;
use uuid::Uuid;

use super::audit::clean;

/// Most characters of a test's name in a notification.
const MAX_NAME: usize = 200;
/// Most characters of what an alert says.
const MAX_MESSAGE: usize = 1_000;
/// Most characters of a technique's id in a notification.
const MAX_TECHNIQUE: usize = 20;
/// Most people whom news may name.
const MAX_PEOPLE: usize = 100;

/// Something that happened, of which somebody may want to hear.
#[derive(Clone, Debug)]
pub(crate) enum News {
    Test(TestNews),
    Comment(CommentNews),
    Campaign(CampaignNews),
    Alert(AlertNews),
}

/// What is known of a test after a change.
#[derive(Clone, Debug, Default)]
pub(crate) struct TestNews {
    pub(crate) name: String,
    pub(crate) mitre_id: String,
    pub(crate) state: String,
    pub(crate) previous_state: String,
    pub(crate) detection_result: String,
    /// Result of the validated one before it, where this is a regression.
    pub(crate) previous_result: String,
    /// What the change did besides: `remediation_assigned`, `regression`, `retest_created`.
    pub(crate) notes: Vec<String>,
    pub(crate) deleted: bool,
    pub(crate) creator: Option<Uuid>,
    /// Who is to mend what was not detected.
    pub(crate) remediation_assignee: Option<Uuid>,
}

/// A comment on a test.
#[derive(Clone, Debug, Default)]
pub(crate) struct CommentNews {
    /// Of the test.
    pub(crate) name: String,
    /// Who wrote it.
    pub(crate) author: String,
    /// Whose test it is, in one way or another.
    pub(crate) concerned: Vec<Uuid>,
}

/// What is known of a campaign after a change.
#[derive(Clone, Debug, Default)]
pub(crate) struct CampaignNews {
    pub(crate) name: String,
    /// Such as `ran`.
    pub(crate) change: String,
    pub(crate) created_tests: i32,
    pub(crate) creator: Option<Uuid>,
}

/// An alert of what an attacker does on decoys.
#[derive(Clone, Debug, Default)]
pub(crate) struct AlertNews {
    /// Such as `first_contact`.
    pub(crate) kind: String,
    /// Its address; empty where the alert stands for many.
    pub(crate) attacker: String,
    /// What happened.
    pub(crate) message: String,
}

/// What a notification can be about.
#[derive(Debug)]
pub(crate) struct Kind {
    /// As clients and preferences spell it.
    pub(crate) name: &'static str,
    /// Every active user with one of these roles gets it, besides those whom the news names.
    pub(crate) roles: &'static [Role],
    /// Whether those who decided nothing get it.
    pub(crate) by_default: bool,
    /// The words; what stands in braces is filled in from the news.
    title: &'static str,
    message: &'static str,
}

const LEADS: &[Role] = &[Role::RedLead, Role::BlueLead];
const DEFENDERS: &[Role] = &[Role::Admin, Role::BlueTech, Role::BlueLead];

/// All kinds. Another one is another entry here, and the news of which it tells in [`notices`].
pub(crate) const KINDS: &[Kind] = &[
    Kind {
        name: "red_executing",
        roles: &[],
        by_default: true,
        title: "Execution began: {name}",
        message: "The red side has begun to run your test \"{name}\"{technique}.",
    },
    Kind {
        name: "blue_evaluating",
        roles: &[Role::BlueTech],
        by_default: true,
        title: "To evaluate: {name}",
        message: "The test \"{name}\"{technique} was run. Look for what was seen of it and record the result.",
    },
    Kind {
        name: "in_review",
        roles: LEADS,
        by_default: true,
        title: "To review: {name}",
        message: "The test \"{name}\"{technique} has results of both sides and waits for the votes of the leads.",
    },
    Kind {
        name: "rejected",
        roles: &[],
        by_default: true,
        title: "Rejected: {name}",
        message: "Your test \"{name}\"{technique} was rejected in review. Reopen it to correct and repeat it.",
    },
    Kind {
        name: "validated",
        roles: &[],
        by_default: true,
        title: "Validated: {name}",
        message: "Your test \"{name}\"{technique} was validated{outcome}.",
    },
    Kind {
        name: REGRESSION,
        roles: LEADS,
        by_default: true,
        title: "Regression: {name}",
        message: "The retest \"{name}\"{technique} did worse than the one before it{outcome}{before}.",
    },
    Kind {
        name: REMEDIATION_ASSIGNED,
        roles: &[],
        by_default: true,
        title: "To remediate: {name}",
        message: "The remediation of the test \"{name}\"{technique} was given to you.",
    },
    Kind {
        name: RETEST_CREATED,
        roles: &[],
        by_default: true,
        title: "Retest: {name}",
        message: "A draft was made that tests \"{name}\"{technique} again.",
    },
    Kind {
        name: COMMENT,
        roles: &[],
        by_default: true,
        title: "Comment: {name}",
        message: "{author} commented on the test \"{name}\".",
    },
    Kind {
        name: CAMPAIGN_RUN,
        roles: &[],
        by_default: true,
        title: "Campaign run: {name}",
        message: "Your campaign \"{name}\" ran and made {count}.",
    },
    Kind {
        name: CAMPAIGN_RUN_FAILED,
        roles: LEADS,
        by_default: true,
        title: "Campaign run failed: {name}",
        message: "A run of the campaign \"{name}\" failed and created nothing. Its history says why.",
    },
    Kind {
        name: "first_contact",
        roles: DEFENDERS,
        by_default: true,
        title: "First contact: {name}",
        message: "{alert}",
    },
    Kind {
        name: "credential_works",
        roles: DEFENDERS,
        by_default: true,
        title: "A credential works on a decoy: {name}",
        message: "{alert}",
    },
    Kind {
        name: "file_captured",
        roles: DEFENDERS,
        by_default: true,
        title: "File captured on a decoy: {name}",
        message: "{alert}",
    },
    Kind {
        name: "traversal",
        roles: DEFENDERS,
        by_default: true,
        title: "An attacker moves between decoys: {name}",
        message: "{alert}",
    },
];

/// The kinds that alerts have, by the same names.
const ALERTS: [&str; 4] = ["first_contact", "credential_works", "file_captured", "traversal"];

// The first three are also what a change of a test notes.
const REGRESSION: &str = "regression";
const REMEDIATION_ASSIGNED: &str = "remediation_assigned";
const RETEST_CREATED: &str = "retest_created";
const COMMENT: &str = "comment";
const CAMPAIGN_RUN: &str = "campaign_run";
const CAMPAIGN_RUN_FAILED: &str = "campaign_run_failed";

/// A notification before it has recipients.
#[derive(Debug)]
pub(crate) struct Notice {
    pub(crate) kind: &'static Kind,
    pub(crate) title: String,
    pub(crate) message: String,
    /// Who gets it besides the roles of its kind.
    pub(crate) people: Vec<Uuid>,
}

/// What news are worth telling, each notice of another kind; nothing where nobody waits for them.
///
/// Who made the change hears of it like everybody else; whether it wants to is a matter of its preferences.
pub(crate) fn notices(news: &News) -> Vec<Notice> {
    match news {
        News::Test(test) => of_test(test),
        News::Comment(comment) => {
            let author = match comment.author.as_str() {
                "" => "Somebody".to_owned(),
                author => clean(author, MAX_NAME),
            };
            let values = [("name", clean(&comment.name, MAX_NAME)), ("author", author)];
            notice(COMMENT, &values, comment.concerned.iter().copied()).into_iter().collect()
        }
        News::Campaign(campaign) => {
            let kind = match campaign.change.as_str() {
                "ran" => CAMPAIGN_RUN,
                "run_failed" => CAMPAIGN_RUN_FAILED,
                _ => return Vec::new(),
            };
            let count = match campaign.created_tests {
                1 => "1 test".to_owned(),
                count => format!("{} tests", count.max(0)),
            };
            let values = [("name", clean(&campaign.name, MAX_NAME)), ("count", count)];
            notice(kind, &values, campaign.creator).into_iter().collect()
        }
        News::Alert(alert) => {
            let name = match alert.attacker.as_str() {
                "" => "many attackers".to_owned(),
                attacker => clean(attacker, MAX_NAME),
            };
            let values = [("name", name), ("alert", clean(&alert.message, MAX_MESSAGE))];
            let kind = ALERTS.into_iter().find(|kind| *kind == alert.kind);
            kind.and_then(|kind| notice(kind, &values, None)).into_iter().collect()
        }
    }
}

fn of_test(test: &TestNews) -> Vec<Notice> {
    if test.deleted {
        return Vec::new();
    }
    let technique = match test.mitre_id.as_str() {
        "" => String::new(),
        id => format!(" ({})", clean(id, MAX_TECHNIQUE)),
    };
    let values = [
        ("name", clean(&test.name, MAX_NAME)),
        ("technique", technique),
        ("outcome", outcome(&test.detection_result).to_owned()),
        ("before", before(&test.previous_result).to_owned()),
    ];
    // A kind that is named as a state tells its beginning.
    let moved = match test.state.as_str() {
        state if state == test.previous_state => None,
        state @ ("red_executing" | "rejected" | "validated") => notice(state, &values, test.creator),
        state @ ("blue_evaluating" | "in_review") => notice(state, &values, None),
        _ => None,
    };
    let noted = |note: &'static str| test.notes.iter().any(|known| known == note).then_some(note);
    [
        moved,
        noted(REGRESSION).and_then(|kind| notice(kind, &values, None)),
        noted(REMEDIATION_ASSIGNED).and_then(|kind| notice(kind, &values, test.remediation_assignee)),
        noted(RETEST_CREATED).and_then(|kind| notice(kind, &values, test.creator)),
    ]
    .into_iter()
    .flatten()
    .collect()
}

fn notice(kind: &str, values: &[(&str, String)], people: impl IntoIterator<Item = Uuid>) -> Option<Notice> {
    let kind = KINDS.iter().find(|known| known.name == kind)?;
    let people: Vec<Uuid> = people.into_iter().take(MAX_PEOPLE).collect();
    if people.is_empty() && kind.roles.is_empty() {
        return None;
    }
    Some(Notice { kind, title: fill(kind.title, values), message: fill(kind.message, values), people })
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

fn before(previous_result: &str) -> &'static str {
    match previous_result {
        "detected" => ", before it was detected",
        "partially_detected" => ", before it was partially detected",
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
            creator: Some(Uuid::from_u128(1)),
            remediation_assignee: Some(Uuid::from_u128(2)),
            ..TestNews::default()
        }
    }

    fn noted(notes: &[&str], test: TestNews) -> TestNews {
        TestNews { notes: notes.iter().map(|note| (*note).to_owned()).collect(), ..test }
    }

    const PLACEHOLDERS: &[&str] = &["name", "technique", "outcome", "before", "author", "count", "alert"];

    /// Kind, roles and people of every notice.
    fn told(news: News) -> Vec<(&'static str, &'static [Role], Vec<u128>)> {
        let people = |notice: &Notice| notice.people.iter().map(Uuid::as_u128).collect();
        notices(&news).iter().map(|n| (n.kind.name, n.kind.roles, people(n))).collect()
    }

    #[test]
    fn each_state_has_its_recipients() {
        let of = |previous, state| told(News::Test(test(previous, state)));
        assert_eq!(of("draft", "red_executing"), [("red_executing", &[][..], vec![1])]);
        assert_eq!(of("red_executing", "blue_evaluating"), [("blue_evaluating", &[Role::BlueTech][..], vec![])]);
        assert_eq!(of("blue_evaluating", "in_review"), [("in_review", LEADS, vec![])]);
        assert_eq!(of("in_review", "rejected"), [("rejected", &[][..], vec![1])]);
        assert_eq!(of("in_review", "validated"), [("validated", &[][..], vec![1])]);
        for (previous, state) in [("", "draft"), ("rejected", "draft"), ("in_review", "in_review"), ("", "comment")] {
            assert_eq!(of(previous, state), [], "{previous} to {state}");
        }
        let deleted = TestNews { deleted: true, ..noted(&["regression"], test("in_review", "validated")) };
        assert_eq!(told(News::Test(deleted)), []);
    }

    #[test]
    fn a_change_may_be_news_in_several_ways() {
        let worse = noted(&["regression", "something else"], test("in_review", "validated"));
        let worse = TestNews { detection_result: "not_detected".into(), previous_result: "detected".into(), ..worse };
        assert_eq!(
            told(News::Test(worse.clone())),
            [("validated", &[][..], vec![1]), ("regression", LEADS, Vec::new())]
        );
        assert_eq!(
            notices(&News::Test(worse))[1].message,
            "The retest \"Dump LSASS\" (T1003.001) did worse than the one before it: the attack was not detected, \
             before it was detected."
        );
        let mended = noted(&["remediation_assigned", "retest_created"], test("validated", "validated"));
        assert_eq!(
            told(News::Test(mended.clone())),
            [("remediation_assigned", &[][..], vec![2]), ("retest_created", &[][..], vec![1])]
        );
        let nobody = TestNews { creator: None, remediation_assignee: None, ..mended };
        assert_eq!(told(News::Test(nobody)), []);
    }

    #[test]
    fn comments_and_campaigns_have_theirs() {
        let comment = CommentNews {
            name: "Dump LSASS".into(),
            author: "ana".into(),
            concerned: vec![Uuid::from_u128(3), Uuid::from_u128(4)],
        };
        assert_eq!(told(News::Comment(comment.clone())), [("comment", &[][..], vec![3, 4])]);
        assert_eq!(notices(&News::Comment(comment))[0].message, "ana commented on the test \"Dump LSASS\".");
        assert_eq!(told(News::Comment(CommentNews::default())), []);

        let campaign = |change: &str| {
            News::Campaign(CampaignNews {
                name: "APT29".into(),
                change: change.into(),
                created_tests: 12,
                creator: Some(Uuid::from_u128(5)),
            })
        };
        assert_eq!(told(campaign("ran")), [("campaign_run", &[][..], vec![5])]);
        assert_eq!(notices(&campaign("ran"))[0].message, "Your campaign \"APT29\" ran and made 12 tests.");
        assert_eq!(told(campaign("run_failed")), [("campaign_run_failed", LEADS, vec![5])]);
        for change in ["created", "updated", "tests_changed", "generated", "scheduled", "deleted", ""] {
            assert_eq!(told(campaign(change)), [], "{change}");
        }
    }

    #[test]
    fn alerts_go_to_those_who_defend() {
        let alert = |kind: &str, attacker: &str| {
            News::Alert(AlertNews {
                kind: kind.into(),
                attacker: attacker.into(),
                message: "203.0.113.9 logged in to ssh on {name} as \"root\u{1b}\".".into(),
            })
        };
        for kind in ALERTS {
            assert_eq!(told(alert(kind, "203.0.113.9")), [(kind, DEFENDERS, vec![])]);
        }
        assert_eq!(told(alert("something else", "203.0.113.9")), []);
        assert_eq!(told(alert("validated", "203.0.113.9")), []);
        let notice = notices(&alert("credential_works", "203.0.113.9")).remove(0);
        assert_eq!(notice.title, "A credential works on a decoy: 203.0.113.9");
        assert!(notice.message.starts_with("203.0.113.9 logged in to ssh on {name} as \"root"), "{}", notice.message);
        assert!(!notice.message.contains('\u{1b}'));
        assert_eq!(
            notices(&alert("traversal", "")).remove(0).title,
            "An attacker moves between decoys: many attackers"
        );
    }

    #[test]
    fn the_words_name_the_test() {
        let first = |test: TestNews| notices(&News::Test(test)).remove(0);
        let told = first(test("draft", "red_executing"));
        assert_eq!(told.title, "Execution began: Dump LSASS");
        assert_eq!(told.message, "The red side has begun to run your test \"Dump LSASS\" (T1003.001).");
        let odd =
            TestNews { name: "{outcome} of {name".into(), mitre_id: String::new(), ..test("in_review", "rejected") };
        assert_eq!(first(odd).title, "Rejected: {outcome} of {name");
        let good = TestNews { detection_result: "detected".into(), ..test("in_review", "validated") };
        assert!(first(good).message.ends_with("was validated: the attack was detected."));
    }

    #[test]
    fn every_placeholder_is_known_and_every_name_is_there_once() {
        for kind in KINDS {
            for text in [kind.title, kind.message] {
                let names: Vec<_> = text.split('{').skip(1).filter_map(|rest| rest.split('}').next()).collect();
                assert!(names.iter().all(|name| PLACEHOLDERS.contains(name)), "{text}");
            }
            assert_eq!(KINDS.iter().filter(|other| other.name == kind.name).count(), 1);
        }
    }
}
