//! `aegis` and `aegis serve …`: runs roles until told to stop.

use std::{process::ExitCode, time::Duration};

use anstream::println;
use anyhow::{Context, Result};
use owo_colors::OwoColorize;
use secrecy::ExposeSecret;
use tokio::net::TcpListener;

use crate::{listen, product::Product, roles::Role, sensor, settings::Settings};

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
    let product = Product::start(settings, roles).await?;
    let signals = tokio::spawn(aegis_runtime::signals(product.shutdown.clone()));

    let patience = Duration::from_secs(settings.shutdown_seconds);
    let server = tokio::spawn(listen::listen(listener, product.router.clone(), product.shutdown.clone()));
    if settings.sensor && Role::ALL.iter().all(|role| roles.contains(role)) {
        let child = sensor::Child::new(settings, address, product.tokens.clone());
        product.shutdown.spawn("sensor", child.keep(product.shutdown.clone()));
    }
    announce(settings, roles, &address.to_string(), &product);

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

fn announce(settings: &Settings, roles: &[Role], address: &str, product: &Product) {
    if roles.contains(&Role::Gateway) && roles.len() == Role::ALL.len() {
        println!("{} {}", "Aegis".bold(), env!("CARGO_PKG_VERSION"));
        println!("  data      {}", settings.data_dir.display());
        println!("  docs      http://{address}/docs");
    }
    if let Some(password) = &product.initial_password {
        println!("  user      {}", "admin".bold());
        println!(
            "  password  {}   (shown once; it has to be changed at the first login)",
            password.expose_secret().bold()
        );
        println!("  next      log in at http://{address}/docs (Authorize), then bring in the whole of ATT&CK:");
        println!("            aegis sync mitre_attack_enterprise   (the starter matrix is there already)");
    }
    // Scripts wait for this line.
    println!("listening on http://{address}");
}
