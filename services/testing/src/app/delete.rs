//! Deleting tests, with their timelines.

use aegis_auth::{OpCtx, Principal, Role};
use aegis_db::Tx;
use uuid::Uuid;

use super::{App, looked_at, permitted, read::id_of, record::Author};
use crate::{
    domain::{
        permissions::Operation,
        workflow::{Deed, StateError},
    },
    error::Error,
    store::test::{self, Test},
};

impl App {
    /// Deletes a test. The audit trail keeps what it was.
    pub async fn delete_test(&self, ctx: &OpCtx, id: &str) -> Result<(), Error> {
        let user = permitted(ctx, Operation::Delete)?;
        let id = id_of("id", id)?;
        let mut tx = self.db.begin().await?;
        let (tests, retests) = held_with_retests(&mut tx, &[id]).await?;
        let test = tests.first().ok_or(Error::NoTest(id))?;
        looked_at(ctx, user, Operation::Delete, test)?;
        deletable(user, test)?;
        self.outbox.claim(&mut tx, ctx, &id.to_string()).await?;
        self.write_deleted(&mut tx, &Author::of(ctx)?, &tests, retests).await?;
        tx.commit().await?;
        Ok(())
    }
}

/// The tests with these ids that there are, and the retests of them that have other ids; held with their chains.
pub(super) async fn held_with_retests(tx: &mut Tx, ids: &[Uuid]) -> Result<(Vec<Test>, Vec<Test>), Error> {
    let mut all = test::hold_chains(tx, ids).await?;
    all.retain(|id| !ids.contains(id));
    all.extend(ids);
    let held = test::get_many_for_update(tx, &all).await?;
    Ok(held.into_iter().partition(|test| ids.contains(&test.id)))
}

/// Whoever made it deletes it in a few states, an administrator in any.
pub(super) fn deletable(user: &Principal, test: &Test) -> Result<(), StateError> {
    if user.role == Role::Admin { Ok(()) } else { test.state.allows(Deed::Delete) }
}
