use std::{convert::Infallible, net::Ipv4Addr, sync::Mutex};

use axum::{
    body::{Body, to_bytes},
    response::sse::{Event, Sse},
    routing::{get, post},
};
use bytes::Bytes;
use futures::{StreamExt, stream};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    sync::oneshot,
    task::JoinHandle,
};

use super::*;

/// So long nothing may take that is to happen soon.
const PATIENCE: Duration = Duration::from_secs(20);

fn limits() -> Limits {
    Limits { look: Duration::from_millis(20), ..Limits::default() }
}

/// A socket that listens.
struct Running {
    address: SocketAddr,
    url: String,
    shutdown: Shutdown,
    task: JoinHandle<io::Result<()>>,
}

impl Running {
    async fn new(router: impl FnOnce(CancellationToken) -> Router, strangers: bool, limits: Limits) -> Running {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let shutdown = Shutdown::new();
        let socket = Socket { tls: None, strangers, limits };
        let task = tokio::spawn(listen(listener, router(shutdown.token()), shutdown.clone(), socket));
        Running { address, url: format!("http://{address}/"), shutdown, task }
    }

    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }

    async fn end(self) {
        self.shutdown.cancel();
        self.task.await.unwrap().unwrap();
    }
}

/// A stream of one event that stays open until the process is to stop.
fn streaming(stop: CancellationToken) -> Router {
    let handler = move || {
        let stop = stop.clone();
        async move {
            let end = async move {
                stop.cancelled().await;
                Ok::<_, Infallible>(Event::default().data("end"))
            };
            let first = stream::once(async { Ok(Event::default().data("first")) });
            Sse::new(first.chain(stream::once(end)))
        }
    };
    Router::new().route("/", get(handler))
}

/// Answers at once; reads the body of what is posted.
fn plain(_: CancellationToken) -> Router {
    let read = |body: Body| async {
        match to_bytes(body, 1024).await {
            Ok(body) => format!("{} bytes", body.len()),
            Err(_) => "no end".to_owned(),
        }
    };
    Router::new().route("/", get(|| async { "here" }).post(read)).route("/slow", post(|| async { "not read" }))
}

/// An answer without an end, and what tells that nobody sends it any more.
fn endless() -> (impl FnOnce(CancellationToken) -> Router, oneshot::Receiver<()>) {
    struct Told(Option<oneshot::Sender<()>>);
    impl Drop for Told {
        fn drop(&mut self) {
            let _ = self.0.take().unwrap().send(());
        }
    }
    let (tell, told) = oneshot::channel();
    let tell = Mutex::new(Some(Told(Some(tell))));
    let router = move |_| {
        let tell = Arc::new(tell);
        let handler = move || {
            let told = tell.lock().unwrap().take();
            async move {
                let parts = stream::repeat_with(move || {
                    let _ = &told;
                    Ok::<_, Infallible>(Bytes::from_static(&[b'x'; 16 * 1024]))
                });
                Body::from_stream(parts)
            }
        };
        Router::new().route("/", get(handler))
    };
    (router, told)
}

fn client(http2: bool) -> reqwest::Client {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let builder = reqwest::Client::builder().no_proxy();
    let builder = if http2 { builder.http2_prior_knowledge() } else { builder };
    builder.build().unwrap()
}

/// All that comes until the connection ends, which it has to.
async fn rest(stream: &mut TcpStream) -> String {
    let mut text = Vec::new();
    let read = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut text)).await.expect("the connection ends");
    // A reset is an end.
    let _ = read;
    String::from_utf8_lossy(&text).into_owned()
}

async fn ends(told: oneshot::Receiver<()>) {
    tokio::time::timeout(PATIENCE, told).await.expect("the answer is given up").unwrap();
}

#[tokio::test]
async fn open_streams_do_not_hold_the_end_up_and_hear_of_it() {
    let server = Running::new(streaming, true, limits()).await;
    let mut streams = Vec::new();
    for http2 in [false, true] {
        let mut answer = client(http2).get(&server.url).send().await.unwrap();
        assert_eq!(answer.chunk().await.unwrap().unwrap(), "data: first\n\n");
        streams.push(answer);
    }
    server.shutdown.cancel();
    for answer in streams {
        assert_eq!(answer.text().await.unwrap(), "data: end\n\n");
    }
    server.end().await;
}

#[tokio::test]
async fn many_streams_of_a_peer_leave_room_for_calls_on_the_same_connection() {
    let server = Running::new(streaming, false, limits()).await;
    let client = client(true);
    let mut streams = Vec::new();
    for _ in 0..300 {
        streams.push(client.get(&server.url).send().await.unwrap());
    }
    assert_eq!(client.get(format!("{}nothing", server.url)).send().await.unwrap().status(), 404);
    server.shutdown.cancel();
    drop(streams);
    server.end().await;
}

