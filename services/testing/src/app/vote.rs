//! The leads' votes, which end the review.

use aegis_auth::{OpCtx, Role};
use aegis_db::now;

use super::{
    App,
    input::{Ballot, Checker, MAX_NOTES},
    permitted,
    record::{Change, Scope, Step, notes},
};
use crate::{
    domain::{
        permissions::Operation,
        workflow::{DETECTION_RESULTS, Request, Side, Stamp, State, is_worse},
    },
    error::Error,
    store::test::{self, Test},
};

impl App {
    /// Casts a vote, or both for an administrator who votes for the own side. Replaces what the side said before.
    pub async fn cast_vote(&self, ctx: &OpCtx, ballot: Ballot) -> Result<Test, Error> {
        let role = ctx.require(&[Role::RedLead, Role::BlueLead, Role::Admin])?.role;
        let mut check = Checker::default();
        let sides: &[Side] = match (ballot.side.as_str(), role) {
            ("red", _) | ("own", Role::RedLead) => &[Side::Red],
            ("blue", _) | ("own", Role::BlueLead) => &[Side::Blue],
            ("own", _) => &[Side::Red, Side::Blue],
            _ => {
                check.wrong("side", "must be one of red, blue, own");
                &[]
            }
        };
        for side in sides {
            permitted(ctx, (*side).into())?;
        }
        let user = ctx.user()?;
        let id = check.id("id", &ballot.id);
        check.text("notes", ballot.notes.as_deref(), MAX_NOTES);
        check.one_of("result", ballot.result.as_deref(), DETECTION_RESULTS);
        if ballot.result.is_some() && !(ballot.approve && ballot.side == "own") {
            check.wrong("result", "goes only with an approval of the own side");
        }
        check.finish()?;

        let mut tx = self.db.begin().await?;
        // The sides of one ballot are of one kind: whoever may not vote for one of them has left already.
        let asked = sides.first().copied().map_or(Operation::VoteRed, Operation::from);
        let (before, relation) = self.held(&mut tx, ctx, user, asked, id).await?;
        let Ballot { approve, notes, result, .. } = ballot;
        let request = Request::Vote { sides: sides.to_vec(), approve, notes, result };
        let stamp = Stamp { by: user.user_id, at: now() };
        let after = before.with_progress(before.progress().after(&request, stamp)?);
        let said = |step: Step| step.with("from", before.state.as_str()).with("to", after.state.as_str());
        let mut steps: Vec<Step> = sides
            .iter()
            .map(|side| {
                let vote = after.progress().voice(*side).vote;
                let step = said(Step::new("vote", audit_action(*side)))
                    .with("side", side.as_str())
                    .with("vote", vote.as_str());
                let step = if relation.own_work() { step.with("own_test", true) } else { step };
                Step { scope: Scope::Vote(*side), ..step }
            })
            .collect();
        let mut worse_than = None;
        if after.state != before.state {
            let validated = after.state == State::Validated;
            let mut step = said(Step::new("transition", if validated { "validate_test" } else { "reject_test" }));
            if validated {
                worse_than = self.regressed_from(&mut tx, &after).await?;
            }
            if let Some(result) = &worse_than {
                step = step.with("regression_from", result.clone());
            }
            // The votes' lines of the audit trail say it already.
            steps.push(Step { scope: Scope::NoVote, audited: false, ..step });
        }
        let notes = worse_than.iter().map(|_| notes::REGRESSION).collect();
        self.save(tx, ctx, Change { before, after, steps, notes, previous_result: worse_than }).await
    }

    /// The result before this one in the chain, where the test is worse than that.
    async fn regressed_from(&self, tx: &mut aegis_db::Tx, test: &Test) -> Result<Option<String>, Error> {
        let Some(result) = test.detection_result.as_deref().filter(|_| test.chain_id != test.id) else {
            return Ok(None);
        };
        let before = test::result_before(tx, test).await?;
        Ok(before.filter(|before| is_worse(result, before)))
    }
}

fn audit_action(side: Side) -> &'static str {
    match side {
        Side::Red => "vote_red",
        Side::Blue => "vote_blue",
    }
}
