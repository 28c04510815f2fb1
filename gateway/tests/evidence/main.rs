//! Evidence through the gateway: what reaches the service, what comes back of it, what is refused on the way.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a test fails by panicking, also in its helpers

#[path = "../common/mod.rs"]
mod common;
mod download;
mod records;
mod upload;

use std::sync::{Arc, Mutex};

use aegis_error::{Code, Failure};
use aegis_gateway::Config;
use aegis_proto::{
    evidence::v1::{
        self as pb, DownloadEvidenceRequest, DownloadEvidenceResponse, Evidence, UploadEvidenceRequest,
        UploadEvidenceResponse, UploadHeader, download_evidence_response, evidence_service_server::EvidenceService,
        evidence_service_server::EvidenceServiceServer, upload_evidence_request::Part,
    },
    testing::v1::GetTestResponse,
};
use aegis_rpc::local;
use common::{Fixture, recorder::Recorder};
use futures::{
    StreamExt,
    stream::{self, BoxStream},
};
use tokio::sync::Notify;
use tonic::{Request, Response, Status, Streaming};
use uuid::Uuid;

const MIB: usize = 1024 * 1024;
const TEST: &str = "0190b7a2-6a00-7b1d-8c55-0f3a9d2b7c01";

/// What came: the header, the bytes, whether they were finished.
#[derive(Clone, Debug, Default, PartialEq)]
struct Seen {
    header: Option<UploadHeader>,
    bytes: Vec<u8>,
    chunks: usize,
    finished: bool,
    removed: Vec<(String, String)>,
    downloads: Vec<DownloadEvidenceRequest>,
}

/// A service that holds one file and remembers what it is asked.
#[derive(Clone, Default)]
struct Store {
    seen: Arc<Mutex<Seen>>,
    /// An upload has come to its end, good or not.
    ended: Arc<Notify>,
    refuses: bool,
    name: String,
    file: Arc<Vec<u8>>,
    /// The download breaks off after so many bytes.
    breaks_after: Option<usize>,
}

impl Store {
    fn seen(&self) -> Seen {
        self.seen.lock().unwrap().clone()
    }

    fn fixture(&self, max_upload_bytes: u64) -> Fixture {
        self.beside(max_upload_bytes, &Recorder::default().answers("GetTest", &GetTestResponse::default()))
    }

    /// Beside a service for tests.
    fn beside(&self, max_upload_bytes: u64, tests: &Recorder) -> Fixture {
        let service = local(EvidenceServiceServer::new(self.clone()));
        let config = Config { max_upload_bytes, ..Config::default() };
        Fixture::over(config, Some(service), Some(tests.service()))
    }

    async fn receive(&self, mut parts: Streaming<UploadEvidenceRequest>) -> Result<UploadEvidenceResponse, Status> {
        while let Some(message) = parts.message().await? {
            let mut seen = self.seen.lock().unwrap();
            match message.part.unwrap() {
                Part::Header(header) => seen.header = Some(header),
                Part::Chunk(chunk) => {
                    assert!(!chunk.is_empty() && chunk.len() <= 256 * 1024);
                    seen.chunks += 1;
                    seen.bytes.extend_from_slice(&chunk);
                }
                Part::Finish(finish) => seen.finished = finish,
            }
        }
        match self.seen().finished {
            true => Ok(UploadEvidenceResponse { evidence: Some(row("/d")) }),
            false => Err(Failure::new(Code::Conflict, "the upload was not finished").into()),
        }
    }

    /// As the service does it.
    fn cut(&self, range: pb::ByteRange) -> Result<std::ops::Range<usize>, Failure> {
        let size = self.file.len();
        let none = || Failure::new(Code::RangeNotSatisfiable, "no such part").with("size", size.to_string());
        let index = |n: i64| usize::try_from(n).unwrap();
        match range {
            pb::ByteRange { suffix: Some(suffix), .. } if suffix > 0 && size > 0 => {
                Ok(size.saturating_sub(index(suffix))..size)
            }
            pb::ByteRange { first: Some(first), last, suffix: None } if index(first) < size => {
                Ok(index(first)..last.map_or(size, |last| index(last).saturating_add(1).min(size)))
            }
            _ => Err(none()),
        }
    }
}

