//! What coverage, scores, heatmaps and compliance are computed from: one value, read from the projection and shared.

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
};

use chrono::{DateTime, Utc};
use uuid::Uuid;

use super::{Status, observed::Observed, score::Weights};

/// All techniques with what their tests say, and what is known of them.
#[derive(Clone, Debug)]
pub(crate) struct Matrix {
    /// When the projection last took something in.
    pub(crate) as_of: Option<DateTime<Utc>>,
    pub(crate) weights: Weights,
    /// By ATT&CK id, then by domain; revoked and deprecated ones too.
    pub(crate) techniques: Vec<MatrixTechnique>,
    pub(crate) knowledge: Arc<Knowledge>,
    /// What attackers showed on decoys, by ATT&CK id.
    pub(crate) observed: Arc<HashMap<Arc<str>, Observed>>,
}

/// A technique.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct MatrixTechnique {
    pub(crate) id: Uuid,
    pub(crate) mitre_id: Arc<str>,
    pub(crate) name: String,
    /// enterprise | mobile | ics
    pub(crate) domain: String,
    /// Short names, in the order of the matrix.
    pub(crate) tactics: Vec<String>,
    /// Lower case.
    pub(crate) platforms: Vec<String>,
    pub(crate) parent_mitre_id: Option<String>,
    pub(crate) status: Status,
    /// Neither revoked nor deprecated.
    pub(crate) active: bool,
    /// ATT&CK id of the direct successor of a revoked one.
    pub(crate) revoked_by: Option<String>,
    pub(crate) attack_version: Option<String>,
    pub(crate) tests: Verdicts,
}

/// What the tests of a technique say. Only validated tests with a result count, of each retest chain the newest.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Verdicts {
    /// Tests of any state.
    pub(crate) all: i64,
    /// Validated tests with a result, of every chain all.
    pub(crate) validated: i64,
    /// Chains whose newest counting test was detected, partially, not.
    pub(crate) detected: i64,
    pub(crate) partially_detected: i64,
    pub(crate) not_detected: i64,
    /// The newest validation of those that count.
    pub(crate) last_validated_at: Option<DateTime<Utc>>,
    /// Platforms, in lower case, on which a test that counts ran.
    pub(crate) platforms: BTreeSet<String>,
}

/// What the catalogue knows of techniques besides; they are named by their ATT&CK ids, known here or not.
#[derive(Clone, Debug, Default)]
pub(crate) struct Knowledge {
    /// By domain, then by place.
    pub(crate) tactics: Vec<Tactic>,
    /// The release of ATT&CK that a domain is of, where it is known.
    pub(crate) releases: HashMap<String, String>,
    /// By key.
    pub(crate) actors: Vec<Actor>,
    /// By key.
    pub(crate) frameworks: Vec<Framework>,
    /// By framework, then by id, numbers by their value.
    pub(crate) controls: Vec<Control>,
    /// Detection rules of a technique.
    pub(crate) rules: HashMap<Arc<str>, i64>,
    /// Countermeasures of a technique: all, and those that are implemented.
    pub(crate) defences: HashMap<Arc<str>, (i64, i64)>,
    /// Threat actors that use a technique.
    pub(crate) users: HashMap<Arc<str>, i64>,
}

/// A tactic of one domain.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Tactic {
    pub(crate) domain: String,
    pub(crate) short_name: String,
    pub(crate) name: String,
    pub(crate) mitre_id: String,
    pub(crate) position: i32,
}

/// A threat actor and the techniques that it uses.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Actor {
    pub(crate) id: Uuid,
    pub(crate) key: String,
    pub(crate) name: String,
    pub(crate) techniques: Vec<Arc<str>>,
}

/// A set of controls and where its mapping comes from.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Framework {
    pub(crate) key: String,
    pub(crate) name: String,
    pub(crate) version: String,
    pub(crate) attack_version: String,
    pub(crate) mapping_source: String,
}

/// A control and the techniques that it is mapped to.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Control {
    pub(crate) uuid: Uuid,
    /// Key of its framework.
    pub(crate) framework: String,
    /// In its framework, such as AC-2(1).
    pub(crate) id: String,
    pub(crate) name: String,
    pub(crate) family: String,
    /// The control that it enhances, or empty.
    pub(crate) parent: String,
    pub(crate) techniques: Vec<Arc<str>>,
}

impl Matrix {
    /// Techniques that count: neither revoked nor deprecated.
    pub(crate) fn active(&self) -> impl Iterator<Item = &MatrixTechnique> {
        self.techniques.iter().filter(|technique| technique.active)
    }

    /// The active technique of an ATT&CK id; of one that is in several domains the first.
    pub(crate) fn find(&self, mitre_id: &str) -> Option<&MatrixTechnique> {
        let start = self.techniques.partition_point(|technique| &*technique.mitre_id < mitre_id);
        self.techniques[start..].iter().take_while(|technique| &*technique.mitre_id == mitre_id).find(|t| t.active)
    }
}
