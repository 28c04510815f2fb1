//! `aegis rebuild …`: computes a projection anew from the export of its owner.

use std::process::ExitCode;

use aegis_error::Failure;
use aegis_proto::{
    analytics::v1::{GetRebuildStartRequest, ProjectedTechnique, ProjectedTest, RebuildProjectionRequest},
    catalog::v1::{self as catalog, ExportTechniquesRequest, RebuildStatusesRequest, TestFact},
    testing::v1::ExportTestsRequest,
};
use anyhow::Result;
use futures::{Stream, TryStreamExt};

use crate::{cli::Projection, commands::access::Access, output::Output, settings::Settings};

/// A rebuild takes no longer.
const PATIENCE: std::time::Duration = std::time::Duration::from_secs(3600);

/// Rebuilds it.
pub async fn run(settings: &Settings, projection: Projection, output: Output) -> Result<ExitCode> {
    let access = Access::open(settings).await?;
    let result = match projection {
        Projection::Analytics => analytics(&access).await,
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

async fn analytics(access: &Access) -> Result<String> {
    let ctx = access.ctx().await?;
    let mut client = access.clients.analytics()?;
    // Before anything is exported: what events bring from then on is not older than the export.
    let start = client.get_rebuild_start(ctx.outgoing(GetRebuildStartRequest {})).await.map_err(Failure::from)?;
    let start = RebuildProjectionRequest { started_at: start.into_inner().started_at, ..Default::default() };
    let mut export = ctx.outgoing(ExportTechniquesRequest {});
    export.set_timeout(PATIENCE);
    let pages = access.clients.catalog()?.export_techniques(export).await.map_err(Failure::from)?.into_inner();
    let techniques = whole(pages.map_ok(|page| {
        let techniques = page.techniques.into_iter().map(|technique| ProjectedTechnique {
            id: technique.id,
            mitre_id: technique.mitre_id,
            name: technique.name,
            tactics: technique.tactics,
            platforms: technique.platforms,
            status: technique.status_global,
            active: !technique.revoked && !technique.deprecated,
            version: technique.version,
        });
        RebuildProjectionRequest { techniques: techniques.collect(), ..Default::default() }
    }))
    .await?;
    let mut export = ctx.outgoing(ExportTestsRequest {});
    export.set_timeout(PATIENCE);
    let pages = access.clients.testing()?.export_tests(export).await.map_err(Failure::from)?.into_inner();
    let tests = whole(pages.map_ok(|page| {
        let tests =
            page.tests.into_iter().map(|test| ProjectedTest { id: test.id, version: test.version, state: test.state });
        RebuildProjectionRequest { tests: tests.collect(), ..Default::default() }
    }))
    .await?;
    let parts = std::iter::once(start).chain(techniques).chain(tests);
    let mut rebuild = ctx.outgoing(futures::stream::iter(parts));
    rebuild.set_timeout(PATIENCE);
    let answer = client.rebuild_projection(rebuild).await.map_err(Failure::from)?.into_inner();
    Ok(format!("{} techniques and {} tests projected", answer.techniques, answer.tests))
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
