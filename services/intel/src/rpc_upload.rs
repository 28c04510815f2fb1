//! The gRPC side of files that people bring in and take out.

use aegis_auth::OpCtx;
use aegis_error::Failure;
use aegis_proto::intel::v1::{
    ExportTemplatesRequest, ExportTemplatesResponse, ImportFileRequest, ImportFileResponse, ImportProblem,
    import_file_request::Part, upload_service_server::UploadService,
};
use futures::{StreamExt, stream, stream::BoxStream};
use tonic::{Request, Response, Status, Streaming};

use crate::{
    app::{App, ExportedFile, UploadKind, Uploaded},
    error::Error,
};

/// Bytes of one message of an export.
const CHUNK: usize = 1024 * 1024;

/// The server of `UploadService`.
pub(crate) struct UploadRpc {
    app: App,
}

impl UploadRpc {
    pub(crate) fn new(app: App) -> Self {
        UploadRpc { app }
    }

    async fn import(
        &self,
        ctx: &OpCtx,
        kind: UploadKind,
        mut messages: Streaming<ImportFileRequest>,
    ) -> Result<Uploaded, Error> {
        let wrong = || Failure::invalid("file", "must be named by the first message, and its bytes follow");
        let Some(Part::File(file)) = messages.message().await.map_err(Failure::from)?.and_then(|first| first.part)
        else {
            return Err(wrong().into());
        };
        let mut upload = self.app.begin_upload(ctx, kind, &file.name, file.dry_run).await?;
        while let Some(message) = messages.message().await.map_err(Failure::from)? {
            match message.part {
                Some(Part::Chunk(chunk)) => upload = upload.write(chunk).await?,
                Some(Part::File(_)) | None => return Err(wrong().into()),
            }
        }
        self.app.finish_upload(ctx, upload).await
    }

    async fn answer(
        &self,
        method: &str,
        kind: UploadKind,
        request: Request<Streaming<ImportFileRequest>>,
    ) -> Result<Response<ImportFileResponse>, Status> {
        let ctx = OpCtx::of(&request)?;
        let result = self.import(&ctx, kind, request.into_inner()).await.map(response);
        self.app.outbox().audited(self.app.db(), &ctx, method, result).await.map(Response::new)
    }
}

#[tonic::async_trait]
impl UploadService for UploadRpc {
    async fn import_rules(
        &self,
        request: Request<Streaming<ImportFileRequest>>,
    ) -> Result<Response<ImportFileResponse>, Status> {
        self.answer("ImportRules", UploadKind::Rules, request).await
    }

    async fn import_templates(
        &self,
        request: Request<Streaming<ImportFileRequest>>,
    ) -> Result<Response<ImportFileResponse>, Status> {
        self.answer("ImportTemplates", UploadKind::Templates, request).await
    }

    type ExportTemplatesStream = BoxStream<'static, Result<ExportTemplatesResponse, Status>>;

    async fn export_templates(
        &self,
        request: Request<ExportTemplatesRequest>,
    ) -> Result<Response<Self::ExportTemplatesStream>, Status> {
        let ctx = OpCtx::of(&request)?;
        let request = request.into_inner();
        let result = self.app.export_templates(&ctx, &request.mitre_technique_id, &request.source).await;
        let files = self.app.outbox().audited(self.app.db(), &ctx, "ExportTemplates", result).await?;
        Ok(Response::new(stream::iter(files).flat_map(|file| stream::iter(chunks(file)).map(Ok)).boxed()))
    }
}

/// A document in messages, the first of which names it.
fn chunks(file: ExportedFile) -> Vec<ExportTemplatesResponse> {
    let mut chunks: Vec<ExportTemplatesResponse> = file
        .text
        .as_bytes()
        .chunks(CHUNK)
        .map(|chunk| ExportTemplatesResponse { path: String::new(), chunk: chunk.to_vec() })
        .collect();
    if let Some(first) = chunks.first_mut() {
        first.path = file.path;
    }
    chunks
}

fn response(uploaded: Uploaded) -> ImportFileResponse {
    ImportFileResponse {
        created: uploaded.tally.new,
        updated: uploaded.tally.updated,
        unchanged: uploaded.tally.unchanged,
        problems: uploaded
            .problems
            .into_iter()
            .map(|found| ImportProblem {
                path: found.path,
                line: i32::try_from(found.problem.line).unwrap_or(i32::MAX),
                field: found.problem.field,
                problem: found.problem.problem,
            })
            .collect(),
        refused: uploaded.refused,
        keys: uploaded.keys,
    }
}
