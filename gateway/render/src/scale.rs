//! What a colour stands for. The colours of one scale differ in lightness, and none is told by red and green alone.

use std::borrow::Cow;

use crate::model::{Change, Status, Technique};

/// What the cells show.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Metric {
    /// The verdict of the tests.
    #[default]
    Status,
    /// 0 to 100.
    Score,
    /// How many rules name it.
    DetectionRules,
    /// How often decoys saw it.
    Observed,
    /// What became of it since a snapshot.
    Change,
}

/// One entry of a legend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Class {
    /// For people.
    pub label: &'static str,
    /// Beside the colour; empty where a figure stands there.
    pub mark: &'static str,
    /// Of a cell.
    pub fill: &'static str,
    /// Of the mark's ground, and of charts.
    pub strong: &'static str,
    /// Of the text on `fill`.
    pub ink: &'static str,
    /// Hatched.
    pub hatched: bool,
}

const INK: &str = "#17202a";
const WHITE: &str = "#ffffff";

const fn class(label: &'static str, mark: &'static str, fill: &'static str, strong: &'static str) -> Class {
    Class { label, mark, fill, strong, ink: INK, hatched: false }
}

const VALIDATED: Class = class("Validated", "V", "#9fcdea", "#0b5a8a");
const PARTIAL: Class = class("Partial", "P", "#dcedf8", "#3a88bd");
const IN_PROGRESS: Class = class("In progress", "I", "#fbeeb4", "#a98307");
const NOT_COVERED: Class = Class { hatched: true, ..class("Not covered", "N", "#f7c39c", "#b5460f") };
const NOT_EVALUATED: Class = class("Not evaluated", "–", "#ffffff", "#7f8993");

const SCORE: &[Class] = &[
    class("80 to 100", "", "#5fa8d3", "#0b4f7a"),
    class("60 to 80", "", "#94c6e3", "#2273a5"),
    class("40 to 60", "", "#c1deef", "#3a88bd"),
    class("20 to 40", "", "#fbeeb4", "#a98307"),
    Class { hatched: true, ..class("0 to 20", "", "#f7c39c", "#b5460f") },
    NOT_EVALUATED,
];
const RULES: &[Class] = &[
    class("5 and more", "", "#5fa8d3", "#0b4f7a"),
    class("3 or 4", "", "#94c6e3", "#2273a5"),
    class("2", "", "#c1deef", "#3a88bd"),
    class("1", "", "#e4f1f9", "#6f9fbf"),
    class("None", "", "#ffffff", "#7f8993"),
];
const OBSERVED: &[Class] = &[
    class("100 and more", "", "#d9742f", "#8a3208"),
    class("10 to 99", "", "#f0a36b", "#b5460f"),
    class("1 to 9", "", "#fbdcc3", "#c9752f"),
    class("Never", "", "#ffffff", "#7f8993"),
];
const CHANGE: &[Class] = &[
    class("Improved", "+", "#9fcdea", "#0b5a8a"),
    Class { hatched: true, ..class("Worsened", "−", "#f7c39c", "#b5460f") },
    class("Unchanged", "=", "#ffffff", "#7f8993"),
    class("New", "N", "#fbeeb4", "#a98307"),
    class("Remapped", "R", "#e3d9f2", "#6c4aa0"),
];
const STATUS: &[Class] = &[VALIDATED, PARTIAL, IN_PROGRESS, NOT_COVERED, NOT_EVALUATED];

