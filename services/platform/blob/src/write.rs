//! Writing blobs of any size in bounded memory: what one batch of bytes waits for, the next one is gathered beside.

use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use object_store::path::Path;
use object_store::{
    Attribute, AttributeValue, Attributes, MultipartUpload, ObjectStore, PutMultipartOptions, PutOptions, PutPayload,
};
use tokio::sync::Semaphore;
use tokio::task::{JoinHandle, JoinSet};

use crate::folder::{self, Staged};
use crate::gather::Gather;
use crate::key::content_disposition;
use crate::read::failed;
use crate::{BlobError, Source};

/// S3 takes no smaller part but the last.
const S3_PART: usize = 5 * 1024 * 1024;
/// What goes to a file at once.
const FOLDER_PART: usize = 512 * 1024;
/// Parts that all writers of a store together may have on their way while they gather the next ones. A writer that
/// finds none left waits for its part: many writers at once hold hardly more than one part each.
pub(crate) const PARTS_AHEAD: usize = 2;
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
    sink: Sink,
    gathered: Gather,
    failed: bool,
}

#[derive(Debug)]
enum Sink {
    Folder(FolderSink),
    S3(S3Sink),
}

impl BlobWriter {
    pub(crate) fn folder(root: PathBuf, key: &str) -> Self {
        let sink = FolderSink { root, key: key.to_owned(), staged: None, writing: None };
        Self { sink: Sink::Folder(sink), gathered: Gather::default(), failed: false }
    }

    pub(crate) fn s3(store: Arc<dyn ObjectStore>, path: Path, meta: &BlobMeta, ahead: Arc<Semaphore>) -> Self {
        let sink = S3Sink { store, path, attributes: attributes(meta), upload: None, sending: JoinSet::new(), ahead };
        Self { sink: Sink::S3(sink), gathered: Gather::default(), failed: false }
    }

    /// Adds bytes, waiting where the store is slower than the caller.
    ///
    /// The bytes are kept as they are until they are written, not copied. After an error the upload is given up, and
    /// every further call fails.
    pub async fn write(&mut self, mut chunk: Bytes) -> Result<(), BlobError> {
        self.check()?;
        let part = match self.sink {
            Sink::Folder(_) => FOLDER_PART,
            Sink::S3(_) => S3_PART,
        };
        loop {
            // S3 stores exist that want all parts but the last to be of one size.
            let room = part.saturating_sub(self.gathered.len());
            self.gathered.push(chunk.split_to(room.min(chunk.len())));
            if self.gathered.len() < part {
                return Ok(());
            }
            if let Err(e) = self.send().await {
                self.failed = true;
                self.gathered = Gather::default();
                self.sink.discard().await;
                return Err(e);
            }
        }
    }

    /// Makes the blob appear under its key, whole and durable.
    pub async fn finish(mut self) -> Result<(), BlobError> {
        self.check()?;
        let rest = self.gathered.take();
        let finished = match &mut self.sink {
            Sink::Folder(sink) => sink.finish(rest).await,
            Sink::S3(sink) => sink.finish(rest).await,
        };
        if finished.is_err() {
            self.sink.discard().await;
        }
        finished
    }

    /// Gives the upload up and removes what was sent.
    pub async fn abort(mut self) -> Result<(), BlobError> {
        match &mut self.sink {
            Sink::Folder(sink) => {
                sink.discard().await;
                Ok(())
            }
            Sink::S3(sink) => sink.abort().await.map_err(not_written),
        }
    }

    fn check(&self) -> Result<(), BlobError> {
        match self.failed {
            true => Err(BlobError::Unavailable(Source::from("the upload has failed before"))),
            false => Ok(()),
        }
    }

    /// Sends what was gathered. Where this is cancelled while waiting, nothing is lost and nothing sent twice.
    async fn send(&mut self) -> Result<(), BlobError> {
        match &mut self.sink {
            Sink::Folder(sink) => {
                sink.ready().await?;
                sink.send(self.gathered.take());
                Ok(())
            }
            Sink::S3(sink) => {
                sink.ready().await?;
                match sink.send(self.gathered.take()) {
                    true => Ok(()),
                    false => sink.drain().await,
                }
            }
        }
    }
}

impl Drop for BlobWriter {
    fn drop(&mut self) {
        // A caller that goes away in the middle must leave nothing: neither a file nor parts in the bucket.
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        match &mut self.sink {
            Sink::Folder(sink) => {
                // Where a batch is being written, its thread drops the file.
                if let Some(staged) = sink.staged.take() {
                    drop(runtime.spawn_blocking(move || drop(staged)));
                }
            }
            Sink::S3(sink) => {
                if let Some(mut upload) = sink.upload.take() {
                    let mut sending = std::mem::take(&mut sink.sending);
                    runtime.spawn(async move {
                        sending.shutdown().await;
                        if let Err(e) = upload.abort().await {
                            tracing::warn!(error = %e, "an abandoned upload could not be removed");
                        }
                    });
                }
            }
        }
    }
}

