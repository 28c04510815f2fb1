//! Events of other services: evidence goes with its test.

use std::sync::Arc;

use aegis_db::Tx;
use aegis_error::Failure;
use aegis_events::{Event, Handler, decode, system_actor};
use aegis_proto::events::v1::{Envelope, TestChanged};
use async_trait::async_trait;
use uuid::Uuid;

use crate::{NAME, app::App};

/// Takes events of other services in.
pub(crate) struct Events(pub(crate) Arc<App>);

#[async_trait]
impl Handler for Events {
    async fn handle(&self, tx: &mut Tx, event: &Envelope) -> Result<(), Failure> {
        if event.r#type != TestChanged::KIND {
            return Ok(());
        }
        let changed: TestChanged = decode(event)?;
        if !changed.deleted {
            return Ok(());
        }
        let test_id = Uuid::parse_str(&changed.test_id).map_err(Failure::internal)?;
        let actor = event.actor.clone().unwrap_or_else(|| system_actor(NAME));
        self.0.remove_all(tx, &actor, test_id).await?;
        let app = Arc::clone(&self.0);
        tx.on_commit(move || app.left.notify_one());
        Ok(())
    }
}