impl Metric {
    /// For people.
    pub fn label(self) -> &'static str {
        match self {
            Metric::Status => "Status",
            Metric::Score => "Score",
            Metric::DetectionRules => "Detection rules",
            Metric::Observed => "Seen by decoys",
            Metric::Change => "Change",
        }
    }

    /// Its legend, the best or the most first.
    pub fn classes(self) -> &'static [Class] {
        match self {
            Metric::Status => STATUS,
            Metric::Score => SCORE,
            Metric::DetectionRules => RULES,
            Metric::Observed => OBSERVED,
            Metric::Change => CHANGE,
        }
    }

    /// The class of a technique, by its place in [`Metric::classes`].
    pub fn index(self, technique: &Technique) -> usize {
        match self {
            Metric::Status => status_index(technique.status),
            Metric::Score if technique.status == Status::NotEvaluated => 5,
            Metric::Score => match technique.score {
                score if score >= 80.0 => 0,
                score if score >= 60.0 => 1,
                score if score >= 40.0 => 2,
                score if score >= 20.0 => 3,
                _ => 4,
            },
            Metric::DetectionRules => match technique.detection_rules {
                5.. => 0,
                3 | 4 => 1,
                2 => 2,
                1 => 3,
                _ => 4,
            },
            Metric::Observed => match technique.observed {
                100.. => 0,
                10..=99 => 1,
                1..=9 => 2,
                _ => 3,
            },
            Metric::Change => match technique.change {
                Some(Change::Improved) => 0,
                Some(Change::Worsened) => 1,
                Some(Change::Unchanged) | None => 2,
                Some(Change::Added) => 3,
                Some(Change::Remapped) => 4,
            },
        }
    }

    /// The class of a technique.
    pub fn class(self, technique: &Technique) -> &'static Class {
        self.classes().get(self.index(technique)).unwrap_or(&NOT_EVALUATED)
    }

    /// What a heatmap calls its score: a whole figure, or none where there is nothing to tell. A technique that was not
    /// evaluated has neither a status nor a score; how many rules name it, and how often it was seen, is known of each.
    pub fn score(self, technique: &Technique) -> Option<i64> {
        let evaluated = technique.status != Status::NotEvaluated;
        match self {
            Metric::Status | Metric::Change => match technique.status {
                Status::Validated => Some(100),
                Status::Partial => Some(50),
                Status::InProgress => Some(25),
                Status::NotCovered => Some(0),
                Status::NotEvaluated => None,
            },
            Metric::Score => evaluated.then(|| technique.score.clamp(0.0, 100.0).round() as i64),
            Metric::DetectionRules => Some(technique.detection_rules),
            Metric::Observed => Some(technique.observed),
        }
    }

    /// Where the highest colour of a heatmap is reached.
    pub fn highest(self) -> i64 {
        match self {
            Metric::DetectionRules => 5,
            Metric::Status | Metric::Score | Metric::Change | Metric::Observed => 100,
        }
    }

    /// Colours from none to the highest, of what has a score.
    pub fn gradient(self) -> Vec<&'static str> {
        let classes = self.classes().iter().rev().filter(|class| **class != NOT_EVALUATED);
        classes.map(|class| class.fill).collect()
    }

    /// What stands beside the colour of a technique: a letter, or a figure of at most three characters.
    pub(crate) fn mark(self, technique: &Technique) -> Cow<'static, str> {
        let class = self.class(technique);
        if !class.mark.is_empty() {
            return class.mark.into();
        }
        match self.score(technique) {
            Some(figure @ ..=999) => figure.to_string().into(),
            Some(figure @ ..=9_999) => format!("{}k", figure / 1000).into(),
            Some(_) => "9k+".into(),
            None => "–".into(),
        }
    }
}

/// The class of a status, for charts.
pub(crate) fn of_status(status: Status) -> &'static Class {
    STATUS.get(status_index(status)).unwrap_or(&NOT_EVALUATED)
}

fn status_index(status: Status) -> usize {
    match status {
        Status::Validated => 0,
        Status::Partial => 1,
        Status::InProgress => 2,
        Status::NotCovered => 3,
        Status::NotEvaluated => 4,
    }
}

/// Text on a strong colour.
pub(crate) const ON_STRONG: &str = WHITE;
/// Text on white.
pub(crate) const TEXT: &str = INK;
/// Second to it.
pub(crate) const MUTED: &str = "#55606c";
/// Lines.
pub(crate) const LINE: &str = "#c9d0d6";
