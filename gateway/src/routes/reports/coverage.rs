//! The coverage report: a summary, the tactics and every technique.

use aegis_proto::analytics::v1::{self as proto, GetMatrixRequest, GetMatrixResponse};
use axum::{
    extract::State,
    response::{IntoResponse, Response},
};
use chrono::{DateTime, SecondsFormat, Utc};
use http::HeaderMap;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::{
    router::{OpenApiRouter, UtoipaMethodRouterExt},
    routes,
};

use super::csv;
use crate::{
    answer::Answer,
    error::Problem,
    extract::{Caller, Query},
    middleware::compression,
    openapi::responses::NotFound,
    routes::metrics::{Summary, TacticCoverage},
    state::Gateway,
    values::{Domain, TechniqueStatus, filled, time},
};

/// All matrices.
const ALL: &str = "all";
/// The columns of the file.
const COLUMNS: [&str; 15] = [
    "mitre_id",
    "name",
    "domain",
    "tactics",
    "platforms",
    "is_subtechnique",
    "parent_mitre_id",
    "status",
    "score",
    "tests",
    "validated_tests",
    "last_validated_at",
    "detection_rules",
    "threat_actors",
    "technique_id",
];

/// Routes that need a token.
pub fn protected() -> OpenApiRouter<Gateway> {
    OpenApiRouter::new()
        .routes(routes!(get_coverage_report).layer(compression()))
        .routes(routes!(export_coverage).layer(compression()))
}

/// Which techniques the report is about; all given ones must hold.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct CoverageOf {
    /// Short name.
    #[param(example = "execution")]
    tactic: Option<String>,
    /// In whatever case.
    #[param(example = "windows")]
    platform: Option<String>,
    /// All of them if absent.
    #[param(inline)]
    domain: Option<Domain>,
    /// UUID or ATT&CK id: the techniques that it uses.
    #[param(example = "G0007")]
    threat_actor_id: Option<String>,
}

/// What the report says of all of it.
#[derive(Serialize, ToSchema)]
pub struct CoverageTotals {
    #[serde(flatten)]
    summary: Summary,
    /// The mean of the techniques' scores; null where there are none.
    score: Option<f64>,
}

/// What the report says of a tactic.
#[derive(Serialize, ToSchema)]
pub struct ReportedTactic {
    #[serde(flatten)]
    coverage: TacticCoverage,
    name: String,
    /// ATT&CK id.
    mitre_id: String,
    coverage_percentage: f64,
    /// Null where it has no technique.
    score: Option<f64>,
}

/// What the report says of a technique.
#[derive(Serialize, ToSchema)]
pub struct ReportedTechnique {
    #[schema(value_type = Uuid)]
    id: String,
    mitre_id: String,
    name: String,
    #[schema(value_type = Domain)]
    domain: String,
    tactics: Vec<String>,
    platforms: Vec<String>,
    is_subtechnique: bool,
    parent_mitre_id: Option<String>,
    #[schema(value_type = TechniqueStatus)]
    status: String,
    /// 0 to 100, one decimal.
    score: f64,
    /// In whatever state.
    tests: i64,
    validated_tests: i64,
    last_validated_at: Option<DateTime<Utc>>,
    detection_rules: i64,
    /// That use it.
    threat_actors: i64,
}

/// Coverage, technique by technique.
#[derive(Serialize, ToSchema)]
#[schema(example = json!({
    "generated_at": "2024-01-01T00:00:00Z", "attack_version": "16.1", "threat_actor": null,
    "summary": {
        "total_techniques": 1, "validated": 0, "partial": 1, "not_covered": 0, "in_progress": 0, "not_evaluated": 0,
        "coverage_percentage": 100.0, "score": 52.0
    },
    "tactics": [{
        "tactic": "execution", "name": "Execution", "mitre_id": "TA0002", "total": 1, "validated": 0, "partial": 1,
        "not_covered": 0, "not_evaluated": 0, "in_progress": 0, "coverage_percentage": 100.0, "score": 52.0
    }],
    "techniques": [{
        "id": "0190b7a2-5f00-7c3e-9d2a-3f6d1c0e8a11", "mitre_id": "T1059.001", "name": "PowerShell",
        "domain": "enterprise", "tactics": ["execution"], "platforms": ["windows"], "is_subtechnique": true,
        "parent_mitre_id": "T1059", "status": "partial", "score": 52.0, "tests": 3, "validated_tests": 2,
        "last_validated_at": "2024-01-01T00:00:00Z", "detection_rules": 3, "threat_actors": 71
    }]
}))]
pub struct CoverageReport {
    generated_at: DateTime<Utc>,
    /// The newest release of ATT&CK among the techniques.
    attack_version: Option<String>,
    /// The threat actor that was asked for.
    threat_actor: Option<String>,
    summary: CoverageTotals,
    /// In the order of the matrix.
    tactics: Vec<ReportedTactic>,
    /// By ATT&CK id.
    techniques: Vec<ReportedTechnique>,
}

impl From<proto::MatrixTactic> for ReportedTactic {
    fn from(tactic: proto::MatrixTactic) -> ReportedTactic {
        ReportedTactic {
            coverage: TacticCoverage::new(tactic.short_name, tactic.coverage),
            name: tactic.name,
            mitre_id: tactic.mitre_id,
            coverage_percentage: tactic.coverage_percentage,
            score: tactic.score,
        }
    }
}

