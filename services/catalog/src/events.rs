//! Events that the catalogue publishes, and those that it takes in.

use std::collections::{BTreeSet, HashMap};

use aegis_auth::OpCtx;
use aegis_db::{Result, Tx};
use aegis_error::Failure;
use aegis_events::{Event, Handler, Outbox, decode, system_actor};
use aegis_proto::events::v1::{Actor, Envelope, KnowledgeChanged, TechniqueFacts, TechniquesChanged, TestChanged};
use async_trait::async_trait;
use chrono::{DateTime, SubsecRound, Utc};
use uuid::Uuid;

use crate::{
    NAME,
    app::{Catalog, statuses},
    domain::{
        knowledge::PROJECTED,
        technique::{Domain, Technique},
    },
    store::{facts::TestFact, tactics},
};

/// Techniques of one event.
const MOST: usize = 500;
/// Routing keys that the catalogue wants to hear of.
pub(crate) const KINDS: &[&str] = &[TestChanged::KIND];

/// Who caused a change.
#[derive(Clone, Copy)]
pub(crate) enum Cause<'a> {
    /// A request.
    Request(&'a OpCtx),
    /// An event, caused by someone.
    Event(&'a Actor),
}

/// A technique as an event shows it.
fn facts(technique: &Technique, deleted: bool, releases: &HashMap<Domain, String>) -> TechniqueFacts {
    TechniqueFacts {
        id: technique.id.to_string(),
        mitre_id: technique.mitre_id.clone(),
        name: technique.name.clone(),
        tactics: technique.tactics.clone(),
        platforms: technique.platforms.clone(),
        is_subtechnique: technique.is_subtechnique,
        domain: technique.domain.as_str().to_owned(),
        status: technique.status().as_str().to_owned(),
        revoked: technique.revoked,
        deprecated: technique.deprecated,
        version: technique.version,
        deleted,
        parent_mitre_id: technique.parent_mitre_id.clone().unwrap_or_default(),
        revoked_by: technique.revoked_by.clone().unwrap_or_default(),
        attack_version: releases.get(&technique.domain).cloned().unwrap_or_default(),
    }
}

/// Publishes techniques after a change, and those that are gone, in as few events as may be.
pub(crate) async fn techniques_changed(
    outbox: &Outbox,
    tx: &mut Tx,
    cause: Cause<'_>,
    changed: &[Technique],
    deleted: &[Technique],
) -> Result<()> {
    if changed.is_empty() && deleted.is_empty() {
        return Ok(());
    }
    let releases = tactics::releases_in(tx).await?;
    let facts = |deleted| {
        let releases = &releases;
        move |technique| facts(technique, deleted, releases)
    };
    let all: Vec<TechniqueFacts> = changed.iter().map(facts(false)).chain(deleted.iter().map(facts(true))).collect();
    for techniques in all.chunks(MOST) {
        // Of many techniques none is the subject.
        let subject = match techniques {
            [one] => one.id.clone(),
            _ => String::new(),
        };
        let event = TechniquesChanged { techniques: techniques.to_vec() };
        match cause {
            Cause::Request(ctx) => outbox.publish(tx, ctx, &subject, &event).await?,
            Cause::Event(actor) => outbox.publish_as(tx, actor.clone(), &subject, &event).await?,
        }
    }
    Ok(())
}

/// Tells in one event that what is known of techniques has changed, of those of `kinds` that others want to know.
pub(crate) async fn knowledge_changed(
    outbox: &Outbox,
    tx: &mut Tx,
    cause: Cause<'_>,
    kinds: &BTreeSet<&'static str>,
) -> Result<()> {
    let kinds: Vec<String> = PROJECTED.into_iter().filter(|kind| kinds.contains(kind)).map(str::to_owned).collect();
    if kinds.is_empty() {
        return Ok(());
    }
    let event = KnowledgeChanged { kinds };
    match cause {
        Cause::Request(ctx) => outbox.publish(tx, ctx, "", &event).await,
        Cause::Event(actor) => outbox.publish_as(tx, actor.clone(), "", &event).await,
    }
}

/// Takes in what happens to tests.
pub(crate) struct Events(pub(crate) Catalog);

#[async_trait]
impl Handler for Events {
    async fn handle(&self, tx: &mut Tx, event: &Envelope) -> std::result::Result<(), Failure> {
        if event.r#type != TestChanged::KIND {
            return Ok(());
        }
        let fact = fact(decode(event)?)?;
        let actor = event.actor.clone().unwrap_or_else(|| system_actor(NAME));
        statuses::take_in(&self.0, tx, fact, &actor).await.map_err(Failure::from)
    }
}

fn fact(test: TestChanged) -> std::result::Result<TestFact, Failure> {
    let test_id = id("test_id", &test.test_id)?;
    Ok(TestFact {
        test_id,
        version: test.version,
        technique_id: id("technique_id", &test.technique_id)?,
        state: test.state,
        detection_result: test.detection_result,
        chain_id: if test.chain_id.is_empty() { test_id } else { id("chain_id", &test.chain_id)? },
        validated_at: test.validated_at.and_then(time),
        deleted: test.deleted,
    })
}

/// An id in a message.
pub(crate) fn id(field: &str, text: &str) -> std::result::Result<Uuid, Failure> {
    Uuid::try_parse(text).map_err(|_| Failure::invalid(field, "must be a UUID"))
}

/// A time in a message, in the microseconds that we keep.
pub(crate) fn time(at: prost_types::Timestamp) -> Option<DateTime<Utc>> {
    let nanos = u32::try_from(at.nanos).ok()?;
    DateTime::from_timestamp(at.seconds, nanos).map(|at| at.trunc_subsecs(6))
}
