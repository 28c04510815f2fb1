//! What identity takes in: the lines of the audit trail, and what happens to tests and campaigns and on decoys that
//! somebody is to hear of.

use aegis_db::{Tx, now};
use aegis_error::Failure;
use aegis_events::{Event, Handler, Subscription, Taken, decode};
use aegis_proto::events::v1::{AlertRaised, AuditRecorded, CampaignChanged, Envelope, TestChanged, TestCommented};
use async_trait::async_trait;
use chrono::{DateTime, Datelike, SubsecRound, Utc};
use uuid::Uuid;

use crate::{
    app::{self, Cause, Hub},
    domain::{
        audit::Entry,
        notice::{AlertNews, CampaignNews, CommentNews, News, TestNews, notices},
    },
    store,
};

/// What identity wants to hear of.
pub const SUBSCRIPTION: Subscription = Subscription {
    consumer: crate::NAME,
    kinds: &[AuditRecorded::KIND, TestChanged::KIND, TestCommented::KIND, CampaignChanged::KIND, AlertRaised::KIND],
};

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
        self.append(tx, &[event]).await?;
        self.tell(tx, &[event]).await
    }

    async fn handle_all(&self, tx: &mut Tx, events: &[Taken<'_>]) -> Result<(), Failure> {
        let (records, news): (Vec<_>, Vec<_>) = events.iter().partition(|taken| is_record(taken.event));
        Taken::together(&records, self.append(tx, &events_of(&records))).await?;
        Taken::together(&news, self.tell(tx, &events_of(&news))).await
    }
}

impl Intake {
    /// Puts what is a record at the end of the audit trail.
    async fn append(&self, tx: &mut Tx, events: &[&Envelope]) -> Result<(), Failure> {
        let records = events.iter().filter(|event| is_record(event));
        let entries = records.map(|event| entry(event, decode(event)?)).collect::<Result<Vec<_>, _>>()?;
        Ok(store::audit::append(tx, &entries).await?)
    }

    /// Gives what is news to those whose business it is.
    async fn tell(&self, tx: &mut Tx, events: &[&Envelope]) -> Result<(), Failure> {
        let mut told = Vec::new();
        for event in events {
            if let Some((entity_type, entity_id, news)) = news(event)? {
                let actor = event.actor.as_ref().and_then(|actor| person(&actor.user_id));
                told.push((notices(&news), Cause { entity_type, entity_id, actor, at: time(event) }));
            }
        }
        Ok(app::notify(tx, &self.hub, told).await?)
    }
}

fn events_of<'a>(taken: &[&Taken<'a>]) -> Vec<&'a Envelope> {
    taken.iter().map(|taken| taken.event).collect()
}

fn is_record(event: &Envelope) -> bool {
    event.r#type == AuditRecorded::KIND
}

/// What an event says that somebody may want to hear, and of which entity.
fn news(event: &Envelope) -> Result<Option<(&'static str, String, News)>, Failure> {
    Ok(match event.r#type.as_str() {
        TestChanged::KIND => {
            let test: TestChanged = decode(event)?;
            Some(("test", test.test_id.clone(), of_test(test)))
        }
        TestCommented::KIND => {
            let comment: TestCommented = decode(event)?;
            Some(("test", comment.test_id.clone(), of_comment(event, comment)))
        }
        CampaignChanged::KIND => {
            let campaign: CampaignChanged = decode(event)?;
            Some(("campaign", campaign.campaign_id.clone(), of_campaign(campaign)))
        }
        AlertRaised::KIND => {
            let alert: AlertRaised = decode(event)?;
            Some(("alert", alert.alert_id.clone(), of_alert(alert)))
        }
        _ => None,
    })
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

fn of_test(test: TestChanged) -> News {
    News::Test(TestNews {
        name: test.name,
        mitre_id: test.mitre_id,
        state: test.state,
        previous_state: test.previous_state,
        detection_result: test.detection_result,
        previous_result: test.previous_result,
        notes: test.notes,
        deleted: test.deleted,
        creator: person(&test.created_by),
        remediation_assignee: person(&test.remediation_assignee),
    })
}

fn of_comment(event: &Envelope, comment: TestCommented) -> News {
    News::Comment(CommentNews {
        name: comment.name,
        author: event.actor.as_ref().map(|actor| actor.username.clone()).unwrap_or_default(),
        concerned: comment.concerned.iter().filter_map(|id| person(id)).collect(),
    })
}

fn of_campaign(campaign: CampaignChanged) -> News {
    News::Campaign(CampaignNews {
        name: campaign.name,
        change: campaign.change,
        created_tests: campaign.created_tests,
        creator: person(&campaign.created_by),
    })
}

fn of_alert(alert: AlertRaised) -> News {
    News::Alert(AlertNews { kind: alert.kind, attacker: alert.attacker_ip, message: alert.message })
}

/// A user, or nobody: neither is the nil UUID of background work.
fn person(id: &str) -> Option<Uuid> {
    id.parse().ok().filter(|id: &Uuid| !id.is_nil())
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
