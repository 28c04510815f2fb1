//! Scores, and what they come from. Their weights are in [`config`], what would raise them most in [`plan`].

mod config;
mod plan;

pub use config::Weights;

use aegis_proto::analytics::v1::{
    self as proto, GetOrganizationScoreRequest, GetScoreHistoryRequest, GetTacticScoreRequest,
    GetTechniqueScoreRequest, GetThreatActorScoreRequest,
};
use axum::extract::State;
use chrono::{DateTime, Utc};
use http::Uri;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::{
    router::{OpenApiRouter, UtoipaMethodRouterExt},
    routes,
};

use crate::{
    answer::Answer,
    error::Problem,
    extract::{Caller, Name, Query},
    middleware::compression,
    openapi::responses::NotFound,
    state::Gateway,
    values::{Domain, Period, ScorePointKind, TechniqueStatus, filled, time, time_always},
};

/// Routes that need a token.
pub fn protected() -> OpenApiRouter<Gateway> {
    OpenApiRouter::new()
        .routes(routes!(get_technique_score))
        .routes(routes!(get_tactic_score).layer(compression()))
        .routes(routes!(get_threat_actor_score).layer(compression()))
        .routes(routes!(get_organization_score))
        .routes(routes!(list_score_history).layer(compression()))
        .merge(plan::protected())
        .merge(config::protected())
}

/// One part of a score.
#[derive(Default, Serialize, ToSchema)]
#[schema(example = json!({
    "raw": 0.6, "weight": 20.0, "points": 12.0, "basis": "3 of 5 rules", "advice": "2 more detection rules", "gain": 8.0
}))]
pub struct ScorePart {
    /// The figure, 0 to 1.
    raw: f64,
    /// Percent.
    weight: f64,
    /// raw × weight.
    points: f64,
    /// What the figure comes from; null in means.
    basis: Option<String>,
    /// What would raise it; null where nothing would.
    advice: Option<String>,
    /// Points that this would add to the score.
    gain: f64,
}

/// The five parts of a score. Their points sum to it.
#[derive(Default, Serialize, ToSchema)]
#[schema(example = json!({
    "tests": {"raw": 0.5, "weight": 40.0, "points": 20.0, "basis": "1 of 2 tests detected",
        "advice": "detect the other", "gain": 20.0},
    "detection_rules": {"raw": 0.6, "weight": 20.0, "points": 12.0, "basis": "3 of 5 rules",
        "advice": "2 more detection rules", "gain": 8.0},
    "d3fend": {"raw": 0.0, "weight": 15.0, "points": 0.0, "basis": "0 of 4 countermeasures", "advice": "implement one",
        "gain": 3.8},
    "freshness": {"raw": 1.0, "weight": 15.0, "points": 15.0, "basis": "12 days ago", "advice": null, "gain": 0.0},
    "platform_diversity": {"raw": 0.5, "weight": 10.0, "points": 5.0, "basis": "1 of 2 platforms",
        "advice": "test it on linux", "gain": 5.0}
}))]
pub struct Breakdown {
    /// What its tests say: detected 1, partially ½, not detected 0, the mean.
    tests: ScorePart,
    /// Detection rules; five are all that it needs.
    detection_rules: ScorePart,
    /// D3FEND's countermeasures of it that are marked implemented.
    d3fend: ScorePart,
    /// 1 until 90 days after the last validation, then straight down to 0 at 365.
    freshness: ScorePart,
    /// Platforms of it with a validated test.
    platform_diversity: ScorePart,
}

impl From<proto::ScorePart> for ScorePart {
    fn from(part: proto::ScorePart) -> ScorePart {
        ScorePart {
            raw: part.raw,
            weight: part.weight,
            points: part.points,
            basis: filled(part.basis),
            advice: filled(part.advice),
            gain: part.gain,
        }
    }
}

impl Breakdown {
    /// Of these parts; `None` where there is nothing to break down.
    fn of(parts: Vec<proto::ScorePart>) -> Option<Breakdown> {
        let mut breakdown = (!parts.is_empty()).then(Breakdown::default)?;
        for part in parts {
            let place = match part.name.as_str() {
                "tests" => &mut breakdown.tests,
                "detection_rules" => &mut breakdown.detection_rules,
                "d3fend" => &mut breakdown.d3fend,
                "freshness" => &mut breakdown.freshness,
                "platform_diversity" => &mut breakdown.platform_diversity,
                // Of a newer service.
                _ => continue,
            };
            *place = part.into();
        }
        Some(breakdown)
    }
}

