//! `CatalogService`.

use aegis_auth::OpCtx;
use aegis_db::now;
use aegis_error::Failure;
use aegis_proto::catalog::v1::{
    self as pb, catalog_service_server::CatalogService, get_technique_request, import_knowledge_request::Part,
};
use futures::{TryStreamExt, stream, stream::BoxStream};
use prost::Message;
use tonic::{Request, Response, Status, Streaming};
use uuid::Uuid;

use super::messages;
use crate::{
    app::{
        Catalog,
        import::{self, Document},
        statuses, techniques,
    },
    cache::Key,
    error::Error,
    events::{id, time},
    store::facts::TestFact,
};

/// Techniques of one message of an export.
const EXPORTED: i64 = 500;
/// Facts of a rebuild at most.
const MAX_FACTS: usize = 5_000_000;

/// See the proto.
pub(crate) struct CatalogRpc(pub(crate) Catalog);

#[tonic::async_trait]
impl CatalogService for CatalogRpc {
    async fn list_techniques(
        &self,
        request: Request<pb::ListTechniquesRequest>,
    ) -> Result<Response<pb::ListTechniquesResponse>, Status> {
        let ctx = OpCtx::of(&request)?;
        let m = request.into_inner();
        let query = techniques::Query {
            page_size: m.page_size,
            page_token: m.page_token,
            skip: m.skip,
            tactic: m.tactic,
            status: m.status,
            review_required: m.review_required,
            include_revoked: m.include_revoked,
            domain: m.domain,
            platform: m.platform,
            search: m.search,
            is_subtechnique: m.is_subtechnique,
            sort: m.sort,
        };
        let result = techniques::list(&self.0, &ctx, query).await;
        let page = self.0.outbox.audited(&self.0.db, &ctx, "ListTechniques", result).await?;
        Ok(Response::new(pb::ListTechniquesResponse {
            techniques: page.rows.into_iter().map(messages::technique).collect(),
            next_page_token: page.next_page_token,
            total_size: page.total,
        }))
    }

    async fn get_technique(
        &self,
        request: Request<pb::GetTechniqueRequest>,
    ) -> Result<Response<pb::GetTechniqueResponse>, Status> {
        let ctx = OpCtx::of(&request)?;
        let key = match request.into_inner().key {
            Some(get_technique_request::Key::MitreId(mitre_id)) => Key::MitreId(mitre_id),
            Some(get_technique_request::Key::Id(text)) => Key::Id(id("id", &text)?),
            None => return Err(Failure::invalid("mitre_id", "an id is needed").into()),
        };
        let result = techniques::get(&self.0, &ctx, key).await;
        let found = self.0.outbox.audited(&self.0.db, &ctx, "GetTechnique", result).await?;
        Ok(Response::new(pb::GetTechniqueResponse { technique: Some(messages::found(&found)) }))
    }

    async fn create_technique(
        &self,
        request: Request<pb::CreateTechniqueRequest>,
    ) -> Result<Response<pb::CreateTechniqueResponse>, Status> {
        let ctx = OpCtx::of(&request)?;
        let m = request.into_inner();
        let new = techniques::NewTechnique {
            mitre_id: m.mitre_id,
            name: m.name,
            description: m.description,
            tactics: m.tactics,
            platforms: m.platforms,
            domain: m.domain,
        };
        let result = techniques::create(&self.0, &ctx, new).await;
        let technique = self.0.outbox.audited(&self.0.db, &ctx, "CreateTechnique", result).await?;
        Ok(Response::new(pb::CreateTechniqueResponse { technique: Some(messages::technique(technique)) }))
    }

    async fn update_technique(
        &self,
        request: Request<pb::UpdateTechniqueRequest>,
    ) -> Result<Response<pb::UpdateTechniqueResponse>, Status> {
        let ctx = OpCtx::of(&request)?;
        let m = request.into_inner();
        let change = techniques::Change {
            name: m.name,
            description: m.description,
            clear_description: m.clear_description,
            tactics: m.tactics.map(|list| list.values),
            platforms: m.platforms.map(|list| list.values),
            status_global: m.status_global,
            clear_status_global: m.clear_status_global,
        };
        let result = techniques::update(&self.0, &ctx, &m.mitre_id, change).await;
        let technique = self.0.outbox.audited(&self.0.db, &ctx, "UpdateTechnique", result).await?;
        Ok(Response::new(pb::UpdateTechniqueResponse { technique: Some(messages::technique(technique)) }))
    }

    async fn review_technique(
        &self,
        request: Request<pb::ReviewTechniqueRequest>,
    ) -> Result<Response<pb::ReviewTechniqueResponse>, Status> {
        let ctx = OpCtx::of(&request)?;
        let result = techniques::review(&self.0, &ctx, &request.into_inner().mitre_id).await;
        let technique = self.0.outbox.audited(&self.0.db, &ctx, "ReviewTechnique", result).await?;
        Ok(Response::new(pb::ReviewTechniqueResponse { technique: Some(messages::technique(technique)) }))
    }

    async fn list_tactics(
        &self,
        request: Request<pb::ListTacticsRequest>,
    ) -> Result<Response<pb::ListTacticsResponse>, Status> {
        let ctx = OpCtx::of(&request)?;
        let result = techniques::list_tactics(&self.0, &ctx, request.into_inner().domain).await;
        let tactics = self.0.outbox.audited(&self.0.db, &ctx, "ListTactics", result).await?;
        Ok(Response::new(pb::ListTacticsResponse { tactics: tactics.into_iter().map(messages::tactic).collect() }))
    }

