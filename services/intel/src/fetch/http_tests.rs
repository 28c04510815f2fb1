//! Downloads from a server that misbehaves on purpose, byte by byte.

use std::io::Read;
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::*;

/// Answers the nth request with the nth text, the last one again and again, and closes; remembers the requests.
struct Server {
    address: String,
    requests: Arc<Mutex<Vec<String>>>,
}

impl Server {
    async fn start(answers: Vec<Vec<u8>>) -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let requests = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&requests);
        tokio::spawn(async move {
            loop {
                let Ok((mut stream, _)) = listener.accept().await else {
                    return;
                };
                let mut request = Vec::new();
                while !request.ends_with(b"\r\n\r\n") {
                    let Ok(byte) = stream.read_u8().await else {
                        break;
                    };
                    request.push(byte);
                }
                if request.is_empty() {
                    continue;
                }
                let number = {
                    let mut seen = seen.lock().unwrap();
                    seen.push(String::from_utf8(request).unwrap().to_ascii_lowercase());
                    seen.len() - 1
                };
                let _ = stream.write_all(&answers[number.min(answers.len() - 1)]).await;
                let _ = stream.shutdown().await;
            }
        });
        Server { address, requests }
    }

    fn location(&self) -> Location {
        Location::parse(&format!("http://{}/attack/x.json", self.address)).unwrap()
    }

    fn requests(&self) -> Vec<String> {
        self.requests.lock().unwrap().clone()
    }
}

fn limits() -> FetchLimits {
    // The provider is the process's, and tests share one.
    let _ = rustls::crypto::ring::default_provider().install_default();
    FetchLimits { first_pause: Duration::from_millis(1), max_download_bytes: 10_000, ..FetchLimits::default() }
}

fn answer(status: &str, headers: &[&str], body: &[u8]) -> Vec<u8> {
    let mut bytes = format!("HTTP/1.1 {status}\r\nConnection: close\r\n").into_bytes();
    for header in headers {
        bytes.extend_from_slice(format!("{header}\r\n").as_bytes());
    }
    bytes.extend_from_slice(b"\r\n");
    bytes.extend_from_slice(body);
    bytes
}

fn ok(body: &[u8]) -> Vec<u8> {
    answer("200 OK", &[&format!("Content-Length: {}", body.len()), "ETag: \"one\"", "Accept-Ranges: bytes"], body)
}

/// The answer without the end of its body.
fn cut(mut answer: Vec<u8>, missing: usize) -> Vec<u8> {
    answer.truncate(answer.len() - missing);
    answer
}

async fn get(server: &Server, limits: &FetchLimits, etag: Option<&str>) -> Result<Fetched, FetchError> {
    fetch(&server.location(), limits, etag, |_, _| {}).await
}

fn text(fetched: Fetched) -> String {
    let Fetched::Document(document) = fetched else { panic!("there is a document") };
    let mut text = String::new();
    open(&document, &|_| true, &FetchLimits::default()).unwrap().read_to_string(&mut text).unwrap();
    text
}

#[tokio::test]
async fn a_document_comes_with_its_etag_and_progress_and_its_file_goes() {
    let server = Server::start(vec![ok(b"0123456789")]).await;
    let told = Mutex::new(Vec::new());
    let spool = tempfile::tempdir().unwrap();
    let limits = FetchLimits { spool_dir: Some(spool.path().to_owned()), ..limits() };
    let fetched =
        fetch(&server.location(), &limits, None, |read, total| told.lock().unwrap().push((read, total))).await.unwrap();
    let Fetched::Document(document) = &fetched else { panic!("there is a document") };
    assert_eq!((document.etag.as_deref(), document.size, document.format), (Some("\"one\""), 10, Format::Plain));
    assert_eq!(told.lock().unwrap().last(), Some(&(10, Some(10))));
    assert_eq!(std::fs::read_dir(spool.path()).unwrap().count(), 1);
    assert_eq!(text(fetched), "0123456789");
    assert_eq!(std::fs::read_dir(spool.path()).unwrap().count(), 0);
}

