//! What changed between two states of coverage.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use uuid::Uuid;

use super::{Status, matrix::Matrix};

/// A successor may be revoked too; no chain of them is longer.
const MAX_STEPS: usize = 10;

/// A technique at a moment.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct TechniqueState {
    pub(crate) id: Uuid,
    pub(crate) mitre_id: String,
    pub(crate) name: String,
    pub(crate) domain: String,
    pub(crate) tactics: Vec<String>,
    pub(crate) status: Status,
    /// One decimal.
    pub(crate) score: f64,
    pub(crate) attack_version: Option<String>,
}

/// A technique of one state or of both.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Change<'a> {
    pub(crate) a: Option<&'a TechniqueState>,
    pub(crate) b: Option<&'a TechniqueState>,
}

/// What changed. Each technique of `a`, and each that only `b` has, is in one list, by its ATT&CK id.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Comparison<'a> {
    pub(crate) improved: Vec<Change<'a>>,
    pub(crate) worsened: Vec<Change<'a>>,
    pub(crate) unchanged: Vec<Change<'a>>,
    pub(crate) added: Vec<Change<'a>>,
    pub(crate) removed: Vec<Change<'a>>,
    /// Under another ATT&CK id since: one of them was revoked by the other. The other may be in another list too, when
    /// it was there before as well.
    pub(crate) remapped: Vec<Change<'a>>,
}

/// Which technique took the place of which.
#[derive(Clone, Debug, Default)]
pub(crate) struct Successors<'a>(HashMap<Key<'a>, &'a str>);

/// Domain and ATT&CK id.
type Key<'a> = (&'a str, &'a str);

impl<'a> Successors<'a> {
    pub(crate) fn of(matrix: &'a Matrix) -> Self {
        let revoked = matrix.techniques.iter().filter_map(|technique| {
            Some(((technique.domain.as_str(), &*technique.mitre_id), technique.revoked_by.as_deref()?))
        });
        Successors(revoked.collect())
    }

    /// The next one after a technique that is there.
    fn follow<'s>(&self, key: Key<'_>, there: &BTreeMap<Key<'s>, &'s TechniqueState>) -> Option<&'s TechniqueState> {
        let (domain, mut mitre_id) = key;
        for _ in 0..MAX_STEPS {
            mitre_id = self.0.get(&(domain, mitre_id))?;
            if let Some(found) = there.get(&(domain, mitre_id)) {
                return Some(found);
            }
        }
        None
    }
}

/// Compares two states; `a` is the older one as a rule.
pub(crate) fn compare<'a>(
    a: &'a [TechniqueState],
    b: &'a [TechniqueState],
    successors: &Successors<'_>,
) -> Comparison<'a> {
    let (a, b) = (by_key(a), by_key(b));
    let mut comparison = Comparison::default();
    // Successors of what only `a` has.
    let mut taken: BTreeSet<Key<'_>> = BTreeSet::new();
    let mut only_a = Vec::new();
    for (key, was) in &a {
        match b.get(key) {
            Some(is) => {
                let list = match progress(was).partial_cmp(&progress(is)) {
                    Some(std::cmp::Ordering::Less) => &mut comparison.improved,
                    Some(std::cmp::Ordering::Greater) => &mut comparison.worsened,
                    _ => &mut comparison.unchanged,
                };
                list.push(Change { a: Some(was), b: Some(is) });
            }
            None => match successors.follow(*key, &b) {
                Some(is) => {
                    taken.insert(of(is));
                    comparison.remapped.push(Change { a: Some(was), b: Some(is) });
                }
                None => only_a.push(*was),
            },
        }
    }
    // And, where `a` is the newer one, the other way round.
    let mut given: BTreeSet<Key<'_>> = BTreeSet::new();
    for (key, is) in b.iter().filter(|(key, _)| !a.contains_key(*key) && !taken.contains(*key)) {
        match successors.follow(*key, &a) {
            Some(was) => {
                given.insert(of(was));
                comparison.remapped.push(Change { a: Some(was), b: Some(is) });
            }
            None => comparison.added.push(Change { a: None, b: Some(is) }),
        }
    }
    let removed = only_a.into_iter().filter(|was| !given.contains(&of(was)));
    comparison.removed = removed.map(|was| Change { a: Some(was), b: None }).collect();
    for list in [
        &mut comparison.improved,
        &mut comparison.worsened,
        &mut comparison.unchanged,
        &mut comparison.added,
        &mut comparison.removed,
        &mut comparison.remapped,
    ] {
        list.sort_by_key(|change| (change.b.or(change.a).map(by_id), change.a.map(by_id)));
    }
    comparison
}

fn by_key(states: &[TechniqueState]) -> BTreeMap<Key<'_>, &TechniqueState> {
    states.iter().map(|state| (of(state), state)).collect()
}

fn of(state: &TechniqueState) -> Key<'_> {
    (&state.domain, &state.mitre_id)
}

fn by_id(state: &TechniqueState) -> (&str, &str) {
    (&state.mitre_id, &state.domain)
}

