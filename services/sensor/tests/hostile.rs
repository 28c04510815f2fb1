//! Hostile input for every service: it stays alive, and its memory stays bounded.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking, also in its helpers"
)]

use std::{collections::BTreeMap, io::ErrorKind, net::SocketAddr, sync::Arc, time::Duration};

use aegis_sensor::{
    decoys::{self, NAMES},
    persona::{Os, Persona},
    protocol::Server,
    testing::{self, Decoy},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpSocket, TcpStream, UdpSocket},
    sync::Mutex,
    time::timeout,
};

/// What a service may need for one more answer on a busy machine.
const PATIENCE: Duration = Duration::from_secs(20);

/// Memory is that of the process: one test at a time.
static ALONE: Mutex<()> = Mutex::const_new(());

/// Numbers that are the same at each run (xorshift).
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn bytes(&mut self, length: usize) -> Vec<u8> {
        (0..length).map(|_| (self.next() >> 24) as u8).collect()
    }
}

/// Every service that there is, with the system that it runs on.
fn services() -> Vec<(&'static str, Arc<Persona>, Server)> {
    let systems = [Os::Debian12, Os::WindowsServer2019, Os::BusyBox];
    let mut all = Vec::new();
    for (at, name) in NAMES.into_iter().enumerate() {
        let persona = testing::persona(systems[at % systems.len()]);
        let server = decoys::server(name, &persona, &BTreeMap::new()).unwrap_or_else(|why| panic!("{name}: {why}"));
        all.push((name, persona, server));
    }
    all
}

/// Resident memory of this process, MiB.
fn memory() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() / 1024
}

/// Sends it and reads what comes until nothing does; how the other side ends it does not matter.
async fn throw(address: SocketAddr, pieces: &[Vec<u8>]) {
    let Ok(mut client) = TcpStream::connect(address).await else { panic!("{address} does not listen any more") };
    let mut room = [0; 4096];
    for piece in pieces {
        if client.write_all(piece).await.is_err() {
            return;
        }
        let _ = timeout(Duration::from_millis(20), client.read(&mut room)).await;
    }
    let _ = client.shutdown().await;
    let _ = timeout(Duration::from_millis(200), async { while client.read(&mut room).await.unwrap_or(0) > 0 {} }).await;
}

/// It still takes connections, and tells of them.
async fn alive(decoy: &Decoy, name: &str) {
    let client = timeout(PATIENCE, TcpStream::connect(decoy.address())).await;
    assert!(matches!(client, Ok(Ok(_))), "{name} does not answer");
}

#[tokio::test(flavor = "multi_thread")]
async fn random_bytes_for_every_service() {
    let _alone = ALONE.lock().await;
    // The openings that make each of them read on.
    let openings: [&[u8]; 14] = [
        b"",
        b"SSH-2.0-x\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"GET / HTTP/1.1\r\n",
        b"POST /x HTTP/1.1\r\nContent-Length: 99999999999999999999\r\n\r\n",
        b"*1000000\r\n$1000000000\r\n",
        b"EHLO x\r\nMAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\nDATA\r\n",
        b"\xff\xff\xff\x7f\x01\x00\x00\x00\x00\x00\x00\x00\xdd\x07\x00\x00",
        b"\x00\x00\x00\x08\x04\xd2\x16\x2f",
        b"\x00\x03\x00\x00user\0root\0\0",
        b"\x10\xff\xff\xff\x7f\x00\x04MQTT\x04",
        b"\x30\x84\x7f\xff\xff\xff\x02\x01\x01\x60",
        b"RFB 003.008\n\x02",
        b"USER anonymous\r\nPASS x\r\nRETR ",
    ];
    let mut numbers = Numbers(0x5eed_5eed_1234_5678);
    let before = memory();
    for (name, persona, server) in services() {
        if let Server::Datagrams(_) = server {
            continue;
        }
        let decoy = Decoy::start(persona, name, server).unwrap();
        let mut throws = Vec::new();
        for opening in openings {
            for length in [1, 7, 64, 700, 20_000] {
                let pieces = vec![opening.to_vec(), numbers.bytes(length), b"\r\n\r\n".to_vec(), numbers.bytes(length)];
                let address = decoy.address();
                throws.push(tokio::spawn(async move { throw(address, &pieces).await }));
            }
        }
        for throw in throws {
            throw.await.unwrap();
        }
        alive(&decoy, name).await;
    }
    let after = memory();
    assert!(after.saturating_sub(before) < 300, "{before} MiB became {after} MiB");
}

