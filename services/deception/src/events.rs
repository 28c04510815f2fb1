//! Events of other services: the catalogue's rules have changed.

use std::sync::Arc;

use aegis_db::Tx;
use aegis_error::Failure;
use aegis_events::{Event, Handler, decode};
use aegis_proto::events::v1::{Envelope, KnowledgeChanged};
use async_trait::async_trait;

use crate::{app::App, store};

/// What the catalogue calls rules.
const RULE: &str = "detection_rule";

/// Takes events of other services in.
pub(crate) struct Events(pub(crate) Arc<App>);

#[async_trait]
impl Handler for Events {
    async fn handle(&self, tx: &mut Tx, event: &Envelope) -> Result<(), Failure> {
        if event.r#type != KnowledgeChanged::KIND {
            return Ok(());
        }
        let changed: KnowledgeChanged = decode(event)?;
        if changed.kinds.iter().any(|kind| kind == RULE) {
            store::sigma::want(tx).await?;
            let rules = self.0.sigma.clone();
            tx.on_commit(move || rules.changed());
        }
        Ok(())
    }
}
