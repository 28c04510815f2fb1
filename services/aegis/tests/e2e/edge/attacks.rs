//! What is meant to bring the product down, and what is meant to slip past a proxy in front of it.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use serde_json::json;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use super::{
    embedded,
    http2::{Attack, attack},
    raw::{PATIENCE, exchange, room, statuses},
};
use crate::harness::{Api, PASSWORD, Process, eventually};

/// Connections that send a byte a second.
const SLOW: usize = 2_000;
/// What an attack may cost: what is kept of a connection, and pages that the allocator holds on to.
const MEMORY: f64 = 256.0 * 1024.0 * 1024.0;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn attacks_leave_the_product_answering() {
    let folder = tempfile::tempdir().unwrap();
    let mut command = embedded(&folder);
    // All of them are of one address here.
    command.env("AEGIS_CONNECTIONS_PER_ADDRESS", "0");
    let mut process = Process::spawn("attacked", command, folder.path());
    let address = process.listening().await;
    let nobody = Api::new(&format!("http://{address}"), None);
    let login = json!({"username": "admin", "password": PASSWORD});
    nobody.post("/auth/login", &login).await.json(200);
    let before = figure(&nobody, "process_resident_memory_bytes").await;

    // These take their time: side by side.
    tokio::join!(slowloris(&address, &nobody), stalled_bodies(&address), async {
        broken_heads(&address).await;
        smuggling(&address).await;
        pipelining(&address).await;
        strange_names(&address).await;
    });
    for kind in [Attack::RapidReset, Attack::Continuation, Attack::HugeHeaders] {
        let (ended, sent) = attack(&address, kind).await;
        assert!(ended, "{kind:?}: the connection stays open after {sent} frames");
        assert_eq!(nobody.get("//livez").await.status, 200, "{kind:?}");
    }
    let grown = figure(&nobody, "process_resident_memory_bytes").await - before;
    assert!(grown < MEMORY, "the attacks cost {grown} bytes{}", process.last_lines());
    nobody.post("/auth/login", &login).await.json(200);
    assert!(process.alive());
    assert!(!process.stderr().contains("panicked"), "{}", process.last_lines());
    let ended = figure(&nobody, "aegis_connections_ended_total{why=\"slow_request\"}").await;
    assert!(ended >= 1.0, "{ended} connections were ended for being slow");
}

/// A value of the metrics; 0 where it is not there.
async fn figure(nobody: &Api, name: &str) -> f64 {
    let text = nobody.get("//metrics").await.text();
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    line.and_then(|value| value.parse().ok()).unwrap_or(0.0)
}

async fn slowloris(address: &str, nobody: &Api) {
    let count = SLOW.min(room());
    let ended = Arc::new(AtomicUsize::new(0));
    for _ in 0..count {
        let stream = TcpStream::connect(address).await.expect("a connection");
        tokio::spawn(crawl(stream, Arc::clone(&ended)));
    }
    eventually("slow connections are ended", PATIENCE, || async {
        // Others are served meanwhile.
        assert_eq!(nobody.get("//livez").await.status, 200);
        nobody.get("/techniques").await.error(401, "UNAUTHENTICATED");
        match ended.load(Ordering::Relaxed) {
            all if all == count => Ok(()),
            some => Err(format!("{some} of {count} ended")),
        }
    })
    .await;
}

/// A head by the byte.
async fn crawl(mut stream: TcpStream, ended: Arc<AtomicUsize>) {
    let _ = stream.write_all(b"GET /livez HTTP/1.1\r\nhost: localhost\r\nx: ").await;
    let mut answer = [0; 64];
    loop {
        tokio::select! {
            read = stream.read(&mut answer) => if matches!(read, Ok(0) | Err(_)) { break },
            () = tokio::time::sleep(Duration::from_secs(1)) => {
                if stream.write_all(b"a").await.is_err() {
                    break;
                }
            }
        }
    }
    ended.fetch_add(1, Ordering::Relaxed);
}

/// What was announced and never comes has an end, and an answer that says so.
async fn stalled_bodies(address: &str) {
    let post = "POST /api/v1/auth/login HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n";
    let length = format!("{post}content-length: 100\r\n\r\n{{");
    let chunked = format!("{post}transfer-encoding: chunked\r\n\r\n5\r\n{{");
    let (length, chunked) = tokio::join!(exchange(address, length.as_bytes()), exchange(address, chunked.as_bytes()));
    for answer in [length, chunked] {
        assert_eq!(statuses(&answer), [422], "{answer}");
        assert!(answer.contains("could not be read to its end"), "{answer}");
    }
}

