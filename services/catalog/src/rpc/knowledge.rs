//! `KnowledgeService`.

use aegis_auth::OpCtx;
use aegis_error::Failure;
use aegis_proto::catalog::v1::{self as pb, knowledge_service_server::KnowledgeService};
use futures::{TryStreamExt, stream, stream::BoxStream};
use tonic::{Request, Response, Status};

use super::messages;
use crate::{
    app::{
        Catalog,
        export::{self, Known, LogSource, RuleText},
        knowledge::{self, LinkQuery, Query},
        search,
    },
    store::knowledge::{Link, Record},
};

/// See the proto.
pub(crate) struct KnowledgeRpc(pub(crate) Catalog);

#[tonic::async_trait]
impl KnowledgeService for KnowledgeRpc {
    async fn list_knowledge(
        &self,
        request: Request<pb::ListKnowledgeRequest>,
    ) -> Result<Response<pb::ListKnowledgeResponse>, Status> {
        let ctx = OpCtx::of(&request)?;
        let m = request.into_inner();
        let query = Query {
            kind: m.kind,
            page_size: m.page_size,
            page_token: m.page_token,
            skip: m.skip,
            search: m.search,
            source: m.source,
            mitre_technique_id: m.mitre_technique_id,
            severity: m.severity,
            status: m.status,
            country: m.country,
            motivation: m.motivation,
            collection: m.collection,
            platform: m.platform,
            include_revoked: m.include_revoked,
            sort: m.sort,
            implemented: m.implemented,
        };
        let result = knowledge::list(&self.0, &ctx, query).await;
        let page = self.0.outbox.audited(&self.0.db, &ctx, "ListKnowledge", result).await?;
        Ok(Response::new(pb::ListKnowledgeResponse {
            records: page.rows.into_iter().map(record).collect(),
            next_page_token: page.next_page_token,
            total_size: page.total,
        }))
    }

    async fn get_knowledge(
        &self,
        request: Request<pb::GetKnowledgeRequest>,
    ) -> Result<Response<pb::GetKnowledgeResponse>, Status> {
        let ctx = OpCtx::of(&request)?;
        let m = request.into_inner();
        let result = knowledge::get(&self.0, &ctx, &m.kind, &m.id).await;
        let found = self.0.outbox.audited(&self.0.db, &ctx, "GetKnowledge", result).await?;
        Ok(Response::new(pb::GetKnowledgeResponse { record: Some(record(found)) }))
    }

    async fn list_links(
        &self,
        request: Request<pb::ListLinksRequest>,
    ) -> Result<Response<pb::ListLinksResponse>, Status> {
        let ctx = OpCtx::of(&request)?;
        let m = request.into_inner();
        let query = LinkQuery {
            kind: m.kind,
            key: m.key,
            other_kind: m.other_kind,
            page_size: m.page_size,
            page_token: m.page_token,
            skip: m.skip,
            include_revoked: m.include_revoked,
        };
        let result = knowledge::links(&self.0, &ctx, query).await;
        let page = self.0.outbox.audited(&self.0.db, &ctx, "ListLinks", result).await?;
        Ok(Response::new(pb::ListLinksResponse {
            links: page.rows.into_iter().map(link).collect(),
            next_page_token: page.next_page_token,
            total_size: page.total,
        }))
    }

    async fn get_technique_knowledge(
        &self,
        request: Request<pb::GetTechniqueKnowledgeRequest>,
    ) -> Result<Response<pb::GetTechniqueKnowledgeResponse>, Status> {
        let ctx = OpCtx::of(&request)?;
        let result = knowledge::of_technique(&self.0, &ctx, &request.into_inner().mitre_id).await;
        let counts = self.0.outbox.audited(&self.0.db, &ctx, "GetTechniqueKnowledge", result).await?;
        let count = |known: crate::store::knowledge::Known| pb::KnowledgeCount {
            kind: known.kind,
            source: known.source,
            relation: known.relation,
            count: known.count,
        };
        Ok(Response::new(pb::GetTechniqueKnowledgeResponse { counts: counts.into_iter().map(count).collect() }))
    }

    async fn update_defence(
        &self,
        request: Request<pb::UpdateDefenceRequest>,
    ) -> Result<Response<pb::UpdateDefenceResponse>, Status> {
        let ctx = OpCtx::of(&request)?;
        let m = request.into_inner();
        let result = knowledge::update_defence(&self.0, &ctx, &m.id, m.implemented).await;
        let changed = self.0.outbox.audited(&self.0.db, &ctx, "UpdateDefence", result).await?;
        Ok(Response::new(pb::UpdateDefenceResponse { record: Some(record(changed)) }))
    }

