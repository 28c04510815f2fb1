//! The catalogue: techniques, tactics and templates, and how well each technique is covered.

mod app;
mod cache;
mod domain;
mod error;
mod events;
#[doc(hidden)]
pub mod fuzz;
mod rpc;
mod store;

use std::sync::Arc;

use aegis_db::{Db, Migrations};
use aegis_error::Failure;
use aegis_events::{Bus, Consumer, Outbox, Subscription};
use aegis_proto::catalog::v1::{
    catalog_service_server::CatalogServiceServer, knowledge_service_server::KnowledgeServiceServer,
    template_service_server::TemplateServiceServer,
};
use aegis_rpc::MAX_MESSAGE;
use aegis_runtime::{Check, Service, Task};
use tonic::service::Routes;

pub use app::seed::seed;

/// The service's name.
pub const NAME: &str = "catalog";
/// What the service wants to hear of.
pub const SUBSCRIPTION: Subscription = Subscription { consumer: NAME, kinds: events::KINDS };
/// Methods that need no token: none.
pub const PUBLIC_METHODS: &[&str] = &[];

/// What the service needs.
#[derive(Clone)]
pub struct Deps {
    /// Its database, migrated.
    pub db: Db,
    /// The bus.
    pub bus: Bus,
}

/// The service's own tables.
pub fn migrations() -> Migrations {
    aegis_db::migrations!()
}

/// Builds the service, and fills an empty catalogue with its starter content.
pub async fn build(deps: Deps) -> Result<Service, Failure> {
    let Deps { db, bus } = deps;
    let outbox = Outbox::new(NAME);
    seed(&db, &outbox).await?;
    let catalog = app::Catalog::new(db.clone(), outbox.clone());
    let routes = Routes::new(
        CatalogServiceServer::new(rpc::CatalogRpc(catalog.clone()))
            .max_decoding_message_size(MAX_MESSAGE)
            .max_encoding_message_size(MAX_MESSAGE),
    )
    .add_service(
        TemplateServiceServer::new(rpc::TemplateRpc(catalog.clone()))
            .max_decoding_message_size(MAX_MESSAGE)
            .max_encoding_message_size(MAX_MESSAGE),
    )
    .add_service(
        KnowledgeServiceServer::new(rpc::KnowledgeRpc(catalog.clone()))
            .max_decoding_message_size(MAX_MESSAGE)
            .max_encoding_message_size(MAX_MESSAGE),
    );
    let delivery = bus.subscribe(Consumer::new(SUBSCRIPTION, db.clone(), Arc::new(events::Events(catalog))));
    let ping = db.clone();
    Ok(Service::new(NAME, routes)
        .task(Task::new("catalog relay", move |shutdown| outbox.relay(db, bus, shutdown.token())))
        .task(Task::new("catalog events", move |shutdown| delivery.run(shutdown.token())))
        .check(Check::new("catalog database", move || {
            let db = ping.clone();
            // The cause may name hosts; the log of the pool has it.
            async move { db.ping().await.map_err(|_| "the database does not answer".to_owned()) }
        })))
}
