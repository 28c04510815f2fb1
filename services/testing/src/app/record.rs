//! Writing a change down: the row, the timeline, the event and the audit trail, in one transaction.

use aegis_auth::OpCtx;
use aegis_db::{Tx, now};
use aegis_error::Failure;
use aegis_events::Audit;
use aegis_proto::events::v1::{Actor, TestChanged};
use chrono::{DateTime, SecondsFormat, Utc};
use serde_json::{Map, Value, json};
use sqlx::types::Json;
use uuid::Uuid;

use super::App;
use crate::{
    NAME,
    domain::workflow::Side,
    error::Error,
    events,
    store::{
        test::{self, Test},
        timeline::{self, Entry},
    },
};

/// Longest value of a field in the details of a change, characters.
const CLIP: usize = 2_000;

/// What an event notes about a change, for notifications.
pub(super) mod notes {
    /// The remediation has somebody else to do it now.
    pub const REMEDIATION_ASSIGNED: &str = "remediation_assigned";
    /// Worse than the validated one before it in its chain.
    pub const REGRESSION: &str = "regression";
    /// The test is a new retest.
    pub const RETEST_CREATED: &str = "retest_created";
}

/// Who did something, as the timeline and events name it.
#[derive(Clone, Debug)]
pub struct Author {
    /// None for background work.
    pub id: Option<Uuid>,
    /// Username, or the service's name.
    pub username: String,
    /// The same for events.
    pub actor: Actor,
}

impl Author {
    /// The caller.
    pub fn of(ctx: &OpCtx) -> Result<Self, Failure> {
        let user = ctx.user()?;
        let id = (!user.user_id.is_nil()).then_some(user.user_id);
        Ok(Author { id, username: user.username.clone(), actor: aegis_events::actor(ctx) })
    }

    /// The service itself, in its background work.
    pub fn system() -> Self {
        let actor = aegis_events::system_actor(NAME);
        Author { id: None, username: actor.username.clone(), actor }
    }
}

/// A test that was changed, and what is to be said of that.
pub(super) struct Change {
    /// As it was read.
    pub before: Test,
    /// As it is to be; version and time of the change come with the writing.
    pub after: Test,
    /// What happened.
    pub steps: Vec<Step>,
    /// See [`notes`].
    pub notes: Vec<&'static str>,
    /// Result of the test that a regression is worse than.
    pub previous_result: Option<String>,
}

impl Change {
    /// A change of one step.
    pub fn new(before: Test, after: Test, step: Step) -> Self {
        Change { before, after, steps: vec![step], notes: Vec::new(), previous_result: None }
    }
}

/// One line of what a change did.
pub(super) struct Step {
    /// Kind of the timeline's entry.
    pub kind: &'static str,
    /// Action in the audit trail; also in the entry's details.
    pub action: &'static str,
    /// Which of the changed fields it is about.
    pub scope: Scope,
    /// What there is to say besides the changed fields.
    pub extra: Map<String, Value>,
    /// Whether it is a line of the audit trail too.
    pub audited: bool,
}

/// A part of the fields.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Scope {
    /// All.
    All,
    /// A side's vote, and the result that came with it.
    Vote(Side),
    /// All that is no vote.
    NoVote,
}

impl Step {
    /// A step about all changed fields.
    pub fn new(kind: &'static str, action: &'static str) -> Self {
        Step { kind, action, scope: Scope::All, extra: Map::new(), audited: true }
    }

    /// Adds something to say.
    pub fn with(mut self, key: &str, value: impl Into<Value>) -> Self {
        self.extra.insert(key.to_owned(), value.into());
        self
    }
}

impl App {
    /// Writes one changed test and commits. Where nothing changed there is nothing to write.
    pub(super) async fn save(&self, mut tx: Tx, ctx: &OpCtx, change: Change) -> Result<Test, Error> {
        if change.after == change.before {
            tx.rollback().await?;
            return Ok(change.after);
        }
        self.outbox.claim(&mut tx, ctx, &change.after.id.to_string()).await?;
        let mut after = self.write_changes(&mut tx, &Author::of(ctx)?, vec![change]).await?;
        tx.commit().await?;
        after.pop().ok_or_else(|| Failure::internal("a change without a test").into())
    }

    /// Writes changed tests into the transaction, which holds them, and answers them as they are now; those that did
    /// not change stay as they are. The caller has claimed the request's conditions.
    pub(super) async fn write_changes(
        &self,
        tx: &mut Tx,
        author: &Author,
        changes: Vec<Change>,
    ) -> Result<Vec<Test>, Error> {
        let at = now();
        let mut record = Record::default();
        let mut tests = Vec::with_capacity(changes.len());
        for Change { before, mut after, steps, notes, previous_result } in changes {
            if after == before {
                tests.push(after);
                continue;
            }
            after.version = before.version + 1;
            after.updated_at = at;
            // Each has other values, so each is a statement; a conflict undoes all.
            if !test::update(tx, &before, &after).await? {
                return Err(Error::Raced);
            }
            for step in steps {
                record.step(author, Some(&before), &after, step);
            }
            let event = events::changed(&after, Some(before.state), &notes, previous_result);
            record.events.push((after.id.to_string(), event));
            self.forget_on_commit(tx, after.technique_id);
            tests.push(after);
        }
        self.write_record(tx, author, record).await?;
        Ok(tests)
    }

