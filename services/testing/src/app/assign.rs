//! Who is to run a test, to evaluate it and to mend what it showed.
//!
//! An assignee is the id of a user who is let in when it is said. A user may go at any time; whoever shows a test shows
//! the id where the user is gone.

use aegis_auth::OpCtx;
use aegis_error::Failure;
use uuid::Uuid;

use super::{
    App,
    input::{AssignmentEdit, Checker, Set},
    record::{Change, Step, notes},
};
use crate::{domain::workflow::Deed, error::Error, store::test::Test};

/// An assignment, checked.
#[derive(Clone, Debug)]
pub(super) struct Assignment {
    red: Set<Uuid>,
    blue: Set<Uuid>,
    remediation: Set<Uuid>,
}

impl App {
    /// What the request says.
    pub(super) async fn assignment(&self, ctx: &OpCtx, edit: AssignmentEdit) -> Result<Assignment, Failure> {
        let mut check = Checker::of_change(edit.clear, &["red_assignee", "blue_assignee", "remediation_assignee"]);
        let red = check.id_of("red_assignee", edit.red_assignee.as_deref());
        let blue = check.id_of("blue_assignee", edit.blue_assignee.as_deref());
        let remediation = check.id_of("remediation_assignee", edit.remediation_assignee.as_deref());
        let red = check.set("red_assignee", red);
        let blue = check.set("blue_assignee", blue);
        let remediation = check.set("remediation_assignee", remediation);
        if [&red, &blue, &remediation].into_iter().all(|set| *set == Set::Keep) {
            check.wrong("assign", "must name red_assignee, blue_assignee or remediation_assignee");
        }
        let fields = [("red_assignee", &red), ("blue_assignee", &blue), ("remediation_assignee", &remediation)];
        self.check_users(ctx, &mut check, &fields).await?;
        check.finish()?;
        Ok(Assignment { red, blue, remediation })
    }
}

impl Assignment {
    /// What it makes of a test.
    pub fn of_test(&self, before: Test) -> Result<Change, Error> {
        before.state.allows(Deed::Assign)?;
        let mut after = before.clone();
        self.red.clone().put(&mut after.red_assignee);
        self.blue.clone().put(&mut after.blue_assignee);
        self.remediation.clone().put(&mut after.remediation_assignee);
        let notes = remediation_notes(&before, &after);
        Ok(Change { notes, ..Change::new(before, after, Step::new("assignment", "assign_test")) })
    }
}

/// What is noted where somebody else has the remediation now.
pub(super) fn remediation_notes(before: &Test, after: &Test) -> Vec<&'static str> {
    let given = after.remediation_assignee.is_some() && after.remediation_assignee != before.remediation_assignee;
    if given { vec![notes::REMEDIATION_ASSIGNED] } else { Vec::new() }
}
