//! The use cases.

pub(crate) mod alerts;
pub(crate) mod artifacts;
pub(crate) mod assign;
pub(crate) mod attackers;
pub(crate) mod bounty;
pub(crate) mod find;
pub(crate) mod fleet;
pub(crate) mod follow;
pub(crate) mod health;
pub(crate) mod ingest;
pub(crate) mod intake;
pub(crate) mod live;
pub(crate) mod logs;
pub(crate) mod mutate;
pub(crate) mod observations;
pub(crate) mod purge;
pub(crate) mod retention;
pub(crate) mod sessions;
pub(crate) mod settings;
pub(crate) mod sigma;
pub(crate) mod syslog;
pub(crate) mod watch;

use std::sync::Arc;

use aegis_blob::Blobs;
use aegis_db::Db;
use aegis_error::Failure;
use aegis_events::Outbox;
use tokio_util::sync::CancellationToken;

use crate::{Config, runtime::Runtime};
use health::Parts;

/// What the use cases stand on.
pub(crate) struct App {
    pub(crate) db: Db,
    pub(crate) outbox: Outbox,
    pub(crate) blobs: Blobs,
    pub(crate) config: Config,
    /// What runs the decoys.
    pub(crate) runtime: Arc<dyn Runtime>,
    /// Cancelled when the process is to stop: streams end then.
    pub(crate) stop: CancellationToken,
    /// How the parts of this process are; each says so itself, and [`App::health`] tells.
    pub(crate) parts: Arc<Parts>,
    /// Takes events in.
    pub(crate) intake: intake::Intake,
    /// Sigma rules of the catalogue.
    pub(crate) sigma: sigma::Rules,
    /// The newest events.
    pub(crate) live: Arc<live::Live>,
    /// Room for those who watch.
    pub(crate) watchers: watch::Watchers,
    /// What is told of everything together.
    pub(crate) stats: logs::KeptStats,
    /// Rung when logs were committed in this process.
    pub(crate) logs_committed: Wake,
    /// Rung when the fleet was changed in this process.
    pub(crate) fleet_changed: Wake,
    /// Rung when a sensor said something new in this process.
    pub(crate) sensor_reported: Wake,
}

/// Wakes all that wait for something. A ring that comes before somebody looks is not lost to them.
#[derive(Clone, Debug)]
pub(crate) struct Wake(tokio::sync::watch::Sender<u64>);

impl Wake {
    pub(crate) fn new() -> Self {
        Wake(tokio::sync::watch::Sender::new(0))
    }

    /// Wakes all who listen. For `tx.on_commit(move || wake.ring())`, among others.
    pub(crate) fn ring(&self) {
        self.0.send_modify(|rings| *rings = rings.wrapping_add(1));
    }

    /// From now on: `changed().await` returns after the next ring, also one that came meanwhile.
    pub(crate) fn listen(&self) -> tokio::sync::watch::Receiver<u64> {
        self.0.subscribe()
    }
}

impl App {
    pub(crate) fn new(db: Db, outbox: Outbox, blobs: Blobs, config: Config) -> Result<Self, Failure> {
        let runtime = crate::runtime::of(&config, &db)?;
        let (parts, logs_committed) = (Arc::new(Parts::default()), Wake::new());
        let live = Arc::new(live::Live::new(db.clone()));
        let intake = intake::Intake::new(db.clone(), Arc::clone(&live), logs_committed.clone(), Arc::clone(&parts));
        Ok(App {
            db,
            outbox,
            blobs,
            config,
            runtime,
            stop: CancellationToken::new(),
            parts,
            intake,
            sigma: sigma::Rules::new(),
            live,
            watchers: watch::Watchers::default(),
            stats: logs::KeptStats::default(),
            logs_committed,
            fleet_changed: Wake::new(),
            sensor_reported: Wake::new(),
        })
    }
}
