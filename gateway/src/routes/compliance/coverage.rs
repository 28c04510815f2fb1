//! How well controls are covered: frameworks, their controls, a summary of one, its gaps.

use aegis_proto::analytics::v1::{
    self as proto, GetComplianceSummaryRequest, ListComplianceGapsRequest, ListControlCoverageRequest,
    ListFrameworksRequest,
};
use axum::extract::State;
use chrono::{DateTime, Utc};
use http::Uri;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::{
    router::{OpenApiRouter, UtoipaMethodRouterExt},
    routes,
};

use crate::{
    answer::Answer,
    error::Problem,
    extract::{Caller, Name, Query, page},
    middleware::compression,
    openapi::responses::NotFound,
    state::Gateway,
    values::{ControlStatus, DetectionResult, TechniqueStatus, filled, time},
};

/// Routes that need a token.
pub fn protected() -> OpenApiRouter<Gateway> {
    OpenApiRouter::new()
        .routes(routes!(list_frameworks))
        .routes(routes!(list_controls).layer(compression()))
        .routes(routes!(get_compliance_summary))
        .routes(routes!(list_compliance_gaps).layer(compression()))
}

/// Where the techniques of a control come from.
#[derive(Clone, Serialize, ToSchema)]
#[schema(example = json!({"source": "CTID Mappings Explorer", "version": "rev5", "attack_version": "16.1"}))]
pub struct Mapping {
    /// Who mapped it.
    source: String,
    /// Of the framework.
    version: Option<String>,
    /// The release of ATT&CK that the mapping names.
    attack_version: Option<String>,
}

impl From<&proto::FrameworkRef> for Mapping {
    fn from(framework: &proto::FrameworkRef) -> Mapping {
        Mapping {
            source: framework.mapping_source.clone(),
            version: filled(framework.version.clone()),
            attack_version: filled(framework.attack_version.clone()),
        }
    }
}

/// A set of controls, where its mapping to ATT&CK comes from, and how many of its controls have which verdict.
#[derive(Serialize, ToSchema)]
#[schema(example = json!({
    "id": "nist_800_53", "name": "NIST SP 800-53", "version": "rev5", "attack_version": "16.1",
    "mapping_source": "CTID Mappings Explorer", "total": 1007, "covered": 61, "partial": 14, "gaps": 33,
    "not_applicable": 899, "compliance_percentage": 56.5
}))]
pub struct Framework {
    /// Its name in paths.
    id: String,
    name: String,
    version: Option<String>,
    /// The release of ATT&CK that its mapping names.
    attack_version: Option<String>,
    /// Who mapped it.
    mapping_source: String,
    /// Its controls; enhancements count as controls of their own.
    total: i64,
    covered: i64,
    partial: i64,
    gaps: i64,
    /// Nothing maps them to a technique that there is.
    not_applicable: i64,
    /// Covered ones among those that apply, one decimal; absent where nothing applies.
    compliance_percentage: Option<f64>,
}

impl Framework {
    fn of(summary: proto::FrameworkSummary) -> Result<Framework, Problem> {
        let framework = summary.framework.ok_or_else(Problem::empty)?;
        Ok(Framework {
            id: framework.id,
            name: framework.name,
            version: filled(framework.version),
            attack_version: filled(framework.attack_version),
            mapping_source: framework.mapping_source,
            total: summary.total,
            covered: summary.covered,
            partial: summary.partial,
            gaps: summary.gaps,
            not_applicable: summary.not_applicable,
            compliance_percentage: summary.compliance_percentage,
        })
    }
}

/// Part of the list of frameworks.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct ListFrameworks {
    /// Rows at most.
    #[param(minimum = 1, maximum = 5000, default = 1000)]
    limit: Option<u32>,
    /// Rows to leave out before.
    #[param(minimum = 0, maximum = 2147483647, default = 0)]
    offset: Option<u32>,
}

