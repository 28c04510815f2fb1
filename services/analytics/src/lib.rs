//! Analytics: coverage of the ATT&CK matrix and the way of tests, read from a projection that events keep.

mod app;
mod cache;
mod domain;
mod error;
mod events;
mod rpc;
mod store;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use aegis_db::{Db, Migrations};
use aegis_error::Failure;
use aegis_events::{Bus, Consumer, Event, Outbox, Subscription};
use aegis_proto::{
    analytics::v1::analytics_service_server::AnalyticsServiceServer,
    events::v1::{TechniquesChanged, TestChanged},
};
use aegis_runtime::{Check, Service, Task};
use tonic::service::Routes;

pub use error::Error;

use app::App;

/// The service's name.
pub const NAME: &str = "analytics";

/// What it wants to hear of.
pub const SUBSCRIPTION: Subscription =
    Subscription { consumer: NAME, kinds: &[TechniquesChanged::KIND, TestChanged::KIND] };

/// Methods that need no token.
pub const PUBLIC_METHODS: &[&str] = &[];

/// What the service stands on.
pub struct Deps {
    /// Its own database, migrated with [`migrations`] and those of the events crate.
    pub db: Db,
    /// Where events come from.
    pub bus: Bus,
}

/// The service's own tables.
pub fn migrations() -> Migrations {
    aegis_db::migrations!()
}

/// Builds the service; nothing runs yet.
pub async fn build(deps: Deps) -> Result<Service, Failure> {
    let Deps { db, bus } = deps;
    let outbox = Outbox::new(NAME);
    let app = Arc::new(App::new(db.clone(), outbox.clone()));
    let handler = Arc::new(events::Projector::new(app.coverage().clone()));
    let server = AnalyticsServiceServer::new(rpc::Rpc::new(app)).max_decoding_message_size(aegis_rpc::MAX_MESSAGE);
    let delivery = bus.subscribe(Consumer::new(SUBSCRIPTION, db.clone(), handler));
    let relay_db = db.clone();
    Ok(Service::new(NAME, Routes::new(server))
        .task(Task::new("analytics relay", move |stop| outbox.relay(relay_db, bus, stop.token())))
        .task(Task::new("analytics events", move |stop| delivery.run(stop.token())))
        .check(Check::new("analytics database", move || {
            let db = db.clone();
            async move { db.ping().await.map_err(|_| "the database does not answer".to_owned()) }
        })))
}
