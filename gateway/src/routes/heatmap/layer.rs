//! A layer of ATT&CK Navigator, format 4.5.

use aegis_proto::analytics::v1::GetMatrixResponse;
use aegis_render::{Change, Metric, Technique};
use chrono::SecondsFormat;
use serde::Serialize;
use utoipa::ToSchema;

use super::model;
use crate::values::time;

/// The format.
const FORMAT: &str = "4.5";
/// The Navigator that writes this format.
const NAVIGATOR: &str = "5.1.0";
/// Platforms as ATT&CK spells them.
const PLATFORMS: &[&str] = &[
    "Windows",
    "macOS",
    "Linux",
    "PRE",
    "Containers",
    "ESXi",
    "IaaS",
    "SaaS",
    "Office Suite",
    "Identity Provider",
    "Network Devices",
    "Android",
    "iOS",
];

/// A layer that ATT&CK Navigator opens.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(title = "NavigatorLayer", example = json!({
    "name": "Aegis: status – Enterprise matrix", "versions": {"attack": "18", "navigator": "5.1.0", "layer": "4.5"},
    "domain": "enterprise-attack", "description": "691 techniques, 42.1 % covered, score 36.0 of 100.", "sorting": 0,
    "layout": {
        "layout": "side", "aggregateFunction": "average", "showID": true, "showName": true, "showAggregateScores": false,
        "countUnscored": false, "expandedSubtechniques": "none"
    },
    "hideDisabled": false,
    "techniques": [{
        "techniqueID": "T1059.001", "tactic": "execution", "score": 50, "color": "#dcedf8", "enabled": true,
        "metadata": [{"name": "Status", "value": "Partial"}], "links": [], "showSubtechniques": false
    }],
    "gradient": {"colors": ["#f7c39c", "#9fcdea"], "minValue": 0, "maxValue": 100},
    "legendItems": [{"label": "Validated", "color": "#9fcdea"}],
    "metadata": [{"name": "As of", "value": "2024-01-01T00:00:00Z"}], "links": [], "showTacticRowBackground": true,
    "tacticRowBackground": "#dde3e8", "selectTechniquesAcrossTactics": true, "selectSubtechniquesWithParent": false,
    "selectVisibleTechniques": false
}))]
pub struct Layer {
    name: String,
    versions: Versions,
    /// enterprise-attack | mobile-attack | ics-attack
    domain: String,
    description: String,
    /// The platform that was asked for, as ATT&CK spells it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(required = false)]
    filters: Option<Filters>,
    sorting: u8,
    layout: Layout,
    hide_disabled: bool,
    /// One for each technique and tactic.
    techniques: Vec<Row>,
    gradient: Gradient,
    legend_items: Vec<LegendItem>,
    metadata: Vec<Metadata>,
    links: Vec<Metadata>,
    show_tactic_row_background: bool,
    tactic_row_background: &'static str,
    select_techniques_across_tactics: bool,
    select_subtechniques_with_parent: bool,
    select_visible_techniques: bool,
}

/// For what a layer was made.
#[derive(Serialize, ToSchema)]
#[schema(title = "NavigatorVersions")]
pub struct Versions {
    /// Release of ATT&CK.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(required = false)]
    attack: Option<String>,
    navigator: &'static str,
    layer: &'static str,
}

/// Which techniques the Navigator shows.
#[derive(Serialize, ToSchema)]
#[schema(title = "NavigatorFilters")]
pub struct Filters {
    platforms: [&'static str; 1],
}

/// How the Navigator shows them.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(title = "NavigatorLayout")]
pub struct Layout {
    layout: &'static str,
    aggregate_function: &'static str,
    #[serde(rename = "showID")]
    show_id: bool,
    show_name: bool,
    show_aggregate_scores: bool,
    count_unscored: bool,
    expanded_subtechniques: &'static str,
}

/// A technique in one of its tactics.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(title = "NavigatorTechnique")]
pub struct Row {
    #[serde(rename = "techniqueID")]
    technique_id: String,
    tactic: String,
    /// Absent where there is nothing to tell.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(required = false)]
    score: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(required = false)]
    color: Option<&'static str>,
    /// With `compare`: what became of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(required = false)]
    comment: Option<String>,
    enabled: bool,
    metadata: Vec<Metadata>,
    links: Vec<Metadata>,
    show_subtechniques: bool,
}

/// A name and its value.
#[derive(Clone, Serialize, ToSchema)]
#[schema(title = "NavigatorMetadata")]
pub struct Metadata {
    name: &'static str,
    value: String,
}

/// Colours of scores.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(title = "NavigatorGradient")]
pub struct Gradient {
    /// For the lowest first.
    colors: Vec<&'static str>,
    min_value: i64,
    max_value: i64,
}

/// What a colour means.
#[derive(Serialize, ToSchema)]
#[schema(title = "NavigatorLegendItem")]
pub struct LegendItem {
    label: &'static str,
    color: &'static str,
}