    async fn import_knowledge(
        &self,
        request: Request<Streaming<pb::ImportKnowledgeRequest>>,
    ) -> Result<Response<pb::ImportKnowledgeResponse>, Status> {
        let ctx = OpCtx::of(&request)?;
        let result = self.import(&ctx, request.into_inner()).await;
        self.0.outbox.audited(&self.0.db, &ctx, "ImportKnowledge", result).await.map(Response::new)
    }

    type ExportTechniquesStream = BoxStream<'static, Result<pb::ExportTechniquesResponse, Status>>;

    async fn export_techniques(
        &self,
        request: Request<pb::ExportTechniquesRequest>,
    ) -> Result<Response<Self::ExportTechniquesStream>, Status> {
        let ctx = OpCtx::of(&request)?;
        let may = ctx.user().map(|_| ());
        self.0.outbox.audited(&self.0.db, &ctx, "ExportTechniques", may).await?;
        let pages = stream::try_unfold((self.0.clone(), Some(Uuid::nil())), |(catalog, after)| async move {
            let Some(after) = after else { return Ok(None) };
            let rows = techniques::export(&catalog, after, EXPORTED).await.map_err(Failure::from)?;
            let Some(last) = rows.last().map(|row| row.id) else { return Ok(None) };
            let more = rows.len() as i64 == EXPORTED;
            let releases = techniques::releases(&catalog).await.map_err(Failure::from)?;
            let techniques = rows.into_iter().map(|row| messages::exported(row, &releases)).collect();
            let page = pb::ExportTechniquesResponse { techniques };
            Ok::<_, Status>(Some((page, (catalog, more.then_some(last)))))
        });
        Ok(Response::new(Box::pin(pages.into_stream())))
    }

    async fn get_rebuild_start(
        &self,
        request: Request<pb::GetRebuildStartRequest>,
    ) -> Result<Response<pb::GetRebuildStartResponse>, Status> {
        let ctx = OpCtx::of(&request)?;
        let may = statuses::may_rebuild(&ctx);
        self.0.outbox.audited(&self.0.db, &ctx, "GetRebuildStart", may).await?;
        Ok(Response::new(pb::GetRebuildStartResponse { started_at: Some(messages::timestamp(now())) }))
    }

    async fn rebuild_statuses(
        &self,
        request: Request<Streaming<pb::RebuildStatusesRequest>>,
    ) -> Result<Response<pb::RebuildStatusesResponse>, Status> {
        let ctx = OpCtx::of(&request)?;
        let result = self.rebuild(&ctx, request.into_inner()).await;
        let techniques_changed = self.0.outbox.audited(&self.0.db, &ctx, "RebuildStatuses", result).await?;
        Ok(Response::new(pb::RebuildStatusesResponse { techniques_changed }))
    }
}

impl CatalogRpc {
    async fn import(
        &self,
        ctx: &OpCtx,
        mut parts: Streaming<pb::ImportKnowledgeRequest>,
    ) -> Result<pb::ImportKnowledgeResponse, Error> {
        // Before a document of megabytes is taken in for nothing.
        import::may_import(ctx)?;
        let mut document = Document::default();
        let (mut begun, mut bytes) = (false, 0);
        loop {
            let Some(message) = parts.message().await.map_err(Failure::from)? else {
                return Err(Error::Document("the document ended before it was complete; nothing was changed".into()));
            };
            bytes += message.encoded_len();
            import::too_large(&document, bytes)?;
            match message.part {
                Some(Part::Header(header)) if !begun => {
                    begun = true;
                    document.header = messages::header(header);
                }
                Some(Part::Techniques(batch)) if begun => {
                    document.techniques.extend(batch.techniques.into_iter().map(messages::technique_record));
                }
                Some(Part::Tactics(batch)) if begun => {
                    document.tactics.extend(batch.tactics.into_iter().map(messages::tactic_record));
                }
                Some(Part::Templates(batch)) if begun => {
                    document.templates.extend(batch.templates.into_iter().map(messages::template_record));
                }
                Some(Part::Knowledge(batch)) if begun => {
                    document.knowledge.extend(batch.records.into_iter().map(messages::knowledge_record));
                }
                Some(Part::Links(batch)) if begun => {
                    document.links.extend(batch.links.into_iter().map(messages::link_record));
                }
                Some(Part::Commit(true)) if begun => break,
                Some(Part::Commit(_)) | None => {
                    return Err(
                        Failure::invalid("part", "every message brings records, the last one commit = true").into()
                    );
                }
                Some(_) => {
                    return Err(Failure::invalid("part", "the first message, and only that, is the header").into());
                }
            }
        }
        Ok(messages::outcome(import::import(&self.0, ctx, document).await?))
    }

    async fn rebuild(&self, ctx: &OpCtx, mut parts: Streaming<pb::RebuildStatusesRequest>) -> Result<i64, Error> {
        statuses::may_rebuild(ctx)?;
        let called = now();
        let mut started = None;
        let mut facts: Vec<TestFact> = Vec::new();
        while let Some(message) = parts.message().await.map_err(Failure::from)? {
            started = started.or(message.started_at.and_then(time));
            for fact in message.tests {
                facts.push(messages::test_fact(fact)?);
            }
            if facts.len() > MAX_FACTS {
                return Err(Error::TooLarge(format!("a rebuild takes at most {MAX_FACTS} tests; nothing was changed")));
            }
        }
        statuses::rebuild(&self.0, ctx, facts, started.unwrap_or(called)).await
    }
}
