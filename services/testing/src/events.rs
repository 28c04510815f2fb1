//! Events: what others hear of a test, and the evidence that this service hears of.

use aegis_db::{Tx, now};
use aegis_error::Failure;
use aegis_events::{Event, Handler, Outbox, decode};
use aegis_proto::events::v1::{Envelope, EvidenceAdded, EvidenceRemoved, TestChanged};
use async_trait::async_trait;
use chrono::{DateTime, Utc};
use serde_json::{Value, json};
use sqlx::types::Json;
use uuid::Uuid;

use crate::{
    app::campaigns::settle,
    domain::workflow::State,
    rpc::convert::{chrono_of, timestamp, timestamp_of},
    store::{
        self,
        test::Test,
        timeline::{self, Entry},
    },
};

/// The facts of a test after a change from the state `previous`, if it was there before; what the change did besides;
/// and the result that it is worse than, where it is a regression.
pub fn changed(test: &Test, previous: Option<State>, notes: &[&str], previous_result: Option<String>) -> TestChanged {
    TestChanged {
        test_id: test.id.to_string(),
        version: test.version,
        technique_id: test.technique_id.to_string(),
        mitre_id: test.mitre_id.clone(),
        name: test.name.clone(),
        state: test.state.as_str().to_owned(),
        previous_state: previous.map(State::as_str).unwrap_or_default().to_owned(),
        detection_result: test.detection_result.clone().unwrap_or_default(),
        platform: test.platform.clone().unwrap_or_default(),
        created_by: test.created_by.to_string(),
        retest_of: test.retest_of.map(|id| id.to_string()).unwrap_or_default(),
        chain_id: test.chain_id.to_string(),
        created_at: timestamp(test.created_at),
        validated_at: timestamp_of(test.validated_at),
        executed_at: timestamp_of(test.executed_at),
        detected_at: timestamp_of(test.detected_at),
        deleted: false,
        remediation_completed_at: timestamp_of(test.remediation_completed_at),
        remediation_status: test.remediation_status.clone().unwrap_or_default(),
        remediation_assignee: test.remediation_assignee.map(|id| id.to_string()).unwrap_or_default(),
        notes: notes.iter().map(|note| (*note).to_owned()).collect(),
        previous_result: previous_result.unwrap_or_default(),
        updated_at: timestamp(test.updated_at),
        execution_date: timestamp_of(test.execution_date),
        responded_at: timestamp_of(test.responded_at),
        contained_at: timestamp_of(test.contained_at),
        red_validation_status: test.red_validation_status.as_str().to_owned(),
        red_validated_at: timestamp_of(test.red_validated_at),
        blue_validation_status: test.blue_validation_status.as_str().to_owned(),
        blue_validated_at: timestamp_of(test.blue_validated_at),
        red_submitted_at: timestamp_of(test.red_submitted_at),
        blue_submitted_at: timestamp_of(test.blue_submitted_at),
        created_by_username: test.created_by_username.clone(),
        technique_name: test.technique_name.clone(),
        remediation_due_date: timestamp_of(test.remediation_due_date),
        remediation_steps: test.remediation_steps.clone().unwrap_or_default(),
        attack_success: test.attack_success,
    }
}

/// The last facts of a test that was deleted.
pub fn deleted(test: &Test) -> TestChanged {
    TestChanged { version: test.version + 1, deleted: true, ..changed(test, Some(test.state), &[], None) }
}

/// Takes events in: of other services, and of this one's tests for their campaigns.
pub struct Events(pub Outbox);

#[async_trait]
impl Handler for Events {
    async fn handle(&self, tx: &mut Tx, event: &Envelope) -> Result<(), Failure> {
        match event.r#type.as_str() {
            EvidenceAdded::KIND => {
                let added: EvidenceAdded = decode(event)?;
                let details = json!({
                    "action": "add_evidence",
                    "evidence_id": added.evidence_id,
                    "file_name": plain(&added.file_name),
                    "sha256": added.sha256,
                    "size_bytes": added.size_bytes,
                    "team": (!added.team.is_empty()).then_some(added.team),
                });
                evidence(tx, event, &added.test_id, details).await
            }
            EvidenceRemoved::KIND => {
                let removed: EvidenceRemoved = decode(event)?;
                let details = json!({
                    "action": "remove_evidence",
                    "evidence_id": removed.evidence_id,
                    "file_name": plain(&removed.file_name),
                    "sha256": removed.sha256,
                    "reason": plain(&removed.reason),
                });
                evidence(tx, event, &removed.test_id, details).await
            }
            TestChanged::KIND => settle(&self.0, tx, &decode(event)?).await,
            _ => Ok(()),
        }
    }
}

/// JSONB of PostgreSQL has no place for a NUL.
fn plain(text: &str) -> String {
    text.replace('\0', "")
}

async fn evidence(tx: &mut Tx, event: &Envelope, test_id: &str, details: Value) -> Result<(), Failure> {
    let test_id = Uuid::parse_str(test_id).map_err(Failure::internal)?;
    if !store::test::exists(tx, test_id).await? {
        // Deleted since, which takes its timeline along.
        tracing::debug!(%test_id, event = event.r#type, "evidence of a test that does not exist");
        return Ok(());
    }
    let actor = event.actor.clone().unwrap_or_default();
    let at: DateTime<Utc> = event.time.and_then(chrono_of).unwrap_or_else(now);
    let entry = Entry {
        id: Uuid::now_v7(),
        test_id,
        at,
        kind: "evidence".to_owned(),
        actor_id: Uuid::parse_str(&actor.user_id).ok(),
        actor: actor.username,
        details: Json(details),
    };
    timeline::add(tx, &[entry]).await?;
    Ok(())
}