async fn broken_heads(address: &str) {
    let huge = format!("GET /livez HTTP/1.1\r\nhost: localhost\r\nx: {}\r\n\r\n", "y".repeat(1024 * 1024));
    let many = format!("GET /livez HTTP/1.1\r\nhost: localhost\r\n{}\r\n", "x: y\r\n".repeat(10_000));
    let long = format!("GET /{} HTTP/1.1\r\nhost: localhost\r\n\r\n", "y".repeat(1024 * 1024));
    for request in [huge, many, long] {
        let answer = exchange(address, request.as_bytes()).await;
        // What is hung up on with bytes on their way may not hear why.
        assert!(matches!(statuses(&answer).as_slice(), [] | [431] | [414]), "{answer}");
    }
    let extensions = format!(
        "POST /api/v1/auth/login HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n\
         transfer-encoding: chunked\r\n\r\n1;{}\r\n{{\r\n0\r\n\r\n",
        "x=y;".repeat(100_000)
    );
    let answer = exchange(address, extensions.as_bytes()).await;
    assert!(statuses(&answer).iter().all(|status| (400..500).contains(status)), "{answer}");
}

/// One request may be two for a proxy in front, or two one: none of them is answered twice, and the connection ends.
async fn smuggling(address: &str) {
    let inner = "GET /livez HTTP/1.1\r\nhost: localhost\r\nx-smuggled: yes\r\n\r\n";
    let post = "POST /api/v1/auth/login HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n";
    let length = inner.len() + 5;
    let twice = [
        format!("{post}content-length: {length}\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n{inner}"),
        format!("{post}transfer-encoding: chunked\r\ncontent-length: {length}\r\n\r\n0\r\n\r\n{inner}"),
    ];
    for request in twice {
        let answer = exchange(address, request.as_bytes()).await;
        assert_eq!(statuses(&answer).len(), 1, "{request:?}: {answer}");
        assert!(!answer.ends_with("ok"), "{request:?}: {answer}");
    }
    let refused = [
        format!("{post}content-length: 4\r\ncontent-length: 5\r\n\r\n{{}}  {inner}"),
        format!("{post}content-length: 4, 5\r\n\r\n{{}}  {inner}"),
        format!("{post}content-length: +4\r\n\r\n{{}}  {inner}"),
        format!("{post}content-length: -1\r\n\r\n{inner}"),
        format!("{post}content-length: 99999999999999999999999\r\n\r\n{inner}"),
        format!("{post}transfer-encoding: chunked, identity\r\n\r\n0\r\n\r\n{inner}"),
        format!("{post}transfer-encoding: xchunked\r\n\r\n0\r\n\r\n{inner}"),
        format!("{post}transfer-encoding : chunked\r\n\r\n0\r\n\r\n{inner}"),
        format!("{post}transfer-encoding:\x0bchunked\r\n\r\n0\r\n\r\n{inner}"),
        format!("{post}transfer-encoding: chunked\r\n\r\nffffffffffffffffff\r\n{inner}"),
        format!("{post}transfer-encoding: chunked\r\n\r\n-1\r\n{inner}"),
        format!("{}transfer-encoding: chunked\r\n\r\n0\r\n\r\n{inner}", post.replace("1.1", "1.0")),
        format!("GET /livez HTTP/1.1\r\nhost: localhost\r\nx: a\rb\r\n\r\n{inner}"),
        format!("GET /livez HTTP/1.1\r\nhost: localhost\r\n x: folded\r\n\r\n{inner}"),
        format!("GET /livez HTTP/1.1\nhost localhost\n\n{inner}"),
    ];
    for request in refused {
        let answer = exchange(address, request.as_bytes()).await;
        let statuses = statuses(&answer);
        assert!(statuses.len() == 1 && (400..500).contains(&statuses[0]), "{request:?}: {answer}");
    }
    let two = "GET /livez HTTP/1.1\r\nhost: localhost\r\nhost: 127.0.0.1\r\nconnection: close\r\n\r\n";
    assert_eq!(statuses(&exchange(address, two.as_bytes()).await), [400]);
}

/// Many requests at once are answered in their order.
async fn pipelining(address: &str) {
    let one = "GET /livez HTTP/1.1\r\nhost: localhost\r\n\r\n";
    let last = "GET /nothing HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n";
    let answer = exchange(address, format!("{}{last}", one.repeat(200)).as_bytes()).await;
    let mut expected = vec![200; 200];
    expected.push(404);
    assert_eq!(statuses(&answer), expected);
}

/// The name of another site is not ours where we listen on this machine alone.
async fn strange_names(address: &str) {
    for (path, host, status) in [
        ("/docs/", "evil.example", 403),
        ("/metrics", "evil.example", 403),
        ("/livez", "evil.example:8000", 403),
        ("http://evil.example/livez", "localhost", 403),
        ("/livez", "localhost:8000", 200),
        ("/livez", "[::1]:8000", 200),
        ("/docs/", address, 200),
    ] {
        let request = format!("GET {path} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n");
        let answer = exchange(address, request.as_bytes()).await;
        assert_eq!(statuses(&answer), [status], "{path} {host}: {answer}");
        let head = answer.split("\r\n\r\n").next().unwrap().to_lowercase();
        for header in ["x-content-type-options: nosniff", "x-frame-options: deny", "cross-origin-opener-policy"] {
            assert!(head.contains(header), "{path} {host} has no {header}: {head}");
        }
        assert!(!head.contains("\r\nserver:"), "{head}");
    }
}