    async fn delete_rule(
        &self,
        request: Request<pb::DeleteRuleRequest>,
    ) -> Result<Response<pb::DeleteRuleResponse>, Status> {
        let ctx = OpCtx::of(&request)?;
        let result = knowledge::delete_rule(&self.0, &ctx, &request.into_inner().id).await;
        self.0.outbox.audited(&self.0.db, &ctx, "DeleteRule", result).await?;
        Ok(Response::new(pb::DeleteRuleResponse {}))
    }

    async fn search(&self, request: Request<pb::SearchRequest>) -> Result<Response<pb::SearchResponse>, Status> {
        let ctx = OpCtx::of(&request)?;
        let m = request.into_inner();
        let query = search::Query {
            query: m.query,
            kinds: m.kinds,
            page_size: m.page_size,
            page_token: m.page_token,
            skip: m.skip,
        };
        let result = search::search(&self.0, &ctx, query).await;
        let page = self.0.outbox.audited(&self.0.db, &ctx, "Search", result).await?;
        let hit = |hit: crate::store::search::Hit| pb::SearchHit {
            kind: hit.kind,
            id: hit.id.to_string(),
            key: hit.key,
            name: hit.name,
            source: hit.source,
            excerpt: hit.body.unwrap_or_default(),
        };
        Ok(Response::new(pb::SearchResponse {
            hits: page.rows.into_iter().map(hit).collect(),
            next_page_token: page.next_page_token,
            total_size: page.total,
        }))
    }

    type ListNamesStream = BoxStream<'static, Result<pb::ListNamesResponse, Status>>;

    async fn list_names(
        &self,
        request: Request<pb::ListNamesRequest>,
    ) -> Result<Response<Self::ListNamesStream>, Status> {
        let ctx = OpCtx::of(&request)?;
        let kinds = knowledge::named_kinds(&ctx, &request.into_inner().kinds);
        let mut kinds = self.0.outbox.audited(&self.0.db, &ctx, "ListNames", kinds).await?.into_iter();
        let first = kinds.next().map(|kind| (kind, String::new()));
        let pages = stream::try_unfold((self.0.clone(), kinds, first), |(catalog, mut kinds, at)| async move {
            let Some((kind, after)) = at else { return Ok(None) };
            let (names, last) = knowledge::names(&catalog, kind, &after).await.map_err(Failure::from)?;
            let next = match last {
                Some(last) => Some((kind, last)),
                None => kinds.next().map(|kind| (kind, String::new())),
            };
            let name = |(name, techniques): (crate::store::knowledge::Name, Vec<String>)| pb::Name {
                kind: kind.to_owned(),
                key: name.key,
                name: name.name,
                aliases: name.aliases.0,
                mitre_technique_ids: techniques,
            };
            let page = pb::ListNamesResponse { names: names.into_iter().map(name).collect() };
            Ok::<_, Status>(Some((page, (catalog, kinds, next))))
        });
        // A kind of which there is nothing has no page.
        let pages = pages.try_filter(|page| std::future::ready(!page.names.is_empty()));
        Ok(Response::new(Box::pin(pages)))
    }

    type ExportKnowledgeStream = BoxStream<'static, Result<pb::ExportKnowledgeResponse, Status>>;

    async fn export_knowledge(
        &self,
        request: Request<pb::ExportKnowledgeRequest>,
    ) -> Result<Response<Self::ExportKnowledgeStream>, Status> {
        let ctx = OpCtx::of(&request)?;
        let kinds = export::kinds(&ctx, &request.into_inner().kinds);
        let mut kinds = self.0.outbox.audited(&self.0.db, &ctx, "ExportKnowledge", kinds).await?.into_iter();
        let first = kinds.next().map(|kind| (kind, String::new()));
        let pages = stream::try_unfold((self.0.clone(), kinds, first), |(catalog, mut kinds, at)| async move {
            let Some((kind, after)) = at else { return Ok(None) };
            let (records, last) = export::page(&catalog, kind, &after).await.map_err(Failure::from)?;
            let next = match last {
                Some(last) => Some((kind, last)),
                None => kinds.next().map(|kind| (kind, String::new())),
            };
            let page = pb::ExportKnowledgeResponse { records: records.into_iter().map(known).collect() };
            Ok::<_, Status>(Some((page, (catalog, kinds, next))))
        });
        // A kind of which there is nothing has no page.
        let pages = pages.try_filter(|page| std::future::ready(!page.records.is_empty()));
        Ok(Response::new(Box::pin(pages)))
    }

