//! `aegis sync …`.

use std::{io::IsTerminal, path::Path, process::ExitCode, time::Duration};

use aegis_error::Failure;
use aegis_proto::intel::v1::{GetJobRequest, Job, ListDataSourcesRequest, StartSyncRequest};
use anyhow::{Context, Result, bail};
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::{Value, json};

use crate::{cli::SyncArgs, commands::access::Access, output::Output, settings::Settings};

/// How often the job is looked at.
const POLL: Duration = Duration::from_millis(150);
/// The columns of the table, after the source's name.
const COLUMNS: [&str; 6] = ["new", "updated", "unchanged", "revoked", "deprecated", "skipped"];
/// Changes of techniques in the order in which they are shown.
const RANKS: [&str; 5] = ["new", "revoked", "vanished", "deprecated", "changed"];
/// Changed techniques that are shown one by one.
const SHOWN: usize = 20;

/// Runs the syncs one after the other, each followed to its end; 1 when any failed.
pub async fn run(settings: &Settings, args: SyncArgs, output: Output) -> Result<ExitCode> {
    if args.sources.len() > 1 && (args.from.is_some() || args.companion.is_some()) {
        bail!("--from and --companion are for one source: name only that one");
    }
    let order = StartSyncRequest {
        url: args.from.as_deref().map(file_url).transpose()?,
        companion_url: args.companion.as_deref().map(file_url).transpose()?,
        dry_run: args.dry_run,
        force: args.force,
        ..StartSyncRequest::default()
    };
    let access = Access::open(settings).await?;
    let ran = all(&access, &args, &order, output).await;
    access.close().await;
    let jobs = ran?;
    if output.json {
        let shown: Vec<Value> = jobs.iter().map(shown).collect();
        match shown.as_slice() {
            [one] if !args.all => println!("{one}"),
            all => println!("{}", Value::from(all)),
        }
    } else {
        table(&jobs, args.dry_run);
    }
    let mut code = ExitCode::SUCCESS;
    for job in &jobs {
        match job.status.as_str() {
            "succeeded" => {
                let kept = if job.dry_run { "nothing was changed" } else { "in" };
                output.done(&format!("{}: {kept}", job.source_name));
            }
            _ => {
                output.error(&format!("{}: {}", job.source_name, job.error.as_deref().unwrap_or("the sync failed")));
                code = ExitCode::from(1);
            }
        }
    }
    Ok(code)
}

/// A source that cannot even begin ends as a job that failed, unless it is the only one.
async fn all(access: &Access, args: &SyncArgs, order: &StartSyncRequest, output: Output) -> Result<Vec<Job>> {
    let sources = if args.all { enabled(access).await? } else { args.sources.clone() };
    let mut jobs = Vec::new();
    for source_id in &sources {
        let order = StartSyncRequest { source_id: source_id.clone(), ..order.clone() };
        match follow(access, order, output).await {
            Err(error) if sources.len() > 1 => jobs.push(Job {
                source_name: source_id.clone(),
                status: "failed".to_owned(),
                counts_json: "{}".to_owned(),
                error: Some(format!("{error:#}")),
                ..Job::default()
            }),
            job => jobs.push(job?),
        }
    }
    Ok(jobs)
}

/// The names of the sources that are enabled; what the others speak of comes first.
async fn enabled(access: &Access) -> Result<Vec<String>> {
    let ctx = access.ctx().await?;
    let request = ctx.outgoing(ListDataSourcesRequest::default());
    let answer = access.clients.intel()?.list_data_sources(request).await.map_err(Failure::from)?.into_inner();
    let mut sources: Vec<_> = answer.data_sources.into_iter().filter(|source| source.enabled).collect();
    sources.sort_by_key(|source| (source.kind != "mitre_attack", source.name.clone()));
    if sources.is_empty() {
        bail!("no data source is enabled");
    }
    Ok(sources.into_iter().map(|source| source.name).collect())
}

async fn follow(access: &Access, order: StartSyncRequest, output: Output) -> Result<Job> {
    let ctx = access.ctx().await?;
    let mut intel = access.clients.intel()?;
    let name = order.source_id.clone();
    let mut job = intel
        .start_sync(ctx.outgoing(order))
        .await
        .map_err(Failure::from)?
        .into_inner()
        .job
        .context("the service answered without a job")?;
    let bar = if output.json || !std::io::stderr().is_terminal() {
        ProgressBar::hidden()
    } else {
        let style = ProgressStyle::with_template("{prefix:24} {msg:>9} [{bar:40.green}] {percent:>3} %  {elapsed}")?;
        ProgressBar::new(1000).with_style(style).with_prefix(name)
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

fn parsed(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_default()
}

fn shown(job: &Job) -> Value {
    json!({
        "id": job.id,
        "source": job.source_name,
        "status": job.status,
        "dry_run": job.dry_run,
        "counts": parsed(&job.counts_json),
        "skipped": parsed(&job.skipped_json),
        "changes": parsed(&job.changes_json),
        "error": job.error,
    })
}

/// What the syncs counted, and what a dry run would do to techniques.
fn table(jobs: &[Job], dry_run: bool) {
    print!("{:<24}", "source");
    COLUMNS.iter().for_each(|column| print!(" {column:>10}"));
    println!();
    for job in jobs.iter().filter(|job| job.status == "succeeded") {
        let counts = parsed(&job.counts_json);
        print!("{:<24}", job.source_name);
        COLUMNS.iter().for_each(|column| print!(" {:>10}", counts[column].as_i64().unwrap_or(0)));
        println!();
        if !dry_run {
            continue;
        }
        let changes = parsed(&job.changes_json);
        let mut changes: Vec<&Value> = changes.as_array().into_iter().flatten().collect();
        // What asks for a decision before what is only worded anew.
        changes.sort_by_key(|change| RANKS.iter().position(|rank| change["change"] == *rank));
        for change in changes.iter().take(SHOWN) {
            let text = |name: &str| change[name].as_str().unwrap_or_default();
            let successor = match text("revoked_by") {
                "" => String::new(),
                id => format!(" by {id}"),
            };
            let touched = ["tests", "templates"].map(|name| change[name].as_i64().unwrap_or(0));
            println!(
                "  {:<10} {:<10} {}{successor} ({} tests, {} templates)",
                text("mitre_id"),
                text("change"),
                text("name"),
                touched[0],
                touched[1]
            );
        }
        if changes.len() > SHOWN {
            println!("  … and {} more; --json has them all", changes.len() - SHOWN);
        }
    }
}

fn file_url(path: &Path) -> Result<String> {
    let path = path.canonicalize().with_context(|| format!("cannot read {}", path.display()))?;
    Ok(format!("file://{}", encode(&path.to_string_lossy())))
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
