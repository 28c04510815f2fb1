//! What is drawn.

use chrono::{DateTime, Utc};

/// Names that are spelled once, for reading and for writing.
macro_rules! names {
    ($($(#[$doc:meta])* $name:ident { $($(#[$variant_doc:meta])* $variant:ident = $text:literal, $label:literal;)* })*) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum $name {
            $($(#[$variant_doc])* $variant,)*
        }

        impl $name {
            /// All of them, in the order of legends.
            pub const ALL: &[$name] = &[$($name::$variant,)*];

            /// The one of this name.
            pub fn parse(name: &str) -> Option<$name> {
                match name {
                    $($text => Some($name::$variant),)*
                    _ => None,
                }
            }

            /// Its name on every interface.
            pub fn name(self) -> &'static str {
                match self {
                    $($name::$variant => $text,)*
                }
            }

            /// For people.
            pub fn label(self) -> &'static str {
                match self {
                    $($name::$variant => $label,)*
                }
            }
        }
    )*};
}

names! {
    /// Where a technique stands.
    Status {
        /// Its tests were detected.
        Validated = "validated", "Validated";
        /// They were detected in part.
        Partial = "partial", "Partial";
        /// Tests are under way, and none has a verdict.
        InProgress = "in_progress", "In progress";
        /// They were not detected.
        NotCovered = "not_covered", "Not covered";
        /// There is no test.
        NotEvaluated = "not_evaluated", "Not evaluated";
    }
    /// What became of a technique since a snapshot.
    Change {
        /// Better by status, or by score.
        Improved = "improved", "Improved";
        /// Worse.
        Worsened = "worsened", "Worsened";
        /// As it was.
        Unchanged = "unchanged", "Unchanged";
        /// It was not there.
        Added = "added", "New";
        /// It took the place of another.
        Remapped = "remapped", "Remapped";
    }
}

/// Techniques by status.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// All of them.
    pub total: i64,
    /// See [`Status::Validated`].
    pub validated: i64,
    /// See [`Status::Partial`].
    pub partial: i64,
    /// See [`Status::InProgress`].
    pub in_progress: i64,
    /// See [`Status::NotCovered`].
    pub not_covered: i64,
    /// See [`Status::NotEvaluated`].
    pub not_evaluated: i64,
}

impl Counts {
    /// Those of one status.
    pub fn of(&self, status: Status) -> i64 {
        match status {
            Status::Validated => self.validated,
            Status::Partial => self.partial,
            Status::InProgress => self.in_progress,
            Status::NotCovered => self.not_covered,
            Status::NotEvaluated => self.not_evaluated,
        }
    }
}

/// A column of the matrix.
#[derive(Clone, Debug, Default)]
pub struct Tactic {
    /// Such as `initial-access`.
    pub short_name: String,
    /// Such as `Initial Access`.
    pub name: String,
    /// Of its techniques.
    pub counts: Counts,
    /// Validated and partial ones, of a hundred.
    pub coverage_percentage: f64,
    /// Mean of its techniques' scores.
    pub score: Option<f64>,
}

/// A technique.
#[derive(Clone, Debug)]
pub struct Technique {
    /// ATT&CK id.
    pub id: String,
    /// Its name.
    pub name: String,
    /// Short names.
    pub tactics: Vec<String>,
    /// ATT&CK id of the parent of a sub-technique.
    pub parent: Option<String>,
    /// Where it stands.
    pub status: Status,
    /// 0 to 100.
    pub score: f64,
    /// Detection rules that name it.
    pub detection_rules: i64,
    /// Threat actors that use it.
    pub threat_actors: i64,
    /// Tests that are validated.
    pub validated_tests: i64,
    /// All tests.
    pub tests: i64,
    /// Events of decoys that showed it.
    pub observed: i64,
    /// What became of it, where there is something to compare with.
    pub change: Option<Change>,
    /// What it was then.
    pub previous_status: Option<Status>,
    /// What it was then.
    pub previous_score: Option<f64>,
}

