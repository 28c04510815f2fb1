//! The catalogue behind its gRPC methods, on every database.
#![allow(missing_docs, clippy::unwrap_used, reason = "a test may fail")]

mod conditions;
mod imports;
mod knowledge;
mod knowledge_imports;
mod projections;
mod reading;
mod search;
mod seeding;
mod status_histories;
mod statuses;
mod templates;
mod writing;

use aegis_auth::{OpCtx, Role};
use aegis_db::{on, read};
use aegis_error::{Code, Failure};
use aegis_events::{Bus, Event, Outbox, decode};
use aegis_proto::{
    catalog::v1::{
        self as pb, catalog_service_client::CatalogServiceClient, get_technique_request::Key,
        template_service_client::TemplateServiceClient,
    },
    events::v1::{AuditRecorded, Envelope, TechniquesChanged},
};
use aegis_testkit::{TestDb, ctx, databases};
use prost::Message;
use tokio_util::sync::CancellationToken;
use tonic::{
    Request, Status,
    service::{Interceptor, Routes, interceptor::InterceptedService},
};

/// Puts the context of a caller on a request, as the authentication layer does.
#[derive(Clone)]
struct As(OpCtx);

impl Interceptor for As {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        request.extensions_mut().insert(self.0.clone());
        Ok(request)
    }
}

type Catalog = CatalogServiceClient<InterceptedService<Routes, As>>;
type Templates = TemplateServiceClient<InterceptedService<Routes, As>>;

/// A service that was built, without its relay: what it publishes stays in the outbox to be looked at.
struct World {
    home: TestDb,
    bus: Bus,
    routes: Routes,
}

impl World {
    async fn on(home: TestDb) -> World {
        println!("on {}", home.name);
        let bus = Bus::local();
        let deps = aegis_catalog::Deps { db: home.db.clone(), bus: bus.clone() };
        let service = aegis_catalog::build(deps).await.unwrap();
        World { home, bus, routes: service.routes }
    }

    /// One for each database.
    async fn all() -> Vec<World> {
        let mut worlds = Vec::new();
        for home in homes().await {
            worlds.push(World::on(home).await);
        }
        worlds
    }

    fn catalog(&self, role: Role) -> Catalog {
        CatalogServiceClient::with_interceptor(self.routes.clone(), As(ctx(role, role.as_str())))
    }

    fn admin(&self) -> Catalog {
        self.catalog(Role::Admin)
    }

    fn templates(&self, role: Role) -> Templates {
        TemplateServiceClient::with_interceptor(self.routes.clone(), As(ctx(role, role.as_str())))
    }

    async fn technique(&self, mitre_id: &str) -> pb::Technique {
        get(&mut self.catalog(Role::Viewer), mitre_id).await.unwrap()
    }

    async fn list(&self, request: pb::ListTechniquesRequest) -> Vec<pb::Technique> {
        self.catalog(Role::Viewer).list_techniques(request).await.unwrap().into_inner().techniques
    }

    /// Everything that was published since the last look.
    async fn published(&self) -> Vec<Envelope> {
        let bodies: Vec<Vec<u8>> = read!(&self.home.db, |pool| {
            sqlx::query_scalar("SELECT body FROM outbox ORDER BY seq").fetch_all(pool).await
        })
        .unwrap();
        let mut tx = self.home.db.begin().await.unwrap();
        on!(tx, |c| sqlx::query("DELETE FROM outbox").execute(c).await.map(|_| ())).unwrap();
        tx.commit().await.unwrap();
        bodies.iter().map(|body| Envelope::decode(body.as_slice()).unwrap()).collect()
    }

    /// The outbox of the service that publishes tests, with a database of its own.
    async fn testing(&self) -> Testing {
        let db = aegis_db::Db::memory().await.unwrap();
        db.migrate(&[aegis_events::migrations()]).await.unwrap();
        Testing { db, bus: self.bus.clone(), outbox: Outbox::new("testing") }
    }

    async fn close(self) {
        self.home.close().await;
    }
}

async fn homes() -> Vec<TestDb> {
    databases("catalog", &[aegis_events::migrations(), aegis_catalog::migrations()]).await
}

async fn get(client: &mut Catalog, mitre_id: &str) -> Result<pb::Technique, Status> {
    let request = pb::GetTechniqueRequest { key: Some(Key::MitreId(mitre_id.into())) };
    client.get_technique(request).await.map(|answer| answer.into_inner().technique.unwrap())
}

/// What the events about techniques say.
fn techniques_changed(published: &[Envelope]) -> Vec<TechniquesChanged> {
    published.iter().filter(|e| e.r#type == TechniquesChanged::KIND).map(|e| decode(e).unwrap()).collect()
}

/// The lines of the audit trail: action, entity id, details.
fn audited(published: &[Envelope]) -> Vec<(String, String, serde_json::Value)> {
    published
        .iter()
        .filter(|e| e.r#type == AuditRecorded::KIND)
        .map(|e| decode::<AuditRecorded>(e).unwrap())
        .map(|a| (a.action, a.entity_id, serde_json::from_str(&a.details_json).unwrap()))
        .collect()
}

/// The code and the named fields of a refusal.
fn refusal<T: std::fmt::Debug>(result: Result<T, Status>) -> (Code, Vec<String>) {
    let failure = Failure::from(result.unwrap_err());
    (failure.code(), failure.fields().iter().map(|field| field.field.clone()).collect())
}

struct Testing {
    db: aegis_db::Db,
    bus: Bus,
    outbox: Outbox,
}

impl Testing {
    /// Publishes tests in one transaction and waits until the consumers have them.
    async fn publish(&self, tests: &[aegis_proto::events::v1::TestChanged]) {
        for batch in tests.chunks(150) {
            let mut tx = self.db.begin().await.unwrap();
            for test in batch {
                let caller = ctx(Role::BlueLead, "blue");
                self.outbox.publish(&mut tx, &caller, &test.test_id, test).await.unwrap();
            }
            tx.commit().await.unwrap();
            // A relay that is asked to stop passes on one batch first.
            let stop = CancellationToken::new();
            stop.cancel();
            self.outbox.clone().relay(self.db.clone(), self.bus.clone(), stop).await;
        }
        let left: i64 =
            read!(&self.db, |pool| sqlx::query_scalar("SELECT COUNT(*) FROM outbox").fetch_one(pool).await).unwrap();
        assert_eq!(left, 0);
    }
}