/// The score of a technique and what it comes from.
#[derive(Serialize, ToSchema)]
#[schema(example = json!({
    "technique_id": "0190b7a2-5f00-7c3e-9d2a-3f6d1c0e8a11", "mitre_id": "T1059.001", "name": "PowerShell",
    "domain": "enterprise", "tactics": ["execution"], "status": "partial", "score": 52.0,
    "breakdown": {
        "tests": {"raw": 0.5, "weight": 40.0, "points": 20.0, "basis": "1 of 2 tests detected",
            "advice": "detect the other", "gain": 20.0},
        "detection_rules": {"raw": 0.6, "weight": 20.0, "points": 12.0, "basis": "3 of 5 rules",
            "advice": "2 more detection rules", "gain": 8.0},
        "d3fend": {"raw": 0.0, "weight": 15.0, "points": 0.0, "basis": "0 of 4 countermeasures",
            "advice": "implement one", "gain": 3.8},
        "freshness": {"raw": 1.0, "weight": 15.0, "points": 15.0, "basis": "12 days ago", "advice": null, "gain": 0.0},
        "platform_diversity": {"raw": 0.5, "weight": 10.0, "points": 5.0, "basis": "1 of 2 platforms",
            "advice": "test it on linux", "gain": 5.0}
    },
    "advice": "detect the other"
}))]
pub struct TechniqueScore {
    #[schema(value_type = Uuid)]
    technique_id: String,
    mitre_id: String,
    name: String,
    #[schema(value_type = Domain)]
    domain: String,
    tactics: Vec<String>,
    #[schema(value_type = TechniqueStatus)]
    status: String,
    /// 0 to 100, one decimal.
    score: f64,
    breakdown: Option<Breakdown>,
    /// What would raise it most; null at 100.
    advice: Option<String>,
}

/// A technique in a list of scores.
#[derive(Serialize, ToSchema)]
#[schema(example = json!({
    "technique_id": "0190b7a2-5f00-7c3e-9d2a-3f6d1c0e8a11", "mitre_id": "T1059.001", "name": "PowerShell",
    "status": "partial", "score": 52.0
}))]
pub struct ScoredTechnique {
    #[schema(value_type = Uuid)]
    technique_id: String,
    mitre_id: String,
    name: String,
    #[schema(value_type = TechniqueStatus)]
    status: String,
    /// 0 to 100, one decimal.
    score: f64,
}

impl From<proto::ScoredTechnique> for ScoredTechnique {
    fn from(t: proto::ScoredTechnique) -> ScoredTechnique {
        ScoredTechnique {
            technique_id: t.technique_id,
            mitre_id: t.mitre_id,
            name: t.name,
            status: t.status,
            score: t.score,
        }
    }
}

fn scored(techniques: Vec<proto::ScoredTechnique>) -> Vec<ScoredTechnique> {
    techniques.into_iter().map(ScoredTechnique::from).collect()
}

/// The score of a tactic in a list of them.
#[derive(Serialize, ToSchema)]
#[schema(example = json!({"tactic": "execution", "score": 41.5, "technique_count": 44}))]
pub struct TacticScore {
    tactic: String,
    /// Null where it has no technique.
    score: Option<f64>,
    technique_count: i64,
}

impl From<proto::TacticScore> for TacticScore {
    fn from(tactic: proto::TacticScore) -> TacticScore {
        TacticScore { tactic: tactic.tactic, score: tactic.score, technique_count: tactic.techniques }
    }
}

fn by_tactic(tactics: Vec<proto::TacticScore>) -> Vec<TacticScore> {
    tactics.into_iter().map(TacticScore::from).collect()
}

/// The score of a tactic, with its techniques.
#[derive(Serialize, ToSchema)]
#[schema(example = json!({
    "tactic": "execution", "score": 52.0, "technique_count": 1, "breakdown": null,
    "techniques": [{
        "technique_id": "0190b7a2-5f00-7c3e-9d2a-3f6d1c0e8a11", "mitre_id": "T1059.001", "name": "PowerShell",
        "status": "partial", "score": 52.0
    }]
}))]
pub struct TacticScoreDetail {
    tactic: String,
    /// The mean over its techniques, one decimal; null where it has none.
    score: Option<f64>,
    technique_count: usize,
    /// The mean of each part over its techniques.
    breakdown: Option<Breakdown>,
    /// Lowest score first.
    techniques: Vec<ScoredTechnique>,
}

