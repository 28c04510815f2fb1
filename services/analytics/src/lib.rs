//! Analytics: coverage, scores, compliance and reports, read from a projection that events keep.

mod app;
mod cache;
mod config;
mod domain;
mod error;
mod events;
mod pull;
mod rpc;
mod store;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use aegis_auth::Background;
use aegis_db::{Db, Migrations};
use aegis_error::Failure;
use aegis_events::{Bus, Consumer, Event, Outbox, Subscription};
use aegis_proto::{
    analytics::v1::{
        analytics_service_server::AnalyticsServiceServer, compliance_service_server::ComplianceServiceServer,
        operational_service_server::OperationalServiceServer, score_service_server::ScoreServiceServer,
        snapshot_service_server::SnapshotServiceServer,
    },
    catalog::v1::{catalog_service_client::CatalogServiceClient, knowledge_service_client::KnowledgeServiceClient},
    deception::v1::observation_service_client::ObservationServiceClient,
    events::v1::{KnowledgeChanged, TechniquesChanged, TechniquesObserved, TestChanged},
    testing::v1::testing_service_client::TestingServiceClient,
};
use aegis_rpc::{MAX_MESSAGE, RpcService};
use aegis_runtime::{Check, Service, Task};
use tonic::service::Routes;

pub use config::Config;
pub use error::Error;

use app::App;
use pull::Owners;

/// The service's name.
pub const NAME: &str = "analytics";

/// What it wants to hear of.
pub const SUBSCRIPTION: Subscription = Subscription {
    consumer: NAME,
    kinds: &[TechniquesChanged::KIND, TestChanged::KIND, KnowledgeChanged::KIND, TechniquesObserved::KIND],
};

/// Methods that need no token.
pub const PUBLIC_METHODS: &[&str] = &[];

/// What the service stands on.
pub struct Deps {
    /// Its own database, migrated with [`migrations`] and those of the events crate.
    pub db: Db,
    /// Where events come from.
    pub bus: Bus,
    /// Owner of techniques.
    pub catalog: CatalogServiceClient<RpcService>,
    /// Owner of what is known of techniques.
    pub knowledge: KnowledgeServiceClient<RpcService>,
    /// Owner of tests.
    pub testing: TestingServiceClient<RpcService>,
    /// Owner of what attackers showed on decoys.
    pub observations: ObservationServiceClient<RpcService>,
    /// Contexts for what is asked of the owners when nobody waits for it.
    pub background: Background,
    /// Settings.
    pub config: Config,
}

/// The service's own tables.
pub fn migrations() -> Migrations {
    aegis_db::migrations!()
}

/// Builds the service; nothing runs yet.
pub async fn build(deps: Deps) -> Result<Service, Failure> {
    let Deps { db, bus, catalog, knowledge, testing, observations, background, config } = deps;
    let outbox = Outbox::new(NAME);
    let owners = Owners { catalog, knowledge, testing, observations, background };
    let app = Arc::new(App::new(db.clone(), outbox.clone(), owners, config));
    let handler = Arc::new(events::Projector::new(app.coverage().clone(), app.pulls().clone()));
    let rpc = rpc::Rpc::new(Arc::clone(&app));
    let routes = Routes::new(
        AnalyticsServiceServer::new(rpc.clone())
            .max_decoding_message_size(MAX_MESSAGE)
            .max_encoding_message_size(MAX_MESSAGE),
    )
    .add_service(
        ScoreServiceServer::new(rpc.clone())
            .max_decoding_message_size(MAX_MESSAGE)
            .max_encoding_message_size(MAX_MESSAGE),
    )
    .add_service(
        SnapshotServiceServer::new(rpc.clone())
            .max_decoding_message_size(MAX_MESSAGE)
            .max_encoding_message_size(MAX_MESSAGE),
    )
    .add_service(
        ComplianceServiceServer::new(rpc.clone())
            .max_decoding_message_size(MAX_MESSAGE)
            .max_encoding_message_size(MAX_MESSAGE),
    )
    .add_service(
        OperationalServiceServer::new(rpc)
            .max_decoding_message_size(MAX_MESSAGE)
            .max_encoding_message_size(MAX_MESSAGE),
    );
    let delivery = bus.subscribe(Consumer::new(SUBSCRIPTION, db.clone(), handler));
    let relay_db = db.clone();
    Ok(Service::new(NAME, routes)
        .task(Task::new("analytics relay", move |stop| outbox.relay(relay_db, bus, stop.token())))
        .task(Task::new("analytics events", move |stop| delivery.run(stop.token())))
        .task(Task::new("analytics pulls", move |stop| async move { app.keep_pulling(stop.token()).await }))
        .check(Check::new("analytics database", move || {
            let db = db.clone();
            async move { db.ping().await.map_err(|_| "the database does not answer".to_owned()) }
        })))
}
