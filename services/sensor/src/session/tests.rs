use std::{io, time::Duration};

use async_trait::async_trait;
use proptest::prelude::*;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use super::*;
use crate::{
    persona::Os,
    protocol::{Protocol, Server},
    testing::{Decoy, persona},
};

/// Does what it is told, one word a line.
struct Puppet;

#[async_trait]
impl Protocol for Puppet {
    async fn serve(self: Arc<Self>, mut stream: Stream, session: Session) -> io::Result<()> {
        let mut line = String::new();
        loop {
            match stream.read_u8().await? {
                b'\n' => {
                    match line.as_str() {
                        "learn" => session.learn("client_banner", "puppeteer 1.0\0"),
                        "fail" => session.emit(EventType::AuthFail, "no", &[("username", "root"), ("password", "1")]),
                        "long" => session.emit(EventType::Command, "x", &[("command", &"é".repeat(10_000))]),
                        "many" => (0..30_000).for_each(|_| session.emit(EventType::Query, "q", &[])),
                        "file" => {
                            let mut file = session.capture("/tmp/../a b.sh").await.unwrap();
                            assert!(file.write(b"#!/bin/sh\n").await?);
                            file.finish("/tmp/a b.sh").await?;
                        }
                        "leave" => drop(session.capture("left").await.unwrap()),
                        "record" => {
                            let recorder = session.record(80, 24);
                            recorder.output(b"$ \xc3");
                            recorder.output(b"\xa9\xff\r\n");
                            recorder.input(b"ls\r");
                        }
                        "panic" => panic!("a fault of this one"),
                        _ => return Ok(()),
                    }
                    stream.write_all(b"ok\n").await?;
                    line.clear();
                }
                byte => line.push(char::from(byte)),
            }
        }
    }
}

fn decoy() -> Decoy {
    Decoy::start(persona(Os::Debian12), "puppet", Server::Connections(Arc::new(Puppet))).unwrap()
}

async fn say(decoy: &Decoy, words: &[&str]) -> TcpStream {
    let mut client = TcpStream::connect(decoy.address()).await.unwrap();
    for word in words {
        client.write_all(format!("{word}\n").as_bytes()).await.unwrap();
        let mut room = [0; 3];
        // None comes of one that failed.
        let _ = client.read_exact(&mut room).await;
    }
    client
}

#[tokio::test]
async fn a_connection_is_told_of_from_its_beginning_to_its_end() {
    let decoy = decoy();
    let client = say(&decoy, &["fail", "learn", "fail", "long"]).await;
    let port = client.local_addr().unwrap().port();
    drop(client);
    let ends = decoy.told(EventType::Disconnect, 1).await;
    let events = decoy.events();
    assert_eq!(events[0].event_type, "connect");
    assert_eq!(events[0].fields["dst_port"], decoy.address().port().to_string());
    assert!(port > 0 && events.iter().all(|event| event.session == events[0].session));
    assert!(!events[1].fields.contains_key("client_banner"), "not known yet");
    assert_eq!(events[2].fields["client_banner"], "puppeteer 1.0\\x00");
    assert_eq!((events[2].fields["username"].as_str(), events[2].fields["password"].as_str()), ("root", "1"));
    assert_eq!(events[3].fields["command"], "é".repeat(2048));
    assert_eq!(ends[0].fields["client_banner"], "puppeteer 1.0\\x00");
    assert_eq!((ends[0].fields["bytes_in"].as_str(), ends[0].fields["bytes_out"].as_str()), ("21", "12"));
    assert!(ends[0].fields["duration_ms"].parse::<u64>().is_ok());
}

#[tokio::test]
async fn one_that_says_nothing_is_a_scan_and_one_that_says_too_much_is_counted() {
    let decoy = decoy();
    drop(TcpStream::connect(decoy.address()).await.unwrap());
    assert_eq!(decoy.told(EventType::Scan, 1).await[0].fields["kind"], "empty_connection");
    drop(say(&decoy, &["many"]).await);
    let ends = decoy.told(EventType::Disconnect, 2).await;
    assert_eq!(ends[1].fields["untold_events"], (30_001 - MAX_EVENTS).to_string());
}