/// The score against a threat actor.
#[derive(Serialize, ToSchema)]
#[schema(example = json!({
    "threat_actor_id": "0190b7a2-9000-7c3e-9d2a-3f6d1c0e8a02", "mitre_id": "G0007", "name": "APT28", "score": 52.0,
    "technique_count": 1, "covered": [],
    "partial": [{
        "technique_id": "0190b7a2-5f00-7c3e-9d2a-3f6d1c0e8a11", "mitre_id": "T1059.001", "name": "PowerShell",
        "status": "partial", "score": 52.0
    }],
    "uncovered": [], "tactics": [{"tactic": "execution", "score": 52.0, "technique_count": 1}], "unknown_mitre_ids": []
}))]
pub struct ThreatActorScore {
    #[schema(value_type = Uuid)]
    threat_actor_id: String,
    /// Of an ATT&CK group.
    mitre_id: Option<String>,
    name: String,
    /// The mean over the techniques that it uses, one decimal; null where none is known.
    score: Option<f64>,
    technique_count: usize,
    /// Validated, by ATT&CK id.
    covered: Vec<ScoredTechnique>,
    /// Partial, by ATT&CK id.
    partial: Vec<ScoredTechnique>,
    /// All others, by ATT&CK id.
    uncovered: Vec<ScoredTechnique>,
    tactics: Vec<TacticScore>,
    /// Techniques that its source names and that are not active here.
    unknown_mitre_ids: Vec<String>,
}

/// The score of all of it.
#[derive(Serialize, ToSchema)]
#[schema(example = json!({
    "score": 23.4, "technique_count": 691,
    "tactics": [{"tactic": "execution", "score": 41.5, "technique_count": 44}],
    "breakdown": null,
    "weights": {"tests": 40.0, "detection_rules": 20.0, "d3fend": 15.0, "freshness": 15.0, "platform_diversity": 10.0}
}))]
pub struct OrganizationScore {
    /// The mean over all active techniques, one decimal; null for an empty catalogue.
    score: Option<f64>,
    technique_count: i64,
    tactics: Vec<TacticScore>,
    /// The mean of each part over all of them.
    breakdown: Option<Breakdown>,
    weights: Option<Weights>,
}

/// A point of the score's history.
#[derive(Serialize, ToSchema)]
#[schema(example = json!({
    "at": "2024-01-01T05:00:00Z", "kind": "weekly", "score": 23.4, "coverage_percentage": 35.0,
    "tactics": [{"tactic": "execution", "score": 41.5, "technique_count": 44}],
    "snapshot_id": "0190b7a2-b000-7c3e-9d2a-3f6d1c0e8a77"
}))]
pub struct ScorePoint {
    at: DateTime<Utc>,
    #[schema(value_type = ScorePointKind)]
    kind: String,
    /// Of the organisation; null where there was no technique.
    score: Option<f64>,
    coverage_percentage: f64,
    tactics: Vec<TacticScore>,
    /// The snapshot that was taken then.
    #[schema(value_type = Option<Uuid>)]
    snapshot_id: Option<String>,
}

/// Of which matrix.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct OfDomain {
    /// All of them if absent.
    #[param(inline)]
    domain: Option<Domain>,
}

/// How far back.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct ScoreHistory {
    /// `90d` if absent.
    #[param(inline)]
    period: Option<Period>,
}

/// Score of a technique
///
/// The sum of five parts, each a raw figure from 0 to 1 times its weight (`GET /scores/config`), and for each in words
/// what it comes from and what would raise it.
#[utoipa::path(get, path = "/api/v1/scores/technique/{mitre_id}", tag = "Scores",
    params(("mitre_id" = String, Path, description = "ATT&CK id", example = "T1059.001")),
    responses(
        (status = 200, description = "The score", body = TechniqueScore,
            headers(("X-As-Of" = String, description = "When the figures were last brought up to date"))),
        (status = 404, response = NotFound),
    ))]
async fn get_technique_score(
    State(gateway): State<Gateway>,
    caller: Caller,
    Name(mitre_id): Name,
) -> Result<Answer, Problem> {
    let request = caller.ctx().outgoing(GetTechniqueScoreRequest { mitre_id });
    let answer = gateway.deps.scores.clone().get_technique_score(request).await?.into_inner();
    let score = answer.score.ok_or_else(Problem::empty)?;
    let score = TechniqueScore {
        technique_id: score.technique_id,
        mitre_id: score.mitre_id,
        name: score.name,
        domain: score.domain,
        tactics: score.tactics,
        status: score.status,
        score: score.score,
        breakdown: Breakdown::of(score.parts),
        advice: filled(score.advice),
    };
    Ok(Answer::entity(0, &score)?.dated(time(answer.as_of)))
}

/// Score of a tactic
///
/// The mean over its techniques, with them, the lowest first. A tactic that no domain has is 404.
#[utoipa::path(get, path = "/api/v1/scores/tactic/{tactic}", tag = "Scores",
    params(("tactic" = String, Path, description = "Short name", example = "execution"), OfDomain),
    responses(
        (status = 200, description = "The score", body = TacticScoreDetail,
            headers(("X-As-Of" = String, description = "When the figures were last brought up to date"))),
        (status = 404, response = NotFound),
    ))]
