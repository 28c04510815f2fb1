//! Techniques as they come in, by events and by an export of the catalogue.

use aegis_db::{Tx, now};
use aegis_error::Failure;
use aegis_events::{Handler, decode};
use aegis_proto::{
    analytics::v1::ProjectedTechnique,
    events::v1::{Envelope, TechniqueFacts, TechniquesChanged},
};
use async_trait::async_trait;
use uuid::Uuid;

use crate::{
    cache::Coverage,
    domain::{self, Status, Technique},
    store,
};

/// Keeps the projection as events say.
pub(crate) struct Projector {
    coverage: Coverage,
}

impl Projector {
    pub(crate) fn new(coverage: Coverage) -> Self {
        Projector { coverage }
    }
}

#[async_trait]
impl Handler for Projector {
    async fn handle(&self, tx: &mut Tx, event: &Envelope) -> Result<(), Failure> {
        let changed: TechniquesChanged = decode(event)?;
        let techniques = changed.techniques.into_iter().map(from_facts).collect::<Result<Vec<_>, _>>()?;
        store::take_in(tx, &domain::newest(techniques), now()).await?;
        self.coverage.renew_on_commit(tx);
        Ok(())
    }
}

fn from_facts(facts: TechniqueFacts) -> Result<Technique, Failure> {
    Ok(Technique {
        id: id(&facts.id)?,
        status: status(&facts.status, facts.deleted)?,
        mitre_id: facts.mitre_id,
        name: facts.name,
        active: !(facts.revoked || facts.deprecated || facts.deleted),
        deleted: facts.deleted,
        platforms: facts.platforms,
        tactics: facts.tactics.into_iter().collect(),
        version: facts.version,
    })
}

/// A technique of an export, which has no deleted ones.
pub(crate) fn from_export(technique: ProjectedTechnique) -> Result<Technique, Failure> {
    Ok(Technique {
        id: id(&technique.id)?,
        status: status(&technique.status, false)?,
        mitre_id: technique.mitre_id,
        name: technique.name,
        active: technique.active,
        deleted: false,
        platforms: technique.platforms,
        tactics: technique.tactics.into_iter().collect(),
        version: technique.version,
    })
}

fn id(text: &str) -> Result<Uuid, Failure> {
    text.parse().map_err(|_| Failure::invalid("techniques.id", "must be a UUID"))
}

fn status(text: &str, deleted: bool) -> Result<Status, Failure> {
    match Status::parse(text) {
        Some(status) => Ok(status),
        // Only its id and version matter then.
        None if deleted => Ok(Status::NotEvaluated),
        None => {
            let names = Status::ALL.map(Status::as_str).join(", ");
            Err(Failure::invalid("techniques.status", format!("must be one of {names}")))
        }
    }
}