#[tokio::test]
async fn files_are_kept_and_told_of() {
    let decoy = decoy();
    drop(say(&decoy, &["leave", "file"]).await);
    let told = decoy.told(EventType::FileCaptured, 1).await;
    let fields = &told[0].fields;

    assert_eq!(fields["sha256"], "a8076d3d28d21e02012b20eaf7dbf75409a6277134439025f282e368e3305abf");
    assert_eq!((fields["name"].as_str(), fields["path"].as_str()), ("/tmp/../a b.sh", "/tmp/a b.sh"));
    assert_eq!(fields["size"], "10");
    assert!(fields["stored_as"].ends_with(&format!("Z_{}_a_b.sh", &fields["sha256"][..12])), "{fields:?}");
    assert_eq!(decoy.captured().await, [("/tmp/../a b.sh".to_owned(), b"#!/bin/sh\n".to_vec())]);
}

#[tokio::test]
async fn a_recording_is_asciicast() {
    let decoy = decoy();
    drop(say(&decoy, &["record"]).await);
    let cast = decoy.recording().await;
    let lines: Vec<serde_json::Value> = cast.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!((&lines[0]["version"], &lines[0]["width"], &lines[0]["height"]), (&2.into(), &80.into(), &24.into()));
    let pieces: Vec<_> = lines[1..].iter().map(|line| (line[1].as_str().unwrap(), line[2].as_str().unwrap())).collect();
    assert_eq!(pieces, [("o", "$ "), ("o", "é\u{fffd}\r\n"), ("i", "ls\r")]);
    assert!(lines[1..].windows(2).all(|two| two[0][0].as_f64() <= two[1][0].as_f64()));
}

#[tokio::test]
async fn a_fault_ends_one_connection() {
    let decoy = decoy();
    let mut other = say(&decoy, &[]).await;
    drop(say(&decoy, &["panic"]).await);
    decoy.told(EventType::Disconnect, 1).await;
    other.write_all(b"fail\n").await.unwrap();
    assert_eq!(decoy.told(EventType::AuthFail, 1).await.len(), 1);
}

#[tokio::test]
async fn silence_slowness_and_too_much_end_a_connection() {
    let limits = Limits { idle: Duration::from_millis(300), total: Duration::from_millis(900), bytes: 1000 };
    let server = Server::Connections(Arc::new(Puppet));
    let decoy = Decoy::start_with(persona(Os::Debian12), "puppet", server, limits).unwrap();
    let mut silent = TcpStream::connect(decoy.address()).await.unwrap();
    let mut slow = TcpStream::connect(decoy.address()).await.unwrap();
    let mut much = TcpStream::connect(decoy.address()).await.unwrap();
    let writing = tokio::spawn(async move {
        // Until it is closed.
        while slow.write_all(b"a").await.is_ok() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    });
    much.write_all(&[b'x'; 5000]).await.unwrap();
    let mut room = [0; 10];
    for client in [&mut much, &mut silent] {
        assert!(matches!(client.read(&mut room).await, Ok(0) | Err(_)));
    }
    writing.await.unwrap();
    let ends = decoy.told(EventType::Disconnect, 3).await;
    assert_eq!(ends.len(), 3);
    assert!(ends.iter().all(|end| end.fields["bytes_in"].parse::<u64>().unwrap() <= 5000));
}

proptest! {
    #[test]
    fn texts_are_cut_between_characters(input in ".*", max in 0_usize..50) {
        let cut = text(&input, max);
        prop_assert!(!cut.contains('\0'));
        prop_assert!(cut.len() <= max * 4);
    }

    #[test]
    fn any_bytes_are_a_text(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let escaped = escaped(&bytes, 100);
        prop_assert!(escaped.len() <= 400 && !escaped.contains('\0'));
        if bytes.len() <= 100 && let Ok(text) = std::str::from_utf8(&bytes) {
            prop_assert_eq!(escaped, text.replace('\0', "\\x00"));
        }
    }
}