async fn get_tactic_score(
    State(gateway): State<Gateway>,
    caller: Caller,
    Name(tactic): Name,
    Query(query): Query<OfDomain>,
) -> Result<Answer, Problem> {
    let domain = query.domain.map(String::from).unwrap_or_default();
    let request = caller.ctx().outgoing(GetTacticScoreRequest { tactic, domain });
    let answer = gateway.deps.scores.clone().get_tactic_score(request).await?.into_inner();
    let score = TacticScoreDetail {
        tactic: answer.tactic,
        score: answer.score,
        technique_count: answer.techniques.len(),
        breakdown: Breakdown::of(answer.parts),
        techniques: scored(answer.techniques),
    };
    Ok(Answer::entity(0, &score)?.dated(time(answer.as_of)))
}

/// Score against a threat actor
///
/// The mean over the techniques that it uses, and which of them are covered (validated), partial and uncovered. By UUID or
/// by ATT&CK id.
#[utoipa::path(get, path = "/api/v1/scores/threat-actor/{id}", tag = "Scores",
    params(("id" = String, Path, description = "UUID or ATT&CK id", example = "G0007")),
    responses(
        (status = 200, description = "The score", body = ThreatActorScore,
            headers(("X-As-Of" = String, description = "When the figures were last brought up to date"))),
        (status = 404, response = NotFound),
    ))]
async fn get_threat_actor_score(
    State(gateway): State<Gateway>,
    caller: Caller,
    Name(id): Name,
) -> Result<Answer, Problem> {
    let request = caller.ctx().outgoing(GetThreatActorScoreRequest { id });
    let answer = gateway.deps.scores.clone().get_threat_actor_score(request).await?.into_inner();
    let score = ThreatActorScore {
        threat_actor_id: answer.threat_actor_id,
        mitre_id: answer.key.starts_with('G').then_some(answer.key),
        name: answer.name,
        score: answer.score,
        technique_count: answer.covered.len() + answer.partial.len() + answer.uncovered.len(),
        covered: scored(answer.covered),
        partial: scored(answer.partial),
        uncovered: scored(answer.uncovered),
        tactics: by_tactic(answer.tactics),
        unknown_mitre_ids: answer.unknown_mitre_ids,
    };
    Ok(Answer::entity(0, &score)?.dated(time(answer.as_of)))
}

/// Score of the organisation
///
/// The mean over all active techniques, and the same by tactic, where a technique counts in each of its tactics. It is of
/// the moment of `X-As-Of`, not older.
#[utoipa::path(get, path = "/api/v1/scores/organization", tag = "Scores", params(OfDomain),
    responses((status = 200, description = "The score", body = OrganizationScore,
        headers(("X-As-Of" = String, description = "When the figures were last brought up to date")))))]
async fn get_organization_score(
    State(gateway): State<Gateway>,
    caller: Caller,
    uri: Uri,
    Query(query): Query<OfDomain>,
) -> Result<Answer, Problem> {
    let load = async {
        let domain = query.domain.map(String::from).unwrap_or_default();
        let request = caller.ctx().outgoing(GetOrganizationScoreRequest { domain });
        let answer = gateway.deps.scores.clone().get_organization_score(request).await?.into_inner();
        let score = OrganizationScore {
            score: answer.score,
            technique_count: answer.techniques,
            tactics: by_tactic(answer.tactics),
            breakdown: Breakdown::of(answer.parts),
            weights: answer.weights.map(Weights::from),
        };
        Ok(Answer::json(&score)?.dated(time(answer.as_of)))
    };
    gateway.hot.answer(&caller, &uri, load).await
}

/// Score history
///
/// A point a week and one for every snapshot, oldest first, each with the weights of its time.
#[utoipa::path(get, path = "/api/v1/scores/history", tag = "Scores", params(ScoreHistory),
    responses((status = 200, description = "The points", body = [ScorePoint],
        headers(("X-As-Of" = String, description = "When the figures were last brought up to date")))))]
async fn list_score_history(
    State(gateway): State<Gateway>,
    caller: Caller,
    uri: Uri,
    Query(query): Query<ScoreHistory>,
) -> Result<Answer, Problem> {
    let load = async {
        let period = query.period.map(String::from).unwrap_or_default();
        let request = caller.ctx().outgoing(GetScoreHistoryRequest { period });
        let answer = gateway.deps.scores.clone().get_score_history(request).await?.into_inner();
        let points = answer.points.into_iter().map(|point| ScorePoint {
            at: time_always(point.at),
            kind: point.kind,
            score: point.score,
            coverage_percentage: point.coverage_percentage,
            tactics: by_tactic(point.tactics),
            snapshot_id: filled(point.snapshot_id),
        });
        let points: Vec<ScorePoint> = points.collect();
        Ok(Answer::list(&points, points.len() as i64)?.dated(time(answer.as_of)))
    };
    gateway.hot.answer(&caller, &uri, load).await
}
