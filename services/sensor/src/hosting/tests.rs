use aegis_proto::deception::v1::AssignedService;
use async_trait::async_trait;
use prost_types::Timestamp;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::*;
use crate::{
    limits::Gate,
    outlet::{Reports, outlet},
    protocol::Protocol,
    session::{Limits, Session, Stream},
    sweeps::Sweeps,
};

/// Says who it is and then what it is told.
struct Echo(String);

#[async_trait]
impl Protocol for Echo {
    async fn serve(self: Arc<Self>, mut stream: Stream, session: Session) -> io::Result<()> {
        stream.write_all(format!("{} {}\n", session.persona().name, self.0).as_bytes()).await?;
        let mut room = [0; 64];
        loop {
            match stream.read(&mut room).await? {
                0 => return Ok(()),
                read => stream.write_all(&room[..read]).await?,
            }
        }
    }
}

fn make(name: &str, _: &Arc<Persona>, options: &decoys::Options) -> Result<Server, String> {
    match name {
        "broken" => panic!("a fault of this one"),
        "unknown" => Err("there is no service unknown".into()),
        _ => Ok(Server::Connections(Arc::new(Echo(options.get("version").cloned().unwrap_or_default())))),
    }
}

fn fleet() -> (Fleet, Reports) {
    let (outlet, reports) = outlet(std::env::temp_dir());
    let hosting = Hosting {
        outlet,
        gate: Gate::new(100, 100),
        sweeps: Sweeps::default(),
        limits: Limits::default(),
        connections: TaskTracker::new(),
        stop: CancellationToken::new(),
    };
    (Fleet::new(hosting, make), reports)
}

fn assignment(services: &[(&str, u32, &str)]) -> Assignment {
    let services = services.iter().map(|(name, port, version)| AssignedService {
        name: (*name).into(),
        port: *port,
        options: [("version".to_owned(), (*version).to_owned())].into(),
    });
    let decky = AssignedDecky {
        id: Uuid::from_bytes([1; 16]).to_string(),
        name: "decky-01".into(),
        ip: "127.0.0.1".into(),
        seed: vec![1; 32],
        os: "debian_12".into(),
        booted_at: Some(Timestamp::default()),
        services: services.collect(),
        ..AssignedDecky::default()
    };
    Assignment { generation: 1, deckies: vec![decky] }
}

async fn talk(client: &mut TcpStream, text: &str) -> String {
    client.write_all(text.as_bytes()).await.unwrap();
    let mut room = [0; 64];
    let read = client.read(&mut room).await.unwrap();
    String::from_utf8_lossy(&room[..read]).into_owned()
}

fn address(fleet: &Fleet, service: &str) -> String {
    fleet.report().into_iter().find(|hosted| hosted.service == service).unwrap().address
}

#[tokio::test]
async fn what_changes_changes_and_open_sessions_go_on() {
    let (mut fleet, _reports) = fleet();
    fleet.apply(&assignment(&[("one", 0, "1"), ("two", 0, "1")])).await;
    let (one, two) = (address(&fleet, "one"), address(&fleet, "two"));
    let mut client = TcpStream::connect(&two).await.unwrap();
    assert_eq!(talk(&mut client, "").await, "decky-01 1\n");

    // The same again, one with another version on the port that it had, one that goes.
    let port = one.rsplit(':').next().unwrap().parse().unwrap();
    fleet.apply(&assignment(&[("one", port, "2")])).await;
    assert_eq!(address(&fleet, "one"), one);
    let mut other = TcpStream::connect(&one).await.unwrap();
    assert_eq!(talk(&mut other, "").await, "decky-01 2\n");
    assert_eq!(talk(&mut client, "still here").await, "still here");
    assert!(TcpStream::connect(&two).await.is_err());

    // Another service on the same port at once, while a session of the one before is open.
    fleet.apply(&assignment(&[("three", port, "3")])).await;
    assert_eq!(fleet.report().len(), 1);
    let mut third = TcpStream::connect(&one).await.unwrap();
    assert_eq!(talk(&mut third, "").await, "decky-01 3\n");
    assert_eq!(talk(&mut other, "mutated").await, "mutated");

    fleet.apply(&Assignment::default()).await;
    assert!(fleet.report().is_empty());
}

#[tokio::test]
async fn what_cannot_run_is_told_by_name_and_the_others_run() {
    let (mut fleet, _reports) = fleet();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let mut wanted = assignment(&[("one", 0, "1"), ("broken", 0, ""), ("unknown", 0, ""), ("two", port.into(), "1")]);
    wanted.deckies.push(AssignedDecky {
        id: Uuid::from_bytes([2; 16]).to_string(),
        ip: "192.0.2.7".into(),
        ..wanted.deckies[0].clone()
    });
    wanted.deckies[1].services.truncate(1);
    fleet.apply(&wanted).await;
    let details: Vec<_> =
        fleet.report().into_iter().map(|hosted| (hosted.service, hosted.status, hosted.detail)).collect();
    assert_eq!(details[0].2, "it failed while it was made");
    assert_eq!((details[1].0.as_str(), details[1].1.as_str()), ("one", "running"));
    assert_eq!(details[2].2, format!("127.0.0.1:{port} is in use"));
    assert_eq!(details[3].2, "there is no service unknown");
    assert_eq!(details[4].2, "192.0.2.7 is not an address of this machine");

    // What failed is tried again.
    drop(taken);
    assert!(fleet.has_failed());
    fleet.apply(&wanted).await;
    assert_eq!(address(&fleet, "two"), format!("127.0.0.1:{port}"));
}
