//! Downloads: whole files, parts of them, names, links that give no right to read.

use axum::body::Body;
use http::{Request, StatusCode};
use tower::ServiceExt;

use crate::{MIB, Store, common};
use common::{Fixture, Got, request};

const ETAG: &str = "\"abababababababababababababababababababababababababababababababab\"";
const LINK: &str = "/api/v1/evidence/0190b7a2-6a00-7b1d-8c55-0f3a9d2b7c01/download\
                    ?expires=4000000000&user=0190b7a2-5f00-7c3e-9d2a-3f6d1c0e8a99&signature=c2ln";

fn store(file: &[u8]) -> Store {
    Store { name: "shot.png".into(), file: file.to_vec().into(), ..Store::default() }
}

async fn read(store: &Store, method: &str, headers: &[(&str, &str)]) -> Got {
    let request = headers.iter().fold(request(method, LINK), |request, (name, value)| request.header(*name, *value));
    store.fixture(MIB as u64).send(request.body(Body::empty()).unwrap()).await
}

async fn part(store: &Store, range: &str) -> (u16, String, Vec<u8>) {
    let got = read(store, "GET", &[("range", range)]).await;
    let content_range = got.header("content-range").to_owned();
    if got.status != StatusCode::RANGE_NOT_SATISFIABLE {
        assert_eq!(got.header("content-length"), got.body.len().to_string());
        assert_eq!((got.header("etag"), got.header("accept-ranges")), (ETAG, "bytes"));
    }
    (got.status.as_u16(), content_range, got.body)
}

#[tokio::test]
async fn a_whole_file_is_an_attachment_that_nothing_opens() {
    let bytes: Vec<u8> = (0..3 * MIB).map(|n| (n % 251) as u8).collect();
    for file in [&b""[..], b"x", &bytes] {
        let got = read(&store(file), "GET", &[]).await;
        assert_eq!(got.status, StatusCode::OK);
        assert!(got.body == file);
        assert_eq!(got.header("content-length"), file.len().to_string());
        assert_eq!(got.header("content-type"), "application/octet-stream");
        assert_eq!(got.header("content-disposition"), "attachment; filename=\"shot.png\"; filename*=UTF-8''shot.png");
        assert_eq!(got.header("x-content-type-options"), "nosniff");
        assert_eq!((got.header("etag"), got.header("accept-ranges")), (ETAG, "bytes"));
        assert_eq!(got.header("content-range"), "");
    }
}

#[tokio::test]
async fn parts_are_answered_as_the_rfc_writes_them() {
    let store = store(b"0123456789");
    let answer = |from: usize, to: usize| {
        let bytes = b"0123456789"[from..=to].to_vec();
        (206, format!("bytes {from}-{to}/10"), bytes)
    };
    for (range, from, to) in [
        ("bytes=0-0", 0, 0),
        ("bytes=2-5", 2, 5),
        ("bytes=5-", 5, 9),
        ("bytes=0-", 0, 9),
        ("bytes=-3", 7, 9),
        ("bytes=-99", 0, 9),
        ("bytes=8-99999999999999999999", 8, 9),
    ] {
        assert_eq!(part(&store, range).await, answer(from, to), "{range}");
    }
    // What is no part, or several, is answered with all of it.
    for range in ["bytes=0-1,4-5", "bytes=5-2", "bytes=x-", "lines=1-2", "bytes", "bytes="] {
        let (status, content_range, bytes) = part(&store, range).await;
        assert_eq!((status, content_range.as_str(), bytes.as_slice()), (200, "", &b"0123456789"[..]), "{range}");
    }
    for range in ["bytes=10-", "bytes=10-20", "bytes=-0", "bytes=99999999999999999999-"] {
        let (status, content_range, _) = part(&store, range).await;
        assert_eq!((status, content_range.as_str()), (416, "bytes */10"), "{range}");
    }
    let (status, content_range, _) = part(&self::store(b""), "bytes=0-").await;
    assert_eq!((status, content_range.as_str()), (416, "bytes */0"));
    let refused = read(&store, "GET", &[("range", "bytes=10-")]).await;
    assert_eq!(refused.json()["code"], "RANGE_NOT_SATISFIABLE");
}

#[tokio::test]
async fn a_part_of_another_file_is_the_whole_of_this_one() {
    let other = ETAG.replace("ab", "cd");
    let weak = format!("W/{ETAG}");
    let store = store(b"0123456789");
    let status = async |range: &str, tag: &str| {
        let got = read(&store, "GET", &[("range", range), ("if-range", tag)]).await;
        (got.status.as_u16(), got.body.len())
    };
    assert_eq!(status("bytes=2-5", ETAG).await, (206, 4));
    assert_eq!(status("bytes=10-", ETAG).await.0, 416);
    for tag in [other.as_str(), &weak, "Wed, 21 Oct 2015 07:28:00 GMT"] {
        assert_eq!(status("bytes=2-5", tag).await, (200, 10), "{tag}");
        assert_eq!(status("bytes=10-", tag).await, (200, 10), "{tag}");
    }
    // The part that is wanted is the first thing that is asked for.
    assert!(store.seen().downloads[0].range.is_some());
}

