//! The gRPC side of evidence.

use std::sync::Arc;

use aegis_auth::OpCtx;
use aegis_error::Failure;
use aegis_proto::evidence::v1::{
    self as pb, DownloadEvidenceRequest, DownloadEvidenceResponse, GetEvidenceRequest, GetEvidenceResponse,
    GetManifestRequest, GetManifestResponse, GetStoreReportRequest, GetStoreReportResponse, ListEvidenceRequest,
    ListEvidenceResponse, RemoveEvidenceRequest, RemoveEvidenceResponse, UploadEvidenceRequest, UploadEvidenceResponse,
    VerifyEvidenceRequest, VerifyEvidenceResponse, download_evidence_response,
    evidence_service_server::EvidenceService, upload_evidence_request,
};
use chrono::{DateTime, Utc};
use futures::{
    StreamExt,
    stream::{self, BoxStream},
};
use tonic::{Request, Response, Status, Streaming};

use crate::{
    app::{App, Download, Header, Linked, Page, Part, Shown, Verified},
    domain::range,
    store::look::{Broken, Report},
};

/// The server.
pub(crate) struct Rpc {
    app: Arc<App>,
}

impl Rpc {
    pub(crate) fn new(app: Arc<App>) -> Self {
        Rpc { app }
    }
}

#[tonic::async_trait]
impl EvidenceService for Rpc {
    type DownloadEvidenceStream = BoxStream<'static, Result<DownloadEvidenceResponse, Status>>;

    async fn upload_evidence(
        &self,
        request: Request<Streaming<UploadEvidenceRequest>>,
    ) -> Result<Response<UploadEvidenceResponse>, Status> {
        let ctx = OpCtx::of(&request)?;
        let app = &self.app;
        let parts = request.into_inner().map(|message| part(message?));
        let result = app.upload(&ctx, parts).await;
        let linked = app.outbox.audited(&app.db, &ctx, "UploadEvidence", result).await?;
        Ok(Response::new(UploadEvidenceResponse { evidence: Some(evidence(linked)) }))
    }

    async fn get_evidence(
        &self,
        request: Request<GetEvidenceRequest>,
    ) -> Result<Response<GetEvidenceResponse>, Status> {
        let ctx = OpCtx::of(&request)?;
        let app = &self.app;
        let result = app.get(&ctx, &request.get_ref().id).await;
        let linked = app.outbox.audited(&app.db, &ctx, "GetEvidence", result).await?;
        Ok(Response::new(GetEvidenceResponse { evidence: Some(evidence(linked)) }))
    }

    async fn list_evidence(
        &self,
        request: Request<ListEvidenceRequest>,
    ) -> Result<Response<ListEvidenceResponse>, Status> {
        let ctx = OpCtx::of(&request)?;
        let app = &self.app;
        let ListEvidenceRequest { test_id, page_size, page_token } = request.into_inner();
        let result = app.list(&ctx, &test_id, page_size, &page_token).await;
        let Page { rows, next_page_token, total_size } =
            app.outbox.audited(&app.db, &ctx, "ListEvidence", result).await?;
        let evidence = rows.into_iter().map(evidence).collect();
        Ok(Response::new(ListEvidenceResponse { evidence, next_page_token, total_size }))
    }

    async fn download_evidence(
        &self,
        request: Request<DownloadEvidenceRequest>,
    ) -> Result<Response<Self::DownloadEvidenceStream>, Status> {
        let ctx = OpCtx::of(&request)?;
        let app = &self.app;
        let DownloadEvidenceRequest { id, expires, user_id, signature, range } = request.into_inner();
        let link = Shown { id, user: user_id, expires, signature };
        let part = range.map(part_of_file).transpose()?;
        let result = app.download(&ctx, &link, part).await;
        let Download { evidence, offset, length, bytes } =
            app.outbox.audited(&app.db, &ctx, "DownloadEvidence", result).await?;
        let head = download_evidence_response::Part::Head(pb::DownloadHead {
            file_name: evidence.file_name,
            size_bytes: evidence.size_bytes,
            sha256_hash: evidence.sha256,
            offset: i64::try_from(offset).unwrap_or(i64::MAX),
            length: i64::try_from(length).unwrap_or(i64::MAX),
        });
        let bytes = bytes.map(|chunk| match chunk {
            Ok(chunk) => Ok(download_evidence_response::Part::Chunk(chunk)),
            Err(error) => Err(Status::from(Failure::from(error))),
        });
        let messages = stream::once(async { Ok(head) })
            .chain(bytes)
            .map(|part| part.map(|part| DownloadEvidenceResponse { part: Some(part) }));
        Ok(Response::new(messages.boxed()))
    }

    async fn remove_evidence(
        &self,
        request: Request<RemoveEvidenceRequest>,
    ) -> Result<Response<RemoveEvidenceResponse>, Status> {
        let ctx = OpCtx::of(&request)?;
        let app = &self.app;
        let RemoveEvidenceRequest { id, reason } = request.into_inner();
        let result = app.remove(&ctx, &id, &reason).await;
        app.outbox.audited(&app.db, &ctx, "RemoveEvidence", result).await?;
        Ok(Response::new(RemoveEvidenceResponse {}))
    }