/// A matrix, or a part of one.
#[derive(Clone, Debug)]
pub struct Matrix {
    /// Of a picture that stands alone.
    pub title: String,
    /// What it is of: the domain, and the filters in words.
    pub scope: String,
    /// In their order.
    pub tactics: Vec<Tactic>,
    /// By ATT&CK id.
    pub techniques: Vec<Technique>,
    /// Of all techniques.
    pub counts: Counts,
    /// Validated and partial ones, of a hundred.
    pub coverage_percentage: f64,
    /// Mean of their scores.
    pub score: Option<f64>,
    /// Release of ATT&CK, or empty.
    pub attack_version: String,
    /// The snapshot that it is compared with.
    pub compared_with: Option<String>,
    /// When that was so.
    pub as_of: Option<DateTime<Utc>>,
}

/// One of the parts of a score.
#[derive(Clone, Debug)]
pub struct Part {
    /// Such as `detection_rules`.
    pub name: String,
    /// The most points that it can give.
    pub weight: f64,
    /// The points that it gives.
    pub points: f64,
    /// What would raise it, or empty.
    pub advice: String,
}

/// A point of the score's history.
#[derive(Clone, Debug)]
pub struct Point {
    /// When.
    pub at: DateTime<Utc>,
    /// Absent where there was no technique.
    pub score: Option<f64>,
    /// Then.
    pub coverage_percentage: f64,
    /// Of a snapshot that somebody took; else of the week.
    pub snapshot: bool,
}

/// How a threat actor would fare.
#[derive(Clone, Debug)]
pub struct Actor {
    /// Its name.
    pub name: String,
    /// Such as G0016.
    pub key: String,
    /// Mean over the techniques that it uses.
    pub score: Option<f64>,
    /// ATT&CK ids of the techniques that it uses, the covered and the partial ones first.
    pub techniques: Vec<String>,
    /// How many of them are validated, partial, neither.
    pub covered: usize,
    /// See `covered`.
    pub partial: usize,
    /// See `covered`.
    pub uncovered: usize,
}

/// How many threat actors use a technique, in words.
#[derive(Clone, Copy, Debug)]
pub struct Actors(pub i64);

impl std::fmt::Display for Actors {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0 {
            0 => f.write_str("no known actor"),
            1 => f.write_str("1 threat actor"),
            n => write!(f, "{n} threat actors"),
        }
    }
}

/// What a board is shown.
#[derive(Clone, Debug)]
pub struct Report {
    /// The matrix that it is about.
    pub matrix: Matrix,
    /// Some filter leaves out techniques.
    pub filtered: bool,
    /// Parts of the score; none where they are not known.
    pub parts: Vec<Part>,
    /// Oldest first.
    pub history: Vec<Point>,
    /// What the history is of, in words.
    pub history_of: String,
    /// The threat actor that was asked for.
    pub actor: Option<Actor>,
}

/// A technique that is missing, and how much it matters.
#[derive(Clone, Copy, Debug)]
pub struct Gap<'a> {
    /// The technique.
    pub technique: &'a Technique,
    /// Threat actors that use it, times the share of its score that is missing.
    pub weight: f64,
}

impl Matrix {
    /// What is missing most: neither validated nor without weight; what decoys saw, and what many actors use, first.
    pub fn gaps(&self, most: usize) -> Vec<Gap<'_>> {
        let open = self.techniques.iter().filter(|technique| technique.status != Status::Validated);
        let mut gaps: Vec<Gap<'_>> = open
            .map(|technique| {
                let missing = 1.0 - technique.score.clamp(0.0, 100.0) / 100.0;
                // A technique that was seen here counts as one that every known actor of a dozen uses.
                let seen = if technique.observed > 0 { 12.0 } else { 0.0 };
                Gap { technique, weight: (technique.threat_actors as f64 + seen) * missing }
            })
            .collect();
        gaps.sort_by(|a, b| b.weight.total_cmp(&a.weight).then_with(|| a.technique.id.cmp(&b.technique.id)));
        gaps.truncate(most);
        gaps
    }

    /// How many techniques became what.
    pub fn changes(&self, change: Change) -> impl Iterator<Item = &Technique> {
        self.techniques.iter().filter(move |technique| technique.change == Some(change))
    }
}
