//! Hears what the sensor is to host, and says how that is.

use std::{path::PathBuf, sync::Arc, time::Duration};

use aegis_proto::deception::v1::Assignment;
use aegis_proto::deception::v1::{
    AttachRequest, AttachResponse, HostedService, SensorHello, SensorStatus, attach_request::Item,
};
use prost::Message;
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::{Code, Status};

use crate::{
    buffer::Buffer,
    decoys,
    hosting::Fleet,
    link::{Backoff, Link},
    outlet::State,
};

/// How often the sensor says how it is, at least.
const TELL_EVERY: Duration = Duration::from_secs(3);
/// How often what failed is tried again.
const RETRY_EVERY: Duration = Duration::from_secs(5);
/// How long to wait before signing in anew.
const RENEW: Duration = Duration::from_millis(200);
/// The file of the last assignment.
const LAST: &str = "assignment";

/// What was made of an assignment.
#[derive(Clone, Debug, Default)]
pub(crate) struct Made {
    generation: i64,
    services: Vec<HostedService>,
}

/// Makes of the fleet what the newest assignment says, and tries again what failed.
pub(crate) async fn host(
    mut fleet: Fleet,
    mut assignments: watch::Receiver<Option<Arc<Assignment>>>,
    made: watch::Sender<Made>,
    stop: CancellationToken,
) {
    assignments.mark_changed();
    loop {
        let failed = fleet.has_failed();
        tokio::select! {
            changed = assignments.changed() => if changed.is_err() { return },
            () = tokio::time::sleep(RETRY_EVERY), if failed => {}
            () = stop.cancelled() => return,
        }
        let Some(assignment) = assignments.borrow_and_update().clone() else { continue };
        fleet.apply(&assignment).await;
        made.send_replace(Made { generation: assignment.generation, services: fleet.report() });
    }
}

/// Who the sensor is, and what it says of itself.
#[derive(Clone)]
pub(crate) struct Attached {
    pub(crate) link: Link,
    pub(crate) hello: SensorHello,
    pub(crate) buffer: Arc<Buffer>,
    pub(crate) state: Arc<State>,
    pub(crate) folder: PathBuf,
    pub(crate) assignments: watch::Sender<Option<Arc<Assignment>>>,
}

impl Attached {
    /// The hello of this sensor.
    pub(crate) fn hello(sensor_id: uuid::Uuid, name: &str) -> SensorHello {
        SensorHello {
            sensor_id: sensor_id.to_string(),
            name: name.to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            services: decoys::NAMES.iter().map(|name| (*name).to_owned()).collect(),
        }
    }

    /// Stays attached until the process is to stop.
    pub(crate) async fn run(self, made: watch::Receiver<Made>, stop: CancellationToken) {
        let mut backoff = Backoff::new("hearing what to host");
        while !stop.is_cancelled() {
            let mut heard = false;
            let ended = tokio::select! {
                ended = self.attach(made.clone(), &mut heard) => ended,
                () = stop.cancelled() => return,
            };
            if heard {
                backoff.good();
                // Its token ran out while it was attached: there is another by now.
                if ended.code() == Code::Unauthenticated {
                    tokio::time::sleep(RENEW).await;
                    continue;
                }
            }
            backoff.failed(&ended, &stop).await;
        }
    }

    /// One stream, until it breaks.
    async fn attach(&self, mut made: watch::Receiver<Made>, heard: &mut bool) -> Status {
        let (sender, requests) = mpsc::channel(2);
        let tell = async {
            let hello = AttachRequest { item: Some(Item::Hello(self.hello.clone())) };
            let mut open = sender.send(hello).await.is_ok();
            while open {
                let status = AttachRequest { item: Some(Item::Status(self.status(&made.borrow_and_update()))) };
                open = sender.send(status).await.is_ok();
                tokio::select! {
                    changed = made.changed() => open &= changed.is_ok(),
                    () = tokio::time::sleep(TELL_EVERY) => {}
                }
            }
            std::future::pending::<()>().await;
        };
        let hear = async {
            let request = self.link.request(ReceiverStream::new(requests))?;
            let mut answers = self.link.control().attach(request).await?.into_inner();
            while let Some(answer) = answers.message().await? {
                *heard = true;
                self.take(answer).await;
            }
            Err::<std::convert::Infallible, Status>(Status::unavailable("the service ended the stream"))
        };
        tokio::select! {
            ended = hear => match ended { Err(status) => status, Ok(never) => match never {} },
            () = tell => Status::unavailable("the stream is closed"),
        }
    }

    fn status(&self, made: &Made) -> SensorStatus {
        SensorStatus {
            generation: made.generation,
            services: made.services.clone(),
            buffered: i64::try_from(self.buffer.waiting()).unwrap_or(i64::MAX),
            open_sessions: i64::try_from(self.state.open.load(std::sync::atomic::Ordering::Relaxed))
                .unwrap_or(i64::MAX),
        }
    }

    async fn take(&self, answer: AttachResponse) {
        let Some(assignment) = answer.assignment else { return };
        if let Err(error) = keep(&self.folder, &assignment).await {
            tracing::warn!(%error, "the assignment cannot be kept for the next start");
        }
        tracing::info!(generation = assignment.generation, deckies = assignment.deckies.len(), "heard what to host");
        self.assignments.send_replace(Some(Arc::new(assignment)));
    }
}

/// Keeps it for the next start. It has the secrets of the deckies: for nobody else's eyes.
async fn keep(folder: &std::path::Path, assignment: &Assignment) -> std::io::Result<()> {
    let (path, bytes) = (folder.join(LAST), assignment.encode_to_vec());
    tokio::task::spawn_blocking(move || {
        use std::{io::Write, os::unix::fs::OpenOptionsExt};
        let new = path.with_extension("new");
        let mut options = std::fs::OpenOptions::new();
        options.create(true).write(true).truncate(true).mode(0o600).open(&new)?.write_all(&bytes)?;
        std::fs::rename(new, path)
    })
    .await
    .map_err(std::io::Error::other)?
}

/// What the last start hosted: it is hosted again before anybody says so.
pub(crate) fn last(folder: &std::path::Path) -> Option<Arc<Assignment>> {
    let bytes = std::fs::read(folder.join(LAST)).ok()?;
    match Assignment::decode(&bytes[..]) {
        Ok(assignment) => Some(Arc::new(assignment)),
        Err(error) => {
            tracing::warn!(%error, "what was hosted last cannot be read; waiting to be told");
            None
        }
    }
}