impl Layer {
    /// The scores are of `metric`, the colours of `coloured`.
    pub fn new(matrix: GetMatrixResponse, metric: Metric, coloured: Metric, platform: Option<&str>) -> Layer {
        let scope = model::scope(&matrix, [None, platform]);
        let part = !matrix.threat_actor_name.is_empty() || platform.is_some();
        let as_of = time(matrix.as_of);
        let mut metadata: Vec<Metadata> = Vec::new();
        if let Some(as_of) = as_of {
            metadata.push(entry("As of", as_of.to_rfc3339_opts(SecondsFormat::Secs, true)));
        }
        if let Some(score) = matrix.score {
            metadata.push(entry("Score", format!("{score:.1}")));
        }
        if !matrix.compare_name.is_empty() {
            metadata.push(entry("Compared with", matrix.compare_name.clone()));
        }
        let platform = platform.and_then(|asked| PLATFORMS.iter().find(|known| known.eq_ignore_ascii_case(asked)));
        Layer {
            name: format!("Aegis: {} – {scope}", coloured.label().to_lowercase()),
            versions: Versions { attack: release(&matrix.attack_version), navigator: NAVIGATOR, layer: FORMAT },
            domain: format!("{}-attack", matrix.domain),
            description: description(&matrix),
            filters: platform.map(|platform| Filters { platforms: [platform] }),
            sorting: 0,
            layout: Layout {
                layout: "side",
                aggregate_function: "average",
                show_id: true,
                show_name: true,
                show_aggregate_scores: false,
                count_unscored: false,
                // Of a few techniques, those that matter are to be seen without a click.
                expanded_subtechniques: if part { "annotated" } else { "none" },
            },
            hide_disabled: false,
            techniques: matrix
                .techniques
                .into_iter()
                .flat_map(|t| rows(model::technique(t), metric, coloured))
                .collect(),
            gradient: Gradient { colors: metric.gradient(), min_value: 0, max_value: metric.highest() },
            legend_items: coloured.classes().iter().map(|c| LegendItem { label: c.label, color: c.fill }).collect(),
            metadata,
            links: Vec::new(),
            show_tactic_row_background: true,
            tactic_row_background: "#dde3e8",
            select_techniques_across_tactics: true,
            select_subtechniques_with_parent: false,
            select_visible_techniques: false,
        }
    }
}

fn rows(technique: Technique, metric: Metric, coloured: Metric) -> impl Iterator<Item = Row> {
    let score = metric.score(&technique);
    let color = coloured.class(&technique).fill;
    let comment = technique.change.map(|change| told(&technique, change));
    let mut metadata = vec![
        entry("Status", technique.status.label().to_owned()),
        entry("Score", format!("{:.1}", technique.score)),
        entry("Tests", format!("{} of {} validated", technique.validated_tests, technique.tests)),
        entry("Detection rules", technique.detection_rules.to_string()),
        entry("Threat actors", technique.threat_actors.to_string()),
    ];
    if technique.observed > 0 {
        metadata.push(entry("Seen by decoys", technique.observed.to_string()));
    }
    if let Some(change) = technique.change {
        metadata.push(entry("Change", change.name().to_owned()));
    }
    let id = technique.id;
    technique.tactics.into_iter().map(move |tactic| Row {
        technique_id: id.clone(),
        tactic,
        score,
        // White is what the Navigator draws by itself.
        color: (color != "#ffffff").then_some(color),
        comment: comment.clone(),
        enabled: true,
        metadata: metadata.clone(),
        links: Vec::new(),
        show_subtechniques: false,
    })
}

/// What became of a technique, in words.
fn told(technique: &Technique, change: Change) -> String {
    let now = technique.status.label().to_lowercase();
    match (technique.previous_status, technique.previous_score) {
        (Some(before), _) if before != technique.status => {
            format!("{}: {} → {now}", change.name(), before.label().to_lowercase())
        }
        (_, Some(before)) if change != Change::Unchanged => {
            format!("{}: {now}, score {before:.1} → {:.1}", change.name(), technique.score)
        }
        _ => format!("{}: {now}", change.name()),
    }
}

fn entry(name: &'static str, value: String) -> Metadata {
    Metadata { name, value }
}

/// The Navigator knows ATT&CK by its major release.
fn release(version: &str) -> Option<String> {
    let major = version.split('.').next().unwrap_or_default();
    (!major.is_empty() && major.bytes().all(|byte| byte.is_ascii_digit())).then(|| major.to_owned())
}

fn description(matrix: &GetMatrixResponse) -> String {
    let total = matrix.coverage.map_or(0, |coverage| coverage.total);
    let score = matrix.score.map(|score| format!(", score {score:.1} of 100")).unwrap_or_default();
    format!("{total} techniques, {:.1} % covered (validated or partial){score}.", matrix.coverage_percentage)
}
