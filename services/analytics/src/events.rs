//! Techniques, tests and what is known of techniques as events bring them in.

use std::collections::BTreeSet;

use aegis_db::{Tx, now};
use aegis_error::Failure;
use aegis_events::{Event, Handler, Taken, decode};
use aegis_proto::events::v1::{
    Envelope, KnowledgeChanged, ObservedFacts, TechniqueFacts, TechniquesChanged, TechniquesObserved, TestChanged,
};
use async_trait::async_trait;
use chrono::{DateTime, Utc};
use uuid::Uuid;

use crate::{
    cache::Coverage,
    domain::{self, Status, Technique, observed::Observed, pipeline::State, test::Test},
    pull::Pulls,
    rpc::chrono_of,
    store,
};

/// Keeps the projection as events say.
pub(crate) struct Projector {
    coverage: Coverage,
    pulls: Pulls,
}

impl Projector {
    pub(crate) fn new(coverage: Coverage, pulls: Pulls) -> Self {
        Projector { coverage, pulls }
    }
}

#[async_trait]
impl Handler for Projector {
    async fn handle(&self, tx: &mut Tx, event: &Envelope) -> Result<(), Failure> {
        match event.r#type.as_str() {
            TechniquesChanged::KIND => {
                let changed: TechniquesChanged = decode(event)?;
                let known = changed.techniques.into_iter().filter(knows_technique);
                let techniques = known.map(technique).collect::<Result<Vec<_>, _>>()?;
                let at = store::advance(tx, now()).await?;
                store::techniques::take_in(tx, &domain::newest(techniques), at).await?;
                self.coverage.renew_on_commit(tx);
            }
            TestChanged::KIND => self.take_tests(tx, &[event]).await?,
            KnowledgeChanged::KIND => {
                let changed: KnowledgeChanged = decode(event)?;
                // Kinds that are not kept here are no fault: a newer catalogue may know more.
                let kinds: BTreeSet<String> = changed.kinds.into_iter().collect();
                store::knowledge::mark(tx, &kinds).await?;
                self.pulls.wake_on_commit(tx);
            }
            TechniquesObserved::KIND => {
                let observed: TechniquesObserved = decode(event)?;
                let observed: Vec<Observed> = observed.techniques.into_iter().map(observation).collect();
                store::advance(tx, now()).await?;
                store::observed::take_in(tx, &observed).await?;
                self.coverage.renew_on_commit(tx);
            }
            other => tracing::debug!(kind = other, "an event that nobody here waits for"),
        }
        Ok(())
    }

    async fn handle_all(&self, tx: &mut Tx, events: &[Taken<'_>]) -> Result<(), Failure> {
        let is_test = |taken: &Taken<'_>| taken.event.r#type == TestChanged::KIND;
        for run in events.chunk_by(|one, next| is_test(one) && is_test(next)) {
            let together: Vec<&Taken<'_>> = run.iter().collect();
            let some: Vec<&Envelope> = run.iter().map(|taken| taken.event).collect();
            let work = async {
                match some.as_slice() {
                    [event] => self.handle(tx, event).await,
                    tests => self.take_tests(tx, tests).await,
                }
            };
            Taken::together(&together, work).await?;
        }
        Ok(())
    }
}

impl Projector {
    /// Takes in what these events say of tests.
    pub(crate) async fn take_tests(&self, tx: &mut Tx, events: &[&Envelope]) -> Result<(), Failure> {
        let mut tests = Vec::new();
        for event in events {
            let facts: TestChanged = decode(event)?;
            if knows_test(&facts) {
                tests.push(test(facts)?);
            }
        }
        if !tests.is_empty() {
            let at = store::advance(tx, now()).await?;
            store::tests::take_in(tx, &tests, at).await?;
            self.coverage.renew_on_commit(tx);
        }
        Ok(())
    }
}

/// Whether this version knows the status of a technique. Of others it keeps what it has of them.
pub(crate) fn knows_technique(facts: &TechniqueFacts) -> bool {
    let known = facts.deleted || Status::parse(&facts.status).is_some();
    if !known {
        unknown("techniques", &facts.id, &facts.status);
    }
    known
}

/// Whether this version knows the state of a test. Of others it keeps what it has of them.
pub(crate) fn knows_test(facts: &TestChanged) -> bool {
    let known = facts.deleted || State::parse(&facts.state).is_some();
    if !known {
        unknown("tests", &facts.test_id, &facts.state);
    }
    known
}

