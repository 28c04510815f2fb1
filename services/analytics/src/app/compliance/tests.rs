//! Verdicts and what is behind them on every database, through their calls.

use std::sync::Arc;

use aegis_error::Code;
use aegis_proto::{
    analytics::v1::{self as pb, compliance_service_server::ComplianceService},
    catalog::v1::KnownRecord,
};

use super::*;
use crate::{
    app::scores::tests::{asked, record, validated, viewer},
    rpc::Rpc,
    tests::{app, facts, hear, know, stores, take_in},
};

const NIST: &str = "nist_800_53";

fn control(id: &str, family: &str, techniques: &[&str]) -> KnownRecord {
    KnownRecord {
        collection: NIST.into(),
        family: family.into(),
        parent: id.split_once('(').map_or_else(String::new, |(parent, _)| parent.to_owned()),
        ..record("control", &format!("{NIST}:{id}"), techniques)
    }
}

async fn world(app: &App) {
    let techniques = [
        facts(1, "validated", &["execution"], 1),
        facts(2, "partial", &["execution"], 1),
        facts(3, "not_covered", &["execution"], 1),
        facts(4, "not_evaluated", &["execution"], 1),
    ];
    take_in(app, &techniques).await.unwrap();
    let mut tests: Vec<_> = (0..8).map(|n| validated(100 + n, 1, "detected", "linux", 10 + n as i64)).collect();
    tests.push(validated(200, 2, "partially_detected", "linux", 3));
    tests.push(validated(201, 3, "not_detected", "linux", 4));
    hear(app, &tests).await.unwrap();
    let framework = KnownRecord {
        version: "rev5".into(),
        attack_version: "16.1".into(),
        mapping_source: "CTID".into(),
        ..record("framework", NIST, &[])
    };
    know(
        app,
        vec![
            framework,
            record("framework", "csa_ccm", &[]),
            record("threat_actor", "G1", &["T0004"]),
            control("AC-10", "AC", &["T0003", "T0004"]),
            control("AC-2", "AC", &["T0001", "T0002", "T0999"]),
            control("AC-2(1)", "AC", &["T0001", "T0003"]),
            control("AU-1", "AU", &[]),
        ],
    )
    .await;
}

#[tokio::test]
async fn every_verdict_names_what_is_behind_it() {
    for store in stores().await {
        let app = app(&store.db);
        let rpc = Rpc::new(Arc::clone(&app));
        world(&app).await;
        let list = |request: pb::ListControlCoverageRequest| {
            let rpc = rpc.clone();
            async move { rpc.list_control_coverage(asked(&viewer(), request)).await.map(tonic::Response::into_inner) }
        };
        let request = pb::ListControlCoverageRequest { framework_id: NIST.into(), ..Default::default() };
        let all = list(request.clone()).await.unwrap();
        let told: Vec<_> =
            all.controls.iter().map(|c| (c.id.as_str(), c.status.as_str(), c.coverage_percentage)).collect();
        assert_eq!(
            told,
            [
                ("AC-2", "covered", Some(100.0)),
                ("AC-2(1)", "partial", Some(50.0)),
                ("AC-10", "gap", Some(0.0)),
                ("AU-1", "not_applicable", None),
            ]
        );
        assert_eq!(all.controls[1].parent_id, "AC-2");
        assert_eq!((all.controls[3].score, all.total_size), (None, 4));
        assert_eq!(all.framework.unwrap().mapping_source, "CTID");
        let some =
            pb::ListControlCoverageRequest { family: Some("AC".into()), page_size: 1, skip: 1, ..request.clone() };
        let some = list(some).await.unwrap();
        assert_eq!((some.controls[0].id.as_str(), some.total_size), ("AC-2(1)", 3));
        let next = pb::ListControlCoverageRequest {
            family: Some("AC".into()),
            page_token: some.next_page_token,
            ..request.clone()
        };
        assert_eq!(list(next).await.unwrap().controls[0].id, "AC-10");
        let wrong = pb::ListControlCoverageRequest { status: Some("fine".into()), ..request };
        assert_eq!(Failure::from(list(wrong).await.unwrap_err()).fields()[0].field, "status");
        let unknown = pb::ListControlCoverageRequest { framework_id: "iso".into(), ..Default::default() };
        assert_eq!(Failure::from(list(unknown).await.unwrap_err()).code(), Code::NotFound);

        let request = pb::GetControlCoverageRequest { framework_id: NIST.into(), control_id: "ac-2".into() };
        let control = rpc.get_control_coverage(asked(&viewer(), request)).await.unwrap().into_inner();
        assert_eq!(control.unknown_mitre_ids, ["T0999"]);
        let behind = &control.techniques[0];
        assert_eq!((behind.mitre_id.as_str(), behind.validated_tests), ("T0001", 8));
        let tests: Vec<_> = behind.tests.iter().map(|test| test.name.as_str()).collect();
        assert_eq!(tests, ["Test 100", "Test 101", "Test 102", "Test 103", "Test 104"]);
        assert_eq!(control.techniques[1].tests[0].detection_result, "partially_detected");
        let request = pb::GetControlCoverageRequest { framework_id: NIST.into(), control_id: "XX-1".into() };
        let failure = Failure::from(rpc.get_control_coverage(asked(&viewer(), request)).await.unwrap_err());
        assert_eq!(failure.code(), Code::NotFound);

        let request = pb::GetComplianceSummaryRequest { framework_id: NIST.into() };
        let summary = rpc.get_compliance_summary(asked(&viewer(), request)).await.unwrap().into_inner();
        assert_eq!(
            (summary.total, summary.covered, summary.partial, summary.gaps, summary.not_applicable),
            (4, 1, 1, 1, 1)
        );
        assert_eq!(summary.compliance_percentage, Some(33.3));
        assert_eq!(
            summary.families.iter().map(|f| (f.family.as_str(), f.total)).collect::<Vec<_>>(),
            [("AC", 3), ("AU", 1)]
        );
        let request = pb::GetComplianceSummaryRequest { framework_id: "csa_ccm".into() };
        let empty = rpc.get_compliance_summary(asked(&viewer(), request)).await.unwrap().into_inner();
        assert_eq!((empty.total, empty.compliance_percentage), (0, None));

        let request = pb::ListComplianceGapsRequest { framework_id: NIST.into(), ..Default::default() };
        let gaps = rpc.list_compliance_gaps(asked(&viewer(), request)).await.unwrap().into_inner();
        let ranked: Vec<_> = gaps
            .gaps
            .iter()
            .map(|gap| (gap.control.as_ref().unwrap().id.as_str(), gap.missing_count, gap.priority))
            .collect();
        assert_eq!(ranked, [("AC-10", 2, 3.0), ("AC-2(1)", 1, 1.0)]);
        assert_eq!(gaps.gaps[0].missing[0].mitre_id, "T0004");
        store.close().await;
    }
}
