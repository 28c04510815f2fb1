//! What is asked of the owners: all techniques, all tests, what is known of techniques.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use aegis_auth::{Background, OpCtx};
use aegis_db::Tx;
use aegis_error::Failure;
use aegis_proto::{
    catalog::v1::{
        ExportKnowledgeRequest, ExportTechniquesRequest, KnownRecord, Technique as ExportedTechnique,
        catalog_service_client::CatalogServiceClient, knowledge_service_client::KnowledgeServiceClient,
    },
    deception::v1::{ExportObservationsRequest, observation_service_client::ObservationServiceClient},
    events::v1::{ObservedFacts, TechniqueFacts, TestChanged},
    testing::v1::{ExportTestsRequest, Test as ExportedTest, testing_service_client::TestingServiceClient},
};
use aegis_rpc::RpcService;
use futures::{Stream, StreamExt, TryStreamExt};
use tokio::sync::Notify;
use uuid::Uuid;

use crate::{
    domain::{self, Technique, known::Known, observed::Observed, test::Test},
    error::Error,
    events,
};

/// More than any catalogue has: all three matrices together are below 3,000.
const MAX_TECHNIQUES: usize = 50_000;
/// More records than all publishers together have: some 12,000.
const MAX_KNOWN: usize = 500_000;
/// An owner answers all of it within this time.
const PATIENCE: Duration = Duration::from_secs(3600);

/// Those who own what is projected.
pub(crate) struct Owners {
    pub(crate) catalog: CatalogServiceClient<RpcService>,
    pub(crate) knowledge: KnowledgeServiceClient<RpcService>,
    pub(crate) testing: TestingServiceClient<RpcService>,
    pub(crate) observations: ObservationServiceClient<RpcService>,
    /// For what nobody waits for.
    pub(crate) background: Background,
}

/// The techniques of an export.
#[derive(Debug, Default)]
pub(crate) struct ExportedTechniques {
    /// Of each the newest.
    pub(crate) techniques: Vec<Technique>,
    /// Of those with a status of the future: what is known of them stays.
    pub(crate) skipped: Vec<Uuid>,
}

/// A test of an export.
#[derive(Clone, Debug)]
pub(crate) struct Listed {
    pub(crate) id: Uuid,
    /// Nothing for one in a state of the future: what is known of it stays.
    pub(crate) test: Option<Test>,
}

impl Owners {
    /// Every technique.
    pub(crate) async fn techniques(&self, ctx: &OpCtx) -> Result<ExportedTechniques, Error> {
        let request = patient(ctx, ExportTechniquesRequest {});
        let mut pages = self.catalog.clone().export_techniques(request).await.map_err(Failure::from)?.into_inner();
        let (mut techniques, mut skipped) = (Vec::new(), Vec::new());
        while let Some(page) = pages.next().await {
            for facts in page.map_err(Failure::from)?.techniques.into_iter().map(facts) {
                match events::knows_technique(&facts) {
                    true => techniques.push(events::technique(facts)?),
                    false => skipped.push(events::id("techniques.id", &facts.id)?),
                }
            }
            if techniques.len() + skipped.len() > MAX_TECHNIQUES {
                return Err(Error::TooMany(MAX_TECHNIQUES, "techniques"));
            }
        }
        Ok(ExportedTechniques { techniques: domain::newest(techniques), skipped })
    }

    /// Every test in the order of ids, in pages.
    pub(crate) async fn tests(
        &self,
        ctx: &OpCtx,
    ) -> Result<impl Stream<Item = Result<Vec<Listed>, Failure>> + Send + use<>, Error> {
        let request = patient(ctx, ExportTestsRequest {});
        let pages = self.testing.clone().export_tests(request).await.map_err(Failure::from)?.into_inner();
        Ok(pages
            .map_err(Failure::from)
            .and_then(|page| std::future::ready(page.tests.into_iter().map(|test| listed(changed(test))).collect())))
    }

    /// Every technique that attackers showed.
    pub(crate) async fn observed(&self, ctx: &OpCtx) -> Result<Vec<Observed>, Error> {
        let request = patient(ctx, ExportObservationsRequest {});
        let mut pages =
            self.observations.clone().export_observations(request).await.map_err(Failure::from)?.into_inner();
        let mut observed = Vec::new();
        while let Some(page) = pages.next().await {
            observed.extend(page.map_err(Failure::from)?.techniques.into_iter().map(|technique| {
                events::observation(ObservedFacts {
                    mitre_id: technique.mitre_id,
                    count: technique.count,
                    attackers: technique.attackers,
                    first_seen: technique.first_seen,
                    last_seen: technique.last_seen,
                    version: technique.version,
                })
            }));
            if observed.len() > MAX_TECHNIQUES {
                return Err(Error::TooMany(MAX_TECHNIQUES, "techniques"));
            }
        }
        Ok(observed)
    }

