//! Coverage: how many techniques have which status, and what the projection keeps of a technique.

pub(crate) mod actor;
pub(crate) mod compare;
pub(crate) mod compliance;
pub(crate) mod coverage;
pub(crate) mod csv;
pub(crate) mod heads;
pub(crate) mod known;
pub(crate) mod kpi;
pub(crate) mod matrix;
pub(crate) mod observed;
pub(crate) mod pipeline;
pub(crate) mod plan;
pub(crate) mod results;
pub(crate) mod score;
pub(crate) mod test;
pub(crate) mod view;

use std::collections::{BTreeMap, btree_map::Entry};

use uuid::Uuid;

/// How well a technique is covered, as the catalogue says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Status {
    NotEvaluated,
    InProgress,
    Validated,
    Partial,
    NotCovered,
}

impl Status {
    pub(crate) const ALL: [Status; 5] =
        [Status::NotEvaluated, Status::InProgress, Status::Validated, Status::Partial, Status::NotCovered];

    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Status::NotEvaluated => "not_evaluated",
            Status::InProgress => "in_progress",
            Status::Validated => "validated",
            Status::Partial => "partial",
            Status::NotCovered => "not_covered",
        }
    }

    pub(crate) fn parse(text: &str) -> Option<Status> {
        Status::ALL.into_iter().find(|status| status.as_str() == text)
    }
}

/// What the projection keeps of a technique.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Technique {
    pub(crate) id: Uuid,
    pub(crate) mitre_id: String,
    pub(crate) name: String,
    pub(crate) status: Status,
    /// Neither revoked nor deprecated nor deleted.
    pub(crate) active: bool,
    pub(crate) deleted: bool,
    /// In lower case.
    pub(crate) platforms: Vec<String>,
    /// Short names, each once, in the order of the matrix.
    pub(crate) tactics: Vec<String>,
    /// enterprise | mobile | ics
    pub(crate) domain: String,
    pub(crate) parent_mitre_id: Option<String>,
    /// Of a revoked one: ATT&CK id of its direct successor.
    pub(crate) revoked_by: Option<String>,
    pub(crate) version: i64,
}

/// Techniques by status.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) total: i64,
    pub(crate) validated: i64,
    pub(crate) partial: i64,
    pub(crate) not_covered: i64,
    pub(crate) in_progress: i64,
    pub(crate) not_evaluated: i64,
}

impl Counts {
    /// Of these.
    pub(crate) fn of(statuses: impl IntoIterator<Item = Status>) -> Counts {
        let mut counts = Counts::default();
        statuses.into_iter().for_each(|status| counts.add(status));
        counts
    }

    /// One more.
    pub(crate) fn add(&mut self, status: Status) {
        self.total += 1;
        *match status {
            Status::NotEvaluated => &mut self.not_evaluated,
            Status::InProgress => &mut self.in_progress,
            Status::Validated => &mut self.validated,
            Status::Partial => &mut self.partial,
            Status::NotCovered => &mut self.not_covered,
        } += 1;
    }

    /// See [`coverage_percentage`].
    pub(crate) fn percentage(&self) -> f64 {
        coverage_percentage(self.validated, self.partial, self.total)
    }
}

/// One of each technique: the newest, by id.
pub(crate) fn newest(techniques: impl IntoIterator<Item = Technique>) -> Vec<Technique> {
    let mut by_id = BTreeMap::new();
    for technique in techniques {
        match by_id.entry(technique.id) {
            Entry::Vacant(place) => {
                place.insert(technique);
            }
            Entry::Occupied(mut held) if held.get().version <= technique.version => {
                held.insert(technique);
            }
            Entry::Occupied(_) => {}
        }
    }
    by_id.into_values().collect()
}

/// (validated + partial) / total × 100 with one decimal; 0 for an empty catalogue.
pub(crate) fn coverage_percentage(validated: i64, partial: i64, total: i64) -> f64 {
    if total <= 0 {
        return 0.0;
    }
    // Counts are far below 2^53, so this is exact up to the division.
    let covered = (validated + partial) as f64;
    (covered * 1000.0 / total as f64).round() / 10.0
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn technique(id: u128, version: i64) -> Technique {
        Technique {
            id: Uuid::from_u128(id),
            mitre_id: "T1000".into(),
            name: format!("version {version}"),
            status: Status::NotEvaluated,
            active: true,
            deleted: false,
            platforms: Vec::new(),
            tactics: Vec::new(),
            domain: "enterprise".into(),
            parent_mitre_id: None,
            revoked_by: None,
            version,
        }
    }

    #[test]
    fn coverage_has_one_decimal() {
        assert_eq!(coverage_percentage(0, 0, 0), 0.0);
        assert_eq!(coverage_percentage(50, 20, 200), 35.0);
        assert_eq!(coverage_percentage(1, 0, 3), 33.3);
        assert_eq!(coverage_percentage(1, 1, 3), 66.7);
        assert_eq!(coverage_percentage(1, 0, 691), 0.1);
        assert_eq!(coverage_percentage(1, 0, 2001), 0.0);
        assert_eq!(coverage_percentage(1, 0, 16), 6.3);
        assert_eq!(coverage_percentage(691, 0, 691), 100.0);
    }

    proptest! {
        #[test]
        fn coverage_is_a_percentage(validated in 0i64..1000, partial in 0i64..1000, rest in 0i64..10_000) {
            let percentage = coverage_percentage(validated, partial, validated + partial + rest);
            prop_assert!((0.0..=100.0).contains(&percentage));
            prop_assert_eq!(format!("{percentage:.1}").parse::<f64>().unwrap(), percentage);
        }
    }

    #[test]
    fn the_newest_of_each_technique_is_kept() {
        let kept = newest([technique(1, 2), technique(2, 1), technique(1, 3), technique(1, 1)]);
        assert_eq!(kept, [technique(1, 3), technique(2, 1)]);
    }

    #[test]
    fn a_status_is_read_as_it_is_written() {
        for status in Status::ALL {
            assert_eq!(Status::parse(status.as_str()), Some(status));
        }
        assert_eq!(Status::parse("Validated"), None);
    }
}