/// Says that something was left as it was: what a newer version has thought of is no fault of whoever tells of it. It is
/// known from the next rebuild of a version that knows it.
fn unknown(what: &'static str, id: &str, value: &str) {
    tracing::warn!(what, id, value, "a state of the future is left alone; `aegis rebuild analytics` after the update");
}

/// A technique as an event, or an export made into one, tells of it.
pub(crate) fn technique(facts: TechniqueFacts) -> Result<Technique, Failure> {
    let mut seen = BTreeSet::new();
    let tactics: Vec<String> = facts.tactics.into_iter().filter(|tactic| seen.insert(tactic.clone())).collect();
    let platforms: BTreeSet<String> =
        facts.platforms.iter().filter_map(|platform| domain::heads::platform_name(platform)).collect();
    Ok(Technique {
        id: id("techniques.id", &facts.id)?,
        status: status(&facts.status, facts.deleted)?,
        mitre_id: facts.mitre_id,
        name: facts.name,
        active: !(facts.revoked || facts.deprecated || facts.deleted),
        deleted: facts.deleted,
        platforms: platforms.into_iter().collect(),
        tactics,
        domain: match facts.domain.is_empty() {
            true => "enterprise".to_owned(),
            false => facts.domain,
        },
        parent_mitre_id: given(facts.parent_mitre_id),
        revoked_by: given(facts.revoked_by),
        version: facts.version,
    })
}

/// A technique that attackers showed, as an event, or an export made into one, tells of it.
pub(crate) fn observation(facts: ObservedFacts) -> Observed {
    Observed {
        mitre_id: facts.mitre_id.into(),
        count: facts.count,
        attackers: facts.attackers,
        first_seen: facts.first_seen.and_then(chrono_of),
        last_seen: facts.last_seen.and_then(chrono_of),
        version: facts.version,
    }
}

/// A test as an event, or an export made into one, tells of it.
pub(crate) fn test(facts: TestChanged) -> Result<Test, Failure> {
    let at = |at: Option<prost_types::Timestamp>| -> Option<DateTime<Utc>> { at.and_then(chrono_of) };
    Ok(Test {
        id: id("tests.id", &facts.test_id)?,
        version: facts.version,
        state: state(&facts.state, facts.deleted)?,
        deleted: facts.deleted,
        technique_id: maybe_id("tests.technique_id", &facts.technique_id)?,
        mitre_id: given(facts.mitre_id),
        technique_name: given(facts.technique_name),
        name: given(facts.name),
        platform: given(facts.platform),
        detection_result: given(facts.detection_result),
        attack_success: facts.attack_success,
        created_by: maybe_id("tests.created_by", &facts.created_by)?,
        created_by_username: given(facts.created_by_username),
        retest_of: maybe_id("tests.retest_of", &facts.retest_of)?,
        chain_id: maybe_id("tests.chain_id", &facts.chain_id)?,
        created_at: at(facts.created_at),
        updated_at: at(facts.updated_at),
        execution_date: at(facts.execution_date),
        executed_at: at(facts.executed_at),
        detected_at: at(facts.detected_at),
        responded_at: at(facts.responded_at),
        contained_at: at(facts.contained_at),
        red_submitted_at: at(facts.red_submitted_at),
        blue_submitted_at: at(facts.blue_submitted_at),
        red_validation_status: given(facts.red_validation_status),
        red_validated_at: at(facts.red_validated_at),
        blue_validation_status: given(facts.blue_validation_status),
        blue_validated_at: at(facts.blue_validated_at),
        validated_at: at(facts.validated_at),
        remediation_status: given(facts.remediation_status),
        remediation_assignee: maybe_id("tests.remediation_assignee", &facts.remediation_assignee)?,
        remediation_due_date: at(facts.remediation_due_date),
        remediation_steps: given(facts.remediation_steps),
        remediation_completed_at: at(facts.remediation_completed_at),
    })
}

fn given(text: String) -> Option<String> {
    (!text.is_empty()).then_some(text)
}

pub(crate) fn id(field: &str, text: &str) -> Result<Uuid, Failure> {
    text.parse().map_err(|_| Failure::invalid(field, "must be a UUID"))
}

fn maybe_id(field: &str, text: &str) -> Result<Option<Uuid>, Failure> {
    if text.is_empty() { Ok(None) } else { id(field, text).map(Some) }
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
