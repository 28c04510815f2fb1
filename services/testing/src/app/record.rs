//! Writing a change down: the row, the timeline, the event and the audit trail, in one transaction.

use aegis_auth::{OpCtx, Principal};
use aegis_db::{Tx, now};
use aegis_events::Audit;
use chrono::{DateTime, SecondsFormat, Utc};
use serde_json::{Map, Value, json};
use sqlx::types::Json;
use uuid::Uuid;

use super::App;
use crate::{
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
    /// Writes a new test and commits.
    pub(super) async fn save_new(
        &self,
        mut tx: Tx,
        ctx: &OpCtx,
        user: &Principal,
        test: Test,
        step: Step,
    ) -> Result<Test, Error> {
        test::insert(&mut tx, &test).await?;
        self.write_step(&mut tx, ctx, user, None, &test, step).await?;
        self.outbox.publish(&mut tx, ctx, &test.id.to_string(), &events::changed(&test, None)).await?;
        self.commit(tx, test.technique_id).await?;
        Ok(test)
    }

    /// Writes a changed test and commits. Where nothing changed there is nothing to write.
    pub(super) async fn save(
        &self,
        mut tx: Tx,
        ctx: &OpCtx,
        user: &Principal,
        before: &Test,
        mut after: Test,
        steps: Vec<Step>,
    ) -> Result<Test, Error> {
        if after == *before {
            tx.rollback().await?;
            return Ok(after);
        }
        after.version = before.version + 1;
        after.updated_at = now();
        if !test::update(&mut tx, before.version, &after).await? {
            return Err(Error::Raced);
        }
        for step in steps {
            self.write_step(&mut tx, ctx, user, Some(before), &after, step).await?;
        }
        let event = events::changed(&after, Some(before.state));
        self.outbox.publish(&mut tx, ctx, &after.id.to_string(), &event).await?;
        self.commit(tx, after.technique_id).await?;
        Ok(after)
    }

    async fn commit(&self, mut tx: Tx, technique: Uuid) -> Result<(), Error> {
        let hot = self.hot.clone();
        tx.on_commit(move || hot.changed(technique));
        tx.commit().await?;
        Ok(())
    }

    async fn write_step(
        &self,
        tx: &mut Tx,
        ctx: &OpCtx,
        user: &Principal,
        before: Option<&Test>,
        after: &Test,
        step: Step,
    ) -> Result<(), Error> {
        let mut details = step.extra;
        let (old, new) = changes(before, after, step.scope);
        if before.is_some() {
            details.insert("before".to_owned(), old.into());
        }
        details.insert("after".to_owned(), new.into());
        if step.audited {
            let audit = Audit {
                action: step.action,
                entity_type: "test",
                entity_id: after.id.to_string(),
                details: with_names(&details, after),
            };
            self.outbox.audit(tx, ctx, audit).await?;
        }
        details.insert("action".to_owned(), step.action.into());
        let entry = Entry {
            id: Uuid::now_v7(),
            test_id: after.id,
            at: after.updated_at,
            kind: step.kind.to_owned(),
            actor_id: (!user.user_id.is_nil()).then_some(user.user_id),
            actor: user.username.clone(),
            details: Json(Value::Object(details)),
        };
        timeline::add(tx, &entry).await?;
        Ok(())
    }
}

/// Adds what a reader of the audit trail knows a test by.
fn with_names(details: &Map<String, Value>, test: &Test) -> Value {
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
fn fields(test: &Test) -> [(&'static str, Value); 34] {
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
        ("template_id", json!(id(test.template_id))),
    ]
}

fn clipped(value: Value) -> Value {
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