/// A control and how well it is covered.
#[derive(Serialize, ToSchema)]
#[schema(example = json!({
    "id": "AC-2(1)", "uuid": "0190b7a2-9000-7c3e-9d2a-3f6d1c0e8a05", "framework_id": "nist_800_53",
    "name": "Automated System Account Management", "family": "AC", "parent_id": "AC-2", "status": "partial",
    "technique_count": 2, "covered_techniques": 1, "coverage_percentage": 50.0, "score": 41.5,
    "mitre_technique_ids": ["T1078", "T1098"],
    "mapping": {"source": "CTID Mappings Explorer", "version": "rev5", "attack_version": "16.1"}
}))]
pub struct ControlCoverage {
    /// Its id in the framework.
    id: String,
    #[schema(value_type = Uuid)]
    uuid: String,
    framework_id: String,
    name: String,
    family: Option<String>,
    /// The control that it enhances.
    parent_id: Option<String>,
    /// Covered where at least 80 % of its techniques are validated or partial, partial where at least 40 % are, else a
    /// gap; not_applicable without a technique.
    #[schema(value_type = ControlStatus)]
    status: String,
    /// Active techniques of its mapping.
    technique_count: i64,
    /// Those that are validated or partial.
    covered_techniques: i64,
    /// One decimal; null without a technique.
    coverage_percentage: Option<f64>,
    /// The mean of its techniques' scores; null without a technique.
    score: Option<f64>,
    /// ATT&CK ids of all of its mapping.
    mitre_technique_ids: Vec<String>,
    mapping: Mapping,
}

impl ControlCoverage {
    /// Of this framework.
    pub fn new(control: proto::ControlCoverage, framework: &proto::FrameworkRef) -> ControlCoverage {
        ControlCoverage {
            id: control.id,
            uuid: control.uuid,
            framework_id: framework.id.clone(),
            name: control.name,
            family: filled(control.family),
            parent_id: filled(control.parent_id),
            status: control.status,
            technique_count: control.techniques,
            covered_techniques: control.covered_techniques,
            coverage_percentage: control.coverage_percentage,
            score: control.score,
            mitre_technique_ids: control.mitre_technique_ids,
            mapping: framework.into(),
        }
    }
}

/// A technique behind a verdict.
#[derive(Serialize, ToSchema)]
pub struct ControlTechnique {
    #[schema(value_type = Uuid)]
    technique_id: String,
    mitre_id: String,
    name: String,
    #[schema(value_type = TechniqueStatus)]
    status: String,
    /// 0 to 100, one decimal.
    score: f64,
    /// Threat actors that use it.
    threat_actors: i64,
    /// Validated tests with a result.
    validated_tests: i64,
    /// The newest of them, at most five: what its status rests on.
    tests: Vec<ControlTest>,
}

/// A test behind a technique's status.
#[derive(Serialize, ToSchema)]
pub struct ControlTest {
    #[schema(value_type = Uuid)]
    id: String,
    name: String,
    #[schema(value_type = DetectionResult)]
    detection_result: String,
    validated_at: Option<DateTime<Utc>>,
}

impl From<proto::ControlTechnique> for ControlTechnique {
    fn from(technique: proto::ControlTechnique) -> ControlTechnique {
        let tests = technique.tests.into_iter().map(|test| ControlTest {
            id: test.id,
            name: test.name,
            detection_result: test.detection_result,
            validated_at: time(test.validated_at),
        });
        ControlTechnique {
            technique_id: technique.technique_id,
            mitre_id: technique.mitre_id,
            name: technique.name,
            status: technique.status,
            score: technique.score,
            threat_actors: technique.threat_actors,
            validated_tests: technique.validated_tests,
            tests: tests.collect(),
        }
    }
}

/// A framework that figures are about.
#[derive(Serialize, ToSchema)]
pub struct FrameworkOf {
    /// Its name in paths.
    id: String,
    name: String,
    mapping: Mapping,
}

/// How well a framework is covered.
#[derive(Serialize, ToSchema)]
#[schema(example = json!({
    "framework": {
        "id": "nist_800_53", "name": "NIST SP 800-53",
        "mapping": {"source": "CTID Mappings Explorer", "version": "rev5", "attack_version": "16.1"}
    },
    "total": 1014, "covered": 12, "partial": 31, "gaps": 66, "not_applicable": 905, "compliance_percentage": 11.0,
    "families": [{"family": "AC", "total": 147, "covered": 2, "partial": 6, "gaps": 11, "not_applicable": 128}]
}))]
pub struct ComplianceSummary {
    framework: FrameworkOf,
    /// Controls, enhancements among them.
    total: i64,
    covered: i64,
    partial: i64,
    gaps: i64,
    /// Without a technique.
    not_applicable: i64,
    /// covered / (total − not_applicable) × 100, one decimal; null where nothing applies.
    compliance_percentage: Option<f64>,
    families: Vec<FamilySummary>,
}

