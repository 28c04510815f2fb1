//! Writing blobs of any size in bounded memory.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use object_store::path::Path;
use object_store::{
    Attribute, AttributeValue, Attributes, MultipartUpload, ObjectStore, PutMultipartOptions, PutOptions,
    WriteMultipart,
};

use crate::key::content_disposition;
use crate::read::failed;
use crate::{BlobError, Source};

/// S3 takes no smaller part but the last.
const S3_PART: usize = 5 * 1024 * 1024;
const FOLDER_PART: usize = 1024 * 1024;
const MAX_IN_FLIGHT: usize = 2;
const MAX_CONTENT_TYPE: usize = 255;
const UNKNOWN_TYPE: &str = "application/octet-stream";

/// What a reader is told with the bytes, where the store serves them itself.
#[derive(Clone, Debug, Default)]
pub struct BlobMeta {
    /// The name to save it under.
    pub file_name: String,
    /// Its media type.
    pub content_type: String,
}

/// A blob being written. Dropped before [`finish`](Self::finish), it leaves nothing behind.
#[derive(Debug)]
pub struct BlobWriter {
    store: Arc<dyn ObjectStore>,
    path: Path,
    attributes: Attributes,
    folder: bool,
    part: usize,
    buffer: BytesMut,
    upload: Option<WriteMultipart>,
    failed: bool,
}

impl BlobWriter {
    pub(crate) fn new(store: Arc<dyn ObjectStore>, path: Path, meta: &BlobMeta, folder: bool) -> Self {
        Self {
            store,
            path,
            // A folder has no place for them.
            attributes: match folder {
                true => Attributes::new(),
                false => attributes(meta),
            },
            folder,
            part: if folder { FOLDER_PART } else { S3_PART },
            buffer: BytesMut::new(),
            upload: None,
            failed: false,
        }
    }

    /// Adds bytes, waiting where the store is slower than the caller.
    ///
    /// After an error the upload is given up, and every further call fails.
    pub async fn write(&mut self, mut chunk: Bytes) -> Result<(), BlobError> {
        self.check()?;
        loop {
            let room = self.part - self.buffer.len();
            self.buffer.extend_from_slice(&chunk.split_to(room.min(chunk.len())));
            if self.buffer.len() < self.part {
                return Ok(());
            }
            if let Err(e) = self.send_part().await {
                self.failed = true;
                self.discard().await;
                return Err(e);
            }
        }
    }

    /// Makes the blob appear under its key, whole and durable.
    pub async fn finish(mut self) -> Result<(), BlobError> {
        self.check()?;
        let rest = self.buffer.split().freeze();
        let result = match self.upload.take() {
            Some(mut upload) => {
                if !rest.is_empty() {
                    upload.put(rest);
                }
                // Aborts by itself when it fails.
                upload.finish().await
            }
            None => {
                let options = PutOptions { attributes: std::mem::take(&mut self.attributes), ..PutOptions::default() };
                self.store.put_opts(&self.path, rest.into(), options).await
            }
        };
        result.map(drop).map_err(not_written)
    }

    /// Gives the upload up and removes what was sent.
    pub async fn abort(mut self) -> Result<(), BlobError> {
        match self.upload.take() {
            Some(upload) => upload.abort().await.map_err(not_written),
            None => Ok(()),
        }
    }

    fn check(&self) -> Result<(), BlobError> {
        match self.failed {
            true => Err(BlobError::Unavailable(Source::from("the upload has failed before"))),
            false => Ok(()),
        }
    }

    /// Sends the full buffer. Where this is cancelled while waiting, the buffer stays full.
    async fn send_part(&mut self) -> Result<(), BlobError> {
        let upload = match &mut self.upload {
            Some(upload) => upload,
            None => {
                let upload = self.start().await?;
                let upload = WriteMultipart::new_with_chunk_size(upload, self.part);
                self.upload.insert(upload)
            }
        };
        upload.wait_for_capacity(MAX_IN_FLIGHT).await.map_err(not_written)?;
        // Exactly one part, so this starts exactly one request.
        upload.put(self.buffer.split().freeze());
        Ok(())
    }

    async fn start(&mut self) -> Result<Box<dyn MultipartUpload>, BlobError> {
        let options = PutMultipartOptions { attributes: self.attributes.clone(), ..PutMultipartOptions::default() };
        if !self.folder {
            let started = self.store.put_multipart_opts(&self.path, options).await;
            return started.map_err(not_written);
        }
        // In a folder the library makes the staging file, and syncs its folder, where it is called.
        let (store, path) = (Arc::clone(&self.store), self.path.clone());
        let runtime = tokio::runtime::Handle::current();
        tokio::task::spawn_blocking(move || runtime.block_on(store.put_multipart_opts(&path, options)))
            .await
            .map_err(|e| BlobError::Unavailable(Box::new(e)))?
            .map_err(not_written)
    }

    async fn discard(&mut self) {
        self.buffer = BytesMut::new();
        if let Some(upload) = self.upload.take()
            && let Err(e) = upload.abort().await
        {
            tracing::warn!(error = %e, "a failed upload could not be removed");
        }
    }
}

impl Drop for BlobWriter {
    fn drop(&mut self) {
        // A caller that goes away in the middle must not leave parts in the bucket.
        if let Some(upload) = self.upload.take()
            && let Ok(runtime) = tokio::runtime::Handle::try_current()
        {
            runtime.spawn(async move {
                if let Err(e) = upload.abort().await {
                    tracing::warn!(error = %e, "an abandoned upload could not be removed");
                }
            });
        }
    }
}

fn attributes(meta: &BlobMeta) -> Attributes {
    let kind = meta.content_type.as_str();
    let sound = (1..=MAX_CONTENT_TYPE).contains(&kind.len()) && kind.bytes().all(|b| b == b' ' || b.is_ascii_graphic());
    let kind: AttributeValue = match sound {
        true => kind.to_owned().into(),
        false => UNKNOWN_TYPE.into(),
    };
    Attributes::from_iter([
        (Attribute::ContentType, kind),
        (Attribute::ContentDisposition, content_disposition(&meta.file_name).into()),
    ])
}

/// A write that finds nothing has no place to write to.
fn not_written(error: object_store::Error) -> BlobError {
    if matches!(error, object_store::Error::NotFound { .. }) {
        return BlobError::Unavailable(Box::new(error));
    }
    match failed(error) {
        BlobError::NotFound => BlobError::Unavailable(Source::from("the key lies below a blob")),
        other => other,
    }
}
