//! The leads' votes, which end the review.

use aegis_auth::{OpCtx, Role};
use aegis_db::now;
use chrono::{DateTime, Utc};
use uuid::Uuid;

use super::{
    App,
    input::{Ballot, Checker, MAX_NOTES},
    permitted,
    record::{Scope, Step},
};
use crate::{
    domain::{
        permissions::Operation,
        workflow::{Action, DETECTION_RESULTS, Side, State, Vote, apply, decided},
    },
    error::Error,
    store::test::Test,
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
            permitted(ctx, operation(*side))?;
        }
        let user = ctx.user()?;
        let id = check.id("id", &ballot.id);
        check.text("notes", ballot.notes.as_deref(), MAX_NOTES);
        check.one_of("result", ballot.result.as_deref(), DETECTION_RESULTS);
        if ballot.result.is_some() && !(ballot.approve && ballot.side == "own") {
            check.wrong("result", "goes only with an approval of the own side");
        }
        check.finish()?;

        let (vote, end) = match ballot.approve {
            true => (Vote::Approved, Action::Approve),
            false => (Vote::Rejected, Action::Reject),
        };
        let mut tx = self.db.begin().await?;
        // The sides of one ballot are of one kind: whoever may not vote for one of them has left already.
        let asked = sides.first().copied().map_or(Operation::VoteRed, operation);
        let (before, relation) = self.held(&mut tx, ctx, user, asked, id).await?;
        // A vote is cast where it could end the review.
        apply(before.state, end)?;
        let mut after = before.clone();
        let at = now();
        for side in sides {
            cast(&mut after, *side, vote, ballot.notes.clone(), user.user_id, at);
        }
        if ballot.result.is_some() {
            after.detection_result = ballot.result;
        }
        if let Some(end) = decided(after.red_validation_status, after.blue_validation_status) {
            after.state = apply(before.state, end)?;
            if after.state == State::Validated {
                after.validated_at = Some(at);
            }
        }
        let mut steps: Vec<Step> = sides
            .iter()
            .map(|side| {
                let step = Step::new("vote", audit_action(*side))
                    .with("side", side.as_str())
                    .with("vote", vote.as_str())
                    .with("from", before.state.as_str())
                    .with("to", after.state.as_str());
                let step = if relation.own_work() { step.with("own_test", true) } else { step };
                Step { scope: Scope::Vote(*side), ..step }
            })
            .collect();
        if after.state != before.state {
            let action = if after.state == State::Validated { "validate_test" } else { "reject_test" };
            let step =
                Step::new("transition", action).with("from", before.state.as_str()).with("to", after.state.as_str());
            // The votes' lines of the audit trail say it already.
            steps.push(Step { scope: Scope::NoVote, audited: false, ..step });
        }
        self.save(tx, ctx, user, &before, after, steps).await
    }
}

fn operation(side: Side) -> Operation {
    match side {
        Side::Red => Operation::VoteRed,
        Side::Blue => Operation::VoteBlue,
    }
}

fn audit_action(side: Side) -> &'static str {
    match side {
        Side::Red => "vote_red",
        Side::Blue => "vote_blue",
    }
}

fn cast(test: &mut Test, side: Side, vote: Vote, notes: Option<String>, by: Uuid, at: DateTime<Utc>) {
    let (status, its_notes, its_by, its_at) = match side {
        Side::Red => (
            &mut test.red_validation_status,
            &mut test.red_validation_notes,
            &mut test.red_validated_by,
            &mut test.red_validated_at,
        ),
        Side::Blue => (
            &mut test.blue_validation_status,
            &mut test.blue_validation_notes,
            &mut test.blue_validated_by,
            &mut test.blue_validated_at,
        ),
    };
    *status = vote;
    *its_notes = notes;
    *its_by = Some(by);
    *its_at = Some(at);
}