impl From<proto::MatrixTechnique> for ReportedTechnique {
    fn from(technique: proto::MatrixTechnique) -> ReportedTechnique {
        ReportedTechnique {
            id: technique.id,
            mitre_id: technique.mitre_id,
            name: technique.name,
            domain: technique.domain,
            tactics: technique.tactics,
            platforms: technique.platforms,
            is_subtechnique: technique.parent_mitre_id.is_some(),
            parent_mitre_id: technique.parent_mitre_id,
            status: technique.status,
            score: technique.score,
            tests: technique.tests,
            validated_tests: technique.validated_tests,
            last_validated_at: time(technique.last_validated_at),
            detection_rules: technique.detection_rules,
            threat_actors: technique.threat_actors,
        }
    }
}

impl CoverageReport {
    fn new(matrix: GetMatrixResponse, generated_at: DateTime<Utc>) -> CoverageReport {
        CoverageReport {
            generated_at,
            attack_version: filled(matrix.attack_version),
            threat_actor: filled(matrix.threat_actor_name),
            summary: CoverageTotals {
                summary: Summary::new(matrix.coverage, matrix.coverage_percentage),
                score: matrix.score,
            },
            tactics: matrix.tactics.into_iter().map(ReportedTactic::from).collect(),
            techniques: matrix.techniques.into_iter().map(ReportedTechnique::from).collect(),
        }
    }

    fn csv(&self) -> String {
        let mut text = String::with_capacity(256 * (self.techniques.len() + 1));
        csv::line(&mut text, COLUMNS);
        for technique in &self.techniques {
            let moment = technique.last_validated_at.map(|moment| moment.to_rfc3339_opts(SecondsFormat::AutoSi, true));
            let cells: [&str; COLUMNS.len()] = [
                &technique.mitre_id,
                &technique.name,
                &technique.domain,
                &technique.tactics.join("; "),
                &technique.platforms.join("; "),
                if technique.is_subtechnique { "true" } else { "false" },
                technique.parent_mitre_id.as_deref().unwrap_or_default(),
                &technique.status,
                &format!("{:.1}", technique.score),
                &technique.tests.to_string(),
                &technique.validated_tests.to_string(),
                moment.as_deref().unwrap_or_default(),
                &technique.detection_rules.to_string(),
                &technique.threat_actors.to_string(),
                &technique.id,
            ];
            csv::line(&mut text, cells);
        }
        text
    }
}

async fn matrix(gateway: &Gateway, caller: &Caller, query: CoverageOf) -> Result<GetMatrixResponse, Problem> {
    let request = GetMatrixRequest {
        domain: query.domain.map_or_else(|| ALL.to_owned(), String::from),
        threat_actor_id: query.threat_actor_id,
        platform: query.platform.map(|platform| platform.to_lowercase()),
        tactic: query.tactic,
        compare: None,
    };
    Ok(gateway.deps.analytics.clone().get_matrix(caller.ctx().outgoing(request)).await?.into_inner())
}

/// Coverage report
///
/// A summary, the tactics and every technique that fits; revoked and deprecated techniques do not count. With
/// `Accept: text/csv` it is the file of `/reports/coverage-csv`.
#[utoipa::path(get, path = "/api/v1/reports/coverage-summary", tag = "Reports", params(CoverageOf),
    responses(
        (status = 200, description = "The report",
            content((CoverageReport = "application/json"),
                (String = "text/csv", example = json!("mitre_id,name,domain,…\r\nT1059.001,PowerShell,enterprise,…\r\n"))),
            headers(("X-As-Of" = String, description = "When the figures were last brought up to date"))),
        (status = 404, response = NotFound),
    ))]
async fn get_coverage_report(
    State(gateway): State<Gateway>,
    caller: Caller,
    headers: HeaderMap,
    Query(query): Query<CoverageOf>,
) -> Result<Response, Problem> {
    let matrix = matrix(&gateway, &caller, query).await?;
    let as_of = time(matrix.as_of);
    let report = CoverageReport::new(matrix, Utc::now());
    Ok(csv::varying(match csv::wanted(&headers) {
        true => csv::whole("coverage", report.csv(), as_of),
        false => Answer::json(&report)?.dated(as_of).into_response(),
    }))
}

/// Export coverage as CSV
///
/// One line for each technique that fits, by ATT&CK id; the columns are the fields of `/reports/coverage-summary`, lists
/// have `; ` between their entries. UTF-8, with a header line; cells that a spreadsheet would take for a formula begin
/// with a `'`.
#[utoipa::path(get, path = "/api/v1/reports/coverage-csv", tag = "Reports", params(CoverageOf),
    responses(
        (status = 200, description = "The file", body = String, content_type = "text/csv",
            headers(("Content-Disposition" = String, description = "attachment, with a dated file name"),
                ("X-As-Of" = String, description = "When the figures were last brought up to date")),
            example = json!("mitre_id,name,domain,…\r\nT1059.001,PowerShell,enterprise,…\r\n")),
        (status = 404, response = NotFound),
    ))]
async fn export_coverage(
    State(gateway): State<Gateway>,
    caller: Caller,
    Query(query): Query<CoverageOf>,
) -> Result<Response, Problem> {
    let matrix = matrix(&gateway, &caller, query).await?;
    let as_of = time(matrix.as_of);
    Ok(csv::whole("coverage", CoverageReport::new(matrix, Utc::now()).csv(), as_of))
}
