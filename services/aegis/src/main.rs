//! The product: command line, roles, wiring.

mod cli;
mod commands;
mod edge;
mod figures;
mod keys;
mod listen;
mod output;
mod product;
mod roles;
mod sensor;
mod settings;
mod stores;
mod tls;

use std::process::ExitCode;

use aegis_runtime::config::ConfigError;
use aegis_telemetry::{Telemetry, TelemetryConfig};
use anyhow::{Context, Result};
use clap::Parser;

use cli::{Cli, Command};
use output::Output;
use roles::Role;
use settings::{Overrides, Settings};

/// Rows of a list are made by one thread and freed by another, which the system's allocator is slow at.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let cli = Cli::parse();
    let output = Output { json: cli.json };
    match run(cli, output) {
        Ok(code) => code,
        Err(error) => {
            if let Some(config) = error.downcast_ref::<ConfigError>() {
                for problem in config.problems() {
                    output.error(problem);
                }
                return ExitCode::from(2);
            }
            output.error(&sentence(&error));
            ExitCode::from(1)
        }
    }
}

fn run(cli: Cli, output: Output) -> Result<ExitCode> {
    if let Some(Command::Openapi) = cli.command {
        println!("{}", serde_json::to_string_pretty(&aegis_gateway::openapi())?);
        return Ok(ExitCode::SUCCESS);
    }
    // On files alone: no setting matters.
    if let Some(Command::Evidence(command)) = &cli.command {
        return commands::evidence::run(command, output);
    }
    let overrides = Overrides { listen: cli.listen, data_dir: cli.data_dir };
    let settings = Settings::load(cli.config.as_deref(), &overrides)?;
    if let Some(Command::Config) = cli.command {
        print_config(&settings, output)?;
        return Ok(ExitCode::SUCCESS);
    }
    // It gives up what it can before it has a second thread.
    if let Some(Command::Sensor(args)) = &cli.command {
        return commands::sensor::run(&settings, args);
    }
    // TLS of databases, brokers and downloads: one provider for the process.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().context("cannot start threads")?;
    runtime.block_on(async {
        let telemetry = telemetry(&settings, &cli.command)?;
        let result = dispatch(cli.command, &settings, output).await;
        telemetry.shutdown().await;
        result
    })
}

async fn dispatch(command: Option<Command>, settings: &Settings, output: Output) -> Result<ExitCode> {
    match command {
        None => commands::serve::run(settings, &Role::ALL).await,
        Some(Command::Serve { roles }) => commands::serve::run(settings, &roles).await,
        Some(Command::Migrate { roles }) => commands::migrate::run(settings, &roles, output).await,
        Some(Command::Doctor) => commands::doctor::run(settings, output).await,
        Some(Command::Backup(args)) => commands::backup::run(settings, args, output).await,
        Some(Command::Restore(args)) => commands::restore::run(settings, args, output).await,
        Some(Command::Health) => commands::health::run(settings, output).await,
        Some(Command::Keys(command)) => commands::keys::run(settings, command, output).await,
        Some(Command::User(command)) => commands::user::run(settings, command, output).await,
        Some(Command::Sync(args)) => commands::sync::run(settings, args, output).await,
        Some(Command::Audit(command)) => commands::audit::run(settings, command, output).await,
        Some(Command::Rebuild { projection }) => commands::rebuild::run(settings, projection, output).await,
        Some(Command::Config | Command::Openapi | Command::Evidence(_) | Command::Sensor(_)) => Ok(ExitCode::SUCCESS),
    }
}

fn telemetry(settings: &Settings, command: &Option<Command>) -> Result<Telemetry> {
    let service = match command {
        Some(Command::Serve { roles }) if roles.len() == 1 => format!("aegis-{}", roles[0]),
        _ => "aegis".to_owned(),
    };
    aegis_telemetry::init(&TelemetryConfig {
        filter: settings.log.clone(),
        json: settings.log_format == "json",
        otlp_endpoint: settings.otlp_endpoint.clone(),
        trace_share: settings.trace_sample,
        service,
    })
    .context("cannot start logging: check AEGIS_LOG and AEGIS_OTLP_ENDPOINT")
}

fn print_config(settings: &Settings, output: Output) -> Result<()> {
    if output.json {
        println!("{}", serde_json::to_string_pretty(settings)?);
    } else {
        print!("{}", toml::to_string(settings)?);
    }
    Ok(())
}

/// An error and its causes in one line.
fn sentence(error: &anyhow::Error) -> String {
    let mut parts: Vec<String> = Vec::new();
    for cause in error.chain() {
        let text = cause.to_string();
        if !parts.iter().any(|part| part.contains(&text)) {
            parts.push(text);
        }
    }
    parts.join(": ")
}
