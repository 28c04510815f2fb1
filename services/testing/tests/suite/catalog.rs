//! A catalogue of a few fixed techniques and templates.

use std::pin::Pin;

use aegis_error::Failure;
use aegis_proto::catalog::v1::{
    catalog_service_client::CatalogServiceClient, catalog_service_server::*,
    template_service_client::TemplateServiceClient, template_service_server::*, *,
};
use aegis_rpc::RpcService;
use futures::{Stream, StreamExt};
use tonic::{Request, Response, Status, Streaming};

use crate::campaigns_catalog;

pub const POWERSHELL: &str = "01900000-0000-7000-8000-000000000001";
pub const DUMPING: &str = "01900000-0000-7000-8000-000000000002";
/// Revoked by T1059.001.
pub const REVOKED: &str = "01900000-0000-7000-8000-000000000003";
/// Deprecated.
pub const SCRIPTING: &str = "01900000-0000-7000-8000-000000000004";

pub const TEMPLATE: &str = "01900000-0000-7000-8000-0000000000a1";
pub const INACTIVE: &str = "01900000-0000-7000-8000-0000000000a2";

type Answer<T> = Result<Response<T>, Status>;

struct Catalog;

fn technique(id: &str, mitre_id: &str, name: &str) -> Technique {
    Technique { id: id.into(), mitre_id: mitre_id.into(), name: name.into(), ..Technique::default() }
}

fn techniques() -> [Technique; 4] {
    [
        technique(POWERSHELL, "T1059.001", "PowerShell"),
        technique(DUMPING, "T1003", "OS Credential Dumping"),
        Technique { revoked: true, revoked_by: Some("T1059.001".into()), ..technique(REVOKED, "T1086", "PowerShell") },
        Technique { deprecated: true, ..technique(SCRIPTING, "T1064", "Scripting") },
    ]
}

fn templates() -> [Template; 2] {
    let template = Template {
        id: TEMPLATE.into(),
        name: "Encoded command".into(),
        description: Some("Runs an encoded command".into()),
        mitre_technique_id: "T1059.001".into(),
        platform: Some("Windows".into()),
        attack_procedure: Some("powershell -enc …".into()),
        tool_suggested: Some("powershell".into()),
        suggested_remediation: Some("Turn on script block logging".into()),
        is_active: true,
        ..Template::default()
    };
    [template.clone(), Template { id: INACTIVE.into(), is_active: false, ..template }]
}

/// A call on behalf of somebody names the request it belongs to.
pub fn belongs<T>(request: Request<T>) -> Result<T, Status> {
    if request.metadata().contains_key(aegis_auth::REQUEST_ID_HEADER) {
        Ok(request.into_inner())
    } else {
        Err(Status::unauthenticated("a call without its caller's context"))
    }
}

#[tonic::async_trait]
impl CatalogService for Catalog {
    async fn get_technique(&self, request: Request<GetTechniqueRequest>) -> Answer<GetTechniqueResponse> {
        let key = belongs(request)?.key.unwrap();
        let found = techniques().into_iter().find(|technique| match &key {
            get_technique_request::Key::Id(id) => technique.id == *id,
            get_technique_request::Key::MitreId(id) => technique.mitre_id == *id,
        });
        match found {
            Some(technique) => Ok(Response::new(GetTechniqueResponse { technique: Some(technique) })),
            None => Err(Failure::not_found("technique", "?").into()),
        }
    }

    async fn list_techniques(&self, request: Request<ListTechniquesRequest>) -> Answer<ListTechniquesResponse> {
        Ok(Response::new(campaigns_catalog::list_techniques(belongs(request)?)))
    }
    async fn create_technique(&self, _: Request<CreateTechniqueRequest>) -> Answer<CreateTechniqueResponse> {
        Err(Status::unimplemented(""))
    }
    async fn update_technique(&self, _: Request<UpdateTechniqueRequest>) -> Answer<UpdateTechniqueResponse> {
        Err(Status::unimplemented(""))
    }
    async fn review_technique(&self, _: Request<ReviewTechniqueRequest>) -> Answer<ReviewTechniqueResponse> {
        Err(Status::unimplemented(""))
    }
    async fn list_tactics(&self, request: Request<ListTacticsRequest>) -> Answer<ListTacticsResponse> {
        belongs(request)?;
        Ok(Response::new(campaigns_catalog::list_tactics()))
    }
    async fn import_knowledge(&self, _: Request<Streaming<ImportKnowledgeRequest>>) -> Answer<ImportKnowledgeResponse> {
        Err(Status::unimplemented(""))
    }
    type ExportTechniquesStream = Pin<Box<dyn Stream<Item = Result<ExportTechniquesResponse, Status>> + Send>>;
    async fn export_techniques(&self, _: Request<ExportTechniquesRequest>) -> Answer<Self::ExportTechniquesStream> {
        Ok(Response::new(futures::stream::empty().boxed()))
    }
    async fn get_rebuild_start(&self, _: Request<GetRebuildStartRequest>) -> Answer<GetRebuildStartResponse> {
        Err(Status::unimplemented(""))
    }
    async fn rebuild_statuses(&self, _: Request<Streaming<RebuildStatusesRequest>>) -> Answer<RebuildStatusesResponse> {
        Err(Status::unimplemented(""))
    }
}

#[tonic::async_trait]
impl TemplateService for Catalog {
    async fn get_template(&self, request: Request<GetTemplateRequest>) -> Answer<GetTemplateResponse> {
        let id = belongs(request)?.id;
        match templates().into_iter().find(|template| template.id == id) {
            Some(template) => Ok(Response::new(GetTemplateResponse { template: Some(template) })),
            None => Err(Failure::not_found("template", "?").into()),
        }
    }

    async fn list_templates(&self, _: Request<ListTemplatesRequest>) -> Answer<ListTemplatesResponse> {
        Err(Status::unimplemented(""))
    }
    async fn pick_templates(&self, request: Request<PickTemplatesRequest>) -> Answer<PickTemplatesResponse> {
        Ok(Response::new(campaigns_catalog::pick_templates(belongs(request)?)))
    }
    async fn create_template(&self, _: Request<CreateTemplateRequest>) -> Answer<CreateTemplateResponse> {
        Err(Status::unimplemented(""))
    }
    async fn get_template_stats(&self, _: Request<GetTemplateStatsRequest>) -> Answer<GetTemplateStatsResponse> {
        Err(Status::unimplemented(""))
    }
    async fn toggle_template_active(
        &self,
        _: Request<ToggleTemplateActiveRequest>,
    ) -> Answer<ToggleTemplateActiveResponse> {
        Err(Status::unimplemented(""))
    }
}

pub fn techniques_client() -> CatalogServiceClient<RpcService> {
    CatalogServiceClient::new(aegis_rpc::local(CatalogServiceServer::new(Catalog)))
}

pub fn templates_client() -> TemplateServiceClient<RpcService> {
    TemplateServiceClient::new(aegis_rpc::local(TemplateServiceServer::new(Catalog)))
}

/// A catalogue that is down.
pub fn no_techniques_client() -> CatalogServiceClient<RpcService> {
    CatalogServiceClient::new(RpcService::new(tower::service_fn(|_| async {
        Err(Status::unavailable("connection refused to 10.0.0.7:5003"))
    })))
}
