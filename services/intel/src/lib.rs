//! Knowledge from outside: fetches what its publishers release, reads it, and hands it to the services that own it.

mod app;
pub mod domain;
mod error;
pub mod fetch;
mod rpc;
mod store;

use aegis_auth::Background;
use aegis_db::Db;
use aegis_error::Failure;
use aegis_events::{Bus, Outbox};
use aegis_proto::{
    catalog::v1::catalog_service_client::CatalogServiceClient, intel::v1::intel_service_server::IntelServiceServer,
};
use aegis_rpc::{MAX_MESSAGE, RpcService};
use aegis_runtime::{Check, Service, Task};
use tonic::service::Routes;

use app::App;

/// The service's name.
pub const NAME: &str = "intel";

/// Methods that need no token: none.
pub const PUBLIC_METHODS: &[&str] = &[];

/// What the service stands on.
pub struct Deps {
    /// Its own database, migrated.
    pub db: Db,
    /// Takes its events; it hears none.
    pub bus: Bus,
    /// Where techniques go.
    pub catalog: CatalogServiceClient<RpcService>,
    /// Contexts for the calls of a sync, which outlives the request that started it.
    pub background: Background,
}

/// The service's tables.
pub fn migrations() -> aegis_db::Migrations {
    aegis_db::migrations!()
}

/// Builds the service. Data sources that are missing are added with their publishers' addresses.
pub async fn build(deps: Deps) -> Result<Service, Failure> {
    let Deps { db, bus, catalog, background } = deps;
    store::dialect::end_jobs_of_the_last_process(&db).await?;
    store::source::seed(&db, &domain::source::PUBLISHED).await?;
    let outbox = Outbox::new(NAME);
    let app = App::new(db.clone(), outbox.clone(), catalog, background);
    let rpc = rpc::Rpc::new(app.clone());
    let routes = Routes::new(
        IntelServiceServer::new(rpc).max_decoding_message_size(MAX_MESSAGE).max_encoding_message_size(MAX_MESSAGE),
    );
    let ping = db.clone();
    Ok(Service::new(NAME, routes)
        .task(Task::new("intel relay", move |shutdown| outbox.relay(db, bus, shutdown.token())))
        .task(Task::new("intel syncs", move |shutdown| async move {
            shutdown.cancelled().await;
            app.stop().await;
        }))
        .check(Check::new("intel database", move || {
            let db = ping.clone();
            async move { db.ping().await.map_err(|_| "not reachable".to_owned()) }
        })))
}
