//! The gRPC side of observations.

use std::pin::Pin;

use aegis_auth::OpCtx;
use aegis_proto::deception::v1::{self as pb, observation_service_server::ObservationService};
use futures::{Stream, StreamExt, stream};
use tonic::{Request, Response, Status};

use super::{Rpc, timestamp};
use crate::{
    app::{follow::at, observations::TaggingRule},
    store::observations::{Observed, Row},
};

/// Techniques of one message of an export.
const TECHNIQUES: usize = 500;

#[tonic::async_trait]
impl ObservationService for Rpc {
    async fn list_observations(
        &self,
        request: Request<pb::ListObservationsRequest>,
    ) -> Result<Response<pb::ListObservationsResponse>, Status> {
        let ctx = OpCtx::of(&request)?;
        let pb::ListObservationsRequest { mitre_id, page_size, page_token, skip } = request.into_inner();
        let app = &self.app;
        let result = app.list_observations(&ctx, &mitre_id, page_size, &page_token, skip).await;
        let (rows, next_page_token, total_size) = app.outbox.audited(&app.db, &ctx, "ListObservations", result).await?;
        let observations = rows.into_iter().map(observation).collect();
        Ok(Response::new(pb::ListObservationsResponse { observations, next_page_token, total_size }))
    }

    async fn list_attacker_techniques(
        &self,
        request: Request<pb::ListAttackerTechniquesRequest>,
    ) -> Result<Response<pb::ListAttackerTechniquesResponse>, Status> {
        let ctx = OpCtx::of(&request)?;
        let app = &self.app;
        let result = app.list_attacker_techniques(&ctx, &request.into_inner().uuid).await;
        let rows = app.outbox.audited(&app.db, &ctx, "ListAttackerTechniques", result).await?;
        let techniques = rows.into_iter().map(observation).collect();
        Ok(Response::new(pb::ListAttackerTechniquesResponse { techniques }))
    }

    async fn list_tagging_rules(
        &self,
        request: Request<pb::ListTaggingRulesRequest>,
    ) -> Result<Response<pb::ListTaggingRulesResponse>, Status> {
        let ctx = OpCtx::of(&request)?;
        let app = &self.app;
        let rules = app.list_tagging_rules(&ctx);
        let rules = app.outbox.audited(&app.db, &ctx, "ListTaggingRules", rules).await?;
        let rule = |rule: TaggingRule| pb::TaggingRule {
            id: rule.id,
            mitre_ids: rule.techniques,
            reason: rule.reason,
            source: rule.source.to_owned(),
            name: rule.name,
            author: rule.author,
            licence: rule.licence,
            problem: rule.problem,
        };
        Ok(Response::new(pb::ListTaggingRulesResponse { rules: rules.into_iter().map(rule).collect() }))
    }

    async fn get_observed_procedure(
        &self,
        request: Request<pb::GetObservedProcedureRequest>,
    ) -> Result<Response<pb::GetObservedProcedureResponse>, Status> {
        let ctx = OpCtx::of(&request)?;
        let app = &self.app;
        let result = app.observed_procedure(&ctx, &request.into_inner().mitre_id).await;
        let (procedure, observed) = app.outbox.audited(&app.db, &ctx, "GetObservedProcedure", result).await?;
        Ok(Response::new(pb::GetObservedProcedureResponse {
            procedure,
            attackers: observed.as_ref().map_or(0, |observed| observed.attackers),
            count: observed.as_ref().map_or(0, |observed| observed.count),
            last_seen: observed.map(|observed| timestamp(at(observed.last_seen))),
        }))
    }

    type ExportObservationsStream = Pin<Box<dyn Stream<Item = Result<pb::ExportObservationsResponse, Status>> + Send>>;

    async fn export_observations(
        &self,
        request: Request<pb::ExportObservationsRequest>,
    ) -> Result<Response<Self::ExportObservationsStream>, Status> {
        let ctx = OpCtx::of(&request)?;
        let app = &self.app;
        let result = app.export_observations(&ctx).await;
        let all = app.outbox.audited(&app.db, &ctx, "ExportObservations", result).await?;
        let all: Vec<pb::ObservedTechnique> = all.into_iter().map(observed).collect();
        let parts: Vec<_> = all.chunks(TECHNIQUES).map(<[_]>::to_vec).collect();
        let parts = stream::iter(parts).map(|techniques| Ok(pb::ExportObservationsResponse { techniques }));
        Ok(Response::new(Box::pin(parts)))
    }
}

fn observation(row: Row) -> pb::Observation {
    pb::Observation {
        mitre_id: row.technique,
        attacker_uuid: row.attacker_id.to_string(),
        attacker_ip: row.attacker_ip,
        count: row.count,
        first_seen: Some(timestamp(at(row.first_seen))),
        last_seen: Some(timestamp(at(row.last_seen))),
        deckies: row.deckies.0.into_iter().collect(),
        services: row.services.0.into_iter().collect(),
        rules: row.rules.0.into_iter().collect(),
        last_log_id: row.last_log_id,
        last_msg: row.last_msg,
    }
}

fn observed(observed: Observed) -> pb::ObservedTechnique {
    pb::ObservedTechnique {
        mitre_id: observed.technique,
        count: observed.count,
        attackers: observed.attackers,
        first_seen: Some(timestamp(at(observed.first_seen))),
        last_seen: Some(timestamp(at(observed.last_seen))),
        version: observed.version,
    }
}
