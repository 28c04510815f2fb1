//! The gRPC side of what sensors host.

use std::{sync::Arc, time::Duration};

use aegis_auth::OpCtx;
use aegis_error::{Code, Failure};
use aegis_proto::deception::v1::{
    AssignedDecky, AssignedService, Assignment, AttachRequest, AttachResponse, HostedService, SensorHello,
    SensorStatus, attach_request::Item, sensor_control_service_server::SensorControlService,
};
use tokio::{
    sync::mpsc,
    time::{sleep, timeout},
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};
use tracing::Instrument;
use uuid::Uuid;

use super::{Rpc, timestamp};
use crate::{
    app::{
        App,
        assign::{Attachment, Hello, Report},
    },
    domain::fleet::Decky,
    figures,
    store::sensors::Hosted,
};

/// How long a sensor may take to introduce itself.
const HELLO: Duration = Duration::from_secs(10);
/// A sensor that says nothing for this long has left without a word; it says something every 5 s.
const SILENCE: Duration = Duration::from_secs(30);
/// No stream is longer: a key that was revoked is noticed when its sensor signs in anew.
const LONGEST: Duration = Duration::from_secs(10 * 60);
/// How often is looked for changes that another process made.
const POLL: Duration = Duration::from_millis(200);

#[tonic::async_trait]
impl SensorControlService for Rpc {
    type AttachStream = ReceiverStream<Result<AttachResponse, Status>>;

    async fn attach(&self, request: Request<Streaming<AttachRequest>>) -> Result<Response<Self::AttachStream>, Status> {
        let ctx = OpCtx::of(&request)?;
        let app = Arc::clone(&self.app);
        let allowed = ctx.require(&[aegis_auth::Role::Sensor]).map(|_| ());
        app.outbox.audited(&app.db, &ctx, "Attach", allowed).await?;
        // The answer's head goes out at once: the sensor may wait for it before it says who it is.
        let (answers, stream) = mpsc::channel(1);
        let serving = async move {
            if let Err(status) = serve(&app, &ctx, request.into_inner(), &answers).await {
                // Whoever left does not want to know.
                let _ = answers.send(Err(status)).await;
            }
        };
        tokio::spawn(serving.instrument(tracing::info_span!(parent: None, "attached sensor")));
        Ok(Response::new(ReceiverStream::new(stream)))
    }
}

type Answers = mpsc::Sender<Result<AttachResponse, Status>>;

async fn serve(
    app: &Arc<App>,
    ctx: &OpCtx,
    mut requests: Streaming<AttachRequest>,
    answers: &Answers,
) -> Result<(), Status> {
    let first = timeout(HELLO, requests.message()).await.map_err(|_| silent())??;
    let Some(Item::Hello(hello)) = first.and_then(|request| request.item) else {
        return Err(Failure::invalid("item", "must be a hello first").into());
    };
    let SensorHello { sensor_id, name, version, services } = &hello;
    let hello = Hello { sensor_id, name, version, services };
    let attached = app.attach(ctx, hello).await;
    let mut attachment = app.outbox.audited(&app.db, ctx, "Attach", attached).await?;
    tracing::info!(sensor = sensor_id, name, "a sensor is attached");
    let counted = figures::SENSORS.hold(&[]);
    let ended = converse(app, ctx, &mut attachment, &mut requests, answers).await;
    drop(counted);
    // A sensor that has to sign in anew comes back at once: until then it is there.
    if !matches!(ended, Ok(Ended::TokenExpired))
        && let Err(error) = app.detach(&attachment).await
    {
        tracing::warn!(%error, "the end of a sensor's stream could not be written");
    }
    tracing::info!(sensor = sensor_id, name, "a sensor's stream ended");
    match ended? {
        Ended::Left => Ok(()),
        Ended::TokenExpired => Err(Failure::new(Code::Unauthenticated, "the token has expired: sign in anew").into()),
        Ended::Replaced => Err(Failure::new(Code::Conflict, "another stream speaks for this sensor").into()),
        Ended::Stopping => Err(Failure::unavailable("deception").into()),
    }
}

enum Ended {
    Left,
    TokenExpired,
    Replaced,
    Stopping,
}