impl Sink {
    async fn discard(&mut self) {
        match self {
            Sink::Folder(sink) => sink.discard().await,
            Sink::S3(sink) => {
                if let Err(e) = sink.abort().await {
                    tracing::warn!(error = %e, "a failed upload could not be removed");
                }
            }
        }
    }
}

/// A file, written to in batches on threads that may wait for the disk: one batch at a time.
#[derive(Debug)]
struct FolderSink {
    root: PathBuf,
    key: String,
    /// Between two batches.
    staged: Option<Staged>,
    /// While a batch is written.
    writing: Option<JoinHandle<std::io::Result<Staged>>>,
}

impl FolderSink {
    /// Waits until the batch before is written.
    async fn ready(&mut self) -> Result<(), BlobError> {
        if let Some(writing) = &mut self.writing {
            let written = writing.await;
            self.writing = None;
            let written = written.map_err(|e| BlobError::Unavailable(Box::new(e)))?;
            self.staged = Some(written.map_err(folder::failed)?);
        }
        Ok(())
    }

    fn send(&mut self, batch: Vec<Bytes>) {
        let staged = self.staged.take();
        let (root, key) = (self.root.clone(), self.key.clone());
        self.writing = Some(tokio::task::spawn_blocking(move || {
            let mut staged = match staged {
                Some(staged) => staged,
                None => Staged::create(&root, &key)?,
            };
            staged.write(&batch)?;
            Ok(staged)
        }));
    }

    async fn finish(&mut self, rest: Vec<Bytes>) -> Result<(), BlobError> {
        self.ready().await?;
        self.send(rest);
        self.ready().await?;
        match self.staged.take() {
            Some(staged) => folder::blocking(move || staged.publish()).await,
            None => Err(BlobError::Unavailable(Source::from("a file was lost before its end"))),
        }
    }

    async fn discard(&mut self) {
        // What went wrong with the batch does not matter any more: its file is gone then.
        let _ = self.ready().await;
        if let Some(staged) = self.staged.take() {
            let _ = tokio::task::spawn_blocking(move || drop(staged)).await;
        }
    }
}

/// An upload in parts, or in one piece where there is no more than one.
#[derive(Debug)]
struct S3Sink {
    store: Arc<dyn ObjectStore>,
    path: Path,
    attributes: Attributes,
    upload: Option<Box<dyn MultipartUpload>>,
    sending: JoinSet<object_store::Result<()>>,
    ahead: Arc<Semaphore>,
}

impl S3Sink {
    /// Begins the upload where it has not begun, and looks at what became of the parts before.
    async fn ready(&mut self) -> Result<(), BlobError> {
        while let Some(sent) = self.sending.try_join_next() {
            sent.map_err(|e| BlobError::Unavailable(Box::new(e)))?.map_err(not_written)?;
        }
        if self.upload.is_none() {
            let options = PutMultipartOptions { attributes: self.attributes.clone(), ..PutMultipartOptions::default() };
            self.upload = Some(self.store.put_multipart_opts(&self.path, options).await.map_err(not_written)?);
        }
        Ok(())
    }

    /// Sends a part; whether the next one may be gathered meanwhile.
    fn send(&mut self, batch: Vec<Bytes>) -> bool {
        let Some(upload) = &mut self.upload else { return false };
        let part = upload.put_part(PutPayload::from_iter(batch));
        let permit = Arc::clone(&self.ahead).try_acquire_owned().ok();
        let may_go_on = permit.is_some();
        self.sending.spawn(async move {
            let sent = part.await;
            drop(permit);
            sent
        });
        may_go_on
    }

    /// Waits for all parts that are on their way.
    async fn drain(&mut self) -> Result<(), BlobError> {
        while let Some(sent) = self.sending.join_next().await {
            sent.map_err(|e| BlobError::Unavailable(Box::new(e)))?.map_err(not_written)?;
        }
        Ok(())
    }

    async fn finish(&mut self, rest: Vec<Bytes>) -> Result<(), BlobError> {
        if self.upload.is_none() {
            let options = PutOptions { attributes: std::mem::take(&mut self.attributes), ..PutOptions::default() };
            let put = self.store.put_opts(&self.path, PutPayload::from_iter(rest), options).await;
            return put.map(drop).map_err(not_written);
        }
        if !rest.is_empty() {
            self.send(rest);
        }
        self.drain().await?;
        match &mut self.upload {
            Some(upload) => upload.complete().await.map_err(not_written)?,
            None => return Ok(()),
        };
        self.upload = None;
        Ok(())
    }

    async fn abort(&mut self) -> object_store::Result<()> {
        self.sending.shutdown().await;
        match self.upload.take() {
            Some(mut upload) => upload.abort().await,
            None => Ok(()),
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
