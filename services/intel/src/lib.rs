//! Knowledge from outside: fetches what its publishers release, reads it, and hands it to the services that own it.

mod app;
mod config;
pub mod domain;
mod error;
pub mod fetch;
#[doc(hidden)]
pub mod fuzz;
mod rpc;
mod rpc_scan;
mod rpc_scheduler;
mod rpc_upload;
mod store;

use aegis_auth::Background;
use aegis_db::Db;
use aegis_error::Failure;
use aegis_events::{Bus, Outbox};
use aegis_proto::{
    analytics::v1::snapshot_service_client::SnapshotServiceClient,
    catalog::v1::{
        catalog_service_client::CatalogServiceClient, knowledge_service_client::KnowledgeServiceClient,
        template_service_client::TemplateServiceClient,
    },
    intel::v1::{
        intel_service_server::IntelServiceServer, scan_service_server::ScanServiceServer,
        scheduler_service_server::SchedulerServiceServer, upload_service_server::UploadServiceServer,
    },
};
use aegis_rpc::{MAX_MESSAGE, RpcService};
use aegis_runtime::{Check, Service, Task};
use tonic::service::Routes;

use app::{App, Clients, Scheduling};

pub use config::Config;

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
    /// What has names, and where techniques are flagged.
    pub knowledge: KnowledgeServiceClient<RpcService>,
    /// What is taken out as files.
    pub templates: TemplateServiceClient<RpcService>,
    /// Where coverage is kept every week.
    pub snapshots: SnapshotServiceClient<RpcService>,
    /// Contexts for the calls of a sync, which outlives the request that started it.
    pub background: Background,
    /// Settings.
    pub config: Config,
}

/// The service's tables.
pub fn migrations() -> aegis_db::Migrations {
    aegis_db::migrations!()
}

/// Builds the service. Data sources that are missing are added with their publishers' addresses.
pub async fn build(deps: Deps) -> Result<Service, Failure> {
    let Deps { db, bus, catalog, knowledge, templates, snapshots, background, config } = deps;
    let scheduling = Scheduling::new(&config)?;
    store::dialect::end_jobs_of_the_last_process(&db).await?;
    store::source::seed(&db, &domain::source::PUBLISHED).await?;
    let outbox = Outbox::new(NAME);
    let clients = Clients { catalog, knowledge, templates, snapshots };
    let app = App::new(db.clone(), outbox.clone(), clients, background, scheduling, config.fetch);
    let (scheduler, stopper) = (app.clone(), app.clone());
    let rpc = rpc::Rpc::new(app.clone());
    let routes = Routes::new(
        IntelServiceServer::new(rpc).max_decoding_message_size(MAX_MESSAGE).max_encoding_message_size(MAX_MESSAGE),
    )
    .add_service(
        SchedulerServiceServer::new(rpc_scheduler::SchedulerRpc::new(app.clone()))
            .max_decoding_message_size(MAX_MESSAGE)
            .max_encoding_message_size(MAX_MESSAGE),
    )
    .add_service(
        UploadServiceServer::new(rpc_upload::UploadRpc::new(app.clone()))
            .max_decoding_message_size(MAX_MESSAGE)
            .max_encoding_message_size(MAX_MESSAGE),
    )
    .add_service(
        ScanServiceServer::new(rpc_scan::ScanRpc::new(app))
            .max_decoding_message_size(MAX_MESSAGE)
            .max_encoding_message_size(MAX_MESSAGE),
    );
    let ping = db.clone();
    Ok(Service::new(NAME, routes)
        .task(Task::new("intel relay", move |shutdown| outbox.relay(db, bus, shutdown.token())))
        .task(Task::new("intel syncs", move |shutdown| async move {
            shutdown.cancelled().await;
            stopper.stop().await;
        }))
        .task(Task::new("intel scheduler", move |shutdown| scheduler.schedule(shutdown.token())))
        .check(Check::new("intel database", move || {
            let db = ping.clone();
            async move { db.ping().await.map_err(|_| "not reachable".to_owned()) }
        })))
}
