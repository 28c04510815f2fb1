//! The service on a database of its own, and people who call it.

use aegis_auth::{OpCtx, Role};
use aegis_db::{Db, read};
use aegis_error::{Code, Failure};
use aegis_events::{Bus, Event, IdempotencyLayer, decode};
use aegis_proto::{
    catalog::v1::catalog_service_client::CatalogServiceClient,
    events::v1::{AuditRecorded, Envelope, TestChanged, TestCommented},
    testing::v1::{testing_service_client::TestingServiceClient, *},
};
use aegis_rpc::RpcService;
use aegis_testing::{Config, Deps};
use aegis_testkit::TestDb;
use prost::Message;
use serde_json::Value;
use tonic::{Response, Status, body::Body, service::Routes};
use tower::{Layer, ServiceExt};

use crate::{campaigns_catalog, catalog, identity};

pub type Client = TestingServiceClient<RpcService>;

pub struct World {
    pub db: Db,
    pub tasks: Vec<aegis_runtime::Task>,
    routes: Routes,
    kit: TestDb,
}

/// The people of the stories.
pub const RED_TECH: (Role, &str) = (Role::RedTech, "rita");
pub const OTHER_RED_TECH: (Role, &str) = (Role::RedTech, "ralf");
pub const BLUE_TECH: (Role, &str) = (Role::BlueTech, "bert");
pub const RED_LEAD: (Role, &str) = (Role::RedLead, "rosa");
pub const BLUE_LEAD: (Role, &str) = (Role::BlueLead, "bella");
pub const ADMIN: (Role, &str) = (Role::Admin, "ada");
pub const VIEWER: (Role, &str) = (Role::Viewer, "vera");

/// The service on each database there is.
pub async fn worlds() -> Vec<World> {
    worlds_with(Config::default(), catalog::techniques_client()).await
}

pub async fn worlds_with(config: Config, techniques: CatalogServiceClient<RpcService>) -> Vec<World> {
    let migrations = [aegis_events::migrations(), aegis_testing::migrations()];
    let mut worlds = Vec::new();
    for kit in aegis_testkit::databases("testing", &migrations).await {
        let service = service(kit.db.clone(), config, techniques.clone()).await;
        assert_eq!(service.name, aegis_testing::NAME);
        for check in &service.readiness {
            (check.probe)().await.unwrap();
        }
        worlds.push(World { db: kit.db.clone(), tasks: service.tasks, routes: service.routes, kit });
    }
    worlds
}

/// The service on that database.
pub async fn service(db: Db, config: Config, catalog: CatalogServiceClient<RpcService>) -> aegis_runtime::Service {
    let templates = catalog::templates_client();
    let knowledge = campaigns_catalog::knowledge_client();
    let (identity, background) = (identity::client(), identity::background());
    let bus = Bus::local();
    aegis_testing::build(Deps { db, bus, catalog, templates, knowledge, identity, background, config }).await.unwrap()
}

impl World {
    /// The service as this person calls it.
    pub fn by(&self, (role, username): (Role, &str)) -> Client {
        let ctx = aegis_testkit::ctx(role, username);
        self.with(ctx)
    }

    pub fn with(&self, ctx: OpCtx) -> Client {
        TestingServiceClient::new(self.service_with(ctx)).max_decoding_message_size(aegis_rpc::MAX_MESSAGE)
    }

    pub fn service_with(&self, ctx: OpCtx) -> RpcService {
        // With the layer that it stands behind in the product.
        let routes = IdempotencyLayer::new(self.db.clone(), &"secret".to_owned().into()).layer(self.routes.clone());
        // In the place of the authentication layer.
        RpcService::new(
            routes
                .map_request(move |mut request: http::Request<Body>| {
                    request.extensions_mut().insert(ctx.clone());
                    request
                })
                .map_err(|never| match never {}),
        )
    }

    /// A draft by rita.
    pub async fn draft(&self) -> Test {
        let request = CreateTestRequest {
            technique_id: catalog::POWERSHELL.into(),
            name: "Encoded PowerShell".into(),
            ..CreateTestRequest::default()
        };
        self.by(RED_TECH).create_test(request).await.unwrap().into_inner().test.unwrap()
    }

    pub async fn go(&self, who: (Role, &str), id: &str, action: &str) -> Result<Test, Failure> {
        let request = MoveTestRequest { id: id.into(), action: action.into() };
        self.by(who).move_test(request).await.map(|r| r.into_inner().test.unwrap()).map_err(Failure::from)
    }

    pub async fn vote(&self, who: (Role, &str), id: &str, side: &str, approve: bool) -> Result<Test, Failure> {
        self.ballot(who, CastVoteRequest { id: id.into(), side: side.into(), approve, ..CastVoteRequest::default() })
            .await
    }

    pub async fn ballot(&self, who: (Role, &str), request: CastVoteRequest) -> Result<Test, Failure> {
        self.by(who).cast_vote(request).await.map(|r| r.into_inner().test.unwrap()).map_err(Failure::from)
    }

    /// A test by rita that waits for the votes.
    pub async fn in_review(&self) -> Test {
        let id = self.draft().await.id;
        self.go(RED_TECH, &id, "start_execution").await.unwrap();
        self.go(RED_TECH, &id, "submit_red").await.unwrap();
        self.go(BLUE_TECH, &id, "submit_blue").await.unwrap()
    }

    /// A test by rita that both leads approved, with this result of its detection.
    pub async fn validated(&self, result: Option<&str>) -> Test {
        let id = self.in_review().await.id;
        self.validate(&id, result).await
    }

