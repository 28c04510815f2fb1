//! A matrix as the service tells it, in the words of those who draw it.

use aegis_proto::analytics::v1::{Coverage, GetMatrixResponse, MatrixTactic, MatrixTechnique, ScorePart};
use aegis_render::{Change, Counts, Matrix, Part, Status, Tactic, Technique};

use crate::values::{filled, time};

/// The matrix under a title; `filters` are those that the answer does not name itself.
pub fn matrix(matrix: GetMatrixResponse, title: &str, filters: [Option<&str>; 2]) -> Matrix {
    let scope = scope(&matrix, filters);
    Matrix {
        title: title.to_owned(),
        scope,
        tactics: matrix.tactics.into_iter().map(tactic).collect(),
        techniques: matrix.techniques.into_iter().map(technique).collect(),
        counts: counts(matrix.coverage),
        coverage_percentage: matrix.coverage_percentage,
        score: matrix.score,
        attack_version: matrix.attack_version,
        compared_with: filled(matrix.compare_name),
        as_of: time(matrix.as_of),
    }
}

/// What a matrix is of, in words.
pub fn scope(matrix: &GetMatrixResponse, [tactic, platform]: [Option<&str>; 2]) -> String {
    let mut parts = vec![match matrix.domain.as_str() {
        "mobile" => "Mobile matrix".to_owned(),
        "ics" => "ICS matrix".to_owned(),
        _ => "Enterprise matrix".to_owned(),
    }];
    if let Some(tactic) = tactic {
        let known = matrix.tactics.iter().find(|known| known.short_name == tactic);
        parts.push(format!("tactic {}", known.map_or(tactic, |known| &known.name)));
    }
    if let Some(platform) = platform {
        parts.push(format!("platform {platform}"));
    }
    if !matrix.threat_actor_name.is_empty() {
        parts.push(format!("techniques of {}", matrix.threat_actor_name));
    }
    parts.join(" · ")
}

/// The parts of a score.
pub fn parts(parts: Vec<ScorePart>) -> Vec<Part> {
    let part =
        |part: ScorePart| Part { name: part.name, weight: part.weight, points: part.points, advice: part.advice };
    parts.into_iter().map(part).collect()
}

fn counts(coverage: Option<Coverage>) -> Counts {
    let coverage = coverage.unwrap_or_default();
    Counts {
        total: coverage.total,
        validated: coverage.validated,
        partial: coverage.partial,
        in_progress: coverage.in_progress,
        not_covered: coverage.not_covered,
        not_evaluated: coverage.not_evaluated,
    }
}

fn tactic(tactic: MatrixTactic) -> Tactic {
    Tactic {
        short_name: tactic.short_name,
        name: tactic.name,
        counts: counts(tactic.coverage),
        coverage_percentage: tactic.coverage_percentage,
        score: tactic.score,
    }
}

/// A technique; a status that is not known counts as none.
pub fn technique(technique: MatrixTechnique) -> Technique {
    Technique {
        id: technique.mitre_id,
        name: technique.name,
        tactics: technique.tactics,
        parent: technique.parent_mitre_id,
        status: Status::parse(&technique.status).unwrap_or(Status::NotEvaluated),
        score: technique.score,
        detection_rules: technique.detection_rules,
        threat_actors: technique.threat_actors,
        validated_tests: technique.validated_tests,
        tests: technique.tests,
        observed: technique.observed,
        change: technique.change.as_deref().and_then(Change::parse),
        previous_status: technique.previous_status.as_deref().and_then(Status::parse),
        previous_score: technique.previous_score,
    }
}
