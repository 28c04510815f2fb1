//! How a command reaches the product: over gRPC when one runs, else the product is put together in this process.

use std::time::Duration;

use aegis_auth::{Background, OpCtx};
use aegis_rpc::ClientTls;
use anyhow::{Context, Result, bail};

use crate::{
    commands::health::Here,
    keys::Identity,
    product::{Clients, Product},
    roles::Role,
    settings::Settings,
    stores,
    tls::{self, Tls},
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
        let distributed = settings.identity_url.is_some();
        let here = Here::of(settings)?;
        let answering = here.answering().await;
        if distributed || answering.is_some() {
            let (peers, own) = (tls::peers(settings)?, here.tls());
            let at = answering.unwrap_or_else(|| here.likely().to_owned());
            let target = |role| match settings.peer(role) {
                Some(url) => (role, url, &peers),
                None => (role, at.as_str(), &own),
            };
            let urls: Vec<(Role, &str, &ClientTls)> = Role::SERVICES.into_iter().map(target).collect();
            let clients = Clients::remote(&urls)?;
            let identity = Identity::default();
            identity.set(clients.identity()?);
            let background = identity.background("cli", stores::service_secret(settings)?);
            return Ok(Access { clients, background, product: None });
        }
        if settings.database_url.is_some() && settings.broker_url.is_some() {
            bail!(
                "nothing answers at {}: set AEGIS_IDENTITY_URL and the other AEGIS_<SERVICE>_URL settings to where the services are",
                here.likely()
            );
        }
        let product = Product::start(settings, &Role::ALL, &Tls::of_caller(settings)?).await?;
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
