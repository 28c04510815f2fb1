//! The use cases: data sources, and syncs.

mod apply;
mod progress;
mod run;
mod sources;
mod sync;

use std::sync::Arc;

use aegis_auth::{Background, Role};
use aegis_db::Db;
use aegis_events::Outbox;
use aegis_proto::catalog::v1::catalog_service_client::CatalogServiceClient;
use aegis_rpc::RpcService;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::fetch::FetchLimits;

pub(crate) use sources::SourceEdit;

/// Who may read sources and start syncs: administrators, and the product itself.
const OPERATORS: &[Role] = &[Role::Admin, Role::Service];

/// What the use cases work with. Cheap to clone; clones share the syncs that run.
#[derive(Clone)]
pub(crate) struct App(Arc<State>);

struct State {
    db: Db,
    outbox: Outbox,
    catalog: CatalogServiceClient<RpcService>,
    background: Background,
    limits: FetchLimits,
    syncs: TaskTracker,
    stop: CancellationToken,
}

impl App {
    pub(crate) fn new(
        db: Db,
        outbox: Outbox,
        catalog: CatalogServiceClient<RpcService>,
        background: Background,
    ) -> Self {
        App(Arc::new(State {
            db,
            outbox,
            catalog,
            background,
            limits: FetchLimits::default(),
            syncs: TaskTracker::new(),
            stop: CancellationToken::new(),
        }))
    }

    pub(crate) fn db(&self) -> &Db {
        &self.0.db
    }

    pub(crate) fn outbox(&self) -> &Outbox {
        &self.0.outbox
    }

    /// Ends the syncs that run and waits for them; no other starts.
    pub(crate) async fn stop(&self) {
        self.0.stop.cancel();
        self.0.syncs.close();
        self.0.syncs.wait().await;
    }
}
