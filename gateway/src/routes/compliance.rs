//! Controls of frameworks, and the techniques and tests that each verdict rests on. What is counted is in
//! [`coverage`].

mod coverage;

use aegis_error::{Code, Failure};
use aegis_proto::{
    analytics::v1::{self as analytics, FrameworkRef, GetControlCoverageRequest, GetControlCoverageResponse},
    catalog::v1 as proto,
};
use axum::extract::State;
use chrono::{DateTime, Utc};
use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;
use utoipa_axum::{
    router::{OpenApiRouter, UtoipaMethodRouterExt},
    routes,
};

use self::coverage::{ControlCoverage, ControlTechnique};
use super::{
    d3fend::AttackMapping,
    knowledge::{Link, links, record},
};
use crate::{
    answer::Answer,
    error::Problem,
    extract::{Caller, Names},
    middleware::compression,
    openapi::responses::NotFound,
    state::Gateway,
    values::{ControlStatus, KnowledgeKind, json, time, time_always},
};

/// Routes that need a token.
pub fn protected() -> OpenApiRouter<Gateway> {
    OpenApiRouter::new().routes(routes!(get_control).layer(compression())).merge(coverage::protected())
}

/// A control, and the techniques and tests behind its verdict.
#[derive(Serialize, ToSchema)]
#[schema(example = json!({
    "id": "AC-2", "uuid": "0190b7a2-9000-7c3e-9d2a-3f6d1c0e8a05", "framework_id": "nist_800_53",
    "name": "Account Management", "family": "AC", "parent_id": null, "status": "covered", "technique_count": 1,
    "covered_techniques": 1, "coverage_percentage": 100.0, "score": 64.0, "mitre_technique_ids": ["T1078"],
    "mapping": {"source": "CTID Mappings Explorer", "version": "rev5", "attack_version": "16.1"},
    "text": "What it demands …", "withdrawn": false, "updated_at": "2024-01-01T00:00:00Z",
    "techniques": [{
        "technique_id": "0190b7a2-5f00-7c3e-9d2a-3f6d1c0e8a11", "mitre_id": "T1078", "name": "Valid Accounts",
        "status": "validated", "score": 64.0, "threat_actors": 47, "validated_tests": 1,
        "tests": [{
            "id": "0190b7a2-6a00-7b1d-8c55-0f3a9d2b7c01", "name": "Default accounts", "detection_result": "detected",
            "validated_at": "2024-01-01T00:00:00Z"
        }]
    }],
    "unknown_mitre_ids": [],
    "attack_mappings": [{"mitre_id": "T1078", "name": "Valid Accounts", "relations": [{"mapping_type": "mitigates"}]}],
    "attributes": {}
}))]
pub struct ControlDetail {
    #[serde(flatten)]
    coverage: ControlCoverage,
    /// What it demands.
    text: Option<String>,
    /// By the framework; it is not_applicable then.
    withdrawn: bool,
    updated_at: DateTime<Utc>,
    /// The active techniques of its mapping, by ATT&CK id.
    techniques: Vec<ControlTechnique>,
    /// Those of its mapping that are not active here.
    unknown_mitre_ids: Vec<String>,
    /// What the mapping says of each technique.
    attack_mappings: Vec<AttackMapping>,
    /// What the framework says besides.
    #[schema(value_type = Object)]
    attributes: Value,
}

/// Read a control
///
/// With its text, its verdict, the techniques that it is mapped to and the newest validated tests of each of them: what the
/// verdict rests on. One that the framework has withdrawn can be read too.
#[utoipa::path(get, path = "/api/v1/compliance/{framework_id}/controls/{control_id}", tag = "Compliance",
    params(("framework_id" = String, Path, description = "Framework", example = "nist_800_53"),
        ("control_id" = String, Path, description = "Control", example = "AC-2")),
    responses(
        (status = 200, description = "The control", body = ControlDetail,
            headers(("X-As-Of" = String, description = "When the figures were last brought up to date"))),
        (status = 404, response = NotFound),
    ))]
async fn get_control(
    State(gateway): State<Gateway>,
    caller: Caller,
    Names(framework_id, control_id): Names,
) -> Result<Answer, Problem> {
    let key = format!("{framework_id}:{control_id}");
    let kind = KnowledgeKind::Control;
    let ctx = caller.ctx();
    let mut compliance = gateway.deps.compliance.clone();
    let request = ctx.outgoing(GetControlCoverageRequest { framework_id, control_id });
    // What it is and says, and what is counted of it: two services, asked at once.
    let (record, links, coverage) = tokio::join!(
        record(&gateway, &caller, kind, key.clone()),
        links(&gateway, &caller, kind.as_str(), &key),
        compliance.get_control_coverage(request),
    );
    let record = record?;
    let (links, _) = links?;
    let coverage = match coverage {
        Ok(answer) => answer.into_inner(),
        Err(status) => withdrawn(&record, status.into())?,
    };
    let (version, as_of) = (record.version, time(coverage.as_of));
    let mappings = links.into_iter().filter(|link| link.kind == "technique").map(Link::from);
    let control = coverage.control.ok_or_else(Problem::empty)?;
    let framework = coverage.framework.ok_or_else(Problem::empty)?;
    let detail = ControlDetail {
        coverage: ControlCoverage::new(control, &framework),
        text: record.description,
        withdrawn: record.deprecated,
        updated_at: time_always(record.updated_at),
        techniques: coverage.techniques.into_iter().map(ControlTechnique::from).collect(),
        unknown_mitre_ids: coverage.unknown_mitre_ids,
        attack_mappings: mappings.map(Link::mapping).collect(),
        attributes: json(&record.attributes_json),
    };
    Ok(Answer::entity(version, &detail)?.dated(as_of))
}

/// What is counted of a control that analytics does not know: one that was withdrawn counts nowhere.
fn withdrawn(record: &proto::Knowledge, failure: Failure) -> Result<GetControlCoverageResponse, Failure> {
    match failure.code() {
        Code::NotFound if record.deprecated => {
            let (framework, id) = record.key.split_once(':').unwrap_or(("", &record.key));
            let attributes = json(&record.attributes_json);
            let text = |name: &str| attributes[name].as_str().unwrap_or_default().to_owned();
            let control = analytics::ControlCoverage {
                id: id.to_owned(),
                uuid: record.id.clone(),
                name: record.name.clone(),
                family: text("family"),
                parent_id: text("parent"),
                status: ControlStatus::NotApplicable.into(),
                mitre_technique_ids: record.mitre_technique_ids.clone(),
                ..analytics::ControlCoverage::default()
            };
            let framework = FrameworkRef {
                id: framework.to_owned(),
                mapping_source: record.source.clone(),
                ..FrameworkRef::default()
            };
            Ok(GetControlCoverageResponse {
                framework: Some(framework),
                control: Some(control),
                ..GetControlCoverageResponse::default()
            })
        }
        Code::NotFound => {
            let message = "the control is new and not counted yet; try again in a moment";
            Err(Failure::new(Code::Unavailable, message))
        }
        _ => Err(failure),
    }
}
