//! `ScoreService`.

use aegis_auth::OpCtx;
use aegis_proto::analytics::v1::{self as pb, score_service_server::ScoreService};
use tonic::{Request, Response, Status};

use super::{Rpc, timestamp};
use crate::{
    app::scores::{ActorView, Detailed, Mean, PlanView, Row, WeightsChange},
    domain::score::{Part, TacticScore, Weights, words, words::ShownPart},
    store::{snapshots::Point, weights::Version},
};

#[tonic::async_trait]
impl ScoreService for Rpc {
    async fn get_technique_score(
        &self,
        request: Request<pb::GetTechniqueScoreRequest>,
    ) -> Result<Response<pb::GetTechniqueScoreResponse>, Status> {
        let ctx = OpCtx::of(&request)?;
        let result = self.app.technique_score(&ctx, &request.get_ref().mitre_id).await;
        self.answer(&ctx, "GetTechniqueScore", result.map(technique_score)).await
    }

    async fn get_tactic_score(
        &self,
        request: Request<pb::GetTacticScoreRequest>,
    ) -> Result<Response<pb::GetTacticScoreResponse>, Status> {
        let ctx = OpCtx::of(&request)?;
        let request = request.into_inner();
        let result = self.app.tactic_score(&ctx, &request.tactic, &request.domain).await;
        let result = result.map(|mean| pb::GetTacticScoreResponse {
            tactic: request.tactic,
            score: mean.score,
            parts: parts(mean.parts),
            techniques: rows(mean.rows),
            as_of: mean.as_of.map(timestamp),
        });
        self.answer(&ctx, "GetTacticScore", result).await
    }

    async fn get_threat_actor_score(
        &self,
        request: Request<pb::GetThreatActorScoreRequest>,
    ) -> Result<Response<pb::GetThreatActorScoreResponse>, Status> {
        let ctx = OpCtx::of(&request)?;
        let result = self.app.actor_score(&ctx, &request.get_ref().id).await;
        self.answer(&ctx, "GetThreatActorScore", result.map(actor_score)).await
    }

    async fn get_organization_score(
        &self,
        request: Request<pb::GetOrganizationScoreRequest>,
    ) -> Result<Response<pb::GetOrganizationScoreResponse>, Status> {
        let ctx = OpCtx::of(&request)?;
        let result = self.app.organization_score(&ctx, &request.get_ref().domain).await;
        self.answer(&ctx, "GetOrganizationScore", result.map(organization_score)).await
    }

    async fn get_score_history(
        &self,
        request: Request<pb::GetScoreHistoryRequest>,
    ) -> Result<Response<pb::GetScoreHistoryResponse>, Status> {
        let ctx = OpCtx::of(&request)?;
        let result = self.app.score_history(&ctx, &request.get_ref().period).await;
        let result = result.map(|(points, as_of)| pb::GetScoreHistoryResponse {
            points: points.into_iter().map(point).collect(),
            as_of: as_of.map(timestamp),
        });
        self.answer(&ctx, "GetScoreHistory", result).await
    }

    async fn get_score_plan(
        &self,
        request: Request<pb::GetScorePlanRequest>,
    ) -> Result<Response<pb::GetScorePlanResponse>, Status> {
        let ctx = OpCtx::of(&request)?;
        let request = request.into_inner();
        let actor = request.threat_actor_id.as_deref();
        let result = self.app.score_plan(&ctx, actor, request.tests, &request.domain).await;
        self.answer(&ctx, "GetScorePlan", result.map(plan)).await
    }

    async fn get_score_config(
        &self,
        request: Request<pb::GetScoreConfigRequest>,
    ) -> Result<Response<pb::GetScoreConfigResponse>, Status> {
        let ctx = OpCtx::of(&request)?;
        let result = self.app.score_config(&ctx).await;
        let result = result.map(|version| pb::GetScoreConfigResponse { config: Some(config(version)) });
        self.answer(&ctx, "GetScoreConfig", result).await
    }

    async fn update_score_config(
        &self,
        request: Request<pb::UpdateScoreConfigRequest>,
    ) -> Result<Response<pb::UpdateScoreConfigResponse>, Status> {
        let ctx = OpCtx::of(&request)?;
        let request = request.into_inner();
        let change = WeightsChange {
            tests: request.tests,
            detection_rules: request.detection_rules,
            d3fend: request.d3fend,
            freshness: request.freshness,
            platform_diversity: request.platform_diversity,
        };
        let result = self.app.update_score_config(&ctx, change).await;
        let result = result.map(|version| pb::UpdateScoreConfigResponse { config: Some(config(version)) });
        self.answer(&ctx, "UpdateScoreConfig", result).await
    }

