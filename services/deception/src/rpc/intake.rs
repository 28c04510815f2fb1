//! Events, files and lines come in.

use std::{sync::Arc, time::Duration};

use aegis_auth::{OpCtx, Role};
use aegis_error::Failure;
use aegis_proto::deception::v1::{
    ArtifactHeader, Event, HandInRequest, HandInResponse, IngestLinesRequest, IngestLinesResponse, PutArtifactRequest,
    PutArtifactResponse, RefusedLine, ingest_lines_request, intake_service_server::IntakeService, put_artifact_request,
};
use bytes::Bytes;
use chrono::Utc;
use futures::{StreamExt, stream::BoxStream};
use tokio::{
    sync::{mpsc, oneshot},
    time::{Instant, sleep_until},
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};
use uuid::Uuid;

use super::{Rpc, moment};
use crate::{
    app::{
        App,
        artifacts::Header,
        ingest,
        intake::{MAX_BATCH, Part, Stored, sound, stored},
    },
    domain::event::{Raw, RawFields},
    store,
};

/// Batches of a stream that are on their way to the disk.
const AHEAD: usize = 3;

/// A stream ends then at the latest; a sensor begins another.
const MAX_STREAM: Duration = Duration::from_secs(24 * 60 * 60);

/// What is to be acknowledged, in the order of the batches.
enum Pending {
    Waits(oneshot::Receiver<Result<Stored, Failure>>),
    Asks(Uuid),
    Refused(Failure),
}

#[tonic::async_trait]
impl IntakeService for Rpc {
    type HandInStream = BoxStream<'static, Result<HandInResponse, Status>>;

    async fn hand_in(
        &self,
        request: Request<Streaming<HandInRequest>>,
    ) -> Result<Response<Self::HandInStream>, Status> {
        let ctx = OpCtx::of(&request)?;
        let app = &self.app;
        let allowed = ctx.require(&[Role::Sensor]).map(|_| ());
        app.outbox.audited(&app.db, &ctx, "HandIn", allowed).await?;
        let (pending, waiting) = mpsc::channel(AHEAD);
        let (answers, answered) = mpsc::channel(AHEAD);
        let left = ctx.anyone().map(|principal| principal.expires_at - Utc::now());
        let until = Instant::now() + left.and_then(|left| left.to_std().ok()).unwrap_or_default().min(MAX_STREAM);
        tokio::spawn(read(Arc::clone(app), request.into_inner(), pending, until));
        tokio::spawn(acknowledge(Arc::clone(app), waiting, answers));
        Ok(Response::new(ReceiverStream::new(answered).boxed()))
    }

    async fn put_artifact(
        &self,
        request: Request<Streaming<PutArtifactRequest>>,
    ) -> Result<Response<PutArtifactResponse>, Status> {
        let ctx = OpCtx::of(&request)?;
        let app = &self.app;
        let mut messages = request.into_inner();
        let result = match messages.message().await?.and_then(|message| message.item) {
            Some(put_artifact_request::Item::Header(of)) => {
                let chunks = messages.map(|message| match message?.item {
                    Some(put_artifact_request::Item::Chunk(chunk)) => Ok(Bytes::from(chunk)),
                    _ => Err(Failure::invalid("chunk", "must follow the header")),
                });
                app.put_artifact(&ctx, header(of), chunks).await
            }
            _ => Err(Failure::invalid("header", "must be the first message").into()),
        };
        let stored_as = app.outbox.audited(&app.db, &ctx, "PutArtifact", result).await?;
        Ok(Response::new(PutArtifactResponse { stored_as }))
    }

    async fn ingest_lines(
        &self,
        request: Request<Streaming<IngestLinesRequest>>,
    ) -> Result<Response<IngestLinesResponse>, Status> {
        let ctx = OpCtx::of(&request)?;
        let app = &self.app;
        let parts = request.into_inner().map(|message| match message?.item {
            Some(ingest_lines_request::Item::Format(format)) => Ok(ingest::Part::Format(format)),
            Some(ingest_lines_request::Item::Chunk(chunk)) => Ok(ingest::Part::Chunk(Bytes::from(chunk))),
            None => Err(Failure::invalid("item", "must be the format or a chunk")),
        });
        let result = app.ingest_lines(&ctx, parts).await;
        let counts = app.outbox.audited(&app.db, &ctx, "IngestLines", result).await?;
        let refused = counts.first_refused.into_iter().map(|(line, why)| RefusedLine { line, why });
        Ok(Response::new(IngestLinesResponse {
            accepted: counts.accepted,
            duplicate: counts.duplicate,
            refused: counts.refused,
            first_refused: refused.collect(),
        }))
    }
}

