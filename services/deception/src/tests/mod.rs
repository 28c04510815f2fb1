//! The service over its real stores.

mod alerts;
mod attackers;
pub(crate) mod fleet;
mod logs;
mod retention;
pub(crate) mod sensor;
mod settings;
mod speed;
mod techniques;

use std::sync::Arc;

use aegis_auth::{OpCtx, Role};
use aegis_blob::Blobs;
use aegis_db::{Db, read};
use aegis_events::Outbox;
use aegis_proto::events::v1::{AuditRecorded, Envelope};
use aegis_testkit::{TestDb, ctx, databases};
use prost::Message;
use tempfile::TempDir;

use crate::{Config, NAME, app::App};

pub(crate) async fn stores() -> Vec<TestDb> {
    databases(NAME, &[aegis_events::migrations(), crate::migrations()]).await
}

/// The service's use cases over `db`. Its captured files go with the folder.
pub(crate) fn app(db: &Db) -> (Arc<App>, TempDir) {
    app_with(db, Config::default())
}

pub(crate) fn app_with(db: &Db, config: Config) -> (Arc<App>, TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let blobs = Blobs::folder(folder.path()).unwrap();
    (Arc::new(App::new(db.clone(), Outbox::new(NAME), blobs, config).unwrap()), folder)
}

/// What waits in the outbox, oldest first.
pub(crate) async fn sent(db: &Db) -> Vec<Envelope> {
    let bodies: Vec<Vec<u8>> =
        read!(db, |pool| sqlx::query_scalar("SELECT body FROM outbox ORDER BY seq").fetch_all(pool).await).unwrap();
    bodies.into_iter().map(|body| Envelope::decode(body.as_slice()).unwrap()).collect()
}

/// What went to the audit trail, oldest first.
pub(crate) async fn audited(db: &Db) -> Vec<AuditRecorded> {
    let records = sent(db).await.into_iter().filter(|event| event.r#type == "audit.recorded");
    records.map(|event| AuditRecorded::decode(event.data.as_slice()).unwrap()).collect()
}

pub(crate) fn admin() -> OpCtx {
    ctx(Role::Admin, "ada")
}
