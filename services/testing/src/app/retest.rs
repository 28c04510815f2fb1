//! Retests: made after a remediation or by hand, and the chains that they form.

use aegis_auth::OpCtx;
use aegis_db::{Tx, now};
use aegis_error::Failure;
use serde_json::Map;

use super::{
    App,
    create::NewDraft,
    permitted,
    read::id_of,
    record::{Author, entry},
};
use crate::{
    domain::{
        permissions::Operation,
        workflow::{Deed, MAX_RETESTS, regressions},
    },
    error::Error,
    store::{
        test::{self, Test},
        timeline,
    },
};

/// Tests of a chain: the first and its retests.
const MAX_CHAIN: i64 = MAX_RETESTS as i64 + 1;

/// A test and whether it is worse than the validated one before it in its chain.
pub struct ChainLink {
    /// The test.
    pub test: Test,
    /// See [`regressions`].
    pub regression: bool,
}

impl App {
    /// Makes a retest by hand. It belongs to the one who asks.
    pub async fn create_retest(&self, ctx: &OpCtx, test_id: &str) -> Result<Test, Error> {
        let user = permitted(ctx, Operation::Retest)?;
        let id = id_of("test_id", test_id)?;
        let mut tx = self.db.begin().await?;
        test::hold_chains(&mut tx, &[id]).await?;
        let (test, _) = self.held(&mut tx, ctx, user, Operation::Retest, id).await?;
        test.state.allows(Deed::Retest)?;
        let mut draft = NewDraft::again(&test);
        draft.created_by = user.user_id;
        draft.created_by_username.clone_from(&user.username);
        let retest = self.retest(&mut tx, &Author::of(ctx)?, &test, draft).await?.ok_or(Error::ChainFull)?;
        // Whose answer was lost is told this id.
        self.outbox.claim(&mut tx, ctx, &retest.id.to_string()).await?;
        tx.commit().await?;
        Ok(retest)
    }

    /// Makes `draft` a retest of the newest test of the chain that `of` belongs to; the transaction holds the chain.
    /// None where the chain has all that it may have.
    pub(super) async fn retest(
        &self,
        tx: &mut Tx,
        author: &Author,
        of: &Test,
        mut draft: NewDraft,
    ) -> Result<Option<Test>, Error> {
        let chain = test::chain_ids(tx, of.chain_id, MAX_CHAIN).await?;
        // The first may have been deleted since; its place is not for one more retest.
        let retests = chain.iter().filter(|id| **id != of.chain_id).count();
        if retests >= MAX_RETESTS {
            return Ok(None);
        }
        let newest = chain.first().copied().unwrap_or(of.id);
        draft.retest = Some((newest, of.chain_id));
        draft.said.insert("retest_of".to_owned(), newest.to_string().into());
        let mut made = self.insert_drafts(tx, author, vec![draft]).await?;
        let retest = made.pop().ok_or_else(|| Failure::internal("a retest was made and is not there"))?;
        let mut details = Map::new();
        details.insert("action".to_owned(), "create_retest".into());
        details.insert("retest".to_owned(), retest.id.to_string().into());
        timeline::add(tx, &[entry(author, of.id, now(), "retest", details)]).await?;
        Ok(Some(retest))
    }

    /// The chain that a test belongs to, oldest first.
    pub async fn retest_chain(&self, ctx: &OpCtx, test_id: &str) -> Result<Vec<ChainLink>, Error> {
        ctx.user()?;
        let id = id_of("test_id", test_id)?;
        let test = test::get(&self.db, id).await?.ok_or(Error::NoTest(id))?;
        let chain = test::chain(&self.db, test.chain_id, MAX_CHAIN).await?;
        let flags = regressions(chain.iter().map(|test| (test.state, test.detection_result.as_deref())));
        Ok(chain.into_iter().zip(flags).map(|(test, regression)| ChainLink { test, regression }).collect())
    }
}
