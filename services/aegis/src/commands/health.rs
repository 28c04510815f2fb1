//! `aegis health`, and where a product of these settings is on this machine.

use std::{process::ExitCode, time::Duration};

use aegis_rpc::ClientTls;
use anyhow::Result;
use reqwest::Response;
use rustls::ClientConfig;

use crate::{output::Output, settings::Settings, tls};

/// A product that does not answer by then is not there.
const PATIENCE: Duration = Duration::from_secs(3);

/// Where a product of these settings is on this machine, and how it is believed there.
pub struct Here {
    urls: Vec<String>,
    client: reqwest::Client,
    tls: Option<ClientConfig>,
}

impl Here {
    /// By the settings; it may not run.
    pub fn of(settings: &Settings) -> Result<Here> {
        let tls = tls::here(settings)?;
        let builder = reqwest::Client::builder().timeout(PATIENCE).no_proxy();
        let builder = match tls.clone() {
            Some(config) => builder.tls_backend_preconfigured(config),
            // Plain HTTP: nobody's certificate is looked at.
            None => builder.tls_certs_only([]),
        };
        Ok(Here { urls: settings.here(), client: builder.build()?, tls })
    }

    /// Where it most likely is.
    pub fn likely(&self) -> &str {
        self.urls.first().map_or("http://127.0.0.1:8000", String::as_str)
    }

    /// For calls of its services.
    pub fn tls(&self) -> ClientTls {
        self.tls.clone().map(ClientTls::new).unwrap_or_default()
    }

    /// Its answer to a path.
    pub async fn get(&self, path: &str) -> Option<Response> {
        for url in &self.urls {
            if let Ok(answer) = self.client.get(format!("{url}{path}")).send().await {
                return Some(answer);
            }
        }
        None
    }

    /// Where it is, if it answers.
    pub async fn answering(&self) -> Option<String> {
        for url in &self.urls {
            let answer = self.client.get(format!("{url}/livez")).send().await;
            if answer.is_ok_and(|answer| answer.status().is_success()) {
                return Some(url.clone());
            }
        }
        None
    }
}

/// Asks the running product; 0 when it is ready, 3 when it is not or does not answer.
pub async fn run(settings: &Settings, output: Output) -> Result<ExitCode> {
    let here = Here::of(settings)?;
    let Some(answer) = here.get("/readyz").await else {
        let url = here.likely();
        output.error(&format!("nothing answers at {url}: is Aegis running, and is AEGIS_LISTEN the same for both?"));
        return Ok(ExitCode::from(3));
    };
    let good = answer.status().is_success();
    let report: serde_json::Value = answer.json().await?;
    if output.json {
        println!("{report}");
    } else if let Some(checks) = report["checks"].as_object() {
        for (name, state) in checks {
            output.row(state == "ok", name, state.as_str().unwrap_or_default());
        }
    }
    Ok(if good { ExitCode::SUCCESS } else { ExitCode::from(3) })
}
