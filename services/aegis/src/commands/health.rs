//! `aegis health`.

use std::{process::ExitCode, time::Duration};

use anyhow::Result;

use crate::{output::Output, settings::Settings};

/// A product that does not answer by then is not there.
const PATIENCE: Duration = Duration::from_secs(3);

fn client() -> Result<reqwest::Client> {
    Ok(reqwest::Client::builder().timeout(PATIENCE).no_proxy().build()?)
}

/// Whether an Aegis answers at this address.
pub async fn answers(url: &str) -> bool {
    let Ok(client) = client() else { return false };
    match client.get(format!("{url}/livez")).send().await {
        Ok(answer) => answer.status().is_success(),
        Err(_) => false,
    }
}

/// Asks the running product; 0 when it is ready, 3 when it is not or does not answer.
pub async fn run(settings: &Settings, output: Output) -> Result<ExitCode> {
    let url = format!("http://{}/readyz", settings.listen.replace("0.0.0.0", "127.0.0.1").replace("[::]", "[::1]"));
    let answer = match client()?.get(&url).send().await {
        Ok(answer) => answer,
        Err(_) => {
            output
                .error(&format!("nothing answers at {url}: is Aegis running, and is AEGIS_LISTEN the same for both?"));
            return Ok(ExitCode::from(3));
        }
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
