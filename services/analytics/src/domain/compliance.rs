//! How well the controls of a framework are covered, by the techniques that they are mapped to.

use std::{cmp::Reverse, collections::BTreeMap, collections::HashMap};

use chrono::{DateTime, Utc};

use super::{
    Status,
    matrix::{Control, Framework, Knowledge, Matrix, MatrixTechnique},
    score::{Score, Sum, count, divided, users},
};

/// A control is covered from this many percent of its techniques on.
const COVERED_PERCENT: i64 = 80;
/// And partial from this many.
const PARTIAL_PERCENT: i64 = 40;

/// What is said of a control.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Covered,
    Partial,
    Gap,
    /// Nothing maps it to a technique that there is.
    NotApplicable,
}

impl Verdict {
    pub(crate) const ALL: [Verdict; 4] = [Verdict::Covered, Verdict::Partial, Verdict::Gap, Verdict::NotApplicable];

    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Verdict::Covered => "covered",
            Verdict::Partial => "partial",
            Verdict::Gap => "gap",
            Verdict::NotApplicable => "not_applicable",
        }
    }

    pub(crate) fn parse(text: &str) -> Option<Verdict> {
        Verdict::ALL.into_iter().find(|verdict| verdict.as_str() == text)
    }

    fn of(covered: i64, techniques: i64) -> Verdict {
        if techniques == 0 {
            Verdict::NotApplicable
        } else if covered * 100 >= COVERED_PERCENT * techniques {
            Verdict::Covered
        } else if covered * 100 >= PARTIAL_PERCENT * techniques {
            Verdict::Partial
        } else {
            Verdict::Gap
        }
    }
}

/// The active techniques by ATT&CK id, with their scores.
pub(crate) struct Known<'a>(HashMap<&'a str, (&'a MatrixTechnique, Score)>);

impl<'a> Known<'a> {
    pub(crate) fn new(matrix: &'a Matrix, now: DateTime<Utc>) -> Self {
        let mut known = HashMap::with_capacity(matrix.techniques.len());
        for (technique, score) in super::score::scored(matrix, None, now) {
            // Of an id that is in several domains the first, as everywhere.
            known.entry(&*technique.mitre_id).or_insert((technique, score));
        }
        Known(known)
    }
}

/// A control and what is behind its verdict.
#[derive(Clone, Debug)]
pub(crate) struct Assessed<'a> {
    pub(crate) control: &'a Control,
    pub(crate) verdict: Verdict,
    /// Active ones of its mapping, by ATT&CK id.
    pub(crate) techniques: Vec<(&'a MatrixTechnique, Score)>,
    /// Those of them that are validated or partial.
    pub(crate) covered: i64,
    /// ATT&CK ids of its mapping that no active technique has.
    pub(crate) unknown: Vec<&'a str>,
}

impl<'a> Assessed<'a> {
    pub(crate) fn of(control: &'a Control, known: &Known<'a>) -> Self {
        let mut techniques = Vec::with_capacity(control.techniques.len());
        let mut unknown = Vec::new();
        for mitre_id in &control.techniques {
            match known.0.get(&**mitre_id) {
                Some(found) => techniques.push(*found),
                None => unknown.push(&**mitre_id),
            }
        }
        techniques.sort_by(|(a, _), (b, _)| a.mitre_id.cmp(&b.mitre_id));
        let covered = count(techniques.iter().filter(|(technique, _)| is_covered(technique)).count());
        let verdict = Verdict::of(covered, count(techniques.len()));
        Assessed { control, verdict, techniques, covered, unknown }
    }

    /// One decimal; without techniques there is none.
    pub(crate) fn percentage(&self) -> Option<f64> {
        percentage(self.covered, count(self.techniques.len()))
    }

    /// Mean of the techniques' scores.
    pub(crate) fn score(&self) -> Option<f64> {
        self.techniques.iter().map(|(_, score)| score).collect::<Sum>().mean()
    }
}

fn is_covered(technique: &MatrixTechnique) -> bool {
    matches!(technique.status, Status::Validated | Status::Partial)
}

/// Percent with one decimal; of nothing there is none.
fn percentage(of: i64, all: i64) -> Option<f64> {
    (all > 0).then(|| divided(of * 1_000, all) as f64 / 10.0)
}

/// The framework with this key.
pub(crate) fn framework<'a>(knowledge: &'a Knowledge, key: &str) -> Option<&'a Framework> {
    knowledge.frameworks.iter().find(|framework| framework.key == key)
}

/// The controls of a framework, in their order.
pub(crate) fn controls<'a>(knowledge: &'a Knowledge, framework: &'a str) -> impl Iterator<Item = &'a Control> {
    knowledge.controls.iter().filter(move |control| control.framework == framework)
}

