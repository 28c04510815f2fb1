//! Changing many tests at once: all of them, or none.

use std::collections::{HashMap, HashSet};

use aegis_auth::{OpCtx, Principal};
use aegis_db::{Tx, now};
use aegis_error::{Code, Failure, Fields};
use uuid::Uuid;

use super::{
    App,
    assign::Assignment,
    delete::{deletable, held_with_retests},
    input::Checker,
    looked_at,
    moves::step_of,
    permitted,
    record::{Author, Change},
};
use crate::{
    domain::{
        permissions::Operation,
        workflow::{Move, Stamp},
    },
    error::Error,
    store::test::{self, Test, text_bytes},
};

/// Tests of one request.
const MAX_TESTS: usize = 500;
/// Tests that a refusal names; their number it tells.
const MAX_NAMED: usize = 20;
/// Text that an answer holds at most, so that it fits into a message.
const ANSWER_BYTES: usize = 8 * 1024 * 1024;

/// What is to be done to each of the tests.
#[derive(Clone, Debug)]
pub enum BulkChange {
    /// Say who is to do what.
    Assign(super::input::AssignmentEdit),
    /// Move it; the name of the move.
    Move(String),
    /// Delete it.
    Delete,
    /// Nothing was said.
    Missing,
}

/// What came of it.
pub struct Changed {
    /// The tests as they are now, in the order that they were asked for, as far as they fit into a message; none after
    /// a deletion.
    pub tests: Vec<Test>,
    /// How many are another now.
    pub changed: usize,
}

/// The change, checked.
enum Plan {
    Assign(Assignment),
    Move(Move),
    Delete,
}

impl App {
    /// Changes up to 500 tests, each as if it were asked for alone.
    pub async fn change_tests(&self, ctx: &OpCtx, ids: &[String], change: BulkChange) -> Result<Changed, Error> {
        ctx.user()?;
        let plan = match change {
            BulkChange::Assign(edit) => {
                // Before it is asked who there is.
                permitted(ctx, Operation::Assign)?;
                Plan::Assign(self.assignment(ctx, edit).await?)
            }
            BulkChange::Move(name) => Plan::Move(step_of("move", &name)?),
            BulkChange::Delete => Plan::Delete,
            BulkChange::Missing => return Err(Failure::invalid("change", "must be one of assign, move, delete").into()),
        };
        let operation = match &plan {
            Plan::Assign(_) => Operation::Assign,
            Plan::Move(step) => (*step).into(),
            Plan::Delete => Operation::Delete,
        };
        let user = permitted(ctx, operation)?;
        let ids = checked(ids)?;

        let mut tx = self.db.begin().await?;
        let (tests, retests) = match &plan {
            Plan::Delete => held_with_retests(&mut tx, &ids).await?,
            _ => (test::get_many_for_update(&mut tx, &ids).await?, Vec::new()),
        };
        let mut found: HashMap<Uuid, Test> = tests.into_iter().map(|test| (test.id, test)).collect();
        let stamp = Stamp { by: user.user_id, at: now() };
        let mut refusals = Refusals::default();
        let mut changes = Vec::with_capacity(ids.len());
        for (n, id) in ids.iter().enumerate() {
            let change = match found.remove(id) {
                Some(test) => self.planned(ctx, user, operation, &plan, test, stamp),
                None => Err(Error::NoTest(*id)),
            };
            match change {
                Ok(change) => changes.push(change),
                Err(error) => refusals.add(n, *id, error.into()),
            }
        }
        refusals.finish()?;
        let entity = ids.first().map(Uuid::to_string).unwrap_or_default();
        self.outbox.claim(&mut tx, ctx, &entity).await?;
        let author = Author::of(ctx)?;
        let answer = match plan {
            Plan::Delete => {
                let tests: Vec<Test> = changes.into_iter().map(|change| change.before).collect();
                self.write_deleted(&mut tx, &author, &tests, retests).await?;
                Changed { tests: Vec::new(), changed: tests.len() }
            }
            Plan::Assign(_) | Plan::Move(_) => self.change_all(&mut tx, &author, changes).await?,
        };
        tx.commit().await?;
        Ok(answer)
    }

