//! `TemplateService`.

use aegis_auth::OpCtx;
use aegis_proto::catalog::v1::{self as pb, template_service_server::TemplateService};
use tonic::{Request, Response, Status};

use super::messages;
use crate::{
    app::{
        Catalog,
        templates::{self, NewTemplate, Query},
    },
    events::id,
};

/// See the proto.
pub(crate) struct TemplateRpc(pub(crate) Catalog);

#[tonic::async_trait]
impl TemplateService for TemplateRpc {
    async fn list_templates(
        &self,
        request: Request<pb::ListTemplatesRequest>,
    ) -> Result<Response<pb::ListTemplatesResponse>, Status> {
        let ctx = OpCtx::of(&request)?;
        let m = request.into_inner();
        let query = Query {
            page_size: m.page_size,
            page_token: m.page_token,
            skip: m.skip,
            source: m.source,
            platform: m.platform,
            severity: m.severity,
            search: m.search,
            mitre_technique_id: m.mitre_technique_id,
            is_active: m.is_active,
            sort: m.sort,
        };
        let result = templates::list(&self.0, &ctx, query).await;
        let page = self.0.outbox.audited(&self.0.db, &ctx, "ListTemplates", result).await?;
        Ok(Response::new(pb::ListTemplatesResponse {
            templates: page.rows.into_iter().map(messages::template).collect(),
            next_page_token: page.next_page_token,
            total_size: page.total,
        }))
    }

    async fn get_template(
        &self,
        request: Request<pb::GetTemplateRequest>,
    ) -> Result<Response<pb::GetTemplateResponse>, Status> {
        let ctx = OpCtx::of(&request)?;
        let id = id("id", &request.into_inner().id)?;
        let result = templates::get(&self.0, &ctx, id).await;
        let template = self.0.outbox.audited(&self.0.db, &ctx, "GetTemplate", result).await?;
        Ok(Response::new(pb::GetTemplateResponse { template: Some(messages::template(template)) }))
    }

    async fn pick_templates(
        &self,
        request: Request<pb::PickTemplatesRequest>,
    ) -> Result<Response<pb::PickTemplatesResponse>, Status> {
        let ctx = OpCtx::of(&request)?;
        let m = request.into_inner();
        let result = templates::pick(&self.0, &ctx, m.mitre_ids, m.per_technique, m.platform).await;
        let best = self.0.outbox.audited(&self.0.db, &ctx, "PickTemplates", result).await?;
        Ok(Response::new(pb::PickTemplatesResponse { templates: best.into_iter().map(messages::template).collect() }))
    }

    async fn create_template(
        &self,
        request: Request<pb::CreateTemplateRequest>,
    ) -> Result<Response<pb::CreateTemplateResponse>, Status> {
        let ctx = OpCtx::of(&request)?;
        let m = request.into_inner();
        let new = NewTemplate {
            name: m.name,
            description: m.description,
            mitre_technique_id: m.mitre_technique_id,
            platform: m.platform,
            severity: m.severity,
            attack_procedure: m.attack_procedure,
            tool_suggested: m.tool_suggested,
            suggested_remediation: m.suggested_remediation,
            expected_detection: m.expected_detection,
            cleanup_procedure: m.cleanup_procedure,
        };
        let result = templates::create(&self.0, &ctx, new).await;
        let template = self.0.outbox.audited(&self.0.db, &ctx, "CreateTemplate", result).await?;
        Ok(Response::new(pb::CreateTemplateResponse { template: Some(messages::template(template)) }))
    }

    async fn get_template_stats(
        &self,
        request: Request<pb::GetTemplateStatsRequest>,
    ) -> Result<Response<pb::GetTemplateStatsResponse>, Status> {
        let ctx = OpCtx::of(&request)?;
        let result = templates::stats(&self.0, &ctx).await;
        let stats = self.0.outbox.audited(&self.0.db, &ctx, "GetTemplateStats", result).await?;
        Ok(Response::new(pb::GetTemplateStatsResponse {
            total: stats.active + stats.inactive,
            active: stats.active,
            inactive: stats.inactive,
            by_source: stats.by_source.into_iter().collect(),
            by_platform: stats.by_platform.into_iter().collect(),
        }))
    }

    async fn toggle_template_active(
        &self,
        request: Request<pb::ToggleTemplateActiveRequest>,
    ) -> Result<Response<pb::ToggleTemplateActiveResponse>, Status> {
        let ctx = OpCtx::of(&request)?;
        let id = id("id", &request.into_inner().id)?;
        let result = templates::toggle(&self.0, &ctx, id).await;
        let template = self.0.outbox.audited(&self.0.db, &ctx, "ToggleTemplateActive", result).await?;
        Ok(Response::new(pb::ToggleTemplateActiveResponse { template: Some(messages::template(template)) }))
    }
}
