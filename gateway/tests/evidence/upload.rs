//! Uploads: what reaches the evidence service of a multipart body, and what is refused on the way.

use axum::body::Body;
use futures::{StreamExt, stream};
use http::StatusCode;
use tower::ServiceExt;

use crate::{MIB, Store, TEST, common::Got};

enum Field<'a> {
    File(&'a [u8]),
    /// The parameters of its Content-Disposition after `name`.
    Named(&'a str),
    Text(&'a str, &'a str),
}

fn multipart(fields: &[Field]) -> Vec<u8> {
    let mut body = Vec::new();
    for field in fields {
        body.extend_from_slice(b"--XX\r\nContent-Disposition: form-data; ");
        match field {
            Field::File(bytes) => {
                body.extend_from_slice("name=\"file\"; filename=\"Übersicht.png\"\r\n\r\n".as_bytes());
                body.extend_from_slice(bytes);
            }
            Field::Named(parameters) => {
                body.extend_from_slice(format!("name=\"file\"; {parameters}\r\n\r\nbytes").as_bytes());
            }
            Field::Text(name, value) => {
                body.extend_from_slice(format!("name=\"{name}\"\r\n\r\n{value}").as_bytes());
            }
        }
        body.extend_from_slice(b"\r\n");
    }
    body.extend_from_slice(b"--XX--\r\n");
    body
}

async fn upload(store: &Store, limit: u64, body: Vec<u8>) -> Got {
    upload_in(store, limit, body, 300 * 1024).await
}

/// In pieces of that many bytes, as from a socket.
async fn upload_in(store: &Store, limit: u64, body: Vec<u8>, piece: usize) -> Got {
    let fixture = store.fixture(limit);
    let request = fixture
        .signed("POST", &format!("/api/v1/tests/{TEST}/evidence"))
        .header("content-type", "multipart/form-data; boundary=XX");
    let chunks: Vec<_> = body.chunks(piece).map(|chunk| Ok::<_, std::io::Error>(chunk.to_vec())).collect();
    let request = request.header("host", "aegis.example.com");
    fixture.send(request.body(Body::from_stream(stream::iter(chunks))).unwrap()).await
}

#[tokio::test]
async fn a_file_arrives_whole_with_what_was_said_of_it() {
    let large: Vec<u8> = (0..3 * MIB).map(|n| (n % 251) as u8).collect();
    for bytes in [&b"small"[..], &b""[..], &large] {
        let store = Store::default();
        let body = multipart(&[Field::Text("team", "red"), Field::Text("notes", "n"), Field::File(bytes)]);
        let got = upload(&store, 10 * MIB as u64, body).await;
        assert_eq!(got.status, StatusCode::CREATED, "{}", String::from_utf8_lossy(&got.body));
        assert!(got.header("location").starts_with("/api/v1/evidence/"));
        assert_eq!(got.json()["download_url"], "http://aegis.example.com/d");
        let seen = store.seen.lock().unwrap().clone();
        let header = seen.header.unwrap();
        assert_eq!(header.file_name, "Übersicht.png");
        assert_eq!((header.team.as_deref(), header.notes.as_deref()), (Some("red"), Some("n")));
        assert!(seen.finished && seen.bytes == bytes);
    }
}

#[tokio::test]
async fn fields_may_follow_a_small_file_but_not_a_large_one() {
    let store = Store::default();
    let body = multipart(&[Field::File(b"small"), Field::Text("team", "blue")]);
    assert_eq!(upload(&store, MIB as u64, body).await.status, StatusCode::CREATED);
    assert_eq!(store.seen.lock().unwrap().header.as_ref().unwrap().team.as_deref(), Some("blue"));

    let store = Store::default();
    let body = multipart(&[Field::File(&vec![0; 2 * MIB]), Field::Text("team", "blue")]);
    assert_eq!(upload(&store, 10 * MIB as u64, body).await.fields(), ["team"]);
    assert!(!store.seen.lock().unwrap().finished);
}

#[tokio::test]
async fn what_is_wrong_with_an_upload_is_told_and_nothing_is_finished() {
    let file = || Field::File(b"bytes");
    let mut cut = multipart(&[file()]);
    cut.truncate(cut.len() - 12);
    let bad = [
        (multipart(&[]), "file"),
        (multipart(&[Field::Text("file", "no name")]), "file"),
        (multipart(&[file(), file()]), "file"),
        (multipart(&[Field::Text("team", "green"), file()]), "team"),
        (multipart(&[Field::Text("colour", "red"), file()]), "colour"),
        (cut, "body"),
    ];
    for (body, field) in bad {
        let store = Store::default();
        let got = upload(&store, MIB as u64, body).await;
        assert_eq!(got.status, StatusCode::BAD_REQUEST);
        assert_eq!(got.fields(), [field]);
        assert!(!store.seen.lock().unwrap().finished);
    }
}

#[tokio::test]
async fn an_upload_past_the_limit_is_413_and_not_finished() {
    let store = Store::default();
    let got = upload(&store, 2 * MIB as u64, multipart(&[Field::File(&vec![0; 3 * MIB])])).await;
    assert_eq!(got.status, StatusCode::PAYLOAD_TOO_LARGE);
    assert_eq!(got.json()["code"], "PAYLOAD_TOO_LARGE");
    assert!(!store.seen.lock().unwrap().finished);
}

#[tokio::test]
async fn a_refusal_of_the_service_is_the_answer() {
    let store = Store { refuses: true, ..Store::default() };
    for size in [5, 3 * MIB] {
        let got = upload(&store, 10 * MIB as u64, multipart(&[Field::File(&vec![0; size])])).await;
        assert_eq!(got.status, StatusCode::FORBIDDEN);
    }
}

#[tokio::test]
async fn pieces_of_any_size_become_chunks_of_a_good_size() {
    let bytes: Vec<u8> = (0..2 * MIB + 12_345).map(|n| (n % 251) as u8).collect();
    for (piece, most) in [(1000, 40), (16 * 1024, 40), (64 * 1024, 40), (100_000, 30), (3 * MIB, 10)] {
        let store = Store::default();
        let got = upload_in(&store, 10 * MIB as u64, multipart(&[Field::File(&bytes)]), piece).await;
        assert_eq!(got.status, StatusCode::CREATED);
        let seen = store.seen();
        assert!(seen.bytes == bytes && seen.finished, "{piece}");
        assert!(seen.chunks <= most, "{} chunks of pieces of {piece}", seen.chunks);
    }
}

#[tokio::test]
async fn names_reach_the_service_which_cleans_them() {
    let long = format!("filename=\"{}\"", "n".repeat(300));
    let longer = format!("filename=\"{}\"", "n".repeat(5000));
    for (parameters, name) in [
        ("filename=\"../../etc/passwd\"", "../../etc/passwd"),
        ("filename*=UTF-8''a%00b%0D%0A.txt", "a\0b\r\n.txt"),
        ("filename=\"x\"; filename*=UTF-8''invoice%E2%80%AEgpj.exe", "invoice\u{202e}gpj.exe"),
        (&long, &"n".repeat(300)),
        (&longer, &"n".repeat(1024)),
    ] {
        let store = Store::default();
        let got = upload(&store, MIB as u64, multipart(&[Field::Named(parameters)])).await;
        assert_eq!(got.status, StatusCode::CREATED, "{parameters}: {}", got.json());
        assert_eq!(store.seen().header.unwrap().file_name, name);
    }
    // A NUL as such cannot stand in a header.
    for parameters in ["filename=\"a\0b\"", "filename=\"\"", "filename=\"   \""] {
        let store = Store::default();
        let got = upload(&store, MIB as u64, multipart(&[Field::Named(parameters)])).await;
        assert_eq!(got.status, StatusCode::BAD_REQUEST, "{parameters:?}");
        assert!(store.seen().header.is_none() && !store.seen().finished);
    }
}

#[tokio::test]
async fn a_client_that_goes_away_leaves_nothing_finished() {
    let whole = multipart(&[Field::File(&vec![7; 3 * MIB])]);
    let half = whole[..2 * MIB].to_vec();
    // Its connection breaks: the body ends with an error.
    let store = Store::default();
    let pieces: Vec<_> = half.chunks(64 * 1024).map(|piece| Ok(piece.to_vec())).collect();
    let broken = stream::iter(pieces).chain(stream::iter([Err(std::io::Error::other("reset"))]));
    let fixture = store.fixture(10 * MIB as u64);
    let request = || {
        let request = fixture.signed("POST", &format!("/api/v1/tests/{TEST}/evidence"));
        request.header("content-type", "multipart/form-data; boundary=XX")
    };
    let got = fixture.send(request().body(Body::from_stream(broken)).unwrap()).await;
    assert_eq!((got.status, got.fields()), (StatusCode::BAD_REQUEST, vec!["body".to_owned()]));
    store.ended.notified().await;
    assert!(store.seen().header.is_some() && !store.seen().finished);

    // The handler itself is dropped in the middle: the service hears of it and comes to its own end.
    *store.seen.lock().unwrap() = crate::Seen::default();
    let waiting = stream::iter([Ok::<_, std::io::Error>(half)]).chain(stream::pending());
    let call = fixture.router.clone().oneshot(request().body(Body::from_stream(waiting)).unwrap());
    let call = tokio::spawn(call);
    while store.seen().bytes.len() < MIB {
        tokio::task::yield_now().await;
    }
    call.abort();
    store.ended.notified().await;
    assert!(store.seen().header.is_some() && !store.seen().finished);
}