#[tokio::test(flavor = "multi_thread")]
async fn random_datagrams() {
    let _alone = ALONE.lock().await;
    let mut numbers = Numbers(99);
    for (name, persona, server) in services() {
        let Server::Datagrams(_) = server else { continue };
        let decoy = Decoy::start(persona, name, server).unwrap();
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        socket.connect(decoy.address()).await.unwrap();
        for round in 0..3000_usize {
            let mut datagram = numbers.bytes(round % 300);
            if round % 2 == 0 {
                // The beginning of a message of SNMP, so that it is read on.
                datagram.splice(0..0, [0x30, 0x26, 0x02, 0x01, 0x01, 0x04, 0x06, b'p', b'u', b'b', b'l', b'i', b'c']);
            }
            let _ = socket.send(&datagram).await;
        }
        assert!(!decoy.told(aegis_sensor::session::EventType::Connect, 1).await.is_empty(), "{name}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_line_of_a_gigabyte_for_every_service() {
    let _alone = ALONE.lock().await;
    const GIGABYTE: usize = 1 << 30;
    let chunk = vec![b'A'; 1 << 16];
    for (name, persona, server) in services() {
        if let Server::Datagrams(_) = server {
            continue;
        }
        let decoy = Decoy::start(persona, name, server).unwrap();
        let before = memory();
        let mut client = TcpStream::connect(decoy.address()).await.unwrap();
        let (mut sent, mut most) = (0, before);
        while sent < GIGABYTE {
            match timeout(Duration::from_secs(2), client.write(&chunk)).await {
                Ok(Ok(written)) => sent += written,
                // Ended, or not read any more: both are an end.
                Ok(Err(_)) | Err(_) => break,
            }
            most = most.max(memory());
        }
        drop(client);
        alive(&decoy, name).await;
        assert!(most.saturating_sub(before) < 100, "{name}: {before} MiB became {most} MiB after {sent} bytes");
        assert!(sent < GIGABYTE, "{name} read all of it");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_connections_that_say_nothing_cost_little() {
    let _alone = ALONE.lock().await;
    // Both ends are in this process.
    let room = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    let most = rustix::process::Rlimit { current: room.maximum, maximum: room.maximum };
    rustix::process::setrlimit(rustix::process::Resource::Nofile, most).unwrap();
    let wanted = room.maximum.map_or(10_000, |files| (files as usize).saturating_sub(500) / 2).min(10_000);
    let telnet = testing::persona(Os::BusyBox);
    let server = decoys::server("telnet", &telnet, &BTreeMap::new()).unwrap();
    let decoy = Decoy::start(telnet, "telnet", server).unwrap();
    let before = memory();
    let mut clients = Vec::with_capacity(wanted);
    for number in 0..wanted {
        // From as many addresses as an attacker may have.
        let socket = TcpSocket::new_v4().unwrap();
        let from = SocketAddr::from(([127, 1, (number / 200) as u8, 1], 0));
        socket.bind(from).unwrap();
        match timeout(PATIENCE, socket.connect(decoy.address())).await {
            Ok(Ok(client)) => clients.push(client),
            Ok(Err(error)) => assert_eq!(error.kind(), ErrorKind::ConnectionRefused, "{error}"),
            Err(_) => panic!("connection {number} is not taken"),
        }
    }
    let after = memory();
    println!("{} connections: {before} MiB became {after} MiB", clients.len());
    assert!(after.saturating_sub(before) < 200, "{before} MiB became {after} MiB");
    alive(&decoy, "telnet").await;
}
