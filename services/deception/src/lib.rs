//! Deception: what holds for the fleet of decoys as a whole.

mod app;
mod domain;
mod error;
mod rpc;
mod store;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use aegis_db::{Db, Migrations};
use aegis_error::Failure;
use aegis_events::{Bus, Outbox};
use aegis_proto::deception::v1::fleet_settings_service_server::FleetSettingsServiceServer;
use aegis_runtime::{Check, Service, Task};
use tonic::service::Routes;

pub use domain::{BadInterval, Interval, Step};
pub use error::Error;

use app::App;

/// The service's name.
pub const NAME: &str = "deception";

/// Methods that need no token.
pub const PUBLIC_METHODS: &[&str] = &[];

/// What the service stands on.
pub struct Deps {
    /// Its own database, migrated with [`migrations`] and those of the events crate.
    pub db: Db,
    /// Where its audit records go.
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
    let app = Arc::new(App { db: db.clone(), outbox: outbox.clone() });
    let server = FleetSettingsServiceServer::new(rpc::Rpc::new(app)).max_decoding_message_size(aegis_rpc::MAX_MESSAGE);
    let relay_db = db.clone();
    Ok(Service::new(NAME, Routes::new(server))
        .task(Task::new("deception relay", move |stop| outbox.relay(relay_db, bus, stop.token())))
        .check(Check::new("deception database", move || {
            let db = db.clone();
            async move { db.ping().await.map_err(|_| "the database does not answer".to_owned()) }
        })))
}
