//! Templates: ready-made test procedures.

use chrono::{DateTime, Utc};
use uuid::Uuid;

/// How bad it is when this goes unseen.
pub const SEVERITIES: [&str; 5] = ["informational", "low", "medium", "high", "critical"];
/// Source of the templates that are part of the product.
pub const AEGIS: &str = "aegis";
/// Source of the templates that administrators made.
pub const CUSTOM: &str = "custom";
/// Characters of a description or of a procedure.
pub const MAX_TEXT: usize = 20_000;

/// A ready-made test procedure; unique by source and source id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template {
    /// Ours.
    pub id: Uuid,
    /// Its name; not unique.
    pub name: String,
    /// What it does.
    pub description: Option<String>,
    /// Where it comes from: `custom`, `aegis`, `atomic_red_team` …
    pub source: String,
    /// Its id there.
    pub source_id: String,
    /// What it tests.
    pub mitre_technique_id: String,
    /// Where it runs; lower case.
    pub platform: Option<String>,
    /// One of [`SEVERITIES`].
    pub severity: String,
    /// What the red side does.
    pub attack_procedure: Option<String>,
    /// What the red side uses.
    pub tool_suggested: Option<String>,
    /// What helps against it.
    pub suggested_remediation: Option<String>,
    /// What the blue side should see.
    pub expected_detection: Option<String>,
    /// How to leave no trace.
    pub cleanup_procedure: Option<String>,
    /// Offered for new tests.
    pub is_active: bool,
    /// Grows by one with every change.
    pub version: i64,
    /// When it came into the catalogue.
    pub created_at: DateTime<Utc>,
    /// When it last changed.
    pub updated_at: DateTime<Utc>,
}
