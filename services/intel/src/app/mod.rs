//! The use cases: data sources, and syncs.

mod apply;
mod documents;
mod feeds;
mod items;
mod progress;
mod run;
mod scan;
mod scheduled;
mod scheduler;
mod sources;
mod sync;
mod upload;

use std::sync::Arc;

use aegis_auth::{Background, Role};
use aegis_db::Db;
use aegis_events::Outbox;
use aegis_proto::{
    analytics::v1::snapshot_service_client::SnapshotServiceClient,
    catalog::v1::{
        catalog_service_client::CatalogServiceClient, knowledge_service_client::KnowledgeServiceClient,
        template_service_client::TemplateServiceClient,
    },
};
use aegis_rpc::RpcService;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::fetch::FetchLimits;

pub(crate) use feeds::FeedEdit;
pub(crate) use items::{ItemQuery, ItemView};
pub(crate) use scan::ScanOutcome;
pub(crate) use scheduler::{JobView, SchedulerView, Scheduling};
pub(crate) use sources::SourceEdit;
pub(crate) use sync::SyncOrder;
pub(crate) use upload::{ExportedFile, UploadKind, Uploaded};

/// Who may read sources and start syncs: administrators, and the product itself.
const OPERATORS: &[Role] = &[Role::Admin, Role::Service];

/// What the use cases work with. Cheap to clone; clones share the syncs that run.
#[derive(Clone)]
pub(crate) struct App(Arc<State>);

/// How other services are reached.
pub(crate) struct Clients {
    pub catalog: CatalogServiceClient<RpcService>,
    pub knowledge: KnowledgeServiceClient<RpcService>,
    pub templates: TemplateServiceClient<RpcService>,
    pub snapshots: SnapshotServiceClient<RpcService>,
}

struct State {
    db: Db,
    outbox: Outbox,
    catalog: CatalogServiceClient<RpcService>,
    knowledge: KnowledgeServiceClient<RpcService>,
    templates: TemplateServiceClient<RpcService>,
    snapshots: SnapshotServiceClient<RpcService>,
    background: Background,
    scheduling: Scheduling,
    limits: FetchLimits,
    syncs: TaskTracker,
    stop: CancellationToken,
}

impl App {
    pub(crate) fn new(
        db: Db,
        outbox: Outbox,
        clients: Clients,
        background: Background,
        scheduling: Scheduling,
        limits: FetchLimits,
    ) -> Self {
        let Clients { catalog, knowledge, templates, snapshots } = clients;
        App(Arc::new(State {
            db,
            outbox,
            catalog,
            knowledge,
            templates,
            snapshots,
            background,
            scheduling,
            limits,
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
