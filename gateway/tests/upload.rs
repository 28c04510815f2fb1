//! Uploads: what reaches the evidence service of a multipart body, and what is refused on the way.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a test fails by panicking, also in its helpers

mod common;

use std::sync::{Arc, Mutex};

use aegis_error::{Code, Failure};
use aegis_gateway::Config;
use aegis_proto::evidence::v1::{
    DownloadEvidenceRequest, DownloadEvidenceResponse, Evidence, GetEvidenceRequest, GetEvidenceResponse,
    ListEvidenceRequest, ListEvidenceResponse, UploadEvidenceRequest, UploadEvidenceResponse, UploadHeader,
    evidence_service_server::{EvidenceService, EvidenceServiceServer},
    upload_evidence_request::Part,
};
use aegis_rpc::local;
use axum::body::Body;
use common::{Fixture, Got};
use futures::stream::BoxStream;
use http::StatusCode;
use tonic::{Request, Response, Status, Streaming};
use uuid::Uuid;

/// What came: the header, the bytes, whether they were finished.
#[derive(Clone, Debug, Default, PartialEq)]
struct Seen {
    header: Option<UploadHeader>,
    bytes: Vec<u8>,
    finished: bool,
}

#[derive(Clone, Default)]
struct Store {
    seen: Arc<Mutex<Seen>>,
    refuses: bool,
}

#[tonic::async_trait]
impl EvidenceService for Store {
    type DownloadEvidenceStream = BoxStream<'static, Result<DownloadEvidenceResponse, Status>>;

    async fn upload_evidence(
        &self,
        request: Request<Streaming<UploadEvidenceRequest>>,
    ) -> Result<Response<UploadEvidenceResponse>, Status> {
        if self.refuses {
            return Err(Failure::new(Code::Forbidden, "not yours").into());
        }
        let mut parts = request.into_inner();
        while let Some(message) = parts.message().await? {
            let mut seen = self.seen.lock().unwrap();
            match message.part.unwrap() {
                Part::Header(header) => seen.header = Some(header),
                Part::Chunk(chunk) => {
                    assert!(chunk.len() <= 256 * 1024);
                    seen.bytes.extend_from_slice(&chunk);
                }
                Part::Finish(finish) => seen.finished = finish,
            }
        }
        let evidence = Evidence { id: Uuid::now_v7().to_string(), download_url: "/d".into(), ..Default::default() };
        match self.seen.lock().unwrap().finished {
            true => Ok(Response::new(UploadEvidenceResponse { evidence: Some(evidence) })),
            false => Err(Failure::new(Code::Conflict, "the upload was not finished").into()),
        }
    }

    async fn get_evidence(&self, _: Request<GetEvidenceRequest>) -> Result<Response<GetEvidenceResponse>, Status> {
        Err(Status::unimplemented(""))
    }

    async fn list_evidence(&self, _: Request<ListEvidenceRequest>) -> Result<Response<ListEvidenceResponse>, Status> {
        Err(Status::unimplemented(""))
    }

    async fn download_evidence(
        &self,
        _: Request<DownloadEvidenceRequest>,
    ) -> Result<Response<Self::DownloadEvidenceStream>, Status> {
        Err(Status::unimplemented(""))
    }
}

enum Field<'a> {
    File(&'a [u8]),
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
    let service = local(EvidenceServiceServer::new(store.clone()));
    let fixture = Fixture::with(Config { max_upload_bytes: limit, ..Config::default() }, Some(service));
    let path = "/api/v1/tests/0190b7a2-6a00-7b1d-8c55-0f3a9d2b7c01/evidence";
    let request = fixture.signed("POST", path).header("content-type", "multipart/form-data; boundary=XX");
    // In pieces, as from a socket.
    let chunks: Vec<_> = body.chunks(300 * 1024).map(|chunk| Ok::<_, std::io::Error>(chunk.to_vec())).collect();
    let request = request.header("host", "aegis.example.com");
    fixture.send(request.body(Body::from_stream(futures::stream::iter(chunks))).unwrap()).await
}

const MIB: usize = 1024 * 1024;

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