#[tokio::test]
async fn the_same_etag_is_not_modified() {
    let server = Server::start(vec![answer("304 Not Modified", &[], b"")]).await;
    assert!(matches!(get(&server, &limits(), Some("\"one\"")).await.unwrap(), Fetched::NotModified));
    assert!(server.requests()[0].contains("if-none-match: \"one\""));
}

#[tokio::test]
async fn a_cut_download_goes_on_where_it_was() {
    let rest =
        answer("206 Partial Content", &["Content-Length: 4", "Content-Range: bytes 6-9/10", "ETag: \"one\""], b"6789");
    let server = Server::start(vec![cut(ok(b"0123456789"), 4), rest]).await;
    assert_eq!(text(get(&server, &limits(), Some("\"old\"")).await.unwrap()), "0123456789");
    let requests = server.requests();
    assert!(requests[1].contains("range: bytes=6-") && requests[1].contains("if-range: \"one\""), "{}", requests[1]);
    assert!(!requests[1].contains("if-none-match"));
}

#[tokio::test]
async fn a_document_that_changed_in_between_or_a_wrong_range_starts_again() {
    // The server has another document by then.
    let server = Server::start(vec![cut(ok(b"0123456789"), 4), ok(b"abc")]).await;
    assert_eq!(text(get(&server, &limits(), None).await.unwrap()), "abc");
    // The range is not the one asked for.
    let wrong = answer("206 Partial Content", &["Content-Length: 4", "Content-Range: bytes 5-8/10"], b"5678");
    let server = Server::start(vec![cut(ok(b"0123456789"), 4), wrong, ok(b"0123456789")]).await;
    assert_eq!(text(get(&server, &limits(), None).await.unwrap()), "0123456789");
    assert!(!server.requests()[2].contains("range: bytes"));
    // Without a strong ETag nothing is continued.
    let weak = answer("200 OK", &["Content-Length: 10", "ETag: W/\"one\"", "Accept-Ranges: bytes"], b"012345");
    let server = Server::start(vec![weak, ok(b"0123456789")]).await;
    assert_eq!(text(get(&server, &limits(), None).await.unwrap()), "0123456789");
    assert!(!server.requests()[1].contains("range: bytes"));
}

#[tokio::test]
async fn busy_and_failing_servers_are_asked_again() {
    let busy = answer("429 Too Many Requests", &["Retry-After: 0", "Content-Length: 0"], b"");
    let failing = answer("503 Service Unavailable", &["Content-Length: 0"], b"");
    let server = Server::start(vec![busy, failing, ok(b"x")]).await;
    assert_eq!(text(get(&server, &limits(), None).await.unwrap()), "x");

    let server =
        Server::start(vec![answer("429 Too Many Requests", &["Retry-After: 3600", "Content-Length: 0"], b"")]).await;
    let error = get(&server, &limits(), None).await.unwrap_err();
    assert!(error.public().contains("wait 3600 s"), "{error}");
    assert_eq!(server.requests().len(), 1);

    let server = Server::start(vec![answer("500 Internal Server Error", &["Content-Length: 0"], b"")]).await;
    assert_eq!(get(&server, &limits(), None).await.unwrap_err().kind(), FetchErrorKind::Unavailable);
    assert_eq!(server.requests().len(), 4);
}

#[tokio::test]
async fn answers_that_will_not_change_are_not_asked_for_again() {
    for (status, kind) in [
        ("404 Not Found", FetchErrorKind::NotFound),
        ("403 Forbidden", FetchErrorKind::Forbidden),
        ("400 Bad Request", FetchErrorKind::Unavailable),
        ("304 Not Modified", FetchErrorKind::Unavailable),
    ] {
        let server = Server::start(vec![answer(status, &["Content-Length: 0"], b"")]).await;
        assert_eq!(get(&server, &limits(), None).await.unwrap_err().kind(), kind, "{status}");
        assert_eq!(server.requests().len(), 1, "{status}");
    }
}