/// Which controls are asked for; all that is given must hold.
#[derive(Clone, Debug, Default)]
pub(crate) struct Filter {
    /// In id, name or family, in lower case.
    pub(crate) search: Option<String>,
    pub(crate) mitre_id: Option<String>,
    pub(crate) verdict: Option<Verdict>,
    pub(crate) family: Option<String>,
}

impl Filter {
    pub(crate) fn fits(&self, assessed: &Assessed<'_>) -> bool {
        let control = assessed.control;
        self.search.as_ref().is_none_or(|term| {
            [&control.id, &control.name, &control.family].into_iter().any(|text| text.to_lowercase().contains(term))
        }) && self.mitre_id.as_ref().is_none_or(|id| control.techniques.iter().any(|mapped| **mapped == **id))
            && self.verdict.is_none_or(|verdict| assessed.verdict == verdict)
            && self.family.as_ref().is_none_or(|family| control.family == *family)
    }
}

/// Controls by verdict.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) total: i64,
    pub(crate) covered: i64,
    pub(crate) partial: i64,
    pub(crate) gaps: i64,
    pub(crate) not_applicable: i64,
}

impl Counts {
    fn add(&mut self, verdict: Verdict) {
        self.total += 1;
        match verdict {
            Verdict::Covered => self.covered += 1,
            Verdict::Partial => self.partial += 1,
            Verdict::Gap => self.gaps += 1,
            Verdict::NotApplicable => self.not_applicable += 1,
        }
    }

    /// Covered ones among those that apply, one decimal; absent where nothing applies.
    pub(crate) fn percentage(&self) -> Option<f64> {
        percentage(self.covered, self.total - self.not_applicable)
    }
}

/// Counts over all controls, and by family in the order of names.
pub(crate) fn summary<'a>(assessed: impl IntoIterator<Item = Assessed<'a>>) -> (Counts, Vec<(&'a str, Counts)>) {
    let mut all = Counts::default();
    let mut families: BTreeMap<&str, Counts> = BTreeMap::new();
    for assessed in assessed {
        all.add(assessed.verdict);
        families.entry(&assessed.control.family).or_default().add(assessed.verdict);
    }
    (all, families.into_iter().collect())
}

/// A control that is a gap or partial.
#[derive(Clone, Debug)]
pub(crate) struct Gap<'a> {
    pub(crate) assessed: Assessed<'a>,
    /// Techniques that are neither validated nor partial, the most used first.
    pub(crate) missing: Vec<(&'a MatrixTechnique, Score)>,
    /// Ten-thousandths: each missing technique counts 1 and the share of all threat actors that use it.
    priority: i64,
}

impl Gap<'_> {
    /// Four decimals.
    pub(crate) fn priority(&self) -> f64 {
        self.priority as f64 / 10_000.0
    }
}

