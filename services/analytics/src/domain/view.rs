//! A matrix as it is drawn or written: the techniques that fit a filter, by tactic, with what changed since a snapshot.

use std::collections::{BTreeMap, HashMap};

use chrono::{DateTime, Utc};

use super::{
    Counts, Status,
    compare::{Successors, TechniqueState, compare},
    matrix::{Actor, Matrix, MatrixTechnique},
    score::{Score, Sum, domain_place, words},
};

/// Which techniques; all that is given must hold.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Filter<'a> {
    /// All matrices where it is absent.
    pub(crate) domain: Option<&'a str>,
    pub(crate) actor: Option<&'a Actor>,
    /// In lower case.
    pub(crate) platform: Option<&'a str>,
    pub(crate) tactic: Option<&'a str>,
}

/// What became of a technique since a snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Improved,
    Worsened,
    Unchanged,
    Added,
    Remapped,
}

impl Kind {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Kind::Improved => "improved",
            Kind::Worsened => "worsened",
            Kind::Unchanged => "unchanged",
            Kind::Added => "added",
            Kind::Remapped => "remapped",
        }
    }
}

/// A change, and what it was before: of an added technique nothing.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Changed {
    pub(crate) kind: Kind,
    pub(crate) previous: Option<(Status, f64)>,
}

/// A technique that fits.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Cell {
    /// Its place in the matrix that the view is of.
    pub(crate) at: usize,
    /// Short names, in the order of the matrix; where one was asked for only that.
    pub(crate) tactics: Vec<String>,
    pub(crate) score: Score,
    /// Since the snapshot, where one was given.
    pub(crate) changed: Option<Changed>,
}

/// A tactic and the techniques of it that fit.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Column {
    pub(crate) short_name: String,
    pub(crate) name: String,
    pub(crate) mitre_id: String,
    pub(crate) counts: Counts,
    pub(crate) score: Option<f64>,
}

/// See the module.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct View {
    pub(crate) columns: Vec<Column>,
    /// By ATT&CK id.
    pub(crate) cells: Vec<Cell>,
    pub(crate) counts: Counts,
    pub(crate) score: Option<f64>,
    /// What the score is made of; empty where no technique fits.
    pub(crate) parts: Vec<words::ShownPart>,
    /// The newest release of ATT&CK among them, or empty.
    pub(crate) attack_version: String,
}

/// Whether a matrix has a tactic.
pub(crate) fn has_tactic(matrix: &Matrix, domain: Option<&str>, tactic: &str) -> bool {
    let fits = |other: &str| domain.is_none_or(|domain| domain == other);
    matrix.knowledge.tactics.iter().any(|known| fits(&known.domain) && known.short_name == tactic)
        || matrix.active().any(|technique| fits(&technique.domain) && technique.tactics.iter().any(|t| t == tactic))
}

/// Whether a technique of a matrix has a platform.
pub(crate) fn has_platform(matrix: &Matrix, domain: Option<&str>, platform: &str) -> bool {
    let mut fitting = matrix.active().filter(|technique| domain.is_none_or(|domain| technique.domain == domain));
    fitting.any(|technique| technique.platforms.iter().any(|p| p == platform))
}

/// The techniques that fit at a moment, compared with what they were in a snapshot.
pub(crate) fn view(matrix: &Matrix, filter: Filter<'_>, now: DateTime<Utc>, before: Option<&[TechniqueState]>) -> View {
    let changes = before.map(|before| changes(matrix, now, before));
    let mut cells = Vec::new();
    let mut scored: Vec<(&MatrixTechnique, Score)> = Vec::new();
    for (at, technique) in matrix.techniques.iter().enumerate() {
        if !fits(technique, filter) {
            continue;
        }
        let score = Score::of(technique, &matrix.knowledge, matrix.weights, now);
        let tactics = technique.tactics.iter().filter(|tactic| filter.tactic.is_none_or(|asked| asked == *tactic));
        let key = (technique.domain.as_str(), &*technique.mitre_id);
        let changed = changes.as_ref().and_then(|changes| changes.get(&key).copied());
        cells.push(Cell { at, tactics: tactics.cloned().collect(), score, changed });
        scored.push((technique, score));
    }
    let sum: Sum = scored.iter().map(|(_, score)| score).collect();
    View {
        columns: columns(matrix, filter, &scored),
        counts: Counts::of(scored.iter().map(|(technique, _)| technique.status)),
        score: sum.mean(),
        parts: match sum.n {
            0 => Vec::new(),
            _ => words::of_many(&scored, &matrix.knowledge, matrix.weights, now),
        },
        attack_version: newest_version(scored.iter().map(|(technique, _)| *technique)).unwrap_or_default(),
        cells,
    }
}

