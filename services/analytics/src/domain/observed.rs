//! What attackers showed on decoys, beside what was tested: where they go and nobody looks is a gap.

use std::sync::Arc;

use chrono::{DateTime, Utc};

use super::{
    Status,
    matrix::{Matrix, MatrixTechnique},
};

/// After so many days without being seen again a gap counts half.
const HALF_LIFE_DAYS: f64 = 30.0;

/// A technique that was shown on decoys.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Observed {
    pub(crate) mitre_id: Arc<str>,
    /// Events that showed it.
    pub(crate) count: i64,
    pub(crate) attackers: i64,
    pub(crate) first_seen: Option<DateTime<Utc>>,
    pub(crate) last_seen: Option<DateTime<Utc>>,
    pub(crate) version: i64,
}

/// A technique that was seen on a decoy and is not validated.
#[derive(Clone, Debug)]
pub(crate) struct Gap<'a> {
    pub(crate) technique: &'a MatrixTechnique,
    pub(crate) observed: &'a Observed,
    /// See [`gaps`]; four decimals.
    pub(crate) priority: f64,
}

/// The gaps, the most urgent first.
///
/// Priority: ln(1 + attackers) × 0.5^(days since it was last seen / 30), and half of that where its status is partial. Of
/// equals the one that was shown more often comes first, then the lower ATT&CK id.
pub(crate) fn gaps(matrix: &Matrix, now: DateTime<Utc>) -> Vec<Gap<'_>> {
    let mut seen = std::collections::HashSet::new();
    let mut gaps: Vec<Gap<'_>> = matrix
        .active()
        .filter(|technique| technique.status != Status::Validated)
        // Of an id that is in several domains the first, as everywhere.
        .filter(|technique| seen.insert(&technique.mitre_id))
        .filter_map(|technique| {
            let observed = matrix.observed.get(&technique.mitre_id).filter(|observed| observed.count > 0)?;
            Some(Gap { technique, observed, priority: priority(technique.status, observed, now) })
        })
        .collect();
    gaps.sort_by(|a, b| {
        let shown = b.observed.count.cmp(&a.observed.count);
        b.priority.total_cmp(&a.priority).then(shown).then_with(|| a.technique.mitre_id.cmp(&b.technique.mitre_id))
    });
    gaps
}

fn priority(status: Status, observed: &Observed, now: DateTime<Utc>) -> f64 {
    let days = observed.last_seen.map_or(0.0, |seen| (now - seen).num_seconds().max(0) as f64 / 86_400.0);
    let partial = if status == Status::Partial { 0.5 } else { 1.0 };
    let priority = (observed.attackers.max(0) as f64).ln_1p() * 0.5_f64.powf(days / HALF_LIFE_DAYS) * partial;
    (priority * 10_000.0).round() / 10_000.0
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;
    use crate::domain::score::fixture::{matrix, technique};

    #[test]
    fn what_many_showed_lately_comes_first_and_what_is_validated_is_no_gap() {
        let now: DateTime<Utc> = "2031-05-01T00:00:00Z".parse().unwrap();
        let observed = |id: &str, count, attackers, days| Observed {
            mitre_id: id.into(),
            count,
            attackers,
            first_seen: None,
            last_seen: Some(now - chrono::TimeDelta::days(days)),
            version: 1,
        };
        let mut gone = technique("T0006", Status::NotEvaluated);
        gone.active = false;
        let mut matrix = matrix(vec![
            technique("T0001", Status::NotEvaluated),
            technique("T0002", Status::NotCovered),
            technique("T0003", Status::Partial),
            technique("T0004", Status::Validated),
            technique("T0005", Status::NotEvaluated),
            gone,
        ]);
        let seen = [
            observed("T0001", 5, 3, 30),
            observed("T0002", 1, 3, 0),
            observed("T0003", 9, 3, 0),
            observed("T0004", 99, 9, 0),
            observed("T0006", 99, 9, 0),
        ];
        let seen: HashMap<_, _> = seen.into_iter().map(|seen| (Arc::clone(&seen.mitre_id), seen)).collect();
        matrix.observed = Arc::new(seen);
        let told: Vec<(&str, f64)> =
            gaps(&matrix, now).iter().map(|gap| (&*gap.technique.mitre_id, gap.priority)).collect();
        // ln 4 = 1.3863, and half of it; the third was shown more often than the first.
        let whole = (4.0_f64.ln() * 10_000.0).round() / 10_000.0;
        let half = (2.0_f64.ln() * 10_000.0).round() / 10_000.0;
        assert_eq!(told, [("T0002", whole), ("T0003", half), ("T0001", half)]);
    }
}
