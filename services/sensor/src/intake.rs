//! Hands in what is kept: events in batches, several on the way; files and recordings one after the other.

use std::{collections::VecDeque, io, path::PathBuf, sync::Arc, time::Duration};

use aegis_proto::deception::v1::{ArtifactHeader, HandInRequest, PutArtifactRequest, put_artifact_request::Item};
use futures::StreamExt;
use tokio::{
    sync::{mpsc, watch},
    time::timeout,
};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::{io::ReaderStream, sync::CancellationToken};
use tonic::{Code, Status};
use uuid::Uuid;

use crate::{
    buffer::Buffer,
    keep::Spool,
    link::{Backoff, Link},
    outlet::State,
};

/// Most events of a batch.
const BATCH: usize = 5_000;
/// A batch that has more than this is sent, bytes.
const BATCH_BYTES: usize = 2 * 1024 * 1024;
/// Batches that are on the way.
const IN_FLIGHT: usize = 4;
/// How long a batch may be on the way.
const PATIENCE: Duration = Duration::from_secs(60);
/// Files that are looked for at once.
const FILES: usize = 64;
/// How long a file may be on the way.
const FILE_PATIENCE: Duration = Duration::from_secs(300);
/// How often files are looked for without word of one.
const LOOK: Duration = Duration::from_secs(30);
/// Bytes of a file in one message.
const CHUNK: usize = 64 * 1024;

/// Hands events in until the process is to stop.
pub(crate) async fn hand_in(link: Link, sensor_id: Uuid, buffer: Arc<Buffer>, stop: CancellationToken) {
    let mut backoff = Backoff::new("handing events in");
    while !stop.is_cancelled() {
        let mut begun = false;
        let ended = tokio::select! {
            ended = events(&link, sensor_id, &buffer, &mut begun) => ended,
            () = stop.cancelled() => return,
        };
        if begun {
            backoff.good();
        }
        backoff.failed(&ended, &stop).await;
    }
}

/// One stream, until it breaks.
async fn events(link: &Link, sensor_id: Uuid, buffer: &Arc<Buffer>, begun: &mut bool) -> Status {
    // An event first, so that nothing is open while there is none.
    let mut head = buffer.head();
    while buffer.waiting() == 0 {
        if head.changed().await.is_err() {
            return Status::cancelled("the buffer is closed");
        }
    }
    let (sender, requests) = mpsc::channel(1);
    let (acknowledged, acknowledgements) = watch::channel(0);
    let hear = async {
        let request = link.request(ReceiverStream::new(requests))?;
        let mut answers = link.intake().hand_in(request).await?.into_inner();
        while let Some(answer) = answers.message().await? {
            *begun = true;
            let (buffer, upto) = (buffer.clone(), answer.acknowledged);
            acknowledged.send_replace(upto);
            match tokio::task::spawn_blocking(move || buffer.acknowledge(upto)).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => tracing::warn!(%error, "what was acknowledged cannot be noted"),
                Err(_) => return Err(Status::internal("the buffer failed")),
            }
        }
        Err::<std::convert::Infallible, _>(Status::unavailable("the service ended the stream"))
    };
    tokio::select! {
        heard = hear => match heard { Err(status) => status, Ok(never) => match never {} },
        fed = feed(sensor_id, buffer, sender, acknowledgements) => fed,
    }
}

/// Sends what is there, and what comes.
async fn feed(
    sensor_id: Uuid,
    buffer: &Arc<Buffer>,
    sender: mpsc::Sender<HandInRequest>,
    mut acknowledged: watch::Receiver<u64>,
) -> Status {
    let mut head = buffer.head();
    let mut cursor = buffer.start();
    let mut in_flight: VecDeque<u64> = VecDeque::new();
    loop {
        let upto = *acknowledged.borrow_and_update();
        in_flight.retain(|last| *last > upto);
        head.mark_unchanged();
        let batch = match in_flight.len() < IN_FLIGHT {
            true => {
                let reader = buffer.clone();
                let read = tokio::task::spawn_blocking(move || {
                    reader.read(&mut cursor, BATCH, BATCH_BYTES).map(|batch| (batch, cursor))
                });
                match read.await {
                    Ok(Ok((batch, after))) => {
                        cursor = after;
                        batch
                    }
                    Ok(Err(error)) => return Status::internal(format!("the buffer cannot be read: {error}")),
                    Err(_) => return Status::internal("the buffer failed"),
                }
            }
            false => None,
        };
        if let Some(batch) = batch {
            in_flight.push_back(batch.last());
            let request =
                HandInRequest { sensor_id: sensor_id.to_string(), first_sequence: batch.first, events: batch.events };
            match timeout(PATIENCE, sender.send(request)).await {
                Ok(Ok(())) => continue,
                // The other half knows why.
                Ok(Err(_)) => std::future::pending().await,
                Err(_) => return Status::deadline_exceeded("the service takes no events"),
            }
        }
        let full = in_flight.len() >= IN_FLIGHT;
        tokio::select! {
            changed = acknowledged.changed() => if changed.is_err() { std::future::pending().await },
            changed = head.changed(), if !full => if changed.is_err() { std::future::pending().await },
            () = tokio::time::sleep(PATIENCE), if !in_flight.is_empty() => {
                return Status::deadline_exceeded("the service acknowledges nothing");
            }
        }
    }
}

