//! Deception: the fleet of decoys, what attackers do there, and what that shows.

mod app;
mod config;
mod domain;
mod error;
mod events;
mod figures;
#[doc(hidden)]
pub mod fuzz;
mod rpc;
mod runtime;
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
    catalog::v1::knowledge_service_client::KnowledgeServiceClient,
    deception::v1::{
        alert_service_server::AlertServiceServer, attacker_service_server::AttackerServiceServer,
        fleet_service_server::FleetServiceServer, fleet_settings_service_server::FleetSettingsServiceServer,
        intake_service_server::IntakeServiceServer, log_service_server::LogServiceServer,
        observation_service_server::ObservationServiceServer,
        sensor_control_service_server::SensorControlServiceServer,
    },
    events::v1::KnowledgeChanged,
};
use aegis_rpc::RpcService;
use aegis_runtime::{Check, Service, Task};
use tonic::service::Routes;

pub use config::{Config, DockerConfig};
pub use domain::archetypes::{SERVICES, SYSTEMS};
pub use domain::settings::{BadInterval, Interval, Step};
pub use error::Error;

use app::{App, sigma::Catalogue};
use rpc::Rpc;

/// The service's name.
pub const NAME: &str = "deception";

/// What it wants to hear of.
pub const SUBSCRIPTION: Subscription = Subscription { consumer: NAME, kinds: &[KnowledgeChanged::KIND] };

/// Methods that need no token: how the parts are.
pub const PUBLIC_METHODS: &[&str] = &["/aegis.deception.v1.FleetService/GetHealth"];

/// What the service stands on.
pub struct Deps {
    /// Its own database, migrated with [`migrations`] and those of the events crate.
    pub db: Db,
    /// Where its events go.
    pub bus: Bus,
    /// Where captured files are.
    pub blobs: Blobs,
    /// Owner of Sigma rules.
    pub knowledge: KnowledgeServiceClient<RpcService>,
    /// Contexts for what is asked of the owners when nobody waits for it.
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
    let Deps { db, bus, blobs, knowledge, background, config } = deps;
    figures::declare();
    let outbox = Outbox::new(NAME);
    let app = Arc::new(App::new(db.clone(), outbox.clone(), blobs, config)?);
    // From the first event on.
    app.renew_sigma().await?;
    let catalogue = Catalogue { knowledge, background };
    let delivery = bus.subscribe(Consumer::new(SUBSCRIPTION, db.clone(), Arc::new(events::Events(Arc::clone(&app)))));
    let sigma = Arc::clone(&app);
    let rpc = Rpc::new(Arc::clone(&app));
    let mut routes = Routes::builder();
    routes.add_service(FleetSettingsServiceServer::new(rpc.clone()).max_decoding_message_size(aegis_rpc::MAX_MESSAGE));
    routes.add_service(FleetServiceServer::new(rpc.clone()).max_decoding_message_size(aegis_rpc::MAX_MESSAGE));
    routes.add_service(SensorControlServiceServer::new(rpc.clone()).max_decoding_message_size(aegis_rpc::MAX_MESSAGE));
    routes.add_service(LogServiceServer::new(rpc.clone()).max_decoding_message_size(aegis_rpc::MAX_MESSAGE));
    routes.add_service(IntakeServiceServer::new(rpc.clone()).max_decoding_message_size(aegis_rpc::MAX_MESSAGE));
    routes.add_service(AttackerServiceServer::new(rpc.clone()).max_decoding_message_size(aegis_rpc::MAX_MESSAGE));
    routes.add_service(AlertServiceServer::new(rpc.clone()).max_decoding_message_size(aegis_rpc::MAX_MESSAGE));
    routes.add_service(ObservationServiceServer::new(rpc.clone()).max_decoding_message_size(aegis_rpc::MAX_MESSAGE));
    let relay_db = db.clone();
    let streams = app.stop.clone();
    let keeping = Arc::clone(&app);
    let follower = Arc::clone(&app);
    let retention = Arc::clone(&app);
    let (live, committed) = (Arc::clone(&app.live), app.logs_committed.clone());
    let (syslog, listen) = (Arc::clone(&app), app.config.syslog_listen);
    let service = Service::new(NAME, routes.routes())
        .task(Task::new("deception relay", move |stop| outbox.relay(relay_db, bus, stop.token())))
        .task(Task::new("deception events", move |stop| delivery.run(stop.token())))
        .task(Task::new("deception rules", move |stop| sigma.keep_sigma(catalogue, stop.token())))
        .task(Task::new("deception live", move |stop| app::live::run(live, committed, stop.token())))
        .task(Task::new("deception syslog", move |stop| async move {
            if let Some(address) = listen {
                app::syslog::run(syslog, address, stop.token()).await;
            }
        }))
        .task(Task::new("deception follower", move |stop| follower.follow(stop.token())))
        .task(Task::new("deception retention", move |stop| retention.keep_events(stop.token())))
        .task(Task::new("deception streams", move |stop| async move {
            stop.cancelled().await;
            streams.cancel();
        }))
        .task(Task::new("deception fleet", move |stop| keeping.keep_fleet(stop)))
        .check(Check::new("deception database", move || {
            let db = db.clone();
            async move { db.ping().await.map_err(|_| "the database does not answer".to_owned()) }
        }));
    Ok(service)
}
