//! `ComplianceService`.

use aegis_auth::OpCtx;
use aegis_proto::analytics::v1::{self as pb, compliance_service_server::ComplianceService};
use tonic::{Request, Response, Status};

use super::{Rpc, timestamp};
use crate::{
    app::compliance::{ControlDetail, ControlQuery, ControlRow, GapRow, Summary, TechniqueRow},
    domain::{compliance::Counts, matrix::Framework},
    store::behind::Behind,
};

#[tonic::async_trait]
impl ComplianceService for Rpc {
    async fn list_frameworks(
        &self,
        request: Request<pb::ListFrameworksRequest>,
    ) -> Result<Response<pb::ListFrameworksResponse>, Status> {
        let ctx = OpCtx::of(&request)?;
        let request = request.into_inner();
        let result = self.app.list_frameworks(&ctx, request.page_size, &request.page_token, request.skip).await;
        let result = result.map(|page| pb::ListFrameworksResponse {
            frameworks: page.rows.into_iter().map(framework_summary).collect(),
            next_page_token: page.next_page_token,
            total_size: page.total,
            as_of: page.as_of.map(timestamp),
        });
        self.answer(&ctx, "ListFrameworks", result).await
    }

    async fn list_control_coverage(
        &self,
        request: Request<pb::ListControlCoverageRequest>,
    ) -> Result<Response<pb::ListControlCoverageResponse>, Status> {
        let ctx = OpCtx::of(&request)?;
        let request = request.into_inner();
        let query = ControlQuery {
            framework_id: request.framework_id,
            page_size: request.page_size,
            page_token: request.page_token,
            skip: request.skip,
            search: request.search,
            mitre_technique_id: request.mitre_technique_id,
            status: request.status,
            family: request.family,
        };
        let result = self.app.list_controls(&ctx, query).await;
        let result = result.map(|page| pb::ListControlCoverageResponse {
            framework: Some(framework(page.framework)),
            controls: page.rows.into_iter().map(control).collect(),
            next_page_token: page.next_page_token,
            total_size: page.total,
            as_of: page.as_of.map(timestamp),
        });
        self.answer(&ctx, "ListControlCoverage", result).await
    }

    async fn get_control_coverage(
        &self,
        request: Request<pb::GetControlCoverageRequest>,
    ) -> Result<Response<pb::GetControlCoverageResponse>, Status> {
        let ctx = OpCtx::of(&request)?;
        let request = request.into_inner();
        let result = self.app.get_control(&ctx, &request.framework_id, &request.control_id).await;
        self.answer(&ctx, "GetControlCoverage", result.map(detail)).await
    }

    async fn get_compliance_summary(
        &self,
        request: Request<pb::GetComplianceSummaryRequest>,
    ) -> Result<Response<pb::GetComplianceSummaryResponse>, Status> {
        let ctx = OpCtx::of(&request)?;
        let result = self.app.compliance_summary(&ctx, &request.get_ref().framework_id).await;
        self.answer(&ctx, "GetComplianceSummary", result.map(summary)).await
    }

    async fn list_compliance_gaps(
        &self,
        request: Request<pb::ListComplianceGapsRequest>,
    ) -> Result<Response<pb::ListComplianceGapsResponse>, Status> {
        let ctx = OpCtx::of(&request)?;
        let request = request.into_inner();
        let result =
            self.app.list_gaps(&ctx, &request.framework_id, request.page_size, &request.page_token, request.skip).await;
        let result = result.map(|page| pb::ListComplianceGapsResponse {
            framework: Some(framework(page.framework)),
            gaps: page.rows.into_iter().map(gap).collect(),
            next_page_token: page.next_page_token,
            total_size: page.total,
            as_of: page.as_of.map(timestamp),
        });
        self.answer(&ctx, "ListComplianceGaps", result).await
    }
}

fn framework(framework: Framework) -> pb::FrameworkRef {
    pb::FrameworkRef {
        id: framework.key,
        name: framework.name,
        version: framework.version,
        attack_version: framework.attack_version,
        mapping_source: framework.mapping_source,
    }
}

fn control(row: ControlRow) -> pb::ControlCoverage {
    pb::ControlCoverage {
        id: row.control.id,
        uuid: row.control.uuid.to_string(),
        name: row.control.name,
        family: row.control.family,
        parent_id: row.control.parent,
        status: row.verdict.as_str().to_owned(),
        techniques: row.techniques,
        covered_techniques: row.covered,
        coverage_percentage: row.percentage,
        mitre_technique_ids: row.control.techniques.iter().map(ToString::to_string).collect(),
        score: row.score,
    }
}

fn technique(row: TechniqueRow) -> pb::ControlTechnique {
    pb::ControlTechnique {
        technique_id: row.technique.id.to_string(),
        mitre_id: row.technique.mitre_id.to_string(),
        name: row.technique.name,
        status: row.technique.status.as_str().to_owned(),
        score: row.score,
        threat_actors: row.users,
        tests: row.tests.into_iter().map(test).collect(),
        validated_tests: row.technique.tests.validated,
    }
}

fn test(test: Behind) -> pb::ControlTest {
    pb::ControlTest {
        id: test.test_id.to_string(),
        name: test.name,
        detection_result: test.detection_result,
        validated_at: test.validated_at.map(timestamp),
    }
}

fn detail(detail: ControlDetail) -> pb::GetControlCoverageResponse {
    pb::GetControlCoverageResponse {
        framework: Some(framework(detail.framework)),
        control: Some(control(detail.control)),
        techniques: detail.techniques.into_iter().map(technique).collect(),
        unknown_mitre_ids: detail.unknown,
        as_of: detail.as_of.map(timestamp),
    }
}

fn summary(summary: Summary) -> pb::GetComplianceSummaryResponse {
    let counts = summary.counts;
    let families = summary.families.into_iter().map(|(family, counts)| pb::FamilySummary {
        family,
        total: counts.total,
        covered: counts.covered,
        partial: counts.partial,
        gaps: counts.gaps,
        not_applicable: counts.not_applicable,
    });
    pb::GetComplianceSummaryResponse {
        framework: Some(framework(summary.framework)),
        total: counts.total,
        covered: counts.covered,
        partial: counts.partial,
        gaps: counts.gaps,
        not_applicable: counts.not_applicable,
        compliance_percentage: counts.percentage(),
        families: families.collect(),
        as_of: summary.as_of.map(timestamp),
    }
}

fn framework_summary((of, counts): (Framework, Counts)) -> pb::FrameworkSummary {
    pb::FrameworkSummary {
        framework: Some(framework(of)),
        total: counts.total,
        covered: counts.covered,
        partial: counts.partial,
        gaps: counts.gaps,
        not_applicable: counts.not_applicable,
        compliance_percentage: counts.percentage(),
    }
}

fn gap(gap: GapRow) -> pb::ComplianceGap {
    pb::ComplianceGap {
        control: Some(control(gap.control)),
        missing: gap.missing.into_iter().map(technique).collect(),
        missing_count: gap.missing_count,
        priority: gap.priority,
    }
}