    async fn verify_evidence(
        &self,
        request: Request<VerifyEvidenceRequest>,
    ) -> Result<Response<VerifyEvidenceResponse>, Status> {
        let ctx = OpCtx::of(&request)?;
        let app = &self.app;
        let result = app.verify(&ctx, &request.get_ref().id).await;
        let verified = app.outbox.audited(&app.db, &ctx, "VerifyEvidence", result).await?;
        let status = verified.status().to_owned();
        let Verified { evidence, actual, checked_at } = verified;
        let (actual_sha256, actual_size) = actual.unzip();
        Ok(Response::new(VerifyEvidenceResponse {
            id: evidence.id.to_string(),
            status,
            expected_sha256: evidence.sha256,
            expected_size: evidence.size_bytes,
            actual_sha256,
            actual_size,
            checked_at: Some(timestamp(checked_at)),
        }))
    }

    async fn get_manifest(
        &self,
        request: Request<GetManifestRequest>,
    ) -> Result<Response<GetManifestResponse>, Status> {
        let ctx = OpCtx::of(&request)?;
        let app = &self.app;
        let result = app.manifest(&ctx, &request.get_ref().test_id).await;
        let manifest_json = app.outbox.audited(&app.db, &ctx, "GetManifest", result).await?;
        Ok(Response::new(GetManifestResponse { manifest_json }))
    }

    async fn get_store_report(
        &self,
        request: Request<GetStoreReportRequest>,
    ) -> Result<Response<GetStoreReportResponse>, Status> {
        let ctx = OpCtx::of(&request)?;
        let app = &self.app;
        let result = app.store_report(&ctx).await;
        let report = app.outbox.audited(&app.db, &ctx, "GetStoreReport", result).await?;
        let Report { checked_at, files, bytes, collected, collected_bytes, broken, broken_total } = report;
        Ok(Response::new(GetStoreReportResponse {
            checked_at: checked_at.map(timestamp),
            files,
            bytes,
            collected,
            collected_bytes,
            broken: broken.0.into_iter().map(broken_evidence).collect(),
            broken_total,
        }))
    }
}

fn part_of_file(asked: pb::ByteRange) -> Result<range::Part, Failure> {
    let whole = |field: &str, value: i64| {
        u64::try_from(value).map_err(|_| Failure::invalid(format!("range.{field}"), "must be 0 or more"))
    };
    match asked {
        pb::ByteRange { first: Some(first), last, suffix: None } => {
            let first = whole("first", first)?;
            let last = last.map(|last| whole("last", last)).transpose()?;
            match last {
                Some(last) if last < first => Err(Failure::invalid("range.last", "must not be before range.first")),
                last => Ok(range::Part::From { first, last }),
            }
        }
        pb::ByteRange { first: None, last: None, suffix: Some(suffix) } => {
            Ok(range::Part::Last(whole("suffix", suffix)?))
        }
        _ => Err(Failure::invalid("range", "must have first, first and last, or suffix")),
    }
}

fn broken_evidence(broken: Broken) -> pb::BrokenEvidence {
    pb::BrokenEvidence {
        id: broken.id.to_string(),
        test_id: broken.test_id.to_string(),
        file_name: broken.file_name,
        expected_size: broken.expected_size,
        actual_size: broken.actual_size,
    }
}

fn part(message: UploadEvidenceRequest) -> Result<Part, Failure> {
    match message.part {
        Some(upload_evidence_request::Part::Header(pb::UploadHeader { test_id, file_name, team, notes })) => {
            Ok(Part::Header(Header { test_id, file_name, team, notes }))
        }
        Some(upload_evidence_request::Part::Chunk(chunk)) => Ok(Part::Chunk(chunk)),
        Some(upload_evidence_request::Part::Finish(true)) => Ok(Part::Finish),
        Some(upload_evidence_request::Part::Finish(false)) => Err(Failure::invalid("finish", "must be true")),
        None => Err(Failure::invalid("part", "must be a header, a chunk or the finish")),
    }
}

fn evidence(Linked { evidence, link }: Linked) -> pb::Evidence {
    pb::Evidence {
        id: evidence.id.to_string(),
        test_id: evidence.test_id.to_string(),
        file_name: evidence.file_name,
        sha256_hash: evidence.sha256,
        size_bytes: evidence.size_bytes,
        team: evidence.team,
        notes: evidence.notes,
        uploaded_by: evidence.uploaded_by.to_string(),
        uploaded_by_username: evidence.uploaded_by_username,
        uploaded_at: Some(timestamp(evidence.uploaded_at)),
        download_url: link.url,
        download_url_expires_at: Some(timestamp(link.expires_at)),
    }
}

fn timestamp(at: DateTime<Utc>) -> prost_types::Timestamp {
    prost_types::Timestamp { seconds: at.timestamp(), nanos: i32::try_from(at.timestamp_subsec_nanos()).unwrap_or(0) }
}
