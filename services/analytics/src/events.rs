//! Techniques and tests as they come in, by events and by an export of their owners.

use aegis_db::{Tx, now};
use aegis_error::Failure;
use aegis_events::{Event, Handler, decode};
use aegis_proto::{
    analytics::v1::{ProjectedTechnique, ProjectedTest, RebuildProjectionRequest},
    events::v1::{Envelope, TechniqueFacts, TechniquesChanged, TestChanged},
};
use async_trait::async_trait;
use chrono::{DateTime, SubsecRound, Utc};
use uuid::Uuid;

use crate::{
    app::Batch,
    cache::Coverage,
    domain::{
        self, Status, Technique,
        pipeline::{State, TestFact},
    },
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
        match event.r#type.as_str() {
            TechniquesChanged::KIND => {
                let changed: TechniquesChanged = decode(event)?;
                let techniques = changed.techniques.into_iter().map(from_facts).collect::<Result<Vec<_>, _>>()?;
                let at = store::advance(tx, now()).await?;
                store::take_in(tx, &domain::newest(techniques), at).await?;
                self.coverage.renew_on_commit(tx);
            }
            TestChanged::KIND => {
                let fact = from_test(&decode(event)?)?;
                let at = store::advance(tx, now()).await?;
                store::pipeline::take_in(tx, &fact, at).await?;
            }
            other => tracing::debug!(kind = other, "an event that nobody here waits for"),
        }
        Ok(())
    }
}

fn from_test(test: &TestChanged) -> Result<TestFact, Failure> {
    let id = id("tests.id", &test.test_id)?;
    Ok(TestFact { id, version: test.version, state: state(&test.state, test.deleted)?, deleted: test.deleted })
}

/// A part of an export.
pub(crate) fn from_export(part: RebuildProjectionRequest) -> Result<Batch, Failure> {
    Ok(Batch {
        started_at: part.started_at.and_then(moment),
        techniques: part.techniques.into_iter().map(exported_technique).collect::<Result<_, _>>()?,
        tests: part.tests.iter().map(exported_test).collect::<Result<_, _>>()?,
    })
}

/// A test of an export, which has no deleted ones.
fn exported_test(test: &ProjectedTest) -> Result<TestFact, Failure> {
    let id = id("tests.id", &test.id)?;
    Ok(TestFact { id, version: test.version, state: state(&test.state, false)?, deleted: false })
}

fn moment(at: prost_types::Timestamp) -> Option<DateTime<Utc>> {
    DateTime::from_timestamp(at.seconds, u32::try_from(at.nanos).ok()?).map(|at| at.trunc_subsecs(6))
}

fn from_facts(facts: TechniqueFacts) -> Result<Technique, Failure> {
    Ok(Technique {
        id: id("techniques.id", &facts.id)?,
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
fn exported_technique(technique: ProjectedTechnique) -> Result<Technique, Failure> {
    Ok(Technique {
        id: id("techniques.id", &technique.id)?,
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

fn id(field: &str, text: &str) -> Result<Uuid, Failure> {
    text.parse().map_err(|_| Failure::invalid(field, "must be a UUID"))
}

fn state(text: &str, deleted: bool) -> Result<State, Failure> {
    match State::parse(text) {
        Some(state) => Ok(state),
        // Only its id and version matter then.
        None if deleted => Ok(State::Draft),
        None => {
            let names = State::ALL.map(State::as_str).join(", ");
            Err(Failure::invalid("tests.state", format!("must be one of {names}")))
        }
    }
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
