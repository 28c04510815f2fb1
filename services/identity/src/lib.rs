//! Identity: people, their passwords and tokens, their notifications, and the audit trail of everybody's deeds.

pub mod admin;
mod app;
mod config;
mod domain;
mod error;
mod events;
mod rpc;
mod store;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use aegis_cache::Cache;
use aegis_db::{Db, Migrations};
use aegis_error::Failure;
use aegis_events::{Bus, Consumer};
use aegis_runtime::{Check, Service, Task};
use secrecy::SecretString;

pub use config::{Config, LoginLimits, MAX_TOKEN_LIFETIME};
pub use domain::{chain::Break, user::User};
pub use events::SUBSCRIPTION;
pub use rpc::PUBLIC_METHODS;
pub use store::keys::KeyRow;

use app::App;

/// The service's name.
pub const NAME: &str = "identity";

/// What identity stands on.
pub struct Deps {
    /// A database of its own, with the migrations of events and of this crate applied.
    pub db: Db,
    /// The bus.
    pub bus: Bus,
    /// Where failed logins are counted.
    pub cache: Cache,
    /// Settings.
    pub config: Config,
}

/// The service, and what its first start brought about.
#[derive(Debug)]
pub struct Built {
    /// The service.
    pub service: Service,
    /// The password of the `admin` that was made just now, where it was made up. To be shown once; it is nowhere
    /// else.
    pub initial_password: Option<SecretString>,
}

/// The tables, to be migrated together with those of events.
pub fn migrations() -> Migrations {
    aegis_db::migrations!()
}

/// Makes the service; at the first start also its signing key and its first administrator.
pub async fn build(deps: Deps) -> Result<Built, Failure> {
    let Deps { db, bus, cache, config } = deps;
    config.check()?;
    let app = App::new(db.clone(), cache, config);
    let initial_password = app.set_up().await?;

    let delivery =
        bus.subscribe(Consumer::new(SUBSCRIPTION, db.clone(), Arc::new(events::Intake::new(app.hub.clone()))));
    let (outbox, relay_db, check_db) = (app.outbox.clone(), db.clone(), db);
    let housekeeper = Arc::clone(&app);
    let (hub, hub_db) = (app.hub.clone(), check_db.clone());
    let service = Service::new(NAME, rpc::routes(app))
        .task(Task::new("identity relay", move |stop| outbox.relay(relay_db, bus, stop.token())))
        .task(Task::new("identity events", move |stop| delivery.run(stop.token())))
        .task(Task::new("identity notifications", move |stop| hub.run(hub_db, stop.token())))
        .task(Task::new("identity housekeeping", move |stop| housekeeper.housekeeping(stop.token())))
        .check(Check::new("identity database", move || {
            let db = check_db.clone();
            async move { db.ping().await.map_err(|_| "the database does not answer".to_owned()) }
        }));
    Ok(Built { service, initial_password })
}