fn fits(technique: &MatrixTechnique, filter: Filter<'_>) -> bool {
    technique.active
        && filter.domain.is_none_or(|domain| technique.domain == domain)
        && filter.tactic.is_none_or(|tactic| technique.tactics.iter().any(|t| t == tactic))
        && filter.platform.is_none_or(|platform| technique.platforms.iter().any(|p| p == platform))
        && filter.actor.is_none_or(|actor| actor.techniques.contains(&technique.mitre_id))
}

/// Every tactic of the matrix, or the one that is asked for; what no one told of comes last, by name.
fn columns(matrix: &Matrix, filter: Filter<'_>, scored: &[(&MatrixTechnique, Score)]) -> Vec<Column> {
    let mut known: Vec<_> = matrix
        .knowledge
        .tactics
        .iter()
        .filter(|tactic| filter.domain.is_none_or(|domain| tactic.domain == domain))
        .collect();
    known.sort_by_key(|tactic| (domain_place(&tactic.domain), tactic.position));
    let mut columns: Vec<(Column, Sum)> = Vec::new();
    let mut places: HashMap<&str, usize> = HashMap::new();
    let asked = |short_name: &str| filter.tactic.is_none_or(|asked| asked == short_name);
    let column = |short_name: &str, name: &str, mitre_id: &str| Column {
        short_name: short_name.to_owned(),
        name: name.to_owned(),
        mitre_id: mitre_id.to_owned(),
        counts: Counts::default(),
        score: None,
    };
    for tactic in known.into_iter().filter(|tactic| asked(&tactic.short_name)) {
        places.entry(&tactic.short_name).or_insert_with(|| {
            columns.push((column(&tactic.short_name, &tactic.name, &tactic.mitre_id), Sum::default()));
            columns.len() - 1
        });
    }
    let mut others: BTreeMap<&str, (Column, Sum)> = BTreeMap::new();
    for (technique, score) in scored {
        for tactic in technique.tactics.iter().filter(|tactic| asked(tactic)) {
            let (column, sum) = match places.get(tactic.as_str()) {
                Some(place) => &mut columns[*place],
                None => others.entry(tactic).or_insert_with(|| (column(tactic, &title(tactic), ""), Sum::default())),
            };
            column.counts.add(technique.status);
            sum.add(score);
        }
    }
    let all = columns.into_iter().chain(others.into_values());
    all.map(|(column, sum)| Column { score: sum.mean(), ..column }).collect()
}

/// `initial-access` as `Initial Access`.
fn title(short_name: &str) -> String {
    let word = |word: &str| {
        let mut letters = word.chars();
        letters.next().map(|first| first.to_uppercase().chain(letters).collect::<String>()).unwrap_or_default()
    };
    short_name.split('-').map(word).collect::<Vec<_>>().join(" ")
}

/// The active techniques as they are at a moment.
pub(crate) fn states(matrix: &Matrix, now: DateTime<Utc>) -> Vec<TechniqueState> {
    super::score::scored(matrix, None, now)
        .map(|(technique, score)| TechniqueState {
            id: technique.id,
            mitre_id: technique.mitre_id.to_string(),
            name: technique.name.clone(),
            domain: technique.domain.clone(),
            tactics: technique.tactics.clone(),
            status: technique.status,
            score: score.value(),
            attack_version: technique.attack_version.clone(),
        })
        .collect()
}

/// By domain and ATT&CK id.
type Changes<'a> = HashMap<(&'a str, &'a str), Changed>;

fn changes<'a>(matrix: &'a Matrix, now: DateTime<Utc>, before: &[TechniqueState]) -> Changes<'a> {
    let current = states(matrix, now);
    let comparison = compare(before, &current, &Successors::of(matrix));
    // The technique's own change comes last, so that it is what is told of one that took another's place besides.
    let lists = [
        (Kind::Remapped, &comparison.remapped),
        (Kind::Added, &comparison.added),
        (Kind::Improved, &comparison.improved),
        (Kind::Worsened, &comparison.worsened),
        (Kind::Unchanged, &comparison.unchanged),
    ];
    let mut told: HashMap<(&str, &str), Changed> = HashMap::with_capacity(current.len());
    for (kind, list) in lists {
        for change in list {
            if let Some(is) = change.b {
                let previous = change.a.map(|was| (was.status, was.score));
                told.insert((&is.domain, &is.mitre_id), Changed { kind, previous });
            }
        }
    }
    let own = |technique: &'a MatrixTechnique| {
        let key = (technique.domain.as_str(), &*technique.mitre_id);
        told.get(&key).map(|changed| (key, *changed))
    };
    matrix.active().filter_map(own).collect()
}

