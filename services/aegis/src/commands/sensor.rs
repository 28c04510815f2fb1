//! `aegis sensor`: the process that faces attackers.

use std::{io::BufRead, process::ExitCode, time::Duration};

use aegis_runtime::{Shutdown, config::ConfigError};
use aegis_sensor::contain;
use aegis_telemetry::TelemetryConfig;
use anyhow::{Context, Result};
use secrecy::SecretString;
use tokio::sync::watch;

use crate::{
    cli::SensorArgs,
    settings::Settings,
    tls::{self, Tls},
};

/// Longest token, bytes.
const MAX_TOKEN: u64 = 16 * 1024;

/// Gives up what it can, then hosts decoys until it is told to stop.
pub fn run(settings: &Settings, args: &SensorArgs) -> Result<ExitCode> {
    check(settings, args)?;
    if args.child {
        contain::end_with_parent().context("cannot follow the product's end")?;
    }
    let url = settings.deception_url.clone().unwrap_or_default();
    let folder = settings.sensor_folder();
    aegis_sensor::prepare(&folder)
        .with_context(|| format!("cannot make the folder {}: choose another with AEGIS_DATA_DIR", folder.display()))?;
    // Relative to where it was started; a folder that is named wholly stays the same one.
    let folder = folder.canonicalize().context("cannot find the sensor's folder")?;
    let ports = aegis_rpc::ports(&url).context("deception_url (AEGIS_DECEPTION_URL) cannot be read")?;
    let _ = rustls::crypto::ring::default_provider().install_default();
    let tls = Tls::of_caller(settings)?;
    let contained = contain::contain(&folder, &ports, &tls.folders()).context("cannot give up privileges")?;

    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().context("cannot start threads")?;
    let (token, tokens) = watch::channel(settings.sensor_token.clone());
    let result = runtime.block_on(async {
        let telemetry = aegis_telemetry::init(&TelemetryConfig {
            filter: settings.log.clone(),
            json: settings.log_format == "json",
            // It connects to nobody but deception.
            otlp_endpoint: None,
            trace_share: 0.0,
            service: "aegis-sensor".to_owned(),
        })
        .context("cannot start logging: check AEGIS_LOG")?;
        match contained.landlock == "full" && contained.seccomp {
            true => tracing::info!(%contained, "the sensor is contained"),
            false => tracing::warn!(%contained, "the kernel contains the sensor only in part"),
        }
        let shutdown = Shutdown::new();
        let signals = tokio::spawn(aegis_runtime::signals(shutdown.clone()));
        tokio::spawn(tls::watch(tls.clone(), shutdown.clone()));
        if args.child {
            follow(token, shutdown.clone());
        }
        let config = aegis_sensor::Config {
            name: settings.sensor_name.clone(),
            buffer_bytes: u64::from(settings.sensor_buffer_mib) * 1024 * 1024,
            connections: settings.sensor_connections,
            connections_per_address: settings.sensor_connections_per_address,
            idle: Duration::from_secs(settings.sensor_idle_seconds.into()),
            total: Duration::from_secs(u64::from(settings.sensor_session_minutes) * 60),
            tls: tls.peers.clone(),
            ..aegis_sensor::Config::new(url, folder, tokens)
        };
        let ran = aegis_sensor::run(config, shutdown.token()).await.context("the sensor cannot run");
        signals.abort();
        telemetry.shutdown().await;
        ran
    });
    // What is still on the way on other threads is on the disk, or is no more.
    runtime.shutdown_timeout(Duration::from_secs(1));
    result.map(|()| ExitCode::SUCCESS)
}

fn check(settings: &Settings, args: &SensorArgs) -> Result<(), ConfigError> {
    let mut problems = Vec::new();
    if settings.deception_url.is_none() {
        problems.push("deception_url (AEGIS_DECEPTION_URL) is needed: events are handed in there".to_owned());
    }
    if settings.sensor_token.is_none() && !args.child {
        problems.push("sensor_token (AEGIS_SENSOR_TOKEN) is needed: an API key of the role sensor".to_owned());
    }
    if problems.is_empty() { Ok(()) } else { Err(ConfigError::new(problems)) }
}

/// Tokens come on standard input, one a line; its end is the end of the product.
fn follow(token: watch::Sender<Option<SecretString>>, shutdown: Shutdown) {
    // A thread of its own: nothing waits for one that reads.
    std::thread::spawn(move || {
        let mut input = std::io::stdin().lock();
        loop {
            let mut line = String::new();
            match std::io::Read::take(&mut input, MAX_TOKEN).read_line(&mut line) {
                Ok(read) if read > 0 => token.send_replace(Some(SecretString::from(line.trim().to_owned()))),
                Ok(_) | Err(_) => break,
            };
        }
        shutdown.cancel();
    });
}
