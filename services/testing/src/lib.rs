//! Tests of techniques and the workflow in which the red and the blue side go through them.

mod app;
mod config;
mod domain;
mod error;
mod events;
mod rpc;
mod store;

use std::sync::Arc;

use aegis_auth::Background;
use aegis_db::{Db, Migrations};
use aegis_error::Failure;
use aegis_events::{Bus, Consumer, Event, Subscription};
use aegis_proto::{
    catalog::v1::{
        catalog_service_client::CatalogServiceClient, knowledge_service_client::KnowledgeServiceClient,
        template_service_client::TemplateServiceClient,
    },
    events::v1::{EvidenceAdded, EvidenceRemoved, TestChanged},
    identity::v1::identity_service_client::IdentityServiceClient,
    testing::v1::{campaign_service_server::CampaignServiceServer, testing_service_server::TestingServiceServer},
};
use aegis_rpc::RpcService;
use aegis_runtime::{Check, Service, Task};
use tonic::service::Routes;

pub use config::Config;

/// The service's name in roles, logs and events.
pub const NAME: &str = "testing";

/// What the service wants to hear of; of its own tests for the campaigns that they are in.
pub const SUBSCRIPTION: Subscription =
    Subscription { consumer: NAME, kinds: &[EvidenceAdded::KIND, EvidenceRemoved::KIND, TestChanged::KIND] };

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
    /// Knows the threat actors and what they do.
    pub knowledge: KnowledgeServiceClient<RpcService>,
    /// Knows who is still let in.
    pub identity: IdentityServiceClient<RpcService>,
    /// Its own token, for what it asks of identity.
    pub background: Background,
    /// Settings.
    pub config: Config,
}

/// The service's tables.
pub fn migrations() -> Migrations {
    aegis_db::migrations!()
}

/// Builds the service; nothing runs yet.
pub async fn build(deps: Deps) -> Result<Service, Failure> {
    let (db, bus) = (deps.db.clone(), deps.bus.clone());
    let outbox = aegis_events::Outbox::new(NAME);
    let app = app::App::new(deps, outbox.clone());
    let campaigns = CampaignServiceServer::new(rpc::campaign::CampaignRpc::new(app.clone()))
        .max_decoding_message_size(aegis_rpc::MAX_MESSAGE)
        .max_encoding_message_size(aegis_rpc::MAX_MESSAGE);
    let schedules = app.clone();
    let server = TestingServiceServer::new(rpc::Rpc::new(app))
        .max_decoding_message_size(aegis_rpc::MAX_MESSAGE)
        .max_encoding_message_size(aegis_rpc::MAX_MESSAGE);
    let delivery = bus.subscribe(Consumer::new(SUBSCRIPTION, db.clone(), Arc::new(events::Events(outbox.clone()))));
    let (relay_db, tally_db) = (db.clone(), db.clone());
    Ok(Service::new(NAME, Routes::new(server).add_service(campaigns))
        .task(Task::new("testing relay", move |stop| outbox.relay(relay_db, bus, stop.token())))
        .task(Task::new("testing tally", move |stop| store::tally::keep(tally_db, stop)))
        .task(Task::new("campaign schedules", move |stop| schedules.keep_campaign_schedules(stop.token())))
        .task(Task::new("testing events", move |stop| delivery.run(stop.token())))
        .check(Check::new("testing database", move || {
            let db = db.clone();
            async move { db.ping().await.map_err(|_| "the database does not answer".to_owned()) }
        })))
}