/// The gaps among controls, those first where most is missing and most used; equals stay in their order.
pub(crate) fn gaps<'a>(assessed: impl IntoIterator<Item = Assessed<'a>>, knowledge: &Knowledge) -> Vec<Gap<'a>> {
    let actors = count(knowledge.actors.len());
    let mut gaps: Vec<Gap<'a>> = assessed
        .into_iter()
        .filter(|assessed| matches!(assessed.verdict, Verdict::Gap | Verdict::Partial))
        .map(|assessed| {
            let mut missing: Vec<_> =
                assessed.techniques.iter().filter(|(technique, _)| !is_covered(technique)).copied().collect();
            missing.sort_by_key(|(technique, _)| (Reverse(users(knowledge, technique)), technique.mitre_id.clone()));
            let used: i64 = missing.iter().map(|(technique, _)| users(knowledge, technique)).sum();
            let priority = 10_000 * count(missing.len()) + divided(10_000 * used, actors);
            Gap { assessed, missing, priority }
        })
        .collect();
    gaps.sort_by_key(|gap| Reverse(gap.priority));
    gaps
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use proptest::prelude::*;

    use super::*;
    use crate::domain::score::fixture::{actor, control, framework as nist, matrix, technique};

    fn world(controls: Vec<Control>) -> Matrix {
        let statuses = [
            ("T0001", Status::Validated),
            ("T0002", Status::Partial),
            ("T0003", Status::NotCovered),
            ("T0004", Status::InProgress),
            ("T0005", Status::NotEvaluated),
        ];
        let mut matrix = matrix(statuses.map(|(id, status)| technique(id, status)).into());
        let knowledge = Arc::make_mut(&mut matrix.knowledge);
        knowledge.frameworks = vec![nist()];
        knowledge.controls = controls;
        knowledge.actors = vec![actor("G1", &["T0005"]), actor("G2", &["T0005", "T0004"])];
        knowledge.users = [("T0004".into(), 1), ("T0005".into(), 2)].into();
        matrix
    }

    fn assess(matrix: &Matrix) -> Vec<Assessed<'_>> {
        let known = Known::new(matrix, "2031-05-01T00:00:00Z".parse().unwrap());
        controls(&matrix.knowledge, "nist_800_53").map(|control| Assessed::of(control, &known)).collect()
    }

    #[test]
    fn the_bounds_are_those_that_are_told() {
        let of = |covered, all| Verdict::of(covered, all);
        assert_eq!(
            (of(4, 5), of(79, 100), of(2, 5), of(39, 100)),
            (Verdict::Covered, Verdict::Partial, Verdict::Partial, Verdict::Gap)
        );
        assert_eq!((of(0, 0), of(0, 1), of(1, 1)), (Verdict::NotApplicable, Verdict::Gap, Verdict::Covered));
        for verdict in Verdict::ALL {
            assert_eq!(Verdict::parse(verdict.as_str()), Some(verdict));
        }
    }

    #[test]
    fn controls_have_the_techniques_behind_their_verdicts() {
        let matrix = world(vec![
            control("AC-1", "AC", &[]),
            control("AC-2", "AC", &["T0002", "T0001", "T0999"]),
            control("AC-2(1)", "AC", &["T0001", "T0003"]),
            control("AU-1", "AU", &["T0003", "T0004", "T0005"]),
            control("AU-2", "AU", &["T0999"]),
            control("SI-1", "SI", &["T0003", "T0005", "T0001"]),
        ]);
        let assessed = assess(&matrix);
        let verdicts: Vec<&str> = assessed.iter().map(|assessed| assessed.verdict.as_str()).collect();
        assert_eq!(verdicts, ["not_applicable", "covered", "partial", "gap", "not_applicable", "gap"]);
        assert_eq!((assessed[0].percentage(), assessed[0].score()), (None, None));
        assert_eq!(
            (assessed[1].percentage(), assessed[1].covered, &assessed[1].unknown[..]),
            (Some(100.0), 2, &["T0999"][..])
        );
        assert_eq!(assessed[5].percentage(), Some(33.3));

        let (all, families) = summary(assessed.clone());
        assert_eq!(all, Counts { total: 6, covered: 1, partial: 1, gaps: 2, not_applicable: 2 });
        assert_eq!(all.percentage(), Some(25.0));
        assert_eq!(
            families.iter().map(|(family, counts)| (*family, counts.total)).collect::<Vec<_>>(),
            [("AC", 3), ("AU", 2), ("SI", 1)]
        );
        assert_eq!(summary([assessed[0].clone()]).0.percentage(), None);

        let gaps = gaps(assessed.clone(), &matrix.knowledge);
        let ranked: Vec<_> = gaps.iter().map(|gap| (gap.assessed.control.id.as_str(), gap.priority())).collect();
        // 3 missing, used by 0, 1 and 2 of 2 actors; 2 missing, used by 0 and 2; 1 missing that nobody uses.
        assert_eq!(ranked, [("AU-1", 4.5), ("SI-1", 3.0), ("AC-2(1)", 1.0)]);
        let missing: Vec<_> = gaps[0].missing.iter().map(|(technique, _)| &*technique.mitre_id).collect();
        assert_eq!(missing, ["T0005", "T0004", "T0003"]);

        let fits = |filter: Filter| {
            assessed.iter().filter(|a| filter.fits(a)).map(|a| a.control.id.as_str()).collect::<Vec<_>>()
        };
        assert_eq!(fits(Filter { search: Some("ac-2".into()), ..Filter::default() }), ["AC-2", "AC-2(1)"]);
        assert_eq!(fits(Filter { mitre_id: Some("T0999".into()), ..Filter::default() }), ["AC-2", "AU-2"]);
        assert_eq!(
            fits(Filter { verdict: Some(Verdict::Gap), family: Some("SI".into()), ..Filter::default() }),
            ["SI-1"]
        );
    }

    proptest! {
        #[test]
        fn more_coverage_is_never_a_worse_verdict(covered in 0_i64..300, rest in 0_i64..300) {
            let rank = |verdict| Verdict::ALL.iter().position(|v| *v == verdict);
            let all = covered + rest + 1;
            prop_assert!(rank(Verdict::of(covered, all)) >= rank(Verdict::of(covered + 1, all)));
        }
    }
}
