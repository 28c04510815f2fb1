//! `aegis sensor`: the process that faces attackers.

use std::{
    io::BufRead,
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};

use aegis_runtime::{
    Shutdown,
    config::{self, ConfigError},
};
use aegis_sensor::contain;
use aegis_telemetry::TelemetryConfig;
use anyhow::{Context, Result};
use secrecy::{ExposeSecret, SecretString};
use tokio::sync::watch;

use crate::{
    cli::SensorArgs,
    settings::Settings,
    tls::{self, Tls},
};

/// Longest token, bytes.
const MAX_TOKEN: u64 = 16 * 1024;
/// Where the token comes from a file, it is looked at again this often: a key ends, and another takes its place.
const AGAIN: Duration = Duration::from_secs(10);

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
    let token_file = token_file().filter(|_| !args.child);
    let mut readable = tls.folders();
    // The folder, not the file: who writes a new one puts it in the place of the old.
    readable.extend(token_file.as_deref().and_then(Path::parent).map(Path::to_path_buf));
    let contained = contain::contain(&folder, &ports, &readable).context("cannot give up privileges")?;

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
        match token_file {
            _ if args.child => follow(token, shutdown.clone()),
            Some(file) => drop(tokio::spawn(renew(file, token, shutdown.clone()))),
            None => {}
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

/// The file that holds the token, where settings name one. Whole: containment is by whole paths.
fn token_file() -> Option<PathBuf> {
    let named = std::env::var_os("AEGIS_SENSOR_TOKEN_FILE").filter(|name| !name.is_empty())?;
    std::path::absolute(named).ok()
}

/// Reads the token again and again. A file that cannot be read, or is empty, changes nothing.
async fn renew(file: PathBuf, token: watch::Sender<Option<SecretString>>, shutdown: Shutdown) {
    let mut told = false;
    loop {
        tokio::select! {
            () = tokio::time::sleep(AGAIN) => {}
            () = shutdown.cancelled() => return,
        }
        let path = file.clone();
        let read = tokio::task::spawn_blocking(move || config::read_bounded(&path)).await;
        match read.unwrap_or_else(|error| Err(std::io::Error::other(error))) {
            Ok(text) if !text.trim().is_empty() => {
                told = false;
                let text = text.trim();
                let renewed = token.send_if_modified(|known| {
                    let same = known.as_ref().is_some_and(|known| known.expose_secret() == text);
                    if !same {
                        *known = Some(SecretString::from(text));
                    }
                    !same
                });
                if renewed {
                    tracing::info!("there is a new token");
                }
            }
            Ok(_) => {}
            Err(error) if !told => {
                tracing::warn!(%error, "the token's file cannot be read; the token that was there stays");
                told = true;
            }
            Err(_) => {}
        }
    }
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
