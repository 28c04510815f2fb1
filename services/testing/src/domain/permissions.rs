//! Who may do what to a test, as a table.

use aegis_auth::Role;

use super::workflow::{Move, Side};

/// Something that not everybody may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Operation {
    /// Make a test.
    Create,
    /// Change what the test is.
    Edit,
    /// Begin the attack.
    StartExecution,
    /// Write down the attack.
    EditRed,
    /// Hand over to the blue side.
    SubmitRed,
    /// Write down what was seen.
    EditBlue,
    /// Hand over to the leads.
    SubmitBlue,
    /// Vote for the red side.
    VoteRed,
    /// Vote for the blue side.
    VoteBlue,
    /// Take a rejected test up again.
    Reopen,
    /// Change the remediation.
    EditRemediation,
    /// Say who is to do what.
    Assign,
    /// Say something about it.
    Comment,
    /// Make a retest.
    Retest,
    /// Delete it.
    Delete,
    /// Read everything, for a projection.
    Export,
}

/// What the one who asks has to do with the test.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Relation {
    /// Made it.
    pub creator: bool,
    /// Ran it.
    pub executor: bool,
    /// Has to mend what it showed.
    pub assignee: bool,
}

/// What a role alone decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Yes.
    Allowed,
    /// It depends on the test.
    Depends,
    /// No.
    Refused,
}

/// One line of the table.
#[derive(Clone, Copy, Debug)]
pub struct Rule {
    /// Who may, whatever the test.
    pub roles: &'static [Role],
    /// The test's creator may as well.
    pub creator: bool,
    /// The assignee of the remediation may as well.
    pub assignee: bool,
    /// Leads may not when the test is their own work.
    pub impartial: bool,
}

impl From<Move> for Operation {
    fn from(step: Move) -> Self {
        match step {
            Move::StartExecution => Operation::StartExecution,
            Move::SubmitRed => Operation::SubmitRed,
            Move::SubmitBlue => Operation::SubmitBlue,
            Move::Reopen => Operation::Reopen,
        }
    }
}

impl From<Side> for Operation {
    fn from(side: Side) -> Self {
        match side {
            Side::Red => Operation::VoteRed,
            Side::Blue => Operation::VoteBlue,
        }
    }
}

use Role::{Admin, BlueLead, BlueTech, RedLead, RedTech, Service};

const fn roles(roles: &'static [Role]) -> Rule {
    Rule { roles, creator: false, assignee: false, impartial: false }
}

impl Operation {
    /// The table.
    pub const fn rule(self) -> Rule {
        match self {
            Operation::Create => roles(&[RedTech, Admin]),
            Operation::Edit => Rule { creator: true, ..roles(&[Admin]) },
            Operation::StartExecution | Operation::EditRed | Operation::SubmitRed => roles(&[RedTech, RedLead, Admin]),
            Operation::EditBlue | Operation::SubmitBlue => roles(&[BlueTech, BlueLead, Admin]),
            Operation::VoteRed => Rule { impartial: true, ..roles(&[RedLead, Admin]) },
            Operation::VoteBlue => Rule { impartial: true, ..roles(&[BlueLead, Admin]) },
            Operation::Reopen => Rule { creator: true, ..roles(&[RedLead, BlueLead, Admin]) },
            Operation::EditRemediation => Rule { assignee: true, ..roles(&[RedLead, BlueLead, BlueTech, Admin]) },
            Operation::Assign => Rule { creator: true, ..roles(&[RedLead, BlueLead, Admin]) },
            Operation::Comment => roles(&[RedTech, BlueTech, RedLead, BlueLead, Admin]),
            Operation::Retest => roles(&[RedTech, RedLead, BlueLead, Admin]),
            Operation::Delete => Rule { creator: true, ..roles(&[Admin]) },
            Operation::Export => roles(&[Admin, Service]),
        }
    }