    /// Takes a draft to its validation.
    pub async fn finish(&self, id: &str, result: Option<&str>) -> Test {
        self.go(RED_TECH, id, "start_execution").await.unwrap();
        self.go(RED_TECH, id, "submit_red").await.unwrap();
        self.go(BLUE_TECH, id, "submit_blue").await.unwrap();
        self.validate(id, result).await
    }

    async fn validate(&self, id: &str, result: Option<&str>) -> Test {
        let approval = CastVoteRequest {
            id: id.into(),
            side: "own".into(),
            approve: true,
            notes: None,
            result: result.map(str::to_owned),
        };
        self.ballot(ADMIN, approval).await.unwrap()
    }

    /// Gives the remediation a status; the second is the retest of it.
    pub async fn remedy(&self, who: (Role, &str), id: &str, status: &str) -> Result<(Test, Option<Test>), Failure> {
        let request = UpdateRemediationRequest {
            id: id.into(),
            remediation_status: Some(status.into()),
            ..UpdateRemediationRequest::default()
        };
        let answer = self.by(who).update_remediation(request).await.map_err(Failure::from)?.into_inner();
        Ok((answer.test.unwrap(), answer.retest))
    }

    pub async fn retest(&self, who: (Role, &str), id: &str) -> Result<Test, Failure> {
        let request = CreateRetestRequest { test_id: id.into() };
        self.by(who).create_retest(request).await.map(|r| r.into_inner().test.unwrap()).map_err(Failure::from)
    }

    /// The chain of a test: ids, and which are regressions.
    pub async fn chain(&self, id: &str) -> Vec<(String, bool)> {
        let request = GetRetestChainRequest { test_id: id.into() };
        let links = self.by(VIEWER).get_retest_chain(request).await.unwrap().into_inner().links;
        links.into_iter().map(|link| (link.test.unwrap().id, link.regression)).collect()
    }

    pub async fn delete(&self, who: (Role, &str), id: &str) -> Result<(), Failure> {
        let request = DeleteTestRequest { id: id.into() };
        self.by(who).delete_test(request).await.map(|_| ()).map_err(Failure::from)
    }

    pub async fn comment(&self, who: (Role, &str), id: &str, text: &str) -> Result<TimelineEntry, Failure> {
        let request = AddCommentRequest { test_id: id.into(), text: text.into() };
        self.by(who).add_comment(request).await.map(|r| r.into_inner().entry.unwrap()).map_err(Failure::from)
    }

    /// Changes many tests at once.
    pub async fn change(
        &self,
        who: (Role, &str),
        ids: &[String],
        change: change_tests_request::Change,
    ) -> Result<ChangeTestsResponse, Failure> {
        let request = ChangeTestsRequest { ids: ids.to_vec(), change: Some(change) };
        self.by(who).change_tests(request).await.map(Response::into_inner).map_err(Failure::from)
    }

    pub async fn get(&self, id: &str) -> Test {
        let request = GetTestRequest { id: id.into() };
        self.by(VIEWER).get_test(request).await.unwrap().into_inner().test.unwrap()
    }

    pub async fn timeline(&self, id: &str) -> Vec<(TimelineEntry, Value)> {
        let request = GetTimelineRequest { test_id: id.into(), ..GetTimelineRequest::default() };
        let page = self.by(VIEWER).get_timeline(request).await.unwrap().into_inner();
        // Counted after the page was read, so there may be more by then.
        assert!(page.total_size >= i64::try_from(page.entries.len()).unwrap());
        page.entries
            .into_iter()
            .map(|entry| {
                let details = serde_json::from_str(&entry.details_json).unwrap();
                (entry, details)
            })
            .collect()
    }

    /// What was written for the bus, in order.
    pub async fn outbox(&self) -> Vec<Envelope> {
        let db = &self.db;
        let rows: Vec<Vec<u8>> =
            read!(db, |pool| sqlx::query_scalar("SELECT body FROM outbox ORDER BY seq").fetch_all(pool).await).unwrap();
        rows.iter().map(|body| Envelope::decode(body.as_slice()).unwrap()).collect()
    }

    pub async fn changes(&self) -> Vec<TestChanged> {
        of_kind::<TestChanged>(&self.outbox().await)
    }

    pub async fn comments(&self) -> Vec<TestCommented> {
        of_kind::<TestCommented>(&self.outbox().await)
    }

    /// The audit trail: action, success, details.
    pub async fn audit(&self) -> Vec<(String, bool, Value)> {
        of_kind::<AuditRecorded>(&self.outbox().await)
            .into_iter()
            .map(|line| (line.action, line.success, serde_json::from_str(&line.details_json).unwrap()))
            .collect()
    }

    pub async fn close(self) {
        self.kit.close().await;
    }
}

fn of_kind<E: Event>(envelopes: &[Envelope]) -> Vec<E> {
    envelopes.iter().filter(|e| e.r#type == E::KIND).map(|e| decode(e).unwrap()).collect()
}

/// Why a call was refused.
pub fn failure<T: std::fmt::Debug>(answer: Result<Response<T>, Status>) -> Failure {
    Failure::from(answer.unwrap_err())
}

/// The code a call was refused with.
pub fn code<T: std::fmt::Debug>(answer: Result<T, Failure>) -> Code {
    answer.unwrap_err().code()
}

/// The names of the fields that did not validate.
pub fn fields(failure: &Failure) -> Vec<&str> {
    assert_eq!(failure.code(), Code::Validation, "{failure}");
    failure.fields().iter().map(|f| f.field.as_str()).collect()
}