fn row(download_url: &str) -> Evidence {
    Evidence { id: Uuid::now_v7().to_string(), download_url: download_url.into(), ..Default::default() }
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
        let answer = self.receive(request.into_inner()).await;
        self.ended.notify_one();
        answer.map(Response::new)
    }

    async fn get_evidence(
        &self,
        _: Request<pb::GetEvidenceRequest>,
    ) -> Result<Response<pb::GetEvidenceResponse>, Status> {
        Ok(Response::new(pb::GetEvidenceResponse { evidence: Some(row("https://store.example.com/x?sig=1")) }))
    }

    async fn list_evidence(
        &self,
        _: Request<pb::ListEvidenceRequest>,
    ) -> Result<Response<pb::ListEvidenceResponse>, Status> {
        let evidence = (0..3).map(|_| row("/d")).collect();
        Ok(Response::new(pb::ListEvidenceResponse { evidence, next_page_token: String::new(), total_size: 3 }))
    }

    async fn download_evidence(
        &self,
        request: Request<DownloadEvidenceRequest>,
    ) -> Result<Response<Self::DownloadEvidenceStream>, Status> {
        let request = request.into_inner();
        self.seen.lock().unwrap().downloads.push(request.clone());
        if self.refuses {
            return Err(Failure::forbidden("the link has expired: ask for a new one").into());
        }
        let whole = 0..self.file.len();
        let part = request.range.map_or(Ok(whole), |range| self.cut(range))?;
        let head = pb::DownloadHead {
            file_name: self.name.clone(),
            size_bytes: self.file.len() as i64,
            sha256_hash: "ab".repeat(32),
            offset: part.start as i64,
            length: part.len() as i64,
        };
        let mut left = self.breaks_after.unwrap_or(usize::MAX);
        let mut parts = vec![Ok(download_evidence_response::Part::Head(head))];
        for chunk in self.file[part].chunks(64 * 1024) {
            if chunk.len() > left {
                parts.push(Err(Status::unavailable("the store is gone")));
                break;
            }
            left -= chunk.len();
            parts.push(Ok(download_evidence_response::Part::Chunk(chunk.to_vec().into())));
        }
        let messages = stream::iter(parts).map(|part| part.map(|part| DownloadEvidenceResponse { part: Some(part) }));
        Ok(Response::new(messages.boxed()))
    }

    async fn remove_evidence(
        &self,
        request: Request<pb::RemoveEvidenceRequest>,
    ) -> Result<Response<pb::RemoveEvidenceResponse>, Status> {
        let pb::RemoveEvidenceRequest { id, reason } = request.into_inner();
        self.seen.lock().unwrap().removed.push((id, reason));
        Ok(Response::new(pb::RemoveEvidenceResponse {}))
    }

    async fn verify_evidence(
        &self,
        request: Request<pb::VerifyEvidenceRequest>,
    ) -> Result<Response<pb::VerifyEvidenceResponse>, Status> {
        Ok(Response::new(pb::VerifyEvidenceResponse {
            id: request.into_inner().id,
            status: "missing".into(),
            expected_sha256: "ab".repeat(32),
            expected_size: 4,
            ..Default::default()
        }))
    }

    async fn get_manifest(
        &self,
        _: Request<pb::GetManifestRequest>,
    ) -> Result<Response<pb::GetManifestResponse>, Status> {
        // Written in a way of its own, and signed as it is.
        Ok(Response::new(pb::GetManifestResponse { manifest_json: "{ \"payload\":\"e30\",\"b\":1, \"a\":2 }".into() }))
    }

    async fn get_store_report(
        &self,
        _: Request<pb::GetStoreReportRequest>,
    ) -> Result<Response<pb::GetStoreReportResponse>, Status> {
        let broken = pb::BrokenEvidence { id: TEST.into(), file_name: "a.txt".into(), ..Default::default() };
        Ok(Response::new(pb::GetStoreReportResponse { broken: vec![broken], broken_total: 1, ..Default::default() }))
    }
}
