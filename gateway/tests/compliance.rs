//! Compliance at the gateway: every verdict with what is behind it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a test fails by panicking, also in its helpers

mod common;

use aegis_error::Failure;
use aegis_proto::{
    analytics::v1::{
        ComplianceGap, ControlCoverage, ControlTechnique, ControlTest, FamilySummary, FrameworkRef, FrameworkSummary,
        GetComplianceSummaryRequest, GetComplianceSummaryResponse, GetControlCoverageRequest,
        GetControlCoverageResponse, ListComplianceGapsRequest, ListComplianceGapsResponse, ListControlCoverageRequest,
        ListControlCoverageResponse, ListFrameworksRequest, ListFrameworksResponse,
    },
    catalog::v1::{GetKnowledgeRequest, GetKnowledgeResponse, Knowledge, Link, ListLinksResponse},
};
use common::{Fixture, recorder::Recorder};
use http::StatusCode;
use prost_types::Timestamp;
use serde_json::{Value, json};

const AS_OF: &str = "2024-01-01T00:00:00Z";

fn as_of() -> Option<Timestamp> {
    Some(Timestamp { seconds: 1_704_067_200, nanos: 0 })
}

fn framework() -> Option<FrameworkRef> {
    Some(FrameworkRef {
        id: "nist_800_53".into(),
        name: "NIST SP 800-53".into(),
        version: "rev5".into(),
        attack_version: "16.1".into(),
        mapping_source: "CTID".into(),
    })
}

fn control() -> ControlCoverage {
    ControlCoverage {
        id: "AC-2(1)".into(),
        name: "Automated".into(),
        family: "AC".into(),
        parent_id: "AC-2".into(),
        status: "partial".into(),
        techniques: 2,
        covered_techniques: 1,
        coverage_percentage: Some(50.0),
        mitre_technique_ids: vec!["T1078".into(), "T1098".into()],
        score: Some(41.5),
        ..ControlCoverage::default()
    }
}

fn technique() -> ControlTechnique {
    let test = ControlTest {
        id: "t".into(),
        name: "Default accounts".into(),
        detection_result: "detected".into(),
        validated_at: as_of(),
    };
    ControlTechnique {
        mitre_id: "T1078".into(),
        status: "validated".into(),
        threat_actors: 47,
        tests: vec![test],
        validated_tests: 3,
        ..ControlTechnique::default()
    }
}

fn record(deprecated: bool) -> GetKnowledgeResponse {
    let record = Knowledge {
        id: "uuid".into(),
        kind: "control".into(),
        key: "nist_800_53:AC-2(1)".into(),
        name: "Automated".into(),
        source: "nist_800_53".into(),
        description: Some("What it demands".into()),
        attributes_json: r#"{"family": "AC", "parent": "AC-2", "baseline": "high"}"#.into(),
        deprecated,
        version: 4,
        ..Knowledge::default()
    };
    GetKnowledgeResponse { record: Some(record) }
}

fn links() -> ListLinksResponse {
    let references_json = r#"[{"mapping_type": "mitigates"}]"#.to_owned();
    let link = Link { kind: "technique".into(), key: "T1078".into(), references_json, ..Link::default() };
    ListLinksResponse { links: vec![link], total_size: 1, ..ListLinksResponse::default() }
}

#[tokio::test]
async fn each_row_names_its_verdict_and_where_the_mapping_comes_from() {
    let page = ListControlCoverageResponse {
        framework: framework(),
        controls: vec![control(), ControlCoverage { status: "not_applicable".into(), ..ControlCoverage::default() }],
        total_size: 1014,
        as_of: as_of(),
        ..ListControlCoverageResponse::default()
    };
    let service = Recorder::default().answers("ListControlCoverage", &page);
    let fixture = Fixture::of_tests(service.service());
    let query = "search=account&mitre_technique_id=T1078&status=partial&family=AC&limit=2&offset=4";
    let got = fixture.get(&format!("/api/v1/compliance/nist_800_53/controls?{query}")).await;
    assert_eq!((got.status, got.header("x-total-count")), (StatusCode::OK, "1014"));
    assert_eq!(got.header("x-as-of"), AS_OF);
    let row = &got.json()[0];
    assert_eq!(row["mapping"], json!({"source": "CTID", "version": "rev5", "attack_version": "16.1"}));
    assert_eq!((&row["framework_id"], &row["parent_id"]), (&json!("nist_800_53"), &json!("AC-2")));
    assert_eq!((&row["technique_count"], &row["covered_techniques"]), (&json!(2), &json!(1)));
    assert_eq!((&row["coverage_percentage"], &row["status"]), (&json!(50.0), &json!("partial")));
    assert_eq!((&got.json()[1]["coverage_percentage"], &got.json()[1]["score"]), (&Value::Null, &Value::Null));
    let sent: ListControlCoverageRequest = service.last("ListControlCoverage");
    let expected = ListControlCoverageRequest {
        framework_id: "nist_800_53".into(),
        page_size: 2,
        page_token: String::new(),
        skip: 4,
        search: Some("account".into()),
        mitre_technique_id: Some("T1078".into()),
        status: Some("partial".into()),
        family: Some("AC".into()),
    };
    assert_eq!(sent, expected);
}