#[tokio::test]
async fn a_length_that_is_never_reached_is_a_cut_download() {
    let server = Server::start(vec![cut(ok(b"0123456789"), 4), cut(ok(b"0123456789"), 4)]).await;
    let error = get(&server, &limits(), None).await.unwrap_err();
    assert_eq!(error.kind(), FetchErrorKind::Unavailable);
    assert!(error.public().contains("was cut after 6 bytes"), "{error}");
    assert_eq!(server.requests().len(), 4);
    let server = Server::start(vec![answer("200 OK", &["Content-Length: 0"], b"")]).await;
    assert!(get(&server, &limits(), None).await.unwrap_err().public().contains("is empty"));
}

#[tokio::test]
async fn too_large_is_told_by_the_length_or_while_it_comes() {
    let limits = FetchLimits { max_download_bytes: 9, ..limits() };
    let server = Server::start(vec![ok(b"0123456789")]).await;
    assert_eq!(get(&server, &limits, None).await.unwrap_err().kind(), FetchErrorKind::TooLarge);
    let chunked = answer("200 OK", &["Transfer-Encoding: chunked"], b"5\r\n01234\r\n5\r\n56789\r\n0\r\n\r\n");
    let server = Server::start(vec![chunked]).await;
    assert_eq!(get(&server, &limits, None).await.unwrap_err().kind(), FetchErrorKind::TooLarge);
}

#[tokio::test]
async fn redirects_end_and_do_not_lead_to_plain_http() {
    let server = Server::start(vec![answer("302 Found", &["Location: /again", "Content-Length: 0"], b"")]).await;
    let error = get(&server, &limits(), None).await.unwrap_err();
    assert!(error.public().contains("more than 5 redirects"), "{error}");
    assert_eq!(server.requests().len(), 6);
    let server =
        Server::start(vec![answer("302 Found", &["Location: http://example.org/", "Content-Length: 0"], b"")]).await;
    let error = get(&server, &limits(), None).await.unwrap_err();
    assert!(error.public().contains("away from https"), "{error}");
    let moved = answer("302 Found", &["Location: /moved", "Content-Length: 0"], b"");
    let server = Server::start(vec![moved, ok(b"there")]).await;
    assert_eq!(text(get(&server, &limits(), None).await.unwrap()), "there");
}

#[tokio::test]
async fn silence_and_a_closed_port_are_told() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let silent = Location::parse(&format!("http://{}/x", listener.local_addr().unwrap())).unwrap();
    let short = FetchLimits { total_timeout: Duration::from_millis(200), ..limits() };
    let error = fetch(&silent, &short, None, |_, _| {}).await.unwrap_err();
    assert_eq!(error.kind(), FetchErrorKind::TimedOut);
    let idle = FetchLimits { idle_timeout: Duration::from_millis(50), max_attempts: 2, ..limits() };
    let error = fetch(&silent, &idle, None, |_, _| {}).await.unwrap_err();
    assert_eq!(error.kind(), FetchErrorKind::TimedOut);
    drop(listener);
    let error = fetch(&silent, &limits(), None, |_, _| {}).await.unwrap_err();
    assert_eq!(error.kind(), FetchErrorKind::Unavailable);
    assert!(error.public().contains("cannot be reached"), "{error}");
}

#[tokio::test]
async fn a_proxy_is_asked_for_other_hosts_and_not_for_this_one() {
    let proxy = Server::start(vec![ok(b"0123456789")]).await;
    let behind =
        FetchLimits { proxy: Some(format!("http://me:secret@{}", proxy.address).into()), allow_http: true, ..limits() };
    assert!(!format!("{behind:?}").contains("secret"));
    let elsewhere = Location::parse("http://mirror.invalid/attack/x.json").unwrap();
    assert_eq!(text(fetch(&elsewhere, &behind, None, |_, _| {}).await.unwrap()), "0123456789");
    let asked = proxy.requests().remove(0);
    assert!(asked.starts_with("get http://mirror.invalid/attack/x.json "), "{asked}");
    assert!(asked.contains("proxy-authorization: basic "), "{asked}");
    let here = Server::start(vec![ok(b"here")]).await;
    assert_eq!(text(get(&here, &behind, None).await.unwrap()), "here");
    assert_eq!(proxy.requests().len(), 1);
}
