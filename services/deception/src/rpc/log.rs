//! Events for readers.

use std::sync::Arc;

use aegis_auth::OpCtx;
use aegis_error::Failure;
use aegis_proto::deception::v1::{
    self as pb, ArtifactInfo, GetLogHistogramRequest, GetLogHistogramResponse, GetStatsRequest, GetStatsResponse,
    ListLogsRequest, ListLogsResponse, LogBucket, LogFilter, PurgeLogsRequest, PurgeLogsResponse, ReadArtifactRequest,
    ReadArtifactResponse, WatchLogsRequest, WatchLogsResponse, log_service_server::LogService, read_artifact_response,
    watch_logs_response,
};
use futures::{
    StreamExt,
    stream::{self, BoxStream},
};
use prost_types::Timestamp;
use tonic::{Request, Response, Status};

use super::{Rpc, moment, timestamp};
use crate::{
    app::{
        logs::{Bucket, Filter, Stats},
        watch::Told,
    },
    domain::event::Log,
    error::Error,
};

#[tonic::async_trait]
impl LogService for Rpc {
    type WatchLogsStream = BoxStream<'static, Result<WatchLogsResponse, Status>>;
    type ReadArtifactStream = BoxStream<'static, Result<ReadArtifactResponse, Status>>;

    async fn list_logs(&self, request: Request<ListLogsRequest>) -> Result<Response<ListLogsResponse>, Status> {
        let ctx = OpCtx::of(&request)?;
        let app = &self.app;
        let ListLogsRequest { filter: of, page_size, page_token, skip } = request.into_inner();
        let result = match filter(of) {
            Ok(filter) => app.list_logs(&ctx, &filter, page_size, &page_token, skip).await,
            Err(failure) => Err(unless_refused(&ctx, failure)),
        };
        let page = app.outbox.audited(&app.db, &ctx, "ListLogs", result).await?;
        Ok(Response::new(ListLogsResponse {
            logs: page.logs.iter().map(message).collect(),
            next_page_token: page.next_page_token,
            total_size: page.total,
        }))
    }

    async fn get_log_histogram(
        &self,
        request: Request<GetLogHistogramRequest>,
    ) -> Result<Response<GetLogHistogramResponse>, Status> {
        let ctx = OpCtx::of(&request)?;
        let app = &self.app;
        let GetLogHistogramRequest { filter: of, interval_minutes } = request.into_inner();
        let result = match filter(of) {
            Ok(filter) => app.log_histogram(&ctx, &filter, interval_minutes).await,
            Err(failure) => Err(unless_refused(&ctx, failure)),
        };
        let buckets = app.outbox.audited(&app.db, &ctx, "GetLogHistogram", result).await?;
        Ok(Response::new(histogram(&buckets)))
    }

    async fn get_stats(&self, request: Request<GetStatsRequest>) -> Result<Response<GetStatsResponse>, Status> {
        let ctx = OpCtx::of(&request)?;
        let app = &self.app;
        let stats = app.outbox.audited(&app.db, &ctx, "GetStats", app.log_stats(&ctx).await).await?;
        Ok(Response::new(GetStatsResponse { stats: Some(figures(stats)) }))
    }

    async fn watch_logs(&self, request: Request<WatchLogsRequest>) -> Result<Response<Self::WatchLogsStream>, Status> {
        let ctx = OpCtx::of(&request)?;
        let app = &self.app;
        let WatchLogsRequest { filter: of, after_id } = request.into_inner();
        let result = match filter(of) {
            Ok(filter) => app.watch_logs(&ctx, filter, after_id).await,
            Err(failure) => Err(unless_refused(&ctx, failure)),
        };
        let told = app.outbox.audited(&app.db, &ctx, "WatchLogs", result).await?;
        Ok(Response::new(told.map(|told| Ok(WatchLogsResponse { item: Some(item(told)) })).boxed()))
    }