    /// Writes new tests into the transaction. The caller has claimed the request's conditions.
    pub(super) async fn write_new(
        &self,
        tx: &mut Tx,
        author: &Author,
        tests: &[Test],
        steps: Vec<Step>,
        notes: &[&'static str],
    ) -> Result<(), Error> {
        test::insert(tx, tests).await?;
        let mut record = Record::default();
        for (test, step) in tests.iter().zip(steps) {
            record.step(author, None, test, step);
            record.events.push((test.id.to_string(), events::changed(test, None, notes, None)));
            self.forget_on_commit(tx, test.technique_id);
        }
        self.write_record(tx, author, record).await
    }

    /// Removes tests, and says what they were; their `retests` are told which test is before them now. The transaction
    /// holds all of them and their chains. The caller has claimed the request's conditions.
    pub(super) async fn write_deleted(
        &self,
        tx: &mut Tx,
        author: &Author,
        tests: &[Test],
        retests: Vec<Test>,
    ) -> Result<(), Error> {
        let before_it = |id: Uuid| tests.iter().find(|test| test.id == id).map(|test| test.retest_of);
        let moved_up = |retest: Test| {
            let mut after = retest.clone();
            while let Some(next) = after.retest_of.and_then(before_it) {
                after.retest_of = next;
            }
            Change::new(retest, after, Step::new("edit", "retested_test_deleted"))
        };
        self.write_changes(tx, author, retests.into_iter().map(moved_up).collect()).await?;
        test::delete(tx, tests).await?;
        let mut record = Record::default();
        for test in tests {
            let (_, was) = changes(None, test, Scope::All);
            let mut details = Map::new();
            details.insert("before".to_owned(), was.into());
            record.audit("delete_test", test, &details);
            record.events.push((test.id.to_string(), events::deleted(test)));
            self.forget_on_commit(tx, test.technique_id);
        }
        self.write_record(tx, author, record).await
    }

    fn forget_on_commit(&self, tx: &mut Tx, technique: Uuid) {
        let hot = self.hot.clone();
        tx.on_commit(move || hot.changed(technique));
    }

    async fn write_record(&self, tx: &mut Tx, author: &Author, record: Record) -> Result<(), Error> {
        timeline::add(tx, &record.entries).await?;
        let audits = record.audits.iter().map(|(action, id, details)| Audit {
            action,
            entity_type: "test",
            entity_id: id.to_string(),
            details: details.clone(),
        });
        self.outbox.audit_all_as(tx, &author.actor, audits.collect()).await?;
        self.outbox.publish_all_as(tx, &author.actor, &record.events).await?;
        Ok(())
    }
}

/// What is to be written besides the rows of tests.
#[derive(Default)]
struct Record {
    entries: Vec<Entry>,
    audits: Vec<(&'static str, Uuid, Value)>,
    events: Vec<(String, TestChanged)>,
}

impl Record {
    fn step(&mut self, author: &Author, before: Option<&Test>, after: &Test, step: Step) {
        let mut details = step.extra;
        let (old, new) = changes(before, after, step.scope);
        if before.is_some() {
            details.insert("before".to_owned(), old.into());
        }
        details.insert("after".to_owned(), new.into());
        if step.audited {
            self.audit(step.action, after, &details);
        }
        details.insert("action".to_owned(), step.action.into());
        self.entries.push(entry(author, after.id, after.updated_at, step.kind, details));
    }

