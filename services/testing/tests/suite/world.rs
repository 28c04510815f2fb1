//! The service on a database of its own, and people who call it.

use aegis_auth::{OpCtx, Role};
use aegis_db::{Db, read};
use aegis_error::{Code, Failure};
use aegis_events::{Bus, Event, IdempotencyLayer, decode};
use aegis_proto::{
    catalog::v1::catalog_service_client::CatalogServiceClient,
    events::v1::{AuditRecorded, Envelope, TestChanged},
    testing::v1::{testing_service_client::TestingServiceClient, *},
};
use aegis_rpc::RpcService;
use aegis_testing::{Config, Deps};
use aegis_testkit::TestDb;
use prost::Message;
use serde_json::Value;
use tonic::{Response, Status, body::Body, service::Routes};
use tower::{Layer, ServiceExt};

use crate::catalog;

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
        let deps = Deps {
            db: kit.db.clone(),
            bus: Bus::local(),
            catalog: techniques.clone(),
            templates: catalog::templates_client(),
            config,
        };
        let service = aegis_testing::build(deps).await.unwrap();
        assert_eq!(service.name, aegis_testing::NAME);
        for check in &service.readiness {
            (check.probe)().await.unwrap();
        }
        worlds.push(World { db: kit.db.clone(), tasks: service.tasks, routes: service.routes, kit });
    }
    worlds
}

impl World {
    /// The service as this person calls it.
    pub fn by(&self, (role, username): (Role, &str)) -> Client {
        let ctx = aegis_testkit::ctx(role, username);
        self.with(ctx)
    }

    pub fn with(&self, ctx: OpCtx) -> Client {
        // With the layer that it stands behind in the product.
        let routes = IdempotencyLayer::new(self.db.clone(), &"secret".to_owned().into()).layer(self.routes.clone());
        // In the place of the authentication layer.
        TestingServiceClient::new(RpcService::new(
            routes
                .map_request(move |mut request: http::Request<Body>| {
                    request.extensions_mut().insert(ctx.clone());
                    request
                })
                .map_err(|never| match never {}),
        ))
        .max_decoding_message_size(aegis_rpc::MAX_MESSAGE)
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
