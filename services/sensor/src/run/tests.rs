use std::{
    collections::BTreeMap,
    net::SocketAddr,
    pin::Pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Instant,
};

use aegis_proto::deception::v1::{
    ArtifactHeader, AssignedDecky, AssignedService, Assignment, AttachRequest, AttachResponse, Event, HandInRequest,
    HandInResponse, IngestLinesRequest, IngestLinesResponse, PutArtifactRequest, PutArtifactResponse, SensorStatus,
    attach_request,
    intake_service_server::{IntakeService, IntakeServiceServer},
    put_artifact_request,
    sensor_control_service_server::{SensorControlService, SensorControlServiceServer},
};
use async_trait::async_trait;
use futures::Stream;
use prost_types::Timestamp;
use secrecy::SecretString;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::mpsc,
};
use tokio_stream::wrappers::{ReceiverStream, TcpListenerStream};
use tonic::{Request, Response, Status, Streaming};

use super::*;
use crate::{
    persona::Persona,
    protocol::{Protocol, Server},
    session::{EventType, Session, Stream as Connection},
};

/// What stands for deception: it keeps what a database would keep.
#[derive(Clone, Default)]
struct Fake(Arc<Kept>);

#[derive(Default)]
struct Kept {
    events: Mutex<BTreeMap<u64, Event>>,
    twice: AtomicUsize,
    /// Streams end after a batch that was stored, before it is acknowledged.
    cruel: AtomicBool,
    artifacts: Mutex<Vec<(ArtifactHeader, Vec<u8>)>>,
    statuses: Mutex<Vec<SensorStatus>>,
    assignment: Mutex<Option<Assignment>>,
    tokens: Mutex<Vec<String>>,
}

type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

#[async_trait]
impl SensorControlService for Fake {
    type AttachStream = Answers<AttachResponse>;

    async fn attach(&self, request: Request<Streaming<AttachRequest>>) -> Result<Response<Self::AttachStream>, Status> {
        let token = request.metadata().get("authorization").and_then(|value| value.to_str().ok()).unwrap_or_default();
        self.0.tokens.lock().unwrap().push(token.to_owned());
        let mut items = request.into_inner();
        let (sender, answers) = mpsc::channel(4);
        let kept = self.0.clone();
        tokio::spawn(async move {
            while let Ok(Some(item)) = items.message().await {
                match item.item {
                    Some(attach_request::Item::Hello(hello)) => {
                        assert!(Uuid::parse_str(&hello.sensor_id).is_ok());
                        let assignment = kept.assignment.lock().unwrap().clone();
                        let _ = sender.send(Ok(AttachResponse { assignment })).await;
                    }
                    Some(attach_request::Item::Status(status)) => kept.statuses.lock().unwrap().push(status),
                    None => {}
                }
            }
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(answers))))
    }
}

#[async_trait]
impl IntakeService for Fake {
    type HandInStream = Answers<HandInResponse>;

    async fn hand_in(
        &self,
        request: Request<Streaming<HandInRequest>>,
    ) -> Result<Response<Self::HandInStream>, Status> {
        let mut batches = request.into_inner();
        let (sender, answers) = mpsc::channel(4);
        let kept = self.0.clone();
        tokio::spawn(async move {
            while let Ok(Some(batch)) = batches.message().await {
                assert!(batch.events.len() <= 5000 && !batch.events.is_empty());
                let mut acknowledged = 0;
                {
                    let mut events = kept.events.lock().unwrap();
                    let mark = events.last_key_value().map_or(0, |(last, _)| *last);
                    for (number, event) in (batch.first_sequence..).zip(batch.events) {
                        acknowledged = number;
                        match number > mark {
                            true => drop(events.insert(number, event)),
                            false => drop(kept.twice.fetch_add(1, Ordering::Relaxed)),
                        }
                    }
                }
                if kept.cruel.load(Ordering::Relaxed) {
                    return;
                }
                let _ = sender.send(Ok(HandInResponse { acknowledged })).await;
            }
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(answers))))
    }

    async fn put_artifact(
        &self,
        request: Request<Streaming<PutArtifactRequest>>,
    ) -> Result<Response<PutArtifactResponse>, Status> {
        let mut items = request.into_inner();
        let (mut header, mut bytes) = (None, Vec::new());
        while let Some(item) = items.message().await? {
            match item.item {
                Some(put_artifact_request::Item::Header(head)) => header = Some(head),
                Some(put_artifact_request::Item::Chunk(chunk)) => bytes.extend(chunk),
                None => {}
            }
        }
        let header = header.ok_or_else(|| Status::invalid_argument("no header"))?;
        self.0.artifacts.lock().unwrap().push((header, bytes));
        Ok(Response::new(PutArtifactResponse::default()))
    }

    async fn ingest_lines(
        &self,
        _: Request<Streaming<IngestLinesRequest>>,
    ) -> Result<Response<IngestLinesResponse>, Status> {
        Err(Status::unimplemented("not of sensors"))
    }
}

