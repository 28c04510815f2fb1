//! Which message has which routing key, and who caused it.

use aegis_auth::{OpCtx, Role};
use aegis_error::Failure;
use aegis_proto::events::v1::{
    Actor, AlertRaised, AuditRecorded, CampaignChanged, Envelope, EvidenceAdded, EvidenceRemoved, FleetChanged,
    KnowledgeChanged, SyncFinished, TechniquesChanged, TechniquesObserved, TestChanged, TestCommented,
};
use prost::Message;

/// A message that travels as an event.
pub trait Event: Message + Default {
    /// Its routing key: `<service>.<entity>.<what happened>`.
    const KIND: &'static str;
}

impl Event for AuditRecorded {
    const KIND: &'static str = "audit.recorded";
}
impl Event for TestChanged {
    const KIND: &'static str = "testing.test.changed";
}
impl Event for TestCommented {
    const KIND: &'static str = "testing.test.commented";
}
impl Event for CampaignChanged {
    const KIND: &'static str = "testing.campaign.changed";
}
impl Event for TechniquesChanged {
    const KIND: &'static str = "catalog.techniques.changed";
}
impl Event for KnowledgeChanged {
    const KIND: &'static str = "catalog.knowledge.changed";
}
impl Event for EvidenceAdded {
    const KIND: &'static str = "evidence.file.added";
}
impl Event for EvidenceRemoved {
    const KIND: &'static str = "evidence.file.removed";
}
impl Event for SyncFinished {
    const KIND: &'static str = "intel.sync.finished";
}
impl Event for TechniquesObserved {
    const KIND: &'static str = "deception.techniques.observed";
}
impl Event for AlertRaised {
    const KIND: &'static str = "deception.alert.raised";
}
impl Event for FleetChanged {
    const KIND: &'static str = "deception.fleet.changed";
}

/// The message inside an envelope.
pub fn decode<E: Event>(envelope: &Envelope) -> Result<E, Failure> {
    E::decode(envelope.data.as_slice()).map_err(Failure::internal)
}

/// Background work of a service as the one who caused something.
pub fn system_actor(service: &str) -> Actor {
    Actor { username: format!("system:{service}"), role: Role::Service.to_string(), ..Actor::default() }
}

/// The caller as the one who caused something. For what is written after the request is over; else pass the context.
pub fn actor(ctx: &OpCtx) -> Actor {
    let origin = ctx.origin();
    let mut actor = Actor {
        address: origin.address.clone(),
        user_agent: origin.user_agent.clone(),
        request_id: origin.request_id.clone(),
        ..Actor::default()
    };
    if let Some(principal) = ctx.anyone() {
        if !principal.user_id.is_nil() {
            actor.user_id = principal.user_id.to_string();
        }
        actor.username = principal.username.clone();
        actor.role = principal.role.to_string();
    }
    actor
}
