//! How well the techniques of a threat actor are covered.

use std::collections::BTreeSet;

use chrono::{DateTime, Utc};
use uuid::Uuid;

use super::{
    Status,
    matrix::{Actor, Knowledge, Matrix, MatrixTechnique},
    score::{Score, Sum, TacticScore, by_tactic, tactic_names},
};

/// The threat actor with this id or this key.
pub(crate) fn find<'a>(knowledge: &'a Knowledge, text: &str) -> Option<&'a Actor> {
    match text.parse::<Uuid>() {
        Ok(id) => knowledge.actors.iter().find(|actor| actor.id == id),
        Err(_) => knowledge.actors.iter().find(|actor| actor.key.eq_ignore_ascii_case(text)),
    }
}

/// Techniques that something names.
#[derive(Clone, Debug, Default)]
pub(crate) struct Named<'a> {
    /// Active ones, by ATT&CK id, each once.
    pub(crate) known: Vec<&'a MatrixTechnique>,
    /// ATT&CK ids that no active technique has, in their order.
    pub(crate) unknown: Vec<&'a str>,
}

/// The techniques with these ATT&CK ids.
pub(crate) fn named<'a>(matrix: &'a Matrix, mitre_ids: impl IntoIterator<Item = &'a str>) -> Named<'a> {
    let mut named = Named::default();
    for mitre_id in mitre_ids.into_iter().collect::<BTreeSet<_>>() {
        match matrix.find(mitre_id) {
            Some(technique) => named.known.push(technique),
            None => named.unknown.push(mitre_id),
        }
    }
    named
}

/// How well a threat actor's techniques are covered.
#[derive(Clone, Debug)]
pub(crate) struct ActorScore<'a> {
    /// Mean over the techniques; of none there is none.
    pub(crate) score: Option<f64>,
    /// By ATT&CK id.
    pub(crate) covered: Vec<(&'a MatrixTechnique, Score)>,
    pub(crate) partial: Vec<(&'a MatrixTechnique, Score)>,
    pub(crate) uncovered: Vec<(&'a MatrixTechnique, Score)>,
    pub(crate) tactics: Vec<TacticScore>,
    pub(crate) unknown: Vec<&'a str>,
}

/// The score of a threat actor at a moment.
pub(crate) fn score<'a>(matrix: &'a Matrix, actor: &'a Actor, now: DateTime<Utc>) -> ActorScore<'a> {
    let named = named(matrix, actor.techniques.iter().map(|mitre_id| &**mitre_id));
    let scored: Vec<(&MatrixTechnique, Score)> = named
        .known
        .into_iter()
        .map(|technique| (technique, Score::of(technique, &matrix.knowledge, matrix.weights, now)))
        .collect();
    let domains: BTreeSet<&str> = scored.iter().map(|(technique, _)| technique.domain.as_str()).collect();
    let mut tactics: Vec<&str> = tactic_names(&matrix.knowledge, None);
    // Only of the matrices that it is in.
    tactics.retain(|name| {
        matrix.knowledge.tactics.iter().any(|tactic| tactic.short_name == *name && domains.contains(&*tactic.domain))
    });
    let sum: Sum = scored.iter().map(|(_, score)| score).collect();
    let tactics = by_tactic(&tactics, &scored);
    let (mut covered, mut partial, mut uncovered) = (Vec::new(), Vec::new(), Vec::new());
    for scored in scored {
        match scored.0.status {
            Status::Validated => covered.push(scored),
            Status::Partial => partial.push(scored),
            Status::NotCovered | Status::InProgress | Status::NotEvaluated => uncovered.push(scored),
        }
    }
    ActorScore { score: sum.mean(), covered, partial, uncovered, tactics, unknown: named.unknown }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::score::fixture::{actor, matrix, technique};

    #[test]
    fn each_technique_is_in_one_list_and_what_is_not_known_is_told() {
        let mut revoked = technique("T0004", Status::Validated);
        revoked.active = false;
        let mut matrix = matrix(vec![
            technique("T0001", Status::Validated),
            technique("T0002", Status::Partial),
            technique("T0003", Status::NotCovered),
            revoked,
            technique("T0005", Status::InProgress),
        ]);
        let actors = vec![actor("G0016", &["T0005", "T0001", "T0002", "T0003", "T0004", "T0999", "T0001"])];
        std::sync::Arc::make_mut(&mut matrix.knowledge).actors = actors;
        let now = "2031-05-01T00:00:00Z".parse().unwrap();
        let ids =
            |list: &[(&MatrixTechnique, Score)]| list.iter().map(|(t, _)| t.mitre_id.to_string()).collect::<Vec<_>>();
        let actor = find(&matrix.knowledge, "g0016").unwrap();
        assert_eq!(find(&matrix.knowledge, &actor.id.to_string()), Some(actor));
        assert_eq!(find(&matrix.knowledge, "G0017"), None);
        let score = score(&matrix, actor, now);
        assert_eq!(ids(&score.covered), ["T0001"]);
        assert_eq!(ids(&score.partial), ["T0002"]);
        assert_eq!(ids(&score.uncovered), ["T0003", "T0005"]);
        assert_eq!(score.unknown, ["T0004", "T0999"]);
        assert_eq!(score.score, Some(0.0));
        assert_eq!(score.tactics[1], TacticScore { tactic: "execution".into(), score: Some(0.0), techniques: 4 });
    }

    #[test]
    fn an_actor_without_a_known_technique_has_no_score() {
        let matrix = matrix(Vec::new());
        let nobody = actor("G0001", &["T0001"]);
        let score = score(&matrix, &nobody, "2031-05-01T00:00:00Z".parse().unwrap());
        assert_eq!((score.score, score.unknown), (None, vec!["T0001"]));
    }
}
