//! `SnapshotService`.

use aegis_auth::OpCtx;
use aegis_proto::analytics::v1::{self as pb, snapshot_service_server::SnapshotService};
use tonic::{Request, Response, Status};

use super::{Rpc, chrono_of, coverage, score::weights, timestamp};
use crate::{
    app::snapshots::{ChangeRow, Compared},
    domain::compare::TechniqueState,
    store::snapshots::Snapshot,
};

#[tonic::async_trait]
impl SnapshotService for Rpc {
    async fn list_snapshots(
        &self,
        request: Request<pb::ListSnapshotsRequest>,
    ) -> Result<Response<pb::ListSnapshotsResponse>, Status> {
        let ctx = OpCtx::of(&request)?;
        let request = request.into_inner();
        let result = self.app.list_snapshots(&ctx, request.page_size, &request.page_token, request.skip).await;
        let result = result.map(|page| pb::ListSnapshotsResponse {
            snapshots: page.snapshots.into_iter().map(snapshot).collect(),
            next_page_token: page.next_page_token,
            total_size: page.total,
        });
        self.answer(&ctx, "ListSnapshots", result).await
    }

    async fn create_snapshot(
        &self,
        request: Request<pb::CreateSnapshotRequest>,
    ) -> Result<Response<pb::CreateSnapshotResponse>, Status> {
        let ctx = OpCtx::of(&request)?;
        let request = request.into_inner();
        let result = self.app.create_snapshot(&ctx, &request.name, request.description.as_deref()).await;
        let result = result.map(|created| pb::CreateSnapshotResponse { snapshot: Some(snapshot(created)) });
        self.answer(&ctx, "CreateSnapshot", result).await
    }

    async fn get_snapshot(
        &self,
        request: Request<pb::GetSnapshotRequest>,
    ) -> Result<Response<pb::GetSnapshotResponse>, Status> {
        let ctx = OpCtx::of(&request)?;
        let result = self.app.get_snapshot(&ctx, &request.get_ref().id).await;
        let result = result.map(|(found, techniques)| pb::GetSnapshotResponse {
            snapshot: Some(snapshot(found)),
            techniques: techniques.into_iter().map(technique).collect(),
        });
        self.answer(&ctx, "GetSnapshot", result).await
    }

    async fn delete_snapshot(
        &self,
        request: Request<pb::DeleteSnapshotRequest>,
    ) -> Result<Response<pb::DeleteSnapshotResponse>, Status> {
        let ctx = OpCtx::of(&request)?;
        let result = self.app.delete_snapshot(&ctx, &request.get_ref().id).await;
        self.answer(&ctx, "DeleteSnapshot", result.map(|()| pb::DeleteSnapshotResponse {})).await
    }

    async fn compare_snapshots(
        &self,
        request: Request<pb::CompareSnapshotsRequest>,
    ) -> Result<Response<pb::CompareSnapshotsResponse>, Status> {
        let ctx = OpCtx::of(&request)?;
        let request = request.into_inner();
        let result = self.app.compare_snapshots(&ctx, &request.a, &request.b).await;
        self.answer(&ctx, "CompareSnapshots", result.map(compared)).await
    }

    async fn take_scheduled_snapshot(
        &self,
        request: Request<pb::TakeScheduledSnapshotRequest>,
    ) -> Result<Response<pb::TakeScheduledSnapshotResponse>, Status> {
        let ctx = OpCtx::of(&request)?;
        let result = self.app.take_scheduled(&ctx, request.get_ref().due.and_then(chrono_of)).await;
        let result = result.map(|taken| pb::TakeScheduledSnapshotResponse {
            snapshot: Some(snapshot(taken.snapshot)),
            created: taken.created,
            removed: taken.removed,
        });
        self.answer(&ctx, "TakeScheduledSnapshot", result).await
    }
}

fn snapshot(snapshot: Snapshot) -> pb::Snapshot {
    pb::Snapshot {
        id: snapshot.id.to_string(),
        name: snapshot.name,
        description: snapshot.description,
        kind: snapshot.kind,
        created_by: snapshot.created_by.map(|id| id.to_string()).unwrap_or_default(),
        created_by_username: snapshot.created_by_username,
        created_at: Some(timestamp(snapshot.created_at)),
        coverage: Some(coverage(&snapshot.counts)),
        coverage_percentage: snapshot.counts.percentage(),
        score: snapshot.score,
        weights: Some(weights(snapshot.weights)),
        attack_versions: snapshot.attack_versions.into_iter().collect(),
    }
}

fn technique(state: TechniqueState) -> pb::SnapshotTechnique {
    pb::SnapshotTechnique {
        technique_id: state.id.to_string(),
        mitre_id: state.mitre_id,
        name: state.name,
        domain: state.domain,
        tactics: state.tactics,
        status: state.status.as_str().to_owned(),
        score: state.score,
    }
}

fn compared(compared: Compared) -> pb::CompareSnapshotsResponse {
    let list = |rows: Vec<ChangeRow>| rows.into_iter().filter_map(change).collect();
    let score_change = compared.a.score.zip(compared.b.score).map(|(a, b)| difference(a, b));
    let coverage_change = difference(compared.a.counts.percentage(), compared.b.counts.percentage());
    pb::CompareSnapshotsResponse {
        a: Some(snapshot(compared.a)),
        b: Some(snapshot(compared.b)),
        improved: list(compared.improved),
        worsened: list(compared.worsened),
        added: list(compared.added),
        removed: list(compared.removed),
        remapped: list(compared.remapped),
        unchanged: compared.unchanged,
        score_change,
        coverage_change,
    }
}

/// b − a, of figures with one decimal.
fn difference(a: f64, b: f64) -> f64 {
    let tenths = |figure: f64| (figure * 10.0).round() as i64;
    (tenths(b) - tenths(a)) as f64 / 10.0
}

/// What it is called is what it is called in `b`, where it is there.
fn change(row: ChangeRow) -> Option<pb::TechniqueChange> {
    let is = row.b.as_ref().or(row.a.as_ref())?;
    let previous = row.a.as_ref().filter(|was| was.mitre_id != is.mitre_id);
    Some(pb::TechniqueChange {
        mitre_id: is.mitre_id.clone(),
        name: is.name.clone(),
        domain: is.domain.clone(),
        status_a: row.a.as_ref().map(|a| a.status.as_str().to_owned()),
        score_a: row.a.as_ref().map(|a| a.score),
        status_b: row.b.as_ref().map(|b| b.status.as_str().to_owned()),
        score_b: row.b.as_ref().map(|b| b.score),
        previous_mitre_id: previous.map(|was| was.mitre_id.clone()),
    })
}
