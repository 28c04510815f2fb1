//! `AuditService`.

use aegis_auth::{OpCtx, Role};
use aegis_error::Failure;
use aegis_proto::identity::v1::{self as pb, audit_service_server::AuditService};
use futures::{StreamExt, stream, stream::BoxStream};
use prost_types::Timestamp;
use tonic::{Request, Response, Status};

use crate::{
    app::{AuditFilter, AuditQuery, Verdict},
    domain::audit::Record,
};

use super::{Rpc, date, timestamp};

#[tonic::async_trait]
impl AuditService for Rpc {
    type ExportAuditLogsStream = BoxStream<'static, Result<pb::ExportAuditLogsResponse, Status>>;

    async fn list_audit_logs(
        &self,
        request: Request<pb::ListAuditLogsRequest>,
    ) -> Result<Response<pb::ListAuditLogsResponse>, Status> {
        let ctx = OpCtx::of(&request)?;
        let r = request.into_inner();
        let result = async {
            let filter = filter(&ctx, r.user_id, r.action, r.entity_type, r.start_date, r.end_date)?;
            let query = AuditQuery { page_size: r.page_size, page_token: r.page_token, skip: r.skip, filter };
            self.0.list_audit(&ctx, query).await
        };
        self.answer(&ctx, "ListAuditLogs", result, |(records, next_page_token, total_size)| pb::ListAuditLogsResponse {
            items: records.into_iter().map(message).collect(),
            next_page_token,
            total_size,
        })
        .await
    }

    async fn list_audit_actions(
        &self,
        request: Request<pb::ListAuditActionsRequest>,
    ) -> Result<Response<pb::ListAuditActionsResponse>, Status> {
        let ctx = OpCtx::of(&request)?;
        self.answer(&ctx, "ListAuditActions", self.0.audit_actions(&ctx), |actions| pb::ListAuditActionsResponse {
            actions,
        })
        .await
    }

    async fn list_audit_entity_types(
        &self,
        request: Request<pb::ListAuditEntityTypesRequest>,
    ) -> Result<Response<pb::ListAuditEntityTypesResponse>, Status> {
        let ctx = OpCtx::of(&request)?;
        self.answer(&ctx, "ListAuditEntityTypes", self.0.audit_entity_types(&ctx), |entity_types| {
            pb::ListAuditEntityTypesResponse { entity_types }
        })
        .await
    }

    async fn verify_audit_chain(
        &self,
        request: Request<pb::VerifyAuditChainRequest>,
    ) -> Result<Response<pb::VerifyAuditChainResponse>, Status> {
        let ctx = OpCtx::of(&request)?;
        self.answer(&ctx, "VerifyAuditChain", self.0.verify_audit(&ctx), |verdict| {
            let Verdict { records, head, broken, anchor, pruned_at } = verdict;
            pb::VerifyAuditChainResponse {
                valid: broken.is_none(),
                records,
                first_broken_seq: broken.as_ref().map_or(0, |at| at.seq),
                reason: broken.map(|at| at.reason.to_owned()).unwrap_or_default(),
                head: hex::encode(head.hash),
                pruned_through_seq: anchor.seq,
                pruned_through_hash: if anchor.seq > 0 { hex::encode(anchor.hash) } else { String::new() },
                pruned_at: pruned_at.map(timestamp),
            }
        })
        .await
    }

    async fn export_audit_logs(
        &self,
        request: Request<pb::ExportAuditLogsRequest>,
    ) -> Result<Response<Self::ExportAuditLogsStream>, Status> {
        let ctx = OpCtx::of(&request)?;
        let r = request.into_inner();
        let result = async {
            let filter = filter(&ctx, r.user_id, r.action, r.entity_type, r.start_date, r.end_date)?;
            self.0.export_audit(&ctx, filter).await
        };
        self.answer(&ctx, "ExportAuditLogs", result, |export| {
            stream::try_unfold(export, |mut export| async {
                let part = export.next().await?;
                Ok::<_, Failure>(part.map(|part| (part, export)))
            })
            .map(|part| match part {
                Ok(part) => Ok(pb::ExportAuditLogsResponse {
                    lines: part.lines,
                    records: i32::try_from(part.records).unwrap_or(i32::MAX),
                }),
                Err(failure) => Err(Status::from(failure)),
            })
            .boxed()
        })
        .await
    }
}

/// Which records a request is about. Dates that are none are refused after those who may not ask at all.
fn filter(
    ctx: &OpCtx,
    user_id: Option<String>,
    action: Option<String>,
    entity_type: Option<String>,
    start_date: Option<Timestamp>,
    end_date: Option<Timestamp>,
) -> Result<AuditFilter, Failure> {
    ctx.require(&[Role::Admin])?;
    let (start_date, end_date) = (date("start_date", start_date)?, date("end_date", end_date)?);
    Ok(AuditFilter { user_id, action, entity_type, start_date, end_date })
}

fn message(record: Record) -> pb::AuditLog {
    let entry = record.entry;
    pb::AuditLog {
        id: entry.id.to_string(),
        seq: record.seq,
        user_id: entry.user_id.map(|id| id.to_string()).unwrap_or_default(),
        username: entry.username,
        action: entry.action,
        entity_type: entry.entity_type,
        entity_id: entry.entity_id,
        timestamp: Some(timestamp(entry.at)),
        details_json: entry.details,
        success: entry.success,
        address: entry.address,
        user_agent: entry.user_agent,
        request_id: entry.request_id,
        source: entry.source,
        prev_hash: record.prev_hash.map(hex::encode).unwrap_or_default(),
        hash: hex::encode(record.hash),
    }
}
