//! What identity takes in: the lines of the audit trail, and changes of tests that somebody is to hear of.

use aegis_db::{Tx, now};
use aegis_error::Failure;
use aegis_events::{Event, Handler, Subscription, decode};
use aegis_proto::events::v1::{AuditRecorded, Envelope, TestChanged};
use async_trait::async_trait;
use chrono::{DateTime, Datelike, SubsecRound, Utc};

use crate::{
    app::{self, Cause, Hub},
    domain::{
        audit::Entry,
        notice::{TestNews, notice},
    },
    store,
};

/// What identity wants to hear of.
pub const SUBSCRIPTION: Subscription =
    Subscription { consumer: crate::NAME, kinds: &[AuditRecorded::KIND, TestChanged::KIND] };

/// Takes events in.
pub(crate) struct Intake {
    hub: Hub,
}

impl Intake {
    /// `hub`: brings new notifications to those who watch.
    pub(crate) fn new(hub: Hub) -> Self {
        Intake { hub }
    }
}

#[async_trait]
impl Handler for Intake {
    async fn handle(&self, tx: &mut Tx, event: &Envelope) -> Result<(), Failure> {
        match event.r#type.as_str() {
            AuditRecorded::KIND => store::audit::append(tx, &entry(event, decode(event)?)?).await?,
            TestChanged::KIND => {
                let test: TestChanged = decode(event)?;
                let cause = Cause {
                    test_id: test.test_id.clone(),
                    creator: test.created_by.parse().ok(),
                    actor: event.actor.as_ref().and_then(|actor| actor.user_id.parse().ok()),
                    at: time(event),
                };
                if let Some(notice) = notice(&news(test)) {
                    app::notify(tx, &self.hub, notice, cause).await?;
                }
            }
            other => tracing::debug!(kind = other, "an event that nobody here waits for"),
        }
        Ok(())
    }
}

fn entry(event: &Envelope, audit: AuditRecorded) -> Result<Entry, Failure> {
    let actor = event.actor.clone().unwrap_or_default();
    let entry = Entry {
        id: event.id.parse().map_err(Failure::internal)?,
        user_id: actor.user_id.parse().ok(),
        username: actor.username,
        action: audit.action,
        entity_type: audit.entity_type,
        entity_id: audit.entity_id,
        at: time(event),
        details: audit.details_json,
        success: audit.success,
        address: actor.address,
        user_agent: actor.user_agent,
        request_id: actor.request_id,
        source: event.source.clone(),
    };
    Ok(entry.bounded())
}

fn news(test: TestChanged) -> TestNews {
    TestNews {
        name: test.name,
        mitre_id: test.mitre_id,
        state: test.state,
        previous_state: test.previous_state,
        detection_result: test.detection_result,
        deleted: test.deleted,
    }
}

/// When it happened, in the microseconds that the databases keep: the chain is over what can be read back.
fn time(event: &Envelope) -> DateTime<Utc> {
    let time = event
        .time
        .as_ref()
        .and_then(|t| DateTime::from_timestamp(t.seconds, u32::try_from(t.nanos).ok()?).map(|at| at.trunc_subsecs(6)));
    // A date that cannot be written down is no date.
    time.filter(|at| (0..=9999).contains(&at.year())).unwrap_or_else(now)
}
