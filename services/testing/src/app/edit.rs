//! Changing the fields of a test.

use aegis_auth::OpCtx;
use aegis_db::now;
use aegis_error::Failure;

use super::{
    App,
    assign::remediation_notes,
    create::NewDraft,
    input::{
        BlueEdit, Checker, MAX_DESCRIPTION, MAX_PROCEDURE, MAX_SUMMARY, MAX_TOOL, RedEdit, RemediationEdit, TestEdit,
    },
    permitted,
    record::{Author, Change, Step},
};
use crate::{
    domain::{
        permissions::Operation,
        workflow::{COMPLETED, DETECTION_RESULTS, Deed, REMEDIATION_STATUSES},
    },
    error::Error,
    store::test::{self, Test},
};

impl App {
    /// Changes what the test is.
    pub async fn update_test(&self, ctx: &OpCtx, edit: TestEdit) -> Result<Test, Error> {
        let user = permitted(ctx, Operation::Edit)?;
        let mut check = Checker::of_change(edit.clear, &["description", "platform", "procedure_text", "tool_used"]);
        let id = check.id("id", &edit.id);
        let name = edit.name.map(|name| check.name(&name));
        check.text("description", edit.description.as_deref(), MAX_DESCRIPTION);
        check.text("procedure_text", edit.procedure_text.as_deref(), MAX_PROCEDURE);
        check.text("tool_used", edit.tool_used.as_deref(), MAX_TOOL);
        let platform = check.platform(edit.platform);
        let description = check.set("description", edit.description);
        let platform = check.set("platform", platform);
        let procedure_text = check.set("procedure_text", edit.procedure_text);
        let tool_used = check.set("tool_used", edit.tool_used);
        check.finish()?;

        let mut tx = self.db.begin().await?;
        let (before, _) = self.held(&mut tx, ctx, user, Operation::Edit, id).await?;
        before.state.allows(Deed::Describe)?;
        let mut after = before.clone();
        if let Some(name) = name {
            after.name = name;
        }
        description.put(&mut after.description);
        platform.put(&mut after.platform);
        procedure_text.put(&mut after.procedure_text);
        tool_used.put(&mut after.tool_used);
        self.save(tx, ctx, Change::new(before, after, Step::new("edit", "update_test"))).await
    }

    /// Changes the red side's fields.
    pub async fn update_red(&self, ctx: &OpCtx, edit: RedEdit) -> Result<Test, Error> {
        let user = permitted(ctx, Operation::EditRed)?;
        let mut check = Checker::of_change(
            edit.clear,
            &["procedure_text", "tool_used", "attack_success", "red_summary", "executed_at"],
        );
        let id = check.id("id", &edit.id);
        check.text("procedure_text", edit.procedure_text.as_deref(), MAX_PROCEDURE);
        check.text("tool_used", edit.tool_used.as_deref(), MAX_TOOL);
        check.text("red_summary", edit.red_summary.as_deref(), MAX_SUMMARY);
        check.time("executed_at", edit.executed_at, now());
        let procedure_text = check.set("procedure_text", edit.procedure_text);
        let tool_used = check.set("tool_used", edit.tool_used);
        let attack_success = check.set("attack_success", edit.attack_success);
        let red_summary = check.set("red_summary", edit.red_summary);
        let executed_at = check.set("executed_at", edit.executed_at);
        check.finish()?;

        let mut tx = self.db.begin().await?;
        let (before, _) = self.held(&mut tx, ctx, user, Operation::EditRed, id).await?;
        before.state.allows(Deed::WriteRed)?;
        let mut after = before.clone();
        procedure_text.put(&mut after.procedure_text);
        tool_used.put(&mut after.tool_used);
        attack_success.put(&mut after.attack_success);
        red_summary.put(&mut after.red_summary);
        executed_at.put_typed(&mut after.executed_at, &mut after.executed_at_source);
        self.save(tx, ctx, Change::new(before, after, Step::new("edit", "update_red"))).await
    }

