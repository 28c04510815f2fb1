//! Events: what others hear of a test, and the evidence that this service hears of.

use aegis_db::{Tx, now};
use aegis_error::Failure;
use aegis_events::{Event, Handler, decode};
use aegis_proto::events::v1::{Envelope, EvidenceAdded, TestChanged};
use async_trait::async_trait;
use chrono::{DateTime, Utc};
use serde_json::json;
use sqlx::types::Json;
use uuid::Uuid;

use crate::{
    domain::workflow::State,
    rpc::convert::{chrono_of, timestamp, timestamp_of},
    store::{
        self,
        test::Test,
        timeline::{self, Entry},
    },
};

/// The facts of a test after a change from the state `previous`, if it was there before.
pub fn changed(test: &Test, previous: Option<State>) -> TestChanged {
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
    }
}

/// Takes events of other services in.
pub struct Events;

#[async_trait]
impl Handler for Events {
    async fn handle(&self, tx: &mut Tx, event: &Envelope) -> Result<(), Failure> {
        if event.r#type == EvidenceAdded::KIND {
            evidence_added(tx, event).await?;
        }
        Ok(())
    }
}

async fn evidence_added(tx: &mut Tx, event: &Envelope) -> Result<(), Failure> {
    let added: EvidenceAdded = decode(event)?;
    let test_id = Uuid::parse_str(&added.test_id).map_err(Failure::internal)?;
    if !store::test::exists(tx, test_id).await? {
        tracing::warn!(%test_id, evidence_id = added.evidence_id, "evidence for a test that does not exist");
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
        details: Json(json!({
            "evidence_id": added.evidence_id,
            // JSONB of PostgreSQL has no place for a NUL.
            "file_name": added.file_name.replace('\0', ""),
            "sha256": added.sha256,
            "size_bytes": added.size_bytes,
            "team": (!added.team.is_empty()).then_some(added.team),
        })),
    };
    timeline::add(tx, &entry).await?;
    Ok(())
}
