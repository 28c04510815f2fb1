//! A part of the matrix, on its way in and out.

use aegis_proto::analytics::v1 as pb;

use super::{coverage, score::parts, timestamp};
use crate::{
    app::scores::{Ask, Viewed},
    domain::{
        matrix::{Matrix, MatrixTechnique},
        score::{rules, users},
        view::{Cell, Column},
    },
};

pub(super) fn ask(request: pb::GetMatrixRequest) -> Ask {
    Ask {
        domain: request.domain,
        threat_actor_id: request.threat_actor_id,
        platform: request.platform,
        tactic: request.tactic,
        compare: request.compare,
    }
}

pub(super) fn response(viewed: &Viewed) -> pb::GetMatrixResponse {
    let Viewed { matrix, view, domain, actor_name, snapshot_name } = viewed;
    let techniques =
        view.cells.iter().filter_map(|cell| Some(technique(matrix, matrix.techniques.get(cell.at)?, cell)));
    pb::GetMatrixResponse {
        tactics: view.columns.iter().map(tactic).collect(),
        techniques: techniques.collect(),
        coverage: Some(coverage(&view.counts)),
        coverage_percentage: view.counts.percentage(),
        score: view.score,
        attack_version: view.attack_version.clone(),
        domain: domain.clone(),
        threat_actor_name: actor_name.clone(),
        compare_name: snapshot_name.clone(),
        as_of: matrix.as_of.map(timestamp),
        parts: parts(view.parts.clone()),
    }
}

fn tactic(column: &Column) -> pb::MatrixTactic {
    pb::MatrixTactic {
        short_name: column.short_name.clone(),
        name: column.name.clone(),
        mitre_id: column.mitre_id.clone(),
        coverage: Some(coverage(&column.counts)),
        coverage_percentage: column.counts.percentage(),
        score: column.score,
    }
}

fn technique(matrix: &Matrix, technique: &MatrixTechnique, cell: &Cell) -> pb::MatrixTechnique {
    let previous = cell.changed.and_then(|changed| changed.previous);
    pb::MatrixTechnique {
        id: technique.id.to_string(),
        mitre_id: technique.mitre_id.to_string(),
        name: technique.name.clone(),
        tactics: cell.tactics.clone(),
        platforms: technique.platforms.clone(),
        parent_mitre_id: technique.parent_mitre_id.clone(),
        status: technique.status.as_str().to_owned(),
        score: cell.score.value(),
        detection_rules: rules(&matrix.knowledge, technique),
        threat_actors: users(&matrix.knowledge, technique),
        validated_tests: technique.tests.validated,
        tests: technique.tests.all,
        last_validated_at: technique.tests.last_validated_at.map(timestamp),
        observed: matrix.observed.get(&technique.mitre_id).map_or(0, |observed| observed.count),
        change: cell.changed.map(|changed| changed.kind.as_str().to_owned()),
        previous_status: previous.map(|(status, _)| status.as_str().to_owned()),
        previous_score: previous.map(|(_, score)| score),
        domain: technique.domain.clone(),
    }
}