/// Says what is to be hosted whenever that changes, and takes in what is, until either is done.
async fn converse(
    app: &Arc<App>,
    ctx: &OpCtx,
    attachment: &mut Attachment,
    requests: &mut Streaming<AttachRequest>,
    answers: &Answers,
) -> Result<Ended, Status> {
    let left = ctx.anyone().map(|principal| principal.expires_at - chrono::Utc::now());
    let expiry = sleep(left.and_then(|left| left.to_std().ok()).unwrap_or_default().min(LONGEST));
    tokio::pin!(expiry);
    let mut changed = app.fleet_changed.listen();
    let mut told = 0;
    let mut buffered = figures::Buffered::default();
    let silence = sleep(SILENCE);
    tokio::pin!(silence);
    loop {
        changed.mark_unchanged();
        // While the database is away the sensor goes on with what it knows.
        match newer(app, attachment, told).await {
            Ok(News::Replaced) => return Ok(Ended::Replaced),
            Ok(News::Assignment(assignment)) => {
                let generation = assignment.generation;
                if answers.send(Ok(AttachResponse { assignment: Some(assignment) })).await.is_err() {
                    return Ok(Ended::Left);
                }
                told = generation;
            }
            Ok(News::Nothing) => {}
            Err(failure) => tracing::warn!(%failure, "a sensor cannot be told of changes for now"),
        }
        tokio::select! {
            request = requests.message() => {
                let Some(request) = request? else { return Ok(Ended::Left) };
                silence.as_mut().reset(tokio::time::Instant::now() + SILENCE);
                let Some(Item::Status(status)) = request.item else {
                    return Err(Failure::invalid("item", "must be a status after the hello").into());
                };
                buffered.set(status.buffered);
                match app.report(attachment, report(status)).await {
                    Ok(true) => {}
                    Ok(false) => return Ok(Ended::Replaced),
                    Err(error) => tracing::warn!(%error, "what a sensor says could not be written"),
                }
            }
            _ = changed.changed() => {}
            () = sleep(POLL) => {}
            () = &mut silence => return Err(silent()),
            () = &mut expiry => return Ok(Ended::TokenExpired),
            () = answers.closed() => return Ok(Ended::Left),
            () = app.stop.cancelled() => return Ok(Ended::Stopping),
        }
    }
}

fn silent() -> Status {
    Failure::new(Code::Timeout, "the sensor says nothing").into()
}

enum News {
    Nothing,
    Assignment(Assignment),
    Replaced,
}

/// What is to be hosted, when that is newer than what was told.
async fn newer(app: &App, attachment: &Attachment, told: i64) -> Result<News, Failure> {
    match app.generation(attachment).await? {
        None => return Ok(News::Replaced),
        Some(generation) if generation == told => return Ok(News::Nothing),
        Some(_) => {}
    }
    let (generation, deckies) = app.assignment(attachment).await?;
    let offset = app.config.loopback_port_offset;
    let deckies = deckies.into_iter().map(|decky| assigned(decky, offset)).collect();
    Ok(News::Assignment(Assignment { generation, deckies }))
}

fn assigned(decky: Decky, loopback_offset: u16) -> AssignedDecky {
    let service = |name: String| AssignedService {
        port: decky.port(&name, loopback_offset).into(),
        options: decky.options.get(&name).cloned().unwrap_or_default().into_iter().collect(),
        name,
    };
    let services = decky.service_names().into_iter().map(service).collect();
    AssignedDecky {
        id: decky.id.to_string(),
        name: decky.name,
        ip: decky.ip.to_string(),
        hostname: decky.hostname,
        archetype: decky.archetype,
        nmap_os: decky.nmap_os,
        seed: decky.seed.to_vec(),
        booted_at: Some(timestamp(decky.booted_at)),
        services,
        mac: decky.mac,
        os: decky.system,
    }
}

fn report(status: SensorStatus) -> Report {
    let SensorStatus { generation, services, buffered, open_sessions } = status;
    let hosted = services.into_iter().filter_map(|hosted| {
        let HostedService { decky_id, service, status, address, detail } = hosted;
        let decky_id = Uuid::parse_str(&decky_id).ok()?;
        let status = if matches!(status.as_str(), "running" | "failed") { status } else { "pending".to_owned() };
        Some(Hosted { decky_id, service, status, address, detail })
    });
    Report { generation, buffered, open_sessions, hosted: hosted.collect() }
}