    async fn purge_logs(&self, request: Request<PurgeLogsRequest>) -> Result<Response<PurgeLogsResponse>, Status> {
        let ctx = OpCtx::of(&request)?;
        let app = &self.app;
        let purged = app.outbox.audited(&app.db, &ctx, "PurgeLogs", app.purge_logs(&ctx).await).await?;
        Ok(Response::new(PurgeLogsResponse { logs: purged.logs, bounties: purged.bounties }))
    }

    async fn read_artifact(
        &self,
        request: Request<ReadArtifactRequest>,
    ) -> Result<Response<Self::ReadArtifactStream>, Status> {
        let ctx = OpCtx::of(&request)?;
        let app = &self.app;
        let ReadArtifactRequest { decky, stored_as } = request.into_inner();
        let result = app.read_artifact(&ctx, &decky, &stored_as).await;
        let (artifact, chunks) = app.outbox.audited(&app.db, &ctx, "ReadArtifact", result).await?;
        let info = ArtifactInfo { size: u64::try_from(artifact.size).unwrap_or(0), sha256: artifact.sha256 };
        let chunks = chunks.map(|chunk| match chunk {
            Ok(chunk) => Ok(read_artifact_response::Item::Chunk(chunk.into())),
            Err(error) => Err(Status::from(Failure::from(error))),
        });
        let items = stream::once(async { Ok(read_artifact_response::Item::Info(info)) }).chain(chunks);
        Ok(Response::new(items.map(|item| item.map(|item| ReadArtifactResponse { item: Some(item) })).boxed()))
    }
}

/// Whoever may not read learns nothing from what is wrong with the request.
fn unless_refused(ctx: &OpCtx, failure: Failure) -> Error {
    ctx.user().map_or_else(Error::from, |_| failure.into())
}

fn filter(filter: Option<LogFilter>) -> Result<Filter, Failure> {
    let LogFilter { search, start_time, end_time } = filter.unwrap_or_default();
    let time = |field: &str, at: Option<Timestamp>| match at {
        None => Ok(None),
        Some(at) => moment(&at).map(Some).ok_or_else(|| Failure::invalid(field, "must be a time of this calendar")),
    };
    Filter::new(&search, time("start_time", start_time)?, time("end_time", end_time)?)
}

fn item(told: Told) -> watch_logs_response::Item {
    match told {
        Told::Stats(stats) => watch_logs_response::Item::Stats(figures(stats)),
        Told::Histogram(buckets) => watch_logs_response::Item::Histogram(histogram(&buckets)),
        Told::Logs(logs) => watch_logs_response::Item::Logs(ListLogsResponse {
            total_size: i64::try_from(logs.len()).unwrap_or(0),
            logs: logs.iter().map(|log| message(Arc::as_ref(log))).collect(),
            next_page_token: String::new(),
        }),
        Told::Dropped(why) => watch_logs_response::Item::Dropped(why),
    }
}

fn histogram(buckets: &[Bucket]) -> GetLogHistogramResponse {
    let bucket = |bucket: &Bucket| LogBucket { bucket: Some(timestamp(bucket.start)), count: bucket.count };
    GetLogHistogramResponse { buckets: buckets.iter().map(bucket).collect() }
}

fn figures(stats: Stats) -> pb::Stats {
    pb::Stats {
        total_logs: stats.total_logs,
        unique_attackers: stats.unique_attackers,
        active_deckies: stats.active_deckies,
        deployed_deckies: stats.deployed_deckies,
    }
}

/// An event on the wire.
pub(crate) fn message(log: &Log) -> pb::Log {
    pb::Log {
        id: log.id,
        timestamp: Some(timestamp(log.at)),
        decky: log.decky.clone(),
        service: log.service.clone(),
        event_type: log.event_type.to_owned(),
        attacker_ip: log.attacker_ip.clone(),
        attacker_port: u32::from(log.attacker_port),
        session_id: log.session_id.clone(),
        msg: log.msg.clone(),
        fields_json: log.fields.json().to_owned(),
        techniques: log.techniques().map(str::to_owned).collect(),
    }
}