    /// Every record of these kinds, by kind and key. Kinds without a record are there too.
    pub(crate) async fn known(
        &self,
        ctx: &OpCtx,
        kinds: &[String],
    ) -> Result<BTreeMap<String, BTreeMap<String, Known>>, Error> {
        let request = patient(ctx, ExportKnowledgeRequest { kinds: kinds.to_vec() });
        let mut pages = self.knowledge.clone().export_knowledge(request).await.map_err(Failure::from)?.into_inner();
        let mut known: BTreeMap<String, BTreeMap<String, Known>> =
            kinds.iter().map(|kind| (kind.clone(), BTreeMap::new())).collect();
        let mut n = 0;
        while let Some(page) = pages.next().await {
            for record in page.map_err(Failure::from)?.records {
                let record = record_of(record)?;
                // What was not asked for is not replaced.
                if let Some(kind) = known.get_mut(&record.kind) {
                    kind.insert(record.key.clone(), record);
                    n += 1;
                }
            }
            if n > MAX_KNOWN {
                return Err(Error::TooMany(MAX_KNOWN, "records"));
            }
        }
        Ok(known)
    }
}

fn patient<T>(ctx: &OpCtx, message: T) -> tonic::Request<T> {
    let mut request = ctx.outgoing(message);
    request.set_timeout(PATIENCE);
    request
}

/// A technique of an export as an event would tell of it.
fn facts(technique: ExportedTechnique) -> TechniqueFacts {
    TechniqueFacts {
        id: technique.id,
        mitre_id: technique.mitre_id,
        name: technique.name,
        tactics: technique.tactics,
        platforms: technique.platforms,
        is_subtechnique: technique.is_subtechnique,
        domain: technique.domain,
        status: technique.status_global,
        revoked: technique.revoked,
        deprecated: technique.deprecated,
        version: technique.version,
        deleted: false,
        parent_mitre_id: technique.parent_mitre_id.unwrap_or_default(),
        revoked_by: technique.revoked_by.unwrap_or_default(),
        attack_version: technique.attack_release,
    }
}

/// A test of an export as an event would tell of it.
fn changed(test: ExportedTest) -> TestChanged {
    TestChanged {
        test_id: test.id,
        version: test.version,
        technique_id: test.technique_id,
        mitre_id: test.mitre_id,
        name: test.name,
        state: test.state,
        detection_result: test.detection_result.unwrap_or_default(),
        platform: test.platform.unwrap_or_default(),
        created_by: test.created_by,
        retest_of: test.retest_of.unwrap_or_default(),
        chain_id: test.chain_id,
        created_at: test.created_at,
        validated_at: test.validated_at,
        executed_at: test.executed_at,
        detected_at: test.detected_at,
        deleted: false,
        remediation_completed_at: test.remediation_completed_at,
        remediation_status: test.remediation_status.unwrap_or_default(),
        remediation_assignee: test.remediation_assignee.unwrap_or_default(),
        updated_at: test.updated_at,
        execution_date: test.execution_date,
        responded_at: test.responded_at,
        contained_at: test.contained_at,
        red_validation_status: test.red_validation_status,
        red_validated_at: test.red_validated_at,
        blue_validation_status: test.blue_validation_status,
        blue_validated_at: test.blue_validated_at,
        red_submitted_at: test.red_submitted_at,
        blue_submitted_at: test.blue_submitted_at,
        created_by_username: test.created_by_username,
        technique_name: test.technique_name,
        remediation_due_date: test.remediation_due_date,
        remediation_steps: test.remediation_steps.unwrap_or_default(),
        attack_success: test.attack_success,
        // What changed, not what is.
        previous_state: String::new(),
        notes: Vec::new(),
        previous_result: String::new(),
    }
}

fn listed(facts: TestChanged) -> Result<Listed, Failure> {
    Ok(match events::knows_test(&facts) {
        true => Listed { id: events::id("tests.id", &facts.test_id)?, test: Some(events::test(facts)?) },
        false => Listed { id: events::id("tests.id", &facts.test_id)?, test: None },
    })
}

fn record_of(record: KnownRecord) -> Result<Known, Failure> {
    Ok(Known {
        id: events::id("records.id", &record.id)?,
        kind: record.kind,
        key: record.key,
        name: record.name,
        collection: record.collection,
        implemented: record.implemented,
        techniques: record.mitre_technique_ids,
        parent: record.parent,
        family: record.family,
        version: record.version,
        attack_version: record.attack_version,
        mapping_source: record.mapping_source,
        position: i64::from(record.position),
        mitre_id: record.mitre_id,
    })
}

/// Wakes the task that asks the owners. Cheap to clone.
#[derive(Clone, Default)]
pub(crate) struct Pulls(Arc<Notify>);

impl Pulls {
    /// There will be something to ask for as soon as the transaction has been committed.
    pub(crate) fn wake_on_commit(&self, tx: &mut Tx) {
        let wake = Arc::clone(&self.0);
        tx.on_commit(move || wake.notify_one());
    }

    /// Waits for that; also if it was before.
    pub(crate) async fn woken(&self) {
        self.0.notified().await;
    }
}