#[tokio::test]
async fn a_control_has_its_text_and_the_tests_behind_its_verdict() {
    let coverage = GetControlCoverageResponse {
        framework: framework(),
        control: Some(control()),
        techniques: vec![technique()],
        unknown_mitre_ids: vec!["T9999".into()],
        as_of: as_of(),
    };
    let service = Recorder::default()
        .answers("GetControlCoverage", &coverage)
        .answers("GetKnowledge", &record(false))
        .answers("ListLinks", &links());
    let fixture = Fixture::of_tests(service.service());
    let got = fixture.get("/api/v1/compliance/nist_800_53/controls/AC-2(1)").await;
    assert_eq!(got.status, StatusCode::OK, "{}", got.json());
    let control = got.json();
    assert_eq!((&control["text"], &control["status"]), (&json!("What it demands"), &json!("partial")));
    assert_eq!((&control["attributes"]["baseline"], &control["withdrawn"]), (&json!("high"), &json!(false)));
    let technique = &control["techniques"][0];
    assert_eq!((&technique["validated_tests"], &technique["threat_actors"]), (&json!(3), &json!(47)));
    assert_eq!(
        technique["tests"],
        json!([{"id": "t", "name": "Default accounts", "detection_result": "detected", "validated_at": AS_OF}])
    );
    assert_eq!(control["unknown_mitre_ids"], json!(["T9999"]));
    assert_eq!(control["attack_mappings"][0]["relations"], json!([{"mapping_type": "mitigates"}]));
    assert!(got.header("etag").starts_with("\"4-"));
    assert_eq!(got.header("x-as-of"), AS_OF);
    let sent: GetControlCoverageRequest = service.last("GetControlCoverage");
    assert_eq!((sent.framework_id.as_str(), sent.control_id.as_str()), ("nist_800_53", "AC-2(1)"));
    assert_eq!(service.last::<GetKnowledgeRequest>("GetKnowledge").id, "nist_800_53:AC-2(1)");
}