    /// Changes the blue side's fields.
    pub async fn update_blue(&self, ctx: &OpCtx, edit: BlueEdit) -> Result<Test, Error> {
        let user = permitted(ctx, Operation::EditBlue)?;
        let mut check = Checker::of_change(
            edit.clear,
            &["detection_result", "blue_summary", "detected_at", "responded_at", "contained_at"],
        );
        let at = now();
        let id = check.id("id", &edit.id);
        check.one_of("detection_result", edit.detection_result.as_deref(), DETECTION_RESULTS);
        check.text("blue_summary", edit.blue_summary.as_deref(), MAX_SUMMARY);
        check.time("detected_at", edit.detected_at, at);
        check.time("responded_at", edit.responded_at, at);
        check.time("contained_at", edit.contained_at, at);
        let detection_result = check.set("detection_result", edit.detection_result);
        let blue_summary = check.set("blue_summary", edit.blue_summary);
        let detected_at = check.set("detected_at", edit.detected_at);
        let responded_at = check.set("responded_at", edit.responded_at);
        let contained_at = check.set("contained_at", edit.contained_at);
        check.finish()?;

        let mut tx = self.db.begin().await?;
        let (before, _) = self.held(&mut tx, ctx, user, Operation::EditBlue, id).await?;
        before.state.allows(Deed::WriteBlue)?;
        let mut after = before.clone();
        detection_result.put(&mut after.detection_result);
        blue_summary.put(&mut after.blue_summary);
        detected_at.put_typed(&mut after.detected_at, &mut after.detected_at_source);
        responded_at.put_typed(&mut after.responded_at, &mut after.responded_at_source);
        contained_at.put_typed(&mut after.contained_at, &mut after.contained_at_source);
        self.save(tx, ctx, Change::new(before, after, Step::new("edit", "update_blue"))).await
    }

    /// Changes the remediation, in any state. Where that completes it, a test that was not fully detected is to be
    /// tested again: the second of the answer is the draft for that.
    pub async fn update_remediation(&self, ctx: &OpCtx, edit: RemediationEdit) -> Result<(Test, Option<Test>), Error> {
        let user = permitted(ctx, Operation::EditRemediation)?;
        let mut check = Checker::of_change(
            edit.clear,
            &["remediation_steps", "remediation_status", "remediation_assignee", "remediation_due_date"],
        );
        let id = check.id("id", &edit.id);
        check.text("remediation_steps", edit.remediation_steps.as_deref(), MAX_SUMMARY);
        check.one_of("remediation_status", edit.remediation_status.as_deref(), REMEDIATION_STATUSES);
        let assignee = check.id_of("remediation_assignee", edit.remediation_assignee.as_deref());
        check.due("remediation_due_date", edit.remediation_due_date);
        let completes = edit.remediation_status.as_deref() == Some(COMPLETED);
        let steps = check.set("remediation_steps", edit.remediation_steps);
        let status = check.set("remediation_status", edit.remediation_status);
        let assignee = check.set("remediation_assignee", assignee);
        let due = check.set("remediation_due_date", edit.remediation_due_date);
        self.check_users(ctx, &mut check, &[("remediation_assignee", &assignee)]).await?;
        check.finish()?;

        let mut tx = self.db.begin().await?;
        if completes {
            // Before the test itself, as everyone does who may add to its chain.
            test::hold_chains(&mut tx, &[id]).await?;
        }
        let (before, _) = self.held(&mut tx, ctx, user, Operation::EditRemediation, id).await?;
        before.state.allows(Deed::Remedy)?;
        let mut after = before.clone();
        steps.put(&mut after.remediation_steps);
        status.put(&mut after.remediation_status);
        assignee.put(&mut after.remediation_assignee);
        due.put(&mut after.remediation_due_date);
        after.remediation_completed_at = match after.remediation_status.as_deref() {
            Some(COMPLETED) => before.remediation_completed_at.or_else(|| Some(now())),
            _ => None,
        };
        let completed = completes && before.remediation_status.as_deref() != Some(COMPLETED);
        let notes = remediation_notes(&before, &after);
        let change = Change { notes, ..Change::new(before, after, Step::new("edit", "update_remediation")) };
        if !(completed && change.after.progress().calls_for_retest()) {
            return Ok((self.save(tx, ctx, change).await?, None));
        }
        self.outbox.claim(&mut tx, ctx, &edit.id).await?;
        let author = Author::of(ctx)?;
        // It stays with the one whose test it was: whoever mends something has not become its tester.
        let draft = NewDraft::again(&change.before);
        let tests = self.write_changes(&mut tx, &author, vec![change]).await?;
        let test = tests.into_iter().next().ok_or_else(|| Failure::internal("a change without a test"))?;
        let retest = self.retest(&mut tx, &author, &test, draft).await?;
        tx.commit().await?;
        Ok((test, retest))
    }
}