    /// What the role alone decides. Viewers change nothing, whoever made or was given the test.
    pub fn by_role(self, role: Role) -> Verdict {
        let rule = self.rule();
        if rule.roles.contains(&role) {
            return Verdict::Allowed;
        }
        let outsider = matches!(role, Role::Viewer | Role::Service);
        if (rule.creator || rule.assignee) && !outsider { Verdict::Depends } else { Verdict::Refused }
    }

    /// Whether someone of this role may do it to a test that they have this to do with.
    pub fn allowed(self, role: Role, relation: Relation) -> bool {
        let rule = self.rule();
        match self.by_role(role) {
            Verdict::Allowed => !(rule.impartial && role != Admin && relation.own_work()),
            Verdict::Depends => (rule.creator && relation.creator) || (rule.assignee && relation.assignee),
            Verdict::Refused => false,
        }
    }

    /// What someone is told whom the test itself keeps out.
    pub fn refusal(self) -> &'static str {
        match self {
            Operation::Edit => "only its creator and administrators may change this test",
            Operation::Reopen => "only its creator, leads and administrators may reopen this test",
            Operation::EditRemediation => {
                "only leads, blue technicians, the assignee and administrators may change the remediation of this test"
            }
            Operation::Assign => "only its creator, leads and administrators may assign this test",
            Operation::Delete => "only its creator and administrators may delete this test",
            Operation::VoteRed | Operation::VoteBlue => {
                "you created or ran this test: another lead or an administrator has to validate it"
            }
            _ => "you may not do this to this test",
        }
    }
}

impl Relation {
    /// Whether the test is their own work.
    pub fn own_work(self) -> bool {
        self.creator || self.executor
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OPERATIONS: [Operation; 16] = [
        Operation::Create,
        Operation::Edit,
        Operation::StartExecution,
        Operation::EditRed,
        Operation::SubmitRed,
        Operation::EditBlue,
        Operation::SubmitBlue,
        Operation::VoteRed,
        Operation::VoteBlue,
        Operation::Reopen,
        Operation::EditRemediation,
        Operation::Assign,
        Operation::Comment,
        Operation::Retest,
        Operation::Delete,
        Operation::Export,
    ];

    /// `y` yes, `c` the creator, `a` the assignee, `-` no; columns as in `Role::PEOPLE`, then the service.
    const TABLE: [&str; 16] = [
        // admin red_tech blue_tech red_lead blue_lead viewer service
        "yy-----", // create
        "ycccc--", // edit
        "yy-y---", // start_execution
        "yy-y---", // red fields
        "yy-y---", // submit_red
        "y-y-y--", // blue fields
        "y-y-y--", // submit_blue
        "y--y---", // vote red
        "y---y--", // vote blue
        "yccyy--", // reopen
        "yayyy--", // remediation
        "yccyy--", // assign
        "yyyyy--", // comment
        "yy-yy--", // retest
        "ycccc--", // delete
        "y-----y", // export
    ];

    #[test]
    fn every_operation_by_every_role_is_as_the_table_says() {
        let columns = Role::PEOPLE.into_iter().chain([Role::Service]);
        for (operation, row) in OPERATIONS.into_iter().zip(TABLE) {
            for (role, cell) in columns.clone().zip(row.chars()) {
                for bits in 0..8u8 {
                    let relation =
                        Relation { creator: bits & 1 != 0, executor: bits & 2 != 0, assignee: bits & 4 != 0 };
                    let voting = matches!(operation, Operation::VoteRed | Operation::VoteBlue);
                    let expected = match cell {
                        'y' => !(voting && role != Role::Admin && (relation.creator || relation.executor)),
                        'c' => relation.creator,
                        'a' => relation.assignee,
                        _ => false,
                    };
                    assert_eq!(
                        operation.allowed(role, relation),
                        expected,
                        "{operation:?} by {role} with {relation:?}"
                    );
                    if operation.by_role(role) == Verdict::Refused {
                        assert!(!expected, "{operation:?} by {role} is refused too early");
                    }
                }
            }
        }
    }
}