/// Reads batches and puts them into the queue; the first that is refused is the last.
async fn read(app: Arc<App>, mut messages: Streaming<HandInRequest>, pending: mpsc::Sender<Pending>, until: Instant) {
    let mut of: Option<Uuid> = None;
    let mut after = None;
    loop {
        let message = tokio::select! {
            message = messages.message() => message,
            () = pending.closed() => return,
            () = app.stop.cancelled() => return,
            // The token held until now.
            () = sleep_until(until) => return,
        };
        let next = match message {
            Ok(Some(batch)) => take(&app, batch, &mut of, &mut after).await,
            // Whoever left sends again what was not acknowledged.
            Ok(None) | Err(_) => return,
        };
        let next = next.unwrap_or_else(Pending::Refused);
        let last = matches!(next, Pending::Refused(_));
        if pending.send(next).await.is_err() || last {
            return;
        }
    }
}

async fn take(
    app: &App,
    batch: HandInRequest,
    of: &mut Option<Uuid>,
    after: &mut Option<i64>,
) -> Result<Pending, Failure> {
    let HandInRequest { sensor_id, first_sequence, events } = batch;
    let sensor: Uuid = sensor_id.parse().map_err(|_| Failure::invalid("sensor_id", "must be a UUID"))?;
    if *of.get_or_insert(sensor) != sensor {
        return Err(Failure::invalid("sensor_id", "must be the same in all batches of a stream"));
    }
    if events.is_empty() {
        return Ok(Pending::Asks(sensor));
    }
    if events.len() > MAX_BATCH {
        return Err(Failure::invalid("events", format!("must be at most {MAX_BATCH}")));
    }
    let first = i64::try_from(first_sequence).ok().filter(|first| (1..i64::MAX / 2).contains(first));
    let first = first.ok_or_else(|| Failure::invalid("first_sequence", "must be 1 or more"))?;
    let count = i64::try_from(events.len()).unwrap_or(0);
    let origin = move |place: usize| format!("{sensor}/{first}/{place}").into_bytes();
    let events = sound(events.into_iter().map(raw).collect(), origin, app.sigma.now()).await?;
    let waits = app.intake.submit(events, Some(Part { sensor, first, after: *after })).await?;
    *after = Some(after.unwrap_or(0).max(first + count - 1));
    Ok(Pending::Waits(waits))
}

/// Tells in their order which batches are stored; ends with the first that is not.
async fn acknowledge(
    app: Arc<App>,
    mut waiting: mpsc::Receiver<Pending>,
    answers: mpsc::Sender<Result<HandInResponse, Status>>,
) {
    while let Some(pending) = waiting.recv().await {
        let mark = match pending {
            Pending::Waits(waits) => stored(waits).await.map(|stored| stored.mark),
            Pending::Asks(sensor) => store::logs::mark(&app.db, sensor).await.map_err(Failure::from),
            Pending::Refused(failure) => Err(failure),
        };
        let failed = mark.is_err();
        let answer = mark.map(|mark| HandInResponse { acknowledged: u64::try_from(mark).unwrap_or(0) });
        if answers.send(answer.map_err(Status::from)).await.is_err() || failed {
            return;
        }
    }
}

pub(crate) fn raw(event: Event) -> Raw {
    Raw {
        id: Uuid::from_slice(&event.id).ok(),
        at: event.timestamp.as_ref().and_then(moment),
        decky: event.decky,
        service: event.service,
        event_type: event.event_type,
        attacker_ip: event.attacker_ip,
        attacker_port: event.attacker_port,
        session_id: event.session_id,
        msg: event.msg,
        fields: RawFields::Json(event.fields_json),
    }
}

fn header(header: ArtifactHeader) -> Header {
    Header {
        captured_at: header.captured_at.as_ref().and_then(moment),
        kind: header.kind,
        decky: header.decky,
        service: header.service,
        attacker_ip: header.attacker_ip,
        session_id: header.session_id,
        name: header.name,
        sha256: header.sha256,
        size: header.size,
    }
}
