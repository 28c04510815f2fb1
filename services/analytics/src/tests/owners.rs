//! Stand-ins for the catalogue and the tests' service: they export what they are given, and nothing else.

use std::{
    convert::Infallible,
    sync::{Arc, Mutex},
    time::Duration,
};

use aegis_auth::Background;
use aegis_proto::{
    catalog::v1::{
        self as catalog, ExportKnowledgeRequest, ExportKnowledgeResponse, ExportTechniquesRequest,
        ExportTechniquesResponse, KnownRecord, catalog_service_client::CatalogServiceClient,
        knowledge_service_client::KnowledgeServiceClient,
    },
    deception::v1::{
        ExportObservationsRequest, ExportObservationsResponse, ObservedTechnique,
        observation_service_client::ObservationServiceClient,
    },
    events::v1::{TechniqueFacts, TestChanged},
    testing::v1::{
        self as testing, ExportTestsRequest, ExportTestsResponse, testing_service_client::TestingServiceClient,
    },
};
use futures::{
    StreamExt,
    future::BoxFuture,
    stream::{self, BoxStream},
};
use prost::Message;
use tonic::{Status, body::Body, server::Grpc};
use tonic_prost::ProstCodec;
use uuid::Uuid;

use crate::pull::Owners;

type Hook = Box<dyn FnOnce() -> BoxFuture<'static, ()> + Send>;

/// What they own.
#[derive(Default)]
pub(crate) struct Owned {
    pub(crate) techniques: Vec<TechniqueFacts>,
    pub(crate) tests: Vec<TestChanged>,
    pub(crate) known: Vec<KnownRecord>,
    pub(crate) observed: Vec<ObservedTechnique>,
    /// Pages of tests break off after so many.
    pub(crate) break_after: Option<usize>,
    /// Runs when the pages of tests were read and are on their way.
    pub(crate) during: Option<Hook>,
}

/// See the module.
#[derive(Clone, Default)]
pub(crate) struct World(pub(crate) Arc<Mutex<Owned>>);

impl World {
    pub(crate) fn owners(&self) -> Owners {
        let world = self.clone();
        let server = tower::service_fn(move |request: http::Request<Body>| {
            let world = world.clone();
            async move { Ok::<_, Infallible>(world.answer(request).await) }
        });
        let service = aegis_rpc::local(server);
        let token = || Box::pin(async { Ok(("the service's own".to_owned(), Duration::from_secs(300))) }) as _;
        Owners {
            catalog: CatalogServiceClient::new(service.clone()),
            knowledge: KnowledgeServiceClient::new(service.clone()),
            testing: TestingServiceClient::new(service.clone()),
            observations: ObservationServiceClient::new(service),
            background: Background::new(Arc::new(token)),
        }
    }

    async fn answer(self, request: http::Request<Body>) -> http::Response<Body> {
        match request.uri().path() {
            "/aegis.catalog.v1.CatalogService/ExportTechniques" => {
                export(request, move |_: ExportTechniquesRequest| self.techniques()).await
            }
            "/aegis.catalog.v1.KnowledgeService/ExportKnowledge" => {
                export(request, move |asked| self.known(&asked)).await
            }
            "/aegis.testing.v1.TestingService/ExportTests" => {
                export(request, move |_: ExportTestsRequest| self.tests()).await
            }
            "/aegis.deception.v1.ObservationService/ExportObservations" => {
                let techniques = self.0.lock().unwrap().observed.clone();
                let pages = stream::iter([Ok(ExportObservationsResponse { techniques })]).boxed();
                export(request, move |_: ExportObservationsRequest| pages).await
            }
            _ => Status::unimplemented("not in this stand-in").into_http(),
        }
    }