    /// What becomes of one of the tests, or why nothing may.
    fn planned(
        &self,
        ctx: &OpCtx,
        user: &Principal,
        operation: Operation,
        plan: &Plan,
        test: Test,
        stamp: Stamp,
    ) -> Result<Change, Error> {
        looked_at(ctx, user, operation, &test)?;
        match plan {
            Plan::Assign(assignment) => assignment.of_test(test),
            Plan::Move(step) => self.moved(test, *step, stamp),
            Plan::Delete => {
                deletable(user, &test)?;
                Ok(Change {
                    after: test.clone(),
                    before: test,
                    steps: Vec::new(),
                    notes: Vec::new(),
                    previous_result: None,
                })
            }
        }
    }

    async fn change_all(&self, tx: &mut Tx, author: &Author, changes: Vec<Change>) -> Result<Changed, Error> {
        let changed = changes.iter().filter(|change| change.after != change.before).count();
        let mut tests = self.write_changes(tx, author, changes).await?;
        let mut bytes = 0;
        let fit = tests.iter().take_while(|test| {
            bytes += text_bytes(test);
            bytes <= ANSWER_BYTES
        });
        let fit = fit.count();
        tests.truncate(fit);
        Ok(Changed { tests, changed })
    }
}

/// The ids, each once.
fn checked(texts: &[String]) -> Result<Vec<Uuid>, Failure> {
    if !(1..=MAX_TESTS).contains(&texts.len()) {
        return Err(Failure::invalid("ids", format!("must be 1 to {MAX_TESTS} tests, not {}", texts.len())));
    }
    let mut check = Checker::default();
    let mut seen = HashSet::with_capacity(texts.len());
    let mut named = 0;
    let mut ids = Vec::with_capacity(texts.len());
    for (n, text) in texts.iter().enumerate() {
        let problem = match Uuid::try_parse(text) {
            Ok(id) if seen.insert(id) => {
                ids.push(id);
                continue;
            }
            Ok(id) => format!("{id} is there twice"),
            Err(_) => "must be a UUID".to_owned(),
        };
        named += 1;
        if named <= MAX_NAMED {
            check.wrong(&place(n), problem);
        }
    }
    check.finish()?;
    Ok(ids)
}

fn place(n: usize) -> String {
    format!("ids[{n}]")
}

/// Why tests cannot be changed, each named.
#[derive(Default)]
struct Refusals {
    of: Vec<(usize, Uuid, Failure)>,
}

impl Refusals {
    fn add(&mut self, n: usize, id: Uuid, failure: Failure) {
        self.of.push((n, id, failure));
    }

    /// Fails when anything was refused: with the code of the first, what it says besides, and the tests' names.
    fn finish(self) -> Result<(), Failure> {
        let Some((.., first)) = self.of.first() else { return Ok(()) };
        let code = first.code();
        let besides = ["current_state", "target_state", "valid_transitions", "version"];
        let besides: Vec<_> = besides.into_iter().filter_map(|key| Some((key, first.get(key)?.to_owned()))).collect();
        let retry_after = first.retry_after();
        if code == Code::Internal {
            return self.of.into_iter().next().map_or(Ok(()), |(.., failure)| Err(failure));
        }
        let more = self.of.len().saturating_sub(MAX_NAMED);
        let mut fields = Fields::default();
        for (n, id, failure) in self.of.into_iter().take(MAX_NAMED) {
            fields.add(place(n), format!("{id}: {}", failure.message()));
        }
        if more > 0 {
            fields.add("ids", format!("and {more} more"));
        }
        let failure =
            besides.into_iter().fold(fields.into_failure(code), |failure, (key, text)| failure.with(key, text));
        Err(match retry_after {
            Some(after) => failure.with_retry_after(after),
            None => failure,
        })
    }
}