/// A deception that can be ended and begun again at the same address.
struct Deception {
    address: SocketAddr,
    /// Of its own, so that it goes with everything that it has open, as a process does that is killed.
    process: Option<tokio::runtime::Runtime>,
}

impl Deception {
    async fn start(fake: Fake, address: SocketAddr) -> Deception {
        let listener = loop {
            match std::net::TcpListener::bind(address) {
                Ok(listener) => break listener,
                Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
            }
        };
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        let process = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        process.spawn(async move {
            tonic::transport::Server::builder()
                .add_service(SensorControlServiceServer::new(fake.clone()))
                .add_service(IntakeServiceServer::new(fake))
                .serve_with_incoming(TcpListenerStream::new(TcpListener::from_std(listener).unwrap()))
                .await
        });
        Deception { address, process: Some(process) }
    }

    fn end(&mut self) {
        if let Some(process) = self.process.take() {
            process.shutdown_background();
        }
    }
}

impl Drop for Deception {
    fn drop(&mut self) {
        self.end();
    }
}

/// Tells of each byte.
struct Teller;

#[async_trait]
impl Protocol for Teller {
    async fn serve(self: Arc<Self>, mut stream: Connection, session: Session) -> io::Result<()> {
        let recorder = session.record(80, 24);
        stream.write_all(b"hi").await?;
        let mut file = session.capture("dropped").await;
        let mut room = [0; 512];
        loop {
            let read = stream.read(&mut room).await?;
            if read == 0 {
                break;
            }
            for byte in &room[..read] {
                session.emit(EventType::Command, "byte", &[("command", &byte.to_string())]);
            }
            recorder.output(&room[..read]);
            if let Some(file) = file.as_mut() {
                file.write(&room[..read]).await?;
            }
        }
        match file {
            Some(file) => file.finish("/tmp/dropped").await,
            None => Ok(()),
        }
    }
}

fn teller(_: &str, _: &Arc<Persona>, _: &decoys::Options) -> Result<Server, String> {
    Ok(Server::Connections(Arc::new(Teller)))
}

fn assignment(generation: i64, port: u16) -> Assignment {
    let services =
        vec![AssignedService { name: "ssh".into(), port: port.into(), options: std::collections::HashMap::new() }];
    let decky = AssignedDecky {
        id: Uuid::from_bytes([3; 16]).to_string(),
        name: "decky-03".into(),
        ip: "127.0.0.1".into(),
        seed: vec![3; 32],
        os: "debian_12".into(),
        booted_at: Some(Timestamp::default()),
        services,
        ..AssignedDecky::default()
    };
    Assignment { generation, deckies: vec![decky] }
}