    fn audit(&mut self, action: &'static str, test: &Test, details: &Map<String, Value>) {
        self.audits.push((action, test.id, with_names(details, test)));
    }
}

/// An entry of a timeline.
pub(super) fn entry(
    author: &Author,
    test_id: Uuid,
    at: DateTime<Utc>,
    kind: &str,
    details: Map<String, Value>,
) -> Entry {
    Entry {
        id: Uuid::now_v7(),
        test_id,
        at,
        kind: kind.to_owned(),
        actor_id: author.id,
        actor: author.username.clone(),
        details: Json(Value::Object(details)),
    }
}

/// Adds what a reader of the audit trail knows a test by.
pub(super) fn with_names(details: &Map<String, Value>, test: &Test) -> Value {
    let mut named = Map::new();
    named.insert("name".to_owned(), test.name.clone().into());
    named.insert("mitre_id".to_owned(), test.mitre_id.clone().into());
    named.extend(details.clone());
    Value::Object(named)
}

/// The fields that differ, as they were and as they are. Of a new test: those that have a value.
fn changes(before: Option<&Test>, after: &Test, scope: Scope) -> (Map<String, Value>, Map<String, Value>) {
    let (mut old, mut new) = (Map::new(), Map::new());
    let mut was = before.map(fields).into_iter().flatten();
    for (name, value) in fields(after) {
        let before = was.next().map_or(Value::Null, |(_, value)| value);
        if before == value || !scope.has(name) {
            continue;
        }
        old.insert(name.to_owned(), clipped(before));
        new.insert(name.to_owned(), clipped(value));
    }
    (old, new)
}

impl Scope {
    fn has(self, field: &str) -> bool {
        let of = |side: Side| field.strip_prefix(side.as_str()).is_some_and(|rest| rest.starts_with("_validat"));
        match self {
            Scope::All => true,
            Scope::Vote(side) => of(side) || field == "detection_result",
            Scope::NoVote => !of(Side::Red) && !of(Side::Blue) && field != "detection_result",
        }
    }
}

/// All that a change can touch, in one order.
fn fields(test: &Test) -> [(&'static str, Value); 40] {
    let id = |id: Option<Uuid>| id.map(|id| id.to_string());
    let time = |at: Option<DateTime<Utc>>| at.map(|at| at.to_rfc3339_opts(SecondsFormat::Micros, true));
    [
        ("name", json!(test.name)),
        ("description", json!(test.description)),
        ("platform", json!(test.platform)),
        ("procedure_text", json!(test.procedure_text)),
        ("tool_used", json!(test.tool_used)),
        ("state", json!(test.state.as_str())),
        ("execution_date", json!(time(test.execution_date))),
        ("executed_by", json!(id(test.executed_by))),
        ("red_submitted_at", json!(time(test.red_submitted_at))),
        ("blue_submitted_at", json!(time(test.blue_submitted_at))),
        ("attack_success", json!(test.attack_success)),
        ("red_summary", json!(test.red_summary)),
        ("executed_at", json!(time(test.executed_at))),
        ("executed_at_source", json!(test.executed_at_source)),
        ("detection_result", json!(test.detection_result)),
        ("blue_summary", json!(test.blue_summary)),
        ("detected_at", json!(time(test.detected_at))),
        ("detected_at_source", json!(test.detected_at_source)),
        ("responded_at", json!(time(test.responded_at))),
        ("responded_at_source", json!(test.responded_at_source)),
        ("contained_at", json!(time(test.contained_at))),
        ("contained_at_source", json!(test.contained_at_source)),
        ("red_validation_status", json!(test.red_validation_status.as_str())),
        ("red_validation_notes", json!(test.red_validation_notes)),
        ("red_validated_by", json!(id(test.red_validated_by))),
        ("red_validated_at", json!(time(test.red_validated_at))),
        ("blue_validation_status", json!(test.blue_validation_status.as_str())),
        ("blue_validation_notes", json!(test.blue_validation_notes)),
        ("blue_validated_by", json!(id(test.blue_validated_by))),
        ("blue_validated_at", json!(time(test.blue_validated_at))),
        ("validated_at", json!(time(test.validated_at))),
        ("remediation_steps", json!(test.remediation_steps)),
        ("remediation_status", json!(test.remediation_status)),
        ("remediation_assignee", json!(id(test.remediation_assignee))),
        ("remediation_completed_at", json!(time(test.remediation_completed_at))),
        ("remediation_due_date", json!(time(test.remediation_due_date))),
        ("red_assignee", json!(id(test.red_assignee))),
        ("blue_assignee", json!(id(test.blue_assignee))),
        ("retest_of", json!(id(test.retest_of))),
        ("template_id", json!(id(test.template_id))),
    ]
}

pub(super) fn clipped(value: Value) -> Value {
    match value {
        Value::String(text) => match text.char_indices().nth(CLIP) {
            Some((end, _)) => Value::String(format!("{}…", &text[..end])),
            None => Value::String(text),
        },
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_texts_are_clipped_between_characters() {
        assert_eq!(clipped(json!("ü".repeat(CLIP))), json!("ü".repeat(CLIP)));
        assert_eq!(clipped(json!("ü".repeat(CLIP + 1))), json!(format!("{}…", "ü".repeat(CLIP))));
        assert_eq!(clipped(json!(true)), json!(true));
    }

    #[test]
    fn a_vote_is_about_its_side_alone() {
        let red = Scope::Vote(Side::Red);
        assert!(red.has("red_validation_notes") && red.has("red_validated_by") && red.has("detection_result"));
        assert!(!red.has("blue_validation_notes") && !red.has("red_summary") && !red.has("state"));
        assert!(Scope::NoVote.has("state") && Scope::NoVote.has("validated_at"));
        assert!(!Scope::NoVote.has("blue_validated_at"));
    }
}