/// The newest release of ATT&CK among techniques.
pub(crate) fn newest_version<'a>(techniques: impl IntoIterator<Item = &'a MatrixTechnique>) -> Option<String> {
    let versions = techniques.into_iter().filter_map(|technique| technique.attack_version.as_deref());
    let number = |version: &str| -> Vec<u64> { version.split('.').map(|part| part.parse().unwrap_or(0)).collect() };
    versions.max_by_key(|version| number(version)).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::score::fixture::{actor, matrix, technique};

    fn now() -> DateTime<Utc> {
        "2031-05-01T00:00:00Z".parse().unwrap()
    }

    fn world() -> Matrix {
        let mut both = technique("T0001", Status::Validated);
        both.tactics.push("persistence".into());
        both.platforms = vec!["linux".into(), "windows".into()];
        both.attack_version = Some("9.0".into());
        let mut ics = technique("T0800", Status::NotCovered);
        ics.domain = "ics".into();
        ics.tactics = vec!["impair-process-control".into()];
        let mut odd = technique("T0002", Status::Partial);
        odd.tactics = vec!["odd-one".into()];
        odd.attack_version = Some("10.1".into());
        let mut gone = technique("T0003", Status::Validated);
        gone.active = false;
        gone.revoked_by = Some("T0001".into());
        matrix(vec![both, ics, odd, gone])
    }

    fn ids(matrix: &Matrix, view: &View) -> Vec<String> {
        view.cells.iter().map(|cell| matrix.techniques[cell.at].mitre_id.to_string()).collect()
    }

    #[test]
    fn filters_hold_together_and_tactics_keep_their_places() {
        let matrix = world();
        let enterprise = Filter { domain: Some("enterprise"), ..Filter::default() };
        let all = view(&matrix, enterprise, now(), None);
        assert_eq!(ids(&matrix, &all), ["T0001", "T0002"]);
        let columns: Vec<_> =
            all.columns.iter().map(|c| (c.name.as_str(), c.counts.total, c.score.is_some())).collect();
        assert_eq!(
            columns,
            [("INITIAL-ACCESS", 0, false), ("EXECUTION", 1, true), ("PERSISTENCE", 1, true), ("Odd One", 1, true)]
        );
        assert_eq!((all.counts.total, all.counts.percentage(), &*all.attack_version), (2, 100.0, "10.1"));
        assert_eq!(all.parts.len(), 5);

        let whole = view(&matrix, Filter::default(), now(), None);
        assert_eq!(whole.counts.total, 3);
        assert_eq!(whole.columns.iter().map(|column| column.counts.total).sum::<i64>(), 4);

        let one = view(&matrix, Filter { tactic: Some("persistence"), ..enterprise }, now(), None);
        assert_eq!(one.cells[0].tactics, ["persistence"]);
        assert_eq!(one.columns.iter().map(|column| column.short_name.as_str()).collect::<Vec<_>>(), ["persistence"]);

        let used = actor("G1", &["T0002", "T0800"]);
        assert_eq!(ids(&matrix, &view(&matrix, Filter { actor: Some(&used), ..enterprise }, now(), None)), ["T0002"]);
        let none = view(&matrix, Filter { actor: Some(&used), platform: Some("linux"), ..enterprise }, now(), None);
        assert_eq!((none.cells.len(), none.score, none.parts.len()), (0, None, 0));
        assert_eq!(none.columns.len(), 3);

        assert!(has_tactic(&matrix, Some("enterprise"), "odd-one") && !has_tactic(&matrix, Some("ics"), "execution"));
        assert!(has_platform(&matrix, None, "linux") && !has_platform(&matrix, Some("ics"), "linux"));
    }

    #[test]
    fn a_snapshot_shows_what_became_of_each() {
        let mut matrix = world();
        let mut before = states(&matrix, now());
        assert_eq!(before.len(), 3);
        before.retain(|state| state.mitre_id != "T0002");
        let changed = |matrix: &Matrix, before: &[TechniqueState]| {
            let view = view(matrix, Filter::default(), now(), Some(before));
            view.cells
                .iter()
                .map(|cell| cell.changed.unwrap())
                .map(|c| (c.kind, c.previous.map(|p| p.0)))
                .collect::<Vec<_>>()
        };
        matrix.techniques[3].status = Status::Validated;
        let t0800 = (Kind::Improved, Some(Status::NotCovered));
        let added = (Kind::Added, None);
        assert_eq!(changed(&matrix, &before), [(Kind::Unchanged, Some(Status::Validated)), added, t0800]);
        // It was T0003 then.
        let t0001 = before.iter_mut().find(|state| state.mitre_id == "T0001").unwrap();
        (t0001.mitre_id, t0001.status) = ("T0003".into(), Status::Partial);
        assert_eq!(changed(&matrix, &before), [(Kind::Remapped, Some(Status::Partial)), added, t0800]);
    }
}