#[tokio::test]
async fn a_withdrawn_control_counts_nowhere_a_new_one_not_yet_and_no_control_is_404() {
    let unknown = || Failure::not_found("control", "AC-2(1)");
    let over = |service: Recorder| Fixture::of_tests(service.answers("ListLinks", &links()).service());
    let path = "/api/v1/compliance/nist_800_53/controls/AC-2(1)";

    let service = Recorder::default().refuses("GetControlCoverage", unknown()).answers("GetKnowledge", &record(true));
    let got = over(service).get(path).await;
    let control = got.json();
    assert_eq!((&control["status"], &control["withdrawn"]), (&json!("not_applicable"), &json!(true)), "{control}");
    assert_eq!((&control["id"], &control["family"]), (&json!("AC-2(1)"), &json!("AC")));

    let service = Recorder::default().refuses("GetControlCoverage", unknown()).answers("GetKnowledge", &record(false));
    assert_eq!(over(service).get(path).await.status, StatusCode::SERVICE_UNAVAILABLE);

    let service = Recorder::default().refuses("GetControlCoverage", unknown()).refuses("GetKnowledge", unknown());
    assert_eq!(over(service).get(path).await.status, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn a_framework_has_a_summary_and_gaps() {
    let family =
        FamilySummary { family: "AC".into(), total: 4, gaps: 3, not_applicable: 1, ..FamilySummary::default() };
    let summary = GetComplianceSummaryResponse {
        framework: framework(),
        total: 4,
        gaps: 3,
        not_applicable: 1,
        compliance_percentage: None,
        families: vec![family],
        as_of: as_of(),
        ..GetComplianceSummaryResponse::default()
    };
    let gap = ComplianceGap { control: Some(control()), missing: vec![technique()], missing_count: 1, priority: 1.08 };
    let gaps = ListComplianceGapsResponse {
        framework: framework(),
        gaps: vec![gap],
        total_size: 97,
        as_of: as_of(),
        ..ListComplianceGapsResponse::default()
    };
    let service = Recorder::default().answers("GetComplianceSummary", &summary).answers("ListComplianceGaps", &gaps);
    let fixture = Fixture::of_tests(service.service());
    let got = fixture.get("/api/v1/compliance/nist_800_53/summary").await;
    assert_eq!(
        got.json(),
        json!({
            "framework": {
                "id": "nist_800_53", "name": "NIST SP 800-53",
                "mapping": {"source": "CTID", "version": "rev5", "attack_version": "16.1"}
            },
            "total": 4, "covered": 0, "partial": 0, "gaps": 3, "not_applicable": 1, "compliance_percentage": null,
            "families": [{"family": "AC", "total": 4, "covered": 0, "partial": 0, "gaps": 3, "not_applicable": 1}]
        })
    );
    assert_eq!(got.header("x-as-of"), AS_OF);
    assert_eq!(service.last::<GetComplianceSummaryRequest>("GetComplianceSummary").framework_id, "nist_800_53");

    let got = fixture.get("/api/v1/compliance/nist_800_53/gaps").await;
    let gap = &got.json()[0];
    assert_eq!((&gap["id"], &gap["priority"], &gap["missing_count"]), (&json!("AC-2(1)"), &json!(1.08), &json!(1)));
    assert_eq!((&gap["missing"][0]["mitre_id"], got.header("x-total-count")), (&json!("T1078"), "97"));
    let sent: ListComplianceGapsRequest = service.last("ListComplianceGaps");
    assert_eq!((sent.page_size, sent.skip), (100, 0));
}

#[tokio::test]
async fn frameworks_have_their_counts() {
    let nist = FrameworkSummary {
        framework: framework(),
        total: 4,
        covered: 1,
        partial: 1,
        gaps: 1,
        not_applicable: 1,
        compliance_percentage: Some(33.3),
    };
    let frameworks =
        ListFrameworksResponse { frameworks: vec![nist], total_size: 9, as_of: as_of(), ..Default::default() };
    let service = Recorder::default().answers("ListFrameworks", &frameworks);
    let fixture = Fixture::of_tests(service.service());
    let got = fixture.get("/api/v1/compliance/frameworks?limit=1&offset=2").await;
    assert_eq!(
        got.json(),
        json!([{
            "id": "nist_800_53", "name": "NIST SP 800-53", "version": "rev5", "attack_version": "16.1",
            "mapping_source": "CTID", "total": 4, "covered": 1, "partial": 1, "gaps": 1, "not_applicable": 1,
            "compliance_percentage": 33.3
        }])
    );
    assert_eq!((got.header("x-as-of"), got.header("x-total-count")), (AS_OF, "9"));
    let sent: ListFrameworksRequest = service.last("ListFrameworks");
    assert_eq!((sent.page_size, sent.skip), (1, 2));
}

#[tokio::test]
async fn what_does_not_validate_is_refused_by_field_before_any_call() {
    let fixture = Fixture::new();
    for (path, field) in [
        ("controls?status=covert", "status"),
        ("controls?limit=5001", "limit"),
        ("controls?include_withdrawn=true", "include_withdrawn"),
        ("gaps?limit=1001", "limit"),
        ("gaps?offset=x", "offset"),
        ("controls/a%00b", "control_id"),
    ] {
        let got = fixture.get(&format!("/api/v1/compliance/nist_800_53/{path}")).await;
        assert_eq!((got.status, got.fields()), (StatusCode::BAD_REQUEST, vec![field.to_owned()]), "{path}");
    }
    assert!(fixture.calls.lock().unwrap().is_empty());
}