/// How well a family of controls is covered.
#[derive(Serialize, ToSchema)]
pub struct FamilySummary {
    family: String,
    total: i64,
    covered: i64,
    partial: i64,
    gaps: i64,
    not_applicable: i64,
}

/// A control that is not covered, and what it lacks.
#[derive(Serialize, ToSchema)]
#[schema(example = json!({
    "id": "AC-2(1)", "uuid": "0190b7a2-9000-7c3e-9d2a-3f6d1c0e8a05", "framework_id": "nist_800_53",
    "name": "Automated System Account Management", "family": "AC", "parent_id": "AC-2", "status": "partial",
    "technique_count": 2, "covered_techniques": 1, "coverage_percentage": 50.0, "score": 41.5,
    "mitre_technique_ids": ["T1078", "T1098"],
    "mapping": {"source": "CTID Mappings Explorer", "version": "rev5", "attack_version": "16.1"},
    "missing": [{
        "technique_id": "0190b7a2-5f00-7c3e-9d2a-3f6d1c0e8a11", "mitre_id": "T1098", "name": "Account Manipulation",
        "status": "not_evaluated", "score": 20.0, "threat_actors": 14, "validated_tests": 0, "tests": []
    }],
    "missing_count": 1, "priority": 1.08
}))]
pub struct ComplianceGap {
    #[serde(flatten)]
    control: ControlCoverage,
    /// Its techniques that are neither validated nor partial, those first that most threat actors use; at most 50.
    missing: Vec<ControlTechnique>,
    missing_count: i64,
    /// The number of missing techniques, plus of each the share of all threat actors that use it.
    priority: f64,
}

/// Filters of controls; all given ones must hold.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct ListControls {
    /// In its id, name or family, in whatever case.
    #[param(example = "account")]
    search: Option<String>,
    /// ATT&CK id of a technique that it is mapped to.
    #[param(example = "T1078")]
    mitre_technique_id: Option<String>,
    #[param(inline)]
    status: Option<ControlStatus>,
    /// Of the framework.
    #[param(example = "AC")]
    family: Option<String>,
    /// Rows at most.
    #[param(minimum = 1, maximum = 5000, default = 1000)]
    limit: Option<u32>,
    /// Rows to leave out before.
    #[param(minimum = 0, maximum = 2147483647, default = 0)]
    offset: Option<u32>,
}

/// Part of the list of gaps.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct ListGaps {
    /// Rows at most.
    #[param(minimum = 1, maximum = 1000, default = 100)]
    limit: Option<u32>,
    /// Rows to leave out before.
    #[param(minimum = 0, maximum = 2147483647, default = 0)]
    offset: Option<u32>,
}

/// List frameworks
///
/// Each with how many of its controls have which verdict. `X-Total-Count` has the number of all.
#[utoipa::path(get, path = "/api/v1/compliance/frameworks", tag = "Compliance", params(ListFrameworks),
    responses((status = 200, description = "Frameworks, by id", body = [Framework],
        headers(("X-As-Of" = String, description = "When the figures were last brought up to date")))))]
async fn list_frameworks(
    State(gateway): State<Gateway>,
    caller: Caller,
    Query(query): Query<ListFrameworks>,
) -> Result<Answer, Problem> {
    let (page_size, skip) = page(query.limit, query.offset, 1000, 5000)?;
    let request = ListFrameworksRequest { page_size, skip, page_token: String::new() };
    let request = caller.ctx().outgoing(request);
    let answer = gateway.deps.compliance.clone().list_frameworks(request).await?.into_inner();
    let frameworks = answer.frameworks.into_iter().map(Framework::of).collect::<Result<Vec<_>, _>>()?;
    Ok(Answer::list(&frameworks, answer.total_size)?.dated(time(answer.as_of)))
}

/// List the controls of a framework
///
/// By id, each with its verdict, the techniques of its mapping and where that comes from; `X-Total-Count` has the number
/// of all that fit. Withdrawn controls are not among them; their texts and the tests behind each verdict are in
/// `/compliance/{framework_id}/controls/{control_id}`.
#[utoipa::path(get, path = "/api/v1/compliance/{framework_id}/controls", tag = "Compliance",
    params(("framework_id" = String, Path, description = "Framework", example = "nist_800_53"), ListControls),
    responses(
        (status = 200, description = "Controls", body = [ControlCoverage],
            headers(("X-As-Of" = String, description = "When the figures were last brought up to date"))),
        (status = 404, response = NotFound),
    ))]
