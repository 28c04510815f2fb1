//! `aegis` and `aegis serve …`: runs roles until told to stop.

use std::{
    net::{Ipv4Addr, SocketAddr},
    process::ExitCode,
    time::Duration,
};

use anstream::println;
use anyhow::{Context, Result};
use owo_colors::OwoColorize;
use secrecy::ExposeSecret;
use tokio::net::TcpListener;

use crate::{
    listen::{self, Socket},
    product::Product,
    roles::Role,
    sensor,
    settings::Settings,
    tls::{self, Tls},
};

/// Runs them.
pub async fn run(settings: &Settings, roles: &[Role]) -> Result<ExitCode> {
    settings.check_roles(roles)?;
    let listener = TcpListener::bind(&settings.listen).await.with_context(|| {
        format!(
            "cannot listen on {}: is another Aegis running there? Choose another address with AEGIS_LISTEN",
            settings.listen
        )
    })?;
    let address = listener.local_addr()?;
    let tls = Tls::load(settings, roles)?;
    let product = Product::start(settings, roles, &tls).await?;
    let signals = tokio::spawn(aegis_runtime::signals(product.shutdown.clone()));

    let patience = Duration::from_secs(settings.shutdown_seconds);
    product.shutdown.spawn("certificates", tls::watch(tls.clone(), product.shutdown.clone()));
    let url = format!("{}://{address}", if tls.server.is_some() { "https" } else { "http" });
    let socket =
        Socket { strangers: roles.contains(&Role::Gateway), limits: settings.limits(), tls: tls.server.clone() };
    let server = tokio::spawn(listen::listen(listener, product.router.clone(), product.shutdown.clone(), socket));
    if settings.sensor && Role::ALL.iter().all(|role| roles.contains(role)) {
        let door = match &tls.server {
            None => address,
            // The certificate is not for an address of this machine, and its key is nothing that faces attackers.
            Some(_) => open_door(settings, &product).await?,
        };
        let child = sensor::Child::new(settings, door, product.tokens.clone());
        product.shutdown.spawn("sensor", child.keep(product.shutdown.clone()));
    }
    announce(settings, roles, &url, &product);

    product.shutdown.cancelled().await;
    tracing::info!("stopping: finishing what runs");
    // A connection that stays open must not hold the process.
    if tokio::time::timeout(patience, server).await.is_err() {
        tracing::warn!("some requests did not end in time");
    }
    signals.abort();
    let good = product.stop(patience).await;
    Ok(if good { ExitCode::SUCCESS } else { ExitCode::from(1) })
}

/// An address that only this machine reaches, for the product's own sensor.
async fn open_door(settings: &Settings, product: &Product) -> Result<SocketAddr> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.context("there is no address for the sensor")?;
    let address = listener.local_addr()?;
    let socket = Socket { strangers: true, limits: settings.limits(), tls: None };
    let (router, shutdown) = (product.door.clone(), product.shutdown.clone());
    product.shutdown.spawn("sensor's door", async move {
        if let Err(error) = listen::listen(listener, router, shutdown, socket).await {
            tracing::error!(%error, "the sensor is not heard any more");
        }
    });
    Ok(address)
}

fn announce(settings: &Settings, roles: &[Role], url: &str, product: &Product) {
    if roles.contains(&Role::Gateway) && roles.len() == Role::ALL.len() {
        println!("{} {}", "Aegis".bold(), env!("CARGO_PKG_VERSION"));
        println!("  data      {}", settings.data_dir.display());
        println!("  docs      {url}/docs");
    }
    if let Some(password) = &product.initial_password {
        println!("  user      {}", "admin".bold());
        println!(
            "  password  {}   (shown once; it has to be changed at the first login)",
            password.expose_secret().bold()
        );
        println!("  next      log in at {url}/docs (Authorize), then bring in the whole of ATT&CK:");
        println!("            aegis sync mitre_attack_enterprise   (the starter matrix is there already)");
    }
    // Scripts wait for this line.
    println!("listening on {url}");
}
