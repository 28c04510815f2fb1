//! Moving a test along its workflow.

use aegis_auth::OpCtx;
use aegis_db::now;
use aegis_error::{Failure, Fields};

use super::{
    App,
    input::Checker,
    permitted,
    record::{Change, Step},
};
use crate::{
    domain::workflow::{Move, Request, Stamp},
    error::Error,
    store::test::Test,
};

impl App {
    /// start_execution, submit_red, submit_blue or reopen.
    pub async fn move_test(&self, ctx: &OpCtx, id: &str, name: &str) -> Result<Test, Error> {
        ctx.user()?;
        let step = step_of("action", name)?;
        let user = permitted(ctx, step.into())?;
        let mut check = Checker::default();
        let id = check.id("id", id);
        check.finish()?;

        let mut tx = self.db.begin().await?;
        let (before, _) = self.held(&mut tx, ctx, user, step.into(), id).await?;
        let change = self.moved(before, step, Stamp { by: user.user_id, at: now() })?;
        self.save(tx, ctx, change).await
    }

    /// What the move makes of a test.
    pub(super) fn moved(&self, before: Test, step: Move, stamp: Stamp) -> Result<Change, Error> {
        let progress = before.progress().after(&Request::Move(step), stamp)?;
        if self.config.require_results {
            let mut missing = Fields::default();
            for field in step.missing(before.written()) {
                missing.add(field, format!("is needed before {}", step.as_str().replace('_', "-")));
            }
            missing.finish()?;
        }
        let after = before.with_progress(progress);
        let said = Step::new("transition", audit_action(step))
            .with("from", before.state.as_str())
            .with("to", after.state.as_str());
        Ok(Change::new(before, after, said))
    }
}

/// The move of that name.
pub(super) fn step_of(field: &str, name: &str) -> Result<Move, Failure> {
    Move::ALL.into_iter().find(|step| step.as_str() == name).ok_or_else(|| {
        let names = Move::ALL.map(Move::as_str).join(", ");
        Failure::invalid(field, format!("must be one of {names}"))
    })
}

fn audit_action(step: Move) -> &'static str {
    match step {
        Move::Reopen => "reopen_test",
        other => other.as_str(),
    }
}