#[tokio::test]
async fn a_request_that_comes_by_the_byte_has_an_end() {
    let limits = Limits { head: Duration::from_millis(300), ..limits() };
    let server = Running::new(plain, true, limits).await;
    // At the very beginning, within HTTP/2's first words, and after a request that was in good order.
    for (first, byte) in [("", "G"), ("GET / HTTP/1.1\r\nx: ", "y"), ("PRI * HTTP/2.0\r\n\r\n", "")] {
        let mut stream = server.connect().await;
        stream.write_all(first.as_bytes()).await.unwrap();
        let closed = async {
            while stream.write_all(byte.as_bytes()).await.is_ok() && !byte.is_empty() {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            rest(&mut stream).await
        };
        let text = tokio::time::timeout(PATIENCE, closed).await.expect("it is hung up on");
        assert!(!text.contains("200 OK"), "{text}");
    }
    let mut stream = server.connect().await;
    stream.write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
    let mut answer = [0; 1024];
    assert!(stream.read(&mut answer).await.unwrap() > 0);
    stream.write_all(b"GET / HT").await.unwrap();
    assert_eq!(rest(&mut stream).await, "");
    server.end().await;
}

#[tokio::test]
async fn a_connection_may_rest_but_not_for_ever() {
    let limits = Limits { idle: Duration::from_millis(600), head: Duration::from_millis(100), ..limits() };
    let server = Running::new(plain, true, limits).await;
    let mut stream = server.connect().await;
    let mut answer = vec![0; 1024];
    for _ in 0..2 {
        stream.write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
        let read = stream.read(&mut answer).await.unwrap();
        assert!(String::from_utf8_lossy(&answer[..read]).ends_with("here"));
        // Longer than a head may take: between two requests that is another limit.
        tokio::time::sleep(Duration::from_millis(250)).await;
    }
    assert_eq!(rest(&mut stream).await, "");
    server.end().await;
}

#[tokio::test]
async fn a_body_that_stands_still_ends() {
    let limits = Limits { body: Duration::from_millis(200), ..limits() };
    let server = Running::new(plain, true, limits).await;
    for head in ["content-length: 10\r\n\r\nab", "transfer-encoding: chunked\r\n\r\n5\r\nab"] {
        let mut stream = server.connect().await;
        let request = format!("POST / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n{head}");
        stream.write_all(request.as_bytes()).await.unwrap();
        assert!(rest(&mut stream).await.ends_with("no end"));
    }
    let whole = client(false).post(&server.url).body("0123456789").send().await.unwrap();
    assert_eq!(whole.text().await.unwrap(), "10 bytes");
    server.end().await;
}

#[tokio::test]
async fn an_answer_that_nobody_takes_ends() {
    let limits = Limits { write: Duration::from_millis(300), ..limits() };
    let (router, told) = endless();
    let server = Running::new(router, true, limits).await;
    let mut stream = server.connect().await;
    stream.write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
    ends(told).await;
    server.end().await;

    // On HTTP/2 the connection is read, but nothing of the answer is taken.
    let (router, told) = endless();
    let server = Running::new(router, true, limits).await;
    let answer = client(true).get(&server.url).send().await.unwrap();
    ends(told).await;
    drop(answer);
    server.end().await;
}

#[tokio::test]
async fn an_address_has_so_many_connections_and_no_more() {
    let limits = Limits { per_address: Some(2), ..limits() };
    let server = Running::new(plain, true, limits).await;
    let mut two = [server.connect().await, server.connect().await];
    for stream in &mut two {
        stream.write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
        let mut answer = [0; 1024];
        assert!(stream.read(&mut answer).await.unwrap() > 0);
    }
    assert_eq!(rest(&mut server.connect().await).await, "");
    drop(two);
    // Their places are free when the socket has seen that they left.
    let again = async {
        while client(false).get(&server.url).send().await.is_err() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, again).await.expect("there is room again");
    server.end().await;
}

#[tokio::test]
async fn a_head_has_a_size_and_a_number_of_lines() {
    let server = Running::new(plain, true, limits()).await;
    let large = format!("x: {}\r\n", "y".repeat(1024 * 1024));
    let many = "x: y\r\n".repeat(10_000);
    for lines in [large, many] {
        let mut stream = server.connect().await;
        let request = format!("GET / HTTP/1.1\r\nhost: a\r\n{lines}\r\n");
        // It may be hung up on before all is sent.
        let _ = stream.write_all(request.as_bytes()).await;
        let answer = rest(&mut stream).await;
        assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 431"), "{answer}");
    }
    server.end().await;
}
