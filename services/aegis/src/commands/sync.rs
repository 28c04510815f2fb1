//! `aegis sync …`.

use std::{io::IsTerminal, process::ExitCode, time::Duration};

use aegis_error::Failure;
use aegis_proto::intel::v1::{GetJobRequest, Job, StartSyncRequest};
use anyhow::{Context, Result};
use indicatif::{ProgressBar, ProgressStyle};

use crate::{cli::SyncArgs, commands::access::Access, output::Output, settings::Settings};

/// How often the job is looked at.
const POLL: Duration = Duration::from_millis(150);

/// Starts the sync and follows it to its end; 1 when it failed.
pub async fn run(settings: &Settings, args: SyncArgs, output: Output) -> Result<ExitCode> {
    let url = match &args.from {
        Some(path) => {
            let path = path.canonicalize().with_context(|| format!("cannot read {}", path.display()))?;
            Some(format!("file://{}", encode(&path.to_string_lossy())))
        }
        None => None,
    };
    let access = Access::open(settings).await?;
    let job = follow(&access, args.source, url, output).await;
    access.close().await;
    let job = job?;
    if output.json {
        let counts: serde_json::Value = serde_json::from_str(&job.counts_json).unwrap_or_default();
        let skipped: serde_json::Value = serde_json::from_str(&job.skipped_json).unwrap_or_default();
        println!(
            "{}",
            serde_json::json!({
                "id": job.id, "source": job.source_name, "status": job.status, "counts": counts,
                "skipped": skipped, "error": job.error,
            })
        );
    }
    if job.status != "succeeded" {
        output.error(job.error.as_deref().unwrap_or("the sync failed"));
        return Ok(ExitCode::from(1));
    }
    let counts: serde_json::Value = serde_json::from_str(&job.counts_json).unwrap_or_default();
    let count = |name: &str| counts[name].as_i64().unwrap_or(0);
    output.done(&format!(
        "{}: {} new, {} updated, {} unchanged, {} revoked, {} deprecated, {} skipped",
        job.source_name,
        count("new"),
        count("updated"),
        count("unchanged"),
        count("revoked"),
        count("deprecated"),
        count("skipped"),
    ));
    Ok(ExitCode::SUCCESS)
}

async fn follow(access: &Access, source_id: String, url: Option<String>, output: Output) -> Result<Job> {
    let ctx = access.ctx().await?;
    let mut intel = access.clients.intel()?;
    let request = StartSyncRequest { source_id, wait: false, url };
    let mut job = intel
        .start_sync(ctx.outgoing(request))
        .await
        .map_err(Failure::from)?
        .into_inner()
        .job
        .context("the service answered without a job")?;
    let bar = if output.json || !std::io::stderr().is_terminal() {
        ProgressBar::hidden()
    } else {
        ProgressBar::new(1000)
            .with_style(ProgressStyle::with_template("{msg:>9} [{bar:40.green}] {percent:>3} %  {elapsed}")?)
    };
    while job.status == "running" {
        bar.set_message(job.phase.clone());
        bar.set_position((job.percentage * 10.0) as u64);
        tokio::time::sleep(POLL).await;
        let ctx = access.ctx().await?;
        job = intel
            .get_job(ctx.outgoing(GetJobRequest { id: job.id.clone() }))
            .await
            .map_err(Failure::from)?
            .into_inner()
            .job
            .context("the service answered without a job")?;
    }
    bar.finish_and_clear();
    Ok(job)
}

/// A path as part of a URL.
fn encode(path: &str) -> String {
    path.bytes()
        .map(|b| match b {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'/' | b'.' | b'-' | b'_' | b'~' => char::from(b).to_string(),
            _ => format!("%{b:02X}"),
        })
        .collect()
}
