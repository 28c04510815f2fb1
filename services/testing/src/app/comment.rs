//! Comments on a test: lines of its timeline that somebody wrote.

use aegis_auth::OpCtx;
use aegis_db::now;
use aegis_events::Audit;
use aegis_proto::events::v1::TestCommented;
use serde_json::{Map, Value};
use uuid::Uuid;

use super::{
    App,
    input::{Checker, MAX_COMMENT},
    permitted,
    record::{Author, clipped, entry, with_names},
};
use crate::{
    domain::permissions::Operation,
    error::Error,
    store::{
        test::Test,
        timeline::{self, Entry},
    },
};

impl App {
    /// Says something about a test, in any state. The test stays as it is.
    pub async fn add_comment(&self, ctx: &OpCtx, test_id: &str, text: &str) -> Result<Entry, Error> {
        let user = permitted(ctx, Operation::Comment)?;
        let mut check = Checker::default();
        let id = check.id("test_id", test_id);
        let text = text.trim();
        check.full_text("text", text, MAX_COMMENT);
        check.finish()?;

        let mut tx = self.db.begin().await?;
        // Held, so that nobody deletes it meanwhile.
        let (test, _) = self.held(&mut tx, ctx, user, Operation::Comment, id).await?;
        let author = Author::of(ctx)?;
        let mut details = Map::new();
        details.insert("text".to_owned(), text.into());
        let mut audited = details.clone();
        details.insert("action".to_owned(), "comment_test".into());
        let entry = entry(&author, id, now(), "comment", details);
        timeline::add(&mut tx, std::slice::from_ref(&entry)).await?;
        audited.insert("entry_id".to_owned(), entry.id.to_string().into());
        audited.insert("text".to_owned(), clipped(Value::String(text.to_owned())));
        let audit = Audit {
            action: "comment_test",
            entity_type: "test",
            entity_id: id.to_string(),
            details: with_names(&audited, &test),
        };
        self.outbox.audit(&mut tx, ctx, audit).await?;
        let event = TestCommented {
            test_id: id.to_string(),
            name: test.name.clone(),
            entry_id: entry.id.to_string(),
            concerned: concerned(&test, author.id).iter().map(Uuid::to_string).collect(),
        };
        self.outbox.publish(&mut tx, ctx, &event.test_id, &event).await?;
        tx.commit().await?;
        Ok(entry)
    }
}

/// Everyone who has to do with a test, each once, but for `author`.
fn concerned(test: &Test, author: Option<Uuid>) -> Vec<Uuid> {
    let mut all = Vec::with_capacity(5);
    let others = [test.executed_by, test.red_assignee, test.blue_assignee, test.remediation_assignee];
    for id in [Some(test.created_by)].into_iter().chain(others).flatten() {
        if Some(id) != author && !all.contains(&id) {
            all.push(id);
        }
    }
    all
}