/// How far coverage of a technique has come: its status, then its score. A result that is bad is more than none.
fn progress(state: &TechniqueState) -> (u8, f64) {
    let status = match state.status {
        Status::NotEvaluated => 0,
        Status::InProgress => 1,
        Status::NotCovered => 2,
        Status::Partial => 3,
        Status::Validated => 4,
    };
    (status, state.score)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::domain::score::fixture::{matrix, technique};

    fn state(mitre_id: &str, status: Status, score: f64) -> TechniqueState {
        TechniqueState {
            id: Uuid::nil(),
            mitre_id: mitre_id.into(),
            name: format!("Name of {mitre_id}"),
            domain: "enterprise".into(),
            tactics: Vec::new(),
            status,
            score,
            attack_version: None,
        }
    }

    fn ids(list: &[Change<'_>]) -> Vec<(String, String)> {
        let id = |state: Option<&TechniqueState>| state.map(|state| state.mitre_id.clone()).unwrap_or_default();
        list.iter().map(|change| (id(change.a), id(change.b))).collect()
    }

    fn pair(a: &str, b: &str) -> (String, String) {
        (a.to_owned(), b.to_owned())
    }

    fn revoked(mitre_id: &str, by: &str) -> crate::domain::matrix::MatrixTechnique {
        let mut revoked = technique(mitre_id, Status::NotEvaluated);
        revoked.active = false;
        revoked.revoked_by = Some(by.into());
        revoked
    }

    #[test]
    fn by_status_then_by_score() {
        use Status::*;
        let a = [
            state("T1", NotEvaluated, 20.0),
            state("T2", Validated, 80.0),
            state("T3", Partial, 30.0),
            state("T4", Partial, 30.0),
        ];
        let b = [
            state("T1", Partial, 10.0),
            state("T2", NotCovered, 90.0),
            state("T3", Partial, 30.1),
            state("T4", Partial, 30.0),
        ];
        let comparison = compare(&a, &b, &Successors::default());
        assert_eq!(ids(&comparison.improved), [pair("T1", "T1"), pair("T3", "T3")]);
        assert_eq!(ids(&comparison.worsened), [pair("T2", "T2")]);
        assert_eq!(ids(&comparison.unchanged), [pair("T4", "T4")]);
    }

    #[test]
    fn what_was_revoked_is_followed_to_what_is_there() {
        // T1 → T2 → T3, and T4 was merged into T5, which was there before; T6 is gone, T7 is new.
        let matrix = matrix(vec![revoked("T1", "T2"), revoked("T2", "T3"), revoked("T4", "T5"), revoked("T6", "T60")]);
        let successors = Successors::of(&matrix);
        let old = ["T1", "T4", "T5", "T6"].map(|id| state(id, Status::Validated, 50.0));
        let new = ["T3", "T5", "T7"].map(|id| state(id, Status::NotEvaluated, 0.0));
        let there = compare(&old, &new, &successors);
        assert_eq!(ids(&there.remapped), [pair("T1", "T3"), pair("T4", "T5")]);
        assert_eq!(ids(&there.worsened), [pair("T5", "T5")]);
        assert_eq!((ids(&there.added), ids(&there.removed)), (vec![pair("", "T7")], vec![pair("T6", "")]));
        // The other way round: the newer one first.
        let back = compare(&new, &old, &successors);
        assert_eq!(ids(&back.remapped), [pair("T3", "T1"), pair("T5", "T4")]);
        assert_eq!((ids(&back.added), ids(&back.removed)), (vec![pair("", "T6")], vec![pair("T7", "")]));
        // Between the two moments only the first step was there.
        let middle = [state("T2", Status::Validated, 50.0)];
        assert_eq!(ids(&compare(&old[..1], &middle, &successors).remapped), [pair("T1", "T2")]);
    }

    proptest! {
        /// Whatever revoked what, in circles too.
        #[test]
        fn each_technique_is_told_of_once(
            a in proptest::collection::btree_map(0_u8..12, 0_usize..5, 0..12),
            b in proptest::collection::btree_map(0_u8..12, 0_usize..5, 0..12),
            revocations in proptest::collection::btree_map(0_u8..12, 0_u8..12, 0..8),
        ) {
            let name = |n: u8| format!("T{n:02}");
            let states = |of: &BTreeMap<u8, usize>| of
                .iter()
                .map(|(n, status)| state(&name(*n), Status::ALL[*status], 0.0))
                .collect::<Vec<_>>();
            let matrix = matrix(revocations.iter().map(|(n, by)| revoked(&name(*n), &name(*by))).collect());
            let (states_a, states_b) = (states(&a), states(&b));
            let comparison = compare(&states_a, &states_b, &Successors::of(&matrix));
            let Comparison { improved, worsened, unchanged, added, removed, remapped } = &comparison;
            let both = [improved, worsened, unchanged].into_iter().flatten().count();
            prop_assert_eq!(both, a.keys().filter(|n| b.contains_key(n)).count());
            for change in added {
                prop_assert!(change.a.is_none() && !states_a.iter().any(|s| Some(&s.mitre_id) == change.b.map(|b| &b.mitre_id)));
            }
            // All that only one of them has is told of, and nothing twice.
            let only = |these: &BTreeMap<u8, usize>, those: &BTreeMap<u8, usize>| -> BTreeSet<String> {
                these.keys().filter(|n| !those.contains_key(n)).map(|n| name(*n)).collect()
            };
            let mut told: Vec<String> = removed.iter().filter_map(|change| change.a).map(|s| s.mitre_id.clone()).collect();
            let of_a: BTreeSet<String> = remapped.iter().filter_map(|change| change.a).map(|s| s.mitre_id.clone()).collect();
            told.extend(of_a.into_iter().filter(|id| only(&a, &b).contains(id)));
            told.sort();
            prop_assert_eq!(told, only(&a, &b).into_iter().collect::<Vec<_>>());
            let mut told: Vec<String> = added.iter().filter_map(|change| change.b).map(|s| s.mitre_id.clone()).collect();
            let of_b: BTreeSet<String> = remapped.iter().filter_map(|change| change.b).map(|s| s.mitre_id.clone()).collect();
            told.extend(of_b.into_iter().filter(|id| only(&b, &a).contains(id)));
            told.sort();
            prop_assert_eq!(told, only(&b, &a).into_iter().collect::<Vec<_>>());
        }
    }
}