/// Hands files and recordings in until the process is to stop.
pub(crate) async fn put_artifacts(link: Link, spool: Spool, state: Arc<State>, stop: CancellationToken) {
    let mut backoff = Backoff::new("handing files in");
    while !stop.is_cancelled() {
        let lister = spool.clone();
        let names = match tokio::task::spawn_blocking(move || lister.list(FILES)).await {
            Ok(Ok(names)) => names,
            Ok(Err(error)) => {
                tracing::warn!(%error, "captured files cannot be listed");
                Vec::new()
            }
            Err(_) => return,
        };
        if names.is_empty() {
            tokio::select! {
                () = spool.news.notified() => {}
                () = tokio::time::sleep(LOOK) => {}
                () = stop.cancelled() => return,
            }
            continue;
        }
        for name in names {
            let put = tokio::select! {
                put = put(&link, &spool, name) => put,
                () = stop.cancelled() => return,
            };
            let gone = match put {
                Ok(()) => true,
                Err(status) if is_final(&status) => {
                    tracing::warn!(%name, reason = status.message(), "a captured file was refused; it is forgotten");
                    true
                }
                Err(status) => {
                    backoff.failed(&status, &stop).await;
                    false
                }
            };
            if !gone {
                break;
            }
            backoff.good();
            let (remover, state) = (spool.clone(), state.clone());
            match tokio::task::spawn_blocking(move || remover.remove(name, &state)).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => tracing::warn!(%error, "a file that was handed in cannot be removed"),
                Err(_) => return,
            }
        }
    }
}

/// Whether another try would be refused too.
fn is_final(status: &Status) -> bool {
    matches!(
        status.code(),
        Code::InvalidArgument | Code::OutOfRange | Code::AlreadyExists | Code::FailedPrecondition | Code::DataLoss
    )
}

async fn put(link: &Link, spool: &Spool, name: Uuid) -> Result<(), Status> {
    let reader = spool.clone();
    let (header, path) = match tokio::task::spawn_blocking(move || reader.get(name)).await {
        Ok(Ok(found)) => found,
        Ok(Err(error)) => return Err(damaged(&error)),
        Err(_) => return Err(Status::internal("the folder failed")),
    };
    let messages = messages(header, path).await.map_err(|error| damaged(&error))?;
    let request = link.request(messages)?;
    let mut client = link.intake();
    timeout(FILE_PATIENCE, client.put_artifact(request))
        .await
        .map_err(|_| Status::deadline_exceeded("a file is not taken"))??;
    Ok(())
}

fn damaged(error: &io::Error) -> Status {
    match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::Other => Status::data_loss(error.to_string()),
        _ => Status::internal(error.to_string()),
    }
}

async fn messages(
    header: ArtifactHeader,
    path: PathBuf,
) -> io::Result<impl futures::Stream<Item = PutArtifactRequest> + Send + 'static> {
    let file = tokio::fs::File::open(path).await?;
    let head = PutArtifactRequest { item: Some(Item::Header(header)) };
    // One that cannot be read to its end is shorter than its header says, which the service refuses.
    let chunks = ReaderStream::with_capacity(file, CHUNK)
        .take_while(|chunk| futures::future::ready(chunk.is_ok()))
        .filter_map(|chunk| futures::future::ready(chunk.ok()))
        .map(|chunk| PutArtifactRequest { item: Some(Item::Chunk(chunk.into())) });
    Ok(futures::stream::iter([head]).chain(chunks))
}