async fn list_controls(
    State(gateway): State<Gateway>,
    caller: Caller,
    Name(framework_id): Name,
    Query(query): Query<ListControls>,
) -> Result<Answer, Problem> {
    let (page_size, skip) = page(query.limit, query.offset, 1000, 5000)?;
    let request = ListControlCoverageRequest {
        framework_id,
        page_size,
        page_token: String::new(),
        skip,
        search: query.search,
        mitre_technique_id: query.mitre_technique_id,
        status: query.status.map(String::from),
        family: query.family,
    };
    let request = caller.ctx().outgoing(request);
    let answer = gateway.deps.compliance.clone().list_control_coverage(request).await?.into_inner();
    let framework = answer.framework.ok_or_else(Problem::empty)?;
    let controls = answer.controls.into_iter().map(|control| ControlCoverage::new(control, &framework));
    Ok(Answer::list(&controls.collect::<Vec<_>>(), answer.total_size)?.dated(time(answer.as_of)))
}

/// Summary of a framework
///
/// How many of its controls are covered, partial, gaps and not applicable, and the same by family; enhancements count as
/// controls of their own.
#[utoipa::path(get, path = "/api/v1/compliance/{framework_id}/summary", tag = "Compliance",
    params(("framework_id" = String, Path, description = "Framework", example = "nist_800_53")),
    responses(
        (status = 200, description = "The summary", body = ComplianceSummary,
            headers(("X-As-Of" = String, description = "When the figures were last brought up to date"))),
        (status = 404, response = NotFound),
    ))]
async fn get_compliance_summary(
    State(gateway): State<Gateway>,
    caller: Caller,
    uri: Uri,
    Name(framework_id): Name,
) -> Result<Answer, Problem> {
    let load = async {
        let request = caller.ctx().outgoing(GetComplianceSummaryRequest { framework_id });
        let answer = gateway.deps.compliance.clone().get_compliance_summary(request).await?.into_inner();
        let framework = answer.framework.ok_or_else(Problem::empty)?;
        let families = answer.families.into_iter().map(|family| FamilySummary {
            family: family.family,
            total: family.total,
            covered: family.covered,
            partial: family.partial,
            gaps: family.gaps,
            not_applicable: family.not_applicable,
        });
        let mapping = Mapping::from(&framework);
        let summary = ComplianceSummary {
            framework: FrameworkOf { id: framework.id, name: framework.name, mapping },
            total: answer.total,
            covered: answer.covered,
            partial: answer.partial,
            gaps: answer.gaps,
            not_applicable: answer.not_applicable,
            compliance_percentage: answer.compliance_percentage,
            families: families.collect(),
        };
        Ok(Answer::json(&summary)?.dated(time(answer.as_of)))
    };
    gateway.hot.answer(&caller, &uri, load).await
}

/// Gaps of a framework
///
/// Its controls that are gaps or partial, those first that lack the most, and among them those whose missing techniques
/// more threat actors use; `X-Total-Count` has the number of all.
#[utoipa::path(get, path = "/api/v1/compliance/{framework_id}/gaps", tag = "Compliance",
    params(("framework_id" = String, Path, description = "Framework", example = "nist_800_53"), ListGaps),
    responses(
        (status = 200, description = "The gaps", body = [ComplianceGap],
            headers(("X-As-Of" = String, description = "When the figures were last brought up to date"))),
        (status = 404, response = NotFound),
    ))]
async fn list_compliance_gaps(
    State(gateway): State<Gateway>,
    caller: Caller,
    Name(framework_id): Name,
    Query(query): Query<ListGaps>,
) -> Result<Answer, Problem> {
    let (page_size, skip) = page(query.limit, query.offset, 100, 1000)?;
    let request = ListComplianceGapsRequest { framework_id, page_size, page_token: String::new(), skip };
    let request = caller.ctx().outgoing(request);
    let answer = gateway.deps.compliance.clone().list_compliance_gaps(request).await?.into_inner();
    let framework = answer.framework.ok_or_else(Problem::empty)?;
    let gaps = answer.gaps.into_iter().filter_map(|gap| {
        Some(ComplianceGap {
            control: ControlCoverage::new(gap.control?, &framework),
            missing: gap.missing.into_iter().map(ControlTechnique::from).collect(),
            missing_count: gap.missing_count,
            priority: gap.priority,
        })
    });
    Ok(Answer::list(&gaps.collect::<Vec<_>>(), answer.total_size)?.dated(time(answer.as_of)))
}
