//! `aegis rebuild …`: computes a projection anew from its owners.

use std::{io::IsTerminal, process::ExitCode, time::Duration};

use aegis_error::Failure;
use aegis_proto::{
    analytics::v1::{RebuildProjectionRequest, RebuildProjectionResponse},
    catalog::v1::{self as catalog, RebuildStatusesRequest, TestFact},
    testing::v1::ExportTestsRequest,
};
use anyhow::{Result, bail};
use futures::{Stream, TryStreamExt};
use indicatif::{ProgressBar, ProgressStyle};

use crate::{cli::Projection, commands::access::Access, output::Output, settings::Settings};

/// A rebuild takes no longer.
const PATIENCE: Duration = Duration::from_secs(3600);
/// How often the line is drawn anew.
const TICK: Duration = Duration::from_millis(100);

/// Rebuilds it.
pub async fn run(settings: &Settings, projection: Projection, output: Output) -> Result<ExitCode> {
    let access = Access::open(settings).await?;
    let result = match projection {
        Projection::Analytics => analytics(&access, output).await,
        Projection::Statuses => statuses(&access).await,
    };
    access.close().await;
    let message = result?;
    if output.json {
        println!("{}", serde_json::json!({ "rebuilt": message }));
    }
    output.done(&message);
    Ok(ExitCode::SUCCESS)
}

async fn analytics(access: &Access, output: Output) -> Result<String> {
    let ctx = access.ctx().await?;
    let mut request = ctx.outgoing(RebuildProjectionRequest {});
    request.set_timeout(PATIENCE);
    let mut told = access.clients.analytics()?.rebuild_projection(request).await.map_err(Failure::from)?.into_inner();
    let bar = if output.json || !std::io::stderr().is_terminal() {
        ProgressBar::hidden()
    } else {
        ProgressBar::new_spinner().with_style(ProgressStyle::with_template("{spinner} {msg}  {elapsed}")?)
    };
    bar.enable_steady_tick(TICK);
    let mut last = RebuildProjectionResponse::default();
    while let Some(progress) = told.try_next().await.map_err(Failure::from)? {
        bar.set_message(match progress.phase.as_str() {
            "tests" => format!("tests: {}", progress.tests),
            "swap" => "counting".to_owned(),
            phase => phase.to_owned(),
        });
        last = progress;
    }
    bar.finish_and_clear();
    if !last.done {
        bail!("the service ended before the projection was rebuilt; what was done stays, run it again");
    }
    Ok(format!(
        "{} techniques, {} records of what is known of them and {} tests projected",
        last.techniques, last.knowledge, last.tests
    ))
}

async fn statuses(access: &Access) -> Result<String> {
    let ctx = access.ctx().await?;
    let mut client = access.clients.catalog()?;
    let start = ctx.outgoing(catalog::GetRebuildStartRequest {});
    let start = client.get_rebuild_start(start).await.map_err(Failure::from)?.into_inner();
    let start = RebuildStatusesRequest { started_at: start.started_at, ..Default::default() };
    let mut export = ctx.outgoing(ExportTestsRequest {});
    export.set_timeout(PATIENCE);
    let pages = access.clients.testing()?.export_tests(export).await.map_err(Failure::from)?.into_inner();
    let tests = whole(pages.map_ok(|page| {
        let tests = page.tests.into_iter().map(|test| TestFact {
            test_id: test.id,
            version: test.version,
            technique_id: test.technique_id,
            state: test.state,
            detection_result: test.detection_result.unwrap_or_default(),
            chain_id: test.chain_id,
            validated_at: test.validated_at,
        });
        RebuildStatusesRequest { tests: tests.collect(), ..Default::default() }
    }))
    .await?;
    let mut rebuild = ctx.outgoing(futures::stream::iter(std::iter::once(start).chain(tests)));
    rebuild.set_timeout(PATIENCE);
    let answer = client.rebuild_statuses(rebuild).await.map_err(Failure::from)?.into_inner();
    Ok(format!("{} technique statuses changed", answer.techniques_changed))
}

/// All pages, before the first is passed on: an export that breaks off must not look like one that ended.
async fn whole<T>(pages: impl Stream<Item = Result<T, tonic::Status>>) -> Result<Vec<T>> {
    Ok(pages.map_err(Failure::from).try_collect().await?)
}