    async fn list_score_configs(
        &self,
        request: Request<pb::ListScoreConfigsRequest>,
    ) -> Result<Response<pb::ListScoreConfigsResponse>, Status> {
        let ctx = OpCtx::of(&request)?;
        let request = request.into_inner();
        let result = self.app.score_configs(&ctx, request.page_size, &request.page_token, request.skip).await;
        let result = result.map(|page| pb::ListScoreConfigsResponse {
            configs: page.versions.into_iter().map(config).collect(),
            next_page_token: page.next_page_token,
            total_size: page.total,
        });
        self.answer(&ctx, "ListScoreConfigs", result).await
    }
}

fn technique_score(found: Detailed) -> pb::GetTechniqueScoreResponse {
    let technique = found.technique;
    let score = pb::TechniqueScore {
        technique_id: technique.id.to_string(),
        mitre_id: technique.mitre_id.to_string(),
        name: technique.name,
        domain: technique.domain,
        tactics: technique.tactics,
        status: technique.status.as_str().to_owned(),
        score: found.score,
        advice: words::best(&found.parts).to_owned(),
        parts: parts(found.parts),
    };
    pb::GetTechniqueScoreResponse { score: Some(score), as_of: found.as_of.map(timestamp) }
}

fn actor_score(found: ActorView) -> pb::GetThreatActorScoreResponse {
    pb::GetThreatActorScoreResponse {
        threat_actor_id: found.id.to_string(),
        key: found.key,
        name: found.name,
        score: found.score,
        covered: rows(found.covered),
        partial: rows(found.partial),
        uncovered: rows(found.uncovered),
        tactics: found.tactics.into_iter().map(tactic).collect(),
        as_of: found.as_of.map(timestamp),
        unknown_mitre_ids: found.unknown,
    }
}

fn organization_score(mean: Mean) -> pb::GetOrganizationScoreResponse {
    pb::GetOrganizationScoreResponse {
        score: mean.score,
        techniques: mean.techniques,
        tactics: mean.tactics.into_iter().map(tactic).collect(),
        parts: parts(mean.parts),
        weights: Some(weights(mean.weights)),
        as_of: mean.as_of.map(timestamp),
    }
}

fn point(point: Point) -> pb::ScorePoint {
    pb::ScorePoint {
        at: Some(timestamp(point.at)),
        kind: point.kind,
        score: point.score,
        coverage_percentage: point.coverage_percentage,
        tactics: point.tactics.into_iter().map(tactic).collect(),
        snapshot_id: point.snapshot_id.map(|id| id.to_string()).unwrap_or_default(),
    }
}

fn plan(plan: PlanView) -> pb::GetScorePlanResponse {
    let tests = plan.tests.into_iter().zip(1..).map(|(test, rank)| pb::PlannedTest {
        rank,
        technique_id: test.technique.id.to_string(),
        mitre_id: test.technique.mitre_id.to_string(),
        name: test.technique.name,
        status: test.technique.status.as_str().to_owned(),
        score: test.technique.score,
        score_after: test.score_after,
        gain: test.gain,
        platform: test.platform,
        reason: test.reason,
        retest: test.retest,
    });
    pb::GetScorePlanResponse {
        threat_actor_name: plan.actor,
        score: plan.score,
        score_after: plan.score_after,
        tests: tests.collect(),
        as_of: plan.as_of.map(timestamp),
    }
}

fn config(version: Version) -> pb::ScoreConfig {
    pb::ScoreConfig {
        weights: Some(weights(version.weights)),
        updated_by: version.updated_by,
        updated_at: version.updated_at.map(timestamp),
        version: version.version,
    }
}

pub(super) fn weights(weights: Weights) -> pb::Weights {
    pb::Weights {
        tests: weights.percent(Part::Tests),
        detection_rules: weights.percent(Part::DetectionRules),
        d3fend: weights.percent(Part::D3fend),
        freshness: weights.percent(Part::Freshness),
        platform_diversity: weights.percent(Part::PlatformDiversity),
    }
}

pub(super) fn parts(parts: Vec<ShownPart>) -> Vec<pb::ScorePart> {
    let part = |part: ShownPart| pb::ScorePart {
        name: part.part.as_str().to_owned(),
        raw: part.raw,
        weight: part.weight,
        points: part.points,
        basis: part.basis,
        advice: part.advice,
        gain: part.gain,
    };
    parts.into_iter().map(part).collect()
}

fn tactic(tactic: TacticScore) -> pb::TacticScore {
    pb::TacticScore { tactic: tactic.tactic, score: tactic.score, techniques: tactic.techniques }
}

fn rows(rows: Vec<Row>) -> Vec<pb::ScoredTechnique> {
    let row = |row: Row| pb::ScoredTechnique {
        technique_id: row.id.to_string(),
        mitre_id: row.mitre_id.to_string(),
        name: row.name,
        status: row.status.as_str().to_owned(),
        score: row.score,
    };
    rows.into_iter().map(row).collect()
}
