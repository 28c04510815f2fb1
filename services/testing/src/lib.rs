//! Tests of techniques and the workflow in which the red and the blue side go through them.

mod app;
mod config;
mod domain;
mod error;
mod events;
mod rpc;
mod store;

use std::sync::Arc;

use aegis_db::{Db, Migrations};
use aegis_error::Failure;
use aegis_events::{Bus, Consumer, Event, Subscription};
use aegis_proto::{
    catalog::v1::{catalog_service_client::CatalogServiceClient, template_service_client::TemplateServiceClient},
    events::v1::EvidenceAdded,
    testing::v1::testing_service_server::TestingServiceServer,
};
use aegis_rpc::RpcService;
use aegis_runtime::{Check, Service, Task};
use tonic::service::Routes;

pub use config::Config;

/// The service's name in roles, logs and events.
pub const NAME: &str = "testing";

/// What the service wants to hear of.
pub const SUBSCRIPTION: Subscription = Subscription { consumer: NAME, kinds: &[EvidenceAdded::KIND] };

/// Methods that need no token.
pub const PUBLIC_METHODS: &[&str] = &[];

/// What the service stands on.
pub struct Deps {
    /// Its own database, with the tables of [`aegis_events::migrations`] and [`migrations`].
    pub db: Db,
    /// Carries its events.
    pub bus: Bus,
    /// Knows the techniques.
    pub catalog: CatalogServiceClient<RpcService>,
    /// Knows the templates.
    pub templates: TemplateServiceClient<RpcService>,
    /// Settings.
    pub config: Config,
}

/// The service's tables.
pub fn migrations() -> Migrations {
    aegis_db::migrations!()
}

/// Builds the service; nothing runs yet.
pub async fn build(deps: Deps) -> Result<Service, Failure> {
    let Deps { db, bus, catalog, templates, config } = deps;
    let outbox = aegis_events::Outbox::new(NAME);
    let app = app::App::new(db.clone(), outbox.clone(), catalog, templates, config);
    let server = TestingServiceServer::new(rpc::Rpc::new(app))
        .max_decoding_message_size(aegis_rpc::MAX_MESSAGE)
        .max_encoding_message_size(aegis_rpc::MAX_MESSAGE);
    let delivery = bus.subscribe(Consumer::new(SUBSCRIPTION, db.clone(), Arc::new(events::Events)));
    let relay_db = db.clone();
    Ok(Service::new(NAME, Routes::new(server))
        .task(Task::new("testing relay", move |stop| outbox.relay(relay_db, bus, stop.token())))
        .task(Task::new("testing events", move |stop| delivery.run(stop.token())))
        .check(Check::new("testing database", move || {
            let db = db.clone();
            async move { db.ping().await.map_err(|_| "the database does not answer".to_owned()) }
        })))
}
