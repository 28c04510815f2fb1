//! Evidence: files that prove what a test showed, their hashes, and links that read them.

mod app;
mod config;
mod domain;
mod error;
mod events;
#[doc(hidden)]
pub mod fuzz;
mod rpc;
mod store;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use aegis_auth::Background;
use aegis_blob::Blobs;
use aegis_db::{Db, Migrations};
use aegis_error::Failure;
use aegis_events::{Bus, Consumer, Event, Outbox, Subscription};
use aegis_proto::{
    events::v1::TestChanged, evidence::v1::evidence_service_server::EvidenceServiceServer,
    identity::v1::identity_service_client::IdentityServiceClient,
    testing::v1::testing_service_client::TestingServiceClient,
};
use aegis_rpc::RpcService;
use aegis_runtime::{Check, Service, Task};
use tonic::service::Routes;

pub use config::Config;
pub use error::Error;

use app::App;

/// The service's name.
pub const NAME: &str = "evidence";

/// What the service wants to hear of.
pub const SUBSCRIPTION: Subscription = Subscription { consumer: NAME, kinds: &[TestChanged::KIND] };

/// Methods that need no token: the signature of a link is the right to read.
pub const PUBLIC_METHODS: &[&str] = &["/aegis.evidence.v1.EvidenceService/DownloadEvidence"];

/// The largest message that it takes: a chunk of a file, or a header, with room.
const MAX_MESSAGE: usize = 1024 * 1024;

/// What the service stands on.
pub struct Deps {
    /// Its own database, migrated with [`migrations`] and those of the events crate.
    pub db: Db,
    /// Where its events go.
    pub bus: Bus,
    /// Where the files are.
    pub blobs: Blobs,
    /// Whose tests the files belong to.
    pub testing: TestingServiceClient<RpcService>,
    /// Signs manifests, and knows who is still let in.
    pub identity: IdentityServiceClient<RpcService>,
    /// Its own token, for what it asks of identity.
    pub background: Background,
    /// Its settings.
    pub config: Config,
}

/// The service's own tables.
pub fn migrations() -> Migrations {
    aegis_db::migrations!()
}

/// Builds the service; nothing runs yet.
pub async fn build(deps: Deps) -> Result<Service, Failure> {
    let (db, bus, blobs) = (deps.db.clone(), deps.bus.clone(), deps.blobs.clone());
    let outbox = Outbox::new(NAME);
    let app = Arc::new(App::new(deps, outbox.clone())?);
    let server = EvidenceServiceServer::new(rpc::Rpc::new(Arc::clone(&app))).max_decoding_message_size(MAX_MESSAGE);
    let delivery = bus.subscribe(Consumer::new(SUBSCRIPTION, db.clone(), Arc::new(events::Events(Arc::clone(&app)))));
    let relay_db = db.clone();
    let looking = Arc::clone(&app);
    Ok(Service::new(NAME, Routes::new(server))
        .task(Task::new("evidence relay", move |stop| outbox.relay(relay_db, bus, stop.token())))
        .task(Task::new("evidence events", move |stop| delivery.run(stop.token())))
        .task(Task::new("evidence housekeeping", move |stop| app.keep_house(stop)))
        .task(Task::new("evidence store", move |stop| looking.keep_looking(stop)))
        .check(Check::new("evidence database", move || {
            let db = db.clone();
            async move { db.ping().await.map_err(|_| "the database does not answer".to_owned()) }
        }))
        .check(
            Check::new("evidence store", move || {
                let blobs = blobs.clone();
                async move { blobs.ping().await.map_err(|_| "the blob store does not answer".to_owned()) }
            })
            .optional(),
        ))
}
