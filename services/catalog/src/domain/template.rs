//! Templates: ready-made test procedures.

use chrono::{DateTime, Utc};
use uuid::Uuid;

/// How bad it is when this goes unseen.
pub const SEVERITIES: [&str; 5] = ["informational", "low", "medium", "high", "critical"];
/// Source of the templates that are part of the product.
pub const AEGIS: &str = "aegis";
/// Source of the templates that administrators made.
pub const CUSTOM: &str = "custom";
/// Characters of a description or of a procedure that a person writes.
pub const MAX_TEXT: usize = 20_000;
/// No details.
pub const NO_DETAILS: &str = "{}";

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
    /// Where it runs; lower case, the first is its `platform`.
    pub platforms: Vec<String>,
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
    /// What its own format has besides: a JSON object.
    pub details: String,
    /// Which data source brought it.
    pub origin: Option<String>,
    /// Hash of what that says.
    pub content_hash: Option<Vec<u8>>,
    /// Its source no longer has it.
    pub vanished: bool,
    /// Offered for new tests.
    pub is_active: bool,
    /// Grows by one with every change.
    pub version: i64,
    /// When it came into the catalogue.
    pub created_at: DateTime<Utc>,
    /// When it last changed.
    pub updated_at: DateTime<Utc>,
}

impl Template {
    /// The first of its platforms.
    pub fn platform(&self) -> Option<&str> {
        self.platforms.first().map(String::as_str)
    }

    /// People may make tests of it.
    pub fn is_offered(&self) -> bool {
        self.is_active && !self.vanished
    }
}

/// A template as a document brings it.
#[derive(Clone, Debug, Default)]
pub struct TemplateRecord {
    /// Unique in its source.
    pub source_id: String,
    /// Its name; not unique.
    pub name: String,
    /// What it does.
    pub description: Option<String>,
    /// What it tests.
    pub mitre_technique_id: String,
    /// Lower case.
    pub platforms: Vec<String>,
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
    /// What its own format has besides: a JSON object.
    pub details: String,
    /// Hash of all that.
    pub content_hash: Vec<u8>,
}

impl TemplateRecord {
    /// The template in the catalogue: `old` is what is there, of which everything that people set stays.
    pub fn into_template(
        self,
        source: &str,
        origin: &str,
        old: Option<(Uuid, i64, bool)>,
        now: DateTime<Utc>,
    ) -> Template {
        let (id, version, is_active) = old.unwrap_or_else(|| (Uuid::now_v7(), 0, true));
        Template {
            id,
            name: self.name,
            description: self.description,
            source: source.to_owned(),
            source_id: self.source_id,
            mitre_technique_id: self.mitre_technique_id,
            platforms: self.platforms,
            severity: self.severity,
            attack_procedure: self.attack_procedure,
            tool_suggested: self.tool_suggested,
            suggested_remediation: self.suggested_remediation,
            expected_detection: self.expected_detection,
            cleanup_procedure: self.cleanup_procedure,
            details: self.details,
            origin: Some(origin.to_owned()),
            content_hash: Some(self.content_hash),
            vanished: false,
            is_active,
            version: version + 1,
            created_at: now,
            updated_at: now,
        }
    }
}
