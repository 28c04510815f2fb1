//! How a command reaches the product: over gRPC when one runs, else the product is put together in this process.

use std::time::Duration;

use aegis_auth::{Background, OpCtx};
use anyhow::{Context, Result, bail};

use crate::{
    keys::Identity,
    product::{Clients, Product},
    roles::Role,
    settings::Settings,
    stores,
};

/// Clients and a token of the command line's own.
pub struct Access {
    /// How each service is reached.
    pub clients: Clients,
    background: Background,
    product: Option<Product>,
}

impl Access {
    /// Reaches what runs at the settings' address; with the embedded databases and nothing running there, puts the
    /// product together here, without listening.
    pub async fn open(settings: &Settings) -> Result<Access> {
        let here = format!("http://{}", settings.listen.replace("0.0.0.0", "127.0.0.1").replace("[::]", "[::1]"));
        let distributed = settings.identity_url.is_some();
        if distributed || crate::commands::health::answers(&here).await {
            let urls: Vec<(Role, &str)> =
                Role::SERVICES.into_iter().map(|role| (role, settings.peer(role).unwrap_or(&here))).collect();
            let clients = Clients::remote(&urls)?;
            let identity = Identity::default();
            identity.set(clients.identity()?);
            let background = identity.background("cli", stores::service_secret(settings)?);
            return Ok(Access { clients, background, product: None });
        }
        if settings.database_url.is_some() && settings.broker_url.is_some() {
            bail!(
                "nothing answers at {here}: set AEGIS_IDENTITY_URL and the other AEGIS_<SERVICE>_URL settings to where the services are"
            );
        }
        let product = Product::start(settings, &Role::ALL).await?;
        Ok(Access { clients: product.clients.clone(), background: product.background.clone(), product: Some(product) })
    }

    /// A context with a fresh token.
    pub async fn ctx(&self) -> Result<OpCtx> {
        self.background.ctx().await.context(
            "identity gives this command no token: does AEGIS_SERVICE_SECRET (or the data folder) belong to the product that runs?",
        )
    }

    /// Ends what was put together here. Events that were not passed on yet wait in their outboxes for the next start.
    pub async fn close(self) {
        if let Some(product) = self.product {
            product.stop(Duration::from_secs(10)).await;
        }
    }
}