    type ExportRulesStream = BoxStream<'static, Result<pb::ExportRulesResponse, Status>>;

    async fn export_rules(
        &self,
        request: Request<pb::ExportRulesRequest>,
    ) -> Result<Response<Self::ExportRulesStream>, Status> {
        let ctx = OpCtx::of(&request)?;
        let m = request.into_inner();
        let source = |s: pb::LogSource| LogSource { category: s.category, product: s.product, service: s.service };
        let query = export::rule_query(&ctx, &m.rule_format, m.log_sources.into_iter().map(source).collect());
        let query = self.0.outbox.audited(&self.0.db, &ctx, "ExportRules", query).await?;
        let first = Some(String::new());
        let pages = stream::try_unfold((self.0.clone(), query, first), |(catalog, query, after)| async move {
            let Some(after) = after else { return Ok(None) };
            let (rules, last) = export::rules(&catalog, &query, &after).await.map_err(Failure::from)?;
            let page = pb::ExportRulesResponse { rules: rules.into_iter().map(rule_text).collect() };
            Ok::<_, Status>(Some((page, (catalog, query, last))))
        });
        // Where none of a page is asked for, nothing is said.
        let pages = pages.try_filter(|page| std::future::ready(!page.rules.is_empty()));
        Ok(Response::new(Box::pin(pages)))
    }

    async fn flag_techniques(
        &self,
        request: Request<pb::FlagTechniquesRequest>,
    ) -> Result<Response<pb::FlagTechniquesResponse>, Status> {
        let ctx = OpCtx::of(&request)?;
        let m = request.into_inner();
        let result = knowledge::flag(&self.0, &ctx, m.mitre_ids, &m.reason).await;
        let flagged = self.0.outbox.audited(&self.0.db, &ctx, "FlagTechniques", result).await?;
        Ok(Response::new(pb::FlagTechniquesResponse { flagged: i64::try_from(flagged).unwrap_or(i64::MAX) }))
    }
}

fn known(k: Known) -> pb::KnownRecord {
    pb::KnownRecord {
        kind: k.kind.to_owned(),
        key: k.key,
        id: k.id.to_string(),
        name: k.name,
        collection: k.collection,
        implemented: k.implemented,
        mitre_technique_ids: k.techniques,
        parent: k.parent,
        family: k.family,
        version: k.version,
        attack_version: k.attack_version,
        mapping_source: k.mapping_source,
        position: i32::try_from(k.position).unwrap_or(i32::MAX),
        mitre_id: k.mitre_id,
        aliases: k.aliases,
    }
}

fn rule_text(r: RuleText) -> pb::RuleText {
    pb::RuleText {
        id: r.id.to_string(),
        key: r.key,
        source: r.source,
        name: r.name,
        author: r.author,
        licence: r.licence,
        content: r.content,
        version: r.version,
    }
}

fn record(r: Record) -> pb::Knowledge {
    pb::Knowledge {
        id: r.id.to_string(),
        kind: r.kind,
        key: r.key,
        source: r.source,
        source_id: r.source_id,
        name: r.name,
        description: r.description,
        aliases: r.aliases.0,
        platforms: r.platforms.0,
        url: r.url,
        revoked: r.revoked,
        deprecated: r.deprecated,
        revoked_by: r.revoked_by,
        severity: r.severity,
        status: r.status,
        country: r.country,
        motivation: r.motivation,
        collection: r.collection,
        content: r.content,
        attributes_json: r.attributes,
        implemented: r.implemented,
        mitre_technique_ids: r.techniques,
        created_at: Some(messages::timestamp(r.created_at)),
        updated_at: Some(messages::timestamp(r.updated_at)),
        version: r.version,
    }
}

fn link(l: Link) -> pb::Link {
    pb::Link {
        relation: l.relation,
        outgoing: l.outgoing,
        kind: l.kind,
        key: l.key,
        id: l.id.map(|id| id.to_string()).unwrap_or_default(),
        name: l.name.unwrap_or_default(),
        source: l.source.unwrap_or_default(),
        origin: l.origin,
        description: l.description,
        references_json: l.refs,
    }
}
