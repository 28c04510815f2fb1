//! Coverage over the whole catalogue and by tactic.

use std::collections::BTreeMap;

use super::{Counts, matrix::Matrix};

/// Counts over all active techniques of every matrix, and by tactic in the order of names.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Summary {
    pub(crate) counts: Counts,
    pub(crate) tactics: Vec<(String, Counts)>,
}

/// In figures by tactic a technique counts once in each of its tactics.
pub(crate) fn summary(matrix: &Matrix) -> Summary {
    let counts = Counts::of(matrix.active().map(|technique| technique.status));
    let mut tactics: BTreeMap<&str, Counts> = BTreeMap::new();
    for technique in matrix.active() {
        for tactic in &technique.tactics {
            tactics.entry(tactic).or_default().add(technique.status);
        }
    }
    let tactics = tactics.into_iter().map(|(tactic, counts)| (tactic.to_owned(), counts)).collect();
    Summary { counts, tactics }
}
