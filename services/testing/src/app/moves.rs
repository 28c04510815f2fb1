//! Moving a test along its workflow.

use aegis_auth::OpCtx;
use aegis_db::now;
use aegis_error::{Failure, Fields};

use super::{App, input::Checker, permitted, record::Step};
use crate::{
    domain::{
        permissions::Operation,
        workflow::{Action, Vote, apply},
    },
    error::Error,
    store::test::Test,
};

impl App {
    /// start_execution, submit_red, submit_blue or reopen.
    pub async fn move_test(&self, ctx: &OpCtx, id: &str, name: &str) -> Result<Test, Error> {
        ctx.user()?;
        let (action, operation, audit) = match name {
            "start_execution" => (Action::StartExecution, Operation::StartExecution, "start_execution"),
            "submit_red" => (Action::SubmitRed, Operation::SubmitRed, "submit_red"),
            "submit_blue" => (Action::SubmitBlue, Operation::SubmitBlue, "submit_blue"),
            "reopen" => (Action::Reopen, Operation::Reopen, "reopen_test"),
            _ => {
                let problem = "must be one of start_execution, submit_red, submit_blue, reopen";
                return Err(Failure::invalid("action", problem).into());
            }
        };
        let user = permitted(ctx, operation)?;
        let mut check = Checker::default();
        let id = check.id("id", id);
        check.finish()?;

        let mut tx = self.db.begin().await?;
        let (before, _) = self.held(&mut tx, ctx, user, operation, id).await?;
        let mut after = before.clone();
        after.state = apply(before.state, action)?;
        if self.config.require_results {
            results_are_there(&before, action)?;
        }
        match action {
            Action::StartExecution => {
                after.execution_date = Some(now());
                after.executed_by = Some(user.user_id);
            }
            Action::Reopen => clear_votes(&mut after),
            _ => {}
        }
        let step = Step::new("transition", audit).with("from", before.state.as_str()).with("to", after.state.as_str());
        self.save(tx, ctx, user, &before, after, vec![step]).await
    }
}

/// What a side has to have written down before it hands over.
fn results_are_there(test: &Test, action: Action) -> Result<(), Failure> {
    let mut missing = Fields::default();
    let written = |text: &Option<String>| text.as_deref().is_some_and(|text| !text.trim().is_empty());
    match action {
        Action::SubmitRed => {
            missing.check(test.attack_success.is_some(), "attack_success", "is needed before submit-red");
            missing.check(written(&test.red_summary), "red_summary", "is needed before submit-red");
        }
        Action::SubmitBlue => {
            missing.check(test.detection_result.is_some(), "detection_result", "is needed before submit-blue");
            missing.check(written(&test.blue_summary), "blue_summary", "is needed before submit-blue");
        }
        _ => {}
    }
    missing.finish()
}

fn clear_votes(test: &mut Test) {
    test.red_validation_status = Vote::Pending;
    test.red_validation_notes = None;
    test.red_validated_by = None;
    test.red_validated_at = None;
    test.blue_validation_status = Vote::Pending;
    test.blue_validation_notes = None;
    test.blue_validated_by = None;
    test.blue_validated_at = None;
    test.validated_at = None;
}