#[tokio::test]
async fn who_has_the_file_gets_it_not_again() {
    let store = store(b"0123456789");
    for headers in [&[("if-none-match", ETAG)][..], &[("if-none-match", ETAG), ("range", "bytes=2-5")]] {
        let got = read(&store, "GET", headers).await;
        assert_eq!((got.status, got.body.len()), (StatusCode::NOT_MODIFIED, 0));
        assert_eq!((got.header("etag"), got.header("content-range")), (ETAG, ""));
    }
}

#[tokio::test]
async fn head_tells_the_size_of_the_whole_file() {
    let store = store(b"0123456789");
    let got = read(&store, "HEAD", &[("range", "bytes=2-5")]).await;
    assert_eq!((got.status, got.body.len()), (StatusCode::OK, 0));
    assert_eq!((got.header("content-length"), got.header("etag")), ("10", ETAG));
    assert_eq!(got.header("accept-ranges"), "bytes");
}

#[tokio::test]
async fn no_name_leaves_its_header() {
    let long = "n".repeat(300);
    for (name, plain) in [
        ("../../etc/passwd", "../../etc/passwd"),
        ("a\"; filename=\"b.html", "a_; filename=_b.html"),
        ("a\0b\r\nSet-Cookie: x=1", "a_b__Set-Cookie: x=1"),
        ("Überwachung – 証拠.png", "_berwachung _ __.png"),
        ("invoice\u{202e}gpj.exe", "invoice_gpj.exe"),
        (&long, &long),
        ("", ""),
    ] {
        let store = Store { name: name.into(), ..store(b"x") };
        let got = read(&store, "GET", &[]).await;
        assert_eq!(got.status, StatusCode::OK, "{name}");
        let disposition = got.header("content-disposition");
        let rest = disposition.strip_prefix(&format!("attachment; filename=\"{plain}\"; filename*=UTF-8''"));
        let full = rest.unwrap_or_else(|| panic!("{name}: {disposition}"));
        assert_eq!(percent_encoding::percent_decode_str(full).decode_utf8().unwrap(), name);
        assert!(!full.contains(['"', ';', '/', ' ', '%']) || full.contains('%'), "{full}");
        assert_eq!(got.header("set-cookie"), "");
    }
}

#[tokio::test]
async fn a_link_that_does_not_hold_reads_nothing() {
    let store = Store { refuses: true, ..store(b"secret") };
    for headers in [&[][..], &[("range", "bytes=0-")], &[("range", "bytes=0-"), ("if-range", ETAG)]] {
        let got = read(&store, "GET", headers).await;
        assert_eq!(got.status, StatusCode::FORBIDDEN);
        assert_eq!(got.json()["code"], "FORBIDDEN");
        assert_eq!((got.header("etag"), got.header("content-disposition")), ("", ""));
    }
    let asked = store.seen().downloads.len();
    for (from, to, field) in [
        ("expires=4000000000", "expires=never", "expires"),
        ("expires=4000000000&", "", "expires"),
        ("user=0190b7a2", "user=nobody", "user"),
        ("&signature=c2ln", "", "signature"),
        ("signature=c2ln", "signature=c2ln&download=1", "download"),
        ("/0190b7a2", "/x", "id"),
    ] {
        let path = LINK.replacen(from, to, 1);
        let got = store.fixture(MIB as u64).send(request("GET", &path).body(Body::empty()).unwrap()).await;
        assert_eq!(got.status, StatusCode::BAD_REQUEST, "{path}");
        assert_eq!(got.fields(), [field], "{path}");
    }
    assert_eq!(store.seen().downloads.len(), asked);
}

#[tokio::test]
async fn a_store_that_goes_away_ends_the_connection_and_not_the_file() {
    let store = Store { breaks_after: Some(128 * 1024), ..store(&vec![7; MIB]) };
    let fixture: Fixture = store.fixture(MIB as u64);
    let request: Request<Body> = request("GET", LINK).body(Body::empty()).unwrap();
    let answer = fixture.router.clone().oneshot(request).await.unwrap();
    assert_eq!(answer.status(), StatusCode::OK);
    // A body that ends with an error is cut off by the server: the client sees fewer bytes than were announced.
    let read = http_body_util::BodyExt::collect(answer.into_body()).await;
    assert!(read.is_err());
}