    fn techniques(&self) -> BoxStream<'static, Result<ExportTechniquesResponse, Status>> {
        let owned = self.0.lock().unwrap();
        let techniques: Vec<_> = owned.techniques.iter().filter(|t| !t.deleted).map(exported_technique).collect();
        let page = |some: &[catalog::Technique]| Ok(ExportTechniquesResponse { techniques: some.to_vec() });
        stream::iter(techniques.chunks(400).map(page).collect::<Vec<_>>()).boxed()
    }

    fn known(&self, asked: &ExportKnowledgeRequest) -> BoxStream<'static, Result<ExportKnowledgeResponse, Status>> {
        let owned = self.0.lock().unwrap();
        let fits = |record: &&KnownRecord| asked.kinds.is_empty() || asked.kinds.contains(&record.kind);
        let records: Vec<_> = owned.known.iter().filter(fits).cloned().collect();
        let page = |some: &[KnownRecord]| Ok(ExportKnowledgeResponse { records: some.to_vec() });
        stream::iter(records.chunks(100).map(page).collect::<Vec<_>>()).boxed()
    }

    fn tests(&self) -> BoxStream<'static, Result<ExportTestsResponse, Status>> {
        let mut owned = self.0.lock().unwrap();
        let mut tests: Vec<_> = owned.tests.iter().filter(|test| !test.deleted).map(exported_test).collect();
        tests.sort_by_key(|test| test.id.parse::<Uuid>().ok());
        let page = |some: &[testing::Test]| Ok(ExportTestsResponse { tests: some.to_vec() });
        let mut pages: Vec<_> = tests.chunks(70).map(page).collect();
        if let Some(n) = owned.break_after {
            pages.truncate(n);
            pages.push(Err(Status::unavailable("gone")));
        }
        let during = owned.during.take();
        let hook = async move {
            if let Some(during) = during {
                during().await;
            }
            stream::iter(pages)
        };
        stream::once(hook).flatten().boxed()
    }
}

async fn export<Req, Resp>(
    request: http::Request<Body>,
    pages: impl FnOnce(Req) -> BoxStream<'static, Result<Resp, Status>> + Send + 'static,
) -> http::Response<Body>
where
    Req: Message + Default + Send + 'static,
    Resp: Message + Default + Send + 'static,
{
    assert_eq!(request.headers().get("authorization").map(|held| held.is_empty()), Some(false));
    let mut pages = Some(pages);
    let service = tower::service_fn(move |request: tonic::Request<Req>| {
        let pages = pages.take().expect("one call")(request.into_inner());
        async move { Ok(tonic::Response::new(pages)) }
    });
    Grpc::new(ProstCodec::<Resp, Req>::default()).server_streaming(service, request).await
}

fn exported_technique(facts: &TechniqueFacts) -> catalog::Technique {
    let maybe = |text: &str| (!text.is_empty()).then(|| text.to_owned());
    catalog::Technique {
        id: facts.id.clone(),
        mitre_id: facts.mitre_id.clone(),
        name: facts.name.clone(),
        tactics: facts.tactics.clone(),
        platforms: facts.platforms.clone(),
        is_subtechnique: facts.is_subtechnique,
        parent_mitre_id: maybe(&facts.parent_mitre_id),
        domain: facts.domain.clone(),
        status_global: facts.status.clone(),
        revoked: facts.revoked,
        revoked_by: maybe(&facts.revoked_by),
        deprecated: facts.deprecated,
        version: facts.version,
        attack_release: facts.attack_version.clone(),
        ..catalog::Technique::default()
    }
}

fn exported_test(facts: &TestChanged) -> testing::Test {
    let maybe = |text: &str| (!text.is_empty()).then(|| text.to_owned());
    testing::Test {
        id: facts.test_id.clone(),
        version: facts.version,
        technique_id: facts.technique_id.clone(),
        mitre_id: facts.mitre_id.clone(),
        technique_name: facts.technique_name.clone(),
        name: facts.name.clone(),
        platform: maybe(&facts.platform),
        state: facts.state.clone(),
        created_by: facts.created_by.clone(),
        created_by_username: facts.created_by_username.clone(),
        created_at: facts.created_at,
        updated_at: facts.updated_at,
        execution_date: facts.execution_date,
        attack_success: facts.attack_success,
        executed_at: facts.executed_at,
        detection_result: maybe(&facts.detection_result),
        detected_at: facts.detected_at,
        responded_at: facts.responded_at,
        contained_at: facts.contained_at,
        red_validation_status: facts.red_validation_status.clone(),
        red_validated_at: facts.red_validated_at,
        blue_validation_status: facts.blue_validation_status.clone(),
        blue_validated_at: facts.blue_validated_at,
        validated_at: facts.validated_at,
        remediation_steps: maybe(&facts.remediation_steps),
        remediation_status: maybe(&facts.remediation_status),
        remediation_assignee: maybe(&facts.remediation_assignee),
        remediation_completed_at: facts.remediation_completed_at,
        retest_of: maybe(&facts.retest_of),
        chain_id: facts.chain_id.clone(),
        remediation_due_date: facts.remediation_due_date,
        red_submitted_at: facts.red_submitted_at,
        blue_submitted_at: facts.blue_submitted_at,
        ..testing::Test::default()
    }
}