async fn eventually(what: &str, mut good: impl FnMut() -> bool) {
    let began = Instant::now();
    while !good() {
        assert!(began.elapsed() < Duration::from_secs(20), "not in time: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

struct Sensor {
    stop: CancellationToken,
    running: tokio::task::JoinHandle<io::Result<()>>,
}

fn sensor(folder: &Path, deception: SocketAddr) -> Sensor {
    let (_, token) = watch::channel(Some(SecretString::from("a-token".to_owned())));
    let config = Config::new(format!("http://{deception}"), folder.to_owned(), token);
    let stop = CancellationToken::new();
    let running = tokio::spawn(run_with(config, stop.clone(), teller));
    Sensor { stop, running }
}

impl Sensor {
    async fn end(self) {
        self.stop.cancel();
        self.running.await.unwrap().unwrap();
    }
}

/// Connects as soon as somebody listens, says so much, and leaves.
async fn visit(address: SocketAddr, bytes: usize) {
    let began = Instant::now();
    let mut client = loop {
        match TcpStream::connect(address).await {
            Ok(client) => break client,
            Err(error) => assert!(began.elapsed() < Duration::from_secs(20), "{error}"),
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    let mut room = [0; 2];
    client.read_exact(&mut room).await.unwrap();
    client.write_all(&vec![b'x'; bytes]).await.unwrap();
    client.shutdown().await.unwrap();
    let _ = client.read(&mut room).await;
}

fn free_port() -> SocketAddr {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

fn commands(fake: &Fake) -> usize {
    fake.0.events.lock().unwrap().values().filter(|event| event.event_type == "command").count()
}

#[tokio::test(flavor = "multi_thread")]
async fn events_files_and_recordings_arrive_once_whatever_ends_in_between() {
    let folder = tempfile::tempdir().unwrap();
    let decky = free_port();
    let fake = Fake::default();
    *fake.0.assignment.lock().unwrap() = Some(assignment(7, decky.port()));
    let mut deception = Deception::start(fake.clone(), "127.0.0.1:0".parse().unwrap()).await;
    let first = sensor(folder.path(), deception.address);
    visit(decky, 1000).await;
    eventually("all events", || commands(&fake) == 1000).await;
    eventually("file and recording", || fake.0.artifacts.lock().unwrap().len() == 2).await;
    eventually("a status", || {
        fake.0.statuses.lock().unwrap().last().is_some_and(|status| status.generation == 7 && status.buffered == 0)
    })
    .await;
    {
        let statuses = fake.0.statuses.lock().unwrap();
        let hosted = &statuses.last().unwrap().services;
        assert_eq!((hosted.len(), hosted[0].status.as_str()), (1, "running"));
        assert_eq!(hosted[0].address, decky.to_string());
        let artifacts = fake.0.artifacts.lock().unwrap();
        let (file, bytes) = artifacts.iter().find(|(header, _)| header.kind == "file").unwrap();
        assert_eq!((file.name.as_str(), file.size, bytes.len()), ("dropped", 1000, 1000));
        let (cast, bytes) = artifacts.iter().find(|(header, _)| header.kind == "recording").unwrap();
        assert_eq!(cast.size, bytes.len() as u64);
        assert_eq!(cast.sha256, hex::encode(ring::digest::digest(&ring::digest::SHA256, bytes).as_ref()));
        assert_eq!(fake.0.tokens.lock().unwrap()[0], "Bearer a-token");
    }

    // Deception is away, then it stores and breaks off before it says so, then it is well again.
    deception.end();
    visit(decky, 500).await;
    fake.0.cruel.store(true, Ordering::Relaxed);
    let mut deception = Deception::start(fake.clone(), deception.address).await;
    eventually("what was told meanwhile", || commands(&fake) == 1500).await;
    eventually("the same again", || fake.0.twice.load(Ordering::Relaxed) > 0).await;
    fake.0.cruel.store(false, Ordering::Relaxed);

    // The sensor ends with deception away; the next one hosts what the last did, and hands in what it left.
    deception.end();
    visit(decky, 200).await;
    first.end().await;
    let second = sensor(folder.path(), deception.address);
    visit(decky, 300).await;
    let _deception = Deception::start(fake.clone(), deception.address).await;
    eventually("what two sensors told", || commands(&fake) == 2000).await;
    eventually("all files", || fake.0.artifacts.lock().unwrap().len() == 8).await;
    second.end().await;
    assert_eq!(commands(&fake), 2000);
    let ids: std::collections::HashSet<_> =
        fake.0.events.lock().unwrap().values().map(|event| event.id.clone()).collect();
    assert_eq!(ids.len(), fake.0.events.lock().unwrap().len(), "no event twice");
}

#[tokio::test(flavor = "multi_thread")]
async fn two_sensors_do_not_share_a_folder() {
    let folder = tempfile::tempdir().unwrap();
    let nobody = free_port();
    let first = sensor(folder.path(), nobody);
    while !folder.path().join("sensor-id").exists() {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let second = sensor(folder.path(), nobody);
    let refused = second.running.await.unwrap().unwrap_err();
    assert!(refused.to_string().contains("another sensor"), "{refused}");
    first.end().await;
}
